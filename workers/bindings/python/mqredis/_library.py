"""libmqredis through ctypes: its structs, its functions, and finding it.

Everything here repeats workers/mqredis.h. tests/test_abi.py compares it with
the header and with what a C compiler makes of it, so that neither can change
alone.
"""

import ctypes
import os
from ctypes import POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_int
from ctypes import c_int32, c_int64, c_long, c_size_t, c_uint, c_uint64
from ctypes import c_void_p

from ._errors import LibraryError

SONAME = "libmqredis.so.1"
MAJOR = "1"

# enum mqredis_type
STRING, ARRAY, INTEGER, NIL, STATUS, ERROR, DOUBLE, BOOL, MAP, SET = range(1, 11)
PUSH, BIGNUM, VERBATIM = 12, 13, 14
BATCH, FAILURE = 64, 65

# enum mqredis_raw_flag
RAW_ALONE, RAW_BATCH = 1, 2

# enum mqredis_topic
TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD = 1, 2, 3

# enum mqredis_event_type
MESSAGE, SUBSCRIBED, LAGGED, GAP, END = range(1, 6)


class Error(Structure):
    """struct mqredis_error"""

    _fields_ = [("status", c_int), ("text", c_char * 512)]


class Reply(Structure):
    """struct mqredis_reply. Pointers are plain addresses here: an attribute of
    type c_void_p is read as an int, or None."""

    _fields_ = [
        ("type", c_int),
        ("status", c_int),
        ("integer", c_int64),
        ("real", c_double),
        ("str", c_void_p),
        ("len", c_size_t),
        ("format", c_char * 4),
        ("elements", c_size_t),
        ("element", c_void_p),
        ("attributes", c_void_p),
    ]


class Info(Structure):
    """struct mqredis_info"""

    _fields_ = [
        ("queue_depth", c_long),
        ("queue_capacity", c_long),
        ("message_size", c_size_t),
        ("manager_pid", c_int32),
        ("connected", c_bool),
        ("state", c_char * 16),
        ("server", c_char * 160),
        ("last_error", c_char * 256),
        ("resp", c_int),
        ("db", c_uint),
    ]


class Event(Structure):
    """struct mqredis_event"""

    _fields_ = [
        ("type", c_int),
        ("status", c_int),
        ("count", c_uint64),
        ("channel", c_void_p),
        ("pattern", c_void_p),
        ("data", c_void_p),
        ("channel_len", c_size_t),
        ("pattern_len", c_size_t),
        ("len", c_size_t),
        ("raw", c_void_p),
        ("raw_len", c_size_t),
    ]


_error = POINTER(Error)
_strings = POINTER(c_char_p)
_sizes = POINTER(c_size_t)

# name: (result, arguments). What is only handed back is a c_void_p. A call in
# QUICK never sleeps and keeps the interpreter's lock: giving it up and taking
# it again would cost more than the call.
PROTOTYPES = {
    "mqredis_version": (c_char_p, []),
    "mqredis_open": (c_void_p, [c_char_p, _error]),
    "mqredis_close": (None, [c_void_p]),
    "mqredis_set_timeout": (None, [c_void_p, c_int64]),
    "mqredis_set_spin": (None, [c_void_p, c_uint]),
    "mqredis_set_window": (None, [c_void_p, c_uint]),
    "mqredis_wait_ready": (c_int, [c_void_p, c_int64, _error]),
    "mqredis_info": (c_int, [c_void_p, POINTER(Info), _error]),
    "mqredis_command_argv": (c_void_p, [c_void_p, c_size_t, _strings, _sizes]),
    "mqredis_get": (c_void_p, [c_void_p, c_char_p]),
    "mqredis_set": (c_void_p, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "mqredis_free": (None, [c_void_p]),
    "mqredis_batch_new": (c_void_p, [c_void_p]),
    "mqredis_batch_add_argv": (None, [c_void_p, c_size_t, _strings, _sizes]),
    "mqredis_batch_run": (c_void_p, [c_void_p]),
    "mqredis_transaction_run": (c_void_p, [c_void_p]),
    "mqredis_batch_submit": (c_void_p, [c_void_p]),
    "mqredis_submit_argv": (c_void_p, [c_void_p, c_size_t, _strings, _sizes]),
    "mqredis_submit_raw": (
        c_void_p,
        [c_void_p, c_char_p, c_size_t, c_size_t, c_uint],
    ),
    "mqredis_flush": (None, [c_void_p]),
    "mqredis_wait": (c_void_p, [c_void_p]),
    "mqredis_wait_done": (c_bool, [c_void_p, c_int64]),
    "mqredis_wait_any": (c_void_p, [c_void_p, c_int64]),
    "mqredis_cancel": (None, [c_void_p]),
    "mqredis_fd": (c_int, [c_void_p]),
    "mqredis_subscribe": (c_void_p, [c_void_p, c_size_t, _strings, _sizes, _error]),
    "mqredis_psubscribe": (c_void_p, [c_void_p, c_size_t, _strings, _sizes, _error]),
    "mqredis_ssubscribe": (c_void_p, [c_void_p, c_size_t, _strings, _sizes, _error]),
    "mqredis_stream_open": (
        c_void_p,
        [c_void_p, c_int, c_size_t, _strings, _sizes, _error],
    ),
    "mqredis_stream_next": (c_bool, [c_void_p, c_int64, POINTER(Event)]),
    "mqredis_stream_fd": (c_int, [c_void_p]),
    "mqredis_stream_renew": (c_int, [c_void_p, c_int64, _error]),
    "mqredis_stream_close": (None, [c_void_p]),
}

QUICK = {
    "mqredis_version",
    "mqredis_set_timeout",
    "mqredis_set_spin",
    "mqredis_set_window",
    "mqredis_free",
    "mqredis_batch_new",
    "mqredis_batch_add_argv",
    "mqredis_fd",
    "mqredis_stream_fd",
}


class Library:
    """One loaded libmqredis: its functions, without the prefix, as attributes
    (`library.command_argv`). With `path` None it is looked for."""

    def __init__(self, path=None):
        self.path = path or os.environ.get("MQREDIS_LIBRARY") or SONAME
        try:
            sleeping = ctypes.CDLL(self.path)
            quick = ctypes.PyDLL(self.path)
            for name, (result, arguments) in PROTOTYPES.items():
                function = getattr(quick if name in QUICK else sleeping, name)
                function.restype = result
                function.argtypes = arguments
                setattr(self, name[len("mqredis_") :], function)
        except OSError as why:
            raise LibraryError(
                "cannot load %s: %s: install libmqredis, or set "
                "MQREDIS_LIBRARY to its path" % (self.path, why)
            ) from None
        except AttributeError as why:
            raise LibraryError(
                "%s is no libmqredis that this package can use (%s): update it, "
                "or set MQREDIS_LIBRARY to another" % (self.path, why)
            ) from None
        version = self.version().decode("ascii", "replace")
        if version.split(".")[0] != MAJOR:
            raise LibraryError(
                "%s is version %s, this package needs %s.x: use the package "
                "that came with the library" % (self.path, version, MAJOR)
            )


_loaded = {}


def load(path=None):
    """The library at a path (None: found by itself), loaded once each."""
    key = path or os.environ.get("MQREDIS_LIBRARY") or SONAME
    library = _loaded.get(key)
    if library is None:
        library = _loaded.setdefault(key, Library(key))
    return library
