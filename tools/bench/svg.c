/* A small plot: N from left to right, a figure upwards, both logarithmic; a
 * line with its range for each contestant. */
#include <math.h>

#include "tools/bench/bench.h"

#define WIDTH 760
#define HEIGHT 460
#define LEFT 80
#define RIGHT 190
#define TOP 46
#define BOTTOM 52

static const char *const colours[CONTESTANTS] = {
    [CHANNEL_TCP] = "#c1272d",    [CHANNEL_UNIX] = "#e88b2e",
    [LIMIT] = "#777777",          [HIREDIS_TCP] = "#1f6fb2",
    [HIREDIS_UNIX] = "#5bb0e0",   [TWEMPROXY] = "#2e8b57",
    [TWEMPROXY_UNIX] = "#8fce9f",
};

struct axes {
    double x0, x1, y0, y1; /* logarithms, base 10 */
};

static double x_of(const struct axes *a, double n)
{
    return LEFT + (log10(n) - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct axes *a, double v)
{
    return HEIGHT - BOTTOM -
           (log10(v) - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

/* The extent of all points. False: too few to draw. */
static bool measure(const struct table *t, enum figure figure, struct axes *a)
{
    double n_low = INFINITY, n_high = 0, low = INFINITY, high = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->cells[i];
        struct range r = cell_range(c, figure);
        if (c->rounds == 0 || r.low <= 0)
            continue;
        n_low = fmin(n_low, c->load.workers);
        n_high = fmax(n_high, c->load.workers);
        low = fmin(low, r.low);
        high = fmax(high, r.high);
    }
    if (!(n_high > n_low) || !(high > 0))
        return false;
    *a = (struct axes){.x0 = log10(n_low),
                       .x1 = log10(n_high),
                       .y0 = floor(log10(low) * 3) / 3,
                       .y1 = ceil(log10(high) * 3 + 0.01) / 3};
    return true;
}

static void put_grid(FILE *f, const struct table *t, const struct axes *a)
{
    for (int decade = -1; decade < 9; decade++)
        for (int step = 0; step < 3; step++) {
            static const double steps[] = {1, 2, 5};
            double v = steps[step] * pow(10, decade), y = y_of(a, v);
            if (log10(v) < a->y0 - 1e-9 || log10(v) > a->y1 + 1e-9)
                continue;
            fprintf(f,
                    "<line x1='%d' y1='%.1f' x2='%d' y2='%.1f' "
                    "stroke='#dddddd'/>\n"
                    "<text x='%d' y='%.1f' text-anchor='end'>%g</text>\n",
                    LEFT, y, WIDTH - RIGHT, y, LEFT - 8, y + 4, v);
        }
    unsigned last = 0;
    for (size_t i = 0; i < t->count; i++) {
        unsigned n = t->cells[i].load.workers;
        if (n == last || t->cells[i].rounds == 0)
            continue;
        last = n;
        fprintf(f, "<text x='%.1f' y='%d' text-anchor='middle'>%u</text>\n",
                x_of(a, n), HEIGHT - BOTTOM + 20, n);
    }
    fprintf(f,
            "<rect x='%d' y='%d' width='%d' height='%d' fill='none' "
            "stroke='#555555'/>\n",
            LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
}

static bool put_line(FILE *f, const struct table *t, const struct axes *a,
                     enum figure figure, enum contestant who, unsigned row)
{
    char sep = 'M';
    const char *colour = colours[who];
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->cells[i];
        struct range r = cell_range(c, figure);
        if (c->load.contestant != who || c->rounds == 0 || r.low <= 0)
            continue;
        if (sep == 'M')
            fputs("<path d='", f);
        fprintf(f, "%c%.1f %.1f ", sep, x_of(a, c->load.workers),
                y_of(a, r.median));
        sep = 'L';
    }
    if (sep == 'M')
        return false;
    fprintf(f, "' fill='none' stroke='%s' stroke-width='2'/>\n", colour);
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->cells[i];
        struct range r = cell_range(c, figure);
        if (c->load.contestant != who || c->rounds == 0 || r.low <= 0)
            continue;
        double x = x_of(a, c->load.workers);
        fprintf(f,
                "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='%s'/>\n"
                "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>\n",
                x, y_of(a, r.low), x, y_of(a, r.high), colour, x,
                y_of(a, r.median), colour);
    }
    unsigned y = TOP + 12 + row * 22;
    fprintf(f,
            "<line x1='%d' y1='%u' x2='%d' y2='%u' stroke='%s' "
            "stroke-width='2'/>\n<text x='%d' y='%u'>%s</text>\n",
            WIDTH - RIGHT + 16, y, WIDTH - RIGHT + 40, y, colour,
            WIDTH - RIGHT + 48, y + 4, contestants[who].name);
    return true;
}

void report_svg(FILE *f, const struct table *t, enum figure figure,
                const char *title)
{
    struct axes a;
    unsigned row = 0;
    if (!measure(t, figure, &a))
        return;
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
            "viewBox='0 0 %d %d' font-family='sans-serif' font-size='13'>\n"
            "<rect width='%d' height='%d' fill='white'/>\n"
            "<text x='%d' y='26' font-size='16'>%s</text>\n"
            "<text x='%d' y='%d' text-anchor='middle'>worker "
            "processes</text>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, title,
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
    put_grid(f, t, &a);
    for (int c = 0; c < CONTESTANTS; c++)
        row += put_line(f, t, &a, figure, (enum contestant)c, row);
    fputs("</svg>\n", f);
}
