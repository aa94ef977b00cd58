/*
 * --doctor: RLIMIT_MSGQUEUE.
 *
 * A user's queues are charged over all IPC namespaces, and those of another one
 * that nobody holds cannot be seen from here. So what is in sight is added up,
 * and whether the rest is really free the kernel is asked: queues are made of
 * it, nameless at once, and closed before anything else is done. They hold no
 * memory; for that moment others find less room than there is.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/mpsc.h"
#include "ipc/random.h"
#include "tools/mqstat/doctor.h"

/* What the kernel charges for a message beside its bytes, as measured. */
#define MESSAGE_OVERHEAD 96

/* What a manager's queue is charged unless it was told otherwise. */
#define ONE ((uint64_t)MPSC_CAPACITY * (MPSC_MESSAGE_SIZE + MESSAGE_OVERHEAD))

#define TRIED_MAX 8         /* so many of them: more room is believed */
#define TRIAL_QUEUES_MAX 64 /* of whatever size msg_max allows */

struct budget {
    uint64_t used; /* by what is in sight */
    size_t queues;
    uint64_t limit, left;
};

static void add_up(struct budget *b, const struct proc_scan *scan)
{
    for (size_t i = 0; i < scan->nqueues; i++) {
        const struct proc_queue *q = &scan->queues[i];
        if (q->uid != geteuid() || !q->have_attr)
            continue;
        b->used +=
            (uint64_t)q->capacity * ((uint64_t)q->msgsize + MESSAGE_OVERHEAD);
        b->queues++;
    }
    b->left = b->limit > b->used ? b->limit - b->used : 0;
}

/* ---- the trial ---- */

/* A queue that has no name any more; -1 with errno. */
static mqd_t make_nameless(long capacity, long msgsize)
{
    struct mq_attr attr = {.mq_maxmsg = capacity, .mq_msgsize = msgsize};
    uint64_t id;
    char name[64];
    if (random_id(&id) != ERR_OK)
        return (mqd_t)-1;
    /* Were we killed now, --fix would know it for ours. */
    snprintf(name, sizeof(name), "/mqredis.trial.%016" PRIx64, id);
    mqd_t mq =
        mq_open(name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attr);
    if (mq != (mqd_t)-1)
        mq_unlink(name);
    return mq;
}

/* EMFILE says as well that we have too many descriptors open. */
static bool refused_for_budget(void)
{
    if (errno != EMFILE)
        return false;
    int fd = dup(STDOUT_FILENO);
    if (fd >= 0)
        close(fd);
    errno = EMFILE;
    return fd >= 0;
}

/* How much of `want` bytes the kernel gives, to one message of ours. False: it
 * gives less for other reasons, so nobody knows. */
static bool room_by_trial(uint64_t want, const struct queue_limits *limits,
                          uint64_t *room)
{
    mqd_t made[TRIAL_QUEUES_MAX];
    size_t count = 0;
    uint64_t per_message = (uint64_t)limits->msgsize + MESSAGE_OVERHEAD;
    long capacity = limits->capacity;
    *room = 0;
    while (count < TRIAL_QUEUES_MAX && capacity > 0 &&
           want - *room >= per_message) {
        uint64_t missing = (want - *room) / per_message;
        if ((uint64_t)capacity > missing)
            capacity = (long)missing;
        made[count] = make_nameless(capacity, limits->msgsize);
        if (made[count] != (mqd_t)-1) {
            *room += (uint64_t)capacity * per_message;
            count++;
        } else if (refused_for_budget()) {
            capacity /= 2;
        } else {
            break;
        }
    }
    /* Else it was something else that ended it. */
    bool known = capacity == 0 || want - *room < per_message;
    while (count > 0)
        mq_close(made[--count]);
    return known;
}

/* Whether the kernel refuses what should be there; then what is really left. */
static bool is_less(const struct budget *b, const struct queue_limits *limits,
                    uint64_t *left)
{
    uint64_t want = b->left / ONE;
    if (want > TRIED_MAX)
        want = TRIED_MAX;
    want *= ONE;
    uint64_t per_message = (uint64_t)limits->msgsize + MESSAGE_OVERHEAD;
    return want > 0 && limits->capacity > 0 && limits->msgsize > 0 &&
           room_by_trial(want, limits, left) && want - *left >= per_message;
}

/* ---- what is told ---- */

static void tell_hidden(struct findings *f, const struct budget *b,
                        uint64_t left)
{
    char in_use[VALUE_MAX], hidden[VALUE_MAX], limit[VALUE_MAX];
    value_count(in_use, b->used);
    value_count(hidden, b->left - left);
    value_count(limit, b->limit);
    finding_remedy(
        finding_add(f, left >= ONE ? LEVEL_NOTE : LEVEL_WARN, "RLIMIT_MSGQUEUE",
                    "%s of %s bytes used by %zu queues of yours, and about %s "
                    "by queues out of sight, of other IPC namespaces or of "
                    "processes that can't be looked at: room for %" PRIu64
                    " more of %d x %d",
                    in_use, limit, b->queues, hidden, left / ONE, MPSC_CAPACITY,
                    MPSC_MESSAGE_SIZE),
        "mqstat --doctor as root in the host's IPC namespace and in each that "
        "lsns -t ipc lists (nsenter --ipc --target PID)");
}

static void tell(struct findings *f, const struct budget *b)
{
    char in_use[VALUE_MAX], limit[VALUE_MAX];
    value_count(in_use, b->used);
    value_count(limit, b->limit);
    struct finding *item = finding_add(
        f, b->left >= ONE ? LEVEL_OK : LEVEL_WARN, "RLIMIT_MSGQUEUE",
        "%s of %s bytes used by %zu queues of yours: room for %" PRIu64
        " more of %d x %d",
        in_use, limit, b->queues, b->left / ONE, MPSC_CAPACITY,
        MPSC_MESSAGE_SIZE);
    if (b->left < ONE)
        finding_remedy(item,
                       "ulimit -q %" PRIu64
                       "  (systemd: LimitMSGQUEUE=; or end who holds a queue: "
                       "mqstat --queues)",
                       b->limit + 4 * ONE);
}

void doctor_budget(struct findings *f, const struct proc_scan *scan,
                   const struct queue_limits *limits)
{
    struct rlimit r;
    struct budget b = {0};
    uint64_t left;
    if (getrlimit(RLIMIT_MSGQUEUE, &r) < 0)
        return;
    b.limit = r.rlim_cur;
    add_up(&b, scan);
    if (r.rlim_cur == RLIM_INFINITY) {
        char in_use[VALUE_MAX];
        finding_add(f, LEVEL_OK, "RLIMIT_MSGQUEUE",
                    "%s bytes in %zu queues of yours, no limit",
                    value_count(in_use, b.used), b.queues);
        return;
    }
    if (is_less(&b, limits, &left))
        tell_hidden(f, &b, left);
    else
        tell(f, &b);
}
