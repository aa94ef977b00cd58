/* The manager's state as a watch cell: who sleeps until it changes is woken by
 * every change, and learns of a manager that was killed, whatever it was
 * writing. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/status.h"
#include "tests/e2e.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define SEEN_MAX 64

/* Lies in shared memory. */
struct watcher {
    char channel[48];
    _Atomic uint32_t count;
    uint32_t seen[SEEN_MAX]; /* states, in the order seen */
    uint64_t when_ns[SEEN_MAX];
    char error[256];   /* of the last one that had one */
    _Atomic bool gone; /* nobody holds the channel's lock any more */
};

/* Waits as a tool does: asleep until the state changes, and from time to time
 * a look at the lock, for the case that nobody is left to say so. */
static void watch_manager(void *arg)
{
    struct watcher *w = arg;
    struct channel ch;
    struct err_text why;
    const struct status *status;
    pid_t holder;
    uint32_t version = 0;
    CHILD_REQUIRE(channel_open(&ch, w->channel, &why) == ERR_OK);
    CHILD_REQUIRE(status_open(&ch, &status, &why) == ERR_OK);
    for (;;) {
        struct manager_state state;
        uint32_t n = w->count;
        CHILD_REQUIRE(status_read_state(status, &state, &version) == ERR_OK);
        CHILD_REQUIRE(state.kind > 0 && state.kind < STATE_KIND_COUNT);
        if (state.error[0] != '\0')
            snprintf(w->error, sizeof(w->error), "%s", state.error);
        if ((n == 0 || w->seen[n - 1] != state.kind) && n < SEEN_MAX) {
            w->seen[n] = state.kind;
            w->when_ns[n] = clock_ns();
            w->count = n + 1;
        }
        if (state.kind == STATE_CLOSED || state.kind == STATE_DIED)
            break;
        enum err e = watch_wait(&status->state, version, clock_deadline(200));
        if (e == ERR_TIMEOUT && !channel_locked(&ch, &holder)) {
            w->gone = true;
            break;
        }
    }
    status_unmap(status);
    channel_close(&ch);
}

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct watcher *w;
static pid_t pid;

static void begin(int kind)
{
    e2e_start(&redis, &manager, kind, "--reconnect-max 100");
    w = support_shared(sizeof(*w));
    snprintf(w->channel, sizeof(w->channel), "%s", manager.channel);
    pid = support_fork(watch_manager, w);
    ck_assert(UNTIL(w->count == 1));
    ck_assert_uint_eq(w->seen[0], STATE_CONNECTED);
}

static void expect(uint32_t n, enum manager_state_kind kind)
{
    ck_assert_msg(UNTIL(w->count > n), "no state after %u others", n);
    ck_assert_msg(w->seen[n] == (uint32_t)kind, "state %u is %s, not %s", n,
                  manager_state_str(w->seen[n]), manager_state_str(kind));
}

START_TEST(test_every_change_wakes_the_sleeper)
{
    begin(_i);
    e2e_redis_kill(&redis);
    expect(1, STATE_RECONNECTING);
    ck_assert(UNTIL(w->error[0] != '\0'));
    e2e_redis_restart(&redis);
    expect(2, STATE_CONNECTED);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    ck_assert_int_eq(support_join(pid), 0);
    ck_assert_uint_eq(w->seen[w->count - 1], STATE_CLOSED);
    ck_assert(!w->gone);
}
END_TEST

START_TEST(test_a_killed_manager_is_told_by_its_guardian)
{
    begin(_i);
    uint64_t start = clock_ns();
    e2e_manager_kill(&manager);
    expect(1, STATE_DIED);
    ck_assert_int_eq(support_join(pid), 0);
    e2e_figure(_i, "'died' was seen %.1f ms after the kill",
               (double)(w->when_ns[1] - start) / 1e6);
}
END_TEST

/* Nobody is left to write: the last good value stays, and the lock tells. */
START_TEST(test_a_manager_killed_with_its_guardian_is_noticed)
{
    begin(_i);
    kill(manager.guardian, SIGSTOP);
    kill(manager.pid, SIGSTOP);
    kill(manager.guardian, SIGKILL);
    e2e_manager_kill(&manager);
    ck_assert_int_eq(support_join(pid), 0);
    ck_assert(w->gone);
    ck_assert_uint_eq(w->count, 1);
    ck_assert_uint_eq(w->seen[0], STATE_CONNECTED);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch_manager");
    TCase *t = support_case(s, "state", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_every_change_wakes_the_sleeper);
    e2e_add(t, test_a_killed_manager_is_told_by_its_guardian);
    e2e_add(t, test_a_manager_killed_with_its_guardian_is_noticed);
    return support_run(s);
}
