/* The pages say what the programs do: options, counters, tests, files. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

static struct e2e_output out;

/* ---- the manual pages ---- */

/* Each page, its program, and how many options there are at least. */
static const struct {
    const char *page, *program;
    int options;
} manuals[] = {
    {"docs/man/mqredis-manager.8", "mqredis-manager", 40},
    {"docs/man/mqredis-gateway.1", "mqredis-gateway", 15},
    {"docs/man/mqredis-worker.1", "mqredis-worker", 8},
    {"docs/man/mqredis-server.1", "mqredis-server", 10},
    {"docs/man/mqstat.1", "mqstat", 12},
};

#define MANUALS ((int)(sizeof(manuals) / sizeof(manuals[0])))

/* The long options of --help, that begin their lines, and those of the page's
 * items, `.It Fl c , -channel` or `.It Fl -channel`, are the same. */
START_TEST(test_manual_has_every_option)
{
    static const char script[] =
        "page=$1 least=$3;"
        " help=$(\"${MQREDIS_BUILD:-build}/$2\" --help |"
        " grep -E '^ +-' | sed -E 's/^( +(-[A-Za-z], )?--[a-z-]+(, --[a-z-]+)?)"
        ".*/\\1/' | grep -oE -- '--[a-z][a-z-]+' | sort -u);"
        " manual=$(grep -E '^\\.It Fl ' \"$page\" |"
        " grep -oE '(Fl|[, ]) -[a-z][a-z-]+' |"
        " sed -E 's/.* -/--/' | sort -u);"
        " for name in $help; do echo \"$manual\" | grep -qxe \"$name\" ||"
        " echo \"$page has no $name\"; done;"
        " for name in $manual; do echo \"$help\" | grep -qxe \"$name\" ||"
        " echo \"$page: no such option: $name\"; done;"
        " [ $(echo \"$help\" | wc -l) -ge $least ] ||"
        " echo \"only these options: $help\"";
    char least[16];
    snprintf(least, sizeof(least), "%d", manuals[_i].options);
    const char *const argv[] = {
        "sh",  "-c", script, "sh", manuals[_i].page, manuals[_i].program,
        least, NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}
END_TEST

START_TEST(test_manual_is_clean)
{
    const char *const argv[] = {"mandoc", "-Tlint", "-Wwarning",
                                manuals[_i].page, NULL};
    e2e_run(&out, argv);
    if (out.status == 127)
        support_skip("test_manual_is_clean", "mandoc is not installed");
    else
        ck_assert_msg(out.status == 0, "%s", out.text);
}
END_TEST

/* ---- the other pages ---- */

static const char *const counter_pages[] = {"docs/operations.md",
                                            "docs/mqstat.md"};

START_TEST(test_pages_have_every_counter)
{
    static char page[65536];
    FILE *f = fopen(counter_pages[_i], "re");
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
            ck_assert_msg(strstr(page, wanted) != NULL, "%s has no %s",
                          counter_pages[_i], wanted);
        }
    }
}
END_TEST

/* Runs a script that prints nothing where all is well. */
static void assert_silent(const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}

/* The failure table names tests; they are to be found. */
START_TEST(test_failure_table_names_tests_that_exist)
{
    static const char script[] =
        "sed -n '/^## When something dies/,/^## Where/p' docs/ARCHITECTURE.md |"
        " grep -oE '`[a-z0-9]+_[a-z0-9_]+`' | tr -d '`' | {"
        " count=0; while read -r name; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/*.c || echo \"no $name\";"
        " done; [ $count -gt 30 ] || echo \"only $count names\"; }";
    assert_silent(script);
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
    assert_silent(script);
}
END_TEST

/* In the tables of cases: a suite, then tests of it in code, e2e_lies `a`, `b`.
 */
START_TEST(test_cluster_cases_name_tests_that_exist)
{
    static const char script[] =
        "grep '^|' docs/cluster-cases.md | sed 's/.* | \\([^|]*\\) |$/\\1/' |"
        " grep -oE '[a-z][a-z0-9_]+ `[a-z0-9_]+`(, `[a-z0-9_]+`)*' |"
        " tr -d '`,' | { count=0; while read -r suite names; do"
        " [ -e tests/check_$suite.c ] || continue;"
        " for name in $names; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/check_$suite.c ||"
        " echo \"no $name in check_$suite\"; done; done;"
        " [ $count -gt 50 ] || echo \"only $count names\"; }";
    assert_silent(script);
}
END_TEST

/* The tour has every module of these folders, in code. */
START_TEST(test_architecture_names_every_module)
{
    static const char script[] =
        "names=$(grep -oE '`[a-z_]+\\*?`' docs/ARCHITECTURE.md | tr -d '`');"
        " count=0; for file in ipc/*.[ch] manager/*.[ch]; do"
        " module=${file##*/} found=; module=${module%.?};"
        " count=$((count + 1)); for name in $names; do"
        " case $module in $name) found=1; break ;; esac; done;"
        " [ -n \"$found\" ] || echo \"no $file\"; done;"
        " [ $count -gt 100 ] || echo \"only $count files\"";
    assert_silent(script);
}
END_TEST

/* What looks like a file of the tree, in a page or a comment, is one. */
START_TEST(test_files_that_are_named_exist)
{
    static const char script[] =
        "{ grep -ohE '\\b(ipc|manager|workers|server|tools)/[a-z_/]+\\.[ch]\\b'"
        " README.md docs/*.md -r ipc manager workers server tools tests"
        " --include='*.[ch]' --include='*.md';"
        " grep -ohE '`(docs|tests|tools)/[A-Za-z_/-]+\\.[a-z]+`' README.md"
        " docs/*.md | grep -v NAME | grep -v SUITE | grep -v test_ | tr -d '`';"
        " } | sort -u | { count=0; while read -r file; do"
        " count=$((count + 1)); [ -e \"$file\" ] || echo \"no $file\"; done;"
        " [ $count -gt 100 ] || echo \"only $count names\"; }";
    assert_silent(script);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("manual");
    TCase *t = support_case(s, "operations", 60);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    tcase_add_loop_test(t, test_manual_has_every_option, 0, MANUALS);
    tcase_add_loop_test(t, test_manual_is_clean, 0, MANUALS);
    tcase_add_loop_test(t, test_pages_have_every_counter, 0, 2);
    tcase_add_test(t, test_cluster_cases_name_tests_that_exist);
    tcase_add_test(t, test_architecture_names_every_module);
    tcase_add_test(t, test_files_that_are_named_exist);
    tcase_add_test(t, test_failure_table_names_tests_that_exist);
    tcase_add_test(t, test_security_page_names_tests_that_exist);
    return s;
}

int main(void)
{
    return support_run(suite());
}
