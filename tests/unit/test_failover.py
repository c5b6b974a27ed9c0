"""Several providers: in order, and the next one only where nothing can have been sent."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from threading import Event
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from structlog.testing import capture_logs

from shared import outbox, providers
from shared.errors import DrainedError
from shared.models import Message, MessageState, Priority
from shared.outbox import Rendered, Report, Result
from shared.store import Store
from sms.breaker import Patience
from sms.lane import Out
from sms.provider import Outgoing, ProviderStoppedError
from tests.gateway import (
    ACCEPTED,
    FAST,
    LONG,
    MoodyProvider,
    Temper,
    answers,
    answers_once,
    attempts,
    dispatching,
    hangs,
    message,
    queue,
    raises,
    skip,
    until,
)
from tests.store import FakeClock, execute

THE_TEXT = Rendered("the text", "0123abcd")
RETRY = Report(Result.RETRY, "unreachable")
UNCERTAIN = Report(Result.UNCERTAIN, "cut")
REFUSED = Report(Result.REFUSED, "21610")
THROTTLED = Report(Result.RETRY, "20429", retry_after=3600)
REPEAT_WAIT = timedelta(minutes=2)  # D19
HOUR = timedelta(hours=1)
WARY = replace(FAST, patience=Patience(failures=2, first=LONG, longest=LONG))
ONE_BY_ONE = replace(WARY, at_once=1, kept=0)  # no claim is under way while a report teaches us


def named(*names: str) -> list[MoodyProvider]:
    return [MoodyProvider(name=name) for name in names]


def state(store: Store, message_id: UUID) -> str:
    return message(store, message_id).state


async def settled(store: Store, message_id: UUID, wanted: MessageState) -> None:
    await until(lambda: state(store, message_id) == wanted)


def tries(store: Store, message_id: UUID) -> list[tuple[str, str | None]]:
    """Give who was asked, and what came of it."""
    return [(one.provider, one.result) for one in attempts(store, message_id)]


# What goes to the next one


async def test_the_first_has_them_all_as_long_as_it_works(store: Store) -> None:
    first, second = named("first", "second")
    queued = [queue(store) for _ in range(20)]
    async with dispatching(store, [first, second]):
        for one in queued:
            await settled(store, one, MessageState.ACCEPTED)
    assert (len(first.asked), len(second.asked)) == (20, 0)


NOT_SENT: dict[str, Temper] = {
    "out of reach": answers(RETRY),
    "throttled": answers(THROTTLED),
    "our account is refused": raises(ProviderStoppedError()),
}


@pytest.mark.parametrize("temper", NOT_SENT.values(), ids=NOT_SENT)
async def test_what_surely_was_not_sent_goes_to_the_next_at_once(
    store: Store, temper: Temper
) -> None:
    """The clock stands still: there is no wait for the next try."""
    first, second = MoodyProvider(temper, name="first"), MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await settled(store, queued, MessageState.ACCEPTED)
    assert tries(store, queued) == [("first", Result.RETRY), ("second", Result.ACCEPTED)]
    row = message(store, queued)
    assert (row.provider, row.claims, row.failures, row.repeated) == ("second", 2, 0, False)
    [asked], [asked_next] = first.asked, second.asked
    assert asked.text.reveal() == asked_next.text.reveal()
    assert asked.attempt_id != asked_next.attempt_id


MAY_BE_SENT: dict[str, tuple[Temper, MessageState]] = {
    "a doubt (D19)": (answers(UNCERTAIN), MessageState.UNCERTAIN),
    "a fault": (raises(ConnectionResetError()), MessageState.UNCERTAIN),
    "a refusal": (answers(REFUSED), MessageState.REFUSED),
}


@pytest.mark.parametrize(("temper", "end"), MAY_BE_SENT.values(), ids=MAY_BE_SENT)
async def test_nothing_else_goes_to_the_next(
    store: Store, temper: Temper, end: MessageState
) -> None:
    first, second = MoodyProvider(temper, name="first"), MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await settled(store, queued, end)
        await asyncio.sleep(0.05)
    assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_a_doubt_at_the_second_does_not_go_to_the_third(store: Store) -> None:
    first = MoodyProvider(answers(RETRY), name="first")
    second = MoodyProvider(answers(UNCERTAIN), name="second")
    third = MoodyProvider(name="third")
    queued = queue(store)
    async with dispatching(store, [first, second, third]):
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: second.looked_up)
    assert tries(store, queued) == [("first", Result.RETRY), ("second", Result.UNCERTAIN)]
    assert (third.asked, first.looked_up) == ([], [])
    assert set(second.looked_up) == {second.asked[0].attempt_id}


async def test_with_none_left_it_waits_for_its_next_try(store: Store, clock: FakeClock) -> None:
    """Each was asked once in this round; the next round begins with the first again."""
    tempers = [answers(RETRY)]
    three = [MoodyProvider(*tempers, name=name) for name in ("first", "second", "third")]
    queued = queue(store)
    async with dispatching(store, three):
        await until(lambda: message(store, queued).failures == 1)
        assert state(store, queued) == MessageState.QUEUED
        await asyncio.sleep(0.03)
        assert [len(one.asked) for one in three] == [1, 1, 1]
        clock.advance(timedelta(minutes=1))
        await settled(store, queued, MessageState.ACCEPTED)
    assert [len(one.asked) for one in three] == [2, 1, 1]


async def test_one_of_several_that_throttles_us_delays_no_message(
    store: Store, clock: FakeClock
) -> None:
    first = MoodyProvider(answers(RETRY), name="first")
    second = MoodyProvider(answers(THROTTLED), name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await until(lambda: message(store, queued).failures == 1)
        clock.advance(timedelta(seconds=store.rules.outbox.retry_seconds))
        await settled(store, queued, MessageState.ACCEPTED)
    assert (len(first.asked), len(second.asked)) == (2, 1)


async def test_a_campaign_waits_for_one_that_merely_throttles_us_and_a_code_does_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """The next one may be dearer: a campaign has the day, a code ten minutes (R15)."""
    first, second = MoodyProvider(answers(THROTTLED), name="first"), MoodyProvider(name="second")
    campaign = [queue(store, priority=Priority.CAMPAIGN) for _ in range(3)]
    async with dispatching(store, [first, second]):
        await until(lambda: first.asked)
        code = queue(store, priority=Priority.CODE)
        await settled(store, code, MessageState.ACCEPTED)
        await until(lambda: not any(state(store, one) == "sending" for one in campaign))
        clock.advance(HOUR)
        await asyncio.sleep(0.05)
        assert [one.message_id for one in second.asked] == [code]
        skip(HOUR.total_seconds(), monkeypatch)
        for one in campaign:
            await settled(store, one, MessageState.ACCEPTED)
    assert [one.message_id for one in second.asked] == [code]


async def test_a_campaign_goes_to_the_next_if_the_preferred_one_fails(store: Store) -> None:
    first, second = MoodyProvider(answers(RETRY), name="first"), MoodyProvider(name="second")
    campaign = queue(store, priority=Priority.CAMPAIGN)
    async with dispatching(store, [first, second]):
        await settled(store, campaign, MessageState.ACCEPTED)
    assert tries(store, campaign) == [("first", Result.RETRY), ("second", Result.ACCEPTED)]


async def test_a_campaign_passes_by_no_provider_that_throttles_us(store: Store) -> None:
    """The first fails, and the second would take it in a while: the third is not for it."""
    first, second, third = named("first", "second", "third")
    first.otherwise, second.otherwise = answers(RETRY), answers(THROTTLED)
    async with dispatching(store, [first, second, third]):
        await settled(store, queue(store), MessageState.ACCEPTED)
        campaign = queue(store, priority=Priority.CAMPAIGN)
        await until(lambda: message(store, campaign).failures == 1)
    assert tries(store, campaign) == [("first", Result.RETRY)]
    assert (len(second.asked), len(third.asked)) == (1, 1)


# How many it takes at once


class Gate:
    """Has all that is sent wait until it is opened, and counts what is under way."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.under_way = 0
        self.most = 0

    async def __call__(self, _: Outgoing) -> Report:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.opened.wait()
        self.under_way -= 1
        return ACCEPTED


