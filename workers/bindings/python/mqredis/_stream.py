"""Subscriptions: an iterator over what comes.

Waiting is Python's poll on the stream's descriptor, so that signals are seen at
once; the library itself is only asked, never waited in.
"""

import math
import select
import time
from collections import namedtuple
from ctypes import byref
from threading import get_ident

from . import _handle, _library
from ._errors import Closed, Invalid, of_status
from ._values import bytes_at, pack

# One who sleeps on the descriptor for longer is to ask the library in between.
LOOK_S = 2.0

CONFIRMED = object()

Message = namedtuple("Message", "channel data pattern")
Message.__doc__ = "A message; `pattern` is None unless a pattern matched it."
Lagged = namedtuple("Lagged", "count")
Lagged.__doc__ = "So many messages are missing here: the reader was too slow."
Gap = namedtuple("Gap", "seconds")
Gap.__doc__ = "Messages may be missing here: for so long nobody listened."


class Stream:
    """Gives a Message each, Lagged(n) where n are missing, and Gap where some may
    be. When no more will come, an error says why; after Unavailable, `renew` may
    help. For one thread at a time; a child of fork() subscribes anew.

        with mq.subscribe("news") as stream:
            for event in stream:
                ...
    """

    def __init__(self, handle, names, kind, wait=True):
        self._owner = handle
        self._stream = None
        self._generation = _handle.generation()
        self._event = _library.Event()
        self._poll = None
        if not names:
            raise Invalid("subscribing takes a channel or more")
        count, argv, lengths = pack(names)
        why = _library.Error()
        lib = handle._c
        if wait:
            call = {
                _library.TOPIC_CHANNEL: lib.subscribe,
                _library.TOPIC_PATTERN: lib.psubscribe,
                _library.TOPIC_SHARD: lib.ssubscribe,
            }[kind]
            arguments = (count, argv, lengths, byref(why))
        else:
            call = lib.stream_open
            arguments = (kind, count, argv, lengths, byref(why))
        self._confirmed = wait
        self._stream = handle._quickly(call, *arguments)
        if not self._stream:
            raise of_status(why.status, why.text)

    def _call(self, function, *arguments):
        owner = self._owner
        owner._users.append(get_ident())
        try:
            owner._enter()
            if self._stream is None:
                raise Closed("the stream is closed: subscribe again")
            if self._generation != _handle.generation():
                raise Closed("the stream is the parent's: subscribe in this process")
            return function(self._stream, *arguments)
        finally:
            owner._leave()

    def _one(self, stream):
        """What the library has next, as an event of ours; None: nothing yet. The
        views in its event last until its next call."""
        event = self._event
        while self._owner._c.stream_next(stream, 0, byref(event)):
            kind = event.type
            if kind == _library.MESSAGE:
                pattern = None
                if event.pattern is not None:
                    pattern = bytes_at(event.pattern, event.pattern_len)
                return Message(
                    bytes_at(event.channel, event.channel_len),
                    bytes_at(event.data, event.len) if event.len else b"",
                    pattern,
                )
            if kind == _library.LAGGED:
                return Lagged(event.count)
            if kind == _library.GAP:
                return Gap(event.count / 1000)
            if kind == _library.END:
                text = bytes_at(event.data, event.len) if event.len else b""
                raise of_status(event.status, text)
            # SUBSCRIBED. Making the stream has waited for that, unless it is told.
            if not self._confirmed:
                self._confirmed = True
                return CONFIRMED
        return None

    def take(self):
        """The next event if it is there, else None. Never sleeps."""
        event = self._call(self._one)
        return self._call(self._one) if event is CONFIRMED else event

    def confirm(self):
        """Of a stream made without waiting: whether Redis has confirmed all names;
        if not, it is to be asked again. Never sleeps."""
        return self._confirmed or self._call(self._one) is CONFIRMED

    def next(self, timeout=None):
        """Waits for the next event; None when `timeout` seconds passed first."""
        limit = _handle._milliseconds(timeout)
        end = None if limit < 0 else time.monotonic() + limit / 1000
        while True:
            event = self.take()
            if event is not None:
                return event
            wait = LOOK_S
            if end is not None:
                wait = min(wait, end - time.monotonic())
                if wait <= 0:
                    return None
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self.fileno(), select.POLLIN)
            self._poll.poll(math.ceil(wait * 1000))

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.next()
        except Closed:
            if self._stream is None:
                raise StopIteration from None
            raise

    def fileno(self):
        """Readable when `take` may have an event. Changes with `renew`."""
        return self._call(self._owner._c.stream_fd)

    def renew(self, timeout=5.0):
        """Subscribes once more after an end, waiting for a manager for so long.
        The next event is a Gap."""
        why = _library.Error()
        limit = _handle._milliseconds(timeout)
        self._poll = None
        status = self._call(self._owner._c.stream_renew, limit, byref(why))
        if status != 0:
            raise of_status(status, why.text)

    def close(self):
        """Ends the subscription; harmless when it has ended."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        owner = self._owner
        owner._users.append(get_ident())
        try:
            # A closed handle has freed its streams.
            if owner._handle is not None:
                owner._c.stream_close(stream)
        finally:
            owner._leave()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __del__(self):
        if getattr(self, "_stream", None):
            self.close()
