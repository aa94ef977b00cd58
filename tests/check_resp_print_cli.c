/*
 * Printing replies, against the real redis-cli 7.0, which is given the same
 * replies by us and by a real redis-server. Where another version of it is
 * installed (it may print otherwise) nothing is compared.
 */
#include "ipc/quote.h"
#include "ipc/resp_print.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/print_cases.h"
#include "tests/support_run.h"

#define WAIT_MS 20000
#define REPLY_MAX (1 << 20)

static const char *const cli_option[] = {"--no-raw", "--raw", "--json"};

/* ---- processes and sockets ---- */

static char folder[64];
static struct sockaddr_un server_address; /* the redis-server */
static pid_t server_pid = -1;
static bool cli_is_7_0;

static void set_address(struct sockaddr_un *a, const char *name)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", folder, name);
    ck_assert_int_lt(n, (int)sizeof(a->sun_path));
}

static void wait_readable(int fd, const char *what)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, WAIT_MS);
    while (n < 0 && errno == EINTR);
    ck_assert_msg(n == 1, "nothing from %s in %d ms", what, WAIT_MS);
}

struct child {
    pid_t pid;
    int out; /* its standard output and error */
};

static struct child start(char *const argv[])
{
    int fds[2];
    struct child c;
    posix_spawn_file_actions_t actions;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
    int e = posix_spawnp(&c.pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    ck_assert_msg(e == 0, "cannot start %s: %s", argv[0], strerror(e));
    c.out = fds[0];
    return c;
}

/* What the child printed until its end. */
static struct text finish(struct child c)
{
    struct text t = {malloc(REPLY_MAX + 1), 0};
    ck_assert_ptr_nonnull(t.data);
    for (;;) {
        wait_readable(c.out, "a child");
        ssize_t n = read(c.out, t.data + t.len, REPLY_MAX - t.len);
        ck_assert_int_ge(n, 0);
        if (n == 0)
            break;
        t.len += (size_t)n;
    }
    t.data[t.len] = '\0';
    close(c.out);
    ck_assert_int_eq(waitpid(c.pid, NULL, 0), c.pid);
    return t;
}

static void assert_same_text(struct text got, struct text want,
                             const char *what, const char *option)
{
    ck_assert_msg(got.len == want.len &&
                      memcmp(got.data, want.data, got.len) == 0,
                  "%s %s\nredis-cli prints:\n%s\nwe print:\n%s", option, what,
                  want.data, got.data);
    free(got.data);
    free(want.data);
}

static void send_all(int fd, const char *data, size_t len)
{
    ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* One whole reply from `fd`, in a buffer to free. */
static struct text receive_reply(int fd)
{
    struct text t = {malloc(REPLY_MAX), 0};
    struct resp_scan scan;
    enum err e;
    ck_assert_ptr_nonnull(t.data);
    resp_scan_reset(&scan);
    do {
        size_t used;
        wait_readable(fd, "redis-server");
        ssize_t n = recv(fd, t.data + t.len, REPLY_MAX - t.len, 0);
        ck_assert_int_gt(n, 0);
        e = resp_scan(&scan, t.data + t.len, (size_t)n, &used);
        ck_assert_uint_eq(used, (size_t)n);
        t.len += used;
    } while (e == ERR_AGAIN);
    ck_assert_int_eq(e, ERR_OK);
    return t;
}

/* ---- against redis-cli, we being the server ---- */

/* Answers PING with `data`, and a HELLO before it with an empty map. */
static void serve_one(int listener, const char *data, size_t len)
{
    wait_readable(listener, "redis-cli");
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    for (bool done = false; !done;) {
        char request[512];
        wait_readable(fd, "redis-cli");
        ssize_t n = recv(fd, request, sizeof(request) - 1, 0);
        ck_assert_int_gt(n, 0);
        request[n] = '\0';
        done = strcasestr(request, "HELLO") == NULL;
        if (done)
            send_all(fd, data, len);
        else
            send_all(fd, BYTES("%0\r\n"));
    }
    char rest;
    wait_readable(fd, "redis-cli");
    ck_assert_int_eq(recv(fd, &rest, 1, 0), 0);
    close(fd);
}

START_TEST(test_same_bytes_as_redis_cli)
{
    if (!cli_is_7_0)
        return;
    struct sockaddr_un address;
    set_address(&address, "fake.sock");
    unlink(address.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(
        bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 4), 0);
    for (int f = RESP_FORMAT_TTY; f <= RESP_FORMAT_JSON; f++) {
        char option[16];
        snprintf(option, sizeof(option), "%s", cli_option[f]);
        char cli[] = "redis-cli", s[] = "-s", ping[] = "PING";
        char *argv[] = {cli, s, address.sun_path, option, ping, NULL};
        struct child c = start(argv);
        serve_one(listener, print_same[_i].data, print_same[_i].len);
        assert_same_text(
            print(print_same[_i].data, print_same[_i].len, (enum resp_format)f),
            finish(c), print_same[_i].data, option);
    }
    close(listener);
    unlink(address.sun_path);
}
END_TEST

/* ---- against redis-cli, both talking to a redis-server ---- */

static const char *const preparation[] = {
    "SET s bar",
    "SET n 42",
    "SET bin \"\\x01\\xff\\\"\\\\\\n\\x1b\\xc3\\xa9\"",
    "RPUSH l 1 2 3 4 5 6 7 8 9 10 11 12",
    "SADD ints 3 1 2",
    "HSET h f v g 'with space'",
    "ZADD z 1 a 2.5 b inf c",
    "XADD x 1-1 f v",
    "XADD x 1-2 g w",
    "XGROUP CREATE x group 0",
    "GEOADD geo 13.361389 38.115556 p",
};

static const char *const commands[] = {
    "PING",
    "ECHO 'a b'",
    "ECHO ''",
    "GET s",
    "GET bin",
    "GET missing",
    "STRLEN s",
    "LRANGE l 0 -1",
    "LRANGE missing 0 -1",
    "SMEMBERS ints",
    "SMEMBERS missing",
    "SMISMEMBER ints 1 9",
    "HGETALL h",
    "HGETALL missing",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZSCORE z b",
    "ZSCORE z c",
    "ZSCORE z missing",
    "GEOPOS geo p missing",
    "XRANGE x - +",
    "XREAD STREAMS x 0",
    "XREAD STREAMS x 9",
    "XINFO STREAM x FULL",
    "MGET s missing n",
    "TYPE s",
    "OBJECT ENCODING n",
    "LPUSH s x",
    "NOSUCH a b",
    "GET",
    "LCS s s IDX",
    "COMMAND GETKEYS SET a b",
    "COMMAND INFO GET nosuch",
    "COMMAND DOCS GET XADD",
    "COMMAND LIST FILTERBY PATTERN x*",
    "CONFIG GET maxmemory*",
    "CONFIG GET nosuch",
    "ACL WHOAMI",
    "ACL GETUSER default",
    "CLIENT GETNAME",
    "FUNCTION STATS",
    ("EVAL \"return {1,{2,{3,'x'},false},redis.status_reply('fine'),"
     "redis.error_reply('bad')}\" 0"),
    "EVAL 'local t={} for i=1,101 do t[i]={i} end return t' 0",
    "EVAL \"redis.setresp(3) return redis.call('HGETALL','h')\" 0",
    "EVAL \"redis.setresp(3) return {double=3.25}\" 0",
    "EVAL 'return redis.error_reply(\"MY a\\\"b\")' 0",
    "DEBUG PROTOCOL string",
    "DEBUG PROTOCOL integer",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL array",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL verbatim",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL false",
};

#define WORDS 16

static size_t split_command(char *line, struct resp_arg *argv)
{
    size_t argc = 0;
    ck_assert_int_eq(quote_split(line, strlen(line), argv, WORDS, &argc),
                     ERR_OK);
    return argc;
}

static int connect_server(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&server_address,
                sizeof(server_address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static struct text ask(int fd, const char *command)
{
    struct resp_arg argv[WORDS];
    char *line = strdup(command);
    ck_assert_ptr_nonnull(line);
    size_t argc = split_command(line, argv);
    char *out = malloc(resp_command_size(argc, argv));
    ck_assert_ptr_nonnull(out);
    send_all(fd, out, resp_put_command(out, argc, argv));
    free(out);
    free(line);
    return receive_reply(fd);
}

static struct text ask_cli(const char *command, const char *format,
                           const char *protocol)
{
    struct resp_arg words[WORDS];
    char *line = strdup(command);
    ck_assert_ptr_nonnull(line);
    size_t n = split_command(line, words);
    char *argv[WORDS + 6] = {strdup("redis-cli"), strdup("-s"),
                             strdup(server_address.sun_path), strdup(format)};
    size_t argc = 4;
    if (protocol != NULL)
        argv[argc++] = strdup(protocol);
    for (size_t i = 0; i < n; i++)
        argv[argc++] = strndup(words[i].data, words[i].len);
    struct text t = finish(start(argv));
    for (size_t i = 0; i < argc; i++)
        free(argv[i]);
    free(line);
    return t;
}

START_TEST(test_same_as_redis_cli_with_server)
{
    if (!cli_is_7_0)
        return;
    for (int protocol = 2; protocol <= 3; protocol++) {
        int fd = connect_server();
        ck_assert_int_ge(fd, 0);
        if (protocol == 3)
            free(ask(fd, "HELLO 3").data);
        struct text reply = ask(fd, commands[_i]);
        for (int f = RESP_FORMAT_TTY; f <= RESP_FORMAT_JSON; f++) {
            /* redis-cli --json always speaks RESP3. */
            if (f == RESP_FORMAT_JSON && protocol == 2)
                continue;
            assert_same_text(print(reply.data, reply.len, (enum resp_format)f),
                             ask_cli(commands[_i], cli_option[f],
                                     protocol == 3 ? "-3" : NULL),
                             commands[_i], cli_option[f]);
        }
        free(reply.data);
        close(fd);
    }
}
END_TEST

/* ---- the server ---- */

/* Asked in the runner itself, before the tests are forked. */
static bool have_redis_cli_7_0(void)
{
    FILE *in = popen("redis-cli --version 2>/dev/null", "r");
    char line[64] = "";
    if (in != NULL) {
        if (fgets(line, sizeof(line), in) == NULL)
            line[0] = '\0';
        pclose(in);
    }
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "redis-cli 7.0.", 14) == 0)
        return true;
    printf("check_resp_print_cli: not compared with redis-cli: 7.0 is needed, "
           "found %s\n",
           line[0] != '\0' ? line : "none");
    return false;
}

static void run_server(void)
{
    char log[80];
    snprintf(log, sizeof(log), "%s/log", folder);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket",
           server_address.sun_path, "--save", "", "--appendonly", "no", "--dir",
           folder, "--logfile", log, "--enable-debug-command", "yes",
           (char *)NULL);
    _exit(127);
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(folder, sizeof(folder), "%s/print.XXXXXX",
                     tmp != NULL ? tmp : "/tmp");
    if (n >= (int)sizeof(folder))
        strcpy(folder, "/tmp/print.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    cli_is_7_0 = have_redis_cli_7_0();
    if (!cli_is_7_0)
        return;
    set_address(&server_address, "redis.sock");
    server_pid = fork();
    ck_assert_int_ge(server_pid, 0);
    if (server_pid == 0)
        run_server();
    int fd = -1;
    for (int waited = 0; fd < 0 && waited < WAIT_MS; waited += 10) {
        fd = connect_server();
        if (fd < 0)
            poll(NULL, 0, 10);
    }
    ck_assert_msg(fd >= 0, "redis-server does not answer at %s",
                  server_address.sun_path);
    for (int i = 0; i < COUNT(preparation); i++) {
        struct text reply = ask(fd, preparation[i]);
        ck_assert_int_ne(reply.data[0], '-');
        free(reply.data);
    }
    close(fd);
}

static void teardown(void)
{
    if (server_pid > 0) {
        kill(server_pid, SIGKILL);
        waitpid(server_pid, NULL, 0);
    }
    static const char *const left[] = {"log", "redis.sock", "fake.sock"};
    for (int i = 0; i < COUNT(left); i++) {
        char path[sizeof(folder) + 16];
        snprintf(path, sizeof(path), "%s/%s", folder, left[i]);
        unlink(path);
    }
    rmdir(folder);
}

static Suite *suite(void)
{
    Suite *s = suite_create("resp_print_cli");
    TCase *t = tcase_create("redis-cli");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_same_bytes_as_redis_cli, 0, print_same_count);
    tcase_add_loop_test(t, test_same_as_redis_cli_with_server, 0,
                        COUNT(commands));
    return s;
}

int main(void)
{
    return support_run(suite());
}
