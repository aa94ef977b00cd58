/*
 * The server, in this process and stepped by hand: limits, expiry, blocking,
 * slow and hostile clients. What it answers is compared with redis-server's
 * answers in check_server_diff.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/client.h"
#include "server/server.h"
#include "tests/support.h"

static struct options options;
static struct server *s;
static char path[108];

/* ---- helpers ---- */

static void setup(void)
{
    options_defaults(&options);
    snprintf(path, sizeof(path), "%s/s.sock", support_scratch());
    options.unix_socket = path;
}

static void start(void)
{
    struct err_text why;
    ck_assert_msg(server_new(&s, &options, &why) == ERR_OK, "%s", why.text);
}

static void teardown(void)
{
    server_free(s);
    s = NULL;
}

static int try_dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    strcpy(a.sun_path, path);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void steps(void)
{
    for (int i = 0; i < 4; i++)
        server_step(s, 0);
}

static int dial(void)
{
    int fd = try_dial();
    ck_assert_int_ge(fd, 0);
    steps();
    return fd;
}

static void say(int fd, const char *text)
{
    size_t len = strlen(text);
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* What has come, without waiting: "(closed)" at the end of the connection. */
static const char *hear(int fd)
{
    static char text[65536];
    steps();
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return "(closed)";
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static const char *ask(int fd, const char *text)
{
    say(fd, text);
    return hear(fd);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

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

/* ---- expiry ---- */

START_TEST(test_key_is_never_alive_after_its_time)
{
    start();
    int fd = dial();
    char text[100];
    for (int i = 0; i < 20; i++) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        long long at = (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000 + 5;
        snprintf(text, sizeof(text), "SET k v PXAT %lld\r\n", at);
        ck_assert_str_eq(ask(fd, text), "+OK\r\n");
        const char *got;
        long long before;
        do {
            clock_gettime(CLOCK_REALTIME, &t);
            before = (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
            got = ask(fd, "GET k\r\n");
            ck_assert_msg(before <= at || strcmp(got, "$-1\r\n") == 0,
                          "alive %lld ms after its time", before - at);
        } while (strcmp(got, "$-1\r\n") != 0);
    }
}
END_TEST

START_TEST(test_expired_keys_go_without_being_asked_for)
{
    start();
    int fd = dial();
    char text[100];
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof(text), "SET k%d v PX %d\r\n", i, 1 + i % 100);
        ask(fd, text);
    }
    ask(fd, "SET stays v EX 1000\r\nSET too v\r\n");
    ck_assert(UNTIL((server_step(s, 5), s->dbs[0].keys.count == 2)));
    ck_assert_uint_eq(s->dbs[0].deadlines.count, 1);
    ck_assert_uint_eq(s->stats.expired, 300);
}
END_TEST

/* The cycle stops when its time is over, and goes on in the next one. */
START_TEST(test_expiry_takes_a_bounded_share_of_time)
{
    start();
    struct db *db = &s->dbs[0];
    char key[20];
    for (int i = 0; i < 100000; i++) {
        struct arg a = {{.data = key}, (size_t)sprintf(key, "%d", i)};
        db_set_deadline(db, db_set_string(db, &a, "v", 1, false), 1);
    }
    ck_assert(!db_expire_cycle(db, 200));
    ck_assert_uint_gt(db->keys.count, 0);
    ck_assert_uint_lt(db->keys.count, 100000);
    while (!db_expire_cycle(db, 2000))
        ;
    ck_assert_uint_eq(db->keys.count, 0);
}
END_TEST

/* ---- blocking ---- */

START_TEST(test_blocked_clients_are_served_in_order)
{
    start();
    int a = dial(), b = dial(), c = dial(), pusher = dial();
    ck_assert_str_eq(ask(a, "BLPOP l m 0\r\n"), "");
    ck_assert_str_eq(ask(b, "BRPOP m l 0\r\n"), "");
    ck_assert_str_eq(ask(c, "BLMOVE l t LEFT RIGHT 0\r\nPING\r\n"), "");
    ck_assert_uint_eq(s->blocked_count, 3);
    ck_assert_str_eq(ask(pusher, "RPUSH l 1 2 3 4\r\n"), ":4\r\n");
    ck_assert_str_eq(hear(a), "*2\r\n$1\r\nl\r\n$1\r\n1\r\n");
    ck_assert_str_eq(hear(b), "*2\r\n$1\r\nl\r\n$1\r\n4\r\n");
    ck_assert_str_eq(hear(c), "$1\r\n2\r\n+PONG\r\n");
    ck_assert_str_eq(ask(pusher, "LRANGE l 0 -1\r\nLRANGE t 0 -1\r\n"),
                     "*1\r\n$1\r\n3\r\n*1\r\n$1\r\n2\r\n");
    ck_assert_uint_eq(s->blocked_count, 0);
}
END_TEST

START_TEST(test_client_that_leaves_while_blocked_loses_nothing)
{
    start();
    int a = dial(), b = dial(), pusher = dial();
    ask(a, "BLPOP l 0\r\n");
    ask(b, "BLPOP l 0\r\n");
    close(a);
    steps();
    ck_assert_uint_eq(s->blocked_count, 1);
    ask(pusher, "RPUSH l 1\r\n");
    ck_assert_str_eq(hear(b), "*2\r\n$1\r\nl\r\n$1\r\n1\r\n");
}
END_TEST

START_TEST(test_blocking_ends_after_its_timeout)
{
    start();
    int fd = dial();
    double before = now_s();
    ck_assert_str_eq(ask(fd, "BLPOP l 0.2\r\nECHO after\r\n"), "");
    ck_assert(UNTIL((server_step(s, 1000), s->blocked_count == 0)));
    ck_assert_msg(now_s() - before >= 0.199, "after %f s", now_s() - before);
    ck_assert_str_eq(hear(fd), "*-1\r\n$5\r\nafter\r\n");
}
END_TEST

/* A key that is named many times is waited for once, and quickly. */
START_TEST(test_many_and_repeated_keys)
{
    enum { KEYS = 200000 };
    start();
    int fd = dial(), pusher = dial();
    struct client *c = s->clients.first;
    char *text = malloc(KEYS * 16);
    ck_assert_ptr_nonnull(text);
    for (int watch = 0; watch < 2; watch++) {
        int n = sprintf(text, "*%d\r\n$5\r\n%s\r\n", KEYS + 1 + !watch,
                        watch ? "WATCH" : "BLPOP");
        for (int i = 0; i < KEYS; i++)
            n += sprintf(text + n, "$5\r\n%05d\r\n", i % (KEYS / 2));
        if (!watch)
            n += sprintf(text + n, "$1\r\n0\r\n");
        double before = now_s();
        client_feed(s, c, text, (size_t)n);
        ck_assert_msg(now_s() - before < 20, "%f s", now_s() - before);
        if (!watch) {
            ck_assert_uint_eq(s->dbs[0].awaited.count, KEYS / 2);
            ask(pusher, "RPUSH 00042 x\r\n");
            ck_assert_str_eq(hear(fd), "*2\r\n$5\r\n00042\r\n$1\r\nx\r\n");
            ck_assert_uint_eq(s->dbs[0].awaited.count, 0);
        }
    }
    ck_assert_str_eq(hear(fd), "+OK\r\n");
    ck_assert_uint_eq(s->dbs[0].watched.count, KEYS / 2);
    ask(pusher, "SET 00042 x\r\n");
    ck_assert_str_eq(ask(fd, "MULTI\r\nEXEC\r\n"), "+OK\r\n*-1\r\n");
    ck_assert_uint_eq(s->dbs[0].watched.count, 0);
    free(text);
}
END_TEST

START_TEST(test_many_subscriptions_end_quickly)
{
    enum { CHANNELS = 200000 };
    start();
    struct client *c = client_new(s, -1, false);
    char text[64];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < CHANNELS; i++) {
            int n = sprintf(text, "SUBSCRIBE channel:%d\r\n", i);
            client_feed(s, c, text, (size_t)n);
            buffer_consume(&c->out, buffer_len(&c->out));
        }
        ck_assert_uint_eq(s->channels.count, CHANNELS);
        double before = now_s();
        if (round == 0)
            client_feed(s, c, "UNSUBSCRIBE\r\n", 13);
        else
            client_close(s, c);
        ck_assert_msg(now_s() - before < 20, "%f s", now_s() - before);
        ck_assert_uint_eq(s->channels.count, 0);
        ck_assert_uint_eq(c->channels.count, 0);
    }
    steps();
}
END_TEST

