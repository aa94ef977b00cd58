/*
 * The small files of a channel's folder: its lock, the file that names the
 * queue, and FIFOs. What is created appears under its name finished (made under
 * a temporary name, renamed).
 */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"

/* ---- the lock ---- */

static pid_t read_pid(int fd)
{
    char text[24];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return (pid_t)strtol(text, NULL, 10);
}

/* Whether the locked file is still the one under the name: a manager that ends
 * removes it while it holds the lock. ERR_ABSENT: it is not. */
static enum err check_lock(const struct channel *ch, int fd)
{
    struct stat ours, named;
    if (fstat(fd, &ours) < 0)
        return ERR_SYS;
    if (fstatat(ch->dirfd, "lock", &named, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? ERR_ABSENT : ERR_SYS;
    return ours.st_ino == named.st_ino && ours.st_dev == named.st_dev
               ? ERR_OK
               : ERR_ABSENT;
}

/* Tries once. ERR_BUSY: another has the lock, *holder is its pid. ERR_ABSENT:
 * the file went away under us. ERR_SYS. */
static enum err try_lock(int fd, const struct channel *ch, pid_t pid,
                         pid_t *holder)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return ERR_SYS;
        *holder = read_pid(fd);
        return ERR_BUSY;
    }
    enum err e = check_lock(ch, fd);
    if (e != ERR_OK)
        return e;
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)pid);
    if (ftruncate(fd, 0) < 0)
        return ERR_SYS;
    ssize_t written = pwrite(fd, text, (size_t)n, 0);
    if (written == n)
        return ERR_OK;
    if (written >= 0)
        errno = ENOSPC; /* why else would a file take a part of 10 bytes? */
    int saved = errno;
    unlinkat(ch->dirfd, "lock", 0);
    errno = saved;
    return ERR_SYS;
}

