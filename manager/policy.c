/*
 * Judging commands by the table.
 *
 * The names that need a look (the table's, and what --deny, --dedicated and
 * the server's COMMAND add) are the keys of one open-addressing hash table,
 * kept mostly empty, so that an ordinary command costs one hash and one empty
 * slot. A name's second word is looked at only if the first one's entry says
 * so.
 *
 * Redis compares names with strcasecmp, which stops at a zero byte: now and
 * then it takes "SELECT\0x" for SELECT, whenever its hash table puts the two
 * into one bucket. So a zero byte in a name is refused, and words that follow
 * end at it here too.
 */
#include "manager/policy_table.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- words ---- */

/* Bytes of the argument that Redis compares; a large argument has none. */
static size_t word_len(const struct resp_arg *arg)
{
    return arg->data == NULL ? 0 : strnlen(arg->data, arg->len);
}

/* Its bytes are not here to be judged. */
static bool is_large(const struct resp_arg *arg)
{
    return arg->data == NULL && arg->len > 0;
}

static bool word_is(const struct resp_arg *arg, const char *word)
{
    size_t len = word_len(arg);
    return len == strlen(word) && strncasecmp(arg->data, word, len) == 0;
}

static inline bool has_zero(const char *name, size_t len)
{
    const uint64_t low = UINT64_C(0x0101010101010101);
    const uint64_t high = UINT64_C(0x8080808080808080);
    struct name_ends e = name_ends(name, len);
    if ((((e.first - low) & ~e.first) | ((e.last - low) & ~e.last)) & high)
        return true;
    return len > 16 && memchr(name, '\0', len) != NULL;
}

/* The name's entry, or the empty slot where it would be. */
static struct policy_entry *slot_of(struct policy_entry *slots, uint32_t mask,
                                    const char *name, size_t len)
{
    uint32_t hash = name_hash(name, len);
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct policy_entry *e = &slots[i];
        if (e->name == NULL || (e->hash == hash && e->len == len &&
                                strncasecmp(e->name, name, len) == 0))
            return e;
    }
}

static const struct policy_entry *find(const struct policy *policy,
                                       const char *name, size_t len)
{
    if (len > NAME_KEY_MAX)
        return NULL;
    const struct policy_entry *e =
        slot_of(policy->slots, policy->mask, name, len);
    return e->name == NULL ? NULL : e;
}

static const struct policy_entry *find_sub(const struct policy *policy,
                                           const struct policy_entry *container,
                                           const struct resp_arg *sub)
{
    char key[NAME_KEY_MAX];
    size_t len = word_len(sub);
    if (len == 0 || container->len + 1 + len > sizeof(key))
        return NULL;
    memcpy(key, container->name, container->len);
    key[container->len] = '|';
    memcpy(key + container->len + 1, sub->data, len);
    return find(policy, key, container->len + 1 + len);
}

const struct policy_rule *policy_rule_of(const char *key)
{
    for (size_t i = 0; i < policy_nrules; i++) {
        if (strcmp(policy_rules[i].name, key) == 0)
            return &policy_rules[i];
    }
    return NULL;
}

/* ---- building the table ---- */

struct build {
    struct policy_entry *slots;
    uint32_t mask;
};

/* The entry of that key, made if it is new; the container of a subcommand is
 * told that it has one. `key` must live as long as the policy's table. */
static struct policy_entry *put(struct build *b, const char *key, size_t len)
{
    const char *bar = memchr(key, '|', len);
    if (bar != NULL)
        put(b, key, (size_t)(bar - key))->has_sub = true;
    struct policy_entry *e = slot_of(b->slots, b->mask, key, len);
    if (e->name == NULL) {
        e->name = key;
        e->len = (uint8_t)len;
        e->hash = name_hash(key, len);
        e->kind = RULE_PASSES;
    }
    return e;
}

/* The name of the first category that is denied, or NULL. */
static const char *denied_by(const struct policy *policy, uint64_t categories)
{
    uint64_t both = categories & policy->deny_categories;
    return both == 0 ? NULL : policy->categories.names[__builtin_ctzll(both)];
}

