/*
 * Prints a whole reply as redis-cli 7.0 prints it, byte for byte, and what that
 * one cannot print (big numbers, blob errors, nan) in the same spirit.
 * Attributes are passed over. redis-cli itself chooses raw output for commands
 * whose reply is a text for people (INFO, CLIENT LIST, ...): so must the
 * caller, the reply does not tell.
 */
#ifndef IPC_RESP_PRINT_H
#define IPC_RESP_PRINT_H

#include <stdio.h>

#include "ipc/err.h"
#include "ipc/resp.h"

enum resp_format {
    /* "bar", (nil), (integer) 3, 1) "a": redis-cli on a terminal. */
    RESP_FORMAT_TTY,
    /* The bytes as they are, a newline after each; nil is an empty line, an
     * error its text and an empty line: redis-cli --raw. */
    RESP_FORMAT_RAW,
    /* One JSON value and a newline: redis-cli --json, with what it does not do
     * well: bytes that are not UTF-8 stay as they are, an error is written
     * error:"text", infinity inf, a map's key that is an array as the array's
     * JSON between quotes. A consumer that wants strict JSON has it from any
     * reply of UTF-8 strings, integers, nils, arrays and maps of these. */
    RESP_FORMAT_JSON
};

/* Prints the reply held whole at data[0..len); *used (may be NULL) says how
 * long it was. ERR_PROTO when it is not one whole reply, ERR_LIMIT when it is
 * nested deeper than RESP_DEPTH_MAX; nothing is promised about what was printed
 * then. ERR_SYS when writing failed; what stays in the stream's buffer fails
 * later, so look at fflush too. */
MUST_CHECK enum err resp_print(FILE *out, const char *data, size_t len,
                               enum resp_format format, size_t *used);

/* Prints `len` bytes in double quotes with redis-cli's escapes. quote_split
 * takes them back. A failed write shows in ferror(out). */
void resp_print_quoted(FILE *out, const char *data, size_t len);

#endif
