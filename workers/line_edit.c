/*
 * Lines edited with libedit: history in ~/.mqredis_history, completion of
 * command names. Linked into mqredis-prompt only.
 */
#include <editline/readline.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "workers/worker.h"

#define HISTORY_MAX 1000

const bool line_edits = true;

/* The library calls back without a context of ours: so this file's state is
 * global, as its own is. */
static const char *const *complete_names;
static size_t complete_count;
static char history_path[PATH_MAX];

static char *next_name(const char *text, int state)
{
    static size_t at;
    size_t len = strlen(text);
    if (state == 0)
        at = 0;
    while (at < complete_count) {
        const char *name = complete_names[at++];
        if (strncasecmp(name, text, len) == 0)
            return strdup(name);
    }
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    (void)end;
    /* Command names only stand at the beginning; elsewhere there is nothing
     * to complete, and file names would be wrong. */
    rl_attempted_completion_over = 1;
    return start == 0 ? rl_completion_matches(text, next_name) : NULL;
}

/* libedit drops, without a word, what is no character of the locale: in the C
 * locale all that is not ASCII, so that `SET k aéb` would store "ab". What is
 * typed is bytes to us, and UTF-8 wherever it is not said otherwise. */
static void take_every_character(void)
{
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
}

void line_start(const char *const *names, size_t count)
{
    take_every_character();
    complete_names = names;
    complete_count = count;
    rl_readline_name = "mqredis";
    rl_initialize();
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_MAX);
    const char *home = getenv("HOME");
    if (home != NULL && home[0] != '\0')
        snprintf(history_path, sizeof(history_path), "%s/.mqredis_history",
                 home);
    if (history_path[0] != '\0')
        read_history(history_path);
}

char *line_read(const char *prompt)
{
    return readline(prompt);
}

void line_remember(const char *line)
{
    /* As in shells, a blank at the beginning keeps a line out. */
    if (line[0] != '\0' && line[0] != ' ')
        add_history(line);
}

void line_stop(void)
{
    if (history_path[0] == '\0')
        return;
    /* Values may be secrets: nobody else reads them. */
    int fd = open(history_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    write_history(history_path);
}
