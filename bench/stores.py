"""Credential stores to measure: as in production, real Argon2 costs included.

But PostgreSQL is the tests' own, which waits for the disk only where it is told to.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from shared import accounts, logs
from shared.accounts import NewAccount
from shared.database import Database
from shared.keyring import KeyRing
from shared.origin import Origin
from shared.rules import Channel, load_rules
from shared.secret import Secret
from shared.store import Store
from tests.postgresql import PostgresqlServer

CAISSE = "75"
PASSWORD = Secret("83927415")


@contextmanager
def stores(count: int, *, durable: bool = False) -> Iterator[dict[str, Store]]:
    """Give a store on each database, with `count` accounts of the same password."""
    with tempfile.TemporaryDirectory() as home, _postgresql(durable=durable) as server:
        logs.configure(Path(home, "bench.log"))
        keys = Path(home, "keys.json")
        KeyRing.create(keys)
        urls = {"SQLite": f"sqlite:///{home}/store.db", "PostgreSQL": server.url(server.create())}
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(closing(_open(url, keys))) for name, url in urls.items()
            }
            for store in opened.values():
                _fill(store, count)
            yield opened


def number(account: int) -> str:
    """Give the numéro d'allocataire of an account of a filled store."""
    return f"{account:07}"


def origin(account: int) -> Origin:
    """Give where the owner of an account calls from."""
    return Origin(Channel.VOICE, mobile(account))


def mobile(account: int) -> str:
    """Give the mobile of the owner of an account, +33…"""
    return f"+33612{account:06}"


def _open(url: str, keys: Path) -> Store:
    database = Database(url)
    database.migrate()
    database.close()
    return Store.open(url, keys, load_rules())


def _fill(store: Store, count: int) -> None:
    for account in range(count):
        accounts.add(store, NewAccount(CAISSE, number(account), mobile(account)), PASSWORD)


@contextmanager
def _postgresql(*, durable: bool) -> Iterator[PostgresqlServer]:
    server = PostgresqlServer(durable=durable)
    try:
        yield server
    finally:
        server.remove()
