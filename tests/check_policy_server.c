/*
 * The policy against what a real redis-server says of itself: the commands
 * that COMMAND lists and flags, and its ACL categories.
 */
#include "ipc/resp.h"
#include "manager/policy.h"
#include "tests/support.h"
#include "tests/support_policy.h"
#include "tests/support_redis.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct redis redis;
static struct redis_link wire;

static struct listed_commands listed;

/* ---- fixtures ---- */

static void start(void)
{
    support_scratch_setup();
    (void)redis_start(&redis, "redis", NULL);
}

static void stop(void)
{
    redis_stop(&redis);
    support_scratch_teardown();
}

static void learn(int protocol)
{
    learn_commands(policy, &wire, protocol, &listed);
}

static void setup(void)
{
    if (redis.pid == 0)
        return;
    ck_assert_int_eq(policy_new(&policy), ERR_OK);
    redis_link_open(&wire, &redis);
}

static void teardown(void)
{
    if (redis.pid == 0)
        return;
    redis_link_close(&wire);
    policy_free(policy);
}

static bool absent(const char *test)
{
    if (redis.pid == 0)
        support_skip(test, "no redis-server is installed");
    return redis.pid == 0;
}

/* ---- routes of what is listed ---- */

static char judge_alone(const char *text)
{
    char routes[64];
    struct err_text why = {""};
    judge_text(policy, text, false, routes, &why);
    return routes[0];
}

static const char *const wanted_refused[] = {
    "select",
    "auth",
    "hello",
    "quit",
    "reset",
    "monitor",
    "sync",
    "psync",
    "replconf",
    "asking",
    "readonly",
    "readwrite",
    "watch",
    "multi",
    "exec",
    "discard",
    "wait",
    "waitaof",
    "client reply",
    "client setname",
    "client setinfo",
    "client tracking",
    "client caching",
    "client no-evict",
    "client no-touch",
    "script debug",
};

static const char *const wanted_control[] = {
    "script kill",    "function kill",  "function stats", "client kill",
    "client unblock", "client unpause", "shutdown",       "failover",
};

static const char *const wanted_subscribe[] = {
    "subscribe",   "psubscribe",   "ssubscribe",
    "unsubscribe", "punsubscribe", "sunsubscribe",
};

START_TEST(test_every_command)
{
    if (absent("test_every_command"))
        return;
    learn(_i);
    size_t blocking = 0, refused = 0;
    for (size_t i = 0; i < listed.count; i++) {
        const struct listed *l = &listed.commands[i];
        char want = 'S', text[300], routes[64];
        if (one_of(l->words, wanted_refused, COUNT(wanted_refused)))
            want = 'R';
        else if (one_of(l->words, wanted_control, COUNT(wanted_control)))
            want = 'C';
        else if (one_of(l->words, wanted_subscribe, COUNT(wanted_subscribe)))
            want = 'P';
        else if (l->blocking)
            want = 'D';
        refused += want == 'R';
        blocking += l->blocking;
        bool streams = strncmp(l->words, "xread", 5) == 0;
        snprintf(text, sizeof(text), "%.129s%s", l->words,
                 streams ? " BLOCK 0" : "");
        ck_assert_msg(judge_alone(text) == want, "%s: %c, not %c", text,
                      judge_alone(text), want);

        /* Whatever it is, a batch with it is judged, and a transaction runs
         * it only if it is harmless there. */
        struct err_text why = {""};
        snprintf(text, sizeof(text), "MULTI; %.129s x; EXEC", l->words);
        judge_text(policy, text, false, routes, &why);
        /* What could block there, if MULTI were refused, goes aside. */
        const char *then = l->blocking && !streams ? "SSS;D"
                           : want == 'S' || want == 'D' || l->blocking ||
                                   strncmp(l->words, "wait", 4) == 0 ||
                                   strcmp(l->words, "function stats") == 0
                               ? "SSS;S"
                               : "SR";
        /* Its arguments are wrong, as are those of EXEC and DISCARD. */
        ck_assert_msg(strcmp(routes, then) == 0, "%s: %s: %s", text, routes,
                      why.text);
        ck_assert_int_eq(why.text[0] != '\0', strcmp(then, "SR") == 0);
        if (why.text[0] != '\0')
            ck_assert_int_eq(strncasecmp(why.text, l->words, strlen(l->words)),
                             0);
    }
    ck_assert_uint_ge(blocking, 10);
    ck_assert_uint_ge(refused, 23);
}
END_TEST

/* ---- categories ---- */

static const char *const categories[] = {
    "keyspace", "read",     "write",     "set",        "sortedset",
    "list",     "hash",     "string",    "bitmap",     "hyperloglog",
    "geo",      "stream",   "pubsub",    "admin",      "fast",
    "slow",     "blocking", "dangerous", "connection", "transaction",
    "scripting"};

/* --deny @category refuses exactly what ACL CAT lists, from the built-in table
 * (_i even) as from COMMAND. */
START_TEST(test_categories)
{
    if (absent("test_categories"))
        return;
    const char *category = categories[_i / 2];
    char text[300], routes[64];
    const char *reply, *pos, *end;
    size_t len, found = 0;
    struct err_text why = {""};
    learn(2);
    if (_i % 2 == 0) {
        if (strstr(redis_link_ask(&wire, "INFO server"),
                   "redis_version:7.0.") == NULL)
            return; /* which the built-in table describes */
        ck_assert_int_eq(policy_learn(policy, "*0\r\n", 4), ERR_OK);
    }
    snprintf(text, sizeof(text), "@%s", category);
    ck_assert_int_eq(policy_deny(policy, text, &why), ERR_OK);

    snprintf(text, sizeof(text), "ACL CAT %s", category);
    redis_link_command(&wire, text);
    ck_assert_int_eq(
        redis_link_reply(&wire, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    for (size_t i = 0; i < listed.count; i++) {
        if (listed.commands[i].container)
            continue; /* stands for its subcommands there */
        bool in = false;
        pos = reply;
        end = reply + len;
        for (int64_t n = value_head(&pos, end).number; n > 0; n--) {
            struct resp_value v = value_head(&pos, end);
            snprintf(text, sizeof(text), "%.*s", (int)v.len, v.data);
            char *bar = strchr(text, '|');
            if (bar != NULL)
                *bar = ' ';
            in |= strcmp(text, listed.commands[i].words) == 0;
        }
        why.text[0] = '\0';
        judge_text(policy, listed.commands[i].words, false, routes, &why);
        bool denied = strstr(why.text, "--deny") != NULL;
        bool never = routes[0] == 'R' && !denied;
        ck_assert_msg(denied == in || never, "%s: %s: %s", category,
                      listed.commands[i].words, why.text);
        found += in;
    }
    ck_assert_uint_gt(found, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("policy_server");
    TCase *t = tcase_create("server");
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_every_command, 2, 4);
    tcase_add_loop_test(t, test_categories, 0, 2 * (int)COUNT(categories));
    return support_run(s);
}
