# make demo ARGS="--shards 5 --dir /var/tmp/demo"
ARGS ?=

# rustup's directory is not on PATH in a shell that was open when it was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo test soak soak-bank soak-deadlocks failover regress driver-suites bench lint install-deps

help:
	@echo "make demo          a local cluster with pgring in front of it (ARGS=\"--shards 5\")"
	@echo "make test          the whole suite, against real PostgreSQL servers"
	@echo "make soak          random statements through pgring and on one PostgreSQL, compared (STATEMENTS=100000)"
	@echo "make soak-bank     transfers between shards while proxies and servers die (SECONDS=3600)"
	@echo "make soak-deadlocks contended transfers in one order of locking: no false deadlock (SECONDS=3600)"
	@echo "make failover      every fault under Patroni, measured beside libpq; as root (ARGS=\"--rounds 10\")"
	@echo "make regress       PostgreSQL's regression suite through pgring and directly, compared"
	@echo "make driver-suites the drivers' own test-suites, the same way (ARGS=\"--suite asyncpg\")"
	@echo "make bench         side by side with PgBouncer and HAProxy, in one run"
	@echo "make lint          formatting, clippy, the rules between rooms"
	@echo "make install-deps  what demo and test need and this machine lacks"

demo:
	scripts/install.sh build servers
	cargo run --quiet --locked --bin pgring -- demo $(ARGS)

test: install-deps
	cargo test --locked $(ARGS)

# A seed of its own each time; to see one again: make soak SEED=17
STATEMENTS ?= 100000
SEED ?= $(shell date +%s)

soak:
	scripts/install.sh build servers
	PGRING_SEED=$(SEED) PGRING_STATEMENTS=$(STATEMENTS) \
		cargo test --locked --test differential random -- --nocapture

# An hour of transfers between shards while everything dies.
SECONDS ?= 3600

soak-bank:
	scripts/install.sh build servers
	PGRING_SECONDS=$(SECONDS) cargo test --locked --test two_phase bank -- --nocapture

# An hour of clients that wait for each other and never in a circle: nobody may be told otherwise.
soak-deadlocks:
	scripts/install.sh build servers
	PGRING_SECONDS=$(SECONDS) cargo test --locked --test deadlocks who_locks_in_one_order

failover:
	scripts/install.sh build servers failover
	.venv/bin/python scripts/failover.py $(ARGS)

regress:
	scripts/install.sh build servers
	scripts/regression-suite.py $(ARGS)

driver-suites:
	scripts/install.sh build servers
	scripts/driver-suites.py $(ARGS)

bench:
	scripts/install.sh build servers
	cargo build --release --locked
	benches/side_by_side.py $(ARGS)
	benches/several_shards.py
	benches/two_phase.py
	cargo bench --locked

lint:
	scripts/install.sh build
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --test architecture

install-deps:
	scripts/install.sh
