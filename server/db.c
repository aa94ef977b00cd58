/* Databases: keys, values, deadlines. */
#include "server/db.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "server/blocking.h"
#include "server/list.h"
#include "server/server.h"
#include "server/transactions.h"

void db_init(struct db *db, struct server *s, int id)
{
    db->server = s;
    db->id = id;
    dict_init(&db->keys, &s->mem, s->seed);
    dict_init(&db->watched, &s->mem, s->seed);
    dict_init(&db->awaited, &s->mem, s->seed);
    heap_init(&db->deadlines, &s->mem);
}

static void free_value(struct db *db, struct dict_entry *e)
{
    if (e->kind == VALUE_LIST)
        list_free(db_list(e), &db->server->mem);
    else
        mem_free(&db->server->mem, e->value);
}

static void drop_value(void *context, struct dict_entry *e)
{
    free_value(context, e);
}

void db_release(struct db *db)
{
    dict_clear(&db->keys, drop_value, db);
    dict_clear(&db->watched, NULL, NULL);
    dict_clear(&db->awaited, NULL, NULL);
    heap_release(&db->deadlines);
}

void db_flush(struct db *db)
{
    transaction_db_flushed(db);
    dict_clear(&db->keys, drop_value, db);
    heap_release(&db->deadlines);
}

/* ---- finding ---- */

bool db_expired(struct db *db, const struct dict_entry *e)
{
    return e->mark != 0 &&
           heap_at(&db->deadlines, e->mark) < server_now_ms(db->server);
}

struct dict_entry *db_find(struct db *db, const struct arg *key)
{
    struct dict_entry *e = dict_find(&db->keys, key->data, key->len);
    if (e == NULL || !db_expired(db, e))
        return e;
    db->server->stats.expired++;
    db_delete_entry(db, e);
    return NULL;
}

struct dict_entry *db_read(struct db *db, const struct arg *key)
{
    struct dict_entry *e = db_find(db, key);
    if (e != NULL)
        db->server->stats.hits++;
    else
        db->server->stats.misses++;
    return e;
}

/* ---- changing ---- */

void db_changed(struct db *db, const struct dict_entry *e)
{
    if (db->watched.count > 0)
        transaction_key_changed(db, e->key, e->key_len);
}

/* Room for a string of `len` bytes in memory that may hold one already. */
static struct string *string_resize(struct mem *m, struct string *old,
                                    size_t len, size_t cap)
{
    struct string *v = mem_resize(m, old, offsetof(struct string, bytes) + cap);
    v->len = (uint32_t)len;
    v->cap = (uint32_t)cap;
    return v;
}

struct dict_entry *db_set_string(struct db *db, const struct arg *key,
                                 const char *bytes, size_t len, bool keep_ttl)
{
    struct mem *m = &db->server->mem;
    struct dict_entry *e = db_find(db, key);
    struct string *old = NULL;
    if (e == NULL) {
        e = dict_add(&db->keys, key->data, key->len);
    } else {
        if (!keep_ttl)
            db_clear_deadline(db, e);
        if (e->kind == VALUE_STRING)
            old = db_string(e);
        else
            free_value(db, e);
    }
    e->kind = VALUE_STRING;
    /* The old memory serves when the new value fits and fills half of it. */
    if (old != NULL && len <= old->cap && len >= old->cap / 2)
        old->len = (uint32_t)len;
    else
        e->value = string_resize(m, old, len, len);
    memcpy(db_string(e)->bytes, bytes, len);
    db_changed(db, e);
    return e;
}

struct string *db_resize_string(struct db *db, struct dict_entry *e, size_t len)
{
    struct string *v = db_string(e);
    size_t old = v->len;
    if (len > v->cap) {
        /* Doubling makes a series of appends linear; large strings grow by a
         * fixed step, or half their memory would lie idle. */
        size_t step = len < (1 << 20) ? len : (1 << 20);
        v = string_resize(&db->server->mem, v, len, len + step);
        e->value = v;
    }
    v->len = (uint32_t)len;
    if (len > old)
        memset(v->bytes + old, 0, len - old);
    db_changed(db, e);
    return v;
}

struct dict_entry *db_add_list(struct db *db, const struct arg *key,
                               struct list *list)
{
    struct dict_entry *e = dict_add(&db->keys, key->data, key->len);
    e->kind = VALUE_LIST;
    e->value = list;
    return e;
}

void db_delete_entry(struct db *db, struct dict_entry *e)
{
    heap_remove(&db->deadlines, &e->mark);
    struct dict_entry *taken = dict_take(&db->keys, e->key, e->key_len);
    assert(taken == e);
    (void)taken;
    db_changed(db, e);
    free_value(db, e);
    dict_entry_free(&db->keys, e);
}

bool db_delete(struct db *db, const struct arg *key)
{
    struct dict_entry *e = db_find(db, key);
    if (e == NULL)
        return false;
    db_delete_entry(db, e);
    return true;
}

void db_rename(struct db *db, struct dict_entry *e, const struct arg *to)
{
    struct dict_entry *renamed = dict_add(&db->keys, to->data, to->len);
    renamed->value = e->value;
    renamed->kind = e->kind;
    if (e->mark != 0)
        db_set_deadline(db, renamed, db_deadline(db, e));
    e->value = NULL;
    e->kind = VALUE_STRING;
    db_delete_entry(db, e);
    db_changed(db, renamed);
    if (renamed->kind == VALUE_LIST)
        blocking_key_ready(db, to);
}

/* ---- deadlines ---- */

void db_set_deadline(struct db *db, struct dict_entry *e, int64_t at_ms)
{
    heap_set(&db->deadlines, &e->mark, at_ms);
    db_changed(db, e);
}

bool db_clear_deadline(struct db *db, struct dict_entry *e)
{
    if (e->mark == 0)
        return false;
    heap_remove(&db->deadlines, &e->mark);
    db_changed(db, e);
    return true;
}

int64_t db_deadline(const struct db *db, const struct dict_entry *e)
{
    return e->mark == 0 ? DB_NO_DEADLINE : heap_at(&db->deadlines, e->mark);
}

static int64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

bool db_expire_cycle(struct db *db, int64_t budget_us)
{
    int64_t now = server_now_ms(db->server);
    int64_t end = monotonic_us() + budget_us;
    for (unsigned n = 1;; n++) {
        const struct heap_item *first = heap_first(&db->deadlines);
        if (first == NULL || first->at_ms >= now)
            return true;
        char *slot = (char *)first->slot;
        struct dict_entry *e =
            (struct dict_entry *)(slot - offsetof(struct dict_entry, mark));
        db->server->stats.expired++;
        db_delete_entry(db, e);
        if (n % 64 == 0 && monotonic_us() > end)
            return false;
    }
}
