/*
 * The parties between and behind the workers. They stay for the whole
 * benchmark, so that no run pays for starting one; the idle ones sleep.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tools/bench/bench.h"
#include "tools/stage.h"

const struct contestant_name contestants[CONTESTANTS] = {
    [CHANNEL_TCP] = {"channel", "mqredis, manager on TCP"},
    [CHANNEL_UNIX] = {"channel-unix", "mqredis, manager on a unix socket"},
    [LIMIT] = {"limit", "bare queue and pipe, an echo for Redis"},
    [HIREDIS_TCP] = {"hiredis", "hiredis, a TCP connection each"},
    [HIREDIS_UNIX] = {"hiredis-unix", "hiredis, a unix socket each"},
    [TWEMPROXY] = {"twemproxy", "hiredis to twemproxy, TCP"},
    [TWEMPROXY_UNIX] = {"twemproxy-unix", "hiredis to twemproxy, unix sockets"},
};

/* ---- looking at processes ---- */

uint64_t process_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 ||
        clock_gettime(clock, &ts) < 0)
        return 0;
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t read_kib(pid_t pid, const char *file, const char *field)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    size_t len = strlen(field);
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, field, len) == 0) {
            kib = strtoull(line + len, NULL, 10);
            break;
        }
    fclose(f);
    return kib;
}

uint64_t process_rss_kib(pid_t pid)
{
    return read_kib(pid, "status", "VmRSS:");
}

uint64_t process_pss_kib(pid_t pid)
{
    return read_kib(pid, "smaps_rollup", "Pss:");
}

