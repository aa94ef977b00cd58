/* What a member of the group may put on the queue in any number: floods of
 * everything, replies that nobody reads, junk. What must hold: the others get
 * their answers in time, memory stays bounded, and what was refused is counted.
 */
#include "tests/e2e.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

/* Whoever holds others up does so for seconds where everything is slow. */
#define TIMEOUT_MS (SUPPORT_SANITIZED ? 100000 : 20000)
#define PING "*1\r\n$4\r\nPING\r\n"
#define PING_LEN (sizeof(PING) - 1)

/* A million where somebody waits for it, and machine code is fast. */
static uint64_t million(void)
{
    return e2e_long() ? 1000000 : SUPPORT_SANITIZED ? 20000 : 200000;
}

/* ---- others, meanwhile ---- */

struct honest {
    uint64_t asked, worst_ns;
    uint64_t took[20000];
};

/* Asks one thing, which must be answered rightly and within its deadline. */
static void ask_honestly(struct honest *h)
{
    char expect[32];
    uint64_t t0 = clock_ns();
    enum e2e_end end =
        e2e_ask(&client, &call, TIMEOUT_MS, "ECHO %08" PRIu64, h->asked);
    uint64_t took = clock_ns() - t0;
    snprintf(expect, sizeof(expect), "$8\r\n%08" PRIu64 "\r\n", h->asked);
    ck_assert_msg(end == E2E_OK && e2e_is(&call, expect),
                  "request %" PRIu64 ": %d after %.0f ms: %s", h->asked, end,
                  (double)took / 1e6, call.text);
    if (took > h->worst_ns)
        h->worst_ns = took;
    h->took[h->asked++ % 20000] = took;
}

static void tell(int server, struct honest *h, const char *what, long rss_kb)
{
    size_t n = h->asked < 20000 ? (size_t)h->asked : 20000;
    uint64_t p50 = large_percentile(h->took, n, 0.50);
    uint64_t p99 = large_percentile(h->took, n, 0.99);
    e2e_figure(server,
               "beside %s: %" PRIu64 " of another's requests, p50 %.2f ms, p99 "
               "%.2f ms, longest %.1f ms; the manager's memory %+ld KiB",
               what, h->asked, (double)p50 / 1e6, (double)p99 / 1e6,
               (double)h->worst_ns / 1e6, rss_kb);
}

/* A sanitizer's own memory is none of ours. */
static void check_memory(long more_kb, long limit_kb)
{
    if (!SUPPORT_SANITIZED)
        ck_assert_int_lt(more_kb, limit_kb);
}

/* ---- the hostile ones ---- */

#define HOSTILES_MAX 16

struct flood {
    void (*fn)(struct flood *f);
    uint64_t each; /* messages of each process; 0: until it is killed */
    int processes;
    pid_t pids[HOSTILES_MAX];
};

static void flood_child(void *arg)
{
    struct flood *f = arg;
    f->fn(f);
}

/* Runs them to their end, if they have one, beside honest requests for at least
 * a while. */
static void flood(int server, struct flood *f, const char *what, long limit_kb)
{
    static struct honest h;
    memset(&h, 0, sizeof(h));
    ask_honestly(&h); /* what the first one costs is no matter here */
    h.worst_ns = h.asked = 0;
    long before = large_rss_kb(manager.pid), most = before;
    for (int i = 0; i < f->processes; i++)
        f->pids[i] = support_fork(flood_child, f);
    uint64_t until = clock_ns() + NS_PER_S;
    for (bool over = false; !over || clock_ns() < until;) {
        ask_honestly(&h);
        long now = h.asked % 16 == 0 ? large_rss_kb(manager.pid) : 0;
        most = now > most ? now : most;
        over = true;
        for (int i = 0; f->each > 0 && i < f->processes; i++)
            over = over && support_proc_state(f->pids[i]) == 'Z';
    }
    for (int i = 0; i < f->processes; i++) {
        if (f->each > 0)
            ck_assert_int_eq(support_join(f->pids[i]), 0);
        else
            support_kill(f->pids[i]);
    }
    tell(server, &h, what, most - before);
    check_memory(most - before, limit_kb);
}

/* ---- floods ---- */

