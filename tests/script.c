/* Running test cases that are written in another language. */
#include "tests/script.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

/* What a script says for "cannot be tried here"; what a shell says for "no such
 * program". */
#define CANNOT 77
#define NO_PROGRAM 127

#define CASES_MAX 256
#define LINE_MAX_BYTES 512

/* All cases of the suite: a loop test gives an index, and nothing else. */
static struct {
    const struct script *script;
    char name[96];
} cases[CASES_MAX];
static int ncases;

/* ---- both ways of calling a script ---- */

static void argv_of(const struct script *s, const char *argument,
                    const char *argv[E2E_ARGS_MAX + 1])
{
    size_t n = 0;
    while (n < sizeof(s->argv) / sizeof(s->argv[0]) && s->argv[n] != NULL) {
        argv[n] = s->argv[n];
        n++;
    }
    argv[n++] = argument;
    argv[n] = NULL;
}

static void skip(const struct script *s, const char *why)
{
    char line[LINE_MAX_BYTES];
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(why, "\n"), why);
    support_skip(s->name, line);
}

/* ---- running one ---- */

struct run {
    struct e2e_redis redis;
    struct e2e_manager manager;
    const char *name, *options;
    int in, out;               /* our ends of the script's */
    char line[LINE_MAX_BYTES]; /* of its output, up to now */
    size_t len;
    char text[16384]; /* its output without orders */
    size_t text_len;
};

static void carry_out(struct run *run, const char *order)
{
    struct e2e_manager *m = &run->manager;
    if (strcmp(order, "@kill manager") == 0) {
        e2e_manager_kill(m);
        ck_assert(e2e_guardian_gone(m));
    } else if (strcmp(order, "@start manager") == 0) {
        char channel[sizeof(m->channel)];
        strcpy(channel, m->channel);
        e2e_manager_start(m, channel, e2e_uri(&run->redis), run->options);
    } else {
        ck_abort_msg("an order that nobody knows: %s", order);
    }
    ck_assert_int_eq(write(run->in, "done\n", 5), 5);
}

static void take_line(struct run *run)
{
    run->line[run->len] = '\0';
    run->len = 0;
    if (run->line[0] == '@') {
        carry_out(run, run->line);
        return;
    }
    int n = snprintf(run->text + run->text_len,
                     sizeof(run->text) - run->text_len, "%s\n", run->line);
    run->text_len += (size_t)n;
    /* What does not fit is cut off. */
    if (run->text_len >= sizeof(run->text))
        run->text_len = sizeof(run->text) - 1;
}

static void take_output(struct run *run)
{
    char bytes[4096];
    struct pollfd p = {.fd = run->out, .events = POLLIN};
    for (;;) {
        if (poll(&p, 1, (int)(3 * support_wait_ms())) <= 0)
            ck_abort_msg("%s: says nothing for too long; before that:\n%s",
                         run->name, run->text);
        ssize_t n = read(run->out, bytes, sizeof(bytes));
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || run->len == sizeof(run->line) - 1)
                take_line(run);
            if (bytes[i] != '\n')
                run->line[run->len++] = bytes[i];
        }
    }
    if (run->len > 0)
        take_line(run);
}

START_TEST(test_of_a_script)
{
    static struct run run;
    const struct script *s = cases[_i].script;
    const char *argv[E2E_ARGS_MAX + 1];
    int in[2], out[2];
    e2e_start(&run.redis, &run.manager, E2E_REDIS, s->manager);
    setenv("MQREDIS_CHANNEL", run.manager.channel, 1);
    if (s->prepare != NULL)
        s->prepare();
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    argv_of(s, cases[_i].name, argv);
    pid_t pid = e2e_spawn_fed(argv, in[0], out[1], out[1]);
    close(in[0]);
    close(out[1]);
    run.name = cases[_i].name;
    run.options = s->manager;
    run.in = in[1];
    run.out = out[0];
    take_output(&run);
    int status = support_join(pid);
    if (status == CANNOT)
        skip(s, run.text);
    else if (status != 0)
        ck_abort_msg("%s: %s: status %d\n%s", s->name, cases[_i].name, status,
                     run.text);
    if (s->finish != NULL)
        s->finish();
    ck_assert_msg(UNTIL(e2e_balanced(&run.manager)), "%s: %s: %s", s->name,
                  cases[_i].name, e2e_books(&run.manager));
}
END_TEST

/* ---- the suite ---- */

/* The library that belongs to the programs under test. */
static void name_library(void)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/libmqredis.so.1", support_build());
    char *real = realpath(path, NULL);
    setenv("MQREDIS_LIBRARY", real != NULL ? real : path, 1);
    free(real);
    setenv("MQREDIS_BUILD", support_build(), 1);
}

/* Runs the script without an argument: what it prints, and its exit status.
 * Check's macros, and so e2e_run, are for tests alone. */
static int ask(const struct script *s, char *text, size_t size)
{
    char command[512] = "";
    const char *argv[E2E_ARGS_MAX + 1];
    argv_of(s, NULL, argv);
    for (size_t i = 0; argv[i] != NULL; i++) {
        size_t len = strlen(command);
        snprintf(command + len, sizeof(command) - len, "%s ", argv[i]);
    }
    size_t len = strlen(command);
    snprintf(command + len, sizeof(command) - len, "2>&1 </dev/null");
    FILE *pipe = popen(command, "r");
    if (pipe == NULL)
        return -1;
    len = fread(text, 1, size - 1, pipe);
    text[len] = '\0';
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void script_add(Suite *suite, const struct script *script)
{
    char text[8192];
    if (script->loads_library && SUPPORT_SANITIZED) {
        skip(script, "a library with a sanitizer can't be loaded");
        return;
    }
    name_library();
    int status = ask(script, text, sizeof(text));
    if (status == NO_PROGRAM) {
        skip(script, script->needs);
        return;
    }
    if (status == CANNOT) {
        skip(script, text);
        return;
    }
    int first = ncases;
    char *rest = text;
    for (char *name; status == 0 && (name = strsep(&rest, "\n")) != NULL;) {
        if (*name == '\0')
            continue;
        if (ncases == CASES_MAX) {
            fprintf(stderr, "%s: more than %d cases\n", script->name,
                    CASES_MAX);
            exit(1);
        }
        cases[ncases].script = script;
        snprintf(cases[ncases].name, sizeof(cases[ncases].name), "%s", name);
        ncases++;
    }
    if (ncases == first) {
        fprintf(stderr, "%s: the script names no case (status %d): %s\n",
                script->name, status, text);
        exit(1);
    }
    TCase *tcase = support_case(suite, script->name, 60);
    tcase_add_checked_fixture(tcase, support_remove_queues, NULL);
    tcase_add_loop_test(tcase, test_of_a_script, first, ncases);
}
