"""The programs a run needs: where they are, and how they get there (Debian, Ubuntu)."""

import glob
import os
import shutil
import subprocess

# program → package
PACKAGES = {"pgbouncer": "pgbouncer", "haproxy": "haproxy", "perf": "linux-perf"}

# Daemons are sbin's, which is not on everyone's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# A package that brings a daemon starts it, unless policy-rc.d says no: the benchmark runs its
# own instances, and a pooler that listens on 6432 is not what a developer asked for.
INSTALL = """
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq install --no-install-recommends -y "$@" >/dev/null ||
    { apt-get -qq update && apt-get -qq install --no-install-recommends -y "$@" >/dev/null; }
"""


def program(name):
    """Its path, after installing it where it is missing."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        install(PACKAGES[name])
        found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise SystemExit(f"{name} is not installed, and installing {PACKAGES[name]} did not bring it")
    return found


def install(package):
    if shutil.which("apt-get") is None:
        raise SystemExit(f"{package} is not installed; install it with this system's package manager")
    print(f"installing {package}", flush=True)
    command = ["sh", "-c", INSTALL, "sh", package]
    if os.geteuid() != 0:
        command = ["sudo", "--non-interactive", *command]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"could not install {package} ({error}); try: sudo apt-get install {package}") from error


def postgresql():
    """The directory of PostgreSQL's server binaries: the newest the distribution has, or PATH's."""
    def version(directory):
        return tuple(int(part) for part in directory.split("/")[4].split(".") if part.isdigit())

    packaged = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if complete(path)]
    if packaged:
        return max(packaged, key=version)
    for name in ("postgres", "pg_ctl"):
        found = shutil.which(name)
        if found and complete(os.path.dirname(os.path.realpath(found))):
            return os.path.dirname(os.path.realpath(found))
    raise SystemExit("PostgreSQL's initdb, postgres and pgbench are neither under /usr/lib/postgresql nor on PATH")


def complete(directory):
    return all(os.access(os.path.join(directory, name), os.X_OK) for name in ("initdb", "postgres", "pgbench"))
