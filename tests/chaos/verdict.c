/* One history after the other, structure by structure. */
#include "tests/chaos/verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/cluster.h"
#include "tests/support.h"
#include "tests/support_redis.h"

#define REPLY_MS 20000

struct court {
    struct world *world;
    const struct history *h;
    struct redis_link link[WORLD_SERVERS];
    uint8_t seen[HISTORY_STEPS];
    uint32_t suspect; /* the step of the last accusation */
};

#define accuse(c, step, ...)                                                   \
    do {                                                                       \
        char text_[400];                                                       \
        snprintf(text_, sizeof(text_), __VA_ARGS__);                           \
        (c)->suspect = (step);                                                 \
        world_accuse((c)->world, "w%u: %s", (c)->h->id, text_);                \
    } while (0)

/* A command, of which `key` is the one key: it is asked of whoever has that. */
static bool ask(struct court *c, const char *command, const char *key,
                const char *rest, const char **reply, size_t *len)
{
    char text[160];
    unsigned node = c->world->plan->cluster ? cluster_owner(c->world, key) : 0;
    snprintf(text, sizeof(text), "%s %s%s", command, key, rest);
    redis_link_command(&c->link[node], text);
    if (redis_link_reply(&c->link[node], REPLY_MS, reply, len) == REDIS_REPLY &&
        **reply != '-')
        return true;
    world_accuse(c->world, "redis %u does not answer '%s' at the end", node,
                 text);
    return false;
}

/* Takes a bulk string off the front of a reply. False: it is none. */
static bool take_bulk(const char **at, const char *end, const char **text,
                      size_t *len)
{
    if (*at >= end || **at != '$')
        return false;
    long n = strtol(*at + 1, NULL, 10);
    const char *body = memchr(*at, '\n', (size_t)(end - *at));
    if (n < 0 || body == NULL || end - ++body < n + 2)
        return false;
    *text = body;
    *len = (size_t)n;
    *at = body + n + 2;
    return true;
}

static void see(struct court *c, uint32_t n, const char *where)
{
    const struct step *s = &c->h->steps[n];
    if (++c->seen[n] == 2)
        accuse(c, n, "step %u (%s, %s) was executed twice: it is twice in %s",
               n, act_names[s->act], fate_names[s->fate], where);
    if (s->fate == FATE_NOT)
        accuse(c, n,
               "step %u (%s) was executed, but reported as not executed: %s", n,
               act_names[s->act], where);
}

/* Reads a list of "wN:step" and marks in `seen` what is there. */
static void read_list(struct court *c, const char *list, bool tagged,
                      enum act one, enum act other)
{
    char key[64];
    const char *reply, *text;
    size_t len;
    uint32_t n, newest = 0;
    memset(c->seen, 0, sizeof(c->seen));
    snprintf(key, sizeof(key), tagged ? "%s:{w%u}" : "%s:w%u", list, c->h->id);
    if (!ask(c, "LRANGE", key, " 0 -1", &reply, &len))
        return;
    const char *end = reply + len, *at = memchr(reply, '\n', len);
    at = at == NULL ? end : at + 1;
    while (take_bulk(&at, end, &text, &len)) {
        if (!history_parse(c->h, text, len, &n) || n >= c->h->count ||
            (c->h->steps[n].act != one && c->h->steps[n].act != other)) {
            accuse(c, c->h->count,
                   "%s holds \"%.*s\", which it never wrote there", list,
                   (int)(len < 60 ? len : 60), text);
            continue;
        }
        see(c, n, list);
        if (c->h->steps[n].fate != FATE_DONE)
            continue;
        if (n < newest)
            accuse(c, n, "step %u was executed after step %u", n, newest);
        newest = n;
    }
}

/* Everything acknowledged must have been seen. */
static void check_there(struct court *c, const char *where, enum act one,
                        enum act other)
{
    for (uint32_t n = 0; n < c->h->count; n++) {
        const struct step *s = &c->h->steps[n];
        if ((s->act == one || s->act == other) && s->fate == FATE_DONE &&
            c->seen[n] == 0)
            accuse(c, n, "step %u (%s) was acknowledged, but is not in %s", n,
                   act_names[s->act], where);
    }
}

static void judge_logs(struct court *c)
{
    static bool in_log[HISTORY_STEPS];
    read_list(c, "log", true, ACT_PUSH, ACT_BOTH);
    check_there(c, "log", ACT_PUSH, ACT_BOTH);
    for (uint32_t n = 0; n < c->h->count; n++)
        in_log[n] = c->seen[n] > 0;
    read_list(c, "both", true, ACT_BOTH, ACT_BOTH);
    for (uint32_t n = 0; n < c->h->count; n++)
        if (c->h->steps[n].act == ACT_BOTH && in_log[n] != (c->seen[n] > 0))
            accuse(c, n, "of the transaction of step %u only half was executed",
                   n);
}

static void judge_queue(struct court *c)
{
    long missing = 0, doubtful = 0;
    uint32_t first = 0;
    read_list(c, "queue", false, ACT_QUEUE, ACT_QUEUE);
    for (uint32_t n = 0; n < c->h->count; n++) {
        const struct step *s = &c->h->steps[n];
        doubtful += s->act == ACT_POP &&
                    (s->fate == FATE_MAYBE || s->fate == FATE_OPEN);
        if (s->act != ACT_QUEUE)
            continue;
        if (s->popped > 0 && c->seen[n] > 0)
            accuse(c, n, "step %u was popped and is still in the queue", n);
        if (s->fate == FATE_DONE && s->popped == 0 && c->seen[n] == 0 &&
            missing++ == 0)
            first = n;
    }
    if (missing > doubtful)
        accuse(c, first,
               "%ld elements of the queue are gone (the first is step %u), "
               "but only %ld pops are in doubt",
               missing, first, doubtful);
}

