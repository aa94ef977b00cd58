/*
 * mqredis-run, the main job: what it prints, that it leaves nothing, and that
 * it notices when something is not as it must be.
 */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_redis.h"
#include "tests/support_run.h"

#define LEFT_NOTHING                                                           \
    "left behind: no queue, no FIFO, no shared memory, no process\n"

/* A launched mqredis-run and what it prints, both streams in one. */
struct launch {
    pid_t pid;
    int out;
    char text[16384];
    size_t len;
};

static void launch(struct launch *l, const char *const *options)
{
    const char *argv[16];
    char path[512];
    int pipe_fds[2];
    snprintf(path, sizeof(path), "%s/mqredis-run", support_build());
    size_t n = 0;
    argv[n++] = path;
    while (*options != NULL && n < 15)
        argv[n++] = *options++;
    argv[n] = NULL;
    *l = (struct launch){.out = -1};
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    l->pid = fork();
    ck_assert_int_ge(l->pid, 0);
    if (l->pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    l->out = pipe_fds[0];
    fcntl(l->out, F_SETFL, O_NONBLOCK);
}

/* Whether it has printed `text` by now. */
static bool has_said(struct launch *l, const char *text)
{
    ssize_t n;
    while (l->len < sizeof(l->text) - 1 &&
           (n = read(l->out, l->text + l->len, sizeof(l->text) - 1 - l->len)) >
               0)
        l->len += (size_t)n;
    l->text[l->len] = '\0';
    return strstr(l->text, text) != NULL;
}

static int join(struct launch *l)
{
    int status = 0;
    bool ended = false;
    /* It prints less than its pipe holds, so nobody need read meanwhile. */
    for (int tries = 0; tries < 4 && !ended; tries++)
        ended = UNTIL(waitpid(l->pid, &status, WNOHANG) == l->pid);
    has_said(l, "");
    close(l->out);
    if (!ended)
        support_kill(l->pid);
    ck_assert_msg(ended, "did not end; it said:\n%s", l->text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The runtime folders of launchers that are there now: of ours, or of somebody
 * else's. */
static int count_folders(void)
{
    int n = 0;
    DIR *d = opendir("/dev/shm");
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strncmp(e->d_name, "mqredis-run.", 12) == 0;
    closedir(d);
    return n;
}

/* A child of `pid` whose program is `name`; 0: none. */
static pid_t find_child(pid_t pid, const char *name)
{
    char path[64], comm[32];
    int child;
    pid_t found = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
             (int)pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && found == 0 && fscanf(f, "%d", &child) == 1) {
        snprintf(path, sizeof(path), "/proc/%d/comm", child);
        FILE *c = fopen(path, "re");
        if (c != NULL && fgets(comm, sizeof(comm), c) != NULL &&
            strncmp(comm, name, strlen(name)) == 0)
            found = child;
        if (c != NULL)
            fclose(c);
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* Whether it has come to its second part, with workers that are forked copies
 * of itself (any child is one, for a moment, before it becomes its program). */
static bool has_many_workers(struct launch *l)
{
    const char *part = has_said(l, "two workers and their manager: all ended")
                           ? strstr(l->text, "all ended")
                           : NULL;
    return part != NULL && strstr(part, "mqredis-manager: ready") != NULL &&
           find_child(l->pid, "mqredis-run") > 0;
}

static const char *const small[] = {"--workers", "8", "--commands", "50", NULL};

static void assert_good(struct launch *l)
{
    int code = join(l);
    ck_assert_msg(code == 0, "exit status %d; it said:\n%s", code, l->text);
    ck_assert_msg(strstr(l->text, "GOT (Set) = OK\nGOT (Get) = (nil)\n"), "%s",
                  l->text);
    ck_assert_msg(strstr(l->text, "commands 400, errors 0, "), "%s", l->text);
    ck_assert_msg(strstr(l->text, LEFT_NOTHING), "%s", l->text);
}

START_TEST(test_runs_with_the_embedded_server)
{
    struct launch l;
    int before = count_folders();
    launch(&l, small);
    assert_good(&l);
    ck_assert_int_le(count_folders(), before);
}
END_TEST

START_TEST(test_runs_with_a_real_redis)
{
    struct redis redis;
    struct launch l;
    char uri[160];
    if (!redis_start(&redis, "run", NULL)) {
        support_skip("test_runs_with_a_real_redis", "no redis-server");
        return;
    }
    snprintf(uri, sizeof(uri), "unix://%s", redis.path);
    const char *options[] = {"--redis",    uri,  "--workers", "8",
                             "--commands", "50", NULL};
    launch(&l, options);
    assert_good(&l);
    ck_assert_ptr_eq(strstr(l.text, "mqredis-server"), NULL);

    /* Nothing but the tutorial's own key stays in a user's database. */
    struct redis_link link;
    redis_link_open(&link, &redis);
    ck_assert_str_eq(redis_link_ask(&link, "KEYS *"), "*1\r\n$3\r\nfoo\r\n");
    redis_link_close(&link);
    redis_stop(&redis);
}
END_TEST

/* At every moment: while starting, between the parts, in the middle. */
static const char *const moments[] = {"", "ready on", "GOT (Get)", "ended",
                                      "workers: "};

START_TEST(test_leaves_nothing_when_interrupted)
{
    const char *moment = moments[_i];
    const char *options[] = {"--commands", "1000000", NULL};
    struct launch l;
    int before = count_folders();
    launch(&l, options);
    if (_i == 4) /* its first line of progress may take long */
        ck_assert_msg(UNTIL(has_many_workers(&l)), "%s", l.text);
    else
        ck_assert_msg(UNTIL(has_said(&l, moment)), "%s", l.text);
    support_sleep_ms(*moment == '\0' ? 20 : 0);
    kill(l.pid, SIGINT);
    int code = join(&l);
    /* In its first moments it is not ours to say what SIGINT does. */
    if (*moment == '\0' && code == 128 + SIGINT && l.len == 0)
        return;
    ck_assert_msg(code == 130, "exit status %d; it said:\n%s", code, l.text);
    ck_assert_msg(strstr(l.text, LEFT_NOTHING), "%s", l.text);
    ck_assert_int_le(count_folders(), before);
}
END_TEST

START_TEST(test_says_when_the_manager_was_killed)
{
    const char *options[] = {"--commands", "1000000", NULL};
    struct launch l;
    launch(&l, options);
    ck_assert_msg(UNTIL(has_many_workers(&l)), "%s", l.text);
    pid_t manager = find_child(l.pid, "mqredis-manager");
    ck_assert_int_gt(manager, 0);
    support_sleep_ms(50);
    kill(manager, SIGKILL);
    int code = join(&l);
    ck_assert_msg(code == 1, "exit status %d; it said:\n%s", code, l.text);
    ck_assert_msg(strstr(l.text, "mqredis-manager: killed by signal 9"), "%s",
                  l.text);
    ck_assert_ptr_eq(strstr(l.text, "errors 0,"), NULL);
}
END_TEST

START_TEST(test_bad_options_are_told_in_one_line)
{
    static const char *const bad[][3] = {
        {"--workers", "many", NULL}, {"--workers", "513", NULL},
        {"--commands", "0", NULL},   {"--commands", "-1", NULL},
        {"--no-such", NULL, NULL},   {"what", NULL, NULL}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct launch l;
        launch(&l, bad[i]);
        ck_assert_int_eq(join(&l), 64);
        ck_assert_ptr_eq(strchr(l.text, '\n'), l.text + l.len - 1);
    }
}
END_TEST

START_TEST(test_bad_redis_uri_is_told_once)
{
    const char *options[] = {"--redis", "http://somewhere", NULL};
    struct launch l;
    launch(&l, options);
    ck_assert_int_eq(join(&l), 1);
    ck_assert_msg(strstr(l.text, "mqredis-manager did not start: exit status"),
                  "%s", l.text);
    ck_assert_msg(strstr(l.text, LEFT_NOTHING), "%s", l.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("run");
    TCase *tc = support_case(s, "run", 60);
    tcase_add_test(tc, test_runs_with_the_embedded_server);
    tcase_add_test(tc, test_runs_with_a_real_redis);
    tcase_add_loop_test(tc, test_leaves_nothing_when_interrupted, 0,
                        (int)(sizeof(moments) / sizeof(moments[0])));
    tcase_add_test(tc, test_says_when_the_manager_was_killed);
    tcase_add_test(tc, test_bad_options_are_told_in_one_line);
    tcase_add_test(tc, test_bad_redis_uri_is_told_once);
    return support_run(s);
}
