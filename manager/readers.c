/* The table of reply pipes. */
#include "manager/readers_write.h"

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
    reader_forget_cork(rs, r);
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

void reader_die(struct readers *rs, struct reader *r)
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
    reader_die(rs, stalled);
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
    reader_die(rs, r);
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
