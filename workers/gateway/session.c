/* What belongs to a connection, and is therefore the gateway's to keep. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "workers/gateway/gateway.h"

/* The longest command that anything here looks at in whole. */
#define ARGS_MAX 16

/* Names are for people. */
#define NAME_LEN_MAX 1024

struct args {
    size_t count;
    struct resp_arg v[ARGS_MAX];
};

/* False: there are more than anything here takes. */
static bool take_args(const struct command *command, struct args *a)
{
    struct resp_request walk;
    uint32_t argc;
    resp_request_init(&walk, command->data, command->len);
    a->count = 0;
    if (command->argc > ARGS_MAX ||
        resp_request_command(&walk, &argc) != ERR_OK)
        return false;
    while (a->count < argc &&
           resp_request_arg(&walk, &a->v[a->count]) == ERR_OK)
        a->count++;
    return true;
}

static bool arg_is(const struct resp_arg *arg, const char *upper)
{
    return command_is(arg->data, arg->len, upper);
}

static void wrong_number(struct client *c, const char *command)
{
    answer_error(c, "ERR wrong number of arguments for '%s' command", command);
}

/* A whole number without sign; -1: it is none. */
static int64_t number_of(const struct resp_arg *arg)
{
    int64_t n = 0;
    if (arg->len == 0 || arg->len > 9)
        return -1;
    for (size_t i = 0; i < arg->len; i++) {
        if (arg->data[i] < '0' || arg->data[i] > '9')
            return -1;
        n = n * 10 + (arg->data[i] - '0');
    }
    return n;
}

static void answer_bulk(struct client *c, const char *data, size_t len)
{
    struct gateway *g = c->gateway;
    struct buffer b;
    char header[RESP_HEADER_MAX];
    buffer_init(&b, &g->buffered);
    size_t n = resp_put_header(header, '$', (int64_t)len);
    if (buffer_append(&b, header, n) && buffer_append(&b, data, len) &&
        buffer_append(&b, "\r\n", 2))
        answer_bytes(c, buffer_at(&b), buffer_len(&b));
    else
        client_close(c);
    buffer_release(&b);
}

static void answer_null(struct client *c)
{
    answer_text(c, c->resp == 3 ? "_" : "$-1");
}

/* ---- AUTH ---- */

/* Takes as long for a wrong password as for the right one. */
static bool password_right(const struct gateway *g,
                           const struct resp_arg *given)
{
    const char *right = g->options->password;
    size_t len = strlen(right);
    unsigned char differs = given->len != len;
    for (size_t i = 0; i < given->len; i++)
        differs |= (unsigned char)given->data[i] ^
                   (unsigned char)(i < len ? right[i] : 0);
    return differs == 0;
}

/* False: the answer was an error. */
static bool log_in(struct client *c, const struct resp_arg *user,
                   const struct resp_arg *password)
{
    struct gateway *g = c->gateway;
    bool needs = g->options->password[0] != '\0';
    bool known = user == NULL ||
                 (user->len == 7 && memcmp(user->data, "default", 7) == 0);
    if (!needs && user == NULL) {
        answer_error(c, "ERR AUTH <password> called without any password "
                        "configured for the default user. Are you sure your "
                        "configuration is correct?");
        return false;
    }
    if (!known || (needs && !password_right(g, password))) {
        g->counters.auth_failures++;
        answer_error(c, "WRONGPASS invalid username-password pair or user is "
                        "disabled.");
        return false;
    }
    c->known = true;
    return true;
}

static void auth_command(struct client *c, const struct args *a)
{
    if (a->count != 2 && a->count != 3) {
        if (a->count < 2)
            wrong_number(c, "auth");
        else
            answer_text(c, "-ERR syntax error");
        return;
    }
    if (log_in(c, a->count == 3 ? &a->v[1] : NULL, &a->v[a->count - 1]))
        answer_text(c, "+OK");
}

/* ---- CLIENT SETNAME and HELLO's ---- */

static bool fit_for_name(const struct resp_arg *arg)
{
    for (size_t i = 0; i < arg->len; i++) {
        if (arg->data[i] < '!' || arg->data[i] > '~')
            return false;
    }
    return arg->len <= NAME_LEN_MAX;
}

/* Replaces a name; an empty one is none. */
static void set_name(struct client *c, char **name, const struct resp_arg *arg)
{
    char *copy = arg->len == 0 ? NULL : strndup(arg->data, arg->len);
    if (arg->len > 0 && copy == NULL) {
        client_close(c);
        return;
    }
    free(*name);
    *name = copy;
}

/* ---- HELLO ---- */

