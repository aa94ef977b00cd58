#include "workers/gateway/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 512
#define NAME_LEN_MAX 96

/* Where COMMAND has a command's subcommands. */
#define SUBCOMMANDS_AT 9

struct catalog_row {
    struct catalog_row *next;
    int64_t arity; /* negative: at least so many */
    bool container;
    size_t len;
    char name[]; /* "get", "client|list" */
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t slot_of(const char *name, size_t len)
{
    uint32_t h = 2166136261U;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619U;
    return h % SLOTS;
}

static const struct catalog_row *find(const struct catalog *catalog,
                                      const char *name, size_t len)
{
    const struct catalog_row *r = catalog->slots[slot_of(name, len)];
    while (r != NULL && (r->len != len || memcmp(r->name, name, len) != 0))
        r = r->next;
    return r;
}

void catalog_release(struct catalog *catalog)
{
    for (size_t i = 0; catalog->slots != NULL && i < SLOTS; i++) {
        while (catalog->slots[i] != NULL) {
            struct catalog_row *r = catalog->slots[i];
            catalog->slots[i] = r->next;
            free(r);
        }
    }
    free(catalog->slots);
    catalog->slots = NULL;
}

/* ---- learning ---- */

static struct catalog_row *add(struct catalog *catalog, const char *name,
                               size_t len, int64_t arity)
{
    struct catalog_row *r = calloc(1, sizeof(*r) + len + 1);
    if (r == NULL)
        return NULL;
    r->arity = arity;
    r->len = len;
    for (size_t i = 0; i < len; i++)
        r->name[i] = lower(name[i]);
    struct catalog_row **slot = &catalog->slots[slot_of(r->name, len)];
    r->next = *slot;
    *slot = r;
    return r;
}

/* A piece of the reply that is being walked over. */
struct walk {
    const char *at;
    size_t left;
};

static bool next(struct walk *w, struct resp_value *v)
{
    size_t used;
    if (resp_get(w->at, w->left, v, &used) != ERR_OK)
        return false;
    w->at += used;
    w->left -= used;
    return true;
}

/* Passes over a whole value. */
static bool skip(struct walk *w)
{
    struct resp_scan scan;
    size_t used;
    resp_scan_reset(&scan);
    if (resp_scan(&scan, w->at, w->left, &used) != ERR_OK)
        return false;
    w->at += used;
    w->left -= used;
    return true;
}

static bool learn_entries(struct catalog *catalog, struct walk *w, int depth);

/* [name, arity, ..., subcommands]. */
static bool learn_entry(struct catalog *catalog, struct walk *w, int depth)
{
    struct resp_value entry, name, arity;
    if (!next(w, &entry) || entry.type != '*' || entry.number < 2 ||
        !next(w, &name) || name.data == NULL || name.len > NAME_LEN_MAX ||
        !next(w, &arity) || arity.type != ':')
        return false;
    struct catalog_row *r = add(catalog, name.data, name.len, arity.number);
    if (r == NULL)
        return false;
    for (int64_t i = 2; i < entry.number; i++) {
        if (i != SUBCOMMANDS_AT || depth > 0) {
            if (!skip(w))
                return false;
            continue;
        }
        const char *before = w->at;
        if (!learn_entries(catalog, w, depth + 1))
            return false;
        r->container = memcmp(before, "*0", 2) != 0;
    }
    return true;
}

static bool learn_entries(struct catalog *catalog, struct walk *w, int depth)
{
    struct resp_value all;
    if (!next(w, &all) || all.type != '*')
        return false;
    for (int64_t i = 0; i < all.number; i++) {
        if (!learn_entry(catalog, w, depth))
            return false;
    }
    return true;
}

void catalog_learn(struct catalog *catalog, const char *data, size_t len)
{
    struct walk w = {.at = data, .left = len};
    catalog_release(catalog);
    catalog->slots = calloc(SLOTS, sizeof(struct catalog_row *));
    if (catalog->slots != NULL && !learn_entries(catalog, &w, 0))
        catalog_release(catalog);
}

/* ---- judging ---- */

static enum catalog_verdict unknown(const struct command *command, char *text,
                                    size_t size)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    int n = snprintf(text, size,
                     "ERR unknown command '%.*s', with args beginning with: ",
                     (int)(command->name_len < 128 ? command->name_len : 128),
                     command->name);
    size_t args = 0;
    resp_request_init(&walk, command->data, command->len);
    if (resp_request_command(&walk, &argc) != ERR_OK ||
        resp_request_arg(&walk, &arg) != ERR_OK)
        return CATALOG_UNKNOWN;
    while (args < 128 && (size_t)n < size &&
           resp_request_arg(&walk, &arg) == ERR_OK) {
        size_t most = 128 - args;
        size_t len = arg.len < most ? arg.len : most;
        n +=
            snprintf(text + n, size - (size_t)n, "'%.*s' ", (int)len, arg.data);
        args += len + 3;
    }
    return CATALOG_UNKNOWN;
}

static enum catalog_verdict judge_arity(const struct catalog_row *r,
                                        uint32_t argc, char *text, size_t size)
{
    bool fine =
        r->arity < 0 ? (int64_t)argc >= -r->arity : (int64_t)argc == r->arity;
    if (fine)
        return CATALOG_FINE;
    snprintf(text, size, "ERR wrong number of arguments for '%s' command",
             r->name);
    return CATALOG_ARITY;
}

/* The second word of a command that has subcommands. */
static enum catalog_verdict judge_sub(const struct catalog *catalog,
                                      const struct catalog_row *r,
                                      const struct command *command, char *text,
                                      size_t size)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    char name[2 * NAME_LEN_MAX + 2];
    resp_request_init(&walk, command->data, command->len);
    if (resp_request_command(&walk, &argc) != ERR_OK ||
        resp_request_arg(&walk, &arg) != ERR_OK ||
        resp_request_arg(&walk, &arg) != ERR_OK)
        return CATALOG_FINE;
    size_t len = r->len;
    memcpy(name, r->name, len);
    name[len++] = '|';
    for (size_t i = 0; i < arg.len && i < NAME_LEN_MAX; i++)
        name[len++] = lower(arg.data[i]);
    const struct catalog_row *sub = find(catalog, name, len);
    if (sub != NULL)
        return judge_arity(sub, command->argc, text, size);
    char upper[NAME_LEN_MAX + 1];
    for (size_t i = 0; i <= r->len; i++)
        upper[i] = r->name[i] >= 'a' && r->name[i] <= 'z'
                       ? (char)(r->name[i] - 'a' + 'A')
                       : r->name[i];
    snprintf(text, size, "ERR unknown subcommand '%.*s'. Try %s HELP.",
             (int)(arg.len < 128 ? arg.len : 128), arg.data, upper);
    return CATALOG_UNKNOWN;
}

enum catalog_verdict catalog_judge(const struct catalog *catalog,
                                   const struct command *command, char *text,
                                   size_t size)
{
    char name[NAME_LEN_MAX];
    const struct catalog_row *r = NULL;
    if (catalog->slots == NULL)
        return CATALOG_FINE;
    if (command->name_len <= sizeof(name)) {
        for (size_t i = 0; i < command->name_len; i++)
            name[i] = lower(command->name[i]);
        r = find(catalog, name, command->name_len);
    }
    if (r == NULL)
        return unknown(command, text, size);
    if (r->container && command->argc > 1)
        return judge_sub(catalog, r, command, text, size);
    return judge_arity(r, command->argc, text, size);
}
