/*
 * Waiting for what was submitted.
 *
 * One thread at a time sleeps in epoll_wait for all of them (`polling`), reads
 * what comes and tells the others through `changed`; when it has what it came
 * for, the next one takes its place. Synchronous calls have no part in this:
 * each polls its own pipe.
 */
#include "workers/handle.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ipc/clock.h"

/* The longest sleep: flights that others sent meanwhile have deadlines too. */
#define TURN_MAX_NS NS_PER_S

#define EVENTS_MAX 64

/* ---- what is watched ---- */

static bool epoll_ready(struct mqredis *mq)
{
    if (mq->epoll_fd < 0)
        mq->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return mq->epoll_fd >= 0;
}

static bool watch(struct mqredis *mq, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    /* Idle reply pipes stay in the set. */
    return epoll_ctl(mq->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ||
           errno == EEXIST;
}

static void unwatch(struct mqredis *mq, int fd)
{
    if (mq->epoll_fd >= 0)
        epoll_ctl(mq->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

bool watch_flight(struct mqredis *mq, struct flight *f)
{
    if (!epoll_ready(mq))
        return false;
    if (!f->link->watched) {
        /* HUP is reported without being asked for. */
        if (!watch(mq, f->link->tx.receiver_fd, 0))
            return false;
        f->link->watched = true;
    }
    return watch(mq, f->slot.fd, EPOLLIN);
}

void unwatch_flight(struct mqredis *mq, const struct flight *f)
{
    /* Before the descriptor is closed: a forked child may hold a copy, and
     * then closing would not take it out of the set. */
    unwatch(mq, f->slot.fd);
}

void unwatch_link(struct mqredis *mq, struct link *link)
{
    if (link->watched)
        unwatch(mq, link->tx.receiver_fd);
    link->watched = false;
}

void watch_queue(struct mqredis *mq, bool on)
{
    if (on == mq->queue_watched || mq->link == NULL || !epoll_ready(mq))
        return;
    /* Exclusive: a free place must not wake every process that waits. Added
     * anew for each sleep, so that the line stays a line. */
    if (on)
        watch(mq, mq->link->tx.mq, EPOLLOUT | EPOLLEXCLUSIVE);
    else
        unwatch(mq, mq->link->tx.mq);
    mq->queue_watched = on;
}

/* ---- the caller's descriptor ---- */

void signal_events(struct mqredis *mq)
{
    if (mq->event_fd < 0 || mq->signalled)
        return;
    uint64_t one = 1;
    mq->signalled = write(mq->event_fd, &one, sizeof(one)) == sizeof(one);
}

void signal_unsent(struct mqredis *mq)
{
    if (mq->events && mq->unsent.first != NULL)
        signal_events(mq);
}

static void clear_events(struct mqredis *mq)
{
    uint64_t count;
    if (mq->event_fd >= 0 && mq->signalled &&
        read(mq->event_fd, &count, sizeof(count)) == sizeof(count))
        mq->signalled = false;
}

/* The earliest moment at which something ends by itself; 0: never. */
static uint64_t next_deadline(const struct mqredis *mq)
{
    uint64_t next = 0;
    for (const struct flight *f = mq->flights.first; f; f = f->next) {
        uint64_t end = f->sync ? 0 : flight_give_up_ns(f);
        if (end != 0 && (next == 0 || end < next))
            next = end;
    }
    for (const struct flight *f = mq->unsent.first; f; f = f->next) {
        if (f->deadline_ns != 0 && (next == 0 || f->deadline_ns < next))
            next = f->deadline_ns;
    }
    return next;
}

/* Sets timer_fd, which only matters to a poll loop of the caller's. */
void arm_timer(struct mqredis *mq)
{
    if (mq->timer_fd < 0)
        return;
    uint64_t next = next_deadline(mq);
    /* A timer that goes off too early finds nothing to do and is set again. */
    if (next == 0 || (mq->timer_ns != 0 && mq->timer_ns <= next))
        return;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next / NS_PER_S),
                                         .tv_nsec = (long)(next % NS_PER_S)}};
    if (timerfd_settime(mq->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) == 0)
        mq->timer_ns = next;
}

static void take_timer(struct mqredis *mq)
{
    uint64_t count;
    if (mq->timer_ns != 0 && clock_ns() >= mq->timer_ns &&
        read(mq->timer_fd, &count, sizeof(count)) == sizeof(count))
        mq->timer_ns = 0;
}

int mqredis_fd(struct mqredis *mq)
{
    pthread_mutex_lock(&mq->lock);
    bool ok = epoll_ready(mq);
    if (ok && mq->event_fd < 0) {
        mq->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ok = mq->event_fd >= 0 && watch(mq, mq->event_fd, EPOLLIN);
    }
    if (ok && mq->timer_fd < 0) {
        mq->timer_fd =
            timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        ok = mq->timer_fd >= 0 && watch(mq, mq->timer_fd, EPOLLIN);
    }
    if (ok && !mq->events) {
        mq->events = true;
        signal_events(mq);
    }
    int fd = ok ? mq->epoll_fd : -1;
    pthread_mutex_unlock(&mq->lock);
    return fd;
}

