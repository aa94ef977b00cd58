/* Starting a redis-server, and talking to it byte by byte. */
#include "tests/support_redis.h"

#include "ipc/resp.h"
#include "tests/support.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define WORDS 64

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* ---- the server ---- */

/* In the child: becomes the server. */
static void run(const struct redis *redis, const char *options)
{
    const char *program = getenv("REDIS_SERVER");
    char path[sizeof(redis->path)], words[1024];
    char *argv[WORDS + 1];
    size_t argc = 0;
    if (program == NULL || *program == '\0')
        program = "redis-server";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    strcpy(path, redis->path);
    snprintf(words, sizeof(words),
             "%s --unixsocket %s --save  --appendonly no --daemonize no "
             "--dir %s %s",
             program, path, support_scratch(),
             options != NULL ? options : "--port 0");
    for (char *word = words; word != NULL && argc < WORDS;)
        argv[argc++] = strsep(&word, " ");
    argv[argc] = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        _exit(126);
    execvp(program, argv);
    _exit(127);
}

bool redis_start(struct redis *redis, const char *name, const char *options)
{
    *redis = (struct redis){0};
    int n = snprintf(redis->path, sizeof(redis->path), "%s/%s.sock",
                     support_scratch(), name);
    ck_assert_int_lt(n, (int)sizeof(redis->path));
    redis->pid = fork();
    ck_assert_int_ge(redis->pid, 0);
    if (redis->pid == 0)
        run(redis, options);
    int fd = -1, status;
    bool ended = false;
    ck_assert(
        UNTIL((ended = waitpid(redis->pid, &status, WNOHANG) == redis->pid) ||
              (fd = dial(redis->path)) >= 0));
    if (ended) {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 127,
                      "redis-server ended with status %x", status);
        redis->pid = 0;
        return false;
    }
    close(fd);
    struct redis_link link;
    redis_link_open(&link, redis);
    /* It may have a log to read first. */
    ck_assert(UNTIL(strcmp(redis_link_ask(&link, "PING"), "+PONG\r\n") == 0));
    redis_link_close(&link);
    return true;
}

bool redis_listens(const struct redis *redis)
{
    int fd = dial(redis->path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

void redis_stop(struct redis *redis)
{
    if (redis->pid <= 0)
        return;
    kill(redis->pid, SIGKILL);
    waitpid(redis->pid, NULL, 0);
    unlink(redis->path);
    redis->pid = 0;
}

/* ---- a connection ---- */

void redis_link_open(struct redis_link *link, const struct redis *redis)
{
    *link = (struct redis_link){.fd = dial(redis->path), .room = 65536};
    link->data = malloc(link->room);
    ck_assert_ptr_nonnull(link->data);
    ck_assert_msg(link->fd >= 0, "cannot connect to %s: %s", redis->path,
                  strerror(errno));
}

void redis_link_close(struct redis_link *link)
{
    close(link->fd);
    free(link->data);
    *link = (struct redis_link){.fd = -1};
}

/* A server that closed while we write shows when its replies are read. */
void redis_link_send(struct redis_link *link, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(link->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

void redis_link_command(struct redis_link *link, const char *text)
{
    struct resp_arg argv[WORDS];
    size_t argc = 0;
    for (const char *p = text; argc < WORDS; p++) {
        size_t len = strcspn(p, " ");
        argv[argc++] = (struct resp_arg){p, len};
        p += len;
        if (*p == '\0')
            break;
    }
    char *bytes = malloc(resp_command_size(argc, argv));
    ck_assert_ptr_nonnull(bytes);
    redis_link_send(link, bytes, resp_put_command(bytes, argc, argv));
    free(bytes);
}

/* Reads what is there within the time; false: nothing, or the end. */
static enum redis_got receive(struct redis_link *link, int64_t deadline_ms)
{
    int64_t left = deadline_ms - now_ms();
    struct pollfd p = {.fd = link->fd, .events = POLLIN};
    int ready = poll(&p, 1, left > 0 ? (int)left : 0);
    if (ready <= 0)
        return REDIS_NOTHING;
    if (link->room - link->len < 65536) {
        link->room = link->room * 2 + 65536;
        link->data = realloc(link->data, link->room);
        ck_assert_ptr_nonnull(link->data);
    }
    ssize_t n =
        recv(link->fd, link->data + link->len, link->room - link->len, 0);
    if (n <= 0)
        return REDIS_CLOSED;
    link->len += (size_t)n;
    return REDIS_REPLY;
}

enum redis_got redis_link_reply(struct redis_link *link, int timeout_ms,
                                const char **reply, size_t *len)
{
    int64_t deadline_ms = now_ms() + timeout_ms;
    struct resp_scan scan;
    size_t scanned = link->taken, used;
    resp_scan_reset(&scan);
    for (;;) {
        enum err e =
            resp_scan(&scan, link->data + scanned, link->len - scanned, &used);
        scanned += used;
        if (e == ERR_OK && scan.type == '>') {
            link->taken = scanned;
        } else if (e == ERR_OK) {
            *reply = link->data + link->taken;
            *len = scanned - link->taken;
            link->taken = scanned;
            return REDIS_REPLY;
        } else {
            if (e != ERR_AGAIN)
                return REDIS_CLOSED; /* no longer RESP: as good as closed */
            enum redis_got got = receive(link, deadline_ms);
            if (got != REDIS_REPLY)
                return got;
        }
    }
}

const char *redis_link_text(struct redis_link *link)
{
    static char text[256];
    const char *reply;
    size_t len;
    switch (redis_link_reply(link, (int)support_wait_ms(), &reply, &len)) {
    case REDIS_NOTHING:
        return "nothing";
    case REDIS_CLOSED:
        return "closed";
    case REDIS_REPLY:
        break;
    }
    if (len > sizeof(text) - 1)
        len = sizeof(text) - 1;
    memcpy(text, reply, len);
    text[len] = '\0';
    return text;
}

const char *redis_link_ask(struct redis_link *link, const char *command)
{
    redis_link_command(link, command);
    return redis_link_text(link);
}
