/*
 * Where a command goes in a cluster: where its keys are, which slot they are
 * in, and, for commands that are more than one node's business, which nodes
 * are asked and how their replies are joined.
 *
 * All of it comes from a table: at first a built-in one (keyspec_table.c, made
 * by tools/keyspec-table from a real server's reply to COMMAND), then the
 * connected server's own. What a server cannot say (SORT's STORE, MIGRATE's
 * KEYS) or says of commands that no join is good for (INFO) is in keyspec.c.
 * docs/cluster.md has it as a table for people.
 *
 * Nothing here touches a socket or knows a node.
 */
#ifndef MANAGER_KEYSPEC_H
#define MANAGER_KEYSPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/framed.h"

enum spread {
    SPREAD_ANY,     /* no key: any master; what nobody knows, too */
    SPREAD_SLOT,    /* the master of way.slot */
    SPREAD_SPLIT,   /* keys in several slots: see scatter_split */
    SPREAD_MASTERS, /* the same command to every master */
    SPREAD_NODES,   /* the same, and to every replica (else to masters only) */
    SPREAD_SCAN,    /* one master after the other, by the cursor */
    SPREAD_CROSS    /* keys in several slots, and it can't be split: nothing
                       is sent, the reply is KEYSPEC_CROSSSLOT */
};

/* How the replies of several nodes or parts become one. Which error wins if
 * there are some: see scatter.h. */
enum join {
    JOIN_ONE,   /* there is but one reply */
    JOIN_ORDER, /* arrays, an element a key, in the order of the keys: MGET */
    JOIN_SUM,   /* integers: DEL, DBSIZE */
    JOIN_MIN,   /* integers: WAIT */
    JOIN_MAX,   /* integers */
    JOIN_AND,   /* arrays of 0 and 1 of one length: SCRIPT EXISTS; or
                   integers */
    JOIN_OR,    /* the same */
    JOIN_OK,    /* all must succeed, the first one's reply: MSET, FLUSHALL */
    JOIN_FIRST_OK, /* one must succeed: SCRIPT KILL */
    JOIN_ANY,      /* the first that is not nil: RANDOMKEY */
    JOIN_CONCAT,   /* arrays (sets, maps), one after the other: KEYS */
    JOIN_UNION,    /* the same, equal elements once: PUBSUB CHANNELS */
    JOIN_MAP_SUM   /* name, number, name, number: PUBSUB NUMSUB */
};

struct way {
    enum spread spread;
    enum join join;
    uint16_t slot; /* of SPREAD_SLOT */
    bool readonly; /* so flagged by the server: a replica may answer it */
    /* Of SPREAD_SPLIT: argument first_key is the first key, and from there
     * each key_step-th is one; what stands between belongs to the key before
     * it (MSET). */
    uint32_t first_key, key_step;
    uint32_t nkeys; /* of any command; 0: none */
};

/* What Redis itself says. */
#define KEYSPEC_CROSSSLOT                                                      \
    "-CROSSSLOT Keys in request don't hash to the same slot\r\n"

/* The reason that belongs to ERR_INVALID of keyspecs_way. */
#define KEYSPEC_LARGE_KEY                                                      \
    "has a key that travels in shared memory, where the manager cannot see "   \
    "which slot it is in: in a cluster keys must be short enough for the "     \
    "message itself"

struct keyspecs;

/* The built-in table. ERR_NOMEM. */
MUST_CHECK enum err keyspecs_new(struct keyspecs **keyspecs);
void keyspecs_free(struct keyspecs *keyspecs);

/* Learns from a server's reply to COMMAND (RESP2 or RESP3, held whole), which
 * replaces the table: a command it does not name is none. From a server before
 * Redis 7, which says little of keys and nothing of policies, only commands
 * that the built-in table does not know are learned. ERR_PROTO, ERR_NOMEM:
 * nothing was changed. */
MUST_CHECK enum err keyspecs_learn(struct keyspecs *keyspecs, const char *reply,
                                   size_t len);

/*
 * Which way one command goes. A command that Redis refuses anyway (a wrong
 * number of arguments, "numkeys" that is no number) goes anywhere, to be
 * refused there. GET, SET and their like cost one look into a hash table and
 * one CRC; nothing is ever allocated.
 *
 * `command` is one that framed_next gave, or was checked as thoroughly: it is
 * walked over as far as its keys need it. ERR_PROTO: not in the form of a run,
 * as far as that was seen. ERR_INVALID: KEYSPEC_LARGE_KEY. *way is written on
 * success only.
 */
MUST_CHECK enum err keyspecs_way(const struct keyspecs *keyspecs,
                                 const struct framed *command, struct way *way);

/* Which arguments are keys (COMMAND GETKEYS), in the order of the server's
 * specifications: up to `max` of them at `where`, *count says how many there
 * are; 0 for a command that Redis refuses, too. ERR_PROTO. */
MUST_CHECK enum err keyspecs_keys(const struct keyspecs *keyspecs,
                                  const struct framed *command, uint32_t *where,
                                  uint32_t max, uint32_t *count);

#endif
