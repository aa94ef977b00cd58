/* mqstat, the program, showing status files and queues made here. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "tests/json.h"
#include "tests/mqstat.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- showing ---- */

START_TEST(test_one_line_a_channel)
{
    struct fake a, b;
    fake_start(&a, "alpha", 10);
    fake_start(&b, "beta", 5);
    status_set_state(b.status, &b.state, STATE_PAUSED);
    fake_count(&a, 1000);
    struct fake_sender arg = {"alpha", 3};
    pid_t child = support_fork(fake_sender, &arg);
    ck_assert(UNTIL(mpsc_depth(&a.rx) == 3));
    mqstat("%s", "");
    ENDED(0);
    HAS("CHANNEL");
    const char *line = strstr(ran.out, "alpha");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, "connected"));
    ck_assert_ptr_nonnull(strstr(line, "3/10"));
    ck_assert_ptr_nonnull(strstr(line, "redis://127.0.0.1:6379/0"));
    line = strstr(ran.out, "beta");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, "paused"));
    ck_assert_ptr_nonnull(strstr(line, "0/5"));
    assert_harmless();
    support_kill(child);
    fake_die(&a);
    fake_die(&b);
}
END_TEST

START_TEST(test_sections_of_one_channel)
{
    struct fake f;
    fake_start(&f, support_name(), 10);
    fake_count(&f, 1234567 % 20000 + 4000);
    mqstat("%s", f.name);
    ENDED(0);
    HAS("connected for ");
    HAS("0/10 messages");
    HAS("512 B a message");
    HAS("in flight     2/100 commands");
    HAS("queue_wait");
    HAS("18,567"); /* commands, and of every histogram's values */
    HAS("20.2us"); /* the middle of the bucket */
    HAS("clients");
    fake_die(&f);
}
END_TEST

START_TEST(test_no_channel_at_all)
{
    mqstat("%s", "");
    ENDED(69);
    ck_assert_str_eq(ran.out, "");
    assert_one_line(ran.err);
    mqstat("never");
    ENDED(69);
    HAS("absent");
    mqstat("--json");
    ENDED(0);
    HAS("\"channels\": []");
}
END_TEST

/* What mqstat computes from the histograms is what went in. */
START_TEST(test_quantiles_are_within_two_percent)
{
    struct fake f;
    size_t at;
    fake_start(&f, support_name(), 4);
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(&f.status->times[TIME_round_trip], i * 1000);
    mqstat("--json %s", f.name);
    ENDED(0);
    struct json_value *v = json_parse(ran.out, &at);
    ck_assert_msg(v != NULL, "no JSON at %zu:\n%s", at, ran.out);
    static const struct {
        const char *path;
        double want;
    } values[] = {{"channels.0.times.round_trip.p50_us", 50000},
                  {"channels.0.times.round_trip.p99_us", 99000},
                  {"channels.0.times.round_trip.mean_us", 50000.5},
                  {"channels.0.times.round_trip.max_us", 100000}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        const struct json_value *n = json_at(v, values[i].path);
        ck_assert_msg(n != NULL, "no %s", values[i].path);
        ck_assert_double_ge(n->number, values[i].want * 0.98);
        ck_assert_double_le(n->number, values[i].want * 1.02);
    }
    json_free(v);
    fake_die(&f);
}
END_TEST

/* ---- JSON ---- */

static void schema_holds(const char *args)
{
    mqstat("%s", args);
    json_free(mqstat_json());
}

START_TEST(test_json_is_as_the_schema_says)
{
    struct fake f;
    struct client_index ix = {.seed = 1};
    fake_start(&f, "schema", 4);
    fake_count(&f, 100);
    status_client_taken(f.status->clients, &ix, 9, (uint32_t)getpid(), 1,
                        "GE\"T\x1b\xff", 6, 20, clock_ns());
    struct fake_sender arg = {"schema", 6};
    pid_t child = support_fork(fake_sender, &arg);
    ck_assert(support_sleeps_in(child, SYS_mq_timedsend));
    schema_holds("--json");
    HAS("\"interval\"");
    HAS("\"blocked\": 1");
    HAS("GE\\\"T\\u001b\\ufffd");
    schema_holds("--json --queues");
    HAS("\"blocked_senders\": [\n");
    schema_holds("--json --doctor");
    schema_holds("--json never");
    support_kill(child);
    fake_die(&f);
    schema_holds("--json");
    HAS("died");
}
END_TEST

