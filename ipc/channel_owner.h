/*
 * Whom a channel's folder may belong to: what is refused before anything in it
 * is believed. For channel.c alone.
 */
#ifndef IPC_CHANNEL_OWNER_H
#define IPC_CHANNEL_OWNER_H

#include <sys/stat.h>

#include "ipc/channel.h"

/* Where a channel's folder comes from decides whom it may belong to. */
enum channel_place {
    PLACE_NAMED,  /* the user named it: a path, or $MQREDIS_DIR */
    PLACE_SYSTEM, /* /run/mqredis, which only root can fill */
    PLACE_USER    /* /dev/shm/mqredis-UID: its parent is open to all */
};

/* The folder of a user's channels, where the system has none for them. */
void channel_user_parent(char path[64], uid_t user);

/* The folder of the user's channels can be made by anybody before us: to lead
 * us, by a link in it, to a channel that we did not mean. A missing one is no
 * error. ERR_DENIED, ERR_SYS with a line, as all of them. */
MUST_CHECK enum err channel_check_user_parent(uid_t user, struct err_text *why);

/* Refuses a folder in which a stranger could plant or replace entries. */
MUST_CHECK enum err channel_check_folder(const struct channel *ch,
                                         const struct stat *st,
                                         enum channel_place place,
                                         struct err_text *why);

/* A stranger's folder in a place that anybody can write to (/tmp) is a trap as
 * likely as a channel: whoever names the channel does not choose its owner. The
 * same goes for each folder above it: /tmp/x/jobs is who made /tmp/x first. */
MUST_CHECK enum err channel_check_stranger(const struct channel *ch,
                                           const struct stat *st,
                                           struct err_text *why);

#endif
