/*
 * The table: from the built-in rows or a server's COMMAND, and from what no
 * server says (`by_hand`). Each change makes it anew, as a whole or not at
 * all.
 */
#include "manager/keyspec_table.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "manager/described.h"

/* ---- what the tips do not say, or say for others than us ---- */

static const struct by_hand {
    const char *name;
    enum spread spread;
    enum join join;
    enum keyspec_hand hand;
} by_hand[] = {
    /* Split, whatever a server's tips are: these and no others. MSETNX has the
     * tip too, but to set some of its keys is what it must not do. */
    {"MGET", SPREAD_SPLIT, JOIN_ORDER, HAND_NONE},
    {"MSET", SPREAD_SPLIT, JOIN_OK, HAND_NONE},
    {"DEL", SPREAD_SPLIT, JOIN_SUM, HAND_NONE},
    {"UNLINK", SPREAD_SPLIT, JOIN_SUM, HAND_NONE},
    {"EXISTS", SPREAD_SPLIT, JOIN_SUM, HAND_NONE},
    {"TOUCH", SPREAD_SPLIT, JOIN_SUM, HAND_NONE},
    /* Every node knows its own subscribers only. */
    {"PUBSUB|CHANNELS", SPREAD_NODES, JOIN_UNION, HAND_NONE},
    {"PUBSUB|NUMSUB", SPREAD_NODES, JOIN_MAP_SUM, HAND_NONE},
    {"PUBSUB|NUMPAT", SPREAD_NODES, JOIN_SUM, HAND_NONE},
    {"PUBSUB|SHARDCHANNELS", SPREAD_NODES, JOIN_UNION, HAND_NONE},
    {"PUBSUB|SHARDNUMSUB", SPREAD_NODES, JOIN_MAP_SUM, HAND_NONE},
    /* "special" tips with a meaning. */
    {"RANDOMKEY", SPREAD_MASTERS, JOIN_ANY, HAND_NONE},
    {"SCAN", SPREAD_SCAN, JOIN_ONE, HAND_NONE},
    /* Keys in no specification. */
    {"SORT", SPREAD_ANY, JOIN_ONE, HAND_SORT},
    {"MIGRATE", SPREAD_ANY, JOIN_ONE, HAND_MIGRATE},
    {"CLUSTER|COUNTKEYSINSLOT", SPREAD_ANY, JOIN_ONE, HAND_SLOT},
    {"CLUSTER|GETKEYSINSLOT", SPREAD_ANY, JOIN_ONE, HAND_SLOT},
};

/* By the tips. A reply that is joined in a "special" way is nobody's to join:
 * one node's own is clear, a text of three nodes' is not. */
static void by_tips(struct keyspec_entry *e, const struct keyspec_command *c)
{
    static const enum join joins[] = {
        [RESPONSE_NONE] = JOIN_CONCAT, [RESPONSE_ONE] = JOIN_FIRST_OK,
        [RESPONSE_ALL] = JOIN_OK,      [RESPONSE_AND] = JOIN_AND,
        [RESPONSE_OR] = JOIN_OR,       [RESPONSE_MIN] = JOIN_MIN,
        [RESPONSE_MAX] = JOIN_MAX,     [RESPONSE_SUM] = JOIN_SUM,
        [RESPONSE_SPECIAL] = JOIN_ONE,
    };
    e->spread = SPREAD_ANY;
    e->join = JOIN_ONE;
    if (c->response == RESPONSE_SPECIAL)
        return;
    if (c->request == REQUEST_SHARDS)
        e->spread = SPREAD_MASTERS;
    else if (c->request == REQUEST_NODES)
        e->spread = SPREAD_NODES;
    else
        return;
    e->join = (uint8_t)joins[c->response];
}

/* ---- building ---- */

struct keyspec_entry *keyspec_slot(struct keyspec_entry *slots, uint32_t mask,
                                   const char *name, size_t len)
{
    uint32_t hash = name_hash(name, len);
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct keyspec_entry *e = &slots[i];
        if (e->name == NULL)
            return e;
        /* Most send their commands in upper case. */
        if (e->hash == hash && e->len == len &&
            (memcmp(e->name, name, len) == 0 ||
             strncasecmp(e->name, name, len) == 0))
            return e;
    }
}

