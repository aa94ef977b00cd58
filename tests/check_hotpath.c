/*
 * What one command costs, counted and not timed: system calls (strace -c) and
 * instructions (callgrind), each with a ceiling, so that a slower hot path
 * shows on a noisy machine too.
 *
 * A program is run twice, with few and with many commands; the difference is
 * what the commands cost, without its start and end. Where strace or valgrind
 * is missing or may not look at processes, a line says so.
 */
#include "tests/e2e.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

#define FEW 100
#define MANY 1100

/* Calls of a worker for one command: poll of `receiver`, mq_timedsend, poll of
 * reply and `receiver`, read. */
#define WORKER_CALLS 4.1
/* And of the manager: for one command alone epoll_wait, mq_timedreceive twice
 * (the second finds the queue empty), sendto, epoll_wait, read, write; of many
 * at once mq_timedreceive and write, and a share of the others. */
#define MANAGER_CALLS_ALONE 7.2
#define MANAGER_CALLS_MANY 3.2
/* Instructions in user space for one GET, one after the other: 2790 and 4176
 * with gcc 12 -O2, and two fifths more for other compilers. */
#define WORKER_INSTRUCTIONS 4000
#define MANAGER_INSTRUCTIONS 6000

#define CROWD 32
#define CROWD_EACH 60

static struct e2e_redis redis;
static struct e2e_manager manager;

/* ---- what can be done here ---- */

static const char *program(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", support_build(), name);
    return path;
}

/* Whether a command that needs `tool` works. */
static bool works(const char *test, const char *tool, const char *const argv[])
{
    if (SUPPORT_INSTRUMENTED) {
        support_skip(test, "an instrumented build says nothing of cost");
        return false;
    }
    static struct e2e_output out;
    e2e_run(&out, argv);
    if (out.status == 0)
        return true;
    char why[128];
    snprintf(why, sizeof(why), "%s is not there, or may not be used here",
             tool);
    support_skip(test, why);
    return false;
}

static bool strace_works(const char *test)
{
    const char *const argv[] = {"strace",    "-c",   "-o",
                                "/dev/null", "true", NULL};
    return works(test, "strace", argv);
}

/* Old ones can't read what newer compilers write for debuggers. */
static bool valgrind_works(const char *test, const char *name)
{
    const char *const argv[] = {"valgrind",    "--tool=none", "-q",
                                program(name), "--version",   NULL};
    return works(test, "valgrind", argv);
}

/* ---- what the tools wrote ---- */

