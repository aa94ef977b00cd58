/* A line an interval, to a pipe; or JSON, a document a line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

#define HEADER_EVERY 20

static void pipe_header(struct text *out, int width)
{
    text_add(out, "%-8s  %-*s  %-12s %7s %5s %6s %7s %8s %8s %8s %8s %7s\n",
             "TIME", width, "CHANNEL", "STATE", "USED", "BLKD", "FLIGHT",
             "REQ/S", "WAITp50", "WAITp99", "REQp50", "REQp99", "ERR/S");
}

static void pipe_line(struct text *out, const struct sample *old,
                      const struct sample *s, int width,
                      const struct look *look)
{
    char now[16], used[48], blocked[24] = "-", rate[VALUE_MAX] = "-";
    char times[4][VALUE_MAX], errors[VALUE_MAX] = "-";
    static const struct {
        enum status_time time;
        double q;
    } shown[4] = {{TIME_queue_wait, 0.5},
                  {TIME_queue_wait, 0.99},
                  {TIME_round_trip, 0.5},
                  {TIME_round_trip, 0.99}};
    clock_time(now);
    if (s->has_queue)
        snprintf(used, sizeof(used), "%ld/%ld", s->depth, s->capacity);
    else
        memcpy(used, "-", 2);
    if (s->blocked >= 0 && s->queue_known)
        snprintf(blocked, sizeof(blocked), "%ld", s->blocked);
    bool known = old != NULL && sample_comparable(old, s);
    if (known) {
        double seconds = (double)(s->now_ns - old->now_ns) / 1e9;
        uint64_t a = sample_errors(old), b = sample_errors(s);
        value_short(rate, sample_rate(old, s, COUNTER_taken));
        value_short(errors, b > a ? (double)(b - a) / seconds : 0);
    }
    for (size_t i = 0; i < 4; i++) {
        double ns = quantile_since(old, s, shown[i].time, shown[i].q);
        if (ns > 0)
            value_time(times[i], ns, true, look);
        else
            memcpy(times[i], "-", 2);
    }
    char flight[24] = "-";
    if (s->has_status)
        snprintf(flight, sizeof(flight), "%" PRIu64,
                 sample_gauge(s, GAUGE_inflight));
    text_add(out, "%s  %-*s  %-12s %7s %5s %6s %7s", now, width, s->name,
             sample_state(s), used, blocked, flight, rate);
    /* printf counts bytes, and the micro sign has two. */
    for (size_t i = 0; i < 4; i++)
        text_add(out, " %*s%s", (int)(8 - text_columns(times[i])), "",
                 times[i]);
    text_add(out, " %7s", errors);
    if (s->problem.text[0] != '\0') {
        char safe[ERR_TEXT_MAX];
        text_add(out, "  %s", text_safe(safe, sizeof(safe), s->problem.text));
    }
    text_add(out, "\n");
}

static void pipe_lines(struct text *out, const struct sample_set *old,
                       const struct sample_set *set, bool header,
                       const struct look *look)
{
    int width = 7;
    for (size_t i = 0; i < set->count; i++)
        if ((int)strlen(set->items[i]->name) > width)
            width = (int)strlen(set->items[i]->name);
    if (header)
        pipe_header(out, width);
    for (size_t i = 0; i < set->count; i++)
        pipe_line(out, sample_set_find(old, set->items[i]), set->items[i],
                  width, look);
}

int run_piped(const struct options *o)
{
    struct scanner scanner = {0};
    struct sample_set old = {0}, set = {0};
    size_t lines = 0;
    int code = EXIT_FINE;
    /* The first sample is what the first line is compared with. */
    for (long n = -1; code == EXIT_FINE && (o->count == 0 || n < o->count);
         n++) {
        struct channel_names names = {0};
        enum err e = wanted_channels(o, &names);
        if (e == ERR_OK)
            e = scanner_refresh(&scanner, SCAN_EVERY_NS);
        if (e == ERR_OK)
            e = sample_set_take(&set, &names, &scanner.scan);
        channel_names_free(&names);
        if (e != ERR_OK) {
            code = fail(EXIT_SYSTEM, "cannot look at the channels: %s",
                        err_str(e));
            break;
        }
        struct text out = {0};
        if (n >= 0 && o->json)
            json_channels(&out, &old, &set, true);
        else if (n >= 0 && set.count > 0)
            pipe_lines(&out, &old, &set, lines++ % HEADER_EVERY == 0, &o->look);
        code = finish(&out);
        sample_set_free(&old);
        old = set;
        memset(&set, 0, sizeof(set));
        if (n + 1 == o->count && o->count > 0)
            break;
        if (!sleep_s(o->interval_s))
            break;
    }
    sample_set_free(&old);
    scanner_free(&scanner);
    return code;
}