enum err channel_lock(const struct channel *ch, pid_t pid, int wait_ms,
                      int *lock_fd, pid_t *holder, struct err_text *why)
{
    uint64_t deadline = clock_deadline(wait_ms);
    for (;;) {
        int fd = openat(ch->dirfd, "lock",
                        O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return err_say(why, errno == ENOENT ? ERR_ABSENT : ERR_SYS,
                           "cannot open %s/lock: %s", ch->dir, strerror(errno));
        enum err e = try_lock(fd, ch, pid, holder);
        if (e == ERR_OK) {
            *lock_fd = fd;
            return ERR_OK;
        }
        int saved = errno;
        close(fd);
        errno = saved;
        if (e == ERR_SYS)
            return err_say(why, ERR_SYS, "cannot lock %s/lock: %s", ch->dir,
                           strerror(errno));
        if (e == ERR_ABSENT)
            continue;
        if (clock_ns() >= deadline)
            return err_say(why, ERR_BUSY,
                           "channel '%s': a manager with pid %ld serves it "
                           "already",
                           ch->name, (long)*holder);
        struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
}

bool channel_locked(const struct channel *ch, pid_t *holder)
{
    *holder = 0;
    int fd = openat(ch->dirfd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (locked)
        *holder = read_pid(fd);
    close(fd);
    return locked;
}

/* ---- the queue file ---- */

enum err channel_write_queue(const struct channel *ch,
                             const struct channel_queue *q,
                             struct err_text *why)
{
    char text[CHANNEL_QUEUE_NAME_MAX + 32];
    int n =
        snprintf(text, sizeof(text), "%s\n%016" PRIx64 "\n", q->name, q->epoch);
    int fd =
        openat(ch->dirfd, ".queue",
               O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_say(why, ERR_SYS, "cannot write %s/queue: %s", ch->dir,
                       strerror(errno));
    enum err e = ERR_SYS;
    if (write(fd, text, (size_t)n) == n &&
        channel_set_mode(ch, fd, channel_mode(ch, 0640)) == ERR_OK &&
        renameat(ch->dirfd, ".queue", ch->dirfd, "queue") == 0)
        e = ERR_OK;
    if (e != ERR_OK)
        e = err_say(why, ERR_SYS, "cannot write %s/queue: %s", ch->dir,
                    strerror(errno));
    close(fd);
    return e;
}

enum err channel_read_queue(const struct channel *ch, struct channel_queue *q)
{
    int fd = openat(ch->dirfd, "queue",
                    O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_ABSENT : ERR_SYS;
    char text[CHANNEL_QUEUE_NAME_MAX + 32];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n < 0)
        return ERR_SYS;
    text[n] = '\0';
    char *end = strchr(text, '\n');
    if (end == NULL || end == text || text[0] != '/' ||
        (size_t)(end - text) >= sizeof(q->name))
        return ERR_PROTO;
    if (strspn(end + 1, "0123456789abcdef") != 16 || end[17] != '\n')
        return ERR_PROTO;
    uint64_t epoch = strtoull(end + 1, NULL, 16);
    if (epoch == 0)
        return ERR_PROTO;
    *end = '\0';
    memcpy(q->name, text, (size_t)(end - text) + 1);
    q->epoch = epoch;
    return ERR_OK;
}

/* ---- FIFOs ---- */

mode_t channel_mode(const struct channel *ch, mode_t with_group)
{
    return ch->group == CHANNEL_NO_GROUP ? 0600 : with_group;
}

enum err channel_set_mode(const struct channel *ch, int fd, mode_t mode)
{
    if (ch->group != CHANNEL_NO_GROUP && fchown(fd, (uid_t)-1, ch->group) < 0)
        return ERR_SYS;
    return fchmod(fd, mode) < 0 ? ERR_SYS : ERR_OK;
}

enum err channel_make_fifo(const struct channel *ch, const char *name,
                           mode_t mode, int *fd, struct err_text *why)
{
    char temporary[64];
    snprintf(temporary, sizeof(temporary), ".%s", name);
    int opened = -1;
    if ((unlinkat(ch->dirfd, temporary, 0) < 0 && errno != ENOENT) ||
        mkfifoat(ch->dirfd, temporary, 0600) < 0)
        goto fail;
    opened = openat(ch->dirfd, temporary,
                    O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0 || channel_set_mode(ch, opened, mode) != ERR_OK ||
        renameat(ch->dirfd, temporary, ch->dirfd, name) < 0)
        goto fail;
    *fd = opened;
    return ERR_OK;
fail:
    err_say(why, ERR_SYS, "cannot make %s/%s: %s", ch->dir, name,
            strerror(errno));
    if (opened >= 0)
        close(opened);
    return ERR_SYS;
}

static enum err open_entry(const struct channel *ch, const char *name,
                           int flags, int *fd)
{
    *fd = openat(ch->dirfd, name, flags | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (*fd >= 0)
        return ERR_OK;
    if (errno == ENOENT)
        return ERR_ABSENT;
    if (errno == ENXIO)
        return ERR_CLOSED;
    return errno == EACCES || errno == ELOOP ? ERR_DENIED : ERR_SYS;
}

/* Closes what is no FIFO, or can't be looked at. */
static enum err check_fifo(int *fd)
{
    struct stat st;
    enum err e = fstat(*fd, &st) < 0    ? ERR_SYS
                 : S_ISFIFO(st.st_mode) ? ERR_OK
                                        : ERR_DENIED;
    if (e == ERR_OK)
        return ERR_OK;
    int saved = errno;
    close(*fd);
    *fd = -1;
    errno = saved;
    return e;
}

enum err channel_open_fifo(const struct channel *ch, const char *name,
                           int flags, int *fd)
{
    enum err e = open_entry(ch, name, flags, fd);
    return e == ERR_OK ? check_fifo(fd) : e;
}

enum err channel_open_life(const struct channel *ch, const char *name, int *fd)
{
    enum err e = open_entry(ch, name, O_RDONLY, fd);
    if (e != ERR_OK)
        return e;
    char byte;
    ssize_t n = read(*fd, &byte, 1);
    if (n < 0 && errno == EAGAIN)
        return ERR_OK; /* only a FIFO with a writer says that */
    int saved = errno;
    e = check_fifo(fd);
    if (e != ERR_OK || n > 0)
        return e;
    close(*fd);
    *fd = -1;
    errno = saved;
    return n == 0 ? ERR_CLOSED : ERR_SYS;
}
