/* TLS for streams, by OpenSSL where the build has it (HAVE_OPENSSL). */
#ifndef MANAGER_TLS_H
#define MANAGER_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

struct tls_options {
    const char *ca_file;   /* NULL: the system's */
    const char *cert_file; /* NULL: no client certificate */
    const char *key_file;
    const char *server_name; /* NULL: the host of the URI */
};

struct tls_context;
struct tls;

/* ERR_INVALID with a line: built without OpenSSL, or a file is bad. */
MUST_CHECK enum err tls_context_new(struct tls_context **ctx,
                                    const struct tls_options *options,
                                    struct err_text *why);
void tls_context_free(struct tls_context *ctx);

/* A client session on a connected, non-blocking socket (borrowed). `host` is
 * what the certificate must be for, unless the options name another. */
MUST_CHECK enum err tls_new(struct tls **tls, struct tls_context *ctx, int fd,
                            const char *host, struct err_text *why);
void tls_free(struct tls *tls);

/* As their counterparts in stream.h. */
MUST_CHECK enum err tls_handshake(struct tls *tls, bool *want_write,
                                  struct err_text *why);
MUST_CHECK enum err tls_read(struct tls *tls, char *buf, size_t size, size_t *n,
                             bool *want_write);
MUST_CHECK enum err tls_write(struct tls *tls, const char *data, size_t len,
                              size_t *n);
bool tls_pending(const struct tls *tls);

/* What OpenSSL says of the last ERR_SYS with EPROTO. Static text. */
const char *tls_error(const struct tls *tls);

#endif
