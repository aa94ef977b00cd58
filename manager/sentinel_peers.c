/* The list of sentinels. */
#include "manager/sentinel_peers.h"

#include <string.h>

static int find(const struct sentinel_peers *p, const struct uri_place *at)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (uri_place_same(&p->all[i].at, at))
            return (int)i;
    return -1;
}

void sentinel_peers_add(struct sentinel_peers *p, const struct uri_place *at,
                        bool given)
{
    if (p->count == SENTINEL_PEERS_MAX || find(p, at) >= 0)
        return;
    p->all[p->count++] = (struct sentinel_peer){*at, given};
}

void sentinel_peers_to_front(struct sentinel_peers *p,
                             const struct uri_place *at)
{
    int i = find(p, at);
    if (i <= 0)
        return;
    struct sentinel_peer first = p->all[i];
    memmove(&p->all[1], &p->all[0], (size_t)i * sizeof(first));
    p->all[0] = first;
}

void sentinel_peers_learn(struct sentinel_peers *p, const struct uri_place *by,
                          const struct uri_place *others, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        bool named = p->all[i].given || uri_place_same(&p->all[i].at, by);
        for (uint32_t k = 0; k < count && !named; k++)
            named = uri_place_same(&p->all[i].at, &others[k]);
        if (named)
            p->all[kept++] = p->all[i];
    }
    p->count = kept;
    for (uint32_t k = 0; k < count; k++)
        sentinel_peers_add(p, &others[k], false);
}
