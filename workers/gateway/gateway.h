/*
 * What the gateway's files share.
 *
 *     gateway ── handle: what is answered soon      (libmqredis)
 *        ├────── handle: what blocks in Redis, each alone in its message
 *        ├────── listeners
 *        ├────── topics, each with a stream          (topics.c)
 *        └────── clients
 *                  ├── input ─▶ parser ─▶ dispatch ─▶ session, transaction,
 *                  │                                  subscriber, forward
 *                  ├── pending: what was asked, in order, until it is answered
 *                  └── output
 *
 * One thread, one epoll instance. A round of the loop reads clients, which
 * submits commands; then takes what the handles have, which fills outputs; then
 * settles the clients that anything happened to: writes, goes on with input
 * that was held, and frees those that ended. Nothing is freed before that.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "workers/gateway/buffer.h"
#include "workers/gateway/catalog.h"
#include "workers/gateway/commands.h"
#include "workers/gateway/options.h"
#include "workers/gateway/parse.h"
#include "workers/mqredis.h"

/* One read of a client. */
#define READ_SIZE (64 * 1024)

/* Clients are not read while so many messages wait unsent: the channel is
 * full. The library takes 1024, and one client's read makes fewer. */
#define UNSENT_PAUSE 32

struct gateway;

/* A descriptor in the loop; embedded by its owner. */
struct source {
    int fd;
    void (*ready)(struct gateway *g, struct source *source, uint32_t events);
};

/* X(name, help): what GATEWAY and the log show; they only grow. */
#define GATEWAY_COUNTERS(X)                                                    \
    X(connections, "connections accepted")                                     \
    X(refused, "connections closed at once: --max-clients")                    \
    X(accept_failures, "times that accept failed")                             \
    X(commands, "commands read from clients")                                  \
    X(forwarded, "of those, sent into the channel")                            \
    X(answered, "of those, answered by Redis")                                 \
    X(failed, "of those, answered -MQREDIS")                                   \
    X(cancelled, "of those, given up because the client left")                 \
    X(transactions, "EXECs sent")                                              \
    X(messages, "messages delivered to subscribers")                           \
    X(pauses, "times that clients were not read: the channel was full")        \
    X(protocol_errors, "clients cut for what is no command")                   \
    X(auth_failures, "wrong passwords")                                        \
    X(cut_query, "clients cut: --query-buffer")                                \
    X(cut_output, "clients cut: --output-buffer")                              \
    X(cut_total, "clients cut: --buffers-total, or no memory")                 \
    X(cut_gap, "subscribers cut because messages were missed")

#define GATEWAY_COUNTER_FIELD(name, help) uint64_t name;
struct counters {
    GATEWAY_COUNTERS(GATEWAY_COUNTER_FIELD)
};

/* What the manager's state says, as it was a moment ago. */
struct channel_view {
    uint64_t seen_ns;
    int resp; /* 2 or 3 */
    unsigned db;
    size_t message_size;
};

struct client_list {
    struct client *first, *last;
};

#define LISTENERS_MAX 2

struct listener {
    struct source source;
    bool is_unix;
};

struct gateway {
    const struct options *options;
    int epoll_fd;
    uint64_t now_ns; /* of this round */

    struct mqredis *mq;
    struct mqredis *blocking;
    struct source mq_source, blocking_source;
    bool mq_ready, blocking_ready; /* have something for us */
    struct source signals;
    struct channel_view view;
    struct catalog catalog;
    bool catalog_came; /* or did not: who waits for it is to be woken */

    struct listener listeners[LISTENERS_MAX];
    size_t listener_count;
    bool accepting;           /* the listeners are in the loop */
    uint64_t accept_retry_ns; /* 0: at once */
    int lock_fd;              /* of the socket's path */
    dev_t socket_dev;
    ino_t socket_ino;
    int tcp_port;

    struct client *clients; /* all of them */
    size_t client_count;
    uint64_t next_id;
    struct client *dirty;       /* to be settled at the end of the round */
    struct client_list stalled; /* not read, for the channel is full */
    struct client *doomed;      /* to be freed at the end of the round */

    struct topic **topics; /* topics.c: a table by name */
    size_t topic_count;
    struct topic *busy_topics;  /* with more to read than was read */
    struct topic *ended_topics; /* to be freed at the end of the round */
    uint64_t topics_seen_ns;    /* when all were looked at */

    size_t inflight; /* commands */
    size_t buffered; /* bytes in all clients' buffers */
    struct counters counters;

    int stopping; /* signals that said so */
    uint64_t stop_ns;
    char *scratch; /* 2 * READ_SIZE */
};

/* ---- clients ---- */

