/* Private to errand.c and errand_reply.c: what comes back. */
#ifndef MANAGER_ERRAND_REPLY_H
#define MANAGER_ERRAND_REPLY_H

#include "manager/taker.h"

/* In errand.units: the reply is to ASKING. */
#define ERRAND_ASKING UINT32_MAX

extern const struct taker_ops errand_taker;

#endif
