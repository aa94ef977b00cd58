/* The pipeline: replies find whom they belong to in whatever pieces they come,
 * and a connection that breaks after any byte loses what had left, keeps what
 * had not, and nothing else. */
#include "manager/pipeline.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_manager.h"

#define MB ((size_t)1 << 20)

static struct desk desk;
static struct pipeline pipe_line;

static void setup(void)
{
    desk_open(&desk, 100, 16 * MB, 64 * MB);
    ck_assert_int_eq(pipeline_init(&pipe_line, &desk.answers), ERR_OK);
}

static void teardown(void)
{
    pipeline_release(&pipe_line);
    desk_close(&desk);
}

/* ---- feeding and writing ---- */

static enum err feed(const char *data, size_t len)
{
    while (len > 0) {
        size_t room;
        char *at = pipeline_room(&pipe_line, &room);
        ck_assert_uint_gt(room, 0);
        size_t n = len < room ? len : room;
        memcpy(at, data, n);
        enum err e = pipeline_feed(&pipe_line, n);
        if (e != ERR_OK)
            return e;
        data += n;
        len -= n;
    }
    return ERR_OK;
}

static enum err feed_text(const char *text)
{
    return feed(text, strlen(text));
}

/* Writes all that is unsent. */
static void write_all(void)
{
    while (pipeline_has_unsent(&pipe_line)) {
        const char *data;
        size_t len;
        pipeline_unsent(&pipe_line, &data, &len);
        pipeline_sent(&pipe_line, len);
    }
}

/* ---- a stream of entries of every kind ---- */

/* A kind of entry, and its commands: ECHO 0, ECHO 1, ... by their place in the
 * stream, so that replies tell whose they are. */
enum kind { SINGLE, BATCH, INDEPENDENT, OWN };

static const struct {
    enum kind kind;
    uint32_t commands;
} plan[] = {
    {SINGLE, 1},      {BATCH, 3}, {INDEPENDENT, 4}, {OWN, 1},
    {INDEPENDENT, 1}, {BATCH, 1}, {INDEPENDENT, 3}, {SINGLE, 1},
};

#define ENTRIES (sizeof(plan) / sizeof(plan[0]))
#define COMMANDS_MAX 32

/* Where each command stands, and what became of it. */
struct place {
    size_t entry;
    uint32_t index; /* in its entry */
    size_t begin, end;
    const char *bytes;
};

static struct asker askers[ENTRIES];
static struct place places[COMMANDS_MAX];
static size_t place_count;
static char stream[4096];
static size_t stream_len;

static size_t put_echo(char *to, size_t number)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%zu", number);
    struct resp_arg argv[] = {{"ECHO", 4}, {text, (size_t)n}};
    return resp_put_command(to, 2, argv);
}

static void reply_of(size_t number, char reply[64])
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%zu", number);
    snprintf(reply, 64, "$%d\r\n%s\r\n", n, text);
}

/* Appends all entries of the plan; askers with `deadline`. */
static void append_plan(uint64_t deadline_ns)
{
    place_count = stream_len = 0;
    for (size_t e = 0; e < ENTRIES; e++) {
        size_t begin = stream_len, first_len = 0;
        for (uint32_t i = 0; i < plan[e].commands; i++) {
            size_t len = put_echo(stream + stream_len, place_count);
            places[place_count] = (struct place){
                e, i, stream_len, stream_len + len, stream + stream_len};
            place_count++;
            stream_len += len;
            if (i == 0)
                first_len = len;
        }
        struct run run = {.count = plan[e].commands,
                          .independent = plan[e].kind == INDEPENDENT,
                          .data = stream + begin,
                          .len = stream_len - begin,
                          .first_len = first_len};
        if (plan[e].kind != OWN) {
            asker_ask(&desk, &askers[e], plan[e].commands, deadline_ns);
            run.req = askers[e].req;
        }
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
    }
}

static void release_plan(void)
{
    for (size_t e = 0; e < ENTRIES; e++)
        if (plan[e].kind != OWN)
            asker_release(&desk, &askers[e]);
}

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

