/* Looking at a channel. */
#include "tools/mqstat/sample.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel_list.h"
#include "ipc/clock.h"
#include "tools/mqstat/text.h"

/* ---- the status file ---- */

/* A row that is being written is copied again, so often at most: its writer may
 * have died at that. */
#define COPIES_MAX 4

static size_t copy_file(int fd, void *to, size_t size)
{
    size_t have = 0;
    ssize_t n;
    while (have < size &&
           (n = pread(fd, (char *)to + have, size - have, (off_t)have)) > 0)
        have += (size_t)n;
    return have;
}

static bool torn(const struct status *raw)
{
    for (size_t i = 0; i < STATUS_NODES; i++)
        if (status_node_torn(&raw->nodes[i]))
            return true;
    return false;
}

/* Reads all of the file or says why not. */
static enum err read_status(struct sample *s, const struct channel *ch)
{
    int fd = openat(ch->dirfd, "status",
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return err_say(&s->problem, ERR_ABSENT,
                           s->alive == ALIVE_YES
                               ? "its manager has no status file yet"
                               : "no manager has run here: no status file");
        if (errno == EACCES)
            return err_say(&s->problem, ERR_DENIED,
                           "no permission to read its status");
        return err_say(&s->problem, ERR_SYS, "cannot open its status: %s",
                       strerror(errno));
    }
    struct stat st;
    size_t have = 0;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        for (int i = 0; i < COPIES_MAX; i++) {
            have = copy_file(fd, &s->raw, sizeof(s->raw));
            if (have < sizeof(s->raw) || !torn(&s->raw))
                break;
        }
    close(fd);
    const struct status *raw = &s->raw;
    if (have >= 3 * sizeof(uint32_t) && raw->magic == STATUS_MAGIC &&
        raw->version != STATUS_VERSION)
        return err_say(&s->problem, ERR_PROTO,
                       "its status has version %" PRIu32
                       ", this mqstat reads %d: use the one that came with "
                       "the manager",
                       raw->version, STATUS_VERSION);
    if (have < sizeof(s->raw))
        return err_say(&s->problem, ERR_PROTO,
                       "its status file is cut short (%zu of %zu bytes)", have,
                       sizeof(s->raw));
    if (raw->magic != STATUS_MAGIC || raw->size != sizeof(s->raw))
        return err_say(&s->problem, ERR_PROTO,
                       "its status file is damaged, or not of mqredis");
    if (status_read_state(raw, &s->state, NULL) != ERR_OK)
        return err_say(&s->problem, ERR_AGAIN,
                       "its manager has not said anything yet");
    s->has_status = true;
    return ERR_OK;
}

/* ---- is anybody there? ---- */

static enum alive find_life(const struct channel *ch)
{
    int fd;
    enum err e = channel_open_life(ch, "receiver", &fd);
    if (e == ERR_ABSENT || e == ERR_CLOSED)
        return ALIVE_NO;
    if (e != ERR_OK)
        return ALIVE_UNKNOWN;
    close(fd);
    return ALIVE_YES;
}

