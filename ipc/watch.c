/* The watch cell: a seqlock over several slots. The ordering follows Boehm,
 * "Can seqlocks get along with programming language memory models?" (MSPC 2012):
 * the data are relaxed atomics between two fences. */
#include "ipc/watch.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"

#define READ_TRIES 1000

void watch_publish(struct watch *w, const void *value, size_t len)
{
    assert(len <= WATCH_VALUE_MAX);
    uint32_t version = atomic_load_explicit(&w->version, memory_order_relaxed);
    uint32_t next = version + 1 == 0 ? WATCH_SLOTS : version + 1;
    _Atomic uint64_t *slot = w->slots[next % WATCH_SLOTS];
    /* Whoever sees a byte of this write sees every earlier version too: pairs
     * with the acquire fence in watch_read. */
    atomic_thread_fence(memory_order_release);
    const char *from = value;
    for (size_t i = 0; i * 8 < len; i++) {
        uint64_t word = 0;
        size_t n = len - i * 8 < 8 ? len - i * 8 : 8;
        memcpy(&word, from + i * 8, n);
        atomic_store_explicit(&slot[i], word, memory_order_relaxed);
    }
    /* Pairs with the acquire load in watch_read. */
    atomic_store_explicit(&w->version, next, memory_order_release);
    syscall(SYS_futex, &w->version, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

enum err watch_read(const struct watch *w, void *value, size_t len,
                    uint32_t *version)
{
    assert(len <= WATCH_VALUE_MAX);
    char *to = value;
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t v = atomic_load_explicit(&w->version, memory_order_acquire);
        if (v == 0)
            return ERR_AGAIN;
        const _Atomic uint64_t *slot = w->slots[v % WATCH_SLOTS];
        for (size_t j = 0; j * 8 < len; j++) {
            uint64_t word =
                atomic_load_explicit(&slot[j], memory_order_relaxed);
            size_t n = len - j * 8 < 8 ? len - j * 8 : 8;
            memcpy(to + j * 8, &word, n);
        }
        atomic_thread_fence(memory_order_acquire);
        uint32_t now = atomic_load_explicit(&w->version, memory_order_relaxed);
        /* At version v + WATCH_SLOTS - 1 the writer may be in our slot. */
        if (now - v < WATCH_SLOTS - 1) {
            if (version != NULL)
                *version = v;
            return ERR_OK;
        }
    }
    return ERR_AGAIN;
}

enum err watch_wait(const struct watch *w, uint32_t seen, uint64_t deadline_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_S),
        .tv_nsec = (long)(deadline_ns % NS_PER_S),
    };
    for (;;) {
        if (atomic_load_explicit(&w->version, memory_order_acquire) != seen)
            return ERR_OK;
        /* FUTEX_WAIT_BITSET counts an absolute time on CLOCK_MONOTONIC. A
         * mapping without PROT_WRITE will do (the kernel only reads). */
        long r = syscall(SYS_futex, &w->version, FUTEX_WAIT_BITSET, seen,
                         deadline_ns ? &until : NULL, NULL,
                         FUTEX_BITSET_MATCH_ANY);
        if (r < 0 && errno == ETIMEDOUT)
            return ERR_TIMEOUT;
        if (r < 0 && errno != EAGAIN && errno != EINTR)
            return ERR_SYS;
    }
}
