/* Requests and reply chunks: what is believed, what is refused, and a stream of
 * chunks that arrives in pieces of every size. */
#include "ipc/message.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

#define COMMAND "*1\r\n$4\r\nPING\r\n"

/* ---- requests ---- */

static const struct message_header good = {
    .magic = MESSAGE_MAGIC,
    .version = MESSAGE_VERSION,
    .epoch = 3,
    .client = 4,
    .request = 5,
    .ncommands = 1,
    .payload_len = sizeof(COMMAND) - 1,
};

/* A copy of exactly the right size, so that a sanitizer sees a byte read beyond
 * it, and not aligned for any field. */
static char *message(const struct message_header *h, const char *payload,
                     size_t len, char **block)
{
    *block = malloc(1 + sizeof(*h) + len);
    ck_assert_ptr_nonnull(*block);
    char *data = *block + 1;
    memcpy(data, h, sizeof(*h));
    if (len > 0)
        memcpy(data + sizeof(*h), payload, len);
    return data;
}

START_TEST(test_good_message)
{
    static const uint16_t flags[] = {0, MESSAGE_INDEPENDENT, MESSAGE_PAYLOAD,
                                     MESSAGE_INDEPENDENT | MESSAGE_PAYLOAD};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct message_header in = good, out;
        const char *payload = NULL;
        char *block;
        struct err_text why = {""};
        in.flags = flags[i];
        in.slot = UINT64_MAX;
        char *data = message(&in, COMMAND, sizeof(COMMAND) - 1, &block);
        ck_assert_int_eq(message_parse(data, sizeof(in) + sizeof(COMMAND) - 1,
                                       0, &out, &payload, &why),
                         ERR_OK);
        ck_assert_mem_eq(&out, &in, sizeof(in));
        ck_assert_ptr_eq(payload, data + sizeof(in));
        ck_assert_str_eq(why.text, "");
        free(block);
    }
}
END_TEST

struct garbage {
    const char *what;
    uint32_t magic;
    uint16_t version, flags;
    uint64_t client, request;
    uint32_t ncommands, payload_len;
    unsigned priority;
    enum err expect;
    const char *says;
};

#define LEN (sizeof(COMMAND) - 1)

static const struct garbage table[] = {
    {"no magic", 0, 1, 0, 4, 5, 1, LEN, 0, ERR_PROTO, "magic"},
    {"other byte order", 0x4d52514dU, 1, 0, 4, 5, 1, LEN, 0, ERR_PROTO,
     "magic"},
    {"no client", MESSAGE_MAGIC, 1, 0, 0, 5, 1, LEN, 0, ERR_PROTO, "address"},
    {"no request", MESSAGE_MAGIC, 1, 0, 4, 0, 1, LEN, 0, ERR_PROTO, "address"},
    {"version 0", MESSAGE_MAGIC, 0, 0, 4, 5, 1, LEN, 0, ERR_INVALID,
     "version 0"},
    {"next version", MESSAGE_MAGIC, MESSAGE_VERSION + 1, 0, 4, 5, 1, LEN, 0,
     ERR_INVALID, "one release"},
    {"unknown flag", MESSAGE_MAGIC, 1, 16, 4, 5, 1, LEN, 0, ERR_INVALID,
     "flags 0x10"},
    {"all flags", MESSAGE_MAGIC, 1, 0xffff, 4, 5, 1, LEN, 0, ERR_INVALID,
     "flags 0xffff"},
    {"priority", MESSAGE_MAGIC, 1, 0, 4, 5, 1, LEN, 1, ERR_PROTO, "priority 1"},
    {"highest priority", MESSAGE_MAGIC, 1, 0, 4, 5, 1, LEN, 32767, ERR_PROTO,
     "priority 32767"},
    {"longer than it is", MESSAGE_MAGIC, 1, 0, 4, 5, 1, LEN + 1, 0, ERR_INVALID,
     "15 bytes"},
    {"shorter than it is", MESSAGE_MAGIC, 1, 0, 4, 5, 1, LEN - 1, 0,
     ERR_INVALID, "13 bytes"},
    {"no length", MESSAGE_MAGIC, 1, 0, 4, 5, 1, 0, 0, ERR_INVALID, "0 bytes"},
    {"huge length", MESSAGE_MAGIC, 1, 0, 4, 5, 1, UINT32_MAX, 0, ERR_INVALID,
     "4294967295 bytes"},
    {"length that wraps", MESSAGE_MAGIC, 1, 0, 4, 5, 1,
     (uint32_t)(LEN - sizeof(struct message_header)), 0, ERR_INVALID, "bytes"},
    {"no command", MESSAGE_MAGIC, 1, 0, 4, 5, 0, LEN, 0, ERR_INVALID,
     "without a command"},
};