static void put_denied(struct build *b, const struct policy *policy,
                       const char *key, uint64_t categories)
{
    const char *denied = denied_by(policy, categories);
    if (denied == NULL)
        return;
    struct policy_entry *e = put(b, key, strlen(key));
    if (e->denied == NULL)
        e->denied = denied;
}

static void put_wishes(struct build *b, const struct policy *policy)
{
    for (const struct policy_wish *w = policy->wishes; w != NULL; w = w->next) {
        if (w->name[0] == '@')
            continue;
        struct policy_entry *e = put(b, w->name, strlen(w->name));
        if (w->dedicate)
            e->kind = RULE_BLOCKS;
        else
            e->denied = w->name;
    }
}

enum err policy_build(struct policy *policy)
{
    const struct policy_learned *learned = &policy->learned;
    size_t most = policy_nrules + policy->nwishes + learned->count;
    if (policy->deny_categories != 0)
        most += policy_nbuiltin;
    uint32_t room = 256;
    while (room < most * 2 * 2) /* a container each, then at most half full */
        room *= 2;
    struct build b = {calloc(room, sizeof(b.slots[0])), room - 1};
    if (b.slots == NULL)
        return ERR_NOMEM;

    for (size_t i = 0; i < policy_nrules; i++) {
        const struct policy_rule *r = &policy_rules[i];
        struct policy_entry *e = put(&b, r->name, strlen(r->name));
        e->kind = (uint8_t)r->kind;
        e->why = r->why;
    }
    for (size_t i = 0; i < learned->count; i++) {
        const char *name = learned->list[i].name;
        if (learned->list[i].blocks && policy_rule_of(name) == NULL)
            put(&b, name, strlen(name))->kind = RULE_BLOCKS;
    }
    put_wishes(&b, policy);
    if (policy->deny_categories != 0) {
        for (size_t i = 0; i < policy_nbuiltin; i++)
            put_denied(&b, policy, policy_builtin[i].name,
                       policy_builtin[i].categories);
        for (size_t i = 0; i < learned->count; i++)
            put_denied(&b, policy, learned->list[i].name,
                       learned->list[i].categories);
    }

    free(policy->slots);
    policy->slots = b.slots;
    policy->mask = b.mask;
    return ERR_OK;
}

/* ---- refusing ---- */

#define NAME_SHOWN 32 /* bytes of a name that a refusal repeats */

/* Appends the word in upper case, cut short, what is not printable as \xHH. */
static size_t show_word(char *out, const struct resp_arg *arg)
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    size_t len = arg->data == NULL ? 0 : arg->len;
    size_t shown = len < NAME_SHOWN ? len : NAME_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)name_upper(arg->data[i]);
        if (c > ' ' && c < 0x7f) {
            *p++ = (char)c;
        } else {
            *p++ = '\\';
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    if (len > shown || is_large(arg)) {
        memcpy(p, "...", 3);
        p += 3;
    }
    return (size_t)(p - out);
}

/* `words`: how many of them name the command. */
static enum route refuse(struct policy_batch *batch, struct err_text *why,
                         const struct resp_arg *argv, int words,
                         const char *reason, const char *option)
{
    char name[2 * (4 * NAME_SHOWN + 3) + 2];
    size_t len = show_word(name, &argv[0]);
    if (words > 1) {
        name[len++] = ' ';
        len += show_word(name + len, &argv[1]);
    }
    name[len] = '\0';
    (void)err_say(why, ERR_INVALID, "%s %s%s", name, reason, option);
    return batch->route = ROUTE_REFUSED;
}

/* ---- judging ---- */

void policy_begin(struct policy_batch *batch, const struct policy *policy,
                  uint32_t ncommands, bool independent)
{
    *batch = (struct policy_batch){
        .policy = policy,
        .ncommands = ncommands,
        .alone = ncommands == 1 || independent,
        .route = ROUTE_SHARED,
    };
}

/* Whether XREAD or XREADGROUP has BLOCK among its options. What cannot be
 * seen (large, or too far back) or is not known may hide one. */
