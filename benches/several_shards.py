#!/usr/bin/env python3
"""Statements over three shards beside the same on one PostgreSQL that holds all the rows, in one run.

    benches/several_shards.py [--rows 3000000] [--rounds 3]

Prints, for each statement, seconds on one PostgreSQL, seconds through pgring, their ratio, and the proxy's own
CPU seconds. Only ratios within a run mean anything; on two cores the shards, the proxy and psql share them, so
that what shards with cores of their own would gain is not seen.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from demo import Cluster

TABLE = "CREATE TABLE measured (user_id bigint NOT NULL, id bigint NOT NULL, amount numeric(12,2), name text)"
STATEMENTS = [
    ("scan", "SELECT * FROM measured"),
    ("ORDER BY … LIMIT 100", "SELECT * FROM measured ORDER BY amount DESC, id LIMIT 100"),
    ("GROUP BY, 1,000 groups", "SELECT user_id % 1000, count(*), avg(amount) FROM measured GROUP BY 1 ORDER BY 1"),
    ("count(*)", "SELECT count(*) FROM measured"),
    ("ORDER BY everything", "SELECT id FROM measured ORDER BY id"),
]


def psql(dsn, statement, stdin=None):
    began = time.monotonic()
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-c", statement, dsn]
    subprocess.run(command, check=True, stdin=stdin)
    return time.monotonic() - began


def measure(name, direct, through, cluster, rounds):
    """Interleaved, so that whatever else the machine does meets both."""
    taken = {"direct": [], "through": [], "cpu": []}
    for _ in range(rounds):
        taken["direct"].append(direct())
        before = cluster.cpu_seconds()
        taken["through"].append(through())
        taken["cpu"].append(cluster.cpu_seconds() - before)
    one, several, cpu = (statistics.median(taken[key]) for key in ("direct", "through", "cpu"))
    print(f"| {name} | {one:.3f} | {several:.3f} | {one / several:.2f} | {cpu:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pgring-bench-") as scratch:
        os.chmod(scratch, 0o755)
        one = Cluster(1, f"{scratch}/one")
        three = Cluster(3, f"{scratch}/three")
        try:
            rows = Path(scratch, "rows.tsv")
            with rows.open("w") as file:
                for n in range(options.rows):
                    file.write(f"{n * 7919 % 100_003}\t{n}\t{n * 31 % 1_000_000 / 100:.2f}\tname {n % 1000}\n")
            psql(one.server(), TABLE)
            psql(three.proxy(), TABLE)

            def copy(dsn):
                psql(dsn, "TRUNCATE measured")
                with rows.open() as file:
                    return psql(dsn, "COPY measured FROM STDIN", file)

            print("| | one PostgreSQL, s | pgring, 3 shards, s | rate | proxy's CPU, s |\n|---|---|---|---|---|")
            measure("COPY FROM", lambda: copy(one.server()), lambda: copy(three.proxy()), three, 1)
            for cluster in (one, three):
                psql(cluster.proxy(), "VACUUM ANALYZE measured")
            for name, statement in STATEMENTS:
                measure(
                    name,
                    lambda: psql(one.server(), statement),
                    lambda: psql(three.proxy(), statement),
                    three,
                    options.rounds,
                )
        finally:
            one.stop()
            three.stop()


main()
