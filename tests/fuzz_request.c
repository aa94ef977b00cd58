/*
 * A message of commands: what resp_request accepts is canonical (encoded again
 * it is the same bytes), and framed in the same way by the scanner.
 */
#include "ipc/resp.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARGS 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void require_framed(const char *data, size_t len)
{
    struct resp_scan s;
    size_t used;
    resp_scan_reset(&s);
    require(resp_scan(&s, data, len, &used) == ERR_OK);
    require(used == len && s.type == '*');
}

/* Takes one command off `r`. Returns false at the end of what can be judged:
 * the end of the message, a refusal, or more arguments than we hold. */
static bool take_command(struct resp_request *r, const char *end)
{
    static struct resp_arg argv[ARGS];
    const char *begin = r->pos;
    uint32_t argc;
    enum err e = resp_request_command(r, &argc);
    if (e != ERR_OK) {
        require(e == ERR_PROTO || (e == ERR_CLOSED && r->pos == end));
        return false;
    }
    require(argc >= 1 && argc <= RESP_ARGS_MAX);
    if (argc > ARGS)
        return false;
    bool large = false;
    for (uint32_t i = 0; i < argc; i++) {
        e = resp_request_arg(r, &argv[i]);
        if (e != ERR_OK) {
            require(e == ERR_PROTO);
            return false;
        }
        require(argv[i].len <= RESP_BULK_MAX);
        if (argv[i].data == NULL) {
            require(argv[i].len > 0);
            large = true;
        } else {
            require(argv[i].data >= begin && argv[i].data < end &&
                    argv[i].len <= (size_t)(end - argv[i].data));
        }
    }
    size_t len = (size_t)(r->pos - begin);
    require(r->pos <= end && resp_command_size(argc, argv) == len);
    char *again = malloc(len);
    require(again != NULL);
    require(resp_put_command(again, argc, argv) == len);
    require(memcmp(again, begin, len) == 0);
    free(again);
    if (!large)
        require_framed(begin, len);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct resp_request r;
    const char *text = (const char *)data;
    resp_request_init(&r, text, size);
    while (take_command(&r, text + size))
        ;
    return 0;
}
