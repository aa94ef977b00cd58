/* Each act writes its step down, asks, and judges what it is told. */
#include "tests/chaos/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/dice.h"
#include "tests/support.h"
#include "workers/mqredis.h"

#define WINDOW 60
#define NOBODY UINT32_MAX

struct hand {
    const struct worker_task *task;
    struct history *h;
    struct dice dice;
    struct mqredis *mq;
    int timeout_ms;
    /* The newest that Redis acknowledged. */
    int64_t log_length, text_length, counter;
    uint32_t last_set, last_big;
    /* Elements of the queue that are certainly there, pops without an end. */
    long queued, doubtful_pops;
};

/* A wait, for the question whether it was too long. */
struct watch_hand {
    uint64_t from_ns;
    unsigned stops;
};

static struct watch_hand start_watch(const struct hand *w)
{
    return (struct watch_hand){clock_ns(), w->h->stops};
}

/* A wait that began at `watch` for something with this deadline is over. One in
 * which the process was stopped says nothing. */
static void stop_watch(struct hand *w, struct watch_hand watch,
                       uint64_t deadline_ns, uint32_t number)
{
    uint64_t now = clock_ns();
    uint64_t due = deadline_ns > watch.from_ns ? deadline_ns : watch.from_ns;
    if (now <= due || w->h->stops != watch.stops)
        return;
    if (now - due > w->h->late_ns) {
        w->h->late_ns = now - due;
        w->h->late_step = number;
    }
}

static uint64_t deadline_from(const struct hand *w, struct watch_hand watch)
{
    return watch.from_ns + (unsigned long long)w->timeout_ms * NS_PER_MS;
}

static uint32_t begin(struct hand *w, enum act act)
{
    uint32_t number = w->h->count;
    w->h->steps[number] = (struct step){.act = (uint8_t)act};
    atomic_signal_fence(memory_order_seq_cst);
    w->h->count = number + 1;
    return number;
}

static void set_fate(struct hand *w, uint32_t number, enum fate fate)
{
    w->h->steps[number].fate = (uint8_t)fate;
}

static void settle_failure(struct hand *w, uint32_t number,
                           const struct mqredis_reply *r)
{
    const char *what = act_names[w->h->steps[number].act];
    set_fate(w, number, FATE_NOT);
    switch (r->status) {
    case MQREDIS_LOST:
        set_fate(w, number, FATE_MAYBE);
        return;
    case MQREDIS_EXPIRED:
    case MQREDIS_UNAVAILABLE:
        return;
    case MQREDIS_OK:
    case MQREDIS_INVALID:
    case MQREDIS_TOO_BIG:
    case MQREDIS_NOMEM:
    case MQREDIS_SYSTEM:
        break;
    }
    history_accuse(w->h, "step %u, %s: status %s: %s", number, what,
                   mqredis_status_str(r->status), r->str);
}

/* Gives the step its fate. True: Redis answered with a reply of this type. */
static bool settle(struct hand *w, uint32_t number,
                   const struct mqredis_reply *r, enum mqredis_type type)
{
    w->h->status[r->status]++;
    if (r->type == MQREDIS_FAILURE) {
        settle_failure(w, number, r);
        return false;
    }
    if (r->type == MQREDIS_ERROR) {
        set_fate(w, number, FATE_NOT);
        w->h->errors++;
        if (strncmp(r->str, "LOADING", 7) != 0 &&
            strncmp(r->str, "EXECABORT", 9) != 0)
            history_accuse(w->h, "step %u, %s: an error of Redis: %s", number,
                           act_names[w->h->steps[number].act], r->str);
        return false;
    }
    set_fate(w, number, FATE_DONE);
    if (r->type != type)
        history_accuse(w->h,
                       "step %u, %s: a crossed reply: its type is %d, not %d",
                       number, act_names[w->h->steps[number].act], (int)r->type,
                       (int)type);
    return r->type == type;
}

/* A length or counter that only this worker moves: each reply is greater than
 * the one before, and not greater than what was ever asked for. */
static void check_growth(struct hand *w, uint32_t number, int64_t *newest,
                         int64_t now, int64_t at_most)
{
    if (now <= *newest || now > at_most)
        history_accuse(w->h,
                       "step %u, %s: a crossed or repeated reply: %lld after "
                       "%lld, and at most %lld is possible",
                       number, act_names[w->h->steps[number].act],
                       (long long)now, (long long)*newest, (long long)at_most);
    *newest = now;
}

