/*
 * The functions that can be made to fail, each in front of the C library's; see
 * plan.h. Compiled without _FORTIFY_SOURCE, whose inline versions of the same
 * names would be in the way; what it makes of open and openat is defined too.
 *
 * Nothing here may call what it defines, or allocate: these are the functions
 * that everything else is made of.
 */
#include "tests/faults/plan.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static struct faults_plan *ruling;
static enum faults_role role;
static _Thread_local unsigned paused __attribute__((tls_model("initial-exec")));

/* ---- the plan ---- */

void faults_use(struct faults_plan *plan)
{
    role = FAULTS_SELF;
    ruling = plan;
}

EXPORT void faults_pause(void)
{
    paused++;
}

void faults_resume(void)
{
    paused--;
}

static bool is_again(int error)
{
    return error == EINTR || error == EAGAIN || error == ETIMEDOUT;
}

/* Counts a call. Not 0: it fails with this error. */
static int strike(enum faults_call call)
{
    struct faults_plan *p = ruling;
    if (p == NULL || paused > 0 || !p->armed)
        return 0;
    uint64_t n = ++p->calls[role][call];
    if (p->from == 0 || call != p->call || role != p->role || n < p->from ||
        n > p->until || (is_again(p->error) && n - p->from >= FAULTS_AGAIN_MAX))
        return 0;
    p->failed++;
    errno = p->error;
    return p->error;
}

