/* The queue behind the channel: kept across restarts, replaced when it does not
 * fit, lowered to what the kernel allows, and refused with the remedy. */
#include "ipc/mpsc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define MSGSIZE 256

static void start(struct mpsc_receiver *rx, const struct channel *ch,
                  long capacity, uint64_t epoch)
{
    struct mpsc_config config = {.capacity = capacity, .msgsize = MSGSIZE};
    struct err_text note, why = {""};
    enum err e = mpsc_create(rx, ch, &config, epoch, &note, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
}

static void end(struct mpsc_receiver *rx, struct channel *ch)
{
    mpsc_unlink(rx);
    mpsc_receiver_close(rx);
    channel_remove(ch);
    channel_close(ch);
}

static bool queue_exists(const char *name)
{
    mqd_t mq = mq_open(name, O_RDONLY);
    if (mq == (mqd_t)-1)
        return false;
    mq_close(mq);
    return true;
}

/* ---- across restarts ---- */

struct idler {
    struct channel ch;
    _Atomic int turn, done;
};

/* A worker process that holds what it has open, and joins again when the
 * receiver is another one. */
static void idle_worker(void *arg)
{
    struct idler *w = arg;
    struct mpsc_sender tx;
    struct err_text why;
    while (w->turn < 0)
        support_sleep_ms(1);
    CHILD_REQUIRE(mpsc_open(&tx, &w->ch, &why) == ERR_OK);
    w->done = 1;
    for (int turn = 1; turn <= 10; turn++) {
        while (w->turn < turn)
            support_sleep_ms(1);
        CHILD_REQUIRE(!mpsc_receiver_alive(&tx));
        CHILD_REQUIRE(mpsc_send(&tx, "x", 1, 0) == ERR_CLOSED);
        struct mpsc_sender fresh;
        CHILD_REQUIRE(mpsc_open(&fresh, &w->ch, &why) == ERR_OK);
        mpsc_sender_close(&tx);
        tx = fresh;
        CHILD_REQUIRE(mpsc_send(&tx, "hello", 5, 0) == ERR_OK);
        w->done = turn + 1;
    }
}

START_TEST(test_queue_is_kept_across_ten_restarts)
{
    struct idler *w = support_shared(sizeof(*w));
    struct mpsc_receiver rx;
    support_channel(&w->ch, CHANNEL_NO_GROUP);
    /* Forked first: an heir of the receiver's would keep it alive. */
    w->turn = -1;
    pid_t pid = support_fork(idle_worker, w);
    start(&rx, &w->ch, MPSC_CAPACITY, 1);
    ck_assert(!rx.reused);
    /* Room for this one queue and hardly more. */
    struct rlimit limit = {.rlim_cur = 20000, .rlim_max = 20000};
    ck_assert_int_eq(setrlimit(RLIMIT_MSGQUEUE, &limit), 0);
    char name[CHANNEL_QUEUE_NAME_MAX];
    memcpy(name, rx.queue, sizeof(name));
    w->turn = 0;
    ck_assert(UNTIL(w->done == 1));
    int fds = support_count_fds();
    for (int turn = 1; turn <= 10; turn++) {
        mpsc_receiver_close(&rx);
        start(&rx, &w->ch, MPSC_CAPACITY, (uint64_t)turn + 1);
        ck_assert(rx.reused);
        ck_assert_str_eq(rx.queue, name);
        ck_assert_int_eq(support_count_fds(), fds);
        w->turn = turn;
        ck_assert(UNTIL(w->done == turn + 1));
        char buf[MSGSIZE];
        size_t len;
        unsigned priority;
        ck_assert_int_eq(mpsc_receive_wait(&rx, buf, sizeof(buf),
                                           clock_deadline(support_wait_ms()),
                                           &len, &priority),
                         ERR_OK);
        ck_assert_uint_eq(len, 5);
    }
    ck_assert_int_eq(support_join(pid), 0);
    end(&rx, &w->ch);
}
END_TEST

START_TEST(test_messages_of_an_earlier_receiver_are_still_there)
{
    struct channel ch;
    struct mpsc_receiver rx;
    struct mpsc_sender tx;
    struct err_text why;
    support_channel(&ch, CHANNEL_NO_GROUP);
    start(&rx, &ch, 4, 1);
    ck_assert_int_eq(mpsc_open(&tx, &ch, &why), ERR_OK);
    ck_assert_int_eq(mpsc_send(&tx, "old", 3, 0), ERR_OK);
    mpsc_receiver_close(&rx);
    start(&rx, &ch, 4, 2);
    ck_assert_int_eq(mpsc_depth(&rx), 1);
    mpsc_sender_close(&tx);
    end(&rx, &ch);
}
END_TEST

/* A successor (--takeover) holds the same: senders notice nothing. */
START_TEST(test_successor_inherits_the_channel)
{
    struct channel ch;
    struct mpsc_receiver first, next;
    struct mpsc_sender tx;
    struct err_text why = {""};
    char buf[MSGSIZE];
    size_t len;
    unsigned priority;
    support_channel(&ch, CHANNEL_NO_GROUP);
    int fds = support_count_fds();
    ck_assert_int_eq(mpsc_inherit(&next, &ch, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, ch.name));
    ck_assert_int_eq(support_count_fds(), fds);
    start(&first, &ch, 4, 7);
    ck_assert_int_eq(mpsc_open(&tx, &ch, &why), ERR_OK);
    ck_assert_int_eq(mpsc_send(&tx, "a", 1, 0), ERR_OK);
    ck_assert_msg(mpsc_inherit(&next, &ch, &why) == ERR_OK, "%s", why.text);
    ck_assert_str_eq(next.queue, first.queue);
    ck_assert_uint_eq(next.epoch, 7);
    ck_assert_int_eq(next.capacity, 4);
    ck_assert_uint_eq(next.msgsize, MSGSIZE);
    mpsc_receiver_close(&first);
    ck_assert(mpsc_receiver_alive(&tx));
    ck_assert_int_eq(mpsc_send(&tx, "b", 1, 0), ERR_OK);
    for (int want = 'a'; want <= 'b'; want++) {
        ck_assert_int_eq(mpsc_receive(&next, buf, sizeof(buf), &len, &priority),
                         ERR_OK);
        ck_assert_int_eq(buf[0], want);
    }
    /* A sender that joined before the successor counts for it. */
    ck_assert(!mpsc_senders_gone(&next));
    mpsc_sender_close(&tx);
    ck_assert(UNTIL(mpsc_senders_gone(&next)));
    end(&next, &ch);
}
END_TEST

START_TEST(test_stale_queue_file_gives_way)
{
    static const char *const texts[] = {
        "/mqredis.gone.0123456789abcdef\n0123456789abcdef\n", "", "garbage",
        "/mqredis/below.0123456789abcdef\n0123456789abcdef\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct channel ch;
        struct mpsc_receiver rx;
        struct channel_queue q;
        support_channel(&ch, CHANNEL_NO_GROUP);
        int fd = openat(ch.dirfd, "queue", O_WRONLY | O_CREAT, 0600);
        ck_assert_int_eq(write(fd, texts[i], strlen(texts[i])),
                         (ssize_t)strlen(texts[i]));
        close(fd);
        start(&rx, &ch, 4, 9);
        ck_assert(!rx.reused);
        ck_assert_int_eq(channel_read_queue(&ch, &q), ERR_OK);
        ck_assert_str_eq(q.name, rx.queue);
        ck_assert_uint_eq(q.epoch, 9);
        end(&rx, &ch);
    }
}
END_TEST

START_TEST(test_queue_of_another_size_is_replaced)
{
    struct channel ch;
    struct mpsc_receiver rx;
    char old[CHANNEL_QUEUE_NAME_MAX];
    support_channel(&ch, CHANNEL_NO_GROUP);
    start(&rx, &ch, 3, 1);
    memcpy(old, rx.queue, sizeof(old));
    ck_assert(!mpsc_unlinked(&rx));
    struct mpsc_receiver first = rx;
    start(&rx, &ch, 4, 2);
    ck_assert(!rx.reused);
    ck_assert_int_eq(rx.capacity, 4);
    ck_assert_str_ne(rx.queue, old);
    ck_assert(!queue_exists(old));
    ck_assert(mpsc_unlinked(&first));
    ck_assert(!mpsc_unlinked(&rx));
    mpsc_receiver_close(&first);
    end(&rx, &ch);
}
END_TEST

START_TEST(test_unlinked_queue_is_noticed)
{
    struct channel ch;
    struct mpsc_receiver rx;
    support_channel(&ch, CHANNEL_NO_GROUP);
    start(&rx, &ch, 4, 1);
    ck_assert(!mpsc_unlinked(&rx));
    ck_assert_int_eq(mq_unlink(rx.queue), 0);
    ck_assert(mpsc_unlinked(&rx));
    end(&rx, &ch);
}
END_TEST

/* A queue that another user planted is neither used nor removed. */
START_TEST(test_queue_of_a_stranger_is_refused)
{
    struct channel ch;
    struct mpsc_receiver rx, planted;
    struct mpsc_sender tx;
    struct err_text why = {""};
    support_channel(&ch, CHANNEL_NO_GROUP);
    start(&planted, &ch, 4, 1);
    if (geteuid() != 0 || fchown(planted.mq, 65534, (gid_t)-1) < 0) {
        support_skip("queue_of_a_stranger", "may not give a queue away");
        end(&planted, &ch);
        return;
    }
    ck_assert_int_eq(mpsc_open(&tx, &ch, &why), ERR_DENIED);
    ck_assert_ptr_nonnull(strstr(why.text, "belongs to uid 65534"));
    mpsc_receiver_close(&planted);
    start(&rx, &ch, 4, 2);
    ck_assert(!rx.reused);
    ck_assert(queue_exists(planted.queue));
    ck_assert_int_eq(mq_unlink(planted.queue), 0);
    end(&rx, &ch);
}
END_TEST

/* ---- namespaces and limits ---- */

static void join_from_elsewhere(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_sender tx;
    struct err_text why = {""};
    if (unshare(CLONE_NEWIPC) < 0)
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(mpsc_open(&tx, ch, &why) == ERR_SYS);
    CHILD_REQUIRE(strstr(why.text, "different IPC namespaces") != NULL);
    CHILD_REQUIRE(strstr(why.text, ch->name) != NULL);
}

/* Runs a child which may say that it can't try. */
static void run(const char *name, void (*fn)(void *), void *arg)
{
    int rc = support_join(support_fork(fn, arg));
    if (rc == CHILD_CANNOT)
        support_skip(name, "no IPC namespace of one's own is allowed here");
    else
        ck_assert_int_eq(rc, 0);
}

START_TEST(test_other_ipc_namespace_is_named)
{
    struct channel ch;
    struct mpsc_receiver rx;
    support_channel(&ch, CHANNEL_NO_GROUP);
    start(&rx, &ch, 4, 1);
    run("other_ipc_namespace", join_from_elsewhere, &ch);
    end(&rx, &ch);
}
END_TEST

/* Sets a limit of the namespace that the caller has for itself. */
static void set_limit(const char *name, const char *value)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/sys/fs/mqueue/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        _exit(CHILD_CANNOT);
    close(fd);
}

