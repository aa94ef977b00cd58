/* The channel's folder against those who may write into parts of it, or stand
 * beside it: squatted places, names that lead elsewhere, junk, and programs
 * that run with somebody else's rights. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/payload.h"
#include "tests/e2e_client.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_group.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

#define TIMEOUT_MS 20000

/* ---- what the environment may say ---- */

/* A copy of the worker, where every user may run it. */
static const char *copy_worker(mode_t mode, uid_t owner)
{
    static char path[128];
    static char bytes[65536];
    char from[256];
    snprintf(from, sizeof(from), "%s/mqredis-worker", support_build());
    snprintf(path, sizeof(path), "%s.worker", group_channel());
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    ck_assert_int_ge(in, 0);
    ck_assert_int_ge(out, 0);
    for (ssize_t n; (n = read(in, bytes, sizeof(bytes))) > 0;)
        ck_assert_int_eq(write(out, bytes, (size_t)n), n);
    ck_assert_int_eq(fchown(out, owner, (gid_t)owner), 0);
    ck_assert_int_eq(fchmod(out, mode), 0);
    close(in);
    close(out);
    return path;
}

static const char *program;

/* Alice leads the program by its environment to a manager of hers. */
static void run_led_astray(void)
{
    char parent[128];
    const char *slash = strrchr(group_channel(), '/');
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - group_channel()),
             group_channel());
    setenv("MQREDIS_DIR", parent, 1);
    setenv("MQREDIS_CHANNEL", slash + 1, 1);
    execl(program, program, "SET", "secret", "1", (char *)NULL);
    _exit(CHILD_CANNOT);
}

START_TEST(test_setuid_program_takes_no_hint)
{
    if (SUPPORT_SANITIZED || !group_can("setuid_program_takes_no_hint"))
        return;
    group_start(GROUP_ALICE, true, NULL);
    struct statvfs fs;
    ck_assert_int_eq(statvfs(group_channel(), &fs), 0);
    if (fs.f_flag & ST_NOSUID) {
        support_skip("setuid_program_takes_no_hint", "/tmp is mounted nosuid");
        group_stop();
        return;
    }
    /* A program of one's own goes where one says. */
    program = copy_worker(0755, 0);
    ck_assert_int_eq(group_as(GROUP_ALICE, false, run_led_astray), 0);
    ck_assert_str_eq(e2e_redis_ask(group_redis(), "DEL secret"), ":1\r\n");
    /* One with Bob's rights does not, though Alice's folder lets him in. */
    program = copy_worker(04755, GROUP_BOB);
    ck_assert_int_ne(group_as(GROUP_ALICE, true, run_led_astray), 0);
    ck_assert_str_eq(e2e_redis_ask(group_redis(), "GET secret"), "$-1\r\n");
    group_stop();
}
END_TEST

/* ---- folders that somebody else made ---- */

static char trap[64], bait[96];

static void open_bait(void)
{
    struct channel ch;
    struct err_text why = {""};
    CHILD_REQUIRE(channel_open(&ch, bait, &why) == ERR_DENIED);
    CHILD_REQUIRE(strstr(why.text, "anybody") != NULL);
    CHILD_REQUIRE(setenv("MQREDIS_DIR", trap, 1) == 0);
    CHILD_REQUIRE(channel_open(&ch, "jobs", &why) == ERR_DENIED);
}

static void own_bait(void)
{
    struct channel ch;
    struct err_text why = {""};
    CHILD_REQUIRE(channel_open(&ch, bait, &why) == ERR_OK);
    channel_close(&ch);
}

/* /tmp/x/jobs: nobody but Alice can write to /tmp/x, yet whoever comes first
 * makes it. */
