/* The turnstile: who passes, who is held, and that nobody of one slot overtakes
 * anybody, whatever the nodes do. */
#include "manager/turnstile.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support_run.h"

#define LIMIT 100
#define GUESTS 64

struct guest {
    struct passer passer; /* first */
    int number;
    uint16_t ask; /* where it is to go for once; TURNSTILE_NOWHERE */
    bool unwanted;
    bool strict; /* is not to go after one that came later */
    bool lost;   /* there is nowhere to go for it */
};

static struct turnstile *turnstile;
static uint16_t owner[SLOTS + 1]; /* of each slot; TURNSTILE_NOWHERE: away */
static struct guest guests[GUESTS];
/* Who went, and where, in that order. */
static int gone[1024];
static uint16_t gone_to[1024];
static int gone_count;
static int dropped;
static bool go_fails;
/* Who is at a node, and at which. */
static bool inside[GUESTS];
static uint16_t at[GUESTS];

static uint16_t target(void *context, struct passer *p)
{
    const struct guest *g = (const struct guest *)p;
    (void)context;
    if (g->lost)
        return TURNSTILE_NOWHERE;
    return g->ask != TURNSTILE_NOWHERE ? g->ask : owner[p->slot];
}

static void go(void *context, struct passer *p, uint16_t to)
{
    struct guest *g = (struct guest *)p;
    (void)context;
    /* Whoever is held at that gate came later; and who has passed there is at
     * the same node. */
    const struct passer *held = turnstile->rows[p->slot].held;
    bool right = true;
    for (const struct passer *h = held; h != NULL;
         h = h->next == held ? NULL : h->next)
        right = right && (p->loose || h->loose || h->seq > p->seq);
    for (int i = 0; i < GUESTS; i++)
        right = right && (p->loose || !inside[i] ||
                          guests[i].passer.slot != p->slot || at[i] == to);
    if (!right)
        ck_abort_msg("%d went to %u out of its turn", g->number, to);
    if (g >= guests && g < guests + GUESTS && !p->loose) {
        inside[g->number] = true;
        at[g->number] = to;
    }
    g->ask = TURNSTILE_NOWHERE;
    gone[gone_count] = g->number;
    gone_to[gone_count++] = to;
    if (go_fails) {
        inside[g->number] = false;
        turnstile_leave(turnstile, p);
    }
}

static void look(void *context, struct passer *p)
{
    (void)context;
    if (!((struct guest *)p)->unwanted)
        return;
    turnstile_drop(turnstile, p);
    dropped++;
}

static void overtaken(void *context, struct passer *held, struct passer *by)
{
    (void)context;
    ck_assert_uint_lt(held->seq, by->seq);
    if (!((struct guest *)held)->strict)
        return;
    turnstile_drop(turnstile, held);
    dropped++;
}

static const struct turnstile_ops ops = {target, go, look, overtaken};

static void setup(void)
{
    turnstile = malloc(sizeof(*turnstile));
    ck_assert_ptr_nonnull(turnstile);
    turnstile_init(turnstile, &ops, NULL, LIMIT, 1000);
    memset(owner, 0, sizeof(owner));
    gone_count = dropped = 0;
    go_fails = false;
    memset(inside, 0, sizeof(inside));
    for (int i = 0; i < GUESTS; i++)
        guests[i] = (struct guest){.number = i, .ask = TURNSTILE_NOWHERE};
}

static void teardown(void)
{
    free(turnstile);
}

static enum err enter(int number, uint16_t slot)
{
    guests[number].passer.slot = slot;
    return turnstile_enter(turnstile, &guests[number].passer);
}

static void leave(int number)
{
    inside[number] = false;
    turnstile_leave(turnstile, &guests[number].passer);
}

static void again(int number, uint64_t not_before_ns)
{
    inside[number] = false;
    turnstile_again(turnstile, &guests[number].passer, not_before_ns);
}

/* That exactly these went since the last look, in this order, all there. */
static void went(uint16_t to, int count, const int *numbers)
{
    ck_assert_int_eq(gone_count, count);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(gone[i], numbers[i]);
        ck_assert_uint_eq(gone_to[i], to);
    }
    gone_count = 0;
}

#define WENT(to, ...)                                                          \
    went(to, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                \
         (const int[]){__VA_ARGS__})

