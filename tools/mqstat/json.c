/*
 * JSON, with names that stay: tools/mqstat.schema.json describes it. Times are
 * in microseconds, sizes in bytes, as the names say.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ipc/clock.h"
#include "ipc/version.h"
#include "tools/mqstat/doctor.h"
#include "tools/mqstat/mqstat.h"

/* ---- writing ---- */

#define DEPTH_MAX 16

struct json {
    struct text *out;
    bool pretty;
    int depth;
    bool filled[DEPTH_MAX]; /* something stands at this depth already */
};

static void begin_item(struct json *j, const char *name)
{
    if (j->filled[j->depth])
        text_add(j->out, ",");
    if (j->pretty && j->depth > 0)
        text_add(j->out, "\n%*s", j->depth * 2, "");
    j->filled[j->depth] = true;
    if (name != NULL)
        text_add(j->out, "\"%s\":%s", name, j->pretty ? " " : "");
}

static void open_item(struct json *j, const char *name, char bracket)
{
    begin_item(j, name);
    text_add(j->out, "%c", bracket);
    j->depth++;
    j->filled[j->depth] = false;
}

static void close_item(struct json *j, char bracket)
{
    bool filled = j->filled[j->depth];
    j->depth--;
    if (j->pretty && filled)
        text_add(j->out, "\n%*s", j->depth * 2, "");
    text_add(j->out, "%c", bracket);
}

/* The length of the UTF-8 character at `s`, 0 if there is none. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void put_string(struct json *j, const char *name, const char *value)
{
    begin_item(j, name);
    text_add(j->out, "\"");
    const unsigned char *s = (const unsigned char *)value;
    for (size_t n; *s != '\0'; s += n) {
        n = 1;
        if (*s == '"' || *s == '\\') {
            text_add(j->out, "\\%c", *s);
        } else if (*s < 0x20 || *s == 0x7f) {
            text_add(j->out, "\\u%04x", *s);
        } else if (*s < 0x80) {
            text_bytes(j->out, (const char *)s, 1);
        } else if ((n = utf8_length(s)) > 0) {
            text_bytes(j->out, (const char *)s, n);
        } else {
            text_add(j->out, "\\ufffd"); /* names may be any bytes */
            n = 1;
        }
    }
    text_add(j->out, "\"");
}

static void put_uint(struct json *j, const char *name, uint64_t value)
{
    begin_item(j, name);
    text_add(j->out, "%" PRIu64, value);
}

static void put_int(struct json *j, const char *name, int64_t value)
{
    begin_item(j, name);
    text_add(j->out, "%" PRId64, value);
}

/* Three decimals: nanoseconds where the unit is microseconds. */
static void put_real(struct json *j, const char *name, double value)
{
    begin_item(j, name);
    text_add(j->out, "%.3f", isfinite(value) ? value : 0);
}

static void put_bool(struct json *j, const char *name, bool value)
{
    begin_item(j, name);
    text_add(j->out, "%s", value ? "true" : "false");
}

static void put_null(struct json *j, const char *name)
{
    begin_item(j, name);
    text_add(j->out, "null");
}

static void put_known(struct json *j, const char *name, bool known,
                      int64_t value)
{
    if (known)
        put_int(j, name, value);
    else
        put_null(j, name);
}

static void put_head(struct json *j)
{
    char when[40];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof(when) - n, ".%03ldZ", ts.tv_nsec / 1000000);
    put_string(j, "version", PROJECT_VERSION);
    put_string(j, "time", when);
}

/* ---- channels ---- */

#define REDIRECT_NAME(name, help) #name,

static void put_time(struct json *j, const char *name,
                     const struct histogram *h, double seconds)
{
    uint64_t n = counter_get(&h->count);
    double sum = (double)counter_get(&h->sum_ns) / 1e3;
    open_item(j, name, '{');
    put_uint(j, "count", n);
    if (seconds > 0)
        put_real(j, "per_second", (double)n / seconds);
    put_real(j, "sum_us", sum);
    put_real(j, "mean_us", n ? sum / (double)n : 0);
    put_real(j, "p50_us", histogram_quantile(h, 0.5) / 1e3);
    put_real(j, "p90_us", histogram_quantile(h, 0.9) / 1e3);
    put_real(j, "p99_us", histogram_quantile(h, 0.99) / 1e3);
    put_real(j, "p999_us", histogram_quantile(h, 0.999) / 1e3);
    put_real(j, "max_us", histogram_quantile(h, 1.0) / 1e3);
    close_item(j, '}');
}

