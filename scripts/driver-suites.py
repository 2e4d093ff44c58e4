#!/usr/bin/env python3
"""The drivers' own test-suites, directly and through pgring, compared test by test.

What a test does directly, on an equal server, it has to do through pgring in transaction mode with
one shard. A test that fails directly shows nothing, and is not counted.

    scripts/driver-suites.py                          all of them
    scripts/driver-suites.py --suite asyncpg          one; may be repeated
    scripts/driver-suites.py --suite django -- queries
                                                      what is behind -- goes to the suite's program
    scripts/driver-suites.py --keep                   leaves the logs where they are

Each suite is the one in the source package of the version that the tests here use: from PyPI as in
tests/requirements.txt, from crates.io as in Cargo.lock. It is fetched once, and gets an environment
of its own. PGRING names the program to test, else it is built. The answer is the table of docs/compatibility.md and the names of the tests that fail
only through pgring; it is no failure that there are some.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import tarfile
import tempfile
import threading
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".driver-suites"
REQUIREMENTS = ROOT / "tests/requirements.txt"
USER = "postgres"
POOL_SIZE = 20
PATIENCE = 7200

# Servers and pgring are started as for PostgreSQL's own suite.
spec = importlib.util.spec_from_file_location("regression_suite", ROOT / "scripts/regression-suite.py")
regression = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(regression)

DJANGO_APPLICATIONS = (
    "aggregation annotations backends basic bulk_create constraints delete delete_regress expressions"
    " get_or_create m2m_regress queries schema select_for_update transactions update"
).split()


def say(text):
    print(f"driver-suites: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(2)


# The suites. Each has a package, what it needs beside that, the databases it uses and a way to run.


class Python:
    """From PyPI. Its outcomes are in the report of pytest."""

    users, port = {}, None

    def version(self):
        return version(self.package)

    def fetch(self):
        return fetch(self)

    def outcomes(self, report, log):
        if not report.exists():
            fail(f"the suite has left no report: {report.with_suffix('.log')}")
        found = {}
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            kinds = {child.tag for child in case}
            ended = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            # One that fails in its teardown is reported twice.
            found[name] = "failed" if found.get(name) == "failed" else ended
        return found


class Asyncpg(Python):
    # Its tests of standbys start servers, which PostgreSQL does not do for root: they fail directly then.
    package, needs, databases = "asyncpg", ["pytest", "distro"], ["postgres"]
    title = "`tests/`"

    def run(self, place, python, port, report, more):
        # Beside the package's sources Python would take those, which are not compiled.
        tests = place / "alone"
        if not tests.exists():
            tests.mkdir()
            shutil.copytree(place / "source/tests", tests / "tests")
        # These look at the source tree, or start servers of their own.
        left_out = ["test__sourcecode.py", "test__environment.py"]
        yield pytest(
            python, report, [*(f"--ignore=tests/{name}" for name in left_out), *(more or ["tests"])]
        ), tests, {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGPASSWORD": USER, "PGDATABASE": "postgres"}


class SqlAlchemy(Python):
    package, needs, databases = "SQLAlchemy", ["pytest", "psycopg[binary]"], ["test"]
    # README.unittests.rst asks for them.
    start = (
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2;"
    )
    paths = ["test/dialect/test_suite.py"]

    @property
    def title(self):
        named = f"`{self.paths[0]}`" if len(self.paths) == 1 else f"{len(self.paths)} files of `test/`"
        return f"{named}, psycopg"

    def run(self, place, python, port, report, more):
        url = f"postgresql+psycopg://{USER}:{USER}@127.0.0.1:{port}/test"
        yield pytest(python, report, ["-p", "no:logging", "--dburi", url, *(more or self.paths)]), place / "source", {}


class SqlAlchemyPostgresql(SqlAlchemy):
    paths = ["test/dialect/postgresql"]


class SqlAlchemyOthers(SqlAlchemy):
    """Of those that know no dialect: what speaks to a database most."""

    paths = (
        [f"test/engine/test_{name}.py" for name in "execute reflection transaction reconnect pool".split()]
        + [
            f"test/sql/test_{name}.py"
            for name in "query returning insert_exec resultset types defaults sequences update delete values".split()
        ]
        + [
            f"test/orm/test_{name}.py"
            for name in "session transaction unitofwork unitofworkv2 versioning cascade naturalpks lockmode".split()
        ]
    )


class Django(Python):
    package, needs = "Django", ["psycopg[binary]"]
    # Django looks at `postgres` before it looks for those of its tests.
    databases = ["default", "other", "test_default", "test_other", "postgres"]
    title = f"{len(DJANGO_APPLICATIONS)} applications of `tests/`"

    def run(self, place, python, port, report, more):
        tests = place / "source/tests"
        connection = {"ENGINE": "django.db.backends.postgresql", "USER": USER, "PASSWORD": USER, "HOST": "127.0.0.1", "PORT": port}
        (tests / "pgring_settings.py").write_text(
            f"DATABASES = {{name: {connection!r} | {{'NAME': name}} for name in ('default', 'other')}}\n"
            "SECRET_KEY = 'of a test'\n"
            "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
            "DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n"
            "USE_TZ = False\n"
        )
        # The databases are there already: pgring serves those that its file names.
        command = [python, "runtests.py", "--settings=pgring_settings", "--parallel=1", "--keepdb", "--noinput", "-v2"]
        yield [*command, *(more or DJANGO_APPLICATIONS)], tests, {}

    def outcomes(self, report, log):
        found = {}
        # `test_name (application.tests.Class.test_name) ... ok`, with a docstring or output between.
        for name, said in re.findall(
            r"^test\w* \(([\w.]+)\)(?:.*\n)??.*?\.\.\. (?:.*\n)*?.*?(ok|FAIL|ERROR|skipped|expected failure)\b", log, re.M
        ):
            found[name] = {"ok": "passed", "expected failure": "passed", "skipped": "skipped"}.get(said, "failed")
        return found


class TokioPostgres:
    package, databases, title = "tokio-postgres", ["postgres"], "`tests/`"
    # As its docker/sql_setup.sh, but that a superuser has a password here: pgring asks everybody for one.
    users = {"pass_user": "password", "md5_user": "password", "scram_user": "password"}
    start = (
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;"
        " SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'password';"
        " SET password_encryption = 'scram-sha-256'; CREATE ROLE pass_user LOGIN PASSWORD 'password';"
        " CREATE ROLE scram_user LOGIN PASSWORD 'password';"
    )
    # It stands in the sources.
    port = 5433

    def version(self):
        return self.found()["version"]

    def found(self):
        asked = ["cargo", "metadata", "--format-version", "1", "--locked"]
        described = json.loads(subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        return next(package for package in described["packages"] if package["name"] == self.package)

    def fetch(self):
        found = self.found()
        place = CACHE / f"{self.package}-{found['version']}"
        if not (place / "done").exists():
            say(f"building the tests of {self.package} {found['version']}")
            shutil.rmtree(place / "source", ignore_errors=True)
            place.mkdir(parents=True, exist_ok=True)
            shutil.copytree(Path(found["manifest_path"]).parent, place / "source")
            manifest = place / "source/Cargo.toml"
            # What only benchmarks need is not compiled.
            wanted = re.sub(r"\[dev-dependencies\.criterion\]\n(?:.+\n)+", "", manifest.read_text())
            wanted = re.sub(r"\[\[bench\]\]\n(?:.+\n)+", "", wanted)
            manifest.write_text(wanted + "\n[workspace]\n\n[profile.dev]\ndebug = false\n")
            for source in (place / "source/tests/test").glob("**/*.rs"):
                text = source.read_text()
                source.write_text(text.replace("user=postgres", f"user={USER} password={USER}"))
            # Beside these there are only older and newer versions of the same crates.
            features = [
                "array-impls", "with-bit-vec-0_9", "with-chrono-0_4", "with-eui48-1", "with-geo-types-0_7",
                "with-jiff-0_2", "with-serde_json-1", "with-smol_str-01", "with-time-0_3", "with-uuid-1",
            ]  # fmt: skip
            build = ["cargo", "test", "-j1", "--no-run", "--test", "test", "--features", " ".join(features)]
            said = subprocess.run(
                [*build, "--message-format=json"], cwd=place / "source", stdout=subprocess.PIPE, text=True
            )
            if said.returncode != 0:
                fail(f"the tests of {self.package} cannot be built")
            (program,) = filter(None, (json.loads(line).get("executable") for line in said.stdout.splitlines()))
            shutil.copy(program, place / "test")
            (place / "done").touch()
        return place, place / "test"

    def run(self, place, program, port, report, more):
        yield [program, "--test-threads=4", *more], place / "source", {}

    def outcomes(self, report, log):
        said = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", log, re.M)
        return {name: {"ok": "passed", "ignored": "skipped"}.get(ended, "failed") for name, ended in said}


SUITES = {
    "asyncpg": Asyncpg(),
    "sqlalchemy": SqlAlchemy(),
    "sqlalchemy-postgresql": SqlAlchemyPostgresql(),
    "sqlalchemy-others": SqlAlchemyOthers(),
    "django": Django(),
    "tokio-postgres": TokioPostgres(),
}


def pytest(python, report, arguments):
    return [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]


# What has to be fetched


def version(package):
    wanted = REQUIREMENTS.read_text()
    match = re.search(rf"^{package}(?:\[[\w,]+\])?==(\S+)$", wanted, re.M | re.I)
    return match[1] if match else fail(f"tests/requirements.txt does not name {package}")


def fetch(suite):
    """A directory with the package's `source`, and a Python that has the package."""
    package, wanted = suite.package, version(suite.package)
    place = CACHE / f"{package.lower()}-{wanted}"
    python = place / "venv/bin/python"
    if not (place / "done").exists():
        say(f"fetching {package} {wanted}")
        for part in ("source", "venv", "alone"):
            shutil.rmtree(place / part, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        venv.create(place / "venv", with_pip=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # An extra cannot stand in a constraint.
        constraints = place / "constraints.txt"
        constraints.write_text(re.sub(r"\[[\w,]+\]", "", REQUIREMENTS.read_text()))
        called([*pip, "install", "-c", constraints, f"{package}=={wanted}", *suite.needs])
        if not list(place.glob("*.tar.gz")):
            called([*pip, "download", "--no-deps", "--no-binary", package, "-d", place, f"{package}=={wanted}"])
        (archive,) = place.glob("*.tar.gz")
        unpacked = place / "unpacked"
        with tarfile.open(archive) as source:
            source.extractall(unpacked, filter="data")
        (inner,) = unpacked.iterdir()
        inner.rename(place / "source")
        unpacked.rmdir()
        (place / "done").touch()
    return place, python


def called(command):
    if subprocess.run([str(part) for part in command]).returncode != 0:
        fail(f"failed: {' '.join(map(str, command))}")


# Runs


@contextlib.contextmanager
def new_server(installation, place, name, suite):
    template = place / "template"
    if not template.exists():
        installation.run(
            "initdb", "-D", template, "-U", USER, "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        if suite.users:
            # They show their passwords, unlike the superuser.
            rules = template / "pg_hba.conf"
            rules.write_text(
                f"host all {USER} all trust\nhost all pass_user all password\n" + rules.read_text().replace("trust", "md5")
            )
        with open(template / "postgresql.conf", "a") as settings:
            settings.write(
                "fsync = off\nmax_connections = 200\nmax_prepared_transactions = 10\nlisten_addresses = '127.0.0.1'\n"
            )
    with regression.server(installation, template, place / f"{name}-data", place / f"{name}-server.log") as port:
        yield port


def prepare(installation, port, suite):
    for name in suite.databases:
        if name != "postgres" and not regression.psql(installation, port, "postgres", f'CREATE DATABASE "{name}"'):
            fail(f"the database {name} could not be made")
        start = getattr(suite, "start", "")
        if start and not regression.psql(installation, port, name, start):
            fail(f"the database {name} could not be prepared: is postgresql-contrib there?")


@contextlib.contextmanager
def proxy(program, installation, place, server_port, suite):
    databases = suite.databases
    port = regression.free_port()
    config = place / "pgring.toml"
    config.write_text(
        f"""\
cluster = "suites"
[listen]
address = "127.0.0.1:{port}"
[http]
address = "off"
[control]
user = "{USER}"
password = "{USER}"
[pool]
size = {POOL_SIZE}
checkout_timeout = "30s"
[[user]]
name = "{USER}"
password = "{USER}"
"""
        + "".join(f'[[user]]\nname = "{user}"\npassword = "{password}"\n' for user, password in suite.users.items())
        + "".join(
            f"""\
[[database]]
name = "{name}"
key = "no_column_has_this_name"
[[database.shard]]
name = "s1"
endpoints = ["127.0.0.1:{server_port}"]
tls = "disable"
"""
            for name in databases
        )
    )
    with open(place / "proxy.log", "w") as sink:
        pgring = subprocess.Popen(
            [program, "serve", "--config", config], stdout=sink, stderr=sink, env=installation.environment()
        )
    try:
        answers = lambda: regression.psql(installation, port, databases[0], "SELECT 1")
        regression.wait_until("pgring answers", pgring, answers)
        yield port
        if pgring.poll() is not None:
            fail(f"pgring ended meanwhile: {place / 'pgring.log'}")
    finally:
        regression.ended(pgring)


@contextlib.contextmanager
def forwarded(port, to):
    """Connections to `port` go to `to`."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", to)) as other:
                back = threading.Thread(target=pass_on, args=(other, self.request))
                back.start()
                pass_on(self.request, other)
                back.join()

    class Forwarder(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Forwarder(("127.0.0.1", port), Forward) as forwarder:
        threading.Thread(target=forwarder.serve_forever).start()
        yield
        forwarder.shutdown()


def pass_on(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def run(suite, fetched, installation, place, name, program, more):
    """How each test ended, on a new server, through `program` if there is one."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(new_server(installation, place, name, suite))
        prepare(installation, port, suite)
        if program:
            port = stack.enter_context(proxy(program, installation, place, port, suite))
        if suite.port:
            stack.enter_context(forwarded(suite.port, port))
        source, python = fetched
        report, log = place / f"{name}.xml", place / f"{name}.log"
        for command, directory, variables in suite.run(source, python, port, report, more):
            say(f"running: {name}")
            with open(log, "w") as sink:
                environment = installation.environment(PYTHONDONTWRITEBYTECODE="1", **variables)
                subprocess.run(
                    [str(part) for part in command], cwd=directory, env=environment, stdout=sink, stderr=sink,
                    stdin=subprocess.DEVNULL, timeout=PATIENCE,
                )  # fmt: skip
        return suite.outcomes(report, log.read_text(errors="replace"))


def only_through(direct, pooled):
    """The tests that pass directly and do not through pgring."""
    return sorted(test for test, ended in direct.items() if ended == "passed" and pooled.get(test) != "passed")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--suite", choices=sorted(SUITES), action="append")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("more", nargs="*", metavar="ARGUMENT")
    return parser.parse_args()


def main():
    chosen = arguments()
    names = chosen.suite or list(SUITES)
    installation = regression.Installation()
    program = os.environ.get("PGRING") or regression.build()
    table, failures = [], []
    for name in names:
        suite = SUITES[name]
        place = Path(tempfile.mkdtemp(prefix=f"pgring-{name}-"))
        if installation.account:
            os.chown(place, installation.account.pw_uid, installation.account.pw_gid)
        place.chmod(0o755)
        try:
            fetched = suite.fetch()
            direct = run(suite, fetched, installation, place, "direct", None, chosen.more)
            pooled = run(suite, fetched, installation, place, "pgring", program, chosen.more)
        finally:
            if chosen.keep:
                say(f"logs: {place}")
        if "passed" not in direct.values():
            fail(f"nothing passes directly: {place / 'direct.log'}")
        if not chosen.keep:
            shutil.rmtree(place)
        different = only_through(direct, pooled)
        counted = sum(ended != "skipped" for ended in direct.values())
        both = sum(ended == "failed" for ended in direct.values())
        table.append(f"| {suite.package} {suite.version()}, {suite.title} | {counted:,} | {both} | {len(different)} |")
        failures += [f"{name}: {test}: {pooled.get(test, 'did not run')}" for test in different]
    print("| suite | tests | fail directly | fail only through pgring |\n|---|---|---|---|")
    print("\n".join(table))
    if failures:
        print("\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
