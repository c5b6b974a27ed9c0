# `make run` and `make test` need Debian 12, Python 3.11, root and the package registries; each
# installs whatever else it needs.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: run test check lint unit acceptance lock python speech asterisk

run: .venv/ready asterisk
	@exec $(BIN)/svi up

test: check acceptance

# The fast part, to be run all the time.
check: lint unit

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: .venv/ready speech
	@tools/packages.sh postgresql
	$(BIN)/pytest -q tests/unit tests/protocol

acceptance: .venv/ready asterisk
	@tools/packages.sh sip-tester tcpdump postgresql
	$(BIN)/pytest -q tests/acceptance

# Touched last, so that an installation that failed or was cut off is done again.
.venv/ready: requirements.lock pyproject.toml | python
	@echo "installing Python packages in .venv (about a minute)"
	@python3 -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Debian's python3 can't make a virtual environment without python3-venv.
python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; this is $$(python3 -V 2>&1)" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || tools/packages.sh python3-venv

speech:
	@tools/packages.sh espeak-ng sox

# Asterisk 22 in a folder of its own, outside the clone.
asterisk: speech
	@tools/packages.sh debootstrap
	@tools/asterisk.sh

# Locks every dependency with its hashes; no registry is named in the file.
lock: .venv/ready
	$(BIN)/pip-compile -q --extra dev --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements.lock pyproject.toml
