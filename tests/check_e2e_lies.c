/* Messages that no library sends, to a real manager: each is refused with a
 * line, and whoever speaks properly is in step with Redis afterwards. */
#include "tests/e2e.h"

#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

/* What is wrong with a message, and how it must end. */
struct garbage {
    const char *name;
    const char *payload;
    uint32_t ncommands;
    enum e2e_end end;
};

#define INCR "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"

static const struct garbage garbage[] = {
    {"a command cut short", "*2\r\n$4\r\nINCR\r\n$1\r\n", 1, E2E_REFUSED},
    {"a command cut in its argument", "*2\r\n$4\r\nINCR\r\n$5\r\nab", 1,
     E2E_REFUSED},
    {"two commands for one", INCR INCR, 1, E2E_REFUSED},
    {"one command for two", INCR, 2, E2E_REFUSED},
    {"a count of none", INCR, 0, E2E_REFUSED},
    {"a count that lies", INCR, 4000000000U, E2E_REFUSED},
    {"no command at all", "", 1, E2E_REFUSED},
    {"*0", "*0\r\n", 1, E2E_REFUSED},
    {"*-1", "*-1\r\n", 1, E2E_REFUSED},
    {"*01", "*01\r\n$4\r\nPING\r\n", 1, E2E_REFUSED},
    {"$04", "*1\r\n$04\r\nPING\r\n", 1, E2E_REFUSED},
    {"$+4", "*1\r\n$+4\r\nPING\r\n", 1, E2E_REFUSED},
    {"$-1", "*1\r\n$-1\r\n", 1, E2E_REFUSED},
    {"$536870913", "*1\r\n$536870913\r\nPING\r\n", 1, E2E_REFUSED},
    {"an inline command", "INCR n\r\n", 1, E2E_REFUSED},
    {"*0 behind a command", INCR "*0\r\n", 2, E2E_REFUSED},
    {"bytes behind a command", INCR "x", 1, E2E_REFUSED},
    {"a large argument without its bytes", "*2\r\n$4\r\nINCR\r\n@1\r\n", 1,
     E2E_REFUSED},
};

static int served;

/* The connection is in step: the next command's reply is its own. */
static void assert_in_step(const char *after)
{
    char expect[16];
    snprintf(expect, sizeof(expect), ":%d\r\n", ++served);
    enum e2e_end end = e2e_ask(&client, &call, TIMEOUT_MS, "INCR in-step");
    ck_assert_msg(end == E2E_OK && e2e_is(&call, expect),
                  "after %s: %d, '%.*s'", after, end, (int)call.len, call.data);
}

static void begin_incr(struct e2e_call *c)
{
    ck_assert_int_eq(
        e2e_begin(&client, c, 1, INCR, sizeof(INCR) - 1, TIMEOUT_MS), ERR_OK);
}

/* Sends what is in client.message by hand. */
static void put(const char *data, size_t len, unsigned priority)
{
    ck_assert_int_eq(mq_send(client.tx.mq, data, len, priority), 0);
}

START_TEST(test_commands_that_are_none)
{
    scene_begin(_i, NULL);
    served = 0;
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        const struct garbage *g = &garbage[i];
        for (int flag = 0; flag < 2; flag++) {
            enum e2e_end end = e2e_ask_raw(
                &client, &call, flag ? MESSAGE_INDEPENDENT : 0, g->ncommands,
                g->payload, strlen(g->payload), TIMEOUT_MS);
            /* The claim of a count that can't be is answered as far as it can
             * be: the pipe may say what is no answer to that claim. */
            if (end == E2E_BROKEN &&
                (g->ncommands == 0 || g->ncommands > 1000000))
                end = g->end;
            ck_assert_msg(end == g->end, "%s: %d %s", g->name, end, call.text);
            assert_in_step(g->name);
        }
    }
    ck_assert_str_eq(e2e_redis_ask(&redis, "GET n"), "$-1\r\n");
    ck_assert_uint_ge(e2e_counter(&manager, COUNTER_invalid),
                      sizeof(garbage) / sizeof(garbage[0]) * 2);
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

