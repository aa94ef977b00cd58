/* The server's building blocks: hash table, heap, list, patterns, numbers and
 * the request parser. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/dict.h"
#include "server/glob.h"
#include "server/heap.h"
#include "server/list.h"
#include "server/number.h"
#include "server/protocol.h"
#include "tests/support_run.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t random_state;

static uint64_t random_bits(void *context)
{
    (void)context;
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 29);
}

static size_t below(size_t n)
{
    return (size_t)(random_bits(NULL) % n);
}

/* ---- dict ---- */

static const uint64_t seed[2] = {1, 2};

static struct dict_entry *find_number(struct dict *d, int n)
{
    char key[16];
    return dict_find(d, key, (size_t)sprintf(key, "key:%d", n));
}

static struct dict_entry *add_number(struct dict *d, int n)
{
    char key[16];
    return dict_add(d, key, (size_t)sprintf(key, "key:%d", n));
}

static void take_number(struct dict *d, int n)
{
    char key[16];
    struct dict_entry *e = dict_take(d, key, (size_t)sprintf(key, "key:%d", n));
    ck_assert_ptr_nonnull(e);
    dict_entry_free(d, e);
}

START_TEST(test_dict_keeps_every_key_while_it_grows_and_shrinks)
{
    struct mem mem = {0};
    struct dict d;
    dict_init(&d, &mem, seed);
    for (int i = 0; i < 50000; i++) {
        add_number(&d, i);
        ck_assert_ptr_nonnull(find_number(&d, i / 2));
    }
    ck_assert_uint_eq(d.count, 50000);
    for (int i = 0; i < 50000; i++)
        ck_assert_ptr_nonnull(find_number(&d, i));
    ck_assert_ptr_null(find_number(&d, 50000));
    for (int i = 0; i < 49990; i++)
        take_number(&d, i);
    while (dict_work(&d, 100))
        ;
    for (int i = 49990; i < 50000; i++)
        ck_assert_ptr_nonnull(find_number(&d, i));
    /* It shrinks as keys go, so what is left costs little. */
    for (int i = 0; i < 10; i++) {
        add_number(&d, -1);
        take_number(&d, -1);
        while (dict_work(&d, 100))
            ;
    }
    ck_assert_uint_le(d.size[0], 128);
    dict_clear(&d, NULL, NULL);
    ck_assert_uint_eq(mem.used, 0);
}
END_TEST

START_TEST(test_dict_resize_is_spread_over_operations)
{
    struct mem mem = {0};
    struct dict d;
    dict_init(&d, &mem, seed);
    for (int i = 0; i < 1024; i++)
        add_number(&d, i);
    while (dict_work(&d, 100))
        ;
    ck_assert_uint_eq(d.size[1], 0);
    ck_assert_uint_eq(d.size[0], 1024);
    add_number(&d, 1024);
    ck_assert_uint_eq(d.size[1], 2048);
    size_t before = d.moved;
    find_number(&d, 7);
    ck_assert_uint_gt(d.moved, before);
    ck_assert_uint_le(d.moved, before + 11);
    dict_clear(&d, NULL, NULL);
    ck_assert_uint_eq(mem.used, 0);
}
END_TEST

static void mark_seen(void *context, struct dict_entry *e)
{
    (void)context;
    e->mark++;
}

/* Keys that are there all the time are returned, whatever comes and goes. */
START_TEST(test_dict_scan_returns_all_keys_across_resizes)
{
    struct mem mem = {0};
    struct dict d;
    dict_init(&d, &mem, seed);
    for (int i = 0; i < 1000; i++)
        add_number(&d, i);
    uint64_t cursor = 0;
    int more = 1000;
    do {
        cursor = dict_scan(&d, cursor, mark_seen, NULL);
        if (_i == 0 && more < 5000)
            for (int k = 0; k < 20; k++)
                add_number(&d, more++);
        else if (_i == 1 && more > 100)
            take_number(&d, --more);
    } while (cursor != 0);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_ge(find_number(&d, i)->mark, 1);
    if (_i != 1)
        for (int i = 0; i < 1000; i++)
            ck_assert_uint_ge(find_number(&d, i)->mark, 1);
    dict_clear(&d, NULL, NULL);
}
END_TEST

START_TEST(test_dict_random_reaches_every_key)
{
    struct mem mem = {0};
    struct dict d;
    dict_init(&d, &mem, seed);
    ck_assert_ptr_null(dict_random(&d, random_bits, NULL));
    for (int i = 0; i < 100; i++)
        add_number(&d, i);
    for (int i = 0; i < 20000; i++)
        dict_random(&d, random_bits, NULL)->mark++;
    for (int i = 0; i < 100; i++)
        ck_assert_uint_gt(find_number(&d, i)->mark, 0);
    dict_clear(&d, NULL, NULL);
}
END_TEST

