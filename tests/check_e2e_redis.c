/* A Redis that dies, comes back, hangs and answers by halves: every command
 * meets exactly one end, the certain ones are certain, and no reply is ever
 * somebody else's. */
#include "tests/e2e.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/resp.h"
#include "tests/e2e_scene.h"
#include "tests/proxy.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000

static struct proxy proxy;

/* ---- busy workers ---- */

#define WORKERS 32

/* One busy worker. Its commands carry its own name and a number. */
struct busy {
    pid_t pid;
    int number;
    char channel[48];
    bool forgetful; /* Redis loses its data: nothing is known of a counter */
    int64_t timeout_ms;
    _Atomic bool enough;
    /* Commands by their end. */
    _Atomic long ok, lost, unavailable, expired;
    _Atomic long unanswered; /* the manager lived and said nothing in time */
    long increments, maybe;  /* of its counter: certain, unknown */
    char wrong[256];         /* what must never be */
};

static struct busy *busy;

static void count_end(struct busy *b, const struct e2e_call *c, uint32_t n)
{
    b->ok += c->ended[REPLY_OK];
    b->lost += c->ended[REPLY_LOST];
    b->unavailable += c->ended[REPLY_UNAVAILABLE];
    b->expired += c->ended[REPLY_EXPIRED];
    uint32_t sum = 0;
    for (int i = 0; i < REPLY_STATUS_COUNT; i++)
        sum += c->ended[i];
    b->unanswered += n - sum;
    if (c->ended[REPLY_INVALID] + c->ended[REPLY_TOO_BIG] > 0)
        snprintf(b->wrong, sizeof(b->wrong), "refused: %.200s", c->text);
}

/* Sends a command and checks its reply; "" stands for any. */
static void one(struct busy *b, struct e2e_client *c, struct e2e_call *k,
                const char *command, const char *expect, const char *or_else)
{
    uint32_t n;
    char payload[1024];
    size_t len = e2e_commands(payload, sizeof(payload), &n, command);
    enum e2e_end end = e2e_ask_raw(c, k, 0, n, payload, len, b->timeout_ms);
    if (end == E2E_EXPIRED && k->ended[REPLY_EXPIRED] == 0) {
        b->expired += n; /* asleep on the full queue until its deadline */
        return;
    }
    count_end(b, k, n);
    if (end == E2E_BROKEN)
        snprintf(b->wrong, sizeof(b->wrong), "%.60s: a broken answer", command);
    if (end == E2E_OK && *expect != '\0' && !e2e_is(k, expect) &&
        !(or_else != NULL && e2e_is(k, or_else)))
        snprintf(b->wrong, sizeof(b->wrong), "%.60s: '%.*s'", command,
                 k->len < 100 ? (int)k->len : 100, k->data);
}

static void be_busy(void *arg)
{
    struct busy *b = arg;
    static struct e2e_client c;
    static struct e2e_call k;
    char command[512], expect[512], value[32];
    CHILD_REQUIRE(e2e_client_open(&c, b->channel) == ERR_OK);
    const char *absent = b->forgetful ? "$-1\r\n" : NULL;
    bool set = false, known = false;
    for (long i = 0; !b->enough && b->wrong[0] == '\0'; i++) {
        int len = snprintf(value, sizeof(value), "w%d-%ld", b->number, i);
        snprintf(command, sizeof(command), "SET value:%d %s", b->number, value);
        one(b, &c, &k, command, "+OK\r\n", NULL);
        set = k.ended[REPLY_OK] == 1;
        /* A SET that nobody knows of may still come, from Redis's own queue on
         * a connection that broke: then the old value is right, too. */
        known = set && b->lost == 0;
        snprintf(command, sizeof(command), "GET value:%d", b->number);
        snprintf(expect, sizeof(expect), "$%d\r\n%s\r\n", len, value);
        one(b, &c, &k, command, known ? expect : "", absent);
        snprintf(command, sizeof(command), "ECHO %s", value);
        one(b, &c, &k, command, expect, NULL);
        snprintf(command, sizeof(command),
                 "MULTI ; ECHO %s ; INCR count:%d ; EXEC ; ECHO %s", value,
                 b->number, value);
        one(b, &c, &k, command, "", NULL);
        if (k.ended[REPLY_OK] == 5) {
            b->increments++;
            size_t at = 0;
            while (at < k.len && memcmp(k.data + at, value, (size_t)len) != 0)
                at++;
            if (at + (size_t)len > k.len)
                snprintf(b->wrong, sizeof(b->wrong), "transaction: '%.*s'",
                         k.len < 150 ? (int)k.len : 150, k.data);
        } else if (k.ended[REPLY_LOST] > 0) {
            b->maybe++;
        }
    }
    e2e_client_close(&c);
}

