/* The table of commands: routes of single commands and of batches, refusals
 * and their lines, --deny, --dedicated and what a server's COMMAND adds. */
#include "manager/policy_table.h"

#include "tests/support_policy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct policy *policy;

static void setup(void)
{
    ck_assert_int_eq(policy_new(&policy), ERR_OK);
}

static void teardown(void)
{
    policy_free(policy);
}

/* ---- single commands ---- */

/* Alone and as one of an independent message alike. */
static const struct {
    const char *command;
    char route;
} singles[] = {
    {"GET k", 'S'},
    {"get k", 'S'},
    {"SET k v", 'S'},
    {"MODULE.THING a b", 'S'},
    {"X", 'S'},
    {"", 'S'},
    {"NOBODYHASEVERHEARDOFACOMMANDWITHSUCHALONGNAMEASTHISONEHASTODAYINTHE"
     "MORNINGANDNOBODYEVERWILLHEAROFITAGAINTHISISTHEENDOFITSNAMENOWREALLY",
     'S'},
    {"SELECTS 1", 'S'},
    {"SELEC 1", 'S'},
    {"EVAL return 0", 'S'},
    {"CONFIG SET save x", 'S'},
    {"DEBUG SLEEP 0", 'S'},
    {"UNWATCH", 'S'},
    {"PUBLISH c m", 'S'},
    {"PUBSUB CHANNELS", 'S'},
    {"SPUBLISH c m", 'S'},
    {"CLIENT", 'S'},
    {"CLIENT ID", 'S'},
    {"CLIENT GETNAME", 'S'},
    {"CLIENT LIST", 'S'},
    {"CLIENT INFO", 'S'},
    {"CLIENT PAUSE 1", 'S'},
    {"CLIENT REPL off", 'S'},
    {"CLIENT REPLYS off", 'S'},
    {"SCRIPT LOAD x", 'S'},
    {"SCRIPT FLUSH", 'S'},
    {"FUNCTION LIST", 'S'},
    {"CLUSTER INFO", 'S'},
    {"REPLICAOF no one", 'S'},

    {"BLPOP k 0", 'D'},
    {"blpop k 0", 'D'},
    {"BrPop k 0", 'D'},
    {"BLPOP", 'D'},
    {"BRPOPLPUSH a b 0", 'D'},
    {"BLMOVE a b left left 0", 'D'},
    {"BLMPOP 0 1 k left", 'D'},
    {"BZPOPMIN k 0", 'D'},
    {"BZPOPMAX k 0", 'D'},
    {"BZMPOP 0 1 k min", 'D'},
    {"XREAD BLOCK 0 STREAMS s $", 'D'},
    {"xread count 1 block 0 streams s $", 'D'},
    {"XREAD STREAMS s $", 'S'},
    {"XREAD COUNT 1 STREAMS block 0", 'S'},
    {"XREAD STREAMS BLOCK 0", 'S'},
    {"XREAD COUNT BLOCK STREAMS s 0", 'S'},
    {"XREAD", 'S'},
    {"XREAD BLOCK", 'D'},
    {"XREAD WHATEVER STREAMS s 0", 'S'},
    {"XREAD WHATEVER 1 BLOCK 0 STREAMS s 0", 'D'},
    {"XREAD COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 "
     "BLOCK 0 STREAMS s 0",
     'D'},
    {"XREAD COUNT 1 STREAMS a b c d e f g h i j k l m n BLOCK q r s t u v w x",
     'S'},
    {"XREAD COUNT @1 STREAMS s 0", 'S'},
    {"XREAD @5 0 STREAMS s 0", 'D'},
    {"XREADGROUP GROUP g c STREAMS s >", 'S'},
    {"XREADGROUP GROUP g c COUNT 1 NOACK STREAMS s >", 'S'},
    {"XREADGROUP GROUP g c BLOCK 0 STREAMS s >", 'D'},
    {"XREADGROUP GROUP STREAMS c BLOCK 0 STREAMS s >", 'D'},
    {"XREADGROUP GROUP g STREAMS BLOCK 0 STREAMS s >", 'D'},
    {"XREADGROUP GROUP BLOCK BLOCK STREAMS s >", 'S'},
    {"XREADGROUP GROUP g c NOACK NOACK BLOCK 5 STREAMS s >", 'D'},
    {"XREADGROUP GROUP g c CLAIM 100 STREAMS s >", 'S'},
    {"XREADGROUP GROUP g c CLAIM 100 BLOCK 1 STREAMS s >", 'D'},
    {"XREADGROUP GROUP g c MAXCOUNT BLOCK MAXSIZE BLOCK STREAMS s >", 'S'},
    {"XREADGROUP GROUP g c MAXSIZE STREAMS BLOCK 0 STREAMS s >", 'D'},
    {"XREADGROUP GROUP", 'S'},

    {"SCRIPT KILL", 'C'},
    {"script kill", 'C'},
    {"FUNCTION KILL", 'C'},
    {"FUNCTION STATS", 'C'},
    {"CLIENT KILL ID 1", 'C'},
    {"CLIENT UNBLOCK 1", 'C'},
    {"CLIENT UNPAUSE", 'C'},
    {"SHUTDOWN NOSAVE", 'C'},
    {"FAILOVER", 'C'},

    {"SUBSCRIBE a", 'P'},
    {"psubscribe a*", 'P'},
    {"UNSUBSCRIBE", 'P'},
    {"PUNSUBSCRIBE a", 'P'},
};

