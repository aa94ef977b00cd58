/* What one client of mqredis-gateway sees, byte by byte. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/gateway.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- commands and replies ---- */

START_TEST(test_commands_as_arrays_and_as_lines)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nb!\r\n", "+OK\r\n");
    gw_talk(fd, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$5\r\na\r\nb!\r\n");
    gw_talk(fd, "SET q \"two words\"\r\n", "+OK\r\n");
    gw_talk(fd, "get q\n", "$9\r\ntwo words\r\n");
    gw_talk(fd, "SET e ''\r\nSTRLEN e\r\n", "+OK\r\n:0\r\n");
    /* What asks for nothing is answered by nothing. */
    gw_talk(fd, "\r\n\r\n*0\r\n*-1\r\n   \r\nPING\r\n", "+PONG\r\n");
    gw_talk(fd, "*1\r\n$7\r\nNOTHING\r\n", "-ERR unknown command 'NOTHING'");
    ck_assert_uint_ge(gw_counter(&gateway, "answered"), 7);
}
END_TEST

START_TEST(test_a_pipeline_is_answered_in_its_order)
{
    enum { COUNT = 3000 };
    static char ask[COUNT * 40], want[COUNT * 16];
    int fd = gw_begin(_i, NULL, NULL);
    size_t a = 0, w = 0;
    for (int i = 1; i <= COUNT; i++) {
        a += (size_t)sprintf(ask + a, "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
        w += (size_t)sprintf(want + w, ":%d\r\n", i);
        /* Answers of the gateway's own keep their place. */
        if (i % 100 == 0) {
            a += (size_t)sprintf(ask + a, "CLIENT GETNAME\r\n");
            w += (size_t)sprintf(want + w, "$-1\r\n");
        }
    }
    uint64_t before = e2e_counter(&manager, COUNTER_messages);
    gw_send(fd, ask);
    static char got[sizeof(want)];
    gw_read_bytes(fd, got, w);
    ck_assert(memcmp(got, want, w) == 0);
    /* Commands read together travel together. */
    uint64_t messages = e2e_counter(&manager, COUNTER_messages) - before;
    ck_assert_uint_lt(messages, COUNT / 5);
}
END_TEST

START_TEST(test_any_fragmentation)
{
    static const char ask[] =
        "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$7\r\nv\r\n*1\r\n\r\n"
        "SET 'in line' x\r\n"
        "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
        "*1\r\n$4\r\nEXEC\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n";
    static const char want[] = "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n"
                               "*1\r\n$7\r\nv\r\n*1\r\n\r\n$0\r\n\r\n";
    int fd = gw_begin(_i, NULL, NULL);
    for (size_t i = 0; i < sizeof(ask) - 1; i++) {
        gw_send_bytes(fd, ask + i, 1);
        if (i % 7 == 0)
            support_sleep_ms(1);
    }
    gw_expect(fd, want);
    for (size_t cut = 1; cut < sizeof(ask) - 1; cut += 3) {
        gw_send_bytes(fd, ask, cut);
        support_sleep_ms(2);
        gw_send_bytes(fd, ask + cut, sizeof(ask) - 1 - cut);
        gw_expect(fd, want);
    }
}
END_TEST

START_TEST(test_large_values_pass)
{
    enum { SIZE = 3000000 };
    int fd = gw_begin(_i, NULL, NULL);
    char *value = malloc(SIZE), *got = malloc(SIZE);
    ck_assert(value != NULL && got != NULL);
    for (size_t i = 0; i < SIZE; i++)
        value[i] = (char)(i * 7 + i / 255);
    for (int round = 0; round < 2; round++) {
        gw_send(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n");
        gw_send_bytes(fd, value, SIZE);
        /* What follows it is another command, in order. */
        gw_talk(fd, "\r\n*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n",
                "+OK\r\n:3000000\r\n");
        gw_talk(fd, "GET k\r\n", "$3000000\r\n");
        gw_read_bytes(fd, got, SIZE);
        ck_assert(memcmp(got, value, SIZE) == 0);
        gw_talk(fd, "PING\r\n", "\r\n+PONG\r\n");
    }
    free(value);
    free(got);
}
END_TEST

START_TEST(test_what_is_no_command_ends_the_connection)
{
    static const struct {
        const char *ask, *answer;
    } cases[] = {
        {"*1\r\n:3\r\n", "-ERR Protocol error: expected '$'\r\n"},
        {"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
        {"*01\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
        {"*99999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
        {"*1\r\n$-3\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
        {"*1\r\n$999999999\r\n",
         "-ERR Protocol error: invalid bulk length\r\n"},
        {"*1\r\n$1\r\nabc", "-ERR Protocol error: expected CR LF behind a "
                            "bulk string\r\n"},
        {"SET a 'b\r\n", "-ERR Protocol error: unbalanced quotes in "
                         "request\r\n"},
    };
    close(gw_begin(_i, NULL, NULL));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = gw_connect(&gateway);
        /* What was asked before is answered. */
        gw_talk(fd, "PING\r\n", "+PONG\r\n");
        gw_send(fd, "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
        gw_send(fd, cases[i].ask);
        char want[200];
        snprintf(want, sizeof(want), ":%zu\r\n%s", i + 1, cases[i].answer);
        gw_expect(fd, want);
        ck_assert(gw_closes(fd));
        close(fd);
    }
    /* A browser that was talked into it gets nothing. */
    int fd = gw_connect(&gateway);
    gw_send(fd, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET evil 1\r\n");
    ck_assert(gw_closes(fd));
    close(fd);
    ck_assert_str_eq(e2e_redis_ask(&redis, "EXISTS evil"), ":0\r\n");
    ck_assert_uint_eq(gw_counter(&gateway, "protocol_errors"),
                      sizeof(cases) / sizeof(cases[0]) + 1);
}
END_TEST

/* ---- what belongs to a connection ---- */

START_TEST(test_client_select_quit)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "CLIENT GETNAME\r\n", "$-1\r\n");
    gw_talk(fd, "CLIENT SETNAME worker-7\r\n", "+OK\r\n");
    gw_talk(fd, "CLIENT GETNAME\r\n", "$8\r\nworker-7\r\n");
    gw_talk(fd, "CLIENT SETNAME 'a b'\r\n", "-ERR Client names cannot");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "CLIENT SETINFO LIB-NAME x\r\nCLIENT SETINFO lib-ver 1.2\r\n",
            "+OK\r\n+OK\r\n");
    gw_send(fd, "CLIENT INFO\r\n");
    const char *info = gw_read_until(fd, "user=default\n\r\n");
    ck_assert_ptr_nonnull(strstr(info, "name=worker-7 "));
    ck_assert_ptr_nonnull(strstr(info, "lib-ver=1.2 "));
    gw_talk(fd, "SELECT 0\r\n", "+OK\r\n");
    gw_talk(fd, "SELECT 3\r\n",
            "-ERR SELECT 3: this channel is for database "
            "0: ");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "SELECT x\r\n",
            "-ERR value is not an integer or out of range\r\n");
    /* Two clients have two names and two numbers. */
    int other = gw_connect(&gateway);
    gw_talk(other, "CLIENT GETNAME\r\n", "$-1\r\n");
    gw_send(fd, "CLIENT ID\r\n");
    char first[32];
    snprintf(first, sizeof(first), "%s", gw_read_until(fd, "\r\n"));
    gw_send(other, "CLIENT ID\r\n");
    ck_assert_str_ne(gw_read_until(other, "\r\n"), first);
    gw_talk(fd, "RESET\r\nCLIENT GETNAME\r\n", "+RESET\r\n$-1\r\n");
    gw_talk(fd, "INCR n\r\nQUIT\r\nINCR n\r\n", ":1\r\n+OK\r\n");
    ck_assert(gw_closes(fd));
    gw_talk(other, "GET n\r\n", "$1\r\n1\r\n");
    close(fd);
    close(other);
}
END_TEST

START_TEST(test_select_of_another_database)
{
    e2e_redis_start(&redis, _i);
    char uri[200];
    snprintf(uri, sizeof(uri), "%s?db=5", e2e_uri(&redis));
    e2e_manager_start(&manager, NULL, uri, NULL);
    gw_start(&gateway, manager.channel, NULL);
    int fd = gw_connect(&gateway);
    gw_talk(fd, "SELECT 5\r\n", "+OK\r\n");
    gw_talk(fd, "SELECT 0\r\n",
            "-ERR SELECT 0: this channel is for database "
            "5: ");
    close(fd);
}
END_TEST

START_TEST(test_client_reply)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "CLIENT REPLY SKIP\r\nINCR n\r\nINCR n\r\n", ":2\r\n");
    gw_talk(fd,
            "CLIENT REPLY OFF\r\nINCR n\r\nINCR n\r\nCLIENT GETNAME\r\n"
            "CLIENT REPLY ON\r\nINCR n\r\n",
            "+OK\r\n:5\r\n");
    close(fd);
}
END_TEST

START_TEST(test_requirepass)
{
    int fd = gw_begin(_i, NULL, "--requirepass secret");
    gw_talk(fd, "GET a\r\n", "-NOAUTH Authentication required.\r\n");
    gw_talk(fd, "MULTI\r\n", "-NOAUTH Authentication required.\r\n");
    gw_talk(fd, "AUTH wrong\r\n", "-WRONGPASS ");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "AUTH other secret\r\n", "-WRONGPASS ");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "HELLO 2\r\n", "-NOAUTH HELLO must be called");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "AUTH secret\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    gw_talk(fd, "RESET\r\nPING\r\n",
            "+RESET\r\n-NOAUTH Authentication required.\r\n");
    gw_talk(fd, "AUTH default secret\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    int other = gw_connect(&gateway);
    gw_talk(other, "HELLO 2 AUTH default secret SETNAME me\r\n", "*14\r\n");
    gw_read_until(other, "modules\r\n*0\r\n");
    gw_talk(other, "CLIENT GETNAME\r\n", "$2\r\nme\r\n");
    /* A stranger does not make the gateway hold much. */
    int third = gw_connect(&gateway);
    gw_talk(third, "*1000\r\n", "-ERR Protocol error: unauthenticated");
    ck_assert(gw_closes(third));
    /* GATEWAY wants a login, too. */
    gw_send(fd, "GATEWAY\r\n");
    gw_read_until(fd, "auth_failures:2\r\n");
}
END_TEST

