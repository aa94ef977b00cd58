/* Splits a line into arguments with redis-cli's quoting: double quotes with
 * \n \r \t \b \a \xHH and \", single quotes with \', blanks between. */
#ifndef IPC_QUOTE_H
#define IPC_QUOTE_H

#include <stddef.h>

#include "ipc/err.h"
#include "ipc/resp.h"

/*
 * Splits line[0..len) in place: the arguments are views into `line`, which is
 * overwritten (no argument is longer than what it was written as).
 * *argc is 0 for a blank line. ERR_INVALID: unbalanced quotes, or a closing
 * quote followed by something other than a blank; ERR_LIMIT: more than `max`.
 */
MUST_CHECK enum err quote_split(char *line, size_t len, struct resp_arg *argv,
                                size_t max, size_t *argc);

#endif
