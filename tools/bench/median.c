/* The middle of some figures. */
#include "tools/bench/median.h"

#include <assert.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void figures_sort(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
}

double median(double *values, size_t count)
{
    assert(count > 0);
    figures_sort(values, count);
    return count % 2 == 1 ? values[count / 2]
                          : (values[count / 2 - 1] + values[count / 2]) / 2;
}
