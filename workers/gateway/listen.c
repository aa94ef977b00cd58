/*
 * Listening and accepting.
 *
 * A unix socket belongs to whoever holds the lock on PATH.lock: a name that is
 * found without that was left by a gateway that was killed, and is replaced. So
 * two that start at the same moment cannot take it from each other.
 */
#include "workers/gateway/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/clock.h"

#define BACKLOG 511
#define ACCEPTS_PER_ROUND 64
#define RETRY_NS (100 * NS_PER_MS)

/* ---- accepting ---- */

static bool may_accept(const struct gateway *g)
{
    return g->stopping == 0 &&
           (g->accept_retry_ns == 0 || g->now_ns >= g->accept_retry_ns);
}

void listen_update(struct gateway *g)
{
    bool want = may_accept(g);
    if (want == g->accepting)
        return;
    g->accepting = want;
    for (size_t i = 0; i < g->listener_count; i++) {
        struct source *s = &g->listeners[i].source;
        if (!want)
            gateway_unwatch(g, s);
        else if (!gateway_watch(g, s, EPOLLIN))
            g->accepting = false;
    }
    if (want)
        g->accept_retry_ns = g->accepting ? 0 : g->now_ns + RETRY_NS;
}

/* As Redis says it. */
static void refuse(struct gateway *g, int fd)
{
    static const char text[] = "-ERR max number of clients reached\r\n";
    g->counters.refused++;
    (void)!send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/* False: enough for this time. */
static bool accept_one(struct gateway *g, const struct listener *l)
{
    int fd = accept4(l->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) {
            if (g->counters.accept_failures++ == 0)
                gateway_say("cannot accept a connection: %s", strerror(errno));
            g->accept_retry_ns = g->now_ns + RETRY_NS;
        }
        return errno == ECONNABORTED || errno == EINTR;
    }
    if (g->client_count >= g->options->max_clients) {
        refuse(g, fd);
        return true;
    }
    if (!l->is_unix) {
        int yes = 1;
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    }
    if (client_new(g, fd, l->is_unix) == NULL)
        g->counters.refused++;
    else
        g->counters.connections++;
    return true;
}

static void listener_ready(struct gateway *g, struct source *source,
                           uint32_t events)
{
    (void)events;
    const struct listener *l = (const struct listener *)source;
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        if (!accept_one(g, l))
            break;
    }
}

/* ---- a unix socket ---- */

/* Holds PATH.lock, which its last holder may remove at any moment. */
static enum err take_lock(struct gateway *g, struct err_text *why)
{
    char path[PATH_MAX];
    struct stat held, there;
    snprintf(path, sizeof(path), "%s.lock", g->options->socket);
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return err_say(why, ERR_SYS, "cannot open '%s': %s", path,
                           strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int saved = errno;
            close(fd);
            if (saved == EWOULDBLOCK)
                return err_say(why, ERR_BUSY,
                               "--socket: another gateway listens on '%s'",
                               g->options->socket);
            return err_say(why, ERR_SYS, "cannot lock '%s': %s", path,
                           strerror(saved));
        }
        if (fstat(fd, &held) == 0 && stat(path, &there) == 0 &&
            held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
            g->lock_fd = fd;
            return ERR_OK;
        }
        close(fd);
    }
}

/* What stands at the socket's path, though nobody holds the lock. */
static enum err clear_path(const char *path, const struct sockaddr_un *a,
                           struct err_text *why)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return ERR_OK;
    if (!S_ISSOCK(st.st_mode))
        return err_say(why, ERR_INVALID,
                       "--socket: '%s' exists and is no socket", path);
    /* Another program's, perhaps a Redis. */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive =
        fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 ||
                    errno != ECONNREFUSED);
    if (fd >= 0)
        close(fd);
    if (alive)
        return err_say(why, ERR_BUSY,
                       "--socket: another program listens on '%s'", path);
    if (unlink(path) != 0)
        return err_say(why, ERR_SYS, "cannot remove the old socket '%s': %s",
                       path, strerror(errno));
    return ERR_OK;
}

static void add_listener(struct gateway *g, int fd, bool is_unix)
{
    struct listener *l = &g->listeners[g->listener_count++];
    l->source.fd = fd;
    l->source.ready = listener_ready;
    l->is_unix = is_unix;
}

