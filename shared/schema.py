"""The schema of the database: which migrations it has had, and those of this program (Alembic).

`Database.schema` and `Database.migrate` use this on a connection of theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).with_name("migrations")
ROLES = Path(__file__).with_name("roles.sql")

Report = Callable[[str], None]
"""Told the revision that a migration leads to when it is done, and not yet committed."""


@dataclass(frozen=True)
class Schema:
    """The revision that a database is at (None: it is empty), and those that this program knows."""

    revision: str | None
    known: Sequence[str]  # the first first

    @property
    def latest(self) -> str:
        """The revision that this program works with."""
        return self.known[-1]

    @property
    def newer(self) -> bool:
        """Whether a newer version of this program made it."""
        return self.revision is not None and self.revision not in self.known

    @property
    def missing(self) -> Sequence[str]:
        """The revisions that an upgrade leads through; none if the database is `newer`."""
        if self.newer:
            return ()
        done = 0 if self.revision is None else self.known.index(self.revision) + 1
        return self.known[done:]


@cache
def revisions() -> Sequence[str]:
    """Give the revisions that this program knows, the first first."""
    newest_first = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    return tuple(script.revision for script in newest_first)[::-1]


def read(connection: Connection) -> Schema:
    """Say which revision a database is at."""
    return Schema(MigrationContext.configure(connection).get_current_revision(), revisions())


def upgrade(connection: Connection, report: Report, revision: str = "head") -> None:
    """Migrate up to a revision, in the transaction that the connection is in."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = lambda **done: report(done["step"].up_revision_id)
    command.upgrade(config, revision)


def grant(connection: Connection) -> None:
    """Give PostgreSQL's roles `svi` and `svi_purge` their rights, as the owner of the database."""
    statements = ROLES.read_text(encoding="utf-8")
    # psycopg takes several statements at once only if there are no parameters, not even none.
    connection.exec_driver_sql(statements, execution_options={"no_parameters": True})
