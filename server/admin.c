/* INFO, TIME, DEBUG SLEEP, SHUTDOWN. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/reply.h"

/* ---- INFO ---- */

struct report {
    struct server *s;
    struct buffer text;
};

PRINTF_LIKE(2, 3)
static void line(struct report *r, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    buffer_append(&r->text, &r->s->mem, text, len);
    buffer_append(&r->text, &r->s->mem, "\r\n", 2);
}

static void human(char *out, size_t size, uint64_t bytes)
{
    static const char *const units[] = {"B", "K", "M", "G", "T"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1024 && unit < 4) {
        n /= 1024;
        unit++;
    }
    snprintf(out, size, unit == 0 ? "%.0f%s" : "%.2f%s", n, units[unit]);
}

static void report_server(struct report *r)
{
    struct server *s = r->s;
    int64_t uptime_s = (s->loop_ms - s->started_ms) / 1000;
    line(r, "redis_version:%s", SERVER_REDIS_VERSION);
    line(r, "mqredis_version:%s", SERVER_VERSION);
    line(r, "redis_mode:standalone");
    line(r, "arch_bits:%zu", sizeof(void *) * 8);
    line(r, "multiplexing_api:epoll");
    line(r, "process_id:%ld", (long)getpid());
    line(r, "run_id:%s", s->run_id);
    line(r, "tcp_port:%d", server_port(s));
    line(r, "server_time_usec:%" PRId64, server_now_ms(s) * 1000);
    line(r, "uptime_in_seconds:%" PRId64, uptime_s);
    line(r, "uptime_in_days:%" PRId64, uptime_s / 86400);
    line(r, "hz:%d", SERVER_CYCLES_PER_S);
}

static void report_clients(struct report *r)
{
    struct server *s = r->s;
    size_t in = 0, out = 0;
    for (const struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (buffer_len(&c->in) > in)
            in = buffer_len(&c->in);
        if (buffer_len(&c->out) > out)
            out = buffer_len(&c->out);
    }
    line(r, "connected_clients:%zu", s->client_count);
    line(r, "maxclients:%zu", s->options.max_clients);
    line(r, "client_recent_max_input_buffer:%zu", in);
    line(r, "client_recent_max_output_buffer:%zu", out);
    line(r, "blocked_clients:%zu", s->blocked_count);
}

/* What the kernel says this process has in memory. */
static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void report_memory(struct report *r)
{
    struct server *s = r->s;
    char text[32];
    size_t resident = resident_bytes();
    human(text, sizeof(text), s->mem.used);
    line(r, "used_memory:%zu", s->mem.used);
    line(r, "used_memory_human:%s", text);
    human(text, sizeof(text), resident);
    line(r, "used_memory_rss:%zu", resident);
    line(r, "used_memory_rss_human:%s", text);
    human(text, sizeof(text), s->mem.peak);
    line(r, "used_memory_peak:%zu", s->mem.peak);
    line(r, "used_memory_peak_human:%s", text);
    human(text, sizeof(text), s->options.max_memory);
    line(r, "maxmemory:%" PRIu64, s->options.max_memory);
    line(r, "maxmemory_human:%s", text);
    line(r, "maxmemory_policy:noeviction");
    line(r, "mem_fragmentation_ratio:%.2f",
         (double)resident / (double)s->mem.used);
    line(r, "mem_allocator:libc");
}

static void report_persistence(struct report *r)
{
    line(r, "loading:0");
    line(r, "rdb_bgsave_in_progress:0");
    line(r, "aof_enabled:0");
}

static void report_stats(struct report *r)
{
    const struct stats *t = &r->s->stats;
    line(r, "total_connections_received:%" PRIu64, t->connections);
    line(r, "total_commands_processed:%" PRIu64, t->commands);
    line(r, "total_net_input_bytes:%" PRIu64, t->bytes_in);
    line(r, "total_net_output_bytes:%" PRIu64, t->bytes_out);
    line(r, "rejected_connections:0");
    line(r, "accept_failures:%" PRIu64, t->accept_failures);
    line(r, "client_query_buffer_limit_disconnections:%" PRIu64,
         t->query_limit_drops);
    line(r, "client_output_buffer_limit_disconnections:%" PRIu64,
         t->output_limit_drops);
    line(r, "expired_keys:%" PRIu64, t->expired);
    line(r, "expired_time_cap_reached_count:%" PRIu64, t->expire_cycles_cut);
    line(r, "evicted_keys:0");
    line(r, "keyspace_hits:%" PRIu64, t->hits);
    line(r, "keyspace_misses:%" PRIu64, t->misses);
    line(r, "pubsub_channels:%zu", r->s->channels.count);
    line(r, "pubsub_patterns:%zu", r->s->patterns.count);
    line(r, "total_error_replies:%" PRIu64, t->errors);
}

