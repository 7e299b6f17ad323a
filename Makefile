# callspan: what to type. `make demo` and `make test` need nothing done before.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

# `make deps` writes which toolchain it found or installed.
RUST := $(shell cat build/rust-path 2>/dev/null)
export PATH := $(if $(RUST),$(RUST):)$(PATH)
# The tests' Python has numpy and pesq.
export CALLSPAN_PYTHON := $(CURDIR)/build/venv/bin/python

# The toolchain may come with the first `make deps`, so what needs it is a make of its own.
again = $(MAKE) --no-print-directory

.PHONY: deps deps-build deps-lab deps-test build demo test check bench fmt clippy fuzz-build lint-lab lab-test

deps: deps-test

deps-build:
	tests/lab/deps build

deps-lab:
	tests/lab/deps lab

deps-test:
	tests/lab/deps test

build: deps-build
	$(again) release

.PHONY: release
release:
	cargo build --release --locked

demo: deps-build
	if [[ $$(id -u) == 0 ]]; then tests/lab/deps lab; fi
	$(again) release
	tests/lab/demo

test: deps-test
	$(again) check

# All in the dev profile, so that dependencies are compiled once.
check: fmt clippy lint-lab
	mkdir -p build
	cargo test --locked 2>&1 | tee build/test.log
	$(if $(wildcard benches/*.rs),cargo test --locked --bench '*')
	$(again) fuzz-build
	$(again) lab-test | tee -a build/test.log
	@awk '/^test result:/ { passed += $$4; failed += $$6 } /^judge:/ { passed += $$2; failed += $$4 } END { print passed " passed, " failed " failed" }' build/test.log

# A measurement, where `check` only runs each bench once.
bench: deps-build
	cargo bench --locked --bench '*'

fmt:
	if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check; else echo "rustfmt is not in this toolchain: left out"; fi

clippy:
	if cargo clippy --version >/dev/null 2>&1; then cargo clippy --locked --all-targets -- -D warnings; \
	else echo "clippy is not in this toolchain: left out"; fi

# The same lock file, profile and target folder as the package: only libfuzzer is compiled anew.
fuzz-build:
	cp Cargo.lock fuzz/Cargo.lock
	CARGO_TARGET_DIR=target cargo build --manifest-path fuzz/Cargo.toml

lint-lab:
	for script in tests/lab/judge tests/lab/*.py tests/lab/lib/*.py fuzz/seeds.py; do python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$$script"; done
	if command -v shellcheck >/dev/null; then shellcheck -x -P tests/lab .ci/run fuzz/run tests/lab/lab tests/lab/deps tests/lab/demo tests/lab/lib/*.sh; fi

# Real phones, conversations, damaged captures, 1,000 calls at once, an hour of drift; without root no phones.
# The program of the dev profile, so that nothing is compiled a second time.
lab-test:
	cargo build --locked
	CALLSPAN=target/debug/callspan $(CALLSPAN_PYTHON) tests/lab/judge
