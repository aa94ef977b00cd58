/* The channel as real processes see it: a full queue, requesters and managers
 * that are killed at every point, restarts. */
#include "tests/e2e.h"

#include <errno.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "ipc/clock.h"
#include "ipc/resp.h"
#include "tests/e2e_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define CAPACITY 32
#define TIMEOUT_MS 20000

static long depth(void)
{
    long now = -1, capacity;
    if (mpsc_sender_depth(&client.tx, &now, &capacity) != ERR_OK)
        return -1;
    return now;
}

static int reply_pipes(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/reply", manager.channel);
    return support_count_entries(support_path(path));
}

static void assert_ends(int status)
{
    ck_assert_int_eq(status, 0);
}

/* ---- the full queue ---- */

START_TEST(test_33rd_sender_sleeps_and_all_are_answered_in_order)
{
    enum { N = CAPACITY + 1 };
    scene_begin(_i, NULL);
    struct e2e_actor *a = support_shared(N * sizeof(*a));
    support_stop(manager.pid);
    for (int i = 0; i < N; i++) {
        e2e_actor_start(&a[i], manager.channel, TIMEOUT_MS, "RPUSH order %d",
                        i);
        if (i < CAPACITY)
            ck_assert(UNTIL(depth() == i + 1));
    }
    ck_assert(support_sleeps_in(a[CAPACITY].pid, SYS_mq_timedsend));
    ck_assert_int_eq(depth(), CAPACITY);
    ck_assert_int_eq(a[CAPACITY].stage, E2E_JOINED);
    uint64_t cpu = support_cpu_ns(a[CAPACITY].pid);
    support_sleep_ms(1300); /* longer than a slice of its sleep */
    uint64_t grown = support_cpu_ns(a[CAPACITY].pid) - cpu;
    e2e_figure(_i, "33rd sender: %.3f ms of CPU in 1.3 s of sleep",
               (double)grown / 1e6);
    ck_assert_uint_lt(grown, 5 * NS_PER_MS);
    ck_assert_int_eq(a[CAPACITY].stage, E2E_JOINED);

    kill(manager.pid, SIGCONT);
    for (int i = 0; i < N; i++) {
        char expect[16];
        assert_ends(support_join(a[i].pid));
        snprintf(expect, sizeof(expect), ":%d\r\n", i + 1);
        ck_assert_int_eq(a[i].end, E2E_OK);
        ck_assert_str_eq(a[i].data, expect);
    }
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_deepest_queue), CAPACITY);
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* ---- requesters that are killed ---- */

/* Asks some things; they must all be answered, whatever died. */
static void assert_serves(int n)
{
    static int asked;
    for (int i = 0; i < n; i++) {
        char expect[32];
        int number = ++asked;
        snprintf(expect, sizeof(expect), "$%d\r\nv%d\r\n",
                 snprintf(NULL, 0, "v%d", number), number);
        ck_assert_int_eq(
            e2e_ask(&client, &call, TIMEOUT_MS, "ECHO v%d", number), E2E_OK);
        ck_assert_msg(e2e_is(&call, expect), "%.*s", (int)call.len, call.data);
    }
}

START_TEST(test_worker_killed_while_queued)
{
    scene_begin(_i, NULL);
    struct e2e_actor *a = support_shared(3 * sizeof(*a));
    support_stop(manager.pid);
    for (int i = 0; i < 3; i++) {
        e2e_actor_start(&a[i], manager.channel, TIMEOUT_MS, "INCR k%d", i);
        ck_assert(UNTIL(depth() == i + 1));
    }
    ck_assert_int_eq(reply_pipes(), 3);
    support_kill(a[1].pid);
    support_sleep_ms(10); /* what waited longer is asked whether it lives */
    kill(manager.pid, SIGCONT);
    for (int i = 0; i < 3; i += 2) {
        assert_ends(support_join(a[i].pid));
        ck_assert_int_eq(a[i].end, E2E_OK);
        ck_assert_str_eq(a[i].data, ":1\r\n");
    }
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) == 1));
    ck_assert_str_eq(e2e_redis_ask(&redis, "GET k1"), "$-1\r\n");
    assert_serves(10);
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert(UNTIL(reply_pipes() == 1)); /* ours */
}
END_TEST

