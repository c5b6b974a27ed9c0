"""The database behind the store: SQLite on one machine, PostgreSQL for several (design idea 12).

Transactions are short and synchronous. No exception that leaves here holds a value of a row.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from select import POLLIN, poll
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    create_engine,
    delete,
    event,
    insert,
    literal,
    make_url,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from shared import schema
from shared.errors import StoreDownError, StoreError
from shared.schema import Report, Schema

WAIT_SECONDS = 5  # for a lock, a connection or a statement; then the caller hears an apology
SURVEY_SECONDS = 600  # for a statement that an admin waits for
MIGRATION_SECONDS = 600  # for another process to have migrated
POOL_SIZE = 32
BATCH = 1000  # rows deleted in one transaction: codes are not to wait for it
MIGRATING = b"migrate!"  # key of the lock that one process holds while it migrates

# The rows of `unnest` come in the order of the list.
_LOCK = text("SELECT pg_advisory_xact_lock(n) FROM unnest(CAST(:numbers AS bigint[])) AS n")

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
            connect_args={"timeout": WAIT_SECONDS}
            if self.sqlite
            else {"connect_timeout": WAIT_SECONDS, "options": POSTGRESQL_OPTIONS},
        )
        if self.sqlite:
            event.listen(self.engine, "connect", _set_up_sqlite)
        else:
            event.listen(self.engine, "checkout", _refuse_dropped)
        self._writer = threading.Lock()

    @contextmanager
    def read(self, *, patient: bool = False) -> Iterator[Transaction]:
        """Open a transaction that only reads; StoreDownError if the database is away.

        A `patient` one is an admin's, who waits for what goes through millions of rows.
        """
        with _named_errors(), self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN")
            elif patient:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{SURVEY_SECONDS}s'")
            with Transaction(connection, expire_on_commit=False) as transaction:
                yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end of the block, or changes nothing."""
        with self.begin() as connection, unit_of_work(connection) as transaction:
            yield transaction

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction as `write` does, but for bare statements.

        A unit of work takes more CPU than the statements of a login.
        """
        with self._turn(), _named_errors(), self.engine.begin() as connection:
            if self.sqlite:
                # Takes the lock at once: upgrading a read lock later could fail half-way.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a turn to write: SQLite's own waiting starves some of many threads."""
        if not self.sqlite:
            yield
        elif not self._writer.acquire(timeout=WAIT_SECONDS):
            raise StoreDownError(
                "base de données occupée : aucun tour d'écriture obtenu ; réessayez"
            )
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
            numbers = [int.from_bytes(key[:8], "big", signed=True) for key in keys]
            transaction.execute(_LOCK, {"numbers": numbers})

    def schema(self) -> Schema:
        """Say which revision the schema is at; StoreDownError if the database is away."""
        with self.read() as transaction:
            return schema.read(transaction.connection())

    def migrate(self, report: Report = lambda _: None) -> None:
        """Bring the schema up to date, or change nothing; several processes may do so at once.

        StoreError if a newer version of this program made the database.
        """
        with self._migrating() as connection:
            if schema.read(connection).newer:
                raise StoreError("base de données faite par une version plus récente du programme")
            schema.upgrade(connection, report)

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """Open the one transaction of all migrations, once nobody else is in it."""
        with self._turn(), _named_errors(), self.engine.begin() as connection:
            execute = connection.exec_driver_sql
            if self.sqlite:
                connection.detach()  # what is set here ends with it
                execute(f"PRAGMA busy_timeout = {MIGRATION_SECONDS * 1000}")
                # A table is altered by copying it, and dropped while rows refer to its own.
                execute("PRAGMA foreign_keys = OFF")
                execute("BEGIN IMMEDIATE")
                yield connection
                if execute("PRAGMA foreign_key_check").first() is not None:
                    raise StoreError(
                        "base de données incohérente : une ligne désigne une ligne absente"
                    )
            else:
                execute("SET LOCAL statement_timeout = 0")  # an index of millions takes its time
                execute(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'")
                self.lock(connection, MIGRATING)
                # A table is not waited for so long: whoever comes after would wait as well.
                execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def unit_of_work(connection: Connection) -> Iterator[Transaction]:
    """Use objects within a transaction of bare statements, which goes on after the block."""
    with Transaction(connection, expire_on_commit=False) as transaction, transaction.begin():
        yield transaction


def insert_if(transaction: Transaction, row: DeclarativeBase, *, wanted: bool) -> None:
    """Insert a row if it is wanted; if not, the same statement inserts none (D04)."""
    table = cast(Table, row.__table__)
    columns = list(table.columns)
    values: list[Any] = [
        literal(getattr(row, column.key), column.type).label(column.key) for column in columns
    ]
    transaction.execute(insert(table).from_select(columns, select(*values).where(literal(wanted))))


def oldest(
    transaction: Transaction, at: InstrumentedAttribute[Any], *which: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    """Lock the oldest of some rows, a batch at most, and give their primary keys.

    What somebody else holds is left out: another process may be at the same.
    """
    some = select(*_key(at)).where(*which).order_by(at).limit(BATCH)
    return transaction.execute(some.with_for_update(skip_locked=True)).all()


def delete_oldest(
    transaction: Transaction, at: InstrumentedAttribute[Any], *which: ColumnElement[bool]
) -> bool:
    """Delete the oldest of some rows, a batch at most; True if there may be more."""
    keys = oldest(transaction, at, *which)
    if keys:
        transaction.execute(
            delete(at.class_).where(tuple_(*_key(at)).in_(keys)),
            execution_options={"synchronize_session": False},
        )
    return len(keys) == BATCH


def _key(at: InstrumentedAttribute[Any]) -> Sequence[ColumnElement[Any]]:
    return list(cast(Table, at.class_.__table__).primary_key)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn the library's errors, whose texts may quote rows, into the store's own."""
    try:
        yield
    except IntegrityError:
        raise StoreError(
            "la base de données a refusé une ligne qui enfreint une contrainte"
        ) from None
    except DBAPIError as error:
        raise StoreDownError(
            f"base de données injoignable ou illisible ({type(error.orig).__name__}) :"
            " vérifiez SVI_DATABASE_URL ou SVI_HOME"
        ) from None
    except PoolTimeoutError:
        raise StoreDownError(
            "base de données occupée : aucune connexion libre ; réessayez"
        ) from None
    except SQLAlchemyError as error:
        raise StoreError(f"requête fautive : {type(error).__name__}") from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _refuse_dropped(connection: Any, _record: object, _proxy: object) -> None:
    """Have a connection replaced that its server has closed: then there is something to read.

    A ping would say the same, for a round trip in every transaction.
    """
    look = poll()
    look.register(connection.fileno(), POLLIN)
    if look.poll(0):
        raise DisconnectionError
