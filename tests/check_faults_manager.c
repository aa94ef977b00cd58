/*
 * The manager, with each of its system calls and allocations made to fail in
 * turn, through a life of its own: start, serve, lose Redis, reload, end. It
 * either goes on, or ends as its manual says and with a line that says why; its
 * workers get a named status, a true one and in time; and after it, a manager
 * without faults finds nothing that is in its way, and leaves nothing.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/faults/acts.h"
#include "tests/faults/sweep.h"
#include "tests/support.h"
#include "tests/support_tls.h"

#define SAMPLE 32

/* For a manager of which nothing fails it is far too much. */
#define TIMEOUT_MS 600
#define LATE_MS 5000

/* How long to wait for a ready line that may never come. */
#define READY_MS 1500

struct scene {
    struct e2e_redis redis;
    char uri[160];
    char options[256]; /* of every manager */
    struct redis_link link;
    struct faults_plan *plan;
    char plan_path[256];
    struct acts *acts;
    char why[1024]; /* the first thing that is wrong with this point */
    struct faults_plan counted; /* as it was before the next manager */
    bool struck;                /* a call did fail at it */
    int fds;             /* of a manager without faults, once it has served */
    int64_t blocks;      /* that it does not free */
    int64_t slack;       /* more that OpenSSL may lose when it gets no memory */
    unsigned ended[128]; /* managers, by exit status */
    unsigned statuses[ACTS_STATUSES];
    int64_t worst_ms;
};

struct life {
    struct e2e_manager m;
    bool ready, ended;
    int status; /* once it has ended, as waitpid gives it */
    char queue[CHANNEL_QUEUE_NAME_MAX + 2];
};

