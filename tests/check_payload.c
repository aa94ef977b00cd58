/* Payload files: the manager takes bytes only from a plain file of the
 * requester's own, whatever else may stand under its name; and nothing of a
 * dead requester stays behind. */
#include "ipc/payload.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/oneshot.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define CLIENT 0x0123456789abcdefULL
#define SOMEBODY ((uid_t)65534)

/* A channel's folder as far as payloads need one. */
struct place {
    struct channel ch; /* dirfd alone */
    int folder;        /* payload/, O_PATH */
    int reply;
    char dir[64]; /* below the scratch folder */
    struct oneshot_pool pool;
};

static void place_open(struct place *p)
{
    static unsigned count;
    memset(p, 0, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "place%ld-%u", (long)getpid(), ++count);
    ck_assert_int_eq(mkdir(support_path(p->dir), 0711), 0);
    p->ch.dirfd =
        open(support_path(p->dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(p->ch.dirfd, 0);
    ck_assert_int_eq(mkdirat(p->ch.dirfd, "reply", 0700), 0);
    ck_assert_int_eq(mkdirat(p->ch.dirfd, "payload", 0700), 0);
    p->reply = openat(p->ch.dirfd, "reply", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(p->reply, 0);
    ck_assert(payload_folder(&p->ch, &p->folder) == ERR_OK);
    oneshot_pool_init(&p->pool, p->reply, false, CLIENT);
}

static void place_close(struct place *p)
{
    oneshot_pool_close(&p->pool);
    close(p->folder);
    close(p->reply);
    close(p->ch.dirfd);
}

static struct oneshot slot_with_payload(struct place *p)
{
    struct oneshot slot;
    ck_assert(oneshot_acquire(&p->pool, &slot) == ERR_OK);
    ck_assert_msg(oneshot_payload(&p->pool, &p->ch, &slot) == ERR_OK, "%s",
                  strerror(errno));
    return slot;
}

/* The name of a slot's file. Static storage. */
static const char *name_of(uint64_t slot)
{
    static char name[ONESHOT_NAME_MAX];
    oneshot_name(name, CLIENT, slot);
    return name;
}

static bool file_exists(const struct place *p, uint64_t slot)
{
    struct stat st;
    return fstatat(p->folder, name_of(slot), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int64_t file_size(const struct place *p, uint64_t slot)
{
    struct stat st;
    if (fstatat(p->folder, name_of(slot), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    return st.st_size;
}

/* What the manager makes of the file that it is told of. */
static enum err open_as(const struct place *p, uint64_t slot, uid_t uid,
                        int64_t need)
{
    int fd = -1, before = support_count_fds();
    enum err e = payload_open(p->folder, CLIENT, slot, uid, need, &fd);
    if (e == ERR_OK)
        close(fd);
    ck_assert_int_eq(support_count_fds(), before);
    return e;
}

static enum err open_own(const struct place *p, uint64_t slot, int64_t need)
{
    return open_as(p, slot, geteuid(), need);
}

/* ---- the requester's side ---- */

START_TEST(test_file_is_private_named_as_its_pipe_and_kept)
{
    struct place p;
    struct stat st;
    umask(0);
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    uint64_t number = slot.slot;
    ck_assert_int_eq(fstatat(p.folder, name_of(number), &st, 0), 0);
    ck_assert(S_ISREG(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(st.st_nlink, 1);
    ck_assert_int_ne(fcntl(slot.payload.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert(payload_write(&slot.payload, 0, "abc", 3) == ERR_OK);
    ck_assert(payload_write(&slot.payload, 3, "def", 3) == ERR_OK);
    ck_assert_int_eq(slot.payload.size, 6);
    int fd = slot.payload.fd;
    /* The next request of the slot has the same file, contents and all. */
    oneshot_release(&p.pool, &slot);
    slot = slot_with_payload(&p);
    ck_assert_uint_eq(slot.slot, number);
    ck_assert_int_eq(slot.payload.fd, fd);
    ck_assert_int_eq(file_size(&p, number), 6);
    oneshot_abandon(&p.pool, &slot);
    ck_assert(!file_exists(&p, number));
    place_close(&p);
}
END_TEST

START_TEST(test_file_of_a_group_channel_can_be_read_by_the_manager)
{
    struct place p;
    struct stat st;
    struct payload file = {.fd = -1};
    place_open(&p);
    ck_assert(payload_make(&file, p.folder, true, CLIENT, 1) == ERR_OK);
    ck_assert_int_eq(fstat(file.fd, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    payload_drop(&file, p.folder, CLIENT, 1);
    ck_assert_int_eq(file.fd, -1);
    place_close(&p);
}
END_TEST

START_TEST(test_squatted_name_is_refused)
{
    struct place p;
    struct payload file = {.fd = -1};
    place_open(&p);
    close(openat(p.folder, name_of(7), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ck_assert(payload_make(&file, p.folder, false, CLIENT, 7) == ERR_SYS);
    ck_assert_int_eq(errno, EEXIST);
    ck_assert_int_eq(unlinkat(p.folder, name_of(7), 0), 0);
    ck_assert_int_eq(symlinkat("elsewhere", p.folder, name_of(7)), 0);
    ck_assert(payload_make(&file, p.folder, false, CLIENT, 7) == ERR_SYS);
    ck_assert_int_eq(errno, EEXIST);
    ck_assert_int_eq(file.fd, -1);
    place_close(&p);
}
END_TEST

START_TEST(test_trim_gives_memory_back)
{
    struct place p;
    static char piece[1 << 20];
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    uint64_t number = slot.slot;
    for (int i = 0; i < 6; i++)
        ck_assert(payload_write(&slot.payload, (int64_t)i * (int)sizeof(piece),
                                piece, sizeof(piece)) == ERR_OK);
    ck_assert_int_eq(file_size(&p, number), 6 << 20);
    payload_trim(&slot.payload);
    ck_assert_int_eq(slot.payload.size, PAYLOAD_KEPT_MAX);
    ck_assert_int_eq(file_size(&p, number), PAYLOAD_KEPT_MAX);
    /* What is small enough stays. */
    payload_trim(&slot.payload);
    ck_assert_int_eq(file_size(&p, number), PAYLOAD_KEPT_MAX);
    /* And it grows again. */
    ck_assert(payload_write(&slot.payload, PAYLOAD_KEPT_MAX, "x", 1) == ERR_OK);
    oneshot_release(&p.pool, &slot);
    ck_assert_int_eq(file_size(&p, number), PAYLOAD_KEPT_MAX);
    place_close(&p);
    ck_assert_int_eq(faccessat(AT_FDCWD, support_path(p.dir), F_OK, 0), 0);
}
END_TEST

START_TEST(test_write_over_a_limit_is_an_error)
{
    struct place p;
    static char piece[64 * 1024];
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    struct rlimit limit = {100 * 1024, 100 * 1024};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(payload_write(&slot.payload, 0, piece, sizeof(piece)) == ERR_OK);
    ck_assert(payload_write(&slot.payload, sizeof(piece), piece,
                            sizeof(piece)) == ERR_SYS);
    ck_assert_int_eq(errno, EFBIG);
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
}
END_TEST

START_TEST(test_full_disk_is_an_error)
{
    struct place p;
    static char piece[64 * 1024];
    place_open(&p);
    char path[256];
    snprintf(path, sizeof(path), "%s/payload", support_path(p.dir));
    if (mount("tmpfs", path, "tmpfs", 0, "size=128k") < 0) {
        support_skip("full disk", strerror(errno));
        place_close(&p);
        return;
    }
    close(p.folder);
    ck_assert(payload_folder(&p.ch, &p.folder) == ERR_OK);
    struct oneshot slot = slot_with_payload(&p);
    enum err e = ERR_OK;
    for (int i = 0; i < 4 && e == ERR_OK; i++)
        e = payload_write(&slot.payload, slot.payload.size, piece,
                          sizeof(piece));
    int saved = errno;
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
    umount2(path, MNT_DETACH);
    ck_assert(e == ERR_SYS);
    ck_assert_int_eq(saved, ENOSPC);
}
END_TEST

/* ---- the manager's side ---- */

START_TEST(test_manager_opens_what_is_whole)
{
    struct place p;
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    char bytes[100];
    memset(bytes, 'x', sizeof(bytes));
    ck_assert(payload_write(&slot.payload, 0, bytes, 100) == ERR_OK);
    ck_assert(open_own(&p, slot.slot, 0) == ERR_OK);
    ck_assert(open_own(&p, slot.slot, 100) == ERR_OK);
    ck_assert(open_own(&p, slot.slot, 101) == ERR_INVALID);
    ck_assert(open_own(&p, slot.slot, INT64_MAX) == ERR_INVALID);
    ck_assert(open_own(&p, slot.slot + 1, 0) == ERR_ABSENT);
    /* Shrunk. */
    ck_assert_int_eq(ftruncate(slot.payload.fd, 99), 0);
    ck_assert(open_own(&p, slot.slot, 100) == ERR_INVALID);
    /* Removed. */
    ck_assert_int_eq(unlinkat(p.folder, name_of(slot.slot), 0), 0);
    ck_assert(open_own(&p, slot.slot, 1) == ERR_ABSENT);
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
}
END_TEST

START_TEST(test_manager_refuses_another_owners_file)
{
    struct place p;
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    ck_assert(payload_write(&slot.payload, 0, "abc", 3) == ERR_OK);
    ck_assert(open_as(&p, slot.slot, geteuid() + 1, 3) == ERR_DENIED);
    if (support_root_of_many()) {
        ck_assert_int_eq(fchown(slot.payload.fd, SOMEBODY, SOMEBODY), 0);
        ck_assert(open_own(&p, slot.slot, 3) == ERR_DENIED);
        ck_assert(open_as(&p, slot.slot, SOMEBODY, 3) == ERR_OK);
    }
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
}
END_TEST

/* A second link could be the way to a file that is not the requester's. */
START_TEST(test_manager_refuses_links)
{
    struct place p;
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    ck_assert(payload_write(&slot.payload, 0, "abc", 3) == ERR_OK);
    ck_assert_int_eq(linkat(p.folder, name_of(slot.slot), p.folder, "b", 0), 0);
    ck_assert(open_own(&p, slot.slot, 3) == ERR_DENIED);
    ck_assert_int_eq(unlinkat(p.folder, "b", 0), 0);
    ck_assert(open_own(&p, slot.slot, 3) == ERR_OK);
    ck_assert_int_eq(unlinkat(p.folder, name_of(slot.slot), 0), 0);
    ck_assert_int_eq(symlinkat("/etc/passwd", p.folder, name_of(slot.slot)), 0);
    ck_assert(open_own(&p, slot.slot, 3) == ERR_DENIED);
    ck_assert(open_as(&p, slot.slot, 0, 3) == ERR_DENIED);
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
}
END_TEST

static void plant_socket(const struct place *p, uint64_t slot)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path),
                     "/proc/self/fd/%d/%s", p->folder, name_of(slot));
    ck_assert_int_lt(n, (int)sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

/* Neither is read, nor waited for. */
START_TEST(test_manager_refuses_what_is_no_plain_file)
{
    struct place p;
    place_open(&p);
    ck_assert_int_eq(mkfifoat(p.folder, name_of(1), 0600), 0);
    ck_assert(open_own(&p, 1, 0) == ERR_DENIED);
    ck_assert_int_eq(mkdirat(p.folder, name_of(2), 0700), 0);
    ck_assert(open_own(&p, 2, 0) == ERR_DENIED);
    plant_socket(&p, 3);
    ck_assert(open_own(&p, 3, 0) != ERR_OK);
    if (mknodat(p.folder, name_of(4), S_IFCHR | 0600, makedev(1, 5)) == 0)
        ck_assert(open_own(&p, 4, 0) != ERR_OK);
    else
        support_skip("device", strerror(errno));
    place_close(&p);
}
END_TEST

START_TEST(test_manager_says_when_it_is_out_of_descriptors)
{
    struct place p;
    place_open(&p);
    struct oneshot slot = slot_with_payload(&p);
    struct rlimit limit;
    int fd = -1;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)slot.payload.fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert(payload_open(p.folder, CLIENT, slot.slot, geteuid(), 0, &fd) ==
              ERR_LIMIT);
    ck_assert_int_eq(fd, -1);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    oneshot_abandon(&p.pool, &slot);
    place_close(&p);
}
END_TEST

/* ---- what the dead leave ---- */

START_TEST(test_sweep_removes_what_no_pipe_reads_for)
{
    struct place p;
    size_t removed = 99;
    place_open(&p);
    struct oneshot lives = slot_with_payload(&p);
    struct oneshot died = slot_with_payload(&p);
    struct oneshot vanished = slot_with_payload(&p);
    close(died.fd); /* its pipe's name stays */
    ck_assert_int_eq(unlinkat(p.reply, name_of(vanished.slot), 0), 0);
    close(openat(p.folder, "anything", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ck_assert_int_eq(symlinkat("x", p.folder, "link"), 0);
    ck_assert(payload_sweep(p.folder, p.reply, &removed) == ERR_OK);
    ck_assert_uint_eq(removed, 4);
    ck_assert(file_exists(&p, lives.slot));
    ck_assert(!file_exists(&p, died.slot));
    ck_assert(!file_exists(&p, vanished.slot));
    ck_assert(payload_sweep(p.folder, p.reply, &removed) == ERR_OK);
    ck_assert_uint_eq(removed, 0);
    oneshot_abandon(&p.pool, &lives);
    close(vanished.fd);
    close(vanished.payload.fd);
    close(died.payload.fd);
    place_close(&p);
}
END_TEST

START_TEST(test_folder_of_an_older_manager_is_absent)
{
    struct place p;
    int fd = -1;
    place_open(&p);
    ck_assert_int_eq(unlinkat(p.ch.dirfd, "payload", AT_REMOVEDIR), 0);
    ck_assert(payload_folder(&p.ch, &fd) == ERR_ABSENT);
    ck_assert_int_eq(symlinkat("reply", p.ch.dirfd, "payload"), 0);
    ck_assert(payload_folder(&p.ch, &fd) == ERR_SYS);
    ck_assert_int_eq(fd, -1);
    place_close(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("payload");
    TCase *tc = support_case(s, "requester", 60);
    tcase_add_test(tc, test_file_is_private_named_as_its_pipe_and_kept);
    tcase_add_test(tc, test_file_of_a_group_channel_can_be_read_by_the_manager);
    tcase_add_test(tc, test_squatted_name_is_refused);
    tcase_add_test(tc, test_trim_gives_memory_back);
    tcase_add_test(tc, test_write_over_a_limit_is_an_error);
    tcase_add_test(tc, test_full_disk_is_an_error);
    tc = support_case(s, "manager", 60);
    tcase_add_test(tc, test_manager_opens_what_is_whole);
    tcase_add_test(tc, test_manager_refuses_another_owners_file);
    tcase_add_test(tc, test_manager_refuses_links);
    tcase_add_test(tc, test_manager_refuses_what_is_no_plain_file);
    tcase_add_test(tc, test_manager_says_when_it_is_out_of_descriptors);
    tcase_add_test(tc, test_sweep_removes_what_no_pipe_reads_for);
    tcase_add_test(tc, test_folder_of_an_older_manager_is_absent);
    return support_run(s);
}
