/* A hash table with chains. */
#include "manager/topics.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 64

const char *topic_word(enum topic_kind kind, bool adding)
{
    static const char *const words[TOPIC_KINDS][2] = {
        [TOPIC_CHANNEL] = {"unsubscribe", "subscribe"},
        [TOPIC_PATTERN] = {"punsubscribe", "psubscribe"},
        [TOPIC_SHARD] = {"sunsubscribe", "ssubscribe"}};
    return words[kind][adding];
}

enum err topics_init(struct topics *t, uint64_t seed)
{
    *t = (struct topics){.bucket_count = BUCKETS_FIRST, .seed = seed};
    t->buckets = calloc(t->bucket_count, sizeof(struct topic *));
    return t->buckets == NULL ? ERR_NOMEM : ERR_OK;
}

void topics_release(struct topics *t)
{
    for (uint32_t i = 0; t->buckets != NULL && i < t->bucket_count; i++) {
        while (t->buckets[i] != NULL) {
            struct topic *topic = t->buckets[i];
            t->buckets[i] = topic->chain;
            free(topic);
        }
    }
    free(t->buckets);
    *t = (struct topics){0};
}

/* FNV-1a from a secret start, stirred at the end (as in splitmix64): whoever
 * chooses names can't choose buckets. */
static uint32_t hash_of(uint64_t seed, enum topic_kind kind, const char *name,
                        size_t len)
{
    uint64_t h = seed ^ (uint64_t)kind * 0x9e3779b97f4a7c15ULL;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 0x100000001b3ULL;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ULL;
    return (uint32_t)(h ^ (h >> 32));
}

static struct topic **bucket(const struct topics *t, uint32_t hash)
{
    return &t->buckets[hash & (t->bucket_count - 1)];
}

struct topic *topics_find(const struct topics *t, enum topic_kind kind,
                          const char *name, size_t len)
{
    uint32_t hash = hash_of(t->seed, kind, name, len);
    struct topic *topic = *bucket(t, hash);
    while (topic != NULL &&
           (topic->hash != hash || topic->kind != kind || topic->len != len ||
            memcmp(topic->name, name, len) != 0))
        topic = topic->chain;
    return topic;
}

/* Doubles the table; without memory it stays as it is, only slower. */
static void grow(struct topics *t)
{
    struct topics wider = *t;
    wider.bucket_count *= 2;
    wider.buckets = calloc(wider.bucket_count, sizeof(struct topic *));
    if (wider.buckets == NULL)
        return;
    for (uint32_t i = 0; i < t->bucket_count; i++) {
        while (t->buckets[i] != NULL) {
            struct topic *topic = t->buckets[i];
            t->buckets[i] = topic->chain;
            struct topic **b = bucket(&wider, topic->hash);
            topic->chain = *b;
            *b = topic;
        }
    }
    free(t->buckets);
    *t = wider;
}

struct topic *topics_add(struct topics *t, enum topic_kind kind,
                         const char *name, size_t len)
{
    struct topic *topic = malloc(sizeof(*topic) + len);
    if (topic == NULL)
        return NULL;
    if (t->count >= t->bucket_count)
        grow(t);
    *topic = (struct topic){
        .kind = kind, .hash = hash_of(t->seed, kind, name, len), .len = len};
    memcpy(topic->name, name, len);
    struct topic **b = bucket(t, topic->hash);
    topic->chain = *b;
    *b = topic;
    t->count++;
    return topic;
}

void topics_remove(struct topics *t, struct topic *topic)
{
    struct topic **at = bucket(t, topic->hash);
    while (*at != topic)
        at = &(*at)->chain;
    *at = topic->chain;
    t->count--;
    free(topic);
}
