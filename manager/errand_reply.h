/* Private to errand*.c: what comes back. */
#ifndef MANAGER_ERRAND_REPLY_H
#define MANAGER_ERRAND_REPLY_H

#include "manager/errand.h"

/* In errand.units: the reply is to ASKING. */
#define ERRAND_ASKING UINT32_MAX

extern const struct taker_ops errand_taker;

static inline struct errand *errand_of(struct passer *p)
{
    return (struct errand *)((char *)p - offsetof(struct errand, passer));
}

/* Whether it has more keys than one, or may have. */
bool errand_has_keys(const struct errand *e);

/* For the turnstile: see there. */
void errand_overtaken(void *context, struct passer *held, struct passer *by);

/* The same among the commands of a batch whose replies are all back: some were
 * executed, or may have been, and some are to go again. Those of them that may
 * not are answered. */
void errand_overtaken_within(struct errand *e);

#endif
