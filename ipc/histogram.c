/* Reading log-linear histograms. */
#include "ipc/histogram.h"

uint64_t histogram_low(size_t index)
{
    if (index < HISTOGRAM_SUB)
        return index;
    size_t shift = index / HISTOGRAM_SUB - 1;
    return (uint64_t)(HISTOGRAM_SUB + index % HISTOGRAM_SUB) << shift;
}

uint64_t histogram_high(size_t index)
{
    return histogram_low(index + 1);
}

double histogram_quantile(const struct histogram *h, double quantile)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += counter_get(&h->buckets[i]);
    if (total == 0)
        return 0;
    double rank = quantile * (double)total;
    double seen = 0;
    size_t last = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t n = counter_get(&h->buckets[i]);
        if (n == 0)
            continue;
        last = i;
        seen += (double)n;
        if (seen >= rank)
            break;
    }
    /* Values below HISTOGRAM_SUB have a bucket each and are exact. */
    if (last < HISTOGRAM_SUB)
        return (double)last;
    return ((double)histogram_low(last) + (double)histogram_high(last)) / 2;
}

void histogram_merge(struct histogram *sum, const struct histogram *h)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        counter_add(&sum->buckets[i], counter_get(&h->buckets[i]));
    counter_add(&sum->sum_ns, counter_get(&h->sum_ns));
    counter_add(&sum->count, counter_get(&h->count));
}

/* A counter only grows; a torn reading of two may still seem to shrink. */
static uint64_t grown(const _Atomic uint64_t *newer,
                      const _Atomic uint64_t *older)
{
    uint64_t a = counter_get(newer), b = counter_get(older);
    return a > b ? a - b : 0;
}

void histogram_since(struct histogram *out, const struct histogram *newer,
                     const struct histogram *older)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        atomic_store_explicit(&out->buckets[i],
                              grown(&newer->buckets[i], &older->buckets[i]),
                              memory_order_relaxed);
    atomic_store_explicit(&out->sum_ns, grown(&newer->sum_ns, &older->sum_ns),
                          memory_order_relaxed);
    atomic_store_explicit(&out->count, grown(&newer->count, &older->count),
                          memory_order_relaxed);
}
