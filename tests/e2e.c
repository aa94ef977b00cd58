/* Starting, watching and ending the real programs. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

bool e2e_long(void)
{
    const char *text = getenv("MQREDIS_LONG");
    return text != NULL && *text != '\0' && *text != '0';
}

void e2e_figure(int server, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("figure (%s): ",
           server == E2E_REDIS ? "redis-server" : "mqredis-server");
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout);
    va_end(ap);
}

/* ---- programs ---- */

static const char *find_program(const char *name, char path[256])
{
    if (strchr(name, '/') != NULL)
        return name;
    snprintf(path, 256, "%s/%s", support_build(), name);
    return access(path, X_OK) == 0 ? path : name;
}

pid_t e2e_spawn(const char *const argv[], int out, int err)
{
    return e2e_spawn_fed(argv, -1, out, err);
}

pid_t e2e_spawn_fed(const char *const argv[], int in, int out, int err)
{
    char path[256];
    const char *program = find_program(argv[0], path);
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        ck_abort_msg("cannot fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (getppid() != parent || null < 0 || dup2(in < 0 ? null : in, 0) < 0 ||
        dup2(out, 1) < 0 || dup2(err, 2) < 0)
        _exit(126);
    char *words[E2E_ARGS_MAX + 1] = {NULL};
    for (size_t i = 0; i < E2E_ARGS_MAX && argv[i] != NULL; i++)
        words[i] = strdup(argv[i]);
    execvp(program, words);
    dprintf(2, "cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

/* ---- what a test has started ---- */

/* A test's process is its own: this is about that one test. */
enum { STARTED_MAX = 64 };
static pid_t managers[STARTED_MAX], servers[STARTED_MAX];
static size_t manager_count, server_count;

static void note(pid_t *list, size_t *count, pid_t pid)
{
    if (*count < STARTED_MAX)
        list[(*count)++] = pid;
}

static bool runs(pid_t pid)
{
    return waitpid(pid, NULL, WNOHANG) == 0;
}

/* Lets one go on that was stopped, and no other: SIGCONT takes back a SIGSTOP
 * on its way, and LeakSanitizer, which stops a process at its end in that
 * manner to look at it, would wait for ever. */
static void let_go_on(pid_t pid)
{
    if (support_proc_state(pid) == 'T')
        kill(pid, SIGCONT);
}

void e2e_stop_all(void)
{
    for (size_t i = 0; i < server_count; i++)
        if (runs(servers[i]))
            let_go_on(servers[i]);
    for (size_t i = 0; i < manager_count; i++) {
        if (!runs(managers[i]))
            continue;
        let_go_on(managers[i]);
        kill(managers[i], SIGTERM);
        int status = support_join(managers[i]);
        ck_assert_msg(status == 0, "a manager ended with %d", status);
    }
    support_remove_queues();
}

/* ---- Redis ---- */

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    bool ok = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return ok;
}

void e2e_redis_restart(struct e2e_redis *r)
{
    const char *path = r->at.path, *real = getenv("REDIS_SERVER");
    const char *const embedded[] = {"mqredis-server", "--port", "0",
                                    "--unixsocket",   path,     "--maxclients",
                                    "2000",           NULL};
    const char *const redis[] = {real != NULL ? real : "redis-server",
                                 "--port",
                                 "0",
                                 "--unixsocket",
                                 path,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--dir",
                                 "/",
                                 NULL};
    unlink(path);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    r->at.pid = e2e_spawn(r->kind == E2E_REDIS ? redis : embedded, null,
                          r->kind == E2E_REDIS ? null : STDERR_FILENO);
    close(null);
    note(servers, &server_count, r->at.pid);
    ck_assert_msg(UNTIL(answers(path)), "%s does not answer",
                  r->kind == E2E_REDIS ? redis[0] : embedded[0]);
}

void e2e_redis_start(struct e2e_redis *r, int kind)
{
    static unsigned count;
    *r = (struct e2e_redis){.kind = (enum e2e_server)kind};
    int n = snprintf(r->at.path, sizeof(r->at.path), "%s/r%ld-%u",
                     support_scratch(), (long)getpid(), ++count);
    ck_assert_int_lt(n, (int)sizeof(r->at.path));
    e2e_redis_restart(r);
}

void e2e_redis_kill(struct e2e_redis *r)
{
    support_kill(r->at.pid);
    r->at.pid = 0;
}

const char *e2e_redis_ask(const struct e2e_redis *r, const char *command)
{
    struct redis_link link;
    redis_link_open(&link, &r->at);
    const char *text = redis_link_ask(&link, command);
    redis_link_close(&link);
    return text;
}

long long e2e_redis_integer(const struct e2e_redis *r, const char *command)
{
    const char *text = e2e_redis_ask(r, command);
    ck_assert_msg(text[0] == ':' || text[0] == '$', "%s: %s", command, text);
    if (text[0] == '$')
        text = strncmp(text, "$-1", 3) == 0 ? ":0" : strchr(text, '\n');
    return strtoll(text + 1, NULL, 10);
}

const char *e2e_uri(const struct e2e_redis *r)
{
    static char uri[sizeof(r->at.path) + 16];
    snprintf(uri, sizeof(uri), "unix://%s", r->at.path);
    return uri;
}

/* ---- the manager ---- */

static pid_t child_of(pid_t pid)
{
    char path[64], text[64];
    snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)pid,
             (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return (pid_t)strtol(text, NULL, 10);
}

void e2e_manager_launch(struct e2e_manager *m, const char *channel,
                        const char *uri, const char *options)
{
    static unsigned count;
    char words[1024];
    const char *argv[E2E_ARGS_MAX + 1] = {
        "mqredis-manager", "--redis", NULL,       "--capacity", "32",
        "--msgsize",       "1024",    "--channel"};
    size_t argc = 8;
    char own[256];
    snprintf(own, sizeof(own), "%s", uri);
    argv[2] = own;
    char name[sizeof(m->channel)];
    snprintf(name, sizeof(name), "%s",
             channel != NULL ? channel : support_name());
    *m = (struct e2e_manager){0};
    strcpy(m->channel, name);
    argv[argc++] = m->channel;
    snprintf(words, sizeof(words), "%s", options != NULL ? options : "");
    char *rest = words;
    for (char *w; (w = strsep(&rest, " ")) != NULL;)
        if (*w != '\0' && argc < E2E_ARGS_MAX)
            argv[argc++] = w;
    snprintf(m->log, sizeof(m->log), "%s/m%ld-%u.log", support_scratch(),
             (long)getpid(), ++count);
    int log = open(m->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(log, 0);
    m->pid = e2e_spawn(argv, log, log);
    note(managers, &manager_count, m->pid);
    close(log);
}

const char *e2e_log(const struct e2e_manager *m)
{
    static char text[65536];
    int fd = open(m->log, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

bool e2e_logged(const struct e2e_manager *m, const char *text)
{
    return strstr(e2e_log(m), text) != NULL;
}

uint32_t e2e_state(const struct e2e_manager *m)
{
    struct manager_state now;
    if (status_read_state(m->status, &now, NULL) != ERR_OK)
        return 0;
    return now.kind;
}

void e2e_manager_ready(struct e2e_manager *m)
{
    bool ready = false;
    ck_assert_msg(
        UNTIL((ready = strstr(e2e_log(m), "mqredis-manager: ready") != NULL) ||
              waitpid(m->pid, NULL, WNOHANG) == m->pid) &&
            ready,
        "no ready line: %s", e2e_log(m));
    m->guardian = child_of(m->pid);
    ck_assert_int_gt(m->guardian, 0);
    struct channel ch;
    struct err_text why = {""};
    ck_assert_msg(channel_open(&ch, m->channel, &why) == ERR_OK, "%s",
                  why.text);
    ck_assert_msg(status_open(&ch, &m->status, &why) == ERR_OK, "%s", why.text);
    channel_close(&ch);
}

void e2e_manager_start(struct e2e_manager *m, const char *channel,
                       const char *uri, const char *options)
{
    e2e_manager_launch(m, channel, uri, options);
    e2e_manager_ready(m);
}

void e2e_start(struct e2e_redis *r, struct e2e_manager *m, int kind,
               const char *options)
{
    e2e_redis_start(r, kind);
    e2e_manager_start(m, NULL, e2e_uri(r), options);
}

void e2e_manager_kill(struct e2e_manager *m)
{
    support_kill(m->pid);
    m->pid = 0;
}

void e2e_manager_kill_both(struct e2e_manager *m)
{
    support_stop(m->pid);
    kill(m->guardian, SIGKILL);
    e2e_manager_kill(m);
}

int e2e_manager_stop(struct e2e_manager *m)
{
    kill(m->pid, SIGTERM);
    int status = support_join(m->pid);
    m->pid = 0;
    return status;
}

bool e2e_guardian_gone(const struct e2e_manager *m)
{
    /* A zombie of whoever inherited it has done its work, too. */
    char state;
    return UNTIL((state = support_proc_state(m->guardian)) == '\0' ||
                 state == 'Z');
}

uint64_t e2e_counter(const struct e2e_manager *m, enum status_counter c)
{
    return atomic_load_explicit(&m->status->counters[c], memory_order_relaxed);
}

uint64_t e2e_gauge(const struct e2e_manager *m, enum status_gauge g)
{
    return atomic_load_explicit(&m->status->gauges[g], memory_order_relaxed);
}

static const enum status_counter ends[] = {
    COUNTER_answered, COUNTER_discarded,   COUNTER_gone,    COUNTER_invalid,
    COUNTER_expired,  COUNTER_unavailable, COUNTER_too_big, COUNTER_lost,
};

bool e2e_balanced(const struct e2e_manager *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        sum += e2e_counter(m, ends[i]);
    return e2e_gauge(m, GAUGE_inflight) == 0 &&
           e2e_counter(m, COUNTER_taken) == sum;
}

const char *e2e_books(const struct e2e_manager *m)
{
    static char text[1024];
    int n = snprintf(text, sizeof(text), "taken=%llu inflight=%llu",
                     (unsigned long long)e2e_counter(m, COUNTER_taken),
                     (unsigned long long)e2e_gauge(m, GAUGE_inflight));
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, " %s=%llu",
                      status_counters[ends[i]].name,
                      (unsigned long long)e2e_counter(m, ends[i]));
    return text;
}

/* ---- a program, run to its end ---- */

void e2e_run(struct e2e_output *out, const char *const argv[])
{
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    uint64_t t0 = clock_ns();
    pid_t pid = e2e_spawn(argv, fds[1], fds[1]);
    close(fds[1]);
    out->len = 0;
    for (;;) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        size_t room = sizeof(out->text) - 1 - out->len;
        ssize_t n = 0;
        /* Some say nothing before their end. */
        if (poll(&p, 1, (int)(3 * support_wait_ms())) > 0 && room > 0)
            n = read(fds[0], out->text + out->len, room);
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
    close(fds[0]);
    out->text[out->len] = '\0';
    out->status = support_join(pid);
    out->ms = (double)(clock_ns() - t0) / 1e6;
}

size_t e2e_lines(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}
