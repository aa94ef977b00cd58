/* A cluster's nodes, as rows of a table. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

/* ---- reading ---- */

static bool in_trouble(const struct node_row *r)
{
    return r->face.state != STATUS_NODE_CONNECTED &&
           r->face.role != STATUS_NODE_NAMED;
}

/* Those in trouble first, then masters, replicas and the rest. */
static int compare_nodes(const void *a, const void *b)
{
    const struct node_entry *x = a, *y = b;
    int c = in_trouble(&y->row) - in_trouble(&x->row);
    if (c == 0)
        c = (y->row.face.role == STATUS_NODE_MASTER) -
            (x->row.face.role == STATUS_NODE_MASTER);
    if (c == 0)
        c = (y->row.face.role == STATUS_NODE_REPLICA) -
            (x->row.face.role == STATUS_NODE_REPLICA);
    if (c == 0)
        c = strcmp(x->address, y->address);
    if (c == 0)
        c = (x->row.serial > y->row.serial) - (x->row.serial < y->row.serial);
    return c;
}

static uint64_t grown(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

/* What came since `old`: a rate, and times. Of the whole life where the two
 * can't be compared. */
static void since_old(struct node_entry *e, const struct sample *old,
                      const struct sample *s, size_t row)
{
    struct node_row before;
    memcpy(e->since, e->row.times, sizeof(e->since));
    if (old == NULL || !sample_comparable(old, s))
        return;
    if (status_node_read(&old->raw.nodes[row], &before) != NODE_READ ||
        before.serial != e->row.serial)
        memset(&before, 0, sizeof(before));
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++)
        e->since[i] = grown(e->row.times[i], before.times[i]);
    e->rate = (double)grown(e->row.sent, before.sent) * (double)NS_PER_S /
              (double)(s->now_ns - old->now_ns);
}

size_t nodes_of(const struct sample *old, const struct sample *s,
                struct node_entry *entries)
{
    size_t n = 0;
    for (size_t i = 0; s->has_status && i < STATUS_NODES; i++) {
        struct node_entry *e = &entries[n];
        if (status_node_read(&s->raw.nodes[i], &e->row) != NODE_READ)
            continue;
        text_safe(e->address, sizeof(e->address), e->row.face.address);
        text_safe(e->error, sizeof(e->error), e->row.face.error);
        e->rate = 0;
        since_old(e, old, s, i);
        e->down = in_trouble(&e->row);
        e->redirected = 0;
        for (size_t k = 0; k < STATUS_NODE_REDIRECT_COUNT; k++)
            e->redirected += e->row.redirects[k];
        n++;
    }
    if (n > 1)
        qsort(entries, n, sizeof(*entries), compare_nodes);
    return n;
}

/* ---- the table ---- */

/* Without the last, for errors: it is there if there were any. */
#define NODE_COLUMNS 16

static void time_cell(struct table *t, const struct look *look, double ns)
{
    char v[VALUE_MAX];
    table_cell(t, ns > 0 ? value_time(v, ns, true, look) : "-");
}

static void state_cell(struct table *t, const struct node_entry *e,
                       const struct sample *s, const struct look *look)
{
    const struct status_node_face *face = &e->row.face;
    char v[VALUE_MAX] = "";
    enum color c = e->down                                ? COLOR_BAD
                   : face->state == STATUS_NODE_CONNECTED ? COLOR_GOOD
                                                          : COLOR_OFF;
    if (e->down && face->since_ns != 0 && s->now_ns > face->since_ns)
        value_span(v, s->now_ns - face->since_ns);
    table_cellf(t, "%s%s%s%s%s", color(look, c),
                status_node_state_str(face->state), v[0] ? " " : "", v,
                color(look, COLOR_OFF));
}

static void show_row(struct table *t, const struct node_entry *e,
                     const struct sample *s, bool live, const struct look *look)
{
    const struct node_row *r = &e->row;
    const uint64_t *times = live ? e->since : r->times;
    char v[VALUE_MAX];
    table_cell(t, e->address);
    table_cell(t, status_node_role_str(r->face.role));
    state_cell(t, e, s, look);
    table_cellf(t, "%" PRIu32, r->face.slots);
    table_cellf(t, "%" PRIu32, r->inflight);
    table_cell(t, value_short(v, (double)r->sent));
    table_cell(t, value_short(v, e->rate));
    time_cell(t, look, node_times_quantile(times, 0.5));
    time_cell(t, look, node_times_quantile(times, 0.99));
    table_cell(t, value_short(v, (double)e->redirected));
    for (size_t k = 0; k < STATUS_NODE_REDIRECT_COUNT; k++)
        table_cell(t, value_short(v, (double)r->redirects[k]));
    table_cell(t, value_short(v, (double)r->lost));
    table_cell(
        t, value_short(
               v, (double)(r->face.connects > 0 ? r->face.connects - 1 : 0)));
    if (t->ncolumns > NODE_COLUMNS)
        table_cellf(t, "%s%s%s", color(look, e->down ? COLOR_BAD : COLOR_DIM),
                    e->error, color(look, COLOR_OFF));
}

void nodes_table(struct text *out, const struct node_entry *entries, size_t n,
                 const struct sample *s, bool live, const struct look *look)
{
    static const struct table_column columns[] = {
        {.title = "NODE", .left = true},
        {.title = "ROLE", .left = true, .keep = 9},
        {.title = "STATE", .left = true},
        {.title = "SLOTS", .keep = 11},
        {.title = "FLIGHT", .keep = 10},
        {.title = "SENT", .keep = 4},
        {.title = "PER S", .keep = 12},
        {.title = "p50", .keep = 7},
        {.title = "p99", .keep = 13},
        {.title = "REDIR", .keep = 8},
        {.title = "MOVED", .keep = 3},
        {.title = "ASK", .keep = 2},
        {.title = "TRY", .keep = 1},
        {.title = "CLDOWN", .keep = 1},
        {.title = "LOST", .keep = 5},
        {.title = "RECONN", .keep = 6},
        {.title = "LAST ERROR", .left = true, .keep = 5},
    };
    struct table t;
    bool errors = false;
    for (size_t i = 0; i < n; i++)
        errors = errors || entries[i].error[0] != '\0';
    table_init(&t, columns, NODE_COLUMNS + (errors ? 1 : 0));
    for (size_t i = 0; i < n; i++)
        show_row(&t, &entries[i], s, live, look);
    table_print(&t, out, look);
    table_free(&t);
}

void show_nodes(struct text *out, const struct sample *old,
                const struct sample *s, const struct look *look)
{
    struct node_entry *entries = calloc(STATUS_NODES, sizeof(*entries));
    if (entries == NULL) {
        out->failed = true;
        return;
    }
    size_t n = nodes_of(old, s, entries);
    uint64_t known = sample_gauge(s, GAUGE_nodes_known);
    uint64_t unserved = sample_gauge(s, GAUGE_slots_unserved);
    if (n > 0) {
        text_add(out, "\n%snodes of the cluster%s%s\n", color(look, COLOR_BOLD),
                 s->alive == ALIVE_NO ? ", as its manager left them" : "",
                 color(look, COLOR_OFF));
        nodes_table(out, entries, n, s, false, look);
        if (known > n)
            text_add(out, "  and %" PRIu64 " without a row\n", known - n);
        if (unserved > 0)
            text_add(out, "  %s%" PRIu64 " slots are served by nobody%s\n",
                     color(look, COLOR_BAD), unserved, color(look, COLOR_OFF));
    }
    free(entries);
}
