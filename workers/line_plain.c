/* Lines as the terminal itself edits them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/worker.h"

const bool line_edits = false;

void line_start(const char *const *names, size_t count)
{
    (void)names;
    (void)count;
}

char *line_read(const char *prompt)
{
    fputs(prompt, stdout);
    fflush(stdout);
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, stdin);
    if (n < 0) {
        free(line);
        putchar('\n');
        return NULL;
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

void line_remember(const char *line)
{
    (void)line;
}

void line_stop(void)
{
}
