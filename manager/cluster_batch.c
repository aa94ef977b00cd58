/*
 * Batches: commands that belong together. In one slot they go as one run, with
 * nothing in between. In several slots they are one run a slot, unless a
 * transaction is among them: then all must be in one slot, or nothing is sent.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "manager/cluster_parts.h"
#include "manager/errand_reply.h"

/* A command of the batch. */
struct member {
    struct framed command;
    uint32_t next;  /* of the same slot; NO_MORE */
    uint16_t slot;  /* or TURNSTILE_KEYLESS */
    uint16_t group; /* its transaction; 0: none */
    bool alone;     /* it is split, sent to all, or refused */
    bool head;      /* the first of a chain */
};

#define NO_MORE UINT32_MAX

struct batch {
    struct cluster *cluster;
    const struct run *run;
    enum route route;
    struct member *members;
    uint32_t count;
    uint16_t groups; /* transactions in it */
    uint16_t slot;   /* that of all, as far as they have one */
    bool one_slot;
    bool waits; /* for replicas to have the writes before it */
    const struct framed *everywhere; /* of a transaction: a command that is for
                                        all nodes; NULL: there is none */
};

static bool is_named(const struct framed *command, const char *word)
{
    struct framed_args args;
    struct resp_arg name;
    uint32_t argc;
    if (command->parsed != NULL)
        name = command->parsed->argv[0];
    else if (framed_args(&args, command, &argc) != ERR_OK ||
             framed_arg(&args, &name, NULL) != ERR_OK)
        return false;
    return name.data != NULL && name.len == strlen(word) &&
           strncasecmp(name.data, word, name.len) == 0;
}

/* Where each of them goes. */
static enum err survey(struct batch *b, struct err_text *why)
{
    const struct run *run = b->run;
    struct framed rest =
        framed_view(run->data, run->len, run->blobs, run->nblobs);
    bool within = false;
    b->slot = TURNSTILE_KEYLESS;
    b->one_slot = true;
    for (uint32_t i = 0; i < b->count; i++) {
        struct member *m = &b->members[i];
        struct way way;
        if (cluster_next(run, &rest, i, &m->command) != ERR_OK)
            return err_say(why, ERR_INVALID, "it is not in canonical form");
        enum err e = keyspecs_way(b->cluster->keyspecs, &m->command, &way);
        if (!within && is_named(&m->command, "MULTI")) {
            within = true;
            if (++b->groups == 0)
                return err_say(why, ERR_INVALID,
                               "more than %d transactions in one message",
                               UINT16_MAX);
        }
        m->group = within ? b->groups : 0;
        if (within &&
            (is_named(&m->command, "EXEC") || is_named(&m->command, "DISCARD")))
            within = false;
        m->slot = TURNSTILE_KEYLESS;
        m->alone = e != ERR_OK ||
                   (way.spread != SPREAD_ANY && way.spread != SPREAD_SLOT);
        bool waits = m->alone && (is_named(&m->command, "WAIT") ||
                                  is_named(&m->command, "WAITAOF"));
        if (waits && m->group == 0 && i + 1 == b->count)
            b->waits = true;
        /* In a transaction PING asks whom that is sent to, and WAIT always asks
         * about the writes of its own connection. */
        if (m->alone &&
            (waits || (m->group != 0 && is_named(&m->command, "PING")))) {
            m->alone = false;
            way.spread = SPREAD_ANY;
        }
        if (m->group != 0 && e == ERR_OK && !waits &&
            (way.spread == SPREAD_MASTERS || way.spread == SPREAD_NODES ||
             way.spread == SPREAD_SCAN))
            b->everywhere = &m->command;
        if (m->alone || way.spread == SPREAD_ANY) {
            b->one_slot = b->one_slot && !m->alone;
            continue;
        }
        m->slot = way.slot;
        if (b->slot == TURNSTILE_KEYLESS)
            b->slot = way.slot;
        b->one_slot = b->one_slot && b->slot == way.slot;
    }
    return ERR_OK;
}

static void fill(struct batch *b, struct errand *e, uint16_t slot)
{
    e->route = (uint8_t)b->route;
    e->passer.slot = slot;
    e->passer.loose = slot == TURNSTILE_KEYLESS;
    errand_enter(e);
}

static void fail(struct batch *b, uint32_t member)
{
    answer_fail(b->cluster->answers, b->run->req, b->run->first + member, 1,
                REPLY_UNAVAILABLE,
                "the manager is out of memory; it was not executed");
}

/* All of it, as it is. */
static void send_all(struct batch *b)
{
    const struct run *run = b->run;
    struct framed all =
        framed_view(run->data, run->len, run->blobs, run->nblobs);
    struct errand *e = errand_new(b->cluster, run, &all, b->count);
    if (e == NULL) {
        answer_fail(b->cluster->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE,
                    "the manager is out of memory; it was not executed");
        return;
    }
    e->first_len = run->first_len;
    e->waits = b->waits;
    for (uint32_t i = 0; i < b->count; i++) {
        e->items[i].index = run->first + i;
        e->items[i].group = b->members[i].group;
    }
    fill(b, e, b->slot);
}

