/*
 * A proxy between a manager and its Redis that does what networks do: delays,
 * stops reading, cuts a stream in the middle of a reply, refuses connections.
 * A process of its own, told what to do through shared memory at any time.
 */
#ifndef TESTS_PROXY_H
#define TESTS_PROXY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct proxy_control {
    _Atomic int delay_ms; /* of every byte, each way */
    /* Cuts a connection after a random number of bytes of replies, at most
     * this many; 0: never. */
    _Atomic int cut_max;
    _Atomic bool crumbs; /* hands on one byte at a time */
    _Atomic bool deaf;   /* reads nothing that comes from the manager */
    _Atomic bool mute;   /* reads nothing that comes from Redis */
    _Atomic bool closed; /* ends all connections, and each new one at once */
    /* What it did. */
    _Atomic unsigned accepted, cuts;
};

struct proxy {
    pid_t pid;
    struct proxy_control *control;
    char tcp[48]; /* URIs to reach it by */
    char unix_[128];
};

/* Starts one in front of a unix socket, or of "127.0.0.1:PORT". It dies with
 * this process. */
void proxy_start(struct proxy *p, const char *to);

#endif
