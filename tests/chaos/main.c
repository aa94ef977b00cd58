/*
 * chaos [--cluster] [--gentle] [--requests N] SECONDS [SEED]: real programs
 * under random faults.
 *
 * The time is divided into rounds. In each, a Redis behind a proxy, managers of
 * one channel and workers live in a fresh folder, and at random are killed,
 * stopped, told to end, replaced, cut off from each other and kept short of
 * disk, descriptors and memory. Several of these may run side by side.
 *
 * --cluster: in place of one Redis a cluster of three masters, whose slots move
 * all the time.
 *
 * --requests N: until N replies were checked (SECONDS at most), with few faults
 * and workers that ask as fast as they can. --gentle: few processes, which
 * mostly sleep.
 *
 * A round's seed is the first seed plus its number, so `chaos 15 SEED` repeats
 * one of them. Exit status 1: something was not as it must be.
 */
#include <check.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/keeper.h"
#include "tests/chaos/round.h"
#include "tests/chaos/scarcity.h"
#include "tests/support.h"
#include "tests/support_tls.h"

#define ROUND_S 15
#define EX_USAGE 64

struct order {
    int seconds;
    uint64_t seed, requests;
    bool gentle, cluster;
    struct remains *remains;
    unsigned violations;
};

/* Libcheck's tests take no argument, so this is the file's one state. */
static struct order order;

static bool has_program(const char *name)
{
    char command[256];
    snprintf(command, sizeof(command), "command -v '%s' >/dev/null", name);
    return system(command) == 0;
}

/* A folder of certificates, "" where TLS can't be. */
static void make_certificates(char dir[SUPPORT_SCRATCH_MAX], bool durable)
{
    const char *missing =
        durable ? support_tls_missing() : "mqredis-server has none";
    char *made = order.remains->certificates;
    snprintf(made, SUPPORT_SCRATCH_MAX, "%s/mqredis-chaos.XXXXXX",
             getenv("TMPDIR"));
    if (missing == NULL && mkdtemp(made) != NULL) {
        snprintf(dir, SUPPORT_SCRATCH_MAX, "%s", made);
        if (support_tls_certificates(dir))
            return;
        missing = "no certificates";
    }
    printf("note: no TLS: %s\n", missing != NULL ? missing : "no folder");
    dir[0] = '\0';
}

static void begin(struct plan *p, char tls_dir[SUPPORT_SCRATCH_MAX])
{
    const char *redis = getenv("REDIS_SERVER");
    void *histories = mmap(NULL, WORLD_HISTORIES * sizeof(struct history),
                           PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (histories == MAP_FAILED ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        perror("chaos: cannot begin");
        exit(1);
    }
    /* Check's own handlers end the whole process group, and children would
     * inherit them. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    /* In memory, for Redis's log is synced with each write. */
    setenv("TMPDIR", "/dev/shm", 0);
    p->durable = has_program(redis != NULL ? redis : "redis-server");
    if (!p->durable)
        printf("note: no redis-server here: mqredis-server, never killed\n");
    make_certificates(tls_dir, p->durable);
    p->tls_dir = tls_dir[0] != '\0' ? tls_dir : NULL;
    p->mounts = scarcity_may_mount();
    p->gentle = order.gentle;
    p->cluster = order.cluster;
    p->quick = order.requests > 0;
    p->histories = histories;
    p->orders = support_shared(sizeof(*p->orders));
    p->remains = order.remains;
}

static bool is_done(const struct total *t)
{
    return t->violations > 0 ||
           (order.requests > 0 && t->checked >= order.requests);
}

static void run_rounds(void)
{
    char tls_dir[SUPPORT_SCRATCH_MAX];
    struct total t = {0};
    struct plan plan = {0};
    int left = order.seconds;
    begin(&plan, tls_dir);
    bool durable = plan.durable;
    if (plan.cluster && !redis_cluster_is_possible()) {
        printf("note: no redis-server from 7.0 on: no cluster\n");
        return;
    }
    printf("chaos: seed %llu%s\n", (unsigned long long)order.seed,
           plan.cluster ? ", a cluster" : "");
    while (left > 0 && !is_done(&t)) {
        int seconds = left < ROUND_S + 5 ? left : ROUND_S;
        plan.seed = order.seed + t.rounds;
        /* Every fifth round with the embedded server. */
        plan.durable = durable && (plan.cluster || plan.seed % 5 != 4);
        round_run(&t, &plan, seconds);
        left -= seconds;
    }
    round_report(&t, order.seed);
    if (order.requests > t.checked) {
        printf("only %llu of %llu requests were checked in that time\n",
               (unsigned long long)t.checked,
               (unsigned long long)order.requests);
        t.violations++;
    }
    support_remove(order.remains->certificates);
    order.violations = t.violations;
}

START_TEST(test_rounds)
{
    run_rounds();
}
END_TEST

static int run(void *arg)
{
    (void)arg;
    /* What is shared with the suites asserts, which takes a runner. */
    Suite *s = suite_create("chaos");
    TCase *rounds = tcase_create("rounds");
    tcase_add_test(rounds, test_rounds);
    suite_add_tcase(s, rounds);
    SRunner *runner = srunner_create(s);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    if (failed > 0)
        srunner_print(runner, CK_NORMAL);
    srunner_free(runner);
    return failed == 0 && order.violations == 0 ? 0 : 1;
}

/* ---- the command line ---- */

static void __attribute__((noreturn)) usage(void)
{
    fprintf(stderr, "usage: chaos [--cluster] [--gentle] [--requests N] "
                    "SECONDS [SEED]\n");
    exit(EX_USAGE);
}

static uint64_t number(const char *text, const char *what)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && n > 0)
        return (uint64_t)n;
    fprintf(stderr, "chaos: %s '%s' is not a number above 0\n", what, text);
    exit(EX_USAGE);
}

static void read_order(int argc, char **argv)
{
    static const struct option options[] = {
        {"cluster", no_argument, NULL, 'c'},
        {"gentle", no_argument, NULL, 'g'},
        {"requests", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'g')
            order.gentle = true;
        else if (c == 'c')
            order.cluster = true;
        else if (c == 'r')
            order.requests = number(optarg, "the number of requests");
        else
            usage();
    }
    if (argc - optind < 1 || argc - optind > 2)
        usage();
    order.seconds = (int)number(argv[optind], "the time");
    const char *seed = argc - optind > 1 ? argv[optind + 1] : "";
    order.seed = seed[0] != '\0' ? number(seed, "the seed")
                                 : clock_ns() / NS_PER_MS % 1000000 + 1;
}

int main(int argc, char **argv)
{
    read_order(argc, argv);
    order.remains = support_shared(sizeof(*order.remains));
    return keeper_run(run, NULL, order.remains);
}