static void put_manager(struct json *j, const struct sample *s)
{
    open_item(j, "manager", '{');
    put_known(j, "pid", s->pid > 0, s->pid);
    if (s->alive == ALIVE_UNKNOWN)
        put_null(j, "alive");
    else
        put_bool(j, "alive", s->alive == ALIVE_YES);
    put_bool(j, "stopped", s->stopped);
    if (s->has_status) {
        bool here = s->alive != ALIVE_NO;
        put_real(j, "uptime_s",
                 here ? (double)(s->now_ns - s->state.started_ns) / 1e9 : 0);
        put_real(j, "state_age_s",
                 (double)(s->now_ns - s->state.since_ns) / 1e9);
    }
    close_item(j, '}');
    if (!s->has_status)
        return;
    open_item(j, "redis", '{');
    put_string(j, "server", s->state.server);
    put_string(j, "last_error", s->state.error);
    put_uint(j, "attempt", s->state.attempt);
    close_item(j, '}');
}

static void put_sleepers(struct json *j, const char *name,
                         const struct proc_scan *scan,
                         const struct proc_queue *q, bool sending)
{
    open_item(j, name, '[');
    for (size_t i = 0; q != NULL && i < scan->nsleepers; i++) {
        const struct proc_sleeper *p = &scan->sleepers[i];
        if (&scan->queues[p->queue] != q || p->sending != sending)
            continue;
        open_item(j, NULL, '{');
        put_int(j, "pid", p->pid);
        put_int(j, "tid", p->tid);
        put_string(j, "process", p->comm);
        put_bool(j, "guessed", p->guessed);
        close_item(j, '}');
    }
    close_item(j, ']');
}

static void put_queue_of(struct json *j, const struct sample *s,
                         const struct proc_scan *scan)
{
    const struct proc_queue *q =
        s->queue_known ? proc_scan_find(scan, s->queue_dev, s->queue_ino)
                       : NULL;
    open_item(j, "queue", '{');
    put_string(j, "name", s->queue);
    put_known(j, "messages", s->has_queue, s->depth);
    put_known(j, "capacity", s->has_queue, s->capacity);
    put_known(j, "message_size_bytes", s->has_queue, s->msgsize);
    put_known(j, "senders", s->senders >= 0, s->senders);
    put_known(j, "blocked", s->blocked >= 0 && s->queue_known, s->blocked);
    put_sleepers(j, "blocked_senders", scan, q, true);
    put_bool(j, "partial", s->partial);
    close_item(j, '}');
}

static void put_clients(struct json *j, const struct sample *old,
                        const struct sample *s)
{
    struct client_entry *entries = calloc(STATUS_CLIENTS, sizeof(*entries));
    if (entries == NULL) {
        j->out->failed = true;
        return;
    }
    size_t n = clients_of(old, s, SORT_SENT, entries);
    open_item(j, "clients", '[');
    for (size_t i = 0; i < n; i++) {
        const struct client_row *r = &entries[i].row;
        bool waits = r->waiting_ns != 0 && s->now_ns > r->waiting_ns;
        open_item(j, NULL, '{');
        put_uint(j, "serial", r->serial);
        put_uint(j, "pid", r->pid);
        put_string(j, "process", entries[i].comm);
        put_string(j, "command", r->command);
        put_uint(j, "sent", r->sent);
        put_uint(j, "failed", r->failed);
        put_uint(j, "in_flight", r->inflight);
        put_real(j, "waiting_us",
                 waits ? (double)(s->now_ns - r->waiting_ns) / 1e3 : 0);
        put_uint(j, "round_trip_us", r->rtt_us);
        put_real(j, "seen_s_ago",
                 s->now_ns > r->seen_ns ? (double)(s->now_ns - r->seen_ns) / 1e9
                                        : 0);
        close_item(j, '}');
    }
    close_item(j, ']');
    free(entries);
}

