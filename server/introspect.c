/* COMMAND and its subcommands, and HELP: the command table told to clients. */
#include <stdio.h>
#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/reply.h"

/* The names of flag bits, from bit 0 on. */
static const char *const flag_names[] = {
    "write",        "readonly", "denyoom", "admin",    "pubsub",
    "noscript",     "blocking", "loading", "stale",    "skip_monitor",
    "skip_slowlog", "fast",     "no_auth", "no_multi", "allow_busy"};

static const char *const acl_names[] = {
    "@keyspace",  "@read",       "@write",      "@list", "@string",
    "@pubsub",    "@admin",      "@fast",       "@slow", "@blocking",
    "@dangerous", "@connection", "@transaction"};

static const char *const key_flag_names[] = {
    "RO",     "RW",     "OW",
    "RM",     "access", "update",
    "insert", "delete", "variable_flags"};

#define COUNT(names) (sizeof(names) / sizeof((names)[0]))

static void reply_names(struct server *s, struct client *c, uint32_t bits,
                        const char *const *names, size_t count)
{
    size_t set = 0;
    for (size_t i = 0; i < count; i++)
        set += (bits >> i) & 1;
    reply_set(s, c, set);
    for (size_t i = 0; i < count; i++)
        if (((bits >> i) & 1) != 0)
            reply_status(s, c, names[i]);
}

/* The categories of the table and those which the flags imply. */
static uint32_t categories(const struct command *k)
{
    static const struct {
        uint32_t flag, acl;
    } implied[] = {
        {CMD_WRITE, ACL_WRITE},
        {CMD_READONLY, ACL_READ},
        {CMD_ADMIN, ACL_ADMIN | ACL_DANGEROUS},
        {CMD_PUBSUB, ACL_PUBSUB},
        {CMD_BLOCKING, ACL_BLOCKING},
    };
    uint32_t acl = k->acl;
    for (size_t i = 0; i < COUNT(implied); i++)
        if ((k->flags & implied[i].flag) != 0)
            acl |= implied[i].acl;
    return acl | ((k->flags & CMD_FAST) != 0 ? ACL_FAST : ACL_SLOW);
}

static void reply_tips(struct server *s, struct client *c, const char *tips)
{
    size_t count = tips != NULL;
    for (const char *p = tips; p != NULL && *p != '\0'; p++)
        count += *p == ' ';
    reply_set(s, c, count);
    for (; count > 0; count--) {
        size_t len = strcspn(tips, " ");
        reply_bulk(s, c, tips, len);
        tips += len + 1;
    }
}

/* ---- where the keys are ---- */

static void reply_key_spec(struct server *s, struct client *c,
                           const struct key_spec *spec)
{
    reply_map(s, c, spec->notes != NULL ? 4 : 3);
    if (spec->notes != NULL) {
        reply_text(s, c, "notes");
        reply_text(s, c, spec->notes);
    }
    reply_text(s, c, "flags");
    reply_names(s, c, spec->flags, key_flag_names, COUNT(key_flag_names));
    reply_text(s, c, "begin_search");
    reply_map(s, c, 2);
    reply_text(s, c, "type");
    reply_text(s, c, "index");
    reply_text(s, c, "spec");
    reply_map(s, c, 1);
    reply_text(s, c, "index");
    reply_number(s, c, spec->first);
    reply_text(s, c, "find_keys");
    reply_map(s, c, 2);
    reply_text(s, c, "type");
    reply_text(s, c, "range");
    reply_text(s, c, "spec");
    reply_map(s, c, 3);
    reply_text(s, c, "lastkey");
    reply_number(s, c, spec->last);
    reply_text(s, c, "keystep");
    reply_number(s, c, spec->step);
    reply_text(s, c, "limit");
    reply_number(s, c, 0);
}

static size_t spec_count(const struct command *k)
{
    size_t n = 0;
    while (n < COMMAND_KEY_SPECS && k->keys[n].first != 0)
        n++;
    return n;
}

static void reply_key_specs(struct server *s, struct client *c,
                            const struct command *k)
{
    size_t n = spec_count(k);
    reply_set(s, c, n);
    for (size_t i = 0; i < n; i++)
        reply_key_spec(s, c, &k->keys[i]);
}

/* First, last and step of all keys, as COMMAND told them before it had
 * specs. */
static void reply_key_range(struct server *s, struct client *c,
                            const struct command *k)
{
    size_t n = spec_count(k);
    int last = 0;
    if (n > 0) {
        const struct key_spec *end = &k->keys[n - 1];
        last = end->last >= 0 ? end->first + end->last : end->last;
    }
    reply_number(s, c, n > 0 ? k->keys[0].first : 0);
    reply_number(s, c, last);
    reply_number(s, c, n > 0 ? k->keys[0].step : 0);
}

