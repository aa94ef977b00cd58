/* The command line. */
#include "server/options.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/number.h"

#define MAX_CLIENTS_LIMIT 100000

static const char help[] =
    "Usage: mqredis-server [OPTION]...\n"
    "A small Redis server which keeps everything in memory and nothing on "
    "disk.\n"
    "\n"
    "  --bind ADDRESS          listen on this address (127.0.0.1); may be\n"
    "                          repeated\n"
    "  --port PORT             TCP port (6379); 0 takes any free one\n"
    "  --unixsocket PATH       listen on a unix socket too\n"
    "  --unixsocketperm MODE   its permissions, octal (700)\n"
    "  --requirepass PASSWORD  clients must AUTH with it\n"
    "  --protected-mode no     allow --bind beyond loopback without password\n"
    "  --maxclients N          serve at most N connections (250); more wait "
    "in\n"
    "                          the backlog\n"
    "  --maxmemory BYTES       refuse to store more (0: no limit); 100mb, 2gb\n"
    "  --timeout SECONDS       close idle connections (0: never)\n"
    "  --tcp-backlog N         connections that may wait (511)\n"
    "  --help, --version\n"
    "\n"
    "Prints one line when it is ready. SIGTERM and SIGINT end it after "
    "commands\n"
    "that have arrived are answered.\n";

const char *options_help(void)
{
    return help;
}

void options_defaults(struct options *o)
{
    memset(o, 0, sizeof(*o));
    o->port = 6379;
    o->backlog = 511;
    o->unix_mode = 0700;
    o->max_clients = 250;
    o->query_limit = UINT64_C(1) << 30;
    o->bulk_max = INT64_C(512) << 20;
    /* Redis lets a normal client's replies pile up without a limit. */
    o->normal_limit = (struct output_limit){.hard = UINT64_C(1) << 30};
    o->pubsub_limit = (struct output_limit){
        .hard = UINT64_C(32) << 20, .soft = UINT64_C(8) << 20, .soft_s = 60};
    o->protected_mode = true;
}

/* ---- reading options ---- */

struct reading {
    struct options *options;
    const char *name; /* with its dashes */
    const char *value;
    struct err_text *why;
};

static enum err wrong(const struct reading *r, const char *wanted)
{
    return err_say(r->why, ERR_INVALID, "%s: '%s' is not %s", r->name, r->value,
                   wanted);
}

static bool in_range(const struct reading *r, int64_t low, int64_t high,
                     int64_t *n)
{
    return number_parse(r->value, strlen(r->value), n) && *n >= low &&
           *n <= high;
}

static enum err read_bind(const struct reading *r)
{
    struct options *o = r->options;
    if (*r->value == '\0')
        return wrong(r, "an address");
    if (o->bind_count == OPTIONS_BIND_MAX)
        return err_say(r->why, ERR_LIMIT, "--bind: at most %d addresses",
                       OPTIONS_BIND_MAX);
    o->bind[o->bind_count++] = r->value;
    return ERR_OK;
}

static enum err read_port(const struct reading *r)
{
    int64_t n;
    if (!in_range(r, 0, 65535, &n))
        return wrong(r, "a port (0 to 65535)");
    r->options->port = (int)n;
    return ERR_OK;
}

static enum err read_unix_socket(const struct reading *r)
{
    if (*r->value == '\0')
        return wrong(r, "a path");
    r->options->unix_socket = r->value;
    return ERR_OK;
}

static enum err read_unix_mode(const struct reading *r)
{
    char *end;
    unsigned long mode = strtoul(r->value, &end, 8);
    if (*r->value < '0' || *r->value > '7' || *end != '\0' || mode == 0 ||
        mode > 0777)
        return wrong(r, "an octal mode (1 to 777)");
    r->options->unix_mode = (unsigned)mode;
    return ERR_OK;
}

static enum err read_password(const struct reading *r)
{
    size_t len = strlen(r->value);
    if (len == 0 || len > OPTIONS_PASSWORD_MAX)
        return err_say(r->why, ERR_INVALID,
                       "--requirepass: a password has 1 to %d bytes",
                       OPTIONS_PASSWORD_MAX);
    memcpy(r->options->password, r->value, len);
    r->options->password_len = len;
    return ERR_OK;
}

