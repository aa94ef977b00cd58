/* Where the suites of the pipeline play. */
#include "tests/pipeline_scene.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define MB ((size_t)1 << 20)

struct desk desk;
struct pipeline pipe_line;

void scene_setup(void)
{
    desk_open(&desk, 100, 16 * MB, 64 * MB);
    ck_assert_int_eq(pipeline_init(&pipe_line, &desk.answers), ERR_OK);
}

void scene_teardown(void)
{
    pipeline_release(&pipe_line);
    desk_close(&desk);
}

/* ---- feeding and writing ---- */

enum err feed(const char *data, size_t len)
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

enum err feed_text(const char *text)
{
    return feed(text, strlen(text));
}

void write_all(void)
{
    while (pipeline_has_unsent(&pipe_line)) {
        const char *data;
        size_t len;
        pipeline_unsent(&pipe_line, &data, &len);
        pipeline_sent(&pipe_line, len);
    }
}

/* ---- a stream of entries of every kind ---- */

const struct planned plan[ENTRIES] = {
    {SINGLE, 1},      {BATCH, 3}, {INDEPENDENT, 4}, {OWN, 1},
    {INDEPENDENT, 1}, {BATCH, 1}, {INDEPENDENT, 3}, {SINGLE, 1},
};

struct asker askers[ENTRIES];
struct place places[COMMANDS_MAX];
size_t place_count;
char stream[4096];
size_t stream_len;

static size_t put_echo(char *to, size_t number)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%zu", number);
    struct resp_arg argv[] = {{"ECHO", 4}, {text, (size_t)n}};
    return resp_put_command(to, 2, argv);
}

void reply_of(size_t number, char reply[64])
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%zu", number);
    snprintf(reply, 64, "$%d\r\n%s\r\n", n, text);
}

void append_plan(uint64_t deadline_ns)
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

void release_plan(void)
{
    for (size_t e = 0; e < ENTRIES; e++)
        if (plan[e].kind != OWN)
            asker_release(&desk, &askers[e]);
}

void write_and_answer(size_t sent, size_t step, size_t answered)
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
