#!/usr/bin/env python3
"""Failovers as they happen: Patroni with etcd, a primary and two synchronous replicas a shard, each
node in a network namespace of its own, two proxies before them, and clients that write all the time.

    scripts/failover.py                          every fault, once
    scripts/failover.py --rounds 10              the figures: median and worst of ten
    scripts/failover.py --faults kill,cut        these
    scripts/failover.py --shards 1               (the default is 2)
    scripts/failover.py --keep                   leaves directories and logs where they are

The faults, each of them at the first shard's primary:

    kill        every process of the PostgreSQL server is killed at once
    freeze      every process of the node is stopped, as a virtual machine that hangs; when it goes on, its
                server believes that it is the primary
    cut         the node loses its replicas and etcd, but not the proxies, and its Patroni is frozen, so
                that it goes on believing that it is the primary
    disk        its disk runs full
    switchover  planned, by hand while Patroni is paused: CHECKPOINT, PAUSE, stop, promote, RESUME
    delegated   planned, by Patroni: CHECKPOINT, PAUSE, POST /switchover, RESUME
    unannounced patronictl switchover, without a word to the proxies
    replay      a replica stops replaying (and the primary stays)

Beside the clients of the proxies others do the same with libpq's own means: every server in the DSN and
target_session_attrs=read-write. What is checked, for either kind, after each fault: no acknowledged
write is lost, none is there twice, one whose failure was certain is not there; and the old primary has
accepted no write that began after the new one's first was acknowledged. For the proxies, in addition: a
client hears of what was under way and of nothing else; the time without service is at most what Patroni
took plus a second; a planned switchover is without an error, and nobody waits for 2 seconds (where Patroni
does it, for longer than Patroni took plus a second).

The figures are printed whatever was wrong, and what was wrong after them. A round that came to nothing
is followed by a new stage.

Needs root (namespaces), PostgreSQL, Patroni and etcd: scripts/install.sh servers failover.
PGRING names the program to test, else it is built.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    import psycopg
except ImportError:  # Run by hand: the drivers are in the virtual environment.
    python = str(Path(__file__).resolve().parent.parent / ".venv/bin/python")
    if sys.executable == python:
        raise
    # Python finds its packages by what it is called.
    os.execv(python, [python, *sys.argv])

ROOT = Path(__file__).resolve().parent.parent
NETWORK = "10.213.77"
PROXY, ETCD = f"{NETWORK}.1", f"{NETWORK}.2"
FAULTS = ["kill", "freeze", "cut", "disk", "switchover", "delegated", "unannounced", "replay"]
PLANNED = {"switchover", "delegated", "replay"}
# The longest that a client may wait in a planned switchover.
BAR = 2
# Patroni's, shorter than its defaults (30, 10, 10): what is measured is the time beyond them.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 10, 2, 3
# A server's disk, in memory.
DISK = "320m"
# Does Patroni's configuration of a server name a standby that streams?
NAMED = """SELECT EXISTS (SELECT FROM pg_file_settings, pg_stat_replication
                          WHERE name = 'synchronous_standby_names' AND sourcefile !~ 'auto\\.conf$'
                            AND trim('"' FROM setting) = application_name AND state = 'streaming')"""
TABLES = {"pgring": "through_pgring", "libpq": "through_libpq"}


def say(*words):
    print(f"[{time.strftime('%H:%M:%S')}]", *words, flush=True)


def run(*command, check=True, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if check and done.returncode:
        raise RuntimeError(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def until(what, reached, patience=120, pause=0.1):
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(psycopg.Error, OSError, urllib.error.URLError, ValueError, KeyError):
            found = reached()
            if found:
                return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"still not true after {patience} s: {what}")
        time.sleep(pause)


def at_once(*calls):
    """Makes the calls side by side, and fails as the first of them has."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [made.result() for made in [pool.submit(call) for call in calls]]


