/* What a manager costs that does nothing, and what it keeps in memory. */
#include "tests/e2e.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000
#define MB (1 << 20)

/* A number behind a word in /proc/PID/status; sizes are in KiB. */
static long proc_number(pid_t pid, const char *word)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, word);
    ck_assert_msg(at != NULL, "no %s of %ld", word, (long)pid);
    return strtol(at + strlen(word) + 1, NULL, 10);
}

static long sleeps(pid_t pid)
{
    return proc_number(pid, "\nvoluntary_ctxt_switches");
}

/* Lets what is still to be done be done. */
static void come_to_rest(int ms)
{
    support_sleep_ms(ms);
    ck_assert(UNTIL(support_proc_state(manager.pid) == 'S' &&
                    support_proc_state(manager.guardian) == 'S'));
}

START_TEST(test_idle_manager_does_not_wake_up)
{
    int seconds = e2e_long() ? 60 : 4;
    e2e_start(&redis, &manager, _i, NULL);
    /* With a worker that is idle, too. */
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
    come_to_rest(200);
    long before = sleeps(manager.pid), guardian = sleeps(manager.guardian);
    uint64_t cpu = support_cpu_ns(manager.pid), t0 = clock_ns();
    support_sleep_ms(seconds * 1000);
    seconds = (int)((clock_ns() - t0) / NS_PER_S); /* or what became of it */
    long woke = sleeps(manager.pid) - before;
    guardian = sleeps(manager.guardian) - guardian;
    cpu = support_cpu_ns(manager.pid) - cpu;
    e2e_figure(_i,
               "idle for %d s: the manager woke up %ld times and used %.3f ms "
               "of CPU, the guardian woke up %ld times",
               seconds, woke, (double)cpu / 1e6, guardian);
    ck_assert_int_le(woke, 2 + seconds / 2);
    ck_assert_int_eq(guardian, 0);
    ck_assert_uint_lt(cpu, (uint64_t)seconds * 2 * NS_PER_MS);
}
END_TEST

/* Without Redis, neither: it waits for the next attempt. */
START_TEST(test_idle_manager_without_redis)
{
    scene_begin(_i, "--reconnect-max 60000");
    static struct e2e_call waiting;
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "PING");
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_disconnects) == 1));
    /* A command waits in the queue, and its sender for the answer. */
    ck_assert_int_eq(e2e_begin(&client, &waiting, 1, payload, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &waiting), ERR_OK);
    come_to_rest(500);
    uint64_t cpu = support_cpu_ns(manager.pid);
    long before = sleeps(manager.pid);
    support_sleep_ms(2000);
    long woke = sleeps(manager.pid) - before;
    cpu = support_cpu_ns(manager.pid) - cpu;
    e2e_figure(_i, "2 s without Redis: woke up %ld times, %.3f ms of CPU", woke,
               (double)cpu / 1e6);
    ck_assert_int_le(woke, 20);
    ck_assert_uint_lt(cpu, 20 * NS_PER_MS);
    e2e_forget(&client, &waiting);
}
END_TEST

/* ---- memory ---- */

#define CLIENTS 1000

/* Requesters of one process, each with an id and a reply pipe of its own. */
static struct oneshot_pool pools[CLIENTS];

static void connect_clients(void)
{
    static struct e2e_call calls[32];
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "GET nothing");
    struct oneshot_pool own = client.pool;
    for (int i = 0; i < CLIENTS; i++) {
        uint64_t id;
        ck_assert_int_eq(random_id(&id), ERR_OK);
        oneshot_pool_init(&pools[i], client.ch.reply_fd,
                          client.ch.owner != client.ch.user, id);
        client.pool = pools[i];
        struct e2e_call *c = &calls[i % 32];
        ck_assert_int_eq(e2e_begin(&client, c, 1, payload, len, TIMEOUT_MS),
                         ERR_OK);
        ck_assert_int_eq(e2e_send(&client, c), ERR_OK);
        ck_assert_int_eq(e2e_finish(&client, c), E2E_OK);
        pools[i] = client.pool; /* with the pipe, which stays open */
    }
    client.pool = own;
}

