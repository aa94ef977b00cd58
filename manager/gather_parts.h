/* What gathering and its result share. Private to gather*.c. */
#ifndef MANAGER_GATHER_PARTS_H
#define MANAGER_GATHER_PARTS_H

#include "manager/scatter.h"
#include "manager/walk.h"

/* One part's reply. */
struct gathered {
    bool answered;
    uint32_t nkeys;  /* of JOIN_ORDER: */
    uint32_t *index; /* its keys */
    char *data;      /* its reply, if that is kept; else NULL */
    size_t len;
};

#endif
