/* A cluster, a manager and a handle. */
#include "tests/cluster_scene.h"

#include <errno.h>

#include "tests/support.h"

struct redis_cluster cluster;
struct mqredis *mq;

static bool shared;

bool cluster_scene_nodes(int replicas, int node_timeout_ms, const char *options)
{
    if (redis_cluster_start(&cluster, SCENE_MASTERS, replicas, node_timeout_ms,
                            options))
        return true;
    support_skip(program_invocation_short_name, "no redis-server from 7.0 on");
    return false;
}

void cluster_scene_share(void)
{
    support_scratch_setup();
    shared = cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL);
}

void cluster_scene_unshare(void)
{
    if (shared)
        redis_cluster_stop(&cluster);
    support_scratch_teardown();
}

bool cluster_scene_shared(void)
{
    return shared;
}

void cluster_scene_open(const char *uri, const char *options)
{
    e2e_manager_start(&manager, NULL,
                      uri != NULL ? uri : redis_cluster_uri(&cluster), options);
    mq = lib_open(&manager);
    mqredis_set_timeout(mq, SCENE_TIMEOUT_MS);
}

void cluster_scene_close(void)
{
    scene_balanced();
    if (mq != NULL)
        mqredis_close(mq);
    mq = NULL;
    e2e_stop_all();
}

bool cluster_scene_begin(const char *options)
{
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return false;
    cluster_scene_open(NULL, options);
    return true;
}

void cluster_scene_end(void)
{
    cluster_scene_close();
    redis_cluster_stop(&cluster);
}