START_TEST(test_memory_with_1000_clients)
{
    struct rlimit rl;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
    if (rl.rlim_max < CLIENTS + 200) {
        support_skip("test_memory_with_1000_clients", "ulimit -n is too low");
        return;
    }
    rl.rlim_cur = rl.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
    scene_begin(_i, NULL);
    long alone = proc_number(manager.pid, "\nRssAnon");
    connect_clients();
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_pipes) == CLIENTS));
    long with = proc_number(manager.pid, "\nRssAnon");
    e2e_figure(_i,
               "RssAnon: %ld KiB alone, %ld KiB with %d clients; guardian: %ld "
               "KiB",
               alone, with, CLIENTS,
               proc_number(manager.guardian, "\nRssAnon"));
    /* A sanitizer's own memory is none of ours. */
    if (!SUPPORT_SANITIZED)
        ck_assert_int_lt(with, 8 * 1024);
    for (int i = 0; i < CLIENTS; i++)
        oneshot_pool_close(&pools[i]);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_pipes) == 0));
    char path[128];
    snprintf(path, sizeof(path), "%s/reply", manager.channel);
    ck_assert_int_eq(support_count_entries(support_path(path)), 0);
}
END_TEST

START_TEST(test_memory_comes_back_after_large_replies)
{
    enum { READERS = 6 };
    e2e_start(&redis, &manager, _i,
              "--stall-timeout 50 --reader-backlog 16m --total-backlog 64m");
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    ck_assert_str_eq(e2e_redis_ask(&redis, "SETRANGE large 7999999 x"),
                     ":8000000\r\n");
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "GET large"), E2E_OK);
    long before = proc_number(manager.pid, "\nRssAnon");
    static struct e2e_client readers[READERS];
    static struct e2e_call calls[READERS];
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "GET large");
    for (int i = 0; i < READERS; i++) {
        ck_assert_int_eq(e2e_client_open(&readers[i], manager.channel), ERR_OK);
        ck_assert_int_eq(
            e2e_begin(&readers[i], &calls[i], 1, payload, len, TIMEOUT_MS),
            ERR_OK);
        ck_assert_int_eq(e2e_send(&readers[i], &calls[i]), ERR_OK);
    }
    /* Nobody reads for a while: it waits in the manager. */
    ck_assert_msg(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) >
                        (uint64_t)READERS * 6 * MB),
                  "%llu bytes wait: %s",
                  (unsigned long long)e2e_gauge(&manager, GAUGE_backlog_bytes),
                  e2e_books(&manager));
    long peak = proc_number(manager.pid, "\nRssAnon");
    for (int i = 0; i < READERS; i++) {
        ck_assert_int_eq(e2e_finish(&readers[i], &calls[i]), E2E_OK);
        ck_assert_uint_eq(calls[i].len, 8000000 + 12);
        long now = proc_number(manager.pid, "\nRssAnon");
        peak = now > peak ? now : peak;
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    long after = proc_number(manager.pid, "\nRssAnon");
    e2e_figure(_i,
               "RssAnon around a burst of %d large replies: %ld KiB before, "
               "%ld KiB at most, %ld KiB after",
               READERS, before, peak, after);
    if (!SUPPORT_SANITIZED)
        ck_assert_int_lt(after, 8 * 1024);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_idle");
    TCase *t = support_case(s, "idle", e2e_long() ? 120 : 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_idle_manager_does_not_wake_up);
    e2e_add(t, test_idle_manager_without_redis);
    e2e_add(t, test_memory_with_1000_clients);
    e2e_add(t, test_memory_comes_back_after_large_replies);
    return s;
}

int main(void)
{
    return support_run(suite());
}
