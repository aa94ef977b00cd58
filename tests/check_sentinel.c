/* The manager and sentinels that say whatever a test wants, with real servers
 * for masters: whom it believes, what it does when they die or lie. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/e2e_client.h"
#include "tests/fake_sentinel.h"
#include "tests/pubsub_client.h"
#include "tests/redis_sentinel.h"
#include "tests/support.h"
#include "tests/support_tls.h"

#define TIMEOUT_MS 20000

/* A Redis on a port. */
struct server {
    struct redis at;
    int port;
};

static struct server a, b;
static struct fake_sentinel one, two;
static struct e2e_manager manager;
static struct e2e_client client;
static struct e2e_call call;
static struct e2e_output out;

static bool start_server(struct server *s, const char *more)
{
    static unsigned count;
    char options[256], name[40];
    s->port = support_free_port();
    snprintf(name, sizeof(name), "r%ld-%u", (long)getpid(), ++count);
    snprintf(options, sizeof(options), "--port %d --bind 127.0.0.1%s", s->port,
             more);
    if (redis_start(&s->at, name, options))
        return true;
    support_skip("sentinel", "no redis-server is installed");
    return false;
}

static const char *ask(const struct server *s, const char *command)
{
    struct redis_link link;
    redis_link_open(&link, &s->at);
    const char *text = redis_link_ask(&link, command);
    redis_link_close(&link);
    return text;
}

static void make_replica(struct server *s, const struct server *of)
{
    char command[64];
    snprintf(command, sizeof(command), "REPLICAOF 127.0.0.1 %d", of->port);
    ck_assert_str_eq(ask(s, command), "+OK\r\n");
}

static const char *uri(int count)
{
    static char text[128];
    int n = snprintf(text, sizeof(text), "sentinel://127.0.0.1:%d", one.port);
    if (count > 1)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",127.0.0.1:%d",
                      two.port);
    snprintf(text + n, sizeof(text) - (size_t)n, "/mymaster");
    return text;
}

/* Two servers, and two sentinels that name the first one. */
static bool begin(void)
{
    if (!start_server(&a, "") || !start_server(&b, ""))
        return false;
    fake_sentinel_start(&one, "");
    fake_sentinel_start(&two, "");
    fake_sentinel_names(&one, a.port);
    fake_sentinel_names(&two, a.port);
    return true;
}

static bool begin_served(const char *options)
{
    if (!begin())
        return false;
    e2e_manager_start(&manager, NULL, uri(2), options);
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    return true;
}

static void open_client(void)
{
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
}

static void close_client(void)
{
    e2e_forget(&client, &call);
    e2e_client_close(&client);
}

/* A command through the manager goes to this server. */
static void assert_serves(const struct server *s, const char *key)
{
    char command[64];
    open_client();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET %s v", key),
                     E2E_OK);
    ck_assert_msg(e2e_is(&call, "+OK\r\n"), "%.*s", (int)call.len, call.data);
    close_client();
    snprintf(command, sizeof(command), "EXISTS %s", key);
    ck_assert_str_eq(ask(s, command), ":1\r\n");
}

static bool shows(const struct server *s)
{
    char text[64];
    struct manager_state now;
    snprintf(text, sizeof(text), "redis://127.0.0.1:%d/0 (mymaster)", s->port);
    return status_read_state(manager.status, &now, NULL) == ERR_OK &&
           now.kind == STATE_CONNECTED && strcmp(now.server, text) == 0;
}

static uint64_t switches(void)
{
    return e2e_counter(&manager, COUNTER_switches);
}

/* ---- the master ---- */

