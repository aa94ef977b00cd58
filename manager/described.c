/* One command is an array whose length tells the server's age. */
#include "manager/described.h"

enum err described_word(struct described_list *list, const char **word,
                        size_t *len)
{
    if (list->count == 0)
        return ERR_CLOSED;
    list->count--;
    return walk_string(&list->walk, word, len);
}

/* Notes where a list's elements are, and passes over them. */
static enum err take_list(struct walk *w, struct described_list *list)
{
    if (walk_list(w, &list->count) != ERR_OK)
        return ERR_PROTO;
    list->walk = *w;
    return walk_skip(w, list->count);
}

/* Everything but the subcommands. */
static enum err take_command(struct walk *w, int64_t parts, struct described *d)
{
    if (walk_string(w, &d->name, &d->len) != ERR_OK ||
        walk_integer(w, &d->arity) != ERR_OK ||
        take_list(w, &d->flags) != ERR_OK ||
        walk_integer(w, &d->first_key) != ERR_OK ||
        walk_integer(w, &d->last_key) != ERR_OK ||
        walk_integer(w, &d->key_step) != ERR_OK)
        return ERR_PROTO;
    if (parts > 6 && take_list(w, &d->categories) != ERR_OK)
        return ERR_PROTO;
    d->has_tips = parts >= 10;
    if (!d->has_tips)
        return walk_skip(w, parts > 7 ? parts - 7 : 0);
    if (take_list(w, &d->tips) != ERR_OK || take_list(w, &d->specs) != ERR_OK)
        return ERR_PROTO;
    return ERR_OK;
}

static enum err each_command(struct walk *w, bool is_sub, described_fn *each,
                             void *context)
{
    struct resp_value head;
    if (walk_next(w, &head) != ERR_OK)
        return ERR_PROTO;
    if (head.null) /* unknown to the server */
        return ERR_OK;
    if (head.type != '*' || head.number < 6)
        return ERR_PROTO;
    struct described d = {.is_sub = is_sub};
    if (take_command(w, head.number, &d) != ERR_OK)
        return ERR_PROTO;
    enum err e = each(context, &d);
    if (e != ERR_OK || !d.has_tips)
        return e;
    if (is_sub)
        return walk_skip(w, head.number - 9);
    int64_t subs;
    if (walk_list(w, &subs) != ERR_OK)
        return ERR_PROTO;
    for (; subs > 0; subs--) {
        e = each_command(w, true, each, context);
        if (e != ERR_OK)
            return e;
    }
    return walk_skip(w, head.number - 10);
}

enum err described_walk(const char *reply, size_t len, described_fn *each,
                        void *context)
{
    struct walk w = {reply, reply + len};
    int64_t count;
    enum err e = walk_list(&w, &count);
    for (; e == ERR_OK && count > 0; count--)
        e = each_command(&w, false, each, context);
    return e == ERR_OK && w.pos != w.end ? ERR_PROTO : e;
}