/* The argument that is its only key, if one look is enough to know that. */
static uint8_t quick_key(const struct keyspec_entry *e)
{
    const struct keyspec *s = e->command->specs;
    bool quick = e->hand == HAND_NONE && e->command->nspecs == 1 &&
                 s->begin == BEGIN_INDEX && s->find == FIND_RANGE &&
                 s->last == 0 && s->at > 0 && s->at < UINT8_MAX;
    return quick ? (uint8_t)s->at : 0;
}

/* Whether any of its keys, with what belongs to each, are such a command. */
static bool can_split(const struct keyspec_command *c)
{
    const struct keyspec *s = c->specs;
    return c->nspecs == 1 && s->begin == BEGIN_INDEX && s->at > 0 &&
           s->find == FIND_RANGE && s->last == -1 && s->limit <= 1 &&
           s->step > 0 && c->arity < 0 && -c->arity <= s->at + s->step;
}

static void put(struct keyspecs *k, const struct keyspec_command *c,
                const char *name, size_t len)
{
    static const struct keyspec_command container = {.arity = -1};
    const char *bar = memchr(name, '|', len);
    if (bar != NULL) {
        size_t first = (size_t)(bar - name);
        if (keyspec_slot(k->slots, k->mask, name, first)->name == NULL)
            put(k, &container, name, first);
        keyspec_slot(k->slots, k->mask, name, first)->has_sub = true;
    }
    struct keyspec_entry *e = keyspec_slot(k->slots, k->mask, name, len);
    bool has_sub = e->name != NULL && e->has_sub;
    *e = (struct keyspec_entry){
        .name = name,
        .command = c,
        .hash = name_hash(name, len),
        .len = (uint8_t)len,
        .has_sub = has_sub,
    };
    by_tips(e, c);
    for (size_t i = 0; i < sizeof(by_hand) / sizeof(by_hand[0]); i++) {
        const struct by_hand *h = &by_hand[i];
        if (strlen(h->name) == len && memcmp(h->name, name, len) == 0 &&
            (h->spread != SPREAD_SPLIT || can_split(c))) {
            e->spread = (uint8_t)h->spread;
            e->join = (uint8_t)h->join;
            e->hand = (uint8_t)h->hand;
        }
    }
    e->quick = quick_key(e);
}

/* Makes the slots: of the built-in rows, if they are asked for, below those
 * that were learned. */
static enum err build(struct keyspecs *k, bool builtin)
{
    const struct keyspec_learned *l = &k->learned;
    size_t most = l->ncommands + (builtin ? keyspec_nbuiltin : 0);
    uint32_t room = 256;
    while (room < most * 2 * 2) /* a container each, then at most half full */
        room *= 2;
    k->slots = calloc(room, sizeof(k->slots[0]));
    if (k->slots == NULL)
        return ERR_NOMEM;
    k->mask = room - 1;
    for (size_t i = 0; i < l->ncommands; i++)
        put(k, &l->commands[i], l->commands[i].name,
            strlen(l->commands[i].name));
    for (size_t i = 0; builtin && i < keyspec_nbuiltin; i++)
        put(k, &keyspec_builtin[i], keyspec_builtin[i].name,
            strlen(keyspec_builtin[i].name));
    return ERR_OK;
}

static void learned_release(struct keyspec_learned *l)
{
    free(l->commands);
    free(l->specs);
    free(l->names);
}

enum err keyspecs_new(struct keyspecs **keyspecs)
{
    struct keyspecs *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return ERR_NOMEM;
    if (build(k, true) != ERR_OK) {
        free(k);
        return ERR_NOMEM;
    }
    *keyspecs = k;
    return ERR_OK;
}

void keyspecs_free(struct keyspecs *keyspecs)
{
    if (keyspecs == NULL)
        return;
    learned_release(&keyspecs->learned);
    free(keyspecs->slots);
    free(keyspecs);
}

/* ---- learning ---- */

/* The reply is walked twice: to count, and to fill what was allocated. */
struct learning {
    struct keyspec_learned *learned; /* NULL: counting */
    size_t ncommands, nspecs, names_len;
    bool has_tips;
};

static bool word_is(const char *word, size_t len, const char *what)
{
    return strlen(what) == len && memcmp(word, what, len) == 0;
}

static int16_t clamped(int64_t n)
{
    return (int16_t)(n < INT16_MIN ? INT16_MIN : n > INT16_MAX ? INT16_MAX : n);
}

static uint8_t index_of(const char *word, size_t len, const char *const *names,
                        size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (word_is(word, len, names[i]))
            return (uint8_t)i;
    }
    return 0;
}

