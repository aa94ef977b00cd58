/* Several requests that belong together, and many at once. */
#include "tests/chaos/hand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/support.h"

#define WINDOW 60
#define FLURRY 384

/* ---- several that belong together ---- */

void act_batch(struct hand *w)
{
    enum { FEW = 12, MAX = 75 };
    char text[32];
    uint32_t n[MAX];
    /* Many do not fit into one message. */
    int count =
        dice_between(&w->dice, 2, dice_chance(&w->dice, 80) ? FEW : MAX);
    struct mqredis_batch *b = mqredis_batch_new(w->mq);
    for (int i = 0; i < count; i++) {
        bool log = i % 3 != 2;
        n[i] = hand_begin(w, log ? ACT_PUSH : ACT_ECHO);
        if (log)
            mqredis_batch_add(b, "RPUSH log:{w%u} %s", w->h->id,
                              hand_value(w, n[i], text));
        else
            mqredis_batch_add(b, "ECHO %s", hand_value(w, n[i], text));
    }
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = mqredis_batch_run(b);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n[0]);
    bool each = r->type == MQREDIS_BATCH;
    if (each && r->elements != (size_t)count)
        history_accuse(w->h, "step %u: a batch of %d had %zu replies", n[0],
                       count, r->elements);
    for (int i = 0; i < count && (!each || (size_t)i < r->elements); i++) {
        struct mqredis_reply *one = each ? r->element[i] : r;
        if (i % 3 != 2) {
            if (hand_settle(w, n[i], one, MQREDIS_INTEGER))
                hand_check_growth(w, n[i], &w->log_length, one->integer,
                                  w->h->count);
        } else if (hand_settle(w, n[i], one, MQREDIS_STRING)) {
            hand_check_text(w, one, hand_value(w, n[i], text));
        }
    }
    mqredis_free(r);
}

void act_transaction(struct hand *w)
{
    char text[32];
    uint32_t n = hand_begin(w, ACT_BOTH);
    struct mqredis_batch *b = mqredis_batch_new(w->mq);
    hand_value(w, n, text);
    mqredis_batch_add(b, "RPUSH log:{w%u} %s", w->h->id, text);
    mqredis_batch_add(b, "ECHO %s", text);
    mqredis_batch_add(b, "RPUSH both:{w%u} %s", w->h->id, text);
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = mqredis_transaction_run(b);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n);
    if (hand_settle(w, n, r, MQREDIS_ARRAY)) {
        if (r->elements != 3 || r->element[0]->type != MQREDIS_INTEGER ||
            r->element[1]->type != MQREDIS_STRING) {
            history_accuse(w->h, "step %u: a crossed reply to EXEC", n);
        } else {
            hand_check_growth(w, n, &w->log_length, r->element[0]->integer,
                              w->h->count);
            hand_check_text(w, r->element[1], text);
        }
    }
    mqredis_free(r);
}

/* ---- a window of requests with steps ---- */

struct pending {
    struct mqredis_request *request;
    uint32_t number;
    uint64_t deadline_ns;
};

static void end_pending(struct hand *w, struct pending *p)
{
    char text[32];
    if (dice_chance(&w->dice, 15)) {
        mqredis_cancel(p->request);
        hand_fate(w, p->number, FATE_MAYBE);
        w->h->cancelled++;
        return;
    }
    struct watch_hand watch = hand_watch(w);
    w->h->due_ns = p->deadline_ns;
    struct mqredis_reply *r = mqredis_wait(p->request);
    hand_stop_watch(w, watch, p->deadline_ns, p->number);
    if (w->h->steps[p->number].act == ACT_PUSH) {
        if (hand_settle(w, p->number, r, MQREDIS_INTEGER))
            hand_check_growth(w, p->number, &w->log_length, r->integer,
                              w->h->count);
    } else if (hand_settle(w, p->number, r, MQREDIS_STRING)) {
        hand_check_text(w, r, hand_value(w, p->number, text));
    }
    mqredis_free(r);
}

