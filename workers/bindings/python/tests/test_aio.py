"""asyncio on the handle's descriptor."""

import asyncio
import gc
import os
import threading
import time
import unittest

import support
from support import mqredis


class Aio(support.HostCase):
    def run_with(self, body, **options):
        """Runs the coroutine function body(aio) in an event loop of its own."""

        async def main():
            async with mqredis.AsyncMqredis(self.host.channel, **options) as aio:
                return await body(aio)

        return asyncio.run(main())

    def test_commands(self):
        async def body(aio):
            self.assertIs(await aio.set("k", b"v\0"), True)
            self.assertEqual(await aio.get("k"), b"v\0")
            self.assertIs(await aio.set("k", 1, "NX"), False)
            self.assertEqual(await aio.command("INCR", "n"), 1)
            self.assertEqual(await aio.batch([("INCR", "n"), ("GET",)]), [2, ANY])
            self.assertEqual(await aio.batch([]), [])
            replies = await aio.transaction([("INCR", "n"), ("LPUSH", "n", 1)])
            self.assertEqual(replies[0], 3)
            self.assertEqual(replies[1].code, "WRONGTYPE")
            with self.assertRaises(mqredis.ReplyError) as caught:
                await aio.transaction([("SET", "new", 1), ("GET",)])
            self.assertNotIn("EXECABORT", str(caught.exception))
            self.assertIsNone(await aio.get("new"))
            with self.assertRaises(mqredis.ReplyError):
                await aio.command("NOSUCH")
            with self.assertRaises(mqredis.Invalid):
                await aio.command("WATCH", "k")
            with self.assertRaises(TypeError):
                await aio.command("GET", None)
            await aio.wait_ready()
            self.assertTrue(aio.info().connected)

        class Any:
            def __eq__(self, other):
                return isinstance(other, mqredis.ReplyError)

        ANY = Any()
        self.run_with(body)

    def test_no_thread(self):
        async def body(aio):
            await asyncio.gather(*(aio.command("INCR", "n") for _ in range(100)))
            self.assertEqual(threading.active_count(), before)

        before = threading.active_count()
        self.run_with(body)

    def test_thousands_in_flight(self):
        async def one(aio, i):
            value = b"%d" % i * (i % 50)
            await aio.set("k%d" % i, value)
            return await aio.get("k%d" % i) == value

        async def body(aio):
            right = await asyncio.gather(*(one(aio, i) for i in range(3000)))
            self.assertTrue(all(right))
            self.assertEqual(aio._pending, {})

        self.run_with(body)

    def test_many_messages_at_once(self):
        async def body(aio):
            # A batch travels in a message of its own: more than the library
            # would hold back.
            batches = [[("INCR", "n"), ("ECHO", i)] for i in range(1500)]
            replies = await asyncio.gather(*(aio.batch(b) for b in batches))
            self.assertEqual([int(r[1]) for r in replies], list(range(1500)))
            self.assertEqual(await aio.get("n"), b"1500")

        self.run_with(body)

    def test_submitted_together_travel_together(self):
        async def body(aio):
            await aio.command("PING")
            before = messages()
            await asyncio.gather(*(aio.command("INCR", "n") for _ in range(500)))
            self.assertLess(messages() - before, 500 / 10)

        def messages():
            program = os.path.join(support.BUILD, "mqstat")
            with os.popen("%s --prometheus" % program) as out:
                for line in out:
                    if line.startswith("mqredis_messages_total{") and (
                        '"%s"' % self.host.channel in line
                    ):
                        return int(line.split()[-1])
            raise AssertionError("mqstat has no such counter")

        self.run_with(body)

    def test_a_blocked_command_holds_up_nobody(self):
        async def body(aio):
            blocked = asyncio.ensure_future(aio.command("BLPOP", "l", 0))
            for i in range(50):
                self.assertEqual(await aio.command("ECHO", i), b"%d" % i)
            self.assertFalse(blocked.done())
            await aio.command("RPUSH", "l", "v")
            self.assertEqual(await blocked, [b"l", b"v"])

        self.run_with(body)

    def test_cancelling_gives_the_request_up(self):
        async def body(aio):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(aio.command("BLPOP", "l", 0), 0.1)
            self.assertEqual(aio._pending, {})
            # Its element is there for the next one.
            self.nobody_blocks()
            await aio.command("RPUSH", "l", "v")
            self.assertEqual(await aio.command("BLPOP", "l", 0), [b"l", b"v"])

        self.run_with(body, timeout=None)

    def test_given_up_beside_others_it_takes_no_element(self):
        async def body(aio):
            # Submitted in one round of the loop; the others go on waiting.
            first, blocked, last = (
                asyncio.ensure_future(aio.command("blpop", key, 0))
                for key in ("first", "l", "last")
            )
            clients = lambda n: b"blocked_clients:%d" % n in self.redis("INFO")
            await asyncio.sleep(0.02)
            self.assertTrue(support.until(lambda: clients(3)))
            blocked.cancel()
            await asyncio.sleep(0.02)
            self.assertTrue(support.until(lambda: clients(2)))
            await aio.command("RPUSH", "l", "v")
            self.assertEqual(await aio.command("LLEN", "l"), 1)
            await aio.batch([("RPUSH", "first", 1), ("RPUSH", "last", 2)])
            self.assertEqual(await first, [b"first", b"1"])
            self.assertEqual(await last, [b"last", b"2"])

        self.run_with(body)

    def test_a_window_for_many_that_block(self):
        async def body(aio):
            blocked = [
                asyncio.ensure_future(aio.command("BLPOP", "l%d" % i, 0))
                for i in range(100)
            ]
            await asyncio.sleep(0)
            self.assertEqual(await aio.command("PING"), "PONG")
            for task in blocked:
                task.cancel()
            await asyncio.wait(blocked)

        self.run_with(body, window=200)

    def test_cancelled_before_it_was_sent_is_not_executed(self):
        async def body(aio):
            await aio.command("PING")
            task = asyncio.ensure_future(aio.set("k", "v"))
            # Starts the task, which submits; the loop has not sent it yet.
            await asyncio.sleep(0)
            self.assertEqual(len(aio._pending), 1)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertIsNone(await aio.get("k"))

        self.run_with(body)

    def test_cancelling_at_every_moment_crosses_nothing(self):
        async def asks(aio, i):
            value = b"%d" % i
            if await aio.command("ECHO", value) != value:
                raise AssertionError("crossed")

        async def body(aio):
            for round_ in range(40):
                tasks = [asyncio.ensure_future(asks(aio, i)) for i in range(40)]
                for _ in range(round_ % 7):
                    await asyncio.sleep(0)
                for task in tasks[round_ % 3 :: 2]:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                for outcome in ended:
                    if outcome is not None:
                        self.assertIsInstance(outcome, asyncio.CancelledError)
            self.assertEqual(aio._pending, {})
            self.assertEqual(await aio.command("PING"), "PONG")

        self.run_with(body)

    def test_times(self):
        async def body(aio):
            start = time.monotonic()
            with self.assertRaises((mqredis.Lost, mqredis.Expired)):
                await aio.command("BLPOP", "l", 0)
            self.assertGreaterEqual(time.monotonic() - start, 0.09)

        self.run_with(body, timeout=0.1)

    def test_large_values(self):
        async def body(aio):
            value = os.urandom(1 << 20)
            await aio.set("big", value)
            self.assertEqual(await aio.get("big"), value)

        self.run_with(body)

    def test_nobody_serves(self):
        async def body():
            async with mqredis.AsyncMqredis("nobody-%d" % os.getpid()) as aio:
                with self.assertRaises(mqredis.Unavailable):
                    await aio.get("k")
                with self.assertRaises(mqredis.Unavailable):
                    await aio.wait_ready(0.05)
                with self.assertRaises(mqredis.Unavailable):
                    await aio.subscribe("c")

        asyncio.run(body())

    def test_by_way_of_the_handle(self):
        async def body():
            await self.mq.aio.set("k", "v")
            return await self.mq.aio.get("k")

        # One event loop after another.
        self.assertEqual(asyncio.run(body()), b"v")
        self.assertEqual(asyncio.run(body()), b"v")
        aio = self.mq.aio
        self.mq.close()
        self.assertTrue(aio.closed)

    def test_in_a_child_of_fork(self):
        async def body():
            await self.mq.aio.command("INCR", "n")
            return await self.mq.aio.get("n")

        def child():
            assert asyncio.run(body()) == b"2"

        self.assertEqual(asyncio.run(body()), b"1")
        self.assertEqual(support.in_child(child), 0)
        self.assertEqual(asyncio.run(body()), b"3")

    def test_two_loops_at_once_are_refused(self):
        async def other():
            with self.assertRaises(mqredis.Invalid) as caught:
                await self.mq.aio.get("k")
            self.assertIn("event loop", str(caught.exception))

        async def body():
            await self.mq.aio.get("k")
            failures = []

            def thread():
                try:
                    asyncio.run(other())
                except BaseException as why:
                    failures.append(why)

            started = threading.Thread(target=thread)
            started.start()
            started.join()
            self.assertEqual(failures, [])

        asyncio.run(body())

    def test_closed_with_commands_in_flight(self):
        async def body():
            aio = mqredis.AsyncMqredis(self.host.channel)
            task = asyncio.ensure_future(aio.command("BLPOP", "l", 0))
            await asyncio.sleep(0.05)
            aio.close()
            aio.close()
            with self.assertRaises(asyncio.CancelledError):
                await task
            with self.assertRaises(mqredis.Closed):
                await aio.get("k")

        asyncio.run(body())

    def test_killed_manager(self):
        host = support.Host()
        try:

            async def body():
                async with mqredis.AsyncMqredis(host.channel) as aio:
                    await aio.set("k", "v")
                    blocked = asyncio.ensure_future(aio.command("BLPOP", "l", 0))
                    redis = host.connect()
                    thread = support.once_blocked(redis, host.kill_manager)
                    with self.assertRaises(mqredis.Lost):
                        await blocked
                    thread.join()
                    redis.close()
                    with self.assertRaises((mqredis.Unavailable, mqredis.Lost)):
                        await aio.get("k")
                    host.start_manager()
                    await aio.wait_ready(support.WAIT_S)
                    self.assertEqual(await aio.get("k"), b"v")

            asyncio.run(body())
        finally:
            host.stop()

    def test_nothing_stays_open(self):
        def descriptors():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        async def body():
            for _ in range(20):
                aio = mqredis.AsyncMqredis(self.host.channel)
                await aio.get("k")
                aio.close()

        before = descriptors()
        asyncio.run(body())
        self.assertLessEqual(descriptors(), before)


