/* A manager with failing calls, and what it leaves. */
#include "tests/faults/life.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

/* How long to wait for a ready line that may never come. */
#define READY_MS (SUPPORT_SANITIZED ? 10000 : 1500)

bool life_ended(struct life *l)
{
    if (!l->ended && waitpid(l->m.pid, &l->status, WNOHANG) == l->m.pid)
        l->ended = true;
    return l->ended;
}

static bool is_ready(struct life *l)
{
    l->ready = strstr(e2e_log(&l->m), "mqredis-manager: ready") != NULL;
    return l->ready;
}

void life_launch(struct scene *s, struct life *l, const char *channel,
                 enum mood mood, const char *options)
{
    memset(l, 0, sizeof(*l));
    if (mood != SOUND) {
        setenv("LD_PRELOAD", support_preload("libfaults.so"), 1);
        setenv("FAULTS_PLAN", s->plan_path, 1);
        s->plan->armed = mood == ARMED;
    }
    char all[512];
    snprintf(all, sizeof(all), "%s%s", options, s->options);
    e2e_manager_launch(&l->m, channel, s->uri, all);
    unsetenv("LD_PRELOAD");
    unsetenv("FAULTS_PLAN");
    uint64_t end = clock_deadline(mood == ARMED ? READY_MS : support_wait_ms());
    while (!life_ended(l) && !is_ready(l) && clock_ns() < end)
        support_sleep_ms(1);
}

void life_note_queue(struct life *l)
{
    char path[128], text[256];
    snprintf(path, sizeof(path), "%s/queue", l->m.channel);
    int fd = open(support_path(path), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(l->queue, sizeof(l->queue), "%.*s", (int)sizeof(l->queue) - 1,
             text);
}

void life_order(const struct life *l, const char *line)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/control", l->m.channel);
    int fd = open(support_path(path), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return; /* it may have ended, or not have begun */
    ssize_t n = write(fd, line, strlen(line));
    ck_assert_int_eq(n, (ssize_t)strlen(line));
    close(fd);
}

void life_await(struct life *l, const char *text)
{
    uint64_t until = clock_deadline(300);
    while (!life_ended(l) && strstr(e2e_log(&l->m), text) == NULL &&
           clock_ns() < until)
        support_sleep_ms(1);
}

/* ---- the middle of its life ---- */

int64_t life_timeout_ms(const struct scene *s, const struct life *l)
{
    if (!l->ready)
        return 100;
    return s->plan->until == UINT64_MAX ? 200 : SCENE_TIMEOUT_MS;
}

static int count_fds(const struct life *l)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)l->m.pid);
    return support_count_entries(path);
}

/* What a sound one has open at most while nobody asks anything: connections
 * that it lost come back one by one. */
static int most_fds(const struct life *l)
{
    int most = 0;
    for (int i = 0; i < 100; i++) {
        int fds = count_fds(l);
        most = fds > most ? fds : most;
        support_sleep_ms(5);
    }
    return most;
}

static void check_idle(struct scene *s, struct life *l)
{
    const struct status *status = NULL;
    struct channel ch;
    struct err_text why = {""};
    if (channel_open(&ch, l->m.channel, &why) != ERR_OK)
        return;
    if (status_open(&ch, &status, &why) == ERR_OK) {
        l->m.status = status;
        if (!UNTIL(e2e_balanced(&l->m) || life_ended(l)))
            scene_wrong(s, "its books do not balance: %s", e2e_books(&l->m));
        status_unmap(status);
    }
    channel_close(&ch);
    if (s->fds == 0)
        s->fds = most_fds(l);
    else if (!UNTIL(life_ended(l) || count_fds(l) <= s->fds))
        scene_wrong(s, "manager holds %d descriptors, %d were enough before",
                    count_fds(l), s->fds);
}

/* ---- what happens to it ---- */

void life_reload(struct life *l)
{
    kill(l->m.pid, SIGHUP);
    life_await(l, "reload");
}

void life_lose_redis(struct scene *s, struct life *l)
{
    scene_cut(s);
    life_await(l, "lost the connection");
    scene_visit(s, l->m.channel, life_timeout_ms(s, l), true);
    if (!life_ended(l))
        check_idle(s, l);
}

/* ---- its end ---- */

static bool documented(int status)
{
    switch (status) {
    case 0:
    case EX_UNAVAILABLE:
    case EX_OSERR:
    case EX_TEMPFAIL:
    case EX_CONFIG:
        return true;
    default:
        return false;
    }
}

