"""Asks the database how things are, for whoever looks from outside and is impatient."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from shared.errors import StoreDownError
from shared.store import Store

PROBE_SECONDS = 2.0

T = TypeVar("T")


class Probe(Generic[T]):
    """One question to the store, asked again and again."""

    def __init__(self, store: Store, pool: Executor, question: Callable[[Store], T]) -> None:
        self._store = store
        self._pool = pool
        self._question = question
        self._asked: asyncio.Future[T | None] | None = None

    async def answer(self) -> T | None:
        """Ask the database; None if it is away.

        One question at a time: impatient probes must not fill the pool.
        """
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._pool, self._ask)
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked), PROBE_SECONDS)
        except TimeoutError:
            return None

    def _ask(self) -> T | None:
        try:
            return self._question(self._store)
        except StoreDownError:
            return None
