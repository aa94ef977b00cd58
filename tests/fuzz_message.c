/*
 * Any queue message, and any bytes in a reply pipe. The first byte chooses.
 *
 * A message: what message_parse accepts is walked as the manager does it; no
 * byte beyond is touched, and what the walk accepts is written again the same.
 * A reply: the stream takes the same from any pieces, gives no body of another
 * request, and once refused stays refused.
 */
#include "ipc/message.h"
#include "ipc/resp.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST 0x0102030405060708ULL
#define ARGS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool so)
{
    if (!so)
        abort();
}

/* ---- messages ---- */

/* Walks over the commands; each that is accepted is encoded again and must be
 * the same bytes. */
static void walk(const char *payload, size_t len)
{
    struct resp_request r;
    resp_request_init(&r, payload, len);
    uint32_t argc;
    const char *start = payload;
    while (resp_request_command(&r, &argc) == ERR_OK) {
        struct resp_arg argv[ARGS];
        require(argc > 0);
        for (uint32_t i = 0; i < argc; i++) {
            struct resp_arg arg;
            if (resp_request_arg(&r, &arg) != ERR_OK)
                return;
            if (arg.data != NULL)
                require(arg.data >= payload &&
                        arg.len <= (size_t)(payload + len - arg.data));
            if (i < ARGS)
                argv[i] = arg;
        }
        if (argc <= ARGS) {
            size_t n = resp_command_size(argc, argv);
            require(n == (size_t)(r.pos - start));
            char *again = malloc(n);
            require(again != NULL);
            require(resp_put_command(again, argc, argv) == n);
            require(memcmp(again, start, n) == 0);
            free(again);
        }
        start = r.pos;
    }
}

static void message(const char *data, size_t len)
{
    struct message_header h = {0};
    const char *payload = NULL;
    struct err_text why = {""};
    if (len == 0)
        return;
    unsigned priority = (uint8_t)data[0] >> 7;
    data++, len--;
    enum err e = message_parse(data, len, priority, &h, &payload, &why);
    if (e != ERR_OK) {
        require(e == ERR_PROTO || e == ERR_INVALID);
        require(why.text[0] != '\0');
        /* With an answer, or without an address. */
        require((e == ERR_INVALID) == (h.request != 0));
        require(e == ERR_PROTO || h.client != 0);
        return;
    }
    require(priority == 0 && h.client != 0 && h.request != 0);
    require(payload == data + sizeof(h) && h.payload_len == len - sizeof(h));
    walk(payload, h.payload_len);
}

/* ---- replies ---- */

struct taken {
    char *body;
    size_t len;
    uint64_t commands;
    bool ended;
};

/* Feeds `len` bytes in pieces of `step`. */
static enum err feed(const char *data, size_t len, size_t step,
                     uint32_t ncommands, struct taken *t)
{
    struct reply_stream s;
    enum err e = ERR_AGAIN;
    reply_stream_init(&s, REQUEST, ncommands);
    for (size_t at = 0; at < len && e == ERR_AGAIN; at += step) {
        const char *p = data + at;
        size_t n = len - at < step ? len - at : step;
        struct reply_piece piece;
        while ((e = reply_stream_next(&s, &p, &n, &piece)) == ERR_OK) {
            require(!t->ended && piece.chunk->request == REQUEST);
            require(piece.chunk->length <= REPLY_CHUNK_MAX);
            require(piece.data + piece.len <= p && piece.len <= len);
            if (piece.len > 0)
                memcpy(t->body + t->len, piece.data, piece.len);
            t->len += piece.len;
            if (piece.chunk_done) {
                t->commands += piece.chunk->count;
                t->ended = (piece.chunk->flags & REPLY_END) != 0;
            }
        }
        require(e == ERR_PROTO || (e == ERR_AGAIN && n == 0));
    }
    require(t->commands <= ncommands);
    require(!t->ended || t->commands == ncommands);
    if (e == ERR_PROTO) {
        const char *p = data;
        size_t n = len;
        struct reply_piece piece;
        require(reply_stream_next(&s, &p, &n, &piece) == ERR_PROTO);
    }
    return e;
}

static void reply(const char *data, size_t len)
{
    if (len < 2)
        return;
    uint32_t ncommands = (uint8_t)data[0];
    size_t step = (uint8_t)data[1] % 61 + 1;
    data += 2, len -= 2;
    struct taken whole = {.body = malloc(len + 1)};
    struct taken pieces = {.body = malloc(len + 1)};
    require(whole.body != NULL && pieces.body != NULL);
    enum err a = feed(data, len, len + 1, ncommands, &whole);
    enum err b = feed(data, len, step, ncommands, &pieces);
    require(a == b && whole.len == pieces.len);
    require(memcmp(whole.body, pieces.body, whole.len) == 0);
    require(whole.commands == pieces.commands && whole.ended == pieces.ended);
    free(whole.body);
    free(pieces.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 16384)
        return 0;
    /* A copy of exactly that size. */
    char *copy = malloc(size);
    require(copy != NULL);
    memcpy(copy, data, size);
    if (copy[0] & 1)
        reply(copy + 1, size - 1);
    else
        message(copy + 1, size - 1);
    free(copy);
    return 0;
}
