/*
 * What dead processes left, and its removal.
 *
 * A channel is dead when nobody holds `receiver` for writing. Before anything
 * of it goes its lock is taken, so that no manager starts meanwhile, and every
 * trace of life is looked for again: a writer of `senders`, a reader of a reply
 * pipe, a process that holds the queue. One sign is enough to leave it alone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/mpsc.h"
#include "ipc/oneshot.h"
#include "tools/mqstat/doctor.h"

/* A queue without a channel must have been silent for so long: its processes
 * may live where /proc does not show them. */
#define STRAY_AGE_S 60

static const struct proc_holder *holder_of(const struct proc_scan *scan,
                                           const struct proc_queue *q)
{
    for (size_t i = 0; i < scan->nholders; i++)
        if (&scan->queues[scan->holders[i].queue] == q)
            return &scan->holders[i];
    return NULL;
}

/* ---- signs of life ---- */

/* Whether anybody holds a FIFO of the folder for writing. Opening it to read
 * is harmless: the lock is ours, so no sender takes us for a manager. */
static bool has_writer(const struct channel *ch, const char *name)
{
    int fd;
    enum err e = channel_open_fifo(ch, name, O_RDONLY, &fd);
    if (e != ERR_OK)
        return e != ERR_ABSENT; /* what can't be looked at may be alive */
    char junk[256];
    ssize_t n;
    while ((n = read(fd, junk, sizeof(junk))) > 0)
        ;
    bool writer = n < 0 && errno == EAGAIN;
    close(fd);
    return writer;
}

/* Whether a reply pipe is left once those of the dead are swept. */
static bool has_reader(const struct channel *ch)
{
    int fd = openat(ch->dirfd, "reply",
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno != ENOENT;
    size_t removed = 0;
    bool reader = oneshot_sweep(fd, &removed) != ERR_OK;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return true;
    }
    rewinddir(dir);
    for (struct dirent *d; !reader && (d = readdir(dir)) != NULL;)
        /* Temporary names are swept when they are a minute old; who makes one
         * has `senders` open. */
        reader = d->d_name[0] != '.';
    closedir(dir);
    return reader;
}

/* NULL: nobody is there. Else who, in words. */
static const char *who_lives(const struct channel *ch, const char *queue,
                             char out[160])
{
    struct proc_scan scan;
    if (has_writer(ch, "receiver"))
        return "a manager or its guardian";
    if (has_writer(ch, "senders"))
        return "a sender";
    if (proc_scan(&scan, false) != ERR_OK) {
        proc_scan_free(&scan);
        return "nobody knows who: /proc can't be read";
    }
    const char *who = NULL;
    for (size_t i = 0; who == NULL && i < scan.nholders; i++) {
        const struct proc_holder *h = &scan.holders[i];
        const struct proc_queue *q = &scan.queues[h->queue];
        if (queue[0] != '\0' && q->here && strcmp(q->name, queue) == 0) {
            snprintf(out, 160, "process %d (%s)", (int)h->pid, h->comm);
            who = out;
        }
    }
    proc_scan_free(&scan);
    if (who == NULL && has_reader(ch))
        who = "a worker that waits for a reply";
    return who;
}

/* ---- removing ---- */

/* Unlinks the queue if it is this user's. */
static bool remove_queue(const char *name, struct err_text *why)
{
    mqd_t mq = mq_open(name, O_RDONLY | O_NONBLOCK);
    if (mq == (mqd_t)-1)
        return errno == ENOENT || err_say(why, ERR_SYS, "cannot open %s: %s",
                                          name, strerror(errno)) == ERR_OK;
    struct stat st;
    bool ours = fstat(mq, &st) == 0 && st.st_uid == geteuid();
    mq_close(mq);
    if (!ours)
        return err_say(why, ERR_DENIED, "%s is another user's", name) == ERR_OK;
    if (mq_unlink(name) < 0 && errno != ENOENT)
        return err_say(why, ERR_SYS, "cannot remove %s: %s", name,
                       strerror(errno)) == ERR_OK;
    return true;
}

static void remove_channel(struct findings *f, const char *name)
{
    struct channel ch;
    struct err_text why = {.text = ""};
    struct channel_queue q = {.name = ""};
    char about[160];
    int lock;
    pid_t holder = 0;
    if (channel_open(&ch, name, &why) != ERR_OK) {
        finding_add(f, LEVEL_WARN, name, "%s", why.text);
        return;
    }
    if (channel_lock(&ch, getpid(), 0, &lock, &holder, &why) != ERR_OK) {
        finding_add(f, LEVEL_NOTE, ch.name, "left alone: %s", why.text);
        channel_close(&ch);
        return;
    }
    if (channel_read_queue(&ch, &q) != ERR_OK)
        q.name[0] = '\0';
    const char *who = who_lives(&ch, q.name, about);
    if (who != NULL)
        finding_add(f, LEVEL_NOTE, ch.name, "left alone: %s still has it", who);
    else if (q.name[0] != '\0' && !remove_queue(q.name, &why))
        finding_add(f, LEVEL_WARN, ch.name, "left alone: %s", why.text);
    else {
        channel_remove(&ch);
        finding_add(f, LEVEL_FIXED, ch.name, "removed %s%s%s", ch.dir,
                    q.name[0] ? " and queue " : "", q.name);
    }
    close(lock);
    channel_close(&ch);
}

/* ---- finding ---- */

