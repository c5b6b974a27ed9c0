"""The database: what callers of the store see when it fails, and what its errors never show."""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import column, func, insert, inspect, select, text, update
from sqlalchemy.orm import Session as Transaction

from shared import database as database_module
from shared.database import Database
from shared.errors import StoreDownError, StoreError
from shared.models import Account, Base, Epoch
from shared.store import Store
from tests.postgresql import PostgresqlServer
from tests.store import CAISSE, NUMBER, FakeClock, add_account, execute, log_in

NOW = FakeClock()()


@pytest.fixture
def database(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A migrated database that waits for a minute: others may keep this machine busy."""
    _wait(monkeypatch, 60)
    with closing(Database(url)) as database:
        yield database


@pytest.fixture
def impatient(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A migrated database that waits for a lock for a fifth of a second instead of 5 s."""
    _wait(monkeypatch, 0.2)
    with closing(Database(url)) as database:
        yield database


def _wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(database_module, "WAIT_SECONDS", seconds)
    monkeypatch.setattr(database_module, "POSTGRESQL_OPTIONS", f"-c lock_timeout={seconds}s")


@pytest.fixture
def postgresql_database(postgresql: PostgresqlServer, postgresql_name: str) -> Iterator[Database]:
    """The migrated database of PostgreSQL, for what SQLite has not; to be left without rows."""
    with closing(Database(postgresql.url(postgresql_name))) as database:
        yield database


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    """A database without tables."""
    with closing(Database(empty_url)) as database:
        yield database


def test_migrating_makes_the_tables_of_the_models(empty: Database) -> None:
    empty.migrate()
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_changes_nothing(empty: Database) -> None:
    empty.migrate()
    account = _account()
    with empty.write() as transaction:
        transaction.add(account)
    tables = inspect(empty.engine).get_table_names()
    empty.migrate()
    assert inspect(empty.engine).get_table_names() == tables
    with empty.read() as transaction:
        assert transaction.get(Account, account.id) is not None
        assert transaction.scalars(select(Epoch.value)).all() == [0]


def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    def migrate(_: int) -> None:
        with closing(Database(empty_url)) as database:
            database.migrate()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, range(4)))
    with closing(Database(empty_url)) as database, database.read() as transaction:
        assert transaction.scalars(select(Epoch.value)).all() == [0]


def test_a_failed_migration_leaves_nothing(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception())

    monkeypatch.setattr("alembic.op.bulk_insert", fail)
    with pytest.raises(StoreDownError):
        empty.migrate()
    assert inspect(empty.engine).get_table_names() == []


def test_a_write_is_whole_or_nothing(database: Database) -> None:
    def fail_half_way() -> None:
        with database.write() as transaction:
            transaction.add(_account())
            transaction.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert _accounts(database) == 0


def test_bare_statements_are_whole_or_nothing(database: Database) -> None:
    def fail_half_way() -> None:
        with database.begin() as transaction:
            transaction.execute(update(Epoch).values(value=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.read() as transaction:
        assert transaction.scalars(select(Epoch.value)).all() == [0]


@pytest.mark.parametrize(("patient", "allowed"), [(False, "5s"), (True, "10min")])
def test_who_waits_for_much_may_wait_longer(
    postgresql_database: Database, *, patient: bool, allowed: str
) -> None:
    """Callers hear an apology after 5 s; an admin's survey of a bad night takes its time (D15)."""
    for _ in range(2):  # and leaves the connection as it was
        with postgresql_database.read(patient=patient) as transaction:
            assert transaction.scalar(text("SHOW statement_timeout")) == allowed
        with postgresql_database.read() as transaction:
            assert transaction.scalar(text("SHOW statement_timeout")) == "5s"


def test_a_read_changes_nothing(database: Database) -> None:
    with database.read() as transaction:
        transaction.add(_account())
        transaction.flush()
    assert _accounts(database) == 0


def test_rows_stay_readable_after_their_transaction(database: Database) -> None:
    account = _account()
    with database.write() as transaction:
        transaction.add(account)
    with database.read() as transaction:
        found = transaction.scalars(select(Account)).one()
    assert (account.number, found.number) == (NUMBER, NUMBER)


def test_instants_come_back_as_they_went(database: Database) -> None:
    paris = datetime.fromisoformat("2021-10-10T23:00:00.123456+02:00")
    account = _account()
    account.created_at = paris
    with database.write() as transaction:
        transaction.add(account)
    with database.read() as transaction:
        created_at = transaction.scalars(select(Account.created_at)).one()
    assert created_at == paris
    assert created_at.utcoffset() is not None


def test_an_instant_without_time_zone_is_refused(database: Database) -> None:
    account = _account()
    account.created_at = datetime(2021, 10, 10, 21, 0)  # noqa: DTZ001 - what is tested
    with pytest.raises(StoreError), database.write() as transaction:
        transaction.add(account)
    assert _accounts(database) == 0


def test_writers_wait_for_each_other(database: Database) -> None:
    """No lost update and no error, though each reads before it writes."""
    account = _account()
    with database.write() as transaction:
        transaction.add(account)

    def add_one(_: int) -> None:
        with database.write() as transaction:
            row = transaction.get_one(Account, account.id, with_for_update=True)
            row.epoch += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(40)))
    with database.read() as transaction:
        assert transaction.get_one(Account, account.id).epoch == 40


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as transaction:
        transaction.add(_account())
        transaction.flush()
        assert _accounts(database) == 0


