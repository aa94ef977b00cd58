/* `mqredis-worker subscribe`, as a program. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/pubsub_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

struct worker {
    pid_t pid;
    char out[200], err[200];
};

static void start_worker(struct worker *w, const char *const *words)
{
    static unsigned count;
    const char *argv[E2E_ARGS_MAX + 1] = {"mqredis-worker", "--channel",
                                          manager.channel};
    size_t n = 3;
    while (*words != NULL && n < E2E_ARGS_MAX)
        argv[n++] = *words++;
    snprintf(w->out, sizeof(w->out), "%s/out%u", support_scratch(), ++count);
    snprintf(w->err, sizeof(w->err), "%s/err%u", support_scratch(), count);
    int out = open(w->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int err = open(w->err, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    w->pid = e2e_spawn(argv, out, err);
    close(out);
    close(err);
}

/* What a file holds, in static storage. */
static const char *content(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(test_worker_prints_what_comes)
{
    struct worker w = {0};
    begin(_i, NULL);
    start_worker(
        &w, (const char *const[]){"--no-raw", "subscribe", "a", "b", NULL});
    ck_assert(UNTIL(strstr(content(w.out), "(integer) 2")));
    redis_link_ask(&publisher, "PUBLISH a hello");
    static const char expected[] =
        "1) \"subscribe\"\n2) \"a\"\n3) (integer) 1\n"
        "1) \"subscribe\"\n2) \"b\"\n3) (integer) 2\n"
        "1) \"message\"\n2) \"a\"\n3) \"hello\"\n";
    ck_assert(UNTIL(strlen(content(w.out)) >= strlen(expected)));
    ck_assert_str_eq(content(w.out), expected);
    kill(w.pid, SIGTERM);
    ck_assert_int_eq(support_join(w.pid), 0);
    ck_assert_str_eq(content(w.err), "");
    ck_assert(UNTIL(numsub("a") == 0));
    start_worker(&w, (const char *const[]){"PSUBSCRIBE", "h*", NULL});
    ck_assert(UNTIL(strstr(content(w.out), "psubscribe\nh*\n1\n")));
    redis_link_ask(&publisher, "PUBLISH here x");
    ck_assert(UNTIL(strstr(content(w.out), "pmessage\nh*\nhere\nx\n")));
    kill(w.pid, SIGINT);
    ck_assert_int_eq(support_join(w.pid), 0);
}
END_TEST

START_TEST(test_worker_says_what_is_missing)
{
    struct worker w = {0};
    struct e2e_manager next;
    begin(_i, "--subscriber-backlog 10");
    start_worker(&w, (const char *const[]){"subscribe", "news", NULL});
    ck_assert(UNTIL(strstr(content(w.out), "subscribe\nnews\n1\n")));
    support_stop(w.pid);
    publish(&publisher, "news", 0, 3000, 16);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_pubsub_messages) == 3000));
    kill(w.pid, SIGCONT);
    ck_assert(UNTIL(strstr(content(w.err), "messages were dropped here")));
    char line[64];
    snprintf(line, sizeof(line), "lagged: %llu messages",
             (unsigned long long)e2e_counter(&manager, COUNTER_pubsub_lagged));
    ck_assert_msg(strstr(content(w.err), line) != NULL, "%s: %s", line,
                  content(w.err));
    /* And goes on with whoever takes the channel over. */
    e2e_manager_start(&next, manager.channel, e2e_uri(&redis), "--takeover");
    ck_assert(UNTIL(strstr(content(w.err), "gap: nobody listened")));
    redis_link_ask(&publisher, "PUBLISH news at-last");
    ck_assert(UNTIL(strstr(content(w.out), "at-last")));
    /* Nobody is left: status 69 once its time is over. */
    ck_assert_int_eq(e2e_manager_stop(&next), 0);
    ck_assert_int_eq(support_join(w.pid), 69);
    ck_assert_ptr_nonnull(strstr(content(w.err), "no manager"));
}
END_TEST

/* The program has --timeout for it, not only as long as it looks for a manager
 * between two signals. */
START_TEST(test_worker_subscribes_again_when_redis_is_slow)
{
    struct worker w = {0};
    struct e2e_manager next;
    begin(_i, NULL);
    start_worker(&w, (const char *const[]){"--timeout", "20000", "subscribe",
                                           "news", NULL});
    /* Redis knows it before the program does, for which a manager that ends
     * between the two was none. */
    ck_assert(UNTIL(strstr(content(w.out), "subscribe\nnews\n1\n")));
    e2e_manager_kill(&manager);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert(UNTIL(numsub("news") == 0));
    support_stop(redis.at.pid);
    e2e_manager_launch(&next, manager.channel, e2e_uri(&redis), NULL);
    support_sleep_ms(700);
    kill(redis.at.pid, SIGCONT);
    e2e_manager_ready(&next);
    ck_assert_msg(UNTIL(numsub("news") == 1), "%s", content(w.err));
    ck_assert_int_eq(kill(w.pid, SIGTERM), 0);
    ck_assert_int_eq(support_join(w.pid), 0);
}
END_TEST

/* A reader of its output that does not read must not keep it from ending. */
START_TEST(test_worker_ends_while_its_output_is_full)
{
    int fds[2];
    if (SUPPORT_LATE_HANDLERS) {
        support_skip("test_worker_ends_while_its_output_is_full",
                     "the handler that ends the write would run after it");
        return;
    }
    begin(_i, NULL);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    const char *const argv[] = {"mqredis-worker", "--channel", manager.channel,
                                "subscribe",      "news",      NULL};
    pid_t pid = e2e_spawn(argv, fds[1], STDERR_FILENO);
    close(fds[1]);
    ck_assert(UNTIL(numsub("news") == 1));
    publish(&publisher, "news", 0, 200, 10000);
    ck_assert(support_sleeps_in(pid, SYS_write));
    kill(pid, SIGTERM);
    ck_assert_int_eq(support_join(pid), 0);
    close(fds[0]);
}
END_TEST

START_TEST(test_worker_statuses)
{
    static const struct {
        const char *words[5];
        int status;
        const char *text;
    } table[] = {
        {{"subscribe"}, 1, "at least one name"},
        {{"UNSUBSCRIBE", "a"}, 1, "stream is closed"},
        {{"--channel", "nobody", "subscribe", "a"}, 69, "no manager"},
    };
    begin(_i, NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct worker w = {0};
        start_worker(&w, table[i].words);
        ck_assert_int_eq(support_join(w.pid), table[i].status);
        ck_assert_msg(strstr(content(w.err), table[i].text) != NULL, "%s",
                      content(w.err));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pubsub_worker");
    TCase *t = support_case(s, "worker", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_worker_prints_what_comes);
    e2e_add(t, test_worker_says_what_is_missing);
    e2e_add(t, test_worker_subscribes_again_when_redis_is_slow);
    e2e_add(t, test_worker_ends_while_its_output_is_full);
    e2e_add(t, test_worker_statuses);
    return support_run(s);
}
