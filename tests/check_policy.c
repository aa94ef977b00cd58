/* The table of commands: routes of single commands and of batches, refusals
 * and their lines. What changes it is in check_policy_changes. */
#include "manager/policy_table.h"

#include "tests/support_policy.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

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

int main(void)
{
    Suite *s = suite_create("policy");
    TCase *t = tcase_create("table");
    tcase_add_checked_fixture(t, policy_setup, policy_teardown);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_single, 0, COUNT(singles));
    tcase_add_loop_test(t, test_refused, 0, COUNT(refused));
    tcase_add_test(t, test_manual_names_every_command);
    tcase_add_test(t, test_data_are_sorted);
    tcase_add_loop_test(t, test_batch, 0, COUNT(batches));
    tcase_add_test(t, test_zero_bytes);
    tcase_add_test(t, test_names_are_escaped_and_cut);
    return support_run(s);
}