static void send_raw(const struct e2e_client *c, const void *data, size_t len,
                     unsigned priority)
{
    CHILD_REQUIRE(mq_send(c->tx.mq, data, len, priority) == 0);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void send_garbage(struct flood *f)
{
    static struct e2e_client c;
    uint64_t random = (uint64_t)getpid(), words[128];
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    for (uint64_t i = 0; i < f->each; i++) {
        size_t len = next_random(&random) % sizeof(words);
        for (size_t w = 0; w * 8 < len; w++)
            words[w] = next_random(&random);
        if (i % 2 == 0) {
            /* As far as the magic number: the rest is looked at. */
            struct message_header h;
            memcpy(&h, words, sizeof(h));
            h.magic = MESSAGE_MAGIC;
            h.version = i % 4 == 0 ? MESSAGE_VERSION : h.version;
            memcpy(words, &h, sizeof(h));
        }
        send_raw(&c, words, len, 0);
    }
}

START_TEST(test_million_garbage_messages)
{
    struct flood f = {send_garbage, million() / 4, 4, {0}};
    scene_begin(_i, NULL);
    flood(_i, &f, "random bytes", 2048);
    /* Each one was counted: as garbage, or with a pipe that is not there. */
    uint64_t sent = f.each * (uint64_t)f.processes;
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_messages) >= sent));
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_garbage), sent / 3);
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_gone), sent / 10);
    /* And not each one was logged. */
    ck_assert_uint_lt(e2e_lines(e2e_log(&manager)), 100);
    scene_end();
}
END_TEST

static void send_valid(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    for (uint64_t i = 0; i < f->each; i++)
        CHILD_REQUIRE(e2e_ask_raw(&c, &k, 0, 1, PING, PING_LEN, TIMEOUT_MS) ==
                      E2E_OK);
    e2e_client_close(&c);
}

START_TEST(test_million_requests_at_once)
{
    struct flood f = {send_valid, million() / 8 / 4, 8, {0}};
    scene_begin(_i, NULL);
    flood(_i, &f, "eight processes that ask without a pause", 4096);
    scene_end();
}
END_TEST

/* Each message costs the manager more than its sender: a look for the pipe. */
static void send_to_nobody(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    uint64_t random = (uint64_t)getpid() << 20;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    CHILD_REQUIRE(e2e_begin(&c, &k, 1, PING, PING_LEN, TIMEOUT_MS) == ERR_OK);
    for (uint64_t i = 0; i < f->each; i++) {
        k.header.client = next_random(&random);
        memcpy(c.message, &k.header, sizeof(k.header));
        send_raw(&c, c.message, sizeof(k.header) + PING_LEN, 0);
    }
    oneshot_abandon(&c.pool, &k.slot);
}

START_TEST(test_million_guesses_of_a_client_id)
{
    struct flood f = {send_to_nobody, million() / 4, 4, {0}};
    scene_begin(_i, NULL);
    flood(_i, &f, "guesses of a client id", 2048);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) ==
                    f.each * (uint64_t)f.processes));
    scene_end();
}
END_TEST

/* The queue delivers by priority, whatever the manager thinks of it: here the
 * others have to hope that it is faster than those who send. */
static void send_first(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    CHILD_REQUIRE(e2e_begin(&c, &k, 1, PING, PING_LEN, TIMEOUT_MS) == ERR_OK);
    memcpy(c.message, &k.header, sizeof(k.header));
    for (uint64_t i = 0; i < f->each; i++)
        send_raw(&c, c.message, sizeof(k.header) + PING_LEN, 32767);
    oneshot_abandon(&c.pool, &k.slot);
}

START_TEST(test_million_messages_of_another_priority)
{
    struct flood f = {send_first, million() / 8, 8, {0}};
    scene_begin(_i, NULL);
    flood(_i, &f, "messages of the highest priority", 2048);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_garbage) ==
                    f.each * (uint64_t)f.processes));
    scene_end();
}
END_TEST

/* ---- replies that nobody reads ---- */

/* A request that is refused has an answer, too. */
static void never_read(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    char payload[700];
    uint32_t n = 0;
    size_t len = 0;
    (void)f;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    while (len + 30 < sizeof(payload)) {
        len += e2e_commands(payload + len, sizeof(payload) - len, NULL,
                            n % 2 ? "PING" : "WATCH k");
        n++;
    }
    for (;;) {
        /* A new pipe now and then: the last one was given up. */
        CHILD_REQUIRE(e2e_begin(&c, &k, n, payload, len, TIMEOUT_MS) == ERR_OK);
        k.header.flags = MESSAGE_INDEPENDENT;
        memcpy(c.message, &k.header, sizeof(k.header));
        for (int i = 0; i < 20000; i++)
            send_raw(&c, c.message, sizeof(k.header) + len, 0);
        oneshot_abandon(&c.pool, &k.slot);
    }
}

