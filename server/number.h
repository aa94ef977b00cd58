/* Numbers in text, read and written exactly as Redis does. */
#ifndef SERVER_NUMBER_H
#define SERVER_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits with an optional minus: no sign or zero in front, no blanks,
 * nothing behind. False when it is anything else or does not fit. */
bool number_parse(const char *text, size_t len, int64_t *value);

/* A finite or infinite decimal number, as strtold reads it; no blank in
 * front, not NaN. */
bool number_parse_float(const char *text, size_t len, long double *value);

/* At most 17 decimals, without trailing zeros, never in exponent form.
 * Returns the length; `out` holds NUMBER_FLOAT_MAX bytes. */
#define NUMBER_FLOAT_MAX (5 * 1024)
size_t number_format_float(char *out, long double value);

/* "100", "64kb", "1GB": bytes, with k, m, g in thousands and kb, mb, gb in
 * powers of 1024. */
bool number_parse_memory(const char *text, size_t len, uint64_t *bytes);

#endif
