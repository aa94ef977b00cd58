/*
 * Listening and accepting.
 *
 * A connection over --maxclients is not accepted: the listeners are simply not
 * asked, and it waits in the kernel's backlog until somebody leaves. Neither
 * are they asked for a while after accept has failed for want of descriptors or
 * memory; the pause doubles from failure to failure, and those who are
 * connected notice nothing.
 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/client.h"

#define ACCEPTS_PER_EVENT 64
#define BACKOFF_FIRST_MS 10
#define BACKOFF_LAST_MS 10000

/* ---- accepting ---- */

static void describe_tcp(const struct sockaddr_storage *a, char *out)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, a, sizeof(in6));
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
        snprintf(out, CLIENT_ADDRESS_MAX, "[%s]:%d", host,
                 ntohs(in6.sin6_port));
        return;
    }
    struct sockaddr_in in;
    memcpy(&in, a, sizeof(in));
    inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
    snprintf(out, CLIENT_ADDRESS_MAX, "%s:%d", host, ntohs(in.sin_port));
}

static void describe(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_UNIX) != 0) {
        snprintf(c->address, sizeof(c->address), "%s:0",
                 s->options.unix_socket);
        memcpy(c->local_address, c->address, sizeof(c->address));
        return;
    }
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a);
    if (getpeername(c->source.fd, (struct sockaddr *)&a, &len) == 0)
        describe_tcp(&a, c->address);
    len = sizeof(a);
    if (getsockname(c->source.fd, (struct sockaddr *)&a, &len) == 0)
        describe_tcp(&a, c->local_address);
}

static void back_off(struct server *s)
{
    int why = errno;
    s->stats.accept_failures++;
    int64_t pause = s->accept_backoff_ms * 2;
    if (pause < BACKOFF_FIRST_MS)
        pause = BACKOFF_FIRST_MS;
    if (pause > BACKOFF_LAST_MS)
        pause = BACKOFF_LAST_MS;
    s->accept_backoff_ms = pause;
    s->accept_retry_ms = s->loop_ms + pause;
    fprintf(stderr,
            "mqredis-server: cannot accept a connection: %s; trying again in "
            "%lld ms\n",
            strerror(why), (long long)pause);
    server_update_listening(s);
}

static bool accept_one(struct server *s, struct listener *l)
{
    int fd = accept4(l->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        /* The network's own errors belong to that one connection. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM)
            back_off(s);
        return errno == ECONNABORTED || errno == EINTR;
    }
    s->accept_backoff_ms = 0;
    if (!l->is_unix) {
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
    }
    struct client *c = client_new(s, fd, l->is_unix);
    s->stats.connections++;
    describe(s, c);
    if (!server_watch(s, &c->source, EPOLLIN))
        client_close(s, c);
    return true;
}

static void listener_ready(struct server *s, struct source *source,
                           uint32_t events)
{
    (void)events;
    struct listener *l = (struct listener *)source;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        if (s->client_count >= s->options.max_clients || !accept_one(s, l))
            break;
    }
    server_update_listening(s);
}

/* ---- listening ---- */

static void add_listener(struct server *s, int fd, bool is_unix)
{
    struct listener *l = &s->listeners[s->listener_count++];
    l->source.fd = fd;
    l->source.ready = listener_ready;
    l->is_unix = is_unix;
}

static enum err open_tcp(struct server *s, const char *host,
                         struct err_text *why)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE};
    struct addrinfo *a = NULL;
    char port[16];
    snprintf(port, sizeof(port), "%d", s->options.port);
    int failed =
        getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &a);
    if (failed != 0)
        return err_say(why, ERR_INVALID,
                       "--bind: '%s' is no address of this machine: %s", host,
                       gai_strerror(failed));
    enum err e = ERR_OK;
    int yes = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    a->ai_protocol);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (fd < 0 || bind(fd, a->ai_addr, a->ai_addrlen) != 0 ||
        listen(fd, s->options.backlog) != 0) {
        e = err_say(why, ERR_SYS, "cannot listen on %s:%s: %s", host, port,
                    strerror(errno));
        if (fd >= 0)
            close(fd);
    } else {
        add_listener(s, fd, false);
    }
    freeaddrinfo(a);
    return e;
}

/* Removes a socket file nobody listens on any more, and nothing else. */
static enum err clear_unix_path(const char *path, const struct sockaddr_un *a,
                                struct err_text *why)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return ERR_OK;
    if (!S_ISSOCK(st.st_mode))
        return err_say(why, ERR_INVALID,
                       "--unixsocket: '%s' exists and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive =
        fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0;
    bool busy = errno == EAGAIN;
    if (fd >= 0)
        close(fd);
    if (alive || busy)
        return err_say(why, ERR_BUSY,
                       "--unixsocket: another server listens on '%s'", path);
    if (unlink(path) != 0)
        return err_say(why, ERR_SYS, "cannot remove the old socket '%s': %s",
                       path, strerror(errno));
    return ERR_OK;
}

static enum err open_unix(struct server *s, struct err_text *why)
{
    const char *path = s->options.unix_socket;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return err_say(why, ERR_INVALID,
                       "--unixsocket: '%s' is too long (at most %zu bytes)",
                       path, sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    enum err e = clear_unix_path(path, &a, why);
    if (e != ERR_OK)
        return e;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (bound &&
        (s->options.unix_mode == 0 || chmod(path, s->options.unix_mode) == 0) &&
        listen(fd, s->options.backlog) == 0) {
        add_listener(s, fd, true);
        return ERR_OK;
    }
    e = err_say(why, ERR_SYS, "cannot listen on '%s': %s", path,
                strerror(errno));
    if (bound)
        unlink(path);
    if (fd >= 0)
        close(fd);
    return e;
}

enum err listen_open(struct server *s, struct err_text *why)
{
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < s->options.bind_count; i++) {
        e = open_tcp(s, s->options.bind[i], why);
        /* Further addresses share the port the first one was given. */
        if (e == ERR_OK && s->options.port == 0)
            s->options.port = server_port(s);
    }
    /* Last, so that a failure cannot leave the socket's file behind. */
    if (e == ERR_OK && s->options.unix_socket != NULL)
        e = open_unix(s, why);
    return e;
}

void listen_close(struct server *s)
{
    for (size_t i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];
        server_unwatch(s, &l->source);
        close(l->source.fd);
        l->source.fd = -1;
        if (l->is_unix)
            unlink(s->options.unix_socket);
    }
    s->listener_count = 0;
}

int server_port(const struct server *s)
{
    for (size_t i = 0; i < s->listener_count; i++) {
        if (s->listeners[i].is_unix)
            continue;
        struct sockaddr_storage a = {0};
        socklen_t len = sizeof(a);
        if (getsockname(s->listeners[i].source.fd, (struct sockaddr *)&a,
                        &len) != 0)
            return 0;
        struct sockaddr_in in; /* the port is at the same place in in6 */
        memcpy(&in, &a, sizeof(in));
        return ntohs(in.sin_port);
    }
    return 0;
}
