/*
 * The Python package's own tests, one test here for each of its modules, and
 * its examples among them. They start real programs themselves.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define PACKAGE "workers/bindings/python"

static const char *const modules[] = {
    "test_abi",  "test_values", "test_errors",  "test_threads", "test_fork",
    "test_pool", "test_aio",    "test_streams", "test_large",   "test_package",
};
#define MODULES ((int)(sizeof(modules) / sizeof(modules[0])))

/* Why the tests cannot run here; NULL: they can. */
static const char *obstacle(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "a sanitized library needs an interpreter that is sanitized, too";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return "a sanitized library needs an interpreter that is sanitized, too";
#endif
#endif
    if (system("python3 -c 'import ctypes, unittest' >/dev/null 2>&1") != 0)
        return "no python3 is installed";
    return NULL;
}

/* Runs one module of tests in the package's folder, its output in `log`. */
static int run_module(const char *module, int log)
{
    char script[1024];
    snprintf(script, sizeof(script),
             "build=$(cd '%s' && pwd) && cd " PACKAGE "/tests && "
             "MQREDIS_BUILD=$build MQREDIS_LIBRARY=$build/libmqredis.so.1 "
             "PYTHONDONTWRITEBYTECODE=1 "
             "exec python3 -W error -X faulthandler -m unittest -v %s",
             support_build(), module);
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    pid_t pid = e2e_spawn(argv, log, log);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What was skipped or measured there is told here, too. */
static void pass_on(const char *path)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "figure", 6) == 0)
            fputs(line, stdout);
        else if (strstr(line, " ... skipped ") != NULL)
            printf("skipped: python: %s", line);
    }
    fclose(f);
    fflush(stdout);
}

START_TEST(test_module)
{
    char log[256];
    snprintf(log, sizeof(log), "%s", support_path(modules[_i]));
    int fd = open(log, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    int status = run_module(modules[_i], fd);
    if (status == 0) {
        pass_on(log);
    } else {
        static char text[32768];
        off_t size = lseek(fd, 0, SEEK_END);
        off_t room = (off_t)sizeof(text) - 1;
        ssize_t n =
            pread(fd, text, sizeof(text) - 1, size > room ? size - room : 0);
        printf("%.*s\n", n > 0 ? (int)n : 0, text);
        fflush(stdout);
    }
    close(fd);
    ck_assert_msg(status == 0, "%s ended with %d: see above", modules[_i],
                  status);
}
END_TEST

/* Stands for all of them where they cannot run. */
START_TEST(test_skipped)
{
    support_skip("bindings_python", obstacle());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bindings_python");
    TCase *package = support_case(s, "package", 120);
    if (obstacle() == NULL)
        tcase_add_loop_test(package, test_module, 0, MODULES);
    else
        tcase_add_test(package, test_skipped);
    return support_run(s);
}
