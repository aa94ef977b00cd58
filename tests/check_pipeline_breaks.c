/* A connection that breaks after any byte, or in the middle of a large
 * argument, loses what had left, keeps what had not, and nothing else; who is
 * out of time or gone is left out of what goes on. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/pipeline_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define MB ((size_t)1 << 20)

/* Whether a command may have been executed when so many bytes have left. */
static bool has_left(size_t place, size_t sent)
{
    const struct place *p = &places[place];
    switch (plan[p->entry].kind) {
    case SINGLE:
    case OWN:
    case INDEPENDENT:
        return p->end <= sent;
    case BATCH: /* all of it, once its first command has left whole */
        return places[place - p->index].end <= sent;
    }
    return false;
}

/* The connection breaks after `sent` bytes and `answered` replies: checks
 * everybody's fate, and what goes out on the next connection. */
static void check_break(size_t sent, size_t step, size_t answered, bool keep)
{
    append_plan(0);
    write_and_answer(sent, step, answered);
    pipeline_break(&pipe_line, keep, "a test");

    char again[sizeof(stream)];
    size_t again_len = 0;
    for (size_t i = 0; i < place_count; i++) {
        bool lives = !has_left(i, sent) && plan[places[i].entry].kind != OWN;
        size_t len = places[i].end - places[i].begin;
        if (!lives || !keep)
            continue;
        memcpy(again + again_len, places[i].bytes, len);
        again_len += len;
    }
    const char *data = NULL;
    size_t len;
    pipeline_unsent(&pipe_line, &data, &len);
    ck_assert_msg(len == again_len && memcmp(data, again, len) == 0,
                  "broken at byte %zu after %zu replies: %zu bytes go out "
                  "again, not %zu",
                  sent, answered, len, again_len);
    write_all();
    for (size_t i = 0; i < place_count; i++) {
        char reply[64];
        reply_of(i, reply);
        if (keep && !has_left(i, sent) && plan[places[i].entry].kind != OWN)
            ck_assert_int_eq(feed_text(reply), ERR_OK);
    }
    ck_assert(pipeline_idle(&pipe_line));
    for (size_t i = 0; i < place_count; i++) {
        const struct place *p = &places[i];
        if (plan[p->entry].kind == OWN)
            continue;
        struct asker *a = &askers[p->entry];
        char reply[64];
        reply_of(i, reply);
        if (p->index == 0)
            ck_assert(asker_read(&desk, a));
        enum reply_status expect = i < answered        ? REPLY_OK
                                   : has_left(i, sent) ? REPLY_LOST
                                   : keep              ? REPLY_OK
                                                       : REPLY_UNAVAILABLE;
        ck_assert_msg(
            asker_told(a, p->index, expect, expect == REPLY_OK ? reply : ""),
            "broken at byte %zu after %zu replies: command %zu was "
            "told %s, not %s",
            sent, answered, i,
            a->told[p->index] ? reply_status_str(a->status[p->index])
                              : "nothing",
            reply_status_str(expect));
        ck_assert(a->stream.ended);
    }
    ck_assert_uint_eq(desk.answers.inflight, 0);
    release_plan();
}

START_TEST(test_break_at_every_byte)
{
    bool keep = _i % 2 == 0;
    size_t step = _i / 2 == 0 ? sizeof(stream) : 1;
    append_plan(0);
    size_t whole = stream_len;
    pipeline_break(&pipe_line, false, "a test");
    release_plan();
    for (size_t sent = 0; sent <= whole; sent++) {
        /* As many replies as there can be, half of them, none. */
        size_t most = 0;
        while (most < place_count && places[most].end <= sent)
            most++;
        check_break(sent, step, most, keep);
        if (most > 1)
            check_break(sent, step, most / 2, keep);
        if (most > 0)
            check_break(sent, step, 0, keep);
    }
}
END_TEST

