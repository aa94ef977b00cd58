/* What is shown, and to whom: bytes of others do not reach a terminal as
 * orders, and secrets (passwords, client ids, keys and values) are not shown at
 * all. */
#include "tests/e2e.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/err.h"
#include "ipc/printable.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

/* A title, a colour, and a clear screen that begins with one byte (C1). */
#define HOSTILE "\x1b]0;owned\x07\x1b[31m\xc2\x9b"

/* ---- characters ---- */

START_TEST(test_what_a_terminal_obeys_is_replaced)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"", ""},
        {"plain ~", "plain ~"},
        {"\x1b[2J", "?[2J"},
        {"a\tb\nc\rd\x7f", "a?b?c?d?"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x9b"
         "2J",
         "??2J"}, /* CSI as one character */
        {"\x9b"
         "2J",
         "?2J"},                      /* as one byte */
        {"\xc0\x9b", "??"},           /* too long a form of ESC */
        {"\xe0\x80\x9b", "???"},      /* longer still */
        {"\xed\xa0\x80", "???"},      /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "????"}, /* beyond Unicode */
        {"\xe2\x80\xae"
         "gpj",
         "???gpj"}, /* turns the direction */
        {"cut \xe2\x82", "cut ??"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        strcpy(text, cases[i].text);
        printable_only(text, strlen(text));
        ck_assert_str_eq(text, cases[i].shown);
    }
    struct err_text why;
    ck_assert_int_eq(err_say(&why, ERR_SYS, "no folder %s", "\x1b[2Jx"),
                     ERR_SYS);
    ck_assert_str_eq(why.text, "no folder ?[2Jx");
}
END_TEST

static bool harmless(const char *text, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        at += printable_span(text + at, len - at);
        if (at < len && strchr("\r\n\t", text[at]) == NULL)
            return false;
    }
    return true;
}

/* ---- a program on a terminal ---- */

/* What it shows there until its end; its own escapes included. */
static const char *on_terminal(size_t *len, const char *const argv[])
{
    static char text[65536];
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", support_build(), argv[0]);
    int fd;
    fflush(NULL);
    pid_t pid = forkpty(&fd, NULL, NULL, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        union {
            const char *const *in;
            char *const *out;
        } cast = {.in = argv}; /* execv changes none of them */
        setenv("TERM", "xterm", 1);
        execv(path, cast.out);
        _exit(127);
    }
    *len = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)support_wait_ms()) != 1)
            break;
        ssize_t n = read(fd, text + *len, sizeof(text) - 1 - *len);
        if (n <= 0)
            break; /* EIO: the other side is closed */
        *len += (size_t)n;
    }
    text[*len] = '\0';
    support_join(pid);
    close(fd);
    return text;
}

/* What a server may answer: values in quotes, and all that has none. */
START_TEST(test_replies_on_a_terminal)
{
    struct e2e_redis redis;
    struct e2e_manager manager;
    e2e_start(&redis, &manager, E2E_REDIS, "--resp 3");
#define LUA "'\\27]0;owned\\7\\27[31m\\194\\155'"
    static const char *const scripts[] = {
        "return " LUA,
        "return redis.error_reply('ERR ' .. " LUA ")",
        "return redis.status_reply(" LUA ")",
        "return {{" LUA "}}",
        "redis.setresp(3) return {big_number=" LUA "}",
        "redis.setresp(3) return {verbatim_string={format='txt',string=" LUA
        "}}",
        "redis.setresp(3) return {map={[" LUA "]=1}}",
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        size_t len;
        const char *const argv[] = {"mqredis-worker",
                                    "-c",
                                    manager.channel,
                                    "EVAL",
                                    scripts[i],
                                    "0",
                                    NULL};
        const char *text = on_terminal(&len, argv);
        ck_assert_msg(harmless(text, len), "script %zu: %s", i, text);
        ck_assert_msg(strstr(text, "\\x1b]0;owned\\a") != NULL, "%zu: %s", i,
                      text);
    }
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Errors of our own quote what they were given. */
START_TEST(test_errors_on_a_terminal)
{
    const char *const lines[][4] = {
        {"mqredis-worker", "-c", "./" HOSTILE, "PING"},
        {"mqredis-worker", "-c", HOSTILE, "PING"},
        {"mqredis-worker", "--timeout", HOSTILE, "PING"},
        {"mqredis-manager", "--channel", HOSTILE, NULL},
        {"mqredis-manager", "--" HOSTILE, NULL, NULL},
        {"mqredis-manager", "--redis", "redis://" HOSTILE, NULL},
        {"mqredis-manager", "--deny", HOSTILE, NULL},
        {"mqredis-manager", "--password-file", HOSTILE, NULL},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *const argv[] = {lines[i][0], lines[i][1], lines[i][2],
                                    lines[i][3], NULL};
        size_t len;
        const char *text = on_terminal(&len, argv);
        ck_assert_msg(len > 20 && harmless(text, len), "line %zu: %s", i, text);
    }
}
END_TEST

/* ---- a server that is hostile ---- */

static void serve_lies(void *arg)
{
    static const char lie[] = "-ERR " HOSTILE " no\r\n";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, arg);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHILD_REQUIRE(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 &&
                  listen(s, 8) == 0);
    for (;;) {
        char junk[4096];
        int fd = accept(s, NULL, NULL);
        while (read(fd, junk, sizeof(junk)) > 0)
            if (write(fd, lie, sizeof(lie) - 1) < 0)
                break;
        close(fd);
    }
}

