/* The table of reply pipes. */
#include "manager/readers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/oneshot.h"
#include "ipc/payload.h"

#define BUCKETS_FIRST 256

/* Entries that are looked at before others have their turn: some hundred
 * microseconds. */
#define SWEEP_STEP 16

/* An answered reader that took nothing of its reply for so long must give way
 * when there are descriptors for no other. */
#define STALLED_NS NS_PER_S
/* So much is gathered before it is written. */
#define GATHER_MAX 8192

enum err readers_init(struct readers *rs, struct loop *loop,
                      struct status *status, int reply_fd, int payload_fd,
                      uint32_t max_open, size_t reader_limit,
                      size_t total_limit, uint64_t key)
{
    memset(rs, 0, sizeof(*rs));
    rs->key = key;
    rs->loop = loop;
    rs->status = status;
    rs->reply_fd = reply_fd;
    rs->payload_fd = payload_fd;
    rs->max_open = max_open;
    rs->reader_limit = reader_limit;
    rs->total_limit = total_limit;
    rs->bucket_count = BUCKETS_FIRST;
    rs->buckets = calloc(rs->bucket_count, sizeof(struct reader *));
    return rs->buckets == NULL ? ERR_NOMEM : senders_init(&rs->senders, key);
}

/* ---- the table ---- */

/* Requesters choose client and slot: without the key they could choose those
 * of one bucket. */
static struct reader **bucket(const struct readers *rs, uint64_t client,
                              uint64_t slot)
{
    uint64_t h = keyed_hash(rs->key, keyed_hash(rs->key, client) ^ slot);
    return &rs->buckets[h & (rs->bucket_count - 1)];
}

/* Doubles the table; without memory it stays as it is, only slower. */
static void grow(struct readers *rs)
{
    uint32_t count = rs->bucket_count * 2;
    struct reader **buckets = calloc(count, sizeof(*buckets));
    if (buckets == NULL)
        return;
    struct reader **old = rs->buckets;
    uint32_t old_count = rs->bucket_count;
    rs->buckets = buckets;
    rs->bucket_count = count;
    for (uint32_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct reader *r = old[i];
            old[i] = r->chain;
            struct reader **b = bucket(rs, r->client, r->slot);
            r->chain = *b;
            *b = r;
        }
    }
    free(old);
}

static void unchain(struct readers *rs, struct reader *r)
{
    struct reader **at = bucket(rs, r->client, r->slot);
    while (*at != r)
        at = &(*at)->chain;
    *at = r->chain;
    r->chain = NULL;
}

/* ---- idle ones, least recently used first ---- */

static void idle_remove(struct readers *rs, struct reader *r)
{
    *(r->idle_prev ? &r->idle_prev->idle_next : &rs->idle_first) = r->idle_next;
    *(r->idle_next ? &r->idle_next->idle_prev : &rs->idle_last) = r->idle_prev;
    r->idle_prev = r->idle_next = NULL;
}

static void idle_append(struct readers *rs, struct reader *r)
{
    r->idle_prev = rs->idle_last;
    r->idle_next = NULL;
    *(rs->idle_last ? &rs->idle_last->idle_next : &rs->idle_first) = r;
    rs->idle_last = r;
}

/* ---- the end of one ---- */

static void drop_backlog(struct readers *rs, struct reader *r)
{
    rs->total_backlog -= buffer_len(&r->backlog);
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    buffer_release(&r->backlog);
}

/* Takes the reader out of the table; its pipe is the caller's. */
static int withdraw(struct readers *rs, struct reader *r)
{
    int fd = r->watcher.fd;
    loop_remove(rs->loop, &r->watcher);
    unchain(rs, r);
    drop_backlog(rs, r);
    r->dead = true;
    rs->open_count--;
    status_gauge_set(rs->status, GAUGE_pipes, rs->open_count);
    if (r->requests == 0) {
        idle_remove(rs, r);
        r->chain = rs->dead;
        rs->dead = r;
    }
    return fd;
}

/* The same, and closes the pipe. */
static void bury(struct readers *rs, struct reader *r)
{
    close(withdraw(rs, r));
}

/* Nobody reads any more: the name goes too. */
static void die(struct readers *rs, struct reader *r)
{
    if (r->has_payload)
        payload_unlink(rs->payload_fd, r->client, r->slot);
    oneshot_unlink(rs->reply_fd, r->client, r->slot);
    bury(rs, r);
}

void readers_reap(struct readers *rs)
{
    while (rs->dead != NULL) {
        struct reader *r = rs->dead;
        rs->dead = r->chain;
        senders_put(&rs->senders, r->sender);
        free(r);
    }
}