const char *find_program(const char *name)
{
    static char path[PATH_MAX];
    const char *env = getenv("PATH");
    char places[4096];
    snprintf(places, sizeof(places), "%s:/usr/sbin:/usr/local/sbin",
             env != NULL ? env : "/usr/local/bin:/usr/bin:/bin");
    char *save = NULL;
    for (char *p = strtok_r(places, ":", &save); p != NULL;
         p = strtok_r(NULL, ":", &save)) {
        snprintf(path, sizeof(path), "%s/%s", p, name);
        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

/* ---- ports ---- */

static int tcp_socket(struct sockaddr_in *a, int port)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

int free_port(void)
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int port = 0;
    int fd = tcp_socket(&a, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        port = ntohs(a.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

enum err wait_for_port(int port, struct process *p, struct err_text *why)
{
    uint64_t deadline = clock_deadline(STAGE_START_MS);
    for (;;) {
        struct sockaddr_in a;
        int fd = tcp_socket(&a, port);
        int rc = connect(fd, (struct sockaddr *)&a, sizeof(a));
        close(fd);
        if (rc == 0)
            return ERR_OK;
        if (process_ended(p))
            return err_say(why, ERR_CLOSED, "%s did not start: %s", p->name,
                           process_end_str(p));
        if (clock_ns() > deadline)
            return err_say(why, ERR_TIMEOUT, "%s was not ready in time",
                           p->name);
        if (process_pause(10) == ERR_AGAIN)
            return err_say(why, ERR_AGAIN, "interrupted");
    }
}

/* ---- Redis ---- */

static enum err start_redis(struct parties *p, struct err_text *why)
{
    const char *program = find_program("redis-server");
    char port[16];
    if (program == NULL)
        return err_say(why, ERR_ABSENT,
                       "no redis-server is installed: tools/setup does that");
    p->redis_port = free_port();
    snprintf(port, sizeof(port), "%d", p->redis_port);
    snprintf(p->redis_unix, sizeof(p->redis_unix), "%.90s/redis.sock", p->dir);
    const char *argv[] = {
        program,        "--port",      port,     "--bind", "127.0.0.1",
        "--unixsocket", p->redis_unix, "--save", "",       "--appendonly",
        "no",           "--dir",       p->dir,   NULL};
    enum err e = process_start(
        &p->redis,
        &(struct process_spec){
            .name = "redis-server", .argv = argv, .quiet = true, .inherit = -1},
        why);
    return e == ERR_OK ? wait_for_port(p->redis_port, &p->redis, why) : e;
}

/* ---- the proxy ---- */

static enum err write_proxy_config(const struct parties *p, const char *path,
                                   struct err_text *why)
{
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return err_say(why, ERR_SYS, "cannot write %s: %s", path,
                       strerror(errno));
    /* One connection to Redis for each pool: the same as ours. */
    static const char pool[] = "%s:\n"
                               "  listen: %s\n"
                               "  redis: true\n"
                               "  hash: fnv1a_64\n"
                               "  distribution: modula\n"
                               "  auto_eject_hosts: false\n"
                               "  preconnect: true\n"
                               "  server_connections: 1\n"
                               "  backlog: 1024\n"
                               "  servers:\n"
                               "   - %s:1\n";
    char listen_tcp[64], server_tcp[64], server_unix[128];
    snprintf(listen_tcp, sizeof(listen_tcp), "127.0.0.1:%d", p->proxy_port);
    snprintf(server_tcp, sizeof(server_tcp), "127.0.0.1:%d", p->redis_port);
    snprintf(server_unix, sizeof(server_unix), "%s", p->redis_unix);
    bool ok = fprintf(f, pool, "tcp", listen_tcp, server_tcp) > 0 &&
              fprintf(f, pool, "unix", p->proxy_unix, server_unix) > 0;
    ok = fclose(f) == 0 && ok;
    return ok ? ERR_OK : err_say(why, ERR_SYS, "cannot write %s", path);
}

static enum err start_proxy(struct parties *p, struct err_text *why)
{
    const char *program = find_program("nutcracker");
    char config[PATH_MAX], pidfile[PATH_MAX], log_file[PATH_MAX], port[16];
    if (program == NULL)
        return err_say(why, ERR_ABSENT,
                       "nutcracker is not installed (tools/setup --dev)");
    p->proxy_port = free_port();
    snprintf(p->proxy_unix, sizeof(p->proxy_unix), "%.90s/proxy.sock", p->dir);
    snprintf(config, sizeof(config), "%.4000s/proxy.yml", p->dir);
    snprintf(pidfile, sizeof(pidfile), "%.4000s/proxy.pid", p->dir);
    snprintf(log_file, sizeof(log_file), "%.4000s/proxy.log", p->dir);
    snprintf(port, sizeof(port), "%d", free_port());
    enum err e = write_proxy_config(p, config, why);
    if (e != ERR_OK)
        return e;
    const char *argv[] = {program, "-c",        config,   "-s",    port,
                          "-a",    "127.0.0.1", "-p",     pidfile, "-v",
                          "0",     "-o",        log_file, NULL};
    e = process_start(
        &p->proxy,
        &(struct process_spec){
            .name = "nutcracker", .argv = argv, .quiet = true, .inherit = -1},
        why);
    return e == ERR_OK ? wait_for_port(p->proxy_port, &p->proxy, why) : e;
}

/* ---- all of them ---- */

static enum err start_managers(struct parties *p, struct err_text *why)
{
    char uri[160], size[16], ready[1024];
    snprintf(size, sizeof(size), "%u", p->msgsize);
    const char *extra[] = {"--msgsize", size, NULL};
    snprintf(uri, sizeof(uri), "redis://127.0.0.1:%d", p->redis_port);
    enum err e = p->have[CHANNEL_TCP]
                     ? stage_manager(&p->manager_tcp, "bench-tcp", uri, extra,
                                     ready, sizeof(ready), why)
                     : ERR_OK;
    if (e != ERR_OK || !p->have[CHANNEL_UNIX])
        return e;
    snprintf(uri, sizeof(uri), "unix://%s", p->redis_unix);
    return stage_manager(&p->manager_unix, "bench-unix", uri, extra, ready,
                         sizeof(ready), why);
}

static void leave_out(struct parties *p, enum contestant c, const char *text)
{
    p->have[c] = false;
    snprintf(p->why_not[c], sizeof(p->why_not[c]), "%.150s", text);
}

enum err parties_start(struct parties *p, const bool wanted[CONTESTANTS],
                       unsigned msgsize, struct err_text *why)
{
    struct err_text no_proxy;
    *p = (struct parties){.msgsize = msgsize};
    memcpy(p->have, wanted, sizeof(p->have));
    enum err e = stage_folder_make(p->dir, "mqredis-bench", why);
    if (e == ERR_OK)
        e = start_redis(p, why);
    if (e == ERR_OK)
        e = start_managers(p, why);
    if (e != ERR_OK)
        return e;
    e = p->have[TWEMPROXY] || p->have[TWEMPROXY_UNIX]
            ? start_proxy(p, &no_proxy)
            : ERR_OK;
    if (e == ERR_AGAIN)
        return err_say(why, e, "interrupted");
    if (e != ERR_OK) {
        leave_out(p, TWEMPROXY, no_proxy.text);
        leave_out(p, TWEMPROXY_UNIX, no_proxy.text);
    }
    for (int c = 0; c < CONTESTANTS; c++)
        if (client_ops((enum contestant)c) == NULL)
            leave_out(p, (enum contestant)c, "built without hiredis");
    return ERR_OK;
}

void parties_stop(struct parties *p)
{
    process_stop(&p->manager_tcp, 5000);
    process_stop(&p->manager_unix, 5000);
    process_stop(&p->proxy, 5000);
    process_stop(&p->redis, 5000);
    if (p->dir[0] != '\0')
        stage_folder_remove(p->dir);
    p->dir[0] = '\0';
}

struct process *parties_middle(struct parties *p, enum contestant c)
{
    switch (c) {
    case CHANNEL_TCP:
        return &p->manager_tcp;
    case CHANNEL_UNIX:
        return &p->manager_unix;
    case TWEMPROXY:
    case TWEMPROXY_UNIX:
        return &p->proxy;
    case LIMIT:
    case HIREDIS_TCP:
    case HIREDIS_UNIX:
    case CONTESTANTS:
        break;
    }
    return NULL;
}
