/*
 * mqredis-run: the main job, from nothing to nothing. Starts a server, a
 * manager and workers as processes, joins all of them, and looks whether they
 * left anything behind.
 *
 * First two workers at once, one SET and one GET: the "Channels" program of the
 * Tokio tutorial. The launcher holds a sender (the tutorial's `tx`), every
 * worker is born with a clone of it, and when the launcher lets go of its own
 * the channel closes after the last worker: the manager ends by itself. Then
 * the same with many workers.
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/version.h"
#include "tools/arguments.h"
#include "tools/process.h"
#include "tools/run/load.h"
#include "tools/stage.h"

#define CHANNEL "run"
#define EXIT_USAGE 64
#define SHORTS ":h"

/* From letting go until every program has ended. */
#define END_MS 15000

struct options {
    const char *redis; /* NULL: the embedded server */
    unsigned workers;
    unsigned commands;
};

struct run {
    struct options options;
    char dir[PATH_MAX];
    char uri[PATH_MAX];
    struct process server, manager;
    struct stage_channel channel;
    unsigned faults; /* whatever was not as it must be */
};

static void fault(struct run *r, const char *text)
{
    fflush(stdout);
    fprintf(stderr, "mqredis-run: %s\n", text);
    r->faults++;
}

static void fault_end(struct run *r, const struct process *p)
{
    char text[128];
    if (process_ok(p))
        return;
    snprintf(text, sizeof(text), "%s: %s", p->name, process_end_str(p));
    fault(r, text);
}

/* ---- an act: a manager, senders, and the end of all of them ---- */

static enum err act_open(struct run *r, struct err_text *why)
{
    /* Small messages: all managers of a user share one budget of queues. */
    static const char *const extra[] = {"--exit-when-closed", "--msgsize",
                                        "1024", NULL};
    char ready[1024];
    enum err e = stage_manager(&r->manager, CHANNEL, r->uri, extra, ready,
                               sizeof(ready), why);
    if (e != ERR_OK)
        return e;
    puts(ready);
    fflush(stdout);
    return stage_join(&r->channel, CHANNEL, why);
}

/* The launcher's sender is gone, and the workers are: the manager must see
 * that for itself, and leave nothing. */
static enum err act_close(struct run *r, struct err_text *why)
{
    stage_let_go(&r->channel);
    enum err e = process_wait(&r->manager, clock_deadline(END_MS));
    if (e == ERR_AGAIN)
        return err_say(why, e, "interrupted");
    if (e != ERR_OK)
        return err_say(why, e,
                       "mqredis-manager did not see within %d s that every "
                       "sender is gone",
                       END_MS / 1000);
    fault_end(r, &r->manager);
    if (stage_queue_left(&r->channel))
        fault(r, "the queue was left behind");
    return ERR_OK;
}

/* ---- two workers ---- */

struct job {
    const char *title;
    const char *argv[4];
    struct process process;
};

static enum err start_job(struct job *job, const char *worker, int sender_fd,
                          struct err_text *why)
{
    const char *argv[12] = {worker,   "--channel", CHANNEL,
                            "--wait", "5000",      "--no-raw"};
    size_t n = 6;
    for (size_t i = 0; i < 4 && job->argv[i] != NULL; i++)
        argv[n++] = job->argv[i];
    return process_start(&job->process,
                         &(struct process_spec){.name = "mqredis-worker",
                                                .argv = argv,
                                                .capture = true,
                                                .inherit = sender_fd},
                         why);
}

static enum err join_job(struct run *r, struct job *job, struct err_text *why)
{
    char line[512];
    uint64_t deadline = clock_deadline(END_MS);
    enum err e = process_line(&job->process, line, sizeof(line), deadline);
    if (e == ERR_OK)
        printf("GOT (%s) = %s\n", job->title, line);
    if (e == ERR_OK || e == ERR_CLOSED)
        e = process_wait(&job->process, deadline);
    if (e != ERR_OK)
        return err_say(
            why, e, e == ERR_AGAIN ? "interrupted" : "a worker did not end: %s",
            err_str(e));
    fault_end(r, &job->process);
    return ERR_OK;
}

static enum err two_workers(struct run *r, struct err_text *why)
{
    char worker[PATH_MAX];
    struct job jobs[] = {{.title = "Set", .argv = {"SET", "foo", "bar"}},
                         {.title = "Get", .argv = {"GET", "hello"}}};
    enum err e = process_sibling(worker, sizeof(worker), "mqredis-worker", why);
    if (e == ERR_OK)
        e = act_open(r, why);
    for (size_t i = 0; e == ERR_OK && i < 2; i++)
        e = start_job(&jobs[i], worker, r->channel.tx.senders_fd, why);
    stage_let_go(&r->channel);
    for (size_t i = 0; e == ERR_OK && i < 2; i++)
        e = join_job(r, &jobs[i], why);
    for (size_t i = 0; i < 2; i++)
        process_stop(&jobs[i].process, 2000);
    if (e == ERR_OK)
        e = act_close(r, why);
    if (e == ERR_OK && r->faults == 0)
        printf("two workers and their manager: all ended with exit status 0\n");
    stage_release(&r->channel);
    return e;
}

/* ---- many workers ---- */