static void judge_living(struct findings *f, const struct sample *s)
{
    if (s->stopped)
        finding_remedy(finding_add(f, LEVEL_WARN, s->name,
                                   "its manager (pid %d) is stopped: nothing "
                                   "is taken off the queue",
                                   (int)s->pid),
                       "kill -CONT %d", (int)s->pid);
    else if (s->has_status && s->state.kind == STATE_RECONNECTING)
        finding_add(f, LEVEL_WARN, s->name, "has no connection to %s: %s",
                    s->state.server, s->state.error);
    else if (s->has_queue && s->capacity < MPSC_CAPACITY)
        finding_remedy(finding_add(f, LEVEL_NOTE, s->name,
                                   "serves, with a queue of %ld messages "
                                   "instead of %d",
                                   s->capacity, MPSC_CAPACITY),
                       "sysctl -w fs.mqueue.msg_max=64, then restart the "
                       "manager");
    else
        finding_add(f, LEVEL_OK, s->name, "serves, %s", sample_state(s));
}

static void judge_dead(struct findings *f, const struct sample *s,
                       const char *name, const struct proc_scan *scan, bool fix)
{
    long senders = 0;
    struct stat st;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/senders", s->dir);
    if (lstat(path, &st) == 0)
        for (size_t i = 0; i < scan->nfifos; i++)
            senders += scan->fifos[i].ino == st.st_ino &&
                       scan->fifos[i].dev == st.st_dev;
    if (senders > 0) {
        finding_remedy(finding_add(f, LEVEL_NOTE, s->name,
                                   "has no manager (%s), and %ld processes "
                                   "that wait for one",
                                   sample_state(s), senders),
                       "mqredis-manager --channel %s", name);
        return;
    }
    if (fix) {
        remove_channel(f, name);
        return;
    }
    bool in_order = s->has_status && s->state.kind == STATE_CLOSED;
    finding_remedy(finding_add(f, in_order ? LEVEL_NOTE : LEVEL_WARN, s->name,
                               "left of a manager that %s: %s%s%s",
                               in_order ? "ended" : "is gone", s->dir,
                               s->has_queue ? ", queue " : "",
                               s->has_queue ? s->queue : ""),
                   "mqstat --doctor --fix");
}

void doctor_channels(struct findings *f, const struct proc_scan *scan,
                     const struct channel_names *names, bool fix)
{
    struct sample *s = malloc(sizeof(*s));
    if (s == NULL) {
        finding_add(f, LEVEL_BAD, "mqstat", "out of memory");
        return;
    }
    for (size_t i = 0; i < names->count; i++) {
        sample_take(s, names->names[i], scan);
        if (s->alive == ALIVE_NO && s->dir[0] != '\0' &&
            access(s->dir, F_OK) == 0)
            judge_dead(f, s, names->names[i], scan, fix);
        else if (s->problem.text[0] != '\0')
            finding_add(f, LEVEL_WARN, s->name, "%s", s->problem.text);
        else
            judge_living(f, s);
        if (s->alive != ALIVE_NO)
            doctor_nodes(f, s);
    }
    free(s);
}

/* Whether a channel's queue file names it. */
static bool known_queue(const struct channel_names *names, const char *queue)
{
    for (size_t i = 0; i < names->count; i++) {
        struct channel ch;
        struct channel_queue q;
        if (channel_open(&ch, names->names[i], NULL) != ERR_OK)
            continue;
        bool same =
            channel_read_queue(&ch, &q) == ERR_OK && strcmp(q.name, queue) == 0;
        channel_close(&ch);
        if (same)
            return true;
    }
    return false;
}

static void judge_unlinked(struct findings *f, const struct proc_queue *q,
                           const struct proc_holder *h)
{
    if (h == NULL || q->uid != geteuid())
        return;
    finding_remedy(finding_add(f, LEVEL_NOTE, "unlinked queue",
                               "%s has no name any more; %s (pid %d) keeps it, "
                               "and it stays charged to you",
                               q->name, h->comm, (int)h->pid),
                   "kill %d", (int)h->pid);
}

void doctor_strays(struct findings *f, const struct proc_scan *scan,
                   const struct channel_names *names, bool fix)
{
    static const char ours[] = "/mqredis.";
    for (size_t i = 0; i < scan->nqueues; i++) {
        const struct proc_queue *q = &scan->queues[i];
        const struct proc_holder *h = holder_of(scan, q);
        if (strncmp(q->name, ours, sizeof(ours) - 1) != 0)
            continue;
        if (!q->named) {
            judge_unlinked(f, q, h);
            continue;
        }
        if (!q->here || h != NULL || q->uid != geteuid() ||
            known_queue(names, q->name))
            continue;
        struct err_text why = {.text = ""};
        long idle = (long)(time(NULL) - q->used);
        if (!fix || idle < STRAY_AGE_S)
            finding_remedy(
                finding_add(f, LEVEL_WARN, "stray queue",
                            "%s belongs to no channel here and nobody holds "
                            "it%s",
                            q->name,
                            idle < STRAY_AGE_S
                                ? " (used within a minute: left alone)"
                                : ""),
                "mqstat --doctor --fix");
        else if (remove_queue(q->name, &why))
            finding_add(f, LEVEL_FIXED, "stray queue", "removed %s", q->name);
        else
            finding_add(f, LEVEL_WARN, "stray queue", "%s", why.text);
    }
}
