/* Nodes of our own making. */
#include "tests/fake_cluster.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manager/slot.h"
#include "tests/support.h"

struct stage {
    struct fake_server server;
    struct fake_nodes *nodes;
};

/* ---- maps ---- */

static int masters_of(const struct fake_nodes *all)
{
    int masters = 0;
    for (int i = 0; i < all->count; i++)
        masters += !all->node[i].replica;
    return masters;
}

/* A piece for each master, with the replicas that come behind it; turned by
 * `shift`. */
static int even_map(const struct fake_nodes *all, unsigned shift, char *text,
                    size_t size)
{
    int masters = masters_of(all), piece = 0, at[FAKE_NODES] = {0};
    for (int i = 0; i < all->count; i++)
        if (!all->node[i].replica)
            at[piece++] = i;
    int n = snprintf(text, size, "*%d\r\n", masters);
    for (piece = 0; piece < masters; piece++) {
        int i = at[(unsigned)(piece + (int)shift) % (unsigned)masters];
        int last = i + 1;
        while (last < all->count && all->node[last].replica)
            last++;
        n += snprintf(text + n, size - (size_t)n, "*%d\r\n:%d\r\n:%d\r\n",
                      2 + last - i, piece * SLOTS / masters,
                      (piece + 1) * SLOTS / masters - 1);
        for (; i < last; i++)
            n += snprintf(text + n, size - (size_t)n,
                          "*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n",
                          all->node[i].port);
    }
    return n;
}

static void say_map(struct fake_nodes *all, struct fake_node *node,
                    struct fake_client *c)
{
    char text[4096];
    node->maps++;
    size_t len = node->map_len; /* the test may change it meanwhile */
    if (len > 0) {
        fake_server_say(c, node->map, len);
        return;
    }
    unsigned shift = 0;
    for (int i = 0; all->shifting && i < all->count; i++)
        shift += all->node[i].maps;
    fake_server_say(c, text, (size_t)even_map(all, shift, text, sizeof(text)));
}

/* ---- commands ---- */

static void say_next(struct fake_node *node, int number, struct fake_client *c)
{
    char text[32];
    node->asked++;
    if (node->sayings == 0) {
        snprintf(text, sizeof(text), "+node %d\r\n", number);
        fake_server_say_text(c, text);
        return;
    }
    const struct fake_saying *s = &node->say[node->said];
    if (node->said + 1 < node->sayings)
        node->said++;
    fake_server_say(c, s->bytes, s->len);
    for (size_t left = s->bulk; left > 0;) {
        static const char some[1024];
        size_t n = left < sizeof(some) ? left : sizeof(some);
        fake_server_say(c, some, n);
        left -= n;
    }
    if (s->bulk > 0)
        fake_server_say_text(c, "\r\n");
    c->gone = s->hangs_up;
}

/* The last thing that is said before it is used. */
static void let_in(const struct fake_server *s, struct fake_node *node,
                   struct fake_client *c)
{
    unsigned others = 0;
    for (int i = 0; i < s->count; i++)
        others += &s->clients[i] != c && s->clients[i].entered &&
                  s->clients[i].listener == c->listener;
    if (!c->entered && others > 0 && node->alone) {
        fake_server_say_text(c, "-LOADING Redis is loading\r\n");
        return;
    }
    c->entered = true;
    fake_server_say_text(c, "+PONG\r\n");
    node->connected = others + 1;
}

static void obey(struct fake_server *s, struct fake_client *c,
                 const struct resp_arg *a, uint32_t argc)
{
    struct fake_nodes *all = ((struct stage *)s->context)->nodes;
    struct fake_node *node = &all->node[c->listener];
    if (fake_server_is(&a[0], "CLIENT") || fake_server_is(&a[0], "READONLY")) {
        fake_server_say_text(c, "+OK\r\n");
    } else if (fake_server_is(&a[0], "ASKING")) {
        node->asking++;
        fake_server_say_text(c, "+OK\r\n");
    } else if (fake_server_is(&a[0], "CLUSTER") && argc == 2 &&
               fake_server_is(&a[1], "SLOTS")) {
        say_map(all, node, c);
    } else if (fake_server_is(&a[0], "HELLO") ||
               fake_server_is(&a[0], "COMMAND") ||
               fake_server_is(&a[0], "INFO")) {
        fake_server_say_text(c, "-ERR unknown command\r\n");
    } else if (fake_server_is(&a[0], "PING")) {
        let_in(s, node, c);
    } else {
        say_next(node, c->listener, c);
    }
}

