/*
 * The policy against what happens on a real connection, when the bytes that it
 * lets through, or those that it refuses, are sent.
 *
 * A connection is in step when n commands have n replies and the next one's
 * reply is its own.
 */
#include "ipc/resp.h"
#include "manager/policy.h"
#include "tests/support.h"
#include "tests/support_policy.h"
#include "tests/support_redis.h"
#include "tests/support_run.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct redis redis;
static struct redis_link link1, link2;

static struct listed_commands listed;

static bool judge_is(const char *text, const char *want)
{
    char routes[64];
    struct err_text why = {""};
    judge_text(policy, text, false, routes, &why);
    return strcmp(routes, want) == 0;
}

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
    learn_commands(policy, &link1, protocol, &listed);
}

static void setup(void)
{
    if (redis.pid == 0)
        return;
    ck_assert_int_eq(policy_new(&policy), ERR_OK);
    redis_link_open(&link1, &redis);
    redis_link_open(&link2, &redis);
}

static void teardown(void)
{
    if (redis.pid == 0)
        return;
    redis_link_close(&link1);
    redis_link_close(&link2);
    policy_free(policy);
}

static bool absent(const char *test)
{
    if (redis.pid == 0)
        support_skip(test, "no redis-server is installed");
    return redis.pid == 0;
}

/* ---- staying in step ---- */

/* Sends a command whose reply can't be mistaken and takes it. */
static bool answers_next(struct redis_link *link)
{
    static unsigned serial;
    char ask[64], want[64];
    const char *reply;
    size_t len;
    snprintf(ask, sizeof(ask), "ECHO marker-%06u", ++serial % 1000000);
    snprintf(want, sizeof(want), "$13\r\nmarker-%06u\r\n", serial % 1000000);
    redis_link_command(link, ask);
    return redis_link_reply(link, (int)support_wait_ms(), &reply, &len) ==
               REDIS_REPLY &&
           len == strlen(want) && memcmp(reply, want, len) == 0;
}

/* The connection is as it was when it was new. */
static void check_unchanged(struct redis_link *link, int protocol,
                            const char *after)
{
    static const char *const fields[] = {
        " name= ",  " flags=U ",  " db=0 ",         " sub=0 ",
        " psub=0 ", " multi=-1 ", " user=default ", " redir=-1 ",
    };
    char resp[24];
    const char *reply;
    size_t len;
    redis_link_command(link, "CLIENT INFO");
    ck_assert_msg(redis_link_reply(link, (int)support_wait_ms(), &reply,
                                   &len) == REDIS_REPLY,
                  "%s: no more replies", after);
    snprintf(resp, sizeof(resp), " resp=%d", protocol);
    for (size_t i = 0; i <= COUNT(fields); i++) {
        const char *field = i < COUNT(fields) ? fields[i] : resp;
        ck_assert_msg(memmem(reply, len, field, strlen(field)) != NULL,
                      "after %s not%s: %.*s", after, field, (int)len, reply);
    }
}

/* Sends the commands as one piece, if the policy lets them through on a shared
 * connection; there must be one reply each, and the connection as before. */
static bool send_if_shared(const char *text, int protocol)
{
    char routes[64];
    struct err_text why;
    judge_text(policy, text, false, routes, &why);
    if (strchr(routes, ';') == NULL || routes[strlen(routes) - 1] != 'S')
        return false;
    size_t commands = 0;
    char part[300];
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ";");
        while (*p == ' ') {
            p++;
            len--;
        }
        ck_assert_uint_lt(len, sizeof(part));
        memcpy(part, p, len);
        part[len] = '\0';
        redis_link_command(&link1, part);
        commands++;
        p += len;
        if (*p == '\0')
            break;
    }
    for (size_t i = 0; i < commands; i++) {
        const char *reply;
        size_t len;
        enum redis_got got =
            redis_link_reply(&link1, (int)support_wait_ms(), &reply, &len);
        ck_assert_msg(got == REDIS_REPLY, "%s: reply %zu: %s", text, i,
                      got == REDIS_CLOSED ? "closed" : "nothing");
    }
    ck_assert_msg(answers_next(&link1), "out of step after %s", text);
    check_unchanged(&link1, protocol, text);
    return true;
}

/* Every command that is let through, with arguments that mean something to
 * many of them, alone and in a transaction. */
