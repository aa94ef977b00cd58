/* What an operator relies on: reload, pause, drain, SIGTERM, --check-config.
 * What systemd sees is in check_systemd, the pages in check_manual. */
#include "tests/e2e.h"

#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct e2e_output out;

/* ---- SIGHUP ---- */

/* A redis-server with a password, and our own connection to it. */
static struct redis guarded;
static struct redis_link boss;

static bool start_guarded(const char *password)
{
    if (!redis_start(&guarded, "guarded", NULL)) {
        support_skip("reload", "no redis-server is installed");
        return false;
    }
    char command[80];
    redis_link_open(&boss, &guarded);
    snprintf(command, sizeof(command), "CONFIG SET requirepass %s", password);
    ck_assert_str_eq(redis_link_ask(&boss, command), "+OK\r\n");
    return true;
}

static const char *guarded_uri(void)
{
    static char uri[sizeof(guarded.path) + 16];
    snprintf(uri, sizeof(uri), "unix://%s", guarded.path);
    return uri;
}

static void assert_served(const char *name)
{
    static struct e2e_client client;
    static struct e2e_call call;
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    ck_assert_msg(e2e_ask(&client, &call, TIMEOUT_MS, "PING") == E2E_OK &&
                      e2e_is(&call, "+PONG\r\n"),
                  "%s: %s", name, call.text);
    e2e_client_close(&client);
}

START_TEST(test_sighup_reads_the_password_again)
{
    if (!start_guarded("first"))
        return;
    char path[160], options[256];
    snprintf(path, sizeof(path), "%s", support_path("password"));
    snprintf(options, sizeof(options), "--reconnect-max 100 --password-file %s",
             path);
    support_write_file(AT_FDCWD, path, "first\n");
    e2e_manager_start(&manager, NULL, guarded_uri(), options);
    assert_served("with the first password");

    /* The password changes; what is logged in stays so. */
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass second"),
                     "+OK\r\n");
    assert_served("with the old connection");
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_logged(&manager, "WRONGPASS")));
    ck_assert(UNTIL(e2e_state(&manager) == STATE_RECONNECTING));

    /* Not read again before it is told to. */
    support_write_file(AT_FDCWD, path, "second\r\n");
    support_sleep_ms(300);
    ck_assert_uint_eq(e2e_state(&manager), STATE_RECONNECTING);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_CONNECTED));
    assert_served("with the second password");

    /* Told before the connection is needed: nobody notices. */
    support_write_file(AT_FDCWD, path, "third");
    kill(manager.pid, SIGHUP);
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass third"),
                     "+OK\r\n");
    uint64_t connects = e2e_counter(&manager, COUNTER_connects);
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                    e2e_state(&manager) == STATE_CONNECTED));
    assert_served("with the third password");

    /* A file that can't be read changes nothing. */
    unlink(path);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "reload: --password-file")));
    ck_assert(e2e_logged(&manager, "nothing was changed"));
    connects = e2e_counter(&manager, COUNTER_connects);
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                    e2e_state(&manager) == STATE_CONNECTED));
    assert_served("after a reload that failed");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    /* A password is nothing for a log. */
    ck_assert(!e2e_logged(&manager, "first") &&
              !e2e_logged(&manager, "second") &&
              !e2e_logged(&manager, "third"));
}
END_TEST

/* ---- hosts with two addresses ---- */

static bool listen_at(int family, const void *address, socklen_t len, int *fd)
{
    *fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (*fd >= 0 && family == AF_INET6)
        setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
    return *fd >= 0 && bind(*fd, address, len) == 0 && listen(*fd, 8) == 0;
}

