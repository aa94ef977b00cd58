/* Running a suite. */
#include "tests/support_run.h"

#include <stdbool.h>

static int run(Suite *suite, bool forks)
{
    SRunner *runner = srunner_create(suite);
    if (!forks)
        srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

int support_run(Suite *suite)
{
    return run(suite, true);
}

int support_run_unforked(Suite *suite)
{
    return run(suite, false);
}