static bool put_text(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

bool session_hello_reply(struct buffer *out, const struct client *c, int resp,
                         const char *version, size_t len)
{
    char text[512];
    if (len == 0 || len > 32) {
        version = "7.0.0";
        len = strlen(version);
    }
    snprintf(text, sizeof(text),
             "%s\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n"
             "$%zu\r\n%.*s\r\n$5\r\nproto\r\n:%d\r\n$2\r\nid\r\n:%llu\r\n"
             "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
             "$7\r\nmodules\r\n*0\r\n",
             resp == 3 ? "%7" : "*14", len, (int)len, version, resp,
             (unsigned long long)c->id);
    return put_text(out, text);
}

/* Whether the protocol can be had; else the answer is why not. */
static bool protocol_fits(struct client *c, int64_t protocol)
{
    if (protocol != 2 && protocol != 3) {
        answer_text(c, "-NOPROTO unsupported protocol version");
        return false;
    }
    if (protocol == 3 && gateway_view(c->gateway)->resp != 3) {
        answer_text(c, "-NOPROTO unsupported protocol version: the replies of "
                       "this channel are RESP2 (mqredis-manager --resp 3 has "
                       "both)");
        return false;
    }
    return true;
}

static void hello_command(struct client *c, const struct args *a)
{
    int64_t protocol = c->resp;
    const struct resp_arg *user = NULL, *password = NULL, *name = NULL;
    if (a->count >= 2) {
        protocol = number_of(&a->v[1]);
        if (protocol < 0) {
            answer_text(c, "-ERR Protocol version is not an integer or out of "
                           "range");
            return;
        }
    }
    if (!protocol_fits(c, protocol))
        return;
    for (size_t i = 2; i < a->count; i++) {
        if (arg_is(&a->v[i], "AUTH") && i + 2 < a->count) {
            user = &a->v[i + 1];
            password = &a->v[i + 2];
            i += 2;
        } else if (arg_is(&a->v[i], "SETNAME") && i + 1 < a->count) {
            name = &a->v[++i];
        } else {
            answer_error(c, "ERR Syntax error in HELLO option '%.*s'",
                         (int)(a->v[i].len < 64 ? a->v[i].len : 64),
                         a->v[i].data);
            return;
        }
    }
    if (user != NULL && !log_in(c, user, password))
        return;
    if (!c->known) {
        answer_text(c, "-NOAUTH HELLO must be called with the client already "
                       "authenticated, otherwise the HELLO <proto> AUTH <user> "
                       "<pass> option can be used to authenticate the client "
                       "and select the RESP protocol version at the same time");
        return;
    }
    if (name != NULL && !fit_for_name(name)) {
        answer_text(c, "-ERR Client names cannot contain spaces, newlines or "
                       "special characters.");
        return;
    }
    if (name != NULL)
        set_name(c, &c->name, name);
    c->resp = (int)protocol;
    if (!c->doomed)
        forward_hello(c);
}

/* ---- CLIENT ---- */

static void client_reply(struct client *c, const struct args *a)
{
    if (arg_is(&a->v[2], "ON")) {
        c->reply_mode = REPLY_MODE_ON;
        answer_text(c, "+OK");
    } else if (arg_is(&a->v[2], "OFF")) {
        c->reply_mode = REPLY_MODE_OFF;
    } else if (arg_is(&a->v[2], "SKIP")) {
        if (c->reply_mode != REPLY_MODE_OFF)
            c->reply_mode = REPLY_MODE_SKIP_NEXT;
    } else {
        answer_text(c, "-ERR syntax error");
    }
}

static void client_setinfo(struct client *c, const struct args *a)
{
    bool lib = arg_is(&a->v[2], "LIB-NAME");
    if (!lib && !arg_is(&a->v[2], "LIB-VER")) {
        answer_error(c, "ERR Unrecognized option '%.*s'",
                     (int)(a->v[2].len < 64 ? a->v[2].len : 64), a->v[2].data);
        return;
    }
    if (!fit_for_name(&a->v[3])) {
        answer_error(c,
                     "ERR %s cannot contain spaces, newlines or special "
                     "characters.",
                     lib ? "lib-name" : "lib-ver");
        return;
    }
    set_name(c, lib ? &c->lib_name : &c->lib_version, &a->v[3]);
    answer_text(c, "+OK");
}

static void client_setname(struct client *c, const struct args *a)
{
    if (!fit_for_name(&a->v[2])) {
        answer_text(c, "-ERR Client names cannot contain spaces, newlines or "
                       "special characters.");
        return;
    }
    set_name(c, &c->name, &a->v[2]);
    answer_text(c, "+OK");
}

/* This connection, as Redis shows one of its own. */
static void client_info(struct client *c)
{
    char line[4 * NAME_LEN_MAX];
    uint64_t age = (c->gateway->now_ns - c->since_ns) / NS_PER_S;
    int n = snprintf(
        line, sizeof(line),
        "id=%llu name=%s age=%llu db=%u sub=%zu psub=%zu ssub=%zu multi=%d "
        "resp=%d lib-name=%s lib-ver=%s user=default",
        (unsigned long long)c->id, c->name ? c->name : "",
        (unsigned long long)age, gateway_view(c->gateway)->db, c->subscribed[0],
        c->subscribed[1], c->subscribed[2],
        c->multi.open ? (int)c->multi.count : -1, c->resp,
        c->lib_name ? c->lib_name : "", c->lib_version ? c->lib_version : "");
    line[n++] = '\n';
    answer_bulk(c, line, (size_t)n);
}

/* False: not one of those that are the gateway's. */
static bool client_command(struct client *c, const struct args *a)
{
    if (a->count == 3 && arg_is(&a->v[1], "REPLY")) {
        client_reply(c, a);
    } else if (a->count == 3 && arg_is(&a->v[1], "SETNAME")) {
        client_setname(c, a);
    } else if (a->count == 2 && arg_is(&a->v[1], "GETNAME")) {
        if (c->name == NULL)
            answer_null(c);
        else
            answer_bulk(c, c->name, strlen(c->name));
    } else if (a->count == 2 && arg_is(&a->v[1], "ID")) {
        char text[32];
        snprintf(text, sizeof(text), ":%llu", (unsigned long long)c->id);
        answer_text(c, text);
    } else if (a->count == 4 && arg_is(&a->v[1], "SETINFO")) {
        client_setinfo(c, a);
    } else if (a->count == 2 && arg_is(&a->v[1], "INFO")) {
        client_info(c);
    } else {
        return false;
    }
    return true;
}

/* ---- the rest ---- */

static void select_command(struct client *c, const struct args *a)
{
    unsigned db = gateway_view(c->gateway)->db;
    int64_t n = a->count == 2 ? number_of(&a->v[1]) : -1;
    if (a->count != 2)
        wrong_number(c, "select");
    else if (n < 0)
        answer_text(c, "-ERR value is not an integer or out of range");
    else if (n != (int64_t)db)
        answer_error(c,
                     "ERR SELECT %lld: this channel is for database %u: start "
                     "a manager and a gateway for each database",
                     (long long)n, db);
    else
        answer_text(c, "+OK");
}

static void reset_command(struct client *c)
{
    transaction_discard(c);
    subscriber_release(c);
    c->resp = 2;
    c->known = c->gateway->options->password[0] == '\0';
    c->reply_mode = REPLY_MODE_ON;
    free(c->name);
    c->name = NULL;
    answer_text(c, "+RESET");
}

static void ping_command(struct client *c, const struct command *command,
                         const struct command_row *row, const struct args *a)
{
    if (subscriber_count(c) == 0 || c->resp == 3) {
        forward_command(c, command, row->shape);
        return;
    }
    /* A RESP2 subscriber could not tell a status from a message. */
    char head[64];
    size_t len = a->count > 1 ? a->v[1].len : 0;
    struct buffer b;
    if (a->count > 2) {
        wrong_number(c, "ping");
        return;
    }
    buffer_init(&b, &c->gateway->buffered);
    snprintf(head, sizeof(head), "*2\r\n$4\r\npong\r\n$%zu\r\n", len);
    if (put_text(&b, head) &&
        (len == 0 || buffer_append(&b, a->v[1].data, len)) &&
        put_text(&b, "\r\n"))
        answer_bytes(c, buffer_at(&b), buffer_len(&b));
    else
        client_close(c);
    buffer_release(&b);
}

void session_command(struct client *c, const struct command *command,
                     const struct command_row *row)
{
    struct args a;
    if (!take_args(command, &a)) {
        answer_text(c, "-ERR wrong number of arguments");
        return;
    }
    if (row->id == COMMAND_AUTH) {
        auth_command(c, &a);
    } else if (row->id == COMMAND_HELLO) {
        hello_command(c, &a);
    } else if (row->id == COMMAND_SELECT) {
        select_command(c, &a);
    } else if (row->id == COMMAND_RESET) {
        reset_command(c);
    } else if (row->id == COMMAND_PING) {
        ping_command(c, command, row, &a);
    } else if (row->id == COMMAND_QUIT) {
        answer_text(c, "+OK");
        c->leaving = true;
    } else if (row->id == COMMAND_GATEWAY) {
        size_t len;
        const char *text = report_text(c->gateway, &len);
        answer_bulk(c, text, len);
    } else if (!client_command(c, &a)) {
        /* CLIENT LIST and its kin are Redis's. */
        forward_command(c, command, row->shape);
    }
}

void session_release(struct client *c)
{
    free(c->name);
    free(c->lib_name);
    free(c->lib_version);
    c->name = c->lib_name = c->lib_version = NULL;
}
