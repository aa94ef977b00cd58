/*
 * Random numbers from a seed: the same seed gives the same faults in the same
 * order (what they meet depends on the machine).
 */
#ifndef TESTS_CHAOS_DICE_H
#define TESTS_CHAOS_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

/* splitmix64 */
static inline uint64_t dice_next(struct dice *d)
{
    uint64_t z = d->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* 0 .. n-1 */
static inline unsigned dice_below(struct dice *d, unsigned n)
{
    return (unsigned)(dice_next(d) % n);
}

/* from .. to, both included */
static inline int dice_between(struct dice *d, int from, int to)
{
    return from + (int)dice_below(d, (unsigned)(to - from + 1));
}

static inline bool dice_chance(struct dice *d, unsigned percent)
{
    return dice_below(d, 100) < percent;
}

#endif