/* ---- COMMAND ---- */

static size_t table_length(const struct command *table)
{
    size_t n = 0;
    while (table[n].name != NULL)
        n++;
    return n;
}

static void reply_command(struct server *s, struct client *c,
                          const struct command *k);

static void reply_subcommands(struct server *s, struct client *c,
                              const struct command *k)
{
    if (k->subcommands == NULL) {
        reply_set(s, c, 0);
        return;
    }
    reply_array(s, c, table_length(k->subcommands));
    for (const struct command *sub = k->subcommands; sub->name != NULL; sub++)
        reply_command(s, c, sub);
}

static void reply_command(struct server *s, struct client *c,
                          const struct command *k)
{
    reply_array(s, c, 10);
    reply_text(s, c, k->full_name);
    reply_number(s, c, k->arity);
    reply_names(s, c, k->flags, flag_names, COUNT(flag_names));
    reply_key_range(s, c, k);
    reply_names(s, c, categories(k), acl_names, COUNT(acl_names));
    reply_tips(s, c, k->tips);
    reply_key_specs(s, c, k);
    reply_subcommands(s, c, k);
}

/* A command by its name or, of a subcommand, "client|id". */
static const struct command *find_named(struct server *s,
                                        const struct arg *name)
{
    const char *bar = memchr(name->data, '|', name->len);
    if (bar == NULL)
        return command_find(s, name);
    struct arg container = {{.data = name->data}, (size_t)(bar - name->data)};
    struct arg sub = {{.data = bar + 1}, name->len - container.len - 1};
    const struct command *k = command_find(s, &container);
    return k == NULL || k->subcommands == NULL ? NULL
                                               : command_find_sub(k, &sub);
}

void command_command(struct server *s, struct client *c)
{
    reply_array(s, c, table_length(command_table));
    for (const struct command *k = command_table; k->name != NULL; k++)
        reply_command(s, c, k);
}

void command_count_command(struct server *s, struct client *c)
{
    reply_number(s, c, (int64_t)table_length(command_table));
}

void command_info_command(struct server *s, struct client *c)
{
    if (c->argc == 2) {
        command_command(s, c);
        return;
    }
    reply_array(s, c, c->argc - 2);
    for (size_t i = 2; i < c->argc; i++) {
        const struct command *k = find_named(s, &c->argv[i]);
        if (k != NULL)
            reply_command(s, c, k);
        else
            reply_null(s, c);
    }
}

static void reply_docs(struct server *s, struct client *c,
                       const struct command *k)
{
    reply_text(s, c, k->full_name);
    reply_map(s, c, k->subcommands != NULL ? 4 : 3);
    reply_text(s, c, "summary");
    reply_text(s, c, k->summary);
    reply_text(s, c, "since");
    reply_text(s, c, k->since);
    reply_text(s, c, "group");
    reply_text(s, c, k->group);
    if (k->subcommands == NULL)
        return;
    reply_text(s, c, "subcommands");
    reply_map(s, c, table_length(k->subcommands));
    for (const struct command *sub = k->subcommands; sub->name != NULL; sub++)
        reply_docs(s, c, sub);
}

void command_docs_command(struct server *s, struct client *c)
{
    if (c->argc == 2) {
        reply_map(s, c, table_length(command_table));
        for (const struct command *k = command_table; k->name != NULL; k++)
            reply_docs(s, c, k);
        return;
    }
    size_t found = 0;
    for (size_t i = 2; i < c->argc; i++)
        found += find_named(s, &c->argv[i]) != NULL;
    reply_map(s, c, found);
    for (size_t i = 2; i < c->argc; i++) {
        const struct command *k = find_named(s, &c->argv[i]);
        if (k != NULL)
            reply_docs(s, c, k);
    }
}

/* ---- HELP of commands with subcommands ---- */

void help_command(struct server *s, struct client *c)
{
    char name[32], line[256];
    command_upper(c->argv[0].data, c->argv[0].len, name, sizeof(name));
    const struct command *container = command_find(s, &c->argv[0]);
    reply_array(s, c, 1 + 2 * table_length(container->subcommands));
    snprintf(
        line, sizeof(line),
        "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    reply_status(s, c, line);
    for (const struct command *k = container->subcommands; k->name != NULL;
         k++) {
        command_upper(k->name, strlen(k->name), name, sizeof(name));
        snprintf(line, sizeof(line), "%s%s%s", name, k->usage ? " " : "",
                 k->usage != NULL ? k->usage : "");
        reply_status(s, c, line);
        snprintf(line, sizeof(line), "    %s", k->summary);
        reply_status(s, c, line);
    }
}
