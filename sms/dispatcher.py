"""Brings the outbox's messages to a provider (design idea 11).

What makes it safe to kill at any moment is not here but in the outbox: an attempt is a committed
row before the provider is asked. What is here decides when: how many at once, after which delay,
and that an attempt whose outcome is unknown is looked up before anybody repeats it (D19).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from shared import outbox
from shared.clock import Chance
from shared.errors import StoreDownError
from shared.outbox import Claim, Report, Result, TemplateError
from shared.rules import Outbox
from shared.store import Store
from sms import metrics, wakeups
from sms.provider import Outgoing, Provider, ProviderStoppedError
from sms.templates import Templates

P = ParamSpec("P")
T = TypeVar("T")

DOUBTS = 128  # looked up in one round, those nearest to their repeat first
JITTER_STEPS = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How fast a dispatcher goes, in seconds; and how many messages are under way at most."""

    at_once: int = 16
    kept: int = 4  # of these, for codes and passwords alone
    poll: float = 0.2
    look_up: float = 10.0
    stop: float = 3.0  # what is under way may end for so long
    store_first: float = 0.5  # before a database that is away is tried again; doubled each time
    store_longest: float = 10.0


class Dispatcher:
    """One loop that sends and one that settles what is uncertain, with one provider.

    Several dispatchers may share a database. Made and used in one event loop.
    """

    def __init__(
        self,
        store: Store,
        provider: Provider,
        templates: Templates,
        pool: Executor,
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._provider = provider
        self._templates = templates
        self._pool = pool
        self._pace = pace or Pace()
        # One that outlived its lease could be under way twice.
        self._asking_seconds = store.rules.outbox.lease_seconds / 2
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._halted = False  # by the provider: our configuration is wrong
        self._store_answered = False
        self._unanswered: set[Callable[..., object]] = set()  # each when it was last asked for
        self._throttled_until = 0.0  # in the loop's time
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def working(self) -> bool:
        """Say whether messages go out: the database answers, the provider lets us in."""
        store_answers = self._store_answered and not self._unanswered
        return store_answers and not self._halted and not self._stopping.is_set()

    async def run(self) -> None:
        """Send until `stop`; then let what is under way end, for `Pace.stop` at most."""
        beside = [
            asyncio.create_task(self._repeat(self._settle, self._pace.look_up, self._stopping)),
            asyncio.create_task(wakeups.listen(self._store.database, self._woken.set)),
        ]
        await self._repeat(self._send_due, self._pace.poll, self._woken)
        for task in beside:
            task.cancel()  # at any moment: asking twice does no harm
        await asyncio.wait(beside)
        await self._end_what_is_under_way()

    def stop(self) -> None:
        """Claim nothing any more and make `run` end; to be called in the event loop."""
        self._stopping.set()
        self._woken.set()

    async def _repeat(
        self, action: Callable[[], Awaitable[bool]], idle: float, woken: asyncio.Event
    ) -> None:
        """Run an action again and again, at once if it says that there is more to do."""
        delays = self._store_delays()
        while not self._stopping.is_set():
            try:
                wait = 0 if await action() else idle
                delays = self._store_delays()
            except StoreDownError:
                wait = next(delays)
            except Exception:  # a fault of ours: the loop goes on
                log.exception("dispatcher_failed")
                wait = next(delays)
            await self._pause(wait, woken)

    async def _send_due(self) -> bool:
        """Claim what is due and begin to send it; False if nothing is."""
        if self._halted or asyncio.get_running_loop().time() < self._throttled_until:
            return False
        free = self._pace.at_once - len(self._under_way)
        if free == 0:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(self._under_way, timeout=self._pace.poll, return_when=first)
            return True
        claims = await self._in_pool(
            outbox.claim,
            self._store,
            self._provider.name,
            self._templates.render,
            free,
            kept=self._pace.kept,
            route=self._provider.route,
        )
        for claim in claims:
            task = asyncio.create_task(self._bring(claim))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return bool(claims)

    async def _bring(self, claim: Claim) -> None:
        """Send one message and keep what came of it."""
        report = await self._send(claim)
        metrics.sent(self._provider.name, report)
        if report.retry_after is not None:  # it throttles us, not this message alone
            until = asyncio.get_running_loop().time() + report.retry_after
            self._throttled_until = max(self._throttled_until, until)
        await self._keep(claim, report)

    async def _send(self, claim: Claim) -> Report:
        if self._stopping.is_set() or self._halted:
            return Report(Result.RETRY, "not-asked")
        try:
            message = self._outgoing(claim)
        except TemplateError as error:
            log.error("message_refused", message=str(claim.message_id), why=str(error))
            return Report(Result.REFUSED, "no-template")
        return await self._ask(message)

    async def _ask(self, message: Outgoing) -> Report:
        try:
            async with asyncio.timeout(self._asking_seconds):
                return await self._provider.send(message)
        except TimeoutError:
            return Report(Result.UNCERTAIN, "no-answer")
        except ProviderStoppedError:
            self._halt()
            return Report(Result.RETRY, "provider-stopped")
        except asyncio.CancelledError:  # we stop, and can't wait longer
            return Report(Result.UNCERTAIN, "stopped")
        except Exception:  # sent or not: nobody knows
            log.exception("provider_failed", provider=self._provider.name)
            return Report(Result.UNCERTAIN, "failed")

    async def _keep(self, claim: Claim, report: Report) -> None:
        """Keep a report, however long the database is away: nobody else knows it."""
        rules, chance = self._store.rules.outbox, self._store.chance
        delay = max(backoff(rules, claim.failures, chance), report.retry_after or 0)
        for wait in self._store_delays():
            try:
                in_time = await self._in_pool(outbox.finish, self._store, claim, report, delay)
                break
            except StoreDownError:
                await asyncio.sleep(wait)
            except Exception:  # then the lease ends, and it is looked up
                log.exception("report_not_kept", attempt=str(claim.attempt_id))
                return
        if in_time and report.result is Result.ACCEPTED:
            metrics.accepted(claim.template, self._store.clock() - claim.queued_at)
        log.info(
            "message_attempted",
            attempt=str(claim.attempt_id),
            result=report.result,
            code=report.code,
            in_time=in_time,
        )

    async def _settle(self) -> bool:
        """Ask what became of uncertain messages, and only then move on what waits for time."""
        if not self._halted:
            doubts = await self._in_pool(outbox.doubts, self._store, self._provider.name, DOUBTS)
            await self._look_up(doubts)
        if not self._halted:  # else nobody could ask before a repeat
            await self._in_pool(outbox.recover, self._store, self._provider.route)
        return False

    async def _look_up(self, doubts: list[Claim]) -> None:
        """Look up uncertain messages, a few at once, for as long as one send may take."""
        few = asyncio.Semaphore(self._pace.at_once)

        async def look_up(claim: Claim) -> None:
            async with few:
                report = await self._fate(claim)
            if report is not None:
                await self._keep(claim, report)

        try:
            async with asyncio.timeout(self._asking_seconds), asyncio.TaskGroup() as group:
                for claim in doubts:
                    group.create_task(look_up(claim))
        except TimeoutError:
            log.warning("look_up_unanswered", provider=self._provider.name)

    async def _fate(self, claim: Claim) -> Report | None:
        if self._halted:
            return None
        try:
            return await self._provider.look_up(self._outgoing(claim))
        except ProviderStoppedError:
            self._halt()
        except Exception:  # a fault of ours: the provider is asked again later
            log.exception("look_up_failed", provider=self._provider.name)
        return None

    def _outgoing(self, claim: Claim) -> Outgoing:
        return Outgoing(
            attempt_id=claim.attempt_id,
            destination=claim.destination,
            text=claim.text,
            sender=self._templates.sender(claim.template),
            message_id=claim.message_id,
            subject=self._templates.subject(claim.template),
        )

    def _halt(self) -> None:
        """Stop asking this provider until the service is started again; this is the alarm."""
        if not self._halted:
            log.critical("provider_stopped", provider=self._provider.name)
        self._halted = True

    async def _end_what_is_under_way(self) -> None:
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=self._pace.stop)
        for task in late:
            task.cancel()  # then it is uncertain, and is kept so
        if late:
            await asyncio.wait(late, timeout=self._pace.stop)

    async def _in_pool(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the store in the pool; tell once that the database went or came.

        It is back when all that failed works again: one that is locked or whose disk is full
        still answers what needs no writing.
        """
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))
        except StoreDownError as error:
            if not self._unanswered:
                log.error("store_away", provider=self._provider.name, why=str(error))
            self._unanswered.add(function)
            raise
        self._store_answered = True
        if function in self._unanswered:
            self._unanswered.remove(function)
            if not self._unanswered:
                log.warning("store_back", provider=self._provider.name)
        return result

    async def _pause(self, seconds: float, woken: asyncio.Event) -> None:
        """Wait, but not longer than until we are woken, or stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()
        if not self._stopping.is_set():
            woken.clear()

    def _store_delays(self) -> Iterator[float]:
        delay = self._pace.store_first
        while True:
            yield delay
            delay = min(2 * delay, self._pace.store_longest)


def backoff(rules: Outbox, failures: int, chance: Chance) -> float:
    """Give the seconds until the next try: doubled at each failure, from half to all of it."""
    longest = min(rules.retry_seconds * 2.0 ** min(failures, 30), rules.retry_longest_seconds)
    return longest * (1 + chance(JITTER_STEPS + 1) / JITTER_STEPS) / 2
