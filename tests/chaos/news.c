/*
 * A subscriber that publishes what it hears: so it knows what must come, in
 * which order, and how many are missing where the stream says that some are.
 *
 * It publishes some, waits until each has its fate, and only then listens: so
 * of every message that comes, everything before it is known.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/chaos/hand.h"
#include "tests/support.h"

#define BURST 60
#define LENGTH_MIN 80
#define LENGTH_MAX 900
/* At the end, with no more faults. */
#define LAST_MS 10000

struct ear {
    struct mqredis_stream *stream;
    int64_t last; /* the newest step heard; -1: none since the stream began */
    int64_t from; /* steps before it may be missing: the stream is younger */
    bool gap;     /* since then: anything may be missing */
    uint64_t lagged; /* since then: so many are */
    int64_t
        twice; /* steps before it may be heard twice, see may_be_heard_twice */
    bool ended;
};

static bool scarce(const struct hand *w)
{
    return clock_ns() < w->task->orders->scarce_until_ns;
}

/* ---- publishing ---- */

static void publish(struct hand *w, int count)
{
    struct mqredis_request *requests[BURST];
    uint32_t first = w->h->count;
    char data[LENGTH_MAX];
    struct watch_hand watch = hand_watch(w);
    for (int i = 0; i < count; i++) {
        uint32_t n = hand_begin(w, ACT_NEWS);
        size_t len = (size_t)dice_between(&w->dice, LENGTH_MIN, LENGTH_MAX);
        history_fill(w->h, n, data, len);
        requests[i] = mqredis_submit(w->mq, "%s news:w%u %b",
                                     w->shard ? "SPUBLISH" : "PUBLISH",
                                     w->h->id, (const void *)data, len);
    }
    uint64_t deadline = hand_deadline(w, hand_watch(w));
    for (int i = 0; i < count; i++) {
        uint32_t n = first + (uint32_t)i;
        struct mqredis_reply *r = mqredis_wait(requests[i]);
        hand_stop_watch(w, watch, deadline, n);
        (void)hand_settle(w, n, r, MQREDIS_INTEGER);
        mqredis_free(r);
    }
}

/* ---- hearing ---- */

/* What lies between the newest message and this one was not heard: is that what
 * the stream said? */
static void judge_hole(struct hand *w, const struct ear *ear, uint32_t n)
{
    uint64_t missing = 0, doubtful = 0;
    uint32_t first = 0;
    int64_t from = ear->last >= ear->from ? ear->last + 1 : ear->from;
    for (int64_t i = from; i < n; i++) {
        const struct step *s = &w->h->steps[i];
        if (s->act != ACT_NEWS || s->popped > 0)
            continue;
        if (s->fate == FATE_DONE && missing++ == 0)
            first = (uint32_t)i;
        doubtful += s->fate == FATE_MAYBE || s->fate == FATE_OPEN;
    }
    if (ear->gap)
        return;
    if (ear->lagged == 0 && missing > 0)
        history_accuse(w->h,
                       "step %u was published and acknowledged, yet not heard "
                       "before step %u; %llu are missing",
                       first, n, (unsigned long long)missing);
    else if (ear->lagged < missing || ear->lagged > missing + doubtful)
        history_accuse(w->h,
                       "the stream said that %llu messages are missing before "
                       "step %u; it is %llu, and %llu in doubt",
                       (unsigned long long)ear->lagged, n,
                       (unsigned long long)missing,
                       (unsigned long long)doubtful);
}

/* Between nodes Redis hands ordinary messages on, to each in its own time: who
 * has heard one at a node that then went may hear it at the next one, too. */
static bool may_be_heard_twice(const struct hand *w, const struct ear *ear,
                               uint32_t n)
{
    return w->task->cluster && !w->shard && n < ear->twice;
}

static void hear(struct hand *w, struct ear *ear,
                 const struct mqredis_event *event)
{
    uint32_t n;
    int whole = history_is_filled(w->h, event->data, event->len, &n);
    if (whole < 0) {
        ear->gap = true; /* no memory to read it with */
        return;
    }
    if (whole == 0 || n >= w->h->count || w->h->steps[n].act != ACT_NEWS) {
        history_accuse(w->h, "a crossed message: \"%.*s\"",
                       (int)(event->len < 40 ? event->len : 40), event->data);
        return;
    }
    struct step *s = &w->h->steps[n];
    w->h->heard++;
    w->h->checked++;
    if (s->popped++ > 0 && !may_be_heard_twice(w, ear, n))
        history_accuse(w->h, "step %u was heard twice, by %s channel", n,
                       w->shard ? "a shard" : "an ordinary");
    if (s->fate == FATE_NOT)
        history_accuse(w->h, "step %u was heard, but reported as not executed",
                       n);
    /* One that is in doubt may come late. And from node to node Redis hands
     * messages on without asking whether they come, or in which order. */
    if (s->fate != FATE_DONE || (w->task->cluster && !w->shard))
        return;
    if (n < ear->last)
        history_accuse(w->h, "step %u was heard after step %lld", n,
                       (long long)ear->last);
    judge_hole(w, ear, n);
    ear->last = n;
    ear->gap = false;
    ear->lagged = 0;
}