START_TEST(test_single)
{
    char want[4] = {singles[_i].route, ';', singles[_i].route, '\0'};
    char got[64];
    struct err_text why = {""};
    judge_text(policy, singles[_i].command, false, got, &why);
    ck_assert_msg(strcmp(got, want) == 0, "%s: %s, not %s: %s",
                  singles[_i].command, got, want, why.text);
    /* Between others in an independent message nothing changes. */
    char message[400];
    char want3[] = {'S', want[0], 'S', ';', 'S', '\0'};
    snprintf(message, sizeof(message), "GET a; %s; GET b", singles[_i].command);
    judge_text(policy, message, true, got, &why);
    ck_assert_str_eq(got, want3);
}
END_TEST

/* ---- refused, whatever the message ---- */

static const struct {
    const char *command, *begins, *says;
} refused[] = {
    {"SELECT 1", "SELECT would", "--redis"},
    {"sELect 1", "SELECT would", "--redis"},
    {"AUTH p", "AUTH would", "manager"},
    {"HELLO", "HELLO would", "--resp"},
    {"HELLO 3", "HELLO would", "--resp"},
    {"QUIT", "QUIT would", "stop sending"},
    {"RESET", "RESET would", "nothing to reset"},
    {"MONITOR", "MONITOR never", "redis-cli"},
    {"HIMPORT PREPARE u name", "HIMPORT keeps", "HSET"},
    {"SYNC", "SYNC turns", "directly"},
    {"PSYNC ? -1", "PSYNC turns", "directly"},
    {"REPLCONF ACK 0", "REPLCONF turns", "directly"},
    {"ASKING", "ASKING would", "cluster"},
    {"READONLY", "READONLY would", "cluster"},
    {"READWRITE", "READWRITE would", "cluster"},
    {"WATCH k", "WATCH cannot", "EVAL"},
    {"MULTI", "MULTI alone", "one batch"},
    {"EXEC", "EXEC has no MULTI", "one batch"},
    {"DISCARD", "DISCARD has no MULTI", "one batch"},
    {"EXEC x", "EXEC takes no", "place"},
    {"DISCARD x", "DISCARD takes no", "place"},
    {"MULTI x", "MULTI takes no", "place"},
    {"WAIT 1 0", "WAIT answers", "one batch"},
    {"WAITAOF 1 0 0", "WAITAOF answers", "one batch"},
    {"POST / HTTP/1.1", "POST looks", "HTTP"},
    {"Host: x", "HOST: looks", "HTTP"},
    {"CLIENT REPLY OFF", "CLIENT REPLY would", "not read"},
    {"client reply skip", "CLIENT REPLY would", "not read"},
    {"CLIENT TRACKING on", "CLIENT TRACKING is", "directly"},
    {"CLIENT CACHING yes", "CLIENT CACHING is", "directly"},
    {"CLIENT SETNAME x", "CLIENT SETNAME would", "mqstat"},
    {"CLIENT SETINFO lib-name x", "CLIENT SETINFO would", "mqstat"},
    {"CLIENT NO-EVICT on", "CLIENT NO-EVICT would", "directly"},
    {"CLIENT NO-TOUCH on", "CLIENT NO-TOUCH would", "directly"},
    {"CLIENT CAPA redirect", "CLIENT CAPA would", "directly"},
    {"SCRIPT DEBUG yes", "SCRIPT DEBUG would", "--ldb"},
    {"CLUSTER SYNCSLOTS x", "CLUSTER SYNCSLOTS turns", "directly"},
    {"CLIENT @5 off", "CLIENT needs", "message"},
    {"script @4", "SCRIPT needs", "message"},
    {"@6 1", "... is no command", "message"},
};

