/*
 * A client: its connection, the request being read, the replies being sent,
 * and what it has asked the server to remember for it.
 */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/buffer.h"
#include "server/protocol.h"
#include "server/server.h"

#define CLIENT_NAME_MAX 256
#define CLIENT_ADDRESS_MAX 160

enum client_flags {
    CLIENT_CLOSE_AFTER_REPLY = 1 << 0, /* reads nothing more */
    CLIENT_DEAD = 1 << 1,              /* closed, waiting to be freed */
    CLIENT_DIRTY = 1 << 2,             /* in the server's `dirty` chain */
    CLIENT_MULTI = 1 << 3,             /* between MULTI and EXEC */
    CLIENT_MULTI_BROKEN = 1 << 4,      /* a command was refused at queueing */
    CLIENT_WATCH_BROKEN = 1 << 5,      /* a watched key was changed */
    CLIENT_REPLY_OFF = 1 << 6,
    CLIENT_REPLY_SKIP_NEXT = 1 << 7,
    CLIENT_REPLY_SKIP = 1 << 8,
    CLIENT_PUSHING = 1 << 9, /* what is written now is no reply */
    CLIENT_AUTHENTICATED = 1 << 10,
    CLIENT_UNIX = 1 << 11,
    CLIENT_BLOCKED = 1 << 12,   /* in BLPOP and its kin */
    CLIENT_OVER_LIMIT = 1 << 13 /* output is; dropped at the batch's end */
};

struct command;

struct client {
    struct source source;
    struct client *prev, *next; /* in the server's list */
    struct client *next_dirty;
    struct client *next_resumed;
    struct client *next_dead;
    uint64_t id;
    uint32_t flags;
    int resp; /* 2 or 3 */
    struct db *db;

    struct buffer in; /* what is left of the input between two reads */
    struct request request;
    size_t argc; /* the command being executed */
    const struct arg *argv;
    const struct command *command;
    const struct command *last_command;

    struct buffer out;
    int64_t over_soft_since_ms; /* output over the soft limit; 0: it is not */

    int64_t created_ms;
    int64_t active_ms; /* last time it was heard of */
    char *name;        /* NULL: none */
    char *library_name, *library_version;
    char address[CLIENT_ADDRESS_MAX];
    char local_address[CLIENT_ADDRESS_MAX];

    struct transaction *transaction; /* see transactions.c */
    struct watched *watches;
    struct dict channels, patterns; /* -> struct subscription */
    struct blocking *blocking;      /* see blocking.c */
};

/* A client on a connection, which it owns from now on; fd -1 makes one
 * without, whose input is given by client_feed and whose output is taken from
 * c->out (for tests). */
struct client *client_new(struct server *s, int fd, bool is_unix);

/* Takes it out of everything at once; it is freed after the current batch.
 * Harmless when repeated. */
void client_close(struct server *s, struct client *c);
void client_free_dead(struct server *s);

/* Takes input as if it had come over the connection. */
void client_feed(struct server *s, struct client *c, const char *data,
                 size_t len);

/* A request is over, a blocked one when it was answered: what CLIENT REPLY SKIP
 * has silenced ends, or begins. */
void client_request_done(struct client *c);

/* Executes requests that wait in the input of those who were unblocked. */
void client_resume_all(struct server *s);

/* Reads once what is there, without waiting. */
void client_read(struct server *s, struct client *c);

/* Sends what it can; closes on error. */
void client_flush(struct server *s, struct client *c);
void client_flush_all(struct server *s);

/* Room for `len` bytes in c->out, or NULL when the client is beyond its output
 * limit and will be dropped. The caller adds what it wrote to c->out.end. */
char *client_out_room(struct server *s, struct client *c, size_t len);

/* Housekeeping, some times per second: gives back idle buffers, closes those
 * over a soft limit or idle for too long. */
void client_cycle(struct server *s, struct client *c);

static inline bool client_subscribed(const struct client *c)
{
    return c->channels.count + c->patterns.count > 0;
}

#endif
