/* Members of a channel's group against the manager and one another, as the
 * users they are: what they can't do, and what they can all the same, for a
 * page that is to be believed must tell that, too. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_group.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

#define TIMEOUT_MS 20000
#define PING "*1\r\n$4\r\nPING\r\n"
#define PING_LEN (sizeof(PING) - 1)

static struct e2e_client client;
static struct e2e_call call;

/* What a process in another role has to know. */
struct shared {
    char pipe[ONESHOT_NAME_MAX];
    uint64_t client, slot;
    pid_t pid;
    _Atomic int stage;
};
static struct shared *shared;

static void join(void)
{
    CHILD_REQUIRE(e2e_client_open(&client, group_channel()) == ERR_OK);
}

static void ask_ping(void)
{
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "PING") == E2E_OK);
    CHILD_REQUIRE(e2e_is(&call, "+PONG\r\n"));
}

static void ask_once(void)
{
    join();
    ask_ping();
    e2e_client_close(&client);
}

/* ---- the manager's process ---- */

static bool hidden(pid_t pid, const char *what)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EACCES || errno == ENOENT || errno == EPERM);
}

static void reach_for_the_manager(void)
{
    pid_t pid = group_manager()->pid;
    char byte;
    struct iovec mine = {&byte, 1}, theirs = {&byte, 1};
    CHILD_REQUIRE(kill(pid, SIGTERM) < 0 && errno == EPERM);
    CHILD_REQUIRE(kill(pid, SIGSTOP) < 0 && errno == EPERM);
    CHILD_REQUIRE(ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0);
    CHILD_REQUIRE(process_vm_readv(pid, &mine, 1, &theirs, 1, 0) < 0);
    CHILD_REQUIRE(hidden(pid, "mem") && hidden(pid, "environ") &&
                  hidden(pid, "maps") && hidden(pid, "fd/0"));
    /* Its files can be read, not held: no lock or lease of ours is in the way
     * of anybody. */
    int fd = open(group_path(".", "status"), O_RDONLY | O_CLOEXEC);
    CHILD_REQUIRE(fd >= 0);
    CHILD_REQUIRE(fcntl(fd, F_SETLEASE, F_RDLCK) < 0);
    CHILD_REQUIRE(flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHILD_REQUIRE(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
                  MAP_FAILED);
    join();
    CHILD_REQUIRE(fcntl(client.tx.senders_fd, F_SETPIPE_SZ, 4096) >= 0 ||
                  errno == EBUSY || errno == EPERM);
    /* Being told of messages (mq_notify) takes none from the manager. */
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    mq_notify(client.tx.mq, &none);
    ask_ping();
    CHILD_REQUIRE(mq_receive(client.tx.mq, client.message, 8192, NULL) < 0);
    e2e_client_close(&client);
}

START_TEST(test_member_can_not_reach_the_managers_process)
{
    if (!group_can("member_can_not_reach_the_managers_process"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, reach_for_the_manager), 0);
    ck_assert_int_eq(group_as(GROUP_ALICE, true, ask_once), 0);
    group_stop();
}
END_TEST

/* ---- what other members can be seen of ---- */

/* The state tells pids and names of commands, and nothing that opens a door. */
static void look_at_the_state(void)
{
    static char bytes[1 << 20];
    int fd = open(group_path(".", "status"), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));
    CHILD_REQUIRE(n > 0);
    close(fd);
    CHILD_REQUIRE(memmem(bytes, (size_t)n, "ECHO", 4) != NULL);
    CHILD_REQUIRE(memmem(bytes, (size_t)n, "confidential", 12) == NULL);
    CHILD_REQUIRE(memmem(bytes, (size_t)n, &shared->client, 8) == NULL);
}

static void ask_confidentially(void)
{
    join();
    shared->client = client.pool.client;
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "ECHO confidential") ==
                  E2E_OK);
    shared->stage = 1;
    for (;;)
        pause();
}

