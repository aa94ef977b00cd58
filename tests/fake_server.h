/*
 * The loop of something that answers as a server does: it listens on ports of
 * 127.0.0.1, takes commands off connections one by one, and an owner answers
 * them as a test wants. For a process of its own.
 */
#ifndef TESTS_FAKE_SERVER_H
#define TESTS_FAKE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/resp.h"

#define FAKE_CLIENTS 64
#define FAKE_LISTENERS 4
#define FAKE_ARGS 12

struct fake_client {
    int fd;
    int listener;                     /* by which it came */
    bool subscribed, asking, entered; /* the owner's */
    bool gone;                        /* the owner wants it closed */
    char in[4096];
    size_t have;
};

struct fake_server {
    int listener[FAKE_LISTENERS];
    int listeners;
    struct fake_client clients[FAKE_CLIENTS];
    int count;
    void (*obey)(struct fake_server *s, struct fake_client *c,
                 const struct resp_arg *args, uint32_t argc);
    void (*came)(struct fake_server *s); /* somebody connected; may be NULL */
    void (*turn)(struct fake_server *s); /* each 2 ms at most; may be NULL */
    void *context;
};

/* A listening socket; *port 0: any, and told. Fails the running test. */
int fake_server_listen(int *port);

/* Never returns. */
void fake_server_run(struct fake_server *s);

void fake_server_say(struct fake_client *c, const char *bytes, size_t len);
void fake_server_say_text(struct fake_client *c, const char *text);

/* Whether an argument is that word, in any case. */
bool fake_server_is(const struct resp_arg *a, const char *word);

#endif
