/*
 * Which channels there are: a walk over the places where channel.h looks for a
 * name, in its order. With $MQREDIS_DIR that folder alone; else /run/mqredis,
 * then /dev/shm/mqredis-UID.
 */
#ifndef IPC_CHANNEL_LIST_H
#define IPC_CHANNEL_LIST_H

#include "ipc/err.h"

/* Calls `found` once for every channel folder that has been in use (it holds a
 * queue, lock or status file). `name` is what channel_open finds it by: its
 * name, or the folder's path if a name would lead to another one; it is valid
 * during the call. Stops at the first answer other than ERR_OK and returns
 * that. Folders that can't be read are passed over. */
MUST_CHECK enum err channel_list(enum err (*found)(void *arg, const char *name),
                                 void *arg);

#endif
