/*
 * A cluster against one server, both through a manager: thousands of random
 * commands, alone, in batches and in transactions, and every reply the same.
 * The one difference is named: commands that need several keys in one slot are
 * refused by a cluster with CROSSSLOT. Those are asked of the cluster first,
 * and then not of the one server, so that both hold the same ever after. (So is
 * what has a key of many thousand bytes.)
 *
 *   DIFF_SEED=N      repeat a run (the seed is printed)
 *   DIFF_COMMANDS=N  how many commands (5000; MQREDIS_LONG: 50000)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ipc/clock.h"
#include "tests/cluster_scene.h"
#include "tests/differential.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define ROUND 250 /* commands until everything starts anew */
#define BATCH_MAX 6
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Where the keys of a round are: each where its name says, all in one slot, or
 * in two. */
enum spread { APART, TOGETHER, IN_TWO, SPREADS };

static struct e2e_redis single;
static struct e2e_manager managers[2];
static struct mqredis *sides[2]; /* the cluster's, the one server's */
static uint64_t seed, state;
static long compared, crossed, transactions, batches, refused;
static long spoilt; /* crossed although all keys have one tag */

/* What may be refused with CROSSSLOT: everything else is split or has one
 * key. */
static const char *const cross_slot[] = {
    "MSETNX", "RENAME", "RENAMENX", "LMOVE", "BLMOVE", "BLPOP", "BRPOP"};

static bool may_cross(const struct diff_command *k)
{
    for (size_t i = 0; i < COUNT(cross_slot); i++)
        if (diff_is(k, cross_slot[i]))
            return true;
    /* One value short: there is nothing to split, and Redis looks at the slots
     * before it counts. */
    return diff_is(k, "MSET") && k->argc % 2 == 0;
}

/* Where all keys have one tag, only a command that was spoilt has others. */
static void note_cross(enum spread spread)
{
    crossed++;
    spoilt += spread == TOGETHER;
}

static bool has_prefix(const struct mqredis_raw *r, const char *text)
{
    return r->len >= strlen(text) && memcmp(r->data, text, strlen(text)) == 0;
}

/* The other difference: a key (of a command that was spoilt) which is too long
 * for the message. */
static bool has_large_key(const struct mqredis_raw *r)
{
    static const char mark[] = "has a key that travels in shared memory";
    return r->status == MQREDIS_INVALID &&
           memmem(r->data, r->len, mark, sizeof(mark) - 1) != NULL;
}

static bool is_cross(const struct mqredis_raw *r)
{
    return r->status == MQREDIS_OK && has_prefix(r, "-CROSSSLOT ");
}

/* ---- where keys lie ---- */

/* Gives the command's keys their tags; the bytes lie in `room`. */
static void place(struct diff_command *k, enum spread spread, char *room)
{
    for (size_t i = 1; i < k->argc && spread != APART; i++) {
        struct diff_arg *a = &k->args[i];
        if (!diff_is_key(a))
            continue;
        char tag = (char)(spread == TOGETHER ? 'a' : 'a' + (a->data[0] == 'l'));
        int n = sprintf(room, "{%c}", tag);
        memcpy(room + n, a->data, a->len);
        *a = (struct diff_arg){room, (size_t)n + a->len};
        room += a->len;
    }
}

#define PLACE_ROOM ((size_t)DIFF_ARGS * 32)

/* ---- telling what went wrong ---- */

static void differ(const struct diff_command *k, const struct mqredis_raw *a,
                   const struct mqredis_raw *b)
{
    char what[300], left[300], right[300];
    size_t len;
    char *bytes = diff_encode(k, &len);
    diff_print(bytes, len, what, sizeof(what));
    diff_print(a->data, a->len, left, sizeof(left));
    diff_print(b->data, b->len, right, sizeof(right));
    free(bytes);
    ck_abort_msg("DIFF_SEED=%llu, command %ld: %s\ncluster (%s): %s\none "
                 "server (%s): %s",
                 (unsigned long long)seed, compared, what,
                 mqredis_status_str(a->status), left,
                 mqredis_status_str(b->status), right);
}

static void compare(const struct diff_command *k, enum diff_class class,
                    const struct mqredis_raw *a, const struct mqredis_raw *b)
{
    compared++;
    if (a->status != b->status ||
        (a->status == MQREDIS_OK &&
         !diff_same(class, a->data, a->len, b->data, b->len)))
        differ(k, a, b);
    refused += a->status != MQREDIS_OK;
}

/* ---- one command ---- */

static struct mqredis_raw *ask(int side, const struct diff_command *k)
{
    const char *argv[DIFF_ARGS];
    size_t len[DIFF_ARGS];
    for (size_t i = 0; i < k->argc; i++) {
        argv[i] = k->args[i].data;
        len[i] = k->args[i].len;
    }
    return mqredis_command_raw(sides[side], k->argc, argv, len);
}