static void print_summary(const struct run *r, const struct load_result *l)
{
    uint64_t deepest = 0;
    unsigned capacity = 0;
    struct manager_state state;
    uint32_t version;
    if (r->channel.status != NULL) {
        deepest = counter_get(&r->channel.status->gauges[GAUGE_deepest_queue]);
        if (status_read_state(r->channel.status, &state, &version) == ERR_OK)
            capacity = state.capacity;
    }
    printf("commands %llu, errors %llu, %.0f commands per second, deepest "
           "queue %llu of %u, p50 %.3f ms, p99 %.3f ms\n",
           (unsigned long long)l->commands, (unsigned long long)l->errors,
           l->seconds > 0 ? (double)l->commands / l->seconds : 0.0,
           (unsigned long long)deepest, capacity,
           histogram_quantile(&l->times, 0.5) / 1e6,
           histogram_quantile(&l->times, 0.99) / 1e6);
}

static enum err many_workers(struct run *r, struct err_text *why)
{
    struct load_options options = {.channel = CHANNEL,
                                   .workers = r->options.workers,
                                   .commands = r->options.commands};
    struct load_result *result = calloc(1, sizeof(*result));
    if (result == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    enum err e = act_open(r, why);
    if (e == ERR_OK)
        e = load_run(&options, &r->channel, result, why);
    if (e == ERR_OK)
        e = act_close(r, why);
    if (e == ERR_OK) {
        print_summary(r, result);
        char text[512];
        snprintf(text, sizeof(text), "%u workers failed: %s", result->failed,
                 result->first_error);
        if (result->failed > 0)
            fault(r, text);
    }
    stage_release(&r->channel);
    free(result);
    return e;
}

/* ---- the whole ---- */

/* Ends what still runs, after a failure or a signal; then looks around. */
static void finish(struct run *r)
{
    process_stop(&r->manager, END_MS);
    bool had_server = r->server.pid != 0;
    process_stop(&r->server, END_MS);
    if (had_server)
        fault_end(r, &r->server);
    int strays = process_strays(NULL, 0, clock_deadline(3000));
    struct stage_left left = stage_folder_remove(r->dir);
    if (left.fifos + left.files + left.folders == 0 && strays == 0) {
        puts("left behind: no queue, no FIFO, no shared memory, no process");
        return;
    }
    char text[256];
    snprintf(text, sizeof(text),
             "left behind (removed now): %u FIFOs, %u files of shared memory, "
             "%u folders, %d processes",
             left.fifos, left.files, left.folders, strays);
    fault(r, text);
}

static enum err run_all(struct run *r, struct err_text *why)
{
    enum err e = ERR_OK;
    if (r->options.redis != NULL) {
        snprintf(r->uri, sizeof(r->uri), "%s", r->options.redis);
    } else {
        char ready[1024];
        e = stage_server(&r->server, r->uri, sizeof(r->uri), ready,
                         sizeof(ready), why);
        if (e == ERR_OK)
            puts(ready);
    }
    if (e == ERR_OK)
        e = two_workers(r, why);
    if (e == ERR_OK && r->options.workers > 0)
        e = many_workers(r, why);
    return e;
}

static const char help[] =
    "Usage: mqredis-run [OPTION]...\n"
    "Runs the whole: a server, a manager and workers; first two at once, then\n"
    "many; joins all of them and looks whether they left anything behind.\n"
    "\n"
    "  --redis URI   a Redis of yours in place of the embedded server\n"
    "  --workers N   how many workers the second part has (64); 0 leaves it "
    "out\n"
    "  --commands N  how many commands each of them sends (1000)\n"
    "  --help        this text\n"
    "  --version     the version\n"
    "\n"
    "Exit status: 0 all was well; 1 something was not, and a line said what;\n"
    "64 usage; 130 interrupted.\n";

enum { OPT_VERSION = 256 };

/* -1: go on; else the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"redis", required_argument, NULL, 'r'},
        {"workers", required_argument, NULL, 'w'},
        {"commands", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0}};
    *o = (struct options){.workers = 64, .commands = 1000};
    struct err_text why;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, SHORTS, longs, NULL)) != -1;) {
        bool ok = true;
        switch (c) {
        case 'r':
            o->redis = optarg;
            break;
        case 'w':
            ok = argument_number(optarg, 0, LOAD_WORKERS_MAX, &o->workers);
            break;
        case 'c':
            ok = argument_number(optarg, 1, 100000000, &o->commands);
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        case OPT_VERSION:
            puts("mqredis-run " PROJECT_VERSION);
            return 0;
        default:
            argument_refused(&why, c, SHORTS, argv);
            fprintf(stderr, "mqredis-run: %s\n", why.text);
            return EXIT_USAGE;
        }
        if (!ok) {
            fprintf(stderr,
                    "mqredis-run: '%s' is no number of %s that can be had\n",
                    optarg, c == 'w' ? "workers (0 to 512)" : "commands");
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "mqredis-run: unexpected argument '%s'; see --help\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

int main(int argc, char **argv)
{
    static struct run r;
    struct err_text why = {{0}};
    int code = parse_options(&r.options, argc, argv);
    if (code >= 0)
        return code;
    enum err e = process_setup(&why);
    if (e == ERR_OK)
        e = stage_folder_make(r.dir, "mqredis-run", &why);
    if (e != ERR_OK) {
        fault(&r, why.text);
        return 1;
    }
    e = run_all(&r, &why);
    if (e != ERR_OK)
        fault(&r, why.text);
    finish(&r);
    if (process_interrupted() != 0)
        return 128 + process_interrupted();
    return r.faults == 0 ? 0 : 1;
}
