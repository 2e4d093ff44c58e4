#!/usr/bin/env python3
"""The drivers' own test-suites, directly and through pgring, compared test by test.

What a test does directly, on an equal server, it has to do through pgring in transaction mode with
one shard. A test that fails directly shows nothing, and is not counted.

    scripts/driver-suites.py                          all of them
    scripts/driver-suites.py --suite asyncpg          one; may be repeated
    scripts/driver-suites.py --suite django -- queries
                                                      what is behind -- goes to the suite's program
    scripts/driver-suites.py --keep                   leaves the logs where they are

Each suite is the one in the source package of the version that tests/requirements.txt names, from
PyPI; it is fetched once, and gets an environment of its own. PGRING names the program to test, else
it is built. The answer is the table of docs/compatibility.md and the names of the tests that fail
only through pgring; it is no failure that there are some.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
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


class Asyncpg:
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


class SqlAlchemy:
    package, needs, databases = "SQLAlchemy", ["pytest", "psycopg[binary]"], ["test"]
    # README.unittests.rst asks for them.
    start = (
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2;"
    )
    path = "test/dialect/test_suite.py"

    @property
    def title(self):
        return f"`{self.path}`, psycopg"

    def run(self, place, python, port, report, more):
        url = f"postgresql+psycopg://{USER}:{USER}@127.0.0.1:{port}/test"
        yield pytest(python, report, ["-p", "no:logging", "--dburi", url, *(more or [self.path])]), place / "source", {}


class SqlAlchemyPostgresql(SqlAlchemy):
    path = "test/dialect/postgresql"


class Django:
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


SUITES = {
    "asyncpg": Asyncpg(),
    "sqlalchemy": SqlAlchemy(),
    "sqlalchemy-postgresql": SqlAlchemyPostgresql(),
    "django": Django(),
}


def pytest(python, report, arguments):
    return [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]


def outcomes(suite, report, log):
    """Each test and how it ended: passed, failed or skipped."""
    found = {}
    if suite.package == "Django":
        # `test_name (application.tests.Class.test_name) ... ok`, with a docstring or output between.
        for name, said in re.findall(
            r"^test\w* \(([\w.]+)\)(?:.*\n)??.*?\.\.\. (?:.*\n)*?.*?(ok|FAIL|ERROR|skipped|expected failure)\b", log, re.M
        ):
            found[name] = {"ok": "passed", "expected failure": "passed", "skipped": "skipped"}.get(said, "failed")
        return found
    if not report.exists():
        fail(f"the suite has left no report: {report.with_suffix('.log')}")
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        kinds = {child.tag for child in case}
        ended = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        # One that fails in its teardown is reported twice.
        found[name] = "failed" if found.get(name) == "failed" else ended
    return found


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
            called([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", place, f"{package}=={wanted}"])
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
def new_server(installation, place, name):
    template = place / "template"
    if not template.exists():
        installation.run(
            "initdb", "-D", template, "-U", USER, "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
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
def proxy(program, installation, place, server_port, databases):
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


def run(suite, fetched, installation, place, name, program, more):
    """How each test ended, on a new server, through `program` if there is one."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(new_server(installation, place, name))
        prepare(installation, port, suite)
        if program:
            port = stack.enter_context(proxy(program, installation, place, port, suite.databases))
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
        return outcomes(suite, report, log.read_text(errors="replace"))


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
            fetched = fetch(suite)
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
        table.append(f"| {suite.package} {version(suite.package)}, {suite.title} | {counted:,} | {both} | {len(different)} |")
        failures += [f"{name}: {test}: {pooled.get(test, 'did not run')}" for test in different]
    print("| suite | tests | fail directly | fail only through pgring |\n|---|---|---|---|")
    print("\n".join(table))
    if failures:
        print("\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
