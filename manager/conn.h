/*
 * One connection to Redis: connects, logs in, keeps a pipeline moving, finds
 * out when it breaks, and connects again by exponential backoff with full
 * jitter, for ever.
 */
#ifndef MANAGER_CONN_H
#define MANAGER_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/log.h"
#include "manager/lookup.h"
#include "manager/loop.h"
#include "manager/patience.h"
#include "manager/pipeline.h"
#include "manager/stream.h"
#include "manager/uri.h"

/* Shared by all connections of a manager; borrowed. */
struct conn_options {
    struct uri uri;
    struct tls_context *tls; /* NULL: plain */
    int resp;                /* 2 or 3 */
    char client_name[64];    /* CLIENT SETNAME */
    uint32_t connect_timeout_ms;
    uint32_t reconnect_max_ms;
    uint32_t silence_ms; /* without a byte while replies are due: broken */
    bool keep_unsent;    /* --when-down=wait */
    uint32_t stall_ms;   /* a large reply's reader may lag so long */
    bool only_master;    /* what is no master is not used */
};

enum conn_state {
    CONN_OFF,        /* not wanted */
    CONN_WAITING,    /* for the next attempt */
    CONN_LOOKUP,     /* for the addresses of the host */
    CONN_CONNECTING, /* for the socket */
    CONN_TLS,        /* for the TLS handshake */
    CONN_LOGIN,      /* for HELLO, AUTH, SELECT, SETNAME, ROLE */
    CONN_READY
};

/* What a server says of itself in its reply to HELLO, which is of Redis 6 and
 * later. */
enum conn_mode {
    CONN_MODE_UNKNOWN,
    CONN_MODE_STANDALONE,
    CONN_MODE_CLUSTER,
    CONN_MODE_SENTINEL
};

struct conn {
    struct watcher watcher;
    struct loop *loop;
    const struct conn_options *options;
    struct lookup lookup;
    struct stream stream;
    enum conn_state state;
    struct pipeline pipeline;
    bool bulk;          /* carries large requests and replies */
    bool reconnect;     /* after a break: else CONN_OFF */
    bool write_blocked; /* the socket was full at the last write */
    uint32_t attempt;   /* of connecting, since the last success */
    uint64_t timer_ns;  /* of the state: give up, or try again; 0: none */
    uint64_t read_ns;   /* when a byte was last read, or became due */
    uint64_t write_blocked_ns; /* since when */
    struct patience patience;  /* with readers that lag */
    /* The login, see login.c. */
    uint8_t login_step;
    bool login_legacy;     /* the server has no HELLO */
    enum conn_mode mode;   /* of the server, since the last login */
    struct buffer login;   /* bytes to write */
    bool refused;          /* by the server: wrong password and its kin */
    struct err_text error; /* why it broke last */
    /* Called at CONN_READY and when it stops being that. */
    void (*changed)(void *context, struct conn *c);
    /* NULL, or takes what was read in place of the pipeline (pub/sub). What is
     * no ERR_OK breaks the connection. */
    enum err (*take)(void *context, const char *data, size_t len);
    void *context;
};

/* Everything is borrowed. ERR_NOMEM. */
MUST_CHECK enum err conn_init(struct conn *c, struct loop *loop,
                              const struct conn_options *options,
                              struct answers *answers,
                              void (*changed)(void *context, struct conn *c),
                              void *context);
void conn_release(struct conn *c);

/* Begins to connect; with `reconnect`, again and again. */
void conn_start(struct conn *c, bool reconnect);

/* Closes. In flight: lost; unsent: unavailable; both with the reason. */
void conn_stop(struct conn *c, const char *reason);

/* Queues commands: see pipeline_append. */
MUST_CHECK enum err conn_append(struct conn *c, const struct run *run);

/* Writes what the pipeline has, as far as the socket takes it. */
void conn_flush(struct conn *c);

/* Timers: returns when it wants to be called next (CLOCK_MONOTONIC; 0: no
 * wish). Called once each round of the loop. */
uint64_t conn_tick(struct conn *c, uint64_t now);

/* The same for a connection whose command may block: once it is ready, it may
 * be silent as long as it likes. */
uint64_t conn_tick_blocking(struct conn *c, uint64_t now);

/* Breaks the connection for a reason: as if the peer had. */
void conn_break(struct conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The options name another server now: breaks the connection for that reason
 * and connects there at once. One that is off stays off. */
void conn_move(struct conn *c, const char *reason);

/* ---- login.c ---- */

/* Begins the login: puts its first bytes into c->login. ERR_NOMEM. */
MUST_CHECK enum err login_begin(struct conn *c);

/* Takes a whole reply. ERR_OK: go on (c->login may have more to write).
 * ERR_CLOSED: logged in. ERR_AGAIN: the server does not serve yet (LOADING),
 * or is no master; ERR_DENIED: it refuses us; `why` says so. */
MUST_CHECK enum err login_reply(struct conn *c, const char *data, size_t len,
                                struct err_text *why);

#endif
