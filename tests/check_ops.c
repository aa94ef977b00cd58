/* What an operator relies on: the words to systemd, the log, reload, pause,
 * drain, --check-config, the manual page, and what `make install` puts where.
 */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"

#define TIMEOUT_MS 20000

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct e2e_output out;

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
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

/* ---- systemd's side of NOTIFY_SOCKET ---- */

static int notify_fd;

/* What managers started from now on tell arrives at notify_fd. */
static void listen_as_systemd(bool abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[sizeof(address.sun_path)];
    int n = abstract
                ? snprintf(name, sizeof(name), "@mqredis-%ld", (long)getpid())
                : snprintf(name, sizeof(name), "%s", support_path("notify"));
    ck_assert_int_lt(n, (int)sizeof(name));
    memcpy(address.sun_path, name, (size_t)n);
    if (abstract)
        address.sun_path[0] = '\0';
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(notify_fd, 0);
    unlink(name);
    socklen_t len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path)) + (socklen_t)n;
    ck_assert_int_eq(bind(notify_fd, (struct sockaddr *)&address, len), 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

/* The next datagram, within a time; "" if none comes. Static storage. */
static const char *next_word(int timeout_ms)
{
    static char text[1024];
    struct pollfd p = {.fd = notify_fd, .events = POLLIN};
    ssize_t n = 0;
    if (poll(&p, 1, timeout_ms) == 1)
        n = recv(notify_fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The next datagram that is no sign of life begins like this. */
static const char *expect_word(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

static const char *expect_word(const char *fmt, ...)
{
    char wanted[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(wanted, sizeof(wanted), fmt, ap);
    va_end(ap);
    const char *text;
    do
        text = next_word((int)support_wait_ms());
    while (strcmp(text, "WATCHDOG=1") == 0);
    ck_assert_msg(strncmp(text, wanted, strlen(wanted)) == 0,
                  "systemd hears '%s' in place of '%s'", text, wanted);
    return text;
}

START_TEST(test_systemd_hears_of_start_and_end)
{
    listen_as_systemd(_i == 1);
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    expect_word("STATUS=starting, unix://");
    char ready[64];
    snprintf(ready, sizeof(ready), "READY=1\nMAINPID=%ld", (long)manager.pid);
    ck_assert_str_eq(expect_word("READY=1"), ready);
    expect_word("STATUS=connected, unix://");
    e2e_redis_kill(&redis);
    expect_word("STATUS=reconnecting, unix://");
    e2e_redis_restart(&redis);
    expect_word("STATUS=connected, unix://");
    kill(manager.pid, SIGTERM);
    expect_word("STOPPING=1");
    expect_word("STATUS=draining, unix://");
    ck_assert_int_eq(support_join(manager.pid), 0);
}
END_TEST

START_TEST(test_systemd_hears_of_a_reload)
{
    listen_as_systemd(false);
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    expect_word("STATUS=starting");
    expect_word("READY=1");
    expect_word("STATUS=connected");
    unsigned long long before = clock_ns() / 1000, at;
    kill(manager.pid, SIGHUP);
    const char *text = expect_word("RELOADING=1\nMONOTONIC_USEC=");
    ck_assert_int_eq(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%llu", &at), 1);
    ck_assert_uint_ge(at, before);
    ck_assert_uint_le(at, clock_ns() / 1000);
    ck_assert_str_eq(expect_word("READY=1"), "READY=1");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

static int signs_of_life(int count, int timeout_ms)
{
    int seen = 0;
    for (const char *text;
         seen < count && *(text = next_word(timeout_ms)) != '\0';)
        seen += strcmp(text, "WATCHDOG=1") == 0;
    return seen;
}

START_TEST(test_watchdog_gets_signs_of_life)
{
    listen_as_systemd(false);
    setenv("WATCHDOG_USEC", "400000", 1);
    uint64_t t0 = clock_ns();
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    ck_assert_int_eq(signs_of_life(5, (int)support_wait_ms()), 5);
    /* Every half of its period, the first one at once: not all in a burst. */
    ck_assert_uint_ge(clock_ns() - t0, 4 * 200 * NS_PER_MS - 50 * NS_PER_MS);
    /* A manager that does not move gives none. */
    kill(manager.pid, SIGSTOP);
    ck_assert(UNTIL(support_proc_state(manager.pid) == 'T'));
    while (*next_word(0) != '\0')
        ;
    ck_assert_int_eq(signs_of_life(1, 700), 0);
    kill(manager.pid, SIGCONT);
    ck_assert_int_eq(signs_of_life(1, (int)support_wait_ms()), 1);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_watchdog_of_another_process_gets_none)
{
    listen_as_systemd(false);
    setenv("WATCHDOG_USEC", "100000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    ck_assert_int_eq(signs_of_life(1, 500), 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* KillMode=control-group: SIGTERM to every process of the unit. The manager
 * answers; the guardian waits for its end. */
START_TEST(test_sigterm_to_the_whole_group)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    kill(redis.at.pid, SIGSTOP);
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "SET a 1");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    kill(manager.guardian, SIGTERM);
    kill(manager.pid, SIGTERM);
    ck_assert(UNTIL(state() == STATE_DRAINING));
    ck_assert_int_ne(support_proc_state(manager.guardian), '\0');
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_OK);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert_uint_eq(state(), STATE_CLOSED);
}
END_TEST

/* The watchdog's SIGABRT goes to all of them, too: who is queued still gets a
 * certain answer. */
START_TEST(test_sigabrt_to_the_whole_group)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    kill(manager.pid, SIGSTOP);
    ck_assert(UNTIL(support_proc_state(manager.pid) == 'T'));
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "SET a 1");
    ck_assert(e2e_actor_reaches(a, E2E_SENT));
    kill(manager.guardian, SIGABRT);
    kill(manager.pid, SIGABRT);
    kill(manager.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 128 + SIGABRT);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_UNAVAILABLE);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert_uint_eq(state(), STATE_DIED);
}
END_TEST

/* ---- the log ---- */

/* Starts a manager whose standard error is a file that JOURNAL_STREAM names, or
 * (off) does not. */
static void start_with_journal(unsigned long long off)
{
    struct stat st;
    char name[64], stream[64];
    snprintf(name, sizeof(name), "%s", support_name());
    snprintf(manager.log, sizeof(manager.log), "%s", support_path("journal"));
    unlink(manager.log);
    int fd = open(manager.log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(fstat(fd, &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + off);
    setenv("JOURNAL_STREAM", stream, 1);
    const char *const argv[] = {"mqredis-manager",
                                "--redis",
                                e2e_uri(&redis),
                                "--channel",
                                name,
                                "--capacity",
                                "32",
                                "--msgsize",
                                "1024",
                                "--log-level",
                                "debug",
                                NULL};
    manager.pid = e2e_spawn(argv, null, fd);
    close(fd);
    close(null);
    ck_assert(UNTIL(logged("learned the server's commands")));
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(logged("lost the connection")));
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
}

START_TEST(test_journal_lines_have_priorities)
{
    e2e_redis_start(&redis, E2E_REDIS);
    start_with_journal(0);
    ck_assert(logged("<7>learned the server's commands"));
    ck_assert(logged("<4>lost the connection"));
    ck_assert(logged("<6>ended: "));
    ck_assert(!logged("mqredis-manager: "));
    const char *line = e2e_log(&manager);
    for (; *line != '\0'; line = strchr(line, '\n') + 1)
        ck_assert_msg(line[0] == '<' && line[2] == '>', "no priority: %s",
                      line);
}
END_TEST

START_TEST(test_other_logs_have_none)
{
    e2e_redis_start(&redis, E2E_REDIS);
    start_with_journal(1);
    ck_assert(logged("mqredis-manager: debug: learned"));
    ck_assert(logged("mqredis-manager: warning: lost the connection"));
    ck_assert(!logged("<4>"));
}
END_TEST

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
    write_file(path, "first\n");
    e2e_manager_start(&manager, NULL, guarded_uri(), options);
    assert_served("with the first password");

    /* The password changes; what is logged in stays so. */
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass second"),
                     "+OK\r\n");
    assert_served("with the old connection");
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(logged("WRONGPASS")));
    ck_assert(UNTIL(state() == STATE_RECONNECTING));

    /* Not read again before it is told to. */
    write_file(path, "second\r\n");
    support_sleep_ms(300);
    ck_assert_uint_eq(state(), STATE_RECONNECTING);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(state() == STATE_CONNECTED));
    assert_served("with the second password");

    /* Told before the connection is needed: nobody notices. */
    write_file(path, "third");
    kill(manager.pid, SIGHUP);
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass third"),
                     "+OK\r\n");
    uint64_t connects = e2e_counter(&manager, COUNTER_connects);
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                    state() == STATE_CONNECTED));
    assert_served("with the third password");

    /* A file that can't be read changes nothing. */
    unlink(path);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(logged("reload: --password-file")));
    ck_assert(logged("nothing was changed"));
    connects = e2e_counter(&manager, COUNTER_connects);
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                    state() == STATE_CONNECTED));
    assert_served("after a reload that failed");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    /* A password is nothing for a log. */
    ck_assert(!logged("first") && !logged("second") && !logged("third"));
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
    write_file(support_path("hosts"),
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
    ck_assert_msg(
        UNTIL(logged("ready") || waitpid(manager.pid, NULL, WNOHANG) != 0),
        "%s", e2e_log(&manager));
    if (logged("no mount") || logged("unshare: ")) {
        support_skip("test_second_address_is_tried", "no mount namespace here");
        return;
    }
    ck_assert_msg(logged("ready"), "%s", e2e_log(&manager));
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
        ck_assert(UNTIL(state() == STATE_PAUSED));
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
        ck_assert_int_eq(state(), STATE_CONNECTED);
    }
    ck_assert_msg(mqstat("reload") == 0, "%s", out.text);
    ck_assert(logged("reloaded"));
}
END_TEST

