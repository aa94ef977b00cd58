/* RESP in memory: scanning streams, reading values. Commands and encoding are
 * in check_resp_command. Every table is also fed one byte at a time and at
 * every split. */
#include "ipc/resp.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bytes.h"
#include "tests/support_run.h"

/* ---- scanning ---- */

struct frame {
    const char *data;
    size_t len;
    char type; /* 0: the first byte */
};

static const struct frame frames[] = {
    {BYTES("+OK\r\n"), 0},
    {BYTES("+\r\n"), 0},
    {BYTES("+a longer simple string than the fast path looks at\r\n"), 0},
    {BYTES("+lone \r and \n within\r\n"), 0},
    {BYTES("+\r\r\r\n"), 0},
    {BYTES("+exactly sixteen!\r\n"), 0},
    {BYTES("-ERR no\r\n"), 0},
    {BYTES(":1\r\n"), 0},
    {BYTES(":0\r\n"), 0},
    {BYTES(":-1\r\n"), 0},
    {BYTES(":1234567\r\n"), 0},
    {BYTES(":12345678\r\n"), 0},
    {BYTES(":9223372036854775807\r\n"), 0},
    {BYTES(":-9223372036854775808\r\n"), 0},
    {BYTES("$3\r\nbar\r\n"), 0},
    {BYTES("$0\r\n\r\n"), 0},
    {BYTES("$-1\r\n"), 0},
    {BYTES("$2\r\n\r\n\r\n"), 0},
    {BYTES("$5\r\n\0\r\n$1\r\n"), 0},
    {BYTES("$30\r\n012345678901234567890123456789\r\n"), 0},
    {BYTES("*0\r\n"), 0},
    {BYTES("*-1\r\n"), 0},
    {BYTES("*2\r\n$1\r\na\r\n:2\r\n"), 0},
    {BYTES("*3\r\n*2\r\n+a\r\n*0\r\n*-1\r\n*1\r\n*1\r\n$-1\r\n"), 0},
    {BYTES("_\r\n"), 0},
    {BYTES("#t\r\n"), 0},
    {BYTES("#f\r\n"), 0},
    {BYTES(",1.5\r\n"), 0},
    {BYTES(",-inf\r\n"), 0},
    {BYTES(",1e-300\r\n"), 0},
    {BYTES("(3492890328409238509324850943850943825024385\r\n"), 0},
    {BYTES("(-1\r\n"), 0},
    {BYTES("!9\r\nERR a\r\n\r\n\r\n"), 0},
    {BYTES("=7\r\ntxt:abc\r\n"), 0},
    {BYTES("=4\r\nmkd:\r\n"), 0},
    {BYTES("%0\r\n"), 0},
    {BYTES("%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n:1\r\n_\r\n"), 0},
    {BYTES("~2\r\n#t\r\n$1\r\nx\r\n"), 0},
    {BYTES(">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n"), 0},
    {BYTES("|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n"), '$'},
    {BYTES("|0\r\n:1\r\n"), ':'},
    {BYTES("|1\r\n+a\r\n*1\r\n:1\r\n*2\r\n:1\r\n:2\r\n"), '*'},
    {BYTES("|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n>1\r\n:1\r\n"), '>'},
    {BYTES("*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n+b\r\n"), 0},
    {BYTES("*1\r\n|1\r\n|1\r\n+x\r\n+y\r\n+a\r\n:1\r\n:2\r\n"), 0},
};

