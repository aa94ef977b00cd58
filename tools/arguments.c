/* Command lines of tools. */
#include "tools/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/printable.h"

bool argument_number(const char *text, unsigned long low, unsigned long high,
                     unsigned *value)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (*end != '\0' || errno != 0 || n < low || n > high)
        return false;
    *value = (unsigned)n;
    return true;
}

void argument_refused(struct err_text *why, int c, const char *shorts,
                      char *const *argv)
{
    /* Words that are done with lie before optind; a letter in the middle of a
     * word is told by optopt alone. */
    const char *word = argv[optind - 1];
    char letter[] = {'-', (char)optopt, '\0'};
    bool is_long = strncmp(word, "--", 2) == 0;
    const char *equals = strchr(word, '=');
    if (c == ':')
        err_say(why, ERR_INVALID, "%.80s needs a value: see --help",
                is_long ? word : letter);
    else if (optopt > 0 && optopt < 256 && strchr(shorts, optopt) == NULL)
        err_say(why, ERR_INVALID, "unknown option '%s': see --help", letter);
    else if (optopt != 0 && is_long && equals != NULL)
        err_say(why, ERR_INVALID, "%.*s takes no value: see --help",
                (int)(equals - word), word);
    else
        err_say(why, ERR_INVALID, "unknown option '%.80s': see --help", word);
    printable_only(why->text, strlen(why->text));
}

static bool take(const struct argument *a, const char *value)
{
    unsigned n = 0;
    if (a->word != NULL && value != NULL)
        *a->word = value;
    if (a->word != NULL)
        return value != NULL;
    if (!argument_number(value, (unsigned)a->low, (unsigned)a->high, &n))
        return false;
    *a->number = (int)n;
    return true;
}

static void say_usage(const char *program, const struct argument *list,
                      size_t count)
{
    fprintf(stderr, "usage: %s", program);
    for (const struct argument *a = list; a < list + count; a++)
        if (a->word != NULL)
            fprintf(stderr, " [%s WORD]", a->name);
        else
            fprintf(stderr, " [%s %d..%d]", a->name, a->low, a->high);
    fputs("\n", stderr);
}

bool arguments_take(const char *program, const struct argument *list,
                    size_t count, int argc, char *const *argv)
{
    for (int i = 1; i < argc; i += 2) {
        const struct argument *a = list;
        while (a < list + count && strcmp(argv[i], a->name) != 0)
            a++;
        if (a == list + count || !take(a, argv[i + 1])) {
            say_usage(program, list, count);
            return false;
        }
    }
    return true;
}
