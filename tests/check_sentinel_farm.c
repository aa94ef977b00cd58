/* Real masters, replicas and sentinels: what is acknowledged is there after a
 * failover, nobody gets another's reply, and it goes on. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/e2e_client.h"
#include "tests/redis_sentinel.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 20000
#define WORKERS 6
#define WRITES_MAX 65536

static struct farm farm;
static struct e2e_manager manager;
static struct e2e_output out;

/* ---- writers ---- */

enum phase { BEFORE, AFTER }; /* the last failover */

/* Lies in shared memory. */
struct writer {
    char channel[48];
    int number;
    _Atomic bool stop;
    _Atomic int phase;
    _Atomic unsigned count; /* writes begun */
    _Atomic unsigned acked, lost, refused;
    _Atomic uint64_t acked_ns;        /* when the last one was */
    unsigned char writes[WRITES_MAX]; /* enum fate */
};

/* Redis loses what it acknowledged before a failover and had not sent to its
 * replicas; only these two are certain. */
enum fate { DOUBTFUL, LATE /* after the last failover */, SAFE /* on all */ };

static void write_one(struct writer *w, struct e2e_client *client,
                      struct e2e_call *call, unsigned i)
{
    char want[96], token[32];
    int phase = w->phase;
    int n = snprintf(token, sizeof(token), "w%d.%u", w->number, i);
    enum e2e_end end = e2e_ask(client, call, TIMEOUT_MS, "SET %s %s ; ECHO %s",
                               token, token, token);
    snprintf(want, sizeof(want), "+OK\r\n$%d\r\n%s\r\n", n, token);
    if (end == E2E_LOST || end == E2E_UNAVAILABLE) {
        w->lost++;
        return;
    }
    CHILD_REQUIRE(end == E2E_OK);
    if (call->len > 0 && call->data[0] == '-') {
        /* By a master that was demoted a moment ago. */
        CHILD_REQUIRE(strncmp(call->data, "-READONLY", 9) == 0);
        w->refused++;
        return;
    }
    CHILD_REQUIRE(e2e_is(call, want));
    w->writes[i] = phase == AFTER ? LATE : DOUBTFUL;
    w->acked++;
    w->acked_ns = clock_ns();
}

/* Every fourth one waits for both replicas to have it. */
static void write_safely(struct writer *w, struct e2e_client *client,
                         struct e2e_call *call, unsigned i)
{
    char want[64];
    enum e2e_end end =
        e2e_ask(client, call, TIMEOUT_MS, "SET w%d.%u w%d.%u ; WAIT 2 300",
                w->number, i, w->number, i);
    snprintf(want, sizeof(want), "+OK\r\n:2\r\n");
    w->writes[i] = end == E2E_OK && e2e_is(call, want) ? SAFE : DOUBTFUL;
}

static void work(void *arg)
{
    struct writer *w = arg;
    struct e2e_client client;
    struct e2e_call call = {0};
    CHILD_REQUIRE(e2e_client_open(&client, w->channel) == ERR_OK);
    for (unsigned i = 0; !w->stop && i < WRITES_MAX; i++) {
        if (i % 4 == 3)
            write_safely(w, &client, &call, i);
        else
            write_one(w, &client, &call, i);
        w->count = i + 1;
        support_sleep_ms(1);
    }
    e2e_forget(&client, &call);
    e2e_client_close(&client);
}

static struct writer *writers;
static pid_t pids[WORKERS];

