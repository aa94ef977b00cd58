/* Points of a sweep, and its report. */
#include "tests/faults/sweep.h"

#include <check.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/e2e.h"
#include "tests/support.h"

#define ERRORS_MAX 8

/* Of one kind of points so many at most: OpenSSL alone allocates some 28,000
 * times in a short life. */
#define EACH_MAX 200

static const struct call {
    const char *name;
    int errors[ERRORS_MAX];
} calls[] = {
#define X(name, ...) {#name, {__VA_ARGS__}},
    FAULTS_CALLS(X)
#undef X
};

struct faults_plan *faults_plan_new(const char *path)
{
    if (path == NULL)
        return support_shared(sizeof(struct faults_plan));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct faults_plan *plan = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof(*plan)) == 0)
        plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                    0);
    close(fd);
    if (plan == MAP_FAILED)
        ck_abort_msg("cannot make %s: %s", path, strerror(errno));
    return plan;
}

void faults_plan_clear(struct faults_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
}

static size_t number(const char *variable, size_t otherwise)
{
    const char *text = getenv(variable);
    return text != NULL && *text != '\0' ? strtoul(text, NULL, 10) : otherwise;
}

/* Call number n of `count` fails in so many of the points of a kind that are
 * wanted, spread evenly. */
static bool wanted(uint64_t n, uint64_t count, size_t each)
{
    return count <= each || n * each / count != (n - 1) * each / count;
}

static void add(struct faults_sweep *s, enum faults_role role,
                enum faults_call call, uint64_t count)
{
    const char *only = getenv("FAULTS_ONLY");
    size_t each = number("FAULTS_EACH", EACH_MAX);
    for (const int *error = calls[call].errors; *error != 0; error++) {
        for (uint64_t n = 1; n <= 2 * count; n++) {
            uint64_t from = (n + 1) / 2;
            struct faults_point p = {role, call, *error, from,
                                     n % 2 == 1 ? from : UINT64_MAX};
            if (only != NULL &&
                strncmp(only, faults_name(&p), strlen(only)) != 0)
                continue;
            if (wanted(from, count, each))
                s->points[s->count++] = p;
        }
    }
}

bool faults_whole(void)
{
    return e2e_long() || getenv("FAULTS_ONLY") != NULL ||
           getenv("FAULTS_EACH") != NULL;
}

void faults_sweep_init(struct faults_sweep *s,
                       const struct faults_plan *counted, unsigned roles,
                       size_t sample)
{
    *s = (struct faults_sweep){.seed = (unsigned)number("FAULTS_SEED", 1)};
    size_t most = 0;
    for (int role = 0; role < FAULTS_ROLE_COUNT; role++)
        for (int call = 0; call < FAULTS_CALL_COUNT; call++)
            most += 2 * ERRORS_MAX * counted->calls[role][call];
    s->points = calloc(most + 1, sizeof(*s->points));
    ck_assert_ptr_nonnull(s->points);
    for (int role = 0; role < FAULTS_ROLE_COUNT; role++)
        for (int call = 0; call < FAULTS_CALL_COUNT; call++)
            if (roles & 1U << role)
                add(s, (enum faults_role)role, (enum faults_call)call,
                    counted->calls[role][call]);
    s->picks = faults_whole() ? s->count : number("FAULTS_POINTS", sample);
    if (s->picks > s->count)
        s->picks = s->count;
}

void faults_sweep_release(struct faults_sweep *s)
{
    free(s->points);
    s->points = NULL;
}

bool faults_sweep_next(struct faults_sweep *s, struct faults_plan *plan,
                       struct faults_point *point)
{
    if (s->picked == s->picks)
        return false;
    /* Evenly over all, so over all functions; the seed says which of each
     * stretch. */
    size_t first = s->picked * s->count / s->picks;
    size_t behind = (s->picked + 1) * s->count / s->picks;
    size_t shift = s->seed * 2654435761U / 7 + s->picked * 40503U;
    *point = s->points[first + shift % (behind - first)];
    s->picked++;
    s->tried[point->call]++;
    faults_plan_clear(plan);
    plan->call = point->call;
    plan->role = point->role;
    plan->error = point->error;
    plan->from = point->from;
    plan->until = point->until;
    return true;
}

static const char *error_name(int error)
{
    return error == FAULTS_SHORT ? "SHORT" : strerrorname_np(error);
}

const char *faults_name(const struct faults_point *p)
{
    static char text[96];
    snprintf(text, sizeof(text), "%s %s %s %llu%s",
             p->role == FAULTS_SELF ? "self" : "child", calls[p->call].name,
             error_name(p->error), (unsigned long long)p->from,
             p->until == p->from ? "" : "+");
    return text;
}

void faults_complain(struct faults_sweep *s, const struct faults_point *point,
                     const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    s->complaints++;
    printf("fault [%s]: %s\n", faults_name(point), text);
    fflush(stdout);
}

void faults_report(const struct faults_sweep *s, const char *name)
{
    printf("figure: %s: seed %u, %zu of %zu points, at %u of them a call "
           "failed:",
           name, s->seed, s->picked, s->count, s->struck);
    for (int i = 0; i < FAULTS_CALL_COUNT; i++)
        if (s->tried[i] > 0)
            printf(" %s %u", calls[i].name, s->tried[i]);
    printf("\n");
    fflush(stdout);
}
