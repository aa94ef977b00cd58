/*
 * mqredis-server as a program: options, the ready line, sockets, signals, and
 * the tools people use with it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

#define WORDS 24

/* A child, and what it has printed on both its outputs. */
struct child {
    pid_t pid;
    int out;
    char text[4096];
    size_t len;
};

static char program[512], socket_path[108];

static void setup(void)
{
    snprintf(program, sizeof(program), "%s/mqredis-server", support_build());
    snprintf(socket_path, sizeof(socket_path), "%s/server.sock",
             support_scratch());
    unlink(socket_path);
}

/* Starts the server with these options, split at spaces. */
static struct child launch(const char *options)
{
    struct child child = {.pid = -1};
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    child.pid = fork();
    ck_assert_int_ge(child.pid, 0);
    if (child.pid == 0) {
        char words[1024], *argv[WORDS + 1];
        size_t argc = 0;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(words, sizeof(words), "%s %s", program, options);
        for (char *rest = words, *word; argc < WORDS;) {
            word = strsep(&rest, " ");
            if (word == NULL)
                break;
            if (*word != '\0')
                argv[argc++] = word;
        }
        argv[argc] = NULL;
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execv(program, argv);
        _exit(127);
    }
    close(ends[1]);
    child.out = ends[0];
    ck_assert_int_ne(fcntl(child.out, F_SETFL, O_NONBLOCK), -1);
    return child;
}

static bool printed(struct child *child, const char *text)
{
    ssize_t n = read(child->out, child->text + child->len,
                     sizeof(child->text) - 1 - child->len);
    if (n > 0)
        child->len += (size_t)n;
    child->text[child->len] = '\0';
    return strstr(child->text, text) != NULL;
}

static struct child start(const char *options)
{
    struct child child = launch(options);
    ck_assert_msg(
        UNTIL(printed(&child, "ready on") && child.text[child.len - 1] == '\n'),
        "no ready line: %s", child.text);
    return child;
}

static int finish(struct child *child)
{
    int status = support_join(child->pid);
    printed(child, "");
    close(child->out);
    return status;
}

