/* Gates, one a slot. */
#include "manager/turnstile.h"

#include <string.h>

#include "ipc/clock.h"

/* How often all that are held are looked at: for deadlines, for requesters who
 * are gone, and for who has waited long enough. */
#define LOOK_NS (10 * NS_PER_MS)

void turnstile_init(struct turnstile *t, const struct turnstile_ops *ops,
                    void *context, uint32_t limit, size_t limit_bytes)
{
    memset(t, 0, sizeof(*t));
    t->ops = ops;
    t->context = context;
    t->limit = limit;
    t->limit_bytes = limit_bytes;
    t->first = TURNSTILE_NOWHERE;
}

/* ---- who is held ---- */

static void list_gate(struct turnstile *t, struct gate *g, uint16_t index)
{
    g->prev = TURNSTILE_NOWHERE;
    g->next = t->first;
    if (t->first != TURNSTILE_NOWHERE)
        t->gates[t->first].prev = index;
    t->first = index;
}

static void unlist_gate(struct turnstile *t, const struct gate *g)
{
    if (g->next != TURNSTILE_NOWHERE)
        t->gates[g->next].prev = g->prev;
    if (g->prev != TURNSTILE_NOWHERE)
        t->gates[g->prev].next = g->next;
    else
        t->first = g->next;
}

/* Puts it into its place: who comes back has often come before those that are
 * held. */
static void hold(struct turnstile *t, struct passer *p)
{
    struct gate *g = &t->gates[p->slot];
    t->held++;
    t->held_bytes += p->bytes;
    p->held = true;
    if (g->held == NULL) {
        list_gate(t, g, p->slot);
        g->held = p->next = p->prev = p;
        return;
    }
    struct passer *before = g->held; /* the one it is put in front of */
    bool last = p->seq > before->prev->seq;
    while (!last && before->seq < p->seq)
        before = before->next;
    p->next = before;
    p->prev = before->prev;
    p->prev->next = p;
    p->next->prev = p;
    if (!last && before == g->held)
        g->held = p;
}

void turnstile_drop(struct turnstile *t, struct passer *p)
{
    struct gate *g = &t->gates[p->slot];
    t->held--;
    t->held_bytes -= p->bytes;
    p->held = false;
    if (p->next == p) {
        g->held = NULL;
        unlist_gate(t, g);
        return;
    }
    p->next->prev = p->prev;
    p->prev->next = p->next;
    if (g->held == p)
        g->held = p->next;
}

struct passer *turnstile_any(const struct turnstile *t)
{
    return t->first == TURNSTILE_NOWHERE ? NULL : t->gates[t->first].held;
}

/* ---- who passes ---- */

static void pass(struct turnstile *t, struct gate *g, struct passer *p,
                 uint16_t target)
{
    if (!p->loose) {
        g->inside++;
        g->at = target;
        p->counted = true;
    }
    t->ops->go(t->context, p, target);
}

enum err turnstile_enter(struct turnstile *t, struct passer *p)
{
    struct gate *g = &t->gates[p->slot];
    p->seq = ++t->seq;
    p->not_before_ns = 0;
    p->held = p->counted = false;
    if (g->held == NULL) {
        uint16_t target = t->ops->target(t->context, p);
        if (target != TURNSTILE_NOWHERE &&
            (p->loose || g->inside == 0 || g->at == target)) {
            pass(t, g, p, target);
            return ERR_OK;
        }
    }
    /* One that is over the bound by itself is held where it is the only one. */
    if (t->held >= t->limit ||
        (t->held > 0 && t->held_bytes + p->bytes > t->limit_bytes))
        return ERR_LIMIT;
    hold(t, p);
    return ERR_OK;
}

static void note_due(struct turnstile *t, struct gate *g)
{
    if (g->due)
        return;
    g->due = true;
    t->due[t->due_count++] = (uint16_t)(g - t->gates);
}

static void come_back(struct turnstile *t, struct passer *p)
{
    struct gate *g = &t->gates[p->slot];
    if (p->counted)
        g->inside--;
    p->counted = false;
    if (g->inside == 0 && g->held != NULL)
        note_due(t, g);
}

void turnstile_leave(struct turnstile *t, struct passer *p)
{
    come_back(t, p);
}

void turnstile_again(struct turnstile *t, struct passer *p,
                     uint64_t not_before_ns)
{
    p->not_before_ns = not_before_ns;
    hold(t, p);
    come_back(t, p);
}

/* The longest row with one target. */
static void let_go(struct turnstile *t, struct gate *g, uint64_t now)
{
    bool row = false;
    while (g->held != NULL) {
        struct passer *p = g->held;
        if (p->not_before_ns > now)
            return;
        if (!p->loose && g->inside > 0 && !row)
            return;
        uint16_t target = t->ops->target(t->context, p);
        if (target == TURNSTILE_NOWHERE ||
            (row && !p->loose && g->inside > 0 && target != g->at))
            return;
        row = row || !p->loose;
        turnstile_drop(t, p);
        pass(t, g, p, target);
    }
}

/* Looks at each that is held. */
static void look_at_all(struct turnstile *t, uint64_t now)
{
    uint16_t next;
    for (uint16_t i = t->first; i != TURNSTILE_NOWHERE; i = next) {
        struct gate *g = &t->gates[i];
        next = g->next;
        struct passer *p = g->held, *last = g->held->prev;
        for (bool more = true; more;) {
            struct passer *after = p->next;
            more = p != last;
            t->ops->look(t->context, p); /* it may be gone now */
            p = after;
        }
        let_go(t, g, now);
    }
}

uint64_t turnstile_turn(struct turnstile *t, uint64_t now)
{
    while (t->due_count > 0) {
        struct gate *g = &t->gates[t->due[--t->due_count]];
        g->due = false;
        let_go(t, g, now);
    }
    if (t->first == TURNSTILE_NOWHERE) {
        t->look_ns = 0;
        return 0;
    }
    if (now >= t->look_ns) {
        t->look_ns = now + LOOK_NS;
        look_at_all(t, now);
    }
    return t->first == TURNSTILE_NOWHERE ? 0 : t->look_ns;
}