static void start_busy(int workers, int64_t timeout_ms, bool forgetful)
{
    busy = support_shared((size_t)workers * sizeof(*busy));
    for (int i = 0; i < workers; i++) {
        struct busy *b = &busy[i];
        b->number = i;
        b->timeout_ms = timeout_ms;
        b->forgetful = forgetful;
        strcpy(b->channel, manager.channel);
        b->pid = support_fork(be_busy, b);
    }
}

static long total_ok(int workers)
{
    long sum = 0;
    for (int i = 0; i < workers; i++)
        sum += busy[i].ok;
    return sum;
}

/* Whether work goes on: some commands more are answered. */
static bool goes_on(int workers)
{
    long before = total_ok(workers);
    return UNTIL(total_ok(workers) > before + workers);
}

/* Ends all and judges: every command one end, no wrong answer, and what Redis
 * counted is what is known for certain, with what is unknown at most. */
static void judge(int server, const char *what, int workers)
{
    long ok = 0, lost = 0, unavailable = 0, expired = 0, unanswered = 0;
    for (int i = 0; i < workers; i++)
        busy[i].enough = true;
    for (int i = 0; i < workers; i++) {
        struct busy *b = &busy[i];
        ck_assert_int_eq(support_join(b->pid), 0);
        ck_assert_msg(b->wrong[0] == '\0', "%s, worker %d: %s", what, i,
                      b->wrong);
        ok += b->ok;
        lost += b->lost;
        unavailable += b->unavailable;
        expired += b->expired;
        unanswered += b->unanswered;
        if (b->forgetful)
            continue;
        char get[32];
        snprintf(get, sizeof(get), "GET count:%d", i);
        long long n = e2e_redis_integer(&redis, get);
        ck_assert_msg(n >= b->increments && n <= b->increments + b->maybe,
                      "%s, worker %d: executed %lld times, of %ld and perhaps "
                      "%ld",
                      what, i, n, b->increments, b->maybe);
    }
    e2e_figure(server, "%s: %ld ok, %ld lost, %ld unavailable, %ld expired",
               what, ok, lost, unavailable, expired);
    ck_assert_msg(unanswered == 0, "%s: %ld commands were never answered: %s",
                  what, unanswered, e2e_books(&manager));
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s: %s", what,
                  e2e_books(&manager));
    ck_assert_int_eq((long)e2e_counter(&manager, COUNTER_answered), ok);
    ck_assert_int_eq((long)e2e_counter(&manager, COUNTER_lost), lost);
    ck_assert_int_eq((long)e2e_counter(&manager, COUNTER_unavailable),
                     unavailable);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_discarded), 0);
}

/* ---- Redis dies ---- */

START_TEST(test_redis_killed_and_restarted_20_times)
{
    int times = e2e_long() ? 100 : 20;
    e2e_start(&redis, &manager, _i, "--reconnect-max 30");
    start_busy(WORKERS, TIMEOUT_MS, true);
    for (int i = 0; i < times; i++) {
        ck_assert(goes_on(WORKERS));
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) >
                        e2e_counter(&manager, COUNTER_disconnects)));
        e2e_redis_kill(&redis);
        e2e_redis_restart(&redis);
    }
    ck_assert(goes_on(WORKERS));
    judge(_i, "Redis killed 20 times", WORKERS);
    ck_assert_uint_ge(e2e_counter(&manager, COUNTER_disconnects),
                      (uint64_t)times);
}
END_TEST

START_TEST(test_redis_killed_with_when_down_fail)
{
    e2e_start(&redis, &manager, _i, "--reconnect-max 30 --when-down fail");
    start_busy(8, TIMEOUT_MS, true);
    for (int i = 0; i < 5; i++) {
        ck_assert(goes_on(8));
        e2e_redis_kill(&redis);
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_unavailable) > 0));
        e2e_redis_restart(&redis);
    }
    ck_assert(goes_on(8));
    judge(_i, "Redis killed, --when-down=fail", 8);
}
END_TEST

