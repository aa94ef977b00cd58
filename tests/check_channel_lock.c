/* The channel's lock: who holds it, and when it is free again. */
#include "ipc/channel.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- the lock ---- */

struct holder {
    struct channel ch;
    _Atomic int holds;
    _Atomic int release;
};

static void hold_lock(void *arg)
{
    struct holder *h = arg;
    struct err_text why;
    int fd;
    pid_t other;
    CHILD_REQUIRE(channel_lock(&h->ch, getpid(), 0, &fd, &other, &why) ==
                  ERR_OK);
    h->holds = 1;
    while (!h->release)
        support_sleep_ms(2);
}

START_TEST(test_lock_names_its_holder_and_ends_with_it)
{
    struct holder *h = support_shared(sizeof(*h));
    struct err_text why = {""};
    int fd = -1;
    pid_t other = -1;
    support_channel(&h->ch, CHANNEL_NO_GROUP);
    ck_assert(!channel_locked(&h->ch, &other));
    pid_t pid = support_fork(hold_lock, h);
    ck_assert(UNTIL(h->holds));
    ck_assert_int_eq(channel_lock(&h->ch, getpid(), 30, &fd, &other, &why),
                     ERR_BUSY);
    ck_assert_int_eq(other, pid);
    ck_assert_int_eq(fd, -1);
    char number[24];
    snprintf(number, sizeof(number), "pid %ld", (long)pid);
    ck_assert_ptr_nonnull(strstr(why.text, number));
    other = -1;
    ck_assert(channel_locked(&h->ch, &other));
    ck_assert_int_eq(other, pid);
    support_kill(pid);
    ck_assert(!channel_locked(&h->ch, &other));
    ck_assert_int_eq(channel_lock(&h->ch, getpid(), 0, &fd, &other, &why),
                     ERR_OK);
    channel_remove(&h->ch);
    channel_close(&h->ch);
    close(fd);
}
END_TEST

START_TEST(test_lock_waits_for_a_holder_that_ends)
{
    struct holder *h = support_shared(sizeof(*h));
    struct err_text why = {""};
    int fd;
    pid_t other;
    support_channel(&h->ch, CHANNEL_NO_GROUP);
    pid_t pid = support_fork(hold_lock, h);
    ck_assert(UNTIL(h->holds));
    h->release = 1;
    ck_assert_int_eq(channel_lock(&h->ch, getpid(), (int)support_wait_ms(), &fd,
                                  &other, &why),
                     ERR_OK);
    ck_assert_int_eq(support_join(pid), 0);
    close(fd);
    channel_close(&h->ch);
}
END_TEST

static void wait_for_release(void *arg)
{
    struct holder *h = arg;
    h->holds = 1;
    while (!h->release)
        support_sleep_ms(2);
}

/* The guardian's part: it holds the lock together with the manager. */
START_TEST(test_lock_lasts_until_an_heir_of_it_ends)
{
    struct holder *h = support_shared(sizeof(*h));
    struct err_text why = {""};
    int fd, again = -1;
    pid_t other;
    support_channel(&h->ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(channel_lock(&h->ch, 4711, 0, &fd, &other, &why), ERR_OK);
    pid_t heir = support_fork(wait_for_release, h);
    ck_assert(UNTIL(h->holds));
    close(fd);
    ck_assert_int_eq(channel_lock(&h->ch, getpid(), 0, &again, &other, &why),
                     ERR_BUSY);
    ck_assert_int_eq(other, 4711);
    support_kill(heir);
    ck_assert_int_eq(channel_lock(&h->ch, getpid(), 0, &again, &other, &why),
                     ERR_OK);
    close(again);
    channel_close(&h->ch);
}
END_TEST

START_TEST(test_lock_of_a_removed_folder_fails)
{
    struct channel ch, same;
    struct err_text why = {""};
    int fd, late = -1;
    pid_t other;
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(channel_create(&same, ch.dir, CHANNEL_NO_GROUP, &why),
                     ERR_OK);
    ck_assert_int_eq(channel_lock(&ch, getpid(), 0, &fd, &other, &why), ERR_OK);
    channel_remove(&ch);
    close(fd);
    int before = support_count_fds();
    ck_assert_int_ne(channel_lock(&same, getpid(), 50, &late, &other, &why),
                     ERR_OK);
    ck_assert_ptr_nonnull(strstr(why.text, "lock"));
    ck_assert_int_eq(support_count_fds(), before);
    channel_close(&ch);
    channel_close(&same);
}
END_TEST

/* A looker (mqstat) must not make a manager's start fail. */
START_TEST(test_looking_at_the_lock_takes_it_from_nobody)
{
    struct channel ch;
    struct err_text why = {""};
    int fd;
    pid_t other;
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(channel_lock(&ch, getpid(), 0, &fd, &other, &why), ERR_OK);
    close(fd);
    /* A looker in the middle of looking. */
    int looker = openat(ch.dirfd, "lock", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(flock(looker, LOCK_SH | LOCK_NB), 0);
    struct holder *h = support_shared(sizeof(*h));
    h->ch = ch;
    ck_assert_int_eq(channel_lock(&ch, getpid(), 20, &fd, &other, &why),
                     ERR_BUSY);
    close(looker);
    ck_assert_int_eq(channel_lock(&ch, getpid(), 20, &fd, &other, &why),
                     ERR_OK);
    close(fd);
    channel_close(&ch);
}
END_TEST

struct contest {
    struct channel ch;
    _Atomic int inside, clashes, rounds;
};

static void contend(void *arg)
{
    struct contest *c = arg;
    struct err_text why;
    for (int i = 0; i < 40; i++) {
        int fd;
        pid_t other;
        enum err e = channel_lock(&c->ch, getpid(), (int)support_wait_ms(), &fd,
                                  &other, &why);
        CHILD_REQUIRE(e == ERR_OK);
        if (atomic_fetch_add(&c->inside, 1) != 0)
            c->clashes++;
        c->rounds++;
        /* Some end in good order, and take the name with them. */
        atomic_fetch_sub(&c->inside, 1);
        if (i % 2 == 0)
            unlinkat(c->ch.dirfd, "lock", 0);
        close(fd);
    }
}

START_TEST(test_lock_has_one_holder_though_its_name_comes_and_goes)
{
    enum { N = 4 };
    struct contest *c = support_shared(sizeof(*c));
    pid_t pids[N];
    support_channel(&c->ch, CHANNEL_NO_GROUP);
    for (int i = 0; i < N; i++)
        pids[i] = support_fork(contend, c);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
    ck_assert_int_eq(c->clashes, 0);
    ck_assert_int_eq(c->rounds, N * 40);
    channel_close(&c->ch);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("channel_lock");
    TCase *t = support_case(s, "lock", 60);
    tcase_add_test(t, test_lock_names_its_holder_and_ends_with_it);
    tcase_add_test(t, test_lock_waits_for_a_holder_that_ends);
    tcase_add_test(t, test_lock_lasts_until_an_heir_of_it_ends);
    tcase_add_test(t, test_lock_of_a_removed_folder_fails);
    tcase_add_test(t, test_looking_at_the_lock_takes_it_from_nobody);
    tcase_add_test(t, test_lock_has_one_holder_though_its_name_comes_and_goes);
    return support_run(s);
}