START_TEST(test_refused)
{
    struct err_text why = {""};
    char got[64];
    judge_text(policy, refused[_i].command, false, got, &why);
    ck_assert_str_eq(got, "R");
    ck_assert_msg(
        strncmp(why.text, refused[_i].begins, strlen(refused[_i].begins)) == 0,
        "%s: '%s' does not begin with '%s'", refused[_i].command, why.text,
        refused[_i].begins);
    ck_assert_msg(strstr(why.text, refused[_i].says) != NULL,
                  "%s: '%s' does not say '%s'", refused[_i].command, why.text,
                  refused[_i].says);
    ck_assert_ptr_null(strpbrk(why.text, "\r\n"));
    ck_assert_uint_lt(strlen(why.text), ERR_TEXT_MAX - 1); /* not cut */

    char message[200];
    snprintf(message, sizeof(message), "GET a; %s; GET b", refused[_i].command);
    judge_text(policy, message, true, got, &why);
    ck_assert_str_eq(got, "SR");
}
END_TEST

/* Whoever meets a refusal finds its command in the manual. */
START_TEST(test_manual_names_every_command)
{
    static char manual[65536];
    FILE *f = fopen("docs/policy.md", "r");
    ck_assert_msg(f != NULL, "docs/policy.md: run this in the source folder");
    manual[fread(manual, 1, sizeof(manual) - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < policy_nrules; i++) {
        char name[NAME_KEY_MAX + 3];
        snprintf(name, sizeof(name), "`%s`", policy_rules[i].name);
        if (strchr(name, '|') != NULL)
            *strchr(name, '|') = ' ';
        ck_assert_msg(strstr(manual, name) != NULL, "%s is not in the manual",
                      name);
    }
}
END_TEST

/* The data that are searched by halves are in order, and name categories by
 * their place. */
START_TEST(test_data_are_sorted)
{
    for (size_t i = 1; i < policy_nbuiltin; i++)
        ck_assert_int_lt(
            strcmp(policy_builtin[i - 1].name, policy_builtin[i].name), 0);
    ck_assert_str_eq(policy_category_names[1], "@read");
    ck_assert_uint_eq(CATEGORY_READ, 1 << 1);
    ck_assert_str_eq(policy_category_names[18], "@connection");
    ck_assert_uint_eq(CATEGORY_CONNECTION, 1 << 18);
    ck_assert_str_eq(policy_category_names[19], "@transaction");
    ck_assert_uint_eq(CATEGORY_TRANSACTION, 1 << 19);
}
END_TEST

/* ---- batches ---- */

static const struct {
    const char *batch, *routes, *says;
} batches[] = {
    {"GET a; GET b; SET c d", "SSS;S", NULL},
    {"MULTI; SET a b; EXEC", "SSS;S", NULL},
    {"multi; set a b; discard", "SSS;S", NULL},
    {"GET x; MULTI; SET a b; EXEC; GET y; MULTI; EXEC", "SSSSSSS;S", NULL},
    {"MULTI; BLPOP k 0; XREAD BLOCK 0 STREAMS s $; WAIT 1 0; EXEC", "SSSSS;D",
     NULL},
    {"MULTI; UNWATCH; EXEC", "SSS;S", NULL},
    {"MULTI; FUNCTION STATS; EXEC", "SSS;S", NULL},
    {"SET a b; WAIT 1 0", "SD;D", NULL},
    {"SET a b; waitaof 1 0 0", "SD;D", NULL},
    {"GET a; MODULE.WRITE b; GET c; WAIT 1 0", "SSSD;D", NULL},
    {"MULTI; SET a b; EXEC; WAIT 1 0", "SSSD;D", NULL},
    {"MULTI; XREADGROUP GROUP g c STREAMS s >; EXEC; WAIT 1 0", "SSSD;D", NULL},
    {"XREAD STREAMS s 0; GET a", "SS;S", NULL},
    {"FUNCTION STATS; GET a", "SS;S", NULL},

    {"MULTI; SET a b", "SS;R", "MULTI has no EXEC"},
    {"MULTI; EXEC; MULTI", "SSS;R", "MULTI has no EXEC"},
    {"MULTI; MULTI; EXEC; EXEC", "SR", "MULTI stands inside"},
    {"SET a b; EXEC", "SR", "EXEC has no MULTI"},
    {"MULTI; EXEC; EXEC", "SSR", "EXEC has no MULTI"},
    {"SET a b; DISCARD", "SR", "DISCARD has no MULTI"},
    {"MULTI; DISCARD x; EXEC", "SR", "DISCARD takes no arguments"},
    {"MULTI; GET a; EXEC @7", "SSR", "EXEC takes no arguments"},
    {"MULTI; SUBSCRIBE a; EXEC", "SR", "SUBSCRIBE answers more than once"},
    {"GET a; UNSUBSCRIBE", "SR", "UNSUBSCRIBE answers more than once"},
    {"PSUBSCRIBE a; GET a", "R", "PSUBSCRIBE answers more than once"},
    {"GET a; BLPOP k 0", "SR", "BLPOP blocks"},
    {"MULTI; SET a b; EXEC; BLPOP k 0", "SSSR", "BLPOP blocks"},
    {"XREAD BLOCK 1 STREAMS s $; GET a", "R", "XREAD blocks"},
    {"GET a; WAIT 1 0", "SR", "WAIT answers"},
    {"PING; MULTI; EXEC; WAIT 1 0", "SSSR", "WAIT answers"},
    {"SET a b; WAIT 1 0; GET a", "SR", "WAIT answers"},
    {"WAIT 1 0; SET a b", "R", "WAIT answers"},
    {"GET a; SCRIPT KILL", "SR", "SCRIPT KILL must not wait"},
    {"MULTI; SHUTDOWN; EXEC", "SR", "SHUTDOWN must not wait"},
    {"MULTI; SELECT 1; EXEC", "SR", "SELECT would"},
    {"MULTI; WATCH a; EXEC", "SR", "WATCH cannot"},
    {"MULTI; CLIENT REPLY OFF; EXEC", "SR", "CLIENT REPLY would"},
};

START_TEST(test_batch)
{
    struct err_text why = {""};
    char got[64];
    judge_text(policy, batches[_i].batch, false, got, &why);
    ck_assert_msg(strcmp(got, batches[_i].routes) == 0, "%s: %s, not %s: %s",
                  batches[_i].batch, got, batches[_i].routes, why.text);
    if (batches[_i].says == NULL)
        ck_assert_str_eq(why.text, "");
    else
        ck_assert_msg(
            strncmp(why.text, batches[_i].says, strlen(batches[_i].says)) == 0,
            "%s: '%s'", batches[_i].batch, why.text);
}
END_TEST

/* ---- zero bytes, and names that are no names ---- */

START_TEST(test_zero_bytes)
{
    static const struct {
        struct resp_arg argv[4];
        uint32_t argc;
        enum route route;
    } cases[] = {
        {{{"SELECT\0x", 8}, {"1", 1}}, 2, ROUTE_REFUSED},
        {{{"GET\0", 4}, {"1", 1}}, 2, ROUTE_REFUSED},
        {{{"\0", 1}}, 1, ROUTE_REFUSED},
        {{{"a-long-name-with-one-byte-of-zero\0near-its-end", 46}},
         1,
         ROUTE_REFUSED},
        {{{"CLIENT", 6}, {"REPLY\0xyz", 9}, {"OFF", 3}}, 3, ROUTE_REFUSED},
        {{{"CLIENT", 6}, {"ID\0REPLY", 8}}, 2, ROUTE_SHARED},
        {{{"CLIENT", 6}, {"", 0}}, 2, ROUTE_SHARED},
        {{{"CLIENT", 6}, {NULL, 0}}, 2, ROUTE_SHARED},
        {{{"SCRIPT", 6}, {"KILL\0", 5}}, 2, ROUTE_CONTROL},
        {{{"XREAD", 5}, {"BLOCK\0x", 7}, {"0", 1}, {"STREAMS", 7}},
         4,
         ROUTE_DEDICATED},
        {{{"XREAD", 5}, {"STREAMS\0x", 9}, {"BLOCK", 5}, {"0", 1}},
         4,
         ROUTE_SHARED},
        {{{NULL, 0}}, 1, ROUTE_SHARED},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy_batch batch;
        struct err_text why = {""};
        policy_begin(&batch, policy, 1, false);
        ck_assert_int_eq(
            policy_command(&batch, cases[i].argc, cases[i].argv, &why),
            cases[i].route);
        ck_assert_int_eq(why.text[0] != '\0', cases[i].route == ROUTE_REFUSED);
    }
}
END_TEST

START_TEST(test_names_are_escaped_and_cut)
{
    char name[3000];
    memset(name, '\n', sizeof(name));
    memcpy(name, "ev\xff il", 6);
    name[6] = '\0';
    struct resp_arg argv[2] = {{name, sizeof(name)}, {name, sizeof(name)}};
    struct policy_batch batch;
    struct err_text why = {""};
    policy_begin(&batch, policy, 1, false);
    ck_assert_int_eq(policy_command(&batch, 1, argv, &why), ROUTE_REFUSED);
    ck_assert_int_eq(strncmp(why.text, "EV\\xff\\x20IL\\x00\\x0a", 20), 0);
    ck_assert_ptr_nonnull(strstr(why.text, "\\x0a... is no command"));
    ck_assert_uint_lt(strlen(why.text), ERR_TEXT_MAX - 1);
    for (const char *p = why.text; *p != '\0'; p++)
        ck_assert(*p >= ' ' && *p <= '~');
}
END_TEST

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

int main(void)
{
    Suite *s = suite_create("policy");
    TCase *t = tcase_create("table");
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_single, 0, COUNT(singles));
    tcase_add_loop_test(t, test_refused, 0, COUNT(refused));
    tcase_add_test(t, test_manual_names_every_command);
    tcase_add_test(t, test_data_are_sorted);
    tcase_add_loop_test(t, test_batch, 0, COUNT(batches));
    tcase_add_test(t, test_zero_bytes);
    tcase_add_test(t, test_names_are_escaped_and_cut);
    t = tcase_create("options");
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_deny, 0, COUNT(denies));
    tcase_add_test(t, test_deny_is_bounded);
    tcase_add_test(t, test_dedicate);
    tcase_add_test(t, test_learn);
    tcase_add_test(t, test_learn_refuses);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
