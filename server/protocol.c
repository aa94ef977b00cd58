/* Reading requests, whole or in pieces. */
#include "server/protocol.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "server/number.h"

void request_init(struct request *r)
{
    memset(r, 0, sizeof(*r));
    r->bulk = -1;
}

void request_release(struct request *r, struct mem *m)
{
    mem_free(m, r->args);
    mem_free(m, r->text);
    request_init(r);
}

static enum parse fail(struct request *r, const char *why)
{
    snprintf(r->error, sizeof(r->error), "Protocol error: %s", why);
    return PARSE_ERROR;
}

/* Finds the byte that ends a line. Like Redis, sees nothing behind a NUL. */
static const char *line_end(const char *begin, size_t len, char end)
{
    const char *found = memchr(begin, end, len);
    if (found == NULL || memchr(begin, '\0', (size_t)(found - begin)) != NULL)
        return NULL;
    return found;
}

static struct arg *next_arg(struct request *r, struct mem *m)
{
    if (r->argc == r->args_cap) {
        r->args_cap = r->args_cap == 0 ? 8 : r->args_cap * 2;
        r->args = mem_resize(m, r->args, r->args_cap * sizeof(*r->args));
    }
    return &r->args[r->argc++];
}

/* ---- inline requests ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One escape after a backslash inside double quotes; returns what follows. */
static const char *unescape(const char *p, const char *end, char *byte)
{
    if (end - p >= 3 && p[0] == 'x' && hex_value(p[1]) >= 0 &&
        hex_value(p[2]) >= 0) {
        *byte = (char)(hex_value(p[1]) * 16 + hex_value(p[2]));
        return p + 3;
    }
    static const char names[] = "nrtba", bytes[] = "\n\r\t\b\a";
    const char *name = *p != '\0' ? strchr(names, *p) : NULL;
    *byte = name != NULL ? bytes[name - names] : *p;
    return p + 1;
}

/* The inside of a quoted part, up to and with its closing quote. NULL when
 * that is missing, or stuck to what follows. */
static const char *quoted(const char *p, const char *end, char quote,
                          char **out)
{
    while (p < end && *p != quote) {
        if (*p == '\\' && quote == '"' && p + 1 < end) {
            p = unescape(p + 1, end, (*out)++);
            continue;
        }
        if (*p == '\\' && quote == '\'' && p + 1 < end && p[1] == '\'')
            p++;
        *(*out)++ = *p++;
    }
    if (p == end)
        return NULL;
    p++;
    return p == end || isspace((unsigned char)*p) ? p : NULL;
}

bool request_split_line(struct request *r, struct mem *m, const char *line,
                        size_t len, char *text)
{
    /* A line ends at a NUL for Redis. */
    const char *p = line, *end = line + strnlen(line, len);
    char *out = text;
    for (;;) {
        while (p < end && isspace((unsigned char)*p))
            p++;
        if (p == end)
            return true;
        char *begin = out;
        /* Of the blanks, only these four end a word; the others are in it. */
        while (p < end && strchr(" \n\r\t", *p) == NULL) {
            if (*p == '"' || *p == '\'') {
                p = quoted(p + 1, end, *p, &out);
                if (p == NULL)
                    return false;
                break;
            }
            *out++ = *p++;
        }
        struct arg *arg = next_arg(r, m);
        arg->data = begin;
        arg->len = (size_t)(out - begin);
    }
}

static enum parse parse_inline(struct request *r, struct mem *m,
                               const char *data, size_t len, size_t *used)
{
    const char *newline = line_end(data, len, '\n');
    if (newline == NULL) {
        if (len > PROTOCOL_INLINE_MAX)
            return fail(r, "too big inline request");
        return PARSE_MORE;
    }
    size_t line = (size_t)(newline - data);
    *used = line + 1;
    if (line > 0 && data[line - 1] == '\r')
        line--;
    r->text = mem_resize(m, r->text, line + 1);
    if (!request_split_line(r, m, data, line, r->text))
        return fail(r, "unbalanced quotes in request");
    return r->argc == 0 ? PARSE_EMPTY : PARSE_READY;
}

/* ---- RESP requests ---- */

