/* The tables of the live view: a cluster's nodes, and clients. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/mqstat/live.h"

const char *const live_sort_names[SORT_COUNT] = {
    [SORT_SENT] = "sent",
    [SORT_RATE] = "per second",
    [SORT_WAITING] = "waiting",
    [SORT_PID] = "pid",
};

/* Lines that are left, but for the keys. */
static size_t lines_left(const struct live *l)
{
    size_t used = l->lines + 1;
    return (size_t)l->look.height > used ? (size_t)l->look.height - used : 0;
}

/* Of a table: its title, and a blank line where there is room. */
static size_t head_lines(const struct live *l)
{
    return live_compact(l) ? 1 : 2;
}

/* A cluster's nodes. Where there is not room for all, `clients` others have
 * half of it, if they need so much. */
static void draw_nodes(struct live *l, struct text *frame,
                       const struct node_entry *entries, size_t n,
                       size_t clients, const struct sample *s)
{
    size_t left = lines_left(l), heads = 2 * head_lines(l);
    size_t room = left > heads ? left - heads : 0;
    size_t theirs = clients < room / 2 ? clients : room / 2;
    struct text t = {0};
    room -= theirs;
    if (n == 0 || room == 0)
        return;
    size_t rows = n > room ? room - 1 : n;
    if (!live_compact(l))
        text_add(&t, "\n");
    nodes_table(&t, entries, rows, s, true, &l->look);
    if (n > rows)
        text_add(&t, "%s  and %zu more nodes%s\n", color(&l->look, COLOR_DIM),
                 n - rows, color(&l->look, COLOR_OFF));
    live_text(l, frame, &t);
}

static void draw_clients(struct live *l, struct text *frame,
                         const struct client_entry *entries, size_t n,
                         const struct sample *s)
{
    size_t left = lines_left(l), head = head_lines(l);
    size_t room = left > head ? left - head : 0;
    if (room == 0)
        return;
    struct text t = {0};
    char v[VALUE_MAX];
    text_add(&t, "%s%s%9s  %-15s %-12s%12s%9s%7s%9s%s\n",
             live_compact(l) ? "" : "\n", color(&l->look, COLOR_BOLD), "CLIENT",
             "PROCESS", "COMMAND", "SENT", "PER S", "FLIGHT", "WAITING",
             color(&l->look, COLOR_OFF));
    /* Where not all fit the last row says so. */
    size_t rows = n > room ? room - 1 : n;
    for (size_t i = 0; i < rows; i++) {
        const struct client_row *r = &entries[i].row;
        bool waits = r->waiting_ns != 0 && s->now_ns > r->waiting_ns;
        text_add(&t, "%9" PRIu32 "  %-15.15s %-12.12s%12s", r->pid,
                 entries[i].comm, entries[i].command, value_count(v, r->sent));
        text_add(&t, "%9s%7" PRIu32, value_short(v, entries[i].rate),
                 r->inflight);
        const char *text =
            waits ? value_time(v, (double)(s->now_ns - r->waiting_ns), true,
                               &l->look)
                  : "-";
        text_add(&t, "%*s%s\n", (int)(9 - text_columns(text)), "", text);
    }
    if (n > rows)
        text_add(&t, "%s%9s  and %zu more%s\n", color(&l->look, COLOR_DIM), "",
                 n - rows, color(&l->look, COLOR_OFF));
    live_text(l, frame, &t);
}

void live_tables(struct live *l, struct text *frame, const struct sample *old,
                 const struct sample *s)
{
    struct node_entry *nodes = calloc(STATUS_NODES, sizeof(*nodes));
    struct client_entry *clients = calloc(STATUS_CLIENTS, sizeof(*clients));
    if (nodes != NULL && clients != NULL) {
        size_t nnodes = nodes_of(old, s, nodes);
        size_t nclients = clients_of(old, s, l->sort, clients);
        draw_nodes(l, frame, nodes, nnodes, nclients, s);
        draw_clients(l, frame, clients, nclients, s);
    } else {
        frame->failed = true;
    }
    free(nodes);
    free(clients);
}
