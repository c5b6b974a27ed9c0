"""Codes that API clients have sent: R15's limits, and good for nobody and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import client_codes, incident, recovery, voiding
from shared.contacts import Contact
from shared.errors import ClosedError
from shared.models import AuditEntry, Person, Route, VerificationCode
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from shared.store import Store
from shared.voiding import Window
from tests.store import CAISSE, OWNER, FakeClock, watch
from tests.web import CLAIM, MAIL, add_dossier, last_code, sent, web, wrong_code

MINUTE, SECOND, DAY = timedelta(minutes=1), timedelta(seconds=1), timedelta(days=1)
PURPOSE = "rendez-vous"
MOBILE = Contact(Route.SMS, OWNER)
ADDRESS = Contact(Route.MAIL, MAIL)
OTHER_MOBILE = Contact(Route.SMS, "+33698765432")


def of(client: str = "agenda", address: str = "203.0.113.7") -> Origin:
    return Origin.for_client(Channel.WEB, client, address)


def ask(store: Store, contact: Contact = MOBILE, client: str = "agenda") -> UUID:
    """Ask for a code; later than before, so that it is known which was sent last."""
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(microseconds=1))
    return client_codes.request(store, PURPOSE, contact, of(client))


def enter(store: Store, code_id: UUID, code: Secret, address: str = "203.0.113.7") -> bool:
    return client_codes.verify(store, PURPOSE, code_id, code, of(address=address))


def test_it_comes_as_the_store_s_own_do(store: Store) -> None:
    ask(store)
    ask(store, ADDRESS)
    by_sms, by_mail = sent(store)
    assert (by_sms.route, by_sms.template, by_sms.destination) == (Route.SMS, "code", OWNER)
    assert (by_mail.route, by_mail.template, by_mail.destination) == (Route.MAIL, "code", MAIL)
    assert (by_sms.content["minutes"], by_mail.content["minutes"]) == ("10", "15")
    assert by_sms.content["code"].isdecimal()
    assert len(by_sms.content["code"]) == 6


@pytest.mark.parametrize(
    ("contact", "life"),
    [
        pytest.param(MOBILE, 10 * MINUTE, id="by SMS"),
        pytest.param(ADDRESS, 15 * MINUTE, id="by mail"),
    ],
)
def test_it_is_good_until_its_end(
    store: Store, clock: FakeClock, contact: Contact, life: timedelta
) -> None:
    first, first_code = ask(store, contact), last_code(store)
    clock.advance(life - SECOND)
    assert enter(store, first, first_code) is True
    second, second_code = ask(store, contact), last_code(store)
    clock.advance(life)
    assert enter(store, second, second_code) is False


def test_it_is_good_once(store: Store) -> None:
    code_id, code = ask(store), last_code(store)
    assert [enter(store, code_id, code) for _ in range(3)] == [True, False, False]


def test_five_wrong_entries_end_it(store: Store) -> None:
    code_id, code = ask(store), last_code(store)
    for tried in range(5):
        assert enter(store, code_id, wrong_code(store), f"198.51.100.{tried}") is False
    assert enter(store, code_id, code, "198.51.100.99") is False


def test_wrong_entries_count_against_who_makes_them(store: Store) -> None:
    """D05: three codes with failures a day from one address, and no more are compared."""
    for number in range(3):
        contact = Contact(Route.MAIL, f"claire{number}@exemple.fr")
        assert enter(store, ask(store, contact), wrong_code(store)) is False
    code_id, code = ask(store), last_code(store)
    assert enter(store, code_id, code) is False
    assert enter(store, code_id, code, "198.51.100.1") is True


def by_another_client(store: Store, code_id: UUID, code: Secret) -> object:
    return client_codes.verify(store, PURPOSE, code_id, code, of("bornes"))


def for_another_purpose(store: Store, code_id: UUID, code: Secret) -> object:
    return client_codes.verify(store, "rendez-vou", code_id, code, of())


def as_a_recovery(store: Store, code_id: UUID, code: Secret) -> object:
    return recovery.verify(store, code_id, code, of())


@pytest.mark.parametrize("otherwise", [by_another_client, for_another_purpose, as_a_recovery])
def test_it_is_good_for_its_client_and_purpose_only(
    store: Store, otherwise: Callable[[Store, UUID, Secret], object]
) -> None:
    code_id, code = ask(store), last_code(store)
    assert not otherwise(store, code_id, code)
    assert enter(store, code_id, code) is True


@pytest.mark.parametrize("client", ["caf.fr", "agenda"])
def test_the_store_s_own_codes_are_good_for_no_client(store: Store, client: str) -> None:
    """Whatever the client calls its purpose."""
    add_dossier(store)
    code_id = recovery.request(store, CLAIM, web())
    code = last_code(store)
    assert not client_codes.verify(store, "recovery", code_id, code, of(client))
    assert recovery.verify(store, code_id, code, web()) is not None


# How often


def test_a_contact_gets_four_a_day_whoever_has_them_sent(store: Store, clock: FakeClock) -> None:
    """R15: the store itself, one client, another."""
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    for client in ("agenda", "bornes", "agenda", "bornes"):
        ask(store, client=client)
        clock.advance(MINUTE)
    assert len(sent(store)) == 4
    ask(store)
    assert len(sent(store)) == 4
    ask(store, OTHER_MOBILE)
    ask(store, ADDRESS)
    assert len(sent(store)) == 6, "other contacts have counts of their own"
    clock.advance(DAY - 4 * MINUTE - SECOND)
    ask(store)
    assert len(sent(store)) == 6, "the first one is not a day old yet"
    clock.advance(SECOND)
    ask(store)
    assert len(sent(store)) == 7


def test_a_stranger_keeps_nobody_s_own_codes_away(store: Store) -> None:
    """D03: who knows a telephone number alone has all its clients' codes sent, and no more."""
    add_dossier(store)
    for _ in range(5):
        ask(store)
    assert len(sent(store)) == 4
    for asked in range(5):
        recovery.request(store, CLAIM, web())
        assert len(sent(store)) == 4 + min(asked + 1, 4)


