/*
 * A channel is its folder. This module finds, creates, checks and removes it,
 * and keeps the small files in it. The kernel objects that live there belong to
 * their own modules (mpsc, oneshot, status).
 *
 *     queue      the POSIX queue's name and the epoch, one line each
 *     lock       flock of the living manager, with its pid
 *     senders, receiver, control    FIFOs
 *     reply/     reply FIFOs of the workers
 *     payload/   bytes of large arguments
 *     status     the manager's state and counters
 *
 * Where: NAME with a slash is the folder itself; else $MQREDIS_DIR/NAME; else
 * /run/mqredis/NAME if it exists and may be entered; else
 * /dev/shm/mqredis-UID/NAME. Manager and workers use the same rule, so that
 * they meet; only a manager of root makes /run/mqredis.
 */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"

#define CHANNEL_NAME_MAX 64
#define CHANNEL_DEFAULT "default"
#define CHANNEL_QUEUE_NAME_MAX 128

#define CHANNEL_NO_GROUP ((gid_t)-1)

/* What the name of a status file begins with that is not shown yet. */
#define CHANNEL_UNSHOWN ".status"

struct channel {
    char name[CHANNEL_NAME_MAX + 1]; /* for messages: the folder's last part */
    char dir[PATH_MAX];
    int dirfd;      /* O_PATH */
    int reply_fd;   /* reply/, O_PATH for workers, readable for the manager */
    int payload_fd; /* payload/, readable; -1 for workers */
    uid_t owner;    /* of the folder */
    uid_t user;     /* the effective one, when it was opened */
    gid_t group;    /* of the folder, CHANNEL_NO_GROUP unless --group */
    bool made;      /* the folder, by channel_create */
};

/* All FIFOs and files of the folder are 0600 for an owner-only channel. With a
 * group: folder 0710, reply/ 3733, reply FIFOs 0620, queue and senders 0620,
 * receiver and status 0640. */

/* Whether `name` is [A-Za-z0-9_-]{1,64}. */
bool channel_name_ok(const char *name);

/* Whether a name, or a path, can be a channel's. Asks nobody. ERR_INVALID with
 * a line. */
MUST_CHECK enum err channel_check_name(const char *name, struct err_text *why);

/* Finds the folder for `name` (NULL: $MQREDIS_CHANNEL is not looked at here:
 * CHANNEL_DEFAULT) without opening it. ERR_INVALID with a line. */
MUST_CHECK enum err channel_locate(const char *name, char dir[PATH_MAX],
                                   struct err_text *why);

/* Opens an existing folder as a worker or a tool does. ERR_ABSENT: there is
 * none; ERR_DENIED: others than its owner can write to it, or it belongs to a
 * stranger in a place where anybody could have made it. Closed by
 * channel_close. Nothing is created. */
MUST_CHECK enum err channel_open(struct channel *ch, const char *name,
                                 struct err_text *why);

/* Makes what is missing of the folder and opens it as its owner does. `group`
 * is CHANNEL_NO_GROUP or the group whose members may send. ERR_DENIED when it
 * belongs to somebody else. A folder that was made for nothing goes again. */
MUST_CHECK enum err channel_create(struct channel *ch, const char *name,
                                   gid_t group, struct err_text *why);

/* Opens an existing folder as its owner does, and changes nothing of it: the
 * group is the one that it has. */
MUST_CHECK enum err channel_join(struct channel *ch, const char *name,
                                 struct err_text *why);

/* Takes back the folder that channel_create made, for a start that came no
 * further and has no lock: not if it was there before, or has become another
 * manager's. */
void channel_unmake(struct channel *ch);

void channel_close(struct channel *ch);

/* Takes the lock of the living manager and writes `pid` into it. Tries for
 * `wait_ms` (a dying manager's guardian holds it for some milliseconds).
 * ERR_ABSENT: the folder is gone, removed by a manager that ended just now.
 * ERR_BUSY: another one lives, *holder is the pid it wrote (0: unreadable).
 * ERR_SYS: a disk that has no room for the pid, too; then no file stays.
 * The lock lasts until the last duplicate of *lock_fd (fork!) is closed. */
MUST_CHECK enum err channel_lock(const struct channel *ch, pid_t pid,
                                 int wait_ms, int *lock_fd, pid_t *holder,
                                 struct err_text *why);

/* Whether somebody holds the lock now. */
bool channel_locked(const struct channel *ch, pid_t *holder);

/* ---- the queue file ---- */

struct channel_queue {
    char name[CHANNEL_QUEUE_NAME_MAX]; /* "/mqredis.default.0123456789abcdef" */
    uint64_t epoch;
};

/* Replaces the file in one step (temporary file, rename). */
MUST_CHECK enum err channel_write_queue(const struct channel *ch,
                                        const struct channel_queue *q,
                                        struct err_text *why);

/* ERR_ABSENT: no file. ERR_PROTO: not such a file. */
MUST_CHECK enum err channel_read_queue(const struct channel *ch,
                                       struct channel_queue *q);

/* ---- FIFOs in the folder ---- */

/* Puts a fresh FIFO of `mode` (the umask does not matter) under `name` in one
 * step, an older one is replaced; opens it O_RDWR | O_NONBLOCK. */
MUST_CHECK enum err channel_make_fifo(const struct channel *ch,
                                      const char *name, mode_t mode, int *fd,
                                      struct err_text *why);

/* Opens a FIFO of the folder with `flags` (O_NONBLOCK, O_NOFOLLOW and O_CLOEXEC
 * are added) and makes sure that it is one. ERR_ABSENT, ERR_CLOSED (ENXIO: for
 * writing, and nobody reads), ERR_DENIED, ERR_SYS. */
MUST_CHECK enum err channel_open_fifo(const struct channel *ch,
                                      const char *name, int flags, int *fd);

/* Opens a FIFO of the folder for reading if somebody holds it open for writing:
 * a reader that comes after the writer's death never sees HUP, so one read
 * asks (it takes a byte, if there is one). ERR_CLOSED: nobody does. Else as
 * channel_open_fifo. */
MUST_CHECK enum err channel_open_life(const struct channel *ch,
                                      const char *name, int *fd);

/* The mode for a FIFO or file which group members use: `with_group`, or 0600.
 */
mode_t channel_mode(const struct channel *ch, mode_t with_group);

/* Gives an open object the channel's group (when it has one) and `mode`. */
MUST_CHECK enum err channel_set_mode(const struct channel *ch, int fd,
                                     mode_t mode);

/* Removes every entry of a channel that has ended, then the folder itself as
 * far as it is ours to remove. Entries that are missing are no error. */
void channel_remove(struct channel *ch);

#endif
