/* CLIENT: naming, silencing, listing and killing connections. */
#include "server/clients.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/number.h"
#include "server/reply.h"
#include "server/transactions.h"

/* ---- names ---- */

/* Names may not break the lines and fields of CLIENT LIST. */
static bool name_good(const struct arg *name)
{
    for (size_t i = 0; i < name->len; i++)
        if (name->data[i] < '!' || name->data[i] > '~')
            return false;
    return true;
}

static void keep_name(struct server *s, char **kept, const struct arg *name)
{
    mem_free(&s->mem, *kept);
    *kept = NULL;
    if (name->len == 0)
        return;
    *kept = mem_alloc(&s->mem, name->len + 1);
    memcpy(*kept, name->data, name->len);
    (*kept)[name->len] = '\0';
}

bool clients_set_name(struct server *s, struct client *c,
                      const struct arg *name)
{
    if (!name_good(name)) {
        reply_error(s, c,
                    "Client names cannot contain spaces, newlines or special "
                    "characters.");
        return false;
    }
    keep_name(s, &c->name, name);
    return true;
}

void client_id_command(struct server *s, struct client *c)
{
    reply_number(s, c, (int64_t)c->id);
}

void client_getname_command(struct server *s, struct client *c)
{
    if (c->name != NULL)
        reply_text(s, c, c->name);
    else
        reply_null(s, c);
}

void client_setname_command(struct server *s, struct client *c)
{
    if (clients_set_name(s, c, &c->argv[2]))
        reply_ok(s, c);
}

void client_setinfo_command(struct server *s, struct client *c)
{
    bool name = arg_is(&c->argv[2], "LIB-NAME");
    if (!name && !arg_is(&c->argv[2], "LIB-VER")) {
        reply_error(s, c, "Unrecognized option '%.*s'",
                    (int)(c->argv[2].len < 128 ? c->argv[2].len : 128),
                    c->argv[2].data);
        return;
    }
    if (!name_good(&c->argv[3])) {
        reply_error(s, c,
                    "%s cannot contain spaces, newlines or special "
                    "characters.",
                    name ? "lib-name" : "lib-ver");
        return;
    }
    keep_name(s, name ? &c->library_name : &c->library_version, &c->argv[3]);
    reply_ok(s, c);
}

void client_reply_command(struct server *s, struct client *c)
{
    const struct arg *mode = &c->argv[2];
    if (arg_is(mode, "ON")) {
        c->flags &= ~(uint32_t)(CLIENT_REPLY_SKIP | CLIENT_REPLY_OFF);
        reply_ok(s, c);
    } else if (arg_is(mode, "OFF")) {
        c->flags |= CLIENT_REPLY_OFF;
    } else if (arg_is(mode, "SKIP")) {
        if ((c->flags & CLIENT_REPLY_OFF) == 0)
            c->flags |= CLIENT_REPLY_SKIP_NEXT;
    } else {
        reply_syntax_error(s, c);
    }
}

/* ---- CLIENT LIST and CLIENT KILL ---- */

static void put_flags(const struct client *c, char *out)
{
    static const struct {
        uint32_t flag;
        char letter;
    } letters[] = {
        {CLIENT_MULTI, 'x'},        {CLIENT_BLOCKED, 'b'},
        {CLIENT_WATCH_BROKEN, 'd'}, {CLIENT_CLOSE_AFTER_REPLY, 'c'},
        {CLIENT_UNIX, 'U'},
    };
    size_t n = 0;
    if (client_subscribed(c))
        out[n++] = 'P';
    for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
        if ((c->flags & letters[i].flag) != 0)
            out[n++] = letters[i].letter;
    if (n == 0)
        out[n++] = 'N';
    out[n] = '\0';
}

