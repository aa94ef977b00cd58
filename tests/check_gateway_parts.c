/* The parts of mqredis-gateway that touch no socket. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"
#include "workers/gateway/gateway.h"

/* ---- parsing ---- */

/* Takes all commands of `text`, given in pieces of `piece` bytes as they would
 * arrive, and writes them down: "name/argc/len;" for each. */
static const char *parse_all(const char *text, size_t len, size_t piece,
                             bool stranger)
{
    static char out[4096];
    struct parser p = {.at = 0};
    size_t n = 0, at = 0, have = 0;
    out[0] = '\0';
    while (at < len || have < len) {
        struct command c;
        enum parse_result result =
            parse_next(&p, text + at, have - at, stranger, &c);
        if (result == PARSE_MORE) {
            if (have == len)
                break;
            ck_assert_uint_gt(parse_missing(&p, have - at), 0);
            have = have + piece < len ? have + piece : len;
            continue;
        }
        if (result == PARSE_BROKEN) {
            n += (size_t)snprintf(out + n, sizeof(out) - n, "!%s", c.name);
            break;
        }
        if (result == PARSE_COMMAND) {
            n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s/%u/%zu;",
                                  (int)c.name_len, c.name, c.argc, c.len);
            /* What is passed on is canonical. */
            struct resp_request walk;
            struct resp_arg arg;
            uint32_t argc;
            resp_request_init(&walk, c.data, c.len);
            ck_assert_int_eq(resp_request_command(&walk, &argc), ERR_OK);
            ck_assert_uint_eq(argc, c.argc);
            for (uint32_t i = 0; i < argc; i++)
                ck_assert_int_eq(resp_request_arg(&walk, &arg), ERR_OK);
            ck_assert_int_eq(resp_request_command(&walk, &argc), ERR_CLOSED);
        }
        at += c.used;
        parse_reset(&p);
        if (at == len)
            break;
    }
    parse_reset(&p);
    return out;
}

static const struct {
    const char *text, *seen;
    bool stranger;
} parses[] = {
    {"*1\r\n$4\r\nPING\r\n", "PING/1/14;", false},
    {"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$1\r\nx\r\n", "GET/2/19;x/1/11;",
     false},
    {"*2\r\n$1\r\na\r\n$6\r\n*1\r\n$1\r\n", "a/2/23;", false},
    {"PING\r\nPING\n", "PING/1/14;PING/1/14;", false},
    {"SET \"a b\" 'c'\n", "SET/3/29;", false},
    {"\r\n\n  \r\n*0\r\n*-7\r\nPING\n", "PING/1/14;", false},
    {"*0001\r\n", "!invalid multibulk length", false},
    {"*-0\r\n", "!invalid multibulk length", false},
    {"*1\n$1\nx\n", "!invalid multibulk length", false},
    {"*+1\r\n", "!invalid multibulk length", false},
    {"*123456789012\r\n", "!too big mbulk count string", false},
    {"*1\r\n$01\r\nx\r\n", "!invalid bulk length", false},
    {"*1\r\n$536870913\r\n", "!invalid bulk length", false},
    {"*1\r\n$123456789012\r\n", "!too big bulk count string", false},
    {"*1\r\n+OK\r\n", "!expected '$'", false},
    {"*1\r\n$1\r\nxy\r\n", "!expected CR LF behind a bulk string", false},
    {"GET 'a\n", "!unbalanced quotes in request", false},
    {"*11\r\n", "!unauthenticated multibulk length", true},
    {"*1\r\n$16385\r\n", "!unauthenticated bulk length", true},
    {"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n", "AUTH/2/21;", true},
};

START_TEST(test_parsing_in_pieces_of_any_size)
{
    const char *text = parses[_i].text;
    size_t len = strlen(text);
    for (size_t piece = 1; piece <= len; piece++)
        ck_assert_str_eq(parse_all(text, len, piece, parses[_i].stranger),
                         parses[_i].seen);
}
END_TEST

START_TEST(test_a_line_has_a_bound)
{
    size_t len = PARSE_LINE_MAX + 100;
    char *text = malloc(len);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', len);
    ck_assert_str_eq(parse_all(text, len, 4096, false),
                     "!too big inline request");
    free(text);
}
END_TEST

