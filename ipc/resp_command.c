/*
 * RESP to the server: walking over commands in canonical form, encoding.
 *
 * The walk is strict where Redis is lenient, so that nobody can write a message
 * which we frame in one way and Redis in another.
 */
#include "ipc/resp.h"
#include "ipc/resp_number.h"

#include <string.h>

/* ---- commands in canonical form ---- */

void resp_request_init(struct resp_request *r, const char *data, size_t len)
{
    *r = (struct resp_request){.pos = data, .end = data + len};
}

/* A number within [min, max], or ERR_PROTO: there is no more to come. */
static enum err take_canonical(const char **pos, const char *end, uint64_t min,
                               uint64_t max, uint64_t *number)
{
    bool negative;
    uint64_t n;
    if (resp_take_number(pos, end, &negative, &n) != ERR_OK || negative ||
        n < min || n > max)
        return ERR_PROTO;
    *number = n;
    return ERR_OK;
}

enum err resp_request_command(struct resp_request *r, uint32_t *argc)
{
    if (r->args_left > 0)
        return ERR_INVALID;
    if (r->pos == r->end)
        return ERR_CLOSED;
    if (*r->pos != '*')
        return ERR_PROTO;
    const char *pos = r->pos + 1;
    uint64_t n;
    if (take_canonical(&pos, r->end, 1, RESP_ARGS_MAX, &n) != ERR_OK)
        return ERR_PROTO;
    r->pos = pos;
    r->args_left = (uint32_t)n;
    *argc = r->args_left;
    return ERR_OK;
}

enum err resp_request_arg(struct resp_request *r, struct resp_arg *arg)
{
    if (r->args_left == 0)
        return ERR_INVALID;
    if (r->pos == r->end || (*r->pos != '$' && *r->pos != '@'))
        return ERR_PROTO;
    bool large = *r->pos == '@';
    const char *pos = r->pos + 1;
    uint64_t n;
    if (take_canonical(&pos, r->end, large, RESP_BULK_MAX, &n) != ERR_OK)
        return ERR_PROTO;
    const char *data = NULL;
    if (!large) {
        data = pos;
        if ((uint64_t)(r->end - pos) < n + 2 || data[n] != '\r' ||
            data[n + 1] != '\n')
            return ERR_PROTO;
        pos += n + 2;
    }
    r->pos = pos;
    r->args_left--;
    arg->data = data;
    arg->len = (size_t)n;
    return ERR_OK;
}

/* ---- encoding ---- */

size_t resp_put_number(char *out, int64_t n)
{
    if (n >= 0 && n <= 9) {
        out[0] = (char)('0' + n);
        return 1;
    }
    char digits[20];
    size_t count = 0, sign = n < 0;
    uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (sign)
        out[0] = '-';
    for (size_t i = 0; i < count; i++)
        out[sign + i] = digits[count - 1 - i];
    return sign + count;
}

size_t resp_put_header(char *out, char type, int64_t number)
{
    out[0] = type;
    size_t n = 1 + resp_put_number(out + 1, number);
    out[n] = '\r';
    out[n + 1] = '\n';
    return n + 2;
}

static size_t header_size(size_t number)
{
    size_t size = 4; /* type, one digit, CR LF */
    for (; number >= 10; number /= 10)
        size++;
    return size;
}

static bool is_large(const struct resp_arg *arg)
{
    return arg->data == NULL && arg->len > 0;
}

size_t resp_command_size(size_t argc, const struct resp_arg *argv)
{
    size_t size = header_size(argc);
    for (size_t i = 0; i < argc; i++) {
        size_t add = header_size(argv[i].len);
        if (!is_large(&argv[i])) {
            if (__builtin_add_overflow(add, 2, &add) ||
                __builtin_add_overflow(add, argv[i].len, &add))
                return SIZE_MAX;
        }
        if (__builtin_add_overflow(size, add, &size))
            return SIZE_MAX;
    }
    return size;
}

size_t resp_put_command(char *out, size_t argc, const struct resp_arg *argv)
{
    char *p = out + resp_put_header(out, '*', (int64_t)argc);
    for (size_t i = 0; i < argc; i++) {
        bool large = is_large(&argv[i]);
        p += resp_put_header(p, large ? '@' : '$', (int64_t)argv[i].len);
        if (large)
            continue;
        if (argv[i].len > 0)
            memcpy(p, argv[i].data, argv[i].len);
        p += argv[i].len;
        *p++ = '\r';
        *p++ = '\n';
    }
    return (size_t)(p - out);
}