enum reply_mode {
    REPLY_MODE_ON,
    REPLY_MODE_OFF,
    REPLY_MODE_SKIP_NEXT, /* set by CLIENT REPLY SKIP */
    REPLY_MODE_SKIP       /* of the command being handled */
};

enum pending_kind {
    PENDING_BYTES,    /* the gateway's own answer */
    PENDING_REPLIES,  /* of one request, as they are */
    PENDING_EXEC,     /* a transaction: the last reply counts */
    PENDING_HELLO,    /* waits for the server's version */
    PENDING_CATALOG,  /* waits for COMMAND, and answers nothing */
    PENDING_SUBSCRIBE /* names that wait to be confirmed */
};

/* What was asked and has not been answered to its client. */
struct pending {
    struct pending *next;
    struct client *client;
    enum pending_kind kind;
    struct mqredis_request *request; /* NULL: none */
    uint32_t count;                  /* commands of the request */
    size_t answer_bytes;             /* of the request, in memory */
    bool done;
    bool mute;                   /* CLIENT REPLY OFF or SKIP */
    bool barrier;                /* nothing is read until it is answered */
    int resp;                    /* the client's protocol when it asked */
    enum command_shape shape;    /* of its only command */
    struct buffer bytes;         /* BYTES: the answer; EXEC: a shape for each
                                    command */
    struct name_list *names;     /* SUBSCRIBE */
    struct topic *waits_for;     /* its next name's; NULL: for none */
    struct pending *next_waiter; /* of that */
};

/* MULTI: what was queued since. */
struct multi {
    bool open;
    bool broken; /* a command was refused: EXEC fails */
    uint32_t count;
    struct buffer commands; /* MULTI and they, in canonical form */
    struct buffer shapes;   /* a byte each */
};

struct client {
    struct source source;
    struct gateway *gateway;
    struct client *prev, *next; /* of all */
    struct client *next_dirty;  /* and, at last, of the doomed */
    struct client *prev_stalled, *next_stalled;
    uint64_t id;
    uint64_t since_ns;
    uint32_t events; /* in the loop */
    bool is_unix;
    bool dirty, stalled, doomed;
    bool ended;   /* all that the client sent has been read */
    bool hung_up; /* it sends no more */
    bool leaving; /* closes when all it asked for is written */

    struct parser parser;
    struct buffer in;  /* read, and not taken yet */
    struct buffer out; /* to be written */
    struct pending *first, *last;
    size_t inflight; /* commands in the channel */
    size_t npending;
    bool held;  /* by a barrier */
    bool waits; /* its next command waits until nothing is pending */

    int resp;
    bool known; /* logged in */
    enum reply_mode reply_mode;
    char *name, *lib_name, *lib_version; /* NULL: none */
    struct multi multi;
    struct membership *memberships; /* topics.c */
    size_t subscribed[3];           /* by enum mqredis_topic, from 0 */
};

/* ---- gateway.c ---- */

/* Opens channel and sockets. Whatever comes of it, gateway_release follows.
 * Lowers the options that the machine does not allow. */
enum err gateway_init(struct gateway *g, struct options *o,
                      struct err_text *why);

/* Runs until a signal ends it. */
enum err gateway_run(struct gateway *g, struct err_text *why);

void gateway_release(struct gateway *g);

MUST_CHECK bool gateway_watch(struct gateway *g, struct source *source,
                              uint32_t events);
void gateway_unwatch(struct gateway *g, struct source *source);

/* Whether the channel takes more commands now. */
bool gateway_has_room(struct gateway *g);

/* What is known of the manager; asks anew if that is older than a second. */
const struct channel_view *gateway_view(struct gateway *g);

/* One line on standard error. */
void gateway_say(const char *format, ...) PRINTF_LIKE(1, 2);

/* ---- listen.c ---- */

/* Makes the sockets. ERR_BUSY: another gateway listens there. */
enum err listen_open(struct gateway *g, struct err_text *why);

/* Closes them, and removes the socket's name if it is still ours. */
void listen_close(struct gateway *g);

/* Begins or stops to ask for connections, as limits and time want it. */
void listen_update(struct gateway *g);

/* ---- client.c ---- */

/* Takes the descriptor. NULL: no memory, and it is closed. */
struct client *client_new(struct gateway *g, int fd, bool is_unix);

/* Ends a connection at once: what it waits for is cancelled. Its memory lives
 * until the end of the round. */
void client_close(struct client *c);

/* Frees what closed in this round. */
void clients_reap(struct gateway *g);

/* At the end of this round, something is to be done for it. */
void client_touch(struct client *c);

/* Does it: writes, goes on with its input, closes. */
void client_settle(struct client *c);

/* Takes it off the list of those for whom the channel was full. */
void client_unstall(struct client *c);

/* No more is read of it; it closes when all it asked for is answered. */
void client_leave(struct client *c);

