/*
 * The order on a key, where the turnstile alone can't keep it: of commands that
 * were sent one behind the other the first may be told to wait (TRYAGAIN,
 * CLUSTERDOWN, ASK), and by the time the second arrives the node may have
 * become able to execute it. Sent again, the first would come after it: so it
 * is answered instead.
 */
#include "manager/errand_reply.h"

#include <string.h>

#include "manager/cluster_parts.h"

#define KEYS_MAX 32

struct keys {
    struct resp_arg items[KEYS_MAX];
    uint32_t count;
    bool more; /* than could be found: they may be any */
};

static void add_keys(struct keys *keys, const struct keyspecs *k,
                     const struct framed *command)
{
    uint32_t where[KEYS_MAX], found, argc;
    struct framed_args args;
    struct resp_arg arg;
    if (keyspecs_keys(k, command, where, KEYS_MAX, &found) != ERR_OK ||
        found > KEYS_MAX - keys->count ||
        framed_args(&args, command, &argc) != ERR_OK) {
        keys->more = true;
        return;
    }
    for (uint32_t i = 0; i < argc && framed_arg(&args, &arg, NULL) == ERR_OK;
         i++)
        for (uint32_t j = 0; j < found; j++)
            if (where[j] == i && arg.data != NULL && keys->count < KEYS_MAX)
                keys->items[keys->count++] = arg;
}

/* Those of its commands [first, last]; of what only goes to a slot: any. */
static void find_keys(const struct errand *e, uint32_t first, uint32_t last,
                      struct keys *keys)
{
    struct framed rest = framed_view(e->data, e->len, e->blobs, e->nblobs);
    struct framed command;
    keys->count = 0;
    keys->more = false;
    for (uint32_t i = 0; i <= last && framed_next(&rest, &command) == ERR_OK;
         i++)
        if (i >= first && !keys->more)
            add_keys(keys, e->cluster->keyspecs, &command);
    keys->more = keys->more || keys->count == 0;
}

static bool meet(const struct keys *x, const struct keys *y)
{
    for (uint32_t i = 0; i < x->count; i++)
        for (uint32_t j = 0; j < y->count; j++)
            if (x->items[i].len == y->items[j].len &&
                memcmp(x->items[i].data, y->items[j].data, x->items[i].len) ==
                    0)
                return true;
    return x->more || y->more;
}

static bool share_a_key(const struct errand *a, const struct errand *b)
{
    struct keys x, y;
    find_keys(a, 0, a->count - 1, &x);
    find_keys(b, 0, b->count - 1, &y);
    return meet(&x, &y);
}

#define OVERTAKEN                                                              \
    "the cluster could not execute it at first, and has executed a later "     \
    "command on its key meanwhile; it was not executed"

void errand_overtaken(void *context, struct passer *held, struct passer *by)
{
    struct cluster *c = context;
    struct errand *e = errand_of(held);
    const struct errand *other = errand_of(by);
    if (e->client != other->client || !share_a_key(e, other))
        return;
    turnstile_drop(&c->turnstile, held);
    errand_end(e, REPLY_UNAVAILABLE, OVERTAKEN);
}

/* One of a batch; of a transaction all of it. */
static void settle(struct errand *e, uint32_t which)
{
    uint16_t group = e->items[which].group;
    for (uint32_t i = 0; i < e->count; i++) {
        struct errand_item *item = &e->items[i];
        if (i != which && (group == 0 || item->group != group))
            continue;
        item->state = ITEM_DONE;
        if (!item->told)
            answer_fail(e->cluster->answers, e->req, item->index, 1,
                        REPLY_UNAVAILABLE, OVERTAKEN);
        item->told = true;
    }
}

void errand_overtaken_within(struct errand *e, const struct errand_item *by)
{
    struct keys own, keys;
    uint32_t last = (uint32_t)(by - e->items);
    find_keys(e, last, last, &own);
    for (uint32_t i = 0; i < last; i++) {
        const struct errand_item *item = &e->items[i];
        if (item->state != ITEM_DUE ||
            (by->group != 0 && item->group == by->group))
            continue;
        find_keys(e, i, i, &keys);
        if (meet(&own, &keys))
            settle(e, i);
    }
}