void readers_release(struct readers *rs)
{
    rs->gathering = NULL;
    /* Without a table where there was no memory for one. */
    for (uint32_t i = 0; i < rs->bucket_count && rs->buckets != NULL; i++) {
        while (rs->buckets[i] != NULL) {
            struct reader *r = rs->buckets[i];
            rs->buckets[i] = r->chain;
            close(r->watcher.fd);
            buffer_release(&r->backlog);
            free(r);
        }
    }
    readers_reap(rs);
    sweep_end(&rs->sweep);
    senders_release(&rs->senders);
    free(rs->buckets);
    rs->buckets = NULL;
    rs->bucket_count = 0;
}

/* ---- writing ---- */

/* Writes the backlog until the pipe is full. */
static void drain_backlog(struct readers *rs, struct reader *r)
{
    while (buffer_len(&r->backlog) > 0) {
        ssize_t n = write(r->watcher.fd, buffer_head(&r->backlog),
                          buffer_len(&r->backlog));
        if (n <= 0)
            return; /* full, or dead: EPOLLERR tells */
        buffer_take(&r->backlog, (size_t)n);
        r->taken += (size_t)n;
        rs->total_backlog -= (size_t)n;
        r->progress_ns = clock_ns();
    }
    buffer_release(&r->backlog);
    loop_change(rs->loop, &r->watcher, 0);
}

static void reader_ready(void *owner, uint32_t events)
{
    struct reader *r = owner;
    struct readers *rs = r->owner;
    /* Before EPOLLOUT, which comes with it. */
    if (events & (EPOLLERR | EPOLLHUP)) {
        die(rs, r);
        return;
    }
    r->full = false;
    r->progress_ns = clock_ns();
    drain_backlog(rs, r);
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
}

/* Keeps header and body, less the `skip` bytes that were written. */
static enum err keep(struct readers *rs, struct reader *r,
                     const struct reply_chunk *chunk, const char *body,
                     size_t skip)
{
    size_t total = sizeof(*chunk) + chunk->length - skip;
    enum err e = buffer_reserve(&r->backlog, total);
    if (e != ERR_OK)
        return e;
    if (buffer_len(&r->backlog) == 0)
        r->progress_ns = clock_ns();
    if (skip < sizeof(*chunk)) {
        size_t n = sizeof(*chunk) - skip;
        memcpy(buffer_tail(&r->backlog), (const char *)chunk + skip, n);
        buffer_filled(&r->backlog, n);
        skip = 0;
    } else {
        skip -= sizeof(*chunk);
    }
    if (chunk->length > skip) {
        memcpy(buffer_tail(&r->backlog), body + skip, chunk->length - skip);
        buffer_filled(&r->backlog, chunk->length - skip);
    }
    rs->total_backlog += total;
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    if (!r->corked)
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
    return ERR_OK;
}

/* What was gathered goes out, as far as the pipe takes it. */
static void uncork(struct readers *rs, struct reader *r)
{
    r->corked = false;
    drain_backlog(rs, r);
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    if (buffer_len(&r->backlog) > 0)
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
}

bool readers_tight(const struct readers *rs, const struct reader *r, size_t len)
{
    size_t waiting = buffer_len(&r->backlog);
    size_t total = sizeof(struct reply_chunk) + len;
    /* With nothing waiting it depends on what the pipe takes. */
    return waiting > 0 && (waiting + total > rs->reader_limit ||
                           rs->total_backlog + total > rs->total_limit);
}

/* Last words are short, yet nobody counts the requests of one who never reads:
 * beyond these bounds it is given up. */
static bool overflows(const struct readers *rs, const struct reader *r,
                      size_t len)
{
    size_t waiting = buffer_len(&r->backlog);
    size_t more = sizeof(struct reply_chunk) + len;
    if (waiting == 0 || rs->total_backlog + more <= rs->total_limit)
        return false;
    return waiting + more > rs->reader_limit ||
           rs->total_backlog + more > 2 * rs->total_limit;
}

enum err readers_write(struct readers *rs, struct reader *r,
                       const struct reply_chunk *chunk, const char *body,
                       bool forced)
{
    if (r->dead)
        return ERR_CLOSED;
    size_t written = 0;
    if (!forced && readers_tight(rs, r, chunk->length))
        return ERR_LIMIT;
    if (forced && overflows(rs, r, chunk->length)) {
        status_count(rs->status, COUNTER_aborted, 1);
        die(rs, r);
        return ERR_CLOSED;
    }
    if (r->corked) {
        if (keep(rs, r, chunk, body, 0) != ERR_OK) {
            die(rs, r);
            return ERR_CLOSED;
        }
        uncork(rs, r);
        return ERR_OK;
    }
    if (buffer_len(&r->backlog) == 0) {
        enum err e = oneshot_write(r->watcher.fd, chunk, body, &written);
        if (e == ERR_OK)
            return ERR_OK;
        if (e != ERR_AGAIN) {
            die(rs, r);
            return ERR_CLOSED;
        }
    }
    if (keep(rs, r, chunk, body, written) != ERR_OK) {
        /* Out of memory: the reply can't be told whole, nor taken back. */
        die(rs, r);
        return ERR_CLOSED;
    }
    return ERR_OK;
}

