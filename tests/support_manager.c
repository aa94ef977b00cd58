/* A desk: the manager's books and pipes, and requesters at it. */
#include "tests/support_manager.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

void desk_open(struct desk *d, uint32_t max_open, size_t reader_limit,
               size_t total_limit)
{
    struct err_text why = {""};
    uint64_t client;
    memset(d, 0, sizeof(*d));
    ck_assert_msg(channel_create(&d->ch, support_name(), CHANNEL_NO_GROUP,
                                 &why) == ERR_OK,
                  "%s", why.text);
    d->status = calloc(1, sizeof(*d->status));
    ck_assert_ptr_nonnull(d->status);
    ck_assert_int_eq(loop_init(&d->loop), ERR_OK);
    ck_assert_int_eq(readers_init(&d->readers, &d->loop, d->status,
                                  d->ch.reply_fd, d->ch.payload_fd, max_open,
                                  reader_limit, total_limit, 0x5eedULL),
                     ERR_OK);
    answers_init(&d->answers, &d->readers, d->status, 1);
    d->answers.max_reply = UINT64_MAX;
    d->answers.now_ns = clock_ns();
    ck_assert_int_eq(random_id(&client), ERR_OK);
    ck_assert_int_eq(random_stream_init(&d->ids), ERR_OK);
    oneshot_pool_init(&d->pool, d->ch.reply_fd, d->ch.owner != d->ch.user,
                      client);
}

void desk_close(struct desk *d)
{
    oneshot_pool_close(&d->pool);
    readers_release(&d->readers);
    answers_release(&d->answers);
    loop_release(&d->loop);
    channel_remove(&d->ch);
    channel_close(&d->ch);
    free(d->status);
}

void desk_turn(struct desk *d)
{
    ck_assert_int_eq(loop_wait(&d->loop, 1, &d->answers.now_ns), ERR_OK);
    readers_reap(&d->readers);
}

uint64_t desk_counter(const struct desk *d, enum status_counter c)
{
    return atomic_load_explicit(&d->status->counters[c], memory_order_relaxed);
}

/* ---- requesters ---- */

void asker_ask(struct desk *d, struct asker *a, uint32_t ncommands,
               uint64_t deadline_ns)
{
    struct reader *reader;
    *a = (struct asker){0};
    ck_assert_uint_le(ncommands, ASKER_COMMANDS);
    ck_assert_int_eq(oneshot_acquire(&d->pool, &a->slot), ERR_OK);
    a->header = (struct message_header){
        .client = d->pool.client,
        .slot = a->slot.slot,
        .request = random_stream_next(&d->ids),
        .deadline_ns = deadline_ns,
        .ncommands = ncommands,
    };
    ck_assert_int_eq(
        readers_get(&d->readers, a->header.client, a->header.slot, &reader),
        ERR_OK);
    ck_assert_int_eq(
        answers_take(&d->answers, &a->header, reader, "TEST", 4, &a->req),
        ERR_OK);
    reply_stream_init(&a->stream, a->header.request, ncommands);
    resp_scan_reset(&a->scan);
}

static void keep(struct asker *a, uint32_t i, const char *data, size_t len)
{
    a->data[i] = realloc(a->data[i], a->len[i] + len + 1);
    ck_assert_ptr_nonnull(a->data[i]);
    memcpy(a->data[i] + a->len[i], data, len);
    a->len[i] += len;
    a->data[i][a->len[i]] = '\0';
}

/* Replies of Redis, perhaps a part of one. */
static bool take_replies(struct asker *a, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        if (a->current >= a->header.ncommands)
            return false;
        enum err e = resp_scan(&a->scan, data, len, &used);
        if (e != ERR_OK && e != ERR_AGAIN)
            return false;
        keep(a, a->current, data, used);
        data += used;
        len -= used;
        if (e == ERR_OK) {
            if (a->told[a->current])
                return false;
            a->told[a->current] = true;
            a->status[a->current++] = REPLY_OK;
        }
    }
    return true;
}

static bool take_word(struct asker *a, const struct reply_piece *p)
{
    const struct reply_chunk *c = p->chunk;
    size_t have = strlen(a->text);
    size_t n = p->len < sizeof(a->text) - 1 - have ? p->len
                                                   : sizeof(a->text) - 1 - have;
    memcpy(a->text + have, p->data, n);
    a->text[have + n] = '\0';
    if (!p->chunk_done)
        return true;
    for (uint32_t i = c->first; i < c->first + c->count; i++) {
        if (i >= a->header.ncommands || a->told[i])
            return false;
        a->told[i] = true;
        a->status[i] = (enum reply_status)c->status;
        a->len[i] = 0; /* what came before is void */
    }
    a->current = c->first + c->count;
    resp_scan_reset(&a->scan);
    return true;
}

static bool take(struct asker *a, const char *data, size_t len)
{
    struct reply_piece p;
    enum err e;
    while ((e = reply_stream_next(&a->stream, &data, &len, &p)) == ERR_OK) {
        bool fresh = resp_scan_idle(&a->scan) && p.chunk->status == REPLY_OK;
        if (fresh && !a->told[p.chunk->first])
            a->current = p.chunk->first;
        bool ok = p.chunk->status == REPLY_OK ? take_replies(a, p.data, p.len)
                                              : take_word(a, &p);
        if (!ok)
            return false;
    }
    return e == ERR_AGAIN;
}

bool asker_read(struct desk *d, struct asker *a)
{
    static char bytes[65536];
    for (;;) {
        ssize_t n = read(a->slot.fd, bytes, sizeof(bytes));
        if (n > 0 && !take(a, bytes, (size_t)n))
            return false;
        size_t before = d->readers.total_backlog;
        desk_turn(d);
        if (n <= 0 && d->readers.total_backlog == before)
            return true;
    }
}

bool asker_told(const struct asker *a, uint32_t i, enum reply_status status,
                const char *reply)
{
    return a->told[i] && a->status[i] == status &&
           (*reply == '\0' ||
            (a->data[i] != NULL && strcmp(a->data[i], reply) == 0));
}

void asker_die(struct asker *a)
{
    close(a->slot.fd);
    a->slot.fd = -1;
}

void asker_release(struct desk *d, struct asker *a)
{
    for (size_t i = 0; i < ASKER_COMMANDS; i++)
        free(a->data[i]);
    if (a->slot.fd >= 0)
        oneshot_abandon(&d->pool, &a->slot);
    *a = (struct asker){.slot = {.fd = -1}};
}
