/*
 * A short run of the fault harness: tests/chaos of the same build, for
 * $CHAOS_SECONDS (15 by default) with $CHAOS_SEED (1 by default; it is
 * printed). Not $SECONDS: that is a shell's own clock.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static const char *setting(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

START_TEST(test_nothing_is_violated_under_faults)
{
    char command[1024];
    snprintf(command, sizeof(command), "exec '%s/tests/chaos' '%s' '%s'",
             setting("MQREDIS_BUILD", "build"), setting("CHAOS_SECONDS", "15"),
             setting("CHAOS_SEED", "1"));
    int status = system(command);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "%s: ended with %#x", command, (unsigned)status);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chaos");
    TCase *run = tcase_create("run");
    const char *seconds = setting("CHAOS_SECONDS", "15");
    tcase_set_timeout(run, strtod(seconds, NULL) * 2 + 120);
    tcase_add_test(run, test_nothing_is_violated_under_faults);
    suite_add_tcase(s, run);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
