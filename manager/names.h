/*
 * Names of commands as keys of hash tables: any case, `COMMAND` or
 * `COMMAND|SUBCOMMAND`. Redis compares them with strcasecmp in the C locale.
 */
#ifndef MANAGER_NAMES_H
#define MANAGER_NAMES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NAME_WORD_MAX 64                     /* of a command's name */
#define NAME_KEY_MAX (2 * NAME_WORD_MAX + 1) /* COMMAND|SUBCOMMAND */

/* Letters of ASCII only, whatever the locale. */
static inline char name_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* A name's first and last eight bytes (of a shorter one fewer, filled up). */
struct name_ends {
    uint64_t first, last;
};

static inline struct name_ends name_ends(const char *name, size_t len)
{
    struct name_ends ends = {~UINT64_C(0), ~UINT64_C(0)};
    if (len >= 8) {
        memcpy(&ends.first, name, 8);
        memcpy(&ends.last, name + len - 8, 8);
    } else if (len >= 4) {
        uint32_t first, last;
        memcpy(&first, name, 4);
        memcpy(&last, name + len - 4, 4);
        ends.first = ends.first << 32 | first;
        ends.last = ends.last << 32 | last;
    } else if (len > 0) {
        ends.first = ends.first << 8 | (unsigned char)name[0];
        ends.last = ends.last << 8 | (unsigned char)name[len / 2];
        ends.last = ends.last << 8 | (unsigned char)name[len - 1];
    }
    return ends;
}

/* Of the name in any case: its ends and its length. Clearing bit 5 makes
 * letters upper case and mixes up a few other bytes, which only costs a
 * comparison. */
static inline uint32_t name_hash(const char *name, size_t len)
{
    const uint64_t upper = UINT64_C(0xdfdfdfdfdfdfdfdf);
    struct name_ends e = name_ends(name, len);
    uint64_t a = ((e.first & upper) ^ len) * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t b = ((e.last & upper) ^ a >> 32) * UINT64_C(0xc2b2ae3d27d4eb4f);
    return (uint32_t)((a ^ b) >> 32);
}

#endif
