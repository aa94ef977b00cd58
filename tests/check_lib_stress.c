/* The library under forks, threads, cancelling at random, and without memory or
 * descriptors: no reply may ever reach another request, and nothing may be
 * lost. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/lib.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* Sanitized, a tenth of the work takes as long. */
#define SLOW (SUPPORT_SANITIZED ? 10 : 1)

static struct mqredis *open_handle(const struct e2e_manager *m)
{
    struct mqredis *mq = lib_open(m);
    mqredis_set_timeout(mq, 60000);
    return mq;
}

/* Whether the reply is the text, and frees it. */
static bool is_text(struct mqredis_reply *reply, const char *text)
{
    bool same = reply->type == MQREDIS_STRING && reply->len == strlen(text) &&
                memcmp(reply->str, text, reply->len) == 0;
    if (!same)
        fprintf(stderr, "expected %s, got type %d status %d %s\n", text,
                (int)reply->type, (int)reply->status,
                reply->str ? reply->str : "");
    mqredis_free(reply);
    return same;
}

/* Checks `count` values that nobody else uses: some one by one, some many at
 * once. Returns how many were right. */
static int check_values(struct mqredis *mq, const char *who, int count)
{
    enum { AT_ONCE = 25 };
    int right = 0;
    char text[AT_ONCE][64];
    for (int i = 0; i < count; i += AT_ONCE) {
        struct mqredis_request *q[AT_ONCE];
        bool together = (i / AT_ONCE) % 2 == 0;
        for (int j = 0; j < AT_ONCE; j++) {
            snprintf(text[j], sizeof(text[j]), "%s:%d", who, i + j);
            if (together)
                q[j] = mqredis_submit(mq, "ECHO %s", text[j]);
            else
                right +=
                    is_text(mqredis_command(mq, "ECHO %s", text[j]), text[j]);
        }
        for (int j = 0; together && j < AT_ONCE; j++)
            right += is_text(mqredis_wait(q[j]), text[j]);
    }
    return right;
}

/* ---- forks ---- */

/* Descriptors of this process that are reply pipes. */
static int reply_pipes_open(void)
{
    int count = 0;
    for (int fd = 3; fd < 1000; fd++) {
        char path[64], target[512];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        count += strstr(target, "/reply/") != NULL;
    }
    return count;
}

struct family {
    struct mqredis *mq;
    int count;
    volatile int *right; /* of each child, in shared memory */
    int index;
};

static void run_child(void *arg)
{
    struct family *f = arg;
    char who[32];
    CHILD_REQUIRE(reply_pipes_open() == 0);
    snprintf(who, sizeof(who), "child%d", f->index);
    f->right[f->index] = check_values(f->mq, who, f->count);
    mqredis_close(f->mq);
}

START_TEST(test_prefork_children_never_cross_replies)
{
    enum { CHILDREN = 16 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct family f = {
        .mq = open_handle(&m),
        .count = 100000 / (CHILDREN + 1) / SLOW / 25 * 25,
        .right = support_shared((CHILDREN + 1) * sizeof(int)),
    };
    /* The parent has idle reply pipes, and a request under way. */
    ck_assert_int_eq(check_values(f.mq, "before", 50), 50);
    struct mqredis_request *own = mqredis_submit(f.mq, "ECHO own");
    mqredis_flush(f.mq);
    pid_t pid[CHILDREN];
    uint64_t t0 = clock_ns();
    for (f.index = 0; f.index < CHILDREN; f.index++)
        pid[f.index] = support_fork(run_child, &f);
    ck_assert_int_eq(check_values(f.mq, "parent", f.count), f.count);
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        while (waitpid(pid[i], &status, 0) < 0)
            ck_assert_int_eq(errno, EINTR);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(f.right[i], f.count);
    }
    e2e_figure(_i, "16 children and their parent: %d values right, %.0f/s",
               (CHILDREN + 1) * f.count,
               (CHILDREN + 1) * f.count / ((double)(clock_ns() - t0) / 1e9));
    ck_assert(is_text(mqredis_wait(own), "own"));
    mqredis_close(f.mq);
}
END_TEST

struct inheritance {
    struct mqredis *mq;
    struct mqredis_request *request;
};

