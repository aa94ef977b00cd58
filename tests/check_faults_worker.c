/*
 * mqredis-worker, with each of its system calls and allocations made to fail in
 * turn: what its exit status says is so. (It is the program's objects, linked
 * dynamically: nothing can be put in front of a static program's calls.)
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e.h"
#include "tests/faults/sweep.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define SAMPLE FAULTS_SAMPLE(60)
#define LARGE 20000

#define EXIT_REFUSED 1
#define EXIT_NO_CHANNEL 69
#define EXIT_OUT_OF_TIME 75
#define EXIT_NOBODY_KNOWS 76

struct scene {
    struct e2e_redis redis;
    struct e2e_manager manager;
    struct redis_link link;
    struct faults_plan *plan;
    unsigned id; /* of the run: part of the keys */
    unsigned ended[128];
    char why[1024];
};

static void wrong(struct scene *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void wrong(struct scene *s, const char *fmt, ...)
{
    if (s->why[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->why, sizeof(s->why), fmt, ap);
    va_end(ap);
}

/* ---- running it ---- */

struct run {
    int status; /* exit status; 128 + signal */
    char out[4096], err[4096];
};

static void read_file(const char *name, char *text, size_t size)
{
    int fd = open(support_path(name), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
}

static int open_file(const char *name, int flags)
{
    return open(support_path(name), flags | O_CLOEXEC, 0600);
}

static void run_worker(struct scene *s, struct run *r, const char *const argv[])
{
    char program[512];
    snprintf(program, sizeof(program), "%s/tests/worker-dynamic",
             support_build());
    const char *library = support_preload("libfaults.so");
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        int in = open_file("in", O_RDONLY);
        int out = open_file("out", O_WRONLY | O_CREAT | O_TRUNC);
        int err = open_file("err", O_WRONLY | O_CREAT | O_TRUNC);
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 ||
            setenv("LD_PRELOAD", library, 1) < 0 ||
            setenv("FAULTS_PLAN", support_path("plan"), 1) < 0)
            _exit(126);
        char *words[8] = {NULL};
        for (size_t i = 0; i < 7 && argv[i] != NULL; i++)
            words[i] = strdup(argv[i]);
        execv(program, words);
        _exit(127);
    }
    s->plan->armed = true;
    r->status = support_join(pid);
    s->plan->armed = false;
    read_file("out", r->out, sizeof(r->out));
    read_file("err", r->err, sizeof(r->err));
    s->ended[r->status & 127]++;
}

static void put_input(const char *text)
{
    int fd = open_file("in", O_WRONLY | O_CREAT | O_TRUNC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* ---- judging it ---- */

static const char *key_of(const struct scene *s, int n)
{
    static char key[4][32];
    static unsigned next;
    char *at = key[next++ % 4];
    snprintf(at, 32, "w:%u:%d", s->id, n);
    return at;
}

static long asked(struct scene *s, const char *verb, int n)
{
    char command[64];
    snprintf(command, sizeof(command), "%s %s", verb, key_of(s, n));
    const char *text = redis_link_ask(&s->link, command);
    if (strncmp(text, "$-1", 3) == 0)
        return 0;
    if (text[0] == '$')
        text = strchr(text, '\n');
    return text != NULL ? strtol(text + 1, NULL, 10) : -1;
}

/* The exit status, and that there is a line where it is not 0. */
static void judge_status(struct scene *s, const struct run *r, const char *what)
{
    switch (r->status) {
    case 0:
    case EXIT_REFUSED:
    case EXIT_NO_CHANNEL:
    case EXIT_OUT_OF_TIME:
    case EXIT_NOBODY_KNOWS:
        break;
    default:
        wrong(s, "%s: ended with %d: %s", what, r->status, r->err);
    }
    if (r->status != 0 && strncmp(r->err, "mqredis-worker: ", 16) != 0)
        wrong(s, "%s: ended with %d and '%s'", what, r->status, r->err);
}

/* One command: `times` it was executed, `expected` is what it prints. */
static void judge_one(struct scene *s, const struct run *r, const char *what,
                      long times, const char *expected)
{
    judge_status(s, r, what);
    bool unknown = r->status == EXIT_NOBODY_KNOWS ||
                   strstr(r->err, "cannot write the output") != NULL;
    if (times < 0 || times > 1)
        wrong(s, "%s: executed %ld times", what, times);
    if (r->status == 0 && (times != 1 || strcmp(r->out, expected) != 0))
        wrong(s, "%s: executed %ld times, and printed '%.60s'", what, times,
              r->out);
    if (r->status != 0 && !unknown && times != 0)
        wrong(s, "%s: executed, but ended with %d: %s", what, r->status,
              r->err);
}

/* Whether it said of this line of its input that it was not executed. */
static bool denied(const struct run *r, int line)
{
    char begin[48];
    snprintf(begin, sizeof(begin), "mqredis-worker: line %d: ", line);
    const char *at = strstr(r->err, begin);
    const char *word = at != NULL ? strstr(at, "not executed") : NULL;
    return word != NULL && memchr(at, '\n', (size_t)(word - at)) == NULL;
}

/* Three commands, and two in a transaction. */
static void judge_many(struct scene *s, const struct run *r)
{
    long sum = 0, times[5];
    judge_status(s, r, "many");
    for (int i = 0; i < 5; i++) {
        times[i] = asked(s, "GET", 10 + i);
        sum += times[i];
        if (times[i] < 0 || times[i] > 1)
            wrong(s, "many: command %d was executed %ld times", i, times[i]);
        /* The transaction's are lines 5 and 6, and told of in line 4, its
         * MULTI. */
        int line = i < 3 ? i + 1 : 4;
        if (times[i] != 0 && denied(r, line))
            wrong(s, "many: command %d was executed: %s", i, r->err);
    }
    if (times[3] != 0 && r->status != EXIT_NOBODY_KNOWS &&
        strstr(r->out, "QUEUED") == NULL)
        wrong(s, "many: executed outside of their transaction: %s", r->err);
    if (times[3] != times[4])
        wrong(s, "many: half a transaction: %s", r->err);
    if (r->status == 0 && (sum != 5 || strcmp(r->out, "1\n1\n1\nOK\nQUEUED\n"
                                                      "QUEUED\n1\n1\n") != 0))
        wrong(s, "many: %ld of 5 were executed, and printed '%s'", sum, r->out);
}

static void run_all(struct scene *s)
{
    struct run r;
    static char large[LARGE + 1];
    memset(large, 'x', LARGE);
    s->id++;
    put_input("");
    char key[64];
    snprintf(key, sizeof(key), "%s", key_of(s, 0));
    const char *const one[] = {
        "mqredis-worker", "--channel", s->manager.channel, "INCR", key, NULL};
    run_worker(s, &r, one);
    judge_one(s, &r, "one", asked(s, "GET", 0), "1\n");
    snprintf(key, sizeof(key), "%s", key_of(s, 1));
    const char *const big[] = {"mqredis-worker",
                               "--channel",
                               s->manager.channel,
                               "APPEND",
                               key,
                               large,
                               NULL};
    run_worker(s, &r, big);
    judge_one(s, &r, "large", asked(s, "STRLEN", 1) / LARGE, "20000\n");
    char text[512];
    snprintf(text, sizeof(text),
             "INCR w:%u:10\nINCR w:%u:11\nINCR w:%u:12\nMULTI\n"
             "INCR w:%u:13\nINCR w:%u:14\nEXEC\n",
             s->id, s->id, s->id, s->id, s->id);
    put_input(text);
    const char *const many[] = {"mqredis-worker", "--channel",
                                s->manager.channel, NULL};
    run_worker(s, &r, many);
    judge_many(s, &r);
    char folder[96];
    snprintf(folder, sizeof(folder), "%s/reply", s->manager.channel);
    int left = support_count_entries(support_path(folder));
    bool excused = s->plan->failed > 0 && s->plan->call == FAULTS_unlinkat;
    if (left != 0 && !excused)
        wrong(s, "%d entries left in reply/", left);
}

START_TEST(test_the_exit_status_is_true)
{
    static struct scene s;
    e2e_start(&s.redis, &s.manager, E2E_REDIS, NULL);
    redis_link_open(&s.link, &s.redis.at);
    s.plan = faults_plan_new(support_path("plan"));
    faults_plan_clear(s.plan);
    run_all(&s);
    ck_assert_msg(s.why[0] == '\0' && s.ended[0] == 3, "%s", s.why);
    struct faults_sweep sweep;
    struct faults_point point;
    faults_sweep_init(&sweep, s.plan, FAULTS_BOTH, SAMPLE);
    while (faults_sweep_next(&sweep, s.plan, &point)) {
        s.why[0] = '\0';
        run_all(&s);
        sweep.struck += s.plan->failed > 0;
        if (s.why[0] != '\0')
            faults_complain(&sweep, &point, "%s", s.why);
    }
    faults_report(&sweep, "worker");
    printf("figure: worker: ended with");
    for (int i = 0; i < 128; i++)
        if (s.ended[i] > 0)
            printf(" %d (%u)", i, s.ended[i]);
    printf("\n");
    fflush(stdout);
    ck_assert_uint_eq(sweep.complaints, 0);
    faults_sweep_release(&sweep);
    redis_link_close(&s.link);
    ck_assert_int_eq(e2e_manager_stop(&s.manager), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_worker");
    TCase *sweep = support_case(s, "sweep", faults_whole() ? 7200 : 240);
    tcase_add_checked_fixture(sweep, NULL, e2e_stop_all);
    tcase_add_test(sweep, test_the_exit_status_is_true);
    return support_run(s);
}
