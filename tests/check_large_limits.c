/* Payloads that are not what the message says, and limits that are reached:
 * each has its status and its counter, and the connection stays in step. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/payload.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/proxy.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 60000
#define INDEPENDENT MESSAGE_INDEPENDENT
#define PAYLOAD MESSAGE_PAYLOAD
#define BODY MESSAGE_BODY

static void stop(void)
{
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_disconnects), 0);
    scene_end();
}

/* Takes a slot for a message and puts `len` bytes into its file. */
static void begin(uint16_t flags, uint32_t ncommands, const char *commands,
                  size_t commands_len, const char *bytes, size_t len)
{
    ck_assert(e2e_begin(&client, &call, ncommands, commands, commands_len,
                        TIMEOUT_MS) == ERR_OK);
    call.header.flags = flags;
    if (bytes == NULL)
        return;
    ck_assert(oneshot_payload(&client.pool, &client.ch, &call.slot) == ERR_OK);
    ck_assert_int_eq(ftruncate(call.slot.payload.fd, 0), 0);
    ck_assert(payload_write(&call.slot.payload, 0, bytes, len) == ERR_OK);
}

static enum e2e_end finish(void)
{
    ck_assert(e2e_send(&client, &call) == ERR_OK);
    return e2e_finish(&client, &call);
}

/* Whether everybody still gets what is theirs. */
static void check_in_step(void)
{
    static unsigned count;
    char text[32], reply[64];
    struct e2e_call one = {0};
    for (int i = 0; i < 3; i++) {
        int len = snprintf(text, sizeof(text), "step%u", ++count);
        snprintf(reply, sizeof(reply), "$%d\r\n%s\r\n", len, text);
        ck_assert_int_eq(e2e_ask(&client, &one, TIMEOUT_MS, "ECHO %s", text),
                         E2E_OK);
        ck_assert(e2e_is(&one, reply));
    }
    e2e_forget(&client, &one);
}

/* ---- messages that lie ---- */

#define SET5000 "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n@5000\r\n"
#define HUGE_ "9223372036854775807"

