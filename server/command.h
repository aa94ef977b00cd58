/*
 * Commands as data: what COMMAND tells, arity errors, what is refused in a
 * subscription or a transaction, and what runs all come from one table.
 */
#ifndef SERVER_COMMAND_H
#define SERVER_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/client.h"

/* In the order in which COMMAND lists them. */
enum command_flags {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_DENYOOM = 1 << 2, /* refused when memory is over its limit */
    CMD_ADMIN = 1 << 3,
    CMD_PUBSUB = 1 << 4,
    CMD_NOSCRIPT = 1 << 5,
    CMD_BLOCKING = 1 << 6,
    CMD_LOADING = 1 << 7,
    CMD_STALE = 1 << 8,
    CMD_SKIP_MONITOR = 1 << 9,
    CMD_SKIP_SLOWLOG = 1 << 10,
    CMD_FAST = 1 << 11,
    CMD_NO_AUTH = 1 << 12,
    CMD_NO_MULTI = 1 << 13,
    CMD_ALLOW_BUSY = 1 << 14,
    /* Ours, not listed: */
    CMD_IN_SUBSCRIPTION = 1 << 15, /* allowed to a RESP2 subscriber */
    CMD_UNQUEUED = 1 << 16         /* runs at once, even after MULTI */
};

/* ACL categories, in the order in which COMMAND lists them. Those which follow
 * from flags are not repeated in the table. */
enum command_acl {
    ACL_KEYSPACE = 1 << 0,
    ACL_READ = 1 << 1,
    ACL_WRITE = 1 << 2,
    ACL_LIST = 1 << 3,
    ACL_STRING = 1 << 4,
    ACL_PUBSUB = 1 << 5,
    ACL_ADMIN = 1 << 6,
    ACL_FAST = 1 << 7,
    ACL_SLOW = 1 << 8,
    ACL_BLOCKING = 1 << 9,
    ACL_DANGEROUS = 1 << 10,
    ACL_CONNECTION = 1 << 11,
    ACL_TRANSACTION = 1 << 12
};

enum key_flags {
    KEY_RO = 1 << 0,
    KEY_RW = 1 << 1,
    KEY_OW = 1 << 2,
    KEY_RM = 1 << 3,
    KEY_ACCESS = 1 << 4,
    KEY_UPDATE = 1 << 5,
    KEY_INSERT = 1 << 6,
    KEY_DELETE = 1 << 7,
    KEY_VARIABLE = 1 << 8
};

/* Where keys are among the arguments. */
struct key_spec {
    int first; /* argument; 0: there is no spec */
    int last;  /* relative to `first`; negative: counted from the end */
    int step;
    uint32_t flags; /* what happens to them */
    const char *notes;
};

#define COMMAND_KEY_SPECS 2

typedef void command_run(struct server *s, struct client *c);

struct command {
    const char *name;
    const char *full_name; /* "client|id" for a subcommand */
    int arity;             /* with the name; negative: at least */
    uint32_t flags;
    uint32_t acl;
    command_run *run;
    struct key_spec keys[COMMAND_KEY_SPECS];
    const char *tips; /* separated by blanks; NULL: none */
    const char *since;
    const char *group;
    const char *summary;
    const char *usage; /* a subcommand's arguments; NULL: none */
    const struct command *subcommands; /* ends with a NULL name */
};

/* All of them; ends with a NULL name. */
extern const struct command command_table[];

/* Looks up names quickly; case does not matter. */
struct command_index *command_index_new(struct mem *m);
void command_index_free(struct command_index *index, struct mem *m);
const struct command *command_find(const struct server *s,
                                   const struct arg *name);
const struct command *command_find_sub(const struct command *container,
                                       const struct arg *name);

/* Whether the argument is this word (capitals in `word`), in any case. Like
 * Redis, looks no further than a NUL. */
bool arg_is(const struct arg *arg, const char *word);

/* The name in capitals, cut to what fits. */
void command_upper(const char *name, size_t len, char *out, size_t size);

/* Executes, queues or refuses the request in c->argv. */
void command_process(struct server *s, struct client *c);

/* Executes c->argv as c->command, unconditionally. */
void command_call(struct server *s, struct client *c);

/* Whether memory is over its limit. */
bool command_out_of_memory(const struct server *s);

#endif