static enum err read_protected(const struct reading *r)
{
    if (strcmp(r->value, "yes") != 0 && strcmp(r->value, "no") != 0)
        return wrong(r, "yes or no");
    r->options->protected_mode = strcmp(r->value, "yes") == 0;
    return ERR_OK;
}

static enum err read_max_clients(const struct reading *r)
{
    int64_t n;
    if (!in_range(r, 1, MAX_CLIENTS_LIMIT, &n))
        return wrong(r, "a number of connections (1 to 100000)");
    r->options->max_clients = (size_t)n;
    return ERR_OK;
}

static enum err read_max_memory(const struct reading *r)
{
    if (!number_parse_memory(r->value, strlen(r->value),
                             &r->options->max_memory))
        return wrong(r, "an amount of memory (such as 0, 100mb, 2gb)");
    return ERR_OK;
}

static enum err read_timeout(const struct reading *r)
{
    if (!in_range(r, 0, INT32_MAX, &r->options->timeout_s))
        return wrong(r, "a number of seconds");
    return ERR_OK;
}

static enum err read_backlog(const struct reading *r)
{
    int64_t n;
    if (!in_range(r, 1, 65535, &n))
        return wrong(r, "a number of connections (1 to 65535)");
    r->options->backlog = (int)n;
    return ERR_OK;
}

static const struct {
    const char *name;
    enum err (*read)(const struct reading *r);
} known[] = {
    {"--bind", read_bind},
    {"--port", read_port},
    {"--unixsocket", read_unix_socket},
    {"--unixsocketperm", read_unix_mode},
    {"--requirepass", read_password},
    {"--protected-mode", read_protected},
    {"--maxclients", read_max_clients},
    {"--maxmemory", read_max_memory},
    {"--timeout", read_timeout},
    {"--tcp-backlog", read_backlog},
};

static enum err read_one(const struct reading *r)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(r->name, known[i].name) == 0)
            return r->value != NULL ? known[i].read(r)
                                    : err_say(r->why, ERR_INVALID,
                                              "%s needs a value", r->name);
    return err_say(r->why, ERR_INVALID,
                   "'%s' is no option of mqredis-server (try --help)", r->name);
}

/* ---- all of them together ---- */

static bool is_loopback(const char *address)
{
    struct in_addr in;
    if (inet_pton(AF_INET, address, &in) == 1)
        return (ntohl(in.s_addr) >> 24) == 127;
    return strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
}

static enum err check_protection(const struct options *o, struct err_text *why)
{
    if (!o->protected_mode || o->password_len != 0)
        return ERR_OK;
    for (size_t i = 0; i < o->bind_count; i++)
        if (!is_loopback(o->bind[i]))
            return err_say(why, ERR_DENIED,
                           "--bind %s lets other machines in without a "
                           "password: add --requirepass, or --protected-mode "
                           "no if that is what you want",
                           o->bind[i]);
    return ERR_OK;
}

enum err options_parse(struct options *o, int argc, char **argv,
                       enum options_verdict *verdict, struct err_text *why)
{
    *verdict = OPTIONS_RUN;
    char **end = argv + argc;
    for (char **p = argv + 1; p < end; p++) {
        if (strcmp(*p, "--help") == 0 || strcmp(*p, "-h") == 0) {
            *verdict = OPTIONS_HELP;
            return ERR_OK;
        }
        if (strcmp(*p, "--version") == 0 || strcmp(*p, "-v") == 0) {
            *verdict = OPTIONS_VERSION;
            return ERR_OK;
        }
        struct reading r = {.options = o, .name = *p, .why = why};
        char *equals = strncmp(*p, "--", 2) == 0 ? strchr(*p, '=') : NULL;
        if (equals != NULL) {
            *equals = '\0';
            r.value = equals + 1;
        } else if (p + 1 < end) {
            r.value = *++p;
        }
        enum err e = read_one(&r);
        if (e != ERR_OK)
            return e;
    }
    if (o->bind_count == 0)
        o->bind[o->bind_count++] = "127.0.0.1";
    return check_protection(o, why);
}
