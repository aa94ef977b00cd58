/* What --doctor finds, and the leftovers that --fix removes. */
#ifndef MQSTAT_DOCTOR_H
#define MQSTAT_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"
#include "tools/mqstat/procfs.h"
#include "tools/mqstat/sample.h"
#include "tools/mqstat/text.h"

enum level {
    LEVEL_OK,
    LEVEL_NOTE,  /* worth knowing, nothing to mend */
    LEVEL_FIXED, /* mended just now */
    LEVEL_WARN,
    LEVEL_BAD
};

#define FINDINGS_MAX 256

struct finding {
    enum level level;
    char about[32];
    char what[ERR_TEXT_MAX];   /* escaped */
    char remedy[ERR_TEXT_MAX]; /* a command, or empty; escaped */
};

struct findings {
    struct finding items[FINDINGS_MAX];
    size_t count; /* at most FINDINGS_MAX: what is more is not kept */
};

/* Adds a finding with its text, and returns it so that a remedy can be added:
 * finding_remedy(finding_add(...), ...). */
struct finding *finding_add(struct findings *f, enum level level,
                            const char *about, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void finding_remedy(struct finding *f, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Limits of the kernel and of this user. */
void doctor_limits(struct findings *f, const struct proc_scan *scan);

/* The largest queue that anybody may make here, up to a manager's usual one;
 * not above 0: none, or nobody knows. */
struct queue_limits {
    long capacity, msgsize;
};

/* What is used and left of RLIMIT_MSGQUEUE. Makes nameless queues of what is
 * left, for an instant, to see whether it is. */
void doctor_budget(struct findings *f, const struct proc_scan *scan,
                   const struct queue_limits *limits);

/* Each channel: its folder, its manager; leftovers of dead processes, which are
 * removed where `fix` is set and no living process holds them. */
void doctor_channels(struct findings *f, const struct proc_scan *scan,
                     const struct channel_names *names, bool fix);

/* The nodes of a living channel's cluster, if it has one. */
void doctor_nodes(struct findings *f, const struct sample *s);

/* Queues that look like ours and belong to no channel known here. */
void doctor_strays(struct findings *f, const struct proc_scan *scan,
                   const struct channel_names *names, bool fix);

#endif
