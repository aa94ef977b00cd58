/*
 * Joining. A reply is looked at when it comes, and only what the join may still
 * need of it is kept: the numbers joined so far, the one reply that wins by
 * now, or (ORDER, CONCAT, UNION) a copy of all.
 */
#include "manager/gather_parts.h"

#include <stdlib.h>
#include <string.h>

enum err gather_init(struct gather *g, enum join join, uint32_t nparts,
                     size_t limit)
{
    struct gathered *replies = calloc(nparts, sizeof(*replies));
    if (replies == NULL)
        return ERR_NOMEM;
    *g = (struct gather){
        .join = join,
        .nparts = nparts,
        .left = nparts,
        .limit = limit,
        .error = nparts,
        .reply = nparts,
        .replies = replies,
    };
    return ERR_OK;
}

static void drop_kept(struct gather *g)
{
    for (uint32_t i = 0; i < g->nparts; i++) {
        free(g->replies[i].data);
        g->replies[i].data = NULL;
    }
    free(g->numbers);
    g->numbers = NULL;
    g->nnumbers = 0;
    g->kept = 0;
}

void gather_release(struct gather *g)
{
    if (g->replies != NULL) {
        drop_kept(g);
        for (uint32_t i = 0; i < g->nparts; i++)
            free(g->replies[i].index);
    }
    free(g->replies);
    free(g->result);
    *g = (struct gather){0};
}

enum err gather_keys(struct gather *g, uint32_t number, const struct part *part)
{
    struct gathered *r = &g->replies[number];
    uint32_t *index = malloc((part->nkeys + 1) * sizeof(*index));
    if (index == NULL)
        return ERR_NOMEM;
    memcpy(index, part->index, part->nkeys * sizeof(*index));
    r->index = index;
    r->nkeys = part->nkeys;
    g->nkeys += part->nkeys;
    return ERR_OK;
}

/* ---- keeping ---- */

static enum err reserve(struct gather *g, size_t len)
{
    if (len > g->limit - g->kept)
        return ERR_LIMIT;
    g->kept += len;
    return ERR_OK;
}

static enum err keep(struct gather *g, uint32_t number, const char *reply,
                     size_t len)
{
    struct gathered *r = &g->replies[number];
    enum err e = reserve(g, len);
    if (e != ERR_OK)
        return e;
    r->data = malloc(len);
    if (r->data == NULL)
        return ERR_NOMEM;
    memcpy(r->data, reply, len);
    r->len = len;
    return ERR_OK;
}

static void forget(struct gather *g, uint32_t number)
{
    if (number == g->nparts)
        return;
    struct gathered *r = &g->replies[number];
    g->kept -= r->len;
    free(r->data);
    r->data = NULL;
    r->len = 0;
}

/* Keeps the reply in place of the one that *kept names. */
static enum err replace(struct gather *g, uint32_t *kept, uint32_t number,
                        const char *reply, size_t len)
{
    forget(g, *kept);
    *kept = number;
    return keep(g, number, reply, len);
}

/* Not the error of a node that had nothing to kill. */
static bool is_telling(const struct gathered *r)
{
    return r->len < 8 || memcmp(r->data, "-NOTBUSY", 8) != 0;
}

static enum err add_error(struct gather *g, uint32_t number, const char *reply,
                          size_t len)
{
    bool better = number < g->error;
    if (g->join == JOIN_FIRST_OK && g->error != g->nparts) {
        struct gathered this = {.data = (char *)(uintptr_t)reply, .len = len};
        bool had = is_telling(&g->replies[g->error]), has = is_telling(&this);
        if (had != has)
            better = has;
    }
    return better ? replace(g, &g->error, number, reply, len) : ERR_OK;
}

/* ---- numbers ---- */

static bool joined(enum join join, int64_t *to, int64_t n)
{
    switch (join) {
    case JOIN_SUM:
    case JOIN_MAP_SUM:
        return !__builtin_add_overflow(*to, n, to);
    case JOIN_MIN:
        *to = n < *to ? n : *to;
        return true;
    case JOIN_MAX:
        *to = n > *to ? n : *to;
        return true;
    case JOIN_AND:
        *to = *to != 0 && n != 0;
        return true;
    case JOIN_OR:
        *to = *to != 0 || n != 0;
        return true;
    case JOIN_ONE:
    case JOIN_ORDER:
    case JOIN_OK:
    case JOIN_FIRST_OK:
    case JOIN_ANY:
    case JOIN_CONCAT:
    case JOIN_UNION:
        break;
    }
    return false;
}

/* Reads the head of what holds numbers: 0 for a lone one. */
static enum err numbers_head(struct walk *w, char *list, int64_t *count)
{
    struct walk before = *w;
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK || v.null)
        return ERR_PROTO;
    *list = 0;
    *count = 1;
    if (v.type == ':') {
        *w = before;
        return ERR_OK;
    }
    if (v.type != '*' && v.type != '%')
        return ERR_PROTO;
    *list = v.type;
    *count = v.number;
    return ERR_OK;
}