static bool streams_block(uint32_t argc, const struct resp_arg *argv)
{
    uint32_t seen = argc < POLICY_ARGS ? argc : POLICY_ARGS;
    for (uint32_t i = 1; i < seen; i++) {
        if (is_large(&argv[i]) || word_is(&argv[i], "BLOCK"))
            return true;
        if (word_is(&argv[i], "STREAMS"))
            return false;
        if (word_is(&argv[i], "GROUP"))
            i += 2;
        else if (word_is(&argv[i], "COUNT") || word_is(&argv[i], "CLAIM") ||
                 word_is(&argv[i], "MAXCOUNT") || word_is(&argv[i], "MAXSIZE"))
            i += 1;
        else if (!word_is(&argv[i], "NOACK"))
            break; /* an error today, an option of a later version perhaps */
    }
    for (uint32_t i = 1; i < seen; i++) {
        if (is_large(&argv[i]) || word_is(&argv[i], "BLOCK"))
            return true;
    }
    return argc > seen;
}

/* Whether the command may change data, for a WAIT that comes after it. */
static bool may_write(const struct policy *policy, const struct resp_arg *name)
{
    char key[NAME_WORD_MAX + 1];
    uint64_t categories;
    if (name->len > NAME_WORD_MAX)
        return true;
    for (size_t i = 0; i < name->len; i++)
        key[i] = name_upper(name->data[i]);
    key[name->len] = '\0';
    return !policy_categories_of(policy, key, &categories) ||
           (categories &
            (CATEGORY_READ | CATEGORY_CONNECTION | CATEGORY_TRANSACTION)) == 0;
}

/* Batches often repeat one command. */
static bool known_to_read(const struct policy_batch *batch,
                          const struct resp_arg *name)
{
    return batch->reads_len > 0 && batch->reads_len == name->len &&
           name->data != NULL &&
           memcmp(batch->reads, name->data, name->len) == 0;
}

static enum route pass(struct policy_batch *batch, const struct resp_arg *argv)
{
    const struct resp_arg *name = &argv[0];
    if (!batch->alone && !batch->writes && !known_to_read(batch, name)) {
        batch->writes = may_write(batch->policy, name);
        batch->reads_len = 0;
        if (name->data != NULL && name->len <= sizeof(batch->reads)) {
            memcpy(batch->reads, name->data, name->len);
            batch->reads_len = name->len;
        }
    }
    return batch->route = ROUTE_SHARED;
}

static enum route judge_multi(struct policy_batch *batch, uint32_t argc,
                              const struct resp_arg *argv, bool begins,
                              struct err_text *why)
{
    const char *reason = NULL;
    if (argc > 1)
        reason = "takes no arguments: with some, Redis would not "
                 "act on it and every later reply would be out of place";
    else if (begins && batch->alone)
        reason = "alone would catch everybody's commands: send MULTI, the "
                 "commands and EXEC together, in one batch";
    else if (begins && batch->in_multi)
        reason = "stands inside a transaction already: one EXEC for each "
                 "MULTI, one after another";
    else if (!begins && !batch->in_multi)
        reason = "has no MULTI before it in the same batch: send MULTI, the "
                 "commands and EXEC together, in one batch";
    if (reason != NULL)
        return refuse(batch, why, argv, 1, reason, "");
    batch->in_multi = begins;
    return batch->route = ROUTE_SHARED;
}

static enum route judge_blocking(struct policy_batch *batch,
                                 const struct resp_arg *argv, int words,
                                 struct err_text *why)
{
    if (batch->in_multi) {
        /* It answers at once there; but if the server refuses MULTI to our
         * user, it would block everybody. */
        batch->blocks = true;
        return pass(batch, argv);
    }
    if (!batch->alone)
        return refuse(batch, why, argv, words,
                      "blocks, and the batch's other commands with it: send "
                      "it alone, or inside MULTI, where it does not wait",
                      "");
    return batch->route = ROUTE_DEDICATED;
}

