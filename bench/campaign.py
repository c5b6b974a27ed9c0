"""Codes while a campaign drains, and without one: from queued until a provider has them."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import click

from bench.figures import percentile
from bench.gateways import TEMPLATE
from bench.stores import mobile, stores
from shared import campaign_hours, campaign_import, campaigns, notices
from shared.campaigns import ADMIN, Move, Plan
from shared.clock import system_clock
from shared.contacts import Contact
from shared.database import POOL_SIZE
from shared.models import Route
from shared.notices import Notice
from shared.outbox import Report, Result
from shared.store import Store
from sms.campaign_texts import CampaignTexts
from sms.dispatcher import Dispatcher, Pace
from sms.feeder import Feeder
from sms.provider import Outgoing, Provider
from sms.templates import Templates
from svi import gateway

CAMPAIGN = 100_000
PLAN = Plan("bench", Route.SMS, TEMPLATE)
CODES, PER_SECOND = 300, 5
ANSWER_SECONDS = 0.05  # what the provider takes to answer, after it has the message
LOST_SECONDS = 60
LIFE = timedelta(days=1)
CODE = {"code": "428193", "minutes": "10"}


@dataclass
class Witness:
    """A provider that tells when it got the code for whom, and when each of the other messages."""

    name: str = "witness"
    route: Route = Route.SMS
    window: int | None = None
    codes: dict[str, asyncio.Future[float]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)

    async def send(self, message: Outgoing) -> Report:
        """Accept a message."""
        if CODE["minutes"] in message.text.reveal():  # the code is written in two parts
            self.codes[message.destination].set_result(time.perf_counter())
        else:
            self.others.append(time.perf_counter())
        await asyncio.sleep(ANSWER_SECONDS)
        return Report(Result.ACCEPTED, provider_id=str(message.attempt_id))

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say nothing: it never leaves a doubt."""
        del message
        return None


def run(messages: int = CAMPAIGN) -> None:
    """Measure codes alone, then beside a campaign of so many messages, on each database."""
    pace = Pace()
    with stores(0, durable=True) as opened:
        click.echo(
            f"codes, {PER_SECOND} a second, from queued until a provider has them,"
            f" which answers in {ANSWER_SECONDS * 1000:.0f} ms, {pace.at_once} at once, at most"
            f" {pace.at_once - pace.kept} of them a campaign's; every commit waits for the disk:"
        )
        for name, real in opened.items():
            store = _in_hours(real)
            click.echo(f"  {name}: {CODES} codes alone", err=True)
            _print(f"{name}, alone", *asyncio.run(_measure(store, 0)))
            click.echo(f"  {name}: importing {messages:,} recipients", err=True)
            click.echo(f"  {f'{name}, import':<34} {_start_campaign(store, messages):,.0f}/s")
            click.echo(f"  {name}: codes beside their campaign", err=True)
            _print(f"{name}, {messages:,} of a campaign", *asyncio.run(_measure(store, messages)))


def _in_hours(store: Store) -> Store:
    """Give the store with a clock on which a day's hours of campaigns have just begun (R24)."""
    now = system_clock()
    ahead = campaign_hours.opening(store.rules.campaign, campaign_hours.PARIS, now) - now
    return replace(store, clock=lambda: system_clock() + ahead)


def _start_campaign(store: Store, recipients: int) -> float:
    """Import a campaign as an admin does, and start it; give the recipients imported a second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipients.csv")
        file.write_text("\n".join(["mobile", *map(mobile, range(recipients))]), encoding="utf-8")
        began = time.perf_counter()
        campaign_import.import_file(store, CampaignTexts.load(), PLAN, file)
        took = time.perf_counter() - began
    [campaign] = campaigns.every(store)
    campaigns.move(store, ADMIN, campaign.id, Move.START)
    return recipients / took


async def _measure(store: Store, messages: int) -> tuple[list[float], float]:
    """Give the seconds that each code took, and how many of so many others a second went out.

    If there are others, codes come until all of those are gone; but never more than CODES.
    """
    provider, queued = Witness(), list[Future[float]]()
    with ThreadPoolExecutor(POOL_SIZE) as callers:
        async with _sending(store, provider):
            began = time.perf_counter()
            for number in range(CODES):
                await asyncio.sleep(began + number / PER_SECOND - time.perf_counter())
                if 0 < messages == len(provider.others):
                    break
                provider.codes[mobile(number)] = asyncio.Future()
                queued.append(callers.submit(_queue_code, store, mobile(number)))
            async with asyncio.timeout(LOST_SECONDS):
                at = await asyncio.gather(*map(asyncio.wrap_future, queued))
                came = await asyncio.gather(*provider.codes.values())
    took = [end - begin for begin, end in zip(at, came, strict=True)]
    others = provider.others
    return took, len(others) / (others[-1] - began) if others else 0


@asynccontextmanager
async def _sending(store: Store, provider: Provider) -> AsyncIterator[None]:
    """Send and feed as a gateway does, as long as the block runs."""
    with ThreadPoolExecutor(gateway.POOL_SIZE) as pool:
        dispatcher = Dispatcher(store, [provider], Templates.load(), pool)
        feeder = Feeder(store, pool)
        async with asyncio.TaskGroup() as running:
            running.create_task(dispatcher.run())
            running.create_task(feeder.run())
            try:
                yield
            finally:
                feeder.stop()
                dispatcher.stop()


def _queue_code(store: Store, to: str) -> float:
    """Queue a code as the store does; give when that was committed."""
    until = store.clock() + LIFE
    notice = Notice(notices.Template.CODE, None, Contact(Route.SMS, to), CODE, until)
    with store.database.write() as transaction:
        notices.queue(store, transaction, notice)
    return time.perf_counter()


def _print(what: str, took: list[float], others: float) -> None:
    click.echo(
        f"  {what:<34} p50 {percentile(took, 0.5) * 1000:6,.0f} ms"
        f"   p99 {percentile(took, 0.99) * 1000:6,.0f} ms"
        f"   beside {others:5,.0f} others a second"
    )
