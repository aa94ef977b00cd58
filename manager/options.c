/* The manager's options: one table (see ipc/rows.h), and what needs more than a
 * row. */
#include "manager/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/rows.h"
#include "ipc/version.h"

#define PASSWORD_FILE "--password-file"
#define SENTINEL_PASSWORD_FILE "--sentinel-password-file"

/* ---- values ---- */

/* A password in the arguments is overwritten, so that ps does not show it. */
static void hide_password(char *uri)
{
    char *at = strrchr(uri, '@');
    char *from = strstr(uri, "://");
    if (at == NULL || from == NULL || at < from)
        return;
    char *colon = strchr(from + 3, ':');
    if (colon != NULL && colon < at)
        memset(colon + 1, '*', (size_t)(at - colon - 1));
}

static enum err set_redis(struct options *o, char *value, struct err_text *why)
{
    o->seeds.count = 0;
    enum err e = seeds_named(value)
                     ? seeds_parse(&o->seeds, &o->uri, value, why)
                     : uri_parse(&o->uri, value, why);
    hide_password(value);
    return e;
}

static enum err set_cluster(struct options *o, char *value,
                            struct err_text *why)
{
    static const char *const words[] = {
        [CLUSTER_NO] = "no", [CLUSTER_YES] = "yes", [CLUSTER_AUTO] = "auto"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(value, words[i]) == 0) {
            o->cluster = (enum cluster_mode)i;
            return ERR_OK;
        }
    }
    return err_say(why, ERR_INVALID, "--cluster '%.20s': yes, no or auto",
                   value);
}

static enum err set_read_from(struct options *o, char *value,
                              struct err_text *why)
{
    static const char *const words[] = {[READ_MASTER] = "master",
                                        [READ_REPLICA] = "replica",
                                        [READ_PREFER_REPLICA] =
                                            "prefer-replica"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(value, words[i]) == 0) {
            o->read_from = (enum read_from)i;
            return ERR_OK;
        }
    }
    return err_say(why, ERR_INVALID,
                   "--read-from '%.20s': master, replica or prefer-replica",
                   value);
}

/* What is said of a cluster in several places goes together. */
static enum err check_cluster(struct options *o, struct err_text *why)
{
    if (o->seeds.count > 0)
        o->cluster = CLUSTER_YES;
    if (o->cluster == CLUSTER_NO) {
        if (o->read_from != READ_MASTER)
            return err_say(why, ERR_INVALID,
                           "--read-from is for clusters: use "
                           "--redis cluster://, or --cluster yes");
        return ERR_OK;
    }
    if (o->seeds.count > 0)
        return ERR_OK;
    if (o->uri.sentinel_count > 0)
        return err_say(why, ERR_INVALID,
                       "--cluster: a cluster has no sentinels: name nodes of "
                       "it, as in cluster://host1,host2, or leave --cluster "
                       "away");
    if (o->uri.is_unix)
        return err_say(why, ERR_INVALID,
                       "--cluster: the nodes of a cluster are reached by host "
                       "and port, not by unix://");
    if (o->uri.db != 0 && o->cluster == CLUSTER_YES)
        return err_say(why, ERR_INVALID, "URI: a cluster has only database 0");
    o->seeds.count = 1;
    memcpy(o->seeds.list[0].host, o->uri.host, sizeof(o->uri.host));
    o->seeds.list[0].port = o->uri.port;
    return ERR_OK;
}

static enum err set_capacity(struct options *o, char *value,
                             struct err_text *why)
{
    uint64_t n;
    enum err e = rows_number("capacity", value, false, 1, 65536, &n, why);
    if (e != ERR_OK)
        return e;
    o->queue.capacity = (long)n;
    o->queue.capacity_exact = true;
    return ERR_OK;
}

static enum err set_msgsize(struct options *o, char *value,
                            struct err_text *why)
{
    uint64_t n;
    enum err e = rows_number("msgsize", value, true, MESSAGE_SIZE_MIN, 16 << 20,
                             &n, why);
    if (e != ERR_OK)
        return e;
    o->queue.msgsize = (long)n;
    o->queue.msgsize_exact = true;
    return ERR_OK;
}

