/* The manager's TLS against a real redis-server, with certificates of two
 * authorities made for the suite: who is trusted, who is not, and that the
 * stream holds under large values, full sockets and broken connections. */
#include "tests/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_client.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "tests/support_tls.h"

#define TIMEOUT_MS 30000

static struct redis redis;
static struct redis_link boss; /* past TLS, by the unix socket */
static struct e2e_manager manager;
static struct e2e_output out;
static struct e2e_client client;
static struct e2e_call call;
static int port;
static char dir[128]; /* of the certificates */

/* ---- certificates ---- */

static const char *missing; /* NULL: redis-server and manager have TLS */

static void setup(void)
{
    support_scratch_setup();
    snprintf(dir, sizeof(dir), "%s", support_path("tls"));
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    missing = support_tls_missing();
    ck_assert(missing != NULL || support_tls_certificates(dir));
}

static const char *file(const char *name)
{
    static char paths[4][192];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    return path;
}

/* ---- the server ---- */

static void start_server(const char *certificate, const char *auth_clients)
{
    /* A name of its own: the server of the test before may still be dying. */
    static unsigned count;
    char options[768], name[40];
    snprintf(name, sizeof(name), "tls%ld-%u", (long)getpid(), ++count);
    snprintf(options, sizeof(options),
             "--port 0 --tls-port %d --bind 127.0.0.1 --tls-cert-file "
             "%s/%s.crt --tls-key-file %s/%s.key --tls-ca-cert-file %s/ca.crt "
             "--tls-auth-clients %s",
             port, dir, certificate, dir, certificate, dir, auth_clients);
    ck_assert(redis_start(&redis, name, options));
    redis_link_open(&boss, &redis);
}

/* False: the suite can't run here, which it has said. */
static bool serve(const char *certificate, const char *auth_clients)
{
    if (missing != NULL) {
        support_skip("check_tls", missing);
        return false;
    }
    port = support_free_port();
    start_server(certificate, auth_clients);
    return true;
}

/* ---- the manager ---- */

static const char *uri(const char *host)
{
    static char text[64];
    snprintf(text, sizeof(text), "rediss://%s:%d", host, port);
    return text;
}