START_TEST(test_lies_about_a_payload_are_refused)
{
    static const struct {
        const char *what;
        uint16_t flags;
        uint32_t ncommands;
        const char *commands;
        long file; /* bytes of 'x'; -1: none */
        enum e2e_end end;
    } cases[] = {
        {"true", PAYLOAD, 1, SET5000, 5000, E2E_OK},
        {"true, and the file is longer", PAYLOAD, 1, SET5000, 9000, E2E_OK},
        {"true, independent", PAYLOAD | INDEPENDENT, 1, SET5000, 5000, E2E_OK},
        {"a byte short", PAYLOAD, 1, SET5000, 4999, E2E_REFUSED},
        {"an empty file", PAYLOAD, 1, SET5000, 0, E2E_REFUSED},
        {"no file", PAYLOAD, 1, SET5000, -1, E2E_REFUSED},
        {"no flag", 0, 1, SET5000, 5000, E2E_REFUSED},
        {"a key", PAYLOAD, 1, "*2\r\n$3\r\nGET\r\n@5\r\n", 5, E2E_OK},
        {"an empty one", PAYLOAD, 1, "*2\r\n$4\r\nECHO\r\n@0\r\n", 0,
         E2E_REFUSED},
        {"the command's name", PAYLOAD, 1, "*1\r\n@4\r\n", 4, E2E_REFUSED},
        {"half of CLIENT REPLY OFF", PAYLOAD, 1,
         "*3\r\n$6\r\nCLIENT\r\n@5\r\n$3\r\nOFF\r\n", 5, E2E_REFUSED},
        {"the name of a stream", PAYLOAD | MESSAGE_STREAM, 1,
         "*3\r\n$9\r\nSUBSCRIBE\r\n@5\r\n$1\r\na\r\n", 5, E2E_REFUSED},
        {"a leading zero", PAYLOAD, 1, "*2\r\n$3\r\nGET\r\n@05\r\n", 5,
         E2E_REFUSED},
        {"a sign", PAYLOAD, 1, "*2\r\n$3\r\nGET\r\n@-5\r\n", 5, E2E_REFUSED},
        {"more than Redis takes", PAYLOAD, 1,
         "*2\r\n$3\r\nGET\r\n@536870913\r\n", 5, E2E_REFUSED},
        {"all of memory", PAYLOAD, 1, "*2\r\n$3\r\nGET\r\n@" HUGE_ "\r\n", 5,
         E2E_REFUSED},
        {"more than a number", PAYLOAD, 1,
         "*2\r\n$3\r\nGET\r\n@18446744073709551621\r\n", 5, E2E_REFUSED},
        {"a sum that is too much", PAYLOAD, 1,
         "*5\r\n$4\r\nMSET\r\n@536870912\r\n@536870912\r\n@536870912\r\n"
         "@536870912\r\n",
         5, E2E_REFUSED},
        {"bytes of its own as well", PAYLOAD, 1,
         "*2\r\n$3\r\nGET\r\n@5\r\nxxxxx\r\n", 5, E2E_REFUSED},
        {"cut short", PAYLOAD, 1, "*3\r\n$3\r\nSET\r\n@5\r\n", 5, E2E_REFUSED},
        {"two commands for one", PAYLOAD, 2, SET5000, 5000, E2E_REFUSED},
        {"one command for two", PAYLOAD, 1, SET5000 SET5000, 10000,
         E2E_REFUSED},
        {"half of two", PAYLOAD, 2, SET5000 SET5000, 9999, E2E_REFUSED},
        {"two", PAYLOAD, 2, SET5000 SET5000, 10000, E2E_OK},
    };
    static char bytes[16384];
    memset(bytes, 'x', sizeof(bytes));
    scene_begin(_i, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].commands);
        /* A slot of its own: a file of the last case would serve. */
        e2e_forget(&client, &call);
        struct oneshot_pool *pool = &client.pool;
        while (pool->idle_count > 0)
            oneshot_abandon(pool, &pool->idle[--pool->idle_count]);
        begin(cases[i].flags, cases[i].ncommands, cases[i].commands, len,
              cases[i].file < 0 ? NULL : bytes,
              cases[i].file < 0 ? 0 : (size_t)cases[i].file);
        enum e2e_end end = finish();
        ck_assert_msg(end == cases[i].end, "%s: %d %s", cases[i].what, end,
                      call.text);
        check_in_step();
    }
    stop();
}
END_TEST

/* Commands that come by the file. */
START_TEST(test_lies_about_a_body_are_refused)
{
    static const struct {
        const char *what;
        uint16_t flags;
        uint64_t size;   /* as the message says */
        size_t says_len; /* bytes of that number in the message */
        const char *file;
        enum e2e_end end;
    } cases[] = {
        {"true", BODY, 14, 8, "*1\r\n$4\r\nPING\r\n", E2E_OK},
        {"true, and the file is longer", BODY, 14, 8,
         "*1\r\n$4\r\nPING\r\nrubbish", E2E_OK},
        {"with an argument behind it", BODY | PAYLOAD, 22, 8,
         "*2\r\n$4\r\nECHO\r\n@5\r\nhello", E2E_REFUSED},
        {"the same, counted right", BODY | PAYLOAD, 18, 8,
         "*2\r\n$4\r\nECHO\r\n@5\r\nhello", E2E_OK},
        {"the argument is cut short", BODY | PAYLOAD, 18, 8,
         "*2\r\n$4\r\nECHO\r\n@5\r\nhell", E2E_REFUSED},
        {"an argument without its flag", BODY, 18, 8,
         "*2\r\n$4\r\nECHO\r\n@5\r\nhello", E2E_REFUSED},
        {"nothing", BODY, 0, 8, "*1\r\n$4\r\nPING\r\n", E2E_REFUSED},
        {"more than there is", BODY, 15, 8, "*1\r\n$4\r\nPING\r\n",
         E2E_REFUSED},
        {"less", BODY, 13, 8, "*1\r\n$4\r\nPING\r\n", E2E_REFUSED},
        {"over the limit", BODY, MESSAGE_BODY_MAX + 1ULL, 8,
         "*1\r\n$4\r\nPING\r\n", E2E_REFUSED},
        {"all of memory", BODY, UINT64_MAX, 8, "*1\r\n$4\r\nPING\r\n",
         E2E_REFUSED},
        {"half a number", BODY, 14, 4, "*1\r\n$4\r\nPING\r\n", E2E_REFUSED},
        {"no RESP", BODY, 7, 8, "rubbish", E2E_REFUSED},
    };
    scene_begin(_i, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(cases[i].flags, 1, (const char *)&cases[i].size,
              cases[i].says_len, cases[i].file, strlen(cases[i].file));
        enum e2e_end end = finish();
        ck_assert_msg(end == cases[i].end, "%s: %d %s", cases[i].what, end,
                      call.text);
        check_in_step();
    }
    stop();
}
END_TEST

