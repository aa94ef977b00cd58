/*
 * The queue, and the two FIFOs that tell each side whether the other lives.
 *
 * Nothing in the kernel wakes a sender that sleeps in mq_timedsend(3) when the
 * receiver dies. The manager's guardian wakes them by draining the queue; for
 * the case that it was killed too, senders sleep in slices of a second and look
 * at `receiver` between them. Much shorter slices would starve them: each puts
 * its sender to the end of the line.
 */
#include "ipc/mpsc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/random.h"

#define SEND_SLICE_NS NS_PER_S

/* Of 4096 bytes each: more than a FIFO of any size ever holds at once. */
#define JUNK_READS 512

#define PROC_MQUEUE "/proc/sys/fs/mqueue/"

/* ---- creating ---- */

static long read_limit(const char *path)
{
    char text[24];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    long value = 0;
    for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
        value = value * 10 + (text[i] - '0');
    return value;
}

/* Adds to a note which may hold something already. */
static void note_lowered(struct err_text *note, const char *limit, long allowed,
                         long wish, const char *what, const char *remedy)
{
    size_t used = strlen(note->text);
    snprintf(note->text + used, sizeof(note->text) - used,
             "%sfs.mqueue.%s is %ld, so %s instead of %ld; to mend it: sysctl "
             "-w fs.mqueue.%s=%ld%s",
             used > 0 ? "; " : "", limit, allowed, what, wish, limit, wish,
             remedy);
}

/* What of the wishes the limits stand against, and no exactness forbids to
 * lower, is lowered and noted. */
static void lower_wishes(struct mpsc_config *c, struct err_text *note)
{
    char what[64];
    long msg_max = read_limit(PROC_MQUEUE "msg_max");
    long size_max = read_limit(PROC_MQUEUE "msgsize_max");
    note->text[0] = '\0';
    if (msg_max > 0 && c->capacity > msg_max && !c->capacity_exact) {
        snprintf(what, sizeof(what), "the queue holds %ld messages", msg_max);
        note_lowered(note, "msg_max", msg_max, c->capacity, what,
                     ", or --raise-msg-max as root");
        c->capacity = msg_max;
    }
    if (size_max > 0 && c->msgsize > size_max && !c->msgsize_exact) {
        snprintf(what, sizeof(what), "messages hold %ld bytes", size_max);
        note_lowered(note, "msgsize_max", size_max, c->msgsize, what, "");
        c->msgsize = size_max;
    }
}

/* EINVAL of mq_open: over msg_max or msgsize_max, or a number it never takes.
 */
static enum err say_refused(const struct mpsc_config *c, struct err_text *why)
{
    long msg_max = read_limit(PROC_MQUEUE "msg_max");
    long size_max = read_limit(PROC_MQUEUE "msgsize_max");
    if (msg_max > 0 && c->capacity > msg_max)
        return err_say(why, ERR_INVALID,
                       "a queue of %ld messages is over this kernel's "
                       "fs.mqueue.msg_max = %ld: sysctl -w "
                       "fs.mqueue.msg_max=%ld, or --raise-msg-max as root",
                       c->capacity, msg_max, c->capacity);
    if (size_max > 0 && c->msgsize > size_max)
        return err_say(why, ERR_INVALID,
                       "messages of %ld bytes are over this kernel's "
                       "fs.mqueue.msgsize_max = %ld: sysctl -w "
                       "fs.mqueue.msgsize_max=%ld",
                       c->msgsize, size_max, c->msgsize);
    return err_say(why, ERR_INVALID,
                   "the kernel refuses a queue of %ld messages of %ld bytes",
                   c->capacity, c->msgsize);
}

static enum err say_create_failed(const struct mpsc_config *c, const char *name,
                                  struct err_text *why)
{
    if (errno == EMFILE)
        return err_say(
            why, ERR_LIMIT,
            "no room for a queue of %ld x %ld bytes in this user's "
            "RLIMIT_MSGQUEUE (ulimit -q): use a smaller --capacity or "
            "--msgsize, end managers of other channels, or raise the limit",
            c->capacity, c->msgsize);
    if (errno == ENOSPC)
        return err_say(why, ERR_LIMIT,
                       "the system has its fs.mqueue.queues_max = %ld queues "
                       "already: remove some, or raise it with sysctl",
                       read_limit(PROC_MQUEUE "queues_max"));
    if (errno == ENOSYS)
        return err_say(why, ERR_SYS,
                       "this kernel has no POSIX message queues "
                       "(CONFIG_POSIX_MQUEUE)");
    return err_say(why, ERR_SYS, "cannot make queue %s: %s", name,
                   strerror(errno));
}

