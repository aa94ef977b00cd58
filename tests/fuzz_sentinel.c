/* Any bytes as what a sentinel, or a master that is asked for its role, says:
 * nothing is read beyond them, and a place that comes out of it is one. */
#include "manager/sentinel_reply.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_place(const struct uri_place *place)
{
    char shown[URI_PLACE_TEXT];
    if (place->port == 0 || place->host[0] == '\0')
        abort();
    uri_place_show(place, shown);
    for (const char *p = shown; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct uri_place place, places[3];
    struct sentinel_said said;
    uint32_t count;
    char role[8];
    if (sentinel_read_master(text, size, &place) == ERR_OK)
        check_place(&place);
    if (sentinel_read_others(text, size, places, 3, &count) == ERR_OK) {
        if (count > 3)
            abort();
        for (uint32_t i = 0; i < count; i++)
            check_place(&places[i]);
    }
    if (sentinel_read_switch(text, size, "m", &place) == ERR_OK)
        check_place(&place);
    if (sentinel_read_word(text, size, &said) == ERR_OK &&
        said.word == SENTINEL_WORD_EVENT)
        (void)sentinel_mentions(said.text, said.text_len, "m");
    if (sentinel_read_role(text, size, role, sizeof(role)) == ERR_OK &&
        strlen(role) >= sizeof(role))
        abort();
    return 0;
}
