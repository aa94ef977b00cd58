/* Reading /proc for queues, their holders and who sleeps on them. */
#include "tools/mqstat/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/mqstat/procqueue.h"
#include "tools/mqstat/text.h"

#define PROCESS_FDS 256 /* queues that one process may hold, of those told */

/* ---- small things of /proc ---- */

/* Reads a file of at most `size` - 1 bytes. -1: it can't be read. */
static ssize_t slurp(int dirfd, const char *path, char *out, size_t size)
{
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, out, size - 1);
    int saved = errno;
    close(fd);
    errno = saved;
    out[n > 0 ? n : 0] = '\0';
    return n;
}

static void comm_at(int pidfd, char out[PROC_COMM_MAX])
{
    char raw[64];
    ssize_t n = slurp(pidfd, "comm", raw, sizeof(raw));
    if (n > 0 && raw[n - 1] == '\n')
        n--;
    if (n <= 0) {
        memcpy(out, "?", 2);
        return;
    }
    text_escape(out, PROC_COMM_MAX, raw, (size_t)n);
}

void proc_comm(pid_t pid, char out[PROC_COMM_MAX])
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    comm_at(fd, out); /* -1 is no folder: "?" */
    if (fd >= 0)
        close(fd);
}

char proc_state(pid_t pid)
{
    char path[40], line[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (pid <= 0 || slurp(AT_FDCWD, path, line, sizeof(line)) <= 0)
        return 0;
    /* The name before it may hold anything, parentheses too. */
    const char *end = strrchr(line, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

static bool number(const char *name, long *out)
{
    char *end;
    errno = 0;
    long n = strtol(name, &end, 10);
    if (errno != 0 || end == name || *end != '\0' || n < 0 || n > INT_MAX)
        return false;
    *out = n;
    return true;
}

/* ---- one process ---- */

struct process {
    pid_t pid;
    uid_t uid;
    char comm[PROC_COMM_MAX];
    size_t nfds;
    struct {
        int fd;
        size_t queue;
        bool reads, writes;
    } fds[PROCESS_FDS];
};

/* The access mode of an open descriptor, from fdinfo. */
static int access_mode(int procdir, const char *fd_name)
{
    char path[32], text[256];
    snprintf(path, sizeof(path), "fdinfo/%.16s", fd_name);
    if (slurp(procdir, path, text, sizeof(text)) <= 0)
        return -1;
    const char *flags = strstr(text, "flags:");
    return flags ? (int)(strtol(flags + 6, NULL, 8) & O_ACCMODE) : -1;
}

static void note_holder(struct proc_scan *scan, const struct process *p,
                        size_t queue, bool reads, bool writes)
{
    /* One process's entries come together, at the end. */
    for (size_t i = scan->nholders; i-- > 0;) {
        struct proc_holder *h = &scan->holders[i];
        if (h->pid != p->pid)
            break;
        if (h->queue == queue) {
            h->reads |= reads;
            h->writes |= writes;
            return;
        }
    }
    struct proc_holder *h = GROW(scan, holders);
    if (h == NULL)
        return;
    h->queue = queue;
    h->pid = p->pid;
    h->uid = p->uid;
    h->reads = reads;
    h->writes = writes;
    memcpy(h->comm, p->comm, sizeof(h->comm));
}

static void note_fifo(struct proc_scan *scan, pid_t pid, int fds,
                      const char *fd_name)
{
    struct stat st;
    if (fstatat(fds, fd_name, &st, 0) < 0 || !S_ISFIFO(st.st_mode))
        return;
    for (size_t i = scan->nfifos; i-- > 0 && scan->fifos[i].pid == pid;)
        if (scan->fifos[i].ino == st.st_ino && scan->fifos[i].dev == st.st_dev)
            return;
    struct proc_fifo *f = GROW(scan, fifos);
    if (f == NULL)
        return;
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    f->pid = pid;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* A queue's link is a path of one part: its place in a kernel-internal mount.
 * Seen through /dev/mqueue it may have that in front. */
static bool may_be_queue(const char *link)
{
    return link[0] == '/' && (strchr(link + 1, '/') == NULL ||
                              strncmp(link, "/dev/mqueue/", 12) == 0);
}

static void scan_fd(struct proc_scan *scan, struct process *p, int procdir,
                    int fds, const char *fd_name)
{
    char link[PATH_MAX];
    ssize_t n = readlinkat(fds, fd_name, link, sizeof(link) - 1);
    if (n <= 0)
        return;
    link[n] = '\0';
    if (ends_with(link, "/senders")) {
        int mode = access_mode(procdir, fd_name);
        if (mode == O_WRONLY || mode == O_RDWR)
            note_fifo(scan, p->pid, fds, fd_name);
        return;
    }
    if (!may_be_queue(link))
        return;
    const char *name =
        strncmp(link, "/dev/mqueue/", 12) == 0 ? link + 11 : link;
    size_t queue = proc_note_queue(scan, fds, fd_name, name);
    if (queue == SIZE_MAX)
        return;
    if (p->comm[0] == '\0')
        comm_at(procdir, p->comm);
    int mode = access_mode(procdir, fd_name);
    bool reads = mode == O_RDONLY || mode == O_RDWR;
    bool writes = mode == O_WRONLY || mode == O_RDWR;
    note_holder(scan, p, queue, reads, writes);
    long fd;
    if (p->nfds < PROCESS_FDS && number(fd_name, &fd)) {
        p->fds[p->nfds].fd = (int)fd;
        p->fds[p->nfds].queue = queue;
        p->fds[p->nfds].reads = reads;
        p->fds[p->nfds++].writes = writes;
    }
}

static void note_sleeper(struct proc_scan *scan, const struct process *p,
                         pid_t tid, size_t queue, bool sending, bool guessed)
{
    struct proc_sleeper *s = GROW(scan, sleepers);
    if (s == NULL)
        return;
    s->queue = queue;
    s->pid = p->pid;
    s->tid = tid;
    s->sending = sending;
    s->guessed = guessed;
    memcpy(s->comm, p->comm, sizeof(s->comm));
}

/* A thread that sleeps in wq_sleep waits on one of its process's queues: a full
 * one that it may write, or an empty one that it may read. */
static void guess(struct proc_scan *scan, const struct process *p, int task,
                  pid_t tid)
{
    char where[64];
    if (slurp(task, "wchan", where, sizeof(where)) <= 0) {
        scan->unseen_waits++;
        return;
    }
    if (strcmp(where, "wq_sleep") != 0)
        return;
    for (size_t i = 0; i < p->nfds; i++) {
        const struct proc_queue *q = &scan->queues[p->fds[i].queue];
        if (!q->have_attr)
            continue;
        bool sends = p->fds[i].writes && q->messages == q->capacity;
        bool receives = p->fds[i].reads && q->messages == 0;
        if (sends || receives) {
            note_sleeper(scan, p, tid, p->fds[i].queue, sends, true);
            return;
        }
    }
}

static void scan_thread(struct proc_scan *scan, const struct process *p,
                        int task, pid_t tid)
{
    char text[256];
    ssize_t n = slurp(task, "syscall", text, sizeof(text));
    if (n < 0 && errno != ESRCH) {
        /* Forbidden, or a kernel without that file. */
        guess(scan, p, task, tid);
        return;
    }
    long call;
    unsigned long fd;
    if (sscanf(text, "%ld 0x%lx", &call, &fd) != 2)
        return; /* "running" */
    bool sending = call == SYS_mq_timedsend;
    if (!sending && call != SYS_mq_timedreceive)
        return;
    /* In the call, and asleep: a call that only passes through is not blocked.
     */
    char where[64];
    if (slurp(task, "wchan", where, sizeof(where)) > 0 &&
        strcmp(where, "0") == 0)
        return;
    for (size_t i = 0; i < p->nfds; i++)
        if ((unsigned long)p->fds[i].fd == fd) {
            note_sleeper(scan, p, tid, p->fds[i].queue, sending, false);
            return;
        }
}

static void scan_threads(struct proc_scan *scan, const struct process *p,
                         int procdir)
{
    int fd = openat(procdir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        long tid;
        if (!number(d->d_name, &tid))
            continue;
        int task =
            openat(dirfd(dir), d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (task < 0)
            continue;
        scan_thread(scan, p, task, (pid_t)tid);
        close(task);
    }
    closedir(dir);
}

static void scan_process(struct proc_scan *scan, int procdir, pid_t pid)
{
    struct stat st;
    if (fstat(procdir, &st) < 0)
        return;
    scan->processes++;
    int fd = openat(procdir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (errno == EACCES || errno == EPERM) {
            scan->unseen++;
            scan->unseen_own += st.st_uid == geteuid();
        }
        if (fd >= 0)
            close(fd);
        return;
    }
    struct process p = {.pid = pid, .uid = st.st_uid};
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (isdigit((unsigned char)d->d_name[0]))
            scan_fd(scan, &p, procdir, dirfd(dir), d->d_name);
    closedir(dir);
    if (p.nfds > 0)
        scan_threads(scan, &p, procdir);
}

/* ---- all of it ---- */

enum err proc_scan(struct proc_scan *scan, bool names)
{
    memset(scan, 0, sizeof(*scan));
    scan->listing = LISTING_NONE;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return ERR_SYS;
    long pid;
    for (struct dirent *d; (d = readdir(proc)) != NULL;) {
        if (!number(d->d_name, &pid) || pid == getpid())
            continue;
        int fd =
            openat(dirfd(proc), d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        scan_process(scan, fd, (pid_t)pid);
        close(fd);
    }
    closedir(proc);
    if (names)
        proc_scan_names(scan);
    return ERR_OK;
}

void proc_scan_free(struct proc_scan *scan)
{
    free(scan->queues);
    free(scan->holders);
    free(scan->sleepers);
    free(scan->fifos);
    memset(scan, 0, sizeof(*scan));
}

size_t proc_sleeping(const struct proc_scan *scan, const struct proc_queue *q,
                     bool sending)
{
    size_t n = 0;
    for (size_t i = 0; i < scan->nsleepers; i++)
        n += &scan->queues[scan->sleepers[i].queue] == q &&
             scan->sleepers[i].sending == sending;
    return n;
}
