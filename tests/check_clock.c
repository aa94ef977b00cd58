/*
 * A wall clock that is set back while senders sleep on the full queue: they
 * sleep on it, and are to come back at their deadlines nevertheless.
 *
 * The machine's clock stays what it is: the manager's is shifted by a preloaded
 * library (setback.c), and the senders, which are this program, sleep as they
 * would after the step, by an mq_timedsend(3) of our own.
 */
#include "tests/e2e.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define SETBACK_S 3600
#define CAPACITY 4
#define ACTORS 12
#define TIMEOUT_MS 1000

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct e2e_actor *actors;
static char fifo[256], shift[256];

/* Set before the senders are forked. */
static bool stretched;

int mq_timedsend(mqd_t mq, const char *message, size_t len, unsigned priority,
                 const struct timespec *until)
{
    int (*real)(mqd_t, const char *, size_t, unsigned, const struct timespec *);
    struct timespec later = *until;
    *(void **)&real = dlsym(RTLD_NEXT, "mq_timedsend");
    if (stretched)
        later.tv_sec += SETBACK_S;
    return real(mq, message, len, priority, &later);
}

/* The manager's clock goes back by so much. */
static void set_clock(int seconds_back)
{
    char text[24];
    snprintf(text, sizeof(text), "%d", -seconds_back);
    support_write_file(AT_FDCWD, shift, text);
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "set here", 8), 8);
    close(fd);
}

static bool logged(const char *text)
{
    return strstr(e2e_log(&manager), text) != NULL;
}

static uint32_t state(void)
{
    struct manager_state now;
    if (status_read_state(manager.status, &now, NULL) != ERR_OK)
        return 0;
    return now.kind;
}

static void setup(void)
{
    support_scratch_setup();
    snprintf(fifo, sizeof(fifo), "%s", support_path("fifo"));
    snprintf(shift, sizeof(shift), "%s", support_path("shift"));
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    support_write_file(AT_FDCWD, shift, "0");
    setenv("SETBACK_FIFO", fifo, 1);
    setenv("SETBACK_SHIFT", shift, 1);
    actors = support_shared(ACTORS * sizeof(*actors));
    stretched = false;
    e2e_redis_start(&redis, E2E_MQREDIS);
    setenv("LD_PRELOAD", support_preload("setback.so"), 1);
    e2e_manager_start(&manager, NULL, e2e_uri(&redis),
                      "--capacity 4 --msgsize 1024 --reconnect-max 50");
    unsetenv("LD_PRELOAD");
}

/* Redis is gone, nothing is taken, and whoever found no place sleeps, for an
 * hour longer than it is to. */
static void fill_the_queue(void)
{
    unsigned asleep = 0;
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(state() == STATE_RECONNECTING));
    stretched = true;
    for (int i = 0; i < ACTORS; i++)
        e2e_actor_start(&actors[i], manager.channel, TIMEOUT_MS, "INCR n");
    stretched = false;
    for (int i = 0; i < ACTORS; i++) {
        ck_assert(
            UNTIL(actors[i].stage >= E2E_SENT ||
                  support_proc_syscall(actors[i].pid) == SYS_mq_timedsend));
        asleep += actors[i].stage < E2E_SENT;
    }
    ck_assert_uint_ge(asleep, ACTORS - CAPACITY);
}

/* Everybody was told in time that it is over, by its own clock. */
static void check_ends(void)
{
    for (int i = 0; i < ACTORS; i++) {
        ck_assert_msg(e2e_actor_reaches(&actors[i], E2E_DONE),
                      "sender %d still sleeps", i);
        ck_assert_msg(actors[i].end == E2E_LOST || actors[i].end == E2E_EXPIRED,
                      "sender %d ended with %d: %s", i, (int)actors[i].end,
                      actors[i].text);
    }
}

START_TEST(test_clock_set_back_stretches_no_sleep)
{
    fill_the_queue();
    set_clock(SETBACK_S);
    check_ends();
    ck_assert(UNTIL(logged("the clock was set back by 3600.0 s")));
    /* What was let go is executed by nobody: it was out of time. */
    e2e_redis_restart(&redis);
    ck_assert(UNTIL(state() == STATE_CONNECTED));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_str_eq(e2e_redis_ask(&redis, "GET n"), "$-1\r\n");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_taken), ACTORS);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_other_steps_take_nothing)
{
    fill_the_queue();
    uint64_t before = e2e_counter(&manager, COUNTER_messages);
    set_clock(-SETBACK_S); /* forward */
    set_clock(-SETBACK_S); /* and not at all */
    ck_assert_int_eq(kill(manager.pid, SIGHUP), 0);
    ck_assert(UNTIL(logged("reloaded")));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_messages), before);
    ck_assert(!logged("set back"));
    /* Back to where it was is a step back like any other. */
    set_clock(0);
    check_ends();
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_paused_manager_takes_nothing)
{
    fill_the_queue();
    const char *const argv[] = {"mqstat", "pause", manager.channel, NULL};
    struct e2e_output out;
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0, "%s", out.text);
    uint64_t before = e2e_counter(&manager, COUNTER_messages);
    set_clock(SETBACK_S);
    ck_assert_int_eq(kill(manager.pid, SIGHUP), 0);
    ck_assert(UNTIL(logged("reloaded")));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_messages), before);
    /* Its end wakes them all. */
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    for (int i = 0; i < ACTORS; i++)
        ck_assert(e2e_actor_reaches(&actors[i], E2E_DONE));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("clock");
    TCase *tc = tcase_create("setback");
    tcase_add_checked_fixture(tc, setup, support_scratch_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_clock_set_back_stretches_no_sleep);
    tcase_add_test(tc, test_other_steps_take_nothing);
    tcase_add_test(tc, test_paused_manager_takes_nothing);
    suite_add_tcase(s, tc);
    return support_run(s);
}
