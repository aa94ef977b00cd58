/* A byte stream to Redis: a socket, with or without TLS on it. Never blocks. */
#ifndef MANAGER_STREAM_H
#define MANAGER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/lookup.h"
#include "manager/uri.h"

struct tls_context; /* see tls.h */
struct tls;

struct stream {
    int fd;          /* -1: closed */
    struct tls *tls; /* NULL: plain */
    bool want_write; /* TLS: reading goes on once it can write */
};

/* Begins to connect to a unix socket, or to one of these addresses: that an
 * address does not answer shows later, so each attempt begins with another one.
 * ERR_OK: connected already, or on the way: wait until the descriptor is
 * writable, then call stream_connected. ERR_SYS, ERR_INVALID (the path is too
 * long), with a line that does not name the address. */
MUST_CHECK enum err stream_connect_unix(struct stream *s, const char *path,
                                        struct err_text *why);
MUST_CHECK enum err stream_connect(struct stream *s, const struct addresses *a,
                                   uint32_t attempt, struct err_text *why);

/* The outcome of the connect; sets the socket's options. With `tls` the TLS
 * handshake is to follow. */
MUST_CHECK enum err stream_connected(struct stream *s, const struct uri *uri,
                                     struct tls_context *tls,
                                     struct err_text *why);

/* Goes on with the TLS handshake. ERR_OK: done (at once without TLS).
 * ERR_AGAIN: wait for reading, or writing if want_write. */
MUST_CHECK enum err stream_handshake(struct stream *s, struct err_text *why);

/* ERR_AGAIN, ERR_CLOSED (end of file), ERR_SYS (errno; EPROTO for TLS). */
MUST_CHECK enum err stream_read(struct stream *s, char *buf, size_t size,
                                size_t *n);
MUST_CHECK enum err stream_write(struct stream *s, const char *data, size_t len,
                                 size_t *n);

/* Writes from a file's offset on. *n is 0 where the file has ended, or can't be
 * read. */
MUST_CHECK enum err stream_write_file(struct stream *s, int fd, int64_t offset,
                                      size_t len, size_t *n);

/* Writes zeros. */
MUST_CHECK enum err stream_write_zeros(struct stream *s, size_t len, size_t *n);

/* Whether bytes are there that poll(2) does not know of (TLS records). */
bool stream_pending(const struct stream *s);

/* What an ERR_SYS of a moment ago means: errno in words, or what TLS says.
 * A view until the next call of anything. */
const char *stream_error(const struct stream *s);

void stream_close(struct stream *s);

#endif