/* ---- a proxy in between ---- */

static void start_behind_proxy(int kind, bool tcp, const char *options)
{
    e2e_redis_start(&redis, kind);
    proxy_start(&proxy, redis.at.path);
    e2e_manager_start(&manager, NULL, tcp ? proxy.tcp : proxy.unix_, options);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
}

START_TEST(test_replies_cut_in_the_middle)
{
    unsigned times = e2e_long() ? 1000 : 60;
    start_behind_proxy(_i, true, "--reconnect-max 5");
    start_busy(WORKERS, TIMEOUT_MS, false);
    proxy.control->cut_max = 6000;
    ck_assert(UNTIL(proxy.control->cuts > times));
    proxy.control->cut_max = 0;
    ck_assert(goes_on(WORKERS));
    judge(_i, "replies cut in the middle", WORKERS);
}
END_TEST

START_TEST(test_delays_and_deadlines)
{
    start_behind_proxy(_i, true, NULL);
    start_busy(WORKERS, 60, false);
    for (int i = 0; i < 6; i++) {
        proxy.control->delay_ms = i % 2 == 0 ? 40 : 5;
        support_sleep_ms(200);
    }
    proxy.control->delay_ms = 0;
    ck_assert(goes_on(WORKERS));
    judge(_i, "delays", WORKERS);
}
END_TEST

START_TEST(test_peer_stops_reading_and_answering)
{
    start_behind_proxy(_i, true, "--silence-timeout 200 --reconnect-max 5");
    start_busy(WORKERS, TIMEOUT_MS, false);
    for (int i = 0; i < 6; i++) {
        ck_assert(goes_on(WORKERS));
        unsigned before = proxy.control->accepted;
        uint64_t broken = e2e_counter(&manager, COUNTER_disconnects);
        if (i % 2 == 0)
            proxy.control->deaf = true;
        else
            proxy.control->mute = true;
        /* Found out by silence; the next connection has no better luck. */
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_disconnects) > broken));
        proxy.control->deaf = proxy.control->mute = false;
        ck_assert(UNTIL(proxy.control->accepted > before));
    }
    ck_assert(goes_on(WORKERS));
    judge(_i, "a peer that hangs", WORKERS);
}
END_TEST

/* ---- what was written, and what was not ---- */

#define FILLERS 300
#define FILL 7500

static struct e2e_call fillers[FILLERS];
static size_t filled;

/* Sends commands until some of them cannot leave: nobody reads. */
static void fill_socket(void)
{
    static char value[FILL], payload[FILL + 100];
    memset(value, 'f', sizeof(value));
    struct resp_arg argv[] = {{"ECHO", 4}, {value, sizeof(value)}};
    size_t len = resp_put_command(payload, 2, argv);
    for (filled = 0; filled < FILLERS; filled++) {
        struct e2e_call *c = &fillers[filled];
        ck_assert_int_eq(e2e_begin(&client, c, 1, payload, len, TIMEOUT_MS),
                         ERR_OK);
        ck_assert_int_eq(e2e_send(&client, c), ERR_OK);
    }
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) >= FILLERS));
    ck_assert_uint_lt(e2e_counter(&manager, COUNTER_bytes_written),
                      (uint64_t)FILLERS * FILL);
}

START_TEST(test_unwritten_commands_go_out_on_the_next_connection)
{
    start_behind_proxy(_i, false,
                       "--capacity 8 --msgsize 8192 --reconnect-max 20");
    proxy.control->deaf = true;
    fill_socket();
    static struct e2e_call incr;
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "INCR n");
    ck_assert_int_eq(e2e_begin(&client, &incr, 1, payload, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &incr), ERR_OK);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) > FILLERS));
    proxy.control->closed = true;
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_lost) > 0));
    proxy.control->deaf = false;
    support_sleep_ms(100);
    proxy.control->closed = false;
    int ok = 0, lost = 0;
    for (size_t i = 0; i < filled; i++) {
        enum e2e_end end = e2e_finish(&client, &fillers[i]);
        /* First those that had left, then those that had not. */
        ck_assert_msg(end == E2E_OK || (end == E2E_LOST && ok == 0),
                      "filler %zu: %d", i, end);
        ok += end == E2E_OK;
        lost += end == E2E_LOST;
        ck_assert(end != E2E_OK || fillers[i].len == FILL + 9);
    }
    ck_assert_int_eq(e2e_finish(&client, &incr), E2E_OK);
    ck_assert(e2e_is(&incr, ":1\r\n"));
    ck_assert(ok > 0 && lost > 0);
    e2e_figure(_i,
               "connection broke with %d written, %d not: %d lost, %d sent "
               "again",
               lost, ok, lost, ok);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}
