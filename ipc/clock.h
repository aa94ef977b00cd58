/* Time as this project uses it: nanoseconds on CLOCK_MONOTONIC, which all
 * processes of a host share. Deadlines are absolute; 0 means none. */
#ifndef IPC_CLOCK_H
#define IPC_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL

static inline uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The deadline `ms` from now; 0 ("none") for a negative `ms`. */
static inline uint64_t clock_deadline(int64_t ms)
{
    return ms < 0 ? 0 : clock_ns() + (uint64_t)ms * NS_PER_MS;
}

/* What poll(2) is to wait for until the deadline: rounded up, so that a waiter
 * does not wake a moment too early; -1 for no deadline; at most `cap_ms` if
 * that is not negative. */
static inline int clock_poll_ms(uint64_t deadline_ns, int cap_ms)
{
    if (deadline_ns == 0)
        return cap_ms;
    uint64_t now = clock_ns();
    if (now >= deadline_ns)
        return 0;
    uint64_t ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    if (cap_ms >= 0 && ms > (uint64_t)cap_ms)
        return cap_ms;
    return ms > 1000000000ULL ? 1000000000 : (int)ms;
}

#endif
