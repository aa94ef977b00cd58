/* mqredis-manager: parses its options, becomes the manager, serves. */
#include <stdio.h>
#include <sysexits.h>

#include "manager/check.h"
#include "manager/log.h"
#include "manager/manager.h"
#include "manager/options.h"

int main(int argc, char **argv)
{
    struct options options;
    struct err_text why = {""};
    enum options_verdict verdict;
    log_init("mqredis-manager", LOG_LEVEL_INFO);
    if (options_parse(&options, argc, argv, &verdict, &why) != ERR_OK) {
        log_error("%s", why.text);
        return EX_USAGE;
    }
    int status = 0;
    if (verdict == OPTIONS_RUN && options.check_config) {
        status = check_config(&options);
    } else if (verdict == OPTIONS_RUN) {
        log_set_level(options.log_level);
        struct manager manager;
        bool again;
        do {
            again = false;
            if (manager_start(&manager, &options, &status, &why) == ERR_OK)
                status = manager_run(&manager, &again);
            else
                log_error("%s", why.text);
        } while (again);
    }
    options_release(&options);
    return status;
}