START_TEST(test_auth_without_a_password)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "AUTH x\r\n", "-ERR AUTH <password> called without any");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "AUTH default x\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    close(fd);
}
END_TEST

START_TEST(test_what_the_manager_refuses_says_so)
{
    int fd = gw_begin(_i, "--deny FLUSHALL", NULL);
    gw_talk(fd, "FLUSHALL\r\n", "-MQREDIS invalid: ");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "MONITOR\r\nPING\r\n", "-MQREDIS invalid: ");
    gw_read_until(fd, "+PONG\r\n");
    gw_talk(fd, "WATCH k\r\nPING\r\n", "-MQREDIS invalid: WATCH");
    gw_read_until(fd, "+PONG\r\n");
    gw_talk(fd, "UNWATCH\r\n", "+OK\r\n");
    ck_assert_uint_eq(gw_counter(&gateway, "failed"), 2);
}
END_TEST

/* ---- protocols ---- */

START_TEST(test_resp3_is_refused_where_replies_are_resp2)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "HELLO 3\r\n", "-NOPROTO unsupported protocol version");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "HELLO 4\r\nHELLO x\r\n",
            "-NOPROTO unsupported protocol version\r\n-ERR Protocol version");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "HELLO\r\n", "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n");
    gw_read_until(fd, "$7\r\nmodules\r\n*0\r\n");
    gw_talk(fd, "HELLO 2 SETNAME\r\n", "-ERR Syntax error in HELLO option");
    close(fd);
}
END_TEST

