/* Commands on strings. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/number.h"
#include "server/reply.h"

#include "ipc/resp.h"

/* Replies the error when the key holds something else; NULL is a string. */
static bool need_string(struct server *s, struct client *c,
                        const struct dict_entry *e)
{
    if (e == NULL || e->kind == VALUE_STRING)
        return true;
    reply_wrong_type(s, c);
    return false;
}

static void reply_string(struct server *s, struct client *c,
                         const struct dict_entry *e)
{
    reply_bulk(s, c, db_string(e)->bytes, db_string(e)->len);
}

/* Replies the value of a key, or null. False: it is no string. */
static bool reply_value(struct server *s, struct client *c,
                        const struct dict_entry *e)
{
    if (!need_string(s, c, e))
        return false;
    if (e == NULL)
        reply_null(s, c);
    else
        reply_string(s, c, e);
    return true;
}

/* ---- options of SET and GETEX ---- */

enum set_flags {
    SET_NX = 1 << 0,
    SET_XX = 1 << 1,
    SET_GET = 1 << 2,
    SET_KEEPTTL = 1 << 3,
    SET_PERSIST = 1 << 4,
    SET_EX = 1 << 5,
    SET_PX = 1 << 6,
    SET_EXAT = 1 << 7,
    SET_PXAT = 1 << 8,
    SET_TIMES = SET_EX | SET_PX | SET_EXAT | SET_PXAT
};

/* What each option excludes; of the times, an option may be repeated and the
 * last one counts. */
static const struct set_option {
    const char *name;
    uint32_t flag;
    uint32_t excludes;
    bool for_set, for_getex;
} set_options[] = {
    {"NX", SET_NX, SET_XX, true, false},
    {"XX", SET_XX, SET_NX, true, false},
    {"GET", SET_GET, 0, true, false},
    {"KEEPTTL", SET_KEEPTTL, SET_PERSIST | SET_TIMES, true, false},
    {"PERSIST", SET_PERSIST, SET_KEEPTTL | SET_TIMES, false, true},
    {"EX", SET_EX, (SET_KEEPTTL | SET_PERSIST | SET_TIMES) & ~SET_EX, true,
     true},
    {"PX", SET_PX, (SET_KEEPTTL | SET_PERSIST | SET_TIMES) & ~SET_PX, true,
     true},
    {"EXAT", SET_EXAT, (SET_KEEPTTL | SET_PERSIST | SET_TIMES) & ~SET_EXAT,
     true, true},
    {"PXAT", SET_PXAT, (SET_KEEPTTL | SET_PERSIST | SET_TIMES) & ~SET_PXAT,
     true, true},
};

static const struct set_option *find_option(const struct arg *arg, bool is_set)
{
    for (size_t i = 0; i < sizeof(set_options) / sizeof(set_options[0]); i++) {
        const struct set_option *o = &set_options[i];
        if ((is_set ? o->for_set : o->for_getex) && arg_is(arg, o->name))
            return o;
    }
    return NULL;
}

/* Reads the options from argv[at] on. False: the error is replied. */
static bool read_options(struct server *s, struct client *c, size_t at,
                         bool is_set, uint32_t *flags, const struct arg **time)
{
    *flags = 0;
    *time = NULL;
    for (size_t i = at; i < c->argc; i++) {
        const struct set_option *o = find_option(&c->argv[i], is_set);
        bool timed = o != NULL && (o->flag & SET_TIMES) != 0;
        if (o == NULL || (*flags & o->excludes) != 0 ||
            (timed && i + 1 == c->argc)) {
            reply_syntax_error(s, c);
            return false;
        }
        *flags |= o->flag;
        if (timed)
            *time = &c->argv[++i];
    }
    return true;
}

/* The moment which a time option names. False: the error is replied. */
static bool read_moment(struct server *s, struct client *c,
                        const struct arg *time, uint32_t flags, int64_t *at_ms)
{
    int64_t n;
    if (!reply_need_number(s, c, time, &n))
        return false;
    bool seconds = (flags & (SET_EX | SET_EXAT)) != 0;
    bool relative = (flags & (SET_EX | SET_PX)) != 0;
    if (n <= 0 || (seconds && __builtin_mul_overflow(n, 1000, &n)) ||
        (relative && __builtin_add_overflow(n, server_now_ms(s), &n))) {
        reply_expire_error(s, c);
        return false;
    }
    *at_ms = n;
    return true;
}

/* ---- SET and its kin ---- */

struct set_request {
    const struct arg *key;
    const struct arg *value;
    const struct arg *time; /* NULL: no deadline */
    uint32_t flags;
    bool numeric; /* answers 1 and 0 instead of OK and null (SETNX) */
};