static enum err learn_tips(struct described_list list,
                           struct keyspec_command *c)
{
    static const char *const requests[] = {
        [REQUEST_NONE] = "",
        [REQUEST_NODES] = "request_policy:all_nodes",
        [REQUEST_SHARDS] = "request_policy:all_shards",
        [REQUEST_SPLIT] = "request_policy:multi_shard",
        [REQUEST_SPECIAL] = "request_policy:special",
    };
    static const char *const responses[] = {
        [RESPONSE_NONE] = "",
        [RESPONSE_ONE] = "response_policy:one_succeeded",
        [RESPONSE_ALL] = "response_policy:all_succeeded",
        [RESPONSE_AND] = "response_policy:agg_logical_and",
        [RESPONSE_OR] = "response_policy:agg_logical_or",
        [RESPONSE_MIN] = "response_policy:agg_min",
        [RESPONSE_MAX] = "response_policy:agg_max",
        [RESPONSE_SUM] = "response_policy:agg_sum",
        [RESPONSE_SPECIAL] = "response_policy:special",
    };
    const char *tip;
    size_t len;
    enum err e;
    while ((e = described_word(&list, &tip, &len)) == ERR_OK) {
        uint8_t request = index_of(tip, len, requests,
                                   sizeof(requests) / sizeof(requests[0]));
        uint8_t response = index_of(tip, len, responses,
                                    sizeof(responses) / sizeof(responses[0]));
        if (request != 0)
            c->request = request;
        if (response != 0)
            c->response = response;
    }
    return e == ERR_CLOSED ? ERR_OK : e;
}

static enum err learn_flags(struct described_list list,
                            struct keyspec_command *c)
{
    const char *flag;
    size_t len;
    enum err e;
    while ((e = described_word(&list, &flag, &len)) == ERR_OK)
        c->readonly |= word_is(flag, len, "readonly");
    return e == ERR_CLOSED ? ERR_OK : e;
}

/* The name and number pairs of a search: "index", "startfrom", ... */
static enum err learn_numbers(struct walk *w, struct keyspec *s)
{
    int64_t pairs;
    const char *name, *text;
    size_t len, text_len;
    enum err e = walk_pairs(w, &pairs);
    for (; e == ERR_OK && pairs > 0; pairs--) {
        int64_t n;
        e = walk_string(w, &name, &len);
        if (e != ERR_OK)
            return e;
        if (word_is(name, len, "keyword")) {
            e = walk_string(w, &text, &text_len);
            /* A longer one is not known to any server; look for none. */
            if (e == ERR_OK && text_len < KEYSPEC_KEYWORD_MAX) {
                memcpy(s->keyword, text, text_len);
                s->keyword[text_len] = '\0';
            }
            continue;
        }
        e = walk_integer(w, &n);
        if (e != ERR_OK)
            return e;
        if (word_is(name, len, "index") || word_is(name, len, "startfrom"))
            s->at = clamped(n);
        else if (word_is(name, len, "lastkey") ||
                 word_is(name, len, "keynumidx"))
            s->last = clamped(n);
        else if (word_is(name, len, "limit") || word_is(name, len, "firstkey"))
            s->limit = clamped(n);
        else if (word_is(name, len, "keystep"))
            s->step = clamped(n);
    }
    return e;
}

/* `begin_search` or `find_keys`: its type and its numbers. */
static enum err learn_search(struct walk *w, struct keyspec *s)
{
    int64_t pairs;
    const char *name, *type;
    size_t len, type_len;
    enum err e = walk_pairs(w, &pairs);
    for (; e == ERR_OK && pairs > 0; pairs--) {
        e = walk_string(w, &name, &len);
        if (e != ERR_OK)
            break;
        if (word_is(name, len, "spec")) {
            e = learn_numbers(w, s);
        } else if (word_is(name, len, "type")) {
            e = walk_string(w, &type, &type_len);
            if (e != ERR_OK)
                break;
            if (word_is(type, type_len, "index"))
                s->begin = BEGIN_INDEX;
            else if (word_is(type, type_len, "keyword"))
                s->begin = BEGIN_KEYWORD;
            else if (word_is(type, type_len, "range"))
                s->find = FIND_RANGE;
            else if (word_is(type, type_len, "keynum"))
                s->find = FIND_KEYNUM;
        } else {
            e = walk_skip(w, 1);
        }
    }
    return e;
}

