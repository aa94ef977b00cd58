/* Starting a cluster, asking and killing its nodes. */
#include "tests/redis_cluster.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/redis_cluster_view.h"
#include "tests/support.h"

/* Ports of our own choice: below 32768 the kernel gives none away. */
#define PORT_MIN 12000
#define PORT_MAX 32000

/* ---- asking ---- */

static const char *ask(const struct redis_cluster *c, int node,
                       const char *command)
{
    static char *text;
    struct redis_link link;
    const char *reply;
    size_t len;
    redis_link_open(&link, &c->node[node].at);
    if (c->password[0] != '\0') {
        char auth[64];
        snprintf(auth, sizeof(auth), "AUTH %s", c->password);
        ck_assert_str_eq(redis_link_ask(&link, auth), "+OK\r\n");
    }
    redis_link_command(&link, command);
    enum redis_got got =
        redis_link_reply(&link, (int)support_wait_ms(), &reply, &len);
    ck_assert_msg(got == REDIS_REPLY, "node %d, %s: %s", node, command,
                  got == REDIS_CLOSED ? "closed" : "no reply");
    free(text);
    text = strndup(reply, len);
    ck_assert_ptr_nonnull(text);
    redis_link_close(&link);
    return text;
}

const char *redis_cluster_ask(const struct redis_cluster *c, int node,
                              const char *fmt, ...)
{
    char command[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    ck_assert_int_lt(n, (int)sizeof(command));
    return ask(c, node, command);
}

const char *redis_cluster_ask_owner(const struct redis_cluster *c,
                                    const char *key, const char *fmt, ...)
{
    char command[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    ck_assert_int_lt(n, (int)sizeof(command));
    unsigned slot = redis_cluster_slot(key);
    for (int i = 0; i < c->nodes; i++)
        if (c->node[i].at.pid > 0 && redis_cluster_owner(c, i, slot) == i)
            return ask(c, i, command);
    ck_abort_msg("nobody owns the slot of %s", key);
}

void redis_cluster_order(const struct redis_cluster *c, int node,
                         const char *fmt, ...)
{
    char command[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    const char *reply = ask(c, node, command);
    ck_assert_msg(strcmp(reply, "+OK\r\n") == 0, "node %d, %s: %s", node,
                  command, reply);
}

/* ---- nodes ---- */

static uint16_t choose_port(void)
{
    uint32_t dice;
    uint16_t port;
    do {
        ck_assert_int_eq(getrandom(&dice, sizeof(dice), 0), sizeof(dice));
        port = (uint16_t)(PORT_MIN + dice % (PORT_MAX - PORT_MIN));
    } while (support_take_port(port) == 0);
    return port;
}

static void write_options(const struct redis_cluster *c, int i,
                          const char *path)
{
    const struct redis_cluster_node *n = &c->node[i];
    const char *more = c->options != NULL ? c->options : "";
    bool tls = strstr(more, "tls-cluster yes") != NULL;
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    if (n->announced != 0)
        fprintf(f, "cluster-announce-port %u\n", n->announced);
    fprintf(f,
            "bind 127.0.0.1\n"
            "%s %u\n"
            "cluster-port %u\n"
            "cluster-enabled yes\n"
            "cluster-node-timeout %d\n"
            "cluster-require-full-coverage no\n"
            "cluster-replica-validity-factor 0\n"
            "cluster-migration-barrier 9\n"
            "repl-ping-replica-period 1\n"
            "repl-diskless-sync yes\n"
            "repl-diskless-sync-delay 0\n"
            "repl-diskless-load on-empty-db\n"
            "enable-debug-command yes\n"
            "%s\n",
            tls ? "port 0\ntls-port" : "port", n->port, n->bus,
            c->node_timeout_ms, more);
    ck_assert_int_eq(fclose(f), 0);
}

static void launch(struct redis_cluster *c, int i)
{
    char name[32], dir[160], path[192], options[400];
    snprintf(name, sizeof(name), "c%ld-%u-%d", (long)c->founder, c->number, i);
    snprintf(dir, sizeof(dir), "%s/%s", support_scratch(), name);
    snprintf(path, sizeof(path), "%s/options", dir);
    mkdir(dir, 0700);
    write_options(c, i, path);
    snprintf(options, sizeof(options), "--include %s --dir %s", path, dir);
    ck_assert(redis_start(&c->node[i].at, name, options));
}

/* Whether it knows `count` nodes, none of them still shaking hands. */
static bool knows(const struct redis_cluster *c, int node, int count)
{
    struct cluster_view views[REDIS_CLUSTER_NODES_MAX];
    cluster_view_look(c, node, views);
    for (int i = 0; i < c->nodes; i++)
        count -= views[i].known && !views[i].handshake;
    return count == 0;
}

static bool all_know(const struct redis_cluster *c)
{
    for (int i = 0; i < c->nodes; i++)
        if (!knows(c, i, c->nodes))
            return false;
    return true;
}

static void introduce(const struct redis_cluster *c)
{
    for (int i = 0; i < c->masters; i++) {
        redis_cluster_order(c, i, "CLUSTER ADDSLOTSRANGE %u %u",
                            redis_cluster_first_slot(c, i),
                            redis_cluster_first_slot(c, i + 1) - 1);
        redis_cluster_order(c, i, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
    }
    /* Each pair, not only one with all: gossip takes seconds. */
    for (int i = 0; i < c->nodes; i++)
        for (int j = i + 1; j < c->nodes; j++)
            redis_cluster_order(c, i, "CLUSTER MEET 127.0.0.1 %u %u",
                                c->node[j].port, c->node[j].bus);
    ck_assert_msg(UNTIL(all_know(c)), "the nodes do not meet: %s",
                  ask(c, 0, "CLUSTER NODES"));
    for (int i = c->masters; i < c->nodes; i++)
        redis_cluster_order(c, i, "CLUSTER REPLICATE %s",
                            c->node[i % c->masters].id);
}

/* Whether the installed one can have its bus anywhere: from 7.0 on. */
bool redis_cluster_is_possible(void)
{
    const char *program = getenv("REDIS_SERVER");
    char command[256], text[256] = "";
    snprintf(command, sizeof(command), "%s --version 2>/dev/null",
             program != NULL && *program != '\0' ? program : "redis-server");
    FILE *f = popen(command, "re");
    if (f == NULL)
        return false;
    bool got = fgets(text, sizeof(text), f) != NULL;
    pclose(f);
    const char *v = strstr(text, "v=");
    return got && v != NULL && strtol(v + 2, NULL, 10) >= 7;
}

bool redis_cluster_start(struct redis_cluster *c, int masters, int replicas,
                         int node_timeout_ms, const char *options)
{
    static unsigned count;
    *c = (struct redis_cluster){.masters = masters,
                                .nodes = masters + replicas,
                                .founder = getpid(),
                                .number = ++count,
                                .node_timeout_ms = node_timeout_ms,
                                .options = options};
    ck_assert_int_le(c->nodes, REDIS_CLUSTER_NODES_MAX);
    if (!redis_cluster_is_possible())
        return false;
    for (int i = 0; i < c->nodes; i++) {
        c->node[i].port = choose_port();
        c->node[i].bus = choose_port();
        launch(c, i);
        const char *id = strchr(ask(c, i, "CLUSTER MYID"), '\n');
        ck_assert_ptr_nonnull(id);
        snprintf(c->node[i].id, sizeof(c->node[i].id), "%.40s", id + 1);
    }
    introduce(c);
    redis_cluster_settle(c);
    return true;
}

void redis_cluster_stop(struct redis_cluster *c)
{
    for (int i = 0; i < c->nodes; i++)
        redis_stop(&c->node[i].at);
}

void redis_cluster_set_password(struct redis_cluster *c, const char *password)
{
    for (int i = 0; i < c->nodes; i++) {
        redis_cluster_order(c, i, "CONFIG SET masterauth %s", password);
        redis_cluster_order(c, i, "CONFIG SET requirepass %s", password);
    }
    snprintf(c->password, sizeof(c->password), "%s", password);
}

void redis_cluster_announce(struct redis_cluster *c, int node, uint16_t port)
{
    redis_cluster_order(c, node, "CONFIG SET cluster-announce-port %u", port);
    c->node[node].announced = port;
}

const char *redis_cluster_uri(const struct redis_cluster *c)
{
    static char uri[32 * REDIS_CLUSTER_NODES_MAX];
    int n = sprintf(uri, "cluster://");
    for (int i = 0; i < c->masters; i++)
        n += sprintf(uri + n, "%s127.0.0.1:%u", i > 0 ? "," : "",
                     c->node[i].port);
    return uri;
}

void redis_cluster_kill(struct redis_cluster *c, int node)
{
    redis_stop(&c->node[node].at);
}

void redis_cluster_restart(struct redis_cluster *c, int node)
{
    launch(c, node);
}