START_TEST(test_worker_killed_in_flight)
{
    scene_begin(_i, NULL);
    struct e2e_actor *a = support_shared(3 * sizeof(*a));
    support_stop(redis.at.pid);
    for (int i = 0; i < 3; i++) {
        e2e_actor_start(&a[i], manager.channel, TIMEOUT_MS, "INCR k%d", i);
        ck_assert(
            UNTIL(e2e_counter(&manager, COUNTER_taken) == (uint64_t)i + 1));
    }
    support_kill(a[1].pid);
    ck_assert(UNTIL(reply_pipes() == 2)); /* at once, not with the reply */
    kill(redis.at.pid, SIGCONT);
    for (int i = 0; i < 3; i += 2) {
        assert_ends(support_join(a[i].pid));
        ck_assert_int_eq(a[i].end, E2E_OK);
        ck_assert_str_eq(a[i].data, ":1\r\n");
    }
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_discarded) == 1));
    assert_serves(10);
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert(UNTIL(reply_pipes() == 1)); /* ours */
}
END_TEST

/* Puts a value of `size` bytes x at a key, past the manager. */
static void set_large(const char *key, size_t size)
{
    struct redis_link link;
    char head[128];
    char *value = malloc(size + 2);
    ck_assert_ptr_nonnull(value);
    memset(value, 'x', size);
    memcpy(value + size, "\r\n", 2);
    redis_link_open(&link, &redis.at);
    int n = snprintf(head, sizeof(head),
                     "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key),
                     key, size);
    redis_link_send(&link, head, (size_t)n);
    redis_link_send(&link, value, size + 2);
    ck_assert_str_eq(redis_link_text(&link), "+OK\r\n");
    redis_link_close(&link);
    free(value);
}

START_TEST(test_worker_killed_while_its_reply_is_written)
{
    scene_begin(_i, NULL);
    set_large("large", 1 << 20);
    struct e2e_actor *a = support_shared(sizeof(*a));
    a->deaf = true;
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "GET large");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) > 500000));
    assert_serves(10);
    support_kill(a->pid);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    ck_assert(UNTIL(reply_pipes() == 1));
    assert_serves(10);
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* ---- managers that are killed ---- */

#define WAITERS 40
#define IN_FLIGHT 4

static struct e2e_actor *crowd;
static uint64_t killed_ns;

/* 4 in flight, 32 queued, 4 asleep. */
static void gather_crowd(void)
{
    crowd = support_shared(WAITERS * sizeof(*crowd));
    support_stop(redis.at.pid);
    for (int i = 0; i < WAITERS; i++) {
        if (i == IN_FLIGHT)
            support_stop(manager.pid);
        e2e_actor_start(&crowd[i], manager.channel, TIMEOUT_MS, "INCR n%d", i);
        if (i < IN_FLIGHT)
            ck_assert(
                UNTIL(e2e_counter(&manager, COUNTER_taken) == (uint64_t)i + 1));
        else if (i < IN_FLIGHT + CAPACITY)
            ck_assert(UNTIL(depth() == i - IN_FLIGHT + 1));
        else
            ck_assert(support_sleeps_in(crowd[i].pid, SYS_mq_timedsend));
    }
}

/* All are back: by rank, with these ends. Prints how long the last one took. */
static void assert_crowd(int server, const char *what, enum e2e_end in_flight,
                         enum e2e_end queued, enum e2e_end asleep)
{
    double last[3] = {0};
    for (int i = 0; i < WAITERS; i++) {
        int rank = i < IN_FLIGHT ? 0 : i < IN_FLIGHT + CAPACITY ? 1 : 2;
        enum e2e_end expect = rank == 0   ? in_flight
                              : rank == 1 ? queued
                                          : asleep;
        assert_ends(support_join(crowd[i].pid));
        ck_assert_msg(crowd[i].end == expect, "%s, worker %d: %d, not %d (%s)",
                      what, i, crowd[i].end, expect, crowd[i].text);
        double ms = (double)(crowd[i].end_ns - killed_ns) / 1e6;
        if (ms > last[rank])
            last[rank] = ms;
    }
    e2e_figure(server,
               "%s: the last one back after %.1f ms in flight, %.1f ms queued, "
               "%.1f ms asleep",
               what, last[0], last[1], last[2]);
    for (int i = 0; i < 3; i++)
        ck_assert(last[i] < TIMEOUT_MS / 2);
}

