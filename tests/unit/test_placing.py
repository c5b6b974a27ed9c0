"""How an installation is placed: keys and addresses elsewhere, and what a demonstration refuses."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.clock import system_clock
from shared.errors import StoreDownError
from shared.keyring import KeyRing
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.store import add_account


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SVI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_keys_and_the_way_to_asterisk_are_in_the_home_unless_told_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Settings().keys, Settings().ami) == (home / "keys.json", home / "ami.json")
    monkeypatch.setenv("SVI_KEYS", "/run/secrets/keys")
    monkeypatch.setenv("SVI_AMI", "/run/secrets/ami")
    assert (Settings().keys, Settings().ami) == (
        Path("/run/secrets/keys"),
        Path("/run/secrets/ami"),
    )


def test_keys_are_made_where_told_and_never_replaced(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    monkeypatch.setenv("SVI_KEYS", str(path))
    assert svi("keys", "create").exit_code == 0
    made = KeyRing.load(path)
    assert svi("keys", "create").exit_code != 0
    assert KeyRing.load(path) == made
    assert not home.exists()


def test_keys_of_the_day_are_beside_the_others_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_KEYS", str(tmp_path / "keys"))
    assert Settings().day_keys == tmp_path / "day-keys"
    monkeypatch.setenv("SVI_DAY_KEYS", str(tmp_path / "elsewhere"))
    settings = Settings()
    prepare_home(settings)
    with open_store(settings) as store:
        assert store.keys.days.folder == tmp_path / "elsewhere"
        assert store.keys.days.days() == {system_clock().date()}


@pytest.mark.parametrize("command", ["voice", "gateway"])
def test_where_no_key_of_the_day_can_be_made_nothing_starts(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_DAY_KEYS", str(tmp_path / "none" / "day-keys"))
    monkeypatch.setenv("SVI_DEMO", "yes")
    refused = svi(command).exception
    assert isinstance(refused, StoreDownError)  # one line, by `main`
    assert str(refused).startswith(f"{tmp_path / 'none' / 'day-keys'}: clés du jour inutilisables")


def test_callers_are_never_told_the_address_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVI_SIP_HOST", "0.0.0.0")  # noqa: S104
    refused = svi("up")
    assert refused.exit_code == 1
    assert refused.output.startswith("Erreur : SVI_SIP_HOST :")


@pytest.mark.parametrize("command", ["voice", "gateway"])
def test_a_demonstration_refuses_a_database_of_real_people(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D12: there, whole messages are kept in a file."""
    settings = Settings()
    prepare_home(settings)
    with open_store(settings) as store:
        add_account(store)
    monkeypatch.setenv("SVI_DEMO", "yes")
    monkeypatch.setenv("SVI_DATABASE_URL", settings.url)
    monkeypatch.setenv("SVI_AGI_PORT", "0")
    monkeypatch.setenv("SVI_GATEWAY_PORT", "0")
    monkeypatch.setattr("svi.voice.load_playable_script", lambda _: None)
    monkeypatch.setattr("svi.voice.stopped_by_signal", nullcontext)  # this process's are pytest's
    monkeypatch.setattr("shared.logs.configure", lambda _: None)
    refused = svi(command)
    assert refused.exit_code == 1
    assert "SVI_DATABASE_URL" in refused.output
