/* Connections to sentinels: commands out, whole replies in. */
#include "manager/sentinel_wire.h"

#include <string.h>

#include "ipc/clock.h"
#include "ipc/random.h"

#define FRAME_MAX (256 * 1024) /* bytes of one reply */
#define PACE_FIRST_MS 50       /* between attempts, doubling */

static void conn_changed(void *context, struct conn *c)
{
    struct sentinel_wire *w = context;
    (void)c;
    w->changed(w->context);
}

/* Cuts what came into whole replies. */
static enum err take(void *context, const char *data, size_t len)
{
    struct sentinel_wire *w = context;
    while (len > 0) {
        size_t used = 0;
        enum err whole = resp_scan(&w->scan, data, len, &used);
        if (whole != ERR_OK && whole != ERR_AGAIN)
            return whole;
        if (buffer_len(&w->frame) + used > FRAME_MAX)
            return ERR_LIMIT;
        enum err e = buffer_append(&w->frame, data, used);
        if (e == ERR_OK && whole == ERR_OK) {
            e = w->reply(w->context, buffer_head(&w->frame),
                         buffer_len(&w->frame));
            buffer_clear(&w->frame);
        }
        if (e != ERR_OK)
            return e;
        data += used;
        len -= used;
    }
    return ERR_OK;
}

enum err sentinel_wire_init(struct sentinel_wire *w, struct loop *loop,
                            struct answers *answers,
                            void (*changed)(void *context),
                            enum err (*reply)(void *context, const char *data,
                                              size_t len),
                            void *context)
{
    w->changed = changed;
    w->reply = reply;
    w->context = context;
    enum err e =
        conn_init(&w->conn, loop, &w->options, answers, conn_changed, w);
    w->conn.take = take;
    return e;
}

void sentinel_wire_release(struct sentinel_wire *w)
{
    conn_release(&w->conn);
    buffer_release(&w->frame);
}

static void aim(struct sentinel_wire *w)
{
    memcpy(w->options.uri.host, w->at.host, sizeof(w->at.host));
    w->options.uri.port = w->at.port;
}

void sentinel_wire_options(struct sentinel_wire *w,
                           const struct conn_options *options)
{
    w->options = *options;
    aim(w);
}

void sentinel_wire_start(struct sentinel_wire *w, const struct uri_place *to)
{
    w->at = *to;
    aim(w);
    w->refused.text[0] = '\0';
    w->conn.error.text[0] = '\0';
    w->conn.login_legacy = false;
    resp_scan_reset(&w->scan);
    buffer_clear(&w->frame);
    conn_start(&w->conn, false);
}

void sentinel_wire_stop(struct sentinel_wire *w)
{
    conn_stop(&w->conn, "it is not needed");
}

enum err sentinel_wire_say(struct sentinel_wire *w, uint32_t tag, size_t argc,
                           const struct resp_arg *argv)
{
    char text[256];
    size_t len = resp_command_size(argc, argv);
    if (len > sizeof(text))
        return ERR_LIMIT;
    resp_put_command(text, argc, argv);
    struct run run = {
        .first = tag, .count = 1, .data = text, .len = len, .first_len = len};
    return conn_append(&w->conn, &run);
}

bool sentinel_wire_answer(struct sentinel_wire *w, uint32_t *tag)
{
    return pipeline_take_own(&w->conn.pipeline, tag);
}

void sentinel_wire_refuse(struct sentinel_wire *w, const char *data, size_t len)
{
    size_t n = 0;
    while (n < len && n < 200 && data[n] != '\r')
        n++;
    err_say(&w->refused, ERR_DENIED, "it says: %.*s", (int)n, data);
}

struct resp_arg sentinel_arg(const char *text)
{
    return (struct resp_arg){.data = text, .len = strlen(text)};
}

/* ---- pace ---- */

uint64_t sentinel_jittered_ns(uint64_t ms)
{
    uint64_t r, ns = ms * NS_PER_MS;
    return random_id(&r) == ERR_OK ? ns / 2 + r % (ns / 2 + 1) : ns;
}

uint64_t sentinel_pace_ns(uint32_t *attempt, uint64_t last_ms)
{
    uint64_t ms = PACE_FIRST_MS;
    for (uint32_t i = 0; i < *attempt && ms < last_ms; i++)
        ms *= 2;
    (*attempt)++;
    return sentinel_jittered_ns(ms < last_ms ? ms : last_ms);
}

const char *sentinel_show(const struct uri_place *place)
{
    static char texts[2][URI_PLACE_TEXT];
    static unsigned next;
    char *text = texts[next++ % 2];
    uri_place_show(place, text);
    return text;
}
