/* One line per channel, and everything about one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

/* A first look is taken twice, this far apart, so that rates are of now. */
#define RATE_WINDOW_S 0.2

/* ---- the table ---- */

static const char *state_color(const struct sample *s, const struct look *look)
{
    switch (sample_health(s)) {
    case HEALTH_FINE:
        return color(look, COLOR_GOOD);
    case HEALTH_DEGRADED:
        return color(look, COLOR_WARN);
    case HEALTH_DOWN:
        break;
    }
    return color(look, COLOR_BAD);
}

static void time_cell(struct table *t, const struct look *look, double ns)
{
    char v[VALUE_MAX];
    table_cell(t, ns > 0 ? value_time(v, ns, true, look) : "-");
}

static void show_row(struct table *t, const struct sample *old,
                     const struct sample *s, bool whole,
                     const struct look *look)
{
    char v[VALUE_MAX], server[512];
    table_cell(t, s->name);
    table_cellf(t, "%s%s%s", state_color(s, look), sample_state(s),
                color(look, COLOR_OFF));
    if (s->has_queue)
        table_cellf(t, "%s%ld/%ld%s",
                    s->depth >= s->capacity ? color(look, COLOR_WARN) : "",
                    s->depth, s->capacity,
                    s->depth >= s->capacity ? color(look, COLOR_OFF) : "");
    else
        table_cell(t, "-");
    if (s->blocked >= 0 && s->queue_known)
        table_cellf(t, "%ld", s->blocked);
    else
        table_cell(t, "-");
    if (s->senders >= 0)
        table_cellf(t, "%ld", s->senders);
    else
        table_cell(t, "-");
    if (!s->has_status) {
        for (int i = 0; i < 7; i++)
            table_cell(t, "-");
    } else {
        table_cellf(t, "%" PRIu64, sample_gauge(s, GAUGE_inflight));
        table_cell(t, old ? value_short(v, sample_rate(old, s, COUNTER_taken))
                          : "-");
        const struct sample *from = whole ? NULL : old;
        time_cell(t, look, sample_quantile(from, s, TIME_queue_wait, 0.5));
        time_cell(t, look, sample_quantile(from, s, TIME_queue_wait, 0.99));
        time_cell(t, look, sample_quantile(from, s, TIME_round_trip, 0.5));
        time_cell(t, look, sample_quantile(from, s, TIME_round_trip, 0.99));
        table_cell(t, value_short(v, (double)sample_errors(s)));
    }
    if (s->pid > 0)
        table_cellf(t, "%d", (int)s->pid);
    else
        table_cell(t, "-");
    if (s->problem.text[0] != '\0') {
        char safe[ERR_TEXT_MAX];
        table_cell(t, text_safe(safe, sizeof(safe), s->problem.text));
    } else {
        table_cell(t, sample_server(s, server));
    }
}

void show_table(struct text *out, const struct sample_set *old,
                const struct sample_set *set, bool whole,
                const struct look *look)
{
    static const char queue[] = "queue", wait[] = "wait", total[] = "request";
    static const struct table_column columns[] = {
        {.title = "CHANNEL", .left = true},
        {.title = "STATE", .left = true},
        {.title = "USED", .group = queue},
        {.title = "BLKD", .group = queue},
        {.title = "SENDERS", .keep = 2},
        {.title = "FLIGHT", .keep = 5},
        {.title = "REQ/S"},
        {.title = "p50", .group = wait, .keep = 3},
        {.title = "p99", .group = wait, .keep = 4},
        {.title = "p50", .group = total, .keep = 6},
        {.title = "p99", .group = total, .keep = 7},
        {.title = "ERRORS"},
        {.title = "MANAGER", .keep = 6},
        {.title = "REDIS", .left = true, .keep = 1},
    };
    struct table t;
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    bool problems = false;
    for (size_t i = 0; i < set->count; i++) {
        const struct sample *s = set->items[i];
        problems = problems || s->problem.text[0] != '\0';
        show_row(&t, sample_set_find(old, s), s, whole, look);
    }
    table_print(&t, out, look);
    table_free(&t);
    /* The column that says what is wrong may have been cut or dropped. */
    for (size_t i = 0; problems && look->width > 0 && i < set->count; i++) {
        char safe[ERR_TEXT_MAX];
        if (set->items[i]->problem.text[0] != '\0')
            text_add(
                out, "%s: %s\n", set->items[i]->name,
                text_safe(safe, sizeof(safe), set->items[i]->problem.text));
    }
}

