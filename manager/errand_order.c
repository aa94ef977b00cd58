/*
 * The order on a key, where the turnstile alone can't keep it: of commands that
 * were sent one behind the other the first may be told to wait (TRYAGAIN,
 * CLUSTERDOWN, ASK), and by the time the second arrives the node may have
 * become able to execute it. Sent again, the first would come after it: so it
 * is answered instead.
 */
#include "manager/errand_reply.h"

#include <stdlib.h>
#include <string.h>

#include "manager/cluster_parts.h"

/* More of one errand's are taken for any. */
#define KEYS_MAX 32

/* Keys by their hashes: two that meet there by chance cost a command that could
 * have been sent again. */
struct keys {
    uint64_t hashes[KEYS_MAX];
    uint32_t count;
    bool more; /* than could be found: they may be any */
};

/* FNV-1a. */
static uint64_t hash_of(const struct resp_arg *key)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < key->len; i++)
        h = (h ^ (unsigned char)key->data[i]) * 0x100000001b3;
    return h;
}

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
                keys->hashes[keys->count++] = hash_of(&arg);
}

/* ---- one errand and another ---- */

/* Which of a batch's commands are asked about: all, those that were executed,
 * or may have been, or those that are still to be. */
enum which { WHICH_ALL, WHICH_OVER, WHICH_LEFT };

static bool is_of(const struct errand *e, uint32_t i, enum which which)
{
    if (e->items == NULL || which == WHICH_ALL)
        return true;
    return e->items[i].state == (which == WHICH_OVER ? ITEM_DONE : ITEM_DUE);
}

/* Of what only goes to a slot: any. */
static void find_keys(const struct errand *e, enum which which,
                      struct keys *keys)
{
    struct framed rest = framed_view(e->data, e->len, e->blobs, e->nblobs);
    struct framed command;
    keys->count = 0;
    keys->more = false;
    for (uint32_t i = 0;
         i < e->count && !keys->more && framed_next(&rest, &command) == ERR_OK;
         i++)
        if (is_of(e, i, which))
            add_keys(keys, e->cluster->keyspecs, &command);
    keys->more = keys->more || keys->count == 0;
}

static bool meet(const struct keys *x, const struct keys *y)
{
    for (uint32_t i = 0; i < x->count; i++)
        for (uint32_t j = 0; j < y->count; j++)
            if (x->hashes[i] == y->hashes[j])
                return true;
    return x->more || y->more;
}

/* One bit a key, kept: of many that are held each is compared with many that
 * are executed, and most of them do not meet. */
static uint64_t trace_of(struct errand *e)
{
    struct keys keys;
    if (e->trace != 0)
        return e->trace;
    find_keys(e, WHICH_ALL, &keys);
    for (uint32_t i = 0; i < keys.count; i++)
        e->trace |= UINT64_C(1) << keys.hashes[i] % 64;
    if (keys.more)
        e->trace = UINT64_MAX;
    return e->trace;
}

static bool share_a_key(struct errand *held, struct errand *by)
{
    struct keys x, y;
    if ((trace_of(held) & trace_of(by)) == 0)
        return false;
    find_keys(held, WHICH_LEFT, &x);
    find_keys(by, WHICH_OVER, &y);
    return meet(&x, &y);
}

bool errand_has_keys(const struct errand *e)
{
    struct keys keys;
    find_keys(e, WHICH_ALL, &keys);
    return keys.count > 1 || keys.more;
}

#define OVERTAKEN                                                              \
    "the cluster could not execute it at first, and has executed a later "     \
    "command on its key meanwhile; it was not executed"

void errand_overtaken(void *context, struct passer *held, struct passer *by)
{
    struct cluster *c = context;
    struct errand *e = errand_of(held);
    struct errand *other = errand_of(by);
    if (e->client != other->client || !share_a_key(e, other))
        return;
    turnstile_drop(&c->turnstile, held);
    errand_end(e, REPLY_UNAVAILABLE, OVERTAKEN);
}

/* ---- within a batch ---- */

/* A key of one of its commands. */
struct mention {
    uint64_t hash;
    uint32_t item;
};

/* Those of one key together, the last command first. */
static int compare(const void *a, const void *b)
{
    const struct mention *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->item > y->item ? -1 : x->item < y->item;
}

/* All keys of all of them. A command that may have any is in the way of those
 * before it (*before: of the last such that was executed), and what was
 * executed later in its own. ERR_NOMEM. */
static enum err find_mentions(struct errand *e, struct buffer *mentions,
                              uint32_t *before)
{
    struct framed rest = framed_view(e->data, e->len, e->blobs, e->nblobs);
    struct framed command;
    uint32_t last = e->count; /* that was executed; one is */
    while (last > 0 && e->items[last - 1].state != ITEM_DONE)
        last--;
    *before = 0;
    for (uint32_t i = 0; i < e->count && framed_next(&rest, &command) == ERR_OK;
         i++) {
        struct errand_item *item = &e->items[i];
        struct keys keys = {.count = 0};
        add_keys(&keys, e->cluster->keyspecs, &command);
        /* MULTI and EXEC have those of what is between them. */
        bool any = keys.more || (keys.count == 0 && item->group == 0);
        if (any && item->state == ITEM_DONE)
            *before = i;
        else if (any && i < last)
            item->state = ITEM_BARRED;
        for (uint32_t j = 0; j < keys.count; j++) {
            const struct mention mention = {keys.hashes[j], i};
            if (buffer_append(mentions, &mention, sizeof(mention)) != ERR_OK)
                return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

/* Bars what has a key with a later one that was executed. */
static void bar(struct errand *e, struct mention *mentions, size_t count)
{
    bool executed = false;
    if (count > 0)
        qsort(mentions, count, sizeof(*mentions), compare);
    for (size_t i = 0; i < count; i++) {
        struct errand_item *item = &e->items[mentions[i].item];
        if (i == 0 || mentions[i].hash != mentions[i - 1].hash)
            executed = false;
        if (item->state == ITEM_DONE)
            executed = true;
        else if (executed)
            item->state = ITEM_BARRED;
    }
}

static void settle(struct errand *e, struct errand_item *item)
{
    item->state = ITEM_BARRED;
    if (!item->told)
        answer_fail(e->cluster->answers, e->req, item->index, 1,
                    REPLY_UNAVAILABLE, OVERTAKEN);
    item->told = true;
}

/* One of a batch; of a transaction all of it. */
static void settle_all_of(struct errand *e, uint32_t which)
{
    uint16_t group = e->items[which].group;
    if (group == 0)
        settle(e, &e->items[which]);
    for (uint32_t i = 0; group != 0 && i < e->count; i++)
        if (e->items[i].group == group)
            settle(e, &e->items[i]);
}

void errand_overtaken_within(struct errand *e)
{
    struct buffer mentions = {0};
    uint32_t before;
    if (find_mentions(e, &mentions, &before) == ERR_OK)
        bar(e, (struct mention *)(void *)buffer_head(&mentions),
            buffer_len(&mentions) / sizeof(struct mention));
    else
        before = e->count; /* nobody knows */
    buffer_release(&mentions);
    for (uint32_t i = 0; i < e->count; i++)
        if (e->items[i].state == ITEM_BARRED ||
            (i < before && e->items[i].state == ITEM_DUE))
            settle_all_of(e, i);
}
