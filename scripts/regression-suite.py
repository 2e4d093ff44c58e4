#!/usr/bin/env python3
"""PostgreSQL's own regression suite, directly and through pgring, compared file by file; and its
own program for libpq's pipelines, test by test, with what libpq traces of the protocol.

What a file printed through pgring has to be, byte for byte, what it printed over a direct
connection to an equal server. Comparing with the suite's expected output alone would not do:
where a machine's PostgreSQL differs from it, pgring could differ as well and nobody would see.

In session mode no file may differ. In transaction mode those may that the table in
docs/compatibility.md names, each with its reason. (Whether they do depends on which servers
the sessions happen to meet.)

    scripts/regression-suite.py                            everything
    scripts/regression-suite.py --mode transaction         one mode
    scripts/regression-suite.py --schedule serial          a file at a time
    scripts/regression-suite.py --only create_index,guc    these and what the suite starts with
    scripts/regression-suite.py --keep                     leaves results and logs where they are

The suite is in Debian's source package of the PostgreSQL that is installed; it is fetched once.
PGRING names the program to test, else it is built.
"""

import argparse
import contextlib
import difflib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".regress"
COMPATIBILITY = ROOT / "docs" / "compatibility.md"
SOURCES = """\
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {suite} main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security {suite}-security main
"""
SUPERUSER = "postgres"
DATABASE = "regression"
# pg_regress's own for the database it makes; with --use-existing it makes none.
DATABASE_SETTINGS = {
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "bytea_output": "hex",
    "timezone_abbreviations": "Default",
}
# The largest group of the parallel schedule has 20 files, and `\c` opens the new connection
# before it closes the old.
POOL_SIZE = 50
SUITE_PATIENCE = 1800
PIPELINES_PATIENCE = 60
# Those whose trace the program's own test compares (t/001_libpq_pipeline.pl); what the others
# send depends on how fast answers come.
TRACED = {
    "simple_pipeline", "nosync", "multi_pipelines", "prepared", "singlerow", "pipeline_abort",
    "pipeline_idle", "transaction", "disallowed_in_pipeline",
}  # fmt: skip


def say(text):
    print(f"regress: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(2)


# What is installed, and what has to be fetched


class Installation:
    def __init__(self):
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
        if not programs:
            fail("PostgreSQL is not installed as Debian installs it: scripts/install.sh servers")
        self.bin = programs[-1].parent
        self.major = self.bin.parts[4]
        self.package = f"postgresql-{self.major}"
        self.version = output("dpkg-query", "-W", "-f", "${Version}", self.package)
        self.pg_regress = self.bin.parent / "lib/pgxs/src/test/regress/pg_regress"
        self.libraries = self.bin.parent / "lib"
        # PostgreSQL refuses to run as root, and the suite's files must be the server's to write.
        self.account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    def identity(self):
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "LC_ALL": "C", "PATH": f"{self.bin}:{os.environ['PATH']}", **more}

    def run(self, *command, **options):
        subprocess.run(
            [str(part) for part in command],
            check=True,
            env=self.environment(),
            cwd="/",
            **self.identity(),
            **options,
        )


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def fetch(installation):
    """The suite's directory, its C functions compiled for the server here, and libpq_pipeline."""
    place = CACHE / installation.version.replace(":", "_").replace("~", "_")
    done = place / "done-with-pipelines"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        unpack_source(installation, place)
        compile_functions(installation, place)
        done.touch()
    return place / "suite", place / "regress.so", place / "libpq_pipeline"


