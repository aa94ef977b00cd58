/*
 * The data behind the key specifications, and what their code files share.
 * Private to keyspec*.c and, for its rows, to tools/keyspec-table.
 */
#ifndef MANAGER_KEYSPEC_TABLE_H
#define MANAGER_KEYSPEC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/keyspec.h"
#include "manager/names.h"

/* ---- what a server says ---- */

/* Where the search for a specification's keys begins. */
enum keyspec_begin {
    BEGIN_UNKNOWN,
    BEGIN_INDEX,  /* argument `at` */
    BEGIN_KEYWORD /* behind `keyword`, looked for from argument `at` on; if
                     that is negative: from the end, to the front */
};

/* Which keys there are from there. */
enum keyspec_find {
    FIND_UNKNOWN,
    FIND_RANGE, /* up to argument begin + last, or argc + last if that is
                   negative; with a limit of N, of the first N-th only */
    FIND_KEYNUM /* argument begin + last says how many; the first is at
                   begin + limit */
};

#define KEYSPEC_KEYWORD_MAX 16 /* with its NUL */

struct keyspec {
    uint8_t begin; /* enum keyspec_begin */
    uint8_t find;  /* enum keyspec_find */
    bool channel;  /* no key, but in its slot: SPUBLISH */
    char keyword[KEYSPEC_KEYWORD_MAX];
    int16_t at;
    int16_t last, step, limit;
};

/* The tips request_policy and response_policy. */
enum keyspec_request {
    REQUEST_NONE,
    REQUEST_NODES,  /* all_nodes */
    REQUEST_SHARDS, /* all_shards */
    REQUEST_SPLIT,  /* multi_shard */
    REQUEST_SPECIAL
};

enum keyspec_response {
    RESPONSE_NONE,
    RESPONSE_ONE, /* one_succeeded */
    RESPONSE_ALL, /* all_succeeded */
    RESPONSE_AND, /* agg_logical_and */
    RESPONSE_OR,
    RESPONSE_MIN, /* agg_min */
    RESPONSE_MAX,
    RESPONSE_SUM,
    RESPONSE_SPECIAL
};

struct keyspec_command {
    const char *name; /* upper case, COMMAND or COMMAND|SUBCOMMAND */
    const struct keyspec *specs;
    uint8_t nspecs;
    int16_t arity; /* the name included; negative: at least so many */
    bool readonly;
    uint8_t request;  /* enum keyspec_request */
    uint8_t response; /* enum keyspec_response */
};

/* keyspec_table.c, generated. */
extern const struct keyspec_command keyspec_builtin[];
extern const size_t keyspec_nbuiltin;

/* ---- the table ---- */

#define KEYSPEC_SPECS 8       /* of one command */
#define KEYSPEC_LEARNED 16384 /* commands and subcommands of one server */

/* What a server does not say, of commands that need it (keyspec.c). */
enum keyspec_hand {
    HAND_NONE,
    HAND_SORT,    /* the last STORE */
    HAND_MIGRATE, /* KEYS, if argument 3 is empty */
    HAND_SLOT     /* argument 2 is a slot's number */
};

struct keyspec_entry {
    const char *name; /* NULL: an empty slot */
    const struct keyspec_command *command;
    uint32_t hash;
    uint8_t len;
    uint8_t quick;  /* its one key is this argument; 0: look closer */
    uint8_t spread; /* enum spread, without keys or over several slots */
    uint8_t join;   /* enum join, the same */
    uint8_t hand;   /* enum keyspec_hand */
    bool has_sub;   /* look at the second word too */
};

/* What a server's COMMAND said. */
struct keyspec_learned {
    struct keyspec_command *commands;
    struct keyspec *specs;
    char *names;
    size_t ncommands, nspecs, names_len;
};

struct keyspecs {
    struct keyspec_entry *slots; /* open addressing */
    uint32_t mask;
    struct keyspec_learned learned;
};

/* The name's entry, or the empty slot where it would be. */
struct keyspec_entry *keyspec_slot(struct keyspec_entry *slots, uint32_t mask,
                                   const char *name, size_t len);

#endif
