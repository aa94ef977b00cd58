/*
 * Splitting. Two walks over the command: the first finds the part of each key
 * and how large the parts will be, the second copies each key, with what
 * belongs to it, to the end of its part.
 *
 *     memory   | parts | blobs | index | bytes                       |
 */
#include "manager/scatter.h"

#include <stdlib.h>
#include <string.h>

#include "manager/slot.h"

#define NO_PART UINT32_MAX

/* A part in the making. */
struct draft {
    uint16_t slot;
    uint32_t nkeys, nblobs;
    size_t bytes;     /* behind the name */
    const char *data; /* of the part */
    /* The next of each goes here: */
    char *end;
    uint32_t *index;
    struct blob *blob;
};

struct split {
    const struct framed *command;
    const struct way *way;
    uint32_t argc;
    uint32_t most_parts, nparts;
    uint32_t *part_of; /* of each key */
    uint32_t *table;   /* open addressing: the part of a slot */
    uint32_t mask;
    struct draft *drafts;
    const char *name; /* what stands before the first key */
    size_t name_len;
};

/* What stands in the command for one argument. */
struct piece {
    const char *data;
    size_t len;
    struct resp_arg arg;
    const struct blob *blob;
};

static enum err next_piece(struct framed_args *args, struct piece *p)
{
    p->data = args->request.pos;
    enum err e = framed_arg(args, &p->arg, &p->blob);
    p->len = (size_t)(args->request.pos - p->data);
    /* `@LEN`: nobody knows where in the file. */
    return e == ERR_OK && p->arg.data == NULL && p->blob == NULL ? ERR_PROTO
                                                                 : e;
}

/* Begins a walk behind what stands before the first key. */
static enum err begin_walk(struct split *s, struct framed_args *args)
{
    struct piece p;
    if (framed_args(args, s->command, &s->argc) != ERR_OK)
        return ERR_PROTO;
    s->name = args->request.pos;
    for (uint32_t i = 0; i < s->way->first_key; i++) {
        if (next_piece(args, &p) != ERR_OK || p.blob != NULL)
            return ERR_PROTO;
    }
    s->name_len = (size_t)(args->request.pos - s->name);
    return ERR_OK;
}

/* The slot's part, made if it is new. */
static enum err part_of_slot(struct split *s, uint16_t slot, uint32_t *part)
{
    uint32_t i = (slot * UINT32_C(0x9e3779b1) >> 16) & s->mask;
    for (; s->table[i] != NO_PART; i = (i + 1) & s->mask) {
        if (s->drafts[s->table[i]].slot == slot) {
            *part = s->table[i];
            return ERR_OK;
        }
    }
    if (s->nparts == s->most_parts)
        return ERR_LIMIT;
    *part = s->table[i] = s->nparts++;
    s->drafts[*part] = (struct draft){.slot = slot};
    return ERR_OK;
}

/* Assigns every key to its part. */
static enum err assign(struct split *s)
{
    struct framed_args args;
    struct piece p;
    enum err e = begin_walk(s, &args);
    for (uint32_t key = 0; e == ERR_OK && key < s->way->nkeys; key++) {
        struct draft *d = NULL;
        for (uint32_t i = 0; e == ERR_OK && i < s->way->key_step; i++) {
            e = next_piece(&args, &p);
            if (e != ERR_OK)
                break;
            if (i == 0) {
                if (p.blob != NULL)
                    return ERR_INVALID;
                uint16_t slot = slot_of_key(p.arg.data, p.arg.len);
                e = part_of_slot(s, slot, &s->part_of[key]);
                if (e != ERR_OK)
                    return e;
                d = &s->drafts[s->part_of[key]];
                d->nkeys++;
            }
            d->bytes += p.len;
            d->nblobs += p.blob != NULL;
        }
    }
    return e == ERR_INVALID ? ERR_PROTO : e;
}

