/* Subscribed to a sentinel's events. */
#include "manager/sentinel_listener.h"

#include <string.h>

#include "ipc/clock.h"
#include "manager/sentinel_reply.h"

#define TAG_SUBSCRIBE 1
#define LISTENED_MS 5000   /* for so long: the next is tried at once */
#define PACE_LAST_MS 10000 /* between attempts at most */

static const char *const channels[] = {
    "+switch-master", /* what this is about; of the rest, that it happened */
    "+sentinel",
    "+monitor",
    "+reset-master",
};
#define CHANNELS (sizeof(channels) / sizeof(channels[0]))

static void changed(void *context)
{
    struct sentinel_listener *l = context;
    l->confirmed = 0;
    if (l->wire.conn.state != CONN_READY) {
        l->hint(l->context); /* what may happen now is not heard */
        return;
    }
    /* One that does not get through is missed by the silence that follows. */
    for (size_t i = 0; i < CHANNELS; i++) {
        const struct resp_arg argv[] = {sentinel_arg("SUBSCRIBE"),
                                        sentinel_arg(channels[i])};
        if (sentinel_wire_say(&l->wire, TAG_SUBSCRIBE, 2, argv) != ERR_OK)
            log_debug("out of memory: not listening to %s", channels[i]);
    }
}

static void take_event(struct sentinel_listener *l,
                       const struct sentinel_said *said)
{
    struct uri_place to;
    bool is_switch = said->channel_len == strlen(channels[0]) &&
                     memcmp(said->channel, channels[0], said->channel_len) == 0;
    if (is_switch && sentinel_read_switch(said->text, said->text_len, l->name,
                                          &to) == ERR_OK) {
        l->event = to;
        l->has_event = true;
    } else if (sentinel_mentions(said->text, said->text_len, l->name)) {
        l->hint(l->context);
    }
}

static enum err take_reply(void *context, const char *data, size_t len)
{
    struct sentinel_listener *l = context;
    struct sentinel_said said;
    uint32_t tag;
    enum err e = sentinel_read_word(data, len, &said);
    if (e != ERR_OK)
        return e;
    if (said.word == SENTINEL_WORD_EVENT) {
        take_event(l, &said);
        return ERR_OK;
    }
    if (!sentinel_wire_answer(&l->wire, &tag))
        return ERR_PROTO;
    if (said.word == SENTINEL_WORD_ERROR) {
        sentinel_wire_refuse(&l->wire, said.text, said.text_len);
        return ERR_DENIED;
    }
    if (said.word == SENTINEL_WORD_SUBSCRIBED && ++l->confirmed == CHANNELS) {
        if (log_limit_pass(&l->limit, 3))
            log_info("listening to sentinel %s for '%s', %u sentinels are "
                     "known",
                     sentinel_show(&l->wire.at), l->name, l->peers->count);
        l->since_ns = clock_ns();
        l->hint(l->context); /* what was missed? */
    }
    return ERR_OK;
}

enum err sentinel_listener_init(struct sentinel_listener *l, struct loop *loop,
                                struct answers *answers)
{
    return sentinel_wire_init(&l->wire, loop, answers, changed, take_reply, l);
}

void sentinel_listener_release(struct sentinel_listener *l)
{
    sentinel_wire_release(&l->wire);
}

void sentinel_listener_tick(struct sentinel_listener *l, bool wanted,
                            uint64_t now)
{
    struct sentinel_wire *w = &l->wire;
    const struct sentinel_peers *p = l->peers;
    if (!wanted || w->conn.state != CONN_OFF)
        return;
    if (l->since_ns != 0) {
        if (now >= l->since_ns + LISTENED_MS * NS_PER_MS)
            l->attempt = l->turn = 0;
        l->since_ns = 0;
    }
    if (now < l->next_ns)
        return;
    if (w->conn.error.text[0] != '\0' && log_limit_pass(&l->limit, 3))
        log_info("not listening to sentinel %s: %s", sentinel_show(&w->at),
                 w->refused.text[0] ? w->refused.text : w->conn.error.text);
    l->next_ns = now + sentinel_pace_ns(&l->attempt, PACE_LAST_MS);
    /* The one that failed last has its turn when all others had theirs. */
    if (uri_place_same(&p->all[l->turn % p->count].at, &w->at))
        l->turn++;
    sentinel_wire_start(w, &p->all[l->turn++ % p->count].at);
}
