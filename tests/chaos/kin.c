/* Threads on one handle, children that inherit it, and the program for the
 * shell. */
#include "tests/chaos/hand.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

#define THREADS 4
#define THREAD_STEPS 6

/* What a program may take to start and end, on a busy machine. */
#define PROGRAM_NS NS_PER_S

/* ---- threads ---- */

struct job {
    struct hand *w;
    uint32_t first;
    int count;
    struct watch_hand watch[THREAD_STEPS];
    struct wait_end ends[THREAD_STEPS];
    struct mqredis_reply *replies[THREAD_STEPS];
};

/* Only asks: the one who waits for the threads judges. */
static void *work(void *arg)
{
    struct job *j = arg;
    char text[32];
    int fd = hand_open_sched();
    for (int i = 0; i < j->count; i++) {
        uint32_t n = j->first + (uint32_t)i;
        j->watch[i] = hand_watch_by(j->w, fd);
        j->replies[i] =
            j->w->h->steps[n].act == ACT_COUNT
                ? mqredis_command(j->w->mq, "INCR count:w%u", j->w->h->id)
                : mqredis_command(j->w->mq, "ECHO %s",
                                  hand_value(j->w, n, text));
        j->ends[i] = hand_end(j->watch[i]);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* Which of the threads was first nobody knows: but no counter comes twice. */
static void judge_job(struct hand *w, const struct job *j, int64_t *counters,
                      int *found)
{
    char text[32];
    for (int i = 0; i < j->count; i++) {
        uint32_t n = j->first + (uint32_t)i;
        const struct mqredis_reply *r = j->replies[i];
        hand_note_wait(w, j->watch[i], hand_deadline(w, j->watch[i]),
                       j->ends[i], n);
        if (w->h->steps[n].act == ACT_ECHO) {
            if (hand_settle(w, n, r, MQREDIS_STRING))
                hand_check_text(w, r, hand_value(w, n, text));
        } else if (hand_settle(w, n, r, MQREDIS_INTEGER)) {
            int64_t before = w->counter;
            for (int k = 0; k < *found; k++)
                if (counters[k] == r->integer)
                    history_accuse(w->h,
                                   "step %u: two threads were told the same "
                                   "INCR, %lld",
                                   n, (long long)r->integer);
            hand_check_growth(w, n, &before, r->integer, w->h->count);
            counters[(*found)++] = r->integer;
        }
    }
}

void act_threads(struct hand *w)
{
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    bool started[THREADS];
    int64_t counters[THREADS * THREAD_STEPS];
    int count = dice_between(&w->dice, 2, THREADS), found = 0;
    for (int i = 0; i < count; i++) {
        jobs[i] =
            (struct job){.w = w,
                         .first = w->h->count,
                         .count = dice_between(&w->dice, 1, THREAD_STEPS)};
        for (int k = 0; k < jobs[i].count; k++)
            hand_begin(w, dice_chance(&w->dice, 50) ? ACT_COUNT : ACT_ECHO);
    }
    for (int i = 0; i < count; i++) {
        started[i] = pthread_create(&threads[i], NULL, work, &jobs[i]) == 0;
        w->h->threads += started[i];
    }
    for (int i = 0; i < count; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            work(&jobs[i]);
    }
    for (int i = 0; i < count; i++)
        judge_job(w, &jobs[i], counters, &found);
    for (int k = 0; k < found; k++)
        if (counters[k] > w->counter)
            w->counter = counters[k];
    for (int i = 0; i < count; i++)
        for (int k = 0; k < jobs[i].count; k++)
            mqredis_free(jobs[i].replies[k]);
}

/* ---- children ---- */

/* What a fork takes within the kernel, which copies the mappings and waits for
 * who looks at them just now. That is none of the library's; its own handlers
 * are, and they are not within. */
static uint64_t kernel_from_ns, kernel_took_ns;

static void enter_kernel(void)
{
    kernel_from_ns = clock_ns();
}

static void leave_kernel(void)
{
    kernel_took_ns = clock_ns() - kernel_from_ns;
}

bool hand_watch_forks(void)
{
    return pthread_atfork(enter_kernel, leave_kernel, NULL) == 0;
}

/* In a child: what was taken from its parent for a while is not to last. */
static void lift_limits(void)
{
    struct rlimit limit;
    const int all[] = {RLIMIT_NOFILE, RLIMIT_DATA};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (getrlimit((__rlimit_resource_t)all[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit((__rlimit_resource_t)all[i], &limit);
        }
}

static void echo_step(struct hand *w, uint32_t n)
{
    char text[32];
    struct mqredis_reply *r =
        mqredis_command(w->mq, "ECHO %s", hand_value(w, n, text));
    if (hand_settle(w, n, r, MQREDIS_STRING))
        hand_check_text(w, r, text);
    mqredis_free(r);
}

/* What the child begins with its parent's handle. */
static void be_child(struct hand *w, uint32_t first, int count, bool closes)
{
    lift_limits();
    for (int i = 0; i < count; i++)
        echo_step(w, first + (uint32_t)i);
    if (closes)
        mqredis_close(w->mq);
    _exit(0);
}

static pid_t fork_with_us(struct hand *w)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(126);
    } else if (kernel_took_ns > w->h->fork_ns) {
        w->h->fork_ns = kernel_took_ns;
    }
    return pid;
}

/* Requests of the parent are on their way while it forks, and the child uses
 * the same handle at once. */
void act_fork(struct hand *w)
{
    enum { OURS = 3, THEIRS = 4 };
    char text[32];
    struct mqredis_request *requests[OURS];
    uint32_t first = w->h->count, theirs = first + OURS;
    int count = dice_between(&w->dice, 1, THEIRS), status = 0;
    bool closes = dice_chance(&w->dice, 50);
    for (int i = 0; i < OURS + count; i++)
        hand_begin(w, ACT_ECHO);
    struct watch_hand watch = hand_watch(w);
    for (uint32_t i = 0; i < OURS; i++)
        requests[i] =
            mqredis_submit(w->mq, "ECHO %s", hand_value(w, first + i, text));
    if (dice_chance(&w->dice, 70))
        mqredis_flush(w->mq);
    pid_t pid = fork_with_us(w);
    if (pid == 0)
        be_child(w, theirs, count, closes);
    w->h->forks += pid > 0;
    uint64_t deadline = hand_deadline(w, watch) + kernel_took_ns;
    for (uint32_t i = 0; i < OURS; i++) {
        struct mqredis_reply *r = mqredis_wait(requests[i]);
        hand_stop_watch(w, watch, deadline, first + i);
        if (hand_settle(w, first + i, r, MQREDIS_STRING))
            hand_check_text(w, r, hand_value(w, first + i, text));
        mqredis_free(r);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        history_accuse(w->h, "a forked child ended with %#x", (unsigned)status);
}

/* ---- the program for the shell ---- */

static pid_t start_program(struct hand *w, const char *value, int out)
{
    char program[512], timeout[16], key[32];
    snprintf(program, sizeof(program), "%s/mqredis-worker", support_build());
    snprintf(timeout, sizeof(timeout), "%d", w->timeout_ms);
    snprintf(key, sizeof(key), "log:{w%u}", w->h->id);
    pid_t pid = fork_with_us(w);
    if (pid != 0)
        return pid;
    lift_limits();
    if (dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    execl(program, "mqredis-worker", "-c", w->task->channel, "--timeout",
          timeout, "RPUSH", key, value, (char *)NULL);
    _exit(127);
}

static void judge_program(struct hand *w, uint32_t n, int status,
                          const char *said)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    hand_fate(w, n, FATE_NOT);
    if (code == 0) {
        w->h->status[MQREDIS_OK]++;
        hand_fate(w, n, FATE_DONE);
        hand_check_growth(w, n, &w->log_length, strtoll(said, NULL, 10),
                          w->h->count);
    } else if (code == 76) {
        w->h->status[MQREDIS_LOST]++;
        hand_fate(w, n, FATE_MAYBE);
    } else if (code == 69) {
        w->h->status[MQREDIS_UNAVAILABLE]++;
    } else if (code == 75) {
        w->h->status[MQREDIS_EXPIRED]++;
    } else if (code == 1 && (strstr(said, "LOADING") != NULL ||
                             strstr(said, "CLUSTERDOWN") != NULL ||
                             strstr(said, "TRYAGAIN") != NULL)) {
        w->h->errors++;
    } else {
        hand_fate(w, n, FATE_MAYBE);
        history_accuse(w->h, "step %u: mqredis-worker ended with %#x: %.200s",
                       n, (unsigned)status, said);
    }
}

void act_program(struct hand *w)
{
    char text[32], said[512];
    int out[2], status = 0;
    size_t len = 0;
    if (pipe2(out, O_CLOEXEC) < 0)
        return;
    uint32_t n = hand_begin(w, ACT_PUSH);
    struct watch_hand watch = hand_watch(w);
    pid_t pid = start_program(w, hand_value(w, n, text), out[1]);
    close(out[1]);
    for (ssize_t got;
         len < sizeof(said) - 1 &&
         ((got = read(out[0], said + len, sizeof(said) - 1 - len)) > 0 ||
          (got < 0 && errno == EINTR));)
        len += got > 0 ? (size_t)got : 0;
    said[len] = '\0';
    close(out[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    hand_stop_watch(w, watch,
                    hand_deadline(w, watch) + kernel_took_ns + PROGRAM_NS, n);
    if (pid > 0)
        judge_program(w, n, status, said);
    else
        hand_fate(w, n, FATE_NOT);
}
