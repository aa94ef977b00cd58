/* The watch cell: never a torn value, whoever is killed when. */
#include "ipc/watch.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define READERS 16
#define WORDS 74 /* about the size of the manager's state */

/* Each word follows from the first, so that any mixture of two shows. */
struct value {
    uint64_t words[WORDS];
};

struct stage {
    struct watch w;
    _Atomic int stop, ready;
    _Atomic uint64_t reads[READERS], changes[READERS], torn, backwards, failed;
};

static uint64_t mix(uint64_t x, uint64_t i)
{
    x += (i + 1) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    return x ^ (x >> 27);
}

static void value_set(struct value *v, uint64_t n)
{
    v->words[0] = n;
    for (uint64_t i = 1; i < WORDS; i++)
        v->words[i] = mix(n, i);
}

static bool value_whole(const struct value *v)
{
    for (uint64_t i = 1; i < WORDS; i++)
        if (v->words[i] != mix(v->words[0], i))
            return false;
    return true;
}

static void publish(struct watch *w, uint64_t n)
{
    struct value v;
    value_set(&v, n);
    watch_publish(w, &v, sizeof(v));
}

static void expect(const struct watch *w, uint64_t n)
{
    struct value v;
    ck_assert_int_eq(watch_read(w, &v, sizeof(v), NULL), ERR_OK);
    ck_assert_uint_eq(v.words[0], n);
    ck_assert(value_whole(&v));
}

/* ---- values ---- */

START_TEST(test_nothing_before_the_first_value)
{
    struct watch *w = support_shared(sizeof(*w));
    struct value v;
    uint32_t version = 99;
    ck_assert_int_eq(watch_read(w, &v, sizeof(v), &version), ERR_AGAIN);
    ck_assert_uint_eq(version, 99);
    publish(w, 5);
    ck_assert_int_eq(watch_read(w, &v, sizeof(v), &version), ERR_OK);
    ck_assert_uint_eq(version, 1);
    expect(w, 5);
}
END_TEST

START_TEST(test_only_the_latest_value_is_seen)
{
    struct watch *w = support_shared(sizeof(*w));
    for (uint64_t n = 1; n < 100; n++) {
        publish(w, n);
        if (n % 7 == 0)
            expect(w, n);
    }
    expect(w, 99);
}
END_TEST

START_TEST(test_values_of_every_size)
{
    struct watch *w = support_shared(sizeof(*w));
    char in[WATCH_VALUE_MAX], out[WATCH_VALUE_MAX + 1];
    static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 1023, WATCH_VALUE_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t len = sizes[i];
        for (size_t j = 0; j < len; j++)
            in[j] = (char)(j * 3 + i);
        memset(out, 'x', sizeof(out));
        watch_publish(w, in, len);
        ck_assert_int_eq(watch_read(w, out, len, NULL), ERR_OK);
        ck_assert_int_eq(memcmp(in, out, len), 0);
        ck_assert_int_eq(out[len], 'x');
    }
}
END_TEST

START_TEST(test_version_goes_round)
{
    struct watch *w = support_shared(sizeof(*w));
    struct value v;
    uint32_t version, before = 0;
    publish(w, 1);
    w->version = UINT32_MAX - 6;
    for (uint64_t n = 2; n < 20; n++) {
        publish(w, n);
        expect(w, n);
        ck_assert_int_eq(watch_read(w, &v, sizeof(v), &version), ERR_OK);
        ck_assert_uint_ne(version, 0);
        ck_assert_uint_ne(version, before);
        before = version;
    }
}
END_TEST

/* ---- many readers, one writer ---- */

static void read_on(struct stage *s, int me)
{
    uint64_t last = 0;
    s->ready++;
    while (!s->stop) {
        struct value v;
        enum err e = watch_read(&s->w, &v, sizeof(v), NULL);
        if (e == ERR_AGAIN && last == 0)
            continue; /* nothing published yet */
        s->failed += e != ERR_OK;
        if (e != ERR_OK)
            continue;
        s->torn += !value_whole(&v);
        s->backwards += v.words[0] < last;
        s->changes[me] += v.words[0] != last;
        last = v.words[0];
        s->reads[me]++;
    }
}

struct reader {
    struct stage *stage;
    int me;
};

static void be_a_reader(void *arg)
{
    const struct reader *r = arg;
    read_on(r->stage, r->me);
}

START_TEST(test_no_reader_sees_a_torn_value)
{
    struct stage *s = support_shared(sizeof(*s));
    struct reader readers[READERS];
    pid_t pids[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){s, i};
        pids[i] = support_fork(be_a_reader, &readers[i]);
    }
    ck_assert(UNTIL(s->ready == READERS));
    /* 2 s at full speed; MQREDIS_LONG=1: 10 s. */
    const char *text = getenv("MQREDIS_LONG");
    bool is_long = text != NULL && *text != '\0' && *text != '0';
    uint64_t n = 0, until = clock_ns() + (is_long ? 10 : 2) * NS_PER_S;
    while (clock_ns() < until)
        publish(&s->w, ++n);
    s->stop = 1;
    uint64_t reads = 0, changes = 0;
    for (int i = 0; i < READERS; i++) {
        ck_assert_int_eq(support_join(pids[i]), 0);
        reads += s->reads[i];
        changes += s->changes[i];
    }
    printf("%llu values written, %llu read by %d readers, %llu of them new\n",
           (unsigned long long)n, (unsigned long long)reads, READERS,
           (unsigned long long)changes);
    ck_assert_uint_eq(s->torn, 0);
    ck_assert_uint_eq(s->backwards, 0);
    ck_assert_uint_eq(s->failed, 0);
    ck_assert_uint_gt(reads, READERS);
    ck_assert_uint_gt(changes, READERS);
    expect(&s->w, n);
}
END_TEST

