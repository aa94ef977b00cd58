/* On what it was measured: figures mean little without it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "tools/bench/bench.h"

#ifdef HAVE_HIREDIS
#include <hiredis/hiredis.h>
#endif

/* Copies what follows `after` in the first line of a stream that has it. */
static void find_in(FILE *f, const char *after, char *out, size_t size)
{
    char line[512];
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        char *at = strstr(line, after);
        if (at == NULL)
            continue;
        at += strlen(after);
        at += strspn(at, " \t:");
        snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
        return;
    }
}

static void version_of(const char *program, const char *after, char *out,
                       size_t size)
{
    char command[PATH_MAX + 32];
    const char *path = find_program(program);
    if (path == NULL)
        return;
    snprintf(command, sizeof(command), "'%s' --version 2>&1", path);
    /* NOLINTNEXTLINE(cert-env33-c): a path from PATH, in quotes. */
    FILE *f = popen(command, "re");
    find_in(f, after, out, size);
    if (f != NULL)
        pclose(f);
    out[strcspn(out, " ")] = '\0';
}

static void read_file(const char *path, const char *after, char *out,
                      size_t size)
{
    FILE *f = fopen(path, "re");
    find_in(f, after, out, size);
    if (f != NULL)
        fclose(f);
}

void machine_read(struct machine *m)
{
    struct utsname u;
    char number[64] = "";
    time_t now = time(NULL);
    struct tm tm;
    *m = (struct machine){0};
    if (uname(&u) == 0)
        snprintf(m->kernel, sizeof(m->kernel), "%s", u.release);
    snprintf(m->cpu, sizeof(m->cpu), "unknown");
    read_file("/proc/cpuinfo", "model name", m->cpu, sizeof(m->cpu));
    read_file("/proc/meminfo", "MemTotal", number, sizeof(number));
    m->memory_mib = strtoull(number, NULL, 10) / 1024;
    read_file("/proc/sys/fs/mqueue/msg_max", "", number, sizeof(number));
    m->msg_max = strtol(number, NULL, 10);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    m->cpus = cpus > 0 ? (unsigned)cpus : 0;
    version_of("redis-server", "v=", m->redis, sizeof(m->redis));
    version_of("nutcracker", "This is ", m->proxy, sizeof(m->proxy));
#ifdef HAVE_HIREDIS
    snprintf(m->hiredis, sizeof(m->hiredis), "%d.%d.%d", HIREDIS_MAJOR,
             HIREDIS_MINOR, HIREDIS_PATCH);
#endif
    if (gmtime_r(&now, &tm) != NULL)
        strftime(m->date, sizeof(m->date), "%Y-%m-%d", &tm);
}