/* Joins a list of numbers, or one, with what was joined before. */
static enum err add_numbers(struct gather *g, struct walk w)
{
    char list;
    int64_t count, n;
    if (numbers_head(&w, &list, &count) != ERR_OK || list == '%')
        return ERR_PROTO;
    bool first = g->numbers == NULL;
    if (first) {
        enum err e = reserve(g, (size_t)count * sizeof(g->numbers[0]));
        if (e != ERR_OK)
            return e;
        g->numbers = calloc((size_t)count + 1, sizeof(g->numbers[0]));
        if (g->numbers == NULL)
            return ERR_NOMEM;
        g->list = list;
        g->nnumbers = (uint32_t)count;
    }
    if (list != g->list || count != g->nnumbers)
        return ERR_PROTO;
    for (int64_t i = 0; i < count; i++) {
        if (walk_integer(&w, &n) != ERR_OK)
            return ERR_PROTO;
        if (first)
            g->numbers[i] = n;
        else if (!joined(g->join, &g->numbers[i], n))
            return ERR_PROTO;
    }
    return ERR_OK;
}

/* The names of a map, which must be those of the first one that came, are
 * looked up in its copy. */
static enum err add_map(struct gather *g, uint32_t number, const char *reply,
                        size_t len)
{
    struct walk w = {reply, reply + len}, names = {NULL, NULL};
    char list, other;
    int64_t count, n;
    if (numbers_head(&w, &list, &count) != ERR_OK || list == 0 ||
        count % 2 != 0)
        return ERR_PROTO;
    bool first = g->numbers == NULL;
    if (first) {
        enum err e = reserve(g, (size_t)count / 2 * sizeof(g->numbers[0]));
        if (e == ERR_OK)
            e = keep(g, number, reply, len);
        if (e != ERR_OK)
            return e;
        g->reply = number;
        g->numbers = calloc((size_t)count / 2 + 1, sizeof(g->numbers[0]));
        if (g->numbers == NULL)
            return ERR_NOMEM;
        g->list = list;
        g->nnumbers = (uint32_t)(count / 2);
    }
    if (list != g->list || count / 2 != g->nnumbers)
        return ERR_PROTO;
    const struct gathered *kept = &g->replies[g->reply];
    names = (struct walk){kept->data, kept->data + kept->len};
    if (numbers_head(&names, &other, &count) != ERR_OK)
        return ERR_PROTO;
    for (uint32_t i = 0; i < g->nnumbers; i++) {
        const char *name, *had;
        size_t name_len, had_len;
        if (walk_string(&w, &name, &name_len) != ERR_OK ||
            walk_integer(&w, &n) != ERR_OK ||
            walk_string(&names, &had, &had_len) != ERR_OK ||
            walk_skip(&names, 1) != ERR_OK || name_len != had_len ||
            memcmp(name, had, name_len) != 0 ||
            !joined(g->join, &g->numbers[i], n))
            return ERR_PROTO;
    }
    return ERR_OK;
}

/* ---- lists ---- */

static bool holds_others(char type)
{
    return type == '*' || type == '~' || type == '%';
}

/* Keeps a list: ORDER needs an element for each key, the others that all are of
 * one type. */
static enum err add_list(struct gather *g, uint32_t number, const char *reply,
                         size_t len)
{
    struct walk w = {reply, reply + len};
    struct resp_value v;
    if (walk_next(&w, &v) != ERR_OK || !holds_others(v.type) || v.null)
        return ERR_PROTO;
    if (g->join == JOIN_UNION && v.type == '%')
        return ERR_PROTO;
    if (g->join == JOIN_ORDER && v.number != g->replies[number].nkeys)
        return ERR_PROTO;
    if (g->list == 0)
        g->list = v.type;
    if (g->list != v.type)
        return ERR_PROTO;
    return keep(g, number, reply, len);
}

/* ---- adding ---- */

static enum err add_any(struct gather *g, uint32_t number,
                        const struct resp_value *v, const char *reply,
                        size_t len)
{
    /* Any nil will do if nothing else comes. */
    bool had = g->reply != g->nparts;
    if (had && (v->null || (!g->nil && number > g->reply)))
        return ERR_OK;
    g->nil = v->null;
    return replace(g, &g->reply, number, reply, len);
}

static enum err add_reply(struct gather *g, uint32_t number,
                          const struct resp_value *v, const char *reply,
                          size_t len)
{
    switch (g->join) {
    case JOIN_SUM:
    case JOIN_MIN:
    case JOIN_MAX:
    case JOIN_AND:
    case JOIN_OR:
        return add_numbers(g, (struct walk){reply, reply + len});
    case JOIN_MAP_SUM:
        return add_map(g, number, reply, len);
    case JOIN_ORDER:
    case JOIN_CONCAT:
    case JOIN_UNION:
        return add_list(g, number, reply, len);
    case JOIN_ANY:
        return add_any(g, number, v, reply, len);
    case JOIN_ONE:
    case JOIN_OK:
    case JOIN_FIRST_OK:
        break;
    }
    return number < g->reply ? replace(g, &g->reply, number, reply, len)
                             : ERR_OK;
}

enum err gather_add(struct gather *g, uint32_t number, const char *reply,
                    size_t len)
{
    struct walk w = {reply, reply + len}, whole = w;
    struct resp_value v;
    if (number >= g->nparts || g->replies[number].answered ||
        walk_skip(&whole, 1) != ERR_OK || whole.pos != whole.end ||
        walk_next(&w, &v) != ERR_OK)
        return ERR_INVALID;
    g->replies[number].answered = true;
    g->left--;
    if (g->failed != ERR_OK)
        return g->failed;
    enum err e = v.type == '-' || v.type == '!'
                     ? add_error(g, number, reply, len)
                     : add_reply(g, number, &v, reply, len);
    if (e == ERR_PROTO) {
        g->misshapen = true;
        return ERR_OK;
    }
    if (e != ERR_OK) {
        drop_kept(g);
        g->failed = e;
    }
    return e;
}