static void put_line(struct server *s, const struct client *c,
                     struct buffer *out)
{
    char flags[8], line[1024];
    put_flags(c, flags);
    size_t argv_bytes = 0;
    for (size_t i = 0; i < c->argc; i++)
        argv_bytes += c->argv[i].len;
    size_t total = sizeof(*c) + c->in.cap + c->out.cap + transaction_bytes(c);
    int n = snprintf(
        line, sizeof(line),
        "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=%.256s age=%" PRId64
        " idle=%" PRId64 " flags=%s db=%d sub=%zu psub=%zu ssub=0 multi=%ld"
        " qbuf=%zu qbuf-free=%zu argv-mem=%zu multi-mem=%zu rbs=%zu rbp=%zu"
        " obl=%zu oll=0 omem=%zu tot-mem=%zu events=%s cmd=%s user=default"
        " redir=-1 resp=%d lib-name=%.128s lib-ver=%.128s\n",
        c->id, c->address, c->local_address, c->source.fd,
        c->name != NULL ? c->name : "", (s->loop_ms - c->created_ms) / 1000,
        (s->loop_ms - c->active_ms) / 1000, flags, c->db->id, c->channels.count,
        c->patterns.count, transaction_length(c), buffer_len(&c->in),
        c->in.cap - buffer_len(&c->in), argv_bytes, transaction_bytes(c),
        c->out.cap, c->out.cap, buffer_len(&c->out), c->out.cap, total,
        (c->source.events & EPOLLOUT) != 0 ? "rw" : "r",
        c->last_command != NULL ? c->last_command->full_name : "NULL", c->resp,
        c->library_name != NULL ? c->library_name : "",
        c->library_version != NULL ? c->library_version : "");
    size_t len = (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1;
    buffer_append(out, &s->mem, line, len);
}

enum client_type { TYPE_ANY, TYPE_NORMAL, TYPE_PUBSUB, TYPE_NOBODY };

/* Replicas and masters are types Redis knows and we never have. */
static bool read_type(struct server *s, struct client *c, const struct arg *arg,
                      enum client_type *type)
{
    if (arg_is(arg, "NORMAL"))
        *type = TYPE_NORMAL;
    else if (arg_is(arg, "PUBSUB"))
        *type = TYPE_PUBSUB;
    else if (arg_is(arg, "SLAVE") || arg_is(arg, "REPLICA") ||
             arg_is(arg, "MASTER"))
        *type = TYPE_NOBODY;
    else {
        reply_error(s, c, "Unknown client type '%.*s'",
                    (int)strnlen(arg->data, arg->len < 512 ? arg->len : 512),
                    arg->data);
        return false;
    }
    return true;
}

static bool type_is(const struct client *c, enum client_type type)
{
    return type == TYPE_ANY || (type != TYPE_NOBODY &&
                                (type == TYPE_PUBSUB) == client_subscribed(c));
}

static void reply_lines(struct server *s, struct client *c,
                        struct buffer *lines)
{
    reply_verbatim(s, c, buffer_head(lines), buffer_len(lines));
    buffer_release(lines, &s->mem);
}

void client_info_command(struct server *s, struct client *c)
{
    struct buffer lines = {0};
    put_line(s, c, &lines);
    reply_lines(s, c, &lines);
}

static void list_ids(struct server *s, struct client *c)
{
    struct buffer lines = {0};
    for (size_t i = 3; i < c->argc; i++) {
        int64_t id;
        if (!number_parse(c->argv[i].data, c->argv[i].len, &id)) {
            reply_error(s, c, "Invalid client ID");
            buffer_release(&lines, &s->mem);
            return;
        }
        for (const struct client *o = s->clients.first; o != NULL; o = o->next)
            if (o->id == (uint64_t)id)
                put_line(s, o, &lines);
    }
    reply_lines(s, c, &lines);
}

void client_list_command(struct server *s, struct client *c)
{
    enum client_type type = TYPE_ANY;
    if (c->argc == 4 && arg_is(&c->argv[2], "TYPE")) {
        if (!read_type(s, c, &c->argv[3], &type))
            return;
    } else if (c->argc > 3 && arg_is(&c->argv[2], "ID")) {
        list_ids(s, c);
        return;
    } else if (c->argc != 2) {
        reply_syntax_error(s, c);
        return;
    }
    struct buffer lines = {0};
    for (const struct client *o = s->clients.first; o != NULL; o = o->next)
        if (type_is(o, type))
            put_line(s, o, &lines);
    reply_lines(s, c, &lines);
}

/* Whom to kill. */
struct target {
    const struct arg *address, *local_address; /* NULL: any */
    int64_t id;                                /* 0: any */
    enum client_type type;
    bool skip_me;
};

static bool read_target(struct server *s, struct client *c, struct target *t)
{
    for (size_t i = 2; i < c->argc; i += 2) {
        const struct arg *option = &c->argv[i], *value = option + 1;
        bool valued = i + 1 < c->argc;
        if (valued && arg_is(option, "ID")) {
            if (!number_parse(value->data, value->len, &t->id) || t->id < 1) {
                reply_error(s, c, "client-id should be greater than 0");
                return false;
            }
        } else if (valued && arg_is(option, "TYPE")) {
            if (!read_type(s, c, value, &t->type))
                return false;
        } else if (valued && arg_is(option, "ADDR")) {
            t->address = value;
        } else if (valued && arg_is(option, "LADDR")) {
            t->local_address = value;
        } else if (valued && arg_is(option, "USER")) {
            if (value->len != 7 || memcmp(value->data, "default", 7) != 0) {
                reply_error(s, c, "No such user '%.*s'",
                            (int)strnlen(value->data,
                                         value->len < 512 ? value->len : 512),
                            value->data);
                return false;
            }
        } else if (valued && arg_is(option, "SKIPME") &&
                   (arg_is(value, "YES") || arg_is(value, "NO"))) {
            t->skip_me = arg_is(value, "YES");
        } else {
            reply_syntax_error(s, c);
            return false;
        }
    }
    return true;
}

static bool is_text(const struct arg *arg, const char *text)
{
    return arg == NULL ||
           (arg->len == strlen(text) && memcmp(arg->data, text, arg->len) == 0);
}

void client_kill_command(struct server *s, struct client *c)
{
    struct target t = {.type = TYPE_ANY, .skip_me = true};
    bool old_form = c->argc == 3;
    if (old_form) {
        t.address = &c->argv[2];
        t.skip_me = false;
    } else if (!read_target(s, c, &t)) {
        return;
    }
    int64_t killed = 0;
    bool suicide = false;
    struct client *next;
    for (struct client *o = s->clients.first; o != NULL; o = next) {
        next = o->next;
        if (!is_text(t.address, o->address) ||
            !is_text(t.local_address, o->local_address) ||
            !type_is(o, t.type) || (t.id != 0 && o->id != (uint64_t)t.id) ||
            (o == c && t.skip_me))
            continue;
        killed++;
        if (o == c)
            suicide = true;
        else
            client_close(s, o);
    }
    if (!old_form)
        reply_number(s, c, killed);
    else if (killed > 0)
        reply_ok(s, c);
    else
        reply_error(s, c, "No such client");
    if (suicide)
        c->flags |= CLIENT_CLOSE_AFTER_REPLY;
}
