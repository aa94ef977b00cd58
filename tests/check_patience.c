/* How long lagging readers may hold up a connection, all together. */
#include "manager/patience.h"

#include <check.h>

#include "ipc/clock.h"
#include "tests/support_run.h"

#define MS NS_PER_MS
#define MOST (1000 * MS)

static struct reader one, another;

START_TEST(test_begins_full_and_is_used_up)
{
    struct patience p = {0};
    uint64_t now = 5000 * MS;
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now), MOST);
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now + 300 * MS),
                      700 * MS);
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now + 2000 * MS), 0);
}
END_TEST

START_TEST(test_one_after_the_other_share_it)
{
    struct patience p = {0};
    uint64_t now = 5000 * MS, held = 0, begin = now;
    /* Each would stand still for 200 ms, with 2 ms between. */
    for (int i = 0; i < 1000; i++, now += 2 * MS) {
        const struct reader *r = i % 2 ? &one : &another;
        uint64_t left = patience_hold(&p, r, MOST, 0, now);
        uint64_t take = left < 200 * MS ? left : 200 * MS;
        now += take;
        held += take;
        patience_hold(&p, r, MOST, 0, now);
        patience_end(&p, now);
    }
    ck_assert_uint_le(held, MOST + (now - begin) / 2);
    ck_assert_uint_ge(held, MOST);
}
END_TEST

START_TEST(test_time_without_holding_fills_it)
{
    struct patience p = {0};
    uint64_t now = 5000 * MS;
    patience_hold(&p, &one, MOST, 0, now);
    now += 1000 * MS;
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now), 0);
    patience_end(&p, now);
    now += 100 * MS;
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now), 50 * MS);
    patience_end(&p, now);
    now += 100000 * MS;
    ck_assert_uint_eq(patience_hold(&p, &one, MOST, 0, now), MOST);
}
END_TEST

/* Who reads at the rate may go on for ever; who merely seems alive may not. */
START_TEST(test_what_is_read_counts_where_it_may)
{
    enum { RATE = 1 << 20 };
    for (int slow = 0; slow < 2; slow++) {
        struct patience p = {0};
        uint64_t now = 5000 * MS, left = 0;
        one.taken = 0;
        patience_hold(&p, &one, MOST, RATE, now);
        for (int i = 0; i < 100; i++) {
            now += 100 * MS;
            one.taken += slow ? 4096 : RATE / 10 + 200;
            left = patience_hold(&p, &one, MOST, RATE, now);
        }
        ck_assert(slow ? left < 10 * MS : left > 900 * MS);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("patience");
    TCase *t = tcase_create("patience");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_begins_full_and_is_used_up);
    tcase_add_test(t, test_one_after_the_other_share_it);
    tcase_add_test(t, test_time_without_holding_fills_it);
    tcase_add_test(t, test_what_is_read_counts_where_it_may);
    return s;
}

int main(void)
{
    return support_run(suite());
}
