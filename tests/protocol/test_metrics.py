"""What Prometheus is told, by real scrapes on both databases."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from sqlalchemy import update

from shared import campaigns, outbox
from shared.campaigns import Move, Plan
from shared.database import Database
from shared.models import Message, MessageState, Route
from shared.outbox import Report, Result
from shared.store import Store
from sms import census, metrics
from sms.http import Backend, application, metrics_application, serving
from sms.templates import Templates
from tests.campaigns import draft, mobiles, move, started
from tests.gateway import (
    ACCEPTED,
    MOBILE,
    PASSWORD,
    MoodyProvider,
    answers,
    attempts,
    dispatching,
    message,
    queue,
    until,
)
from tests.scraping import Scrape, grown, monitored, scrape
from tests.store import FakeClock, execute

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
# What a provider might quote; not MOBILE: others look for that in the whole server's files.
QUOTED_NUMBER, QUOTED_DIGITS = "+33700112233", "55667788"
LETTER = "letter-password"
LETTER_LATE = timedelta(hours=72)  # R25


def change(store: Store, message_id: UUID, **values: object) -> None:
    """Change a message behind the outbox's back."""
    of_message = update(Message).where(Message.id == message_id)
    execute(store, lambda transaction: transaction.execute(of_message.values(values)))


def send(store: Store, result: Result = Result.ACCEPTED) -> UUID:
    """Let a provider take the next message; give the attempt's id."""
    [claim] = outbox.claim(store, "moody", Templates.load().render, 1)
    outbox.finish(store, claim, Report(result, provider_id="SM1"), 300)
    return claim.attempt_id


async def test_the_queue_is_told_by_kind_with_its_age(store: Store, clock: FakeClock) -> None:
    queue(store)
    clock.advance(MINUTE)
    queue(store)
    queue(store, template="password-old-mobile")
    letter = queue(store, template=LETTER)
    change(store, letter, route=Route.LETTER)
    clock.advance(MINUTE)
    page = await scrape(store)
    assert page.series("svi_queue_messages") == {
        # route, state, template
        ("sms", "queued", "password"): 2,
        ("sms", "queued", "password-old-mobile"): 1,
        ("letter", "queued", LETTER): 1,
    }
    assert page.series("svi_queue_oldest_seconds") == {
        ("sms", "password"): 120,
        ("sms", "password-old-mobile"): 60,
        ("letter", LETTER): 60,
    }


async def test_what_waits_for_its_next_try_is_still_due(store: Store, clock: FakeClock) -> None:
    """Else an outage of the provider would make the queue look young between two tries."""
    queued = queue(store)
    send(store, Result.RETRY)
    clock.advance(MINUTE)
    assert message(store, queued).next_at > clock.now
    assert (await scrape(store)).series("svi_queue_oldest_seconds") == {("sms", "password"): 60}


async def test_what_is_for_later_or_under_way_is_not_due(store: Store, clock: FakeClock) -> None:
    """A letter without an address that may be trusted is looked at again the next day (D04)."""
    change(store, queue(store, template=LETTER), route=Route.LETTER, next_at=clock.now + DAY)
    queue(store)
    outbox.claim(store, "moody", Templates.load().render, 1)
    queue(store, template="password-old-mobile")
    send(store, Result.UNCERTAIN)
    clock.advance(MINUTE)
    page = await scrape(store)
    assert page.series("svi_queue_oldest_seconds") == {}
    assert page.series("svi_queue_messages") == {
        ("letter", "queued", LETTER): 1,
        ("sms", "sending", "password"): 1,
        ("sms", "uncertain", "password-old-mobile"): 1,
    }


async def test_messages_of_a_day_are_told_by_where_they_stand(
    store: Store, clock: FakeClock
) -> None:
    queue(store)
    send(store)
    clock.advance(2 * MINUTE)
    for state in (MessageState.EXPIRED, MessageState.EXPIRED, MessageState.DELIVERED):
        change(store, queue(store), state=state)
    queue(store)
    assert (await scrape(store)).series("svi_messages_last_day") == {
        ("sms", "accepted"): 1,
        ("sms", "expired"): 2,
        ("sms", "delivered"): 1,
        ("sms", "queued"): 1,
    }
    clock.advance(DAY - MINUTE)
    assert ("sms", "accepted") not in (await scrape(store)).series("svi_messages_last_day")