START_TEST(test_member_sees_command_names_of_others)
{
    if (!group_can("member_sees_command_names_of_others"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t alice = group_fork_as(GROUP_ALICE, true, ask_confidentially);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert_int_eq(group_as(GROUP_BOB, true, look_at_the_state), 0);
    support_kill(alice);
    group_stop();
}
END_TEST

/* ---- processes of one user ---- */

static void wait_for_an_answer(void)
{
    join();
    CHILD_REQUIRE(e2e_begin(&client, &call, 1, PING, PING_LEN, TIMEOUT_MS) ==
                  ERR_OK);
    oneshot_name(shared->pipe, client.pool.client, call.slot.slot);
    shared->client = client.pool.client;
    shared->slot = call.slot.slot;
    shared->pid = getpid();
    prctl(PR_SET_DUMPABLE,
          1); /* as after a login: a change of user clears it */
    shared->stage = 1;
    CHILD_REQUIRE(UNTIL(shared->stage == 2));
    CHILD_REQUIRE(e2e_send(&client, &call) == ERR_OK);
    shared->stage = e2e_finish(&client, &call) == E2E_OK ? 3 : 4;
}

/* Found without being told: by what /proc shows to one's own user. */
static void write_into_a_siblings_pipe(void)
{
    char path[400], target[400];
    bool found = false;
    for (int fd = 3; fd < 64 && !found; fd++) {
        snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)shared->pid, fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strstr(target, "/reply/") != NULL;
    }
    CHILD_REQUIRE(found);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    CHILD_REQUIRE(fd >= 0 && write(fd, "forged", 6) == 6);
    shared->stage = 2;
}

/* Between processes of one user there is no wall, here as everywhere. */
START_TEST(test_processes_of_one_user_are_not_kept_apart)
{
    if (!group_can("processes_of_one_user_are_not_kept_apart"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t alice = group_fork_as(GROUP_ALICE, true, wait_for_an_answer);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert_int_eq(group_as(GROUP_ALICE, true, write_into_a_siblings_pipe),
                     0);
    ck_assert_int_eq(support_join(alice), 0);
    ck_assert_int_eq(shared->stage, 4); /* noticed, not believed */
    group_stop();
}
END_TEST

/* ---- a client id that became known ---- */

/* Bob names Alice's pipe in a request of his. */
static void answer_to_alices_pipe(void)
{
    join();
    CHILD_REQUIRE(e2e_begin(&client, &call, 1, PING, PING_LEN, TIMEOUT_MS) ==
                  ERR_OK);
    call.header.client = shared->client;
    call.header.slot = shared->slot;
    CHILD_REQUIRE(e2e_send(&client, &call) == ERR_OK);
    e2e_forget(&client, &call);
    ask_ping();
    shared->stage = 2;
}

START_TEST(test_known_client_id_spoils_and_forges_nothing)
{
    if (!group_can("known_client_id_spoils_and_forges_nothing"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t alice = group_fork_as(GROUP_ALICE, true, wait_for_an_answer);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert_int_eq(group_as(GROUP_BOB, true, answer_to_alices_pipe), 0);
    ck_assert_int_eq(support_join(alice), 0);
    ck_assert_int_eq(shared->stage, 4);
    group_stop();
}
END_TEST

/* ---- holding things ---- */

static void hold_as_a_sender(void)
{
    join();
    ask_ping();
    shared->stage = 1;
    for (;;)
        pause();
}

/* A sender is who holds `senders`; a hostile one holds it for ever. */
START_TEST(test_member_keeps_the_channel_from_closing)
{
    if (!group_can("member_keeps_the_channel_from_closing"))
        return;
    group_start(GROUP_KEEPER, true, "--exit-when-closed");
    struct e2e_manager *m = group_manager();
    pid_t bob = group_fork_as(GROUP_BOB, true, hold_as_a_sender);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert_int_eq(group_as(GROUP_ALICE, true, ask_once), 0);
    kill(bob, SIGSTOP);
    support_sleep_ms(300);
    ck_assert_int_eq(kill(m->pid, 0), 0);
    ck_assert_int_ne(support_proc_state(m->pid), 'Z');
    support_kill(bob);
    ck_assert_int_eq(support_join(m->pid), 0);
}
END_TEST

/* SIGTERM does not wait for anybody's end. */
START_TEST(test_member_does_not_keep_the_manager_from_ending)
{
    if (!group_can("member_does_not_keep_the_manager_from_ending"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t bob = group_fork_as(GROUP_BOB, true, hold_as_a_sender);
    ck_assert(UNTIL(shared->stage == 1));
    kill(bob, SIGSTOP);
    group_stop();
    support_kill(bob);
}
END_TEST

/* Asleep on a full queue, and stopped there: holds no place in it. */
static void fill_the_queue(void)
{
    join();
    CHILD_REQUIRE(e2e_begin(&client, &call, 1, PING, PING_LEN, TIMEOUT_MS) ==
                  ERR_OK);
    memcpy(client.message, &call.header, sizeof(call.header));
    struct mq_attr attr;
    CHILD_REQUIRE(mq_getattr(client.tx.mq, &attr) == 0);
    for (;;) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 5;
        shared->stage = 1;
        mq_timedsend(client.tx.mq, client.message,
                     sizeof(call.header) + PING_LEN, 0, &soon);
    }
}

START_TEST(test_stopped_members_hold_up_nobody)
{
    enum { STOPPED = 8 };
    if (!group_can("stopped_members_hold_up_nobody"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t bobs[STOPPED];
    for (int i = 0; i < STOPPED; i++)
        bobs[i] = group_fork_as(GROUP_BOB, true, fill_the_queue);
    ck_assert(UNTIL(shared->stage == 1));
    support_sleep_ms(100);
    for (int i = 0; i < STOPPED; i++)
        kill(bobs[i], SIGSTOP);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(group_as(GROUP_ALICE, true, ask_once), 0);
    for (int i = 0; i < STOPPED; i++)
        support_kill(bobs[i]);
    group_stop();
}
END_TEST

/* ---- what is shared, and can be used up ---- */

static void block_for_ever(void)
{
    static struct e2e_call calls[4];
    char payload[64];
    join();
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "BLPOP none 0");
    for (int i = 0; i < 4; i++) {
        CHILD_REQUIRE(e2e_begin(&client, &calls[i], 1, payload, len, -1) ==
                      ERR_OK);
        CHILD_REQUIRE(e2e_send(&client, &calls[i]) == ERR_OK);
    }
    shared->stage = 1;
    for (;;)
        pause();
}

static void block_in_vain(void)
{
    join();
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "BLPOP other 0") ==
                  E2E_UNAVAILABLE);
    ask_ping();
    e2e_client_close(&client);
}

START_TEST(test_member_can_use_up_dedicated_connections)
{
    if (!group_can("member_can_use_up_dedicated_connections"))
        return;
    group_start(GROUP_KEEPER, true, "--dedicated-connections 4");
    struct e2e_manager *m = group_manager();
    pid_t bob = group_fork_as(GROUP_BOB, true, block_for_ever);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert(UNTIL(e2e_gauge(m, GAUGE_inflight) == 4));
    ck_assert_int_eq(group_as(GROUP_ALICE, true, block_in_vain), 0);
    support_kill(bob);
    ck_assert(UNTIL(e2e_gauge(m, GAUGE_inflight) == 0));
    group_stop();
}
END_TEST

/* A pid in a message is a claim. */
static void claim_to_be_init(void)
{
    join();
    CHILD_REQUIRE(e2e_begin(&client, &call, 1, PING, PING_LEN, TIMEOUT_MS) ==
                  ERR_OK);
    call.header.pid = 1;
    call.header.prev_rtt_us = 3600000000U; /* an hour */
    CHILD_REQUIRE(e2e_send(&client, &call) == ERR_OK);
    CHILD_REQUIRE(e2e_finish(&client, &call) == E2E_OK);
    shared->stage = 1;
    for (;;)
        pause();
}

START_TEST(test_a_pid_is_a_claim)
{
    if (!group_can("a_pid_is_a_claim"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    pid_t bob = group_fork_as(GROUP_BOB, true, claim_to_be_init);
    ck_assert(UNTIL(shared->stage == 1));
    bool claimed = false;
    for (size_t i = 0; i < STATUS_CLIENTS; i++) {
        struct client_row row;
        claimed |=
            status_client_read(&group_manager()->status->clients[i], &row) &&
            row.pid == 1;
    }
    ck_assert(claimed);
    ck_assert_double_gt(
        histogram_quantile(&group_manager()->status->times[TIME_round_trip],
                           1.0),
        60e9);
    support_kill(bob);
    group_stop();
}
END_TEST

/* What the manager's Redis user may do, members may, as far as nobody
 * narrows it. */
static void do_as_redis_lets(void)
{
    join();
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "SET k v") == E2E_OK);
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "FLUSHALL") == E2E_OK);
    e2e_client_close(&client);
}

static void do_as_denied(void)
{
    join();
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "SET k v") == E2E_OK);
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "FLUSHALL") ==
                  E2E_REFUSED);
    CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "CONFIG GET *") ==
                  E2E_REFUSED);
    e2e_client_close(&client);
}

