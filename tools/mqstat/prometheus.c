/* The text exposition format of Prometheus. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

/* Upper edges of the exposed buckets in ns. They stay, so that stored series
 * can be compared; a value within 1.6 percent of an edge may count on either
 * side of it. */
static const uint64_t edges_ns[] = {
    5000,       10000,       25000,       50000,     100000,     250000,
    500000,     1000000,     2500000,     5000000,   10000000,   25000000,
    50000000,   100000000,   250000000,   500000000, 1000000000, 2500000000,
    5000000000, 10000000000, 60000000000,
};
#define EDGES (sizeof(edges_ns) / sizeof(edges_ns[0]))

static void put_label(struct text *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            text_add(out, "\\%c", *value);
        else if (*value == '\n')
            text_add(out, "\\n");
        else if ((unsigned char)*value < 0x20 || (unsigned char)*value > 0x7e)
            text_add(out, "?"); /* label values must be UTF-8 */
        else
            text_bytes(out, value, 1);
    }
}

static void put_family(struct text *out, const char *name, const char *type,
                       const char *help)
{
    text_add(out, "# HELP mqredis_%s %s\n# TYPE mqredis_%s %s\n", name, help,
             name, type);
}

/* Opens a sample's line: name and labels up to the value. `extra` is another
 * label, already escaped, or NULL. */
static void put_name(struct text *out, const char *name, const struct sample *s,
                     const char *extra)
{
    text_add(out, "mqredis_%s{channel=\"", name);
    put_label(out, s->name);
    text_add(out, "\"%s%s} ", extra ? "," : "", extra ? extra : "");
}

static void put_value(struct text *out, const char *name,
                      const struct sample *s, double value)
{
    put_name(out, name, s, NULL);
    text_add(out, "%.15g\n", value);
}

static void put_states(struct text *out, const struct sample_set *set)
{
    put_family(out, "up", "gauge",
               "1 if the manager lives and is connected to Redis");
    for (size_t i = 0; i < set->count; i++)
        put_value(out, "up", set->items[i],
                  sample_health(set->items[i]) == HEALTH_FINE);
    put_family(out, "state", "gauge", "1 for the state that the manager is in");
    for (size_t i = 0; i < set->count; i++) {
        char label[64];
        snprintf(label, sizeof(label), "state=\"%s\"",
                 sample_state(set->items[i]));
        put_name(out, "state", set->items[i], label);
        text_add(out, "1\n");
    }
    put_family(out, "start_time_seconds", "gauge",
               "when the manager started, seconds of Unix time");
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    double now = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    for (size_t i = 0; i < set->count; i++) {
        const struct sample *s = set->items[i];
        if (s->has_status && s->alive != ALIVE_NO)
            put_value(out, "start_time_seconds", s,
                      now - (double)(s->now_ns - s->state.started_ns) / 1e9);
    }
}

enum queue_value {
    QUEUE_MESSAGES,
    QUEUE_CAPACITY,
    QUEUE_MSGSIZE,
    QUEUE_BLOCKED,
    QUEUE_SENDERS,
    QUEUE_VALUES
};

static void put_queue_values(struct text *out, const struct sample_set *set)
{
    static const char *const names[QUEUE_VALUES][2] = {
        {"queue_messages", "messages in the queue"},
        {"queue_capacity_messages", "messages that the queue can hold"},
        {"queue_message_size_bytes", "bytes that a message can have"},
        {"queue_blocked_senders", "threads asleep in a send: the queue is "
                                  "full"},
        {"senders", "processes that have the channel open"},
    };
    for (int v = 0; v < QUEUE_VALUES; v++) {
        put_family(out, names[v][0], "gauge", names[v][1]);
        for (size_t i = 0; i < set->count; i++) {
            const struct sample *s = set->items[i];
            const long values[QUEUE_VALUES] = {
                s->has_queue ? s->depth : -1, s->has_queue ? s->capacity : -1,
                s->has_queue ? s->msgsize : -1,
                s->queue_known ? s->blocked : -1, s->senders};
            if (values[v] >= 0)
                put_value(out, names[v][0], s, (double)values[v]);
        }
    }
}

static void put_counters(struct text *out, const struct sample_set *set)
{
    char name[80];
    for (size_t c = 0; c < COUNTER_COUNT; c++) {
        snprintf(name, sizeof(name), "%s_total", status_counters[c].name);
        put_family(out, name, "counter", status_counters[c].help);
        for (size_t i = 0; i < set->count; i++) {
            if (!set->items[i]->has_status)
                continue;
            put_name(out, name, set->items[i], NULL);
            text_add(out, "%" PRIu64 "\n",
                     counter_get(&set->items[i]->raw.counters[c]));
        }
    }
    for (size_t g = 0; g < GAUGE_COUNT; g++) {
        put_family(out, status_gauges[g].name, "gauge", status_gauges[g].help);
        for (size_t i = 0; i < set->count; i++) {
            if (!set->items[i]->has_status)
                continue;
            put_name(out, status_gauges[g].name, set->items[i], NULL);
            text_add(out, "%" PRIu64 "\n",
                     counter_get(&set->items[i]->raw.gauges[g]));
        }
    }
}

