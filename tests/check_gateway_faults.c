/* mqredis-gateway when something dies, stands still or is too much. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/gateway.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- the other side of the channel ---- */

START_TEST(test_without_a_manager_and_with_one_again)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "SET k 1\r\n", "+OK\r\n");
    e2e_manager_kill(&manager);
    ck_assert(e2e_guardian_gone(&manager));
    gw_talk(fd, "GET k\r\nCLIENT GETNAME\r\n", "-MQREDIS unavailable: ");
    gw_read_until(fd, "$-1\r\n");
    gw_talk(fd, "MULTI\r\nGET k\r\nEXEC\r\n",
            "+OK\r\n+QUEUED\r\n-MQREDIS unavailable: ");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "SUBSCRIBE x\r\n", "-MQREDIS unavailable: ");
    gw_read_until(fd, "\r\n");
    e2e_manager_start(&manager, manager.channel, e2e_uri(&redis), NULL);
    gw_talk(fd, "GET k\r\n", "$1\r\n1\r\n");
    gw_talk(fd, "BLPOP none 0.01\r\n", "*-1\r\n");
    close(fd);
}
END_TEST

/* Commands in flight when the manager is killed: each is answered, with an
 * error that says what is known. */
START_TEST(test_manager_killed_under_load)
{
    enum { CLIENTS = 8, COMMANDS = 400 };
    int fd[CLIENTS];
    fd[0] = gw_begin(_i, NULL, NULL);
    for (int i = 1; i < CLIENTS; i++)
        fd[i] = gw_connect(&gateway);
    kill(redis.at.pid, SIGSTOP);
    for (int i = 0; i < CLIENTS; i++) {
        for (int n = 0; n < COMMANDS; n++)
            gw_send(fd[i], "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) > 0));
    e2e_manager_kill(&manager);
    size_t lost = 0, unavailable = 0;
    for (int i = 0; i < CLIENTS; i++) {
        FILE *in = fdopen(dup(fd[i]), "r");
        ck_assert_ptr_nonnull(in);
        for (int n = 0; n < COMMANDS; n++) {
            char line[2048];
            ck_assert_msg(fgets(line, sizeof(line), in) != NULL,
                          "client %d: closed after %d answers", i, n);
            lost += strncmp(line, "-MQREDIS lost: ", 15) == 0;
            unavailable += strncmp(line, "-MQREDIS unavailable: ", 22) == 0;
        }
        fclose(in);
    }
    ck_assert_uint_eq(lost + unavailable, CLIENTS * COMMANDS);
    ck_assert_uint_gt(lost, 0);
    kill(redis.at.pid, SIGCONT);
    ck_assert(e2e_guardian_gone(&manager));
    e2e_manager_start(&manager, manager.channel, e2e_uri(&redis), NULL);
    for (int i = 0; i < CLIENTS; i++)
        gw_talk(fd[i], "PING\r\n", "+PONG\r\n");
    ck_assert(UNTIL(gw_counter(&gateway, "inflight") == 0));
    ck_assert_uint_eq(gw_counter(&gateway, "failed"), CLIENTS * COMMANDS);
    ck_assert(UNTIL(gw_balanced(&gateway)));
}
END_TEST

START_TEST(test_a_takeover_fails_nothing)
{
    int fd = gw_begin(_i, NULL, NULL);
    struct e2e_manager next;
    char want[32];
    int n = 0;
    for (; n < 50; n++) {
        snprintf(want, sizeof(want), ":%d\r\n", n + 1);
        gw_talk(fd, "INCR n\r\n", want);
    }
    e2e_manager_launch(&next, manager.channel, e2e_uri(&redis), "--takeover");
    for (; n < 500; n++) {
        snprintf(want, sizeof(want), ":%d\r\n", n + 1);
        gw_talk(fd, "INCR n\r\n", want);
    }
    ck_assert_int_eq(support_join(manager.pid), 0);
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    close(fd);
}
END_TEST

/* While nobody takes from the queue, clients are not read; then all is
 * answered, in order. */
START_TEST(test_a_full_channel_stops_reading)
{
    enum { COMMANDS = 60000 };
    int fd = gw_begin(_i, "--msgsize 1024",
                      "--client-inflight 100000 "
                      "--max-inflight 100000");
    static const char one[] = "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
    size_t size = sizeof(one) - 1;
    char *ask = malloc(COMMANDS * size);
    ck_assert_ptr_nonnull(ask);
    for (size_t i = 0; i < COMMANDS; i++)
        memcpy(ask + i * size, one, size);
    kill(manager.pid, SIGSTOP);
    /* What the gateway does not read fills the socket. */
    size_t sent = 0;
    while (sent < COMMANDS * size) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 1500) == 0)
            break;
        ssize_t n = send(fd, ask + sent, COMMANDS * size - sent, MSG_DONTWAIT);
        ck_assert_msg(n > 0 || errno == EAGAIN, "%s", strerror(errno));
        sent += n > 0 ? (size_t)n : 0;
    }
    ck_assert_uint_lt(sent, COMMANDS * size);
    ck_assert(gw_silent(fd, 0));
    kill(manager.pid, SIGCONT);
    size_t whole = sent / size, got = 0;
    char *answer = malloc(COMMANDS * 10), *want = malloc(COMMANDS * 10);
    ck_assert(answer != NULL && want != NULL);
    for (size_t i = 1; i <= whole; i++)
        got += (size_t)sprintf(want + got, ":%zu\r\n", i);
    gw_read_bytes(fd, answer, got);
    ck_assert(memcmp(answer, want, got) == 0);
    ck_assert_uint_gt(gw_counter(&gateway, "pauses"), 0);
    free(ask);
    free(answer);
    free(want);
}
END_TEST

