# make demo ARGS="--shards 5 --dir /var/tmp/demo"
ARGS ?=

# rustup's directory is not on PATH in a shell that was open when it was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo test regress bench lint install-deps

help:
	@echo "make demo          a local cluster with pgring in front of it (ARGS=\"--shards 5\")"
	@echo "make test          the whole suite, against real PostgreSQL servers"
	@echo "make regress       PostgreSQL's regression suite through pgring and directly, compared"
	@echo "make bench         side by side with PgBouncer and HAProxy, in one run"
	@echo "make lint          formatting, clippy, the rules between rooms"
	@echo "make install-deps  what demo and test need and this machine lacks"

demo:
	scripts/install.sh build servers
	cargo run --quiet --locked --bin pgring -- demo $(ARGS)

test: install-deps
	cargo test --locked $(ARGS)

regress:
	scripts/install.sh build servers
	scripts/regression-suite.py $(ARGS)

bench:
	scripts/install.sh build servers
	cargo build --release --locked
	benches/side_by_side.py $(ARGS)
	cargo bench --locked

lint:
	scripts/install.sh build
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --test architecture

install-deps:
	scripts/install.sh