END_TEST

START_TEST(test_expired_while_waiting_for_a_connection_is_not_executed)
{
    start_behind_proxy(_i, false,
                       "--capacity 8 --msgsize 8192 --reconnect-max 10");
    proxy.control->deaf = true;
    fill_socket();
    static struct e2e_call victim, patient;
    char payload[64];
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "INCR victim");
    ck_assert_int_eq(e2e_begin(&client, &victim, 1, payload, len, 300), ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &victim), ERR_OK);
    len = e2e_commands(payload, sizeof(payload), NULL, "INCR patient");
    ck_assert_int_eq(e2e_begin(&client, &patient, 1, payload, len, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &patient), ERR_OK);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) == FILLERS + 2));
    /* The connection breaks before the deadline; the next one is made before
     * it too, but gets nowhere until after it. */
    proxy.control->closed = true;
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_lost) > 0));
    kill(redis.at.pid, SIGSTOP);
    proxy.control->deaf = false;
    proxy.control->closed = false;
    support_sleep_ms(500);
    kill(redis.at.pid, SIGCONT);
    ck_assert_int_eq(e2e_finish(&client, &patient), E2E_OK);
    ck_assert_int_eq(e2e_finish(&client, &victim), E2E_EXPIRED);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET victim"), 0);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET patient"), 1);
    for (size_t i = 0; i < filled; i++)
        e2e_forget(&client, &fillers[i]);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}
END_TEST

START_TEST(test_expired_behind_a_full_socket_is_not_executed)
{
    start_behind_proxy(_i, false, "--capacity 8 --msgsize 8192");
    proxy.control->deaf = true;
    fill_socket();
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_actor_start(a, manager.channel, 200, "INCR victim");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) > FILLERS));
    support_sleep_ms(300);
    proxy.control->deaf = false;
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_EXPIRED);
    for (size_t i = 0; i < filled; i++)
        ck_assert_int_eq(e2e_finish(&client, &fillers[i]), E2E_OK);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET victim"), 0);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}
END_TEST

START_TEST(test_killed_behind_a_full_socket_costs_nothing)
{
    start_behind_proxy(_i, false, "--capacity 8 --msgsize 8192");
    proxy.control->deaf = true;
    fill_socket();
    struct e2e_actor *a = support_shared(sizeof(*a));
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "INCR victim");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) > FILLERS));
    support_kill(a->pid);
    support_sleep_ms(50);
    proxy.control->deaf = false;
    for (size_t i = 0; i < filled; i++)
        ck_assert_int_eq(e2e_finish(&client, &fillers[i]), E2E_OK);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_gone) == 1));
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET victim"), 0);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}
END_TEST

/* ---- without Redis ---- */

START_TEST(test_when_down_wait)
{
    scene_begin(_i, "--reconnect-max 20");
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_disconnects) == 1));
    struct e2e_actor *a = support_shared(2 * sizeof(*a));
    e2e_actor_start(&a[0], manager.channel, TIMEOUT_MS, "INCR patient");
    ck_assert(e2e_actor_reaches(&a[0], E2E_SENT));
    e2e_actor_start(&a[1], manager.channel, 200, "INCR hasty");
    ck_assert(e2e_actor_reaches(&a[1], E2E_SENT));
    support_sleep_ms(400);
    ck_assert_int_eq(a[0].stage, E2E_SENT); /* it waits */
    e2e_redis_restart(&redis);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(support_join(a[i].pid), 0);
    ck_assert_int_eq(a[0].end, E2E_OK);
    ck_assert_str_eq(a[0].data, ":1\r\n");
    ck_assert_int_eq(a[1].end, E2E_EXPIRED);
    ck_assert_msg(strstr(a[1].text, "queued") != NULL, "%s", a[1].text);
    ck_assert_int_eq(e2e_redis_integer(&redis, "GET hasty"), 0);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}