static bool hit(enum faults_call call)
{
    return strike(call) != 0;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* `fn` is the real function behind `name`. */
#define REAL(name)                                                             \
    static __typeof__(name) *fn;                                               \
    if (fn == NULL)                                                            \
    *(void **)&fn = real(#name)

/* A function that does nothing when it fails. */
#define FAILING(type, failure, name, params, args)                             \
    EXPORT type name params                                                    \
    {                                                                          \
        REAL(name);                                                            \
        return hit(FAULTS_##name) ? (failure) : fn args;                       \
    }

/* Whether the kernel ever transfers a part only: a file gives or takes less
 * at its end (or the disk's), a pipe takes PIPE_BUF bytes whole, and what is
 * neither of them nor a socket moves whole structs. */
static bool may_halve(int fd, size_t size, bool out)
{
    REAL(fstat);
    struct stat st;
    if (size < 2 || fn(fd, &st) < 0)
        return false;
    if (S_ISREG(st.st_mode))
        return out;
    return S_ISSOCK(st.st_mode) ||
           (S_ISFIFO(st.st_mode) && (!out || size > PIPE_BUF));
}

/* What is no file, pipe or socket (an eventfd, a signalfd) may only say that it
 * is not ready. */
static bool may_fail(int fd, int error)
{
    REAL(fstat);
    struct stat st;
    return is_again(error) || fn(fd, &st) < 0 || (st.st_mode & S_IFMT) != 0;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

/* One that may transfer less than `size`, out to `fd` or in from it. */
#define TRANSFER(name, fd, out, size, params, args)                            \
    EXPORT ssize_t name params                                                 \
    {                                                                          \
        REAL(name);                                                            \
        int error = strike(FAULTS_##name);                                     \
        if (error == FAULTS_SHORT)                                             \
            size = may_halve(fd, size, out) ? size / 2 : size;                 \
        else if (error != 0 && may_fail(fd, error))                            \
            return fail(error);                                                \
        return fn args;                                                        \
    }

/* One that has done its work when it fails. */
#define CLOSING(name, params, args)                                            \
    EXPORT int name params                                                     \
    {                                                                          \
        REAL(name);                                                            \
        int error = strike(FAULTS_##name);                                     \
        int result = fn args;                                                  \
        return error == 0 ? result : fail(error);                              \
    }

/* ---- memory ---- */

/* For what dlsym may want before the real functions are known. */
static char early[4096] __attribute__((aligned(16)));
static size_t early_used;
static bool looking;

static void *early_block(size_t size)
{
    size_t at = early_used;
    early_used += (size + 15) & ~(size_t)15;
    return early_used <= sizeof(early) ? early + at : NULL;
}

static bool is_early(const void *block)
{
    uintptr_t at = (uintptr_t)block, first = (uintptr_t)early;
    return at >= first && at < first + sizeof(early);
}

static void count_block(int64_t by)
{
    if (ruling != NULL)
        ruling->blocks[role] += by;
}

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);

static void find_memory(void)
{
    looking = true;
    *(void **)&real_malloc = real("malloc");
    *(void **)&real_calloc = real("calloc");
    *(void **)&real_realloc = real("realloc");
    *(void **)&real_free = real("free");
    looking = false;
}

EXPORT void *malloc(size_t size)
{
    if (looking)
        return early_block(size);
    if (real_malloc == NULL)
        find_memory();
    void *p = hit(FAULTS_malloc) ? NULL : real_malloc(size);
    if (p != NULL)
        count_block(1);
    return p;
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (looking) /* `early` is zero, and never given twice */
        return early_block(count * size);
    if (real_calloc == NULL)
        find_memory();
    void *p = hit(FAULTS_calloc) ? NULL : real_calloc(count, size);
    if (p != NULL)
        count_block(1);
    return p;
}

EXPORT void *realloc(void *block, size_t size)
{
    if (real_realloc == NULL)
        find_memory();
    void *p = hit(FAULTS_realloc) ? NULL : real_realloc(block, size);
    if (p != NULL && block == NULL)
        count_block(1);
    return p;
}

EXPORT void free(void *block)
{
    if (block == NULL || is_early(block))
        return;
    if (real_free == NULL)
        find_memory();
    count_block(-1);
    real_free(block);
}

/* ---- names ---- */

/* The mode of open and its kin, where the flags ask for one. */
#define TAKE_MODE(mode, last)                                                  \
    mode_t mode = 0;                                                           \
    if ((last) & (O_CREAT | O_TMPFILE)) {                                      \
        va_list ap;                                                            \
        va_start(ap, last);                                                    \
        mode = va_arg(ap, mode_t);                                             \
        va_end(ap);                                                            \
    }

EXPORT int open(const char *path, int flags, ...)
{
    REAL(open);
    TAKE_MODE(mode, flags)
    return hit(FAULTS_open) ? -1 : fn(path, flags, mode);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
    REAL(openat);
    TAKE_MODE(mode, flags)
    return hit(FAULTS_openat) ? -1 : fn(dirfd, path, flags, mode);
}

/* What _FORTIFY_SOURCE calls where the flags are no constant. */
int __open_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
    return openat(dirfd, path, flags);
}

FAILING(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
FAILING(DIR *, NULL, opendir, (const char *path), (path))
FAILING(DIR *, NULL, fdopendir, (int fd), (fd))
FAILING(struct dirent *, NULL, readdir, (DIR * dir), (dir))
FAILING(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
FAILING(int, -1, mkdirat, (int fd, const char *path, mode_t mode),
        (fd, path, mode))
FAILING(int, -1, mkfifoat, (int fd, const char *path, mode_t mode),
        (fd, path, mode))
FAILING(int, -1, renameat, (int from, const char *a, int to, const char *b),
        (from, a, to, b))
FAILING(int, -1, renameat2,
        (int from, const char *a, int to, const char *b, unsigned flags),
        (from, a, to, b, flags))
FAILING(int, -1, unlinkat, (int fd, const char *path, int flags),
        (fd, path, flags))
FAILING(int, -1, rmdir, (const char *path), (path))
FAILING(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
FAILING(int, -1, chown, (const char *path, uid_t uid, gid_t gid),
        (path, uid, gid))
FAILING(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
FAILING(int, -1, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
FAILING(int, -1, fstat, (int fd, struct stat *st), (fd, st))
FAILING(int, -1, fstatat,
        (int fd, const char *path, struct stat *st, int flags),
        (fd, path, st, flags))
FAILING(int, -1, lstat, (const char *path, struct stat *st), (path, st))
FAILING(int, -1, access, (const char *path, int mode), (path, mode))
FAILING(int, -1, chdir, (const char *path), (path))

/* ---- files ---- */

CLOSING(close, (int fd), (fd))
FAILING(int, -1, ftruncate, (int fd, off_t size), (fd, size))

EXPORT int posix_fallocate(int fd, off_t offset, off_t len)
{
    REAL(posix_fallocate);
    int error = strike(FAULTS_posix_fallocate);
    return error != 0 ? error : fn(fd, offset, len);
}

FAILING(void *, MAP_FAILED, mmap,
        (void *at, size_t len, int prot, int flags, int fd, off_t offset),
        (at, len, prot, flags, fd, offset))
FAILING(int, -1, flock, (int fd, int operation), (fd, operation))

/* A third argument that is an int, a long or a pointer: each fits. */
EXPORT int fcntl(int fd, int command, ...)
{
    REAL(fcntl);
    va_list ap;
    va_start(ap, command);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return hit(FAULTS_fcntl) ? -1 : fn(fd, command, arg);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    REAL(ioctl);
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return hit(FAULTS_ioctl) ? -1 : fn(fd, request, arg);
}

TRANSFER(read, fd, false, size, (int fd, void *data, size_t size),
         (fd, data, size))
TRANSFER(pread, fd, false, size, (int fd, void *data, size_t size, off_t at),
         (fd, data, size, at))
TRANSFER(write, fd, true, size, (int fd, const void *data, size_t size),
         (fd, data, size))
TRANSFER(pwrite, fd, true, size,
         (int fd, const void *data, size_t size, off_t at),
         (fd, data, size, at))
TRANSFER(splice, in, false, size,
         (int in, off64_t *in_at, int out, off64_t *out_at, size_t size,
          unsigned flags),
         (in, in_at, out, out_at, size, flags))
TRANSFER(sendfile, out, true, size, (int out, int in, off_t *at, size_t size),
         (out, in, at, size))

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    REAL(writev);
    int error = strike(FAULTS_writev);
    if (error == FAULTS_SHORT && count > 0) {
        struct iovec half = iov[0];
        half.iov_len = half.iov_len > 1 ? half.iov_len / 2 : half.iov_len;
        return fn(fd, &half, 1);
    }
    return error != 0 ? -1 : fn(fd, iov, count);
}

EXPORT int pipe2(int fds[2], int flags)
{
    REAL(pipe2);
    return hit(FAULTS_pipe2) ? -1 : fn(fds, flags);
}

/* ---- sockets ---- */

TRANSFER(send, fd, true, size,
         (int fd, const void *data, size_t size, int flags),
         (fd, data, size, flags))
TRANSFER(recv, fd, false, size, (int fd, void *data, size_t size, int flags),
         (fd, data, size, flags))
FAILING(ssize_t, -1, sendto,
        (int fd, const void *data, size_t size, int flags,
         __CONST_SOCKADDR_ARG to, socklen_t len),
        (fd, data, size, flags, to, len))
FAILING(int, -1, socket, (int domain, int type, int protocol),
        (domain, type, protocol))
FAILING(int, -1, connect, (int fd, __CONST_SOCKADDR_ARG to, socklen_t len),
        (fd, to, len))
FAILING(int, -1, getsockopt,
        (int fd, int level, int name, void *value, socklen_t *len),
        (fd, level, name, value, len))
FAILING(int, -1, setsockopt,
        (int fd, int level, int name, const void *value, socklen_t len),
        (fd, level, name, value, len))

/* What it calls by itself does not fail: without memory glibc 2.36 follows a
 * null pointer there (nss_database_check_reload_and_get). */
EXPORT int getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **out)
{
    REAL(getaddrinfo);
    if (hit(FAULTS_getaddrinfo))
        return EAI_MEMORY;
    faults_pause();
    int error = fn(host, service, hints, out);
    faults_resume();
    return error;
}

/* ---- waiting ---- */

FAILING(int, -1, poll, (struct pollfd * fds, nfds_t count, int timeout),
        (fds, count, timeout))

/* What _FORTIFY_SOURCE calls where the array's size is known. */
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout,
                      size_t size)
{
    (void)size;
    return poll(fds, count, timeout);
}

FAILING(int, -1, epoll_create1, (int flags), (flags))

/* Only what is added takes memory. */
EXPORT int epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    bool failed = op == EPOLL_CTL_ADD && hit(FAULTS_epoll_ctl);
    return failed ? -1 : fn(ep, op, fd, event);
}

FAILING(int, -1, epoll_wait,
        (int ep, struct epoll_event *events, int count, int timeout),
        (ep, events, count, timeout))
FAILING(int, -1, eventfd, (unsigned value, int flags), (value, flags))
FAILING(int, -1, timerfd_create, (int clock, int flags), (clock, flags))
FAILING(int, -1, timerfd_settime,
        (int fd, int flags, const struct itimerspec *value,
         struct itimerspec *old),
        (fd, flags, value, old))
FAILING(int, -1, signalfd, (int fd, const sigset_t *set, int flags),
        (fd, set, flags))
FAILING(int, -1, nanosleep,
        (const struct timespec *time, struct timespec *left), (time, left))
FAILING(pid_t, -1, waitpid, (pid_t pid, int *status, int options),
        (pid, status, options))

/* ---- queues ---- */

EXPORT mqd_t mq_open(const char *name, int flags, ...)
{
    REAL(mq_open);
    mode_t mode = 0;
    struct mq_attr *attr = NULL;
    if (flags & O_CREAT) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        attr = va_arg(ap, struct mq_attr *);
        va_end(ap);
    }
    return hit(FAULTS_mq_open) ? (mqd_t)-1 : fn(name, flags, mode, attr);
}

mqd_t __mq_open_2(const char *name, int flags);

EXPORT mqd_t __mq_open_2(const char *name, int flags)
{
    return mq_open(name, flags);
}

FAILING(int, -1, mq_timedsend,
        (mqd_t mq, const char *data, size_t size, unsigned priority,
         const struct timespec *until),
        (mq, data, size, priority, until))
FAILING(ssize_t, -1, mq_receive,
        (mqd_t mq, char *data, size_t size, unsigned *priority),
        (mq, data, size, priority))
FAILING(int, -1, mq_getattr, (mqd_t mq, struct mq_attr *attr), (mq, attr))
FAILING(int, -1, mq_unlink, (const char *name), (name))
CLOSING(mq_close, (mqd_t mq), (mq))

/* ---- processes and limits ---- */

EXPORT pid_t fork(void)
{
    REAL(fork);
    return hit(FAULTS_fork) ? -1 : fn();
}

/* Of what is called by number only this can fail for want of something. */
EXPORT long syscall(long number, ...)
{
    REAL(syscall);
    va_list ap;
    va_start(ap, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_pidfd_open && hit(FAULTS_pidfd_open))
        return -1;
    return fn(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT int prctl(int option, ...)
{
    REAL(prctl);
    va_list ap;
    va_start(ap, option);
    unsigned long a[4];
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(ap, unsigned long);
    va_end(ap);
    return hit(FAULTS_prctl) ? -1 : fn(option, a[0], a[1], a[2], a[3]);
}

FAILING(ssize_t, -1, getrandom, (void *data, size_t size, unsigned flags),
        (data, size, flags))
FAILING(int, -1, getrlimit, (__rlimit_resource_t what, struct rlimit *limit),
        (what, limit))
FAILING(int, -1, setrlimit,
        (__rlimit_resource_t what, const struct rlimit *limit), (what, limit))
FAILING(int, -1, close_range, (unsigned first, unsigned last, int flags),
        (first, last, flags))

int __register_atfork(void (*prepare)(void), void (*parent)(void),
                      void (*child)(void), void *dso);

EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void),
                             void (*child)(void), void *dso)
{
    REAL(__register_atfork);
    int error = strike(FAULTS___register_atfork);
    return error != 0 ? error : fn(prepare, parent, child, dso);
}

/* ---- preloaded ---- */

static void become_child(void)
{
    role = FAULTS_CHILD;
}

__attribute__((constructor)) static void take_plan(void)
{
    /* Here, so that it comes before what others do in a child. */
    pthread_atfork(NULL, NULL, become_child);
    const char *path = getenv("FAULTS_PLAN");
    if (path == NULL || ruling != NULL)
        return;
    faults_pause();
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *plan = mmap(NULL, sizeof(struct faults_plan), PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, 0);
    close(fd);
    faults_resume();
    if (plan != MAP_FAILED)
        faults_use(plan);
}