/* Reads the header line that begins at data[r->pos] with its type byte, and
 * returns its length with the line break; 0: it is not whole yet. Like Redis,
 * looks for the CR and takes the byte behind it on trust. */
static size_t header(struct request *r, const char *data, size_t len,
                     int64_t *number, bool *valid)
{
    const char *begin = data + r->pos;
    const char *cr = line_end(begin, len - r->pos, '\r');
    if (cr == NULL || cr + 2 > data + len)
        return 0;
    *valid = number_parse(begin + 1, (size_t)(cr - begin - 1), number);
    return (size_t)(cr - begin) + 2;
}

static enum parse parse_count(struct request *r,
                              const struct protocol_limits *limits,
                              const char *data, size_t len, bool *whole)
{
    int64_t count;
    bool valid;
    *whole = false;
    size_t line = header(r, data, len, &count, &valid);
    if (line == 0) {
        if (len > PROTOCOL_INLINE_MAX)
            return fail(r, "too big mbulk count string");
        return PARSE_MORE;
    }
    if (!valid || count > PROTOCOL_ARGS_MAX)
        return fail(r, "invalid multibulk length");
    if (count > 10 && limits->stranger)
        return fail(r, "unauthenticated multibulk length");
    r->pos = line;
    r->args_left = count > 0 ? count : 0;
    *whole = true;
    return PARSE_MORE;
}

static enum parse parse_bulk_length(struct request *r,
                                    const struct protocol_limits *limits,
                                    const char *data, size_t len, bool *whole)
{
    int64_t bulk;
    bool valid;
    *whole = false;
    size_t line = header(r, data, len, &bulk, &valid);
    if (line == 0) {
        if (len - r->pos > PROTOCOL_INLINE_MAX)
            return fail(r, "too big bulk count string");
        return PARSE_MORE;
    }
    const char *begin = data + r->pos;
    if (*begin != '$') {
        char why[40];
        snprintf(why, sizeof(why), "expected '$', got '%c'",
                 *begin == '\r' || *begin == '\n' ? ' ' : *begin);
        return fail(r, why);
    }
    if (!valid || bulk < 0 || bulk > limits->bulk_max)
        return fail(r, "invalid bulk length");
    if (bulk > 16384 && limits->stranger)
        return fail(r, "unauthenticated bulk length");
    r->pos += line;
    r->bulk = bulk;
    *whole = true;
    return PARSE_MORE;
}

static enum parse parse_args(struct request *r, struct mem *m,
                             const struct protocol_limits *limits,
                             const char *data, size_t len)
{
    while (r->args_left > 0) {
        if (r->bulk < 0) {
            bool whole;
            enum parse result = parse_bulk_length(r, limits, data, len, &whole);
            if (!whole)
                return result;
        }
        size_t bulk = (size_t)r->bulk;
        if (len - r->pos < bulk + 2)
            return PARSE_MORE;
        struct arg *arg = next_arg(r, m);
        arg->at = r->pos;
        arg->len = bulk;
        r->pos += bulk + 2;
        r->bulk = -1;
        r->args_left--;
    }
    return PARSE_READY;
}

enum parse request_parse(struct request *r, struct mem *m,
                         const struct protocol_limits *limits, const char *data,
                         size_t len, size_t *used)
{
    if (len == 0)
        return PARSE_MORE;
    enum parse result;
    if (data[0] != '*') {
        r->argc = 0;
        result = parse_inline(r, m, data, len, used);
    } else {
        if (r->args_left == 0) {
            bool whole;
            r->argc = 0;
            r->pos = 0;
            result = parse_count(r, limits, data, len, &whole);
            if (!whole)
                return result;
        }
        if (r->args_left == 0) {
            result = PARSE_EMPTY;
        } else {
            result = parse_args(r, m, limits, data, len);
            if (result == PARSE_READY)
                for (size_t i = 0; i < r->argc; i++)
                    r->args[i].data = data + r->args[i].at;
        }
        if (result == PARSE_READY || result == PARSE_EMPTY)
            *used = r->pos;
    }
    if (result == PARSE_READY || result == PARSE_EMPTY)
        r->pos = 0;
    return result;
}
