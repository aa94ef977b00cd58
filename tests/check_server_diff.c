/*
 * mqredis-server against redis-server: thousands of random commands over
 * several connections, and every reply byte for byte the same.
 *
 * Our server lives in this process and is stepped by hand. redis-server is the
 * installed one; without it the suite says so and passes. To tell when
 * redis-server has answered everything, a connection of its own gets two PINGs
 * answered: what was sent before them has been executed at the first and was
 * written out at the second.
 *
 *   DIFF_SEED=N      repeat a run (the seed is printed)
 *   DIFF_COMMANDS=N  how many commands (6000)
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/command.h"
#include "server/server.h"
#include "tests/differential.h"
#include "tests/support.h"
#include "tests/support_redis.h"
#include "tests/support_run.h"

#define CONNECTIONS 4
#define ROUND 250 /* commands until everything starts anew */
#define OUTPUT_MAX (4 << 20)

struct output {
    char *data;
    size_t len;
    bool closed;
};

/* One of the two servers, with connections to it. */
struct side {
    int fds[CONNECTIONS];
    struct output out[CONNECTIONS];
    char path[108];
};

static struct redis redis;
static struct redis_link control;
static struct server *ours;
static struct side sides[2]; /* ours, redis-server's */

/* What was sent lately, for the message of a failure. */
#define HISTORY 25
static struct {
    char text[HISTORY][120];
    int to[HISTORY];
    size_t count;
} history;
static bool have_redis;

/* ---- the two servers ---- */

static void start(void)
{
    support_scratch_setup();
    have_redis =
        redis_start(&redis, "real",
                    "--port 0 --enable-debug-command yes --loglevel warning");
    if (!have_redis) {
        support_skip("check_server_diff", "redis-server is not installed");
        return;
    }
    redis_link_open(&control, &redis);
    struct options options;
    struct err_text why;
    options_defaults(&options);
    snprintf(sides[0].path, sizeof(sides[0].path), "%s/ours.sock",
             support_scratch());
    strcpy(sides[1].path, redis.path);
    options.unix_socket = sides[0].path;
    ck_assert_msg(server_new(&ours, &options, &why) == ERR_OK, "%s", why.text);
}

static void stop(void)
{
    if (have_redis) {
        server_free(ours);
        redis_link_close(&control);
        redis_stop(&redis);
    }
    support_scratch_teardown();
}

static int dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    strcpy(a.sun_path, path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void settle(void)
{
    for (int i = 0; i < 4; i++)
        server_step(ours, 0);
    for (int i = 0; i < 2; i++)
        ck_assert_str_eq(redis_link_ask(&control, "PING"), "+PONG\r\n");
}

static void open_all(void)
{
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < CONNECTIONS; i++)
            sides[s].fds[i] = dial(sides[s].path);
    settle();
}

static void close_all(void)
{
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < CONNECTIONS; i++)
            close(sides[s].fds[i]);
    settle();
}

static void receive(int fd, struct output *o)
{
    if (o->data == NULL)
        o->data = malloc(OUTPUT_MAX);
    ck_assert_ptr_nonnull(o->data);
    o->len = 0;
    o->closed = false;
    for (;;) {
        ssize_t n =
            recv(fd, o->data + o->len, OUTPUT_MAX - o->len, MSG_DONTWAIT);
        if (n > 0) {
            o->len += (size_t)n;
            ck_assert_uint_lt(o->len, OUTPUT_MAX);
            /* There may be more than one socket buffer of it. */
            settle();
            continue;
        }
        o->closed = n == 0 || errno == ECONNRESET;
        return;
    }
}

/* Sends while both servers run: a pipe full of bytes must not stop us. */
static void send_ours(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
        if (len > 0)
            server_step(ours, 0);
    }
}

static void send_redis(int fd, const char *data, size_t len)
{
    struct redis_link link = {.fd = fd};
    redis_link_send(&link, data, len);
}

static void send_both(int i, const char *data, size_t len)
{
    send_ours(sides[0].fds[i], data, len);
    send_redis(sides[1].fds[i], data, len);
}

