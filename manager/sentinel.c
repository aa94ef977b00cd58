/*
 * Asking sentinels, and listening to one. What comes in on the two connections
 * only leaves notes here; sentinel_tick acts on them, when no event of the
 * round may still name a connection.
 */
#include "manager/sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/random.h"
#include "ipc/resp.h"
#include "manager/log.h"
#include "manager/sentinel_reply.h"
#include "manager/tls.h"

/* All that are given, and as many that these tell of. */
#define PEERS_MAX (2 * URI_PLACES_MAX)
#define FRAME_MAX (256 * 1024) /* bytes of one reply */

#define REFRESH_MS 10000       /* between questions while all is well */
#define REFRESH_NAME_MS 60000  /* the same where a name is to be looked up */
#define ASK_APART_MS 250       /* hints in a row cost one question */
#define MOVE_APART_MS 100      /* events in a row cost one move */
#define LISTENED_MS 5000       /* for so long: the next is tried at once */
#define PACE_FIRST_MS 50       /* between questions in doubt, doubling */
#define PACE_LAST_MS 1000      /* up to this */
#define LEFT_NS (3 * NS_PER_S) /* sentinels hear of a switch within 2 s */

enum tag { TAG_MASTER = 1, TAG_OTHERS, TAG_SUBSCRIBE };

static const char *const channels[] = {
    "+switch-master", /* what this is about; of the rest, that it happened */
    "+sentinel",
    "+monitor",
    "+reset-master",
};
#define CHANNELS (sizeof(channels) / sizeof(channels[0]))

struct peer {
    struct uri_place at;
    bool given; /* in the URI: never forgotten */
};

/* A connection to one sentinel after the other. */
struct wire {
    struct conn conn;
    struct conn_options options;
    struct uri_place at;
    struct resp_scan scan;
    struct buffer frame;     /* of the current reply, what came so far */
    struct err_text refused; /* by the sentinel, what we asked for */
};

enum ask {
    ASK_NONE,
    ASK_WAITING, /* for the answers */
    ASK_NAMED,   /* `said` is the master */
    ASK_UNKNOWN, /* it knows no such master */
    ASK_FAILED   /* it can't be reached, or does not make sense */
};

struct sentinel {
    char name[sizeof(((struct uri *)0)->master)];
    struct tls_context *tls;
    struct wire asker, listener;
    void (*moved)(void *context, const struct uri_place *to,
                  const struct uri_place *by);
    void *context;
    struct answers *answers;

    struct peer peers[PEERS_MAX];
    uint32_t count;

    struct uri_place master;
    bool known;
    bool doubt;
    uint64_t moved_ns;
    struct uri_place left; /* the master before, not believed until then */
    uint64_t left_until_ns;
    struct uri_place other; /* named by one answer, while the master serves */
    bool has_other;

    enum ask ask;
    struct uri_place said;
    struct uri_place others[PEERS_MAX];
    uint32_t other_count;
    bool has_others;
    uint32_t turn;    /* who is asked next */
    uint32_t failed;  /* in a row */
    uint32_t attempt; /* what the pace goes by */
    uint64_t ask_until_ns, ask_ns /* next */, asked_ns;
    char round[ERR_TEXT_MAX]; /* why those before did not tell */
    struct err_text error;    /* why none did */

    struct uri_place event; /* where the master went */
    bool has_event;
    uint32_t confirmed; /* subscriptions; all: it listens */
    uint32_t listen_turn, listen_attempt;
    uint64_t listen_ns;   /* next attempt */
    uint64_t listened_ns; /* since when; 0: it does not */
    struct log_limit listen_limit;
};

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* From half of it to all of it: many hosts must not ask in step. */
static uint64_t jittered_ns(uint64_t ms)
{
    uint64_t r, ns = ms * NS_PER_MS;
    return random_id(&r) == ERR_OK ? ns / 2 + r % (ns / 2 + 1) : ns;
}

