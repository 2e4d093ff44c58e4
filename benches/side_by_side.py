#!/usr/bin/env python3
"""pgbench through pgring, PgBouncer and HAProxy in one run, their cells interleaved.

A machine is never twice the same: neighbours, frequency, caches. So nothing here compares
runs. Every round runs every proxy once in each cell, the proxies' order turns with each
round, and what is reported is the median over the rounds of figures and of ratios taken
within a round.

Examples:
    benches/side_by_side.py
    benches/side_by_side.py --only pgring3,pgbouncer --clients 8,64 --modes simple --rounds 5
    benches/side_by_side.py --only pgring3 --clients 8 --modes simple --perf /tmp/pgring.perf
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import signal
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # leave no __pycache__ in the tree

import installed
import report
from peers import PREPARED, SIMPLE, Peer, Stage
from processes import ProcessDied, Processes, cpu_seconds, rss_kib

ONE_SERVER = ("direct", "haproxy", "pgbouncer", "pgring1")
PEERS = (*ONE_SERVER, "pgring3")
POOLERS = ("pgbouncer", "pgring1", "pgring3")

STREAM_MB = 200
STREAM = f"SELECT repeat('x', 1000) FROM generate_series(1, {STREAM_MB * 1000})"

PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+) ms")


class CellFailed(Exception):
    """pgbench did not get through; the other cells are still worth running."""


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    raise_file_limit()
    programs = find_programs(options)
    directory = tempfile.mkdtemp(prefix="pgring-bench-")
    try:
        with Processes(directory) as processes:
            # Readable by the user the servers run as; mkdtemp gives it to the owner alone.
            processes.hand_over(directory)
            stage = Stage(processes, programs)
            results = measure(options, stage)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except ProcessDied as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(report.text(results))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    if results["failures"]:
        sys.exit(1)


def parse_options():
    def chosen_from(allowed):
        def parse(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in allowed:
                    raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(allowed)}")
            return [name for name in allowed if name in chosen]
        return parse

    def numbers(text):
        return [int(part) for part in text.split(",")]

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    default_pgring = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target")), "release/pgring")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=chosen_from(PEERS), default=list(PEERS), metavar="NAMES",
                        help=f"of {','.join(PEERS)} (default: all)")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 64], metavar="COUNTS", help="default 1,8,64")
    parser.add_argument("--modes", type=chosen_from((SIMPLE, PREPARED)), default=[SIMPLE, PREPARED],
                        help="of simple,prepared (default: both)")
    parser.add_argument("--seconds", type=int, default=4, help="measured in each cell, after one of warm-up (4)")
    parser.add_argument("--rounds", type=int, default=3, help="over which the median is taken (3)")
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables, 100,000 rows each (10)")
    parser.add_argument("--idle", type=int, default=2000, help="idle clients for the RSS; 0 leaves it out (2000)")
    parser.add_argument("--no-stream", action="store_true", help="leave out the streaming of a large result")
    parser.add_argument("--pgring", default=default_pgring, metavar="PATH", help=f"default {default_pgring}")
    parser.add_argument("--perf", metavar="FILE",
                        help="record each proxy of each cell once more under perf, into FILE.proxy-mode-clients")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures there")
    options = parser.parse_args()
    options.pgring, options.perf, options.json = (
        path and os.path.abspath(path) for path in (options.pgring, options.perf, options.json))
    return options


def find_programs(options):
    """Fails, or installs, before anything is started."""
    binaries = installed.postgresql()
    programs = {name: os.path.join(binaries, name) for name in ("initdb", "postgres", "pgbench")}
    for name in ("haproxy", "pgbouncer"):
        if name in options.only:
            programs[name] = installed.program(name)
    if options.perf:
        programs["perf"] = installed.program("perf")
    if any(name.startswith("pgring") for name in options.only):
        if not os.access(options.pgring, os.X_OK):
            sys.exit(f"there is no {options.pgring}: cargo build --release, or --pgring PATH")
        programs["pgring"] = options.pgring
    return programs


def raise_file_limit():
    """Two descriptors an idle client (ours and the proxy's); children inherit the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(options, stage):
    results = {"machine": describe_machine(stage.programs), "options": vars(options),
               "cells": [], "streams": [], "memory": [], "failures": []}
    servers = start_servers(options, stage)
    peers = [start_peer(name, stage, servers) for name in options.only]
    # The rest of the machine's load, told apart from ours: read once everything is loaded and idle.
    results["machine"]["busy_before"] = busy_share()

    def attempt(what, action):
        try:
            return action()
        except (CellFailed, OSError) as error:
            results["failures"].append(f"{what}: {error}")
            say(f"  FAILED {what}: {error}")
            return None

    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        order = peers[number % len(peers):] + peers[:number % len(peers)]
        for mode in options.modes:
            for clients in options.clients:
                for peer in order:
                    figures = attempt(
                        f"{peer.name}, {mode}, {clients} clients",
                        lambda: pgbench_cell(stage, peer, mode, clients, options.seconds))
                    if figures:
                        results["cells"].append(
                            {"round": number, "proxy": peer.name, "mode": mode, "clients": clients, **figures})
        for peer in order if not options.no_stream else ():
            figures = attempt(f"{peer.name}, streaming", lambda: stream_cell(peer))
            if figures:
                results["streams"].append({"round": number, "proxy": peer.name, **figures})

    results["transactions_by_shard"] = [committed(server) for server in servers["three"]]
    if options.perf:
        profile(options, stage, peers, attempt)
    for peer in peers:
        if peer.process:
            stage.processes.stop(peer.process)
    for name in POOLERS if options.idle else ():
        if name in options.only:
            figures = attempt(f"{name}, idle clients", lambda: idle_cell(name, stage, servers, options.idle))
            if figures:
                results["memory"].append({"proxy": name, **figures})
    return results


def start_servers(options, stage):
    """`one` for the proxies that have one server; s1 to s3 as shards.

    Each shard is loaded with all of pgbench's rows, not only those it owns: a read by `aid`
    finds its row on whichever shard the ring says, and what else a shard holds is not read."""
    def start(name):
        say(f"loading PostgreSQL {name}")
        return stage.postgresql(name, options.scale)

    return {
        "one": [start("one")] if any(name in ONE_SERVER for name in options.only) else [],
        "three": [start(f"s{number}") for number in (1, 2, 3)] if "pgring3" in options.only else [],
    }


def committed(server):
    """Every shard holding every row, a wrong route would not be seen in pgbench's answers; that
    one shard did all the work is seen here."""
    with server.connect() as connection:
        return int(connection.value("SELECT xact_commit FROM pg_stat_database WHERE datname = 'bench'"))


def start_peer(name, stage, servers):
    match name:
        case "direct":
            return Peer("direct", servers["one"][0].port)
        case "haproxy":
            return stage.haproxy(servers["one"])
        case "pgbouncer":
            return stage.pgbouncer(servers["one"])
        case "pgring1":
            return stage.pgring(name, servers["one"])
        case "pgring3":
            return stage.pgring(name, servers["three"])


def pgbench_cell(stage, peer, mode, clients, seconds):
    """One pgbench run. The window measured lies between its first and its last progress line:
    logins (SCRAM's thousands of hashes), cold caches and pools are not in it."""
    command = [
        stage.programs["pgbench"], "--no-vacuum", "--select-only", f"--protocol={mode}",
        f"--client={clients}", f"--jobs={min(clients, os.cpu_count() or 1, 2)}", f"--time={seconds + 1}",
        "--progress=1", "--progress-timestamp",
        "--host=127.0.0.1", f"--port={peer.port}", "--username=bench", peer.database(mode),
    ]
    pgbench = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PGPASSWORD": "bench"}, start_new_session=True)
    watchdog = threading.Timer(seconds + 60, pgbench.kill)
    watchdog.start()
    transactions = client_seconds = 0.0
    first = last = None
    said = []
    try:
        for line in pgbench.stderr:
            progress = PROGRESS.match(line)
            if not progress:
                said.append(line.strip())
                continue
            at, tps, latency_ms = map(float, progress.groups())
            cpu = cpu_seconds(peer.pids)
            if first is None:
                first = last = (at, cpu)
                continue
            count = tps * (at - last[0])
            transactions += count
            client_seconds += count * latency_ms / 1e3
            last = (at, cpu)
        pgbench.wait()
    finally:
        watchdog.cancel()
        if pgbench.poll() is None:
            pgbench.kill()
            pgbench.wait()
    if peer.process:
        peer.process.check_alive()
    if pgbench.returncode != 0 or transactions == 0:
        raise CellFailed(f"pgbench ended with {pgbench.returncode}: {' / '.join(said[-3:])}")
    return {
        "transactions_per_second": transactions / (last[0] - first[0]),
        "cpu_us": (last[1] - first[1]) / transactions * 1e6 if peer.process else None,
        "latency_ms": client_seconds / transactions * 1e3,
    }


def stream_cell(peer):
    """A large result, read as fast as it comes by a client that does not look at it."""
    with peer.connect() as connection:
        connection.run("SELECT 1")
        cpu, began = cpu_seconds(peer.pids), time.monotonic()
        megabytes = connection.stream(STREAM) / 1e6
        return {
            "cpu_ms_per_mb": (cpu_seconds(peer.pids) - cpu) * 1e3 / megabytes if peer.process else None,
            "mb_per_second": megabytes / (time.monotonic() - began),
        }


def idle_cell(name, stage, servers, count):
    """RSS of a fresh process that has served one client, then with `count` that have logged in
    and wait, then after each of them has run one statement and waits again."""
    say(f"{name}: {count} idle clients")
    peer = start_peer(name, stage, servers)
    with peer.connect() as connection:
        connection.run("SELECT 1")
    figures = {"clients": count, "rss_kib": settled_rss(peer)}
    with contextlib.ExitStack() as open_connections:
        connections = [open_connections.enter_context(peer.connect()) for _ in range(count)]
        figures["rss_kib_logged_in"] = settled_rss(peer)
        for connection in connections:
            connection.run("SELECT 1")
        figures["rss_kib_after_a_statement"] = settled_rss(peer)
    for state in ("logged_in", "after_a_statement"):
        figures[f"kib_a_client_{state}"] = (figures[f"rss_kib_{state}"] - figures["rss_kib"]) / count
    stage.processes.stop(peer.process)
    return figures


def settled_rss(peer):
    time.sleep(1)
    peer.process.check_alive()
    return rss_kib(peer.pids)


def profile(options, stage, peers, attempt):
    """Each proxy of each cell once more, under perf. These figures go nowhere: perf costs CPU."""
    for mode in options.modes:
        for clients in options.clients:
            for peer in peers:
                if not peer.process:
                    continue
                path = f"{options.perf}.{peer.name}-{mode}-{clients}"
                perf = stage.processes.start(
                    "perf", [stage.programs["perf"], "record", "-g", "-o", path,
                             "-p", ",".join(map(str, peer.pids))], stop_signal=signal.SIGINT)
                attempt(f"{peer.name}, {mode}, {clients} clients under perf",
                        lambda: pgbench_cell(stage, peer, mode, clients, options.seconds))
                stage.processes.stop(perf)
                say(f"  perf report -i {path}")


def describe_machine(programs):
    def version(name, *arguments):
        if name not in programs:
            return None
        return subprocess.run([programs[name], *arguments], capture_output=True, text=True).stdout.partition("\n")[0]

    return {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cores": os.cpu_count(), "kernel": platform.release(),
        "postgresql": version("postgres", "--version"), "pgbouncer": version("pgbouncer", "--version"),
        "haproxy": version("haproxy", "-v"), "pgring": version("pgring", "--version"),
    }


def busy_share():
    """Share of all cores in use over one second."""
    def times():
        with open("/proc/stat") as stat:
            fields = [int(field) for field in stat.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    before = times()
    time.sleep(1)
    after = times()
    return round(1 - (after[1] - before[1]) / (after[0] - before[0]), 2)


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