class Pulse(threading.Thread):
    """How long the machine keeps a thread waiting that wants next to nothing: whoever does not get the
    processor cannot be measured to a tenth of a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stalls, self.ends = [], threading.Event()

    def run(self):
        while not self.ends.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            self.stalls.append((time.monotonic(), time.monotonic() - began - 0.01))

    def worst(self, since):
        return max((stall for at, stall in list(self.stalls) if at > since), default=0)


class Child:
    """A process that ends with us."""

    def __init__(self, log, *command):
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
            stdout=open(log, "ab"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Node:
    """A PostgreSQL server, its Patroni, its network and its disk."""

    def __init__(self, stage, shard, number, position):
        self.stage, self.shard = stage, shard
        self.name = f"s{shard}n{number}"
        self.address = f"{NETWORK}.{10 + position}"
        self.namespace = f"{stage.tag}-{self.name}"
        self.disk = stage.directory / self.name
        self.agent = None

    def inside(self, *command):
        return ["ip", "netns", "exec", self.namespace, *command]

    def make(self):
        near, far = f"{self.stage.tag}{self.name}", "eth0"
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.namespace)
        run("ip", "link", "set", near, "master", self.stage.bridge, "up")
        run(*self.inside("ip", "addr", "add", f"{self.address}/24", "dev", far))
        run(*self.inside("ip", "link", "set", far, "up"))
        run(*self.inside("ip", "link", "set", "lo", "up"))
        self.disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", self.disk)
        shutil.chown(self.disk, "postgres", "postgres")
        config = self.stage.directory / f"{self.name}.json"
        config.write_text(json.dumps(self.configuration(), indent=1))
        config.chmod(0o644)
        self.start()

    def start(self):
        config = self.stage.directory / f"{self.name}.json"
        log = self.stage.directory / f"{self.name}.log"
        self.agent = Child(log, *self.inside("runuser", "-u", "postgres", "--", "patroni", config))

    def configuration(self):
        parameters = {
            "max_connections": 200, "max_prepared_transactions": 64, "shared_buffers": "16MB",
            "wal_keep_size": "32MB", "max_wal_size": "48MB", "min_wal_size": "2MB", "wal_log_hints": "on",
            "hot_standby": "on", "max_wal_senders": 10, "max_replication_slots": 10,
            # A promotion that comes while a replica waits to look for its primary again waits with it.
            "wal_retrieve_retry_interval": "500ms",
            "log_line_prefix": "%m [%p] %q%u@%d ", "unix_socket_directories": "",
        }
        return {
            "scope": f"{self.stage.tag}-s{self.shard}", "name": self.name,
            "restapi": {"listen": f"{self.address}:8008", "connect_address": f"{self.address}:8008"},
            "etcd3": {"host": f"{ETCD}:2379"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL, "loop_wait": LOOP_WAIT, "retry_timeout": RETRY_TIMEOUT,
                    "maximum_lag_on_failover": 1 << 20, "synchronous_mode": True,
                    # A server that has crashed is not waited for: a replica has all of it.
                    "primary_start_timeout": 0, "master_start_timeout": 0,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", {"wal-segsize": "1"}],
                "pg_hba": [
                    f"host all all {NETWORK}.0/24 scram-sha-256",
                    f"host replication all {NETWORK}.0/24 scram-sha-256",
                ],
            },
            "postgresql": {
                "listen": f"{self.address}:5432", "connect_address": f"{self.address}:5432",
                "data_dir": str(self.disk / "data"), "bin_dir": str(self.stage.binaries),
                "pgpass": str(self.disk / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "postgres"},
                    "replication": {"username": "replicator", "password": "replicator"},
                    "rewind": {"username": "postgres", "password": "postgres"},
                },
            },
        }

    def pids(self, postgres_only=False):
        found = [int(pid) for pid in run("ip", "netns", "pids", self.namespace, check=False).stdout.split()]
        if not postgres_only:
            return found
        named = []
        for pid in found:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "postgres":
                    named.append(pid)
        return named

    def signal(self, how, postgres_only=False):
        for pid in self.pids(postgres_only):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def patroni_pids(self):
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if b"patroni" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def dsn(self, user="postgres", database="postgres"):
        return (f"host={self.address} port=5432 user={user} password={user} dbname={database} "
                "connect_timeout=2")

    def ask(self, sql, database="postgres"):
        with psycopg.connect(self.dsn(database=database), autocommit=True, connect_timeout=20) as connection:
            return connection.execute(sql).fetchone()[0]

    def rest(self, path, method="GET", body=None, timeout=2):
        request = urllib.request.Request(
            f"http://{self.address}:8008/{path}", method=method, data=body and json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            said = answer.read().decode()
            return json.loads(said) if said[:1] in ("{", "[") else said

    def stop_server(self):
        """As `pg_ctl stop -m fast` does. Where its log ends then, which whoever is promoted has to have."""
        data = self.disk / "data"
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGINT)
        until(f"{self.name} is down", lambda: not (data / "postmaster.pid").exists(), 60, 0.01)
        control = run(self.stage.binaries / "pg_controldata", "-D", data, env={**os.environ, "LC_ALL": "C"}).stdout
        found = dict(line.split(":", 1) for line in control.splitlines() if ":" in line)
        if found["Database cluster state"].strip() != "shut down":
            raise RuntimeError(f"{self.name} has not shut down cleanly: {found['Database cluster state'].strip()}")
        return found["Latest checkpoint location"].strip()

    def unmake(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self.agent:
            self.agent.end(signal.SIGKILL)
        run("umount", "-l", self.disk, check=False)
        run("ip", "netns", "del", self.namespace, check=False)


class Shard:
    def __init__(self, stage, number):
        self.number = number
        self.nodes = [Node(stage, number, n, (number - 1) * 3 + n) for n in (1, 2, 3)]

    def members(self):
        for node in self.nodes:
            with contextlib.suppress(OSError, ValueError, urllib.error.URLError):
                return node.rest("cluster")["members"]
        raise OSError("no Patroni answers")

    def synchronous(self):
        """The replica that has all that was acknowledged."""
        for member in self.members():
            if member["role"] == "sync_standby" and member["state"] in ("running", "streaming"):
                return next(node for node in self.nodes if node.name == member["name"])
        raise RuntimeError("there is no synchronous standby")

    def pause_patroni(self, paused):
        """What `patronictl pause --wait` and `resume --wait` do."""
        until("a Patroni takes settings", lambda: any(self.told(node, paused) for node in self.nodes), 30)
        alive = [node for node in self.nodes if node.agent.process.poll() is None]
        until("every Patroni knows", lambda: all(bool(node.rest("patroni").get("pause")) == paused for node in alive),
              60)

    @staticmethod
    def told(node, paused):
        with contextlib.suppress(OSError, ValueError):
            node.rest("config", "PATCH", {"pause": paused or None})
            return True
        return False

    def leader(self):
        for member in self.members():
            if member["role"] == "leader" and member["state"] == "running":
                return next(node for node in self.nodes if node.name == member["name"])
        return None

    def is_whole(self):
        """All of them stream from the leader, and one is its synchronous standby."""
        members = self.members()
        timelines = {member.get("timeline") for member in members}
        states = [(member["role"], member["state"]) for member in members]
        roles = sorted(role for role, state in states if state in ("running", "streaming"))
        if roles != ["leader", "replica", "sync_standby"] or len(timelines) != 1:
            return False
        leader = self.leader()
        if leader is None or leader.ask("SELECT pg_is_in_recovery()"):
            return False
        standbys = leader.ask("SELECT count(*) FILTER (WHERE state = 'streaming') * 10 "
                              "+ count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication")
        return standbys == 21


class Stage:
    numbers = itertools.count(1)

    def __init__(self, arguments):
        self.tag = f"pg{os.getpid() % 100000}{next(self.numbers) % 100}"
        self.bridge = f"{self.tag}br"
        self.directory = Path(tempfile.mkdtemp(prefix="pgring-failover-"))
        self.directory.chmod(0o755)
        self.binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.shards = [Shard(self, number) for number in range(1, arguments.shards + 1)]
        self.nodes = [node for shard in self.shards for node in shard.nodes]
        self.children, self.proxies = [], []
        self.keep = arguments.keep
        self.program = arguments.program

    def __enter__(self):
        try:
            return self.set_up()
        except BaseException:
            self.__exit__()
            raise

    def set_up(self):
        say("logs and configurations:", self.directory)
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{PROXY}/24", "dev", self.bridge)
        run("ip", "addr", "add", f"{ETCD}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        self.children.append(Child(
            self.directory / "etcd.log", "etcd", "--name", "one", "--data-dir", self.directory / "etcd",
            "--listen-client-urls", f"http://{ETCD}:2379", "--advertise-client-urls", f"http://{ETCD}:2379",
            "--listen-peer-urls", f"http://{ETCD}:2380", "--initial-advertise-peer-urls", f"http://{ETCD}:2380",
            "--initial-cluster", f"one=http://{ETCD}:2380", "--unsafe-no-fsync", "--logger", "zap",
        ))
        until("etcd serves", lambda: urllib.request.urlopen(f"http://{ETCD}:2379/health", timeout=2).status == 200)
        for node in self.nodes:
            node.make()
        for shard in self.shards:
            until(f"shard {shard.number} is whole", shard.is_whole, 300, 0.5)
        say("every shard has its primary and two replicas")
        self.fill()
        for number in (1, 2):
            self.proxies.append(Proxy(self, number))
        for proxy in self.proxies:
            proxy.until_ready()
        return self

    def fill(self):
        roles = (ROOT / "src/demo/roles.sql").read_text()
        for shard in self.shards:
            leader = shard.leader()
            with psycopg.connect(leader.dsn(), autocommit=True) as connection:
                connection.execute(roles)
                connection.execute("CREATE DATABASE bank OWNER app")
            with psycopg.connect(leader.dsn("app", "bank"), autocommit=True) as connection:
                for table in TABLES.values():
                    connection.execute(f"CREATE TABLE {table} (user_id bigint, token bigint)")
                    connection.execute(f"CREATE INDEX ON {table} (token)")

    def __exit__(self, *_):
        for proxy in self.proxies:
            proxy.child.end(signal.SIGKILL)
        for node in self.nodes:
            node.unmake()
        for child in self.children:
            child.end(signal.SIGKILL)
        run("ip", "link", "del", self.bridge, check=False)
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Proxy:
    def __init__(self, stage, number):
        self.port, self.http = free_port(), free_port()
        shards = ""
        for shard in stage.shards:
            endpoints = [f"{node.address}:5432" for node in shard.nodes]
            patroni = [f"http://{node.address}:8008" for node in shard.nodes]
            shards += (f'\n[[database.shard]]\nname = "s{shard.number}"\nendpoints = {json.dumps(endpoints)}\n'
                       f'patroni = {json.dumps(patroni)}\ntls = "disable"\n')
        self.log = stage.directory / f"pgring-{number}.log"
        config = stage.directory / f"pgring-{number}.toml"
        config.write_text(f"""cluster = "failover"