def test_clients_have_an_hourly_budget_of_their_own(store: Store, clock: FakeClock) -> None:
    """A robot at a client's form costs so much and no more, and the store's own codes go out."""
    add_dossier(store)
    rules = store.rules.code.model_copy(update={"clients_hour": 3})
    store = replace(store, rules=store.rules.model_copy(update={"code": rules}))
    for number in range(5):
        ask(store, Contact(Route.SMS, f"+3361234000{number}"))
    assert len(sent(store)) == 3
    recovery.request(store, CLAIM, web())
    assert len(sent(store)) == 4
    clock.advance(60 * MINUTE)
    ask(store, OTHER_MOBILE)
    assert len(sent(store)) == 5


def test_one_too_many_is_never_good(store: Store, clock: FakeClock) -> None:
    """Its row is there, and its code too: nobody could know it, but nothing lets it in either."""
    drawn = [ask(store) for _ in range(5)]
    with store.database.read() as transaction:
        rows = {row.id: row.sent for row in transaction.scalars(select(VerificationCode))}
    assert [rows[one] for one in drawn] == [True] * 4 + [False]
    known = Secret("424242")
    mac = store.keys.index("verification-code", f"{drawn[-1]}/424242")
    with store.database.write() as transaction:
        transaction.get_one(VerificationCode, drawn[-1]).code_mac = mac
    assert enter(store, drawn[-1], known) is False
    clock.advance(SECOND)
    with store.database.write() as transaction:  # the same, if it had been sent
        transaction.get_one(VerificationCode, drawn[-1]).sent = True
    assert enter(store, drawn[-1], known) is True


def test_no_request_can_be_told_from_another(store: Store) -> None:
    """D04: of a dossier's contact, of nobody's, and one too many."""
    add_dossier(store)
    ask(store, OTHER_MOBILE)
    seen = watch(store.database)
    ask(store, OTHER_MOBILE)
    of_nobody = seen.copy()
    for _ in range(6):
        seen.clear()
        ask(store)
        assert seen == of_nobody
    assert len(sent(store)) == 2 + 4


def test_no_refusal_can_be_told_from_another(store: Store, clock: FakeClock) -> None:
    code_id, code = ask(store), last_code(store)
    assert enter(store, code_id, code)
    seen = watch(store.database)
    enter(store, UUID(int=0), code, "198.51.100.1")
    unknown = seen.copy()
    other = ask(store)
    wrong = wrong_code(store)
    for _ in range(2):
        ask(store)
    vain = ask(store)
    for tried, (which, entered) in enumerate([(code_id, code), (other, wrong), (vain, wrong)]):
        seen.clear()
        assert enter(store, which, entered, f"198.51.100.{tried}") is False
        assert seen == unknown
    clock.advance(10 * MINUTE)
    seen.clear()
    assert enter(store, other, wrong, "198.51.100.9") is False
    assert seen == unknown


# An incident (D15)


def test_while_an_incident_stands_none_is_sent_and_none_is_taken(store: Store) -> None:
    code_id, code = ask(store), last_code(store)
    incident.raise_incident(store, incident.SERVICE)
    with pytest.raises(ClosedError):
        ask(store)
    with pytest.raises(ClosedError):
        enter(store, code_id, code)
    incident.lift(store, incident.SERVICE)
    assert len(sent(store)) == 1
    assert enter(store, code_id, code) is True


@pytest.mark.parametrize(("caisse", "good"), [(None, False), (CAISSE, True)])
def test_a_void_ends_those_of_its_window(
    store: Store, clock: FakeClock, caisse: str | None, *, good: bool
) -> None:
    """Of a caisse's window it is not one: it is of nobody's dossier."""
    start = clock.now
    code_id, code = ask(store), last_code(store)
    clock.advance(MINUTE)
    voiding.void(store, Window(start, clock.now, caisse=caisse))
    assert enter(store, code_id, code) is good


# What is left


def test_it_is_of_no_person_and_the_audit_names_the_client(store: Store) -> None:
    """Even if somebody's dossier has that contact."""
    add_dossier(store)
    assert enter(store, ask(store), last_code(store))
    with store.database.read() as transaction:
        [row] = transaction.scalars(select(VerificationCode))
        entries = [
            (entry.event, entry.actor, entry.account_id, entry.person_id)
            for entry in transaction.scalars(select(AuditEntry).order_by(AuditEntry.id))
            if entry.event.startswith("code-")
        ]
        assert transaction.scalar(select(Person.id)) is not None
    assert (row.person_id, row.purpose) == (None, "agenda:rendez-vous")
    assert entries == [(event, "agenda", None, None) for event in ("code-sent", "code-used")]
    kept = b"".join(value for value in vars(row).values() if isinstance(value, bytes))
    for personal in (OWNER, OWNER[3:], last_code(store).reveal()):
        assert personal.encode() not in kept