START_TEST(test_break_twice_in_a_row)
{
    for (size_t sent = 0; sent <= 120; sent += 7) {
        append_plan(0);
        write_and_answer(sent, 5, 0);
        pipeline_break(&pipe_line, true, "the first");
        const char *data;
        size_t len;
        pipeline_unsent(&pipe_line, &data, &len);
        pipeline_sent(&pipe_line, len < 40 ? len : 40);
        pipeline_break(&pipe_line, true, "the second");
        pipeline_break(&pipe_line, true, "the third");
        write_all();
        for (size_t i = 0; !pipeline_idle(&pipe_line); i++) {
            ck_assert_uint_lt(i, place_count);
            ck_assert_int_eq(feed_text("+X\r\n"), ERR_OK);
        }
        for (size_t e = 0; e < ENTRIES; e++) {
            if (plan[e].kind == OWN)
                continue;
            ck_assert(asker_read(&desk, &askers[e]));
            ck_assert(askers[e].stream.ended);
        }
        ck_assert_uint_eq(desk.answers.inflight, 0);
        release_plan();
    }
}
END_TEST

START_TEST(test_break_in_the_middle_of_a_reply)
{
    append_plan(0);
    write_all();
    char *large = malloc(3 * PIPELINE_READ_SIZE);
    ck_assert_ptr_nonnull(large);
    memset(large, 'x', 3 * PIPELINE_READ_SIZE);
    ck_assert_int_eq(feed_text("$1000000\r\n"), ERR_OK);
    ck_assert_int_eq(feed(large, 3 * PIPELINE_READ_SIZE), ERR_OK);
    pipeline_break(&pipe_line, true, "a test");
    for (size_t e = 0; e < ENTRIES; e++) {
        if (plan[e].kind == OWN)
            continue;
        ck_assert(asker_read(&desk, &askers[e]));
        for (uint32_t i = 0; i < plan[e].commands; i++)
            ck_assert(asker_told(&askers[e], i, REPLY_LOST, ""));
    }
    /* The next connection begins with a clean scan. */
    struct asker next;
    asker_ask(&desk, &next, 1, 0);
    struct run run = {.req = next.req,
                      .count = 1,
                      .data = stream,
                      .len = places[0].end,
                      .first_len = places[0].end};
    ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
    write_all();
    ck_assert_int_eq(feed_text("+next\r\n"), ERR_OK);
    ck_assert(asker_read(&desk, &next));
    ck_assert(asker_told(&next, 0, REPLY_OK, "+next\r\n"));
    asker_release(&desk, &next);
    free(large);
    release_plan();
}
END_TEST

/* ---- who is out of time, or gone ---- */

START_TEST(test_break_drops_what_expired_and_what_nobody_wants)
{
    append_plan(clock_ns() + 1);
    desk.answers.now_ns = clock_ns() + NS_PER_S;
    write_and_answer(places[0].end, sizeof(stream), 0);
    asker_die(&askers[1]);
    desk_turn(&desk);
    desk.answers.now_ns = clock_ns() + NS_PER_S;
    pipeline_break(&pipe_line, true, "a test");
    ck_assert(pipeline_idle(&pipe_line));
    ck_assert(!pipeline_has_unsent(&pipe_line));
    for (size_t e = 0; e < ENTRIES; e++) {
        if (plan[e].kind == OWN || e == 1)
            continue;
        ck_assert(asker_read(&desk, &askers[e]));
        for (uint32_t i = 0; i < plan[e].commands; i++)
            ck_assert(asker_told(&askers[e], i,
                                 e == 0 ? REPLY_LOST : REPLY_EXPIRED, ""));
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_gone), plan[1].commands);
    release_plan();
}
END_TEST

static bool outlives_purge(size_t place, size_t sent)
{
    const struct place *p = &places[place];
    return plan[p->entry].kind == OWN || places[place - p->index].begin < sent;
}