static const char *slurp(const char *path)
{
    static char text[32768];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s is not there", path);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The calls in a table of strace -c, less those of `but`. */
static long calls_in(const char *path, const char *but)
{
    char line[256];
    long sum = 0;
    FILE *in = fopen(path, "re");
    ck_assert_msg(in != NULL, "%s is not there", path);
    while (fgets(line, sizeof(line), in) != NULL) {
        /* % time, seconds, usecs/call, calls, [errors], name */
        double percent, seconds;
        long each, calls;
        char a[64] = "", b[64] = "";
        int n = sscanf(line, "%lf %lf %ld %ld %63s %63s", &percent, &seconds,
                       &each, &calls, a, b);
        const char *name = n == 6 ? b : a;
        if (n >= 5 && strcmp(name, "total") != 0 && strcmp(name, but) != 0)
            sum += calls;
    }
    fclose(in);
    return sum;
}

/* "summary: N" or "totals: N" at the end of what callgrind wrote. */
static long instructions_in(const char *path)
{
    char line[512];
    long count = 0;
    FILE *in = fopen(path, "re");
    ck_assert_msg(in != NULL, "%s is not there", path);
    while (fgets(line, sizeof(line), in) != NULL) {
        if (sscanf(line, "summary: %ld", &count) == 1 ||
            sscanf(line, "totals: %ld", &count) == 1)
            break;
    }
    fclose(in);
    ck_assert_msg(count > 0, "callgrind counted nothing in %s", path);
    return count;
}

/* ---- loads ---- */

/* Starts a worker that gets `n` times; `tool` (may be empty) runs it. */
static pid_t start_worker(const char *const tool[], int n)
{
    const char *argv[E2E_ARGS_MAX + 1] = {NULL};
    char times[16];
    size_t argc = 0;
    for (; tool[argc] != NULL; argc++)
        argv[argc] = tool[argc];
    snprintf(times, sizeof(times), "%d", n);
    const char *const own[] = {program("mqredis-worker"),
                               "--channel",
                               manager.channel,
                               "-r",
                               times,
                               "GET",
                               "k"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        argv[argc++] = own[i];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(null, 0);
    pid_t pid = e2e_spawn(argv, null, STDERR_FILENO);
    close(null);
    return pid;
}

static void run_worker(const char *const tool[], int n)
{
    ck_assert_int_eq(support_join(start_worker(tool, n)), 0);
}

static const char *const untraced[] = {NULL};

static double each(long few, long many)
{
    return (double)(many - few) / (MANY - FEW);
}

/* ---- system calls ---- */

START_TEST(test_worker_system_calls)
{
    if (!strace_works("test_worker_system_calls"))
        return;
    e2e_start(&redis, &manager, _i, NULL);
    char path[512];
    snprintf(path, sizeof(path), "%s", support_path("worker.calls"));
    const char *const tool[] = {"strace", "-c", "-o", path, NULL};
    /* The output of the program is not the library's. */
    run_worker(tool, FEW);
    long few = calls_in(path, "write");
    run_worker(tool, MANY);
    double calls = each(few, calls_in(path, "write"));
    e2e_figure(_i, "system calls of a worker for a command: %.2f", calls);
    ck_assert_msg(calls > 1, "strace counted next to nothing: %.2f", calls);
    ck_assert_msg(calls <= WORKER_CALLS, "%.2f calls a command: %.2f is known",
                  calls, WORKER_CALLS);
}
END_TEST

static bool is_traced(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    const char *at = strstr(slurp(path), "\nTracerPid:");
    return at != NULL && strtol(at + 11, NULL, 10) != 0;
}

/* Attaches strace to the manager; 0 where that is not allowed. */
static pid_t trace_manager(const char *test, const char *path)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%ld", (long)manager.pid);
    const char *const argv[] = {"strace", "-c", "-o", path, "-p", pid, NULL};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(null, 0);
    pid_t tracer = e2e_spawn(argv, null, null);
    close(null);
    if (UNTIL(is_traced(manager.pid) || support_proc_state(tracer) == 'Z') &&
        is_traced(manager.pid))
        return tracer;
    support_kill(tracer);
    support_skip(test, "strace may not attach to processes here");
    return 0;
}

/* What the manager did for `load`, in calls; -1: can't be seen here. */
static long manager_calls(const char *test, void (*load)(void))
{
    char path[512];
    snprintf(path, sizeof(path), "%s", support_path("manager.calls"));
    pid_t tracer = trace_manager(test, path);
    if (tracer == 0)
        return -1;
    load();
    kill(tracer, SIGINT);
    support_join(tracer);
    return calls_in(path, "");
}

static void one_worker(void)
{
    run_worker(untraced, MANY);
}

static void crowd(void)
{
    pid_t pids[CROWD];
    for (int i = 0; i < CROWD; i++)
        pids[i] = start_worker(untraced, CROWD_EACH);
    for (int i = 0; i < CROWD; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
}

START_TEST(test_manager_system_calls_for_one)
{
    static const char test[] = "test_manager_system_calls_for_one";
    if (!strace_works(test))
        return;
    e2e_start(&redis, &manager, _i, NULL);
    long count = manager_calls(test, one_worker);
    if (count < 0)
        return;
    double calls = (double)count / MANY;
    e2e_figure(_i, "system calls of the manager for a command alone: %.2f",
               calls);
    ck_assert_msg(calls > 3, "strace counted next to nothing: %.2f", calls);
    ck_assert_msg(calls <= MANAGER_CALLS_ALONE,
                  "%.2f calls a command: %.2f is known", calls,
                  MANAGER_CALLS_ALONE);
}
END_TEST

START_TEST(test_manager_system_calls_for_many)
{
    static const char test[] = "test_manager_system_calls_for_many";
    if (!strace_works(test))
        return;
    e2e_start(&redis, &manager, _i, NULL);
    /* The least of some: where others have the processors the workers come one
     * after the other, and are no crowd. */
    double calls = 2 * MANAGER_CALLS_ALONE;
    for (int i = 0; i < 5 && calls > MANAGER_CALLS_MANY; i++) {
        long count = manager_calls(test, crowd);
        if (count < 0)
            return;
        /* Coming and going costs each worker a handful once. */
        double now = (double)(count - CROWD * 8) / (CROWD * CROWD_EACH);
        calls = now < calls ? now : calls;
    }
    e2e_figure(_i,
               "system calls of the manager for a command of %d workers: "
               "%.2f",
               CROWD, calls);
    ck_assert_msg(calls > 1, "strace counted next to nothing: %.2f", calls);
    ck_assert_msg(calls <= MANAGER_CALLS_MANY,
                  "%.2f calls a command: %.2f is known", calls,
                  MANAGER_CALLS_MANY);
}
END_TEST

/* ---- instructions ---- */

START_TEST(test_worker_instructions)
{
    if (!valgrind_works("test_worker_instructions", "mqredis-worker"))
        return;
    e2e_start(&redis, &manager, _i, NULL);
    char path[512], option[600];
    snprintf(path, sizeof(path), "%s", support_path("worker.callgrind"));
    snprintf(option, sizeof(option), "--callgrind-out-file=%s", path);
    const char *const tool[] = {"valgrind", "--tool=callgrind", "-q", option,
                                NULL};
    run_worker(tool, FEW);
    long few = instructions_in(path);
    run_worker(tool, MANY);
    double count = each(few, instructions_in(path));
    e2e_figure(_i, "instructions of a worker for a command: %.0f", count);
    ck_assert_msg(count > 100, "callgrind counted next to nothing: %.0f",
                  count);
    ck_assert_msg(count <= WORKER_INSTRUCTIONS,
                  "%.0f instructions a command: %d is the ceiling", count,
                  WORKER_INSTRUCTIONS);
}
END_TEST

/* Of a manager that serves one worker's `n` commands, from start to end. */
static long manager_instructions(int n)
{
    char option[600], uri[256];
    struct e2e_manager *m = &manager;
    *m = (struct e2e_manager){0};
    snprintf(m->channel, sizeof(m->channel), "%s", support_name());
    snprintf(uri, sizeof(uri), "%s", e2e_uri(&redis));
    snprintf(m->log, sizeof(m->log), "%.100s/%.40s.log", support_scratch(),
             m->channel);
    /* One file each: the guardian is a process too. */
    snprintf(option, sizeof(option), "--callgrind-out-file=%s/%s.%%p",
             support_scratch(), m->channel);
    const char *const argv[] = {"valgrind",
                                "--tool=callgrind",
                                "-q",
                                option,
                                program("mqredis-manager"),
                                "--channel",
                                m->channel,
                                "--capacity",
                                "32",
                                "--msgsize",
                                "1024",
                                "--redis",
                                uri,
                                NULL};
    int log = open(m->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(log, 0);
    m->pid = e2e_spawn(argv, log, log);
    close(log);
    e2e_manager_ready(m);
    run_worker(untraced, n);
    pid_t pid = m->pid;
    ck_assert_int_eq(e2e_manager_stop(m), 0);
    char path[700];
    snprintf(path, sizeof(path), "%s/%s.%ld", support_scratch(), m->channel,
             (long)pid);
    return instructions_in(path);
}

START_TEST(test_manager_instructions)
{
    if (!valgrind_works("test_manager_instructions", "mqredis-manager"))
        return;
    e2e_redis_start(&redis, _i);
    long few = manager_instructions(FEW);
    double count = each(few, manager_instructions(MANY));
    e2e_figure(_i, "instructions of the manager for a command alone: %.0f",
               count);
    ck_assert_msg(count > 100, "callgrind counted next to nothing: %.0f",
                  count);
    ck_assert_msg(count <= MANAGER_INSTRUCTIONS,
                  "%.0f instructions a command: %d is the ceiling", count,
                  MANAGER_INSTRUCTIONS);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hotpath");
    TCase *t = support_case(s, "cost", 120);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_worker_system_calls);
    e2e_add(t, test_manager_system_calls_for_one);
    e2e_add(t, test_manager_system_calls_for_many);
    e2e_add(t, test_worker_instructions);
    e2e_add(t, test_manager_instructions);
    return s;
}

int main(void)
{
    return support_run(suite());
}
