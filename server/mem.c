/* Allocation that is counted and never fails quietly. */
#include "server/mem.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

static void *count(struct mem *m, void *p, size_t size)
{
    if (p == NULL) {
        fprintf(stderr, "mqredis-server: out of memory (%zu bytes wanted)\n",
                size);
        exit(EXIT_FAILURE);
    }
    m->used += malloc_usable_size(p);
    if (m->used > m->peak)
        m->peak = m->used;
    return p;
}

void *mem_alloc(struct mem *m, size_t size)
{
    return count(m, malloc(size), size);
}

void *mem_zalloc(struct mem *m, size_t size)
{
    return count(m, calloc(1, size), size);
}

void *mem_resize(struct mem *m, void *p, size_t size)
{
    if (p != NULL)
        m->used -= malloc_usable_size(p);
    return count(m, realloc(p, size), size);
}

void mem_free(struct mem *m, void *p)
{
    if (p == NULL)
        return;
    m->used -= malloc_usable_size(p);
    free(p);
}
