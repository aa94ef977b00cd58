/* Each node is read as a URI of its own, with the same login. */
#include "manager/seeds.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *cluster, *one;
} schemes[] = {
    {"cluster://", "redis://"},
    {"clusters://", "rediss://"},
    {"redis-cluster://", "redis://"},
    {"rediss-cluster://", "rediss://"},
};

#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

static size_t scheme_of(const char *text)
{
    size_t i = 0;
    while (i < SCHEMES && strncasecmp(text, schemes[i].cluster,
                                      strlen(schemes[i].cluster)) != 0)
        i++;
    return i;
}

bool seeds_named(const char *text)
{
    return scheme_of(text) < SCHEMES;
}

enum err seeds_parse(struct seeds *seeds, struct uri *uri, const char *text,
                     struct err_text *why)
{
    size_t scheme = scheme_of(text);
    struct seeds found = {0};
    struct uri first = {0};
    if (scheme == SCHEMES)
        return err_say(why, ERR_INVALID, "URI: expected cluster://");
    const char *rest = text + strlen(schemes[scheme].cluster);
    size_t end = strcspn(rest, "/?#");
    const char *at = end == 0 ? NULL : memrchr(rest, '@', end);
    const char *node = at == NULL ? rest : at + 1;
    const char *tail = rest + end;
    for (bool more = true; more;) {
        char one[2048];
        size_t len = strcspn(node, ",/?#");
        more = node[len] == ',';
        if (found.count == SEEDS_MAX)
            return err_say(why, ERR_INVALID,
                           "URI: more than %d nodes: some of them will do, "
                           "they tell of the others",
                           SEEDS_MAX);
        int n = snprintf(one, sizeof(one), "%s%.*s%.*s%s", schemes[scheme].one,
                         (int)(at == NULL ? 0 : at + 1 - rest), rest, (int)len,
                         node, tail);
        if (n < 0 || (size_t)n >= sizeof(one))
            return err_say(why, ERR_INVALID, "URI: it is too long");
        struct uri u;
        enum err e = uri_parse(&u, one, why);
        explicit_bzero(one, sizeof(one));
        if (e != ERR_OK)
            return e;
        if (u.db != 0)
            return err_say(why, ERR_INVALID,
                           "URI: a cluster has only database 0");
        struct seed *s = &found.list[found.count++];
        memcpy(s->host, u.host, sizeof(s->host));
        s->port = u.port;
        if (found.count == 1)
            first = u;
        node += len + 1;
    }
    *seeds = found;
    *uri = first;
    return ERR_OK;
}