START_TEST(test_lies_of_a_server)
{
    struct e2e_manager manager;
    struct e2e_output out;
    char path[108], uri[128];
    snprintf(path, sizeof(path), "%s", support_path("liar"));
    snprintf(uri, sizeof(uri), "unix://%s", path);
    pid_t pid = support_fork(serve_lies, path);
    ck_assert(UNTIL(access(path, F_OK) == 0));
    e2e_manager_launch(&manager, NULL, uri,
                       "--when-down fail --reconnect-max 50 --log-level debug");
    ck_assert(UNTIL(strstr(e2e_log(&manager), "owned") != NULL));
    const char *log = e2e_log(&manager);
    ck_assert_msg(harmless(log, strlen(log)), "%s", log);
    static const char *const ways[] = {"--once", "--json", "--check",
                                       "--prometheus"};
    for (int i = 0; i < 4; i++) {
        const char *const argv[] = {"mqstat", ways[i], manager.channel, NULL};
        const char *const plain[] = {"mqstat", manager.channel, NULL};
        e2e_run(&out, i == 0 ? plain : argv);
        ck_assert_msg(harmless(out.text, out.len), "%s: %s", ways[i], out.text);
    }
    size_t len;
    const char *const ask[] = {"mqredis-worker", "-c", manager.channel, "PING",
                               NULL};
    const char *text = on_terminal(&len, ask);
    ck_assert_msg(harmless(text, len), "%s", text);
    const char *const check[] = {"mqredis-manager", "--check-config", "--redis",
                                 uri, NULL};
    text = on_terminal(&len, check);
    ck_assert_msg(strstr(text, "owned") != NULL, "%s", text);
    ck_assert_msg(harmless(text, len), "%s", text);
    kill(manager.pid, SIGTERM);
    support_join(manager.pid);
    support_kill(pid);
}
END_TEST

/* ---- names of processes ---- */

static void be_named(void *arg)
{
    static struct e2e_client c;
    static struct e2e_call k;
    const struct e2e_manager *m = arg;
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    prctl(PR_SET_NAME, "\x1b[31mred\n\x9b");
    CHILD_REQUIRE(e2e_client_open(&c, m->channel) == ERR_OK);
    CHILD_REQUIRE(e2e_ask(&c, &k, TIMEOUT_MS, "PING") == E2E_OK);
    CHILD_REQUIRE(e2e_begin(&c, &k, 1, ping, sizeof(ping) - 1, TIMEOUT_MS) ==
                  ERR_OK);
    for (;;)
        mq_send(c.tx.mq, "x", 1, 0);
}

START_TEST(test_names_of_processes)
{
    struct e2e_redis redis;
    struct e2e_manager manager;
    struct e2e_output out;
    static const char *const ways[] = {"--queues", "--doctor", "--json",
                                       "--prometheus"};
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    pid_t pid = support_fork(be_named, &manager);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_garbage) > 0));
    kill(manager.pid, SIGSTOP);
    support_sleep_ms(50);
    bool named = false;
    for (int i = -1; i < 4; i++) {
        const char *const argv[] = {"mqstat", i < 0 ? manager.channel : ways[i],
                                    i < 0 ? NULL : manager.channel, NULL};
        e2e_run(&out, argv);
        ck_assert_msg(harmless(out.text, out.len), "%d: %s", i, out.text);
        named |= strstr(out.text, "[31mred") != NULL;
    }
    ck_assert(named);
    kill(manager.pid, SIGCONT);
    support_kill(pid);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- secrets ---- */