static const struct bytes broken[] = {
    {BYTES("x")},
    {BYTES("\r\n")},
    {BYTES("OK\r\n")},
    {BYTES("@3\r\n")},
    {BYTES(";3\r\nabc\r\n")},
    {BYTES(".\r\n")},
    {BYTES(":\r\n")},
    {BYTES(":a\r\n")},
    {BYTES(":-\r\n")},
    {BYTES(":--1\r\n")},
    {BYTES(":+1\r\n")},
    {BYTES(":-0\r\n")},
    {BYTES(":007\r\n")},
    {BYTES(":00\r\n")},
    {BYTES(":1 \r\n")},
    {BYTES(": 1\r\n")},
    {BYTES(":1\n")},
    {BYTES(":1\rx")},
    {BYTES(":9223372036854775808\r\n")},
    {BYTES(":-9223372036854775809\r\n")},
    {BYTES(":12345678901234567890\r\n")},
    {BYTES("$-2\r\n")},
    {BYTES("$-0\r\n")},
    {BYTES("$03\r\nbar\r\n")},
    {BYTES("$+3\r\nbar\r\n")},
    {BYTES("$?\r\n")},
    {BYTES("$3\r\nbarx\n")},
    {BYTES("$3\r\nbar\rx")},
    {BYTES("$3\r\nbar\n\n")},
    {BYTES("$0\r\nxx")},
    {BYTES("$1099511627777\r\n")}, /* RESP_REPLY_BULK_MAX + 1 */
    {BYTES("$99999999999999999999\r\n")},
    {BYTES("*?\r\n")},
    {BYTES("*-2\r\n")},
    {BYTES("*2147483649\r\n")}, /* RESP_COUNT_MAX + 1 */
    {BYTES("*1\r\nx")},
    {BYTES("*2\r\n:1\r\n\r\n")},
    {BYTES("%-1\r\n")},
    {BYTES("%?\r\n")},
    {BYTES("~-1\r\n")},
    {BYTES(">-1\r\n")},
    {BYTES("|-1\r\n")},
    {BYTES("!-1\r\n")},
    {BYTES("=-1\r\n")},
    {BYTES("=3\r\ntxt\r\n")},
    {BYTES("_x\r\n")},
    {BYTES("_\rx")},
    {BYTES("_\n")},
    {BYTES("#\r\n")},
    {BYTES("#x\r\n")},
    {BYTES("#tt\r\n")},
    {BYTES("#true\r\n")},
    {BYTES("#t\rx")},
};

static enum err scan_copy(struct resp_scan *s, const char *data, size_t len,
                          size_t *used)
{
    char *copy = copy_of(data, len);
    enum err e = resp_scan(s, copy, len, used);
    free(copy);
    return e;
}

static void assert_ends(const struct resp_scan *s, const struct frame *f)
{
    ck_assert_int_eq(s->type, f->type ? f->type : f->data[0]);
    ck_assert(resp_scan_idle(s));
    ck_assert_uint_eq(resp_scan_opaque(s), 0);
}

START_TEST(test_scan_whole_frame)
{
    const struct frame *f = &frames[_i];
    struct resp_scan s;
    size_t used = 0;
    resp_scan_reset(&s);
    ck_assert(resp_scan_idle(&s));
    ck_assert_int_eq(scan_copy(&s, f->data, f->len, &used), ERR_OK);
    ck_assert_uint_eq(used, f->len);
    assert_ends(&s, f);
}
END_TEST

START_TEST(test_scan_stops_at_frame_end)
{
    const struct frame *f = &frames[_i];
    char data[256];
    memcpy(data, f->data, f->len);
    memcpy(data + f->len, "+next\r\n", 7);
    struct resp_scan s;
    size_t used = 0;
    resp_scan_reset(&s);
    ck_assert_int_eq(scan_copy(&s, data, f->len + 7, &used), ERR_OK);
    ck_assert_uint_eq(used, f->len);
    assert_ends(&s, f);
    ck_assert_int_eq(scan_copy(&s, data + used, 7, &used), ERR_OK);
    ck_assert_uint_eq(used, 7);
    ck_assert_int_eq(s.type, '+');
}
END_TEST

START_TEST(test_scan_byte_by_byte)
{
    const struct frame *f = &frames[_i];
    struct resp_scan s;
    resp_scan_reset(&s);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < f->len; i++) {
            size_t used = 99;
            enum err e = scan_copy(&s, f->data + i, 1, &used);
            ck_assert_int_eq(e, i + 1 == f->len ? ERR_OK : ERR_AGAIN);
            ck_assert_uint_eq(used, 1);
            ck_assert(resp_scan_idle(&s) == (i + 1 == f->len));
        }
        assert_ends(&s, f);
    }
}
END_TEST

