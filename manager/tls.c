/*
 * TLS by OpenSSL: client sessions on non-blocking sockets.
 *
 * The server's certificate is checked against the trusted ones and its name
 * always; there is no switch to turn that off (trust a private authority with
 * --tls-ca). A byte counts as handed to the library once SSL_write took it.
 */
#include "manager/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct tls_context {
    SSL_CTX *ssl;
    char *server_name; /* NULL: the host of the URI */
};

struct tls {
    SSL *ssl;
    const char *error; /* of the last read or write that failed */
};

/* The reason that OpenSSL noted last, or the system's. */
static const char *reason(void)
{
    unsigned long code = ERR_get_error();
    const char *text = NULL;
    if (ERR_GET_LIB(code) == ERR_LIB_SYS)
        text = strerror(ERR_GET_REASON(code));
    else if (code != 0)
        text = ERR_reason_error_string(code);
    ERR_clear_error();
    return text ? text : errno ? strerror(errno) : "no reason given";
}

static enum err load_files(SSL_CTX *ssl, const struct tls_options *o,
                           struct err_text *why)
{
    if (o->ca_file != NULL
            ? SSL_CTX_load_verify_locations(ssl, o->ca_file, NULL) != 1
            : SSL_CTX_set_default_verify_paths(ssl) != 1)
        return err_say(why, ERR_INVALID, "--tls-ca %s: %s",
                       o->ca_file ? o->ca_file : "(the system's)", reason());
    if (o->cert_file == NULL && o->key_file == NULL)
        return ERR_OK;
    if (o->cert_file == NULL || o->key_file == NULL)
        return err_say(why, ERR_INVALID,
                       "--tls-cert and --tls-key go together");
    if (SSL_CTX_use_certificate_chain_file(ssl, o->cert_file) != 1)
        return err_say(why, ERR_INVALID, "--tls-cert %s: %s", o->cert_file,
                       reason());
    if (SSL_CTX_use_PrivateKey_file(ssl, o->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1)
        return err_say(why, ERR_INVALID, "--tls-key %s: %s", o->key_file,
                       reason());
    return ERR_OK;
}

enum err tls_context_new(struct tls_context **ctx,
                         const struct tls_options *options,
                         struct err_text *why)
{
    struct tls_context *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    errno = 0;
    c->ssl = SSL_CTX_new(TLS_client_method());
    if (options->server_name != NULL)
        c->server_name = strdup(options->server_name);
    enum err e = ERR_OK;
    if (c->ssl == NULL || (options->server_name && c->server_name == NULL))
        e = err_say(why, ERR_NOMEM, "cannot set up TLS: %s", reason());
    if (e == ERR_OK) {
        SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION);
        SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
        /* Redis ends without a close_notify; RESP has its own framing, so a
         * cut stream is noticed all the same. */
        SSL_CTX_set_options(c->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
        SSL_CTX_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                     SSL_MODE_RELEASE_BUFFERS);
        e = load_files(c->ssl, options, why);
    }
    if (e != ERR_OK) {
        tls_context_free(c);
        return e;
    }
    *ctx = c;
    return ERR_OK;
}

void tls_context_free(struct tls_context *ctx)
{
    if (ctx == NULL)
        return;
    SSL_CTX_free(ctx->ssl);
    free(ctx->server_name);
    free(ctx);
}

/* What the certificate must be for: an address or a name. */
static bool expect(SSL *ssl, const char *name)
{
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, address) == 1 ||
        inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    /* The macro of SSL_set_tlsext_host_name casts const away; its argument is
     * copied. */
    char host[256];
    snprintf(host, sizeof(host), "%s", name);
    return SSL_set_tlsext_host_name(ssl, host) == 1 &&
           SSL_set1_host(ssl, host) == 1;
}

enum err tls_new(struct tls **tls, struct tls_context *ctx, int fd,
                 const char *host, struct err_text *why)
{
    struct tls *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    errno = 0;
    t->ssl = SSL_new(ctx->ssl);
    if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1 ||
        !expect(t->ssl, ctx->server_name ? ctx->server_name : host)) {
        err_say(why, ERR_SYS, "cannot begin TLS: %s", reason());
        tls_free(t);
        return ERR_SYS;
    }
    SSL_set_connect_state(t->ssl);
    *tls = t;
    return ERR_OK;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    ERR_clear_error();
    free(tls);
}

enum err tls_handshake(struct tls *tls, bool *want_write, struct err_text *why)
{
    ERR_clear_error();
    errno = 0;
    int r = SSL_do_handshake(tls->ssl);
    *want_write = false;
    if (r == 1)
        return ERR_OK;
    int e = SSL_get_error(tls->ssl, r);
    if (e == SSL_ERROR_WANT_READ)
        return ERR_AGAIN;
    if (e == SSL_ERROR_WANT_WRITE) {
        *want_write = true;
        return ERR_AGAIN;
    }
    long verify = SSL_get_verify_result(tls->ssl);
    if (verify != X509_V_OK)
        return err_say(why, ERR_DENIED,
                       "TLS: the server's certificate is refused: %s",
                       X509_verify_cert_error_string(verify));
    bool closed = e == SSL_ERROR_SYSCALL || e == SSL_ERROR_ZERO_RETURN;
    return err_say(why, ERR_SYS, "TLS: %s",
                   closed && errno == 0 ? "the server closed the connection"
                                        : reason());
}

enum err tls_read(struct tls *tls, char *buf, size_t size, size_t *n,
                  bool *want_write)
{
    ERR_clear_error();
    errno = 0;
    *want_write = false;
    int r = SSL_read_ex(tls->ssl, buf, size, n);
    if (r == 1)
        return ERR_OK;
    switch (SSL_get_error(tls->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        return ERR_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *want_write = true;
        return ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return ERR_CLOSED;
    case SSL_ERROR_SYSCALL:
        if (errno != 0)
            return ERR_SYS;
        return ERR_CLOSED;
    default:
        tls->error = reason();
        errno = EPROTO;
        return ERR_SYS;
    }
}

enum err tls_write(struct tls *tls, const char *data, size_t len, size_t *n)
{
    ERR_clear_error();
    errno = 0;
    int r = SSL_write_ex(tls->ssl, data, len, n);
    if (r == 1)
        return ERR_OK;
    int e = SSL_get_error(tls->ssl, r);
    if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ)
        return ERR_AGAIN;
    if (e != SSL_ERROR_SYSCALL || errno == 0) {
        tls->error = reason();
        errno = EPROTO;
    }
    return ERR_SYS;
}

bool tls_pending(const struct tls *tls)
{
    return SSL_has_pending(tls->ssl) == 1;
}

const char *tls_error(const struct tls *tls)
{
    return tls->error ? tls->error : "no reason given";
}