static void check_text(struct hand *w, uint32_t number,
                       const struct mqredis_reply *r, const char *wanted)
{
    if (r->len != strlen(wanted) || memcmp(r->str, wanted, r->len) != 0)
        history_accuse(w->h, "step %u: a crossed reply: \"%.40s\", not \"%s\"",
                       number, r->str, wanted);
}

static const char *value_of(const struct hand *w, uint32_t number,
                            char text[32])
{
    snprintf(text, 32, "w%u:%u", w->h->id, number);
    return text;
}

/* ---- one by one ---- */

static void echo(struct hand *w)
{
    char text[32];
    uint32_t n = begin(w, ACT_ECHO);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r =
        mqredis_command(w->mq, "ECHO %s", value_of(w, n, text));
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_STRING))
        check_text(w, n, r, text);
    mqredis_free(r);
}

static void push(struct hand *w)
{
    char text[32];
    uint32_t n = begin(w, ACT_PUSH);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_command(w->mq, "RPUSH log:w%u %s",
                                              w->h->id, value_of(w, n, text));
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_INTEGER))
        check_growth(w, n, &w->log_length, r->integer, w->h->count);
    mqredis_free(r);
}

static void append(struct hand *w)
{
    uint32_t n = begin(w, ACT_APPEND);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r =
        mqredis_command(w->mq, "APPEND text:w%u %u;", w->h->id, n);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_INTEGER))
        check_growth(w, n, &w->text_length, r->integer,
                     (int64_t)w->h->count * 6);
    mqredis_free(r);
}

static void count_up(struct hand *w)
{
    uint32_t n = begin(w, ACT_COUNT);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r =
        mqredis_command(w->mq, "INCR count:w%u", w->h->id);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_INTEGER))
        check_growth(w, n, &w->counter, r->integer, w->h->count);
    mqredis_free(r);
}

static void set(struct hand *w)
{
    char text[32];
    uint32_t n = begin(w, ACT_SET);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_command(w->mq, "SET value:w%u %s",
                                              w->h->id, value_of(w, n, text));
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_STATUS))
        w->last_set = n;
    mqredis_free(r);
}

static void set_big(struct hand *w)
{
    char key[32];
    size_t len = (size_t)dice_between(&w->dice, 500, 4000);
    if (dice_chance(&w->dice, 30))
        len *= 60;
    char *data = malloc(len);
    if (data == NULL)
        return;
    uint32_t n = begin(w, ACT_BIG);
    history_fill(w->h, n, data, len);
    snprintf(key, sizeof(key), "big:w%u", w->h->id);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_set(w->mq, key, data, len);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_STATUS))
        w->last_big = n;
    mqredis_free(r);
    free(data);
}

static void get(struct hand *w, bool big)
{
    char key[32];
    uint32_t n = begin(w, big ? ACT_BIG_GET : ACT_GET), found = NOBODY;
    enum act act = big ? ACT_BIG : ACT_SET;
    uint32_t last = big ? w->last_big : w->last_set;
    snprintf(key, sizeof(key), "%s:w%u", big ? "big" : "value", w->h->id);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_get(w->mq, key);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (!settle(w, n, r, r->type == MQREDIS_NIL ? MQREDIS_NIL : MQREDIS_STRING))
        goto out;
    if (r->type == MQREDIS_NIL) {
        if (last != NOBODY)
            history_accuse(w->h, "step %u: %s is gone, step %u had set it", n,
                           key, last);
        goto out;
    }
    bool own = big ? history_is_filled(w->h, r->str, r->len, &found)
                   : history_parse(w->h, r->str, r->len, &found);
    if (!own)
        history_accuse(w->h, "step %u: GET %s: a crossed reply: \"%.40s\"", n,
                       key, r->str);
    else if (!history_may_stand(w->h, found, act, last))
        history_accuse(w->h,
                       "step %u: GET %s: the value of step %u (%s), but the "
                       "last one acknowledged is step %d",
                       n, key, found, fate_names[w->h->steps[found].fate],
                       (int)last);
out:
    mqredis_free(r);
}

/* ---- a queue of its own, and taking from it ---- */

