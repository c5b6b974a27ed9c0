"""Several gateways feed and send one campaign, which is paused meanwhile (R24)."""

from collections import Counter
from contextlib import closing

import pytest

from shared import campaigns, outbox
from shared.campaigns import ADMIN, Move
from shared.models import CampaignState, MessageState
from shared.outbox import Report, Result
from shared.store import Store
from sms.templates import Templates
from tests.campaigns import campaign, mobiles, move, started, states
from tests.processes import Place, run_together

GATEWAYS = 4
RECIPIENTS = 300
ROUNDS = 400


def feed_and_send(store: Store, rank: int) -> list[str]:
    """Feed a few at a time and send, as a gateway does; the first one pauses now and then."""
    [ours] = campaigns.every(store)
    render = Templates.load().render
    sent: list[str] = []
    for turn in range(ROUNDS):
        campaigns.feed(store)
        for claim in outbox.claim(store, f"moody-{rank}", render, 5):
            sent.append(claim.destination)
            outbox.finish(store, claim, Report(Result.ACCEPTED, provider_id="SM1"), 0)
        if rank == 0 and turn in (3, 6):
            campaigns.move(store, ADMIN, ours.id, Move.PAUSE)
            campaigns.move(store, ADMIN, ours.id, Move.RESUME)
        if campaign(store, ours.id).state == CampaignState.ENDED:
            break
    return sent


def test_everybody_gets_one_message(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where feeders meet: each takes what no other has."""
    monkeypatch.setattr(campaigns, "IN_OUTBOX", 20)
    with closing(place.open()) as store:
        ours = started(store, mobiles(RECIPIENTS))
        sent = run_together(place, GATEWAYS, feed_and_send)
        assert states(store, ours) == {MessageState.ACCEPTED: RECIPIENTS}
        assert campaign(store, ours).state == CampaignState.ENDED
    assert Counter(number for one in sent for number in one) == Counter(mobiles(RECIPIENTS))
    assert sum(1 for one in sent if one) > 1


def feed_or_pause(store: Store, rank: int) -> int:
    [ours] = campaigns.every(store)
    for _ in range(20):
        if rank:
            campaigns.feed(store)
        else:
            move(store, ours.id, Move.PAUSE)
            left = states(store, ours.id).get(MessageState.QUEUED, 0)
            if left:
                return left
            move(store, ours.id, Move.RESUME)
    return 0


def test_after_a_pause_nothing_is_queued_whoever_feeds(place: Place) -> None:
    with closing(place.open()) as store:
        started(store, mobiles(50))
        assert run_together(place, 3, feed_or_pause) == [0, 0, 0]
