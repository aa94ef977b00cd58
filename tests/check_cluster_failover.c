/* Masters that die under load: the slots of the others go on as if nothing had
 * happened, those of the dead one wait or fail as --when-down says, and go on
 * when the cluster has found a new master for them. */
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define PER_MASTER 4
#define PROBES (3 * PER_MASTER)
#define NODE_TIMEOUT_MS 1500
#define AFTER_FAILOVER_MS 1000
#define TIMEOUT_MS 20000

/* ---- probes: each sets and gets one key, and notes when it got no answer ----
 */

struct probe {
    pid_t pid;
    int number, node; /* whose slot its key is in, at first */
    char channel[48], key[16];
    _Atomic bool enough;
    _Atomic uint64_t killed_ns; /* when the node died */
    _Atomic uint64_t again_ns;  /* first answer to what was asked after that */
    _Atomic uint64_t gap_ns;    /* longest time between two answers, since */
    _Atomic long ok, unavailable, lost;
    _Atomic uint64_t slowest_no_ns; /* the longest that an `unavailable` took */
    char wrong[200];
};

static struct probe *probes;

/* In place of killed_ns while it dies: it may still answer. */
#define DYING UINT64_MAX

static bool was_killed(const struct probe *p, uint64_t asked_ns)
{
    return p->killed_ns != 0 && asked_ns > p->killed_ns;
}

static void note_answer(struct probe *p, uint64_t asked_ns, uint64_t *last_ns)
{
    uint64_t now = clock_ns();
    if (p->killed_ns != 0 && *last_ns != 0 && now - *last_ns > p->gap_ns)
        p->gap_ns = now - *last_ns;
    if (was_killed(p, asked_ns) && p->again_ns == 0)
        p->again_ns = now;
    *last_ns = now;
    p->ok++;
}

/* True: Redis answered, with this. */
static bool try(struct probe *p, struct mqredis_reply *r, const char *expected,
                uint64_t asked_ns, uint64_t *last_ns)
{
    bool ok = r->status == MQREDIS_OK;
    if (ok) {
        note_answer(p, asked_ns, last_ns);
        if (strcmp(lib_text(r), expected) != 0)
            snprintf(p->wrong, sizeof(p->wrong), "'%.80s' and not '%.80s'",
                     lib_text(r), expected);
    } else if (r->status == MQREDIS_UNAVAILABLE) {
        uint64_t took = clock_ns() - asked_ns;
        p->unavailable++;
        if (took > p->slowest_no_ns)
            p->slowest_no_ns = took;
    } else if (r->status == MQREDIS_LOST) {
        p->lost++;
    } else {
        snprintf(p->wrong, sizeof(p->wrong), "%.190s", lib_text(r));
    }
    mqredis_free(r);
    return ok;
}

static void probe(void *arg)
{
    struct probe *p = arg;
    struct mqredis *own = mqredis_open(p->channel, NULL);
    uint64_t last_ns = 0;
    CHILD_REQUIRE(own != NULL);
    mqredis_set_timeout(own, TIMEOUT_MS);
    for (long i = 1; !p->enough && p->wrong[0] == '\0'; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%d-%ld", p->number, i);
        uint64_t t0 = clock_ns();
        bool set = try(p, mqredis_command(own, "SET %s %s", p->key, value),
                       "OK", t0, &last_ns);
        if (!set) {
            support_sleep_ms(1);
            continue;
        }
        t0 = clock_ns();
        /* A dead master's last writes may be gone with it. */
        struct mqredis_reply *r = mqredis_command(own, "GET %s", p->key);
        bool old = p->killed_ns != 0 && p->again_ns == 0;
        try(p, r, old && r->status == MQREDIS_OK ? lib_text(r) : value, t0,
            &last_ns);
    }
    mqredis_close(own);
}

