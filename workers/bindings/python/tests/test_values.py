"""What goes in and what comes out: arguments, replies of every type, batches."""

import array
import ctypes
import enum
import unittest

import support
from mqredis import ReplyError, Verbatim, _library, _values


class Arguments(support.HostCase):
    def test_bytes_come_back_as_they_were(self):
        every = bytes(range(256)) + b"\r\n$5\r\n\0"
        self.assertIs(self.mq.set("k", every), True)
        self.assertEqual(self.mq.get("k"), every)
        self.assertEqual(self.redis("GET", "k"), every)

    def test_keys_may_hold_any_byte(self):
        for key in (b"\0", b"a\0b", b"\r\n", b" ", b"%s%b", "ключ\0"):
            self.mq.set(key, b"of " + repr(key).encode())
            self.assertEqual(self.mq.get(key), b"of " + repr(key).encode())
            self.assertEqual(self.mq.command("DEL", key), 1)

    def test_empty_values(self):
        self.mq.set("", "")
        self.assertEqual(self.mq.get(""), b"")
        self.assertEqual(self.mq.get(b""), b"")

    def test_text_is_utf8(self):
        self.mq.set("käse", "größer ☃")
        self.assertEqual(self.redis("GET", "käse"), "größer ☃".encode())
        with self.assertRaises(UnicodeEncodeError):
            self.mq.set("k", "\ud800")

    def test_numbers(self):
        class Port(enum.IntEnum):
            HTTP = 80

        class Name(str):
            pass

        echo = lambda value: self.mq.command("ECHO", value)
        self.assertEqual(echo(-(2**70)), b"-1180591620717411303424")
        self.assertEqual(echo(0.1), b"0.1")
        self.assertEqual(echo(1e300), b"1e+300")
        self.assertEqual(echo(float("inf")), b"inf")
        self.assertEqual(echo(Port.HTTP), b"80")
        self.assertEqual(echo(Name("n")), b"n")
        self.assertEqual(echo(bytearray(b"b\0")), b"b\0")
        self.assertEqual(echo(memoryview(b"xyz")[1:]), b"yz")

    def test_everything_else_is_a_type_error(self):
        for value in (None, True, [], ("a",), {}, object(), 1j, array.array("b")):
            for call in (
                lambda: self.mq.command("ECHO", value),
                lambda: self.mq.get(value),
                lambda: self.mq.set("k", value),
                lambda: self.mq.set(value, "v"),
                lambda: self.mq.batch([("ECHO", value)]),
                lambda: self.mq.submit("ECHO", value),
            ):
                with self.assertRaises(TypeError):
                    call()
        self.assertEqual(self.redis("DBSIZE"), 0)

    def test_many_arguments(self):
        for count in (15, 16, 17, 31, 32, 33, 1000, 5000):
            values = [b"%d" % i for i in range(count)]
            self.redis("DEL", "l")
            self.assertEqual(self.mq.command("RPUSH", "l", *values), count)
            self.assertEqual(self.mq.command("LRANGE", "l", 0, -1), values)

    def test_set_takes_options(self):
        self.assertIs(self.mq.set("k", 1, "EX", 100), True)
        self.assertGreater(self.mq.command("TTL", "k"), 90)
        self.assertIs(self.mq.set("k", 2, "NX"), False)
        self.assertEqual(self.mq.set("k", 3, "GET"), b"1")
        self.assertIsNone(self.mq.set("new", 3, b"get"))


class Replies(support.HostCase):
    def test_of_redis(self):
        command = self.mq.command
        self.assertEqual(command("PING"), "PONG")
        self.assertEqual(command("INCRBY", "n", 5), 5)
        self.assertIsNone(command("GET", "nothing"))
        self.assertEqual(command("RPUSH", "l", "a", "b"), 2)
        self.assertEqual(command("LRANGE", "l", 0, -1), [b"a", b"b"])
        self.assertEqual(command("LRANGE", "nothing", 0, -1), [])
        self.assertEqual(command("MGET", "n", "nothing"), [b"5", None])

    def test_nested(self):
        self.mq.command("RPUSH", "a", 1, 2)
        replies = self.mq.transaction(
            [("LRANGE", "a", 0, -1), ["LLEN", "a"], ("GET", "b"), ("PING",)]
        )
        self.assertEqual(replies, [[b"1", b"2"], 2, None, "PONG"])


class Resp3(support.HostCase):
    """Where the manager speaks RESP3 with Redis."""

    options = ("--resp", "3")

    def test_replies(self):
        command = self.mq.command
        command("HSET", "h", "f", 1)
        command("SADD", "s", "a", "b")
        command("ZADD", "z", 1.5, "m")
        self.assertEqual(command("HGETALL", "h"), {b"f": b"1"})
        self.assertEqual(command("SMEMBERS", "s"), {b"a", b"b"})
        self.assertEqual(command("ZSCORE", "z", "m"), 1.5)
        self.assertIsNone(command("GET", "nothing"))
        info = command("INFO", "server")
        self.assertIsInstance(info, Verbatim)
        self.assertEqual(info.format, "txt")


def reply(kind, text=None, elements=(), **fields):
    """A reply as the library would build one."""
    node = _library.Reply(type=kind, **fields)
    node.keep = [elements]
    if text is not None:
        memory = ctypes.create_string_buffer(text)
        node.str, node.len = ctypes.addressof(memory), len(text)
        node.keep.append(memory)
    if elements:
        addresses = [ctypes.addressof(e) for e in elements]
        memory = (ctypes.c_void_p * len(addresses))(*addresses)
        node.element, node.elements = ctypes.addressof(memory), len(addresses)
        node.keep.append(memory)
    return node


