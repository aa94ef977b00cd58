/* One manager replaces another: nobody's request fails, whoever of the two is
 * killed on the way. */
#include "tests/e2e.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000
#define WORKERS 8
#define TAKEOVERS 10

static struct e2e_redis redis;
static struct e2e_manager old, new;

/* The successor becomes "the old one". */
static void step_up(void)
{
    ck_assert_msg(support_join(old.pid) == 0, "%s", e2e_log(&old));
    old = new;
}

/* ---- under load ---- */

struct load {
    char channel[48];
    int number;
    _Atomic bool stop;
    _Atomic uint64_t done;
};

/* Writes values that carry its name and number, and checks each. */
static void work(void *arg)
{
    struct load *l = arg;
    struct e2e_client client;
    struct e2e_call call = {0};
    CHILD_REQUIRE(e2e_client_open(&client, l->channel) == ERR_OK);
    for (unsigned i = 0; !l->stop; i++) {
        char want[64];
        CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "SET key:%d v%d.%u",
                              l->number, l->number, i) == E2E_OK);
        CHILD_REQUIRE(e2e_is(&call, "+OK\r\n"));
        CHILD_REQUIRE(e2e_ask(&client, &call, TIMEOUT_MS, "GET key:%d",
                              l->number) == E2E_OK);
        char value[32];
        int n = snprintf(value, sizeof(value), "v%d.%u", l->number, i);
        snprintf(want, sizeof(want), "$%d\r\n%s\r\n", n, value);
        CHILD_REQUIRE(e2e_is(&call, want));
        l->done++;
    }
    e2e_forget(&client, &call);
    e2e_client_close(&client);
}