START_TEST(test_purge_at_every_byte)
{
    append_plan(0);
    size_t whole = stream_len;
    pipeline_break(&pipe_line, false, "a test");
    release_plan();
    for (size_t sent = 0; sent <= whole; sent++) {
        append_plan(clock_ns() + NS_PER_S);
        write_and_answer(sent, 3, 0);
        desk.answers.now_ns = clock_ns() + 2 * NS_PER_S;
        pipeline_purge(&pipe_line);
        /* What is partly out goes on, and so does what is the manager's own;
         * the rest expires. */
        static char left[sizeof(stream)];
        size_t left_len = 0;
        const char *data;
        size_t len;
        for (size_t i = 0; i < place_count; i++) {
            size_t from = places[i].begin > sent ? places[i].begin : sent;
            if (!outlives_purge(i, sent) || places[i].end <= from)
                continue;
            memcpy(left + left_len, stream + from, places[i].end - from);
            left_len += places[i].end - from;
        }
        pipeline_unsent(&pipe_line, &data, &len);
        ck_assert_uint_eq(len, left_len);
        ck_assert_mem_eq(data, left, len);
        write_all();
        for (size_t i = 0; i < place_count; i++) {
            char reply[64];
            if (!outlives_purge(i, sent))
                continue;
            reply_of(i, reply);
            ck_assert_int_eq(feed_text(reply), ERR_OK);
        }
        ck_assert(pipeline_idle(&pipe_line));
        for (size_t i = 0; i < place_count; i++) {
            size_t e = places[i].entry;
            if (plan[e].kind == OWN)
                continue;
            char reply[64];
            reply_of(i, reply);
            if (places[i].index == 0)
                ck_assert(asker_read(&desk, &askers[e]));
            bool out = outlives_purge(i, sent);
            ck_assert(asker_told(&askers[e], places[i].index,
                                 out ? REPLY_OK : REPLY_EXPIRED,
                                 out ? reply : ""));
        }
        release_plan();
    }
}
END_TEST

/* ---- large arguments ---- */

START_TEST(test_break_within_a_large_argument)
{
    enum { SIZE = 1000 };
    struct sources sources = {.status = desk.status, .budget = MB};
    /* `$1000 CR LF`, the bytes beside, `CR LF`. */
    static const char framing[] = "*2\r\n$4\r\nECHO\r\n$1000\r\n\r\n";
    const size_t before = sizeof(framing) - 3;
    for (uint64_t cut = 0; cut <= SIZE + 1; cut += 77) {
        struct source *source;
        struct asker a;
        int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(source_new(&sources, fd, SIZE, &source), ERR_OK);
        asker_ask(&desk, &a, 1, 0);
        struct blob blob = {.at = before, .len = SIZE, .offset = 5};
        struct run run = {.req = a.req,
                          .count = 1,
                          .data = framing,
                          .len = sizeof(framing) - 1,
                          .first_len = sizeof(framing) - 1,
                          .source = source,
                          .blobs = &blob,
                          .nblobs = 1};
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        source_unref(source);
        for (int connection = 0; connection < 2; connection++) {
            const char *data;
            size_t len;
            ck_assert_ptr_null(pipeline_segment(&pipe_line));
            pipeline_unsent(&pipe_line, &data, &len);
            ck_assert_uint_eq(len, before);
            ck_assert_mem_eq(data, framing, before);
            pipeline_sent(&pipe_line, len);
            struct segment *g = pipeline_segment(&pipe_line);
            ck_assert_ptr_nonnull(g);
            ck_assert_uint_eq(g->sent, 0);
            ck_assert_uint_eq(g->len, SIZE);
            uint64_t part = connection == 0 && cut < SIZE ? cut : SIZE;
            if (part > 0)
                segments_sent(&pipe_line.segments, part);
            if (connection == 0 && cut > SIZE) {
                pipeline_unsent(&pipe_line, &data, &len);
                ck_assert_uint_eq(len, 2);
                pipeline_sent(&pipe_line, 1);
            }
            if (connection == 0)
                pipeline_break(&pipe_line, true, "a test");
        }
        write_all();
        ck_assert_int_eq(feed_text("+large\r\n"), ERR_OK);
        ck_assert(asker_read(&desk, &a));
        ck_assert(asker_told(&a, 0, REPLY_OK, "+large\r\n"));
        ck_assert_uint_eq(sources.bytes, 0);
        asker_release(&desk, &a);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pipeline_breaks");
    TCase *t = support_case(s, "pipeline_breaks", 60);
    tcase_add_checked_fixture(t, scene_setup, scene_teardown);
    tcase_add_loop_test(t, test_break_at_every_byte, 0, 4);
    tcase_add_test(t, test_break_twice_in_a_row);
    tcase_add_test(t, test_break_in_the_middle_of_a_reply);
    tcase_add_test(t, test_break_drops_what_expired_and_what_nobody_wants);
    tcase_add_test(t, test_purge_at_every_byte);
    tcase_add_test(t, test_break_within_a_large_argument);
    return s;
}

int main(void)
{
    return support_run(suite());
}
