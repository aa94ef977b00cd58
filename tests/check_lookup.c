/*
 * A Redis that is given by name, and a resolver that takes its time: nobody but
 * the connection waits for it, and whoever looks up holds nothing of the
 * manager's. The resolver is a preloaded library (slow_lookup.c).
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000
/* Nobody who waited for the resolver would be. */
#define IN_TIME_NS ((int64_t)TIMEOUT_MS / 4 * 3 * (int64_t)NS_PER_MS)

static char hold[256], counted[256];

static void setup(void)
{
    support_scratch_setup();
    snprintf(hold, sizeof(hold), "%s", support_path("hold"));
    snprintf(counted, sizeof(counted), "%s", support_path("counted"));
    setenv("LOOKUP_HOLD", hold, 1);
    setenv("LOOKUP_COUNT", counted, 1);
}

/* ---- the resolver ---- */

static void hold_answers(void)
{
    support_write_file(AT_FDCWD, hold, "");
}

static void let_answers_go(void)
{
    unlink(hold);
}

static long asked(void)
{
    struct stat st;
    return stat(counted, &st) == 0 ? (long)st.st_size : 0;
}

/* ---- a manager with a name ---- */

/* A Redis, and a manager that is to find it by this name. */
static void launch(int kind, const char *name, const char *options)
{
    char uri[128], more[256], all[512];
    unlink(counted);
    let_answers_go();
    ck_assert(large_tcp(&redis, kind, false, uri, more));
    const char *port = strrchr(uri, ':');
    char named[160];
    snprintf(named, sizeof(named), "redis://%s%s", name, port);
    /* One connection: each looks up for itself. */
    snprintf(all, sizeof(all),
             "--capacity 4 --reconnect-max 50 --bulk-connections 0 %s",
             options);
    setenv("LD_PRELOAD", support_preload("slow_lookup.so"), 1);
    if (strcmp(name, "held.test") == 0)
        hold_answers();
    e2e_manager_launch(&manager, NULL, named, all);
    unsetenv("LD_PRELOAD");
}

/* How many children look up for it now; the guardian is the oldest one. */
static int lookers(pid_t *newest)
{
    char path[64];
    long pid;
    int n = 0;
    snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children",
             (long)manager.pid, (long)manager.pid);
    FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    for (; fscanf(f, "%ld", &pid) == 1; n++)
        if (n == 0)
            manager.guardian = (pid_t)pid;
        else
            *newest = (pid_t)pid;
    fclose(f);
    return n - 1;
}

static pid_t who_looks_up(void)
{
    pid_t pid = 0;
    ck_assert_int_eq(lookers(&pid), 1);
    return pid;
}

static bool has_ended(pid_t pid)
{
    char state = support_proc_state(pid);
    return state == 0 || state == 'Z';
}

static void join_channel(void)
{
    ck_assert(UNTIL(e2e_client_open(&client, manager.channel) == ERR_OK));
}

/* ---- the tests ---- */

START_TEST(test_the_manager_goes_on)
{
    launch(_i, "held.test", "--when-down fail --connect-timeout 60000");
    ck_assert(UNTIL(asked() == 1));
    join_channel();
    /* Commands, orders and signals are taken meanwhile. */
    uint64_t begin = clock_ns();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"),
                     E2E_UNAVAILABLE);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "reloaded")));
    ck_assert_int_lt((int64_t)(clock_ns() - begin), IN_TIME_NS);
    ck_assert_int_eq(asked(), 1);
    let_answers_go();
    e2e_manager_ready(&manager);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    scene_end();
}
END_TEST

START_TEST(test_told_to_end)
{
    launch(_i, "held.test", "--connect-timeout 60000");
    ck_assert(UNTIL(asked() == 1));
    pid_t child = who_looks_up();
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    ck_assert(UNTIL(has_ended(child)));
}
END_TEST

START_TEST(test_time_is_kept)
{
    launch(_i, "held.test", "--connect-timeout 200");
    ck_assert(
        UNTIL(e2e_logged(&manager, "no address of the host within 200 ms")));
    /* Whoever was given up ends by itself: they do not become more. */
    pid_t newest;
    ck_assert(UNTIL(asked() >= 8));
    ck_assert(UNTIL(lookers(&newest) <= 2));
    let_answers_go();
    e2e_manager_ready(&manager);
    join_channel();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    ck_assert(UNTIL(lookers(&newest) == 0));
    scene_end();
}
END_TEST

