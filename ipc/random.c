/* Random numbers from the kernel, and a stream seeded by them. */
#include "ipc/random.h"

#include <errno.h>
#include <sys/random.h>

enum err random_bytes(void *buf, size_t len)
{
    char *at = buf;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return ERR_SYS;
        }
        at += n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

enum err random_id(uint64_t *id)
{
    uint64_t value = 0;
    while (value == 0) {
        enum err e = random_bytes(&value, sizeof(value));
        if (e != ERR_OK)
            return e;
    }
    *id = value;
    return ERR_OK;
}

enum err random_stream_init(struct random_stream *s)
{
    return random_id(&s->state);
}

uint64_t random_stream_next(struct random_stream *s)
{
    uint64_t z;
    do {
        z = (s->state += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        z ^= z >> 31;
    } while (z == 0);
    return z;
}
