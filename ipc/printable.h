/*
 * What a terminal merely shows, and what it obeys. Text that goes to people
 * holds bytes of others: folder names, a server's errors, names of processes.
 */
#ifndef IPC_PRINTABLE_H
#define IPC_PRINTABLE_H

#include <stddef.h>

/* How many bytes at the beginning of `data` are characters to be seen: ASCII
 * from blank to tilde, and whole characters in UTF-8. 0: the first byte is
 * none: a control character (C0, DEL, or C1 in UTF-8, such as U+009B, which
 * begins an escape sequence), or not UTF-8. */
size_t printable_span(const char *data, size_t len);

/* Puts '?' in place of every byte that is none, a tab included. */
void printable_only(char *text, size_t len);

#endif
