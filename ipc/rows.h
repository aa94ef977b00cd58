/*
 * A program's options as rows of a table: a name, what kind of value, where it
 * goes, what --help says. Parsing, checking and --help all run over it.
 *
 *     --name VALUE, --name=VALUE, --flag
 *
 * -h, -V and -c are short for --help, --version and --channel where a program
 * has those. Asks nobody, prints only where it says so.
 */
#ifndef IPC_ROWS_H
#define IPC_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"

struct options; /* each program's own */

enum kind {
    KIND_TEXT,  /* const char *, a view into argv */
    KIND_FLAG,  /* bool */
    KIND_LAST,  /* bool, and what follows is not looked at: --help */
    KIND_COUNT, /* uint32_t */
    KIND_MS,    /* uint32_t, milliseconds */
    KIND_SIZE,  /* uint32_t; k, m, g */
    KIND_BYTES, /* uint64_t; k, m, g */
    KIND_CALL   /* a function */
};

struct option_row {
    const char *name;  /* without its dashes */
    const char *value; /* what --help calls it; NULL: it has none */
    enum kind kind;
    size_t offset;      /* of the field in struct options */
    uint64_t low, high; /* of a number */
    /* `value` lies in argv, and may be overwritten there: a password. */
    enum err (*call)(struct options *o, char *value, struct err_text *why);
    const char *help;
};

struct option_rows {
    const char *program; /* for messages */
    const struct option_row *rows;
    size_t count;
    int width; /* of the left column of --help */
};

/* Reads the command line into *o, in which the defaults are. ERR_INVALID with a
 * line that says which word is wrong, and what would be right. */
MUST_CHECK enum err rows_parse(const struct option_rows *t, struct options *o,
                               int argc, char **argv, struct err_text *why);

/* Prints a line for each row on standard output. */
void rows_help(const struct option_rows *t);

/* For a row's `call`: the value of --name as a whole number without sign, with
 * `unit` also 64k, 16m, 1g. ERR_INVALID with a line. */
MUST_CHECK enum err rows_number(const char *name, const char *value, bool unit,
                                uint64_t low, uint64_t high, uint64_t *number,
                                struct err_text *why);

/* The value of --group: a name, or a number. ERR_INVALID with a line. Looks the
 * name up where the system does. */
MUST_CHECK enum err rows_group(const char *value, gid_t *group,
                               struct err_text *why);

#endif
