/* Reply pipes between users: a member of the group gets its own reply and
 * cannot get at another's; root gets its reply on anybody's channel. */
#include "ipc/oneshot.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define CLIENT 0x0123456789abcdefULL

struct members {
    struct channel ch;
    struct channel_queue q;
    _Atomic uint64_t slot;
    _Atomic int ready, checked;
};

/* One member makes a pipe and waits for its reply. */
static void member_asks(void *arg)
{
    struct members *m = arg;
    struct channel mine;
    struct err_text why = {""};
    struct oneshot_pool pool;
    struct oneshot slot;
    char got[64];
    if (!support_become(65534, 65534))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(channel_open(&mine, m->ch.dir, &why) == ERR_OK);
    oneshot_pool_init(&pool, mine.reply_fd, mine.owner != mine.user, CLIENT);
    CHILD_REQUIRE(oneshot_acquire(&pool, &slot) == ERR_OK);
    m->slot = slot.slot;
    m->ready = 1;
    CHILD_REQUIRE(UNTIL(read(slot.fd, got, sizeof(got)) > 0));
}

/* Another member tries to get at it, even knowing its name. */
static void member_pries(void *arg)
{
    struct members *m = arg;
    struct channel mine;
    struct err_text why = {""};
    char name[ONESHOT_NAME_MAX];
    int fd;
    if (!support_become(65533, 65534))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(channel_open(&mine, m->ch.dir, &why) == ERR_OK);
    oneshot_name(name, CLIENT, m->slot);
    CHILD_REQUIRE(oneshot_open(mine.reply_fd, CLIENT, m->slot, &fd) ==
                  ERR_DENIED);
    CHILD_REQUIRE(openat(mine.reply_fd, name, O_RDONLY | O_NONBLOCK) < 0);
    CHILD_REQUIRE(openat(mine.reply_fd, ".", O_RDONLY | O_DIRECTORY) < 0);
    CHILD_REQUIRE(unlinkat(mine.reply_fd, name, 0) < 0);
    CHILD_REQUIRE(renameat(mine.reply_fd, name, mine.reply_fd, "x") < 0);
}

/* Creates a channel of root's, or of `owner`'s, in the working directory. */
static bool channel_for(struct members *m, gid_t group)
{
    struct err_text why = {""};
    ck_assert_int_eq(chdir(support_scratch()), 0);
    char name[64];
    snprintf(name, sizeof(name), "./%s", support_name());
    enum err e = channel_create(&m->ch, name, group, &why);
    return e == ERR_OK;
}

START_TEST(test_member_of_a_group_gets_its_reply_and_nobody_elses)
{
    struct members *m = support_shared(sizeof(*m));
    struct reply_chunk chunk = {.request = 1, .flags = REPLY_END};
    size_t written;
    int fd;
    if (!channel_for(m, 65534)) {
        support_skip("member_of_a_group", "may not give folders to a group");
        return;
    }
    pid_t asks = support_fork(member_asks, m);
    if (!UNTIL(m->ready || support_proc_state(asks) == 'Z') || !m->ready) {
        ck_assert_int_eq(support_join(asks), CHILD_CANNOT);
        support_skip("member_of_a_group", "cannot become another user");
        return;
    }
    ck_assert_int_eq(support_join(support_fork(member_pries, m)), 0);
    ck_assert_int_eq(oneshot_open(m->ch.reply_fd, CLIENT, m->slot, &fd),
                     ERR_OK);
    ck_assert_int_eq(oneshot_write(fd, &chunk, NULL, &written), ERR_OK);
    ck_assert_int_eq(support_join(asks), 0);
    close(fd);
    channel_remove(&m->ch);
    channel_close(&m->ch);
}
END_TEST

/* A manager that is another user, without any right of root's. */
static void other_user_serves(void *arg)
{
    struct members *m = arg;
    struct reply_chunk chunk = {.request = 1, .flags = REPLY_END};
    struct err_text why = {""};
    size_t written;
    int fd;
    if (!support_become(65534, 65534))
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(channel_create(&m->ch, "./place/of-another-user",
                                 CHANNEL_NO_GROUP, &why) == ERR_OK);
    m->ready = 1;
    CHILD_REQUIRE(UNTIL(m->checked));
    CHILD_REQUIRE(oneshot_open(m->ch.reply_fd, CLIENT, m->slot, &fd) == ERR_OK);
    CHILD_REQUIRE(oneshot_write(fd, &chunk, NULL, &written) == ERR_OK);
}

START_TEST(test_root_gets_its_reply_on_another_users_channel)
{
    struct members *m = support_shared(sizeof(*m));
    struct oneshot_pool pool;
    struct err_text why = {""};
    struct channel mine;
    char got[64];
    char dir[] = "/dev/shm/mqredis-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    /* A place that root made for that user, as /run/mqredis is. */
    bool given = chmod(dir, 0711) == 0 && mkdir("place", 0755) == 0 &&
                 chown("place", 65534, 65534) == 0;
    pid_t pid = support_fork(other_user_serves, m);
    if (!given || !UNTIL(m->ready || support_proc_state(pid) == 'Z') ||
        !m->ready) {
        support_kill(pid);
        support_remove(dir);
        support_skip("root_on_another_users_channel", "only root can try");
        return;
    }
    enum err e = channel_open(&mine, "./place/of-another-user", &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
    oneshot_pool_init(&pool, mine.reply_fd, mine.owner != mine.user, CLIENT);
    struct oneshot slot;
    ck_assert_int_eq(oneshot_acquire(&pool, &slot), ERR_OK);
    m->slot = slot.slot;
    m->checked = 1;
    int rc = support_join(pid);
    ssize_t n = read(slot.fd, got, sizeof(got));
    oneshot_abandon(&pool, &slot);
    channel_close(&mine);
    support_remove(dir);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n, (ssize_t)sizeof(struct reply_chunk));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("oneshot_users");
    TCase *t = support_case(s, "users", 60);
    tcase_add_test(t, test_member_of_a_group_gets_its_reply_and_nobody_elses);
    tcase_add_test(t, test_root_gets_its_reply_on_another_users_channel);
    return s;
}

int main(void)
{
    return support_run(suite());
}
