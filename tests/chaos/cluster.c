/* Beginning, killing and waiting; what moves is the admin's. */
#include "tests/chaos/cluster.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/support.h"

#define MASTERS 3
/* No node that stands still, or whose peer does in MIGRATE, is taken for dead,
 * on whatever machine: then all of its slots would be CLUSTERDOWN. */
#define NODE_TIMEOUT_MS 8000
#define LOOK_MS 100

const char *const cluster_words[CLUSTER_WORDS] = {
    [CLUSTER_MOVED] = "MOVED",
    [CLUSTER_ASK] = "ASK",
    [CLUSTER_TRYAGAIN] = "TRYAGAIN",
    [CLUSTER_CLUSTERDOWN] = "CLUSTERDOWN",
};

static int node_of(const struct world *w, const struct server *s)
{
    return (int)(s - w->servers);
}

static void begin_node(struct world *w, int i)
{
    struct server *s = &w->servers[i];
    char to[32];
    s->player.pid = w->cluster.node[i].at.pid;
    strcpy(s->path, w->cluster.node[i].at.path);
    snprintf(to, sizeof(to), "127.0.0.1:%u", w->cluster.node[i].port);
    proxy_start(&s->proxy, to);
    const char *port = strrchr(s->proxy.tcp, ':') + 1;
    redis_cluster_announce(&w->cluster, i, (uint16_t)atoi(port));
    size_t len = strlen(w->uri);
    snprintf(w->uri + len, sizeof(w->uri) - len, "%s127.0.0.1:%s",
             i > 0 ? "," : "cluster://", port);
}

static void administer(void *arg)
{
    admin_live(arg);
}

void cluster_begin(struct world *w)
{
    ck_assert_msg(redis_cluster_start(&w->cluster, MASTERS, 0, NODE_TIMEOUT_MS,
                                      "appendonly yes\n"
                                      "appendfsync always\n"
                                      "auto-aof-rewrite-percentage 0"),
                  "no redis-server from 7.0 on");
    w->server_count = MASTERS;
    for (int i = 0; i < MASTERS; i++)
        begin_node(w, i);
    redis_cluster_settle(&w->cluster);
    w->office = support_shared(sizeof(*w->office));
    for (unsigned i = 0; i < REDIS_CLUSTER_SLOTS; i++)
        w->office->owner[i] = redis_cluster_first_owner(&w->cluster, i);
    struct admin_task task = {.cluster = &w->cluster,
                              .office = w->office,
                              .seed = dice_next(&w->dice),
                              .gentle = w->plan->gentle || w->plan->quick};
    w->admin = support_fork(administer, &task);
}

/* ---- killing ---- */

/* A node counts what it answers; the count dies with it. */
static void note_words(struct world *w, int node)
{
    const char *text = redis_cluster_ask(&w->cluster, node, "INFO errorstats");
    char name[48];
    for (int i = 0; i < CLUSTER_WORDS; i++) {
        snprintf(name, sizeof(name), "errorstat_%s:count=", cluster_words[i]);
        const char *at = strstr(text, name);
        if (at != NULL)
            w->words[i] += strtoull(at + strlen(name), NULL, 10);
    }
}

bool cluster_may_kill(struct world *w, const struct server *s)
{
    if (s->player.resume_ns != 0 || w->admin == 0 ||
        !admin_take(w->office, HOLDER_WORLD))
        return false;
    note_words(w, node_of(w, s));
    return true;
}

pid_t cluster_start_node(struct world *w, struct server *s)
{
    redis_cluster_restart(&w->cluster, node_of(w, s));
    return w->cluster.node[node_of(w, s)].at.pid;
}

static bool is_whole(const struct world *w)
{
    for (int i = 0; i < MASTERS; i++) {
        const struct player *p = &w->servers[i].player;
        /* One that was told to end may still answer. */
        if (p->pid == 0 || w->servers[i].back_ns != 0 || p->resume_ns != 0 ||
            strstr(redis_cluster_ask(&w->cluster, i, "CLUSTER INFO"),
                   "cluster_state:ok") == NULL)
            return false;
    }
    return true;
}

void cluster_tend(struct world *w)
{
    for (int i = 0; i < MASTERS; i++)
        w->cluster.node[i].at.pid = w->servers[i].player.pid;
    if (w->calm)
        w->office->closing = true;
    if (w->office->holder != HOLDER_WORLD || clock_ns() < w->look_ns)
        return;
    w->look_ns = clock_deadline(LOOK_MS);
    if (is_whole(w))
        admin_give(w->office);
}

/* ---- the end ---- */

void cluster_settle(struct world *w)
{
    redis_cluster_settle(&w->cluster);
    for (int i = 0; i < MASTERS; i++)
        note_words(w, i);
}

unsigned cluster_owner(const struct world *w, const char *key)
{
    return (unsigned)w->office->owner[redis_cluster_slot(key)];
}
