/* --listen: a small server of Prometheus's format, on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

#define SERVED_MAX 16
#define REQUEST_MAX 4096
#define SERVE_FOR_NS (5 * NS_PER_S)

struct served {
    int fd; /* -1: free */
    uint64_t deadline;
    size_t have;
    char request[REQUEST_MAX];
    struct text reply;
    size_t sent;
};

static void served_close(struct served *c)
{
    close(c->fd);
    text_free(&c->reply);
    c->fd = -1;
}

static void answer(struct served *c, const struct options *o)
{
    struct text body = {0};
    const char *status = "200 OK", *type = "text/plain; version=0.0.4";
    bool get = strncmp(c->request, "GET ", 4) == 0;
    if (!get) {
        status = "405 Method Not Allowed";
        text_add(&body, "GET only\n");
    } else if (strncmp(c->request + 4, "/metrics ", 9) != 0 &&
               strncmp(c->request + 4, "/metrics?", 9) != 0) {
        status = "404 Not Found";
        text_add(&body, "/metrics is all there is\n");
    } else {
        struct channel_names names = {0};
        struct sample_set set = {0};
        struct scanner scanner = {0};
        if (wanted_channels(o, &names) != ERR_OK ||
            scanner_refresh(&scanner, 0) != ERR_OK ||
            sample_set_take(&set, &names, &scanner.scan) != ERR_OK)
            body.failed = true;
        else
            prometheus_channels(&body, &set);
        sample_set_free(&set);
        scanner_free(&scanner);
        channel_names_free(&names);
        if (body.failed) {
            text_clear(&body);
            status = "500 Internal Server Error";
            text_add(&body, "out of memory\n");
        }
    }
    text_add(&c->reply,
             "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
             "Connection: close\r\n\r\n",
             status, type, body.len);
    text_bytes(&c->reply, body.data ? body.data : "", body.len);
    text_free(&body);
    if (c->reply.failed)
        served_close(c);
}

static void serve_read(struct served *c, const struct options *o)
{
    ssize_t n = recv(c->fd, c->request + c->have,
                     sizeof(c->request) - 1 - c->have, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            served_close(c);
        return;
    }
    c->have += (size_t)n;
    c->request[c->have] = '\0';
    if (strstr(c->request, "\r\n\r\n") != NULL)
        answer(c, o);
    else if (c->have == sizeof(c->request) - 1)
        served_close(c);
}

static void serve_write(struct served *c)
{
    ssize_t n = send(c->fd, c->reply.data + c->sent, c->reply.len - c->sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        c->sent += (size_t)n;
    if (n <= 0 || c->sent == c->reply.len)
        served_close(c);
}

static void serve_accept(int listener, struct served *all)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (size_t i = 0; i < SERVED_MAX; i++) {
        if (all[i].fd >= 0)
            continue;
        memset(&all[i], 0, sizeof(all[i]));
        all[i].fd = fd;
        all[i].deadline = clock_ns() + SERVE_FOR_NS;
        return;
    }
    close(fd); /* as many as this are no scrape */
}

/* One round: waits, then serves whoever is ready. False on a signal. */
static bool serve_round(int listener, struct served *all,
                        const struct options *o)
{
    struct pollfd p[SERVED_MAX + 1] = {{.fd = listener, .events = POLLIN}};
    uint64_t now = clock_ns();
    for (size_t i = 0; i < SERVED_MAX; i++) {
        if (all[i].fd >= 0 && now > all[i].deadline)
            served_close(&all[i]);
        p[i + 1].fd = all[i].fd;
        p[i + 1].events = all[i].reply.len > 0 ? POLLOUT : POLLIN;
    }
    int n = poll(p, SERVED_MAX + 1, 1000);
    if (n < 0)
        return errno == EINTR && sleep_s(0);
    for (size_t i = 0; i < SERVED_MAX; i++) {
        if (all[i].fd < 0 || p[i + 1].revents == 0)
            continue;
        if (all[i].reply.len > 0)
            serve_write(&all[i]);
        else
            serve_read(&all[i], o);
    }
    if (p[0].revents != 0)
        serve_accept(listener, all);
    return sleep_s(0);
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof(in));
        return (ntohl(in.sin_addr.s_addr) >> 24) == 127;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, a, sizeof(in6));
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
}

/* -1, or the exit code. */
static int listen_on(const char *where, int *listener)
{
    char host[256];
    const char *colon = strrchr(where, ':');
    size_t len = colon ? (size_t)(colon - where) : 0;
    if (colon == NULL || len == 0 || len >= sizeof(host) || colon[1] == '\0')
        return fail(EXIT_USAGE,
                    "--listen %.80s: give ADDR:PORT, such as "
                    "127.0.0.1:9121",
                    where);
    memcpy(host, where, len);
    host[len] = '\0';
    if (host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    /* The C library takes a larger one for what is left of it in 16 bits. */
    size_t digits = strspn(colon + 1, "0123456789");
    if (colon[1 + digits] != '\0' || digits > 5 || atoi(colon + 1) > UINT16_MAX)
        return fail(EXIT_USAGE,
                    "--listen %.80s: the port is not a number from 0 to 65535",
                    where);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found;
    int e = getaddrinfo(host, colon + 1, &hints, &found);
    if (e != 0)
        return fail(EXIT_USAGE, "--listen %.80s: %s", where, gai_strerror(e));
    int code = -1;
    if (!is_loopback(found->ai_addr)) {
        code = fail(EXIT_USAGE,
                    "--listen %.80s: not a loopback address; put a "
                    "proxy in front to serve others",
                    where);
    } else {
        int one = 1;
        *listener = socket(found->ai_family,
                           SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (*listener < 0 ||
            setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) <
                0 ||
            bind(*listener, found->ai_addr, found->ai_addrlen) < 0 ||
            listen(*listener, SERVED_MAX) < 0)
            code =
                fail(EXIT_SYSTEM, "--listen %.80s: %s", where, strerror(errno));
    }
    freeaddrinfo(found);
    return code;
}

static void say_ready(int listener, const char *where)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char port[16] = "?";
    if (getsockname(listener, (struct sockaddr *)&a, &len) == 0)
        getnameinfo((struct sockaddr *)&a, len, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV);
    printf("serving http://%.*s:%s/metrics\n",
           (int)(strrchr(where, ':') - where), where, port);
    fflush(stdout);
}

int run_listen(const struct options *o)
{
    int listener = -1;
    int code = listen_on(o->listen, &listener);
    struct served *all = calloc(SERVED_MAX, sizeof(*all));
    if (all == NULL) {
        code = code < 0 ? fail(EXIT_SYSTEM, "out of memory") : code;
    } else if (code < 0) {
        for (size_t i = 0; i < SERVED_MAX; i++)
            all[i].fd = -1;
        say_ready(listener, o->listen);
        while (serve_round(listener, all, o))
            ;
        for (size_t i = 0; i < SERVED_MAX; i++)
            if (all[i].fd >= 0)
                served_close(&all[i]);
        code = EXIT_FINE;
    }
    free(all);
    if (listener >= 0)
        close(listener);
    return code;
}
