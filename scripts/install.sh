#!/usr/bin/env bash
# Installs what pgring's demo and tests need and this machine lacks. What is there is left
# alone, and nothing is started.
#
#   scripts/install.sh                 everything but failover
#   scripts/install.sh build servers   Rust's linker, PostgreSQL's programs
#   scripts/install.sh locales         the locale that tests of sorting need
#   scripts/install.sh drivers         the drivers of the tests: Python, Node, JDBC, sqlx
#   scripts/install.sh failover        Patroni, etcd and what else `make failover` needs; only when asked for
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif has sudo; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        fail "needs root for: $*"
    fi
}

# apt_install WHAT-FOR PACKAGE…
apt_install() {
    local purpose=$1
    shift
    has apt-get || fail "$purpose is missing, and this is not Debian or Ubuntu: install it with the system's package manager"
    say "installing $* ($purpose)"
    # A fresh image has no package lists; a current one needs no update.
    as_root apt-get -qq install -y --no-install-recommends "$@" >/dev/null 2>&1 </dev/null && return
    as_root apt-get -qq update </dev/null || say "apt-get update failed; trying with the lists that are there"
    as_root apt-get -qq install -y --no-install-recommends "$@" </dev/null >/dev/null
}

build() {
    # A shell that was open when rustup ran does not have it on PATH yet.
    if ! has cargo && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        fail "cargo is missing: install Rust 1.89 or newer (https://www.rust-lang.org/tools/install)"
    fi
    has cc || apt_install "a C compiler" gcc libc6-dev
}

# The same places as src/demo/binaries.rs.
has_postgresql() {
    local directory initdb
    if initdb=$(command -v initdb); then
        complete "$(dirname "$(readlink -f "$initdb")")" && return
        complete "$(dirname "$initdb")" && return
    fi
    for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin /Library/PostgreSQL/*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        complete "$directory" && return
    done
    return 1
}

complete() {
    local program
    for program in initdb postgres psql pg_basebackup; do
        [ -x "$1/$program" ] || return 1
    done
}

servers() {
    has_postgresql && return
    has apt-get || fail "PostgreSQL's server programs are missing: install PostgreSQL 12 or newer" \
        "(Fedora: dnf install postgresql-server; macOS: brew install postgresql@17)"
    apt_install "PostgreSQL" postgresql-common
    # Installing the server package would create and start a cluster on port 5432.
    local settings=/etc/postgresql-common/createcluster.conf status=0
    as_root cp -p "$settings" "$settings.before-pgring"
    as_root sh -c "echo 'create_main_cluster = false' >> $settings"
    apt_install "PostgreSQL" postgresql postgresql-client || status=$?
    as_root mv "$settings.before-pgring" "$settings"
    [ "$status" = 0 ] || fail "PostgreSQL could not be installed"
    has_postgresql || fail "PostgreSQL was installed, but its programs are not where they are expected"
}

locales() {
    locale -a 2>/dev/null | grep -qix 'en_US\.utf-\?8' && return
    [ -e /usr/share/i18n/locales/en_US ] || apt_install "the locale en_US.UTF-8" locales
    has localedef || fail "the locale en_US.UTF-8 is missing: install it with the system's package manager" \
        "(Fedora: dnf install glibc-langpack-en)"
    as_root localedef -i en_US -f UTF-8 en_US.UTF-8
}

drivers() {
    python_drivers
    node_drivers
    # JDBC is tested where there is a JDK; Java itself is not installed for it.
    if has javac && has apt-get && [ ! -e /usr/share/java/postgresql.jar ]; then
        apt_install "PostgreSQL's JDBC driver" libpostgresql-jdbc-java
    fi
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" cargo build --quiet --locked \
        --manifest-path tests/drivers/sqlx/Cargo.toml --target-dir target/drivers
}

python_drivers() {
    local wanted=tests/requirements.txt installed=.venv/requirements.txt
    cmp -s "$wanted" "$installed" && [ -x .venv/bin/python ] && return
    has python3 || apt_install "Python" python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install "Python's venv" python3-venv
    say "installing the Python drivers into .venv"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$wanted" </dev/null
    cp "$wanted" "$installed"
}

node_drivers() {
    local directory=tests/drivers/node
    cmp -s "$directory/package-lock.json" "$directory/node_modules/installed-lock.json" && return
    has npm || apt_install "Node.js" nodejs npm
    say "installing the Node drivers into $directory/node_modules"
    (cd "$directory" && npm ci --silent --no-audit --no-fund </dev/null)
    cp "$directory/package-lock.json" "$directory/node_modules/installed-lock.json"
}

# Patroni and etcd as Debian has them. Their packages would start services: they are told not to.
failover() {
    local policy=/usr/sbin/policy-rc.d
    if ! has patroni || ! has etcd || ! has ip || ! has setpriv; then
        has apt-get || fail "Patroni or etcd is missing: install them with the system's package manager"
        [ -e "$policy" ] || { as_root sh -c "printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy" && own_policy=1; }
        apt_install "Patroni and etcd" patroni python3-etcd etcd-server etcd-client iproute2 util-linux || status=$?
        [ -z "${own_policy:-}" ] || as_root rm -f "$policy"
        [ -z "${status:-}" ] || fail "Patroni and etcd could not be installed"
    fi
    python_drivers
}

[ $# -gt 0 ] || set -- build servers locales drivers
for part in "$@"; do
    case $part in
        build | servers | locales | drivers | failover) "$part" ;;
        *) fail "there is no part \"$part\": build, servers, locales, drivers, failover" ;;
    esac
done
