/*
 * Errands: commands sent into a cluster. An errand keeps the bytes of its
 * commands until they are answered, so that they can be sent again when the
 * node that got them says that another one is to have them, or that they have
 * to wait. It is a taker: what a node says is either handed on to the request,
 * or (a part of a split command) to a fan-out, or obeyed.
 *
 * One errand is a single command, or the commands of a batch that are in one
 * slot. Of a batch each is settled for itself, but MULTI to EXEC are one: if
 * any of them is redirected the rest is let run out unheard (EXECABORT), and
 * all of it goes again; what its requester was told before is not told twice.
 */
#ifndef MANAGER_ERRAND_H
#define MANAGER_ERRAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/framed.h"
#include "manager/pipeline.h"
#include "manager/policy.h"
#include "manager/slotmap.h"
#include "manager/taker.h"
#include "manager/turnstile.h"

/* Shorter commands need no memory of their own. */
#define ERRAND_INLINE 168

struct cluster;
struct fanout;

enum item_state {
    ITEM_DUE, /* to be sent (again) */
    ITEM_SENT,
    ITEM_BARRED, /* was not executed, and is not to be any more */
    ITEM_DONE
};

/* A command of a batch. */
struct errand_item {
    uint32_t index; /* of the request's commands */
    uint16_t group; /* the how manieth transaction it is of; 0: none */
    uint8_t state;
    bool told; /* its requester has the answer */
};

struct errand {
    struct taker taker; /* first */
    struct passer passer;
    struct cluster *cluster;
    struct request *req;   /* lives as long as any of it is not answered */
    uint64_t client;       /* its requester */
    struct fanout *fanout; /* whose part it is; NULL: it answers the request */
    struct errand *free;   /* in the pool */
    uint64_t patience_ns;  /* to be told TRYAGAIN until then; 0: was not yet */
    uint32_t part;         /* of the fan-out */
    uint32_t first;        /* a single command: its place in the request */
    uint32_t count;
    uint32_t hash;
    uint32_t due;  /* replies that have to come, ASKING's included */
    uint16_t node; /* where it was sent last */
    uint16_t ask;  /* where it is to go for once, with ASKING; NODE_NONE */
    uint8_t hops;
    uint8_t tries; /* after TRYAGAIN and its like, for the backoff */
    uint8_t lane;
    uint8_t route;   /* enum route: dedicated and control go by the side */
    bool replica;    /* a replica may answer it */
    bool detour;     /* it took the small lane for want of its own */
    bool asking;     /* it was sent with ASKING */
    bool redirected; /* a batch: something of it is to go again */
    bool waits;      /* a batch whose last is a WAIT for what is before it */
    uint8_t lost;    /* a part of a fan-out: why its reply was not kept */
    size_t len, first_len;
    char *data; /* `inlined`, or its own */
    struct source *source;
    struct blob *blobs;
    uint32_t nblobs;
    struct errand_item *items; /* of a batch; NULL: a single command */
    uint32_t *units;         /* of a batch sent again: what each reply is to */
    struct buffer collected; /* of a fan-out's part: a reply in parts */
    uint64_t again_ns;       /* a batch that is to go again: not before */
    uint64_t sent_ns;        /* when it was handed to its node last */
    uint64_t trace;          /* of its keys, see errand_order.c; 0: none yet */
    char inlined[ERRAND_INLINE];
};

/* Memory of all of them. */
struct errands {
    struct errand *free;
    struct errand **slabs;
    uint32_t slab_count;
};

void errands_release(struct errands *pool);

/* An errand with a copy of the run's commands [data, data + len) and what
 * belongs to them, for run->req. NULL: out of memory. */
struct errand *errand_new(struct cluster *c, const struct run *run,
                          const struct framed *commands, uint32_t count);
void errand_free(struct errand *e);

/* Begins: it passes the turnstile now or is held, or it is answered. */
void errand_enter(struct errand *e);

/* All of it that is not answered yet is answered so. Frees it. */
void errand_end(struct errand *e, enum reply_status status, const char *fmt,
                ...) PRINTF_LIKE(3, 4);

/* Its requester is gone, or its deadline has passed: settles it and returns
 * true. It is in no connection and not at the turnstile. */
bool errand_over(struct errand *e);

extern const struct turnstile_ops errand_turnstile;

#endif
