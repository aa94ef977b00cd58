/*
 * A sweep over all points at which calls can fail: each call that a faultless
 * run counted, with each errno it can give, once, and from then on. All of
 * them with MQREDIS_LONG=1, else a sample.
 *
 *     FAULTS_POINTS=200           size of the sample
 *     FAULTS_SEED=1               which ones
 *     FAULTS_EACH=2               so many of each kind (function, errno,
 *                                 once or on)
 *     FAULTS_ONLY="self read EIO" only what begins so (see faults_name)
 */
#ifndef TESTS_FAULTS_SWEEP_H
#define TESTS_FAULTS_SWEEP_H

#include <stddef.h>

#include "tests/faults/plan.h"

struct faults_point {
    enum faults_role role;
    enum faults_call call;
    int error;
    uint64_t from, until;
};

struct faults_sweep {
    struct faults_point *points; /* owned */
    size_t count;
    size_t picks; /* of them are to be tried */
    size_t picked;
    unsigned seed;
    /* For the report. */
    unsigned tried[FAULTS_CALL_COUNT];
    unsigned struck;     /* points at which calls did fail */
    unsigned complaints; /* faults_complain */
};

/* A plan in memory shared with processes forked later; never freed. With
 * `path`: in this file, for a preloaded program. */
struct faults_plan *faults_plan_new(const char *path);

/* Nothing fails, nothing is counted yet, not armed. */
void faults_plan_clear(struct faults_plan *plan);

/* Whether more than a sample is asked for, which takes its time. */
bool faults_whole(void);

/* The roles of a sweep. */
#define FAULTS_BOTH (1U << FAULTS_SELF | 1U << FAULTS_CHILD)

/* The size of a quick sweep's sample: of those, where lines are counted, every
 * point is tried. */
#ifdef MQREDIS_COVERAGE
#define FAULTS_SAMPLE(size) SIZE_MAX
#else
#define FAULTS_SAMPLE(size) (size)
#endif

/* Takes the points from what a faultless run counted in these roles; `sample`
 * of them. */
void faults_sweep_init(struct faults_sweep *s,
                       const struct faults_plan *counted, unsigned roles,
                       size_t sample);
void faults_sweep_release(struct faults_sweep *s);

/* The next point, already in the (cleared) plan. False: that was the last. */
bool faults_sweep_next(struct faults_sweep *s, struct faults_plan *plan,
                       struct faults_point *point);

/* "self read EIO 17", or "child malloc ENOMEM 3+" from the third on. Static
 * storage. */
const char *faults_name(const struct faults_point *point);

/* Prints what is wrong at this point, and counts it. */
void faults_complain(struct faults_sweep *s, const struct faults_point *point,
                     const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "figure: NAME: ..." lines: how many calls of each function failed. */
void faults_report(const struct faults_sweep *s, const char *name);

#endif
