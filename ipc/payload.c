/* Files that carry large arguments. */
#include "ipc/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/oneshot.h"
#include "ipc/sweep.h"

enum err payload_folder(const struct channel *ch, int *fd)
{
    *fd = openat(ch->dirfd, "payload",
                 O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd >= 0)
        return ERR_OK;
    return errno == ENOENT ? ERR_ABSENT : ERR_SYS;
}

/* ---- the requester ---- */

enum err payload_make(struct payload *p, int folder, bool foreign,
                      uint64_t client, uint64_t slot)
{
    if (p->fd >= 0)
        return ERR_OK;
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, client, slot);
    int fd = openat(folder, name,
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return ERR_SYS;
    /* In a group's channel the manager is another user: it may read, through
     * the group that the setgid folder gave the file. */
    if (foreign && fchmod(fd, 0640) < 0) {
        int saved = errno;
        unlinkat(folder, name, 0);
        close(fd);
        errno = saved;
        return ERR_SYS;
    }
    p->fd = fd;
    p->size = 0;
    return ERR_OK;
}

enum err payload_write(struct payload *p, int64_t offset, const void *data,
                       size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = pwrite(p->fd, at, len, offset);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return ERR_SYS;
        }
        at += n;
        offset += n;
        len -= (size_t)n;
        if (offset > p->size)
            p->size = offset;
    }
    return ERR_OK;
}

void payload_trim(struct payload *p)
{
    if (p->fd >= 0 && p->size > PAYLOAD_KEPT_MAX &&
        ftruncate(p->fd, PAYLOAD_KEPT_MAX) == 0)
        p->size = PAYLOAD_KEPT_MAX;
}

void payload_drop(struct payload *p, int folder, uint64_t client, uint64_t slot)
{
    if (p->fd < 0)
        return;
    if (folder >= 0)
        payload_unlink(folder, client, slot);
    close(p->fd);
    p->fd = -1;
    p->size = 0;
}

/* ---- the manager ---- */

enum err payload_open(int folder, uint64_t client, uint64_t slot, uid_t uid,
                      int64_t need, int *fd)
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, client, slot);
    int opened =
        openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0) {
        if (errno == ENOENT)
            return ERR_ABSENT;
        if (errno == EMFILE || errno == ENFILE)
            return ERR_LIMIT;
        return errno == ELOOP || errno == EACCES ? ERR_DENIED : ERR_SYS;
    }
    struct stat st;
    enum err e = ERR_OK;
    if (fstat(opened, &st) < 0)
        e = ERR_SYS;
    else if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != uid)
        e = ERR_DENIED;
    else if (st.st_size < need)
        e = ERR_INVALID;
    if (e != ERR_OK) {
        close(opened);
        return e;
    }
    *fd = opened;
    return ERR_OK;
}

void payload_unlink(int folder, uint64_t client, uint64_t slot)
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, client, slot);
    unlinkat(folder, name, 0);
}

bool payload_is_leftover(int folder, const char *name, int reply_fd)
{
    (void)folder;
    /* A requester makes its reply pipe first and removes it last. */
    int pipe = openat(reply_fd, name,
                      O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (pipe >= 0)
        close(pipe);
    return pipe < 0 && (errno == ENOENT || errno == ENXIO);
}

enum err payload_sweep(int folder, int reply_fd, size_t *removed)
{
    return sweep_whole(folder, reply_fd, payload_is_leftover, removed);
}