void act_window(struct hand *w)
{
    struct pending p[WINDOW];
    char text[32];
    int count = dice_between(&w->dice, 2, WINDOW), ended = 0;
    /* Each in a message of its own fills the queue, few messages do not. */
    unsigned flushes = dice_chance(&w->dice, 30) ? 100 : 10;
    /* Some take their time: what comes later finds what came before held up. */
    int pace_ms = dice_chance(&w->dice, 35) ? dice_between(&w->dice, 1, 8) : 0;
    for (int i = 0; i < count; i++) {
        if (pace_ms > 0) {
            mqredis_flush(w->mq);
            support_sleep_ms(dice_between(&w->dice, 0, pace_ms));
        }
        bool log = dice_chance(&w->dice, 60);
        uint32_t n = p[i].number = hand_begin(w, log ? ACT_PUSH : ACT_ECHO);
        struct watch_hand watch = hand_watch(w);
        p[i].deadline_ns = hand_deadline(w, watch);
        if (log)
            p[i].request = mqredis_submit(w->mq, "RPUSH log:{w%u} %s", w->h->id,
                                          hand_value(w, n, text));
        else
            p[i].request =
                mqredis_submit(w->mq, "ECHO %s", hand_value(w, n, text));
        if (dice_chance(&w->dice, flushes))
            mqredis_flush(w->mq);
        hand_stop_watch(w, watch, p[i].deadline_ns, n);
        if (pace_ms == 0 && dice_chance(&w->dice, 20))
            end_pending(w, &p[ended++]);
    }
    while (ended < count)
        end_pending(w, &p[ended++]);
}

/* ---- hundreds without steps ---- */

/* A value that was never used and never will be. */
static const char *serial_value(const struct hand *w, uint64_t serial,
                                char text[48])
{
    snprintf(text, 48, "s%u.%llu", w->h->id, (unsigned long long)serial);
    return text;
}

struct flight_of_one {
    struct mqredis_request *request;
    uint64_t serial;
    bool pair; /* SET and GET in a batch; else ECHO */
};

static void submit_one(struct hand *w, struct flight_of_one *f)
{
    char text[48];
    f->serial = ++w->serial;
    serial_value(w, f->serial, text);
    if (!f->pair) {
        f->request = mqredis_submit(w->mq, "ECHO %s", text);
    } else {
        unsigned key = (unsigned)(f->serial % 16);
        struct mqredis_batch *b = mqredis_batch_new(w->mq);
        mqredis_batch_add(b, "SET pair:w%u:%u %s", w->h->id, key, text);
        mqredis_batch_add(b, "GET pair:w%u:%u", w->h->id, key);
        f->request = mqredis_batch_submit(b);
    }
    mqredis_set_data(f->request, f);
}

static void judge_one(struct hand *w, const struct flight_of_one *f,
                      const struct mqredis_reply *r)
{
    char text[48];
    serial_value(w, f->serial, text);
    if (!f->pair) {
        if (hand_settle_plain(w, "ECHO", r, MQREDIS_STRING))
            hand_check_text(w, r, text);
        return;
    }
    bool each = r->type == MQREDIS_BATCH && r->elements == 2;
    hand_settle_plain(w, "SET of a pair", each ? r->element[0] : r,
                      MQREDIS_STATUS);
    if (hand_settle_plain(w, "GET of a pair", each ? r->element[1] : r,
                          MQREDIS_STRING))
        hand_check_text(w, r->element[1], text);
}

static void end_one(struct hand *w, struct flight_of_one *f)
{
    struct mqredis_reply *r = mqredis_wait(f->request);
    judge_one(w, f, r);
    mqredis_free(r);
    f->request = NULL;
}

static void end_in_order(struct hand *w, struct flight_of_one *all, int count)
{
    for (int i = 0; i < count; i++) {
        if (!dice_chance(&w->dice, 1)) {
            end_one(w, &all[i]);
            continue;
        }
        mqredis_cancel(all[i].request);
        w->h->cancelled++;
        w->h->plain += all[i].pair ? 2 : 1;
    }
}

static void end_as_they_come(struct hand *w, struct flight_of_one *all,
                             int count)
{
    int pending = 0;
    for (int i = 0; i < count; i++) {
        if (all[i].request == NULL)
            end_one(w, &all[i]); /* no memory: it has failed */
        else
            pending++;
    }
    while (pending > 0) {
        struct mqredis_request *request =
            mqredis_wait_any(w->mq, w->timeout_ms + 10000);
        if (request == NULL) {
            history_accuse(w->h,
                           "%d of %d requests do not end 10 s after their "
                           "deadline",
                           pending, count);
            return;
        }
        pending--;
        end_one(w, mqredis_data(request));
    }
}

void act_flurry(struct hand *w)
{
    struct flight_of_one all[FLURRY];
    int count = dice_between(&w->dice, FLURRY / 4, FLURRY);
    if (w->task->gentle)
        count /= 8;
    unsigned pairs = dice_chance(&w->dice, 50) ? 0 : 40;
    struct watch_hand watch = hand_watch(w);
    for (int i = 0; i < count; i++) {
        all[i].pair = dice_chance(&w->dice, pairs);
        submit_one(w, &all[i]);
    }
    uint64_t deadline = hand_deadline(w, hand_watch(w));
    if (dice_chance(&w->dice, 30))
        end_as_they_come(w, all, count);
    else
        end_in_order(w, all, count);
    hand_stop_watch(w, watch, deadline, w->h->count > 0 ? w->h->count - 1 : 0);
}
