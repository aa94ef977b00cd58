/* Commands from text. */
#include "tests/support_keyspec.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct wire *w, const void *data, size_t len)
{
    while (w->room < w->len + len) {
        w->room = w->room * 2 + 128;
        w->data = realloc(w->data, w->room);
        ck_assert_ptr_nonnull(w->data);
    }
    memcpy(w->data + w->len, data, len);
    w->len += len;
}

static void put_header(struct wire *w, char type, size_t number)
{
    char head[RESP_HEADER_MAX];
    size_t len = resp_put_header(head, type, (int64_t)number);
    put(w, head, len);
}

static void put_word(struct wire *w, const char *word, size_t len)
{
    if (len == 2 && memcmp(word, "\"\"", 2) == 0) {
        len = 0;
    } else if (len > 1 && word[0] == '@') {
        size_t bytes = strtoul(word + 1, NULL, 10);
        ck_assert_uint_lt(w->nblobs, WIRE_BLOBS);
        int64_t offset = 0;
        if (w->nblobs > 0)
            offset = w->blobs[w->nblobs - 1].offset +
                     (int64_t)w->blobs[w->nblobs - 1].len;
        put_header(w, '$', bytes);
        w->blobs[w->nblobs++] =
            (struct blob){.at = w->len, .len = bytes, .offset = offset};
        put(w, "\r\n", 2);
        return;
    }
    put_header(w, '$', len);
    put(w, word, len);
    put(w, "\r\n", 2);
}

static void put_command(struct wire *w, const char *text, size_t len)
{
    size_t words = 0, i = 0;
    for (size_t at = 0; at < len; at++)
        words += text[at] != ' ' && (at == 0 || text[at - 1] == ' ');
    put_header(w, '*', words);
    while (i < len) {
        size_t begin = i;
        while (i < len && text[i] != ' ')
            i++;
        if (i > begin)
            put_word(w, text + begin, i - begin);
        else
            i++;
    }
}

void wire_init(struct wire *wire, const char *text)
{
    *wire = (struct wire){0};
    for (;; text++) {
        size_t len = strcspn(text, ";");
        put_command(wire, text, len);
        text += len;
        if (*text == '\0')
            break;
    }
    char *exact = malloc(wire->len);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, wire->data, wire->len);
    free(wire->data);
    wire->data = exact;
}

void wire_release(struct wire *wire)
{
    free(wire->data);
    wire->data = NULL;
}

struct framed wire_framed(const struct wire *wire)
{
    return framed_view(wire->data, wire->len, wire->blobs, wire->nblobs);
}

enum err way_of(const struct keyspecs *keyspecs, const char *text,
                struct way *way)
{
    struct wire wire;
    wire_init(&wire, text);
    struct framed framed = wire_framed(&wire);
    enum err e = keyspecs_way(keyspecs, &framed, way);
    wire_release(&wire);
    return e;
}

const char *keys_of(const struct keyspecs *keyspecs, const char *text)
{
    static char list[1024];
    uint32_t where[64], count;
    struct wire wire;
    wire_init(&wire, text);
    struct framed framed = wire_framed(&wire);
    ck_assert_int_eq(keyspecs_keys(keyspecs, &framed, where, 64, &count),
                     ERR_OK);
    wire_release(&wire);
    list[0] = '\0';
    size_t len = 0;
    for (uint32_t i = 0; i < count && i < 64; i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%u",
                                i > 0 ? " " : "", where[i]);
    return list;
}