static void nobody_went(void)
{
    ck_assert_int_eq(gone_count, 0);
}

START_TEST(test_all_pass_while_nothing_moves)
{
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    WENT(0, 0, 1, 2);
    leave(0);
    leave(1);
    ck_assert_int_eq(enter(3, 7), ERR_OK);
    WENT(0, 3);
    ck_assert_uint_eq(turnstile_turn(turnstile, 1), 0);
}
END_TEST

/* Three passed, the first and the third are redirected; who comes meanwhile
 * waits, and all go in the order of coming. */
START_TEST(test_redirected_ones_keep_their_places)
{
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    gone_count = 0;
    owner[7] = 1;
    again(0, 0);
    ck_assert_int_eq(enter(3, 7), ERR_OK);
    (void)turnstile_turn(turnstile, 1);
    nobody_went();
    leave(1);
    again(2, 0);
    nobody_went();
    (void)turnstile_turn(turnstile, 2);
    WENT(1, 0, 2, 3);
    ck_assert_int_eq(enter(4, 7), ERR_OK);
    WENT(1, 4);
    ck_assert_uint_eq(turnstile->held, 0);
}
END_TEST

START_TEST(test_new_owner_waits_for_the_old_one)
{
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    WENT(0, 0);
    owner[7] = 1;
    ck_assert_int_eq(enter(1, 7), ERR_OK);
    ck_assert_int_eq(enter(2, 8), ERR_OK);
    WENT(0, 2); /* another slot */
    leave(0);
    (void)turnstile_turn(turnstile, 1);
    WENT(1, 1);
}
END_TEST

/* ASK: a row with one target goes, the next one when that is back. */
START_TEST(test_rows_with_one_target)
{
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    gone_count = 0;
    guests[0].ask = guests[1].ask = guests[3].ask = 2;
    for (int i = 0; i < 5; i++)
        again(i, 0);
    (void)turnstile_turn(turnstile, 1);
    WENT(2, 0, 1);
    leave(1);
    (void)turnstile_turn(turnstile, 2);
    nobody_went();
    leave(0);
    (void)turnstile_turn(turnstile, 3);
    WENT(0, 2);
    leave(2);
    (void)turnstile_turn(turnstile, 4);
    WENT(2, 3);
    leave(3);
    (void)turnstile_turn(turnstile, 5);
    WENT(0, 4);
}
END_TEST

START_TEST(test_one_that_waits_holds_its_slot_only)
{
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    gone_count = 0;
    again(0, 1000000000);
    ck_assert_int_eq(enter(1, 7), ERR_OK);
    ck_assert_int_eq(enter(2, 8), ERR_OK);
    WENT(0, 2);
    uint64_t next = turnstile_turn(turnstile, 999999999);
    ck_assert_uint_gt(next, 999999999);
    nobody_went();
    (void)turnstile_turn(turnstile, next);
    WENT(0, 0, 1);
}
END_TEST

/* A master that is away: its slots' commands are held up to the bound; those
 * that passed before are taken back beyond it. */
START_TEST(test_the_held_are_bounded)
{
    static struct guest crowd[LIMIT + 1];
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    owner[7] = owner[9] = TURNSTILE_NOWHERE;
    for (int i = 0; i <= LIMIT; i++) {
        crowd[i] = (struct guest){.number = i, .ask = TURNSTILE_NOWHERE};
        crowd[i].passer.slot = i % 2 == 0 ? 7 : 9;
        ck_assert_int_eq(turnstile_enter(turnstile, &crowd[i].passer),
                         i < LIMIT ? ERR_OK : ERR_LIMIT);
    }
    again(0, 0);
    ck_assert_uint_eq(turnstile->held, LIMIT + 1);
    ck_assert_int_eq(enter(1, 8), ERR_OK); /* the others go on */
    gone_count = 0;
    owner[7] = owner[9] = 3;
    turnstile_look(turnstile);
    (void)turnstile_turn(turnstile, 5);
    ck_assert_int_eq(gone_count, LIMIT + 1);
    ck_assert_uint_eq(turnstile->held, 0);
    int last_even = -1, last_odd = -1;
    for (int i = 0; i < gone_count; i++) {
        int *last = gone[i] % 2 == 0 ? &last_even : &last_odd;
        ck_assert_int_ge(gone[i], *last);
        *last = gone[i];
    }
}
END_TEST

