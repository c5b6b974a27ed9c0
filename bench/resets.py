"""From the request for a password on the telephone until a provider has its SMS."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import click

from bench.figures import percentile
from bench.stores import CAISSE, PASSWORD, mobile, number, origin, stores
from shared import resets
from shared.database import POOL_SIZE
from shared.models import Route
from shared.outbox import Report, Result
from shared.store import Store
from sms.dispatcher import Dispatcher
from sms.provider import Outgoing
from sms.templates import Templates

STEADY, PER_SECOND = 100, 5
AT_ONCE = 200
ANSWER_SECONDS = 0.05  # what the provider takes to answer, after it has the message
LOST_SECONDS = 60
DISPATCHER_THREADS = 4


@dataclass
class Witness:
    """A provider that keeps when it got a message for whom."""

    expected: int
    name: str = "witness"
    route: Route = Route.SMS
    window: int | None = None
    seen: dict[str, float] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Outgoing) -> Report:
        """Accept a message."""
        self.seen[message.destination] = time.perf_counter()
        if len(self.seen) == self.expected:
            self.complete.set()
        await asyncio.sleep(ANSWER_SECONDS)
        return Report(Result.ACCEPTED, provider_id=str(message.attempt_id))

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say nothing: it never leaves a doubt."""
        del message
        return None


def run() -> None:
    """Measure both paces on each database and print the table."""
    click.echo(f"  {STEADY + AT_ONCE} accounts on each database", err=True)
    with stores(STEADY + AT_ONCE) as opened:
        click.echo("request for a password until a provider has the SMS:")
        for name, store in opened.items():
            click.echo(f"  {name}: {STEADY} requests at {PER_SECOND} a second", err=True)
            steady = asyncio.run(_measure(store, range(STEADY), 1 / PER_SECOND))
            click.echo(f"  {name}: {AT_ONCE} requests at once", err=True)
            crowd = asyncio.run(_measure(store, range(STEADY, STEADY + AT_ONCE), 0.0))
            _print(f"{name}, {PER_SECOND} a second", steady)
            _print(f"{name}, {AT_ONCE} at once", crowd)
        _print(f"{AT_ONCE} bare Argon2, every core", _floor(store))


async def _measure(store: Store, accounts: Sequence[int], interval: float) -> list[float]:
    """Request a password for each account, `interval` seconds apart; give the seconds it took."""
    provider = Witness(len(accounts))
    asked: dict[str, float] = {}
    with (
        ThreadPoolExecutor(POOL_SIZE) as calls,  # as the voice server's
        ThreadPoolExecutor(DISPATCHER_THREADS) as pool,
    ):
        dispatcher = Dispatcher(store, [provider], Templates.load(), pool)
        running = asyncio.create_task(dispatcher.run())
        requests = []
        for account in accounts:
            asked[mobile(account)] = time.perf_counter()
            requests.append(calls.submit(_request, store, account))
            await asyncio.sleep(interval)
        async with asyncio.timeout(LOST_SECONDS):
            await asyncio.gather(*map(asyncio.wrap_future, requests))
            await provider.complete.wait()
        dispatcher.stop()
        await running
    return [provider.seen[destination] - at for destination, at in asked.items()]


def _floor(store: Store) -> list[float]:
    """Give when each of `AT_ONCE` hashes would be ready, if nothing else were to be done."""
    began = time.perf_counter()

    def hash_one(_: int) -> float:
        store.hasher.hash(PASSWORD)
        return time.perf_counter() - began

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(hash_one, range(AT_ONCE)))


def _request(store: Store, account: int) -> None:
    resets.request_password(store, CAISSE, number(account), origin(account))


def _print(what: str, took: list[float]) -> None:
    click.echo(
        f"  {what:<26} p50 {percentile(took, 0.5) * 1000:6,.0f} ms"
        f"   p99 {percentile(took, 0.99) * 1000:6,.0f} ms"
    )
