/* A Redis, a plan, workers and the sweep for managers with failing calls. */
#include "tests/faults/scene.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"
#include "tests/support_tls.h"

#define LATE_MS 5000

void scene_wrong(struct scene *s, const char *fmt, ...)
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

/* By TCP and TLS, and by a name that is looked up. */
static void start_tls(struct scene *s)
{
    char dir[200], options[1024];
    snprintf(dir, sizeof(dir), "%s", support_scratch());
    ck_assert(support_tls_certificates(dir));
    int port = support_free_port();
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

static void name_master(struct scene *s)
{
    for (int i = 0; i < SCENE_SENTINELS; i++)
        fake_sentinel_names(&s->sentinel[i], s->ports[s->master]);
}

/* Two that may be the master, and sentinels of which one is known by a name
 * that is looked up, the other by what the first tells. */
static void start_sentinels(struct scene *s)
{
    for (int i = 0; i < 2; i++) {
        char options[64], name[16];
        s->ports[i] = support_free_port();
        snprintf(name, sizeof(name), "named%d", i);
        snprintf(options, sizeof(options), "--port %d --bind 127.0.0.1",
                 s->ports[i]);
        ck_assert(redis_start(&s->named[i], name, options));
    }
    for (int i = 0; i < SCENE_SENTINELS; i++)
        fake_sentinel_start(&s->sentinel[i], "");
    for (int i = 0; i < SCENE_SENTINELS; i++)
        fake_sentinel_tells_of(&s->sentinel[i],
                               &s->sentinel[(i + 1) % SCENE_SENTINELS]);
    name_master(s);
    snprintf(s->uri, sizeof(s->uri), "sentinel://localhost:%d/mymaster",
             s->sentinel[0].port);
}

void scene_switch(struct scene *s)
{
    int from = s->ports[s->master];
    s->master = 1 - s->master;
    name_master(s);
    for (int i = 0; i < SCENE_SENTINELS; i++)
        fake_sentinel_switches(&s->sentinel[i], from, s->ports[s->master]);
}

static bool start_cluster(struct scene *s)
{
    struct redis_cluster *c = &s->cluster;
    if (!redis_cluster_start(c, SCENE_LINKS, 0, 15000, NULL))
        return false;
    snprintf(s->uri, sizeof(s->uri), "%s", redis_cluster_uri(c));
    snprintf(s->moving, sizeof(s->moving), "%s", redis_cluster_word(c, 0, 0));
    return true;
}

/* Of those that run. */
static void open_links(struct scene *s)
{
    if (s->redis.at.pid > 0)
        redis_link_open(&s->link[s->links++], &s->redis.at);
    for (int i = 0; i < 2; i++)
        if (s->named[i].pid > 0)
            redis_link_open(&s->link[s->links++], &s->named[i]);
    for (int i = 0; i < s->cluster.nodes; i++)
        redis_link_open(&s->link[s->links++], &s->cluster.node[i].at);
}

bool scene_open(struct scene *s, enum scene_way way)
{
    memset(s, 0, sizeof(*s));
    /* Guardians whose manager died become our children. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    switch (way) {
    case SCENE_UNIX:
        start_plain(s);
        break;
    case SCENE_TLS:
        start_tls(s);
        break;
    case SCENE_SENTINEL:
        start_sentinels(s);
        break;
    case SCENE_CLUSTER:
        if (!start_cluster(s))
            return false;
        break;
    }
    open_links(s);
    snprintf(s->plan_path, sizeof(s->plan_path), "%s", support_path("plan"));
    s->plan = faults_plan_new(s->plan_path);
    s->acts = support_shared(sizeof(*s->acts));
    return true;
}

void scene_close(struct scene *s)
{
    for (int i = 0; i < s->links; i++)
        redis_link_close(&s->link[i]);
    if (s->redis.at.pid > 0)
        e2e_redis_kill(&s->redis);
    for (int i = 0; i < 2; i++)
        redis_stop(&s->named[i]);
    for (int i = 0; i < SCENE_SENTINELS && s->sentinel[i].pid > 0; i++)
        fake_sentinel_kill(&s->sentinel[i]);
    redis_cluster_stop(&s->cluster);
}

bool scene_owns(const struct scene *s, pid_t pid)
{
    bool owns = pid == s->redis.at.pid;
    for (int i = 0; i < 2; i++)
        owns |= pid == s->named[i].pid;
    for (int i = 0; i < SCENE_SENTINELS; i++)
        owns |= pid == s->sentinel[i].pid;
    for (int i = 0; i < s->cluster.nodes; i++)
        owns |= pid == s->cluster.node[i].at.pid;
    return owns;
}

void scene_cut(struct scene *s)
{
    for (int i = 0; i < s->links; i++)
        redis_link_ask(&s->link[i], "CLIENT KILL TYPE normal SKIPME yes");
}

/* ---- workers ---- */

struct visit {
    struct scene *s;
    const char *channel;
    bool brief; /* only what every connection sees */
    bool cluster;
};

static void work(void *arg)
{
    const struct visit *v = arg;
    struct acts *a = v->s->acts;
    if (v->brief) {
        acts_brief(a, v->channel);
        if (v->cluster)
            acts_spread_brief(a, v->channel);
        return;
    }
    acts_all(a, v->channel);
    acts_served(a, v->channel);
    if (v->cluster)
        acts_spread(a, v->channel);
}

pid_t scene_visit_begin(struct scene *s, const char *channel,
                        int64_t timeout_ms, bool brief)
{
    static uint64_t id;
    struct acts *a = s->acts;
    struct visit v = {s, channel, brief, s->cluster.nodes > 0};
    memset(a, 0, sizeof(*a));
    a->id = ++id;
    a->timeout_ms = timeout_ms;
    snprintf(a->moving, sizeof(a->moving), "%s", s->moving);
    return support_fork(work, &v);
}

void scene_visit_end(struct scene *s, pid_t pid)
{
    struct acts *a = s->acts;
    int status = 0;
    bool done = false;
    for (int i = 0; i < 4 && !done; i++)
        done = UNTIL(waitpid(pid, &status, WNOHANG) == pid);
    if (!done) {
        support_kill(pid);
        scene_wrong(s, "a worker hangs at '%s'", a->at);
    } else if (status != 0) {
        scene_wrong(s, "a worker ended with %#x at '%s'", (unsigned)status,
                    a->at);
    }
    acts_verify(a, s->link, s->links);
    if (a->wrong[0] != '\0')
        scene_wrong(s, "worker: %s", a->wrong);
    for (int i = 0; i < ACTS_STATUSES; i++)
        s->statuses[i] += a->statuses[i];
    if (a->worst_ms > s->worst_ms)
        s->worst_ms = a->worst_ms;
    if (a->silent && s->plan->until == s->plan->from)
        scene_wrong(s, "a stream lost a message and was not told");
    if (a->worst_ms > a->timeout_ms + LATE_MS)
        scene_wrong(s, "a worker's call took %lld ms", (long long)a->worst_ms);
}

void scene_visit(struct scene *s, const char *channel, int64_t timeout_ms,
                 bool brief)
{
    scene_visit_end(s, scene_visit_begin(s, channel, timeout_ms, brief));
}

/* ---- sweeps ---- */

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
           SCENE_TIMEOUT_MS);
    fflush(stdout);
}

void scene_sweep(const char *name, enum scene_way way, unsigned roles,
                 size_t sample, void (*run)(struct scene *s))
{
    static struct scene scene;
    struct scene *s = &scene;
    if (!scene_open(s, way)) {
        support_skip(name, "no redis-server from 7.0 on");
        return;
    }
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

void scene_add(Suite *s, const char *name, const TTest *test)
{
    TCase *tcase = support_case(s, name, faults_whole() ? 14400 : 240);
    tcase_add_test(tcase, test);
}