START_TEST(test_both_protocols_side_by_side)
{
    int two = gw_begin(E2E_REDIS, "--resp 3", NULL);
    int three = gw_connect(&gateway);
    gw_talk(three, "HELLO 3\r\n", "%7\r\n$6\r\nserver\r\n");
    gw_read_until(three, "$7\r\nmodules\r\n*0\r\n");
    gw_talk(two, "HSET h a 1 b 2\r\n", ":2\r\n");
    gw_talk(two, "HGETALL h\r\n",
            "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n");
    gw_talk(three, "HGETALL h\r\n",
            "%2\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n");
    gw_talk(two, "GET no\r\nSADD s x\r\nSMEMBERS s\r\n",
            "$-1\r\n:1\r\n*1\r\n$1\r\nx\r\n");
    gw_talk(three, "GET no\r\nSMEMBERS s\r\n", "_\r\n~1\r\n$1\r\nx\r\n");
    gw_talk(two,
            "ZADD z 1.5 a 2 b\r\nZSCORE z a\r\nZRANGE z 0 -1 WITHSCORES\r\n",
            ":2\r\n$3\r\n1.5\r\n"
            "*4\r\n$1\r\na\r\n$3\r\n1.5\r\n$1\r\nb\r\n$1\r\n2\r\n");
    gw_talk(three, "ZSCORE z a\r\nZRANGE z 0 0 WITHSCORES\r\n",
            ",1.5\r\n*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n");
    gw_talk(two, "XADD x 1-1 f v\r\nXREAD STREAMS x 0\r\n",
            "$3\r\n1-1\r\n*1\r\n*2\r\n$1\r\nx\r\n"
            "*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    gw_talk(two, "BLPOP no 0.05\r\n", "*-1\r\n");
    gw_talk(three, "BLPOP no 0.05\r\n", "_\r\n");
    gw_talk(two, "MULTI\r\nZRANGE z 0 0 WITHSCORES\r\nHGETALL h\r\nEXEC\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n"
            "*2\r\n$1\r\na\r\n$3\r\n1.5\r\n"
            "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n");
    gw_talk(two, "EVAL 'redis.setresp(3); return true' 0\r\n", ":1\r\n");
    gw_talk(three, "EVAL 'redis.setresp(3); return true' 0\r\n", "#t\r\n");
    gw_talk(three, "HELLO 2\r\n", "*14\r\n");
    gw_read_until(three, "$7\r\nmodules\r\n*0\r\n");
    gw_talk(three, "GET no\r\n", "$-1\r\n");
    close(two);
    close(three);
}
END_TEST

/* ---- transactions ---- */

START_TEST(test_multi_and_exec)
{
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "MULTI\r\n", "+OK\r\n");
    gw_talk(fd, "SET k 1\r\n", "+QUEUED\r\n");
    /* Nothing is executed before EXEC, nor seen by others. */
    ck_assert_str_eq(e2e_redis_ask(&redis, "EXISTS k"), ":0\r\n");
    gw_talk(fd, "INCR k\r\nLPUSH k x\r\nEXEC\r\nGET k\r\n",
            "+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n:2\r\n-WRONGTYPE");
    gw_read_until(fd, "$1\r\n2\r\n");
    gw_talk(fd, "MULTI\r\nEXEC\r\n", "+OK\r\n*0\r\n");
    gw_talk(fd, "MULTI\r\nSET k 9\r\nDISCARD\r\nGET k\r\n",
            "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n2\r\n");
    gw_talk(fd, "EXEC\r\nDISCARD\r\n",
            "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n");
    gw_talk(fd, "MULTI\r\nMULTI\r\nWATCH k\r\nINCR k\r\nEXEC\r\n",
            "+OK\r\n-ERR MULTI calls can not be nested\r\n"
            "-ERR WATCH inside MULTI is not allowed\r\n"
            "+QUEUED\r\n*1\r\n:3\r\n");
    gw_talk(fd, "MULTI\r\nBLPOP none 0\r\nPING\r\nEXEC\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*-1\r\n+PONG\r\n");
    /* A connection that ends within MULTI leaves nothing. */
    gw_talk(fd, "MULTI\r\nSET k lost\r\n", "+OK\r\n+QUEUED\r\n");
    close(fd);
    fd = gw_connect(&gateway);
    gw_talk(fd, "GET k\r\n", "$1\r\n3\r\n");
    ck_assert_uint_eq(gw_counter(&gateway, "transactions"), 3);
}
END_TEST