def gated(window: int, name: str = "first") -> tuple[MoodyProvider, Gate]:
    provider, gate = MoodyProvider(name=name, window=window), Gate()
    provider.otherwise = gate
    return provider, gate


async def test_a_provider_has_no_more_under_way_than_it_takes_at_once(store: Store) -> None:
    alone, gate = gated(3)
    queued = [queue(store) for _ in range(10)]
    async with dispatching(store, alone):
        await until(lambda: gate.under_way == 3)
        await asyncio.sleep(0.05)
        gate.opened.set()
        for one in queued:
            await settled(store, one, MessageState.ACCEPTED)
    assert gate.most == 3
    assert [len(tries(store, one)) for one in queued] == [1] * 10


async def test_what_is_passed_on_to_it_counts(store: Store) -> None:
    first = MoodyProvider(name="first")
    first.otherwise = answers(RETRY)
    second, gate = gated(2, "second")
    queued = [queue(store) for _ in range(6)]
    async with dispatching(store, [first, second]):
        await until(lambda: sum(message(store, one).failures for one in queued) == 4)
        await until(lambda: gate.under_way == 2)
        gate.opened.set()
    assert gate.most == 2


async def test_a_campaign_waits_for_a_place_and_a_code_goes_to_the_next(store: Store) -> None:
    first, gate = gated(2)
    second = MoodyProvider(name="second")
    campaign = [queue(store, priority=Priority.CAMPAIGN) for _ in range(6)]
    async with dispatching(store, [first, second]):
        await until(lambda: gate.under_way == 2)
        code = queue(store, priority=Priority.CODE)
        await settled(store, code, MessageState.ACCEPTED)
        await asyncio.sleep(0.05)
        assert [one.message_id for one in second.asked] == [code]
        gate.opened.set()
        for one in campaign:
            await settled(store, one, MessageState.ACCEPTED)
    assert (gate.most, len(second.asked)) == (2, 1)


