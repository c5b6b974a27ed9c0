"""Brings campaigns into the outbox, a little at a time (R24); `shared/campaigns.py` says what."""

import asyncio
from concurrent.futures import Executor
from contextlib import suppress

import structlog

from shared import campaigns
from shared.errors import StoreDownError
from shared.store import Store

POLL_SECONDS = 0.5  # a dispatcher sends less meanwhile than the outbox holds of campaigns
LONGEST_SECONDS = 10.0  # before a database that is away is tried again

log = structlog.get_logger(__name__)


class Feeder:
    """One loop; several may share a database. Made and used in one event loop."""

    def __init__(self, store: Store, pool: Executor, poll: float = POLL_SECONDS) -> None:
        self._store = store
        self._pool = pool
        self._poll = poll
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Feed until `stop`."""
        wait = self._poll
        while not self._stopping.is_set():
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._pool, campaigns.feed, self._store
                )
                wait = self._poll
            except StoreDownError:  # its dispatchers say so
                wait = min(2 * wait, LONGEST_SECONDS)
            except Exception:  # a fault of ours: the loop goes on
                log.exception("feeder_failed")
                wait = min(2 * wait, LONGEST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Feed nothing any more; to be called in the event loop."""
        self._stopping.set()
