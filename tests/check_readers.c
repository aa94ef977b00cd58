/* Reply pipes on the manager's side: what a pipe does not take waits, up to a
 * bound; who dies is noticed and leaves nothing. */
#include "manager/readers.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_manager.h"
#include "tests/support_run.h"

#define READER_LIMIT ((size_t)256 * 1024)
#define TOTAL_LIMIT ((size_t)400 * 1024)
#define MAX_OPEN 4
#define BODY 10000

static struct desk desk;
static struct readers *readers = &desk.readers;
static char body[BODY];

static void setup(void)
{
    desk_open(&desk, MAX_OPEN, READER_LIMIT, TOTAL_LIMIT);
    for (size_t i = 0; i < BODY; i++)
        body[i] = (char)('a' + i % 26);
}

static void teardown(void)
{
    desk_close(&desk);
}

/* ---- a pipe of a requester's, without a request ---- */

static struct oneshot make_slot(void)
{
    struct oneshot slot;
    ck_assert_int_eq(oneshot_acquire(&desk.pool, &slot), ERR_OK);
    return slot;
}

static struct reader *get(const struct oneshot *slot)
{
    struct reader *r = NULL;
    ck_assert_int_eq(readers_get(readers, desk.pool.client, slot->slot, &r),
                     ERR_OK);
    return r;
}

static bool has_name(const struct oneshot *slot)
{
    char name[ONESHOT_NAME_MAX];
    struct stat st;
    oneshot_name(name, desk.pool.client, slot->slot);
    return fstatat(desk.ch.reply_fd, name, &st, 0) == 0;
}

static enum err put(struct reader *r, uint32_t number, size_t len, bool forced)
{
    struct reply_chunk chunk = {
        .request = 1, .length = (uint32_t)len, .first = number, .count = 1};
    return readers_write(readers, r, &chunk, body, forced);
}

/* Writes chunks until the pipe is full and some bytes wait. */
static uint32_t fill(struct reader *r)
{
    uint32_t n = 0;
    while (buffer_len(&r->backlog) == 0)
        ck_assert_int_eq(put(r, n++, BODY, false), ERR_OK);
    return n;
}

/* Reads `len` bytes, turning the loop while there are none. */
static void read_whole(const struct oneshot *slot, void *to, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(slot->fd, (char *)to + got, len - got);
        if (n > 0)
            got += (size_t)n;
        else
            desk_turn(&desk);
    }
}

/* Reads chunks [from, to) and checks every byte. */
static void expect_chunks(const struct oneshot *slot, uint32_t from,
                          uint32_t to, size_t len)
{
    static char got[BODY];
    for (uint32_t i = from; i < to; i++) {
        struct reply_chunk chunk;
        read_whole(slot, &chunk, sizeof(chunk));
        ck_assert_uint_eq(chunk.first, i);
        ck_assert_uint_eq(chunk.length, len);
        read_whole(slot, got, len);
        ck_assert_mem_eq(got, body, len);
    }
}

/* ---- tests ---- */

START_TEST(test_same_slot_is_opened_once)
{
    struct oneshot a = make_slot(), b = make_slot();
    struct reader *one = get(&a), *same = get(&a), *other = get(&b);
    ck_assert_ptr_eq(one, same);
    ck_assert_ptr_ne(one, other);
    ck_assert_uint_eq(one->requests, 2);
    ck_assert_uint_eq(readers->open_count, 2);
    readers_put(readers, one);
    readers_put(readers, one);
    readers_put(readers, other);
    ck_assert_ptr_eq(get(&a), one); /* kept while its slot lives */
    readers_put(readers, one);
    oneshot_release(&desk.pool, &a);
    oneshot_release(&desk.pool, &b);
}
END_TEST

START_TEST(test_nobody_there)
{
    struct reader *r;
    ck_assert_int_eq(readers_get(readers, desk.pool.client, 12345, &r),
                     ERR_CLOSED);
    /* Killed before the manager ever opened its pipe: the name goes. */
    struct oneshot dead = make_slot();
    close(dead.fd);
    ck_assert(has_name(&dead));
    ck_assert_int_eq(readers_get(readers, desk.pool.client, dead.slot, &r),
                     ERR_CLOSED);
    ck_assert(!has_name(&dead));
    ck_assert_uint_eq(readers->open_count, 0);
}
END_TEST

