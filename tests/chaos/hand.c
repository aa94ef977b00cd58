/* What every act of a worker needs. */
#include "tests/chaos/hand.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"

int hand_open_sched(void)
{
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

/* Its second number: ns that the thread was ready to run and waited. */
static uint64_t starved(int fd)
{
    char text[96], *end;
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

struct watch_hand hand_watch_by(const struct hand *w, int sched_fd)
{
    /* In this order: a stop in between is either counted, or not waited for. */
    struct watch_hand watch = {.sched_fd = sched_fd};
    watch.stops = w->h->stops;
    watch.starved_ns = starved(sched_fd);
    watch.from_ns = clock_ns();
    return watch;
}

struct watch_hand hand_watch(const struct hand *w)
{
    struct watch_hand watch = hand_watch_by(w, w->sched_fd);
    w->h->due_ns = hand_deadline(w, watch);
    return watch;
}

uint64_t hand_deadline(const struct hand *w, struct watch_hand watch)
{
    return watch.from_ns + (unsigned long long)w->timeout_ms * NS_PER_MS;
}

struct wait_end hand_end(struct watch_hand watch)
{
    struct wait_end end = {.at_ns = clock_ns()};
    end.starved_ns = starved(watch.sched_fd) - watch.starved_ns;
    return end;
}

void hand_note_wait(struct hand *w, struct watch_hand watch,
                    uint64_t deadline_ns, struct wait_end end, uint32_t number)
{
    uint64_t due = deadline_ns > watch.from_ns ? deadline_ns : watch.from_ns;
    due += end.starved_ns;
    if (end.at_ns <= due || w->h->stops != watch.stops)
        return;
    uint64_t late = end.at_ns - due;
    w->h->late_count += late > LATE_GOAL_NS;
    if (late > w->h->late_ns) {
        w->h->late_ns = late;
        w->h->late_from_ns = watch.from_ns;
        w->h->late_step = number;
    }
}

void hand_stop_watch(struct hand *w, struct watch_hand watch,
                     uint64_t deadline_ns, uint32_t number)
{
    w->h->due_ns = 0;
    hand_note_wait(w, watch, deadline_ns, hand_end(watch), number);
}

uint32_t hand_begin(struct hand *w, enum act act)
{
    uint32_t number = w->h->count;
    w->h->steps[number] = (struct step){
        .at_ms = (uint32_t)((clock_ns() - w->h->began_ns) / NS_PER_MS),
        .act = (uint8_t)act,
    };
    atomic_signal_fence(memory_order_seq_cst);
    w->h->count = number + 1;
    return number;
}

void hand_fate(struct hand *w, uint32_t number, enum fate fate)
{
    w->h->steps[number].fate = (uint8_t)fate;
}

const char *hand_value(const struct hand *w, uint32_t number, char text[32])
{
    snprintf(text, 32, "w%u:%u", w->h->id, number);
    return text;
}

/* ---- judging ---- */

/* What became of a request that Redis did not answer. */
static enum fate failure(struct hand *w, const char *what,
                         const struct mqredis_reply *r)
{
    switch (r->status) {
    case MQREDIS_LOST:
        return FATE_MAYBE;
    case MQREDIS_EXPIRED:
    case MQREDIS_UNAVAILABLE:
        return FATE_NOT;
    case MQREDIS_NOMEM:
    case MQREDIS_SYSTEM:
        if (clock_ns() < w->task->orders->scarce_until_ns)
            return FATE_NOT;
        break;
    case MQREDIS_OK:
    case MQREDIS_INVALID:
    case MQREDIS_TOO_BIG:
        break;
    }
    history_accuse(w->h, "step %u, %s: status %s: %s", w->h->count - 1, what,
                   mqredis_status_str(r->status), r->str);
    return FATE_NOT;
}

bool hand_may_be(const char *error)
{
    return strncmp(error, "LOADING", 7) == 0 ||
           strncmp(error, "EXECABORT", 9) == 0 ||
           strncmp(error, "CLUSTERDOWN", 11) == 0 ||
           strncmp(error, "TRYAGAIN", 8) == 0;
}

static enum fate judge(struct hand *w, const char *what,
                       const struct mqredis_reply *r, enum mqredis_type type)
{
    w->h->status[r->status]++;
    if (r->type == MQREDIS_FAILURE)
        return failure(w, what, r);
    if (r->type == MQREDIS_ERROR) {
        w->h->errors++;
        if (!hand_may_be(r->str))
            history_accuse(w->h, "step %u, %s: an error of Redis: %s",
                           w->h->count - 1, what, r->str);
        return FATE_NOT;
    }
    if (r->type != type)
        history_accuse(w->h,
                       "step %u, %s: a crossed reply: its type is %d, not %d",
                       w->h->count - 1, what, (int)r->type, (int)type);
    return FATE_DONE;
}

bool hand_settle(struct hand *w, uint32_t number, const struct mqredis_reply *r,
                 enum mqredis_type type)
{
    enum fate fate = judge(w, act_names[w->h->steps[number].act], r, type);
    hand_fate(w, number, fate);
    return fate == FATE_DONE && r->type == type;
}

bool hand_settle_plain(struct hand *w, const char *what,
                       const struct mqredis_reply *r, enum mqredis_type type)
{
    w->h->plain++;
    return judge(w, what, r, type) == FATE_DONE && r->type == type;
}

void hand_check_growth(struct hand *w, uint32_t number, int64_t *newest,
                       int64_t now, int64_t at_most)
{
    if (now <= *newest || now > at_most)
        history_accuse(w->h,
                       "step %u, %s: a crossed or repeated reply: %lld after "
                       "%lld, and at most %lld is possible",
                       number, act_names[w->h->steps[number].act],
                       (long long)now, (long long)*newest, (long long)at_most);
    else
        w->h->checked++;
    *newest = now;
}

void hand_check_text(struct hand *w, const struct mqredis_reply *r,
                     const char *wanted)
{
    if (r->len != strlen(wanted) || memcmp(r->str, wanted, r->len) != 0)
        history_accuse(w->h, "a crossed reply: \"%.40s\", not \"%s\"", r->str,
                       wanted);
    else
        w->h->checked++;
}
