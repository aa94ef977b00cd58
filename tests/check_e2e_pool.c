/* What one connection is shared by: commands that block, batches and
 * transactions of many workers at once, workers that are killed by the
 * hundreds, and everything that has a bound. */
#include "tests/e2e.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/resp.h"
#include "tests/e2e_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

/* How many of Redis's clients wait in a blocking command. */
static long blocked(void)
{
    struct redis_link link;
    const char *reply;
    size_t len;
    long n = -1;
    redis_link_open(&link, &redis.at);
    redis_link_command(&link, "INFO clients");
    if (redis_link_reply(&link, (int)support_wait_ms(), &reply, &len) ==
        REDIS_REPLY) {
        const char *at =
            memmem(reply, len, "blocked_clients:", strlen("blocked_clients:"));
        if (at != NULL)
            n = strtol(at + strlen("blocked_clients:"), NULL, 10);
    }
    redis_link_close(&link);
    return n;
}

/* ---- commands that block ---- */

START_TEST(test_killed_while_blocked)
{
    enum { N = 10, KILLED = 5 };
    scene_begin(_i, NULL);
    struct e2e_actor *a = support_shared(N * sizeof(*a));
    for (int i = 0; i < N; i++)
        e2e_actor_start(&a[i], manager.channel, TIMEOUT_MS, "BLPOP list 0");
    ck_assert(UNTIL(blocked() == N));
    /* The shared connection does not notice. */
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    for (int i = 0; i < KILLED; i++)
        support_kill(a[i].pid);
    ck_assert(UNTIL(blocked() == N - KILLED));
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(
            e2e_ask(&client, &call, TIMEOUT_MS, "RPUSH list v%d", i), E2E_OK);
    for (int i = KILLED; i < N; i++) {
        ck_assert_int_eq(support_join(a[i].pid), 0);
        ck_assert_int_eq(a[i].end, E2E_OK);
        ck_assert_int_eq(strncmp(a[i].data, "*2\r\n$4\r\nlist\r\n$2\r\nv", 19),
                         0);
    }
    /* Not one element went to the dead. */
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), KILLED);
    scene_balanced();
}
END_TEST

START_TEST(test_pool_full_of_stopped_workers_frees_itself)
{
    scene_begin(_i, "--dedicated-connections 2");
    struct e2e_actor *a = support_shared(2 * sizeof(*a));
    for (int i = 0; i < 2; i++)
        e2e_actor_start(&a[i], manager.channel, 6000, "BLPOP none 0");
    ck_assert(UNTIL(blocked() == 2));
    for (int i = 0; i < 2; i++)
        support_stop(a[i].pid);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "RPUSH list a b c"),
                     E2E_OK);
    uint64_t t0 = clock_ns();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "BLPOP list 0"),
                     E2E_UNAVAILABLE);
    ck_assert_msg(strstr(call.text, "busy") != NULL &&
                      strstr(call.text, "--dedicated-connections") != NULL,
                  "%s", call.text);
    ck_assert_uint_lt(clock_ns() - t0, 5 * NS_PER_S); /* not when one is free */
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), 3);
    ck_assert(
        UNTIL(e2e_ask(&client, &call, TIMEOUT_MS, "BLPOP list 0") == E2E_OK));
    ck_assert(e2e_is(&call, "*2\r\n$4\r\nlist\r\n$1\r\na\r\n"));
    ck_assert(UNTIL(blocked() == 0));
    for (int i = 0; i < 2; i++) {
        kill(a[i].pid, SIGCONT);
        ck_assert_int_eq(support_join(a[i].pid), 0);
        ck_assert_int_eq(a[i].end, E2E_LOST);
    }
    scene_balanced();
}
END_TEST

START_TEST(test_cancelled_while_blocked)
{
    scene_begin(_i, "--dedicated-connections 1");
    static struct e2e_call blocking;
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "BLPOP list 0");
    for (int i = 0; i < 3; i++) {
        /* The one before was given up: its connection is soon free again. */
        ck_assert(UNTIL(blocked() == 0));
        ck_assert_int_eq(
            e2e_begin(&client, &blocking, 1, payload, len, TIMEOUT_MS), ERR_OK);
        ck_assert_int_eq(e2e_send(&client, &blocking), ERR_OK);
        ck_assert(UNTIL(blocked() == 1));
        e2e_forget(&client, &blocking);
    }
    ck_assert(UNTIL(blocked() == 0));
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "RPUSH list a"),
                     E2E_OK);
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), 1);
    scene_balanced();
}
END_TEST

