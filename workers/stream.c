/*
 * Streams: a subscription, and the reply pipe that it keeps as long as it
 * lasts. Nothing here waits for what comes through it but the caller of
 * mqredis_stream_next.
 */
#include "workers/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"

/* A stream that its manager gave up without a word is looked at so often. */
#define LOOK_MS 1000
/* Pause between two looks for a manager. */
#define RETRY_NS (20 * NS_PER_MS)

/* ---- the pipe ---- */

/* What a stream has open of its handle's. Lock held. */
static void let_go(struct mqredis_stream *s)
{
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    s->epoll_fd = -1;
    free(s->message);
    s->message = NULL;
    if (s->link == NULL)
        return;
    oneshot_abandon(&s->link->pool, &s->slot);
    link_unref(s->mq, s->link);
    s->link = NULL;
}

static bool watch_fd(int epoll_fd, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* A pipe and a descriptor to wait on. Lock held. */
static enum mqredis_status take_pipe(struct mqredis_stream *s,
                                     struct mqredis_error *why)
{
    struct mqredis *mq = s->mq;
    enum mqredis_status status = handle_join(mq, why);
    if (status != MQREDIS_OK)
        return status;
    if (oneshot_acquire(&mq->link->pool, &s->slot) != ERR_OK) {
        /* The folder has gone, and its manager with it. */
        mq->link->dead |= errno == ENOENT;
        return error_say(why,
                         errno == ENOENT ? MQREDIS_UNAVAILABLE : MQREDIS_SYSTEM,
                         "channel '%s': cannot make a reply pipe: %s", mq->name,
                         strerror(errno));
    }
    s->link = mq->link;
    s->link->refs++;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0 || !watch_fd(s->epoll_fd, s->slot.fd, EPOLLIN) ||
        !watch_fd(s->epoll_fd, s->link->tx.receiver_fd, 0)) {
        status = error_say(why, MQREDIS_SYSTEM, "channel '%s': %s", mq->name,
                           strerror(errno));
        let_go(s);
    }
    return status;
}

/* Fills the message; NULL: it is too long, or there is no memory. */
static char *make_message(struct mqredis_stream *s, uint64_t deadline_ns,
                          size_t *len, struct mqredis_error *why)
{
    const struct link *link = s->link;
    struct message_header h = {
        .magic = MESSAGE_MAGIC,
        .version = MESSAGE_VERSION,
        .flags = MESSAGE_STREAM,
        .epoch = link->tx.epoch,
        .client = link->pool.client,
        .slot = s->slot.slot,
        .request = s->in.request,
        .deadline_ns = deadline_ns,
        .sent_ns = clock_ns(),
        .pid = (uint32_t)getpid(),
        .ncommands = 1,
        .payload_len = (uint32_t)s->command.len,
    };
    *len = sizeof(h) + s->command.len;
    if (*len > link->tx.msgsize) {
        error_say(why, MQREDIS_TOO_BIG,
                  "channel '%s': the names take %zu bytes, a message holds "
                  "%zu: use several streams",
                  s->mq->name, *len, link->tx.msgsize);
        return NULL;
    }
    char *message = malloc(*len);
    if (message == NULL) {
        error_say(why, MQREDIS_NOMEM, "out of memory");
        return NULL;
    }
    memcpy(message, &h, sizeof(h));
    memcpy(message + sizeof(h), s->command.data, s->command.len);
    return message;
}

static enum mqredis_status send_error(const struct mqredis_stream *s,
                                      enum err e, struct mqredis_error *why)
{
    const char *name = s->mq->name;
    if (e == ERR_TIMEOUT)
        return error_say(why, MQREDIS_EXPIRED,
                         "channel '%s': out of time asleep on the full queue: "
                         "not subscribed",
                         name);
    if (e == ERR_CLOSED)
        return error_say(why, MQREDIS_UNAVAILABLE,
                         "channel '%s': its manager ended: not subscribed",
                         name);
    return error_say(why, MQREDIS_SYSTEM,
                     "channel '%s': cannot send to its queue: %s: not "
                     "subscribed",
                     name, strerror(errno));
}

/* Sends what is unsent of a stream that nobody waits for. ERR_AGAIN: the queue
 * is full, and the stream's descriptor tells when it is not. */
static enum err send_unsent(struct mqredis_stream *s)
{
    int queue = s->link->tx.mq;
    enum err e = mpsc_try_send(&s->link->tx, s->message, s->message_len);
    if (e == ERR_AGAIN) {
        /* Exclusive, as all who wait for a place: one wakes for one. */
        watch_fd(s->epoll_fd, queue, EPOLLOUT | EPOLLEXCLUSIVE);
        return e;
    }
    int saved = errno;
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, queue, NULL);
    errno = saved;
    free(s->message);
    s->message = NULL;
    return e;
}

/* Asks for the subscription, asleep on a full queue if need be; `sleep` false:
 * without sleep, and it may stay unsent. On failure the stream has no pipe. */
