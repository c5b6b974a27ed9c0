"""One provider of a dispatcher: whether it may be given messages, and what it makes of them."""

import asyncio
from enum import StrEnum
from typing import NamedTuple

import structlog

from shared.models import Route
from shared.outbox import Report, Result
from sms.breaker import Breaker, Patience, State
from sms.provider import Outgoing, Provider, ProviderStoppedError

log = structlog.get_logger(__name__)


class Out(StrEnum):
    """Why a provider is given no messages."""

    STOPPED = "stopped"  # it turned all of ours away: until the service is started again
    DRAINED = "drained"  # an admin took it out of service
    FAILING = "failing"  # too often in a row; now and then one message tries it
    THROTTLED = "throttled"  # it has us wait for long; now and then one message tries it


class Standing(NamedTuple):
    """Whether messages go out by a provider, and what it is itself that keeps them."""

    provider: str
    route: Route
    works: bool
    out: Out | None


class Lane:
    """One provider, asked with patience; used in one event loop."""

    def __init__(
        self, provider: Provider, at_once: int, patience: Patience, asking_seconds: float
    ) -> None:
        self.name = provider.name
        self.route = provider.route
        self.stopped = False
        self.drained = False
        self.places = at_once if provider.window is None else min(provider.window, at_once)
        self.under_way = 0  # messages given to it, or about to be
        self._provider = provider
        self._breaker = Breaker(patience)
        self._asking_seconds = asking_seconds

    @property
    def out(self) -> Out | None:
        """Say why it is given no messages; None if it is, even if it has us wait a little."""
        if self.stopped:
            return Out.STOPPED
        if self.drained:
            return Out.DRAINED
        if self._breaker.state(_now()) is not State.CLOSED:
            return Out.FAILING
        return Out.THROTTLED if self._breaker.throttled(_now()) else None

    @property
    def has_us_wait(self) -> bool:
        """Say whether it works, and takes no more for now: it throttles us, or has no place."""
        return self.out in {None, Out.THROTTLED} and not self.room(1)

    def room(self, free: int) -> int:
        """Say how many of so many messages it may be given now."""
        if self.stopped or self.drained:
            return 0
        free = min(free, self.places - self.under_way)
        return self._breaker.room(_now(), free, self.under_way)

    async def send(self, message: Outgoing) -> Report:
        """Hand a message over, once; whatever goes wrong is a report."""
        report = await self._ask(message)
        before = self.out
        self._breaker.learn(report, _now())
        if self.out is Out.THROTTLED is not before:
            log.warning("provider_throttles", provider=self.name, seconds=report.retry_after)
        return report

    async def look_up(self, message: Outgoing) -> Report | None:
        """Ask what became of a message, even if it is given no others; None: can't say."""
        if self.stopped:
            return None
        try:
            return await self._provider.look_up(message)
        except ProviderStoppedError:
            self._stop()
        return None

    async def _ask(self, message: Outgoing) -> Report:
        try:
            async with asyncio.timeout(self._asking_seconds):
                return await self._provider.send(message)
        except TimeoutError:
            return Report(Result.UNCERTAIN, "no-answer")
        except ProviderStoppedError:
            self._stop()
            return Report(Result.RETRY, "provider-stopped")
        except asyncio.CancelledError:  # we stop, and can't wait longer
            return Report(Result.UNCERTAIN, "stopped")
        except Exception:  # sent or not: nobody knows
            log.exception("provider_failed", provider=self.name)
            return Report(Result.UNCERTAIN, "failed")

    def _stop(self) -> None:
        """Stop asking this provider until the service is started again; this is the alarm."""
        if not self.stopped:
            log.critical("provider_stopped", provider=self.name)
        self.stopped = True


def _now() -> float:
    return asyncio.get_running_loop().time()
