/* A tmpfs that is filled, and prlimit(2). */
#include "tests/chaos/scarcity.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

/* So long after something ran short it may show that it did: who was told
 * something waits, then tells it. */
#define AFTERMATH_MS 4000

/* Nobody's limits are touched before its program was loaded: that it cannot
 * start is the kernel's affair. */
#define INFANT_MS 300

bool scarcity_may_mount(void)
{
    if (unshare(CLONE_NEWNS) == 0 &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return true;
    printf("note: no private mounts are allowed here (%s): the disk is never "
           "full\n",
           strerror(errno));
    return false;
}

bool scarcity_mount(const char *dir, unsigned long megabytes, unsigned names)
{
    char options[64];
    snprintf(options, sizeof(options), "size=%lum,nr_inodes=%u,mode=0711",
             megabytes, names);
    return mount("chaos", dir, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
}

void scarcity_unmount(const char *dir)
{
    umount2(dir, MNT_DETACH);
}

/* ---- the disk ---- */

static void fill_path(const struct world *w, unsigned i, char path[256])
{
    snprintf(path, 256, "%s/fill.%u", w->run_dir, i);
}

static void take_bytes(struct world *w)
{
    char path[256];
    struct statvfs fs;
    fill_path(w, 0, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    w->fillers = 1;
    off_t at = 0;
    /* Others free and take meanwhile. */
    for (int i = 0; i < 8 && fstatvfs(fd, &fs) == 0 && fs.f_bavail > 0; i++) {
        off_t more = (off_t)(fs.f_bavail * fs.f_frsize);
        if (fallocate(fd, 0, at, more) == 0)
            at += more;
    }
    close(fd);
}

static void take_names(struct world *w)
{
    char path[256];
    for (; w->fillers < FILLERS; w->fillers++) {
        fill_path(w, w->fillers, path);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return;
        close(fd);
    }
}

bool scarcity_fill(struct world *w, int ms)
{
    if (!w->disk || w->fillers > 0)
        return false;
    w->orders->scarce_until_ns = UINT64_MAX;
    w->disk_ns = clock_deadline(ms);
    if (dice_chance(&w->dice, 60))
        take_bytes(w);
    else
        take_names(w);
    return true;
}

static void free_disk(struct world *w)
{
    char path[256];
    for (unsigned i = 0; i < w->fillers; i++) {
        fill_path(w, i, path);
        unlink(path);
    }
    w->fillers = 0;
    w->disk_ns = 0;
    world_note(w, "the disk has room again");
}

/* ---- descriptors and memory ---- */

/* Private memory that may be written, stacks apart: what RLIMIT_DATA counts. */
static unsigned long data_bytes(pid_t pid)
{
    char path[64], line[128];
    unsigned long kb = 0;
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, "VmData:", 7) == 0)
            kb = strtoul(line + 7, NULL, 10);
    fclose(f);
    return kb * 1024;
}

bool scarcity_limit(struct world *w, struct player *p, bool descriptors, int ms)
{
    struct rlimit limit;
    char path[64];
    if (p->pid == 0 || p->lift_ns != 0 || (SUPPORT_SANITIZED && !descriptors) ||
        clock_ns() < p->born_ns + INFANT_MS * NS_PER_MS)
        return false;
    __rlimit_resource_t what = descriptors ? RLIMIT_NOFILE : RLIMIT_DATA;
    if (prlimit(p->pid, what, NULL, &limit) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)p->pid);
    int fds = support_count_entries(path);
    unsigned long data = data_bytes(p->pid);
    if (fds <= 0 || data == 0)
        return false;
    p->limited = (int)what;
    p->before = limit;
    limit.rlim_cur = descriptors
                         ? (rlim_t)(fds + dice_between(&w->dice, 0, 3))
                         : data + (rlim_t)dice_between(&w->dice, 0, 400) * 1024;
    if (limit.rlim_cur > limit.rlim_max ||
        prlimit(p->pid, what, &limit, NULL) < 0)
        return false;
    w->orders->scarce_until_ns = UINT64_MAX;
    p->lift_ns = clock_deadline(ms);
    return true;
}

/* True: the player still lacks something. */
static bool tend_player(const struct world *w, struct player *p)
{
    if (p->lift_ns == 0)
        return false;
    if (p->pid != 0 && !w->calm && clock_ns() < p->lift_ns)
        return true;
    if (p->pid != 0)
        prlimit(p->pid, (__rlimit_resource_t)p->limited, &p->before, NULL);
    p->lift_ns = 0;
    return false;
}

void scarcity_tend(struct world *w)
{
    bool scarce = false;
    if (w->disk_ns != 0 && (w->calm || clock_ns() >= w->disk_ns))
        free_disk(w);
    scarce |= w->disk_ns != 0;
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        scarce |= tend_player(w, &w->managers[i].player);
    for (unsigned i = 0; i < w->seat_count; i++)
        scarce |= tend_player(w, &w->seats[i].player);
    if (!scarce && w->orders->scarce_until_ns == UINT64_MAX)
        w->orders->scarce_until_ns = clock_deadline(AFTERMATH_MS);
}
