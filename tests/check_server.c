/*
 * What clients of one server do to each other and to themselves: expiry,
 * blocking, subscriptions, passwords. What is answered is compared with
 * redis-server's answers in check_server_diff.
 */
#include "tests/server_stepped.h"

#include <stdlib.h>

#include "tests/support_run.h"

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
    TCase *t = support_case(suite, "server", 60);
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(t, tests[i]);
    return support_run(suite);
}
