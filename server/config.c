/*
 * CONFIG: the parameters that are real here, each with how it is told and, if
 * it can be changed while the server runs, how it is set.
 *
 * CONFIG SET works on a copy of the options, which becomes the server's when
 * all of it was right: it takes all parameters or none.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/glob.h"
#include "server/number.h"
#include "server/reply.h"

#define VALUE_MAX 1024

struct parameter {
    const char *name;
    void (*tell)(const struct server *s, char *out); /* VALUE_MAX bytes */
    /* NULL on success, or what is wrong. A parameter without it is fixed. */
    const char *(*set)(struct options *o, const struct arg *value);
};

/* ---- telling ---- */

static void tell_number(char *out, int64_t n)
{
    snprintf(out, VALUE_MAX, "%" PRId64, n);
}

static void tell_text(char *out, const char *text)
{
    snprintf(out, VALUE_MAX, "%s", text);
}

static void tell_bind(const struct server *s, char *out)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < s->options.bind_count && len < VALUE_MAX; i++)
        len += (size_t)snprintf(out + len, VALUE_MAX - len, "%s%s",
                                i > 0 ? " " : "", s->options.bind[i]);
}

static void tell_port(const struct server *s, char *out)
{
    tell_number(out, server_port(s));
}

static void tell_unix_socket(const struct server *s, char *out)
{
    const char *path = s->options.unix_socket;
    tell_text(out, path != NULL ? path : "");
}

static void tell_unix_mode(const struct server *s, char *out)
{
    snprintf(out, VALUE_MAX, "%o", s->options.unix_mode);
}

static void tell_backlog(const struct server *s, char *out)
{
    tell_number(out, s->options.backlog);
}

static void tell_databases(const struct server *s, char *out)
{
    (void)s;
    tell_number(out, OPTIONS_DATABASES);
}

static void tell_max_clients(const struct server *s, char *out)
{
    tell_number(out, (int64_t)s->options.max_clients);
}

static void tell_max_memory(const struct server *s, char *out)
{
    tell_number(out, (int64_t)s->options.max_memory);
}

static void tell_policy(const struct server *s, char *out)
{
    (void)s;
    tell_text(out, "noeviction");
}

static void tell_password(const struct server *s, char *out)
{
    memcpy(out, s->options.password, s->options.password_len);
    out[s->options.password_len] = '\0';
}

static void tell_protected(const struct server *s, char *out)
{
    tell_text(out, s->options.protected_mode ? "yes" : "no");
}

static void tell_timeout(const struct server *s, char *out)
{
    tell_number(out, s->options.timeout_s);
}

static void tell_bulk_max(const struct server *s, char *out)
{
    tell_number(out, s->options.bulk_max);
}

static void tell_query_limit(const struct server *s, char *out)
{
    tell_number(out, (int64_t)s->options.query_limit);
}

static void tell_output_limits(const struct server *s, char *out)
{
    const struct output_limit *n = &s->options.normal_limit;
    const struct output_limit *p = &s->options.pubsub_limit;
    snprintf(out, VALUE_MAX,
             "normal %" PRIu64 " %" PRIu64 " %" PRId64 " pubsub %" PRIu64
             " %" PRIu64 " %" PRId64,
             n->hard, n->soft, n->soft_s, p->hard, p->soft, p->soft_s);
}

/* Nothing is ever saved; redis-benchmark asks. */
static void tell_nothing(const struct server *s, char *out)
{
    (void)s;
    out[0] = '\0';
}

static void tell_no(const struct server *s, char *out)
{
    (void)s;
    tell_text(out, "no");
}

/* ---- setting ---- */

static const char *set_max_clients(struct options *o, const struct arg *v)
{
    int64_t n;
    if (!number_parse(v->data, v->len, &n))
        return "argument couldn't be parsed into an integer";
    if (n < 1 || n > UINT32_MAX)
        return "argument must be between 1 and 4294967295 inclusive";
    o->max_clients = (size_t)n;
    return server_provide_descriptors(o, NULL) == ERR_OK
               ? NULL
               : "The operating system is not able to handle the specified "
                 "number of clients";
}

