/* See the header. Counts values, not levels: no recursion. */
#include "manager/walk.h"

#include <string.h>

static bool holds_others(const struct resp_value *v)
{
    return !v->null && (v->type == '*' || v->type == '~' || v->type == '>' ||
                        v->type == '%' || v->type == '|');
}

/* One value's head. Every element takes bytes: a count beyond them is cut
 * short. */
static enum err take(struct walk *w, struct resp_value *v)
{
    size_t used;
    if (resp_get(w->pos, (size_t)(w->end - w->pos), v, &used) != ERR_OK)
        return ERR_PROTO;
    w->pos += used;
    return holds_others(v) && v->number > w->end - w->pos ? ERR_PROTO : ERR_OK;
}

enum err walk_skip(struct walk *w, int64_t values)
{
    struct resp_value v;
    while (values > 0) {
        if (take(w, &v) != ERR_OK)
            return ERR_PROTO;
        values += (holds_others(&v) ? v.number : 0) - (v.type == '|' ? 0 : 1);
    }
    return ERR_OK;
}

enum err walk_next(struct walk *w, struct resp_value *v)
{
    for (;;) {
        if (take(w, v) != ERR_OK)
            return ERR_PROTO;
        if (v->type != '|')
            return ERR_OK;
        if (walk_skip(w, v->number) != ERR_OK)
            return ERR_PROTO;
    }
}

enum err walk_list(struct walk *w, int64_t *count)
{
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK ||
        (v.type != '*' && v.type != '~' && v.type != '>'))
        return ERR_PROTO;
    *count = v.null ? 0 : v.number;
    return ERR_OK;
}

enum err walk_pairs(struct walk *w, int64_t *pairs)
{
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK || v.null ||
        (v.type != '*' && v.type != '%') || v.number % 2 != 0)
        return ERR_PROTO;
    *pairs = v.number / 2;
    return ERR_OK;
}

enum err walk_string(struct walk *w, const char **data, size_t *len)
{
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK || (v.type != '$' && v.type != '+') ||
        v.null)
        return ERR_PROTO;
    *data = v.data;
    *len = v.len;
    return ERR_OK;
}

enum err walk_integer(struct walk *w, int64_t *number)
{
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK || v.type != ':')
        return ERR_PROTO;
    *number = v.number;
    return ERR_OK;
}
