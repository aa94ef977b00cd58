/*
 * Something that answers as a sentinel does, and says whatever a test wants: a
 * process of its own, told what to say through shared memory at any time.
 */
#ifndef TESTS_FAKE_SENTINEL_H
#define TESTS_FAKE_SENTINEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FAKE_REPLY_MAX 65536

struct fake_script {
    struct {
        char bytes[FAKE_REPLY_MAX];
        size_t len;
    } master[2], others[2], event[2]; /* one of each is being written */
    _Atomic unsigned masters, otherss, events;    /* how often they were set */
    _Atomic bool mute;                            /* answers nothing */
    _Atomic unsigned accepted, asked, subscribed; /* what it saw */
    char password[64]; /* that AUTH must say; "": none */
};

struct fake_sentinel {
    pid_t pid;
    int port;
    struct fake_script *script;
};

/* Starts one that knows no master and no other sentinels. It dies with this
 * process. */
void fake_sentinel_start(struct fake_sentinel *f, const char *password);

/* SIGKILL. */
void fake_sentinel_kill(struct fake_sentinel *f);

/* The same on the same port again, with the same script. */
void fake_sentinel_restart(struct fake_sentinel *f);

/* The master is at this port of 127.0.0.1; 0: it knows none. */
void fake_sentinel_names(struct fake_sentinel *f, int port);

/* Raw replies to GET-MASTER-ADDR-BY-NAME and to SENTINELS. */
void fake_sentinel_says(struct fake_sentinel *f, const char *bytes, size_t len);
void fake_sentinel_others(struct fake_sentinel *f, const char *bytes,
                          size_t len);

/* The other sentinel, as SENTINELS tells it. */
void fake_sentinel_tells_of(struct fake_sentinel *f,
                            const struct fake_sentinel *other);

/* Publishes to all that listen. */
void fake_sentinel_event(struct fake_sentinel *f, const char *channel,
                         const char *text);
/* +switch-master of `mymaster` from one port to the other. */
void fake_sentinel_switches(struct fake_sentinel *f, int from, int to);

#endif