START_TEST(test_message_garbage)
{
    const struct garbage *g = &table[_i];
    struct message_header h = good, out;
    h.magic = g->magic;
    h.version = g->version;
    h.flags = g->flags;
    h.client = g->client;
    h.request = g->request;
    h.ncommands = g->ncommands;
    h.payload_len = g->payload_len;
    char *block;
    const char *payload = "untouched";
    struct err_text why = {""};
    char *data = message(&h, COMMAND, LEN, &block);
    memset(&out, 0, sizeof(out));
    ck_assert_msg(message_parse(data, sizeof(h) + LEN, g->priority, &out,
                                &payload, &why) == g->expect,
                  "%s: %s", g->what, why.text);
    ck_assert_msg(strstr(why.text, g->says) != NULL, "%s: %s", g->what,
                  why.text);
    ck_assert_str_eq(payload, "untouched");
    /* Refused with an answer: then the address is there. */
    ck_assert_uint_eq(out.request, g->expect == ERR_INVALID ? h.request : 0);
    ck_assert_uint_eq(out.client, g->expect == ERR_INVALID ? h.client : 0);
    ck_assert_int_eq(
        message_parse(data, sizeof(h) + LEN, g->priority, &out, &payload, NULL),
        g->expect);
    free(block);
}
END_TEST

START_TEST(test_cut_messages)
{
    for (size_t len = 0; len < sizeof(good) + LEN; len++) {
        struct message_header out;
        const char *payload;
        struct err_text why = {""};
        char *block;
        char *whole = message(&good, COMMAND, LEN, &block);
        char *cut = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, whole, len);
        ck_assert_int_eq(message_parse(cut, len, 0, &out, &payload, &why),
                         len < sizeof(good) ? ERR_PROTO : ERR_INVALID);
        ck_assert_str_ne(why.text, "");
        free(cut);
        free(block);
    }
}
END_TEST

START_TEST(test_status_names)
{
    static const char *const names[] = {"ok",          "invalid", "expired",
                                        "unavailable", "too-big", "lost"};
    ck_assert_uint_eq(sizeof(names) / sizeof(names[0]), REPLY_STATUS_COUNT);
    for (int i = 0; i < REPLY_STATUS_COUNT; i++)
        ck_assert_str_eq(reply_status_str((enum reply_status)i), names[i]);
    ck_assert_str_eq(reply_status_str(REPLY_STATUS_COUNT), "unknown");
}
END_TEST

/* ---- reply chunks ---- */

#define REQUEST 77

struct stream_bytes {
    char bytes[4096];
    size_t len;
};

static void put(struct stream_bytes *out, struct reply_chunk chunk,
                const char *body)
{
    if (chunk.request == 0)
        chunk.request = REQUEST;
    if (body != NULL)
        chunk.length = (uint32_t)strlen(body);
    memcpy(out->bytes + out->len, &chunk, sizeof(chunk));
    out->len += sizeof(chunk);
    if (body != NULL)
        memcpy(out->bytes + out->len, body, chunk.length);
    out->len += body != NULL ? chunk.length : 0;
}

/* Four commands' answers: three at once, the last in three parts. */
static void put_answer(struct stream_bytes *out)
{
    out->len = 0;
    put(out, (struct reply_chunk){.count = 3}, "+OK\r\n:1\r\n$-1\r\n");
    put(out, (struct reply_chunk){.first = 3, .flags = REPLY_MORE}, "$8\r\nab");
    put(out, (struct reply_chunk){.first = 3, .flags = REPLY_MORE}, "");
    put(out, (struct reply_chunk){.first = 3, .count = 1, .flags = REPLY_END},
        "cdefgh\r\n");
}

#define ANSWER "+OK\r\n:1\r\n$-1\r\n$8\r\nabcdefgh\r\n"

struct taken {
    char body[4096];
    size_t len;
    unsigned chunks, commands;
    bool ended;
};

/* Takes all pieces that these bytes hold. */
static enum err take(struct reply_stream *s, const char *data, size_t len,
                     struct taken *t)
{
    /* A copy of that very size, for a sanitizer. */
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, len);
    const char *at = copy;
    struct reply_piece piece;
    enum err e;
    while ((e = reply_stream_next(s, &at, &len, &piece)) == ERR_OK) {
        ck_assert(!t->ended);
        if (piece.len > 0)
            memcpy(t->body + t->len, piece.data, piece.len);
        t->len += piece.len;
        if (piece.chunk_done) {
            t->chunks++;
            t->commands += piece.chunk->count;
            t->ended = (piece.chunk->flags & REPLY_END) != 0;
        }
    }
    if (e == ERR_AGAIN)
        ck_assert_uint_eq(len, 0);
    free(copy);
    return e;
}