static void act(void *arg)
{
    struct stage *s = arg;
    fake_server_run(&s->server);
}

/* ---- for the test ---- */

void fake_cluster_start(struct fake_cluster *f, int nodes)
{
    static struct stage stage;
    memset(&stage, 0, sizeof(stage));
    f->nodes = support_shared(sizeof(*f->nodes));
    f->nodes->count = nodes;
    stage.nodes = f->nodes;
    stage.server = (struct fake_server){
        .obey = obey, .context = &stage, .listeners = nodes};
    for (int i = 0; i < nodes; i++)
        stage.server.listener[i] = fake_server_listen(&f->nodes->node[i].port);
    f->pid = support_fork(act, &stage);
    for (int i = 0; i < nodes; i++)
        close(stage.server.listener[i]);
}

void fake_cluster_kill(struct fake_cluster *f)
{
    support_kill(f->pid);
}

const char *fake_cluster_uri(const struct fake_cluster *f)
{
    static char uri[128];
    int n = snprintf(uri, sizeof(uri), "cluster://");
    for (int i = 0; i < f->nodes->count; i++)
        n += snprintf(uri + n, sizeof(uri) - (size_t)n, "%s127.0.0.1:%d",
                      i == 0 ? "" : ",", f->nodes->node[i].port);
    return uri;
}

static void add(struct fake_cluster *f, int node, bool hangs_up,
                const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

static void add(struct fake_cluster *f, int node, bool hangs_up,
                const char *fmt, va_list ap)
{
    struct fake_node *n = &f->nodes->node[node];
    ck_assert_uint_lt(n->sayings, FAKE_SAYINGS);
    struct fake_saying *s = &n->say[n->sayings];
    int len = vsnprintf(s->bytes, sizeof(s->bytes), fmt, ap);
    ck_assert_int_lt(len, (int)sizeof(s->bytes));
    s->len = (size_t)len;
    s->bulk = 0;
    s->hangs_up = hangs_up;
    n->sayings++;
}

void fake_cluster_says(struct fake_cluster *f, int node, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(f, node, false, fmt, ap);
    va_end(ap);
}

void fake_cluster_hangs_up(struct fake_cluster *f, int node, const char *fmt,
                           ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(f, node, true, fmt, ap);
    va_end(ap);
}

void fake_cluster_says_much(struct fake_cluster *f, int node, size_t len)
{
    fake_cluster_says(f, node, "$%zu\r\n", len);
    struct fake_node *n = &f->nodes->node[node];
    n->say[n->sayings - 1].bulk = len;
}

void fake_cluster_calm(struct fake_cluster *f)
{
    for (int i = 0; i < f->nodes->count; i++) {
        struct fake_node *n = &f->nodes->node[i];
        n->sayings = 0;
        n->said = 0;
        n->asked = 0;
        n->asking = 0;
    }
}

void fake_cluster_map(struct fake_cluster *f, int node, const char *fmt, ...)
{
    struct fake_node *n = &f->nodes->node[node];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(n->map, sizeof(n->map), fmt, ap);
    va_end(ap);
    ck_assert_int_lt(len, (int)sizeof(n->map));
    n->map_len = (size_t)len;
}

unsigned fake_cluster_asked(const struct fake_cluster *f)
{
    unsigned sum = 0;
    for (int i = 0; i < f->nodes->count; i++)
        sum += f->nodes->node[i].asked;
    return sum;
}

unsigned fake_cluster_maps(const struct fake_cluster *f)
{
    unsigned sum = 0;
    for (int i = 0; i < f->nodes->count; i++)
        sum += f->nodes->node[i].maps;
    return sum;
}