/* Something takes connections at the first address and never says a word. */
START_TEST(test_second_address_is_tried)
{
    struct sockaddr_in6 dumb = {.sin6_family = AF_INET6,
                                .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof(dumb);
    int fd;
    if (!listen_at(AF_INET6, &dumb, len, &fd) ||
        getsockname(fd, (struct sockaddr *)&dumb, &len) < 0) {
        support_skip("test_second_address_is_tried", "no IPv6 here");
        return;
    }
    char options[64], uri[64], script[768];
    int port = ntohs(dumb.sin6_port);
    snprintf(options, sizeof(options), "--bind 127.0.0.1 --port %d", port);
    if (!redis_start(&guarded, "second", options))
        return;
    snprintf(uri, sizeof(uri), "redis://two.example:%d", port);
    support_write_file(AT_FDCWD, support_path("hosts"),
                       "::1 two.example\n127.0.0.1 two.example\n");
    snprintf(script, sizeof(script),
             "mount --bind %s /etc/hosts || { echo no mount; exit 0; }; "
             "exec \"$MQREDIS_BUILD\"/mqredis-manager --msgsize 1024 "
             "--channel two --connect-timeout 300 --reconnect-max 100 "
             "--redis %s",
             support_path("hosts"), uri);
    const char *const argv[] = {"unshare", "--mount", "sh", "-c", script, NULL};
    snprintf(manager.log, sizeof(manager.log), "%s", support_path("two.log"));
    int log =
        open(manager.log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    manager.pid = e2e_spawn(argv, log, log);
    close(log);
    ck_assert_msg(UNTIL(e2e_logged(&manager, "ready") ||
                        waitpid(manager.pid, NULL, WNOHANG) != 0),
                  "%s", e2e_log(&manager));
    if (e2e_logged(&manager, "no mount") || e2e_logged(&manager, "unshare: ")) {
        support_skip("test_second_address_is_tried", "no mount namespace here");
        return;
    }
    ck_assert_msg(e2e_logged(&manager, "ready"), "%s", e2e_log(&manager));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    redis_stop(&guarded);
    close(fd);
}
END_TEST

/* ---- pause, resume, drain ---- */

static int mqstat(const char *verb)
{
    const char *const argv[] = {"mqstat", verb, manager.channel, NULL};
    e2e_run(&out, argv);
    return out.status;
}

/* The bare FIFO, as `echo pause >control` writes to it. */
static void say(const char *line)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s/control", getenv("MQREDIS_DIR"),
             manager.channel);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    close(fd);
}

START_TEST(test_pause_and_resume)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            ck_assert_msg(mqstat("pause") == 0, "%s", out.text);
        else
            say("pause\n");
        ck_assert(UNTIL(e2e_state(&manager) == STATE_PAUSED));
        uint64_t taken = e2e_counter(&manager, COUNTER_taken);
        e2e_actor_start(a, manager.channel, TIMEOUT_MS, "INCR n");
        ck_assert(e2e_actor_reaches(a, E2E_SENT));
        support_sleep_ms(100);
        ck_assert_int_eq(a->stage, E2E_SENT);
        ck_assert_uint_eq(e2e_counter(&manager, COUNTER_taken), taken);
        if (i == 0)
            ck_assert_msg(mqstat("resume") == 0, "%s", out.text);
        else
            say("resume\n");
        ck_assert(e2e_actor_reaches(a, E2E_DONE));
        ck_assert_int_eq(support_join(a->pid), 0);
        ck_assert_int_eq(a->end, E2E_OK);
        ck_assert(UNTIL(e2e_state(&manager) == STATE_CONNECTED));
    }
    ck_assert_msg(mqstat("reload") == 0, "%s", out.text);
    ck_assert(UNTIL(e2e_logged(&manager, "reloaded")));
}
END_TEST

START_TEST(test_control_lines_that_are_none)
{
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    char junk[601];
    memset(junk, 'x', sizeof(junk) - 1);
    junk[sizeof(junk) - 1] = '\0';
    say("dance\n");
    ck_assert(UNTIL(e2e_logged(&manager, "not understood: 'dance'")));
    say("pause 3\n");
    say("kill-client\n");
    say("kill-client -1\n");
    say("\n");
    say(junk);
    say("\npause");
    support_sleep_ms(50);
    ck_assert_uint_eq(e2e_state(&manager), STATE_CONNECTED);
    say("\n"); /* a line may come in pieces */
    ck_assert(UNTIL(e2e_state(&manager) == STATE_PAUSED));
    say("resume\npause\nresume\n");
    ck_assert(UNTIL(e2e_state(&manager) == STATE_CONNECTED));
    assert_served("after junk");
}
END_TEST

