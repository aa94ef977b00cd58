/* Reply pipes: one reader, one reply at a time, never a reply of somebody
 * else's; and what may stand under a pipe's name instead of a pipe. Users that
 * are not the same are in check_oneshot_users. */
#include "ipc/oneshot.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/random.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define CLIENT 0x0123456789abcdefULL

static int open_reply(void)
{
    static unsigned count;
    char name[32];
    snprintf(name, sizeof(name), "reply%ld-%u", (long)getpid(), ++count);
    ck_assert_int_eq(mkdir(support_path(name), 0700), 0);
    int fd = open(support_path(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void pool_new(struct oneshot_pool *pool, uint64_t client)
{
    oneshot_pool_init(pool, open_reply(), false, client);
}

static void pool_end(struct oneshot_pool *pool)
{
    oneshot_pool_close(pool);
    close(pool->reply_fd);
}

static struct oneshot acquire(struct oneshot_pool *pool)
{
    struct oneshot slot;
    enum err e = oneshot_acquire(pool, &slot);
    ck_assert_msg(e == ERR_OK, "%s", strerror(errno));
    return slot;
}

static bool exists(int reply_fd, const char *name)
{
    struct stat st;
    return fstatat(reply_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool slot_exists(const struct oneshot_pool *pool, uint64_t slot)
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, pool->client, slot);
    return exists(pool->reply_fd, name);
}

static enum err try_open(const struct oneshot_pool *pool, uint64_t slot)
{
    int fd;
    enum err e = oneshot_open(pool->reply_fd, pool->client, slot, &fd);
    if (e == ERR_OK)
        close(fd);
    return e;
}

/* ---- names and modes ---- */

START_TEST(test_names)
{
    static const struct {
        uint64_t client, slot;
        const char *name;
    } cases[] = {
        {CLIENT, 0, "0123456789abcdef-0"},
        {1, 15, "0000000000000001-f"},
        {UINT64_MAX, 0x100, "ffffffffffffffff-100"},
        {UINT64_MAX, UINT64_MAX, "ffffffffffffffff-ffffffffffffffff"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[ONESHOT_NAME_MAX];
        oneshot_name(name, cases[i].client, cases[i].slot);
        ck_assert_str_eq(name, cases[i].name);
    }
}
END_TEST

START_TEST(test_pipe_is_private_and_close_on_exec)
{
    struct oneshot_pool pool;
    struct stat st;
    umask(0);
    pool_new(&pool, CLIENT);
    struct oneshot slot = acquire(&pool);
    ck_assert_int_eq(fstat(slot.fd, &st), 0);
    ck_assert(S_ISFIFO(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_ne(fcntl(slot.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_ne(fcntl(slot.fd, F_GETFL) & O_NONBLOCK, 0);
    /* Nothing under a temporary name is left. */
    char name[ONESHOT_NAME_MAX + 1] = ".";
    oneshot_name(name + 1, CLIENT, slot.slot);
    ck_assert(!exists(pool.reply_fd, name));
    ck_assert(exists(pool.reply_fd, name + 1));
    oneshot_abandon(&pool, &slot);
    pool_end(&pool);
}
END_TEST

/* ---- reuse, and never again ---- */

START_TEST(test_slot_is_reused_only_once_released)
{
    struct oneshot_pool pool;
    pool_new(&pool, CLIENT);
    struct oneshot a = acquire(&pool), b = acquire(&pool);
    uint64_t number = a.slot;
    ck_assert_uint_ne(a.slot, b.slot);
    oneshot_release(&pool, &a);
    ck_assert_int_eq(a.fd, -1);
    ck_assert(slot_exists(&pool, number));
    struct oneshot again = acquire(&pool);
    ck_assert_uint_eq(again.slot, number);
    struct oneshot third = acquire(&pool);
    ck_assert_uint_ne(third.slot, number);
    ck_assert_uint_ne(third.slot, b.slot);
    oneshot_abandon(&pool, &again);
    oneshot_abandon(&pool, &third);
    oneshot_abandon(&pool, &b);
    pool_end(&pool);
}
END_TEST

START_TEST(test_abandoned_name_is_never_used_again)
{
    enum { N = 200 };
    struct oneshot_pool pool;
    uint64_t last = 0;
    pool_new(&pool, CLIENT);
    int fds = support_count_fds();
    for (int i = 0; i < N; i++) {
        struct oneshot slot = acquire(&pool);
        ck_assert(i == 0 || slot.slot > last);
        last = slot.slot;
        int writer;
        ck_assert_int_eq(oneshot_open(pool.reply_fd, CLIENT, last, &writer),
                         ERR_OK);
        oneshot_abandon(&pool, &slot);
        ck_assert_int_eq(slot.fd, -1);
        ck_assert(!slot_exists(&pool, last));
        /* The late reply has nowhere to go, through the open end or anew. */
        ck_assert(write(writer, "late", 4) < 0 && errno == EPIPE);
        ck_assert_int_eq(try_open(&pool, last), ERR_CLOSED);
        close(writer);
    }
    ck_assert_int_eq(support_count_fds(), fds);
    pool_end(&pool);
}
END_TEST

START_TEST(test_idle_slots_are_bounded)
{
    enum { N = ONESHOT_IDLE_MAX + 5 };
    struct oneshot_pool pool;
    struct oneshot slots[N];
    pool_new(&pool, CLIENT);
    int fds = support_count_fds();
    for (int i = 0; i < N; i++)
        slots[i] = acquire(&pool);
    for (int i = 0; i < N; i++)
        oneshot_release(&pool, &slots[i]);
    ck_assert_int_eq(support_count_fds(), fds + ONESHOT_IDLE_MAX);
    ck_assert_uint_eq(pool.idle_count, ONESHOT_IDLE_MAX);
    oneshot_pool_close(&pool);
    ck_assert_int_eq(support_count_fds(), fds);
    for (uint64_t i = 0; i < pool.next_slot; i++)
        ck_assert(!slot_exists(&pool, i));
    pool_end(&pool);
}
END_TEST

START_TEST(test_out_of_descriptors_is_an_error)
{
    struct oneshot_pool pool;
    struct oneshot slot = {.fd = -2};
    pool_new(&pool, CLIENT);
    struct rlimit limit = {.rlim_max = 1024}, old;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit.rlim_cur = 3;
    limit.rlim_max = old.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(oneshot_acquire(&pool, &slot), ERR_SYS);
    ck_assert_int_eq(errno, EMFILE);
    ck_assert_int_eq(try_open(&pool, 0), ERR_LIMIT);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    /* Not even a temporary name is left. */
    ck_assert_int_eq(slot.fd, -2);
    char name[ONESHOT_NAME_MAX + 1] = ".";
    oneshot_name(name + 1, CLIENT, 0);
    ck_assert(!exists(pool.reply_fd, name));
    pool_end(&pool);
}
END_TEST

/* ---- the reader's end ---- */

struct reader {
    int reply_fd;
    _Atomic uint64_t slot;
    _Atomic int ready;
};

static void hold_a_slot(void *arg)
{
    struct reader *r = arg;
    struct oneshot_pool pool;
    oneshot_pool_init(&pool, r->reply_fd, false, CLIENT);
    struct oneshot slot;
    CHILD_REQUIRE(oneshot_acquire(&pool, &slot) == ERR_OK);
    r->slot = slot.slot;
    r->ready = 1;
    for (;;)
        pause();
}

START_TEST(test_reader_that_is_gone_is_noticed)
{
    struct reader *r = support_shared(sizeof(*r));
    struct reply_chunk chunk = {.request = 1, .length = 2, .count = 1};
    size_t written = 99;
    int fd, none;
    r->reply_fd = open_reply();
    pid_t pid = support_fork(hold_a_slot, r);
    ck_assert(UNTIL(r->ready));
    ck_assert_int_eq(oneshot_open(r->reply_fd, CLIENT, r->slot, &fd), ERR_OK);
    ck_assert_int_eq(oneshot_write(fd, &chunk, "ok", &written), ERR_OK);
    ck_assert_uint_eq(written, sizeof(chunk) + 2);
    /* One that is stopped is no obstacle. */
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    ck_assert_int_eq(oneshot_write(fd, &chunk, "ok", &written), ERR_OK);
    support_kill(pid);
    /* Through the end that was open: EPIPE; anew: ENXIO. */
    ck_assert(UNTIL(oneshot_write(fd, &chunk, "ok", &written) == ERR_CLOSED));
    ck_assert_uint_eq(written, 0);
    ck_assert_int_eq(oneshot_open(r->reply_fd, CLIENT, r->slot, &none),
                     ERR_CLOSED);
    oneshot_unlink(r->reply_fd, CLIENT, r->slot);
    oneshot_unlink(r->reply_fd, CLIENT, r->slot); /* harmless */
    ck_assert_int_eq(oneshot_open(r->reply_fd, CLIENT, r->slot, &none),
                     ERR_CLOSED);
    close(fd);
    close(r->reply_fd);
}
END_TEST

static void be_the_child(void *arg)
{
    struct oneshot_pool *pool = arg;
    uint64_t client = CLIENT + 1;
    size_t inherited = pool->idle_count;
    int fds = support_count_fds();
    oneshot_pool_disown(pool);
    CHILD_REQUIRE(support_count_fds() == fds - (int)inherited);
    oneshot_pool_init(pool, pool->reply_fd, false, client);
    struct oneshot slot;
    CHILD_REQUIRE(oneshot_acquire(pool, &slot) == ERR_OK);
    oneshot_abandon(pool, &slot);
    oneshot_pool_close(pool);
}

START_TEST(test_child_of_fork_leaves_its_parents_pipes_alone)
{
    struct oneshot_pool pool;
    pool_new(&pool, CLIENT);
    struct oneshot a = acquire(&pool), b = acquire(&pool);
    uint64_t numbers[] = {a.slot, b.slot};
    oneshot_release(&pool, &a);
    oneshot_release(&pool, &b);
    ck_assert_int_eq(support_join(support_fork(be_the_child, &pool)), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert(slot_exists(&pool, numbers[i]));
        ck_assert_int_eq(try_open(&pool, numbers[i]), ERR_OK);
    }
    pool_end(&pool);
}
END_TEST

/* A child which forgot to disown: it may fail, it must not take a name. */
START_TEST(test_name_in_use_is_never_taken_over)
{
    struct oneshot_pool pool, twin;
    struct stat before, after;
    char name[ONESHOT_NAME_MAX];
    pool_new(&pool, CLIENT);
    twin = pool;
    struct oneshot a = acquire(&pool), b = {.fd = -2};
    oneshot_name(name, CLIENT, a.slot);
    ck_assert_int_eq(fstatat(pool.reply_fd, name, &before, 0), 0);
    ck_assert_int_eq(oneshot_acquire(&twin, &b), ERR_SYS);
    ck_assert_int_eq(errno, EEXIST);
    ck_assert_int_eq(fstatat(pool.reply_fd, name, &after, 0), 0);
    ck_assert(before.st_ino == after.st_ino);
    oneshot_abandon(&pool, &a);
    pool_end(&pool);
}
END_TEST

/* ---- writing ---- */

static const size_t body_sizes[] = {0,   1,    487,  488,  489,
                                    512, 4072, 4073, 8192, 60000};

START_TEST(test_chunk_arrives_as_written)
{
    struct oneshot_pool pool;
    size_t len = body_sizes[_i], written;
    char body[60000], got[sizeof(struct reply_chunk) + sizeof(body)];
    int fd;
    pool_new(&pool, CLIENT);
    struct oneshot slot = acquire(&pool);
    ck_assert_int_eq(oneshot_open(pool.reply_fd, CLIENT, slot.slot, &fd),
                     ERR_OK);
    for (size_t i = 0; i < len; i++)
        body[i] = (char)(i * 31 + i / 256);
    struct reply_chunk chunk = {
        .request = 42, .length = (uint32_t)len, .count = 1, .flags = REPLY_END};
    ck_assert_int_eq(oneshot_write(fd, &chunk, len > 0 ? body : NULL, &written),
                     ERR_OK);
    ck_assert_uint_eq(written, sizeof(chunk) + len);
    ck_assert_int_eq(read(slot.fd, got, sizeof(got)), (ssize_t)written);
    ck_assert_mem_eq(got, &chunk, sizeof(chunk));
    if (len > 0)
        ck_assert_mem_eq(got + sizeof(chunk), body, len);
    ck_assert(read(slot.fd, got, 1) < 0 && errno == EAGAIN);
    close(fd);
    /* Written or not, the reader never sees EOF. */
    ck_assert(read(slot.fd, got, 1) < 0 && errno == EAGAIN);
    oneshot_abandon(&pool, &slot);
    pool_end(&pool);
}
END_TEST

START_TEST(test_full_pipe_says_how_much_went)
{
    static const size_t sizes[] = {100, 30000};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct oneshot_pool pool;
        static char body[30000], got[65536];
        size_t written, total = 0;
        int fd;
        enum err e;
        pool_new(&pool, CLIENT);
        struct oneshot slot = acquire(&pool);
        ck_assert_int_eq(oneshot_open(pool.reply_fd, CLIENT, slot.slot, &fd),
                         ERR_OK);
        struct reply_chunk chunk = {.length = (uint32_t)sizes[k]};
        while ((e = oneshot_write(fd, &chunk, body, &written)) == ERR_OK)
            total += written;
        ck_assert_int_eq(e, ERR_AGAIN);
        ck_assert_uint_lt(written, sizeof(chunk) + sizes[k]);
        total += written;
        /* Small ones go whole or not at all. */
        if (sizes[k] == 100)
            ck_assert_uint_eq(written, 0);
        ck_assert_int_eq(oneshot_write(fd, &chunk, body, &written), ERR_AGAIN);
        total += written;
        size_t have = 0;
        ssize_t n;
        while ((n = read(slot.fd, got, sizeof(got))) > 0)
            have += (size_t)n;
        ck_assert_uint_eq(have, total);
        close(fd);
        oneshot_abandon(&pool, &slot);
        pool_end(&pool);
    }
}
END_TEST

/* ---- what is planted under a name ---- */

/* Slots 0.. under which something stands that is no pipe of a requester's. */
static int plant(int reply_fd, int *kinds)
{
    char name[ONESHOT_NAME_MAX], other[ONESHOT_NAME_MAX + 2];
    *kinds = 0;
    oneshot_name(name, CLIENT, (uint64_t)(*kinds)++); /* a file */
    int fd = openat(reply_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    oneshot_name(name, CLIENT, (uint64_t)(*kinds)++); /* a link to a pipe */
    snprintf(other, sizeof(other), "real");
    ck_assert_int_eq(mkfifoat(reply_fd, other, 0600), 0);
    ck_assert_int_eq(symlinkat(other, reply_fd, name), 0);
    oneshot_name(name, CLIENT, (uint64_t)(*kinds)++); /* a second name */
    ck_assert_int_eq(linkat(reply_fd, other, reply_fd, name, 0), 0);
    oneshot_name(name, CLIENT, (uint64_t)(*kinds)++); /* a folder */
    ck_assert_int_eq(mkdirat(reply_fd, name, 0700), 0);
    oneshot_name(name, CLIENT, (uint64_t)(*kinds)++); /* a link to a file */
    ck_assert_int_eq(symlinkat("/dev/null", reply_fd, name), 0);
    /* So that the pipe with two names has a reader. */
    fd = openat(reply_fd, other, O_RDWR | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(test_planted_things_are_refused)
{
    int reply_fd = open_reply(), kinds, fd = -1;
    int reader = plant(reply_fd, &kinds);
    int fds = support_count_fds();
    for (int i = 0; i < kinds; i++)
        ck_assert_msg(oneshot_open(reply_fd, CLIENT, (uint64_t)i, &fd) ==
                          ERR_DENIED,
                      "kind %d", i);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(support_count_fds(), fds);
    close(reader);
    close(reply_fd);
}
END_TEST

START_TEST(test_sweep_removes_the_dead_only)
{
    struct oneshot_pool pool;
    struct stat st;
    size_t removed = 99;
    pool_new(&pool, CLIENT + 1);
    int kinds, reader = plant(pool.reply_fd, &kinds);
    struct oneshot live = acquire(&pool), idle = acquire(&pool);
    /* Left by a requester that died: a pipe without a reader. */
    struct oneshot dead = acquire(&pool);
    close(dead.fd);
    uint64_t idle_slot = idle.slot;
    oneshot_release(&pool, &idle);
    /* Being made right now, and left over from long ago. */
    ck_assert_int_eq(mkfifoat(pool.reply_fd, ".young", 0600), 0);
    ck_assert_int_eq(mkfifoat(pool.reply_fd, ".old", 0600), 0);
    struct timespec ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    ck_assert_int_eq(utimensat(pool.reply_fd, ".old", ago, 0), 0);
    int fds = support_count_fds();
    ck_assert_int_eq(oneshot_sweep(pool.reply_fd, &removed), ERR_OK);
    ck_assert_int_eq(support_count_fds(), fds);
    ck_assert(slot_exists(&pool, live.slot));
    ck_assert(slot_exists(&pool, idle_slot));
    ck_assert(!slot_exists(&pool, dead.slot));
    ck_assert(exists(pool.reply_fd, ".young"));
    ck_assert(!exists(pool.reply_fd, ".old"));
    /* Everything that was planted is gone too. Of the pipe with two names, one
     * is: then the other is a live one with one link. */
    for (int i = 0; i < kinds; i++) {
        char name[ONESHOT_NAME_MAX];
        oneshot_name(name, CLIENT, (uint64_t)i);
        if (i == 2)
            continue;
        ck_assert_msg(!exists(pool.reply_fd, name), "kind %d", i);
    }
    ck_assert_int_eq(fstat(reader, &st), 0);
    ck_assert_uint_eq(removed, 2 + (size_t)kinds);
    /* The live ones still work. */
    ck_assert_int_eq(try_open(&pool, live.slot), ERR_OK);
    ck_assert_int_eq(oneshot_sweep(pool.reply_fd, NULL), ERR_OK);
    close(reader);
    oneshot_abandon(&pool, &live);
    pool_end(&pool);
}
END_TEST

/* ---- random ids ---- */

START_TEST(test_random_ids_differ)
{
    enum { N = 1000 };
    static uint64_t ids[N * 2];
    struct random_stream stream;
    ck_assert_int_eq(random_stream_init(&stream), ERR_OK);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(random_id(&ids[i]), ERR_OK);
        ids[N + i] = random_stream_next(&stream);
    }
    for (int i = 0; i < 2 * N; i++) {
        ck_assert_uint_ne(ids[i], 0);
        for (int j = 0; j < i; j++)
            ck_assert_uint_ne(ids[i], ids[j]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("oneshot");
    TCase *t = support_case(s, "pipe", 60);
    tcase_add_test(t, test_names);
    tcase_add_test(t, test_pipe_is_private_and_close_on_exec);
    tcase_add_test(t, test_slot_is_reused_only_once_released);
    tcase_add_test(t, test_abandoned_name_is_never_used_again);
    tcase_add_test(t, test_idle_slots_are_bounded);
    tcase_add_test(t, test_out_of_descriptors_is_an_error);
    tcase_add_test(t, test_reader_that_is_gone_is_noticed);
    tcase_add_test(t, test_child_of_fork_leaves_its_parents_pipes_alone);
    tcase_add_test(t, test_name_in_use_is_never_taken_over);
    tcase_add_loop_test(t, test_chunk_arrives_as_written, 0,
                        sizeof(body_sizes) / sizeof(body_sizes[0]));
    tcase_add_test(t, test_full_pipe_says_how_much_went);
    tcase_add_test(t, test_planted_things_are_refused);
    tcase_add_test(t, test_sweep_removes_the_dead_only);
    tcase_add_test(t, test_random_ids_differ);
    return support_run(s);
}