static uint64_t pace_ns(uint32_t *attempt, uint64_t last_ms)
{
    uint64_t ms = PACE_FIRST_MS;
    for (uint32_t i = 0; i < *attempt && ms < last_ms; i++)
        ms *= 2;
    (*attempt)++;
    return jittered_ns(ms < last_ms ? ms : last_ms);
}

static const char *show(const struct uri_place *place)
{
    static char texts[2][URI_PLACE_TEXT];
    static unsigned next;
    char *text = texts[next++ % 2];
    uri_place_show(place, text);
    return text;
}

/* ---- wires ---- */

static enum err
wire_init(struct wire *w, struct loop *loop, struct answers *answers,
          struct sentinel *s, void (*changed)(void *context, struct conn *c),
          enum err (*take)(void *context, const char *data, size_t len))
{
    enum err e = conn_init(&w->conn, loop, &w->options, answers, changed, s);
    w->conn.take = take;
    return e;
}

static void wire_start(struct wire *w, const struct uri_place *to)
{
    w->at = *to;
    memcpy(w->options.uri.host, to->host, sizeof(to->host));
    w->options.uri.port = to->port;
    w->refused.text[0] = '\0';
    w->conn.error.text[0] = '\0';
    w->conn.login_legacy = false;
    resp_scan_reset(&w->scan);
    buffer_clear(&w->frame);
    conn_start(&w->conn, false);
}

static void wire_stop(struct wire *w)
{
    conn_stop(&w->conn, "it is not needed");
}

static enum err wire_say(struct wire *w, enum tag tag, size_t argc,
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

static struct resp_arg arg(const char *text)
{
    return (struct resp_arg){.data = text, .len = strlen(text)};
}

/* Cuts what came into whole replies. */
static enum err
wire_take(struct sentinel *s, struct wire *w, const char *data, size_t len,
          enum err (*reply)(struct sentinel *s, const char *data, size_t len))
{
    while (len > 0) {
        size_t used = 0;
        enum err whole = resp_scan(&w->scan, data, len, &used);
        if (whole != ERR_OK && whole != ERR_AGAIN)
            return whole;
        if (buffer_len(&w->frame) + used > FRAME_MAX)
            return ERR_LIMIT;
        enum err e = buffer_append(&w->frame, data, used);
        if (e == ERR_OK && whole == ERR_OK) {
            e = reply(s, buffer_head(&w->frame), buffer_len(&w->frame));
            buffer_clear(&w->frame);
        }
        if (e != ERR_OK)
            return e;
        data += used;
        len -= used;
    }
    return ERR_OK;
}

/* ---- the list ---- */

static int find_peer(const struct sentinel *s, const struct uri_place *at)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (uri_place_same(&s->peers[i].at, at))
            return (int)i;
    return -1;
}

static void to_front(struct sentinel *s, const struct uri_place *at)
{
    int i = find_peer(s, at);
    if (i <= 0)
        return;
    struct peer first = s->peers[i];
    memmove(&s->peers[1], &s->peers[0], (size_t)i * sizeof(first));
    s->peers[0] = first;
}

static void add_peer(struct sentinel *s, const struct uri_place *at, bool given)
{
    if (s->count < PEERS_MAX && find_peer(s, at) < 0)
        s->peers[s->count++] = (struct peer){*at, given};
}

/* The one that was asked told of all the others: those of whom it no longer
 * speaks are forgotten. */
static void learn(struct sentinel *s, const struct uri_place *by)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        bool named = s->peers[i].given || uri_place_same(&s->peers[i].at, by);
        for (uint32_t k = 0; k < s->other_count && !named; k++)
            named = uri_place_same(&s->peers[i].at, &s->others[k]);
        if (named)
            s->peers[kept++] = s->peers[i];
    }
    s->count = kept;
    for (uint32_t k = 0; k < s->other_count; k++)
        add_peer(s, &s->others[k], false);
    status_gauge_set(s->answers->status, GAUGE_sentinels, s->count);
}