/* ---- translating ---- */

static const struct {
    const char *from, *two, *three;
    enum command_shape shape;
} replies[] = {
    {"+OK\r\n", "+OK\r\n", "+OK\r\n", SHAPE_PLAIN},
    {":-1\r\n", ":-1\r\n", ":-1\r\n", SHAPE_PLAIN},
    {"-ERR no\r\n", "-ERR no\r\n", "-ERR no\r\n", SHAPE_PLAIN},
    {"$-1\r\n", "$-1\r\n", "_\r\n", SHAPE_PLAIN},
    {"*-1\r\n", "*-1\r\n", "_\r\n", SHAPE_PLAIN},
    {"_\r\n", "$-1\r\n", "_\r\n", SHAPE_PLAIN},
    {"_\r\n", "*-1\r\n", "_\r\n", SHAPE_NULL_ARRAY},
    {"#t\r\n", ":1\r\n", "#t\r\n", SHAPE_PLAIN},
    {"#f\r\n", ":0\r\n", "#f\r\n", SHAPE_PLAIN},
    {",1.5\r\n", "$3\r\n1.5\r\n", ",1.5\r\n", SHAPE_PLAIN},
    {",inf\r\n", "$3\r\ninf\r\n", ",inf\r\n", SHAPE_PLAIN},
    {"(123\r\n", "$3\r\n123\r\n", "(123\r\n", SHAPE_PLAIN},
    {"=7\r\ntxt:a\r\n\r\n", "$3\r\na\r\n\r\n", "=7\r\ntxt:a\r\n\r\n",
     SHAPE_PLAIN},
    {"!5\r\nER\r\nR\r\n", "-ER  R\r\n", "!5\r\nER\r\nR\r\n", SHAPE_PLAIN},
    {"%1\r\n+a\r\n~1\r\n_\r\n", "*2\r\n+a\r\n*1\r\n$-1\r\n",
     "%1\r\n+a\r\n~1\r\n_\r\n", SHAPE_PLAIN},
    {">2\r\n+a\r\n:1\r\n", "*2\r\n+a\r\n:1\r\n", ">2\r\n+a\r\n:1\r\n",
     SHAPE_PLAIN},
    {"*2\r\n$-1\r\n*0\r\n", "*2\r\n$-1\r\n*0\r\n", "*2\r\n_\r\n*0\r\n",
     SHAPE_PLAIN},
    {"|1\r\n+k\r\n*1\r\n:1\r\n:7\r\n", ":7\r\n",
     "|1\r\n+k\r\n*1\r\n:1\r\n:7\r\n", SHAPE_PLAIN},
    {"*2\r\n|1\r\n+k\r\n+v\r\n:7\r\n:8\r\n", "*2\r\n:7\r\n:8\r\n",
     "*2\r\n|1\r\n+k\r\n+v\r\n:7\r\n:8\r\n", SHAPE_PLAIN},
    {"*2\r\n*2\r\n+a\r\n,1\r\n*2\r\n+b\r\n,2\r\n",
     "*4\r\n+a\r\n$1\r\n1\r\n+b\r\n$1\r\n2\r\n",
     "*2\r\n*2\r\n+a\r\n,1\r\n*2\r\n+b\r\n,2\r\n", SHAPE_FLAT},
    {"*2\r\n+a\r\n+b\r\n", "*2\r\n+a\r\n+b\r\n", "*2\r\n+a\r\n+b\r\n",
     SHAPE_FLAT},
    {"*0\r\n", "*0\r\n", "*0\r\n", SHAPE_FLAT},
    {"%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n_\r\n",
     "*2\r\n*2\r\n+a\r\n*1\r\n:1\r\n*2\r\n+b\r\n$-1\r\n",
     "%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n_\r\n", SHAPE_PAIRS},
    {"_\r\n", "*-1\r\n", "_\r\n", SHAPE_PAIRS},
};

