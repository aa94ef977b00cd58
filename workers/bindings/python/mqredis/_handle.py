"""The handle: commands and their replies, one at a time or many.

The library forbids closing a handle that another thread is using. So every call
puts a mark into `_users` before it looks at the handle, and whoever is the last
to leave a closed one frees it. Marks are added and removed by single operations
of a list, which need no lock.
"""

import math
import os
import threading
import time
import weakref
from collections import namedtuple
from ctypes import byref
from threading import get_ident

from . import _library, _stream
from ._errors import Closed, Invalid, MqredisError, NoMemory, of_status
from ._values import encode, pack, resp, value_at

# Calls that may last longer than that are made of shorter waits, between which
# Python gets to see signals, such as Ctrl-C.
_PATIENCE = 5.0
_SLICE_MS = 200

Info = namedtuple(
    "Info",
    "queue_depth queue_capacity message_size manager_pid connected state "
    "server last_error resp db",
)
Info.__doc__ = "What a handle sees of its channel: struct mqredis_info."

# ---- fork ----

# The library allows no fork while another thread opens or closes a handle.
_opening = threading.RLock()
_handles = weakref.WeakSet()
_generation = 0


def generation():
    """How many forks lie between this process and the one that imported us."""
    return _generation


def _after_in_child():
    global _generation
    _generation += 1
    _opening.release()
    # Of the threads that were in a call, only this one is here.
    me = get_ident()
    for handle in list(_handles):
        handle._users[:] = [user for user in handle._users if user == me]


os.register_at_fork(
    before=_opening.acquire,
    after_in_parent=_opening.release,
    after_in_child=_after_in_child,
)


def _milliseconds(seconds):
    """For the library: -1 is no limit."""
    if seconds is None:
        return -1
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError("a time is a number of seconds, or None")
    if not 0 <= seconds <= 1e9:
        raise ValueError("a time is 0 to 1e9 seconds, or None: %r" % (seconds,))
    return math.ceil(seconds * 1000)


def settle(value):
    """Raises what is an error, returns what is not."""
    if isinstance(value, MqredisError):
        raise value
    return value