START_TEST(test_drain_by_word)
{
    struct e2e_actor *a = support_shared(2 * sizeof(*a));
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    kill(redis.at.pid, SIGSTOP);
    e2e_actor_start(&a[0], manager.channel, TIMEOUT_MS, "INCR n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    ck_assert_msg(mqstat("drain") == 0, "%s", out.text);
    ck_assert_uint_eq(e2e_state(&manager), STATE_DRAINING);
    e2e_actor_start(&a[1], manager.channel, TIMEOUT_MS, "INCR n");
    ck_assert(e2e_actor_reaches(&a[1], E2E_SENT));
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a[0].pid), 0);
    ck_assert_int_eq(support_join(a[1].pid), 0);
    ck_assert_int_eq(a[0].end, E2E_OK);
    ck_assert_int_eq(a[1].end, E2E_UNAVAILABLE);
    ck_assert_int_ne(mqstat("pause"), 0);
}
END_TEST

/* What logind does to the queues of a user who is no longer logged in: no new
 * sender would find it. It ends, after what it took, and the next one serves.
 */
START_TEST(test_a_queue_that_is_removed_ends_the_manager)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    struct manager_state state;
    char channel[sizeof(manager.channel)];
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    snprintf(channel, sizeof(channel), "%s", manager.channel);
    kill(redis.at.pid, SIGSTOP);
    e2e_actor_start(a, channel, TIMEOUT_MS, "INCR n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    ck_assert_int_eq(status_read_state(manager.status, &state, NULL), ERR_OK);
    ck_assert_int_eq(mq_unlink(state.queue), 0);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_DRAINING));
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), EX_UNAVAILABLE);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_OK);
    ck_assert(e2e_logged(&manager, "was removed under us"));
    e2e_manager_start(&manager, channel, e2e_uri(&redis), NULL);
    assert_served("after the queue was removed");
}
END_TEST

/* ---- SIGTERM ---- */

/* A manager with one command in flight at a Redis that does not answer. */
static void hold_one(struct e2e_actor *a, const char *options)
{
    e2e_start(&redis, &manager, E2E_MQREDIS, options);
    kill(redis.at.pid, SIGSTOP);
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "INCR n");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
}

START_TEST(test_sigterm_waits_for_what_was_taken)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    hold_one(a, "--drain-timeout 60000");
    kill(manager.pid, SIGTERM);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_DRAINING));
    support_sleep_ms(300);
    ck_assert_int_ne(support_proc_state(manager.pid), 'Z');
    ck_assert(
        UNTIL(e2e_logged(&manager, "SIGTERM: answering 1 commands in flight")));
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_OK);
}
END_TEST

START_TEST(test_drain_timeout_ends_the_wait)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    hold_one(a, "--drain-timeout 300");
    uint64_t t0 = clock_ns();
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_uint_ge(clock_ns() - t0, 290 * NS_PER_MS);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_LOST);
    ck_assert(e2e_logged(&manager,
                         "ending with 1 commands unanswered: --drain-timeout"));
}
END_TEST

START_TEST(test_second_sigterm_ends_at_once)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    hold_one(a, "--drain-timeout 3600000");
    kill(manager.pid, SIGTERM);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_DRAINING));
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_LOST);
    ck_assert(e2e_logged(&manager, "as told twice"));
    ck_assert(e2e_guardian_gone(&manager));
}
END_TEST

/* ---- --check-config ---- */

static int check_config(const char *uri, const char *channel,
                        const char *option, const char *value)
{
    const char *const argv[] = {"mqredis-manager",
                                "--check-config",
                                "--redis",
                                uri,
                                "--channel",
                                channel,
                                "--connect-timeout",
                                "2000",
                                "--msgsize",
                                "1024",
                                option,
                                value,
                                NULL};
    e2e_run(&out, argv);
    return out.status;
}

