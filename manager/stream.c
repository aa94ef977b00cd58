/* Sockets to Redis: TCP, unix, and TLS over either. */
#include "manager/stream.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manager/tls.h"

/* A peer that is gone without a word is found out within these. */
#define TCP_USER_TIMEOUT_MS 5000
#define TCP_KEEPALIVE_IDLE_S 5
#define TCP_KEEPALIVE_INTERVAL_S 2
#define TCP_KEEPALIVE_COUNT 3

/* One record of TLS. */
#define FILE_PIECE 16384

static enum err start(struct stream *s, const struct sockaddr *addr,
                      socklen_t len, struct err_text *why)
{
    int fd =
        socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_say(why, ERR_SYS, "cannot make a socket: %s",
                       strerror(errno));
    if (connect(fd, addr, len) < 0 && errno != EINPROGRESS && errno != EAGAIN) {
        err_say(why, ERR_SYS, "%s", strerror(errno));
        close(fd);
        return ERR_SYS;
    }
    *s = (struct stream){.fd = fd};
    return ERR_OK;
}

enum err stream_connect_unix(struct stream *s, const char *path,
                             struct err_text *why)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    s->fd = -1;
    if (len >= sizeof(addr.sun_path))
        return err_say(why, ERR_INVALID, "the socket's path is over %zu bytes",
                       sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, path, len);
    return start(s, (const struct sockaddr *)&addr, sizeof(addr), why);
}

/* A host with a broken IPv6 is reached by IPv4. */
enum err stream_connect(struct stream *s, const struct addresses *a,
                        uint32_t attempt, struct err_text *why)
{
    enum err e = ERR_INVALID;
    s->fd = -1;
    assert(a->count > 0); /* a look-up gives one, or an error */
    for (uint32_t i = 0; i < a->count && e != ERR_OK; i++) {
        const struct address *one = &a->list[(attempt + i) % a->count];
        e = start(s, (const struct sockaddr *)&one->at, one->len, why);
    }
    return e;
}

static void set_tcp_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, TCP_KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, TCP_KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, TCP_KEEPALIVE_COUNT},
    };
    /* Each makes things better; none is worth failing for. */
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                   sizeof(options[i].value));
}

enum err stream_connected(struct stream *s, const struct uri *uri,
                          struct tls_context *tls, struct err_text *why)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error != 0)
        return err_say(why, ERR_SYS, "%s", strerror(error));
    if (!uri->is_unix)
        set_tcp_options(s->fd);
    if (tls != NULL)
        return tls_new(&s->tls, tls, s->fd, uri->host, why);
    return ERR_OK;
}

enum err stream_handshake(struct stream *s, struct err_text *why)
{
    return s->tls ? tls_handshake(s->tls, &s->want_write, why) : ERR_OK;
}

enum err stream_read(struct stream *s, char *buf, size_t size, size_t *n)
{
    if (s->tls != NULL)
        return tls_read(s->tls, buf, size, n, &s->want_write);
    for (;;) {
        ssize_t r = read(s->fd, buf, size);
        if (r > 0) {
            *n = (size_t)r;
            return ERR_OK;
        }
        if (r == 0)
            return ERR_CLOSED;
        if (errno == EAGAIN)
            return ERR_AGAIN;
        if (errno != EINTR)
            return ERR_SYS;
    }
}

enum err stream_write(struct stream *s, const char *data, size_t len, size_t *n)
{
    if (s->tls != NULL)
        return tls_write(s->tls, data, len, n);
    for (;;) {
        ssize_t r = send(s->fd, data, len, MSG_NOSIGNAL);
        if (r >= 0) {
            *n = (size_t)r;
            return ERR_OK;
        }
        if (errno == EAGAIN)
            return ERR_AGAIN;
        if (errno != EINTR)
            return ERR_SYS;
    }
}

/* The same length again for the same offset: a TLS write that was refused is to
 * be repeated as it was, also if the file was cut short meanwhile: then zeros
 * follow, as long as this. */
static enum err write_piece(struct stream *s, int fd, int64_t offset,
                            size_t len, size_t *n)
{
    char piece[FILE_PIECE];
    size_t want = len < FILE_PIECE ? len : FILE_PIECE;
    *n = 0;
    return pread(fd, piece, want, offset) < (ssize_t)want
               ? ERR_OK
               : stream_write(s, piece, want, n);
}

enum err stream_write_file(struct stream *s, int fd, int64_t offset, size_t len,
                           size_t *n)
{
    if (s->tls != NULL)
        return write_piece(s, fd, offset, len, n);
    for (;;) {
        off_t at = offset;
        ssize_t r = sendfile(s->fd, fd, &at, len);
        if (r >= 0) {
            *n = (size_t)r;
            return ERR_OK;
        }
        if (errno == EAGAIN)
            return ERR_AGAIN;
        /* It does not say which of the two it failed for. A file that can't be
         * read must not cost everybody the connection, so the pieces find out:
         * of a broken socket they say so. */
        if (errno != EINTR)
            return write_piece(s, fd, offset, len, n);
    }
}

enum err stream_write_zeros(struct stream *s, size_t len, size_t *n)
{
    static const char zeros[FILE_PIECE];
    return stream_write(s, zeros, len < FILE_PIECE ? len : FILE_PIECE, n);
}

bool stream_pending(const struct stream *s)
{
    return s->tls != NULL && tls_pending(s->tls);
}

const char *stream_error(const struct stream *s)
{
    return s->tls != NULL && errno == EPROTO ? tls_error(s->tls)
                                             : strerror(errno);
}

void stream_close(struct stream *s)
{
    tls_free(s->tls);
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct stream){.fd = -1};
}
