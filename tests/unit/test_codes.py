"""Verification codes: how long, how often, how many wrong ones (R15, D06), and what a stranger can
learn of them (D04): nothing.
"""

from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session as Transaction

from shared import codes
from shared.codes import Entry, Purpose, Recipient, Wish
from shared.contacts import Contact
from shared.errors import ClosedError
from shared.keyring import KeyRing
from shared.models import Person, Route, ThrottleHit, VerificationCode
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from shared.store import Store
from shared.throttles import Bucket
from tests.store import NUMBER, OWNER, STRANGER, FakeClock, watch
from tests.web import MAIL, add_dossier, last_code, sent, web, wrong_code

MINUTE, SECOND, DAY = timedelta(minutes=1), timedelta(seconds=1), timedelta(days=1)
MOBILE = Contact(Route.SMS, OWNER)
ADDRESS = Contact(Route.MAIL, MAIL)


@pytest.fixture
def person(store: Store) -> Person:
    """Somebody of a dossier."""
    add_dossier(store)
    with store.database.read() as transaction:
        return transaction.scalars(select(Person)).one()


def ask(
    store: Store,
    person: Person | None,
    contact: Contact = MOBILE,
    purpose: Purpose = Purpose.RECOVERY,
    origin: Origin | None = None,
) -> UUID:
    """Ask for a code; without a person, for somebody who does not exist."""
    origin = origin or web()
    recipient = Recipient(person.id, person.account_id, contact) if person else None
    asked_by = codes.asker(store, NUMBER, origin)
    return codes.request(store, Wish(purpose, contact.route, asked_by, recipient), origin)


def enter(
    store: Store,
    code_id: UUID,
    code: Secret,
    purpose: Purpose = Purpose.RECOVERY,
    address: str = "203.0.113.7",
) -> UUID | None:
    """Enter a code; give whose it was, if it was right."""
    entry = Entry(purpose, codes.by_id(code_id), code)
    return codes.redeem(store, entry, web(address), lambda _, person_id: person_id)


# How long and how often


@pytest.mark.parametrize(
    ("contact", "life"),
    [
        pytest.param(MOBILE, 10 * MINUTE, id="by SMS"),
        pytest.param(ADDRESS, 15 * MINUTE, id="by mail"),
    ],
)
def test_a_code_is_good_until_its_end(
    store: Store, clock: FakeClock, person: Person, contact: Contact, life: timedelta
) -> None:
    first, start = ask(store, person, contact), clock.now
    first_code = last_code(store)
    clock.now = start + life - SECOND
    assert enter(store, first, first_code) == person.id

    clock.now = start + MINUTE
    second = ask(store, person, contact)
    second_code = last_code(store)
    clock.now = start + MINUTE + life
    assert enter(store, second, second_code) is None


def test_the_zone_of_the_clock_changes_nothing(
    store: Store, clock: FakeClock, person: Person
) -> None:
    code_id = ask(store, person)
    clock.now = (clock.now + 10 * MINUTE - SECOND).astimezone(timezone(timedelta(hours=4)))
    assert enter(store, code_id, last_code(store)) == person.id


def test_a_code_is_six_digits_and_brought_by_its_message(store: Store, person: Person) -> None:
    drawn = replace(store, chance=lambda limit: 42 if limit == 1_000_000 else 0)
    ask(drawn, person)
    [message] = sent(store)
    assert (message.route, message.template, message.destination) == (Route.SMS, "code", OWNER)
    assert message.content == {"code": "000042", "minutes": "10"}


def test_a_former_mobile_is_told_of_the_change(store: Store, person: Person) -> None:
    ask(store, person, Contact(Route.SMS, OWNER, former=True))
    assert [message.template for message in sent(store)] == ["code-old-mobile"]


def test_a_code_is_good_once(store: Store, person: Person) -> None:
    code_id = ask(store, person)
    assert enter(store, code_id, last_code(store)) == person.id
    assert enter(store, code_id, last_code(store)) is None


