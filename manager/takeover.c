/* The steps of a takeover, each side's. succession.c walks them. */
#include "manager/takeover.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "manager/control.h"

/* ---- the old one ---- */

enum err handover_begin(struct handover *h, pid_t successor, uint64_t until_ns)
{
    if (h->step != HANDOVER_NONE)
        return ERR_BUSY;
    int fd = (int)syscall(SYS_pidfd_open, successor, 0);
    if (fd < 0)
        return ERR_ABSENT;
    *h = (struct handover){.step = HANDOVER_ANSWERING,
                           .successor = successor,
                           .pidfd = fd,
                           .until_ns = until_ns};
    return ERR_OK;
}

bool handover_forsaken(const struct handover *h)
{
    struct pollfd p = {.fd = h->pidfd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

void handover_unlock(struct handover *h, int lock_fd)
{
    flock(lock_fd, LOCK_UN);
    h->step = HANDOVER_UNLOCKED;
}

bool handover_taken(int lock_fd)
{
    /* Ours for a moment where it is free: a successor that tries just then
     * tries again. Where it can't be looked at, the channel is left to whom it
     * was offered. */
    if (flock(lock_fd, LOCK_SH | LOCK_NB) < 0)
        return errno != EINTR;
    flock(lock_fd, LOCK_UN);
    return false;
}

bool handover_relock(struct handover *h, int lock_fd)
{
    if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0)
        return false;
    handover_end(h, HANDOVER_NONE);
    return true;
}

void handover_end(struct handover *h, enum handover_step step)
{
    if (h->step != HANDOVER_NONE && h->pidfd >= 0)
        close(h->pidfd);
    h->pidfd = -1;
    h->step = step;
}

/* ---- the new one ---- */

void takeover_begin(struct takeover *t, pid_t old, uint64_t until_ns)
{
    t->old = old;
    t->step = TAKEOVER_CONNECTING;
    t->until_ns = until_ns;
}

enum err takeover_ask(struct takeover *t, const struct channel *ch,
                      uint64_t until_ns, struct err_text *why)
{
    char line[40];
    snprintf(line, sizeof(line), "takeover %ld\n", (long)getpid());
    enum err e = control_send(ch, line);
    if (e != ERR_OK)
        return err_say(why, e, "takeover: the old manager does not listen (%s)",
                       e == ERR_SYS ? strerror(errno) : err_str(e));
    t->step = TAKEOVER_WAITING;
    t->until_ns = until_ns;
    return ERR_OK;
}

enum err takeover_try(const struct takeover *t, const struct channel *ch,
                      int *lock_fd, pid_t *holder)
{
    struct err_text ignored;
    enum err e = channel_lock(ch, getpid(), 0, lock_fd, holder, &ignored);
    /* 0: it was not there to be read, for it was just being written. */
    bool same = t->old == 0 || *holder == 0 || *holder == t->old;
    if (e == ERR_BUSY)
        return same ? ERR_AGAIN : ERR_BUSY;
    if (e != ERR_OK)
        return ERR_CLOSED;
    /* Looked up now: whoever had the lock shows its status once it serves. */
    const struct status *status;
    struct manager_state state;
    if (status_open(ch, &status, &ignored) != ERR_OK)
        return ERR_CLOSED;
    bool drained = status_read_state(status, &state, NULL) == ERR_OK &&
                   state.kind == STATE_CLOSED;
    status_unmap(status);
    return drained ? ERR_OK : ERR_CLOSED;
}

void takeover_end(struct takeover *t)
{
    t->step = TAKEOVER_NONE;
}
