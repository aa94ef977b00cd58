/* --doctor: the limits, and the report. */
#include "tools/mqstat/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ipc/mpsc.h"
#include "tools/mqstat/mqstat.h"

#define PROC_MQUEUE "/proc/sys/fs/mqueue/"
#define MQUEUE_MAGIC 0x19800202

/* ---- findings ---- */

struct finding *finding_add(struct findings *f, enum level level,
                            const char *about, const char *fmt, ...)
{
    if (f->count == FINDINGS_MAX)
        return NULL;
    struct finding *item = &f->items[f->count++];
    char raw[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    item->level = level;
    text_safe(item->about, sizeof(item->about), about);
    text_safe(item->what, sizeof(item->what), raw);
    item->remedy[0] = '\0';
    return item;
}

void finding_remedy(struct finding *f, const char *fmt, ...)
{
    if (f == NULL)
        return;
    char raw[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    text_safe(f->remedy, sizeof(f->remedy), raw);
}

/* ---- the limits ---- */

/* -1: it can't be read. */
static long read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    long n = -1;
    if (file == NULL)
        return -1;
    if (fscanf(file, "%ld", &n) != 1)
        n = -1;
    fclose(file);
    return n;
}

static bool has_capability(int bit)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    unsigned long long effective = 0;
    if (file == NULL)
        return false;
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "CapEff: %llx", &effective) == 1)
            break;
    fclose(file);
    return (effective >> bit & 1) != 0;
}

#define CAP_SYS_RESOURCE_BIT 24

/* Root of another user namespace has all capabilities there, and the kernel
 * asks for them here. */
static bool in_first_user_namespace(void)
{
    FILE *file = fopen("/proc/self/uid_map", "re");
    unsigned long inside = 1, outside = 1, count = 0;
    if (file == NULL)
        return true; /* a kernel without them */
    bool got = fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3;
    fclose(file);
    return got && inside == 0 && outside == 0 && count == UINT32_MAX;
}

static void doctor_sysctls(struct findings *f, const struct proc_scan *scan,
                           struct queue_limits *limits)
{
    bool privileged =
        has_capability(CAP_SYS_RESOURCE_BIT) && in_first_user_namespace();
    long max = read_number(PROC_MQUEUE "msg_max");
    if (max < 0) {
        finding_add(f, LEVEL_BAD, "kernel",
                    "no " PROC_MQUEUE ": this kernel has no POSIX message "
                    "queues (CONFIG_POSIX_MQUEUE)");
        return;
    }
    limits->capacity = max < MPSC_CAPACITY ? max : MPSC_CAPACITY;
    if (max >= MPSC_CAPACITY)
        finding_add(f, LEVEL_OK, "msg_max",
                    "a queue may hold %ld messages; a manager asks for %d", max,
                    MPSC_CAPACITY);
    else
        finding_remedy(
            finding_add(f, privileged ? LEVEL_NOTE : LEVEL_WARN, "msg_max",
                        "a queue may hold %ld messages: a manager that wants "
                        "%d gets %ld%s",
                        max, MPSC_CAPACITY, max,
                        privileged ? " (but you have CAP_SYS_RESOURCE)" : ""),
            "echo fs.mqueue.msg_max=64 >/etc/sysctl.d/60-mqredis.conf && "
            "sysctl -w fs.mqueue.msg_max=64");
    max = read_number(PROC_MQUEUE "msgsize_max");
    limits->msgsize = max < MPSC_MESSAGE_SIZE ? max : MPSC_MESSAGE_SIZE;
    if (max >= MPSC_MESSAGE_SIZE)
        finding_add(f, LEVEL_OK, "msgsize_max",
                    "a message may have %ld bytes; a manager asks for %d", max,
                    MPSC_MESSAGE_SIZE);
    else
        finding_remedy(finding_add(f, LEVEL_WARN, "msgsize_max",
                                   "a message may have %ld bytes, a manager "
                                   "asks for %d",
                                   max, MPSC_MESSAGE_SIZE),
                       "sysctl -w fs.mqueue.msgsize_max=%d", MPSC_MESSAGE_SIZE);
    max = read_number(PROC_MQUEUE "queues_max");
    size_t here = 0;
    for (size_t i = 0; i < scan->nqueues; i++)
        here += scan->queues[i].here;
    if (max >= 0 && here + 8 > (size_t)max)
        finding_remedy(
            finding_add(f, LEVEL_WARN, "queues_max",
                        "%zu of %ld queues of this IPC namespace are "
                        "in use",
                        here, max),
            "sysctl -w fs.mqueue.queues_max=%ld", max * 2);
    else
        finding_add(f, LEVEL_OK, "queues_max",
                    "%zu of %ld queues of this IPC namespace are in use%s",
                    here, max,
                    scan->listing == LISTING_NONE ? " (that I can see)" : "");
}

static void doctor_files(struct findings *f)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        struct finding *item = finding_add(
            f, r.rlim_cur >= 1024 ? LEVEL_OK : LEVEL_WARN, "open files",
            "%" PRIu64 " a process (hard limit %" PRIu64
            "); a manager needs one for every reply pipe in use",
            (uint64_t)r.rlim_cur, (uint64_t)r.rlim_max);
        if (r.rlim_cur < 1024)
            finding_remedy(item, "ulimit -n 4096");
    }
    long pages = read_number("/proc/sys/fs/pipe-user-pages-soft");
    if (pages == 0 || pages >= 16384)
        finding_add(f, LEVEL_OK, "pipe pages",
                    pages ? "%ld a user: about %ld pipes of full size"
                          : "no limit",
                    pages, pages / 16);
    else if (pages > 0)
        finding_remedy(
            finding_add(f, LEVEL_WARN, "pipe pages",
                        "%ld a user: from the %ldth on reply pipes are small, "
                        "and large replies slow",
                        pages, pages / 16 + 1),
            "sysctl -w fs.pipe-user-pages-soft=16384");
}