static enum err learn_spec_flags(struct walk *w, struct keyspec *s)
{
    int64_t count;
    const char *flag;
    size_t len;
    enum err e = walk_list(w, &count);
    for (; e == ERR_OK && count > 0; count--) {
        e = walk_string(w, &flag, &len);
        if (e == ERR_OK && word_is(flag, len, "not_key"))
            s->channel = true;
    }
    return e;
}

static enum err learn_spec(struct walk *w, struct keyspec *s)
{
    int64_t pairs;
    const char *name;
    size_t len;
    enum err e = walk_pairs(w, &pairs);
    for (; e == ERR_OK && pairs > 0; pairs--) {
        e = walk_string(w, &name, &len);
        if (e != ERR_OK)
            break;
        if (word_is(name, len, "begin_search") ||
            word_is(name, len, "find_keys"))
            e = learn_search(w, s);
        else if (word_is(name, len, "flags"))
            e = learn_spec_flags(w, s);
        else
            e = walk_skip(w, 1);
    }
    return e;
}

/* The three numbers of a server before Redis 7, or of a module. */
static void legacy_spec(const struct described *d, struct keyspec *s)
{
    int64_t last = d->last_key;
    *s = (struct keyspec){
        .begin = BEGIN_INDEX,
        .find = FIND_RANGE,
        .at = clamped(d->first_key),
        .last = clamped(last < 0 ? last : last - d->first_key),
        .step = clamped(d->key_step),
    };
}

static enum err fill(struct learning *l, const struct described *d,
                     size_t nspecs)
{
    struct keyspec_learned *to = l->learned;
    struct keyspec_command *c = &to->commands[to->ncommands];
    char *name = to->names + to->names_len;
    for (size_t i = 0; i < d->len; i++)
        name[i] = name_upper(d->name[i]);
    name[d->len] = '\0';
    *c = (struct keyspec_command){
        .name = name,
        .specs = to->specs + to->nspecs,
        .nspecs = (uint8_t)nspecs,
        .arity = clamped(d->arity),
    };
    enum err e = learn_flags(d->flags, c);
    if (e == ERR_OK)
        e = learn_tips(d->tips, c);
    struct walk w = d->specs.walk;
    struct keyspec *s = to->specs + to->nspecs;
    if (e == ERR_OK && d->specs.count == 0 && nspecs == 1)
        legacy_spec(d, s);
    for (size_t i = 0; e == ERR_OK && d->specs.count > 0 && i < nspecs; i++)
        e = learn_spec(&w, &s[i]);
    to->ncommands++;
    to->nspecs += nspecs;
    to->names_len += d->len + 1;
    return e;
}

static enum err learn_command(void *context, const struct described *d)
{
    struct learning *l = context;
    if (d->len == 0 || d->len > NAME_KEY_MAX ||
        memchr(d->name, '\0', d->len) != NULL)
        return ERR_OK; /* no name that anybody sends */
    size_t nspecs =
        d->specs.count < KEYSPEC_SPECS ? (size_t)d->specs.count : KEYSPEC_SPECS;
    if (nspecs == 0 && d->first_key > 0)
        nspecs = 1;
    if (l->learned != NULL)
        return fill(l, d, nspecs);
    if (l->ncommands == KEYSPEC_LEARNED)
        return ERR_PROTO;
    l->ncommands++;
    l->nspecs += nspecs;
    l->names_len += d->len + 1;
    l->has_tips |= d->has_tips;
    return ERR_OK;
}

enum err keyspecs_learn(struct keyspecs *keyspecs, const char *reply,
                        size_t len)
{
    struct learning l = {0};
    struct keyspec_learned learned = {0};
    enum err e = described_walk(reply, len, learn_command, &l);
    if (e != ERR_OK)
        return e;
    learned.commands = calloc(l.ncommands + 1, sizeof(learned.commands[0]));
    learned.specs = calloc(l.nspecs + 1, sizeof(learned.specs[0]));
    learned.names = malloc(l.names_len + 1);
    e = ERR_NOMEM;
    if (learned.commands == NULL || learned.specs == NULL ||
        learned.names == NULL)
        goto drop;
    l.learned = &learned;
    e = described_walk(reply, len, learn_command, &l);
    if (e != ERR_OK)
        goto drop;

    struct keyspecs made = {.learned = learned};
    e = build(&made, !l.has_tips);
    if (e != ERR_OK)
        goto drop;
    learned_release(&keyspecs->learned);
    free(keyspecs->slots);
    *keyspecs = made;
    return ERR_OK;
drop:
    learned_release(&learned);
    return e;
}
