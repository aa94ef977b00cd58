/* Lying nodes, a manager, a handle. */
#include "tests/fake_cluster_scene.h"

#include <string.h>

#include "ipc/clock.h"
#include "tests/support.h"
#include "tests/support_run.h"

struct fake_cluster nodes;
struct mqredis *mq;

void fake_scene_begin(int count, const char *options)
{
    if (nodes.nodes == NULL)
        fake_cluster_start(&nodes, count);
    e2e_manager_start(&manager, NULL, fake_cluster_uri(&nodes), options);
    mq = lib_open(&manager);
    mqredis_set_timeout(mq, FAKE_TIMEOUT_MS);
}

void fake_scene_end(void)
{
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    mqredis_close(mq);
    e2e_stop_all();
    fake_cluster_kill(&nodes);
}

int port(int node)
{
    return nodes.nodes->node[node].port;
}

unsigned asked(int node)
{
    return nodes.nodes->node[node].asked;
}

struct mqredis_reply *timed(const char *command, int64_t least_ms)
{
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(mq, command);
    int64_t ms = (int64_t)((clock_ns() - t0) / NS_PER_MS);
    ck_assert_msg(ms >= least_ms && ms <= FAKE_TIMEOUT_MS / 4 * 3,
                  "%s took %lld ms: %s", command, (long long)ms, lib_text(r));
    return r;
}

struct mqredis_reply *runs_out(const char *command, int64_t timeout_ms,
                               const char *says)
{
    struct mqredis_reply *r = NULL;
    mqredis_set_timeout(mq, timeout_ms);
    for (int i = 0; i < 10 && (r == NULL || r->status == MQREDIS_LOST); i++) {
        mqredis_free(r);
        ck_assert(UNTIL(e2e_balanced(&manager)));
        if (says != NULL) {
            fake_cluster_calm(&nodes);
            fake_cluster_says(&nodes, 1, "%s", says);
        }
        r = timed(command, timeout_ms);
    }
    mqredis_set_timeout(mq, FAKE_TIMEOUT_MS);
    ck_assert_msg(r->status == MQREDIS_EXPIRED && r->str[0] != '\0', "%s: %s",
                  command, lib_text(r));
    return r;
}

void assert_serves(void)
{
    fake_cluster_calm(&nodes);
    struct mqredis_reply *r = mqredis_command(mq, "GET {" KEY "}2");
    ck_assert_msg(r->type == MQREDIS_STATUS && strncmp(r->str, "node ", 5) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
}

int fake_scene_run(const char *suite, const struct fake_case *cases,
                   size_t count)
{
    Suite *s = suite_create(suite);
    for (size_t i = 0; i < count; i++) {
        TCase *tcase = support_case(s, cases[i].name, 60);
        tcase_add_loop_test(tcase, cases[i].test, 0, cases[i].rounds);
    }
    return support_run(s);
}
