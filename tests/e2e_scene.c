/* A Redis, a manager and a requester. */
#include "tests/e2e_scene.h"

#include <check.h>

#include "tests/support.h"

struct e2e_redis redis;
struct e2e_manager manager;
struct e2e_client client;
struct e2e_call call;

void scene_begin(int kind, const char *options)
{
    e2e_start(&redis, &manager, kind, options);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
}

void scene_balanced(void)
{
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
}

void scene_end(void)
{
    e2e_forget(&client, &call);
    e2e_client_close(&client);
    scene_balanced();
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_payload_bytes) == 0));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
