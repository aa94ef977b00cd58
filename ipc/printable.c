/* Characters to be seen, by the rules of UTF-8 (RFC 3629). */
#include "ipc/printable.h"

#include <stdbool.h>
#include <stdint.h>

/* The length of the character in UTF-8 at `at`, if it is one to be seen; 0. */
static size_t character(const unsigned char *at, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t need = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || len < need)
        return 0;
    uint32_t code = at[0] & (0xffU >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3fU);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    bool control = code < 0xa0;
    /* These turn the direction of what follows, to hide one text in another. */
    bool turns = (code >= 0x202a && code <= 0x202e) ||
                 (code >= 0x2066 && code <= 0x2069);
    if (code < least[need] || code > 0x10ffff || surrogate || control || turns)
        return 0;
    return need;
}

size_t printable_span(const char *data, size_t len)
{
    const unsigned char *at = (const unsigned char *)data;
    size_t n = 0;
    while (n < len) {
        size_t step = at[n] < 0x80 ? at[n] >= 0x20 && at[n] != 0x7f
                                   : character(at + n, len - n);
        if (step == 0)
            break;
        n += step;
    }
    return n;
}

void printable_only(char *text, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        at += printable_span(text + at, len - at);
        if (at < len)
            text[at] = '?';
    }
}
