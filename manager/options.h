/* The manager's command line. */
#ifndef MANAGER_OPTIONS_H
#define MANAGER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"
#include "ipc/mpsc.h"
#include "manager/log.h"
#include "manager/policy.h"
#include "manager/seeds.h"
#include "manager/uri.h"

#define CONNECTIONS_MAX 16
#define SIDE_CONNECTIONS_MAX 256

enum cluster_mode {
    CLUSTER_NO,
    CLUSTER_YES,
    CLUSTER_AUTO /* ask the server */
};

enum read_from { READ_MASTER, READ_REPLICA, READ_PREFER_REPLICA };
enum options_tls { TLS_AS_URI, TLS_NO, TLS_YES };

struct options {
    const char *channel; /* NULL: the default one */
    struct mpsc_config queue;
    gid_t group; /* CHANNEL_NO_GROUP unless --group */
    bool raise_msg_max;
    bool takeover;
    bool check_config;
    bool exit_when_closed;
    enum log_level log_level;
    struct uri uri;
    struct seeds seeds; /* of a cluster; count 0: one Redis */
    enum cluster_mode cluster;
    enum read_from read_from;
    const char *sentinel_user, *sentinel_password_file; /* NULL: none */
    enum options_tls sentinel_tls;
    int resp;
    const char *client_name;
    const char *tls_ca, *tls_cert, *tls_key, *tls_server_name;
    bool when_down_fail; /* else wait */
    uint32_t spin_us;    /* awake so long before sleeping; 0: off */
    uint32_t connections;
    uint32_t bulk_connections; /* 0 or 1 */
    uint32_t stall_timeout_ms;
    uint32_t dedicated_connections;
    uint32_t max_inflight;       /* commands */
    uint32_t max_inflight_bytes; /* not written yet */
    uint32_t max_clients;        /* reply pipes held open */
    uint64_t max_request;        /* bytes of large arguments of a message */
    uint64_t max_reply;          /* bytes of one reply */
    uint64_t shm_budget;         /* bytes of payloads in flight */
    uint64_t reader_backlog;     /* bytes behind one reader */
    uint64_t total_backlog;      /* and behind all */
    uint32_t max_subscribers;    /* streams */
    uint32_t max_subscriptions;  /* names of all of them */
    uint32_t subscriber_backlog; /* messages behind one subscriber */
    uint32_t subscriber_backlog_bytes;
    uint64_t subscriber_total; /* bytes behind all of them */
    uint32_t connect_timeout_ms;
    uint32_t reconnect_max_ms;
    uint32_t silence_timeout_ms;
    uint32_t drain_timeout_ms;
    const char *password_file; /* NULL: none */
    struct policy *policy;     /* owned */
    bool help, version;
};

enum options_verdict { OPTIONS_RUN, OPTIONS_EXIT };

/* Parses the command line and the environment (REDISCLI_AUTH). --help and
 * --version print and say OPTIONS_EXIT. ERR_INVALID with a line, ERR_SYS with
 * one if the password file is at fault; strings are views into argv. */
MUST_CHECK enum err options_parse(struct options *o, int argc, char **argv,
                                  enum options_verdict *verdict,
                                  struct err_text *why);
/* Reads the files that the options name once more: the password, into *uri.
 * ERR_SYS or ERR_INVALID with a line: *uri is as it was. */
MUST_CHECK enum err options_reload(const struct options *o, struct uri *uri,
                                   struct err_text *why);

/* The login at the sentinels, into *uri: as above. */
MUST_CHECK enum err options_sentinel_login(const struct options *o,
                                           struct uri *uri,
                                           struct err_text *why);

/* Whether the sentinels are talked to by TLS. */
bool options_sentinel_tls(const struct options *o);

void options_release(struct options *o);

#endif
