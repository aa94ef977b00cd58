/*
 * Children are watched through pidfds, so that one poll(2) waits for a child's
 * end, its output and a signal to ourselves at once.
 */
#include "tools/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"

static struct {
    int fd; /* signalfd */
    int caught;
    sigset_t before; /* the mask that children get back */
} signals = {.fd = -1};

enum err process_setup(struct err_text *why)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, &signals.before) < 0 ||
        (signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return err_say(why, ERR_SYS, "cannot watch for signals: %s",
                       strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    return ERR_OK;
}

int process_interrupted(void)
{
    struct signalfd_siginfo info;
    if (signals.caught == 0 && signals.fd >= 0 &&
        read(signals.fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        signals.caught = (int)info.ssi_signo;
    return signals.caught;
}

/* Waits for `fd` (-1: for nothing but a signal). `deaf`: not for a signal. */
static enum err wait_fd(int fd, uint64_t deadline_ns, bool deaf)
{
    for (;;) {
        struct pollfd fds[2] = {
            {.fd = fd, .events = POLLIN},
            {.fd = deaf ? -1 : signals.fd, .events = POLLIN}};
        if (!deaf && process_interrupted() != 0)
            return ERR_AGAIN;
        int n = poll(fds, 2, clock_poll_ms(deadline_ns, 1000));
        if (n < 0 && errno != EINTR)
            return ERR_SYS;
        if (n > 0 && fds[0].revents != 0)
            return ERR_OK;
        if (deadline_ns != 0 && clock_ns() >= deadline_ns)
            return ERR_TIMEOUT;
    }
}

enum err process_pause(int ms)
{
    enum err e = wait_fd(-1, clock_deadline(ms), false);
    return e == ERR_TIMEOUT ? ERR_OK : e;
}

/* ---- starting ---- */

/* The child's side; never returns. Errors of exec go up through `report`. */
static _Noreturn void become(const struct process_spec *spec, pid_t parent,
                             int out, int report)
{
    /* The parent may have died before the signal was asked for. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
        _exit(127);
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    if (out >= 0)
        dup2(out, STDOUT_FILENO);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        if (spec->quiet)
            dup2(null, STDERR_FILENO);
        if (spec->quiet && out < 0)
            dup2(null, STDOUT_FILENO);
    }
    if (spec->inherit >= 0)
        fcntl(spec->inherit, F_SETFD, 0);
    sigprocmask(SIG_SETMASK, &signals.before, NULL);
    if (spec->run != NULL) {
        close(report);
        _exit(spec->run(spec->arg));
    }
    /* execvp(3) changes nothing in what it is given. */
    execvp(spec->argv[0], (char *const *)(uintptr_t)spec->argv);
    int code = errno;
    ssize_t n = write(report, &code, sizeof(code));
    _exit(n == (ssize_t)sizeof(code) ? 127 : 126);
}

/* What the child said about its exec: 0, or errno. A child that runs a function
 * closes its end at once. */
static int read_report(int fd)
{
    int code = 0;
    ssize_t n;
    do
        n = read(fd, &code, sizeof(code));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(code) ? code : 0;
}

static void close_pair(int fds[2])
{
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

enum err process_start(struct process *p, const struct process_spec *spec,
                       struct err_text *why)
{
    int out[2] = {-1, -1}, report[2] = {-1, -1};
    enum err e = ERR_OK;
    int code = 0;
    *p = (struct process){.name = spec->name, .pidfd = -1, .out = -1};
    if (pipe2(report, O_CLOEXEC) < 0 ||
        (spec->capture && pipe2(out, O_CLOEXEC) < 0)) {
        e = ERR_SYS;
        code = errno;
        goto out;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(spec, parent, out[1], report[1]);
    if (pid < 0) {
        e = ERR_SYS;
        code = errno;
        goto out;
    }
    close(report[1]);
    report[1] = -1;
    code = read_report(report[0]);
    p->pidfd = pidfd_open(pid, 0);
    if (code != 0 || p->pidfd < 0) {
        e = code == ENOENT ? ERR_ABSENT : ERR_SYS;
        code = code != 0 ? code : errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        goto out;
    }
    p->pid = pid;
    p->out = out[0];
    out[0] = -1;
out:
    close_pair(out);
    close_pair(report);
    if (e == ERR_OK)
        return e;
    p->ended = true;
    return err_say(why, e, "cannot start %s: %s", spec->name, strerror(code));
}

enum err process_sibling(char *path, size_t size, const char *name,
                         struct err_text *why)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return err_say(why, ERR_SYS, "cannot read /proc/self/exe: %s",
                       strerror(errno));
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = '\0';
    int len = snprintf(path, size, "%s/%s", self, name);
    if (len < 0 || (size_t)len >= size)
        return err_say(why, ERR_LIMIT, "path too long: %s/%s", self, name);
    if (access(path, X_OK) < 0)
        return err_say(why, ERR_ABSENT, "no program %s: run `make` first",
                       path);
    return ERR_OK;
}

/* ---- watching ---- */

enum err process_line(struct process *p, char *line, size_t size,
                      uint64_t deadline_ns)
{
    size_t len = 0;
    if (p->out < 0)
        return ERR_CLOSED;
    for (;;) {
        enum err e = wait_fd(p->out, deadline_ns, false);
        if (e != ERR_OK)
            return e;
        /* A byte at a time: the lines are few, and nothing is read ahead. */
        ssize_t n = read(p->out, line + len, 1);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            close(p->out);
            p->out = -1;
            return ERR_CLOSED;
        }
        if (n < 0)
            continue;
        if (line[len] == '\n') {
            line[len] = '\0';
            return ERR_OK;
        }
        if (++len == size)
            return ERR_LIMIT;
    }
}

static void reap(struct process *p)
{
    pid_t got;
    do
        got = wait4(p->pid, &p->status, 0, &p->usage);
    while (got < 0 && errno == EINTR);
    p->ended = true;
    close(p->pidfd);
    p->pidfd = -1;
}

enum err process_wait(struct process *p, uint64_t deadline_ns)
{
    if (p->ended || p->pid == 0)
        return ERR_OK;
    enum err e = wait_fd(p->pidfd, deadline_ns, false);
    if (e == ERR_OK)
        reap(p);
    return e;
}

bool process_ended(struct process *p)
{
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
    if (!p->ended && p->pid != 0 && poll(&fd, 1, 0) == 1)
        reap(p);
    return p->ended;
}

bool process_stop(struct process *p, int grace_ms)
{
    bool gently = true;
    if (p->pid != 0 && p->out >= 0) {
        close(p->out);
        p->out = -1;
    }
    if (p->ended || p->pid == 0)
        return true;
    kill(p->pid, SIGTERM);
    if (wait_fd(p->pidfd, clock_deadline(grace_ms), true) != ERR_OK) {
        gently = false;
        kill(p->pid, SIGKILL);
    }
    reap(p);
    return gently;
}

const char *process_end_str(const struct process *p)
{
    static char text[64];
    if (WIFSIGNALED(p->status))
        snprintf(text, sizeof(text), "killed by signal %d",
                 WTERMSIG(p->status));
    else
        snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(p->status));
    return text;
}

/* ---- what is left ---- */

#define CHILDREN_MAX 1024

/* Our children now, adopted ones included. -1: /proc does not tell. */
static int list_children(pid_t pids[CHILDREN_MAX])
{
    char path[64];
    int n = 0, pid;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    while (n < CHILDREN_MAX && fscanf(f, "%d", &pid) == 1)
        pids[n++] = pid;
    fclose(f);
    return n;
}

static bool is_known(pid_t pid, const struct process *const *known,
                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!known[i]->ended && known[i]->pid == pid)
            return true;
    return false;
}

int process_strays(const struct process *const *known, size_t count,
                   uint64_t deadline_ns)
{
    pid_t pids[CHILDREN_MAX];
    for (;;) {
        bool late = clock_ns() >= deadline_ns;
        int n = list_children(pids), left = 0;
        if (n < 0)
            return -1;
        for (int i = 0; i < n; i++) {
            if (is_known(pids[i], known, count) ||
                waitpid(pids[i], NULL, WNOHANG) != 0)
                continue;
            left++;
            if (late) {
                kill(pids[i], SIGKILL);
                waitpid(pids[i], NULL, 0);
            }
        }
        if (left == 0 || late)
            return left;
        usleep(2000);
    }
}