static void doctor_mount(struct findings *f, const struct proc_scan *scan)
{
    struct statfs fs;
    bool mounted = statfs("/dev/mqueue", &fs) == 0 &&
                   (unsigned long)fs.f_type == MQUEUE_MAGIC;
    if (!mounted)
        finding_remedy(
            finding_add(f, LEVEL_NOTE, "/dev/mqueue",
                        "is not mounted: nothing needs it, mqstat%s",
                        scan->listing == LISTING_PRIVATE
                            ? " looked without it"
                            : " sees only queues that a process holds"),
            "mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue");
    else if (scan->foreign_mount)
        finding_add(f, LEVEL_NOTE, "/dev/mqueue",
                    "shows the queues of another IPC namespace than this one");
    else
        finding_add(f, LEVEL_OK, "/dev/mqueue", "is mounted");
    if (scan->unseen > 0)
        finding_add(f, LEVEL_NOTE, "processes",
                    "%zu of %zu can't be looked at by you: run as root to see "
                    "all holders",
                    scan->unseen, scan->processes);
}

/* logind removes the queues of a user whose last session ends. */
static void doctor_logind(struct findings *f)
{
    const struct passwd *p = getpwuid(geteuid());
    char path[256];
    /* People have uids in between; services and nobody keep their queues. */
    if (p == NULL || p->pw_uid < 1000 || p->pw_uid >= 60000 ||
        access("/run/systemd/seats", F_OK) != 0)
        return;
    snprintf(path, sizeof(path), "/var/lib/systemd/linger/%s", p->pw_name);
    if (access(path, F_OK) == 0)
        return;
    finding_remedy(finding_add(f, LEVEL_NOTE, "logind",
                               "removes your queues when you log out, unless "
                               "RemoveIPC=no is set"),
                   "loginctl enable-linger %s", p->pw_name);
}

static void doctor_shm(struct findings *f)
{
    struct statfs fs;
    if (access("/dev/shm", W_OK | X_OK) < 0 || statfs("/dev/shm", &fs) < 0) {
        finding_remedy(finding_add(f, LEVEL_WARN, "/dev/shm",
                                   "can't be written (%s), and channels live "
                                   "there by default",
                                   strerror(errno)),
                       "export MQREDIS_DIR=/some/folder/of/yours");
        return;
    }
    char v[VALUE_MAX];
    double left = (double)fs.f_bavail * (double)fs.f_bsize;
    struct finding *item = finding_add(
        f, left >= 16 * 1024 * 1024 ? LEVEL_OK : LEVEL_WARN, "/dev/shm",
        "%s left for channels and large arguments", value_size(v, left));
    if (left < 16 * 1024 * 1024)
        finding_remedy(item, "mount -o remount,size=256m /dev/shm");
}

void doctor_limits(struct findings *f, const struct proc_scan *scan)
{
    struct queue_limits limits = {0};
    doctor_sysctls(f, scan, &limits);
    doctor_budget(f, scan, &limits);
    doctor_files(f);
    doctor_mount(f, scan);
    doctor_shm(f);
    doctor_logind(f);
}

/* ---- the report ---- */

static const char *const level_names[] = {
    [LEVEL_OK] = "ok",        [LEVEL_NOTE] = "note", [LEVEL_FIXED] = "fixed",
    [LEVEL_WARN] = "warning", [LEVEL_BAD] = "bad",
};

static void report(struct text *out, const struct findings *f,
                   const struct look *look)
{
    static const enum color colors[] = {
        [LEVEL_OK] = COLOR_GOOD,    [LEVEL_NOTE] = COLOR_ACCENT,
        [LEVEL_FIXED] = COLOR_GOOD, [LEVEL_WARN] = COLOR_WARN,
        [LEVEL_BAD] = COLOR_BAD,
    };
    size_t worse = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct finding *item = &f->items[i];
        text_add(out, "%s%-8s%s %-16s %s\n", color(look, colors[item->level]),
                 level_names[item->level], color(look, COLOR_OFF), item->about,
                 item->what);
        if (item->remedy[0] != '\0' && item->level != LEVEL_OK)
            text_add(out, "%-8s %-16s %s%s%s\n", "", "",
                     color(look, COLOR_BOLD), item->remedy,
                     color(look, COLOR_OFF));
        worse += item->level >= LEVEL_WARN;
    }
    if (worse == 0)
        text_add(out, "nothing to mend\n");
    else
        text_add(out, "%zu to mend\n", worse);
}

int run_doctor(const struct options *o)
{
    struct channel_names names = {0};
    struct proc_scan scan;
    struct findings *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return fail(EXIT_SYSTEM, "out of memory");
    enum err e = proc_scan(&scan, true);
    if (e == ERR_OK)
        e = channel_names_find(&names);
    int code;
    if (e != ERR_OK) {
        code = fail(EXIT_SYSTEM, "cannot look around: %s", err_str(e));
    } else {
        doctor_limits(f, &scan);
        doctor_channels(f, &scan, &names, o->fix);
        doctor_strays(f, &scan, &names, o->fix);
        struct text out = {0};
        if (o->json)
            json_findings(&out, f);
        else
            report(&out, f, &o->look);
        code = finish(&out);
        for (size_t i = 0; code == EXIT_FINE && i < f->count; i++)
            if (f->items[i].level >= LEVEL_WARN)
                code = EXIT_DEGRADED;
    }
    channel_names_free(&names);
    proc_scan_free(&scan);
    free(f);
    return code;
}
