"""The processes of a run: each ends with it, by its own id, whatever happens to the run.

They live in sessions of their own, so that Ctrl-C reaches the script alone and the script
stops them in order, proxies before servers."""

import os
import pwd
import signal
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ProcessDied(Exception):
    """A server or proxy ended although nobody asked it to."""


class Process:
    """One that was started: its name for messages, its log for when it fails."""

    def __init__(self, name, popen, log_path, stop_signal):
        self.name, self.popen, self.log_path, self.stop_signal = name, popen, log_path, stop_signal

    @property
    def pid(self):
        return self.popen.pid

    def log_tail(self, lines=8):
        with open(self.log_path, errors="replace") as log:
            return "".join(log.readlines()[-lines:]).strip()

    def check_alive(self):
        if self.popen.poll() is not None:
            raise ProcessDied(f"{self.name} ended with {self.popen.returncode}:\n{self.log_tail()}")

    def stop(self):
        if self.popen.poll() is None:
            self.popen.send_signal(self.stop_signal)
            try:
                self.popen.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Processes:
    """A context manager: leaving it stops everything in reverse order of its start."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []
        self.unprivileged = unprivileged_user()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C would leave some running
        for process in reversed(self.running):
            process.stop()
        self.running.clear()

    def start(self, name, argv, stop_signal=signal.SIGTERM, as_unprivileged=False):
        log_path = os.path.join(self.directory, f"{name}.log")
        with open(log_path, "ab") as log:
            popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True, **(self.identity() if as_unprivileged else {}),
            )
        process = Process(name, popen, log_path, stop_signal)
        self.running.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.running.remove(process)

    def run(self, argv):
        """To its end, as the servers' user; if the run is interrupted, with all it started itself
        (initdb runs a shell that runs a postgres)."""
        with subprocess.Popen(
            argv, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True, **self.identity(),
        ) as popen:
            try:
                output = popen.communicate()[0]
            except BaseException:
                os.killpg(popen.pid, signal.SIGTERM)
                raise
        if popen.returncode != 0:
            raise ProcessDied(f"{argv[0]} failed:\n{output}")

    def identity(self):
        """Popen arguments for what refuses to run as root (PostgreSQL, PgBouncer)."""
        if self.unprivileged is None:
            return {}
        return {"user": self.unprivileged.pw_uid, "group": self.unprivileged.pw_gid, "extra_groups": []}

    def hand_over(self, path):
        """Makes a file or directory belong to whom `identity` runs as."""
        if self.unprivileged is not None:
            os.chown(path, self.unprivileged.pw_uid, self.unprivileged.pw_gid)


def unprivileged_user():
    """None where this process is unprivileged itself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("running as root, and there is neither a user postgres nor nobody to run servers as")


def family(pid):
    """A process and all that descend from it: a proxy may be several."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(stat_fields(int(entry))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended between the listing and the look
    members = [pid]
    for member in members:
        members.extend(child for child, parent in parents.items() if parent == member)
    return members


def cpu_seconds(pids):
    """User and system time so far, of all threads, living or ended."""
    ticks = 0
    for pid in pids:
        fields = stat_fields(pid)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def stat_fields(pid):
    """/proc/PID/stat from the state on; the name before it may hold blanks and parentheses."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()


def rss_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            total += next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return total


def wait_until(ready, process, seconds=30):
    """Until `ready()` is true; ConnectionError and the like mean not yet."""
    deadline = time.monotonic() + seconds
    while True:
        process.check_alive()
        try:
            if ready():
                return
            problem = "not ready"
        except OSError as error:
            problem = error
        if time.monotonic() > deadline:
            raise ProcessDied(f"{process.name} was not ready after {seconds} s ({problem}):\n{process.log_tail()}")
        time.sleep(0.05)
