/* Commands on lists, except those which wait. */
#include "server/lists.h"

#include <string.h>

#include "server/blocking.h"
#include "server/command.h"
#include "server/commands.h"
#include "server/number.h"
#include "server/reply.h"

bool lists_need(struct server *s, struct client *c, const struct dict_entry *e)
{
    if (e == NULL || e->kind == VALUE_LIST)
        return true;
    reply_wrong_type(s, c);
    return false;
}

/* ---- pushing ---- */

void lists_push(struct db *db, const struct arg *key, struct dict_entry *e,
                enum list_end end, const struct arg *values, size_t count)
{
    struct mem *m = &db->server->mem;
    if (e == NULL) {
        e = db_add_list(db, key, list_new(m));
        blocking_key_ready(db, key);
    }
    for (size_t i = 0; i < count; i++)
        list_push(db_list(e), m, end, values[i].data, values[i].len);
    db_changed(db, e);
}

static void push(struct server *s, struct client *c, enum list_end end,
                 bool only_existing)
{
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (!lists_need(s, c, e))
        return;
    if (e == NULL && only_existing) {
        reply_number(s, c, 0);
        return;
    }
    lists_push(c->db, &c->argv[1], e, end, c->argv + 2, c->argc - 2);
    e = db_find(c->db, &c->argv[1]);
    reply_number(s, c, (int64_t)db_list(e)->count);
}

void lpush_command(struct server *s, struct client *c)
{
    push(s, c, LIST_HEAD, false);
}

void rpush_command(struct server *s, struct client *c)
{
    push(s, c, LIST_TAIL, false);
}

void lpushx_command(struct server *s, struct client *c)
{
    push(s, c, LIST_HEAD, true);
}

void rpushx_command(struct server *s, struct client *c)
{
    push(s, c, LIST_TAIL, true);
}

/* ---- popping ---- */

void lists_drop(struct db *db, struct dict_entry *e, enum list_end end,
                size_t count)
{
    while (count-- > 0)
        list_drop(db_list(e), &db->server->mem, end);
    if (db_list(e)->count == 0)
        db_delete_entry(db, e);
    else
        db_changed(db, e);
}

void lists_pop_reply(struct server *s, struct client *c, struct db *db,
                     struct dict_entry *e, enum list_end end)
{
    struct arg value = list_peek(db_list(e), end);
    reply_array(s, c, 2);
    reply_bulk(s, c, e->key, e->key_len);
    reply_arg(s, c, &value);
    lists_drop(db, e, end, 1);
}

static void pop(struct server *s, struct client *c, enum list_end end)
{
    bool counted = c->argc == 3;
    int64_t count = 1;
    if (c->argc > 3) {
        reply_arity_error(s, c);
        return;
    }
    if (counted &&
        (!number_parse(c->argv[2].data, c->argv[2].len, &count) || count < 0)) {
        reply_error(s, c, "value is out of range, must be positive");
        return;
    }
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (e == NULL && counted)
        reply_null_array(s, c);
    else if (e == NULL)
        reply_null(s, c);
    if (e == NULL || !lists_need(s, c, e))
        return;
    struct list *l = db_list(e);
    size_t n = (uint64_t)count < l->count ? (size_t)count : l->count;
    if (counted)
        reply_array(s, c, n);
    for (size_t i = 0; i < n; i++) {
        struct arg value = list_peek(l, end);
        reply_arg(s, c, &value);
        if (i + 1 < n)
            list_drop(l, &s->mem, end);
    }
    if (n > 0)
        lists_drop(c->db, e, end, 1);
}

void lpop_command(struct server *s, struct client *c)
{
    pop(s, c, LIST_HEAD);
}

void rpop_command(struct server *s, struct client *c)
{
    pop(s, c, LIST_TAIL);
}

/* ---- looking ---- */

void llen_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (lists_need(s, c, e))
        reply_number(s, c, e == NULL ? 0 : (int64_t)db_list(e)->count);
}

void lrange_command(struct server *s, struct client *c)
{
    int64_t start, end;
    if (!reply_need_number(s, c, &c->argv[2], &start) ||
        !reply_need_number(s, c, &c->argv[3], &end))
        return;
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (!lists_need(s, c, e))
        return;
    int64_t len = e == NULL ? 0 : (int64_t)db_list(e)->count;
    if (start < 0)
        start = start + len < 0 ? 0 : start + len;
    if (end < 0)
        end += len;
    if (end >= len)
        end = len - 1;
    if (start > end || start >= len) {
        reply_array(s, c, 0);
        return;
    }
    struct list_cursor cursor = list_seek(db_list(e), (size_t)start);
    reply_array(s, c, (size_t)(end - start + 1));
    for (int64_t i = start; i <= end; i++) {
        struct arg value = list_next(&cursor);
        reply_arg(s, c, &value);
    }
}

void lindex_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (e == NULL) {
        reply_null(s, c);
        return;
    }
    int64_t index;
    if (!lists_need(s, c, e) || !reply_need_number(s, c, &c->argv[2], &index))
        return;
    int64_t len = (int64_t)db_list(e)->count;
    if (index < 0)
        index += len;
    if (index < 0 || index >= len) {
        reply_null(s, c);
        return;
    }
    struct list_cursor cursor = list_seek(db_list(e), (size_t)index);
    struct arg value = list_next(&cursor);
    reply_arg(s, c, &value);
}

/* ---- moving ---- */

bool lists_read_end(struct server *s, struct client *c, const struct arg *arg,
                    enum list_end *end)
{
    if (arg_is(arg, "LEFT"))
        *end = LIST_HEAD;
    else if (arg_is(arg, "RIGHT"))
        *end = LIST_TAIL;
    else {
        reply_syntax_error(s, c);
        return false;
    }
    return true;
}

void lists_move_reply(struct server *s, struct client *c, struct db *db,
                      struct dict_entry *e, enum list_end from_end,
                      const struct arg *to, enum list_end to_end)
{
    struct dict_entry *target = db_find(db, to);
    if (!lists_need(s, c, target))
        return;
    /* A copy, as the list may be the same one. */
    struct arg value = list_peek(db_list(e), from_end);
    char *copy = mem_alloc(&s->mem, value.len + 1);
    memcpy(copy, value.data, value.len);
    value.data = copy;
    list_drop(db_list(e), &s->mem, from_end);
    lists_push(db, to, target, to_end, &value, 1);
    lists_drop(db, e, from_end, 0);
    reply_arg(s, c, &value);
    mem_free(&s->mem, copy);
}

void lmove_command(struct server *s, struct client *c)
{
    enum list_end from, to;
    if (!lists_read_end(s, c, &c->argv[3], &from) ||
        !lists_read_end(s, c, &c->argv[4], &to))
        return;
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (e == NULL)
        reply_null(s, c);
    else if (lists_need(s, c, e))
        lists_move_reply(s, c, c->db, e, from, &c->argv[2], to);
}