START_TEST(test_what_a_full_pipe_does_not_take_waits_in_order)
{
    struct oneshot slot = make_slot();
    struct reader *r = get(&slot);
    uint32_t n = fill(r);
    while (n < 20)
        ck_assert_int_eq(put(r, n++, BODY, false), ERR_OK);
    ck_assert_uint_eq(readers->total_backlog, buffer_len(&r->backlog));
    expect_chunks(&slot, 0, n, BODY);
    desk_turn(&desk);
    ck_assert_uint_eq(readers->total_backlog, 0);
    ck_assert_uint_eq(buffer_len(&r->backlog), 0);
    ck_assert_ptr_null(r->backlog.data); /* the memory is given back */
    ck_assert_uint_eq(r->watcher.events, 0);
    /* And it is written to directly again. */
    ck_assert_int_eq(put(r, n, 5, false), ERR_OK);
    ck_assert_uint_eq(buffer_len(&r->backlog), 0);
    expect_chunks(&slot, n, n + 1, 5);
    readers_put(readers, r);
    oneshot_release(&desk.pool, &slot);
}
END_TEST

START_TEST(test_small_chunks_into_a_full_pipe)
{
    struct oneshot slot = make_slot();
    struct reader *r = get(&slot);
    uint32_t n = 0;
    /* A pipe has slots: many small writes fill it long before its bytes. */
    while (n < 4000)
        ck_assert_int_eq(put(r, n++, 7, false), ERR_OK);
    expect_chunks(&slot, 0, n, 7);
    ck_assert_uint_eq(readers->total_backlog, 0);
    readers_put(readers, r);
    oneshot_release(&desk.pool, &slot);
}
END_TEST

START_TEST(test_limit_of_one_reader)
{
    struct oneshot slot = make_slot(), other = make_slot();
    struct reader *r = get(&slot), *o = get(&other);
    uint32_t n = fill(r);
    enum err e;
    while ((e = put(r, n, BODY, false)) == ERR_OK)
        n++;
    ck_assert_int_eq(e, ERR_LIMIT);
    size_t waiting = buffer_len(&r->backlog);
    ck_assert_uint_le(waiting, READER_LIMIT);
    ck_assert_uint_gt(waiting, READER_LIMIT - 2 * BODY);
    ck_assert_int_eq(put(r, n, BODY, false), ERR_LIMIT);
    ck_assert_uint_eq(buffer_len(&r->backlog), waiting); /* nothing taken */
    /* A last word is taken in any case; the others go on. */
    ck_assert_int_eq(put(r, n++, 100, true), ERR_OK);
    ck_assert_uint_gt(buffer_len(&r->backlog), waiting);
    ck_assert_int_eq(put(o, 0, 10, false), ERR_OK);
    expect_chunks(&other, 0, 1, 10);
    expect_chunks(&slot, 0, n - 1, BODY);
    expect_chunks(&slot, n - 1, n, 100);
    readers_put(readers, r);
    readers_put(readers, o);
    oneshot_release(&desk.pool, &slot);
    oneshot_release(&desk.pool, &other);
}
END_TEST

START_TEST(test_limit_of_all_readers)
{
    struct oneshot slots[3];
    struct reader *r[3];
    uint32_t n[3];
    for (int i = 0; i < 3; i++) {
        slots[i] = make_slot();
        r[i] = get(&slots[i]);
        n[i] = fill(r[i]);
    }
    enum err e[3] = {ERR_OK, ERR_OK, ERR_OK};
    for (int round = 0; round < 100; round++)
        for (int i = 0; i < 3; i++)
            if (e[i] == ERR_OK && (e[i] = put(r[i], n[i], BODY, false)) == 0)
                n[i]++;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(e[i], ERR_LIMIT);
    ck_assert_uint_le(readers->total_backlog, TOTAL_LIMIT);
    /* One that dies makes room. */
    close(slots[0].fd);
    desk_turn(&desk);
    ck_assert(r[0]->dead);
    ck_assert_int_eq(put(r[1], n[1]++, BODY, false), ERR_OK);
    readers_put(readers, r[0]);
    for (int i = 1; i < 3; i++) {
        expect_chunks(&slots[i], 0, n[i], BODY);
        readers_put(readers, r[i]);
        oneshot_release(&desk.pool, &slots[i]);
    }
    ck_assert_uint_eq(readers->total_backlog, 0);
}
END_TEST

