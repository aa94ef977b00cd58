/* A timer that never goes off, but is cancelled whenever the clock is set. */
#include "manager/step.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"

/* Less than this may be the time between looking at two clocks. */
#define STEP_MIN_NS (int64_t)(20 * NS_PER_MS)

static int64_t offset(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * (int64_t)NS_PER_S + ts.tv_nsec -
           (int64_t)clock_ns();
}

static enum err arm(int fd)
{
    struct itimerspec never = {.it_value.tv_sec = INT32_MAX};
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    return timerfd_settime(fd, flags, &never, NULL) < 0 ? ERR_SYS : ERR_OK;
}

static void ready(void *owner, uint32_t events)
{
    struct step *s = owner;
    uint64_t count;
    (void)events;
    /* ECANCELED: the clock was set. Asked anew before the clock is read, so
     * that no step goes unnoticed. */
    ssize_t n = read(s->watcher.fd, &count, sizeof(count));
    if (n < 0 && errno == EAGAIN)
        return;
    (void)arm(s->watcher.fd);
    int64_t before = s->offset_ns;
    s->offset_ns = offset();
    if (before - s->offset_ns >= STEP_MIN_NS)
        s->back(s->owner, (uint64_t)(before - s->offset_ns));
}

enum err step_open(struct step *s, struct loop *loop,
                   void (*back)(void *owner, uint64_t ns), void *owner)
{
    *s = (struct step){.watcher.fd = -1, .back = back, .owner = owner};
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return ERR_SYS;
    enum err e = arm(fd);
    s->offset_ns = offset();
    if (e == ERR_OK)
        e = loop_add(loop, &s->watcher, fd, EPOLLIN, ready, s);
    if (e != ERR_OK)
        close(fd);
    return e;
}

void step_close(struct step *s, struct loop *loop)
{
    int fd = s->watcher.fd;
    if (s->back == NULL || fd < 0)
        return;
    loop_remove(loop, &s->watcher);
    close(fd);
}