def apt_options(place):
    """apt with package lists of its own: the machine's configuration stays as it is."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    lists = place / "lists"
    (lists / "partial").mkdir(parents=True)
    sources = place / "sources.list"
    sources.write_text(SOURCES.format(suite=release["VERSION_CODENAME"].strip('"')))
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": lists,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def unpack_source(installation, place):
    package, version = installation.package, installation.version
    options = apt_options(place)
    say(f"fetching the source of {package} {version}")
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    offered = re.findall(r"^Version: (\S+)$", output("apt-cache", *options, "showsrc", package), re.M)
    # Security updates replace their predecessors in the archive; the release's own stays.
    for candidate in [version, *(other for other in offered if other != version)]:
        attempt = subprocess.run(
            ["apt-get", "-qq", *options, "source", "--download-only", f"{package}={candidate}"],
            cwd=place,
            stdout=subprocess.DEVNULL,
        )
        if attempt.returncode == 0:
            break
    else:
        fail(f"the archive has no source of {package}: {version} or {', '.join(offered)}")
    if candidate != version:
        say(f"the server is {version}, its suite {candidate}")
    (archive,) = place.glob("*.orig.tar.*")
    # tar would need a program for the compression.
    with tarfile.open(archive) as source:
        for member in source:
            root, _, path = member.name.partition("/src/test/")
            if "/" in root:
                continue
            if path == "regress" or path.startswith("regress/"):
                member.name = f"suite{path.removeprefix('regress')}"
                source.extract(member, place, filter="data")
            elif path == "modules/libpq_pipeline/libpq_pipeline.c":
                member.name = "libpq_pipeline.c"
                source.extract(member, place, filter="data")


def compile_functions(installation, place):
    package = f"postgresql-server-dev-{installation.major}"
    headers = Path(f"/usr/include/postgresql/{installation.major}/server")
    archives = installation.libraries
    if not headers.exists():
        # The package would bring compilers of its own along; its headers are all that is needed.
        downloads = place / "headers"
        downloads.mkdir()
        say(f"fetching the headers of {package}")
        options = ["-o", "APT::Sandbox::User=root"]
        wanted = [f"{package}={installation.version}", package]
        for name in wanted:
            if subprocess.run(["apt-get", "-qq", *options, "download", name], cwd=downloads).returncode == 0:
                break
        (archive,) = downloads.glob("*.deb")
        subprocess.run(["dpkg", "-x", archive, downloads], check=True)
        headers = downloads / headers.relative_to("/")
        archives = downloads / archives.relative_to("/")
    # pg_config.h and its kin lie with libpq's headers.
    subprocess.run(
        ["cc", "-O2", "-fPIC", "-shared", "-w", "-D_GNU_SOURCE", f"-I{headers}", "-I/usr/include/postgresql"]
        + ["-o", place / "regress.so", place / "suite/regress.c"],
        check=True,
    )
    if (place / "libpq_pipeline.c").exists():  # since PostgreSQL 14
        subprocess.run(
            ["cc", "-O2", "-w", f"-I{headers}", "-I/usr/include/postgresql", f"-L{archives}"]
            + ["-o", place / "libpq_pipeline", place / "libpq_pipeline.c", "-lpq", "-lpgcommon", "-lpgport"],
            check=True,
        )


# One server, one proxy


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ended(process):
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def server(installation, template, data, log):
    """A new server as pg_regress's own would be, with the suite's empty database."""
    installation.run("cp", "-a", template, data)
    port = free_port()
    with open(log, "w") as sink:
        postgres = subprocess.Popen(
            [installation.bin / "postgres", "-D", data, "-p", str(port), "-k", ""],
            stdout=sink,
            stderr=sink,
            env=installation.environment(),
            cwd="/",
            **installation.identity(),
        )
    try:
        wait_until("the server answers", postgres, lambda: psql(installation, port, "postgres", "SELECT 1"))
        yield port
    finally:
        ended(postgres)


def psql(installation, port, database, sql):
    command = ["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", SUPERUSER, "-d", database]
    asked = subprocess.run(
        [*command, "-v", "ON_ERROR_STOP=1"],
        input=sql,
        text=True,
        capture_output=True,
        env=installation.environment(PGPASSWORD=SUPERUSER, PGCONNECT_TIMEOUT="5"),
    )
    return asked.returncode == 0


def wait_until(what, process, reached, patience=60):
    deadline = time.monotonic() + patience
    while not reached():
        if process.poll() is not None:
            fail(f"ended before {what}: {process.args}")
        if time.monotonic() > deadline:
            fail(f"still not true after {patience} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def proxy(program, installation, directory, server_port, mode):
    port = free_port()
    config = directory / "pgring.toml"
    config.write_text(
        f"""\