/* ---- batches and transactions ---- */

/* A worker that sends batches on a key which all of them write. */
struct batcher {
    pid_t pid;
    int number;
    bool transactions;
    char wrong[256];
};

#define ROUNDS 150

static void send_batches(void *arg)
{
    struct batcher *b = arg;
    static struct e2e_client c;
    static struct e2e_call k;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    for (int i = 0; i < ROUNDS && b->wrong[0] == '\0'; i++) {
        char v[32], expect[256];
        int n = snprintf(v, sizeof(v), "w%d-%d", b->number, i);
        enum e2e_end end;
        if (b->transactions) {
            end = e2e_ask(&c, &k, TIMEOUT_MS,
                          "MULTI ; SET key %s ; GET key ; APPEND key + ; EXEC",
                          v);
            snprintf(expect, sizeof(expect),
                     "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n"
                     "$%d\r\n%s\r\n:%d\r\n",
                     n, v, n + 1);
        } else {
            end =
                e2e_ask(&c, &k, TIMEOUT_MS,
                        "SET key %s ; GET key ; APPEND key + ; STRLEN key", v);
            snprintf(expect, sizeof(expect),
                     "+OK\r\n$%d\r\n%s\r\n:%d\r\n:%d\r\n", n, v, n + 1, n + 1);
        }
        if (end != E2E_OK || !e2e_is(&k, expect))
            snprintf(b->wrong, sizeof(b->wrong), "%d: '%.*s' %.50s", end,
                     k.len < 150 ? (int)k.len : 150, k.data, k.text);
    }
}

/* Batches of some, transactions of others, and plain traffic between. */
START_TEST(test_batches_are_contiguous)
{
    enum { N = 6 };
    scene_begin(_i, NULL);
    struct batcher *b = support_shared(N * sizeof(*b));
    for (int i = 0; i < N; i++) {
        b[i].number = i;
        b[i].transactions = i % 2 == 1;
        b[i].pid = support_fork(send_batches, &b[i]);
    }
    bool running = true;
    for (int plain = 0; running; plain++) {
        ck_assert_int_eq(
            e2e_ask(&client, &call, TIMEOUT_MS, "SET key plain%d", plain),
            E2E_OK);
        ck_assert(e2e_is(&call, "+OK\r\n"));
        running = false;
        for (int i = 0; i < N; i++)
            running = running || support_proc_state(b[i].pid) != 'Z';
    }
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(support_join(b[i].pid), 0);
        ck_assert_msg(b[i].wrong[0] == '\0', "worker %d: %s", i, b[i].wrong);
    }
    scene_balanced();
}
END_TEST

START_TEST(test_odd_transactions_leave_the_connection_in_step)
{
    static const struct {
        const char *commands;
        enum e2e_end end;
    } cases[] = {
        {"MULTI", E2E_REFUSED},
        {"MULTI ; SET a 1", E2E_REFUSED},
        {"EXEC", E2E_REFUSED},
        {"DISCARD", E2E_REFUSED},
        {"WATCH a ; MULTI ; EXEC", E2E_REFUSED},
        {"SET a 1 ; SELECT 1", E2E_REFUSED},
        {"MULTI ; DISCARD x ; EXEC", E2E_REFUSED},
        {"MULTI ; EXEC 1", E2E_REFUSED},
        {"MULTI ; SUBSCRIBE a ; EXEC", E2E_REFUSED},
        {"SET a 1 ; BLPOP list 0", E2E_REFUSED},
        {"MULTI ; NOSUCHCOMMAND ; EXEC", E2E_OK},
        {"MULTI ; SET a ; EXEC", E2E_OK},
        {"MULTI ; SET a 1 ; DISCARD", E2E_OK},
        {"MULTI ; EXEC", E2E_OK},
        {"MULTI ; INCR text ; SET b 1 ; EXEC", E2E_OK},
        {"MULTI ; BLPOP list 0 ; EXEC", E2E_OK},
        {"MULTI ; MULTI ; EXEC", E2E_REFUSED},
    };
    scene_begin(_i, NULL);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET text x"), E2E_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum e2e_end end =
            e2e_ask(&client, &call, TIMEOUT_MS, "%s", cases[i].commands);
        ck_assert_msg(end == cases[i].end, "%s: %d %s", cases[i].commands, end,
                      call.text);
        char expect[32];
        snprintf(expect, sizeof(expect), ":%zu\r\n", i + 1);
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "INCR step"),
                         E2E_OK);
        ck_assert_msg(e2e_is(&call, expect), "after %s: '%.*s'",
                      cases[i].commands, (int)call.len, call.data);
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_disconnects), 0);
    scene_balanced();
}
END_TEST