/* Lays the parts out in one piece of memory. */
static enum err lay_out(struct split *s, struct scatter *scatter)
{
    size_t bytes = s->nparts * (RESP_HEADER_MAX + s->name_len);
    for (uint32_t i = 0; i < s->nparts; i++)
        bytes += s->drafts[i].bytes;
    size_t parts = s->nparts * sizeof(struct part);
    size_t blobs = s->command->nblobs * sizeof(struct blob);
    size_t index = s->way->nkeys * sizeof(uint32_t);
    char *memory = malloc(parts + blobs + index + bytes);
    if (memory == NULL)
        return ERR_NOMEM;
    struct part *part = (struct part *)(void *)memory;
    struct blob *blob = (struct blob *)(void *)(memory + parts);
    uint32_t *key = (uint32_t *)(void *)(memory + parts + blobs);
    char *to = memory + parts + blobs + index;
    *scatter = (struct scatter){part, s->nparts, memory};
    for (uint32_t i = 0; i < s->nparts; i++) {
        struct draft *d = &s->drafts[i];
        part[i] = (struct part){
            .slot = d->slot,
            .data = to,
            .nkeys = d->nkeys,
            .index = key,
            .blobs = blob,
            .nblobs = d->nblobs,
        };
        d->data = to;
        d->index = key;
        d->blob = blob;
        d->end = to + resp_put_header(to, '*',
                                      (int64_t)s->way->first_key +
                                          (int64_t)d->nkeys * s->way->key_step);
        memcpy(d->end, s->name, s->name_len);
        d->end += s->name_len;
        to = d->end + d->bytes;
        part[i].len = (size_t)(to - part[i].data);
        key += d->nkeys;
        blob += d->nblobs;
    }
    return ERR_OK;
}

/* Copies what stands for one argument to the end of a part. */
static void copy_piece(const struct framed *command, const struct piece *p,
                       struct draft *d)
{
    if (p->blob != NULL) {
        struct blob *blob = d->blob++;
        size_t from = p->blob->at - command->at;
        *blob = *p->blob;
        blob->at = (size_t)(d->end - d->data) + from -
                   (size_t)(p->data - command->data);
    }
    memcpy(d->end, p->data, p->len);
    d->end += p->len;
}

static enum err copy_out(struct split *s)
{
    struct framed_args args;
    struct piece p;
    enum err e = begin_walk(s, &args);
    for (uint32_t key = 0; e == ERR_OK && key < s->way->nkeys; key++) {
        struct draft *d = &s->drafts[s->part_of[key]];
        *d->index++ = key;
        for (uint32_t i = 0; e == ERR_OK && i < s->way->key_step; i++) {
            e = next_piece(&args, &p);
            if (e == ERR_OK)
                copy_piece(s->command, &p, d);
        }
    }
    return e;
}

enum err scatter_split(struct scatter *scatter, const struct framed *command,
                       const struct way *way, uint32_t most_parts)
{
    uint32_t nkeys = way->nkeys, room = 4;
    if (way->spread != SPREAD_SPLIT || nkeys == 0 || nkeys > RESP_ARGS_MAX ||
        way->first_key == 0 || way->key_step == 0)
        return ERR_PROTO;
    if (most_parts > nkeys)
        most_parts = nkeys;
    if (most_parts > SLOTS)
        most_parts = SLOTS;
    while (room < most_parts * 2)
        room *= 2;
    struct split s = {
        .command = command,
        .way = way,
        .most_parts = most_parts,
        .part_of = malloc(nkeys * sizeof(uint32_t)),
        .table = malloc(room * sizeof(uint32_t)),
        .mask = room - 1,
        .drafts = malloc((most_parts + 1) * sizeof(struct draft)),
    };
    struct scatter made = {0};
    enum err e = ERR_NOMEM;
    if (s.part_of != NULL && s.table != NULL && s.drafts != NULL) {
        memset(s.table, 0xff, room * sizeof(uint32_t));
        e = assign(&s);
        if (e == ERR_OK &&
            s.argc != way->first_key + (uint64_t)nkeys * way->key_step)
            e = ERR_PROTO;
    }
    if (e == ERR_OK)
        e = lay_out(&s, &made);
    if (e == ERR_OK)
        e = copy_out(&s);
    if (e == ERR_OK)
        *scatter = made;
    else
        scatter_release(&made);
    free(s.part_of);
    free(s.table);
    free(s.drafts);
    return e;
}

void scatter_release(struct scatter *scatter)
{
    free(scatter->memory);
    *scatter = (struct scatter){0};
}
