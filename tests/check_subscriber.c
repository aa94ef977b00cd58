/* What a subscriber's pipe holds where messages were left out. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/subscriber.h"
#include "tests/support_run.h"

#define REQUEST 7

struct desk {
    struct loop loop;
    struct status *status;
    struct outlet outlet;
    struct subscriber s;
    int reader;
    size_t total;
};

static void nobody_is_gone(void *context, void *owner)
{
    (void)context;
    (void)owner;
    ck_abort_msg("the pipe has a reader");
}

static void setup(struct desk *d)
{
    int ends[2];
    memset(d, 0, sizeof(*d));
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    ck_assert(loop_init(&d->loop) == ERR_OK);
    d->status = calloc(1, sizeof(*d->status));
    ck_assert_ptr_nonnull(d->status);
    d->outlet.loop = &d->loop;
    d->outlet.status = d->status;
    d->outlet.max_messages = 100;
    d->outlet.max_bytes = 1 << 20;
    d->outlet.gone = nobody_is_gone;
    d->reader = ends[0];
    ck_assert(subscriber_init(&d->s, &d->outlet, ends[1], REQUEST, NULL) ==
              ERR_OK);
}

static void teardown(struct desk *d)
{
    subscriber_release(&d->s);
    ck_assert_uint_eq(d->total, 0); /* every reference was dropped */
    ck_assert_uint_eq(d->outlet.backlog_bytes, 0);
    loop_release(&d->loop);
    close(d->reader);
    free(d->status);
}

static void push(struct desk *d, const char *text)
{
    struct published *m =
        published_new(BROADCAST_MESSAGE, 1, text, strlen(text), &d->total);
    ck_assert_ptr_nonnull(m);
    subscriber_push(&d->s, m);
    published_unref(m);
}

/* Reads what is there as words: "one lagged:2 gap:30 two". */
static const char *heard(struct desk *d)
{
    static char text[512];
    size_t at = 0;
    struct reply_chunk c;
    text[0] = '\0';
    while (read(d->reader, &c, sizeof(c)) == (ssize_t)sizeof(c)) {
        char body[64] = "";
        ck_assert_uint_eq(c.request, REQUEST);
        ck_assert_uint_lt(c.length, sizeof(body));
        if (c.length > 0)
            ck_assert_int_eq(read(d->reader, body, c.length), (int)c.length);
        const char *space = at == 0 ? "" : " ";
        int n =
            c.count == BROADCAST_MESSAGE
                ? snprintf(text + at, sizeof(text) - at, "%s%s", space, body)
                : snprintf(text + at, sizeof(text) - at, "%s%s:%u", space,
                           broadcast_kind_str(c.count), c.first);
        at += (size_t)n;
        ck_assert_uint_lt(at, sizeof(text));
    }
    return text;
}

START_TEST(test_messages_come_as_they_are)
{
    struct desk d;
    setup(&d);
    push(&d, "one");
    push(&d, "two");
    subscriber_flush(&d.s);
    ck_assert_str_eq(heard(&d), "one two");
    teardown(&d);
}
END_TEST

START_TEST(test_the_oldest_give_way)
{
    struct desk d;
    setup(&d);
    for (int i = 0; i < 3; i++)
        push(&d, "old");
    subscriber_drop_oldest(&d.s);
    subscriber_drop_oldest(&d.s);
    subscriber_flush(&d.s);
    ck_assert_str_eq(heard(&d), "lagged:2 old");
    ck_assert_uint_eq(counter_get(&d.status->counters[COUNTER_pubsub_lagged]),
                      2);
    teardown(&d);
}
END_TEST

/* The word about it stands where the message would: before the next one, and
 * after what was written. */
START_TEST(test_what_there_is_no_memory_for_is_told_in_its_place)
{
    struct desk d;
    setup(&d);
    push(&d, "written");
    subscriber_flush(&d.s);
    push(&d, "waiting");
    subscriber_lose(&d.s, BROADCAST_MESSAGE, 1);
    push(&d, "next");
    subscriber_flush(&d.s);
    ck_assert_str_eq(heard(&d), "written lagged:2 next");
    ck_assert_uint_eq(counter_get(&d.status->counters[COUNTER_pubsub_lagged]),
                      2);
    subscriber_lose(&d.s, BROADCAST_GAP, 30);
    push(&d, "after");
    subscriber_flush(&d.s);
    ck_assert_str_eq(heard(&d), "gap:30 after");
    teardown(&d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("subscriber");
    TCase *backlog = tcase_create("backlog");
    tcase_add_test(backlog, test_messages_come_as_they_are);
    tcase_add_test(backlog, test_the_oldest_give_way);
    tcase_add_test(backlog,
                   test_what_there_is_no_memory_for_is_told_in_its_place);
    suite_add_tcase(s, backlog);
    return support_run(s);
}
