/* The programs as people and scripts meet them: exit codes, one line for each
 * thing that is wrong, and values that pass through unharmed. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define RUN(out, ...) e2e_run(out, (const char *const[]){__VA_ARGS__, NULL})

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct e2e_output out;

/* A clear line, and only one. */
static void assert_line(const char *what, int status, const char *mentions)
{
    ck_assert_msg(out.status == status, "%s: ended with %d, not %d: %s", what,
                  out.status, status, out.text);
    ck_assert_msg(e2e_lines(out.text) == 1 && out.len > 20 &&
                      out.text[out.len - 1] == '\n',
                  "%s: not one line: '%s'", what, out.text);
    ck_assert_msg(strstr(out.text, mentions) != NULL,
                  "%s: nothing about '%s' in: %s", what, mentions, out.text);
}

/* ---- without a manager ---- */

START_TEST(test_worker_before_any_manager)
{
    const char *name = support_name();
    RUN(&out, "mqredis-worker", "--channel", name, "PING");
    assert_line("no manager", E2E_UNAVAILABLE, name);
    ck_assert_ptr_nonnull(strstr(out.text, "mqredis-manager"));
    e2e_figure(E2E_MQREDIS, "told that there is no manager after %.1f ms",
               out.ms);
    ck_assert(out.ms < 9000);

    RUN(&out, "mqredis-worker", "--channel", name, "--wait", "300", "PING");
    assert_line("no manager, --wait", E2E_UNAVAILABLE, name);
    ck_assert_msg(out.ms >= 295 && out.ms < 9000, "after %.1f ms", out.ms);
}
END_TEST

START_TEST(test_worker_waits_for_a_manager)
{
    e2e_redis_start(&redis, _i);
    char name[48], path[256];
    snprintf(name, sizeof(name), "%s", support_name());
    snprintf(path, sizeof(path), "%s", support_path("waited"));
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    const char *const argv[] = {"mqredis-worker", "-c",   name,    "--wait",
                                "20000",          "ECHO", "hello", NULL};
    pid_t pid = e2e_spawn(argv, fd, fd);
    support_sleep_ms(100);
    ck_assert_int_ne(support_proc_state(pid), 'Z');
    e2e_manager_start(&manager, name, e2e_uri(&redis), NULL);
    ck_assert_int_eq(support_join(pid), 0);
    char text[64] = "";
    ck_assert_int_gt(pread(fd, text, sizeof(text) - 1, 0), 0);
    ck_assert_str_eq(text, "hello\n");
    close(fd);
}
END_TEST

START_TEST(test_worker_after_a_manager_died)
{
    e2e_start(&redis, &manager, _i, NULL);
    struct e2e_client holder; /* for whom the channel stays */
    ck_assert_int_eq(e2e_client_open(&holder, manager.channel), ERR_OK);
    e2e_manager_kill(&manager);
    ck_assert(e2e_guardian_gone(&manager));
    RUN(&out, "mqredis-worker", "-c", manager.channel, "PING");
    assert_line("dead manager", E2E_UNAVAILABLE, manager.channel);
    ck_assert(out.ms < 9000);
}
END_TEST

/* ---- what is wrong with an option ---- */

