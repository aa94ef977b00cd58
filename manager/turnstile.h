/*
 * The turnstile: keeps the order of commands on each key while a cluster's
 * slots move and its masters die.
 *
 * As long as all goes well a command passes straight to its slot's master, and
 * is merely counted. Once one of a slot has to be sent again (MOVED, ASK,
 * TRYAGAIN, a connection that broke before it was written), or can't be sent
 * now, the slot's gate closes: who comes later is held, in the order of coming.
 * When all that had passed are back, the longest row of held ones that have one
 * and the same target goes, and so on until none is held. One that may not get
 * through at its next try, either, goes alone: who is sent behind it could be
 * executed without it. Loose ones, which keep no order, hold up nobody else.
 *
 *      slot 7:   passed, at node 2          held, in the order of coming
 *               [ 14 ] [ 17 ]               ( 15 > 3 ) ( 18 ) ( 19 )
 *
 * It knows nothing of connections: its owner says where one would go, and
 * sends it. Nothing waits for another slot's sake; how many are held is
 * bounded, so that a dead master's slots leave room for the others.
 */
#ifndef MANAGER_TURNSTILE_H
#define MANAGER_TURNSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/slot.h"

/* One more gate than there are slots: for commands without keys. */
#define TURNSTILE_KEYLESS SLOTS
#define TURNSTILE_NOWHERE UINT16_MAX
/* Targets are below that. */
#define TURNSTILE_TARGETS 0x8000U

/* Embedded by what passes. */
struct passer {
    struct passer *next, *prev; /* of those held at the same gate; a ring */
    uint64_t seq;               /* the order of coming */
    uint64_t not_before_ns;     /* is held until then; 0: at once */
    size_t bytes;               /* that it keeps */
    uint16_t slot;              /* or TURNSTILE_KEYLESS */
    bool loose;                 /* keeps no order: it is never counted */
    bool alone;                 /* passes when nobody is inside, and nobody with
                                   it; not of loose ones */
    bool held, counted;
    bool orderly; /* it was not loose when it was held */
};

struct turnstile_ops {
    /* Where it would go now; TURNSTILE_NOWHERE: it can't. */
    uint16_t (*target)(void *context, struct passer *p);
    /* Sends it there. May call turnstile_leave for it, if that fails. */
    void (*go)(void *context, struct passer *p, uint16_t target);
    /* It is held: looks whether it is to be held on. Else settles what becomes
     * of it, after turnstile_drop. */
    void (*look)(void *context, struct passer *p);
    /* `by`, which came later, was executed, or some of it, while this one is
     * held: may settle what becomes of it, after turnstile_drop. */
    void (*overtaken)(void *context, struct passer *held, struct passer *by);
};

/* All that passing needs: keys are anywhere, and what is small stays in the
 * processor's caches. */
struct gate {
    uint16_t at : 15;     /* where those are that are inside */
    uint16_t alone : 1;   /* who is inside wants to be that */
    uint16_t inside : 15; /* passed and not back; at most GATE_INSIDE_MAX */
    uint16_t closed : 1;  /* somebody is held */
};

#define GATE_INSIDE_MAX 0x7fff

/* Those held at a gate. */
struct gate_row {
    struct passer *held; /* the first */
    struct passer *back; /* near who came back last; NULL: nobody did */
    uint32_t orderly;    /* of them, that keep an order */
    uint16_t next, prev; /* gates that hold somebody; a list */
    bool due;            /* is on the list of gates to be looked at */
};

struct turnstile {
    const struct turnstile_ops *ops;
    void *context;
    uint64_t seq;
    uint32_t held;
    uint32_t limit; /* of those held that never passed */
    size_t held_bytes, limit_bytes;
    uint16_t first; /* gate that holds somebody; TURNSTILE_NOWHERE: none */
    uint32_t due_count;
    uint64_t look_ns; /* when all that hold are to be looked at next */
    uint16_t due[SLOTS + 1];
    struct gate gates[SLOTS + 1];
    struct gate_row rows[SLOTS + 1];
};

/* Large: on the heap. `ops` and `context` are borrowed. */
void turnstile_init(struct turnstile *t, const struct turnstile_ops *ops,
                    void *context, uint32_t limit, size_t limit_bytes);

/* One comes, with slot, loose and bytes set: it goes or is held. ERR_LIMIT:
 * neither, for too many are held. */
MUST_CHECK enum err turnstile_enter(struct turnstile *t, struct passer *p);

/* One that passed is back for good. */
void turnstile_leave(struct turnstile *t, struct passer *p);

/* The same, and it was executed, or may have been. */
void turnstile_executed(struct turnstile *t, struct passer *p);

/* Of one that passed, and is to go again, some was executed, or may have been.
 */
void turnstile_overtook(struct turnstile *t, struct passer *p);

/* One that passed is to go again, in its old place and not before that time. */
void turnstile_again(struct turnstile *t, struct passer *p,
                     uint64_t not_before_ns);

/* One that is held goes away. */
void turnstile_drop(struct turnstile *t, struct passer *p);

/* What can pass now may be more than before: the next turn looks at all. */
static inline void turnstile_look(struct turnstile *t)
{
    t->look_ns = 1;
}

/* Lets pass who can. Returns when it wants to be called next (0: no wish). */
uint64_t turnstile_turn(struct turnstile *t, uint64_t now);

/* The one that was held longest at the first gate; NULL: nobody is. */
struct passer *turnstile_any(const struct turnstile *t);

#endif
