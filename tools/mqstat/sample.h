/*
 * Everything there is to know about one channel at one moment.
 *
 * The status file is copied with read(2), never mapped: its owner may cut it
 * short under our eyes, which would be a SIGBUS. What is in the copy is checked
 * there. Whether a manager lives is asked of the `receiver` FIFO, and no lock
 * is touched: a look must never stand in the way of a manager that starts.
 */
#ifndef MQSTAT_SAMPLE_H
#define MQSTAT_SAMPLE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/status.h"
#include "tools/mqstat/procfs.h"

enum alive {
    ALIVE_NO,
    ALIVE_YES,
    ALIVE_UNKNOWN /* not ours to look at */
};

struct sample {
    char name[CHANNEL_NAME_MAX + 1]; /* printable */
    char dir[PATH_MAX];              /* as found: raw */
    /* Why something is missing below, for people; empty: nothing is. */
    struct err_text problem;
    enum alive alive;
    bool stopped;    /* its manager is (SIGSTOP, or a debugger) */
    pid_t pid;       /* of the manager, living or last; 0: unknown */
    uint64_t now_ns; /* CLOCK_MONOTONIC */

    bool has_status; /* state and raw */
    struct manager_state state;
    struct status raw; /* a copy; read with counter_get and so on */

    bool has_queue; /* depth to here */
    long depth, capacity, msgsize;
    bool queue_known; /* device and inode are */
    dev_t queue_dev;
    ino_t queue_ino;
    char queue[CHANNEL_QUEUE_NAME_MAX]; /* raw; empty: none */

    long senders; /* processes that hold a sender's end; -1: not looked */
    long blocked; /* threads asleep in a send; -1: not looked */
    bool partial; /* some processes could not be looked at */
};

/* Fills a sample of the channel `name` (as the user named it, or a folder).
 * `scan` may be NULL. Never fails: what is wrong is in ->problem. */
void sample_take(struct sample *s, const char *name,
                 const struct proc_scan *scan);

/* What the channel is in, with its manager's death seen: the state's name, or
 * "absent", "unreadable", "died", "stopped". */
enum health_kind { HEALTH_FINE, HEALTH_DEGRADED, HEALTH_DOWN };
const char *sample_state(const struct sample *s);
enum health_kind sample_health(const struct sample *s);

/* For people: the redis it talks to, or "-"; escaped. */
const char *sample_server(const struct sample *s, char out[512]);

static inline uint64_t sample_counter(const struct sample *s,
                                      enum status_counter c)
{
    return s->has_status ? counter_get(&s->raw.counters[c]) : 0;
}

static inline uint64_t sample_gauge(const struct sample *s, enum status_gauge g)
{
    return s->has_status ? counter_get(&s->raw.gauges[g]) : 0;
}

/* Commands that did not get Redis's answer, or an error for one. */
uint64_t sample_errors(const struct sample *s);

/* taken - (answered + ... + in flight): 0 for an idle channel. */
int64_t sample_balance(const struct sample *s);

/* A counter's growth per second from `old` to `s`; 0 where they are not of one
 * manager's life, or no time passed. */
double sample_rate(const struct sample *old, const struct sample *s,
                   enum status_counter c);

/* Whether both are of the same manager's life. */
bool sample_comparable(const struct sample *old, const struct sample *s);

/* ---- the channels of this user's view ---- */

struct channel_names {
    char **names; /* what finds them: a name or a folder */
    size_t count;
};

/* All channels in the places where a name is looked for. ERR_NOMEM. */
MUST_CHECK enum err channel_names_find(struct channel_names *list);
MUST_CHECK enum err channel_names_add(struct channel_names *list,
                                      const char *name);
void channel_names_free(struct channel_names *list);

#endif