static const struct {
    const char *argv[6];
    int status;
    const char *mentions;
} mistakes[] = {
    {{"mqredis-worker", "--nope"}, 64, "--nope"},
    {{"mqredis-worker", "--timeout", "soon", "PING"}, 64, "soon"},
    {{"mqredis-worker", "--timeout"}, 64, "--timeout"},
    {{"mqredis-worker", "--wait", "-5", "PING"}, 64, "--wait"},
    {{"mqredis-worker", "-c", "no name", "PING"}, 64, "no name"},
    {{"mqredis-worker", "-c", "", "PING"}, 64, "channel name ''"},
    {{"mqredis-gateway", "--port", "0", "--channel", ""}, 64, "name ''"},
    {{"mqredis-worker", "-r", "many", "PING"}, 64, "many"},
    {{"mqredis-worker", "-x"}, 64, "-x"},
    {{"mqredis-manager", "--nope"}, 64, "--nope"},
    {{"mqredis-manager", "extra"}, 64, "extra"},
    {{"mqredis-manager", "--redis"}, 64, "--redis"},
    {{"mqredis-manager", "--redis", "http://127.0.0.1"}, 64, "redis://"},
    {{"mqredis-manager", "--redis", "redis://127.0.0.1:99999"}, 64, "port"},
    {{"mqredis-manager", "--redis", "redis://127.0.0.1/many"}, 64, "database"},
    {{"mqredis-manager", "--redis", "127.0.0.1:6379"}, 64, "redis://"},
    {{"mqredis-manager", "--redis", "unix://"}, 64, "unix"},
    {{"mqredis-manager", "--capacity", "0"}, 64, "--capacity"},
    {{"mqredis-manager", "--capacity", "lots"}, 64, "lots"},
    {{"mqredis-manager", "--msgsize", "10"}, 64, "--msgsize"},
    {{"mqredis-manager", "--when-down", "maybe"}, 64, "maybe"},
    {{"mqredis-manager", "--resp", "4"}, 64, "--resp"},
    {{"mqredis-manager", "--log-level", "loud"}, 64, "loud"},
    {{"mqredis-manager", "--connections", "0"}, 64, "--connections"},
    {{"mqredis-manager", "--deny", "@nothing"}, 64, "--deny"},
    {{"mqredis-manager", "--channel", "no name"}, 64, "no name"},
    {{"mqredis-manager", "--password-file", "/nowhere/at/all"}, 78, "/nowhere"},
    {{"mqredis-manager", "--redis", "sentinel://h/m", "--cluster", "auto"},
     64,
     "no sentinels"},
    {{"mqredis-manager", "--password-file", "/dev/null"}, 78, "is empty"},
    {{"mqstat", "--nope"}, 64, "mqstat: unknown option '--nope'"},
    {{"mqstat", "-jZ"}, 64, "mqstat: unknown option '-Z'"},
    {{"mqstat", "-Zj"}, 64, "mqstat: unknown option '-Z'"},
    {{"mqstat", "--json=all"}, 64, "mqstat: --json takes no value"},
    {{"mqstat", "--wait"}, 64, "--wait needs a value"},
    {{"mqstat", "-jn"}, 64, "mqstat: -n needs a value"},
    {{"mqredis-run", "--nope"}, 64, "mqredis-run: unknown option '--nope'"},
    {{"mqredis-run", "-Zh"}, 64, "mqredis-run: unknown option '-Z'"},
    {{"mqredis-run", "--redis"}, 64, "mqredis-run: --redis needs a value"},
    {{"mqredis-run", "--workers", "513"}, 64, "513"},
    {{"mqredis-bench", "--nope"}, 64, "mqredis-bench: unknown option '--nope'"},
    {{"mqredis-bench", "--suite=1"}, 64, "mqredis-bench: --suite takes no"},
    {{"mqredis-bench", "--json"}, 64, "mqredis-bench: --json needs a value"},
    {{"mqredis-bench", "--batch", "4x"}, 64, "4x"},
    {{"mqredis-bench-watching", "--pairs", "4x"}, 64, "--pairs 2.."},
    {{"mqredis-bench-cluster", "--nope", "4"}, 64, "--masters 1.."},
    {{"mqstat", "--listen", "127.0.0.1:99999"}, 64, "65535"},
    {{"mqredis-manager", "--group", "no-such-group"}, 64, "no-such-group"},
    {{"mqredis-manager", "--exit-when-closed=yes"}, 64, "--exit-when-closed"},
    {{"mqredis-server", "--nope"}, 64, "--nope"},
    {{"mqredis-server", "--port", "high"}, 64, "high"},
    {{"mqredis-server", "--port", "65536"}, 64, "65536"},
};

START_TEST(test_a_mistake_gets_one_line)
{
    char what[128];
    e2e_run(&out, mistakes[_i].argv);
    snprintf(what, sizeof(what), "%s %s %s", mistakes[_i].argv[0],
             mistakes[_i].argv[1],
             mistakes[_i].argv[2] ? mistakes[_i].argv[2] : "");
    assert_line(what, mistakes[_i].status, mistakes[_i].mentions);
}
END_TEST

