"""Brings the outbox's messages to a provider (design idea 11).

What makes it safe to kill at any moment is not here but in the outbox: an attempt is a committed
row before the provider is asked. What is here decides when, and by whom: how many at once, after
which delay, that the next provider gets what surely was not sent by the one before, and that an
attempt whose outcome is unknown is looked up before anybody repeats it (D19).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from shared import outbox, providers
from shared.clock import Chance
from shared.errors import DrainedError, StoreDownError
from shared.outbox import Claim, Ending, Report, Result, TemplateError
from shared.rules import Outbox
from shared.store import Store
from shared.together import Together
from sms import metrics, wakeups
from sms.breaker import Patience
from sms.lane import Lane, Standing
from sms.provider import Outgoing, Provider
from sms.templates import Templates

P = ParamSpec("P")
T = TypeVar("T")

LEAST_LIFE = timedelta(seconds=1)  # of a message, as its provider is told
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
    patience: Patience = field(default_factory=Patience)  # with each provider


class Dispatcher:
    """One loop that sends and one that settles what is uncertain, by the providers of one route.

    Those that are named first are preferred. Several dispatchers may share a database. Made and
    used in one event loop.
    """

    def __init__(
        self,
        store: Store,
        by: Sequence[Provider],
        templates: Templates,
        pool: Executor,
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._templates = templates
        self._pool = pool
        self._pace = pace or Pace()
        # One that outlived its lease could be under way twice.
        self._asking_seconds = store.rules.outbox.lease_seconds / 2
        self._lanes = [
            Lane(one, self._pace.at_once, self._pace.patience, self._asking_seconds) for one in by
        ]
        (self._route,) = {one.route for one in by}
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._store_answered = False
        self._unanswered: set[Callable[..., object]] = set()  # each when it was last asked for
        self._under_way: set[asyncio.Task[None]] = set()
        self._endings = Together(self._finish_all, self._pace.at_once)

    @property
    def working(self) -> bool:
        """Say whether it can work: the database answers, and not every provider turned us away.

        Providers that fail are no reason to take a gateway away: their receipts come there.
        """
        return self._awake and not self._all_stopped

    @property
    def standings(self) -> Sequence[Standing]:
        """Say of each provider whether messages go out by it."""
        return [
            Standing(lane.name, lane.route, self._awake and lane.out is None, lane.out)
            for lane in self._lanes
        ]

    @property
    def _awake(self) -> bool:
        store_answers = self._store_answered and not self._unanswered
        return store_answers and not self._stopping.is_set()

    @property
    def _all_stopped(self) -> bool:
        return all(lane.stopped for lane in self._lanes)

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
        """Claim what is due, for the first provider that may be asked; False if nothing is.

        What nobody waits for does not go past one that merely has us wait.
        """
        free = self._pace.at_once - len(self._under_way)
        if free == 0:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(self._under_way, timeout=self._pace.poll, return_when=first)
            return True
        awaited_alone = False
        for lane in self._lanes:
            if room := lane.room(free):
                kept = room if awaited_alone else self._kept(lane, room, free)
                try:
                    return await self._claim(lane, room, kept)
                except DrainedError:
                    lane.drained = True
            awaited_alone = awaited_alone or lane.has_us_wait
        return False

    def _kept(self, lane: Lane, room: int, free: int) -> int:
        """Say how many places of a provider's room are for what somebody waits for.

        It keeps the same share of its own places as we of all.
        """
        of_its_own = self._pace.kept * lane.places // self._pace.at_once
        free_there = min(free, lane.places - lane.under_way)
        return max(of_its_own - (free_there - room), 0)

    async def _claim(self, lane: Lane, room: int, kept: int) -> bool:
        """Begin to send as much as a provider has room for; False if nothing is due."""
        claims: list[Claim] = []
        lane.under_way += room  # nobody else may take it meanwhile
        try:
            claims = await self._in_pool(
                outbox.claim,
                self._store,
                lane.name,
                self._templates.render,
                room,
                kept=kept,
                route=self._route,
            )
        finally:
            lane.under_way -= room - len(claims)
        for claim in claims:
            task = asyncio.create_task(self._bring(lane, claim))
            self._under_way.add(task)
            task.add_done_callback(self._end)
        return bool(claims)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Look at once for what may have its place; the kept places are free, and not for all."""
        self._under_way.discard(task)
        self._woken.set()

    async def _bring(self, lane: Lane, claim: Claim) -> None:
        """Send one message, if need be by one provider after the other; keep what came of it."""
        others = [other for other in self._lanes if other is not lane]
        while True:
            report = await self._send(lane, claim)
            lane.under_way -= 1
            metrics.sent(lane.name, report)
            following = await self._pass_on(claim, report, others)
            if following is None:
                await self._keep(claim, report)
                return
            lane, claim = following
            others.remove(lane)

    async def _send(self, lane: Lane, claim: Claim) -> Report:
        if self._stopping.is_set() or lane.stopped:
            return Report(Result.RETRY, "not-asked")
        try:
            message = self._outgoing(claim)
        except TemplateError as error:
            log.error("message_refused", message=str(claim.message_id), why=str(error))
            return Report(Result.REFUSED, "no-template")
        return await lane.send(message)

    async def _pass_on(
        self, claim: Claim, report: Report, others: Sequence[Lane]
    ) -> tuple[Lane, Claim] | None:
        """Give what surely was not sent to the next provider; None if there is none for it.

        Never anything else: after a doubt D19 decides, and a number that takes no SMS takes none.
        What nobody waits for stays for one that merely has us wait.
        """
        if report.result is not Result.RETRY and not report.elsewhere:
            return None
        if report.retry_after is not None and not claim.awaited:
            return None
        for lane in others:
            if lane.has_us_wait and not claim.awaited:
                return None
            if self._stopping.is_set() or not lane.room(1):
                continue
            following = await self._commit_to(lane, claim, report)
            if following is not None:
                self._log(claim, report, passed_on=lane.name)
                return lane, following
        return None

    async def _commit_to(self, lane: Lane, claim: Claim, report: Report) -> Claim | None:
        lane.under_way += 1  # nobody else may take that place meanwhile
        following = None
        try:
            following = await self._insist(
                lambda: self._in_pool(outbox.pass_on, self._store, claim, report, lane.name)
            )
        except DrainedError:
            lane.drained = True
        except Exception:  # then it is queued
            log.exception("message_not_passed_on", attempt=str(claim.attempt_id))
        if following is None:
            lane.under_way -= 1
        return following

    async def _keep(self, claim: Claim, report: Report) -> None:
        """Keep a report; that a provider throttles us holds up that provider, and no message."""
        delay = backoff(self._store.rules.outbox, claim.failures, self._store.chance)
        ending = Ending(claim, report, delay)
        try:
            in_time = await self._insist(lambda: self._finish(ending))
        except Exception:  # then the lease ends, and it is looked up
            log.exception("report_not_kept", attempt=str(claim.attempt_id))
            return
        if in_time and report.result is Result.ACCEPTED:
            metrics.accepted(claim.template, self._store.clock() - claim.queued_at)
        self._log(claim, report, in_time=in_time)

    def _log(self, claim: Claim, report: Report, **more: object) -> None:
        log.info(
            "message_attempted",
            attempt=str(claim.attempt_id),
            result=report.result,
            code=report.code,
            **more,
        )

    async def _finish(self, ending: Ending) -> bool:
        """Keep a report beside others that come at once; by itself if that fails."""
        with suppress(Exception):  # whatever it is may be another's, and comes again if it is not
            if (in_time := await self._endings.ask(ending)) is not None:
                return in_time
        [in_time] = await self._finish_all([ending])
        return bool(in_time)

    async def _finish_all(self, endings: Sequence[Ending]) -> Sequence[bool | None]:
        return await self._in_pool(outbox.finish_all, self._store, endings)

    async def _settle(self) -> bool:
        """Ask what became of uncertain messages, and only then move on what waits for time."""
        drained = await self._in_pool(providers.drained, self._store)
        for lane in self._lanes:
            lane.drained = lane.name in drained
        doubts = {
            lane: await self._in_pool(outbox.doubts, self._store, lane.name, DOUBTS)
            for lane in self._lanes
            if not lane.stopped
        }
        await asyncio.gather(*(self._look_up(lane, of_it) for lane, of_it in doubts.items()))
        if not self._all_stopped:  # else nobody could ask before a repeat
            await self._in_pool(outbox.recover, self._store, self._route)
        return False

    async def _look_up(self, lane: Lane, doubts: list[Claim]) -> None:
        """Look up uncertain messages, a few at once, for as long as one send may take."""
        few = asyncio.Semaphore(self._pace.at_once)

        async def look_up(claim: Claim) -> None:
            async with few:
                report = await self._fate(lane, claim)
            if report is not None:
                await self._keep(claim, report)

        try:
            async with asyncio.timeout(self._asking_seconds), asyncio.TaskGroup() as group:
                for claim in doubts:
                    group.create_task(look_up(claim))
        except TimeoutError:
            log.warning("look_up_unanswered", provider=lane.name)

    async def _fate(self, lane: Lane, claim: Claim) -> Report | None:
        try:
            return await lane.look_up(self._outgoing(claim))
        except Exception:  # a fault of ours: the provider is asked again later
            log.exception("look_up_failed", provider=lane.name)
        return None

    def _outgoing(self, claim: Claim) -> Outgoing:
        return Outgoing(
            attempt_id=claim.attempt_id,
            destination=claim.destination,
            text=claim.text,
            sender=claim.sender or self._templates.sender(claim.template),
            message_id=claim.message_id,
            life=max(claim.expires_at - self._store.clock(), LEAST_LIFE),
            queued_at=claim.queued_at,
            subject=self._templates.subject(claim.template)
            if claim.subject is None
            else claim.subject,
        )

    async def _end_what_is_under_way(self) -> None:
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=self._pace.stop)
        for task in late:
            task.cancel()  # then it is uncertain, and is kept so
        if late:
            await asyncio.wait(late, timeout=self._pace.stop)

    async def _insist(self, tell: Callable[[], Awaitable[T]]) -> T:
        """Tell the store, however long it is away: nobody else knows it."""
        delays = self._store_delays()
        while True:
            try:
                return await tell()
            except StoreDownError:
                await asyncio.sleep(next(delays))

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
                log.error("store_away", route=self._route, why=str(error))
            self._unanswered.add(function)
            raise
        except DrainedError:
            self._heard(function)
            raise
        self._heard(function)
        return result

    def _heard(self, function: Callable[..., object]) -> None:
        self._store_answered = True
        if function in self._unanswered:
            self._unanswered.remove(function)
            if not self._unanswered:
                log.warning("store_back", route=self._route)

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
