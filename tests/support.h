/*
 * What several suites need: a scratch folder, children, waiting for an event
 * with a deadline, and looking at a process from outside through /proc.
 *
 * Everything here fails the running test by itself (ck_abort_msg) where a test
 * could not go on; what a test asserts is returned. In a child of support_fork
 * Check's own macros are of no use (they would end the child with status 0):
 * use CHILD_REQUIRE there.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* How long an event may take before a test gives up: far more than any should,
 * for the machine may be busy. Stretched by CK_TIMEOUT_MULTIPLIER. */
#define SUPPORT_WAIT_MS 10000

/* Whether this is a build with sanitizers: the same takes many times as long
 * there, and memory is another thing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SUPPORT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SUPPORT_SANITIZED 1
#endif
#endif
#ifndef SUPPORT_SANITIZED
#define SUPPORT_SANITIZED 0
#endif

/* ThreadSanitizer holds back a signal's handler until the call that the signal
 * interrupted, or one that the C library made by itself after it, has returned.
 */
#if defined(__SANITIZE_THREAD__)
#define SUPPORT_LATE_HANDLERS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SUPPORT_LATE_HANDLERS 1
#endif
#endif
#ifndef SUPPORT_LATE_HANDLERS
#define SUPPORT_LATE_HANDLERS 0
#endif

/* A build with sanitizers, or one that counts lines: what it costs says
 * nothing. */
#ifdef MQREDIS_COVERAGE
#define SUPPORT_INSTRUMENTED 1
#else
#define SUPPORT_INSTRUMENTED SUPPORT_SANITIZED
#endif

/* ---- the scratch folder ---- */

#define SUPPORT_SCRATCH_MAX 160

/* An unchecked fixture: makes a folder of the suite's own in $TMPDIR (mode
 * 0711) and points MQREDIS_DIR at it; removes it with all that is in it, and
 * the queues that `queue` files in its subfolders name, so that a failed test
 * leaves nothing either. */
void support_scratch_setup(void);
/* The same, and `name` gets the folder's, before it is made: for who else is to
 * remove it. */
void support_scratch_setup_as(char name[SUPPORT_SCRATCH_MAX]);
void support_scratch_teardown(void);

/* Adds a case to the suite: with that fixture, and so many seconds for each
 * test. */
TCase *support_case(Suite *suite, const char *name, int timeout_s);

/* Unlinks the queues that channels in the scratch folder name: what tests that
 * were killed with their managers left of the user's budget. */
void support_remove_queues(void);

/* The folder. Static storage. */
const char *support_scratch(void);

/* A path below it, in static storage that the next call overwrites. */
const char *support_path(const char *name);

struct channel;

/* Creates a channel with such a name, for a group or CHANNEL_NO_GROUP. */
void support_channel(struct channel *ch, gid_t group);

/* A channel name that no other test uses. Static storage, as above. */
const char *support_name(void);

/* Puts a file with this text into a folder, in place of an older one. */
void support_write_file(int dirfd, const char *name, const char *text);

/* Removes a file or a whole folder; a missing one is no error. */
void support_remove(const char *path);

/* How many entries a folder has, -1 if it can't be read. */
int support_count_entries(const char *path);

/* How many descriptors this process has open. */
int support_count_fds(void);

/* A TCP port of 127.0.0.1 that nobody has, and that no other test is given as
 * long as this process or one that it forks lives: servers started here may
 * come and go there (with SO_REUSEADDR). */
int support_free_port(void);

/* The same, of this number; 0: somebody has it. */
int support_take_port(int port);

/* The folder of the programs under test: $MQREDIS_BUILD, or build. */
const char *support_build(void);

/* The whole path of a library beside the suites, for the LD_PRELOAD of a
 * program; one that is not there fails the test. The library of a sanitizer,
 * which wants to be the first, is told to let it pass. Static storage. */
const char *support_preload(const char *name);

/* ---- children ---- */

/* Forks a child that runs fn(arg) and ends with status 0. It is killed when the
 * test ends however it ends. */
pid_t support_fork(void (*fn)(void *arg), void *arg);

/* Waits for a child's end and returns its exit status, or 128 + the signal's
 * number. One that has not ended in SUPPORT_WAIT_MS is killed and fails the
 * test. */
int support_join(pid_t pid);

/* SIGKILL, then waits. */
void support_kill(pid_t pid);

/* SIGSTOP, then waits until it stands still. */
void support_stop(pid_t pid);

/* In a child: ends it with status 1 and a line on standard error. */
#define CHILD_REQUIRE(what)                                                    \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: child: not so: %s\n", __FILE__, __LINE__,  \
                    #what);                                                    \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

/* A status of a child which says that it could not try (no such right here). */
#define CHILD_CANNOT 77

/* In a child of root: becomes another user, with `gid` as its only group. False
 * where that is not allowed (a user namespace that maps nobody else). */
bool support_become(uid_t uid, gid_t gid);

/* In a child: an IPC namespace of its own with the kernel's default limits, and
 * no right to exceed them. False where that is not allowed. */
bool support_fresh_ipc(void);

/* Whether this is a root who knows other users: that of a user namespace may
 * know itself alone. */
bool support_root_of_many(void);

/* Says on one line that a test was skipped, and why. */
void support_skip(const char *test, const char *why);

/* Memory shared with children forked later, zeroed. Freed with the process. */
void *support_shared(size_t size);

/* ---- waiting ---- */

int64_t support_wait_ms(void); /* SUPPORT_WAIT_MS, stretched */
void support_sleep_ms(int ms);

/* Looks again and again until `cond` holds; false once SUPPORT_WAIT_MS passed.
 * An expression: ck_assert(UNTIL(x == 3)). */
#define UNTIL(cond)                                                            \
    __extension__({                                                            \
        bool met_ = false;                                                     \
        for (int64_t spent_ = 0; !met_ && spent_ < support_wait_ms();          \
             spent_ += 2) {                                                    \
            met_ = (cond);                                                     \
            if (!met_)                                                         \
                support_sleep_ms(2);                                           \
        }                                                                      \
        met_;                                                                  \
    })

/* ---- processes seen from outside ---- */

/* The state letter of /proc/PID/stat: 'R', 'S', 'T', 'Z'...; 0: no such one.
 * 'Z' only when its last thread has ended and no descriptor is open any more:
 * every process has a second one under ThreadSanitizer. */
char support_proc_state(pid_t pid);

/* CPU time that it has used so far, in ns. */
uint64_t support_cpu_ns(pid_t pid);

/* The number of the system call (SYS_...) in which it sleeps; -1: it runs. */
long support_proc_syscall(pid_t pid);

/* Waits until it sleeps in that very call. */
bool support_sleeps_in(pid_t pid, long syscall_number);

#endif