START_TEST(test_control_lines_that_are_none)
{
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    char junk[601];
    memset(junk, 'x', sizeof(junk) - 1);
    junk[sizeof(junk) - 1] = '\0';
    say("dance\n");
    ck_assert(UNTIL(logged("not understood: 'dance'")));
    say("pause 3\n");
    say("kill-client\n");
    say("kill-client -1\n");
    say("\n");
    say(junk);
    say("\npause");
    support_sleep_ms(50);
    ck_assert_uint_eq(state(), STATE_CONNECTED);
    say("\n"); /* a line may come in pieces */
    ck_assert(UNTIL(state() == STATE_PAUSED));
    say("resume\npause\nresume\n");
    ck_assert(UNTIL(state() == STATE_CONNECTED));
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
    ck_assert_uint_eq(state(), STATE_DRAINING);
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
    ck_assert(UNTIL(state() == STATE_DRAINING));
    support_sleep_ms(300);
    ck_assert_int_ne(support_proc_state(manager.pid), 'Z');
    ck_assert(logged("SIGTERM: answering 1 commands in flight"));
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
    ck_assert(logged("ending with 1 commands unanswered: --drain-timeout"));
}
END_TEST

START_TEST(test_second_sigterm_ends_at_once)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    hold_one(a, "--drain-timeout 3600000");
    kill(manager.pid, SIGTERM);
    ck_assert(UNTIL(state() == STATE_DRAINING));
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_LOST);
    ck_assert(logged("as told twice"));
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
    write_file(path, "wrong");
    ck_assert_int_eq(
        check_config(guarded_uri(), "new", "--password-file", path), 78);
    assert_checked("redis", "FAILED", "WRONGPASS");
    ck_assert_ptr_null(strstr(out.text, "wrong "));
    write_file(path, "right");
    ck_assert_int_eq(
        check_config(guarded_uri(), "new", "--password-file", path), 0);
    assert_checked("redis", "ok", "logged in");
    ck_assert_int_eq(check_config(guarded_uri(), "new", NULL, NULL), 78);
    assert_checked("redis", "FAILED", "NOAUTH");
}
END_TEST

