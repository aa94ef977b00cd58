"""Redis commands through the connection that all processes of a host share.

    import mqredis

    with mqredis.open("default") as mq:
        mq.set("k", b"v")
        mq.get("k")                        # b"v", or None
        mq.command("INCRBY", "n", 5)       # 5
        mq.batch([("GET", "k"), ("TTL", "k")])

Commands travel over a message queue of the kernel to mqredis-manager, which
owns the one connection to Redis. This is libmqredis through ctypes: the rules
of mqredis.h hold. A handle may be used from several threads at once, and by
children of fork() without a call in between. README.md says the rest.
"""

from ._aio import AsyncMqredis, AsyncStream
from ._errors import (
    Closed,
    Expired,
    Invalid,
    LibraryError,
    Lost,
    MqredisError,
    NoMemory,
    ReplyError,
    SystemError_,
    TooBig,
    Unavailable,
)
from ._handle import Info, Mqredis, Request
from ._stream import Gap, Lagged, Message, Stream
from ._values import Verbatim

__version__ = "1.0.0"

__all__ = [
    "AsyncMqredis",
    "AsyncStream",
    "Closed",
    "Expired",
    "Gap",
    "Info",
    "Invalid",
    "Lagged",
    "LibraryError",
    "Lost",
    "Message",
    "Mqredis",
    "MqredisError",
    "NoMemory",
    "ReplyError",
    "Request",
    "Stream",
    "SystemError_",
    "TooBig",
    "Unavailable",
    "Verbatim",
    "open",
]


def open(channel=None, *, timeout=5.0, spin=0.0, library=None):
    """Opens a channel: a name, or a path with a slash; None: $MQREDIS_CHANNEL,
    else "default". It is no error if no manager serves it yet: the first
    command says so, or `wait_ready` waits for one.

    `timeout`: seconds that each request has, None for no limit. `spin`: seconds
    that a call looks for its reply before it sleeps. `library`: the path of
    libmqredis, else $MQREDIS_LIBRARY, else the system's."""
    return Mqredis(channel, timeout=timeout, spin=spin, library=library)
