/*
 * Random Redis commands for comparing two servers: right and wrong, with edge
 * numbers, binary keys and mixed types. The same seed gives the same commands.
 */
#ifndef TESTS_DIFFERENTIAL_H
#define TESTS_DIFFERENTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIFF_ARGS 16

/* How two replies to a command are compared. */
enum diff_class {
    DIFF_EXACT,    /* byte for byte */
    DIFF_UNSORTED, /* the same lines in any order */
    DIFF_NEAR,     /* a number of seconds or milliseconds left to live */
    DIFF_TYPE      /* the first byte: RANDOMKEY, and DBSIZE, which counts keys
                      that are due until somebody deletes them */
};

struct diff_arg {
    const char *data; /* static */
    size_t len;
};

struct diff_command {
    enum diff_class class;
    size_t argc;
    struct diff_arg args[DIFF_ARGS];
};

/* SplitMix64. */
uint64_t diff_random(uint64_t *state);

/* A command at random. `in_multi`: only such whose reply in an EXEC can be
 * compared byte for byte. */
void diff_generate(uint64_t *state, bool in_multi, struct diff_command *out);

/* Whether its name is this, in any case. */
bool diff_is(const struct diff_command *command, const char *name);

/* Whether an argument is one of the generator's keys (of strings or lists). */
bool diff_is_key(const struct diff_arg *arg);

/* Encodes it as RESP; the caller frees the bytes. */
char *diff_encode(const struct diff_command *command, size_t *len);

/* Writes it for a person: printable, cut to `size`. */
void diff_print(const char *data, size_t len, char *out, size_t size);

/* Whether two replies are the same in the sense of the class. */
bool diff_same(enum diff_class class, const char *a, size_t a_len,
               const char *b, size_t b_len);

#endif
