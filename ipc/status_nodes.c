/* The table of nodes: what happens seldom, and reading. */
#include "ipc/status_nodes.h"

#include <string.h>

#define RELAXED memory_order_relaxed
#define TEXT_WORDS (STATUS_NODE_TEXT / 8)

const char *status_node_role_str(uint32_t role)
{
    static const char *const names[STATUS_NODE_ROLES] = {
        [0] = "?",
        [STATUS_NODE_NAMED] = "named",
        [STATUS_NODE_MASTER] = "master",
        [STATUS_NODE_REPLICA] = "replica",
    };
    return role < STATUS_NODE_ROLES ? names[role] : "?";
}

const char *status_node_state_str(uint32_t state)
{
    static const char *const names[STATUS_NODE_STATES] = {
        [0] = "?",
        [STATUS_NODE_OFF] = "off",
        [STATUS_NODE_WAITING] = "waiting",
        [STATUS_NODE_CONNECTING] = "connecting",
        [STATUS_NODE_LOGIN] = "login",
        [STATUS_NODE_CONNECTED] = "connected",
    };
    return state < STATUS_NODE_STATES ? names[state] : "?";
}

/* ---- the manager's side ---- */

static void put_text(_Atomic uint64_t to[TEXT_WORDS], const char *text)
{
    uint64_t words[TEXT_WORDS] = {0};
    memcpy(words, text, strnlen(text, STATUS_NODE_TEXT - 1));
    for (size_t i = 0; i < TEXT_WORDS; i++)
        atomic_store_explicit(&to[i], words[i], RELAXED);
}

/* Readers see `begun` move before the first field changes, and `done` after the
 * last: pairs with the fences in status_node_read. */
static void face_begin(struct status_node *row)
{
    uint32_t n = atomic_load_explicit(&row->begun, RELAXED);
    atomic_store_explicit(&row->begun, n + 1, RELAXED);
    atomic_thread_fence(memory_order_release);
}

static void face_end(struct status_node *row)
{
    uint32_t n = atomic_load_explicit(&row->begun, RELAXED);
    atomic_store_explicit(&row->done, n, memory_order_release);
}

static void face_put(struct status_node *row,
                     const struct status_node_face *face)
{
    atomic_store_explicit(&row->role, face->role, RELAXED);
    atomic_store_explicit(&row->state, face->state, RELAXED);
    atomic_store_explicit(&row->slots, face->slots, RELAXED);
    atomic_store_explicit(&row->attempt, face->attempt, RELAXED);
    atomic_store_explicit(&row->since_ns, face->since_ns, RELAXED);
    atomic_store_explicit(&row->connects, face->connects, RELAXED);
    atomic_store_explicit(&row->disconnects, face->disconnects, RELAXED);
    put_text(row->address, face->address);
    put_text(row->error, face->error);
}

void status_node_claim(struct status_node *row, uint32_t serial,
                       const struct status_node_face *face)
{
    face_begin(row);
    atomic_store_explicit(&row->sent, 0, RELAXED);
    atomic_store_explicit(&row->lost, 0, RELAXED);
    atomic_store_explicit(&row->inflight, 0, RELAXED);
    atomic_store_explicit(&row->sum_ns, 0, RELAXED);
    for (size_t i = 0; i < STATUS_NODE_REDIRECT_COUNT; i++)
        atomic_store_explicit(&row->redirects[i], 0, RELAXED);
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++)
        atomic_store_explicit(&row->times[i], 0, RELAXED);
    face_put(row, face);
    atomic_store_explicit(&row->serial, serial, RELAXED);
    face_end(row);
}

void status_node_show(struct status_node *row,
                      const struct status_node_face *face)
{
    face_begin(row);
    face_put(row, face);
    face_end(row);
}

void status_node_leave(struct status_node *row)
{
    face_begin(row);
    atomic_store_explicit(&row->serial, 0, RELAXED);
    face_end(row);
}

/* ---- the readers' side ---- */

static void get_text(char to[STATUS_NODE_TEXT],
                     const _Atomic uint64_t from[TEXT_WORDS])
{
    uint64_t words[TEXT_WORDS];
    for (size_t i = 0; i < TEXT_WORDS; i++)
        words[i] = atomic_load_explicit(&from[i], RELAXED);
    memcpy(to, words, sizeof(words));
    to[STATUS_NODE_TEXT - 1] = '\0';
}

static void get_counters(const struct status_node *row, struct node_row *copy)
{
    copy->sent = counter_get(&row->sent);
    copy->lost = counter_get(&row->lost);
    copy->inflight = atomic_load_explicit(&row->inflight, RELAXED);
    copy->sum_ns = counter_get(&row->sum_ns);
    for (size_t i = 0; i < STATUS_NODE_REDIRECT_COUNT; i++)
        copy->redirects[i] = counter_get(&row->redirects[i]);
    copy->answered = 0;
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++) {
        copy->times[i] = counter_get(&row->times[i]);
        copy->answered += copy->times[i];
    }
}

enum node_read status_node_read(const struct status_node *row,
                                struct node_row *copy)
{
    struct status_node_face *face = &copy->face;
    uint32_t done = atomic_load_explicit(&row->done, memory_order_acquire);
    copy->serial = atomic_load_explicit(&row->serial, RELAXED);
    face->role = atomic_load_explicit(&row->role, RELAXED);
    face->state = atomic_load_explicit(&row->state, RELAXED);
    face->slots = atomic_load_explicit(&row->slots, RELAXED);
    face->attempt = atomic_load_explicit(&row->attempt, RELAXED);
    face->since_ns = counter_get(&row->since_ns);
    face->connects = counter_get(&row->connects);
    face->disconnects = counter_get(&row->disconnects);
    get_text(face->address, row->address);
    get_text(face->error, row->error);
    get_counters(row, copy);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&row->begun, RELAXED) != done)
        return NODE_TORN;
    return copy->serial == 0 ? NODE_FREE : NODE_READ;
}

double node_times_quantile(const uint64_t counts[NODE_TIMES_BUCKETS],
                           double quantile)
{
    double total = 0, seen = 0;
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++)
        total += (double)counts[i];
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++) {
        seen += (double)counts[i];
        if (counts[i] == 0 || seen < quantile * total)
            continue;
        uint64_t low = i, width = 1;
        if (i >= NODE_TIMES_SUB) {
            unsigned shift = (unsigned)(i / NODE_TIMES_SUB) - 1;
            low = (NODE_TIMES_SUB + i % NODE_TIMES_SUB) << shift;
            width = 1ULL << shift;
        }
        return ((double)low + (double)width / 2) *
               (double)(1U << NODE_TIMES_UNIT_BITS);
    }
    return 0;
}