async def test_what_a_provider_took_and_forgot_is_told(store: Store, clock: FakeClock) -> None:
    """It is final for us: nothing of what it said is left to be sent again (D16)."""
    forgotten, delivered, undelivered, mail = [(queue(store), send(store))[0] for _ in range(4)]
    change(store, mail, route=Route.MAIL)  # which has no receipt
    queue(store)
    clock.advance(59 * MINUTE)
    send(store)  # what was asked for an hour ago, and taken now
    just_taken = queue(store)
    send(store)
    queue(store)
    send(store, Result.UNCERTAIN)  # whose fate is an alarm of its own
    change(store, delivered, state=MessageState.DELIVERED, ended_at=clock.now)
    change(store, undelivered, state=MessageState.UNDELIVERED, ended_at=clock.now)
    page = await scrape(store)
    assert page.series("svi_messages_taken") == {}
    clock.advance(MINUTE)
    page = await scrape(store)
    # provider, receipt
    assert page.series("svi_messages_taken") == {("moody", "no"): 1, ("moody", "yes"): 2}
    clock.advance(DAY - 5 * MINUTE)
    for _ in range(3):  # whatever time goes by
        outbox.recover(store)
        clock.advance(MINUTE)
    assert message(store, just_taken).state == MessageState.ACCEPTED
    assert (await scrape(store)).series("svi_messages_taken") == {("moody", "no"): 1}
    kept = message(store, forgotten)
    assert kept.state == MessageState.ACCEPTED
    assert kept.text_sealed is kept.content_sealed is kept.destination_sealed is None
    assert len(attempts(store, forgotten)) == 1


async def test_recipients_of_campaigns_are_told_in_all(store: Store) -> None:
    """By state alone, until their campaign has ended."""
    first = started(store, mobiles(2))
    draft(store, mobiles(3), Plan("autre", Route.SMS, "notice.rendez-vous"))
    campaigns.feed(store)
    page = await scrape(store)
    assert page.series("svi_campaign_recipients") == {("held",): 3, ("queued",): 2}
    assert page.series("svi_messages_last_day") == {}
    move(store, first, Move.CANCEL)
    campaigns.feed(store)
    assert (await scrape(store)).series("svi_campaign_recipients") == {("held",): 3}


async def test_what_campaigns_sent_tells_nothing_of_receipts(
    store: Store, clock: FakeClock
) -> None:
    """Among so many nobody would see that those of codes are missing."""
    started(store, mobiles(2))
    campaigns.feed(store)
    send(store)
    clock.advance(61 * MINUTE)
    assert (await scrape(store)).series("svi_messages_taken") == {}
    queue(store)
    send(store)
    clock.advance(61 * MINUTE)
    assert (await scrape(store)).series("svi_messages_taken") == {("moody", "no"): 1}


async def test_late_letters_are_counted(store: Store, clock: FakeClock) -> None:
    change(store, queue(store, template=LETTER), route=Route.LETTER)
    assert (await scrape(store)).value("svi_letters_overdue") == 0
    clock.advance(LETTER_LATE)
    assert (await scrape(store)).value("svi_letters_overdue") == 1


SENDS = [
    # what a provider answers, and what is counted
    (Report(Result.ACCEPTED, provider_id="SM1"), ("", "accepted")),
    (Report(Result.RETRY, "20429"), ("20429", "retry")),
    (Report(Result.REFUSED, "21211"), ("21211", "refused")),
    (Report(Result.REFUSED, "ESME_RINVDSTADR"), ("ESME_RINVDSTADR", "refused")),
    (Report(Result.UNCERTAIN, "timeout"), ("timeout", "uncertain")),
    (Report(Result.REFUSED, "a code of tomorrow"), ("other", "refused")),
    (Report(Result.REFUSED, QUOTED_NUMBER), ("other", "refused")),
]


@pytest.mark.parametrize(("report", "counted"), SENDS)
async def test_an_attempt_is_counted_by_what_came_of_it(
    store: Store, report: Report, counted: tuple[str, str]
) -> None:
    before = await scrape(store)
    queued = queue(store)
    async with dispatching(store, MoodyProvider(answers(report), fate=ACCEPTED)):
        await until(lambda: [one.result for one in attempts(store, queued)] == [report.result])
    code, result = counted
    labels = {"provider": "moody", "result": result, "code": code}
    assert grown(before, await scrape(store), "svi_sends_total", **labels) == 1


async def test_how_long_messages_wait_for_a_provider(store: Store, clock: FakeClock) -> None:
    before = await scrape(store)
    queued = queue(store)
    clock.advance(7 * MINUTE)
    async with dispatching(store, MoodyProvider()):
        await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
    after = await scrape(store)
    grew = [
        grown(before, after, f"svi_message_acceptance_seconds_{part}", template="password")
        for part in ("count", "sum")
    ]
    assert grew == [1, 420]


