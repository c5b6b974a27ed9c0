# `make run` and `make test` need Debian 12, Python 3.11, root and the package registries; each
# installs whatever else it needs.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: run test check lint unit acceptance lock

run: .venv/ready .venv/asterisk
	@exec $(BIN)/svi up

test: check acceptance

# The fast part, to be run all the time.
check: lint unit

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: .venv/ready
	@tools/packages.sh postgresql
	$(BIN)/pytest -q tests/unit tests/protocol

acceptance: .venv/ready .venv/asterisk
	@tools/packages.sh sip-tester tcpdump postgresql
	$(BIN)/pytest -q tests/acceptance

.venv/ready: requirements.lock pyproject.toml
	@python3 -m venv --help >/dev/null 2>&1 || tools/packages.sh python3-venv
	python3 -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Asterisk 22 in a folder of its own, outside the clone, and what speaks the prompts.
.venv/asterisk: tools/asterisk.sh | .venv/ready
	@tools/packages.sh debootstrap espeak-ng sox
	@tools/asterisk.sh
	@touch $@

# Locks every dependency with its hashes; no registry is named in the file.
lock: .venv/ready
	$(BIN)/pip-compile -q --extra dev --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements.lock pyproject.toml
