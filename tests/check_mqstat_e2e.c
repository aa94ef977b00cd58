/* mqstat beside a real manager: what it says against what is known otherwise.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/e2e_client.h"
#include "tests/json.h"
#include "tests/support.h"
#include "tests/support_run.h"

static struct e2e_output ran;

static void mqstat(const char *a, const char *b, const char *c, const char *d)
{
    setenv("LC_ALL", "C", 1);
    e2e_run(&ran, (const char *[]){"mqstat", a, b, c, d, NULL});
}

#define ENDED(want)                                                            \
    ck_assert_msg(ran.status == (want), "exit code %d, not %d:\n%s",           \
                  ran.status, (want), ran.text)
#define HAS(what)                                                              \
    ck_assert_msg(strstr(ran.text, what) != NULL, "no '%s' in:\n%s", what,     \
                  ran.text)

#define WORKERS 40
#define CAPACITY 32

/* 40 workers against a stopped manager: 32/32, 8 blocked, and their pids. */
START_TEST(test_names_the_blocked_workers)
{
    struct e2e_redis r;
    struct e2e_manager m;
    char want[64];
    e2e_start(&r, &m, _i, NULL);
    struct e2e_actor *a = support_shared(WORKERS * sizeof(*a));
    support_stop(m.pid);
    for (int i = 0; i < WORKERS; i++) {
        e2e_actor_start(&a[i], m.channel, 60000, "PING");
        ck_assert(i < CAPACITY ? e2e_actor_reaches(&a[i], E2E_SENT)
                               : support_sleeps_in(a[i].pid, SYS_mq_timedsend));
    }
    mqstat(m.channel, NULL, NULL, NULL);
    ENDED(0);
    HAS("stopped");
    HAS("32/32 messages (full)");
    HAS("8 threads");
    for (int i = 0; i < WORKERS; i++) {
        snprintf(want, sizeof(want), "%d check_", (int)a[i].pid);
        ck_assert_msg((strstr(ran.text, want) != NULL) == (i >= CAPACITY),
                      "worker %d, pid %d:\n%s", i, (int)a[i].pid, ran.text);
    }
    mqstat("--check", m.channel, NULL, NULL);
    ENDED(1);
    mqstat("pause", m.channel, "--timeout", "0.3");
    ENDED(75);
    HAS("its manager is stopped");
    kill(m.pid, SIGCONT);
    /* The order was given, and is obeyed once there is somebody to do so. */
    mqstat("--wait", "paused", m.channel, NULL);
    ENDED(0);
    mqstat("resume", m.channel, NULL, NULL);
    ENDED(0);
    for (int i = 0; i < WORKERS; i++)
        ck_assert(e2e_actor_reaches(&a[i], E2E_DONE));
    mqstat("--wait", "idle", m.channel, NULL);
    ENDED(0);
    mqstat("--check", m.channel, NULL, NULL);
    ENDED(0);
    e2e_manager_stop(&m);
}
END_TEST

/* ---- a known load ---- */

#define LOADERS 4
#define REQUESTS 1000

struct load {
    const char *channel;
    uint32_t rtt_us[REQUESTS]; /* as the client saw them */
    bool done;
};

