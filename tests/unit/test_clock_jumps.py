"""A clock that is wrong, or is put right, while messages are on their way: each state, both ways.

Nothing is lost for good, nothing is repeated but by D19, and nothing leaves after its life by the
clock. What the dispatcher does meanwhile is in test_dispatcher.py, a real process in
tests/acceptance/test_wrong_clock.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from shared import campaigns, outbox
from shared.campaigns import Move, Plan
from shared.models import Message, MessageState, Route
from shared.outbox import Claim, Report, Result
from shared.store import Store
from sms.templates import Templates
from tests.campaigns import PLAN, draft, mobiles, move, started, states
from tests.gateway import attempts, message, queue
from tests.store import FakeClock, execute

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DOUBT = timedelta(minutes=2)  # D19
LIVES = {"a password": DAY, "a code": 10 * MINUTE}  # R15
JUMPS = {
    "back an hour": -HOUR,
    "back a day": -DAY,
    "forward an hour": HOUR,
    "forward a day": DAY,
}
RENDER = Templates.load().render


class Gateway:
    """Sends what is due, by a provider that takes all and can't be asked what it has."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent: list[UUID] = []

    def claim(self) -> list[Claim]:
        claims = outbox.claim(self.store, "moody", RENDER, 10)
        for claim in claims:
            row = message(self.store, claim.message_id)
            assert row.expires_at > self.store.clock(), "it was sent after its life"
        self.sent += [claim.message_id for claim in claims]
        return claims

    def report(self, claims: Sequence[Claim], result: Result) -> None:
        for claim in claims:
            outbox.finish(self.store, claim, Report(result, provider_id="SM1"), 5)

    def go_on(self, clock: FakeClock, waits: Sequence[timedelta]) -> None:
        """Do what a dispatcher does now and then."""
        for wait in waits:
            outbox.recover(self.store)
            self.report(self.claim(), Result.ACCEPTED)
            clock.advance(wait)


Way = Callable[[Gateway, FakeClock], Sequence[Claim]]


def queued(_: Gateway, __: FakeClock) -> Sequence[Claim]:
    return []


def sending(gateway: Gateway, _: FakeClock) -> Sequence[Claim]:
    return gateway.claim()


def waiting_for_its_next_try(gateway: Gateway, _: FakeClock) -> Sequence[Claim]:
    gateway.report(gateway.claim(), Result.RETRY)
    gateway.sent.clear()  # surely not
    return []


def cut_off(gateway: Gateway, _: FakeClock) -> Sequence[Claim]:
    gateway.claim()
    return []


def uncertain(gateway: Gateway, _: FakeClock) -> Sequence[Claim]:
    gateway.report(gateway.claim(), Result.UNCERTAIN)
    return []


def uncertain_again(gateway: Gateway, clock: FakeClock) -> Sequence[Claim]:
    uncertain(gateway, clock)
    clock.advance(DOUBT)
    outbox.recover(gateway.store)
    return uncertain(gateway, clock)


ACCEPTED, LOST, EXPIRED = MessageState.ACCEPTED, MessageState.LOST, MessageState.EXPIRED
STATES: dict[str, tuple[Way, MessageState, int, MessageState, int]] = {
    # how it comes there; how it ends and how often it was sent: in its life, and after it
    "queued": (queued, ACCEPTED, 1, EXPIRED, 0),
    "waiting for its next try": (waiting_for_its_next_try, ACCEPTED, 1, EXPIRED, 0),
    "being sent, and the report comes": (sending, ACCEPTED, 1, ACCEPTED, 1),
    "being sent by a dispatcher that is killed": (cut_off, ACCEPTED, 2, LOST, 1),
    "uncertain": (uncertain, ACCEPTED, 2, LOST, 1),
    "uncertain once more": (uncertain_again, LOST, 2, LOST, 2),
}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
@pytest.mark.parametrize("case", STATES.values(), ids=STATES)
def test_a_clock_that_jumps(
    store: Store,
    clock: FakeClock,
    case: tuple[Way, MessageState, int, MessageState, int],
    life: timedelta,
    jump: timedelta,
) -> None:
    way, end, times, late_end, late_times = case
    gateway = Gateway(store)
    queued_id = queue(store)
    live_for(store, queued_id, life)
    reported_later = way(gateway, clock)
    late = message(store, queued_id).expires_at <= clock.now + jump
    clock.advance(jump)
    outbox.recover(store)
    gateway.report(reported_later, Result.ACCEPTED)
    gateway.go_on(clock, [MINUTE] * 4 + [20 * MINUTE] * 4)
    assert message(store, queued_id).state == (late_end if late else end)
    assert len(gateway.sent) == (late_times if late else times)
    clock.advance(-jump)  # it is put right
    gateway.go_on(clock, [MINUTE] * 4)
    assert len(gateway.sent) == (late_times if late else times)