START_TEST(test_unreachable_redis_is_said_once)
{
    char nowhere[128], uri[160];
    snprintf(nowhere, sizeof(nowhere), "%s", support_path("nobody-listens"));
    snprintf(uri, sizeof(uri), "unix://%s", nowhere);
    e2e_manager_launch(&manager, NULL, uri, "--reconnect-max 50");
    ck_assert(UNTIL(e2e_lines(e2e_log(&manager)) >= 1));
    support_sleep_ms(1000); /* in which it tries twenty times */
    ck_assert_uint_le(e2e_lines(e2e_log(&manager)), 2);
    ck_assert_ptr_nonnull(strstr(e2e_log(&manager), nowhere));
    ck_assert_ptr_nonnull(strstr(e2e_log(&manager), "No such file"));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);

    e2e_manager_launch(&manager, NULL, "redis://127.0.0.1:1",
                       "--reconnect-max 50");
    ck_assert(UNTIL(strstr(e2e_log(&manager), "refused") != NULL));
    ck_assert_ptr_nonnull(strstr(e2e_log(&manager), "127.0.0.1:1"));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* A user's queues are full, as RLIMIT_MSGQUEUE says: 69, and no folder that
 * looks like a channel's. */
START_TEST(test_no_room_for_a_queue_leaves_nothing)
{
    struct rlimit old, none;
    char dir[256];
    ck_assert_int_eq(getrlimit(RLIMIT_MSGQUEUE, &old), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_MSGQUEUE, &none), 0);
    RUN(&out, "mqredis-manager", "--channel", "roomless", "--redis",
        "redis://127.0.0.1:1");
    ck_assert_int_eq(setrlimit(RLIMIT_MSGQUEUE, &old), 0);
    assert_line("no room", 69, "RLIMIT_MSGQUEUE");
    snprintf(dir, sizeof(dir), "%s/roomless", getenv("MQREDIS_DIR"));
    ck_assert_int_eq(access(dir, F_OK), -1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(test_second_manager_is_refused)
{
    e2e_start(&redis, &manager, _i, NULL);
    char pid[32];
    snprintf(pid, sizeof(pid), "%ld", (long)manager.pid);
    RUN(&out, "mqredis-manager", "--channel", manager.channel, "--redis",
        e2e_uri(&redis));
    assert_line("a second manager", 75, pid);
    RUN(&out, "mqredis-worker", "-c", manager.channel, "ECHO", "still");
    ck_assert_str_eq(out.text, "still\n");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- exit codes ---- */

START_TEST(test_exit_codes_of_answers)
{
    e2e_start(&redis, &manager, _i, NULL);
    const char *ch = manager.channel;
    RUN(&out, "mqredis-worker", "-c", ch, "SET", "foo", "bar");
    ck_assert_str_eq(out.text, "OK\n");
    ck_assert_int_eq(out.status, 0);
    RUN(&out, "mqredis-worker", "-c", ch, "--no-raw", "GET", "foo");
    ck_assert_str_eq(out.text, "\"bar\"\n");
    RUN(&out, "mqredis-worker", "-c", ch, "--no-raw", "GET", "nothing");
    ck_assert_str_eq(out.text, "(nil)\n");
    ck_assert_int_eq(out.status, 0);
    RUN(&out, "mqredis-worker", "-c", ch, "--no-raw", "APPEND", "foo", "x");
    ck_assert_str_eq(out.text, "(integer) 4\n");
    RUN(&out, "mqredis-worker", "-c", ch, "INCR", "foo");
    ck_assert_int_eq(out.status, 1); /* an error reply */
    RUN(&out, "mqredis-worker", "-c", ch, "SELECT", "1");
    assert_line("SELECT", 1, "SELECT"); /* refused by policy */
}
END_TEST

/* Starts a worker program whose output nobody reads. */
static pid_t launch(const char *timeout, const char *key)
{
    const char *const argv[] = {"mqredis-worker",
                                "-c",
                                manager.channel,
                                "--timeout",
                                timeout,
                                "INCR",
                                key,
                                NULL};
    static int null = -1;
    if (null < 0)
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return e2e_spawn(argv, null, null);
}

static struct e2e_client looker;

static long depth(void)
{
    long now = -1, capacity;
    if (mpsc_sender_depth(&looker.tx, &now, &capacity) != ERR_OK)
        return -1;
    return now;
}

START_TEST(test_exit_codes_of_deadlines)
{
    e2e_start(&redis, &manager, _i, "--capacity 2");
    ck_assert_int_eq(e2e_client_open(&looker, manager.channel), ERR_OK);
    support_stop(redis.at.pid);
    pid_t in_flight = launch("300", "in-flight");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) == 1));
    support_stop(manager.pid);
    pid_t queued[2] = {launch("300", "queued"), 0};
    ck_assert(UNTIL(depth() == 1));
    queued[1] = launch("300", "queued");
    ck_assert(UNTIL(depth() == 2));
    pid_t asleep = launch("300", "asleep");
    ck_assert_int_eq(support_join(asleep), E2E_EXPIRED);
    ck_assert_int_eq(support_join(in_flight), E2E_LOST);
    ck_assert_int_eq(support_join(queued[0]), E2E_LOST);
    ck_assert_int_eq(support_join(queued[1]), E2E_LOST);
    kill(manager.pid, SIGCONT);
    kill(redis.at.pid, SIGCONT);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) == 3));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    /* What gave up while it was queued is dropped; what never was in, too. */
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET queued"), 0);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET asleep"), 0);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_gone) +
                          e2e_counter(&manager, COUNTER_expired),
                      2);
}
END_TEST

