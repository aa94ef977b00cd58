/* Printing replies, against a table; check_resp_print_cli compares the same
 * with redis-cli. */
#include "ipc/quote.h"
#include "ipc/resp_print.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "tests/print_cases.h"
#include "tests/support_run.h"

/* Rows that redis-cli 7.0 gives up at. */
static const struct print_case ours[] = {
    {BYTES("(123\r\n"), "(big number) 123\n", "123\n", "123\n"},
    {BYTES("(-0123\r\n"), "(big number) -0123\n", "-0123\n", "\"-0123\"\n"},
    {BYTES("(\r\n"), "(big number) \n", "\n", "\"\"\n"},
    {BYTES(",nan\r\n"), "(double) nan\n", "nan\n", "nan\n"},
    {BYTES("!5\r\nERR x\r\n"), "(error) ERR x\n", "ERR x\n\n",
     "error:\"ERR x\"\n"},
    {BYTES(">2\r\n+a\r\n:1\r\n"), "1) a\n2) (integer) 1\n", "a\n1\n",
     "[\"a\",1]\n"},
    {BYTES("|1\r\n+ttl\r\n*1\r\n:1\r\n:2\r\n"), "(integer) 2\n", "2\n", "2\n"},
    {BYTES("%1\r\n|1\r\n+x\r\n:0\r\n+k\r\n|1\r\n+x\r\n:0\r\n*2\r\n:1\r\n"
           ":2\r\n"),
     "1# k => \n   1) (integer) 1\n   2) (integer) 2\n", "k 1\n2\n",
     "{\"k\":[1,2]}\n"},
};

static void assert_prints(const struct print_case *c)
{
    const char *want[] = {c->tty, c->raw, c->json};
    for (int f = RESP_FORMAT_TTY; f <= RESP_FORMAT_JSON; f++) {
        struct text t = print(c->data, c->len, (enum resp_format)f);
        ck_assert_str_eq(t.data, want[f]);
        ck_assert_uint_eq(t.len, strlen(want[f]));
        free(t.data);
    }
}

START_TEST(test_prints_like_redis_cli)
{
    assert_prints(&print_same[_i]);
}
END_TEST

START_TEST(test_prints_what_redis_cli_cannot)
{
    assert_prints(&ours[_i]);
}
END_TEST

START_TEST(test_refuses_cut_reply)
{
    const struct print_case *c = &print_same[_i];
    for (size_t cut = 0; cut < c->len; cut++) {
        char *copy = malloc(cut > 0 ? cut : 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, c->data, cut);
        for (int f = RESP_FORMAT_TTY; f <= RESP_FORMAT_JSON; f++) {
            char *text;
            size_t len;
            FILE *out = open_memstream(&text, &len);
            ck_assert_ptr_nonnull(out);
            ck_assert_int_eq(
                resp_print(out, copy, cut, (enum resp_format)f, NULL),
                ERR_PROTO);
            fclose(out);
            free(text);
        }
        free(copy);
    }
}
END_TEST

START_TEST(test_limits_depth)
{
    char data[(RESP_DEPTH_MAX + 1) * 4 + 5];
    for (int over = 0; over < 2; over++) {
        size_t levels = (size_t)(RESP_DEPTH_MAX + over);
        for (size_t i = 0; i < levels; i++)
            memcpy(data + i * 4, "*1\r\n", 4);
        memcpy(data + levels * 4, ":1\r\n", 4);
        for (int f = RESP_FORMAT_TTY; f <= RESP_FORMAT_JSON; f++) {
            FILE *out = fopen("/dev/null", "w");
            ck_assert_ptr_nonnull(out);
            ck_assert_int_eq(resp_print(out, data, levels * 4 + 4,
                                        (enum resp_format)f, NULL),
                             over ? ERR_LIMIT : ERR_OK);
            fclose(out);
        }
    }
}
END_TEST

START_TEST(test_reports_failed_write)
{
    FILE *out = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(out);
    setvbuf(out, NULL, _IONBF, 0);
    errno = 0;
    ck_assert_int_eq(
        resp_print(out, BYTES("*2\r\n:1\r\n:2\r\n"), RESP_FORMAT_TTY, NULL),
        ERR_SYS);
    ck_assert_int_eq(errno, ENOSPC);
    fclose(out);
}
END_TEST

START_TEST(test_quoted_splits_back)
{
    char all[256], *text;
    size_t len, argc = 0;
    struct resp_arg arg;
    for (int i = 0; i < 256; i++)
        all[i] = (char)(unsigned char)i;
    FILE *out = open_memstream(&text, &len);
    ck_assert_ptr_nonnull(out);
    resp_print_quoted(out, all, sizeof(all));
    fclose(out);
    ck_assert_int_eq(quote_split(text, len, &arg, 1, &argc), ERR_OK);
    ck_assert_uint_eq(argc, 1);
    ck_assert_uint_eq(arg.len, sizeof(all));
    ck_assert_mem_eq(arg.data, all, sizeof(all));
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resp_print");
    TCase *t = tcase_create("table");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_prints_like_redis_cli, 0, print_same_count);
    tcase_add_loop_test(t, test_prints_what_redis_cli_cannot, 0, COUNT(ours));
    tcase_add_loop_test(t, test_refuses_cut_reply, 0, print_same_count);
    tcase_add_test(t, test_limits_depth);
    tcase_add_test(t, test_reports_failed_write);
    tcase_add_test(t, test_quoted_splits_back);

    return support_run(s);
}