cluster = "regress"
[listen]
address = "127.0.0.1:{port}"
[http]
address = "off"
[control]
user = "{SUPERUSER}"
password = "{SUPERUSER}"
[pool]
mode = "{mode}"
size = {POOL_SIZE}
checkout_timeout = "60s"
[[user]]
name = "{SUPERUSER}"
password = "{SUPERUSER}"
[[database]]
name = "{DATABASE}"
key = "no_column_has_this_name"
[[database.shard]]
name = "s1"
endpoints = ["127.0.0.1:{server_port}"]
tls = "disable"
"""
    )
    with open(directory / "pgring.log", "w") as sink:
        pgring = subprocess.Popen(
            [program, "serve", "--config", config], stdout=sink, stderr=sink, env=installation.environment()
        )
    try:
        wait_until("pgring answers", pgring, lambda: psql(installation, port, DATABASE, "SELECT 1"))
        yield port
        if pgring.poll() is not None:
            fail(f"pgring ended meanwhile: {directory / 'pgring.log'}")
    finally:
        ended(pgring)


# Runs


class Suite:
    def __init__(self, installation, place, arguments):
        self.installation = installation
        self.place = place
        self.schedule = place / "schedule"
        source, functions, pipelines = fetch(installation)
        self.pipelines = pipelines if pipelines.exists() and not arguments.only else None
        self.input = place / "suite"
        shutil.copytree(source, self.input)
        # The tests load those of contrib/spi from the same directory.
        self.functions = place / "lib"
        self.functions.mkdir()
        shutil.copy(functions, self.functions)
        for name in ("refint.so", "autoinc.so"):
            shutil.copy(installation.libraries / name, self.functions)
        self.schedule.write_text("".join(f"{line}\n" for line in self.planned(arguments)))
        self.template = place / "template"
        if installation.account:
            for path in [place, *place.rglob("*")]:
                os.chown(path, installation.account.pw_uid, installation.account.pw_gid)
        self.initialise()

    def planned(self, arguments):
        lines = [
            line.split()
            for line in (self.input / "parallel_schedule").read_text().splitlines()
            if line.startswith("test:")
        ]
        only = set(filter(None, arguments.only.split(",")))
        if only:
            # What nearly every file builds on.
            only |= {"test_setup", "create_index", "create_function_c", "create_misc", "copy"}
        for _, *files in lines:
            files = [file for file in files if not only or file in only]
            if arguments.schedule == "serial":
                yield from (f"test: {file}" for file in files)
            elif files:
                yield "test: " + " ".join(files)

    def initialise(self):
        self.installation.run(
            "initdb", "-D", self.template, "-U", SUPERUSER, "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with open(self.template / "postgresql.conf", "a") as settings:
            settings.write(
                "fsync = off\nmax_connections = 200\nmax_prepared_transactions = 10\n"
                "listen_addresses = '127.0.0.1'\nlog_line_prefix = '%m %b[%p] %q%a '\n"
            )

    def run(self, name, mode, program):
        """Runs the suite; returns each file's output and how pg_regress found it."""
        directory = self.place / name
        self.installation.run("mkdir", "-p", directory / "out")
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(
                server(self.installation, self.template, directory / "data", self.place / f"{name}-server.log")
            )
            settings = "".join(
                f"ALTER DATABASE {DATABASE} SET {key} TO '{value}';" for key, value in DATABASE_SETTINGS.items()
            )
            create = f"CREATE DATABASE {DATABASE} TEMPLATE template0;"
            if not psql(self.installation, port, "postgres", create) or not psql(
                self.installation, port, DATABASE, settings
            ):
                fail("the suite's database could not be made")
            if mode:
                logs = self.place / f"{name}-pgring"
                logs.mkdir()
                port = stack.enter_context(proxy(program, self.installation, logs, port, mode))
            self.regress(name, directory, port)
            results = {file.stem: file.read_bytes() for file in (directory / "out/results").glob("*.out")}
            return results | self.run_pipelines(name, port)

    def run_pipelines(self, name, port):
        """Each test of libpq_pipeline: how it ended, what it complains of, what libpq has traced."""
        if self.pipelines is None:
            return {}
        traces = self.place / f"{name}-pipelines"
        traces.mkdir()
        connection = f"host=127.0.0.1 port={port} user={SUPERUSER} password={SUPERUSER} dbname={DATABASE}"
        results = {}
        for test in output(self.pipelines, "tests").split():
            trace = traces / test
            ran = subprocess.run(
                ["timeout", str(PIPELINES_PATIENCE), self.pipelines, "-r", "700"]
                + (["-t", trace] if test in TRACED else [])
                + [test, connection],
                capture_output=True,
                env=self.installation.environment(),
            )
            traced = trace.read_bytes() if trace.exists() else b""
            # An error of pgring's own has no place in PostgreSQL's source.
            traced = traced.replace(b' F "SSSS" L "SSSS" R "SSSS"', b"")
            complaint = f"ended with {ran.returncode}\n".encode() + (ran.stderr if ran.returncode else b"")
            results[f"libpq_pipeline {test}"] = complaint + traced
        failed = [test for test, result in results.items() if not result.startswith(b"ended with 0\n")]
        say(f"{name}: {len(results) - len(failed)} of {len(results)} tests of libpq_pipeline pass")
        return results

    def regress(self, name, directory, port):
        say(f"running the suite: {name}")
        began = time.monotonic()
        with open(self.place / f"{name}.log", "w") as sink:
            subprocess.run(
                [
                    self.installation.pg_regress,
                    f"--inputdir={self.input}",
                    f"--outputdir={directory / 'out'}",
                    f"--bindir={self.installation.bin}",
                    f"--dlpath={self.functions}",
                    f"--schedule={self.schedule}",
                    f"--dbname={DATABASE}",
                    f"--user={SUPERUSER}",
                    f"--port={port}",
                    "--host=127.0.0.1",
                    "--use-existing",
                ],
                stdout=sink,
                stderr=sink,
                env=self.installation.environment(PGPASSWORD=SUPERUSER),
                cwd=directory,
                timeout=SUITE_PATIENCE,
                **self.installation.identity(),
            )
        log = (self.place / f"{name}.log").read_text()
        passed = len(re.findall(r"\.\.\. ok|^ok ", log, re.M))
        say(f"{name}: {passed} files as the suite expects, {time.monotonic() - began:.0f} s")


