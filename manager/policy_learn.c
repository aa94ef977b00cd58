/*
 * What is added to the table: by --deny and --dedicated, and by a server's
 * reply to COMMAND.
 *
 * Every change makes the table anew, and takes effect as a whole or not at
 * all. A wish stays when what was learned is replaced, so that --deny @write
 * holds for the commands of whichever server comes next.
 */
#include "manager/policy_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/described.h"

/* ---- a policy ---- */

enum err policy_new(struct policy **policy)
{
    struct policy *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < policy_ncategories; i++)
        snprintf(p->categories.names[i], sizeof(p->categories.names[i]), "%s",
                 policy_category_names[i]);
    p->categories.count = policy_ncategories;
    if (policy_build(p) != ERR_OK) {
        free(p);
        return ERR_NOMEM;
    }
    *policy = p;
    return ERR_OK;
}

static void learned_release(struct policy_learned *learned)
{
    free(learned->list);
    free(learned->names);
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    while (policy->wishes != NULL) {
        struct policy_wish *w = policy->wishes;
        policy->wishes = w->next;
        free(w);
    }
    learned_release(&policy->learned);
    free(policy->slots);
    free(policy);
}

static int compare_known(const void *key, const void *known)
{
    return strcmp(key, ((const struct policy_known *)known)->name);
}

static int compare_learned(const void *key, const void *learned)
{
    return strcmp(key, ((const struct policy_learned_command *)learned)->name);
}

bool policy_categories_of(const struct policy *policy, const char *key,
                          uint64_t *categories)
{
    const struct policy_learned *learned = &policy->learned;
    if (learned->count > 0) {
        const struct policy_learned_command *l =
            bsearch(key, learned->list, learned->count,
                    sizeof(learned->list[0]), compare_learned);
        if (l != NULL) {
            *categories = l->categories;
            return true;
        }
    }
    const struct policy_known *k =
        bsearch(key, policy_builtin, policy_nbuiltin, sizeof(policy_builtin[0]),
                compare_known);
    if (k == NULL)
        return false;
    *categories = k->categories;
    return true;
}

/* The category's bit, or 0. */
static uint64_t category_bit(const struct policy_categories *categories,
                             const char *name, size_t len)
{
    for (size_t i = 0; i < categories->count; i++) {
        if (strlen(categories->names[i]) == len &&
            strncasecmp(categories->names[i], name, len) == 0)
            return UINT64_C(1) << i;
    }
    return 0;
}

/* ---- --deny and --dedicated ---- */

/* Whether it can be a key: a word, or two with one bar between them. */
static bool is_key(const char *what, size_t len)
{
    size_t word = 0;
    bool barred = false;
    for (size_t i = 0; i < len; i++) {
        char c = what[i];
        if (c == '|') {
            if (barred || word == 0)
                return false;
            barred = true;
            word = 0;
        } else if (c <= ' ' || c > '~' || c == '@' || c == ',' || c == '"' ||
                   ++word > NAME_WORD_MAX) {
            return false;
        }
    }
    return word > 0;
}

static enum err say_categories(const struct policy *policy,
                               struct err_text *why)
{
    char list[ERR_TEXT_MAX];
    size_t len = 0;
    list[0] = '\0';
    for (size_t i = 0; i < policy->categories.count; i++) {
        const char *name = policy->categories.names[i];
        size_t n = strlen(name);
        if (len + n + 2 > sizeof(list))
            break;
        list[len++] = ' ';
        memcpy(list + len, name, n + 1);
        len += n;
    }
    return err_say(why, ERR_INVALID,
                   "--deny: no such category: expected @all or one of%s", list);
}

/* Says what is wrong with one item of --deny. */
static enum err check_deny(const struct policy *policy, const char *what,
                           size_t len, struct err_text *why)
{
    if (len > 0 && what[0] == '@') {
        if (category_bit(&policy->categories, what, len) == 0 &&
            !(len == 4 && strncasecmp(what, "@all", 4) == 0))
            return say_categories(policy, why);
        return ERR_OK;
    }
    if (!is_key(what, len))
        return err_say(why, ERR_INVALID,
                       "--deny: expected COMMAND, COMMAND|SUBCOMMAND or "
                       "@category, or several with commas between them");
    return ERR_OK;
}