END_TEST

START_TEST(test_when_down_fail)
{
    scene_begin(_i, "--reconnect-max 20 --when-down=fail");
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_disconnects) == 1));
    uint64_t t0 = clock_ns();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "INCR n"),
                     E2E_UNAVAILABLE);
    e2e_figure(_i, "--when-down=fail: told after %.2f ms",
               (double)(clock_ns() - t0) / 1e6);
    ck_assert_uint_lt(clock_ns() - t0, TIMEOUT_MS / 2 * NS_PER_MS);
    ck_assert_msg(strstr(call.text, "not executed") != NULL, "%s", call.text);
    e2e_redis_restart(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) == 2));
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "INCR n"), E2E_OK);
    ck_assert(e2e_is(&call, ":1\r\n"));
    struct e2e_output out;
    e2e_redis_kill(&redis);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_disconnects) == 2));
    e2e_run(&out, (const char *const[]){"mqredis-worker", "-c", manager.channel,
                                        "PING", NULL});
    ck_assert_int_eq(out.status, E2E_UNAVAILABLE);
    ck_assert_uint_eq(e2e_lines(out.text), 1);
}
END_TEST

/* A server that reads its data lets everybody in and serves nobody: that is
 * being down, and commands wait for it. */
START_TEST(test_a_loading_server_is_down)
{
    struct redis first;
    struct redis_link link;
    char options[200], uri[160];
    const char *dir = support_scratch();
    if (_i != E2E_REDIS)
        return; /* mqredis-server has nothing to load */
    snprintf(options, sizeof(options),
             "--port 0 --dir %s --dbfilename load.rdb", dir);
    if (!redis_start(&first, "loading", options))
        return;
    redis_link_open(&link, &first);
    for (int i = 0; i < 1000; i++) {
        char command[40];
        snprintf(command, sizeof(command), "SET key:%d value", i);
        ck_assert_str_eq(redis_link_ask(&link, command), "+OK\r\n");
    }
    ck_assert_str_eq(redis_link_ask(&link, "SAVE"), "+OK\r\n");
    redis_link_close(&link);
    redis_stop(&first);
    /* A millisecond a key. */
    const char *const argv[] = {"redis-server",
                                "--port",
                                "0",
                                "--unixsocket",
                                first.path,
                                "--dir",
                                dir,
                                "--dbfilename",
                                "load.rdb",
                                "--key-load-delay",
                                "1000",
                                "--loading-process-events-interval-bytes",
                                "1024",
                                NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = e2e_spawn(argv, null, null);
    close(null);
    snprintf(uri, sizeof(uri), "unix://%s", first.path);
    ck_assert(UNTIL(access(first.path, F_OK) == 0));
    e2e_manager_launch(&manager, NULL, uri, "--reconnect-max 100");
    ck_assert(UNTIL(strstr(e2e_log(&manager), "does not serve yet") != NULL));
    e2e_manager_ready(&manager);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "GET key:999"),
                     E2E_OK);
    ck_assert(e2e_is(&call, "$5\r\nvalue\r\n"));
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    support_kill(pid);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("e2e_redis");
    TCase *t = support_case(s, "redis", 90);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    e2e_add(t, test_redis_killed_and_restarted_20_times);
    e2e_add(t, test_redis_killed_with_when_down_fail);
    e2e_add(t, test_replies_cut_in_the_middle);
    e2e_add(t, test_delays_and_deadlines);
    e2e_add(t, test_peer_stops_reading_and_answering);
    e2e_add(t, test_unwritten_commands_go_out_on_the_next_connection);
    e2e_add(t, test_expired_while_waiting_for_a_connection_is_not_executed);
    e2e_add(t, test_expired_behind_a_full_socket_is_not_executed);
    e2e_add(t, test_killed_behind_a_full_socket_costs_nothing);
    e2e_add(t, test_when_down_wait);
    e2e_add(t, test_when_down_fail);
    e2e_add(t, test_a_loading_server_is_down);
    return s;
}

int main(void)
{
    return support_run(suite());
}
