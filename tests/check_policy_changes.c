/* What changes the table of commands: --deny, --dedicated, and what a server's
 * COMMAND adds. */
#include "manager/policy_table.h"

#include "tests/support_policy.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- options ---- */

static const struct {
    const char *deny, *command;
    char route;
    const char *says;
} denies[] = {
    {"GET", "GET k", 'R', "GET is not allowed"},
    {"get", "gEt k", 'R', "--deny GET"},
    {"GET,set", "SET k v", 'R', "--deny SET"},
    {"GET", "GETEX k", 'S', NULL},
    {"ft.search", "FT.SEARCH i q", 'R', "--deny FT.SEARCH"},
    {"config|set", "CONFIG SET a b", 'R', "CONFIG SET is not allowed"},
    {"config|set", "CONFIG GET a", 'S', NULL},
    {"config|set", "CONFIG", 'S', NULL},
    {"config|set", "CONFIG @3", 'R', "CONFIG needs"},
    {"config", "CONFIG GET a", 'R', "CONFIG is not allowed"},
    {"config", "CONFIG @3 a", 'R', "CONFIG is not allowed"},
    {"client", "CLIENT REPLY OFF", 'R', "CLIENT is not allowed"},
    {"client|id", "CLIENT ID", 'R', "CLIENT ID is not allowed"},
    {"script|kill", "SCRIPT KILL", 'R', "SCRIPT KILL is not allowed"},
    {"blpop", "BLPOP k 0", 'R', "BLPOP is not allowed"},
    {"xread", "XREAD STREAMS a 0", 'R', "XREAD is not allowed"},
    {"subscribe", "SUBSCRIBE a", 'R', "SUBSCRIBE is not allowed"},
    {"subscribe", "PSUBSCRIBE a", 'P', NULL},
    {"select", "SELECT 1", 'R', "SELECT would"},
    {"@write", "SET k v", 'R', "--deny @write"},
    {"@WRITE", "XGROUP CREATE a b", 'R', "--deny @write"},
    {"@write", "GET k", 'S', NULL},
    {"@write", "BLPOP k 0", 'R', "--deny @write"},
    {"@read,@write", "GET k", 'R', "--deny @read"},
    {"@dangerous", "KEYS *", 'R', "--deny @dangerous"},
    {"@dangerous", "FLUSHALL", 'R', "--deny @dangerous"},
    {"@dangerous", "CONFIG SET a b", 'R', "--deny @dangerous"},
    {"@dangerous", "CONFIG HELP", 'S', NULL},
    {"@dangerous", "SET a b", 'S', NULL},
    {"@admin", "CLIENT KILL x", 'R', "CLIENT KILL is not allowed"},
    {"@admin", "CLIENT ID", 'S', NULL},
    {"@json", "JSON.GET a", 'S', NULL}, /* known from the server only */
    {"@all", "GET a", 'R', "--deny @all"},
    {"@all", "NOBODY.KNOWS", 'R', "--deny @all"},
    {"@all", "SELECT 1", 'R', "SELECT would"},
    {"@all", "SUBSCRIBE a", 'R', "--deny @all"},
    {"", "GET k", 'X', "expected COMMAND"},
    {"GET,", "GET k", 'X', "expected COMMAND"},
    {"GET SET", "GET k", 'X', "expected COMMAND"},
    {"GET|", "GET k", 'X', "expected COMMAND"},
    {"|GET", "GET k", 'X', "expected COMMAND"},
    {"a|b|c", "GET k", 'X', "expected COMMAND"},
    {"G\nT", "GET k", 'X', "expected COMMAND"},
    {"GET,@wirte", "GET k", 'X', "@all or one of @keyspace"},
    {"GET,@", "GET k", 'X', "no such category"},
    {"@all,a b", "GET k", 'X', "expected COMMAND"},
    {"@read,a b", "GET k", 'X', "expected COMMAND"},
};

