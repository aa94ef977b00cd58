/*
 * chaos SECONDS [SEED]: real programs under random faults.
 *
 * The time is divided into rounds. In each, a Redis behind a proxy, managers of
 * one channel and workers live in a fresh folder, and at random are killed,
 * stopped, told to end, replaced and cut off from each other. Then the faults
 * end; everything must work again, end in good order and leave nothing; and
 * what the workers were told is compared with what Redis has.
 *
 * A round's seed is the first seed plus its number, so `chaos 15 SEED` repeats
 * one of them. Exit status 1: something was not as it must be.
 */
#include <check.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/status.h"
#include "tests/chaos/faults.h"
#include "tests/chaos/verdict.h"
#include "tests/support.h"
#include "workers/mqredis.h"

#define ROUND_S 15
#define SETTLE_MS 20000
/* A manager without workers: its own pipes, sockets and timers. */
#define IDLE_FDS 40
#define LOG_LINES "80"
/* What a wait may be late: this, and what the machine itself is. */
#define LATE_MS 500

struct total {
    uint64_t steps, status[HISTORY_STATUSES], cancelled, errors, never;
    uint64_t done[FAULT_TYPES];
    uint64_t late_ns, noise_ns;
    unsigned rounds, workers, violations;
};

static bool turn_until(struct world *w, int ms, bool (*met)(struct world *w))
{
    uint64_t until = clock_deadline(ms);
    while (!met(w)) {
        if (clock_ns() >= until)
            return false;
        world_turn(w);
    }
    return true;
}

static void storm(struct world *w, int seconds, struct total *t)
{
    uint64_t end = clock_deadline(seconds * 1000), next = clock_deadline(300);
    while (clock_ns() < end) {
        world_turn(w);
        if (clock_ns() < next)
            continue;
        faults_strike(w, t->done);
        /* Now and then a quiet moment, for everything to come back. */
        next = clock_deadline(dice_chance(&w->dice, 10)
                                  ? dice_between(&w->dice, 300, 1200)
                                  : dice_between(&w->dice, 5, 120));
    }
}

/* ---- after the storm ---- */

static bool has_settled(struct world *w)
{
    unsigned serving = 0;
    for (size_t i = 0; i < WORLD_MANAGERS; i++) {
        const struct manager *m = &w->managers[i];
        serving += m->player.pid != 0 && m->told == 0;
        if (m->player.resume_ns != 0)
            return false;
    }
    return serving == 1 && world_managers(w) == 1 && w->redis.pid != 0 &&
           w->redis.resume_ns == 0 && w->heal_ns == 0;
}

static bool has_no_manager(struct world *w)
{
    return world_managers(w) == 0;
}

static bool has_no_worker(struct world *w)
{
    for (unsigned i = 0; i < w->seat_count; i++)
        if (w->seats[i].player.pid != 0)
            return false;
    return true;
}

static void ask_once(void *arg)
{
    const struct world *w = arg;
    struct mqredis_error why = {MQREDIS_OK, ""};
    struct mqredis *mq = mqredis_open(w->channel, &why);
    if (mq == NULL || mqredis_wait_ready(mq, SETTLE_MS, &why) != MQREDIS_OK) {
        printf("  not ready: %s\n", why.text);
        fflush(stdout);
        _exit(1);
    }
    struct mqredis_reply *r = mqredis_command(mq, "ECHO calm");
    bool fine = r->type == MQREDIS_STRING;
    /* While Redis reads its log it says so. */
    for (int i = 0; i < 100 && !fine && r->type == MQREDIS_ERROR; i++) {
        mqredis_free(r);
        support_sleep_ms(50);
        r = mqredis_command(mq, "ECHO calm");
        fine = r->type == MQREDIS_STRING;
    }
    if (!fine)
        printf("  ECHO: %s\n", r->str);
    fflush(stdout);
    mqredis_free(r);
    mqredis_close(mq);
    _exit(fine ? 0 : 1);
}

static void recover(struct world *w)
{
    w->calm = true;
    world_note(w, "calm");
    if (!turn_until(w, SETTLE_MS, has_settled))
        world_accuse(w, "%u managers %d ms after the faults ended, not one",
                     world_managers(w), SETTLE_MS);
    int status;
    pid_t pid = support_fork(ask_once, w);
    uint64_t until = clock_deadline(SETTLE_MS + 10000);
    /* Not world_turn: that takes in any child's end. */
    while (waitpid(pid, &status, WNOHANG) == 0 && clock_ns() < until)
        support_sleep_ms(5);
    if (clock_ns() >= until) {
        support_kill(pid);
        world_accuse(w, "a request hangs after the faults ended");
    } else if (status != 0) {
        world_accuse(w, "no service %d ms after the faults ended", SETTLE_MS);
    }
}

