/*
 * From a request to a command: lookup, the checks which Redis makes in the
 * same order, and then running it or queueing it for EXEC.
 */
#include "server/command.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/blocking.h"
#include "server/commands.h"
#include "server/reply.h"
#include "server/transactions.h"

#define INDEX_SIZE 512 /* a power of two, well above the number of commands */

struct command_index {
    const struct command *slots[INDEX_SIZE];
};

static uint32_t name_hash(const char *name, size_t len)
{
    uint32_t h = 2166136261U;
    for (size_t i = 0; i < len; i++) {
        /* Folds letters; what else it folds, the comparison tells apart. */
        h ^= (uint32_t)(unsigned char)name[i] | 0x20U;
        h *= 16777619U;
    }
    return h ^ (h >> 15);
}

struct command_index *command_index_new(struct mem *m)
{
    struct command_index *index = mem_zalloc(m, sizeof(*index));
    for (const struct command *k = command_table; k->name != NULL; k++) {
        uint32_t i = name_hash(k->name, strlen(k->name));
        while (index->slots[i % INDEX_SIZE] != NULL)
            i++;
        index->slots[i % INDEX_SIZE] = k;
    }
    return index;
}

void command_index_free(struct command_index *index, struct mem *m)
{
    mem_free(m, index);
}

static bool name_is(const struct arg *arg, const char *name)
{
    return strlen(name) == arg->len &&
           strncasecmp(name, arg->data, arg->len) == 0;
}

const struct command *command_find(const struct server *s,
                                   const struct arg *name)
{
    if (name->len > 32)
        return NULL;
    uint32_t i = name_hash(name->data, name->len);
    for (;; i++) {
        const struct command *k = s->commands->slots[i % INDEX_SIZE];
        if (k == NULL || name_is(name, k->name))
            return k;
    }
}

const struct command *command_find_sub(const struct command *container,
                                       const struct arg *name)
{
    for (const struct command *k = container->subcommands; k->name != NULL; k++)
        if (name_is(name, k->name))
            return k;
    return NULL;
}

bool arg_is(const struct arg *arg, const char *word)
{
    size_t len = strnlen(arg->data, arg->len);
    return strlen(word) == len && strncasecmp(word, arg->data, len) == 0;
}

void command_upper(const char *name, size_t len, char *out, size_t size)
{
    size_t i = 0;
    for (; i < len && i + 1 < size; i++)
        out[i] = (char)toupper((unsigned char)name[i]);
    out[i] = '\0';
}

/* ---- refusals ---- */

/* Refuses the request. A transaction that was being queued cannot be executed
 * any more, and one whose EXEC is refused ends with it. */
PRINTF_LIKE(3, 4)
static void refuse(struct server *s, struct client *c, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (c->command == NULL || c->command->run != exec_command) {
        transaction_break(c);
        reply_error(s, c, "%s", text);
        return;
    }
    transaction_discard(s, c);
    transaction_unwatch(s, c);
    reply_error(s, c, "-EXECABORT Transaction discarded because of: %s",
                text[0] == '-' ? text + 1 : text);
}

static int shown(size_t len, size_t max)
{
    return (int)(len < max ? len : max);
}

static void refuse_unknown(struct server *s, struct client *c)
{
    char args[160];
    size_t len = 0;
    args[0] = '\0';
    for (size_t i = 1; i < c->argc && len < 128; i++) {
        int n = snprintf(args + len, sizeof(args) - len, "'%.*s' ",
                         shown(c->argv[i].len, 128 - len), c->argv[i].data);
        len += (size_t)n;
    }
    refuse(s, c, "unknown command '%.*s', with args beginning with: %s",
           shown(c->argv[0].len, 128), c->argv[0].data, args);
}

static void refuse_unknown_sub(struct server *s, struct client *c,
                               const struct command *container)
{
    char name[32];
    command_upper(container->name, strlen(container->name), name, sizeof(name));
    refuse(s, c, "unknown subcommand '%.*s'. Try %s HELP.",
           shown(c->argv[1].len, 128), c->argv[1].data, name);
}

static const struct command *find(struct server *s, struct client *c)
{
    const struct command *k = command_find(s, &c->argv[0]);
    if (k == NULL) {
        refuse_unknown(s, c);
        return NULL;
    }
    if (k->subcommands == NULL || c->argc < 2)
        return k;
    const struct command *sub = command_find_sub(k, &c->argv[1]);
    if (sub == NULL)
        refuse_unknown_sub(s, c, k);
    return sub;
}

bool command_out_of_memory(const struct server *s)
{
    return s->options.max_memory != 0 && s->mem.used > s->options.max_memory;
}

/* False: refused, and the error is replied. */
static bool permitted(struct server *s, struct client *c)
{
    const struct command *k = c->command;
    bool multi = (c->flags & CLIENT_MULTI) != 0;
    if (k->arity > 0 ? c->argc != (size_t)k->arity
                     : c->argc < (size_t)-k->arity) {
        refuse(s, c, "wrong number of arguments for '%s' command",
               k->full_name);
        return false;
    }
    if ((c->flags & CLIENT_AUTHENTICATED) == 0 &&
        (k->flags & CMD_NO_AUTH) == 0) {
        refuse(s, c, "-NOAUTH Authentication required.");
        return false;
    }
    if (multi && (k->flags & CMD_NO_MULTI) != 0) {
        refuse(s, c, "Command not allowed inside a transaction");
        return false;
    }
    /* Queueing takes memory too. Leaving a transaction is always possible. */
    if (command_out_of_memory(s) &&
        ((k->flags & CMD_DENYOOM) != 0 ||
         (multi && (k->flags & CMD_UNQUEUED) == 0) ||
         transaction_needs_memory(c))) {
        refuse(s, c,
               "-OOM command not allowed when used memory > 'maxmemory'.");
        return false;
    }
    if (c->resp == 2 && client_subscribed(c) &&
        (k->flags & CMD_IN_SUBSCRIPTION) == 0) {
        refuse(s, c,
               "Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
               "PING / QUIT / RESET are allowed in this context",
               k->full_name);
        return false;
    }
    return true;
}

void command_call(struct server *s, struct client *c)
{
    s->stats.commands++;
    c->command->run(s, c);
}

void command_process(struct server *s, struct client *c)
{
    s->now_ms = 0;
    c->command = NULL;
    c->command = find(s, c);
    if (c->command == NULL)
        return;
    c->last_command = c->command;
    if (!permitted(s, c))
        return;
    if ((c->flags & CLIENT_MULTI) != 0 &&
        (c->command->flags & CMD_UNQUEUED) == 0) {
        transaction_queue(s, c);
        reply_raw(s, c, "+QUEUED\r\n", 9);
        return;
    }
    command_call(s, c);
    if (s->ready_first != NULL)
        blocking_serve(s);
}
