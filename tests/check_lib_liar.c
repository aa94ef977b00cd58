/*
 * The library under a manager that lies: whatever comes through a reply pipe,
 * it ends in a status that is true, and the next command has its own reply.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/broadcast.h"
#include "ipc/clock.h"
#include "tests/liar_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- answers to commands ---- */

#define CHUNK(n, commands, bits, what, text)                                   \
    {                                                                          \
        .first = (n), .count = (commands), .flags = (bits), .status = (what),  \
        .body = (text)                                                         \
    }
#define LIE(...)                                                               \
    {                                                                          \
        .chunks = { __VA_ARGS__ }                                              \
    }

#define TEN(x) x x x x x x x x x x
#define NOT_ITS "is not an answer to this request"
#define NOT_RESP "the reply is not RESP"

static const struct {
    const char *what;
    struct lie lie;
    enum mqredis_status status;
    const char *says;
} to_one[] = {
    {"of another request",
     LIE({.count = 1, .flags = REPLY_END, .body = "+a\r\n", .others = true}),
     MQREDIS_LOST, NOT_ITS},
    {"a status that nobody knows",
     LIE(CHUNK(0, 1, REPLY_END, REPLY_STATUS_COUNT, "+a\r\n")), MQREDIS_LOST,
     NOT_ITS},
    {"an end without a reply", LIE(CHUNK(0, 0, REPLY_END, REPLY_OK, "+a\r\n")),
     MQREDIS_LOST, NOT_ITS},
    /* It came whole; only its pipe is not to be used again. */
    {"something behind the end",
     LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "+a\r\n"),
         CHUNK(0, 1, REPLY_END, REPLY_OK, "+b\r\n")),
     MQREDIS_OK, "a"},
    {"nothing", LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "")), MQREDIS_LOST,
     NOT_RESP},
    {"no RESP", LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "hello")), MQREDIS_LOST,
     NOT_RESP},
    {"two replies", LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "+a\r\n+b\r\n")),
     MQREDIS_LOST, NOT_RESP},
    {"half of one", LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "$5\r\nab")),
     MQREDIS_LOST, NOT_RESP},
    {"more elements than bytes",
     LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "*1000000\r\n+a\r\n")), MQREDIS_LOST,
     NOT_RESP},
    {"a tree without a ground",
     LIE(CHUNK(0, 1, REPLY_END, REPLY_OK,
               TEN(TEN("*1\r\n") TEN("*1\r\n")) "+a\r\n")),
     MQREDIS_TOO_BIG, "nested too deeply"},
    /* Not a lie: its connection broke in the middle. */
    {"a part that is void",
     LIE(CHUNK(0, 0, REPLY_MORE, REPLY_OK, "$5\r\nab"),
         CHUNK(0, 1, REPLY_END, REPLY_LOST, "the connection \033broke")),
     MQREDIS_LOST, ": the connection ?broke"},
};

/* Nothing is left of the lie where the next reply comes in. */
static void check_next(const char *what)
{
    struct mqredis_reply *r = mqredis_command(mq, "PING");
    ck_assert_msg(r->type == MQREDIS_STATUS && strcmp(r->str, "OK") == 0,
                  "after %s: %s", what, lib_text(r));
    mqredis_free(r);
    ck_assert_int_eq(reply_pipes(), 1);
}

START_TEST(test_what_is_no_answer_to_one_command)
{
    begin();
    for (size_t i = 0; i < sizeof(to_one) / sizeof(to_one[0]); i++) {
        for (int how = 0; how < 2; how++) {
            liar_says(&liar, &to_one[i].lie);
            struct mqredis_reply *r =
                how == 0 ? mqredis_command(mq, "ECHO a")
                         : mqredis_wait(mqredis_submit(mq, "ECHO a"));
            ck_assert_msg(r->status == to_one[i].status &&
                              strstr(r->str, to_one[i].says) != NULL,
                          "%s (%d): %s", to_one[i].what, how, lib_text(r));
            mqredis_free(r);
            check_next(to_one[i].what);
        }
    }
    end();
}
END_TEST

