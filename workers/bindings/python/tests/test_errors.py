"""What a program sees when something is wrong: each error has its class, one
line, and means what the header says."""

import _thread
import os
import signal
import threading
import time
import unittest

import support
from support import mqredis


class OneLine(support.HostCase):
    def check(self, kind, call, *words):
        with self.assertRaises(kind) as caught:
            call()
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        self.assertIsInstance(caught.exception, mqredis.MqredisError)
        for word in words:
            self.assertIn(word, text)
        return caught.exception

    def test_redis_refuses(self):
        self.mq.command("RPUSH", "l", 1)
        error = self.check(mqredis.ReplyError, lambda: self.mq.get("l"), "WRONGTYPE")
        self.assertEqual(error.code, "WRONGTYPE")
        self.assertEqual(error.status, "ok")
        error = self.check(mqredis.ReplyError, lambda: self.mq.command("NOSUCH"))
        self.assertEqual(error.code, "ERR")

    def test_the_manager_refuses(self):
        error = self.check(
            mqredis.Invalid, lambda: self.mq.command("WATCH", "k"), "WATCH"
        )
        self.assertEqual(error.status, "invalid")
        self.check(mqredis.Invalid, self.mq.command)
        self.check(mqredis.Invalid, lambda: self.mq.batch([()]))

    def test_bad_names(self):
        self.check(mqredis.Invalid, lambda: mqredis.open("no good\n"))
        self.check(mqredis.Invalid, lambda: mqredis.open("x" * 500))
        with self.assertRaises(TypeError):
            mqredis.open(7)
        self.check(mqredis.Invalid, lambda: mqredis.open("a\0b"))

    def test_nobody_serves(self):
        with mqredis.open("nobody-%d" % os.getpid()) as mq:
            error = self.check(mqredis.Unavailable, lambda: mq.get("k"), "nobody")
            self.assertEqual(error.status, "unavailable")
            self.check(mqredis.Unavailable, lambda: mq.batch([("GET", "k")]))
            self.check(mqredis.Unavailable, lambda: mq.submit("GET", "k").result())
            self.check(mqredis.Unavailable, mq.info)
            self.check(mqredis.Unavailable, lambda: mq.subscribe("c"))
            self.check(mqredis.Unavailable, lambda: mq.wait_ready(0.05))

    def test_use_after_close(self):
        mq = self.host.open()
        stream = mq.subscribe("c")
        request = mq.submit("GET", "k")
        mq.close()
        mq.close()
        self.assertTrue(mq.closed)
        for call in (
            lambda: mq.get("k"),
            lambda: mq.set("k", "v"),
            lambda: mq.command("PING"),
            lambda: mq.batch([("PING",)]),
            lambda: mq.transaction([("PING",)]),
            lambda: mq.submit("PING"),
            lambda: mq.subscribe("c"),
            lambda: mq.wait_ready(),
            lambda: mq.aio,
            lambda: setattr(mq, "timeout", 1),
            mq.info,
            mq.flush,
            request.result,
            request.done,
            stream.next,
            stream.fileno,
        ):
            self.check(mqredis.Closed, call, "closed")
        request.cancel()
        stream.close()

    def test_times_are_checked(self):
        for bad in (-1, float("nan"), float("inf"), 1e10):
            with self.assertRaises(ValueError):
                self.mq.timeout = bad
        for bad in ("1", b"1", True):
            with self.assertRaises(TypeError):
                self.mq.timeout = bad
        for good in (0, 0.001, 5, 3600.5, None):
            self.mq.timeout = good
            self.assertEqual(self.mq.timeout, good)

    def test_info(self):
        info = self.mq.info()
        self.assertEqual(info.manager_pid, self.host.manager.pid)
        self.assertTrue(info.connected)
        self.assertEqual(info.state, "connected")
        self.assertIn(self.host.socket, info.server)
        self.assertEqual((info.message_size, info.resp, info.db), (1024, 2, 0))


