/* Any bytes as the commands of a message, or as a server's reply to COMMAND:
 * every refusal has its one line, a batch that is let through has its
 * transactions closed, and what was learned never frees a command that the
 * table refuses. */
#include "ipc/resp.h"
#include "manager/policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool is(const struct resp_arg *arg, const char *name)
{
    return arg->data != NULL && arg->len == strlen(name) &&
           strncasecmp(arg->data, name, arg->len) == 0;
}

/* How many commands there are, or 0 if the bytes are no such message. */
static uint32_t count(const char *data, size_t len)
{
    struct resp_request r;
    struct resp_arg arg;
    uint32_t argc, n = 0;
    enum err e;
    resp_request_init(&r, data, len);
    while ((e = resp_request_command(&r, &argc)) == ERR_OK) {
        n++;
        while (argc-- > 0) {
            if (resp_request_arg(&r, &arg) != ERR_OK)
                return 0;
        }
    }
    return e == ERR_CLOSED ? n : 0;
}

static void check_line(const struct err_text *why)
{
    require(why->text[0] != '\0' && strlen(why->text) < ERR_TEXT_MAX - 1);
    for (const char *p = why->text; *p != '\0'; p++)
        require(*p >= ' ' && *p <= '~');
}

/* A list of its own of what may never be let through. */
static void check_passed(const struct resp_arg *argv, uint32_t argc)
{
    static const char *const never[] = {"SELECT",   "AUTH",    "HELLO", "QUIT",
                                        "RESET",    "MONITOR", "SYNC",  "PSYNC",
                                        "REPLCONF", "WATCH"};
    require(argv[0].data != NULL || argv[0].len == 0);
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        require(!is(&argv[0], never[i]));
    if (argc > 1 && is(&argv[0], "CLIENT")) {
        require(!is(&argv[1], "REPLY"));
        require(argv[1].data != NULL || argv[1].len == 0);
    }
}

static void judge(const struct policy *policy, const char *data, size_t len,
                  bool independent)
{
    struct resp_request r;
    struct policy_batch batch;
    uint32_t argc, n = count(data, len);
    int open = 0;
    if (n == 0)
        return;
    policy_begin(&batch, policy, n, independent);
    resp_request_init(&r, data, len);
    while (resp_request_command(&r, &argc) == ERR_OK) {
        struct resp_arg argv[POLICY_ARGS], rest;
        struct err_text why = {""};
        for (uint32_t i = 0; i < argc; i++)
            require(resp_request_arg(&r, i < POLICY_ARGS ? &argv[i] : &rest) ==
                    ERR_OK);
        enum route route = policy_command(&batch, argc, argv, &why);
        require((route == ROUTE_REFUSED) == (why.text[0] != '\0'));
        if (route == ROUTE_REFUSED) {
            check_line(&why);
            if (!independent)
                return;
            continue;
        }
        check_passed(argv, argc);
        open += is(&argv[0], "MULTI");
        open -= is(&argv[0], "EXEC") || is(&argv[0], "DISCARD");
        require(open == 0 || (open == 1 && n > 1 && !independent));
    }
    struct err_text why = {""};
    enum route route = policy_end(&batch, &why);
    require(independent || (route == ROUTE_REFUSED) == (open == 1));
    require(independent || n == 1 || route == ROUTE_SHARED ||
            route == ROUTE_DEDICATED || route == ROUTE_REFUSED);
    if (route == ROUTE_REFUSED && !independent)
        check_line(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy *policy;
    static const char select[] = "*2\r\n$6\r\nselect\r\n$1\r\n1\r\n";
    struct err_text why = {""};
    if (policy == NULL && policy_new(&policy) != ERR_OK)
        abort();
    char *copy = malloc(size + 1);
    require(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    judge(policy, copy, size, false);
    judge(policy, copy, size, true);

    struct policy *other;
    require(policy_new(&other) == ERR_OK);
    if (policy_deny(other, copy, &why) != ERR_OK)
        check_line(&why);
    if (policy_dedicate(other, copy, &why) != ERR_OK)
        check_line(&why);
    enum err e = policy_learn(other, copy, size);
    require(e == ERR_OK || e == ERR_PROTO);
    judge(other, copy, size, false);
    judge(other, select, sizeof(select) - 1, false);
    policy_free(other);
    free(copy);
    return 0;
}