START_TEST(test_out_of_time)
{
    int fd = gw_begin(_i, NULL, "--timeout 1500");
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    kill(redis.at.pid, SIGSTOP);
    gw_talk(fd, "INCR n\r\n", "-MQREDIS lost: ");
    gw_read_until(fd, "\r\n");
    kill(redis.at.pid, SIGCONT);
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    close(fd);
}
END_TEST

/* ---- clients ---- */

START_TEST(test_five_hundred_connections)
{
    enum { CLIENTS = 500, ROUNDS = 3 };
    static int fd[CLIENTS];
    fd[0] = gw_begin(_i, NULL, NULL);
    for (int i = 1; i < CLIENTS; i++)
        fd[i] = gw_connect(&gateway);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            char ask[200];
            snprintf(
                ask, sizeof(ask),
                "SET k%d v%d-%d\r\nGET k%d\r\nMULTI\r\nGET k%d\r\nEXEC\r\n", i,
                i, round, i, i);
            gw_send(fd[i], ask);
        }
        for (int i = CLIENTS - 1; i >= 0; i--) {
            char value[64], want[200];
            snprintf(value, sizeof(value), "v%d-%d", i, round);
            snprintf(want, sizeof(want),
                     "+OK\r\n$%zu\r\n%s\r\n+OK\r\n+QUEUED\r\n*1\r\n$%zu\r\n"
                     "%s\r\n",
                     strlen(value), value, strlen(value), value);
            gw_expect(fd[i], want);
        }
    }
    ck_assert(UNTIL(gw_counter(&gateway, "clients") == CLIENTS + 1));
    for (int i = 0; i < CLIENTS; i++)
        close(fd[i]);
    ck_assert(UNTIL(gw_counter(&gateway, "clients") == 1));
    ck_assert(UNTIL(gw_counter(&gateway, "buffered_bytes") == 0));
    if (_i == E2E_REDIS) {
        /* One connection for all of them, at Redis. */
        const char *list = e2e_redis_ask(&redis, "INFO clients");
        ck_assert_msg(strstr(list, "connected_clients:") != NULL, "%s", list);
        int at_redis = atoi(strstr(list, "connected_clients:") + 18);
        ck_assert_int_le(at_redis, 4);
    }
}
END_TEST

