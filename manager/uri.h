/* Where Redis is, and how to log in: redis://[user[:password]@]host[:port][/db]
 * and its kin. */
#ifndef MANAGER_URI_H
#define MANAGER_URI_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

/* Parsed, percent-decoded, NUL-terminated. Plain data. */
struct uri {
    bool tls;
    bool is_unix;
    char host[256]; /* a name or an address without brackets; a path if unix */
    uint16_t port;  /* 6379 unless given */
    uint32_t db;
    char user[128];     /* "" for the default user */
    char password[512]; /* "" for none */
};

/* redis, rediss, valkey, valkeys: [user[:password]@]host[:port][/db], also
 * `:password@` and [v6]; unix:///path?db=N (also redis+unix, user and password
 * as `unix://user:password@/path`). ERR_INVALID: the line names the part that
 * is wrong and what is expected; it never holds the password. */
MUST_CHECK enum err uri_parse(struct uri *uri, const char *text,
                              struct err_text *why);

/* The same for people and logs: scheme, user, host, port, db; never the
 * password. Always NUL-terminated. */
void uri_show(const struct uri *uri, char *text, size_t size);

#endif