/* ---- the manual page ---- */

#define PAGE "docs/man/mqredis-manager.8"

/* Whether the page has an item for that option, not only for a longer one. */
static bool documents(const char *page, const char *option, int len)
{
    char wanted[80];
    int n = snprintf(wanted, sizeof(wanted), "\n.It Fl -%.*s", len, option);
    for (const char *at = page; (at = strstr(at, wanted)) != NULL; at += n)
        if (at[n] == ' ' || at[n] == '\n')
            return true;
    return false;
}

START_TEST(test_manual_has_every_option)
{
    static char page[65536];
    int fd = open(PAGE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, page, sizeof(page) - 1);
    ck_assert_msg(n > 0 && n < (ssize_t)sizeof(page) - 1, "%s: %s", PAGE,
                  strerror(errno));
    close(fd);
    const char *const argv[] = {"mqredis-manager", "--help", NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 0);
    int options = 0;
    char wanted[80];
    for (const char *at = out.text; (at = strstr(at, "\n  --")) != NULL;
         options++) {
        at += 5;
        int len = (int)strcspn(at, " \n");
        ck_assert_msg(documents(page, at, len), PAGE " has no --%.*s", len, at);
    }
    ck_assert_int_gt(options, 30);
    /* Nor does it promise any other. */
    for (const char *at = page; (at = strstr(at, "\n.It Fl -")) != NULL;
         options--) {
        at += 9;
        snprintf(wanted, sizeof(wanted), "\n  --%.*s ", (int)strcspn(at, " \n"),
                 at);
        ck_assert_msg(strstr(out.text, wanted) != NULL,
                      PAGE ": no such option: %s", wanted);
    }
    ck_assert_int_eq(options, 0);
}
END_TEST