START_TEST(test_the_schema_refuses)
{
    static char text[1 << 16];
    static const char *const bad[] = {
        "{}",
        "{\"version\":\"1\",\"time\":\"x\",\"channels\":[{}]}",
        ("{\"version\":\"1\",\"time\":\"x\",\"findings\":[{\"level\":\"odd\","
         "\"about\":\"\",\"what\":\"\",\"remedy\":null}]}"),
        "{\"version\":\"1\",\"time\":7,\"findings\":[]}",
        "{\"version\":\"1\",\"time\":\"x\",\"findings\":[],\"more\":1}",
    };
    char why[2048];
    size_t at;
    read_file("tools/mqstat.schema.json", text, sizeof(text));
    struct json_value *schema = json_parse(text, &at);
    ck_assert_ptr_nonnull(schema);
    struct json_value *v = json_parse(bad[_i], &at);
    ck_assert_ptr_nonnull(v);
    ck_assert(!json_conforms(schema, v, why, sizeof(why)));
    json_free(v);
    json_free(schema);
}
END_TEST

START_TEST(test_json_lines_live)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    mqstat("--json -w 0.05 -n 3 %s", f.name);
    ENDED(0);
    size_t lines = 0;
    for (char *at = ran.out, *end; (end = strchr(at, '\n')) != NULL;
         at = end + 1) {
        size_t where;
        *end = '\0';
        struct json_value *v = json_parse(at, &where);
        ck_assert_msg(v != NULL, "%s", at);
        ck_assert_ptr_nonnull(json_at(v, "channels.0.interval.seconds"));
        json_free(v);
        lines++;
    }
    ck_assert_uint_eq(lines, 3);
    fake_die(&f);
}
END_TEST

START_TEST(test_piped_lines)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    fake_count(&f, 10);
    mqstat("-w 0.05 -n 22 %s", f.name);
    ENDED(0);
    size_t lines = 0, headers = 0;
    for (char *at = ran.out, *end; (end = strchr(at, '\n')) != NULL;
         at = end + 1) {
        lines++;
        headers += strncmp(at, "TIME", 4) == 0;
    }
    ck_assert_uint_eq(lines, 24);
    ck_assert_uint_eq(headers, 2);
    assert_harmless();
    fake_die(&f);
}
END_TEST

/* ---- queues ---- */

#define WORKERS 40

START_TEST(test_names_who_is_blocked)
{
    struct fake f;
    long capacity = queue_limit();
    int blocked = WORKERS - (int)capacity;
    static pid_t pids[WORKERS];
    fake_start(&f, support_name(), capacity);
    struct fake_sender arg = {f.name, 1};
    for (int i = 0; i < WORKERS; i++)
        pids[i] = support_fork(fake_sender, &arg);
    int asleep = 0;
    ck_assert(UNTIL((asleep = 0, ({
                         for (int i = 0; i < WORKERS; i++)
                             asleep += support_proc_syscall(pids[i]) ==
                                       SYS_mq_timedsend;
                     }),
                     mpsc_depth(&f.rx) == capacity && asleep == blocked)));
    char want[64];
    mqstat("%s", f.name);
    ENDED(0);
    snprintf(want, sizeof(want), "%ld/%ld messages (full)", capacity, capacity);
    HAS(want);
    snprintf(want, sizeof(want), "%d threads", blocked);
    HAS(want);
    snprintf(want, sizeof(want), "%d processes", WORKERS);
    HAS(want);
    mqstat("--queues");
    ENDED(0);
    snprintf(want, sizeof(want), "%d blocked sending", blocked);
    HAS(want);
    const char *list = strstr(ran.out, "blocked sending");
    for (int i = 0; i < WORKERS; i++) {
        bool asleep_now = support_proc_syscall(pids[i]) == SYS_mq_timedsend;
        snprintf(want, sizeof(want), "%d check_mqstat", (int)pids[i]);
        bool named = strstr(list, want) != NULL;
        ck_assert_msg(named == asleep_now,
                      "pid %d is %sasleep and %snamed:\n%s", (int)pids[i],
                      asleep_now ? "" : "not ", named ? "" : "not ", ran.out);
    }
    for (int i = 0; i < WORKERS; i++)
        support_kill(pids[i]);
    fake_die(&f);
}
END_TEST

