/* A channel with --group, tried as the users it is made for: the manager is a
 * user of its own, two members of the group send, and somebody outside tries
 * all doors. Takes root, to become them. */
#include "tests/e2e.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_group.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

#define TIMEOUT_MS 20000

/* What Alice publishes of herself; nobody could learn it otherwise. */
struct secrets {
    char queue[CHANNEL_QUEUE_NAME_MAX];
    char pipe[ONESHOT_NAME_MAX];
    char payload[ONESHOT_NAME_MAX];
    _Atomic bool shown, go;
};
static struct secrets *alice;

/* ---- Alice: a member with a request under way ---- */

static struct e2e_client client;
static struct e2e_call call;

static void be_alice(void)
{
    char payload[64];
    uint32_t count;
    size_t len = e2e_commands(payload, sizeof(payload), &count, "INCR alice");
    CHILD_REQUIRE(e2e_client_open(&client, group_channel()) == ERR_OK);
    CHILD_REQUIRE(e2e_begin(&client, &call, count, payload, len, TIMEOUT_MS) ==
                  ERR_OK);
    CHILD_REQUIRE(oneshot_payload(&client.pool, &client.ch, &call.slot) ==
                  ERR_OK);
    CHILD_REQUIRE(payload_write(&call.slot.payload, 0, "secret", 6) == ERR_OK);
    struct channel_queue q;
    CHILD_REQUIRE(channel_read_queue(&client.ch, &q) == ERR_OK);
    strcpy(alice->queue, q.name);
    oneshot_name(alice->pipe, client.pool.client, call.slot.slot);
    oneshot_name(alice->payload, client.pool.client, call.slot.slot);
    alice->shown = true;
    CHILD_REQUIRE(UNTIL(alice->go));
    CHILD_REQUIRE(e2e_send(&client, &call) == ERR_OK);
    CHILD_REQUIRE(e2e_finish(&client, &call) == E2E_OK);
    CHILD_REQUIRE(e2e_is(&call, ":1\r\n"));
}

/* Runs fn as a user while Alice waits with pipe and payload made; then she
 * must get her answer all the same. */
static void with_alice(uid_t uid, bool member, void (*fn)(void))
{
    alice = support_shared(sizeof(*alice));
    pid_t pid = group_fork_as(GROUP_ALICE, true, be_alice);
    ck_assert(UNTIL(alice->shown));
    ck_assert_int_eq(group_as(uid, member, fn), 0);
    alice->go = true;
    ck_assert_int_eq(support_join(pid), 0);
}

/* ---- what must not be possible ---- */

/* No way of opening it succeeds, for want of permission. */
static bool shut(const char *path, int flags)
{
    int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EACCES;
}

static bool all_shut(const char *path)
{
    return shut(path, O_RDONLY) && shut(path, O_WRONLY) && shut(path, O_RDWR);
}

static bool unlisted(const char *folder)
{
    DIR *d = opendir(group_path(folder, ""));
    if (d != NULL)
        closedir(d);
    return d == NULL && errno == EACCES;
}

static bool queue_shut(int flags)
{
    mqd_t mq = mq_open(alice->queue, flags | O_NONBLOCK | O_CLOEXEC);
    if (mq != (mqd_t)-1)
        mq_close(mq);
    return mq == (mqd_t)-1 && errno == EACCES;
}

/* Neither moved away nor replaced. */
static bool fixed(const char *path, const char *there)
{
    return unlink(path) < 0 && rename(path, there) < 0;
}

static bool no_handle(void)
{
    struct mqredis_error error;
    struct mqredis *mq = mqredis_open(group_channel(), &error);
    if (mq == NULL)
        return error.status != MQREDIS_OK;
    struct mqredis_reply *reply = mqredis_command(mq, "PING");
    bool failed = reply->type == MQREDIS_FAILURE;
    mqredis_free(reply);
    mqredis_close(mq);
    return failed;
}

static void try_doors_from_outside(void)
{
    char moved[160];
    snprintf(moved, sizeof(moved), "%s/moved", group_channel());
    /* Send: */
    CHILD_REQUIRE(no_handle());
    CHILD_REQUIRE(queue_shut(O_WRONLY));
    CHILD_REQUIRE(shut(group_path(".", "senders"), O_WRONLY));
    /* Read: */
    CHILD_REQUIRE(queue_shut(O_RDONLY) && queue_shut(O_RDWR));
    CHILD_REQUIRE(unlisted(".") && unlisted("reply") && unlisted("payload"));
    CHILD_REQUIRE(all_shut(group_path("reply", alice->pipe)));
    CHILD_REQUIRE(all_shut(group_path("payload", alice->payload)));
    CHILD_REQUIRE(all_shut(group_path(".", "status")));
    CHILD_REQUIRE(all_shut(group_path(".", "queue")));
    CHILD_REQUIRE(all_shut(group_path(".", "lock")));
    /* Fake: */
    CHILD_REQUIRE(all_shut(group_path(".", "receiver")));
    CHILD_REQUIRE(all_shut(group_path(".", "control")));
    CHILD_REQUIRE(fixed(group_path("reply", alice->pipe), moved));
    CHILD_REQUIRE(mkfifo(group_path("reply", "mine"), 0666) < 0);
    CHILD_REQUIRE(mq_unlink(alice->queue) < 0);
    CHILD_REQUIRE(rmdir(group_channel()) < 0 &&
                  rename(group_channel(), moved) < 0);
}

