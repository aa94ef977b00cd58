/*
 * Requests and what is gathered for them. A request is done once each of its
 * commands has an answer, Redis's or ours.
 */
#include "workers/handle.h"

#include <stdlib.h>
#include <string.h>

void request_init(struct mqredis_request *r, struct mqredis *mq)
{
    memset(r, 0, sizeof(*r));
    r->mq = mq;
    r->count = r->missing = 1;
    r->answers = &r->one;
}

struct mqredis_request *request_new(struct mqredis *mq, size_t count,
                                    bool batch)
{
    struct mqredis_request *r = malloc(sizeof(*r));
    if (r == NULL)
        return NULL;
    request_init(r, mq);
    r->batch = batch;
    if (count > 1) {
        r->answers = calloc(count, sizeof(*r->answers));
        if (r->answers == NULL) {
            free(r);
            return NULL;
        }
        r->count = r->missing = count;
    }
    return r;
}

void request_clear(struct mqredis_request *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->answers[i].data);
    if (r->answers != &r->one)
        free(r->answers);
    r->answers = &r->one;
    r->one.data = NULL;
    r->count = 0;
}

void request_free(struct mqredis_request *r)
{
    request_clear(r);
    free(r);
}

bool answer_reserve(struct answer *a, size_t more)
{
    if (a->cap - a->len >= more)
        return true;
    size_t cap = a->cap < 64 ? 64 : a->cap;
    while (cap - a->len < more) {
        if (cap > SIZE_MAX / 2)
            return false;
        cap *= 2;
    }
    char *data = realloc(a->data, cap);
    if (data == NULL)
        return false;
    a->data = data;
    a->cap = cap;
    return true;
}

void answer_fail(struct answer *a, enum mqredis_status status, const char *text,
                 size_t len)
{
    a->len = 0;
    a->status = status;
    a->done = true;
    /* Without memory for the text, the status alone has to do. */
    if (answer_reserve(a, len + 1)) {
        memcpy(a->data, text, len);
        a->data[len] = '\0';
        a->len = len;
    }
}

void request_fail(struct mqredis_request *r, const struct mqredis_error *why)
{
    for (size_t i = 0; i < r->count; i++) {
        if (!r->answers[i].done)
            answer_fail(&r->answers[i], why->status, why->text,
                        strlen(why->text));
    }
    r->missing = 0;
}

void request_done(struct mqredis *mq, struct mqredis_request *r)
{
    r->flight = NULL;
    r->done = true;
    r->listed = true;
    r->next = NULL;
    r->prev = mq->done_last;
    if (r->prev != NULL)
        r->prev->next = r;
    else
        mq->done_first = r;
    mq->done_last = r;
    mq->pending--;
    if (mq->events)
        signal_events(mq);
    pthread_cond_broadcast(&mq->changed);
}

void request_unlist(struct mqredis *mq, struct mqredis_request *r)
{
    if (!r->listed)
        return;
    if (r->prev != NULL)
        r->prev->next = r->next;
    else
        mq->done_first = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    else
        mq->done_last = r->prev;
    r->prev = r->next = NULL;
    r->listed = false;
}