/* 'X': the option is refused, and the command passes as before. */
START_TEST(test_deny)
{
    struct err_text why = {""};
    char got[64];
    enum err e = policy_deny(policy, denies[_i].deny, &why);
    bool wrong = denies[_i].route == 'X';
    ck_assert_msg(e == (wrong ? ERR_INVALID : ERR_OK), "%s: %s",
                  denies[_i].deny, why.text);
    if (wrong)
        ck_assert_msg(strstr(why.text, denies[_i].says) != NULL, "%s",
                      why.text);
    judge_text(policy, denies[_i].command, false, got, wrong ? NULL : &why);
    ck_assert_msg(got[0] == (wrong ? 'S' : denies[_i].route), "%s: %s: %s",
                  denies[_i].deny, denies[_i].command, got);
    if (got[0] == 'R')
        ck_assert_msg(strstr(why.text, denies[_i].says) != NULL, "%s",
                      why.text);
}
END_TEST

START_TEST(test_deny_is_bounded)
{
    struct err_text why;
    char name[64];
    enum err e = ERR_OK;
    int n = 0;
    for (; n < 5000 && e == ERR_OK; n++) {
        snprintf(name, sizeof(name), "COMMAND%d", n);
        e = policy_deny(policy, name, &why);
    }
    ck_assert_int_eq(e, ERR_LIMIT);
    ck_assert_int_eq(n, 1025);
    char got[64];
    judge_text(policy, "COMMAND1023 x", false, got, &why);
    ck_assert_str_eq(got, "R");
    judge_text(policy, "COMMAND1024 x", false, got, &why);
    ck_assert_str_eq(got, "S;S");
    memset(name, 'x', sizeof(name));
    char longer[66];
    memset(longer, 'x', sizeof(longer));
    longer[65] = '\0';
    ck_assert_int_eq(policy_deny(policy, longer, &why), ERR_INVALID);
}
END_TEST

START_TEST(test_dedicate)
{
    struct err_text why;
    char got[64];
    ck_assert_int_eq(policy_dedicate(policy, "mod.bread", &why), ERR_OK);
    ck_assert_int_eq(policy_dedicate(policy, "XREAD", &why), ERR_OK);
    ck_assert_int_eq(policy_dedicate(policy, "BLPOP", &why), ERR_OK);
    judge_text(policy, "MOD.BREAD k", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "XREAD STREAMS k 0", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "GET a; mod.bread k", false, got, &why);
    ck_assert_str_eq(got, "SR");
    judge_text(policy, "MULTI; mod.bread k; EXEC", false, got, &why);
    ck_assert_str_eq(got, "SSS;D");
    static const char *const wrong[] = {
        "SELECT", "MULTI", "wait",  "EXEC",    "SUBSCRIBE",   "client|reply",
        "a b",    "",      "@read", "GET,SET", "script|kill", "monitor"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        why.text[0] = '\0';
        ck_assert_int_eq(policy_dedicate(policy, wrong[i], &why), ERR_INVALID);
        ck_assert_int_eq(strncmp(why.text, "--dedicated: ", 13), 0);
    }
    judge_text(policy, "script kill", false, got, &why);
    ck_assert_str_eq(got, "C;C");
}
END_TEST

/* ---- learning ---- */

#define HEAD(name) "$" name "\r\n:-2\r\n"
#define KEYS ":1\r\n:1\r\n:1\r\n"