/* Of three commands. */
static const struct {
    const char *what;
    struct lie lie;
    int good; /* so many have their own replies: "a", "b"... */
} to_three[] = {
    {"true",
     LIE(CHUNK(0, 2, 0, REPLY_OK, "+a\r\n+b\r\n"),
         CHUNK(2, 1, REPLY_END, REPLY_OK, "+c\r\n")),
     3},
    {"one reply for two",
     LIE(CHUNK(0, 2, 0, REPLY_OK, "+a\r\n"),
         CHUNK(2, 1, REPLY_END, REPLY_OK, "+c\r\n")),
     1},
    {"two replies for one", LIE(CHUNK(0, 1, 0, REPLY_OK, "+a\r\n+b\r\n")), 2},
    {"no RESP", LIE(CHUNK(0, 3, REPLY_END, REPLY_OK, "+a\r\nhello\r\n")), 1},
    {"the first one twice",
     LIE(CHUNK(0, 1, 0, REPLY_OK, "+a\r\n"),
         CHUNK(0, 1, 0, REPLY_OK, "+x\r\n")),
     1},
    {"a text for what was answered",
     LIE(CHUNK(0, 1, 0, REPLY_OK, "+a\r\n"),
         CHUNK(0, 1, 0, REPLY_INVALID, "wrong")),
     1},
    {"more than there are",
     LIE(CHUNK(0, 2, 0, REPLY_OK, "+a\r\n+b\r\n"),
         CHUNK(1, 2, 0, REPLY_OK, "+c\r\n")),
     2},
};

START_TEST(test_what_is_no_answer_to_a_batch)
{
    begin();
    for (size_t i = 0; i < sizeof(to_three) / sizeof(to_three[0]); i++) {
        for (int how = 0; how < 2; how++) {
            struct mqredis_batch *b = mqredis_batch_new(mq);
            for (int j = 0; j < 3; j++)
                mqredis_batch_add(b, "INCR n");
            liar_says(&liar, &to_three[i].lie);
            struct mqredis_reply *r =
                how == 0 ? mqredis_batch_run(b)
                         : mqredis_wait(mqredis_batch_submit(b));
            ck_assert_msg(r->type == MQREDIS_BATCH && r->elements == 3,
                          "%s: %s", to_three[i].what, lib_text(r));
            for (int j = 0; j < 3; j++) {
                const struct mqredis_reply *one = r->element[j];
                if (j < to_three[i].good)
                    ck_assert_msg(one->type == MQREDIS_STATUS &&
                                      one->len == 1 && one->str[0] == 'a' + j,
                                  "%s, %d: %s", to_three[i].what, j,
                                  lib_text(one));
                else
                    ck_assert_msg(one->status == MQREDIS_LOST &&
                                      strstr(one->str, NOT_ITS) != NULL,
                                  "%s, %d: %s", to_three[i].what, j,
                                  lib_text(one));
            }
            ck_assert_int_eq(r->status,
                             to_three[i].good == 3 ? MQREDIS_OK : MQREDIS_LOST);
            mqredis_free(r);
            check_next(to_three[i].what);
        }
    }
    end();
}
END_TEST

/* ---- streams ---- */

#define CONFIRMED                                                              \
    {                                                                          \
        .first = 1, .count = BROADCAST_CONFIRMED, .body = ""                   \
    }
#define SAYS(text)                                                             \
    {                                                                          \
        .first = 1, .count = BROADCAST_MESSAGE, .body = text                   \
    }
#define HELLO "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n"
#define BROKEN "the stream is broken"

static const char *const names[] = {"a"};

static struct mqredis_event next_event(struct mqredis_stream *s)
{
    struct mqredis_event ev;
    ck_assert_msg(mqredis_stream_next(s, support_wait_ms(), &ev), "no event");
    return ev;
}

static struct mqredis_stream *subscribe(const struct lie *lie)
{
    liar_says(&liar, lie);
    return mqredis_subscribe(mq, 1, names, NULL, &why);
}

START_TEST(test_what_is_no_subscription)
{
    static const struct {
        const char *what;
        struct lie lie;
        enum mqredis_status status;
        const char *says;
    } cases[] = {
        {"of another",
         LIE({.first = 1,
              .count = BROADCAST_CONFIRMED,
              .body = "",
              .others = true}),
         MQREDIS_LOST, BROKEN},
        {"a message first", LIE(SAYS(HELLO)), MQREDIS_LOST, BROKEN},
        {"refused by Redis",
         LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "-NOPERM not a\r\n")),
         MQREDIS_INVALID, "NOPERM not a"},
        {"refused by Redis, which stammers",
         LIE(CHUNK(0, 1, REPLY_END, REPLY_OK, "no")), MQREDIS_INVALID,
         "Redis refused the subscription"},
        {"refused by the manager",
         LIE(CHUNK(0, 1, REPLY_END, REPLY_UNAVAILABLE, "no room")),
         MQREDIS_UNAVAILABLE, "no room"},
        {"given up at once",
         {.give_up = true},
         MQREDIS_UNAVAILABLE,
         "gave the stream up"},
    };
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqredis_stream *s = subscribe(&cases[i].lie);
        ck_assert_msg(s == NULL, "%s: a stream", cases[i].what);
        ck_assert_msg(why.status == cases[i].status &&
                          strstr(why.text, cases[i].says) != NULL,
                      "%s: %s: %s", cases[i].what,
                      mqredis_status_str(why.status), why.text);
        ck_assert_int_eq(reply_pipes(), 0);
        /* Who does not wait is told by the stream. */
        liar_says(&liar, &cases[i].lie);
        s = mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, names, NULL,
                                &why);
        ck_assert_msg(s != NULL, "%s: %s", cases[i].what, why.text);
        struct mqredis_event ev = next_event(s);
        ck_assert_int_eq(ev.type, MQREDIS_END);
        ck_assert_int_eq(ev.status, cases[i].status);
        mqredis_stream_close(s);
    }
    end();
}
END_TEST