START_TEST(test_the_named_master_is_used)
{
    if (!begin())
        return;
    e2e_manager_start(&manager, NULL, uri(1), NULL);
    ck_assert(UNTIL(shows(&a)));
    assert_serves(&a, "k");
    ck_assert(UNTIL(one.script->subscribed == 4));
    ck_assert_uint_eq(switches(), 0);
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_sentinels), 1);
    ck_assert_uint_eq(two.script->accepted, 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_an_event_moves_everything)
{
    if (!begin_served(NULL))
        return;
    struct sub sub;
    struct broadcast_event ev;
    assert_serves(&a, "before");
    ck_assert_int_eq(
        sub_open(&sub, manager.channel, TIMEOUT_MS, "SUBSCRIBE news"), ERR_OK);
    ck_assert(sub_expect(&sub, BROADCAST_CONFIRMED, &ev));
    struct e2e_actor *blocked = support_shared(sizeof(*blocked));
    e2e_actor_start(blocked, manager.channel, TIMEOUT_MS, "BLPOP list 0");
    ck_assert(UNTIL(strstr(ask(&a, "INFO clients"), "blocked_clients:1")));

    uint64_t start = clock_ns();
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    fake_sentinel_switches(&one, a.port, b.port);
    ck_assert(UNTIL(shows(&b)));
    printf("figure: connected to the new master %.1f ms after the event\n",
           (double)(clock_ns() - start) / 1e6);
    assert_serves(&b, "after");
    ck_assert_uint_eq(switches(), 1);
    /* What was written there is lost, never called not executed. */
    ck_assert(e2e_actor_reaches(blocked, E2E_DONE));
    ck_assert_int_eq(blocked->end, E2E_LOST);
    ck_assert_msg(strstr(blocked->text, "master 'mymaster' is at") != NULL,
                  "%s", blocked->text);
    ck_assert_int_eq(support_join(blocked->pid), 0);
    /* Who listens is told of the gap, and hears the new master. */
    ck_assert(sub_expect(&sub, BROADCAST_GAP, &ev));
    ck_assert_str_eq(ask(&b, "PUBLISH news hello"), ":1\r\n");
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    sub_close(&sub);
    /* One line for it. */
    ck_assert(e2e_logged(&manager, "leaving redis://"));
    ck_assert(!e2e_logged(&manager, "lost the connection to redis://"));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* What waits while the master is dead goes to the next one. */
START_TEST(test_unwritten_commands_go_to_the_new_master)
{
    enum { ACTORS = 8 };
    if (!begin_served("--reconnect-max 10000"))
        return;
    struct e2e_actor *actors = support_shared(ACTORS * sizeof(*actors));
    redis_stop(&a.at);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_RECONNECTING));
    for (int i = 0; i < ACTORS; i++)
        e2e_actor_start(&actors[i], manager.channel, TIMEOUT_MS, "SET key:%d v",
                        i);
    for (int i = 0; i < ACTORS; i++)
        ck_assert(e2e_actor_reaches(&actors[i], E2E_SENT));
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    fake_sentinel_switches(&one, a.port, b.port);
    for (int i = 0; i < ACTORS; i++) {
        ck_assert(e2e_actor_reaches(&actors[i], E2E_DONE));
        ck_assert_int_eq(actors[i].end, E2E_OK);
        ck_assert_int_eq(support_join(actors[i].pid), 0);
    }
    ck_assert_str_eq(ask(&b, "DBSIZE"), ":8\r\n");
    ck_assert_uint_eq(switches(), 1);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Sentinels that say nothing by themselves are asked again and again while the
 * master is away. */
