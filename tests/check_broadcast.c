/* The stream of a subscription: what comes when, in pieces of any size. */
#include "ipc/broadcast.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

#define ID 0x1122334455667788ULL

static size_t put(char *at, struct reply_chunk c, const char *body)
{
    memcpy(at, &c, sizeof(c));
    memcpy(at + sizeof(c), body, c.length);
    return sizeof(c) + c.length;
}

static size_t put_kind(char *at, enum broadcast_kind kind, uint32_t n,
                       const char *body)
{
    return put(at, broadcast_chunk(ID, kind, n, (uint32_t)strlen(body)), body);
}

static size_t put_end(char *at, enum reply_status status, const char *body)
{
    struct reply_chunk c = {.request = ID,
                            .length = (uint32_t)strlen(body),
                            .count = 1,
                            .flags = REPLY_END,
                            .status = (uint8_t)status};
    return put(at, c, body);
}

static const struct {
    enum broadcast_kind kind;
    uint32_t n;
    const char *body;
} story[] = {
    {BROADCAST_CONFIRMED, 2, "two names"},
    {BROADCAST_MESSAGE, 1, "first"},
    {BROADCAST_LAGGED, 4000000000U, ""},
    {BROADCAST_MESSAGE, 1, "second, longer than the first one"},
    {BROADCAST_GAP, 1500, ""},
    {BROADCAST_MESSAGE, 1, "x"},
    {BROADCAST_END, 0, "over"},
};
#define STORY (sizeof(story) / sizeof(story[0]))

static size_t put_story(char *at)
{
    size_t len = 0;
    for (size_t i = 0; i + 1 < STORY; i++)
        len += put_kind(at + len, story[i].kind, story[i].n, story[i].body);
    return len + put_end(at + len, REPLY_UNAVAILABLE, story[STORY - 1].body);
}

static void assert_event(const struct broadcast_event *ev, size_t i)
{
    ck_assert_int_eq(ev->kind, story[i].kind);
    ck_assert_uint_eq(ev->n, story[i].n);
    ck_assert_uint_eq(ev->len, strlen(story[i].body));
    ck_assert_mem_eq(ev->data, story[i].body, ev->len);
}

START_TEST(test_a_stream_read_at_once)
{
    char data[1024];
    size_t len = put_story(data), pos = 0, size;
    struct broadcast b;
    struct broadcast_event ev;
    broadcast_init(&b, ID);
    for (size_t i = 0; i < STORY; i++) {
        ck_assert_int_eq(broadcast_next(&b, data + pos, len - pos, &ev, &size),
                         ERR_OK);
        assert_event(&ev, i);
        pos += size;
    }
    ck_assert_uint_eq(pos, len);
    ck_assert_int_eq(ev.status, REPLY_UNAVAILABLE);
    ck_assert_int_eq(broadcast_next(&b, data + pos, 0, &ev, &size), ERR_CLOSED);
    ck_assert_int_eq(broadcast_next(&b, data, 1, &ev, &size), ERR_PROTO);
}
END_TEST

START_TEST(test_a_stream_read_byte_by_byte)
{
    char data[1024];
    size_t len = put_story(data), pos = 0, have = 0, i = 0, size;
    struct broadcast b;
    struct broadcast_event ev;
    broadcast_init(&b, ID);
    while (i < STORY) {
        enum err e = broadcast_next(&b, data + pos, have, &ev, &size);
        if (e == ERR_OK) {
            ck_assert_uint_eq(size, have);
            assert_event(&ev, i++);
            pos += size;
            have = 0;
            continue;
        }
        ck_assert_int_eq(e, ERR_AGAIN);
        ck_assert_uint_gt(size, have);
        ck_assert_uint_lt(pos + have, len);
        have++;
    }
    ck_assert_uint_eq(pos, len);
}
END_TEST

START_TEST(test_says_how_much_it_needs)
{
    char data[256];
    put_kind(data, BROADCAST_CONFIRMED, 1, "0123456789");
    struct broadcast b;
    struct broadcast_event ev;
    size_t size = 0;
    broadcast_init(&b, ID);
    ck_assert_int_eq(broadcast_next(&b, data, 0, &ev, &size), ERR_AGAIN);
    ck_assert_uint_eq(size, sizeof(struct reply_chunk));
    ck_assert_int_eq(broadcast_next(&b, data, size, &ev, &size), ERR_AGAIN);
    ck_assert_uint_eq(size, sizeof(struct reply_chunk) + 10);
}
END_TEST