static enum err set_group(struct options *o, char *value, struct err_text *why)
{
    enum err e = rows_group(value, &o->group, why);
    if (e != ERR_OK)
        return e;
    /* Replies are the manager's to write through its own group. */
    if (o->group == getegid())
        return err_say(why, ERR_INVALID,
                       "--group '%.64s' is the manager's own group, whose "
                       "members could forge each other's replies: choose "
                       "another one",
                       value);
    return ERR_OK;
}

static enum err set_log_level(struct options *o, char *value,
                              struct err_text *why)
{
    if (log_level_parse(value, &o->log_level) == ERR_OK)
        return ERR_OK;
    return err_say(why, ERR_INVALID,
                   "--log-level '%.20s': one of error, warn, info, debug",
                   value);
}

static enum err set_when_down(struct options *o, char *value,
                              struct err_text *why)
{
    o->when_down_fail = strcmp(value, "fail") == 0;
    if (o->when_down_fail || strcmp(value, "wait") == 0)
        return ERR_OK;
    return err_say(why, ERR_INVALID, "--when-down '%.20s': wait or fail",
                   value);
}

static enum err set_sentinel_tls(struct options *o, char *value,
                                 struct err_text *why)
{
    bool yes = strcmp(value, "yes") == 0;
    o->sentinel_tls = yes ? TLS_YES : TLS_NO;
    if (yes || strcmp(value, "no") == 0)
        return ERR_OK;
    return err_say(why, ERR_INVALID, "--sentinel-tls '%.20s': yes or no",
                   value);
}

static enum err set_resp(struct options *o, char *value, struct err_text *why)
{
    uint64_t n = 0;
    enum err e = rows_number("resp", value, false, 2, 3, &n, why);
    if (e == ERR_OK)
        o->resp = (int)n;
    return e;
}

static enum err set_password(struct uri *uri, const char *text, size_t len,
                             const char *from, struct err_text *why)
{
    if (len >= sizeof(uri->password))
        return err_say(why, ERR_INVALID, "%s: the password is over %zu bytes",
                       from, sizeof(uri->password) - 1);
    memcpy(uri->password, text, len);
    uri->password[len] = '\0';
    return ERR_OK;
}

static enum err read_password(struct uri *uri, const char *path,
                              const char *option, struct err_text *why)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_say(why, ERR_SYS, "%s %.200s: %s", option, path,
                       strerror(saved));
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    /* While it is written anew it may be empty for a moment. */
    if (n == 0)
        return err_say(why, ERR_SYS,
                       "%s %.200s: it is empty: expected the password in it",
                       option, path);
    if (memchr(text, '\0', (size_t)n) != NULL)
        return err_say(why, ERR_SYS,
                       "%s %.200s: it has a zero byte, which no password has",
                       option, path);
    return set_password(uri, text, (size_t)n, option, why);
}

enum err options_reload(const struct options *o, struct uri *uri,
                        struct err_text *why)
{
    if (o->password_file == NULL)
        return ERR_OK;
    struct uri copy = *uri;
    enum err e = read_password(&copy, o->password_file, PASSWORD_FILE, why);
    if (e == ERR_OK)
        *uri = copy;
    return e;
}

enum err options_sentinel_login(const struct options *o, struct uri *uri,
                                struct err_text *why)
{
    struct uri login = {.port = 0};
    enum err e = ERR_OK;
    size_t len = o->sentinel_user == NULL ? 0 : strlen(o->sentinel_user);
    if (len >= sizeof(login.user))
        return err_say(why, ERR_INVALID,
                       "--sentinel-user: the name is over %zu bytes",
                       sizeof(login.user) - 1);
    if (len > 0)
        memcpy(login.user, o->sentinel_user, len);
    if (o->sentinel_password_file != NULL)
        e = read_password(&login, o->sentinel_password_file,
                          SENTINEL_PASSWORD_FILE, why);
    if (e != ERR_OK)
        return e;
    memcpy(uri->user, login.user, sizeof(uri->user));
    memcpy(uri->password, login.password, sizeof(uri->password));
    return ERR_OK;
}