static void start_probes(void)
{
    probes = support_shared(PROBES * sizeof(*probes));
    for (int i = 0; i < PROBES; i++) {
        struct probe *p = &probes[i];
        p->number = i;
        p->node = i % 3;
        strcpy(p->channel, manager.channel);
        strcpy(p->key,
               redis_cluster_word(&cluster, p->node, (unsigned)(i / 3)));
        p->pid = support_fork(probe, p);
    }
}

static bool all_go_on(void)
{
    for (int i = 0; i < PROBES; i++) {
        long before = probes[i].ok;
        if (!UNTIL(probes[i].ok > before + 2))
            return false;
    }
    return true;
}

static void stop_probes(void)
{
    for (int i = 0; i < PROBES; i++)
        probes[i].enough = true;
    for (int i = 0; i < PROBES; i++) {
        ck_assert_int_eq(support_join(probes[i].pid), 0);
        ck_assert_msg(probes[i].wrong[0] == '\0', "probe %d: %s", i,
                      probes[i].wrong);
    }
}

/* ---- the machine's noise ---- */

/* How much longer than a millisecond a process sleeps that wants one, here and
 * now, and how long the masters themselves let somebody wait who is connected
 * to them directly (they sync their nodes.conf in the midst of a failover):
 * nobody's gap can be shorter. */
struct noise {
    pid_t pid;
    _Atomic uint64_t worst_ns, redis_ns;
};

static struct noise *noise;

static void note_worst(_Atomic uint64_t *worst, uint64_t since)
{
    uint64_t took = clock_ns() - since;
    if (took > *worst)
        *worst = took;
}

static void listen_to_noise(void *arg)
{
    struct noise *n = arg;
    struct redis_link links[3];
    bool dead[3] = {false};
    for (int i = 0; i < 3; i++)
        redis_link_open(&links[i], &cluster.node[i].at);
    for (;;) {
        uint64_t t0 = clock_ns();
        support_sleep_ms(1);
        note_worst(&n->worst_ns, t0);
        for (int i = 0; i < 3; i++) {
            t0 = clock_ns();
            dead[i] = dead[i] ||
                      strcmp(redis_link_ask(&links[i], "PING"), "closed") == 0;
            if (!dead[i])
                note_worst(&n->redis_ns, t0);
            links[i].len = links[i].taken = 0;
        }
    }
}

static void start_noise(void)
{
    noise = support_shared(sizeof(*noise));
    noise->pid = support_fork(listen_to_noise, noise);
}

/* ---- the scene ---- */

static bool start(int timeout_ms, const char *options)
{
    if (!cluster_scene_nodes(SCENE_MASTERS, timeout_ms, NULL))
        return false;
    e2e_manager_start(&manager, NULL, redis_cluster_uri(&cluster), options);
    return true;
}

struct outcome {
    uint64_t failover_ns;   /* from the kill until all nodes know */
    uint64_t others_gap_ns; /* the longest of those whose master lives */
    uint64_t after_ns;      /* from the failover until the last goes on */
    long unavailable, others_failed, lost;
    uint64_t slowest_no_ns;
};

static void gather(struct outcome *o, int dead, uint64_t failed_over_ns)
{
    for (int i = 0; i < PROBES; i++) {
        struct probe *p = &probes[i];
        if (p->node != dead) {
            o->others_failed += p->unavailable + p->lost;
            if (p->gap_ns > o->others_gap_ns)
                o->others_gap_ns = p->gap_ns;
            continue;
        }
        o->unavailable += p->unavailable;
        o->lost += p->lost;
        if (p->slowest_no_ns > o->slowest_no_ns)
            o->slowest_no_ns = p->slowest_no_ns;
        ck_assert_msg(UNTIL(p->again_ns != 0), "probe %d never went on: %s", i,
                      e2e_log(&manager));
        if (p->again_ns > failed_over_ns &&
            p->again_ns - failed_over_ns > o->after_ns)
            o->after_ns = p->again_ns - failed_over_ns;
    }
}

static void tell_probes(uint64_t killed_ns)
{
    for (int i = 0; i < PROBES; i++)
        probes[i].killed_ns = killed_ns;
}

