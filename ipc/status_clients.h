/*
 * The table of clients in the status file: who sends, how much, and how long
 * they wait. A row is one cache line that the manager writes with relaxed
 * stores; a request costs it some nanoseconds, a reader nothing.
 *
 * A client's id is a capability and stays out of shared memory, in any form: a
 * row is found through `struct client_index`, which is private memory of the
 * manager, and names itself to readers by a serial number. What the index can't
 * hold is forgotten: a new client takes the place of the one that was silent
 * longest among the few whose rows it may have.
 *
 * pid and command are claims of the client, for display only, and unchecked:
 * whoever shows the command escapes it.
 */
#ifndef IPC_STATUS_CLIENTS_H
#define IPC_STATUS_CLIENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define STATUS_CLIENTS 256
#define STATUS_CLIENT_WAYS 8 /* rows that one client may have: a line of ids   \
                              */
#define STATUS_COMMAND_MAX 16

/* A row of the shared table. */
struct status_client {
    _Atomic uint32_t serial; /* grows with each new client; 0: free row */
    _Atomic uint32_t pid;
    _Atomic uint64_t sent;     /* commands taken from it */
    _Atomic uint32_t inflight; /* of them, not answered yet */
    _Atomic uint32_t rtt_us;   /* its last round trip, as it told; 0: none */
    _Atomic uint64_t failed;   /* of them, not answered by Redis */
    /* Since when it has waited without an answer; 0: it waits for none. */
    _Atomic uint64_t waiting_ns;
    _Atomic uint64_t seen_ns;                         /* of its last message */
    _Atomic uint64_t command[STATUS_COMMAND_MAX / 8]; /* the last, NUL padded */
};

_Static_assert(sizeof(struct status_client) == 64, "a cache line");

/* ---- the manager's side: one thread ---- */

/* Zeroed, then `seed` set to a random number. */
struct client_index {
    uint64_t seed;
    uint32_t serial; /* the last one given */
    uint64_t ids[STATUS_CLIENTS] __attribute__((aligned(64)));
};

static inline uint64_t *status_client_ways(struct client_index *ix,
                                           uint64_t client)
{
    uint64_t h = (client ^ ix->seed) * 0x9e3779b97f4a7c15ULL;
    return &ix->ids[(h >> 32) % (STATUS_CLIENTS / STATUS_CLIENT_WAYS) *
                    STATUS_CLIENT_WAYS];
}

/* The client's row, or NULL. */
static inline struct status_client *
status_client_find(struct status_client rows[STATUS_CLIENTS],
                   struct client_index *ix, uint64_t client)
{
    uint64_t *ids = status_client_ways(ix, client);
    for (size_t i = 0; i < STATUS_CLIENT_WAYS; i++)
        if (ids[i] == client)
            return &rows[(size_t)(ids - ix->ids) + i];
    return NULL;
}

/* Gives the client a row, that of the longest silent one if it must be. */
struct status_client *
status_client_claim(struct status_client rows[STATUS_CLIENTS],
                    struct client_index *ix, uint64_t client);

/* A message of `n` commands came, the first of which is command[0..len).
 * `rtt_us` is the round trip that its header tells, 0 for none. */
static inline void
status_client_taken(struct status_client rows[STATUS_CLIENTS],
                    struct client_index *ix, uint64_t client, uint32_t pid,
                    uint32_t n, const char *command, size_t len,
                    uint32_t rtt_us, uint64_t now_ns)
{
    struct status_client *c = status_client_find(rows, ix, client);
    if (c == NULL)
        c = status_client_claim(rows, ix, client);
    const memory_order relaxed = memory_order_relaxed;
    uint32_t inflight = atomic_load_explicit(&c->inflight, relaxed);
    uint64_t sent = atomic_load_explicit(&c->sent, relaxed);
    uint64_t words[STATUS_COMMAND_MAX / 8] = {0};
    memcpy(words, command, len < sizeof(words) ? len : sizeof(words));
    atomic_store_explicit(&c->pid, pid, relaxed);
    atomic_store_explicit(&c->sent, sent + n, relaxed);
    atomic_store_explicit(&c->inflight, inflight + n, relaxed);
    if (inflight == 0)
        atomic_store_explicit(&c->waiting_ns, now_ns, relaxed);
    if (rtt_us != 0)
        atomic_store_explicit(&c->rtt_us, rtt_us, relaxed);
    atomic_store_explicit(&c->seen_ns, now_ns, relaxed);
    for (size_t i = 0; i < STATUS_COMMAND_MAX / 8; i++)
        atomic_store_explicit(&c->command[i], words[i], relaxed);
}

/* `n` of its commands were answered, or came to another end; `failed` of them
 * otherwise than by Redis. A client that lost its row is passed over. */
static inline void status_client_done(struct status_client rows[STATUS_CLIENTS],
                                      struct client_index *ix, uint64_t client,
                                      uint32_t n, uint32_t failed,
                                      uint64_t now_ns)
{
    struct status_client *c = status_client_find(rows, ix, client);
    if (c == NULL)
        return;
    const memory_order relaxed = memory_order_relaxed;
    uint32_t inflight = atomic_load_explicit(&c->inflight, relaxed);
    uint32_t left = inflight > n ? inflight - n : 0;
    atomic_store_explicit(&c->inflight, left, relaxed);
    atomic_store_explicit(&c->waiting_ns, left > 0 ? now_ns : 0, relaxed);
    if (failed > 0) {
        uint64_t before = atomic_load_explicit(&c->failed, relaxed);
        atomic_store_explicit(&c->failed, before + failed, relaxed);
    }
}

/* The client is gone: its row is free. */
void status_client_leave(struct status_client rows[STATUS_CLIENTS],
                         struct client_index *ix, uint64_t client);

/* ---- the readers' side ---- */

/* A row, copied. */
struct client_row {
    uint32_t serial;
    uint32_t pid;
    uint64_t sent;
    uint32_t inflight;
    uint32_t rtt_us;
    uint64_t failed;
    uint64_t waiting_ns;
    uint64_t seen_ns;
    char command[STATUS_COMMAND_MAX + 1]; /* any bytes, NUL terminated */
};

/* False: the row is free, or changes hands just now. */
bool status_client_read(const struct status_client *row,
                        struct client_row *copy);

#endif