/* Commands that are merely sent together are judged one by one. */
START_TEST(test_independent_commands_have_fates_of_their_own)
{
    scene_begin(_i, NULL);
    char payload[512];
    uint32_t n;
    size_t len = e2e_commands(payload, sizeof(payload), &n,
                              "INCR a ; SELECT 1 ; INCR a ; RPUSH list x ; "
                              "BLPOP list 0 ; ECHO end ; MULTI ; INCR a");
    ck_assert_int_eq(e2e_ask_raw(&client, &call, MESSAGE_INDEPENDENT, n,
                                 payload, len, TIMEOUT_MS),
                     E2E_REFUSED);
    ck_assert_uint_eq(call.ended[REPLY_OK], 6);
    ck_assert_uint_eq(call.ended[REPLY_INVALID], 2);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET a"), 3);
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), 0);
    scene_balanced();
}
END_TEST

/* ---- killed by the hundreds ---- */

/* Sends whatever it can until it is killed. */
static void send_until_killed(void *arg)
{
    static struct e2e_client c;
    static struct e2e_call k[8];
    char payload[256];
    uint32_t n;
    (void)arg;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    static const char *const commands[] = {
        "INCR n", "GET large", "MULTI ; INCR n ; EXEC", "BLPOP none 0",
        "SET a b ; GET a ; GET large"};
    for (unsigned i = (unsigned)getpid();; i++) {
        struct e2e_call *one = &k[i % 8];
        if (one->header.request != 0)
            e2e_forget(&c, one);
        size_t len =
            e2e_commands(payload, sizeof(payload), &n, commands[i % 5]);
        CHILD_REQUIRE(e2e_begin(&c, one, n, payload, len, 5000) == ERR_OK);
        one->header.flags = i % 3 == 0 ? MESSAGE_INDEPENDENT : 0;
        if (strncmp(commands[i % 5], "MULTI", 5) == 0)
            one->header.flags = 0;
        CHILD_REQUIRE(e2e_send(&c, one) == ERR_OK);
    }
}

START_TEST(test_slots_come_back_from_the_killed)
{
    enum { AT_ONCE = 8 };
    int total = e2e_long() ? 10000 : 600;
    scene_begin(_i, "--max-inflight 64 --dedicated-connections 8");
    ck_assert_str_eq(e2e_redis_ask(&redis, "SETRANGE large 99999 x"),
                     ":100000\r\n");
    pid_t pids[AT_ONCE] = {0};
    unsigned seed = 12345;
    for (int i = 0; i < total + AT_ONCE; i++) {
        pid_t *p = &pids[i % AT_ONCE];
        if (*p != 0) {
            support_sleep_ms((int)((seed = seed * 1103515245U + 12345U) >> 30));
            support_kill(*p);
        }
        *p = i < total ? support_fork(send_until_killed, NULL) : 0;
        if (i % 50 == 0) {
            ck_assert_int_eq(
                e2e_ask(&client, &call, TIMEOUT_MS, "ECHO alive%d", i), E2E_OK);
            ck_assert_msg(call.len > 6 &&
                              memmem(call.data, call.len, "alive", 5) != NULL,
                          "%.*s", (int)call.len, call.data);
        }
    }
    scene_balanced();
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_discarded) +
                          e2e_counter(&manager, COUNTER_gone),
                      0);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_pipes) == 1)); /* ours */
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    ck_assert(UNTIL(blocked() == 0));
    /* The window is as wide as ever. */
    static struct e2e_call many[64];
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "ECHO x");
    support_stop(redis.at.pid);
    for (int i = 0; i < 64; i++) {
        ck_assert_int_eq(
            e2e_begin(&client, &many[i], 1, payload, len, TIMEOUT_MS), ERR_OK);
        ck_assert_int_eq(e2e_send(&client, &many[i]), ERR_OK);
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 64));
    kill(redis.at.pid, SIGCONT);
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(e2e_finish(&client, &many[i]), E2E_OK);
    e2e_figure(_i, "%d workers killed: %s", total, e2e_books(&manager));
    scene_balanced();
}
END_TEST

