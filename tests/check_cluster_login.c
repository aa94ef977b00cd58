/* The ways into a cluster: which seeds are enough, credentials and TLS on every
 * node's connection, and servers that are no cluster. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "tests/support_tls.h"

/* All three masters are reached. */
static void assert_whole(void)
{
    for (int i = 0; i < 3; i++) {
        EXPECT(
            mqredis_command(mq, "SET %s x", redis_cluster_word(&cluster, i, 0)),
            "OK");
        ck_assert_str_eq(redis_cluster_ask(&cluster, i, "DBSIZE"), ":1\r\n");
    }
}

/* The cluster's URI with something before the first host. */
static const char *with(const char *scheme, const char *login)
{
    static char uri[256];
    snprintf(uri, sizeof(uri), "%s://%s%s", scheme, login,
             redis_cluster_uri(&cluster) + strlen("cluster://"));
    return uri;
}

START_TEST(test_password)
{
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    redis_cluster_set_password(&cluster, "hush");
    cluster_scene_open(with("cluster", ":hush@"), NULL);
    assert_whole();
    cluster_scene_end();
}
END_TEST

START_TEST(test_user)
{
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(
            redis_cluster_ask(&cluster, i,
                              "ACL SETUSER app on >hush ~* &* +@all"),
            "+OK\r\n");
    cluster_scene_open(with("cluster", "app:hush@"), "--client-name teller");
    assert_whole();
    for (int i = 0; i < 3; i++) {
        const char *list = redis_cluster_ask(&cluster, i, "CLIENT LIST");
        ck_assert_msg(strstr(list, "name=teller") != NULL &&
                          strstr(list, "user=app") != NULL,
                      "%s", list);
    }
    cluster_scene_end();
}
END_TEST

START_TEST(test_wrong_password_is_said)
{
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    redis_cluster_set_password(&cluster, "hush");
    e2e_manager_launch(&manager, NULL, with("cluster", ":loud@"), NULL);
    ck_assert_msg(UNTIL(e2e_logged(&manager, "WRONGPASS")), "%s",
                  e2e_log(&manager));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
    redis_cluster_stop(&cluster);
}
END_TEST

START_TEST(test_tls)
{
    char options[1024], more[256];
    const char *missing = support_tls_missing();
    if (missing == NULL && !support_tls_certificates(support_scratch()))
        missing = "no certificates can be made";
    if (missing != NULL) {
        support_skip("check_cluster_login", missing);
        return;
    }
    const char *dir = support_scratch();
    snprintf(options, sizeof(options),
             "tls-cluster yes\ntls-replication yes\ntls-auth-clients no\n"
             "tls-cert-file %s/server.crt\ntls-key-file %s/server.key\n"
             "tls-ca-cert-file %s/ca.crt\n",
             dir, dir, dir);
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, options))
        return;
    snprintf(more, sizeof(more), "--tls-ca %s/ca.crt", dir);
    cluster_scene_open(with("clusters", ""), more);
    assert_whole();
    const char *word = redis_cluster_word(&cluster, 0, 0);
    redis_cluster_move(&cluster, redis_cluster_slot(word), 2);
    EXPECT(mqredis_command(mq, "GET %s", word), "x");
    cluster_scene_end();
}
END_TEST

START_TEST(test_seeds)
{
    char uri[128];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    /* Nobody listens at the first; the second is a name. */
    snprintf(uri, sizeof(uri), "cluster://127.0.0.1:1,localhost:%u",
             cluster.node[1].port);
    cluster_scene_open(uri, NULL);
    assert_whole();
    cluster_scene_end();
}
END_TEST

/* --check-config tries each seed; one that answers is enough. */
START_TEST(test_seeds_are_checked)
{
    static struct e2e_output out;
    char uri[128], answers[64];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    snprintf(answers, sizeof(answers), "127.0.0.1:%u", cluster.node[1].port);
    snprintf(uri, sizeof(uri), "cluster://127.0.0.1:1,%s", answers);
    const char *const argv[] = {"mqredis-manager",
                                "--check-config",
                                "--redis",
                                uri,
                                "--channel",
                                "new",
                                "--capacity",
                                "4",
                                "--msgsize",
                                "1024",
                                NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0, "%s", out.text);
    ck_assert_msg(strstr(out.text, "redis      warning redis://127.0.0.1:1") &&
                      strstr(out.text, "logged in"),
                  "%s", out.text);
    redis_cluster_stop(&cluster);
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 78, "%s", out.text);
    ck_assert_msg(strstr(out.text, "redis      FAILED  redis://127.0.0.1:1") &&
                      strstr(out.text, answers),
                  "%s", out.text);
}
END_TEST

/* A redis-server that is no cluster, on the first node's port. False: there is
 * none. */
static bool start_plain(struct redis *plain, char uri[64], const char *scheme)
{
    char options[32];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return false;
    unsigned port = cluster.node[0].port;
    redis_cluster_stop(&cluster);
    snprintf(options, sizeof(options), "--port %u", port);
    ck_assert(redis_start(plain, "plain", options));
    snprintf(uri, 64, "%s://127.0.0.1:%u", scheme, port);
    return true;
}

/* What HELLO tells of the server is compared with the options. */
START_TEST(test_the_wrong_kind_of_server_is_checked)
{
    static struct e2e_output out;
    struct redis plain;
    char uri[64];
    const char *const argv[] = {
        "mqredis-manager", "--check-config", "--redis", uri, "--channel", "new",
        "--msgsize",       "1024",           NULL};
    if (!start_plain(&plain, uri, "cluster"))
        return;
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 78 && strstr(out.text, "it is no cluster"),
                  "%s", out.text);
    redis_stop(&plain);
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    snprintf(uri, sizeof(uri), "redis://127.0.0.1:%u", cluster.node[1].port);
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && strstr(out.text, "redis      warning") &&
                      strstr(out.text, "--cluster yes"),
                  "%s", out.text);
    redis_cluster_stop(&cluster);
}
END_TEST

