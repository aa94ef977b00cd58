/*
 * The server's options, from the command line and CONFIG SET.
 */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

#define OPTIONS_BIND_MAX 8
#define OPTIONS_DATABASES 16
#define OPTIONS_PASSWORD_MAX 512

/* A client whose waiting output is over `hard`, or over `soft` for soft_s
 * seconds, is dropped. 0: no limit. */
struct output_limit {
    uint64_t hard;
    uint64_t soft;
    int64_t soft_s;
};

struct options {
    const char *bind[OPTIONS_BIND_MAX]; /* borrowed, usually from argv */
    size_t bind_count;
    int port;                /* 0: any free one */
    const char *unix_socket; /* borrowed; NULL: none */
    unsigned unix_mode;      /* 0: as umask makes it */
    int backlog;
    size_t max_clients;
    uint64_t max_memory; /* 0: no limit */
    uint64_t query_limit;
    int64_t bulk_max;
    struct output_limit normal_limit, pubsub_limit;
    int64_t timeout_s; /* of idle clients; 0: never */
    bool protected_mode;
    size_t password_len; /* 0: none is required */
    char password[OPTIONS_PASSWORD_MAX];
};

enum options_verdict { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

void options_defaults(struct options *o);

/* Reads argv[1..]. ERR_INVALID with one line in `why`. */
MUST_CHECK enum err options_parse(struct options *o, int argc, char **argv,
                                  enum options_verdict *verdict,
                                  struct err_text *why);

/* The text of --help. */
const char *options_help(void);

#endif