async def test_codes_keep_their_share_of_its_places(store: Store) -> None:
    """As of all that are under way: a campaign never fills a window."""
    first, gate = gated(8)
    second = MoodyProvider(name="second")
    campaign = [queue(store, priority=Priority.CAMPAIGN) for _ in range(20)]
    async with dispatching(store, [first, second], replace(FAST, at_once=16, kept=4)):
        await until(lambda: gate.under_way == 6)
        await asyncio.sleep(0.05)
        assert gate.under_way == 6
        codes = [queue(store, priority=Priority.CODE) for _ in range(2)]
        await until(lambda: gate.under_way == 8)
        assert {one.message_id for one in first.asked} >= set(codes)
        gate.opened.set()
        for one in campaign:
            await settled(store, one, MessageState.ACCEPTED)
    assert second.asked == []


async def test_a_message_taken_back_meanwhile_goes_to_nobody_else(
    store: Store, clock: FakeClock
) -> None:
    """One that is being sent gets no further try."""
    asked = asyncio.Event()
    first = MoodyProvider(answers_once(asked, RETRY), name="first")
    second = MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await until(lambda: first.asked)
        change(store, queued, expires_at=clock.now)
        asked.set()
        await settled(store, queued, MessageState.EXPIRED)
    assert second.asked == []


async def test_a_stop_passes_nothing_on(store: Store) -> None:
    stopped = asyncio.Event()
    first = MoodyProvider(answers_once(stopped, RETRY), name="first")
    second = MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]) as dispatcher:
        await until(lambda: first.asked)
        dispatcher.stop()
        stopped.set()
        await settled(store, queued, MessageState.QUEUED)
    assert tries(store, queued) == [("first", Result.RETRY)]


