/* The library without a manager: formats, the tree of a reply, and what a
 * handle says where nobody serves its channel. */
#include <check.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/version.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "workers/handle.h"

/* ---- formats ---- */

static enum mqredis_status encode(struct encoded *out, const char *format, ...)
{
    struct mqredis_error why = {.text = ""};
    va_list ap;
    va_start(ap, format);
    enum mqredis_status s = encode_format(out, false, format, ap, &why);
    va_end(ap);
    ck_assert((s == MQREDIS_OK) == (why.text[0] == '\0'));
    return s;
}

static void check_encoded(struct encoded *e, const char *expected, size_t len)
{
    ck_assert_uint_eq(e->len, len);
    ck_assert_mem_eq(e->data, expected, len);
    encoded_free(e);
}

#define EXPECT(e, text) check_encoded(e, text, sizeof(text) - 1)

START_TEST(test_format_splits_at_blanks_only_what_it_is_given)
{
    struct encoded e;
    ck_assert_int_eq(encode(&e, "  SET  %s   %s ", "a key", " v "), MQREDIS_OK);
    EXPECT(&e, "*3\r\n$3\r\nSET\r\n$5\r\na key\r\n$3\r\n v \r\n");
    ck_assert_int_eq(encode(&e, "SET k:%d:%s x%%y", -5, "z"), MQREDIS_OK);
    EXPECT(&e, "*3\r\n$3\r\nSET\r\n$6\r\nk:-5:z\r\n$3\r\nx%y\r\n");
}
END_TEST

START_TEST(test_format_keeps_every_byte_and_empty_arguments)
{
    struct encoded e;
    ck_assert_int_eq(
        encode(&e, "SET %b %b", "\0\r\n\xff", (size_t)4, "", (size_t)0),
        MQREDIS_OK);
    EXPECT(&e, "*3\r\n$3\r\nSET\r\n$4\r\n\0\r\n\xff\r\n$0\r\n\r\n");
    ck_assert_int_eq(encode(&e, "SET k %s", ""), MQREDIS_OK);
    EXPECT(&e, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
}
END_TEST

START_TEST(test_format_knows_the_sizes_of_numbers)
{
    struct encoded e;
    ck_assert_int_eq(encode(&e, "%hhd %hu %i %ld %llu", 300, 70000, INT_MIN,
                            LONG_MAX, ULLONG_MAX),
                     MQREDIS_OK);
    EXPECT(&e, "*5\r\n$2\r\n44\r\n$4\r\n4464\r\n$11\r\n-2147483648\r\n"
               "$19\r\n9223372036854775807\r\n$20\r\n18446744073709551615\r\n");
    ck_assert_int_eq(encode(&e, "%zu %jd %c %.2f %g %e", (size_t)7,
                            (intmax_t)-9, 'x', 1.005, 0.5, 100.0),
                     MQREDIS_OK);
    EXPECT(&e, "*6\r\n$1\r\n7\r\n$2\r\n-9\r\n$1\r\nx\r\n$4\r\n1.00\r\n"
               "$3\r\n0.5\r\n$12\r\n1.000000e+02\r\n");
    ck_assert_int_eq(encode(&e, "%hd %lld %td %zd %hhu %lu %ju", 70000,
                            LLONG_MIN, (ptrdiff_t)-1, (ssize_t)-2, 300,
                            ULONG_MAX, UINTMAX_MAX),
                     MQREDIS_OK);
    EXPECT(&e, "*7\r\n$4\r\n4464\r\n$20\r\n-9223372036854775808\r\n"
               "$2\r\n-1\r\n$2\r\n-2\r\n$2\r\n44\r\n"
               "$20\r\n18446744073709551615\r\n"
               "$20\r\n18446744073709551615\r\n");
    ck_assert_int_eq(encode(&e, "%u %%", UINT_MAX), MQREDIS_OK);
    EXPECT(&e, "*2\r\n$10\r\n4294967295\r\n$1\r\n%\r\n");
    /* More words than most commands have. */
    ck_assert_int_eq(encode(&e, "1 2 3 4 5 6 7 8 9 a b c d e f g %s", "h"),
                     MQREDIS_OK);
    ck_assert_uint_eq(e.len, 5 + 17 * 7);
    ck_assert_mem_eq(e.data + e.len - 7, "$1\r\nh\r\n", 7);
    encoded_free(&e);
}
END_TEST

START_TEST(test_format_refuses_what_it_does_not_know)
{
    struct encoded e;
    static const char *const wrong[] = {
        "GET %n",  "GET %5d",  "GET %",    "GET %ls", "GET %.3d", "GET %*s",
        "GET %lf", "GET %.2s", "GET %.1c", "",        "   "};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(encode(&e, wrong[i], 1, 2, 3) == MQREDIS_INVALID,
                      "'%s' was taken", wrong[i]);
        encoded_free(&e);
    }
    ck_assert_int_eq(encode(&e, "GET %s", (char *)NULL), MQREDIS_INVALID);
    encoded_free(&e);
    ck_assert_int_eq(encode(&e, "GET %b", (char *)NULL, (size_t)1),
                     MQREDIS_INVALID);
    encoded_free(&e);
}
END_TEST

