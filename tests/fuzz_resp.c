/*
 * A stream from a server: scanned whole, one byte at a time and in pieces
 * chosen by the input, it must give the same frames at the same ends. What is a
 * frame can be read value by value up to the same end, and printed.
 */
#include "ipc/resp.h"
#include "ipc/resp_print.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct frames {
    size_t end[FRAMES];
    char type[FRAMES];
    size_t count;
    enum err last;
};

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* Scans in pieces of `step` bytes; of step 0, of 1 to 8 bytes chosen by the
 * data. Each piece is a copy of its size, so that reads beyond it show. */
static void scan(const char *data, size_t size, size_t step, struct frames *f)
{
    struct resp_scan s;
    resp_scan_reset(&s);
    f->count = 0;
    f->last = ERR_AGAIN;
    for (size_t pos = 0; pos < size && f->count < FRAMES;) {
        size_t piece = step > 0 ? step : 1 + (size_t)(data[pos] & 7);
        if (piece > size - pos)
            piece = size - pos;
        size_t opaque = resp_scan_opaque(&s);
        if (step == 0 && opaque > 0) {
            size_t skip = opaque < piece ? opaque : piece;
            resp_scan_skip(&s, skip);
            pos += skip;
            continue;
        }
        char *copy = malloc(piece);
        require(copy != NULL);
        memcpy(copy, data + pos, piece);
        size_t used = SIZE_MAX;
        f->last = resp_scan(&s, copy, piece, &used);
        free(copy);
        if (f->last == ERR_PROTO)
            return;
        require(used > 0 && used <= piece);
        require(f->last == ERR_OK ? resp_scan_idle(&s) : used == piece);
        pos += used;
        if (f->last == ERR_OK) {
            f->end[f->count] = pos;
            f->type[f->count] = s.type;
            f->count++;
        }
    }
}

static void require_same(const struct frames *a, const struct frames *b)
{
    require(a->count == b->count);
    require(memcmp(a->end, b->end, a->count * sizeof(a->end[0])) == 0);
    require(memcmp(a->type, b->type, a->count) == 0);
    require((a->last == ERR_PROTO) == (b->last == ERR_PROTO));
}

/* Reads the frame value by value. Only the prefix of a verbatim string is
 * judged by the reader alone. */
static void read_values(const char *data, size_t len)
{
    int64_t todo = 1;
    size_t pos = 0;
    while (todo > 0) {
        struct resp_value v;
        size_t used;
        enum err e = resp_get(data + pos, len - pos, &v, &used);
        if (e == ERR_PROTO && data[pos] == '=')
            return;
        require(e == ERR_OK && used > 0 && used <= len - pos);
        pos += used;
        if (strchr("*%~>|", v.type) != NULL && !v.null)
            todo += v.number;
        todo -= v.type != '|';
    }
    require(pos == len);
}

static void print(const char *data, size_t len)
{
    for (enum resp_format format = RESP_FORMAT_TTY; format <= RESP_FORMAT_JSON;
         format++) {
        char *text = NULL;
        size_t text_len = 0, used = 0;
        FILE *out = open_memstream(&text, &text_len);
        require(out != NULL);
        enum err e = resp_print(out, data, len, format, &used);
        require(e == ERR_OK || e == ERR_PROTO || e == ERR_LIMIT);
        fclose(out);
        if (e == ERR_OK)
            require(used == len && text_len > 0 && text[text_len - 1] == '\n');
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frames whole, bytes, pieces;
    if (size > 4096)
        return 0;
    const char *text = (const char *)data;
    scan(text, size, SIZE_MAX, &whole);
    scan(text, size, 1, &bytes);
    require_same(&whole, &bytes);
    scan(text, size, 0, &pieces);
    require_same(&whole, &pieces);

    size_t begin = 0;
    for (size_t i = 0; i < whole.count; i++) {
        read_values(text + begin, whole.end[i] - begin);
        print(text + begin, whole.end[i] - begin);
        begin = whole.end[i];
    }
    return 0;
}
