/*
 * The server's limits: connections, memory, input, output; slow and hostile
 * clients cost themselves.
 */
#include "tests/server_stepped.h"

#include <sys/resource.h>

#include "tests/support_run.h"

/* ---- limits on connections ---- */

START_TEST(test_connection_over_maxclients_waits_in_the_backlog)
{
    options.max_clients = 3;
    start();
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial();
        ck_assert_str_eq(ask(fds[i], "PING\r\n"), "+PONG\r\n");
    }
    int late = dial(); /* the kernel has it, the server has not */
    ck_assert_str_eq(ask(late, "ECHO late\r\n"), "");
    ck_assert_uint_eq(s->client_count, 3);
    ck_assert_str_eq(ask(fds[1], "PING\r\n"), "+PONG\r\n");
    close(fds[0]);
    ck_assert_str_eq(hear(late), "$4\r\nlate\r\n");
    ck_assert_uint_eq(s->client_count, 3);
    ck_assert_uint_eq(s->stats.connections, 4);
}
END_TEST

START_TEST(test_ten_thousand_connections_come_and_go)
{
    start();
    int stays = dial();
    size_t used = 0;
    for (int i = 0; i < 10000; i++) {
        int fd = try_dial();
        ck_assert_int_ge(fd, 0);
        if (i % 3 == 0)
            say(fd, "PING\r\nSET k");
        close(fd);
        server_step(s, 0);
        if (i == 100) {
            steps();
            used = s->mem.used;
        }
        if (i % 500 == 0)
            ck_assert_str_eq(ask(stays, "PING\r\n"), "+PONG\r\n");
    }
    steps();
    ck_assert_uint_eq(s->client_count, 1);
    ck_assert_uint_le(s->mem.used, used);
    ck_assert_uint_eq(s->stats.connections, 10001);
}
END_TEST

/* No descriptors left: those who are connected go on, and whoever waits is
 * served when there are some again. */
