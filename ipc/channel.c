/*
 * The channel's folder.
 *
 * Everything is reached relative to an open descriptor of the folder, so that a
 * folder that is renamed or replaced meanwhile can't lead us elsewhere, and
 * what is created appears under its name finished (made under a temporary
 * name, renamed).
 */
#include "ipc/channel.h"

#include <ctype.h>
#include <dirent.h>
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
#include "ipc/random.h"

#define SYSTEM_ROOT "/run/mqredis"
#define ABOVE_MAX 64 /* folders above a channel's that are looked at */

bool channel_name_ok(const char *name)
{
    size_t n = 0;
    for (; name[n] != '\0'; n++) {
        char c = name[n];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!ok || n == CHANNEL_NAME_MAX)
            return false;
    }
    return n > 0;
}

/* ---- where it is ---- */

/* Where a channel's folder comes from decides whom it may belong to. */
enum place {
    PLACE_NAMED,  /* the user named it: a path, or $MQREDIS_DIR */
    PLACE_SYSTEM, /* /run/mqredis, which only root can fill */
    PLACE_USER    /* /dev/shm/mqredis-UID: its parent is open to all */
};

static enum err join(char dir[PATH_MAX], struct err_text *why, const char *a,
                     const char *b)
{
    int n = snprintf(dir, PATH_MAX, "%s%s%s", a, b ? "/" : "", b ? b : "");
    if (n < 0 || n >= PATH_MAX)
        return err_say(why, ERR_INVALID, "channel folder: path is too long");
    return ERR_OK;
}

static void user_parent(char path[64], uid_t user)
{
    snprintf(path, 64, "/dev/shm/mqredis-%u", (unsigned)user);
}

enum err channel_check_name(const char *name, struct err_text *why)
{
    char dir[PATH_MAX];
    if (strchr(name, '/') != NULL)
        return join(dir, why, name, NULL);
    if (channel_name_ok(name))
        return ERR_OK;
    return err_say(why, ERR_INVALID,
                   "channel name '%.80s': use 1 to 64 of A-Z a-z 0-9 _ -, "
                   "or a path with a slash",
                   name);
}

static enum err locate(const char *name, uid_t user, char dir[PATH_MAX],
                       enum place *place, struct err_text *why)
{
    if (name == NULL)
        name = CHANNEL_DEFAULT;
    if (strchr(name, '/') != NULL) {
        *place = PLACE_NAMED;
        return join(dir, why, name, NULL);
    }
    enum err bad = channel_check_name(name, why);
    if (bad != ERR_OK)
        return bad;
    const char *root = secure_getenv("MQREDIS_DIR");
    if (root != NULL && root[0] != '\0') {
        *place = PLACE_NAMED;
        return join(dir, why, root, name);
    }
    enum err e = join(dir, why, SYSTEM_ROOT, name);
    if (e != ERR_OK)
        return e;
    if (access(dir, X_OK) == 0) {
        *place = PLACE_SYSTEM;
        return ERR_OK;
    }
    char parent[64];
    user_parent(parent, user);
    *place = PLACE_USER;
    return join(dir, why, parent, name);
}

enum err channel_locate(const char *name, char dir[PATH_MAX],
                        struct err_text *why)
{
    enum place place;
    return locate(name, geteuid(), dir, &place, why);
}