START_TEST(test_learn)
{
    static const char resp2[] =
        "*4\r\n"
        "*7\r\n" HEAD(
            "8\r\nmod.wait") "*2\r\n+write\r\n+blocking\r\n" KEYS
                             "*2\r\n+@write\r\n+@special\r\n"
                             "*6\r\n" HEAD(
                                 "8\r\nold.wait") "*1\r\n+blocking\r\n" KEYS
                                                  "*-1\r\n"
                                                  "*10\r\n" HEAD(
                                                      "3\r\nbox") "*0\r\n" KEYS
                                                                  "*0\r\n*"
                                                                  "0\r\n*0\r\n*"
                                                                  "1\r\n"
                                                                  "*10\r"
                                                                  "\n" HEAD(
                                                                      "8\r\nbox"
                                                                      "|wait") "*1\r\n+blocking\r\n" KEYS
                                                                               "*1\r\n+@json\r\n*0\r\n*0\r\n*0\r\n";
    static const char resp3[] =
        "*2\r\n"
        "|1\r\n+ttl\r\n:1\r\n"
        "*10\r\n" HEAD(
            "4\r\nxnew") "~1\r\n+blocking\r\n" KEYS
                         "~1\r\n+@slow\r\n~0\r\n~1\r\n%1\r\n$5\r\nflags\r\n~"
                         "1\r\n+RO\r\n*0\r\n"
                         "*7\r\n" HEAD(
                             "5\r\nxread") "~1\r\n+blocking\r\n" KEYS
                                           "~2\r\n+@read\r\n+@special\r\n";
    struct err_text why;
    char got[64];

    ck_assert_int_eq(policy_deny(policy, "@special", &why), ERR_INVALID);
    ck_assert_int_eq(policy_learn(policy, resp2, sizeof(resp2) - 1), ERR_OK);
    judge_text(policy, "MOD.WAIT a", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "old.wait a", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "BOX wait", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "BOX", false, got, &why);
    ck_assert_str_eq(got, "S;S");
    ck_assert_int_eq(policy_deny(policy, "@special", &why), ERR_OK);
    judge_text(policy, "MOD.WAIT a", false, got, &why);
    ck_assert_str_eq(got, "R");
    ck_assert_ptr_nonnull(strstr(why.text, "@special"));
    ck_assert_int_eq(policy_deny(policy, "@json", &why), ERR_OK);
    judge_text(policy, "BOX wait", false, got, &why);
    ck_assert_str_eq(got, "R");

    /* Another server: the first one's commands are forgotten, what is denied
     * is not. */
    ck_assert_int_eq(policy_learn(policy, resp3, sizeof(resp3) - 1), ERR_OK);
    judge_text(policy, "MOD.WAIT a", false, got, &why);
    ck_assert_str_eq(got, "S;S");
    judge_text(policy, "XNEW a", false, got, &why);
    ck_assert_str_eq(got, "D;D");
    judge_text(policy, "XREAD STREAMS a 0", false, got, &why);
    ck_assert_str_eq(got, "R");
}
END_TEST

/* Not every reply is COMMAND's; a bad one changes nothing, cut anywhere. */
START_TEST(test_learn_refuses)
{
    static const char *const bad[] = {
        "-NOPERM no\r\n",
        "$-1\r\n",
        "*1\r\n$3\r\nget\r\n",
        "*1\r\n*2\r\n$3\r\nget\r\n:1\r\n",
        "*1\r\n*6\r\n:1\r\n:1\r\n*0\r\n" KEYS,
        "*1\r\n*6\r\n" HEAD("1\r\nx") ":1\r\n" KEYS,
        "*1\r\n*6\r\n" HEAD("1\r\nx") "*2147483647\r\n" KEYS,
        "*1\r\n*8\r\n" HEAD("1\r\nx") "*0\r\n" KEYS "*0\r\n*2147483647\r\n",
        "*0\r\n*0\r\n",
    };
    static const char good[] =
        "*1\r\n*7\r\n" HEAD("1\r\nx") "*1\r\n+blocking\r\n" KEYS
                                      "*1\r\n+@slow\r\n";
    char got[64];
    ck_assert_int_eq(policy_learn(policy, good, sizeof(good) - 1), ERR_OK);
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(policy_learn(policy, bad[i], strlen(bad[i])),
                         ERR_PROTO);
    for (size_t len = 0; len < sizeof(good) - 1; len++)
        ck_assert_int_eq(policy_learn(policy, good, len), ERR_PROTO);
    judge_text(policy, "x", false, got, NULL);
    ck_assert_str_eq(got, "D;D");
    ck_assert_int_eq(policy_learn(policy, "*0\r\n", 4), ERR_OK);
    judge_text(policy, "x", false, got, NULL);
    ck_assert_str_eq(got, "S;S");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("policy_changes");
    TCase *t = tcase_create("changes");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, policy_setup, policy_teardown);
    tcase_add_loop_test(t, test_deny, 0, COUNT(denies));
    tcase_add_test(t, test_deny_is_bounded);
    tcase_add_test(t, test_dedicate);
    tcase_add_test(t, test_learn);
    tcase_add_test(t, test_learn_refuses);
    return s;
}

int main(void)
{
    return support_run(suite());
}
