/* The Node binding: its cases are in JavaScript, run with the node that is
 * installed; koffi is where tools/setup puts it. */
#include <stdlib.h>

#include "tests/script.h"
#include "tests/support_run.h"

/* By env, for build/node is a folder. */
static const struct script node = {
    .name = "bindings_node",
    .argv = {"env", "node", "workers/bindings/node/test/cases.js"},
    .needs = "there is no node (Debian: nodejs)",
    .loads_library = true,
    .manager = "--resp 3 --dedicated-connections 100",
};

int main(void)
{
    Suite *s = suite_create("bindings_node");
    setenv("NODE_PATH", "build/node/node_modules", 0);
    script_add(s, &node);
    return support_run(s);
}
