"""A pool of preforked processes, as gunicorn's, whose members are killed and
replaced at random: no answer is another's, and Redis sees one connection."""

import mmap
import os
import random
import signal
import struct
import sys
import time
import unittest

import support

CHILDREN = 32
SECONDS = float(os.environ.get("POOL_SECONDS") or 10)
SEED = int(os.environ.get("POOL_SEED") or 1)


class Board:
    """Two numbers for each place in the pool, in memory that children share:
    right answers, and wrong ones."""

    def __init__(self, places):
        self._memory = mmap.mmap(-1, places * 16)
        self._places = places

    def add(self, place, right, wrong):
        old = struct.unpack_from("QQ", self._memory, place * 16)
        struct.pack_into(
            "QQ", self._memory, place * 16, old[0] + right, old[1] + wrong
        )

    def totals(self):
        pairs = list(struct.iter_unpack("QQ", self._memory[: self._places * 16]))
        return [p[0] for p in pairs], sum(p[1] for p in pairs)


def serve(mq, place, board):
    """A child's endless work. Values carry the name of the process that wrote
    them; its keys are its own."""
    name = b"%d" % os.getpid()
    sizes = random.Random(os.getpid())
    n = 0
    while True:
        n += 1
        key = b"pool:%s:%d" % (name, n % 10)
        value = b"%s:%d:" % (name, n) + b"x" * sizes.choice((0, 10, 900, 3000))
        stored = mq.set(key, value)
        right = stored is True and mq.get(key) == value
        board.add(place, 2 if right else 0, 0 if right else 1)


class Pool(support.HostCase):
    # A manager keeps a second connection ready for large values, of which there
    # are none here.
    options = ("--bulk-connections", "0")

    def start(self, place, board):
        pid = os.fork()
        if pid == 0:
            support.die_with_parent()
            try:
                serve(self.mq, place, board)
            except BaseException as why:
                print("child %d: %r" % (place, why), file=sys.stderr, flush=True)
            finally:
                os._exit(1)
        return pid

    def connections(self):
        """What Redis says of the connections that are not this test's own."""
        own = self.redis("CLIENT", "ID")
        clients = self.redis("CLIENT", "LIST").decode().splitlines()
        return [c for c in clients if "id=%d " % own not in c]

    def test_killed_and_replaced_at_random(self):
        random.seed(SEED)
        board = Board(CHILDREN)
        self.assertIs(self.mq.set("parent", "was here"), True)
        pids = [self.start(place, board) for place in range(CHILDREN)]
        most, kills = 0, 0
        end = time.monotonic() + SECONDS
        try:
            self.assertTrue(support.until(lambda: min(board.totals()[0]) > 0))
            while time.monotonic() < end:
                place = random.randrange(CHILDREN)
                # None of them ends by itself.
                self.assertEqual(os.waitpid(pids[place], os.WNOHANG), (0, 0))
                os.kill(pids[place], signal.SIGKILL)
                os.waitpid(pids[place], 0)
                pids[place] = self.start(place, board)
                kills += 1
                most = max(most, len(self.connections()))
                time.sleep(random.uniform(0, 0.05))
            # Those that are there now work.
            before = board.totals()[0]
            self.assertTrue(
                support.until(
                    lambda: all(a > b for a, b in zip(board.totals()[0], before))
                )
            )
            listed = self.connections()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)
        right, wrong = board.totals()
        self.assertEqual(wrong, 0)
        self.assertEqual(len(listed), 1, listed)
        self.assertIn("name=mqredis", listed[0])
        self.assertEqual(most, 1)
        self.assertGreater(kills, SECONDS)
        # The parent's handle went through all of it.
        self.assertEqual(self.mq.get("parent"), b"was here")
        support.say_figure(
            "pool of %d: %d commands, %d children killed and replaced, 0 crossed, "
            "%d connection at Redis" % (CHILDREN, sum(right), kills, most)
        )


if __name__ == "__main__":
    unittest.main()