START_TEST(test_argv_holds_many_and_long_arguments)
{
    enum { COUNT = 1000, LONG = 100000 };
    static const char *argv[COUNT];
    static size_t len[COUNT];
    char *text = malloc(LONG);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', LONG);
    for (size_t i = 0; i < COUNT; i++) {
        argv[i] = text;
        len[i] = i % 3;
    }
    len[COUNT - 1] = LONG;
    struct encoded e;
    struct mqredis_error why;
    ck_assert_int_eq(encode_argv(&e, true, COUNT, argv, len, &why), MQREDIS_OK);
    struct resp_request r;
    uint32_t argc;
    resp_request_init(&r, e.data, e.len);
    ck_assert_int_eq(resp_request_command(&r, &argc), ERR_OK);
    ck_assert_uint_eq(argc, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct resp_arg arg;
        ck_assert_int_eq(resp_request_arg(&r, &arg), ERR_OK);
        ck_assert_uint_eq(arg.len, len[i]);
    }
    encoded_free(&e);
    ck_assert_int_eq(encode_argv(&e, true, 0, argv, len, &why),
                     MQREDIS_INVALID);
    encoded_free(&e);
    free(text);
}
END_TEST

/* Redis takes 512 MB; what is longer is not even looked at. */
START_TEST(test_an_argument_longer_than_redis_takes)
{
    const char *argv[] = {"SET", "k", "v"};
    const size_t len[] = {3, 1, (size_t)RESP_BULK_MAX + 1};
    struct encoded e;
    struct mqredis_error why;
    for (int whole = 0; whole < 2; whole++) {
        ck_assert_int_eq(encode_argv(&e, whole, 3, argv, len, &why),
                         MQREDIS_TOO_BIG);
        ck_assert_ptr_nonnull(strstr(why.text, "536870913 bytes"));
        encoded_free(&e);
    }
}
END_TEST

/* ---- trees ---- */

/* A request to which `raw` is the answer. */
static struct mqredis_reply *reply_of(const char *raw, size_t len)
{
    struct mqredis_request r;
    request_init(&r, NULL);
    ck_assert(answer_reserve(&r.one, len + 1));
    memcpy(r.one.data, raw, len);
    r.one.len = len;
    struct mqredis_reply *reply = reply_of_request(&r);
    request_clear(&r);
    ck_assert_ptr_nonnull(reply);
    return reply;
}

#define REPLY(text) reply_of(text, sizeof(text) - 1)