def change(store: Store, message_id: UUID, **values: object) -> None:
    """Change a message behind the outbox's back."""
    of_message = update(Message).where(Message.id == message_id)
    execute(store, lambda transaction: transaction.execute(of_message.values(values)))


# The order, and who is let alone


async def test_one_that_fails_too_often_is_let_alone_and_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = MoodyProvider(*[answers(RETRY)] * 2, name="first")
    second = MoodyProvider(name="second")
    async with dispatching(store, [first, second], ONE_BY_ONE) as dispatcher:
        for _ in range(5):
            await settled(store, queue(store), MessageState.ACCEPTED)
        assert (len(first.asked), len(second.asked)) == (2, 5)
        assert [one.out for one in dispatcher.standings] == [Out.FAILING, None]
        assert [one.works for one in dispatcher.standings] == [False, True]
        assert dispatcher.working
        skip(LONG, monkeypatch)
        # The second may be looking for work that very moment, and have this one.
        await settled(store, queue(store), MessageState.ACCEPTED)
        tried, by_second = len(first.asked), len(second.asked)
        for _ in range(2):
            await settled(store, queue(store), MessageState.ACCEPTED)
        assert [one.out for one in dispatcher.standings] == [None, None]
    assert (len(first.asked), len(second.asked)) == (tried + 2, by_second)


async def test_one_message_at_a_time_tries_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is slow then holds up one message; the others go by the next."""
    first = MoodyProvider(*[answers(RETRY)] * 2, hangs, name="first")
    second = MoodyProvider(name="second")
    async with dispatching(store, [first, second], replace(WARY, stop=0.1)):
        for _ in range(2):
            await settled(store, queue(store), MessageState.ACCEPTED)
        skip(LONG, monkeypatch)
        queued = [queue(store) for _ in range(20)]
        await until(lambda: sum(state(store, one) == "accepted" for one in queued) == 19)
        assert len(first.asked) == 3
        await settled(store, queue(store), MessageState.ACCEPTED)
        assert len(first.asked) == 3


async def test_a_message_that_nobody_waits_for_may_try_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places that are kept for codes are not the one of the trial."""
    alone = MoodyProvider(*[answers(RETRY)] * 2)
    awaited = [queue(store), queue(store)]
    async with dispatching(store, alone, WARY):
        await until(lambda: all(message(store, one).failures for one in awaited))
        for one in awaited:
            change(store, one, state=MessageState.EXPIRED)
        campaign = queue(store, priority=Priority.CAMPAIGN)
        await asyncio.sleep(0.03)
        assert len(alone.asked) == 2
        skip(LONG, monkeypatch)
        await settled(store, campaign, MessageState.ACCEPTED)


async def test_one_that_turns_us_away_stops_alone(store: Store) -> None:
    """Our configuration with it is wrong: one alarm, the other carries all."""
    first = MoodyProvider(*[raises(ProviderStoppedError())] * 99, name="first")
    second = MoodyProvider(name="second")
    queued = [queue(store) for _ in range(5)]
    with capture_logs() as logs:
        async with dispatching(store, [first, second]) as dispatcher:
            for one in queued:
                await settled(store, one, MessageState.ACCEPTED)
            asked = len(first.asked)
            await settled(store, queue(store), MessageState.ACCEPTED)
            assert len(first.asked) == asked
            assert dispatcher.working
            assert [one.out for one in dispatcher.standings] == [Out.STOPPED, None]
    alarms = [log for log in logs if log["log_level"] == "critical"]
    assert [(log["event"], log["provider"]) for log in alarms] == [("provider_stopped", "first")]


