"""Who wants no campaign (R24): kept by blind index, and what waits is taken back."""

from concurrent.futures import ThreadPoolExecutor, wait
from uuid import UUID

import pytest

from shared import opt_outs, outbox, retention
from shared.clock import DAY
from shared.contacts import Contact
from shared.models import Message, MessageState, OptOut, Priority, Route
from shared.opt_outs import Source
from shared.outbox import Rendered
from shared.store import Store
from tests.gateway import MOBILE, message, queue
from tests.store import FakeClock

NUMBER = Contact(Route.SMS, MOBILE)
MAIL = Contact(Route.MAIL, "claire@exemple.fr")
OTHER = Contact(Route.SMS, "+33698765432")


def add(store: Store, contact: Contact = NUMBER, source: Source = Source.SMS) -> bool:
    with store.database.write() as transaction:
        return opt_outs.add(store, transaction, contact, source)


def remove(store: Store, contact: Contact = NUMBER) -> bool:
    with store.database.write() as transaction:
        return opt_outs.remove(store, transaction, contact)


def opted_out(store: Store, *contacts: Contact) -> set[bytes]:
    with store.database.read() as transaction:
        return opt_outs.opted_out(transaction, [one.index(store.keys) for one in contacts])


def test_a_contact_opts_out_once_and_comes_back(store: Store, clock: FakeClock) -> None:
    since = clock.now
    assert add(store)
    clock.advance(DAY)
    assert not add(store, source=Source.COMMAND)
    with store.database.read() as transaction:
        found = opt_outs.find(store, transaction, NUMBER)
    assert found is not None
    assert (found.at, found.source) == (since, "sms")
    assert remove(store)
    assert not remove(store)
    assert opted_out(store, NUMBER) == set()


def test_it_is_said_of_each_contact_alone(store: Store) -> None:
    add(store)
    add(store, MAIL)
    assert opted_out(store, NUMBER, OTHER) == {NUMBER.index(store.keys)}
    assert opted_out(store, MAIL, OTHER) == {MAIL.index(store.keys)}
    assert opted_out(store) == set()


def test_neither_the_number_nor_anything_that_opens_to_it_is_kept(store: Store) -> None:
    """D13: a blind index, whole, and no more."""
    add(store)
    with store.database.read() as transaction:
        kept = transaction.get_one(OptOut, NUMBER.index(store.keys))
    assert set(OptOut.__table__.columns.keys()) == {"contact_index", "at", "source"}
    assert MOBILE[1:].encode() not in kept.contact_index


def test_it_outlives_everything_that_is_forgotten(store: Store, clock: FakeClock) -> None:
    """D16: forgotten, the next campaign would write to somebody who had said no."""
    add(store)
    clock.advance(3650 * DAY)
    retention.tidy(store)
    assert opted_out(store, NUMBER) == {NUMBER.index(store.keys)}


STATES = {
    MessageState.QUEUED: MessageState.CANCELLED,
    MessageState.SENDING: MessageState.SENDING,  # it may be gone: no further try
    MessageState.UNCERTAIN: MessageState.UNCERTAIN,
    MessageState.DELIVERED: MessageState.DELIVERED,
}


@pytest.mark.parametrize(("state", "then"), STATES.items(), ids=STATES)
def test_what_waits_of_campaigns_is_taken_back(
    store: Store, clock: FakeClock, state: MessageState, then: MessageState
) -> None:
    campaign = _queued(store, Priority.CAMPAIGN, NUMBER, state)
    add(store)
    after = message(store, campaign)
    assert after.state == then
    ended = state is MessageState.DELIVERED
    assert ended or after.expires_at <= clock.now or after.destination_sealed is None


@pytest.mark.parametrize("priority", set(Priority) - {Priority.CAMPAIGN})
def test_codes_passwords_and_notices_still_go_out(store: Store, priority: Priority) -> None:
    queued = _queued(store, priority, NUMBER)
    add(store)
    assert message(store, queued).state == MessageState.QUEUED
    [claimed] = outbox.claim(store, "twilio", lambda template, _: Rendered(template, ""), 1)
    assert claimed.message_id == queued


def test_campaigns_of_others_go_on(store: Store) -> None:
    queued = _queued(store, Priority.CAMPAIGN, OTHER)
    add(store)
    assert message(store, queued).state == MessageState.QUEUED


def test_who_opts_out_during_a_feed_is_not_written_to(store: Store) -> None:
    """What `hold` is for: the feed did not see the opt-out, so this has to see what was fed."""
    fed = _queued(store, Priority.NOTICE, NUMBER)
    with ThreadPoolExecutor() as pool:
        with store.database.write() as transaction:
            opt_outs.hold(store, transaction)
            assert not opt_outs.opted_out(transaction, [NUMBER.index(store.keys)])
            opting_out = pool.submit(add, store)
            assert not wait([opting_out], 0.5).done
            transaction.get_one(Message, fed).priority = Priority.CAMPAIGN
        assert opting_out.result()
    assert message(store, fed).state == MessageState.CANCELLED


def _queued(
    store: Store,
    priority: Priority,
    contact: Contact,
    state: MessageState = MessageState.QUEUED,
) -> UUID:
    queued = queue(store)
    with store.database.write() as transaction:
        row = transaction.get_one(Message, queued)
        row.priority, row.state = priority, state
        row.destination_index = contact.index(store.keys)
    return queued
