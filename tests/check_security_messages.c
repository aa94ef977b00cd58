/* What a member of the group may put on the queue, one message at a time:
 * replies that it forged, requests that name another's pipe, numbers at their
 * ends. */
#include "tests/e2e.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

#define TIMEOUT_MS 20000
#define PING "*1\r\n$4\r\nPING\r\n"
#define PING_LEN (sizeof(PING) - 1)

/* Everybody still gets what is theirs. */
static void check_in_step(void)
{
    static unsigned count;
    static struct e2e_call one;
    char expect[32];
    snprintf(expect, sizeof(expect), "$8\r\n%08u\r\n", ++count);
    enum e2e_end end = e2e_ask(&client, &one, TIMEOUT_MS, "ECHO %08u", count);
    ck_assert_msg(end == E2E_OK && e2e_is(&one, expect), "%d %s", end,
                  one.text);
}

/* ---- a reply that somebody else writes ---- */

/* What a process that may write into another's pipe could put there: only the
 * same user can, and root. */
static const struct forgery {
    const char *what;
    struct reply_chunk chunk;
    const char *body;
} forgeries[] = {
    {"another request's id",
     {.request = 1, .length = 7, .count = 1, .flags = 1},
     "+FORGED"},
    {"no id", {.request = 0, .length = 7, .count = 1, .flags = 1}, "+FORGED"},
    {"an endless length",
     {.request = 2, .length = UINT32_MAX, .count = 1, .flags = 1},
     "+FORGED"},
    {"a header cut short", {.request = 3, .length = 7, .count = 1}, NULL},
};

struct asked {
    _Atomic int type, status;
    char text[256];
};
static struct asked *asked;

static void ask_by_library(void *arg)
{
    (void)arg;
    struct mqredis *mq = mqredis_open(manager.channel, NULL);
    CHILD_REQUIRE(mq != NULL);
    mqredis_set_timeout(mq, 1500);
    struct mqredis_reply *r = mqredis_command(mq, "GET k");
    asked->type = (int)r->type;
    asked->status = (int)r->status;
    snprintf(asked->text, sizeof(asked->text), "%s", r->str ? r->str : "");
    mqredis_free(r);
    r = mqredis_command(mq, "ECHO right");
    CHILD_REQUIRE(r->type == MQREDIS_STRING && strcmp(r->str, "right") == 0);
    mqredis_free(r);
    mqredis_close(mq);
}