START_TEST(test_a_bad_command_spoils_the_transaction)
{
    static const char abort[] = "-EXECABORT Transaction discarded because of "
                                "previous errors.\r\n";
    int fd = gw_begin(_i, NULL, NULL);
    gw_talk(fd, "MULTI\r\nSET k 1\r\nNONSENSE a b\r\n",
            "+OK\r\n+QUEUED\r\n-ERR unknown command 'NONSENSE'");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "SET k 2\r\nEXEC\r\n", "+QUEUED\r\n");
    gw_expect(fd, abort);
    gw_talk(fd, "MULTI\r\nGET\r\nEXEC\r\n",
            "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n");
    gw_expect(fd, abort);
    gw_talk(fd, "MULTI\r\nSELECT 0\r\n", "+OK\r\n-ERR 'SELECT' belongs");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "EXEC\r\n", abort);
    gw_talk(fd, "MULTI\r\nSUBSCRIBE x\r\n", "+OK\r\n-ERR 'SUBSCRIBE' has");
    gw_read_until(fd, "\r\n");
    gw_talk(fd, "EXEC\r\nGET k\r\n", abort);
    gw_expect(fd, "$-1\r\n");
    close(fd);
}
END_TEST

/* Two clients count up in transactions of two steps; nobody sees a half. */
START_TEST(test_transactions_do_not_mix)
{
    enum { ROUNDS = 200 };
    int a = gw_begin(_i, NULL, NULL), b = gw_connect(&gateway);
    for (int i = 0; i < ROUNDS; i++) {
        char want[100];
        gw_send(a, "MULTI\r\nINCR x\r\nINCR x\r\nEXEC\r\n");
        gw_send(b, "MULTI\r\nGET x\r\nGET x\r\nEXEC\r\n");
        snprintf(want, sizeof(want),
                 "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:%d\r\n:%d\r\n", 2 * i + 1,
                 2 * i + 2);
        gw_expect(a, want);
        int before = 2 * i, after = 2 * i + 2;
        gw_expect(b, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n");
        char seen[32];
        const char *text = i == 0 ? "$-1\r\n" : NULL;
        /* Both the same, and even. */
        snprintf(seen, sizeof(seen), "%d", before);
        char one[64], two[64];
        snprintf(one, sizeof(one), "$%zu\r\n%s\r\n", strlen(seen), seen);
        if (text != NULL)
            snprintf(one, sizeof(one), "%s", text);
        snprintf(seen, sizeof(seen), "%d", after);
        snprintf(two, sizeof(two), "$%zu\r\n%s\r\n", strlen(seen), seen);
        char head[2] = "";
        char got[64] = "";
        size_t n = 0;
        for (int lines = 0; lines < 2;) {
            gw_read_bytes(b, head, 1);
            got[n++] = head[0];
            if (head[0] == '\n') {
                lines++;
                if (lines == 1 && strncmp(got, "$-1", 3) == 0)
                    lines = 2;
            }
        }
        got[n] = '\0';
        ck_assert_msg(strcmp(got, one) == 0 || strcmp(got, two) == 0, "%s",
                      got);
        gw_expect(b, got);
    }
    close(a);
    close(b);
}
END_TEST

/* ---- starting ---- */

START_TEST(test_options_that_are_wrong)
{
    char file[256], lock[256];
    snprintf(file, sizeof(file), "%s", support_path("file"));
    snprintf(lock, sizeof(lock), "%s", support_path("file.lock"));
    support_write_file(AT_FDCWD, file, "of somebody");
    const struct {
        const char *argv[6];
        const char *says;
    } cases[] = {
        {{"mqredis-gateway"}, "nowhere to listen: give --socket PATH, or"},
        {{"mqredis-gateway", "--port", "x"},
         "--port 'x': a number from 0 to 65535"},
        {{"mqredis-gateway", "--port", "0", "--bind", "0.0.0.0"},
         "--bind '0.0.0.0': only loopback addresses"},
        {{"mqredis-gateway", "--bind", "::", "--port", "0"},
         "--bind '::': only loopback addresses"},
        {{"mqredis-gateway", "--mode", "9", "--port", "0"}, "--mode '9'"},
        {{"mqredis-gateway", "--nonsense"}, "unknown option '--nonsense'"},
        {{"mqredis-gateway", "--port"}, "--port needs a value"},
        {{"mqredis-gateway", "--max-clients", "0"}, "--max-clients '0'"},
        {{"mqredis-gateway", "--channel", "a b", "--port", "0"}, "a b"},
        {{"mqredis-gateway", "--group", "no-such-group"}, "no such group"},
        {{"mqredis-gateway", "--password-file", "/nonexistent"},
         "--password-file '/nonexistent'"},
        {{"mqredis-gateway", "--socket", file}, "exists and is no socket"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct e2e_output out;
        e2e_run(&out, cases[i].argv);
        ck_assert_msg(strstr(out.text, cases[i].says) != NULL, "%zu: %s", i,
                      out.text);
        ck_assert_uint_eq(e2e_lines(out.text), 1);
        ck_assert_int_eq(out.status, 64);
    }
    ck_assert_int_ne(access(lock, F_OK), 0);
}
END_TEST

START_TEST(test_help_and_version)
{
    struct e2e_output out;
    const char *const help[] = {"mqredis-gateway", "--help", NULL};
    e2e_run(&out, help);
    ck_assert_int_eq(out.status, 0);
    ck_assert_ptr_nonnull(strstr(out.text, "--query-buffer BYTES"));
    const char *const version[] = {"mqredis-gateway", "-V", NULL};
    e2e_run(&out, version);
    ck_assert_ptr_nonnull(strstr(out.text, "mqredis-gateway "));
}
END_TEST

/* Every option has its item in the manual. */
START_TEST(test_the_manual_knows_every_option)
{
    struct e2e_output out;
    const char *const help[] = {"mqredis-gateway", "--help", NULL};
    static char manual[65536];
    FILE *f = fopen("docs/man/mqredis-gateway.1", "r");
    ck_assert_ptr_nonnull(f);
    manual[fread(manual, 1, sizeof(manual) - 1, f)] = '\0';
    fclose(f);
    e2e_run(&out, help);
    int count = 0;
    for (char *at = out.text; (at = strstr(at, "\n  --")) != NULL; at += 5) {
        char item[64];
        snprintf(item, sizeof(item), " -%.*s", (int)strcspn(at + 5, " "),
                 at + 5);
        ck_assert_msg(strstr(manual, item) != NULL, "no item for '%s'", item);
        count++;
    }
    ck_assert_int_gt(count, 15);
}
END_TEST

START_TEST(test_the_socket_is_for_its_owner)
{
    struct stat st;
    close(gw_begin(E2E_MQREDIS, NULL, "--port 0"));
    ck_assert_int_eq(stat(gateway.path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    int fd = gw_connect_tcp(&gateway);
    gw_talk(fd, "PING\r\n", "+PONG\r\n");
    close(fd);
    ck_assert_int_eq(gw_stop(&gateway), 0);
    /* Root may give it any group, others their own. */
    gid_t group = support_root_of_many() ? 1 : getegid();
    char options[64];
    snprintf(options, sizeof(options), "--mode 660 --group %u",
             (unsigned)group);
    gw_start(&gateway, manager.channel, options);
    ck_assert_int_eq(stat(gateway.path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0660);
    ck_assert_uint_eq(st.st_gid, group);
}
END_TEST

static Suite *gateway_suite(void)
{
    Suite *s = suite_create("gateway");
    static const char *const names[] = {"commands", "session", "protocols",
                                        "transactions", "start"};
    TCase *t[5];
    for (size_t i = 0; i < 5; i++) {
        t[i] = support_case(s, names[i], 60);
        tcase_add_checked_fixture(t[i], NULL, e2e_stop_all);
    }
    e2e_add(t[0], test_commands_as_arrays_and_as_lines);
    e2e_add(t[0], test_a_pipeline_is_answered_in_its_order);
    e2e_add(t[0], test_any_fragmentation);
    e2e_add(t[0], test_large_values_pass);
    e2e_add(t[0], test_what_is_no_command_ends_the_connection);
    e2e_add(t[1], test_client_select_quit);
    e2e_add(t[1], test_select_of_another_database);
    e2e_add(t[1], test_client_reply);
    e2e_add(t[1], test_requirepass);
    e2e_add(t[1], test_auth_without_a_password);
    e2e_add(t[1], test_what_the_manager_refuses_says_so);
    e2e_add(t[2], test_resp3_is_refused_where_replies_are_resp2);
    tcase_add_test(t[2], test_both_protocols_side_by_side);
    e2e_add(t[3], test_multi_and_exec);
    e2e_add(t[3], test_a_bad_command_spoils_the_transaction);
    e2e_add(t[3], test_transactions_do_not_mix);
    tcase_add_test(t[4], test_options_that_are_wrong);
    tcase_add_test(t[4], test_help_and_version);
    tcase_add_test(t[4], test_the_manual_knows_every_option);
    tcase_add_test(t[4], test_the_socket_is_for_its_owner);
    return s;
}

int main(void)
{
    return support_run(gateway_suite());
}