static void lower_and_reuse(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_config config = {.capacity = 32, .msgsize = 512};
    struct mpsc_receiver rx;
    struct err_text note, why = {""};
    if (!support_fresh_ipc())
        _exit(CHILD_CANNOT);
    set_limit("msgsize_max", "256");
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        CHILD_REQUIRE(mpsc_create(&rx, ch, &config, epoch, &note, &why) ==
                      ERR_OK);
        CHILD_REQUIRE(rx.capacity == 10);
        CHILD_REQUIRE(rx.msgsize == 256);
        /* Both lowered, both said, at the first start and at the next. */
        CHILD_REQUIRE(strstr(note.text, "fs.mqueue.msg_max=32") != NULL);
        CHILD_REQUIRE(strstr(note.text, "--raise-msg-max") != NULL);
        CHILD_REQUIRE(strstr(note.text, "fs.mqueue.msgsize_max=512") != NULL);
        CHILD_REQUIRE(rx.reused == (epoch == 2));
        mpsc_receiver_close(&rx);
    }
    /* Asked for by hand it is no longer the same wish. */
    config.capacity_exact = true;
    CHILD_REQUIRE(mpsc_create(&rx, ch, &config, 3, &note, &why) == ERR_INVALID);
    CHILD_REQUIRE(note.text[0] == '\0');
}