START_TEST(test_death_is_noticed)
{
    for (int how = 0; how < 3; how++) {
        struct oneshot slot = make_slot();
        struct reader *r = get(&slot);
        r = get(&slot);
        if (how > 0)
            fill(r);
        close(slot.fd);
        if (how == 0)
            ck_assert_int_eq(put(r, 0, 10, false), ERR_CLOSED); /* EPIPE */
        else if (how == 1)
            desk_turn(&desk); /* EPOLLERR */
        else
            ck_assert(!readers_check(readers, r));
        ck_assert(r->dead);
        ck_assert(!has_name(&slot));
        ck_assert_uint_eq(readers->open_count, 0);
        ck_assert_uint_eq(readers->total_backlog, 0);
        ck_assert_int_eq(put(r, 1, 10, true), ERR_CLOSED);
        ck_assert(!readers_check(readers, r));
        /* It stays in memory as long as requests point to it. */
        readers_put(readers, r);
        readers_reap(readers);
        ck_assert(r->dead);
        readers_put(readers, r);
        readers_reap(readers);
        struct reader *again;
        ck_assert_int_eq(
            readers_get(readers, desk.pool.client, slot.slot, &again),
            ERR_CLOSED);
    }
}
END_TEST

START_TEST(test_death_of_many_in_one_round)
{
    struct oneshot slots[MAX_OPEN];
    struct reader *r[MAX_OPEN];
    for (int i = 0; i < MAX_OPEN; i++) {
        slots[i] = make_slot();
        r[i] = get(&slots[i]);
        if (i % 2 == 0)
            readers_put(readers, r[i]);
    }
    for (int i = 0; i < MAX_OPEN; i++)
        close(slots[i].fd);
    desk_turn(&desk);
    ck_assert_uint_eq(readers->open_count, 0);
    for (int i = 1; i < MAX_OPEN; i += 2)
        readers_put(readers, r[i]);
    readers_reap(readers);
    ck_assert_ptr_null(readers->idle_first);
    ck_assert_ptr_null(readers->dead);
}
END_TEST

START_TEST(test_idle_ones_make_room_least_recently_used_first)
{
    struct oneshot slots[MAX_OPEN + 2];
    struct reader *r[MAX_OPEN + 2];
    for (int i = 0; i < MAX_OPEN; i++) {
        slots[i] = make_slot();
        r[i] = get(&slots[i]);
    }
    slots[MAX_OPEN] = make_slot();
    ck_assert_int_eq(readers_get(readers, desk.pool.client,
                                 slots[MAX_OPEN].slot, &r[MAX_OPEN]),
                     ERR_LIMIT); /* all of them are busy */
    readers_put(readers, r[2]);
    readers_put(readers, r[1]);
    r[2] = get(&slots[2]); /* used again */
    readers_put(readers, r[2]);
    r[MAX_OPEN] = get(&slots[MAX_OPEN]); /* in place of 1 */
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_evicted), 1);
    ck_assert_uint_eq(readers->open_count, MAX_OPEN);
    readers_reap(readers);
    ck_assert(has_name(&slots[1])); /* its requester lives */
    readers_put(readers, r[MAX_OPEN]);
    r[1] = get(&slots[1]); /* opened again, in place of 2 */
    ck_assert_int_eq(put(r[1], 0, 10, false), ERR_OK);
    expect_chunks(&slots[1], 0, 1, 10);
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_evicted), 2);
    for (int i = 0; i <= MAX_OPEN; i++)
        oneshot_abandon(&desk.pool, &slots[i]);
    desk_turn(&desk);
    ck_assert_uint_eq(readers->open_count, 0);
    readers_put(readers, r[0]);
    readers_put(readers, r[1]);
    readers_put(readers, r[3]);
}
END_TEST