/* ---- taking what came ---- */

static void land(struct mqredis *mq, struct flight *f,
                 const struct mqredis_error *failure)
{
    flight_list_remove(&mq->flights, f);
    mq->async_flights--;
    flight_land(mq, f, failure);
    signal_unsent(mq); /* there is room in the window */
    pthread_cond_broadcast(&mq->changed);
}

/* Reads a flight's pipe; lands it if that ends it. */
static bool read_flight(struct mqredis *mq, struct flight *f)
{
    enum err e = flight_read(f);
    /* What is left are answers that nobody wants. */
    if (e == ERR_AGAIN && f->live == 0 && f->given_up)
        e = ERR_CLOSED;
    if (e == ERR_AGAIN)
        return false;
    struct mqredis_error why = {.status = MQREDIS_LOST};
    if (e != ERR_OK) {
        f->failed = true;
        flight_say_broken(mq, e, &why);
    }
    land(mq, f, &why);
    return true;
}

/* The manager of this link has gone: its flights land, one way or another. */
static void link_died(struct mqredis *mq, struct link *link)
{
    /* An event of a descriptor that has been closed meanwhile, and whose number
     * came back as this one? */
    if (mpsc_receiver_alive(&link->tx))
        return;
    struct flight *next;
    unwatch_link(mq, link);
    for (struct flight *f = mq->flights.first; f != NULL; f = next) {
        next = f->next;
        if (f->sync || f->link != link)
            continue;
        /* Its guardian may have left a certain answer. */
        if (read_flight(mq, f))
            continue;
        struct mqredis_error why;
        f->failed = true;
        flight_say_dead(mq, &why);
        land(mq, f, &why);
    }
}

static void take_event(struct mqredis *mq, const struct epoll_event *ev)
{
    int fd = ev->data.fd;
    if (fd == mq->event_fd || fd == mq->timer_fd)
        return;
    for (struct flight *f = mq->flights.first; f != NULL; f = f->next) {
        if (f->sync)
            continue;
        if (f->slot.fd == fd) {
            read_flight(mq, f);
            return;
        }
        if (f->link->tx.receiver_fd == fd && f->link->watched) {
            link_died(mq, f->link);
            return;
        }
    }
    const struct flight *unsent = mq->unsent.first;
    if (unsent != NULL && unsent->slot.fd == fd)
        return; /* its answer overtook the thread that is sending it */
    if (mq->link != NULL && mq->link->tx.receiver_fd == fd)
        /* Without flights nobody needs to know: the next use will. */
        unwatch_link(mq, mq->link);
    else if (mq->link != NULL && mq->queue_watched && mq->link->tx.mq == fd)
        watch_queue(mq, false);
    else
        /* Of a link that was left, or a pipe that a stream or a synchronous
         * call has now. */
        unwatch(mq, fd);
    /* A place in the queue, or nobody to wait for: the word is taken from the
     * descriptor, and may have come after the last try to send. */
    signal_unsent(mq);
}

static void expire(struct mqredis *mq)
{
    uint64_t now = clock_ns();
    struct flight *next;
    struct mqredis_error why;
    for (struct flight *f = mq->flights.first; f != NULL; f = next) {
        next = f->next;
        uint64_t end = f->sync ? 0 : flight_give_up_ns(f);
        if (end == 0 || now < end || read_flight(mq, f))
            continue;
        f->failed = true;
        flight_say_timeout(mq, f, now, &why);
        land(mq, f, &why);
    }
    for (struct flight *f = mq->unsent.first; f != NULL; f = next) {
        next = f->next;
        if (f->state == FLIGHT_SENDING || f->deadline_ns == 0 ||
            now < f->deadline_ns)
            continue;
        error_say(&why, MQREDIS_EXPIRED,
                  "channel '%s': out of time before it could be sent: not "
                  "executed",
                  mq->name);
        flight_list_remove(&mq->unsent, f);
        flight_land(mq, f, &why);
    }
}

static void take_events(struct mqredis *mq, const struct epoll_event *ev, int n)
{
    for (int i = 0; i < n; i++)
        take_event(mq, &ev[i]);
    uint64_t next = next_deadline(mq);
    if (next != 0 && clock_ns() >= next)
        expire(mq);
}

void take_locked(struct mqredis *mq)
{
    clear_events(mq);
    take_timer(mq);
    if (mq->epoll_fd >= 0 && !mq->polling) {
        struct epoll_event ev[EVENTS_MAX];
        int n = epoll_wait(mq->epoll_fd, ev, EVENTS_MAX, 0);
        take_events(mq, ev, n);
    }
}

