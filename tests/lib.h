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

/* Takes the reply. */
#define EXPECT(reply, expected)                                                \
    do {                                                                       \
        struct mqredis_reply *r_ = (reply);                                    \
        ck_assert_str_eq(lib_text(r_), expected);                              \
        mqredis_free(r_);                                                      \
    } while (0)

#endif
