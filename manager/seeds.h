/* A cluster's first nodes, as the command line names them:
 * cluster://[user[:password]@]host[:port][,host[:port]...], clusters:// with
 * TLS. Any one of them is enough to find the others. */
#ifndef MANAGER_SEEDS_H
#define MANAGER_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/uri.h"

#define SEEDS_MAX 16

struct seed {
    char host[256];
    uint16_t port;
};

struct seeds {
    uint32_t count; /* 0: no cluster was named */
    struct seed list[SEEDS_MAX];
};

/* Whether the text has one of those schemes. */
bool seeds_named(const char *text);

/* Reads it: *uri is the first node with what all have in common (login, TLS).
 * ERR_INVALID with a line that repeats no part of it. */
MUST_CHECK enum err seeds_parse(struct seeds *seeds, struct uri *uri,
                                const char *text, struct err_text *why);

#endif