START_TEST(test_scan_every_split)
{
    const struct frame *f = &frames[_i];
    for (size_t first = 0; first < f->len; first++) {
        for (size_t second = first; second < f->len; second++) {
            struct resp_scan s;
            size_t used = 99;
            resp_scan_reset(&s);
            ck_assert_int_eq(scan_copy(&s, f->data, first, &used), ERR_AGAIN);
            ck_assert_uint_eq(used, first);
            ck_assert_int_eq(
                scan_copy(&s, f->data + first, second - first, &used),
                ERR_AGAIN);
            ck_assert_uint_eq(used, second - first);
            ck_assert_int_eq(
                scan_copy(&s, f->data + second, f->len - second, &used),
                ERR_OK);
            ck_assert_uint_eq(used, f->len - second);
            assert_ends(&s, f);
        }
    }
}
END_TEST

/* All frames in a row, in pieces of every size up to 64: the ends are where
 * they belong, whatever the scan was in the middle of. */
START_TEST(test_scan_stream_in_pieces)
{
    size_t piece = (size_t)_i, len = 0;
    char *data = malloc(8192);
    ck_assert_ptr_nonnull(data);
    for (int i = 0; i < COUNT(frames); i++) {
        memcpy(data + len, frames[i].data, frames[i].len);
        len += frames[i].len;
    }
    struct resp_scan s;
    resp_scan_reset(&s);
    size_t end = 0;
    int frame = 0;
    for (size_t pos = 0; pos < len;) {
        size_t step = len - pos < piece ? len - pos : piece;
        size_t stop = pos + step;
        while (pos < stop) {
            size_t used = 0;
            enum err e = scan_copy(&s, data + pos, stop - pos, &used);
            pos += used;
            if (e == ERR_AGAIN)
                break;
            ck_assert_int_eq(e, ERR_OK);
            ck_assert_int_lt(frame, COUNT(frames));
            end += frames[frame].len;
            ck_assert_uint_eq(pos, end);
            assert_ends(&s, &frames[frame]);
            frame++;
        }
        ck_assert_uint_eq(pos, stop);
    }
    ck_assert_int_eq(frame, COUNT(frames));
    free(data);
}
END_TEST

START_TEST(test_scan_refuses)
{
    const struct bytes *b = &broken[_i];
    struct resp_scan s;
    size_t used = 99;
    resp_scan_reset(&s);
    ck_assert_int_eq(scan_copy(&s, b->data, b->len, &used), ERR_PROTO);
    ck_assert_uint_eq(used, 99);
    ck_assert_int_eq(scan_copy(&s, BYTES("+OK\r\n"), &used), ERR_PROTO);
    resp_scan_reset(&s);
    ck_assert_int_eq(scan_copy(&s, BYTES("+OK\r\n"), &used), ERR_OK);
}
END_TEST

START_TEST(test_scan_refuses_every_split)
{
    const struct bytes *b = &broken[_i];
    for (size_t split = 0; split <= b->len; split++) {
        struct resp_scan s;
        size_t used;
        resp_scan_reset(&s);
        enum err e = scan_copy(&s, b->data, split, &used);
        ck_assert(e == ERR_AGAIN || e == ERR_PROTO);
        if (e == ERR_AGAIN)
            e = scan_copy(&s, b->data + split, b->len - split, &used);
        ck_assert_int_eq(e, ERR_PROTO);
    }
    struct resp_scan s;
    enum err e = ERR_AGAIN;
    resp_scan_reset(&s);
    for (size_t i = 0; i < b->len && e == ERR_AGAIN; i++) {
        size_t used;
        e = scan_copy(&s, b->data + i, 1, &used);
    }
    ck_assert_int_eq(e, ERR_PROTO);
}
END_TEST

START_TEST(test_scan_has_no_depth_limit)
{
    enum { DEPTH = 100000 };
    size_t len = DEPTH * 4 + 4, used = 0;
    char *data = malloc(len);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < DEPTH; i++)
        memcpy(data + i * 4, "*1\r\n", 4);
    memcpy(data + DEPTH * 4, ":1\r\n", 4);
    struct resp_scan s;
    resp_scan_reset(&s);
    ck_assert_int_eq(resp_scan(&s, data, len, &used), ERR_OK);
    ck_assert_uint_eq(used, len);
    ck_assert_int_eq(resp_scan(&s, data, len - 1, &used), ERR_AGAIN);
    free(data);
}
END_TEST