START_TEST(test_the_bytes_of_the_held_are_bounded)
{
    static const struct {
        size_t bytes;
        enum err e;
    } rows[] = {{5000, ERR_OK}, {1, ERR_LIMIT}};
    owner[7] = TURNSTILE_NOWHERE;
    for (int i = 0; i < 2; i++) {
        guests[i].passer.bytes = rows[i].bytes;
        ck_assert_int_eq(enter(i, 7), rows[i].e);
    }
    turnstile_drop(turnstile, &guests[0].passer);
    for (int i = 2; i < 5; i++) {
        guests[i].passer.bytes = 400;
        ck_assert_int_eq(enter(i, 7), i < 4 ? ERR_OK : ERR_LIMIT);
    }
    ck_assert_uint_eq(turnstile->held_bytes, 800);
}
END_TEST

START_TEST(test_the_unwanted_are_dropped)
{
    owner[7] = TURNSTILE_NOWHERE;
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    guests[0].unwanted = guests[2].unwanted = guests[5].unwanted = true;
    turnstile_look(turnstile);
    (void)turnstile_turn(turnstile, 1);
    ck_assert_int_eq(dropped, 3);
    ck_assert_uint_eq(turnstile->held, 3);
    owner[7] = 4;
    turnstile_look(turnstile);
    (void)turnstile_turn(turnstile, 2);
    WENT(4, 1, 3, 4);
    ck_assert_ptr_null(turnstile_any(turnstile));
}
END_TEST

START_TEST(test_loose_ones_count_for_nobody)
{
    guests[0].passer.loose = guests[1].passer.loose = true;
    ck_assert_int_eq(enter(0, TURNSTILE_KEYLESS), ERR_OK);
    owner[TURNSTILE_KEYLESS] = 2;
    ck_assert_int_eq(enter(1, TURNSTILE_KEYLESS), ERR_OK);
    ck_assert_int_eq(gone_count, 2);
    ck_assert_uint_eq(gone_to[1], 2);
    gone_count = 0;
    again(0, 0);
    (void)turnstile_turn(turnstile, 1);
    WENT(2, 0);
}
END_TEST

/* A replica that is away: reads wait for it, and nobody else does. */
START_TEST(test_loose_ones_hold_up_nobody)
{
    for (int i = 0; i < 4; i++)
        guests[i].passer.loose = guests[i].lost = true;
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    ck_assert_int_eq(enter(1, 7), ERR_OK);
    nobody_went();
    ck_assert_int_eq(enter(4, 7), ERR_OK);
    WENT(0, 4);
    /* One that has to go again, and who comes behind it, keep their order. */
    again(4, 0);
    ck_assert_int_eq(enter(2, 7), ERR_OK);
    ck_assert_int_eq(enter(5, 7), ERR_OK);
    nobody_went();
    (void)turnstile_turn(turnstile, 1);
    WENT(0, 4, 5);
    ck_assert_uint_eq(turnstile->held, 3);
    again(4, 2000000000);
    ck_assert_int_eq(enter(6, 7), ERR_OK);
    leave(5);
    guests[0].lost = guests[1].lost = guests[2].lost = false;
    turnstile_look(turnstile);
    (void)turnstile_turn(turnstile, 2);
    WENT(0, 0, 1); /* the third stands behind those that wait */
    turnstile_look(turnstile);
    (void)turnstile_turn(turnstile, 2000000000);
    WENT(0, 4, 2, 6);
    ck_assert_uint_eq(turnstile->held, 0);
    ck_assert_ptr_null(turnstile_any(turnstile));
}
END_TEST

/* One that can't be sent after all leaves no gate closed. */
START_TEST(test_one_that_does_not_go)
{
    go_fails = true;
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    go_fails = false;
    owner[7] = 1;
    ck_assert_int_eq(enter(1, 7), ERR_OK);
    ck_assert_int_eq(gone[1], 1);
    ck_assert_uint_eq(gone_to[1], 1);
}
END_TEST

