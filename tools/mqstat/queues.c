/* Every POSIX message queue of this IPC namespace, ours or not. */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/mqstat/mqstat.h"

static const char *owner_of(uid_t uid, char out[VALUE_MAX])
{
    const struct passwd *p = getpwuid(uid);
    if (p != NULL)
        text_safe(out, VALUE_MAX, p->pw_name);
    else
        snprintf(out, VALUE_MAX, "%u", (unsigned)uid);
    return out;
}

/* "812 nginx, 813 nginx +6" within a limit of names. */
static void list_holders(struct text *out, const struct proc_scan *scan,
                         size_t queue, size_t most)
{
    size_t n = 0;
    for (size_t i = 0; i < scan->nholders; i++) {
        const struct proc_holder *h = &scan->holders[i];
        if (h->queue != queue)
            continue;
        if (n < most)
            text_add(out, "%s%d %s", n ? ", " : "", (int)h->pid, h->comm);
        n++;
    }
    if (n > most)
        text_add(out, " +%zu", n - most);
    if (n == 0)
        text_add(out, "nobody");
}

static const char *notified(const struct proc_queue *q, char out[64])
{
    char comm[PROC_COMM_MAX];
    if (!q->have_bytes)
        return "?";
    if (q->notify_pid <= 0)
        return "-";
    proc_comm(q->notify_pid, comm);
    snprintf(out, 64, "%d %.16s %s", (int)q->notify_pid, comm,
             q->notify == SIGEV_SIGNAL   ? "signal"
             : q->notify == SIGEV_THREAD ? "thread"
                                         : "none");
    return out;
}

static void add_sleepers(struct text *out, const struct proc_scan *scan,
                         size_t queue, bool sending, const struct look *look)
{
    size_t n = 0;
    bool guessed = false;
    for (size_t i = 0; i < scan->nsleepers; i++) {
        const struct proc_sleeper *s = &scan->sleepers[i];
        if (s->queue != queue || s->sending != sending)
            continue;
        text_add(out, "%s%d",
                 n % 4 ? ", "
                 : n   ? ",\n    "
                       : "\n    ",
                 (int)s->pid);
        if (s->tid != s->pid)
            text_add(out, ":%d", (int)s->tid);
        text_add(out, " %s", s->comm);
        guessed |= s->guessed;
        n++;
    }
    if (n > 0)
        text_add(out, "%s%s\n", color(look, COLOR_OFF),
                 guessed ? " (by wait channel)" : "");
}

/* Who waits on it, a line or two below the table's. */
static void show_sleepers(struct text *out, const struct proc_scan *scan,
                          const struct look *look)
{
    char safe[1100];
    bool any = false;
    for (size_t i = 0; i < scan->nqueues; i++) {
        const struct proc_queue *q = &scan->queues[i];
        size_t senders = proc_sleeping(scan, q, true);
        size_t receivers = proc_sleeping(scan, q, false);
        if (senders == 0 && receivers == 0)
            continue;
        text_add(out, "%s%s\n", any ? "" : "\n",
                 text_safe(safe, sizeof(safe), q->name));
        any = true;
        if (senders > 0) {
            text_add(out, "  %s%zu blocked sending%s:", color(look, COLOR_WARN),
                     senders, color(look, COLOR_OFF));
            add_sleepers(out, scan, i, true, look);
        }
        if (receivers > 0) {
            text_add(out, "  %zu waiting to receive:", receivers);
            add_sleepers(out, scan, i, false, look);
        }
    }
}

/* What this program could not see, and what would help. */
static void show_unseen(struct text *out, const struct proc_scan *scan)
{
    if (scan->listing == LISTING_NONE)
        text_add(out,
                 "not seen: queues that no process here holds (%s: mount -t "
                 "mqueue none /dev/mqueue, or run as root)\n",
                 scan->foreign_mount ? "/dev/mqueue shows another IPC namespace"
                                     : "/dev/mqueue is not mounted");
    if (scan->unseen > 0)
        text_add(out,
                 "not seen: what %zu of %zu processes hold (other users': run "
                 "as root)\n",
                 scan->unseen, scan->processes);
    if (scan->unseen_waits > 0)
        text_add(out,
                 "not seen: what %zu threads wait for (ptrace is restricted: "
                 "run as root)\n",
                 scan->unseen_waits);
    if (scan->truncated)
        text_add(out, "not seen: some of so many queues and holders\n");
}

static void queue_row(struct table *t, const struct proc_scan *scan, size_t i,
                      const struct look *look)
{
    const struct proc_queue *q = &scan->queues[i];
    char safe[1100], v[VALUE_MAX], to[64];
    table_cell(t, text_safe(safe, sizeof(safe), q->name));
    if (q->have_attr) {
        bool full = q->messages >= q->capacity;
        table_cellf(t, "%s%ld/%ld%s", full ? color(look, COLOR_WARN) : "",
                    q->messages, q->capacity,
                    full ? color(look, COLOR_OFF) : "");
    } else {
        table_cell(t, "?");
    }
    table_cell(t, q->have_bytes ? value_size(v, (double)q->bytes) : "?");
    table_cell(t, q->have_attr ? value_size(v, (double)q->msgsize) : "?");
    table_cellf(t, "%04o", (unsigned)q->mode);
    table_cell(t, owner_of(q->uid, v));
    table_cellf(t, "%zu", proc_sleeping(scan, q, true));
    table_cell(t, notified(q, to));
    table_cell(t, !q->named ? "unlinked" : q->here ? "" : "other ns");
    struct text holders = {0};
    list_holders(&holders, scan, i, 3);
    table_cell(t, holders.failed ? "?" : holders.data);
    text_free(&holders);
}

static void show_queues(struct text *out, const struct proc_scan *scan,
                        const struct look *look)
{
    static const struct table_column columns[] = {
        {.title = "QUEUE", .left = true},
        {.title = "USED"},
        {.title = "BYTES", .keep = 6},
        {.title = "MSGSIZE", .keep = 3},
        {.title = "MODE", .keep = 2},
        {.title = "OWNER", .left = true, .keep = 4},
        {.title = "BLKD"},
        {.title = "NOTIFIES", .left = true, .keep = 1},
        {.title = "NOTE", .left = true},
        {.title = "HOLDERS", .left = true, .keep = 5},
    };
    struct table t;
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < scan->nqueues; i++)
        queue_row(&t, scan, i, look);
    if (scan->nqueues > 0)
        table_print(&t, out, look);
    else
        text_add(out, "no POSIX message queue in sight\n");
    table_free(&t);
    show_sleepers(out, scan, look);
    show_unseen(out, scan);
}

int run_queues(const struct options *o)
{
    bool again;
    int code;
    long left = o->count;
    do {
        struct proc_scan scan;
        enum err e = proc_scan(&scan, true);
        if (e != ERR_OK)
            return fail(EXIT_SYSTEM, "cannot read /proc: %s", err_str(e));
        struct text out = {0};
        /* A short list: cleared and printed again. */
        if (o->live && o->look.terminal)
            text_add(&out, "\033[H\033[2J");
        if (o->json)
            json_queues(&out, &scan);
        else
            show_queues(&out, &scan, &o->look);
        proc_scan_free(&scan);
        code = finish(&out);
        again = o->live && code == EXIT_FINE && (left == 0 || --left > 0);
    } while (again && sleep_s(o->interval_s));
    return code;
}
