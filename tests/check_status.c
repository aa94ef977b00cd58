/* The status file, its state and its histograms. */
#include "ipc/status.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_run.h"

static void create_channel(struct channel *ch)
{
    struct err_text why = {""};
    enum err e = channel_create(ch, support_name(), CHANNEL_NO_GROUP, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
}

static struct status *create(const struct channel *ch)
{
    struct status *s = NULL;
    struct err_text why = {""};
    enum err e = status_create(ch, &s, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
    char unshown[40];
    snprintf(unshown, sizeof(unshown), ".status-%ld", (long)getpid());
    ck_assert_int_eq(faccessat(ch->dirfd, unshown, F_OK, 0), 0);
    ck_assert_msg(status_show(ch, &why) == ERR_OK, "%s", why.text);
    return s;
}

static void end(struct channel *ch, struct status *s)
{
    status_unmap(s);
    channel_remove(ch);
    ck_assert_int_eq(access(ch->dir, F_OK), -1);
    channel_close(ch);
}

/* ---- the file ---- */

START_TEST(test_created_file_is_read)
{
    struct channel ch;
    const struct status *r;
    struct err_text why = {""};
    struct stat st;
    create_channel(&ch);
    int fds = support_count_fds();
    struct status *s = create(&ch);
    ck_assert_int_eq(fstatat(ch.dirfd, "status", &st, 0), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    /* All its blocks are there: a full disk can't hit later. */
    ck_assert_int_ge(st.st_blocks * 512, (off_t)sizeof(struct status));
    status_count(s, COUNTER_taken, 3);
    status_count(s, COUNTER_taken, 4);
    status_gauge_set(s, GAUGE_inflight, 9);
    status_gauge_set(s, GAUGE_inflight, 5);
    histogram_add(&s->times[TIME_round_trip], 1000);
    ck_assert_int_eq(status_open(&ch, &r, &why), ERR_OK);
    ck_assert_uint_eq(counter_get(&r->counters[COUNTER_taken]), 7);
    ck_assert_uint_eq(counter_get(&r->gauges[GAUGE_inflight]), 5);
    ck_assert_uint_eq(counter_get(&r->times[TIME_round_trip].count), 1);
    status_count(s, COUNTER_taken, 1);
    ck_assert_uint_eq(counter_get(&r->counters[COUNTER_taken]), 8);
    ck_assert_int_eq(support_count_fds(), fds);
    status_unmap(r);
    end(&ch, s);
}
END_TEST

START_TEST(test_next_manager_gets_a_new_file)
{
    struct channel ch;
    const struct status *old, *new;
    struct err_text why = {""};
    create_channel(&ch);
    struct status *a = create(&ch);
    status_count(a, COUNTER_taken, 7);
    ck_assert_int_eq(status_open(&ch, &old, &why), ERR_OK);
    struct status *b = create(&ch);
    ck_assert_int_eq(status_open(&ch, &new, &why), ERR_OK);
    ck_assert_uint_eq(counter_get(&new->counters[COUNTER_taken]), 0);
    ck_assert_uint_eq(counter_get(&old->counters[COUNTER_taken]), 7);
    status_unmap(old);
    status_unmap(new);
    status_unmap(a);
    end(&ch, b);
}
END_TEST

START_TEST(test_absent_file)
{
    struct channel ch;
    const struct status *r;
    struct err_text why = {""};
    create_channel(&ch);
    ck_assert_int_eq(status_open(&ch, &r, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, ch.name));
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static enum err open_it(const struct channel *ch, struct err_text *why)
{
    const struct status *r;
    why->text[0] = '\0';
    enum err e = status_open(ch, &r, why);
    if (e == ERR_OK)
        status_unmap(r);
    return e;
}

START_TEST(test_other_versions_and_sizes_are_refused)
{
    struct channel ch;
    struct err_text why;
    char path[PATH_MAX + 8];
    create_channel(&ch);
    struct status *s = create(&ch);
    snprintf(path, sizeof(path), "%s/status", ch.dir);
    s->version = STATUS_VERSION + 1;
    ck_assert_int_eq(open_it(&ch, &why), ERR_PROTO);
    char number[32];
    snprintf(number, sizeof(number), "version %u",
             (unsigned)STATUS_VERSION + 1);
    ck_assert_ptr_nonnull(strstr(why.text, number));
    s->version = STATUS_VERSION;
    s->magic ^= 1;
    ck_assert_int_eq(open_it(&ch, &why), ERR_PROTO);
    s->magic ^= 1;
    s->size--;
    ck_assert_int_eq(open_it(&ch, &why), ERR_PROTO);
    s->size++;
    ck_assert_int_eq(open_it(&ch, &why), ERR_OK);
    /* The mapping is unmapped before the file shrinks below it. */
    status_unmap(s);
    static const off_t sizes[] = {0, 4, (off_t)sizeof(struct status) - 1,
                                  (off_t)sizeof(struct status) + 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ck_assert_int_eq(truncate(path, sizes[i]), 0);
        ck_assert_int_eq(open_it(&ch, &why), ERR_PROTO);
        ck_assert_str_ne(why.text, "");
    }
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

START_TEST(test_what_is_no_file_is_refused_at_once)
{
    struct channel ch;
    struct err_text why;
    create_channel(&ch);
    ck_assert_int_eq(mkfifoat(ch.dirfd, "status", 0600), 0);
    ck_assert_int_eq(open_it(&ch, &why), ERR_PROTO);
    ck_assert_int_eq(unlinkat(ch.dirfd, "status", 0), 0);
    ck_assert_int_eq(symlinkat("/etc/hostname", ch.dirfd, "status"), 0);
    ck_assert_int_eq(open_it(&ch, &why), ERR_SYS);
    /* A manager replaces it all the same. */
    struct status *s = create(&ch);
    ck_assert_int_eq(open_it(&ch, &why), ERR_OK);
    end(&ch, s);
}
END_TEST

static void create_on_a_full_disk(void *arg)
{
    const struct channel *ch = arg;
    struct status *s;
    struct err_text why = {""};
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
    signal(SIGXFSZ, SIG_IGN);
    CHILD_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    int fds = support_count_fds();
    CHILD_REQUIRE(status_create(ch, &s, &why) == ERR_SYS);
    CHILD_REQUIRE(strstr(why.text, "cannot allocate") != NULL);
    CHILD_REQUIRE(support_count_fds() == fds);
    CHILD_REQUIRE(faccessat(ch->dirfd, "status", F_OK, 0) < 0);
}

START_TEST(test_full_disk_fails_at_the_start)
{
    struct channel ch;
    create_channel(&ch);
    ck_assert_int_eq(support_join(support_fork(create_on_a_full_disk, &ch)), 0);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static void count_one(void *arg)
{
    struct status *s = arg;
    struct manager_state state = {.kind = STATE_CONNECTED, .pid = 1};
    status_count(s, COUNTER_lost, 1);
    status_set_state(s, &state, STATE_DIED);
}

START_TEST(test_child_of_fork_writes_the_same)
{
    struct channel ch;
    struct manager_state state;
    create_channel(&ch);
    struct status *s = create(&ch);
    ck_assert_int_eq(support_join(support_fork(count_one, s)), 0);
    ck_assert_uint_eq(counter_get(&s->counters[COUNTER_lost]), 1);
    ck_assert_int_eq(status_read_state(s, &state, NULL), ERR_OK);
    ck_assert_uint_eq(state.kind, STATE_DIED);
    end(&ch, s);
}
END_TEST

/* ---- the state ---- */

START_TEST(test_state_is_told_with_its_time)
{
    struct channel ch;
    struct manager_state state = {.pid = 42, .epoch = 7, .capacity = 32}, seen;
    uint32_t first, second;
    create_channel(&ch);
    struct status *s = create(&ch);
    ck_assert_int_eq(status_read_state(s, &seen, NULL), ERR_AGAIN);
    uint64_t before = clock_ns();
    snprintf(state.server, sizeof(state.server), "redis://localhost");
    status_set_state(s, &state, STATE_STARTING);
    ck_assert_int_eq(status_read_state(s, &seen, &first), ERR_OK);
    ck_assert_uint_eq(seen.kind, STATE_STARTING);
    ck_assert_int_eq(seen.pid, 42);
    ck_assert_str_eq(seen.server, "redis://localhost");
    ck_assert_uint_ge(seen.since_ns, before);
    /* The same again: news, but still in that state since then. */
    uint64_t since = seen.since_ns;
    state.attempt = 3;
    status_set_state(s, &state, STATE_STARTING);
    ck_assert_int_eq(status_read_state(s, &seen, &second), ERR_OK);
    ck_assert_uint_eq(seen.attempt, 3);
    ck_assert_uint_eq(seen.since_ns, since);
    ck_assert_uint_ne(first, second);
    ck_assert_int_eq(watch_wait(&s->state, first, 0), ERR_OK);
    support_sleep_ms(1);
    status_set_state(s, &state, STATE_CONNECTED);
    ck_assert_int_eq(status_read_state(s, &seen, NULL), ERR_OK);
    ck_assert_uint_gt(seen.since_ns, since);
    end(&ch, s);
}
END_TEST

START_TEST(test_strings_of_a_hostile_state_end)
{
    struct channel ch;
    struct manager_state state, seen;
    create_channel(&ch);
    struct status *s = create(&ch);
    memset(&state, 0xff, sizeof(state));
    watch_publish(&s->state, &state, sizeof(state));
    ck_assert_int_eq(status_read_state(s, &seen, NULL), ERR_OK);
    ck_assert_uint_eq(strlen(seen.queue), sizeof(seen.queue) - 1);
    ck_assert_uint_eq(strlen(seen.server), sizeof(seen.server) - 1);
    ck_assert_uint_eq(strlen(seen.error), sizeof(seen.error) - 1);
    ck_assert_str_eq(manager_state_str(seen.kind), "?");
    end(&ch, s);
}
END_TEST

START_TEST(test_everything_has_a_name)
{
    ck_assert_str_eq(manager_state_str(0), "?");
    for (uint32_t i = 1; i < STATE_KIND_COUNT; i++)
        ck_assert_str_ne(manager_state_str(i), "?");
    ck_assert_str_eq(manager_state_str(STATE_KIND_COUNT), "?");
    ck_assert_str_eq(status_counters[COUNTER_taken].name, "taken");
    for (int i = 0; i < COUNTER_COUNT; i++)
        ck_assert(status_counters[i].name[0] && status_counters[i].help[0]);
    for (int i = 0; i < GAUGE_COUNT; i++)
        ck_assert(status_gauges[i].name[0] && status_gauges[i].help[0]);
    for (int i = 0; i < TIME_COUNT; i++)
        ck_assert(status_times[i].name[0] && status_times[i].help[0]);
}
END_TEST

/* ---- histograms ---- */

START_TEST(test_every_value_lies_in_its_bucket)
{
    /* Around each power of two, and through all buckets. */
    for (unsigned bit = 0; bit <= HISTOGRAM_TOP_BIT; bit++) {
        for (int64_t d = -2; d <= 2; d++) {
            uint64_t v = (1ULL << bit) + (uint64_t)d;
            if (v > (2ULL << HISTOGRAM_TOP_BIT))
                continue;
            size_t i = histogram_index(v);
            ck_assert_uint_lt(i, HISTOGRAM_BUCKETS);
            ck_assert_uint_le(histogram_low(i), v);
            ck_assert_uint_gt(histogram_high(i), v);
        }
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t low = histogram_low(i), high = histogram_high(i);
        ck_assert_uint_lt(low, high);
        ck_assert_uint_eq(histogram_index(low), i);
        ck_assert_uint_eq(histogram_index(high - 1), i);
        /* The middle is at most 1.6 percent away. */
        if (i >= HISTOGRAM_SUB)
            ck_assert_uint_le((high - low) * 32, low);
    }
    ck_assert_uint_eq(histogram_index(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    ck_assert_uint_eq(histogram_index(2ULL << HISTOGRAM_TOP_BIT),
                      HISTOGRAM_BUCKETS - 1);
}
END_TEST

START_TEST(test_quantiles)
{
    struct histogram *h = calloc(1, sizeof(*h));
    ck_assert_ptr_nonnull(h);
    ck_assert_double_eq(histogram_quantile(h, 0.5), 0);
    histogram_add(h, 7);
    ck_assert_double_eq(histogram_quantile(h, 0), 7);
    ck_assert_double_eq(histogram_quantile(h, 0.5), 7);
    ck_assert_double_eq(histogram_quantile(h, 1), 7);
    memset(h, 0, sizeof(*h));
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(h, v * 1000);
    static const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < sizeof(qs) / sizeof(qs[0]); i++) {
        double want = qs[i] * 1e8, got = histogram_quantile(h, qs[i]);
        ck_assert_msg(fabs(got - want) <= want * 0.017, "%g: %g not %g", qs[i],
                      got, want);
    }
    ck_assert_uint_eq(h->count, 100000);
    ck_assert_uint_eq(h->sum_ns, 1000ULL * 100000 * 100001 / 2);
    free(h);
}
END_TEST

START_TEST(test_merge_and_since)
{
    struct histogram *h = calloc(4, sizeof(*h));
    ck_assert_ptr_nonnull(h);
    struct histogram *a = h, *b = h + 1, *sum = h + 2, *diff = h + 3;
    for (uint64_t v = 0; v < 1000; v++) {
        histogram_add(a, v);
        histogram_add(b, v * v);
    }
    histogram_merge(sum, a);
    histogram_merge(sum, b);
    ck_assert_uint_eq(sum->count, 2000);
    ck_assert_uint_eq(sum->sum_ns, a->sum_ns + b->sum_ns);
    histogram_since(diff, sum, a);
    ck_assert_mem_eq(diff, b, sizeof(*b));
    /* Read out of step they seem to shrink: never below nothing. */
    histogram_since(diff, a, sum);
    ck_assert_uint_eq(diff->count, 0);
    ck_assert_double_eq(histogram_quantile(diff, 0.5), 0);
    free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("status");
    TCase *t = support_case(s, "status", 60);
    tcase_add_test(t, test_created_file_is_read);
    tcase_add_test(t, test_next_manager_gets_a_new_file);
    tcase_add_test(t, test_absent_file);
    tcase_add_test(t, test_other_versions_and_sizes_are_refused);
    tcase_add_test(t, test_what_is_no_file_is_refused_at_once);
    tcase_add_test(t, test_full_disk_fails_at_the_start);
    tcase_add_test(t, test_child_of_fork_writes_the_same);
    tcase_add_test(t, test_state_is_told_with_its_time);
    tcase_add_test(t, test_strings_of_a_hostile_state_end);
    tcase_add_test(t, test_everything_has_a_name);
    tcase_add_test(t, test_every_value_lies_in_its_bucket);
    tcase_add_test(t, test_quantiles);
    tcase_add_test(t, test_merge_and_since);
    return support_run(s);
}
