"""Subscriptions."""

import os
import signal
import threading
import time
import unittest

import support
from support import mqredis


class Streams(support.HostCase):
    def test_messages_in_order(self):
        with self.mq.subscribe("a", "b") as stream:
            for i in range(200):
                self.mq.command("PUBLISH", "ab"[i % 2], i)
            for i in range(200):
                event = stream.next(support.WAIT_S)
                self.assertEqual(event, (b"ab"[i % 2 : i % 2 + 1], b"%d" % i, None))
                self.assertIsInstance(event, mqredis.Message)
            self.assertIsNone(stream.next(0.05))
            self.assertIsNone(stream.take())

    def test_patterns(self):
        with self.mq.psubscribe("n.*", "m.*") as stream:
            self.mq.command("PUBLISH", "n.x", b"\0\xff")
            self.assertEqual(
                stream.next(support.WAIT_S),
                mqredis.Message(b"n.x", b"\0\xff", b"n.*"),
            )

    def test_shard_channels(self):
        with self.mq.ssubscribe("n") as stream:
            self.mq.command("PUBLISH", "n", "other")
            self.mq.command("SPUBLISH", "n", "mine")
            self.assertEqual(
                stream.next(support.WAIT_S), mqredis.Message(b"n", b"mine", None)
            )

    def test_empty_and_large_messages(self):
        with self.mq.subscribe("c") as stream:
            large = os.urandom(300_000)
            self.mq.command("PUBLISH", "c", "")
            self.mq.command("PUBLISH", "c", large)
            self.assertEqual(stream.next(support.WAIT_S).data, b"")
            self.assertEqual(stream.next(support.WAIT_S).data, large)

    def test_iterating_until_closed(self):
        stream = self.mq.subscribe("c")
        for i in range(3):
            self.mq.command("PUBLISH", "c", i)
        got = []
        for event in stream:
            got.append(event.data)
            if len(got) == 3:
                stream.close()
        self.assertEqual(got, [b"0", b"1", b"2"])
        with self.assertRaises(mqredis.Closed):
            stream.next()

    def test_waiting_wakes_for_a_message(self):
        with self.mq.subscribe("c") as stream:
            timer = threading.Timer(0.2, self.redis, args=("PUBLISH", "c", "v"))
            timer.start()
            self.assertEqual(stream.next().data, b"v")
            timer.join()

    def test_a_signal_is_seen_while_it_waits(self):
        def stop(number, frame):
            raise InterruptedError

        old = signal.signal(signal.SIGALRM, stop)
        took = []
        try:
            with self.mq.subscribe("c") as stream:
                for _ in range(5):
                    start = time.monotonic()
                    with self.assertRaises(InterruptedError):
                        signal.setitimer(signal.ITIMER_REAL, 0.1)
                        stream.next()
                    took.append(time.monotonic() - start)
            # Long before the library would have been asked again; the machine may
            # stand still for a while.
            self.assertLess(min(took), 1.5)
        finally:
            signal.signal(signal.SIGALRM, old)

    def test_no_names(self):
        with self.assertRaises(mqredis.Invalid):
            self.mq.subscribe()
        with self.assertRaises(TypeError):
            self.mq.subscribe(None)

    def test_one_upstream_subscription(self):
        streams = [self.mq.subscribe("shared") for _ in range(5)]
        self.assertEqual(self.redis("PUBSUB", "NUMSUB", "shared"), [b"shared", 1])
        self.mq.command("PUBLISH", "shared", "v")
        for stream in streams:
            self.assertEqual(stream.next(support.WAIT_S).data, b"v")
            stream.close()


class SlowReaders(support.HostCase):
    options = ("--subscriber-backlog", "1000")

    def test_a_slow_reader_is_told_how_many_it_missed(self):
        count, size = 6000, 1000
        with self.mq.subscribe("c") as stream:
            for start in range(0, count, 500):
                self.mq.batch(
                    [
                        ("PUBLISH", "c", b"%d:" % i + b"x" * size)
                        for i in range(start, start + 500)
                    ]
                )
            self.mq.command("PUBLISH", "c", "last")
            expected, missed = 0, 0
            while True:
                event = stream.next(support.WAIT_S)
                if isinstance(event, mqredis.Lagged):
                    self.assertGreater(event.count, 0)
                    missed += event.count
                    expected += event.count
                elif event.data == b"last":
                    break
                else:
                    self.assertEqual(int(event.data.split(b":")[0]), expected)
                    expected += 1
            self.assertEqual(expected, count)
            self.assertGreater(missed, 0)


class Ends(unittest.TestCase):
    def test_the_manager_ends_and_comes_back(self):
        host = support.Host()
        try:
            with host.open() as mq, mq.subscribe("c") as stream:
                host.kill_manager()
                for _ in range(2):
                    with self.assertRaises(mqredis.Unavailable) as caught:
                        stream.next(support.WAIT_S)
                    self.assertNotIn("\n", str(caught.exception))
                with self.assertRaises(mqredis.Unavailable):
                    stream.renew(0.05)
                host.start_manager()
                stream.renew()
                gap = stream.next(support.WAIT_S)
                self.assertIsInstance(gap, mqredis.Gap)
                self.assertGreater(gap.seconds, 0)
                mq.command("PUBLISH", "c", "again")
                self.assertEqual(stream.next(support.WAIT_S).data, b"again")
        finally:
            host.stop()


if __name__ == "__main__":
    unittest.main()
