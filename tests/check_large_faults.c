/* Who dies in the middle of a large transfer: what the others see of it, what
 * is known about the command, and what is left. Readers that stall are in
 * check_large_readers. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/payload.h"
#include "ipc/random.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 60000
#define WAY (16 * LARGE_MIB)

/* ---- Redis dies ---- */

/* A server that stands still has a part of a SET when it dies. */
static struct mqredis_request *set_halfway(struct mqredis *mq, const char *key,
                                           uint64_t seed)
{
    char *data = large_new(WAY, seed);
    kill(redis.at.pid, SIGSTOP);
    uint64_t written = e2e_counter(&manager, COUNTER_bytes_written);
    struct mqredis_request *q = mqredis_submit(mq, "SET %s %b", key, data, WAY);
    mqredis_flush(mq);
    free(data);
    ck_assert(
        UNTIL(e2e_counter(&manager, COUNTER_bytes_written) > written + 50000));
    return q;
}

START_TEST(test_redis_dies_in_a_large_write)
{
    scene_begin(_i, NULL);
    struct mqredis *mq = large_open(&manager);
    struct mqredis_request *q = set_halfway(mq, "k", 5);
    struct mqredis_request *small = mqredis_submit(mq, "SET small %s", "v");
    mqredis_flush(mq);
    e2e_redis_kill(&redis);
    e2e_redis_restart(&redis);
    /* Its last byte never left: it is sent again, whole. */
    ck_assert(large_is_status(mqredis_wait(q), "OK"));
    ck_assert(large_is_status(mqredis_wait(small), "OK"));
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_resent) >= 1));
    ck_assert(large_is_value(mqredis_get(mq, "k"), WAY, 5));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_lost), 0);
    mqredis_close(mq);
    scene_end();
}
END_TEST

START_TEST(test_redis_dies_in_a_large_write_and_nothing_waits)
{
    scene_begin(_i, "--when-down fail");
    struct mqredis *mq = large_open(&manager);
    struct mqredis_request *q = set_halfway(mq, "k", 5);
    e2e_redis_kill(&redis);
    ck_assert(large_failed(mqredis_wait(q), MQREDIS_UNAVAILABLE));
    e2e_redis_restart(&redis);
    ck_assert_int_eq(mqredis_wait_ready(mq, TIMEOUT_MS, NULL), MQREDIS_OK);
    ck_assert(UNTIL(large_round(mq, "k", 100000, 1)));
    mqredis_close(mq);
    scene_end();
}
END_TEST

static void set_and_sleep(void *arg)
{
    struct e2e_manager *m = arg;
    struct mqredis *mq = large_open(m);
    char *data = large_new(WAY, 3);
    mqredis_free(mqredis_set(mq, "k", data, WAY));
    free(data);
}

/* Then nobody waits for it any more, and it is not sent again. */
START_TEST(test_worker_and_redis_die_in_a_large_write)
{
    scene_begin(_i, NULL);
    kill(redis.at.pid, SIGSTOP);
    uint64_t written = e2e_counter(&manager, COUNTER_bytes_written);
    pid_t pid = support_fork(set_and_sleep, &manager);
    ck_assert(
        UNTIL(e2e_counter(&manager, COUNTER_bytes_written) > written + 50000));
    support_kill(pid);
    e2e_redis_kill(&redis);
    e2e_redis_restart(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) == 1));
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "EXISTS k"), E2E_OK);
    ck_assert(e2e_is(&call, ":0\r\n"));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_payload_bytes) == 0));
    scene_end();
}
END_TEST

START_TEST(test_redis_dies_in_a_large_reply)
{
    scene_begin(_i, "--stall-timeout 60000");
    for (int round = 0; round < 3; round++) {
        large_put("k", WAY, 1);
        if (round == 2) /* by the lane of small ones, too */
            large_put("k2", WAY, 1);
        uint64_t read = e2e_counter(&manager, COUNTER_bytes_read);
        large_stall(&client, &call, round == 2 ? "k2" : "k");
        ck_assert(
            UNTIL(e2e_counter(&manager, COUNTER_bytes_read) > read + 50000));
        e2e_redis_kill(&redis);
        ck_assert_int_eq(e2e_finish(&client, &call), E2E_LOST);
        ck_assert_uint_eq(call.ended[REPLY_LOST], 1);
        e2e_redis_restart(&redis);
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "ECHO hello"),
                         E2E_OK);
        ck_assert(e2e_is(&call, "$5\r\nhello\r\n"));
    }
    scene_end();
}
END_TEST

/* ---- anybody dies at any moment ---- */

#define WORKERS 5

