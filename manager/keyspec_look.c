/*
 * Specifications are made into ranges of arguments. Arguments are not kept but
 * for the first few: whoever needs a later one (a keyword, the number of keys
 * behind it) walks again, at most twice for each specification.
 *
 * A range that does not fit the arguments has no keys, and the others still
 * count; after a number of keys that is wrong the command has none at all. So
 * does Redis, and says then what is wrong with the command.
 */
#include "manager/keyspec_look.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* ---- the arguments ---- */

static_assert(ARGS_KEPT <= PARSED_ARGS, "what is parsed is enough");

enum err look_begin(struct look *l, const struct framed *command)
{
    const struct parsed *p = command->parsed;
    l->command = command;
    l->kept = 0;
    if (p == NULL) {
        if (framed_args(&l->args, command, &l->argc) != ERR_OK)
            return ERR_PROTO;
        return look_keep(l);
    }
    l->argc = p->argc;
    while (l->kept < ARGS_KEPT && l->kept < p->argc) {
        l->first[l->kept] = p->argv[l->kept];
        l->kept++;
    }
    return ERR_OK;
}

enum err look_keep(struct look *l)
{
    return framed_arg(&l->args, &l->first[l->kept++], NULL);
}

enum err look_visit(const struct look *l, uint32_t from, struct visit *visit)
{
    struct framed_args args;
    uint32_t argc;
    if (framed_args(&args, l->command, &argc) != ERR_OK)
        return ERR_PROTO;
    for (uint32_t i = 0; i < argc; i++) {
        struct resp_arg arg;
        if (framed_arg(&args, &arg, NULL) != ERR_OK)
            return ERR_PROTO;
        if (i >= from && !visit->arg(visit, i, &arg))
            break;
    }
    return ERR_OK;
}

static bool word_is(const struct resp_arg *arg, const char *word)
{
    size_t len = strlen(word);
    return arg->data != NULL && arg->len == len &&
           strncasecmp(arg->data, word, len) == 0;
}

struct fetch {
    struct visit visit;
    struct resp_arg *arg;
};

static bool fetch_one(struct visit *visit, uint32_t index,
                      const struct resp_arg *arg)
{
    (void)index;
    *((struct fetch *)visit)->arg = *arg;
    return false;
}

enum err look_fetch(const struct look *l, uint32_t index, struct resp_arg *arg)
{
    if (index < l->kept) {
        *arg = l->first[index];
        return ERR_OK;
    }
    struct fetch f = {{fetch_one}, arg};
    return look_visit(l, index, &f.visit);
}

int64_t look_number(const struct resp_arg *arg)
{
    if (arg->data == NULL || arg->len == 0 || arg->len > 18 ||
        (arg->data[0] == '0' && arg->len > 1))
        return -1;
    int64_t n = 0;
    for (size_t i = 0; i < arg->len; i++) {
        unsigned digit = (unsigned)(unsigned char)arg->data[i] - '0';
        if (digit > 9)
            return -1;
        n = n * 10 + digit;
    }
    return n;
}

/* ---- specifications ---- */

struct search {
    struct visit visit;
    const char *keyword;
    uint32_t end;   /* the first argument that is not looked at */
    uint32_t found; /* behind the keyword; 0: not found */
    bool last;      /* the last one counts */
};

static bool search_one(struct visit *visit, uint32_t index,
                       const struct resp_arg *arg)
{
    struct search *s = (struct search *)visit;
    if (index >= s->end)
        return false;
    if (!word_is(arg, s->keyword))
        return true;
    s->found = index + 1;
    return s->last;
}

/* Where a specification begins; 0: nowhere. A keyword is never the last
 * argument, nor, looked for from the end, the first one or two. */
static enum err begin_of(const struct look *l, const struct keyspec *s,
                         uint32_t *begin)
{
    *begin = 0;
    if (s->begin == BEGIN_INDEX) {
        *begin = s->at > 0 && (uint32_t)s->at < l->argc ? (uint32_t)s->at : 0;
        return ERR_OK;
    }
    if (s->begin != BEGIN_KEYWORD || s->keyword[0] == '\0')
        return ERR_OK;
    struct search search = {{search_one}, s->keyword, l->argc - 1, 0, false};
    uint32_t from = (uint32_t)s->at;
    if (s->at <= 0) {
        int64_t start = (int64_t)l->argc + s->at;
        if (s->at == 0 || start < 2)
            return ERR_OK;
        search.end = (uint32_t)start + 1;
        search.last = true;
        from = 2;
    }
    enum err e = look_visit(l, from, &search.visit);
    *begin = search.found;
    return e;
}

