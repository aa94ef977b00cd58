"""What can go wrong: one class per status of the library, and Redis's own.

Every error has `status`, the library's word for what is known ("unavailable",
"lost", ...), and one line of text. They tell first of all whether a command may
have been executed: only `Lost` means that nobody knows.
"""


class MqredisError(Exception):
    """Below this are all errors of the package."""

    status = "unknown"

    @property
    def text(self):
        """The one line: what, where, what to do."""
        return str(self)


class Invalid(MqredisError):
    """Refused, by the library or the manager: not executed."""

    status = "invalid"


class Closed(Invalid):
    """The handle, or what hangs below it, was closed, or belongs to the parent
    of this process."""


class Expired(MqredisError):
    """Out of time before it was sent: not executed."""

    status = "expired"


class Unavailable(MqredisError):
    """No manager, or no Redis: not executed."""

    status = "unavailable"


class TooBig(MqredisError):
    """Over a limit that the text names."""

    status = "too-big"


class Lost(MqredisError):
    """Outcome unknown: it may have been executed."""

    status = "lost"


class NoMemory(MqredisError):
    """Out of memory before it was sent: not executed."""

    status = "out of memory"


class SystemError_(MqredisError):
    """A system call failed (descriptors, permissions): not executed."""

    status = "system"


class LibraryError(MqredisError, ImportError):
    """libmqredis is not to be found, or is of another version."""

    status = "library"


class ReplyError(MqredisError):
    """Redis answered with an error. Raised by a call with one command; among
    the replies of a batch it stands as a value."""

    status = "ok"

    @property
    def code(self):
        """The first word: "WRONGTYPE", "ERR", "NOSCRIPT", ..."""
        return str(self).split(" ", 1)[0]

    def __eq__(self, other):
        if not isinstance(other, ReplyError):
            return NotImplemented
        return str(self) == str(other)

    def __hash__(self):
        return hash(str(self))


# By the library's numbers, which never change.
BY_STATUS = {
    1: Invalid,
    2: Expired,
    3: Unavailable,
    4: TooBig,
    5: Lost,
    6: NoMemory,
    7: SystemError_,
}


def of_status(status, text):
    """The error for a status of the library, to be raised or to be a value."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    # One line, whatever a name in it holds.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    kind = BY_STATUS.get(status)
    if kind is None:
        return MqredisError("unknown status %d: %s" % (status, text))
    return kind(text or kind.__doc__)
