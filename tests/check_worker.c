/* mqredis-worker from the shell's side: what it prints, and its exit status. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* Runs a shell script, in which $W is the worker; stdout and stderr together
 * are its output. */
static struct e2e_output *sh(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static struct e2e_output *sh(const char *format, ...)
{
    static struct e2e_output out;
    static char script[4096];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(script, sizeof(script), format, ap);
    va_end(ap);
    ck_assert_int_lt(n, (int)sizeof(script));
    static char worker[512];
    snprintf(worker, sizeof(worker), "%s/mqredis-worker", support_build());
    setenv("W", worker, 1);
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    return &out;
}

#define EXPECT(code, expected, ...)                                            \
    do {                                                                       \
        const struct e2e_output *o_ = sh(__VA_ARGS__);                         \
        ck_assert_str_eq(o_->text, expected);                                  \
        ck_assert_int_eq(o_->status, code);                                    \
    } while (0)

/* One line of error that holds the text. */
#define EXPECT_LINE(code, part, ...)                                           \
    do {                                                                       \
        const struct e2e_output *o_ = sh(__VA_ARGS__);                         \
        ck_assert_msg(strstr(o_->text, part) != NULL, "'%s' is not in: %s",    \
                      part, o_->text);                                         \
        ck_assert_uint_eq(e2e_lines(o_->text), 1);                             \
        ck_assert_int_eq(o_->status, code);                                    \
    } while (0)

static void begin(int kind, const char *options)
{
    e2e_start(&redis, &manager, kind, options);
    setenv("MQREDIS_CHANNEL", manager.channel, 1);
}

/* ---- one command ---- */

START_TEST(test_prints_as_redis_cli_does)
{
    begin(_i, NULL);
    EXPECT(0, "OK\n", "$W SET foo bar");
    EXPECT(0, "bar\n", "$W GET foo");
    EXPECT(0, "\"bar\"\n", "$W --no-raw GET foo");
    EXPECT(0, "(nil)\n", "$W --no-raw GET none");
    EXPECT(0, "\n", "$W --raw GET none");
    EXPECT(0, "(integer) 2\n", "$W --no-raw RPUSH l a b");
    EXPECT(0, "1) \"a\"\n2) \"b\"\n", "$W --no-raw LRANGE l 0 -1");
    EXPECT(0, "a\nb\n", "$W LRANGE l 0 -1");
    EXPECT(0, "[\"a\",\"b\"]\n", "$W --json LRANGE l 0 -1");
    EXPECT(0, "null\n", "$W --json GET none");
    EXPECT(0, "-5\n", "$W DECRBY n 5");
    EXPECT(0, "--raw\n", "$W ECHO --raw");
}
END_TEST

START_TEST(test_exit_status_tells_refusals_apart)
{
    begin(_i, NULL);
    EXPECT(0, "OK\n", "$W SET foo bar");
    EXPECT(1,
           "(error) WRONGTYPE Operation against a key holding the wrong kind "
           "of value\n",
           "$W --no-raw LPUSH foo x");
    EXPECT_LINE(1, "SELECT", "$W SELECT 1");
    EXPECT_LINE(64, "--zzz", "$W --zzz GET foo");
    EXPECT_LINE(64, "-r", "$W -r many GET foo");
    EXPECT_LINE(64, "--timeout", "$W GET foo >/dev/null && $W --timeout");
    EXPECT_LINE(64, "-i", "$W -i 1s GET foo");
    EXPECT_LINE(64, "--pipe", "$W --pipe GET foo");
    EXPECT_LINE(64, "-x", "$W -x");
    EXPECT_LINE(64, "'a b'", "$W --channel 'a b' GET foo");
    EXPECT_LINE(0, "1.0.0", "$W --version");
    EXPECT_LINE(0, "Usage: mqredis-worker", "$W --help | head -1");
    EXPECT_LINE(1, "cannot write", "$W GET foo >/dev/full");
}
END_TEST

START_TEST(test_without_a_manager_says_how_to_start_one)
{
    EXPECT_LINE(69, "mqredis-manager --channel nobody",
                "$W --channel nobody GET foo");
    EXPECT_LINE(69, "'nobody'", "MQREDIS_CHANNEL=nobody $W --wait 200 GET foo");
    EXPECT_LINE(69, "'nobody'", "echo GET foo | $W -c nobody");
}
END_TEST

START_TEST(test_waits_for_a_manager_when_asked)
{
    e2e_redis_start(&redis, _i);
    e2e_manager_launch(&manager, NULL, e2e_uri(&redis), NULL);
    EXPECT(0, "PONG\n", "$W --channel=%s --wait %lld PING", manager.channel,
           (long long)support_wait_ms());
}
END_TEST

START_TEST(test_time_that_runs_out_has_two_exit_codes)
{
    begin(_i, "--capacity 1");
    support_stop(manager.pid);
    /* The first is queued, and nobody knows; the second never was. */
    EXPECT_LINE(76, "may have been executed", "$W --timeout 200 INCR n");
    EXPECT_LINE(75, "not executed", "$W --timeout 200 INCR n");
    kill(manager.pid, SIGCONT);
    EXPECT(0, "PONG\n", "$W PING");
}
END_TEST

START_TEST(test_values_survive_byte_for_byte)
{
    begin(_i, NULL);
    EXPECT(0, "OK\n", "printf 'a\\0\\r\\n\\377' | $W -x SET bin");
    EXPECT(0, "61 00 0d 0a ff 0a\n", "$W GET bin | od -An -tx1 | sed 's/^ //'");
    EXPECT(0, "OK\n", "$W -x SET empty </dev/null");
    EXPECT(0, "0\n", "$W STRLEN empty");
    EXPECT(0, "OK\n300000\n",
           "head -c 300000 /dev/zero | $W -x SET large; $W STRLEN large");
    EXPECT(0, "OK\n5\n",
           "printf 'SET q \"\\\\x00\\\\xff \\\\n\\\\\"\"\\nSTRLEN q\\n' | $W");
}
END_TEST

/* More than the program has room for on its stack. */
START_TEST(test_many_arguments)
{
    begin(_i, NULL);
    EXPECT(0, "40\n", "$W RPUSH list $(seq 40)");
    EXPECT(0, "21\n", "echo last | tr -d '\\n' | $W -x RPUSH more $(seq 20)");
    EXPECT(0, "last\n", "$W LINDEX more -1");
}
END_TEST

START_TEST(test_standard_input_that_cannot_be_read)
{
    begin(_i, NULL);
    EXPECT_LINE(1, "cannot read standard input: Is a directory: not executed",
                "$W -x SET k <.");
    EXPECT_LINE(1, "cannot read standard input: Is a directory", "$W <.");
    EXPECT(0, "0\n", "$W EXISTS k");
}
END_TEST

START_TEST(test_output_that_cannot_be_written)
{
    begin(_i, NULL);
    EXPECT_LINE(1, "cannot write the output: No space left",
                "seq -f 'ECHO %%.0f' 10000 2>/dev/null | $W 2>&1 >/dev/full");
    EXPECT_LINE(1, "quotes do not close: not executed",
                "printf 'SET k \"v\\n' | $W");
    EXPECT_LINE(
        1, "is not whole and canonical RESP",
        "printf '*2\\r\\n$3\\r\\nGET\\r\\n' | $W --pipe 2>&1 >/dev/null");
    EXPECT(0, "0\n", "$W EXISTS k");
}
END_TEST

START_TEST(test_repeats)
{
    begin(_i, NULL);
    EXPECT(0, "1\n2\n3\n", "$W -r 3 -i 0.01 INCR n");
    EXPECT(0, "4\n5\n", "$W -r -1 INCR n | head -2");
}
END_TEST

/* ---- standard input ---- */

START_TEST(test_lines_are_answered_in_order)
{
    begin(_i, NULL);
    EXPECT(0, "OK\na b\n(nil)\n",
           "printf 'SET k \"a b\"\\n\\n  \\nGET k\\r\\nGET none' | "
           "$W --no-raw | tr -d '\"'");
    EXPECT(0, "20000\n",
           "cd %s; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo ECHO $i; "
           "done >lines; $W <lines >out; sed 's/ECHO //' lines | cmp - out && "
           "wc -l <out",
           support_scratch());
}
END_TEST

START_TEST(test_one_bad_line_is_the_exit_status)
{
    begin(_i, NULL);
    EXPECT(1, "OK\nERR value is not an integer or out of range\nx\n",
           "printf 'SET k x\\nINCR k\\nGET k\\n' | $W | grep .;"
           "printf 'SET k x\\nINCR k\\nGET k\\n' | $W >/dev/null");
    EXPECT(1, "mqredis-worker: line 2: quotes do not close: not executed\n1\n",
           "printf 'ECHO 1\\nECHO \"2\\n' | $W");
    EXPECT_LINE(1, "line 2:", "printf 'SET a b\\nSELECT 1\\n' | $W >/dev/null");
}
END_TEST

START_TEST(test_transaction_in_lines_is_one_piece)
{
    begin(_i, NULL);
    EXPECT(0, "OK\nQUEUED\nQUEUED\n1) OK\n2) (integer) 2\n2\n",
           "printf 'MULTI\\nSET n 1\\nincr n\\nexec\\nGET n' | $W --no-raw | "
           "tr -d '\"'");
    EXPECT_LINE(1, "MULTI without EXEC", "printf 'MULTI\\nSET n 5\\n' | $W");
    EXPECT(0, "2\n", "$W GET n");
}
END_TEST

START_TEST(test_answers_before_it_waits_for_more)
{
    begin(_i, NULL);
    EXPECT(0, "OK\n1\n",
           "cd %s && : >out && mkfifo in && ($W <in >out & echo $! >pid; wait "
           "$!) & "
           "cd %s && until [ -p in ]; do sleep 0.01; done; exec 3>in;"
           "echo SET a 1 >&3; i=0;"
           "until grep -q OK out || [ $i = 500 ]; do i=$((i+1)); sleep 0.02; "
           "done; cat out; echo GET a >&3; exec 3>&-; wait; tail -1 out",
           support_scratch(), support_scratch());
}
END_TEST

START_TEST(test_mass_insertion_counts)
{
    begin(_i, NULL);
    EXPECT(0, "errors: 0, replies: 3\n",
           "printf 'SET a 1\\nSET b 2\\n*1\\r\\n$4\\r\\nPING\\r\\n' | "
           "$W --pipe");
    EXPECT(1, "errors: 1, replies: 2\n",
           "printf '*3\\r\\n$5\\r\\nLPUSH\\r\\n$1\\r\\na\\r\\n$1\\r\\nx\\r\\n"
           "*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n' | $W --pipe");
    const struct e2e_output *o =
        sh("printf '*1\\r\\n$4\\r\\nPING\\r\\n*2\\r\\n$3\\r\\nGE' | $W --pipe");
    ck_assert_int_eq(o->status, 1);
    ck_assert_ptr_nonnull(strstr(o->text, "errors: 1, replies: 1\n"));
    ck_assert_ptr_nonnull(strstr(o->text, "not whole"));
}
END_TEST

START_TEST(test_many_lines_go_fast)
{
    int lines = e2e_long() ? 1000000 : 50000, single = 2000;
    begin(_i, "--msgsize 4096 --capacity 16");
    const struct e2e_output *o =
        sh("awk 'BEGIN { for (i = 0; i < %d; i++) "
           "printf \"SET key:%%d value\\n\", i }' >%s/lines",
           lines, support_scratch());
    ck_assert_int_eq(o->status, 0);
    o = sh("$W <%s/lines | uniq -c | tr -d ' '", support_scratch());
    char expected[32];
    snprintf(expected, sizeof(expected), "%dOK\n", lines);
    ck_assert_str_eq(o->text, expected);
    double together = lines / o->ms;
    ck_assert_int_eq(e2e_redis_integer(&redis, "DBSIZE"), lines);
    /* One round trip for each. */
    o = sh("$W -r %d SET key:0 value >/dev/null", single);
    ck_assert_int_eq(o->status, 0);
    double alone = single / o->ms;
    e2e_figure(_i,
               "%d lines at %.0f/s, one round trip each at %.0f/s: %.0f "
               "times",
               lines, together * 1000, alone * 1000, together / alone);
}
END_TEST

/* ---- the shape of the program ---- */

#define CALLS_MAX 30

/* What libc does before main ends with protecting its relocations. */
#define COUNT_CALLS "sed '1,/^mprotect/d;/^+++/d' %s/trace | grep -c ."

static bool strace_tells(const char *test)
{
    if (!SUPPORT_INSTRUMENTED && sh("command -v strace")->status == 0)
        return true;
    support_skip(test, "no strace, or an instrumented build");
    return false;
}

START_TEST(test_start_costs_little)
{
    begin(_i, NULL);
    EXPECT(0, "OK\n", "$W SET k v");
    double worker = 0, cli = 0;
    enum { RUNS = 50 };
    for (int i = 0; i < RUNS; i++) {
        const char *const a[] = {"mqredis-worker", "GET", "k", NULL};
        const char *const b[] = {"redis-cli", "-s", redis.at.path,
                                 "GET",       "k",  NULL};
        struct e2e_output out;
        e2e_run(&out, a);
        ck_assert_str_eq(out.text, "v\n");
        worker += out.ms;
        e2e_run(&out, b);
        cli += out.ms;
    }
    e2e_figure(_i,
               "mqredis-worker GET k %.2f ms, redis-cli over a unix socket "
               "%.2f ms",
               worker / RUNS, cli / RUNS);
    if (!strace_tells("test_start_costs_little"))
        return;
    const struct e2e_output *o =
        sh("strace -o %s/trace $W GET k >/dev/null && " COUNT_CALLS,
           support_scratch(), support_scratch());
    ck_assert_int_eq(o->status, 0);
    e2e_figure(_i, "system calls after main began: %d", atoi(o->text));
    ck_assert_int_lt(atoi(o->text), CALLS_MAX);
    ck_assert_int_gt(atoi(o->text), 10);
}
END_TEST

/* Below /dev/shm/mqredis-UID there is more to check than in a folder that the
 * user named or that only root can make. */
START_TEST(test_start_costs_a_plain_user_little)
{
    if (!strace_tells("test_start_costs_a_plain_user_little"))
        return;
    if (geteuid() == 0 && !support_root_of_many()) {
        support_skip("test_start_costs_a_plain_user_little",
                     "takes a root who may become another user");
        return;
    }
    const struct e2e_output *o =
        sh("set -e; unset MQREDIS_DIR MQREDIS_CHANNEL; umask 022\n"
           "as=; user=$(id -u); b=$(mktemp -d /tmp/mqredis-plain.XXXXXX)\n"
           "cp ${W%%/*}/mqredis-worker ${W%%/*}/mqredis-manager "
           "${W%%/*}/mqredis-server $b\n"
           "[ $user -gt 0 ] || { user=65531; chown $user $b; "
           "as=\"setpriv --reuid $user --regid $user --clear-groups\"; }\n"
           "$as $b/mqredis-server --port 0 --unixsocket $b/s >$b/log & s=$!\n"
           "trap 'kill $m $s; wait; rm -rf $b; "
           "rmdir /dev/shm/mqredis-$user 2>/dev/null || :' EXIT\n"
           "$as timeout 60 $b/mqredis-manager --channel plain --msgsize 1024 "
           "--redis unix://$b/s >$b/ready 2>$b/log & m=$!\n"
           "while ! [ -s $b/ready ]; do kill -0 $m; sleep 0.05; done\n"
           "$as strace -o $b/trace $b/mqredis-worker --channel plain SET k v "
           ">/dev/null\n" COUNT_CALLS,
           "$b");
    ck_assert_msg(o->status == 0, "%s", o->text);
    e2e_figure(0, "system calls of a plain user: %d", atoi(o->text));
    ck_assert_int_lt(atoi(o->text), CALLS_MAX);
    ck_assert_int_gt(atoi(o->text), 10);
}
END_TEST

START_TEST(test_examples_run)
{
    begin(_i, NULL);
    EXPECT(0, "GOT (Get) = (nil)\nGOT (Set) = OK\n",
           "${W%%/*}/examples/tutorial | sort");
    EXPECT(0, "4 of 4 children had 100 right answers each\n",
           "${W%%/*}/examples/prefork 4 100");
    EXPECT(0, "50 of 50 commands answered\n", "${W%%/*}/examples/epoll 5");
}
END_TEST

START_TEST(test_manual_pages_are_clean)
{
    if (sh("command -v mandoc")->status != 0) {
        support_skip("test_manual_pages_are_clean", "no mandoc");
        return;
    }
    EXPECT(0, "", "mandoc -T lint -W warning docs/man/*.[1-8]");
}
END_TEST

/* Reads from a terminal until the text came. */
static bool terminal_says(int fd, const char *text)
{
    static char seen[16384];
    size_t len = 0;
    seen[0] = '\0';
    while (strstr(seen, text) == NULL && len + 1 < sizeof(seen)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)support_wait_ms()) != 1)
            break;
        ssize_t n = read(fd, seen + len, sizeof(seen) - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
        seen[len] = '\0';
    }
    if (strstr(seen, text) == NULL)
        fprintf(stderr, "no '%s' in: %s\n", text, seen);
    return strstr(seen, text) != NULL;
}