/* A line that begins so says `ok` or `FAILED`, and mentions something. */
static void assert_checked(const char *what, const char *verdict,
                           const char *mentions)
{
    char begin[64], line[512] = "";
    snprintf(begin, sizeof(begin), "%-10s %-7s ", what, verdict);
    const char *at = strstr(out.text, begin);
    if (at != NULL)
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
    ck_assert_msg(strstr(line, mentions) != NULL && *line != '\0',
                  "'%s...%s' is not in:\n%s", begin, mentions, out.text);
}

START_TEST(test_check_config)
{
    const char *dir = getenv("MQREDIS_DIR");
    int before = support_count_entries(dir);
    e2e_redis_start(&redis, E2E_MQREDIS);
    before++; /* its socket */
    ck_assert_int_eq(check_config(e2e_uri(&redis), "new", NULL, NULL), 0);
    assert_checked("channel", "ok", "/new");
    assert_checked("queue", "ok", "x 1024 bytes");
    assert_checked("redis", "ok", "logged in");
    ck_assert_uint_eq(e2e_lines(out.text), 3);
    /* Nothing was made. */
    ck_assert_int_eq(support_count_entries(dir), before);

    /* More than any limit of queues allows. */
    ck_assert_int_eq(
        check_config(e2e_uri(&redis), "new", "--capacity", "65536"), 78);
    assert_checked("queue", "FAILED", "65536 x 1024 bytes: ");
    assert_checked("redis", "ok", "logged in");

    /* Nobody there. */
    ck_assert_int_eq(check_config("unix:///nowhere/at/all", "new", NULL, NULL),
                     78);
    assert_checked("queue", "ok", "");
    assert_checked("redis", "FAILED", "/nowhere/at/all");

    /* A channel that is served is told of, and left alone. */
    e2e_manager_start(&manager, NULL, e2e_uri(&redis), NULL);
    ck_assert_int_eq(check_config(e2e_uri(&redis), manager.channel, NULL, NULL),
                     0);
    assert_checked("channel", "ok", "served now by a manager");
    assert_served("after a check");
}
END_TEST

START_TEST(test_check_config_of_a_wrong_password)
{
    if (!start_guarded("right"))
        return;
    char path[160];
    snprintf(path, sizeof(path), "%s", support_path("password"));
    support_write_file(AT_FDCWD, path, "wrong");
    ck_assert_int_eq(
        check_config(guarded_uri(), "new", "--password-file", path), 78);
    assert_checked("redis", "FAILED", "WRONGPASS");
    ck_assert_ptr_null(strstr(out.text, "wrong "));
    support_write_file(AT_FDCWD, path, "right");
    ck_assert_int_eq(
        check_config(guarded_uri(), "new", "--password-file", path), 0);
    assert_checked("redis", "ok", "logged in");
    ck_assert_int_eq(check_config(guarded_uri(), "new", NULL, NULL), 78);
    assert_checked("redis", "FAILED", "NOAUTH");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops");
    TCase *t = support_case(s, "operations", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_sighup_reads_the_password_again);
    tcase_add_test(t, test_second_address_is_tried);
    tcase_add_test(t, test_pause_and_resume);
    tcase_add_test(t, test_control_lines_that_are_none);
    tcase_add_test(t, test_drain_by_word);
    tcase_add_test(t, test_a_queue_that_is_removed_ends_the_manager);
    tcase_add_test(t, test_sigterm_waits_for_what_was_taken);
    tcase_add_test(t, test_drain_timeout_ends_the_wait);
    tcase_add_test(t, test_second_sigterm_ends_at_once);
    tcase_add_test(t, test_check_config);
    tcase_add_test(t, test_check_config_of_a_wrong_password);
    return s;
}

int main(void)
{
    return support_run(suite());
}