static enum mqredis_status ask(struct mqredis_stream *s, bool sleep,
                               uint64_t deadline_ns, struct mqredis_error *why)
{
    struct mqredis *mq = s->mq;
    enum err e = ERR_OK;
    size_t len;
    pthread_mutex_lock(&mq->lock);
    if (mq->link != NULL && !mpsc_receiver_alive(&mq->link->tx))
        mq->link->dead = true;
    enum mqredis_status status = take_pipe(s, why);
    if (status == MQREDIS_OK)
        broadcast_init(&s->in, random_stream_next(&s->link->ids));
    pthread_mutex_unlock(&mq->lock);
    if (status != MQREDIS_OK)
        return status;
    struct mqredis_error inner = {.status = MQREDIS_OK};
    char *message = make_message(s, deadline_ns, &len, &inner);
    if (message == NULL) {
        status = error_say(why, inner.status, "%s", inner.text);
    } else if (sleep) {
        e = mpsc_send(&s->link->tx, message, len, deadline_ns);
        free(message);
    } else {
        s->message = message;
        s->message_len = len;
        e = send_unsent(s);
        if (e == ERR_AGAIN)
            e = ERR_OK;
    }
    if (e != ERR_OK)
        status = send_error(s, e, why);
    s->used = s->len = 0;
    if (status == MQREDIS_OK)
        return status;
    pthread_mutex_lock(&mq->lock);
    s->link->dead |= e == ERR_CLOSED;
    let_go(s);
    pthread_mutex_unlock(&mq->lock);
    return status;
}

/* ---- events ---- */

/* What is to be done for a stream before its pipe has something: sending, and
 * looking at the time. False: it has ended. */
static bool attend(struct mqredis_stream *s)
{
    struct mqredis_error why;
    enum err e = s->message == NULL ? ERR_OK : send_unsent(s);
    if (e != ERR_OK && e != ERR_AGAIN) {
        enum mqredis_status status = send_error(s, e, &why);
        stream_end(s, status, why.text);
        return false;
    }
    if (s->in.confirmed || s->deadline_ns == 0 || clock_ns() < s->deadline_ns)
        return true;
    stream_end(s, MQREDIS_EXPIRED,
               "out of time before the subscription was confirmed");
    return false;
}

bool mqredis_stream_next(struct mqredis_stream *stream, int64_t timeout_ms,
                         struct mqredis_event *event)
{
    uint64_t deadline = clock_deadline(timeout_ms);
    for (;;) {
        if (stream->end.status != MQREDIS_OK) {
            stream_give_end(stream, event);
            return true;
        }
        if (stream_take(stream, event) == ERR_OK)
            return true;
        if (!attend(stream))
            continue;
        if (deadline != 0 && clock_ns() >= deadline)
            return false;
        struct pollfd p = {.fd = stream->epoll_fd, .events = POLLIN};
        poll(&p, 1, clock_poll_ms(deadline, LOOK_MS));
    }
}

int mqredis_stream_fd(const struct mqredis_stream *stream)
{
    return stream->epoll_fd;
}

/* ---- life ---- */

/* Subscribes and waits for the confirmation, which stays to be taken. */
static enum mqredis_status begin(struct mqredis_stream *s, uint64_t deadline_ns,
                                 struct mqredis_error *why)
{
    struct mqredis *mq = s->mq;
    enum mqredis_status status = ask(s, true, deadline_ns, why);
    if (status != MQREDIS_OK)
        return status;
    struct mqredis_error end = s->end;
    s->end.status = MQREDIS_OK;
    for (;;) {
        struct mqredis_event ev;
        bool renewed = s->renewed;
        if (stream_take(s, &ev) == ERR_OK) {
            if (ev.type != MQREDIS_END) {
                /* Put it back: it is the stream's first event. */
                s->used = 0;
                s->in.confirmed = false;
                s->renewed = renewed;
                return MQREDIS_OK;
            }
            status = error_say(why, s->end.status, "%s", s->end.text);
            break;
        }
        if (deadline_ns != 0 && clock_ns() >= deadline_ns) {
            status = error_say(why, MQREDIS_EXPIRED,
                               "channel '%s': out of time before the "
                               "subscription was confirmed",
                               mq->name);
            break;
        }
        struct pollfd p = {.fd = s->epoll_fd, .events = POLLIN};
        poll(&p, 1, clock_poll_ms(deadline_ns, LOOK_MS));
    }
    s->end = end;
    pthread_mutex_lock(&mq->lock);
    let_go(s);
    pthread_mutex_unlock(&mq->lock);
    return status;
}

/* From the first moment on: a fork must find what it has open. */
static void enlist(struct mqredis_stream *s)
{
    struct mqredis *mq = s->mq;
    pthread_mutex_lock(&mq->lock);
    s->next = mq->streams;
    if (mq->streams != NULL)
        mq->streams->prev = s;
    mq->streams = s;
    pthread_mutex_unlock(&mq->lock);
}

