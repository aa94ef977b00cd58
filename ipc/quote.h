/*
 * Splits a line into arguments with redis-cli's quoting. Blanks separate. In
 * double quotes: \n \r \t \b \a \xHH, and a backslash before anything else
 * stands for that character. In single quotes: \' only. A quote may open in
 * the middle of an argument (a"b c" is one), a blank must follow its end.
 */
#ifndef IPC_QUOTE_H
#define IPC_QUOTE_H

#include <stddef.h>

#include "ipc/err.h"
#include "ipc/resp.h"

/*
 * Splits line[0..len) in place: the arguments are views into `line`, which is
 * overwritten (no argument is longer than what it was written as). A zero byte
 * is a character like others; redis-cli would ignore the line from there on.
 * *argc is 0 for a blank line. ERR_INVALID: unbalanced quotes, or a closing
 * quote followed by something other than a blank; ERR_LIMIT: more than `max`.
 * After an error the line's content is undefined, argv's too.
 */
MUST_CHECK enum err quote_split(char *line, size_t len, struct resp_arg *argv,
                                size_t max, size_t *argc);

#endif