/* ---- files that are not what they should be ---- */

enum twist {
    TWIST_NONE,
    TWIST_UNLINK,
    TWIST_REPLACE, /* by another file of our own: that is allowed */
    TWIST_REPLACE_SHORT,
    TWIST_LINK,
    TWIST_SYMLINK,
    TWIST_FIFO,
    TWIST_FOLDER,
    TWIST_SHRINK,
    TWIST_CHOWN,
    TWIST_COUNT
};

/* The name of the call's payload file. */
static void payload_path(char path[300])
{
    char name[ONESHOT_NAME_MAX];
    oneshot_name(name, call.header.client, call.header.slot);
    snprintf(path, 300, "%.200s/payload/%s", client.ch.dir, name);
}

static bool do_twist(enum twist twist)
{
    char path[300], other[320];
    payload_path(path);
    snprintf(other, sizeof(other), "%s.x", path);
    if (twist >= TWIST_UNLINK && twist <= TWIST_REPLACE_SHORT)
        ck_assert_int_eq(unlink(path), 0);
    if (twist >= TWIST_SYMLINK && twist <= TWIST_FOLDER)
        ck_assert_int_eq(rename(path, other), 0);
    if (twist == TWIST_REPLACE || twist == TWIST_REPLACE_SHORT) {
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, twist == TWIST_REPLACE ? 5000 : 10), 0);
        close(fd);
    }
    switch (twist) {
    case TWIST_LINK:
        ck_assert_int_eq(link(path, other), 0);
        break;
    case TWIST_SYMLINK:
        ck_assert_int_eq(symlink(other, path), 0);
        break;
    case TWIST_FIFO:
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        break;
    case TWIST_FOLDER:
        ck_assert_int_eq(mkdir(path, 0700), 0);
        break;
    case TWIST_SHRINK:
        ck_assert_int_eq(ftruncate(call.slot.payload.fd, 4999), 0);
        break;
    case TWIST_CHOWN:
        return fchown(call.slot.payload.fd, 65534, 65534) == 0;
    case TWIST_NONE:
    case TWIST_UNLINK:
    case TWIST_REPLACE:
    case TWIST_REPLACE_SHORT:
    case TWIST_COUNT:
        break;
    }
    return true;
}

START_TEST(test_file_must_be_the_requesters_own)
{
    static char bytes[5000];
    scene_begin(_i, NULL);
    for (int twist = 0; twist < TWIST_COUNT; twist++) {
        begin(PAYLOAD, 1, SET5000, strlen(SET5000), bytes, sizeof(bytes));
        bool done = do_twist((enum twist)twist);
        enum e2e_end end = finish();
        bool fine = twist == TWIST_NONE || twist == TWIST_REPLACE || !done;
        ck_assert_msg(end == (fine ? E2E_OK : E2E_REFUSED), "twist %d: %d %s",
                      twist, end, call.text);
        check_in_step();
        struct oneshot_pool *pool = &client.pool;
        while (pool->idle_count > 0)
            oneshot_abandon(pool, &pool->idle[--pool->idle_count]);
        e2e_forget(&client, &call);
    }
    stop();
}
END_TEST

/* A command that policy refuses stands between others: their bytes are where
 * they were. */
