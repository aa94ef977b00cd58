/* The lane that a run would take by itself, and the one of its sender. */
#include "manager/lane_choice.h"

static enum lane lane_of(const struct run *run, const struct sizes *sizes,
                         bool bulk, uint64_t now)
{
    const struct sender *s = run->req->reader->sender;
    if (!bulk)
        return LANE_SMALL;
    if (run->source != NULL && run->source->bytes >= LANE_LARGE)
        return LANE_BULK;
    if (run->hash != 0 && sizes_is_large(sizes, run->hash))
        return LANE_BULK;
    return s->large_ns != 0 && now - s->large_ns < LANE_MEMORY_NS ? LANE_BULK
                                                                  : LANE_SMALL;
}

enum lane lane_choose(struct run *run, const struct sizes *sizes, bool bulk,
                      uint64_t now)
{
    struct request *req = run->req;
    if (run->count == 1)
        run->hash = sizes_hash(run->data, run->len);
    if (!req->laned) {
        struct sender *s = req->reader->sender;
        enum lane lane = lane_of(run, sizes, bulk, now);
        if (s->inflight[!lane] > 0)
            lane = !lane;
        req->laned = true;
        req->lane = (uint8_t)lane;
        s->inflight[lane]++;
    }
    return (enum lane)req->lane;
}