/* Clients that are killed at any moment, whatever they were doing. */
START_TEST(test_clients_that_vanish)
{
    enum { ROUNDS = 40, CLIENTS = 12 };
    static const char *const asks[] = {
        "INCR n\r\nINCR n\r\nINCR n\r\n",
        "MULTI\r\nINCR n\r\nEXEC\r\n",
        "MULTI\r\nINCR n\r\n",
        "SUBSCRIBE a b\r\nUNSUBSCRIBE a\r\n",
        "PSUBSCRIBE *\r\n",
        "BLPOP list 0\r\nINCR n\r\n",
        "INCR n\r\nBRPOP list 0\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$90000\r\npart",
        "LRANGE l 0 -1\r\nLRANGE l 0 -1\r\nPUBLISH a x\r\n",
        "HELLO 2\r\nCLIENT SETNAME x\r\nPING\r\n",
    };
    enum { ASKS = sizeof(asks) / sizeof(asks[0]) };
    int steady = gw_begin(_i, NULL, NULL);
    for (int i = 0; i < 200; i++)
        gw_send(steady, "RPUSH l 0123456789\r\n");
    gw_read_until(steady, ":200\r\n");
    for (int round = 0; round < ROUNDS; round++) {
        int fd[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) {
            fd[i] = gw_connect(&gateway);
            gw_send(fd[i], asks[(round * 7 + i) % ASKS]);
        }
        if (round % 3 == 0)
            gw_talk(steady, "PING\r\n", "+PONG\r\n");
        for (int i = 0; i < CLIENTS; i++)
            close(fd[i]);
    }
    ck_assert(UNTIL(gw_counter(&gateway, "clients") == 2));
    ck_assert(UNTIL(gw_counter(&gateway, "inflight") == 0));
    ck_assert(UNTIL(gw_counter(&gateway, "topics") == 0));
    ck_assert(UNTIL(gw_counter(&gateway, "buffered_bytes") == 0));
    ck_assert(UNTIL(gw_balanced(&gateway)));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    gw_talk(steady, "PING\r\n", "+PONG\r\n");
    ck_assert_int_eq(gw_stop(&gateway), 0);
}
END_TEST

