/* Judging commands that a test writes as text; walking through COMMAND. */
#include "tests/support_policy.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ipc/resp.h"
#include "tests/support.h"

/* ---- judging ---- */

/* One letter per route: S D C P R. */
static char route_letter(enum route route)
{
    switch (route) {
    case ROUTE_SHARED:
        return 'S';
    case ROUTE_DEDICATED:
        return 'D';
    case ROUTE_CONTROL:
        return 'C';
    case ROUTE_SUBSCRIBE:
        return 'P';
    case ROUTE_REFUSED:
        return 'R';
    }
    return '?';
}

/* Splits "GET k" at spaces; `@N` is a large argument of N bytes. Every word is
 * a copy of its own size, so that a sanitizer sees a byte read beyond it. */
static uint32_t words_new(const char *text, size_t len, struct resp_arg *argv,
                          uint32_t max)
{
    uint32_t argc = 0;
    size_t i = 0;
    while (argc < max) {
        while (i < len && text[i] == ' ')
            i++;
        size_t begin = i;
        while (i < len && text[i] != ' ')
            i++;
        if (i == begin && argc > 0)
            break;
        char *copy = NULL;
        size_t size = i - begin;
        if (size > 1 && text[begin] == '@') {
            size = strtoul(text + begin + 1, NULL, 10);
        } else {
            copy = malloc(size > 0 ? size : 1);
            if (copy == NULL)
                abort();
            memcpy(copy, text + begin, size);
        }
        argv[argc++] = (struct resp_arg){copy, size};
    }
    return argc;
}

static void words_free(struct resp_arg *argv, uint32_t argc)
{
    for (uint32_t i = 0; i < argc; i++)
        free((void *)(uintptr_t)argv[i].data);
}

struct policy *policy;

void policy_setup(void)
{
    ck_assert_int_eq(policy_new(&policy), ERR_OK);
}

void policy_teardown(void)
{
    policy_free(policy);
}

void judge_text(const struct policy *table, const char *text, bool independent,
                char *routes, struct err_text *why)
{
    uint32_t ncommands = 1;
    for (const char *p = text; *p != '\0'; p++)
        ncommands += *p == ';';
    struct policy_batch batch;
    policy_begin(&batch, table, ncommands, independent);
    for (const char *p = text;; p++) {
        struct resp_arg argv[64];
        size_t len = strcspn(p, ";");
        uint32_t argc = words_new(p, len, argv, 64);
        *routes++ = route_letter(policy_command(&batch, argc, argv, why));
        words_free(argv, argc);
        p += len;
        if (routes[-1] == 'R')
            break;
        if (*p == '\0') {
            *routes++ = ';';
            *routes++ = route_letter(policy_end(&batch, why));
            break;
        }
    }
    *routes = '\0';
}

/* ---- COMMAND ---- */

struct resp_value value_head(const char **pos, const char *end)
{
    struct resp_value v;
    size_t used;
    ck_assert_int_eq(resp_get(*pos, (size_t)(end - *pos), &v, &used), ERR_OK);
    *pos += used;
    return v;
}

static void skip(const char **pos, const char *end, int64_t values)
{
    for (; values > 0; values--) {
        struct resp_value v = value_head(pos, end);
        if (strchr("*~%>", v.type) != NULL && !v.null)
            values += v.number;
    }
}

static void list_command(struct listed_commands *list, const char **pos,
                         const char *end)
{
    struct resp_value v = value_head(pos, end);
    int64_t parts = v.number;
    ck_assert(v.type == '*' && parts >= 6);
    ck_assert_uint_lt(list->count, LISTED_MAX);
    struct listed *l = &list->commands[list->count++];
    v = value_head(pos, end);
    ck_assert_uint_lt(v.len, sizeof(l->words));
    for (size_t i = 0; i < v.len; i++)
        l->words[i] = v.data[i] == '|' ? ' ' : v.data[i];
    l->words[v.len] = '\0';
    l->arity = value_head(pos, end).number;
    v = value_head(pos, end);
    for (int64_t i = v.number; i > 0; i--) {
        v = value_head(pos, end);
        l->blocking |= v.len == 8 && memcmp(v.data, "blocking", 8) == 0;
    }
    if (parts < 10) {
        skip(pos, end, parts - 3);
        return;
    }
    skip(pos, end, 6);
    v = value_head(pos, end);
    l->container = v.number > 0;
    for (int64_t i = v.number; i > 0; i--)
        list_command(list, pos, end);
    skip(pos, end, parts - 10);
}

static int by_words(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    return strcmp(x->words, y->words);
}

void list_commands(struct listed_commands *list, const char *reply, size_t len)
{
    const char *pos = reply, *end = reply + len;
    memset(list, 0, sizeof(*list));
    for (int64_t i = value_head(&pos, end).number; i > 0; i--)
        list_command(list, &pos, end);
    ck_assert_ptr_eq(pos, end);
    ck_assert_uint_gt(list->count, 200);
    /* Each server process has an order of its own. */
    qsort(list->commands, list->count, sizeof(list->commands[0]), by_words);
}

void learn_commands(struct policy *table, struct redis_link *link, int protocol,
                    struct listed_commands *list)
{
    const char *reply;
    size_t len;
    ck_assert_int_eq(
        redis_link_ask(link, protocol == 3 ? "HELLO 3" : "HELLO 2")[0],
        protocol == 3 ? '%' : '*');
    redis_link_command(link, "COMMAND");
    ck_assert_int_eq(
        redis_link_reply(link, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    ck_assert_int_eq(policy_learn(table, reply, len), ERR_OK);
    list_commands(list, reply, len);
}

bool one_of(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(word, words[i]) == 0)
            return true;
    }
    return false;
}
