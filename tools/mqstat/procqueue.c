/* What a queue tells of itself, and which there are. */
#include "tools/mqstat/procqueue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MQUEUE_MAGIC 0x19800202
#define ENTRIES_MAX 65536 /* of each kind kept */

void *proc_grow(void *slot, size_t *n, size_t *cap, size_t size, bool *full)
{
    void *data; /* copied, for `slot` is of any pointer type */
    memcpy(&data, slot, sizeof(data));
    if (*n >= ENTRIES_MAX) {
        *full = true;
        return NULL;
    }
    if (*n == *cap) {
        size_t more = *cap ? *cap * 2 : 32;
        void *bigger = realloc(data, more * size);
        if (bigger == NULL) {
            *full = true;
            return NULL;
        }
        data = bigger;
        memcpy(slot, &data, sizeof(data));
        *cap = more;
    }
    void *entry = (char *)data + *n * size;
    memset(entry, 0, size);
    (*n)++;
    return entry;
}

/* ---- one queue ---- */

static size_t find_queue(const struct proc_scan *scan, dev_t dev, ino_t ino)
{
    for (size_t i = 0; i < scan->nqueues; i++)
        if (scan->queues[i].ino == ino && scan->queues[i].dev == dev)
            return i;
    return SIZE_MAX;
}

const struct proc_queue *proc_scan_find(const struct proc_scan *scan, dev_t dev,
                                        ino_t ino)
{
    size_t i = find_queue(scan, dev, ino);
    return i == SIZE_MAX ? NULL : &scan->queues[i];
}

static void set_stat(struct proc_queue *q, const struct stat *st)
{
    q->have_stat = true;
    q->dev = st->st_dev;
    q->ino = st->st_ino;
    q->mode = st->st_mode & 07777;
    q->uid = st->st_uid;
    q->gid = st->st_gid;
    q->used = st->st_ctime;
    q->named = st->st_nlink > 0;
}

/* What an open descriptor of the queue tells. */
static void set_attr(struct proc_queue *q, int fd)
{
    struct mq_attr attr;
    if (mq_getattr(fd, &attr) == 0) {
        q->have_attr = true;
        q->messages = attr.mq_curmsgs;
        q->capacity = attr.mq_maxmsg;
        q->msgsize = attr.mq_msgsize;
    }
    char line[160];
    ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
    if (n <= 0)
        return;
    line[n] = '\0';
    unsigned long bytes = 0;
    int notify = 0, signo = 0, pid = 0;
    if (sscanf(line, "QSIZE:%lu NOTIFY:%d SIGNO:%d NOTIFY_PID:%d", &bytes,
               &notify, &signo, &pid) == 4) {
        q->have_bytes = true;
        q->bytes = bytes;
        q->notify = notify;
        q->notify_pid = pid;
    }
}

/* Reading tells most; a queue that may only be written tells its depth. */
static int open_either(int dirfd, const char *path)
{
    int fd = openat(dirfd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == EACCES)
        fd = openat(dirfd, path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return fd;
}

/* Whether the name leads to this very queue in our IPC namespace. */
static bool is_here(const char *name, dev_t dev, ino_t ino)
{
    mqd_t mq = mq_open(name, O_RDONLY | O_NONBLOCK);
    if (mq == (mqd_t)-1 && errno == EACCES)
        mq = mq_open(name, O_WRONLY | O_NONBLOCK);
    if (mq == (mqd_t)-1)
        return errno == EACCES;
    struct stat st;
    bool same = fstat(mq, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
    mq_close(mq);
    return same;
}

size_t proc_note_queue(struct proc_scan *scan, int fds, const char *fd_name,
                       const char *link)
{
    struct stat st;
    struct statfs fs;
    if (fstatat(fds, fd_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
        return SIZE_MAX;
    size_t i = find_queue(scan, st.st_dev, st.st_ino);
    if (i != SIZE_MAX)
        return i;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d/%.16s", fds, fd_name);
    if (statfs(path, &fs) < 0 || (unsigned long)fs.f_type != MQUEUE_MAGIC)
        return SIZE_MAX;
    struct proc_queue *q = GROW(scan, queues);
    if (q == NULL)
        return SIZE_MAX;
    set_stat(q, &st);
    size_t len = strlen(link);
    static const char deleted[] = " (deleted)";
    if (!q->named && len > sizeof(deleted) &&
        strcmp(link + len - (sizeof(deleted) - 1), deleted) == 0)
        len -= sizeof(deleted) - 1;
    if (len >= sizeof(q->name))
        len = sizeof(q->name) - 1;
    memcpy(q->name, link, len);
    int fd = open_either(fds, fd_name);
    if (fd >= 0) {
        set_attr(q, fd);
        close(fd);
    }
    q->here = q->named && is_here(q->name, q->dev, q->ino);
    return scan->nqueues - 1;
}

/* ---- queues by name ---- */

static void note_name(struct proc_scan *scan, int dir, const char *entry,
                      bool *foreign)
{
    struct stat st;
    if (fstatat(dir, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    size_t i = find_queue(scan, st.st_dev, st.st_ino);
    if (i != SIZE_MAX) {
        scan->queues[i].here = true;
        return;
    }
    char name[NAME_MAX + 2];
    snprintf(name, sizeof(name), "/%s", entry);
    if (!is_here(name, st.st_dev, st.st_ino)) {
        *foreign = true;
        return;
    }
    struct proc_queue *q = GROW(scan, queues);
    if (q == NULL)
        return;
    set_stat(q, &st);
    q->here = true;
    memcpy(q->name, name, sizeof(name));
    int fd = open_either(dir, entry);
    if (fd >= 0) {
        set_attr(q, fd);
        close(fd);
    }
}

/* Lists the folder of a mounted mqueue file system; takes `fd`. True if it may
 * be believed to show this namespace. */
static bool list_names(struct proc_scan *scan, int fd)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return false;
    }
    bool foreign = false;
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            note_name(scan, dirfd(dir), d->d_name, &foreign);
    closedir(dir);
    scan->foreign_mount |= foreign;
    return !foreign;
}

/* A mount of this namespace's queues that is attached nowhere; needs
 * CAP_SYS_ADMIN. -1 where that is refused. */
static int private_mount(void)
{
#if defined(SYS_fsopen) && defined(SYS_fsconfig) && defined(SYS_fsmount)
    int fs = (int)syscall(SYS_fsopen, "mqueue", 1U /* FSOPEN_CLOEXEC */);
    if (fs < 0)
        return -1;
    int mount = -1;
    if (syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) ==
        0)
        mount = (int)syscall(SYS_fsmount, fs, 1U /* FSMOUNT_CLOEXEC */, 0U);
    close(fs);
    if (mount < 0)
        return -1;
    int dir = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(mount);
    return dir;
#else
    return -1;
#endif
}

void proc_scan_names(struct proc_scan *scan)
{
    struct statfs fs;
    int fd = private_mount();
    if (fd >= 0 && list_names(scan, fd)) {
        scan->listing = LISTING_PRIVATE;
        return;
    }
    fd = open("/dev/mqueue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 &&
        (fstatfs(fd, &fs) < 0 || (unsigned long)fs.f_type != MQUEUE_MAGIC)) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0 && list_names(scan, fd))
        scan->listing = LISTING_MOUNT;
}