/* Judges how it ended. */
static void judge_end(struct scene *s, struct life *l)
{
    if (!l->ended) {
        scene_wrong(s, "manager hangs (state %c, call %ld): %s",
                    support_proc_state(l->m.pid),
                    support_proc_syscall(l->m.pid), e2e_log(&l->m));
        support_kill(l->m.pid);
        l->ended = true;
        return;
    }
    if (!WIFEXITED(l->status)) {
        scene_wrong(s, "manager ended by signal %d: %s", WTERMSIG(l->status),
                    e2e_log(&l->m));
        return;
    }
    int status = WEXITSTATUS(l->status);
    s->ended[status & 127]++;
    if (!documented(status))
        scene_wrong(s, "manager ended with status %d: %s", status,
                    e2e_log(&l->m));
    bool mute = s->plan->failed > 0 && s->plan->call == FAULTS_write;
    if (status != 0 && !mute && strstr(e2e_log(&l->m), "error: ") == NULL)
        scene_wrong(s, "manager ended with status %d and no word: %s", status,
                    e2e_log(&l->m));
}

void life_end(struct scene *s, struct life *l)
{
    if (!life_ended(l))
        kill(l->m.pid, SIGTERM);
    (void)!UNTIL(life_ended(l));
    judge_end(s, l);
}

/* ---- what it leaves ---- */

void life_check_blocks(struct scene *s)
{
    int64_t blocks = s->plan->blocks[FAULTS_SELF];
    if (s->blocks == 0)
        s->blocks = blocks;
    else if (FAULTS_BLOCKS_COUNT && blocks > s->blocks + s->slack)
        scene_wrong(s,
                    "%lld blocks of memory were not freed, without faults %lld",
                    (long long)blocks, (long long)s->blocks);
}

/* Whoever was forked by managers and outlived them is ours now. */
static void end_children(struct scene *s)
{
    char path[64], text[512] = "", *at = text, *next;
    snprintf(path, sizeof(path), "/proc/self/task/%ld/children",
             (long)getpid());
    FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    for (;; at = next) {
        int status = 0;
        pid_t pid = (pid_t)strtol(at, &next, 10);
        if (next == at)
            return;
        if (scene_owns(s, pid))
            continue;
        if (!UNTIL(waitpid(pid, &status, WNOHANG) == pid)) {
            scene_wrong(s, "a guardian does not end");
            support_kill(pid);
        } else if (status != 0) {
            scene_wrong(s, "a guardian ended with %#x", (unsigned)status);
        }
    }
}

static bool folder_there(const char *channel)
{
    return access(support_path(channel), F_OK) == 0;
}

/* A manager without faults on the same channel: nothing is in its way, and it
 * leaves nothing. */
static void succeed(struct scene *s, const char *channel)
{
    struct life l;
    faults_plan_clear(s->plan);
    life_launch(s, &l, channel, SOUND, "");
    if (!l.ready) {
        scene_wrong(s, "no manager can start afterwards: %s", e2e_log(&l.m));
    } else {
        life_note_queue(&l);
        scene_visit(s, channel, 10 * SCENE_TIMEOUT_MS, true);
        if (s->acts->statuses[MQREDIS_OK] < 5)
            scene_wrong(s, "the next manager does not serve as it should");
    }
    life_end(s, &l);
    if (!l.ended || l.status != 0)
        scene_wrong(s, "the next manager ended with %#x: %s",
                    (unsigned)l.status, e2e_log(&l.m));
    if (folder_there(channel))
        scene_wrong(s, "the next manager left the folder");
    unlink(l.m.log);
}

void life_look_back(struct scene *s, const struct life *l)
{
    end_children(s);
    s->plan->armed = false;
    enum faults_call call = s->plan->call;
    s->struck = s->plan->failed > 0;
    memcpy(&s->counted, s->plan, sizeof(s->counted));
    if (s->why[0] != '\0' || folder_there(l->m.channel))
        succeed(s, l->m.channel);
    if (l->queue[0] == '\0')
        return;
    mqd_t mq = mq_open(l->queue, O_RDONLY | O_CLOEXEC);
    if (mq == (mqd_t)-1)
        return;
    mq_close(mq);
    mq_unlink(l->queue);
    if (!s->struck || call != FAULTS_mq_unlink)
        scene_wrong(s, "queue %s was left", l->queue);
}

/* What life_sweep was told: a test has its process to itself. */
static void (*live_between)(struct scene *s, struct life *l);

static void whole_life(struct scene *s)
{
    struct life l;
    for (int i = 0; i < s->links; i++)
        redis_link_ask(&s->link[i], "FLUSHALL");
    life_launch(s, &l, support_name(), ARMED, "");
    if (!life_ended(&l))
        live_between(s, &l);
    life_end(s, &l);
    life_check_blocks(s);
    life_look_back(s, &l);
    unlink(l.m.log);
}

void life_sweep(const char *name, enum scene_way way, size_t sample,
                void (*live)(struct scene *s, struct life *l))
{
    live_between = live;
    scene_sweep(name, way, FAULTS_BOTH, sample, whole_life);
}