START_TEST(test_exit_codes_when_the_manager_is_killed)
{
    enum { IN_FLIGHT = 4, QUEUED = 8, ASLEEP = 4 };
    enum { ALL = IN_FLIGHT + QUEUED + ASLEEP };
    e2e_start(&redis, &manager, _i, "--capacity 8");
    ck_assert_int_eq(e2e_client_open(&looker, manager.channel), ERR_OK);
    pid_t pids[ALL];
    char key[16];
    support_stop(redis.at.pid);
    for (int i = 0; i < ALL; i++) {
        if (i == IN_FLIGHT)
            support_stop(manager.pid);
        snprintf(key, sizeof(key), "n%d", i);
        pids[i] = launch("20000", key);
        if (i < IN_FLIGHT)
            ck_assert(
                UNTIL(e2e_counter(&manager, COUNTER_taken) == (uint64_t)i + 1));
        else if (i < IN_FLIGHT + QUEUED)
            ck_assert(UNTIL(depth() == i - IN_FLIGHT + 1));
        else
            ck_assert(support_sleeps_in(pids[i], SYS_mq_timedsend));
    }
    uint64_t t0 = clock_ns();
    e2e_manager_kill(&manager);
    for (int i = 0; i < ALL; i++) {
        int status = support_join(pids[i]);
        ck_assert_msg(status == (i < IN_FLIGHT ? E2E_LOST : E2E_UNAVAILABLE),
                      "worker %d ended with %d", i, status);
    }
    e2e_figure(_i, "manager killed: %d worker programs ended within %.1f ms",
               ALL, (double)(clock_ns() - t0) / 1e6);
    ck_assert(e2e_guardian_gone(&manager));
    kill(redis.at.pid, SIGCONT);
    char channel[48];
    strcpy(channel, manager.channel);
    e2e_manager_start(&manager, channel, e2e_uri(&redis), "--capacity 8");
    RUN(&out, "mqredis-worker", "-c", channel, "INCR", "after");
    ck_assert_str_eq(out.text, "1\n");
    for (int i = 0; i < ALL; i++) {
        char get[32];
        snprintf(get, sizeof(get), "GET n%d", i);
        ck_assert_int_le(e2e_redis_integer(&redis, get), i < IN_FLIGHT);
    }
}
END_TEST

/* ---- a worker that lives longer than its manager ---- */