START_TEST(test_reply_has_every_scalar_type)
{
    static const struct {
        const char *raw;
        enum mqredis_type type;
        const char *str;
        int64_t integer;
    } rows[] = {
        {"+OK\r\n", MQREDIS_STATUS, "OK", 0},
        {"-ERR no\r\n", MQREDIS_ERROR, "ERR no", 0},
        {"!6\r\nERR no\r\n", MQREDIS_ERROR, "ERR no", 0},
        {":-42\r\n", MQREDIS_INTEGER, NULL, -42},
        {"$3\r\nbar\r\n", MQREDIS_STRING, "bar", 0},
        {"$0\r\n\r\n", MQREDIS_STRING, "", 0},
        {"$-1\r\n", MQREDIS_NIL, NULL, 0},
        {"*-1\r\n", MQREDIS_NIL, NULL, 0},
        {"_\r\n", MQREDIS_NIL, NULL, 0},
        {"#t\r\n", MQREDIS_BOOL, NULL, 1},
        {"#f\r\n", MQREDIS_BOOL, NULL, 0},
        {"(123456789012345678901\r\n", MQREDIS_BIGNUM, "123456789012345678901",
         0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mqredis_reply *r = reply_of(rows[i].raw, strlen(rows[i].raw));
        ck_assert_msg(r->type == rows[i].type, "%s", rows[i].raw);
        ck_assert_int_eq(r->status, MQREDIS_OK);
        ck_assert_int_eq(r->integer, rows[i].integer);
        if (rows[i].str == NULL) {
            ck_assert_ptr_null(r->str);
        } else {
            ck_assert_str_eq(r->str, rows[i].str);
            ck_assert_uint_eq(r->len, strlen(rows[i].str));
        }
        mqredis_free(r);
    }
}
END_TEST

START_TEST(test_reply_reads_reals_whatever_the_locale)
{
    /* Where this locale is not installed, it stays the same test. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    struct mqredis_reply *r = REPLY(",3.25\r\n");
    ck_assert_int_eq(r->type, MQREDIS_DOUBLE);
    ck_assert(r->real > 3.24 && r->real < 3.26);
    ck_assert_str_eq(r->str, "3.25");
    mqredis_free(r);
    r = REPLY(",-inf\r\n");
    ck_assert(isinf(r->real) && r->real < 0);
    mqredis_free(r);
    setlocale(LC_ALL, "C");
}
END_TEST

START_TEST(test_reply_is_a_tree)
{
    struct mqredis_reply *r =
        REPLY("*4\r\n:1\r\n*2\r\n$1\r\na\r\n$2\r\n\0\r\r\n%1\r\n+k\r\n"
              "~1\r\n:7\r\n=7\r\ntxt:abc\r\n");
    ck_assert_int_eq(r->type, MQREDIS_ARRAY);
    ck_assert_uint_eq(r->elements, 4);
    ck_assert_int_eq(r->element[0]->integer, 1);
    ck_assert_uint_eq(r->element[1]->elements, 2);
    ck_assert_str_eq(r->element[1]->element[0]->str, "a");
    ck_assert_uint_eq(r->element[1]->element[1]->len, 2);
    ck_assert_mem_eq(r->element[1]->element[1]->str, "\0\r\0", 3);
    ck_assert_int_eq(r->element[2]->type, MQREDIS_MAP);
    ck_assert_uint_eq(r->element[2]->elements, 2);
    ck_assert_str_eq(r->element[2]->element[0]->str, "k");
    ck_assert_int_eq(r->element[2]->element[1]->type, MQREDIS_SET);
    ck_assert_int_eq(r->element[2]->element[1]->element[0]->integer, 7);
    ck_assert_int_eq(r->element[3]->type, MQREDIS_VERBATIM);
    ck_assert_str_eq(r->element[3]->format, "txt");
    ck_assert_str_eq(r->element[3]->str, "abc");
    mqredis_free(r);
    r = REPLY(">2\r\n+a\r\n+b\r\n");
    ck_assert_int_eq(r->type, MQREDIS_PUSH);
    mqredis_free(r);
    r = REPLY("*0\r\n");
    ck_assert_int_eq(r->type, MQREDIS_ARRAY);
    ck_assert_uint_eq(r->elements, 0);
    mqredis_free(r);
}
END_TEST

START_TEST(test_reply_keeps_attributes_beside_their_value)
{
    struct mqredis_reply *r =
        REPLY("*2\r\n|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n:2\r\n");
    ck_assert_uint_eq(r->elements, 2);
    const struct mqredis_reply *v = r->element[0];
    ck_assert_int_eq(v->type, MQREDIS_STRING);
    ck_assert_str_eq(v->str, "v");
    ck_assert_ptr_nonnull(v->attributes);
    ck_assert_int_eq(v->attributes->type, MQREDIS_MAP);
    ck_assert_str_eq(v->attributes->element[0]->str, "ttl");
    ck_assert_int_eq(v->attributes->element[1]->integer, 5);
    ck_assert_int_eq(r->element[1]->integer, 2);
    mqredis_free(r);
}
END_TEST

START_TEST(test_reply_that_is_none_is_a_failure)
{
    static const char *const wrong[] = {
        "",      "+OK",          "$5\r\nabc\r\n", "*2\r\n:1\r\n",
        "?\r\n", ":1\r\n:2\r\n", "*9999999\r\n",  "|1\r\n+a\r\n:1\r\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct mqredis_reply *r = reply_of(wrong[i], strlen(wrong[i]));
        ck_assert_msg(r->type == MQREDIS_FAILURE, "'%s' was taken", wrong[i]);
        ck_assert_int_eq(r->status, MQREDIS_LOST);
        mqredis_free(r);
    }
}
END_TEST

START_TEST(test_reply_nested_without_end_is_refused)
{
    enum { DEEP = 100000 };
    char *raw = malloc(DEEP * 4 + 5);
    ck_assert_ptr_nonnull(raw);
    for (size_t i = 0; i < DEEP; i++)
        memcpy(raw + i * 4, "*1\r\n", 4);
    memcpy(raw + DEEP * 4, ":1\r\n", 5);
    struct mqredis_reply *r = reply_of(raw, DEEP * 4 + 4);
    ck_assert_int_eq(r->type, MQREDIS_FAILURE);
    ck_assert_int_eq(r->status, MQREDIS_TOO_BIG);
    mqredis_free(r);
    free(raw);
}
END_TEST

/* ---- nobody there ---- */

START_TEST(test_handle_without_a_manager_says_how_to_start_one)
{
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open("nobody", &why);
    ck_assert_ptr_nonnull(mq);
    struct mqredis_reply *r = mqredis_get(mq, "k");
    ck_assert_int_eq(r->type, MQREDIS_FAILURE);
    ck_assert_int_eq(r->status, MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(r->str, "'nobody'"));
    ck_assert_ptr_nonnull(strstr(r->str, "mqredis-manager --channel nobody"));
    mqredis_free(r);
    struct mqredis_request *q = mqredis_submit(mq, "GET k");
    r = mqredis_wait(q);
    ck_assert_int_eq(r->status, MQREDIS_UNAVAILABLE);
    mqredis_free(r);
    ck_assert_int_eq(mqredis_wait_ready(mq, 50, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "nobody"));
    struct mqredis_info info;
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_null(mqredis_wait_any(mq, 1000));
    mqredis_close(mq);
}
END_TEST

START_TEST(test_bad_names_are_refused_at_once)
{
    struct mqredis_error why;
    ck_assert_ptr_null(mqredis_open("no good", &why));
    ck_assert_int_eq(why.status, MQREDIS_INVALID);
    ck_assert_ptr_nonnull(strstr(why.text, "no good"));
    ck_assert_ptr_null(mqredis_open("no good", NULL));
    ck_assert_ptr_null(mqredis_open("", &why));
    ck_assert_int_eq(why.status, MQREDIS_INVALID);
    /* Where none is named it is the default one; of a path the last part is
     * told. */
    ck_assert_int_eq(setenv("MQREDIS_CHANNEL", "", 1), 0);
    struct mqredis *mq = mqredis_open(NULL, &why);
    struct mqredis_reply *r = mqredis_get(mq, "k");
    ck_assert_ptr_nonnull(strstr(r->str, "channel 'default'"));
    mqredis_free(r);
    mqredis_close(mq);
    mq = mqredis_open("/nowhere/at-all//", &why);
    r = mqredis_get(mq, "k");
    ck_assert_ptr_nonnull(strstr(r->str, "channel 'at-all'"));
    mqredis_free(r);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_null_is_a_failed_request_everywhere)
{
    struct mqredis_reply *r = mqredis_wait(NULL);
    ck_assert_int_eq(r->status, MQREDIS_NOMEM);
    mqredis_free(r);
    struct mqredis_raw *raw = mqredis_wait_raw(NULL);
    ck_assert_int_eq(raw->status, MQREDIS_NOMEM);
    mqredis_raw_free(raw);
    ck_assert(mqredis_wait_done(NULL, 0));
    mqredis_cancel(NULL);
    mqredis_set_data(NULL, &r);
    ck_assert_ptr_null(mqredis_data(NULL));
    r = mqredis_batch_run(NULL);
    ck_assert_int_eq(r->status, MQREDIS_NOMEM);
    mqredis_free(r);
    r = mqredis_transaction_run(NULL);
    ck_assert_int_eq(r->status, MQREDIS_NOMEM);
    mqredis_free(r);
    ck_assert_ptr_null(mqredis_batch_submit(NULL));
    mqredis_batch_add(NULL, "GET k");
    mqredis_batch_add_argv(NULL, 0, NULL, NULL);
    mqredis_batch_free(NULL);
    mqredis_free(NULL);
    mqredis_raw_free(NULL);
    mqredis_close(NULL);
}
END_TEST

START_TEST(test_status_names_and_version)
{
    ck_assert_str_eq(mqredis_version(), MQREDIS_VERSION);
    ck_assert_str_eq(MQREDIS_VERSION, PROJECT_VERSION);
    for (int s = 0; s <= MQREDIS_SYSTEM; s++)
        ck_assert_str_ne(mqredis_status_str((enum mqredis_status)s), "unknown");
    ck_assert_str_eq(mqredis_status_str((enum mqredis_status)99), "unknown");
    /* The manager's words and the library's are the same numbers. */
    for (int s = 0; s < REPLY_STATUS_COUNT; s++)
        ck_assert_str_eq(mqredis_status_str((enum mqredis_status)s),
                         reply_status_str((enum reply_status)s));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lib");
    TCase *format = tcase_create("format");
    tcase_add_test(format, test_format_splits_at_blanks_only_what_it_is_given);
    tcase_add_test(format, test_format_keeps_every_byte_and_empty_arguments);
    tcase_add_test(format, test_format_knows_the_sizes_of_numbers);
    tcase_add_test(format, test_format_refuses_what_it_does_not_know);
    tcase_add_test(format, test_argv_holds_many_and_long_arguments);
    tcase_add_test(format, test_an_argument_longer_than_redis_takes);
    suite_add_tcase(s, format);
    TCase *reply = tcase_create("reply");
    tcase_add_test(reply, test_reply_has_every_scalar_type);
    tcase_add_test(reply, test_reply_reads_reals_whatever_the_locale);
    tcase_add_test(reply, test_reply_is_a_tree);
    tcase_add_test(reply, test_reply_keeps_attributes_beside_their_value);
    tcase_add_test(reply, test_reply_that_is_none_is_a_failure);
    tcase_add_test(reply, test_reply_nested_without_end_is_refused);
    suite_add_tcase(s, reply);
    TCase *nobody = support_case(s, "nobody", 60);
    tcase_add_test(nobody, test_handle_without_a_manager_says_how_to_start_one);
    tcase_add_test(nobody, test_bad_names_are_refused_at_once);
    tcase_add_test(nobody, test_null_is_a_failed_request_everywhere);
    tcase_add_test(nobody, test_status_names_and_version);
    return support_run(s);
}