/* Queues that are not of mqredis, one of them without a name any more. */
START_TEST(test_queues_of_strangers)
{
    char named[64], gone[64];
    snprintf(named, sizeof(named), "/mqstat-test-%d", (int)getpid());
    snprintf(gone, sizeof(gone), "/mqstat-gone-%d", (int)getpid());
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 100};
    mqd_t a = mq_open(named, O_RDWR | O_CREAT | O_EXCL, 0640, &attr);
    mqd_t b = mq_open(gone, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    ck_assert(a != (mqd_t)-1 && b != (mqd_t)-1);
    mq_unlink(gone);
    ck_assert_int_eq(mq_send(a, "hello", 5, 0), 0);
    ck_assert_int_eq(mq_send(b, "hi", 2, 0), 0);
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    ck_assert_int_eq(mq_notify(b, &event), 0);
    mqstat("--queues --json");
    ENDED(0);
    struct json_value *v = mqstat_json();
    const struct json_value *queues = json_at(v, "queues");
    int seen = 0;
    for (size_t i = 0; i < queues->count; i++) {
        const struct json_value *q = queues->children[i];
        bool is_named = strcmp(json_at(q, "name")->string, named) == 0;
        if (!is_named && strcmp(json_at(q, "name")->string, gone) != 0)
            continue;
        seen++;
        ck_assert_double_eq(json_at(q, "messages")->number, 1);
        ck_assert_double_eq(json_at(q, "capacity")->number, 3);
        ck_assert_double_eq(json_at(q, "bytes")->number, is_named ? 5 : 2);
        ck_assert_str_eq(json_at(q, "mode")->string,
                         is_named ? "0640" : "0600");
        ck_assert_int_eq(json_at(q, "unlinked")->boolean, !is_named);
        ck_assert_double_eq(json_at(q, "holders.0.pid")->number, getpid());
        if (!is_named)
            ck_assert_double_eq(json_at(q, "notified_pid")->number, getpid());
    }
    ck_assert_int_eq(seen, 2);
    json_free(v);
    mq_close(a);
    mq_close(b);
    mq_unlink(named);
}
END_TEST

static void queues_as_nobody(void *arg)
{
    int fd = *(int *)arg;
    if (!support_become(65534, 65534))
        _exit(CHILD_CANNOT);
    char program[4096];
    snprintf(program, sizeof(program), "%s/mqstat", support_build());
    dup2(fd, STDOUT_FILENO);
    execl(program, "mqstat", "--queues", (char *)NULL);
    _exit(CHILD_CANNOT); /* the build folder may be closed to others */
}

START_TEST(test_says_what_it_could_not_see)
{
    if (geteuid() != 0) {
        support_skip("test_says_what_it_could_not_see", "needs root");
        return;
    }
    int fd = open(support_path("nobody.out"), O_WRONLY | O_CREAT, 0666);
    ck_assert_int_ge(fd, 0);
    int code = support_join(support_fork(queues_as_nobody, &fd));
    read_file(support_path("nobody.out"), ran.out, sizeof(ran.out));
    close(fd);
    unlink(support_path("nobody.out"));
    if (code == CHILD_CANNOT) {
        support_skip("test_says_what_it_could_not_see", "cannot become nobody");
        return;
    }
    ck_assert_int_eq(code, 0);
    HAS("not seen: what ");
}
END_TEST

/* ---- what must not break it ---- */

static const char hostile[] = "\033]0;owned\007\033[2J\r\n\x9b"
                              "31m\x7f";

static void assert_all_modes_survive(const char *name)
{
    static const char *const modes[] = {
        "",         "--json",       "--prometheus", "--check",
        "--doctor", "-w 0.05 -n 1", "--queues",     "--wait up --timeout 0"};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        mqstat("%s", modes[i]);
        ck_assert_msg(ran.code < 128 && ran.code != 70, "mqstat %s: %d\n%s",
                      modes[i], ran.code, ran.err);
        assert_harmless();
    }
    mqstat("%s", name);
    ck_assert_int_lt(ran.code, 128);
    assert_harmless();
}

START_TEST(test_terminal_escapes_are_made_harmless)
{
    struct fake f;
    struct client_index ix = {.seed = 1};
    char queue[64], folder[600];
    fake_start(&f, "default", 4);
    snprintf(f.state.server, sizeof(f.state.server), "%s", hostile);
    snprintf(f.state.error, sizeof(f.state.error), "%s", hostile);
    status_set_state(f.status, &f.state, STATE_RECONNECTING);
    status_client_taken(f.status->clients, &ix, 9, 1, 1, hostile, 16, 0,
                        clock_ns());
    snprintf(queue, sizeof(queue), "/q\033[31m%d", (int)getpid());
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 10};
    mqd_t mq = mq_open(queue, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    ck_assert(mq != (mqd_t)-1);
    assert_all_modes_survive("default");
    HAS("\\x1b]0;owned\\x07");
    mqstat("--queues");
    HAS("/q\\x1b[31m");
    mq_close(mq);
    mq_unlink(queue);
    snprintf(folder, sizeof(folder), "\"$(printf '%s/\\033[31mx')\"",
             support_scratch());
    mqstat("%s", folder);
    ENDED(69);
    assert_harmless();
    fake_die(&f);
}
END_TEST

