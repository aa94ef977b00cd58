/* What was gathered, as one reply: all replies are in, and of the right form.
 */
#include "manager/gather_parts.h"

#include <stdlib.h>
#include <string.h>

/* An element of a kept list: its bytes. */
struct element {
    const char *data;
    size_t len;
};

static void take_element(struct walk *w, struct element *e)
{
    e->data = w->pos;
    if (walk_skip(w, 1) != ERR_OK)
        w->pos = w->end; /* can't be: it was walked when it came */
    e->len = (size_t)(w->pos - e->data);
}

/* The walk behind a kept list's head, and its elements. */
static int64_t open_list(const struct gathered *r, struct walk *w)
{
    struct resp_value v;
    *w = (struct walk){r->data, r->data + r->len};
    return r->data == NULL || walk_next(w, &v) != ERR_OK ? 0 : v.number;
}

/* Writes the list of those elements; ones without bytes are left out. */
static enum err put_elements(struct gather *g, const struct element *elements,
                             size_t count, size_t *len)
{
    size_t bytes = RESP_HEADER_MAX, present = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += elements[i].len;
        present += elements[i].len > 0;
    }
    char *to = g->result = malloc(bytes);
    if (to == NULL)
        return ERR_NOMEM;
    to += resp_put_header(to, g->list, (int64_t)present);
    for (size_t i = 0; i < count; i++) {
        if (elements[i].len > 0)
            memcpy(to, elements[i].data, elements[i].len);
        to += elements[i].len;
    }
    *len = (size_t)(to - g->result);
    return ERR_OK;
}

static enum err result_order(struct gather *g, size_t *len)
{
    struct element *elements = calloc(g->nkeys + 1, sizeof(*elements));
    if (elements == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < g->nparts; i++) {
        struct walk w;
        (void)open_list(&g->replies[i], &w);
        for (uint32_t k = 0; k < g->replies[i].nkeys; k++) {
            uint32_t at = g->replies[i].index[k];
            if (at < g->nkeys)
                take_element(&w, &elements[at]);
        }
    }
    g->list = '*';
    enum err e = put_elements(g, elements, g->nkeys, len);
    free(elements);
    return e;
}

static int by_bytes(const void *a, const void *b)
{
    const struct element *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(x->data, y->data, x->len);
}

/* Equal elements once; sorted, for their order meant nothing. */
static enum err result_union(struct gather *g, size_t *len)
{
    size_t count = 0, n = 0;
    struct walk w;
    for (uint32_t i = 0; i < g->nparts; i++)
        count += (size_t)open_list(&g->replies[i], &w);
    struct element *elements = calloc(count + 1, sizeof(*elements));
    if (elements == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < g->nparts; i++) {
        for (int64_t left = open_list(&g->replies[i], &w); left > 0; left--)
            take_element(&w, &elements[n++]);
    }
    qsort(elements, n, sizeof(*elements), by_bytes);
    size_t kept = n > 0;
    for (size_t i = 1; i < n; i++) {
        if (by_bytes(&elements[i], &elements[kept - 1]) != 0)
            elements[kept++] = elements[i];
    }
    enum err e = put_elements(g, elements, kept, len);
    free(elements);
    return e;
}

static enum err result_concat(struct gather *g, size_t *len)
{
    int64_t count = 0;
    struct walk w;
    for (uint32_t i = 0; i < g->nparts; i++)
        count += open_list(&g->replies[i], &w);
    char *to = g->result = malloc(RESP_HEADER_MAX + g->kept);
    if (to == NULL)
        return ERR_NOMEM;
    to += resp_put_header(to, g->list, g->list == '%' ? count / 2 : count);
    for (uint32_t i = 0; i < g->nparts; i++) {
        (void)open_list(&g->replies[i], &w);
        size_t n = (size_t)(w.end - w.pos);
        if (n > 0)
            memcpy(to, w.pos, n);
        to += n;
    }
    *len = (size_t)(to - g->result);
    return ERR_OK;
}

static enum err result_numbers(struct gather *g, size_t *len)
{
    char *to = g->result = malloc((g->nnumbers + 1) * (size_t)RESP_HEADER_MAX);
    if (to == NULL)
        return ERR_NOMEM;
    if (g->list != 0)
        to += resp_put_header(to, g->list, g->nnumbers);
    for (uint32_t i = 0; i < g->nnumbers; i++)
        to += resp_put_header(to, ':', g->numbers[i]);
    *len = (size_t)(to - g->result);
    return ERR_OK;
}

static enum err result_map(struct gather *g, size_t *len)
{
    const struct gathered *r = &g->replies[g->reply];
    struct walk w;
    struct element name, number;
    (void)open_list(r, &w);
    size_t room = r->len + (g->nnumbers + 1) * (size_t)RESP_HEADER_MAX;
    char *to = g->result = malloc(room);
    if (to == NULL)
        return ERR_NOMEM;
    to += resp_put_header(to, g->list,
                          g->list == '%' ? g->nnumbers : 2 * g->nnumbers);
    for (uint32_t i = 0; i < g->nnumbers; i++) {
        take_element(&w, &name);
        take_element(&w, &number);
        memcpy(to, name.data, name.len);
        to += name.len;
        to += resp_put_header(to, ':', g->numbers[i]);
    }
    *len = (size_t)(to - g->result);
    return ERR_OK;
}

static enum err make_result(struct gather *g, size_t *len)
{
    switch (g->join) {
    case JOIN_ORDER:
        return result_order(g, len);
    case JOIN_CONCAT:
        return result_concat(g, len);
    case JOIN_UNION:
        return result_union(g, len);
    case JOIN_MAP_SUM:
        return result_map(g, len);
    case JOIN_SUM:
    case JOIN_MIN:
    case JOIN_MAX:
    case JOIN_AND:
    case JOIN_OR:
        return result_numbers(g, len);
    case JOIN_ONE:
    case JOIN_OK:
    case JOIN_FIRST_OK:
    case JOIN_ANY:
        break;
    }
    return ERR_OK;
}

/* The part whose reply is the result as it is, or `nparts`. */
static uint32_t winner(const struct gather *g)
{
    bool error = g->error != g->nparts, reply = g->reply != g->nparts;
    switch (g->join) {
    case JOIN_FIRST_OK:
        return reply ? g->reply : g->error;
    case JOIN_ANY:
        return error && (!reply || g->nil) ? g->error : g->reply;
    case JOIN_ONE:
    case JOIN_OK:
        return error ? g->error : g->reply;
    case JOIN_ORDER:
    case JOIN_SUM:
    case JOIN_MIN:
    case JOIN_MAX:
    case JOIN_AND:
    case JOIN_OR:
    case JOIN_CONCAT:
    case JOIN_UNION:
    case JOIN_MAP_SUM:
        break;
    }
    return g->error;
}

enum err gather_result(struct gather *g, const char **reply, size_t *len)
{
    if (g->failed != ERR_OK)
        return g->failed;
    uint32_t part = winner(g);
    if (part != g->nparts) {
        *reply = g->replies[part].data;
        *len = g->replies[part].len;
        return ERR_OK;
    }
    if (g->misshapen) {
        *reply = GATHER_MISSHAPEN;
        *len = sizeof(GATHER_MISSHAPEN) - 1;
        return ERR_OK;
    }
    enum err e = make_result(g, len);
    if (e == ERR_OK)
        *reply = g->result;
    return e;
}