START_TEST(test_failing_accept_backs_off_and_recovers)
{
    start();
    int good = dial();
    int late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    ck_assert_int_eq(connect(late, (struct sockaddr *)&a, sizeof(a)), 0);
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = (rlim_t)late + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    steps();
    ck_assert_uint_eq(s->stats.accept_failures, 1);
    int64_t pause = s->accept_backoff_ms;
    ck_assert_int_gt(pause, 0);
    ck_assert_str_eq(ask(good, "PING\r\n"), "+PONG\r\n");
    ck_assert(UNTIL((server_step(s, 5), s->stats.accept_failures >= 3)));
    ck_assert_int_eq(s->accept_backoff_ms >= 4 * pause, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    say(late, "PING\r\n");
    ck_assert(UNTIL((server_step(s, 5), s->client_count == 2)));
    ck_assert_str_eq(hear(late), "+PONG\r\n");
    ck_assert_int_eq(s->accept_backoff_ms, 0);
}
END_TEST

START_TEST(test_idle_connections_end_after_the_timeout)
{
    options.timeout_s = 1;
    start();
    int idle = dial(), subscriber = dial();
    ask(subscriber, "SUBSCRIBE a\r\n");
    ck_assert(UNTIL((server_step(s, 5), s->client_count == 1)));
    ck_assert_str_eq(hear(idle), "(closed)");
    ck_assert_str_eq(hear(subscriber), "");
}
END_TEST

/* ---- limits on memory ---- */

START_TEST(test_maxmemory_refuses_to_store_more)
{
    static const char full[] =
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    start();
    int fd = dial();
    char text[1100];
    s->options.max_memory = s->mem.used + 300000;
    int kept = 0;
    const char *got;
    do {
        int n = sprintf(text, "SET k%d ", kept++);
        memset(text + n, 'x', 1000);
        strcpy(text + n + 1000, "\r\n");
        got = ask(fd, text);
    } while (strcmp(got, "+OK\r\n") == 0 && kept < 400);
    ck_assert_str_eq(got, full);
    ck_assert_int_gt(kept, 200);
    ck_assert_str_eq(ask(fd, "GET nokey\r\nSTRLEN k0\r\n"), "$-1\r\n:1000\r\n");
    /* The end of a resize gives memory back: not here. */
    s->options.max_memory = s->mem.used - 1000;
    ck_assert_str_eq(ask(fd, "MULTI\r\nINCR n\r\nEXEC\r\n"),
                     "+OK\r\n-OOM command not allowed when used memory > "
                     "'maxmemory'.\r\n-EXECABORT Transaction discarded because "
                     "of previous errors.\r\n");
    ck_assert_str_eq(ask(fd, "DEL k0 k1 k2 k3\r\n"), ":4\r\n");
    steps();
    ck_assert_str_eq(ask(fd, "SET a 1\r\n"), "+OK\r\n");
}
END_TEST

START_TEST(test_announcing_a_huge_argument_takes_nothing)
{
    start();
    int other = dial();
    size_t used = s->mem.used;
    int fd = dial();
    ck_assert_str_eq(ask(fd, "*2\r\n$4\r\nECHO\r\n$536870912\r\nabc"), "");
    ck_assert_uint_lt(s->mem.used, used + 100000);
    ck_assert_str_eq(ask(other, "PING\r\n"), "+PONG\r\n");
    ck_assert_str_eq(ask(other, "*1\r\n$1073741824\r\n"),
                     "-ERR Protocol error: invalid bulk length\r\n");
    ck_assert_str_eq(hear(other), "(closed)");
}
END_TEST

START_TEST(test_query_buffer_over_its_limit_ends_the_client)
{
    static char part[65536];
    options.query_limit = 1 << 20;
    start();
    int other = dial(), fd = dial();
    say(fd, "*2\r\n$4\r\nECHO\r\n$400000000\r\n");
    memset(part, 'x', sizeof(part));
    for (int i = 0; i < 40; i++) {
        steps();
        if (send(fd, part, sizeof(part), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
            errno != EAGAIN)
            break;
    }
    ck_assert_str_eq(hear(fd), "(closed)");
    ck_assert_uint_eq(s->stats.query_limit_drops, 1);
    ck_assert_uint_lt(s->mem.used, 4 << 20);
    ck_assert_str_eq(ask(other, "PING\r\n"), "+PONG\r\n");
}
END_TEST

/* A subscriber that does not read is dropped and counted; the publisher and
 * another subscriber notice nothing. */
START_TEST(test_slow_subscriber_is_dropped)
{
    static char message[20000];
    options.pubsub_limit = (struct output_limit){.hard = 1 << 20};
    start();
    int slow = dial(), quick = dial(), publisher = dial();
    ask(slow, "SUBSCRIBE news\r\n");
    ask(quick, "SUBSCRIBE news\r\n");
    memset(message, 'x', sizeof(message));
    memcpy(message, "PUBLISH news ", 13);
    strcpy(message + 19000, "\r\n");
    bool dropped = false;
    for (int i = 0; i < 500 && !dropped; i++) {
        const char *receivers = ask(publisher, message);
        dropped = strcmp(receivers, ":1\r\n") == 0;
        ck_assert(dropped || strcmp(receivers, ":2\r\n") == 0);
        ck_assert_uint_gt(strlen(hear(quick)), 18900);
    }
    ck_assert(dropped);
    ck_assert_uint_eq(s->stats.output_limit_drops, 1);
    ck_assert_uint_lt(s->mem.used, 8 << 20);
    ck_assert_str_eq(ask(quick, "PING\r\n"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}
END_TEST

/* Not even for the time of one batch, or of one command. */
START_TEST(test_many_large_replies_stop_at_the_limit)
{
    options.normal_limit = (struct output_limit){.hard = 16 << 20};
    start();
    int fd = dial();
    ck_assert_str_eq(ask(fd, "SETRANGE k 4194303 x\r\n"), ":4194304\r\n");
    s->mem.peak = s->mem.used;
    char text[2000] = "";
    for (int i = 0; i < 100; i++)
        strcat(text, "GET k\r\n");
    if (_i == 1) {
        memmove(text + 7, text, strlen(text) + 1);
        memcpy(text, "MULTI\r\n", 7);
        strcat(text, "EXEC\r\n");
    }
    say(fd, text);
    steps();
    ck_assert_uint_eq(s->client_count, 0);
    ck_assert_uint_eq(s->stats.output_limit_drops, 1);
    ck_assert_uint_lt(s->mem.peak, 64 << 20);
    close(fd);
}
END_TEST

START_TEST(test_queued_commands_count_as_input)
{
    static char part[60000];
    options.query_limit = 1 << 20;
    start();
    int fd = dial();
    ask(fd, "MULTI\r\n");
    memset(part, 'x', sizeof(part));
    memcpy(part, "ECHO ", 5);
    strcpy(part + 59000, "\r\n");
    for (int i = 0; i < 15; i++)
        ck_assert_str_eq(ask(fd, part), "+QUEUED\r\n");
    for (int i = 0; i < 15 && s->client_count == 1; i++)
        ask(fd, part);
    ck_assert_uint_eq(s->client_count, 0);
    ck_assert_uint_eq(s->stats.query_limit_drops, 1);
}
END_TEST

START_TEST(test_soft_limit_gives_some_time)
{
    static char message[20000];
    options.pubsub_limit = (struct output_limit){.soft = 100000, .soft_s = 1};
    start();
    int slow = dial(), publisher = dial();
    ask(slow, "SUBSCRIBE news\r\n");
    memset(message, 'x', sizeof(message));
    memcpy(message, "PUBLISH news ", 13);
    strcpy(message + 19000, "\r\n");
    for (int i = 0; i < 50; i++)
        ck_assert_str_eq(ask(publisher, message), ":1\r\n");
    ck_assert_uint_eq(s->stats.output_limit_drops, 0);
    ck_assert(UNTIL((server_step(s, 5), s->stats.output_limit_drops == 1)));
}
END_TEST
int main(void)
{
    const TTest *const tests[] = {
        test_connection_over_maxclients_waits_in_the_backlog,
        test_ten_thousand_connections_come_and_go,
        test_failing_accept_backs_off_and_recovers,
        test_idle_connections_end_after_the_timeout,
        test_maxmemory_refuses_to_store_more,
        test_announcing_a_huge_argument_takes_nothing,
        test_query_buffer_over_its_limit_ends_the_client,
        test_slow_subscriber_is_dropped,
        test_queued_commands_count_as_input,
        test_soft_limit_gives_some_time,
    };
    Suite *suite = suite_create("server_limits");
    TCase *t = support_case(suite, "limits", 60);
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(t, tests[i]);
    tcase_add_loop_test(t, test_many_large_replies_stop_at_the_limit, 0, 2);
    return support_run(suite);
}
