/*
 * What /proc tells about message queues: who holds one, who sleeps on it, and
 * which live on without a name.
 *
 * A queue that somebody holds is opened once more through /proc/PID/fd/N, which
 * works without a mounted mqueue file system, for queues that were unlinked and
 * for those of other IPC namespaces, as far as permissions allow. A thread
 * sleeps on a queue when /proc/PID/task/TID/syscall says so; where that is
 * forbidden (Yama), its wait channel says so for the only queue it can be.
 *
 * /proc changes while it is read: a process that is gone is passed over.
 */
#ifndef MQSTAT_PROCFS_H
#define MQSTAT_PROCFS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"

#define PROC_COMM_MAX 64 /* escaped; the kernel's has 15 bytes */

/* A queue, ours or not. */
struct proc_queue {
    dev_t dev;
    ino_t ino;
    char name[NAME_MAX + 2]; /* "/name", raw */
    bool named;              /* false: unlinked, yet held */
    bool here;               /* of this IPC namespace, as far as is known */
    bool have_stat;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    time_t used;    /* the last send or receive, CLOCK_REALTIME */
    bool have_attr; /* the next three */
    long messages, capacity, msgsize;
    bool have_bytes; /* the next three */
    uint64_t bytes;
    int notify;       /* SIGEV_SIGNAL, SIGEV_THREAD, ... */
    pid_t notify_pid; /* 0: nobody */
};

/* A process that holds a queue. */
struct proc_holder {
    size_t queue; /* index */
    pid_t pid;
    uid_t uid;
    bool reads, writes;
    char comm[PROC_COMM_MAX];
};

/* A thread that sleeps on a queue. */
struct proc_sleeper {
    size_t queue; /* index */
    pid_t pid, tid;
    bool sending; /* else receiving */
    bool guessed; /* from the wait channel alone */
    char comm[PROC_COMM_MAX];
};

/* A process that holds a FIFO named `senders` for writing. */
struct proc_fifo {
    dev_t dev;
    ino_t ino;
    pid_t pid;
};

struct proc_scan {
    struct proc_queue *queues;
    size_t nqueues, queues_cap;
    struct proc_holder *holders;
    size_t nholders, holders_cap;
    struct proc_sleeper *sleepers;
    size_t nsleepers, sleepers_cap;
    struct proc_fifo *fifos;
    size_t nfifos, fifos_cap;
    size_t processes;    /* looked at */
    size_t unseen;       /* processes whose descriptors may not be read */
    size_t unseen_own;   /* of them, this user's own */
    size_t unseen_waits; /* holders whose system call may not be read */
    enum proc_listing {
        LISTING_MOUNT,   /* names came from /dev/mqueue */
        LISTING_PRIVATE, /* from a mount of our own, never attached */
        LISTING_NONE     /* only what somebody holds could be found */
    } listing;
    bool foreign_mount; /* /dev/mqueue shows another IPC namespace */
    bool truncated;     /* there was more than this program keeps */
};

/* Reads all of /proc. With `names`, the namespace's queues that nobody holds
 * are listed too. *scan is zeroed first; freed by proc_scan_free. ERR_NOMEM,
 * ERR_SYS (no /proc). */
MUST_CHECK enum err proc_scan(struct proc_scan *scan, bool names);
void proc_scan_free(struct proc_scan *scan);

/* The queue under an inode, or NULL. */
const struct proc_queue *proc_scan_find(const struct proc_scan *scan, dev_t dev,
                                        ino_t ino);

size_t proc_sleeping(const struct proc_scan *scan, const struct proc_queue *q,
                     bool sending);

/* The process's name, escaped; "?" if it is gone. */
void proc_comm(pid_t pid, char out[PROC_COMM_MAX]);

/* R, S, D, T, Z ... as in proc(5); 0: no such process. */
char proc_state(pid_t pid);

#endif