static enum err add_wish(struct policy *policy, const char *name, size_t len,
                         bool dedicate, struct err_text *why)
{
    const char *option = dedicate ? "--dedicated" : "--deny";
    if (policy->nwishes == POLICY_WISHES)
        return err_say(why, ERR_LIMIT,
                       "%s: more than %d names: deny a "
                       "category (@admin, @dangerous) instead",
                       option, POLICY_WISHES);
    struct policy_wish *w = malloc(sizeof(*w) + len + 1);
    if (w == NULL)
        return err_say(why, ERR_NOMEM, "%s: out of memory", option);
    for (size_t i = 0; i < len; i++)
        w->name[i] = name_upper(name[i]);
    w->name[len] = '\0';
    w->dedicate = dedicate;
    w->next = policy->wishes;
    policy->wishes = w;
    policy->nwishes++;
    return ERR_OK;
}

/* Takes back the newest wishes. */
static void drop_wishes(struct policy *policy, size_t keep)
{
    while (policy->nwishes > keep) {
        struct policy_wish *w = policy->wishes;
        policy->wishes = w->next;
        policy->nwishes--;
        free(w);
    }
}

enum err policy_deny(struct policy *policy, const char *what,
                     struct err_text *why)
{
    size_t keep = policy->nwishes;
    uint64_t categories = policy->deny_categories;
    bool all = policy->deny_all;
    enum err e;
    for (const char *item = what;; item++) {
        size_t len = strcspn(item, ",");
        e = check_deny(policy, item, len, why);
        if (e != ERR_OK)
            goto undo;
        if (item[0] != '@') {
            e = add_wish(policy, item, len, false, why);
            if (e != ERR_OK)
                goto undo;
        } else if (len == 4 && strncasecmp(item, "@all", 4) == 0) {
            policy->deny_all = true;
        } else {
            policy->deny_categories |=
                category_bit(&policy->categories, item, len);
        }
        item += len;
        if (*item == '\0')
            break;
    }
    e = policy_build(policy);
    if (e == ERR_OK)
        return ERR_OK;
    e = err_say(why, e, "--deny: out of memory");
undo:
    drop_wishes(policy, keep);
    policy->deny_categories = categories;
    policy->deny_all = all;
    return e;
}

enum err policy_dedicate(struct policy *policy, const char *command,
                         struct err_text *why)
{
    size_t len = strlen(command);
    if (!is_key(command, len))
        return err_say(why, ERR_INVALID,
                       "--dedicated: expected the name of a command that "
                       "blocks, such as MODULE.READ");
    enum err e = add_wish(policy, command, len, true, why);
    if (e != ERR_OK)
        return e;
    const struct policy_rule *rule = policy_rule_of(policy->wishes->name);
    if (rule != NULL && rule->kind != RULE_BLOCKS &&
        rule->kind != RULE_STREAMS) {
        drop_wishes(policy, policy->nwishes - 1);
        return err_say(why, ERR_INVALID,
                       "--dedicated: %s has a rule of its own (see the "
                       "manual's table of commands): leave it out",
                       rule->name);
    }
    e = policy_build(policy);
    if (e != ERR_OK) {
        drop_wishes(policy, policy->nwishes - 1);
        return err_say(why, e, "--dedicated: out of memory");
    }
    return ERR_OK;
}

/* ---- learning from COMMAND ---- */

struct learning {
    struct policy_learned learned;
    struct policy_categories categories;
};

static enum err learn_categories(struct learning *l, struct described_list list,
                                 uint64_t *categories)
{
    const char *name;
    size_t len;
    enum err e;
    while ((e = described_word(&list, &name, &len)) == ERR_OK) {
        uint64_t bit = category_bit(&l->categories, name, len);
        struct policy_categories *c = &l->categories;
        if (bit == 0 && c->count < POLICY_CATEGORIES && len > 1 &&
            name[0] == '@' && len < POLICY_CATEGORY_MAX &&
            is_key(name + 1, len - 1)) {
            memcpy(c->names[c->count], name, len);
            c->names[c->count][len] = '\0';
            bit = UINT64_C(1) << c->count++;
        }
        *categories |= bit;
    }
    return e == ERR_CLOSED ? ERR_OK : e;
}