static void put_node_times(struct json *j, const struct node_row *r)
{
    open_item(j, "times", '{');
    put_uint(j, "count", r->answered);
    put_real(j, "sum_us", (double)r->sum_ns / 1e3);
    put_real(j, "mean_us",
             r->answered ? (double)r->sum_ns / 1e3 / (double)r->answered : 0);
    put_real(j, "p50_us", node_times_quantile(r->times, 0.5) / 1e3);
    put_real(j, "p99_us", node_times_quantile(r->times, 0.99) / 1e3);
    put_real(j, "max_us", node_times_quantile(r->times, 1.0) / 1e3);
    close_item(j, '}');
}

static void put_node(struct json *j, const struct sample *s,
                     const struct node_entry *e)
{
    static const char *const redirects[] = {
        STATUS_NODE_REDIRECTS(REDIRECT_NAME)};
    const struct node_row *r = &e->row;
    uint64_t since = r->face.since_ns;
    open_item(j, NULL, '{');
    put_uint(j, "serial", r->serial);
    put_string(j, "address", r->face.address);
    put_string(j, "role", status_node_role_str(r->face.role));
    put_uint(j, "slots", r->face.slots);
    put_string(j, "state", status_node_state_str(r->face.state));
    put_real(j, "state_age_s",
             since != 0 && s->now_ns > since ? (double)(s->now_ns - since) / 1e9
                                             : 0);
    put_uint(j, "attempt", r->face.attempt);
    put_uint(j, "connects", r->face.connects);
    put_uint(j, "disconnects", r->face.disconnects);
    put_string(j, "last_error", r->face.error);
    put_uint(j, "sent", r->sent);
    put_real(j, "per_second", e->rate);
    put_uint(j, "in_flight", r->inflight);
    put_uint(j, "lost", r->lost);
    for (size_t i = 0; i < STATUS_NODE_REDIRECT_COUNT; i++)
        put_uint(j, redirects[i], r->redirects[i]);
    put_node_times(j, r);
    close_item(j, '}');
}

static void put_nodes(struct json *j, const struct sample *old,
                      const struct sample *s)
{
    struct node_entry *entries = calloc(STATUS_NODES, sizeof(*entries));
    if (entries == NULL) {
        j->out->failed = true;
        return;
    }
    size_t n = nodes_of(old, s, entries);
    open_item(j, "nodes", '[');
    for (size_t i = 0; i < n; i++)
        put_node(j, s, &entries[i]);
    close_item(j, ']');
    free(entries);
}

static void put_interval(struct json *j, const struct sample *old,
                         const struct sample *s)
{
    double seconds = (double)(s->now_ns - old->now_ns) / 1e9;
    open_item(j, "interval", '{');
    put_real(j, "seconds", seconds);
    put_real(j, "requests_per_second", sample_rate(old, s, COUNTER_taken));
    open_item(j, "times", '{');
    for (size_t i = 0; i < TIME_COUNT; i++) {
        struct histogram since;
        histogram_since(&since, &s->raw.times[i], &old->raw.times[i]);
        put_time(j, status_times[i].name, &since, seconds);
    }
    close_item(j, '}');
    close_item(j, '}');
}

static void put_channel(struct json *j, const struct sample *old,
                        const struct sample *s, const struct proc_scan *scan)
{
    static const char *const health[] = {"fine", "degraded", "down"};
    open_item(j, NULL, '{');
    put_string(j, "name", s->name);
    put_string(j, "folder", s->dir);
    put_string(j, "state", sample_state(s));
    put_string(j, "health", health[sample_health(s)]);
    if (s->problem.text[0] != '\0')
        put_string(j, "problem", s->problem.text);
    else
        put_null(j, "problem");
    put_manager(j, s);
    put_queue_of(j, s, scan);
    if (s->has_status) {
        put_uint(j, "window", s->state.window);
        open_item(j, "counters", '{');
        for (size_t i = 0; i < COUNTER_COUNT; i++)
            put_uint(j, status_counters[i].name,
                     counter_get(&s->raw.counters[i]));
        close_item(j, '}');
        put_int(j, "unaccounted", sample_balance(s));
        open_item(j, "gauges", '{');
        for (size_t i = 0; i < GAUGE_COUNT; i++)
            put_uint(j, status_gauges[i].name, counter_get(&s->raw.gauges[i]));
        close_item(j, '}');
        open_item(j, "times", '{');
        for (size_t i = 0; i < TIME_COUNT; i++)
            put_time(j, status_times[i].name, &s->raw.times[i], 0);
        close_item(j, '}');
        if (old != NULL && sample_comparable(old, s))
            put_interval(j, old, s);
        put_clients(j, old, s);
        put_nodes(j, old, s);
    }
    close_item(j, '}');
}

