/*
 * Replies, and how they are printed in each format; shared by the suites that
 * compare the printing with this table and with redis-cli's.
 */
#ifndef TESTS_PRINT_CASES_H
#define TESTS_PRINT_CASES_H

#include <stddef.h>

#include "ipc/resp_print.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define BYTES(s) s, sizeof(s) - 1

struct text {
    char *data;
    size_t len;
};

/* Prints one whole reply; the text is to be freed. Fails the running test. */
struct text print(const char *data, size_t len, enum resp_format format);

struct print_case {
    const char *data;
    size_t len;
    const char *tty, *raw, *json;
};

/* Rows that redis-cli 7.0 prints in the very same way. */
extern const struct print_case print_same[];
extern const int print_same_count;

#endif
