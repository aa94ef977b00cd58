/* Tells systemd how a service is doing: sd_notify(3) by hand, a datagram to
 * $NOTIFY_SOCKET. Without that variable everything here does nothing. */
#ifndef MANAGER_NOTIFY_H
#define MANAGER_NOTIFY_H

#include <stdint.h>

#include "ipc/err.h"

/* Sends lines such as "READY=1\nSTATUS=connected". Never blocks, never fails
 * loudly: a supervisor that does not listen is its own problem. */
void notify(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* How often the watchdog wants to hear from us: half of $WATCHDOG_USEC, in ns;
 * 0 for never. */
uint64_t notify_watchdog_ns(void);

#endif