class Mqredis:
    """A handle of a channel; see mqredis.open. All methods may be called from
    several threads at once. Calls sleep without holding the interpreter's
    lock."""

    def __init__(self, channel=None, *, timeout=5.0, spin=0.0, library=None):
        self._handle = None
        self._users = []
        self._leftover = []
        self._aio = None
        self._library = library
        self._c = lib = _library.load(library)
        self._get = lib.get
        self._set = lib.set
        self._argv = lib.command_argv
        self._free = lib.free
        self._channel = channel
        name = None if channel is None else os.fsencode(channel)
        if name is not None and b"\0" in name:
            raise Invalid("a channel's name has no zero byte in it: %r" % (channel,))
        why = _library.Error()
        with _opening:
            handle = lib.open(name, byref(why))
            if not handle:
                raise of_status(why.status, why.text)
            self._handle = handle
            self._leftover.append(handle)
            _handles.add(self)
        self._spin, self._window = 0.0, 64
        self.timeout = timeout
        if spin:
            self.spin = spin

    # ---- the handle's life ----

    def _enter(self):
        """The handle; to be called behind adding to `_users`."""
        handle = self._handle
        if handle is None:
            raise Closed("the handle is closed: open another")
        return handle

    def _leave(self):
        """Takes a mark of this thread away."""
        self._users.remove(get_ident())
        if self._handle is None:
            self._finish()

    def _finish(self):
        """Frees the closed handle, once, if nobody is using it."""
        with _opening:
            if self._users or not self._leftover:
                return
            self._c.close(self._leftover.pop())

    def close(self):
        """Cancels what is in flight and closes the handle; harmless when it is
        closed already. A call that another thread is in ends as it would, and
        the handle with it."""
        aio, self._aio = self._aio, None
        if aio is not None:
            aio.close()
        self._handle = None
        self._finish()

    @property
    def closed(self):
        return self._handle is None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __del__(self):
        # One that failed to open may lack everything.
        if getattr(self, "_leftover", None):
            self.close()

    def __reduce__(self):
        # In another process (multiprocessing's "spawn"): the same channel.
        return _reopen, (self._channel, self.timeout, self.spin, self._library)

    def __repr__(self):
        state = "closed" if self._handle is None else "open"
        return "<mqredis.Mqredis channel=%r %s>" % (self._channel, state)

    @property
    def timeout(self):
        """Seconds that each later request has; None: no limit. While it is None
        or more than 5, calls cost a little more, for they can be interrupted by
        signals."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds):
        limit = _milliseconds(seconds)
        self._timeout = seconds
        self._patient = seconds is None or seconds > _PATIENCE
        self._quickly(self._c.set_timeout, limit)

    @property
    def spin(self):
        """Seconds that a call looks for its reply before it sleeps: 0.01 at
        most. Of use where processors are idle."""
        return self._spin

    @spin.setter
    def spin(self, seconds):
        microseconds = min(_milliseconds(seconds * 1000), 10000)
        self._spin = seconds
        self._quickly(self._c.set_spin, microseconds)

    @property
    def window(self):
        """How many messages of submitted requests may be in flight, 64 at first and
        4096 at most; further ones gather unsent. More are for who submits many
        commands that block in Redis."""
        return self._window

    @window.setter
    def window(self, messages):
        if not isinstance(messages, int) or not 1 <= messages <= 4096:
            raise ValueError("a window is 1 to 4096 messages: %r" % (messages,))
        self._window = messages
        self._quickly(self._c.set_window, messages)

    def _quickly(self, function, *arguments):
        """Calls what wants the handle."""
        self._users.append(get_ident())
        try:
            return function(self._enter(), *arguments)
        finally:
            self._leave()

    # ---- one command ----

    def _take(self, reply):
        """The value of a reply, which is freed, or its error, raised."""
        try:
            value = value_at(reply)
        finally:
            self._free(reply)
        if isinstance(value, MqredisError):
            raise value
        return value

    def get(self, key):
        """GET: bytes, or None."""
        if type(key) is not bytes:
            key = encode(key)
        # The library's own GET takes a string.
        if self._patient or b"\0" in key:
            return self.command(b"GET", key)
        users, me = self._users, get_ident()
        users.append(me)
        try:
            reply = self._get(self._handle or self._enter(), key)
        finally:
            users.remove(me)
            if self._handle is None:
                self._finish()
        return self._take(reply)

    def set(self, key, value, *options):
        """SET, with options as Redis has them: mq.set("k", "v", "EX", 10, "NX").
        True; False if NX or XX kept it from being set; with the option GET what
        was there before."""
        if type(key) is not bytes:
            key = encode(key)
        if type(value) is not bytes:
            value = encode(value)
        if options or self._patient or b"\0" in key:
            reply = self.command(b"SET", key, value, *options)
            if reply is None and not asks_for_old(options):
                return False
            return True if reply == "OK" else reply
        users, me = self._users, get_ident()
        users.append(me)
        try:
            reply = self._set(self._handle or self._enter(), key, value, len(value))
        finally:
            users.remove(me)
            if self._handle is None:
                self._finish()
        return self._take(reply) == "OK"

    def command(self, *arguments):
        """Any command: mq.command("INCRBY", "n", 5). Arguments are bytes, str
        (as UTF-8), int or float. Raises ReplyError where Redis answers with an
        error."""
        if self._patient:
            return self.submit(*arguments).result()
        count, argv, lengths = pack(arguments)
        users, me = self._users, get_ident()
        users.append(me)
        try:
            reply = self._argv(
                self._handle or self._enter(), count, argv, lengths
            )
        finally:
            users.remove(me)
            if self._handle is None:
                self._finish()
        return self._take(reply)

    # ---- several ----

    def _batch(self, commands, run):
        """Makes a batch and gives it to `run`, which takes it."""
        lib = self._c
        packed = [pack(checked(command)) for command in commands]
        self._users.append(get_ident())
        try:
            batch = lib.batch_new(self._enter())
            for count, argv, lengths in packed:
                lib.batch_add_argv(batch, count, argv, lengths)
            return run(batch)
        finally:
            self._leave()

    def batch(self, commands):
        """Commands that are sent together with nothing between them: a list of
        their replies. A command is a list or tuple. Where one failed, its error
        stands as a value in its place; only what befell all of them alike is
        raised."""
        commands = list(commands)
        if not commands:
            return []
        if self._patient:
            return self.submit_batch(commands).result()
        return self._take(self._batch(commands, self._c.batch_run))

    def transaction(self, commands):
        """The same between MULTI and EXEC: Redis executes all or nothing. Raises
        ReplyError if it refused one of them: then nothing was executed."""
        commands = list(commands)
        if not commands:
            return []
        return self._take(self._batch(commands, self._c.transaction_run))

    # ---- many at once ----

    def submit(self, *arguments):
        """Starts a command and returns its Request. What is submitted before the
        next wait travels in few messages."""
        return Request(self, self._submit(arguments))

    def _submit(self, arguments):
        """The address of a request."""
        if blocks(arguments):
            # In a message of its own: only so the manager learns at once that it
            # was given up, and takes no element for it.
            data = resp(arguments)
            alone = _library.RAW_ALONE
            return self._quickly(self._c.submit_raw, data, len(data), 1, alone)
        return self._quickly(self._c.submit_argv, *pack(arguments))

    def submit_batch(self, commands):
        """The same for a batch."""
        return Request(self, self._batch(commands, self._c.batch_submit))

    def flush(self):
        """Sends what was submitted, without waiting for replies."""
        self._quickly(self._c.flush)

    # ---- subscriptions ----

    def subscribe(self, *channels):
        """A Stream of the messages of some channels. All processes of the host
        share one upstream subscription."""
        return _stream.Stream(self, channels, _library.TOPIC_CHANNEL)

    def psubscribe(self, *patterns):
        """The same for patterns, as PSUBSCRIBE has them."""
        return _stream.Stream(self, patterns, _library.TOPIC_PATTERN)

    def ssubscribe(self, *channels):
        """The same for shard channels, as SSUBSCRIBE has them."""
        return _stream.Stream(self, channels, _library.TOPIC_SHARD)

    # ---- the channel ----

    def wait_ready(self, timeout=None):
        """Sleeps until a manager serves the channel and is connected to Redis;
        raises Unavailable when the time (None: the handle's) passed first."""
        limit = _milliseconds(self._timeout if timeout is None else timeout)
        end = None if limit < 0 else time.monotonic() + limit / 1000
        why = _library.Error()
        while True:
            left = _SLICE_MS
            if end is not None:
                left = min(left, max(0, math.ceil((end - time.monotonic()) * 1000)))
            status = self._quickly(self._c.wait_ready, left, byref(why))
            if status == 0:
                return
            waits = status == 3 and (end is None or time.monotonic() < end)
            if not waits:
                raise of_status(status, why.text)

    def info(self):
        """What is known about the channel. Unavailable: no manager."""
        info, why = _library.Info(), _library.Error()
        status = self._quickly(self._c.info, byref(info), byref(why))
        if status != 0:
            raise of_status(status, why.text)
        return Info(
            info.queue_depth,
            info.queue_capacity,
            info.message_size,
            info.manager_pid,
            info.connected,
            *(
                text.decode("utf-8", "replace")
                for text in (info.state, info.server, info.last_error)
            ),
            info.resp,
            info.db,
        )

    @property
    def aio(self):
        """The same channel for asyncio, on a handle of its own: `await
        mq.aio.get("k")`. Closed with this one."""
        if self._handle is None:
            self._enter()
        if self._aio is None:
            from ._aio import AsyncMqredis

            self._aio = AsyncMqredis(
                self._channel, timeout=self._timeout, library=self._library
            )
        return self._aio


def _reopen(channel, timeout, spin, library):
    return Mqredis(channel, timeout=timeout, spin=spin, library=library)


def asks_for_old(options):
    return any(
        isinstance(o, (str, bytes)) and encode(o).upper() == b"GET" for o in options
    )


_BLOCKING = frozenset(
    b"BLPOP BRPOP BLMOVE BRPOPLPUSH BZPOPMIN BZPOPMAX BLMPOP BZMPOP XREAD "
    b"XREADGROUP WAIT WAITAOF".split()
)


def blocks(arguments):
    """Whether it is a command that may sleep in Redis."""
    name = arguments[0] if arguments else b""
    return isinstance(name, (str, bytes)) and encode(name).upper() in _BLOCKING


def checked(command):
    """A command of a batch must not be a mere string, which has a length too."""
    if not isinstance(command, (list, tuple)):
        raise TypeError(
            "a command of a batch is a list or tuple, not %s"
            % type(command).__name__
        )
    return command


class Request:
    """A command in flight. For one thread at a time. Given up when nobody refers
    to it any more."""

    def __init__(self, handle, address):
        self._owner = handle
        self._address = address
        self._value = None
        if not address:
            self._value = NoMemory("out of memory before it was sent")

    def _wait(self, limit_ms):
        """Whether it is done in that time. -1: no limit."""
        owner = self._owner
        owner._users.append(get_ident())
        try:
            owner._enter()
            return owner._c.wait_done(self._address, limit_ms)
        finally:
            owner._leave()

    def done(self):
        """Whether its reply is there; asks without waiting."""
        return not self._address or self._wait(0)

    def result(self, timeout=None):
        """Waits for the reply, as long as the request has time; at most
        `timeout` seconds, then it raises TimeoutError and goes on. An exception
        that comes from outside, such as KeyboardInterrupt, gives it up."""
        if self._address:
            limit = _milliseconds(timeout)
            end = None if limit < 0 else time.monotonic() + limit / 1000
            try:
                self._wait_until(end)
            except (KeyboardInterrupt, SystemExit):
                self.cancel()
                raise
            self._collect()
        return settle(self._value)

    def _wait_until(self, end):
        left = _SLICE_MS
        while True:
            if end is not None:
                left = max(0, math.ceil((end - time.monotonic()) * 1000))
            if self._wait(min(left, _SLICE_MS)):
                return
            if end is not None and time.monotonic() >= end:
                raise TimeoutError("no reply yet: the request goes on")

    def _collect(self):
        owner, lib = self._owner, self._owner._c
        owner._users.append(get_ident())
        try:
            owner._enter()
            address, self._address = self._address, None
            reply = lib.wait(address)
        finally:
            owner._leave()
        try:
            self._value = value_at(reply)
        finally:
            lib.free(reply)

    def cancel(self):
        """Gives the request up. A command that was not sent yet is not sent;
        later calls of `result` raise Closed."""
        owner, address = self._owner, self._address
        if not address:
            return
        self._address = None
        self._value = Closed("the request was cancelled")
        owner._users.append(get_ident())
        try:
            # A closed handle has freed its requests.
            if owner._handle is not None:
                owner._c.cancel(address)
        finally:
            owner._leave()

    def __del__(self):
        if getattr(self, "_address", None):
            self.cancel()