async def test_it_does_not_work_once_all_have_turned_us_away(store: Store) -> None:
    both = [
        MoodyProvider(*[raises(ProviderStoppedError())] * 9, name=name)
        for name in ("first", "second")
    ]
    queued = queue(store)
    async with dispatching(store, both) as dispatcher:
        await until(lambda: message(store, queued).failures)
        assert not dispatcher.working
        assert [one.out for one in dispatcher.standings] == [Out.STOPPED] * 2
    assert tries(store, queued) == [("first", Result.RETRY), ("second", Result.RETRY)]


# Doubts (D19)


async def test_a_doubt_is_looked_up_at_who_had_it_even_if_it_is_let_alone(store: Store) -> None:
    first = MoodyProvider(*[answers(UNCERTAIN)] * 2, name="first")
    second = MoodyProvider(fate=ACCEPTED, name="second")
    queued = [queue(store) for _ in range(2)]
    async with dispatching(store, [first, second], WARY) as dispatcher:
        for one in queued:
            await settled(store, one, MessageState.UNCERTAIN)
        await until(lambda: dispatcher.standings[0].out is Out.FAILING)
        first.fate = ACCEPTED
        for one in queued:
            await settled(store, one, MessageState.ACCEPTED)
    assert (len(first.asked), second.asked, second.looked_up) == (2, [], [])


async def test_the_repeat_may_go_by_another_with_the_same_text(
    store: Store, clock: FakeClock
) -> None:
    first = MoodyProvider(answers(UNCERTAIN), *[answers(RETRY)] * 9, name="first")
    second = MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: first.looked_up)
        clock.advance(REPEAT_WAIT)
        await settled(store, queued, MessageState.ACCEPTED)
    assert tries(store, queued) == [
        ("first", Result.UNCERTAIN),
        ("first", Result.RETRY),
        ("second", Result.ACCEPTED),
    ]
    assert message(store, queued).repeated
    texts = {sent.text.reveal() for sent in [*first.asked, *second.asked]}
    assert len(texts) == 1


async def test_it_is_repeated_once_whoever_has_it(store: Store, clock: FakeClock) -> None:
    first = MoodyProvider(answers(UNCERTAIN), answers(RETRY), name="first")
    second = MoodyProvider(answers(UNCERTAIN), name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: first.looked_up)
        clock.advance(REPEAT_WAIT)
        await until(lambda: second.looked_up)
        clock.advance(REPEAT_WAIT)
        await settled(store, queued, MessageState.LOST)
    assert (len(first.asked), len(second.asked)) == (2, 1)


async def test_what_one_had_that_is_no_longer_configured_is_repeated_by_another(
    store: Store, clock: FakeClock
) -> None:
    """Nobody can look it up; its receipt had 2 minutes to come."""
    queued = queue(store)
    [claim] = outbox.claim(store, "of yesterday", lambda *_: THE_TEXT, 1)
    outbox.finish(store, claim, UNCERTAIN, 0)
    provider = MoodyProvider()
    async with dispatching(store, provider):
        clock.advance(REPEAT_WAIT - timedelta(seconds=1))
        await asyncio.sleep(0.05)
        assert (provider.asked, provider.looked_up) == ([], [])
        clock.advance(timedelta(seconds=1))
        await settled(store, queued, MessageState.ACCEPTED)
    assert message(store, queued).repeated


async def test_what_one_had_that_turns_us_away_is_repeated_by_another(
    store: Store, clock: FakeClock
) -> None:
    first = MoodyProvider(answers(UNCERTAIN), name="first", fate=ProviderStoppedError())
    second = MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]) as dispatcher:
        await until(lambda: dispatcher.standings[0].out is Out.STOPPED)
        clock.advance(REPEAT_WAIT)
        await settled(store, queued, MessageState.ACCEPTED)
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_good_news_of_the_first_ends_what_the_second_has(store: Store, clock: FakeClock) -> None:
    """Then the message is where the receipt says, by the first one's name for it."""
    queued = queue(store)
    [doubtful] = outbox.claim(store, "first", lambda *_: THE_TEXT, 1)
    outbox.finish(store, doubtful, UNCERTAIN, 0)
    clock.advance(REPEAT_WAIT)
    outbox.recover(store)
    [repeated] = outbox.claim(store, "second", lambda *_: THE_TEXT, 1)
    outbox.receipt(store, doubtful.attempt_id, "SM-first", MessageState.DELIVERED)
    assert not outbox.finish(store, repeated, replace(ACCEPTED, provider_id="SM-second"), 0)
    row = message(store, queued)
    assert (row.state, row.provider, row.provider_id) == ("delivered", "first", "SM-first")