START_TEST(test_a_dead_master_makes_it_ask)
{
    if (!begin_served(NULL))
        return;
    fake_sentinel_names(&two, b.port);
    redis_stop(&a.at);
    ck_assert(UNTIL(shows(&b)));
    assert_serves(&b, "k");
    ck_assert_uint_eq(switches(), 1);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_a_replica_is_not_used)
{
    if (!begin())
        return;
    make_replica(&a, &b);
    e2e_manager_launch(&manager, NULL, uri(2), "--reconnect-max 200");
    ck_assert(
        UNTIL(e2e_logged(&manager, "it is no master, its role is 'slave'")));
    unsigned asked = one.script->asked;
    ck_assert(UNTIL(one.script->asked > asked + 1));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
    ck_assert_str_eq(ask(&a, "REPLICAOF NO ONE"), "+OK\r\n");
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* A user who may not ask for the role is served all the same. */
START_TEST(test_a_user_without_the_right_to_role)
{
    if (!begin())
        return;
    char login[160];
    ck_assert_str_eq(ask(&a, "ACL SETUSER app on >hush ~* &* +@all -role"),
                     "+OK\r\n");
    snprintf(login, sizeof(login),
             "redis-sentinel://app:hush@127.0.0.1:%d/0#mymaster", one.port);
    e2e_manager_start(&manager, NULL, login, NULL);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_readonly_makes_it_ask)
{
    if (!begin_served(NULL))
        return;
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    make_replica(&a, &b);
    uint64_t start = clock_ns();
    open_client();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET k v"), E2E_OK);
    ck_assert_msg(call.len > 9 && memcmp(call.data, "-READONLY", 9) == 0,
                  "%.*s", (int)call.len, call.data);
    close_client();
    ck_assert(UNTIL(shows(&b)));
    printf("figure: at the new master %.0f ms after -READONLY\n",
           (double)(clock_ns() - start) / 1e6);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* One sentinel alone does not take everybody off a master that serves. */
START_TEST(test_one_answer_does_not_move_a_served_master)
{
    if (!begin_served(NULL))
        return;
    fake_sentinel_names(&one, b.port);
    unsigned asked = two.script->asked;
    for (int i = 0; i < 3; i++) {
        fake_sentinel_event(&one, "+sentinel",
                            "sentinel abc 127.0.0.1 1 @ mymaster 127.0.0.1 2");
        ck_assert(UNTIL(two.script->asked > asked));
        asked = two.script->asked;
        support_sleep_ms(300);
    }
    ck_assert_uint_eq(switches(), 0);
    assert_serves(&a, "k");
    fake_sentinel_names(&two, b.port);
    fake_sentinel_event(&one, "+reset-master", "master mymaster 127.0.0.1 2");
    ck_assert(UNTIL(shows(&b)));
    ck_assert_uint_eq(switches(), 1);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* The others hear of a switch later, and must not send anybody back. */
START_TEST(test_who_has_not_heard_sends_nobody_back)
{
    if (!begin_served(NULL))
        return;
    redis_stop(&a.at);
    fake_sentinel_names(&one, b.port);
    fake_sentinel_switches(&one, a.port, b.port);
    ck_assert(UNTIL(shows(&b)));
    support_sleep_ms(1500);
    ck_assert_uint_eq(switches(), 1);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_events_of_others_move_nothing)
{
    if (!begin_served(NULL))
        return;
    static const char *const texts[] = {
        "othermaster 127.0.0.1 1 127.0.0.1 2",
        "mymaster 127.0.0.1 1 127.0.0.1",
        "mymaster 127.0.0.1 1 127.0.0.1 0",
        "mymaster 127.0.0.1 1 / 1",
        "mymaster",
        "",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        fake_sentinel_event(&one, "+switch-master", texts[i]);
        support_sleep_ms(30);
    }
    fake_sentinel_event(&one, "+strange", "mymaster 127.0.0.1 1 127.0.0.1 2");
    support_sleep_ms(100);
    ck_assert_uint_eq(switches(), 0);
    ck_assert(shows(&a));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* One that is out of its mind costs some moves a second, no more. */
START_TEST(test_a_flood_of_events_is_bounded)
{
    if (!begin_served(NULL))
        return;
    uint64_t start = clock_ns();
    int events = 0;
    while (clock_ns() - start < NS_PER_S) {
        fake_sentinel_switches(&one, events % 2 ? b.port : a.port,
                               events % 2 ? a.port : b.port);
        events++;
        support_sleep_ms(5);
    }
    uint64_t bound = (clock_ns() - start) / (100 * NS_PER_MS) + 2;
    ck_assert_uint_gt(switches(), 2);
    ck_assert_uint_le(switches(), bound);
    printf("figure: %d events in 1 s, %llu moves\n", events,
           (unsigned long long)switches());
    fake_sentinel_switches(&one, b.port, a.port);
    ck_assert(UNTIL(shows(&a)));
    support_sleep_ms(300);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- sentinels that die ---- */

START_TEST(test_sentinels_tell_of_others_and_die)
{
    if (!begin())
        return;
    fake_sentinel_tells_of(&one, &two);
    fake_sentinel_tells_of(&two, &one);
    e2e_manager_start(&manager, NULL, uri(1), NULL);
    ck_assert(UNTIL(one.script->subscribed == 4));
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_sentinels), 2);
    fake_sentinel_kill(&one);
    ck_assert(UNTIL(two.script->subscribed == 4));
    fake_sentinel_switches(&two, a.port, b.port);
    fake_sentinel_names(&two, b.port);
    ck_assert(UNTIL(shows(&b)));
    /* Without any it goes on. */
    fake_sentinel_kill(&two);
    ck_assert(UNTIL(e2e_logged(&manager, "no sentinel tells")));
    ck_assert(e2e_logged(&manager, "going on with 127.0.0.1:"));
    assert_serves(&b, "alone");
    ck_assert_str_eq(ask(&b, "CLIENT KILL TYPE normal SKIPME yes"), ":2\r\n");
    assert_serves(&b, "again");
    fake_sentinel_names(&one, b.port);
    fake_sentinel_restart(&one);
    ck_assert(UNTIL(e2e_logged(&manager, "tells where 'mymaster' is again")));
    fake_sentinel_names(&one, a.port);
    ck_assert(UNTIL(one.script->subscribed == 8));
    fake_sentinel_switches(&one, b.port, a.port);
    ck_assert(UNTIL(shows(&a)));
    ck_assert_uint_eq(switches(), 2);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_a_silent_sentinel_holds_up_nobody)
{
    if (!begin())
        return;
    one.script->mute = true;
    uint64_t start = clock_ns();
    e2e_manager_start(&manager, NULL, uri(2),
                      "--connect-timeout 500 --silence-timeout 500");
    printf("figure: ready %.1f s after a start with a sentinel first that is "
           "silent for 0.5 s\n",
           (double)(clock_ns() - start) / 1e9);
    assert_serves(&a, "k");
    ck_assert(UNTIL(two.script->subscribed == 4));
    /* One that falls silent while it is listened to is left. */
    one.script->mute = false;
    two.script->mute = true;
    ck_assert(UNTIL(one.script->subscribed == 4));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- sentinels that do not know, or lie ---- */

START_TEST(test_a_name_that_nobody_knows)
{
    if (!begin())
        return;
    fake_sentinel_names(&one, 0);
    fake_sentinel_names(&two, 0);
    const char *const argv[] = {
        "mqredis-manager", "--check-config", "--capacity", "4",
        "--msgsize",       "1024",           "--redis",    uri(2),
        "--channel",       "none",           NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 78);
    ck_assert_msg(
        strstr(out.text, "sentinel   FAILED  'mymaster': 127.0.0.1:") &&
            strstr(out.text, "knows no master of that name"),
        "%s", out.text);
    e2e_manager_launch(&manager, NULL, uri(2), "--reconnect-max 200");
    ck_assert(UNTIL(e2e_logged(&manager, "knows no master of that name")));
    unsigned asked = one.script->asked;
    ck_assert(UNTIL(one.script->asked > asked + 1));
    ck_assert_uint_eq(e2e_lines(e2e_log(&manager)), 1);
    fake_sentinel_names(&two, a.port);
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

static const struct {
    const char *master, *others;
} lies[] = {
    {"*2\r\n$1\r\nh\r\n$1\r\n0\r\n", "*0\r\n"},
    {"*2\r\n$3\r\na b\r\n$1\r\n1\r\n", "*0\r\n"},
    {"+OK\r\n", "*0\r\n"},
    {"*1000000000\r\n", "*0\r\n"},
    {"$100000000\r\n", "*0\r\n"},
    {"-NOPERM no\r\n", "*0\r\n"},
    {"HTTP/1.1 200 OK\r\n\r\n", "*0\r\n"},
    {"*-1\r\n*-1\r\n*-1\r\n*-1\r\n", "*0\r\n"},
    {"", ""},
};

START_TEST(test_lies)
{
    if (!begin())
        return;
    fake_sentinel_says(&one, lies[_i].master, strlen(lies[_i].master));
    fake_sentinel_others(&one, lies[_i].others, strlen(lies[_i].others));
    e2e_manager_launch(&manager, NULL, uri(1),
                       "--reconnect-max 200 --connect-timeout 500");
    ck_assert_msg(UNTIL(e2e_logged(&manager, "no sentinel tells")), "%s",
                  e2e_log(&manager));
    fake_sentinel_names(&one, a.port);
    fake_sentinel_others(&one, "*0\r\n", 4);
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* More of them than anybody has, each at a place of its own. */
START_TEST(test_a_crowd_of_sentinels_is_bounded)
{
    if (!begin())
        return;
    static char text[FAKE_REPLY_MAX];
    int n = snprintf(text, sizeof(text), "*900\r\n");
    for (int i = 0; i < 900; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n,
                      "*4\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n"
                      "$4\r\n%d\r\n",
                      1000 + i);
    fake_sentinel_others(&one, text, (size_t)n);
    e2e_manager_start(&manager, NULL, uri(2), NULL);
    assert_serves(&a, "k");
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_sentinels), 32);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- what an operator does ---- */

START_TEST(test_check_config_names_the_master)
{
    char server[64];
    if (!begin())
        return;
    fake_sentinel_kill(&one);
    const char *const argv[] = {
        "mqredis-manager", "--check-config", "--capacity", "4",
        "--msgsize",       "1024",           "--redis",    uri(2),
        "--channel",       "none",           NULL};
    e2e_run(&out, argv);
    snprintf(server, sizeof(server), "redis://127.0.0.1:%d/0, logged in",
             a.port);
    ck_assert_msg(out.status == 0 && strstr(out.text, server) &&
                      strstr(out.text, "knows 'mymaster'"),
                  "%d: %s", out.status, out.text);
    fake_sentinel_kill(&two);
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 78 && strstr(out.text, "Connection refused"),
                  "%d: %s", out.status, out.text);
    fake_sentinel_restart(&one);
    make_replica(&a, &b);
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 78 && strstr(out.text, "it is no master"),
                  "%d: %s", out.status, out.text);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_the_password_of_sentinels_is_reloaded)
{
    char path[200], options[300];
    if (!begin())
        return;
    snprintf(path, sizeof(path), "%s", support_path("sentinel-password"));
    snprintf(options, sizeof(options),
             "--reconnect-max 200 --sentinel-password-file %s", path);
    strcpy(one.script->password, "hush");
    write_file(path, "wrong\n");
    e2e_manager_launch(&manager, NULL, uri(1), options);
    ck_assert(UNTIL(e2e_logged(&manager, "refuses AUTH: WRONGPASS")));
    write_file(path, "hush\n");
    kill(manager.pid, SIGHUP);
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    unlink(path);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "reload: --sentinel-password-file")));
    ck_assert(e2e_logged(&manager, "nothing was changed"));
    ck_assert(!e2e_logged(&manager, "hush"));
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* By default sentinels:// is TLS everywhere; sentinels without it are said. */
START_TEST(test_tls)
{
    char dir[160], options[1024], text[1024];
    struct redis sentinel = {.path = ""};
    const char *missing = support_tls_missing();
    if (missing != NULL) {
        support_skip("sentinel_tls", missing);
        return;
    }
    snprintf(dir, sizeof(dir), "%s", support_scratch());
    ck_assert(support_tls_certificates(dir));
    int master = support_free_port(), port = support_free_port();
    snprintf(options, sizeof(options),
             "--port 0 --tls-port %d --bind 127.0.0.1 --tls-cert-file "
             "%s/server.crt --tls-key-file %s/server.key --tls-ca-cert-file "
             "%s/ca.crt --tls-auth-clients no",
             master, dir, dir, dir);
    ck_assert(redis_start(&a.at, "tls", options));
    snprintf(text, sizeof(text),
             "port 0\ntls-port %d\ntls-replication yes\n"
             "tls-cert-file %s/server.crt\ntls-key-file %s/server.key\n"
             "tls-ca-cert-file %s/ca.crt\ntls-auth-clients no\n"
             "sentinel monitor mymaster 127.0.0.1 %d 1\n",
             port, dir, dir, dir, master);
    sentinel_start(&sentinel, text);
    snprintf(text, sizeof(text), "sentinels://127.0.0.1:%d/mymaster", port);
    snprintf(options, sizeof(options), "--tls-ca %s/ca.crt", dir);
    e2e_manager_start(&manager, NULL, text, options);
    assert_serves(&a, "k");
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "reloaded")));
    uint64_t connects = e2e_counter(&manager, COUNTER_connects);
    ask(&a, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects));
    assert_serves(&a, "again");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);

    fake_sentinel_start(&one, "");
    fake_sentinel_names(&one, master);
    snprintf(text, sizeof(text), "sentinels://127.0.0.1:%d/mymaster", one.port);
    snprintf(options, sizeof(options), "--tls-ca %s/ca.crt --sentinel-tls no",
             dir);
    e2e_manager_start(&manager, NULL, text, options);
    assert_serves(&a, "plain");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    redis_stop(&sentinel);
}
END_TEST

