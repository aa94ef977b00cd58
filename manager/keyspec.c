/*
 * The way of one command.
 *
 * Most commands have one key, at a place that is known beforehand: one look
 * into the table, one CRC. Of the others the ranges of their keys are found
 * first, and then one walk over the arguments hashes what is in them.
 */
#include "manager/keyspec_look.h"

#include <string.h>

#include "manager/slot.h"

/* ---- the command ---- */

static const struct keyspec_entry *find(const struct keyspecs *k,
                                        const char *name, size_t len)
{
    if (name == NULL || len > NAME_KEY_MAX)
        return NULL;
    const struct keyspec_entry *e = keyspec_slot(k->slots, k->mask, name, len);
    return e->name == NULL ? NULL : e;
}

static const struct keyspec_entry *find_sub(const struct keyspecs *k,
                                            const struct keyspec_entry *e,
                                            const struct resp_arg *sub)
{
    char key[NAME_KEY_MAX];
    size_t len = e->len + 1 + sub->len;
    if (sub->data == NULL || sub->len > sizeof(key) || len > sizeof(key))
        return e;
    memcpy(key, e->name, e->len);
    key[e->len] = '|';
    memcpy(key + e->len + 1, sub->data, sub->len);
    const struct keyspec_entry *s = find(k, key, len);
    return s == NULL ? e : s;
}

/* Finds the entry; NULL too for what Redis refuses by the number of its
 * arguments. */
static enum err look_at(struct look *l, const struct keyspecs *k,
                        const struct framed *command)
{
    enum err err = look_begin(l, command);
    if (err != ERR_OK)
        return err;
    const struct keyspec_entry *e = find(k, l->first[0].data, l->first[0].len);
    if (e != NULL && e->has_sub && l->argc > 1) {
        if (l->kept == 1 && look_keep(l) != ERR_OK)
            return ERR_PROTO;
        e = find_sub(k, e, &l->first[1]);
    }
    if (e != NULL) {
        int32_t arity = e->command->arity;
        bool fits = arity >= 0 ? l->argc == (uint32_t)arity
                               : l->argc >= (uint32_t)-arity;
        e = fits ? e : NULL;
    }
    l->entry = e;
    return ERR_OK;
}

static enum err quick_way(struct look *l, struct way *way)
{
    const struct keyspec_entry *e = l->entry;
    struct resp_arg *key = &l->first[e->quick < ARGS_KEPT ? e->quick : 0];
    if (e->quick >= l->argc) {
        *way = (struct way){.spread = SPREAD_ANY};
        return ERR_OK;
    }
    while (l->kept <= e->quick && l->kept < ARGS_KEPT) {
        if (look_keep(l) != ERR_OK)
            return ERR_PROTO;
    }
    if (e->quick >= ARGS_KEPT && look_fetch(l, e->quick, key) != ERR_OK)
        return ERR_PROTO;
    if (key->data == NULL)
        return ERR_INVALID;
    *way = (struct way){
        .spread = SPREAD_SLOT,
        .slot = slot_of_key(key->data, key->len),
        .readonly = e->command->readonly,
        .nkeys = 1,
    };
    return ERR_OK;
}

static bool in_ranges(const struct ranges *r, uint32_t index)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct range *range = &r->items[i];
        if (index >= range->first && index <= range->last &&
            (index - range->first) % range->step == 0)
            return true;
    }
    return false;
}

struct hashing {
    struct visit visit;
    const struct ranges *ranges;
    uint32_t hashed;
    uint16_t slot;
    bool large, differ;
};

static bool hash_one(struct visit *visit, uint32_t index,
                     const struct resp_arg *arg)
{
    struct hashing *h = (struct hashing *)visit;
    if (!in_ranges(h->ranges, index))
        return true;
    if (arg->data == NULL) {
        h->large = true;
        return false;
    }
    uint16_t slot = slot_of_key(arg->data, arg->len);
    h->differ = h->hashed > 0 && slot != h->slot;
    h->slot = slot;
    h->hashed++;
    return !h->differ;
}

/* Of keys in several slots. */
static void cross_way(const struct look *l, const struct ranges *r,
                      struct way *way)
{
    const struct range *range = &r->items[0];
    way->spread = SPREAD_CROSS;
    way->join = JOIN_ONE;
    way->slot = 0;
    /* What stands between the keys belongs to them: whole groups only. */
    if (l->entry->spread == SPREAD_SPLIT &&
        (l->argc - range->first) % range->step == 0) {
        way->spread = SPREAD_SPLIT;
        way->join = (enum join)l->entry->join;
        way->first_key = range->first;
        way->key_step = range->step;
    }
}

static enum err way_of_keys(const struct look *l, const struct ranges *r,
                            struct way *way)
{
    struct hashing h = {{hash_one}, r, 0, 0, false, false};
    enum err e = look_visit(l, 1, &h.visit);
    if (e != ERR_OK)
        return e;
    if (h.large)
        return ERR_INVALID;
    *way = (struct way){
        .spread = SPREAD_SLOT,
        .slot = h.slot,
        .readonly = l->entry->command->readonly,
        .nkeys = r->keys,
    };
    if (h.differ)
        cross_way(l, r, way);
    return ERR_OK;
}

/* Of a command without keys, or whose keys nobody finds. */
static enum err way_of_none(const struct look *l, struct way *way)
{
    const struct keyspec_entry *e = l->entry;
    *way = (struct way){
        .spread = (enum spread)e->spread,
        .join = (enum join)e->join,
        .readonly = e->command->readonly,
    };
    if (e->spread == SPREAD_SPLIT) {
        way->spread = SPREAD_ANY;
        way->join = JOIN_ONE;
    }
    struct resp_arg arg;
    if (e->hand != HAND_SLOT || l->argc < 3)
        return ERR_OK;
    if (look_fetch(l, 2, &arg) != ERR_OK)
        return ERR_PROTO;
    int64_t slot = look_number(&arg);
    if (slot >= 0 && slot < SLOTS) {
        way->spread = SPREAD_SLOT;
        way->slot = (uint16_t)slot;
    }
    return ERR_OK;
}

enum err keyspecs_way(const struct keyspecs *keyspecs,
                      const struct framed *command, struct way *way)
{
    struct look l;
    enum err e = look_at(&l, keyspecs, command);
    if (e != ERR_OK)
        return e;
    if (l.entry == NULL) {
        *way = (struct way){.spread = SPREAD_ANY};
        return ERR_OK;
    }
    if (l.entry->quick > 0)
        return quick_way(&l, way);
    struct ranges r = {.count = 0};
    if (l.entry->command->nspecs > 0 || l.entry->hand != HAND_NONE) {
        e = look_find(&l, true, &r);
        if (e != ERR_OK)
            return e;
    }
    return r.keys > 0 ? way_of_keys(&l, &r, way) : way_of_none(&l, way);
}

enum err keyspecs_keys(const struct keyspecs *keyspecs,
                       const struct framed *command, uint32_t *where,
                       uint32_t max, uint32_t *count)
{
    struct look l;
    struct ranges r = {.count = 0};
    enum err e = look_at(&l, keyspecs, command);
    if (e == ERR_OK && l.entry != NULL)
        e = look_find(&l, false, &r);
    if (e != ERR_OK)
        return e;
    uint32_t n = 0;
    for (uint32_t i = 0; i < r.count; i++) {
        const struct range *range = &r.items[i];
        for (uint32_t at = range->first; at <= range->last; at += range->step) {
            if (n < max)
                where[n] = at;
            n++;
        }
    }
    *count = n;
    return ERR_OK;
}
