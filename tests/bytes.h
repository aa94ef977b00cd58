/*
 * Tables of bytes for the suites of RESP.
 */
#ifndef TESTS_BYTES_H
#define TESTS_BYTES_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* A string literal with its length: the bytes may hold zeros. */
#define BYTES(s) s, sizeof(s) - 1

struct bytes {
    const char *data;
    size_t len;
};

/* A copy of exactly this size: a sanitizer sees what is read beyond it. */
static inline char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

#endif