/* Appends to the output; where there is no room for that, the client is cut. */
void client_write(struct client *c, const char *data, size_t len);

/* The same for a message that it subscribed to, as Redis sent it; the client is
 * cut if too much waits for it. */
void client_push(struct client *c, const char *data, size_t len);

/* The same for who appended to c->out itself. */
void client_wrote(struct client *c);

/* ---- dispatch.c ---- */

enum dispatched {
    DISPATCHED_DONE,
    DISPATCHED_HELD /* not now: with the same command again, later */
};

enum dispatched dispatch(struct client *c, const struct command *command);

/* Commands that follow each other in the input and are merely passed on travel
 * as one request. */
struct run {
    const char *data;
    size_t len;
    uint32_t count;
};

/* Adds a command to the run, if it is merely passed on. False: it is not, or
 * does not fit; the run is to be sent and the command dispatched. */
bool dispatch_joins(struct client *c, struct run *run,
                    const struct command *command);

/* ---- forward.c ---- */

/* All take the client's reply mode and protocol as they are now. */

/* The answer of the gateway itself, in its turn. */
void answer_bytes(struct client *c, const char *data, size_t len);
void answer_text(struct client *c, const char *line); /* "+OK", without CRLF */
void answer_error(struct client *c, const char *format, ...) PRINTF_LIKE(2, 3);

/* Sends commands into the channel. */
void forward_run(struct client *c, struct run *run);
void forward_command(struct client *c, const struct command *command,
                     enum command_shape shape);
void forward_blocking(struct client *c, const struct command *command,
                      enum command_shape shape);

/* MULTI, the queued commands and EXEC: `count` in all. Takes the shapes. */
void forward_transaction(struct client *c, const char *data, size_t len,
                         uint32_t count, struct buffer *shapes);

/* A request of the gateway's own, whose answer makes that of HELLO. */
void forward_hello(struct client *c);

/* Asks for the server's commands: nothing is read until they are known. */
void forward_catalog(struct client *c);

/* A new end of what is pending. NULL: the client was cut. */
struct pending *pending_add(struct client *c, enum pending_kind kind);

/* Takes what the handles have. */
void forward_collect(struct gateway *g);

/* Writes the answers that are there, in their order. */
void pending_advance(struct client *c);

/* Forgets all, cancelling what is in the channel. */
void pending_drop(struct client *c);

/* ---- translate.c ---- */

/* Appends a whole reply of Redis as a client of protocol `resp` is to have it.
 * `shapes`: of the reply, or with `each` of its elements, count of them. False:
 * no memory. */
MUST_CHECK bool translate(struct buffer *out, const char *data, size_t len,
                          int resp, enum command_shape shape);

/* The same for EXEC's: `shapes` has one for each of its elements. */
MUST_CHECK bool translate_exec(struct buffer *out, const char *data, size_t len,
                               int resp, const char *shapes, size_t count);

/* ---- session.c ---- */

/* What belongs to a connection. */
void session_command(struct client *c, const struct command *command,
                     const struct command_row *row);

/* Builds HELLO's answer into `out`. `version` of the server: "7.0.15". */
bool session_hello_reply(struct buffer *out, const struct client *c, int resp,
                         const char *version, size_t len);

void session_release(struct client *c);

/* ---- transaction.c ---- */

/* MULTI, EXEC, DISCARD, WATCH, UNWATCH, and whatever comes between the first
 * two. */
void transaction_command(struct client *c, const struct command *command,
                         const struct command_row *row);
void transaction_queue(struct client *c, const struct command *command,
                       const struct command_row *row);

/* Whether a command can be queued only when more is known of the server's
 * commands; that is asked for then. */
bool transaction_waits(struct client *c, const struct command *command);
void transaction_discard(struct client *c);

/* ---- topics.c, subscriber.c ---- */

/* (P|S)SUBSCRIBE and (P|S)UNSUBSCRIBE. */
void subscriber_command(struct client *c, const struct command *command,
                        const struct command_row *row);

/* Goes on with a subscription whose topics may have been confirmed. */
void subscriber_advance(struct client *c, struct pending *p);

/* Leaves all topics. */
void subscriber_release(struct client *c);

size_t subscriber_count(const struct client *c);

/* What a subscription that is given up, or done, holds. */
void subscriber_forget(struct pending *p);
void names_free(struct client *c, struct name_list *names);

/* At each round: what was left to read, and now and then a look at all. */
void topics_tick(struct gateway *g);

void topics_release(struct gateway *g);

/* ---- report.c ---- */

/* GATEWAY's text, in static storage. */
const char *report_text(const struct gateway *g, size_t *len);

/* One line of the counters that are not 0, on standard error. */
void report_line(const struct gateway *g);

#endif