START_TEST(test_headers_that_lie)
{
    scene_begin(_i, NULL);
    served = 0;
    uint64_t unanswerable = 0;
    static struct e2e_call c;

    begin_incr(&c);
    c.header.payload_len += 1;
    memcpy(client.message, &c.header, sizeof(c.header));
    put(client.message, sizeof(c.header) + sizeof(INCR) - 1, 0);
    ck_assert_int_eq(e2e_finish(&client, &c), E2E_REFUSED);
    assert_in_step("a payload longer than the message");

    begin_incr(&c);
    c.header.payload_len = UINT32_MAX;
    memcpy(client.message, &c.header, sizeof(c.header));
    put(client.message, sizeof(c.header) + sizeof(INCR) - 1, 0);
    ck_assert_int_eq(e2e_finish(&client, &c), E2E_REFUSED);
    assert_in_step("a payload of 4 GB");

    begin_incr(&c);
    c.header.flags = 0x8000;
    ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
    ck_assert_int_eq(e2e_finish(&client, &c), E2E_REFUSED);
    assert_in_step("unknown flags");

    begin_incr(&c);
    c.header.version += 1;
    ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
    ck_assert_int_eq(e2e_finish(&client, &c), E2E_REFUSED);
    assert_in_step("another version");

    begin_incr(&c);
    c.header.epoch ^= 1;
    ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
    ck_assert_int_eq(e2e_finish(&client, &c), E2E_UNAVAILABLE);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_stale), 1);
    assert_in_step("a stale epoch");

    /* Nobody is answered for these: counted, that is all. */
    begin_incr(&c);
    memcpy(client.message, &c.header, sizeof(c.header));
    put(client.message, sizeof(c.header) + sizeof(INCR) - 1, 7);
    unanswerable++;
    e2e_forget(&client, &c);
    assert_in_step("another priority");
    begin_incr(&c);
    c.header.magic ^= 1;
    ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
    unanswerable++;
    e2e_forget(&client, &c);
    put("", 0, 0);
    put("x", 1, 0);
    unanswerable += 2;
    char bytes[1024];
    for (size_t i = 0; i < 20; i++) {
        ck_assert_int_eq(random_bytes(bytes, sizeof(bytes)), ERR_OK);
        put(bytes, sizeof(bytes) >> (i % 10), 0);
        unanswerable++;
    }
    assert_in_step("random bytes");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_garbage), unanswerable);

    /* And nobody reads there. */
    begin_incr(&c);
    c.header.slot += 1000;
    ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
    assert_in_step("a reply pipe that is not there");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_gone), 1);
    ck_assert_str_eq(e2e_redis_ask(&redis, "GET n"), "$-1\r\n");
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* A reply pipe is opened by name: what lies there must be a pipe of its own. */
START_TEST(test_reply_pipes_that_are_none)
{
    scene_begin(_i, NULL);
    served = 0;
    char name[ONESHOT_NAME_MAX], victim[128];
    static struct e2e_call c;
    snprintf(victim, sizeof(victim), "%s", support_path("victim"));
    int fd = open(victim, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);

    for (int kind = 0; kind < 3; kind++) {
        static const char *const kinds[] = {"a symbolic link", "a second name",
                                            "a plain file"};
        begin_incr(&c);
        c.header.slot += 5000 + (uint64_t)kind;
        char path[256];
        oneshot_name(name, c.header.client, c.header.slot);
        snprintf(path, sizeof(path), "%s/%s/reply/%s", support_scratch(),
                 manager.channel, name);
        int made = kind == 0   ? symlink(victim, path)
                   : kind == 1 ? link(victim, path)
                               : open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        ck_assert_int_ge(made, 0);
        ck_assert_int_eq(e2e_send(&client, &c), ERR_OK);
        assert_in_step(kinds[kind]);
        if (kind == 2) {
            struct stat st;
            ck_assert_int_eq(fstat(made, &st), 0);
            ck_assert_int_eq(st.st_size, 0);
        }
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_gone), 3);
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, 0);
    ck_assert_str_eq(e2e_redis_ask(&redis, "GET n"), "$-1\r\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_lies");
    TCase *t = support_case(s, "lies", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_commands_that_are_none);
    e2e_add(t, test_headers_that_lie);
    e2e_add(t, test_reply_pipes_that_are_none);
    return s;
}

int main(void)
{
    return support_run(suite());
}