/* Opens a pipe in reply/ that is not ours; -1: there is none. */
static int open_pipe_of_another(void)
{
    char own[ONESHOT_NAME_MAX];
    int fd = -1;
    oneshot_name(own, client.pool.client, 0);
    DIR *dir = fdopendir(
        openat(client.ch.reply_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *d; fd < 0 && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.' && strncmp(d->d_name, own, 16) != 0)
            fd = openat(client.ch.reply_fd, d->d_name,
                        O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    closedir(dir);
    return fd;
}

START_TEST(test_forged_reply_id)
{
    asked = support_shared(sizeof(*asked));
    scene_begin(_i, NULL);
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET k true"), E2E_OK);
    for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
        const struct forgery *f = &forgeries[i];
        int fd = -1;
        kill(redis.at.pid, SIGSTOP); /* the true reply takes its time */
        pid_t pid = support_fork(ask_by_library, NULL);
        ck_assert(UNTIL((fd = open_pipe_of_another()) >= 0));
        char bytes[sizeof(f->chunk) + 16];
        size_t len = f->body ? sizeof(f->chunk) + strlen(f->body) : 10;
        memcpy(bytes, &f->chunk, sizeof(f->chunk));
        strcpy(bytes + sizeof(f->chunk), f->body ? f->body : "");
        ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
        close(fd);
        support_sleep_ms(50);
        kill(redis.at.pid, SIGCONT);
        ck_assert_msg(support_join(pid) == 0, "%s", f->what);
        /* Refused, or nobody knows; never taken for an answer. */
        ck_assert_msg(asked->type == MQREDIS_FAILURE, "%s: type %d, '%s'",
                      f->what, asked->type, asked->text);
        ck_assert_ptr_null(strstr(asked->text, "FORGED"));
    }
    scene_end();
}
END_TEST

/* Who guessed, or was told, where another's reply goes can spoil it by a
 * request that names the same pipe: the other sees an id that is not its own,
 * and gives the pipe up. It is never taken for its answer. */
START_TEST(test_a_request_that_names_anothers_pipe)
{
    static struct e2e_client other;
    static struct e2e_call theirs, mine;
    char payload[64];
    scene_begin(_i, NULL);
    ck_assert_int_eq(e2e_client_open(&other, manager.channel), ERR_OK);
    size_t len = e2e_commands(payload, sizeof(payload), NULL, "ECHO forged");
    ck_assert_int_eq(e2e_begin(&client, &theirs, 1, PING, PING_LEN, TIMEOUT_MS),
                     ERR_OK);
    ck_assert_int_eq(e2e_begin(&other, &mine, 1, payload, len, TIMEOUT_MS),
                     ERR_OK);
    mine.header.client = theirs.header.client;
    mine.header.slot = theirs.header.slot;
    ck_assert_int_eq(e2e_send(&other, &mine), ERR_OK);
    ck_assert_int_eq(e2e_send(&client, &theirs), ERR_OK);
    ck_assert_int_eq(e2e_finish(&client, &theirs), E2E_BROKEN);
    ck_assert_uint_eq(theirs.len, 0);
    check_in_step();
    e2e_forget(&other, &mine);
    e2e_client_close(&other);
    scene_end();
}
END_TEST

/* ---- numbers at their ends ---- */

START_TEST(test_numbers_at_their_ends)
{
    static struct e2e_call c;
    scene_begin(_i, NULL);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(e2e_begin(&client, &c, 1, PING, PING_LEN, TIMEOUT_MS),
                         ERR_OK);
        enum e2e_end want = E2E_OK;
        switch (i) {
        case 0:
            c.header.deadline_ns = UINT64_MAX;
            break;
        case 1:
            c.header.sent_ns = UINT64_MAX;
            break;
        case 2:
            c.header.sent_ns = UINT64_MAX;
            c.header.deadline_ns = 1;
            want = E2E_EXPIRED;
            break;
        case 3:
            c.header.sent_ns = 1;
            break;
        case 4:
            c.header.prev_rtt_us = UINT32_MAX;
            break;
        case 5:
            c.header.pid = UINT32_MAX;
            break;
        case 6:
            c.header.ncommands = UINT32_MAX;
            want = E2E_BROKEN; /* no answer to such a claim */
            break;
        default:
            c.header.request = UINT64_MAX;
            reply_stream_init(&c.stream, UINT64_MAX, 1);
            break;
        }
        /* Not by the library's own way, which goes by the deadline. */
        memcpy(client.message, &c.header, sizeof(c.header));
        ck_assert_int_eq(mq_send(client.tx.mq, client.message,
                                 sizeof(c.header) + PING_LEN, 0),
                         0);
        c.header.deadline_ns = clock_deadline(TIMEOUT_MS);
        enum e2e_end end = e2e_finish(&client, &c);
        ck_assert_msg(end == want || (i == 6 && end == E2E_REFUSED),
                      "case %d: %d %s", i, end, c.text);
        check_in_step();
    }
    /* Of slots the last one: the pipe has that name, too. */
    client.pool.next_slot = UINT64_MAX;
    while (client.pool.idle_count > 0)
        oneshot_abandon(&client.pool,
                        &client.pool.idle[--client.pool.idle_count]);
    check_in_step();
    check_in_step();
    scene_end();
}
END_TEST

/* A payload may be a file of any size: only what was announced is read. */
START_TEST(test_huge_sparse_file)
{
    char commands[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n@5000\r\n";
    scene_begin(_i, NULL);
    ck_assert_int_eq(e2e_begin(&client, &call, 1, commands,
                               sizeof(commands) - 1, TIMEOUT_MS),
                     ERR_OK);
    call.header.flags = MESSAGE_PAYLOAD;
    ck_assert_int_eq(oneshot_payload(&client.pool, &client.ch, &call.slot),
                     ERR_OK);
    int fd = call.slot.payload.fd;
    if (ftruncate(fd, (off_t)1 << 40) < 0)
        ck_assert_int_eq(ftruncate(fd, (off_t)1 << 30), 0);
    long before = large_rss_kb(manager.pid);
    ck_assert_int_eq(e2e_send(&client, &call), ERR_OK);
    ck_assert_int_eq(e2e_finish(&client, &call), E2E_OK);
    if (!SUPPORT_SANITIZED) /* a sanitizer's own memory is none of ours */
        ck_assert_int_lt(large_rss_kb(manager.pid) - before, 1024);
    check_in_step();
    ck_assert_int_eq(e2e_redis_integer(&redis, "STRLEN k"), 5000);
    scene_end();
}
END_TEST

/* ---- the suite ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("security_messages");
    TCase *t = support_case(s, "messages", e2e_long() ? 300 : 120);
    tcase_add_checked_fixture(t, support_remove_queues, NULL);
    e2e_add(t, test_forged_reply_id);
    e2e_add(t, test_a_request_that_names_anothers_pipe);
    e2e_add(t, test_numbers_at_their_ends);
    e2e_add(t, test_huge_sparse_file);
    return s;
}

int main(void)
{
    large_prepare();
    return support_run(suite());
}