static const char *command_line(pid_t pid)
{
    static char text[4096];
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    close(fd);
    for (ssize_t i = 0; i < n; i++)
        text[i] = text[i] == '\0' ? ' ' : text[i];
    text[n > 0 ? n : 0] = '\0';
    return text;
}

#define SECRET "s3cr3t-w0rd"

START_TEST(test_password_is_nowhere_to_be_seen)
{
    struct redis guarded;
    struct e2e_manager manager;
    struct e2e_output out;
    char uri[200];
    struct redis_link boss;
    if (!redis_start(&guarded, "guarded", NULL)) {
        support_skip("password_is_nowhere_to_be_seen", "no redis-server");
        return;
    }
    redis_link_open(&boss, &guarded);
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass " SECRET),
                     "+OK\r\n");
    redis_link_close(&boss);
    snprintf(uri, sizeof(uri), "unix://default:" SECRET "@%s", guarded.path);
    e2e_manager_start(&manager, NULL, uri, "--log-level debug");
    ck_assert_ptr_nonnull(strstr(command_line(manager.pid), "default:***"));
    ck_assert_ptr_null(strstr(command_line(manager.pid), SECRET));
    ck_assert_ptr_null(strstr(command_line(manager.guardian), SECRET));
    ck_assert_ptr_null(strstr(e2e_log(&manager), SECRET));
    ck_assert_ptr_null(memmem(manager.status, sizeof(*manager.status), SECRET,
                              strlen(SECRET)));
    static const char *const ways[] = {"--json", "--prometheus", "--doctor"};
    for (int i = 0; i < 3; i++) {
        const char *const argv[] = {"mqstat", ways[i], manager.channel, NULL};
        e2e_run(&out, argv);
        ck_assert_ptr_null(strstr(out.text, SECRET));
    }
    const char *const check[] = {"mqredis-manager", "--check-config", "--redis",
                                 uri, NULL};
    e2e_run(&out, check);
    ck_assert_msg(out.status == 0, "%s", out.text);
    ck_assert_ptr_null(strstr(out.text, SECRET));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    redis_stop(&guarded);
}
END_TEST

/* A URI that is refused is told without it. */
START_TEST(test_password_of_a_wrong_uri)
{
    static const char *const uris[] = {
        "redis://u:" SECRET "@/",         "redis://u:" SECRET "@h:port",
        "redis://u:" SECRET "@h/none",    "nothing://u:" SECRET "@h",
        "redis://u:" SECRET "@h h",       "redis://u:" SECRET "%zz@h",
        "redis://u:" SECRET "/#@h",       "unix://u:" SECRET "@rel",
        "redis://u:" SECRET "@h?" SECRET, "rediss://u:" SECRET "@[::1",
    };
    struct e2e_output out;
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        const char *const argv[] = {"mqredis-manager", "--redis", uris[i],
                                    NULL};
        e2e_run(&out, argv);
        ck_assert_msg(out.status == 64, "%s: %d %s", uris[i], out.status,
                      out.text);
        ck_assert_msg(strstr(out.text, SECRET) == NULL, "%s", out.text);
    }
}
END_TEST

/* A core dump holds all of it. */
START_TEST(test_unit_leaves_no_core_dumps)
{
    const char *const argv[] = {"grep", "-q", "^LimitCORE=0$",
                                "tools/systemd/mqredis-manager@.service.in",
                                NULL};
    struct e2e_output out;
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 0);
}
END_TEST