/* The next manager starts clean, serves, and executes nothing of before. */
static void assert_next_serves(void)
{
    char channel[sizeof(manager.channel)];
    strcpy(channel, manager.channel);
    kill(redis.at.pid, SIGCONT);
    e2e_manager_start(&manager, channel, e2e_uri(&redis), NULL);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_client_open(&client, channel), ERR_OK);
    assert_serves(10);
    ck_assert_int_eq(depth(), 0);
    for (int i = 0; i < WAITERS; i++) {
        char get[32];
        snprintf(get, sizeof(get), "GET n%d", i);
        long long n = e2e_redis_integer(&redis, get);
        ck_assert_msg(n == 0 || (i < IN_FLIGHT && n == 1),
                      "worker %d, ended %d: executed %lld times", i,
                      crowd[i].end, n);
    }
    ck_assert(UNTIL(reply_pipes() == 1));
    ck_assert(UNTIL(e2e_balanced(&manager)));
}

START_TEST(test_manager_killed)
{
    scene_begin(_i, NULL);
    gather_crowd();
    killed_ns = clock_ns();
    kill(manager.pid, SIGKILL);
    assert_crowd(_i, "manager killed", E2E_LOST, E2E_UNAVAILABLE,
                 E2E_UNAVAILABLE);
    e2e_manager_kill(&manager);
    ck_assert(e2e_guardian_gone(&manager));
    assert_next_serves();
}
END_TEST

START_TEST(test_manager_and_guardian_killed_together)
{
    scene_begin(_i, NULL);
    gather_crowd();
    killed_ns = clock_ns();
    kill(manager.guardian, SIGKILL);
    kill(manager.pid, SIGKILL);
    assert_crowd(_i, "manager and guardian killed", E2E_LOST, E2E_LOST,
                 E2E_UNAVAILABLE);
    e2e_manager_kill(&manager);
    ck_assert_int_eq(depth(), CAPACITY); /* what nobody took is still there */
    assert_next_serves();
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_gone), CAPACITY);
}
END_TEST

START_TEST(test_guardian_killed_is_replaced)
{
    scene_begin(_i, NULL);
    pid_t first = manager.guardian;
    kill(first, SIGKILL);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children",
             (long)manager.pid, (long)manager.pid);
    long next = 0;
    ck_assert(UNTIL(({
        FILE *f = fopen(path, "re");
        if (f == NULL || fscanf(f, "%ld", &next) != 1)
            next = 0;
        if (f != NULL)
            fclose(f);
        next != 0 && next != first;
    })));
    manager.guardian = (pid_t)next;
    gather_crowd();
    killed_ns = clock_ns();
    kill(manager.pid, SIGKILL);
    assert_crowd(_i, "manager killed after its guardian", E2E_LOST,
                 E2E_UNAVAILABLE, E2E_UNAVAILABLE);
    e2e_manager_kill(&manager);
    ck_assert(e2e_guardian_gone(&manager));
    assert_next_serves();
}
END_TEST

START_TEST(test_sigterm_answers_what_was_taken)
{
    scene_begin(_i, NULL);
    gather_crowd();
    killed_ns = clock_ns();
    kill(manager.pid, SIGTERM);
    kill(manager.pid, SIGCONT);
    kill(redis.at.pid, SIGCONT);
    assert_crowd(_i, "SIGTERM", E2E_OK, E2E_UNAVAILABLE, E2E_UNAVAILABLE);
    ck_assert_int_eq(support_join(manager.pid), 0);
    for (int i = 0; i < IN_FLIGHT; i++)
        ck_assert_str_eq(crowd[i].data, ":1\r\n");
    assert_next_serves();
}
END_TEST

/* ---- restarts ---- */

START_TEST(test_ten_restarts_with_an_idle_holder)
{
    /* Ten queues of this size would be over a user's budget. */
    static const char options[] = "--msgsize 3072";
    e2e_start(&redis, &manager, _i, options);
    char channel[sizeof(manager.channel)];
    strcpy(channel, manager.channel);
    ck_assert_int_eq(e2e_client_open(&client, channel), ERR_OK);
    uint64_t slowest = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t t0 = clock_ns();
        if (i % 2 == 0)
            ck_assert_int_eq(e2e_manager_stop(&manager), 0);
        else
            e2e_manager_kill(&manager);
        e2e_manager_start(&manager, channel, e2e_uri(&redis), options);
        ck_assert_ptr_nonnull(strstr(e2e_log(&manager), "queue 32 x 3072"));
        uint64_t took = clock_ns() - t0;
        slowest = took > slowest ? took : slowest;
    }
    e2e_figure(_i, "slowest of ten restarts: %.1f ms", (double)slowest / 1e6);
    /* The holder learns that its manager is gone, and joins the next one. */
    ck_assert(!mpsc_receiver_alive(&client.tx));
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "INCR x"),
                     E2E_UNAVAILABLE);
    struct e2e_client again;
    ck_assert_int_eq(e2e_client_open(&again, channel), ERR_OK);
    ck_assert_int_eq(e2e_ask(&again, &call, TIMEOUT_MS, "INCR x"), E2E_OK);
    ck_assert(e2e_is(&call, ":1\r\n"));
}
END_TEST

