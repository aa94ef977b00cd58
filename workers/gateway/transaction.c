/*
 * MULTI and EXEC. On a shared connection nothing may come between them, so what
 * is queued stays here and goes to Redis in one piece with EXEC.
 */
#include <string.h>

#include "ipc/clock.h"
#include "workers/gateway/gateway.h"

/* Commands that a batch of the library holds, without MULTI and EXEC. */
#define QUEUED_MAX 4094

/* Without knowledge of the server's commands, how often it is asked. */
#define RETRY_NS (5 * NS_PER_S)

/* A command that is not known is looked for again after so long. */
#define FRESH_NS NS_PER_S

static const char multi_bytes[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec_bytes[] = "*1\r\n$4\r\nEXEC\r\n";

void transaction_discard(struct client *c)
{
    struct multi *m = &c->multi;
    buffer_release(&m->commands);
    buffer_release(&m->shapes);
    m->open = m->broken = false;
    m->count = 0;
}

/* The command is answered with an error, and EXEC will be. */
static void refuse(struct client *c, const struct command *command,
                   const char *why)
{
    c->multi.broken = true;
    answer_error(c, "ERR '%.*s' %s",
                 (int)(command->name_len < 64 ? command->name_len : 64),
                 command->name, why);
}

bool transaction_waits(struct client *c, const struct command *command)
{
    const struct gateway *g = c->gateway;
    const struct catalog *k = &g->catalog;
    char why[512];
    uint64_t age = g->now_ns - k->asked_ns;
    bool asks = k->asking;
    if (k->slots == NULL)
        asks |= k->asked_ns == 0 || age > RETRY_NS;
    else if (age > FRESH_NS) /* A module's, loaded since? */
        asks |= catalog_judge(k, command, why, sizeof(why)) == CATALOG_UNKNOWN;
    if (asks)
        forward_catalog(c);
    return asks;
}

void transaction_queue(struct client *c, const struct command *command,
                       const struct command_row *row)
{
    struct multi *m = &c->multi;
    const struct options *o = c->gateway->options;
    char shape = (char)(row != NULL ? row->shape : SHAPE_PLAIN);
    switch (row != NULL ? row->id : COMMAND_PASSES) {
    case COMMAND_AUTH:
    case COMMAND_GATEWAY:
    case COMMAND_HELLO:
    case COMMAND_SELECT:
        refuse(c, command, "belongs to the connection: not inside MULTI");
        return;
    case COMMAND_SUBSCRIBE:
    case COMMAND_PSUBSCRIBE:
    case COMMAND_SSUBSCRIBE:
    case COMMAND_UNSUBSCRIBE:
    case COMMAND_PUNSUBSCRIBE:
    case COMMAND_SUNSUBSCRIBE:
        refuse(c, command, "has a stream of answers: not inside MULTI");
        return;
    case COMMAND_PASSES:
    case COMMAND_BLOCKS:
    case COMMAND_BLOCKS_MAYBE:
    case COMMAND_CLIENT:
    case COMMAND_DISCARD:
    case COMMAND_EXEC:
    case COMMAND_HTTP:
    case COMMAND_MULTI:
    case COMMAND_PING:
    case COMMAND_QUIT:
    case COMMAND_RESET:
    case COMMAND_UNWATCH:
    case COMMAND_WATCH:
        break;
    }
    char why[512];
    if (catalog_judge(&c->gateway->catalog, command, why, sizeof(why)) !=
        CATALOG_FINE) {
        m->broken = true;
        answer_error(c, "%s", why);
        return;
    }
    if (m->broken) {
        /* It will not be executed, so it need not be kept. */
        answer_text(c, "+QUEUED");
        return;
    }
    if (m->count == QUEUED_MAX ||
        buffer_len(&m->commands) + command->len > o->query_buffer) {
        refuse(c, command,
               "is one too many for a transaction: 4094 commands "
               "and --query-buffer bytes are the most");
        return;
    }
    if (!buffer_append(&m->commands, command->data, command->len) ||
        !buffer_append(&m->shapes, &shape, 1)) {
        refuse(c, command, "cannot be queued: out of memory");
        return;
    }
    m->count++;
    answer_text(c, "+QUEUED");
}

static void open_multi(struct client *c)
{
    struct multi *m = &c->multi;
    if (m->open) {
        answer_text(c, "-ERR MULTI calls can not be nested");
        return;
    }
    m->open = true;
    m->broken =
        !buffer_append(&m->commands, multi_bytes, sizeof(multi_bytes) - 1);
    answer_text(c, "+OK");
}

static void exec(struct client *c)
{
    struct multi *m = &c->multi;
    if (!m->broken && m->count > 0 &&
        !buffer_append(&m->commands, exec_bytes, sizeof(exec_bytes) - 1))
        m->broken = true;
    if (m->broken)
        answer_text(c, "-EXECABORT Transaction discarded because of previous "
                       "errors.");
    else if (m->count == 0)
        answer_text(c, "*0");
    else
        forward_transaction(c, buffer_at(&m->commands),
                            buffer_len(&m->commands), m->count + 2, &m->shapes);
    transaction_discard(c);
}

void transaction_command(struct client *c, const struct command *command,
                         const struct command_row *row)
{
    bool open = c->multi.open;
    if (row->id != COMMAND_WATCH && command->argc > 1) {
        answer_error(c, "ERR wrong number of arguments for '%s' command",
                     row->id == COMMAND_MULTI     ? "multi"
                     : row->id == COMMAND_EXEC    ? "exec"
                     : row->id == COMMAND_DISCARD ? "discard"
                                                  : "unwatch");
        c->multi.broken = c->multi.open;
    } else if (row->id == COMMAND_MULTI) {
        open_multi(c);
    } else if (row->id == COMMAND_WATCH && open) {
        answer_text(c, "-ERR WATCH inside MULTI is not allowed");
    } else if (row->id == COMMAND_WATCH) {
        answer_text(c, "-MQREDIS invalid: WATCH cannot guard a transaction on "
                       "a connection that all share: use EVAL, whose script "
                       "can compare before it writes");
    } else if (row->id == COMMAND_UNWATCH) {
        answer_text(c, "+OK");
    } else if (!open) {
        answer_text(c, row->id == COMMAND_EXEC ? "-ERR EXEC without MULTI"
                                               : "-ERR DISCARD without MULTI");
    } else if (row->id == COMMAND_EXEC) {
        exec(c);
    } else {
        transaction_discard(c);
        answer_text(c, "+OK");
    }
}