struct restless {
    struct e2e_manager *m;
    int number;
    _Atomic uint64_t right, failed;
    char wrong[200];
};

/* SETs that nobody knows of, of one life: they may be executed late, out of the
 * socket of a manager that was killed. */
#define UNKNOWN_MAX 4096
struct unknown {
    uint64_t turn[UNKNOWN_MAX];
    int count;
};

/* What a value says of itself. */
struct label {
    uint64_t number, turn, len;
};

static bool wrong(struct restless *w, const char *what,
                  const struct mqredis_reply *r)
{
    snprintf(w->wrong, sizeof(w->wrong), "%s: type %d, %s, %zu bytes: %.100s",
             what, (int)r->type, mqredis_status_str(r->status), r->len,
             r->type == MQREDIS_FAILURE || r->type == MQREDIS_ERROR ? r->str
                                                                    : "");
    return false;
}

/* Statuses that a death may bring. */
static bool excused(const struct mqredis_reply *r)
{
    return r->type == MQREDIS_FAILURE &&
           (r->status == MQREDIS_LOST || r->status == MQREDIS_UNAVAILABLE ||
            r->status == MQREDIS_EXPIRED);
}

static bool may_be(const struct unknown *u, uint64_t turn)
{
    for (int i = 0; i < u->count; i++)
        if (u->turn[i] == turn)
            return true;
    return false;
}

/* A key belongs to one life of one worker. */
static bool check_turn(struct restless *w, struct mqredis *mq,
                       struct unknown *u, uint64_t turn, size_t len)
{
    char key[48];
    struct label label = {(uint64_t)w->number, turn, len};
    snprintf(key, sizeof(key), "k%d-%ld", w->number, (long)getpid());
    char *data = large_new(len, turn);
    memcpy(data, &label, sizeof(label));
    struct mqredis_reply *r = mqredis_set(mq, key, data, len);
    bool set = r->type == MQREDIS_STATUS;
    bool fine = set || excused(r) || wrong(w, "SET", r);
    if (r->status == MQREDIS_LOST && u->count < UNKNOWN_MAX)
        u->turn[u->count++] = turn;
    *(set ? &w->right : &w->failed) += 1;
    mqredis_free(r);
    free(data);
    if (!fine)
        return false;
    r = mqredis_get(mq, key);
    if (r->type == MQREDIS_STRING) {
        /* Ours, whole, and no older than the last that was certain. */
        memcpy(&label, r->str, r->len < sizeof(label) ? r->len : sizeof(label));
        fine = r->len >= sizeof(label) && label.len == r->len &&
               label.number == (uint64_t)w->number &&
               (!set || label.turn == turn || may_be(u, label.turn));
        char *expect = large_new(r->len, label.turn);
        memcpy(expect, &label, sizeof(label));
        fine = fine && memcmp(expect, r->str, r->len) == 0;
        free(expect);
        w->right++;
        if (!fine)
            snprintf(w->wrong, sizeof(w->wrong),
                     "crossed GET: %llu %llx %llu, asked for %d %llx %zu (SET "
                     "%d)",
                     (unsigned long long)label.number,
                     (unsigned long long)label.turn,
                     (unsigned long long)label.len, w->number,
                     (unsigned long long)turn, len, set);
    } else if (r->type != MQREDIS_NIL || set) {
        fine = excused(r) || wrong(w, "GET", r);
        w->failed++;
    }
    mqredis_free(r);
    return fine;
}

static void be_restless(void *arg)
{
    static const size_t lengths[] = {100,    5000,          70000,
                                     300000, 2 * LARGE_MIB, 900};
    struct restless *w = arg;
    static struct unknown u;
    struct random_stream ids;
    CHILD_REQUIRE(random_stream_init(&ids) == ERR_OK);
    struct mqredis *mq = large_open(w->m);
    for (;;) {
        uint64_t turn = random_stream_next(&ids);
        if (!check_turn(w, mq, &u, turn, lengths[turn % 6] + turn % 50))
            _exit(1);
    }
}

static void check_crowd(const struct restless *w)
{
    for (int i = 0; i < WORKERS; i++)
        ck_assert_msg(w[i].wrong[0] == '\0', "worker %d: %s", i, w[i].wrong);
}

static void kill_all(const pid_t *pids)
{
    for (int i = 0; i < WORKERS; i++)
        support_kill(pids[i]);
}