/* ---- sections ---- */

static void section(struct text *out, const struct look *look,
                    const char *title)
{
    text_add(out, "\n%s%s%s\n", color(look, COLOR_BOLD), title,
             color(look, COLOR_OFF));
}

static void show_head(struct text *out, const struct sample *s,
                      const struct look *look)
{
    char v[VALUE_MAX], safe[1024];
    text_add(out, "%schannel %s%s   %s%s%s", color(look, COLOR_BOLD), s->name,
             color(look, COLOR_OFF), state_color(s, look), sample_state(s),
             color(look, COLOR_OFF));
    if (s->has_status && s->alive != ALIVE_NO)
        text_add(out, " for %s",
                 value_span(v, s->now_ns > s->state.since_ns
                                   ? s->now_ns - s->state.since_ns
                                   : 0));
    text_add(out, "\n");
    if (s->problem.text[0] != '\0')
        text_add(out, "  %-14s%s%s%s\n", "problem", color(look, COLOR_BAD),
                 text_safe(safe, sizeof(safe), s->problem.text),
                 color(look, COLOR_OFF));
    text_add(out, "  %-14s%s\n", "folder",
             text_safe(safe, sizeof(safe), s->dir));
    if (s->pid > 0 && s->has_status && s->alive != ALIVE_NO) {
        text_add(out, "  %-14spid %d, up %s%s\n", "manager", (int)s->pid,
                 value_span(v, s->now_ns > s->state.started_ns
                                   ? s->now_ns - s->state.started_ns
                                   : 0),
                 s->stopped ? ", STOPPED: kill -CONT it" : "");
    } else if (s->pid > 0) {
        text_add(out, "  %-14spid %d%s\n", "manager", (int)s->pid,
                 s->alive == ALIVE_NO ? ", gone" : "");
    }
    if (!s->has_status)
        return;
    char server[512];
    text_add(out, "  %-14s%s\n", "redis", sample_server(s, server));
    if (s->state.attempt > 0)
        text_add(out, "  %-14s%" PRIu32 " attempts to connect so far\n", "",
                 s->state.attempt);
    if (s->state.error[0] != '\0')
        text_add(out, "  %-14s%s\n", "last error",
                 text_safe(safe, sizeof(safe), s->state.error));
}

static void show_queue(struct text *out, const struct sample *s,
                       const struct proc_scan *scan, const struct look *look)
{
    char v[VALUE_MAX], safe[600];
    section(out, look, "queue");
    if (s->queue[0] != '\0')
        text_add(out, "  %-14s%s\n", "name",
                 text_safe(safe, sizeof(safe), s->queue));
    if (s->has_queue) {
        text_add(out, "  %-14s%ld/%ld messages%s\n", "depth", s->depth,
                 s->capacity, s->depth >= s->capacity ? " (full)" : "");
        text_add(out, "  %-14s%s a message\n", "size",
                 value_size(v, (double)s->msgsize));
    }
    if (s->has_status)
        text_add(out, "  %-14s%" PRIu64 " messages\n", "deepest",
                 sample_gauge(s, GAUGE_deepest_queue));
    if (s->senders >= 0)
        text_add(out, "  %-14s%ld processes%s\n", "senders", s->senders,
                 s->partial ? " (of those that could be looked at)" : "");
    const struct proc_queue *q =
        scan && s->queue_known
            ? proc_scan_find(scan, s->queue_dev, s->queue_ino)
            : NULL;
    if (q == NULL)
        return;
    text_add(out, "  %-14s%ld threads", "blocked", s->blocked);
    size_t shown = 0;
    for (size_t i = 0; i < scan->nsleepers; i++) {
        const struct proc_sleeper *p = &scan->sleepers[i];
        if (&scan->queues[p->queue] != q || !p->sending)
            continue;
        text_add(out, "%s%d %s", shown++ % 4 == 0 ? "\n                " : ", ",
                 (int)p->pid, p->comm);
    }
    text_add(out, "\n");
}

