/* Waiting for a state, and exit codes for health checks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

/* Nothing tells of a folder that appears, or of a manager that was killed with
 * its guardian: so a wait is sliced. */
#define LOOK_AGAIN_S 0.02

static bool known_state(const char *state)
{
    static const char *const own[] = {"up", "down", "idle"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strcmp(state, own[i]) == 0)
            return true;
    for (uint32_t k = STATE_STARTING; k < STATE_KIND_COUNT; k++)
        if (strcmp(state, manager_state_str(k)) == 0)
            return true;
    return false;
}

static bool idle(const struct sample *s)
{
    return sample_health(s) != HEALTH_DOWN && s->has_queue && s->depth == 0 &&
           sample_gauge(s, GAUGE_inflight) == 0;
}

static bool reached(const struct sample *s, const char *state)
{
    if (strcmp(state, "up") == 0)
        return sample_health(s) == HEALTH_FINE;
    if (strcmp(state, "down") == 0)
        return sample_health(s) == HEALTH_DOWN;
    if (strcmp(state, "idle") == 0)
        return idle(s);
    return strcmp(sample_state(s), state) == 0;
}

int run_wait(const struct options *o)
{
    if (!known_state(o->wait_state))
        return fail(EXIT_USAGE,
                    "--wait %.40s: no such state; there are starting, "
                    "connected, reconnecting, paused, draining, closed, died, "
                    "up, down and idle",
                    o->wait_state);
    const char *name = first_name(o);
    uint64_t deadline = clock_ns() + (uint64_t)(o->timeout_s * 1e9);
    struct sample *s = malloc(sizeof(*s));
    if (s == NULL)
        return fail(EXIT_SYSTEM, "out of memory");
    int code = EXIT_FINE;
    for (;;) {
        sample_take(s, name, NULL);
        if (reached(s, o->wait_state))
            break;
        if (clock_ns() >= deadline) {
            code = fail(EXIT_LATE, "channel '%s' is %s, not %s, after %g s",
                        s->name, sample_state(s), o->wait_state, o->timeout_s);
            break;
        }
        if (!sleep_s(LOOK_AGAIN_S)) {
            code = ended_by_signal();
            break;
        }
    }
    free(s);
    return code;
}

/* ---- --check ---- */

static const char *const words[] = {"fine", "degraded", "down"};

/* A queue that is full and stays so while nothing is taken: workers wait for a
 * manager that does not come. */
static bool stalled(const struct sample *old, const struct sample *s)
{
    return old->has_queue && s->has_queue && old->depth >= old->capacity &&
           s->depth >= s->capacity && sample_comparable(old, s) &&
           sample_counter(old, COUNTER_taken) ==
               sample_counter(s, COUNTER_taken);
}

static enum health_kind judge(struct text *out, const struct sample *old,
                              const struct sample *s)
{
    char safe[1024];
    enum health_kind h = sample_health(s);
    const char *what = s->problem.text;
    if (what[0] == '\0' && h != HEALTH_FINE && s->has_status)
        what = s->state.error;
    if (h == HEALTH_FINE && old != NULL && stalled(old, s)) {
        h = HEALTH_DEGRADED;
        what = "the queue is full and nothing is taken";
    }
    text_add(out, "%s: %s, %s%s%s\n", s->name, words[h], sample_state(s),
             what[0] ? ": " : "", text_safe(safe, sizeof(safe), what));
    return h;
}

int run_check(const struct options *o)
{
    struct channel_names names;
    struct scanner scanner = {0};
    struct sample_set a = {0}, b = {0};
    struct text out = {0};
    int code = EXIT_SYSTEM;
    enum err e = wanted_channels(o, &names);
    if (e == ERR_OK && names.count == 0) {
        code = fail(EXIT_DOWN, "no channel found");
        goto out;
    }
    if (e == ERR_OK)
        e = scanner_refresh(&scanner, 0);
    if (e == ERR_OK)
        e = sample_set_take(&a, &names, &scanner.scan);
    bool full = false;
    for (size_t i = 0; i < a.count; i++)
        full = full || (a.items[i]->has_queue &&
                        a.items[i]->depth >= a.items[i]->capacity);
    if (e == ERR_OK && full) {
        sleep_s(0.2);
        e = sample_set_take(&b, &names, &scanner.scan);
    }
    if (e != ERR_OK)
        goto out;
    const struct sample_set *now = full ? &b : &a;
    enum health_kind worst = HEALTH_FINE;
    for (size_t i = 0; i < now->count; i++) {
        enum health_kind h =
            judge(&out, full ? a.items[i] : NULL, now->items[i]);
        worst = h > worst ? h : worst;
    }
    if (o->json) {
        text_clear(&out);
        json_channels(&out, NULL, now, false);
    }
    code = finish(&out);
    if (code == EXIT_FINE)
        code = (int)worst;
out:
    if (e != ERR_OK)
        code = fail(EXIT_DOWN, "cannot look at the channels: %s", err_str(e));
    text_free(&out);
    sample_set_free(&a);
    sample_set_free(&b);
    scanner_free(&scanner);
    channel_names_free(&names);
    return code;
}