START_TEST(test_one_whose_reply_still_waits_is_not_evicted)
{
    struct oneshot slow = make_slot(), more[MAX_OPEN];
    struct reader *r = get(&slow);
    uint32_t n = fill(r);
    readers_put(readers, r); /* answered, as far as we are concerned */
    for (int i = 0; i < MAX_OPEN; i++) {
        more[i] = make_slot();
        struct reader *other;
        enum err e =
            readers_get(readers, desk.pool.client, more[i].slot, &other);
        ck_assert_int_eq(e, i < MAX_OPEN - 1 ? ERR_OK : ERR_LIMIT);
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_evicted), 0);
    expect_chunks(&slow, 0, n, BODY);
    desk_turn(&desk);
    get(&more[MAX_OPEN - 1]); /* now it can make room */
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_evicted), 1);
}
END_TEST

/* One that reads nothing of its reply gives way after a second, if there is
 * nobody else to: pipes that nobody empties cost their owner nothing. */
START_TEST(test_one_that_stands_still_gives_way)
{
    struct oneshot slots[MAX_OPEN + 1];
    for (int i = 0; i <= MAX_OPEN; i++)
        slots[i] = make_slot();
    uint64_t began = clock_ns();
    for (int i = 0; i < MAX_OPEN; i++) {
        struct reader *r = get(&slots[i]);
        fill(r);
        readers_put(readers, r);
    }
    struct reader *r;
    enum err e =
        readers_get(readers, desk.pool.client, slots[MAX_OPEN].slot, &r);
    if (clock_ns() - began >= NS_PER_S) {
        support_skip("one_that_stands_still", "the machine is too busy");
        return;
    }
    ck_assert_int_eq(e, ERR_LIMIT);
    support_sleep_ms(1100);
    readers_put(readers, get(&slots[MAX_OPEN]));
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_aborted), 1);
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_evicted), 0);
    ck_assert(!has_name(&slots[0])); /* the first that stood still */
    ck_assert(has_name(&slots[1]));
    readers_reap(readers);
}
END_TEST

/* A last word is taken over the limits; not any number of them. */
START_TEST(test_last_words_are_bounded)
{
    struct oneshot slot = make_slot();
    struct reader *r = get(&slot);
    uint32_t n = fill(r);
    enum err e = ERR_OK;
    for (; e == ERR_OK && n < 1000; n++)
        e = put(r, n, 1000, true);
    ck_assert_int_eq(e, ERR_CLOSED);
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_aborted), 1);
    ck_assert_uint_eq(readers->total_backlog, 0);
    ck_assert(!has_name(&slot));
    readers_put(readers, r);
    readers_reap(readers);
}
END_TEST

/* ---- gathering ---- */

#define SHORT 100

static enum err gather(struct reader *r, uint32_t number, uint64_t now)
{
    struct reply_chunk chunk = {
        .request = 1, .length = SHORT, .first = number, .count = 1};
    return readers_gather(readers, r, &chunk, body, now);
}

static void expect_nothing(const struct oneshot *slot)
{
    char byte;
    ck_assert_int_eq(read(slot->fd, &byte, 1), -1);
}

/* What was gathered waits for the next chunk that is written, or its time. */
START_TEST(test_gathered_ones_go_together)
{
    struct oneshot slots[2] = {make_slot(), make_slot()};
    struct reader *r[2] = {get(&slots[0]), get(&slots[1])};
    uint64_t now = clock_ns();
    ck_assert_int_eq(gather(r[0], 0, now), ERR_OK);
    ck_assert_int_eq(gather(r[1], 0, now + 1000), ERR_OK);
    ck_assert_int_eq(gather(r[0], 1, now + 2000), ERR_OK);
    expect_nothing(&slots[0]);
    uint64_t due = readers_flush(readers, now + 3000);
    ck_assert_uint_gt(due, now + 3000);
    ck_assert_uint_le(due, now + NS_PER_MS);
    expect_nothing(&slots[0]);
    ck_assert_uint_eq(readers_flush(readers, due), due + 1000);
    expect_chunks(&slots[0], 0, 2, SHORT);
    expect_nothing(&slots[1]);
    ck_assert_int_eq(put(r[1], 1, SHORT, false), ERR_OK);
    expect_chunks(&slots[1], 0, 2, SHORT);
    ck_assert_uint_eq(readers_flush(readers, due), 0);
    ck_assert_uint_eq(readers->total_backlog, 0);
    for (int i = 0; i < 2; i++) {
        readers_put(readers, r[i]);
        oneshot_release(&desk.pool, &slots[i]);
    }
}
END_TEST