/* ---- the master ---- */

static void set_master(struct sentinel *s, const struct uri_place *to,
                       const struct uri_place *by, uint64_t now)
{
    if (s->known) {
        s->left = s->master;
        s->left_until_ns = now + LEFT_NS;
    }
    if (!s->doubt)
        s->attempt = 0;
    s->master = *to;
    s->known = true;
    s->doubt = true; /* until it is connected */
    s->has_other = false;
    s->moved_ns = now;
    s->moved(s->context, to, by);
}

/* Somebody's answer. */
static void weigh(struct sentinel *s, const struct uri_place *to,
                  const struct uri_place *by, uint64_t now)
{
    if (s->known && uri_place_same(to, &s->master)) {
        s->has_other = false;
    } else if (now < s->left_until_ns && uri_place_same(to, &s->left)) {
        log_debug("sentinel %s has not heard yet", show(by));
    } else if (!s->known || s->doubt ||
               (s->has_other && uri_place_same(to, &s->other))) {
        set_master(s, to, by, now);
    } else {
        s->other = *to;
        s->has_other = true;
    }
}

/* ---- asking ---- */

/* Whoever is asked by name is asked less often: each look-up takes a child. */
static uint64_t refresh_ns(const struct sentinel *s)
{
    bool name = uri_place_is_name(&s->peers[0].at);
    return jittered_ns(name ? REFRESH_NAME_MS : REFRESH_MS);
}

static void asker_changed(void *context, struct conn *c)
{
    struct sentinel *s = context;
    const struct resp_arg master[] = {
        arg("SENTINEL"), arg("GET-MASTER-ADDR-BY-NAME"), arg(s->name)};
    const struct resp_arg others[] = {arg("SENTINEL"), arg("SENTINELS"),
                                      arg(s->name)};
    if (c->state != CONN_READY)
        return;
    if (wire_say(&s->asker, TAG_MASTER, 3, master) != ERR_OK ||
        wire_say(&s->asker, TAG_OTHERS, 3, others) != ERR_OK) {
        err_say(&s->asker.refused, ERR_NOMEM, "out of memory");
        s->ask = ASK_FAILED;
    }
}

/* An error that a sentinel says, as far as it may be shown on one line. */
static void note_refusal(struct wire *w, const char *data, size_t len)
{
    size_t n = 0;
    while (n < len && n < 200 && data[n] != '\r')
        n++;
    err_say(&w->refused, ERR_DENIED, "it says: %.*s", (int)n, data);
}

static enum err asker_reply(struct sentinel *s, const char *data, size_t len)
{
    uint32_t tag;
    if (!pipeline_take_own(&s->asker.conn.pipeline, &tag))
        return ERR_PROTO;
    enum err e;
    if (tag == TAG_MASTER) {
        e = sentinel_read_master(data, len, &s->said);
        if (e == ERR_ABSENT) {
            s->ask = ASK_UNKNOWN;
        } else if (e == ERR_DENIED) {
            note_refusal(&s->asker, data + 1, len - 1);
            s->ask = ASK_FAILED;
        } else if (e != ERR_OK) {
            return e;
        }
    } else if (tag == TAG_OTHERS && s->ask == ASK_WAITING) {
        /* Whoever lacks the right to this answer goes by the URI's. */
        e = sentinel_read_others(data, len, s->others, PEERS_MAX,
                                 &s->other_count);
        s->has_others = e == ERR_OK;
        if (e == ERR_PROTO)
            return e;
        s->ask = ASK_NAMED;
    }
    return ERR_OK;
}

static enum err asker_take(void *context, const char *data, size_t len)
{
    struct sentinel *s = context;
    return wire_take(s, &s->asker, data, len, asker_reply);
}