/* Client ids are capabilities; keys and values are nobody's business. */
START_TEST(test_ids_keys_and_values_are_not_shown)
{
    static struct e2e_client client;
    static struct e2e_call call;
    struct e2e_redis redis;
    struct e2e_manager manager;
    struct e2e_output out;
    char id[20];
    e2e_start(&redis, &manager, E2E_MQREDIS, "--log-level debug");
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    snprintf(id, sizeof(id), "%016" PRIx64, client.pool.client);
    ck_assert_int_eq(
        e2e_ask(&client, &call, TIMEOUT_MS, "SET keykey valuevalue"), E2E_OK);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "WATCH keykey"),
                     E2E_REFUSED);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "LPUSH keykey x"),
                     E2E_OK);
    /* Messages that the log tells of. */
    char name[ONESHOT_NAME_MAX];
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    ck_assert_int_eq(
        e2e_begin(&client, &call, 1, ping, sizeof(ping) - 1, TIMEOUT_MS),
        ERR_OK);
    call.header.slot += 1000;
    oneshot_name(name, call.header.client, call.header.slot);
    ck_assert_int_eq(mkdirat(client.ch.reply_fd, name, 0700), 0);
    ck_assert_int_eq(e2e_send(&client, &call), ERR_OK);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) == 1));
    static const char *const secrets[] = {NULL, "keykey", "valuevalue"};
    static const char *const ways[] = {"--json", "--prometheus", "--doctor",
                                       "--queues"};
    for (int s = 0; s < 3; s++) {
        const char *secret = s == 0 ? id : secrets[s];
        ck_assert_msg(strstr(e2e_log(&manager), secret) == NULL, "%s",
                      e2e_log(&manager));
        for (int i = -1; i < 4; i++) {
            const char *const argv[] = {"mqstat",
                                        i < 0 ? manager.channel : ways[i],
                                        i < 0 ? NULL : manager.channel, NULL};
            e2e_run(&out, argv);
            ck_assert_msg(strstr(out.text, secret) == NULL, "%s", out.text);
        }
        ck_assert_ptr_null(strstr(command_line(manager.pid), secret));
    }
    ck_assert_ptr_null(memmem(manager.status, sizeof(*manager.status),
                              &client.pool.client, 8));
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* What ps shows of a worker is what was written there. */
START_TEST(test_arguments_are_shown_and_standard_input_is_not)
{
    struct e2e_redis redis;
    struct e2e_manager manager;
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    for (int by_stdin = 0; by_stdin < 2; by_stdin++) {
        int in[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
        const char *const argv[] = {"mqredis-worker",
                                    "-c",
                                    manager.channel,
                                    "BLPOP",
                                    by_stdin ? "key" : SECRET,
                                    by_stdin ? "other" : "0",
                                    NULL};
        const char *const lines[] = {"mqredis-worker", "-c", manager.channel,
                                     NULL};
        pid_t pid = e2e_spawn_fed(by_stdin ? lines : argv, in[0], null, null);
        if (by_stdin)
            ck_assert_int_gt(write(in[1], "BLPOP " SECRET " 0\n", 20), 0);
        ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
        bool shown = strstr(command_line(pid), SECRET) != NULL;
        ck_assert(shown == !by_stdin);
        support_kill(pid);
        close(in[0]);
        close(in[1]);
        close(null);
        ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 0));
    }
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- the page ---- */

/* docs/security.md names a test beside each sentence: "[suite: name]". */
START_TEST(test_page_names_tests_that_exist)
{
    static const char script[] =
        "grep -oE '\\[check_[a-z0-9_]+: [a-z0-9_, ]+\\]' docs/security.md |"
        " tr -d '[],' | { count=0; while read -r suite names; do"
        " suite=${suite%:}; for name in $names; do count=$((count + 1));"
        " grep -q \"START_TEST(test_$name)\" tests/$suite.c ||"
        " echo \"no $suite: $name\"; done; done;"
        " [ $count -gt 60 ] || echo \"only $count names\"; }";
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct e2e_output out;
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && out.len == 0, "%s", out.text);
}
END_TEST

/* ---- the suite ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("security_display");
    TCase *t = support_case(s, "display", 60);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    tcase_add_test(t, test_what_a_terminal_obeys_is_replaced);
    tcase_add_test(t, test_replies_on_a_terminal);
    tcase_add_test(t, test_errors_on_a_terminal);
    tcase_add_test(t, test_lies_of_a_server);
    tcase_add_test(t, test_names_of_processes);
    tcase_add_test(t, test_password_is_nowhere_to_be_seen);
    tcase_add_test(t, test_password_of_a_wrong_uri);
    tcase_add_test(t, test_unit_leaves_no_core_dumps);
    tcase_add_test(t, test_ids_keys_and_values_are_not_shown);
    tcase_add_test(t, test_arguments_are_shown_and_standard_input_is_not);
    tcase_add_test(t, test_page_names_tests_that_exist);
    return s;
}

int main(void)
{
    return support_run(suite());
}