START_TEST(test_scan_limits)
{
    struct resp_scan s;
    size_t used;
    resp_scan_reset(&s);
    ck_assert_int_eq(resp_scan(&s, BYTES("$1099511627776\r\n"), &used),
                     ERR_AGAIN);
    ck_assert_uint_eq(resp_scan_opaque(&s), RESP_REPLY_BULK_MAX);
    resp_scan_reset(&s);
    ck_assert_int_eq(resp_scan(&s, BYTES("*2147483648\r\n"), &used), ERR_AGAIN);
    ck_assert_int_eq(s.todo, RESP_COUNT_MAX);
    resp_scan_reset(&s);
    ck_assert_int_eq(resp_scan(&s, BYTES("%2147483648\r\n"), &used), ERR_AGAIN);
    ck_assert_int_eq(s.todo, 2 * RESP_COUNT_MAX);
    /* A stream of nothing but such headers ends before the sum overflows. */
    s.todo = INT64_MAX / 2 + 1;
    ck_assert_int_eq(resp_scan(&s, BYTES("%2147483648\r\n"), &used), ERR_PROTO);
}
END_TEST

START_TEST(test_scan_limits_lines)
{
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    ck_assert_ptr_nonnull(piece);
    memset(piece, 'x', PIECE);
    struct resp_scan s;
    size_t used;
    for (int over = 0; over < 2; over++) {
        resp_scan_reset(&s);
        ck_assert_int_eq(resp_scan(&s, "+", 1, &used), ERR_AGAIN);
        for (int i = 0; i < RESP_LINE_MAX / PIECE; i++)
            ck_assert_int_eq(resp_scan(&s, piece, PIECE, &used), ERR_AGAIN);
        if (over)
            ck_assert_int_eq(resp_scan(&s, "x", 1, &used), ERR_PROTO);
        else
            ck_assert_int_eq(resp_scan(&s, "\r\n", 2, &used), ERR_OK);
    }
    free(piece);
}
END_TEST

START_TEST(test_scan_skips_opaque_bytes)
{
    struct resp_scan s;
    size_t used;
    resp_scan_reset(&s);
    ck_assert_uint_eq(resp_scan_opaque(&s), 0);
    ck_assert_int_eq(resp_scan(&s, BYTES("*2\r\n$10"), &used), ERR_AGAIN);
    ck_assert_uint_eq(resp_scan_opaque(&s), 0);
    ck_assert_int_eq(resp_scan(&s, BYTES("\r\n012"), &used), ERR_AGAIN);
    ck_assert_uint_eq(resp_scan_opaque(&s), 7);
    resp_scan_skip(&s, 4);
    ck_assert_uint_eq(resp_scan_opaque(&s), 3);
    ck_assert_int_eq(resp_scan(&s, BYTES("7"), &used), ERR_AGAIN);
    resp_scan_skip(&s, 2);
    ck_assert_uint_eq(resp_scan_opaque(&s), 0);
    ck_assert_int_eq(resp_scan(&s, BYTES("\r"), &used), ERR_AGAIN);
    ck_assert_uint_eq(resp_scan_opaque(&s), 0);
    ck_assert_int_eq(resp_scan(&s, BYTES("\n:1\r\n"), &used), ERR_OK);
    ck_assert_uint_eq(used, 5);
}
END_TEST

/* ---- reading one value ---- */

struct value_case {
    const char *data;
    size_t len;
    size_t used;
    bool null;
    int64_t number;
    const char *text; /* NULL: no bytes */
    const char *format;
};