/* A gate counts only so many: more are held until those are back. */
START_TEST(test_a_full_gate)
{
    ck_assert_int_eq(enter(0, 7), ERR_OK);
    WENT(0, 0);
    turnstile->gates[7].inside = GATE_INSIDE_MAX; /* as if by others */
    ck_assert_int_eq(enter(1, 7), ERR_OK);
    ck_assert_int_eq(enter(2, 7), ERR_OK);
    (void)turnstile_turn(turnstile, 1);
    nobody_went();
    ck_assert_uint_eq(turnstile->held, 2);
    ck_assert_uint_eq(turnstile->gates[7].inside, GATE_INSIDE_MAX);
    turnstile->gates[7].inside = 1;
    leave(0);
    (void)turnstile_turn(turnstile, 2);
    WENT(0, 1, 2);
}
END_TEST

#define CROWD 30011 /* a prime: each has a place of its own below */

/* One of a crowd, somewhere in memory, as errands are. */
static struct guest *one_of(char *crowd, int i)
{
    return (struct guest *)(void *)(crowd + (size_t)(i * 7919LL % CROWD) * 512);
}

/* All who have passed come back behind one another, nearly in order, while one
 * who came later is held: each finds its place without a walk past all, which
 * would take a minute. */
START_TEST(test_a_crowd_comes_back)
{
    char *crowd = calloc(CROWD, 512);
    ck_assert_ptr_nonnull(crowd);
    for (int i = 0; i < CROWD; i++) {
        struct guest *g = one_of(crowd, i);
        *g = (struct guest){.ask = TURNSTILE_NOWHERE};
        g->passer.slot = 7;
        if (i + 1 == CROWD)
            turnstile_again(turnstile, &one_of(crowd, 0)->passer, 0);
        ck_assert_int_eq(turnstile_enter(turnstile, &g->passer), ERR_OK);
        gone_count = 0;
    }
    clock_t begin = clock();
    for (int i = 0; i < CROWD - 3; i++)
        turnstile_again(turnstile, &one_of(crowd, (i ^ 1) + 1)->passer, 0);
    turnstile_again(turnstile, &one_of(crowd, CROWD - 2)->passer, 0);
    ck_assert_int_lt(clock() - begin, 5 * CLOCKS_PER_SEC);
    ck_assert_uint_eq(turnstile->held, CROWD);
    const struct passer *p = turnstile_any(turnstile);
    for (int i = 0; i < CROWD; i++, p = p->next)
        ck_assert_ptr_eq(p, one_of(crowd, i));
    ck_assert_ptr_eq(p, turnstile_any(turnstile));
    free(crowd);
}
END_TEST

/* Of three that passed the second is told to wait, and the third is executed:
 * then the second is told of it, and who came after that one is not. */
START_TEST(test_overtaken_ones_are_told)
{
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    gone_count = 0;
    guests[1].strict = guests[3].strict = true;
    again(1, 0);
    ck_assert_int_eq(enter(3, 7), ERR_OK);
    inside[0] = false;
    turnstile_executed(turnstile, &guests[0].passer);
    ck_assert_int_eq(dropped, 0); /* that one came first */
    inside[2] = false;
    turnstile_executed(turnstile, &guests[2].passer);
    ck_assert_int_eq(dropped, 1);
    ck_assert(!guests[1].passer.held);
    (void)turnstile_turn(turnstile, 1);
    WENT(0, 3);
}
END_TEST

/* One that may be told to wait again goes alone, the first time and each other
 * one, whoever has come meanwhile. */
START_TEST(test_who_wants_to_be_alone)
{
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(enter(i, 7), ERR_OK);
    gone_count = 0;
    guests[1].passer.alone = true;
    again(1, 0);
    ck_assert_int_eq(enter(3, 7), ERR_OK);
    leave(0);
    (void)turnstile_turn(turnstile, 1);
    ck_assert_int_eq(gone_count, 0); /* one is inside */
    leave(2);
    (void)turnstile_turn(turnstile, 2);
    WENT(0, 1);
    ck_assert_int_eq(enter(4, 7), ERR_OK);
    (void)turnstile_turn(turnstile, 3);
    ck_assert_int_eq(gone_count, 0);
    again(1, 0);
    (void)turnstile_turn(turnstile, 4);
    WENT(0, 1);
    leave(1);
    (void)turnstile_turn(turnstile, 5);
    WENT(0, 3, 4);
    /* Nobody is held, and it is alone all the same. */
    guests[5].passer.alone = true;
    ck_assert_int_eq(enter(5, 7), ERR_OK);
    ck_assert_int_eq(gone_count, 0);
    leave(3);
    leave(4);
    (void)turnstile_turn(turnstile, 6);
    WENT(0, 5);
    ck_assert_int_eq(enter(6, 7), ERR_OK);
    ck_assert_int_eq(gone_count, 0);
    leave(5);
    (void)turnstile_turn(turnstile, 7);
    WENT(0, 6);
}
END_TEST

