/* Redis's patterns: * ? [a-z] [^a] and \ before any of them. */
#ifndef SERVER_GLOB_H
#define SERVER_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* A star matches any bytes, but not all of an empty text. In time proportional
 * to the product of the lengths at most. */
bool glob_match(const char *pattern, size_t pattern_len, const char *text,
                size_t len);

#endif
