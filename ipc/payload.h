/*
 * Payloads: the bytes of large arguments, beside the message.
 *
 * A requester writes them into a file of its own in the channel's payload
 * folder (memory, on the usual places of a channel), named as its reply pipe
 * is, and keeps it for the next large request of that slot: a kept object is
 * two to four times faster than a fresh one. The message holds the framing:
 * `@LEN` in place of an argument of LEN bytes, whose bytes follow one another
 * in the file. The manager opens the file, checks whose it is, and moves bytes
 * from it to the socket; it never maps nor parses them, so nothing that happens
 * to the file later can hurt more than this one request.
 *
 * A message whose framing alone is too long for the queue has it at the file's
 * beginning instead (MESSAGE_BODY); the manager copies it out before it reads.
 */
#ifndef IPC_PAYLOAD_H
#define IPC_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/err.h"

/* ---- the requester ---- */

/* What a slot keeps of its file's size between requests. */
#define PAYLOAD_KEPT_MAX (4LL << 20)

/* A file of one slot. fd -1: none. */
struct payload {
    int fd;
    int64_t size; /* of the file */
};

/* Opens the channel's payload folder (O_PATH). ERR_ABSENT: an older manager.
 * ERR_SYS. */
MUST_CHECK enum err payload_folder(const struct channel *ch, int *fd);

/* Makes the slot's file unless it has one. `foreign` as in the pool. ERR_SYS,
 * errno says why (ENOSPC, EMFILE...). */
MUST_CHECK enum err payload_make(struct payload *p, int folder, bool foreign,
                                 uint64_t client, uint64_t slot);

/* Writes at an offset. ERR_SYS. */
MUST_CHECK enum err payload_write(struct payload *p, int64_t offset,
                                  const void *data, size_t len);

/* After the request was answered: gives memory back over PAYLOAD_KEPT_MAX. */
void payload_trim(struct payload *p);

/* Closes the file; with `folder` >= 0 its name goes too. */
void payload_drop(struct payload *p, int folder, uint64_t client,
                  uint64_t slot);

/* ---- the manager ---- */

/* Opens a slot's file for reading. `uid` is the owner of the slot's reply
 * pipe. ERR_DENIED: it is not a plain file of that owner with one link;
 * ERR_INVALID: shorter than `need`; ERR_ABSENT; ERR_LIMIT: out of
 * descriptors; ERR_SYS. */
MUST_CHECK enum err payload_open(int folder, uint64_t client, uint64_t slot,
                                 uid_t uid, int64_t need, int *fd);

/* Removes the file of a dead slot. */
void payload_unlink(int folder, uint64_t client, uint64_t slot);

/* Removes files whose reply pipe has no reader. ERR_SYS. */
MUST_CHECK enum err payload_sweep(int folder, int reply_fd, size_t *removed);

/* The judge of one entry, for a sweep in steps; see sweep.h. */
bool payload_is_leftover(int folder, const char *name, int reply_fd);

#endif
