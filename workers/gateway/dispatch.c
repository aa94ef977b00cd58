/* Which part of the gateway a command is for. */
#include <string.h>

#include "workers/gateway/gateway.h"

/* ---- what is merely passed on ---- */

/* Fewer than a message may hold, whatever its size. */
#define RUN_COMMANDS_MAX 1024

/* Half of a message, so that two runs fill one. */
static size_t run_max(const struct client *c)
{
    size_t size = gateway_view(c->gateway)->message_size;
    return (size - size / 8) / 2;
}

/* Whether the reply's form depends on the command's name as well. */
static bool has_shape(const struct client *c, const struct command_row *row)
{
    return row != NULL && row->shape != SHAPE_PLAIN && c->resp == 2;
}

bool dispatch_joins(struct client *c, struct run *run,
                    const struct command *command)
{
    const struct command_row *row =
        command_find(command->name, command->name_len);
    if (command->in_line || !c->known || c->multi.open ||
        c->reply_mode != REPLY_MODE_ON || has_shape(c, row) ||
        (row != NULL && row->id != COMMAND_PASSES &&
         (row->id != COMMAND_PING || subscriber_count(c) > 0)) ||
        (c->resp == 2 && subscriber_count(c) > 0))
        return false;
    if (run->count == RUN_COMMANDS_MAX ||
        (run->count > 0 && run->len + command->len > run_max(c)))
        forward_run(c, run);
    if (c->doomed)
        return false;
    if (run->count == 0) {
        run->data = command->data;
        run->len = 0;
    }
    run->len += command->len;
    run->count++;
    c->gateway->counters.commands++;
    return true;
}

/* ---- the others ---- */

/* What a RESP2 client may say while its connection carries messages. */
static bool fits_subscriber(enum command_id id)
{
    switch (id) {
    case COMMAND_SUBSCRIBE:
    case COMMAND_PSUBSCRIBE:
    case COMMAND_SSUBSCRIBE:
    case COMMAND_UNSUBSCRIBE:
    case COMMAND_PUNSUBSCRIBE:
    case COMMAND_SUNSUBSCRIBE:
    case COMMAND_PING:
    case COMMAND_QUIT:
    case COMMAND_RESET:
    case COMMAND_GATEWAY:
        return true;
    case COMMAND_PASSES:
    case COMMAND_AUTH:
    case COMMAND_BLOCKS:
    case COMMAND_BLOCKS_MAYBE:
    case COMMAND_CLIENT:
    case COMMAND_DISCARD:
    case COMMAND_EXEC:
    case COMMAND_HELLO:
    case COMMAND_HTTP:
    case COMMAND_MULTI:
    case COMMAND_SELECT:
    case COMMAND_UNWATCH:
    case COMMAND_WATCH:
        break;
    }
    return false;
}

static bool fits_stranger(enum command_id id)
{
    return id == COMMAND_AUTH || id == COMMAND_HELLO || id == COMMAND_QUIT ||
           id == COMMAND_RESET || id == COMMAND_HTTP;
}

/* Whether one of the arguments behind the name is BLOCK. A key of that name
 * behind STREAMS does not count. */
static bool says_block(const struct command *command)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    resp_request_init(&walk, command->data, command->len);
    if (resp_request_command(&walk, &argc) != ERR_OK)
        return false;
    while (resp_request_arg(&walk, &arg) == ERR_OK) {
        if (command_is(arg.data, arg.len, "STREAMS"))
            return false;
        if (command_is(arg.data, arg.len, "BLOCK"))
            return true;
    }
    return false;
}

/* In its turn alone: what was asked before is answered first, and nothing is
 * read until this is. */
static bool needs_barrier(const struct command *command, enum command_id id)
{
    return id == COMMAND_BLOCKS || id == COMMAND_SUBSCRIBE ||
           id == COMMAND_PSUBSCRIBE || id == COMMAND_SSUBSCRIBE ||
           id == COMMAND_UNSUBSCRIBE || id == COMMAND_PUNSUBSCRIBE ||
           id == COMMAND_SUNSUBSCRIBE || id == COMMAND_RESET ||
           (id == COMMAND_BLOCKS_MAYBE && says_block(command));
}

static void pass(struct client *c, const struct command *command,
                 const struct command_row *row, bool blocks)
{
    enum command_shape shape = row != NULL ? row->shape : SHAPE_PLAIN;
    if (blocks)
        forward_blocking(c, command, shape);
    else
        forward_command(c, command, shape);
}

static void hand_out(struct client *c, const struct command *command,
                     const struct command_row *row, bool blocks)
{
    switch (row != NULL ? row->id : COMMAND_PASSES) {
    case COMMAND_PASSES:
    case COMMAND_BLOCKS:
    case COMMAND_BLOCKS_MAYBE:
        pass(c, command, row, blocks);
        break;
    case COMMAND_PING:
    case COMMAND_AUTH:
    case COMMAND_CLIENT:
    case COMMAND_GATEWAY:
    case COMMAND_HELLO:
    case COMMAND_QUIT:
    case COMMAND_RESET:
    case COMMAND_SELECT:
        session_command(c, command, row);
        break;
    case COMMAND_DISCARD:
    case COMMAND_EXEC:
    case COMMAND_MULTI:
    case COMMAND_UNWATCH:
    case COMMAND_WATCH:
        transaction_command(c, command, row);
        break;
    case COMMAND_SUBSCRIBE:
    case COMMAND_PSUBSCRIBE:
    case COMMAND_SSUBSCRIBE:
    case COMMAND_UNSUBSCRIBE:
    case COMMAND_PUNSUBSCRIBE:
    case COMMAND_SUNSUBSCRIBE:
        subscriber_command(c, command, row);
        break;
    case COMMAND_HTTP:
        /* Whoever made a browser speak to this port gets nothing done. */
        c->gateway->counters.protocol_errors++;
        client_close(c);
        break;
    }
}

enum dispatched dispatch(struct client *c, const struct command *command)
{
    const struct command_row *row =
        command_find(command->name, command->name_len);
    enum command_id id = row != NULL ? row->id : COMMAND_PASSES;
    bool queued = c->multi.open && id != COMMAND_EXEC &&
                  id != COMMAND_DISCARD && id != COMMAND_MULTI &&
                  id != COMMAND_WATCH && id != COMMAND_QUIT &&
                  id != COMMAND_RESET && id != COMMAND_HTTP;
    bool alone = !queued && needs_barrier(command, id);
    if (alone && c->first != NULL)
        return DISPATCHED_HELD;
    if (queued && transaction_waits(c, command))
        return DISPATCHED_HELD;
    c->gateway->counters.commands++;
    if (c->reply_mode == REPLY_MODE_SKIP_NEXT)
        c->reply_mode = REPLY_MODE_SKIP;
    if (!c->known && !fits_stranger(id))
        answer_text(c, "-NOAUTH Authentication required.");
    else if (c->resp == 2 && subscriber_count(c) > 0 && !fits_subscriber(id))
        answer_error(c,
                     "ERR Can't execute '%.*s': only (P|S)SUBSCRIBE / "
                     "(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
                     "this context",
                     (int)(command->name_len < 64 ? command->name_len : 64),
                     command->name);
    else if (queued)
        transaction_queue(c, command, row);
    else
        hand_out(c, command, row, alone);
    if (c->reply_mode == REPLY_MODE_SKIP)
        c->reply_mode = REPLY_MODE_ON;
    return DISPATCHED_DONE;
}
