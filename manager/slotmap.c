/* Reading what nodes say of their cluster. */
#include "manager/slotmap.h"

#include <stdio.h>
#include <string.h>

#include "manager/walk.h"

static enum err array(struct walk *w, int64_t *n)
{
    struct resp_value v;
    if (walk_next(w, &v) != ERR_OK || v.type != '*' || v.null)
        return ERR_PROTO;
    *n = v.number;
    return ERR_OK;
}

static enum err integer(struct walk *w, int64_t low, int64_t high, int64_t *n)
{
    return walk_integer(w, n) != ERR_OK || *n < low || *n > high ? ERR_PROTO
                                                                 : ERR_OK;
}

/* A host as a node tells it, without what no host has. */
static enum err take_host(char host[SLOTMAP_HOST_MAX], const char *text,
                          size_t len, const char *asked)
{
    if (len == 0) {
        snprintf(host, SLOTMAP_HOST_MAX, "%s", asked);
        return ERR_OK;
    }
    if (len >= SLOTMAP_HOST_MAX)
        return ERR_PROTO;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] == 0x7f || (text[i] & 0x80) != 0)
            return ERR_PROTO;
    memcpy(host, text, len);
    host[len] = '\0';
    return ERR_OK;
}

/* Finds the node, or adds it as a replica of `master` (SLOTMAP_NOBODY: as a
 * master). A later word on the same node holds. */
static enum err note_node(struct slotmap *map, const char *host, uint16_t port,
                          uint16_t master, uint16_t *index)
{
    uint16_t i = 0;
    while (i < map->count && (map->nodes[i].port != port ||
                              strcmp(map->nodes[i].host, host) != 0))
        i++;
    if (i == SLOTMAP_NODES_MAX)
        return ERR_LIMIT;
    struct slotmap_node *n = &map->nodes[i];
    if (i == map->count) {
        map->count++;
        snprintf(n->host, sizeof(n->host), "%s", host);
        n->port = port;
    }
    n->master = master == SLOTMAP_NOBODY ? i : master;
    *index = i;
    return ERR_OK;
}

/* `[host, port, id, metadata...]`. *index: SLOTMAP_NOBODY for one that the
 * asked node knows no address of. */
static enum err take_node(struct slotmap *map, struct walk *w,
                          const char *asked, uint16_t master, uint16_t *index)
{
    int64_t n, port;
    struct resp_value v;
    char host[SLOTMAP_HOST_MAX];
    if (array(w, &n) != ERR_OK || n < 2 || walk_next(w, &v) != ERR_OK)
        return ERR_PROTO;
    if (v.type != '$' && v.type != '_' && !v.null)
        return ERR_PROTO;
    bool unknown = !v.null && v.len == 1 && v.data[0] == '?';
    if (take_host(host, v.null ? "" : v.data, v.null ? 0 : v.len, asked) !=
            ERR_OK ||
        integer(w, 0, UINT16_MAX, &port) != ERR_OK ||
        walk_skip(w, n - 2) != ERR_OK)
        return ERR_PROTO;
    *index = SLOTMAP_NOBODY;
    if (unknown || port == 0)
        return ERR_OK;
    return note_node(map, host, (uint16_t)port, master, index);
}

/* `[first, last, master, replica...]`. */
static enum err take_range(struct slotmap *map, struct walk *w,
                           const char *asked)
{
    int64_t n, first, last;
    if (array(w, &n) != ERR_OK || n < 3 ||
        integer(w, 0, SLOTS - 1, &first) != ERR_OK ||
        integer(w, first, SLOTS - 1, &last) != ERR_OK)
        return ERR_PROTO;
    uint16_t master, replica;
    enum err e = take_node(map, w, asked, SLOTMAP_NOBODY, &master);
    if (e != ERR_OK)
        return e;
    for (int64_t i = first; i <= last; i++)
        map->owner[i] = master;
    for (n -= 3; n > 0; n--) {
        /* Of a master without an address, replicas are of no use. */
        e = take_node(map, w, asked, master, &replica);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

enum err slotmap_parse(struct slotmap *map, const char *reply, size_t len,
                       const char *asked)
{
    struct walk w = {reply, reply + len};
    int64_t ranges;
    map->count = map->served = 0;
    memset(map->owner, 0xff, sizeof(map->owner));
    /* Each takes a slot, at least; more would cost time alone. */
    if (array(&w, &ranges) != ERR_OK || ranges > SLOTS)
        return ERR_PROTO;
    for (; ranges > 0; ranges--) {
        enum err e = take_range(map, &w, asked);
        if (e != ERR_OK)
            return e;
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        map->served += map->owner[i] != SLOTMAP_NOBODY;
    return w.pos == w.end ? ERR_OK : ERR_PROTO;
}

/* ---- redirections ---- */

static bool begins(const char *data, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);
    return len >= n && memcmp(data, prefix, n) == 0;
}

/* A decimal number up to a separator. */
static bool number(const char **at, const char *end, uint32_t max, uint32_t *n)
{
    const char *from = *at;
    *n = 0;
    for (; *at < end && **at >= '0' && **at <= '9' && *at - from < 6; (*at)++)
        *n = *n * 10 + (uint32_t)(**at - '0');
    return *at > from && *n <= max;
}

/* `SLOT HOST:PORT`; a host may hold colons (IPv6), the port is behind the last
 * one. */
static bool take_place(struct redirection *r, const char *at, const char *end,
                       const char *asked)
{
    uint32_t n;
    if (!number(&at, end, SLOTS - 1, &n) || at == end || *at++ != ' ')
        return false;
    r->slot = (uint16_t)n;
    const char *space = memchr(at, ' ', (size_t)(end - at));
    if (space != NULL)
        end = space;
    const char *colon = at == end ? NULL : memrchr(at, ':', (size_t)(end - at));
    if (colon == NULL || (colon - at == 1 && *at == '?'))
        return false;
    const char *host_end = colon++;
    if (host_end - at > 2 && *at == '[' && host_end[-1] == ']') {
        at++;
        host_end--;
    }
    if (take_host(r->host, at, (size_t)(host_end - at), asked) != ERR_OK ||
        !number(&colon, end, UINT16_MAX, &n) || n == 0 || colon != end)
        return false;
    r->port = (uint16_t)n;
    return true;
}

void slotmap_redirection(struct redirection *r, const char *reply, size_t len,
                         const char *asked)
{
    static const struct {
        const char *word;
        enum redirect kind;
    } words[] = {
        {"-MOVED ", REDIRECT_MOVED},
        {"-ASK ", REDIRECT_ASK},
        {"-TRYAGAIN", REDIRECT_TRYAGAIN},
        {"-CLUSTERDOWN", REDIRECT_CLUSTERDOWN},
        {"-READONLY", REDIRECT_READONLY},
        {"-LOADING", REDIRECT_NOT_YET},
        {"-MASTERDOWN", REDIRECT_NOT_YET},
    };
    r->kind = REDIRECT_NONE;
    if (len < 3)
        return;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (begins(reply, len, words[i].word))
            r->kind = words[i].kind;
    if (r->kind != REDIRECT_MOVED && r->kind != REDIRECT_ASK)
        return;
    const char *at = memchr(reply, ' ', len);
    if (at == NULL || !take_place(r, at + 1, reply + len - 2, asked))
        r->kind = REDIRECT_NONE;
}
