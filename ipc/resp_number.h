/* Private to resp.c and resp_command.c: the number in a RESP header. */
#ifndef IPC_RESP_NUMBER_H
#define IPC_RESP_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

/* Of an int64_t; that many never overflow a uint64_t. */
#define RESP_DIGITS_MAX 19

/* Reads a number and its CR LF at *pos, and steps behind them. No leading zero,
 * no '+', no "-0". ERR_OK, ERR_PROTO, or ERR_AGAIN when they are not whole;
 * *pos only moves on success. */
MUST_CHECK static inline enum err resp_take_number(const char **pos,
                                                   const char *end,
                                                   bool *negative,
                                                   uint64_t *number)
{
    const char *p = *pos;
    /* Most have one digit or two. */
    if (end - p >= 4) {
        unsigned a = (unsigned)(unsigned char)p[0] - '0';
        unsigned b = (unsigned)(unsigned char)p[1] - '0';
        bool one = a <= 9 && p[1] == '\r' && p[2] == '\n';
        bool two = a - 1 <= 8 && b <= 9 && p[2] == '\r' && p[3] == '\n';
        if (one || two) {
            *pos = p + (one ? 3 : 4);
            *negative = false;
            *number = one ? a : a * 10 + b;
            return ERR_OK;
        }
    }
    bool minus = p < end && *p == '-';
    p += minus;
    const char *first = p;
    uint64_t n = 0;
    for (; p < end; p++) {
        unsigned digit = (unsigned)(unsigned char)*p - '0';
        if (digit > 9)
            break;
        if (p - first == RESP_DIGITS_MAX)
            return ERR_PROTO;
        n = n * 10 + digit;
    }
    if (p - first > 1 && *first == '0')
        return ERR_PROTO;
    if (p == end)
        return ERR_AGAIN;
    if (*p != '\r' || p == first || (minus && n == 0))
        return ERR_PROTO;
    if (end - p < 2)
        return ERR_AGAIN;
    if (p[1] != '\n')
        return ERR_PROTO;
    *pos = p + 2;
    *negative = minus;
    *number = n;
    return ERR_OK;
}

#endif