START_TEST(test_what_breaks_a_stream)
{
    static const struct lie lies[] = {
        LIE(CONFIRMED, SAYS(HELLO), CONFIRMED),
        LIE(CONFIRMED, SAYS(HELLO), SAYS("hello")),
        LIE(CONFIRMED, SAYS(HELLO), SAYS("*2\r\n$1\r\na\r\n$1\r\nb\r\n")),
        LIE(CONFIRMED, SAYS(HELLO), SAYS("*3\r\n$1\r\na\r\n:1\r\n:2\r\n")),
        LIE(CONFIRMED, SAYS(HELLO), SAYS("*3\r\n$1\r\na\r\n$1\r\nb\r\n")),
        LIE(CONFIRMED, SAYS(HELLO), {.first = 1, .count = 9, .body = ""}),
    };
    begin();
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct mqredis_stream *s = subscribe(&lies[i]);
        ck_assert_msg(s != NULL, "%zu: %s", i, why.text);
        ck_assert_int_eq(next_event(s).type, MQREDIS_SUBSCRIBED);
        /* What was right before is told. */
        struct mqredis_event ev = next_event(s);
        ck_assert_int_eq(ev.type, MQREDIS_MESSAGE);
        ck_assert_uint_eq(ev.len, 5);
        ck_assert_mem_eq(ev.data, "hello", 5);
        /* The end is told as often as it is asked for. */
        for (int again = 0; again < 2; again++) {
            ev = next_event(s);
            ck_assert_msg(ev.type == MQREDIS_END, "%zu: event %d", i, ev.type);
            ck_assert_int_eq(ev.status, MQREDIS_LOST);
            ck_assert_str_eq(ev.data, BROKEN);
        }
        /* It can be had again, and says that something may be missing. */
        ck_assert_msg(mqredis_stream_renew(s, support_wait_ms(), &why) ==
                          MQREDIS_OK,
                      "%s", why.text);
        ck_assert_int_eq(next_event(s).type, MQREDIS_GAP);
        mqredis_stream_close(s);
        ck_assert_int_eq(reply_pipes(), 0);
    }
    end();
}
END_TEST

START_TEST(test_a_stream_says_what_is_missing_and_how_it_ended)
{
    static const struct lie lie = {
        .chunks =
            {CONFIRMED,
             {.first = 7, .count = BROADCAST_LAGGED, .body = ""},
             SAYS(
                 "*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$2\r\nhi\r\n"),
             {.first = 1500, .count = BROADCAST_GAP, .body = ""}},
        .give_up = true};
    begin();
    struct mqredis_stream *s = subscribe(&lie);
    ck_assert_msg(s != NULL, "%s", why.text);
    ck_assert_int_eq(next_event(s).type, MQREDIS_SUBSCRIBED);
    struct mqredis_event ev = next_event(s);
    ck_assert_int_eq(ev.type, MQREDIS_LAGGED);
    ck_assert_uint_eq(ev.count, 7);
    ev = next_event(s);
    ck_assert_int_eq(ev.type, MQREDIS_MESSAGE);
    ck_assert_mem_eq(ev.pattern, "a*", 2);
    ck_assert_mem_eq(ev.data, "hi", 2);
    ev = next_event(s);
    ck_assert_int_eq(ev.type, MQREDIS_GAP);
    ck_assert_uint_eq(ev.count, 1500);
    ev = next_event(s);
    ck_assert_int_eq(ev.type, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    /* A manager that says nothing: the time passes, and it stays as it was. */
    static const struct lie silence = {.silent = true};
    liar_says(&liar, &silence);
    ck_assert_int_eq(mqredis_stream_renew(s, 1000, &why), MQREDIS_EXPIRED);
    ck_assert_ptr_nonnull(strstr(why.text, "before the subscription was"));
    ev = next_event(s);
    ck_assert_int_eq(ev.type, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    mqredis_stream_close(s);
    end();
}
END_TEST

/* ---- the channel ---- */

static void publish(uint32_t kind, const char *error)
{
    snprintf(liar.state.error, sizeof(liar.state.error), "%s", error);
    status_set_state(liar.status, &liar.state, kind);
}

static void *connect_later(void *arg)
{
    (void)arg;
    support_sleep_ms(60);
    publish(STATE_CONNECTED, "");
    return NULL;
}

START_TEST(test_the_state_of_a_manager)
{
    struct mqredis_info info;
    begin();
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "no state yet"));
    ck_assert_int_eq(mqredis_wait_ready(mq, 30, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "no state yet"));
    publish(STATE_RECONNECTING, "refused");
    ck_assert_int_eq(mqredis_wait_ready(mq, 30, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(
        strstr(why.text, "not connected to nowhere: refused"));
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_OK);
    ck_assert(!info.connected);
    ck_assert_str_eq(info.last_error, "refused");
    ck_assert_int_eq(info.queue_capacity, 8);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, connect_later, NULL), 0);
    ck_assert_msg(mqredis_wait_ready(mq, support_wait_ms(), &why) == MQREDIS_OK,
                  "%s", why.text);
    pthread_join(thread, NULL);
    end();
}
END_TEST