static const char *set_memory(uint64_t *n, const struct arg *v)
{
    return number_parse_memory(v->data, v->len, n)
               ? NULL
               : "argument must be a memory value";
}

static const char *set_max_memory(struct options *o, const struct arg *v)
{
    return set_memory(&o->max_memory, v);
}

static const char *set_policy(struct options *o, const struct arg *v)
{
    (void)o;
    return arg_is(v, "noeviction")
               ? NULL
               : "argument(s) must be one of the following: noeviction";
}

static const char *set_password(struct options *o, const struct arg *v)
{
    if (v->len > OPTIONS_PASSWORD_MAX)
        return "a password has at most 512 bytes";
    memcpy(o->password, v->data, v->len);
    o->password_len = v->len;
    return NULL;
}

static const char *set_timeout(struct options *o, const struct arg *v)
{
    int64_t n;
    if (!number_parse(v->data, v->len, &n))
        return "argument couldn't be parsed into an integer";
    if (n < 0 || n > INT32_MAX)
        return "argument must be between 0 and 2147483647 inclusive";
    o->timeout_s = n;
    return NULL;
}

static const char *set_bulk_max(struct options *o, const struct arg *v)
{
    uint64_t n;
    const char *wrong = set_memory(&n, v);
    if (wrong != NULL)
        return wrong;
    if (n < (1 << 20) || n > (UINT64_C(512) << 20))
        return "argument must be between 1048576 and 536870912 inclusive";
    o->bulk_max = (int64_t)n;
    return NULL;
}

static const char *set_query_limit(struct options *o, const struct arg *v)
{
    uint64_t n;
    const char *wrong = set_memory(&n, v);
    if (wrong != NULL)
        return wrong;
    if (n < (1 << 20))
        return "argument must be between 1048576 and 9223372036854775807 "
               "inclusive";
    o->query_limit = n;
    return NULL;
}

/* Takes the next word off a text. */
static struct arg next_word(struct arg *text)
{
    while (text->len > 0 && *text->data == ' ') {
        text->data++;
        text->len--;
    }
    struct arg word = {{.data = text->data}, 0};
    while (word.len < text->len && text->data[word.len] != ' ')
        word.len++;
    text->data += word.len;
    text->len -= word.len;
    return word;
}

static const char *set_output_limits(struct options *o, const struct arg *v)
{
    struct arg rest = *v;
    for (;;) {
        struct arg class = next_word(&rest);
        if (class.len == 0)
            return NULL;
        struct arg hard = next_word(&rest), soft = next_word(&rest),
                   seconds = next_word(&rest);
        struct output_limit limit;
        if (!number_parse_memory(hard.data, hard.len, &limit.hard) ||
            !number_parse_memory(soft.data, soft.len, &limit.soft) ||
            !number_parse(seconds.data, seconds.len, &limit.soft_s) ||
            limit.soft_s < 0)
            return "Error in hard, soft or soft_seconds setting in buffer "
                   "limit configuration.";
        if (arg_is(&class, "normal"))
            o->normal_limit = limit;
        else if (arg_is(&class, "pubsub"))
            o->pubsub_limit = limit;
        else
            return "Invalid client class specified in buffer limit "
                   "configuration.";
    }
}

