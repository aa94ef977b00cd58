/*
 * Asking sentinels, and whom to believe. What comes in on the asker's and the
 * listener's connections only leaves notes; sentinel_tick acts on them, when no
 * event of the round may still name a connection.
 */
#include "manager/sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/log.h"
#include "manager/sentinel_listener.h"
#include "manager/sentinel_peers.h"
#include "manager/sentinel_reply.h"
#include "manager/sentinel_wire.h"
#include "manager/tls.h"

#define REFRESH_MS 10000       /* between questions while all is well */
#define REFRESH_NAME_MS 60000  /* the same where a name is to be looked up */
#define ASK_APART_MS 250       /* hints in a row cost one question */
#define MOVE_APART_MS 100      /* events in a row cost one move */
#define PACE_LAST_MS 1000      /* between questions in doubt, at most */
#define LEFT_NS (3 * NS_PER_S) /* sentinels hear of a switch within 2 s */

enum tag { TAG_MASTER = 1, TAG_OTHERS };

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
    struct sentinel_wire asker;
    struct sentinel_listener listener;
    void (*moved)(void *context, const struct uri_place *to,
                  const struct uri_place *by);
    void *context;
    struct answers *answers;

    struct sentinel_peers peers;

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
    struct uri_place others[SENTINEL_PEERS_MAX];
    uint32_t other_count;
    bool has_others;
    uint32_t turn;    /* who is asked next */
    uint32_t failed;  /* in a row */
    uint32_t attempt; /* what the pace goes by */
    uint64_t ask_until_ns, ask_ns /* next */, asked_ns;
    char round[ERR_TEXT_MAX]; /* why those before did not tell */
    struct err_text error;    /* why none did */
};

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
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
        log_debug("sentinel %s has not heard yet", sentinel_show(by));
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
    bool name = uri_place_is_name(&s->peers.all[0].at);
    return sentinel_jittered_ns(name ? REFRESH_NAME_MS : REFRESH_MS);
}

static void asker_changed(void *context)
{
    struct sentinel *s = context;
    const struct resp_arg master[] = {sentinel_arg("SENTINEL"),
                                      sentinel_arg("GET-MASTER-ADDR-BY-NAME"),
                                      sentinel_arg(s->name)};
    const struct resp_arg others[] = {sentinel_arg("SENTINEL"),
                                      sentinel_arg("SENTINELS"),
                                      sentinel_arg(s->name)};
    if (s->asker.conn.state != CONN_READY)
        return;
    if (sentinel_wire_say(&s->asker, TAG_MASTER, 3, master) != ERR_OK ||
        sentinel_wire_say(&s->asker, TAG_OTHERS, 3, others) != ERR_OK) {
        err_say(&s->asker.refused, ERR_NOMEM, "out of memory");
        s->ask = ASK_FAILED;
    }
}

static enum err asker_reply(void *context, const char *data, size_t len)
{
    struct sentinel *s = context;
    uint32_t tag;
    if (!sentinel_wire_answer(&s->asker, &tag))
        return ERR_PROTO;
    enum err e;
    if (tag == TAG_MASTER) {
        e = sentinel_read_master(data, len, &s->said);
        if (e == ERR_ABSENT) {
            s->ask = ASK_UNKNOWN;
        } else if (e == ERR_DENIED) {
            sentinel_wire_refuse(&s->asker, data + 1, len - 1);
            s->ask = ASK_FAILED;
        } else if (e != ERR_OK) {
            return e;
        }
    } else if (tag == TAG_OTHERS && s->ask == ASK_WAITING) {
        /* Whoever lacks the right to this answer goes by the URI's. */
        e = sentinel_read_others(data, len, s->others, SENTINEL_PEERS_MAX,
                                 &s->other_count);
        s->has_others = e == ERR_OK;
        if (e == ERR_PROTO)
            return e;
        s->ask = ASK_NAMED;
    }
    return ERR_OK;
}

static void begin_ask(struct sentinel *s, uint64_t now)
{
    s->turn %= s->peers.count;
    s->ask = ASK_WAITING;
    s->asked_ns = now;
    /* For everything, not for the connection alone. */
    s->ask_until_ns = now + s->asker.options.connect_timeout_ms * NS_PER_MS;
    sentinel_wire_start(&s->asker, &s->peers.all[s->turn].at);
}

