"""STOP, CONTACT and AIDE: which words they are, what each does, and that it does it once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import select

from shared import inbound, opt_outs, outbox
from shared.clock import DAY
from shared.contacts import Contact
from shared.inbound import Keyword, Word
from shared.models import InboundMessage, Message, MessageState, Priority, Route
from shared.store import Store
from sms.inbound import Inbox, keyword
from sms.provider import Received
from sms.templates import Templates
from tests.gateway import MOBILE, MoodyProvider, dispatching, message, queue, until
from tests.store import FakeClock

CALLED = "36180"
SID, OTHER_SID = "SM" + 32 * "a", "SM" + 32 * "b"
CLAIRE, HUGO = Contact(Route.SMS, MOBILE), Contact(Route.SMS, "+33698765432")
STOP = Word("twilio", SID, CLAIRE, CALLED, Keyword.STOP)
BY_SMPP = replace(STOP, provider="smpp", provider_id=None)

TEXTS: dict[str, Keyword | None] = {
    "STOP": Keyword.STOP,
    "stop": Keyword.STOP,
    " Stop. ": Keyword.STOP,
    "« STOP »": Keyword.STOP,
    '"stop!!"': Keyword.STOP,
    "STÔP": Keyword.STOP,
    "\uff33\uff34\uff2f\uff30": Keyword.STOP,
    "STOP SMS": Keyword.STOP,
    "Stop36180": Keyword.STOP,
    "STOP au 36180": Keyword.STOP,
    "merci de me mettre stop": Keyword.STOP,
    "aide ou contact, sinon STOP": Keyword.STOP,
    "st\u00f8p": None,  # no accent, another letter
    "stopper": None,
    "non": None,
    "S T O P": None,
    "CONTACT": Keyword.CONTACT,
    "contact?": Keyword.CONTACT,
    "contacts": None,
    "Aidé": Keyword.AIDE,
    "AIDE\n": Keyword.AIDE,
    "j'ai besoin d'aide": Keyword.AIDE,
    "aidez-moi": None,
    "": None,
    "\x00": None,
    "1234 5678": None,
}


@pytest.mark.parametrize(("text", "word"), TEXTS.items(), ids=map(ascii, TEXTS))
def test_what_is_a_word_of_ours(text: str, word: Keyword | None) -> None:
    assert keyword(text) is word


# What a word does


def replies(store: Store) -> Sequence[Message]:
    with store.database.read() as transaction:
        ours = select(Message).where(Message.template.startswith(inbound.TEMPLATE))
        return transaction.scalars(ours.order_by(Message.created_at)).all()


def wants_none(store: Store, contact: Contact = CLAIRE) -> bool:
    with store.database.read() as transaction:
        return opt_outs.find(store, transaction, contact) is not None


@pytest.mark.parametrize("word", Keyword)
def test_a_word_is_answered_by_the_number_called(
    store: Store, clock: FakeClock, word: Keyword
) -> None:
    assert inbound.take(store, replace(STOP, keyword=word))
    [reply] = replies(store)
    assert (reply.template, reply.priority) == (f"inbound.{CALLED}.{word}", Priority.NOTICE)
    assert reply.expires_at == clock.now + timedelta(minutes=store.rules.inbound.reply_minutes)
    assert outbox.opened(store, reply, "destination") == MOBILE
    assert wants_none(store) is (word is Keyword.STOP)


async def test_the_dispatcher_brings_the_answer(store: Store) -> None:
    provider = MoodyProvider()
    async with dispatching(store, provider):
        inbound.take(store, STOP)
        await until(lambda: provider.asked)
    [asked] = provider.asked
    assert (asked.destination, asked.sender) == (MOBILE, CALLED)
    assert asked.text.reveal() == Templates.load().render(f"inbound.{CALLED}.stop", {}).text


def test_stop_ends_campaigns_and_nothing_else(store: Store) -> None:
    campaign, password = queue(store), queue(store)
    with store.database.write() as transaction:
        row = transaction.get_one(Message, campaign)
        row.priority, row.destination_index = Priority.CAMPAIGN, CLAIRE.index(store.keys)
        transaction.get_one(Message, password).destination_index = CLAIRE.index(store.keys)
    inbound.take(store, STOP)
    assert message(store, campaign).state == MessageState.CANCELLED
    assert message(store, password).state == MessageState.QUEUED


def test_one_message_told_again_does_nothing(store: Store, clock: FakeClock) -> None:
    """Nor does a request of Twilio's that somebody kept, and plays again much later."""
    inbound.take(store, STOP)
    with store.database.write() as transaction:
        opt_outs.remove(store, transaction, CLAIRE)
    clock.advance(30 * DAY)
    assert not inbound.take(store, STOP)
    assert len(replies(store)) == 1
    assert not wants_none(store)