def value(*arguments, **fields):
    node = reply(*arguments, **fields)
    return _values.value_at(ctypes.addressof(node))


class EveryType(unittest.TestCase):
    """Those of RESP3 too, which no command of ours may give."""

    def test_scalars(self):
        c = _library
        self.assertEqual(value(c.STRING, b"a\0b"), b"a\0b")
        self.assertEqual(value(c.STATUS, b"OK"), "OK")
        self.assertEqual(value(c.INTEGER, integer=-(2**63)), -(2**63))
        self.assertIsNone(value(c.NIL))
        self.assertEqual(value(c.DOUBLE, b"1.5", real=1.5), 1.5)
        self.assertIs(value(c.BOOL, integer=1), True)
        self.assertIs(value(c.BOOL, integer=0), False)
        self.assertEqual(value(c.BIGNUM, b"-" + b"9" * 50), -int("9" * 50))
        self.assertEqual(value(c.BIGNUM, b"9" * 5000)[:3], b"999")
        verbatim = value(c.VERBATIM, b"text", format=b"mkd")
        self.assertEqual(verbatim, b"text")
        self.assertIsInstance(verbatim, Verbatim)
        self.assertEqual(verbatim.format, "mkd")

    def test_gatherings(self):
        c = _library
        one, two = reply(c.INTEGER, integer=1), reply(c.STRING, b"two")
        array_ = reply(c.ARRAY, None, [one])
        self.assertEqual(value(c.ARRAY, None, [one, two]), [1, b"two"])
        self.assertEqual(value(c.PUSH, None, [two, one]), [b"two", 1])
        self.assertEqual(value(c.ARRAY), [])
        self.assertEqual(value(c.SET, None, [one, two]), {1, b"two"})
        self.assertEqual(value(c.SET), set())
        self.assertEqual(value(c.MAP, None, [two, one]), {b"two": 1})
        self.assertEqual(value(c.MAP), {})
        # What cannot be in a set, or a key, in Python.
        self.assertEqual(value(c.SET, None, [array_, two]), [[1], b"two"])
        self.assertEqual(value(c.MAP, None, [array_, two]), [([1], b"two")])

    def test_errors_are_values_here(self):
        c = _library
        self.assertEqual(
            value(c.ERROR, b"NOPE not \xff"), ReplyError("NOPE not \ufffd")
        )
        for number, kind in support.mqredis._errors.BY_STATUS.items():
            error = value(c.FAILURE, b"why", status=number)
            self.assertIs(type(error), kind)
            self.assertEqual(error.text, "why")


class Batches(support.HostCase):
    def test_replies_are_in_order(self):
        commands = [("SET", "k", 1), ["INCR", "k"], ("GET", b"k")]
        self.assertEqual(self.mq.batch(commands), ["OK", 2, b"2"])
        self.assertEqual(self.mq.batch(iter(commands)), ["OK", 2, b"2"])
        self.assertEqual(self.mq.batch([]), [])
        self.assertEqual(self.mq.transaction([]), [])

    def test_thousands(self):
        replies = self.mq.batch([("INCR", "n")] * 4096)
        self.assertEqual(replies, list(range(1, 4097)))
        with self.assertRaises(support.mqredis.TooBig):
            self.mq.batch([("INCR", "n")] * 4097)

    def test_an_error_of_redis_stays_in_its_place(self):
        replies = self.mq.batch([("SET", "s", "x"), ("INCR", "s"), ("GET", "s")])
        self.assertEqual([replies[0], replies[2]], ["OK", b"x"])
        self.assertIsInstance(replies[1], ReplyError)
        self.assertEqual(replies[1].code, "ERR")

    def test_a_transaction_is_all_or_nothing(self):
        with self.assertRaises(ReplyError):
            self.mq.transaction([("SET", "a", 1), ("GET",)])
        self.assertEqual(self.redis("DBSIZE"), 0)
        self.mq.set("s", "x")
        replies = self.mq.transaction([("INCR", "s"), ("SET", "a", 1)])
        self.assertIsInstance(replies[0], ReplyError)
        self.assertEqual(replies[1], "OK")

    def test_a_command_is_no_string(self):
        for bad in ("PING", b"PING", None, 7):
            with self.assertRaises(TypeError):
                self.mq.batch([bad])


class Requests(support.HostCase):
    def test_many_at_once(self):
        requests = [self.mq.submit("INCR", "n") for _ in range(500)]
        self.assertEqual([r.result() for r in requests], list(range(1, 501)))
        self.assertEqual(requests[7].result(), 8)

    def test_a_batch_is_one(self):
        request = self.mq.submit_batch([("SET", "a", 1), ("INCR", "a")])
        self.assertEqual(request.result(), ["OK", 2])

    def test_result_may_be_waited_for_in_part(self):
        request = self.mq.submit("BLPOP", "l", 0)
        self.assertFalse(request.done())
        with self.assertRaises(TimeoutError):
            request.result(0.05)
        self.redis("RPUSH", "l", "v")
        self.assertEqual(request.result(support.WAIT_S), [b"l", b"v"])
        self.assertTrue(request.done())

    def test_cancelled(self):
        request = self.mq.submit("SET", "k", "v")
        request.cancel()
        request.cancel()
        with self.assertRaises(support.mqredis.Closed):
            request.result()
        self.assertIsNone(self.mq.get("k"))

    def test_dropped_is_cancelled(self):
        self.mq.submit("SET", "k", "v")
        self.assertIsNone(self.mq.get("k"))

    def test_an_error_is_raised_each_time(self):
        request = self.mq.submit("NOSUCH")
        for _ in range(2):
            with self.assertRaises(ReplyError):
                request.result()


if __name__ == "__main__":
    unittest.main()
