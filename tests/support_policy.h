/*
 * Judging commands that a test writes as text, and walking through a server's
 * reply to COMMAND by other code than the policy's own.
 */
#ifndef TESTS_SUPPORT_POLICY_H
#define TESTS_SUPPORT_POLICY_H

#include "manager/policy.h"
#include "tests/support_redis.h"

/* A checked fixture: the table as it is built in. */
extern struct policy *policy;
void policy_setup(void);
void policy_teardown(void);

/* Judges "MULTI; GET k; EXEC", words split at spaces, `@N` a large argument of
 * N bytes. Writes a letter per command (S D C P R), then, unless one was
 * refused, ';' and the letter of the whole. */
void judge_text(const struct policy *table, const char *text, bool independent,
                char *routes, struct err_text *why);

#define LISTED_MAX 2000

struct listed {
    char words[130]; /* "get", "config set" */
    int64_t arity;
    bool blocking;  /* so flagged */
    bool container; /* has subcommands, which are listed too */
};

struct listed_commands {
    struct listed commands[LISTED_MAX];
    size_t count;
};

/* Sorted by their words. Fails the running test if it is not COMMAND's reply.
 */
void list_commands(struct listed_commands *list, const char *reply, size_t len);

/* Says HELLO for that protocol, sends COMMAND, and has the policy learn from
 * the reply, which is listed too. */
void learn_commands(struct policy *table, struct redis_link *link, int protocol,
                    struct listed_commands *list);

/* Whether the word is among them, in any case. */
bool one_of(const char *word, const char *const *words, size_t count);

/* Reads one value's head, which must be there, and steps over it. */
struct resp_value value_head(const char **pos, const char *end);

#endif
