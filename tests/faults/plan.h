/*
 * Calls made to fail on purpose: which, when, and what was counted.
 *
 * tests/faults/calls.c defines functions of the C library anew, in front of the
 * real ones. Linked into a suite it serves the suite's own process; as
 * libfaults.so, preloaded, any dynamic program. Each call is counted, and the
 * ones that a plan names fail with an errno that the call can really give.
 *
 * A plan lies in memory that the test shares with what it tests. Processes
 * forked by the one under test count for themselves (FAULTS_CHILD): the
 * guardian of a manager, a worker's child.
 */
#ifndef TESTS_FAULTS_PLAN_H
#define TESTS_FAULTS_PLAN_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A pretended errno: the call transfers half of what it was asked for. */
#define FAULTS_SHORT 4095

/* Of errors that mean "try again", not more than so many in a row: a kernel
 * that gives them for ever does not exist. */
#define FAULTS_AGAIN_MAX 20

/* What can fail, and how; the errors end with 0. */
#define FAULTS_CALLS(X)                                                        \
    X(malloc, ENOMEM, 0)                                                       \
    X(calloc, ENOMEM, 0)                                                       \
    X(realloc, ENOMEM, 0)                                                      \
    X(open, EMFILE, ENOMEM, EACCES, 0)                                         \
    X(openat, EMFILE, ENOMEM, EACCES, 0)                                       \
    X(fopen, EMFILE, 0)                                                        \
    X(opendir, EMFILE, 0)                                                      \
    X(fdopendir, ENOMEM, 0)                                                    \
    X(readdir, EIO, 0)                                                         \
    X(close, EIO, EINTR, 0)                                                    \
    X(mkdir, ENOSPC, EACCES, 0)                                                \
    X(mkdirat, ENOSPC, EACCES, 0)                                              \
    X(mkfifoat, ENOSPC, EACCES, 0)                                             \
    X(renameat, ENOSPC, EIO, 0)                                                \
    X(renameat2, ENOSPC, EINVAL, 0)                                            \
    X(unlinkat, EIO, 0)                                                        \
    X(rmdir, EIO, 0)                                                           \
    X(chmod, EPERM, 0)                                                         \
    X(chown, EPERM, 0)                                                         \
    X(fchmod, EPERM, 0)                                                        \
    X(fchown, EPERM, 0)                                                        \
    X(fstat, EIO, 0)                                                           \
    X(fstatat, EIO, ENOMEM, 0)                                                 \
    X(lstat, EIO, ENOMEM, 0)                                                   \
    X(access, EACCES, 0)                                                       \
    X(ftruncate, ENOSPC, EIO, 0)                                               \
    X(posix_fallocate, ENOSPC, EINTR, 0)                                       \
    X(mmap, ENOMEM, 0)                                                         \
    X(flock, EINTR, ENOLCK, 0)                                                 \
    X(fcntl, EPERM, ENOMEM, 0)                                                 \
    X(ioctl, ENOTTY, 0)                                                        \
    X(read, EIO, EINTR, FAULTS_SHORT, 0)                                       \
    X(pread, EIO, 0)                                                           \
    X(write, ENOSPC, EIO, EINTR, EAGAIN, FAULTS_SHORT, 0)                      \
    X(pwrite, ENOSPC, EIO, FAULTS_SHORT, 0)                                    \
    X(writev, EIO, EINTR, EAGAIN, FAULTS_SHORT, 0)                             \
    X(send, ECONNRESET, EINTR, EAGAIN, FAULTS_SHORT, 0)                        \
    X(sendto, ECONNREFUSED, EAGAIN, 0)                                         \
    X(recv, ECONNRESET, EINTR, EAGAIN, FAULTS_SHORT, 0)                        \
    X(splice, EINVAL, EIO, ENOMEM, EAGAIN, FAULTS_SHORT, 0)                    \
    X(sendfile, EINVAL, EIO, EAGAIN, FAULTS_SHORT, 0)                          \
    X(pipe2, EMFILE, ENFILE, 0)                                                \
    X(socket, EMFILE, ENOBUFS, 0)                                              \
    X(connect, ECONNREFUSED, ETIMEDOUT, EAGAIN, 0)                             \
    X(getsockopt, ENOBUFS, 0)                                                  \
    X(setsockopt, ENOMEM, ENOPROTOOPT, 0)                                      \
    X(getaddrinfo, ENOMEM, 0)                                                  \
    X(poll, EINTR, ENOMEM, 0)                                                  \
    X(epoll_create1, EMFILE, ENOMEM, 0)                                        \
    X(epoll_ctl, ENOMEM, ENOSPC, 0)                                            \
    X(epoll_wait, EINTR, 0)                                                    \
    X(eventfd, EMFILE, 0)                                                      \
    X(timerfd_create, EMFILE, 0)                                               \
    X(timerfd_settime, ENOMEM, 0)                                              \
    X(signalfd, EMFILE, ENOMEM, 0)                                             \
    X(mq_open, EMFILE, ENFILE, ENOSPC, EACCES, 0)                              \
    X(mq_timedsend, EINTR, ETIMEDOUT, ENOMEM, 0)                               \
    X(mq_receive, EINTR, EAGAIN, 0)                                            \
    X(mq_getattr, EBADF, 0)                                                    \
    X(mq_unlink, EACCES, 0)                                                    \
    X(mq_close, EIO, 0)                                                        \
    X(getrandom, EINTR, ENOSYS, 0)                                             \
    X(fork, EAGAIN, ENOMEM, 0)                                                 \
    X(pidfd_open, EMFILE, ENOSYS, 0)                                           \
    X(waitpid, EINTR, ECHILD, 0)                                               \
    X(getrlimit, EPERM, 0)                                                     \
    X(setrlimit, EPERM, 0)                                                     \
    X(prctl, EINVAL, 0)                                                        \
    X(chdir, EACCES, 0)                                                        \
    X(close_range, ENOSYS, 0)                                                  \
    X(nanosleep, EINTR, 0)                                                     \
    X(__register_atfork, ENOMEM, 0)

enum faults_call {
#define X(name, ...) FAULTS_##name,
    FAULTS_CALLS(X)
#undef X
        FAULTS_CALL_COUNT
};

enum faults_role { FAULTS_SELF, FAULTS_CHILD, FAULTS_ROLE_COUNT };

struct faults_plan {
    _Atomic bool armed; /* while not, calls are neither counted nor failed */
    /* What fails: calls number `from` to `until` (1 is the first) of `call` in
     * `role`, with `error`. from 0: nothing. */
    enum faults_call call;
    enum faults_role role;
    int error;
    uint64_t from, until;
    _Atomic uint64_t failed; /* how many did */
    _Atomic uint64_t calls[FAULTS_ROLE_COUNT][FAULTS_CALL_COUNT];
    /* Blocks from malloc and its kin that are not freed. */
    _Atomic int64_t blocks[FAULTS_ROLE_COUNT];
};

/* Whether `blocks` is right: a sanitizer allocates behind the back of what is
 * defined here, and has a leak check of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULTS_BLOCKS_COUNT false
#else
#define FAULTS_BLOCKS_COUNT true
#endif

/* In-process: lets this plan rule; NULL: none. The process counts as
 * FAULTS_SELF from then on. A preloaded program takes the plan in the file that
 * $FAULTS_PLAN names. */
void faults_use(struct faults_plan *plan);

/* Calls of this thread between the two are the test's own. */
void faults_pause(void);
void faults_resume(void);

#endif
