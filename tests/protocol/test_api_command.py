"""`svi api`, and the API that `svi gateway` serves, as admins use them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared import apikeys
from shared.apikeys import Holder
from shared.client import ApiError, Asker, StoreClient
from shared.secret import Secret
from shared.store import Store
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.api import Api, holder
from tests.mail_server import AWAY

ADD = ["api", "keys", "add", "--client", "site-web", "--scope", "logins", "--days", "90"]
SECONDS = 60.0


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    prepare_home(Settings())
    return Settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings) as store:
        yield store


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def add() -> str:
    done = svi(*ADD)
    assert done.exit_code == 0
    return done.output.strip()


def test_a_key_is_shown_once(store: Store) -> None:
    key = add()
    assert holder(store, key) == Holder("site-web", frozenset({"logins"}))
    key_id, secret = key.split(".")
    listed = svi("api", "keys", "list")
    as_json = svi("api", "keys", "list", "--json")
    assert secret not in listed.output + as_json.output
    shown = json.loads(as_json.output)
    [kept] = apikeys.every(store)
    assert kept.expires_at - kept.created_at == timedelta(days=90)
    assert (shown["id"], shown["client"], shown["state"]) == (key_id, "site-web", "valid")
    assert shown["scopes"] == ["logins"]
    assert listed.output.split()[:3] == [key_id, "site-web", "valid"]


def test_a_key_is_revoked(store: Store) -> None:
    key = add()
    key_id = key.split(".")[0]
    assert svi("api", "keys", "revoke", key_id).output == "clé révoquée\n"
    assert holder(store, key) is None
    assert json.loads(svi("api", "keys", "list", "--json").output)["state"] == "revoked"
    again = svi("api", "keys", "revoke", key_id)
    assert (again.exit_code, again.output) == (
        1,
        "Erreur : aucune clé en service n'a cet identifiant\n",
    )


def test_a_client_without_a_plain_name_is_refused(store: Store) -> None:
    refused = svi(*["Site Web" if word == "site-web" else word for word in ADD])
    assert isinstance(refused.exception, apikeys.KeyRefusedError)
    assert apikeys.every(store) == []


def test_the_description_is_written() -> None:
    assert json.loads(svi("api", "describe").output)["openapi"] == "3.1.0"


# The process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def api_url(settings: Settings) -> Iterator[str]:
    """The API of a gateway whose Twilio and mail server are out of reach."""
    account = settings.home / "twilio.json"
    account.write_text(json.dumps({"account_sid": f"AC{1:032}", "auth_token": f"{1:032}"}))
    account.chmod(0o600)
    port = free_port()
    changes = {
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_API_PORT": str(port),
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_TWILIO_ACCOUNT": str(account),
        "SVI_TWILIO_URL": f"http://127.0.0.1:{free_port()}",
    } | AWAY
    with subprocess.Popen(
        [sys.executable, "-m", "svi", "gateway"],
        env=os.environ | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield until_up(f"http://127.0.0.1:{port}", process)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=SECONDS)
            assert (process.returncode, out, err) == (0, "ready\n", "")
        finally:
            process.kill()


def until_up(url: str, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            assert Api(url, Secret("")).ask("GET", "/v1/health").json == {"status": "up"}
        except ConnectionError:
            time.sleep(0.1)
        else:
            return url
    raise AssertionError("the API never answered")


def test_the_gateway_serves_the_api(settings: Settings, api_url: str) -> None:
    client = StoreClient(api_url, Secret(add()))
    with pytest.raises(ApiError) as refused:
        client.log_in(Asker("92", "0000354", "203.0.113.7"), Secret("73920461"))
    assert (refused.value.status, refused.value.kind) == (401, "tag:caf.fr,2021:svi:login-refused")
    log = (settings.logs / "gateway.log").read_text()
    assert "api_answered" in log
    for personal in ("0000354", "73920461", "203.0.113.7"):
        assert personal not in log
