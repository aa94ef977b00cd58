/* Replies in RESP2 and RESP3. */
#include "server/reply.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/resp.h"
#include "server/command.h"
#include "server/number.h"

/* Room for `len` bytes of output, or NULL when the client gets none. The
 * caller then adds what it wrote to c->out.end. */
static char *room(struct server *s, struct client *c, size_t len)
{
    const uint32_t silent = CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP;
    if ((c->flags & CLIENT_DEAD) != 0)
        return NULL;
    if ((c->flags & silent) != 0 && (c->flags & CLIENT_PUSHING) == 0)
        return NULL;
    return client_out_room(s, c, len);
}

void reply_raw(struct server *s, struct client *c, const char *bytes,
               size_t len)
{
    char *out = room(s, c, len);
    if (out == NULL)
        return;
    memcpy(out, bytes, len);
    c->out.end += len;
}

static void header(struct server *s, struct client *c, char type, int64_t n)
{
    char *out = room(s, c, RESP_HEADER_MAX);
    if (out != NULL)
        c->out.end += resp_put_header(out, type, n);
}

void reply_status(struct server *s, struct client *c, const char *text)
{
    size_t len = strlen(text);
    char *out = room(s, c, len + 3);
    if (out == NULL)
        return;
    *out++ = '+';
    memcpy(out, text, len);
    memcpy(out + len, "\r\n", 2);
    c->out.end += len + 3;
}

void reply_ok(struct server *s, struct client *c)
{
    reply_raw(s, c, "+OK\r\n", 5);
}

void reply_number(struct server *s, struct client *c, int64_t n)
{
    header(s, c, ':', n);
}

void reply_bool(struct server *s, struct client *c, bool value)
{
    reply_raw(s, c, value ? ":1\r\n" : ":0\r\n", 4);
}

void reply_bulk(struct server *s, struct client *c, const char *bytes,
                size_t len)
{
    char *out = room(s, c, len + RESP_HEADER_MAX + 2);
    if (out == NULL)
        return;
    size_t n = resp_put_header(out, '$', (int64_t)len);
    memcpy(out + n, bytes, len);
    n += len;
    memcpy(out + n, "\r\n", 2);
    c->out.end += n + 2;
}

void reply_arg(struct server *s, struct client *c, const struct arg *arg)
{
    reply_bulk(s, c, arg->data, arg->len);
}

void reply_text(struct server *s, struct client *c, const char *text)
{
    reply_bulk(s, c, text, strlen(text));
}

void reply_verbatim(struct server *s, struct client *c, const char *bytes,
                    size_t len)
{
    if (c->resp == 2) {
        reply_bulk(s, c, bytes, len);
        return;
    }
    header(s, c, '=', (int64_t)len + 4);
    reply_raw(s, c, "txt:", 4);
    reply_raw(s, c, bytes, len);
    reply_raw(s, c, "\r\n", 2);
}

void reply_null(struct server *s, struct client *c)
{
    if (c->resp == 2)
        reply_raw(s, c, "$-1\r\n", 5);
    else
        reply_raw(s, c, "_\r\n", 3);
}

void reply_null_array(struct server *s, struct client *c)
{
    if (c->resp == 2)
        reply_raw(s, c, "*-1\r\n", 5);
    else
        reply_raw(s, c, "_\r\n", 3);
}

void reply_array(struct server *s, struct client *c, size_t count)
{
    header(s, c, '*', (int64_t)count);
}

void reply_map(struct server *s, struct client *c, size_t count)
{
    if (c->resp == 2)
        header(s, c, '*', (int64_t)count * 2);
    else
        header(s, c, '%', (int64_t)count);
}

void reply_set(struct server *s, struct client *c, size_t count)
{
    header(s, c, c->resp == 2 ? '*' : '~', (int64_t)count);
}

void reply_push(struct server *s, struct client *c, size_t count)
{
    header(s, c, c->resp == 2 ? '*' : '>', (int64_t)count);
}

size_t reply_array_begin(struct server *s, struct client *c)
{
    (void)s;
    return buffer_len(&c->out);
}

/* Puts bytes before what was written since `mark`. */
static void insert(struct server *s, struct client *c, size_t mark,
                   const char *text, size_t len)
{
    if (room(s, c, len) == NULL)
        return;
    char *begin = c->out.data + c->out.start + mark;
    memmove(begin + len, begin, buffer_len(&c->out) - mark);
    memcpy(begin, text, len);
    c->out.end += len;
}

void reply_array_end(struct server *s, struct client *c, size_t mark,
                     size_t count)
{
    char text[RESP_HEADER_MAX];
    insert(s, c, mark, text, resp_put_header(text, '*', (int64_t)count));
}

void reply_array_insert(struct server *s, struct client *c, size_t mark,
                        uint64_t number)
{
    char digits[24], text[64];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, number);
    n = snprintf(text, sizeof(text), "*2\r\n$%d\r\n%s\r\n", n, digits);
    insert(s, c, mark, text, (size_t)n);
}

void reply_error(struct server *s, struct client *c, const char *format, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof(text))
        len = sizeof(text) - 1;
    while (len > 0 && (text[len - 1] == '\r' || text[len - 1] == '\n'))
        len--;
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\r' || text[i] == '\n')
            text[i] = ' ';
    s->stats.errors++;
    if (len == 0 || text[0] != '-')
        reply_raw(s, c, "-ERR ", 5);
    reply_raw(s, c, text, len);
    reply_raw(s, c, "\r\n", 2);
}

void reply_syntax_error(struct server *s, struct client *c)
{
    reply_error(s, c, "syntax error");
}

void reply_wrong_type(struct server *s, struct client *c)
{
    reply_error(s, c,
                "-WRONGTYPE Operation against a key holding the wrong kind of "
                "value");
}

void reply_arity_error(struct server *s, struct client *c)
{
    reply_error(s, c, "wrong number of arguments for '%s' command",
                c->command->full_name);
}

void reply_expire_error(struct server *s, struct client *c)
{
    reply_error(s, c, "invalid expire time in '%s' command",
                c->command->full_name);
}

void reply_subcommand_error(struct server *s, struct client *c)
{
    char name[32];
    command_upper(c->argv[0].data, c->argv[0].len, name, sizeof(name));
    reply_error(s, c,
                "unknown subcommand or wrong number of arguments for '%.*s'. "
                "Try %s HELP.",
                (int)(c->argv[1].len < 128 ? c->argv[1].len : 128),
                c->argv[1].data, name);
}

bool reply_need_number(struct server *s, struct client *c,
                       const struct arg *arg, int64_t *n)
{
    if (number_parse(arg->data, arg->len, n))
        return true;
    reply_error(s, c, "value is not an integer or out of range");
    return false;
}