START_TEST(test_replies_in_both_protocols)
{
    size_t total = 0;
    struct buffer out;
    for (int resp = 2; resp <= 3; resp++) {
        const char *want = resp == 2 ? replies[_i].two : replies[_i].three;
        buffer_init(&out, &total);
        ck_assert(translate(&out, replies[_i].from, strlen(replies[_i].from),
                            resp, replies[_i].shape));
        ck_assert(buffer_append(&out, "", 1));
        ck_assert_str_eq(buffer_at(&out), want);
        buffer_release(&out);
    }
    ck_assert_uint_eq(total, 0);
}
END_TEST

START_TEST(test_a_transactions_replies_each_have_their_shape)
{
    static const char from[] = "*2\r\n_\r\n*1\r\n*2\r\n+a\r\n,1\r\n";
    static const char shapes[] = {SHAPE_NULL_ARRAY, SHAPE_FLAT};
    size_t total = 0;
    struct buffer out;
    buffer_init(&out, &total);
    ck_assert(translate_exec(&out, from, sizeof(from) - 1, 2, shapes, 2));
    ck_assert(buffer_append(&out, "", 1));
    ck_assert_str_eq(buffer_at(&out), "*2\r\n*-1\r\n*2\r\n+a\r\n$1\r\n1\r\n");
    buffer_release(&out);
    /* One that was aborted. */
    ck_assert(translate_exec(&out, "_\r\n", 3, 2, shapes, 2));
    ck_assert_uint_eq(buffer_len(&out), 5);
    ck_assert(memcmp(buffer_at(&out), "*-1\r\n", 5) == 0);
    buffer_release(&out);
}
END_TEST

/* Rubbish is passed on or cut off, but nothing is read beyond it. */
START_TEST(test_rubbish_is_survived)
{
    static const char rubbish[] = "*9\r\n%1\r\n|2\r\n+a\r\n$5\r\nab";
    size_t total = 0;
    for (size_t len = 1; len < sizeof(rubbish); len++) {
        char *exact = malloc(len);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, rubbish, len);
        struct buffer out;
        for (int shape = SHAPE_PLAIN; shape <= SHAPE_NULL_ARRAY; shape++) {
            buffer_init(&out, &total);
            ck_assert(
                translate(&out, exact, len, 2, (enum command_shape)shape));
            buffer_release(&out);
        }
        free(exact);
    }
}
END_TEST

/* ---- the server's commands ---- */

static const char catalog_reply[] =
    "*3\r\n"
    "*7\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n"
    "*6\r\n$3\r\ndel\r\n:-2\r\n~1\r\n+write\r\n:1\r\n:1\r\n:1\r\n"
    "*10\r\n$6\r\nclient\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n"
    "*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n"
    "*0\r\n*0\r\n";

static enum catalog_verdict judge(const struct catalog *k, const char *line,
                                  char *why)
{
    struct parser p = {.at = 0};
    struct command c;
    ck_assert_int_eq(parse_next(&p, line, strlen(line), false, &c),
                     PARSE_COMMAND);
    why[0] = '\0';
    enum catalog_verdict v = catalog_judge(k, &c, why, 512);
    parse_reset(&p);
    return v;
}

