"""Many processes with this package beside many with redis-py, a connection each.

    tools/in-namespace /usr/bin/python3 workers/bindings/python/bench.py

Needs `make` and redis-py (Debian: python3-redis). Starts servers and managers of
its own. All contestants run in turn, round after round, so that what else the
machine does meets them alike; ratios are made within a round, and the table has
their median and range.
"""

import argparse
import array
import importlib.util
import os
import resource
import socket
import statistics
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tests"))

import support  # noqa: E402 (behind the path)
import mqredis  # noqa: E402

KEY = b"bench"
WARM_UP = 20


# ---- the contestants ----


class Binding:
    """This package, through the manager of a host."""

    def __init__(self, name, host):
        self.name, self.host = name, host

    def prepare(self):
        self.mq = self.host.open()

    def connect(self):
        """In a child."""
        return self.mq.get, self.mq.set

    def release(self):
        self.mq.close()


class RedisPy:
    """redis-py, with a connection of its own."""

    def __init__(self, name, host, tcp):
        self.name, self.host, self.tcp = name, host, tcp

    def prepare(self):
        pass

    def connect(self):
        import redis

        if self.tcp:
            client = redis.Redis("127.0.0.1", self.host.port)
        else:
            client = redis.Redis(unix_socket_path=self.host.socket)
        return client.get, client.set

    def release(self):
        pass


# ---- one run ----


def cpu_s(pid):
    """The CPU time of a process so far."""
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(get, set_, value, every, seconds, durations):
    """Commands one after the other: GETs, and a SET for each `every` of them."""
    clock = time.perf_counter_ns
    n = 0
    now = clock()
    end = now + int(seconds * 1e9)
    while now < end:
        n += 1
        if every and n % every == 0:
            set_(KEY, value)
        elif get(KEY) != value:
            raise AssertionError("not the value")
        before, now = now, clock()
        durations.append(now - before)


def child(contestant, options, ready, start, out):
    get, set_ = contestant.connect()
    value = b"v" * options.size
    set_(KEY, value)
    for _ in range(WARM_UP):
        get(KEY)
    os.write(ready, b"r")
    os.read(start, 1)
    durations = array.array("Q")
    before = own_cpu_s()
    work(get, set_, value, options.every, options.seconds, durations)
    cpu = own_cpu_s() - before
    with os.fdopen(out, "wb") as file:
        file.write(struct.pack("d", cpu))
        durations.tofile(file)