static void begin_ask(struct sentinel *s, uint64_t now)
{
    s->turn %= s->count;
    s->ask = ASK_WAITING;
    s->asked_ns = now;
    /* For everything, not for the connection alone. */
    s->ask_until_ns = now + s->asker.options.connect_timeout_ms * NS_PER_MS;
    wire_start(&s->asker, &s->peers[s->turn].at);
}

/* The last of all sentinels did not tell either. One line until one does. */
static void end_round(struct sentinel *s, uint64_t now)
{
    bool told = s->error.text[0] != '\0';
    bool same = strcmp(s->error.text, s->round) == 0;
    snprintf(s->error.text, sizeof(s->error.text), "%s", s->round);
    s->failed = 0;
    s->round[0] = '\0';
    s->ask_ns = now + pace_ns(&s->attempt, REFRESH_MS);
    if (s->known && !told)
        log_warn("no sentinel tells where '%s' is (%s): going on with %s",
                 s->name, s->error.text, show(&s->master));
    else if (!s->known && !same)
        log_warn("no sentinel tells where '%s' is (%s); trying again", s->name,
                 s->error.text);
}

static void no_answer(struct sentinel *s, uint64_t now, bool unknown)
{
    const char *why = s->asker.refused.text[0]      ? s->asker.refused.text
                      : s->asker.conn.error.text[0] ? s->asker.conn.error.text
                                                    : "no answer in time";
    if (unknown)
        /* The most telling one of a round. */
        snprintf(s->round, sizeof(s->round),
                 "%s knows no master of that name: see 'sentinel monitor' in "
                 "its configuration",
                 show(&s->asker.at));
    else if (s->round[0] == '\0')
        snprintf(s->round, sizeof(s->round), "%s: %.400s", show(&s->asker.at),
                 why);
    /* Nothing is to be heard from it either. */
    if (unknown && uri_place_same(&s->asker.at, &s->listener.at))
        wire_stop(&s->listener);
    s->turn++;
    s->ask_ns = now;
    if (++s->failed >= s->count)
        end_round(s, now);
}

static void answered(struct sentinel *s, uint64_t now)
{
    struct uri_place by = s->asker.at;
    if (s->error.text[0] != '\0' && s->known)
        log_info("sentinel %s tells where '%s' is again", show(&by), s->name);
    s->error.text[0] = s->round[0] = '\0';
    s->failed = 0;
    if (s->has_others)
        learn(s, &by);
    weigh(s, &s->said, &by, now);
    if (s->doubt) {
        s->turn++; /* perhaps another one knows better */
        s->ask_ns = now + pace_ns(&s->attempt, PACE_LAST_MS);
    } else {
        to_front(s, &by);
        s->turn = s->has_other ? 1 : 0;
        s->ask_ns = s->has_other ? now : now + refresh_ns(s);
    }
}

static void tick_ask(struct sentinel *s, uint64_t now)
{
    if (s->ask == ASK_WAITING &&
        (s->asker.conn.state == CONN_OFF || now >= s->ask_until_ns))
        s->ask = ASK_FAILED;
    enum ask ask = s->ask;
    if (ask != ASK_NONE && ask != ASK_WAITING) {
        s->ask = ASK_NONE;
        wire_stop(&s->asker);
        if (ask == ASK_NAMED)
            answered(s, now);
        else
            no_answer(s, now, ask == ASK_UNKNOWN);
    }
    if (s->ask == ASK_NONE && now >= s->ask_ns)
        begin_ask(s, now);
}

/* ---- listening ---- */

static void listener_changed(void *context, struct conn *c)
{
    struct sentinel *s = context;
    s->confirmed = 0;
    if (c->state != CONN_READY) {
        sentinel_ask(s); /* what may happen now is not heard */
        return;
    }
    /* One that does not get through is missed by the silence that follows. */
    for (size_t i = 0; i < CHANNELS; i++) {
        const struct resp_arg argv[] = {arg("SUBSCRIBE"), arg(channels[i])};
        if (wire_say(&s->listener, TAG_SUBSCRIBE, 2, argv) != ERR_OK)
            log_debug("out of memory: not listening to %s", channels[i]);
    }
}

