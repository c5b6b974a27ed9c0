"""Messages that API clients have sent: as any other in the outbox, but theirs alone."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared import client_messages, outbox
from shared.client_messages import Order
from shared.models import Message, MessageState, Priority, Route
from shared.outbox import Rendered, Report, Result
from shared.store import Store
from sms.templates import Templates
from tests.gateway import MOBILE, VERSION, MoodyProvider, dispatching, message, send_for, until
from tests.store import FakeClock

OURS, THEIRS = "agenda", "bornes"
WHEN = {"jour": "mardi 3 août", "heure": "9 h 30"}
ORDER = Order("notice.rendez-vous", MOBILE, WHEN, timedelta(hours=2))


def send(store: Store) -> UUID:
    return send_for(store, OURS, ORDER)


def test_it_waits_in_the_outbox_as_the_store_s_own_do(store: Store, clock: FakeClock) -> None:
    queued = message(store, send(store))
    assert (queued.state, queued.client, queued.account_id) == (MessageState.QUEUED, OURS, None)
    assert (queued.route, queued.priority) == (Route.SMS, Priority.NOTICE)
    assert (queued.created_at, queued.next_at) == (clock.now, clock.now)
    assert queued.expires_at == clock.now + timedelta(hours=2)
    assert outbox.opened(store, queued, "destination") == MOBILE
    assert json.loads(outbox.opened(store, queued, "content")) == WHEN


def test_neither_recipient_nor_content_is_shown_or_left_in_clear(store: Store) -> None:
    """D13: not even a blind index, which nobody would look for."""
    queued = message(store, send(store))
    assert queued.destination_index is None
    held = b"".join(value for value in vars(queued).values() if isinstance(value, bytes))
    for personal in (MOBILE, MOBILE[3:], WHEN["jour"], WHEN["heure"]):
        assert personal not in repr(ORDER)
        assert personal.encode() not in held


async def test_the_dispatcher_brings_it(store: Store) -> None:
    """D14: written in GSM-7; the sender is the template's."""
    provider = MoodyProvider()
    async with dispatching(store, provider):
        queued = send(store)
        await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
    [asked] = provider.asked
    assert asked.destination == MOBILE
    assert asked.text.reveal().startswith("Caf : vous avez rendez-vous mardi 3 aout à 9 h 30. ")
    assert asked.sender == "Caf"


def test_a_client_finds_and_cancels_its_own_alone(store: Store) -> None:
    queued = send(store)
    for do in (client_messages.find, client_messages.cancel):
        assert do(store, THEIRS, queued) is None
        assert do(store, OURS, uuid4()) is None
    assert message(store, queued).state == MessageState.QUEUED
    found = client_messages.find(store, OURS, queued)
    assert found is not None
    assert found.id == queued
    cancelled = client_messages.cancel(store, OURS, queued)
    assert cancelled is not None
    assert cancelled.state == message(store, queued).state == MessageState.CANCELLED


def nothing(_: Store) -> None:
    pass


def take(store: Store) -> None:
    outbox.claim(store, "file", Templates.load().render, 1)


def doubt(store: Store) -> None:
    [claim] = outbox.claim(store, "file", Templates.load().render, 1)
    outbox.finish(store, claim, Report(Result.UNCERTAIN), 0)


# What comes before the client takes it back, and what it is told.
CANCELLED = {
    "waiting": (nothing, MessageState.CANCELLED),
    "being sent": (take, MessageState.SENDING),
    "uncertain": (doubt, MessageState.UNCERTAIN),
}


@pytest.mark.parametrize(("before", "told"), CANCELLED.values(), ids=CANCELLED)
def test_what_is_taken_back_is_tried_no_more(
    store: Store, clock: FakeClock, before: Callable[[Store], None], told: MessageState
) -> None:
    """D19: one that may be gone is said to be so, and not repeated."""
    queued = send(store)
    before(store)
    cancelled = client_messages.cancel(store, OURS, queued)
    assert cancelled is not None
    assert cancelled.state == message(store, queued).state == told
    for _ in range(10):
        clock.advance(timedelta(minutes=5))
        outbox.recover(store)
        assert outbox.claim(store, "file", Templates.load().render, 1) == []


def test_one_that_is_claimed_at_this_moment_is_not_cancelled(store: Store) -> None:
    """The client learns what came of it: the claim, which is not committed yet, is waited for."""
    queued = send(store)
    asked: list[Future[Message | None]] = []
    with ThreadPoolExecutor(1) as pool:

        def claim_and_cancel(_template: str, _variables: Mapping[str, str]) -> Rendered:
            asked.append(pool.submit(client_messages.cancel, store, OURS, queued))
            wait(asked, 0.5)
            return Rendered("Bonjour", VERSION)

        outbox.claim(store, "file", claim_and_cancel, 1)
        told = asked[0].result()
    assert told is not None
    assert told.state == message(store, queued).state == MessageState.SENDING


def test_one_that_nobody_takes_back_is_repeated(store: Store, clock: FakeClock) -> None:
    """Else the test above would show nothing."""
    send(store)
    doubt(store)
    clock.advance(timedelta(minutes=5))
    outbox.recover(store)
    assert len(outbox.claim(store, "file", Templates.load().render, 1)) == 1
