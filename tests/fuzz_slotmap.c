/* Any bytes as a reply to CLUSTER SLOTS, and as an error reply: what is
 * accepted has owners that are masters, and places that can be connected to. */
#include "manager/slotmap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_host(const char *host)
{
    size_t len = strnlen(host, SLOTMAP_HOST_MAX);
    require(len > 0 && len < SLOTMAP_HOST_MAX);
    for (size_t i = 0; i < len; i++)
        require(host[i] > ' ' && host[i] < 0x7f);
}

static void check_map(const struct slotmap *map)
{
    uint32_t served = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        require(map->owner[i] == SLOTMAP_NOBODY || map->owner[i] < map->count);
        served += map->owner[i] != SLOTMAP_NOBODY;
    }
    require(served == map->served && map->count <= SLOTMAP_NODES_MAX);
    for (uint32_t i = 0; i < map->count; i++) {
        const struct slotmap_node *n = &map->nodes[i];
        check_host(n->host);
        require(n->port != 0 && n->master < map->count);
        for (uint32_t j = 0; j < i; j++)
            require(map->nodes[j].port != n->port ||
                    strcmp(map->nodes[j].host, n->host) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct slotmap *map;
    if (map == NULL)
        map = malloc(sizeof(*map));
    char *copy = malloc(size > 0 ? size : 1);
    require(map != NULL && copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    enum err e = slotmap_parse(map, copy, size, "asked");
    require(e == ERR_OK || e == ERR_PROTO || e == ERR_LIMIT);
    if (e == ERR_OK)
        check_map(map);

    struct redirection r;
    slotmap_redirection(&r, copy, size, "asked");
    if (r.kind == REDIRECT_MOVED || r.kind == REDIRECT_ASK) {
        check_host(r.host);
        require(r.slot < SLOTS && r.port != 0);
    }
    free(copy);
    return 0;
}