static void report_replication(struct report *r)
{
    line(r, "role:master");
    line(r, "connected_slaves:0");
}

static void report_cpu(struct report *r)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return;
    line(r, "used_cpu_sys:%ld.%06ld", (long)u.ru_stime.tv_sec,
         (long)u.ru_stime.tv_usec);
    line(r, "used_cpu_user:%ld.%06ld", (long)u.ru_utime.tv_sec,
         (long)u.ru_utime.tv_usec);
}

static void report_cluster(struct report *r)
{
    line(r, "cluster_enabled:0");
}

static void report_keyspace(struct report *r)
{
    for (int i = 0; i < OPTIONS_DATABASES; i++) {
        const struct db *db = &r->s->dbs[i];
        if (db->keys.count > 0)
            line(r, "db%d:keys=%zu,expires=%u,avg_ttl=0", i, db->keys.count,
                 db->deadlines.count);
    }
}

static const struct section {
    const char *name, *title;
    void (*report)(struct report *r);
} sections[] = {
    {"server", "Server", report_server},
    {"clients", "Clients", report_clients},
    {"memory", "Memory", report_memory},
    {"persistence", "Persistence", report_persistence},
    {"stats", "Stats", report_stats},
    {"replication", "Replication", report_replication},
    {"cpu", "CPU", report_cpu},
    {"cluster", "Cluster", report_cluster},
    {"keyspace", "Keyspace", report_keyspace},
};

static bool section_wanted(const struct client *c, const char *name)
{
    for (size_t i = 1; i < c->argc; i++)
        if (arg_is(&c->argv[i], name) || arg_is(&c->argv[i], "all") ||
            arg_is(&c->argv[i], "everything") || arg_is(&c->argv[i], "default"))
            return true;
    return c->argc == 1;
}

void info_command(struct server *s, struct client *c)
{
    struct report r = {.s = s};
    bool first = true;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!section_wanted(c, sections[i].name))
            continue;
        if (!first)
            line(&r, "%s", "");
        first = false;
        line(&r, "# %s", sections[i].title);
        sections[i].report(&r);
    }
    reply_verbatim(s, c, buffer_head(&r.text), buffer_len(&r.text));
    buffer_release(&r.text, &s->mem);
}

/* ---- the others ---- */

void time_command(struct server *s, struct client *c)
{
    struct timespec t;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &t);
    reply_array(s, c, 2);
    snprintf(text, sizeof(text), "%lld", (long long)t.tv_sec);
    reply_text(s, c, text);
    snprintf(text, sizeof(text), "%ld", t.tv_nsec / 1000);
    reply_text(s, c, text);
}

/* DEBUG SLEEP holds everybody up: that is what tests want it for. */
void debug_command(struct server *s, struct client *c)
{
    if (!arg_is(&c->argv[1], "SLEEP") || c->argc != 3) {
        reply_subcommand_error(s, c);
        return;
    }
    char text[64];
    size_t len =
        c->argv[2].len < sizeof(text) - 1 ? c->argv[2].len : sizeof(text) - 1;
    memcpy(text, c->argv[2].data, len);
    text[len] = '\0';
    double seconds = strtod(text, NULL);
    if (seconds > 0 && seconds < 1e9) {
        struct timespec t = {.tv_sec = (time_t)seconds};
        t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
        while (nanosleep(&t, &t) != 0 && errno == EINTR)
            ;
    }
    reply_ok(s, c);
}

/* There is nothing to save, so SAVE and NOSAVE are the same. */
void shutdown_command(struct server *s, struct client *c)
{
    bool save = false, no_save = false, abort = false, other = false;
    for (size_t i = 1; i < c->argc; i++) {
        if (arg_is(&c->argv[i], "SAVE"))
            save = true;
        else if (arg_is(&c->argv[i], "NOSAVE"))
            no_save = true;
        else if (arg_is(&c->argv[i], "ABORT"))
            abort = true;
        else if (arg_is(&c->argv[i], "NOW") || arg_is(&c->argv[i], "FORCE"))
            other = true;
        else {
            reply_syntax_error(s, c);
            return;
        }
    }
    if ((save && no_save) || (abort && (save || no_save || other))) {
        reply_syntax_error(s, c);
        return;
    }
    if (abort) {
        reply_error(s, c, "No shutdown in progress.");
        return;
    }
    server_stop(s);
}