static void enqueue(struct hand *w)
{
    char text[32];
    uint32_t n = begin(w, ACT_QUEUE);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_command(w->mq, "RPUSH queue:w%u %s",
                                              w->h->id, value_of(w, n, text));
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_INTEGER))
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
    uint32_t n = begin(w, ACT_POP);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r =
        mqredis_command(w->mq, "BLPOP queue:w%u 0.1", w->h->id);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, r->type == MQREDIS_NIL ? MQREDIS_NIL : MQREDIS_ARRAY)) {
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

/* ---- several that belong together ---- */

static void batch(struct hand *w)
{
    enum { MAX = 12 };
    char text[32];
    uint32_t n[MAX];
    int count = dice_between(&w->dice, 2, MAX);
    struct mqredis_batch *b = mqredis_batch_new(w->mq);
    for (int i = 0; i < count; i++) {
        bool log = i % 3 != 2;
        n[i] = begin(w, log ? ACT_PUSH : ACT_ECHO);
        if (log)
            mqredis_batch_add(b, "RPUSH log:w%u %s", w->h->id,
                              value_of(w, n[i], text));
        else
            mqredis_batch_add(b, "ECHO %s", value_of(w, n[i], text));
    }
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_batch_run(b);
    stop_watch(w, watch, deadline_from(w, watch), n[0]);
    bool each = r->type == MQREDIS_BATCH;
    if (each && r->elements != (size_t)count)
        history_accuse(w->h, "step %u: a batch of %d had %zu replies", n[0],
                       count, r->elements);
    for (int i = 0; i < count && (!each || (size_t)i < r->elements); i++) {
        struct mqredis_reply *one = each ? r->element[i] : r;
        if (i % 3 != 2) {
            if (settle(w, n[i], one, MQREDIS_INTEGER))
                check_growth(w, n[i], &w->log_length, one->integer,
                             w->h->count);
        } else if (settle(w, n[i], one, MQREDIS_STRING)) {
            check_text(w, n[i], one, value_of(w, n[i], text));
        }
    }
    mqredis_free(r);
}

static void transaction(struct hand *w)
{
    char text[32];
    uint32_t n = begin(w, ACT_BOTH);
    struct mqredis_batch *b = mqredis_batch_new(w->mq);
    value_of(w, n, text);
    mqredis_batch_add(b, "RPUSH log:w%u %s", w->h->id, text);
    mqredis_batch_add(b, "ECHO %s", text);
    mqredis_batch_add(b, "RPUSH both:w%u %s", w->h->id, text);
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_transaction_run(b);
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (settle(w, n, r, MQREDIS_ARRAY)) {
        if (r->elements != 3 || r->element[0]->type != MQREDIS_INTEGER ||
            r->element[1]->type != MQREDIS_STRING) {
            history_accuse(w->h, "step %u: a crossed reply to EXEC", n);
        } else {
            check_growth(w, n, &w->log_length, r->element[0]->integer,
                         w->h->count);
            check_text(w, n, r->element[1], text);
        }
    }
    mqredis_free(r);
}

/* ---- many at once ---- */

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
        set_fate(w, p->number, FATE_MAYBE);
        w->h->cancelled++;
        return;
    }
    struct watch_hand watch = start_watch(w);
    struct mqredis_reply *r = mqredis_wait(p->request);
    stop_watch(w, watch, p->deadline_ns, p->number);
    if (w->h->steps[p->number].act == ACT_PUSH) {
        if (settle(w, p->number, r, MQREDIS_INTEGER))
            check_growth(w, p->number, &w->log_length, r->integer, w->h->count);
    } else if (settle(w, p->number, r, MQREDIS_STRING)) {
        check_text(w, p->number, r, value_of(w, p->number, text));
    }
    mqredis_free(r);
}

static void window(struct hand *w)
{
    struct pending p[WINDOW];
    char text[32];
    int count = dice_between(&w->dice, 2, WINDOW), ended = 0;
    for (int i = 0; i < count; i++) {
        bool log = dice_chance(&w->dice, 60);
        uint32_t n = p[i].number = begin(w, log ? ACT_PUSH : ACT_ECHO);
        struct watch_hand watch = start_watch(w);
        p[i].deadline_ns = deadline_from(w, watch);
        if (log)
            p[i].request = mqredis_submit(w->mq, "RPUSH log:w%u %s", w->h->id,
                                          value_of(w, n, text));
        else
            p[i].request =
                mqredis_submit(w->mq, "ECHO %s", value_of(w, n, text));
        if (dice_chance(&w->dice, 10))
            mqredis_flush(w->mq);
        stop_watch(w, watch, p[i].deadline_ns, n);
        if (dice_chance(&w->dice, 20))
            end_pending(w, &p[ended++]);
    }
    while (ended < count)
        end_pending(w, &p[ended++]);
}

/* ---- the program for the shell ---- */