/* A blocking command needs a connection of its own, and that an address. */
START_TEST(test_others_are_served_meanwhile)
{
    static struct e2e_call blocks;
    char payload[64];
    uint32_t n;
    launch(_i, "fast.test", "--connect-timeout 60000");
    e2e_manager_ready(&manager);
    join_channel();
    long before = asked();
    hold_answers();
    size_t len = e2e_commands(payload, sizeof(payload), &n, "BLPOP list 10");
    ck_assert_int_eq(e2e_begin(&client, &blocks, n, payload, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &blocks), ERR_OK);
    ck_assert(UNTIL(asked() > before));
    uint64_t begin = clock_ns();
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "ECHO x"), E2E_OK);
    ck_assert_int_lt((int64_t)(clock_ns() - begin), IN_TIME_NS);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "RPUSH list a"),
                     E2E_OK);
    let_answers_go();
    ck_assert_int_eq(e2e_finish(&client, &blocks), E2E_OK);
    ck_assert(e2e_is(&blocks, "*2\r\n$4\r\nlist\r\n$1\r\na\r\n"));
    scene_end();
}
END_TEST

/* What means that a manager lives is not held by who looks up for it. */
START_TEST(test_manager_killed_meanwhile)
{
    launch(_i, "held.test", "--connect-timeout 60000");
    ck_assert(UNTIL(asked() == 1));
    join_channel();
    ck_assert_int_eq(
        e2e_begin(&client, &call, 1, "*1\r\n$4\r\nPING\r\n", 14, TIMEOUT_MS),
        ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &call), ERR_OK);
    pid_t child = who_looks_up();
    support_stop(child); /* so that it cannot let anything go any more */
    uint64_t begin = clock_ns();
    e2e_manager_kill(&manager);
    ck_assert_int_eq(e2e_finish(&client, &call), E2E_UNAVAILABLE);
    ck_assert_int_lt((int64_t)(clock_ns() - begin), IN_TIME_NS);
    ck_assert(e2e_guardian_gone(&manager));
    e2e_client_close(&client);
    e2e_manager_start(&manager, manager.channel, e2e_uri(&redis),
                      "--capacity 4");
    join_channel();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    /* Nor does it outlive the manager once it can end. */
    kill(child, SIGCONT);
    ck_assert(UNTIL(has_ended(child)));
    scene_end();
}
END_TEST

START_TEST(test_names_without_an_answer)
{
    launch(_i, "dead.test", "");
    ck_assert(
        UNTIL(e2e_logged(&manager, "the look-up of the host was cut off")));
    ck_assert(UNTIL(asked() >= 3));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    launch(_i, "nobody.invalid", "");
    ck_assert(UNTIL(e2e_logged(&manager, "cannot find the host: ")));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_addresses_need_no_look_up)
{
    launch(_i, "127.0.0.1", "");
    e2e_manager_ready(&manager);
    ck_assert_int_eq(asked(), 0);
    join_channel();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    scene_end();
}
END_TEST

START_TEST(test_check_config_waits_for_it)
{
    char uri[160];
    struct e2e_output out;
    launch(_i, "fast.test", "");
    e2e_manager_ready(&manager);
    const char *port = strstr(e2e_log(&manager), "fast.test:");
    ck_assert_ptr_nonnull(port);
    snprintf(uri, sizeof(uri), "redis://%.*s", (int)strcspn(port, ", \n"),
             port);
    setenv("LD_PRELOAD", support_preload("slow_lookup.so"), 1);
    const char *const argv[] = {"mqredis-manager",
                                "--check-config",
                                "--msgsize",
                                "1024",
                                "--redis",
                                uri,
                                NULL};
    e2e_run(&out, argv);
    unsetenv("LD_PRELOAD");
    ck_assert_msg(out.status == 0, "%s", out.text);
    ck_assert_ptr_nonnull(strstr(out.text, "logged in"));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lookup");
    TCase *t = tcase_create("lookup");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, setup, support_scratch_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_set_timeout(t, 60);
    e2e_add(t, test_the_manager_goes_on);
    e2e_add(t, test_told_to_end);
    e2e_add(t, test_time_is_kept);
    e2e_add(t, test_others_are_served_meanwhile);
    e2e_add(t, test_manager_killed_meanwhile);
    e2e_add(t, test_names_without_an_answer);
    e2e_add(t, test_addresses_need_no_look_up);
    e2e_add(t, test_check_config_waits_for_it);
    return s;
}

int main(void)
{
    large_prepare();
    return support_run(suite());
}
