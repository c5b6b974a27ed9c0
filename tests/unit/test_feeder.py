"""The loop that feeds campaigns beside the dispatchers (R24)."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from shared import campaigns
from shared.campaigns import ADMIN, Move, Plan, Recipient
from shared.contacts import Contact
from shared.errors import StoreDownError
from shared.models import CampaignState, MessageState, Route
from shared.outbox import Report, Result
from shared.store import Store
from sms import feeder
from sms.feeder import Feeder
from tests.campaigns import campaign, mobiles, move, started, states
from tests.gateway import LONG, MOBILE, MoodyProvider, answers, dispatching, until


@asynccontextmanager
async def feeding(store: Store) -> AsyncIterator[None]:
    with ThreadPoolExecutor(2) as pool:
        loop = Feeder(store, pool, poll=0.01)
        running = asyncio.create_task(loop.run())
        try:
            yield
        finally:
            loop.stop()
            await asyncio.wait_for(running, LONG)


async def test_a_campaign_drains_and_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By as many rounds as it takes; one that is refused for now comes again."""
    monkeypatch.setattr(campaigns, "IN_OUTBOX", 4)
    ours = started(store, mobiles(30))
    provider = MoodyProvider(answers(Report(Result.REFUSED, "21610")))
    async with feeding(store), dispatching(store, provider):
        await until(lambda: campaign(store, ours).state == CampaignState.ENDED)
    assert sorted(asked.destination for asked in provider.asked) == mobiles(30)
    assert states(store, ours) == {MessageState.REFUSED: 1, MessageState.ACCEPTED: 29}


ON_ITS_OWN = {
    "SMS": (
        Plan("texte", Route.SMS, text="Bonjour à tous", sender="Caf92"),
        Recipient(Contact(Route.SMS, MOBILE), "Europe/Paris"),
    ),
    "mail": (
        Plan("texte", Route.MAIL, text="Bonjour", sender="Caf92", subject="Du nouveau"),
        Recipient(Contact(Route.MAIL, "claire@exemple.fr"), "Europe/Paris"),
    ),
}


@pytest.mark.parametrize(("plan", "recipient"), ON_ITS_OWN.values(), ids=ON_ITS_OWN)
async def test_words_of_one_s_own_reach_the_provider_as_they_are(
    store: Store, plan: Plan, recipient: Recipient
) -> None:
    """No template is needed, nor asked for sender and subject."""
    ours = campaigns.create(store, ADMIN, plan)
    campaigns.add(store, ours, [recipient])
    move(store, ours.id, Move.START)
    provider = MoodyProvider()
    provider.route = plan.route
    async with feeding(store), dispatching(store, provider):
        await until(lambda: campaign(store, ours.id).state == CampaignState.ENDED)
    [asked] = provider.asked
    assert (asked.destination, asked.text.reveal()) == (recipient.contact.value, plan.text)
    assert (asked.sender, asked.subject) == ("Caf92", plan.subject or "")


async def test_paused_it_leaves_nothing_in_the_outbox(store: Store) -> None:
    ours = started(store, mobiles(10))
    async with feeding(store):
        await until(lambda: states(store, ours).get(MessageState.QUEUED) == 10)
        move(store, ours, Move.PAUSE)
        await asyncio.sleep(0.1)
        assert states(store, ours) == {MessageState.HELD: 10}


@pytest.mark.parametrize(("fault", "told"), [(StoreDownError("away"), 0), (ValueError(), 1)])
async def test_it_goes_on_after_a_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, told: int
) -> None:
    """The database away: dispatchers say so. Anything else is a fault of ours, and is told."""
    monkeypatch.setattr(feeder, "LONGEST_SECONDS", 0.02)
    ours = started(store, mobiles(1))
    faults = iter([fault])

    def feed(store: Store) -> int:
        for one in faults:
            raise one
        return fed(store)

    fed = campaigns.feed
    monkeypatch.setattr(campaigns, "feed", feed)
    with capture_logs() as logs:
        async with feeding(store):
            await until(lambda: states(store, ours) == {MessageState.QUEUED: 1})
    assert [entry["event"] for entry in logs] == ["feeder_failed"] * told
