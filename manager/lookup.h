/*
 * A host's addresses, looked up by a child process: the resolver may take any
 * time, and the loop goes on. The child holds nothing of the manager's but one
 * pipe, through which it answers at once and whole; it ends with its answer,
 * when its time is over, or with the manager.
 *
 *     lookup_begin ──fork──▶ child: getaddrinfo ──pipe──▶ lookup_read
 */
#ifndef MANAGER_LOOKUP_H
#define MANAGER_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ipc/err.h"
#include "manager/loop.h"

/* More that a name has are passed over. */
#define LOOKUP_ADDRESSES_MAX 16

struct addresses {
    uint32_t count;
    struct address {
        socklen_t len;
        struct sockaddr_storage at;
    } list[LOOKUP_ADDRESSES_MAX];
};

struct lookup {
    struct watcher watcher; /* fd: the pipe's read end; -1: none is under way */
};

/* What is written as an address needs no look-up. False: it is a name. */
bool lookup_numeric(const char *host, uint16_t port, struct addresses *a);

/* Begins; `ready` is called when lookup_read has something to say. The child is
 * given up after `timeout_ms`; whoever began keeps that time, too, and ends the
 * look-up. SIGCHLD comes for it, and whoever handles that reaps it. ERR_SYS,
 * with a line. */
MUST_CHECK enum err lookup_begin(struct lookup *l, struct loop *loop,
                                 const char *host, uint16_t port,
                                 uint32_t timeout_ms,
                                 void (*ready)(void *owner, uint32_t events),
                                 void *owner, struct err_text *why);

/* The answer, and the end of the look-up. ERR_INVALID: no such host; ERR_SYS:
 * the child died; both with a line. */
MUST_CHECK enum err lookup_read(struct lookup *l, struct loop *loop,
                                struct addresses *a, struct err_text *why);

/* Ends it; harmless when none is under way. The child finds out by itself. */
void lookup_end(struct lookup *l, struct loop *loop);

#endif
