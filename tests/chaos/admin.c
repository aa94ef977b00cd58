/* One deed after the other, each begun and ended while the office is held. */
#include "tests/chaos/admin.h"

#include <stdio.h>
#include <string.h>

#include "tests/chaos/dice.h"
#include "tests/support.h"

struct admin {
    const struct admin_task *task;
    struct admin_office *office;
    const struct redis_cluster *cluster;
    struct dice dice;
};

bool admin_take(struct admin_office *office, enum admin_holder who)
{
    int nobody = HOLDER_NOBODY;
    return atomic_compare_exchange_strong(&office->holder, &nobody, (int)who);
}

void admin_give(struct admin_office *office)
{
    atomic_store(&office->holder, HOLDER_NOBODY);
}

static void take(struct admin *a)
{
    while (!admin_take(a->office, HOLDER_ADMIN))
        support_sleep_ms(3);
}

/* Lets the harness kill a node meanwhile. */
static void pause_ms(struct admin *a, int ms)
{
    admin_give(a->office);
    support_sleep_ms(ms);
    take(a);
}

/* The slot of a key that some worker uses, often of one by which the order of
 * commands shows. There is one at least. */
static unsigned pick_slot(struct admin *a)
{
    static const char *const names[] = {
        "log:{w%u}", "log:{w%u}", "log:{w%u}",    "text:w%u",  "count:w%u",
        "value:w%u", "big:w%u",   "queue:w%u",    "queue:w%u", "news:w%u",
        "{two:w%u}", "{two:w%u}", "spread:w%u:2",
    };
    char key[48];
    unsigned seat = dice_below(&a->dice, a->office->workers);
    unsigned id = a->office->worker[seat];
    const char *name =
        names[dice_below(&a->dice, sizeof(names) / sizeof(names[0]))];
    const char *at = strstr(name, "%u");
    snprintf(key, sizeof(key), "%.*s%u%s", (int)(at - name), name, id, at + 2);
    return redis_cluster_slot(key);
}

/* ---- deeds ---- */

/* Whoever is connected to the node, but not its peers. Between two MIGRATE: one
 * that breaks off leaves keys on both sides. */
static void cut_clients(struct admin *a)
{
    int node = (int)dice_below(&a->dice, (unsigned)a->cluster->masters);
    redis_cluster_ask(a->cluster, node, "CLIENT KILL TYPE normal");
    redis_cluster_ask(a->cluster, node, "CLIENT KILL TYPE pubsub");
    a->office->cuts++;
}

/* A slot goes somewhere else: mostly as fast as it can, sometimes key by key
 * with pauses, so that commands find it half moved, and a node that is killed
 * comes back into the middle of it. */
static void move(struct admin *a)
{
    unsigned slot = pick_slot(a);
    int from = a->office->owner[slot];
    int to = (from + 1 + (int)dice_below(&a->dice, 2)) % a->cluster->masters;
    bool slow = dice_chance(&a->dice, 40);
    redis_cluster_move_begin(a->cluster, slot, from, to);
    for (int n = 1; n > 0; a->office->keys += (unsigned)n) {
        if (slow)
            pause_ms(a, dice_between(&a->dice, 0, 60));
        if (slow && dice_chance(&a->dice, 10))
            cut_clients(a);
        n = redis_cluster_move_keys(a->cluster, slot, from, to, slow ? 1 : 10);
    }
    redis_cluster_move_end(a->cluster, slot, from, to);
    a->office->owner[slot] = to;
    a->office->moves++;
}

/* For a moment the slot's owner says CLUSTERDOWN. Its keys stay. */
static void take_away(struct admin *a)
{
    unsigned slot = pick_slot(a);
    int owner = a->office->owner[slot];
    redis_cluster_order(a->cluster, owner, "CLUSTER DELSLOTS %u", slot);
    support_sleep_ms(dice_between(&a->dice, 1, 300));
    redis_cluster_order(a->cluster, owner, "CLUSTER ADDSLOTS %u", slot);
    a->office->aways++;
}

void admin_live(const struct admin_task *task)
{
    struct admin a = {.task = task,
                      .office = task->office,
                      .cluster = task->cluster,
                      .dice = {task->seed}};
    while (!a.office->closing) {
        support_sleep_ms(dice_between(&a.dice, 1, task->gentle ? 400 : 80));
        if (a.office->workers == 0)
            continue;
        unsigned roll = dice_below(&a.dice, 100);
        take(&a);
        if (roll < 75)
            move(&a);
        else if (roll < 83)
            cut_clients(&a);
        else
            take_away(&a);
        admin_give(a.office);
    }
}
