"""Codes while a campaign drains, and without one: from queued until a provider has them."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import click
from sqlalchemy import insert

from bench.figures import percentile
from bench.gateways import TEMPLATE
from bench.stores import mobile, stores
from shared import notices, outbox
from shared.contacts import Contact
from shared.database import POOL_SIZE
from shared.models import Message, MessageState, Priority, Route
from shared.notices import Notice
from shared.outbox import Report, Result
from shared.store import Store
from sms.dispatcher import Dispatcher
from sms.provider import Outgoing
from sms.templates import Templates

CAMPAIGN = 100_000
BATCH = 1_000
CODES, PER_SECOND = 300, 5
ANSWER_SECONDS = 0.05  # what the provider takes to answer, after it has the message
LOST_SECONDS = 60
DISPATCHER_THREADS = 4
LIFE = timedelta(days=1)
CODE = {"code": "428193", "minutes": "10"}


@dataclass
class Witness:
    """A provider that keeps when it got a code for whom, and counts all other messages."""

    name: str = "witness"
    route: Route = Route.SMS
    codes: dict[str, float] = field(default_factory=dict)
    others: int = 0
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Outgoing) -> Report:
        """Accept a message."""
        if CODE["minutes"] in message.text.reveal():
            self.codes[message.destination] = time.perf_counter()
            if len(self.codes) == CODES:
                self.complete.set()
        else:
            self.others += 1
        await asyncio.sleep(ANSWER_SECONDS)
        return Report(Result.ACCEPTED, provider_id=str(message.attempt_id))

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say nothing: it never leaves a doubt."""
        del message
        return None


def run(messages: int = CAMPAIGN) -> None:
    """Measure codes alone, then beside a campaign of so many messages, on each database."""
    with stores(0, durable=True) as opened:
        click.echo(
            f"codes, {PER_SECOND} a second, from queued until a provider has them,"
            f" which answers in {ANSWER_SECONDS * 1000:.0f} ms; every commit waits for the disk:"
        )
        for name, store in opened.items():
            click.echo(f"  {name}: {CODES} codes alone", err=True)
            _print(f"{name}, alone", *asyncio.run(_measure(store)))
            click.echo(f"  {name}: queueing {messages:,} messages of a campaign", err=True)
            _queue_campaign(store, messages)
            click.echo(f"  {name}: {CODES} codes beside it", err=True)
            _print(f"{name}, {messages:,} of a campaign", *asyncio.run(_measure(store)))


async def _measure(store: Store) -> tuple[list[float], float]:
    """Give the seconds that each code took, and how many other messages a second went out."""
    provider, queued = Witness(), dict[str, float]()
    with (
        ThreadPoolExecutor(POOL_SIZE) as callers,
        ThreadPoolExecutor(DISPATCHER_THREADS) as pool,
    ):
        dispatcher = Dispatcher(store, [provider], Templates.load(), pool)
        running = asyncio.create_task(dispatcher.run())
        requests, began = [], time.perf_counter()
        for number in range(CODES):
            await asyncio.sleep(began + number / PER_SECOND - time.perf_counter())
            requests.append(callers.submit(_queue_code, store, mobile(number), queued))
        async with asyncio.timeout(LOST_SECONDS):
            await asyncio.gather(*map(asyncio.wrap_future, requests))
            await provider.complete.wait()
        rate = provider.others / (time.perf_counter() - began)
        dispatcher.stop()
        await running
    return [provider.codes[to] - at for to, at in queued.items()], rate


def _queue_code(store: Store, to: str, queued: dict[str, float]) -> None:
    """Queue a code as the store does; its time is when that was committed."""
    until = store.clock() + LIFE
    notice = Notice(notices.Template.CODE, None, Contact(Route.SMS, to), CODE, until)
    with store.database.write() as transaction:
        notices.queue(store, transaction, notice)
    queued[to] = time.perf_counter()


def _queue_campaign(store: Store, messages: int) -> None:
    for first in range(0, messages, BATCH):
        rows = list(_campaign(store, range(first, min(first + BATCH, messages))))
        with store.database.begin() as transaction:
            transaction.execute(insert(Message), rows)


def _campaign(store: Store, numbers: range) -> Iterator[dict[str, object]]:
    """Give the rows of a campaign's messages as they are in the outbox."""
    now = store.clock()
    for number in numbers:
        message_id = uuid4()
        yield {
            "id": message_id,
            "route": Route.SMS,
            "template": TEMPLATE,
            "priority": Priority.CAMPAIGN,
            "known_caller": False,
            "destination_sealed": outbox.seal(store, message_id, "destination", mobile(number)),
            "content_sealed": outbox.seal(store, message_id, "content", json.dumps({})),
            "state": MessageState.QUEUED,
            "created_at": now,
            "expires_at": now + LIFE,
            "next_at": now,
        }


def _print(what: str, took: list[float], others: float) -> None:
    click.echo(
        f"  {what:<34} p50 {percentile(took, 0.5) * 1000:6,.0f} ms"
        f"   p99 {percentile(took, 0.99) * 1000:6,.0f} ms   beside {others:5,.0f} others a second"
    )
