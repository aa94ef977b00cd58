/* One fault at a time; several may be in effect together. */
#include "tests/chaos/faults.h"

#include <signal.h>

#include "ipc/clock.h"
#include "tests/chaos/cluster.h"
#include "tests/chaos/scarcity.h"

const char *const fault_names[FAULT_TYPES] = {
    [FAULT_WORKER_KILL] = "worker-kill",
    [FAULT_WORKER_TERM] = "worker-term",
    [FAULT_WORKER_STOP] = "worker-stop",
    [FAULT_WORKER_FILES] = "worker-nofile",
    [FAULT_WORKER_MEMORY] = "worker-memory",
    [FAULT_MANAGER_KILL] = "manager-kill",
    [FAULT_MANAGER_TERM] = "manager-term",
    [FAULT_MANAGER_STOP] = "manager-stop",
    [FAULT_MANAGER_FILES] = "manager-nofile",
    [FAULT_MANAGER_MEMORY] = "manager-memory",
    [FAULT_GUARDIAN_KILL] = "guardian-kill",
    [FAULT_BOTH_KILL] = "manager+guardian-kill",
    [FAULT_TAKEOVER] = "takeover",
    [FAULT_DISK] = "disk-full",
    [FAULT_REDIS_KILL] = "redis-kill",
    [FAULT_REDIS_TERM] = "redis-term",
    [FAULT_REDIS_STOP] = "redis-stop",
    [FAULT_DELAY] = "delay",
    [FAULT_CUT] = "cut",
    [FAULT_CRUMBS] = "crumbs",
    [FAULT_DEAF] = "deaf",
    [FAULT_MUTE] = "mute",
    [FAULT_CLOSED] = "closed",
    [FAULT_SLOT_MOVED] = "slot-moved",
    [FAULT_SLOT_AWAY] = "slot-away",
    [FAULT_CLIENTS_CUT] = "clients-cut",
};

/* How often, in relation to each other. */
static const unsigned weights[FAULT_STRUCK] = {
    [FAULT_WORKER_KILL] = 14,  [FAULT_WORKER_TERM] = 4,
    [FAULT_WORKER_STOP] = 10,  [FAULT_WORKER_FILES] = 3,
    [FAULT_WORKER_MEMORY] = 3, [FAULT_MANAGER_KILL] = 6,
    [FAULT_MANAGER_TERM] = 4,  [FAULT_MANAGER_STOP] = 5,
    [FAULT_MANAGER_FILES] = 3, [FAULT_MANAGER_MEMORY] = 3,
    [FAULT_GUARDIAN_KILL] = 2, [FAULT_BOTH_KILL] = 2,
    [FAULT_TAKEOVER] = 6,      [FAULT_DISK] = 3,
    [FAULT_REDIS_KILL] = 4,    [FAULT_REDIS_TERM] = 1,
    [FAULT_REDIS_STOP] = 4,    [FAULT_DELAY] = 6,
    [FAULT_CUT] = 8,           [FAULT_CRUMBS] = 4,
    [FAULT_DEAF] = 3,          [FAULT_MUTE] = 3,
    [FAULT_CLOSED] = 3,
};

static enum fault choose(struct dice *d)
{
    unsigned sum = 0, i = 0;
    for (unsigned k = 0; k < FAULT_STRUCK; k++)
        sum += weights[k];
    unsigned roll = dice_below(d, sum);
    while (roll >= weights[i])
        roll -= weights[i++];
    return (enum fault)i;
}

static bool hit_worker(struct world *w, enum fault fault)
{
    struct seat *seat = &w->seats[dice_below(&w->dice, w->seat_count)];
    int ms = dice_between(&w->dice, 5, 1500);
    if (seat->player.pid == 0)
        return false;
    world_note(w, "%s w%u (%ld)", fault_names[fault], seat->history->id,
               (long)seat->player.pid);
    if (fault == FAULT_WORKER_FILES || fault == FAULT_WORKER_MEMORY)
        return scarcity_limit(w, &seat->player, fault == FAULT_WORKER_FILES,
                              ms);
    if (fault == FAULT_WORKER_STOP) {
        world_stop(&seat->player, ms);
        return true;
    }
    world_resume(&seat->player);
    kill(seat->player.pid, fault == FAULT_WORKER_KILL ? SIGKILL : SIGTERM);
    return true;
}