static void wrong(struct scene *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void wrong(struct scene *s, const char *fmt, ...)
{
    if (s->why[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->why, sizeof(s->why), fmt, ap);
    va_end(ap);
}

static void start_plain(struct scene *s)
{
    e2e_redis_start(&s->redis, E2E_REDIS);
    snprintf(s->uri, sizeof(s->uri), "%s", e2e_uri(&s->redis));
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* By TCP and TLS, and by a name that is looked up. */
static void start_tls(struct scene *s)
{
    char dir[200], options[1024];
    snprintf(dir, sizeof(dir), "%s", support_scratch());
    ck_assert(support_tls_certificates(dir));
    int port = free_port();
    snprintf(options, sizeof(options),
             "--port 0 --tls-port %d --bind 127.0.0.1 --tls-cert-file "
             "%s/server.crt --tls-key-file %s/server.key --tls-ca-cert-file "
             "%s/ca.crt --tls-auth-clients no",
             port, dir, dir, dir);
    ck_assert(redis_start(&s->redis.at, "tls", options));
    s->slack = 64;
    snprintf(s->uri, sizeof(s->uri), "rediss://localhost:%d", port);
    snprintf(s->options, sizeof(s->options), " --tls-ca %s/ca.crt", dir);
}

static void scene_open(struct scene *s, bool tls)
{
    memset(s, 0, sizeof(*s));
    /* Guardians whose manager died become our children. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (tls)
        start_tls(s);
    else
        start_plain(s);
    redis_link_open(&s->link, &s->redis.at);
    snprintf(s->plan_path, sizeof(s->plan_path), "%s", support_path("plan"));
    s->plan = faults_plan_new(s->plan_path);
    s->acts = support_shared(sizeof(*s->acts));
}

static void scene_close(struct scene *s)
{
    redis_link_close(&s->link);
    e2e_redis_kill(&s->redis);
}

/* ---- a manager ---- */

static const char *library(void)
{
    static char path[512];
    const char *build = getenv("MQREDIS_BUILD");
    char *full = realpath(build != NULL ? build : "build", NULL);
    ck_assert_ptr_nonnull(full);
    snprintf(path, sizeof(path), "%s/tests/libfaults.so", full);
    free(full);
    return path;
}

static bool has_ended(struct life *l)
{
    if (!l->ended && waitpid(l->m.pid, &l->status, WNOHANG) == l->m.pid)
        l->ended = true;
    return l->ended;
}

static bool is_ready(struct life *l)
{
    l->ready = strstr(e2e_log(&l->m), "mqredis-manager: ready") != NULL;
    return l->ready;
}

enum mood {
    SOUND, /* nothing fails */
    ARMED, /* calls fail */
    READY, /* they may, once the plan is armed */
};

/* Launches one and waits until it is ready or has ended; or is still trying,
 * after a while. */
static void launch(struct scene *s, struct life *l, const char *channel,
                   enum mood mood, const char *options)
{
    memset(l, 0, sizeof(*l));
    if (mood != SOUND) {
        setenv("LD_PRELOAD", library(), 1);
        setenv("FAULTS_PLAN", s->plan_path, 1);
        setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 0);
        s->plan->armed = mood == ARMED;
    }
    char all[512];
    snprintf(all, sizeof(all), "%s%s", options, s->options);
    e2e_manager_launch(&l->m, channel, s->uri, all);
    unsetenv("LD_PRELOAD");
    unsetenv("FAULTS_PLAN");
    uint64_t end = clock_deadline(mood == ARMED ? READY_MS : support_wait_ms());
    while (!has_ended(l) && !is_ready(l) && clock_ns() < end)
        support_sleep_ms(1);
}

/* The name of its queue, so that it can be looked for when the folder is gone.
 */
static void note_queue(struct life *l)
{
    char path[128], text[256];
    snprintf(path, sizeof(path), "%s/queue", l->m.channel);
    int fd = open(support_path(path), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(l->queue, sizeof(l->queue), "%.*s", (int)sizeof(l->queue) - 1,
             text);
}

static bool documented(int status)
{
    switch (status) {
    case 0:
    case EX_UNAVAILABLE:
    case EX_OSERR:
    case EX_TEMPFAIL:
    case EX_CONFIG:
        return true;
    default:
        return false;
    }
}

/* Judges how it ended. */
static void judge_end(struct scene *s, struct life *l)
{
    if (!l->ended) {
        wrong(s, "manager hangs (state %c, call %ld): %s",
              support_proc_state(l->m.pid), support_proc_syscall(l->m.pid),
              e2e_log(&l->m));
        support_kill(l->m.pid);
        l->ended = true;
        return;
    }
    if (!WIFEXITED(l->status)) {
        wrong(s, "manager ended by signal %d: %s", WTERMSIG(l->status),
              e2e_log(&l->m));
        return;
    }
    int status = WEXITSTATUS(l->status);
    s->ended[status & 127]++;
    if (!documented(status))
        wrong(s, "manager ended with status %d: %s", status, e2e_log(&l->m));
    bool mute = s->plan->failed > 0 && s->plan->call == FAULTS_write;
    if (status != 0 && !mute && strstr(e2e_log(&l->m), "error: ") == NULL)
        wrong(s, "manager ended with status %d and no word: %s", status,
              e2e_log(&l->m));
}

static void end(struct scene *s, struct life *l)
{
    if (!has_ended(l))
        kill(l->m.pid, SIGTERM);
    (void)!UNTIL(has_ended(l));
    judge_end(s, l);
}

/* Whoever was forked by managers and outlived them is ours now. */
static void end_children(struct scene *s)
{
    char path[64], text[512] = "", *at = text, *next;
    snprintf(path, sizeof(path), "/proc/self/task/%ld/children",
             (long)getpid());
    FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    for (;; at = next) {
        int status = 0;
        pid_t pid = (pid_t)strtol(at, &next, 10);
        if (next == at)
            return;
        if (pid == s->redis.at.pid)
            continue;
        if (!UNTIL(waitpid(pid, &status, WNOHANG) == pid)) {
            wrong(s, "a guardian does not end");
            support_kill(pid);
        } else if (status != 0) {
            wrong(s, "a guardian ended with %#x", (unsigned)status);
        }
    }
}

/* ---- its workers ---- */

struct visit {
    struct scene *s;
    const char *channel;
    bool brief; /* only what every connection sees */
};

static void work(void *arg)
{
    const struct visit *v = arg;
    struct acts *a = v->s->acts;
    if (v->brief) {
        acts_brief(a, v->channel);
        return;
    }
    acts_all(a, v->channel);
    acts_served(a, v->channel);
}

/* A worker's life begins. */
static pid_t visit_begin(struct scene *s, const char *channel,
                         int64_t timeout_ms, bool brief)
{
    static uint64_t id;
    struct acts *a = s->acts;
    struct visit v = {s, channel, brief};
    memset(a, 0, sizeof(*a));
    a->id = ++id;
    a->timeout_ms = timeout_ms;
    return support_fork(work, &v);
}

/* It ends, and is judged. */
static void visit_end(struct scene *s, pid_t pid)
{
    struct acts *a = s->acts;
    int status = 0;
    bool done = false;
    for (int i = 0; i < 4 && !done; i++)
        done = UNTIL(waitpid(pid, &status, WNOHANG) == pid);
    if (!done) {
        support_kill(pid);
        wrong(s, "a worker hangs at '%s'", a->at);
    } else if (status != 0) {
        wrong(s, "a worker ended with %#x at '%s'", (unsigned)status, a->at);
    }
    acts_verify(a, &s->link);
    if (a->wrong[0] != '\0')
        wrong(s, "worker: %s", a->wrong);
    for (int i = 0; i < ACTS_STATUSES; i++)
        s->statuses[i] += a->statuses[i];
    if (a->worst_ms > s->worst_ms)
        s->worst_ms = a->worst_ms;
    if (a->silent && s->plan->until == s->plan->from)
        wrong(s, "a stream lost a message and was not told");
    if (a->worst_ms > a->timeout_ms + LATE_MS)
        wrong(s, "a worker's call took %lld ms", (long long)a->worst_ms);
}

static void visit(struct scene *s, const char *channel, int64_t timeout_ms,
                  bool brief)
{
    visit_end(s, visit_begin(s, channel, timeout_ms, brief));
}

/* ---- the rest of its life ---- */

static void order(const struct life *l, const char *line)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/control", l->m.channel);
    int fd = open(support_path(path), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return; /* it may have ended, or not have begun */
    ssize_t n = write(fd, line, strlen(line));
    ck_assert_int_eq(n, (ssize_t)strlen(line));
    close(fd);
}

/* Waits until the log has so many lines with this text; or for some time. */
static void await_log(struct life *l, const char *text)
{
    uint64_t until = clock_deadline(300);
    while (!has_ended(l) && strstr(e2e_log(&l->m), text) == NULL &&
           clock_ns() < until)
        support_sleep_ms(1);
}

static int count_fds(const struct life *l)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)l->m.pid);
    return support_count_entries(path);
}

/* It holds nothing for workers that have gone. */
static void check_idle(struct scene *s, struct life *l)
{
    const struct status *status = NULL;
    struct channel ch;
    struct err_text why = {""};
    if (channel_open(&ch, l->m.channel, &why) != ERR_OK)
        return;
    if (status_open(&ch, &status, &why) == ERR_OK) {
        l->m.status = status;
        if (!UNTIL(e2e_balanced(&l->m) || has_ended(l)))
            wrong(s, "its books do not balance: %s", e2e_books(&l->m));
        status_unmap(status);
    }
    channel_close(&ch);
    if (s->fds == 0)
        s->fds = count_fds(l);
    else if (!UNTIL(has_ended(l) || count_fds(l) <= s->fds))
        wrong(s, "manager holds %d descriptors, %d were enough before",
              count_fds(l), s->fds);
}

static void live(struct scene *s, struct life *l)
{
    note_queue(l);
    visit(s, l->m.channel, l->ready ? TIMEOUT_MS : 100, false);
    order(l, "pause\n");
    order(l, "resume\n");
    await_log(l, "resumed");
    kill(l->m.pid, SIGHUP);
    await_log(l, "reload");
    redis_link_ask(&s->link, "CLIENT KILL TYPE normal SKIPME yes");
    await_log(l, "lost the connection");
    visit(s, l->m.channel, l->ready ? TIMEOUT_MS : 100, true);
    if (!has_ended(l))
        check_idle(s, l);
}

static bool folder_there(const char *channel)
{
    return access(support_path(channel), F_OK) == 0;
}

/* A manager without faults on the same channel: nothing is in its way, and it
 * leaves nothing. */
static void succeed(struct scene *s, const char *channel)
{
    struct life l;
    faults_plan_clear(s->plan);
    launch(s, &l, channel, SOUND, "");
    if (!l.ready) {
        wrong(s, "no manager can start afterwards: %s", e2e_log(&l.m));
    } else {
        note_queue(&l);
        visit(s, channel, 10 * TIMEOUT_MS, true);
        if (s->acts->statuses[MQREDIS_OK] < 5)
            wrong(s, "the next manager does not serve as it should");
    }
    end(s, &l);
    if (!l.ended || l.status != 0)
        wrong(s, "the next manager ended with %#x: %s", (unsigned)l.status,
              e2e_log(&l.m));
    if (folder_there(channel))
        wrong(s, "the next manager left the folder");
    unlink(l.m.log);
}

/* What must hold after the managers of a channel have ended, some with calls
 * that failed. */
static void look_back(struct scene *s, const struct life *l)
{
    end_children(s);
    s->plan->armed = false;
    enum faults_call call = s->plan->call;
    s->struck = s->plan->failed > 0;
    memcpy(&s->counted, s->plan, sizeof(s->counted));
    if (s->why[0] != '\0' || folder_there(l->m.channel))
        succeed(s, l->m.channel);
    if (l->queue[0] == '\0')
        return;
    mqd_t mq = mq_open(l->queue, O_RDONLY | O_CLOEXEC);
    if (mq == (mqd_t)-1)
        return;
    mq_close(mq);
    mq_unlink(l->queue);
    if (!s->struck || call != FAULTS_mq_unlink)
        wrong(s, "queue %s was left", l->queue);
}

/* From launch to end. */
static void whole_life(struct scene *s)
{
    struct life l;
    launch(s, &l, support_name(), ARMED, "");
    if (!has_ended(&l))
        live(s, &l);
    end(s, &l);
    int64_t blocks = s->plan->blocks[FAULTS_SELF];
    if (s->blocks == 0)
        s->blocks = blocks;
    else if (FAULTS_BLOCKS_COUNT && blocks > s->blocks + s->slack)
        wrong(s, "%lld blocks of memory were not freed, without faults %lld",
              (long long)blocks, (long long)s->blocks);
    look_back(s, &l);
    unlink(l.m.log);
}

/* It is killed while commands wait in its queue: calls of its guardian fail. */
static void last_will(struct scene *s)
{
    struct life l;
    launch(s, &l, support_name(), READY, "");
    ck_assert_msg(l.ready, "%s", e2e_log(&l.m));
    note_queue(&l);
    order(&l, "pause\n");
    await_log(&l, "paused");
    pid_t worker = visit_begin(s, l.m.channel, TIMEOUT_MS, false);
    mqd_t mq = mq_open(l.queue, O_RDONLY | O_CLOEXEC);
    struct mq_attr attr = {0};
    (void)!UNTIL(mq_getattr(mq, &attr) == 0 && attr.mq_curmsgs > 0);
    mq_close(mq);
    s->plan->armed = true;
    support_kill(l.m.pid);
    visit_end(s, worker);
    look_back(s, &l);
    unlink(l.m.log);
}

/* One manager takes over from another while a worker works. */
static void succession(struct scene *s, enum mood old_mood, enum mood new_mood)
{
    struct life old, new;
    launch(s, &old, support_name(), old_mood, "");
    ck_assert_msg(old.ready, "%s", e2e_log(&old.m));
    note_queue(&old);
    char channel[48];
    snprintf(channel, sizeof(channel), "%s", old.m.channel);
    s->plan->armed = old_mood != SOUND;
    pid_t worker = visit_begin(s, channel, TIMEOUT_MS, false);
    launch(s, &new, channel, new_mood, "--takeover");
    visit_end(s, worker);
    if (new.ready) {
        if (!UNTIL(has_ended(&old)))
            wrong(s, "the old manager does not end: %s", e2e_log(&old.m));
    } else if (!has_ended(&new)) {
        kill(new.m.pid, SIGTERM);
        (void)!UNTIL(has_ended(&new));
    }
    visit(s, channel, TIMEOUT_MS, true);
    end(s, &new);
    end(s, &old);
    look_back(s, &old);
    unlink(old.m.log);
    unlink(new.m.log);
}

static void faulty_successor(struct scene *s)
{
    succession(s, SOUND, ARMED);
}

static void faulty_predecessor(struct scene *s)
{
    succession(s, READY, SOUND);
}

/* ---- the sweeps ---- */

static void report(const struct scene *s, const char *name)
{
    printf("figure: %s: managers ended with", name);
    for (int i = 0; i < 128; i++)
        if (s->ended[i] > 0)
            printf(" %d (%u)", i, s->ended[i]);
    printf("; workers were told");
    for (int i = 0; i < ACTS_STATUSES; i++)
        printf(" %s %u", mqredis_status_str((enum mqredis_status)i),
               s->statuses[i]);
    printf("; longest call %lld ms (timeout %d)\n", (long long)s->worst_ms,
           TIMEOUT_MS);
    fflush(stdout);
}

static void sweep(const char *name, bool tls, unsigned roles, size_t sample,
                  void (*run)(struct scene *s))
{
    static struct scene scene;
    struct scene *s = &scene;
    scene_open(s, tls);
    faults_plan_clear(s->plan);
    run(s);
    ck_assert_msg(s->why[0] == '\0', "%s", s->why);
    struct faults_sweep sweep;
    struct faults_point point;
    faults_sweep_init(&sweep, &s->counted, roles, sample);
    memset(s->ended, 0, sizeof(s->ended));
    memset(s->statuses, 0, sizeof(s->statuses));
    while (faults_sweep_next(&sweep, s->plan, &point)) {
        s->why[0] = '\0';
        run(s);
        sweep.struck += s->struck;
        if (s->why[0] != '\0')
            faults_complain(&sweep, &point, "%s", s->why);
    }
    faults_report(&sweep, name);
    report(s, name);
    ck_assert_uint_eq(sweep.complaints, 0);
    faults_sweep_release(&sweep);
    scene_close(s);
}

START_TEST(test_a_whole_life)
{
    sweep("manager", false, FAULTS_BOTH, SAMPLE, whole_life);
}
END_TEST

/* A start that finds no memory, at every table that it makes. */
START_TEST(test_no_memory_at_start)
{
    static struct scene scene;
    struct scene *s = &scene;
    scene_open(s, false);
    unsigned refused = 0;
    do {
        struct life l;
        faults_plan_clear(s->plan);
        s->plan->call = FAULTS_calloc;
        s->plan->error = ENOMEM;
        s->plan->from = s->plan->until = s->counted.from + 1;
        launch(s, &l, support_name(), ARMED, "");
        end(s, &l);
        refused += l.status != 0;
        look_back(s, &l);
        ck_assert_msg(s->why[0] == '\0', "calloc %llu: %s",
                      (unsigned long long)s->counted.from, s->why);
        unlink(l.m.log);
    } while (s->struck);
    ck_assert_uint_gt(refused, 5);
    scene_close(s);
}
END_TEST

START_TEST(test_a_life_by_tls)
{
    const char *missing = support_tls_missing();
    if (missing != NULL)
        support_skip("check_faults_manager", missing);
    else
        sweep("tls", true, FAULTS_BOTH, SAMPLE / 4, whole_life);
}
END_TEST

/* One that could not be forked is not done without: housekeeping tries again.
 */
START_TEST(test_a_guardian_that_cannot_be_forked)
{
    static struct scene scene;
    struct scene *s = &scene;
    struct life l;
    scene_open(s, false);
    faults_plan_clear(s->plan);
    s->plan->call = FAULTS_fork;
    s->plan->error = EAGAIN;
    s->plan->from = s->plan->until = 2;
    launch(s, &l, support_name(), ARMED, "");
    ck_assert_msg(l.ready, "%s", e2e_log(&l.m));
    e2e_manager_ready(&l.m);
    pid_t first = l.m.guardian;
    kill(first, SIGKILL);
    ck_assert_msg(
        UNTIL(strstr(e2e_log(&l.m), "cannot start a guardian") != NULL), "%s",
        e2e_log(&l.m));
    ck_assert_msg(
        UNTIL(strstr(e2e_log(&l.m), "a guardian was started") != NULL), "%s",
        e2e_log(&l.m));
    /* It does what it is for. */
    e2e_manager_ready(&l.m);
    ck_assert_int_ne(l.m.guardian, first);
    e2e_manager_kill(&l.m);
    ck_assert(e2e_guardian_gone(&l.m));
    ck_assert_msg(strstr(e2e_log(&l.m), "died;") != NULL, "%s", e2e_log(&l.m));
    scene_close(s);
}
END_TEST

START_TEST(test_a_last_will)
{
    sweep("guardian", false, 1U << FAULTS_CHILD, SAMPLE / 4, last_will);
}
END_TEST

START_TEST(test_a_successor)
{
    sweep("successor", false, FAULTS_BOTH, SAMPLE / 4, faulty_successor);
}
END_TEST

START_TEST(test_a_predecessor)
{
    sweep("predecessor", false, FAULTS_BOTH, SAMPLE / 4, faulty_predecessor);
}
END_TEST

static void add(Suite *s, const char *name, const TTest *test)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, faults_whole() ? 14400 : 240);
    tcase_add_unchecked_fixture(tcase, support_scratch_setup,
                                support_scratch_teardown);
    tcase_add_test(tcase, test);
    suite_add_tcase(s, tcase);
}

int main(void)
{
    Suite *s = suite_create("faults_manager");
    add(s, "life", test_a_whole_life);
    add(s, "start", test_no_memory_at_start);
    add(s, "tls", test_a_life_by_tls);
    add(s, "guardian", test_a_guardian_that_cannot_be_forked);
    add(s, "will", test_a_last_will);
    add(s, "successor", test_a_successor);
    add(s, "predecessor", test_a_predecessor);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
