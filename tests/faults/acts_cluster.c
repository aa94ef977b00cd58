/* The worker of the sweeps in a cluster. */
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/faults/acts_parts.h"

#define KEYS 4
#define TEXT_SIZE 96

struct words {
    char key[KEYS][ACTS_KEY_SIZE], value[KEYS][TEXT_SIZE];
};

static void name_all(struct words *w, const struct acts *a, const char *prefix)
{
    for (int i = 0; i < KEYS; i++) {
        snprintf(w->key[i], sizeof(w->key[i]), "%s:%llu:%d", prefix,
                 (unsigned long long)a->id, i);
        snprintf(w->value[i], sizeof(w->value[i]), "value of %s", w->key[i]);
    }
}

/* A reply, or a failure with a text; an error of Redis's is neither here. */
static bool is_reply(struct acts *a, const struct mqredis_reply *r,
                     enum mqredis_type type)
{
    bool failed = r->type == MQREDIS_FAILURE;
    acts_note_status(a, r->status, failed ? r->str : "-");
    if (!failed && r->type != type)
        acts_wrong(a, "type %d in place of %d: %.100s", r->type, type,
                   r->type == MQREDIS_ERROR ? r->str : "");
    return r->type == type;
}

/* Each key's value or, if it may not have been set, nothing. "Too big" is also
 * a reply that could not be joined for want of memory, and says so. */
static void compare(struct acts *a, const struct words *w,
                    const struct mqredis_reply *r, enum mqredis_status set)
{
    if (r->elements != KEYS) {
        acts_wrong(a, "%zu elements in place of %d", r->elements, KEYS);
        return;
    }
    bool may =
        set == MQREDIS_OK || set == MQREDIS_LOST || set == MQREDIS_TOO_BIG;
    for (int i = 0; i < KEYS; i++) {
        const struct mqredis_reply *e = r->element[i];
        bool nil = e->type == MQREDIS_NIL;
        if (nil && set == MQREDIS_OK)
            acts_wrong(a, "%s was set and is not there", w->key[i]);
        else if (!nil && !may)
            acts_wrong(a, "%s: %s, but it is there", w->key[i],
                       mqredis_status_str(set));
        else if (!nil && (e->type != MQREDIS_STRING ||
                          strcmp(e->str, w->value[i]) != 0))
            acts_wrong(a, "%s: '%.100s'", w->key[i],
                       e->type == MQREDIS_STRING ? e->str : "no string");
    }
}

/* Exactly the keys that were set, in any order. */
static void find_all(struct acts *a, const struct words *w,
                     const struct mqredis_reply *r)
{
    unsigned found = 0;
    for (size_t i = 0; i < r->elements; i++)
        for (unsigned k = 0; k < KEYS; k++)
            if (r->element[i]->type == MQREDIS_STRING &&
                strcmp(r->element[i]->str, w->key[k]) == 0)
                found |= 1U << k;
    if (r->elements != KEYS || found != (1U << KEYS) - 1)
        acts_wrong(a, "KEYS gave %zu, the right ones among them: %#x",
                   r->elements, found);
}

/* Commands of which each part goes to another master. */
static void split(struct acts *a, struct mqredis *mq, const char *prefix)
{
    struct words w;
    acts_step(a, "split");
    name_all(&w, a, prefix);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(
        mq, "MSET %s %s %s %s %s %s %s %s", w.key[0], w.value[0], w.key[1],
        w.value[1], w.key[2], w.value[2], w.key[3], w.value[3]);
    acts_note_time(a, t0);
    is_reply(a, r, MQREDIS_STATUS);
    enum mqredis_status set = r->status;
    mqredis_free(r);
    t0 = clock_ns();
    r = mqredis_command(mq, "MGET %s %s %s %s", w.key[0], w.key[1], w.key[2],
                        w.key[3]);
    acts_note_time(a, t0);
    if (is_reply(a, r, MQREDIS_ARRAY))
        compare(a, &w, r, set);
    mqredis_free(r);
    t0 = clock_ns();
    r = mqredis_command(mq, "KEYS %s:%llu:*", prefix,
                        (unsigned long long)a->id);
    acts_note_time(a, t0);
    if (is_reply(a, r, MQREDIS_ARRAY) && set == MQREDIS_OK)
        find_all(a, &w, r);
    mqredis_free(r);
    r = mqredis_command(mq, "DEL %s %s %s %s", w.key[0], w.key[1], w.key[2],
                        w.key[3]);
    if (is_reply(a, r, MQREDIS_INTEGER) &&
        (r->integer > KEYS || (set == MQREDIS_OK && r->integer != KEYS)))
        acts_wrong(a, "DEL gave %lld", (long long)r->integer);
    mqredis_free(r);
}

static void everywhere(struct acts *a, struct mqredis *mq)
{
    acts_step(a, "all masters");
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(mq, "DBSIZE");
    acts_note_time(a, t0);
    if (is_reply(a, r, MQREDIS_INTEGER) && r->integer < 0)
        acts_wrong(a, "DBSIZE gave %lld", (long long)r->integer);
    mqredis_free(r);
    acts_expect(a, mqredis_command(mq, "PING"), MQREDIS_STATUS, 4);
}

/* One element, popped at its key's master, once. */
static void block(struct acts *a, struct mqredis *mq)
{
    char key[ACTS_KEY_SIZE];
    acts_step(a, "block");
    snprintf(key, sizeof(key), "list:%llu", (unsigned long long)a->id);
    struct mqredis_reply *r = mqredis_command(mq, "RPUSH %s %s", key, key);
    bool pushed = is_reply(a, r, MQREDIS_INTEGER) && r->integer == 1;
    mqredis_free(r);
    if (!pushed)
        return;
    uint64_t t0 = clock_ns();
    r = mqredis_command(mq, "BLPOP %s 0.2", key);
    acts_note_time(a, t0);
    if (is_reply(a, r, MQREDIS_ARRAY) &&
        (r->elements != 2 || r->element[1]->type != MQREDIS_STRING ||
         strcmp(r->element[1]->str, key) != 0))
        acts_wrong(a, "BLPOP gave something else");
    mqredis_free(r);
}

void acts_spread_brief(struct acts *a, const char *channel)
{
    struct mqredis *mq = acts_open(a, channel);
    if (mq == NULL)
        return;
    acts_step(a, "moving slot");
    acts_one(a, mq, a->moving);
    acts_one(a, mq, a->moving);
    split(a, mq, "again");
    mqredis_close(mq);
}

void acts_spread(struct acts *a, const char *channel)
{
    struct mqredis *mq = acts_open(a, channel);
    if (mq == NULL)
        return;
    acts_one(a, mq, a->moving);
    split(a, mq, "split");
    everywhere(a, mq);
    block(a, mq);
    acts_shard_stream(a, mq);
    mqredis_close(mq);
}
