/* Commands of mqredis-gateway that block: each holds up its own client, and
 * nobody else. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/gateway.h"
#include "tests/support.h"
#include "tests/support_run.h"

START_TEST(test_blocking_commands_block_one_client)
{
    int waits = gw_begin(_i, NULL, NULL), other = gw_connect(&gateway);
    /* What follows it is executed after it. */
    gw_send(waits, "INCR n\r\nBLPOP list 0\r\nINCR n\r\n");
    gw_expect(waits, ":1\r\n");
    ck_assert(gw_silent(waits, 50));
    gw_talk(other, "INCR n\r\n", ":2\r\n");
    gw_talk(other, "RPUSH list a\r\n", ":1\r\n");
    gw_expect(waits, "*2\r\n$4\r\nlist\r\n$1\r\na\r\n:3\r\n");
    gw_talk(waits, "BLPOP list 0.05\r\n", "*-1\r\n");
    close(waits);
    close(other);
}
END_TEST

/* Who left is not given what comes later. */
START_TEST(test_a_client_that_leaves_cancels_what_blocks)
{
    enum { CLIENTS = 10 };
    int fd[CLIENTS];
    fd[0] = gw_begin(_i, NULL, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        if (i > 0)
            fd[i] = gw_connect(&gateway);
        gw_send(fd[i], "BLPOP list 0\r\n");
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == CLIENTS));
    for (int i = 0; i < CLIENTS; i++) {
        if (i % 2 == 0)
            close(fd[i]);
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == CLIENTS / 2));
    ck_assert(UNTIL(gw_counter(&gateway, "cancelled") == CLIENTS / 2));
    ck_assert(UNTIL(gw_balanced(&gateway)));
    int other = gw_connect(&gateway);
    gw_talk(other, "RPUSH list a b c d e f\r\n", ":6\r\n");
    for (int i = 1; i < CLIENTS; i += 2)
        gw_expect(fd[i], "*2\r\n$4\r\nlist\r\n$1\r\n");
    gw_talk(other, "LLEN list\r\n", ":1\r\n");
}
END_TEST

/* It has said all and then waits: for what may never come, in vain; for the
 * rest of its answers, not. */
START_TEST(test_a_client_that_says_no_more)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_send(fd, "MULTI\r\nINCR n\r\nEXEC\r\nINCR n\r\n");
    shutdown(fd, SHUT_WR);
    gw_expect(fd, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n:2\r\n");
    ck_assert(gw_closes(fd));
    close(fd);
    fd = gw_connect(&gateway);
    gw_send(fd, "INCR n\r\nBLPOP list 0\r\n");
    shutdown(fd, SHUT_WR);
    gw_expect(fd, ":3\r\n");
    ck_assert(gw_closes(fd));
    close(fd);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 0));
    e2e_redis_ask(&redis, "RPUSH list x");
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), 1);
}
END_TEST

/* What stands behind a command that waits for its turn is not read. */
START_TEST(test_a_command_that_waits_holds_the_rest)
{
    enum { SIZE = 4000000 };
    int fd = gw_begin(_i, NULL, NULL);
    kill(redis.at.pid, SIGSTOP);
    gw_send(fd, "INCR n\r\nBLPOP list 0.01\r\n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    char *rest = malloc(SIZE);
    ck_assert_ptr_nonnull(rest);
    for (size_t i = 0; i < SIZE; i += 8)
        memcpy(rest + i, "DECR n\r\n", 8);
    size_t sent = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 300) == 0 || sent == SIZE)
            break;
        ssize_t n = send(fd, rest + sent, SIZE - sent, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
    }
    ck_assert_uint_lt(sent, SIZE);
    ck_assert_uint_lt(gw_counter(&gateway, "buffered_bytes"), 300000);
    kill(redis.at.pid, SIGCONT);
    gw_expect(fd, ":1\r\n*-1\r\n:0\r\n");
    free(rest);
}
END_TEST

/* More than one handle's usual window. */
START_TEST(test_many_blocked_do_not_hold_up_others)
{
    enum { CLIENTS = 100 };
    int fd[CLIENTS];
    fd[0] = gw_begin(_i, "--dedicated-connections 128", NULL);
    for (int i = 0; i < CLIENTS; i++) {
        if (i > 0)
            fd[i] = gw_connect(&gateway);
        gw_send(fd[i], "BLPOP list 0\r\n");
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == CLIENTS));
    int other = gw_connect(&gateway);
    gw_talk(other, "PING\r\n", "+PONG\r\n");
    for (int i = 0; i < CLIENTS; i++)
        gw_send(other, "RPUSH list x\r\n");
    for (int i = 0; i < CLIENTS; i++)
        gw_expect(fd[i], "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gateway_blocking");
    TCase *t = support_case(s, "blocking", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_blocking_commands_block_one_client);
    e2e_add(t, test_a_client_that_leaves_cancels_what_blocks);
    e2e_add(t, test_a_client_that_says_no_more);
    e2e_add(t, test_a_command_that_waits_holds_the_rest);
    e2e_add(t, test_many_blocked_do_not_hold_up_others);
    return s;
}

int main(void)
{
    return support_run(suite());
}