START_TEST(test_all_that_passes_stays_in_step)
{
    static const char *const fills[] = {"1", "on", "0", "yes"};
    /* Makes it a replica; a self-test of seconds. */
    static const char *const left_out[] = {"replicaof", "slaveof",
                                           "pfselftest"};
    if (absent("test_all_that_passes_stays_in_step"))
        return;
    int protocol = _i / (int)COUNT(fills) + 2;
    const char *fill = fills[_i % (int)COUNT(fills)];
    size_t sent = 0;
    learn(protocol);
    for (size_t i = 0; i < listed.count; i++) {
        const struct listed *l = &listed.commands[i];
        char text[300], batch[340];
        if (one_of(l->words, left_out, COUNT(left_out)))
            continue;
        snprintf(text, sizeof(text), "%.129s", l->words);
        int64_t arity = l->arity < 0 ? -l->arity : l->arity;
        for (int64_t n = 1 + (strchr(text, ' ') != NULL); n < arity; n++) {
            strcat(text, " ");
            strcat(text, fill);
        }
        sent += send_if_shared(text, protocol);
        snprintf(batch, sizeof(batch), "MULTI; %s; EXEC", text);
        sent += send_if_shared(batch, protocol);
    }
    ck_assert_uint_gt(sent, 400);
}
END_TEST

/* A script may select and switch as it likes: it ends with the script. */
START_TEST(test_scripts_leave_the_connection)
{
    static const char *const scripts[] = {
        "EVAL redis.call('select','1')return{1} 0",
        "EVAL redis.setresp(3)return{map={a=1}} 0",
        "EVAL redis.setresp(3)return{double=3} 0",
        "EVAL return{err='a'} 0",
        "EVAL return{ok='a\\r\\nb'} 0",
        "EVAL return{err='a\\r\\nb'} 0",
        "EVAL return{err='a\\n+b'} 0",
        "EVAL return(nil) 0",
        "EVAL return{1,nil,2} 0",
        "EVAL return{{{{{}}}}} 0",
        "EVAL return(redis.call('blpop','nokey','0')) 0",
        "EVAL return(redis.pcall('subscribe','c')) 0",
        "EVAL return(redis.pcall('multi')) 0",
        "EVAL return(redis.pcall('client','reply','off')) 0",
        "EVAL return(redis.pcall('nosuch')) 0",
        "EVAL error() 0",
    };
    if (absent("test_scripts_leave_the_connection"))
        return;
    for (int protocol = 2; protocol <= 3; protocol++) {
        learn(protocol);
        for (size_t i = 0; i < COUNT(scripts); i++)
            ck_assert(send_if_shared(scripts[i], protocol));
    }
}
END_TEST

/* ---- bytes that are let through or not ---- */

static const struct {
    const char *bytes;
    size_t replies; /* as one per command would have it */
    bool passes;
    bool in_step; /* as the server has it */
} raw[] = {
#define GET "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
#define ONE(name, len) "*1\r\n$" #len "\r\n" name "\r\n"
#define TWO(name, len, arg, arglen)                                            \
    "*2\r\n$" #len "\r\n" name "\r\n$" #arglen "\r\n" arg "\r\n"
#define THREE(name, len, arg, arglen, arg2, arg2len)                           \
    "*3\r\n$" #len "\r\n" name "\r\n$" #arglen "\r\n" arg "\r\n$" #arg2len     \
    "\r\n" arg2 "\r\n"
    {GET, 1, true, true},
    {"*0\r\n", 1, false, false},
    {"*-1\r\n", 1, false, false},
    {"*01\r\n$4\r\nPING\r\n", 1, false, false},
    {"*1\r\n$04\r\nPING\r\n", 1, false, false},
    {"*2\r\n$4\r\nECHO\r\n$-0\r\n\r\n", 1, false, false},
    {"*1\r\n$+4\r\nPING\r\n", 1, false, false},
    {"*2\r\n$4\r\nECHO\r\n$536870913\r\n", 1, false, false},
    {"PING\r\n", 1, false, true}, /* inline: not ours */
    {THREE("REPLCONF", 8, "ACK", 3, "0", 1), 1, false, false},
    {THREE("REPLCONF", 8, "GETACK", 6, "*", 1), 1, false, false},
    {ONE("MULTI", 5) TWO("DISCARD", 7, "x", 1) GET ONE("EXEC", 4), 4, false,
     true}, /* in step, and GET was not read */
    {ONE("MULTI", 5) TWO("DISCARD", 7, "x", 1) GET, 3, false, false},
    {ONE("MULTI", 5) GET, 2, false, false},
    {ONE("MULTI", 5) GET ONE("EXEC", 4), 3, true, true},
    {ONE("MULTI", 5) GET ONE("DISCARD", 7), 3, true, true},
    {ONE("MULTI", 5) ONE("NOSUCH", 6) ONE("EXEC", 4), 3, true, true},
    {ONE("MULTI", 5) THREE("BLPOP", 5, "k", 1, "0", 1) ONE("EXEC", 4), 3, true,
     true},
    {ONE("MULTI", 5) THREE("WAIT", 4, "1", 1, "0", 1) ONE("EXEC", 4), 3, true,
     true},
    {ONE("MULTI", 5) TWO("SUBSCRIBE", 9, "c", 1) ONE("EXEC", 4), 3, false,
     false}, /* then only subscriber's commands are allowed */
    {"*4\r\n$11\r\nUNSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", 1, false,
     false},
    {TWO("SUBSCRIBE", 9, "c", 1), 1, false, false},
    {THREE("CLIENT", 6, "REPLY", 5, "OFF", 3), 1, false, false},
    {THREE("CLIENT", 6, "REPLY", 5, "SKIP", 4), 1, false, false},
    {THREE("client", 6, "reply", 5, "off", 3), 1, false, false},
    {THREE("SCRIPT", 6, "DEBUG", 5, "YES", 3)
         THREE("EVAL", 4, "return 1", 8, "0", 1),
     2, false, false},
    {ONE("QUIT", 4), 1, false, false},
    {ONE("MONITOR", 7), 1, false, false},
    {ONE("POST", 4), 1, false, false},
    {ONE("Host:", 5), 1, false, false},
    {ONE("SELECT", 6), 1, false, true},
    {ONE("NOSUCH", 6), 1, true, true},
    {TWO("CLIENT", 6, "NOSUCH", 6), 1, true, true},
    {TWO("DEBUG", 5, "NOSUCH", 6), 1, true, true},
};