START_TEST(test_what_redis_would_not_queue)
{
    struct catalog k = {.slots = NULL};
    char why[512];
    ck_assert_int_eq(judge(&k, "NONSENSE\n", why), CATALOG_FINE);
    catalog_learn(&k, catalog_reply, sizeof(catalog_reply) - 1);
    ck_assert_ptr_nonnull(k.slots);
    ck_assert_int_eq(judge(&k, "GeT a\n", why), CATALOG_FINE);
    ck_assert_int_eq(judge(&k, "GET\n", why), CATALOG_ARITY);
    ck_assert_str_eq(why, "ERR wrong number of arguments for 'get' command");
    ck_assert_int_eq(judge(&k, "GET a b\n", why), CATALOG_ARITY);
    ck_assert_int_eq(judge(&k, "DEL a b c\n", why), CATALOG_FINE);
    ck_assert_int_eq(judge(&k, "DEL\n", why), CATALOG_ARITY);
    ck_assert_int_eq(judge(&k, "NONSENSE a bc\n", why), CATALOG_UNKNOWN);
    ck_assert_str_eq(why, "ERR unknown command 'NONSENSE', with args beginning "
                          "with: 'a' 'bc' ");
    ck_assert_int_eq(judge(&k, "CLIENT id\n", why), CATALOG_FINE);
    ck_assert_int_eq(judge(&k, "CLIENT ID x\n", why), CATALOG_ARITY);
    ck_assert_str_eq(why,
                     "ERR wrong number of arguments for 'client|id' command");
    ck_assert_int_eq(judge(&k, "CLIENT nope\n", why), CATALOG_UNKNOWN);
    ck_assert_str_eq(why, "ERR unknown subcommand 'nope'. Try CLIENT HELP.");
    ck_assert_int_eq(judge(&k, "CLIENT\n", why), CATALOG_ARITY);
    /* Anything but such a reply: nothing is known any more. */
    for (size_t len = 1; len < sizeof(catalog_reply) - 1; len++) {
        catalog_learn(&k, catalog_reply, len);
        ck_assert_ptr_null(k.slots);
    }
    catalog_learn(&k, "-ERR no\r\n", 9);
    ck_assert_int_eq(judge(&k, "NONSENSE\n", why), CATALOG_FINE);
    catalog_release(&k);
}
END_TEST

/* ---- buffers and names ---- */

START_TEST(test_buffers_count_what_they_hold)
{
    size_t total = 0;
    struct buffer b;
    char data[1000], taken[1000];
    buffer_init(&b, &total);
    unsigned in = 0, out = 0;
    for (size_t i = 0; i < 20000; i++) {
        size_t n = (i * 7919) % sizeof(data);
        for (size_t k = 0; k < n; k++)
            data[k] = (char)in++;
        ck_assert(buffer_append(&b, data, n));
        ck_assert_uint_eq(total, b.cap);
        size_t take = (i * 104729) % (buffer_len(&b) + 1);
        if (take > sizeof(taken))
            take = sizeof(taken);
        if (take > 0)
            memcpy(taken, buffer_at(&b), take);
        buffer_consume(&b, take);
        bool same = true;
        for (size_t k = 0; k < take; k++)
            same = same && taken[k] == (char)out++;
        ck_assert(same);
    }
    buffer_release(&b);
    ck_assert_uint_eq(total, 0);
}
END_TEST

START_TEST(test_names_are_found_in_any_case)
{
    static const struct {
        const char *name;
        int id;
    } names[] = {{"multi", COMMAND_MULTI},
                 {"Multi", COMMAND_MULTI},
                 {"AUTH", COMMAND_AUTH},
                 {"zunion", COMMAND_PASSES},
                 {"xread", COMMAND_BLOCKS_MAYBE},
                 {"HOST:", COMMAND_HTTP},
                 {"WATCH", COMMAND_WATCH},
                 {"unsubscribe", COMMAND_UNSUBSCRIBE},
                 {"GET", -1},
                 {"MULT", -1},
                 {"MULTIX", -1},
                 {"", -1},
                 {"\xe1UTH", -1}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct command_row *row =
            command_find(names[i].name, strlen(names[i].name));
        ck_assert_msg((row == NULL ? -1 : (int)row->id) == names[i].id, "%s",
                      names[i].name);
    }
    ck_assert_ptr_null(command_find("AUT\0", 4));
}
END_TEST

static Suite *parts_suite(void)
{
    Suite *s = suite_create("gateway_parts");
    TCase *t = tcase_create("parts");
    tcase_add_loop_test(t, test_parsing_in_pieces_of_any_size, 0,
                        sizeof(parses) / sizeof(parses[0]));
    tcase_add_test(t, test_a_line_has_a_bound);
    tcase_add_loop_test(t, test_replies_in_both_protocols, 0,
                        sizeof(replies) / sizeof(replies[0]));
    tcase_add_test(t, test_a_transactions_replies_each_have_their_shape);
    tcase_add_test(t, test_rubbish_is_survived);
    tcase_add_test(t, test_what_redis_would_not_queue);
    tcase_add_test(t, test_buffers_count_what_they_hold);
    tcase_add_test(t, test_names_are_found_in_any_case);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return support_run(parts_suite());
}
