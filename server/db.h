/*
 * A database: keys with their values and deadlines.
 *
 * An entry's value is a `struct string` or a `struct list`, told by its kind.
 * A deadline sits in a heap ordered by time; entry->mark is its slot there.
 * The active cycle therefore takes exactly the keys that are due, and needs no
 * sampling.
 */
#ifndef SERVER_DB_H
#define SERVER_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/dict.h"
#include "server/heap.h"
#include "server/protocol.h"

struct server;
struct list;

enum value_kind { VALUE_STRING, VALUE_LIST };

struct string {
    uint32_t len;
    uint32_t cap; /* room for bytes */
    char bytes[];
};

struct db {
    struct server *server;
    int id;
    struct dict keys;
    struct heap deadlines;
    struct dict watched; /* key -> who watches it, see transactions.c */
    struct dict awaited; /* key -> who is blocked on it, see blocking.c */
};

#define DB_NO_DEADLINE (-1)

void db_init(struct db *db, struct server *s, int id);
void db_release(struct db *db);

/* The living entry of a key, or NULL. A key whose time has come is deleted
 * here. db_read also counts the hit or miss that INFO reports. */
struct dict_entry *db_find(struct db *db, const struct arg *key);
struct dict_entry *db_read(struct db *db, const struct arg *key);

static inline struct string *db_string(const struct dict_entry *e)
{
    return e->value;
}

static inline struct list *db_list(const struct dict_entry *e)
{
    return e->value;
}

/* Each of these tells whoever watches the key. */

/* Gives the key this string, whatever it had before; without `keep_ttl` it
 * loses its deadline. `bytes` must not lie in the value it replaces. */
struct dict_entry *db_set_string(struct db *db, const struct arg *key,
                                 const char *bytes, size_t len, bool keep_ttl);

/* Makes the string `len` bytes long, new bytes zero, and returns it for
 * writing. The entry is a string; its deadline stays. */
struct string *db_resize_string(struct db *db, struct dict_entry *e,
                                size_t len);

/* Adds a key that is not there with a list, which the db owns from now on. */
struct dict_entry *db_add_list(struct db *db, const struct arg *key,
                               struct list *list);

/* False when there was none. */
bool db_delete(struct db *db, const struct arg *key);
void db_delete_entry(struct db *db, struct dict_entry *e);

/* Renames; the key `to` is not there. Keeps the deadline. */
void db_rename(struct db *db, struct dict_entry *e, const struct arg *to);

void db_set_deadline(struct db *db, struct dict_entry *e, int64_t at_ms);
bool db_clear_deadline(struct db *db, struct dict_entry *e);
int64_t db_deadline(const struct db *db, const struct dict_entry *e);

/* Whether its time has come; it may still be in the table. */
bool db_expired(struct db *db, const struct dict_entry *e);

void db_flush(struct db *db);

/* Somebody changed the value of this key in place. */
void db_changed(struct db *db, const struct dict_entry *e);

/* Deletes keys that are due, for at most budget_us. False: it was not enough
 * time. */
bool db_expire_cycle(struct db *db, int64_t budget_us);

#endif