static bool get_key(struct court *c, const char *key, const char **text,
                    size_t *len)
{
    const char *reply;
    if (!ask(c, "GET", key, "", &reply, len))
        return false;
    const char *at = reply;
    return take_bulk(&at, reply + *len, text, len);
}

/* A string's value; false: there is none. */
static bool get(struct court *c, const char *name, const char **text,
                size_t *len)
{
    char key[64];
    snprintf(key, sizeof(key), "%s:w%u", name, c->h->id);
    return get_key(c, key, text, len);
}

static void judge_text(struct court *c)
{
    const char *text;
    size_t len;
    memset(c->seen, 0, sizeof(c->seen));
    if (get(c, "text", &text, &len)) {
        for (const char *end = text + len; text < end;) {
            char *after;
            unsigned long n = strtoul(text, &after, 10);
            if (*after != ';' || n >= c->h->count ||
                c->h->steps[n].act != ACT_APPEND) {
                accuse(c, c->h->count,
                       "text holds \"%.12s\", which it never wrote there",
                       text);
                return;
            }
            see(c, (uint32_t)n, "text");
            text = after + 1;
        }
    }
    check_there(c, "text", ACT_APPEND, ACT_APPEND);
}

static void judge_count(struct court *c)
{
    const char *text;
    size_t len;
    long done = 0, doubtful = 0;
    long value = get(c, "count", &text, &len) ? strtol(text, NULL, 10) : 0;
    for (uint32_t n = 0; n < c->h->count; n++)
        if (c->h->steps[n].act == ACT_COUNT) {
            done += c->h->steps[n].fate == FATE_DONE;
            doubtful += c->h->steps[n].fate == FATE_MAYBE ||
                        c->h->steps[n].fate == FATE_OPEN;
        }
    if (value < done || value > done + doubtful)
        accuse(c, c->h->count,
               "count is %ld after %ld INCR acknowledged and %ld in doubt",
               value, done, doubtful);
}

static void judge_value(struct court *c, const char *key, enum act act)
{
    const char *text;
    size_t len;
    uint32_t last = UINT32_MAX, n;
    for (uint32_t i = 0; i < c->h->count; i++)
        if (c->h->steps[i].act == act && c->h->steps[i].fate == FATE_DONE)
            last = i;
    if (!get(c, key, &text, &len)) {
        if (last != UINT32_MAX)
            accuse(c, last, "%s is gone, step %u had set it", key, last);
        return;
    }
    bool own = act == ACT_BIG ? history_is_filled(c->h, text, len, &n) == 1
                              : history_parse(c->h, text, len, &n);
    if (!own)
        accuse(c, c->h->count, "%s holds \"%.*s\", which it never wrote there",
               key, (int)(len < 40 ? len : 40), text);
    else if (!history_may_stand(c->h, n, act, last))
        accuse(c, n,
               "%s holds the value of step %u (%s), but the last one "
               "acknowledged is step %d",
               key, n, fate_names[c->h->steps[n].fate], (int)last);
}

/* What several commands set and delete together, key by key: in a cluster each
 * part is for itself. */
static void judge_spread(struct court *c)
{
    const char *text;
    size_t len;
    char key[48];
    uint32_t last = UINT32_MAX, n;
    for (uint32_t i = 0; i < c->h->count; i++)
        if ((c->h->steps[i].act == ACT_SPREAD ||
             c->h->steps[i].act == ACT_ERASE) &&
            c->h->steps[i].fate == FATE_DONE)
            last = i;
    for (unsigned k = 0; k < HISTORY_SPREAD; k++) {
        history_spread_key(c->h, k, key);
        if (!get_key(c, key, &text, &len)) {
            if (!history_may_be_nil(c->h, last))
                accuse(c, last, "%s is gone, step %u had set it", key, last);
        } else if (!history_parse_spread(c->h, text, len, k, &n) ||
                   !history_may_stand(c->h, n, ACT_SPREAD, last)) {
            accuse(c, last,
                   "%s holds \"%.*s\", but the last one acknowledged is "
                   "step %d",
                   key, (int)(len < 40 ? len : 40), text, (int)last);
        }
    }
}

static void connect_to(struct court *c, unsigned i)
{
    const struct server *s = &c->world->servers[i];
    struct redis redis = {.pid = s->player.pid};
    memcpy(redis.path, s->path, sizeof(redis.path));
    redis_link_open(&c->link[i], &redis);
    /* It may still be reading its log. */
    if (!UNTIL(redis_link_ask(&c->link[i], "PING")[0] == '+'))
        world_accuse(c->world, "redis does not serve at the end");
}

void verdict_reach(struct world *w)
{
    struct court c = {.world = w};
    for (unsigned i = 0; i < w->server_count; i++)
        connect_to(&c, i);
    for (unsigned i = 0; i < w->history_count; i++) {
        unsigned before = w->violations;
        c.h = &w->histories[i];
        judge_logs(&c);
        judge_queue(&c);
        judge_text(&c);
        judge_count(&c);
        judge_value(&c, "value", ACT_SET);
        judge_value(&c, "big", ACT_BIG);
        judge_spread(&c);
        if (w->violations > before)
            history_show(c.h, c.suspect);
    }
    for (unsigned i = 0; i < w->server_count; i++)
        redis_link_close(&c.link[i]);
}
