/* Commands on keys, whatever they hold. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/glob.h"
#include "server/reply.h"

static const char *kind_name(const struct dict_entry *e)
{
    return e->kind == VALUE_LIST ? "list" : "string";
}

/* ---- existence ---- */

void del_command(struct server *s, struct client *c)
{
    int64_t deleted = 0;
    for (size_t i = 1; i < c->argc; i++)
        deleted += db_delete(c->db, &c->argv[i]);
    reply_number(s, c, deleted);
}

void exists_command(struct server *s, struct client *c)
{
    int64_t found = 0;
    for (size_t i = 1; i < c->argc; i++)
        found += db_read(c->db, &c->argv[i]) != NULL;
    reply_number(s, c, found);
}

void type_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    reply_status(s, c, e == NULL ? "none" : kind_name(e));
}

static void rename_key(struct server *s, struct client *c, bool nx)
{
    const struct arg *from = &c->argv[1], *to = &c->argv[2];
    struct dict_entry *e = db_find(c->db, from);
    if (e == NULL) {
        reply_error(s, c, "no such key");
        return;
    }
    bool same =
        from->len == to->len && memcmp(from->data, to->data, to->len) == 0;
    if (nx && (same || db_find(c->db, to) != NULL)) {
        reply_number(s, c, 0);
        return;
    }
    if (!same) {
        db_delete(c->db, to);
        db_rename(c->db, e, to);
    }
    if (nx)
        reply_number(s, c, 1);
    else
        reply_ok(s, c);
}

void rename_command(struct server *s, struct client *c)
{
    rename_key(s, c, false);
}

void renamenx_command(struct server *s, struct client *c)
{
    rename_key(s, c, true);
}

/* ---- deadlines ---- */

enum expire_flags {
    EXPIRE_NX = 1 << 0,
    EXPIRE_XX = 1 << 1,
    EXPIRE_GT = 1 << 2,
    EXPIRE_LT = 1 << 3
};