/* Writes `sent` bytes, in steps, and feeds the first `answered` replies. */
static void write_and_answer(size_t sent, size_t step, size_t answered)
{
    for (size_t done = 0; done < sent;) {
        const char *data;
        size_t len, n = sent - done < step ? sent - done : step;
        pipeline_unsent(&pipe_line, &data, &len);
        ck_assert_uint_ge(len, n);
        ck_assert_mem_eq(data, stream + done, n);
        pipeline_sent(&pipe_line, n);
        done += n;
    }
    for (size_t i = 0; i < answered; i++) {
        char reply[64];
        reply_of(i, reply);
        ck_assert_int_eq(feed_text(reply), ERR_OK);
    }
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

START_TEST(test_reply_to_the_dead_is_dropped_in_order)
{
    append_plan(0);
    write_all();
    asker_die(&askers[1]);
    desk_turn(&desk);
    for (size_t i = 0; i < place_count; i++) {
        char reply[64];
        reply_of(i, reply);
        ck_assert_int_eq(feed_text(reply), ERR_OK);
    }
    for (size_t i = 0; i < place_count; i++) {
        size_t e = places[i].entry;
        char reply[64];
        reply_of(i, reply);
        if (plan[e].kind == OWN || e == 1)
            continue;
        if (places[i].index == 0)
            ck_assert(asker_read(&desk, &askers[e]));
        ck_assert(asker_told(&askers[e], places[i].index, REPLY_OK, reply));
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_discarded), plan[1].commands);
    ck_assert_uint_eq(desk.answers.inflight, 0);
    release_plan();
}
END_TEST

/* ---- replies in pieces ---- */

/* A reply for each command of the plan, of every type, with pushes between. */
static const char *const replies[] = {
    "+OK\r\n",
    ":-12\r\n",
    "$-1\r\n",
    "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$2\r\n\r\n\r\n",
    "-ERR no\r\n",
    "$0\r\n\r\n",
    "%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n",
    "_\r\n",
    "+PONG\r\n",
    "#t\r\n",
    ",1.5\r\n",
    "=7\r\ntxt:abc\r\n",
    "*-1\r\n",
    "!5\r\nERR x\r\n",
    "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
};

#define REPLIES (sizeof(replies) / sizeof(replies[0]))
#define PUSH ">2\r\n+message\r\n$3\r\nfoo\r\n"

static char incoming[2048];
static size_t incoming_len;

static void compose(void)
{
    incoming_len = 0;
    for (size_t i = 0; i < REPLIES; i++) {
        if (i % 3 == 1) {
            memcpy(incoming + incoming_len, PUSH, sizeof(PUSH) - 1);
            incoming_len += sizeof(PUSH) - 1;
        }
        memcpy(incoming + incoming_len, replies[i], strlen(replies[i]));
        incoming_len += strlen(replies[i]);
    }
}

static void check_replies(const char *how, size_t at)
{
    ck_assert(pipeline_idle(&pipe_line));
    for (size_t i = 0; i < place_count; i++) {
        size_t e = places[i].entry;
        if (plan[e].kind == OWN)
            continue;
        if (places[i].index == 0)
            ck_assert(asker_read(&desk, &askers[e]));
        ck_assert_msg(
            asker_told(&askers[e], places[i].index, REPLY_OK, replies[i]),
            "%s %zu: command %zu has '%s'", how, at, i,
            askers[e].data[places[i].index]);
    }
    release_plan();
}

START_TEST(test_replies_split_at_every_byte)
{
    compose();
    for (size_t at = 0; at <= incoming_len; at++) {
        append_plan(0);
        ck_assert_uint_eq(place_count, REPLIES);
        write_all();
        ck_assert_int_eq(feed(incoming, at), ERR_OK);
        ck_assert_int_eq(feed(incoming + at, incoming_len - at), ERR_OK);
        check_replies("split at", at);
    }
    for (size_t step = 1; step < 8; step++) {
        append_plan(0);
        write_all();
        for (size_t at = 0; at < incoming_len; at += step)
            ck_assert_int_eq(feed(incoming + at, incoming_len - at < step
                                                     ? incoming_len - at
                                                     : step),
                             ERR_OK);
        check_replies("in pieces of", step);
    }
    ck_assert_uint_eq(desk_counter(&desk, COUNTER_pushes),
                      (incoming_len + 8) * 5);
}
END_TEST

START_TEST(test_long_replies_in_pieces_of_any_size)
{
    static const size_t steps[] = {1 << 20, 65536, 65535, 40000, 4097, 999};
    enum { SIZE = 300000 };
    char *bytes = malloc(SIZE + 64);
    ck_assert_ptr_nonnull(bytes);
    for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
        struct asker a, b;
        asker_ask(&desk, &a, 3, 0);
        asker_ask(&desk, &b, 1, 0);
        struct run run = {
            .req = a.req, .count = 3, .data = "xxx", .len = 3, .first_len = 1};
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        run = (struct run){
            .req = b.req, .count = 1, .data = "x", .len = 1, .first_len = 1};
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        write_all();
        int n = snprintf(bytes, 64, "+short\r\n$%d\r\n", SIZE);
        memset(bytes + n, 'y', SIZE);
        memcpy(bytes + n + SIZE, "\r\n:7\r\n+b\r\n", 10);
        size_t len = (size_t)n + SIZE + 10;
        for (size_t at = 0; at < len; at += steps[k]) {
            size_t piece = len - at < steps[k] ? len - at : steps[k];
            ck_assert_int_eq(feed(bytes + at, piece), ERR_OK);
        }
        ck_assert(asker_read(&desk, &a));
        ck_assert(asker_read(&desk, &b));
        ck_assert(asker_told(&a, 0, REPLY_OK, "+short\r\n"));
        ck_assert(asker_told(&a, 2, REPLY_OK, ":7\r\n"));
        ck_assert(asker_told(&b, 0, REPLY_OK, "+b\r\n"));
        ck_assert(a.told[1]);
        ck_assert_uint_eq(a.len[1], SIZE + 11);
        ck_assert_mem_eq(a.data[1], bytes + 8, a.len[1]);
        asker_release(&desk, &a);
        asker_release(&desk, &b);
    }
    free(bytes);
}
END_TEST

