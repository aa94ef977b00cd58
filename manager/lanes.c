/* Senders, and what is known of the size of replies. */
#include "manager/lanes.h"

#include <stdlib.h>

#define BUCKETS_FIRST 256
#define HASHED_MAX 256

enum err senders_init(struct senders *s, uint64_t key)
{
    s->key = key;
    s->bucket_count = BUCKETS_FIRST;
    s->count = 0;
    s->buckets = calloc(s->bucket_count, sizeof(struct sender *));
    return s->buckets == NULL ? ERR_NOMEM : ERR_OK;
}

void senders_release(struct senders *s)
{
    for (uint32_t i = 0; i < s->bucket_count && s->buckets != NULL; i++) {
        while (s->buckets[i] != NULL) {
            struct sender *one = s->buckets[i];
            s->buckets[i] = one->chain;
            free(one);
        }
    }
    free(s->buckets);
    s->buckets = NULL;
    s->bucket_count = s->count = 0;
}

/* Client ids are random where nobody means harm. */
static struct sender **bucket(const struct senders *s, uint64_t client)
{
    return &s->buckets[keyed_hash(s->key, client) & (s->bucket_count - 1)];
}

static void grow(struct senders *s)
{
    struct senders wide = {.bucket_count = s->bucket_count * 2,
                           .count = s->count,
                           .key = s->key};
    wide.buckets = calloc(wide.bucket_count, sizeof(struct sender *));
    if (wide.buckets == NULL)
        return; /* slower, not wrong */
    for (uint32_t i = 0; i < s->bucket_count; i++) {
        while (s->buckets[i] != NULL) {
            struct sender *one = s->buckets[i];
            s->buckets[i] = one->chain;
            struct sender **b = bucket(&wide, one->client);
            one->chain = *b;
            *b = one;
        }
    }
    free(s->buckets);
    *s = wide;
}

struct sender *senders_get(struct senders *s, uint64_t client)
{
    struct sender **b = bucket(s, client);
    for (struct sender *one = *b; one != NULL; one = one->chain) {
        if (one->client == client) {
            one->readers++;
            return one;
        }
    }
    struct sender *one = calloc(1, sizeof(*one));
    if (one == NULL)
        return NULL;
    if (++s->count > s->bucket_count)
        grow(s);
    b = bucket(s, client);
    *one = (struct sender){.client = client, .readers = 1, .chain = *b};
    *b = one;
    return one;
}

void senders_put(struct senders *s, struct sender *one)
{
    if (--one->readers > 0)
        return;
    struct sender **at = bucket(s, one->client);
    while (*at != one)
        at = &(*at)->chain;
    *at = one->chain;
    s->count--;
    free(one);
}

uint32_t sizes_hash(const char *data, size_t len)
{
    uint32_t h = 2166136261U;
    size_t n = len < HASHED_MAX ? len : HASHED_MAX;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)data[i]) * 16777619U;
    return h ? h : 1;
}