static void start_writers(void)
{
    writers = support_shared(WORKERS * sizeof(*writers));
    for (int i = 0; i < WORKERS; i++) {
        writers[i].number = i;
        strcpy(writers[i].channel, manager.channel);
        pids[i] = support_fork(work, &writers[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        ck_assert(UNTIL(writers[i].count > 40));
}

static uint64_t switches_then;

static uint64_t switches(void)
{
    return e2e_counter(&manager, COUNTER_switches);
}

/* The last failover is over. */
static void set_after(void)
{
    switches_then = switches();
    for (int i = 0; i < WORKERS; i++)
        writers[i].phase = AFTER;
}

/* Whether each of them got an answer of Redis since then. */
static bool all_served_since(uint64_t ns)
{
    for (int i = 0; i < WORKERS; i++)
        if (writers[i].acked_ns < ns)
            return false;
    return true;
}

static unsigned sum(size_t offset)
{
    unsigned n = 0;
    for (int i = 0; i < WORKERS; i++)
        n += *(_Atomic unsigned *)(void *)((char *)&writers[i] + offset);
    return n;
}

#define SUM(field) sum(offsetof(struct writer, field))

static void stop_writers(void)
{
    for (int i = 0; i < WORKERS; i++)
        writers[i].stop = true;
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
}

/* What must be there is. Returns how many these are. */
static unsigned check_kept(int master)
{
    struct redis_link link;
    unsigned kept = 0;
    /* Unless there was another one, of which a busy machine is the reason. */
    bool quiet = switches() == switches_then;
    farm_link(&farm, &farm.nodes[master], &link);
    for (int i = 0; i < WORKERS; i++) {
        for (unsigned k = 0; k < writers[i].count; k++) {
            char command[64];
            if (writers[i].writes[k] != SAFE &&
                (writers[i].writes[k] != LATE || !quiet))
                continue;
            snprintf(command, sizeof(command), "EXISTS w%d.%u", i, k);
            ck_assert_msg(strcmp(redis_link_ask(&link, command), ":1\r\n") == 0,
                          "%s: it was acknowledged", command);
            kept++;
        }
    }
    redis_link_close(&link);
    return kept;
}

/* ---- failovers ---- */

static bool shows(int node)
{
    char text[64];
    struct manager_state now;
    snprintf(text, sizeof(text), "redis://127.0.0.1:%d/0 (" FARM_MASTER ")",
             farm.ports[node]);
    return status_read_state(manager.status, &now, NULL) == ERR_OK &&
           now.kind == STATE_CONNECTED && strcmp(now.server, text) == 0;
}

/* Whether the manager is where the first living sentinel sends it. */
static bool follows(int *master)
{
    return (*master = farm_master(&farm)) >= 0 && shows(*master);
}

/* Waits until the sentinels name another one than `old`, and until it serves
 * everybody; says how long that took. */
static int await_failover(int old, uint64_t began_ns, const char *how)
{
    int now = old;
    ck_assert(UNTIL((now = farm_master(&farm)) != old && now >= 0));
    uint64_t named_ns = clock_ns();
    ck_assert_msg(UNTIL(follows(&now)), "%s", e2e_log(&manager));
    ck_assert(UNTIL(all_served_since(named_ns)));
    printf("figure: %s: named after %.0f ms, all served %.0f ms later\n", how,
           (double)(named_ns - began_ns) / 1e6,
           (double)(clock_ns() - named_ns) / 1e6);
    return now;
}

static void ask_for_failover(void)
{
    /* Refused while sentinels have not agreed on what is a good replica. */
    ck_assert(UNTIL(strcmp(farm_ask(&farm, &farm.sentinels[0],
                                    "SENTINEL FAILOVER " FARM_MASTER),
                           "+OK\r\n") == 0));
}

START_TEST(test_failovers_under_load)
{
    if (!farm_start(&farm, NULL, NULL)) {
        support_skip("sentinel_farm", "no redis-server is installed");
        return;
    }
    e2e_manager_start(&manager, NULL, farm_uri(&farm, "", 1), NULL);
    ck_assert(shows(0));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_sentinels) == FARM_SENTINELS));
    start_writers();

    uint64_t began_ns = clock_ns();
    ask_for_failover();
    int master = await_failover(0, began_ns, "SENTINEL FAILOVER");
    farm_follow(&farm, 0, master);
    ck_assert(UNTIL(farm_agrees(&farm, FARM_NODES - 1, &master)));
    unsigned before = SUM(count);
    ck_assert(UNTIL(SUM(count) > before + 100));

    began_ns = clock_ns();
    int dead = master;
    farm_kill_node(&farm, dead);
    master = await_failover(dead, began_ns, "kill -9 of the master");
    ck_assert(UNTIL(farm_agrees(&farm, FARM_NODES - 2, &master)));
    set_after();
    ck_assert_uint_ge(switches(), 2);
    before = SUM(acked);
    ck_assert(UNTIL(SUM(acked) > before + 100));

    /* The sentinels, one after the other; each that is left still tells. Not
     * in the middle of another failover: what the last one has told must be
     * what is shown in the end. */
    for (int i = 0; i < FARM_SENTINELS; i++) {
        ck_assert(UNTIL(farm_agrees(&farm, 0, &master) && shows(master)));
        farm_kill_sentinel(&farm, i);
        before = SUM(acked);
        ck_assert(UNTIL(SUM(acked) > before + 20));
    }
    ck_assert(UNTIL(e2e_logged(&manager, "no sentinel tells")));
    unsigned lost = SUM(lost);
    farm_ask(&farm, &farm.nodes[master], "CLIENT KILL TYPE normal SKIPME yes");
    before = SUM(acked);
    ck_assert(UNTIL(SUM(acked) > before + 20));
    ck_assert(UNTIL(shows(master)));

    stop_writers();
    unsigned kept = check_kept(master);
    printf("figure: %u writes acknowledged, %u that must be there are, %u "
           "lost or not executed (%u of them without a failover), %u "
           "READONLY\n",
           SUM(acked), kept, SUM(lost), SUM(lost) - lost, SUM(refused));
    ck_assert_uint_gt(kept, 0);
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    farm_stop(&farm);
}
END_TEST