static void show_commands(struct text *out, const struct sample *old,
                          const struct sample *s, const struct look *look)
{
    char v[VALUE_MAX], r[VALUE_MAX];
    section(out, look, "now");
    uint64_t most = s->state.window;
    text_add(out, "  %-14s%" PRIu64, "in flight",
             sample_gauge(s, GAUGE_inflight));
    if (most > 0)
        text_add(out, "/%" PRIu64, most);
    text_add(out, " commands, most so far %" PRIu64 "\n",
             sample_gauge(s, GAUGE_most_inflight));
    text_add(out, "  %-14s%s to write, %s behind slow readers\n", "waiting",
             value_size(v, (double)sample_gauge(s, GAUGE_inflight_bytes)),
             value_size(r, (double)sample_gauge(s, GAUGE_backlog_bytes)));
    text_add(out, "  %-14s%" PRIu64 " open\n", "reply pipes",
             sample_gauge(s, GAUGE_pipes));
    if (old != NULL) {
        double up = (double)(s->now_ns - s->state.started_ns) / NS_PER_S;
        text_add(out, "  %-14s%s requests/s", "rate",
                 value_short(v, sample_rate(old, s, COUNTER_taken)));
        text_add(
            out, ", %s requests/s since the start\n",
            value_short(
                v, up > 0 ? (double)sample_counter(s, COUNTER_taken) / up : 0));
    }
    section(out, look, "since the start");
    for (size_t i = 0; i < COUNTER_COUNT; i++)
        text_add(out, "  %-14s%18s  %s%s%s\n", status_counters[i].name,
                 value_count(v, counter_get(&s->raw.counters[i])),
                 color(look, COLOR_DIM), status_counters[i].help,
                 color(look, COLOR_OFF));
}

static void show_times(struct text *out, const struct sample *s,
                       const struct look *look)
{
    static const struct table_column columns[] = {
        {.title = "TIME", .left = true},
        {.title = "COUNT"},
        {.title = "MEAN"},
        {.title = "p50"},
        {.title = "p90"},
        {.title = "p99"},
        {.title = "p99.9"},
        {.title = "MAX"},
    };
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 1.0};
    section(out, look, "times");
    struct table t;
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < TIME_COUNT; i++) {
        const struct histogram *h = &s->raw.times[i];
        uint64_t n = counter_get(&h->count);
        char v[VALUE_MAX];
        table_cellf(&t, "  %s", status_times[i].name);
        table_cell(&t, value_count(v, n));
        time_cell(&t, look,
                  n ? (double)counter_get(&h->sum_ns) / (double)n : 0);
        for (size_t q = 0; q < sizeof(quantiles) / sizeof(quantiles[0]); q++)
            time_cell(&t, look, histogram_quantile(h, quantiles[q]));
    }
    table_print(&t, out, look);
    table_free(&t);
    for (size_t i = 0; i < TIME_COUNT; i++)
        text_add(out, "  %s%s: %s%s\n", color(look, COLOR_DIM),
                 status_times[i].name, status_times[i].help,
                 color(look, COLOR_OFF));
}

