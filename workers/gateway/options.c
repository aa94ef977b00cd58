/* The gateway's options: one table (see ipc/rows.h), and what needs more than a
 * row. */
#include "workers/gateway/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/rows.h"
#include "workers/mqredis.h"

static enum err set_port(struct options *o, char *value, struct err_text *why)
{
    uint64_t n;
    enum err e = rows_number("port", value, false, 0, 65535, &n, why);
    if (e == ERR_OK)
        o->port = (int)n;
    return e;
}

static enum err set_timeout(struct options *o, char *value,
                            struct err_text *why)
{
    uint64_t n;
    if (strcmp(value, "-1") == 0) {
        o->timeout_ms = -1;
        return ERR_OK;
    }
    enum err e = rows_number("timeout", value, false, 1, INT32_MAX, &n, why);
    if (e == ERR_OK)
        o->timeout_ms = (int64_t)n;
    return e;
}

static enum err set_mode(struct options *o, char *value, struct err_text *why)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 8);
    if (value[0] < '0' || value[0] > '7' || *end != '\0' || errno != 0 ||
        n > 0777)
        return err_say(why, ERR_INVALID,
                       "--mode '%.40s': an octal number as 660 is expected",
                       value);
    o->mode = (mode_t)n;
    return ERR_OK;
}

static enum err set_group(struct options *o, char *value, struct err_text *why)
{
    return rows_group(value, &o->group, why);
}

static enum err keep_password(struct options *o, const char *value, size_t len,
                              const char *option, struct err_text *why)
{
    if (len == 0 || len >= sizeof(o->password) ||
        memchr(value, '\0', len) != NULL)
        return err_say(why, ERR_INVALID,
                       "%s: a password of 1 to %zu bytes is expected", option,
                       sizeof(o->password) - 1);
    memcpy(o->password, value, len);
    o->password[len] = '\0';
    return ERR_OK;
}

static enum err set_password(struct options *o, char *value,
                             struct err_text *why)
{
    size_t len = strlen(value);
    enum err e = keep_password(o, value, len, "--requirepass", why);
    /* So that ps does not show it. */
    memset(value, '*', len);
    return e;
}

/* The file's first line. */
static enum err read_password(struct options *o, char *path,
                              struct err_text *why)
{
    char text[OPTIONS_PASSWORD_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_say(why, ERR_INVALID, "--password-file '%s': %s", path,
                       strerror(saved));
    const char *end = memchr(text, '\n', (size_t)n);
    return keep_password(o, text,
                         end != NULL ? (size_t)(end - text) : (size_t)n,
                         "--password-file", why);
}

#define AT(field) offsetof(struct options, field)
#define CALL(function) KIND_CALL, 0, 0, 0, function

static const struct option_row rows[] = {
    {"channel", "NAME", KIND_TEXT, AT(channel), 0, 0, NULL,
     "the manager's channel ($MQREDIS_CHANNEL, else \"default\")"},
    {"socket", "PATH", KIND_TEXT, AT(socket), 0, 0, NULL,
     "listen on this unix socket"},
    {"mode", "OCTAL", CALL(set_mode), "its permissions (600)"},
    {"group", "GROUP", CALL(set_group), "its group"},
    {"port", "N", CALL(set_port), "listen on this TCP port; 0: a free one"},
    {"bind", "ADDRESS", KIND_TEXT, AT(bind), 0, 0, NULL,
     "a loopback address for it (127.0.0.1)"},
    {"requirepass", "PASSWORD", CALL(set_password),
     "clients must AUTH with this"},
    {"password-file", "FILE", CALL(read_password),
     "the same, from a file's first line"},
    {"timeout", "MS", CALL(set_timeout),
     "how long a command may take that does not block (5000); -1: any time"},
    {"max-clients", "N", KIND_COUNT, AT(max_clients), 1, 1 << 20, NULL,
     "connections (10000, or what ulimit -n allows)"},
    {"max-inflight", "N", KIND_COUNT, AT(max_inflight), 1, 1 << 20, NULL,
     "commands of all clients without a reply; then none is read (16384)"},
    {"client-inflight", "N", KIND_COUNT, AT(client_inflight), 1, 1 << 20, NULL,
     "the same of one client (4096)"},
    {"max-topics", "N", KIND_COUNT, AT(max_topics), 0, 65536, NULL,
     "channels and patterns that clients subscribe to (1000)"},
    {"query-buffer", "BYTES", KIND_BYTES, AT(query_buffer), 1024, 1ULL << 40,
     NULL, "the longest command, or MULTI; over it a client is cut (520m)"},
    {"output-pause", "BYTES", KIND_BYTES, AT(output_pause), 1, 1ULL << 40, NULL,
     "replies that wait for a client: it is not read any more then (1m)"},
    {"output-buffer", "BYTES", KIND_BYTES, AT(output_buffer), 1024, 1ULL << 40,
     NULL, "messages that wait for a subscriber: it is cut then (64m)"},
    {"buffers-total", "BYTES", KIND_BYTES, AT(buffers_total), 65536, 1ULL << 40,
     NULL, "all of them together (1g)"},
    {"drain-timeout", "MS", KIND_COUNT, AT(drain_timeout_ms), 0, 86400000, NULL,
     "for answering what is in flight, when told to end (5000)"},
    {"help", NULL, KIND_LAST, AT(help), 0, 0, NULL, "print this"},
    {"version", NULL, KIND_LAST, AT(version), 0, 0, NULL, "print the version"},
};

static const struct option_rows table = {"mqredis-gateway", rows,
                                         sizeof(rows) / sizeof(rows[0]), 24};

void options_help(void)
{
    printf("Usage: mqredis-gateway --socket PATH | --port N [OPTION]...\n"
           "Lets any Redis client send through the connection that this host "
           "shares.\n\n");
    rows_help(&table);
    printf("\nSignals: TERM and INT answer what is in flight and end, a second "
           "one ends at\nonce; USR1 prints the counters.\n"
           "Exit status: 0 ended in good order; 64 usage; 69 cannot listen; 75 "
           "another\ngateway listens there.\n");
}

static void set_defaults(struct options *o)
{
    *o = (struct options){
        .bind = "127.0.0.1",
        .port = -1,
        .mode = 0600,
        .group = (gid_t)-1,
        .timeout_ms = MQREDIS_TIMEOUT_MS,
        .max_clients = 10000,
        .max_inflight = 16384,
        .client_inflight = 4096,
        .max_topics = 1000,
        .drain_timeout_ms = 5000,
        .query_buffer = 520 << 20,
        .output_pause = 1 << 20,
        .output_buffer = 64 << 20,
        .buffers_total = 1 << 30,
    };
}

enum err options_parse(struct options *o, int argc, char **argv,
                       struct err_text *why)
{
    set_defaults(o);
    enum err e = rows_parse(&table, o, argc, argv, why);
    if (e != ERR_OK)
        return e;
    if (!o->help && !o->version && o->socket == NULL && o->port < 0)
        return err_say(why, ERR_INVALID,
                       "nowhere to listen: give --socket PATH, or --port N");
    return ERR_OK;
}