/* Takes one event, if one comes in that time. */
static bool listen_once(struct hand *w, struct ear *ear, int timeout_ms)
{
    struct mqredis_event event;
    if (!mqredis_stream_next(ear->stream, timeout_ms, &event))
        return false;
    switch (event.type) {
    case MQREDIS_MESSAGE:
        hear(w, ear, &event);
        break;
    case MQREDIS_SUBSCRIBED:
        break;
    case MQREDIS_LAGGED:
        ear->lagged += event.count;
        w->h->lagged++;
        break;
    case MQREDIS_GAP:
        ear->gap = true;
        ear->twice = w->h->count;
        w->h->gaps++;
        break;
    case MQREDIS_END:
        ear->gap = true;
        ear->twice = w->h->count;
        ear->ended = true;
        break;
    }
    return true;
}

/* ---- a subscriber's life ---- */

static bool may_be_refused(const struct hand *w,
                           const struct mqredis_error *why)
{
    return why->status == MQREDIS_UNAVAILABLE ||
           why->status == MQREDIS_EXPIRED || why->status == MQREDIS_LOST ||
           scarce(w);
}

static void subscribe(struct hand *w, struct ear *ear)
{
    char name[32];
    struct mqredis_error why = {MQREDIS_OK, ""};
    const char *const names[] = {name};
    snprintf(name, sizeof(name), "news:w%u", w->h->id);
    *ear = (struct ear){.last = -1};
    ear->stream = w->shard ? mqredis_ssubscribe(w->mq, 1, names, NULL, &why)
                           : mqredis_subscribe(w->mq, 1, names, NULL, &why);
    ear->from = w->h->count;
    ear->twice = w->h->count;
    if (ear->stream == NULL && !may_be_refused(w, &why) &&
        strstr(why.text, "LOADING") == NULL &&
        strstr(why.text, "CLUSTERDOWN") == NULL)
        history_accuse(w->h, "cannot subscribe: %s: %s",
                       mqredis_status_str(why.status), why.text);
}

/* After the end of a stream: on with it, or with another one. */
static void go_on(struct hand *w, struct ear *ear)
{
    struct mqredis_error why;
    if (dice_chance(&w->dice, 50) &&
        mqredis_stream_renew(ear->stream, 500, &why) == MQREDIS_OK) {
        w->h->renewed++;
        ear->ended = false;
        return;
    }
    mqredis_stream_close(ear->stream);
    ear->stream = NULL;
}

/* The faults are over: what is published now is heard. */
static void hear_the_last(struct hand *w, struct ear *ear)
{
    w->timeout_ms = LAST_MS;
    mqredis_set_timeout(w->mq, w->timeout_ms);
    publish(w, 1);
    uint32_t n = w->h->count - 1;
    uint64_t until = clock_deadline(LAST_MS);
    while (w->h->steps[n].fate == FATE_DONE && w->h->steps[n].popped == 0 &&
           !ear->ended && clock_ns() < until)
        (void)listen_once(w, ear, 100);
    if (w->h->steps[n].fate == FATE_DONE && w->h->steps[n].popped == 0 &&
        !ear->ended && !ear->gap && ear->lagged == 0)
        history_accuse(w->h, "step %u was published and not heard in %d ms", n,
                       LAST_MS);
}

void news_live(struct hand *w)
{
    struct ear ear = {0};
    w->shard = w->task->cluster && dice_chance(&w->dice, 70);
    w->timeout_ms = 1500;
    mqredis_set_timeout(w->mq, w->timeout_ms);
    while (!w->task->orders->leave && w->h->count < HISTORY_STEPS - ACT_STEPS) {
        if (ear.stream == NULL) {
            subscribe(w, &ear);
            support_sleep_ms(dice_between(&w->dice, 1, 40));
            continue;
        }
        /* Several bursts unheard are more than its pipe takes. */
        int bursts = dice_chance(&w->dice, 20) ? 4 : 1;
        while (bursts-- > 0 && w->h->count < HISTORY_STEPS - ACT_STEPS)
            publish(w, dice_between(&w->dice, 1, bursts > 0 ? BURST : 10));
        int wait = dice_between(&w->dice, 5, w->task->gentle ? 100 : 30);
        while (!ear.ended && listen_once(w, &ear, wait))
            ;
        if (ear.ended)
            go_on(w, &ear);
    }
    if (ear.stream != NULL && w->task->orders->leave)
        hear_the_last(w, &ear);
    mqredis_stream_close(ear.stream);
}
