/*
 * Log-linear histograms of times, in the manner of HdrHistogram: 32 buckets to
 * each power of two, so that a bucket is at most 3.2 percent wide and the middle
 * of it at most 1.6 percent from any value in it. From 1 ns to 36 minutes; more
 * counts as that.
 *
 * One writer, many readers in other processes: relaxed atomics, no locks. A
 * reader's copy can miss the newest values, never more.
 */
#ifndef IPC_HISTOGRAM_H
#define IPC_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_SUB (1U << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_TOP_BIT 40
#define HISTOGRAM_BUCKETS                                                      \
    (HISTOGRAM_SUB * (HISTOGRAM_TOP_BIT - HISTOGRAM_SUB_BITS + 2))

struct histogram {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline size_t histogram_index(uint64_t ns)
{
    if (ns < HISTOGRAM_SUB)
        return (size_t)ns;
    unsigned top = 63U - (unsigned)__builtin_clzll(ns);
    if (top > HISTOGRAM_TOP_BIT)
        return HISTOGRAM_BUCKETS - 1;
    unsigned shift = top - HISTOGRAM_SUB_BITS;
    return (size_t)(shift + 1) * HISTOGRAM_SUB +
           (size_t)((ns >> shift) & (HISTOGRAM_SUB - 1));
}

/* Adds to a counter that only this thread writes: a plain load and store. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, v + n, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    counter_add(&h->buckets[histogram_index(ns)], 1);
    counter_add(&h->sum_ns, ns);
    counter_add(&h->count, 1);
}

/* The least value of a bucket, and the least of the next one. */
uint64_t histogram_low(size_t index);
uint64_t histogram_high(size_t index);

/* The value below which `quantile` (0..1) of all values lie: the middle of its
 * bucket, in ns. 0 for an empty histogram. */
double histogram_quantile(const struct histogram *h, double quantile);

/* sum += h. */
void histogram_merge(struct histogram *sum, const struct histogram *h);

/* out = newer - older, of one histogram at two times: what came between. */
void histogram_since(struct histogram *out, const struct histogram *newer,
                     const struct histogram *older);

#endif
