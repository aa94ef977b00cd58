"""What the tests share: a Redis and a manager of their own, and a connection to
that Redis on which every byte is the test's.

Programs are those of $MQREDIS_BUILD (by default the repository's build/).
Everything started here dies with this process.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(PACKAGE)))
BUILD = os.path.abspath(os.environ.get("MQREDIS_BUILD") or os.path.join(ROOT, "build"))
os.environ["MQREDIS_LIBRARY"] = os.environ.get("MQREDIS_LIBRARY") or os.path.join(
    BUILD, "libmqredis.so.1"
)
sys.path.insert(0, PACKAGE)

import mqredis  # noqa: E402 (behind the path)

# How long an event may take before a test gives up: far more than any should.
WAIT_S = 10.0 * float(os.environ.get("CK_TIMEOUT_MULTIPLIER") or 1)

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In a child: SIGKILL when the parent ends; the parent's thread, in truth, so
    children are made by the main thread."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def until(condition):
    """Looks again and again until the condition holds; false: it never did."""
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def once_blocked(redis, action):
    """Runs action() in a thread of its own, once Redis has a client that waits for
    an element: who asks for one is in the middle of it then."""

    def work():
        if until(lambda: b"blocked_clients:0" not in redis("INFO", "clients")):
            action()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def say_figure(text):
    """A measured figure for people, on a line of its own: unittest has not ended
    its line yet."""
    print("\nfigure: python: " + text, flush=True)


class Connection:
    """A plain connection to Redis, for commands whose replies are simple."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WAIT_S)
        self._socket.connect(path)
        self._file = self._socket.makefile("rb")

    def __call__(self, *words):
        message = b"*%d\r\n" % len(words)
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            message += b"$%d\r\n%s\r\n" % (len(word), word)
        self._socket.sendall(message)
        return self._reply()

    def _reply(self):
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def close(self):
        self._file.close()
        self._socket.close()


class Host:
    """A Redis (redis-server where that is installed) and a manager. Redis listens
    on a unix socket, and on a port if one is given: then the manager is connected
    to that."""

    count = 0

    def __init__(self, *options, port=0):
        Host.count += 1
        self.folder = tempfile.mkdtemp(prefix="mqredis-python-")
        self.channel = "py%d-%d" % (os.getpid(), Host.count)
        self.options = options
        self.server = self.manager = self._told = None
        # Where the test runner has not given one, a folder for channels.
        self._dir = os.environ.get("MQREDIS_DIR")
        if self._dir is None:
            os.environ["MQREDIS_DIR"] = self.folder
        self.port = port
        self.socket = os.path.join(self.folder, "r")
        self.uri = "unix://" + self.socket
        if port:
            self.uri = "redis://127.0.0.1:%d" % port
        try:
            self.start_redis()
            self.start_manager()
        except BaseException:
            self.stop()
            raise

    def _spawn(self, *words, **kinds):
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **kinds
        )

    def start_redis(self):
        real = shutil.which(os.environ.get("REDIS_SERVER") or "redis-server")
        words = [real or os.path.join(BUILD, "mqredis-server")]
        words += ["--port", str(self.port), "--unixsocket", self.socket]
        if real:
            words += ["--save", "", "--appendonly", "no", "--dir", self.folder]
        self.server = self._spawn(
            *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert until(lambda: os.path.exists(self.socket)), "Redis does not start"

    def start_manager(self, *options, wait=True):
        log = os.path.join(self.folder, "log")
        with open(log, "ab") as file:
            start = file.tell()
            self.manager = self._spawn(
                os.path.join(BUILD, "mqredis-manager"),
                *("--redis", self.uri, "--channel", self.channel),
                *("--capacity", "32", "--msgsize", "1024"),
                *self.options,
                *options,
                stdout=file,
                stderr=file,
            )

        def ready():
            with open(log, "rb") as file:
                file.seek(start)
                self._told = file.read().decode("utf-8", "replace")
            return "mqredis-manager: ready" in self._told

        if wait:
            assert until(ready), "the manager is not ready: " + self._told

    @staticmethod
    def _kill(process):
        if process is not None and process.poll() is None:
            process.kill()
        if process is not None:
            process.wait()

    def kill_manager(self):
        self._kill(self.manager)

    def kill_redis(self):
        self._kill(self.server)

    def connect(self):
        return Connection(self.socket)

    def open(self, **options):
        return mqredis.open(self.channel, **options)

    def stop(self):
        if self.manager is not None and self.manager.poll() is None:
            # In good order, so that queue and folder go.
            self.manager.terminate()
            try:
                self.manager.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                pass
        self._kill(self.manager)
        self._kill(self.server)
        if self._dir is None:
            os.environ.pop("MQREDIS_DIR", None)
        shutil.rmtree(self.folder, ignore_errors=True)


class HostCase(unittest.TestCase):
    """Tests with one host for the class, `self.host`, and a handle each,
    `self.mq`; Redis is empty at the start of each."""

    options = ()

    @classmethod
    def setUpClass(cls):
        cls.host = Host(*cls.options)
        cls.redis = cls.host.connect()

    @classmethod
    def tearDownClass(cls):
        cls.redis.close()
        cls.host.stop()

    def nobody_blocks(self):
        """Waits until Redis has no client that waits for an element: one that was
        given up may still take one until its connection is closed."""
        info = lambda: self.redis("INFO", "clients")
        self.assertTrue(until(lambda: b"blocked_clients:0" in info()))

    def setUp(self):
        self.redis("FLUSHALL")
        self.mq = self.host.open()

    def tearDown(self):
        self.mq.close()


def in_child(function):
    """Runs function() in a child of fork(): its exit status, 0 if it returned
    and 1 if it raised."""
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
