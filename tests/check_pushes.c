/* Frames of a subscribed connection, in pieces, too long, and out of memory. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "manager/pushes.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define MAX ((size_t)64 << 20)
#define BODY ((size_t)16 << 20)

static const char news[] =
    "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n";

/* Feeds text that holds at most one whole frame, in pieces of `step`. */
static enum err feed(struct pushes *p, const char *text, size_t len,
                     size_t step, struct push *push)
{
    enum err e = ERR_AGAIN;
    for (size_t at = 0; at < len && e == ERR_AGAIN; at += step) {
        const char *data = text + at;
        size_t n = len - at < step ? len - at : step;
        e = pushes_next(p, &data, &n, push);
    }
    return e;
}

static void check_is_news(const struct push *push)
{
    ck_assert_int_eq(push->kind, PUSH_MESSAGE);
    ck_assert(!push->cut && push->topic == TOPIC_CHANNEL);
    ck_assert_uint_eq(push->name_len, 4);
    ck_assert_mem_eq(push->name, "news", 4);
    ck_assert_uint_eq(push->len, sizeof(news) - 1);
    ck_assert_mem_eq(push->data, news, push->len);
}

START_TEST(test_a_frame_comes_whole_or_in_pieces)
{
    struct pushes p;
    pushes_init(&p, MAX);
    for (size_t step = 1; step <= sizeof(news); step++) {
        struct push push;
        ck_assert(feed(&p, news, sizeof(news) - 1, step, &push) == ERR_OK);
        check_is_news(&push);
    }
    pushes_release(&p);
}
END_TEST

/* A message of BODY bytes; freed by the caller. */
static char *long_message(size_t *len)
{
    static const char head[] =
        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$16777216\r\n";
    *len = sizeof(head) - 1 + BODY + 2;
    char *text = malloc(*len);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', *len);
    memcpy(text, head, sizeof(head) - 1);
    memcpy(text + *len - 2, "\r\n", 2);
    return text;
}

START_TEST(test_of_one_too_long_the_name_is_known)
{
    struct pushes p;
    struct push push;
    size_t len;
    char *text = long_message(&len);
    pushes_init(&p, 64 << 10);
    ck_assert(feed(&p, text, len, 40000, &push) == ERR_OK);
    ck_assert_int_eq(push.kind, PUSH_MESSAGE);
    ck_assert(push.cut);
    ck_assert_mem_eq(push.name, "news", 4);
    /* And the next one is as ever. */
    ck_assert(feed(&p, news, sizeof(news) - 1, 7, &push) == ERR_OK);
    check_is_news(&push);
    pushes_release(&p);
    free(text);
}
END_TEST

/* A frame whose beginning was lost is nobody's: passed over, a subscriber would
 * miss a message without a word. */
START_TEST(test_without_memory_it_says_so)
{
    struct pushes p;
    struct push push;
    size_t len;
    if (SUPPORT_SANITIZED) {
        support_skip("test_without_memory_it_says_so",
                     "a sanitizer's malloc does not return NULL");
        return;
    }
    char *text = long_message(&len);
    pushes_init(&p, MAX);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY}, old;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &old), 0);
    none.rlim_max = old.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    enum err e = feed(&p, text, len, BODY / 2, &push);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
    ck_assert_int_eq(e, ERR_NOMEM);
    /* On the next connection it works again. */
    pushes_reset(&p);
    ck_assert(feed(&p, news, sizeof(news) - 1, 3, &push) == ERR_OK);
    check_is_news(&push);
    pushes_release(&p);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pushes");
    TCase *frames = tcase_create("frames");
    tcase_set_timeout(frames, 60);
    tcase_add_test(frames, test_a_frame_comes_whole_or_in_pieces);
    tcase_add_test(frames, test_of_one_too_long_the_name_is_known);
    tcase_add_test(frames, test_without_memory_it_says_so);
    suite_add_tcase(s, frames);
    return support_run(s);
}