static struct mqredis_stream *subscribe(struct mqredis *mq, const char *word,
                                        bool wait, size_t count,
                                        const char *const *names,
                                        const size_t *len,
                                        struct mqredis_error *error)
{
    struct mqredis_stream *s = calloc(1, sizeof(*s));
    const char **argv = calloc(count + 1, sizeof(*argv));
    size_t *lens = calloc(count + 1, sizeof(*lens));
    enum mqredis_status status = MQREDIS_NOMEM;
    if (s == NULL || argv == NULL || lens == NULL) {
        error_say(error, status, "out of memory");
        free(s);
        s = NULL;
        goto out;
    }
    s->mq = mq;
    s->epoll_fd = s->slot.fd = -1;
    s->command.data = s->command.small;
    enlist(s);
    argv[0] = word;
    lens[0] = strlen(word);
    for (size_t i = 0; i < count; i++) {
        argv[i + 1] = names[i];
        lens[i + 1] = len != NULL ? len[i] : strlen(names[i]);
    }
    status = encode_argv(&s->command, true, count + 1, argv, lens, error);
    uint64_t deadline_ns = handle_deadline(mq, clock_ns());
    if (status == MQREDIS_OK && wait) {
        status = begin(s, deadline_ns, error);
    } else if (status == MQREDIS_OK) {
        s->deadline_ns = deadline_ns;
        status = ask(s, false, deadline_ns, error);
    }
    if (status != MQREDIS_OK) {
        mqredis_stream_close(s);
        s = NULL;
    }
out:
    free(argv);
    free(lens);
    return s;
}

struct mqredis_stream *mqredis_subscribe(struct mqredis *mq, size_t count,
                                         const char *const *channels,
                                         const size_t *len,
                                         struct mqredis_error *error)
{
    return subscribe(mq, "SUBSCRIBE", true, count, channels, len, error);
}

struct mqredis_stream *mqredis_psubscribe(struct mqredis *mq, size_t count,
                                          const char *const *patterns,
                                          const size_t *len,
                                          struct mqredis_error *error)
{
    return subscribe(mq, "PSUBSCRIBE", true, count, patterns, len, error);
}

struct mqredis_stream *mqredis_ssubscribe(struct mqredis *mq, size_t count,
                                          const char *const *channels,
                                          const size_t *len,
                                          struct mqredis_error *error)
{
    return subscribe(mq, "SSUBSCRIBE", true, count, channels, len, error);
}

struct mqredis_stream *
mqredis_stream_open(struct mqredis *mq, enum mqredis_topic kind, size_t count,
                    const char *const *names, const size_t *len,
                    struct mqredis_error *error)
{
    const char *word = kind == MQREDIS_TOPIC_PATTERN ? "PSUBSCRIBE"
                       : kind == MQREDIS_TOPIC_SHARD ? "SSUBSCRIBE"
                                                     : "SUBSCRIBE";
    return subscribe(mq, word, false, count, names, len, error);
}

enum mqredis_status mqredis_stream_renew(struct mqredis_stream *stream,
                                         int64_t timeout_ms,
                                         struct mqredis_error *error)
{
    struct mqredis *mq = stream->mq;
    uint64_t deadline = clock_deadline(timeout_ms);
    if (stream->orphan || stream->end.status == MQREDIS_OK)
        return error_say(error, MQREDIS_INVALID,
                         stream->orphan ? "the stream is the parent's"
                                        : "the stream has not ended");
    pthread_mutex_lock(&mq->lock);
    let_go(stream);
    pthread_mutex_unlock(&mq->lock);
    stream->renewed = true;
    for (;;) {
        enum mqredis_status status = begin(stream, deadline, error);
        uint64_t now = clock_ns();
        if (status != MQREDIS_UNAVAILABLE || (deadline != 0 && now >= deadline))
            return status;
        struct timespec pause = {.tv_nsec = (long)RETRY_NS};
        nanosleep(&pause, NULL);
    }
}

void mqredis_stream_close(struct mqredis_stream *stream)
{
    if (stream == NULL)
        return;
    struct mqredis *mq = stream->mq;
    pthread_mutex_lock(&mq->lock);
    if (stream->prev != NULL)
        stream->prev->next = stream->next;
    else
        mq->streams = stream->next;
    if (stream->next != NULL)
        stream->next->prev = stream->prev;
    let_go(stream);
    pthread_mutex_unlock(&mq->lock);
    encoded_free(&stream->command);
    free(stream->data);
    free(stream);
}

void streams_close(struct mqredis *mq)
{
    struct mqredis_stream *next;
    for (struct mqredis_stream *s = mq->streams; s != NULL; s = next) {
        next = s->next;
        mqredis_stream_close(s);
    }
}

void streams_disown(struct mqredis *mq)
{
    for (struct mqredis_stream *s = mq->streams; s != NULL; s = s->next) {
        s->orphan = true;
        stream_end(s, MQREDIS_INVALID,
                   "made before fork: the stream is the parent's");
        if (s->epoll_fd >= 0)
            close(s->epoll_fd);
        s->epoll_fd = -1;
        if (s->link == NULL)
            continue;
        oneshot_disown(&s->slot);
        s->link->watched = false;
        if (s->link != mq->link)
            oneshot_pool_disown(&s->link->pool);
        link_unref(mq, s->link);
        s->link = NULL;
    }
}
