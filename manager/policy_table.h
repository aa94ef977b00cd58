/*
 * The data behind the policy, and what its two code files share. Private to
 * policy*.c.
 *
 * Keys everywhere are upper-case names, `COMMAND` or `COMMAND|SUBCOMMAND`.
 */
#ifndef MANAGER_POLICY_TABLE_H
#define MANAGER_POLICY_TABLE_H

#include "manager/names.h"
#include "manager/policy.h"

/* ---- the table (policy_table.c) ---- */

enum rule_kind {
    RULE_PASSES,     /* nothing special; its subcommands may be */
    RULE_REFUSED,    /* never on a shared connection */
    RULE_BLOCKS,     /* a connection of its own; not in a batch; in a
                        transaction it does not block */
    RULE_STREAMS,    /* blocks if BLOCK stands before STREAMS */
    RULE_CONTROL,    /* must get through behind a busy script; only alone */
    RULE_LOOKS,      /* the same, harmless in a batch */
    RULE_SUBSCRIBES, /* the pub/sub connection; only alone */
    RULE_BEGINS,     /* MULTI */
    RULE_ENDS,       /* EXEC, DISCARD */
    RULE_WAITS       /* WAIT: the last of a batch of writes */
};

struct policy_rule {
    const char *name;
    enum rule_kind kind;
    const char *why; /* follows the name: what is wrong, what to do instead */
};

extern const struct policy_rule policy_rules[];
extern const size_t policy_nrules;

/* ---- ACL categories (policy_categories.c) ---- */

struct policy_known {
    const char *name;
    uint64_t categories; /* bit i: policy_category_names[i] */
};

extern const char *const policy_category_names[]; /* "@keyspace", ... */
extern const size_t policy_ncategories;
extern const struct policy_known policy_builtin[]; /* sorted by name */
extern const size_t policy_nbuiltin;

#define CATEGORY_READ (UINT64_C(1) << 1)
#define CATEGORY_CONNECTION (UINT64_C(1) << 18)
#define CATEGORY_TRANSACTION (UINT64_C(1) << 19)

/* ---- a policy ---- */

#define POLICY_CATEGORIES 64
#define POLICY_CATEGORY_MAX 32 /* of a category's name, with its NUL */
#define POLICY_WISHES 1024     /* --deny and --dedicated together */
#define POLICY_LEARNED 16384   /* commands and subcommands of one server */

struct policy_entry {
    const char *name; /* NULL: an empty slot */
    const char *why;
    const char *denied; /* the --deny that forbids it, or NULL */
    uint32_t hash;
    uint8_t len;
    uint8_t kind; /* enum rule_kind */
    bool has_sub; /* look at the second word too */
};

/* One --deny or --dedicated. */
struct policy_wish {
    struct policy_wish *next;
    bool dedicate;
    char name[]; /* a key, or "@category" */
};

struct policy_learned_command {
    const char *name; /* in `names` */
    uint64_t categories;
    bool blocks;
};

struct policy_learned {
    struct policy_learned_command *list; /* sorted by name */
    size_t count, room;
    char *names;
    size_t names_len, names_room;
};

/* The categories that exist: the built-in ones, then a server's own. They are
 * only ever added to, so that a bit keeps its meaning. */
struct policy_categories {
    char names[POLICY_CATEGORIES][POLICY_CATEGORY_MAX];
    size_t count;
};

struct policy {
    struct policy_entry *slots; /* open addressing */
    uint32_t mask;
    bool deny_all;
    uint64_t deny_categories;
    struct policy_wish *wishes;
    size_t nwishes;
    struct policy_learned learned;
    struct policy_categories categories;
};

/* Makes the slots anew from the table, the wishes and what was learned.
 * ERR_NOMEM: they are as before. */
MUST_CHECK enum err policy_build(struct policy *policy);

/* The categories of a command (learned, else built in); false: not known. */
bool policy_categories_of(const struct policy *policy, const char *key,
                          uint64_t *categories);

/* The rule of that name, or NULL. */
const struct policy_rule *policy_rule_of(const char *key);

#endif