START_TEST(test_one_client_too_many)
{
    int first = gw_begin(_i, NULL, "--max-clients 2");
    int second = gw_connect(&gateway);
    gw_talk(second, "PING\r\n", "+PONG\r\n");
    int third = gw_connect(&gateway);
    gw_expect(third, "-ERR max number of clients reached\r\n");
    ck_assert(gw_closes(third));
    close(third);
    close(second);
    /* When one has left, another may come. */
    bool in = false;
    for (int i = 0; !in && i < 200; i++) {
        int fd = gw_connect(&gateway);
        char answer[8] = "";
        ck_assert_int_gt(
            (int)send(fd, "PING\r\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT), -2);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)support_wait_ms()) > 0 &&
            recv(fd, answer, 5, 0) == 5)
            in = memcmp(answer, "+PONG", 5) == 0;
        close(fd);
        if (!in)
            support_sleep_ms(10);
    }
    ck_assert(in);
    close(first);
}
END_TEST

/* Somebody asks for much and does not read: nobody else waits, and memory
 * stays within its bound. */
START_TEST(test_a_slow_reader_is_not_read)
{
    enum { SIZE = 100000, COMMANDS = 3000 };
    int slow = gw_begin(_i, NULL, "--output-pause 262144 --client-inflight 20");
    int quick = gw_connect(&gateway);
    char *value = malloc(SIZE + 1);
    ck_assert_ptr_nonnull(value);
    memset(value, 'v', SIZE);
    value[SIZE] = '\0';
    gw_send(quick, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n");
    gw_send(quick, value);
    gw_talk(quick, "\r\n", "+OK\r\n");
    /* At once: many small sends would fill the socket by their number. */
    static char ask[COMMANDS * 7 + 1];
    for (int i = 0; i < COMMANDS; i++)
        memcpy(ask + (size_t)i * 7, "GET k\r\n", 7);
    gw_send(slow, ask);
    for (int i = 0; i < 200; i++)
        gw_talk(quick, "PING\r\n", "+PONG\r\n");
    ck_assert_uint_lt(gw_counter(&gateway, "buffered_bytes"), 12 << 20);
    /* Late, but all of it, in order. */
    char *got = malloc(SIZE);
    ck_assert_ptr_nonnull(got);
    for (int i = 0; i < COMMANDS / 10; i++) {
        gw_expect(slow, "$100000\r\n");
        gw_read_bytes(slow, got, SIZE);
        ck_assert(memcmp(got, value, SIZE) == 0);
        gw_expect(slow, "\r\n");
    }
    ck_assert_uint_eq(gw_counter(&gateway, "cut_output"), 0);
    free(got);
    free(value);
    close(slow);
    ck_assert(UNTIL(gw_counter(&gateway, "clients") == 2));
    ck_assert(UNTIL(gw_counter(&gateway, "inflight") == 0));
}
END_TEST

START_TEST(test_bounds_of_buffers)
{
    int fd = gw_begin(_i, NULL, "--query-buffer 20000");
    /* A command too long. */
    gw_send(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n");
    char part[10000];
    memset(part, 'x', sizeof(part));
    for (int i = 0; i < 10; i++) {
        if (send(fd, part, sizeof(part), MSG_NOSIGNAL) < 0)
            break;
    }
    ck_assert(gw_closes(fd));
    close(fd);
    ck_assert(UNTIL(gw_counter(&gateway, "cut_query") == 1));
    /* A transaction too long. */
    fd = gw_connect(&gateway);
    gw_talk(fd, "MULTI\r\n", "+OK\r\n");
    for (int i = 0; i < 3; i++) {
        gw_send(fd, "*3\r\n$3\r\nSET\r\n$1\r\nt\r\n$10000\r\n");
        gw_send_bytes(fd, part, sizeof(part));
        gw_talk(fd, "\r\n", i == 0 ? "+QUEUED\r\n" : i == 1 ? "-ERR" : "+QUE");
        if (i > 0)
            gw_read_until(fd, "\r\n");
    }
    gw_talk(fd, "EXEC\r\nEXISTS t\r\n", "-EXECABORT");
    gw_read_until(fd, ":0\r\n");
    close(fd);
}
END_TEST

/* What one client asks for at once and does not read is bounded by what all may
 * have together. */
START_TEST(test_replies_that_nobody_reads)
{
    enum { COMMANDS = SUPPORT_SANITIZED ? 200 : 600 };
    /* The gateway is no slow reader itself, however busy the machine is. */
    int slow = gw_begin(_i, "--reader-backlog 64m --stall-timeout 60000",
                        "--buffers-total 8m"),
        quick = gw_connect(&gateway);
    static char ask[COMMANDS * 7 + 1];
    for (int i = 0; i < COMMANDS; i++)
        memcpy(ask + (size_t)i * 7, "GET k\r\n", 7);
    gw_talk(quick, "SETRANGE k 99999 x\r\n", ":100000\r\n");
    gw_send(slow, ask);
    ck_assert(UNTIL(gw_counter(&gateway, "cut_total") == 1));
    ck_assert(gw_closes(slow));
    gw_talk(quick, "PING\r\n", "+PONG\r\n");
    ck_assert(UNTIL(gw_counter(&gateway, "buffered_bytes") == 0));
    ck_assert(UNTIL(gw_counter(&gateway, "inflight") == 0));
}
END_TEST

START_TEST(test_all_buffers_together)
{
    enum { CLIENTS = 20 };
    int fd[CLIENTS];
    fd[0] = gw_begin(E2E_MQREDIS, NULL, "--buffers-total 1000000");
    char part[60000];
    memset(part, 'x', sizeof(part));
    for (int i = 0; i < CLIENTS; i++) {
        if (i > 0)
            fd[i] = gw_connect(&gateway);
        gw_send(fd[i], "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n");
        if (send(fd[i], part, sizeof(part), MSG_NOSIGNAL) < 0)
            ck_assert_int_eq(errno, EPIPE);
    }
    ck_assert(UNTIL(gw_counter(&gateway, "cut_total") > 0));
    ck_assert_uint_lt(gw_counter(&gateway, "buffered_bytes"), 1100000);
    for (int i = 0; i < CLIENTS; i++)
        close(fd[i]);
    ck_assert(UNTIL(gw_counter(&gateway, "clients") == 1));
    ck_assert(UNTIL(gw_counter(&gateway, "buffered_bytes") == 0));
}
END_TEST

/* ---- the end ---- */

START_TEST(test_sigterm_answers_what_is_in_flight)
{
    int fd = gw_begin(_i, NULL, NULL), blocked = gw_connect(&gateway);
    int idle = gw_connect(&gateway);
    gw_talk(idle, "PING\r\n", "+PONG\r\n");
    gw_send(blocked, "BLPOP none 0\r\n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    kill(redis.at.pid, SIGSTOP);
    gw_send(fd, "INCR n\r\nINCR n\r\n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 3));
    kill(gateway.pid, SIGTERM);
    ck_assert(gw_closes(idle));
    ck_assert(gw_closes(blocked));
    ck_assert(UNTIL(access(gateway.path, F_OK) != 0));
    kill(redis.at.pid, SIGCONT);
    gw_expect(fd, ":1\r\n:2\r\n");
    ck_assert(gw_closes(fd));
    ck_assert_int_eq(support_join(gateway.pid), 0);
    ck_assert_ptr_nonnull(strstr(gw_log(&gateway), "connections=3 "));
    char lock[128];
    snprintf(lock, sizeof(lock), "%s.lock", gateway.path);
    ck_assert_int_ne(access(lock, F_OK), 0);
}
END_TEST

START_TEST(test_the_drain_has_an_end)
{
    int fd = gw_begin(_i, NULL, "--drain-timeout 200");
    kill(redis.at.pid, SIGSTOP);
    gw_send(fd, "INCR n\r\n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    uint64_t before = clock_ns();
    ck_assert_int_eq(gw_stop(&gateway), 0);
    ck_assert_uint_ge(clock_ns() - before, 190 * NS_PER_MS);
    kill(redis.at.pid, SIGCONT);
    close(fd);
}
END_TEST

START_TEST(test_a_dead_ones_socket_is_replaced_a_living_ones_never)
{
    int fd = gw_begin(_i, NULL, NULL);
    struct gateway_process second = gateway;
    snprintf(second.log, sizeof(second.log), "%s.2.log", gateway.path);
    gw_launch(&second, manager.channel, NULL);
    ck_assert_int_eq(support_join(second.pid), 75);
    ck_assert_ptr_nonnull(
        strstr(gw_log(&second), "another gateway listens on"));
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    support_kill(gateway.pid);
    ck_assert(gw_closes(fd));
    ck_assert_int_eq(access(gateway.path, F_OK), 0);
    gw_launch(&second, manager.channel, NULL);
    ck_assert_msg(gw_listens(&second), "%s", gw_log(&second));
    fd = gw_connect(&second);
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    /* Another program's socket is left alone, though nobody has the lock. */
    struct gateway_process third = second;
    snprintf(third.path, sizeof(third.path), "%s", redis.at.path);
    gw_launch(&third, manager.channel, NULL);
    ck_assert_int_eq(support_join(third.pid), 75);
    ck_assert_ptr_nonnull(strstr(gw_log(&third), "another program listens"));
    ck_assert_str_eq(e2e_redis_ask(&redis, "PING"), "+PONG\r\n");
}
END_TEST

START_TEST(test_sigusr1_prints_the_counters)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    kill(gateway.pid, SIGUSR1);
    ck_assert(UNTIL(strstr(gw_log(&gateway), "commands=1 ") != NULL));
    close(fd);
}
END_TEST

static Suite *faults_suite(void)
{
    Suite *s = suite_create("gateway_faults");
    static const char *const names[] = {"channel", "clients", "end"};
    TCase *t[3];
    for (size_t i = 0; i < 3; i++) {
        t[i] = support_case(s, names[i], 60);
        tcase_add_checked_fixture(t[i], NULL, e2e_stop_all);
    }
    e2e_add(t[0], test_without_a_manager_and_with_one_again);
    e2e_add(t[0], test_manager_killed_under_load);
    e2e_add(t[0], test_a_takeover_fails_nothing);
    e2e_add(t[0], test_a_full_channel_stops_reading);
    e2e_add(t[0], test_out_of_time);
    e2e_add(t[1], test_five_hundred_connections);
    e2e_add(t[1], test_clients_that_vanish);
    e2e_add(t[1], test_one_client_too_many);
    e2e_add(t[1], test_a_slow_reader_is_not_read);
    e2e_add(t[1], test_bounds_of_buffers);
    e2e_add(t[1], test_replies_that_nobody_reads);
    tcase_add_test(t[1], test_all_buffers_together);
    e2e_add(t[2], test_sigterm_answers_what_is_in_flight);
    e2e_add(t[2], test_the_drain_has_an_end);
    e2e_add(t[2], test_a_dead_ones_socket_is_replaced_a_living_ones_never);
    e2e_add(t[2], test_sigusr1_prints_the_counters);
    return s;
}

int main(void)
{
    return support_run(faults_suite());
}
