/* Any bytes as commands of a run, as a server's reply to COMMAND, and as the
 * replies of parts: every command has a way; parts are whole commands of one
 * slot each and have all keys; what is joined is one whole reply, or too much.
 */
#include "manager/keyspec.h"
#include "manager/scatter.h"
#include "manager/slot.h"
#include "manager/walk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOBS 8
#define PARTS 8
#define LIMIT 4096

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* ---- commands ---- */

static void check_way(const struct way *w)
{
    require(w->slot < SLOTS);
    require(w->spread != SPREAD_SPLIT ||
            (w->nkeys > 1 && w->first_key > 0 && w->key_step > 0));
    require((w->join == JOIN_ONE) ==
            (w->spread == SPREAD_ANY || w->spread == SPREAD_SLOT ||
             w->spread == SPREAD_CROSS || w->spread == SPREAD_SCAN));
}

static void check_parts(const struct keyspecs *k, const struct framed *command,
                        const struct way *w)
{
    struct scatter s;
    uint32_t keys = 0, blobs = 0;
    enum err e = scatter_split(&s, command, w, 16);
    require(e == ERR_OK || e == ERR_LIMIT || e == ERR_INVALID ||
            e == ERR_PROTO);
    if (e != ERR_OK)
        return;
    for (uint32_t i = 0; i < s.count; i++) {
        const struct part *p = &s.parts[i];
        struct framed rest = framed_view(p->data, p->len, p->blobs, p->nblobs),
                      one;
        struct way way;
        require(framed_next(&rest, &one) == ERR_OK && rest.len == 0 &&
                rest.nblobs == 0);
        require(keyspecs_way(k, &one, &way) == ERR_OK);
        require(way.spread == SPREAD_SLOT && way.slot == p->slot &&
                way.nkeys == p->nkeys);
        for (uint32_t j = 0; j < p->nkeys; j++)
            require(p->index[j] < w->nkeys);
        keys += p->nkeys;
        blobs += p->nblobs;
    }
    require(keys == w->nkeys && blobs == command->nblobs && s.count > 1);
    scatter_release(&s);
}

static void judge(const struct keyspecs *k, struct framed rest)
{
    struct framed one;
    while (framed_next(&rest, &one) == ERR_OK) {
        struct way w;
        uint32_t where[4], count;
        enum err e = keyspecs_way(k, &one, &w);
        require(e == ERR_OK || e == ERR_INVALID);
        require(keyspecs_keys(k, &one, where, 4, &count) == ERR_OK);
        if (e != ERR_OK)
            continue;
        check_way(&w);
        /* Shard channels have a slot, too. */
        require(count <= w.nkeys);
        if (w.spread == SPREAD_SPLIT)
            check_parts(k, &one, &w);
    }
}

/* The bytes as a run has them: `@LEN` becomes `$LEN`, a hole and its end. */
static void judge_run(const struct keyspecs *k, const char *data, size_t size)
{
    struct resp_request r;
    struct resp_arg arg;
    struct blob blobs[BLOBS];
    uint32_t argc, nblobs = 0;
    size_t len = 0, done = 0;
    char *run = malloc(size + 2 * BLOBS + 1);
    require(run != NULL);
    resp_request_init(&r, data, size);
    while (nblobs < BLOBS && resp_request_command(&r, &argc) == ERR_OK) {
        for (; argc > 0; argc--) {
            const char *head = r.pos;
            if (resp_request_arg(&r, &arg) != ERR_OK || nblobs == BLOBS)
                goto out;
            size_t to = (size_t)(r.pos - data);
            memcpy(run + len, data + done, to - done);
            len += to - done;
            done = to;
            if (arg.data != NULL)
                continue;
            run[len - (size_t)(r.pos - head)] = '$';
            blobs[nblobs++] = (struct blob){.at = len, .len = arg.len};
            run[len++] = '\r';
            run[len++] = '\n';
        }
    }
    judge(k, framed_view(run, len, blobs, nblobs));
out:
    free(run);
}

/* ---- replies ---- */

/* Each reply of the data goes to the next part, the last ones to none. */
static void join(enum join how, const char *data, size_t size)
{
    struct gather g;
    struct walk w = {data, data + size};
    uint32_t index[2] = {0, 1};
    require(gather_init(&g, how, PARTS, LIMIT) == ERR_OK);
    for (uint32_t i = 0; i < PARTS; i++) {
        index[0] = PARTS * 2 - 1 - i;
        index[1] = i;
        struct part part = {.nkeys = 2, .index = index};
        require(gather_keys(&g, i, &part) == ERR_OK);
    }
    for (uint32_t i = 0; i < PARTS; i++) {
        const char *reply = w.pos;
        size_t len = 0;
        if (w.pos < w.end && walk_skip(&w, 1) == ERR_OK)
            len = (size_t)(w.pos - reply);
        else
            w.pos = w.end;
        if (len == 0) {
            reply = "+OK\r\n";
            len = 5;
        }
        /* In an order that is neither the first nor the last. */
        uint32_t number = i * 5 % PARTS;
        enum err e = gather_add(&g, number, reply, len);
        require(e == ERR_OK || e == ERR_LIMIT || e == ERR_INVALID);
        if (e == ERR_INVALID)
            require(gather_add(&g, number, "+OK\r\n", 5) != ERR_INVALID);
        require(g.kept <= LIMIT);
    }
    require(gather_whole(&g));
    const char *reply = NULL;
    size_t len = 0;
    enum err e = gather_result(&g, &reply, &len);
    require(e == ERR_OK || e == ERR_LIMIT);
    if (e == ERR_OK) {
        struct walk whole = {reply, reply + len};
        require(walk_skip(&whole, 1) == ERR_OK && whole.pos == whole.end);
    }
    gather_release(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct keyspecs *builtin;
    if (builtin == NULL)
        require(keyspecs_new(&builtin) == ERR_OK);
    char *copy = malloc(size > 0 ? size : 1);
    require(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    judge(builtin, framed_view(copy, size, NULL, 0));
    judge_run(builtin, copy, size);
    for (int how = JOIN_ONE; how <= JOIN_MAP_SUM; how++)
        join((enum join)how, copy, size);

    /* A reply that describes commands, and behind it commands. */
    struct walk w = {copy, copy + size};
    if (walk_skip(&w, 1) == ERR_OK) {
        size_t len = (size_t)(w.pos - copy);
        struct keyspecs *k;
        require(keyspecs_new(&k) == ERR_OK);
        enum err e = keyspecs_learn(k, copy, len);
        require(e == ERR_OK || e == ERR_PROTO);
        judge(k, framed_view(copy + len, size - len, NULL, 0));
        judge_run(k, copy + len, size - len);
        keyspecs_free(k);
    }
    free(copy);
    return 0;
}
