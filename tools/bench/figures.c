/* Medians and ranges, of figures and of ratios. */
#include <string.h>

#include "tools/bench/bench.h"
#include "tools/bench/median.h"

#define FIGURE_NAME(name, unit, help) {#name, unit, help},
const struct figure_name figure_names[FIGURE_COUNT] = {FIGURES(FIGURE_NAME)};

static struct range range_of(double *values, unsigned n)
{
    if (n == 0)
        return (struct range){0};
    double middle = median(values, n);
    return (struct range){
        .median = middle, .low = values[0], .high = values[n - 1]};
}

struct range cell_range(const struct cell *cell, enum figure f)
{
    double values[BENCH_ROUNDS_MAX];
    for (unsigned i = 0; i < cell->rounds; i++)
        values[i] = cell->round[i].value[f];
    return range_of(values, cell->rounds);
}

struct range cell_ratio(const struct cell *a, const struct cell *b,
                        enum figure f)
{
    double values[BENCH_ROUNDS_MAX];
    unsigned n = 0, rounds = a->rounds < b->rounds ? a->rounds : b->rounds;
    for (unsigned i = 0; i < rounds; i++)
        if (b->round[i].value[f] > 0)
            values[n++] = a->round[i].value[f] / b->round[i].value[f];
    return range_of(values, n);
}

struct range ratio_to(const struct cell *a, const double *b, unsigned rounds,
                      enum figure f)
{
    double values[BENCH_ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < rounds && i < a->rounds; i++)
        if (b[i] > 0)
            values[n++] = a->round[i].value[f] / b[i];
    return range_of(values, n);
}

const struct cell *results_cell(const struct results *r, enum scenario s,
                                enum contestant c, unsigned workers)
{
    for (size_t t = 0; t < r->tables_count; t++)
        for (size_t i = 0; r->tables[t].scenario == s && i < r->tables[t].count;
             i++) {
            const struct cell *cell = &r->tables[t].cells[i];
            if (cell->load.contestant == c && cell->load.workers == workers &&
                cell->rounds > 0)
                return cell;
        }
    return NULL;
}