def test_bad_news_of_the_first_says_nothing_of_what_the_second_has(
    store: Store, clock: FakeClock
) -> None:
    queued = queue(store)
    [doubtful] = outbox.claim(store, "first", lambda *_: THE_TEXT, 1)
    outbox.finish(store, doubtful, UNCERTAIN, 0)
    clock.advance(REPEAT_WAIT)
    outbox.recover(store)
    [repeated] = outbox.claim(store, "second", lambda *_: THE_TEXT, 1)
    outbox.finish(store, repeated, replace(ACCEPTED, provider_id="SM-second"), 0)
    outbox.receipt(store, doubtful.attempt_id, "SM-first", MessageState.UNDELIVERED)
    row = message(store, queued)
    assert (row.state, row.provider, row.provider_id) == ("accepted", "second", "SM-second")


async def test_what_a_provider_refuses_for_a_reason_of_its_own_goes_to_the_next(
    store: Store,
) -> None:
    """Its sender was deregistered there: the number is none the worse for it."""
    of_its_own = Report(Result.REFUSED, "ESME_RINVSRCADR", elsewhere=True)
    first, second = MoodyProvider(answers(of_its_own), name="first"), MoodyProvider(name="second")
    queued = queue(store)
    async with dispatching(store, [first, second]):
        await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
    assert message(store, queued).provider == "second"


async def test_what_every_provider_refuses_is_refused(store: Store) -> None:
    of_its_own = Report(Result.REFUSED, "ESME_RINVSRCADR", elsewhere=True)
    both = [MoodyProvider(*[answers(of_its_own)] * 3, name=name) for name in ("first", "second")]
    queued = queue(store)
    async with dispatching(store, both):
        await until(lambda: message(store, queued).state == MessageState.REFUSED)
    assert [len(one.asked) for one in both] == [1, 1]


# Passing on, in the outbox


def claimed(store: Store) -> tuple[UUID, outbox.Claim]:
    queued = queue(store)
    [claim] = outbox.claim(store, "first", lambda *_: THE_TEXT, 1)
    return queued, claim


def test_passing_on_commits_the_next_attempt_with_a_lease_of_its_own(
    store: Store, clock: FakeClock
) -> None:
    queued, claim = claimed(store)
    clock.advance(timedelta(seconds=20))
    following = outbox.pass_on(store, claim, RETRY, "second")
    assert following is not None
    assert (following.number, following.text.reveal()) == (2, THE_TEXT.text)
    row = message(store, queued)
    lease = timedelta(seconds=store.rules.outbox.lease_seconds)
    assert (row.state, row.claims, row.provider) == ("sending", 2, "second")
    assert row.next_at == clock.now + lease
    assert tries(store, queued) == [("first", Result.RETRY), ("second", None)]
    assert not outbox.finish(store, claim, RETRY, 0)  # the fence
    assert outbox.finish(store, following, ACCEPTED, 0)


def test_what_others_hold_by_now_is_not_passed_on(store: Store, clock: FakeClock) -> None:
    queued, claim = claimed(store)
    clock.advance(HOUR)
    outbox.recover(store)
    clock.advance(REPEAT_WAIT)
    outbox.recover(store)
    [other] = outbox.claim(store, "third", lambda *_: THE_TEXT, 1)
    assert outbox.pass_on(store, claim, RETRY, "second") is None
    row = message(store, queued)
    assert (row.claims, row.provider) == (other.number, "third")
    assert len(attempts(store, queued)) == 2