static void check_answer(const struct taken *t)
{
    ck_assert_uint_eq(t->len, sizeof(ANSWER) - 1);
    ck_assert_mem_eq(t->body, ANSWER, t->len);
    ck_assert_uint_eq(t->chunks, 4);
    ck_assert_uint_eq(t->commands, 4);
    ck_assert(t->ended);
}

START_TEST(test_stream_split_at_every_point)
{
    struct stream_bytes in;
    put_answer(&in);
    for (size_t a = 0; a <= in.len; a++) {
        for (size_t b = a; b <= in.len; b++) {
            struct reply_stream s;
            struct taken t = {.len = 0};
            reply_stream_init(&s, REQUEST, 4);
            ck_assert_int_eq(take(&s, in.bytes, a, &t), ERR_AGAIN);
            ck_assert_int_eq(take(&s, in.bytes + a, b - a, &t), ERR_AGAIN);
            ck_assert_int_eq(take(&s, in.bytes + b, in.len - b, &t), ERR_AGAIN);
            check_answer(&t);
        }
    }
}
END_TEST

START_TEST(test_stream_byte_by_byte)
{
    struct stream_bytes in;
    struct reply_stream s;
    struct taken t = {.len = 0};
    put_answer(&in);
    reply_stream_init(&s, REQUEST, 4);
    for (size_t i = 0; i < in.len; i++)
        ck_assert_int_eq(take(&s, in.bytes + i, 1, &t), ERR_AGAIN);
    check_answer(&t);
    ck_assert_int_eq(take(&s, in.bytes, 0, &t), ERR_AGAIN);
    ck_assert_int_eq(take(&s, in.bytes, 1, &t), ERR_PROTO);
}
END_TEST

struct bad_chunk {
    const char *what;
    struct reply_chunk chunk;
};

/* Each is the first chunk of an answer to two commands. */
static const struct bad_chunk bad_chunks[] = {
    {"wrong id", {.request = REQUEST + 1, .count = 1}},
    {"id in other byte order", {.request = (uint64_t)REQUEST << 56}},
    {"too long", {.length = REPLY_CHUNK_MAX + 1, .count = 1}},
    {"huge", {.length = UINT32_MAX, .count = 1}},
    {"no such status", {.status = REPLY_STATUS_COUNT, .count = 1}},
    {"status 255", {.status = 255, .count = 1}},
    {"reserved bits", {.reserved = 1, .count = 1}},
    {"unknown flag", {.flags = 4, .count = 1}},
    {"first beyond", {.first = 2, .count = 0}},
    {"first far beyond", {.first = UINT32_MAX, .count = 1}},
    {"count beyond", {.first = 1, .count = 2}},
    {"count far beyond", {.first = 1, .count = UINT32_MAX}},
    {"END with missing commands", {.count = 1, .flags = REPLY_END}},
    {"END with none", {.count = 0, .flags = REPLY_END}},
    {"END and MORE", {.count = 2, .flags = REPLY_END | REPLY_MORE}},
};

START_TEST(test_stream_refuses)
{
    const struct bad_chunk *b = &bad_chunks[_i];
    struct stream_bytes in = {.len = 0};
    struct reply_stream s;
    struct taken t = {.len = 0};
    put(&in, b->chunk, NULL);
    reply_stream_init(&s, REQUEST, 2);
    ck_assert_msg(take(&s, in.bytes, in.len, &t) == ERR_PROTO, "%s", b->what);
    /* And goes on refusing, whatever comes. */
    struct stream_bytes fine = {.len = 0};
    put(&fine, (struct reply_chunk){.count = 2, .flags = REPLY_END}, NULL);
    ck_assert_msg(take(&s, fine.bytes, 1, &t) == ERR_PROTO, "%s", b->what);
    ck_assert_msg(take(&s, fine.bytes, fine.len, &t) == ERR_PROTO, "%s",
                  b->what);
    ck_assert_int_eq(take(&s, fine.bytes, 0, &t), ERR_PROTO);
    ck_assert_uint_eq(t.chunks, 0);
}
END_TEST