START_TEST(test_dict_takes_binary_and_empty_keys)
{
    struct mem mem = {0};
    struct dict d;
    dict_init(&d, &mem, seed);
    dict_add(&d, "", 0);
    dict_add(&d, "a\0b", 3);
    ck_assert_ptr_nonnull(dict_find(&d, "", 0));
    ck_assert_ptr_nonnull(dict_find(&d, "a\0b", 3));
    ck_assert_ptr_null(dict_find(&d, "a\0c", 3));
    ck_assert_ptr_null(dict_find(&d, "a", 1));
    dict_clear(&d, NULL, NULL);
}
END_TEST

/* ---- heap ---- */

START_TEST(test_heap_gives_the_earliest_whatever_changes)
{
    enum { N = 500 };
    static uint32_t slots[N];
    static int64_t at[N];
    struct mem mem = {0};
    struct heap h;
    heap_init(&h, &mem);
    memset(slots, 0, sizeof(slots));
    for (int step = 0; step < 20000; step++) {
        size_t i = below(N);
        if (below(3) == 0) {
            heap_remove(&h, &slots[i]);
        } else {
            at[i] = (int64_t)below(1000);
            heap_set(&h, &slots[i], at[i]);
            ck_assert_int_eq(heap_at(&h, slots[i]), at[i]);
        }
        const struct heap_item *first = heap_first(&h);
        uint32_t count = 0;
        int64_t least = INT64_MAX;
        for (size_t k = 0; k < N; k++) {
            if (slots[k] == 0)
                continue;
            count++;
            if (at[k] < least)
                least = at[k];
        }
        ck_assert_uint_eq(count, h.count);
        if (count > 0)
            ck_assert_int_eq(first->at_ms, least);
        else
            ck_assert_ptr_null(first);
    }
    heap_release(&h);
    ck_assert_uint_eq(mem.used, 0);
}
END_TEST

/* ---- list ---- */

/* A deque of numbers as the model; element n is n % 400 times the letter. */
enum { MODEL = 20000 };
static int model[2 * MODEL];
static char element[9000];

static struct arg element_of(int n)
{
    size_t len = n % 50 == 0 ? 8500 : (size_t)(n % 400);
    memset(element, 'a' + n % 26, len);
    return (struct arg){{.data = element}, len};
}

static void check_element(struct arg got, int n)
{
    struct arg want = element_of(n);
    ck_assert_uint_eq(got.len, want.len);
    ck_assert(memcmp(got.data, want.data, got.len) == 0);
}

START_TEST(test_list_behaves_as_a_deque)
{
    struct mem mem = {0};
    struct list *l = list_new(&mem);
    size_t head = MODEL, tail = MODEL; /* model[head..tail) */
    for (int n = 0; n < MODEL / 2; n++) {
        /* Grows for a while, then shrinks, mostly at one end at a time. */
        bool push = (n / 1000) % 2 == 0 ? below(4) != 0 : below(4) == 0;
        enum list_end end = below(10) == 0 ? LIST_HEAD : LIST_TAIL;
        if ((n / 500) % 2 == 0)
            end = 1 - end;
        if (push) {
            struct arg e = element_of(n);
            list_push(l, &mem, end, e.data, e.len);
            if (end == LIST_HEAD)
                model[--head] = n;
            else
                model[tail++] = n;
        } else if (head < tail) {
            check_element(list_peek(l, end),
                          end == LIST_HEAD ? model[head] : model[tail - 1]);
            list_drop(l, &mem, end);
            if (end == LIST_HEAD)
                head++;
            else
                tail--;
        }
        ck_assert_uint_eq(l->count, tail - head);
        if (head < tail) {
            size_t i = below(tail - head);
            struct list_cursor cursor = list_seek(l, i);
            for (size_t k = i; k < i + 3 && k < tail - head; k++)
                check_element(list_next(&cursor), model[head + k]);
        }
    }
    list_free(l, &mem);
    ck_assert_uint_eq(mem.used, 0);
}
END_TEST

START_TEST(test_list_is_compact)
{
    struct mem mem = {0};
    struct list *l = list_new(&mem);
    for (int i = 0; i < 100000; i++)
        list_push(l, &mem, i % 2 ? LIST_HEAD : LIST_TAIL, "0123456789", 10);
    /* Ten bytes and two of length. */
    ck_assert_uint_lt(mem.used, 100000 * 13);
    list_free(l, &mem);
}
END_TEST

/* ---- patterns ---- */