static pid_t start_program(const struct hand *w, const char *value, int out)
{
    char program[512], timeout[16], key[32];
    const char *build = getenv("MQREDIS_BUILD");
    snprintf(program, sizeof(program), "%s/mqredis-worker",
             build != NULL ? build : "build");
    snprintf(timeout, sizeof(timeout), "%d", w->timeout_ms);
    snprintf(key, sizeof(key), "log:w%u", w->h->id);
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    execl(program, "mqredis-worker", "-c", w->task->channel, "--timeout",
          timeout, "RPUSH", key, value, (char *)NULL);
    _exit(127);
}

static void judge_program(struct hand *w, uint32_t n, int status,
                          const char *said)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    set_fate(w, n, FATE_NOT);
    if (code == 0) {
        w->h->status[MQREDIS_OK]++;
        set_fate(w, n, FATE_DONE);
        check_growth(w, n, &w->log_length, strtoll(said, NULL, 10),
                     w->h->count);
    } else if (code == 76) {
        w->h->status[MQREDIS_LOST]++;
        set_fate(w, n, FATE_MAYBE);
    } else if (code == 69) {
        w->h->status[MQREDIS_UNAVAILABLE]++;
    } else if (code == 75) {
        w->h->status[MQREDIS_EXPIRED]++;
    } else if (code == 1 && strstr(said, "LOADING") != NULL) {
        w->h->errors++;
    } else {
        set_fate(w, n, FATE_MAYBE);
        history_accuse(w->h, "step %u: mqredis-worker ended with %#x: %.200s",
                       n, (unsigned)status, said);
    }
}

static void run_program(struct hand *w)
{
    char text[32], said[512];
    int out[2], status = 0;
    size_t len = 0;
    if (pipe2(out, O_CLOEXEC) < 0)
        return;
    uint32_t n = begin(w, ACT_PUSH);
    struct watch_hand watch = start_watch(w);
    pid_t pid = start_program(w, value_of(w, n, text), out[1]);
    close(out[1]);
    for (ssize_t got;
         len < sizeof(said) - 1 &&
         ((got = read(out[0], said + len, sizeof(said) - 1 - len)) > 0 ||
          (got < 0 && errno == EINTR));)
        len += got > 0 ? (size_t)got : 0;
    said[len] = '\0';
    close(out[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    stop_watch(w, watch, deadline_from(w, watch), n);
    if (pid > 0)
        judge_program(w, n, status, said);
    else
        set_fate(w, n, FATE_NOT);
}

/* ---- a life ---- */

static void act(struct hand *w)
{
    unsigned roll = dice_below(&w->dice, 100);
    w->timeout_ms = dice_chance(&w->dice, 70)   ? 1500
                    : dice_chance(&w->dice, 70) ? 200
                                                : dice_between(&w->dice, 1, 30);
    mqredis_set_timeout(w->mq, w->timeout_ms);
    if (roll < 10)
        echo(w);
    else if (roll < 28)
        push(w);
    else if (roll < 36)
        append(w);
    else if (roll < 44)
        count_up(w);
    else if (roll < 50)
        set(w);
    else if (roll < 58)
        get(w, false);
    else if (roll < 62)
        set_big(w);
    else if (roll < 66)
        get(w, true);
    else if (roll < 70)
        enqueue(w);
    else if (roll < 74)
        pop(w);
    else if (roll < 82)
        batch(w);
    else if (roll < 88)
        transaction(w);
    else if (roll < 98)
        window(w);
    else
        run_program(w);
}

void worker_live(const struct worker_task *task)
{
    struct mqredis_error why;
    struct hand w = {.task = task,
                     .h = task->history,
                     .dice = {task->seed},
                     .last_set = NOBODY,
                     .last_big = NOBODY};
    int fds = support_count_fds();
    w.mq = mqredis_open(task->channel, &why);
    if (w.mq == NULL) {
        history_accuse(w.h, "cannot open the channel: %s", why.text);
        return;
    }
    while (!*task->leave && w.h->count < HISTORY_STEPS - WINDOW) {
        uint64_t refused = w.h->status[MQREDIS_UNAVAILABLE];
        act(&w);
        /* Who is told at once that there is no service is not to fill its
         * history with that. */
        if (w.h->status[MQREDIS_UNAVAILABLE] > refused ||
            dice_chance(&w.dice, 20))
            support_sleep_ms(dice_between(&w.dice, 0, 10));
    }
    mqredis_close(w.mq);
    if (support_count_fds() != fds)
        history_accuse(w.h,
                       "%d descriptors are open at its end, %d at its "
                       "start",
                       support_count_fds(), fds);
    w.h->ended_well = true;
}
