/*
 * What a command may do on a connection that everybody shares: the one table
 * that decides it (policy.c), applied to every command of every message.
 *
 * Pass-through by default. Named in the table is what changes the connection
 * or breaks one-reply-per-command (refused), what blocks (a connection of its
 * own), what must get through when the shared connections are stuck (control),
 * and what subscribes.
 */
#ifndef MANAGER_POLICY_H
#define MANAGER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"

enum route {
    ROUTE_SHARED,    /* the pipelined connection */
    ROUTE_DEDICATED, /* blocks: a connection of its own while it lasts */
    ROUTE_CONTROL,   /* SCRIPT KILL and its kind */
    ROUTE_SUBSCRIBE, /* (P)SUBSCRIBE, (P)UNSUBSCRIBE: a broadcast stream */
    ROUTE_REFUSED
};

/* Arguments that a policy may look at: options that matter stand early. */
#define POLICY_ARGS 16

struct policy; /* the table with --deny and --dedicated added to it */

/* ERR_NOMEM. */
MUST_CHECK enum err policy_new(struct policy **policy);
void policy_free(struct policy *policy);

/* Adds `--deny COMMAND`, `--deny COMMAND|SUBCOMMAND` or `--deny @category`
 * (ACL categories as Redis 7 has them, from a built-in table that
 * policy_learn extends). ERR_INVALID with a line. */
MUST_CHECK enum err policy_deny(struct policy *policy, const char *what,
                                struct err_text *why);

/* Adds `--dedicated COMMAND`: it blocks. ERR_INVALID with a line. */
MUST_CHECK enum err policy_dedicate(struct policy *policy, const char *command,
                                    struct err_text *why);

/* Learns from a server's reply to COMMAND (RESP2 or RESP3, held whole): what
 * it flags as blocking goes to dedicated connections, unless the table says
 * otherwise or knows when it does; its ACL categories serve --deny. Replaces
 * what was learned before. ERR_PROTO, ERR_NOMEM: nothing was changed. */
MUST_CHECK enum err policy_learn(struct policy *policy, const char *reply,
                                 size_t len);

/*
 * Judges the commands of one message in order. Of a batch (commands that
 * belong together) all share one route, the last one given; of an independent
 * message each command stands for itself, as in a message of its own.
 */
struct policy_batch {
    const struct policy *policy;
    uint32_t ncommands;
    uint32_t index; /* of the command to be judged next */
    bool alone;     /* one command, or independent ones */
    bool in_multi;
    bool blocks;    /* one that can block came within MULTI */
    bool writes;    /* a command that may write came before (WAIT) */
    char reads[32]; /* the last name that was found not to; a copy */
    size_t reads_len;
    enum route route;
};

void policy_begin(struct policy_batch *batch, const struct policy *policy,
                  uint32_t ncommands, bool independent);

/*
 * Judges the next command. `argv` holds its first arguments, at most
 * POLICY_ARGS of `argc`; argv[0] is the name, in any case. A large argument
 * (data == NULL) is never a name or an option.
 * Returns the command's route; for ROUTE_REFUSED *why has the reason and what
 * to do instead, in one line that begins with the command's name.
 */
enum route policy_command(struct policy_batch *batch, uint32_t argc,
                          const struct resp_arg *argv, struct err_text *why);

/* After the last command of a batch: the route of all of it, or ROUTE_REFUSED
 * (a MULTI without its EXEC). A transaction with commands that could block goes
 * to a dedicated connection: they do not block within it, unless the server
 * refused MULTI itself to our user. */
enum route policy_end(struct policy_batch *batch, struct err_text *why);

#endif
