/* Nodes by number, and what each is good for. */
#include "manager/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/log.h"

#define MAP_MAX (8 << 20)
#define CLUSTER_SLOTS "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"
#define READONLY "*1\r\n$8\r\nREADONLY\r\n"

/* So long is one kept that is on no map. */
#define UNUSED_NS (10 * NS_PER_S)
/* One in whose place another was made master may answer so long; then it is
 * taken for one that stands still. */
#define DEMOTED_NS (750 * NS_PER_MS)

void nodes_init(struct nodes *n)
{
    memset(n->owner, 0xff, sizeof(n->owner));
}

static void node_free(struct node *node)
{
    for (int lane = 0; lane < LANE_COUNT; lane++)
        conn_release(&node->conn[lane]);
    capture_release(&node->map);
    node_place_leave(&node->place);
    free(node);
}

void nodes_release(struct nodes *n)
{
    for (uint32_t i = 0; i < n->used; i++)
        if (n->all[i] != NULL)
            node_free(n->all[i]);
    n->used = n->master_count = 0;
}

/* ---- one node ---- */

static void say_readonly(struct conn *c)
{
    static const struct run readonly = {.count = 1,
                                        .data = READONLY,
                                        .len = sizeof(READONLY) - 1,
                                        .first_len = sizeof(READONLY) - 1};
    if (conn_append(c, &readonly) != ERR_OK)
        log_debug("out of memory: a replica was not told READONLY");
}

static void node_changed(void *context, struct conn *c)
{
    struct node *node = context;
    if (c == &node->conn[LANE_SMALL] &&
        (c->state == CONN_READY || c->state == CONN_WAITING))
        node->tried = true;
    if (c->state == CONN_READY && node->role == NODE_REPLICA)
        say_readonly(c);
    node->owner->changed(node->owner->context, node, c);
}

static void map_came(void *context, const char *data, size_t len)
{
    struct node *node = context;
    node->map_asked = false;
    node->owner->mapped(node->owner->context, node, data, len);
}

void node_ask_map(struct node *node)
{
    const struct run run = {.taker = &node->map.taker,
                            .count = 1,
                            .data = CLUSTER_SLOTS,
                            .len = sizeof(CLUSTER_SLOTS) - 1,
                            .first_len = sizeof(CLUSTER_SLOTS) - 1};
    node->map_asked = conn_append(&node->conn[LANE_SMALL], &run) == ERR_OK;
}

static void set_options(struct node *node, const char *host, uint16_t port)
{
    node->options = *node->owner->base;
    snprintf(node->options.uri.host, sizeof(node->options.uri.host), "%s",
             host);
    node->options.uri.port = port;
    node->options.uri.is_unix = false;
}

static void node_start(struct node *node)
{
    for (int lane = 0; lane < (node->owner->bulk ? LANE_COUNT : 1); lane++)
        if (node->conn[lane].state == CONN_OFF)
            conn_start(&node->conn[lane], true);
}

static struct node *node_new(struct nodes *n, const char *host, uint16_t port,
                             uint16_t number)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return NULL;
    node->owner = n;
    node->number = number;
    node->master = NODE_NONE;
    set_options(node, host, port);
    n->serial = n->serial + 1 == 0 ? 1 : n->serial + 1;
    if (node_place_claim(&node->place, n->answers->status, number, n->serial,
                         node->options.uri.host, port) != ERR_OK) {
        free(node);
        return NULL;
    }
    capture_init(&node->map, MAP_MAX, map_came, node);
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        struct conn *c = &node->conn[lane];
        if (conn_init(c, n->loop, &node->options, n->answers, node_changed,
                      node) != ERR_OK) {
            while (lane-- > 0)
                conn_release(&node->conn[lane]);
            node_place_leave(&node->place);
            free(node);
            return NULL;
        }
        c->bulk = lane == LANE_BULK;
        c->pipeline.sizes = n->sizes;
    }
    return node;
}

static struct node *find(const struct nodes *n, const char *host, uint16_t port)
{
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[i];
        if (node != NULL && node->options.uri.port == port &&
            strcmp(node->options.uri.host, host) == 0)
            return node;
    }
    return NULL;
}

struct node *nodes_get(struct nodes *n, const char *host, uint16_t port)
{
    struct node *node = find(n, host, port);
    if (node == NULL) {
        uint16_t number = 0;
        while (number < n->used && n->all[number] != NULL)
            number++;
        if (number == NODES_MAX)
            return NULL;
        node = node_new(n, host, port, number);
        if (node == NULL)
            return NULL;
        n->all[number] = node;
        if (number == n->used)
            n->used++;
    }
    node->unused_ns = 0;
    node_start(node);
    return node;
}