class Time(support.HostCase):
    def test_a_blocked_command_ends_in_its_time(self):
        self.mq.timeout = 0.1
        start = time.monotonic()
        with self.assertRaises((mqredis.Lost, mqredis.Expired)):
            self.mq.command("BLPOP", "l", 0)
        self.assertGreaterEqual(time.monotonic() - start, 0.09)
        self.mq.timeout = 5
        self.assertEqual(self.mq.command("PING"), "PONG")

    def test_expired_was_not_executed(self):
        os.kill(self.host.manager.pid, signal.SIGSTOP)
        try:
            self.mq.timeout = 0.05
            # Fills the queue, whoever waits for its answer.
            requests = [self.mq.submit("INCR", "n") for _ in range(10)]
            with self.assertRaises((mqredis.Expired, mqredis.Lost)):
                self.mq.set("late", "v")
            for request in requests:
                with self.assertRaises((mqredis.Expired, mqredis.Lost)):
                    request.result()
        finally:
            os.kill(self.host.manager.pid, signal.SIGCONT)
        self.mq.timeout = 5
        self.assertEqual(self.mq.command("PING"), "PONG")

    def test_without_limit_it_waits(self):
        self.mq.timeout = None
        timer = threading.Timer(0.5, lambda: self.redis("RPUSH", "l", "v"))
        timer.start()
        self.assertEqual(self.mq.command("BLPOP", "l", 0), [b"l", b"v"])
        timer.join()
        self.mq.set("k", b"v\0")
        self.assertEqual(self.mq.get("k"), b"v\0")
        self.assertEqual(self.mq.batch([("GET", "k")]), [b"v\0"])

    def test_an_interrupt_ends_a_long_wait(self):
        self.mq.timeout = None
        thread = support.once_blocked(self.redis, _thread.interrupt_main)
        with self.assertRaises(KeyboardInterrupt):
            self.mq.command("BLPOP", "l", 0)
        thread.join()
        # It was given up: the next element is for whoever asks.
        self.nobody_blocks()
        self.redis("RPUSH", "l", "v")
        self.assertEqual(self.mq.command("BLPOP", "l", 0), [b"l", b"v"])


class Managers(unittest.TestCase):
    """Managers that die and come back, under one handle."""

    def setUp(self):
        self.host = support.Host()
        self.mq = self.host.open()

    def tearDown(self):
        self.mq.close()
        self.host.stop()

    def until_unavailable(self):
        """The first commands behind a manager's death may be in doubt."""
        texts = []

        def unavailable():
            with self.assertRaises((mqredis.Unavailable, mqredis.Lost)) as caught:
                self.mq.get("k")
            texts.append(str(caught.exception))
            return "no manager" in texts[-1]

        self.assertTrue(support.until(unavailable), texts)

    def test_killed_and_restarted(self):
        for i in range(3):
            self.assertTrue(self.mq.set("k", i))
            self.host.kill_manager()
            self.until_unavailable()
            with self.assertRaises(mqredis.Unavailable):
                self.mq.wait_ready(0.05)
            self.host.start_manager()
            self.mq.wait_ready(support.WAIT_S)
            self.assertEqual(self.mq.get("k"), b"%d" % i)

    def test_killed_while_it_waits(self):
        redis = self.host.connect()
        thread = support.once_blocked(redis, self.host.kill_manager)
        start = time.monotonic()
        with self.assertRaises(mqredis.Lost):
            self.mq.command("BLPOP", "l", 0)
        thread.join()
        redis.close()
        self.assertLess(time.monotonic() - start, 2 * support.WAIT_S)
        self.host.start_manager()
        self.assertEqual(self.mq.command("PING"), "PONG")

    def test_waiting_for_one_that_comes(self):
        self.host.kill_manager()
        self.until_unavailable()
        seen = []

        def wait():
            self.mq.wait_ready(support.WAIT_S)
            seen.append(self.mq.command("PING"))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        self.host.start_manager()
        thread.join()
        self.assertEqual(seen, ["PONG"])

    def test_redis_killed_and_restarted(self):
        self.mq.set("k", "v")
        self.host.kill_redis()
        self.mq.timeout = 0.2
        with self.assertRaises(
            (mqredis.Unavailable, mqredis.Lost, mqredis.Expired)
        ) as caught:
            self.mq.get("k")
        self.assertNotIn("\n", str(caught.exception))
        os.unlink(self.host.socket)
        self.host.start_redis()
        self.mq.wait_ready(support.WAIT_S)
        self.mq.timeout = 5
        self.assertIsNone(self.mq.get("k"))


if __name__ == "__main__":
    unittest.main()
