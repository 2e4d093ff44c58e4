"""Servers with a proxy in front of them, as `pgring demo` makes them."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PGRING = ROOT / "target/release/pgring"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """`pgring demo`, which starts the servers; the proxy in front of them is in the same process."""

    def __init__(self, shards, directory):
        self.port = free_port()
        arguments = ["demo", "--shards", str(shards), "--replicas", "0", "--dir", directory, "--port", str(self.port)]
        self.process = subprocess.Popen([PGRING, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if "Ctrl-C stops" in line:
                break
        else:
            sys.exit("pgring demo did not start")
        config = Path(directory, "pgring.toml").read_text()
        self.endpoints = re.findall(r'endpoints = \["([^"]+)"', config)

    def proxy(self):
        return f"postgres://app:app@127.0.0.1:{self.port}/novacron"

    def server(self):
        return f"postgres://app:app@{self.endpoints[0]}/novacron"

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
