/*
 * A channel with --group, and the users that it is made for: the manager is a
 * user of its own, members of the group send, and somebody is outside. Takes
 * root, to become them; nobody has to know these users.
 *
 * What can't be started fails the running test, as in support.h.
 */
#ifndef TESTS_SUPPORT_GROUP_H
#define TESTS_SUPPORT_GROUP_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/e2e.h"

/* Each has a group of their own with the same number. */
enum {
    GROUP_KEEPER = 61001,
    GROUP_ALICE,
    GROUP_BOB,
    GROUP_STRANGER,
    GROUP_MEMBERS = 61099 /* the group */
};

/* An unchecked fixture: a folder for channels that every user may pass. */
void group_setup(void);
void group_teardown(void);

/* The next channel's folder is to be a tmpfs with these options (size=4m). False
 * where mounting is not allowed. It is taken down by group_unmount. */
bool group_mount(const char *options);
void group_unmount(void);

/* Whether this process may become other users; says that `suite` is skipped if
 * not. */
bool group_can(const char *suite);

/* In a child of root: becomes a user, a member of the group or not. */
bool group_become(uid_t uid, bool member);

/* Runs fn as a user in a child (0: as root); its status as support_join's. */
int group_as(uid_t uid, bool member, void (*fn)(void));
pid_t group_fork_as(uid_t uid, bool member, void (*fn)(void));

/* Starts a Redis, and a manager for it as user `uid` on a new channel, with
 * --group or not, and further options (split at blanks; NULL: none). Returns
 * once it is ready. One at a time. */
void group_start(uid_t uid, bool with_group, const char *options);

/* The parts of it: valid until the next group_start. `m` has no guardian's
 * pid; e2e_counter, e2e_gauge, e2e_balanced and e2e_log work on it. */
struct e2e_manager *group_manager(void);
struct e2e_redis *group_redis(void);

/* SIGTERM; it must end in good order. */
void group_stop(void);

/* The channel's folder, and a path in a subfolder of it ("." for itself) in
 * static storage. */
const char *group_channel(void);
const char *group_path(const char *folder, const char *name);

#endif