static enum err learn_flags(struct described_list list, bool *blocks)
{
    const char *flag;
    size_t len;
    enum err e;
    while ((e = described_word(&list, &flag, &len)) == ERR_OK) {
        if (len == 8 && memcmp(flag, "blocking", 8) == 0)
            *blocks = true;
    }
    return e == ERR_CLOSED ? ERR_OK : e;
}

static enum err grow(void *array, size_t *room, size_t need, size_t size)
{
    void **p = array;
    if (need <= *room)
        return ERR_OK;
    size_t more = *room == 0 ? 64 : *room * 2;
    while (more < need)
        more *= 2;
    void *moved = reallocarray(*p, more, size);
    if (moved == NULL)
        return ERR_NOMEM;
    *p = moved;
    *room = more;
    return ERR_OK;
}

/* Keeps the command, unless the built-in data say the same. */
static enum err keep(struct learning *l, const char *name, size_t len,
                     uint64_t categories, bool blocks)
{
    struct policy_learned *learned = &l->learned;
    if (!is_key(name, len)) /* nothing that --deny could name either */
        return ERR_OK;
    if (learned->count == POLICY_LEARNED)
        return ERR_PROTO;
    enum err e = grow(&learned->names, &learned->names_room,
                      learned->names_len + len + 1, 1);
    if (e != ERR_OK)
        return e;
    char *key = learned->names + learned->names_len;
    for (size_t i = 0; i < len; i++)
        key[i] = name_upper(name[i]);
    key[len] = '\0';

    const struct policy_known *known =
        bsearch(key, policy_builtin, policy_nbuiltin, sizeof(policy_builtin[0]),
                compare_known);
    if (known != NULL && known->categories == categories &&
        (!blocks || policy_rule_of(key) != NULL))
        return ERR_OK;
    e = grow(&learned->list, &learned->room, learned->count + 1,
             sizeof(learned->list[0]));
    if (e != ERR_OK)
        return e;
    learned->list[learned->count++] = (struct policy_learned_command){
        .name = NULL, /* `names` may still move: see settle() */
        .categories = categories,
        .blocks = blocks,
    };
    learned->names_len += len + 1;
    return ERR_OK;
}

static enum err learn_command(void *context, const struct described *d)
{
    struct learning *l = context;
    bool blocks = false;
    uint64_t categories = 0;
    if (learn_flags(d->flags, &blocks) != ERR_OK ||
        learn_categories(l, d->categories, &categories) != ERR_OK)
        return ERR_PROTO;
    return keep(l, d->name, d->len, categories, blocks);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct policy_learned_command *)a)->name,
                  ((const struct policy_learned_command *)b)->name);
}

/* Points at the names, which no longer move, and sorts. */
static void settle(struct policy_learned *learned)
{
    const char *name = learned->names;
    for (size_t i = 0; i < learned->count; i++) {
        learned->list[i].name = name;
        name += strlen(name) + 1;
    }
    if (learned->count > 0)
        qsort(learned->list, learned->count, sizeof(learned->list[0]), by_name);
}

enum err policy_learn(struct policy *policy, const char *reply, size_t len)
{
    struct learning l = {.categories = policy->categories};
    enum err e = described_walk(reply, len, learn_command, &l);
    if (e != ERR_OK)
        goto drop;
    settle(&l.learned);

    struct policy_learned before = policy->learned;
    struct policy_categories categories = policy->categories;
    policy->learned = l.learned;
    policy->categories = l.categories;
    e = policy_build(policy);
    if (e == ERR_OK) {
        learned_release(&before);
        return ERR_OK;
    }
    policy->learned = before;
    policy->categories = categories;
drop:
    learned_release(&l.learned);
    return e;
}
