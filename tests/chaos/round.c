/*
 * A round: storm, calm, the end, the verdict. Faults strike while workers work;
 * then the faults end, everything must work again, end in good order and leave
 * nothing; and what the workers were told is compared with what Redis has.
 */
#include "tests/chaos/round.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/status.h"
#include "tests/chaos/scarcity.h"
#include "tests/chaos/verdict.h"
#include "tests/support.h"
#include "workers/mqredis.h"

#define SETTLE_MS 20000
/* A manager without workers: its own pipes, sockets and timers. */
#define IDLE_FDS 40
#define LOG_LINES "80"
/* Of everything else than the channel's folder. */
#define SCRATCH_MB 2000
#define SCRATCH_NAMES 1000

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

/* When the next fault strikes. */
static uint64_t next_strike(struct world *w)
{
    if (w->plan->quick)
        return clock_deadline(dice_between(&w->dice, 100, 1500));
    if (w->plan->gentle)
        return clock_deadline(dice_between(&w->dice, 30, 500));
    /* Now and then a quiet moment, for everything to come back. */
    return clock_deadline(dice_chance(&w->dice, 10)
                              ? dice_between(&w->dice, 300, 1200)
                              : dice_between(&w->dice, 5, 120));
}

/* Ends at once where something is not as it must be: the log is then about
 * that. */
static void storm(struct world *w, int seconds, struct total *t)
{
    uint64_t end = clock_deadline(seconds * 1000), next = clock_deadline(300);
    while (clock_ns() < end && w->violations == 0) {
        world_turn(w);
        if (clock_ns() < next)
            continue;
        faults_strike(w, t->done);
        next = next_strike(w);
    }
}

/* ---- after the storm ---- */

static bool has_settled(struct world *w)
{
    unsigned serving = 0;
    for (size_t i = 0; i < WORLD_MANAGERS; i++) {
        const struct manager *m = &w->managers[i];
        serving += m->player.pid != 0 && !m->told_term && !m->told_kill;
        if (m->player.resume_ns != 0)
            return false;
    }
    for (unsigned i = 0; i < w->server_count; i++) {
        const struct server *s = &w->servers[i];
        if (s->player.pid == 0 || s->player.resume_ns != 0 || s->heal_ns != 0)
            return false;
    }
    return serving == 1 && world_managers(w) == 1 && w->admin == 0;
}

static bool has_been_asked(struct world *w)
{
    return w->asker == 0;
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
    /* In a cluster it needs all nodes. */
    const char *command = "EXISTS a b c d e f g h i j k l m n o p";
    struct mqredis_reply *r = mqredis_command(mq, command);
    bool fine = r->type == MQREDIS_INTEGER;
    /* Redis may still be reading its log, and the last cut still be due. */
    for (int i = 0; i < 100 && !fine; i++) {
        mqredis_free(r);
        support_sleep_ms(50);
        r = mqredis_command(mq, command);
        fine = r->type == MQREDIS_INTEGER;
    }
    if (!fine)
        printf("  EXISTS: %s\n", r->str);
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
    /* A successor that gives up only now is to be replaced meanwhile. */
    w->asker = support_fork(ask_once, w);
    pid_t pid = w->asker;
    if (!turn_until(w, SETTLE_MS + 10000, has_been_asked)) {
        support_kill(pid);
        world_accuse(w, "a request hangs after the faults ended");
    } else if (w->asker_status != 0) {
        world_accuse(w, "no service %d ms after the faults ended", SETTLE_MS);
    }
}

static void dismiss_workers(struct world *w)
{
    w->orders->leave = true;
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
            world_end_manager(&w->managers[i], SIGTERM);
    if (!turn_until(w, SETTLE_MS, has_no_manager))
        world_accuse(w, "a manager does not end");
}

static void check_left(struct world *w)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", w->run_dir, w->channel);
    /* A last guardian may be at it. */
    if (!UNTIL(support_count_entries(path) <= 0)) {
        char command[600];
        world_accuse(w, "%d entries are left in the channel's folder",
                     support_count_entries(path));
        snprintf(command, sizeof(command), "ls -lR '%s'", path);
        (void)!system(command);
    }
    for (unsigned i = 0; i < w->remains->queue_count; i++) {
        const char *name = w->remains->queues[i];
        mqd_t q = mq_open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (q == (mqd_t)-1)
            continue;
        world_accuse(w, "the queue %s is left", name);
        mq_close(q);
        mq_unlink(name);
    }
    w->remains->queue_count = 0;
}

