# `make run` and `make test` need Debian 12, Python 3.11, root and the package registries; each
# installs whatever else it needs.
SHELL := /bin/bash
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test check lint unit long peers acceptance calls installations bench soak lock jssip \
    python speech asterisk

run: .venv/ready asterisk
	@tools/packages.sh fonts-dejavu-core
	@exec $(BIN)/svi up

test: check long peers acceptance

# The fast part, to be run all the time.
check: lint unit

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Four workers on two cores: much of the time is waiting. Compiled modules are kept, whatever the
# environment says: hundreds of processes of `svi` start in the tests.
unit: .venv/ready speech
	@tools/packages.sh postgresql fonts-dejavu-core poppler-utils openssl
	$(BIN)/pytest -q -n 4 tests/unit tests/protocol $(addprefix --ignore=,$(LONG))

# What takes a core for long: commands as processes, many processes on one store, upgrades, made-up
# histories, nights taken back, tampering, and a third party's judgement of the API.
LONG = $(wildcard tests/protocol/test_parallel_*.py tests/protocol/test_*_command*.py \
    tests/protocol/test_*_process.py) \
    $(addprefix tests/protocol/test_,api_judged.py api_messages.py api_parallel.py commands.py \
    http_receipts.py metrics.py moved_calls.py) \
    $(addprefix tests/unit/test_,audit_seal.py campaigns_command.py clock_jumps.py failover.py \
    message_stats.py rotation.py sms_queue.py store_machine.py strangers.py upgrades.py voiding.py)
long: .venv/ready speech
	@tools/packages.sh postgresql fonts-dejavu-core poppler-utils openssl
	$(BIN)/pytest -q -n 4 $(LONG)

# Third-party judges: Twilio's contract served by Prism, webhooks signed by npm twilio, an SMSC of
# npm smpp, segments counted by Twilio's calculator, alarms and metrics read by Prometheus.
peers: .venv/ready tests/peers/node_modules
	@tools/packages.sh postgresql openssl prometheus
	$(BIN)/pytest -q -n 2 tests/peers

acceptance: calls installations

# One at a time: callers type and listen in real time. Some have a browser for a telephone: axe
# judges its page, and JsSIP is bundled again.
calls: .venv/ready asterisk tests/peers/node_modules tools/jssip/node_modules
	@tools/packages.sh sip-tester tcpdump chromium
	$(BIN)/pytest -q tests/acceptance $(addprefix --ignore=,$(INSTALLATIONS))

# Crowds of simulated calls, whole installations that are killed, searched, on a full disk or with
# a wrong clock: what they wait for comes sooner or later.
INSTALLATIONS = $(addprefix tests/acceptance/test_,crowd_of_calls.py dispatcher_kill.py \
    full_disk.py nothing_in_clear.py wrong_clock.py)
installations: .venv/ready speech tests/peers/node_modules
	@tools/packages.sh postgresql libfaketime fonts-dejavu-core poppler-utils openssl
	$(BIN)/pytest -q -n 3 $(INSTALLATIONS)

# Side by side with peers, in one run: AGI commands, logins, reset request to hand-over; messages
# taken in and sent, beside Kannel; codes beside a campaign.
bench: .venv/bench
	@tools/packages.sh postgresql kannel
	$(BIN)/python -m bench

# The long forms of what `make test` shows in short, and the containers.
soak: .venv/ready asterisk tests/peers/node_modules
	@tools/packages.sh postgresql debootstrap sip-tester tcpdump iproute2 podman runc netavark \
	    aardvark-dns iptables podman-compose
	$(BIN)/pytest -q --soak tests/unit/test_store_machine.py \
	    tests/acceptance/test_soak.py tests/acceptance/test_dispatcher_kill.py \
	    tests/acceptance/test_timings.py tests/acceptance/test_compose.py \
	    tests/peers/test_smpp.py

# Touched last, so that an installation that failed or was cut off is done again.
.venv/ready: requirements.lock pyproject.toml | python
	@echo "installing Python packages in .venv (about a minute)"
	@python3 -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What click says, in French.
svi/locale/fr/LC_MESSAGES/messages.mo: svi/locale/fr/LC_MESSAGES/messages.po
	@tools/packages.sh gettext
	@msgfmt --check-format -o $@ $<

.venv/bench: requirements-bench.lock .venv/ready
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

%/node_modules: %/package.json %/package-lock.json
	@command -v npm >/dev/null || tools/packages.sh npm
	@echo "installing npm packages of $*"
	@npm ci --silent --prefix $*
	@touch $@

# The telephone's JsSIP, of the versions that the lock file names. It is committed: `make run` needs
# no npm (docs/decisions/0009).
jssip: tools/jssip/node_modules
	node tools/jssip/build.mjs svi/telephone/jssip.js

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

# Locks every dependency with its hashes; no registry is named in the files.
LOCK = $(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: .venv/ready
	$(LOCK) --extra dev -o requirements.lock pyproject.toml
	$(LOCK) -o requirements-bench.lock requirements-bench.in