static bool attributes(mqd_t mq, long *capacity, size_t *msgsize)
{
    struct mq_attr attr;
    if (mq_getattr(mq, &attr) < 0)
        return false;
    *capacity = attr.mq_maxmsg;
    *msgsize = (size_t)attr.mq_msgsize;
    return true;
}

/* Room in RLIMIT_MSGQUEUE may be taken for a moment only: by `mqstat --doctor`,
 * which tries it, or by a manager that is just ending. */
#define ROOM_TRIES 50
#define ROOM_PAUSE_NS (20 * NS_PER_MS)

static mqd_t make_queue(const char *name, const struct mpsc_config *c)
{
    struct mq_attr attr = {.mq_maxmsg = c->capacity, .mq_msgsize = c->msgsize};
    const struct timespec pause = {0, ROOM_PAUSE_NS};
    for (int tries = 1;; tries++) {
        mqd_t mq =
            mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_CLOEXEC,
                    0600, &attr);
        if (mq != (mqd_t)-1 || errno != EMFILE || tries == ROOM_TRIES)
            return mq;
        nanosleep(&pause, NULL);
    }
}

static enum err create_queue(struct mpsc_receiver *rx, const struct channel *ch,
                             const struct mpsc_config *wish,
                             struct err_text *note, struct err_text *why)
{
    struct mpsc_config c = *wish;
    uint64_t id;
    if (random_id(&id) != ERR_OK)
        return err_say(why, ERR_SYS, "no random numbers: %s", strerror(errno));
    snprintf(rx->queue, sizeof(rx->queue), "/mqredis.%s.%016" PRIx64, ch->name,
             id);
    /* As wished first: who has CAP_SYS_RESOURCE is above the limits. */
    rx->mq = make_queue(rx->queue, &c);
    if (rx->mq == (mqd_t)-1 && errno == EINVAL) {
        lower_wishes(&c, note);
        rx->mq = make_queue(rx->queue, &c);
    }
    if (rx->mq == (mqd_t)-1) {
        note->text[0] = '\0';
        return errno == EINVAL ? say_refused(&c, why)
                               : say_create_failed(&c, rx->queue, why);
    }
    rx->capacity = c.capacity;
    rx->msgsize = (size_t)c.msgsize;
    return ERR_OK;
}

/* Opens the queue that the folder's `queue` file names, if it is ours and has
 * the size that a new one would have. */
