/* The daemon's log: one line an event on standard error. */
#ifndef MANAGER_LOG_H
#define MANAGER_LOG_H

#include <stdbool.h>

#include "ipc/err.h"

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

/* Settings of the process's log, made once by main. The log is the one thing
 * of a process that is everybody's: it is kept global on purpose. `name` is
 * borrowed for good. Where JOURNAL_STREAM says that standard error leads to
 * systemd's journal, lines begin with a priority in place of the program's
 * name. */
void log_init(const char *name, enum log_level level);

/* "error", "warn", "info", "debug". ERR_INVALID. */
MUST_CHECK enum err log_level_parse(const char *text, enum log_level *level);

/* Changes the level of what is shown (a reload). */
void log_set_level(enum log_level level);

void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Lets `burst` lines of one kind through in ten seconds; the first one after a
 * quiet time says how many were held back. Start it zeroed. */
struct log_limit {
    unsigned long long window_start_ns;
    unsigned shown;
    unsigned held_back;
};

/* Whether this line may be shown. */
bool log_limit_pass(struct log_limit *limit, unsigned burst);

#endif