START_TEST(test_refused_command_among_others)
{
    static char bytes[12000];
    static const char commands[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n@4000\r\n"
                                   "*2\r\n$4\r\nAUTH\r\n@5000\r\n"
                                   "*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n"
                                   "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n@3000\r\n";
    scene_begin(_i, NULL);
    for (int flag = 0; flag < 2; flag++) {
        memset(bytes, 'a', 4000);
        memset(bytes + 4000, '!', 5000);
        memset(bytes + 9000, 'b', 3000);
        begin((uint16_t)(PAYLOAD | (flag ? INDEPENDENT : 0)), 4, commands,
              sizeof(commands) - 1, bytes, sizeof(bytes));
        ck_assert_int_eq(finish(), E2E_REFUSED);
        ck_assert_uint_eq(call.ended[REPLY_INVALID], flag ? 1 : 4);
        ck_assert_uint_eq(call.ended[REPLY_OK], flag ? 3 : 0);
    }
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "GETRANGE b 0 -1"),
                     E2E_OK);
    ck_assert_uint_eq(call.len, 3000 + 7 + 2);
    ck_assert_ptr_eq(memchr(call.data, '!', call.len), NULL);
    ck_assert_ptr_eq(memchr(call.data, 'a', call.len), NULL);
    stop();
}
END_TEST

/* ---- changed while they are on their way ---- */

#define WAY (8 * LARGE_MIB)

/* Sends a large SET to a Redis that stands still, and waits until some of it
 * is on its way. */
static void send_halfway(pid_t server, const char *key, char fill)
{
    char commands[64];
    char *bytes = malloc(WAY);
    memset(bytes, fill, WAY);
    kill(server, SIGSTOP);
    int n = snprintf(commands, sizeof(commands),
                     "*3\r\n$3\r\nSET\r\n$1\r\n%s\r\n@%zu\r\n", key, WAY);
    begin(PAYLOAD, 1, commands, (size_t)n, bytes, WAY);
    free(bytes);
    uint64_t written = e2e_counter(&manager, COUNTER_bytes_written);
    ck_assert(e2e_send(&client, &call) == ERR_OK);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_bytes_written) > written));
}

static void change_on_the_way(pid_t server)
{
    char expect[64];
    size_t last = 0;
    /* The second: in the middle of the piece that is being written. */
    off_t cuts[] = {0, -1, WAY / 2, WAY / 2 + 1, WAY - 5000, WAY - 1};
    snprintf(expect, sizeof(expect), ":%zu\r\n", WAY);
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        uint64_t invalid = e2e_counter(&manager, COUNTER_invalid);
        uint64_t before = e2e_counter(&manager, COUNTER_bytes_written);
        send_halfway(server, "k", 'x');
        support_sleep_ms(50); /* until the socket is full */
        if (cuts[i] < 0)
            cuts[i] =
                (off_t)(e2e_counter(&manager, COUNTER_bytes_written) - before) +
                5000;
        ck_assert_int_eq(ftruncate(call.slot.payload.fd, cuts[i]), 0);
        kill(server, SIGCONT);
        ck_assert_int_eq(e2e_finish(&client, &call), E2E_REFUSED);
        ck_assert_uint_eq(call.ended[REPLY_INVALID], 1);
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_invalid) == invalid + 1));
        check_in_step();
        last = call.len;
        ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "STRLEN k"),
                         E2E_OK);
        ck_assert(e2e_is(&call, expect));
    }
    ck_assert_uint_eq(last, 0);
    /* Rewritten, unlinked, made longer: its own affair. */
    send_halfway(server, "k", 'x');
    char path[300], *other = large_new(WAY + 7, 1);
    payload_path(path);
    ck_assert(payload_write(&call.slot.payload, 0, other, WAY + 7) == ERR_OK);
    free(other);
    ck_assert_int_eq(unlink(path), 0);
    kill(server, SIGCONT);
    ck_assert_int_eq(e2e_finish(&client, &call), E2E_OK);
    check_in_step();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "STRLEN k"), E2E_OK);
    ck_assert(e2e_is(&call, expect));
}

