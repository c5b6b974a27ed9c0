"""The database behind the store: SQLite on one machine, PostgreSQL for several (design idea 12).

Transactions are short and synchronous. No exception that leaves here holds a value of a row.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session as Transaction

from shared.errors import StoreDownError, StoreError

WAIT_SECONDS = 5  # for a lock, a connection or a statement; then the caller hears an apology
POOL_SIZE = 32
MIGRATING = b"migrate!"  # key of the lock that one process holds while it migrates

POSTGRESQL_OPTIONS = f"-c statement_timeout={WAIT_SECONDS}s -c lock_timeout={WAIT_SECONDS}s"


class Database:
    """Hands out read and write transactions; safe to use from many threads."""

    def __init__(self, url: str) -> None:
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_pre_ping=not self.sqlite,
            connect_args={"timeout": WAIT_SECONDS}
            if self.sqlite
            else {"connect_timeout": WAIT_SECONDS, "options": POSTGRESQL_OPTIONS},
        )
        if self.sqlite:
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writing = self.engine.execution_options(svi_writing=True)
        self._writer = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that only reads; StoreDownError if the database is away."""
        with _named_errors(), Transaction(self.engine, expire_on_commit=False) as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end of the block, or changes nothing."""
        with (
            self._turn(),
            _named_errors(),
            Transaction(self._writing, expire_on_commit=False) as transaction,
            transaction.begin(),
        ):
            yield transaction

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a turn to write: SQLite's own waiting starves some of many threads."""
        if not self.sqlite:
            yield
        elif not self._writer.acquire(timeout=WAIT_SECONDS):
            raise StoreDownError("database: no turn to write came")
        else:
            try:
                yield
            finally:
                self._writer.release()

    def lock(self, transaction: Transaction | Connection, *keys: bytes) -> None:
        """Hold others with the same key off until this transaction ends.

        Keys are taken in the order given: every caller uses the same order. SQLite needs nothing,
        since a write transaction there is alone from its first statement.
        """
        if not self.sqlite:
            for key in keys:
                number = int.from_bytes(key[:8], "big", signed=True)
                transaction.execute(select(text("pg_advisory_xact_lock(:k)")), {"k": number})

    def migrate(self) -> None:
        """Bring the schema up to date; several processes may do so at once."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with _named_errors(), self._writing.begin() as connection:
            if not self.sqlite:  # an index of millions of rows takes its time
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            self.lock(connection, MIGRATING)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError:
                raise StoreError("database: made by a newer version of this program") from None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn the library's errors, whose texts may quote rows, into the store's own."""
    try:
        yield
    except IntegrityError:
        raise StoreError("the database refused a row that breaks a constraint") from None
    except DBAPIError as error:
        raise StoreDownError(f"database: {type(error.orig).__name__}") from None
    except PoolTimeoutError:
        raise StoreDownError("database: no connection came free") from None
    except SQLAlchemyError as error:
        raise StoreError(f"a fault in a statement: {type(error).__name__}") from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, below
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A write transaction takes the lock at once: upgrading a read lock later could fail half-way.
    writing = connection.get_execution_options().get("svi_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