/* ---- the map ---- */

static void count_masters(struct nodes *n)
{
    n->master_count = 0;
    for (uint32_t i = 0; i < n->used; i++)
        if (n->all[i] != NULL && n->all[i]->role == NODE_MASTER)
            n->masters[n->master_count++] = (uint16_t)i;
}

static void count_slots(struct nodes *n)
{
    for (uint32_t i = 0; i < n->used; i++)
        if (n->all[i] != NULL)
            n->all[i]->slots = 0;
    n->unserved = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (n->owner[i] == NODE_NONE)
            n->unserved++;
        else
            n->all[n->owner[i]]->slots++;
    }
}

/* A replica's connections say READONLY; to a master that means nothing. */
static void set_role(struct node *node, enum node_role role)
{
    bool tell = role == NODE_REPLICA && node->role != NODE_REPLICA;
    for (int lane = 0; tell && lane < LANE_COUNT; lane++)
        if (node->conn[lane].state == CONN_READY)
            say_readonly(&node->conn[lane]);
    node->role = role;
}

bool nodes_adopt(struct nodes *n, const struct slotmap *map, uint64_t now)
{
    uint16_t numbers[SLOTMAP_NODES_MAX];
    enum node_role roles[NODES_MAX] = {NODE_NAMED};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct slotmap_node *m = &map->nodes[i];
        bool master = m->master == i;
        numbers[i] = NODE_NONE;
        if (!master && !n->use_replicas)
            continue;
        struct node *node = nodes_get(n, m->host, m->port);
        if (node == NULL)
            continue;
        node->known = true;
        numbers[i] = node->number;
        roles[node->number] = master ? NODE_MASTER : NODE_REPLICA;
    }
    for (uint32_t i = 0; i < map->count; i++)
        if (numbers[i] != NODE_NONE)
            n->all[numbers[i]]->master = numbers[map->nodes[i].master];
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[i];
        if (node == NULL)
            continue;
        if (roles[i] == NODE_MASTER)
            node->demoted_ns = 0;
        else if (node->role == NODE_MASTER)
            node->demoted_ns = now;
        set_role(node, roles[i]);
    }
    bool moved = false;
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint16_t index = map->owner[i];
        uint16_t owner = index == SLOTMAP_NOBODY ? NODE_NONE : numbers[index];
        moved = moved || n->owner[i] != owner;
        n->owner[i] = owner;
    }
    count_slots(n);
    count_masters(n);
    return moved;
}

void nodes_move_slot(struct nodes *n, uint16_t slot, const struct node *to)
{
    struct node *node = n->all[to->number];
    if (n->owner[slot] != NODE_NONE)
        n->all[n->owner[slot]]->slots--;
    else if (n->unserved > 0)
        n->unserved--;
    node->slots++;
    n->owner[slot] = node->number;
    if (node->role == NODE_MASTER)
        return;
    set_role(node, NODE_MASTER);
    node->demoted_ns = 0;
    count_masters(n);
}

/* ---- choosing ---- */

uint32_t nodes_first_slots(const struct nodes *n, uint16_t slots[NODES_MAX])
{
    uint16_t first[NODES_MAX];
    memset(first, 0xff, sizeof(first));
    for (uint32_t i = SLOTS; i-- > 0;)
        if (n->owner[i] != NODE_NONE)
            first[n->owner[i]] = (uint16_t)i;
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->used; i++)
        if (first[i] != UINT16_MAX)
            slots[count++] = first[i];
    return count;
}

struct node *nodes_any_master(const struct nodes *n, uint64_t number)
{
    for (uint32_t i = 0; i < n->master_count; i++) {
        struct node *node = n->all[n->masters[(number + i) % n->master_count]];
        if (node_ready(node))
            return node;
    }
    return NULL;
}

struct node *nodes_replica(const struct nodes *n, uint16_t master,
                           uint64_t number)
{
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[(number + i) % n->used];
        if (node != NULL && node->role == NODE_REPLICA &&
            node->master == master && node_ready(node))
            return node;
    }
    return NULL;
}

uint64_t node_silent_since(const struct node *node)
{
    uint64_t since = 0;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        const struct conn *c = &node->conn[lane];
        if (c->state == CONN_READY && !pipeline_idle(&c->pipeline) &&
            (since == 0 || c->read_ns < since))
            since = c->read_ns;
    }
    return since;
}

