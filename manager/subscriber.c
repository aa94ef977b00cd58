/* One subscriber's pipe and backlog. */
#include "manager/subscriber.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ipc/oneshot.h"

#define RING_FIRST 16
#define PIECES 256
#define HEADER sizeof(struct reply_chunk)

/* ---- what is published ---- */

struct published *published_new(enum broadcast_kind kind, uint32_t n,
                                const char *data, size_t len, size_t *total)
{
    struct published *m = malloc(sizeof(*m) + len);
    if (m == NULL)
        return NULL;
    *m = (struct published){
        .refs = 1, .n = n, .kind = kind, .len = len, .total = total};
    if (len > 0)
        memcpy(m->data, data, len);
    *total += len;
    return m;
}

void published_unref(struct published *m)
{
    if (--m->refs > 0)
        return;
    *m->total -= m->len;
    free(m);
}

static struct reply_chunk header_of(const struct subscriber *s,
                                    const struct published *m)
{
    return broadcast_chunk(s->request, m->kind, m->n, (uint32_t)m->len);
}

/* ---- the ring ---- */

static struct published **ring_at(const struct subscriber *s, uint32_t index)
{
    return &s->ring[(s->head + index) & (s->ring_size - 1)];
}

static bool grow_ring(struct subscriber *s)
{
    uint32_t size = s->ring_size == 0 ? RING_FIRST : s->ring_size * 2;
    struct published **ring = malloc(size * sizeof(struct published *));
    if (ring == NULL)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        ring[i] = *ring_at(s, i);
    free(s->ring);
    s->ring = ring;
    s->ring_size = size;
    s->head = 0;
    return true;
}

static void count_bytes(struct subscriber *s, size_t add, size_t sub)
{
    s->bytes += add - sub;
    s->outlet->backlog_bytes += add - sub;
}

/* Takes the oldest off; its reference passes to the caller. */
static struct published *pop(struct subscriber *s)
{
    struct published *m = *ring_at(s, 0);
    s->head = (s->head + 1) & (s->ring_size - 1);
    s->count--;
    count_bytes(s, 0, m->len);
    return m;
}

/* A large ring that has become empty gives its memory back. */
static void shrink_ring(struct subscriber *s)
{
    if (s->count > 0 || s->ring_size <= RING_FIRST)
        return;
    free(s->ring);
    s->ring = NULL;
    s->ring_size = s->head = 0;
}

/* What is not written leaves its mark: what will stand in its place. */
static void leave_out(struct subscriber *s, enum broadcast_kind kind,
                      uint32_t n)
{
    if (kind == BROADCAST_MESSAGE) {
        s->lagged += n;
        status_count(s->outlet->status, COUNTER_pubsub_lagged, n);
    } else if (kind == BROADCAST_LAGGED) {
        s->lagged += n; /* counted before */
    } else if (kind == BROADCAST_GAP) {
        s->gap = true;
        s->gap_ms += n;
    }
}

void subscriber_drop_oldest(struct subscriber *s)
{
    if (s->count == 0)
        return;
    struct published *m = pop(s);
    leave_out(s, m->kind, m->n);
    published_unref(m);
}

void subscriber_lose(struct subscriber *s, enum broadcast_kind kind, uint32_t n)
{
    while (s->count > 0)
        subscriber_drop_oldest(s);
    leave_out(s, kind, n);
}

uint64_t subscriber_oldest(const struct subscriber *s)
{
    return s->count == 0 ? UINT64_MAX : (*ring_at(s, 0))->serial;
}

/* The bound is on what waits behind a full pipe; a batch that the pipe would
 * take is none of it. */
static void make_room(struct subscriber *s, size_t len)
{
    const struct outlet *o = s->outlet;
    bool over = s->count >= o->max_messages || s->bytes + len > o->max_bytes;
    if (over && !s->full)
        subscriber_flush(s);
    while (s->count > 0 &&
           (s->count >= o->max_messages || s->bytes + len > o->max_bytes))
        subscriber_drop_oldest(s);
}

void subscriber_push(struct subscriber *s, struct published *m)
{
    if (s->gone)
        return;
    make_room(s, m->len);
    if (s->gone)
        return;
    if (s->count == s->ring_size && !grow_ring(s)) {
        /* Out of memory: as if the backlog were full. */
        if (s->count == 0) {
            leave_out(s, m->kind, m->n);
            return;
        }
        subscriber_drop_oldest(s);
    }
    m->refs++;
    count_bytes(s, m->len, 0);
    *ring_at(s, s->count++) = m;
}

