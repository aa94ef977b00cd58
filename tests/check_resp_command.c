/* RESP commands: walking over those of a request, and encoding. Every table of
 * what is refused is also cut short at every byte. */
#include "ipc/resp.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bytes.h"
#include "tests/support_run.h"

/* ---- commands ---- */

struct request_case {
    const char *data;
    size_t len;
    const char *walk; /* what walk_request writes */
};

static const struct request_case requests[] = {
    {BYTES(""), ""},
    {BYTES("*1\r\n$4\r\nPING\r\n"), "(PING)"},
    {BYTES("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"), "(SET|k|)"},
    {BYTES("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nINFO\r\n"),
     "(GET|a)(INFO)"},
    {BYTES("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n@70000\r\n"), "(SET|k|@70000)"},
    {BYTES("*2\r\n@536870912\r\n@1\r\n"), "(@536870912|@1)"},
    {BYTES("*2\r\n$4\r\nECHO\r\n$9\r\n$1\r\n*1\r\n\n\r\n"),
     "(ECHO|$1\r\n*1\r\n\n)"},
};

static const struct bytes bad_requests[] = {
    {BYTES("PING\r\n")},
    {BYTES("\r\n")},
    {BYTES("*")},
    {BYTES("*1")},
    {BYTES("*1\r")},
    {BYTES("*1\n$4\r\nPING\r\n")},
    {BYTES("*0\r\n")},
    {BYTES("*-1\r\n")},
    {BYTES("*-0\r\n")},
    {BYTES("*01\r\n$4\r\nPING\r\n")},
    {BYTES("*+1\r\n$4\r\nPING\r\n")},
    {BYTES("* 1\r\n$4\r\nPING\r\n")},
    {BYTES("*1 \r\n$4\r\nPING\r\n")},
    {BYTES("*?\r\n")},
    {BYTES("*\r\n")},
    {BYTES("*1048577\r\n")}, /* RESP_ARGS_MAX + 1 */
    {BYTES("*99999999999999999999\r\n")},
    {BYTES("*1\r\n")},
    {BYTES("*1\r\n+PING\r\n")},
    {BYTES("*1\r\n:1\r\n")},
    {BYTES("*1\r\n*1\r\n$4\r\nPING\r\n")},
    {BYTES("*1\r\n$04\r\nPING\r\n")},
    {BYTES("*1\r\n$-0\r\n\r\n")},
    {BYTES("*1\r\n$-1\r\n")},
    {BYTES("*1\r\n$+4\r\nPING\r\n")},
    {BYTES("*1\r\n$\r\n\r\n")},
    {BYTES("*1\r\n$4PING\r\n")},
    {BYTES("*1\r\n$4\rxPING\r\n")},
    {BYTES("*1\r\n$536870913\r\n")}, /* RESP_BULK_MAX + 1 */
    {BYTES("*1\r\n$18446744073709551615\r\n")},
    {BYTES("*1\r\n$9223372036854775807\r\n")},
    {BYTES("*1\r\n$4\r\nPINGxx")},
    {BYTES("*1\r\n$4\r\nPING\rx")},
    {BYTES("*1\r\n$4\r\nPIN\r\n\r")},
    {BYTES("*1\r\n$3\r\nPING\r\n")},
    {BYTES("*1\r\n$4\r\nPING\r\n\r\n")},
    {BYTES("*1\r\n$4\r\nPING\r\nx")},
    {BYTES("*1\r\n$4\r\nPING\r\n*1\r\n")},
    {BYTES("*2\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n")},
    {BYTES("*1\r\n@0\r\n")},
    {BYTES("*1\r\n@-1\r\n")},
    {BYTES("*1\r\n@01\r\n")},
    {BYTES("*1\r\n@536870913\r\n")},
    {BYTES("*1\r\n@4\r\nPING\r\n")},
    {BYTES("*1\r\n@4\r\n\r\n")},
    {BYTES("*1\r\n@4")},
};

/* Walks over all commands and writes what they are: "(GET|key)". */
static enum err walk_request(const char *data, size_t len, char *walk)
{
    struct resp_request r;
    uint32_t argc;
    enum err e;
    resp_request_init(&r, data, len);
    while ((e = resp_request_command(&r, &argc)) == ERR_OK) {
        *walk++ = '(';
        for (uint32_t i = 0; i < argc; i++) {
            struct resp_arg arg;
            e = resp_request_arg(&r, &arg);
            if (e != ERR_OK)
                return e;
            if (arg.data == NULL)
                walk += sprintf(walk, "@%zu", arg.len);
            else
                memcpy(walk, arg.data, arg.len), walk += arg.len;
            *walk++ = i + 1 < argc ? '|' : ')';
        }
    }
    *walk = '\0';
    return e;
}