static void set(struct server *s, struct client *c, const struct set_request *q)
{
    int64_t at_ms = 0;
    if (q->time != NULL && !read_moment(s, c, q->time, q->flags, &at_ms))
        return;
    bool get = (q->flags & SET_GET) != 0;
    struct dict_entry *e = NULL;
    if ((q->flags & (SET_GET | SET_NX | SET_XX)) != 0)
        e = db_find(c->db, q->key);
    if (get && !reply_value(s, c, e))
        return;
    if (((q->flags & SET_NX) != 0 && e != NULL) ||
        ((q->flags & SET_XX) != 0 && e == NULL)) {
        if (q->numeric)
            reply_number(s, c, 0);
        else if (!get)
            reply_null(s, c);
        return;
    }
    assert(q->value != NULL); /* who runs has its arguments */
    e = db_set_string(c->db, q->key, q->value->data, q->value->len,
                      (q->flags & SET_KEEPTTL) != 0);
    if (q->time != NULL)
        db_set_deadline(c->db, e, at_ms);
    if (q->numeric)
        reply_number(s, c, 1);
    else if (!get)
        reply_ok(s, c);
}

void set_command(struct server *s, struct client *c)
{
    struct set_request q = {.key = &c->argv[1], .value = &c->argv[2]};
    if (c->argc > 3 && !read_options(s, c, 3, true, &q.flags, &q.time))
        return;
    set(s, c, &q);
}

void setnx_command(struct server *s, struct client *c)
{
    struct set_request q = {.key = &c->argv[1],
                            .value = &c->argv[2],
                            .flags = SET_NX,
                            .numeric = true};
    set(s, c, &q);
}

void setex_command(struct server *s, struct client *c)
{
    struct set_request q = {.key = &c->argv[1],
                            .value = &c->argv[3],
                            .time = &c->argv[2],
                            .flags = SET_EX};
    set(s, c, &q);
}

void psetex_command(struct server *s, struct client *c)
{
    struct set_request q = {.key = &c->argv[1],
                            .value = &c->argv[3],
                            .time = &c->argv[2],
                            .flags = SET_PX};
    set(s, c, &q);
}

void getset_command(struct server *s, struct client *c)
{
    if (!reply_value(s, c, db_read(c->db, &c->argv[1])))
        return;
    db_set_string(c->db, &c->argv[1], c->argv[2].data, c->argv[2].len, false);
}

static void mset(struct server *s, struct client *c, bool nx)
{
    if (c->argc % 2 == 0) {
        reply_arity_error(s, c);
        return;
    }
    for (size_t i = 1; nx && i < c->argc; i += 2) {
        if (db_find(c->db, &c->argv[i]) != NULL) {
            reply_number(s, c, 0);
            return;
        }
    }
    for (size_t i = 1; i < c->argc; i += 2)
        db_set_string(c->db, &c->argv[i], c->argv[i + 1].data,
                      c->argv[i + 1].len, false);
    if (nx)
        reply_number(s, c, 1);
    else
        reply_ok(s, c);
}

void mset_command(struct server *s, struct client *c)
{
    mset(s, c, false);
}

void msetnx_command(struct server *s, struct client *c)
{
    mset(s, c, true);
}

/* ---- GET and its kin ---- */

void get_command(struct server *s, struct client *c)
{
    reply_value(s, c, db_read(c->db, &c->argv[1]));
}

void mget_command(struct server *s, struct client *c)
{
    reply_array(s, c, c->argc - 1);
    for (size_t i = 1; i < c->argc; i++) {
        struct dict_entry *e = db_read(c->db, &c->argv[i]);
        if (e != NULL && e->kind == VALUE_STRING)
            reply_string(s, c, e);
        else
            reply_null(s, c);
    }
}

void getdel_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (reply_value(s, c, e) && e != NULL)
        db_delete_entry(c->db, e);
}

void getex_command(struct server *s, struct client *c)
{
    uint32_t flags;
    const struct arg *time;
    int64_t at_ms = 0;
    if (!read_options(s, c, 2, false, &flags, &time))
        return;
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (e == NULL) {
        reply_null(s, c);
        return;
    }
    if (!need_string(s, c, e) ||
        (time != NULL && !read_moment(s, c, time, flags, &at_ms)))
        return;
    reply_string(s, c, e);
    if ((flags & SET_PERSIST) != 0)
        db_clear_deadline(c->db, e);
    else if (time != NULL && at_ms <= server_now_ms(s))
        db_delete_entry(c->db, e);
    else if (time != NULL)
        db_set_deadline(c->db, e, at_ms);
}

void strlen_command(struct server *s, struct client *c)
{
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (need_string(s, c, e))
        reply_number(s, c, e == NULL ? 0 : db_string(e)->len);
}

