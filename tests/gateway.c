#include "tests/gateway.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support.h"

/* ---- the program ---- */

void gw_launch(struct gateway_process *g, const char *channel,
               const char *options)
{
    char copy[512];
    const char *argv[E2E_ARGS_MAX + 1] = {"mqredis-gateway", "--channel",
                                          channel, "--socket", g->path};
    size_t n = 5;
    snprintf(copy, sizeof(copy), "%s", options != NULL ? options : "");
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        if (*word != '\0' && n < E2E_ARGS_MAX)
            argv[n++] = word;
    }
    int log = open(g->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(log >= 0, "%s: %s", g->log, strerror(errno));
    g->pid = e2e_spawn(argv, log, log);
    close(log);
}

const char *gw_log(const struct gateway_process *g)
{
    static char text[16384];
    int fd = open(g->log, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

bool gw_listens(struct gateway_process *g)
{
    /* One line, and whole. */
    const char *line = NULL;
    bool up = UNTIL((line = strstr(gw_log(g), "listening on /")) != NULL &&
                    strchr(line, '\n') != NULL);
    const char *port = strstr(gw_log(g), " port ");
    g->port = port != NULL ? atoi(port + 6) : 0;
    return up;
}

void gw_start(struct gateway_process *g, const char *channel,
              const char *options)
{
    static int count;
    char name[32];
    snprintf(name, sizeof(name), "gw%d", ++count);
    snprintf(g->path, sizeof(g->path), "%s", support_path(name));
    snprintf(g->log, sizeof(g->log), "%s.log", g->path);
    gw_launch(g, channel, options);
    ck_assert_msg(gw_listens(g), "%s", gw_log(g));
}

void gw_start_all(struct gateway_process *g, struct e2e_redis *r,
                  struct e2e_manager *m, int kind, const char *manager_options,
                  const char *options)
{
    e2e_start(r, m, kind, manager_options);
    gw_start(g, m->channel, options);
}

struct gateway_process gateway;

int gw_begin(int kind, const char *manager_options, const char *options)
{
    gw_start_all(&gateway, &redis, &manager, kind, manager_options, options);
    return gw_connect(&gateway);
}

int gw_stop(struct gateway_process *g)
{
    kill(g->pid, SIGTERM);
    return support_join(g->pid);
}

/* ---- connections ---- */

int gw_connect(const struct gateway_process *g)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", g->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_msg(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0,
                  "%s: %s", g->path, strerror(errno));
    return fd;
}

int gw_connect_tcp(const struct gateway_process *g)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)g->port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_msg(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0,
                  "port %d: %s", g->port, strerror(errno));
    return fd;
}

void gw_send_bytes(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        ck_assert_msg(n > 0, "send: %s", strerror(errno));
        data += n;
        len -= (size_t)n;
    }
}

void gw_send(int fd, const char *text)
{
    gw_send_bytes(fd, text, strlen(text));
}

/* One read, within the time that events have. 0: closed. */
static size_t receive(int fd, char *at, size_t room)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, (int)support_wait_ms());
    ck_assert_msg(ready > 0, "nothing came");
    ssize_t n = recv(fd, at, room, 0);
    return n > 0 ? (size_t)n : 0;
}

void gw_read_bytes(int fd, char *data, size_t len)
{
    size_t have = 0;
    while (have < len) {
        size_t n = receive(fd, data + have, len - have);
        ck_assert_msg(n > 0, "closed after %zu of %zu bytes", have, len);
        have += n;
    }
}

void gw_expect(int fd, const char *text)
{
    static char got[65536];
    size_t len = strlen(text), have = 0;
    ck_assert_uint_lt(len, sizeof(got));
    while (have < len) {
        size_t n = receive(fd, got + have, len - have);
        have += n;
        got[have] = '\0';
        ck_assert_msg(n > 0, "closed after '%s', before '%s'", got, text);
        if (strncmp(got, text, have) != 0)
            break;
    }
    ck_assert_str_eq(got, text);
}

void gw_talk(int fd, const char *text, const char *expected)
{
    gw_send(fd, text);
    gw_expect(fd, expected);
}

const char *gw_read_until(int fd, const char *text)
{
    static char got[65536];
    size_t have = 0;
    got[0] = '\0';
    while (strstr(got, text) == NULL) {
        size_t n = receive(fd, got + have, sizeof(got) - 1 - have);
        ck_assert_msg(n > 0, "closed before '%s' came: '%s'", text, got);
        have += n;
        got[have] = '\0';
    }
    return got;
}

bool gw_closes(int fd)
{
    char passed[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, (int)support_wait_ms()) > 0) {
        if (recv(fd, passed, sizeof(passed), 0) <= 0)
            return true;
    }
    return false;
}

bool gw_silent(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 0;
}

static uint64_t counter_in(const char *text, const char *name)
{
    char line[64];
    snprintf(line, sizeof(line), "\n%s:", name);
    const char *at = strstr(text, line);
    ck_assert_msg(at != NULL, "no counter %s in %s", name, text);
    return strtoull(at + strlen(line), NULL, 10);
}

/* The whole answer to GATEWAY. Static storage. */
static const char *counters_of(const struct gateway_process *g)
{
    int fd = gw_connect(g);
    gw_send(fd, "GATEWAY\r\n");
    const char *text = gw_read_until(fd, "cut_gap:");
    close(fd);
    return text;
}

uint64_t gw_counter(const struct gateway_process *g, const char *name)
{
    return counter_in(counters_of(g), name);
}

bool gw_balanced(const struct gateway_process *g)
{
    const char *text = counters_of(g);
    return counter_in(text, "forwarded") ==
           counter_in(text, "answered") + counter_in(text, "failed") +
               counter_in(text, "cancelled") + counter_in(text, "inflight");
}