def test_a_lease_that_ended_and_nobody_took_is_no_doubt_once_we_know(
    store: Store, clock: FakeClock
) -> None:
    queued, claim = claimed(store)
    clock.advance(HOUR)
    outbox.recover(store)
    assert state(store, queued) == MessageState.UNCERTAIN
    assert outbox.pass_on(store, claim, RETRY, "second") is not None
    assert state(store, queued) == MessageState.SENDING


def test_what_is_over_is_not_passed_on(store: Store, clock: FakeClock) -> None:
    queued, claim = claimed(store)
    clock.advance(timedelta(days=1))
    assert outbox.pass_on(store, claim, RETRY, "second") is None
    assert outbox.finish(store, claim, RETRY, 0)
    outbox.recover(store)
    assert state(store, queued) == MessageState.EXPIRED


# Out of service


async def test_a_drained_provider_is_given_nothing_until_it_is_put_back(store: Store) -> None:
    """No dispatcher is started again for it."""
    first, second = named("first", "second")
    async with dispatching(store, [first, second]) as dispatcher:
        await settled(store, queue(store), MessageState.ACCEPTED)
        providers.drain(store, "first")
        for _ in range(5):
            await settled(store, queue(store), MessageState.ACCEPTED)
        assert (len(first.asked), len(second.asked)) == (1, 5)
        assert [one.out for one in dispatcher.standings] == [Out.DRAINED, None]
        assert providers.restore(store, "first")
        await until(lambda: dispatcher.standings[0].out is None)
        await settled(store, queue(store), MessageState.ACCEPTED)
    assert (len(first.asked), len(second.asked)) == (2, 5)


async def test_nothing_is_passed_on_to_a_drained_one(store: Store) -> None:
    asked = asyncio.Event()
    first = MoodyProvider(answers_once(asked, RETRY), name="first")
    second, third = named("second", "third")
    queued = queue(store)
    async with dispatching(store, [first, second, third]):
        await until(lambda: first.asked)
        providers.drain(store, "second")
        asked.set()
        await settled(store, queued, MessageState.ACCEPTED)
    assert (second.asked, len(third.asked)) == ([], 1)


async def test_with_all_drained_messages_wait(store: Store) -> None:
    both = named("first", "second")
    for one in both:
        providers.drain(store, one.name)
    queued = queue(store)
    async with dispatching(store, both) as dispatcher:
        await until(lambda: all(one.out is Out.DRAINED for one in dispatcher.standings))
        assert dispatcher.working  # its receipts are still to come
        assert (state(store, queued), message(store, queued).claims) == ("queued", 0)
        providers.restore(store, "second")
        await settled(store, queued, MessageState.ACCEPTED)
    assert (len(both[0].asked), len(both[1].asked)) == (0, 1)


async def test_what_a_drained_one_has_comes_to_its_end(store: Store) -> None:
    """One is being sent, one uncertain: the first is waited for, the other looked up there."""
    sent = asyncio.Event()
    first = MoodyProvider(answers(UNCERTAIN), answers_once(sent, ACCEPTED), name="first")
    second = MoodyProvider(name="second")
    doubtful = queue(store)
    async with dispatching(store, [first, second]):
        await settled(store, doubtful, MessageState.UNCERTAIN)
        slow = queue(store)
        await until(lambda: len(first.asked) == 2)
        providers.drain(store, "first")
        later = queue(store)
        await settled(store, later, MessageState.ACCEPTED)
        assert providers.under_way(store, "first") == 2
        sent.set()
        await settled(store, slow, MessageState.ACCEPTED)
        assert providers.under_way(store, "first") == 1
        first.fate = ACCEPTED
        await until(lambda: providers.under_way(store, "first") == 0)
    assert state(store, doubtful) == MessageState.ACCEPTED
    assert (len(first.asked), [one.message_id for one in second.asked]) == (2, [later])