START_TEST(test_idle_worker_program_outlives_ten_managers)
{
    static const char options[] = "--msgsize 3072";
    e2e_start(&redis, &manager, _i, options);
    char channel[48], in[256], replies[256], line[512];
    strcpy(channel, manager.channel);
    snprintf(in, sizeof(in), "%s", support_path(_i ? "in-1" : "in-0"));
    snprintf(replies, sizeof(replies), "%s",
             support_path(_i ? "out-1" : "out-0"));
    ck_assert_int_eq(mkfifo(in, 0600), 0);
    int to = open(in, O_RDWR | O_CLOEXEC);
    int from = open(replies, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert(to >= 0 && from >= 0);
    snprintf(line, sizeof(line), "exec %s/mqredis-worker -c %s <%s",
             support_build(), channel, in);
    const char *const argv[] = {"sh", "-c", line, NULL};
    pid_t pid = e2e_spawn(argv, from, STDERR_FILENO);
    char text[256];
    for (int i = 0; i <= 10; i++) {
        if (i > 0) {
            if (i % 2 == 0)
                ck_assert_int_eq(e2e_manager_stop(&manager), 0);
            else
                e2e_manager_kill(&manager);
            e2e_manager_start(&manager, channel, e2e_uri(&redis), options);
        }
        if (i % 5 != 0)
            continue; /* idle through the other restarts */
        ck_assert_int_eq(write(to, "INCR idle\n", 10), 10);
        char expect[64] = "1\n2\n3\n";
        expect[i / 5 * 2 + 2] = '\0';
        ssize_t n = 0;
        ck_assert_msg(UNTIL((n = pread(from, text, sizeof(text) - 1, 0)) >=
                            (ssize_t)strlen(expect)),
                      "no reply after %d restarts", i);
        text[n] = '\0';
        ck_assert_str_eq(text, expect);
    }
    close(to);
    kill(pid, SIGTERM);
    support_join(pid);
    close(from);
}
END_TEST

/* ---- values ---- */

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *fmt, ...)
{
    char text[1024], line[1300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "w() { %s/mqredis-worker -c %s \"$@\"; }; %s",
             support_build(), manager.channel, text);
    RUN(&out, "sh", "-c", line);
}

START_TEST(test_binary_values_through_the_program)
{
    static const struct {
        const char *escaped, *data;
        size_t len;
    } values[] = {{"", "", 0},
                  {"\\000", "\0", 1},
                  {"a\\000b\\r\\n\\377\\376\\r\\n", "a\0b\r\n\xff\xfe\r\n", 9},
                  {"\\r\\n", "\r\n", 2},
                  {"$3\\r\\nfoo\\r\\n", "$3\r\nfoo\r\n", 9}};
    e2e_start(&redis, &manager, _i, NULL);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        shell("printf '%s' | w -x SET key >/dev/null && w GET key",
              values[i].escaped);
        ck_assert_int_eq(out.status, 0);
        ck_assert_uint_eq(out.len, values[i].len + 1);
        ck_assert_mem_eq(out.text, values[i].data, values[i].len);
    }
}
END_TEST

START_TEST(test_reply_of_a_megabyte_through_the_program)
{
    e2e_start(&redis, &manager, _i, NULL);
    ck_assert_str_eq(e2e_redis_ask(&redis, "SETRANGE large 1048575 z"),
                     ":1048576\r\n");
    shell("w GET large | cksum");
    struct e2e_output whole = out;
    shell("{ head -c 1048575 /dev/zero; echo z; } | cksum");
    ck_assert_str_eq(whole.text, out.text);
    ck_assert_int_eq(out.status, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_worker");
    TCase *t = support_case(s, "worker", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_worker_before_any_manager);
    e2e_add(t, test_worker_waits_for_a_manager);
    e2e_add(t, test_worker_after_a_manager_died);
    tcase_add_loop_test(t, test_a_mistake_gets_one_line, 0,
                        sizeof(mistakes) / sizeof(mistakes[0]));
    tcase_add_test(t, test_unreachable_redis_is_said_once);
    tcase_add_test(t, test_no_room_for_a_queue_leaves_nothing);
    e2e_add(t, test_second_manager_is_refused);
    e2e_add(t, test_exit_codes_of_answers);
    e2e_add(t, test_exit_codes_of_deadlines);
    e2e_add(t, test_exit_codes_when_the_manager_is_killed);
    e2e_add(t, test_idle_worker_program_outlives_ten_managers);
    e2e_add(t, test_binary_values_through_the_program);
    e2e_add(t, test_reply_of_a_megabyte_through_the_program);
    return s;
}

int main(void)
{
    return support_run(suite());
}