START_TEST(test_request_walks)
{
    const struct request_case *c = &requests[_i];
    char walk[256];
    char *copy = copy_of(c->data, c->len);
    ck_assert_int_eq(walk_request(copy, c->len, walk), ERR_CLOSED);
    ck_assert_str_eq(walk, c->walk);
    free(copy);
}
END_TEST

START_TEST(test_request_refuses)
{
    const struct bytes *b = &bad_requests[_i];
    char walk[256];
    char *copy = copy_of(b->data, b->len);
    ck_assert_int_eq(walk_request(copy, b->len, walk), ERR_PROTO);
    free(copy);
}
END_TEST

/* Cut anywhere but between two commands, a message is refused. */
START_TEST(test_request_refuses_cut)
{
    const char data[] = "*2\r\n$3\r\nGET\r\n@12\r\n*1\r\n$4\r\nPING\r\n";
    for (size_t cut = 0; cut < sizeof(data); cut++) {
        char walk[256];
        char *copy = copy_of(data, cut);
        bool whole = cut == 0 || cut == 18 || cut == sizeof(data) - 1;
        ck_assert_int_eq(walk_request(copy, cut, walk),
                         whole ? ERR_CLOSED : ERR_PROTO);
        free(copy);
    }
}
END_TEST

START_TEST(test_request_reports_misuse)
{
    struct resp_request r;
    struct resp_arg arg;
    uint32_t argc;
    resp_request_init(&r, BYTES("*1\r\n$4\r\nPING\r\n"));
    ck_assert_int_eq(resp_request_arg(&r, &arg), ERR_INVALID);
    ck_assert_int_eq(resp_request_command(&r, &argc), ERR_OK);
    ck_assert_int_eq(resp_request_command(&r, &argc), ERR_INVALID);
    ck_assert_int_eq(resp_request_arg(&r, &arg), ERR_OK);
    ck_assert_int_eq(resp_request_arg(&r, &arg), ERR_INVALID);
    ck_assert_int_eq(resp_request_command(&r, &argc), ERR_CLOSED);
}
END_TEST

/* ---- encoding ---- */

START_TEST(test_put_command)
{
    struct resp_arg argv[12] = {
        {BYTES("SET")}, {"a\0b", 3}, {"", 0}, {NULL, 0}, {NULL, 70000}};
    for (int i = 5; i < 12; i++)
        argv[i] = (struct resp_arg){"0123456789", 10};
    static const char want[] =
        "*5\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n$0\r\n\r\n@70000\r\n";
    size_t size = resp_command_size(5, argv);
    ck_assert_uint_eq(size, sizeof(want) - 1);
    char *out = malloc(size);
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(resp_put_command(out, 5, argv), size);
    ck_assert_mem_eq(out, want, size);
    free(out);

    size = resp_command_size(12, argv);
    out = malloc(size);
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(resp_put_command(out, 12, argv), size);
    ck_assert_mem_eq(out, "*12\r\n", 5);
    ck_assert_mem_eq(out + size - 17, "$10\r\n0123456789\r\n", 17);
    free(out);
}
END_TEST

START_TEST(test_command_size_overflow)
{
    struct resp_arg argv[2] = {{"", SIZE_MAX - 2}, {"", 1}};
    ck_assert_uint_eq(resp_command_size(1, argv), SIZE_MAX);
    argv[0].len = SIZE_MAX / 2;
    argv[1].len = SIZE_MAX / 2;
    ck_assert_uint_eq(resp_command_size(2, argv), SIZE_MAX);
}
END_TEST

START_TEST(test_put_number)
{
    static const struct {
        int64_t n;
        const char *text;
    } cases[] = {
        {0, "0"},
        {9, "9"},
        {10, "10"},
        {-1, "-1"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        char *out = malloc(strlen(cases[i].text)); /* and not a byte more */
        ck_assert_ptr_nonnull(out);
        size_t len = resp_put_number(out, cases[i].n);
        ck_assert_uint_eq(len, strlen(cases[i].text));
        ck_assert_mem_eq(out, cases[i].text, len);
        free(out);
    }
    char header[RESP_HEADER_MAX];
    ck_assert_uint_eq(resp_put_header(header, ':', INT64_MIN), 23);
    ck_assert_mem_eq(header, ":-9223372036854775808\r\n", 23);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resp_command");
    TCase *t = tcase_create("request");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_request_walks, 0, COUNT(requests));
    tcase_add_loop_test(t, test_request_refuses, 0, COUNT(bad_requests));
    tcase_add_test(t, test_request_refuses_cut);
    tcase_add_test(t, test_request_reports_misuse);

    t = tcase_create("put");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_put_command);
    tcase_add_test(t, test_command_size_overflow);
    tcase_add_test(t, test_put_number);

    return support_run(s);
}
