/*
 * mqredis-bench: that it runs each contestant without an error, writes what it
 * says it writes, and leaves nothing. What it measures is for a person to read:
 * no figure is asserted here but those that no machine can bend.
 */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/json.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TEXT_MAX 262144

struct bench {
    pid_t pid;
    char out_path[256];
    char *text; /* both streams */
};

static void start(struct bench *b, const char *const *options)
{
    const char *argv[24] = {NULL, "--msgsize", "1024"};
    char path[512];
    size_t n = 3;
    snprintf(path, sizeof(path), "%s/mqredis-bench", support_build());
    argv[0] = path;
    while (*options != NULL && n < 23)
        argv[n++] = *options++;
    snprintf(b->out_path, sizeof(b->out_path), "%s", support_path("bench.out"));
    b->text = NULL;
    b->pid = fork();
    ck_assert_int_ge(b->pid, 0);
    if (b->pid == 0) {
        int fd = open(b->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

static char *read_whole(const char *path)
{
    char *text = calloc(1, TEXT_MAX);
    FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(text);
    if (f != NULL) {
        text[fread(text, 1, TEXT_MAX - 1, f)] = '\0';
        fclose(f);
    }
    return text;
}

static int join(struct bench *b)
{
    int status = 0;
    bool ended = false;
    for (int tries = 0; tries < 4 && !ended; tries++)
        ended = UNTIL(waitpid(b->pid, &status, WNOHANG) == b->pid);
    if (!ended)
        support_kill(b->pid);
    b->text = read_whole(b->out_path);
    ck_assert_msg(ended, "did not end; it said:\n%s", b->text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void run_well(struct bench *b, const char *const *options)
{
    start(b, options);
    int code = join(b);
    ck_assert_msg(code == 0, "exit status %d; it said:\n%s", code, b->text);
}

static bool installed(const char *program)
{
    char command[128];
    snprintf(command, sizeof(command),
             "PATH=$PATH:/usr/sbin command -v %s >/dev/null", program);
    return system(command) == 0;
}

static int count_folders(void)
{
    int n = 0;
    DIR *d = opendir("/dev/shm");
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strncmp(e->d_name, "mqredis-bench.", 14) == 0;
    closedir(d);
    return n;
}

/* The columns of the first table's row of a contestant: commands per second,
 * and errors. False: there is no such row. */
static bool find_row(const char *text, unsigned workers, const char *way,
                     double *rate, double *errors)
{
    char start_of_row[64];
    snprintf(start_of_row, sizeof(start_of_row), "\n| %u | %s |", workers, way);
    const char *row = strstr(text, start_of_row);
    if (row == NULL)
        return false;
    *rate = strtod(row + strlen(start_of_row), NULL);
    const char *end = strchr(row + 1, '\n');
    const char *column = end;
    for (int bars = 0; column > row && bars < 2; column--)
        bars += *column == '|';
    *errors = strtod(column + 2, NULL);
    return true;
}

static void assert_row(const char *text, unsigned workers, const char *way)
{
    double rate = 0, errors = -1;
    ck_assert_msg(find_row(text, workers, way, &rate, &errors),
                  "no row of %s in:\n%s", way, text);
    ck_assert_msg(rate > 10, "%s: %f commands per second", way, rate);
    ck_assert_msg(errors == 0, "%s: %f errors", way, errors);
}

/* ---- tests ---- */

START_TEST(test_every_contestant_runs_without_an_error)
{
    const char *options[] = {"--contestants",
                             "channel,channel-unix,limit,hiredis,hiredis-unix,"
                             "twemproxy,twemproxy-unix",
                             "--workers",
                             "1,8",
                             "--rounds",
                             "1",
                             "--seconds",
                             "0.2",
                             "--warmup",
                             "0.05",
                             NULL};
    struct bench b = {0};
    int before = count_folders();
    run_well(&b, options);
    for (unsigned n = 1; n <= 8; n += 7) {
        assert_row(b.text, n, "channel");
        assert_row(b.text, n, "channel-unix");
        assert_row(b.text, n, "limit");
        /* Without hiredis or nutcracker a line says that they are left out. */
        if (strstr(b.text, "left out hiredis:") == NULL) {
            assert_row(b.text, n, "hiredis");
            assert_row(b.text, n, "hiredis-unix");
        }
        if (installed("nutcracker") &&
            strstr(b.text, "left out hiredis:") == NULL) {
            assert_row(b.text, n, "twemproxy");
            assert_row(b.text, n, "twemproxy-unix");
        }
    }
    ck_assert_int_le(count_folders(), before);
    free(b.text);
}
END_TEST

START_TEST(test_other_loads_run_without_an_error)
{
    static const char *const loads[][2] = {{"--batch", "16"},
                                           {"--rate", "500"},
                                           {"--set", "50"},
                                           {"--value", "0"},
                                           {"--value", "20000"}};
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        const char *options[] = {loads[i][0], loads[i][1], "--contestants",
                                 "channel",   "--workers", "4",
                                 "--rounds",  "1",         "--seconds",
                                 "0.2",       NULL};
        struct bench b = {0};
        run_well(&b, options);
        assert_row(b.text, 4, "channel");
        free(b.text);
    }
    const char *window[] = {
        "--window", "64", "--contestants", "channel", "--workers", "1",
        "--rounds", "1",  "--seconds",     "0.2",     NULL};
    struct bench b = {0};
    run_well(&b, window);
    assert_row(b.text, 1, "channel");
    free(b.text);
}
END_TEST

/* What is asked for per second is what is sent per second. */
START_TEST(test_an_open_loop_keeps_its_rate)
{
    const char *options[] = {
        "--rate",   "200", "--contestants", "channel", "--workers", "4",
        "--rounds", "1",   "--seconds",     "1",       NULL};
    struct bench b = {0};
    double rate = 0, errors = 0;
    run_well(&b, options);
    ck_assert(find_row(b.text, 4, "channel", &rate, &errors));
    ck_assert_double_gt(rate, 150);
    ck_assert_double_lt(rate, 250);
    free(b.text);
}
END_TEST

START_TEST(test_writes_tables_json_and_plots)
{
    static const char *const files[] = {"results.md", "results.json",
                                        "throughput.svg", "p99.svg"};
    static const char *const begins[] = {"20", "{\"machine\":", "<svg ",
                                         "<svg "};
    char dir[256], path[512];
    snprintf(dir, sizeof(dir), "%s", support_path("results"));
    const char *options[] = {"--contestants",
                             "channel,limit",
                             "--workers",
                             "1,2",
                             "--rounds",
                             "2",
                             "--seconds",
                             "0.1",
                             "--short",
                             "10",
                             "--out",
                             dir,
                             NULL};
    struct bench b = {0};
    run_well(&b, options);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        char *text = read_whole(path);
        ck_assert_msg(strncmp(text, begins[i], strlen(begins[i])) == 0,
                      "%s begins: %.80s", files[i], text);
        free(text);
    }
    ck_assert_msg(strstr(b.text, "| mqredis-worker | none | 10 |"), "%s",
                  b.text);
    free(b.text);
    snprintf(path, sizeof(path), "%s/results.json", dir);
    char *text = read_whole(path);
    size_t at = 0;
    struct json_value *json = json_parse(text, &at);
    ck_assert_msg(json != NULL, "no JSON at byte %zu: %.60s", at, text + at);
    const struct json_value *cells = json_at(json, "tables.0.cells");
    ck_assert_ptr_nonnull(cells);
    ck_assert_uint_eq(cells->count, 4);
    ck_assert_uint_eq(json_at(json, "tables.0.cells.3.rounds")->count, 2);
    json_free(json);
    free(text);
}
END_TEST

START_TEST(test_leaves_nothing_when_interrupted)
{
    const char *options[] = {"--seconds", "100", NULL};
    struct bench b = {0};
    int before = count_folders();
    start(&b, options);
    support_sleep_ms(_i * 300);
    kill(b.pid, SIGINT);
    int code = join(&b);
    ck_assert_msg(code == 130, "exit status %d; it said:\n%s", code, b.text);
    ck_assert_ptr_eq(strstr(b.text, "left behind"), NULL);
    ck_assert_int_le(count_folders(), before);
    free(b.text);
}
END_TEST

START_TEST(test_bad_options_are_told_in_one_line)
{
    static const char *const bad[][3] = {
        {"--contestants", "nobody", NULL}, {"--contestants", "", NULL},
        {"--workers", "0", NULL},          {"--workers", "1,,x", NULL},
        {"--batch", "257", NULL},          {"--seconds", "0", NULL},
        {"--seconds", "nan", NULL},        {"--rounds", "100", NULL},
        {"--value", "-1", NULL},           {"what", NULL, NULL}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bench b = {0};
        start(&b, bad[i]);
        ck_assert_int_eq(join(&b), 64);
        ck_assert_ptr_eq(strchr(b.text, '\n'), b.text + strlen(b.text) - 1);
        free(b.text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bench");
    TCase *tc = support_case(s, "bench", 60);
    /* It compares with the real thing, and does nothing without it. */
    if (installed("redis-server")) {
        tcase_add_test(tc, test_every_contestant_runs_without_an_error);
        tcase_add_test(tc, test_other_loads_run_without_an_error);
        tcase_add_test(tc, test_an_open_loop_keeps_its_rate);
        tcase_add_test(tc, test_writes_tables_json_and_plots);
        tcase_add_loop_test(tc, test_leaves_nothing_when_interrupted, 1, 4);
    } else {
        support_skip("mqredis-bench", "no redis-server");
    }
    tcase_add_test(tc, test_bad_options_are_told_in_one_line);
    return support_run(s);
}