/* A state that is no state is told at once: waiting would not mend it. */
START_TEST(test_a_state_of_another_version)
{
    struct mqredis_info info;
    begin();
    ck_assert_int_eq(unlinkat(liar.ch.dirfd, "status", 0), 0);
    int fd =
        openat(liar.ch.dirfd, "status", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_eq(write(fd, "?", 1), 1);
    close(fd);
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_SYSTEM);
    ck_assert_ptr_nonnull(strstr(why.text, "not of this version"));
    uint64_t t0 = clock_ns();
    ck_assert_int_eq(mqredis_wait_ready(mq, 60000, &why), MQREDIS_SYSTEM);
    ck_assert_uint_lt((clock_ns() - t0) / NS_PER_MS, 30000);
    end();
}
END_TEST

/* Its reply folder is gone: so is it, or it soon will be. */
START_TEST(test_a_channel_without_a_reply_folder)
{
    begin();
    struct mqredis *second = mqredis_open(liar.ch.name, &why);
    struct mqredis *third = mqredis_open(liar.ch.name, &why);
    ck_assert_int_eq(unlinkat(liar.ch.dirfd, "reply", AT_REMOVEDIR), 0);
    ck_assert_int_eq(lib_status(mqredis_command(mq, "PING")),
                     MQREDIS_UNAVAILABLE);
    ck_assert_int_eq(lib_status(mqredis_wait(mqredis_submit(second, "PING"))),
                     MQREDIS_UNAVAILABLE);
    ck_assert_ptr_null(mqredis_subscribe(third, 1, names, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_UNAVAILABLE);
    ck_assert_uint_eq(liar.asked, 0);
    mqredis_close(second);
    mqredis_close(third);
    end();
}
END_TEST

/* A manager before payload files: what fits into a message goes. */
START_TEST(test_a_channel_without_a_payload_folder)
{
    static const char large[20000];
    begin();
    ck_assert_int_eq(unlinkat(liar.ch.dirfd, "payload", AT_REMOVEDIR), 0);
    for (int how = 0; how < 2; how++) {
        struct mqredis_reply *r =
            how == 0 ? mqredis_set(mq, "k", large, sizeof(large))
                     : mqredis_wait(mqredis_submit(mq, "SET k %b", large,
                                                   sizeof(large)));
        ck_assert_msg(r->status == MQREDIS_TOO_BIG &&
                          strstr(r->str, "not executed") != NULL,
                      "%s", lib_text(r));
        mqredis_free(r);
        ck_assert_uint_eq(liar.asked, (unsigned)how);
        check_next("a large argument");
    }
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lib_liar");
    TCase *lies = tcase_create("lies");
    tcase_add_checked_fixture(lies, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(lies, 60);
    tcase_add_test(lies, test_what_is_no_answer_to_one_command);
    tcase_add_test(lies, test_what_is_no_answer_to_a_batch);
    tcase_add_test(lies, test_what_is_no_subscription);
    tcase_add_test(lies, test_what_breaks_a_stream);
    tcase_add_test(lies, test_a_stream_says_what_is_missing_and_how_it_ended);
    tcase_add_test(lies, test_the_state_of_a_manager);
    tcase_add_test(lies, test_a_state_of_another_version);
    tcase_add_test(lies, test_a_channel_without_a_reply_folder);
    tcase_add_test(lies, test_a_channel_without_a_payload_folder);
    suite_add_tcase(s, lies);
    return support_run(s);
}