static void launch(const char *host, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Not waited for. Attempts follow one another quickly. */
static void launch(const char *host, const char *fmt, ...)
{
    char options[768];
    int n = snprintf(options, sizeof(options), "--reconnect-max 100 ");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(options + n, sizeof(options) - (size_t)n, fmt, ap);
    va_end(ap);
    e2e_manager_launch(&manager, NULL, uri(host), options);
}

/* It can't connect, says this, and serves nobody. */
static void assert_refused(const char *why)
{
    ck_assert_msg(UNTIL(e2e_logged(&manager, "cannot connect")), "%s",
                  e2e_log(&manager));
    ck_assert_msg(UNTIL(e2e_logged(&manager, why)), "no '%s' in: %s", why,
                  e2e_log(&manager));
    ck_assert(!e2e_logged(&manager, "ready"));
    kill(manager.pid, SIGTERM);
    ck_assert_int_eq(support_join(manager.pid), 0);
}

static void join_channel(void)
{
    e2e_manager_ready(&manager);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
}

static void assert_serves(void)
{
    ck_assert_msg(e2e_ask(&client, &call, TIMEOUT_MS, "INCR n") == E2E_OK, "%s",
                  call.text);
}

static bool connected(void)
{
    struct manager_state state;
    return status_read_state(manager.status, &state, NULL) == ERR_OK &&
           state.kind == STATE_CONNECTED;
}

/* ---- trust ---- */

START_TEST(test_trusted_server)
{
    if (!serve("server", "no"))
        return;
    launch(_i == 0 ? "127.0.0.1" : "localhost", "--tls-ca %s", file("ca.crt"));
    join_channel();
    assert_serves();
    ck_assert(e2e_is(&call, ":1\r\n"));
    ck_assert_str_eq(redis_link_ask(&boss, "GET n"), "$1\r\n1\r\n");
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_authority_that_is_not_trusted)
{
    if (!serve("forged", "no"))
        return;
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    assert_refused("the server's certificate is refused: ");
}
END_TEST

START_TEST(test_system_authorities_do_not_know_ours)
{
    if (!serve("server", "no"))
        return;
    launch("127.0.0.1", "%s", "");
    assert_refused("the server's certificate is refused: ");
}
END_TEST

START_TEST(test_certificate_of_another_name)
{
    static const struct {
        const char *host, *option, *why;
    } tries[] = {
        {"127.0.0.1", "", "IP address mismatch"},
        {"localhost", "", "hostname mismatch"},
        {"127.0.0.1", "--tls-server-name localhost", "hostname mismatch"},
        {"127.0.0.1", "--tls-server-name cache.example", NULL},
    };
    if (!serve("elsewhere", "no"))
        return;
    launch(tries[_i].host, "--tls-ca %s %s", file("ca.crt"), tries[_i].option);
    if (tries[_i].why != NULL) {
        assert_refused(tries[_i].why);
    } else {
        join_channel();
        assert_serves();
    }
}
END_TEST

START_TEST(test_client_certificates)
{
    if (!serve("server", "yes"))
        return;
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    /* With TLS 1.3 the server says so after the handshake. */
    assert_refused("--tls-cert?");
    launch("127.0.0.1", "--tls-ca %s --tls-cert %s --tls-key %s",
           file("ca.crt"), file("forged.crt"), file("forged.key"));
    assert_refused("--tls-cert?");
    launch("127.0.0.1", "--tls-ca %s --tls-cert %s --tls-key %s",
           file("ca.crt"), file("client.crt"), file("client.key"));
    join_channel();
    assert_serves();
}
END_TEST

START_TEST(test_server_that_speaks_no_tls)
{
    if (missing != NULL) {
        support_skip("check_tls", missing);
        return;
    }
    port = support_free_port();
    char options[64];
    snprintf(options, sizeof(options), "--port %d --bind 127.0.0.1", port);
    ck_assert(redis_start(&redis, "plain", options));
    launch("127.0.0.1", "--tls-ca %s --connect-timeout 300", file("ca.crt"));
    assert_refused("is that a port for TLS?");
    /* And the other way round. */
    redis_stop(&redis);
    start_server("server", "no");
    char plain[64];
    snprintf(plain, sizeof(plain), "redis://127.0.0.1:%d", port);
    e2e_manager_launch(&manager, NULL, plain, "--reconnect-max 100");
    assert_refused("while logging in");
}
END_TEST

/* ---- options ---- */

START_TEST(test_bad_options_end_at_once_with_a_line)
{
    const struct {
        const char *uri, *options[4], *says;
    } tries[] = {
        {"redis://127.0.0.1:1", {"--tls-ca", file("ca.crt")}, "not rediss://"},
        {"rediss://127.0.0.1:1", {"--tls-ca", "/nowhere"}, "/nowhere"},
        {"rediss://127.0.0.1:1",
         {"--tls-cert", file("client.crt")},
         "--tls-key go together"},
        {"rediss://127.0.0.1:1",
         {"--tls-cert", file("client.crt"), "--tls-key", file("server.key")},
         "--tls-key"},
    };
    if (missing != NULL) {
        support_skip("check_tls", missing);
        return;
    }
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        const char *const *o = tries[i].options;
        const char *const argv[] = {"mqredis-manager",
                                    "--redis",
                                    tries[i].uri,
                                    "--msgsize",
                                    "1024",
                                    "--channel",
                                    "bad",
                                    o[0],
                                    o[1],
                                    o[2],
                                    o[3],
                                    NULL};
        e2e_run(&out, argv);
        ck_assert_msg(out.status == 78, "%zu: %d", i, out.status);
        ck_assert_uint_eq(e2e_lines(out.text), 1);
        ck_assert_msg(strstr(out.text, tries[i].says) != NULL, "%s", out.text);
    }
}
END_TEST

static int check_config(const char *ca)
{
    const char *const argv[] = {"mqredis-manager",
                                "--check-config",
                                "--redis",
                                uri("127.0.0.1"),
                                "--msgsize",
                                "1024",
                                "--tls-ca",
                                ca,
                                NULL};
    e2e_run(&out, argv);
    return out.status;
}

