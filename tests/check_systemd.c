/* What systemd and the journal see of a manager, and the unit that `make
 * install` puts there. */
#include "tests/e2e.h"

#include <fcntl.h>
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
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct e2e_output out;

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
    /* Who hears that it is ready must not find another state. */
    expect_word("STATUS=connected, unix://");
    char ready[64];
    snprintf(ready, sizeof(ready), "READY=1\nMAINPID=%ld", (long)manager.pid);
    ck_assert_str_eq(expect_word("READY=1"), ready);
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
    expect_word("STATUS=connected");
    expect_word("READY=1");
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
    support_stop(manager.pid);
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
    ck_assert(UNTIL(e2e_state(&manager) == STATE_DRAINING));
    ck_assert_int_ne(support_proc_state(manager.guardian), '\0');
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_OK);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert_uint_eq(e2e_state(&manager), STATE_CLOSED);
}
END_TEST

/* The watchdog's SIGABRT goes to all of them, too: who is queued still gets a
 * certain answer. */
START_TEST(test_sigabrt_to_the_whole_group)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    support_stop(manager.pid);
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "SET a 1");
    ck_assert(e2e_actor_reaches(a, E2E_SENT));
    kill(manager.guardian, SIGABRT);
    kill(manager.pid, SIGABRT);
    kill(manager.pid, SIGCONT);
    ck_assert_int_eq(support_join(manager.pid), 128 + SIGABRT);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_UNAVAILABLE);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert_uint_eq(e2e_state(&manager), STATE_DIED);
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
    ck_assert(UNTIL(e2e_logged(&manager, "learned the server's commands")));
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(e2e_logged(&manager, "lost the connection")));
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
}

START_TEST(test_journal_lines_have_priorities)
{
    e2e_redis_start(&redis, E2E_REDIS);
    start_with_journal(0);
    ck_assert(e2e_logged(&manager, "<7>learned the server's commands"));
    ck_assert(e2e_logged(&manager, "<4>lost the connection"));
    ck_assert(e2e_logged(&manager, "<6>ended: "));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: "));
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
    ck_assert(e2e_logged(&manager, "mqredis-manager: debug: learned"));
    ck_assert(
        e2e_logged(&manager, "mqredis-manager: warning: lost the connection"));
    ck_assert(!e2e_logged(&manager, "<4>"));
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
    char prefix[160], prefix_word[192], build_word[256], unit[256];
    snprintf(prefix, sizeof(prefix), "%s", support_path("usr"));
    snprintf(prefix_word, sizeof(prefix_word), "PREFIX=%s", prefix);
    snprintf(build_word, sizeof(build_word), "BUILD=%s", support_build());
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
    Suite *s = suite_create("systemd");
    TCase *t = support_case(s, "operations", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_loop_test(t, test_systemd_hears_of_start_and_end, 0, 2);
    tcase_add_test(t, test_systemd_hears_of_a_reload);
    tcase_add_test(t, test_watchdog_gets_signs_of_life);
    tcase_add_test(t, test_watchdog_of_another_process_gets_none);
    tcase_add_test(t, test_sigterm_to_the_whole_group);
    tcase_add_test(t, test_sigabrt_to_the_whole_group);
    tcase_add_test(t, test_journal_lines_have_priorities);
    tcase_add_test(t, test_other_logs_have_none);
    tcase_add_test(t, test_installed_unit_is_sound);
    return s;
}

int main(void)
{
    return support_run(suite());
}
