"""Hears at once that a message waits, by PostgreSQL's LISTEN; on SQLite there is nothing to hear.

An announcement may be lost, with its connection: dispatchers still look now and then.
"""

import asyncio
from collections.abc import Callable

import psycopg
import structlog

from shared.database import WAIT_SECONDS, Database
from shared.outbox import CHANNEL

RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


async def listen(database: Database, wake: Callable[[], None]) -> None:
    """Call `wake` at each announcement, until cancelled; and once when the database is back."""
    if database.sqlite:
        return
    while True:
        try:
            await _listen(database, wake)
        except psycopg.Error as error:
            log.warning("wakeups_away", why=type(error).__name__)
        await asyncio.sleep(RETRY_SECONDS)


async def _listen(database: Database, wake: Callable[[], None]) -> None:
    _, reach = database.engine.dialect.create_connect_args(database.engine.url)
    connection = await psycopg.AsyncConnection.connect(
        **reach, connect_timeout=WAIT_SECONDS, autocommit=True
    )
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        wake()
        async for _ in connection.notifies():
            wake()
