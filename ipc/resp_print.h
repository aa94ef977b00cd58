/* Prints a whole reply as redis-cli prints it. */
#ifndef IPC_RESP_PRINT_H
#define IPC_RESP_PRINT_H

#include <stdio.h>

#include "ipc/err.h"
#include "ipc/resp.h"

enum resp_format {
    RESP_FORMAT_TTY,  /* "bar", (nil), (integer) 3, 1) "a": redis-cli on a tty */
    RESP_FORMAT_RAW,  /* bytes as they are, a newline after each: redis-cli raw */
    RESP_FORMAT_JSON  /* one JSON value and a newline: redis-cli --json; bytes
                         that are not UTF-8 are written as \u00XX, quoted as
                         redis-cli's --quoted-json does not */
};

/* Prints the reply held whole at data[0..len); *used (may be NULL) says how
 * long it was. ERR_PROTO when it is not one whole reply, nothing is promised
 * about what was printed then. ERR_SYS when writing failed. */
MUST_CHECK enum err resp_print(FILE *out, const char *data, size_t len,
                               enum resp_format format, size_t *used);

/* Prints `len` bytes in double quotes with redis-cli's escapes. */
void resp_print_quoted(FILE *out, const char *data, size_t len);

#endif
