/* The budget of holding up. */
#include "manager/patience.h"

#include "ipc/clock.h"

static void earn(struct patience *p, uint64_t ns, uint64_t most_ns)
{
    p->left_ns = ns < most_ns - p->left_ns ? p->left_ns + ns : most_ns;
}

uint64_t patience_hold(struct patience *p, const struct reader *r,
                       uint64_t most_ns, uint64_t rate, uint64_t now_ns)
{
    uint64_t spent = now_ns - p->since_ns;
    if (p->left_ns > most_ns)
        p->left_ns = most_ns;
    if (p->holder != r) {
        earn(p, spent / 2, most_ns);
    } else {
        p->left_ns -= spent < p->left_ns ? spent : p->left_ns;
        if (rate > 0)
            earn(p, (r->taken - p->mark) * (NS_PER_S / rate), most_ns);
    }
    p->holder = r;
    p->mark = r->taken;
    p->since_ns = now_ns;
    return p->left_ns;
}

void patience_end(struct patience *p, uint64_t now_ns)
{
    p->holder = NULL;
    p->since_ns = now_ns;
}
