/*
 * What the suites of the library share: a handle on a test's manager, and
 * replies compared as text.
 */
#ifndef TESTS_LIB_H
#define TESTS_LIB_H

#include "tests/e2e.h"
#include "workers/mqredis.h"

/* Opens the manager's channel. Fails the running test. */
struct mqredis *lib_open(const struct e2e_manager *m);

/* A reply's text, in static storage: "(nil)", "5", "value", "lost: ...". */
const char *lib_text(const struct mqredis_reply *reply);

/* Its status. Takes the reply. */
enum mqredis_status lib_status(struct mqredis_reply *reply);

/* Asks until the manager's word that it was out of time comes before the
 * library gives up, which waits little longer than the deadline for it. */
#define LIB_EXPIRES(command)                                                   \
    do {                                                                       \
        enum mqredis_status s_ = MQREDIS_LOST;                                 \
        for (int i_ = 0; i_ < 10 && s_ == MQREDIS_LOST; i_++)                  \
            s_ = lib_status(command);                                          \
        ck_assert_str_eq(mqredis_status_str(s_),                               \
                         mqredis_status_str(MQREDIS_EXPIRED));                 \
    } while (0)

/* Takes the reply. */
#define EXPECT(reply, expected)                                                \
    do {                                                                       \
        struct mqredis_reply *r_ = (reply);                                    \
        ck_assert_str_eq(lib_text(r_), expected);                              \
        mqredis_free(r_);                                                      \
    } while (0)

#endif
