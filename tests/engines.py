"""One engine for each kind of database, for all tests: else each would compile the same SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from threading import Lock
from typing import Any

from sqlalchemy import Dialect, event, make_url
from sqlalchemy.pool import QueuePool

from shared.database import Database


class SharedEngines:
    """Engines that keep their compiled statements from test to test."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}
        self._url = ""

    @contextmanager
    def database(self, url: str) -> Iterator[Database]:
        """Give a database at `url`, with listeners of its own; no connection may be left in use."""
        self._url = url
        kind = make_url(url).get_backend_name()
        if kind not in self._databases:
            self._databases[kind] = Database(url)
            event.listen(self._databases[kind].engine, "do_connect", self._redirect)
            if kind == "sqlite":
                event.listen(self._databases[kind].engine, "connect", _trust_the_power)
        database = copy(self._databases[kind])
        database.engine = database.engine.execution_options()
        database._writer = Lock()  # else a thread of another test could keep this one waiting
        yield database
        assert not database._writer.locked(), "a thread of this test still writes"
        assert isinstance(database.engine.pool, QueuePool)
        in_use = database.engine.pool.checkedout()
        if database.sqlite or in_use:  # the next test has a file of its own, and a pool in order
            database.close()
        assert in_use == 0

    def close(self) -> None:
        """Close every connection."""
        for database in self._databases.values():
            database.close()

    def _redirect(
        self, dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        """Connect to where this test's database is, not to where the first one's was."""
        arguments[:], own = dialect.create_connect_args(make_url(self._url))
        options |= own


def _trust_the_power(connection: Any, _record: object) -> None:
    """Wait for no disk: a kill loses nothing all the same, only a power cut would."""
    connection.execute("PRAGMA synchronous = OFF")