START_TEST(test_found_out_by_asking)
{
    char uri[64];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    snprintf(uri, sizeof(uri), "redis://127.0.0.1:%u", cluster.node[1].port);
    cluster_scene_open(uri, _i == 0 ? "--cluster auto" : "--cluster yes");
    assert_whole();
    cluster_scene_end();
}
END_TEST

START_TEST(test_not_asked_for)
{
    char uri[64];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    snprintf(uri, sizeof(uri), "redis://127.0.0.1:%u", cluster.node[1].port);
    cluster_scene_open(uri, _i == 0 ? NULL : "--cluster no");
    struct mqredis_reply *r =
        mqredis_command(mq, "GET %s", redis_cluster_word(&cluster, 0, 0));
    ck_assert_msg(strncmp(lib_text(r), "MOVED ", 6) == 0, "%s", lib_text(r));
    mqredis_free(r);
    cluster_scene_end();
}
END_TEST

START_TEST(test_auto_at_a_server_of_its_own)
{
    struct redis plain;
    char uri[64];
    if (!start_plain(&plain, uri, "redis"))
        return;
    cluster_scene_open(uri, "--cluster auto");
    EXPECT(mqredis_command(mq, "SET a 1"), "OK");
    EXPECT(mqredis_command(mq, "RENAME a b"), "OK");
    cluster_scene_close();
    redis_stop(&plain);
}
END_TEST

/* Subscriptions there, too, log in with what was read last. */
START_TEST(test_auto_and_the_password_is_read_again)
{
    struct redis plain;
    struct redis_link boss;
    char uri[64], path[160], options[256];
    static const char *const channels[] = {"news"};
    if (!start_plain(&plain, uri, "redis"))
        return;
    redis_link_open(&boss, &plain);
    snprintf(path, sizeof(path), "%s", support_path("password"));
    snprintf(options, sizeof(options), "--cluster auto --password-file %s",
             path);
    support_write_file(AT_FDCWD, path, "first\n");
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass first"),
                     "+OK\r\n");
    cluster_scene_open(uri, options);
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass second"),
                     "+OK\r\n");
    support_write_file(AT_FDCWD, path, "second\n");
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "reloaded")));
    struct mqredis_error error = {.text = ""};
    struct mqredis_stream *news =
        mqredis_subscribe(mq, 1, channels, NULL, &error);
    ck_assert_msg(news != NULL, "%s", error.text);
    mqredis_stream_close(news);
    redis_link_close(&boss);
    cluster_scene_close();
    redis_stop(&plain);
}
END_TEST

/* A node of which a server of its own has the port now: the rest of the cluster
 * stays one. (Without replicas the map is asked for every second.) */
START_TEST(test_an_impostor_ends_no_cluster)
{
    struct redis plain;
    char text[64];
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    snprintf(text, sizeof(text), "redis://127.0.0.1:%u", cluster.node[0].port);
    cluster_scene_open(text, "--cluster auto --read-from prefer-replica");
    assert_whole();
    struct mqredis *other = lib_open(&manager);
    const char *list = redis_cluster_word(&cluster, 1, 40);
    struct mqredis_request *q = mqredis_submit(other, "BLPOP %s 0", list);
    mqredis_flush(other);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 1));
    redis_cluster_kill(&cluster, 2);
    snprintf(text, sizeof(text), "--port %u --bind 127.0.0.1",
             cluster.node[2].port);
    ck_assert(redis_start(&plain, "impostor", text));
    ck_assert_msg(UNTIL(e2e_logged(&manager, "it is no cluster")), "%s",
                  e2e_log(&manager));
    EXPECT(mqredis_command(mq, "LPUSH %s x", list), "1");
    struct mqredis_reply *r = mqredis_wait(q);
    ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 2, "%s",
                  lib_text(r));
    mqredis_free(r);
    mqredis_close(other);
    redis_stop(&plain);
    cluster_scene_end();
}
END_TEST

START_TEST(test_no_cluster_is_said)
{
    struct redis plain;
    char uri[64];
    if (!start_plain(&plain, uri, "cluster"))
        return;
    e2e_manager_launch(&manager, NULL, uri, NULL);
    ck_assert_msg(UNTIL(e2e_logged(&manager, "cluster support disabled")), "%s",
                  e2e_log(&manager));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
    redis_stop(&plain);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_login");
    TCase *t = support_case(s, "login", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_password);
    tcase_add_test(t, test_user);
    tcase_add_test(t, test_wrong_password_is_said);
    tcase_add_test(t, test_tls);
    tcase_add_test(t, test_seeds);
    tcase_add_test(t, test_seeds_are_checked);
    tcase_add_test(t, test_the_wrong_kind_of_server_is_checked);
    tcase_add_loop_test(t, test_found_out_by_asking, 0, 2);
    tcase_add_loop_test(t, test_not_asked_for, 0, 2);
    tcase_add_test(t, test_auto_at_a_server_of_its_own);
    tcase_add_test(t, test_auto_and_the_password_is_read_again);
    tcase_add_test(t, test_an_impostor_ends_no_cluster);
    tcase_add_test(t, test_no_cluster_is_said);
    return s;
}

int main(void)
{
    return support_run(suite());
}
