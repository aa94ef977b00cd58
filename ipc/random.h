/* Random numbers that nobody can guess: epochs, client and request ids. */
#ifndef IPC_RANDOM_H
#define IPC_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

/* Fills `buf` from the kernel (getrandom(2)). ERR_SYS only where the kernel
 * has no entropy source at all. */
MUST_CHECK enum err random_bytes(void *buf, size_t len);

/* A random number that is not 0. */
MUST_CHECK enum err random_id(uint64_t *id);

/* A stream of ids from one seed, for a path on which a system call each would
 * be felt: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
 * number generators", OOPSLA 2014) on a seed from the kernel. Never 0. */
struct random_stream {
    uint64_t state;
};

MUST_CHECK enum err random_stream_init(struct random_stream *s);
uint64_t random_stream_next(struct random_stream *s);

#endif