def held(_: Gateway) -> None:
    pass


def refused_for_now(gateway: Gateway) -> None:
    campaigns.feed(gateway.store)
    gateway.report(gateway.claim(), Result.RETRY)
    gateway.sent.clear()


def taken_back(gateway: Gateway) -> None:
    campaigns.feed(gateway.store)
    [ours] = campaigns.every(gateway.store)
    move(gateway.store, ours.id, Move.PAUSE)
    move(gateway.store, ours.id, Move.RESUME)


HELD = {"never tried": held, "refused for now": refused_for_now, "paused since": taken_back}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("way", HELD.values(), ids=HELD)
def test_a_campaign_s_recipient_waits_an_hour_at_most(
    store: Store, clock: FakeClock, way: Callable[[Gateway], None], jump: timedelta
) -> None:
    """R24: it is held, before it is fed and after each failure."""
    gateway = Gateway(store)
    ours = started(store, mobiles(1))
    way(gateway)
    clock.advance(jump)
    for _ in range(7):  # within a day's hours
        outbox.recover(store)
        campaigns.feed(store)
        gateway.report(gateway.claim(), Result.ACCEPTED)
        clock.advance(10 * MINUTE)
    assert states(store, ours) == {ACCEPTED: 1}
    assert len(gateway.sent) == 1


def test_what_a_clock_ahead_imported_takes_no_place_of_another_s(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a provider refused for now does: while it takes nothing, nothing is added."""
    monkeypatch.setattr(campaigns, "IN_OUTBOX", 2)
    ahead = replace(store, clock=lambda: clock.now + DAY)
    draft(ahead, mobiles(2))
    ours = started(store, mobiles(1), Plan("autre", Route.SMS, PLAN.template))
    assert campaigns.feed(store) == 1
    assert states(store, ours) == {MessageState.QUEUED: 1}


@pytest.mark.parametrize("ahead", [HOUR, DAY, -HOUR, -DAY])
def test_gateways_whose_clocks_differ_repeat_a_message_once_at_most(
    store: Store, clock: FakeClock, ahead: timedelta
) -> None:
    """D19's wait is then as long as the hastier clock says: they need the same time (NTP)."""
    other = Gateway(replace(store, clock=lambda: clock.now + ahead))
    gateway = Gateway(store)
    queued_id = queue(store)
    live_for(store, queued_id, 3 * DAY)
    [claim] = gateway.claim()
    for _ in range(10):
        for one in (other, gateway):
            outbox.recover(one.store)
            one.claim()  # and nobody ever hears of it
        clock.advance(MINUTE)
    assert len(gateway.sent + other.sent) == len(attempts(store, queued_id)) == 2
    assert message(store, queued_id).state == MessageState.LOST
    gateway.report([claim], Result.ACCEPTED)  # as good as a receipt
    assert message(store, queued_id).state == MessageState.ACCEPTED


def live_for(store: Store, message_id: UUID, life: timedelta) -> None:
    """Give a message another life."""
    of_message = update(Message).where(Message.id == message_id)
    until = of_message.values(expires_at=store.clock() + life)
    execute(store, lambda transaction: transaction.execute(until))
