/*
 * A real redis-server for a suite, and plain connections to it, on which every
 * byte is the test's own.
 *
 * What can't be done fails the running test, as in support.h.
 */
#ifndef TESTS_SUPPORT_REDIS_H
#define TESTS_SUPPORT_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct redis {
    pid_t pid;      /* 0: none is installed */
    char path[108]; /* its unix socket */
};

/* Starts `$REDIS_SERVER` (by default redis-server) on a unix socket in the
 * suite's scratch folder and waits until it answers. `options` goes on its
 * command line, split at spaces; NULL for none. It dies with this process.
 * False: there is no such program. */
bool redis_start(struct redis *redis, const char *name, const char *options);

/* Whether something takes connections at its socket. */
bool redis_listens(const struct redis *redis);

/* Kills it. Harmless if there is none. */
void redis_stop(struct redis *redis);

struct redis_link {
    int fd;
    char *data; /* what was received */
    size_t len, room;
    size_t taken; /* of it, up to the end of the last reply */
};

void redis_link_open(struct redis_link *link, const struct redis *redis);
void redis_link_close(struct redis_link *link);

void redis_link_send(struct redis_link *link, const char *data, size_t len);

/* Sends a command given as text, split at spaces. */
void redis_link_command(struct redis_link *link, const char *text);

enum redis_got {
    REDIS_REPLY,
    REDIS_NOTHING, /* in that time */
    REDIS_CLOSED
};

/* Takes the next reply (pushes are passed over): a view until the next call.
 * Waits `timeout_ms` for it. */
enum redis_got redis_link_reply(struct redis_link *link, int timeout_ms,
                                const char **reply, size_t *len);

/* The same for a reply that must come: its first bytes, NUL-terminated, in
 * static storage; "closed" or "nothing" if it does not. */
const char *redis_link_text(struct redis_link *link);

/* A command's reply, at once: as redis_link_text. */
const char *redis_link_ask(struct redis_link *link, const char *command);

#endif
