/* Any text as a URI: it is refused, with a line that repeats none of it, or
 * what is shown of it reads as the same place again. */
#include "manager/uri.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_shown(const struct uri *uri)
{
    char shown[16384]; /* each byte of 16 hosts may be shown as three */
    struct uri again;
    struct err_text why = {""};
    uri_show(uri, shown, sizeof(shown));
    if (uri_parse(&again, shown, &why) != ERR_OK)
        abort();
    if (strcmp(uri->host, again.host) != 0 ||
        strcmp(uri->user, again.user) != 0 || again.password[0] != '\0' ||
        uri->port != again.port || uri->db != again.db ||
        uri->tls != again.tls || uri->is_unix != again.is_unix ||
        strcmp(uri->master, again.master) != 0 ||
        uri->sentinel_count != again.sentinel_count)
        abort();
    for (uint32_t i = 0; i < uri->sentinel_count; i++)
        if (!uri_place_same(&uri->sentinels[i], &again.sentinels[i]))
            abort();
    for (const char *p = shown; *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    struct uri uri;
    struct err_text why = {""};
    if (uri_parse(&uri, text, &why) == ERR_OK)
        check_shown(&uri);
    else if (why.text[0] == '\0' || strpbrk(why.text, "\r\n") != NULL)
        abort();
    free(text);
    return 0;
}