def test_a_code_is_sent_again_three_times_a_day(
    store: Store, clock: FakeClock, person: Person
) -> None:
    for _ in range(5):
        ask(store, person)
        clock.advance(MINUTE)
    assert len(sent(store)) == 4
    ask(store, person, ADDRESS)
    assert len(sent(store)) == 5, "another contact has a count of its own"
    clock.advance(DAY - 5 * MINUTE - SECOND)
    ask(store, person)
    assert len(sent(store)) == 5, "the first one is not a day old yet"
    clock.advance(SECOND)
    ask(store, person)
    assert len(sent(store)) == 6


def test_requests_that_were_suppressed_put_nothing_off(
    store: Store, clock: FakeClock, person: Person
) -> None:
    for _ in range(4):
        ask(store, person)
    for _ in range(10):
        clock.advance(timedelta(hours=2))
        ask(store, person)
    clock.advance(timedelta(hours=4))
    ask(store, person)
    assert len(sent(store)) == 5


# Wrong entries


def test_five_wrong_entries_end_a_code(store: Store, person: Person) -> None:
    code_id = ask(store, person)
    right, wrong = last_code(store), wrong_code(store)
    for _ in range(4):
        assert enter(store, code_id, wrong) is None
    assert enter(store, code_id, right) == person.id

    code_id = ask(store, person)
    right, wrong = last_code(store), wrong_code(store)
    for tried in range(5):
        assert enter(store, code_id, wrong, address=f"198.51.100.{tried}") is None
    assert enter(store, code_id, right, address="198.51.100.99") is None


def test_wrong_entries_of_one_code_end_no_other(store: Store, person: Person) -> None:
    """A stranger who asks for codes too takes none from their owner."""
    owners = ask(store, person)
    owners_code = last_code(store)
    strangers = ask(store, person)
    for tried in range(6):
        enter(store, strangers, wrong_code(store), address=f"198.51.100.{tried}")
    assert enter(store, owners, owners_code) == person.id


def test_wrong_entries_count_against_who_makes_them(store: Store, person: Person) -> None:
    """D05: three codes with failures a day from one address, and no more are compared."""
    for _ in range(3):
        enter(store, ask(store, person), wrong_code(store))
    code_id = ask(store, person)
    assert enter(store, code_id, last_code(store)) is None
    assert enter(store, code_id, last_code(store), address="198.51.100.1") == person.id


def test_a_right_entry_is_given_back_and_a_wrong_one_is_not(store: Store, person: Person) -> None:
    enter(store, ask(store, person), last_code(store))
    assert hits(store) == []
    enter(store, ask(store, person), wrong_code(store))
    assert hits(store) == [Bucket.ACCOUNT, Bucket.CALLER]


def test_the_hour_of_the_channel_is_locked_last(store: Store, person: Person) -> None:
    """D05: every login of the channel meets there, and waits for what comes after it."""
    code_id = ask(store, person)
    entry = Entry(Purpose.RECOVERY, codes.by_id(code_id), last_code(store))
    seen = watch(store.database)
    codes.redeem(store, entry, web(), lambda transaction, _: transaction.execute(select(1)))
    assert seen[-3].startswith("DELETE FROM throttle_hit")
    assert seen[-2].startswith("UPDATE channel_hour")


def test_a_code_is_good_for_its_purpose_only(store: Store, person: Person) -> None:
    code_id = ask(store, person, purpose=Purpose.CONTACT)
    assert enter(store, code_id, last_code(store), Purpose.RECOVERY) is None
    assert enter(store, code_id, last_code(store), Purpose.CONTACT) == person.id


def test_a_code_stays_good_if_what_it_opens_fails(store: Store, person: Person) -> None:
    code_id = ask(store, person)

    def fail(_transaction: Transaction, _person_id: UUID) -> None:
        raise RuntimeError("half-way")

    entry = Entry(Purpose.RECOVERY, codes.by_id(code_id), last_code(store))
    with pytest.raises(RuntimeError, match="half-way"):
        codes.redeem(store, entry, web(), fail)
    assert enter(store, code_id, last_code(store)) == person.id