/* Judges bytes as the manager does: form first, then the table. Only what may
 * use the shared connection passes. */
static bool bytes_pass(const char *bytes)
{
    struct resp_request r;
    struct policy_batch batch;
    struct err_text why;
    uint32_t argc, ncommands = 0;
    enum err e;
    for (int pass = 0; pass < 2; pass++) {
        resp_request_init(&r, bytes, strlen(bytes));
        policy_begin(&batch, policy, ncommands, false);
        ncommands = 0;
        while ((e = resp_request_command(&r, &argc)) == ERR_OK) {
            struct resp_arg argv[POLICY_ARGS];
            ncommands++;
            ck_assert_uint_le(argc, POLICY_ARGS);
            for (uint32_t i = 0; i < argc; i++) {
                if (resp_request_arg(&r, &argv[i]) != ERR_OK)
                    return false;
            }
            if (pass == 1 &&
                policy_command(&batch, argc, argv, &why) != ROUTE_SHARED)
                return false;
        }
        if (e != ERR_CLOSED)
            return false;
    }
    /* A transaction that could block goes aside, and passes all the same. */
    return policy_end(&batch, &why) != ROUTE_REFUSED;
}

/* Whether the server has as many replies, and then the next two commands' own
 * (MONITOR shows after one). */
static bool bytes_in_step(const char *bytes, size_t replies)
{
    static const char marker[] = "*2\r\n$4\r\nECHO\r\n$6\r\nmarker\r\n";
    static const char want[] = "$6\r\nmarker\r\n";
    const char *reply;
    size_t len;
    redis_link_send(&link2, bytes, strlen(bytes));
    redis_link_send(&link2, marker, sizeof(marker) - 1);
    redis_link_send(&link2, marker, sizeof(marker) - 1);
    for (size_t i = 0; i < replies + 2; i++) {
        /* What never comes would take all of the time. */
        if (redis_link_reply(&link2, 1000, &reply, &len) != REDIS_REPLY)
            return false;
        bool is_marker = len == sizeof(want) - 1 && !memcmp(reply, want, len);
        if (is_marker != (i >= replies))
            return false;
    }
    return true;
}

START_TEST(test_raw_bytes)
{
    if (absent("test_raw_bytes"))
        return;
    bool passes = bytes_pass(raw[_i].bytes);
    bool in_step = bytes_in_step(raw[_i].bytes, raw[_i].replies);
    ck_assert_msg(passes == raw[_i].passes, "passes: %d", passes);
    ck_assert_msg(in_step == raw[_i].in_step, "in step: %d", in_step);
}
END_TEST

/* Redis takes an option for one that ends at a zero byte: so do we. */
START_TEST(test_zero_byte_in_option)
{
    static const struct resp_arg argv[] = {{"XREAD", 5},  {"BLOCK\0x", 7},
                                           {"1", 1},      {"STREAMS\0y", 9},
                                           {"stream", 6}, {"$", 1}};
    char bytes[200];
    struct policy_batch batch;
    struct err_text why;
    if (absent("test_zero_byte_in_option"))
        return;
    redis_link_send(&link1, bytes, resp_put_command(bytes, COUNT(argv), argv));
    ck_assert_str_eq(redis_link_text(&link1), "*-1\r\n"); /* it waited */
    policy_begin(&batch, policy, 1, false);
    ck_assert_int_eq(policy_command(&batch, COUNT(argv), argv, &why),
                     ROUTE_DEDICATED);
}
END_TEST