START_TEST(test_default_capacity_is_lowered_and_said)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    run("default_capacity_is_lowered", lower_and_reuse, &ch);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static void ask_for_exactly(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_receiver rx;
    struct err_text note, why = {""};
    struct mpsc_config capacity = {
        .capacity = 32, .msgsize = 1024, .capacity_exact = true};
    struct mpsc_config msgsize = {
        .capacity = 4, .msgsize = 8193, .msgsize_exact = true};
    struct mpsc_config nonsense = {.capacity = 0, .msgsize = 1024};
    if (!support_fresh_ipc())
        _exit(CHILD_CANNOT);
    int fds = support_count_fds();
    CHILD_REQUIRE(mpsc_create(&rx, ch, &capacity, 1, &note, &why) ==
                  ERR_INVALID);
    CHILD_REQUIRE(strstr(why.text, "32 messages") != NULL);
    CHILD_REQUIRE(strstr(why.text, "sysctl -w fs.mqueue.msg_max=32") != NULL);
    CHILD_REQUIRE(mpsc_create(&rx, ch, &msgsize, 1, &note, &why) ==
                  ERR_INVALID);
    CHILD_REQUIRE(strstr(why.text, "fs.mqueue.msgsize_max=8193") != NULL);
    CHILD_REQUIRE(mpsc_create(&rx, ch, &nonsense, 1, &note, &why) ==
                  ERR_INVALID);
    CHILD_REQUIRE(support_count_fds() == fds);
    capacity.capacity = 10;
    CHILD_REQUIRE(mpsc_create(&rx, ch, &capacity, 1, &note, &why) == ERR_OK);
    CHILD_REQUIRE(rx.capacity == 10 && note.text[0] == '\0');
}

