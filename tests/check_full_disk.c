/* A manager that finds no room for its channel's files says so, and leaves
 * nothing of what it made: wherever between the first folder and the last file
 * the disk is full. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/status.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define PAGE 4096

/* The state alone has more pages: so many never do. */
#define PAGES ((int)(sizeof(struct status) / PAGE))

/* The root, three folders, the lock, two FIFOs, the queue's file, the state:
 * with one less there is no start. */
#define INODES 9

static struct e2e_output out;
static char disk[200], folder[220], queues[200];

static bool mount_on(const char *path, const char *type, const char *options)
{
    return (mkdir(path, 0700) == 0 || errno == EEXIST) &&
           mount(type, path, type, 0, options) == 0;
}

/* A disk of a test's own, and all queues. False: not to be had here. */
static bool mount_disk(const char *options)
{
    snprintf(queues, sizeof(queues), "%s", support_path("queues"));
    snprintf(disk, sizeof(disk), "%s", support_path("disk"));
    snprintf(folder, sizeof(folder), "%s/channel", disk);
    if (unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount_on(queues, "mqueue", NULL) && mount_on(disk, "tmpfs", options))
        return true;
    support_skip("full disk", strerror(errno));
    return false;
}

static void assert_nothing_stays(const char *what, int n)
{
    const char *const argv[] = {"mqredis-manager",
                                "--channel",
                                folder,
                                "--msgsize",
                                "1024",
                                "--redis",
                                "unix:///nowhere/at/all",
                                NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == EX_UNAVAILABLE && e2e_lines(out.text) == 1 &&
                      strstr(out.text, strerror(ENOSPC)) != NULL &&
                      strstr(out.text, folder) != NULL,
                  "%d %s: %d %s", n, what, out.status, out.text);
    ck_assert_msg(access(folder, F_OK) < 0, "%d %s: %s stays, of: %s", n, what,
                  folder, out.text);
    ck_assert_int_eq(support_count_entries(queues), 0);
}

START_TEST(test_no_room_for_bytes)
{
    if (!mount_disk("size=1m"))
        return;
    char path[240], zeros[PAGE] = {0};
    snprintf(path, sizeof(path), "%s/filler", disk);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    off_t size = 0;
    while (write(fd, zeros, PAGE) == PAGE)
        size += PAGE;
    for (int left = 0; left <= PAGES; left++) {
        ck_assert_int_eq(ftruncate(fd, size - left * PAGE), 0);
        assert_nothing_stays("pages are left", left);
    }
    close(fd);
}
END_TEST

START_TEST(test_no_room_for_names)
{
    if (!mount_disk("size=1m"))
        return;
    for (int inodes = 1; inodes < INODES; inodes++) {
        char options[32];
        snprintf(options, sizeof(options), "nr_inodes=%d", inodes);
        ck_assert_int_eq(mount("tmpfs", disk, "tmpfs", 0, options), 0);
        assert_nothing_stays("inodes are there", inodes);
        umount2(disk, MNT_DETACH);
    }
}
END_TEST

/* A folder that somebody made for a channel stays, and what is in it. */
START_TEST(test_a_folder_that_was_there_stays)
{
    if (!mount_disk("nr_inodes=4"))
        return;
    char path[240];
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    snprintf(path, sizeof(path), "%s/note", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    const char *const argv[] = {"mqredis-manager", "--channel", folder, NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, EX_UNAVAILABLE);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("full_disk");
    TCase *t = support_case(s, "full_disk", 60);
    tcase_add_test(t, test_no_room_for_bytes);
    tcase_add_test(t, test_no_room_for_names);
    tcase_add_test(t, test_a_folder_that_was_there_stays);
    return s;
}

int main(void)
{
    return support_run(suite());
}