static void take_event(struct sentinel *s, const struct sentinel_said *said)
{
    struct uri_place to;
    bool is_switch = said->channel_len == strlen(channels[0]) &&
                     memcmp(said->channel, channels[0], said->channel_len) == 0;
    if (is_switch && sentinel_read_switch(said->text, said->text_len, s->name,
                                          &to) == ERR_OK) {
        s->event = to;
        s->has_event = true;
    } else if (sentinel_mentions(said->text, said->text_len, s->name)) {
        sentinel_ask(s);
    }
}

static enum err listener_reply(struct sentinel *s, const char *data, size_t len)
{
    struct sentinel_said said;
    uint32_t tag;
    enum err e = sentinel_read_word(data, len, &said);
    if (e != ERR_OK)
        return e;
    if (said.word == SENTINEL_WORD_EVENT) {
        take_event(s, &said);
        return ERR_OK;
    }
    if (!pipeline_take_own(&s->listener.conn.pipeline, &tag))
        return ERR_PROTO;
    if (said.word == SENTINEL_WORD_ERROR) {
        note_refusal(&s->listener, said.text, said.text_len);
        return ERR_DENIED;
    }
    if (said.word == SENTINEL_WORD_SUBSCRIBED && ++s->confirmed == CHANNELS) {
        if (log_limit_pass(&s->listen_limit, 3))
            log_info("listening to sentinel %s for '%s', %u sentinels are "
                     "known",
                     show(&s->listener.at), s->name, s->count);
        s->listened_ns = clock_ns();
        sentinel_ask(s); /* what was missed? */
    }
    return ERR_OK;
}

static enum err listener_take(void *context, const char *data, size_t len)
{
    struct sentinel *s = context;
    return wire_take(s, &s->listener, data, len, listener_reply);
}

/* Keeps the listener up, once it is known who knows the name. */
static void tick_listener(struct sentinel *s, uint64_t now)
{
    struct wire *w = &s->listener;
    if (!s->known || w->conn.state != CONN_OFF)
        return;
    if (s->listened_ns != 0) {
        if (now >= s->listened_ns + LISTENED_MS * NS_PER_MS)
            s->listen_attempt = s->listen_turn = 0;
        s->listened_ns = 0;
    }
    if (now < s->listen_ns)
        return;
    if (w->conn.error.text[0] != '\0' && log_limit_pass(&s->listen_limit, 3))
        log_info("not listening to sentinel %s: %s", show(&w->at),
                 w->refused.text[0] ? w->refused.text : w->conn.error.text);
    s->listen_ns = now + pace_ns(&s->listen_attempt, REFRESH_MS);
    /* The one that failed last has its turn when all others had theirs. */
    if (uri_place_same(&s->peers[s->listen_turn % s->count].at, &w->at))
        s->listen_turn++;
    wire_start(w, &s->peers[s->listen_turn++ % s->count].at);
}

/* An event has more weight than an answer that may be older. Returns when it
 * wants to be called again (0: never). */
static uint64_t tick_event(struct sentinel *s, uint64_t now)
{
    uint64_t from = s->moved_ns + MOVE_APART_MS * NS_PER_MS;
    if (s->has_event && now < from)
        return from;
    if (!s->has_event)
        return 0;
    s->has_event = false;
    if (s->known && uri_place_same(&s->event, &s->master))
        return 0;
    if (s->ask != ASK_NONE)
        wire_stop(&s->asker);
    s->ask = ASK_NONE;
    set_master(s, &s->event, &s->listener.at, now);
    s->ask_ns = now + pace_ns(&s->attempt, PACE_LAST_MS);
    return 0;
}

/* ---- for the manager ---- */

