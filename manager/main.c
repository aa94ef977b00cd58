/* mqredis-manager: parses its options, becomes the manager, serves. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "manager/check.h"
#include "manager/log.h"
#include "manager/manager.h"
#include "manager/options.h"

/* From here on a block is mapped, and unmapped when it is freed. Left alone,
 * malloc moves this bound up with each large block, until the backlog of a
 * burst stays in the heap for good. */
#define MAP_FROM (128 * 1024)

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, MAP_FROM);
    struct options options;
    struct err_text why = {""};
    enum options_verdict verdict;
    log_init("mqredis-manager", LOG_LEVEL_INFO);
    /* So that the next resolver is asked within --connect-timeout: the usual
     * ten seconds and more for each are too long. */
    setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
    enum err e = options_parse(&options, argc, argv, &verdict, &why);
    if (e != ERR_OK) {
        log_error("%s", why.text);
        return e == ERR_NOMEM ? EX_OSERR
               : e == ERR_SYS ? EX_CONFIG /* a file that is named */
                              : EX_USAGE;
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
