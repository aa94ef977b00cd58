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

static void close_gate(struct turnstile *t, uint16_t slot)
{
    struct gate_row *row = &t->rows[slot];
    row->prev = TURNSTILE_NOWHERE;
    row->next = t->first;
    if (t->first != TURNSTILE_NOWHERE)
        t->rows[t->first].prev = slot;
    t->first = slot;
    t->gates[slot].closed = 1;
}

static void open_gate(struct turnstile *t, uint16_t slot)
{
    struct gate_row *row = &t->rows[slot];
    if (row->next != TURNSTILE_NOWHERE)
        t->rows[row->next].prev = row->prev;
    if (row->prev != TURNSTILE_NOWHERE)
        t->rows[row->prev].next = row->next;
    else
        t->first = row->next;
    row->held = row->back = NULL;
    t->gates[slot].closed = 0;
}

/* Whom it is put in front of, in a row whose last came later. Those that come
 * back do so in the order of coming, or nearly: the next one's place is near
 * that of the one before, and thousands may be on either side. */
static struct passer *place_of(const struct gate_row *row,
                               const struct passer *p)
{
    struct passer *at = row->back != NULL ? row->back : row->held;
    while (at->seq < p->seq)
        at = at->next;
    while (at != row->held && at->prev->seq > p->seq)
        at = at->prev;
    return at;
}

/* Puts it into its place: who comes back has often come before those that are
 * held. */
static void hold(struct turnstile *t, struct passer *p)
{
    struct gate_row *row = &t->rows[p->slot];
    t->held++;
    t->held_bytes += p->bytes;
    p->held = true;
    p->orderly = !p->loose;
    row->orderly += p->orderly;
    if (row->held == NULL) {
        close_gate(t, p->slot);
        row->held = p->next = p->prev = p;
        return;
    }
    bool last = p->seq > row->held->prev->seq;
    struct passer *before = last ? row->held : place_of(row, p);
    p->next = before;
    p->prev = before->prev;
    p->prev->next = p;
    p->next->prev = p;
    if (last)
        return;
    row->back = p;
    if (before == row->held)
        row->held = p;
}

void turnstile_drop(struct turnstile *t, struct passer *p)
{
    struct gate_row *row = &t->rows[p->slot];
    t->held--;
    t->held_bytes -= p->bytes;
    p->held = false;
    row->orderly -= p->orderly;
    if (p->next == p) {
        open_gate(t, p->slot);
        return;
    }
    p->next->prev = p->prev;
    p->prev->next = p->next;
    if (row->held == p)
        row->held = p->next;
    if (row->back == p)
        row->back = p->prev;
}

struct passer *turnstile_any(const struct turnstile *t)
{
    return t->first == TURNSTILE_NOWHERE ? NULL : t->rows[t->first].held;
}

/* ---- who passes ---- */

/* Whether one with this target goes along with those that are inside. */
static bool fits(const struct gate *g, const struct passer *p, uint16_t target)
{
    return p->loose || g->inside == 0 ||
           (g->at == target && g->inside < GATE_INSIDE_MAX && !g->alone &&
            !p->alone);
}

static void pass(struct turnstile *t, struct gate *g, struct passer *p,
                 uint16_t target)
{
    if (!p->loose) {
        g->inside++;
        g->at = target & (TURNSTILE_TARGETS - 1U);
        g->alone = p->alone;
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
    /* Where only loose ones are held nobody is overtaken. */
    if (!g->closed || (!p->loose && t->rows[p->slot].orderly == 0)) {
        uint16_t target = t->ops->target(t->context, p);
        if (target != TURNSTILE_NOWHERE && fits(g, p, target)) {
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

static void note_due(struct turnstile *t, uint16_t slot)
{
    if (t->rows[slot].due)
        return;
    t->rows[slot].due = true;
    t->due[t->due_count++] = slot;
}

void turnstile_leave(struct turnstile *t, struct passer *p)
{
    struct gate *g = &t->gates[p->slot];
    if (p->counted)
        g->inside--;
    p->counted = false;
    if (g->closed && g->inside == 0 && t->rows[p->slot].orderly > 0)
        note_due(t, p->slot);
}

void turnstile_overtook(struct turnstile *t, struct passer *p)
{
    struct passer *held =
        t->gates[p->slot].closed && !p->loose ? t->rows[p->slot].held : NULL;
    const struct passer *last = held != NULL ? held->prev : NULL;
    for (struct passer *next; held != NULL && held->seq < p->seq; held = next) {
        next = held != last ? held->next : NULL;
        if (!held->loose)
            t->ops->overtaken(t->context, held, p);
    }
}

void turnstile_executed(struct turnstile *t, struct passer *p)
{
    turnstile_overtook(t, p);
    turnstile_leave(t, p);
}

void turnstile_again(struct turnstile *t, struct passer *p,
                     uint64_t not_before_ns)
{
    p->not_before_ns = not_before_ns;
    hold(t, p);
    turnstile_leave(t, p);
    if (p->loose)
        note_due(t, p->slot);
}

/* Where one that is held can go now, behind a row or not; TURNSTILE_NOWHERE: it
 * has to wait. */
static uint16_t way_of(struct turnstile *t, struct passer *p, bool row,
                       uint64_t now)
{
    const struct gate *g = &t->gates[p->slot];
    if (p->not_before_ns > now || (!p->loose && g->inside > 0 && !row))
        return TURNSTILE_NOWHERE;
    uint16_t target = t->ops->target(t->context, p);
    return target != TURNSTILE_NOWHERE && fits(g, p, target)
               ? target
               : TURNSTILE_NOWHERE;
}

/* The longest row with one target. A loose one that can't go is passed by, and
 * the others of its gate with it: where it is to go, so are they. */
static void let_go(struct turnstile *t, uint16_t slot, uint64_t now)
{
    struct gate *g = &t->gates[slot];
    struct passer *p = g->closed ? t->rows[slot].held : NULL;
    const struct passer *last = p != NULL ? p->prev : NULL;
    bool row = false, nowhere = false;
    for (struct passer *next; p != NULL; p = next) {
        next = p != last ? p->next : NULL;
        if (p->loose && nowhere)
            continue;
        uint16_t target = way_of(t, p, row, now);
        if (target != TURNSTILE_NOWHERE) {
            row = row || !p->loose;
            turnstile_drop(t, p);
            pass(t, g, p, target);
        } else if (!p->loose) {
            return;
        } else {
            nowhere = p->not_before_ns <= now;
        }
    }
}

/* Looks at each that is held. */
static void look_at_all(struct turnstile *t, uint64_t now)
{
    uint16_t next;
    for (uint16_t i = t->first; i != TURNSTILE_NOWHERE; i = next) {
        next = t->rows[i].next;
        struct passer *p = t->rows[i].held, *last = p->prev;
        for (bool more = true; more;) {
            struct passer *after = p->next;
            more = p != last;
            t->ops->look(t->context, p); /* it may be gone now */
            p = after;
        }
        let_go(t, i, now);
    }
}

uint64_t turnstile_turn(struct turnstile *t, uint64_t now)
{
    while (t->due_count > 0) {
        uint16_t slot = t->due[--t->due_count];
        t->rows[slot].due = false;
        let_go(t, slot, now);
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
