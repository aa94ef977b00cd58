/* A life, and the acts that are one request each: the step is written down,
 * Redis asked, and judged what it told. */
#include "tests/chaos/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/hand.h"
#include "tests/support.h"
#include "workers/mqredis.h"

/* ---- one by one ---- */

/* One command, with an eye on how long it takes. */
static struct mqredis_reply *ask(struct hand *w, uint32_t n, const char *format,
                                 ...) __attribute__((format(printf, 3, 4)));

static struct mqredis_reply *ask(struct hand *w, uint32_t n, const char *format,
                                 ...)
{
    va_list ap;
    struct watch_hand watch = hand_watch(w);
    va_start(ap, format);
    struct mqredis_reply *r = mqredis_vcommand(w->mq, format, ap);
    va_end(ap);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n);
    return r;
}

static void echo(struct hand *w)
{
    char text[32];
    uint32_t n = hand_begin(w, ACT_ECHO);
    struct mqredis_reply *r = ask(w, n, "ECHO %s", hand_value(w, n, text));
    if (hand_settle(w, n, r, MQREDIS_STRING))
        hand_check_text(w, r, text);
    mqredis_free(r);
}

/* The reply is what the thing has grown to, by `step` a command at most. */
static void settle_growth(struct hand *w, uint32_t n, struct mqredis_reply *r,
                          int64_t *known, int64_t step)
{
    if (hand_settle(w, n, r, MQREDIS_INTEGER))
        hand_check_growth(w, n, known, r->integer, w->h->count * step);
    mqredis_free(r);
}

static void push(struct hand *w)
{
    char text[32];
    uint32_t n = hand_begin(w, ACT_PUSH);
    struct mqredis_reply *r =
        ask(w, n, "RPUSH log:{w%u} %s", w->h->id, hand_value(w, n, text));
    settle_growth(w, n, r, &w->log_length, 1);
}

static void append(struct hand *w)
{
    uint32_t n = hand_begin(w, ACT_APPEND);
    struct mqredis_reply *r = ask(w, n, "APPEND text:w%u %u;", w->h->id, n);
    settle_growth(w, n, r, &w->text_length, 6);
}

static void count_up(struct hand *w)
{
    uint32_t n = hand_begin(w, ACT_COUNT);
    struct mqredis_reply *r = ask(w, n, "INCR count:w%u", w->h->id);
    settle_growth(w, n, r, &w->counter, 1);
}

static void set(struct hand *w)
{
    char text[32];
    uint32_t n = hand_begin(w, ACT_SET);
    struct mqredis_reply *r =
        ask(w, n, "SET value:w%u %s", w->h->id, hand_value(w, n, text));
    if (hand_settle(w, n, r, MQREDIS_STATUS))
        w->last_set = n;
    mqredis_free(r);
}

/* From what fits into a message to what takes many turns of every buffer. */
static size_t big_length(struct hand *w)
{
    size_t len = (size_t)dice_between(&w->dice, 500, 4000);
    if (dice_chance(&w->dice, 30))
        len *= dice_chance(&w->dice, 80) ? 60 : 250;
    return len;
}

static void set_big(struct hand *w)
{
    char key[32];
    size_t len = big_length(w);
    char *data = malloc(len);
    if (data == NULL)
        return;
    uint32_t n = hand_begin(w, ACT_BIG);
    history_fill(w->h, n, data, len);
    snprintf(key, sizeof(key), "big:w%u", w->h->id);
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = mqredis_set(w->mq, key, data, len);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n);
    if (hand_settle(w, n, r, MQREDIS_STATUS))
        w->last_big = n;
    mqredis_free(r);
    free(data);
}

static void judge_value(struct hand *w, uint32_t n, const char *key, bool big,
                        const struct mqredis_reply *r)
{
    uint32_t last = big ? w->last_big : w->last_set, found = NOBODY;
    if (r->type == MQREDIS_NIL) {
        if (last != NOBODY)
            history_accuse(w->h, "step %u: %s is gone, step %u had set it", n,
                           key, last);
        return;
    }
    int whole = big ? history_is_filled(w->h, r->str, r->len, &found)
                    : history_parse(w->h, r->str, r->len, &found);
    if (whole < 0)
        return; /* no memory to compare it with */
    if (whole == 0)
        history_accuse(w->h, "step %u: GET %s: a crossed reply: \"%.40s\"", n,
                       key, r->str);
    else if (!history_may_stand(w->h, found, big ? ACT_BIG : ACT_SET, last))
        history_accuse(w->h,
                       "step %u: GET %s: the value of step %u (%s), but the "
                       "last one acknowledged is step %d",
                       n, key, found, fate_names[w->h->steps[found].fate],
                       (int)last);
    else
        w->h->checked++;
}

static void get(struct hand *w, bool big)
{
    char key[32];
    uint32_t n = hand_begin(w, big ? ACT_BIG_GET : ACT_GET);
    snprintf(key, sizeof(key), "%s:w%u", big ? "big" : "value", w->h->id);
    struct watch_hand watch = hand_watch(w);
    struct mqredis_reply *r = mqredis_get(w->mq, key);
    hand_stop_watch(w, watch, hand_deadline(w, watch), n);
    if (hand_settle(w, n, r,
                    r->type == MQREDIS_NIL ? MQREDIS_NIL : MQREDIS_STRING))
        judge_value(w, n, key, big, r);
    mqredis_free(r);
}

/* ---- a queue of its own, and taking from it ---- */

