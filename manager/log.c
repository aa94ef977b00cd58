/* One line an event, cut rather than split, in one write(2) each, so that
 * lines of several processes on one descriptor do not mix. */
#include "manager/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/printable.h"

#define LINE_MAX_BYTES 1024
#define LIMIT_WINDOW_NS (10 * NS_PER_S)

static struct {
    const char *name;
    enum log_level level;
    bool journal;
} log_state = {.name = "mqredis", .level = LOG_LEVEL_INFO};

/* $JOURNAL_STREAM names the descriptor that leads to the journal by its device
 * and inode: a log that was sent elsewhere is not one, see systemd.exec(5). */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    if (stream == NULL || fstat(fd, &st) < 0)
        return false;
    char *end;
    unsigned long long dev = strtoull(stream, &end, 10);
    if (end == stream || *end != ':')
        return false;
    stream = end + 1;
    unsigned long long ino = strtoull(stream, &end, 10);
    return end != stream && *end == '\0' && st.st_dev == dev &&
           st.st_ino == ino;
}

void log_init(const char *name, enum log_level level)
{
    log_state.name = name;
    log_state.level = level;
    log_state.journal = is_journal(STDERR_FILENO);
}

enum err log_level_parse(const char *text, enum log_level *level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *level = (enum log_level)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

void log_set_level(enum log_level level)
{
    log_state.level = level;
}

static void PRINTF_LIKE(2, 0)
    log_line(enum log_level level, const char *fmt, va_list ap)
{
    /* sd-daemon(3): <3> error, <4> warning, <6> info, <7> debug. */
    static const char priority[] = {'3', '4', '6', '7'};
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    if (level > log_state.level)
        return;
    char line[LINE_MAX_BYTES];
    int n = log_state.journal
                ? snprintf(line, sizeof(line), "<%c>", priority[level])
                : snprintf(line, sizeof(line), "%s: %s", log_state.name,
                           prefix[level]);
    size_t used = n < 0 ? 0 : (size_t)n;
    n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
    used += n < 0 ? 0 : (size_t)n;
    if (used > sizeof(line) - 2)
        used = sizeof(line) - 2;
    /* A server's error may be in it: nothing for the terminal to obey. */
    printable_only(line, used);
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored; /* nowhere left to say it */
}

#define LOG_FUNCTION(name, level)                                              \
    void name(const char *fmt, ...)                                            \
    {                                                                          \
        va_list ap;                                                            \
        va_start(ap, fmt);                                                     \
        log_line(level, fmt, ap);                                              \
        va_end(ap);                                                            \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

bool log_limit_pass(struct log_limit *limit, unsigned burst)
{
    uint64_t now = clock_ns();
    if (limit->window_start_ns == 0 ||
        now - limit->window_start_ns > LIMIT_WINDOW_NS) {
        if (limit->held_back > 0)
            log_info("%u lines like the next one were held back",
                     limit->held_back);
        limit->window_start_ns = now;
        limit->shown = 0;
        limit->held_back = 0;
    }
    if (limit->shown < burst) {
        limit->shown++;
        return true;
    }
    limit->held_back++;
    return false;
}
