"""A pool of processes forked before there was work, as gunicorn has them.

The parent opened the handle; every child uses it without a call in between. A
child that dies is replaced, and Redis sees one connection all the while.

    python3 prefork.py [CHILDREN [REQUESTS]]
"""

import os
import sys

import mqredis


def serve(mq, child, requests):
    """One child's work: values that nobody else has, written and read again."""
    key = "prefork:%d" % child
    for i in range(requests):
        value = b"child %d, request %d" % (child, i)
        mq.set(key, value)
        if mq.get(key) != value:
            return 1
    return 0


def start(mq, child, requests):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = serve(mq, child, requests)
        finally:
            # Not exit: what the parent registered to be run at its end is not
            # the child's.
            os._exit(status)
    return pid


def main():
    children = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with mqredis.open() as mq:
        mq.wait_ready(2)
        pids = [start(mq, child, requests) for child in range(children)]
        right = sum(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    print(
        "%d of %d children had %d right answers each" % (right, children, requests)
    )
    return 0 if right == children else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except mqredis.MqredisError as why:
        sys.exit(str(why))