/* ---- bounds ---- */

START_TEST(test_window_is_bounded)
{
    enum { WINDOW = 10, CALLS = 40 };
    scene_begin(_i, "--max-inflight 10");
    static struct e2e_call calls[CALLS];
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "INCR n");
    support_stop(redis.at.pid);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(
            e2e_begin(&client, &calls[i], 1, payload, len, TIMEOUT_MS), ERR_OK);
        ck_assert_int_eq(e2e_send(&client, &calls[i]), ERR_OK);
    }
    long depth = 0, capacity;
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) == WINDOW));
    support_sleep_ms(50);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_taken), WINDOW);
    ck_assert_int_eq(mpsc_sender_depth(&client.tx, &depth, &capacity), ERR_OK);
    ck_assert_int_eq(depth, CALLS - WINDOW);
    uint64_t cpu = support_cpu_ns(manager.pid);
    support_sleep_ms(300);
    ck_assert_uint_lt(support_cpu_ns(manager.pid) - cpu, 20 * NS_PER_MS);
    kill(redis.at.pid, SIGCONT);
    for (int i = 0; i < CALLS; i++) {
        char expect[32];
        snprintf(expect, sizeof(expect), ":%d\r\n", i + 1);
        ck_assert_int_eq(e2e_finish(&client, &calls[i]), E2E_OK);
        ck_assert(e2e_is(&calls[i], expect));
    }
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_most_inflight), WINDOW);
    ck_assert_uint_ge(e2e_counter(&manager, COUNTER_window_full), 1);
    scene_balanced();
}
END_TEST

START_TEST(test_reply_of_a_stalled_reader_is_cut_off)
{
    scene_begin(_i, "--reader-backlog 256k --stall-timeout 2500");
    ck_assert_str_eq(e2e_redis_ask(&redis, "SETRANGE large 9999999 x"),
                     ":10000000\r\n");
    static struct e2e_call stalled;
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "GET large");
    ck_assert_int_eq(e2e_begin(&client, &stalled, 1, payload, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &stalled), ERR_OK);
    uint64_t slowest = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t t0 = clock_ns();
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "ECHO x"), E2E_OK);
        uint64_t took = clock_ns() - t0;
        slowest = took > slowest ? took : slowest;
    }
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_aborted) == 1));
    e2e_figure(_i, "beside a stalled reader: the slowest of 100 after %.1f ms",
               (double)slowest / 1e6);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 1));
    ck_assert_int_eq(e2e_finish(&client, &stalled), E2E_REFUSED);
    ck_assert_uint_eq(stalled.ended[REPLY_TOO_BIG], 1);
    ck_assert_msg(strstr(stalled.text, "executed") != NULL, "%s", stalled.text);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "GET large"), E2E_OK);
    ck_assert_uint_eq(call.len, 10000000 + 13);
    scene_balanced();
}
END_TEST

/* ---- order and fairness ---- */

