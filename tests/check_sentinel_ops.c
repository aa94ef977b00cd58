/* Redis Sentinel as an operator meets it: --check-config, passwords, TLS,
 * options that do not fit, takeovers, a start without any sentinel. */
#include <check.h>
#include <fcntl.h>
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

START_TEST(test_check_config_names_the_master)
{
    char server[64];
    if (!sentinel_scene())
        return;
    fake_sentinel_kill(&one);
    const char *const argv[] = {
        "mqredis-manager", "--check-config", "--capacity", "4",
        "--msgsize",       "1024",           "--redis",    sentinel_uri(2),
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
    server_follow(&a, &b);
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 78 && strstr(out.text, "it is no master"),
                  "%d: %s", out.status, out.text);
}
END_TEST

START_TEST(test_the_password_of_sentinels_is_reloaded)
{
    char path[200], options[300];
    if (!sentinel_scene())
        return;
    snprintf(path, sizeof(path), "%s", support_path("sentinel-password"));
    snprintf(options, sizeof(options),
             "--reconnect-max 200 --sentinel-password-file %s", path);
    strcpy(one.script->password, "hush");
    support_write_file(AT_FDCWD, path, "wrong\n");
    e2e_manager_launch(&manager, NULL, sentinel_uri(1), options);
    ck_assert(UNTIL(e2e_logged(&manager, "refuses AUTH: WRONGPASS")));
    support_write_file(AT_FDCWD, path, "hush\n");
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
    server_ask(&a, "CLIENT KILL TYPE normal SKIPME yes");
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
    if (!sentinel_scene_served(NULL))
        return;
    assert_serves(&a, "k");
    e2e_manager_start(&next, manager.channel, sentinel_uri(2), "--takeover");
    ck_assert_msg(support_join(manager.pid) == 0, "%s", e2e_log(&manager));
    manager = next;
    fake_sentinel_names(&one, b.port);
    fake_sentinel_names(&two, b.port);
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    fake_sentinel_switches(&one, a.port, b.port);
    fake_sentinel_switches(&two, a.port, b.port);
    ck_assert(UNTIL(manager_shows(&b)));
    assert_serves(&b, "k");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Without any sentinel at its start it waits, and says so to who asks. */
START_TEST(test_a_start_without_sentinels)
{
    struct channel ch;
    struct err_text why;
    if (!sentinel_scene())
        return;
    fake_sentinel_kill(&one);
    e2e_manager_launch(&manager, NULL, sentinel_uri(1),
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
    Suite *s = suite_create("sentinel_ops");
    TCase *t = support_case(s, "sentinel", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_check_config_names_the_master);
    tcase_add_test(t, test_the_password_of_sentinels_is_reloaded);
    tcase_add_test(t, test_tls);
    tcase_add_test(t, test_options_that_do_not_fit);
    tcase_add_test(t, test_takeover);
    tcase_add_test(t, test_a_start_without_sentinels);
    return support_run(s);
}
