"""Handles across fork and in processes that are made otherwise."""

import multiprocessing
import os
import threading
import unittest

import support
from support import mqredis


def spawned(mq, key, results):
    results.put(mq.get(key))


class Fork(support.HostCase):
    def test_a_child_uses_its_parents_handle(self):
        self.mq.set("k", "parent's")

        def child():
            assert self.mq.get("k") == b"parent's"
            self.mq.set("k", "child's")

        self.assertEqual(support.in_child(child), 0)
        self.assertEqual(self.mq.get("k"), b"child's")

    def test_a_grandchild_too(self):
        def child():
            assert support.in_child(lambda: self.mq.set("k", "deep")) == 0
            assert self.mq.get("k") == b"deep"

        self.assertEqual(support.in_child(child), 0)

    def test_a_childs_close_is_its_own(self):
        self.assertEqual(support.in_child(self.mq.close), 0)
        self.assertEqual(self.mq.command("PING"), "PONG")

    def test_requests_stay_the_parents(self):
        request = self.mq.submit("INCR", "n")
        self.mq.flush()

        def child():
            try:
                request.result()
            except mqredis.Invalid:
                return
            raise AssertionError("a reply for the child")

        self.assertEqual(support.in_child(child), 0)
        self.assertEqual(request.result(), 1)

    def test_streams_stay_the_parents(self):
        with self.mq.subscribe("c") as stream:

            def child():
                try:
                    stream.take()
                except mqredis.Closed as why:
                    assert "parent" in str(why)
                    stream.close()
                    with self.mq.subscribe("c") as own:
                        self.mq.command("PUBLISH", "c", "both")
                        assert own.next(support.WAIT_S).data == b"both"
                    return
                raise AssertionError("an event for the child")

            self.assertEqual(support.in_child(child), 0)
            self.assertEqual(stream.next(support.WAIT_S).data, b"both")

    def test_fork_under_busy_threads(self):
        stop = threading.Event()

        def work(i):
            while not stop.is_set():
                assert self.mq.command("ECHO", i) == b"%d" % i

        def open_and_close():
            while not stop.is_set():
                self.host.open().close()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        threads.append(threading.Thread(target=open_and_close))
        for thread in threads:
            thread.start()
        try:

            def child():
                for i in range(20):
                    assert self.mq.command("ECHO", "c%d" % i) == b"c%d" % i
                self.mq.close()
                # The threads that were inside are not here to free it.
                assert self.mq._leftover == [], self.mq._users

            for _ in range(15):
                self.assertEqual(support.in_child(child), 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_multiprocessing_opens_anew(self):
        self.mq.set("k", "v")
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        # What `spawn` runs finds this module and the package by PYTHONPATH.
        os.environ["PYTHONPATH"] = support.PACKAGE + ":" + os.path.dirname(__file__)
        process = context.Process(target=spawned, args=(self.mq, "k", results))
        process.start()
        self.assertEqual(results.get(), b"v")
        process.join()
        self.assertEqual(process.exitcode, 0)


if __name__ == "__main__":
    unittest.main()
