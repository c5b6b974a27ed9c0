"""What a provider tells only once, held while the database is away."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from shared.errors import StoreDownError

RETRY_SECONDS = 2.0
MOST_HELD = 10_000

log = structlog.get_logger(__name__)

Told = TypeVar("Told")
Kept = TypeVar("Kept")


class Keeper(Generic[Told, Kept]):
    """Keeps what it is told; what comes while the database is away as soon as it is back.

    A 503 is no help: of itself Twilio asks again only where it could not connect, and at the very
    most for 15 s (twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
    """

    def __init__(
        self, keep: Callable[[Told], Awaitable[Kept]], lost: str, name: Callable[[Told], str]
    ) -> None:
        """Keep by `keep`; log what never could be as the event `lost`, with what `name` gives."""
        self._keep = keep
        self._lost = lost
        self._name = name
        self._held: deque[Told] = deque()

    async def keep(self, told: Told) -> Kept:
        """Keep it now; StoreDownError if it has to wait."""
        try:
            return await self._keep(told)
        except StoreDownError:
            if len(self._held) < MOST_HELD:
                self._held.append(told)
            else:
                log.error(self._lost, which=self._name(told))
            raise

    async def retrying(self, _: object) -> AsyncIterator[None]:
        """Keep what waits, as long as the application runs; say at its end what could not be."""
        retrying = asyncio.create_task(self._retry())
        yield
        retrying.cancel()
        await asyncio.wait([retrying])
        await self._keep_held()
        for told in self._held:
            log.error(self._lost, which=self._name(told))

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            await self._keep_held()

    async def _keep_held(self) -> None:
        while self._held:
            told = self._held[0]
            try:
                await self._keep(told)
            except StoreDownError:
                return
            except Exception:  # a fault of ours must not hold up the others
                log.exception(self._lost, which=self._name(told))
            self._held.popleft()
