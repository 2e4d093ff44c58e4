#!/usr/bin/env python3
"""A transfer between two shards through pgring, beside what it could be had for otherwise, in one run.

    benches/two_phase.py [--seconds 3] [--rounds 3]

- *two transactions*: the same two updates through pgring, each committed by itself: not atomic;
- *by hand*: a client connected to both servers that prepares on both and commits both, all in parallel: it is not
  crash-safe, since nobody remembers what it had decided;
- *by hand, logged*: the same, with its decision written to a local file and fsynced in between.

All are the same client program, one transaction after the other on one connection to each; `fsync` is on. Prints
the median time of a transaction, transactions a second, the round trips that follow one another, and the proxy's CPU.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from demo import Cluster
from pgclient import Connection, ServerError

GID = "bench"


def ask(connection, sql):
    connection.send(b"Q", sql.encode() + b"\0")


def both(first, second, one, other):
    """Sends to both before it waits for either."""
    ask(first, one)
    ask(second, other)
    first.until_ready()
    second.until_ready()


class Stage:
    def __init__(self, cluster, scratch):
        self.cluster = cluster
        self.proxy = Connection(cluster.port, "novacron", "app", "app")
        self.servers = [
            Connection(int(endpoint.rsplit(":", 1)[1]), "novacron", "app", "app") for endpoint in cluster.endpoints
        ]
        self.keys = [server.value("SELECT min(id) FROM users") for server in self.servers]
        self.log = open(Path(scratch, "decisions"), "ab", buffering=0)

    def update(self, at, by):
        return f"UPDATE users SET name = 'n{by}' WHERE id = {self.keys[at]}"

    def two_phase(self, n):
        for sql in ("BEGIN", self.update(0, n), self.update(1, n), "COMMIT"):
            self.proxy.run(sql)

    def two_transactions(self, n):
        for at in (0, 1):
            for sql in ("BEGIN", self.update(at, n), "COMMIT"):
                self.proxy.run(sql)

    def by_hand(self, n, logged=False):
        first, second = self.servers
        # BEGIN goes with the statement, as it does through pgring.
        first.run(f"BEGIN; {self.update(0, n)}")
        second.run(f"BEGIN; {self.update(1, n)}")
        both(first, second, f"PREPARE TRANSACTION '{GID}'", f"PREPARE TRANSACTION '{GID}'")
        if logged:
            self.log.write(b"%d\n" % n)
            os.fsync(self.log.fileno())
        both(first, second, f"COMMIT PREPARED '{GID}'", f"COMMIT PREPARED '{GID}'")

    def logged(self, n):
        self.by_hand(n, logged=True)


def measure(stage, run, seconds):
    times = []
    cpu = stage.cluster.cpu_seconds()
    began = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        run(len(times))
        times.append(time.monotonic() - now)
    return statistics.median(times), len(times) / seconds, (stage.cluster.cpu_seconds() - cpu) / len(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pgring-bench-") as scratch:
        os.chmod(scratch, 0o755)
        cluster = Cluster(2, f"{scratch}/two")
        try:
            stage = Stage(cluster, scratch)
            wait_until_able(stage)
            cases = {
                "pgring, two-phase": (stage.two_phase, 5),
                "pgring, two transactions": (stage.two_transactions, 4),
                "by hand": (stage.by_hand, 4),
                "by hand, logged": (stage.logged, 4),
            }
            rounds = {name: [] for name in cases}
            for _ in range(options.rounds):
                for name, (run, _) in cases.items():
                    rounds[name].append(measure(stage, run, options.seconds))
            report(cases, rounds)
        finally:
            cluster.stop()


def wait_until_able(stage):
    """The shards' part in it is made ready soon after the start."""
    for _ in range(100):
        try:
            stage.two_phase(0)
            return
        except ServerError:
            stage.proxy.close()
            time.sleep(0.2)
            stage.proxy = Connection(stage.cluster.port, "novacron", "app", "app")
    raise SystemExit("no two-phase commit")


def report(cases, rounds):
    print("| | ms | transactions/s | round trips | proxy's CPU, us | pgring's time is |\n|---|---|---|---|---|---|")
    ours = [taken for taken, _, _ in rounds["pgring, two-phase"]]
    for name, (_, trips) in cases.items():
        taken, rate, cpu = (statistics.median(figures) for figures in zip(*rounds[name]))
        ratio = statistics.median(own / other for own, (other, _, _) in zip(ours, rounds[name]))
        shown = f"{cpu * 1e6:.0f}" if name.startswith("pgring") else ""
        print(f"| {name} | {taken * 1e3:.2f} | {rate:.0f} | {trips} | {shown} | {ratio:.2f} times that |")


main()