/* The words of an array of strings, one a line, behind `out`. */
static size_t add_lines(char *out, const struct mqredis_reply *keys)
{
    size_t n = 0;
    for (size_t i = 0; i < keys->elements; i++) {
        memcpy(out + n, keys->element[i]->str, keys->element[i]->len);
        n += keys->element[i]->len;
        out[n++] = '\n';
    }
    return n;
}

/* Walks a SCAN to its end: all keys, as lines. False: it is an error. */
static bool scan(int side, const struct diff_command *k, char *out, size_t *n)
{
    const char *argv[DIFF_ARGS];
    size_t len[DIFF_ARGS];
    char cursor[32] = "0";
    int steps = 0;
    *n = 0;
    do {
        for (size_t i = 0; i < k->argc; i++) {
            argv[i] = i == 1 ? cursor : k->args[i].data;
            len[i] = i == 1 ? strlen(cursor) : k->args[i].len;
        }
        struct mqredis_reply *r =
            mqredis_command_argv(sides[side], k->argc, argv, len);
        bool ok = r->type == MQREDIS_ARRAY;
        if (ok) {
            ck_assert_uint_lt(r->element[0]->len, sizeof(cursor));
            strcpy(cursor, r->element[0]->str);
            *n += add_lines(out + *n, r->element[1]);
        }
        mqredis_free(r);
        if (!ok)
            return false;
        ck_assert_msg(++steps < 100, "SCAN never ends: cursor %s", cursor);
    } while (strcmp(cursor, "0") != 0);
    return true;
}

static bool is_scan(const struct diff_command *k)
{
    return diff_is(k, "SCAN") && k->argc > 1 && k->args[1].len == 1 &&
           k->args[1].data[0] == '0';
}

static void compare_scans(const struct diff_command *k)
{
    static char lines[2][65536];
    struct mqredis_raw out[2] = {{.status = MQREDIS_OK},
                                 {.status = MQREDIS_OK}};
    bool ok[2];
    for (int side = 0; side < 2; side++) {
        ok[side] = scan(side, k, lines[side], &out[side].len);
        out[side].data = lines[side];
    }
    ck_assert_int_eq(ok[0], ok[1]);
    compare(k, DIFF_UNSORTED, &out[0], &out[1]);
}

static void one(enum spread spread)
{
    struct diff_command k;
    char room[PLACE_ROOM];
    diff_generate(&state, false, &k);
    place(&k, spread, room);
    /* What may block is compared where it never does: in transactions. */
    if (diff_is(&k, "BLPOP") || diff_is(&k, "BRPOP") || diff_is(&k, "BLMOVE"))
        return;
    if (is_scan(&k)) {
        compare_scans(&k);
        return;
    }
    struct mqredis_raw *a = ask(0, &k);
    if (is_cross(a)) {
        if (!may_cross(&k))
            differ(&k, a, a);
        note_cross(spread);
    } else if (!has_large_key(a)) {
        struct mqredis_raw *b = ask(1, &k);
        compare(&k, k.class, a, b);
        mqredis_raw_free(b);
    }
    mqredis_raw_free(a);
}

/* ---- several at once ---- */

struct several {
    size_t count;
    bool transaction;
    struct diff_command k[BATCH_MAX + 2];
    char room[BATCH_MAX][PLACE_ROOM];
};

static void name_only(struct diff_command *k, const char *name)
{
    *k = (struct diff_command){.class = DIFF_EXACT, .argc = 1};
    k->args[0] = (struct diff_arg){name, strlen(name)};
}

/* What concerns all masters has no place in a transaction, and no order in a
 * batch; what a transaction must not hold is tried alone. */
static bool fits(const struct diff_command *k)
{
    static const char *const others[] = {
        "FLUSHDB", "FLUSHALL", "KEYS",      "SCAN",   "MULTI", "EXEC",
        "DISCARD", "DBSIZE",   "RANDOMKEY", "PUBSUB", "CONFIG"};
    for (size_t i = 0; i < COUNT(others); i++)
        if (diff_is(k, others[i]))
            return false;
    return true;
}

static void choose(struct several *s, enum spread spread)
{
    size_t n = 1 + (size_t)(diff_random(&state) % BATCH_MAX), at = 0;
    s->transaction = diff_random(&state) % 2 == 0;
    if (s->transaction)
        name_only(&s->k[at++], "MULTI");
    for (size_t i = 0; i < n; i++) {
        struct diff_command *k = &s->k[at++];
        do {
            diff_generate(&state, true, k);
        } while (!fits(k) || (!s->transaction &&
                              (diff_is(k, "BLPOP") || diff_is(k, "BRPOP") ||
                               diff_is(k, "BLMOVE"))));
        place(k, spread, s->room[i]);
    }
    if (s->transaction)
        name_only(&s->k[at++], "EXEC");
    s->count = at;
}