START_TEST(test_replies_that_are_never_read)
{
    struct flood f = {never_read, 0, 4, {0}};
    scene_begin(_i, "--reader-backlog 256k --total-backlog 2m");
    flood(_i, &f, "requests whose replies are never read", 16 * 1024);
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_aborted), 0);
    scene_end();
}
END_TEST

/* Fills its own pipes, so that no reply goes in: each then keeps a descriptor
 * of the manager's for a few bytes. */
static void stall_many(struct flood *f)
{
    enum { PIPES = 100 };
    static struct e2e_client c;
    static struct e2e_call k[PIPES];
    static char junk[4096];
    (void)f;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    for (int i = 0; i < PIPES; i++) {
        CHILD_REQUIRE(e2e_begin(&c, &k[i], 1, PING, PING_LEN, TIMEOUT_MS) ==
                      ERR_OK);
        fcntl(k[i].slot.fd, F_SETPIPE_SZ, 4096);
        while (write(k[i].slot.fd, junk, sizeof(junk)) > 0)
            ;
        CHILD_REQUIRE(e2e_send(&c, &k[i]) == ERR_OK);
    }
    for (;;)
        pause();
}

START_TEST(test_stalled_pipes_do_not_shut_others_out)
{
    struct flood f = {stall_many, 0, 1, {0}};
    scene_begin(_i, "--max-clients 32");
    f.pids[0] = support_fork(flood_child, &f);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_pipes) == 32));
    support_sleep_ms(1500);
    /* Its own pipe may have been closed to make room before. */
    static struct honest h;
    uint64_t t0 = clock_ns();
    for (int i = 0; i < 100; i++)
        ask_honestly(&h);
    e2e_figure(_i, "with every descriptor stalled: 100 requests in %.1f ms",
               (double)(clock_ns() - t0) / 1e6);
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_aborted), 0);
    support_kill(f.pids[0]);
    scene_end();
}
END_TEST

/* Each asks for a large value as somebody new, and does not read it. */
static void ask_large_and_stall(struct flood *f)
{
    char payload[64], text[32];
    uint64_t random = (uint64_t)getpid() << 20;
    static struct e2e_client c;
    static struct e2e_call k[64];
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    for (uint64_t i = 0; i < f->each; i++) {
        struct e2e_call *one = &k[i % 64];
        if (one->slot.fd > 0)
            oneshot_abandon(&c.pool, &one->slot);
        snprintf(text, sizeof(text), "GET large%d", (int)(i % 50));
        size_t len = e2e_commands(payload, sizeof(payload), NULL, text);
        c.pool.client = next_random(&random);
        CHILD_REQUIRE(e2e_begin(&c, one, 1, payload, len, TIMEOUT_MS) ==
                      ERR_OK);
        CHILD_REQUIRE(e2e_send(&c, one) == ERR_OK);
        support_sleep_ms(10);
    }
}

START_TEST(test_large_replies_that_are_never_read)
{
    struct flood f = {ask_large_and_stall, 400, 2, {0}};
    char command[64];
    scene_begin(_i, NULL);
    for (int i = 0; i < 50; i++) {
        snprintf(command, sizeof(command), "SETRANGE large%d 999999 x", i);
        ck_assert_str_eq(e2e_redis_ask(&redis, command), ":1000000\r\n");
    }
    flood(_i, &f, "large values that nobody reads", 80 * 1024);
    scene_end();
}
END_TEST

/* Reads a little now and then, to seem alive. */
static void read_crumbs(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    char payload[64], crumbs[4096];
    (void)f;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "GET huge");
    CHILD_REQUIRE(e2e_begin(&c, &k, 1, payload, len, -1) == ERR_OK);
    CHILD_REQUIRE(e2e_send(&c, &k) == ERR_OK);
    for (;;) {
        support_sleep_ms(20);
        if (read(k.slot.fd, crumbs, sizeof(crumbs)) < 0)
            support_sleep_ms(100);
    }
}