static void set_name(struct channel *ch, const char *name)
{
    const char *base = name ? name : CHANNEL_DEFAULT;
    size_t len = strlen(base);
    while (len > 1 && base[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && base[start - 1] != '/')
        start--;
    size_t n = len - start;
    if (n > CHANNEL_NAME_MAX)
        n = CHANNEL_NAME_MAX;
    for (size_t i = 0; i < n; i++) {
        /* Shown on terminals: a folder's name may hold anything. */
        char c = base[start + i];
        ch->name[i] = isgraph((unsigned char)c) ? c : '?';
    }
    ch->name[n] = '\0';
}

/* ---- opening ---- */

static void channel_blank(struct channel *ch, const char *name)
{
    memset(ch, 0, sizeof(*ch));
    ch->dirfd = -1;
    ch->reply_fd = -1;
    ch->payload_fd = -1;
    ch->group = CHANNEL_NO_GROUP;
    ch->user = geteuid();
    set_name(ch, name);
}

/* Refuses a folder in which a stranger could plant or replace entries. */
static enum err check_folder(const struct channel *ch, const struct stat *st,
                             enum place place, struct err_text *why)
{
    if (!S_ISDIR(st->st_mode))
        return err_say(why, ERR_DENIED, "channel '%s': %s is not a folder",
                       ch->name, ch->dir);
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return err_say(why, ERR_DENIED,
                       "channel '%s': folder %s can be written by others "
                       "(mode %04o): chmod go-w it, or use another one",
                       ch->name, ch->dir, (unsigned)st->st_mode & 07777);
    if (place == PLACE_USER && st->st_uid != ch->user)
        return err_say(why, ERR_DENIED,
                       "channel '%s': folder %s belongs to uid %u, not to you",
                       ch->name, ch->dir, (unsigned)st->st_uid);
    return ERR_OK;
}

/* Whether this is the folder of that user's channels, whose name says so. */
static bool is_user_parent(const struct stat *st, uid_t uid)
{
    char path[64];
    struct stat named;
    user_parent(path, uid);
    return st->st_uid == uid && lstat(path, &named) == 0 &&
           named.st_ino == st->st_ino && named.st_dev == st->st_dev;
}

/* A stranger's folder in a place that anybody can write to (/tmp) is a trap as
 * likely as a channel: whoever names the channel does not choose its owner. The
 * same goes for each folder above it: /tmp/x/jobs is who made /tmp/x first. */
static enum err check_stranger(const struct channel *ch, const struct stat *st,
                               struct err_text *why)
{
    struct stat below = *st, above;
    char up[3 * ABOVE_MAX] = "..";
    if (st->st_uid == 0 || st->st_uid == ch->user)
        return ERR_OK;
    for (int i = 1; i < ABOVE_MAX; i++) {
        /* What we may not look at, its owner keeps to himself. */
        if (fstatat(ch->dirfd, up, &above, 0) < 0)
            return ERR_OK;
        if ((above.st_mode & (S_IWGRP | S_IWOTH)) &&
            !is_user_parent(&below, st->st_uid))
            return err_say(why, ERR_DENIED,
                           "channel '%s': folder %s belongs to uid %u, and "
                           "anybody could have made it there: its owner should "
                           "move it to a place of its own, such as "
                           "/run/mqredis",
                           ch->name, ch->dir, (unsigned)st->st_uid);
        /* Whom we trust would not let strangers make it. */
        if (above.st_uid == 0 || above.st_uid == ch->user)
            return ERR_OK;
        below = above;
        /* NOLINTNEXTLINE(*.strcpy): there is room for ABOVE_MAX of them. */
        strcat(up, "/..");
    }
    return ERR_OK;
}

static enum err say_no_permission(const struct channel *ch,
                                  struct err_text *why)
{
    return err_say(why, ERR_DENIED,
                   "channel '%s': no permission for folder %s: ask its owner "
                   "for --group",
                   ch->name, ch->dir);
}

/* The folder of the user's channels can be made by anybody before us: to lead
 * us, by a link in it, to a channel that we did not mean. */
static enum err check_user_parent(uid_t user, struct err_text *why)
{
    char parent[64];
    struct stat st;
    user_parent(parent, user);
    if (lstat(parent, &st) < 0) {
        if (errno == ENOENT)
            return ERR_OK; /* nor is there a channel in it */
        return err_say(why, ERR_SYS, "cannot look at folder %s: %s", parent,
                       strerror(errno));
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != user ||
        (st.st_mode & (S_IWGRP | S_IWOTH)))
        return err_say(why, ERR_DENIED,
                       "folder %s was made by somebody else (uid %u, mode "
                       "%04o): remove it, or set MQREDIS_DIR",
                       parent, (unsigned)st.st_uid,
                       (unsigned)st.st_mode & 07777);
    return ERR_OK;
}

static enum err open_folder(struct channel *ch, enum place place,
                            struct err_text *why)
{
    enum err e =
        place == PLACE_USER ? check_user_parent(ch->user, why) : ERR_OK;
    if (e != ERR_OK)
        return e;
    ch->dirfd = open(ch->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ch->dirfd < 0) {
        if (errno == ENOENT)
            return err_say(why, ERR_ABSENT,
                           "no manager serves channel '%s' (no folder %s): "
                           "start one with mqredis-manager --channel %s",
                           ch->name, ch->dir, ch->name);
        if (errno == EACCES)
            return say_no_permission(ch, why);
        return err_say(why, ERR_SYS, "channel '%s': cannot open folder %s: %s",
                       ch->name, ch->dir, strerror(errno));
    }
    struct stat st;
    if (fstat(ch->dirfd, &st) < 0)
        return err_say(why, ERR_SYS, "channel '%s': cannot stat %s: %s",
                       ch->name, ch->dir, strerror(errno));
    ch->owner = st.st_uid;
    e = check_folder(ch, &st, place, why);
    return e == ERR_OK ? check_stranger(ch, &st, why) : e;
}

enum err channel_open(struct channel *ch, const char *name,
                      struct err_text *why)
{
    enum place place;
    channel_blank(ch, name);
    enum err e = locate(name, ch->user, ch->dir, &place, why);
    if (e == ERR_OK)
        e = open_folder(ch, place, why);
    if (e == ERR_OK) {
        ch->reply_fd =
            openat(ch->dirfd, "reply", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (ch->reply_fd < 0 && errno == ENOENT)
            e = err_say(why, ERR_ABSENT, "channel '%s': no reply folder in %s",
                        ch->name, ch->dir);
        else if (ch->reply_fd < 0 && errno == EACCES)
            e = say_no_permission(ch, why);
        else if (ch->reply_fd < 0)
            e = err_say(why, ERR_SYS, "channel '%s': cannot open %s/reply: %s",
                        ch->name, ch->dir, strerror(errno));
    }
    if (e != ERR_OK)
        channel_close(ch);
    return e;
}

void channel_close(struct channel *ch)
{
    if (ch->payload_fd >= 0)
        close(ch->payload_fd);
    if (ch->reply_fd >= 0)
        close(ch->reply_fd);
    if (ch->dirfd >= 0)
        close(ch->dirfd);
    ch->reply_fd = -1;
    ch->payload_fd = -1;
    ch->dirfd = -1;
}

/* ---- creating ---- */

/* mkdir that takes an existing folder for granted. */
static bool make_folder(const char *path, mode_t mode)
{
    if (mkdir(path, mode) == 0)
        return true;
    return errno == EEXIST;
}

/* Makes the parents that the rule of places lets us make. */
static enum err make_parents(struct channel *ch, const char *name,
                             enum place *place, struct err_text *why)
{
    if (*place == PLACE_USER && ch->user == 0) {
        /* Root's channels live under /run, if /run can be written at all (not
         * in a user namespace). */
        bool made = mkdir(SYSTEM_ROOT, 0755) == 0;
        /* Others pass through it to channels with a group: no umask here. */
        if (made ? chmod(SYSTEM_ROOT, 0755) == 0 : errno == EEXIST) {
            char dir[PATH_MAX];
            const char *base = name ? name : CHANNEL_DEFAULT;
            enum err e = join(dir, why, SYSTEM_ROOT, base);
            if (e != ERR_OK)
                return e;
            if (make_folder(dir, 0700)) {
                *place = PLACE_SYSTEM;
                memcpy(ch->dir, dir, sizeof(dir));
                return ERR_OK;
            }
        }
    }
    if (*place == PLACE_USER) {
        char parent[64];
        user_parent(parent, ch->user);
        if (!make_folder(parent, 0700))
            return err_say(why, ERR_SYS, "cannot make folder %s: %s", parent,
                           strerror(errno));
        enum err e = check_user_parent(ch->user, why);
        if (e != ERR_OK)
            return e;
    }
    if (!make_folder(ch->dir, 0700))
        return err_say(why, errno == EACCES ? ERR_DENIED : ERR_SYS,
                       "cannot make channel folder %s: %s", ch->dir,
                       strerror(errno));
    return ERR_OK;
}

/* A folder in which every sender makes files for the manager alone. */
static enum err make_shared_folder(const struct channel *ch, const char *name,
                                   int *fd, struct err_text *why)
{
    if (mkdirat(ch->dirfd, name, 0700) < 0 && errno != EEXIST)
        return err_say(why, ERR_SYS, "cannot make %s/%s: %s", ch->dir, name,
                       strerror(errno));
    *fd = openat(ch->dirfd, name,
                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return err_say(why, ERR_SYS, "cannot open %s/%s: %s", ch->dir, name,
                       strerror(errno));
    /* setgid: what another user (a member, root) makes belongs to the
     * manager's own group, so that the manager may use it; sticky: a member
     * can't remove another's; no reading: nor see its name. The folder may
     * have inherited another group from the one above it. */
    if (fchown(*fd, (uid_t)-1, getegid()) < 0 ||
        fchmod(*fd, ch->group == CHANNEL_NO_GROUP ? 02700 : 03733) < 0)
        return err_say(why, ERR_SYS, "cannot set the mode of %s/%s: %s",
                       ch->dir, name, strerror(errno));
    return ERR_OK;
}

enum err channel_create(struct channel *ch, const char *name, gid_t group,
                        struct err_text *why)
{
    enum place place;
    channel_blank(ch, name);
    enum err e = locate(name, ch->user, ch->dir, &place, why);
    if (e == ERR_OK)
        e = make_parents(ch, name, &place, why);
    if (e == ERR_OK)
        e = open_folder(ch, place, why);
    if (e == ERR_OK && ch->owner != ch->user)
        e = err_say(why, ERR_DENIED,
                    "channel '%s': folder %s belongs to uid %u: choose another "
                    "--channel, or set MQREDIS_DIR",
                    ch->name, ch->dir, (unsigned)ch->owner);
    if (e == ERR_OK) {
        ch->group = group;
        if ((group != CHANNEL_NO_GROUP && chown(ch->dir, (uid_t)-1, group)) ||
            chmod(ch->dir, group == CHANNEL_NO_GROUP ? 0700 : 0710) < 0)
            e = err_say(why, errno == EPERM ? ERR_DENIED : ERR_SYS,
                        "cannot give %s to group %ld: %s", ch->dir, (long)group,
                        strerror(errno));
    }
    if (e == ERR_OK)
        e = make_shared_folder(ch, "reply", &ch->reply_fd, why);
    if (e == ERR_OK)
        e = make_shared_folder(ch, "payload", &ch->payload_fd, why);
    if (e != ERR_OK)
        channel_close(ch);
    return e;
}

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
    if (written >= 0 && written != n)
        errno = ENOSPC; /* why else would a file take a part of 10 bytes? */
    return written == n ? ERR_OK : ERR_SYS;
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

/* ---- the end ---- */

/* Removes the files below a subfolder of ours, and it. */
static void remove_subfolder(const struct channel *ch, const char *name)
{
    int fd = openat(ch->dirfd, name,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            if (unlinkat(dirfd(dir), d->d_name, 0) < 0 && errno == EISDIR)
                unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
    closedir(dir);
    unlinkat(ch->dirfd, name, AT_REMOVEDIR);
}

void channel_remove(struct channel *ch)
{
    static const char *const entries[] = {
        "queue",     ".queue",  "senders",  ".senders", "receiver",
        ".receiver", "control", ".control", "status",   ".status",
    };
    remove_subfolder(ch, "reply");
    remove_subfolder(ch, "payload");
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
        unlinkat(ch->dirfd, entries[i], 0);
    /* Last: whoever gets the lock after this looks for the name again. */
    unlinkat(ch->dirfd, "lock", 0);
    /* A folder that systemd or the user made stays if it can't be removed. */
    rmdir(ch->dir);
}
