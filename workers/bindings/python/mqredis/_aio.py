"""The same for asyncio, on the handle's descriptor alone: no thread.

A command is submitted at once and travels, with what else was submitted in the
same round of the event loop, when that next looks at the descriptor. Then
whatever is done is taken, and its futures get their results. The handle is one
of its own, so that nobody else waits for its requests.
"""

import asyncio
import time

from . import _handle, _library
from ._errors import Invalid, MqredisError, NoMemory, Unavailable
from ._handle import Mqredis, checked, get_ident, settle
from ._stream import LOOK_S, Gap, Stream
from ._values import encode, value_at

# Requests in flight of one AsyncMqredis; further ones wait for their turn. The
# library holds that many messages back when the queue is full.
IN_FLIGHT = 1000

# How often the library is asked about what no descriptor tells.
ASK_S = 0.02


class AsyncMqredis:
    """A channel for coroutines. It belongs to the event loop that uses it; after
    that loop's end another may. Cancelling a task, or asyncio.wait_for, gives
    its request up: a command that was not sent yet is not sent.

        async with mqredis.AsyncMqredis("default") as mq:
            await mq.set("k", b"v")
            await asyncio.gather(*(mq.get(key) for key in keys))
    """

    def __init__(self, channel=None, *, timeout=5.0, window=64, library=None):
        self._mq = Mqredis(channel, timeout=timeout, library=library)
        self._mq.window = window
        self._c = self._mq._c
        self._loop = None
        self._fd = -1
        self._room = None
        self._generation = -1
        self._pending = {}

    # ---- the event loop ----

    def _attach(self, loop):
        """Watches the descriptor in this loop from now on."""
        inherited = self._generation != _handle.generation()
        old = self._loop
        if old is not None and not inherited and not old.is_closed():
            if old.is_running():
                raise Invalid("one AsyncMqredis serves one event loop: open another")
            old.remove_reader(self._fd)
        # What an earlier loop, or the parent of this process, left behind.
        for request in list(self._pending):
            self._give_up(request, self._pending[request])
        self._loop = None
        fd = self._mq._quickly(self._c.fd)
        if fd < 0:
            raise Invalid("out of descriptors")
        loop.add_reader(fd, self._collect)
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._loop, self._fd = loop, fd
        self._generation = _handle.generation()

    def _here(self):
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._generation != _handle.generation():
            self._attach(loop)
        return loop

    def _collect(self):
        """Called by the loop: takes what is done."""
        mq, lib, pending = self._mq, self._c, self._pending
        me = get_ident()
        mq._users.append(me)
        try:
            handle = mq._enter()
            while True:
                request = lib.wait_any(handle, 0)
                if not request:
                    return
                future = pending.pop(request)
                reply = lib.wait(request)
                try:
                    value = value_at(reply)
                except Exception as why:
                    value = why
                finally:
                    lib.free(reply)
                if future.done():
                    continue
                if isinstance(value, Exception):
                    future.set_exception(value)
                else:
                    future.set_result(value)
        finally:
            mq._leave()

    def _give_up(self, request, future):
        if self._pending.get(request) is not future:
            # It was done; the library may use the address for another.
            return
        del self._pending[request]
        if not self._mq.closed:
            self._mq._quickly(lambda handle: self._c.cancel(request))

    async def _answer(self, loop, request):
        if not request:
            raise NoMemory("out of memory before it was sent")
        future = loop.create_future()
        self._pending[request] = future
        try:
            return await future
        finally:
            # Cancelled, or the coroutine was closed.
            self._give_up(request, future)

    # ---- commands ----

    async def command(self, *arguments):
        """Any command; see Mqredis.command."""
        loop = self._here()
        async with self._room:
            return await self._answer(loop, self._mq._submit(arguments))

    async def get(self, key):
        """GET: bytes, or None."""
        return await self.command(b"GET", key)

    async def set(self, key, value, *options):
        """SET; see Mqredis.set."""
        reply = await self.command(b"SET", key, value, *options)
        if reply is None and not _handle.asks_for_old(options):
            return False
        return True if reply == "OK" else reply

    async def batch(self, commands):
        """Commands sent together with nothing between them; see Mqredis.batch."""
        commands = [checked(command) for command in commands]
        if not commands:
            return []
        loop = self._here()
        async with self._room:
            request = self._mq._batch(commands, self._c.batch_submit)
            return await self._answer(loop, request)

    async def transaction(self, commands):
        """The same between MULTI and EXEC; see Mqredis.transaction."""
        commands = list(commands)
        if not commands:
            return []
        replies = await self.batch([(b"MULTI",), *commands, (b"EXEC",)])
        last = replies[-1]
        if isinstance(last, MqredisError):
            # EXEC's own error only says that there was one before.
            last = next(r for r in replies if isinstance(r, MqredisError))
        return settle(last)

    # ---- subscriptions ----

    async def subscribe(self, *channels):
        """An AsyncStream of the messages of some channels."""
        return await self._subscribe(channels, _library.TOPIC_CHANNEL)

    async def psubscribe(self, *patterns):
        """The same for patterns."""
        return await self._subscribe(patterns, _library.TOPIC_PATTERN)

    async def ssubscribe(self, *channels):
        """The same for shard channels."""
        return await self._subscribe(channels, _library.TOPIC_SHARD)

    async def _subscribe(self, names, kind):
        stream = AsyncStream(self._mq, [encode(name) for name in names], kind)
        try:
            await stream._confirm()
        except BaseException:
            stream.close()
            raise
        return stream

    # ---- the rest ----

    @property
    def timeout(self):
        """Seconds that each later request has; None: no limit."""
        return self._mq.timeout

    @timeout.setter
    def timeout(self, seconds):
        self._mq.timeout = seconds

    async def wait_ready(self, timeout=None):
        """Waits until a manager serves the channel and is connected to Redis;
        Unavailable when the time (None: the handle's) passed first."""
        loop = asyncio.get_running_loop()
        limit = self._mq.timeout if timeout is None else timeout
        end = None if limit is None else loop.time() + limit
        while True:
            try:
                return self._mq.wait_ready(0)
            except Unavailable:
                if end is not None and loop.time() >= end:
                    raise
            await asyncio.sleep(ASK_S)

    def info(self):
        """What is known about the channel; see Mqredis.info."""
        return self._mq.info()

    @property
    def closed(self):
        return self._mq.closed

    def close(self):
        """Gives up what is in flight, whose futures are cancelled, and closes the
        handle."""
        mine = self._generation == _handle.generation()
        loop, self._loop = self._loop, None
        # A loop inherited by fork shares its epoll set with the parent.
        if loop is not None and mine and not loop.is_closed():
            loop.remove_reader(self._fd)
        pending, self._pending = self._pending, {}
        # Closing cancels what is in flight.
        self._mq.close()
        for future in pending.values():
            if mine and not future.done() and not future.get_loop().is_closed():
                future.cancel()

    async def aclose(self):
        self.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        self.close()

    def __del__(self):
        if getattr(self, "_mq", None) is not None and not self._mq.closed:
            self.close()

    def __repr__(self):
        return "<mqredis.AsyncMqredis of %r>" % (self._mq,)