START_TEST(test_reader_of_crumbs)
{
    struct flood f = {read_crumbs, 0, 1, {0}};
    scene_begin(_i, "--bulk-connections 0");
    ck_assert_str_eq(e2e_redis_ask(&redis, "SETRANGE huge 19999999 x"),
                     ":20000000\r\n");
    flood(_i, &f, "one who reads a large value in crumbs", 8 * 1024);
    scene_end();
}
END_TEST

/* ---- junk ---- */

/* However many there are, the sweep leaves room for others. */
START_TEST(test_much_junk_holds_up_nobody)
{
    const int count = SUPPORT_SANITIZED ? 10000 : 40000;
    char path[300], name[48];
    snprintf(name, sizeof(name), "%s", support_name());
    e2e_redis_start(&redis, _i);
    ck_assert_int_eq(mkdir(support_path(name), 0700), 0);
    snprintf(path, sizeof(path), "%s/reply", name);
    ck_assert_int_eq(mkdir(support_path(path), 0700), 0);
    int fd = open(support_path(path), O_PATH | O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        char junk[32];
        snprintf(junk, sizeof(junk), "junk-%d", i);
        ck_assert_int_eq(mkfifoat(fd, junk, 0600), 0);
    }
    close(fd);
    e2e_manager_start(&manager, name, e2e_uri(&redis), NULL);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    uint64_t worst = 0, begin = clock_ns();
    int answered = 0;
    while (e2e_counter(&manager, COUNTER_swept) < (uint64_t)count) {
        uint64_t t = clock_ns();
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "PING"), E2E_OK);
        t = clock_ns() - t;
        worst = t > worst ? t : worst;
        answered++;
        ck_assert_uint_lt(clock_ns() - begin, 60 * NS_PER_S);
    }
    e2e_figure(_i,
               "%d pipes of nobody swept in %.0f ms, beside %d requests, the "
               "longest of %.1f ms",
               count, (double)(clock_ns() - begin) / 1e6, answered,
               (double)worst / 1e6);
    ck_assert_int_gt(answered, 10);
    scene_end();
}
END_TEST

/* ---- much work in one message ---- */

#define MANY 100000

static void send_bodies(struct flood *f)
{
    static struct e2e_client c;
    static struct e2e_call k;
    uint64_t size = MANY * PING_LEN;
    CHILD_REQUIRE(e2e_client_open(&c, manager.channel) == ERR_OK);
    char *body = malloc(size);
    CHILD_REQUIRE(body != NULL);
    for (size_t i = 0; i < MANY; i++)
        memcpy(body + i * PING_LEN, PING, PING_LEN);
    for (uint64_t i = 0; i < f->each; i++) {
        CHILD_REQUIRE(e2e_begin(&c, &k, MANY, (const char *)&size, sizeof(size),
                                TIMEOUT_MS) == ERR_OK);
        k.header.flags = MESSAGE_BODY;
        CHILD_REQUIRE(oneshot_payload(&c.pool, &c.ch, &k.slot) == ERR_OK);
        CHILD_REQUIRE(payload_write(&k.slot.payload, 0, body, size) == ERR_OK);
        CHILD_REQUIRE(e2e_send(&c, &k) == ERR_OK);
        CHILD_REQUIRE(e2e_finish(&c, &k) == E2E_OK);
    }
    e2e_client_close(&c);
}

START_TEST(test_messages_of_100000_commands)
{
    struct flood f = {send_bodies, SUPPORT_SANITIZED ? 1 : 10, 2, {0}};
    scene_begin(_i, NULL);
    flood(_i, &f, "messages of 100,000 commands", 64 * 1024);
    scene_end();
}
END_TEST

/* ---- the suite ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("security_floods");
    TCase *t = support_case(s, "floods", e2e_long() ? 300 : 120);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    /* Of these Redis sees nothing, or nothing special: one server is enough. */
    tcase_add_loop_test(t, test_million_garbage_messages, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_million_requests_at_once, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_million_guesses_of_a_client_id, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_million_messages_of_another_priority,
                        E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_replies_that_are_never_read, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_stalled_pipes_do_not_shut_others_out,
                        E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_large_replies_that_are_never_read, E2E_MQREDIS,
                        1);
    tcase_add_loop_test(t, test_reader_of_crumbs, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_much_junk_holds_up_nobody, E2E_MQREDIS, 1);
    tcase_add_loop_test(t, test_messages_of_100000_commands, E2E_MQREDIS, 1);
    return s;
}

int main(void)
{
    large_prepare();
    return support_run(suite());
}