/* A chain: each one that is served feeds the next. */
START_TEST(test_moves_wake_each_other)
{
    start();
    int fds[5];
    char text[64];
    for (int i = 0; i < 5; i++) {
        fds[i] = dial();
        snprintf(text, sizeof(text), "BLMOVE l%d l%d LEFT LEFT 0\r\n", i,
                 i + 1);
        ck_assert_str_eq(ask(fds[i], text), "");
    }
    int pusher = dial();
    ask(pusher, "LPUSH l0 x\r\n");
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(hear(fds[i]), "$1\r\nx\r\n");
    ck_assert_str_eq(ask(pusher, "LRANGE l5 0 -1\r\nDBSIZE\r\n"),
                     "*1\r\n$1\r\nx\r\n:1\r\n");
}
END_TEST

/* ---- passwords ---- */

START_TEST(test_requirepass)
{
    strcpy(options.password, "secret");
    options.password_len = 6;
    start();
    int fd = dial();
    ck_assert_str_eq(ask(fd, "GET k\r\n"),
                     "-NOAUTH Authentication required.\r\n");
    ck_assert_str_eq(ask(fd, "AUTH wrong\r\n"),
                     "-WRONGPASS invalid username-password pair or user is "
                     "disabled.\r\n");
    ck_assert_str_eq(
        ask(fd, "AUTH secret2\r\nAUTH secre\r\n"),
        "-WRONGPASS invalid username-password pair or user is "
        "disabled.\r\n-WRONGPASS invalid username-password pair or "
        "user is disabled.\r\n");
    ck_assert_str_eq(ask(fd, "AUTH secret\r\nGET k\r\n"), "+OK\r\n$-1\r\n");
    ck_assert_str_eq(ask(fd, "RESET\r\nGET k\r\n"),
                     "+RESET\r\n-NOAUTH Authentication required.\r\n");
    int other = dial();
    ck_assert_ptr_nonnull(
        strstr(ask(other, "HELLO 3 AUTH default secret\r\n"), "standalone"));
    /* Strangers may not even send much. */
    int stranger = dial();
    ck_assert_str_eq(ask(stranger, "*11\r\n"),
                     "-ERR Protocol error: unauthenticated multibulk "
                     "length\r\n");
    stranger = dial();
    ck_assert_str_eq(ask(stranger, "*1\r\n$16385\r\n"),
                     "-ERR Protocol error: unauthenticated bulk length\r\n");
}
END_TEST