class AsyncStream:
    """Stream for coroutines: `async for event in stream`. For one task at a
    time."""

    def __init__(self, mq, names, kind):
        self._what = mq, names, kind
        self._ended = None
        self._gap = None
        self._stream = Stream(mq, names, kind, wait=False)

    async def _confirm(self):
        """Waits until Redis has confirmed all names, or the library says why it
        has not: for which it is to be asked."""
        while not self._stream.confirm():
            await self._readable(ASK_S)

    async def next(self):
        """Waits for the next event."""
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        while True:
            try:
                event = self._stream.take()
            except MqredisError:
                self._ended = self._ended or time.monotonic()
                raise
            if event is not None:
                return event
            await self._readable(LOOK_S)

    async def _readable(self, seconds):
        """Waits until there may be an event, for some time at most."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def tell():
            if not ready.done():
                ready.set_result(None)

        fd = self._stream.fileno()
        loop.add_reader(fd, tell)
        look = loop.call_later(seconds, tell)
        try:
            await ready
        finally:
            look.cancel()
            loop.remove_reader(fd)

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.next()

    async def renew(self, timeout=5.0):
        """Subscribes once more after an end, waiting for a manager for so long.
        The next event is a Gap."""
        end = None if timeout is None else time.monotonic() + timeout
        ended = self._ended or time.monotonic()
        while True:
            new = None
            try:
                new = AsyncStream(*self._what)
                await new._confirm()
                break
            except BaseException as why:
                if new is not None:
                    new.close()
                in_time = end is None or time.monotonic() < end
                if not isinstance(why, Unavailable) or not in_time:
                    raise
            await asyncio.sleep(ASK_S)
        self._stream.close()
        self._stream, self._ended = new._stream, None
        self._gap = Gap(time.monotonic() - ended)

    def close(self):
        """Ends the subscription; harmless when it has ended."""
        self._stream.close()

    async def aclose(self):
        self._stream.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        self._stream.close()