START_TEST(test_order_of_a_client_holds_over_several_connections)
{
    enum { CLIENTS = 6, CALLS = 100 };
    scene_begin(_i, "--connections 3");
    static struct e2e_client clients[CLIENTS];
    static struct e2e_call calls[CLIENTS][CALLS];
    char payload[64], text[64];
    for (int c = 0; c < CLIENTS; c++)
        ck_assert_int_eq(e2e_client_open(&clients[c], manager.channel), ERR_OK);
    for (int i = 0; i < CALLS; i++) {
        for (int c = 0; c < CLIENTS; c++) {
            snprintf(text, sizeof(text), "INCR n%d", c);
            size_t len = e2e_commands(payload, sizeof(payload), NULL, text);
            ck_assert_int_eq(e2e_begin(&clients[c], &calls[c][i], 1, payload,
                                       len, TIMEOUT_MS),
                             ERR_OK);
            ck_assert_int_eq(e2e_send(&clients[c], &calls[c][i]), ERR_OK);
        }
    }
    for (int c = 0; c < CLIENTS; c++) {
        for (int i = 0; i < CALLS; i++) {
            ck_assert_int_eq(e2e_finish(&clients[c], &calls[c][i]), E2E_OK);
            snprintf(text, sizeof(text), ":%d\r\n", i + 1);
            ck_assert(e2e_is(&calls[c][i], text));
        }
    }
    ck_assert_uint_ge(e2e_counter(&manager, COUNTER_connects), 3);
    scene_balanced();
}
END_TEST

static void flood(void *arg)
{
    static struct e2e_client c;
    static struct e2e_call k;
    static char payload[900];
    size_t len = 0;
    uint32_t n = 0;
    (void)arg;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    while (len + 40 < sizeof(payload)) {
        len += e2e_commands(payload + len, sizeof(payload) - len, NULL,
                            "SET key value");
        n++;
    }
    for (;;)
        e2e_ask_raw(&c, &k, 0, n, payload, len, TIMEOUT_MS);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

START_TEST(test_small_command_beside_a_flood_of_batches)
{
    enum { FLOODERS = 4, ASKED = 1000 };
    static uint64_t took[ASKED];
    scene_begin(_i, NULL);
    for (int flooded = 0; flooded < 2; flooded++) {
        pid_t pids[FLOODERS] = {0};
        for (int i = 0; flooded && i < FLOODERS; i++)
            pids[i] = support_fork(flood, NULL);
        uint64_t before = e2e_counter(&manager, COUNTER_answered);
        uint64_t t0 = clock_ns();
        for (int i = 0; i < ASKED; i++) {
            uint64_t t = clock_ns();
            ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "GET key"),
                             E2E_OK);
            took[i] = clock_ns() - t;
        }
        double s = (double)(clock_ns() - t0) / 1e9;
        qsort(took, ASKED, sizeof(took[0]), compare);
        e2e_figure(
            _i,
            "GET %s: p50 %.3f ms, p99 %.3f ms, longest %.3f ms; "
            "%.0f commands/s in all",
            flooded ? "beside batches of 22" : "alone",
            (double)took[ASKED / 2] / 1e6, (double)took[ASKED * 99 / 100] / 1e6,
            (double)took[ASKED - 1] / 1e6,
            (double)(e2e_counter(&manager, COUNTER_answered) - before) / s);
        ck_assert_uint_lt(took[ASKED * 99 / 100], 10 * NS_PER_S);
        for (int i = 0; flooded && i < FLOODERS; i++)
            support_kill(pids[i]);
    }
    scene_balanced();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_pool");
    TCase *t = support_case(s, "pool", e2e_long() ? 300 : 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_killed_while_blocked);
    e2e_add(t, test_pool_full_of_stopped_workers_frees_itself);
    e2e_add(t, test_cancelled_while_blocked);
    e2e_add(t, test_batches_are_contiguous);
    e2e_add(t, test_odd_transactions_leave_the_connection_in_step);
    e2e_add(t, test_independent_commands_have_fates_of_their_own);
    e2e_add(t, test_slots_come_back_from_the_killed);
    e2e_add(t, test_window_is_bounded);
    e2e_add(t, test_reply_of_a_stalled_reader_is_cut_off);
    e2e_add(t, test_order_of_a_client_holds_over_several_connections);
    e2e_add(t, test_small_command_beside_a_flood_of_batches);
    return s;
}

int main(void)
{
    return support_run(suite());
}