bool options_sentinel_tls(const struct options *o)
{
    return o->sentinel_tls == TLS_AS_URI ? o->uri.tls
                                         : o->sentinel_tls == TLS_YES;
}

static enum err add_deny(struct options *o, char *value, struct err_text *why)
{
    char list[512];
    if (strlen(value) >= sizeof(list))
        return err_say(why, ERR_INVALID, "--deny: the list is too long");
    memcpy(list, value, strlen(value) + 1);
    char *rest = list;
    for (char *one; (one = strsep(&rest, ",")) != NULL;) {
        enum err e = policy_deny(o->policy, one, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static enum err add_dedicated(struct options *o, char *value,
                              struct err_text *why)
{
    return policy_dedicate(o->policy, value, why);
}

/* ---- the table ---- */

#define AT(field) offsetof(struct options, field)
#define CALL(function) KIND_CALL, 0, 0, 0, function

static const struct option_row rows[] = {
    {"channel", "NAME", KIND_TEXT, AT(channel), 0, 0, NULL,
     "the channel to serve, or its folder (default)"},
    {"redis", "URI", CALL(set_redis),
     "redis://[user[:password]@]host[:port][/db], rediss://, unix:///path, "
     "cluster://host:port,host:port, clusters://, "
     "sentinel://host[:port],host[:port].../master, sentinels://"},
    {"cluster", "yes|no|auto", CALL(set_cluster),
     "the server is a node of a cluster (no; cluster://: yes)"},
    {"read-from", "WHICH", CALL(set_read_from),
     "master, replica or prefer-replica: who answers reads in a cluster"},
    {"password-file", "FILE", KIND_TEXT, AT(password_file), 0, 0, NULL,
     "file with the password (else REDISCLI_AUTH, else the URI's)"},
    {"sentinel-user", "NAME", KIND_TEXT, AT(sentinel_user), 0, 0, NULL,
     "user to log in with at the sentinels (default)"},
    {"sentinel-password-file", "FILE", KIND_TEXT, AT(sentinel_password_file), 0,
     0, NULL, "file with the sentinels' password (none)"},
    {"sentinel-tls", "yes|no", CALL(set_sentinel_tls),
     "TLS to the sentinels, too (as the URI says)"},
    {"resp", "2|3", CALL(set_resp), "the protocol that workers see (2)"},
    {"client-name", "NAME", KIND_TEXT, AT(client_name), 0, 0, NULL,
     "name in CLIENT LIST (mqredis)"},
    {"tls-ca", "FILE", KIND_TEXT, AT(tls_ca), 0, 0, NULL,
     "certificates to trust (the system's)"},
    {"tls-cert", "FILE", KIND_TEXT, AT(tls_cert), 0, 0, NULL,
     "client certificate"},
    {"tls-key", "FILE", KIND_TEXT, AT(tls_key), 0, 0, NULL, "and its key"},
    {"tls-server-name", "NAME", KIND_TEXT, AT(tls_server_name), 0, 0, NULL,
     "name that the server's certificate must have (the host)"},
    {"capacity", "N", CALL(set_capacity),
     "messages that the queue holds (32, or what the kernel allows)"},
    {"msgsize", "BYTES", CALL(set_msgsize), "size of a message (8192)"},
    {"raise-msg-max", NULL, KIND_FLAG, AT(raise_msg_max), 0, 0, NULL,
     "raise fs.mqueue.msg_max if the queue needs it (root)"},
    {"group", "GROUP", CALL(set_group), "let its members send"},
    {"spin", "US", KIND_COUNT, AT(spin_us), 0, 10000, NULL,
     "stay awake so long for what comes next; costs CPU (0: off)"},
    {"takeover", NULL, KIND_FLAG, AT(takeover), 0, 0, NULL,
     "replace the manager that serves the channel; no request fails"},
    {"exit-when-closed", NULL, KIND_FLAG, AT(exit_when_closed), 0, 0, NULL,
     "end once the last sender is gone and all is answered"},
    {"when-down", "wait|fail", CALL(set_when_down),
     "without Redis, commands wait or fail at once (wait)"},
    {"connections", "N", KIND_COUNT, AT(connections), 1, CONNECTIONS_MAX, NULL,
     "shared connections; a client stays on one (1)"},
    {"bulk-connections", "0|1", KIND_COUNT, AT(bulk_connections), 0, 1, NULL,
     "a connection of their own for large requests and replies (1)"},
    {"dedicated-connections", "N", KIND_COUNT, AT(dedicated_connections), 0,
     SIDE_CONNECTIONS_MAX, NULL, "for blocking commands, at most (32)"},
    {"dedicated", "COMMAND", CALL(add_dedicated),
     "this command blocks (may be repeated)"},
    {"deny", "LIST", CALL(add_deny),
     "refuse COMMAND, COMMAND|SUB or @category (may be repeated)"},
    {"max-inflight", "N", KIND_COUNT, AT(max_inflight), 1, 1 << 20, NULL,
     "commands waiting for Redis; then senders wait (4096)"},
    {"max-inflight-bytes", "BYTES", KIND_SIZE, AT(max_inflight_bytes), 4096,
     1 << 30, NULL, "bytes of commands not written yet (16m)"},
    {"max-clients", "N", KIND_COUNT, AT(max_clients), 1, 1 << 20, NULL,
     "reply pipes held open (16384, or what ulimit -n allows)"},
    {"max-request", "BYTES", KIND_BYTES, AT(max_request), 1, 1ULL << 40, NULL,
     "large arguments of one message (1g)"},
    {"max-reply", "BYTES", KIND_BYTES, AT(max_reply), 1, 1ULL << 40, NULL,
     "one reply; over it the rest is discarded (1g)"},
    {"shm-budget", "BYTES", KIND_BYTES, AT(shm_budget), 1, 1ULL << 40, NULL,
     "large arguments in flight; then senders wait (1g)"},
    {"reader-backlog", "BYTES", KIND_BYTES, AT(reader_backlog), 4096,
     1ULL << 40, NULL, "bytes behind one slow reader (4m)"},
    {"total-backlog", "BYTES", KIND_BYTES, AT(total_backlog), 4096, 1ULL << 40,
     NULL, "bytes behind all slow readers (32m)"},
    {"max-subscribers", "N", KIND_COUNT, AT(max_subscribers), 0, 65536, NULL,
     "subscriptions of processes (1024)"},
    {"max-subscriptions", "N", KIND_COUNT, AT(max_subscriptions), 0, 1 << 20,
     NULL, "names that all of them subscribe to (65536)"},
    {"subscriber-backlog", "N", KIND_COUNT, AT(subscriber_backlog), 1, 1 << 24,
     NULL, "messages behind one slow subscriber; the oldest go (16384)"},
    {"subscriber-backlog-bytes", "BYTES", KIND_SIZE,
     AT(subscriber_backlog_bytes), 65536, 1 << 30, NULL,
     "the same in bytes, and the longest message (16m)"},
    {"subscribers-total", "BYTES", KIND_BYTES, AT(subscriber_total), 65536,
     1ULL << 40, NULL, "bytes behind all subscribers (64m)"},
    {"connect-timeout", "MS", KIND_MS, AT(connect_timeout_ms), 1, 3600000, NULL,
     "for looking up, connecting and logging in (5000)"},
    {"reconnect-max", "MS", KIND_MS, AT(reconnect_max_ms), 1, 3600000, NULL,
     "longest pause between attempts (10000)"},
    {"silence-timeout", "MS", KIND_MS, AT(silence_timeout_ms), 100, 86400000,
     NULL, "no byte of a due reply for so long: broken (30000)"},
    {"stall-timeout", "MS", KIND_MS, AT(stall_timeout_ms), 1, 3600000, NULL,
     "a large reply's reader may stand still so long (2000)"},
    {"drain-timeout", "MS", KIND_MS, AT(drain_timeout_ms), 0, 86400000, NULL,
     "for answering what was taken, when told to end (10000)"},
    {"check-config", NULL, KIND_FLAG, AT(check_config), 0, 0, NULL,
     "say what would be used and whether it works, and exit"},
    {"log-level", "LEVEL", CALL(set_log_level),
     "error, warn, info or debug (info)"},
    {"help", NULL, KIND_LAST, AT(help), 0, 0, NULL, "this text"},
    {"version", NULL, KIND_LAST, AT(version), 0, 0, NULL, "the version"},
};

static const struct option_rows table = {"mqredis-manager", rows,
                                         sizeof(rows) / sizeof(rows[0]), 28};

static void print_help(void)
{
    printf("usage: mqredis-manager [OPTION]...\n"
           "Owns one connection to Redis and serves the processes of this host "
           "over a message queue.\n\n");
    rows_help(&table);
    printf(
        "\nSignals: TERM and INT answer what was taken and end, a second one "
        "ends at once; HUP reloads.\n"
        "Exit status: 0 ended in good order; 64 usage; 69 queue or folder "
        "not to be had; 75 another manager serves the channel.\n");
}

static void set_defaults(struct options *o)
{
    *o = (struct options){
        .queue = {.capacity = MPSC_CAPACITY, .msgsize = MPSC_MESSAGE_SIZE},
        .group = CHANNEL_NO_GROUP,
        .log_level = LOG_LEVEL_INFO,
        .uri = {.host = "127.0.0.1", .port = 6379},
        .resp = 2,
        .client_name = "mqredis",
        .connections = 1,
        .bulk_connections = 1,
        .stall_timeout_ms = 2000,
        .dedicated_connections = 32,
        .max_inflight = 4096,
        .max_inflight_bytes = 16 << 20,
        .max_clients = 16384,
        .max_request = 1 << 30,
        .max_reply = 1 << 30,
        .shm_budget = 1 << 30,
        .reader_backlog = 4 << 20,
        .total_backlog = 32 << 20,
        .max_subscribers = 1024,
        .max_subscriptions = 65536,
        .subscriber_backlog = 16384,
        .subscriber_backlog_bytes = 16 << 20,
        .subscriber_total = 64 << 20,
        .connect_timeout_ms = 5000,
        .reconnect_max_ms = 10000,
        .silence_timeout_ms = 30000,
        .drain_timeout_ms = 10000,
    };
}

static enum err check_sentinel(const struct options *o, struct err_text *why)
{
    if (o->uri.sentinel_count == 0 &&
        (o->sentinel_user || o->sentinel_password_file || o->sentinel_tls))
        return err_say(why, ERR_INVALID,
                       "--sentinel-... is given, but the URI is not "
                       "sentinel://");
    if (o->sentinel_user && !o->sentinel_password_file)
        return err_say(why, ERR_INVALID,
                       "--sentinel-user needs " SENTINEL_PASSWORD_FILE);
    return ERR_OK;
}

enum err options_parse(struct options *o, int argc, char **argv,
                       enum options_verdict *verdict, struct err_text *why)
{
    set_defaults(o);
    *verdict = OPTIONS_RUN;
    enum err e = policy_new(&o->policy);
    if (e != ERR_OK)
        return err_say(why, e, "out of memory");
    e = rows_parse(&table, o, argc, argv, why);
    if (e == ERR_OK && (o->help || o->version)) {
        if (o->help)
            print_help();
        else
            puts("mqredis-manager " PROJECT_VERSION);
        *verdict = OPTIONS_EXIT;
        return ERR_OK;
    }
    const char *auth = getenv("REDISCLI_AUTH");
    if (e == ERR_OK && o->password_file != NULL)
        e = read_password(&o->uri, o->password_file, PASSWORD_FILE, why);
    else if (e == ERR_OK && auth != NULL && o->uri.password[0] == '\0')
        e = set_password(&o->uri, auth, strlen(auth), "REDISCLI_AUTH", why);
    if (e == ERR_OK && *verdict == OPTIONS_RUN)
        e = check_cluster(o, why);
    if (e == ERR_OK && *verdict == OPTIONS_RUN)
        e = check_sentinel(o, why);
    if (e != ERR_OK)
        options_release(o);
    return e;
}

void options_release(struct options *o)
{
    policy_free(o->policy);
    o->policy = NULL;
}
