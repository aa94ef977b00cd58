/*
 * mqredis-gateway: Redis clients of any language, through the connection that
 * this host shares. It speaks their protocol and keeps what belongs to a
 * connection; everything else is libmqredis's asynchronous calls.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "ipc/version.h"
#include "workers/gateway/gateway.h"

static int exit_code_of(enum err e)
{
    if (e == ERR_OK)
        return 0;
    if (e == ERR_INVALID)
        return EX_USAGE;
    return e == ERR_BUSY ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

int main(int argc, char **argv)
{
    static struct options o;
    static struct gateway g;
    struct err_text why = {.text = ""};
    enum err e = options_parse(&o, argc, argv, &why);
    if (e == ERR_OK && (o.help || o.version)) {
        if (o.help)
            options_help();
        else
            puts("mqredis-gateway " PROJECT_VERSION);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (e == ERR_OK) {
        e = gateway_init(&g, &o, &why);
        if (e == ERR_OK)
            e = gateway_run(&g, &why);
        gateway_release(&g);
    }
    if (e != ERR_OK)
        fprintf(stderr, "mqredis-gateway: %s\n",
                why.text[0] != '\0' ? why.text : strerror(errno));
    return exit_code_of(e);
}
