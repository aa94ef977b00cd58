/*
 * mqstat: message queues and channels, as ss(8) shows sockets.
 *
 * Options, and the choice of a mode; each mode has a file of its own.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/version.h"
#include "tools/arguments.h"
#include "tools/mqstat/mqstat.h"

static const char usage[] =
    "usage: mqstat [NAME...]             channels, a line each; one: all of "
    "it\n"
    "       mqstat --queues              every POSIX message queue here\n"
    "       mqstat -w [SEC] [NAME...]    live, every SEC seconds (1)\n"
    "       mqstat --doctor [--fix]      limits, permissions, leftovers\n"
    "       mqstat --check [NAME...]     exit 0 fine, 1 degraded, 2 down\n"
    "       mqstat --wait STATE [--timeout SEC] [NAME]\n"
    "       mqstat pause|resume|drain|reload [NAME]\n"
    "       mqstat kill-client PID [NAME]\n"
    "\n"
    "NAME is a channel's name, or its folder if it has a slash.\n"
    "\n"
    "  -w, --watch [SEC]      live; to a pipe a line an interval\n"
    "  -n, --count N          end after N samples\n"
    "  -q, --queues           every queue of this IPC namespace, ours or not:\n"
    "                         holders, who is blocked, unlinked but held\n"
    "  -j, --json             JSON (tools/mqstat.schema.json)\n"
    "  -p, --prometheus       Prometheus text format\n"
    "      --listen ADDR:PORT serve that on a loopback address\n"
    "  -d, --doctor           check limits and find leftovers\n"
    "      --fix              with --doctor: remove leftovers that no living\n"
    "                         process holds\n"
    "  -k, --check            exit code for health checks\n"
    "      --wait STATE       wait for starting, connected, reconnecting,\n"
    "                         paused, draining, closed, died, up, down or "
    "idle\n"
    "      --timeout SEC      for --wait and the control verbs (10)\n"
    "  -c, --channel NAME     a channel whose name looks like something else\n"
    "  -h, --help             this\n"
    "  -V, --version          the version\n";

/* ---- shared helpers ---- */

static volatile sig_atomic_t asked_to_end;

static void on_end(int signo)
{
    asked_to_end = signo;
}

bool sleep_s(double s)
{
    struct timespec ts = {.tv_sec = (time_t)s,
                          .tv_nsec = (long)((s - floor(s)) * 1e9)};
    while (!asked_to_end && nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
    return !asked_to_end;
}

int ended_by_signal(void)
{
    return 128 + asked_to_end;
}

int fail(int code, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    fprintf(stderr, "mqstat: %s\n", line);
    return code;
}

const char *first_name(const struct options *o)
{
    if (o->names.count > 0)
        return o->names.names[0];
    const char *named = getenv("MQREDIS_CHANNEL");
    return named != NULL && named[0] != '\0' ? named : CHANNEL_DEFAULT;
}

int finish(struct text *out)
{
    int code = EXIT_FINE;
    enum err e = text_write(out, STDOUT_FILENO);
    /* A reader that has seen enough (head) is no error worth a line. */
    if (e == ERR_CLOSED)
        code = EXIT_SYSTEM;
    else if (e != ERR_OK)
        code = fail(EXIT_SYSTEM, "cannot write: %s",
                    e == ERR_NOMEM ? err_str(e) : strerror(errno));
    text_free(out);
    return code;
}

/* ---- options ---- */

#define SHORTS ":wn:qjpdkc:hV"

enum option_value { OPT_LISTEN = 256, OPT_FIX, OPT_WAIT, OPT_TIMEOUT };

static const struct option long_options[] = {
    {"watch", no_argument, NULL, 'w'},
    {"count", required_argument, NULL, 'n'},
    {"queues", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'},
    {"prometheus", no_argument, NULL, 'p'},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"doctor", no_argument, NULL, 'd'},
    {"fix", no_argument, NULL, OPT_FIX},
    {"check", no_argument, NULL, 'k'},
    {"wait", required_argument, NULL, OPT_WAIT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"channel", required_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static bool seconds(const char *text, double *out)
{
    char *end;
    errno = 0;
    double s = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !isfinite(s) || s < 0 ||
        s > 1e6)
        return false;
    *out = s;
    return true;
}

static bool whole(const char *text, long least, long *out)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < least || n > INT_MAX)
        return false;
    *out = n;
    return true;
}

static bool is_verb(const char *word)
{
    static const char *const verbs[] = {"pause", "resume", "drain", "reload",
                                        "kill-client"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(word, verbs[i]) == 0)
            return true;
    return false;
}

/* -1: go on; else the exit code. */
static int set_mode(struct options *o, enum mode mode, const char *name)
{
    static const char *const names[] = {
        [MODE_QUEUES] = "--queues", [MODE_DOCTOR] = "--doctor",
        [MODE_WAIT] = "--wait",     [MODE_CHECK] = "--check",
        [MODE_CONTROL] = "a verb",  [MODE_SHOW] = "",
    };
    if (o->mode != MODE_SHOW && o->mode != mode)
        return fail(EXIT_USAGE, "%s does not go with %s", name, names[o->mode]);
    o->mode = mode;
    return -1;
}

static int keep_name(struct options *o, const char *name)
{
    struct err_text why;
    char dir[PATH_MAX];
    if (channel_locate(name, dir, &why) != ERR_OK) {
        char safe[ERR_TEXT_MAX];
        return fail(EXIT_USAGE, "%s", text_safe(safe, sizeof(safe), why.text));
    }
    if (channel_names_add(&o->names, name) != ERR_OK)
        return fail(EXIT_SYSTEM, "out of memory");
    return -1;
}