/* Neither much for one, nor a little for each of many. */
START_TEST(test_gathering_is_bounded)
{
    struct oneshot slots[2] = {make_slot(), make_slot()};
    struct reader *r[2] = {get(&slots[0]), get(&slots[1])};
    uint32_t n = 0;
    for (; n < 300; n++)
        ck_assert_int_eq(gather(r[0], n, 1), ERR_OK);
    ck_assert_uint_le(readers->total_backlog, 8192);
    (void)readers_flush(readers, UINT64_MAX);
    expect_chunks(&slots[0], 0, n, SHORT);
    for (n = fill(r[0]); readers->total_backlog <= TOTAL_LIMIT / 2; n++)
        ck_assert_int_eq(put(r[0], n, BODY, false), ERR_OK);
    ck_assert_int_eq(gather(r[1], 0, 1), ERR_OK);
    expect_chunks(&slots[1], 0, 1, SHORT);
    expect_chunks(&slots[0], 0, n, BODY);
    for (int i = 0; i < 2; i++) {
        readers_put(readers, r[i]);
        oneshot_release(&desk.pool, &slots[i]);
    }
}
END_TEST

/* Some of those that gather die, in the middle and at both ends. */
START_TEST(test_death_of_some_that_gather)
{
    for (unsigned dying = 1; dying < 1 << MAX_OPEN; dying++) {
        struct oneshot slots[MAX_OPEN];
        struct reader *r[MAX_OPEN];
        for (int i = 0; i < MAX_OPEN; i++) {
            slots[i] = make_slot();
            r[i] = get(&slots[i]);
            ck_assert_int_eq(gather(r[i], 0, 1), ERR_OK);
            if (dying >> i & 1)
                close(slots[i].fd);
        }
        desk_turn(&desk);
        for (int i = 0; i < MAX_OPEN; i++)
            if (dying >> i & 1)
                readers_put(readers, r[i]);
        readers_reap(readers);
        ck_assert_uint_eq(readers_flush(readers, UINT64_MAX), 0);
        for (int i = 0; i < MAX_OPEN; i++) {
            if (dying >> i & 1)
                continue;
            expect_chunks(&slots[i], 0, 1, SHORT);
            readers_put(readers, r[i]);
            oneshot_abandon(&desk.pool, &slots[i]);
        }
        desk_turn(&desk);
        readers_reap(readers);
        ck_assert_uint_eq(readers->open_count, 0);
        ck_assert_uint_eq(readers->total_backlog, 0);
    }
}
END_TEST

/* ---- leftovers ---- */

/* However much lies there: others have their turn between. */
START_TEST(test_sweep_goes_in_steps)
{
    enum { JUNK = 300 };
    struct oneshot alive = make_slot();
    char name[32];
    for (int i = 0; i < JUNK; i++) {
        snprintf(name, sizeof(name), "junk-%d", i);
        int folder = i % 2 ? desk.ch.reply_fd : desk.ch.payload_fd;
        ck_assert_int_eq(mkfifoat(folder, name, 0600), 0);
    }
    uint64_t before = 0;
    int steps = 1;
    for (bool more = true; more; steps++) {
        more = readers_sweep(readers);
        uint64_t now = desk_counter(&desk, COUNTER_swept);
        ck_assert_uint_le(now - before, 16);
        before = now;
        ck_assert_int_lt(steps, JUNK);
    }
    ck_assert_uint_eq(before, JUNK);
    ck_assert_int_gt(steps, JUNK / 16);
    ck_assert(has_name(&alive));
    /* The next one begins anew, and may end in the middle (desk_close). */
    for (int i = 0; i < JUNK; i++) {
        snprintf(name, sizeof(name), "junk-%d", i);
        ck_assert_int_eq(mkfifoat(desk.ch.reply_fd, name, 0600), 0);
    }
    ck_assert(readers_sweep(readers));
    ck_assert_uint_gt(desk_counter(&desk, COUNTER_swept), JUNK);
    oneshot_abandon(&desk.pool, &alive);
}
END_TEST