def spawn(contestant, options, ready, start):
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        support.die_with_parent()
        try:
            child(contestant, options, ready[1], start[0], write_end)
            status = 0
        except BaseException as why:
            print("%s: %r" % (contestant.name, why), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    os.close(write_end)
    return pid, read_end


def run(contestant, options):
    """One run: a dict of figures."""
    host = contestant.host
    ready, start = os.pipe(), os.pipe()
    contestant.prepare()
    children = [
        spawn(contestant, options, ready, start) for _ in range(options.processes)
    ]
    told = 0
    while told < options.processes:
        told += len(os.read(ready[0], options.processes))
    servers = [host.server.pid]
    if isinstance(contestant, Binding):
        servers.append(host.manager.pid)
    before = [cpu_s(pid) for pid in servers]
    os.write(start[1], b"s" * options.processes)
    durations, cpu = array.array("Q"), 0.0
    for pid, read_end in children:
        with os.fdopen(read_end, "rb") as file:
            data = file.read()
        if os.waitpid(pid, 0)[1] != 0 or len(data) < 8:
            raise SystemExit("bench.py: a process of '%s' failed" % contestant.name)
        cpu += struct.unpack_from("d", data)[0]
        durations.frombytes(data[8:])
    spent = [cpu_s(pid) - b for pid, b in zip(servers, before)]
    contestant.release()
    for fd in (*ready, *start):
        os.close(fd)
    count, times = len(durations), sorted(durations)
    return {
        "rate": count / options.seconds,
        "p50": times[count // 2] / 1000,
        "p99": times[count * 99 // 100] / 1000,
        "clients": cpu * 1e6 / count,
        "redis": spent[0] * 1e6 / count,
        "manager": spent[1] * 1e6 / count if len(spent) > 1 else 0.0,
    }


# ---- the table ----

FIGURES = [
    ("rate", "commands/s", "%.0f"),
    ("p50", "p50 us", "%.0f"),
    ("p99", "p99 us", "%.0f"),
    ("clients", "CPU us/command: clients", "%.1f"),
    ("manager", "manager", "%.1f"),
    ("redis", "redis", "%.1f"),
]


def report(contestants, rounds):
    print("| median of %d rounds | " % len(rounds), end="")
    print(" | ".join(title for _, title, _ in FIGURES), "|")
    print("| --- |" + " ---: |" * len(FIGURES))
    for c in contestants:
        cells = [
            form % statistics.median(r[c.name][key] for r in rounds)
            for key, _, form in FIGURES
        ]
        print("| %s | %s |" % (c.name, " | ".join(cells)))
    print()
    print("| ratio, median (range) | throughput | p50 | p99 | all CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for ours, theirs in ((0, 1), (2, 3)):
        a, b = contestants[ours].name, contestants[theirs].name
        cells = []
        for figure in (
            lambda r: r["rate"],
            lambda r: r["p50"],
            lambda r: r["p99"],
            lambda r: r["clients"] + r["manager"] + r["redis"],
        ):
            ratios = [figure(r[a]) / figure(r[b]) for r in rounds]
            cells.append(
                "%.2f (%.2f-%.2f)"
                % (statistics.median(ratios), min(ratios), max(ratios))
            )
        print("| %s / %s | %s |" % (a, b, " | ".join(cells)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--processes", type=int, default=32, help="at once (32)")
    add("--seconds", type=float, default=2, help="of each run (2)")
    add("--rounds", type=int, default=5, help="(5)")
    add("--size", type=int, default=32, help="bytes of the value (32)")
    add("--every", type=int, default=0, help="a SET for each N commands (0: only GET)")
    options = parser.parse_args()
    if min(options.processes, options.rounds, options.size) < 1:
        parser.error("processes, rounds and size are 1 at least")
    if options.seconds <= 0:
        parser.error("seconds are more than 0")
    return options


def main():
    options = parse()
    if importlib.util.find_spec("redis") is None:
        sys.exit(
            "bench.py: %s has no redis-py: install python3-redis, and use "
            "/usr/bin/python3" % sys.executable
        )
    import redis

    hosts = [support.Host(port=free_port()), support.Host()]
    contestants = [
        Binding("mqredis, manager over TCP", hosts[0]),
        RedisPy("redis-py over TCP", hosts[0], True),
        Binding("mqredis, manager over unix", hosts[1]),
        RedisPy("redis-py over unix", hosts[1], False),
    ]
    parser = "hiredis" if importlib.util.find_spec("hiredis") else "Python"
    print(
        "%d processes, one GET of %d bytes at a time%s, %g s a run; Python %s, "
        "mqredis %s, redis-py %s (parser: %s), %d CPUs"
        % (
            options.processes,
            options.size,
            ", each %d. a SET" % options.every if options.every else "",
            options.seconds,
            sys.version.split()[0],
            mqredis.__version__,
            redis.__version__,
            parser,
            os.cpu_count(),
        )
    )
    print()
    try:
        rounds = []
        for i in range(options.rounds):
            # Each round begins with another one.
            order = contestants[i % 4 :] + contestants[: i % 4]
            rounds.append({c.name: run(c, options) for c in order})
            print("round %d of %d" % (i + 1, options.rounds), file=sys.stderr)
        report(contestants, rounds)
    finally:
        for host in hosts:
            host.stop()


if __name__ == "__main__":
    main()