static const struct value_case values[] = {
    {BYTES("+OK\r\n"), 5, false, 0, "OK", ""},
    {BYTES("-ERR a\r\n"), 8, false, 0, "ERR a", ""},
    {BYTES(":-42\r\n"), 6, false, -42, "-42", ""},
    {BYTES(":-9223372036854775808\r\n"), 23, false, INT64_MIN,
     "-9223372036854775808", ""},
    {BYTES(":9223372036854775807\r\n"), 22, false, INT64_MAX,
     "9223372036854775807", ""},
    {BYTES("$5\r\na\r\nb\n\r\n"), 11, false, 0, "a\r\nb\n", ""},
    {BYTES("$0\r\n\r\n"), 6, false, 0, "", ""},
    {BYTES("$-1\r\n"), 5, true, 0, NULL, ""},
    {BYTES("*-1\r\n"), 5, true, 0, NULL, ""},
    {BYTES("_\r\n"), 3, true, 0, NULL, ""},
    {BYTES("*3\r\n:1\r\n:2\r\n:3\r\n"), 4, false, 3, NULL, ""},
    {BYTES("%3\r\n"), 4, false, 6, NULL, ""},
    {BYTES("|1\r\n"), 4, false, 2, NULL, ""},
    {BYTES("~1\r\n"), 4, false, 1, NULL, ""},
    {BYTES(">2\r\n"), 4, false, 2, NULL, ""},
    {BYTES("#t\r\n"), 4, false, 1, "t", ""},
    {BYTES("#f\r\n"), 4, false, 0, "f", ""},
    {BYTES(",1.50\r\n"), 7, false, 0, "1.50", ""},
    {BYTES("(123\r\n"), 6, false, 0, "123", ""},
    {BYTES("!5\r\nERR x\r\n"), 11, false, 0, "ERR x", ""},
    {BYTES("=7\r\ntxt:abc\r\n"), 13, false, 0, "abc", "txt"},
    {BYTES("=4\r\nmkd:\r\n"), 10, false, 0, "", "mkd"},
};

START_TEST(test_get_reads_value)
{
    const struct value_case *c = &values[_i];
    struct resp_value v;
    size_t used = 0;
    char *copy = copy_of(c->data, c->len);
    ck_assert_int_eq(resp_get(copy, c->len, &v, &used), ERR_OK);
    ck_assert_uint_eq(used, c->used);
    ck_assert_int_eq(v.type, c->data[0]);
    ck_assert(v.null == c->null);
    ck_assert_int_eq(v.number, c->number);
    ck_assert_str_eq(v.format, c->format);
    if (c->text == NULL) {
        ck_assert_ptr_null(v.data);
        ck_assert_uint_eq(v.len, 0);
    } else {
        ck_assert_uint_eq(v.len, strlen(c->text));
        ck_assert_int_eq(memcmp(v.data, c->text, v.len), 0);
    }
    free(copy);
    for (size_t cut = 0; cut < c->used; cut++) {
        copy = copy_of(c->data, cut);
        ck_assert_int_eq(resp_get(copy, cut, &v, &used), ERR_AGAIN);
        free(copy);
    }
}
END_TEST

START_TEST(test_get_refuses)
{
    static const struct bytes bad[] = {
        {BYTES("=6\r\ntxtabc\r\n")},
        {BYTES("#x\r\n")},
        {BYTES("_x\r\n")},
        {BYTES("$3\r\nabcxx")},
        {BYTES(":1.5\r\n")},
        {BYTES("*?\r\n")},
        {BYTES("x")},
        {BYTES("$1099511627777\r\n")},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        struct resp_value v;
        size_t used;
        char *copy = copy_of(bad[i].data, bad[i].len);
        ck_assert_int_eq(resp_get(copy, bad[i].len, &v, &used), ERR_PROTO);
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resp");
    TCase *t = tcase_create("scan");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, test_scan_whole_frame, 0, COUNT(frames));
    tcase_add_loop_test(t, test_scan_stops_at_frame_end, 0, COUNT(frames));
    tcase_add_loop_test(t, test_scan_byte_by_byte, 0, COUNT(frames));
    tcase_add_loop_test(t, test_scan_every_split, 0, COUNT(frames));
    tcase_add_loop_test(t, test_scan_stream_in_pieces, 1, 65);
    tcase_add_loop_test(t, test_scan_refuses, 0, COUNT(broken));
    tcase_add_loop_test(t, test_scan_refuses_every_split, 0, COUNT(broken));
    tcase_add_test(t, test_scan_has_no_depth_limit);
    tcase_add_test(t, test_scan_limits);
    tcase_add_test(t, test_scan_limits_lines);
    tcase_add_test(t, test_scan_skips_opaque_bytes);

    t = tcase_create("get");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_get_reads_value, 0, COUNT(values));
    tcase_add_test(t, test_get_refuses);

    return support_run(s);
}
