/* What the nodes of a cluster say of each other, and waiting until they are of
 * one mind. */
#include "tests/redis_cluster_view.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

static void note_slots(struct cluster_view *v, const char *word)
{
    char *end;
    if (*word == '[')
        return; /* on its way */
    unsigned long first = strtoul(word, &end, 10);
    unsigned long last = *end == '-' ? strtoul(end + 1, NULL, 10) : first;
    for (; first <= last && last < REDIS_CLUSTER_SLOTS; first++)
        v->owns[first / 8] |= (uint8_t)(1U << first % 8);
}

/* A line of CLUSTER NODES: id, address, flags, master, three numbers, the
 * link's state, slots. */
static void note_line(const struct redis_cluster *c,
                      struct cluster_view views[], char *line)
{
    char *words[8] = {NULL};
    for (int i = 0; i < 8; i++)
        if ((words[i] = strsep(&line, " ")) == NULL)
            return;
    struct cluster_view *v = NULL;
    for (int i = 0; i < c->nodes; i++)
        if (strcmp(c->node[i].id, words[0]) == 0)
            v = &views[i];
    if (v == NULL)
        return;
    v->known = true;
    v->myself = strstr(words[2], "myself") != NULL;
    v->master = strstr(words[2], "master") != NULL;
    v->replica = strstr(words[2], "slave") != NULL;
    v->failed = strstr(words[2], "fail") != NULL;
    v->handshake = strstr(words[2], "handshake") != NULL;
    for (char *word; (word = strsep(&line, " ")) != NULL;)
        note_slots(v, word);
}

void cluster_view_look(const struct redis_cluster *c, int asked,
                       struct cluster_view views[REDIS_CLUSTER_NODES_MAX])
{
    memset(views, 0, sizeof(views[0]) * REDIS_CLUSTER_NODES_MAX);
    char *text = strdup(redis_cluster_ask(c, asked, "CLUSTER NODES")),
         *rest = text;
    ck_assert_ptr_nonnull(text);
    strsep(&rest, "\n"); /* the length */
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        note_line(c, views, line);
    free(text);
}

bool cluster_view_owns(const struct cluster_view *v, unsigned slot)
{
    return (v->owns[slot / 8] >> slot % 8 & 1) != 0;
}

int redis_cluster_owner(const struct redis_cluster *c, int asked, unsigned slot)
{
    struct cluster_view views[REDIS_CLUSTER_NODES_MAX];
    cluster_view_look(c, asked, views);
    for (int i = 0; i < c->nodes; i++)
        if (cluster_view_owns(&views[i], slot))
            return i;
    return -1;
}

/* ---- waiting for all of them ---- */

static bool runs(const struct redis_cluster *c, int i)
{
    return c->node[i].at.pid > 0;
}

/* What some node that runs says of all, for a message. */
static const char *say(const struct redis_cluster *c)
{
    for (int i = 0; i < c->nodes; i++)
        if (runs(c, i))
            return redis_cluster_ask(c, i, "CLUSTER NODES");
    return "no node runs";
}

/* Whether, to all that run, a node of the shard is the master with slots. */
static int successor(const struct redis_cluster *c, int dead)
{
    struct cluster_view views[REDIS_CLUSTER_NODES_MAX];
    int found = -1;
    for (int asked = 0; asked < c->nodes; asked++) {
        if (!runs(c, asked))
            continue;
        int seen = -1;
        cluster_view_look(c, asked, views);
        for (int i = dead % c->masters; i < c->nodes; i += c->masters)
            if (i != dead && views[i].master &&
                cluster_view_owns(
                    &views[i], redis_cluster_first_slot(c, dead % c->masters)))
                seen = i;
        if (seen < 0 || (found >= 0 && found != seen))
            return -1;
        found = seen;
    }
    return found;
}

int redis_cluster_await_failover(const struct redis_cluster *c, int dead)
{
    int node = -1;
    ck_assert_msg(UNTIL((node = successor(c, dead)) >= 0),
                  "no failover of node %d: %s", dead, say(c));
    return node;
}

/* Whether it is there, and is a replica if it has nothing of its own: that is
 * heard last. */
static bool is_well_known(const struct cluster_view *v)
{
    static const uint8_t none[sizeof(v->owns)];
    return v->known && !v->failed &&
           (v->replica || memcmp(v->owns, none, sizeof(none)) != 0);
}

/* Whether a node tells clients of all that run. It is silent about a replica
 * until it has heard that this one has got something from its master. */
static bool tells_of_all(const struct redis_cluster *c, int node)
{
    const char *slots = redis_cluster_ask(c, node, "CLUSTER SLOTS");
    for (int i = 0; i < c->nodes; i++) {
        char port[16];
        const struct redis_cluster_node *n = &c->node[i];
        unsigned told = n->announced != 0 ? n->announced : n->port;
        snprintf(port, sizeof(port), ":%u\r\n", told);
        if (runs(c, i) && strstr(slots, port) == NULL)
            return false;
    }
    return true;
}

/* Whether a node finds all well, and sees `owners` (filled by the first). */
static bool is_settled(const struct redis_cluster *c, int node,
                       int8_t owners[REDIS_CLUSTER_SLOTS], bool first)
{
    struct cluster_view views[REDIS_CLUSTER_NODES_MAX];
    cluster_view_look(c, node, views);
    for (int i = 0; i < c->nodes; i++)
        if (runs(c, i) && !is_well_known(&views[i]))
            return false;
    for (unsigned slot = 0; slot < REDIS_CLUSTER_SLOTS; slot++) {
        int8_t owner = -1;
        for (int i = 0; i < c->nodes; i++)
            if (cluster_view_owns(&views[i], slot))
                owner = (int8_t)i;
        if (owner < 0 || !runs(c, owner) || (!first && owners[slot] != owner))
            return false;
        owners[slot] = owner;
    }
    if (views[node].replica &&
        strstr(redis_cluster_ask(c, node, "INFO replication"),
               "master_link_status:up") == NULL)
        return false;
    return strstr(redis_cluster_ask(c, node, "CLUSTER INFO"),
                  "cluster_state:ok") != NULL &&
           tells_of_all(c, node);
}

static bool all_settled(const struct redis_cluster *c)
{
    int8_t owners[REDIS_CLUSTER_SLOTS];
    bool first = true;
    for (int i = 0; i < c->nodes; i++) {
        if (!runs(c, i))
            continue;
        if (!is_settled(c, i, owners, first))
            return false;
        first = false;
    }
    return true;
}

void redis_cluster_settle(const struct redis_cluster *c)
{
    ck_assert_msg(UNTIL(all_settled(c)), "the cluster is not whole: %s",
                  say(c));
}