START_TEST(test_stream_refuses_more_answers_than_commands)
{
    struct stream_bytes in = {.len = 0};
    struct reply_stream s;
    struct taken t = {.len = 0};
    for (int i = 0; i < 3; i++)
        put(&in, (struct reply_chunk){.first = 0, .count = 1}, "+OK\r\n");
    reply_stream_init(&s, REQUEST, 2);
    ck_assert_int_eq(take(&s, in.bytes, in.len, &t), ERR_PROTO);
    ck_assert_uint_eq(t.commands, 2);
}
END_TEST

/* The late reply of an earlier request in the same pipe, whole and well-formed.
 */
START_TEST(test_stream_refuses_another_requests_answer_midway)
{
    struct stream_bytes in = {.len = 0};
    struct reply_stream s;
    struct taken t = {.len = 0};
    put(&in, (struct reply_chunk){.count = 1}, "+mine\r\n");
    put(&in,
        (struct reply_chunk){
            .request = REQUEST - 1, .first = 1, .count = 1, .flags = REPLY_END},
        "+theirs\r\n");
    reply_stream_init(&s, REQUEST, 2);
    ck_assert_int_eq(take(&s, in.bytes, in.len, &t), ERR_PROTO);
    ck_assert_uint_eq(t.len, 7);
    ck_assert_mem_eq(t.body, "+mine\r\n", 7);
    ck_assert(!t.ended);
}
END_TEST

START_TEST(test_stream_takes_independent_answers_in_any_order)
{
    struct stream_bytes in = {.len = 0};
    struct reply_stream s;
    struct taken t = {.len = 0};
    put(&in, (struct reply_chunk){.first = 2, .count = 1}, "c");
    put(&in, (struct reply_chunk){.first = 0, .flags = REPLY_MORE}, "a");
    put(&in,
        (struct reply_chunk){.first = 1, .count = 1, .status = REPLY_INVALID},
        "no such thing");
    put(&in, (struct reply_chunk){.count = 1, .flags = REPLY_END}, "A");
    reply_stream_init(&s, REQUEST, 3);
    ck_assert_int_eq(take(&s, in.bytes, in.len, &t), ERR_AGAIN);
    ck_assert(t.ended);
    ck_assert_uint_eq(t.commands, 3);
    ck_assert_mem_eq(t.body, "cano such thingA", t.len);
}
END_TEST

START_TEST(test_stream_of_the_longest_chunk)
{
    struct reply_stream s;
    struct reply_piece piece;
    struct reply_chunk chunk = {.request = REQUEST,
                                .length = REPLY_CHUNK_MAX,
                                .count = 1,
                                .flags = REPLY_END};
    char *block = calloc(1, sizeof(chunk) + REPLY_CHUNK_MAX);
    ck_assert_ptr_nonnull(block);
    memcpy(block, &chunk, sizeof(chunk));
    const char *at = block;
    size_t len = sizeof(chunk) + REPLY_CHUNK_MAX;
    reply_stream_init(&s, REQUEST, 1);
    ck_assert_int_eq(reply_stream_next(&s, &at, &len, &piece), ERR_OK);
    ck_assert_uint_eq(piece.len, REPLY_CHUNK_MAX);
    ck_assert_ptr_eq(piece.data, block + sizeof(chunk));
    ck_assert(piece.chunk_done);
    free(block);
}
END_TEST

START_TEST(test_every_err_has_a_name)
{
    for (int i = ERR_OK; i <= ERR_SYS; i++) {
        ck_assert_str_ne(err_str((enum err)i), "unknown error");
        for (int j = ERR_OK; j < i; j++)
            ck_assert_str_ne(err_str((enum err)i), err_str((enum err)j));
    }
    ck_assert_str_eq(err_str((enum err)(ERR_SYS + 1)), "unknown error");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("message");
    TCase *t = tcase_create("message");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_good_message);
    tcase_add_loop_test(t, test_message_garbage, 0,
                        sizeof(table) / sizeof(table[0]));
    tcase_add_test(t, test_cut_messages);
    tcase_add_test(t, test_status_names);
    tcase_add_test(t, test_every_err_has_a_name);
    tcase_add_test(t, test_stream_split_at_every_point);
    tcase_add_test(t, test_stream_byte_by_byte);
    tcase_add_loop_test(t, test_stream_refuses, 0,
                        sizeof(bad_chunks) / sizeof(bad_chunks[0]));
    tcase_add_test(t, test_stream_refuses_more_answers_than_commands);
    tcase_add_test(t, test_stream_refuses_another_requests_answer_midway);
    tcase_add_test(t, test_stream_takes_independent_answers_in_any_order);
    tcase_add_test(t, test_stream_of_the_longest_chunk);
    return support_run(s);
}
