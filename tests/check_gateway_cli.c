/* Real clients of mqredis-gateway: redis-cli, redis-benchmark; and who
 * subscribes. */
#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway.h"
#include "tests/support.h"
#include "tests/support_run.h"

static int begin(int kind, const char *manager_options, const char *options)
{
    int fd = gw_begin(kind, manager_options, options);
    setenv("SOCKET", gateway.path, 1);
    return fd;
}

/* Runs a shell script. */
static struct e2e_output *sh(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static struct e2e_output *sh(const char *format, ...)
{
    static struct e2e_output out;
    char script[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(script, sizeof(script), format, ap);
    va_end(ap);
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    return &out;
}

static bool has(const char *program)
{
    bool there = sh("command -v %s >/dev/null", program)->status == 0;
    if (!there)
        support_skip("gateway_cli", program);
    return there;
}

#define EXPECT(expected, ...)                                                  \
    do {                                                                       \
        const struct e2e_output *o_ = sh(__VA_ARGS__);                         \
        ck_assert_str_eq(o_->text, expected);                                  \
        ck_assert_int_eq(o_->status, 0);                                       \
    } while (0)

/* ---- redis-cli and redis-benchmark ---- */

START_TEST(test_redis_cli)
{
    if (!has("redis-cli"))
        return;
    close(begin(_i, NULL, "--port 0"));
    EXPECT("OK\n", "redis-cli -s $SOCKET SET k 'a b'");
    EXPECT("a b\n", "redis-cli -p %d GET k", gateway.port);
    EXPECT("OK\nQUEUED\nQUEUED\n2\n3\n",
           "printf 'MULTI\\nINCRBY n 2\\nINCR n\\nEXEC\\n' | "
           "redis-cli -s $SOCKET");
    /* In the form that redis-cli's --pipe is for. */
    const struct e2e_output *o =
        sh("for i in $(seq 5000); do printf 'SET p%%d %%d\\r\\n' $i $i; done | "
           "redis-cli -s $SOCKET --pipe");
    ck_assert_msg(strstr(o->text, "errors: 0, replies: 5000") != NULL, "%s",
                  o->text);
    EXPECT("5000\n", "redis-cli -s $SOCKET GET p5000");
    o = sh("redis-cli -s $SOCKET -r 3 INCR r");
    ck_assert_str_eq(o->text, "1\n2\n3\n");
}
END_TEST

START_TEST(test_redis_cli_with_resp3)
{
    if (!has("redis-cli"))
        return;
    close(begin(E2E_REDIS, "--resp 3", NULL));
    EXPECT("2\n", "redis-cli -s $SOCKET -3 HSET h a 1 b 2");
    EXPECT("1# \"a\" => \"1\"\n2# \"b\" => \"2\"\n",
           "redis-cli -s $SOCKET -3 --no-raw HGETALL h");
    EXPECT("1) \"a\"\n2) \"1\"\n3) \"b\"\n4) \"2\"\n",
           "redis-cli -s $SOCKET --no-raw HGETALL h");
}
END_TEST

/* Whether what runs in the background has printed a word, soon. */
static bool prints(const char *word)
{
    for (int i = 0; i < 500; i++) {
        if (strstr(sh("cat $SOCKET.out")->text, word) != NULL)
            return true;
        support_sleep_ms(10);
    }
    return false;
}

START_TEST(test_redis_cli_subscribes)
{
    if (!has("redis-cli"))
        return;
    int fd = begin(_i, NULL, NULL);
    int out = dup(STDERR_FILENO);
    (void)sh("rm -f $SOCKET.out"); /* of the test before, under that name */
    const char *const argv[] = {
        "sh", "-c", "exec redis-cli -s $SOCKET SUBSCRIBE news >$SOCKET.out",
        NULL};
    pid_t pid = e2e_spawn(argv, out, out);
    close(out);
    ck_assert_msg(prints("subscribe\nnews\n1\n"), "it says: %s",
                  sh("cat $SOCKET.out")->text);
    gw_talk(fd, "PUBLISH news hello\r\n", ":1\r\n");
    ck_assert(prints("hello"));
    kill(pid, SIGTERM);
    support_join(pid);
    ck_assert(UNTIL(gw_counter(&gateway, "topics") == 0));
    close(fd);
}
END_TEST

START_TEST(test_redis_benchmark)
{
    if (!has("redis-benchmark"))
        return;
    close(begin(_i, NULL, NULL));
    const struct e2e_output *o =
        sh("redis-benchmark -s $SOCKET -c 50 -P 16 -n 20000 -q "
           "-t ping,set,get,incr,lpush,lrange_100,mset 2>&1 | tr '\\r' '\\n' | "
           "grep -c 'requests per second'");
    ck_assert_int_ge(atoi(o->text), 7);
    o = sh("redis-benchmark -s $SOCKET -c 50 -n 5000 -q -t set,get 2>&1 | "
           "tr '\\r' '\\n' | grep -c 'requests per second'");
    ck_assert_int_ge(atoi(o->text), 2);
    ck_assert_uint_eq(gw_counter(&gateway, "failed"), 0);
    ck_assert_uint_eq(gw_counter(&gateway, "inflight"), 0);
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* ---- subscriptions ---- */

START_TEST(test_subscriptions_of_resp2)
{
    int fd = begin(_i, NULL, NULL), other = gw_connect(&gateway);
    gw_talk(fd, "SUBSCRIBE a b\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
    gw_talk(fd, "PSUBSCRIBE n*\r\n",
            "*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:3\r\n");
    gw_talk(other, "PUBLISH a one\r\n", ":1\r\n");
    gw_expect(fd, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$3\r\none\r\n");
    gw_talk(other, "PUBLISH news two\r\nPUBLISH c no\r\n", ":1\r\n:0\r\n");
    gw_expect(fd, "*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n"
                  "$3\r\ntwo\r\n");
    gw_talk(fd, "PING\r\nPING x\r\n",
            "*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
    gw_talk(fd, "GET k\r\n", "-ERR Can't execute 'GET': only");
    gw_read_until(fd, "\r\n");
    /* The same name twice is one subscription. */
    gw_talk(fd, "SUBSCRIBE a\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:3\r\n");
    gw_talk(fd, "UNSUBSCRIBE b nosuch\r\n",
            "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:2\r\n"
            "*3\r\n$11\r\nunsubscribe\r\n$6\r\nnosuch\r\n:2\r\n");
    gw_talk(fd, "UNSUBSCRIBE\r\n",
            "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n");
    gw_talk(fd, "UNSUBSCRIBE\r\n", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n");
    gw_talk(fd, "PUNSUBSCRIBE\r\nPING\r\n",
            "*3\r\n$12\r\npunsubscribe\r\n$2\r\nn*\r\n:0\r\n+PONG\r\n");
    ck_assert(UNTIL(gw_counter(&gateway, "topics") == 0));
    close(fd);
    close(other);
}
END_TEST

START_TEST(test_subscriptions_of_resp3)
{
    int fd = begin(E2E_REDIS, "--resp 3", NULL);
    gw_send(fd, "HELLO 3\r\n");
    gw_read_until(fd, "$7\r\nmodules\r\n*0\r\n");
    /* Other commands go on; what was subscribed to before sees them. */
    gw_talk(fd, "SUBSCRIBE a\r\nINCR n\r\nPUBLISH a x\r\nECHO end\r\n",
            ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    static const char message[] =
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
    static const char replies[] = ":1\r\n:1\r\n$3\r\nend\r\n";
    char got[sizeof(message) + sizeof(replies) - 1] = "";
    gw_read_bytes(fd, got, sizeof(got) - 1);
    /* A push may stand between any two replies. */
    const char *at = strstr(got, message);
    ck_assert_msg(at != NULL, "%s", got);
    size_t before = (size_t)(at - got);
    ck_assert(before % 4 == 0 || before == sizeof(replies) - 1);
    gw_talk(fd, "RESET\r\nPING\r\n", "+RESET\r\n+PONG\r\n");
    ck_assert(UNTIL(gw_counter(&gateway, "topics") == 0));
    close(fd);
}
END_TEST

START_TEST(test_many_subscribers_one_stream)
{
    enum { CLIENTS = 60, MESSAGES = 200 };
    int fd[CLIENTS];
    fd[0] = begin(_i, NULL, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        if (i > 0)
            fd[i] = gw_connect(&gateway);
        gw_send(fd[i], "SUBSCRIBE all\r\n");
    }
    for (int i = 0; i < CLIENTS; i++)
        gw_expect(fd[i], "*3\r\n$9\r\nsubscribe\r\n$3\r\nall\r\n:1\r\n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 1));
    int other = gw_connect(&gateway);
    for (int n = 0; n < MESSAGES; n++) {
        char ask[64];
        snprintf(ask, sizeof(ask), "PUBLISH all m%03d\r\n", n);
        gw_talk(other, ask, ":1\r\n");
    }
    for (int i = 0; i < CLIENTS; i++) {
        for (int n = 0; n < MESSAGES; n++) {
            char want[64];
            snprintf(want, sizeof(want),
                     "*3\r\n$7\r\nmessage\r\n$3\r\nall\r\n$4\r\nm%03d\r\n", n);
            gw_expect(fd[i], want);
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        close(fd[i]);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 0));
}
END_TEST

START_TEST(test_a_subscriber_that_does_not_read_is_cut)
{
    int slow = begin(_i, NULL, "--output-buffer 300000");
    int quick = gw_connect(&gateway), other = gw_connect(&gateway);
    gw_talk(slow, "SUBSCRIBE a\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    gw_talk(quick, "SUBSCRIBE a\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    char ask[10100];
    int n = snprintf(ask, sizeof(ask),
                     "*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n"
                     "$10000\r\n");
    memset(ask + n, 'm', 10000);
    memcpy(ask + n + 10000, "\r\n", 2);
    static char message[10100];
    bool cut = false;
    for (int i = 0; i < 500 && !cut; i++) {
        gw_send_bytes(other, ask, (size_t)n + 10002);
        gw_expect(other, ":1\r\n");
        gw_expect(quick, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$10000\r\n");
        gw_read_bytes(quick, message, 10002);
        cut = i % 20 == 19 && gw_counter(&gateway, "cut_output") == 1;
    }
    ck_assert(cut);
    ck_assert(gw_closes(slow));
    gw_talk(other, "PUBLISH a x\r\n", ":1\r\n");
    gw_expect(quick, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
}
END_TEST

/* A gap cannot be told, so the connection ends; and then it all works again. */
START_TEST(test_subscribers_are_cut_when_the_manager_dies)
{
    int fd = begin(_i, NULL, NULL), plain = gw_connect(&gateway);
    gw_talk(fd, "SUBSCRIBE a\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    gw_talk(plain, "PING\r\n", "+PONG\r\n");
    e2e_manager_kill(&manager);
    ck_assert(gw_closes(fd));
    close(fd);
    ck_assert(e2e_guardian_gone(&manager));
    e2e_manager_start(&manager, manager.channel, e2e_uri(&redis), NULL);
    fd = gw_connect(&gateway);
    gw_talk(fd, "SUBSCRIBE a\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    gw_talk(plain, "PUBLISH a x\r\n", ":1\r\n");
    gw_expect(fd, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
    ck_assert_uint_eq(gw_counter(&gateway, "cut_gap"), 1);
}
END_TEST

START_TEST(test_bounds_and_refusals_of_subscriptions)
{
    int fd = begin(_i, NULL, "--max-topics 2");
    gw_talk(fd, "SUBSCRIBE a b c\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
            "-MQREDIS too-big: 2 names are subscribed to: --max-topics\r\n");
    gw_talk(fd, "SUBSCRIBE\r\n",
            "-ERR wrong number of arguments for "
            "'subscribe' command\r\n");
    gw_talk(fd, "UNSUBSCRIBE a\r\n",
            "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n");
    gw_talk(fd, "SUBSCRIBE c\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:2\r\n");
    close(fd);
    ck_assert(UNTIL(gw_counter(&gateway, "topics") == 0));
    fd = gw_connect(&gateway);
    gw_talk(fd, "SUBSCRIBE d\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:1\r\n");
    close(fd);
}
END_TEST

static Suite *cli_suite(void)
{
    Suite *s = suite_create("gateway_cli");
    static const char *const names[] = {"programs", "subscriptions"};
    TCase *t[2];
    for (size_t i = 0; i < 2; i++) {
        t[i] = support_case(s, names[i], 60);
        tcase_add_checked_fixture(t[i], NULL, e2e_stop_all);
    }
    e2e_add(t[0], test_redis_cli);
    tcase_add_test(t[0], test_redis_cli_with_resp3);
    e2e_add(t[0], test_redis_cli_subscribes);
    e2e_add(t[0], test_redis_benchmark);
    e2e_add(t[1], test_subscriptions_of_resp2);
    tcase_add_test(t[1], test_subscriptions_of_resp3);
    e2e_add(t[1], test_many_subscribers_one_stream);
    e2e_add(t[1], test_a_subscriber_that_does_not_read_is_cut);
    e2e_add(t[1], test_subscribers_are_cut_when_the_manager_dies);
    e2e_add(t[1], test_bounds_and_refusals_of_subscriptions);
    return s;
}

int main(void)
{
    return support_run(cli_suite());
}