/* ---- more than one ---- */

START_TEST(test_two_servers_live_in_one_process)
{
    struct options second;
    struct server *t;
    start();
    int a = dial();
    options_defaults(&second);
    snprintf(path, sizeof(path), "%s/second.sock", support_scratch());
    second.unix_socket = path;
    ck_assert_int_eq(server_new(&t, &second, NULL), ERR_OK);
    struct client *c = client_new(t, -1, false);
    client_feed(t, c, "SET k theirs\r\n", 14);
    ck_assert_str_eq(ask(a, "SET k ours\r\nGET k\r\n"),
                     "+OK\r\n$4\r\nours\r\n");
    client_feed(t, c, "GET k\r\n", 7);
    ck_assert(memcmp(buffer_head(&c->out), "+OK\r\n$6\r\ntheirs\r\n", 17) == 0);
    server_free(t);
    ck_assert_str_eq(ask(a, "GET k\r\n"), "$4\r\nours\r\n");
    snprintf(path, sizeof(path), "%s/s.sock", support_scratch());
}
END_TEST

START_TEST(test_killed_clients_are_gone_at_once)
{
    start();
    int a = dial(), b = dial();
    ask(a, "SUBSCRIBE x\r\n");
    ck_assert_str_eq(ask(b, "CLIENT KILL TYPE pubsub\r\n"), ":1\r\n");
    ck_assert_str_eq(hear(a), "(closed)");
    ck_assert_str_eq(ask(b, "PUBLISH x y\r\n"), ":0\r\n");
    ck_assert_str_eq(ask(b, "CLIENT KILL TYPE normal SKIPME no\r\n"), ":1\r\n");
    ck_assert_str_eq(hear(b), "(closed)");
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
        test_key_is_never_alive_after_its_time,
        test_expired_keys_go_without_being_asked_for,
        test_expiry_takes_a_bounded_share_of_time,
        test_blocked_clients_are_served_in_order,
        test_client_that_leaves_while_blocked_loses_nothing,
        test_blocking_ends_after_its_timeout,
        test_many_and_repeated_keys,
        test_many_subscriptions_end_quickly,
        test_moves_wake_each_other,
        test_requirepass,
        test_two_servers_live_in_one_process,
        test_killed_clients_are_gone_at_once,
    };
    Suite *suite = suite_create("server");
    TCase *t = tcase_create("server");
    tcase_add_unchecked_fixture(t, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(t, tests[i]);
    tcase_add_loop_test(t, test_many_large_replies_stop_at_the_limit, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
