/* Captures: replies to the manager itself. */
#include "manager/taker.h"

static void collect(struct taker *t, uint32_t index, const struct taken *part)
{
    struct capture *c = (struct capture *)t;
    (void)index;
    if (part->begins && part->ends && part->len <= c->max) {
        c->done(c->context, part->data, part->len);
        return;
    }
    if (part->begins)
        c->dropped = false;
    if (c->dropped || buffer_len(&c->bytes) + part->len > c->max ||
        buffer_append(&c->bytes, part->data, part->len) != ERR_OK) {
        c->dropped = true;
        buffer_release(&c->bytes);
    }
    if (!part->ends)
        return;
    c->done(c->context, buffer_head(&c->bytes), buffer_len(&c->bytes));
    buffer_release(&c->bytes);
}

static void fail(struct taker *t, uint32_t index, uint32_t count,
                 const char *reason)
{
    struct capture *c = (struct capture *)t;
    (void)index;
    (void)reason;
    buffer_release(&c->bytes);
    for (uint32_t i = 0; i < count; i++)
        c->done(c->context, NULL, 0);
}

static const struct taker_ops capture_ops = {
    .reply = collect, .lost = fail, .unsent = fail};

void capture_init(struct capture *c, size_t max,
                  void (*done)(void *context, const char *data, size_t len),
                  void *context)
{
    *c = (struct capture){
        .taker = {&capture_ops}, .max = max, .done = done, .context = context};
}

void capture_release(struct capture *c)
{
    buffer_release(&c->bytes);
}
