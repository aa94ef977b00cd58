/* The pipeline: replies find whom they belong to in whatever pieces they come,
 * and a server that breaks the rules is found out. What becomes of them when
 * the connection breaks is in check_pipeline_breaks. */
#include "manager/pipeline.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pipeline_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- in order ---- */

START_TEST(test_reply_to_the_dead_is_dropped_in_order)
{
    append_plan(0);
    write_all();
    asker_die(&askers[1]);
    desk_turn(&desk);
    for (size_t i = 0; i < place_count; i++) {
        char reply[64];
        reply_of(i, reply);
        ck_assert_int_eq(feed_text(reply), ERR_OK);
    }
    for (size_t i = 0; i < place_count; i++) {
        size_t e = places[i].entry;
        char reply[64];
        reply_of(i, reply);
        if (plan[e].kind == OWN || e == 1)
            continue;
        if (places[i].index == 0)
            ck_assert(asker_read(&desk, &askers[e]));
        ck_assert(asker_told(&askers[e], places[i].index, REPLY_OK, reply));
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_discarded), plan[1].commands);
    ck_assert_uint_eq(desk.answers.inflight, 0);
    release_plan();
}
END_TEST

/* ---- in pieces ---- */

/* A reply for each command of the plan, of every type, with pushes between. */
static const char *const replies[] = {
    "+OK\r\n",
    ":-12\r\n",
    "$-1\r\n",
    "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$2\r\n\r\n\r\n",
    "-ERR no\r\n",
    "$0\r\n\r\n",
    "%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n",
    "_\r\n",
    "+PONG\r\n",
    "#t\r\n",
    ",1.5\r\n",
    "=7\r\ntxt:abc\r\n",
    "*-1\r\n",
    "!5\r\nERR x\r\n",
    "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
};

#define REPLIES (sizeof(replies) / sizeof(replies[0]))
#define PUSH ">2\r\n+message\r\n$3\r\nfoo\r\n"

static char incoming[2048];
static size_t incoming_len;

static void compose(void)
{
    incoming_len = 0;
    for (size_t i = 0; i < REPLIES; i++) {
        if (i % 3 == 1) {
            memcpy(incoming + incoming_len, PUSH, sizeof(PUSH) - 1);
            incoming_len += sizeof(PUSH) - 1;
        }
        memcpy(incoming + incoming_len, replies[i], strlen(replies[i]));
        incoming_len += strlen(replies[i]);
    }
}

static void check_replies(const char *how, size_t at)
{
    ck_assert(pipeline_idle(&pipe_line));
    for (size_t i = 0; i < place_count; i++) {
        size_t e = places[i].entry;
        if (plan[e].kind == OWN)
            continue;
        if (places[i].index == 0)
            ck_assert(asker_read(&desk, &askers[e]));
        ck_assert_msg(
            asker_told(&askers[e], places[i].index, REPLY_OK, replies[i]),
            "%s %zu: command %zu has '%s'", how, at, i,
            askers[e].data[places[i].index]);
    }
    release_plan();
}

START_TEST(test_replies_split_at_every_byte)
{
    compose();
    for (size_t at = 0; at <= incoming_len; at++) {
        append_plan(0);
        ck_assert_uint_eq(place_count, REPLIES);
        write_all();
        ck_assert_int_eq(feed(incoming, at), ERR_OK);
        ck_assert_int_eq(feed(incoming + at, incoming_len - at), ERR_OK);
        check_replies("split at", at);
    }
    for (size_t step = 1; step < 8; step++) {
        append_plan(0);
        write_all();
        for (size_t at = 0; at < incoming_len; at += step)
            ck_assert_int_eq(feed(incoming + at, incoming_len - at < step
                                                     ? incoming_len - at
                                                     : step),
                             ERR_OK);
        check_replies("in pieces of", step);
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_pushes),
                      (incoming_len + 8) * 5);
}
END_TEST

