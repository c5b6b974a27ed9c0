"""What docs/securite.md says is done: restoring, losing the keys, the database's roles."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text

from shared import audit_seal, before, dossier, key_check, rotation
from shared.before import Change
from shared.credentials import Refusal
from shared.database import Database
from shared.errors import SettingsError, StoreDownError
from shared.keyring import KeyRing
from shared.models import Person
from shared.origin import Origin
from shared.retention import tidy
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from svi.__main__ import cli
from tests.postgresql import PostgresqlServer
from tests.store import CountingHasher, FakeClock, add_account, cheap_rules, log_in, open_session

ROLES = ("svi_owner", "svi", "svi_purge")
WEB = Origin(Channel.WEB)
NOW = FakeClock()()
AUDIT_DAYS = 365  # D16


def _store(url: str, keys: KeyRing) -> Store:
    return Store(Database(url), keys, cheap_rules(), CountingHasher(), FakeClock())


def test_database_and_keys_of_the_same_day_work_again(
    sqlite_template: Path, tmp_path: Path
) -> None:
    """Whatever happened since: here the key of that day was destroyed."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    shutil.copyfile(sqlite_template, here / "store.db")
    with closing(_store(f"sqlite:///{here}/store.db", KeyRing.create(here / "keys.json"))) as store:
        add_account(store)
        assert isinstance(log_in(store), Session)
        audit_seal.seal_new(store)
        head = audit_seal.head(store)
    shutil.copytree(here, there)
    with closing(_store(f"sqlite:///{here}/store.db", KeyRing.load(here / "keys.json"))) as store:
        rotation.rotate(store, here / "keys.json", wait=lambda _: None)
    with closing(_store(f"sqlite:///{there}/store.db", KeyRing.load(there / "keys.json"))) as store:
        assert isinstance(log_in(store), Session)
        assert audit_seal.verify(store, head).fault is None


def test_without_its_keys_a_database_opens_nothing_and_says_nothing(
    store: Store, tmp_path: Path
) -> None:
    add_account(store)
    with pytest.raises(SettingsError, match="ne peut pas être lu"):
        KeyRing.load(tmp_path / "lost.json")
    others = KeyRing.create(tmp_path / "others.json")
    stranger = Store(store.database, others, store.rules, store.hasher, store.clock)
    with pytest.raises(SettingsError, match="n'est pas celui de la base"):  # and no service starts
        key_check.check(stranger)
    assert log_in(stranger) is Refusal.REFUSED
    audit_seal.seal_new(store)
    assert audit_seal.verify(stranger).fault is not None


@pytest.fixture
def roles(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], str]]:
    """A database whose owner gave the other roles their rights; gives its address for a role."""
    monkeypatch.setattr("shared.logs.configure", lambda _: None)  # this process's are pytest's
    name = postgresql.create()
    for role in ROLES:
        postgresql.execute(f"CREATE ROLE {role} LOGIN")
    postgresql.execute(f"ALTER DATABASE {name} OWNER TO svi_owner")

    def url(role: str) -> str:
        return postgresql.url(name).replace("//postgres@", f"//{role}@")

    assert _grant(url("svi_owner")).exit_code == 0
    yield url
    postgresql.drop(name)
    for role in ROLES:
        postgresql.execute(f"DROP ROLE {role}")


def _grant(url: str) -> Result:
    return CliRunner(env={"SVI_DATABASE_URL": url}).invoke(cli, ["db", "grant"])


def test_rights_are_given_again_on_this_program_s_schema_only(roles: Callable[[str], str]) -> None:
    assert _grant(roles("svi_owner")).exit_code == 0
    with closing(Database(roles("svi_owner"))) as database:
        _execute(database, "UPDATE alembic_version SET version_num = '9999'")
    done = _grant(roles("svi_owner"))
    assert (done.exit_code, "plus récent que ce programme" in done.stderr) == (1, True)


def test_sqlite_has_no_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.logs.configure", lambda _: None)
    done = _grant(f"sqlite:///{tmp_path / 'store.db'}")
    assert (done.exit_code, "SQLite n'a pas de rôles" in done.stderr) == (1, True)


def test_the_service_s_role_does_all_its_work(
    roles: Callable[[str], str], keys: KeyRing, tmp_path: Path
) -> None:
    with closing(_store(roles("svi"), keys)) as store:
        store.database.migrate()
        add_account(store)
        dossier.last_payment(store, open_session(store))
        assert audit_seal.seal_new(store) > 0
        key_check.check(store)
        with store.database.write() as transaction:
            person = transaction.scalars(select(Person)).one()
            before.note(store, transaction, Change("contacts-changed", NOW, WEB, person))
        rotation.rotate(store, tmp_path / "keys.json", wait=lambda _: None)
        tidy(store)
        assert audit_seal.verify(store).fault is None


FORBIDDEN = {
    "svi": [
        "DELETE FROM audit",
        "UPDATE audit SET event = 'login'",
        "UPDATE audit SET at = now()",
        "DELETE FROM audit_link",
        "UPDATE audit_link SET mac = ''",
        "DELETE FROM audit_batch",
        "UPDATE audit_batch SET mac = ''",
        "UPDATE audit_batch SET checkpoint = ''",
        "TRUNCATE audit",
        "DROP TABLE audit",
        "CREATE TABLE another (id integer)",
    ],
    "svi_purge": [
        "UPDATE audit SET event = 'login'",
        "UPDATE audit_batch SET mac = ''",
        "SELECT * FROM person",
        "SELECT * FROM credential",
        "DELETE FROM account",
        "TRUNCATE audit",
    ],
}


def test_no_role_of_the_service_alters_the_trail(
    roles: Callable[[str], str], keys: KeyRing
) -> None:
    for role, statements in FORBIDDEN.items():
        with closing(Database(roles(role))) as database:
            for statement in statements:
                with pytest.raises(StoreDownError, match="InsufficientPrivilege"):
                    _execute(database, statement)


def _execute(database: Database, statement: str) -> None:
    with database.write() as transaction:
        transaction.execute(text(statement))


def test_the_other_role_purges_whole_days(roles: Callable[[str], str], keys: KeyRing) -> None:
    with closing(_store(roles("svi"), keys)) as store:
        add_account(store)
        open_session(store)
        sealed = audit_seal.seal_new(store)
        later = replace(store, clock=lambda: store.clock() + timedelta(days=AUDIT_DAYS + 1))
        with pytest.raises(StoreDownError, match="InsufficientPrivilege"):
            audit_seal.purge(later, AUDIT_DAYS)
        key_check.check(store)
        with closing(Database(roles("svi_purge"))) as database:
            key_check.check(replace(store, database=database))  # as `svi audit purge` begins
            assert not database.schema().missing
            assert audit_seal.purge(replace(later, database=database), AUDIT_DAYS) == sealed
        verdict = audit_seal.verify(store)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (0, 0, None)
