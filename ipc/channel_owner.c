/* Whom a channel's folder may belong to. */
#include "ipc/channel_owner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ABOVE_MAX 64 /* folders above a channel's that are looked at */

void channel_user_parent(char path[64], uid_t user)
{
    snprintf(path, 64, "/dev/shm/mqredis-%u", (unsigned)user);
}

enum err channel_check_user_parent(uid_t user, struct err_text *why)
{
    char parent[64];
    struct stat st;
    channel_user_parent(parent, user);
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

enum err channel_check_folder(const struct channel *ch, const struct stat *st,
                              enum channel_place place, struct err_text *why)
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
    channel_user_parent(path, uid);
    return st->st_uid == uid && lstat(path, &named) == 0 &&
           named.st_ino == st->st_ino && named.st_dev == st->st_dev;
}

enum err channel_check_stranger(const struct channel *ch, const struct stat *st,
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
        memcpy(up + 3 * i - 1, "/..", 4); /* the last one fills it */
    }
    return ERR_OK;
}