static void dismiss_workers(struct world *w)
{
    *w->leave = true;
    if (turn_until(w, SETTLE_MS, has_no_worker))
        return;
    for (unsigned i = 0; i < w->seat_count; i++) {
        struct seat *s = &w->seats[i];
        if (s->player.pid == 0)
            continue;
        uint32_t n = s->history->count;
        world_accuse(w,
                     "worker w%u (%ld, state %c, system call %ld) still waits "
                     "at step %u (%s)",
                     s->history->id, (long)s->player.pid,
                     support_proc_state(s->player.pid),
                     support_proc_syscall(s->player.pid), n - 1,
                     n > 0 ? act_names[s->history->steps[n - 1].act] : "none");
        kill(s->player.pid, SIGKILL);
    }
    (void)turn_until(w, SETTLE_MS, has_no_worker);
}

/* Nothing in flight, and no descriptor of the workers that were. */
static void check_idle_manager(struct world *w)
{
    struct channel ch;
    struct err_text why = {""};
    const struct status *status;
    struct manager *m = world_any_manager(w);
    if (m == NULL)
        return;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)m->player.pid);
    bool few = UNTIL(support_count_entries(path) <= IDLE_FDS);
    if (!few)
        world_accuse(w, "manager %ld without workers has %d descriptors open",
                     (long)m->player.pid, support_count_entries(path));
    if (channel_open(&ch, w->channel, &why) != ERR_OK) {
        world_accuse(w, "the channel of a living manager: %s", why.text);
        return;
    }
    if (status_open(&ch, &status, &why) != ERR_OK)
        world_accuse(w, "the status of a living manager: %s", why.text);
    else if (!UNTIL(atomic_load(&status->gauges[GAUGE_inflight]) == 0))
        world_accuse(
            w, "manager %ld without workers has %llu in flight",
            (long)m->player.pid,
            (unsigned long long)atomic_load(&status->gauges[GAUGE_inflight]));
    channel_close(&ch);
}

static void dismiss_managers(struct world *w)
{
    w->closing = true;
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        if (w->managers[i].player.pid != 0)
            world_end_manager(w, &w->managers[i], SIGTERM);
    if (!turn_until(w, SETTLE_MS, has_no_manager))
        world_accuse(w, "a manager does not end");
}

static void check_left(struct world *w)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", w->dir, w->channel);
    /* A last guardian may be at it. */
    if (!UNTIL(support_count_entries(path) <= 0)) {
        char command[600];
        world_accuse(w, "%d entries are left in the channel's folder",
                     support_count_entries(path));
        snprintf(command, sizeof(command), "ls -lR '%s'", path);
        (void)!system(command);
    }
    for (unsigned i = 0; i < w->queue_count; i++) {
        mqd_t q = mq_open(w->queues[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (q == (mqd_t)-1)
            continue;
        world_accuse(w, "the queue %s is left", w->queues[i]);
        mq_close(q);
        mq_unlink(w->queues[i]);
    }
}

/* Ends our own, and whatever else is there: we are everybody's heir. */
static void end_all(struct world *w)
{
    kill(w->proxy.pid, SIGKILL);
    waitpid(w->proxy.pid, NULL, 0);
    world_kill_redis(w, 0);
    if (UNTIL(waitpid(-1, NULL, WNOHANG) < 0))
        return;
    char path[64], text[256] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%ld/children",
             (long)getpid());
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        (void)!fgets(text, sizeof(text), f);
        fclose(f);
    }
    world_accuse(w, "processes are left: %s", text);
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (atoi(word) > 0)
            support_kill(atoi(word));
}

/* ---- rounds ---- */

static void add_up(const struct world *w, struct total *t)
{
    for (unsigned i = 0; i < w->history_count; i++) {
        const struct history *h = &w->histories[i];
        t->steps += h->count;
        t->cancelled += h->cancelled;
        t->errors += h->errors;
        for (size_t k = 0; k < HISTORY_STATUSES; k++)
            t->status[k] += h->status[k];
        for (uint32_t n = 0; n < h->count; n++)
            t->never += h->steps[n].fate == FATE_OPEN;
        if (h->late_ns > t->late_ns)
            t->late_ns = h->late_ns;
    }
    if (w->noise_ns > t->noise_ns)
        t->noise_ns = w->noise_ns;
    t->workers += w->history_count;
    t->violations += w->violations;
    t->rounds++;
}

static void check_lateness(struct world *w)
{
    uint64_t limit = LATE_MS * NS_PER_MS + 2 * w->noise_ns;
    for (unsigned i = 0; i < w->history_count; i++) {
        const struct history *h = &w->histories[i];
        if (h->late_ns > limit)
            world_accuse(w,
                         "w%u: step %u (%s) waited %.0f ms past its deadline "
                         "(noise of the machine: %.0f ms)",
                         h->id, h->late_step,
                         act_names[h->steps[h->late_step].act],
                         (double)h->late_ns / 1e6, (double)w->noise_ns / 1e6);
    }
}

