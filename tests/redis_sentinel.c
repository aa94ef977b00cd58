/* Starting a replicated Redis with its sentinels. */
#include "tests/redis_sentinel.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e.h"
#include "tests/support.h"

/* ---- asking ---- */

void farm_link(const struct farm *f, const struct redis *to,
               struct redis_link *link)
{
    bool node = to >= f->nodes && to < f->nodes + FARM_NODES;
    const char *password = node ? f->password : f->sentinel_password;
    redis_link_open(link, to);
    if (password == NULL)
        return;
    char command[80];
    snprintf(command, sizeof(command), "AUTH %s", password);
    ck_assert_str_eq(redis_link_ask(link, command), "+OK\r\n");
}

const char *farm_ask(const struct farm *f, const struct redis *to,
                     const char *command)
{
    struct redis_link link;
    farm_link(f, to, &link);
    const char *text = redis_link_ask(&link, command);
    redis_link_close(&link);
    return text;
}

/* The whole of a long reply, cut to fit. */
static void ask_all(const struct farm *f, const struct redis *to,
                    const char *command, char *text, size_t size)
{
    struct redis_link link;
    const char *reply = "";
    size_t len = 0;
    farm_link(f, to, &link);
    redis_link_command(&link, command);
    ck_assert_int_eq(
        redis_link_reply(&link, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    len = len < size - 1 ? len : size - 1;
    memcpy(text, reply, len);
    text[len] = '\0';
    redis_link_close(&link);
}

/* A number behind its name in a flat reply; -1: it is not there. */
static int field(const char *reply, const char *name)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\r\n%s\r\n$", name);
    const char *at = strstr(reply, wanted);
    at = at == NULL ? NULL : strchr(at + strlen(wanted), '\n');
    return at == NULL ? -1 : atoi(at + 1);
}

int farm_master(const struct farm *f)
{
    const char *reply = "";
    for (int i = 0; i < FARM_SENTINELS && *reply == '\0'; i++)
        if (f->sentinels[i].pid > 0)
            reply = farm_ask(f, &f->sentinels[i],
                             "SENTINEL GET-MASTER-ADDR-BY-NAME " FARM_MASTER);
    for (int i = 0; i < FARM_NODES; i++) {
        char port[16];
        snprintf(port, sizeof(port), "\n%d\r", f->ports[i]);
        if (strstr(reply, port) != NULL)
            return i;
    }
    return -1;
}

bool farm_agrees(const struct farm *f, int replicas, int *who)
{
    char text[8192];
    int master = farm_master(f);
    if (master < 0 || f->nodes[master].pid <= 0)
        return false;
    for (int i = 0; i < FARM_SENTINELS; i++) {
        if (f->sentinels[i].pid <= 0)
            continue;
        ask_all(f, &f->sentinels[i], "SENTINEL MASTER " FARM_MASTER, text,
                sizeof(text));
        if (field(text, "port") != f->ports[master] ||
            field(text, "num-slaves") < replicas ||
            field(text, "num-other-sentinels") < FARM_SENTINELS - 1 ||
            strstr(text, "\r\nmaster\r\n") == NULL)
            return false;
    }
    ask_all(f, &f->nodes[master], "INFO replication", text, sizeof(text));
    int online = 0;
    for (const char *at = text; (at = strstr(at, "state=online")) != NULL; at++)
        online++;
    *who = master;
    return online >= replicas && strstr(text, "role:master") != NULL;
}

const char *farm_uri(const struct farm *f, const char *login, unsigned mask)
{
    static char uri[256];
    size_t n = (size_t)snprintf(uri, sizeof(uri), "sentinel://%s", login);
    const char *comma = "";
    for (int i = 0; i < FARM_SENTINELS; i++) {
        if (!(mask & 1U << i))
            continue;
        n += (size_t)snprintf(uri + n, sizeof(uri) - n, "%s127.0.0.1:%d", comma,
                              f->sentinel_ports[i]);
        comma = ",";
    }
    snprintf(uri + n, sizeof(uri) - n, "/" FARM_MASTER);
    return uri;
}

/* ---- starting ---- */

void farm_follow(struct farm *f, int i, int of)
{
    char command[80];
    snprintf(command, sizeof(command), "REPLICAOF 127.0.0.1 %d", f->ports[of]);
    const char *text = farm_ask(f, &f->nodes[i], command);
    ck_assert_msg(strncmp(text, "+OK", 3) == 0, "%s", text);
}

static bool start_node(struct farm *f, int i, int of)
{
    static unsigned count;
    char options[512], name[40], command[80];
    snprintf(name, sizeof(name), "n%ld-%u", (long)getpid(), ++count);
    snprintf(options, sizeof(options),
             "--port %d --bind 127.0.0.1 --dbfilename %s.rdb "
             "--repl-diskless-sync-delay 0 --repl-ping-replica-period 1 "
             "--rdb-del-sync-files yes%s%s",
             f->ports[i], name, f->password ? " --masterauth " : "",
             f->password ? f->password : "");
    if (!redis_start(&f->nodes[i], name, options))
        return false;
    if (f->password != NULL) {
        struct redis_link link;
        redis_link_open(&link, &f->nodes[i]);
        snprintf(command, sizeof(command), "CONFIG SET requirepass %s",
                 f->password);
        ck_assert_str_eq(redis_link_ask(&link, command), "+OK\r\n");
        redis_link_close(&link);
    }
    if (of != i)
        farm_follow(f, i, of);
    return true;
}

static bool listens(const struct redis *r)
{
    int status;
    ck_assert_msg(waitpid(r->pid, &status, WNOHANG) == 0,
                  "a sentinel ended at its start");
    return redis_listens(r);
}

/* A sentinel writes into its configuration, so each has one of its own. */
void sentinel_start(struct redis *r, const char *configuration)
{
    static unsigned count;
    const char *program = getenv("REDIS_SERVER");
    char path[256];
    int n = snprintf(r->path, sizeof(r->path), "%s/s%ld-%u.sock",
                     support_scratch(), (long)getpid(), ++count);
    ck_assert_int_lt(n, (int)sizeof(r->path));
    snprintf(path, sizeof(path), "%s/s%ld-%u.conf", support_scratch(),
             (long)getpid(), count);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "bind 127.0.0.1\nunixsocket %s\ndir %s\nlogfile \"\"\n%s",
            r->path, support_scratch(), configuration);
    ck_assert_int_eq(fclose(file), 0);
    const char *const argv[] = {
        program != NULL && *program != '\0' ? program : "redis-server", path,
        "--sentinel", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    r->pid = e2e_spawn(argv, null, null);
    close(null);
    ck_assert(UNTIL(listens(r)));
}

static void start_sentinel(struct farm *f, int i)
{
    char text[1024];
    f->sentinel_ports[i] = support_free_port();
    int n =
        snprintf(text, sizeof(text),
                 "port %d\n"
                 "sentinel monitor " FARM_MASTER " 127.0.0.1 %d 2\n"
                 "sentinel down-after-milliseconds " FARM_MASTER " %d\n"
                 "sentinel failover-timeout " FARM_MASTER " 4000\n"
                 "sentinel parallel-syncs " FARM_MASTER " %d\n",
                 f->sentinel_ports[i], f->ports[0], FARM_DOWN_MS, FARM_NODES);
    if (f->password != NULL)
        n += snprintf(text + n, sizeof(text) - (size_t)n,
                      "sentinel auth-pass " FARM_MASTER " %s\n", f->password);
    if (f->sentinel_password != NULL)
        snprintf(text + n, sizeof(text) - (size_t)n,
                 "requirepass %s\nsentinel sentinel-pass %s\n",
                 f->sentinel_password, f->sentinel_password);
    sentinel_start(&f->sentinels[i], text);
}

bool farm_start(struct farm *f, const char *password,
                const char *sentinel_password)
{
    *f = (struct farm){.password = password,
                       .sentinel_password = sentinel_password};
    for (int i = 0; i < FARM_NODES; i++) {
        f->ports[i] = support_free_port();
        if (!start_node(f, i, 0))
            return false;
    }
    /* Only then: the first thing that sentinels do is to ask who follows. */
    char text[4096];
    ck_assert(
        UNTIL((ask_all(f, &f->nodes[0], "INFO replication", text, sizeof(text)),
               strstr(text, "slave1:") != NULL &&
                   strstr(text, "wait_bgsave") == NULL &&
                   strstr(text, "send_bulk") == NULL)));
    for (int i = 0; i < FARM_SENTINELS; i++)
        start_sentinel(f, i);
    int master = -1;
    ck_assert(UNTIL(farm_agrees(f, FARM_NODES - 1, &master)) && master == 0);
    return true;
}

void farm_kill_node(struct farm *f, int i)
{
    redis_stop(&f->nodes[i]);
}

void farm_kill_sentinel(struct farm *f, int i)
{
    redis_stop(&f->sentinels[i]);
}

void farm_restart_node(struct farm *f, int i, int of)
{
    ck_assert(start_node(f, i, of));
}

void farm_stop(struct farm *f)
{
    for (int i = 0; i < FARM_SENTINELS; i++)
        redis_stop(&f->sentinels[i]);
    for (int i = 0; i < FARM_NODES; i++)
        redis_stop(&f->nodes[i]);
}