def test_a_right_code_whose_caisse_is_closed_is_no_failure(store: Store, person: Person) -> None:
    """D15."""
    code_id = ask(store, person)

    def closed(_transaction: Transaction, _person_id: UUID) -> None:
        raise ClosedError

    entry = Entry(Purpose.RECOVERY, codes.by_id(code_id), last_code(store))
    for _ in range(6):
        with pytest.raises(ClosedError):
            codes.redeem(store, entry, web(), closed)
    assert hits(store) == []
    assert enter(store, code_id, last_code(store)) == person.id


# By telephone: the last one that the same caller asked for


def test_by_telephone_only_who_asked_may_enter_it(store: Store, person: Person) -> None:
    phone, other = Origin(Channel.VOICE, OWNER, "call-1"), Origin(Channel.VOICE, STRANGER, "call-2")
    ask(store, person, purpose=Purpose.PHONE_LOGIN, origin=phone)
    right = last_code(store)
    assert dial(store, other, right) is None
    ask(store, person, purpose=Purpose.PHONE_LOGIN, origin=other)
    for _ in range(5):
        assert dial(store, other, wrong_code(store)) is None
    assert dial(store, phone, right) == person.id


def test_who_withholds_the_caller_id_may_enter_it_in_the_same_call(
    store: Store, person: Person
) -> None:
    ask(store, person, purpose=Purpose.PHONE_LOGIN, origin=Origin(Channel.VOICE, None, "call-1"))
    assert dial(store, Origin(Channel.VOICE, None, "call-2"), last_code(store)) is None
    assert dial(store, Origin(Channel.VOICE, None, "call-1"), last_code(store)) == person.id


def dial(store: Store, origin: Origin, code: Secret) -> UUID | None:
    entry = Entry(Purpose.PHONE_LOGIN, codes.newest_of(codes.asker(store, NUMBER, origin)), code)
    return codes.redeem(store, entry, origin, lambda _, person_id: person_id)


# What can be told


def test_no_request_can_be_told_from_another(store: Store, person: Person) -> None:
    """Known, unknown, asked for too often: the same statements, and one row more (D04)."""
    ask(store, person)
    seen = watch(store.database)
    ask(store, person)
    known = seen.copy()
    for _ in range(3):
        seen.clear()
        ask(store, person)
    assert seen == known
    assert len(sent(store)) == 4
    seen.clear()
    ask(store, None)
    assert seen == known
    assert len(sent(store)) == 4
    with store.database.read() as transaction:
        rows = transaction.scalars(select(VerificationCode)).all()
    assert len(rows) == 6
    assert sum(row.person_id is None for row in rows) == 2


def test_no_refusal_can_be_told_from_another(
    store: Store, clock: FakeClock, person: Person
) -> None:
    seen = watch(store.database)
    wrong = ask(store, person)
    seen.clear()
    enter(store, wrong, wrong_code(store), address="198.51.100.1")
    reference = seen.copy()

    used = ask(store, person)
    enter(store, used, last_code(store), address="198.51.100.2")
    nobodys = ask(store, None)
    old = ask(store, person)
    clock.advance(15 * MINUTE)
    for tried, code_id in enumerate([used, nobodys, old, uuid4()]):
        seen.clear()
        assert enter(store, code_id, last_code(store), address=f"198.51.100.{tried}") is None
        assert seen == reference


def test_nothing_shows_the_code(store: Store, person: Person, tmp_path: Path) -> None:
    """D13: neither the row, nor another key ring's hash of it."""
    code_id = ask(store, person)
    code = last_code(store)
    with store.database.read() as transaction:
        row = transaction.get_one(VerificationCode, code_id)
    assert code.reveal().encode() not in row.code_mac
    other = replace(store, keys=KeyRing.create(tmp_path / "other.json"))
    assert enter(other, code_id, code) is None
    entry = Entry(Purpose.RECOVERY, codes.by_id(code_id), code)
    assert code.reveal() not in repr(entry)


def hits(store: Store) -> list[str]:
    """Give the buckets in which failures are counted, one a row."""
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).where(~ThrottleHit.counted)) == 0
        return list(transaction.scalars(select(ThrottleHit.bucket).order_by(ThrottleHit.bucket)))