/* ---- passwords ---- */

/* What --check-config says, with a password for the sentinels or without. */
static void check_config(const char *password_file)
{
    const char *const argv[] = {
        "mqredis-manager",
        "--check-config",
        "--capacity",
        "4",
        "--msgsize",
        "1024",
        "--channel",
        "none",
        "--redis",
        farm_uri(&farm, ":hush@", 7),
        password_file != NULL ? "--sentinel-password-file" : NULL,
        password_file,
        NULL};
    e2e_run(&out, argv);
}

START_TEST(test_passwords_on_both)
{
    char path[200], options[300];
    if (!farm_start(&farm, "hush", "psst")) {
        support_skip("sentinel_farm", "no redis-server is installed");
        return;
    }
    snprintf(path, sizeof(path), "%s", support_path("sentinel-password"));
    support_write_file(AT_FDCWD, path, "psst\n");
    check_config(path);
    ck_assert_msg(out.status == 0, "%s", out.text);
    check_config(NULL);
    ck_assert_msg(out.status == 78 && strstr(out.text, "NOAUTH"), "%s",
                  out.text);

    snprintf(options, sizeof(options), "--sentinel-password-file %s", path);
    e2e_manager_start(&manager, NULL, farm_uri(&farm, ":hush@", 7), options);
    ck_assert(shows(0));
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    start_writers();
    uint64_t began_ns = clock_ns();
    farm_kill_node(&farm, 0);
    int master = await_failover(0, began_ns, "kill -9 with passwords");
    set_after();
    unsigned before = SUM(acked);
    ck_assert(UNTIL(SUM(acked) > before + 50));
    /* The old master comes back, as a replica: nobody goes there. */
    farm_restart_node(&farm, 0, master);
    ck_assert_msg(UNTIL(farm_agrees(&farm, FARM_NODES - 1, &master)), "%s",
                  e2e_log(&manager));
    before = SUM(acked);
    ck_assert(UNTIL(SUM(acked) > before + 50));
    ck_assert(shows(master));
    stop_writers();
    check_kept(master);
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert(!e2e_logged(&manager, "hush") && !e2e_logged(&manager, "psst"));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    farm_stop(&farm);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sentinel_farm");
    TCase *t = support_case(s, "sentinel_farm", 90);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_failovers_under_load);
    tcase_add_test(t, test_passwords_on_both);
    return support_run(s);
}