START_TEST(test_terminal_has_a_prompt)
{
    begin(_i, NULL);
    char path[512];
    snprintf(path, sizeof(path), "%s/mqredis-worker", support_build());
    int fd;
    fflush(NULL);
    pid_t pid = forkpty(&fd, NULL, NULL, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setenv("HOME", support_scratch(), 1);
        setenv("TERM", "dumb", 1);
        setenv("LC_ALL", "C", 1);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    ck_assert(terminal_says(fd, "> "));
    ck_assert_int_eq(write(fd, "SET k v\r", 8), 8);
    ck_assert(terminal_says(fd, "OK"));
    ck_assert_int_eq(write(fd, "GET k\r", 6), 6);
    ck_assert(terminal_says(fd, "\"v\""));
    /* No byte is dropped, whatever the locale: the shell's may be C. */
    ck_assert_int_eq(write(fd, "SET k a\xc3\xa9z\r", 12), 12);
    ck_assert(terminal_says(fd, "OK"));
    ck_assert_int_eq(write(fd, "STRLEN k\r", 9), 9);
    ck_assert(terminal_says(fd, "(integer) 4"));
    ck_assert_int_eq(write(fd, "GET 'k\r", 7), 7);
    ck_assert(terminal_says(fd, "quotes"));
    ck_assert_int_eq(write(fd, "exit\r", 5), 5);
    ck_assert_int_eq(support_join(pid), 0);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *worker = tcase_create("worker");
    /* For each test: a queue that stayed is charged to the user. */
    tcase_add_checked_fixture(worker, support_scratch_setup,
                              support_scratch_teardown);
    tcase_add_checked_fixture(worker, NULL, e2e_stop_all);
    tcase_set_timeout(worker, 120);
    e2e_add(worker, test_prints_as_redis_cli_does);
    e2e_add(worker, test_exit_status_tells_refusals_apart);
    tcase_add_test(worker, test_without_a_manager_says_how_to_start_one);
    e2e_add(worker, test_waits_for_a_manager_when_asked);
    e2e_add(worker, test_time_that_runs_out_has_two_exit_codes);
    e2e_add(worker, test_values_survive_byte_for_byte);
    e2e_add(worker, test_many_arguments);
    e2e_add(worker, test_standard_input_that_cannot_be_read);
    e2e_add(worker, test_output_that_cannot_be_written);
    e2e_add(worker, test_repeats);
    e2e_add(worker, test_lines_are_answered_in_order);
    e2e_add(worker, test_one_bad_line_is_the_exit_status);
    e2e_add(worker, test_transaction_in_lines_is_one_piece);
    e2e_add(worker, test_answers_before_it_waits_for_more);
    e2e_add(worker, test_mass_insertion_counts);
    e2e_add(worker, test_many_lines_go_fast);
    e2e_add(worker, test_start_costs_little);
    tcase_add_test(worker, test_start_costs_a_plain_user_little);
    e2e_add(worker, test_examples_run);
    tcase_add_test(worker, test_manual_pages_are_clean);
    e2e_add(worker, test_terminal_has_a_prompt);
    suite_add_tcase(s, worker);
    return support_run(s);
}
