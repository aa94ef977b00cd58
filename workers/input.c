/* Reading commands. The buffer holds at least one whole command before any of
 * it is looked at; a long one is scanned once, not again with each piece. */
#include "workers/input.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/quote.h"

#define READ_SIZE 65536

void input_init(struct input *in, int fd)
{
    memset(in, 0, sizeof(*in));
    in->fd = fd;
    resp_scan_reset(&in->scan);
}

void input_release(struct input *in)
{
    free(in->buf);
    free(in->args);
    in->buf = NULL;
    in->args = NULL;
}

bool input_ready(const struct input *in)
{
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

enum err input_fill(struct input *in)
{
    if (in->start > 0) {
        memmove(in->buf, in->buf + in->start, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
    if (in->cap - in->end < READ_SIZE) {
        if (in->cap >= INPUT_MAX)
            return ERR_LIMIT;
        size_t cap = in->cap == 0 ? 2 * READ_SIZE : in->cap * 2;
        char *buf = realloc(in->buf, cap);
        if (buf == NULL)
            return ERR_NOMEM;
        in->buf = buf;
        in->cap = cap;
    }
    ssize_t n;
    do
        n = read(in->fd, in->buf + in->end, in->cap - in->end);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return ERR_SYS;
    in->eof = n == 0;
    in->end += (size_t)n;
    return ERR_OK;
}

static enum err reserve_args(struct input *in, size_t count)
{
    if (count <= in->args_cap)
        return ERR_OK;
    size_t cap = in->args_cap == 0 ? 64 : in->args_cap;
    while (cap < count)
        cap *= 2;
    struct resp_arg *args = realloc(in->args, cap * sizeof(*args));
    if (args == NULL)
        return ERR_NOMEM;
    in->args = args;
    in->args_cap = cap;
    return ERR_OK;
}

static void take(struct input *in, size_t len)
{
    in->start += len;
    in->scanned = 0;
    in->number++;
}

static enum err next_line(struct input *in, size_t *argc)
{
    char *line = in->buf + in->start;
    size_t left = in->end - in->start;
    char *newline = memchr(line + in->scanned, '\n', left - in->scanned);
    if (newline == NULL && !in->eof) {
        in->scanned = left;
        return ERR_AGAIN;
    }
    size_t len = newline != NULL ? (size_t)(newline - line) : left;
    take(in, newline != NULL ? len + 1 : len);
    /* Blanks separate, so there are at most so many. */
    size_t most = len / 2 + 1;
    if (most > RESP_ARGS_MAX)
        most = RESP_ARGS_MAX;
    enum err e = reserve_args(in, most);
    return e != ERR_OK ? e : quote_split(line, len, in->args, most, argc);
}

static enum err next_resp(struct input *in, size_t *argc)
{
    char *data = in->buf + in->start;
    size_t left = in->end - in->start;
    size_t used = 0;
    enum err e =
        resp_scan(&in->scan, data + in->scanned, left - in->scanned, &used);
    if (e == ERR_AGAIN) {
        in->scanned = left;
        return in->eof ? ERR_PROTO : ERR_AGAIN;
    }
    if (e != ERR_OK)
        return ERR_PROTO;
    size_t len = in->scanned + used;
    take(in, len);
    struct resp_request r;
    uint32_t n;
    resp_request_init(&r, data, len);
    if (resp_request_command(&r, &n) != ERR_OK)
        return ERR_PROTO;
    e = reserve_args(in, n);
    if (e != ERR_OK)
        return e;
    for (uint32_t i = 0; i < n; i++) {
        if (resp_request_arg(&r, &in->args[i]) != ERR_OK ||
            in->args[i].data == NULL)
            return ERR_PROTO;
    }
    *argc = n;
    return ERR_OK;
}

enum err input_next(struct input *in, bool resp, size_t *argc)
{
    if (in->start == in->end)
        return in->eof ? ERR_CLOSED : ERR_AGAIN;
    if (resp && in->buf[in->start] == '*')
        return next_resp(in, argc);
    return next_line(in, argc);
}
