/*
 * Drawing the live view.
 *
 * A frame is put together whole and written at once, each line cut to the
 * window, so that nothing flickers and nothing wraps.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/live.h"

/* The value `age` intervals ago; negative: there was none. */
static double recall(const struct history *h, enum series series, size_t age)
{
    if (age >= h->count)
        return -1;
    return h->values[series][(h->next + HISTORY - 1 - age) % HISTORY];
}

bool live_compact(const struct live *l)
{
    return l->look.height < 32;
}

/* Adds one line to the frame, cut to the window. Beyond its height nothing is
 * added; the last row is kept for the keys. */
static void draw_line(struct live *l, struct text *frame, const char *line)
{
    if (l->lines + 1 >= (size_t)l->look.height)
        return;
    l->lines++;
    size_t cols = 0, at = 0;
    while (line[at] != '\0') {
        size_t n = 0, wide = 0;
        while (line[at + n] == '\033') {
            while (line[at + n] != '\0' && line[at + n] != 'm')
                n++;
            n += line[at + n] != '\0';
        }
        if (line[at + n] != '\0') {
            n++;
            wide = 1;
        }
        while (((unsigned char)line[at + n] & 0xc0) == 0x80)
            n++;
        if (cols + wide > (size_t)l->look.width)
            break;
        text_bytes(frame, line + at, n);
        cols += wide;
        at += n;
    }
    text_add(frame, "%s\033[K\r\n", color(&l->look, COLOR_OFF));
}

void live_text(struct live *l, struct text *frame, struct text *lines)
{
    if (lines->failed)
        frame->failed = true;
    for (char *at = lines->data; at != NULL && *at != '\0';) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        draw_line(l, frame, at);
        at = end ? end + 1 : NULL;
    }
    text_free(lines);
}

static void draw_gauge(struct text *t, const struct look *look, double part,
                       size_t width)
{
    if (!(part >= 0))
        part = 0;
    size_t filled = (size_t)(part * (double)width + 0.5);
    if (part > 0 && filled == 0)
        filled = 1;
    if (filled > width)
        filled = width;
    text_add(t, "%s",
             color(look, part >= 1     ? COLOR_BAD
                         : part >= 0.5 ? COLOR_WARN
                                       : COLOR_GOOD));
    for (size_t i = 0; i < filled; i++)
        text_add(t, "%s", look->utf8 ? "\xe2\x96\x88" : "#");
    text_add(t, "%s%s", color(look, COLOR_OFF), color(look, COLOR_DIM));
    for (size_t i = filled; i < width; i++)
        text_add(t, "%s", look->utf8 ? "\xe2\x96\x91" : ".");
    text_add(t, "%s", color(look, COLOR_OFF));
}

/* One row of a sparkline `rows` high; row 0 is the top. */
static void draw_spark_row(struct text *t, const struct look *look,
                           const struct history *h, enum series series,
                           double top, size_t width, size_t row, size_t rows)
{
    static const char *const blocks[] = {" ",
                                         "\xe2\x96\x81",
                                         "\xe2\x96\x82",
                                         "\xe2\x96\x83",
                                         "\xe2\x96\x84",
                                         "\xe2\x96\x85",
                                         "\xe2\x96\x86",
                                         "\xe2\x96\x87",
                                         "\xe2\x96\x88"};
    static const char *const plain[] = {" ", "_", ".", ",", "-",
                                        "=", "+", "*", "#"};
    size_t unseen = 0; /* on the left, before this program looked */
    while (unseen < width && recall(h, series, width - 1 - unseen) < 0)
        unseen++;
    const char *dot = row < rows - 1 ? " " : look->utf8 ? "\xc2\xb7" : ".";
    text_add(t, "%s", color(look, COLOR_DIM));
    for (size_t i = 0; i < unseen; i++)
        text_add(t, "%s", dot);
    text_add(t, "%s%s", color(look, COLOR_OFF), color(look, COLOR_ACCENT));
    for (size_t i = unseen; i < width; i++) {
        double v = recall(h, series, width - 1 - i);
        int level = 0;
        if (v > 0 && top > 0) {
            int steps = (int)(v / top * 8 * (double)rows + 0.5);
            if (steps < 1)
                steps = 1;
            level = steps - 8 * (int)(rows - 1 - row);
            level = level < 0 ? 0 : level > 8 ? 8 : level;
        } else if (v == 0 && row == rows - 1) {
            level = 1; /* seen, and nothing */
        }
        text_add(t, "%s", look->utf8 ? blocks[level] : plain[level]);
    }
    text_add(t, "%s", color(look, COLOR_OFF));
}