def test_a_lock_keeps_others_with_the_same_key_off(impatient: Database) -> None:
    def lock_again() -> None:
        with impatient.write() as second:
            impatient.lock(second, b"key of 8", b"another key")
            second.scalars(select(Account)).all()

    with impatient.write() as first:
        impatient.lock(first, b"another key")
        first.scalars(select(Account)).all()
        with pytest.raises(StoreDownError):
            lock_again()
    lock_again()


def test_locks_of_different_keys_do_not_meet(postgresql_database: Database) -> None:
    with postgresql_database.write() as first, postgresql_database.write() as second:
        postgresql_database.lock(first, b"key of 8", b"another key")
        postgresql_database.lock(second, b"key of 9", b"some other key")


def test_a_lock_held_too_long_is_an_error_without_effect(impatient: Database) -> None:
    with impatient.write() as transaction:
        transaction.add(_account())
    with impatient.write() as holder:
        holder.scalars(select(Account).with_for_update()).all()
        with pytest.raises(StoreDownError) as raised, impatient.write() as waiting:
            waiting.scalars(select(Account).with_for_update()).one().situation = "changed"
    _shows_nothing(raised.value)
    with impatient.read() as transaction:
        assert transaction.scalars(select(Account.situation)).all() == ["affilie"]


def test_a_duplicate_is_refused_without_showing_it(database: Database) -> None:
    with database.write() as transaction:
        transaction.add(_account())
    with pytest.raises(StoreError) as raised, database.write() as transaction:
        transaction.add(_account())
    assert not isinstance(raised.value, StoreDownError)
    _shows_nothing(raised.value)


FAULTY: dict[str, Callable[[Transaction], object]] = {
    "no such table": lambda t: t.execute(text(f"DELETE FROM x{NUMBER}")),  # noqa: S608
    "no such column": lambda t: t.execute(select(column(f"x{NUMBER}")).select_from(Account)),
    "not SQL": lambda t: t.execute(text(f"'{NUMBER}'")),
    "a missing parameter": lambda t: t.execute(text("SELECT :number"), {"other": NUMBER}),
    "no row": lambda t: t.get_one(Account, uuid4()),
    "a missing value": lambda t: t.execute(insert(Account), {"id": uuid4(), "number": NUMBER}),
    "a value of the wrong type": lambda t: t.execute(insert(Account), {"id": NUMBER}),
}


@pytest.mark.parametrize("fault", FAULTY.values(), ids=FAULTY)
def test_no_error_shows_a_value(database: Database, fault: Callable[[Transaction], object]) -> None:
    with pytest.raises(StoreError) as raised, database.write() as transaction:
        fault(transaction)
    _shows_nothing(raised.value)


def test_a_folder_that_is_gone_is_a_database_that_is_down(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gone' / 'store.db'}")
    for use in (_accounts, Database.migrate):
        with pytest.raises(StoreDownError, match="OperationalError"):
            use(database)


def test_a_file_that_is_no_database_is_one_that_is_down(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("not a database, but long enough to look like one " * 100)
    with pytest.raises(StoreDownError):
        _accounts(Database(f"sqlite:///{path}"))


def test_postgresql_may_stop_and_come_back(
    postgresql: PostgresqlServer, postgresql_database: Database
) -> None:
    def stop_half_way() -> None:
        with postgresql_database.write() as transaction:
            transaction.add(_account())
            transaction.flush()
            postgresql.stop()

    try:
        with pytest.raises(StoreDownError) as raised:
            stop_half_way()
        with pytest.raises(StoreDownError):
            _accounts(postgresql_database)
    finally:
        postgresql.start()
    _shows_nothing(raised.value)
    assert _accounts(postgresql_database) == 0


def test_postgresql_may_restart_between_two_calls(
    postgresql: PostgresqlServer, postgresql_database: Database
) -> None:
    assert _accounts(postgresql_database) == 0  # its connection waits in the pool
    postgresql.stop()
    postgresql.start()
    assert _accounts(postgresql_database) == 0


def test_a_login_while_the_database_is_down_says_so(store: Store) -> None:
    add_account(store)
    execute(store, lambda t: t.execute(text("ALTER TABLE account RENAME TO lost")))
    try:
        with pytest.raises(StoreDownError) as raised:
            log_in(store)
    finally:
        execute(store, lambda t: t.execute(text("ALTER TABLE lost RENAME TO account")))
    _shows_nothing(raised.value)


def test_sqlite_is_set_up_to_survive_and_to_forget(tmp_path: Path) -> None:
    with (
        closing(Database(f"sqlite:///{tmp_path / 'store.db'}")) as database,
        database.read() as transaction,
    ):
        settings = {
            name: transaction.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def _account(account_id: UUID | None = None) -> Account:
    return Account(
        id=account_id or uuid4(),
        caisse=CAISSE,
        number=NUMBER,
        situation="affilie",
        created_at=NOW,
    )


def _accounts(database: Database) -> int:
    with database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(Account)) or 0


def _shows_nothing(error: StoreError) -> None:
    """Look in all that a trace prints, the errors that led to this one included."""
    printed = "".join(traceback.format_exception(error))
    assert NUMBER not in printed
    assert NUMBER not in repr(error)
    assert error.__cause__ is None


def test_a_schema_of_a_newer_version_is_said(empty: Database) -> None:
    empty.migrate()
    with empty.write() as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="version plus récente"):
        empty.migrate()