START_TEST(test_payload_changes_on_the_way)
{
    scene_begin(_i, NULL);
    change_on_the_way(redis.at.pid);
    stop();
}
END_TEST

START_TEST(test_payload_changes_on_the_way_by_tls)
{
    char uri[128], options[256];
    if (!large_tcp(&redis, E2E_REDIS, true, uri, options)) {
        support_skip("TLS", "no such server here");
        return;
    }
    e2e_manager_start(&manager, NULL, uri, options);
    ck_assert(e2e_client_open(&client, manager.channel) == ERR_OK);
    change_on_the_way(redis.at.pid);
    stop();
}
END_TEST

/* ---- limits ---- */

START_TEST(test_max_request)
{
    scene_begin(_i, "--max-request 1m");
    struct mqredis *mq = large_open(&manager);
    ck_assert(large_round(mq, "k", LARGE_MIB, 1));
    char *data = large_new(LARGE_MIB + 1, 2);
    ck_assert(large_failed(mqredis_set(mq, "k", data, LARGE_MIB + 1),
                           MQREDIS_TOO_BIG));
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 1));
    /* It is a message's: a batch of some is over it, too. */
    struct mqredis_batch *b = mqredis_batch_new(mq);
    for (int i = 0; i < 5; i++)
        mqredis_batch_add(b, "SET k%d %b", i, data, LARGE_MIB / 4);
    ck_assert(large_failed(mqredis_batch_run(b), MQREDIS_TOO_BIG));
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 6));
    ck_assert(large_is_value(mqredis_get(mq, "k"), LARGE_MIB, 1));
    free(data);
    mqredis_close(mq);
    stop();
}
END_TEST

START_TEST(test_max_reply)
{
    scene_begin(_i, "--max-reply 1m");
    struct mqredis *mq = large_open(&manager);
    /* A bulk's frame counts, too. */
    size_t fits = LARGE_MIB - 32;
    ck_assert(large_round(mq, "fits", fits, 1));
    char *data = large_new(3 * LARGE_MIB, 2);
    ck_assert(large_is_status(mqredis_set(mq, "k", data, 3 * LARGE_MIB), "OK"));
    for (int i = 0; i < 3; i++) {
        ck_assert(large_failed(mqredis_get(mq, "k"), MQREDIS_TOO_BIG));
        ck_assert(large_is_value(mqredis_get(mq, "fits"), fits, 1));
    }
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 3));
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_aborted) == 3));
    /* Its neighbours in a message have nothing to do with it. */
    struct mqredis_request *q[5];
    for (int i = 0; i < 5; i++)
        q[i] = mqredis_submit(mq, "GET %s", i == 2 ? "k" : "fits");
    for (int i = 0; i < 5; i++)
        ck_assert_msg(i == 2 ? large_failed(mqredis_wait(q[i]), MQREDIS_TOO_BIG)
                             : large_is_value(mqredis_wait(q[i]), fits, 1),
                      "request %d", i);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "ECHO before");
    mqredis_batch_add(b, "GET k");
    mqredis_batch_add(b, "ECHO after");
    mqredis_batch_add(b, "GET fits");
    struct mqredis_reply *r = mqredis_batch_run(b);
    ck_assert_uint_eq(r->elements, 4);
    ck_assert_int_eq(r->element[0]->status, MQREDIS_OK);
    ck_assert_int_eq(r->element[1]->status, MQREDIS_TOO_BIG);
    ck_assert_int_eq(r->element[2]->status, MQREDIS_OK);
    ck_assert_int_eq(r->element[3]->status, MQREDIS_OK);
    mqredis_free(r);
    free(data);
    mqredis_close(mq);
    stop();
}
END_TEST

