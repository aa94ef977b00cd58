/* The command line: options end at the first word that is none, for there the
 * command begins. */
#include "workers/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "workers/mqredis.h"

const char options_help[] =
    "Usage: mqredis-worker [OPTION]... [COMMAND [ARG]...]\n"
    "Sends Redis commands through the connection that this host shares.\n"
    "Without a command: reads commands from standard input, one a line.\n"
    "SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE print messages until SIGINT or SIGTERM.\n"
    "\n"
    "  -c, --channel NAME  the manager's channel, a name or a path with a "
    "slash\n"
    "                      ($MQREDIS_CHANNEL, else \"default\")\n"
    "      --timeout MS    how long a command may take (5000); -1: any time\n"
    "      --wait MS       wait so long for a manager that is connected (0)\n"
    "      --spin US       stay awake so long for a reply (0); costs CPU\n"
    "  -x                  the last argument is read from standard input\n"
    "  -r N                repeat the command N times; -1: for ever\n"
    "  -i SECONDS          pause between repetitions; 0.1 is a tenth\n"
    "      --raw           print replies as they are (the default if standard\n"
    "                      output is not a terminal)\n"
    "      --no-raw        print replies for people: \"bar\", (nil), "
    "(integer) 3\n"
    "      --json          print replies as JSON\n"
    "      --pipe          mass insertion: commands on standard input, as "
    "lines\n"
    "                      or in RESP; prints only how many replies and "
    "errors\n"
    "  -h, --help          print this\n"
    "  -V, --version       print the version\n"
    "\n"
    "Exit status: 0 done; 1 an error reply, or the command was refused or too\n"
    "big; 64 bad usage; 69 no manager or no Redis, not executed; 75 out of "
    "time\n"
    "before it was sent, not executed; 76 no answer, may have been executed.\n"
    "Of several commands: the greatest.\n";

/* A whole number from `low` on. */
static bool parse_int(const char *text, int64_t low, int64_t *value)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || n < low)
        return false;
    *value = n;
    return true;
}

/* Seconds with decimals: digits and one point, whatever the locale. */
static bool parse_seconds(const char *text, uint64_t *ns)
{
    uint64_t value = 0, unit = 1000000000ULL;
    bool point = false;
    size_t digits = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '.' && !point) {
            point = true;
            continue;
        }
        if (*p < '0' || *p > '9' || value > 1000000000000000000ULL / 10)
            return false;
        digits++;
        uint64_t digit = (uint64_t)(*p - '0');
        if (!point) {
            value = value * 10 + digit * 1000000000ULL;
        } else {
            unit /= 10;
            value += digit * unit;
        }
    }
    *ns = value;
    return digits > 0;
}

struct cursor {
    int argc;
    char **argv;
    int at;
};

/* Whether the current word is this option; with `value`, takes its value too:
 * `--name VALUE` or `--name=VALUE`, `-n VALUE`. */
static bool is_option(struct cursor *c, const char *name, const char **value,
                      struct err_text *why, enum err *e)
{
    const char *word = c->argv[c->at];
    size_t n = strlen(name);
    if (strncmp(word, name, n) != 0)
        return false;
    if (value == NULL || word[n] == '=') {
        if (word[n] != (value == NULL ? '\0' : '='))
            return false;
        if (value != NULL)
            *value = word + n + 1;
        c->at++;
        return true;
    }
    if (word[n] != '\0')
        return false;
    if (c->at + 1 == c->argc) {
        *e = err_say(why, ERR_INVALID, "%s needs a value: see --help", name);
        return true;
    }
    *value = c->argv[c->at + 1];
    c->at += 2;
    return true;
}

static enum err bad_value(struct err_text *why, const char *name,
                          const char *value, const char *expected)
{
    return err_say(why, ERR_INVALID, "%s '%.40s': %s is expected", name, value,
                   expected);
}

/* Options without a value. */
static bool take_flag(struct options *o, struct cursor *c)
{
    enum err e;
    bool raw = is_option(c, "--raw", NULL, NULL, &e);
    bool tty = !raw && is_option(c, "--no-raw", NULL, NULL, &e);
    bool json = !raw && !tty && is_option(c, "--json", NULL, NULL, &e);
    if (raw || tty || json) {
        o->output = raw ? OUTPUT_RAW : tty ? OUTPUT_TTY : OUTPUT_JSON;
        return true;
    }
    if (is_option(c, "-x", NULL, NULL, &e)) {
        o->last_from_stdin = true;
    } else if (is_option(c, "--pipe", NULL, NULL, &e)) {
        o->pipe = true;
    } else if (is_option(c, "-h", NULL, NULL, &e) ||
               is_option(c, "--help", NULL, NULL, &e)) {
        o->help = true;
    } else if (is_option(c, "-V", NULL, NULL, &e) ||
               is_option(c, "--version", NULL, NULL, &e)) {
        o->version = true;
    } else {
        return false;
    }
    return true;
}

/* Options with a value. False: the word is no option of ours. */
static bool take_value(struct options *o, struct cursor *c,
                       struct err_text *why, enum err *e)
{
    const char *v = NULL;
    if (is_option(c, "--channel", &v, why, e) ||
        is_option(c, "-c", &v, why, e)) {
        if (v != NULL)
            o->channel = v;
    } else if (is_option(c, "--timeout", &v, why, e)) {
        if (v != NULL && !parse_int(v, -1, &o->timeout_ms))
            *e = bad_value(why, "--timeout", v, "milliseconds, or -1,");
    } else if (is_option(c, "--wait", &v, why, e)) {
        if (v != NULL && !parse_int(v, -1, &o->wait_ms))
            *e = bad_value(why, "--wait", v, "milliseconds, or -1,");
    } else if (is_option(c, "--spin", &v, why, e)) {
        if (v != NULL &&
            (!parse_int(v, 0, &o->spin_us) || o->spin_us > MQREDIS_SPIN_MAX_US))
            *e = bad_value(why, "--spin", v, "microseconds, at most 10000,");
    } else if (is_option(c, "-r", &v, why, e)) {
        if (v != NULL && !parse_int(v, -1, &o->repeat))
            *e = bad_value(why, "-r", v, "a number, or -1,");
    } else if (is_option(c, "-i", &v, why, e)) {
        if (v != NULL && !parse_seconds(v, &o->interval_ns))
            *e = bad_value(why, "-i", v, "a number of seconds");
    } else {
        return false;
    }
    return true;
}

enum err options_parse(struct options *o, int argc, char **argv,
                       struct err_text *why)
{
    *o = (struct options){.timeout_ms = MQREDIS_TIMEOUT_MS, .repeat = 1};
    struct cursor c = {.argc = argc, .argv = argv, .at = 1};
    while (c.at < argc && argv[c.at][0] == '-') {
        enum err e = ERR_OK;
        if (strcmp(argv[c.at], "--") == 0) {
            c.at++;
            break;
        }
        if (!take_flag(o, &c) && !take_value(o, &c, why, &e))
            return err_say(why, ERR_INVALID, "no option '%.40s': see --help",
                           argv[c.at]);
        if (e != ERR_OK)
            return e;
    }
    o->argc = argc - c.at;
    o->argv = argv + c.at;
    if (o->pipe && (o->argc > 0 || o->last_from_stdin))
        return err_say(why, ERR_INVALID,
                       "--pipe reads its commands from standard input: name "
                       "none");
    if (o->last_from_stdin && o->argc == 0)
        return err_say(why, ERR_INVALID,
                       "-x needs a command: its last argument is read from "
                       "standard input");
    return ERR_OK;
}