static const struct parameter parameters[] = {
    {"bind", tell_bind, NULL},
    {"port", tell_port, NULL},
    {"unixsocket", tell_unix_socket, NULL},
    {"unixsocketperm", tell_unix_mode, NULL},
    {"tcp-backlog", tell_backlog, NULL},
    {"databases", tell_databases, NULL},
    {"protected-mode", tell_protected, NULL},
    {"maxclients", tell_max_clients, set_max_clients},
    {"maxmemory", tell_max_memory, set_max_memory},
    {"maxmemory-policy", tell_policy, set_policy},
    {"requirepass", tell_password, set_password},
    {"timeout", tell_timeout, set_timeout},
    {"proto-max-bulk-len", tell_bulk_max, set_bulk_max},
    {"client-query-buffer-limit", tell_query_limit, set_query_limit},
    {"client-output-buffer-limit", tell_output_limits, set_output_limits},
    {"save", tell_nothing, NULL},
    {"appendonly", tell_no, NULL},
};

#define PARAMETERS (sizeof(parameters) / sizeof(parameters[0]))

/* ---- commands ---- */

static const struct parameter *find_parameter(const struct arg *name)
{
    for (size_t i = 0; i < PARAMETERS; i++)
        if (arg_is(name, parameters[i].name))
            return &parameters[i];
    return NULL;
}

/* Whether a pattern asks for the name. Patterns are matched in small letters,
 * whatever the client wrote. */
static bool matches(const struct arg *given, const char *name)
{
    char pattern[64];
    assert(given != NULL); /* who runs has its arguments */
    if (given->len >= sizeof(pattern))
        return false;
    for (size_t i = 0; i < given->len; i++) {
        char byte = given->data[i];
        pattern[i] = byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
    }
    return glob_match(pattern, given->len, name, strlen(name));
}

/* The name to tell a parameter under, or NULL: it is not asked for. Asked for
 * by its plain name, it is told under the name as it was written. */
static const struct arg *asked(const struct client *c,
                               const struct parameter *p, struct arg *own)
{
    const struct arg *found = NULL;
    *own = (struct arg){{.data = p->name}, strlen(p->name)};
    for (size_t i = 2; found == NULL && i < c->argc; i++) {
        if (arg_is(&c->argv[i], p->name))
            found = &c->argv[i];
        else if (matches(&c->argv[i], p->name))
            found = own;
    }
    return found;
}

void config_get_command(struct server *s, struct client *c)
{
    struct arg own;
    size_t found = 0;
    for (size_t i = 0; i < PARAMETERS; i++)
        found += asked(c, &parameters[i], &own) != NULL;
    reply_map(s, c, found);
    for (size_t i = 0; i < PARAMETERS; i++) {
        const struct arg *name = asked(c, &parameters[i], &own);
        char value[VALUE_MAX];
        if (name == NULL)
            continue;
        parameters[i].tell(s, value);
        reply_arg(s, c, name);
        reply_text(s, c, value);
    }
}

void config_set_command(struct server *s, struct client *c)
{
    if (c->argc % 2 != 0) {
        reply_arity_error(s, c);
        return;
    }
    struct options changed = s->options;
    uint32_t seen = 0;
    for (size_t i = 2; i < c->argc; i += 2) {
        const struct parameter *p = find_parameter(&c->argv[i]);
        if (p == NULL) {
            reply_error(s, c,
                        "Unknown option or number of arguments for CONFIG SET "
                        "- '%.*s'",
                        (int)(c->argv[i].len < 128 ? c->argv[i].len : 128),
                        c->argv[i].data);
            return;
        }
        uint32_t bit = 1U << (p - parameters);
        const char *wrong = NULL;
        if (p->set == NULL)
            wrong = "can't set immutable config";
        else if ((seen & bit) != 0)
            wrong = "duplicate parameter";
        else
            wrong = p->set(&changed, &c->argv[i + 1]);
        seen |= bit;
        if (wrong != NULL) {
            reply_error(s, c,
                        "CONFIG SET failed (possibly related to argument "
                        "'%s') - %s",
                        p->name, wrong);
            return;
        }
    }
    s->options = changed;
    reply_ok(s, c);
}

void config_resetstat_command(struct server *s, struct client *c)
{
    memset(&s->stats, 0, sizeof(s->stats));
    s->mem.peak = s->mem.used;
    reply_ok(s, c);
}
