/*
 * A server's reply to COMMAND, walked over for whoever learns from it: the
 * policy (what blocks, ACL categories) and the key specifications.
 *
 * Redis tells of each command its name, arity, flags and three numbers about
 * its keys; since 6 its ACL categories; since 7 tips, key specifications and
 * subcommands, which are described in the same way.
 */
#ifndef MANAGER_DESCRIBED_H
#define MANAGER_DESCRIBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/walk.h"

/* What stands in a list, to be read with the walk_ functions. */
struct described_list {
    struct walk walk;
    int64_t count; /* of elements */
};

/* One command or subcommand ("config|set"); views into the reply. */
struct described {
    const char *name;
    size_t len;
    bool is_sub;
    int64_t arity; /* the name included; negative: at least so many */
    int64_t first_key, last_key, key_step;
    bool has_tips; /* and specifications: since Redis 7 */
    struct described_list flags, categories, tips, specs;
};

/* What else than ERR_OK it returns ends the walk. */
typedef enum err described_fn(void *context, const struct described *command);

/* Takes the next of a list's strings; ERR_CLOSED: none is left. ERR_PROTO. */
MUST_CHECK enum err described_word(struct described_list *list,
                                   const char **word, size_t *len);

/* Hands each command, and behind it its subcommands, to `each`. Subcommands
 * have none of their own. ERR_PROTO: not such a reply, of whole length; what
 * `each` returned. */
MUST_CHECK enum err described_walk(const char *reply, size_t len,
                                   described_fn *each, void *context);

#endif
