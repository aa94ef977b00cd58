/*
 * What comes through pipes and sockets of subscriptions: frames of a
 * subscribed connection, and the chunks of a stream. The first byte chooses
 * how the rest is cut into pieces; whatever the pieces, the outcome must be the
 * same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/broadcast.h"
#include "manager/pushes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* A digest of everything that was seen. */
static uint64_t mix(uint64_t h, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3ULL;
    return (h ^ len) * 0x100000001b3ULL;
}

static uint64_t read_pushes(const char *data, size_t size, size_t step)
{
    struct pushes p;
    uint64_t h = 1;
    pushes_init(&p, 64 * 1024);
    for (size_t at = 0; at < size;) {
        size_t n = size - at < step ? size - at : step;
        const char *piece = data + at;
        size_t left = n;
        struct push push;
        enum err e;
        while ((e = pushes_next(&p, &piece, &left, &push)) == ERR_OK) {
            h = mix(h, push.data, push.len);
            h = mix(h, &push.kind, sizeof(push.kind));
            if (push.kind == PUSH_MESSAGE || push.kind == PUSH_SUBSCRIBED ||
                push.kind == PUSH_UNSUBSCRIBED)
                h = mix(h, push.name, push.name_len);
        }
        if (e != ERR_AGAIN)
            break;
        require(left == 0);
        at += n;
    }
    pushes_release(&p);
    return h;
}

static uint64_t read_stream(const char *data, size_t size, size_t step)
{
    struct broadcast b;
    uint64_t h = 1;
    size_t used = 0, have = 0;
    broadcast_init(&b, 0x3030303030303030ULL); /* "00000000" */
    for (;;) {
        struct broadcast_event ev;
        size_t need = 0;
        enum err e = broadcast_next(&b, data + used, have - used, &ev, &need);
        if (e == ERR_AGAIN) {
            require(need > have - used);
            if (have == size)
                return h;
            have += size - have < step ? size - have : step;
            continue;
        }
        if (e != ERR_OK)
            return h;
        require(need <= have - used && ev.len <= need);
        h = mix(h, ev.data, ev.len);
        h = mix(h, &ev.kind, sizeof(ev.kind));
        used += need;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t step = (size_t)data[0] % 61 + 1;
    const char *rest = (const char *)data + 1;
    size_t len = size - 1;
    require(read_pushes(rest, len, step) == read_pushes(rest, len, len + 1));
    require(read_stream(rest, len, step) == read_stream(rest, len, len + 1));
    return 0;
}