static int dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    strcpy(a.sun_path, socket_path);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Reads until `len` bytes have come, or the end. */
static size_t take(int fd, char *out, size_t len)
{
    size_t n = 0;
    while (n < len) {
        ssize_t got = recv(fd, out + n, len - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return n;
}

/* Runs a shell command and returns what it prints. */
static const char *shell(const char *command)
{
    static char text[65536];
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    pclose(f);
    return text;
}

/* ---- options ---- */

static const struct {
    const char *options, *line; /* of its one line, the beginning */
} wrong[] = {
    {"--nosuch 1", "mqredis-server: '--nosuch' is no option"},
    {"stray", "mqredis-server: 'stray' is no option"},
    {"--port", "mqredis-server: --port needs a value"},
    {"--port abc", "mqredis-server: --port: 'abc' is not a port"},
    {"--port 65536", "mqredis-server: --port: '65536' is not a port"},
    {"--port=-1", "mqredis-server: --port: '-1' is not a port"},
    {"--maxclients 0", "mqredis-server: --maxclients: '0' is not"},
    {"--maxmemory lots", "mqredis-server: --maxmemory: 'lots' is not"},
    {"--unixsocketperm 999", "mqredis-server: --unixsocketperm: '999' is not"},
    {"--protected-mode maybe", "mqredis-server: --protected-mode: 'maybe'"},
    {"--bind 0.0.0.0", "mqredis-server: --bind 0.0.0.0 lets other machines"},
    {"--bind 192.0.2.1 --port 0", "mqredis-server: --bind 192.0.2.1 lets"},
    {"--timeout -1", "mqredis-server: --timeout: '-1' is not"},
};

START_TEST(test_wrong_option_is_one_line_and_64)
{
    struct child child = launch(wrong[_i].options);
    ck_assert_int_eq(finish(&child), 64);
    ck_assert_msg(strncmp(child.text, wrong[_i].line, strlen(wrong[_i].line)) ==
                      0,
                  "%s", child.text);
    ck_assert_ptr_eq(strchr(child.text, '\n'), child.text + child.len - 1);
}
END_TEST

START_TEST(test_help_and_version)
{
    struct child child = launch("--help");
    ck_assert_int_eq(finish(&child), 0);
    ck_assert_ptr_nonnull(strstr(child.text, "--maxclients N"));
    child = launch("--version");
    ck_assert_int_eq(finish(&child), 0);
    ck_assert_ptr_nonnull(strstr(child.text, "mqredis-server "));
}
END_TEST

START_TEST(test_address_in_use_is_one_line_and_1)
{
    struct child first = start("--port 0");
    int port;
    ck_assert_int_eq(
        sscanf(first.text, "mqredis-server: ready on 127.0.0.1:%d", &port), 1);
    char options[64];
    snprintf(options, sizeof(options), "--port %d", port);
    struct child second = launch(options);
    ck_assert_int_eq(finish(&second), 1);
    ck_assert_ptr_nonnull(strstr(second.text, "cannot listen on 127.0.0.1:"));
    kill(first.pid, SIGTERM);
    ck_assert_int_eq(finish(&first), 0);
}
END_TEST

/* ---- the unix socket ---- */

static struct child start_unix(const char *more)
{
    char options[512];
    snprintf(options, sizeof(options), "--port 0 --unixsocket %s %s",
             socket_path, more);
    return start(options);
}

START_TEST(test_unix_socket_has_its_mode_and_goes_away)
{
    struct child child = start_unix("--unixsocketperm 750");
    struct stat st;
    ck_assert_ptr_nonnull(strstr(child.text, socket_path));
    ck_assert_int_eq(stat(socket_path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0750);
    kill(child.pid, SIGTERM);
    ck_assert_int_eq(finish(&child), 0);
    ck_assert_int_ne(stat(socket_path, &st), 0);
}
END_TEST

START_TEST(test_dead_socket_is_replaced_and_living_one_kept)
{
    struct child child = start_unix("");
    char options[512];
    snprintf(options, sizeof(options), "--port 0 --unixsocket %s", socket_path);
    struct child second = launch(options);
    ck_assert_int_eq(finish(&second), 1);
    ck_assert_ptr_nonnull(strstr(second.text, "another server listens"));
    support_kill(child.pid);
    close(child.out);
    child = start_unix("");
    int fd = dial();
    ck_assert_int_ge(fd, 0);
    close(fd);
    kill(child.pid, SIGTERM);
    ck_assert_int_eq(finish(&child), 0);
    FILE *f = fopen(socket_path, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    second = launch(options);
    ck_assert_int_eq(finish(&second), 1);
    ck_assert_ptr_nonnull(strstr(second.text, "exists and is no socket"));
}
END_TEST

/* ---- ending ---- */

/* Commands that have arrived are executed and answered, however many. */
START_TEST(test_signal_finishes_commands_that_have_arrived)
{
    enum { PINGS = 15000 }; /* more than one read of the server */
    struct child child = start_unix("");
    int fd = dial();
    static char pings[PINGS * 6], replies[PINGS * 7];
    ck_assert_int_eq(send(fd, "DEBUG SLEEP 0.3\r\n", 17, 0), 17);
    support_sleep_ms(100);
    for (size_t i = 0; i < sizeof(pings); i++)
        pings[i] = "PING\r\n"[i % 6];
    ck_assert_int_eq(send(fd, pings, sizeof(pings), 0), (ssize_t)sizeof(pings));
    kill(child.pid, _i == 0 ? SIGTERM : SIGINT);
    ck_assert_uint_eq(take(fd, replies, 5), 5);
    ck_assert_uint_eq(take(fd, replies, sizeof(replies)), sizeof(replies));
    ck_assert(memcmp(replies + sizeof(replies) - 7, "+PONG\r\n", 7) == 0);
    ck_assert_int_eq(recv(fd, replies, 1, 0), 0);
    ck_assert_int_eq(finish(&child), 0);
    close(fd);
}
END_TEST

/* A reply larger than the socket's buffer still goes out. */
START_TEST(test_signal_waits_for_a_slow_reader)
{
    enum { SIZE = 8 << 20 };
    struct child child = start_unix("");
    int fd = dial();
    char text[64];
    ck_assert_int_gt(
        snprintf(text, sizeof(text), "SETRANGE k %d x\r\n", SIZE - 1), 0);
    ck_assert_int_gt(send(fd, text, strlen(text), 0), 0);
    ck_assert_uint_eq(take(fd, text, 10), 10);
    ck_assert_int_eq(send(fd, "GET k\r\n", 7, 0), 7);
    ck_assert_uint_eq(take(fd, text, 10), 10); /* $8388608\r\n */
    kill(child.pid, SIGTERM);
    support_sleep_ms(300);
    char *rest = malloc(SIZE + 2);
    ck_assert_ptr_nonnull(rest);
    ck_assert_uint_eq(take(fd, rest, SIZE + 2), SIZE + 2);
    free(rest);
    ck_assert_int_eq(finish(&child), 0);
    close(fd);
}
END_TEST

START_TEST(test_blocked_clients_do_not_keep_it)
{
    struct child child = start_unix("");
    int fd = dial();
    char byte;
    ck_assert_int_eq(send(fd, "BLPOP nothing 0\r\n", 17, 0), 17);
    support_sleep_ms(50);
    kill(child.pid, SIGTERM);
    ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
    ck_assert_int_eq(finish(&child), 0);
    close(fd);
}
END_TEST

START_TEST(test_shutdown_command_ends_it)
{
    struct child child = start_unix("");
    int fd = dial();
    char byte;
    ck_assert_int_eq(send(fd, "SHUTDOWN NOSAVE\r\n", 17, 0), 17);
    ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
    ck_assert_int_eq(finish(&child), 0);
    close(fd);
}
END_TEST

/* ---- tools ---- */

START_TEST(test_redis_cli_and_redis_benchmark_work)
{
    if (system("command -v redis-cli >/dev/null") != 0) {
        support_skip("redis_cli_and_redis_benchmark",
                     "redis-tools is not installed");
        return;
    }
    struct child child = start_unix("");
    char command[512];
    snprintf(command, sizeof(command),
             "printf 'set a 1\\nincr a\\nlpush l x y\\nlrange l 0 -1\\n"
             "info server\\nclient list\\nhello 3\\nget a\\n' | "
             "redis-cli -s %s 2>&1",
             socket_path);
    const char *got = shell(command);
    ck_assert_ptr_nonnull(strstr(got, "OK\n2\n2\ny\nx\n# Server"));
    ck_assert_ptr_nonnull(strstr(got, "redis_version:7."));
    snprintf(command, sizeof(command),
             "redis-cli -s %s --scan 2>&1; redis-cli -s %s -3 get a 2>&1; "
             "redis-benchmark -s %s -n 2000 -c 20 -P 5 -q "
             "-t ping,set,get,incr,lpush,rpush,lpop,rpop,lrange_100,mset "
             "2>&1",
             socket_path, socket_path, socket_path);
    got = shell(command);
    ck_assert_ptr_nonnull(strstr(got, "MSET (10 keys): "));
    ck_assert_ptr_null(strstr(got, "WARNING"));
    ck_assert_ptr_null(strstr(got, "rror"));
    kill(child.pid, SIGTERM);
    ck_assert_int_eq(finish(&child), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server_program");
    TCase *t = support_case(suite, "program", 60);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, test_wrong_option_is_one_line_and_64, 0,
                        (int)(sizeof(wrong) / sizeof(wrong[0])));
    tcase_add_test(t, test_help_and_version);
    tcase_add_test(t, test_address_in_use_is_one_line_and_1);
    tcase_add_test(t, test_unix_socket_has_its_mode_and_goes_away);
    tcase_add_test(t, test_dead_socket_is_replaced_and_living_one_kept);
    tcase_add_loop_test(t, test_signal_finishes_commands_that_have_arrived, 0,
                        2);
    tcase_add_test(t, test_signal_waits_for_a_slow_reader);
    tcase_add_test(t, test_blocked_clients_do_not_keep_it);
    tcase_add_test(t, test_shutdown_command_ends_it);
    tcase_add_test(t, test_redis_cli_and_redis_benchmark_work);
    return support_run(suite);
}