START_TEST(test_check_config)
{
    if (!serve("server", "no"))
        return;
    ck_assert_msg(check_config(file("ca.crt")) == 0, "%s", out.text);
    ck_assert_ptr_nonnull(strstr(out.text, "rediss://127.0.0.1"));
    ck_assert_ptr_nonnull(strstr(out.text, "logged in"));
    ck_assert_int_eq(check_config(file("stranger.crt")), 78);
    ck_assert_ptr_nonnull(strstr(out.text, "certificate is refused"));
    ck_assert_int_eq(check_config("/nowhere"), 78);
    ck_assert_ptr_nonnull(strstr(out.text, "/nowhere"));
}
END_TEST

START_TEST(test_sighup_reads_the_certificates_again)
{
    if (!serve("server", "no"))
        return;
    const char *const copy[] = {"cp", file("stranger.crt"), file("trusted.crt"),
                                NULL};
    e2e_run(&out, copy);
    launch("127.0.0.1", "--tls-ca %s", file("trusted.crt"));
    ck_assert(UNTIL(e2e_logged(&manager, "certificate is refused")));
    const char *const mend[] = {"cp", file("ca.crt"), file("trusted.crt"),
                                NULL};
    e2e_run(&out, mend);
    kill(manager.pid, SIGHUP);
    join_channel();
    assert_serves();
    /* A file that is none changes nothing, for connections to come either. */
    const char *const spoil[] = {"cp", "/dev/null", file("trusted.crt"), NULL};
    e2e_run(&out, spoil);
    kill(manager.pid, SIGHUP);
    ck_assert(UNTIL(e2e_logged(&manager, "nothing was changed")));
    uint64_t connects = e2e_counter(&manager, COUNTER_connects);
    redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                    connected()));
    assert_serves();
}
END_TEST

/* ---- the stream ---- */

#define LARGE (6 * 1024 * 1024 + 12345)

static char pattern(size_t i)
{
    return (char)(i * 2654435761U >> 13);
}

/* Puts the pattern under `key`, past TLS. */
static void put_large(const char *key)
{
    static char bytes[LARGE + 128];
    int n = snprintf(bytes, sizeof(bytes),
                     "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n", strlen(key),
                     key, LARGE);
    for (size_t i = 0; i < LARGE; i++)
        bytes[(size_t)n + i] = pattern(i);
    memcpy(bytes + n + LARGE, "\r\n", 2);
    redis_link_send(&boss, bytes, (size_t)n + LARGE + 2);
    ck_assert_str_eq(redis_link_text(&boss), "+OK\r\n");
}

START_TEST(test_large_replies)
{
    if (!serve("server", "no"))
        return;
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    join_channel();
    put_large("large");
    for (int round = 0; round < 3; round++) {
        ck_assert_msg(e2e_ask(&client, &call, TIMEOUT_MS, "GET large") ==
                          E2E_OK,
                      "%s", call.text);
        const char *body = memchr(call.data, '\n', 32);
        ck_assert_ptr_nonnull(body);
        ck_assert_int_eq(atoi(call.data + 1), LARGE);
        ck_assert_uint_eq(call.len, (size_t)(++body - call.data) + LARGE + 2);
        for (size_t i = 0; i < LARGE; i++)
            if (body[i] != pattern(i))
                ck_abort_msg("round %d: byte %zu is %02x", round, i, body[i]);
        assert_serves();
    }
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* A large argument meets a socket that is full in the middle of a TLS record,
 * and small commands are behind it. */
START_TEST(test_large_requests_through_a_full_socket)
{
    if (!serve("server", "no"))
        return;
    struct e2e_actor *a = support_shared(sizeof(*a));
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    join_channel();
    char script[512];
    snprintf(script, sizeof(script),
             "head -c %d /dev/urandom >%s/sent && exec \"$MQREDIS_BUILD\""
             "/mqredis-worker -c %s --timeout 60000 -x SET key <%s/sent",
             LARGE, dir, manager.channel, dir);
    kill(redis.pid, SIGSTOP);
    const char *const argv[] = {"sh", "-c", script, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t worker = e2e_spawn(argv, null, STDERR_FILENO);
    close(null);
    /* It is taken, and the socket takes no more. */
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_payload_bytes) >= LARGE));
    uint64_t written = 0;
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_bytes_written) > 65536));
    do {
        written = e2e_counter(&manager, COUNTER_bytes_written);
        support_sleep_ms(100);
    } while (e2e_counter(&manager, COUNTER_bytes_written) != written);
    ck_assert_uint_lt(written, LARGE);
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "STRLEN key");
    ck_assert(e2e_actor_reaches(a, E2E_SENT));
    kill(redis.pid, SIGCONT);
    ck_assert_int_eq(support_join(worker), 0);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert_int_eq(a->end, E2E_OK);
    char verify[512];
    snprintf(verify, sizeof(verify),
             "%s -s %s --raw GET key | head -c %d | cmp - %s/sent", "redis-cli",
             redis.path, LARGE, dir);
    const char *const compare[] = {"sh", "-c", verify, NULL};
    e2e_run(&out, compare);
    ck_assert_msg(out.status == 0, "%s", out.text);
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* Thousands of small ones from several processes at once, each checked. */
static void echo_much(void *arg)
{
    static struct e2e_client mine;
    static struct e2e_call asked;
    int number = *(const int *)arg;
    CHILD_REQUIRE(e2e_client_open(&mine, manager.channel) == ERR_OK);
    for (int i = 0; i < 1000; i++) {
        char text[64], wanted[80];
        int n = snprintf(text, sizeof(text), "%d-%d-%0*d", number, i,
                         i % 30 + 1, i);
        snprintf(wanted, sizeof(wanted), "$%d\r\n%s\r\n", n, text);
        CHILD_REQUIRE(e2e_ask(&mine, &asked, TIMEOUT_MS, "ECHO %s", text) ==
                      E2E_OK);
        CHILD_REQUIRE(e2e_is(&asked, wanted));
    }
}

