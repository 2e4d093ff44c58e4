"""What is compared: PostgreSQL itself, and each proxy in front of it, set up as its manual
would have it. Everybody's clients log in with SCRAM (HAProxy hands them to PostgreSQL, which
trusts the loopback); everybody's server connections are trusted."""

import os
import signal
import socket
import urllib.error
import urllib.request

from pgclient import Connection
from processes import family, wait_until

USER = PASSWORD = "bench"
POOL_SIZE = 20
SERVER_CONNECTIONS = 400

SIMPLE, PREPARED = "simple", "prepared"


class Peer:
    """Something that speaks PostgreSQL on a port of the loopback."""

    def __init__(self, name, port, process=None, databases=None):
        self.name, self.port, self.process = name, port, process
        self.databases = databases or {}
        self.pids = family(process.pid) if process else []

    def database(self, mode):
        return self.databases.get(mode, "bench")

    def connect(self, mode=SIMPLE):
        return Connection(self.port, self.database(mode), USER, PASSWORD)


class Stage:
    """Starts servers and proxies in one directory, under one `Processes`."""

    def __init__(self, processes, programs):
        self.processes, self.programs = processes, programs
        self.directory = processes.directory

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        self.processes.hand_over(path)
        return path

    def postgresql(self, name, scale):
        """A server of its own with pgbench's tables. No durability: disks are not what is measured."""
        data, port = os.path.join(self.directory, name), free_port()
        self.processes.run([
            self.programs["initdb"], "--no-sync", "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", f"--pgdata={data}"])
        settings = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.directory,
            "shared_buffers": "256MB", "max_connections": SERVER_CONNECTIONS, "max_prepared_transactions": 100,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
        }
        process = self.processes.start(
            name, [self.programs["postgres"], "-D", data, *(f"--{key}={value}" for key, value in settings.items())],
            stop_signal=signal.SIGINT, as_unprivileged=True)
        wait_until(lambda: closes(Connection(port, "postgres", "postgres", "")), process)
        with Connection(port, "postgres", "postgres", "") as connection:
            connection.run(f"CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
            connection.run(f"CREATE DATABASE bench OWNER {USER}")
        self.processes.run([
            self.programs["pgbench"], "--initialize", "--quiet", f"--scale={scale}",
            "--host=127.0.0.1", f"--port={port}", f"--username={USER}", "bench"])
        return Peer(name, port, process)

    def haproxy(self, servers):
        """TCP mode: no pooling, no look at the bytes; the floor of what a proxy costs."""
        port = free_port()
        config = self.write("haproxy.cfg", f"""\
global
    maxconn 5000

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen postgresql
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{servers[0].port}
""")
        process = self.processes.start("haproxy", [self.programs["haproxy"], "-db", "-f", config])
        return self.ready(Peer("haproxy", port, process))

    def pgbouncer(self, servers):
        """Transaction pooling under the simple protocol. PgBouncer knows protocol-level prepared
        statements under transaction pooling from 1.21 on, so prepared is session pooling here,
        whichever version it is."""
        port = free_port()
        server = f"host=127.0.0.1 port={servers[0].port} dbname=bench user={USER}"
        users = self.write("pgbouncer.users", f'"{USER}" "{PASSWORD}"\n')
        config = self.write("pgbouncer.ini", f"""\
[databases]
{SIMPLE} = {server} pool_mode=transaction pool_size={POOL_SIZE}
{PREPARED} = {server} pool_mode=session pool_size=200

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
max_client_conn = 5000
ignore_startup_parameters = extra_float_digits
""")
        process = self.processes.start(
            "pgbouncer", [self.programs["pgbouncer"], config], as_unprivileged=True)
        return self.ready(Peer("pgbouncer", port, process, {SIMPLE: SIMPLE, PREPARED: PREPARED}))

    def pgring(self, name, servers):
        """Transaction pooling under both protocols; with several servers each statement is
        routed by the `aid` it names."""
        port, http = free_port(), free_port()
        shards = "".join(f"""
  [[database.shard]]
  name = "s{number}"
  dbname = "bench"
  endpoints = ["127.0.0.1:{server.port}"]
""" for number, server in enumerate(servers, start=1))
        config = self.write(f"{name}.toml", f"""\
cluster = "bench"

[listen]
address = "127.0.0.1:{port}"

[http]
address = "127.0.0.1:{http}"

[control]
user = "{USER}"
password = "{PASSWORD}"

[pool]
mode = "transaction"
size = {POOL_SIZE}

[[user]]
name = "{USER}"
password = "{PASSWORD}"

[[database]]
name = "bench"
key = "aid"

  [[database.table]]
  name = "pgbench_accounts"
  key = "aid"
{shards}""")
        process = self.processes.start(name, [self.programs["pgring"], "serve", "--config", config])
        wait_until(lambda: answers(f"http://127.0.0.1:{http}/readyz"), process)
        return self.ready(Peer(name, port, process))

    def ready(self, peer):
        wait_until(lambda: closes(peer.connect()), peer.process)
        return peer


def closes(connection):
    connection.close()
    return True


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except urllib.error.HTTPError:
        return False  # up, and says that it is not ready


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
