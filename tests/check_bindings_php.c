/* The PHP binding: its cases are in PHP, run with the php that is installed. */
#include "tests/script.h"
#include "tests/support_run.h"

static const struct script php = {
    .name = "bindings_php",
    .argv = {"php", "-d", "zend.assertions=1",
             "workers/bindings/php/tests/cases.php"},
    .needs = "there is no php (Debian: php-cli)",
    .loads_library = true,
    .manager = "--resp 3",
};

int main(void)
{
    Suite *s = suite_create("bindings_php");
    script_add(s, &php);
    return support_run(s);
}