static void show_clients(struct text *out, const struct sample *old,
                         const struct sample *s, const struct look *look)
{
    struct client_entry *entries = calloc(STATUS_CLIENTS, sizeof(*entries));
    if (entries == NULL) {
        out->failed = true;
        return;
    }
    size_t n = clients_of(old, s, SORT_SENT, entries);
    static const struct table_column columns[] = {
        {.title = "PID"},
        {.title = "PROCESS", .left = true},
        {.title = "COMMAND", .left = true},
        {.title = "SENT"},
        {.title = "FAILED"},
        {.title = "FLIGHT"},
        {.title = "WAITING"},
        {.title = "ROUND TRIP"},
        {.title = "SEEN"},
    };
    struct table t;
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < n; i++) {
        const struct client_row *r = &entries[i].row;
        char v[VALUE_MAX];
        table_cellf(&t, "%" PRIu32, r->pid);
        table_cell(&t, entries[i].comm);
        table_cell(&t, entries[i].command);
        table_cell(&t, value_count(v, r->sent));
        table_cell(&t, value_count(v, r->failed));
        table_cellf(&t, "%" PRIu32, r->inflight);
        time_cell(&t, look,
                  r->waiting_ns && s->now_ns > r->waiting_ns
                      ? (double)(s->now_ns - r->waiting_ns)
                      : 0);
        time_cell(&t, look, r->rtt_us * 1e3);
        table_cellf(
            &t, "%s ago",
            value_span(v, s->now_ns > r->seen_ns ? s->now_ns - r->seen_ns : 0));
    }
    section(out, look, "clients (what they claim to be)");
    if (n > 0)
        table_print(&t, out, look);
    else
        text_add(out, "  none yet\n");
    table_free(&t);
    free(entries);
}

void show_channel(struct text *out, const struct sample *old,
                  const struct sample *s, const struct proc_scan *scan,
                  const struct look *look)
{
    if (old != NULL && !sample_comparable(old, s))
        old = NULL;
    show_head(out, s, look);
    if (s->queue[0] != '\0' || s->has_queue)
        show_queue(out, s, scan, look);
    if (!s->has_status)
        return;
    show_commands(out, old, s, look);
    show_times(out, s, look);
    show_nodes(out, old, s, look);
    show_clients(out, old, s, look);
}

/* ---- the mode ---- */

static int show_sets(const struct options *o, const struct sample_set *old,
                     const struct sample_set *set)
{
    struct text out = {0};
    if (o->json)
        json_channels(&out, old, set, false);
    else if (o->prometheus)
        prometheus_channels(&out, set);
    else if (o->names.count == 1)
        show_channel(&out, sample_set_find(old, set->items[0]), set->items[0],
                     set->scan, &o->look);
    else
        show_table(&out, old, set, true, &o->look);
    return finish(&out);
}

int run_show(const struct options *o)
{
    struct channel_names names;
    struct scanner scanner = {0};
    struct sample_set first = {0}, second = {0};
    int code = EXIT_SYSTEM;
    enum err e = wanted_channels(o, &names);
    if (e == ERR_OK && names.count == 0 && !o->json && !o->prometheus) {
        code = fail(EXIT_ABSENT, "no channel found: start a manager with "
                                 "mqredis-manager, or name a channel "
                                 "(--queues shows every queue)");
        goto out;
    }
    if (e == ERR_OK)
        e = scanner_refresh(&scanner, 0);
    if (e == ERR_OK)
        e = sample_set_take(&first, &names, &scanner.scan);
    if (e != ERR_OK)
        goto out;
    bool running = false, any = names.count == 0;
    for (size_t i = 0; i < first.count; i++) {
        const struct sample *s = first.items[i];
        running = running || (s->has_status && s->alive != ALIVE_NO);
        any = any || s->has_status || s->alive != ALIVE_NO || s->queue[0];
    }
    if (running && !o->prometheus) {
        sleep_s(RATE_WINDOW_S);
        e = sample_set_take(&second, &names, &scanner.scan);
        if (e == ERR_OK)
            code = show_sets(o, &first, &second);
    } else {
        code = show_sets(o, NULL, &first);
    }
    if (code == EXIT_FINE && !any)
        code = EXIT_ABSENT;
out:
    if (e != ERR_OK)
        code = fail(EXIT_SYSTEM, "cannot look at the channels: %s", err_str(e));
    sample_set_free(&second);
    sample_set_free(&first);
    scanner_free(&scanner);
    channel_names_free(&names);
    return code;
}
