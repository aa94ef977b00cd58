/* The manager and sentinels that say whatever a test wants, with real servers
 * for masters: whom it believes, what it does when they die or lie. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/pubsub_client.h"
#include "tests/redis_sentinel.h"
#include "tests/sentinel_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "tests/support_tls.h"

/* ---- the master ---- */

START_TEST(test_the_named_master_is_used)
{
    if (!sentinel_scene())
        return;
    e2e_manager_start(&manager, NULL, sentinel_uri(1), NULL);
    ck_assert(UNTIL(manager_shows(&a)));
    assert_serves(&a, "k");
    ck_assert(UNTIL(one.script->subscribed >= 4));
    ck_assert_uint_eq(manager_switches(), 0);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_sentinels) == 1));
    ck_assert_uint_eq(two.script->accepted, 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_an_event_moves_everything)
{
    if (!sentinel_scene_served(NULL))
        return;
    struct sub sub;
    struct broadcast_event ev;
    assert_serves(&a, "before");
    ck_assert_int_eq(
        sub_open(&sub, manager.channel, TIMEOUT_MS, "SUBSCRIBE news"), ERR_OK);
    ck_assert(sub_expect(&sub, BROADCAST_CONFIRMED, &ev));
    struct e2e_actor *blocked = support_shared(sizeof(*blocked));
    e2e_actor_start(blocked, manager.channel, TIMEOUT_MS, "BLPOP list 0");
    ck_assert(
        UNTIL(strstr(server_ask(&a, "INFO clients"), "blocked_clients:1")));

    uint64_t start = clock_ns();
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    fake_sentinel_switches(&one, a.port, b.port);
    ck_assert(UNTIL(manager_shows(&b)));
    printf("figure: connected to the new master %.1f ms after the event\n",
           (double)(clock_ns() - start) / 1e6);
    assert_serves(&b, "after");
    ck_assert_uint_eq(manager_switches(), 1);
    /* What was written there is lost, never called not executed. */
    ck_assert(e2e_actor_reaches(blocked, E2E_DONE));
    ck_assert_int_eq(blocked->end, E2E_LOST);
    ck_assert_msg(strstr(blocked->text, "master 'mymaster' is at") != NULL,
                  "%s", blocked->text);
    ck_assert_int_eq(support_join(blocked->pid), 0);
    /* Who listens is told of the gap, and hears the new master. */
    ck_assert(sub_expect(&sub, BROADCAST_GAP, &ev));
    ck_assert_str_eq(server_ask(&b, "PUBLISH news hello"), ":1\r\n");
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
    if (!sentinel_scene_served("--reconnect-max 10000"))
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
    ck_assert_str_eq(server_ask(&b, "DBSIZE"), ":8\r\n");
    ck_assert_uint_eq(manager_switches(), 1);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Sentinels that say nothing by themselves are asked again and again while the
 * master is away. */
START_TEST(test_a_dead_master_makes_it_ask)
{
    if (!sentinel_scene_served(NULL))
        return;
    fake_sentinel_names(&two, b.port);
    redis_stop(&a.at);
    ck_assert(UNTIL(manager_shows(&b)));
    assert_serves(&b, "k");
    ck_assert_uint_eq(manager_switches(), 1);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_a_replica_is_not_used)
{
    if (!sentinel_scene())
        return;
    server_follow(&a, &b);
    e2e_manager_launch(&manager, NULL, sentinel_uri(2), "--reconnect-max 200");
    ck_assert(
        UNTIL(e2e_logged(&manager, "it is no master, its role is 'slave'")));
    unsigned asked = one.script->asked;
    ck_assert(UNTIL(one.script->asked > asked + 1));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
    ck_assert_str_eq(server_ask(&a, "REPLICAOF NO ONE"), "+OK\r\n");
    e2e_manager_ready(&manager);
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* A user who may not ask for the role is served all the same. */
START_TEST(test_a_user_without_the_right_to_role)
{
    if (!sentinel_scene())
        return;
    char login[160];
    ck_assert_str_eq(
        server_ask(&a, "ACL SETUSER app on >hush ~* &* +@all -role"),
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
    if (!sentinel_scene_served(NULL))
        return;
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    server_follow(&a, &b);
    uint64_t start = clock_ns();
    open_client();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET k v"), E2E_OK);
    ck_assert_msg(call.len > 9 && memcmp(call.data, "-READONLY", 9) == 0,
                  "%.*s", (int)call.len, call.data);
    close_client();
    ck_assert(UNTIL(manager_shows(&b)));
    printf("figure: at the new master %.0f ms after -READONLY\n",
           (double)(clock_ns() - start) / 1e6);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* One sentinel alone does not take everybody off a master that serves. */
START_TEST(test_one_answer_does_not_move_a_served_master)
{
    if (!sentinel_scene_served(NULL))
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
    ck_assert_uint_eq(manager_switches(), 0);
    assert_serves(&a, "k");
    fake_sentinel_names(&two, b.port);
    fake_sentinel_event(&one, "+reset-master", "master mymaster 127.0.0.1 2");
    ck_assert(UNTIL(manager_shows(&b)));
    ck_assert_uint_eq(manager_switches(), 1);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* The others hear of a switch later, and must not send anybody back. */
START_TEST(test_who_has_not_heard_sends_nobody_back)
{
    if (!sentinel_scene_served(NULL))
        return;
    redis_stop(&a.at);
    fake_sentinel_names(&one, b.port);
    fake_sentinel_switches(&one, a.port, b.port);
    ck_assert(UNTIL(manager_shows(&b)));
    support_sleep_ms(1500);
    ck_assert_uint_eq(manager_switches(), 1);
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_events_of_others_move_nothing)
{
    if (!sentinel_scene_served(NULL))
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
    ck_assert_uint_eq(manager_switches(), 0);
    ck_assert(manager_shows(&a));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Whether it shows this master, and goes nowhere for a while. */
static bool settled_at(const struct server *s)
{
    uint64_t switches = manager_switches();
    if (!manager_shows(s))
        return false;
    support_sleep_ms(300);
    return manager_shows(s) && manager_switches() == switches;
}

/* One that is out of its mind costs some moves a second, no more. */
START_TEST(test_a_flood_of_events_is_bounded)
{
    if (!sentinel_scene_served(NULL))
        return;
    uint64_t start = clock_ns(), begun = manager_switches();
    int events = 0;
    while (clock_ns() - start < NS_PER_S ||
           (manager_switches() <= 2 && clock_ns() - start < 10 * NS_PER_S)) {
        fake_sentinel_switches(&one, events % 2 ? b.port : a.port,
                               events % 2 ? a.port : b.port);
        events++;
        support_sleep_ms(5);
    }
    /* The count first: it may go on while we are kept waiting. */
    uint64_t moves = manager_switches() - begun;
    double seconds = (double)(clock_ns() - start) / 1e9;
    ck_assert_uint_gt(moves, 2);
    ck_assert_uint_le(moves, (uint64_t)(seconds * 10) + 2);
    printf("figure: %d events in %.1f s, %llu moves\n", events, seconds,
           (unsigned long long)moves);
    fake_sentinel_switches(&one, b.port, a.port);
    ck_assert(UNTIL(settled_at(&a)));
    assert_serves(&a, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- sentinels that die ---- */

START_TEST(test_sentinels_tell_of_others_and_die)
{
    if (!sentinel_scene())
        return;
    fake_sentinel_tells_of(&one, &two);
    fake_sentinel_tells_of(&two, &one);
    e2e_manager_start(&manager, NULL, sentinel_uri(1), NULL);
    ck_assert(UNTIL(one.script->subscribed >= 4));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_sentinels) == 2));
    fake_sentinel_kill(&one);
    ck_assert(UNTIL(two.script->subscribed >= 4));
    fake_sentinel_switches(&two, a.port, b.port);
    fake_sentinel_names(&two, b.port);
    ck_assert(UNTIL(manager_shows(&b)));
    /* Without any it goes on. */
    fake_sentinel_kill(&two);
    ck_assert(UNTIL(e2e_logged(&manager, "no sentinel tells")));
    ck_assert(e2e_logged(&manager, "going on with 127.0.0.1:"));
    assert_serves(&b, "alone");
    /* Its two connections, both of which must be there; and what it asks next
     * is to go by a new one. */
    ck_assert(
        UNTIL(strstr(server_ask(&b, "INFO clients"), "connected_clients:3")));
    uint64_t connects = e2e_counter(&manager, COUNTER_connects);
    ck_assert_str_eq(server_ask(&b, "CLIENT KILL TYPE normal SKIPME yes"),
                     ":2\r\n");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects));
    assert_serves(&b, "again");
    fake_sentinel_names(&one, b.port);
    fake_sentinel_restart(&one);
    ck_assert(UNTIL(e2e_logged(&manager, "tells where 'mymaster' is again")));
    fake_sentinel_names(&one, a.port);
    ck_assert(UNTIL(one.script->subscribed >= 8));
    fake_sentinel_switches(&one, b.port, a.port);
    ck_assert(UNTIL(manager_shows(&a)));
    ck_assert_uint_eq(manager_switches(), 2);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_a_silent_sentinel_holds_up_nobody)
{
    if (!sentinel_scene())
        return;
    one.script->mute = true;
    uint64_t start = clock_ns();
    e2e_manager_start(&manager, NULL, sentinel_uri(2),
                      "--connect-timeout 1500 --silence-timeout 1500");
    printf("figure: ready %.1f s after a start with a sentinel first that is "
           "silent for 1.5 s\n",
           (double)(clock_ns() - start) / 1e9);
    assert_serves(&a, "k");
    ck_assert(UNTIL(two.script->subscribed >= 4));
    /* One that falls silent while it is listened to is left. */
    one.script->mute = false;
    two.script->mute = true;
    ck_assert(UNTIL(one.script->subscribed >= 4));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- sentinels that do not know, or lie ---- */

START_TEST(test_a_name_that_nobody_knows)
{
    if (!sentinel_scene())
        return;
    fake_sentinel_names(&one, 0);
    fake_sentinel_names(&two, 0);
    const char *const argv[] = {
        "mqredis-manager", "--check-config", "--capacity", "4",
        "--msgsize",       "1024",           "--redis",    sentinel_uri(2),
        "--channel",       "none",           NULL};
    e2e_run(&out, argv);
    ck_assert_int_eq(out.status, 78);
    ck_assert_msg(
        strstr(out.text, "sentinel   FAILED  'mymaster': 127.0.0.1:") &&
            strstr(out.text, "knows no master of that name"),
        "%s", out.text);
    e2e_manager_launch(&manager, NULL, sentinel_uri(2), "--reconnect-max 200");
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
    if (!sentinel_scene())
        return;
    fake_sentinel_says(&one, lies[_i].master, strlen(lies[_i].master));
    fake_sentinel_others(&one, lies[_i].others, strlen(lies[_i].others));
    e2e_manager_launch(&manager, NULL, sentinel_uri(1),
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
    if (!sentinel_scene())
        return;
    static char text[FAKE_REPLY_MAX];
    int n = snprintf(text, sizeof(text), "*900\r\n");
    for (int i = 0; i < 900; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n,
                      "*4\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n"
                      "$4\r\n%d\r\n",
                      1000 + i);
    fake_sentinel_others(&one, text, (size_t)n);
    e2e_manager_start(&manager, NULL, sentinel_uri(2), NULL);
    assert_serves(&a, "k");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_sentinels) == 32));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sentinel");
    TCase *t = support_case(s, "sentinel", 60);
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
    return support_run(s);
}
