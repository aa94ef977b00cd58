/* What sentinels say, and what somebody says in their place. */
#include "manager/sentinel_reply.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

/* In memory of its very length, so that a byte read too far is seen. */
static char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, len);
    return copy;
}

/* ---- the master ---- */

static const struct {
    const char *reply;
    enum err e;
    const char *host;
    unsigned port;
} masters[] = {
    {"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n", ERR_OK, "127.0.0.1", 6379},
    {"*2\r\n$3\r\n::1\r\n$5\r\n65535\r\n", ERR_OK, "::1", 65535},
    {"*2\r\n$6\r\nredis1\r\n$1\r\n1\r\n", ERR_OK, "redis1", 1},
    {"*2\r\n+redis-1.example\r\n+1\r\n", ERR_OK, "redis-1.example", 1},
    {"*-1\r\n", ERR_ABSENT, "", 0},
    {"$-1\r\n", ERR_ABSENT, "", 0},
    {"_\r\n", ERR_ABSENT, "", 0},
    {"-NOAUTH Authentication required.\r\n", ERR_DENIED, "", 0},
    {"+OK\r\n", ERR_PROTO, "", 0},
    {":1\r\n", ERR_PROTO, "", 0},
    {"*0\r\n", ERR_PROTO, "", 0},
    {"*1\r\n$1\r\nh\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$-1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$-1\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n:1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n*0\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$0\r\n\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$1\r\n0\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$5\r\n65536\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$2\r\n-1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$0\r\n\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$1\r\nh\r\n$20\r\n00000000000000000001\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$3\r\na b\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$3\r\na\nb\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$4\r\n/run\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$5\r\nu:p@h\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$5\r\n[::1]\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
    {"*2\r\n$2\r\nh\xc2\r\n$1\r\n1\r\n", ERR_PROTO, "", 0},
};

START_TEST(test_master)
{
    struct uri_place place = {.port = 7}, untouched = place;
    size_t len = strlen(masters[_i].reply);
    char *reply = copy_of(masters[_i].reply, len);
    ck_assert_int_eq(sentinel_read_master(reply, len, &place), masters[_i].e);
    if (masters[_i].e == ERR_OK) {
        ck_assert_str_eq(place.host, masters[_i].host);
        ck_assert_uint_eq(place.port, masters[_i].port);
    } else {
        ck_assert_mem_eq(&place, &untouched, sizeof(place));
    }
    free(reply);
}
END_TEST

/* A host that just fits, and one that does not; a NUL in it. */
START_TEST(test_long_hosts)
{
    for (size_t n = 255; n <= 256; n++) {
        char reply[400], host[300];
        struct uri_place place;
        memset(host, 'h', sizeof(host));
        host[n] = '\0';
        int len = snprintf(reply, sizeof(reply),
                           "*2\r\n$%zu\r\n%s\r\n$1\r\n1\r\n", n, host);
        ck_assert_int_eq(sentinel_read_master(reply, (size_t)len, &place),
                         n == 255 ? ERR_OK : ERR_PROTO);
    }
    static const char nul[] = "*2\r\n$3\r\na\0b\r\n$1\r\n1\r\n";
    struct uri_place place;
    ck_assert_int_eq(sentinel_read_master(nul, sizeof(nul) - 1, &place),
                     ERR_PROTO);
}
END_TEST

/* ---- the others ---- */

#define ENTRY(host, port)                                                      \
    "*6\r\n$4\r\nname\r\n$3\r\nabc\r\n$2\r\nip\r\n" host "$4\r\nport\r\n" port

static const struct {
    const char *reply;
    enum err e;
    uint32_t count;
} others[] = {
    {"*0\r\n", ERR_OK, 0},
    {"*1\r\n" ENTRY("$1\r\na\r\n", "$1\r\n1\r\n"), ERR_OK, 1},
    {"*2\r\n" ENTRY("$1\r\na\r\n", "$1\r\n1\r\n")
         ENTRY("$1\r\nb\r\n", "$5\r\n26379\r\n"),
     ERR_OK, 2},
    {"*1\r\n%1\r\n$2\r\nip\r\n$1\r\na\r\n", ERR_OK, 0},
    {"*1\r\n%2\r\n$2\r\nip\r\n$1\r\na\r\n$4\r\nport\r\n$1\r\n1\r\n", ERR_OK, 1},
    {"*1\r\n*0\r\n", ERR_OK, 0},
    {"*2\r\n" ENTRY("$0\r\n\r\n", "$1\r\n1\r\n")
         ENTRY("$1\r\na\r\n", "$1\r\n1\r\n"),
     ERR_OK, 1},
    {"*1\r\n" ENTRY("$1\r\na\r\n", "$1\r\nx\r\n"), ERR_OK, 0},
    {"-ERR No such master with that name\r\n", ERR_DENIED, 0},
    {"*-1\r\n", ERR_PROTO, 0},
    {"+OK\r\n", ERR_PROTO, 0},
    {"*1\r\n$1\r\na\r\n", ERR_PROTO, 0},
    {"*1\r\n*1\r\n$2\r\nip\r\n", ERR_PROTO, 0},
    {"*1\r\n*2\r\n$2\r\nip\r\n*0\r\n", ERR_PROTO, 0},
    {"*1\r\n*2\r\n$2\r\nip\r\n$-1\r\n", ERR_PROTO, 0},
    {"*2000000000\r\n*0\r\n", ERR_PROTO, 0},
    {"*1\r\n*2000000000\r\n$2\r\nip\r\n$1\r\na\r\n", ERR_PROTO, 0},
};

START_TEST(test_others)
{
    struct uri_place places[4];
    uint32_t count = 99;
    size_t len = strlen(others[_i].reply);
    char *reply = copy_of(others[_i].reply, len);
    ck_assert_int_eq(sentinel_read_others(reply, len, places, 4, &count),
                     others[_i].e);
    ck_assert_uint_eq(count, others[_i].e == ERR_OK ? others[_i].count : 99);
    free(reply);
}
END_TEST

START_TEST(test_more_others_than_there_is_room_for)
{
    char reply[4096];
    int len = snprintf(reply, sizeof(reply), "*20\r\n");
    for (int i = 10; i < 30; i++)
        len += snprintf(reply + len, sizeof(reply) - (size_t)len,
                        ENTRY("$1\r\na\r\n", "$2\r\n%d\r\n"), i);
    struct uri_place places[3];
    uint32_t count;
    ck_assert_int_eq(
        sentinel_read_others(reply, (size_t)len, places, 3, &count), ERR_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(places[2].port, 12);
}
END_TEST

/* ---- events ---- */

static const struct {
    const char *text;
    enum err e;
    unsigned port;
} switches[] = {
    {"mymaster 10.0.0.1 1 10.0.0.2 2", ERR_OK, 2},
    {"mymaster ::1 1 ::1 3", ERR_OK, 3},
    {"other 10.0.0.1 1 10.0.0.2 2", ERR_ABSENT, 0},
    {"mymaster2 10.0.0.1 1 10.0.0.2 2", ERR_ABSENT, 0},
    {"", ERR_PROTO, 0},
    {"mymaster", ERR_PROTO, 0},
    {"mymaster 10.0.0.1 1 10.0.0.2", ERR_PROTO, 0},
    {"mymaster 10.0.0.1 1 10.0.0.2 2 3", ERR_PROTO, 0},
    {"mymaster 10.0.0.1 1 10.0.0.2 0", ERR_PROTO, 0},
    {"mymaster 10.0.0.1 1 10.0.0.2 two", ERR_PROTO, 0},
    {"mymaster 10.0.0.1 1 [::1] 2", ERR_PROTO, 0},
};

START_TEST(test_switches)
{
    struct uri_place to;
    size_t len = strlen(switches[_i].text);
    char *text = copy_of(switches[_i].text, len);
    ck_assert_int_eq(sentinel_read_switch(text, len, "mymaster", &to),
                     switches[_i].e);
    if (switches[_i].e == ERR_OK)
        ck_assert_uint_eq(to.port, switches[_i].port);
    free(text);
}
END_TEST

START_TEST(test_mentions)
{
    static const char text[] = "sentinel abc 10.0.0.1 26379 @ mymaster h 1";
    ck_assert(sentinel_mentions(text, sizeof(text) - 1, "mymaster"));
    ck_assert(sentinel_mentions(text, sizeof(text) - 1, "sentinel"));
    ck_assert(sentinel_mentions(text, sizeof(text) - 1, "1"));
    ck_assert(!sentinel_mentions(text, sizeof(text) - 1, "master"));
    ck_assert(!sentinel_mentions(text, sizeof(text) - 1, "mymaste"));
    ck_assert(!sentinel_mentions("", 0, "mymaster"));
}
END_TEST

START_TEST(test_words)
{
    static const struct {
        const char *reply;
        enum err e;
        enum sentinel_word word;
        const char *text;
    } cases[] = {
        {"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", ERR_OK,
         SENTINEL_WORD_SUBSCRIBED, NULL},
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\na b\r\n", ERR_OK,
         SENTINEL_WORD_EVENT, "a b"},
        {">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n", ERR_OK,
         SENTINEL_WORD_EVENT, ""},
        {"*2\r\n$4\r\npong\r\n$0\r\n\r\n", ERR_OK, SENTINEL_WORD_OTHER, NULL},
        {"+PONG\r\n", ERR_OK, SENTINEL_WORD_OTHER, NULL},
        {"-NOPERM no\r\n", ERR_OK, SENTINEL_WORD_ERROR, "NOPERM no"},
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n", ERR_PROTO, 0, NULL},
        {"*1\r\n$7\r\nmessage\r\n", ERR_PROTO, 0, NULL},
        {"*0\r\n", ERR_PROTO, 0, NULL},
        {"*1\r\n:1\r\n", ERR_PROTO, 0, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sentinel_said said;
        size_t len = strlen(cases[i].reply);
        char *reply = copy_of(cases[i].reply, len);
        ck_assert_int_eq(sentinel_read_word(reply, len, &said), cases[i].e);
        if (cases[i].e == ERR_OK)
            ck_assert_int_eq(said.word, cases[i].word);
        if (cases[i].text != NULL) {
            ck_assert_uint_eq(said.text_len, strlen(cases[i].text));
            ck_assert_mem_eq(said.text, cases[i].text, said.text_len);
        }
        free(reply);
    }
}
END_TEST

/* ---- roles ---- */

START_TEST(test_roles)
{
    static const struct {
        const char *reply;
        enum err e;
        const char *role;
    } cases[] = {
        {"*3\r\n$6\r\nmaster\r\n:10\r\n*0\r\n", ERR_OK, "master"},
        {"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:3\r\n",
         ERR_OK, "slave"},
        {"*2\r\n$8\r\nsentinel\r\n*1\r\n$1\r\na\r\n", ERR_OK, "sentin?"},
        {"*1\r\n$9\r\n\x1b[2Jxyzab\r\n", ERR_OK, "?[2Jxyz"},
        {"-NOPERM no\r\n", ERR_DENIED, NULL},
        {"*0\r\n", ERR_PROTO, NULL},
        {"$6\r\nmaster\r\n", ERR_PROTO, NULL},
        {"*1\r\n:1\r\n", ERR_PROTO, NULL},
        {"*1\r\n$-1\r\n", ERR_PROTO, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char role[8];
        size_t len = strlen(cases[i].reply);
        char *reply = copy_of(cases[i].reply, len);
        ck_assert_int_eq(sentinel_read_role(reply, len, role, sizeof(role)),
                         cases[i].e);
        if (cases[i].e == ERR_OK)
            ck_assert_int_eq(strncmp(role, cases[i].role, 6), 0);
        free(reply);
    }
}
END_TEST

/* Every reply cut anywhere is refused, and read no further than it goes. */
START_TEST(test_cut_anywhere)
{
    static const char *const whole[] = {
        "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n",
        "*1\r\n" ENTRY("$1\r\na\r\n", "$1\r\n1\r\n"),
        "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\na b\r\n",
        "*1\r\n$6\r\nmaster\r\n",
    };
    for (size_t i = 0; i < 4; i++) {
        for (size_t len = 0; len < strlen(whole[i]); len++) {
            char *reply = copy_of(whole[i], len), role[16];
            struct uri_place place[2];
            struct sentinel_said said;
            uint32_t count;
            ck_assert_int_ne(sentinel_read_master(reply, len, place), ERR_OK);
            if (i != 3 && i != 1)
                ck_assert_int_ne(
                    sentinel_read_others(reply, len, place, 2, &count), ERR_OK);
            if (i == 1)
                ck_assert_int_eq(
                    sentinel_read_others(reply, len, place, 2, &count),
                    ERR_PROTO);
            if (i == 2)
                ck_assert_int_eq(sentinel_read_word(reply, len, &said),
                                 ERR_PROTO);
            if (i == 3)
                ck_assert_int_eq(
                    sentinel_read_role(reply, len, role, sizeof(role)),
                    ERR_PROTO);
            free(reply);
        }
    }
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

int main(void)
{
    Suite *s = suite_create("sentinel_reply");
    TCase *t = tcase_create("sentinel_reply");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_master, 0, COUNT(masters));
    tcase_add_test(t, test_long_hosts);
    tcase_add_loop_test(t, test_others, 0, COUNT(others));
    tcase_add_test(t, test_more_others_than_there_is_room_for);
    tcase_add_loop_test(t, test_switches, 0, COUNT(switches));
    tcase_add_test(t, test_mentions);
    tcase_add_test(t, test_words);
    tcase_add_test(t, test_roles);
    tcase_add_test(t, test_cut_anywhere);
    return support_run(s);
}