static bool reuse_queue(struct mpsc_receiver *rx, const struct channel *ch,
                        const struct mpsc_config *wish, struct err_text *note)
{
    struct channel_queue old;
    if (channel_read_queue(ch, &old) != ERR_OK)
        return false;
    mqd_t mq = mq_open(old.name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (mq == (mqd_t)-1)
        return false;
    struct stat st;
    long capacity;
    size_t msgsize;
    bool ours = fstat(mq, &st) == 0 && st.st_uid == geteuid();
    if (ours && attributes(mq, &capacity, &msgsize)) {
        /* As wished, or as the wish would be lowered. */
        struct mpsc_config lowered = *wish;
        lower_wishes(&lowered, note);
        bool as_wished =
            capacity == wish->capacity && msgsize == (size_t)wish->msgsize;
        if (as_wished)
            note->text[0] = '\0';
        if (as_wished || (capacity == lowered.capacity &&
                          msgsize == (size_t)lowered.msgsize)) {
            rx->mq = mq;
            rx->capacity = capacity;
            rx->msgsize = msgsize;
            rx->reused = true;
            memcpy(rx->queue, old.name, sizeof(old.name));
            return true;
        }
        note->text[0] = '\0';
    }
    mq_close(mq);
    if (ours)
        mq_unlink(old.name);
    return false;
}

/* Opens `senders` for reading; an earlier receiver's is kept, for idle senders
 * hold its other end. */
static enum err open_senders(struct mpsc_receiver *rx, const struct channel *ch,
                             struct err_text *why)
{
    mode_t mode = channel_mode(ch, 0620);
    enum err e = channel_open_fifo(ch, "senders", O_RDONLY, &rx->senders_fd);
    if (e != ERR_OK) {
        int both;
        e = channel_make_fifo(ch, "senders", mode, &both, why);
        if (e != ERR_OK)
            return e;
        /* Closed first: our own write end must never count as a sender. */
        close(both);
        e = channel_open_fifo(ch, "senders", O_RDONLY, &rx->senders_fd);
    }
    if (e == ERR_OK)
        e = channel_set_mode(ch, rx->senders_fd, mode);
    if (e != ERR_OK)
        return err_say(why, e, "cannot open %s/senders: %s", ch->dir,
                       strerror(errno));
    return ERR_OK;
}

enum err mpsc_create(struct mpsc_receiver *rx, const struct channel *ch,
                     const struct mpsc_config *config, uint64_t epoch,
                     struct err_text *note, struct err_text *why)
{
    memset(rx, 0, sizeof(*rx));
    rx->mq = (mqd_t)-1;
    rx->senders_fd = rx->receiver_fd = -1;
    rx->epoch = epoch;
    note->text[0] = '\0';
    enum err e = open_senders(rx, ch, why);
    if (e == ERR_OK && !reuse_queue(rx, ch, config, note))
        e = create_queue(rx, ch, config, note, why);
    if (e == ERR_OK) {
        e = channel_set_mode(ch, rx->mq, channel_mode(ch, 0620));
        if (e != ERR_OK)
            err_say(why, e, "cannot set the mode of queue %s: %s", rx->queue,
                    strerror(errno));
    }
    /* The queue file first: whoever sees the new `receiver` reads it. */
    struct channel_queue q = {.epoch = epoch};
    memcpy(q.name, rx->queue, sizeof(q.name));
    if (e == ERR_OK)
        e = channel_write_queue(ch, &q, why);
    bool named = e == ERR_OK;
    if (e == ERR_OK)
        e = channel_make_fifo(ch, "receiver", channel_mode(ch, 0640),
                              &rx->receiver_fd, why);
    if (e != ERR_OK) {
        if (named && !rx->reused)
            unlinkat(ch->dirfd, "queue", 0); /* of a queue that goes */
        if (rx->mq != (mqd_t)-1 && !rx->reused)
            mq_unlink(rx->queue);
        mpsc_receiver_close(rx);
    }
    return e;
}

enum err mpsc_inherit(struct mpsc_receiver *rx, const struct channel *ch,
                      struct err_text *why)
{
    struct channel_queue q;
    memset(rx, 0, sizeof(*rx));
    rx->mq = (mqd_t)-1;
    rx->senders_fd = rx->receiver_fd = -1;
    enum err e = channel_read_queue(ch, &q);
    if (e == ERR_OK) {
        rx->mq = mq_open(q.name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (rx->mq == (mqd_t)-1 ||
            !attributes(rx->mq, &rx->capacity, &rx->msgsize))
            e = errno == ENOENT ? ERR_ABSENT : ERR_SYS;
    }
    struct stat st;
    if (e == ERR_OK && (fstat(rx->mq, &st) < 0 || st.st_uid != geteuid()))
        e = ERR_DENIED;
    if (e == ERR_OK)
        e = channel_open_fifo(ch, "senders", O_RDONLY, &rx->senders_fd);
    if (e == ERR_OK)
        e = channel_open_fifo(ch, "receiver", O_RDWR, &rx->receiver_fd);
    if (e != ERR_OK) {
        err_say(why, e, "channel '%s': cannot join its queue: %s", ch->name,
                e == ERR_SYS ? strerror(errno) : err_str(e));
        mpsc_receiver_close(rx);
        return e;
    }
    rx->epoch = q.epoch;
    rx->reused = true;
    memcpy(rx->queue, q.name, sizeof(rx->queue));
    return ERR_OK;
}

/* ---- receiving ---- */

enum err mpsc_receive(const struct mpsc_receiver *rx, char *buf, size_t size,
                      size_t *len, unsigned *priority)
{
    for (;;) {
        ssize_t n = mq_receive(rx->mq, buf, size, priority);
        if (n >= 0) {
            *len = (size_t)n;
            return ERR_OK;
        }
        if (errno == EAGAIN)
            return ERR_AGAIN;
        if (errno != EINTR)
            return ERR_SYS;
    }
}

enum err mpsc_receive_wait(const struct mpsc_receiver *rx, char *buf,
                           size_t size, uint64_t deadline_ns, size_t *len,
                           unsigned *priority)
{
    for (;;) {
        /* Asked before the queue: HUP does not say that it is empty. */
        bool gone = mpsc_senders_gone(rx);
        enum err e = mpsc_receive(rx, buf, size, len, priority);
        if (e != ERR_AGAIN)
            return e;
        if (gone)
            return ERR_CLOSED;
        struct pollfd p[2] = {{.fd = rx->mq, .events = POLLIN},
                              {.fd = rx->senders_fd, .events = 0}};
        int n = poll(p, 2, clock_poll_ms(deadline_ns, -1));
        if (n == 0)
            return ERR_TIMEOUT;
        if (n < 0 && errno != EINTR)
            return ERR_SYS;
    }
}

bool mpsc_senders_gone(const struct mpsc_receiver *rx)
{
    struct pollfd p = {.fd = rx->senders_fd, .events = 0};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

bool mpsc_senders_left(const struct mpsc_receiver *rx)
{
    /* 0: no writer now. Bytes that a stranger wrote are passed over. */
    char junk[4096];
    for (int i = 0; i < JUNK_READS; i++) {
        ssize_t n = read(rx->senders_fd, junk, sizeof(junk));
        if (n == 0)
            return false;
        if (n < 0 && errno != EINTR)
            return errno == EAGAIN;
    }
    return true; /* more came than the pipe holds: somebody is writing */
}

long mpsc_depth(const struct mpsc_receiver *rx)
{
    struct mq_attr attr;
    return mq_getattr(rx->mq, &attr) < 0 ? -1 : attr.mq_curmsgs;
}

bool mpsc_unlinked(const struct mpsc_receiver *rx)
{
    struct stat st;
    return fstat(rx->mq, &st) == 0 && st.st_nlink == 0;
}

void mpsc_receiver_close(struct mpsc_receiver *rx)
{
    if (rx->mq != (mqd_t)-1)
        mq_close(rx->mq);
    if (rx->senders_fd >= 0)
        close(rx->senders_fd);
    if (rx->receiver_fd >= 0)
        close(rx->receiver_fd);
    rx->mq = (mqd_t)-1;
    rx->senders_fd = rx->receiver_fd = -1;
}

void mpsc_unlink(const struct mpsc_receiver *rx)
{
    mq_unlink(rx->queue);
}

/* ---- sending ---- */

static enum err say_nobody(const struct channel *ch, struct err_text *why)
{
    return err_say(why, ERR_ABSENT,
                   "no manager serves channel '%s' (%s): start one with "
                   "mqredis-manager --channel %s",
                   ch->name, ch->dir, ch->name);
}

static enum err say_bad_fifo(enum err e, const struct channel *ch,
                             const char *name, struct err_text *why)
{
    return err_say(
        why, e, "channel '%s': cannot open %s/%s: %s", ch->name, ch->dir, name,
        e == ERR_DENIED ? "not permitted, or no FIFO" : strerror(errno));
}

/* Opens the queue that the folder names and checks whose it is. */
static enum err open_queue(struct mpsc_sender *tx, const struct channel *ch,
                           const struct channel_queue *q, struct err_text *why)
{
    tx->mq = mq_open(q->name, O_WRONLY | O_CLOEXEC);
    if (tx->mq == (mqd_t)-1) {
        if (errno == ENOENT)
            return err_say(why, ERR_SYS,
                           "channel '%s': its manager lives, yet queue %s is "
                           "not here: worker and manager are in different IPC "
                           "namespaces (containers?)",
                           ch->name, q->name);
        return err_say(why, errno == EACCES ? ERR_DENIED : ERR_SYS,
                       "channel '%s': cannot open queue %s: %s", ch->name,
                       q->name, strerror(errno));
    }
    struct stat st;
    long capacity;
    if (fstat(tx->mq, &st) < 0 || !attributes(tx->mq, &capacity, &tx->msgsize))
        return err_say(why, ERR_SYS, "channel '%s': cannot read queue %s: %s",
                       ch->name, q->name, strerror(errno));
    if (st.st_uid != 0 && st.st_uid != ch->user && st.st_uid != ch->owner)
        return err_say(why, ERR_DENIED,
                       "channel '%s': queue %s belongs to uid %u, which is "
                       "neither you nor the channel's owner",
                       ch->name, q->name, (unsigned)st.st_uid);
    return ERR_OK;
}

enum err mpsc_open(struct mpsc_sender *tx, const struct channel *ch,
                   struct err_text *why)
{
    tx->mq = (mqd_t)-1;
    tx->senders_fd = tx->receiver_fd = -1;
    enum err e = channel_open_life(ch, "receiver", &tx->receiver_fd);
    if (e == ERR_ABSENT || e == ERR_CLOSED)
        return say_nobody(ch, why);
    if (e != ERR_OK)
        return say_bad_fifo(e, ch, "receiver", why);
    struct channel_queue q;
    e = channel_read_queue(ch, &q);
    if (e != ERR_OK) {
        e = e == ERR_ABSENT
                ? say_nobody(ch, why)
                : err_say(why, e, "channel '%s': cannot read %s/queue: %s",
                          ch->name, ch->dir, err_str(e));
        goto fail;
    }
    tx->epoch = q.epoch;
    e = open_queue(tx, ch, &q, why);
    if (e != ERR_OK)
        goto fail;
    e = channel_open_fifo(ch, "senders", O_WRONLY, &tx->senders_fd);
    if (e == ERR_ABSENT || e == ERR_CLOSED)
        e = say_nobody(ch, why);
    else if (e != ERR_OK)
        e = say_bad_fifo(e, ch, "senders", why);
    if (e == ERR_OK)
        return ERR_OK;
fail:
    mpsc_sender_close(tx);
    return e;
}

/* Moves a monotonic deadline onto the clock that mq_timedsend(3) counts on, at
 * most a slice away. */
static struct timespec slice_end(uint64_t now, uint64_t deadline_ns)
{
    uint64_t wait = SEND_SLICE_NS;
    if (deadline_ns != 0 && deadline_ns - now < wait)
        wait = deadline_ns - now;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t ns = (uint64_t)ts.tv_nsec + wait;
    ts.tv_sec += (time_t)(ns / NS_PER_S);
    ts.tv_nsec = (long)(ns % NS_PER_S);
    return ts;
}

enum err mpsc_send(const struct mpsc_sender *tx, const char *data, size_t len,
                   uint64_t deadline_ns)
{
    for (;;) {
        /* Before each try: the queue outlives its receiver and has room for
         * what nobody would take. */
        if (!mpsc_receiver_alive(tx))
            return ERR_CLOSED;
        uint64_t now = clock_ns();
        if (deadline_ns != 0 && now >= deadline_ns)
            return ERR_TIMEOUT;
        struct timespec until = slice_end(now, deadline_ns);
        if (mq_timedsend(tx->mq, data, len, 0, &until) == 0)
            return ERR_OK;
        if (errno == EMSGSIZE)
            return ERR_LIMIT;
        if (errno != ETIMEDOUT && errno != EINTR)
            return ERR_SYS;
    }
}

enum err mpsc_try_send(const struct mpsc_sender *tx, const char *data,
                       size_t len)
{
    /* A time long past: sent where there is room, ETIMEDOUT else. */
    static const struct timespec past = {.tv_sec = 1};
    if (!mpsc_receiver_alive(tx))
        return ERR_CLOSED;
    for (;;) {
        if (mq_timedsend(tx->mq, data, len, 0, &past) == 0)
            return ERR_OK;
        if (errno == ETIMEDOUT)
            return ERR_AGAIN;
        if (errno == EMSGSIZE)
            return ERR_LIMIT;
        if (errno != EINTR)
            return ERR_SYS;
    }
}

bool mpsc_receiver_alive(const struct mpsc_sender *tx)
{
    struct pollfd p = {.fd = tx->receiver_fd, .events = 0};
    /* Where the kernel could not look (ENOMEM), nobody was seen dead. */
    return poll(&p, 1, 0) <= 0;
}

enum err mpsc_sender_depth(const struct mpsc_sender *tx, long *depth,
                           long *capacity)
{
    struct mq_attr attr;
    if (mq_getattr(tx->mq, &attr) < 0)
        return ERR_SYS;
    *depth = attr.mq_curmsgs;
    *capacity = attr.mq_maxmsg;
    return ERR_OK;
}

void mpsc_sender_close(struct mpsc_sender *tx)
{
    if (tx->mq != (mqd_t)-1)
        mq_close(tx->mq);
    if (tx->senders_fd >= 0)
        close(tx->senders_fd);
    if (tx->receiver_fd >= 0)
        close(tx->receiver_fd);
    tx->mq = (mqd_t)-1;
    tx->senders_fd = tx->receiver_fd = -1;
}