static void accuse_left(void *context, long pid)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        (void)!fgets(name, sizeof(name), f);
        fclose(f);
    }
    name[strcspn(name, "\n")] = '\0';
    world_accuse(context, "process %ld (%s) is left", pid, name);
}

/* Ends our own, and whatever else is there: we are everybody's heir. */
static void end_all(struct world *w)
{
    for (unsigned i = 0; i < w->server_count; i++)
        if (w->servers[i].proxy.pid != 0)
            support_kill(w->servers[i].proxy.pid);
    for (unsigned i = 0; i < w->sleeper_count; i++)
        support_kill(w->sleepers[i]);
    if (w->admin != 0)
        support_kill(w->admin);
    for (unsigned i = 0; i < w->server_count; i++)
        world_kill_redis(w, &w->servers[i], 0);
    if (!UNTIL(waitpid(-1, NULL, WNOHANG) < 0))
        keeper_end_children(accuse_left, w);
}

/* ---- a round ---- */

static void add_up(const struct world *w, struct total *t)
{
    for (unsigned i = 0; i < w->history_count; i++) {
        const struct history *h = &w->histories[i];
        t->requests += h->count + h->plain;
        t->checked += h->checked;
        t->cancelled += h->cancelled;
        t->errors += h->errors;
        t->forks += h->forks;
        t->threads += h->threads;
        t->heard += h->heard;
        t->lagged += h->lagged;
        t->gaps += h->gaps;
        t->renewed += h->renewed;
        t->late_count += h->late_count;
        for (size_t k = 0; k < HISTORY_STATUSES; k++)
            t->status[k] += h->status[k];
        for (uint32_t n = 0; n < h->count; n++)
            t->never += h->steps[n].fate == FATE_OPEN;
        if (h->late_ns > t->late_ns)
            t->late_ns = h->late_ns;
        if (h->fork_ns > t->fork_ns)
            t->fork_ns = h->fork_ns;
    }
    if (*w->noise_ns > t->noise_ns)
        t->noise_ns = *w->noise_ns;
    if (w->office != NULL) {
        t->done[FAULT_SLOT_MOVED] += w->office->moves;
        t->done[FAULT_SLOT_AWAY] += w->office->aways;
        t->done[FAULT_CLIENTS_CUT] += w->office->cuts;
        t->keys_moved += w->office->keys;
    }
    for (int i = 0; i < CLUSTER_WORDS; i++)
        t->words[i] += w->words[i];
    t->full += w->full;
    t->workers += w->history_count;
    t->violations += w->violations;
    t->tls_rounds += w->tls;
    t->rounds++;
}

/* What happened from that second on, for a while. */
static void show_log_from(const struct world *w, double from)
{
    char command[600];
    fflush(stdout);
    snprintf(command, sizeof(command),
             "awk '$2 == \"chaos:\" { on = $1 > %.3f && $1 < %.3f } "
             "on { print \"    \" $0 }' '%s/log'",
             from - 1, from + 6, w->dir);
    (void)!system(command);
}

/* Waiting for a processor was taken off already where the kernel tells it. The
 * machine's noise is what a process sees of it that sleeps and does next to
 * nothing; one that works meets it more than once in a wait. */
static void check_lateness(struct world *w)
{
    uint64_t noise = *w->noise_ns;
    for (unsigned i = 0; i < w->history_count; i++) {
        const struct history *h = &w->histories[i];
        if (h->late_ns <= LATE_GOAL_NS + noise)
            continue;
        char text[200];
        snprintf(text, sizeof(text),
                 "w%u: step %u (%s) waited %.0f ms past its deadline (noise of "
                 "the machine: %.0f ms)",
                 h->id, h->late_step, act_names[h->steps[h->late_step].act],
                 (double)h->late_ns / 1e6, (double)noise / 1e6);
        if (h->late_ns > LATE_GOAL_NS + 3 * noise)
            world_accuse(w, "%s", text);
        else
            printf("late, but so is the machine: %s\n", text);
        history_show(h, h->late_step);
        show_log_from(w, (double)h->late_from_ns / 1e9);
    }
}

