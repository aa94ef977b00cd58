/*
 * Replies in the protocol that a client asked for. The manager's connection
 * speaks one for all; a client of RESP2 gets RESP2 whichever that is, and
 * RESP2's two nulls become RESP3's one for a client of that.
 *
 * Types alone do not make RESP2 of RESP3: some commands nest what RESP2 has in
 * a row, or have a map where RESP2 has pairs (enum command_shape).
 */
#include <string.h>

#include "workers/gateway/gateway.h"

/* The value that begins at `at`: how many bytes it is. 0: it is not whole. */
static size_t extent(const char *at, size_t len)
{
    struct resp_scan scan;
    size_t used = 0;
    resp_scan_reset(&scan);
    return resp_scan(&scan, at, len, &used) == ERR_OK ? used : 0;
}

static bool put_header(struct buffer *out, char type, int64_t number)
{
    char text[RESP_HEADER_MAX];
    return buffer_append(out, text, resp_put_header(text, type, number));
}

static bool put_bulk(struct buffer *out, const char *data, size_t len)
{
    return put_header(out, '$', (int64_t)len) &&
           buffer_append(out, data, len) && buffer_append(out, "\r\n", 2);
}

/* RESP3's long error, as the line that RESP2 has. */
static bool put_error(struct buffer *out, const char *data, size_t len)
{
    if (!buffer_append(out, "-", 1) || !buffer_append(out, data, len))
        return false;
    char *text = out->data + out->end - len;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' || text[i] == '\n')
            text[i] = ' ';
    }
    return buffer_append(out, "\r\n", 2);
}

/* One value without its elements, in RESP2. `bytes`: as it came. */
static bool put_resp2(struct buffer *out, const struct resp_value *v,
                      const char *bytes, size_t len)
{
    switch (v->type) {
    case '_':
        return buffer_append(out, "$-1\r\n", 5);
    case '%':
    case '~':
    case '>':
        return put_header(out, '*', v->number);
    case ',':
    case '(':
    case '=':
        return put_bulk(out, v->data, v->len);
    case '#':
        return put_header(out, ':', v->number);
    case '!':
        return put_error(out, v->data, v->len);
    default:
        return buffer_append(out, bytes, len);
    }
}

static bool holds_values(const struct resp_value *v)
{
    return !v->null && v->type != '\0' && strchr("*~>%", v->type) != NULL;
}

/* A whole value with all that is in it. */
static bool convert(struct buffer *out, const char *data, size_t len, int resp)
{
    uint64_t todo = 1;
    while (todo > 0 && len > 0) {
        struct resp_value v;
        size_t used;
        if (resp_get(data, len, &v, &used) != ERR_OK)
            return buffer_append(out, data, len);
        bool ok = true;
        todo--;
        if (v.type == '|' && resp == 2) {
            /* Attributes: passed over, with the pairs in them. */
            for (int64_t i = 0; i < v.number && used < len; i++)
                used += extent(data + used, len - used);
            todo++;
        } else if (resp == 2) {
            ok = put_resp2(out, &v, data, used);
        } else if (v.null) {
            ok = buffer_append(out, "_\r\n", 3);
        } else {
            ok = buffer_append(out, data, used);
            todo += v.type == '|';
        }
        if (!ok)
            return false;
        if (holds_values(&v) || (v.type == '|' && resp != 2))
            todo += (uint64_t)v.number;
        data += used;
        len -= used;
    }
    return true;
}

/* Whether the elements of an array are all arrays of two. */
static bool all_pairs(const char *data, size_t len, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        size_t n = extent(data, len);
        if (n < 4 || memcmp(data, "*2\r\n", 4) != 0)
            return false;
        data += n;
        len -= n;
    }
    return count > 0;
}

/* [[a, 1], [b, 2]] as [a, 1, b, 2]. */
static bool convert_flat(struct buffer *out, const char *data, size_t len,
                         int64_t count)
{
    if (!put_header(out, '*', count * 2))
        return false;
    for (int64_t i = 0; i < count * 2; i++) {
        size_t skip = i % 2 == 0 ? 4 : 0;
        size_t n = extent(data + skip, len - skip);
        if (!convert(out, data + skip, n, 2))
            return false;
        data += skip + n;
        len -= skip + n;
    }
    return true;
}

/* {a: 1, b: 2} as [[a, 1], [b, 2]]. */
static bool convert_pairs(struct buffer *out, const char *data, size_t len,
                          int64_t count)
{
    if (!put_header(out, '*', count / 2))
        return false;
    for (int64_t i = 0; i < count; i++) {
        size_t n = extent(data, len);
        if ((i % 2 == 0 && !put_header(out, '*', 2)) ||
            !convert(out, data, n, 2))
            return false;
        data += n;
        len -= n;
    }
    return true;
}

bool translate(struct buffer *out, const char *data, size_t len, int resp,
               enum command_shape shape)
{
    /* What is the same in both, and most that ever comes. */
    bool simple = len > 1 && strchr("+-:$", data[0]) != NULL;
    if (simple && (resp == 2 || data[1] != '-' || data[0] == '-'))
        return buffer_append(out, data, len);
    struct resp_value v;
    size_t used;
    if (resp != 2 || shape == SHAPE_PLAIN ||
        resp_get(data, len, &v, &used) != ERR_OK)
        return convert(out, data, len, resp);
    const char *rest = data + used;
    size_t left = len - used;
    if (shape == SHAPE_NULL_ARRAY && v.type == '_')
        return buffer_append(out, "*-1\r\n", 5);
    if (shape == SHAPE_PAIRS && v.type == '_')
        return buffer_append(out, "*-1\r\n", 5);
    if (shape == SHAPE_PAIRS && v.type == '%')
        return convert_pairs(out, rest, left, v.number);
    if (shape == SHAPE_FLAT && v.type == '*' && !v.null &&
        all_pairs(rest, left, v.number))
        return convert_flat(out, rest, left, v.number);
    return convert(out, data, len, resp);
}

bool translate_exec(struct buffer *out, const char *data, size_t len, int resp,
                    const char *shapes, size_t count)
{
    struct resp_value v;
    size_t used;
    if (resp != 2 || resp_get(data, len, &v, &used) != ERR_OK ||
        v.type != '*' || v.null || (uint64_t)v.number != count)
        return translate(out, data, len, resp, SHAPE_NULL_ARRAY);
    if (!put_header(out, '*', v.number))
        return false;
    data += used;
    len -= used;
    for (size_t i = 0; i < count; i++) {
        size_t n = extent(data, len);
        if (!translate(out, data, n, resp, (enum command_shape)shapes[i]))
            return false;
        data += n;
        len -= n;
    }
    return true;
}