def test_who_says_stop_again_is_heard_but_answered_once_a_day(
    store: Store, clock: FakeClock
) -> None:
    inbound.take(store, STOP)
    with store.database.write() as transaction:
        opt_outs.remove(store, transaction, CLAIRE)
    clock.advance(DAY - timedelta(seconds=1))
    assert not inbound.take(store, replace(STOP, provider_id=OTHER_SID))
    assert wants_none(store)
    clock.advance(timedelta(seconds=1))
    assert inbound.take(store, replace(STOP, provider_id="SM" + 32 * "c"))
    assert len(replies(store)) == 2


def test_each_number_and_each_person_has_answers_of_its_own(store: Store) -> None:
    others = {"contact": HUGO}, {"called": "36181"}, {"keyword": Keyword.AIDE}
    assert inbound.take(store, BY_SMPP)
    for other in others:
        word = replace(BY_SMPP, **other)
        assert inbound.take(store, word)
        assert not inbound.take(store, word)


def test_a_message_without_a_name_is_answered_once(store: Store) -> None:
    """SMPP: an SMSC that lost our answer brings it again."""
    assert [inbound.take(store, BY_SMPP) for _ in range(3)] == [True, False, False]
    assert len(replies(store)) == 1


@pytest.mark.parametrize("word", [STOP, BY_SMPP], ids=["by its name", "without one"])
def test_told_to_several_gateways_at_once_it_is_answered_once(store: Store, word: Word) -> None:
    gateways = 8
    barrier = Barrier(gateways)

    def take(_: int) -> bool:
        barrier.wait()
        return inbound.take(store, word)

    with ThreadPoolExecutor(gateways) as pool:
        answered = list(pool.map(take, range(gateways)))
    assert answered.count(True) == 1
    assert len(replies(store)) == 1


def test_neither_who_nor_what_is_kept(store: Store) -> None:
    """D13, D16: which word, by blind index; no text."""
    inbound.take(store, STOP)
    columns = set(InboundMessage.__table__.columns.keys())
    assert columns == {
        "id", "provider", "provider_id", "contact_index", "called", "keyword", "at", "answered",
    }  # fmt: skip
    with store.database.read() as transaction:
        row = transaction.scalars(select(InboundMessage)).one()
    assert row.contact_index == CLAIRE.index(store.keys)
    assert MOBILE[3:] not in repr(STOP) + repr(received())


# From whom, and where


def received(sender: str = MOBILE, called: str = CALLED, text: str = "STOP") -> Received:
    return Received("twilio", SID, called, sender, text)


def read(store: Store, one: Received, numbers: Sequence[str] = (CALLED, "33757590000")) -> object:
    with ThreadPoolExecutor(1) as pool:
        return Inbox(store, pool, numbers).read(one)


SENDERS = {
    "+33612345678": "+33612345678",
    "33612345678": "+33612345678",
    "0612345678": "+33612345678",
    "0033612345678": "+33612345678",
    "+262692345678": "+262692345678",
    "+33147258369": None,  # no mobile
    "+447400123456": None,  # not French (D08)
    "36180": None,
    "Caf": None,
    "": None,
    "+": None,
    "9" * 400: None,
    "+336\x0012345678": None,
}


@pytest.mark.parametrize(("sender", "mobile"), SENDERS.items(), ids=ascii)
def test_french_mobiles_alone_are_heard(store: Store, sender: str, mobile: str | None) -> None:
    found = read(store, received(sender))
    contact = found.contact.value if isinstance(found, Word) else None
    assert contact == mobile


NUMBERS = {
    "36180": "36180",
    "+36180": "36180",
    "+33757590000": "33757590000",
    "0757590000": "33757590000",
    "36181": None,
    "": None,
}


@pytest.mark.parametrize(("called", "ours"), NUMBERS.items(), ids=ascii)
def test_only_numbers_of_the_file_are_read(store: Store, called: str, ours: str | None) -> None:
    """D14: where nothing would be read, nothing is."""
    found = read(store, received(called=called))
    assert (found.called if isinstance(found, Word) else None) == ours


def test_what_is_no_word_is_nothing(store: Store) -> None:
    assert read(store, received(text="Bonjour, je suis absent.")) is None
