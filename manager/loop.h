/*
 * The event loop: waits, and hands each ready descriptor to its handler. It
 * decides nothing. One epoll instance, level-triggered unless said otherwise.
 */
#ifndef MANAGER_LOOP_H
#define MANAGER_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "ipc/err.h"

/* Embedded by whoever owns a descriptor. An owner that is closed while events
 * are being handed out must stay in memory until loop_wait returns: a later
 * event of the same round may still name it (its fd is -1 then, and such
 * events are passed over). */
struct watcher {
    int fd; /* -1: not watched */
    uint32_t events;
    void (*ready)(void *owner, uint32_t events);
    void *owner;
};

struct loop {
    int epfd;
    bool crowded;     /* more may have been ready than loop_wait handed out */
    uint64_t spin_ns; /* looks again and again so long before it sleeps */
};

MUST_CHECK enum err loop_init(struct loop *loop);
void loop_release(struct loop *loop);

/* Begins to watch w->fd. `events` as in epoll_ctl(2); 0 still reports EPOLLERR
 * and EPOLLHUP. ERR_SYS. */
MUST_CHECK enum err loop_add(struct loop *loop, struct watcher *w, int fd,
                             uint32_t events,
                             void (*ready)(void *owner, uint32_t events),
                             void *owner);

/* Changes the events; free when they are the same. */
void loop_change(struct loop *loop, struct watcher *w, uint32_t events);

/* Stops watching; the descriptor is not closed. */
void loop_remove(struct loop *loop, struct watcher *w);

/* Waits until something is ready or `deadline_ns` (0: none), sets *now_ns to
 * the time it woke up, and hands out what is ready. *now_ns is set to the time
 * between the two, which handlers may go by: what they had from before the wait
 * may be old. Interrupted waits return at once. ERR_SYS. */
MUST_CHECK enum err loop_wait(struct loop *loop, uint64_t deadline_ns,
                              uint64_t *now_ns);

#endif
