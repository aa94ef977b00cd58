/*
 * Handles across fork().
 *
 * The library's only global state: a list of open handles, so that a handler
 * of pthread_atfork(3) can hold all locks while the process is copied, and in
 * the child close what is the parent's alone. Comparing pids would not do: a
 * child in a new pid namespace may have its parent's.
 */
#include "workers/handle.h"

#include <unistd.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;
static struct mqredis *handles;

static void before_fork(void)
{
    pthread_mutex_lock(&list_lock);
    for (struct mqredis *mq = handles; mq != NULL; mq = mq->next)
        pthread_mutex_lock(&mq->lock);
}

static void after_in_parent(void)
{
    for (struct mqredis *mq = handles; mq != NULL; mq = mq->next)
        pthread_mutex_unlock(&mq->lock);
    pthread_mutex_unlock(&list_lock);
}

/* Idle reply pipes of the parent: closed, never unlinked. */
static void disown_link(struct link *link)
{
    if (link == NULL)
        return;
    oneshot_pool_disown(&link->pool);
    link->watched = false;
}

/* Drops the parent's flights: the child must not hold their pipes open, for
 * then nobody would see when the parent is gone. */
static void disown_flights(struct mqredis *mq, struct flight_list *list)
{
    static const struct mqredis_error parents = {
        .status = MQREDIS_INVALID,
        .text = "submitted before fork: the request is the parent's",
    };
    while (list->first != NULL) {
        struct flight *f = list->first;
        flight_list_remove(list, f);
        disown_link(f->link);
        if (f->slot.fd >= 0)
            oneshot_disown(&f->slot);
        /* The request of a synchronous call is on another thread's stack. */
        if (f->sync)
            f->ncommands = 0;
        flight_land(mq, f, &parents);
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void adopt_in_child(struct mqredis *mq)
{
    /* The epoll set is shared with the parent: nothing may be taken out of it,
     * so it is closed first. */
    close_fd(&mq->epoll_fd);
    close_fd(&mq->event_fd);
    close_fd(&mq->timer_fd);
    mq->events = mq->signalled = mq->queue_watched = false;
    mq->sending = mq->polling = false;
    mq->timer_ns = 0;
    disown_link(mq->link);
    streams_disown(mq);
    disown_flights(mq, &mq->unsent);
    disown_flights(mq, &mq->flights);
    mq->async_flights = 0;
    if (mq->link != NULL) {
        mq->inherited = mq->link;
        mq->link = NULL;
    }
    /* Threads that slept on it are not here. glibc's needs no memory. */
    (void)!handle_init_changed(mq);
}

static void after_in_child(void)
{
    for (struct mqredis *mq = handles; mq != NULL; mq = mq->next) {
        adopt_in_child(mq);
        pthread_mutex_unlock(&mq->lock);
    }
    pthread_mutex_unlock(&list_lock);
}

bool fork_add(struct mqredis *mq)
{
    pthread_mutex_lock(&list_lock);
    if (!installed)
        installed =
            pthread_atfork(before_fork, after_in_parent, after_in_child) == 0;
    if (!installed) {
        pthread_mutex_unlock(&list_lock);
        return false;
    }
    mq->prev = NULL;
    mq->next = handles;
    if (handles != NULL)
        handles->prev = mq;
    handles = mq;
    pthread_mutex_unlock(&list_lock);
    return true;
}

void fork_remove(struct mqredis *mq)
{
    pthread_mutex_lock(&list_lock);
    if (mq->prev != NULL)
        mq->prev->next = mq->next;
    else
        handles = mq->next;
    if (mq->next != NULL)
        mq->next->prev = mq->prev;
    pthread_mutex_unlock(&list_lock);
}