void turn_locked(struct mqredis *mq, uint64_t deadline_ns)
{
    uint64_t now = clock_ns();
    uint64_t until = now + TURN_MAX_NS;
    if (deadline_ns != 0 && deadline_ns < until)
        until = deadline_ns;
    if (mq->polling || !epoll_ready(mq)) {
        struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_S),
                              .tv_nsec = (long)(until % NS_PER_S)};
        pthread_cond_timedwait(&mq->changed, &mq->lock, &ts);
        if (!mq->polling)
            take_events(mq, NULL, 0);
        return;
    }
    uint64_t next = next_deadline(mq);
    if (next != 0 && next < until)
        until = next;
    mq->polling = true;
    pthread_mutex_unlock(&mq->lock);
    struct epoll_event ev[EVENTS_MAX];
    int n = 0;
    uint64_t spin = handle_spin_until(mq, until);
    while (n == 0 && spin != 0 && clock_ns() < spin)
        n = epoll_wait(mq->epoll_fd, ev, EVENTS_MAX, 0);
    if (n == 0)
        n = epoll_wait(mq->epoll_fd, ev, EVENTS_MAX, clock_poll_ms(until, -1));
    pthread_mutex_lock(&mq->lock);
    mq->polling = false;
    clear_events(mq);
    take_timer(mq);
    take_events(mq, ev, n);
    /* Somebody else takes this place, or finds that there is no need. */
    pthread_cond_broadcast(&mq->changed);
}

/* ---- the public calls ---- */

static bool over(uint64_t deadline_ns)
{
    return deadline_ns != 0 && clock_ns() >= deadline_ns;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* Who waits for one request sends what was submitted after it, too, but sleeps
 * on the full queue for that no longer than its own request lasts. */
static uint64_t flush_end(const struct mqredis_request *r, uint64_t deadline_ns)
{
    return r->flight == NULL
               ? deadline_ns
               : earlier(deadline_ns, flight_give_up_ns(r->flight));
}

/* The same for whoever waits for any. */
static uint64_t flush_end_any(const struct mqredis *mq, uint64_t deadline_ns)
{
    const struct flight *f;
    for (f = mq->flights.first; f != NULL; f = f->next)
        if (!f->sync)
            deadline_ns = earlier(deadline_ns, flight_give_up_ns(f));
    for (f = mq->unsent.first; f != NULL; f = f->next)
        deadline_ns = earlier(deadline_ns, flight_give_up_ns(f));
    return deadline_ns;
}

static bool wait_locked(struct mqredis_request *r, uint64_t deadline_ns)
{
    struct mqredis *mq = r->mq;
    if (!r->done)
        flush_locked(mq, !mq->events, flush_end(r, deadline_ns));
    while (!r->done) {
        if (over(deadline_ns)) {
            take_locked(mq);
            break;
        }
        turn_locked(mq, deadline_ns);
        if (!r->done && mq->unsent.first != NULL)
            flush_locked(mq, !mq->events, flush_end(r, deadline_ns));
    }
    arm_timer(mq);
    return r->done;
}

bool mqredis_wait_done(struct mqredis_request *request, int64_t timeout_ms)
{
    if (request == NULL)
        return true;
    struct mqredis *mq = request->mq;
    uint64_t deadline = clock_deadline(timeout_ms);
    pthread_mutex_lock(&mq->lock);
    bool done = wait_locked(request, deadline);
    pthread_mutex_unlock(&mq->lock);
    return done;
}

/* Waits for the end of a request, which is then the caller's alone. */
static void wait_end(struct mqredis_request *r)
{
    pthread_mutex_lock(&r->mq->lock);
    wait_locked(r, 0);
    request_unlist(r->mq, r);
    pthread_mutex_unlock(&r->mq->lock);
}

struct mqredis_reply *mqredis_wait(struct mqredis_request *request)
{
    if (request == NULL)
        return reply_failure(MQREDIS_NOMEM, NULL, 0);
    wait_end(request);
    struct mqredis_reply *reply = reply_of_request(request);
    request_free(request);
    return reply;
}

struct mqredis_raw *mqredis_wait_raw(struct mqredis_request *request)
{
    if (request == NULL)
        return raw_failure(MQREDIS_NOMEM, "out of memory");
    wait_end(request);
    struct mqredis_raw *raw = raw_of_request(request);
    request_free(request);
    return raw;
}

struct mqredis_request *mqredis_wait_any(struct mqredis *mq, int64_t timeout_ms)
{
    uint64_t deadline = clock_deadline(timeout_ms);
    pthread_mutex_lock(&mq->lock);
    clear_events(mq);
    if (mq->unsent.first != NULL)
        flush_locked(mq, !mq->events, flush_end_any(mq, deadline));
    if (mq->done_first == NULL)
        take_locked(mq);
    while (mq->done_first == NULL && mq->pending > 0 && !over(deadline)) {
        turn_locked(mq, deadline);
        if (mq->unsent.first != NULL)
            flush_locked(mq, !mq->events, flush_end_any(mq, deadline));
    }
    struct mqredis_request *r = mq->done_first;
    if (r != NULL)
        request_unlist(mq, r);
    arm_timer(mq);
    pthread_mutex_unlock(&mq->lock);
    return r;
}

void mqredis_set_data(struct mqredis_request *request, void *data)
{
    if (request != NULL)
        request->data = data;
}

void *mqredis_data(const struct mqredis_request *request)
{
    return request == NULL ? NULL : request->data;
}
