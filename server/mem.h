/*
 * The server's memory, counted.
 *
 * Every allocation for data and clients goes through one `struct mem`, so that
 * --maxmemory and INFO know what is in use without asking the allocator to
 * walk its arenas. When the machine itself is out of memory the process says
 * so in one line and ends, as Redis does: a store which cannot answer "no
 * room" for a hundred small allocations in the middle of a command is better
 * restarted than half right. Whatever a client can make large is bounded
 * before it comes here.
 */
#ifndef SERVER_MEM_H
#define SERVER_MEM_H

#include <stddef.h>

struct mem {
    size_t used; /* bytes handed out, as the allocator rounded them */
    size_t peak;
};

/* None of these returns NULL; sizes are at least 1. */
void *mem_alloc(struct mem *m, size_t size);
void *mem_zalloc(struct mem *m, size_t size);
void *mem_resize(struct mem *m, void *p, size_t size); /* p may be NULL */
void mem_free(struct mem *m, void *p);                 /* p may be NULL */

#endif