static const char *series_value(char out[VALUE_MAX], double v, bool time,
                                const struct look *look)
{
    if (v < 0 || (time && v == 0)) {
        snprintf(out, VALUE_MAX, "-");
        return out;
    }
    if (time)
        return value_time(out, v, false, look);
    value_short(out, v);
    size_t len = strlen(out);
    snprintf(out + len, VALUE_MAX - len, "/s");
    return out;
}

static void draw_series(struct live *l, struct text *frame,
                        const struct history *h, enum series series,
                        const char *title)
{
    char now[VALUE_MAX], most[VALUE_MAX];
    bool time = series != SERIES_RATE;
    size_t rows = l->look.height >= 44 ? 3 : l->look.height >= 32 ? 2 : 1;
    size_t width = l->look.width > 44 ? (size_t)l->look.width - 36 : 8;
    double top = 0;
    if (width > HISTORY)
        width = HISTORY;
    for (size_t i = 0; i < width; i++)
        if (recall(h, series, i) > top)
            top = recall(h, series, i);
    for (size_t row = 0; row < rows; row++) {
        struct text t = {0};
        if (row == rows - 1) {
            series_value(now, recall(h, series, 0), time, &l->look);
            text_add(&t, "  %-12s%*s%s ", title, (int)(9 - text_columns(now)),
                     "", now);
        } else {
            text_add(&t, "%24s", "");
        }
        draw_spark_row(&t, &l->look, h, series, top, width, row, rows);
        if (row == 0)
            text_add(&t, " %smax %s%s", color(&l->look, COLOR_DIM),
                     series_value(most, top, time, &l->look),
                     color(&l->look, COLOR_OFF));
        live_text(l, frame, &t);
    }
}

static enum color health_color(const struct sample *s)
{
    switch (sample_health(s)) {
    case HEALTH_FINE:
        return COLOR_GOOD;
    case HEALTH_DEGRADED:
        return COLOR_WARN;
    case HEALTH_DOWN:
        break;
    }
    return COLOR_BAD;
}

static void draw_title(struct live *l, struct text *frame,
                       const struct sample *s)
{
    char now[16], v[VALUE_MAX], server[512];
    struct text t = {0};
    const struct look *look = &l->look;
    clock_time(now);
    text_add(&t, "%smqstat%s", color(look, COLOR_BOLD), color(look, COLOR_OFF));
    if (s != NULL) {
        text_add(&t, "  %s%s%s  %s%s %s%s", color(look, COLOR_BOLD), s->name,
                 color(look, COLOR_OFF), color(look, health_color(s)),
                 look->utf8 ? "\xe2\x97\x8f" : "*", sample_state(s),
                 color(look, COLOR_OFF));
        if (s->has_status && s->alive != ALIVE_NO)
            text_add(&t, " %s", value_span(v, s->now_ns - s->state.since_ns));
        sample_server(s, server);
        if (strcmp(server, "-") != 0)
            text_add(&t, "  %s", server);
    } else {
        text_add(&t, "  %zu channels", l->set.count);
    }
    const char *paused = l->paused ? "PAUSED " : "";
    size_t used = text_columns(t.data ? t.data : "") + strlen(paused);
    size_t width = (size_t)look->width;
    if (used + 10 <= width)
        text_add(&t, "%*s%s%s%s%s", (int)(width - used - 8), "",
                 color(look, COLOR_WARN), paused, color(look, COLOR_OFF), now);
    live_text(l, frame, &t);
}