static void set_options(struct sentinel *s, const struct conn_options *options)
{
    /* Sessions hold a reference of their own to what they need of it. */
    tls_context_free(s->tls);
    s->tls = options->tls;
    s->asker.options = s->listener.options = *options;
    struct wire *wires[] = {&s->asker, &s->listener};
    for (size_t i = 0; i < 2; i++) {
        memcpy(wires[i]->options.uri.host, wires[i]->at.host,
               sizeof(wires[i]->at.host));
        wires[i]->options.uri.port = wires[i]->at.port;
    }
}

enum err sentinel_new(struct sentinel **sentinel, struct loop *loop,
                      struct answers *answers, const struct uri *uri,
                      const struct conn_options *options,
                      void (*moved)(void *context, const struct uri_place *to,
                                    const struct uri_place *by),
                      void *context)
{
    struct sentinel *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        tls_context_free(options->tls);
        return ERR_NOMEM;
    }
    memcpy(s->name, uri->master, sizeof(s->name));
    s->moved = moved;
    s->context = context;
    s->answers = answers;
    s->doubt = true;
    set_options(s, options);
    for (uint32_t i = 0; i < uri->sentinel_count; i++)
        add_peer(s, &uri->sentinels[i], true);
    status_gauge_set(answers->status, GAUGE_sentinels, s->count);
    enum err e =
        wire_init(&s->asker, loop, answers, s, asker_changed, asker_take);
    enum err f = wire_init(&s->listener, loop, answers, s, listener_changed,
                           listener_take);
    if (e != ERR_OK || f != ERR_OK) {
        sentinel_free(s);
        return ERR_NOMEM;
    }
    *sentinel = s;
    return ERR_OK;
}

void sentinel_free(struct sentinel *s)
{
    if (s == NULL)
        return;
    struct wire *wires[] = {&s->asker, &s->listener};
    for (size_t i = 0; i < 2; i++) {
        conn_release(&wires[i]->conn);
        buffer_release(&wires[i]->frame);
    }
    tls_context_free(s->tls);
    free(s);
}

void sentinel_reload(struct sentinel *s, const struct conn_options *options)
{
    set_options(s, options);
}

void sentinel_doubt(struct sentinel *s)
{
    if (s == NULL || s->doubt)
        return;
    s->doubt = true;
    s->attempt = 0;
    s->ask_ns = UINT64_MAX;
    sentinel_ask(s);
}

void sentinel_trust(struct sentinel *s)
{
    if (s == NULL || !s->doubt)
        return;
    s->doubt = s->has_other = false;
    s->attempt = 0;
    s->turn = 0;
    s->ask_ns = clock_ns() + refresh_ns(s);
}

void sentinel_ask(struct sentinel *s)
{
    if (s == NULL)
        return;
    uint64_t soon = s->asked_ns + ASK_APART_MS * NS_PER_MS + 1;
    if (soon < s->ask_ns)
        s->ask_ns = soon;
}

const char *sentinel_error(const struct sentinel *s)
{
    return s == NULL ? "" : s->error.text;
}

uint64_t sentinel_tick(struct sentinel *s, uint64_t now)
{
    if (s == NULL)
        return 0;
    conn_tick(&s->asker.conn, now);
    conn_tick(&s->listener.conn, now);
    uint64_t next = tick_event(s, now);
    tick_ask(s, now);
    tick_listener(s, now);
    /* What the steps have just begun has timers, too. */
    next = sooner(next, conn_tick(&s->asker.conn, now));
    next = sooner(next, conn_tick(&s->listener.conn, now));
    if (s->listener.conn.state == CONN_OFF && s->known)
        next = sooner(next, s->listen_ns);
    if (s->ask == ASK_NONE)
        return sooner(next, s->ask_ns);
    /* It failed at once. */
    return s->asker.conn.state == CONN_OFF ? now
                                           : sooner(next, s->ask_until_ns);
}