START_TEST(test_many_senders_at_once)
{
    if (!serve("server", "no"))
        return;
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    join_channel();
    pid_t children[8];
    int numbers[8];
    for (int i = 0; i < 8; i++) {
        numbers[i] = i;
        children[i] = support_fork(echo_much, &numbers[i]);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(support_join(children[i]), 0);
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_answered), 8000);
}
END_TEST

START_TEST(test_reconnects)
{
    if (!serve("server", "no"))
        return;
    launch("127.0.0.1", "--tls-ca %s", file("ca.crt"));
    join_channel();
    assert_serves();
    for (int i = 0; i < 5; i++) {
        uint64_t connects = e2e_counter(&manager, COUNTER_connects);
        if (i % 2 == 0) {
            redis_link_ask(&boss, "CLIENT KILL TYPE normal SKIPME yes");
        } else {
            redis_link_close(&boss);
            redis_stop(&redis);
            start_server("server", "no");
        }
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_connects) > connects &&
                        connected()));
        assert_serves();
    }
    /* A break in the middle of a large reply is no reply. */
    put_large("large");
    struct e2e_actor *a = support_shared(sizeof(*a));
    uint64_t read = e2e_counter(&manager, COUNTER_bytes_read);
    e2e_actor_start(a, manager.channel, TIMEOUT_MS, "GET large");
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_bytes_read) > read + 100000 ||
                    a->stage == E2E_DONE));
    redis_link_close(&boss);
    redis_stop(&redis);
    ck_assert_int_eq(support_join(a->pid), 0);
    ck_assert(a->end == E2E_LOST || a->end == E2E_OK);
    start_server("server", "no");
    ck_assert(UNTIL(connected()));
    assert_serves();
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tls");
    TCase *t = tcase_create("tls");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, setup, support_scratch_teardown);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_trusted_server, 0, 2);
    tcase_add_test(t, test_authority_that_is_not_trusted);
    tcase_add_test(t, test_system_authorities_do_not_know_ours);
    tcase_add_loop_test(t, test_certificate_of_another_name, 0, 4);
    tcase_add_test(t, test_client_certificates);
    tcase_add_test(t, test_server_that_speaks_no_tls);
    tcase_add_test(t, test_bad_options_end_at_once_with_a_line);
    tcase_add_test(t, test_check_config);
    tcase_add_test(t, test_sighup_reads_the_certificates_again);
    tcase_add_test(t, test_large_replies);
    tcase_add_test(t, test_large_requests_through_a_full_socket);
    tcase_add_test(t, test_many_senders_at_once);
    tcase_add_test(t, test_reconnects);
    return s;
}

int main(void)
{
    return support_run(suite());
}
