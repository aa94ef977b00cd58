/* Commands and batches whose keys lie on several nodes, where Redis is a
 * cluster: the manager takes them apart and joins the replies. */
#include "tests/chaos/hand.h"

#include <stdio.h>

/* ---- a batch over several keys, which is no transaction ---- */

static const enum act mixed[] = {ACT_PUSH, ACT_APPEND, ACT_COUNT, ACT_SET,
                                 ACT_ECHO};

static void add_mixed(struct hand *w, struct mqredis_batch *b, uint32_t n)
{
    char text[32];
    unsigned id = w->h->id;
    hand_value(w, n, text);
    enum act act = (enum act)w->h->steps[n].act;
    if (act == ACT_PUSH)
        mqredis_batch_add(b, "RPUSH log:{w%u} %s", id, text);
    else if (act == ACT_APPEND)
        mqredis_batch_add(b, "APPEND text:w%u %u;", id, n);
    else if (act == ACT_COUNT)
        mqredis_batch_add(b, "INCR count:w%u", id);
    else if (act == ACT_SET)
        mqredis_batch_add(b, "SET value:w%u %s", id, text);
    else
        mqredis_batch_add(b, "ECHO %s", text);
}

static void settle_mixed(struct hand *w, uint32_t n,
                         const struct mqredis_reply *r)
{
    char text[32];
    enum act act = (enum act)w->h->steps[n].act;
    if (act == ACT_SET) {
        if (hand_settle(w, n, r, MQREDIS_STATUS))
            w->last_set = n;
    } else if (act == ACT_ECHO) {
        if (hand_settle(w, n, r, MQREDIS_STRING))
            hand_check_text(w, r, hand_value(w, n, text));
    } else if (hand_settle(w, n, r, MQREDIS_INTEGER)) {
        int64_t *known = act == ACT_PUSH     ? &w->log_length
                         : act == ACT_APPEND ? &w->text_length
                                             : &w->counter;
        hand_check_growth(w, n, known, r->integer,
                          w->h->count * (act == ACT_APPEND ? 6 : 1));
    }
}

void act_mixed(struct hand *w)
{
    enum { MAX = 30 };
    uint32_t first = w->h->count;
    int count = dice_between(&w->dice, 2, MAX);
    struct mqredis_batch *b = mqredis_batch_new(w->mq);
    for (int i = 0; i < count; i++) {
        unsigned kind = dice_below(&w->dice, sizeof(mixed) / sizeof(mixed[0]));
        add_mixed(w, b, hand_begin(w, mixed[kind]));
    }
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = mqredis_batch_run(b);
    hand_stop_watch(w, watch, hand_deadline(w, watch), first);
    bool each = r->type == MQREDIS_BATCH;
    if (each && r->elements != (size_t)count)
        history_accuse(w->h, "step %u: a batch of %d had %zu replies", first,
                       count, r->elements);
    for (int i = 0; i < count && (!each || (size_t)i < r->elements); i++)
        settle_mixed(w, first + (uint32_t)i, each ? r->element[i] : r);
    mqredis_free(r);
}

/* ---- one command with several keys ---- */

static struct mqredis_reply *run(struct hand *w, uint32_t n)
{
    static const char *const names[ACT_TYPES] = {
        [ACT_SPREAD] = "MSET", [ACT_GATHER] = "MGET", [ACT_ERASE] = "DEL"};
    enum act act = (enum act)w->h->steps[n].act;
    char keys[HISTORY_SPREAD][48], values[HISTORY_SPREAD][48];
    const char *argv[1 + 2 * HISTORY_SPREAD] = {names[act]};
    size_t argc = 1;
    for (unsigned i = 0; i < HISTORY_SPREAD; i++) {
        argv[argc++] = history_spread_key(w->h, i, keys[i]);
        if (act == ACT_SPREAD)
            argv[argc++] = history_spread_value(w->h, n, i, values[i]);
    }
    return mqredis_command_argv(w->mq, argc, argv, NULL);
}

static void judge_gathered(struct hand *w, uint32_t n,
                           const struct mqredis_reply *r)
{
    if (r->elements != HISTORY_SPREAD) {
        history_accuse(w->h, "step %u: MGET of %d keys brought %zu", n,
                       HISTORY_SPREAD, r->elements);
        return;
    }
    for (size_t i = 0; i < r->elements; i++) {
        const struct mqredis_reply *one = r->element[i];
        uint32_t found = 0;
        bool may = one->type == MQREDIS_NIL
                       ? history_may_be_nil(w->h, w->last_spread)
                       : one->type == MQREDIS_STRING &&
                             history_parse_spread(w->h, one->str, one->len,
                                                  (unsigned)i, &found) &&
                             history_may_stand(w->h, found, ACT_SPREAD,
                                               w->last_spread);
        if (!may)
            history_accuse(w->h,
                           "step %u: MGET: key %zu is \"%.40s\", but the last "
                           "one acknowledged is step %d",
                           n, i, one->type == MQREDIS_NIL ? "nil" : one->str,
                           (int)w->last_spread);
    }
    w->h->checked++;
}

static void judge_erased(struct hand *w, uint32_t n, int64_t count)
{
    bool set = w->last_spread != NOBODY &&
               w->h->steps[w->last_spread].act == ACT_SPREAD;
    int64_t known = set ? HISTORY_SPREAD : 0;
    if (count < 0 || count > HISTORY_SPREAD ||
        (w->doubtful_spreads == 0 && count != known))
        history_accuse(w->h, "step %u: DEL deleted %lld keys, not %lld", n,
                       (long long)count, (long long)known);
    w->h->checked++;
}

/* An error is one of the parts': the others may have done their work. */
static void doubt(struct hand *w, uint32_t n, const struct mqredis_reply *r)
{
    if (r->type == MQREDIS_ERROR)
        hand_fate(w, n, FATE_MAYBE);
    if (w->h->steps[n].act != ACT_GATHER && w->h->steps[n].fate == FATE_MAYBE)
        w->doubtful_spreads++;
}

void act_spread(struct hand *w)
{
    static const enum mqredis_type types[ACT_TYPES] = {
        [ACT_SPREAD] = MQREDIS_STATUS,
        [ACT_GATHER] = MQREDIS_ARRAY,
        [ACT_ERASE] = MQREDIS_INTEGER,
    };
    unsigned roll = dice_below(&w->dice, 100);
    enum act act = roll < 45 ? ACT_SPREAD : roll < 80 ? ACT_GATHER : ACT_ERASE;
    uint32_t n = hand_begin(w, act);
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = run(w, n);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n);
    if (!hand_settle(w, n, r, types[act])) {
        doubt(w, n, r);
    } else if (act == ACT_GATHER) {
        judge_gathered(w, n, r);
    } else {
        if (act == ACT_ERASE)
            judge_erased(w, n, r->integer);
        w->last_spread = n;
    }
    mqredis_free(r);
}
