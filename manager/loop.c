/* epoll(7) behind five functions. */
#include "manager/loop.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "ipc/clock.h"

#define EVENTS_PER_ROUND 128

enum err loop_init(struct loop *loop)
{
    loop->crowded = false;
    loop->spin_ns = 0;
    loop->epfd = epoll_create1(EPOLL_CLOEXEC);
    return loop->epfd < 0 ? ERR_SYS : ERR_OK;
}

void loop_release(struct loop *loop)
{
    if (loop->epfd >= 0)
        close(loop->epfd);
    loop->epfd = -1;
}

enum err loop_add(struct loop *loop, struct watcher *w, int fd, uint32_t events,
                  void (*ready)(void *owner, uint32_t events), void *owner)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return ERR_SYS;
    w->fd = fd;
    w->events = events;
    w->ready = ready;
    w->owner = owner;
    return ERR_OK;
}

void loop_change(struct loop *loop, struct watcher *w, uint32_t events)
{
    if (w->fd < 0 || w->events == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = w};
    /* Fails for no reason but a broken caller: the descriptor is there. */
    if (epoll_ctl(loop->epfd, EPOLL_CTL_MOD, w->fd, &ev) == 0)
        w->events = events;
}

void loop_remove(struct loop *loop, struct watcher *w)
{
    if (w->fd < 0)
        return;
    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}

/* Looks without sleeping, for a while: who is awake need not be woken, which
 * takes longer than most replies of Redis. */
static int spin(const struct loop *loop, struct epoll_event *ready,
                uint64_t deadline_ns)
{
    uint64_t now = clock_ns();
    uint64_t until = now + loop->spin_ns;
    if (deadline_ns != 0 && deadline_ns < until)
        until = deadline_ns;
    int n = 0;
    while (n == 0 && now < until) {
        n = epoll_wait(loop->epfd, ready, EVENTS_PER_ROUND, 0);
        now = clock_ns();
    }
    return n;
}

enum err loop_wait(struct loop *loop, uint64_t deadline_ns, uint64_t *now_ns)
{
    struct epoll_event ready[EVENTS_PER_ROUND];
    int n = loop->spin_ns == 0 ? 0 : spin(loop, ready, deadline_ns);
    if (n == 0)
        n = epoll_wait(loop->epfd, ready, EVENTS_PER_ROUND,
                       clock_poll_ms(deadline_ns, -1));
    *now_ns = clock_ns();
    loop->crowded = n == EVENTS_PER_ROUND;
    if (n < 0)
        return errno == EINTR ? ERR_OK : ERR_SYS;
    for (int i = 0; i < n; i++) {
        struct watcher *w = ready[i].data.ptr;
        if (w->fd >= 0)
            w->ready(w->owner, ready[i].events);
    }
    return ERR_OK;
}