class AioStreams(support.HostCase):
    def test_messages(self):
        async def body():
            async with mqredis.AsyncMqredis(self.host.channel) as aio:
                async with await aio.subscribe("c", b"d\0") as stream:
                    for i in range(100):
                        await aio.command("PUBLISH", "c", i)
                    await aio.command("PUBLISH", b"d\0", "end")
                    got = []
                    async for event in stream:
                        got.append(event.data)
                        if event.channel == b"d\0":
                            break
                    self.assertEqual(got, [b"%d" % i for i in range(100)] + [b"end"])
                async with await aio.psubscribe("p*") as stream:
                    waiting = asyncio.ensure_future(stream.next())
                    await asyncio.sleep(0.02)
                    await aio.command("PUBLISH", "pq", "v")
                    event = await waiting
                    self.assertEqual(event, mqredis.Message(b"pq", b"v", b"p*"))
                    waiting = asyncio.ensure_future(stream.next())
                    await asyncio.sleep(0.02)
                    waiting.cancel()
                    with self.assertRaises(asyncio.CancelledError):
                        await waiting
                    await aio.command("PUBLISH", "pq", "w")
                    self.assertEqual((await stream.next()).data, b"w")

        asyncio.run(body())

    def test_nothing_between_confirmation_and_first_look_is_missed(self):
        async def body():
            async with mqredis.AsyncMqredis(self.host.channel) as aio:
                for i in range(50):
                    making = asyncio.ensure_future(aio.subscribe("x"))
                    while not making.done():
                        await aio.command("PUBLISH", "x", i)
                    stream = await making
                    await aio.command("PUBLISH", "x", "end")
                    last = None
                    while (event := await stream.next()).data != b"end":
                        # Once one has come, all have.
                        last = int(event.data)
                        self.assertEqual(last, i)
                    stream.close()

        asyncio.run(body())

    def test_manager_restarted(self):
        host = support.Host()

        async def body():
            async with mqredis.AsyncMqredis(host.channel) as aio:
                stream = await aio.subscribe("c")
                host.kill_manager()
                with self.assertRaises(mqredis.Unavailable):
                    await stream.next()
                host.start_manager()
                await stream.renew()
                self.assertIsInstance(await stream.next(), mqredis.Gap)
                await aio.command("PUBLISH", "c", "again")
                self.assertEqual((await stream.next()).data, b"again")
                stream.close()

        try:
            asyncio.run(body())
        finally:
            host.stop()


if __name__ == "__main__":
    unittest.main()
