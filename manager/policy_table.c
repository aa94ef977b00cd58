/*
 * The table: every command that may not simply be passed on, and why. A
 * command that is not here is passed, whichever version of Redis or Valkey or
 * module it comes from.
 *
 * `why` goes on where the command's name ended: the reason, then what to do
 * instead. One line, as a worker's user reads it.
 */
#include "manager/policy_table.h"

#define SHARED "the connection that all workers share"

#define LOGIN                                                                  \
    "would log everybody in anew: give user and password to the manager "      \
    "(--redis redis://user:password@host, or REDISCLI_AUTH)"
#define NAMING                                                                 \
    "would name " SHARED                                                       \
    ": that is the manager's --client-name; mqstat shows who sends what"
#define TRACKING                                                               \
    "is about invalidation messages, which a shared connection cannot "        \
    "deliver to one worker: connect to Redis directly for client-side caching"
#define OWN_STATE                                                              \
    "would change " SHARED                                                     \
    ": connect to Redis directly to change a client's settings"
#define REPLICATION                                                            \
    "turns a connection into a replica's link and ends its replies: connect "  \
    "to Redis directly (redis-cli --rdb, --replica)"
#define CLUSTER_STATE                                                          \
    "would change how everybody's commands are routed: the manager follows "   \
    "a cluster by itself"
#define WATCHING                                                               \
    "cannot guard a transaction here, as nothing can be read between it and "  \
    "EXEC: use EVAL (a script is atomic), or compare with GET in the script"
#define HTTP                                                                   \
    "looks like HTTP, which Redis answers by closing the connection: send "    \
    "Redis commands"

const struct policy_rule policy_rules[] = {
    /* ---- refused: changes the connection for everybody ---- */
    {"SELECT", RULE_REFUSED,
     "would change everybody's database: name it in the manager's URI "
     "(--redis redis://host/N) and run a manager per database"},
    {"AUTH", RULE_REFUSED, LOGIN},
    {"HELLO", RULE_REFUSED,
     "would change everybody's protocol or user: give --resp and the login to "
     "the manager"},
    {"QUIT", RULE_REFUSED,
     "would close " SHARED ": just stop sending, nothing has to be closed"},
    {"RESET", RULE_REFUSED,
     "would log everybody out and drop their subscriptions: there is nothing "
     "to reset, each command stands by itself"},
    {"CLIENT|REPLY", RULE_REFUSED,
     "would silence everybody's replies: to go on without waiting, send the "
     "command and do not read its reply"},
    {"CLIENT|TRACKING", RULE_REFUSED, TRACKING},
    {"CLIENT|CACHING", RULE_REFUSED, TRACKING},
    {"CLIENT|SETNAME", RULE_REFUSED, NAMING},
    {"CLIENT|SETINFO", RULE_REFUSED, NAMING},
    {"CLIENT|NO-EVICT", RULE_REFUSED, OWN_STATE},
    {"CLIENT|NO-TOUCH", RULE_REFUSED, OWN_STATE},
    {"CLIENT|CAPA", RULE_REFUSED, OWN_STATE},          /* Valkey 8 */
    {"CLIENT|IMPORT-SOURCE", RULE_REFUSED, OWN_STATE}, /* Valkey 8.1 */
    {"HIMPORT", RULE_REFUSED,                          /* Redis 8.10 */
     "keeps names of fields on " SHARED ": use HSET, which names them itself"},
    {"ASKING", RULE_REFUSED, CLUSTER_STATE},
    {"READONLY", RULE_REFUSED, CLUSTER_STATE},
    {"READWRITE", RULE_REFUSED, CLUSTER_STATE},
    {"SCRIPT|DEBUG", RULE_REFUSED,
     "would stop the next script of anybody in the debugger: use redis-cli "
     "--ldb, which connects directly"},
    {"DEBUG|MARK-INTERNAL-CLIENT", RULE_REFUSED, OWN_STATE}, /* Redis 8 */
    {"DEBUG|PROMOTE-CONN-INTERNAL", RULE_REFUSED, OWN_STATE},

    /* ---- refused: has no reply, or never stops replying ---- */
    {"MONITOR", RULE_REFUSED,
     "never stops replying: run redis-cli MONITOR, which connects directly; "
     "mqstat shows what goes through this channel"},
    {"SYNC", RULE_REFUSED, REPLICATION},
    {"PSYNC", RULE_REFUSED, REPLICATION},
    {"REPLCONF", RULE_REFUSED, REPLICATION},
    {"CLUSTER|SYNCSLOTS", RULE_REFUSED, REPLICATION}, /* between nodes only */
    {"POST", RULE_REFUSED, HTTP},
    {"HOST:", RULE_REFUSED, HTTP},

    /* ---- transactions ---- */
    {"WATCH", RULE_REFUSED, WATCHING},
    {"MULTI", RULE_BEGINS, NULL},
    {"EXEC", RULE_ENDS, NULL},
    {"DISCARD", RULE_ENDS, NULL},

    /* ---- blocks, or waits for what its own connection wrote ---- */
    {"BLPOP", RULE_BLOCKS, NULL},
    {"BRPOP", RULE_BLOCKS, NULL},
    {"BLMOVE", RULE_BLOCKS, NULL},
    {"BRPOPLPUSH", RULE_BLOCKS, NULL},
    {"BLMPOP", RULE_BLOCKS, NULL},
    {"BZPOPMIN", RULE_BLOCKS, NULL},
    {"BZPOPMAX", RULE_BLOCKS, NULL},
    {"BZMPOP", RULE_BLOCKS, NULL},
    {"XREAD", RULE_STREAMS, NULL},
    {"XREADGROUP", RULE_STREAMS, NULL},
    {"WAIT", RULE_WAITS, NULL},
    {"WAITAOF", RULE_WAITS, NULL},

    /* ---- must get through when the shared connections are stuck ---- */
    {"SCRIPT|KILL", RULE_CONTROL, NULL},
    {"FUNCTION|KILL", RULE_CONTROL, NULL},
    {"FUNCTION|STATS", RULE_LOOKS, NULL}, /* tells which script is running */
    {"CLIENT|KILL", RULE_CONTROL, NULL},
    {"CLIENT|UNBLOCK", RULE_CONTROL, NULL},
    {"CLIENT|UNPAUSE", RULE_CONTROL, NULL},
    {"SHUTDOWN", RULE_CONTROL, NULL},
    {"FAILOVER", RULE_CONTROL, NULL},

    /* ---- pub/sub ---- */
    {"SUBSCRIBE", RULE_SUBSCRIBES, NULL},
    {"PSUBSCRIBE", RULE_SUBSCRIBES, NULL},
    {"UNSUBSCRIBE", RULE_SUBSCRIBES, NULL},
    {"PUNSUBSCRIBE", RULE_SUBSCRIBES, NULL},
    {"SSUBSCRIBE", RULE_SUBSCRIBES, NULL},
    {"SUNSUBSCRIBE", RULE_SUBSCRIBES, NULL},
};
const size_t policy_nrules = sizeof(policy_rules) / sizeof(policy_rules[0]);