START_TEST(test_exact_capacity_is_granted_or_an_error)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    run("exact_capacity", ask_for_exactly, &ch);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static void use_up_budget(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_config config = {.capacity = 10, .msgsize = 8192};
    struct mpsc_receiver rx;
    struct err_text note, why = {""};
    struct rlimit limit = {.rlim_cur = 1000, .rlim_max = 1000};
    if (!support_fresh_ipc())
        _exit(CHILD_CANNOT);
    CHILD_REQUIRE(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
    CHILD_REQUIRE(mpsc_create(&rx, ch, &config, 1, &note, &why) == ERR_LIMIT);
    CHILD_REQUIRE(strstr(why.text, "RLIMIT_MSGQUEUE") != NULL);
    CHILD_REQUIRE(strstr(why.text, "10 x 8192") != NULL);
    CHILD_REQUIRE(faccessat(ch->dirfd, "receiver", F_OK, 0) < 0);
}

START_TEST(test_users_budget_has_its_own_message)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    run("users_budget", use_up_budget, &ch);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static void use_up_namespace(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_config config = {.capacity = 2, .msgsize = 256};
    struct mpsc_receiver rx;
    struct err_text note, why = {""};
    if (!support_fresh_ipc())
        _exit(CHILD_CANNOT);
    set_limit("queues_max", "1");
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 16};
    CHILD_REQUIRE(mq_open("/other", O_RDWR | O_CREAT, 0600, &attr) != -1);
    CHILD_REQUIRE(mpsc_create(&rx, ch, &config, 1, &note, &why) == ERR_LIMIT);
    CHILD_REQUIRE(strstr(why.text, "fs.mqueue.queues_max = 1 ") != NULL);
}

START_TEST(test_namespaces_budget_has_its_own_message)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    run("namespaces_budget", use_up_namespace, &ch);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

static void run_out_of_descriptors(void *arg)
{
    const struct channel *ch = arg;
    struct mpsc_config config = {.capacity = 2, .msgsize = 256};
    struct err_text note, why = {""};
    int used = support_count_fds(), made = 0;
    /* Every number of descriptors up to enough: an error each, none leaks. */
    for (int more = 0; more < 8; more++) {
        struct mpsc_receiver rx;
        struct rlimit limit = {.rlim_cur = (rlim_t)(used + more),
                               .rlim_max = 1024};
        CHILD_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        enum err e = mpsc_create(&rx, ch, &config, 1, &note, &why);
        limit.rlim_cur = 1024;
        CHILD_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        if (e == ERR_OK) {
            mpsc_unlink(&rx);
            mpsc_receiver_close(&rx);
            made++;
        } else {
            CHILD_REQUIRE(why.text[0] != '\0');
        }
        CHILD_REQUIRE(support_count_fds() == used);
    }
    CHILD_REQUIRE(made > 0 && made < 8);
}

START_TEST(test_out_of_descriptors_leaks_nothing)
{
    struct channel ch;
    support_channel(&ch, CHANNEL_NO_GROUP);
    ck_assert_int_eq(support_join(support_fork(run_out_of_descriptors, &ch)),
                     0);
    channel_remove(&ch);
    channel_close(&ch);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mpsc_queue");
    TCase *t = support_case(s, "queue", 60);
    tcase_add_test(t, test_queue_is_kept_across_ten_restarts);
    tcase_add_test(t, test_messages_of_an_earlier_receiver_are_still_there);
    tcase_add_test(t, test_successor_inherits_the_channel);
    tcase_add_test(t, test_stale_queue_file_gives_way);
    tcase_add_test(t, test_queue_of_another_size_is_replaced);
    tcase_add_test(t, test_unlinked_queue_is_noticed);
    tcase_add_test(t, test_queue_of_a_stranger_is_refused);
    tcase_add_test(t, test_other_ipc_namespace_is_named);
    tcase_add_test(t, test_default_capacity_is_lowered_and_said);
    tcase_add_test(t, test_exact_capacity_is_granted_or_an_error);
    tcase_add_test(t, test_users_budget_has_its_own_message);
    tcase_add_test(t, test_namespaces_budget_has_its_own_message);
    tcase_add_test(t, test_out_of_descriptors_leaks_nothing);
    return support_run(s);
}