START_TEST(test_manual_is_clean)
{
    const char *const argv[] = {"mandoc", "-Tlint", "-Wwarning", PAGE, NULL};
    e2e_run(&out, argv);
    if (out.status == 127)
        support_skip("test_manual_is_clean", "mandoc is not installed");
    else
        ck_assert_msg(out.status == 0, "%s", out.text);
}
END_TEST

/* ---- the other pages ---- */

START_TEST(test_operations_page_has_every_counter)
{
    static char page[65536];
    FILE *f = fopen("docs/operations.md", "re");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(page, 1, sizeof(page) - 1, f);
    fclose(f);
    page[n] = '\0';
    const struct {
        const struct status_name *names;
        size_t count;
    } kinds[] = {{status_counters, COUNTER_COUNT},
                 {status_gauges, GAUGE_COUNT},
                 {status_times, TIME_COUNT}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (size_t i = 0; i < kinds[k].count; i++) {
            char wanted[64];
            snprintf(wanted, sizeof(wanted), "`%s`", kinds[k].names[i].name);
            ck_assert_msg(strstr(page, wanted) != NULL,
                          "docs/operations.md has no %s", wanted);
        }
    }
}
END_TEST

/* The failure table names tests; they are to be found. */
START_TEST(test_failure_table_names_tests_that_exist)
{
    static const char script[] =
        "sed -n '/^## When something dies/,/^## Where/p' docs/ARCHITECTURE.md |"
        " grep -oE '`[a-z0-9]+_[a-z0-9_]+`' | tr -d '`' | {"
        " count=0; while read -r name; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/*.c || echo \"no $name\";"
        " done; [ $count -gt 30 ] || echo \"only $count names\"; }";
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}
END_TEST

/* ---- make install ---- */

static bool installed(const char *prefix, const char *path)
{
    char whole[256];
    snprintf(whole, sizeof(whole), "%s/%s", prefix, path);
    return access(whole, R_OK) == 0;
}

