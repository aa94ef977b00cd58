/* The channel folder: where it is, whom it is believed from, and that nothing
 * is left of it. What lies in it is in check_channel_files and
 * check_channel_lock. */
#include "ipc/channel.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

#define NOBODY 65534

static mode_t mode_of(const char *path)
{
    struct stat st;
    ck_assert_int_eq(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

/* ---- names and places ---- */

START_TEST(test_name_is_checked)
{
    static const char *const good[] = {
        "default", "a", "A-Z_09",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "a b",
        "a.b",
        "a\n",
        "\x1b[31m",
        "caf\xc3\xa9",
        "a/b",
        "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(channel_name_ok(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!channel_name_ok(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(test_locate_follows_the_rule)
{
    char dir[PATH_MAX], want[PATH_MAX];
    struct err_text why = {""};
    ck_assert_int_eq(channel_locate("./x/y", dir, &why), ERR_OK);
    ck_assert_str_eq(dir, "./x/y");
    ck_assert_int_eq(channel_locate("jobs", dir, &why), ERR_OK);
    ck_assert_str_eq(dir, support_path("jobs"));
    ck_assert_int_eq(channel_locate(NULL, dir, &why), ERR_OK);
    ck_assert_str_eq(dir, support_path(CHANNEL_DEFAULT));
    ck_assert_int_eq(unsetenv("MQREDIS_DIR"), 0);
    ck_assert_int_eq(channel_locate("not-in-run-mqredis", dir, &why), ERR_OK);
    snprintf(want, sizeof(want), "/dev/shm/mqredis-%u/not-in-run-mqredis",
             (unsigned)geteuid());
    ck_assert_str_eq(dir, want);
    ck_assert_int_eq(setenv("MQREDIS_DIR", "", 1), 0);
    ck_assert_int_eq(channel_locate("not-in-run-mqredis", dir, &why), ERR_OK);
    ck_assert_str_eq(dir, want);
    ck_assert_str_eq(why.text, "");
}
END_TEST

START_TEST(test_locate_refuses_with_a_line)
{
    char dir[PATH_MAX];
    struct err_text why = {""};
    ck_assert_int_eq(channel_locate("a b", dir, &why), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why.text, "'a b'"));
    ck_assert_ptr_nonnull(strstr(why.text, "1 to 64"));
    char longest[PATH_MAX + 2];
    memset(longest, '/', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    ck_assert_int_eq(channel_locate(longest, dir, &why), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why.text, "too long"));
}
END_TEST

/* Channel names go to terminals: what a folder is called must do no harm. */
START_TEST(test_name_of_a_path_is_printable)
{
    static const struct {
        const char *path, *name;
    } cases[] = {{"/x/jobs", "jobs"},
                 {"/x/jobs//", "jobs"},
                 {"/", ""},
                 {"./a\x1b[2J b", "a?[2J?b"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct channel ch;
        struct err_text why;
        enum err e = channel_open(&ch, cases[i].path, &why);
        ck_assert_int_ne(e, ERR_OK);
        ck_assert_str_eq(ch.name, cases[i].name);
    }
}
END_TEST

/* ---- making and opening ---- */

START_TEST(test_create_sets_modes_whatever_the_umask)
{
    static const mode_t masks[] = {0, 077, 0777};
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        struct channel ch;
        /* Not 0777 for the folder itself: only root could enter it then. */
        umask(masks[i] == 0777 ? 0277 : masks[i]);
        support_channel(&ch, CHANNEL_NO_GROUP);
        ck_assert_uint_eq(mode_of(ch.dir), 0700);
        char reply[PATH_MAX + 8];
        snprintf(reply, sizeof(reply), "%s/reply", ch.dir);
        ck_assert_uint_eq(mode_of(reply) & 0777, 0700);
        channel_remove(&ch);
        channel_close(&ch);
    }
    umask(022);
}
END_TEST

START_TEST(test_group_channel_modes)
{
    struct channel ch;
    support_channel(&ch, getegid());
    ck_assert_uint_eq(mode_of(ch.dir), 0710);
    char reply[PATH_MAX + 8];
    snprintf(reply, sizeof(reply), "%s/reply", ch.dir);
    ck_assert_uint_eq(mode_of(reply), 03733);
    struct stat st;
    ck_assert_int_eq(stat(reply, &st), 0);
    ck_assert_uint_eq(st.st_gid, getegid());
    ck_assert_uint_eq(channel_mode(&ch, 0620), 0620);
    channel_remove(&ch);
    channel_close(&ch);
    /* Without the group again, nothing stays open to its members. */
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_uint_eq(mode_of(ch.dir), 0700);
    ck_assert_uint_eq(channel_mode(&ch, 0620), 0600);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

/* Where new files inherit their folder's group, reply/ must still belong to
 * the manager's own group, or members could write each other's pipes. */
START_TEST(test_reply_folder_has_the_managers_group)
{
    const char *parent = support_path("setgid");
    if (mkdir(parent, 0700) < 0 || chown(parent, (uid_t)-1, NOBODY) < 0 ||
        chmod(parent, 02700) < 0) {
        support_skip("reply_folder_has_the_managers_group",
                     "may not give a folder to another group");
        return;
    }
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/jobs", parent);
    /* A folder that somebody prepared. */
    ck_assert_int_eq(mkdir(path, 0700), 0);
    char reply[PATH_MAX + 32];
    snprintf(reply, sizeof(reply), "%s/reply", path);
    ck_assert_int_eq(mkdir(reply, 0700), 0);
    struct stat st;
    ck_assert_int_eq(stat(reply, &st), 0);
    ck_assert_uint_eq(st.st_gid, NOBODY);
    struct channel ch;
    struct err_text why = {""};
    ck_assert_msg(channel_create(&ch, path, NOBODY, &why) == ERR_OK, "%s",
                  why.text);
    ck_assert_int_eq(stat(reply, &st), 0);
    ck_assert_uint_eq(st.st_gid, getegid());
    channel_close(&ch);
}
END_TEST

START_TEST(test_create_twice_and_open)
{
    struct channel a, b, c;
    struct err_text why = {""};
    support_channel(&a, CHANNEL_NO_GROUP);
    const char *name = strrchr(a.dir, '/') + 1;
    ck_assert_int_eq(channel_create(&b, name, CHANNEL_NO_GROUP, &why), ERR_OK);
    ck_assert_int_eq(channel_open(&c, name, &why), ERR_OK);
    ck_assert_str_eq(c.name, name);
    ck_assert_uint_eq(c.owner, geteuid());
    channel_close(&a);
    channel_close(&a); /* harmless */
    channel_remove(&b);
    channel_close(&b);
    channel_close(&c);
}
END_TEST

START_TEST(test_open_absent_creates_nothing)
{
    struct channel ch;
    struct err_text why = {""};
    const char *name = support_name();
    int fds = support_count_fds();
    ck_assert_int_eq(channel_open(&ch, name, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, name));
    ck_assert_int_eq(access(support_path(name), F_OK), -1);
    /* A folder that is no channel. */
    ck_assert_int_eq(mkdir(support_path(name), 0700), 0);
    ck_assert_int_eq(channel_open(&ch, name, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, "reply"));
    ck_assert_int_eq(support_count_fds(), fds);
}
END_TEST

START_TEST(test_refuses_a_folder_that_others_can_write)
{
    static const mode_t modes[] = {0720, 0702, 0777, 01777};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct channel ch;
        struct err_text why = {""};
        support_channel(&ch, CHANNEL_NO_GROUP);
        channel_close(&ch);
        ck_assert_int_eq(chmod(ch.dir, modes[i]), 0);
        struct channel again;
        ck_assert_int_eq(channel_open(&again, ch.dir, &why), ERR_DENIED);
        ck_assert_ptr_nonnull(strstr(why.text, "chmod go-w"));
        ck_assert_int_eq(channel_create(&again, ch.dir, CHANNEL_NO_GROUP, &why),
                         ERR_DENIED);
        ck_assert_int_eq(again.dirfd, -1);
    }
}
END_TEST

START_TEST(test_refuses_a_file_in_the_folders_place)
{
    struct channel ch;
    struct err_text why = {""};
    const char *name = support_name();
    int fd = open(support_path(name), O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_ne(channel_open(&ch, name, &why), ERR_OK);
    ck_assert_str_ne(why.text, "");
    why.text[0] = '\0';
    ck_assert_int_ne(channel_create(&ch, name, CHANNEL_NO_GROUP, &why), ERR_OK);
    ck_assert_str_ne(why.text, "");
}
END_TEST

/* ---- other users ---- */

static void stranger(void *arg)
{
    const struct channel *ch = arg;
    struct channel mine;
    struct err_text why = {""};
    if (!support_become(NOBODY, NOBODY))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(channel_open(&mine, ch->dir, &why) == ERR_DENIED);
    CHILD_REQUIRE(strstr(why.text, "--group") != NULL);
    CHILD_REQUIRE(channel_create(&mine, ch->dir, CHANNEL_NO_GROUP, &why) ==
                  ERR_DENIED);
    CHILD_REQUIRE(strstr(why.text, "belongs to uid") != NULL);
    CHILD_REQUIRE(mine.dirfd == -1);
}

/* The scratch folder stands below ones that other users can't pass: reach the
 * channel from the working directory. */
static void reach_relatively(struct channel *ch)
{
    ck_assert_int_eq(chdir(support_scratch()), 0);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "./%s", strrchr(ch->dir, '/') + 1);
    memcpy(ch->dir, path, sizeof(path));
}

START_TEST(test_stranger_is_refused)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    reach_relatively(&ch);
    int rc = support_join(support_fork(stranger, &ch));
    if (rc == CHILD_CANNOT)
        support_skip("stranger_is_refused", "cannot become another user");
    else
        ck_assert_int_eq(rc, 0);
    channel_close(&ch);
}
END_TEST

static void member(void *arg)
{
    const struct channel *ch = arg;
    struct channel mine;
    struct err_text why = {""};
    if (!support_become(NOBODY, NOBODY))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(channel_open(&mine, ch->dir, &why) == ERR_OK);
    CHILD_REQUIRE(mine.owner == ch->owner);
    /* Enters, but can neither list nor add nor remove. */
    CHILD_REQUIRE(open(ch->dir, O_RDONLY | O_DIRECTORY) < 0);
    CHILD_REQUIRE(mkfifoat(mine.dirfd, "x", 0600) < 0 && errno == EACCES);
    CHILD_REQUIRE(unlinkat(mine.dirfd, "queue", 0) < 0 && errno == EACCES);
    CHILD_REQUIRE(openat(mine.dirfd, "reply", O_RDONLY | O_DIRECTORY) < 0);
    struct channel_queue q;
    CHILD_REQUIRE(channel_read_queue(&mine, &q) == ERR_OK);
    int fd;
    CHILD_REQUIRE(channel_open_fifo(&mine, "receiver", O_WRONLY, &fd) ==
                  ERR_DENIED);
    CHILD_REQUIRE(channel_open_fifo(&mine, "receiver", O_RDONLY, &fd) ==
                  ERR_OK);
    CHILD_REQUIRE(channel_open_fifo(&mine, "control", O_WRONLY, &fd) ==
                  ERR_DENIED);
}

START_TEST(test_member_of_the_group_may_enter)
{
    struct channel ch;
    struct err_text why = {""};
    if (chown(support_scratch(), (uid_t)-1, NOBODY) < 0) {
        support_skip("member_of_the_group_may_enter", "only root can try");
        return;
    }
    support_channel(&ch, NOBODY);
    int receiver, control;
    struct channel_queue q = {.name = "/mqredis.none", .epoch = 7};
    ck_assert_int_eq(channel_write_queue(&ch, &q, &why), ERR_OK);
    ck_assert_int_eq(channel_make_fifo(&ch, "receiver", channel_mode(&ch, 0640),
                                       &receiver, &why),
                     ERR_OK);
    ck_assert_int_eq(channel_make_fifo(&ch, "control", 0600, &control, &why),
                     ERR_OK);
    reach_relatively(&ch);
    int rc = support_join(support_fork(member, &ch));
    if (rc == CHILD_CANNOT)
        support_skip("member_of_the_group_may_enter", "cannot become one");
    else
        ck_assert_int_eq(rc, 0);
    channel_remove(&ch);
    channel_close(&ch);
    close(receiver);
    close(control);
}
END_TEST

/* In /dev/shm anybody can make the folder that our channels would be in. */
static void victim(void *arg)
{
    const uid_t *uid = arg;
    struct channel ch;
    struct err_text why = {""};
    if (!support_become(*uid, (gid_t)*uid))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(unsetenv("MQREDIS_DIR") == 0);
    CHILD_REQUIRE(channel_create(&ch, "squatted", CHANNEL_NO_GROUP, &why) ==
                  ERR_DENIED);
    CHILD_REQUIRE(strstr(why.text, "somebody else") != NULL);
    why.text[0] = '\0';
    CHILD_REQUIRE(channel_open(&ch, "squatted", &why) == ERR_DENIED);
    CHILD_REQUIRE(why.text[0] != '\0');
}

START_TEST(test_squatted_runtime_folder_is_refused)
{
    /* The bait is even a folder of the victim's, reached through a link. */
    uid_t uid = 200000 + (uid_t)getpid();
    char parent[64], bait[96];
    snprintf(parent, sizeof(parent), "/dev/shm/mqredis-%u", (unsigned)uid);
    snprintf(bait, sizeof(bait), "%s/squatted", parent);
    char real[] = "/dev/shm/mqredis-test-XXXXXX", reply[64];
    ck_assert_ptr_nonnull(mkdtemp(real));
    snprintf(reply, sizeof(reply), "%s/reply", real);
    ck_assert_int_eq(mkdir(reply, 0700), 0);
    ck_assert_int_eq(mkdir(parent, 0755), 0);
    ck_assert_int_eq(symlink(real, bait), 0);
    int rc = CHILD_CANNOT;
    if (chown(real, uid, (gid_t)-1) == 0 && chown(reply, uid, (gid_t)-1) == 0)
        rc = support_join(support_fork(victim, &uid));
    support_remove(parent);
    support_remove(real);
    if (rc == CHILD_CANNOT)
        support_skip("squatted_runtime_folder", "cannot become another user");
    else
        ck_assert_int_eq(rc, 0);
}
END_TEST

/* ---- the end ---- */

START_TEST(test_remove_leaves_nothing)
{
    static const char *const names[] = {
        "queue",  ".queue",  "senders",   "lock",    "receiver", "control",
        "status", ".status", ".receiver", "reply/a", "reply/.b", "payload/c"};
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        support_write_file(ch.dirfd, names[i], "x");
    ck_assert_int_eq(mkdirat(ch.dirfd, "reply/folder", 0700), 0);
    channel_remove(&ch);
    ck_assert_int_eq(access(ch.dir, F_OK), -1);
    channel_remove(&ch); /* harmless */
    channel_close(&ch);
    /* What is not ours stays, and the folder with it. */
    support_channel(&ch, CHANNEL_NO_GROUP);
    support_write_file(ch.dirfd, "notes", "x");
    channel_remove(&ch);
    ck_assert_int_eq(support_count_entries(ch.dir), 1);
    channel_close(&ch);
}
END_TEST

/* reply/ exchanged for a link: the files it leads to are not ours to remove. */
START_TEST(test_remove_follows_no_link)
{
    struct channel ch, other;
    support_channel(&ch, CHANNEL_NO_GROUP);
    support_channel(&other, CHANNEL_NO_GROUP);
    support_write_file(other.dirfd, "queue", "x");
    ck_assert_int_eq(unlinkat(ch.dirfd, "reply", AT_REMOVEDIR), 0);
    ck_assert_int_eq(symlinkat(other.dir, ch.dirfd, "reply"), 0);
    channel_remove(&ch);
    ck_assert_int_eq(faccessat(other.dirfd, "queue", F_OK, 0), 0);
    channel_close(&ch);
    channel_close(&other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("channel");
    TCase *t = support_case(s, "folder", 60);
    tcase_add_test(t, test_name_is_checked);
    tcase_add_test(t, test_locate_follows_the_rule);
    tcase_add_test(t, test_locate_refuses_with_a_line);
    tcase_add_test(t, test_name_of_a_path_is_printable);
    tcase_add_test(t, test_create_sets_modes_whatever_the_umask);
    tcase_add_test(t, test_group_channel_modes);
    tcase_add_test(t, test_reply_folder_has_the_managers_group);
    tcase_add_test(t, test_create_twice_and_open);
    tcase_add_test(t, test_open_absent_creates_nothing);
    tcase_add_test(t, test_refuses_a_folder_that_others_can_write);
    tcase_add_test(t, test_refuses_a_file_in_the_folders_place);
    tcase_add_test(t, test_stranger_is_refused);
    tcase_add_test(t, test_member_of_the_group_may_enter);
    tcase_add_test(t, test_squatted_runtime_folder_is_refused);
    tcase_add_test(t, test_remove_leaves_nothing);
    tcase_add_test(t, test_remove_follows_no_link);
    return support_run(s);
}
