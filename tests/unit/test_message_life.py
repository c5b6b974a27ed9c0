"""A provider is told how long each message may still live: none comes after its time (R15, R24)."""

from datetime import timedelta
from typing import Any

import pytest

from shared import campaigns, outbox, recovery, resets
from shared.models import MessageState
from shared.origin import Origin
from shared.outbox import Report, Result
from shared.rules import Channel
from shared.store import Store
from sms.provider import Outgoing
from tests.campaigns import REUNION, mobiles, started
from tests.gateway import MOBILE, MoodyProvider, answers, dispatching, message, queue, until
from tests.store import CAISSE, NUMBER, OWNER, FakeClock, add_account
from tests.web import CLAIM, add_dossier, web

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RETRY = Report(Result.RETRY, "429")
UNCERTAIN = Report(Result.UNCERTAIN, "500")


async def told(store: Store, messages: int = 1) -> dict[str, timedelta]:
    """Send what is due; give the life that the provider is told, by destination."""
    provider = MoodyProvider()
    async with dispatching(store, provider):
        await until(lambda: len(provider.asked) == messages)
    return {asked.destination: asked.life for asked in provider.asked}


@pytest.mark.parametrize("wait", [timedelta(), 4 * MINUTE + 0.2 * SECOND, 10 * MINUTE - SECOND])
async def test_a_code_lives_ten_minutes_from_when_it_was_asked_for(
    store: Store, clock: FakeClock, wait: timedelta
) -> None:
    """R15: however long it waited for us."""
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    clock.advance(wait)
    assert await told(store) == {OWNER: 10 * MINUTE - wait}


async def test_a_password_lives_for_its_hours(store: Store, clock: FakeClock) -> None:
    add_account(store)
    resets.request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER, "call-1"))
    clock.advance(HOUR)
    assert await told(store) == {OWNER: 23 * HOUR}


async def test_a_campaign_s_sms_lives_until_the_evening(store: Store, clock: FakeClock) -> None:
    """R24: until 21:30 where each recipient is; in Paris it is 15:00, in La Réunion 18:00."""
    [paris] = mobiles(1)
    clock.now = clock.now.replace(hour=14, minute=0)
    started(store, [paris, REUNION])
    assert campaigns.feed(store) == 2
    assert await told(store, 2) == {paris: 6.5 * HOUR, REUNION: 3.5 * HOUR}


@pytest.mark.parametrize("first", [UNCERTAIN, RETRY], ids=["a repeat (D19)", "a further try"])
async def test_another_try_is_told_what_is_left_then(
    store: Store, clock: FakeClock, first: Report
) -> None:
    provider = MoodyProvider(answers(first))
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: provider.asked and message(store, queued).state != MessageState.SENDING)
        clock.advance(2 * MINUTE)
        await until(lambda: len(provider.asked) == 2)
    assert [asked.life for asked in provider.asked] == [24 * HOUR, 24 * HOUR - 2 * MINUTE]


async def test_the_next_provider_is_told_what_is_left_then(store: Store, clock: FakeClock) -> None:
    async def is_slow(_: Outgoing) -> Report:
        clock.advance(10 * SECOND)
        return RETRY

    slow, other = MoodyProvider(is_slow, name="slow"), MoodyProvider(name="other")
    queue(store)
    async with dispatching(store, [slow, other]):
        await until(lambda: other.asked)
    assert [asked.life for asked in slow.asked] == [24 * HOUR]
    assert [asked.life for asked in other.asked] == [24 * HOUR - 10 * SECOND]


async def test_a_life_that_ends_on_the_way_is_a_second(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provider takes less."""
    claim = outbox.claim

    def claim_late(*args: Any, **kwargs: Any) -> list[outbox.Claim]:
        claims = claim(*args, **kwargs)
        if claims:
            clock.advance(24 * HOUR)
        return claims

    monkeypatch.setattr(outbox, "claim", claim_late)
    queue(store)
    assert await told(store) == {MOBILE: SECOND}