START_TEST(test_a_refusal_is_the_end)
{
    char data[256];
    size_t size, len = put_end(data, REPLY_INVALID, "no");
    struct broadcast b;
    struct broadcast_event ev;
    broadcast_init(&b, ID);
    ck_assert_int_eq(broadcast_next(&b, data, len, &ev, &size), ERR_OK);
    ck_assert_int_eq(ev.kind, BROADCAST_END);
    ck_assert_int_eq(ev.status, REPLY_INVALID);
}
END_TEST

/* What breaks a stream, alone or after its confirmation. */
static const struct {
    const char *what;
    bool confirmed;
    struct reply_chunk chunk;
} wrong[] = {
    {"another request", false, {.request = ID + 1, .first = 1, .count = 1}},
    {"no kind", false, {.request = ID, .first = 1}},
    {"an unknown kind", true, {.request = ID, .first = 1, .count = 9}},
    {"END as a kind", true, {.request = ID, .count = BROADCAST_END}},
    {"a message before the confirmation",
     false,
     {.request = ID, .length = 1, .first = 1, .count = BROADCAST_MESSAGE}},
    {"a lag before it",
     false,
     {.request = ID, .first = 1, .count = BROADCAST_LAGGED}},
    {"a gap before it", false, {.request = ID, .count = BROADCAST_GAP}},
    {"a second confirmation",
     true,
     {.request = ID, .first = 1, .count = BROADCAST_CONFIRMED}},
    {"a confirmation of nothing",
     false,
     {.request = ID, .count = BROADCAST_CONFIRMED}},
    {"an empty message",
     true,
     {.request = ID, .first = 1, .count = BROADCAST_MESSAGE}},
    {"a lag of none", true, {.request = ID, .count = BROADCAST_LAGGED}},
    {"a lag with bytes",
     true,
     {.request = ID, .length = 1, .first = 1, .count = BROADCAST_LAGGED}},
    {"a gap with bytes",
     true,
     {.request = ID, .length = 1, .count = BROADCAST_GAP}},
    {"a status without an end",
     true,
     {.request = ID,
      .length = 1,
      .first = 1,
      .count = BROADCAST_MESSAGE,
      .status = REPLY_LOST}},
    {"MORE",
     true,
     {.request = ID,
      .length = 1,
      .first = 1,
      .count = BROADCAST_MESSAGE,
      .flags = REPLY_MORE}},
    {"an unknown status",
     true,
     {.request = ID, .flags = REPLY_END, .status = 99}},
    {"an endless end",
     true,
     {.request = ID, .length = REPLY_CHUNK_MAX + 1, .flags = REPLY_END}},
    {"something reserved",
     true,
     {.request = ID, .count = BROADCAST_GAP, .reserved = 1}},
};

START_TEST(test_what_is_not_ours_breaks_it_for_good)
{
    char good[256], bad[256] = {0};
    size_t size, len = put_kind(good, BROADCAST_CONFIRMED, 1, "n");
    struct broadcast b;
    struct broadcast_event ev;
    broadcast_init(&b, ID);
    if (wrong[_i].confirmed)
        ck_assert_int_eq(broadcast_next(&b, good, len, &ev, &size), ERR_OK);
    memcpy(bad, &wrong[_i].chunk, sizeof(wrong[_i].chunk));
    ck_assert_msg(broadcast_next(&b, bad, sizeof(bad), &ev, &size) == ERR_PROTO,
                  "%s was taken", wrong[_i].what);
    ck_assert_int_eq(broadcast_next(&b, good, len, &ev, &size), ERR_PROTO);
}
END_TEST

START_TEST(test_every_kind_has_a_name)
{
    ck_assert_str_eq(broadcast_kind_str(BROADCAST_CONFIRMED), "confirmed");
    ck_assert_str_eq(broadcast_kind_str(BROADCAST_END), "end");
    ck_assert_str_eq(broadcast_kind_str((enum broadcast_kind)77), "unknown");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("broadcast");
    TCase *t = tcase_create("stream");
    tcase_add_test(t, test_a_stream_read_at_once);
    tcase_add_test(t, test_a_stream_read_byte_by_byte);
    tcase_add_test(t, test_says_how_much_it_needs);
    tcase_add_test(t, test_a_refusal_is_the_end);
    tcase_add_loop_test(t, test_what_is_not_ours_breaks_it_for_good, 0,
                        (int)(sizeof(wrong) / sizeof(wrong[0])));
    tcase_add_test(t, test_every_kind_has_a_name);
    suite_add_tcase(s, t);
    return support_run(s);
}