static void put_histogram(struct text *out, const char *name,
                          const struct sample *s, const struct histogram *h)
{
    char bucket[80], label[64];
    snprintf(bucket, sizeof(bucket), "%.64s_bucket", name);
    uint64_t total = 0;
    size_t at = 0;
    for (size_t e = 0; e < EDGES; e++) {
        for (; at < HISTOGRAM_BUCKETS; at++) {
            uint64_t middle = (histogram_low(at) + histogram_high(at)) / 2;
            if (middle > edges_ns[e])
                break;
            total += counter_get(&h->buckets[at]);
        }
        snprintf(label, sizeof(label), "le=\"%g\"", (double)edges_ns[e] / 1e9);
        put_name(out, bucket, s, label);
        text_add(out, "%" PRIu64 "\n", total);
    }
    for (; at < HISTOGRAM_BUCKETS; at++)
        total += counter_get(&h->buckets[at]);
    put_name(out, bucket, s, "le=\"+Inf\"");
    text_add(out, "%" PRIu64 "\n", total);
    snprintf(bucket, sizeof(bucket), "%.64s_sum", name);
    put_name(out, bucket, s, NULL);
    text_add(out, "%.9f\n", (double)counter_get(&h->sum_ns) / 1e9);
    /* The buckets' own sum: `count` may be a value behind or ahead of them,
     * and a reader insists that +Inf and count agree. */
    snprintf(bucket, sizeof(bucket), "%.64s_count", name);
    put_name(out, bucket, s, NULL);
    text_add(out, "%" PRIu64 "\n", total);
}

/* ---- nodes ---- */

/* Of one channel; only one of the same address is told of, since a series may
 * stand there but once. */
struct nodes_told {
    const struct sample *s;
    struct node_entry *entries; /* owned */
    size_t count;
};

static bool told_before(const struct nodes_told *t, const char *address)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->entries[i].address, address) == 0)
            return true;
    return false;
}

static bool nodes_told_take(struct nodes_told *t, const struct sample *s)
{
    t->s = s;
    t->entries = calloc(STATUS_NODES, sizeof(*t->entries));
    size_t n = t->entries == NULL ? 0 : nodes_of(NULL, s, t->entries);
    for (size_t i = 0; i < n; i++)
        if (!told_before(t, t->entries[i].address))
            t->entries[t->count++] = t->entries[i];
    return t->entries != NULL;
}

enum node_value {
    NODE_UP,
    NODE_SLOTS,
    NODE_INFLIGHT,
    NODE_SENT,
    NODE_LOST,
    NODE_CONNECTS,
    NODE_DISCONNECTS,
    NODE_TIME,
    NODE_ANSWERED,
    NODE_REDIRECTS, /* and on: one for each kind */
    NODE_VALUES = NODE_REDIRECTS + STATUS_NODE_REDIRECT_COUNT
};

#define REDIRECT_FAMILY(name, help) {"node_" #name "_total", help},

static double node_value(const struct sample *s, const struct node_row *r,
                         size_t v)
{
    switch (v) {
    case NODE_UP: /* a dead manager's row stays as it was */
        return s->alive != ALIVE_NO && r->face.state == STATUS_NODE_CONNECTED;
    case NODE_SLOTS:
        return r->face.slots;
    case NODE_INFLIGHT:
        return r->inflight;
    case NODE_SENT:
        return (double)r->sent;
    case NODE_LOST:
        return (double)r->lost;
    case NODE_CONNECTS:
        return (double)r->face.connects;
    case NODE_DISCONNECTS:
        return (double)r->face.disconnects;
    case NODE_TIME:
        return (double)r->sum_ns / 1e9;
    case NODE_ANSWERED:
        return (double)r->answered;
    default:
        return (double)r->redirects[v - NODE_REDIRECTS];
    }
}

static void put_node_value(struct text *out, const char *family, size_t v,
                           const struct nodes_told *t)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct node_row *r = &t->entries[i].row;
        struct text label = {0};
        text_add(&label, "node=\"");
        put_label(&label, t->entries[i].address);
        text_add(&label, "\",role=\"%s\"", status_node_role_str(r->face.role));
        put_name(out, family, t->s, label.data);
        text_add(out, "%.15g\n", node_value(t->s, r, v));
        out->failed = out->failed || label.failed;
        text_free(&label);
    }
}

static void put_nodes(struct text *out, const struct sample_set *set)
{
    static const char *const families[NODE_VALUES][2] = {
        {"node_up", "1 if the manager is connected to the node"},
        {"node_slots", "slots that the node serves"},
        {"node_inflight", "commands sent to the node and not answered yet"},
        {"node_sent_total", "commands sent to the node"},
        {"node_lost_total", "commands in flight when its connection broke"},
        {"node_connects_total", "connections to the node made"},
        {"node_disconnects_total", "connections to the node that broke"},
        {"node_time_seconds_total", "time that the node's answers took"},
        {"node_answered_total", "answers of the node"},
        STATUS_NODE_REDIRECTS(REDIRECT_FAMILY)};
    struct nodes_told *all = calloc(set->count + 1, sizeof(*all));
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < set->count; i++)
        ok = nodes_told_take(&all[i], set->items[i]);
    for (size_t v = 0; ok && v < NODE_VALUES; v++) {
        put_family(out, families[v][0],
                   v <= NODE_INFLIGHT ? "gauge" : "counter", families[v][1]);
        for (size_t i = 0; i < set->count; i++)
            put_node_value(out, families[v][0], v, &all[i]);
    }
    for (size_t i = 0; all != NULL && i < set->count; i++)
        free(all[i].entries);
    free(all);
    out->failed = out->failed || !ok;
}

void prometheus_channels(struct text *out, const struct sample_set *set)
{
    put_states(out, set);
    put_queue_values(out, set);
    put_counters(out, set);
    put_nodes(out, set);
    for (size_t t = 0; t < TIME_COUNT; t++) {
        char name[64];
        snprintf(name, sizeof(name), "%s_seconds", status_times[t].name);
        put_family(out, name, "histogram", status_times[t].help);
        for (size_t i = 0; i < set->count; i++)
            if (set->items[i]->has_status)
                put_histogram(out, name, set->items[i],
                              &set->items[i]->raw.times[t]);
    }
}