/* Chance: four slots, three nodes, and everything that can happen to them; `go`
 * looks at the order. */
START_TEST(test_order_holds_by_chance)
{
    enum { ROUNDS = 20000, SLOTS_USED = 4 };
    unsigned seed = 12345U + (unsigned)_i;
    uint64_t now = 1;
    bool used[GUESTS] = {false};
    int answered = 0, redirected = 0;
    for (int round = 0; round < ROUNDS; round++, now += 1000000) {
        int i = rand_r(&seed) % GUESTS;
        int chance = rand_r(&seed) % 8;
        uint16_t slot = (uint16_t)(rand_r(&seed) % SLOTS_USED);
        if (!used[i]) {
            used[i] = true;
            if (enter(i, slot) != ERR_OK)
                ck_abort_msg("refused");
        }
        if (chance == 0)
            owner[slot] =
                (uint16_t)(round % 4 == 3 ? TURNSTILE_NOWHERE : round % 3);
        if (chance == 1)
            turnstile_look(turnstile);
        (void)turnstile_turn(turnstile, now);
        gone_count = 0;
        /* A node answers the oldest that it has. */
        int oldest = -1;
        for (int k = 0; k < GUESTS; k++)
            if (inside[k] && guests[k].passer.slot == slot &&
                (oldest < 0 ||
                 guests[k].passer.seq < guests[oldest].passer.seq))
                oldest = k;
        if (oldest < 0)
            continue;
        if (chance < 4) {
            guests[oldest].ask = chance == 2 ? 2 : TURNSTILE_NOWHERE;
            again(oldest, now + (uint64_t)(round % 3) * 1000000);
            redirected++;
        } else {
            leave(oldest);
            used[oldest] = false;
            answered++;
        }
    }
    ck_assert_int_gt(answered, ROUNDS / 20);
    ck_assert_int_gt(redirected, ROUNDS / 20);
    /* In the end all pass. */
    for (int s = 0; s < SLOTS_USED; s++)
        owner[s] = 0;
    for (int k = 0; k < 1000; k++, now += 20000000) {
        turnstile_look(turnstile);
        (void)turnstile_turn(turnstile, now);
        gone_count = 0;
        for (int g = 0; g < GUESTS; g++)
            if (inside[g])
                leave(g);
    }
    ck_assert_uint_eq(turnstile->held, 0);
    for (int s = 0; s < SLOTS_USED; s++)
        ck_assert_uint_eq(turnstile->gates[s].inside, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("turnstile");
    TCase *t = tcase_create("gates");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_all_pass_while_nothing_moves);
    tcase_add_test(t, test_redirected_ones_keep_their_places);
    tcase_add_test(t, test_new_owner_waits_for_the_old_one);
    tcase_add_test(t, test_rows_with_one_target);
    tcase_add_test(t, test_one_that_waits_holds_its_slot_only);
    tcase_add_test(t, test_the_held_are_bounded);
    tcase_add_test(t, test_the_bytes_of_the_held_are_bounded);
    tcase_add_test(t, test_the_unwanted_are_dropped);
    tcase_add_test(t, test_loose_ones_count_for_nobody);
    tcase_add_test(t, test_loose_ones_hold_up_nobody);
    tcase_add_test(t, test_one_that_does_not_go);
    tcase_add_test(t, test_a_full_gate);
    tcase_add_test(t, test_a_crowd_comes_back);
    tcase_add_test(t, test_overtaken_ones_are_told);
    tcase_add_test(t, test_who_wants_to_be_alone);
    tcase_add_loop_test(t, test_order_holds_by_chance, 0, 8);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return support_run(suite());
}
