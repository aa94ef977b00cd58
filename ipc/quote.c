/*
 * redis-cli's quoting (sdssplitargs), done in place: the write cursor never
 * overtakes the read cursor, for an argument is at most as long as its text.
 *
 *     line  "a\x41 b" 'c'
 *            ^out  ^in
 */
#include "ipc/quote.h"

struct cursor {
    const char *in, *end;
    char *out;
};

/* What isspace says in the C locale: the user's locale must not change where
 * an argument ends. */
static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Within an unquoted argument redis-cli stops at fewer characters: a vertical
 * tab or form feed there is part of the argument. */
static bool ends_arg(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return c;
    }
}

/* After a backslash within double quotes: `in` stands behind it, and something
 * follows. */
static void take_escape(struct cursor *c)
{
    if (*c->in == 'x' && c->end - c->in >= 3) {
        int high = hex_digit(c->in[1]);
        int low = hex_digit(c->in[2]);
        if (high >= 0 && low >= 0) {
            *c->out++ = (char)(unsigned char)(high * 16 + low);
            c->in += 3;
            return;
        }
    }
    *c->out++ = unescape(*c->in++);
}

/* From behind the opening quote to behind the closing one, which a blank or the
 * end of the line must follow. */
static enum err take_quoted(struct cursor *c, char quote)
{
    while (c->in < c->end) {
        if (*c->in == quote) {
            c->in++;
            return c->in == c->end || is_blank(*c->in) ? ERR_OK : ERR_INVALID;
        }
        if (*c->in == '\\' && c->in + 1 < c->end) {
            if (quote == '"') {
                c->in++;
                take_escape(c);
                continue;
            }
            if (c->in[1] == '\'')
                c->in++;
        }
        *c->out++ = *c->in++;
    }
    return ERR_INVALID;
}

static enum err take_arg(struct cursor *c)
{
    while (c->in < c->end && !ends_arg(*c->in)) {
        if (*c->in == '"' || *c->in == '\'') {
            char quote = *c->in++;
            return take_quoted(c, quote);
        }
        *c->out++ = *c->in++;
    }
    return ERR_OK;
}

enum err quote_split(char *line, size_t len, struct resp_arg *argv, size_t max,
                     size_t *argc)
{
    struct cursor c = {.in = line, .end = line + len, .out = line};
    size_t count = 0;
    for (;;) {
        while (c.in < c.end && is_blank(*c.in))
            c.in++;
        if (c.in == c.end)
            break;
        if (count == max)
            return ERR_LIMIT;
        const char *begin = c.out;
        enum err e = take_arg(&c);
        if (e != ERR_OK)
            return e;
        argv[count].data = begin;
        argv[count].len = (size_t)(c.out - begin);
        count++;
    }
    *argc = count;
    return ERR_OK;
}
