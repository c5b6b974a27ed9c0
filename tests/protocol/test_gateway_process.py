"""`svi gateway` as a supervisor runs it: a process of its own, probed, used and stopped."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.models import MessageState
from shared.secret import Secret
from shared.store import Store
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import IN_GROUPS, MOBILE, PASSWORD, attempts, message, queue, until

SVI = str(Path(sys.executable).with_name("svi"))
TOKEN = Secret("0123456789abcdef0123456789abcdef")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation whose Twilio is out of reach."""
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": f"AC{1:032}", "auth_token": TOKEN.reveal()}))
    account.chmod(0o600)
    changes = {
        "SVI_HOME": str(tmp_path),
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_TWILIO_ACCOUNT": str(account),
        "SVI_TWILIO_URL": f"http://127.0.0.1:{free_port()}",
    }
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return os.environ | changes


@pytest.fixture
def store(environment: dict[str, str]) -> Iterator[Store]:
    prepare_home(Settings())
    with open_store(Settings()) as store:
        yield store


@contextmanager
def gateway(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SVI, "gateway"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ready(environment: dict[str, str]) -> bool:
    try:
        url = f"http://127.0.0.1:{environment['SVI_GATEWAY_PORT']}/readyz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


async def test_it_works_until_it_is_told_to_stop(environment: dict[str, str], store: Store) -> None:
    """A provider out of reach is no fault of ours: the message waits."""
    queued = queue(store)
    with gateway(environment) as process:
        await until(lambda: ready(environment), 20)
        await until(lambda: message(store, queued).failures)
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "ready\n", "")
    assert message(store, queued).state == MessageState.QUEUED
    assert {attempt.code for attempt in attempts(store, queued)} == {"unreachable"}
    log = (Settings().logs / "gateway.log").read_text()
    assert "message_attempted" in log
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS, TOKEN.reveal()):
        assert personal not in log


def test_a_port_in_use_refuses_the_start_on_one_line(
    environment: dict[str, str], store: Store
) -> None:
    with (
        socket.create_server(("127.0.0.1", int(environment["SVI_GATEWAY_PORT"]))),
        gateway(environment) as process,
    ):
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "address already in use" in err