/* Whoever is killed, when: the next start is clean. */
static void end_with_everything_killed(const pid_t *pids, bool guardian)
{
    char channel[sizeof(manager.channel)];
    strcpy(channel, manager.channel);
    if (guardian)
        e2e_manager_kill_both(&manager);
    else
        e2e_manager_kill(&manager);
    kill_all(pids);
    ck_assert(e2e_guardian_gone(&manager));
    e2e_manager_start(&manager, channel, e2e_uri(&redis), NULL);
    /* A pipe in the making is no leftover before it is some seconds old. */
    ck_assert_msg(UNTIL(large_leftovers(&manager) == 0) ||
                      UNTIL(large_leftovers(&manager) == 0),
                  "%d left", large_leftovers(&manager));
}

START_TEST(test_killed_at_any_moment)
{
    const int kills = e2e_long() ? 200 : SUPPORT_SANITIZED ? 10 : 20;
    struct restless *w = support_shared(WORKERS * sizeof(*w));
    pid_t pids[WORKERS];
    uint64_t right = 0, failed = 0;
    e2e_start(&redis, &manager, _i, NULL);
    srand((unsigned)getpid());
    for (int i = 0; i < WORKERS; i++) {
        w[i].m = &manager;
        w[i].number = i;
        pids[i] = support_fork(be_restless, &w[i]);
    }
    for (int k = 0; k < kills; k++) {
        uint64_t before = w[k % WORKERS].right;
        ck_assert_msg(UNTIL(w[k % WORKERS].right > before ||
                            w[k % WORKERS].wrong[0] != '\0'),
                      "worker %d stands still", k % WORKERS);
        support_sleep_ms(rand() % 40);
        check_crowd(w);
        if (k % 10 == 9) {
            end_with_everything_killed(pids, k % 20 == 19);
        } else if (k % 3 == 0) {
            char channel[sizeof(manager.channel)];
            strcpy(channel, manager.channel);
            e2e_manager_kill(&manager);
            e2e_manager_start(&manager, channel, e2e_uri(&redis), NULL);
            continue;
        } else {
            support_kill(pids[rand() % WORKERS]);
        }
        for (int i = 0; i < WORKERS; i++)
            if (kill(pids[i], 0) < 0)
                pids[i] = support_fork(be_restless, &w[i]);
    }
    check_crowd(w);
    end_with_everything_killed(pids, false);
    for (int i = 0; i < WORKERS; i++) {
        right += w[i].right;
        failed += w[i].failed;
    }
    e2e_figure(_i, "%d kills: %llu answers right, %llu without one", kills,
               (unsigned long long)right, (unsigned long long)failed);
    ck_assert_uint_gt(right, 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- no memory ---- */

/* Commands that do not fit into a message, but are no large values. */
static struct mqredis_reply *run_long_batch(struct mqredis *mq)
{
    char text[900];
    struct mqredis_batch *b = mqredis_batch_new(mq);
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 2000; i++)
        mqredis_batch_add(b, "ECHO %b", (const void *)text, sizeof(text));
    return mqredis_batch_run(b);
}

START_TEST(test_manager_without_memory_says_so)
{
    struct rlimit before, none;
    if (SUPPORT_SANITIZED) {
        support_skip("manager_without_memory_says_so",
                     "a sanitizer would end it");
        return;
    }
    scene_begin(_i, NULL);
    struct mqredis *mq = large_open(&manager);
    ck_assert_int_eq(prlimit(manager.pid, RLIMIT_DATA, NULL, &before), 0);
    none = before;
    none.rlim_cur = 4096;
    ck_assert_int_eq(prlimit(manager.pid, RLIMIT_DATA, &none, NULL), 0);
    ck_assert(large_failed(run_long_batch(mq), MQREDIS_UNAVAILABLE));
    ck_assert_int_eq(prlimit(manager.pid, RLIMIT_DATA, &before, NULL), 0);
    struct mqredis_reply *r = run_long_batch(mq);
    ck_assert_int_eq(r->type, MQREDIS_BATCH);
    ck_assert_uint_eq(r->elements, 2000);
    mqredis_free(r);
    mqredis_close(mq);
    scene_end();
}
END_TEST

int main(void)
{
    large_prepare();
    Suite *s = suite_create("large_faults");
    TCase *tc = support_case(s, "redis", 60);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_redis_dies_in_a_large_write);
    e2e_add(tc, test_redis_dies_in_a_large_write_and_nothing_waits);
    e2e_add(tc, test_worker_and_redis_die_in_a_large_write);
    e2e_add(tc, test_redis_dies_in_a_large_reply);
    tc = support_case(s, "memory", 60);
    e2e_add(tc, test_manager_without_memory_says_so);
    tc = support_case(s, "kill", e2e_long() ? 600 : 90);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_killed_at_any_moment);
    return support_run(s);
}