/* ---- what a reply may be ---- */

START_TEST(test_values_come_back_byte_for_byte)
{
    scene_begin(_i, NULL);
    static const struct {
        const char *data;
        size_t len;
    } values[] = {{"", 0},
                  {"\0", 1},
                  {"a\0b\r\n\xff\xfe\r\n$5\r\n+OK\r\n", 19},
                  {"\r\n", 2},
                  {"*2\r\n$1\r\n", 8},
                  {"\xff\xff\xff\xff", 4}};
    char every[256];
    for (size_t i = 0; i < sizeof(every); i++)
        every[i] = (char)i;
    for (size_t i = 0; i <= sizeof(values) / sizeof(values[0]); i++) {
        bool all = i == sizeof(values) / sizeof(values[0]);
        struct resp_arg v = {all ? every : values[i].data,
                             all ? sizeof(every) : values[i].len};
        struct resp_arg set[] = {{"SET", 3}, {"key\0\r\n\xff", 7}, v};
        struct resp_arg get[] = {{"GET", 3}, {"key\0\r\n\xff", 7}};
        char payload[800], expect[400];
        size_t len = resp_put_command(payload, 3, set);
        len += resp_put_command(payload + len, 2, get);
        int n = snprintf(expect, sizeof(expect), "+OK\r\n$%zu\r\n", v.len);
        memcpy(expect + n, v.data, v.len);
        memcpy(expect + n + v.len, "\r\n", 2);
        size_t total = (size_t)n + v.len + 2;
        ck_assert_int_eq(
            e2e_ask_raw(&client, &call, 0, 2, payload, len, TIMEOUT_MS),
            E2E_OK);
        ck_assert_uint_eq(call.len, total);
        ck_assert_mem_eq(call.data, expect, total);
    }
}
END_TEST

START_TEST(test_large_reply_comes_whole_and_holds_up_nobody)
{
    enum { SIZE = 1 << 20 };
    scene_begin(_i, NULL);
    set_large("large", SIZE);
    static struct e2e_call large;
    char get[64];
    size_t len = e2e_commands(get, sizeof(get), NULL, "GET large");
    ck_assert_int_eq(e2e_begin(&client, &large, 1, get, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &large), ERR_OK);
    /* Nobody reads it; the others go on, and large ones among them. */
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) > SIZE / 2));
    struct e2e_actor *a = support_shared(4 * sizeof(*a));
    for (int i = 0; i < 4; i++)
        e2e_actor_start(&a[i], manager.channel, TIMEOUT_MS, "GET large");
    assert_serves(100);
    for (int i = 0; i < 4; i++) {
        assert_ends(support_join(a[i].pid));
        ck_assert_int_eq(a[i].end, E2E_OK);
    }
    ck_assert_int_eq(e2e_finish(&client, &large), E2E_OK);
    ck_assert_uint_eq(large.len, SIZE + 12);
    ck_assert_mem_eq(large.data, "$1048576\r\nxxxx", 14);
    for (size_t i = 10; i < SIZE + 10; i++)
        if (large.data[i] != 'x')
            ck_abort_msg("byte %zu is %02x", i, large.data[i]);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_channel");
    TCase *t = support_case(s, "channel", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_33rd_sender_sleeps_and_all_are_answered_in_order);
    e2e_add(t, test_worker_killed_while_queued);
    e2e_add(t, test_worker_killed_in_flight);
    e2e_add(t, test_worker_killed_while_its_reply_is_written);
    e2e_add(t, test_manager_killed);
    e2e_add(t, test_manager_and_guardian_killed_together);
    e2e_add(t, test_guardian_killed_is_replaced);
    e2e_add(t, test_sigterm_answers_what_was_taken);
    e2e_add(t, test_ten_restarts_with_an_idle_holder);
    e2e_add(t, test_values_come_back_byte_for_byte);
    e2e_add(t, test_large_reply_comes_whole_and_holds_up_nobody);
    return s;
}

int main(void)
{
    return support_run(suite());
}
