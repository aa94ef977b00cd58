/* Options as rows of a table. */
#include "ipc/rows.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

enum err rows_number(const char *name, const char *value, bool unit,
                     uint64_t low, uint64_t high, uint64_t *number,
                     struct err_text *why)
{
    static const char units[] = "kmg";
    char *end;
    errno = 0;
    assert(value != NULL); /* only a flag has none */
    unsigned long long n = strtoull(value, &end, 10);
    bool ok = value[0] >= '0' && value[0] <= '9' && errno == 0;
    if (ok && unit && *end != '\0') {
        const char *u = strchr(units, *end | 0x20);
        unsigned shift = u != NULL ? 10U * ((unsigned)(u - units) + 1) : 0;
        ok = u != NULL && n <= (UINT64_MAX >> shift);
        n <<= shift;
        end++;
    }
    if (!ok || *end != '\0' || n < low || n > high)
        return err_say(why, ERR_INVALID,
                       "--%s '%.40s': a number from %" PRIu64 " to %" PRIu64
                       "%s is expected",
                       name, value, low, high,
                       unit ? " (k, m and g are known)" : "");
    *number = n;
    return ERR_OK;
}

enum err rows_group(const char *value, gid_t *group, struct err_text *why)
{
    const struct group *g = getgrnam(value);
    uint64_t gid = 0;
    if (g != NULL)
        gid = g->gr_gid;
    else if (rows_number("group", value, false, 0, UINT32_MAX - 1, &gid, why) !=
             ERR_OK)
        return err_say(why, ERR_INVALID, "--group '%.64s': no such group",
                       value);
    *group = (gid_t)gid;
    return ERR_OK;
}

static enum err store(struct options *o, const struct option_row *row,
                      char *value, struct err_text *why)
{
    char *at = (char *)o + row->offset;
    bool unit = row->kind == KIND_SIZE || row->kind == KIND_BYTES;
    uint64_t n = 0;
    enum err e = ERR_OK;
    switch (row->kind) {
    case KIND_TEXT:
        memcpy(at, &value, sizeof(value));
        break;
    case KIND_FLAG:
    case KIND_LAST: {
        bool yes = true;
        memcpy(at, &yes, sizeof(yes));
        break;
    }
    case KIND_COUNT:
    case KIND_MS:
    case KIND_SIZE:
    case KIND_BYTES:
        e = rows_number(row->name, value, unit, row->low, row->high, &n, why);
        if (e == ERR_OK && row->kind == KIND_BYTES) {
            memcpy(at, &n, sizeof(n));
        } else if (e == ERR_OK) {
            uint32_t narrow = (uint32_t)n;
            memcpy(at, &narrow, sizeof(narrow));
        }
        break;
    case KIND_CALL:
        e = row->call(o, value, why);
        break;
    }
    return e;
}

/* ---- the command line ---- */

static const char *long_name(const char *arg)
{
    if (strcmp(arg, "-h") == 0)
        return "--help";
    if (strcmp(arg, "-V") == 0)
        return "--version";
    if (strcmp(arg, "-c") == 0)
        return "--channel";
    return arg;
}

/* The row for `--name` or `--name=value`; *value is NULL without `=`. */
static const struct option_row *find_row(const struct option_rows *t, char *arg,
                                         char **value)
{
    const char *name = long_name(arg);
    *value = NULL;
    if (strncmp(name, "--", 2) != 0)
        return NULL;
    name += 2;
    size_t len = strcspn(name, "=");
    for (size_t i = 0; i < t->count; i++) {
        if (strlen(t->rows[i].name) != len ||
            memcmp(t->rows[i].name, name, len) != 0)
            continue;
        if (name[len] == '=')
            *value = arg + 2 + len + 1;
        return &t->rows[i];
    }
    return NULL;
}

enum err rows_parse(const struct option_rows *t, struct options *o, int argc,
                    char **argv, struct err_text *why)
{
    for (int i = 1; i < argc; i++) {
        char *value;
        const struct option_row *row = find_row(t, argv[i], &value);
        if (row == NULL)
            return err_say(why, ERR_INVALID,
                           "unknown option '%.60s': see %s --help", argv[i],
                           t->program);
        if (row->value == NULL && value != NULL)
            return err_say(why, ERR_INVALID, "--%s takes no value", row->name);
        if (row->value != NULL && value == NULL) {
            if (i + 1 == argc)
                return err_say(why, ERR_INVALID, "--%s needs a value: %s",
                               row->name, row->value);
            value = argv[++i];
        }
        enum err e = store(o, row, value, why);
        if (e != ERR_OK || row->kind == KIND_LAST)
            return e;
    }
    return ERR_OK;
}

void rows_help(const struct option_rows *t)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct option_row *row = &t->rows[i];
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", row->name,
                 row->value != NULL ? " " : "",
                 row->value != NULL ? row->value : "");
        printf("  %-*s %s\n", t->width, left, row->help);
    }
}