void json_channels(struct text *out, const struct sample_set *old,
                   const struct sample_set *set, bool one_line)
{
    struct json j = {.out = out, .pretty = !one_line};
    open_item(&j, NULL, '{');
    put_head(&j);
    open_item(&j, "channels", '[');
    for (size_t i = 0; i < set->count; i++)
        put_channel(&j, sample_set_find(old, set->items[i]), set->items[i],
                    set->scan);
    close_item(&j, ']');
    close_item(&j, '}');
    text_add(out, "\n");
}

/* ---- queues ---- */

static void put_holders(struct json *j, const struct proc_scan *scan,
                        size_t queue)
{
    open_item(j, "holders", '[');
    for (size_t i = 0; i < scan->nholders; i++) {
        const struct proc_holder *h = &scan->holders[i];
        if (h->queue != queue)
            continue;
        open_item(j, NULL, '{');
        put_int(j, "pid", h->pid);
        put_string(j, "process", h->comm);
        put_uint(j, "uid", h->uid);
        put_bool(j, "reads", h->reads);
        put_bool(j, "writes", h->writes);
        close_item(j, '}');
    }
    close_item(j, ']');
}

static void put_queue(struct json *j, const struct proc_scan *scan, size_t i)
{
    const struct proc_queue *q = &scan->queues[i];
    char mode[8];
    snprintf(mode, sizeof(mode), "%04o", (unsigned)q->mode & 07777);
    open_item(j, NULL, '{');
    put_string(j, "name", q->name);
    put_known(j, "messages", q->have_attr, q->messages);
    put_known(j, "capacity", q->have_attr, q->capacity);
    put_known(j, "message_size_bytes", q->have_attr, q->msgsize);
    put_known(j, "bytes", q->have_bytes, (int64_t)q->bytes);
    put_string(j, "mode", mode);
    put_uint(j, "uid", q->uid);
    put_uint(j, "gid", q->gid);
    put_bool(j, "unlinked", !q->named);
    put_bool(j, "other_namespace", q->named && !q->here);
    put_known(j, "notified_pid", q->have_bytes && q->notify_pid > 0,
              q->notify_pid);
    put_holders(j, scan, i);
    put_sleepers(j, "blocked_senders", scan, q, true);
    put_sleepers(j, "waiting_receivers", scan, q, false);
    close_item(j, '}');
}

void json_queues(struct text *out, const struct proc_scan *scan)
{
    struct json j = {.out = out, .pretty = true};
    open_item(&j, NULL, '{');
    put_head(&j);
    open_item(&j, "queues", '[');
    for (size_t i = 0; i < scan->nqueues; i++)
        put_queue(&j, scan, i);
    close_item(&j, ']');
    open_item(&j, "unseen", '{');
    put_bool(&j, "unheld_queues", scan->listing == LISTING_NONE);
    put_uint(&j, "processes", scan->unseen);
    put_uint(&j, "waits", scan->unseen_waits);
    put_bool(&j, "truncated", scan->truncated);
    close_item(&j, '}');
    close_item(&j, '}');
    text_add(out, "\n");
}

void json_findings(struct text *out, const struct findings *f)
{
    static const char *const levels[] = {
        [LEVEL_OK] = "ok",       [LEVEL_NOTE] = "note",
        [LEVEL_FIXED] = "fixed", [LEVEL_WARN] = "warning",
        [LEVEL_BAD] = "bad",
    };
    struct json j = {.out = out, .pretty = true};
    open_item(&j, NULL, '{');
    put_head(&j);
    open_item(&j, "findings", '[');
    for (size_t i = 0; i < f->count; i++) {
        open_item(&j, NULL, '{');
        put_string(&j, "level", levels[f->items[i].level]);
        put_string(&j, "about", f->items[i].about);
        put_string(&j, "what", f->items[i].what);
        if (f->items[i].remedy[0] != '\0')
            put_string(&j, "remedy", f->items[i].remedy);
        else
            put_null(&j, "remedy");
        close_item(&j, '}');
    }
    close_item(&j, ']');
    close_item(&j, '}');
    text_add(out, "\n");
}