/* ---- comparing ---- */

/* The ids in HELLO's replies are each server's own. */
static void mask_ids(struct output *o)
{
    static const char mark[] = "$2\r\nid\r\n:";
    char *at = o->data, *end = o->data + o->len;
    while ((at = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1)) !=
           NULL) {
        char *digits = at += sizeof(mark) - 1;
        while (digits < end && *digits >= '0' && *digits <= '9')
            digits++;
        memmove(at, digits, (size_t)(end - digits));
        end -= digits - at;
    }
    o->len = (size_t)(end - o->data);
}

static void remember(int i, const char *sent, size_t len)
{
    size_t at = history.count++ % HISTORY;
    history.to[at] = i;
    diff_print(sent, len, history.text[at], sizeof(history.text[at]));
}

static void print_history(void)
{
    size_t n = history.count;
    for (size_t k = n > HISTORY ? n - HISTORY : 0; k < n; k++)
        fprintf(stderr, "  sent to %d: %s\n", history.to[k % HISTORY],
                history.text[k % HISTORY]);
}

static void fail_with(uint64_t seed, int step, const char *sent, size_t len,
                      int i)
{
    char text[400], a[1200], b[1200];
    diff_print(sent, len, text, sizeof(text));
    diff_print(sides[0].out[i].data, sides[0].out[i].len, a, sizeof(a));
    diff_print(sides[1].out[i].data, sides[1].out[i].len, b, sizeof(b));
    print_history();
    ck_abort_msg("DIFF_SEED=%llu, step %d: after %s\non connection %d\n"
                 "ours:  %s%s\nredis: %s%s",
                 (unsigned long long)seed, step, text, i, a,
                 sides[0].out[i].closed ? " (closed)" : "", b,
                 sides[1].out[i].closed ? " (closed)" : "");
}