/* The last of all sentinels did not tell either. One line until one does. */
static void end_round(struct sentinel *s, uint64_t now)
{
    bool told = s->error.text[0] != '\0';
    bool same = strcmp(s->error.text, s->round) == 0;
    snprintf(s->error.text, sizeof(s->error.text), "%s", s->round);
    s->failed = 0;
    s->round[0] = '\0';
    s->ask_ns = now + sentinel_pace_ns(&s->attempt, REFRESH_MS);
    if (s->known && !told)
        log_warn("no sentinel tells where '%s' is (%s): going on with %s",
                 s->name, s->error.text, sentinel_show(&s->master));
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
                 sentinel_show(&s->asker.at));
    else if (s->round[0] == '\0')
        snprintf(s->round, sizeof(s->round), "%s: %.400s",
                 sentinel_show(&s->asker.at), why);
    /* Nothing is to be heard from it either. */
    if (unknown && uri_place_same(&s->asker.at, &s->listener.wire.at))
        sentinel_wire_stop(&s->listener.wire);
    s->turn++;
    s->ask_ns = now;
    if (++s->failed >= s->peers.count)
        end_round(s, now);
}

static void answered(struct sentinel *s, uint64_t now)
{
    struct uri_place by = s->asker.at;
    if (s->error.text[0] != '\0' && s->known)
        log_info("sentinel %s tells where '%s' is again", sentinel_show(&by),
                 s->name);
    s->error.text[0] = s->round[0] = '\0';
    s->failed = 0;
    if (s->has_others)
        sentinel_peers_learn(&s->peers, &by, s->others, s->other_count);
    status_gauge_set(s->answers->status, GAUGE_sentinels, s->peers.count);
    weigh(s, &s->said, &by, now);
    if (s->doubt) {
        s->turn++; /* perhaps another one knows better */
        s->ask_ns = now + sentinel_pace_ns(&s->attempt, PACE_LAST_MS);
    } else {
        sentinel_peers_to_front(&s->peers, &by);
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
        sentinel_wire_stop(&s->asker);
        if (ask == ASK_NAMED)
            answered(s, now);
        else
            no_answer(s, now, ask == ASK_UNKNOWN);
    }
    if (s->ask == ASK_NONE && now >= s->ask_ns)
        begin_ask(s, now);
}

/* An event has more weight than an answer that may be older. Returns when it
 * wants to be called again (0: never). */
static uint64_t tick_event(struct sentinel *s, uint64_t now)
{
    uint64_t from = s->moved_ns + MOVE_APART_MS * NS_PER_MS;
    if (s->listener.has_event && now < from)
        return from;
    if (!s->listener.has_event)
        return 0;
    s->listener.has_event = false;
    if (s->known && uri_place_same(&s->listener.event, &s->master))
        return 0;
    if (s->ask != ASK_NONE)
        sentinel_wire_stop(&s->asker);
    s->ask = ASK_NONE;
    set_master(s, &s->listener.event, &s->listener.wire.at, now);
    s->ask_ns = now + sentinel_pace_ns(&s->attempt, PACE_LAST_MS);
    return 0;
}

/* ---- for the manager ---- */

static void hinted(void *context)
{
    sentinel_ask(context);
}

static void set_options(struct sentinel *s, const struct conn_options *options)
{
    /* Sessions hold a reference of their own to what they need of it. */
    tls_context_free(s->tls);
    s->tls = options->tls;
    sentinel_wire_options(&s->asker, options);
    sentinel_wire_options(&s->listener.wire, options);
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
        sentinel_peers_add(&s->peers, &uri->sentinels[i], true);
    status_gauge_set(answers->status, GAUGE_sentinels, s->peers.count);
    s->listener.name = s->name;
    s->listener.peers = &s->peers;
    s->listener.hint = hinted;
    s->listener.context = s;
    enum err e = sentinel_wire_init(&s->asker, loop, answers, asker_changed,
                                    asker_reply, s);
    enum err f = sentinel_listener_init(&s->listener, loop, answers);
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
    sentinel_wire_release(&s->asker);
    sentinel_listener_release(&s->listener);
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
    conn_tick(&s->listener.wire.conn, now);
    uint64_t next = tick_event(s, now);
    tick_ask(s, now);
    sentinel_listener_tick(&s->listener, s->known, now);
    /* What the steps have just begun has timers, too. */
    next = sooner(next, conn_tick(&s->asker.conn, now));
    next = sooner(next, conn_tick(&s->listener.wire.conn, now));
    if (s->listener.wire.conn.state == CONN_OFF && s->known)
        next = sooner(next, s->listener.next_ns);
    if (s->ask == ASK_NONE)
        return sooner(next, s->ask_ns);
    /* It failed at once. */
    return s->asker.conn.state == CONN_OFF ? now
                                           : sooner(next, s->ask_until_ns);
}
