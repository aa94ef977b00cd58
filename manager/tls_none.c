/* In place of tls.c where the build has no OpenSSL: says so when asked. */
#include "manager/tls.h"

enum err tls_context_new(struct tls_context **ctx,
                         const struct tls_options *options,
                         struct err_text *why)
{
    (void)ctx;
    (void)options;
    return err_say(why, ERR_INVALID,
                   "rediss://: this mqredis-manager was built without TLS: "
                   "install OpenSSL's headers (libssl-dev) and build again");
}

void tls_context_free(struct tls_context *ctx)
{
    (void)ctx;
}

/* Without a context no session is ever made, so the rest is never reached. */

enum err tls_new(struct tls **tls, struct tls_context *ctx, int fd,
                 const char *host, struct err_text *why)
{
    (void)tls;
    (void)ctx;
    (void)fd;
    (void)host;
    return err_say(why, ERR_INVALID, "built without TLS");
}

void tls_free(struct tls *tls)
{
    (void)tls;
}

enum err tls_handshake(struct tls *tls, bool *want_write, struct err_text *why)
{
    (void)tls;
    (void)want_write;
    return err_say(why, ERR_INVALID, "built without TLS");
}

enum err tls_read(struct tls *tls, char *buf, size_t size, size_t *n,
                  bool *want_write)
{
    (void)tls;
    (void)buf;
    (void)size;
    (void)n;
    (void)want_write;
    return ERR_INVALID;
}

enum err tls_write(struct tls *tls, const char *data, size_t len, size_t *n)
{
    (void)tls;
    (void)data;
    (void)len;
    (void)n;
    return ERR_INVALID;
}

bool tls_pending(const struct tls *tls)
{
    (void)tls;
    return false;
}

const char *tls_error(const struct tls *tls)
{
    (void)tls;
    return "built without TLS";
}
