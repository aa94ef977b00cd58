/* Replies and their print. */
#include "tests/print_cases.h"

#include <check.h>
#include <stdio.h>

const struct print_case print_same[] = {
    {BYTES("+OK\r\n"), "OK\n", "OK\n", "\"OK\"\n"},
    {BYTES("-ERR a\"b\r\n"), "(error) ERR a\"b\n", "ERR a\"b\n\n",
     "error:\"ERR a\\\"b\"\n"},
    {BYTES(":-5\r\n"), "(integer) -5\n", "-5\n", "-5\n"},
    {BYTES("$3\r\nbar\r\n"), "\"bar\"\n", "bar\n", "\"bar\"\n"},
    {BYTES("$0\r\n\r\n"), "\"\"\n", "\n", "\"\"\n"},
    {BYTES("$-1\r\n"), "(nil)\n", "\n", "null\n"},
    {BYTES("*-1\r\n"), "(nil)\n", "\n", "null\n"},
    {BYTES("_\r\n"), "(nil)\n", "\n", "null\n"},
    {BYTES("#t\r\n"), "(true)\n", "(true)\n", "true\n"},
    {BYTES("#f\r\n"), "(false)\n", "(false)\n", "false\n"},
    {BYTES(",1.50\r\n"), "(double) 1.50\n", "1.50\n", "1.50\n"},
    {BYTES(",-inf\r\n"), "(double) -inf\n", "-inf\n", "-inf\n"},
    {BYTES("=7\r\ntxt:a\"b\r\n"), "a\"b\n", "a\"b\n", "\"a\\\"b\"\n"},
    {BYTES("*0\r\n"), "(empty array)\n", "\n", "[]\n"},
    {BYTES("%0\r\n"), "(empty hash)\n", "\n", "{}\n"},
    {BYTES("~0\r\n"), "(empty set)\n", "\n", "[]\n"},
    {BYTES("*2\r\n>0\r\n>1\r\n:1\r\n"), "1) (empty push)\n2) 1) (integer) 1\n",
     "\n1\n", "[[],[1]]\n"},
    {BYTES("$12\r\n\"\\\n\r\t\a\b\f\x1b\x7f\xc3\xa9\r\n"),
     "\"\\\"\\\\\\n\\r\\t\\a\\b\\x0c\\x1b\\x7f\\xc3\\xa9\"\n",
     "\"\\\n\r\t\a\b\f\x1b\x7f\xc3\xa9\n",
     "\"\\\"\\\\\\n\\r\\t\\u0007\\b\\f\\u001b\x7f\xc3\xa9\"\n"},
    {BYTES("$2\r\n\xff/\r\n"), "\"\\xff/\"\n", "\xff/\n", "\"\xff/\"\n"},
    {BYTES("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n_\r\n"),
     "1) \"a\"\n2) 1) (integer) 1\n   2) 1) (nil)\n", "a\n1\n\n",
     "[\"a\",[1,[null]]]\n"},
    {BYTES("*2\r\n-ERR in\r\n+OK\r\n"), "1) (error) ERR in\n2) OK\n",
     "ERR in\n\nOK\n", "[error:\"ERR in\",\"OK\"]\n"},
    {BYTES("*10\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n"
           "*2\r\n:1\r\n*0\r\n"),
     " 1) (integer) 1\n 2) (integer) 2\n 3) (integer) 3\n 4) (integer) 4\n"
     " 5) (integer) 5\n 6) (integer) 6\n 7) (integer) 7\n 8) (integer) 8\n"
     " 9) (integer) 9\n10) 1) (integer) 1\n    2) (empty array)\n",
     "1\n2\n3\n4\n5\n6\n7\n8\n9\n1\n\n", "[1,2,3,4,5,6,7,8,9,[1,[]]]\n"},
    {BYTES("~2\r\n:1\r\n+a\r\n"), "1~ (integer) 1\n2~ a\n", "1\na\n",
     "[1,\"a\"]\n"},
    {BYTES("%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n:1\r\n:2\r\n"),
     "1# \"a\" => (integer) 1\n2# \"b\" => \n   1) (integer) 1\n"
     "   2) (integer) 2\n",
     "a 1\nb 1\n2\n", "{\"a\":1,\"b\":[1,2]}\n"},
    /* A map's value stays on the line while each level has one element. */
    {BYTES("%1\r\n,1.5\r\n%1\r\n+a\r\n~1\r\n:1\r\n"),
     "1# (double) 1.5 => 1# a => 1~ (integer) 1\n", "1.5 a 1\n",
     "{\"1.5\":{\"a\":[1]}}\n"},
    {BYTES("%1\r\n+K\r\n*1\r\n*1\r\n%1\r\n+c\r\n~2\r\n:1\r\n:2\r\n"),
     "1# K => \n   1) 1) 1# c => \n            1~ (integer) 1\n"
     "            2~ (integer) 2\n",
     "K c 1\n2\n", "{\"K\":[[{\"c\":[1,2]}]]}\n"},
    {BYTES("%1\r\n+K\r\n%1\r\n*2\r\n:1\r\n:2\r\n:3\r\n"),
     "1# K => 1# 1) (integer) 1\n      2) (integer) 2 => (integer) 3\n",
     "K 1\n2 3\n", "{\"K\":{\"[1,2]\":3}}\n"},
    {BYTES("%1\r\n+K\r\n=7\r\ntxt:a\nb\r\n"), "1# K => a\nb\n", "K a\nb\n",
     "{\"K\":\"a\\nb\"}\n"},
    {BYTES("%3\r\n_\r\n:1\r\n#t\r\n:2\r\n-ERR k\r\n:3\r\n"),
     "1# (nil) => (integer) 1\n2# (true) => (integer) 2\n"
     "3# (error) ERR k => (integer) 3\n",
     " 1\n(true) 2\nERR k\n 3\n",
     "{\"null\":1,\"true\":2,error:\"ERR k\":3}\n"},
};

const int print_same_count = COUNT(print_same);

struct text print(const char *data, size_t len, enum resp_format format)
{
    struct text t = {NULL, 0};
    size_t used = 0;
    FILE *out = open_memstream(&t.data, &t.len);
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(resp_print(out, data, len, format, &used), ERR_OK);
    ck_assert_uint_eq(used, len);
    fclose(out);
    return t;
}
