/*
 * Reply pipes.
 *
 * The requester opens its FIFO O_RDWR: one that never had a writer reads as
 * EOF, which would look like a dead manager. So EOF is never a verdict here:
 * liveness of the other side is told by the channel's `receiver` FIFO.
 */
#include "ipc/oneshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "ipc/sweep.h"

/* How long a pipe may be in the making: two system calls. */
#define TEMPORARY_MAX_AGE_S 5

void oneshot_name(char name[ONESHOT_NAME_MAX], uint64_t client, uint64_t slot)
{
    static const char digits[] = "0123456789abcdef";
    char *at = name;
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = digits[(client >> shift) & 15];
    *at++ = '-';
    int shift = 60;
    while (shift > 0 && ((slot >> shift) & 15) == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *at++ = digits[(slot >> shift) & 15];
    *at = '\0';
}

/* ---- the requester ---- */

void oneshot_pool_init(struct oneshot_pool *pool, int reply_fd, bool foreign,
                       uint64_t client)
{
    memset(pool, 0, sizeof(*pool));
    pool->reply_fd = reply_fd;
    pool->payload_fd = -1;
    pool->foreign = foreign;
    pool->client = client;
}

/* Never over a name that is there: it would be a pipe of our parent's, in a
 * child of fork() that forgot to take a client id of its own. */
static bool give_name(int reply_fd, const char *temporary, const char *name)
{
    if (renameat2(reply_fd, temporary, reply_fd, name, RENAME_NOREPLACE) == 0)
        return true;
    /* Few file systems lack it. */
    return (errno == EINVAL || errno == ENOSYS) &&
           renameat(reply_fd, temporary, reply_fd, name) == 0;
}

static enum err make_slot(struct oneshot_pool *pool, struct oneshot *slot)
{
    char name[ONESHOT_NAME_MAX];
    char temporary[ONESHOT_NAME_MAX + 1];
    uint64_t number = pool->next_slot++;
    oneshot_name(name, pool->client, number);
    temporary[0] = '.';
    memcpy(temporary + 1, name, sizeof(name));
    if (mkfifoat(pool->reply_fd, temporary, 0600) < 0)
        return ERR_SYS;
    int fd = openat(pool->reply_fd, temporary,
                    O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    /* In a group's channel the manager is another user: it may write, through
     * the group that the setgid folder gave the FIFO. */
    bool ok = fd >= 0 && (!pool->foreign || fchmod(fd, 0620) == 0) &&
              give_name(pool->reply_fd, temporary, name);
    if (!ok) {
        int saved = errno;
        unlinkat(pool->reply_fd, temporary, 0);
        if (fd >= 0)
            close(fd);
        errno = saved;
        return ERR_SYS;
    }
    *slot = (struct oneshot){.fd = fd, .slot = number, .payload = {.fd = -1}};
    return ERR_OK;
}

enum err oneshot_acquire(struct oneshot_pool *pool, struct oneshot *slot)
{
    if (pool->idle_count > 0) {
        *slot = pool->idle[--pool->idle_count];
        return ERR_OK;
    }
    return make_slot(pool, slot);
}

enum err oneshot_payload(struct oneshot_pool *pool, const struct channel *ch,
                         struct oneshot *slot)
{
    enum err e = ERR_OK;
    if (pool->payload_fd < 0)
        e = payload_folder(ch, &pool->payload_fd);
    if (e != ERR_OK)
        return e;
    return payload_make(&slot->payload, pool->payload_fd, pool->foreign,
                        pool->client, slot->slot);
}

void oneshot_release(struct oneshot_pool *pool, struct oneshot *slot)
{
    if (pool->idle_count == ONESHOT_IDLE_MAX) {
        oneshot_abandon(pool, slot);
        return;
    }
    payload_trim(&slot->payload);
    pool->idle[pool->idle_count++] = *slot;
    slot->fd = -1;
}

void oneshot_abandon(struct oneshot_pool *pool, struct oneshot *slot)
{
    payload_drop(&slot->payload, pool->payload_fd, pool->client, slot->slot);
    /* The name first: no writer may open it between. */
    oneshot_unlink(pool->reply_fd, pool->client, slot->slot);
    close(slot->fd);
    slot->fd = -1;
}

void oneshot_pool_close(struct oneshot_pool *pool)
{
    while (pool->idle_count > 0)
        oneshot_abandon(pool, &pool->idle[--pool->idle_count]);
    if (pool->payload_fd >= 0)
        close(pool->payload_fd);
    pool->payload_fd = -1;
}

void oneshot_disown(struct oneshot *slot)
{
    payload_drop(&slot->payload, -1, 0, 0);
    close(slot->fd);
    slot->fd = -1;
}

void oneshot_pool_disown(struct oneshot_pool *pool)
{
    while (pool->idle_count > 0)
        oneshot_disown(&pool->idle[--pool->idle_count]);
    if (pool->payload_fd >= 0)
        close(pool->payload_fd);
    pool->payload_fd = -1;
}

/* ---- the answerer ---- */

/* Opens what stands under a name for writing, if it is a FIFO with a reader. */
static enum err open_writer(int reply_fd, const char *name, int *fd)
{
    int opened =
        openat(reply_fd, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0) {
        if (errno == ENXIO || errno == ENOENT)
            return ERR_CLOSED;
        if (errno == EMFILE || errno == ENFILE)
            return ERR_LIMIT;
        return errno == ELOOP || errno == EACCES || errno == EISDIR ? ERR_DENIED
                                                                    : ERR_SYS;
    }
    struct stat st;
    /* ERR_DENIED gets a name swept away: only for what was seen. */
    enum err e = ERR_OK;
    if (fstat(opened, &st) < 0)
        e = ERR_SYS;
    else if (!S_ISFIFO(st.st_mode) || st.st_nlink != 1)
        e = ERR_DENIED;
    if (e != ERR_OK) {
        int saved = errno;
        close(opened);
        errno = saved;
        return e;
    }
    *fd = opened;
    return ERR_OK;
}

enum err oneshot_open(int reply_fd, uint64_t client, uint64_t slot, int *fd)
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, client, slot);
    return open_writer(reply_fd, name, fd);
}