START_TEST(test_shm_budget)
{
    enum { COUNT = 6 };
    scene_begin(_i, "--shm-budget 2m");
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(2 * LARGE_MIB + 1, 2);
    ck_assert(large_failed(mqredis_set(mq, "k", data, 2 * LARGE_MIB + 1),
                           MQREDIS_TOO_BIG));
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 1));
    /* What is under it alone and over it together has to wait: the manager
     * takes no more until Redis has read. */
    kill(redis.at.pid, SIGSTOP);
    struct mqredis_request *q[COUNT];
    for (int i = 0; i < COUNT; i++) {
        q[i] = mqredis_submit(mq, "SET k%d %b", i, data, LARGE_MIB);
        mqredis_flush(mq);
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_payload_bytes) >= 2 * LARGE_MIB));
    support_sleep_ms(100);
    ck_assert_uint_le(e2e_gauge(&manager, GAUGE_payload_bytes), 3 * LARGE_MIB);
    ck_assert_uint_lt(e2e_gauge(&manager, GAUGE_inflight), COUNT);
    kill(redis.at.pid, SIGCONT);
    for (int i = 0; i < COUNT; i++)
        ck_assert(large_is_status(mqredis_wait(q[i]), "OK"));
    ck_assert(large_is_value(mqredis_get(mq, "k5"), LARGE_MIB, 2));
    free(data);
    mqredis_close(mq);
    stop();
}
END_TEST

/* ---- no room for a payload ---- */

static void fill_up(void *arg)
{
    struct e2e_manager *m = arg;
    struct mqredis *mq = large_open(m);
    struct rlimit limit = {LARGE_MIB, LARGE_MIB};
    signal(SIGXFSZ, SIG_IGN);
    CHILD_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    char *data = large_new(3 * LARGE_MIB, 1);
    for (int i = 0; i < 20; i++) {
        struct mqredis_reply *r = mqredis_set(mq, "k", data, 3 * LARGE_MIB);
        CHILD_REQUIRE(large_failed(r, MQREDIS_SYSTEM));
        CHILD_REQUIRE(large_round(mq, "k", LARGE_MIB / 2, (uint64_t)i));
        CHILD_REQUIRE(large_round(mq, "k", 5, (uint64_t)i));
    }
    free(data);
    mqredis_close(mq);
}

START_TEST(test_file_size_limit_is_an_error)
{
    scene_begin(_i, NULL);
    ck_assert_int_eq(support_join(support_fork(fill_up, &manager)), 0);
    ck_assert_int_eq(large_leftovers(&manager), 0);
    stop();
}
END_TEST

START_TEST(test_full_memory_is_an_error)
{
    char path[300];
    scene_begin(_i, NULL);
    snprintf(path, sizeof(path), "%.200s/payload", client.ch.dir);
    if (mount("tmpfs", path, "tmpfs", 0, "size=2m") < 0) {
        support_skip("full disk", strerror(errno));
        stop();
        return;
    }
    /* The manager has the folder below the mount: only errors can be seen. */
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(3 * LARGE_MIB, 1);
    bool right = true;
    for (int i = 0; i < 20; i++) {
        right &= large_failed(mqredis_set(mq, "k", data, 3 * LARGE_MIB),
                              MQREDIS_SYSTEM);
        right &= large_is_status(mqredis_set(mq, "k", "v", 1), "OK");
    }
    mqredis_close(mq);
    int left = support_count_entries(path);
    umount2(path, MNT_DETACH);
    free(data);
    ck_assert(right);
    ck_assert_int_eq(left, 0);
    mq = large_open(&manager);
    ck_assert(large_round(mq, "k", 3 * LARGE_MIB, 2));
    mqredis_close(mq);
    stop();
}
END_TEST

int main(void)
{
    large_prepare();
    Suite *s = suite_create("large_limits");
    TCase *tc = support_case(s, "lies", 60);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_lies_about_a_payload_are_refused);
    e2e_add(tc, test_lies_about_a_body_are_refused);
    e2e_add(tc, test_file_must_be_the_requesters_own);
    e2e_add(tc, test_refused_command_among_others);
    e2e_add(tc, test_payload_changes_on_the_way);
    tcase_add_test(tc, test_payload_changes_on_the_way_by_tls);
    tc = support_case(s, "limits", 60);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_max_request);
    e2e_add(tc, test_max_reply);
    e2e_add(tc, test_shm_budget);
    e2e_add(tc, test_file_size_limit_is_an_error);
    e2e_add(tc, test_full_memory_is_an_error);
    return support_run(s);
}
