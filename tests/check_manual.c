/* The pages say what the programs do: options, counters, tests. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"

static struct e2e_output out;

/* ---- the manual page ---- */

#define PAGE "docs/man/mqredis-manager.8"

/* Whether the page has an item for that option, not only for a longer one. */
static bool documents(const char *page, const char *option, int len)
{
    char wanted[80];
    int n = snprintf(wanted, sizeof(wanted), "\n.It Fl -%.*s", len, option);
    for (const char *at = page; (at = strstr(at, wanted)) != NULL; at += n)
        if (at[n] == ' ' || at[n] == '\n')
            return true;
    return false;
}

START_TEST(test_manual_has_every_option)
{
    static char page[65536];
    int fd = open(PAGE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, page, sizeof(page) - 1);
    ck_assert_msg(n > 0 && n < (ssize_t)sizeof(page) - 1, "%s: %s", PAGE,
                  strerror(errno));
    close(fd);
    const char *const argv[] = {"mqredis-manager", "--help", NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 0);
    int options = 0;
    char wanted[80];
    for (const char *at = out.text; (at = strstr(at, "\n  --")) != NULL;
         options++) {
        at += 5;
        int len = (int)strcspn(at, " \n");
        ck_assert_msg(documents(page, at, len), PAGE " has no --%.*s", len, at);
    }
    ck_assert_int_gt(options, 30);
    /* Nor does it promise any other. */
    for (const char *at = page; (at = strstr(at, "\n.It Fl -")) != NULL;
         options--) {
        at += 9;
        snprintf(wanted, sizeof(wanted), "\n  --%.*s ", (int)strcspn(at, " \n"),
                 at);
        ck_assert_msg(strstr(out.text, wanted) != NULL,
                      PAGE ": no such option: %s", wanted);
    }
    ck_assert_int_eq(options, 0);
}
END_TEST

START_TEST(test_manual_is_clean)
{
    const char *const argv[] = {"mandoc", "-Tlint", "-Wwarning", PAGE, NULL};
    e2e_run(&out, argv);
    if (out.status == 127)
        support_skip("test_manual_is_clean", "mandoc is not installed");
    else
        ck_assert_msg(out.status == 0, "%s", out.text);
}
END_TEST

/* ---- the other pages ---- */

START_TEST(test_operations_page_has_every_counter)
{
    static char page[65536];
    FILE *f = fopen("docs/operations.md", "re");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(page, 1, sizeof(page) - 1, f);
    fclose(f);
    page[n] = '\0';
    const struct {
        const struct status_name *names;
        size_t count;
    } kinds[] = {{status_counters, COUNTER_COUNT},
                 {status_gauges, GAUGE_COUNT},
                 {status_times, TIME_COUNT}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (size_t i = 0; i < kinds[k].count; i++) {
            char wanted[64];
            snprintf(wanted, sizeof(wanted), "`%s`", kinds[k].names[i].name);
            ck_assert_msg(strstr(page, wanted) != NULL,
                          "docs/operations.md has no %s", wanted);
        }
    }
}
END_TEST

/* The failure table names tests; they are to be found. */
START_TEST(test_failure_table_names_tests_that_exist)
{
    static const char script[] =
        "sed -n '/^## When something dies/,/^## Where/p' docs/ARCHITECTURE.md |"
        " grep -oE '`[a-z0-9]+_[a-z0-9_]+`' | tr -d '`' | {"
        " count=0; while read -r name; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/*.c || echo \"no $name\";"
        " done; [ $count -gt 30 ] || echo \"only $count names\"; }";
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}
END_TEST

/* The page on security names one for each thing it claims, and its suite. */
START_TEST(test_security_page_names_tests_that_exist)
{
    static const char script[] =
        "tr '\\n' ' ' <docs/security.md | grep -oE '\\[check_[^]]*\\]' |"
        " tr -d '[],' | { count=0; while read -r suite names; do"
        " for name in $names; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/${suite%:}.c ||"
        " echo \"no $name in $suite\"; done; done;"
        " [ $count -gt 50 ] || echo \"only $count names\"; }";
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("manual");
    TCase *t = tcase_create("operations");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_manual_has_every_option);
    tcase_add_test(t, test_manual_is_clean);
    tcase_add_test(t, test_operations_page_has_every_counter);
    tcase_add_test(t, test_failure_table_names_tests_that_exist);
    tcase_add_test(t, test_security_page_names_tests_that_exist);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
