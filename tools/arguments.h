/*
 * What tools make of their command lines: the one line for a word that is none
 * of a program's options, numbers, and the few options of the small benchmarks.
 */
#ifndef TOOLS_ARGUMENTS_H
#define TOOLS_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

/* A whole number without a sign, all of `text`. False: it is none of low to
 * high, or there is no text (NULL); *value is as it was. */
bool argument_number(const char *text, unsigned long low, unsigned long high,
                     unsigned *value);

/* Says what getopt_long found wrong when it returned `c`, '?' or ':'. It was
 * called with opterr 0 and these short options, which begin with ':'; options
 * that are only long have values above 255. */
void argument_refused(struct err_text *why, int c, const char *shorts,
                      char *const *argv);

/* An option of a small program: `--name VALUE`. */
struct argument {
    const char *name;
    int *number; /* from low, at least 0, to high; NULL: `word` is set */
    int low, high;
    const char **word;
};

/* Takes all of a command line. False: the program's usage is on standard error.
 */
bool arguments_take(const char *program, const struct argument *list,
                    size_t count, int argc, char *const *argv);

#endif
