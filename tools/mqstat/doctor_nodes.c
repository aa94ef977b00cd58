/* --doctor: what is amiss with a cluster's nodes. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/mqstat/doctor.h"
#include "tools/mqstat/mqstat.h"

/* Of so many commands at least, one in so many. */
#define MANY_SENT 1000
#define MANY_PART 20

static void judge_node(struct findings *f, const struct sample *s,
                       const struct node_entry *e)
{
    const struct node_row *r = &e->row;
    if (e->down)
        finding_add(f,
                    r->face.role == STATUS_NODE_MASTER ? LEVEL_BAD : LEVEL_WARN,
                    s->name, "node %s (%s, %" PRIu32 " slots) is %s%s%s",
                    e->address, status_node_role_str(r->face.role),
                    r->face.slots, status_node_state_str(r->face.state),
                    e->error[0] ? ": " : "", e->error);
    if (r->sent >= MANY_SENT && e->redirected > r->sent / MANY_PART)
        finding_add(f, LEVEL_WARN, s->name,
                    "node %s sent %" PRIu64 " of %" PRIu64
                    " commands elsewhere: slots move all the time, or its "
                    "cluster does not agree who serves what (CLUSTER NODES)",
                    e->address, e->redirected, r->sent);
}

void doctor_nodes(struct findings *f, const struct sample *s)
{
    struct node_entry *entries = calloc(STATUS_NODES, sizeof(*entries));
    if (entries == NULL) {
        finding_add(f, LEVEL_BAD, "mqstat", "out of memory");
        return;
    }
    size_t n = nodes_of(NULL, s, entries);
    uint64_t unserved = sample_gauge(s, GAUGE_slots_unserved);
    size_t before = f->count;
    if (n > 0 && unserved > 0)
        finding_remedy(
            finding_add(f, LEVEL_BAD, s->name,
                        "%" PRIu64 " slots of the cluster are served by "
                        "nobody: commands on their keys wait or fail",
                        unserved),
            "redis-cli --cluster check HOST:PORT"); /* none that a file names */
    for (size_t i = 0; i < n; i++)
        judge_node(f, s, &entries[i]);
    if (n > 0 && f->count == before)
        finding_add(f, LEVEL_OK, s->name,
                    "%zu nodes of a cluster, all slots "
                    "served",
                    n);
    free(entries);
}
