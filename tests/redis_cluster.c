/* Starting a cluster, moving its slots, killing its nodes. */
#include "tests/redis_cluster.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/resp.h"
#include "tests/support.h"

/* Ports of our own choice: below 32768 the kernel gives none away. */
#define PORT_MIN 12000
#define PORT_MAX 32000
#define KEYS_AT_ONCE 64

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

/* A command that must be answered with +OK. */
static void order(const struct redis_cluster *c, int node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void order(const struct redis_cluster *c, int node, const char *fmt, ...)
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

/* ---- slots ---- */

unsigned redis_cluster_slot(const char *key)
{
    size_t len = strlen(key);
    const char *open = strchr(key, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    if (close != NULL && close > open + 1) {
        key = open + 1;
        len = (size_t)(close - key);
    }
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned)(unsigned char)key[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    }
    return (crc & 0xffff) % REDIS_CLUSTER_SLOTS;
}

static unsigned first_slot(const struct redis_cluster *c, int master)
{
    return (unsigned)(master * REDIS_CLUSTER_SLOTS / c->masters);
}

int redis_cluster_first_owner(const struct redis_cluster *c, unsigned slot)
{
    int master = 0;
    while (master + 1 < c->masters && slot >= first_slot(c, master + 1))
        master++;
    return master;
}

const char *redis_cluster_word(const struct redis_cluster *c, int node,
                               unsigned n)
{
    static char words[16][16];
    static unsigned turn;
    char *word = words[turn++ % 16];
    unsigned found = 0;
    for (unsigned i = 0;; i++) {
        snprintf(word, sizeof(words[0]), "t%u", i);
        if (redis_cluster_first_owner(c, redis_cluster_slot(word)) == node &&
            found++ == n)
            return word;
    }
}

/* What a node knows of another one, or of itself. */
struct view {
    bool known, myself, master, replica, failed, handshake;
    uint8_t owns[REDIS_CLUSTER_SLOTS / 8];
};

static void note_slots(struct view *v, const char *word)
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
static void note_line(const struct redis_cluster *c, struct view views[],
                      char *line)
{
    char *words[8] = {NULL};
    for (int i = 0; i < 8; i++)
        if ((words[i] = strsep(&line, " ")) == NULL)
            return;
    struct view *v = NULL;
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

static void look(const struct redis_cluster *c, int asked,
                 struct view views[REDIS_CLUSTER_NODES_MAX])
{
    memset(views, 0, sizeof(views[0]) * REDIS_CLUSTER_NODES_MAX);
    char *text = strdup(ask(c, asked, "CLUSTER NODES")), *rest = text;
    ck_assert_ptr_nonnull(text);
    strsep(&rest, "\n"); /* the length */
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        note_line(c, views, line);
    free(text);
}

static bool owns(const struct view *v, unsigned slot)
{
    return (v->owns[slot / 8] >> slot % 8 & 1) != 0;
}

int redis_cluster_owner(const struct redis_cluster *c, int asked, unsigned slot)
{
    struct view views[REDIS_CLUSTER_NODES_MAX];
    look(c, asked, views);
    for (int i = 0; i < c->nodes; i++)
        if (owns(&views[i], slot))
            return i;
    return -1;
}

void redis_cluster_move_begin(const struct redis_cluster *c, unsigned slot,
                              int from, int to)
{
    order(c, to, "CLUSTER SETSLOT %u IMPORTING %s", slot, c->node[from].id);
    order(c, from, "CLUSTER SETSLOT %u MIGRATING %s", slot, c->node[to].id);
}

/* Reads an array of bulk strings; returns how many there are. */
static int read_keys(const char *reply, size_t len, struct resp_arg *keys,
                     int max)
{
    const char *end = reply + len;
    char *at;
    ck_assert_msg(reply[0] == '*', "GETKEYSINSLOT: %s", reply);
    long count = strtol(reply + 1, &at, 10);
    ck_assert_int_le(count, max);
    at += 2;
    for (long i = 0; i < count; i++) {
        size_t size = strtoul(at + 1, &at, 10);
        keys[i] = (struct resp_arg){at + 2, size};
        at += 2 + size + 2;
        ck_assert(at <= end);
    }
    return (int)count;
}

int redis_cluster_move_keys(const struct redis_cluster *c, unsigned slot,
                            int from, int to, int max)
{
    struct resp_arg argv[8 + KEYS_AT_ONCE];
    struct redis_link link;
    const char *reply;
    char text[64], port[8];
    size_t len;
    if (max > KEYS_AT_ONCE)
        max = KEYS_AT_ONCE;
    redis_link_open(&link, &c->node[from].at);
    snprintf(text, sizeof(text), "CLUSTER GETKEYSINSLOT %u %d", slot, max);
    redis_link_command(&link, text);
    ck_assert_int_eq(
        redis_link_reply(&link, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    int count = read_keys(reply, len, argv + 7, max);
    if (count > 0) {
        static const char *const words[] = {"MIGRATE", "127.0.0.1", NULL,  "",
                                            "0",       "10000",     "KEYS"};
        snprintf(port, sizeof(port), "%u", c->node[to].port);
        for (int i = 0; i < 7; i++) {
            const char *word = words[i] != NULL ? words[i] : port;
            argv[i] = (struct resp_arg){word, strlen(word)};
        }
        size_t argc = 7 + (size_t)count;
        char *bytes = malloc(resp_command_size(argc, argv));
        ck_assert_ptr_nonnull(bytes);
        redis_link_send(&link, bytes, resp_put_command(bytes, argc, argv));
        free(bytes);
        /* NOKEY: those were deleted in between. */
        const char *answer = redis_link_text(&link);
        ck_assert_msg(strcmp(answer, "+OK\r\n") == 0 ||
                          strcmp(answer, "+NOKEY\r\n") == 0,
                      "MIGRATE of slot %u: %s", slot, answer);
    }
    redis_link_close(&link);
    return count;
}

static unsigned long info(const struct redis_cluster *c, int node,
                          const char *name)
{
    const char *at = strstr(ask(c, node, "CLUSTER INFO"), name);
    ck_assert_ptr_nonnull(at);
    return strtoul(at + strlen(name), NULL, 10);
}

/* Whether it has heard of all epochs. Else the one that it makes for itself
 * when it gets a slot may be below the old owner's, and a word of that one's
 * which is still on its way takes the slot back again. */
static bool is_up_to_date(const struct redis_cluster *c, int node)
{
    unsigned long known = info(c, node, "cluster_current_epoch:");
    for (int i = 0; i < c->nodes; i++)
        if (i != node && c->node[i].at.pid > 0 &&
            info(c, i, "cluster_my_epoch:") > known)
            return false;
    return true;
}

void redis_cluster_move_end(const struct redis_cluster *c, unsigned slot,
                            int from, int to)
{
    const char *id = c->node[to].id;
    ck_assert(UNTIL(is_up_to_date(c, to)));
    /* The new owner first: were it the last to know, the slot would be
     * nobody's for a moment, if one of us died between. */
    order(c, to, "CLUSTER SETSLOT %u NODE %s", slot, id);
    order(c, from, "CLUSTER SETSLOT %u NODE %s", slot, id);
    for (int i = 0; i < c->nodes; i++)
        if (i != from && i != to && c->node[i].at.pid > 0)
            redis_cluster_ask(c, i, "CLUSTER SETSLOT %u NODE %s", slot, id);
}

void redis_cluster_move(const struct redis_cluster *c, unsigned slot, int to)
{
    int from = redis_cluster_owner(c, to, slot);
    ck_assert_int_ge(from, 0);
    if (from == to)
        return;
    redis_cluster_move_begin(c, slot, from, to);
    while (redis_cluster_move_keys(c, slot, from, to, 10) > 0)
        ;
    redis_cluster_move_end(c, slot, from, to);
}

/* ---- nodes ---- */

static bool is_free(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool ok = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return ok;
}

static bool is_taken(const struct redis_cluster *c, uint16_t port)
{
    for (int i = 0; i < c->nodes; i++)
        if (c->node[i].port == port || c->node[i].bus == port)
            return true;
    return false;
}

static uint16_t choose_port(const struct redis_cluster *c)
{
    uint32_t dice;
    uint16_t port;
    do {
        ck_assert_int_eq(getrandom(&dice, sizeof(dice), 0), sizeof(dice));
        port = (uint16_t)(PORT_MIN + dice % (PORT_MAX - PORT_MIN));
    } while (is_taken(c, port) || !is_free(port));
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
    struct view views[REDIS_CLUSTER_NODES_MAX];
    look(c, node, views);
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
        order(c, i, "CLUSTER ADDSLOTSRANGE %u %u", first_slot(c, i),
              first_slot(c, i + 1) - 1);
        order(c, i, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
    }
    /* Each pair, not only one with all: gossip takes seconds. */
    for (int i = 0; i < c->nodes; i++)
        for (int j = i + 1; j < c->nodes; j++)
            order(c, i, "CLUSTER MEET 127.0.0.1 %u %u", c->node[j].port,
                  c->node[j].bus);
    ck_assert_msg(UNTIL(all_know(c)), "the nodes do not meet: %s",
                  ask(c, 0, "CLUSTER NODES"));
    for (int i = c->masters; i < c->nodes; i++)
        order(c, i, "CLUSTER REPLICATE %s", c->node[i % c->masters].id);
}

/* Whether the installed one can have its bus anywhere: from 7.0 on. */
static bool is_installed(void)
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
    if (!is_installed())
        return false;
    for (int i = 0; i < c->nodes; i++) {
        c->node[i].port = choose_port(c);
        c->node[i].bus = choose_port(c);
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
        order(c, i, "CONFIG SET masterauth %s", password);
        order(c, i, "CONFIG SET requirepass %s", password);
    }
    snprintf(c->password, sizeof(c->password), "%s", password);
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
            return ask(c, i, "CLUSTER NODES");
    return "no node runs";
}

/* Whether, to all that run, a node of the shard is the master with slots. */
static int successor(const struct redis_cluster *c, int dead)
{
    struct view views[REDIS_CLUSTER_NODES_MAX];
    int found = -1;
    for (int asked = 0; asked < c->nodes; asked++) {
        if (!runs(c, asked))
            continue;
        int seen = -1;
        look(c, asked, views);
        for (int i = dead % c->masters; i < c->nodes; i += c->masters)
            if (i != dead && views[i].master &&
                owns(&views[i], first_slot(c, dead % c->masters)))
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
static bool is_well_known(const struct view *v)
{
    static const uint8_t none[sizeof(v->owns)];
    return v->known && !v->failed &&
           (v->replica || memcmp(v->owns, none, sizeof(none)) != 0);
}

/* Whether a node tells clients of all that run. It is silent about a replica
 * until it has heard that this one has got something from its master. */
static bool tells_of_all(const struct redis_cluster *c, int node)
{
    const char *slots = ask(c, node, "CLUSTER SLOTS");
    for (int i = 0; i < c->nodes; i++) {
        char port[16];
        snprintf(port, sizeof(port), ":%u\r\n", c->node[i].port);
        if (runs(c, i) && strstr(slots, port) == NULL)
            return false;
    }
    return true;
}

/* Whether a node finds all well, and sees `owners` (filled by the first). */
static bool is_settled(const struct redis_cluster *c, int node,
                       int8_t owners[REDIS_CLUSTER_SLOTS], bool first)
{
    struct view views[REDIS_CLUSTER_NODES_MAX];
    look(c, node, views);
    for (int i = 0; i < c->nodes; i++)
        if (runs(c, i) && !is_well_known(&views[i]))
            return false;
    for (unsigned slot = 0; slot < REDIS_CLUSTER_SLOTS; slot++) {
        int8_t owner = -1;
        for (int i = 0; i < c->nodes; i++)
            if (owns(&views[i], slot))
                owner = (int8_t)i;
        if (owner < 0 || !runs(c, owner) || (!first && owners[slot] != owner))
            return false;
        owners[slot] = owner;
    }
    if (views[node].replica && strstr(ask(c, node, "INFO replication"),
                                      "master_link_status:up") == NULL)
        return false;
    return strstr(ask(c, node, "CLUSTER INFO"), "cluster_state:ok") != NULL &&
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
