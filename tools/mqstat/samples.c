/* Samples of several channels at one moment, and the clients in one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

/* How long a client is listed after its last message once its pid is gone. */
#define GONE_AFTER_NS (5 * NS_PER_S)

/* A reading of /proc is followed by so many times its length without one. */
#define SCAN_REST 200

/* ---- sets of samples ---- */

enum err wanted_channels(const struct options *o, struct channel_names *names)
{
    if (o->names.count == 0)
        return channel_names_find(names);
    memset(names, 0, sizeof(*names));
    for (size_t i = 0; i < o->names.count; i++) {
        enum err e = channel_names_add(names, o->names.names[i]);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static uint64_t cpu_ns(void)
{
    struct timespec ts = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

enum err scanner_refresh(struct scanner *sc, uint64_t max_age_ns)
{
    uint64_t now = clock_ns();
    if (max_age_ns > 0 && max_age_ns < SCAN_REST * sc->cost_ns)
        max_age_ns = SCAN_REST * sc->cost_ns;
    if (sc->taken_ns != 0 && now - sc->taken_ns <= max_age_ns)
        return ERR_OK;
    scanner_free(sc);
    uint64_t begin = cpu_ns();
    enum err e = proc_scan(&sc->scan, false);
    sc->cost_ns = cpu_ns() - begin;
    if (e == ERR_OK)
        sc->taken_ns = now;
    return e;
}

void scanner_free(struct scanner *sc)
{
    proc_scan_free(&sc->scan);
    sc->taken_ns = 0;
}

enum err sample_set_take(struct sample_set *set,
                         const struct channel_names *names,
                         const struct proc_scan *scan)
{
    memset(set, 0, sizeof(*set));
    set->scan = scan;
    if (names->count == 0)
        return ERR_OK;
    set->items = calloc(names->count, sizeof(*set->items));
    if (set->items == NULL)
        return ERR_NOMEM;
    for (; set->count < names->count; set->count++) {
        struct sample *s = malloc(sizeof(*s));
        if (s == NULL) {
            sample_set_free(set);
            return ERR_NOMEM;
        }
        sample_take(s, names->names[set->count], scan);
        set->items[set->count] = s;
    }
    return ERR_OK;
}

void sample_set_free(struct sample_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->items[i]);
    free(set->items);
    memset(set, 0, sizeof(*set));
}

const struct sample *sample_set_find(const struct sample_set *set,
                                     const struct sample *s)
{
    for (size_t i = 0; set != NULL && i < set->count; i++)
        if (strcmp(set->items[i]->dir, s->dir) == 0)
            return set->items[i];
    return NULL;
}

/* ---- clients ---- */

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? 1 : a > b ? -1 : 0;
}

static int compare_entries(const struct client_entry *a,
                           const struct client_entry *b, enum client_sort sort)
{
    int c = 0;
    switch (sort) {
    case SORT_SENT:
        c = compare_u64(a->row.sent, b->row.sent);
        break;
    case SORT_RATE:
        c = a->rate < b->rate ? 1 : a->rate > b->rate ? -1 : 0;
        break;
    case SORT_WAITING:
        /* The longest waiting first, who waits for nothing last. */
        c = compare_u64(b->row.waiting_ns - 1, a->row.waiting_ns - 1);
        break;
    case SORT_PID:
        c = -compare_u64(a->row.pid, b->row.pid);
        break;
    case SORT_COUNT:
        break;
    }
    if (c == 0) /* the living first, then whoever does most */
        c = (strcmp(a->comm, "?") == 0) - (strcmp(b->comm, "?") == 0);
    if (c == 0)
        c = compare_u64(a->row.sent, b->row.sent);
    return c != 0 ? c : compare_u64(a->row.serial, b->row.serial);
}

static int compare_with(const void *a, const void *b, void *sort)
{
    return compare_entries(a, b, *(const enum client_sort *)sort);
}

static double client_rate(const struct sample *old, const struct sample *s,
                          size_t row, const struct client_row *now)
{
    struct client_row before = {0};
    if (old == NULL || !sample_comparable(old, s))
        return 0;
    if (!status_client_read(&old->raw.clients[row], &before) ||
        before.serial != now->serial)
        before.sent = 0;
    return now->sent <= before.sent
               ? 0
               : (double)(now->sent - before.sent) * (double)NS_PER_S /
                     (double)(s->now_ns - old->now_ns);
}

size_t clients_of(const struct sample *old, const struct sample *s,
                  enum client_sort sort, struct client_entry *entries)
{
    size_t n = 0;
    for (size_t i = 0; s->has_status && i < STATUS_CLIENTS; i++) {
        struct client_entry *e = &entries[n];
        if (!status_client_read(&s->raw.clients[i], &e->row))
            continue;
        text_safe(e->command, sizeof(e->command), e->row.command);
        if (e->row.pid > 0 && e->row.pid <= INT_MAX)
            proc_comm((pid_t)e->row.pid, e->comm);
        else
            memcpy(e->comm, "?", 2);
        /* Its process ended: the row waits for somebody new. */
        if (strcmp(e->comm, "?") == 0 && e->row.inflight == 0 &&
            s->now_ns > e->row.seen_ns + GONE_AFTER_NS)
            continue;
        e->rate = client_rate(old, s, i, &e->row);
        n++;
    }
    if (n > 1)
        qsort_r(entries, n, sizeof(*entries), compare_with, &sort);
    return n;
}

/* ---- small things ---- */

double sample_quantile(const struct sample *old, const struct sample *s,
                       enum status_time t, double q)
{
    struct histogram since;
    if (!s->has_status)
        return 0;
    if (old == NULL || !sample_comparable(old, s))
        return histogram_quantile(&s->raw.times[t], q);
    histogram_since(&since, &s->raw.times[t], &old->raw.times[t]);
    return histogram_quantile(&since, q);
}

double quantile_since(const struct sample *old, const struct sample *s,
                      enum status_time t, double q)
{
    struct histogram since;
    if (old == NULL || !sample_comparable(old, s))
        return 0;
    histogram_since(&since, &s->raw.times[t], &old->raw.times[t]);
    return histogram_quantile(&since, q);
}

void clock_time(char out[16])
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(out, 16, "%H:%M:%S", &tm);
}