enum err readers_gather(struct readers *rs, struct reader *r,
                        const struct reply_chunk *chunk, const char *body)
{
    if (r->dead)
        return ERR_CLOSED;
    if (readers_tight(rs, r, chunk->length))
        return ERR_LIMIT;
    if (buffer_len(&r->backlog) == 0) {
        r->corked = true;
        if (!r->gathers) {
            r->gathers = true;
            r->next_gathering = rs->gathering;
            rs->gathering = r;
        }
    }
    if (keep(rs, r, chunk, body, 0) != ERR_OK) {
        die(rs, r);
        return ERR_CLOSED;
    }
    if (r->corked && buffer_len(&r->backlog) >= GATHER_MAX)
        uncork(rs, r);
    return ERR_OK;
}

void readers_flush(struct readers *rs)
{
    while (rs->gathering != NULL) {
        struct reader *r = rs->gathering;
        rs->gathering = r->next_gathering;
        r->gathers = false;
        if (r->corked && !r->dead)
            uncork(rs, r);
    }
}

enum err readers_payload(struct readers *rs, struct reader *r, int64_t need,
                         int *fd)
{
    struct stat pipe;
    if (r->dead)
        return ERR_CLOSED;
    if (fstat(r->watcher.fd, &pipe) < 0)
        return ERR_SYS;
    r->has_payload = true;
    return payload_open(rs->payload_fd, r->client, r->slot, pipe.st_uid, need,
                        fd);
}

/* ---- the bodies of long chunks ---- */

/* A pipe that large replies go through: fewer wake-ups. Beyond the user's
 * budget of pipe pages (pipe-user-pages-soft) it stays as it is. */
#define WIDE_PIPE (256 * 1024)

enum err readers_begin(struct readers *rs, struct reader *r,
                       const struct reply_chunk *chunk, size_t len)
{
    struct reply_chunk promise = *chunk;
    promise.length = (uint32_t)len;
    if (r->dead)
        return ERR_CLOSED;
    ssize_t n = -1;
    if (buffer_len(&r->backlog) == 0)
        n = write(r->watcher.fd, &promise, sizeof(promise));
    /* A pipe takes so few bytes whole or not at all (PIPE_BUF). */
    if (n < 0)
        readers_append(rs, r, (const char *)&promise, sizeof(promise));
    return r->dead ? ERR_CLOSED : ERR_OK;
}

enum err readers_splice(struct readers *rs, struct reader *r, int socket_fd,
                        size_t len, size_t *moved)
{
    if (r->dead)
        return ERR_CLOSED;
    if (buffer_len(&r->backlog) > 0) {
        r->full = true;
        return ERR_AGAIN;
    }
    if (!r->wide) {
        r->wide = true;
        fcntl(r->watcher.fd, F_SETPIPE_SZ, WIDE_PIPE);
    }
    ssize_t n = splice(socket_fd, NULL, r->watcher.fd, NULL, len,
                       SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n > 0) {
        r->taken += (size_t)n;
        *moved = (size_t)n;
        return ERR_OK;
    }
    if (n < 0 && errno == EAGAIN) {
        r->full = true;
        r->progress_ns = clock_ns();
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
        return ERR_AGAIN;
    }
    if (n < 0 && errno == EPIPE) {
        die(rs, r);
        return ERR_CLOSED;
    }
    return ERR_SYS; /* also the socket's end of file: read(2) tells it */
}

void readers_append(struct readers *rs, struct reader *r, const char *data,
                    size_t len)
{
    if (r->dead)
        return;
    r->corked = false;
    if (buffer_reserve(&r->backlog, len) != ERR_OK) {
        die(rs, r);
        return;
    }
    if (data != NULL)
        memcpy(buffer_tail(&r->backlog), data, len);
    else
        memset(buffer_tail(&r->backlog), 0, len);
    buffer_filled(&r->backlog, len);
    rs->total_backlog += len;
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    loop_change(rs->loop, &r->watcher, EPOLLOUT);
}

/* ---- finding and opening ---- */

/* Closes the idle reader that was used least recently. One whose reply is not
 * in its pipe yet is only idle to us, unless it does not read at all: without
 * that rule some thousand pipes that nobody empties, which cost a hostile
 * process nothing, would shut everybody else out. */
