#include "workers/gateway/parse.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/quote.h"

enum step { STEP_OK, STEP_MORE, STEP_BAD, STEP_LONG };

void parse_reset(struct parser *p)
{
    free(p->line);
    *p = (struct parser){.at = 0};
}

/* Reads `<digits>CRLF` from data[*at]. Without sign or leading zero, as Redis
 * has it; a count may be negative. */
static enum step read_number(const char *data, size_t len, size_t *at,
                             int64_t max, int64_t *number)
{
    size_t i = *at;
    bool minus = i < len && data[i] == '-';
    i += minus;
    size_t first = i;
    int64_t n = 0;
    while (i < len && data[i] >= '0' && data[i] <= '9' && i - first < 11)
        n = n * 10 + (data[i++] - '0');
    if (i - first >= 11)
        return STEP_LONG;
    if (i == len)
        return STEP_MORE;
    if (i == first || data[i] != '\r')
        return STEP_BAD;
    if ((data[first] == '0' && (minus || i - first > 1)) || n > max)
        return STEP_BAD;
    if (i + 1 == len)
        return STEP_MORE;
    if (data[i + 1] != '\n')
        return STEP_BAD;
    *at = i + 2;
    *number = minus ? -n : n;
    return STEP_OK;
}

static enum parse_result broken(struct command *out, const char *why)
{
    out->name = why;
    out->name_len = strlen(why);
    return PARSE_BROKEN;
}

/* ---- lines ---- */

/* Puts a line into canonical form. The arguments are views into `copy`. */
static enum parse_result encode_line(struct parser *p, char *copy, size_t len,
                                     struct command *out)
{
    /* An argument and its blank take two bytes. */
    size_t max = len / 2 + 1, argc = 0;
    struct resp_arg *argv = malloc(max * sizeof(*argv));
    if (argv == NULL)
        return broken(out, "out of memory");
    enum err e = quote_split(copy, len, argv, max, &argc);
    enum parse_result result = PARSE_NOTHING;
    if (e != ERR_OK) {
        result = broken(out, "unbalanced quotes in request");
    } else if (argc > 0) {
        for (size_t i = 0; i < argc; i++) {
            if (argv[i].len == 0)
                argv[i].data = "";
        }
        p->line = malloc(resp_command_size(argc, argv));
        if (p->line == NULL) {
            result = broken(out, "out of memory");
        } else {
            out->data = p->line;
            out->len = resp_put_command(p->line, argc, argv);
            out->argc = (uint32_t)argc;
            out->name_len = argv[0].len;
            /* Behind the two headers `*N` and `$LEN`. */
            const char *at = memchr(p->line, '\n', out->len);
            at = memchr(at + 1, '\n', out->len - (size_t)(at + 1 - p->line));
            out->name = at + 1;
            out->in_line = true;
            result = PARSE_COMMAND;
        }
    }
    free(argv);
    return result;
}

static enum parse_result read_line(struct parser *p, const char *data,
                                   size_t len, struct command *out)
{
    const char *end = memchr(data + p->at, '\n', len - p->at);
    if (end == NULL) {
        p->at = len;
        if (len > PARSE_LINE_MAX)
            return broken(out, "too big inline request");
        return PARSE_MORE;
    }
    size_t n = (size_t)(end - data);
    out->used = n + 1;
    if (n > PARSE_LINE_MAX)
        return broken(out, "too big inline request");
    if (n > 0 && data[n - 1] == '\r')
        n--;
    if (n == 0)
        return PARSE_NOTHING;
    char *copy = malloc(n);
    if (copy == NULL)
        return broken(out, "out of memory");
    memcpy(copy, data, n);
    enum parse_result result = encode_line(p, copy, n, out);
    free(copy);
    return result;
}

/* ---- arrays ---- */

/* The count of arguments. PARSE_COMMAND: it has been read. */
static enum parse_result read_count(struct parser *p, const char *data,
                                    size_t len, bool stranger,
                                    struct command *out)
{
    size_t at = 1;
    int64_t n = 0;
    switch (read_number(data, len, &at, RESP_ARGS_MAX, &n)) {
    case STEP_MORE:
        return PARSE_MORE;
    case STEP_LONG:
        return broken(out, "too big mbulk count string");
    case STEP_BAD:
        return broken(out, "invalid multibulk length");
    case STEP_OK:
        break;
    }
    if (n <= 0) {
        out->used = at;
        return PARSE_NOTHING;
    }
    if (stranger && n > PARSE_STRANGER_ARGS)
        return broken(out, "unauthenticated multibulk length");
    p->at = at;
    p->argc = p->left = n;
    return PARSE_COMMAND;
}

/* The length of the next argument. PARSE_COMMAND: it has been read. */
static enum parse_result read_length(struct parser *p, const char *data,
                                     size_t len, bool stranger,
                                     struct command *out)
{
    if (p->at == len)
        return PARSE_MORE;
    if (data[p->at] != '$')
        return broken(out, "expected '$'");
    size_t at = p->at + 1;
    int64_t n = 0;
    switch (read_number(data, len, &at, RESP_BULK_MAX, &n)) {
    case STEP_MORE:
        return PARSE_MORE;
    case STEP_LONG:
        return broken(out, "too big bulk count string");
    case STEP_BAD:
        return broken(out, "invalid bulk length");
    case STEP_OK:
        break;
    }
    if (n < 0)
        return broken(out, "invalid bulk length");
    if (stranger && n > PARSE_STRANGER_BULK)
        return broken(out, "unauthenticated bulk length");
    if (p->left == p->argc) {
        p->name_at = at;
        p->name_len = (size_t)n;
    }
    p->at = at;
    p->bulk = n;
    p->in_bulk = true;
    return PARSE_COMMAND;
}

enum parse_result parse_next(struct parser *p, const char *data, size_t len,
                             bool stranger, struct command *out)
{
    *out = (struct command){.data = data};
    if (len == 0)
        return PARSE_MORE;
    if (data[0] != '*')
        return read_line(p, data, len, out);
    if (p->argc == 0) {
        enum parse_result r = read_count(p, data, len, stranger, out);
        if (r != PARSE_COMMAND)
            return r;
    }
    while (p->left > 0) {
        if (!p->in_bulk) {
            enum parse_result r = read_length(p, data, len, stranger, out);
            if (r != PARSE_COMMAND)
                return r;
        }
        size_t n = (size_t)p->bulk;
        if (len - p->at < n + 2)
            return PARSE_MORE;
        if (data[p->at + n] != '\r' || data[p->at + n + 1] != '\n')
            return broken(out, "expected CR LF behind a bulk string");
        p->at += n + 2;
        p->in_bulk = false;
        p->left--;
    }
    out->len = out->used = p->at;
    out->name = data + p->name_at;
    out->name_len = p->name_len;
    out->argc = (uint32_t)p->argc;
    return PARSE_COMMAND;
}

size_t parse_missing(const struct parser *p, size_t len)
{
    if (!p->in_bulk)
        return 1;
    size_t need = p->at + (size_t)p->bulk + 2;
    return need > len ? need - len : 1;
}