static pid_t read_lock_pid(const struct channel *ch)
{
    int fd = openat(ch->dirfd, "lock",
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[24];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    long pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

/* ---- the queue ---- */

/* Through its name: works in the manager's IPC namespace. */
static bool open_queue(struct sample *s)
{
    mqd_t mq = mq_open(s->queue, O_RDONLY | O_NONBLOCK);
    if (mq == (mqd_t)-1 && errno == EACCES)
        mq = mq_open(s->queue, O_WRONLY | O_NONBLOCK);
    if (mq == (mqd_t)-1)
        return false;
    struct mq_attr attr;
    struct stat st;
    if (mq_getattr(mq, &attr) == 0) {
        s->has_queue = true;
        s->depth = attr.mq_curmsgs;
        s->capacity = attr.mq_maxmsg;
        s->msgsize = attr.mq_msgsize;
    }
    if (fstat(mq, &st) == 0) {
        s->queue_known = true;
        s->queue_dev = st.st_dev;
        s->queue_ino = st.st_ino;
    }
    mq_close(mq);
    return s->has_queue;
}

/* Through its manager's descriptors: for another IPC namespace, and for a queue
 * that lost its name. */
static bool borrow_queue(struct sample *s, const struct proc_scan *scan)
{
    for (size_t i = 0; i < scan->nholders; i++) {
        const struct proc_holder *h = &scan->holders[i];
        const struct proc_queue *q = &scan->queues[h->queue];
        if (h->pid != s->pid || strcmp(q->name, s->queue) != 0 || !q->have_attr)
            continue;
        s->has_queue = s->queue_known = true;
        s->depth = q->messages;
        s->capacity = q->capacity;
        s->msgsize = q->msgsize;
        s->queue_dev = q->dev;
        s->queue_ino = q->ino;
        return true;
    }
    return false;
}

static void look_at_queue(struct sample *s, const struct channel *ch,
                          const struct proc_scan *scan)
{
    struct channel_queue q;
    if (channel_read_queue(ch, &q) == ERR_OK)
        memcpy(s->queue, q.name, sizeof(s->queue));
    else if (s->has_status && s->state.queue[0] == '/')
        memcpy(s->queue, s->state.queue, sizeof(s->queue));
    else
        return;
    if (open_queue(s) || errno == EACCES)
        return;
    int saved = errno;
    if (scan != NULL && borrow_queue(s, scan))
        return;
    if (s->alive == ALIVE_YES && s->problem.text[0] == '\0')
        err_say(&s->problem, ERR_ABSENT,
                "its manager lives, yet its queue can't be opened here (%s): "
                "is this another IPC namespace (container)?",
                strerror(saved));
}

static void look_at_processes(struct sample *s, const struct channel *ch,
                              const struct proc_scan *scan)
{
    s->senders = s->blocked = 0;
    s->partial = scan->unseen > 0 || scan->truncated;
    struct stat st;
    if (fstatat(ch->dirfd, "senders", &st, AT_SYMLINK_NOFOLLOW) == 0)
        for (size_t i = 0; i < scan->nfifos; i++)
            s->senders += scan->fifos[i].ino == st.st_ino &&
                          scan->fifos[i].dev == st.st_dev;
    const struct proc_queue *q =
        s->queue_known ? proc_scan_find(scan, s->queue_dev, s->queue_ino)
                       : NULL;
    if (q != NULL)
        /* What /proc told may be older than the depth: nobody sleeps for a
         * place where there is one. */
        if (!s->has_queue || s->depth >= s->capacity)
            s->blocked = (long)proc_sleeping(scan, q, true);
}

/* ---- all of it ---- */

void sample_take(struct sample *s, const char *name,
                 const struct proc_scan *scan)
{
    memset(s, 0, sizeof(*s));
    s->senders = s->blocked = -1;
    s->now_ns = clock_ns();
    struct channel ch;
    struct err_text why = {.text = ""};
    enum err e = channel_open(&ch, name, &why);
    /* Its name and place are there even when it could not be opened. */
    memcpy(s->name, ch.name, sizeof(s->name));
    memcpy(s->dir, ch.dir, sizeof(s->dir));
    if (e != ERR_OK) {
        s->problem = why;
        s->alive = e == ERR_DENIED || e == ERR_SYS ? ALIVE_UNKNOWN : ALIVE_NO;
        return;
    }
    s->alive = find_life(&ch);
    enum err ignored = read_status(s, &ch); /* the reason is in ->problem */
    (void)ignored;
    s->pid = read_lock_pid(&ch);
    if (s->pid == 0 && s->has_status)
        s->pid = s->state.pid;
    if (s->alive == ALIVE_UNKNOWN && s->has_status)
        s->alive = kill(s->state.pid, 0) == 0 || errno == EPERM ? ALIVE_UNKNOWN
                                                                : ALIVE_NO;
    char p = s->alive == ALIVE_NO ? 0 : proc_state(s->pid);
    s->stopped = p == 'T' || p == 't';
    look_at_queue(s, &ch, scan);
    if (scan != NULL)
        look_at_processes(s, &ch, scan);
    s->now_ns = clock_ns();
    channel_close(&ch);
}

const char *sample_state(const struct sample *s)
{
    if (!s->has_status) {
        if (s->alive == ALIVE_YES)
            return "unreadable";
        return s->alive == ALIVE_UNKNOWN ? "denied" : "absent";
    }
    uint32_t kind = s->state.kind;
    if (s->alive == ALIVE_NO && kind != STATE_CLOSED)
        return manager_state_str(STATE_DIED);
    if (s->stopped)
        return "stopped";
    return manager_state_str(kind);
}

enum health_kind sample_health(const struct sample *s)
{
    if (!s->has_status || s->alive == ALIVE_NO)
        return HEALTH_DOWN;
    if (s->state.kind == STATE_CLOSED || s->state.kind == STATE_DIED ||
        s->state.kind >= STATE_KIND_COUNT)
        return HEALTH_DOWN;
    return s->state.kind == STATE_CONNECTED && !s->stopped ? HEALTH_FINE
                                                           : HEALTH_DEGRADED;
}

const char *sample_server(const struct sample *s, char out[512])
{
    if (!s->has_status || s->state.server[0] == '\0')
        return text_safe(out, 512, "-");
    return text_safe(out, 512, s->state.server);
}

uint64_t sample_errors(const struct sample *s)
{
    static const enum status_counter kinds[] = {
        COUNTER_error_replies, COUNTER_invalid, COUNTER_expired,
        COUNTER_unavailable,   COUNTER_too_big, COUNTER_lost,
        COUNTER_garbage,
    };
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        n += sample_counter(s, kinds[i]);
    return n;
}

int64_t sample_balance(const struct sample *s)
{
    static const enum status_counter ends[] = {
        COUNTER_answered, COUNTER_discarded,   COUNTER_gone,    COUNTER_invalid,
        COUNTER_expired,  COUNTER_unavailable, COUNTER_too_big, COUNTER_lost,
    };
    uint64_t n = sample_gauge(s, GAUGE_inflight);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        n += sample_counter(s, ends[i]);
    return (int64_t)(sample_counter(s, COUNTER_taken) - n);
}

bool sample_comparable(const struct sample *old, const struct sample *s)
{
    return old->has_status && s->has_status &&
           old->state.epoch == s->state.epoch && s->now_ns > old->now_ns &&
           strcmp(old->dir, s->dir) == 0;
}

double sample_rate(const struct sample *old, const struct sample *s,
                   enum status_counter c)
{
    if (!sample_comparable(old, s))
        return 0;
    uint64_t a = sample_counter(old, c), b = sample_counter(s, c);
    return b <= a ? 0
                  : (double)(b - a) * (double)NS_PER_S /
                        (double)(s->now_ns - old->now_ns);
}

/* ---- which channels there are ---- */

enum err channel_names_add(struct channel_names *list, const char *name)
{
    char *copy = strdup(name);
    if (copy == NULL)
        return ERR_NOMEM;
    char **names = realloc(list->names, (list->count + 1) * sizeof(*names));
    if (names == NULL) {
        free(copy);
        return ERR_NOMEM;
    }
    list->names = names;
    names[list->count++] = copy;
    return ERR_OK;
}

void channel_names_free(struct channel_names *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    memset(list, 0, sizeof(*list));
}

/* channel_list's callback. */
static enum err keep_name(void *arg, const char *name)
{
    return channel_names_add(arg, name);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

enum err channel_names_find(struct channel_names *list)
{
    memset(list, 0, sizeof(*list));
    enum err e = channel_list(keep_name, list);
    if (e == ERR_OK && list->count > 1)
        qsort(list->names, list->count, sizeof(*list->names), by_name);
    return e;
}