static bool make_room(struct readers *rs)
{
    struct reader *stalled = NULL, *r = rs->idle_first;
    for (; r != NULL && buffer_len(&r->backlog) > 0; r = r->idle_next)
        if (stalled == NULL || r->progress_ns < stalled->progress_ns)
            stalled = r;
    if (r != NULL) {
        bury(rs, r);
        status_count(rs->status, COUNTER_evicted, 1);
        return true;
    }
    if (stalled == NULL || clock_ns() - stalled->progress_ns < STALLED_NS)
        return false;
    /* Its reply stays cut off: the name goes, too. */
    die(rs, stalled);
    status_count(rs->status, COUNTER_aborted, 1);
    return true;
}

static enum err open_reader(struct readers *rs, uint64_t client, uint64_t slot,
                            struct reader **reader)
{
    if (rs->open_count >= rs->max_open && !make_room(rs))
        return ERR_LIMIT;
    struct reader *r = calloc(1, sizeof(*r));
    struct sender *sender = r ? senders_get(&rs->senders, client) : NULL;
    if (sender == NULL) {
        free(r);
        return ERR_NOMEM;
    }
    int fd;
    enum err e = oneshot_open(rs->reply_fd, client, slot, &fd);
    /* The bound on open pipes was meant to prevent it; others have their share
     * of the system's descriptors. */
    if (e == ERR_LIMIT && make_room(rs))
        e = oneshot_open(rs->reply_fd, client, slot, &fd);
    if (e == ERR_OK) {
        e = loop_add(rs->loop, &r->watcher, fd, 0, reader_ready, r);
        if (e != ERR_OK)
            close(fd);
    }
    if (e != ERR_OK) {
        /* Without a reader its name belongs to nobody alive. */
        if (e == ERR_CLOSED) {
            oneshot_unlink(rs->reply_fd, client, slot);
            payload_unlink(rs->payload_fd, client, slot);
        }
        senders_put(&rs->senders, sender);
        free(r);
        return e;
    }
    r->owner = rs;
    r->sender = sender;
    r->client = client;
    r->slot = slot;
    if (rs->open_count >= rs->bucket_count)
        grow(rs);
    struct reader **b = bucket(rs, client, slot);
    r->chain = *b;
    *b = r;
    rs->open_count++;
    status_gauge_set(rs->status, GAUGE_pipes, rs->open_count);
    *reader = r;
    return ERR_OK;
}

enum err readers_get(struct readers *rs, uint64_t client, uint64_t slot,
                     struct reader **reader)
{
    struct reader *r = *bucket(rs, client, slot);
    while (r != NULL && (r->client != client || r->slot != slot))
        r = r->chain;
    if (r == NULL) {
        enum err e = open_reader(rs, client, slot, &r);
        if (e != ERR_OK)
            return e;
    } else if (r->requests == 0) {
        idle_remove(rs, r);
    }
    r->requests++;
    *reader = r;
    return ERR_OK;
}

void readers_put(struct readers *rs, struct reader *r)
{
    if (--r->requests > 0)
        return;
    if (r->dead) {
        r->chain = rs->dead;
        rs->dead = r;
    } else {
        idle_append(rs, r);
    }
}

bool readers_check(struct readers *rs, struct reader *r)
{
    if (r->dead)
        return false;
    struct pollfd p = {.fd = r->watcher.fd, .events = 0};
    if (poll(&p, 1, 0) == 0)
        return true;
    die(rs, r);
    return false;
}

enum err readers_hand_over(struct readers *rs, struct reader *r, int *fd)
{
    if (!readers_check(rs, r))
        return ERR_CLOSED;
    if (r->requests != 1 || buffer_len(&r->backlog) > 0)
        return ERR_BUSY;
    *fd = withdraw(rs, r);
    return ERR_OK;
}

bool readers_sweep(struct readers *rs)
{
    size_t seen = 0, removed = 0;
    while (seen < SWEEP_STEP) {
        if (rs->sweep.dir == NULL) {
            enum err e = rs->payloads_next
                             ? sweep_begin(&rs->sweep, rs->payload_fd,
                                           rs->reply_fd, payload_is_leftover)
                             : sweep_begin(&rs->sweep, rs->reply_fd, -1,
                                           oneshot_is_leftover);
            if (e != ERR_OK)
                break; /* out of descriptors, say: another time */
        }
        if (sweep_step(&rs->sweep, SWEEP_STEP - seen, &seen, &removed))
            continue;
        rs->payloads_next = !rs->payloads_next;
        if (!rs->payloads_next)
            break;
    }
    if (removed > 0)
        status_count(rs->status, COUNTER_swept, removed);
    return rs->sweep.dir != NULL;
}
