/*
 * mqstat run to its end, and the outside of a manager for it to look at: the
 * channel, the queue and the status file, made by the test itself.
 *
 * What can't be made fails the running test.
 */
#ifndef TESTS_MQSTAT_H
#define TESTS_MQSTAT_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "tests/json.h"

/* ---- running it ---- */

/* What the last mqstat printed. */
struct mqstat_run {
    int code;
    char out[1 << 18];
    char err[8192];
};
extern struct mqstat_run ran;

/* Runs `mqstat ARGS` (for a shell), fills `ran`. */
void mqstat(const char *fmt, ...) PRINTF_LIKE(1, 2);

#define HAS(text)                                                              \
    ck_assert_msg(strstr(ran.out, text) != NULL, "no '%s' in:\n%s%s", text,    \
                  ran.out, ran.err)
#define HAS_NOT(text)                                                          \
    ck_assert_msg(strstr(ran.out, text) == NULL, "'%s' in:\n%s", text, ran.out)
#define ENDED(want)                                                            \
    ck_assert_msg(ran.code == (want), "exit code %d, not %d:\n%s%s", ran.code, \
                  (want), ran.out, ran.err)

/* Nothing that a terminal would take for an order, and whole lines. */
void assert_harmless(void);

/* What it printed, which is JSON as tools/mqstat.schema.json says. To be freed.
 */
struct json_value *mqstat_json(void);

void assert_one_line(const char *text);

/* A file's beginning; "" if there is none. */
void read_file(const char *path, char *out, size_t size);

/* ---- a manager's outside ---- */

struct fake {
    struct channel ch;
    struct mpsc_receiver rx;
    struct status *status;
    struct manager_state state;
    int lock, control;
    char name[80];
};

void fake_start(struct fake *f, const char *name, long capacity);

/* Ends it as a crash would: names stay, descriptors go. */
void fake_die(struct fake *f);

/* Counts n messages, three of which were not answered. */
void fake_count(struct fake *f, uint64_t n);

/* A child (support_fork) that joins, sends, and stays. */
struct fake_sender {
    const char *name;
    int messages;
};
void fake_sender(void *arg);

/* As deep as a queue may be here, up to 32. */
long queue_limit(void);

#endif