START_TEST(test_long_replies_in_pieces_of_any_size)
{
    static const size_t steps[] = {1 << 20, 65536, 65535, 40000, 4097, 999};
    enum { SIZE = 300000 };
    char *bytes = malloc(SIZE + 64);
    ck_assert_ptr_nonnull(bytes);
    for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
        struct asker a, b;
        asker_ask(&desk, &a, 3, 0);
        asker_ask(&desk, &b, 1, 0);
        struct run run = {
            .req = a.req, .count = 3, .data = "xxx", .len = 3, .first_len = 1};
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        run = (struct run){
            .req = b.req, .count = 1, .data = "x", .len = 1, .first_len = 1};
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        write_all();
        int n = snprintf(bytes, 64, "+short\r\n$%d\r\n", SIZE);
        memset(bytes + n, 'y', SIZE);
        memcpy(bytes + n + SIZE, "\r\n:7\r\n+b\r\n", 10);
        size_t len = (size_t)n + SIZE + 10;
        for (size_t at = 0; at < len; at += steps[k]) {
            size_t piece = len - at < steps[k] ? len - at : steps[k];
            ck_assert_int_eq(feed(bytes + at, piece), ERR_OK);
        }
        ck_assert(asker_read(&desk, &a));
        ck_assert(asker_read(&desk, &b));
        ck_assert(asker_told(&a, 0, REPLY_OK, "+short\r\n"));
        ck_assert(asker_told(&a, 2, REPLY_OK, ":7\r\n"));
        ck_assert(asker_told(&b, 0, REPLY_OK, "+b\r\n"));
        ck_assert(a.told[1]);
        ck_assert_uint_eq(a.len[1], SIZE + 11);
        ck_assert_mem_eq(a.data[1], bytes + 8, a.len[1]);
        asker_release(&desk, &a);
        asker_release(&desk, &b);
    }
    free(bytes);
}
END_TEST

/* ---- a server that breaks the rules ---- */

START_TEST(test_reply_that_nobody_asked_for)
{
    ck_assert_int_eq(feed_text("+OK\r\n"), ERR_PROTO);
}
END_TEST

START_TEST(test_reply_before_its_command_has_left)
{
    for (size_t sent = 0; sent < 300; sent += 3) {
        append_plan(0);
        if (sent >= stream_len) {
            pipeline_break(&pipe_line, false, "a test");
            release_plan();
            break;
        }
        write_and_answer(sent, sizeof(stream), 0);
        size_t due = 0;
        while (due < place_count && places[due].end <= sent)
            due++;
        /* Of independent commands, the manager knows where the last one ends:
         * replies to all before it can't be early by much. */
        size_t taken = 0;
        enum err e = ERR_OK;
        for (; taken < place_count; taken++) {
            e = feed_text("+X\r\n");
            if (e != ERR_OK)
                break;
        }
        ck_assert_int_eq(e, ERR_PROTO);
        ck_assert_uint_ge(taken, due);
        ck_assert(taken == due || plan[places[due].entry].commands > 1);
        pipeline_break(&pipe_line, false, "a test");
        ck_assert(pipeline_idle(&pipe_line));
        ck_assert_uint_eq(desk.answers.inflight, 0);
        release_plan();
    }
}
END_TEST

START_TEST(test_bytes_that_are_no_reply)
{
    static const char *const bytes[] = {"hello\r\n", "$x\r\n", "*1\r\n?\r\n",
                                        "$3\r\nabcd\r\n", "HTTP/1.1 400\r\n"};
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        append_plan(0);
        write_all();
        ck_assert_int_eq(feed_text(bytes[i]), ERR_PROTO);
        pipeline_break(&pipe_line, true, "no reply");
        ck_assert(pipeline_idle(&pipe_line));
        release_plan();
    }
}
END_TEST

/* ---- the manager's own ---- */

static char captured[256];

static void note(void *context, const char *data, size_t len)
{
    (void)context;
    snprintf(captured, sizeof(captured), "%.*s", (int)len, data);
}

START_TEST(test_capture_takes_replies_in_any_pieces)
{
    static const char reply[] = "*2\r\n$3\r\nfoo\r\n:1\r\n";
    for (size_t at = 0; at < sizeof(reply); at++) {
        struct capture capture;
        capture_init(&capture, 100, note, NULL);
        struct run run = {.taker = &capture.taker,
                          .count = 1,
                          .data = "x",
                          .len = 1,
                          .first_len = 1};
        captured[0] = '\0';
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        write_all();
        ck_assert_int_eq(feed(reply, at), ERR_OK);
        ck_assert_int_eq(feed(reply + at, sizeof(reply) - 1 - at), ERR_OK);
        ck_assert_str_eq(captured, reply);
        ck_assert(pipeline_idle(&pipe_line));
        capture_release(&capture);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pipeline");
    TCase *t = support_case(s, "pipeline", 60);
    tcase_add_checked_fixture(t, scene_setup, scene_teardown);
    tcase_add_test(t, test_reply_to_the_dead_is_dropped_in_order);
    tcase_add_test(t, test_replies_split_at_every_byte);
    tcase_add_test(t, test_long_replies_in_pieces_of_any_size);
    tcase_add_test(t, test_reply_that_nobody_asked_for);
    tcase_add_test(t, test_reply_before_its_command_has_left);
    tcase_add_test(t, test_bytes_that_are_no_reply);
    tcase_add_test(t, test_capture_takes_replies_in_any_pieces);
    return s;
}

int main(void)
{
    return support_run(suite());
}
