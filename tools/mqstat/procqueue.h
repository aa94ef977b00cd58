/* Between procfs.c, which walks over processes, and procqueue.c, which knows
 * what a queue is. */
#ifndef MQSTAT_PROCQUEUE_H
#define MQSTAT_PROCQUEUE_H

#include "tools/mqstat/procfs.h"

/* Room for one more of `size` bytes in the array whose pointer lies at `slot`.
 * NULL: out of memory, or there are too many; *full is set then. */
void *proc_grow(void *slot, size_t *n, size_t *cap, size_t size, bool *full);

#define GROW(scan, kind)                                                       \
    proc_grow(&(scan)->kind, &(scan)->n##kind, &(scan)->kind##_cap,            \
              sizeof(*(scan)->kind), &(scan)->truncated)

/* The queue behind descriptor entry `fd_name` of the folder `fds`, which links
 * to `link`. SIZE_MAX: it is none, or there is no room. */
size_t proc_note_queue(struct proc_scan *scan, int fds, const char *fd_name,
                       const char *link);

/* Adds the namespace's queues that nobody holds, as far as they can be listed,
 * and sets scan->listing. */
void proc_scan_names(struct proc_scan *scan);

#endif