static void draw_head(struct live *l, struct text *frame,
                      const struct sample *s)
{
    char v[VALUE_MAX], safe[1024];
    const struct look *look = &l->look;
    struct text t = {0};
    draw_title(l, frame, s);
    text_add(&t, "%s", color(look, COLOR_DIM));
    if (s->pid > 0)
        text_add(&t, "manager %d  ", (int)s->pid);
    if (s->has_status && s->alive != ALIVE_NO)
        text_add(&t, "up %s  ", value_span(v, s->now_ns - s->state.started_ns));
    text_add(&t, "%s\n", text_safe(safe, sizeof(safe), s->dir));
    live_text(l, frame, &t);
    if (s->problem.text[0] != '\0')
        text_add(&t, "%s%s\n", color(look, COLOR_BAD),
                 text_safe(safe, sizeof(safe), s->problem.text));
    else if (s->has_status && s->state.error[0] != '\0')
        text_add(&t, "%slast error: %s\n",
                 color(look, s->state.kind == STATE_CONNECTED ? COLOR_DIM
                                                              : COLOR_BAD),
                 text_safe(safe, sizeof(safe), s->state.error));
    live_text(l, frame, &t);
    if (!live_compact(l))
        draw_line(l, frame, "");
}

static void draw_gauges(struct live *l, struct text *frame,
                        const struct sample *s)
{
    char used[VALUE_MAX * 2];
    const struct look *look = &l->look;
    struct text t = {0};
    size_t width = look->width > 90 ? 40 : 26;
    if (s->has_queue) {
        snprintf(used, sizeof(used), "%ld/%ld", s->depth, s->capacity);
        text_add(&t, "  %-12s%9s ", "queue", used);
        draw_gauge(&t, look, (double)s->depth / (double)s->capacity, width);
        if (s->blocked > 0)
            text_add(&t, "  %s%ld blocked%s", color(look, COLOR_BAD),
                     s->blocked, color(look, COLOR_OFF));
        else if (s->queue_known && s->blocked == 0)
            text_add(&t, "  0 blocked");
        if (s->senders >= 0)
            text_add(&t, "  %ld senders", s->senders);
        text_add(&t, "\n");
    }
    if (s->has_status) {
        uint64_t n = sample_gauge(s, GAUGE_inflight);
        snprintf(used, sizeof(used), "%" PRIu64 "/%" PRIu32, n,
                 s->state.window);
        text_add(&t, "  %-12s%9s ", "in flight", used);
        draw_gauge(&t, look,
                   s->state.window ? (double)n / (double)s->state.window : 0,
                   width);
        text_add(&t, "  most %" PRIu64 "\n",
                 sample_gauge(s, GAUGE_most_inflight));
    }
    live_text(l, frame, &t);
}

static void draw_times(struct live *l, struct text *frame,
                       const struct sample *old, const struct sample *s)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 1.0};
    static const char *const names[] = {
        [TIME_queue_wait] = "queue wait",
        [TIME_redis_time] = "in Redis",
        [TIME_round_trip] = "request",
    };
    struct text t = {0};
    char v[VALUE_MAX];
    text_add(&t, "\n%s  %-12s%9s%10s%10s%10s%10s%10s%s\n",
             color(&l->look, COLOR_DIM), "", "p50", "p90", "p99", "p99.9",
             "max", "per s", color(&l->look, COLOR_OFF));
    for (int i = 0; i < TIME_COUNT; i++) {
        text_add(&t, "  %-12s", names[i]);
        uint64_t before = 0, now = counter_get(&s->raw.times[i].count);
        bool known = old != NULL && sample_comparable(old, s);
        if (known)
            before = counter_get(&old->raw.times[i].count);
        for (size_t q = 0; q < 5; q++) {
            double ns =
                quantile_since(old, s, (enum status_time)i, quantiles[q]);
            const char *text = known && now > before
                                   ? value_time(v, ns, false, &l->look)
                                   : "-";
            text_add(&t, "%*s%s", (int)((q ? 10 : 9) - text_columns(text)), "",
                     text);
        }
        double rate = known && now > before
                          ? (double)(now - before) * 1e9 /
                                (double)(s->now_ns - old->now_ns)
                          : 0;
        text_add(&t, "%10s\n", value_short(v, rate));
    }
    live_text(l, frame, &t);
}