/* The probes learn of it first, for what was acknowledged a moment before may
 * be gone, and that is not the manager's doing. Returns when it was. */
static uint64_t kill_now(int dead)
{
    tell_probes(DYING);
    for (int i = 0; i < PROBES; i++)
        probes[i].again_ns = 0;
    redis_cluster_kill(&cluster, dead);
    uint64_t now = clock_ns();
    tell_probes(now);
    return now;
}

/* Kills a master under the probes; waits until its keys are served again. */
static void kill_under_probes(struct outcome *o, int dead)
{
    *o = (struct outcome){0};
    ck_assert(all_go_on());
    uint64_t killed_ns = kill_now(dead);
    redis_cluster_await_failover(&cluster, dead);
    uint64_t failed_over_ns = clock_ns();
    o->failover_ns = failed_over_ns - killed_ns;
    for (int i = 0; i < PROBES; i++)
        if (probes[i].node == dead)
            ck_assert_msg(UNTIL(probes[i].again_ns != 0),
                          "probe %d never went on: %s", i, e2e_log(&manager));
    gather(o, dead, failed_over_ns);
    ck_assert_msg(all_go_on(), "%s", e2e_books(&manager));
}

static void judge(const char *what, const struct outcome *o)
{
    uint64_t slack = 3 * noise->worst_ns + noise->redis_ns;
    e2e_figure(E2E_REDIS,
               "%s: failover after %.0f ms, the dead one's keys served %.0f ms "
               "later; longest gap of the others %.0f ms (a process that only "
               "sleeps: %.0f ms; the masters themselves: %.0f ms); %ld lost, "
               "%ld unavailable",
               what, (double)o->failover_ns / 1e6, (double)o->after_ns / 1e6,
               (double)o->others_gap_ns / 1e6, (double)noise->worst_ns / 1e6,
               (double)noise->redis_ns / 1e6, o->lost, o->unavailable);
    ck_assert_int_eq(o->others_failed, 0);
    /* Each of them had one command under way, at most. */
    ck_assert_int_le(o->lost, PER_MASTER);
    ck_assert_uint_le(o->after_ns, AFTER_FAILOVER_MS * NS_PER_MS + slack);
    /* The failover takes longer than that, so nobody waited for it. */
    ck_assert_uint_lt(o->others_gap_ns, 500 * NS_PER_MS + slack);
}

START_TEST(test_master_killed_when_down_wait)
{
    struct outcome o;
    if (!start(NODE_TIMEOUT_MS, "--when-down wait"))
        return;
    start_noise();
    start_probes();
    kill_under_probes(&o, _i);
    judge("--when-down=wait", &o);
    ck_assert_int_eq(o.unavailable, 0);
    redis_cluster_restart(&cluster, _i);
    redis_cluster_settle(&cluster);
    ck_assert(all_go_on());
    stop_probes();
    cluster_scene_end();
}
END_TEST

START_TEST(test_master_killed_when_down_fail)
{
    struct outcome o;
    if (!start(NODE_TIMEOUT_MS, "--when-down fail"))
        return;
    start_noise();
    start_probes();
    kill_under_probes(&o, 1);
    judge("--when-down=fail", &o);
    ck_assert_int_gt(o.unavailable, 0);
    ck_assert_uint_lt(o.slowest_no_ns, 500 * NS_PER_MS + 3 * noise->worst_ns);
    stop_probes();
    cluster_scene_end();
}
END_TEST

/* One after the other, each of them back before the next one dies: in the end
 * nobody is what he was. */
START_TEST(test_all_masters_one_after_the_other)
{
    int rounds = e2e_long() ? 6 : 2;
    if (!start(NODE_TIMEOUT_MS, NULL))
        return;
    start_noise();
    start_probes();
    for (int i = 0; i < rounds; i++) {
        int shard = i % 3;
        unsigned slot = redis_cluster_slot(probes[shard].key);
        int dead = redis_cluster_owner(&cluster, (shard + 1) % 3, slot);
        ck_assert(all_go_on());
        kill_now(dead);
        redis_cluster_await_failover(&cluster, dead);
        ck_assert_msg(all_go_on(), "%s", e2e_log(&manager));
        redis_cluster_restart(&cluster, dead);
        redis_cluster_settle(&cluster);
    }
    stop_probes();
    cluster_scene_end();
}
END_TEST

