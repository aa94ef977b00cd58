/*
 * Two runs of the fault harness, tests/chaos of the same build, one minute
 * each, and a shorter one in a cluster, all gentle, for other suites run beside
 * them: $CHAOS_SECONDS for other times (60), $CHAOS_SEED for another first seed
 * (1; it is printed).
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

#define ROUND_SEEDS 20 /* a run uses up several seeds, one for each round */

static const char *setting(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

static double seconds(void)
{
    return strtod(setting("CHAOS_SECONDS", "60"), NULL);
}

static long first_seed(void)
{
    return strtol(setting("CHAOS_SEED", "1"), NULL, 10);
}

static void run(const char *options, double time_s, long seed)
{
    char command[1024];
    snprintf(command, sizeof(command),
             "exec '%s/tests/chaos' --gentle %s %.0f %ld", support_build(),
             options, time_s, seed);
    int status = system(command);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "%s: ended with %#x", command, (unsigned)status);
}

START_TEST(test_nothing_is_violated_under_faults)
{
    run("", seconds(), first_seed() + _i * ROUND_SEEDS);
}
END_TEST

/* A part of the time: what the cluster adds shows within one round. */
START_TEST(test_nothing_is_violated_in_a_cluster)
{
    run("--cluster", ceil(seconds() * 0.4), first_seed());
}
END_TEST

/* ---- whatever ends it, nothing is left ---- */

static pid_t spawn(bool cluster)
{
    char program[512];
    snprintf(program, sizeof(program), "%s/tests/chaos", support_build());
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid > 0)
        return pid;
    setenv("TMPDIR", support_scratch(), 1);
    execl(program, "chaos", cluster ? "--cluster" : "--gentle", "--gentle",
          "60", "1", (char *)NULL);
    _exit(127);
}

static int entries(void)
{
    return support_count_entries(support_scratch());
}

START_TEST(test_a_signal_leaves_nothing)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGTERM};
    int status, by = signals[_i];
    support_scratch_setup();
    pid_t pid = spawn(_i == 3);
    /* Its certificates, and then a round's folder. */
    ck_assert(UNTIL(entries() >= 2));
    support_sleep_ms(500);
    kill(pid, by);
    ck_assert(UNTIL(waitpid(pid, &status, WNOHANG) == pid));
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == by,
                  "ended with %#x", (unsigned)status);
    ck_assert_int_eq(entries(), 0);
    support_scratch_teardown();
}
END_TEST

static void start_and_stay(void *arg)
{
    pid_t *pid = arg;
    *pid = spawn(false);
    for (;;)
        pause();
}

START_TEST(test_the_death_of_its_parent_leaves_nothing)
{
    support_scratch_setup();
    pid_t *pid = support_shared(sizeof(*pid));
    pid_t parent = support_fork(start_and_stay, pid);
    ck_assert(UNTIL(entries() >= 2));
    support_kill(parent);
    ck_assert(UNTIL(entries() == 0));
    ck_assert(UNTIL(support_proc_state(*pid) == '\0' ||
                    support_proc_state(*pid) == 'Z'));
    support_scratch_teardown();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chaos");
    TCase *tc = tcase_create("run");
    tcase_set_timeout(tc, seconds() * 2 + 120);
    tcase_add_loop_test(tc, test_nothing_is_violated_under_faults, 0, 2);
    tcase_add_test(tc, test_nothing_is_violated_in_a_cluster);
    suite_add_tcase(s, tc);
    tc = tcase_create("signals");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_a_signal_leaves_nothing, 0, 4);
    tcase_add_test(tc, test_the_death_of_its_parent_leaves_nothing);
    suite_add_tcase(s, tc);
    return support_run(s);
}
