/*
 * The channel's folder: where it is, opening, creating and removing it. Whom it
 * may belong to is channel_owner.c, what lies in it channel_files.c.
 *
 * Everything is reached relative to an open descriptor of the folder, so that a
 * folder that is renamed or replaced meanwhile can't lead us elsewhere.
 */
#include "ipc/channel.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel_owner.h"
#include "ipc/sweep.h"

#define SYSTEM_ROOT "/run/mqredis"

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

static enum err join(char dir[PATH_MAX], struct err_text *why, const char *a,
                     const char *b)
{
    int n = snprintf(dir, PATH_MAX, "%s%s%s", a, b ? "/" : "", b ? b : "");
    if (n < 0 || n >= PATH_MAX)
        return err_say(why, ERR_INVALID, "channel folder: path is too long");
    return ERR_OK;
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
                       enum channel_place *place, struct err_text *why)
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
    channel_user_parent(parent, user);
    *place = PLACE_USER;
    return join(dir, why, parent, name);
}

enum err channel_locate(const char *name, char dir[PATH_MAX],
                        struct err_text *why)
{
    enum channel_place place;
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

static enum err say_no_permission(const struct channel *ch,
                                  struct err_text *why)
{
    return err_say(why, ERR_DENIED,
                   "channel '%s': no permission for folder %s: ask its owner "
                   "for --group",
                   ch->name, ch->dir);
}

static enum err open_folder(struct channel *ch, enum channel_place place,
                            struct err_text *why)
{
    enum err e =
        place == PLACE_USER ? channel_check_user_parent(ch->user, why) : ERR_OK;
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
    e = channel_check_folder(ch, &st, place, why);
    return e == ERR_OK ? channel_check_stranger(ch, &st, why) : e;
}

/* The folder that a name stands for, of one that is there. */
static enum err find_folder(struct channel *ch, const char *name,
                            struct err_text *why)
{
    enum channel_place place;
    channel_blank(ch, name);
    enum err e = locate(name, ch->user, ch->dir, &place, why);
    return e == ERR_OK ? open_folder(ch, place, why) : e;
}

enum err channel_open(struct channel *ch, const char *name,
                      struct err_text *why)
{
    enum err e = find_folder(ch, name, why);
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
static bool make_folder(const char *path, mode_t mode, bool *made)
{
    *made = mkdir(path, mode) == 0;
    return *made || errno == EEXIST;
}

/* Makes the parents that the rule of places lets us make. */
static enum err make_parents(struct channel *ch, const char *name,
                             enum channel_place *place, struct err_text *why)
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
            if (make_folder(dir, 0700, &ch->made)) {
                *place = PLACE_SYSTEM;
                memcpy(ch->dir, dir, sizeof(dir));
                return ERR_OK;
            }
        }
    }
    if (*place == PLACE_USER) {
        char parent[64];
        channel_user_parent(parent, ch->user);
        bool made;
        if (!make_folder(parent, 0700, &made))
            return err_say(why, ERR_SYS, "cannot make folder %s: %s", parent,
                           strerror(errno));
        enum err e = channel_check_user_parent(ch->user, why);
        if (e != ERR_OK)
            return e;
    }
    if (!make_folder(ch->dir, 0700, &ch->made))
        return err_say(why, errno == EACCES ? ERR_DENIED : ERR_SYS,
                       "cannot make channel folder %s: %s", ch->dir,
                       strerror(errno));
    return ERR_OK;
}

static enum err open_shared_folder(const struct channel *ch, const char *name,
                                   int *fd, struct err_text *why)
{
    *fd = openat(ch->dirfd, name,
                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return err_say(why, ERR_SYS, "cannot open %s/%s: %s", ch->dir, name,
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
    enum err e = open_shared_folder(ch, name, fd, why);
    if (e != ERR_OK)
        return e;
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

static enum err check_owner(const struct channel *ch, struct err_text *why)
{
    if (ch->owner == ch->user)
        return ERR_OK;
    return err_say(why, ERR_DENIED,
                   "channel '%s': folder %s belongs to uid %u: choose another "
                   "--channel, or set MQREDIS_DIR",
                   ch->name, ch->dir, (unsigned)ch->owner);
}

/* The group that may send, as the folder shows it. */
static gid_t group_of(const struct channel *ch)
{
    struct stat st;
    return fstat(ch->dirfd, &st) == 0 && (st.st_mode & S_IXGRP)
               ? st.st_gid
               : CHANNEL_NO_GROUP;
}

enum err channel_join(struct channel *ch, const char *name,
                      struct err_text *why)
{
    enum err e = find_folder(ch, name, why);
    if (e == ERR_OK)
        e = check_owner(ch, why);
    if (e == ERR_OK)
        e = open_shared_folder(ch, "reply", &ch->reply_fd, why);
    if (e == ERR_OK)
        e = open_shared_folder(ch, "payload", &ch->payload_fd, why);
    if (e == ERR_OK)
        ch->group = group_of(ch);
    else
        channel_close(ch);
    return e;
}

enum err channel_create(struct channel *ch, const char *name, gid_t group,
                        struct err_text *why)
{
    enum channel_place place;
    channel_blank(ch, name);
    enum err e = locate(name, ch->user, ch->dir, &place, why);
    if (e == ERR_OK)
        e = make_parents(ch, name, &place, why);
    if (e == ERR_OK)
        e = open_folder(ch, place, why);
    if (e == ERR_OK)
        e = check_owner(ch, why);
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
    if (e != ERR_OK) {
        channel_unmake(ch);
        channel_close(ch);
    }
    return e;
}

void channel_unmake(struct channel *ch)
{
    /* Without a lock nobody serves it: who comes now makes it anew. */
    if (!ch->made || (ch->dirfd >= 0 && faccessat(ch->dirfd, "lock", F_OK,
                                                  AT_SYMLINK_NOFOLLOW) == 0))
        return;
    if (ch->dirfd >= 0) {
        unlinkat(ch->dirfd, "reply", AT_REMOVEDIR);
        unlinkat(ch->dirfd, "payload", AT_REMOVEDIR);
    }
    rmdir(ch->dir);
    ch->made = false;
}

/* ---- the end ---- */

static bool anything(int folder, const char *name, int reply_fd)
{
    (void)folder;
    (void)name;
    (void)reply_fd;
    return true;
}

/* Removes the files below a subfolder of ours, and it. */
static void remove_subfolder(const struct channel *ch, const char *name)
{
    int fd =
        openat(ch->dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!sweep_whole(fd, -1, anything, NULL);
    close(fd);
    unlinkat(ch->dirfd, name, AT_REMOVEDIR);
}

static bool is_unshown(int folder, const char *name, int reply_fd)
{
    (void)folder;
    (void)reply_fd;
    return strncmp(name, CHANNEL_UNSHOWN, strlen(CHANNEL_UNSHOWN)) == 0;
}

void channel_remove(struct channel *ch)
{
    static const char *const entries[] = {
        "queue",     ".queue",  "senders",  ".senders", "receiver",
        ".receiver", "control", ".control", "status",
    };
    remove_subfolder(ch, "reply");
    remove_subfolder(ch, "payload");
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
        unlinkat(ch->dirfd, entries[i], 0);
    (void)!sweep_whole(ch->dirfd, -1, is_unshown, NULL);
    /* Last: whoever gets the lock after this looks for the name again. */
    unlinkat(ch->dirfd, "lock", 0);
    /* A folder that systemd or the user made stays if it can't be removed. */
    rmdir(ch->dir);
}
