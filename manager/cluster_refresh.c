/* The map of slots: asked for when something says that it is old, and now and
 * then anyway; one question at a time, and not too often. */
#include <string.h>

#include "ipc/clock.h"
#include "manager/cluster_parts.h"
#include "manager/log.h"

/* Between two questions, at least: at first, and while commands wait; while a
 * master is away; and else. */
#define PRESSING_NS (100 * NS_PER_MS)
#define DOWN_NS (250 * NS_PER_MS)
#define CALM_NS NS_PER_S
/* And at most, with as much again by chance. */
#define REGULAR_NS (10 * NS_PER_S)
/* Whoever has not answered by then is not waited for. */
#define ANSWER_NS NS_PER_S
/* A master that owes an answer so long may be replaced by now. */
#define SILENT_NS (500 * NS_PER_MS)

void refresh_want(struct cluster *c)
{
    c->refresh.wanted = true;
}

bool refresh_knows(const struct cluster *c, const char *host, uint16_t port)
{
    const struct seeds *seeds = c->options.seeds;
    const struct slotmap *map = c->refresh.map;
    for (uint32_t i = 0; i < seeds->count; i++)
        if (seeds->list[i].port == port &&
            strcmp(seeds->list[i].host, host) == 0)
            return true;
    for (uint32_t i = 0; i < map->count; i++)
        if (map->nodes[i].port == port && strcmp(map->nodes[i].host, host) == 0)
            return true;
    return false;
}

static void complain(struct cluster *c, struct node *node, const char *reply,
                     size_t len)
{
    static const char disabled[] = "-ERR This instance has cluster support";
    static struct log_limit limit;
    bool none = len > sizeof(disabled) &&
                memcmp(reply, disabled, sizeof(disabled) - 1) == 0;
    /* Later it is one node that was made anew, or is none of ours. */
    if (none && c->options.probe && !c->refresh.have &&
        c->nodes.master_count == 0) {
        c->none = true;
        return;
    }
    struct conn *conn = &node->conn[LANE_SMALL];
    const char *end = memchr(reply, '\r', len);
    int line = end == NULL || reply[0] != '-' ? 0 : (int)(end - reply);
    err_say(&conn->error, ERR_PROTO, "%s%.*s",
            none ? "it is no cluster (cluster-enabled no); without cluster:// "
                   "it can be used: "
                 : "it does not tell which node serves which slot: ",
            line < 200 ? line : 200, reply);
    if (log_limit_pass(&limit, 1))
        log_error("%s:%u: %s", node->options.uri.host, node->options.uri.port,
                  conn->error.text);
}

void refresh_mapped(void *context, struct node *node, const char *reply,
                    size_t len)
{
    struct cluster *c = context;
    struct refresh *r = &c->refresh;
    if (r->asked != node)
        return; /* somebody else was asked meanwhile */
    r->asked = NULL;
    r->wanted = true;
    if (len == 0 || c->stopping)
        return;
    enum err e = slotmap_parse(r->spare, reply, len, node->options.uri.host);
    if (e != ERR_OK) {
        complain(c, node, reply, len);
        return;
    }
    if (r->spare->served == 0) {
        /* A node that has forgotten its cluster, or was never in one. */
        static struct log_limit limit;
        if (!r->have && log_limit_pass(&limit, 1))
            log_warn("%s:%u: it knows of no slot that is served: is the "
                     "cluster made (redis-cli --cluster create)?",
                     node->options.uri.host, node->options.uri.port);
        return;
    }
    struct slotmap *read = r->spare;
    r->spare = r->map;
    r->map = read;
    r->wanted = false;
    r->came = true;
    status_count(c->answers->status, COUNTER_map_refreshes, 1);
}

/* Whether a master is away, or seems to be: it owes an answer, and says nothing
 * for a while. *next is when the latter might be so. */
static bool master_is_down(const struct cluster *c, uint64_t now,
                           uint64_t *next)
{
    *next = 0;
    for (uint32_t i = 0; i < c->nodes.master_count; i++) {
        const struct node *node = c->nodes.all[c->nodes.masters[i]];
        uint64_t since = node_silent_since(node);
        if (node_down(node) || (since != 0 && now >= since + SILENT_NS))
            return true;
        if (since != 0)
            *next = cluster_sooner(*next, since + SILENT_NS);
    }
    return false;
}

/* Whether reads would go to a replica, and a master has none that is known: a
 * node tells of a replica only once it follows. */
static bool lacks_replicas(const struct cluster *c)
{
    const struct nodes *n = &c->nodes;
    for (uint32_t i = 0; n->use_replicas && i < n->master_count; i++)
        if (nodes_replica(n, n->masters[i], 0) == NULL)
            return true;
    return false;
}

static void adopt(struct cluster *c, uint64_t now)
{
    struct refresh *r = &c->refresh;
    r->came = false;
    if (nodes_adopt(&c->nodes, r->map, now))
        log_info("the cluster has %u masters, which serve %u of %u slots",
                 c->nodes.master_count, r->map->served, SLOTS);
    r->have = true;
    uint64_t regular = lacks_replicas(c) ? CALM_NS / 2 : REGULAR_NS;
    r->regular_ns = now + regular + random_stream_next(&c->random) % regular;
    if (c->hooks.remapped != NULL)
        c->hooks.remapped(c->hooks.context);
    turnstile_look(&c->turnstile);
}

/* Asks a node; where none is connected, turns to those that were named. */
static void ask(struct cluster *c, uint64_t now)
{
    struct refresh *r = &c->refresh;
    uint64_t pause = !r->have || c->turnstile.held > 0 ? PRESSING_NS : CALM_NS;
    r->last_ns = now;
    r->earliest_ns = now + pause;
    r->regular_ns = now + REGULAR_NS;
    struct node *node = nodes_to_ask(&c->nodes, r->turn++, now - SILENT_NS);
    if (node != NULL) {
        node_ask_map(node);
        r->asked = node->map_asked ? node : NULL;
        r->asked_ns = now;
        r->wanted = !node->map_asked;
        return;
    }
    r->wanted = true;
    const struct seeds *seeds = c->options.seeds;
    for (uint32_t i = 0; i < seeds->count; i++) {
        struct node *seed =
            nodes_get(&c->nodes, seeds->list[i].host, seeds->list[i].port);
        if (seed != NULL)
            seed->known = true;
    }
}

uint64_t refresh_tick(struct cluster *c, uint64_t now)
{
    struct refresh *r = &c->refresh;
    if (r->came)
        adopt(c, now);
    if (c->stopping || c->none)
        return 0;
    if (r->asked != NULL && now >= r->asked_ns + ANSWER_NS) {
        r->asked = NULL;
        r->wanted = true;
    }
    if (r->asked != NULL)
        return r->asked_ns + ANSWER_NS;
    uint64_t silent = 0;
    if (r->have && master_is_down(c, now, &silent)) {
        uint64_t pause = c->turnstile.held > 0 ? PRESSING_NS : DOWN_NS;
        r->wanted = true;
        if (r->earliest_ns > r->last_ns + pause)
            r->earliest_ns = r->last_ns + pause;
    }
    uint64_t due = r->wanted ? r->earliest_ns : r->regular_ns;
    if (now < due)
        return cluster_sooner(due, silent);
    ask(c, now);
    return r->asked != NULL ? r->asked_ns + ANSWER_NS : r->earliest_ns;
}