START_TEST(test_many_clients_are_found)
{
    enum { MANY = 600 }; /* more than the table has room for at first */
    static struct oneshot slots[MANY];
    static struct reader *r[MANY];
    readers->max_open = MANY;
    for (int i = 0; i < MANY; i++) {
        slots[i] = make_slot();
        r[i] = get(&slots[i]);
    }
    for (int i = 0; i < MANY; i++) {
        ck_assert_ptr_eq(get(&slots[i]), r[i]);
        ck_assert_uint_eq(r[i]->slot, slots[i].slot);
    }
    ck_assert_uint_eq(readers->open_count, MANY);
    for (int i = 0; i < MANY; i++)
        oneshot_abandon(&desk.pool, &slots[i]);
    while (readers->open_count > 0)
        desk_turn(&desk);
    for (int i = 0; i < MANY; i++) {
        readers_put(readers, r[i]);
        readers_put(readers, r[i]);
    }
    readers_reap(readers);
}
END_TEST

/* Client ids are the requesters' choice: these would all meet in one bucket of
 * a table without a key. */
START_TEST(test_chosen_ids_do_not_meet_in_one_bucket)
{
    enum { MANY = 400 };
    static struct oneshot slots[MANY];
    uint64_t own = desk.pool.client;
    readers->max_open = MANY;
    for (uint64_t i = 0; i < MANY; i++) {
        struct reader *r;
        desk.pool.client = (i + 1) << 40 | (i + 1) << 8;
        desk.pool.next_slot = 7;
        ck_assert_int_eq(oneshot_acquire(&desk.pool, &slots[i]), ERR_OK);
        ck_assert_int_eq(readers_get(readers, desk.pool.client, 7, &r), ERR_OK);
        readers_put(readers, r);
    }
    uint32_t longest = 0;
    for (uint32_t b = 0; b < readers->bucket_count; b++) {
        uint32_t n = 0;
        for (struct reader *r = readers->buckets[b]; r != NULL; r = r->chain)
            n++;
        longest = n > longest ? n : longest;
    }
    ck_assert_uint_lt(longest, 16);
    for (uint64_t i = 0; i < MANY; i++) {
        desk.pool.client = (i + 1) << 40 | (i + 1) << 8;
        oneshot_abandon(&desk.pool, &slots[i]);
    }
    desk.pool.client = own;
}
END_TEST

START_TEST(test_what_is_no_pipe_is_refused)
{
    char name[ONESHOT_NAME_MAX];
    struct reader *r;
    oneshot_name(name, desk.pool.client, 77);
    int fd = openat(desk.ch.reply_fd, name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(readers_get(readers, desk.pool.client, 77, &r),
                     ERR_DENIED);
    ck_assert_uint_eq(readers->open_count, 0);
    readers_sweep(readers);
    struct stat st;
    ck_assert_int_lt(fstatat(desk.ch.reply_fd, name, &st, 0), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("readers");
    TCase *t = support_case(s, "readers", 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_same_slot_is_opened_once);
    tcase_add_test(t, test_nobody_there);
    tcase_add_test(t, test_what_a_full_pipe_does_not_take_waits_in_order);
    tcase_add_test(t, test_small_chunks_into_a_full_pipe);
    tcase_add_test(t, test_limit_of_one_reader);
    tcase_add_test(t, test_limit_of_all_readers);
    tcase_add_test(t, test_death_is_noticed);
    tcase_add_test(t, test_death_of_many_in_one_round);
    tcase_add_test(t, test_idle_ones_make_room_least_recently_used_first);
    tcase_add_test(t, test_one_whose_reply_still_waits_is_not_evicted);
    tcase_add_test(t, test_one_that_stands_still_gives_way);
    tcase_add_test(t, test_last_words_are_bounded);
    tcase_add_test(t, test_gathered_ones_go_together);
    tcase_add_test(t, test_gathering_is_bounded);
    tcase_add_test(t, test_death_of_some_that_gather);
    tcase_add_test(t, test_sweep_goes_in_steps);
    tcase_add_test(t, test_many_clients_are_found);
    tcase_add_test(t, test_chosen_ids_do_not_meet_in_one_bucket);
    tcase_add_test(t, test_what_is_no_pipe_is_refused);
    return s;
}

int main(void)
{
    return support_run(suite());
}
