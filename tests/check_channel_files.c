/* The small files of a channel's folder: the one that names the queue, and
 * FIFOs. Its lock is in check_channel_lock. */
#include "ipc/channel.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_run.h"

/* ---- the queue file ---- */

START_TEST(test_queue_file_round_trip)
{
    struct channel ch;
    struct err_text why = {""};
    struct channel_queue in = {.name = "/mqredis.x.0123456789abcdef",
                               .epoch = 0xfedcba9876543210},
                         out;
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(channel_read_queue(&ch, &out), ERR_ABSENT);
    ck_assert_int_eq(channel_write_queue(&ch, &in, &why), ERR_OK);
    ck_assert_int_eq(channel_read_queue(&ch, &out), ERR_OK);
    ck_assert_str_eq(out.name, in.name);
    ck_assert(out.epoch == in.epoch);
    in.epoch = 1;
    memset(in.name, 'x', sizeof(in.name) - 1);
    in.name[0] = '/';
    ck_assert_int_eq(channel_write_queue(&ch, &in, &why), ERR_OK);
    ck_assert_int_eq(channel_read_queue(&ch, &out), ERR_OK);
    ck_assert_str_eq(out.name, in.name);
    ck_assert_uint_eq(out.epoch, 1);
    ck_assert_int_eq(faccessat(ch.dirfd, ".queue", F_OK, 0), -1);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

#define X120                                                                   \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"             \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const char *const bad_queue_files[] = {
    "",
    "\n",
    "/name",
    "/name\n",
    "/name\n0123456789abcdef",
    "name\n0123456789abcdef\n",
    "/name\n0123456789abcde\n",
    "/name\n0123456789abcdef0\n",
    "/name\n0123456789abcdeg\n",
    "/name\n0000000000000000\n",
    "/name\n 123456789abcdef\n",
    "/name\n-123456789abcdef\n",
    "/name\n+123456789abcdef\n",
    "/name\n0x23456789abcdef\n",
    "\n/name\n0123456789abcdef\n",
    "/" X120 "1234567\n0123456789abcdef\n",
};

START_TEST(test_queue_file_garbage)
{
    struct channel ch;
    struct channel_queue q = {.name = "untouched"};
    support_channel(&ch, CHANNEL_NO_GROUP);
    support_write_file(ch.dirfd, "queue", bad_queue_files[_i]);
    ck_assert_int_eq(channel_read_queue(&ch, &q), ERR_PROTO);
    ck_assert_str_eq(q.name, "untouched");
    channel_close(&ch);
}
END_TEST

/* Whatever stands there instead of a file: an error, and at once. */
START_TEST(test_queue_file_that_is_none)
{
    struct channel ch;
    struct channel_queue q;
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(symlinkat("/etc/hostname", ch.dirfd, "queue"), 0);
    ck_assert_int_eq(channel_read_queue(&ch, &q), ERR_SYS);
    ck_assert_int_eq(unlinkat(ch.dirfd, "queue", 0), 0);
    ck_assert_int_eq(mkfifoat(ch.dirfd, "queue", 0600), 0);
    ck_assert_int_eq(channel_read_queue(&ch, &q), ERR_PROTO);
    ck_assert_int_eq(unlinkat(ch.dirfd, "queue", 0), 0);
    ck_assert_int_eq(mkdirat(ch.dirfd, "queue", 0700), 0);
    ck_assert_int_ne(channel_read_queue(&ch, &q), ERR_OK);
    channel_close(&ch);
}
END_TEST

/* ---- FIFOs ---- */

START_TEST(test_make_fifo_replaces_in_one_step)
{
    struct channel ch;
    struct err_text why = {""};
    struct stat st;
    int first, second, reader;
    support_channel(&ch, CHANNEL_NO_GROUP);
    umask(077);
    ck_assert_int_eq(channel_make_fifo(&ch, "receiver", 0640, &first, &why),
                     ERR_OK);
    ck_assert_int_eq(fstat(first, &st), 0);
    ck_assert(S_ISFIFO(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    ck_assert_int_ne(fcntl(first, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(first, F_GETFD) & FD_CLOEXEC, 0);
    ino_t old = st.st_ino;
    /* What a crash in the middle left is in nobody's way. */
    support_write_file(ch.dirfd, ".receiver", "junk");
    ck_assert_int_eq(channel_make_fifo(&ch, "receiver", 0640, &second, &why),
                     ERR_OK);
    ck_assert_int_eq(fstatat(ch.dirfd, "receiver", &st, 0), 0);
    ck_assert(st.st_ino != old);
    ck_assert_int_eq(channel_open_fifo(&ch, "receiver", O_RDONLY, &reader),
                     ERR_OK);
    ck_assert_int_ne(fcntl(reader, F_GETFD) & FD_CLOEXEC, 0);
    char byte;
    ck_assert(read(reader, &byte, 1) < 0 && errno == EAGAIN);
    close(second);
    ck_assert_int_eq(read(reader, &byte, 1), 0);
    close(first);
    close(reader);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

START_TEST(test_open_fifo_says_what_is_there)
{
    struct channel ch;
    int fd = -1;
    support_channel(&ch, CHANNEL_NO_GROUP);
    int before = support_count_fds();
    ck_assert_int_eq(channel_open_fifo(&ch, "f", O_WRONLY, &fd), ERR_ABSENT);
    ck_assert_int_eq(mkfifoat(ch.dirfd, "f", 0600), 0);
    ck_assert_int_eq(channel_open_fifo(&ch, "f", O_WRONLY, &fd), ERR_CLOSED);
    support_write_file(ch.dirfd, "g", "");
    ck_assert_int_eq(channel_open_fifo(&ch, "g", O_WRONLY, &fd), ERR_DENIED);
    ck_assert_int_eq(symlinkat("f", ch.dirfd, "h"), 0);
    ck_assert_int_eq(channel_open_fifo(&ch, "h", O_RDONLY, &fd), ERR_DENIED);
    ck_assert_int_eq(channel_open_fifo(&ch, "reply", O_RDONLY, &fd),
                     ERR_DENIED);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(support_count_fds(), before);
    channel_close(&ch);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("channel_files");
    TCase *t = support_case(s, "files", 60);
    tcase_add_test(t, test_queue_file_round_trip);
    tcase_add_loop_test(t, test_queue_file_garbage, 0,
                        sizeof(bad_queue_files) / sizeof(bad_queue_files[0]));
    tcase_add_test(t, test_queue_file_that_is_none);
    tcase_add_test(t, test_make_fifo_replaces_in_one_step);
    tcase_add_test(t, test_open_fifo_says_what_is_there);
    return s;
}

int main(void)
{
    return support_run(suite());
}