/* Nobody can connect before the permissions are right: it does not listen. */
static enum err bind_unix(struct gateway *g, int fd,
                          const struct sockaddr_un *a, struct err_text *why)
{
    const struct options *o = g->options;
    struct stat st;
    mode_t before = umask(0177);
    bool bound = bind(fd, (const struct sockaddr *)a, sizeof(*a)) == 0;
    int saved = errno;
    umask(before);
    errno = saved;
    if (!bound)
        return err_say(why, ERR_SYS, "cannot listen on '%s': %s", o->socket,
                       strerror(errno));
    if (lstat(o->socket, &st) == 0) {
        g->socket_dev = st.st_dev;
        g->socket_ino = st.st_ino;
    }
    if (o->group != (gid_t)-1 && chown(o->socket, (uid_t)-1, o->group) != 0)
        return err_say(why, ERR_SYS, "cannot give '%s' its group: %s",
                       o->socket, strerror(errno));
    if (chmod(o->socket, o->mode) != 0 || listen(fd, BACKLOG) != 0)
        return err_say(why, ERR_SYS, "cannot listen on '%s': %s", o->socket,
                       strerror(errno));
    return ERR_OK;
}

static enum err open_unix(struct gateway *g, struct err_text *why)
{
    const char *path = g->options->socket;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof(a.sun_path))
        return err_say(why, ERR_INVALID,
                       "--socket: a path of 1 to %zu bytes is expected",
                       sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    enum err e = take_lock(g, why);
    if (e == ERR_OK)
        e = clear_path(path, &a, why);
    if (e != ERR_OK)
        return e;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_say(why, ERR_SYS, "cannot make a socket: %s",
                       strerror(errno));
    add_listener(g, fd, true);
    return bind_unix(g, fd, &a, why);
}

/* ---- TCP ---- */

/* Only addresses that no other machine can reach. */
static bool loopback(const char *text, int port, struct sockaddr_storage *out,
                     socklen_t *len)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(text, "localhost") == 0)
        text = "127.0.0.1";
    if (inet_pton(AF_INET, text, &v4) == 1) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr = v4};
        memcpy(out, &a, sizeof(a));
        *len = sizeof(a);
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1) {
        struct sockaddr_in6 a = {.sin6_family = AF_INET6,
                                 .sin6_port = htons((uint16_t)port),
                                 .sin6_addr = v6};
        memcpy(out, &a, sizeof(a));
        *len = sizeof(a);
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return false;
}

static int port_of(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return 0;
    if (a.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &a, sizeof(v6));
        return ntohs(v6.sin6_port);
    }
    struct sockaddr_in v4;
    memcpy(&v4, &a, sizeof(v4));
    return ntohs(v4.sin_port);
}

static enum err open_tcp(struct gateway *g, struct err_text *why)
{
    const struct options *o = g->options;
    struct sockaddr_storage a = {0};
    socklen_t len = 0;
    int yes = 1;
    if (!loopback(o->bind, o->port, &a, &len))
        return err_say(why, ERR_INVALID,
                       "--bind '%.60s': only loopback addresses are served "
                       "(127.0.0.1, ::1): what travels is not encrypted, and "
                       "the channel is this host's",
                       o->bind);
    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        add_listener(g, fd, false);
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
        bind(fd, (const struct sockaddr *)&a, len) != 0 ||
        listen(fd, BACKLOG) != 0)
        return err_say(why, errno == EADDRINUSE ? ERR_BUSY : ERR_SYS,
                       "cannot listen on %s port %d: %s", o->bind, o->port,
                       strerror(errno));
    g->tcp_port = port_of(fd);
    return ERR_OK;
}

/* ---- both ---- */

enum err listen_open(struct gateway *g, struct err_text *why)
{
    const struct options *o = g->options;
    enum err e = ERR_OK;
    if (o->socket != NULL)
        e = open_unix(g, why);
    if (e == ERR_OK && o->port >= 0)
        e = open_tcp(g, why);
    if (e != ERR_OK)
        return e;
    char tcp[128] = "";
    if (o->port >= 0)
        snprintf(tcp, sizeof(tcp), "%s port %d", o->bind, g->tcp_port);
    gateway_say("listening on %s%s%s", o->socket != NULL ? o->socket : "",
                o->socket != NULL && o->port >= 0 ? ", " : "", tcp);
    listen_update(g);
    return ERR_OK;
}

void listen_close(struct gateway *g)
{
    struct stat st;
    char path[PATH_MAX];
    const char *name = g->options->socket;
    if (g->socket_ino != 0 && lstat(name, &st) == 0 &&
        st.st_ino == g->socket_ino && st.st_dev == g->socket_dev)
        unlink(name);
    g->socket_ino = 0;
    if (g->lock_fd >= 0) {
        snprintf(path, sizeof(path), "%s.lock", name);
        unlink(path);
        close(g->lock_fd);
        g->lock_fd = -1;
    }
    for (size_t i = 0; i < g->listener_count; i++) {
        close(g->listeners[i].source.fd);
        g->listeners[i].source.fd = -1;
    }
    g->listener_count = 0;
    g->accepting = false;
}