/* Adds the arguments from `first` to `last`, if they are within the command. */
static void add_range(const struct look *l, struct ranges *r, int64_t first,
                      int64_t last, int64_t step)
{
    if (first < 1 || last < first || last >= l->argc || step < 1 ||
        r->count == KEYSPEC_SPECS)
        return;
    r->items[r->count++] =
        (struct range){(uint32_t)first, (uint32_t)last, (uint32_t)step};
    r->keys += (uint32_t)((last - first) / step + 1);
}

/* ERR_INVALID: its number of keys is none, or of more than there are. */
static enum err add_spec(const struct look *l, const struct keyspec *s,
                         struct ranges *r)
{
    uint32_t begin;
    enum err e = begin_of(l, s, &begin);
    if (e != ERR_OK || begin == 0)
        return e;
    int64_t argc = l->argc, first = begin, last;
    if (s->find == FIND_RANGE) {
        last = s->last >= 0   ? first + s->last
               : s->limit > 1 ? first + (argc - first) / s->limit + s->last
                              : argc + s->last;
        add_range(l, r, first, last, s->step);
    } else if (s->find == FIND_KEYNUM) {
        struct resp_arg arg;
        int64_t at = first + s->last;
        if (at < 1 || at >= argc)
            return ERR_INVALID;
        e = look_fetch(l, (uint32_t)at, &arg);
        if (e != ERR_OK)
            return e;
        int64_t n = look_number(&arg);
        first += s->limit;
        last = first + (n - 1) * s->step;
        if (n < 1 || n > argc || last >= argc)
            return ERR_INVALID;
        add_range(l, r, first, last, s->step);
    }
    return ERR_OK;
}

/* ---- by hand ---- */

/* SORT key [BY pattern] [LIMIT offset count] [GET pattern]... [STORE key]: as
 * Redis looks for it, the last STORE counts. */
struct sort {
    struct visit visit;
    uint32_t skip; /* arguments of an option */
    uint32_t store;
    uint32_t argc;
};

static bool sort_one(struct visit *visit, uint32_t index,
                     const struct resp_arg *arg)
{
    struct sort *s = (struct sort *)visit;
    if (s->skip > 0)
        s->skip--;
    else if (word_is(arg, "LIMIT"))
        s->skip = 2;
    else if (word_is(arg, "GET") || word_is(arg, "BY"))
        s->skip = 1;
    else if (word_is(arg, "STORE") && index + 1 < s->argc)
        s->store = index + 1;
    return true;
}

static enum err sort_keys(const struct look *l, struct ranges *r)
{
    struct sort s = {{sort_one}, 0, 0, l->argc};
    enum err e = look_visit(l, 2, &s.visit);
    add_range(l, r, 1, 1, 1);
    if (s.store != 0)
        add_range(l, r, s.store, s.store, 1);
    return e;
}

/* MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password]
 * [AUTH2 user password] [KEYS key...]: with KEYS, the third must be empty, else
 * Redis sees no key at all. */
struct migrate {
    struct visit visit;
    uint32_t skip;
    uint32_t keys;
};

static bool migrate_one(struct visit *visit, uint32_t index,
                        const struct resp_arg *arg)
{
    struct migrate *m = (struct migrate *)visit;
    if (m->skip > 0) {
        m->skip--;
    } else if (word_is(arg, "AUTH")) {
        m->skip = 1;
    } else if (word_is(arg, "AUTH2")) {
        m->skip = 2;
    } else if (word_is(arg, "KEYS")) {
        m->keys = index + 1;
        return false;
    }
    return true;
}

static enum err migrate_keys(const struct look *l, struct ranges *r)
{
    struct migrate m = {{migrate_one}, 0, 0};
    struct resp_arg key;
    enum err e = look_visit(l, 6, &m.visit);
    if (e == ERR_OK)
        e = look_fetch(l, 3, &key);
    if (e != ERR_OK)
        return e;
    if (m.keys == 0)
        add_range(l, r, 3, 3, 1);
    else if (key.len == 0)
        add_range(l, r, m.keys, (int64_t)l->argc - 1, 1);
    return ERR_OK;
}

enum err look_find(const struct look *l, bool channels, struct ranges *r)
{
    r->count = r->keys = 0;
    switch ((enum keyspec_hand)l->entry->hand) {
    case HAND_SORT:
        return sort_keys(l, r);
    case HAND_MIGRATE:
        return migrate_keys(l, r);
    case HAND_SLOT:
    case HAND_NONE:
        break;
    }
    const struct keyspec_command *c = l->entry->command;
    for (uint8_t i = 0; i < c->nspecs; i++) {
        if (c->specs[i].channel && !channels)
            continue;
        enum err e = add_spec(l, &c->specs[i], r);
        if (e == ERR_INVALID) {
            r->count = r->keys = 0;
            return ERR_OK;
        }
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}