START_TEST(test_options_that_do_not_fit)
{
    static const struct {
        const char *uri, *option, *value, *says;
    } cases[] = {
        {"redis://h", "--sentinel-tls", "yes", "not sentinel://"},
        {"redis://h", "--sentinel-password-file", "/f", "not sentinel://"},
        {"sentinel://h/m", "--sentinel-user", "u", "--sentinel-password-file"},
        {"sentinel://h/m", "--sentinel-tls", "maybe", "yes or no"},
        {"sentinel://h", "--resp", "2", "master's name"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const argv[] = {"mqredis-manager", "--redis",
                                    cases[i].uri,      cases[i].option,
                                    cases[i].value,    NULL};
        e2e_run(&out, argv);
        ck_assert_msg(out.status == 64 && e2e_lines(out.text) == 1 &&
                          strstr(out.text, cases[i].says),
                      "%d: %s", out.status, out.text);
    }
}
END_TEST

START_TEST(test_takeover)
{
    struct e2e_manager next;
    if (!begin_served(NULL))
        return;
    assert_serves(&a, "k");
    e2e_manager_start(&next, manager.channel, uri(2), "--takeover");
    ck_assert_msg(support_join(manager.pid) == 0, "%s", e2e_log(&manager));
    manager = next;
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    fake_sentinel_switches(&one, a.port, b.port);
    fake_sentinel_switches(&two, a.port, b.port);
    ck_assert(UNTIL(shows(&b)));
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Without any sentinel at its start it waits, and says so to who asks. */
START_TEST(test_a_start_without_sentinels)
{
    struct channel ch;
    struct err_text why;
    if (!begin())
        return;
    fake_sentinel_kill(&one);
    e2e_manager_launch(&manager, NULL, uri(1),
                       "--reconnect-max 200 --when-down fail");
    ck_assert(UNTIL(e2e_logged(&manager, "Connection refused")));
    ck_assert_int_eq(channel_open(&ch, manager.channel, &why), ERR_OK);
    ck_assert_int_eq(status_open(&ch, &manager.status, &why), ERR_OK);
    channel_close(&ch);
    ck_assert_uint_eq(e2e_state(&manager), STATE_STARTING);
    open_client();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET k v"),
                     E2E_UNAVAILABLE);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "BLPOP k 0"),
                     E2E_UNAVAILABLE);
    close_client();
    fake_sentinel_restart(&one);
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sentinel");
    TCase *t = tcase_create("sentinel");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_the_named_master_is_used);
    tcase_add_test(t, test_an_event_moves_everything);
    tcase_add_test(t, test_unwritten_commands_go_to_the_new_master);
    tcase_add_test(t, test_a_dead_master_makes_it_ask);
    tcase_add_test(t, test_a_replica_is_not_used);
    tcase_add_test(t, test_a_user_without_the_right_to_role);
    tcase_add_test(t, test_readonly_makes_it_ask);
    tcase_add_test(t, test_one_answer_does_not_move_a_served_master);
    tcase_add_test(t, test_who_has_not_heard_sends_nobody_back);
    tcase_add_test(t, test_events_of_others_move_nothing);
    tcase_add_test(t, test_a_flood_of_events_is_bounded);
    tcase_add_test(t, test_sentinels_tell_of_others_and_die);
    tcase_add_test(t, test_a_silent_sentinel_holds_up_nobody);
    tcase_add_test(t, test_a_name_that_nobody_knows);
    tcase_add_loop_test(t, test_lies, 0, (int)(sizeof(lies) / sizeof(lies[0])));
    tcase_add_test(t, test_a_crowd_of_sentinels_is_bounded);
    tcase_add_test(t, test_check_config_names_the_master);
    tcase_add_test(t, test_the_password_of_sentinels_is_reloaded);
    tcase_add_test(t, test_tls);
    tcase_add_test(t, test_options_that_do_not_fit);
    tcase_add_test(t, test_takeover);
    tcase_add_test(t, test_a_start_without_sentinels);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