enum damage {
    CUT,
    EMPTY,
    OTHER_VERSION,
    OTHER_MAGIC,
    NO_STATE,
    RANDOM,
    FOLDER,
    DAMAGES
};

START_TEST(test_damaged_status_files)
{
    static const char *const lines[DAMAGES] = {
        "cut short", "cut short", "version 9999", "damaged",
        "not said",  "",          "cut short"};
    struct fake f;
    fake_start(&f, "default", 4);
    int fd = openat(f.ch.dirfd, "status", O_RDWR);
    ck_assert_int_ge(fd, 0);
    if (_i == CUT)
        ck_assert_int_eq(ftruncate(fd, sizeof(struct status) / 2), 0);
    if (_i == EMPTY)
        ck_assert_int_eq(ftruncate(fd, 0), 0);
    if (_i == OTHER_VERSION)
        f.status->version = 9999;
    if (_i == OTHER_MAGIC)
        f.status->magic = 1;
    if (_i == NO_STATE)
        atomic_store(&f.status->state.version, 0);
    if (_i == RANDOM) {
        srandom(7);
        char *bytes = (char *)f.status;
        for (size_t i = 12; i < sizeof(*f.status); i++)
            bytes[i] = (char)random();
        f.status->size = sizeof(*f.status);
    }
    if (_i == FOLDER) {
        unlinkat(f.ch.dirfd, "status", 0);
        ck_assert_int_eq(mkdirat(f.ch.dirfd, "status", 0700), 0);
    }
    assert_all_modes_survive("default");
    mqstat("%s", "");
    HAS(lines[_i]);
    HAS("0/4"); /* what can be seen without it */
    if (_i != RANDOM) {
        mqstat("--check");
        ENDED(2);
    }
    close(fd);
    fake_die(&f);
}
END_TEST

START_TEST(test_a_killed_manager)
{
    struct fake f;
    fake_start(&f, "default", 4);
    mqstat("--check");
    ENDED(0);
    fake_die(&f);
    mqstat("--check");
    ENDED(2);
    HAS("default: down, died");
    mqstat("%s", "");
    ENDED(0);
    HAS("died");
    assert_all_modes_survive("default");
}
END_TEST

/* ---- usage ---- */

START_TEST(test_bad_options)
{
    static const char *const bad[] = {
        "--frobnicate",     "-w 0.001",
        "--count 3",        "--timeout x",
        "kill-client",      "kill-client x",
        "--queues name",    "--json pause",
        "--check --doctor", "'bad name'",
        "--listen 1",       "--listen 0.0.0.0:1",
        "-n 0 -w",          "--prometheus -w",
        "pause a b",        "--wait up a b",
        "'\033[31m'",       "--doctor -w",
        "--listen x:y:z",   "--prometheus --json",
    };
    mqstat("%s", bad[_i]);
    ENDED(64);
    ck_assert_str_eq(ran.out, "");
    assert_one_line(ran.err);
    assert_harmless();
}
END_TEST

START_TEST(test_help_and_version)
{
    mqstat("--help");
    ENDED(0);
    HAS("usage: mqstat");
    /* As wide as a terminal. */
    for (char *at = ran.out, *end; (end = strchr(at, '\n')) != NULL;
         at = end + 1)
        ck_assert_int_le(end - at, 80);
    mqstat("--version");
    ENDED(0);
    ck_assert_int_eq(strncmp(ran.out, "mqstat ", 7), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat");
    TCase *t = tcase_create("mqstat");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_one_line_a_channel);
    tcase_add_test(t, test_sections_of_one_channel);
    tcase_add_test(t, test_no_channel_at_all);
    tcase_add_test(t, test_quantiles_are_within_two_percent);
    tcase_add_test(t, test_json_is_as_the_schema_says);
    tcase_add_loop_test(t, test_the_schema_refuses, 0, 5);
    tcase_add_test(t, test_json_lines_live);
    tcase_add_test(t, test_piped_lines);
    tcase_add_test(t, test_names_who_is_blocked);
    tcase_add_test(t, test_queues_of_strangers);
    tcase_add_test(t, test_says_what_it_could_not_see);
    tcase_add_test(t, test_terminal_escapes_are_made_harmless);
    tcase_add_loop_test(t, test_damaged_status_files, 0, DAMAGES);
    tcase_add_test(t, test_a_killed_manager);
    tcase_add_loop_test(t, test_bad_options, 0, 20);
    tcase_add_test(t, test_help_and_version);
    return support_run(s);
}
