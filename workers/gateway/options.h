/* mqredis-gateway's command line. */
#ifndef GATEWAY_OPTIONS_H
#define GATEWAY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"

#define OPTIONS_PASSWORD_MAX 512

struct options {
    const char *channel; /* NULL: $MQREDIS_CHANNEL, else "default" */
    const char *socket;  /* path; NULL: none */
    const char *bind;    /* a loopback address */
    int port;            /* -1: no TCP; 0: one that is free */
    mode_t mode;         /* of the socket */
    gid_t group;         /* of the socket; (gid_t)-1: as it comes */
    char password[OPTIONS_PASSWORD_MAX]; /* "": none */
    int64_t timeout_ms;                  /* of a command; -1: none */
    uint32_t max_clients;
    uint32_t max_inflight;    /* commands, of all clients */
    uint32_t client_inflight; /* and of one */
    uint32_t max_topics;
    uint32_t drain_timeout_ms;
    uint64_t query_buffer;  /* bytes of one command, or of one MULTI */
    uint64_t output_pause;  /* bytes that wait for a client: not read then */
    uint64_t output_buffer; /* and cut then */
    uint64_t buffers_total;
    bool help, version;
};

/* Reads the command line; what is kept of it points into argv, where passwords
 * are overwritten. ERR_INVALID with a line that says what is wrong. */
MUST_CHECK enum err options_parse(struct options *o, int argc, char **argv,
                                  struct err_text *why);

void options_help(void);

#endif