/* ---- a server that breaks the rules ---- */

START_TEST(test_reply_that_nobody_asked_for)
{
    ck_assert_int_eq(feed_text("+OK\r\n"), ERR_PROTO);
}
END_TEST

START_TEST(test_reply_before_its_command_has_left)
{
    for (size_t sent = 0; sent < 300; sent += 3) {
        append_plan(0);
        if (sent >= stream_len) {
            pipeline_break(&pipe_line, false, "a test");
            release_plan();
            break;
        }
        write_and_answer(sent, sizeof(stream), 0);
        size_t due = 0;
        while (due < place_count && places[due].end <= sent)
            due++;
        /* Of independent commands, the manager knows where the last one ends:
         * replies to all before it can't be early by much. */
        size_t taken = 0;
        enum err e = ERR_OK;
        for (; taken < place_count; taken++) {
            e = feed_text("+X\r\n");
            if (e != ERR_OK)
                break;
        }
        ck_assert_int_eq(e, ERR_PROTO);
        ck_assert_uint_ge(taken, due);
        ck_assert(taken == due || plan[places[due].entry].commands > 1);
        pipeline_break(&pipe_line, false, "a test");
        ck_assert(pipeline_idle(&pipe_line));
        ck_assert_uint_eq(desk.answers.inflight, 0);
        release_plan();
    }
}
END_TEST

START_TEST(test_bytes_that_are_no_reply)
{
    static const char *const bytes[] = {"hello\r\n", "$x\r\n", "*1\r\n?\r\n",
                                        "$3\r\nabcd\r\n", "HTTP/1.1 400\r\n"};
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        append_plan(0);
        write_all();
        ck_assert_int_eq(feed_text(bytes[i]), ERR_PROTO);
        pipeline_break(&pipe_line, true, "no reply");
        ck_assert(pipeline_idle(&pipe_line));
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

/* ---- the manager's own ---- */

static char captured[256];

static void note(void *context, const char *data, size_t len)
{
    (void)context;
    snprintf(captured, sizeof(captured), "%.*s", (int)len, data);
}

START_TEST(test_capture_takes_replies_in_any_pieces)
{
    static const char reply[] = "*2\r\n$3\r\nfoo\r\n:1\r\n";
    for (size_t at = 0; at < sizeof(reply); at++) {
        struct capture capture = {.max = 100, .done = note};
        struct run run = {.capture = &capture,
                          .count = 1,
                          .data = "x",
                          .len = 1,
                          .first_len = 1};
        captured[0] = '\0';
        ck_assert_int_eq(pipeline_append(&pipe_line, &run), ERR_OK);
        write_all();
        ck_assert_int_eq(feed(reply, at), ERR_OK);
        ck_assert_int_eq(feed(reply + at, sizeof(reply) - 1 - at), ERR_OK);
        ck_assert_str_eq(captured, reply);
        ck_assert(pipeline_idle(&pipe_line));
        buffer_release(&capture.bytes);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pipeline");
    TCase *t = tcase_create("pipeline");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_break_at_every_byte, 0, 4);
    tcase_add_test(t, test_break_twice_in_a_row);
    tcase_add_test(t, test_break_in_the_middle_of_a_reply);
    tcase_add_test(t, test_break_drops_what_expired_and_what_nobody_wants);
    tcase_add_test(t, test_purge_at_every_byte);
    tcase_add_test(t, test_reply_to_the_dead_is_dropped_in_order);
    tcase_add_test(t, test_replies_split_at_every_byte);
    tcase_add_test(t, test_long_replies_in_pieces_of_any_size);
    tcase_add_test(t, test_reply_that_nobody_asked_for);
    tcase_add_test(t, test_reply_before_its_command_has_left);
    tcase_add_test(t, test_bytes_that_are_no_reply);
    tcase_add_test(t, test_break_within_a_large_argument);
    tcase_add_test(t, test_capture_takes_replies_in_any_pieces);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