struct node *nodes_to_ask(const struct nodes *n, uint64_t from,
                          uint64_t silent_ns)
{
    struct node *silent = NULL;
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[(from + i) % n->used];
        if (node == NULL || !node_ready(node) || node->map_asked ||
            !node->known)
            continue;
        uint64_t since = node_silent_since(node);
        if (since == 0 || since > silent_ns)
            return node;
        silent = node;
    }
    return silent;
}

/* ---- all of them ---- */

void nodes_reload(struct nodes *n)
{
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[i];
        if (node == NULL)
            continue;
        char host[sizeof(node->options.uri.host)];
        memcpy(host, node->options.uri.host, sizeof(host));
        set_options(node, host, node->options.uri.port);
    }
}

void nodes_stop(struct nodes *n, const char *reason)
{
    for (uint32_t i = 0; i < n->used; i++)
        for (int lane = 0; n->all[i] != NULL && lane < LANE_COUNT; lane++)
            conn_stop(&n->all[i]->conn[lane], reason);
}

void nodes_flush(struct nodes *n)
{
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[i];
        if (node == NULL)
            continue;
        conn_flush(&node->conn[LANE_SMALL]);
        if (n->bulk)
            conn_flush(&node->conn[LANE_BULK]);
    }
}

size_t nodes_unsent(const struct nodes *n)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < n->used; i++)
        for (int lane = 0; n->all[i] != NULL && lane < LANE_COUNT; lane++)
            sum += buffer_len(&n->all[i]->conn[lane].pipeline.out);
    return sum;
}

static bool node_idle(const struct node *node)
{
    return pipeline_idle(&node->conn[LANE_SMALL].pipeline) &&
           pipeline_idle(&node->conn[LANE_BULK].pipeline);
}

static void look(struct node *node, uint64_t now)
{
    static const enum status_node_role roles[] = {
        [NODE_NAMED] = STATUS_NODE_NAMED,
        [NODE_MASTER] = STATUS_NODE_MASTER,
        [NODE_REPLICA] = STATUS_NODE_REPLICA,
    };
    node_place_look(&node->place, roles[node->role], node->slots,
                    &node->conn[LANE_SMALL], now);
}

bool nodes_idle(const struct nodes *n)
{
    for (uint32_t i = 0; i < n->used; i++)
        if (n->all[i] != NULL && !node_idle(n->all[i]))
            return false;
    return true;
}

uint32_t nodes_count_ready(const struct nodes *n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->used; i++)
        count += n->all[i] != NULL && node_ready(n->all[i]);
    return count;
}

uint32_t nodes_count(const struct nodes *n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->used; i++)
        count += n->all[i] != NULL;
    return count;
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* One in whose place another is master now, and that still owes answers: if it
 * lived it would have given them. Until then its slots' gates are closed. */
static uint64_t tick_demoted(struct node *node, uint64_t now)
{
    if (node->demoted_ns == 0)
        return 0;
    uint64_t next = 0;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        struct conn *c = &node->conn[lane];
        if (c->state != CONN_READY || pipeline_idle(&c->pipeline))
            continue;
        uint64_t since =
            c->read_ns > node->demoted_ns ? c->read_ns : node->demoted_ns;
        if (now >= since + DEMOTED_NS)
            conn_break(c, "another node is master in its place, and it does "
                          "not answer");
        else
            next = sooner(next, since + DEMOTED_NS);
    }
    if (next == 0)
        node->demoted_ns = 0;
    return next;
}

/* One that is on no map is let go of; returns whether it is gone. While no
 * master is known every node that is named may be the way to them. */
static bool tick_unused(struct nodes *n, struct node *node, uint64_t now)
{
    bool known = node->role == NODE_MASTER ||
                 (node->role == NODE_REPLICA && n->use_replicas);
    bool busy = !node_idle(node) || node_place_busy(&node->place);
    if (known || n->master_count == 0 || busy) {
        node->unused_ns = 0;
        return false;
    }
    if (node->unused_ns == 0)
        node->unused_ns = now;
    if (now - node->unused_ns < UNUSED_NS)
        return false;
    /* Events of this round were handed out already. */
    n->all[node->number] = NULL;
    n->forgotten(n->context, node);
    node_free(node);
    return true;
}

uint64_t nodes_tick(struct nodes *n, uint64_t now)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < n->used; i++) {
        struct node *node = n->all[i];
        if (node == NULL || tick_unused(n, node, now))
            continue;
        next = sooner(next, tick_demoted(node, now));
        if (node->unused_ns != 0)
            next = sooner(next, node->unused_ns + UNUSED_NS);
        next = sooner(next, conn_tick(&node->conn[LANE_SMALL], now));
        next = sooner(next, conn_tick(&node->conn[LANE_BULK], now));
        look(node, now);
    }
    return next;
}
