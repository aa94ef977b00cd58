/* Splitting a line as redis-cli does. */
#include "ipc/quote.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

#define ARGS 8

struct split_case {
    const char *line;
    const char *args[ARGS + 1];
};

static const struct split_case good[] = {
    {"", {NULL}},
    {" \t\r\n\v\f ", {NULL}},
    {"PING", {"PING"}},
    {"  SET  a\tb \r\n", {"SET", "a", "b"}},
    {"\"\"", {""}},
    {"'' \"\"", {"", ""}},
    {"\"a b\" 'c d'", {"a b", "c d"}},
    {"\"\\n\\r\\t\\b\\a\"", {"\n\r\t\b\a"}},
    {"\"\\x41\\x7a\\xFf\"", {"Az\xff"}},
    {"\"\\x4\" \"\\xg1\" \"\\x\"", {"x4", "xg1", "x"}},
    {"\"\\\"\\\\\\q\"", {"\"\\q"}},
    {"'\\'' '\\n' '\"'", {"'", "\\n", "\""}},
    {"\"it's\"", {"it's"}},
    {"a\"b c\" d'e'", {"ab c", "de"}},
    {"a\\n \\x41 \\", {"a\\n", "\\x41", "\\"}},
    {"a\vb \vc", {"a\vb", "c"}},
    {"\"a\"\vb", {"a", "b"}},
    {"sm\xc3\xb8rrebr\xc3\xb8"
     "d",
     {"sm\xc3\xb8rrebr\xc3\xb8"
      "d"}},
    {"1 2 3 4 5 6 7 8", {"1", "2", "3", "4", "5", "6", "7", "8"}},
};

static const char *const bad[] = {
    "\"",      "'",       "\"a",     "'a",    "a\"",  "\"a\"b", "'a'b",
    "\"a\"'b", "a \"b\\", "\"a\\\"", "'a\\'", "''''", "\"\"\"", "GET \"a",
};

/* Splits a copy of exactly the line's size, so that a sanitizer sees a byte
 * read or written beyond it. */
static enum err split(const char *line, size_t len, char **copy,
                      struct resp_arg *argv, size_t max, size_t *argc)
{
    *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(*copy);
    memcpy(*copy, line, len);
    return quote_split(*copy, len, argv, max, argc);
}

START_TEST(test_splits)
{
    const struct split_case *c = &good[_i];
    struct resp_arg argv[ARGS];
    size_t argc = 99;
    char *copy;
    ck_assert_int_eq(split(c->line, strlen(c->line), &copy, argv, ARGS, &argc),
                     ERR_OK);
    size_t want = 0;
    for (; c->args[want] != NULL; want++) {
        ck_assert_uint_lt(want, argc);
        ck_assert_uint_eq(argv[want].len, strlen(c->args[want]));
        ck_assert_int_eq(memcmp(argv[want].data, c->args[want], argv[want].len),
                         0);
    }
    ck_assert_uint_eq(argc, want);
    free(copy);
}
END_TEST

START_TEST(test_refuses)
{
    struct resp_arg argv[ARGS];
    size_t argc = 99;
    char *copy;
    ck_assert_int_eq(split(bad[_i], strlen(bad[_i]), &copy, argv, ARGS, &argc),
                     ERR_INVALID);
    ck_assert_uint_eq(argc, 99);
    free(copy);
}
END_TEST

START_TEST(test_refuses_more_than_max)
{
    struct resp_arg argv[2];
    size_t argc = 99;
    char *copy;
    ck_assert_int_eq(split("a b c", 5, &copy, argv, 2, &argc), ERR_LIMIT);
    free(copy);
    ck_assert_int_eq(split("a b  ", 5, &copy, argv, 2, &argc), ERR_OK);
    ck_assert_uint_eq(argc, 2);
    free(copy);
    ck_assert_int_eq(split("  ", 2, &copy, argv, 0, &argc), ERR_OK);
    ck_assert_uint_eq(argc, 0);
    free(copy);
}
END_TEST

START_TEST(test_keeps_zero_bytes)
{
    struct resp_arg argv[2];
    size_t argc;
    char *copy;
    ck_assert_int_eq(split("a\0b \"\\x00\"", 10, &copy, argv, 2, &argc),
                     ERR_OK);
    ck_assert_uint_eq(argc, 2);
    ck_assert_mem_eq(argv[0].data, "a\0b", 3);
    ck_assert_uint_eq(argv[0].len, 3);
    ck_assert_mem_eq(argv[1].data, "\0", 1);
    ck_assert_uint_eq(argv[1].len, 1);
    free(copy);
}
END_TEST

/* Every line cut short anywhere is split or refused, never read beyond. */
START_TEST(test_cut_lines)
{
    const char *line = good[_i].line;
    for (size_t len = 0; len <= strlen(line); len++) {
        struct resp_arg argv[ARGS];
        size_t argc = 0;
        char *copy;
        enum err e = split(line, len, &copy, argv, ARGS, &argc);
        ck_assert(e == ERR_OK || e == ERR_INVALID);
        for (size_t i = 0; i < argc; i++) {
            ck_assert(argv[i].data >= copy);
            ck_assert(argv[i].data + argv[i].len <= copy + len);
        }
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quote");
    TCase *t = tcase_create("split");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_splits, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_loop_test(t, test_refuses, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(t, test_cut_lines, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_test(t, test_refuses_more_than_max);
    tcase_add_test(t, test_keeps_zero_bytes);
    return support_run(s);
}
