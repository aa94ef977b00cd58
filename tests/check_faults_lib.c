/*
 * The library, with each of its system calls and allocations made to fail in
 * turn: every outcome is a status that mqredis.h names, it is true (Redis is
 * asked), it comes in time, and nothing is left open or allocated.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/faults/acts.h"
#include "tests/faults/sweep.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 400
#define SAMPLE FAULTS_SAMPLE(150)

/* A call may end so much later than its time: the machine may be busy. */
#define LATE_MS 5000

struct scene {
    struct e2e_redis redis;
    struct e2e_manager manager;
    struct redis_link link;
    struct faults_plan *plan;
    struct acts *acts;
    unsigned statuses[ACTS_STATUSES];
    int64_t worst_ms;
};

static void scene_open(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    e2e_start(&s->redis, &s->manager, E2E_REDIS, NULL);
    redis_link_open(&s->link, &s->redis.at);
    s->plan = faults_plan_new(NULL);
    s->acts = support_shared(sizeof(*s->acts));
}

static void scene_close(struct scene *s)
{
    redis_link_close(&s->link);
    ck_assert_int_eq(e2e_manager_stop(&s->manager), 0);
    e2e_redis_kill(&s->redis);
}

static void run(void *arg)
{
    struct scene *s = arg;
    struct acts *a = s->acts;
    /* What the C library allocates or opens once for a process. */
    struct acts *warm = calloc(1, sizeof(*warm));
    warm->id = a->id + 500000000;
    warm->timeout_ms = 5000;
    if (getenv("FAULTS_COLD") == NULL)
        acts_all(warm, s->manager.channel);
    free(warm);
    faults_use(s->plan);
    a->fds[0] = support_count_fds();
    a->blocks[0] = s->plan->blocks[FAULTS_SELF];
    s->plan->armed = true;
    acts_all(a, s->manager.channel);
    s->plan->armed = false;
    a->blocks[1] = s->plan->blocks[FAULTS_SELF];
    a->fds[1] = support_count_fds();
}

static int entries(const struct scene *s, const char *folder)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/%s", s->manager.channel, folder);
    return support_count_entries(support_path(path));
}

/* Runs the acts in a process of their own, and judges them. */
static void act(struct scene *s)
{
    static uint64_t id;
    struct acts *a = s->acts;
    memset(a, 0, sizeof(*a));
    a->id = ++id;
    a->timeout_ms = TIMEOUT_MS;
    pid_t pid = support_fork(run, s);
    int status = 0;
    bool ended = UNTIL(waitpid(pid, &status, WNOHANG) != 0) ||
                 UNTIL(waitpid(pid, &status, WNOHANG) != 0);
    if (!ended) {
        support_kill(pid);
        acts_wrong(a, "hangs");
    } else if (status != 0) {
        acts_wrong(a, "ended with %#x", (unsigned)status);
    }
    if (a->silent && s->plan->until == s->plan->from)
        acts_wrong(a, "a stream lost a message and was not told");
    if (a->worst_ms > TIMEOUT_MS + LATE_MS)
        acts_wrong(a, "a call took %lld ms", (long long)a->worst_ms);
    acts_verify(a, &s->link, 1);
    snprintf(a->at, sizeof(a->at), "afterwards");
    if (ended && a->fds[0] != a->fds[1])
        acts_wrong(a, "%d descriptors, before %d", a->fds[1], a->fds[0]);
    if (FAULTS_BLOCKS_COUNT && ended && a->blocks[0] != a->blocks[1])
        acts_wrong(a, "%lld blocks of memory, before %lld",
                   (long long)a->blocks[1], (long long)a->blocks[0]);
    /* What could not be unlinked stays until the manager's sweep. */
    if (s->plan->failed > 0 && s->plan->call == FAULTS_unlinkat)
        return;
    if (entries(s, "reply") != 0 || entries(s, "payload") != 0)
        acts_wrong(a, "%d entries left in reply/, %d in payload/",
                   entries(s, "reply"), entries(s, "payload"));
}

static void gather(struct scene *s)
{
    for (int i = 0; i < ACTS_STATUSES; i++)
        s->statuses[i] += s->acts->statuses[i];
    if (s->acts->worst_ms > s->worst_ms)
        s->worst_ms = s->acts->worst_ms;
}

static void report(const struct scene *s)
{
    printf("figure: library:");
    for (int i = 0; i < ACTS_STATUSES; i++)
        printf(" %s %u", mqredis_status_str((enum mqredis_status)i),
               s->statuses[i]);
    printf("; longest call %lld ms (timeout %d)\n", (long long)s->worst_ms,
           TIMEOUT_MS);
}

/* A folder that a failed unlink left full is emptied. */
static void tidy(const struct scene *s)
{
    static const char *const folders[] = {"reply", "payload"};
    for (int i = 0; i < 2; i++) {
        char path[96], command[4200];
        if (entries(s, folders[i]) == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", s->manager.channel, folders[i]);
        snprintf(command, sizeof(command), "rm -f '%s'/*", support_path(path));
        ck_assert_int_eq(system(command), 0);
    }
}

START_TEST(test_every_outcome_is_named_and_true)
{
    struct scene s;
    scene_open(&s);
    /* Without faults all is well: so the sweep knows what there is to fail. */
    faults_plan_clear(s.plan);
    act(&s);
    ck_assert_msg(s.acts->wrong[0] == '\0', "%s", s.acts->wrong);
    ck_assert_msg(s.acts->statuses[MQREDIS_OK] > 20, "%u",
                  s.acts->statuses[MQREDIS_OK]);
    for (int i = 1; i < ACTS_STATUSES; i++)
        ck_assert_uint_eq(s.acts->statuses[i], 0);
    struct faults_sweep sweep;
    struct faults_point point;
    faults_sweep_init(&sweep, s.plan, FAULTS_BOTH, SAMPLE);
    while (faults_sweep_next(&sweep, s.plan, &point)) {
        act(&s);
        sweep.struck += s.plan->failed > 0;
        gather(&s);
        if (s.acts->wrong[0] != '\0')
            faults_complain(&sweep, &point, "%s", s.acts->wrong);
        tidy(&s);
    }
    faults_report(&sweep, "library");
    report(&s);
    ck_assert_uint_eq(sweep.complaints, 0);
    /* The manager has seen much, and serves as ever. */
    faults_plan_clear(s.plan);
    act(&s);
    ck_assert_msg(s.acts->wrong[0] == '\0', "%s", s.acts->wrong);
    ck_assert_msg(UNTIL(e2e_balanced(&s.manager)), "%s", e2e_books(&s.manager));
    faults_sweep_release(&sweep);
    scene_close(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_lib");
    TCase *sweep = support_case(s, "sweep", faults_whole() ? 7200 : 240);
    tcase_add_checked_fixture(sweep, NULL, e2e_stop_all);
    tcase_add_test(sweep, test_every_outcome_is_named_and_true);
    return support_run(s);
}