/* ---- a writer that is killed ---- */

static void write_on(void *arg)
{
    struct stage *s = arg;
    struct value v;
    uint64_t n = 0;
    if (watch_read(&s->w, &v, sizeof(v), NULL) == ERR_OK)
        n = v.words[0];
    for (;;) {
        publish(&s->w, ++n);
        s->ready = 1;
    }
}

START_TEST(test_killed_writer_leaves_the_last_good_value)
{
    struct stage *s = support_shared(sizeof(*s));
    uint64_t last = 0;
    for (int round = 0; round < 60; round++) {
        s->ready = 0;
        pid_t pid = support_fork(write_on, s);
        ck_assert(UNTIL(s->ready));
        usleep((useconds_t)(round * 37 % 500));
        support_kill(pid);
        struct value v;
        ck_assert_int_eq(watch_read(&s->w, &v, sizeof(v), NULL), ERR_OK);
        ck_assert(value_whole(&v));
        ck_assert_uint_gt(v.words[0], last);
        last = v.words[0];
    }
    /* Whoever takes its place goes on. */
    publish(&s->w, last + 1);
    expect(&s->w, last + 1);
}
END_TEST

/* The same at every word, without luck: what a writer does before it publishes
 * is to fill the slot after the current one. */
START_TEST(test_half_written_slot_is_not_seen)
{
    struct watch *w = support_shared(sizeof(*w));
    for (uint32_t round = 1; round <= 2 * WATCH_SLOTS; round++) {
        publish(w, round);
        _Atomic uint64_t *slot = w->slots[(round + 1) % WATCH_SLOTS];
        for (int i = 0; i < WATCH_VALUE_MAX / 8; i++) {
            slot[i] = 0xdeadbeef;
            expect(w, round);
        }
    }
}
END_TEST

/* ---- waiting ---- */

struct waiter {
    const struct watch *w;
    uint32_t seen;
    enum err expect;
};

static void wait_for_change(void *arg)
{
    const struct waiter *x = arg;
    CHILD_REQUIRE(watch_wait(x->w, x->seen, 0) == x->expect);
    struct value v;
    CHILD_REQUIRE(watch_read(x->w, &v, sizeof(v), NULL) == ERR_OK);
    CHILD_REQUIRE(v.words[0] == 2 && value_whole(&v));
}

START_TEST(test_waiters_sleep_until_the_value_changes)
{
    struct watch *w = support_shared(sizeof(*w));
    pid_t pids[3];
    publish(w, 1);
    struct waiter x = {w, 1, ERR_OK};
    for (int i = 0; i < 3; i++)
        pids[i] = support_fork(wait_for_change, &x);
    for (int i = 0; i < 3; i++)
        ck_assert(support_sleeps_in(pids[i], SYS_futex));
    uint64_t before = support_cpu_ns(pids[0]);
    support_sleep_ms(300);
    ck_assert_uint_lt(support_cpu_ns(pids[0]) - before, 10 * NS_PER_MS);
    publish(w, 2);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
}
END_TEST

START_TEST(test_wait_ends_at_once_or_at_its_deadline)
{
    struct watch *w = support_shared(sizeof(*w));
    ck_assert_int_eq(watch_wait(w, 1, 0), ERR_OK); /* version 0 is not 1 */
    publish(w, 1);
    ck_assert_int_eq(watch_wait(w, 0, 0), ERR_OK);
    ck_assert_int_eq(watch_wait(w, 1, clock_ns()), ERR_TIMEOUT);
    uint64_t before = clock_ns();
    ck_assert_int_eq(watch_wait(w, 1, clock_deadline(40)), ERR_TIMEOUT);
    uint64_t took = clock_ns() - before;
    ck_assert_uint_ge(took, 40 * NS_PER_MS);
    ck_assert_uint_lt(took, (uint64_t)support_wait_ms() * NS_PER_MS);
}
END_TEST

/* Readers map the file without the right to write. */
START_TEST(test_wait_needs_no_right_to_write)
{
    const char *path = support_path("cell");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, sizeof(struct watch)), 0);
    int ro = open(path, O_RDONLY | O_CLOEXEC);
    struct watch *w =
        mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const struct watch *r =
        mmap(NULL, sizeof(*r), PROT_READ, MAP_SHARED, ro, 0);
    ck_assert(w != MAP_FAILED && r != MAP_FAILED);
    publish(w, 1);
    expect(r, 1);
    ck_assert_int_eq(watch_wait(r, 1, clock_deadline(20)), ERR_TIMEOUT);
    struct waiter x = {r, 1, ERR_OK};
    pid_t pid = support_fork(wait_for_change, &x);
    ck_assert(support_sleeps_in(pid, SYS_futex));
    publish(w, 2);
    ck_assert_int_eq(support_join(pid), 0);
    close(fd);
    close(ro);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *t = support_case(s, "cell", 60);
    tcase_add_test(t, test_nothing_before_the_first_value);
    tcase_add_test(t, test_only_the_latest_value_is_seen);
    tcase_add_test(t, test_values_of_every_size);
    tcase_add_test(t, test_version_goes_round);
    tcase_add_test(t, test_no_reader_sees_a_torn_value);
    tcase_add_test(t, test_killed_writer_leaves_the_last_good_value);
    tcase_add_test(t, test_half_written_slot_is_not_seen);
    tcase_add_test(t, test_waiters_sleep_until_the_value_changes);
    tcase_add_test(t, test_wait_ends_at_once_or_at_its_deadline);
    tcase_add_test(t, test_wait_needs_no_right_to_write);
    return support_run(s);
}