static void try_parents_request(void *arg)
{
    struct inheritance *i = arg;
    CHILD_REQUIRE(mqredis_wait_done(i->request, 0));
    struct mqredis_reply *reply = mqredis_wait(i->request);
    CHILD_REQUIRE(reply->type == MQREDIS_FAILURE);
    CHILD_REQUIRE(reply->status == MQREDIS_INVALID);
    mqredis_free(reply);
    CHILD_REQUIRE(is_text(mqredis_command(i->mq, "ECHO mine"), "mine"));
    /* Without closing: a prefork worker just ends. */
}

START_TEST(test_requests_stay_with_the_parent)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct inheritance i = {.mq = open_handle(&m)};
    i.request = mqredis_submit(i.mq, "BLPOP list 0");
    mqredis_flush(i.mq);
    ck_assert(!mqredis_wait_done(i.request, 50));
    ck_assert_int_eq(support_join(support_fork(try_parents_request, &i)), 0);
    /* The child's end took nothing away. */
    struct mqredis_reply *reply = mqredis_command(i.mq, "RPUSH list v");
    ck_assert_int_eq(reply->integer, 1);
    mqredis_free(reply);
    reply = mqredis_wait(i.request);
    ck_assert_int_eq(reply->type, MQREDIS_ARRAY);
    mqredis_free(reply);
    mqredis_close(i.mq);
}
END_TEST

/* ---- threads ---- */

struct crew {
    struct mqredis *mq;
    int index, count, right;
};

static void *run_thread(void *arg)
{
    struct crew *c = arg;
    char who[32];
    snprintf(who, sizeof(who), "thread%d", c->index);
    c->right = check_values(c->mq, who, c->count);
    return NULL;
}