/* ---- writing ---- */

/* What one write consists of, in the order of the picture in the header. */
enum piece_kind { PIECE_REST, PIECE_LAGGED, PIECE_GAP, PIECE_MESSAGE };

struct piece {
    enum piece_kind kind;
    size_t len;
};

struct bunch {
    struct piece pieces[PIECES];
    size_t count;
    size_t len;
    struct reply_chunk lagged, gap;
    char *out;
};

static void add(struct bunch *b, enum piece_kind kind, size_t len)
{
    b->pieces[b->count++] = (struct piece){kind, len};
    b->len += len;
}

static void add_copy(struct bunch *b, enum piece_kind kind, const void *data,
                     size_t len)
{
    memcpy(b->out + b->len, data, len);
    add(b, kind, len);
}

static uint32_t clip(uint64_t n)
{
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* Bytes [skip, header + body) of a message, if they fit. */
static bool add_message(struct bunch *b, const struct subscriber *s,
                        const struct published *m, enum piece_kind kind,
                        size_t skip)
{
    size_t len = HEADER + m->len - skip;
    if (b->count == PIECES || len > SUBSCRIBER_WRITE_SIZE - b->len)
        return false;
    struct reply_chunk header = header_of(s, m);
    char *at = b->out + b->len;
    if (skip < HEADER) {
        memcpy(at, (const char *)&header + skip, HEADER - skip);
        memcpy(at + HEADER - skip, m->data, m->len);
    } else {
        memcpy(at, m->data + (skip - HEADER), len);
    }
    add(b, kind, len);
    return true;
}

/* Puts together what the next write is to take. Empty: nothing waits, or the
 * first of it is too long to be copied. */
static void gather(struct bunch *b, const struct subscriber *s)
{
    b->out = s->outlet->scratch;
    b->count = b->len = 0;
    if (s->notice_left > 0)
        add_copy(b, PIECE_REST,
                 (const char *)&s->notice + HEADER - s->notice_left,
                 s->notice_left);
    else if (s->current != NULL &&
             !add_message(b, s, s->current, PIECE_REST, s->current_sent))
        return;
    if (s->lagged > 0) {
        b->lagged =
            broadcast_chunk(s->request, BROADCAST_LAGGED, clip(s->lagged), 0);
        add_copy(b, PIECE_LAGGED, &b->lagged, HEADER);
    }
    if (s->gap) {
        b->gap = broadcast_chunk(s->request, BROADCAST_GAP, s->gap_ms, 0);
        add_copy(b, PIECE_GAP, &b->gap, HEADER);
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (!add_message(b, s, *ring_at(s, i), PIECE_MESSAGE, 0))
            return;
}

static void finish_current(struct subscriber *s)
{
    if (s->current->kind == BROADCAST_MESSAGE)
        status_count(s->outlet->status, COUNTER_pubsub_delivered, 1);
    published_unref(s->current);
    s->current = NULL;
    s->current_sent = 0;
}

/* Keeps the rest of a notice that was cut. */
static void cut_notice(struct subscriber *s, const struct reply_chunk *c,
                       size_t written)
{
    s->notice = *c;
    s->notice_left = HEADER - written;
}

/* Books one piece of which `n` bytes, at least one, were written. */
static void book(struct subscriber *s, const struct bunch *b,
                 const struct piece *p, size_t n)
{
    switch (p->kind) {
    case PIECE_REST:
        if (s->notice_left > 0)
            s->notice_left -= n;
        else
            s->current_sent += n;
        break;
    case PIECE_LAGGED:
        s->lagged -= b->lagged.first;
        cut_notice(s, &b->lagged, n);
        break;
    case PIECE_GAP:
        s->gap = false;
        s->gap_ms = 0;
        cut_notice(s, &b->gap, n);
        break;
    case PIECE_MESSAGE:
        s->current = pop(s);
        s->current_sent = n;
        break;
    }
    if (s->current != NULL && s->current_sent == HEADER + s->current->len)
        finish_current(s);
}

static void die(struct subscriber *s)
{
    s->gone = true;
    s->outlet->gone(s->outlet->context, s->owner);
}

/* After a write(2): whether to go on. */
static bool wrote(struct subscriber *s, ssize_t n)
{
    if (n >= 0 || errno == EINTR)
        return true;
    if (errno == EAGAIN) {
        s->full = true;
        loop_change(s->outlet->loop, &s->watcher, EPOLLOUT);
    } else {
        die(s);
    }
    return false;
}

/* A message too long for the scratch: written from where it lies. */
static bool write_long(struct subscriber *s)
{
    struct published *m = s->current != NULL ? s->current : *ring_at(s, 0);
    struct reply_chunk header = header_of(s, m);
    size_t sent = s->current_sent;
    size_t skip = sent < HEADER ? 0 : sent - HEADER;
    struct iovec iov[2] = {
        {.iov_base = (char *)&header + sent,
         .iov_len = sent < HEADER ? HEADER - sent : 0},
        {.iov_base = m->data + skip, .iov_len = m->len - skip},
    };
    bool whole = sent < HEADER;
    ssize_t n = writev(s->watcher.fd, whole ? iov : iov + 1, whole ? 2 : 1);
    if (!wrote(s, n))
        return false;
    if (n <= 0)
        return true;
    if (s->current == NULL)
        s->current = pop(s);
    s->current_sent = sent + (size_t)n;
    if (s->current_sent == HEADER + m->len)
        finish_current(s);
    return true;
}

static bool write_bunch(struct subscriber *s, const struct bunch *b)
{
    ssize_t n = write(s->watcher.fd, b->out, b->len);
    if (!wrote(s, n))
        return false;
    size_t left = n < 0 ? 0 : (size_t)n;
    for (size_t i = 0; i < b->count && left > 0; i++) {
        const struct piece *p = &b->pieces[i];
        size_t part = left < p->len ? left : p->len;
        book(s, b, p, part);
        left -= part;
    }
    return true;
}

static bool waits(const struct subscriber *s)
{
    return s->notice_left > 0 || s->current != NULL || s->lagged > 0 ||
           s->gap || s->count > 0;
}

void subscriber_flush(struct subscriber *s)
{
    struct bunch b;
    while (!s->gone && !s->full && waits(s)) {
        gather(&b, s);
        if (!(b.count > 0 ? write_bunch(s, &b) : write_long(s)))
            return;
    }
    shrink_ring(s);
}

static void pipe_ready(void *owner, uint32_t events)
{
    struct subscriber *s = owner;
    /* Before EPOLLOUT, which comes with it. */
    if (events & (EPOLLERR | EPOLLHUP)) {
        if (!s->gone)
            die(s);
        return;
    }
    s->full = false;
    loop_change(s->outlet->loop, &s->watcher, 0);
    subscriber_flush(s);
}

/* ---- life ---- */

enum err subscriber_init(struct subscriber *s, struct outlet *outlet, int fd,
                         uint64_t request, void *owner)
{
    *s = (struct subscriber){
        .outlet = outlet, .request = request, .owner = owner};
    s->watcher.fd = -1;
    enum err e = loop_add(outlet->loop, &s->watcher, fd, 0, pipe_ready, s);
    if (e != ERR_OK)
        close(fd);
    return e;
}

void subscriber_begin(struct subscriber *s, struct published *m)
{
    m->refs++;
    s->current = m;
    s->current_sent = 0;
}

void subscriber_release(struct subscriber *s)
{
    int fd = s->watcher.fd;
    s->gone = true;
    while (s->count > 0)
        published_unref(pop(s));
    if (s->current != NULL)
        published_unref(s->current);
    s->current = NULL;
    free(s->ring);
    s->ring = NULL;
    s->ring_size = 0;
    if (fd < 0)
        return;
    loop_remove(s->outlet->loop, &s->watcher);
    close(fd);
}

bool subscriber_end(struct subscriber *s, enum reply_status status,
                    const char *data, size_t len)
{
    subscriber_flush(s);
    if (s->gone || waits(s))
        return false;
    struct reply_chunk c = {.request = s->request,
                            .length = (uint32_t)len,
                            .count = 1,
                            .flags = REPLY_END,
                            .status = (uint8_t)status};
    /* Short enough to be written whole or not at all (PIPE_BUF). */
    size_t written;
    return oneshot_write(s->watcher.fd, &c, data, &written) == ERR_OK;
}