# What is found


def excused():
    """The files that the table of docs/compatibility.md lets differ in transaction mode."""
    text = COMPATIBILITY.read_text() if COMPATIBILITY.exists() else ""
    match = re.search(r"<!-- regression suite: may differ -->(.*?)<!-- end -->", text, re.S)
    return set(re.findall(r"^\| `(\w+)` \|", match[1], re.M)) if match else set()


def compare(baseline, found, name, place):
    """The files that differ, with how many lines; the differences go into a file."""
    differing = {}
    with open(place / f"{name}.diffs", "w") as sink:
        for file in sorted(baseline.keys() | found.keys()):
            before, after = (
                results.get(file, b"(did not run)\n").decode(errors="backslashreplace").splitlines()
                for results in (baseline, found)
            )
            if before != after:
                lines = list(difflib.unified_diff(before, after, f"{file} direct", f"{file} {name}", lineterm=""))
                sink.write("\n".join(lines) + "\n\n")
                differing[file] = sum(line[0] in "+-" for line in lines[2:])
    return differing


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mode", choices=["session", "transaction"], action="append")
    parser.add_argument("--schedule", choices=["parallel", "serial"], default="parallel")
    parser.add_argument("--only", default="", metavar="FILES")
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


def main():
    chosen = arguments()
    installation = Installation()
    program = os.environ.get("PGRING") or build()
    place = Path(tempfile.mkdtemp(prefix="pgring-regress-"))
    bad = True
    try:
        place.chmod(0o755)
        suite = Suite(installation, place, chosen)
        baseline = suite.run("direct", None, program)
        if not baseline:
            fail(f"the suite did not run: {place / 'direct.log'}")
        verdicts = {}
        for mode in chosen.mode or ["session", "transaction"]:
            verdicts[mode] = compare(baseline, suite.run(mode, mode, program), mode, place)
        bad = report(baseline, verdicts, restricted=bool(chosen.only))
    finally:
        if bad or chosen.keep:
            say(f"results, differences and logs: {place}")
        else:
            shutil.rmtree(place)
    sys.exit(1 if bad else 0)


def report(baseline, verdicts, restricted):
    allowed = {"session": set(), "transaction": excused()}
    # What fails directly shows nothing.
    failed = re.compile(rb"ended with (?!0\n)")
    bad = any(failed.match(result) for test, result in baseline.items() if test.startswith("libpq_pipeline "))
    unknown = allowed["transaction"] - baseline.keys()
    if unknown and not restricted:
        bad = True
        print(f"docs/compatibility.md names files that did not run: {', '.join(sorted(unknown))}")
    for mode, differing in verdicts.items():
        print(f"\n{mode} mode: {len(baseline) - len(differing)} of {len(baseline)} files and tests the same")
        for file, lines in differing.items():
            reason = "may differ: docs/compatibility.md" if file in allowed[mode] else "NOT EXPLAINED"
            bad |= file not in allowed[mode]
            print(f"  {file:38} {lines:5} lines  {reason}")
    return bad


def build():
    subprocess.run(["cargo", "build", "--locked", "--release", "--bin", "pgring"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release/pgring"


if __name__ == "__main__":
    main()