static void enqueue(struct hand *w)
{
    char text[32];
    uint32_t n = hand_begin(w, ACT_QUEUE);
    struct mqredis_reply *r =
        ask(w, n, "RPUSH queue:w%u %s", w->h->id, hand_value(w, n, text));
    if (hand_settle(w, n, r, MQREDIS_INTEGER))
        w->queued++;
    mqredis_free(r);
}

static void judge_popped(struct hand *w, uint32_t n,
                         const struct mqredis_reply *value)
{
    uint32_t found = 0;
    if (value->type != MQREDIS_STRING ||
        !history_parse(w->h, value->str, value->len, &found) ||
        found >= w->h->count || w->h->steps[found].act != ACT_QUEUE) {
        history_accuse(w->h, "step %u: BLPOP: a crossed reply: \"%.40s\"", n,
                       value->str != NULL ? value->str : "");
        return;
    }
    struct step *step = &w->h->steps[found];
    w->h->checked++;
    if (step->popped++ > 0)
        history_accuse(w->h, "step %u: BLPOP brought step %u a second time", n,
                       found);
    if (step->fate == FATE_NOT)
        history_accuse(w->h,
                       "step %u: BLPOP brought step %u, which was reported as "
                       "not executed",
                       n, found);
    if (step->fate == FATE_DONE)
        w->queued--;
}

static void pop(struct hand *w)
{
    uint32_t n = hand_begin(w, ACT_POP);
    struct mqredis_reply *r = ask(w, n, "BLPOP queue:w%u 0.1", w->h->id);
    if (hand_settle(w, n, r,
                    r->type == MQREDIS_NIL ? MQREDIS_NIL : MQREDIS_ARRAY)) {
        if (r->type == MQREDIS_ARRAY && r->elements == 2)
            judge_popped(w, n, r->element[1]);
        else if (w->queued > w->doubtful_pops)
            history_accuse(w->h,
                           "step %u: BLPOP found nothing, but %ld were pushed "
                           "and only %ld pops are in doubt",
                           n, w->queued, w->doubtful_pops);
    } else if (w->h->steps[n].fate == FATE_MAYBE) {
        w->doubtful_pops++;
    }
    mqredis_free(r);
}

/* ---- a life ---- */

static void draw_timeout(struct hand *w)
{
    w->timeout_ms = dice_chance(&w->dice, 70)   ? 1500
                    : dice_chance(&w->dice, 70) ? 200
                                                : dice_between(&w->dice, 1, 30);
    mqredis_set_timeout(w->mq, w->timeout_ms);
}

static void act(struct hand *w)
{
    /* Of each kind so many in 100. */
    static const struct {
        unsigned below;
        void (*act)(struct hand *w);
    } simple[] = {
        {4, echo},         {7, act_mixed},        {14, act_spread},
        {24, push},        {30, append},          {36, count_up},
        {42, set},         {46, enqueue},         {50, pop},
        {57, act_batch},   {63, act_transaction}, {73, act_window},
        {79, act_flurry},  {82, act_threads},     {84, act_fork},
        {86, act_program}, {90, set_big},
    };
    unsigned roll = dice_below(&w->dice, 100);
    draw_timeout(w);
    for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++)
        if (roll < simple[i].below) {
            simple[i].act(w);
            return;
        }
    get(w, roll >= 95);
}

/* Who is told at once that there is no service is not to fill its history with
 * that, nor the processors. */
static void rest(struct hand *w, bool refused)
{
    if (w->task->gentle)
        support_sleep_ms(dice_between(&w->dice, 2, 25));
    else if (refused ||
             (w->task->role == ROLE_ALL && dice_chance(&w->dice, 20)))
        support_sleep_ms(dice_between(&w->dice, 0, 10));
}

static void live(struct hand *w)
{
    while (!w->task->orders->leave && w->h->count < HISTORY_STEPS - ACT_STEPS) {
        uint64_t refused = w->h->status[MQREDIS_UNAVAILABLE];
        if (w->task->role == ROLE_QUICK && dice_chance(&w->dice, 98)) {
            w->timeout_ms = dice_chance(&w->dice, 90) ? 3000 : 200;
            mqredis_set_timeout(w->mq, w->timeout_ms);
            act_flurry(w);
        } else {
            act(w);
        }
        rest(w, w->h->status[MQREDIS_UNAVAILABLE] > refused);
    }
}

static bool scarce(const struct worker_task *task)
{
    return clock_ns() < task->orders->scarce_until_ns;
}

void worker_live(const struct worker_task *task)
{
    struct mqredis_error why;
    struct hand w = {.task = task,
                     .h = task->history,
                     .dice = {task->seed},
                     .last_set = NOBODY,
                     .last_big = NOBODY,
                     .last_spread = NOBODY};
    int fds = support_count_fds();
    w.h->began_ns = clock_ns();
    w.sched_fd = hand_open_sched();
    if (!hand_watch_forks())
        return;
    w.mq = mqredis_open(task->channel, &why);
    if (w.mq == NULL) {
        if (!scarce(task))
            history_accuse(w.h, "cannot open the channel: %s", why.text);
        return;
    }
    if (task->role == ROLE_SUBSCRIBER)
        news_live(&w);
    else
        live(&w);
    mqredis_close(w.mq);
    if (w.sched_fd >= 0)
        close(w.sched_fd);
    int left = support_count_fds();
    if (left != fds && !scarce(task))
        history_accuse(w.h,
                       "%d descriptors are open at its end, %d at its start",
                       left, fds);
    w.h->ended_well = true;
}