static void run_load(void *arg)
{
    struct load *load = arg;
    struct e2e_client c;
    struct e2e_call call = {0};
    char payload[128];
    uint32_t n;
    CHILD_REQUIRE(e2e_client_open(&c, load->channel) == ERR_OK);
    size_t len = e2e_commands(payload, sizeof(payload), &n, "INCR load");
    for (size_t i = 0; i < REQUESTS; i++) {
        CHILD_REQUIRE(e2e_begin(&c, &call, n, payload, len, 30000) == ERR_OK);
        call.header.pid = (uint32_t)getpid();
        call.header.prev_rtt_us = i ? load->rtt_us[i - 1] : 0;
        uint64_t start = clock_ns();
        CHILD_REQUIRE(e2e_send(&c, &call) == ERR_OK);
        CHILD_REQUIRE(e2e_finish(&c, &call) == E2E_OK);
        load->rtt_us[i] = (uint32_t)((clock_ns() - start) / 1000) + 1;
    }
    load->done = true;
    for (;;)
        pause();
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double json_number(const struct json_value *v, const char *path)
{
    const struct json_value *n = json_at(v, path);
    ck_assert_msg(n != NULL && n->type == JSON_NUMBER, "no %s", path);
    return n->number;
}

/* Whether that is what they are at this rank: within 10 percent, or 20 us.
 * Among the slow ones neighbours may be far apart, so some of both sides will
 * do. */
static bool is_at(double us, const uint32_t *sorted, size_t n, size_t rank)
{
    size_t low = rank > 2 ? rank - 2 : 0;
    size_t high = rank + 2 < n ? rank + 2 : n - 1;
    double least = sorted[low] * 0.9, most = sorted[high] * 1.1;
    if (least > sorted[low] - 20.0)
        least = sorted[low] - 20.0;
    if (most < sorted[high] + 20.0)
        most = sorted[high] + 20.0;
    return us >= least && us <= most;
}

/* e2e_output's room is too small for a whole document. */
static struct json_value *read_json(const char *channel)
{
    static char text[1 << 18];
    char command[4400];
    size_t at;
    snprintf(command, sizeof(command), "timeout 60 '%s/mqstat' --json %s",
             support_build(), channel);
    FILE *p = popen(command, "re");
    ck_assert_ptr_nonnull(p);
    text[fread(text, 1, sizeof(text) - 1, p)] = '\0';
    ck_assert_int_eq(pclose(p), 0);
    struct json_value *v = json_parse(text, &at);
    ck_assert_msg(v != NULL, "no JSON at %zu:\n%s", at, text);
    return v;
}

START_TEST(test_counts_and_times_are_true)
{
    struct e2e_redis r;
    struct e2e_manager m;
    pid_t pids[LOADERS];
    e2e_start(&r, &m, _i, NULL);
    struct load *load = support_shared(LOADERS * sizeof(*load));
    for (int i = 0; i < LOADERS; i++) {
        load[i].channel = m.channel;
        pids[i] = support_fork(run_load, &load[i]);
    }
    for (int i = 0; i < LOADERS; i++)
        ck_assert(UNTIL(load[i].done));
    /* What is answered is booked a moment later. */
    ck_assert(UNTIL(e2e_balanced(&m)));
    struct json_value *v = read_json(m.channel);
    const double total = LOADERS * REQUESTS;
    ck_assert_double_eq(json_number(v, "channels.0.counters.taken"), total);
    ck_assert_double_eq(json_number(v, "channels.0.counters.answered"), total);
    ck_assert_double_eq(json_number(v, "channels.0.unaccounted"), 0);
    ck_assert_double_eq(json_number(v, "channels.0.gauges.inflight"), 0);
    ck_assert_double_eq(json_number(v, "channels.0.queue.senders"), LOADERS);
    ck_assert_double_eq(json_number(v, "channels.0.queue.capacity"), 32);

    /* A client's last round trip is told by nobody. */
    static uint32_t rtts[LOADERS * (REQUESTS - 1)];
    size_t n = 0;
    for (int i = 0; i < LOADERS; i++)
        for (int k = 0; k < REQUESTS - 1; k++)
            rtts[n++] = load[i].rtt_us[k];
    qsort(rtts, n, sizeof(*rtts), compare_u32);
    double p50 = json_number(v, "channels.0.times.round_trip.p50_us");
    double p99 = json_number(v, "channels.0.times.round_trip.p99_us");
    e2e_figure(_i,
               "request p50 %.0f us, p99 %.0f us; the clients saw %u and %u",
               p50, p99, rtts[n / 2], rtts[n * 99 / 100]);
    ck_assert(is_at(p50, rtts, n, n / 2));
    ck_assert(is_at(p99, rtts, n, n * 99 / 100));

    const struct json_value *clients = json_at(v, "channels.0.clients");
    ck_assert_uint_eq(clients->count, LOADERS);
    for (size_t i = 0; i < LOADERS; i++) {
        ck_assert_double_eq(json_number(clients->children[i], "sent"),
                            REQUESTS);
        ck_assert_double_eq(json_number(clients->children[i], "in_flight"), 0);
        ck_assert_str_eq(json_at(clients->children[i], "command")->string,
                         "INCR");
        bool known = false;
        for (int k = 0; k < LOADERS; k++)
            known = known ||
                    json_number(clients->children[i], "pid") == (double)pids[k];
        ck_assert(known);
    }
    json_free(v);
    for (int i = 0; i < LOADERS; i++)
        support_kill(pids[i]);
    e2e_manager_stop(&m);
}
END_TEST

/* ---- orders ---- */

START_TEST(test_orders_to_a_real_manager)
{
    struct e2e_redis r;
    struct e2e_manager m;
    char pid[16];
    e2e_start(&r, &m, _i, NULL);
    struct e2e_actor *a = support_shared(2 * sizeof(*a));
    mqstat("pause", m.channel, NULL, NULL);
    ENDED(0);
    HAS(": paused");
    e2e_actor_start(&a[0], m.channel, 30000, "PING");
    ck_assert(e2e_actor_reaches(&a[0], E2E_SENT));
    mqstat("--check", m.channel, NULL, NULL);
    ENDED(1);
    ck_assert_int_lt(atomic_load(&a[0].stage), E2E_DONE);
    mqstat("resume", m.channel, NULL, NULL);
    ENDED(0);
    HAS(": connected");
    ck_assert(e2e_actor_reaches(&a[0], E2E_DONE));
    ck_assert_int_eq(a[0].end, E2E_OK);

    mqstat("reload", m.channel, NULL, NULL);
    ENDED(0);

    mqstat("drain", m.channel, NULL, NULL);
    ENDED(0);
    mqstat("--wait", "down", m.channel, NULL);
    ENDED(0);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    mqstat("kill-client", pid, m.channel, NULL);
    ENDED(69);
    int status;
    ck_assert(UNTIL(waitpid(m.pid, &status, WNOHANG) == m.pid));
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(test_kill_client_ends_a_blocking_command)
{
    struct e2e_redis r;
    struct e2e_manager m;
    char pid[16], want[80];
    e2e_start(&r, &m, _i, NULL);
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_actor_start(a, m.channel, 60000, "BLPOP nothing 0");
    ck_assert(UNTIL(e2e_gauge(&m, GAUGE_inflight) == 1));
    mqstat(m.channel, NULL, NULL, NULL);
    HAS("BLPOP");
    snprintf(pid, sizeof(pid), "%d", (int)a->pid);
    snprintf(want, sizeof(want), "%s  check_", pid);
    HAS(want);
    mqstat("kill-client", pid, m.channel, NULL);
    ENDED(0);
    ck_assert(e2e_actor_reaches(a, E2E_DONE));
    ck_assert_int_ne(a->end, E2E_OK);
    e2e_manager_stop(&m);
}
END_TEST

START_TEST(test_a_killed_manager_and_the_doctor)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    e2e_manager_kill_both(&m);
    ck_assert(e2e_guardian_gone(&m));
    mqstat("--wait", "died", m.channel, NULL);
    ENDED(0);
    mqstat("--check", m.channel, NULL, NULL);
    ENDED(2);
    mqstat("--doctor", NULL, NULL, NULL);
    ENDED(1);
    HAS("left of a manager that is gone");
    mqstat("--doctor", "--fix", NULL, NULL);
    HAS("removed");
    mqstat("--wait", "absent", m.channel, NULL);
    ENDED(64);
    mqstat(m.channel, NULL, NULL, NULL);
    ENDED(69);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_e2e");
    TCase *t = tcase_create("mqstat");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    tcase_set_timeout(t, 120);
    e2e_add(t, test_names_the_blocked_workers);
    e2e_add(t, test_counts_and_times_are_true);
    e2e_add(t, test_orders_to_a_real_manager);
    e2e_add(t, test_kill_client_ends_a_blocking_command);
    e2e_add(t, test_a_killed_manager_and_the_doctor);
    return support_run(s);
}
