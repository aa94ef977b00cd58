/* Any line: no byte outside it is touched, every argument lies in it, and what
 * is quoted again splits into the same arguments. */
#include "ipc/quote.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARGS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the arguments in double quotes, every byte as \xHH. */
static size_t requote(char *out, const struct resp_arg *argv, size_t argc)
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (size_t i = 0; i < argc; i++) {
        *p++ = '"';
        for (size_t j = 0; j < argv[i].len; j++) {
            unsigned char c = (unsigned char)argv[i].data[j];
            *p++ = '\\';
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
        *p++ = '"';
        *p++ = ' ';
    }
    return (size_t)(p - out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096)
        return 0;
    char *line = malloc(size + 1);
    char *again = malloc(size * 4 + ARGS * 3 + 1);
    if (line == NULL || again == NULL)
        abort();
    if (size > 0)
        memcpy(line, data, size);
    struct resp_arg argv[ARGS], argv2[ARGS];
    size_t argc, argc2;
    if (quote_split(line, size, argv, ARGS, &argc) == ERR_OK) {
        for (size_t i = 0; i < argc; i++) {
            if (argv[i].data < line || argv[i].data + argv[i].len > line + size)
                abort();
        }
        size_t len = requote(again, argv, argc);
        if (quote_split(again, len, argv2, ARGS, &argc2) != ERR_OK ||
            argc2 != argc)
            abort();
        for (size_t i = 0; i < argc; i++) {
            if (argv[i].len != argv2[i].len ||
                memcmp(argv[i].data, argv2[i].data, argv[i].len) != 0)
                abort();
        }
    }
    free(again);
    free(line);
    return 0;
}
