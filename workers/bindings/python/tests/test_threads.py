"""One handle, many threads: nothing crosses, nobody waits for another, and
closing waits for whoever is inside."""

import gc
import os
import threading
import unittest

import support
from support import mqredis


def run_threads(count, function):
    """function(i) in threads of their own; raises what the first of them did."""
    failures = []

    def body(i):
        try:
            function(i)
        except BaseException as why:
            failures.append(why)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Threads(support.HostCase):
    def test_none_crossed(self):
        def work(i):
            for n in range(200):
                value = b"thread %d, request %d" % (i, n)
                self.mq.set("t:%d" % i, value)
                self.assertEqual(self.mq.get("t:%d" % i), value)
                self.assertEqual(self.mq.batch([("ECHO", value)]), [value])
                self.assertEqual(self.mq.submit("ECHO", value).result(), value)

        run_threads(8, work)

    def test_a_waiting_thread_holds_up_nobody(self):
        waiting = threading.Thread(target=self.mq.command, args=("BLPOP", "l", 0))
        waiting.start()
        for _ in range(50):
            self.mq.command("PING")
        self.assertTrue(waiting.is_alive())
        self.mq.command("RPUSH", "l", "v")
        waiting.join(support.WAIT_S)
        self.assertFalse(waiting.is_alive())

    def test_closed_while_others_are_inside(self):
        for _ in range(20):
            mq = self.host.open()
            seen = []

            def work(i):
                try:
                    while True:
                        mq.set("k%d" % i, "v")
                        seen.append(i)
                except mqredis.Closed:
                    pass

            def close(_):
                support.until(lambda: len(set(seen)) >= 4)
                mq.close()

            run_threads(5, lambda i: work(i) if i < 4 else close(i))
            self.assertEqual((mq._users, mq._leftover), ([], []))

    def test_closed_under_a_blocked_call(self):
        mq = self.host.open(timeout=3)
        ended = []

        def work():
            try:
                mq.command("BLPOP", "l", 0)
            except mqredis.MqredisError as why:
                ended.append(why)

        thread = threading.Thread(target=work)
        thread.start()
        blocked = lambda: b"blocked_clients:1" in self.redis("INFO", "clients")
        self.assertTrue(support.until(blocked))
        mq.close()
        thread.join(support.WAIT_S)
        self.assertEqual(len(ended), 1)
        self.assertEqual(mq._leftover, [])


class Leftovers(support.HostCase):
    """Nothing is left open by what is dropped."""

    def descriptors(self):
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def test_handles(self):
        self.mq.command("PING")
        before = self.descriptors()
        for i in range(50):
            mq = self.host.open()
            mq.get("k")
            mq.submit("BLPOP", "l", 0)
            mq.subscribe("c")
            if i % 2:
                mq.close()
            del mq
        self.assertLessEqual(self.descriptors(), before)

    def test_memory(self):
        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        value = b"x" * 100_000
        self.mq.set("k", value)

        def work(count):
            for _ in range(count):
                self.mq.get("k")
                self.mq.batch([("GET", "k"), ("NOSUCH",)])
                with self.assertRaises(mqredis.ReplyError):
                    self.mq.command("INCR", "k")

        work(50)
        before = rss()
        work(300)
        # A leak of one reply a round would be 60 MB.
        self.assertLess(rss() - before, 10_000_000)


if __name__ == "__main__":
    unittest.main()