static void compare(uint64_t seed, int step, enum diff_class class,
                    const char *sent, size_t len, bool answered[CONNECTIONS])
{
    settle();
    for (int i = 0; i < CONNECTIONS; i++) {
        struct output *a = &sides[0].out[i], *b = &sides[1].out[i];
        receive(sides[0].fds[i], a);
        receive(sides[1].fds[i], b);
        mask_ids(a);
        mask_ids(b);
        answered[i] = b->len > 0;
        if (a->closed != b->closed ||
            !diff_same(class, a->data, a->len, b->data, b->len))
            fail_with(seed, step, sent, len, i);
    }
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t choose_seed(void)
{
    uint64_t seed = setting("DIFF_SEED", (uint64_t)time(NULL));
    printf("DIFF_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

/* ---- tests ---- */

START_TEST(test_random_commands_get_equal_replies)
{
    if (!have_redis)
        return;
    uint64_t seed = choose_seed(), state = seed;
    int count = (int)setting("DIFF_COMMANDS", 6000);
    bool multi[CONNECTIONS] = {false}, waiting[CONNECTIONS] = {false};
    bool answered[CONNECTIONS];
    open_all();
    for (int step = 1; step <= count; step++) {
        if (step % ROUND == 0) {
            close_all();
            ck_assert_str_eq(redis_link_ask(&control, "FLUSHALL"), "+OK\r\n");
            for (int i = 0; i < OPTIONS_DATABASES; i++)
                db_flush(&ours->dbs[i]);
            memset(multi, 0, sizeof(multi));
            memset(waiting, 0, sizeof(waiting));
            open_all();
        }
        int i = (int)(diff_random(&state) % CONNECTIONS);
        if (waiting[i])
            continue; /* blocked, or silenced: nobody knows what it will say */
        struct diff_command k;
        diff_generate(&state, multi[i], &k);
        size_t len;
        char *bytes = diff_encode(&k, &len);
        remember(i, bytes, len);
        send_both(i, bytes, len);
        compare(seed, step, k.class, bytes, len, answered);
        free(bytes);
        for (int j = 0; j < CONNECTIONS; j++)
            waiting[j] = waiting[j] && !answered[j];
        waiting[i] = !answered[i] && k.argc > 2 && !diff_is(&k, "CLIENT");
        if (diff_is(&k, "MULTI"))
            multi[i] = true;
        if (diff_is(&k, "EXEC") || diff_is(&k, "DISCARD") ||
            diff_is(&k, "RESET"))
            multi[i] = false;
    }
    close_all();
}
END_TEST

/* Many commands at once, cut somewhere. */
START_TEST(test_random_pipelines_get_equal_replies)
{
    enum { BATCH = 30 };
    if (!have_redis)
        return;
    uint64_t seed = choose_seed(), state = seed;
    for (int step = 0; step < 150; step++) {
        char *bytes = malloc(BATCH * 100000);
        size_t len = 0;
        ck_assert_ptr_nonnull(bytes);
        for (int i = 0; i < BATCH; i++) {
            struct diff_command k;
            size_t n;
            diff_generate(&state, true, &k);
            char *one = diff_encode(&k, &n);
            memcpy(bytes + len, one, n);
            len += n;
            free(one);
        }
        bool answered[CONNECTIONS];
        size_t cut = (size_t)(diff_random(&state) % len);
        open_all();
        remember(0, bytes, len);
        send_both(0, bytes, cut);
        settle();
        send_both(0, bytes + cut, len - cut);
        compare(seed, step, DIFF_EXACT, bytes, len, answered);
        close_all();
        free(bytes);
    }
}
END_TEST

/* Bytes that are no proper request, each on a connection of its own. */
static const struct {
    const char *data;
    size_t len;
} raw[] = {
#define RAW(s)                                                                 \
    {                                                                          \
        (s), sizeof(s) - 1                                                     \
    }
    RAW("PING\r\n"),
    RAW("PING\n"),
    RAW("\r\n\r\nPING\r\n"),
    RAW("   \r\nPING\r\n"),
    RAW("SET k \"a b\\x41\\n\\q\"\r\nGET k\r\n"),
    RAW("SET k 'a\\'b\\n'\r\nGET k\r\n"),
    RAW("SET k ab\"cd\"\r\nGET k\r\n"),
    RAW("SET k \"abc\r\nPING\r\n"),
    RAW("SET k \"a\"b\r\nPING\r\n"),
    RAW("SET k 'a'b\r\n"),
    RAW("SET k \"\\x4\"\r\nGET k\r\n"),
    RAW("SET k a\tb\vc\r\n"),
    RAW("\vPING\r\n"),
    RAW("get\0foo bar\r\nPING\r\n"),
    RAW("*0\r\nPING\r\n"),
    RAW("*-1\r\nPING\r\n"),
    RAW("*-5\r\nPING\r\n"),
    RAW("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n"),
    RAW("*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n"),
    RAW("*1\rx$4\rxPINGxx"),
    RAW("*1\n$4\nPING\n"),
    RAW("*01\r\n"),
    RAW("*+1\r\n"),
    RAW("* 1\r\n"),
    RAW("*\r\n"),
    RAW("*abc\r\n"),
    RAW("*2147483647\r\n"),
    RAW("*2147483648\r\n"),
    RAW("*99999999999999999999\r\n"),
    RAW("*1\r\n$04\r\nPING\r\n"),
    RAW("*1\r\n$-1\r\n"),
    RAW("*1\r\n$-0\r\n"),
    RAW("*1\r\n$+4\r\nPING\r\n"),
    RAW("*1\r\n$536870912\r\n"),
    RAW("*1\r\n$536870913\r\n"),
    RAW("*1\r\n$1073741824\r\n"),
    RAW("*1\r\n$\r\n"),
    RAW("*1\r\nPING\r\n"),
    RAW("*1\r\n:4\r\n"),
    RAW("*1\r\n\r\n"),
    RAW("*1\r\n\n\r\n"),
    RAW("*1\r\n\0\r\n"),
    RAW("*2\r\n$3\r\nGET\r\n$0\r\n\r\n"),
    RAW("*1\r\n$0\r\n\r\n"),
    RAW("*\0\r\n"),
    RAW("*1\r\n$4\0\r\nPING\r\n"),
    RAW("*2\r\n$3\r\nGET\r\n"),
    RAW("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xff\xfe\r\nGET k\r\n"),
    RAW("QUIT\r\nPING\r\n"),
    RAW("*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n"),
    RAW("PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n"),
    RAW("GET\r\nGET a b\r\nFOO\r\n"),
    RAW("\"\"\r\n"),
    RAW("CLIENT REPLY SKIP\r\nPING\r\nPING\r\n"),
    RAW("CLIENT REPLY OFF\r\nPING\r\nSUBSCRIBE a\r\nCLIENT REPLY ON\r\n"),
    RAW("MULTI\r\nSUBSCRIBE a\r\nPING\r\nEXEC\r\nGET a\r\n"),
    RAW("MULTI\r\nGET\r\nEXEC\r\n"),
    RAW("MULTI\r\nWATCH a\r\nMULTI\r\nBLPOP l 0\r\nBLMOVE l l LEFT LEFT "
        "0\r\nEXEC\r\n"),
    RAW("MULTI\r\nSHUTDOWN\r\nEXEC\r\n"),
    RAW("MULTI\r\nEXEC x\r\nPING\r\nDISCARD x\r\nPING\r\nEXEC\r\n"),
    RAW("MULTI\r\nRESET\r\nEXEC\r\n"),
    RAW("MULTI\r\nQUIT\r\n"),
    RAW("MULTI\r\nCLIENT FOO\r\nEXEC\r\n"),
    RAW("MULTI\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nSET a 1\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nDEL b\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nFLUSHALL\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("WATCH nokey\r\nFLUSHALL\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nEXPIRE a 100\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nPERSIST a\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nUNWATCH\r\nSET a "
        "2\r\nMULTI\r\nPING\r\nEXEC\r\n"),
    RAW("SET a 1 PX 400\r\nWATCH a\r\nDEBUG SLEEP 0.6\r\nMULTI\r\nPING\r\n"
        "EXEC\r\n"),
    RAW("SET a 1\r\nSET a 2 PXAT 1\r\nWATCH a\r\nDEL a\r\nMULTI\r\nPING\r\n"
        "EXEC\r\n"),
    RAW("SET a 1\r\nWATCH a\r\nDISCARD\r\nMULTI\r\nDISCARD\r\nSET a 2\r\n"
        "MULTI\r\nPING\r\nEXEC\r\n"),
    RAW("RPUSH l a b c\r\nLMOVE l l LEFT RIGHT\r\nLRANGE l 0 -1\r\n"),
    RAW("BLPOP zz 0.05\r\nPING\r\n"),
    RAW("HELLO 3\r\nBLPOP zz 0.05\r\nGET zz\r\nLPOP zz\r\nLPOP zz 1\r\n"),
    RAW("BLMOVE zz yy LEFT LEFT 0.05\r\nPING\r\n"),
    RAW("HELLO 3\r\nSUBSCRIBE a\r\nPING\r\nGET a\r\nPUBLISH a b\r\n"
        "UNSUBSCRIBE\r\nUNSUBSCRIBE\r\n"),
    RAW("SUBSCRIBE a\r\nPING\r\nPING x\r\nGET a\r\nFOO\r\nRESET\r\nPING\r\n"),
    RAW("SUBSCRIBE a a b\r\nUNSUBSCRIBE a c a\r\nUNSUBSCRIBE\r\n"),
    RAW("SUBSCRIBE a\r\nQUIT\r\n"),
    RAW("HELLO 3\r\nCOMMAND INFO get lmove\r\nCLIENT GETNAME\r\n"
        "CONFIG GET save\r\n"),
    RAW("INFO nosuchsection\r\n"),
    RAW("DEBUG SLEEP abc\r\n"),
    RAW("CLIENT SETNAME abc\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\n"
        "CLIENT GETNAME\r\n"),
    RAW("DECR n\r\nDECRBY n -9223372036854775808\r\nINCRBYFLOAT f 3.0e3\r\n"
        "INCRBYFLOAT f -3000\r\nGET f\r\n"),
    RAW("SELECT 9\r\nSET a 1\r\nSELECT 0\r\nEXISTS a\r\nSELECT 9\r\n"
        "EXISTS a\r\nSELECT 16\r\nSELECT -1\r\nSELECT 99999999999\r\n"),
    RAW("SET k v EX 100 EX 200\r\nTTL k\r\n"),
    RAW("SET k v NX GET\r\nSET k v2 NX GET\r\nGET k\r\n"),
};

/* Those with a timeout answer when it is over. */
static bool has_answer(const struct side *s)
{
    server_step(ours, 0);
    struct pollfd p = {.fd = s->fds[0], .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static void check_raw(const char *data, size_t len, uint64_t seed, int step)
{
    bool answered[CONNECTIONS];
    open_all();
    /* Not all at once, so that requests are cut. */
    size_t half = len / 2;
    send_both(0, data, half);
    settle();
    send_both(0, data + half, len - half);
    if (memmem(data, len, "0.05", 4) != NULL) {
        support_sleep_ms(150);
        ck_assert(UNTIL(has_answer(&sides[0])));
        ck_assert(UNTIL(has_answer(&sides[1])));
    }
    compare(seed, step, DIFF_EXACT, data, len, answered);
    close_all();
}

START_TEST(test_odd_requests_get_equal_replies)
{
    if (have_redis)
        check_raw(raw[_i].data, raw[_i].len, 0, _i);
}
END_TEST

/* What COMMAND tells of each command; of those with subcommands the two have
 * different ones, so the subcommands are asked for one by one. */
static void check_command_info(const char *name, int resp)
{
    char text[200];
    int n = snprintf(text, sizeof(text), "HELLO %d\r\nCOMMAND INFO %s\r\n",
                     resp, name);
    check_raw(text, (size_t)n, 0, 0);
}

START_TEST(test_command_info_is_equal_for_every_command)
{
    if (!have_redis)
        return;
    for (const struct command *k = command_table; k->name != NULL; k++) {
        if (k->subcommands == NULL)
            check_command_info(k->full_name, _i);
        for (const struct command *sub = k->subcommands;
             sub != NULL && sub->name != NULL; sub++)
            if (strcmp(sub->full_name, "client|setinfo") != 0) /* of 7.2 */
                check_command_info(sub->full_name, _i);
    }
}
END_TEST

/* Good requests of which some bytes were changed. */
START_TEST(test_spoilt_requests_get_equal_replies)
{
    if (!have_redis)
        return;
    static const char good[] =
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n"
        "$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPING\r\nECHO \"a b\" \r\n";
    static const char bytes[] = "*$\r\n0123456789-+ \"'\\x:";
    uint64_t seed = choose_seed(), state = seed;
    for (int step = 0; step < 400; step++) {
        char data[sizeof(good)];
        size_t len = sizeof(good) - 1;
        memcpy(data, good, sizeof(good));
        for (uint64_t n = 1 + diff_random(&state) % 3; n > 0; n--)
            data[diff_random(&state) % len] =
                bytes[diff_random(&state) % (sizeof(bytes) - 1)];
        check_raw(data, len, seed, step);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server_diff");
    TCase *random = tcase_create("random");
    tcase_add_unchecked_fixture(random, start, stop);
    tcase_set_timeout(random, 120);
    tcase_add_test(random, test_random_commands_get_equal_replies);
    tcase_add_test(random, test_random_pipelines_get_equal_replies);
    suite_add_tcase(suite, random);
    TCase *odd = tcase_create("odd");
    tcase_add_unchecked_fixture(odd, start, stop);
    tcase_set_timeout(odd, 60);
    tcase_add_loop_test(odd, test_odd_requests_get_equal_replies, 0,
                        (int)(sizeof(raw) / sizeof(raw[0])));
    tcase_add_loop_test(odd, test_command_info_is_equal_for_every_command, 2,
                        4);
    tcase_add_test(odd, test_spoilt_requests_get_equal_replies);
    suite_add_tcase(suite, odd);
    /* One process: the server in it is stepped by the tests. */
    return support_run_unforked(suite);
}