START_TEST(test_member_may_do_what_redis_lets_the_manager_do)
{
    if (!group_can("member_may_do_what_redis_lets_the_manager_do"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(GROUP_BOB, true, do_as_redis_lets), 0);
    group_stop();
    group_start(GROUP_KEEPER, true, "--deny @dangerous,@admin");
    ck_assert_int_eq(group_as(GROUP_BOB, true, do_as_denied), 0);
    group_stop();
}
END_TEST

/* ---- root, and the owner ---- */

/* They may do everything; and can ask like everybody. */
static void read_others_requests(void)
{
    struct channel ch;
    struct err_text why;
    struct channel_queue q;
    CHILD_REQUIRE(channel_open(&ch, group_channel(), &why) == ERR_OK);
    CHILD_REQUIRE(channel_read_queue(&ch, &q) == ERR_OK);
    CHILD_REQUIRE(mq_open(q.name, O_RDWR | O_NONBLOCK) != (mqd_t)-1);
    int fd;
    CHILD_REQUIRE(channel_open_fifo(&ch, "control", O_WRONLY, &fd) == ERR_OK);
    channel_close(&ch);
    ask_once();
}

START_TEST(test_root_and_owner_may_do_everything)
{
    if (!group_can("root_and_owner_may_do_everything"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    ck_assert_int_eq(group_as(0, false, read_others_requests), 0);
    ck_assert_int_eq(group_as(GROUP_KEEPER, false, read_others_requests), 0);
    group_stop();
}
END_TEST

/* A worker that looks at the state maps the owner's file. */
static void look_until_it_ends(void)
{
    struct channel ch;
    struct err_text why;
    const struct status *status;
    struct manager_state state;
    CHILD_REQUIRE(channel_open(&ch, group_channel(), &why) == ERR_OK);
    CHILD_REQUIRE(status_open(&ch, &status, &why) == ERR_OK);
    shared->stage = 1;
    CHILD_REQUIRE(UNTIL(shared->stage == 2));
    CHILD_REQUIRE(status_read_state(status, &state, NULL) != ERR_OK);
}

static void cut_the_state(void)
{
    CHILD_REQUIRE(truncate(group_path(".", "status"), 0) == 0);
    shared->stage = 2;
}

START_TEST(test_owner_can_end_who_looks_at_the_state)
{
    if (SUPPORT_SANITIZED || !group_can("owner_can_end_who_looks"))
        return;
    group_start(GROUP_KEEPER, true, NULL);
    struct e2e_manager *m = group_manager();
    pid_t bob = group_fork_as(GROUP_BOB, true, look_until_it_ends);
    ck_assert(UNTIL(shared->stage == 1));
    ck_assert_int_eq(group_as(GROUP_KEEPER, false, cut_the_state), 0);
    ck_assert_int_eq(support_join(bob), 128 + SIGBUS);
    support_kill(m->pid); /* if it has not met the same end */
}
END_TEST

/* ---- the suite ---- */

static void fresh(void)
{
    shared = support_shared(sizeof(*shared));
}

static Suite *suite(void)
{
    Suite *s = suite_create("security_group");
    TCase *t = tcase_create("group");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, group_setup, group_teardown);
    tcase_add_checked_fixture(t, fresh, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_member_can_not_reach_the_managers_process);
    tcase_add_test(t, test_member_sees_command_names_of_others);
    tcase_add_test(t, test_processes_of_one_user_are_not_kept_apart);
    tcase_add_test(t, test_known_client_id_spoils_and_forges_nothing);
    tcase_add_test(t, test_member_keeps_the_channel_from_closing);
    tcase_add_test(t, test_member_does_not_keep_the_manager_from_ending);
    tcase_add_test(t, test_stopped_members_hold_up_nobody);
    tcase_add_test(t, test_member_can_use_up_dedicated_connections);
    tcase_add_test(t, test_a_pid_is_a_claim);
    tcase_add_test(t, test_member_may_do_what_redis_lets_the_manager_do);
    tcase_add_test(t, test_root_and_owner_may_do_everything);
    tcase_add_test(t, test_owner_can_end_who_looks_at_the_state);
    return s;
}

int main(void)
{
    return support_run(suite());
}