START_TEST(test_folder_below_one_that_anybody_could_make)
{
    if (!group_can("folder_below_one_that_anybody_could_make"))
        return;
    char reply[112];
    strcpy(trap, "/tmp/mqredis-trap.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(trap));
    snprintf(bait, sizeof(bait), "%s/jobs", trap);
    snprintf(reply, sizeof(reply), "%s/reply", bait);
    ck_assert_int_eq(mkdir(bait, 0755), 0);
    ck_assert_int_eq(mkdir(reply, 0755), 0);
    ck_assert_int_eq(chmod(trap, 0755), 0);
    ck_assert_int_eq(chown(trap, GROUP_ALICE, GROUP_ALICE), 0);
    ck_assert_int_eq(chown(bait, GROUP_ALICE, GROUP_ALICE), 0);
    int bob = group_as(GROUP_BOB, false, open_bait);
    int root = group_as(0, false, open_bait);
    int alice = group_as(GROUP_ALICE, false, own_bait);
    support_remove(trap);
    ck_assert_int_eq(bob, 0);
    ck_assert_int_eq(root, 0);
    ck_assert_int_eq(alice, 0);
}
END_TEST

/* ---- what a member can make, and what becomes of it ---- */

static int reply_folder(void)
{
    int fd = open(group_path("reply", ""), O_PATH | O_CLOEXEC);
    CHILD_REQUIRE(fd >= 0);
    return fd;
}

/* Junk of every kind that takes no rights. All but the last is swept. */
static void leave_junk(void)
{
    int fd = reply_folder();
    struct timespec future[2] = {{.tv_sec = 1LL << 40}, {.tv_sec = 1LL << 40}};
    close(openat(fd, "file", O_CREAT | O_WRONLY, 0600));
    close(openat(fd, "file-of-all", O_CREAT | O_WRONLY, 0666));
    CHILD_REQUIRE(symlinkat("/etc/passwd", fd, "link") == 0);
    CHILD_REQUIRE(symlinkat("link", fd, ".link") == 0);
    CHILD_REQUIRE(mkdirat(fd, "folder", 0700) == 0);
    CHILD_REQUIRE(mkfifoat(fd, "pipe", 0600) == 0);
    CHILD_REQUIRE(mkfifoat(fd, ".pipe-of-tomorrow", 0600) == 0);
    CHILD_REQUIRE(utimensat(fd, ".pipe-of-tomorrow", future, 0) == 0);
    CHILD_REQUIRE(linkat(fd, "pipe", fd, "pipe-again", 0) == 0);
    int leased = openat(fd, "leased", O_CREAT | O_RDWR, 0600);
    CHILD_REQUIRE(fcntl(leased, F_SETLEASE, F_WRLCK) == 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/socket", fd);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    CHILD_REQUIRE(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHILD_REQUIRE(mkdirat(fd, "full", 0700) == 0);
    CHILD_REQUIRE(mkdirat(fd, "full/of-things", 0700) == 0);
    CHILD_REQUIRE(mkdir(group_path("payload", "folder"), 0700) == 0);
    CHILD_REQUIRE(symlink("x", group_path("payload", "link")) == 0);
    close(open(group_path("payload", "file"), O_CREAT | O_WRONLY, 0600));
    for (;;) /* alive, as the lease is */
        pause();
}

START_TEST(test_junk_is_swept)
{
    if (!group_can("junk_is_swept"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t pid = group_fork_as(GROUP_BOB, true, leave_junk);
    ck_assert(UNTIL(access(group_path("payload", "file"), F_OK) == 0));
    /* The sweep comes every ten seconds of the first minute; what is in the
     * making has five of them. */
    bool swept = false;
    for (int i = 0; i < 4 && !swept; i++)
        swept = UNTIL(support_count_entries(group_path("reply", "")) == 1 &&
                      support_count_entries(group_path("payload", "")) == 0);
    ck_assert_int_eq(access(group_path("reply", "full"), F_OK), 0);
    ck_assert_msg(swept, "%d in reply, %d in payload",
                  support_count_entries(group_path("reply", "")),
                  support_count_entries(group_path("payload", "")));
    ck_assert(UNTIL(e2e_counter(group_manager(), COUNTER_swept) >= 12));
    support_kill(pid);
    group_stop();
}
END_TEST

/* Files in payload/ belong to the manager's group: a program among them must
 * not run with its rights. */
static void make_setgid_program(void)
{
    struct stat st;
    int fd = open(group_path("payload", "p"), O_CREAT | O_RDWR | O_EXCL, 02755);
    CHILD_REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    CHILD_REQUIRE(st.st_gid == GROUP_KEEPER);
    CHILD_REQUIRE((st.st_mode & S_ISGID) == 0);
    CHILD_REQUIRE(fchmod(fd, 02755) == 0 && fstat(fd, &st) == 0);
    CHILD_REQUIRE((st.st_mode & S_ISGID) == 0);
    CHILD_REQUIRE(unlink(group_path("payload", "p")) == 0);
}

START_TEST(test_setgid_folder_makes_no_setgid_program)
{
    if (!group_can("setgid_folder_makes_no_setgid_program"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, make_setgid_program), 0);
    group_stop();
}
END_TEST

/* Nobody is told of names that come and go. */
static void watch_folders(void)
{
    int fd = inotify_init1(IN_CLOEXEC);
    CHILD_REQUIRE(fd >= 0);
    static const char *const folders[] = {".", "reply", "payload"};
    for (int i = 0; i < 3; i++)
        CHILD_REQUIRE(inotify_add_watch(fd, group_path(folders[i], ""),
                                        IN_ALL_EVENTS) < 0 &&
                      errno == EACCES);
}

START_TEST(test_member_can_not_watch_the_folders)
{
    if (!group_can("member_can_not_watch_the_folders"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, watch_folders), 0);
    group_stop();
}
END_TEST

/* ---- a file system that is full ---- */

static _Atomic int *stage;

/* What is not named is not swept: it goes with its process. */
static void fill_up(void)
{
    static char block[65536];
    int fd = open(group_path("payload", ""), O_TMPFILE | O_RDWR, 0600);
    CHILD_REQUIRE(fd >= 0);
    ssize_t n;
    while ((n = write(fd, block, sizeof(block))) > 0)
        ;
    CHILD_REQUIRE(errno == ENOSPC);
    *stage = 2;
    for (;;)
        pause();
}

/* More than a slot keeps of its payload. */
#define VALUE (6 * LARGE_MIB)

static void use_what_there_is(void)
{
    struct mqredis *mq = mqredis_open(group_channel(), NULL);
    char *data = large_new(VALUE, 1);
    CHILD_REQUIRE(mq != NULL);
    CHILD_REQUIRE(large_round(mq, "k", VALUE, 1));
    *stage = 1;
    CHILD_REQUIRE(UNTIL(*stage == 2));
    /* Large values have no room, and say so; small ones need none. */
    CHILD_REQUIRE(large_round(mq, "small", 100, 1));
    CHILD_REQUIRE(
        large_failed(mqredis_set(mq, "k", data, VALUE), MQREDIS_SYSTEM));
    CHILD_REQUIRE(large_round(mq, "small", 100, 2));
    *stage = 3;
    CHILD_REQUIRE(UNTIL(*stage == 4));
    CHILD_REQUIRE(large_round(mq, "k", VALUE, 3));
    mqredis_close(mq);
    free(data);
}

START_TEST(test_member_can_fill_the_file_system)
{
    if (!group_can("member_can_fill_the_file_system"))
        return;
    if (!group_mount("size=12m")) {
        support_skip("member_can_fill_the_file_system", strerror(errno));
        return;
    }
    stage = support_shared(sizeof(*stage));
    group_start(GROUP_KEEPER, true, NULL);
    pid_t alice = group_fork_as(GROUP_ALICE, true, use_what_there_is);
    ck_assert(UNTIL(*stage == 1 || support_proc_state(alice) == 'Z'));
    pid_t bob = group_fork_as(GROUP_BOB, true, fill_up);
    bool over = UNTIL(*stage == 3 || support_proc_state(alice) == 'Z');
    support_kill(bob);
    *stage = 4;
    int status = support_join(alice);
    group_stop();
    group_unmount();
    ck_assert(over);
    ck_assert_int_eq(status, 0);
}
END_TEST

static void use_up_inodes(void)
{
    char name[32];
    int i = 0;
    do
        snprintf(name, sizeof(name), "reply/%d", i++);
    while (mknod(group_path(".", name), S_IFREG | 0600, 0) == 0);
    CHILD_REQUIRE(errno == ENOSPC);
    *stage = 1;
    CHILD_REQUIRE(UNTIL(*stage == 2));
}

static bool newcomer_is_served(void)
{
    struct mqredis *mq = mqredis_open(group_channel(), NULL);
    CHILD_REQUIRE(mq != NULL);
    struct mqredis_reply *r = mqredis_command(mq, "PING");
    bool served = r->type == MQREDIS_STATUS;
    CHILD_REQUIRE(served || r->status == MQREDIS_SYSTEM);
    mqredis_free(r);
    mqredis_close(mq);
    return served;
}

static void come_too_late(void)
{
    CHILD_REQUIRE(!newcomer_is_served());
    *stage = 2;
    /* The sweep makes room. */
    bool served = false;
    for (int i = 0; i < 3 && !served; i++)
        served = UNTIL(newcomer_is_served());
    CHILD_REQUIRE(served);
}

START_TEST(test_member_can_use_up_inodes_until_the_sweep)
{
    if (!group_can("member_can_use_up_inodes_until_the_sweep"))
        return;
    if (!group_mount("size=12m,nr_inodes=100")) {
        support_skip("member_can_use_up_inodes", strerror(errno));
        return;
    }
    stage = support_shared(sizeof(*stage));
    group_start(GROUP_KEEPER, true, NULL);
    pid_t bob = group_fork_as(GROUP_BOB, true, use_up_inodes);
    ck_assert(UNTIL(*stage == 1));
    pid_t alice = group_fork_as(GROUP_ALICE, true, come_too_late);
    int bobs = support_join(bob);
    int status = -1;
    for (int i = 0; i < 3 && status < 0; i++)
        if (UNTIL(support_proc_state(alice) == 'Z'))
            status = support_join(alice);
    group_stop();
    group_unmount();
    ck_assert_int_eq(bobs, 0);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- a device in a pipe's place ---- */

/* Takes CAP_MKNOD, which no member has; root may be mistaken, too. */
START_TEST(test_device_in_a_pipes_place)
{
    char name[ONESHOT_NAME_MAX];
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    e2e_start(&redis, &manager, E2E_MQREDIS, NULL);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    int payload;
    ck_assert_int_eq(payload_folder(&client.ch, &payload), ERR_OK);
    ck_assert_int_eq(
        e2e_begin(&client, &call, 1, ping, sizeof(ping) - 1, TIMEOUT_MS),
        ERR_OK);
    call.header.slot += 77;
    oneshot_name(name, call.header.client, call.header.slot);
    /* 1, 7 is /dev/full: writing there would be told. */
    if (mknodat(client.ch.reply_fd, name, S_IFCHR | 0600, 1 << 8 | 7) < 0) {
        support_skip("device_in_a_pipes_place", strerror(errno));
    } else {
        ck_assert_int_eq(e2e_send(&client, &call), ERR_OK);
        struct e2e_call next = {0};
        ck_assert_int_eq(e2e_ask(&client, &next, TIMEOUT_MS, "PING"), E2E_OK);
        /* The manager counts behind its answer. */
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) == 1));
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_answered) == 1));
        e2e_forget(&client, &next);
        int fd = -1;
        ck_assert_int_eq(mknodat(payload, name, S_IFCHR | 0600, 1 << 8 | 5), 0);
        ck_assert_int_eq(payload_open(payload, call.header.client,
                                      call.header.slot, geteuid(), 0, &fd),
                         ERR_DENIED);
        ck_assert_int_eq(fd, -1);
    }
    close(payload);
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- the suite ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("security_folder");
    TCase *t = tcase_create("folder");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, group_setup, group_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_setuid_program_takes_no_hint);
    tcase_add_test(t, test_folder_below_one_that_anybody_could_make);
    tcase_add_test(t, test_junk_is_swept);
    tcase_add_test(t, test_setgid_folder_makes_no_setgid_program);
    tcase_add_test(t, test_member_can_not_watch_the_folders);
    tcase_add_test(t, test_member_can_fill_the_file_system);
    tcase_add_test(t, test_member_can_use_up_inodes_until_the_sweep);
    tcase_add_test(t, test_device_in_a_pipes_place);
    return s;
}

int main(void)
{
    return support_run(suite());
}