void getrange_command(struct server *s, struct client *c)
{
    int64_t start, end;
    if (!reply_need_number(s, c, &c->argv[2], &start) ||
        !reply_need_number(s, c, &c->argv[3], &end))
        return;
    struct dict_entry *e = db_read(c->db, &c->argv[1]);
    if (!need_string(s, c, e))
        return;
    int64_t len = e == NULL ? 0 : db_string(e)->len;
    bool backwards = start < 0 && end < 0 && start > end;
    if (start < 0)
        start = start + len < 0 ? 0 : start + len;
    if (end < 0)
        end = end + len < 0 ? 0 : end + len;
    if (end >= len)
        end = len - 1;
    if (backwards || start > end || len == 0)
        reply_bulk(s, c, "", 0);
    else
        reply_bulk(s, c, db_string(e)->bytes + start,
                   (size_t)(end - start + 1));
}

/* ---- changing in place ---- */

/* Whether a string of len + more bytes is allowed; false: error replied. */
static bool length_allowed(struct server *s, struct client *c, int64_t len,
                           size_t more)
{
    int64_t total;
    if (!__builtin_add_overflow(len, more, &total) &&
        total <= s->options.bulk_max)
        return true;
    reply_error(s, c,
                "string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

void append_command(struct server *s, struct client *c)
{
    const struct arg *more = &c->argv[2];
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (!need_string(s, c, e))
        return;
    if (e == NULL) {
        db_set_string(c->db, &c->argv[1], more->data, more->len, false);
        reply_number(s, c, (int64_t)more->len);
        return;
    }
    size_t len = db_string(e)->len;
    if (!length_allowed(s, c, (int64_t)len, more->len))
        return;
    struct string *v = db_resize_string(c->db, e, len + more->len);
    memcpy(v->bytes + len, more->data, more->len);
    reply_number(s, c, v->len);
}

void setrange_command(struct server *s, struct client *c)
{
    const struct arg *part = &c->argv[3];
    int64_t offset;
    if (!reply_need_number(s, c, &c->argv[2], &offset))
        return;
    if (offset < 0) {
        reply_error(s, c, "offset is out of range");
        return;
    }
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (!need_string(s, c, e))
        return;
    if (part->len == 0) {
        reply_number(s, c, e == NULL ? 0 : db_string(e)->len);
        return;
    }
    if (!length_allowed(s, c, offset, part->len))
        return;
    size_t end = (size_t)offset + part->len;
    if (e == NULL)
        e = db_set_string(c->db, &c->argv[1], "", 0, false);
    size_t len = db_string(e)->len;
    struct string *v = db_resize_string(c->db, e, end > len ? end : len);
    memcpy(v->bytes + offset, part->data, part->len);
    reply_number(s, c, v->len);
}

/* Stores a text in place of the key's value, whose deadline stays. */
static void replace(struct client *c, const char *text, size_t len)
{
    db_set_string(c->db, &c->argv[1], text, len, true);
}

static void increment(struct server *s, struct client *c, int64_t by)
{
    int64_t value = 0;
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (!need_string(s, c, e))
        return;
    if (e != NULL) {
        struct arg old = {{.data = db_string(e)->bytes}, db_string(e)->len};
        if (!reply_need_number(s, c, &old, &value))
            return;
    }
    if (__builtin_add_overflow(value, by, &value)) {
        reply_error(s, c, "increment or decrement would overflow");
        return;
    }
    char text[RESP_HEADER_MAX];
    replace(c, text, resp_put_number(text, value));
    reply_number(s, c, value);
}

void incr_command(struct server *s, struct client *c)
{
    increment(s, c, 1);
}

void decr_command(struct server *s, struct client *c)
{
    increment(s, c, -1);
}

void incrby_command(struct server *s, struct client *c)
{
    int64_t by;
    if (reply_need_number(s, c, &c->argv[2], &by))
        increment(s, c, by);
}

void decrby_command(struct server *s, struct client *c)
{
    int64_t by;
    if (!reply_need_number(s, c, &c->argv[2], &by))
        return;
    if (by == INT64_MIN)
        reply_error(s, c, "decrement would overflow");
    else
        increment(s, c, -by);
}

void incrbyfloat_command(struct server *s, struct client *c)
{
    long double value = 0, by = 0;
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (!need_string(s, c, e))
        return;
    if ((e != NULL &&
         !number_parse_float(db_string(e)->bytes, db_string(e)->len, &value)) ||
        !number_parse_float(c->argv[2].data, c->argv[2].len, &by)) {
        reply_error(s, c, "value is not a valid float");
        return;
    }
    value += by;
    if (isnan(value) || isinf(value)) {
        reply_error(s, c, "increment would produce NaN or Infinity");
        return;
    }
    char text[NUMBER_FLOAT_MAX];
    size_t len = number_format_float(text, value);
    replace(c, text, len);
    reply_bulk(s, c, text, len);
}