[listen]
address = "127.0.0.1:{self.port}"
runtime_dir = "{stage.directory}/peers-{number}"
[http]
address = "127.0.0.1:{self.http}"
[control]
user = "pgring"
password = "pgring"
[admin]
users = ["app"]
[health]
failover_hold = "60s"
[[user]]
name = "app"
password = "app"
[[database]]
name = "bank"
key = "user_id"
{shards}""")
        self.child = Child(self.log, stage.program, "serve", "--config", config)

    def until_ready(self):
        until("pgring is ready",
              lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2).status == 200, 60)

    def dsn(self, database="bank"):
        return f"host=127.0.0.1 port={self.port} user=app password=app dbname={database}"


class Writes:
    """What the clients of one kind have done, and were told."""

    def __init__(self):
        self.lock = threading.Lock()
        # (token, outcome, server, began, ended): the outcome is None for an acknowledged write, else the
        # SQLSTATE, or "lost" where the driver has none.
        self.all = []

    def add(self, *row):
        with self.lock:
            self.all.append(row)


class Client(threading.Thread):
    """Writes a row at a time to the first shard, every other time in a transaction of several messages."""

    tokens = iter(range(1, 1 << 60))
    tokens_lock = threading.Lock()

    def __init__(self, dsn, table, key, writes, ends):
        super().__init__(daemon=True)
        self.dsn, self.table, self.key, self.writes, self.ends = dsn, table, key, writes, ends
        self.refused_logins = 0

    def run(self):
        connection = None
        while not self.ends.is_set():
            if connection is None or connection.closed:
                try:
                    connection = psycopg.connect(self.dsn, autocommit=True)
                    # Prepared on the first use, as applications' hot statements are.
                    connection.prepare_threshold = 0
                except psycopg.Error:
                    self.refused_logins += 1
                    time.sleep(0.05)
                    continue
            with self.tokens_lock:
                token = next(self.tokens)
            insert = f"INSERT INTO {self.table} (user_id, token) VALUES (%s, %s) RETURNING inet_server_addr()::text"
            began, outcome, server, committing = time.monotonic(), None, None, token % 2 == 0
            try:
                if token % 2 == 0:
                    server = connection.execute(insert, (self.key, token)).fetchone()[0]
                else:
                    connection.execute("BEGIN")
                    server = connection.execute(insert, (self.key, token)).fetchone()[0]
                    committing = True
                    connection.execute("COMMIT")
            except psycopg.Error as error:
                outcome = error.sqlstate or ("unknown" if committing else "lost")
                with contextlib.suppress(psycopg.Error):
                    if not connection.closed:
                        connection.rollback()
            self.writes.add(token, outcome, server and server.split("/")[0], began, time.monotonic())
            # A pause, so that this process does not take the processor from those that it measures.
            time.sleep(0.02)


class Load:
    """Clients of both kinds, for one fault."""

    def __init__(self, stage, clients):
        self.ends = threading.Event()
        self.writes = {kind: Writes() for kind in TABLES}
        key = key_of(stage, 1)
        nodes = stage.shards[0].nodes
        hosts, ports = ",".join(n.address for n in nodes), ",".join("5432" for _ in nodes)
        libpq = (f"host={hosts} port={ports} user=app password=app dbname=bank target_session_attrs=read-write "
                 "connect_timeout=2 keepalives_idle=2 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=4000")
        self.clients = []
        for number in range(clients):
            through = stage.proxies[number % 2].dsn()
            self.clients.append(Client(through, TABLES["pgring"], key, self.writes["pgring"], self.ends))
            self.clients.append(Client(libpq, TABLES["libpq"], key, self.writes["libpq"], self.ends))
        for client in self.clients:
            client.start()

    def acknowledged(self, kind, since):
        return sum(1 for row in list(self.writes[kind].all) if row[1] is None and row[3] > since)

    def stop(self):
        self.ends.set()
        for client in self.clients:
            client.join(60)


def key_of(stage, shard):
    """A key of the shard, by asking where its row lands."""
    with psycopg.connect(stage.proxies[0].dsn(), autocommit=True) as connection:
        for key in range(1, 100):
            connection.execute(f"INSERT INTO {TABLES['pgring']} VALUES ({key}, 0)")
            route = connection.execute("SHOW pgring.route").fetchone()[0]
            connection.execute(f"DELETE FROM {TABLES['pgring']} WHERE user_id = {key}")
            if f"s{shard}" in route:
                return key
        raise RuntimeError(f"no key of shard {shard} is found")


class Watch(threading.Thread):
    """When a server of the shard other than the old primary first takes writes."""

    def __init__(self, shard, old):
        super().__init__(daemon=True)
        self.others = [node for node in shard.nodes if node is not old]
        self.promoted = None
        self.ends = threading.Event()

    def run(self):
        def look(node):
            connection = None
            while self.promoted is None and not self.ends.is_set():
                try:
                    connection = connection or psycopg.connect(node.dsn(), autocommit=True)
                    if not connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
                        self.promoted = self.promoted or time.monotonic()
                except psycopg.Error:
                    connection = None
                time.sleep(0.02)

        looking = [threading.Thread(target=look, args=(node,), daemon=True) for node in self.others]
        for thread in looking:
            thread.start()
        for thread in looking:
            thread.join()


class Fault:
    """What is done to the node, and how it is undone."""

    def __init__(self, name, stage, node, watch):
        self.name, self.stage, self.node, self.watch = name, stage, node, watch
        self.undone = False
        # When clients may first notice it, and what took how long.
        self.at, self.steps, self.resumed = time.monotonic(), [], None

    def do(self):
        self.at = time.monotonic()
        getattr(self, self.name)()

    def kill(self):
        pids = self.node.pids(postgres_only=True)
        for how in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)

    def freeze(self):
        self.node.signal(signal.SIGSTOP)

    def cut(self):
        for pid in self.node.patroni_pids():
            os.kill(pid, signal.SIGSTOP)
        for address in [ETCD] + [other.address for other in self.stage.nodes if other is not self.node]:
            run(*self.node.inside("ip", "route", "add", "blackhole", f"{address}/32"))

    def disk(self):
        with contextlib.suppress(OSError), open(self.node.disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1 << 16))
        # It goes on for as long as it has old segments of the log to write over, and only refuses.
        for _ in range(100):
            with contextlib.suppress(psycopg.Error):
                self.node.ask("SELECT pg_logical_emit_message(false, 'full', 'disk')")
                self.node.ask("SELECT pg_switch_wal()")

    def patronictl(self):
        config = self.stage.directory / f"{self.node.name}.json"
        scope = self.node.configuration()["scope"]
        done = run("patronictl", "-c", config, "switchover", "--master", self.node.name, "--force", scope, check=False)
        if "uccess" not in done.stdout:
            raise RuntimeError(done.stdout + done.stderr)

    @contextlib.contextmanager
    def consoles(self):
        """What says one command to all proxies."""
        with contextlib.ExitStack() as stack:
            consoles = [stack.enter_context(psycopg.connect(proxy.dsn("pgring"), autocommit=True))
                        for proxy in self.stage.proxies]
            yield lambda command: at_once(*(lambda console=c: console.execute(command) for c in consoles))

    def planned(self, switch):
        """`switch` is what makes another one primary."""
        # What a checkpoint has written the shutdown does not have to.
        with psycopg.connect(self.node.dsn(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        with self.consoles() as tell:
            self.at = time.monotonic()
            self.step("PAUSE", lambda: tell("PAUSE bank s1"))
            switch()
            self.step("RESUME", lambda: tell("RESUME bank s1"))
            self.resumed = time.monotonic()
        say(f"    {', '.join(self.steps)}")

    def step(self, name, take):
        began = time.monotonic()
        taken = take()
        self.steps.append(f"{name} {time.monotonic() - began:.2f} s")
        return taken

    def switchover(self):
        shard = self.stage.shards[0]
        successor = shard.synchronous()
        shard.pause_patroni(True)
        with psycopg.connect(successor.dsn(), autocommit=True) as at_successor:
            # Of when it was primary itself it may have the names of its standbys, and commits would wait for
            # those. Patroni empties them too where it promotes.
            at_successor.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            at_successor.execute("SELECT pg_reload_conf()")

            def promote():
                # Nothing of the old primary's is left behind: not even its last checkpoint.
                has_all = f"SELECT pg_last_wal_receive_lsn() > '{end}'"
                until("the successor has everything", lambda: at_successor.execute(has_all).fetchone()[0], 30, 0.01)
                at_successor.execute("SELECT pg_promote(false)")
                writes = "SELECT NOT pg_is_in_recovery()"
                until("the successor takes writes", lambda: at_successor.execute(writes).fetchone()[0], 60, 0.01)

            def switch():
                nonlocal end
                end = self.step("stop", self.node.stop_server)
                self.step("promote", promote)

            end = None
            self.planned(switch)
            until("it is seen", lambda: self.watch.promoted, 10, 0.01)

    def delegated(self):
        shard = self.stage.shards[0]
        body = {"leader": self.node.name, "candidate": shard.synchronous().name}

        def switch():
            # Answered after a look every other second; whoever watches the servers knows at once.
            asking = pool.submit(self.node.rest, "switchover", "POST", body, 60)
            look = lambda: self.watch.promoted or (asking.done() and asking.result() and False)
            self.step("Patroni", lambda: until("another one is primary", look, 60, 0.01))

        with ThreadPoolExecutor(1) as pool:
            self.planned(switch)

    def unannounced(self):
        self.patronictl()

    def replay(self):
        replica = next(node for node in self.stage.shards[0].nodes if node is not self.node)
        replica.ask("SELECT pg_wal_replay_pause()::text")
        self.node = replica

    def hand_back(self):
        """Patroni goes on, once it has seen who leads: before that it would make the old one primary."""
        shard = self.stage.shards[0]
        with contextlib.suppress(RuntimeError):
            until("Patroni has seen its new leader", lambda: shard.leader() not in (None, self.node), 60)
            with psycopg.connect(shard.leader().dsn(), autocommit=True) as at_leader:
                # Not before Patroni has set the name of a standby that is there.
                until("a standby is named", lambda: at_leader.execute(NAMED).fetchone()[0], 60)
                at_leader.execute("ALTER SYSTEM RESET synchronous_standby_names")
                at_leader.execute("SELECT pg_reload_conf()")
        shard.pause_patroni(False)
        try:
            until("the old primary is back", lambda: self.node.rest("patroni")["state"] == "running", 30)
        except RuntimeError:
            # Patroni 3.0 does not forget, at a promotion by hand, what it last thought about rewinding that
            # server, and then it has those that want to be rewound wait for ever.
            say("    the new primary's Patroni is started anew")
            shard.pause_patroni(True)
            leader = shard.leader()
            leader.agent.end()
            leader.start()
            until("its Patroni is back", lambda: shard.leader() is leader and leader.rest("patroni"), 60)
            shard.pause_patroni(False)

    def undo(self):
        if self.undone:
            return
        self.undone = True
        if self.name == "switchover":
            self.hand_back()
        if self.name in ("freeze", "cut"):
            # A watchdog would have reset the machine. Without one a Patroni that wakes may take its key
            # back for its own (3.0 with etcd3), and the server that has all writes would be rewound.
            for pid in self.node.patroni_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.node.agent.end(signal.SIGKILL)
        if self.name == "freeze":
            self.node.signal(signal.SIGCONT)
        elif self.name == "cut":
            for address in [ETCD] + [other.address for other in self.stage.nodes if other is not self.node]:
                run(*self.node.inside("ip", "route", "del", "blackhole", f"{address}/32"), check=False)
        elif self.name == "disk":
            (self.node.disk / "filler").unlink(missing_ok=True)
        elif self.name == "replay":
            self.node.ask("SELECT pg_wal_replay_resume()::text")
        if self.node.agent.process.poll() is not None:
            # Writable, reachable and replaced: for a while it is there for whoever asks.
            time.sleep(3)
            self.node.start()


def longest_gap(rows, since):
    """Without an acknowledgement: the longest time that ends after the fault, and when that began."""
    ends = sorted(row[4] for row in rows if row[1] is None)
    gaps = [(later - max(earlier, since), earlier) for earlier, later in zip(ends, ends[1:]) if later > since]
    return max(gaps) if gaps else (float("inf"), since)


def counted(rows, since):
    errors = {}
    for row in rows:
        if row[1] is not None and row[4] > since:
            errors[row[1]] = errors.get(row[1], 0) + 1
    return errors


def check_writes(stage, kind, rows, fault_at):
    """What is wrong with what is there, compared with what was told."""
    leader = stage.shards[0].leader()
    with psycopg.connect(leader.dsn(database="bank"), autocommit=True) as connection:
        there = dict(connection.execute(f"SELECT token, count(*) FROM {TABLES[kind]} GROUP BY token").fetchall())
    wrong = []
    for token, outcome, *_ in rows:
        found = there.get(token, 0)
        if outcome is None and found == 0:
            wrong.append(f"acknowledged and lost: {token}")
        if found > 1:
            wrong.append(f"there {found} times: {token}")
        # 08006 and whatever a server answers are certain; what libpq's client was not told is not.
        if outcome not in (None, "08007", "unknown") and found and not (kind == "libpq" and outcome[:2] in ("57", "08")):
            wrong.append(f"failed with {outcome} and there: {token}")
    before = {row[2] for row in rows if row[1] is None and row[4] < fault_at}
    fresh = [row for row in rows if row[1] is None and row[2] not in before and row[4] > fault_at]
    if fresh:
        first = min(row[4] for row in fresh)
        late = [row for row in rows if row[1] is None and row[2] in before and row[3] > first]
        wrong += [f"accepted by the old primary after the new one's first: {row[0]}" for row in late]
    return wrong


def round_of(name, stage, arguments):
    shard = stage.shards[0]
    until("the shard is whole", shard.is_whole, 300, 0.5)
    old = shard.leader()
    load = Load(stage, arguments.clients)
    began = time.monotonic()
    until("clients write", lambda: min(load.acknowledged(kind, began) for kind in TABLES) > 100, 60)
    time.sleep(1)
    watch = Watch(shard, old)
    watch.start()
    pulse = Pulse()
    pulse.start()
    fault = Fault(name, stage, old, watch)
    try:
        return judged(fault, load, watch, pulse, arguments)
    except Exception as error:
        took = f"new primary after {watch.promoted - fault.at:.2f} s" if watch.promoted else "no new primary"
        stall = f"the machine kept a thread waiting for up to {pulse.worst(fault.at):.2f} s"
        took = ", ".join([took, *fault.steps, stall])
        raise RuntimeError(f"{error!r} (so far: {took})") from error
    finally:
        for thread in (load, watch, pulse):
            thread.ends.set()
        # It may be what has failed.
        with contextlib.suppress(Exception):
            fault.undo()


def judged(fault, load, watch, pulse, arguments):
    name, stage, shard = fault.name, fault.stage, fault.stage.shards[0]
    fault.do()
    at = fault.at
    if name == "replay":
        time.sleep(5)
    else:
        until("another one is primary", lambda: watch.promoted, 120)
        until("clients write through pgring", lambda: load.acknowledged("pgring", watch.promoted) > 50, 120)
        with contextlib.suppress(RuntimeError):
            # Some of libpq's hang until the fault is undone.
            until("clients write through libpq", lambda: load.acknowledged("libpq", watch.promoted) > 50, 15)
    watch.ends.set()
    time.sleep(2)
    pulse.ends.set()
    stall = pulse.worst(at)
    fault.undo()
    result = {"fault": name, "detector": (watch.promoted or at) - at, "steps": fault.steps, "stall": stall}
    problems, elsewhere = [], []
    try:
        # The old primary comes back while they write.
        until("the shard is whole again", shard.is_whole, 300, 0.5)
    except RuntimeError as error:
        # What has been measured until then is no less true.
        problems.append(str(error))
        result["broken"] = True
    time.sleep(1)
    load.stop()
    for kind, writes in load.writes.items():
        rows = list(writes.all)
        gap, began = longest_gap(rows, at)
        result[kind] = {
            "gap": gap,
            "gap began": began - at,
            "slowest": max((row[4] - row[3] for row in rows if row[4] > at), default=float("inf")),
            "errors": counted(rows, at),
            "writes": len(rows),
        }
        (problems if kind == "pgring" else elsewhere).extend(check_writes(stage, kind, rows, at))
    mine = result["pgring"]
    certain = {"08006", "08007", "57P01"} | ({"53100", "58030", "XX000"} if name == "disk" else set())
    measured = measured_after = ""
    if fault.resumed:
        waited = [row[4] - fault.resumed for row in load.writes["pgring"].all if row[3] < fault.resumed < row[4]]
        result["beyond RESUME"] = max(waited, default=0)
        measured_after = f"; clients went on {result['beyond RESUME']:.2f} s after RESUME at the latest"
        measured = f"; {', '.join(fault.steps)}{measured_after}"
    measured = (f" (new primary after {result['detector']:.2f} s{measured}; "
                f"the machine kept a thread waiting for up to {stall:.2f} s)")
    if set(mine["errors"]) - certain:
        problems.append(f"pgring's clients were told {mine['errors']}")
    # One statement of each was under way, at most (a disk that is full fails them until it is noticed).
    if name != "disk" and sum(mine["errors"].values()) > arguments.clients:
        problems.append(f"pgring's clients heard of more than what was under way: {mine['errors']}")
    if name in PLANNED and mine["errors"]:
        problems.append(f"errors in a planned {name}: {mine['errors']}{measured}")
    if name == "switchover" and mine["slowest"] >= BAR:
        problems.append(f"a wait of {mine['slowest']:.2f} s in a planned switchover{measured}")
    if name == "delegated" and mine["slowest"] > result["detector"] + 1:
        problems.append(f"a wait of {mine['slowest']:.2f} s in a switchover by Patroni{measured}")
    if name not in PLANNED and mine["gap"] > result["detector"] + 1:
        problems.append(f"without service for {mine['gap']:.2f} s, {mine['gap'] - result['detector']:.2f} s "
                        f"more than until the new primary took writes{measured}")
    result["problems"] = problems
    logins = sum(client.refused_logins for client in load.clients[::2])
    say(f"  {name}: new primary after {result['detector']:.2f} s; without service: pgring {mine['gap']:.2f} s, "
        f"libpq {result['libpq']['gap']:.2f} s; longest wait: pgring {mine['slowest']:.2f} s; "
        f"errors: pgring {mine['errors']} of {mine['writes']}, "
        f"libpq {result['libpq']['errors']} of {result['libpq']['writes']}; refused logins: {logins}; "
        f"machine's longest stall: {stall:.2f} s{measured_after}")
    for problem in problems[:10]:
        say("    WRONG:", problem)
    if elsewhere:
        say(f"    (libpq's clients: {len(elsewhere)} writes wrong, the first: {elsewhere[0]})")
    return result


def played(arguments, faults, results):
    """All rounds, each result noted as it comes."""
    stage = None
    try:
        for turn, name in itertools.product(range(arguments.rounds), faults):
            say(f"round {turn + 1} of {arguments.rounds}: {name}")
            try:
                stage = stage or Stage(arguments).__enter__()
                result = round_of(name, stage, arguments)
                broken = result.get("broken", False)
            except Exception as error:
                # The stage did not get so far: nothing is known of pgring. The next round has a new one.
                traceback.print_exc()
                say(f"    the round came to nothing: {error!r}")
                result = {"fault": name, "problems": [f"came to nothing: {error!r}"]}
                broken = True
            if broken and stage:
                stage.__exit__()
                stage = None
            results.append({"round": turn + 1, **result})
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(results, indent=1))
    finally:
        if stage:
            stage.__exit__()


def figures_of(results, faults):
    print(f"\n{'seconds, median and worst':30} {'new primary':>16} {'without service':>16} {'beyond the new':>16} "
          f"{'longest wait':>16} {'errors':>7}   rounds")
    for name, kind in itertools.product(faults, TABLES):
        told = [result for result in results if result["fault"] == name and kind in result]
        if not told:
            continue

        def figures(value):
            values = [value(result) for result in told]
            return f"{statistics.median(values):7.2f} {max(values):8.2f}"

        errors = sum(sum(result[kind]["errors"].values()) for result in told)
        print(f"{name:16} {'through ' + kind:>13} {figures(lambda r: r['detector'])} "
              f"{figures(lambda r: r[kind]['gap'])} {figures(lambda r: r[kind]['gap'] - r['detector'])} "
              f"{figures(lambda r: r[kind]['slowest'])} {errors:7}   {len(told)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--clients", type=int, default=6, help="of each kind")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", help="where the figures go")
    arguments = parser.parse_args()
    faults = arguments.faults.split(",")
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(unknown)}")
    if os.geteuid() != 0:
        raise SystemExit("failover: needs root, for network namespaces and small disks")
    missing = [name for name in ("patroni", "patronictl", "etcd", "ip", "setpriv") if not shutil.which(name)]
    if missing:
        raise SystemExit(f"failover: {', '.join(missing)} missing: run scripts/install.sh servers failover")
    if "PGRING" in os.environ:
        arguments.program = os.environ["PGRING"]
    else:
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--bin", "pgring"], cwd=ROOT, check=True)
        arguments.program = ROOT / "target/debug/pgring"
    results = []
    # Whoever ends us has the namespaces and disks taken down, also of a run in the background.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit("ended"))
    try:
        played(arguments, faults, results)
    finally:
        figures_of(results, list(dict.fromkeys(faults)))
    wrong = [(result, problem) for result in results for problem in result["problems"]]
    for result, problem in wrong:
        print(f"WRONG: {result['fault']}, round {result['round']}: {problem}")
    if wrong:
        raise SystemExit(f"{len(wrong)} things were wrong")
    say("nothing was wrong")


if __name__ == "__main__":
    main()