/* Puts the commands of one slot, from the member on, one behind the other. */
static enum err gather_slot(struct batch *b, uint32_t first,
                            struct buffer *bytes, struct blob *blobs,
                            struct framed *all, uint32_t *count)
{
    *all = (struct framed){.blobs = blobs};
    *count = 0;
    for (uint32_t i = first; i != NO_MORE; i = b->members[i].next) {
        const struct framed *command = &b->members[i].command;
        for (uint32_t k = 0; blobs != NULL && k < command->nblobs; k++) {
            blobs[all->nblobs] = command->blobs[k];
            blobs[all->nblobs++].at += buffer_len(bytes) - command->at;
        }
        enum err e = buffer_append(bytes, command->data, command->len);
        if (e != ERR_OK)
            return e;
        ++*count;
    }
    all->data = buffer_head(bytes);
    all->len = buffer_len(bytes);
    return ERR_OK;
}

/* The commands of one slot, from the member on, as one run. */
static void send_slot(struct batch *b, uint32_t first)
{
    struct buffer bytes = {0};
    struct blob *blobs = NULL;
    struct framed all;
    uint32_t count;
    struct errand *e = NULL;
    if (b->run->nblobs == 0 ||
        (blobs = malloc(b->run->nblobs * sizeof(*blobs))) != NULL)
        if (gather_slot(b, first, &bytes, blobs, &all, &count) == ERR_OK)
            e = errand_new(b->cluster, b->run, &all, count);
    uint32_t next, k = 0;
    for (uint32_t i = first; i != NO_MORE; i = next) {
        next = b->members[i].next;
        if (e == NULL)
            fail(b, i);
        else if (e->items == NULL)
            e->first = b->run->first + i;
        else
            e->items[k++].index = b->run->first + i;
    }
    if (e != NULL) {
        e->first_len = b->members[first].command.len;
        fill(b, e, b->members[first].slot);
    }
    free(blobs);
    buffer_release(&bytes);
}

/* Chains the commands of each slot. One without a key goes with the one before
 * it, or where there is none, with the next. No chain passes a command that is
 * sent by itself: with that one's keys the order would be another. */
static void chain(struct batch *b)
{
    uint32_t *last = b->cluster->batch_last;
    uint16_t slot = b->slot;
    uint32_t since = 0; /* the first behind such a command */
    for (uint32_t i = 0; i < b->count; i++) {
        struct member *m = &b->members[i];
        m->next = NO_MORE;
        m->head = false;
        if (m->alone) {
            since = i + 1;
            continue;
        }
        if (m->slot == TURNSTILE_KEYLESS)
            m->slot = slot;
        slot = m->slot;
        m->head = last[slot] <= since;
        if (!m->head)
            b->members[last[slot] - 1].next = i;
        last[slot] = i + 1;
    }
    for (uint32_t i = 0; i < b->count; i++)
        last[b->members[i].slot] = 0;
}

static void send_by_slot(struct batch *b)
{
    chain(b);
    /* The request is gone with its last answer. */
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->members[i].alone)
            cluster_one(b->cluster, b->route, b->run, b->run->first + i,
                        &b->members[i].command);
        else if (b->members[i].head)
            send_slot(b, i);
    }
}

static void refuse_everywhere(struct batch *b)
{
    struct framed_args args;
    struct resp_arg name = {"it", 2};
    uint32_t argc;
    if (framed_args(&args, b->everywhere, &argc) != ERR_OK ||
        framed_arg(&args, &name, NULL) != ERR_OK || name.data == NULL)
        name = (struct resp_arg){"it", 2};
    answer_fail(b->cluster->answers, b->run->req, b->run->first, b->run->count,
                REPLY_INVALID,
                "%.*s concerns every node of a cluster, and a transaction goes "
                "to one: send it alone; nothing was executed",
                (int)(name.len < 32 ? name.len : 32), name.data);
}

void cluster_batch(struct cluster *c, enum route route, const struct run *run)
{
    struct batch b = {
        .cluster = c, .run = run, .route = route, .count = run->count};
    struct err_text why;
    b.members = malloc(run->count * sizeof(*b.members));
    enum err e = b.members == NULL ? ERR_NOMEM : survey(&b, &why);
    if (e == ERR_NOMEM)
        answer_fail(c->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE,
                    "the manager is out of memory; it was not executed");
    else if (e != ERR_OK)
        answer_fail(c->answers, run->req, run->first, run->count, REPLY_INVALID,
                    "%s", why.text);
    else if (b.one_slot)
        send_all(&b);
    else if (b.everywhere != NULL)
        refuse_everywhere(&b);
    else if (b.waits)
        answer_fail(c->answers, run->req, run->first, run->count, REPLY_INVALID,
                    "CROSSSLOT: WAIT asks one node about the writes that were "
                    "sent together with it: in a cluster all their keys must "
                    "be in one slot: give them one hash tag, as in "
                    "{user1}:name; nothing was executed");
    else if (b.groups > 0)
        answer_fail(c->answers, run->req, run->first, run->count, REPLY_INVALID,
                    "CROSSSLOT: in a cluster all keys of a transaction, and of "
                    "what is sent together with it, must be in one slot: give "
                    "them one hash tag, as in {user1}:name; nothing was "
                    "executed");
    else
        send_by_slot(&b);
    free(b.members);
}