START_TEST(test_threads_share_a_handle)
{
    enum { THREADS = 8 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct crew crew[THREADS];
    pthread_t id[THREADS];
    uint64_t t0 = clock_ns();
    for (int i = 0; i < THREADS; i++) {
        crew[i] = (struct crew){
            .mq = mq, .index = i, .count = 100000 / THREADS / SLOW / 25 * 25};
        ck_assert_int_eq(pthread_create(&id[i], NULL, run_thread, &crew[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(id[i], NULL);
        ck_assert_int_eq(crew[i].right, crew[i].count);
    }
    e2e_figure(_i, "8 threads, one handle: %.0f/s",
               THREADS * crew[0].count / ((double)(clock_ns() - t0) / 1e9));
    mqredis_close(mq);
}
END_TEST

static void *run_blocked(void *arg)
{
    struct crew *c = arg;
    struct mqredis_reply *reply =
        c->index % 2
            ? mqredis_command(c->mq, "BLPOP list%d 0", c->index)
            : mqredis_wait(mqredis_submit(c->mq, "BLPOP list%d 0", c->index));
    c->right = reply->type == MQREDIS_ARRAY && reply->elements == 2 &&
               atoi(reply->element[1]->str) == c->index;
    mqredis_free(reply);
    return NULL;
}

START_TEST(test_waiting_thread_holds_up_no_other)
{
    enum { THREADS = 6 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct crew crew[THREADS];
    pthread_t id[THREADS];
    for (int i = 0; i < THREADS; i++) {
        crew[i] = (struct crew){.mq = mq, .index = i};
        ck_assert_int_eq(pthread_create(&id[i], NULL, run_blocked, &crew[i]),
                         0);
    }
    ck_assert_int_eq(check_values(mq, "free", 1000), 1000);
    for (int i = THREADS - 1; i >= 0; i--) {
        mqredis_free(mqredis_command(mq, "RPUSH list%d %d", i, i));
        pthread_join(id[i], NULL);
        ck_assert_int_eq(crew[i].right, 1);
    }
    mqredis_close(mq);
}
END_TEST

/* ---- cancelling ---- */

static void *run_flush(void *arg)
{
    mqredis_flush(arg);
    return NULL;
}

/* By one thread, while another is asleep on the full queue with it: it is sent
 * then, and holds no connection for who left. */
START_TEST(test_cancelled_while_it_is_being_sent)
{
    struct e2e_redis r;
    struct e2e_manager m;
    pthread_t id;
    e2e_start(&r, &m, _i, "--capacity 1");
    struct mqredis *other = open_handle(&m);
    struct mqredis *mq = open_handle(&m);
    mqredis_set_timeout(mq, -1);
    support_stop(m.pid);
    struct mqredis_request *fills = mqredis_submit(other, "PING");
    mqredis_flush(other);
    struct mqredis_request *q = mqredis_submit(mq, "BLPOP list 0");
    ck_assert_int_eq(pthread_create(&id, NULL, run_flush, mq), 0);
    support_sleep_ms(100);
    mqredis_cancel(q);
    kill(m.pid, SIGCONT);
    pthread_join(id, NULL);
    mqredis_free(mqredis_wait(fills));
    ck_assert_msg(UNTIL(e2e_balanced(&m)), "%s", e2e_books(&m));
    mqredis_close(mq);
    mqredis_close(other);
}
END_TEST

static long resident_kb(void)
{
    char text[256] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    long pages = 0, ignored;
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(sscanf(text, "%ld %ld", &ignored, &pages), 2);
    return pages * 4;
}

/* Ends a request in one of the three ways. Counts right and wrong replies. */
static void end_one(struct mqredis_request *q, int number, unsigned fate,
                    int *right, int *wrong)
{
    char text[32];
    snprintf(text, sizeof(text), "v%d", number);
    /* Two of six at once, one unless it is done. */
    if (fate <= 1 || (fate == 2 && !mqredis_wait_done(q, 0))) {
        mqredis_cancel(q);
        return;
    }
    struct mqredis_reply *reply = mqredis_wait(q);
    bool out_of_time =
        reply->status == MQREDIS_LOST || reply->status == MQREDIS_EXPIRED;
    if (out_of_time)
        mqredis_free(reply);
    else if (is_text(reply, text))
        ++*right;
    else
        ++*wrong;
}

START_TEST(test_cancelled_requests_leave_no_trace)
{
    enum { COUNT = 100000 / SLOW, RING = 300 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct mqredis_request *ring[RING] = {NULL};
    int number[RING];
    unsigned seed = 1;
    int right = 0, wrong = 0, fds = 0;
    long memory = 0;
    for (int i = 0; i < COUNT; i++) {
        size_t at = (size_t)rand_r(&seed) % RING;
        if (ring[at] != NULL)
            end_one(ring[at], number[at], (unsigned)rand_r(&seed) % 6, &right,
                    &wrong);
        /* Now and then one that has hardly any time. */
        bool hasty = rand_r(&seed) % 50 == 0;
        if (hasty)
            mqredis_set_timeout(mq, rand_r(&seed) % 3);
        ring[at] = mqredis_submit(mq, "ECHO v%d", i);
        number[at] = i;
        if (hasty)
            mqredis_set_timeout(mq, 60000);
        if (rand_r(&seed) % 20 == 0)
            mqredis_flush(mq);
        if (i == COUNT / 5) {
            fds = support_count_fds();
            memory = resident_kb();
        }
    }
    long grown = resident_kb() - memory;
    /* Pipes in use and idle; there is no more than that of each. */
    ck_assert_int_le(support_count_fds(), fds + 90);
    for (size_t at = 0; at < RING; at++)
        end_one(ring[at], number[at], 3, &right, &wrong);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(right, COUNT / 2);
    if (!SUPPORT_SANITIZED)
        ck_assert_int_lt(grown, 4096);
    mqredis_close(mq);
    char path[80];
    snprintf(path, sizeof(path), "%s/reply", m.channel);
    ck_assert_int_eq(support_count_entries(support_path(path)), 0);
    ck_assert(UNTIL(e2e_balanced(&m)));
    e2e_figure(_i, "%d requests, %d replies all right; memory +%ld kB", COUNT,
               right, grown);
}
END_TEST

/* ---- without resources ---- */

static bool is_refused(struct mqredis_reply *reply)
{
    bool refused =
        reply->type == MQREDIS_FAILURE &&
        (reply->status == MQREDIS_SYSTEM || reply->status == MQREDIS_NOMEM) &&
        reply->str[0] != '\0';
    mqredis_free(reply);
    return refused;
}

static void run_without_descriptors(void *arg)
{
    const struct e2e_manager *m = arg;
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open(m->channel, &why);
    CHILD_REQUIRE(mq != NULL);
    int fds = support_count_fds();
    struct rlimit before, limit = {.rlim_cur = 0};
    CHILD_REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    limit.rlim_max = before.rlim_max;
    CHILD_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int i = 0; i < 100; i++) {
        CHILD_REQUIRE(is_refused(mqredis_command(mq, "ECHO a")));
        CHILD_REQUIRE(is_refused(mqredis_wait(mqredis_submit(mq, "ECHO a"))));
    }
    CHILD_REQUIRE(mqredis_fd(mq) == -1);
    CHILD_REQUIRE(mqredis_open(m->channel, &why) == NULL);
    CHILD_REQUIRE(why.text[0] != '\0');
    CHILD_REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHILD_REQUIRE(support_count_fds() == fds);
    CHILD_REQUIRE(is_text(mqredis_command(mq, "ECHO b"), "b"));
    CHILD_REQUIRE(is_text(mqredis_wait(mqredis_submit(mq, "ECHO c")), "c"));
    mqredis_close(mq);
}

START_TEST(test_out_of_descriptors_is_an_error_and_passes)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    ck_assert_int_eq(support_join(support_fork(run_without_descriptors, &m)),
                     0);
    char path[80];
    snprintf(path, sizeof(path), "%s/reply", m.channel);
    ck_assert(UNTIL(support_count_entries(support_path(path)) == 0));
}
END_TEST

#if !SUPPORT_SANITIZED
/* Takes all memory that malloc can give, down to the smallest pieces. */
static void *exhaust(void)
{
    void *chain = NULL;
    for (size_t size = 1 << 20; size >= 16; size /= 2) {
        void **block;
        while ((block = malloc(size)) != NULL) {
            *block = chain;
            chain = block;
        }
    }
    return chain;
}

static void release(void *chain)
{
    while (chain != NULL) {
        void *next = *(void **)chain;
        free(chain);
        chain = next;
    }
}

static void run_without_memory(void *arg)
{
    const struct e2e_manager *m = arg;
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open(m->channel, &why);
    CHILD_REQUIRE(mq != NULL);
    mqredis_free(mqredis_command(mq, "SETRANGE big 300000 x"));
    struct rlimit before, limit;
    CHILD_REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
    limit = before;
    limit.rlim_cur = 1;
    CHILD_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    void *chain = exhaust();
    for (int i = 0; i < 100; i++) {
        struct mqredis_reply *reply = mqredis_command(mq, "ECHO a");
        CHILD_REQUIRE(reply->type == MQREDIS_FAILURE);
        mqredis_free(reply);
        reply = mqredis_wait(mqredis_submit(mq, "ECHO a"));
        CHILD_REQUIRE(reply->status == MQREDIS_NOMEM);
        mqredis_free(reply);
        reply = mqredis_batch_run(mqredis_batch_new(mq));
        CHILD_REQUIRE(reply->status == MQREDIS_NOMEM);
        mqredis_free(reply);
    }
    CHILD_REQUIRE(mqredis_open(m->channel, &why) == NULL);
    CHILD_REQUIRE(why.status == MQREDIS_NOMEM);
    release(chain);
    /* Some memory, not enough for this reply. */
    struct mqredis_reply *reply = mqredis_get(mq, "big");
    CHILD_REQUIRE(reply->type == MQREDIS_FAILURE ||
                  reply->type == MQREDIS_STRING);
    mqredis_free(reply);
    CHILD_REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
    for (int i = 0; i < 10; i++)
        CHILD_REQUIRE(is_text(mqredis_command(mq, "ECHO b"), "b"));
    reply = mqredis_get(mq, "big");
    CHILD_REQUIRE(reply->len == 300001);
    mqredis_free(reply);
    mqredis_close(mq);
}

START_TEST(test_out_of_memory_is_an_error_and_passes)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    ck_assert_int_eq(support_join(support_fork(run_without_memory, &m)), 0);
    char path[80];
    snprintf(path, sizeof(path), "%s/reply", m.channel);
    ck_assert(UNTIL(support_count_entries(support_path(path)) == 0));
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("lib_stress");
    TCase *stress = tcase_create("stress");
    /* For each test: a queue that stayed is charged to the user. */
    tcase_add_checked_fixture(stress, support_scratch_setup,
                              support_scratch_teardown);
    tcase_add_checked_fixture(stress, NULL, e2e_stop_all);
    tcase_set_timeout(stress, 120);
    e2e_add(stress, test_prefork_children_never_cross_replies);
    e2e_add(stress, test_requests_stay_with_the_parent);
    e2e_add(stress, test_threads_share_a_handle);
    e2e_add(stress, test_waiting_thread_holds_up_no_other);
    e2e_add(stress, test_cancelled_while_it_is_being_sent);
    e2e_add(stress, test_cancelled_requests_leave_no_trace);
    e2e_add(stress, test_out_of_descriptors_is_an_error_and_passes);
#if !SUPPORT_SANITIZED
    /* A sanitizer's own allocator does not live in so little. */
    e2e_add(stress, test_out_of_memory_is_an_error_and_passes);
#endif
    suite_add_tcase(s, stress);
    return support_run(s);
}
