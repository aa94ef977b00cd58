/*
 * What does not fit into a queue message: large arguments go into the slot's
 * payload file and leave `@LEN` in their place; where that is not enough, what
 * remains of the commands goes there too, before them (ipc/payload.h).
 */
#include "workers/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/payload.h"

/* Shorter arguments stay where they are: a segment of its own costs the manager
 * more than copying them. */
#define SPILL_MIN 1024

/* A message taken apart. */
struct spill {
    char *framing; /* the commands without their large arguments */
    size_t len;
    uint64_t blob_bytes;
};

bool flight_is_large(const struct flight *f)
{
    return f->blobs.count > 0 || f->len > f->link->tx.msgsize;
}

static enum err write_blob(struct payload *file, int64_t *offset,
                           const struct resp_arg *blob)
{
    enum err e = payload_write(file, *offset, blob->data, blob->len);
    *offset += (int64_t)blob->len;
    return e;
}

/* Walks over the commands. With `file`, writes their large arguments to it from
 * `offset` on; else collects the framing. */
static enum err walk(const struct flight *f, struct spill *s,
                     struct payload *file, int64_t offset)
{
    struct resp_request r;
    uint32_t argc;
    const char *from = f->buf + sizeof(struct message_header);
    size_t blob = 0;
    resp_request_init(&r, from, f->len - sizeof(struct message_header));
    while (resp_request_command(&r, &argc) == ERR_OK) {
        for (; argc > 0; argc--) {
            struct resp_arg arg;
            const char *before = r.pos;
            enum err e = resp_request_arg(&r, &arg);
            if (e != ERR_OK)
                return e;
            if (arg.len < SPILL_MIN)
                continue;
            if (arg.data == NULL && blob == f->blobs.count)
                return ERR_INVALID;
            if (arg.data == NULL)
                arg = f->blobs.list[blob++];
            if (file != NULL) {
                e = write_blob(file, &offset, &arg);
                if (e != ERR_OK)
                    return e;
                continue;
            }
            memcpy(s->framing + s->len, from, (size_t)(before - from));
            s->len += (size_t)(before - from);
            s->len +=
                resp_put_header(s->framing + s->len, '@', (int64_t)arg.len);
            s->blob_bytes += arg.len;
            from = r.pos;
        }
    }
    if (file == NULL) {
        memcpy(s->framing + s->len, from, (size_t)(r.pos - from));
        s->len += (size_t)(r.pos - from);
    }
    return ERR_OK;
}

static enum mqredis_status write_file(const struct mqredis *mq,
                                      struct flight *f, const struct spill *s,
                                      bool body, struct mqredis_error *why)
{
    struct payload *file = &f->slot.payload;
    enum err e = ERR_OK;
    if (body)
        e = payload_write(file, 0, s->framing, s->len);
    if (e == ERR_OK)
        e = walk(f, NULL, file, body ? (int64_t)s->len : 0);
    if (e == ERR_OK)
        return MQREDIS_OK;
    return error_say(why, MQREDIS_SYSTEM,
                     "channel '%s': cannot put a large argument into "
                     "%s/payload: %s: not executed",
                     mq->name, f->link->ch.dir, strerror(errno));
}

enum mqredis_status flight_spill(const struct mqredis *mq, struct flight *f,
                                 struct mqredis_error *why)
{
    size_t header = sizeof(struct message_header);
    size_t room = f->link->tx.msgsize - header;
    struct spill s = {.framing = malloc(f->len)};
    if (s.framing == NULL)
        return error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory",
                         mq->name);
    enum mqredis_status status = MQREDIS_OK;
    if (walk(f, &s, NULL, 0) != ERR_OK)
        status = error_say(why, MQREDIS_INVALID,
                           "channel '%s': the commands are not in canonical "
                           "form",
                           mq->name);
    bool body = s.len > room;
    if (status == MQREDIS_OK && body && s.len > MESSAGE_BODY_MAX)
        status = error_say(why, MQREDIS_TOO_BIG,
                           "channel '%s': %zu bytes of commands in one message "
                           "are over %u: not executed",
                           mq->name, s.len, MESSAGE_BODY_MAX);
    if (status == MQREDIS_OK)
        status = write_file(mq, f, &s, body, why);
    uint64_t body_len = s.len;
    size_t inline_len = body ? sizeof(body_len) : s.len;
    f->wire = status == MQREDIS_OK ? malloc(header + inline_len) : NULL;
    if (status == MQREDIS_OK && f->wire == NULL)
        status = error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory",
                           mq->name);
    if (f->wire != NULL) {
        f->wire_len = header + inline_len;
        memcpy(f->wire + header, body ? (const char *)&body_len : s.framing,
               inline_len);
        f->wire_flags = (uint16_t)((s.blob_bytes > 0 ? MESSAGE_PAYLOAD : 0) |
                                   (body ? MESSAGE_BODY : 0));
    }
    free(s.framing);
    return status;
}
