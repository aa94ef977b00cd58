"""redis-py on the gateway."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from script import cannot, order, raises, run_cases, until  # noqa: E402

try:
    import redis
except ImportError:
    cannot("this python3 has no redis (Debian: python3-redis)")

RESP = int(os.environ.get("MQREDIS_RESP", "2"))
if RESP == 3 and int(redis.__version__.split(".")[0]) < 5:
    cannot(f"redis-py {redis.__version__} speaks RESP2 only")

EVERY_BYTE = bytes(range(256))


def connect(**options):
    if RESP == 3:
        options["protocol"] = 3
    options.setdefault("socket_timeout", 20)
    if os.environ["MQREDIS_TRANSPORT"] == "tcp":
        port = int(os.environ["MQREDIS_GATEWAY_PORT"])
        return redis.Redis("127.0.0.1", port, **options)
    path = os.environ["MQREDIS_GATEWAY_SOCKET"]
    return redis.Redis(unix_socket_path=path, **options)


def handshake():
    r = connect(client_name="a-name", db=0)
    assert r.ping() is True
    assert r.client_getname() in ("a-name", b"a-name")
    assert r.client_id() > 0
    assert connect().client_id() != r.client_id()
    raises(redis.RedisError, connect(db=1).ping)


def strings():
    r = connect()
    for value in (EVERY_BYTE, b"", b"\0", b"a\r\nb", "ü".encode()):
        assert r.set(b"k" + value, value) is True
        assert r.get(b"k" + value) == value
    assert r.get("nothing") is None
    assert r.set("k", "v") is True and r.set("k", "w", nx=True) is None
    assert r.mget("k", "nothing") == [b"v", None]


def types():
    r = connect()
    assert r.incr("n") == 1 and r.incrbyfloat("f", 1.5) == 1.5
    r.hset("h", mapping={"a": "1", "b": "2"})
    assert r.hgetall("h") == {b"a": b"1", b"b": b"2"}
    r.zadd("z", {"one": 1, "two": 2.5})
    assert r.zscore("z", "two") == 2.5 and r.zscore("z", "none") is None
    assert r.zrange("z", 0, -1, withscores=True) == [(b"one", 1.0), (b"two", 2.5)]
    assert r.zpopmin("z") == [(b"one", 1.0)]
    r.sadd("s", "a", "b")
    assert r.smembers("s") == {b"a", b"b"}
    assert r.exists("h") == 1 and r.delete("h") == 1 and r.type("s") == b"set"
    r.rpush("l", *range(100))
    assert r.lrange("l", 0, -1) == [b"%d" % i for i in range(100)]
    assert sorted(r.scan_iter(count=2)) == [b"f", b"l", b"n", b"s", b"z"]
    assert r.xadd("x", {"f": "v"}, id="1-1") == b"1-1"
    assert r.xrange("x") == [(b"1-1", {b"f": b"v"})]
    assert r.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert r.info("server")["redis_version"]


def pipeline():
    r = connect()
    p = r.pipeline(transaction=False)
    for i in range(2000):
        p.set(f"k{i}", f"v{i}").get(f"k{i}")
    replies = p.execute()
    assert replies[0::2] == [True] * 2000
    assert replies[1::2] == [b"v%d" % i for i in range(2000)]
    replies = r.pipeline(False).set("k", "v").lpush("k", 1).get("k").execute(False)
    assert isinstance(replies[1], redis.ResponseError), replies
    assert replies[0] is True and replies[2] == b"v"


def transaction():
    r = connect()
    assert r.pipeline().set("t", 1).incr("t").execute() == [True, 2]
    replies = r.pipeline().incr("t").lpush("t", 1).execute(False)
    assert replies[0] == 3 and isinstance(replies[1], redis.ResponseError)
    bad = r.pipeline().set("t", 9)
    bad.execute_command("NOSUCHCOMMAND")
    raises(redis.ResponseError, bad.execute)
    assert r.get("t") == b"3"
    assert r.pipeline().execute() == []
    raises(redis.ResponseError, r.pipeline().watch, "t")


def scripts():
    r = connect()
    script = r.register_script("return {KEYS[1], ARGV[1], 7}")
    assert script(keys=["k"], args=["a"]) == [b"k", b"a", 7]
    assert script(keys=["k"], args=["b"]) == [b"k", b"b", 7]
    raises(redis.exceptions.NoScriptError, r.evalsha, "0" * 40, 0)
    p = r.pipeline()
    script(keys=["k"], args=["c"], client=p)
    assert p.execute() == [[b"k", b"c", 7]]


def pubsub():
    r = connect()
    p = r.pubsub(ignore_subscribe_messages=False)
    p.subscribe("news", "other")
    p.psubscribe("n*")
    kinds = [p.get_message(timeout=10)["type"] for _ in range(3)]
    assert kinds == ["subscribe", "subscribe", "psubscribe"], kinds
    r.publish("news", EVERY_BYTE)
    got = [p.get_message(timeout=10) for _ in range(2)]
    assert {m["type"] for m in got} == {"message", "pmessage"}, got
    assert all(m["data"] == EVERY_BYTE for m in got)
    p.ping("are you there")
    assert p.get_message(timeout=10)["type"] == "pong"
    p.unsubscribe("news")
    assert p.get_message(timeout=10)["type"] == "unsubscribe"
    r.publish("other", "more")
    message = p.get_message(timeout=10)
    assert (message["channel"], message["data"]) == (b"other", b"more")
    assert p.get_message(timeout=0.05) is None
    p.close()


def blocking():
    r = connect()
    assert r.blpop("q", timeout=1) is None

    def blocks():
        return any(c["cmd"] == "blpop" for c in r.client_list())

    # Another command of the same process is not held up meanwhile.
    got = []
    thread = threading.Thread(target=lambda: got.append(connect().blpop("q", 15)))
    thread.start()
    until(blocks, "it blocks")
    assert r.ping() and got == []
    r.rpush("q", "x")
    thread.join(15)
    assert got == [(b"q", b"x")], got
    # A client that goes while it blocks takes nothing with it.
    quick = connect(socket_timeout=0.3)
    raises(redis.TimeoutError, quick.blpop, "gone", 0)
    quick.close()
    until(lambda: not blocks(), "it is gone")
    r.rpush("gone", "kept")
    assert r.llen("gone") == 1


def errors():
    r = connect()
    r.set("k", "text")
    error = raises(redis.ResponseError, r.lpush, "k", 1)
    assert "Operation against a key" in str(error), error
    raises(redis.ResponseError, r.execute_command, "NOSUCHCOMMAND")
    raises(redis.ResponseError, r.execute_command, "GET")
    raises(redis.ResponseError, r.execute_command, "MONITOR")
    assert r.get("k") == b"text"


def large():
    r = connect()
    value = EVERY_BYTE * (5 * 4096)
    assert r.set("large", value) and r.get("large") == value
    p = r.pipeline().set("a", value).get("large").get("k")
    assert p.execute() == [True, value, None]


def reconnect():
    r = connect()
    r.set("k", "before")
    order("kill manager")
    raises(redis.RedisError, r.get, "k")
    order("start manager")

    def back():
        try:
            return r.get("k") == b"before"
        except redis.RedisError:
            return False

    until(back, "the gateway finds the new manager")


def a_subscriber_finds_the_next_manager():
    r = connect()
    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe("news")
    assert p.get_message(timeout=10) is None
    order("kill manager")
    order("start manager")

    def heard():
        try:
            r.publish("news", "back")
            message = p.get_message(timeout=0.05)
            return message is not None and message["data"] == b"back"
        except redis.RedisError:
            return False

    until(heard, "it has subscribed again")


def many_connections():
    failed = []

    def work(name):
        try:
            r = connect()
            for i in range(100):
                mine = f"{name} {i} ".encode() + b"x" * (i * 17 % 1500)
                r.set(f"k{name}", mine)
                assert r.get(f"k{name}") == mine
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert len(connect().client_list()) < 8


run_cases(
    {
        "handshake": handshake,
        "strings": strings,
        "types": types,
        "pipeline": pipeline,
        "transaction": transaction,
        "scripts": scripts,
        "pubsub": pubsub,
        "blocking": blocking,
        "errors": errors,
        "large": large,
        "reconnect": reconnect,
        "a subscriber finds the next manager": a_subscriber_finds_the_next_manager,
        "many connections": many_connections,
    }
)