START_TEST(test_ten_takeovers_under_load)
{
    struct load *loads = support_shared(WORKERS * sizeof(*loads));
    pid_t pids[WORKERS];
    uint64_t total = 0;
    e2e_start(&redis, &old, _i, NULL);
    for (int i = 0; i < WORKERS; i++) {
        loads[i].number = i;
        snprintf(loads[i].channel, sizeof(loads[i].channel), "%s", old.channel);
        pids[i] = support_fork(work, &loads[i]);
    }
    uint64_t t0 = clock_ns();
    for (int i = 0; i < TAKEOVERS; i++) {
        uint64_t before = loads[0].done;
        ck_assert(UNTIL(loads[0].done > before + 10));
        e2e_manager_start(&new, old.channel, e2e_uri(&redis), "--takeover");
        step_up();
    }
    double s = (double)(clock_ns() - t0) / 1e9;
    for (int i = 0; i < WORKERS; i++) {
        loads[i].stop = true;
        ck_assert_int_eq(support_join(pids[i]), 0);
        total += loads[i].done * 2;
    }
    ck_assert(UNTIL(e2e_balanced(&old)));
    e2e_figure(_i,
               "%d takeovers in %.1f s under %d workers: %llu commands, "
               "none failed",
               TAKEOVERS, s, WORKERS, (unsigned long long)total);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* ---- alone ---- */

START_TEST(test_a_second_manager_is_refused_with_the_pid)
{
    struct e2e_output out;
    char pid[32];
    e2e_start(&redis, &old, _i, NULL);
    const char *const argv[] = {"mqredis-manager", "--channel",     old.channel,
                                "--redis",         e2e_uri(&redis), NULL};
    e2e_run(&out, argv);
    snprintf(pid, sizeof(pid), "pid %ld", (long)old.pid);
    ck_assert_int_eq(out.status, 75);
    ck_assert_ptr_nonnull(strstr(out.text, pid));
    ck_assert_uint_eq(e2e_lines(out.text), 1);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

START_TEST(test_takeover_of_nobody_is_a_start)
{
    struct e2e_client client;
    struct e2e_call call = {0};
    e2e_start(&redis, &old, _i, "--takeover");
    ck_assert_int_eq(e2e_client_open(&client, old.channel), ERR_OK);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

START_TEST(test_a_successor_without_redis_leaves_the_old_one)
{
    struct e2e_output out;
    struct e2e_client client;
    struct e2e_call call = {0};
    e2e_start(&redis, &old, _i, NULL);
    const char *const argv[] = {"mqredis-manager",
                                "--channel",
                                old.channel,
                                "--redis",
                                "redis://127.0.0.1:1",
                                "--takeover",
                                "--connect-timeout",
                                "300",
                                NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 69);
    ck_assert_ptr_nonnull(strstr(out.text, "the old manager goes on"));
    ck_assert_int_eq(e2e_client_open(&client, old.channel), ERR_OK);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

#define GROUP 1 /* any but our own */

/* False: nothing can be given to it here. */
static bool group_is_known(void)
{
    int fd = open(support_path("given"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    bool given = fchown(fd, (uid_t)-1, GROUP) == 0;
    close(fd);
    if (!given)
        support_skip("--group", "takes root who may give files away");
    return given;
}

static void look_at_modes(const struct e2e_manager *m, mode_t modes[3],
                          gid_t *group)
{
    static const char *const entries[] = {"", "reply", "payload"};
    for (int i = 0; i < 3; i++) {
        char path[256];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s/%s", support_scratch(), m->channel,
                 entries[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        modes[i] = st.st_mode & 07777;
        if (i == 0)
            *group = st.st_gid;
    }
}

/* Members may go on sending to a successor with other options. */
START_TEST(test_the_group_stays)
{
    mode_t before[3], after[3];
    gid_t group, then;
    char option[32];
    if (!group_is_known())
        return;
    snprintf(option, sizeof(option), "--group %d", GROUP);
    e2e_start(&redis, &old, _i, option);
    look_at_modes(&old, before, &group);
    ck_assert_int_eq(before[0], 0710);
    e2e_manager_start(&new, old.channel, e2e_uri(&redis), "--takeover");
    step_up();
    look_at_modes(&old, after, &then);
    ck_assert_mem_eq(before, after, sizeof(before));
    ck_assert_uint_eq(group, then);
    struct stat st;
    char path[256];
    snprintf(path, sizeof(path), "%s/%s/status", support_scratch(),
             old.channel);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* Nor is a channel opened to others that was its owner's alone. */
START_TEST(test_no_group_comes)
{
    mode_t before[3], after[3];
    gid_t group, then;
    char option[48];
    if (!group_is_known())
        return;
    snprintf(option, sizeof(option), "--takeover --group %d", GROUP);
    e2e_start(&redis, &old, _i, NULL);
    look_at_modes(&old, before, &group);
    ck_assert_int_eq(before[0], 0700);
    e2e_manager_start(&new, old.channel, e2e_uri(&redis), option);
    ck_assert(e2e_logged(&new, "--group is not obeyed"));
    step_up();
    look_at_modes(&old, after, &then);
    ck_assert_mem_eq(before, after, sizeof(before));
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* A command that blocks stays with the old manager until it is answered. */
START_TEST(test_a_blocked_command_survives)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &old, _i, NULL);
    e2e_actor_start(a, old.channel, TIMEOUT_MS, "BLPOP list 0");
    ck_assert(UNTIL(e2e_gauge(&old, GAUGE_inflight) == 1));
    e2e_manager_start(&new, old.channel, e2e_uri(&redis), "--takeover");
    ck_assert_int_eq(e2e_redis_integer(&redis, "RPUSH list element"), 1);
    ck_assert(e2e_actor_reaches(a, E2E_DONE));
    ck_assert_int_eq(a->end, E2E_OK);
    ck_assert_ptr_nonnull(strstr(a->data, "element"));
    step_up();
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* ---- killed on the way ---- */

/* Waits until `count` successors have asked: their lines lie in the control
 * FIFO of an old manager that is stopped. */
static void wait_until_asked(const struct e2e_manager *m, int count)
{
    const int line = (int)strlen("takeover 1\n");
    struct channel ch;
    struct err_text why;
    int fd, bytes = 0;
    ck_assert_int_eq(channel_open(&ch, m->channel, &why), ERR_OK);
    ck_assert_int_eq(channel_open_fifo(&ch, "control", O_RDONLY, &fd), ERR_OK);
    ck_assert(UNTIL(ioctl(fd, FIONREAD, &bytes) == 0 && bytes / line >= count));
    close(fd);
    channel_close(&ch);
}

static void check_serves(const struct e2e_manager *m)
{
    struct e2e_client client;
    struct e2e_call call = {0};
    ck_assert_int_eq(e2e_client_open(&client, m->channel), ERR_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    e2e_forget(&client, &call);
    e2e_client_close(&client);
}

/* In flight with the old one: lost. The new one starts afresh. */
START_TEST(test_the_old_one_is_killed)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_start(&redis, &old, _i, NULL);
    /* A sender that stays, so that the channel does, too. */
    struct e2e_client idle;
    ck_assert_int_eq(e2e_client_open(&idle, old.channel), ERR_OK);
    e2e_actor_start(a, old.channel, TIMEOUT_MS, "BLPOP list 0");
    ck_assert(UNTIL(e2e_gauge(&old, GAUGE_inflight) == 1));
    kill(old.pid, SIGSTOP);
    e2e_manager_launch(&new, old.channel, e2e_uri(&redis), "--takeover");
    wait_until_asked(&old, 1);
    e2e_manager_kill(&old);
    ck_assert(e2e_actor_reaches(a, E2E_DONE));
    ck_assert_int_eq(a->end, E2E_LOST);
    e2e_manager_ready(&new);
    check_serves(&new);
    e2e_client_close(&idle);
    ck_assert_int_eq(e2e_manager_stop(&new), 0);
}
END_TEST

START_TEST(test_the_new_one_is_killed)
{
    e2e_start(&redis, &old, _i, NULL);
    kill(old.pid, SIGSTOP);
    e2e_manager_launch(&new, old.channel, e2e_uri(&redis), "--takeover");
    wait_until_asked(&old, 1);
    e2e_manager_kill(&new);
    kill(old.pid, SIGCONT);
    check_serves(&old);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* The new one is killed while the old one still answers what it took: a write,
 * which Redis holds back while it lets the new one log in. */
START_TEST(test_the_new_one_is_killed_while_the_old_one_drains)
{
    struct e2e_actor *a = support_shared(sizeof(*a));
    if (_i != E2E_REDIS)
        return; /* mqredis-server has no CLIENT PAUSE */
    e2e_start(&redis, &old, _i, NULL);
    ck_assert_str_eq(e2e_redis_ask(&redis, "CLIENT PAUSE 60000 WRITE"),
                     "+OK\r\n");
    e2e_actor_start(a, old.channel, 3 * TIMEOUT_MS, "SET key value");
    ck_assert(UNTIL(e2e_gauge(&old, GAUGE_inflight) == 1));
    e2e_manager_launch(&new, old.channel, e2e_uri(&redis), "--takeover");
    ck_assert(UNTIL(strstr(e2e_log(&old), "handing over") != NULL));
    e2e_manager_kill(&new);
    ck_assert(UNTIL(strstr(e2e_log(&old), "going on") != NULL));
    ck_assert_str_eq(e2e_redis_ask(&redis, "CLIENT UNPAUSE"), "+OK\r\n");
    ck_assert(e2e_actor_reaches(a, E2E_DONE));
    ck_assert_int_eq(a->end, E2E_OK);
    check_serves(&old);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

static void sleep_only(void *arg)
{
    (void)arg;
    for (;;)
        pause();
}

/* A successor that has made the channel its own, as far as a full disk let it,
 * and died: nobody would find the old one any more where it is. */
START_TEST(test_the_new_one_dies_after_it_changed_the_channel)
{
    char line[40], path[256], made[264];
    struct manager_state state;
    e2e_start(&redis, &old, _i, NULL);
    pid_t pid = support_fork(sleep_only, NULL);
    snprintf(path, sizeof(path), "%s/%s/control", support_scratch(),
             old.channel);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    int n = snprintf(line, sizeof(line), "takeover %ld\n", (long)pid);
    ck_assert_int_eq(write(fd, line, (size_t)n), n);
    close(fd);
    ck_assert(UNTIL(status_read_state(old.status, &state, NULL) == ERR_OK &&
                    state.kind == STATE_CLOSED));
    snprintf(path, sizeof(path), "%s/%s/receiver", support_scratch(),
             old.channel);
    snprintf(made, sizeof(made), "%s.new", path);
    ck_assert_int_eq(mkfifo(made, 0600), 0);
    ck_assert_int_eq(rename(made, path), 0);
    support_kill(pid);
    ck_assert(UNTIL(strstr(e2e_log(&old), "starting afresh") != NULL));
    struct e2e_client client;
    ck_assert(UNTIL(e2e_client_open(&client, old.channel) == ERR_OK));
    e2e_client_close(&client);
    check_serves(&old);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

static bool is_shown(const struct e2e_manager *m)
{
    struct channel ch;
    struct err_text why;
    struct manager_state state;
    const struct status *status;
    ck_assert_int_eq(channel_open(&ch, m->channel, &why), ERR_OK);
    ck_assert_msg(status_open(&ch, &status, &why) == ERR_OK, "%s", why.text);
    bool is = status_read_state(status, &state, NULL) == ERR_OK &&
              state.pid == (int32_t)m->pid && state.kind == STATE_CONNECTED;
    status_unmap(status);
    channel_close(&ch);
    return is;
}

/* What is left of starts that came to nothing. */
static int unshown(const struct e2e_manager *m)
{
    char path[256];
    int count = 0;
    snprintf(path, sizeof(path), "%s/%s", support_scratch(), m->channel);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *d; (d = readdir(dir)) != NULL;)
        count += strncmp(d->d_name, CHANNEL_UNSHOWN, 7) == 0;
    closedir(dir);
    return count;
}

/* One of them has it; the other one says whose it is, and the state that is
 * shown is that of who serves. */
START_TEST(test_two_at_once)
{
    struct e2e_manager other;
    char taken[80];
    e2e_start(&redis, &old, _i, NULL);
    kill(old.pid, SIGSTOP);
    e2e_manager_launch(&new, old.channel, e2e_uri(&redis), "--takeover");
    wait_until_asked(&old, 1);
    e2e_manager_launch(&other, old.channel, e2e_uri(&redis), "--takeover");
    wait_until_asked(&old, 2);
    kill(old.pid, SIGCONT);
    ck_assert(UNTIL(e2e_logged(&new, "took the channel first") ||
                    e2e_logged(&other, "took the channel first")));
    bool lost = e2e_logged(&new, "took the channel first");
    struct e2e_manager *loser = lost ? &new : &other;
    struct e2e_manager *winner = lost ? &other : &new;
    snprintf(taken, sizeof(taken), "takeover: pid %ld took the channel first",
             (long)winner->pid);
    ck_assert_int_eq(support_join(loser->pid), 75);
    ck_assert_msg(e2e_logged(loser, taken), "%s", e2e_log(loser));
    e2e_manager_ready(winner);
    new = *winner;
    step_up();
    ck_assert(UNTIL(is_shown(&old)));
    check_serves(&old);
    ck_assert_int_eq(unshown(&old), 0);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
}
END_TEST

/* What a successor made that was killed before it served is removed by the
 * next one, and with the channel. */
START_TEST(test_a_killed_one_leaves_no_state)
{
    e2e_start(&redis, &old, _i, NULL);
    kill(old.pid, SIGSTOP);
    for (int i = 0; i < 3; i++) {
        e2e_manager_launch(&new, old.channel, e2e_uri(&redis), "--takeover");
        wait_until_asked(&old, i + 1);
        ck_assert_int_eq(unshown(&old), 1);
        e2e_manager_kill(&new);
    }
    kill(old.pid, SIGCONT);
    check_serves(&old);
    ck_assert_int_eq(e2e_manager_stop(&old), 0);
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", support_scratch(), old.channel);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("takeover");
    TCase *t = support_case(s, "takeover", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_ten_takeovers_under_load);
    e2e_add(t, test_a_second_manager_is_refused_with_the_pid);
    e2e_add(t, test_takeover_of_nobody_is_a_start);
    e2e_add(t, test_a_successor_without_redis_leaves_the_old_one);
    e2e_add(t, test_a_blocked_command_survives);
    e2e_add(t, test_the_group_stays);
    e2e_add(t, test_no_group_comes);
    e2e_add(t, test_two_at_once);
    e2e_add(t, test_a_killed_one_leaves_no_state);
    e2e_add(t, test_the_old_one_is_killed);
    e2e_add(t, test_the_new_one_is_killed);
    e2e_add(t, test_the_new_one_is_killed_while_the_old_one_drains);
    e2e_add(t, test_the_new_one_dies_after_it_changed_the_channel);
    return s;
}

int main(void)
{
    return support_run(suite());
}