static const struct {
    const char *pattern, *text;
    bool matches;
} globs[] = {
    {"*", "anything", true},
    {"*", "", false},
    {"", "", true},
    {"", "a", false},
    {"h?llo", "hello", true},
    {"h?llo", "hllo", false},
    {"h*llo", "heeeello", true},
    {"h*llo", "hllo", true},
    {"h[ae]llo", "hallo", true},
    {"h[ae]llo", "hillo", false},
    {"h[^e]llo", "hallo", true},
    {"h[^e]llo", "hello", false},
    {"h[a-b]llo", "hbllo", true},
    {"h[b-a]llo", "hallo", true},
    {"h\\*llo", "h*llo", true},
    {"h\\*llo", "hello", false},
    {"a*b*c", "aXbYc", true},
    {"a*b*c", "aXbY", false},
    {"**a**", "a", true},
    {"a[", "a[", false},
    {"[", "a", false},
    {"[a", "a", true},
    {"a\\", "a\\", true},
    {"[\\]]", "]", true},
    {"[^]", "a", true},
    {"*a", "bab", false},
    {"news.*", "news.art", true},
    {"a*", "a", true},
};

START_TEST(test_globs)
{
    ck_assert_msg(glob_match(globs[_i].pattern, strlen(globs[_i].pattern),
                             globs[_i].text,
                             strlen(globs[_i].text)) == globs[_i].matches,
                  "'%s' on '%s'", globs[_i].pattern, globs[_i].text);
}
END_TEST

/* Many stars on a long text: a matcher that tries everything never ends. */
START_TEST(test_glob_with_many_stars_is_quick)
{
    char pattern[200], text[5000];
    for (size_t i = 0; i < 99; i++)
        memcpy(pattern + 2 * i, "a*", 2);
    memcpy(pattern + 198, "b", 1);
    memset(text, 'a', sizeof(text));
    ck_assert(!glob_match(pattern, 199, text, sizeof(text)));
}
END_TEST

/* ---- numbers ---- */

static const struct {
    const char *text;
    bool good;
    int64_t value;
} numbers[] = {
    {"0", true, 0},
    {"-1", true, -1},
    {"9223372036854775807", true, INT64_MAX},
    {"-9223372036854775808", true, INT64_MIN},
    {"9223372036854775808", false, 0},
    {"-9223372036854775809", false, 0},
    {"99999999999999999999999", false, 0},
    {"", false, 0},
    {"-", false, 0},
    {"-0", false, 0},
    {"01", false, 0},
    {"+1", false, 0},
    {" 1", false, 0},
    {"1 ", false, 0},
    {"1.0", false, 0},
    {"0x1", false, 0},
};

START_TEST(test_numbers)
{
    int64_t value = 0;
    const char *text = numbers[_i].text;
    ck_assert(number_parse(text, strlen(text), &value) == numbers[_i].good);
    ck_assert_int_eq(value, numbers[_i].value);
}
END_TEST

START_TEST(test_memory_sizes)
{
    uint64_t n;
    ck_assert(number_parse_memory("100", 3, &n) && n == 100);
    ck_assert(number_parse_memory("1k", 2, &n) && n == 1000);
    ck_assert(number_parse_memory("1Kb", 3, &n) && n == 1024);
    ck_assert(number_parse_memory("2GB", 3, &n) && n == UINT64_C(2) << 30);
    ck_assert(!number_parse_memory("", 0, &n));
    ck_assert(!number_parse_memory("mb", 2, &n));
    ck_assert(!number_parse_memory("-1", 2, &n));
    ck_assert(!number_parse_memory("1tb", 3, &n));
    ck_assert(!number_parse_memory("9223372036854775807gb", 21, &n));
}
END_TEST

/* ---- requests ---- */

static const struct protocol_limits limits = {.bulk_max = 512 << 20};

