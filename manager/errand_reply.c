/* Errands on their way back: what a node said is handed on, or obeyed. */
#include "manager/errand_reply.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/cluster_parts.h"

/* A command that was sent so often finds no place: the last node's word is its
 * reply. */
#define HOPS_MAX 16
#define HOPS_AT_ONCE 3
#define HOPS_TRIES_MAX 4
#define BACKOFF_MS 2
#define BACKOFF_MAX_MS 200
/* So long a command without a deadline is told TRYAGAIN. */
#define PATIENCE_NS (10 * NS_PER_S)
/* Redirections are short. */
#define REDIRECTION_MAX 512

/* ---- obeying ---- */

/* Half of a bound that doubles, and as much again by chance. */
static uint64_t backoff(struct errand *e)
{
    struct cluster *c = e->cluster;
    uint64_t ms = BACKOFF_MS;
    for (uint8_t i = 0; i < e->tries && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (e->tries < UINT8_MAX)
        e->tries++;
    uint64_t half = ms * NS_PER_MS / 2;
    return c->answers->now_ns + half +
           random_stream_next(&c->random) % (half + 1);
}

static void not_before(struct errand *e, uint64_t ns)
{
    if (ns > e->again_ns)
        e->again_ns = ns;
}

/* Whether a command may be sent once more after such a word. */
static bool may_wait(struct errand *e)
{
    uint64_t now = e->cluster->answers->now_ns;
    if (e->req->deadline_ns != 0)
        return true; /* that ends it */
    if (e->patience_ns == 0)
        e->patience_ns = now + PATIENCE_NS;
    return now < e->patience_ns;
}

/* MOVED to where nobody is known: a node that has joined, of which the map will
 * tell; or a script has said it, and then neither may a slot go there nor our
 * password. */
static bool ask_the_map(struct errand *e)
{
    if (!may_wait(e))
        return false;
    status_count(e->cluster->answers->status, COUNTER_moved, 1);
    refresh_want(e->cluster);
    not_before(e, backoff(e));
    return true;
}

/* MOVED and ASK: where to. */
static bool follow(struct errand *e, const struct redirection *r)
{
    struct cluster *c = e->cluster;
    if (r->kind == REDIRECT_MOVED && !refresh_knows(c, r->host, r->port))
        return ask_the_map(e);
    struct node *node = nodes_get(&c->nodes, r->host, r->port);
    if (node == NULL)
        return false;
    if (r->kind == REDIRECT_ASK && node_down(node) &&
        c->options.base->keep_unsent && may_wait(e)) {
        /* Half of the slot's keys are there: until it is back nobody else can
         * tell more. */
        status_count(c->answers->status, COUNTER_ask, 1);
        not_before(e, backoff(e));
        return true;
    }
    if (e->hops == HOPS_MAX)
        return false;
    if (!e->redirected && ++e->hops > HOPS_AT_ONCE) {
        if (e->tries > HOPS_TRIES_MAX)
            e->tries = HOPS_TRIES_MAX; /* all of them within half a second */
        not_before(e, backoff(e));
    }
    if (r->kind == REDIRECT_ASK) {
        status_count(c->answers->status, COUNTER_ask, 1);
        e->ask = node->number;
        /* There it is told TRYAGAIN if not all of its keys have come. */
        e->passer.alone = e->passer.alone || errand_has_keys(e);
        return true;
    }
    status_count(c->answers->status, COUNTER_moved, 1);
    e->ask = NODE_NONE;
    node->known = true;
    if (e->replica)
        e->replica = e->passer.loose = false;
    else if (e->passer.loose)
        e->passer.slot = r->slot; /* nobody knew that it has a key */
    nodes_move_slot(&c->nodes, r->slot, node);
    refresh_want(c);
    return true;
}

/* The row of the node that it was sent to last. Nodes stay while anything is
 * due from them. */
static struct status_node *row_of(const struct errand *e)
{
    const struct node *node = e->cluster->nodes.all[e->node];
    return node == NULL ? NULL : node->place.row;
}

static void book_redirection(const struct errand *e, enum redirect kind)
{
    struct status_node *row = row_of(e);
    if (row == NULL)
        return;
    if (kind == REDIRECT_MOVED)
        status_node_redirected(row, STATUS_NODE_moved);
    else if (kind == REDIRECT_ASK)
        status_node_redirected(row, STATUS_NODE_ask);
    else if (kind == REDIRECT_TRYAGAIN)
        status_node_redirected(row, STATUS_NODE_tryagain);
    else if (kind == REDIRECT_CLUSTERDOWN)
        status_node_redirected(row, STATUS_NODE_clusterdown);
}

/* Whether a reply is a word about where the command is to go; then what is
 * needed for its being sent again is noted. */
static bool obey(struct errand *e, const struct taken *part)
{
    struct cluster *c = e->cluster;
    struct status *status = c->answers->status;
    if (!part->begins || !part->ends || part->data[0] != '-' ||
        part->len > REDIRECTION_MAX || c->stopping)
        return false;
    struct redirection r;
    const struct node *from = c->nodes.all[e->node];
    slotmap_redirection(&r, part->data, part->len,
                        from == NULL ? "" : from->options.uri.host);
    book_redirection(e, r.kind);
    switch (r.kind) {
    case REDIRECT_NONE:
        return false;
    case REDIRECT_MOVED:
    case REDIRECT_ASK:
        return follow(e, &r);
    case REDIRECT_TRYAGAIN:
        if (!may_wait(e))
            return false;
        status_count(status, COUNTER_tryagain, 1);
        e->passer.alone = true; /* it may well be told so again */
        break;
    case REDIRECT_CLUSTERDOWN:
        if (!c->options.base->keep_unsent)
            return false;
        status_count(status, COUNTER_clusterdown, 1);
        refresh_want(c);
        break;
    case REDIRECT_READONLY:
        /* With a key it would have been MOVED; a script may say it, too. */
        if ((e->fanout == NULL && e->passer.slot != TURNSTILE_KEYLESS) ||
            !may_wait(e))
            return false;
        refresh_want(c);
        break;
    case REDIRECT_NOT_YET:
        if (!e->replica)
            return false;
        e->replica = e->passer.loose = false;
        return true;
    }
    not_before(e, backoff(e));
    return true;
}

static void note_error(struct errand *e, const struct taken *part)
{
    if (part->begins && (part->data[0] == '-' || part->data[0] == '!'))
        status_count(e->cluster->answers->status, COUNTER_error_replies, 1);
}

/* ---- a single command ---- */

/* Keeps a piece of a part's reply, unless that is too long: then its end is
 * waited for. */
static void keep_piece(struct errand *e, const struct taken *part)
{
    struct fanout *s = e->fanout;
    if (e->lost != ERR_OK)
        return;
    if (!fanout_has_room(s, part->len))
        e->lost = ERR_LIMIT;
    else if (buffer_append(&e->collected, part->data, part->len) != ERR_OK)
        e->lost = ERR_NOMEM;
    else
        s->collecting += part->len;
    if (e->lost != ERR_OK) {
        s->collecting -= buffer_len(&e->collected);
        buffer_release(&e->collected);
    }
}

/* A part of a fan-out: its reply is joined whole. */
static void collect(struct errand *e, const struct taken *part)
{
    struct cluster *c = e->cluster;
    const char *data = part->data;
    size_t len = part->len;
    if (!part->begins || !part->ends) {
        keep_piece(e, part);
        if (!part->ends)
            return;
        data = buffer_head(&e->collected);
        len = buffer_len(&e->collected);
        e->fanout->collecting -= len; /* it is gathered now, or not */
    }
    turnstile_executed(&c->turnstile, &e->passer);
    if (e->lost != ERR_OK)
        fanout_fail(e->fanout, e->part, REPLY_TOO_BIG,
                    e->lost == ERR_LIMIT
                        ? "the command was executed, but its reply was over "
                          "--max-reply"
                        : "the command was executed, but its reply was more "
                          "than there is memory for");
    else
        fanout_reply(e->fanout, e->part, data, len);
    errand_free(e);
}

static void take_one(struct errand *e, uint32_t index, const struct taken *part)
{
    struct cluster *c = e->cluster;
    if (e->asking && index == 0)
        return; /* OK, says ASKING */
    if (part->data[0] == '-' && obey(e, part)) {
        turnstile_again(&c->turnstile, &e->passer, e->again_ns);
        return;
    }
    if (e->fanout != NULL) {
        collect(e, part);
        return;
    }
    note_error(e, part);
    struct request *req = e->req;
    uint32_t first = e->first;
    if (part->ends) {
        turnstile_executed(&c->turnstile, &e->passer);
        errand_free(e);
    }
    answer_reply(c->answers, req, first, part->ends, !part->ends, part->data,
                 part->len);
}

/* ---- a batch ---- */

/* How many of a batch's commands are in that state. */
static uint32_t count_of(const struct errand *e, enum item_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < e->count; i++)
        count += e->items[i].state == state;
    return count;
}

