/* Options are one table, from which parsing and --help come. */
#include "workers/gateway/options.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workers/mqredis.h"

enum kind {
    KIND_TEXT,  /* const char * */
    KIND_FLAG,  /* bool */
    KIND_COUNT, /* uint32_t */
    KIND_BYTES, /* uint64_t; k, m, g are known */
    KIND_CALL
};

struct row {
    const char *name;
    const char *value; /* what --help calls it; NULL: it has none */
    enum kind kind;
    size_t offset;
    uint64_t low, high;
    enum err (*call)(struct options *o, char *value, struct err_text *why);
    const char *help;
};

/* A whole number without sign, with `suffix` also 64k, 16m, 1g. */
static bool parse_number(const char *text, bool suffix, uint64_t low,
                         uint64_t high, uint64_t *value)
{
    char *end;
    errno = 0;
    assert(text != NULL); /* only a flag has none */
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    unsigned shift = 0;
    if (suffix && *end != '\0') {
        shift = *end == 'k' || *end == 'K'   ? 10
                : *end == 'm' || *end == 'M' ? 20
                : *end == 'g' || *end == 'G' ? 30
                                             : 0;
        if (shift == 0)
            return false;
        end++;
    }
    if (*end != '\0' || n > (UINT64_MAX >> shift))
        return false;
    *value = (uint64_t)n << shift;
    return *value >= low && *value <= high;
}

static enum err set_port(struct options *o, char *value, struct err_text *why)
{
    uint64_t n;
    if (!parse_number(value, false, 0, 65535, &n))
        return err_say(why, ERR_INVALID,
                       "--port '%.40s': 0 to 65535 is expected", value);
    o->port = (int)n;
    return ERR_OK;
}

static enum err set_timeout(struct options *o, char *value,
                            struct err_text *why)
{
    uint64_t n;
    if (strcmp(value, "-1") == 0) {
        o->timeout_ms = -1;
        return ERR_OK;
    }
    if (!parse_number(value, false, 1, INT32_MAX, &n))
        return err_say(why, ERR_INVALID,
                       "--timeout '%.40s': milliseconds are expected, or -1",
                       value);
    o->timeout_ms = (int64_t)n;
    return ERR_OK;
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
    uint64_t n;
    const struct group *g = getgrnam(value);
    if (g != NULL)
        o->group = g->gr_gid;
    else if (parse_number(value, false, 0, UINT32_MAX - 1, &n))
        o->group = (gid_t)n;
    else
        return err_say(why, ERR_INVALID, "--group '%.40s': no such group",
                       value);
    return ERR_OK;
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

static const struct row rows[] = {
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
    {"help", NULL, KIND_FLAG, AT(help), 0, 0, NULL, "print this"},
    {"version", NULL, KIND_FLAG, AT(version), 0, 0, NULL, "print the version"},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

void options_help(void)
{
    printf("Usage: mqredis-gateway --socket PATH | --port N [OPTION]...\n"
           "Lets any Redis client send through the connection that this host "
           "shares.\n\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", rows[i].name,
                 rows[i].value ? " " : "", rows[i].value ? rows[i].value : "");
        printf("  %-24s %s\n", left, rows[i].help);
    }
    printf("\nSignals: TERM and INT answer what is in flight and end, a second "
           "one ends at\nonce; USR1 prints the counters.\n"
           "Exit status: 0 ended in good order; 64 usage; 69 cannot listen; 75 "
           "another\ngateway listens there.\n");
}

static const struct row *find_row(const char *arg, const char **value)
{
    if (strcmp(arg, "-h") == 0)
        arg = "--help";
    else if (strcmp(arg, "-V") == 0)
        arg = "--version";
    else if (strcmp(arg, "-c") == 0)
        arg = "--channel";
    *value = NULL;
    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    size_t len = strcspn(arg + 2, "=");
    for (size_t i = 0; i < ROWS; i++) {
        if (strlen(rows[i].name) != len ||
            memcmp(rows[i].name, arg + 2, len) != 0)
            continue;
        if (arg[2 + len] == '=')
            *value = arg + 3 + len;
        return &rows[i];
    }
    return NULL;
}

static enum err store(struct options *o, const struct row *row, char *value,
                      struct err_text *why)
{
    char *at = (char *)o + row->offset;
    uint64_t n = 0;
    switch (row->kind) {
    case KIND_TEXT:
        memcpy(at, &value, sizeof(value));
        return ERR_OK;
    case KIND_FLAG: {
        bool yes = true;
        memcpy(at, &yes, sizeof(yes));
        return ERR_OK;
    }
    case KIND_COUNT:
    case KIND_BYTES:
        if (!parse_number(value, row->kind == KIND_BYTES, row->low, row->high,
                          &n))
            return err_say(why, ERR_INVALID,
                           "--%s '%.40s': a number from %llu to %llu is "
                           "expected",
                           row->name, value, (unsigned long long)row->low,
                           (unsigned long long)row->high);
        if (row->kind == KIND_BYTES) {
            memcpy(at, &n, sizeof(n));
        } else {
            uint32_t narrow = (uint32_t)n;
            memcpy(at, &narrow, sizeof(narrow));
        }
        return ERR_OK;
    case KIND_CALL:
        return row->call(o, value, why);
    }
    return ERR_OK;
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
    for (int i = 1; i < argc; i++) {
        const char *given;
        const struct row *row = find_row(argv[i], &given);
        char *value = NULL;
        if (row == NULL)
            return err_say(why, ERR_INVALID, "no option '%.40s': see --help",
                           argv[i]);
        if (row->value == NULL && given != NULL)
            return err_say(why, ERR_INVALID, "--%s takes no value", row->name);
        if (row->value != NULL) {
            if (given == NULL && i + 1 == argc)
                return err_say(why, ERR_INVALID,
                               "--%s needs a value: see --help", row->name);
            value = given != NULL ? argv[i] + (given - argv[i]) : argv[++i];
        }
        enum err e = store(o, row, value, why);
        if (e != ERR_OK)
            return e;
    }
    if (!o->help && !o->version && o->socket == NULL && o->port < 0)
        return err_say(why, ERR_INVALID,
                       "nowhere to listen: give --socket PATH, or --port N");
    return ERR_OK;
}