enum err oneshot_write(int fd, const struct reply_chunk *chunk,
                       const char *body, size_t *written)
{
    size_t total = sizeof(*chunk) + chunk->length;
    ssize_t n;
    /* Small replies go out in one plain write: cheaper than writev(2). */
    char small[512];
    do {
        if (total <= sizeof(small)) {
            memcpy(small, chunk, sizeof(*chunk));
            if (chunk->length > 0)
                memcpy(small + sizeof(*chunk), body, chunk->length);
            n = write(fd, small, total);
        } else {
            struct reply_chunk copy = *chunk;
            union {
                const char *in;
                void *out;
            } cast = {.in = body}; /* iovec has no const; writev only reads */
            struct iovec iov[2] = {
                {.iov_base = &copy, .iov_len = sizeof(copy)},
                {.iov_base = cast.out, .iov_len = chunk->length},
            };
            n = writev(fd, iov, 2);
        }
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        *written = 0;
        if (errno == EAGAIN)
            return ERR_AGAIN;
        return errno == EPIPE ? ERR_CLOSED : ERR_SYS;
    }
    *written = (size_t)n;
    return (size_t)n == total ? ERR_OK : ERR_AGAIN;
}

bool oneshot_tell(int reply_fd, const struct message_header *h,
                  enum reply_status status, const char *text)
{
    int fd;
    if (oneshot_open(reply_fd, h->client, h->slot, &fd) != ERR_OK)
        return false;
    struct reply_chunk chunk = {
        .request = h->request,
        .length = (uint32_t)strlen(text),
        .count = h->ncommands,
        .flags = REPLY_END,
        .status = (uint8_t)status,
    };
    size_t written;
    bool ok = oneshot_write(fd, &chunk, text, &written) == ERR_OK;
    close(fd);
    return ok;
}

void oneshot_unlink(int reply_fd, uint64_t client, uint64_t slot)
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, client, slot);
    unlinkat(reply_fd, name, 0);
}

/* Which of its times is older is up to nobody: a file's owner may set the one
 * into the future, the other is the kernel's own. */
static bool is_old(const struct stat *st)
{
    time_t since = st->st_mtime < st->st_ctime ? st->st_mtime : st->st_ctime;
    return since + TEMPORARY_MAX_AGE_S < time(NULL);
}

bool oneshot_is_leftover(int reply_fd, const char *name, int unused)
{
    struct stat st;
    (void)unused;
    if (fstatat(reply_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (name[0] == '.')
        return is_old(&st); /* still being made, unless it is old */
    /* Looked at before it is opened: a file could be leased (fcntl(2)), a
     * device could do anything. */
    if (!S_ISFIFO(st.st_mode) || st.st_nlink != 1)
        return true;
    int fd;
    enum err e = open_writer(reply_fd, name, &fd);
    if (e == ERR_OK)
        close(fd);
    return e == ERR_CLOSED || e == ERR_DENIED;
}

enum err oneshot_sweep(int reply_fd, size_t *removed)
{
    return sweep_whole(reply_fd, -1, oneshot_is_leftover, removed);
}