static bool hit_manager(struct world *w, enum fault fault)
{
    struct manager *m = world_any_manager(w);
    int ms = dice_between(&w->dice, 5, 1500);
    if (m == NULL)
        return false;
    pid_t guardian = world_guardian(m);
    world_note(w, "%s %ld (guardian %ld)", fault_names[fault],
               (long)m->player.pid, (long)guardian);
    if (fault == FAULT_MANAGER_FILES || fault == FAULT_MANAGER_MEMORY)
        return scarcity_limit(w, &m->player, fault == FAULT_MANAGER_FILES, ms);
    if (fault == FAULT_GUARDIAN_KILL || fault == FAULT_BOTH_KILL) {
        if (guardian <= 0)
            return false;
        kill(guardian, SIGKILL);
    }
    if (fault == FAULT_MANAGER_STOP)
        world_stop(&m->player, ms);
    else if (fault == FAULT_MANAGER_TERM)
        world_end_manager(m, SIGTERM);
    else if (fault != FAULT_GUARDIAN_KILL)
        world_end_manager(m, SIGKILL);
    return true;
}

static struct server *any_server(struct world *w)
{
    return &w->servers[w->server_count > 1
                           ? dice_below(&w->dice, w->server_count)
                           : 0];
}

static bool hit_redis(struct world *w, enum fault fault)
{
    struct server *s = any_server(w);
    int ms = dice_between(&w->dice, 0, 1000);
    if (s->player.pid == 0)
        return false;
    if (fault != FAULT_REDIS_STOP &&
        (!w->plan->durable || (w->plan->cluster && !cluster_may_kill(w, s))))
        return false;
    world_note(w, "%s %ld", fault_names[fault], (long)s->player.pid);
    if (fault == FAULT_REDIS_STOP) {
        world_stop(&s->player, ms);
    } else if (fault == FAULT_REDIS_KILL) {
        world_kill_redis(w, s, ms);
    } else {
        world_resume(&s->player);
        s->back_ns = clock_deadline(ms);
        kill(s->player.pid, SIGTERM);
    }
    return true;
}

static bool hit_disk(struct world *w)
{
    int ms = dice_between(&w->dice, 5, 800);
    if (!scarcity_fill(w, ms))
        return false;
    world_note(w, "the disk is full for %d ms", ms);
    return true;
}

static bool hit_network(struct world *w, enum fault fault)
{
    struct server *s = any_server(w);
    struct proxy_control *c = s->proxy.control;
    int ms = dice_between(&w->dice, 20, 600);
    if (fault == FAULT_DELAY)
        c->delay_ms = dice_between(&w->dice, 1, 60);
    else if (fault == FAULT_CUT)
        c->cut_max = dice_between(&w->dice, 1, 3000);
    else if (fault == FAULT_CRUMBS)
        c->crumbs = true;
    else if (fault == FAULT_DEAF)
        c->deaf = true;
    else if (fault == FAULT_MUTE)
        c->mute = true;
    else
        c->closed = true;
    world_note(w, "proxy %u: %s for %d ms", (unsigned)(s - w->servers),
               fault_names[fault], ms);
    uint64_t until = clock_deadline(ms);
    if (until > s->heal_ns)
        s->heal_ns = until;
    return true;
}

void faults_strike(struct world *w, uint64_t done[FAULT_TYPES])
{
    enum fault fault = choose(&w->dice);
    bool hit;
    if (fault <= FAULT_WORKER_MEMORY)
        hit = hit_worker(w, fault);
    else if (fault <= FAULT_BOTH_KILL)
        hit = hit_manager(w, fault);
    else if (fault == FAULT_TAKEOVER)
        hit = world_managers(w) == 1 && world_start_manager(w, true);
    else if (fault == FAULT_DISK)
        hit = hit_disk(w);
    else if (fault <= FAULT_REDIS_STOP)
        hit = hit_redis(w, fault);
    else
        hit = hit_network(w, fault);
    done[fault] += hit;
}