START_TEST(test_outsider_can_do_nothing)
{
    if (!group_can("check_group"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    with_alice(GROUP_STRANGER, false, try_doors_from_outside);
    group_stop();
}
END_TEST

static void try_doors_from_inside(void)
{
    char moved[160];
    snprintf(moved, sizeof(moved), "%s/reply/moved", group_channel());
    /* A member sends... */
    CHILD_REQUIRE(!no_handle());
    CHILD_REQUIRE(!queue_shut(O_WRONLY));
    /* ... and reads nobody's request, answer or argument, nor their names. */
    CHILD_REQUIRE(queue_shut(O_RDONLY) && queue_shut(O_RDWR));
    CHILD_REQUIRE(unlisted(".") && unlisted("reply") && unlisted("payload"));
    CHILD_REQUIRE(shut(group_path("reply", alice->pipe), O_RDONLY));
    CHILD_REQUIRE(all_shut(group_path("payload", alice->payload)));
    /* Writes no answer into another's pipe, nor takes its place. */
    CHILD_REQUIRE(shut(group_path("reply", alice->pipe), O_WRONLY));
    CHILD_REQUIRE(shut(group_path("reply", alice->pipe), O_RDWR));
    CHILD_REQUIRE(fixed(group_path("reply", alice->pipe), moved));
    CHILD_REQUIRE(fixed(group_path("payload", alice->payload), moved));
    CHILD_REQUIRE(mkfifo(group_path("reply", alice->pipe), 0666) < 0);
    CHILD_REQUIRE(fixed(group_path(".", "reply"), moved));
    /* Is no manager: neither alive, nor listening, nor telling its state. */
    CHILD_REQUIRE(shut(group_path(".", "receiver"), O_WRONLY));
    CHILD_REQUIRE(shut(group_path(".", "receiver"), O_RDWR));
    CHILD_REQUIRE(all_shut(group_path(".", "control")));
    CHILD_REQUIRE(shut(group_path(".", "status"), O_WRONLY));
    CHILD_REQUIRE(shut(group_path(".", "senders"), O_RDONLY));
    CHILD_REQUIRE(shut(group_path(".", "queue"), O_WRONLY));
    CHILD_REQUIRE(mkfifo(group_path(".", "new"), 0600) < 0);
    CHILD_REQUIRE(fixed(group_path(".", "receiver"), moved));
    CHILD_REQUIRE(mq_unlink(alice->queue) < 0);
    /* Nor keeps one from starting: whoever may open the lock may hold it. */
    CHILD_REQUIRE(shut(group_path(".", "lock"), O_WRONLY));
    CHILD_REQUIRE(shut(group_path(".", "lock"), O_RDONLY));
}

START_TEST(test_member_can_send_and_no_more)
{
    if (!group_can("check_group"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    with_alice(GROUP_BOB, true, try_doors_from_inside);
    group_stop();
}
END_TEST

/* The manager writes only into a pipe: what else stands under a reply's name
 * in a member's own right leads nowhere. */
static void ask_through_links(void)
{
    static const char *const targets[] = {"../status", "../lock", "../control",
                                          "../senders"};
    char payload[64];
    uint32_t count;
    size_t len = e2e_commands(payload, sizeof(payload), &count, "PING");
    CHILD_REQUIRE(e2e_client_open(&client, group_channel()) == ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        CHILD_REQUIRE(e2e_begin(&client, &call, count, payload, len,
                                TIMEOUT_MS) == ERR_OK);
        char name[ONESHOT_NAME_MAX];
        call.header.slot += 1000 + i;
        oneshot_name(name, call.header.client, call.header.slot);
        CHILD_REQUIRE(symlink(targets[i], group_path("reply", name)) == 0);
        CHILD_REQUIRE(e2e_send(&client, &call) == ERR_OK);
        e2e_forget(&client, &call);
    }
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "PING") == E2E_OK);
    CHILD_REQUIRE(e2e_is(&call, "+PONG\r\n"));
    for (size_t i = 0; i < 4; i++) {
        char name[ONESHOT_NAME_MAX];
        oneshot_name(name, client.pool.client, 1000 + i);
        unlink(group_path("reply", name));
    }
}

START_TEST(test_links_under_a_replys_name)
{
    if (!group_can("check_group"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, ask_through_links), 0);
    with_alice(GROUP_BOB, true, ask_through_links);
    group_stop();
}
END_TEST

/* ---- what must be possible ---- */

#define LARGE (3 * 1024 * 1024)

static void use_library(void)
{
    char key[32];
    snprintf(key, sizeof(key), "large-%u", (unsigned)getuid());
    char *value = malloc(LARGE);
    CHILD_REQUIRE(value != NULL);
    for (size_t i = 0; i < LARGE; i++)
        value[i] = (char)((i * 7919 + getuid()) >> 5);
    struct mqredis *mq = mqredis_open(group_channel(), NULL);
    CHILD_REQUIRE(mq != NULL);
    mqredis_set_timeout(mq, TIMEOUT_MS);
    for (int i = 0; i < 3; i++) {
        struct mqredis_reply *reply = mqredis_set(mq, key, value, LARGE);
        CHILD_REQUIRE(reply->type == MQREDIS_STATUS);
        mqredis_free(reply);
        reply = mqredis_get(mq, key);
        CHILD_REQUIRE(reply->type == MQREDIS_STRING && reply->len == LARGE);
        CHILD_REQUIRE(memcmp(reply->str, value, LARGE) == 0);
        mqredis_free(reply);
    }
    mqredis_close(mq);
    free(value);
}

START_TEST(test_members_and_root_send_large_values)
{
    if (!group_can("check_group"))
        return;
    group_start(_i == 0 ? GROUP_KEEPER : 0, true, NULL);
    ck_assert_int_eq(group_as(GROUP_ALICE, true, use_library), 0);
    ck_assert_int_eq(group_as(GROUP_BOB, true, use_library), 0);
    if (_i == 0)
        ck_assert_int_eq(group_as(GROUP_KEEPER, false, use_library), 0);
    ck_assert_int_eq(group_as(0, false, use_library), 0);
    group_stop();
    /* Nothing of theirs is left. */
    ck_assert_int_ne(access(group_path("reply", ""), F_OK), 0);
}
END_TEST

/* Bob's pipes and payloads, left by a kill, are swept by a manager who is
 * another user. */
static void leave_a_mess(void)
{
    CHILD_REQUIRE(e2e_client_open(&client, group_channel()) == ERR_OK);
    CHILD_REQUIRE(e2e_begin(&client, &call, 1, "", 0, TIMEOUT_MS) == ERR_OK);
    CHILD_REQUIRE(oneshot_payload(&client.pool, &client.ch, &call.slot) ==
                  ERR_OK);
    raise(SIGKILL);
}

START_TEST(test_leavings_of_members_are_swept)
{
    if (!group_can("check_group"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, leave_a_mess), 128 + SIGKILL);
    ck_assert_int_eq(support_count_entries(group_path("reply", "")), 1);
    ck_assert_int_eq(support_count_entries(group_path("payload", "")), 1);
    group_stop();
    ck_assert_int_le(support_count_entries(group_channel()), 0);
}
END_TEST

static void require_no_handle(void)
{
    CHILD_REQUIRE(no_handle());
}

START_TEST(test_without_a_group_there_are_no_members)
{
    if (!group_can("check_group"))
        return;
    group_start(GROUP_KEEPER, false, NULL);
    ck_assert_int_eq(group_as(GROUP_ALICE, true, require_no_handle), 0);
    ck_assert_int_eq(group_as(GROUP_STRANGER, false, require_no_handle), 0);
    ck_assert_int_eq(group_as(GROUP_KEEPER, true, use_library), 0);
    group_stop();
}
END_TEST

START_TEST(test_own_group_is_refused)
{
    struct e2e_output out;
    char group[16];
    snprintf(group, sizeof(group), "%u", (unsigned)getegid());
    const char *const argv[] = {"mqredis-manager", "--group", group, NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 64);
    ck_assert_uint_eq(e2e_lines(out.text), 1);
    ck_assert_ptr_nonnull(strstr(out.text, "own group"));
}
END_TEST

/* ---- the suite ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("group");
    TCase *t = tcase_create("group");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, group_setup, group_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_outsider_can_do_nothing);
    tcase_add_test(t, test_member_can_send_and_no_more);
    tcase_add_test(t, test_links_under_a_replys_name);
    tcase_add_loop_test(t, test_members_and_root_send_large_values, 0, 2);
    tcase_add_test(t, test_leavings_of_members_are_swept);
    tcase_add_test(t, test_without_a_group_there_are_no_members);
    tcase_add_test(t, test_own_group_is_refused);
    return s;
}

int main(void)
{
    return support_run(suite());
}
