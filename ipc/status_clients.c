/* The table of clients: what happens seldom, and reading. */
#include "ipc/status_clients.h"

#define RELAXED memory_order_relaxed

/* Readers see serial 0 from before the first field changes until after the
 * last: pairs with the fences in status_client_read. */
static void vacate(struct status_client *c)
{
    atomic_store_explicit(&c->serial, 0, RELAXED);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&c->pid, 0, RELAXED);
    atomic_store_explicit(&c->sent, 0, RELAXED);
    atomic_store_explicit(&c->inflight, 0, RELAXED);
    atomic_store_explicit(&c->rtt_us, 0, RELAXED);
    atomic_store_explicit(&c->failed, 0, RELAXED);
    atomic_store_explicit(&c->waiting_ns, 0, RELAXED);
    atomic_store_explicit(&c->seen_ns, 0, RELAXED);
    for (size_t i = 0; i < STATUS_COMMAND_MAX / 8; i++)
        atomic_store_explicit(&c->command[i], 0, RELAXED);
}

struct status_client *
status_client_claim(struct status_client rows[STATUS_CLIENTS],
                    struct client_index *ix, uint64_t client)
{
    uint64_t *ids = status_client_ways(ix, client);
    size_t base = (size_t)(ids - ix->ids), best = 0;
    uint64_t best_age = UINT64_MAX;
    for (size_t i = 0; i < STATUS_CLIENT_WAYS; i++) {
        struct status_client *c = &rows[base + i];
        uint64_t age = 0;
        if (ids[i] != 0) {
            age = atomic_load_explicit(&c->seen_ns, RELAXED);
            /* One that waits for an answer goes only where all do. */
            if (atomic_load_explicit(&c->inflight, RELAXED) > 0)
                age |= 1ULL << 63;
        }
        if (age < best_age) {
            best_age = age;
            best = i;
        }
    }
    struct status_client *c = &rows[base + best];
    vacate(c);
    ids[best] = client;
    ix->serial = ix->serial + 1 == 0 ? 1 : ix->serial + 1;
    atomic_store_explicit(&c->serial, ix->serial, memory_order_release);
    return c;
}

void status_client_leave(struct status_client rows[STATUS_CLIENTS],
                         struct client_index *ix, uint64_t client)
{
    struct status_client *c = status_client_find(rows, ix, client);
    if (c == NULL)
        return;
    vacate(c);
    ix->ids[c - rows] = 0;
}

bool status_client_read(const struct status_client *row,
                        struct client_row *copy)
{
    uint32_t serial = atomic_load_explicit(&row->serial, memory_order_acquire);
    if (serial == 0)
        return false;
    uint64_t words[STATUS_COMMAND_MAX / 8];
    copy->serial = serial;
    copy->pid = atomic_load_explicit(&row->pid, RELAXED);
    copy->sent = atomic_load_explicit(&row->sent, RELAXED);
    copy->inflight = atomic_load_explicit(&row->inflight, RELAXED);
    copy->rtt_us = atomic_load_explicit(&row->rtt_us, RELAXED);
    copy->failed = atomic_load_explicit(&row->failed, RELAXED);
    copy->waiting_ns = atomic_load_explicit(&row->waiting_ns, RELAXED);
    copy->seen_ns = atomic_load_explicit(&row->seen_ns, RELAXED);
    for (size_t i = 0; i < STATUS_COMMAND_MAX / 8; i++)
        words[i] = atomic_load_explicit(&row->command[i], RELAXED);
    memcpy(copy->command, words, sizeof(words));
    copy->command[STATUS_COMMAND_MAX] = '\0';
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&row->serial, RELAXED) == serial;
}