/* All replies have come: it is over, or some of it goes again. */
static void come_back(struct errand *e)
{
    struct turnstile *t = &e->cluster->turnstile;
    if (count_of(e, ITEM_DUE) > 0 && count_of(e, ITEM_DONE) > 0) {
        turnstile_overtook(t, &e->passer);
        errand_overtaken_within(e);
    }
    if (count_of(e, ITEM_DUE) > 0) {
        turnstile_again(t, &e->passer, e->again_ns);
        return;
    }
    turnstile_executed(t, &e->passer);
    errand_free(e);
}

/* One is to go again, with all of its transaction. */
static void redo(struct errand *e, const struct errand_item *item)
{
    e->redirected = true;
    if (item->group == 0) {
        e->items[item - e->items].state = ITEM_DUE;
        return;
    }
    for (uint32_t i = 0; i < e->count; i++)
        if (e->items[i].group == item->group)
            e->items[i].state = ITEM_DUE;
}

static struct errand_item *item_of(const struct errand *e, uint32_t unit)
{
    uint32_t i = e->units != NULL ? e->units[unit] : unit;
    return i == ERRAND_ASKING ? NULL : &e->items[i];
}

static void take_of_batch(struct errand *e, uint32_t unit,
                          const struct taken *part)
{
    struct errand_item *item = item_of(e, unit);
    struct answers *a = e->cluster->answers;
    struct request *req = e->req;
    uint32_t index = 0;
    bool tell = false;
    if (item != NULL && item->state == ITEM_SENT) {
        if (part->data[0] == '-' && obey(e, part)) {
            redo(e, item);
        } else if (e->waits && e->redirected &&
                   item == &e->items[e->count - 1]) {
            item->state = ITEM_DUE; /* it goes where the writes go */
        } else {
            index = item->index;
            tell = !item->told;
            if (part->ends) {
                item->state = ITEM_DONE;
                item->told = true;
            }
        }
    }
    if (tell)
        note_error(e, part);
    /* With its last answer the request is gone, and this errand before it. */
    if (part->ends && --e->due == 0)
        come_back(e);
    if (tell)
        answer_reply(a, req, index, part->ends, !part->ends, part->data,
                     part->len);
}