static void run_round(struct total *t, uint64_t seed, int seconds, bool durable,
                      struct history *histories, _Atomic bool *leave)
{
    struct world w = {.histories = histories, .leave = leave};
    *leave = false;
    support_scratch_setup();
    printf("round %u: seed %llu, %d s\n", t->rounds + 1,
           (unsigned long long)seed, seconds);
    world_begin(&w, seed, durable);
    storm(&w, seconds, t);
    recover(&w);
    dismiss_workers(&w);
    check_idle_manager(&w);
    dismiss_managers(&w);
    check_left(&w);
    verdict_reach(&w);
    check_lateness(&w);
    end_all(&w);
    if (w.violations > 0) {
        char command[256];
        printf("round %u: seed %llu: %u violations. The end of its log:\n",
               t->rounds + 1, (unsigned long long)seed, w.violations);
        fflush(stdout);
        snprintf(command, sizeof(command), "tail -n " LOG_LINES " '%s/log'",
                 w.dir);
        if (getenv("CHAOS_KEEP") != NULL)
            snprintf(command, sizeof(command), "cp '%s/log' '%s'", w.dir,
                     getenv("CHAOS_KEEP"));
        (void)!system(command);
    }
    add_up(&w, t);
    support_scratch_teardown();
}

static void report(const struct total *t, uint64_t seed)
{
    printf("chaos: seed %llu: %u rounds, %u workers, %llu requests:",
           (unsigned long long)seed, t->rounds, t->workers,
           (unsigned long long)t->steps);
    for (int i = 0; i < HISTORY_STATUSES; i++)
        if (t->status[i] > 0)
            printf(" %s=%llu", mqredis_status_str((enum mqredis_status)i),
                   (unsigned long long)t->status[i]);
    printf(" cancelled=%llu loading=%llu unanswered=%llu\nfaults:",
           (unsigned long long)t->cancelled, (unsigned long long)t->errors,
           (unsigned long long)t->never);
    for (int i = 0; i < FAULT_TYPES; i++)
        printf(" %s=%llu", fault_names[i], (unsigned long long)t->done[i]);
    printf("\nat most %.1f ms past a deadline (noise of the machine: %.1f "
           "ms); %u violations\n",
           (double)t->late_ns / 1e6, (double)t->noise_ns / 1e6, t->violations);
}

static bool has_program(const char *name)
{
    char command[256];
    snprintf(command, sizeof(command), "command -v '%s' >/dev/null", name);
    return system(command) == 0;
}

static long number(const char *text, const char *what)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end != text && *end == '\0' && n > 0)
        return n;
    fprintf(stderr, "chaos: %s '%s' is not a number above 0\n", what, text);
    exit(64);
}

struct order {
    int seconds;
    uint64_t seed;
    unsigned violations;
};

/* Libcheck's tests take no argument, so this is the file's one state. */
static struct order order;

static void run_rounds(void)
{
    const char *redis = getenv("REDIS_SERVER");
    bool durable = has_program(redis != NULL ? redis : "redis-server");
    size_t size = WORLD_HISTORIES * sizeof(struct history);
    struct history *histories =
        mmap(NULL, size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    /* In memory, for Redis's log is synced with each write. */
    setenv("TMPDIR", "/dev/shm", 0);
    if (histories == MAP_FAILED ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        perror("chaos: cannot begin");
        exit(1);
    }
    struct total t = {0};
    int left = order.seconds;
    /* Check's own handlers end the whole process group, and children would
     * inherit them. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (!durable)
        printf("note: no redis-server here: mqredis-server, never killed\n");
    printf("chaos: seed %llu\n", (unsigned long long)order.seed);
    while (left > 0 && t.violations == 0) {
        int seconds = left < ROUND_S + 5 ? left : ROUND_S;
        /* Every fifth round with the embedded server. */
        run_round(&t, order.seed + t.rounds, seconds,
                  durable && (order.seed + t.rounds) % 5 != 4, histories,
                  support_shared(sizeof(_Atomic bool)));
        left -= seconds;
    }
    report(&t, order.seed);
    order.violations = t.violations;
}

START_TEST(test_rounds)
{
    run_rounds();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: chaos SECONDS [SEED]\n");
        return 64;
    }
    order.seconds = (int)number(argv[1], "the time");
    order.seed = argc > 2 && argv[2][0] != '\0'
                     ? (uint64_t)number(argv[2], "the seed")
                     : clock_ns() / NS_PER_MS % 1000000 + 1;
    /* What is shared with the suites asserts, which takes a runner. */
    Suite *s = suite_create("chaos");
    TCase *rounds = tcase_create("rounds");
    tcase_add_test(rounds, test_rounds);
    suite_add_tcase(s, rounds);
    SRunner *runner = srunner_create(s);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 && order.violations == 0 ? 0 : 1;
}