/* Requests in all forms, with what they mean: arguments in brackets. */
static const char stream[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"
                             "PING\r\n"
                             "*0\r\n"
                             "\r\n"
                             "ECHO \"a b\\x41\\n\" 'it\\'s'\n"
                             "*1\r\n$4\r\nPING\r\n";
static const char meaning[] = "[SET][k][];[PING];[ECHO][a bA\n][it's];[PING];";

static void describe(const struct request *r, char *out)
{
    for (size_t i = 0; i < r->argc; i++)
        sprintf(out + strlen(out), "[%.*s]", (int)r->args[i].len,
                r->args[i].data);
    strcat(out, ";");
}

/* Shows the parser the stream in pieces of `piece` bytes. */
START_TEST(test_requests_are_the_same_however_they_arrive)
{
    size_t piece = (size_t)_i, begin = 0, end = 0;
    struct mem mem = {0};
    struct request r;
    char got[200] = "";
    request_init(&r);
    while (begin < sizeof(stream) - 1) {
        end =
            end + piece < sizeof(stream) - 1 ? end + piece : sizeof(stream) - 1;
        for (;;) {
            /* A copy each time, so that no view into an old one survives. */
            char *data = malloc(end - begin + 1);
            ck_assert_ptr_nonnull(data);
            memcpy(data, stream + begin, end - begin);
            size_t used = 0;
            enum parse result =
                request_parse(&r, &mem, &limits, data, end - begin, &used);
            ck_assert_int_ne(result, PARSE_ERROR);
            if (result == PARSE_READY)
                describe(&r, got);
            free(data);
            begin += used;
            if (result == PARSE_MORE)
                break;
        }
    }
    ck_assert_str_eq(got, meaning);
    request_release(&r, &mem);
    ck_assert_uint_eq(mem.used, 0);
}
END_TEST

static const struct {
    const char *data, *error;
} wrong[] = {
    {"*abc\r\n", "Protocol error: invalid multibulk length"},
    {"*2147483648\r\n", "Protocol error: invalid multibulk length"},
    {"*1\r\n+PING\r\n", "Protocol error: expected '$', got '+'"},
    {"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"},
    {"*1\r\n$1073741824\r\n", "Protocol error: invalid bulk length"},
    {"GET \"a\r\n", "Protocol error: unbalanced quotes in request"},
};

START_TEST(test_wrong_requests_are_named)
{
    struct mem mem = {0};
    struct request r;
    size_t used;
    request_init(&r);
    ck_assert_int_eq(request_parse(&r, &mem, &limits, wrong[_i].data,
                                   strlen(wrong[_i].data), &used),
                     PARSE_ERROR);
    ck_assert_str_eq(r.error, wrong[_i].error);
    request_release(&r, &mem);
}
END_TEST

START_TEST(test_endless_lines_are_refused)
{
    static const char *const begins[] = {"GET ", "*1", "*1\r\n$4"};
    static const char *const errors[] = {
        "Protocol error: too big inline request",
        "Protocol error: too big mbulk count string",
        "Protocol error: too big bulk count string"};
    static char data[PROTOCOL_INLINE_MAX + 100];
    struct mem mem = {0};
    struct request r;
    size_t used;
    request_init(&r);
    memset(data, '1', sizeof(data));
    memcpy(data, begins[_i], strlen(begins[_i]));
    ck_assert_int_eq(request_parse(&r, &mem, &limits, data, 1000, &used),
                     PARSE_MORE);
    ck_assert_int_eq(
        request_parse(&r, &mem, &limits, data, sizeof(data), &used),
        PARSE_ERROR);
    ck_assert_str_eq(r.error, errors[_i]);
    request_release(&r, &mem);
}
END_TEST

/* A count alone buys no memory. */
START_TEST(test_announced_arguments_take_no_memory_before_they_come)
{
    static const char data[] = "*2000000000\r\n$1\r\na\r\n$500000000\r\n";
    struct mem mem = {0};
    struct request r;
    size_t used;
    request_init(&r);
    ck_assert_int_eq(
        request_parse(&r, &mem, &limits, data, sizeof(data) - 1, &used),
        PARSE_MORE);
    ck_assert_uint_lt(mem.used, 1024);
    request_release(&r, &mem);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server_data");
    TCase *t = tcase_create("dict");
    tcase_add_test(t, test_dict_keeps_every_key_while_it_grows_and_shrinks);
    tcase_add_test(t, test_dict_resize_is_spread_over_operations);
    tcase_add_loop_test(t, test_dict_scan_returns_all_keys_across_resizes, 0,
                        3);
    tcase_add_test(t, test_dict_random_reaches_every_key);
    tcase_add_test(t, test_dict_takes_binary_and_empty_keys);
    suite_add_tcase(suite, t);
    t = tcase_create("heap and list");
    tcase_add_test(t, test_heap_gives_the_earliest_whatever_changes);
    tcase_add_test(t, test_list_behaves_as_a_deque);
    tcase_add_test(t, test_list_is_compact);
    tcase_set_timeout(t, 60);
    suite_add_tcase(suite, t);
    t = tcase_create("texts");
    tcase_add_loop_test(t, test_globs, 0, (int)COUNT(globs));
    tcase_add_test(t, test_glob_with_many_stars_is_quick);
    tcase_add_loop_test(t, test_numbers, 0, (int)COUNT(numbers));
    tcase_add_test(t, test_memory_sizes);
    suite_add_tcase(suite, t);
    t = tcase_create("requests");
    tcase_add_loop_test(t, test_requests_are_the_same_however_they_arrive, 1,
                        (int)sizeof(stream));
    tcase_add_loop_test(t, test_wrong_requests_are_named, 0, (int)COUNT(wrong));
    tcase_add_loop_test(t, test_endless_lines_are_refused, 0, 3);
    tcase_add_test(t, test_announced_arguments_take_no_memory_before_they_come);
    suite_add_tcase(suite, t);
    return support_run(suite);
}