/* ---- what the other connections are for ---- */

/* Endless commands, and how each is ended. */
static const struct {
    struct resp_arg before[4], argv[3];
    uint32_t nbefore;
    const char *kill, *stats; /* the kill; what FUNCTION STATS begins with */
} endless[] = {
    {{{NULL, 0}},
     {{"EVAL", 4}, {"while true do end", 17}, {"0", 1}},
     0,
     "SCRIPT KILL",
     "-BUSY"},
    {{{"FUNCTION", 8},
      {"LOAD", 4},
      {"REPLACE", 7},
      {"#!lua name=l\nredis.register_function('f', "
       "function() while true do end end)",
       75}},
     {{"FCALL", 5}, {"f", 1}, {"0", 1}},
     4,
     "FUNCTION KILL",
     "*"},
};

START_TEST(test_kill_needs_another_connection)
{
    char bytes[400];
    const char *reply;
    size_t len;
    if (absent("test_kill_needs_another_connection"))
        return;
    ck_assert_str_eq(redis_link_ask(&link1, "CONFIG SET lua-time-limit 20"),
                     "+OK\r\n");
    if (endless[_i].nbefore > 0) {
        redis_link_send(
            &link1, bytes,
            resp_put_command(bytes, endless[_i].nbefore, endless[_i].before));
        ck_assert_int_eq(redis_link_text(&link1)[0], '$');
    }
    redis_link_send(&link1, bytes,
                    resp_put_command(bytes, 3, endless[_i].argv));
    redis_link_command(&link1, endless[_i].kill);
    ck_assert_int_eq(redis_link_reply(&link1, 300, &reply, &len),
                     REDIS_NOTHING);
    ck_assert(judge_is("FUNCTION STATS", "C;C"));
    reply = redis_link_ask(&link2, "FUNCTION STATS");
    ck_assert_int_eq(
        strncmp(reply, endless[_i].stats, strlen(endless[_i].stats)), 0);
    ck_assert(judge_is(endless[_i].kill, "C;C"));
    ck_assert_str_eq(redis_link_ask(&link2, endless[_i].kill), "+OK\r\n");
    ck_assert_ptr_nonnull(strstr(redis_link_text(&link1), "killed"));
    ck_assert_ptr_nonnull(strstr(redis_link_text(&link1), "NOTBUSY"));
}
END_TEST

/* WAIT tells of its own connection's writes: alone it is refused, with them it
 * goes to a connection of its own. */
START_TEST(test_wait_needs_its_writes)
{
    if (absent("test_wait_needs_its_writes"))
        return;
    struct redis master, replica;
    struct redis_link writer, other;
    char options[100];
    int port = support_free_port();
    snprintf(options, sizeof(options), "--bind 127.0.0.1 --port %d", port);
    ck_assert(redis_start(&master, "master", options));
    snprintf(options, sizeof(options), "--port 0 --replicaof 127.0.0.1 %d",
             port);
    ck_assert(redis_start(&replica, "replica", options));
    redis_link_open(&writer, &master);
    ck_assert(
        UNTIL(strcmp(redis_link_ask(&writer, "WAIT 1 1"), ":1\r\n") == 0));
    ck_assert_int_eq(kill(replica.pid, SIGSTOP), 0);
    ck_assert_str_eq(redis_link_ask(&writer, "SET k v"), "+OK\r\n");
    redis_link_open(&other, &master);
    ck_assert_str_eq(redis_link_ask(&other, "WAIT 1 100"),
                     ":1\r\n"); /* wrong */
    ck_assert_str_eq(redis_link_ask(&writer, "WAIT 1 100"), ":0\r\n");
    ck_assert(judge_is("WAIT 1 100", "R"));
    ck_assert(judge_is("SET k v; WAIT 1 100", "SD;D"));
    redis_link_close(&writer);
    redis_link_close(&other);
    redis_stop(&replica);
    redis_stop(&master);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("policy_step");
    TCase *t = tcase_create("server");
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_all_that_passes_stays_in_step, 0, 8);
    tcase_add_test(t, test_scripts_leave_the_connection);
    tcase_add_loop_test(t, test_raw_bytes, 0, (int)COUNT(raw));
    tcase_add_test(t, test_zero_byte_in_option);
    tcase_add_loop_test(t, test_kill_needs_another_connection, 0,
                        (int)COUNT(endless));
    tcase_add_test(t, test_wait_needs_its_writes);
    return support_run(s);
}