static enum route judge_wait(struct policy_batch *batch,
                             const struct resp_arg *argv, struct err_text *why)
{
    if (batch->in_multi)
        return pass(batch, argv);
    bool last = batch->index == batch->ncommands;
    if (batch->alone || !last || !batch->writes)
        return refuse(batch, why, argv, 1,
                      "answers for the writes of its own connection only: "
                      "send it as the last command of one batch with the "
                      "writes that it is to wait for",
                      "");
    return batch->route = ROUTE_DEDICATED;
}

/* A command that has an entry in the table. */
static enum route judge(struct policy_batch *batch,
                        const struct policy_entry *e, uint32_t argc,
                        const struct resp_arg *argv, struct err_text *why)
{
    int words = 1;
    if (e->denied == NULL && e->has_sub && argc > 1) {
        if (is_large(&argv[1]))
            return refuse(batch, why, argv, 1,
                          "needs its subcommand in the message itself: it is "
                          "in shared memory, where nobody can check it",
                          "");
        const struct policy_entry *sub = find_sub(batch->policy, e, &argv[1]);
        if (sub != NULL) {
            e = sub;
            words = 2;
        }
    }
    enum rule_kind kind = (enum rule_kind)e->kind;
    if (kind == RULE_REFUSED)
        return refuse(batch, why, argv, words, e->why, "");
    if (e->denied != NULL || batch->policy->deny_all)
        return refuse(batch, why, argv, words,
                      "is not allowed on this channel: its manager runs with "
                      "--deny ",
                      e->denied != NULL ? e->denied : "@all");
    switch (kind) {
    case RULE_PASSES:
    case RULE_REFUSED:
        break;
    case RULE_BLOCKS:
        return judge_blocking(batch, argv, words, why);
    case RULE_STREAMS:
        if (streams_block(argc, argv))
            return judge_blocking(batch, argv, words, why);
        break;
    case RULE_CONTROL:
        if (!batch->alone)
            return refuse(batch, why, argv, words,
                          "must not wait behind other commands: send it "
                          "alone, not in a batch",
                          "");
        return batch->route = ROUTE_CONTROL;
    case RULE_LOOKS:
        if (batch->alone)
            return batch->route = ROUTE_CONTROL;
        break;
    case RULE_SUBSCRIBES:
        if (!batch->alone)
            return refuse(batch, why, argv, words,
                          "answers more than once: send it alone, not in a "
                          "batch or transaction",
                          "");
        return batch->route = ROUTE_SUBSCRIBE;
    case RULE_BEGINS:
    case RULE_ENDS:
        return judge_multi(batch, argc, argv, kind == RULE_BEGINS, why);
    case RULE_WAITS:
        return judge_wait(batch, argv, why);
    }
    return pass(batch, argv);
}

static const struct policy_entry nothing_special = {.kind = RULE_PASSES};

enum route policy_command(struct policy_batch *batch, uint32_t argc,
                          const struct resp_arg *argv, struct err_text *why)
{
    const struct policy *policy = batch->policy;
    batch->index++;
    const char *name = argv[0].data;
    size_t len = argv[0].len;
    if (name == NULL) {
        if (len > 0)
            return refuse(batch, why, argv, 1,
                          "is no command: a name cannot travel in shared "
                          "memory, send it in the message",
                          "");
    } else if (has_zero(name, len)) {
        return refuse(batch, why, argv, 1,
                      "is no command: its name has a zero byte, which Redis "
                      "may take for its end; send the name alone",
                      "");
    }
    const struct policy_entry *e =
        name == NULL ? NULL : find(policy, name, len);
    if (e == NULL) {
        if (!policy->deny_all)
            return pass(batch, argv);
        e = &nothing_special;
    }
    return judge(batch, e, argc, argv, why);
}

enum route policy_end(struct policy_batch *batch, struct err_text *why)
{
    static const struct resp_arg multi = {"MULTI", 5};
    if (batch->in_multi && batch->route != ROUTE_REFUSED)
        return refuse(batch, why, &multi, 1,
                      "has no EXEC after it in the same batch: send MULTI, "
                      "the commands and EXEC together, in one batch",
                      "");
    if (batch->blocks && batch->route == ROUTE_SHARED)
        batch->route = ROUTE_DEDICATED;
    return batch->route;
}
