/*
 * Programs that a tool starts, watches and ends: the launcher of the main job
 * and the benchmark. Whatever happens to the tool, its programs end too: they
 * get SIGTERM when it dies, and a signal to the tool wakes every wait here.
 *
 * One thread only (the kernel's parent-death signal is the thread's).
 */
#ifndef TOOLS_PROCESS_H
#define TOOLS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "ipc/err.h"

struct process {
    const char *name; /* for messages; borrowed */
    pid_t pid;        /* 0: none */
    int pidfd;
    int out; /* what it prints; -1: not captured */
    bool ended;
    int status;          /* as wait4(2) gives it, once ended */
    struct rusage usage; /* of it and the children it waited for */
};

/* From now on SIGINT, SIGTERM and SIGHUP are seen by the waits below instead of
 * ending the caller, and the caller adopts what its programs leave behind, so
 * that nothing escapes process_strays. Called once, first. ERR_SYS with a
 * line. */
MUST_CHECK enum err process_setup(struct err_text *why);

/* The signal that came, 0 if none did. Does not sleep. */
int process_interrupted(void);

struct process_spec {
    const char *name;
    const char *const *argv;
    bool capture; /* its standard output comes to process.out */
    bool quiet;   /* its standard error (and output) go nowhere */
    int inherit;  /* a descriptor that it is born with; -1: none but 0, 1, 2 */
    /* In place of a program: what the child runs; its result is its status. */
    int (*run)(void *arg);
    void *arg;
};

/* Starts a program (found through PATH unless it has a slash), in a process
 * group of its own so that Ctrl-C reaches the tool alone. ERR_SYS, ERR_ABSENT
 * (no such program) with a line. */
MUST_CHECK enum err process_start(struct process *p,
                                  const struct process_spec *spec,
                                  struct err_text *why);

/* Reads a line it prints, without its newline; also after its end. ERR_CLOSED:
 * it prints no more. ERR_TIMEOUT, ERR_AGAIN (a signal came), ERR_LIMIT. */
MUST_CHECK enum err process_line(struct process *p, char *line, size_t size,
                                 uint64_t deadline_ns);

/* Waits for its end. ERR_TIMEOUT, ERR_AGAIN: a signal came. What it printed can
 * still be read; process_stop closes that too. */
MUST_CHECK enum err process_wait(struct process *p, uint64_t deadline_ns);

/* Whether it has ended by now; then its status is there. */
bool process_ended(struct process *p);

/* Ends it: SIGTERM, after `grace_ms` SIGKILL; sleeps until it is gone, whatever
 * signals come. False: it took the SIGKILL. Harmless on what has ended. */
bool process_stop(struct process *p, int grace_ms);

/* "exit status 69", "killed by signal 9". Static storage. */
const char *process_end_str(const struct process *p);

static inline bool process_ok(const struct process *p)
{
    return p->ended && p->status == 0;
}

/* Waits until the deadline for the end of every process below this one that is
 * not among `known`. How many were left then: they are killed, by their own
 * ids. -1: /proc does not tell. */
int process_strays(const struct process *const *known, size_t count,
                   uint64_t deadline_ns);

/* Sleeps. ERR_AGAIN: a signal came first. */
MUST_CHECK enum err process_pause(int ms);

/* The absolute path of a program beside the running one (build/NAME). */
MUST_CHECK enum err process_sibling(char *path, size_t size, const char *name,
                                    struct err_text *why);

#endif