/* ---- what the pipeline tells ---- */

/* What waits on a connection of its own waits on purpose: its time is none of
 * the node's. */
static void book_answer(const struct errand *e)
{
    struct status_node *row = row_of(e);
    if (row == NULL)
        return;
    uint64_t now = e->cluster->answers->now_ns;
    if (e->route == ROUTE_SHARED)
        status_node_answered(row, now > e->sent_ns ? now - e->sent_ns : 0);
    else
        status_node_ended(row, 1);
}

static void take(struct taker *t, uint32_t index, const struct taken *part)
{
    struct errand *e = (struct errand *)t;
    if (part->ends)
        book_answer(e);
    if (e->items == NULL)
        take_one(e, index, part);
    else
        take_of_batch(e, index, part);
}

static bool splices(struct taker *t, uint32_t *index)
{
    const struct errand *e = (const struct errand *)t;
    /* While a piece is under way nothing else may go into that pipe, and of
     * other commands of the request replies come by other connections. */
    if (e->count != e->req->ncommands)
        return false;
    if (e->items == NULL) {
        *index = e->first;
        return true;
    }
    const struct errand_item *item = item_of(e, *index);
    if (item == NULL || item->told || item->state != ITEM_SENT)
        return false;
    *index = item->index;
    return true;
}

#define LOST                                                                   \
    "%s after the command was written: whether it was executed is unknown"

static void lose_batch(struct errand *e, uint32_t index, uint32_t count,
                       const char *reason)
{
    struct request *req = e->req;
    for (uint32_t i = index; i < index + count; i++) {
        struct errand_item *item = item_of(e, i);
        /* What was redirected already was not executed, nor was the rest of
         * its transaction. */
        if (item == NULL || item->state != ITEM_SENT)
            continue;
        item->state = ITEM_DONE;
        if (!item->told)
            answer_fail(e->cluster->answers, req, item->index, 1, REPLY_LOST,
                        LOST, reason);
        item->told = true;
    }
    e->due -= count;
    if (e->due == 0)
        come_back(e);
}

static void lost(struct taker *t, uint32_t index, uint32_t count,
                 const char *reason)
{
    struct errand *e = (struct errand *)t;
    struct status_node *row = row_of(e);
    if (row != NULL)
        status_node_lost(row, count);
    if (e->items != NULL) {
        lose_batch(e, index, count, reason);
        return;
    }
    turnstile_executed(&e->cluster->turnstile, &e->passer);
    errand_end(e, REPLY_LOST, LOST, reason);
}

static void unsent(struct taker *t, uint32_t index, uint32_t count,
                   const char *reason)
{
    struct errand *e = (struct errand *)t;
    struct cluster *c = e->cluster;
    struct status_node *row = row_of(e);
    (void)index;
    if (row != NULL)
        status_node_unsent(row, count);
    for (uint32_t i = 0; e->items != NULL && i < e->count; i++)
        if (e->items[i].state == ITEM_SENT)
            e->items[i].state = ITEM_DUE;
    e->due = 0;
    if (e->asking)
        e->ask = e->node;
    bool again = reason != NULL && !c->stopping &&
                 c->options.base->keep_unsent && e->route == ROUTE_SHARED;
    if (again) {
        status_count(c->answers->status, COUNTER_resent, 1);
        turnstile_again(&c->turnstile, &e->passer, 0);
        return;
    }
    turnstile_leave(&c->turnstile, &e->passer);
    if (!errand_over(e))
        errand_end(e, REPLY_UNAVAILABLE, "%s; the command was not executed",
                   reason == NULL ? "it was given up" : reason);
}

const struct taker_ops errand_taker = {
    .reply = take, .lost = lost, .unsent = unsent, .splices = splices};
