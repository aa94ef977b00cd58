"""Python's values to the arguments of a command, and replies to values.

A reply is a tree in the library's memory. It is copied into Python's values and
freed at once: so nothing here has an owner to care for.
"""

import ctypes

from . import _errors
from . import _library as c

# The bytes at an address. ctypes.string_at takes a C int for the length.
bytes_at = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)

# ---- arguments ----


def encode(value):
    """One argument as bytes."""
    kind = type(value)
    if kind is bytes:
        return value
    if kind is str:
        return value.encode()
    if isinstance(value, bool):
        raise TypeError(
            "a bool is no argument for Redis: say what is to be stored, such as "
            "int(value)"
        )
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return float.__repr__(value).encode()
    raise TypeError(
        "an argument is bytes, str, int or float, not %s" % kind.__name__
    )


def _array_types(most):
    sizes = [1 << i for i in range(most.bit_length())]
    few = range(17)
    return {n: (ctypes.c_char_p * n, ctypes.c_size_t * n) for n in (*few, *sizes)}


# Making an array type costs more than filling one: there is one for each small
# number of arguments, and one for each power of two.
_ARRAYS = _array_types(1 << 22)


def pack(arguments):
    """(argc, argv, len) for the library. The array keeps the bytes alive."""
    count = len(arguments)
    arguments = [a if type(a) is bytes else encode(a) for a in arguments]
    room = count if count <= 16 else 1 << (count - 1).bit_length()
    strings, sizes = _ARRAYS.get(room) or (
        ctypes.c_char_p * room,
        ctypes.c_size_t * room,
    )
    return count, strings(*arguments), sizes(*map(len, arguments))


def resp(arguments):
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in map(encode, arguments):
        parts += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(parts)


# ---- replies ----


class Verbatim(bytes):
    """A text that Redis sent with its format, "txt" or "mkd"."""

    format = "txt"


def _string(node):
    return bytes_at(node.str, node.len)


def _status(node):
    return bytes_at(node.str, node.len).decode("utf-8", "replace")


def _integer(node):
    return node.integer


def _nil(node):
    return None


def _error(node):
    return _errors.ReplyError(_status(node))


def _double(node):
    return node.real


def _bool(node):
    return node.integer != 0


def _bignum(node):
    digits = bytes_at(node.str, node.len)
    try:
        return int(digits)
    except ValueError:
        # Longer than sys.get_int_max_str_digits() allows.
        return digits


def _verbatim(node):
    value = Verbatim(bytes_at(node.str, node.len))
    value.format = node.format.decode("ascii", "replace")
    return value


def _failure(node):
    return _errors.of_status(node.status, bytes_at(node.str, node.len))


def _list(node):
    count = node.elements
    if count == 0:
        return []
    addresses = memoryview(bytes_at(node.element, count * _POINTER)).cast("N")
    return [value_at(address) for address in addresses]


def _set(node):
    values = _list(node)
    try:
        return set(values)
    except TypeError:
        # Something in it is a list or a map itself.
        return values


def _map(node):
    flat = _list(node)
    pairs = zip(flat[::2], flat[1::2])
    try:
        return dict(pairs)
    except TypeError:
        # A key is a list or a map itself.
        return list(zip(flat[::2], flat[1::2]))


_POINTER = ctypes.sizeof(ctypes.c_void_p)

_DECODERS = {
    c.STRING: _string,
    c.ARRAY: _list,
    c.INTEGER: _integer,
    c.NIL: _nil,
    c.STATUS: _status,
    c.ERROR: _error,
    c.DOUBLE: _double,
    c.BOOL: _bool,
    c.MAP: _map,
    c.SET: _set,
    c.PUSH: _list,
    c.BIGNUM: _bignum,
    c.VERBATIM: _verbatim,
    c.BATCH: _list,
    c.FAILURE: _failure,
}


def value_at(address, reply_at=c.Reply.from_address):
    """The value of the reply at an address. Errors, Redis's and the library's,
    are values too: exceptions that were not raised."""
    node = reply_at(address)
    kind = node.type
    if kind == 1:
        return bytes_at(node.str, node.len)
    return _DECODERS[kind](node)
