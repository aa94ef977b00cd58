/* The counters, for people and for what watches the gateway. */
#include <stdio.h>
#include <string.h>

#include "ipc/version.h"
#include "workers/gateway/gateway.h"

struct row {
    const char *name;
    uint64_t value;
};

#define GATEWAY_COUNTER_ROW(name, help) {#name, k->name},
#define ROWS_MAX 64

static size_t rows_of(const struct gateway *g, struct row rows[ROWS_MAX])
{
    const struct counters *k = &g->counters;
    const struct row all[] = {{"clients", g->client_count},
                              {"inflight", g->inflight},
                              {"topics", g->topic_count},
                              {"buffered_bytes", g->buffered},
                              GATEWAY_COUNTERS(GATEWAY_COUNTER_ROW)};
    _Static_assert(sizeof(all) / sizeof(all[0]) <= ROWS_MAX, "room for all");
    memcpy(rows, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

const char *report_text(const struct gateway *g, size_t *len)
{
    static char text[4096];
    struct row rows[ROWS_MAX];
    size_t count = rows_of(g, rows);
    int n = snprintf(text, sizeof(text), "# Gateway\r\nversion:%s\r\n",
                     PROJECT_VERSION);
    for (size_t i = 0; i < count && (size_t)n < sizeof(text); i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s:%llu\r\n",
                      rows[i].name, (unsigned long long)rows[i].value);
    *len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    return text;
}

void report_line(const struct gateway *g)
{
    char line[1024] = "";
    struct row rows[ROWS_MAX];
    size_t count = rows_of(g, rows);
    int n = 0;
    for (size_t i = 0; i < count && (size_t)n < sizeof(line); i++) {
        if (rows[i].value > 0)
            n += snprintf(line + n, sizeof(line) - (size_t)n, "%s%s=%llu",
                          n > 0 ? " " : "", rows[i].name,
                          (unsigned long long)rows[i].value);
    }
    if (n > 0)
        gateway_say("%s", line);
}