async def test_a_message_whose_fate_was_looked_up_is_accepted_once(store: Store) -> None:
    """D19: its attempt was uncertain, and stays counted as that."""
    before = await scrape(store)
    queue(store)

    def taken() -> float:
        now, name = Scrape(metrics.page(None, []).decode()), "svi_message_acceptance_seconds_count"
        return grown(before, now, name, template="password")

    provider = MoodyProvider(answers(Report(Result.UNCERTAIN, "cut")), fate=ACCEPTED)
    async with dispatching(store, provider):
        await until(taken)
    assert taken() == 1
    cut = {"provider": "moody", "result": "uncertain", "code": "cut"}
    assert grown(before, await scrape(store), "svi_sends_total", **cut) == 1


@pytest.mark.parametrize("works", [True, False])
async def test_it_is_told_whether_messages_go_out(store: Store, *, works: bool) -> None:
    async with monitored(store, works=works) as prometheus:
        page = await prometheus.scrape()
    assert page.value("svi_dispatcher_working", provider="moody", route="sms") == works
    assert page.value("svi_database_up") == 1


async def test_without_its_database_a_gateway_tells_what_it_knows(
    store: Store, tmp_path: Path
) -> None:
    away = replace(store, database=Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}"))
    page = await scrape(away)
    away.database.close()
    assert page.value("svi_database_up") == 0
    assert page.value("svi_dispatcher_working", provider="moody", route="sms") == 1
    counted_there = {"svi_queue_messages", "svi_messages_last_day", "svi_letters_overdue"}
    assert not counted_there & page.labels().keys()


async def test_a_stuck_database_does_not_hang_a_scrape(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sms.probe.PROBE_SECONDS", 0.1)
    unstuck, take, asked = threading.Event(), census.take, []

    def stuck(of: Store) -> census.Census:
        asked.append(of)
        assert unstuck.wait(10)
        return take(of)

    monkeypatch.setattr(census, "take", stuck)
    async with monitored(store) as prometheus:
        for _ in range(5):
            assert (await prometheus.scrape()).value("svi_database_up") == 0
        assert len(asked) == 1, "impatient scrapes filled the pool"
        unstuck.set()
        assert (await prometheus.scrape()).value("svi_database_up") == 1


async def test_nothing_personal_is_shown(store: Store) -> None:
    """D13: no number, contact, text or identifier, not even what a provider put into a code."""
    hostile = [
        Report(Result.REFUSED, f"to {QUOTED_NUMBER}"),
        Report(Result.UNCERTAIN, QUOTED_DIGITS),
        Report(Result.RETRY, QUOTED_NUMBER),
    ]
    queued = [queue(store) for _ in range(4)]
    provider = MoodyProvider(*map(answers, hostile))
    async with dispatching(store, provider):
        await until(lambda: all(attempts(store, one) for one in queued))
        await until(lambda: all(attempts(store, one)[0].result for one in queued))
    page = await scrape(store)
    assert page.series("svi_sends_total")  # else this would show nothing
    of_people = [MOBILE[3:], PASSWORD, "SM1", QUOTED_NUMBER[3:], QUOTED_DIGITS]
    of_messages = [str(identifier) for one in queued for identifier in [one, *ids(store, one)]]
    for personal in [*of_people, *of_messages]:
        assert personal not in page.text
    for value in page.label_values():
        assert not re.search(r"\d{6}", value), value
        assert re.fullmatch(r"[\w.+-]{0,30}", value), value


def ids(store: Store, message_id: UUID) -> list[UUID]:
    return [attempt.id for attempt in attempts(store, message_id)]


async def test_strangers_see_no_metrics(store: Store) -> None:
    """Twilio's callbacks come by the public listener; nothing else than metrics is on theirs."""
    with ThreadPoolExecutor(2) as pool:
        public = application(Backend(store, pool, lambda: True))
        private = metrics_application(store, pool, list)
        async with (
            serving(public, "127.0.0.1", 0) as public_port,
            serving(private, "127.0.0.1", 0) as private_port,
            aiohttp.ClientSession() as session,
        ):
            asked = [(public_port, "metrics"), (private_port, "readyz"), (private_port, "")]
            for port, path in asked:
                async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                    assert answer.status == 404, path
                    assert answer.content_type == "application/problem+json"