static void draw_counters(struct live *l, struct text *frame,
                          const struct sample *s)
{
    static const enum status_counter shown[] = {
        COUNTER_answered,  COUNTER_error_replies, COUNTER_invalid,
        COUNTER_expired,   COUNTER_unavailable,   COUNTER_lost,
        COUNTER_discarded, COUNTER_too_big,       COUNTER_disconnects,
    };
    const struct look *look = &l->look;
    char v[VALUE_MAX];
    struct text t = {0}, line = {0};
    if (!live_compact(l))
        text_add(&t, "\n");
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        uint64_t n = sample_counter(s, shown[i]);
        bool bad = n > 0 && shown[i] != COUNTER_answered;
        if (!bad && live_compact(l) && i > 2)
            continue;
        text_clear(&line);
        text_add(&line, "  %s%s%s %s%s%s", color(look, COLOR_DIM),
                 status_counters[shown[i]].name, color(look, COLOR_OFF),
                 bad ? color(look, COLOR_WARN) : "", value_short(v, (double)n),
                 color(look, COLOR_OFF));
        const char *start = t.data ? strrchr(t.data, '\n') : NULL;
        if (start != NULL && line.data != NULL &&
            text_columns(start + 1) + text_columns(line.data) >
                (size_t)look->width)
            text_add(&t, "\n");
        text_bytes(&t, line.data ? line.data : "", line.len);
    }
    text_free(&line);
    live_text(l, frame, &t);
}

static void draw_keys(struct live *l, struct text *frame)
{
    const char *bold = color(&l->look, COLOR_BOLD);
    const char *off = color(&l->look, COLOR_OFF);
    struct text t = {0};
    text_add(&t, "%sq%s quit  %sspace%s pause", bold, off, bold, off);
    if (!l->one && l->set.count > 1)
        text_add(&t, "  %stab%s next channel", bold, off);
    if (l->shown > 0)
        text_add(&t, "  %ss%s sort: %s", bold, off, live_sort_names[l->sort]);
    text_add(&t, "  every %g s", l->o->interval_s);
    /* The last row: no newline, or the screen would scroll. */
    if (t.data != NULL && text_columns(t.data) <= (size_t)l->look.width)
        text_bytes(frame, t.data, t.len);
    text_add(frame, "\033[K");
    text_free(&t);
}

static void draw_channel(struct live *l, struct text *frame,
                         const struct sample *s)
{
    const struct sample *old = sample_set_find(&l->old, s);
    struct history *h = history_of(l, s);
    draw_head(l, frame, s);
    draw_line(l, frame, "");
    draw_gauges(l, frame, s);
    if (!s->has_status)
        return;
    draw_line(l, frame, "");
    if (h != NULL) {
        draw_series(l, frame, h, SERIES_RATE, "requests");
        draw_series(l, frame, h, SERIES_WAIT, "wait p99");
        draw_series(l, frame, h, SERIES_TOTAL, "request p99");
    }
    draw_times(l, frame, old, s);
    draw_counters(l, frame, s);
    live_tables(l, frame, old, s);
}

int live_draw(struct live *l)
{
    struct text frame = {0}, table = {0};
    l->lines = 0;
    text_add(&frame, "\033[H");
    if (l->shown > l->set.count)
        l->shown = 0;
    if (l->shown == 0 && (l->one || l->set.count == 1) && l->set.count > 0)
        l->shown = 1;
    if (l->shown > 0) {
        draw_channel(l, &frame, l->set.items[l->shown - 1]);
    } else {
        draw_title(l, &frame, NULL);
        draw_line(l, &frame, "");
        if (l->set.count == 0)
            draw_line(l, &frame,
                      "no channel yet: start a manager with "
                      "mqredis-manager");
        else
            show_table(&table, &l->old, &l->set, false, &l->look);
        live_text(l, &frame, &table);
    }
    while (l->lines + 1 < (size_t)l->look.height)
        draw_line(l, &frame, "");
    draw_keys(l, &frame);
    return finish(&frame);
}
