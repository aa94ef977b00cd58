/*
 * Fan-outs: one command of a request that several nodes take part in. Each part
 * is an errand; the replies are joined (scatter.h), and the request gets one.
 */
#ifndef MANAGER_FANOUT_H
#define MANAGER_FANOUT_H

#include "manager/errand.h"
#include "manager/keyspec.h"
#include "manager/scatter.h"

struct fanout {
    struct cluster *cluster;
    struct request *req;
    uint32_t index;    /* of the request's commands */
    uint32_t left;     /* parts that are not settled */
    uint32_t answered; /* parts that were answered */
    struct gather gather;
    size_t collecting;        /* bytes of replies that have come in part */
    enum reply_status failed; /* of a part; REPLY_OK: none so far */
    bool scans;               /* its reply begins with a cursor */
    uint16_t node;            /* that is scanned */
    struct err_text why;
    /* Once all have come, while it is handed out in pieces. */
    const char *reply;
    size_t len, told;
    bool cut;  /* its reader does not keep up: the rest is not told */
    char *own; /* memory of the reply, where that is not the gather's */
    uint64_t stall_ns;
    struct fanout *next;
};

/* Each of these sends command `index` of the run's request, which is `command`,
 * on its way, or answers it. */
void fanout_split(struct cluster *c, const struct run *run, uint32_t index,
                  const struct framed *command, const struct way *way);
void fanout_masters(struct cluster *c, const struct run *run, uint32_t index,
                    const struct framed *command, const struct way *way,
                    enum route route);
void fanout_scan(struct cluster *c, const struct run *run, uint32_t index,
                 const struct framed *command);

/* Whether so many bytes more of a part's reply may be kept until its end. */
bool fanout_has_room(const struct fanout *s, size_t len);

/* A part's whole reply. */
void fanout_reply(struct fanout *s, uint32_t part, const char *data,
                  size_t len);

/* A part will have none. */
void fanout_fail(struct fanout *s, uint32_t part, enum reply_status status,
                 const char *why);

/* Hands on more of what waits for slow readers; returns when it wants to be
 * called next (0: no wish). */
uint64_t fanouts_tick(struct cluster *c, uint64_t now);

#endif