def test_a_drain_waits_for_the_claims_that_began_before(store: Store) -> None:
    """Else one could be committed when nothing seems to be under way any more."""
    queue(store)
    claiming, claim_on = Event(), Event()

    def render(*_: object) -> Rendered:
        claiming.set()
        assert claim_on.wait(LONG)
        return THE_TEXT

    with ThreadPoolExecutor(2) as pool:
        claim = pool.submit(outbox.claim, store, "first", render, 1)
        assert claiming.wait(LONG)
        drain = pool.submit(providers.drain, store, "first")
        with pytest.raises(TimeoutError):
            drain.result(0.2)
        claim_on.set()
        assert len(claim.result(LONG)) == 1
        drain.result(LONG)
    assert providers.under_way(store, "first") == 1
    with pytest.raises(DrainedError):
        outbox.claim(store, "first", lambda *_: THE_TEXT, 1)


def test_draining_twice_keeps_since_when(store: Store, clock: FakeClock) -> None:
    since = providers.drain(store, "first")
    clock.advance(HOUR)
    assert providers.drain(store, "first") == since
    assert providers.drained(store) == {"first": since}
    assert providers.restore(store, "first")
    assert not providers.restore(store, "first")
    assert providers.drained(store) == {}


# Whatever they answer


class Ledger:
    """Providers that together know how often each text was taken."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def temper(self, kind: str) -> Temper:
        async def treat(message: Outgoing) -> Report:
            await asyncio.sleep(0)
            if kind in {"accepts", "takes and is cut off"}:
                self.taken[message.text.reveal()] += 1
            match kind:
                case "accepts":
                    return ACCEPTED
                case "out of reach":
                    return RETRY
                case "throttles":
                    return Report(Result.RETRY, "20429", retry_after=0.01)
                case "refuses":
                    return REFUSED
                case "stops":
                    raise ProviderStoppedError
            return UNCERTAIN

        return treat


KINDS = st.sampled_from(
    ["accepts", "out of reach", "throttles", "refuses", "takes and is cut off", "is cut off"]
)
MOODS = st.lists(st.lists(KINDS | st.just("stops"), max_size=8), min_size=1, max_size=2)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moods=MOODS, last=st.lists(KINDS, max_size=8), dispatchers=st.integers(1, 2))
async def test_none_is_lost_and_none_taken_twice_but_for_a_doubt(
    store: Store, clock: FakeClock, moods: list[list[str]], last: list[str], dispatchers: int
) -> None:
    """Of two or three providers, with one dispatcher or two at once; the last never stops us."""
    ledger = Ledger()
    three = [
        MoodyProvider(*map(ledger.temper, kinds or ["accepts"]), name=f"{number}")
        for number, kinds in enumerate([*moods, last])
    ]
    for one in three:
        one.otherwise = ledger.temper("accepts")
    queued = [queue(store, f"{number:08}") for number in range(6)]
    quick = replace(FAST, patience=Patience(failures=2, first=0.01, longest=0.02))
    async with AsyncExitStack() as stack:
        for _ in range(dispatchers):
            await stack.enter_async_context(dispatching(store, three, quick))
        while {state(store, one) for one in queued} & {"queued", "sending", "uncertain"}:
            await asyncio.sleep(0.02)
            clock.advance(timedelta(seconds=10))
    for message_id in queued:
        row, how = message(store, message_id), tries(store, message_id)
        [times] = {ledger.taken[sent.text.reveal()] for sent in asked(three, message_id)}
        assert times <= 1 + row.repeated
        assert not row.repeated or Result.UNCERTAIN in {result for _, result in how}
        assert (row.state == MessageState.ACCEPTED) <= (times > 0)
        if times == 0:
            assert row.state in {MessageState.REFUSED, MessageState.LOST}


def asked(of: list[MoodyProvider], message_id: UUID) -> list[Outgoing]:
    return [sent for one in of for sent in one.asked if sent.message_id == message_id]
