/* The middle of some figures. */
#ifndef TOOLS_BENCH_MEDIAN_H
#define TOOLS_BENCH_MEDIAN_H

#include <stddef.h>

/* Sorts them, the smallest first. */
void figures_sort(double *values, size_t count);

/* Sorts them, too. There is at least one. */
double median(double *values, size_t count);

#endif
