"""A process whose key ring is not the database's does not start (D13)."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select, update

from shared import key_check, resets, rotation
from shared.errors import SettingsError
from shared.keyring import KeyRing
from shared.models import KeyCheck, Message, Person
from shared.origin import Origin
from shared.rules import Channel
from shared.store import Store
from svi.__main__ import cli
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, PASSWORD, add_account, execute

REFUSAL = "other.json: ce trousseau n'est pas celui de la base ; restaurez celui de sa sauvegarde"


def _with_other_ring(store: Store, folder: Path) -> Store:
    return replace(store, keys=KeyRing.create(folder / "other.json"))


def _rows(store: Store) -> int:
    with store.database.read() as transaction:
        return transaction.scalars(select(func.count()).select_from(KeyCheck)).one()


def test_the_first_ring_is_the_database_s(store: Store, tmp_path: Path) -> None:
    key_check.check(store)
    key_check.check(store)
    with pytest.raises(SettingsError, match=REFUSAL):
        key_check.check(_with_other_ring(store, tmp_path))
    assert _rows(store) == 1


def test_a_ring_that_lacks_one_of_the_keys_is_refused(store: Store, tmp_path: Path) -> None:
    """The same index key with another sealing key, and the other way round."""
    key_check.check(store)
    other = KeyRing.create(tmp_path / "other.json")
    for halves in (
        replace(other, indexing=store.keys.indexing),
        replace(store.keys, indexing=other.indexing),
    ):
        halves.path = tmp_path / "other.json"
        with pytest.raises(SettingsError, match=REFUSAL):
            key_check.check(replace(store, keys=halves))


def test_a_copy_from_before_a_rotation_is_refused(store: Store, tmp_path: Path) -> None:
    """It would drop what is sealed under the new key as damaged."""
    key_check.check(store)
    shutil.copy(tmp_path / "keys.json", tmp_path / "other.json")
    rotation.rotate(store, tmp_path / "keys.json", wait=lambda _: None)
    key_check.check(store)
    with pytest.raises(SettingsError, match=REFUSAL):
        key_check.check(replace(store, keys=KeyRing.load(tmp_path / "other.json")))


def test_a_database_of_an_earlier_version_takes_the_ring_that_opens_it(
    store: Store, tmp_path: Path
) -> None:
    """Even if a value in it is damaged, and whatever ring is tried first."""
    for number in ("0000001", "0000002"):
        add_account(store, number)
    first = select(Person.id).order_by(Person.id).limit(1).scalar_subquery()
    damaged = update(Person).where(Person.id == first).values(mobile_sealed=bytes(40))
    execute(store, lambda t: t.execute(damaged))
    with pytest.raises(SettingsError, match=REFUSAL):
        key_check.check(_with_other_ring(store, tmp_path))
    assert _rows(store) == 0
    key_check.check(store)


def test_of_many_processes_that_start_first_one_writes_the_row(
    url: str, store: Store, tmp_path: Path
) -> None:
    run_together(Place(url, tmp_path / "keys.json"), 4, _check)
    assert _rows(store) == 1


def _check(store: Store, _rank: int) -> None:
    key_check.check(store)


STARTED = (["gateway"], ["sms", "list"], ["accounts", "show"])


@pytest.fixture
def _installation(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose ring was lost, and replaced by one of somebody else's."""
    monkeypatch.setenv("SVI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SVI_DATABASE_URL", url)
    monkeypatch.setenv("SVI_KEYS", str(tmp_path / "other.json"))
    monkeypatch.setenv("SVI_PUBLIC_URL", "https://sms.exemple.fr")
    monkeypatch.setenv("SVI_DEMO", "true")
    monkeypatch.setattr("shared.logs.configure", lambda _: None)
    KeyRing.create(tmp_path / "other.json")


@pytest.mark.usefixtures("_installation")
@pytest.mark.parametrize("command", STARTED, ids=" ".join)
def test_nothing_starts_and_no_message_is_lost(store: Store, command: list[str]) -> None:
    add_account(store)
    resets.request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE))
    key_check.check(store)
    if command[0] == "accounts":
        command = [*command, "--caisse", CAISSE, "--number", NUMBER]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code != 0
    assert REFUSAL in str(result.exception) + result.output
    with store.database.read() as transaction:
        assert transaction.scalars(select(Message.state)).all() == ["queued"]
    assert PASSWORD not in result.output
