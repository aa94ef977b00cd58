/*
 * A server in the test's own process, stepped by hand: what the suites share
 * that look at limits and at what clients do to each other.
 */
#ifndef TESTS_SERVER_STEPPED_H
#define TESTS_SERVER_STEPPED_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/client.h"
#include "server/server.h"
#include "tests/support.h"

static struct options options;
static struct server *s;
static char path[108];

/* Fixtures: a test changes the options, then starts the server. */
static inline void setup(void)
{
    options_defaults(&options);
    snprintf(path, sizeof(path), "%s/s.sock", support_scratch());
    options.unix_socket = path;
}

static inline void start(void)
{
    struct err_text why;
    ck_assert_msg(server_new(&s, &options, &why) == ERR_OK, "%s", why.text);
}

static inline void teardown(void)
{
    server_free(s);
    s = NULL;
}

static inline int try_dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    strcpy(a.sun_path, path);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline void steps(void)
{
    for (int i = 0; i < 4; i++)
        server_step(s, 0);
}

static inline int dial(void)
{
    int fd = try_dial();
    ck_assert_int_ge(fd, 0);
    steps();
    return fd;
}

static inline void say(int fd, const char *text)
{
    size_t len = strlen(text);
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* What has come, without waiting: "(closed)" at the end of the connection. */
static inline const char *hear(int fd)
{
    static char text[65536];
    steps();
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return "(closed)";
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static inline const char *ask(int fd, const char *text)
{
    say(fd, text);
    return hear(fd);
}

static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#endif
