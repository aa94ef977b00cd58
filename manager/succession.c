/*
 * Succession: how a manager goes from step to step of a takeover, as the old
 * one or as the new one, and what it makes of the other's death. takeover.h
 * draws the steps.
 */
#include "manager/manager.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "manager/log.h"

/* How soon to look again at what no descriptor tells. */
#define SUCCESSION_TICK_NS NS_PER_MS

/* ---- the old one ---- */

void manager_hand_over(struct manager *m, pid_t successor)
{
    enum err e = ERR_BUSY;
    if (!m->draining && !m->done)
        e = handover_begin(&m->handover, successor,
                           clock_deadline(m->options->drain_timeout_ms));
    if (e != ERR_OK) {
        log_warn("takeover by pid %ld refused: %s", (long)successor,
                 e == ERR_BUSY ? "already ending" : "no such process here");
        return;
    }
    log_info("handing over to pid %ld: answering %u commands in flight",
             (long)successor, m->answers.inflight);
    manager_publish(m);
}

/* Whether the channel is as we left it. A successor that took it for a moment
 * has shown its own status, or made another `receiver`, at which nobody would
 * find us. */
static bool still_ours(const struct manager *m)
{
    struct stat mine, there;
    struct err_text ignored;
    const struct status *status;
    struct manager_state state;
    if (fstat(m->rx.receiver_fd, &mine) < 0 ||
        fstatat(m->channel.dirfd, "receiver", &there, AT_SYMLINK_NOFOLLOW) <
            0 ||
        mine.st_ino != there.st_ino || mine.st_dev != there.st_dev ||
        status_open(&m->channel, &status, &ignored) != ERR_OK)
        return false;
    bool ours = status_read_state(status, &state, NULL) == ERR_OK &&
                state.pid == (int32_t)getpid();
    status_unmap(status);
    return ours;
}

static void start_afresh(struct manager *m)
{
    log_warn("the successor died after it had changed the channel: starting "
             "afresh");
    guardian_dismiss(&m->guardian);
    m->again = true;
    m->done = true;
}

static void go_on(struct manager *m)
{
    log_warn("the successor died before it took over: going on");
    handover_end(&m->handover, HANDOVER_NONE);
    manager_publish(m);
}

void manager_let_go(struct manager *m)
{
    log_info("handed over to pid %ld", (long)m->handover.successor);
    handover_end(&m->handover, HANDOVER_DONE);
    pubsub_retire(m->pubsub);
    guardian_dismiss(&m->guardian);
    close(m->rx.receiver_fd);
    m->rx.receiver_fd = -1;
    control_close(&m->control, &m->loop);
    m->draining = true;
    m->drain_until_ns = clock_deadline(m->options->drain_timeout_ms);
}

uint64_t manager_tick_handover(struct manager *m, uint64_t now)
{
    struct handover *h = &m->handover;
    switch (h->step) {
    case HANDOVER_NONE:
    case HANDOVER_DONE:
        return 0;
    case HANDOVER_ANSWERING:
        if (handover_forsaken(h)) {
            go_on(m);
            return 0;
        }
        if (routes_shared_idle(&m->routes) || now >= h->until_ns) {
            status_set_state(m->status, &m->state, STATE_CLOSED);
            handover_unlock(h, m->lock_fd);
        }
        break;
    case HANDOVER_UNLOCKED:
        if (handover_taken(m->lock_fd)) {
            manager_let_go(m);
        } else if (handover_forsaken(h) && handover_relock(h, m->lock_fd)) {
            if (still_ours(m))
                go_on(m);
            else
                start_afresh(m);
            return 0;
        }
        break;
    }
    return now + SUCCESSION_TICK_NS;
}

/* ---- the new one ---- */

static void fail_takeover(struct manager *m, const char *why)
{
    log_error("takeover: %s; the old manager goes on", why);
    m->exit_status = EX_UNAVAILABLE;
    m->done = true;
}

uint64_t manager_tick_takeover(struct manager *m, uint64_t now)
{
    struct takeover *t = &m->takeover;
    struct err_text why;
    if (t->step == TAKEOVER_NONE)
        return 0;
    if (m->draining) {
        fail_takeover(m, "told to end");
        return 0;
    }
    if (t->step == TAKEOVER_CONNECTING) {
        if (routes_ready(&m->routes)) {
            if (takeover_ask(
                    t, &m->channel,
                    clock_deadline(2 * m->options->drain_timeout_ms + 5000),
                    &why) != ERR_OK)
                fail_takeover(m, why.text);
        } else if (now >= t->until_ns) {
            fail_takeover(m, "no connection to Redis");
        }
        return t->step == TAKEOVER_WAITING ? now + SUCCESSION_TICK_NS
                                           : t->until_ns;
    }
    pid_t holder;
    enum err e = takeover_try(t, &m->channel, &m->lock_fd, &holder);
    if (e == ERR_AGAIN) {
        if (now >= t->until_ns)
            fail_takeover(m, "the old manager did not let go in time");
        return now + SUCCESSION_TICK_NS;
    }
    if (e == ERR_BUSY) {
        log_error("takeover: pid %ld took the channel first, and serves it",
                  (long)holder);
        m->exit_status = EX_TEMPFAIL;
        m->done = true;
        return 0;
    }
    takeover_end(t);
    if (e == ERR_OK)
        e = manager_own(m, &why);
    else
        err_say(&why, e, "the old manager died in the middle of it");
    if (e == ERR_OK) {
        manager_publish(m);
        manager_announce(m);
    } else {
        log_warn("takeover: %s: starting afresh", why.text);
        m->again = true;
        m->done = true;
    }
    return 0;
}
