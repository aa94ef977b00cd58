/*
 * How long the readers of long replies may hold up a connection, all together.
 *
 * While one lags, the connection is not read, and everybody behind waits. One
 * that was not scheduled for a while deserves that; one after the other who
 * does not read, or just enough to seem alive, does not. So holding draws on a
 * budget, which time without holding fills again at half its pace.
 */
#ifndef MANAGER_PATIENCE_H
#define MANAGER_PATIENCE_H

#include <stdint.h>

#include "manager/readers.h"

/* Zeroed: the budget is full. */
struct patience {
    uint64_t left_ns;
    uint64_t since_ns;           /* up to here it is accounted */
    const struct reader *holder; /* NULL: nobody holds the connection up */
    uint64_t mark;               /* what the holder had taken by then */
};

/* The connection is held up by `r` at `now_ns`: how much is left for that, at
 * most `most_ns`. `rate`, if not 0: whoever takes so many bytes in a second may
 * go on. */
uint64_t patience_hold(struct patience *p, const struct reader *r,
                       uint64_t most_ns, uint64_t rate, uint64_t now_ns);

/* It is held up no more. */
void patience_end(struct patience *p, uint64_t now_ns);

#endif