/* -w may be followed by its interval as a word of its own. */
static int take_interval(struct options *o, int argc, char **argv)
{
    double s;
    o->live = true;
    if (optind >= argc || !seconds(argv[optind], &s))
        return -1;
    if (s < 0.05)
        return fail(EXIT_USAGE, "-w %s: give 0.05 seconds or more",
                    argv[optind]);
    o->interval_s = s;
    optind++;
    return -1;
}

static int parse_option(struct options *o, int c, int argc, char **argv)
{
    struct err_text why;
    switch (c) {
    case 'w':
        return take_interval(o, argc, argv);
    case 'n':
        if (!whole(optarg, 1, &o->count))
            return fail(EXIT_USAGE, "--count %s: give a number from 1", optarg);
        return -1;
    case 'q':
        return set_mode(o, MODE_QUEUES, "--queues");
    case 'j':
        o->json = true;
        return -1;
    case 'p':
        o->prometheus = true;
        return -1;
    case OPT_LISTEN:
        o->listen = optarg;
        o->prometheus = true;
        return -1;
    case 'd':
        return set_mode(o, MODE_DOCTOR, "--doctor");
    case OPT_FIX:
        o->fix = true;
        return set_mode(o, MODE_DOCTOR, "--fix");
    case 'k':
        return set_mode(o, MODE_CHECK, "--check");
    case OPT_WAIT:
        o->wait_state = optarg;
        return set_mode(o, MODE_WAIT, "--wait");
    case OPT_TIMEOUT:
        if (!seconds(optarg, &o->timeout_s))
            return fail(EXIT_USAGE, "--timeout %s: give seconds", optarg);
        return -1;
    case 'c':
        return keep_name(o, optarg);
    case 'h':
        fputs(usage, stdout);
        return EXIT_FINE;
    case 'V':
        puts("mqstat " PROJECT_VERSION);
        return EXIT_FINE;
    default:
        argument_refused(&why, c, SHORTS, argv);
        return fail(EXIT_USAGE, "%s", why.text);
    }
}

static int parse_words(struct options *o, int argc, char **argv)
{
    if (optind < argc && o->mode == MODE_SHOW && is_verb(argv[optind])) {
        o->mode = MODE_CONTROL;
        o->verb = argv[optind++];
        if (strcmp(o->verb, "kill-client") == 0 &&
            (optind >= argc || !whole(argv[optind++], 1, &o->client_pid)))
            return fail(EXIT_USAGE,
                        "kill-client needs a pid: mqstat kill-client PID "
                        "[NAME]");
    }
    for (; optind < argc; optind++) {
        int code = keep_name(o, argv[optind]);
        if (code >= 0)
            return code;
    }
    return -1;
}

/* Combinations that make no sense are better refused than guessed at. */
static int check_options(const struct options *o)
{
    bool shows = o->mode == MODE_SHOW;
    if (o->prometheus && (!shows || o->json || o->live))
        return fail(EXIT_USAGE,
                    "%s goes with channel names, and with no other option",
                    o->listen != NULL ? "--listen" : "--prometheus");
    if (o->json && (o->mode == MODE_WAIT || o->mode == MODE_CONTROL))
        return fail(EXIT_USAGE, "--json does not go with %s",
                    o->mode == MODE_WAIT ? "--wait" : o->verb);
    if (o->live && !shows && o->mode != MODE_QUEUES)
        return fail(EXIT_USAGE, "-w goes with channels and --queues only");
    if (o->count > 0 && !o->live)
        return fail(EXIT_USAGE, "--count goes with -w");
    if (o->names.count > 0 &&
        (o->mode == MODE_QUEUES || o->mode == MODE_DOCTOR))
        return fail(EXIT_USAGE, "%s takes no channel names",
                    o->mode == MODE_QUEUES ? "--queues" : "--doctor");
    if (o->names.count > 1 && (o->mode == MODE_CONTROL || o->mode == MODE_WAIT))
        return fail(EXIT_USAGE, "%s takes one channel name",
                    o->mode == MODE_WAIT ? "--wait" : o->verb);
    return -1;
}

static int parse(struct options *o, int argc, char **argv)
{
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, SHORTS, long_options, NULL)) != -1) {
        int code = parse_option(o, c, argc, argv);
        if (code >= 0)
            return code;
    }
    int code = parse_words(o, argc, argv);
    return code >= 0 ? code : check_options(o);
}

static int run(const struct options *o)
{
    switch (o->mode) {
    case MODE_SHOW:
        break;
    case MODE_QUEUES:
        return run_queues(o);
    case MODE_DOCTOR:
        return run_doctor(o);
    case MODE_WAIT:
        return run_wait(o);
    case MODE_CHECK:
        return run_check(o);
    case MODE_CONTROL:
        return run_control(o);
    }
    if (o->listen != NULL)
        return run_listen(o);
    if (!o->live)
        return run_show(o);
    return o->look.terminal && !o->json ? run_live(o) : run_piped(o);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    struct sigaction end = {.sa_handler = on_end};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGHUP, &end, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    struct options o = {.interval_s = 1, .timeout_s = 10};
    look_init(&o.look, STDOUT_FILENO);
    int code = parse(&o, argc, argv);
    if (code < 0)
        code = run(&o);
    channel_names_free(&o.names);
    return code;
}
