/* Where Redis is, and how to log in: redis://[user[:password]@]host[:port][/db]
 * and its kin; or whom to ask for that: sentinel://host,host/master. */
#ifndef MANAGER_URI_H
#define MANAGER_URI_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

#define URI_PLACES_MAX 16

struct uri_place {
    char host[256]; /* a name or an address, without brackets */
    uint16_t port;
};

/* Parsed, percent-decoded, NUL-terminated. Plain data. */
struct uri {
    bool tls;
    bool is_unix;
    char host[256]; /* a name or an address without brackets; a path if unix;
                       "" where the sentinels are to say it */
    uint16_t port;  /* 6379 unless given */
    uint32_t db;
    char user[128];     /* "" for the default user */
    char password[512]; /* "" for none */
    char master[128];   /* what the sentinels call it; "": there are none */
    uint32_t sentinel_count;
    struct uri_place sentinels[URI_PLACES_MAX];
};

/* redis, rediss, valkey, valkeys: [user[:password]@]host[:port][/db], also
 * `:password@` and [v6]; unix:///path?db=N (also redis+unix, user and password
 * as `unix://user:password@/path`); sentinel, sentinels:
 * [user[:password]@]host[:port][,host[:port]...]/master[/db], also
 * redis-sentinel, rediss-sentinel and .../db#master. ERR_INVALID: the line
 * names the part that is wrong and what is expected; it never holds the
 * password. */
MUST_CHECK enum err uri_parse(struct uri *uri, const char *text,
                              struct err_text *why);

/* The same for people and logs: scheme, user, host, port, db; never the
 * password. Always NUL-terminated. */
void uri_show(const struct uri *uri, char *text, size_t size);

/* A place as servers tell it, in two texts without brackets or encoding.
 * ERR_INVALID: not a host, or not a port. */
MUST_CHECK enum err uri_place_read(struct uri_place *place, const char *host,
                                   size_t host_len, const char *port,
                                   size_t port_len);

bool uri_place_same(const struct uri_place *a, const struct uri_place *b);

/* Whether its host is a name, which takes a resolver. */
bool uri_place_is_name(const struct uri_place *place);

/* "host:port", "[v6]:port", for people and logs. */
#define URI_PLACE_TEXT 272
void uri_place_show(const struct uri_place *place, char text[URI_PLACE_TEXT]);

#endif