static struct mqredis_request *submit(int side, const struct several *s)
{
    char *all = NULL;
    size_t len = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t n;
        char *bytes = diff_encode(&s->k[i], &n);
        char *longer = realloc(all, len + n);
        ck_assert_ptr_nonnull(longer);
        all = longer;
        memcpy(all + len, bytes, n);
        len += n;
        free(bytes);
    }
    struct mqredis_request *q =
        mqredis_submit_raw(sides[side], all, len, s->count, MQREDIS_RAW_BATCH);
    free(all);
    ck_assert(mqredis_wait_done(q, 2 * SCENE_TIMEOUT_MS));
    return q;
}

/* Whether the manager refused the transaction because of its slots. */
static bool refused_for_slots(struct mqredis_request *q)
{
    struct mqredis_raw r;
    ck_assert(mqredis_answer(q, 0, &r));
    return r.status == MQREDIS_INVALID &&
           memmem(r.data, r.len, "CROSSSLOT", 9) != NULL;
}

/* Any number of commands in one slot are one; those refused in a batch are
 * replaced, so that the one server does not execute them either. */
static void several(enum spread spread)
{
    static struct several s;
    bool skip[BATCH_MAX + 2] = {false};
    struct mqredis_raw a, b;
    choose(&s, spread);
    struct mqredis_request *q = submit(0, &s);
    if (s.transaction && refused_for_slots(q)) {
        note_cross(spread);
        mqredis_raw_free(mqredis_wait_raw(q));
        return;
    }
    struct several plain = s;
    for (size_t i = 0; i < s.count; i++) {
        ck_assert(mqredis_answer(q, i, &a));
        if (has_large_key(&a)) {
            name_only(&plain.k[i], "PING");
            skip[i] = true;
        }
        if (!is_cross(&a))
            continue;
        if (!may_cross(&s.k[i]) || s.transaction)
            differ(&s.k[i], &a, &a);
        name_only(&plain.k[i], "PING");
        skip[i] = true;
        note_cross(spread);
    }
    struct mqredis_request *p = submit(1, &plain);
    for (size_t i = 0; i < s.count; i++) {
        ck_assert(mqredis_answer(q, i, &a));
        ck_assert(mqredis_answer(p, i, &b));
        if (!skip[i])
            compare(&s.k[i], s.k[i].class, &a, &b);
    }
    *(s.transaction ? &transactions : &batches) += 1;
    mqredis_raw_free(mqredis_wait_raw(q));
    mqredis_raw_free(mqredis_wait_raw(p));
}

/* ---- all of it ---- */

static bool start(void)
{
    if (!cluster_scene_nodes(0, 30000, NULL))
        return false;
    ck_assert(redis_start(&single.at, "single",
                          "--port 0 --enable-debug-command yes"));
    e2e_manager_start(&managers[0], NULL, redis_cluster_uri(&cluster), NULL);
    e2e_manager_start(&managers[1], NULL, e2e_uri(&single), NULL);
    for (int i = 0; i < 2; i++) {
        sides[i] = lib_open(&managers[i]);
        mqredis_set_timeout(sides[i], SCENE_TIMEOUT_MS);
    }
    return true;
}

START_TEST(test_cluster_answers_as_one_server)
{
    const char *text = getenv("DIFF_SEED"), *many = getenv("DIFF_COMMANDS");
    long limit = many != NULL ? strtol(many, NULL, 10)
                 : e2e_long() ? 50000
                              : 5000;
    seed = text != NULL ? strtoull(text, NULL, 10)
                        : (unsigned long long)clock_ns();
    printf("DIFF_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    if (!start())
        return;
    state = seed;
    for (long n = 0; compared - refused < limit; n++) {
        enum spread spread = (enum spread)(n / ROUND % SPREADS);
        if (n % ROUND == 0)
            for (int i = 0; i < 2; i++)
                EXPECT(mqredis_command(sides[i], "FLUSHALL"), "OK");
        if (diff_random(&state) % 8 == 0)
            several(spread);
        else
            one(spread);
    }
    e2e_figure(E2E_REDIS,
               "%ld replies the same, and %ld refusals of the manager; %ld "
               "transactions, %ld batches; %ld commands or transactions over "
               "several slots refused",
               compared - refused, refused, transactions, batches, crossed);
    ck_assert_int_gt(crossed, 0);
    ck_assert_int_lt(spoilt, compared / 20);
    ck_assert_int_gt(transactions, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(UNTIL(e2e_balanced(&managers[i])), "%s",
                      e2e_books(&managers[i]));
        mqredis_close(sides[i]);
    }
    redis_cluster_stop(&cluster);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_diff");
    TCase *t = support_case(s, "differential", e2e_long() ? 600 : 120);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_cluster_answers_as_one_server);
    return s;
}

int main(void)
{
    return support_run(suite());
}