static void show_log(const struct world *w)
{
    char command[600];
    const char *keep = getenv("CHAOS_KEEP");
    printf("seed %llu: %u violations. The end of its log:\n",
           (unsigned long long)w->plan->seed, w->violations);
    fflush(stdout);
    if (keep != NULL)
        snprintf(command, sizeof(command), "cp '%s/log' '%s'", w->dir, keep);
    else
        snprintf(command, sizeof(command), "tail -n " LOG_LINES " '%s/log'",
                 w->dir);
    (void)!system(command);
}

static void set_up(const struct plan *plan)
{
    support_scratch_setup_as(plan->remains->dir);
    /* What nobody else sees nobody has to remove. */
    if (plan->mounts)
        (void)scarcity_mount(support_scratch(), SCRATCH_MB, SCRATCH_NAMES);
    plan->orders->leave = false;
    plan->orders->scarce_until_ns = 0;
}

static void tear_down(const struct world *w)
{
    if (w->disk)
        scarcity_unmount(w->run_dir);
    if (w->plan->mounts)
        scarcity_unmount(support_scratch());
    support_scratch_teardown();
    w->remains->dir[0] = '\0';
}

void round_run(struct total *t, const struct plan *plan, int seconds)
{
    struct world w = {0};
    printf("round %u: seed %llu, %d s\n", t->rounds + 1,
           (unsigned long long)plan->seed, seconds);
    set_up(plan);
    world_begin(&w, plan);
    storm(&w, seconds, t);
    recover(&w);
    dismiss_workers(&w);
    check_idle_manager(&w);
    dismiss_managers(&w);
    check_left(&w);
    if (plan->cluster)
        cluster_settle(&w);
    verdict_reach(&w);
    check_lateness(&w);
    end_all(&w);
    if (w.violations > 0)
        show_log(&w);
    add_up(&w, t);
    tear_down(&w);
}

/* ---- the sum ---- */

#define COUNT(n) ((unsigned long long)(n))

void round_report(const struct total *t, uint64_t seed)
{
    printf("chaos: seed %llu: %u rounds (%u with TLS), %u workers, %llu "
           "requests, %llu checked:",
           COUNT(seed), t->rounds, t->tls_rounds, t->workers,
           COUNT(t->requests), COUNT(t->checked));
    for (int i = 0; i < HISTORY_STATUSES; i++)
        if (t->status[i] > 0)
            printf(" %s=%llu", mqredis_status_str((enum mqredis_status)i),
                   COUNT(t->status[i]));
    printf(" cancelled=%llu refused=%llu unanswered=%llu\n",
           COUNT(t->cancelled), COUNT(t->errors), COUNT(t->never));
    printf("threads=%llu forks=%llu messages-heard=%llu lagged=%llu gaps=%llu "
           "renewed=%llu queue-seen-full=%llu\nfaults:",
           COUNT(t->threads), COUNT(t->forks), COUNT(t->heard),
           COUNT(t->lagged), COUNT(t->gaps), COUNT(t->renewed), COUNT(t->full));
    for (int i = 0; i < FAULT_TYPES; i++)
        if (i < FAULT_STRUCK || t->done[i] > 0)
            printf(" %s=%llu", fault_names[i], COUNT(t->done[i]));
    if (t->done[FAULT_SLOT_MOVED] > 0)
        printf("\nkeys-moved=%llu", COUNT(t->keys_moved));
    for (int i = 0; i < CLUSTER_WORDS && t->keys_moved > 0; i++)
        printf(" %s=%llu", cluster_words[i], COUNT(t->words[i]));
    printf("\nat most %.1f ms past a deadline, %llu waits more than %.0f ms "
           "(noise of the machine: %.1f ms, a fork in the kernel: %.1f ms); %u "
           "violations\n",
           (double)t->late_ns / 1e6, COUNT(t->late_count),
           (double)LATE_GOAL_NS / 1e6, (double)t->noise_ns / 1e6,
           (double)t->fork_ns / 1e6, t->violations);
    fflush(stdout);
}
