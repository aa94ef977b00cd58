/*
 * The form of a run is checked by whoever walks over it, as that of a message
 * is: a large argument is known by its blob, which says where its header ends.
 */
#include "manager/framed.h"

#include <string.h>

/* Whether the next argument is the next blob's; if so it is passed over. */
static enum err take_blob(struct framed_args *args, const struct blob *blob,
                          struct resp_arg *arg)
{
    struct resp_request *r = &args->request;
    char head[RESP_HEADER_MAX];
    size_t len = resp_put_header(head, '$', (int64_t)blob->len);
    size_t pos = (size_t)(r->pos - args->command->data) + args->command->at;
    if (blob->at != pos + len)
        return ERR_AGAIN;
    if ((size_t)(r->end - r->pos) < len + 2 || memcmp(r->pos, head, len) != 0 ||
        r->pos[len] != '\r' || r->pos[len + 1] != '\n')
        return ERR_PROTO;
    r->pos += len + 2;
    r->args_left--;
    *arg = (struct resp_arg){NULL, (size_t)blob->len};
    return ERR_OK;
}

enum err framed_arg(struct framed_args *args, struct resp_arg *arg,
                    const struct blob **blob)
{
    const struct framed *command = args->command;
    if (blob != NULL)
        *blob = NULL;
    if (args->blob < command->nblobs && args->request.args_left > 0) {
        const struct blob *next = &command->blobs[args->blob];
        enum err e = take_blob(args, next, arg);
        if (e == ERR_OK) {
            args->blob++;
            if (blob != NULL)
                *blob = next;
        }
        if (e != ERR_AGAIN)
            return e;
    }
    return resp_request_arg(&args->request, arg);
}

enum err framed_args(struct framed_args *args, const struct framed *command,
                     uint32_t *argc)
{
    args->command = command;
    args->blob = 0;
    resp_request_init(&args->request, command->data, command->len);
    return resp_request_command(&args->request, argc) == ERR_OK ? ERR_OK
                                                                : ERR_PROTO;
}

enum err framed_next(struct framed *rest, struct framed *command)
{
    struct framed_args args;
    uint32_t argc;
    if (rest->len == 0)
        return ERR_CLOSED;
    enum err e = framed_args(&args, rest, &argc);
    for (struct resp_arg arg; e == ERR_OK && argc > 0; argc--)
        e = framed_arg(&args, &arg, NULL);
    if (e != ERR_OK)
        return ERR_PROTO;
    size_t len = (size_t)(args.request.pos - rest->data);
    *command = *rest;
    command->len = len;
    command->nblobs = args.blob;
    rest->data += len;
    rest->len -= len;
    rest->at += len;
    rest->nblobs -= args.blob;
    if (args.blob > 0)
        rest->blobs += args.blob;
    return ERR_OK;
}