/* ---- starting and ending in a cluster that is not whole ---- */

START_TEST(test_starts_with_a_dead_seed)
{
    if (!cluster_scene_nodes(0, 60000, NULL))
        return;
    redis_cluster_kill(&cluster, 0);
    e2e_manager_launch(&manager, NULL, redis_cluster_uri(&cluster),
                       "--when-down fail");
    e2e_manager_ready(&manager);
    mq = lib_open(&manager);
    for (int i = 1; i < 3; i++)
        EXPECT(
            mqredis_command(mq, "SET %s 1", redis_cluster_word(&cluster, i, 0)),
            "OK");
    ck_assert_int_eq(lib_status(mqredis_command(
                         mq, "GET %s", redis_cluster_word(&cluster, 0, 0))),
                     MQREDIS_UNAVAILABLE);
    redis_cluster_restart(&cluster, 0);
    const char *word = redis_cluster_word(&cluster, 0, 0);
    struct mqredis_reply *r = NULL;
    ck_assert(UNTIL((mqredis_free(r), r = mqredis_command(mq, "GET %s", word),
                     r->status == MQREDIS_OK)));
    mqredis_free(r);
    cluster_scene_end();
}
END_TEST

/* The owner forgets it first; the others may hear of it once more from what
 * was under way. */
static bool is_orphan(unsigned slot)
{
    for (int i = 0; i < 3; i++)
        if (redis_cluster_owner(&cluster, i, slot) >= 0) {
            redis_cluster_ask(&cluster, i, "CLUSTER DELSLOTS %u", slot);
            return false;
        }
    return true;
}

/* A slot that nobody has: CLUSTERDOWN, which is waited out. */
START_TEST(test_slot_of_nobody)
{
    if (!cluster_scene_nodes(0, 5000, NULL))
        return;
    cluster_scene_open(NULL, NULL);
    const char *word = redis_cluster_word(&cluster, 0, 0);
    unsigned slot = redis_cluster_slot(word);
    /* For longer than from one word of theirs to the next. */
    ck_assert(
        UNTIL(is_orphan(slot) && (support_sleep_ms(1500), is_orphan(slot))));
    mqredis_set_timeout(mq, 300);
    enum mqredis_status s = MQREDIS_LOST;
    for (int i = 0; i < 10 && s == MQREDIS_LOST; i++) /* as LIB_EXPIRES */
        s = lib_status(mqredis_command(mq, "GET %s", word));
    ck_assert_msg(s == MQREDIS_EXPIRED || s == MQREDIS_UNAVAILABLE, "%s",
                  mqredis_status_str(s));
    mqredis_set_timeout(mq, TIMEOUT_MS);
    struct mqredis_request *q = mqredis_submit(mq, "INCR %s", word);
    mqredis_flush(mq);
    EXPECT(mqredis_command(mq, "SET %s 1", redis_cluster_word(&cluster, 1, 0)),
           "OK");
    ck_assert(!mqredis_wait_done(q, 200));
    redis_cluster_ask(&cluster, 2, "CLUSTER ADDSLOTS %u", slot);
    EXPECT(mqredis_wait(q), "1");
    cluster_scene_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_failover");
    TCase *t = support_case(s, "failover", e2e_long() ? 240 : 90);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_loop_test(t, test_master_killed_when_down_wait, 0,
                        e2e_long() ? 3 : 1);
    tcase_add_test(t, test_master_killed_when_down_fail);
    tcase_add_test(t, test_all_masters_one_after_the_other);
    tcase_add_test(t, test_starts_with_a_dead_seed);
    tcase_add_test(t, test_slot_of_nobody);
    return s;
}

int main(void)
{
    return support_run(suite());
}