static bool read_expire_flags(struct server *s, struct client *c,
                              uint32_t *flags)
{
    static const char *const names[] = {"NX", "XX", "GT", "LT"};
    *flags = 0;
    for (size_t i = 3; i < c->argc; i++) {
        size_t n = 0;
        while (n < 4 && !arg_is(&c->argv[i], names[n]))
            n++;
        if (n == 4) {
            reply_error(s, c, "Unsupported option %.*s",
                        (int)strnlen(c->argv[i].data, c->argv[i].len < 512
                                                          ? c->argv[i].len
                                                          : 512),
                        c->argv[i].data);
            return false;
        }
        *flags |= 1U << n;
    }
    if ((*flags & EXPIRE_NX) != 0 && (*flags & ~(uint32_t)EXPIRE_NX) != 0) {
        reply_error(s, c,
                    "NX and XX, GT or LT options at the same time are not "
                    "compatible");
        return false;
    }
    if ((*flags & EXPIRE_GT) != 0 && (*flags & EXPIRE_LT) != 0) {
        reply_error(s, c,
                    "GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* Whether the options want this change. No deadline counts as infinitely
 * late. */
static bool expire_wanted(uint32_t flags, int64_t current, int64_t at_ms)
{
    bool none = current == DB_NO_DEADLINE;
    return !(((flags & EXPIRE_NX) != 0 && !none) ||
             ((flags & EXPIRE_XX) != 0 && none) ||
             ((flags & EXPIRE_GT) != 0 && (none || at_ms <= current)) ||
             ((flags & EXPIRE_LT) != 0 && !none && at_ms >= current));
}

static void expire(struct server *s, struct client *c, int64_t base_ms,
                   int64_t unit_ms)
{
    uint32_t flags;
    int64_t at_ms;
    if (!read_expire_flags(s, c, &flags) ||
        !reply_need_number(s, c, &c->argv[2], &at_ms))
        return;
    if (__builtin_mul_overflow(at_ms, unit_ms, &at_ms) ||
        __builtin_add_overflow(at_ms, base_ms, &at_ms)) {
        reply_expire_error(s, c);
        return;
    }
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (e == NULL || !expire_wanted(flags, db_deadline(c->db, e), at_ms)) {
        reply_number(s, c, 0);
        return;
    }
    if (at_ms <= server_now_ms(s))
        db_delete_entry(c->db, e);
    else
        db_set_deadline(c->db, e, at_ms);
    reply_number(s, c, 1);
}

void expire_command(struct server *s, struct client *c)
{
    expire(s, c, server_now_ms(s), 1000);
}

void pexpire_command(struct server *s, struct client *c)
{
    expire(s, c, server_now_ms(s), 1);
}

void expireat_command(struct server *s, struct client *c)
{
    expire(s, c, 0, 1000);
}

void pexpireat_command(struct server *s, struct client *c)
{
    expire(s, c, 0, 1);
}

/* The deadline, minus base_ms, in units of unit_ms. */
static void ttl(struct server *s, struct client *c, int64_t base_ms,
                int64_t unit_ms)
{
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (e == NULL) {
        reply_number(s, c, -2);
        return;
    }
    int64_t at_ms = db_deadline(c->db, e);
    if (at_ms == DB_NO_DEADLINE) {
        reply_number(s, c, -1);
        return;
    }
    uint64_t left = at_ms > base_ms ? (uint64_t)(at_ms - base_ms) : 0;
    if (unit_ms != 1)
        left = (left + 500) / (uint64_t)unit_ms;
    reply_number(s, c, (int64_t)left);
}

void ttl_command(struct server *s, struct client *c)
{
    ttl(s, c, server_now_ms(s), 1000);
}

void pttl_command(struct server *s, struct client *c)
{
    ttl(s, c, server_now_ms(s), 1);
}

void expiretime_command(struct server *s, struct client *c)
{
    ttl(s, c, 0, 1000);
}

void pexpiretime_command(struct server *s, struct client *c)
{
    ttl(s, c, 0, 1);
}

void persist_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    reply_bool(s, c, e != NULL && db_clear_deadline(c->db, e));
}

/* ---- the whole keyspace ---- */

void dbsize_command(struct server *s, struct client *c)
{
    reply_number(s, c, (int64_t)c->db->keys.count);
}

static uint64_t random_bits(void *context)
{
    return server_random(context);
}

void randomkey_command(struct server *s, struct client *c)
{
    /* Expired keys it meets are deleted, so this ends. */
    for (;;) {
        struct dict_entry *e = dict_random(&c->db->keys, random_bits, s);
        if (e == NULL) {
            reply_null(s, c);
            return;
        }
        if (!db_expired(c->db, e)) {
            reply_bulk(s, c, e->key, e->key_len);
            return;
        }
        s->stats.expired++;
        db_delete_entry(c->db, e);
    }
}

/* What KEYS and SCAN look for, and how far they are. */
struct search {
    struct server *s;
    struct client *c;
    const struct arg *pattern; /* NULL or "*": all, even the empty key */
    const struct arg *type;    /* NULL: all */
    size_t seen;               /* keys */
    size_t found;
};

static void visit_key(void *context, struct dict_entry *e)
{
    struct search *q = context;
    const struct arg *p = q->pattern;
    bool all = p == NULL || (p->len == 1 && p->data[0] == '*');
    q->seen++;
    if ((!all && !glob_match(p->data, p->len, e->key, e->key_len)) ||
        (q->type != NULL && !arg_is(q->type, kind_name(e))) ||
        db_expired(q->c->db, e))
        return;
    q->found++;
    reply_bulk(q->s, q->c, e->key, e->key_len);
}

void keys_command(struct server *s, struct client *c)
{
    struct search q = {.s = s, .c = c, .pattern = &c->argv[1]};
    size_t mark = reply_array_begin(s, c);
    uint64_t cursor = 0;
    do {
        cursor = dict_scan(&c->db->keys, cursor, visit_key, &q);
    } while (cursor != 0);
    reply_array_end(s, c, mark, q.found);
}

static bool read_cursor(const struct arg *arg, uint64_t *cursor)
{
    char text[32];
    if (arg->len >= sizeof(text) ||
        (arg->len > 0 && isspace((unsigned char)arg->data[0])))
        return false;
    memcpy(text, arg->data, arg->len);
    text[arg->len] = '\0';
    char *end;
    errno = 0;
    *cursor = strtoul(text, &end, 10);
    return *end == '\0' && errno != ERANGE;
}

static bool read_scan_options(struct server *s, struct client *c,
                              struct search *q, int64_t *count)
{
    *count = 10;
    for (size_t i = 2; i < c->argc; i += 2) {
        const struct arg *option = &c->argv[i], *value = option + 1;
        bool valued = i + 1 < c->argc;
        if (arg_is(option, "COUNT") && valued) {
            if (!reply_need_number(s, c, value, count))
                return false;
            if (*count >= 1)
                continue;
        } else if (arg_is(option, "MATCH") && valued) {
            q->pattern = value;
            continue;
        } else if (arg_is(option, "TYPE") && valued) {
            q->type = value;
            continue;
        }
        reply_syntax_error(s, c);
        return false;
    }
    return true;
}

void scan_command(struct server *s, struct client *c)
{
    struct search q = {.s = s, .c = c};
    uint64_t cursor;
    int64_t count;
    if (!read_cursor(&c->argv[1], &cursor)) {
        reply_error(s, c, "invalid cursor");
        return;
    }
    if (!read_scan_options(s, c, &q, &count))
        return;
    /* A sparse table must not hold everybody up. */
    int64_t buckets = count > INT64_MAX / 10 ? INT64_MAX : count * 10;
    size_t mark = reply_array_begin(s, c);
    do {
        cursor = dict_scan(&c->db->keys, cursor, visit_key, &q);
    } while (cursor != 0 && --buckets > 0 && q.seen < (uint64_t)count);
    reply_array_end(s, c, mark, q.found);
    reply_array_insert(s, c, mark, cursor);
}

/* ---- flushing ---- */

static bool flush_options_good(struct server *s, struct client *c)
{
    if (c->argc == 1 || (c->argc == 2 && (arg_is(&c->argv[1], "SYNC") ||
                                          arg_is(&c->argv[1], "ASYNC"))))
        return true;
    reply_syntax_error(s, c);
    return false;
}

void flushdb_command(struct server *s, struct client *c)
{
    if (!flush_options_good(s, c))
        return;
    db_flush(c->db);
    reply_ok(s, c);
}

void flushall_command(struct server *s, struct client *c)
{
    if (!flush_options_good(s, c))
        return;
    for (int i = 0; i < OPTIONS_DATABASES; i++)
        db_flush(&s->dbs[i]);
    reply_ok(s, c);
}