/* From what is built: nothing is compiled here (-o all). */
START_TEST(test_installed_unit_is_sound)
{
    const char *build = getenv("MQREDIS_BUILD");
    char prefix[160], prefix_word[192], build_word[256], unit[256];
    snprintf(prefix, sizeof(prefix), "%s", support_path("usr"));
    snprintf(prefix_word, sizeof(prefix_word), "PREFIX=%s", prefix);
    snprintf(build_word, sizeof(build_word), "BUILD=%s",
             build != NULL ? build : "build");
    unsetenv("MAKEFLAGS");
    unsetenv("MAKELEVEL");
    unsetenv("DESTDIR");
    const char *const install[] = {"make",     "-s",        "-o",      "all",
                                   build_word, prefix_word, "install", NULL};
    e2e_run(&out, install);
    ck_assert_msg(out.status == 0, "make install: %s", out.text);
    static const char *const files[] = {
        "bin/mqredis-manager",
        "bin/mqredis-worker",
        "bin/mqstat",
        "lib/libmqredis.so",
        "lib/pkgconfig/mqredis.pc",
        "include/mqredis.h",
        "lib/sysctl.d/60-mqredis.conf",
        "lib/sysusers.d/mqredis.conf",
        "share/man/man8/mqredis-manager.8",
        "share/doc/mqredis/channel.conf",
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        ck_assert_msg(installed(prefix, files[i]), "%s is missing", files[i]);
    /* A template is verified as one of its instances. */
    char instance[256];
    snprintf(unit, sizeof(unit),
             "%s/lib/systemd/system/mqredis-manager@.service", prefix);
    snprintf(instance, sizeof(instance), "%s/mqredis-manager@cache.service",
             prefix);
    ck_assert_int_eq(rename(unit, instance), 0);
    const char *const verify[] = {"systemd-analyze", "verify", "--man=no",
                                  instance, NULL};
    e2e_run(&out, verify);
    if (out.status == 127)
        support_skip("test_installed_unit_is_sound",
                     "systemd-analyze is not installed");
    else
        ck_assert_msg(out.status == 0 &&
                          strstr(out.text, "mqredis-manager@") == NULL,
                      "%s", out.text);
    const char *const uninstall[] = {"make",      "-s",        build_word,
                                     prefix_word, "uninstall", NULL};
    e2e_run(&out, uninstall);
    ck_assert_msg(out.status == 0, "make uninstall: %s", out.text);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        ck_assert_msg(!installed(prefix, files[i]), "%s is left", files[i]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("operations");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_systemd_hears_of_start_and_end, 0, 2);
    tcase_add_test(t, test_systemd_hears_of_a_reload);
    tcase_add_test(t, test_watchdog_gets_signs_of_life);
    tcase_add_test(t, test_watchdog_of_another_process_gets_none);
    tcase_add_test(t, test_sigterm_to_the_whole_group);
    tcase_add_test(t, test_sigabrt_to_the_whole_group);
    tcase_add_test(t, test_journal_lines_have_priorities);
    tcase_add_test(t, test_other_logs_have_none);
    tcase_add_test(t, test_sighup_reads_the_password_again);
    tcase_add_test(t, test_second_address_is_tried);
    tcase_add_test(t, test_pause_and_resume);
    tcase_add_test(t, test_control_lines_that_are_none);
    tcase_add_test(t, test_drain_by_word);
    tcase_add_test(t, test_sigterm_waits_for_what_was_taken);
    tcase_add_test(t, test_drain_timeout_ends_the_wait);
    tcase_add_test(t, test_second_sigterm_ends_at_once);
    tcase_add_test(t, test_check_config);
    tcase_add_test(t, test_check_config_of_a_wrong_password);
    tcase_add_test(t, test_manual_has_every_option);
    tcase_add_test(t, test_manual_is_clean);
    tcase_add_test(t, test_operations_page_has_every_counter);
    tcase_add_test(t, test_failure_table_names_tests_that_exist);
    tcase_add_test(t, test_installed_unit_is_sound);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
