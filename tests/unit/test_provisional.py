"""Provisional identifiers: asked for, sent again, and over once there is a NIR (R20, R22)."""

import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, select, update

from shared import incident, outbox, provisional, recovery, web_accounts
from shared.credentials import Refusal
from shared.errors import ClosedError
from shared.life_cycle import Key
from shared.models import Account, AuditEntry, Credential, Message, Person, Role, Route, WebAccount
from shared.origin import Origin
from shared.people import Address, PersonData, seal_person
from shared.recovery import Claim
from shared.rules import Channel, Identifier
from shared.secret import Secret
from shared.store import Store
from shared.web_accounts import Holder, WebLogin
from tests.store import CAISSE, NUMBER, OWNER, FakeClock, add_account, execute, watch

WHO = PersonData(surname="Diallo", given_names="Awa", birth_date=date(1998, 5, 17))
NIR = "298059912611193"[:13]
LANDLINE, MAIL = "+33143215678", "awa@example.org"
NEW_MOBILE = "+33698765432"
OTHER_NUMBER = "0000002"
LATELY, LONG_AGO = date(2021, 10, 20), date(2021, 1, 1)  # of 2 November 2021
WEB = Origin(Channel.WEB)
WEB_PASSWORD = "Sesame2021"
PARALLEL = 8


def add_person(store: Store, number: str = NUMBER, **data: Any) -> UUID:
    """Add a dossier whose allocataire is `WHO`, with a mobile unless `data` says otherwise."""
    account_id = add_account(store, number, None, mobile=None)
    known = replace(WHO, **({"mobile": OWNER} | data))
    person_id = uuid4()
    columns = seal_person(store.keys, person_id, known)
    person = Person(id=person_id, account_id=account_id, role=Role.CONJOINT, **columns)
    execute(store, lambda transaction: transaction.add(person))
    return person_id


def ask(store: Store, number: str = NUMBER, who: PersonData = WHO) -> None:
    """Ask for an identifier, as a person of that dossier."""
    provisional.request(store, Key(CAISSE, number), who, WEB)


def messages(store: Store) -> list[Message]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(Message).order_by(Message.created_at, Message.id)))


def sent(store: Store) -> list[str]:
    """Give the identifiers that messages carry."""
    digits = (json.loads(outbox.opened(store, one, "content"))["digits"] for one in messages(store))
    return [f"P{text}" for text in digits]


def web_account_ids(store: Store) -> list[UUID]:
    with store.database.read() as transaction:
        return sorted(transaction.scalars(select(WebAccount.id)))


def last_event(store: Store) -> str:
    with store.database.read() as transaction:
        newest = select(AuditEntry.event).order_by(AuditEntry.id.desc()).limit(1)
        return transaction.scalars(newest).one()


def drawing(store: Store, *numbers: int) -> Store:
    """Give the same store with these numbers for chance."""
    left = iter(numbers)
    return replace(store, chance=lambda _below: next(left))


def log_in(store: Store, identifier: Identifier, value: str) -> object:
    login = WebLogin(Holder(identifier, value), Secret(WEB_PASSWORD))
    return web_accounts.verify(store, login, WEB)


def choose_password(store: Store, person_id: UUID) -> None:
    hashed = store.hasher.hash(Secret(WEB_PASSWORD))
    with store.database.write() as transaction:
        person = transaction.get_one(Person, person_id)
        web_accounts.set_password(store, transaction, person, hashed, WEB)


def learn_nir(store: Store, person_id: UUID) -> None:
    index = store.keys.index("nir", NIR)
    execute(
        store,
        lambda transaction: transaction.execute(
            update(Person).where(Person.id == person_id).values(nir_index=index)
        ),
    )


# Issuing


def test_it_is_p_and_eight_digits(store: Store) -> None:
    add_person(store)
    ask(store)
    (identifier,) = sent(store)
    assert re.fullmatch("P[0-9]{8}", identifier)
    assert last_event(store) == "provisional-issued"


def test_leading_zeros_are_kept(store: Store) -> None:
    add_person(store)
    ask(drawing(store, 42))
    assert sent(store) == ["P00000042"]


def test_one_that_somebody_has_is_drawn_again(store: Store, clock: FakeClock) -> None:
    store = drawing(store, 42, 42, 43)
    add_person(store)
    add_person(store, OTHER_NUMBER, mobile=NEW_MOBILE)
    ask(store)
    ask(store, OTHER_NUMBER)
    assert sorted(sent(store)) == ["P00000042", "P00000043"]


def test_one_that_has_ended_is_never_given_again(store: Store, clock: FakeClock) -> None:
    store = drawing(store, 42, 42, 43)
    add_person(store)
    ask(store)
    execute(store, lambda t: t.execute(update(WebAccount).values(ended_at=clock.now)))
    clock.advance(timedelta(hours=1))
    ask(store)
    assert sent(store) == ["P00000042", "P00000043"]


def test_a_person_keeps_the_same_one(store: Store, clock: FakeClock) -> None:
    """R22: it is to be kept."""
    add_person(store)
    ask(store)
    clock.advance(timedelta(days=300))
    ask(store)
    first, second = sent(store)
    assert first == second
    assert last_event(store) == "provisional-sent"


def test_it_is_of_the_dossier_that_was_named(store: Store) -> None:
    """Two people of one name and birth date are told apart by it."""
    add_person(store)
    second = add_person(store, OTHER_NUMBER, mobile=NEW_MOBILE)
    ask(store, OTHER_NUMBER)
    with store.database.read() as transaction:
        assert transaction.scalars(select(WebAccount.person_id)).all() == [second]
    assert [outbox.opened(store, one, "destination") for one in messages(store)] == [NEW_MOBILE]


def test_an_account_without_one_gets_one(store: Store) -> None:
    choose_password(store, add_person(store))
    execute(store, lambda t: t.execute(delete(Message)))  # that the account was made (R23)
    ask(store)
    (identifier,) = sent(store)
    assert isinstance(log_in(store, Identifier.PROVISIONAL, identifier), tuple)


def test_it_alone_opens_nothing(store: Store, clock: FakeClock) -> None:
    """R13: its owner chooses a password by a code, to a contact on file."""
    add_person(store)
    ask(store)
    (identifier,) = sent(store)
    assert log_in(store, Identifier.PROVISIONAL, identifier) is Refusal.REFUSED
    clock.advance(timedelta(seconds=1))
    claim = Claim(Holder(Identifier.PROVISIONAL, identifier), "Diallo", Route.SMS)
    code_id = recovery.request(store, claim, WEB)
    code = Secret(json.loads(outbox.opened(store, messages(store)[-1], "content"))["code"])
    steps = recovery.verify(store, code_id, code, WEB)
    assert steps is not None
    assert recovery.choose_password(store, steps, Secret(WEB_PASSWORD)) == frozenset()
    assert isinstance(log_in(store, Identifier.PROVISIONAL, identifier), tuple)


ADDRESS = Address("1 RUE DE LA PAIX", None, "75002", "PARIS")
# fmt: off
CONTACTS = {
    # what is on file: by which route, to what
    "a mobile":           ({"mobile": OWNER, "email": MAIL},   Route.SMS,    OWNER),
    "no mobile":          ({"mobile": None, "email": MAIL},    Route.MAIL,   MAIL),
    "a foreign mobile":   ({"mobile": "+447911123456", "email": MAIL}, Route.MAIL, MAIL),  # D08
    "an address alone":   ({"mobile": None, "address": ADDRESS}, Route.LETTER, None),
    "a landline alone":   ({"mobile": None, "landline": LANDLINE}, Route.LETTER, None),
    "a mobile of lately, one before it": (
        {"mobile": NEW_MOBILE, "mobile_since": LATELY, "mobile_before": OWNER}, Route.SMS, OWNER),
    "a mobile of lately": ({"mobile": NEW_MOBILE, "mobile_since": LATELY}, Route.LETTER, None),
    "a mobile of long ago": (
        {"mobile": NEW_MOBILE, "mobile_since": LONG_AGO, "mobile_before": OWNER},
        Route.SMS, NEW_MOBILE),
}
# fmt: on


@pytest.mark.parametrize(("data", "route", "destination"), CONTACTS.values(), ids=CONTACTS)
def test_it_goes_to_the_quickest_contact_that_is_trusted(
    store: Store, data: dict[str, Any], route: Route, destination: str | None
) -> None:
    """R20, D04, D08; by post it goes to the person, wherever he or she lives by then."""
    person_id = add_person(store, **data)
    ask(store)
    (message,) = messages(store)
    assert message.route == route
    assert message.template == "provisional-identifier"
    assert outbox.opened(store, message, "destination") == (destination or str(person_id))


def test_it_is_sealed(store: Store) -> None:
    """D13."""
    add_person(store)
    ask(drawing(store, 12345678))
    with store.database.read() as transaction:
        account = transaction.scalars(select(WebAccount)).one()
    assert account.provisional_sealed is not None
    assert b"12345678" not in account.provisional_sealed


def test_asked_for_at_once_by_many_it_is_one_and_sent_once(store: Store) -> None:
    """D06."""
    add_person(store)
    _at_once(lambda: ask(store))
    assert len(sent(store)) == 1
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(WebAccount)) == 1


def test_asked_for_while_a_password_is_chosen_there_is_one_account(store: Store) -> None:
    person_id = add_person(store)
    _at_once(lambda: ask(store), lambda: choose_password(store, person_id))
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(WebAccount)) == 1


def _end_account(store: Store, _person_id: UUID) -> None:
    execute(store, lambda t: t.execute(update(WebAccount).values(ended_at=store.clock())))


def _close_dossier(store: Store, _person_id: UUID) -> None:
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


def _no_identifier(store: Store, _person_id: UUID) -> None:
    execute(
        store,
        lambda t: t.execute(
            update(WebAccount).values(provisional_index=None, provisional_sealed=None)
        ),
    )


def _before_the_bascule(store: Store, _person_id: UUID) -> None:
    assert isinstance(store.clock, FakeClock)
    store.clock.now = datetime(2021, 10, 8, 21, 59, 59, tzinfo=UTC)  # R18: midnight in Paris


def _asked_just_now(store: Store, _person_id: UUID) -> None:
    ask(store)


def _nothing(_store: Store, _person_id: UUID) -> None:
    return


KIOSK = Origin(Channel.KIOSK)
OTHER_NAME = replace(WHO, surname="Nobody")
OTHER_DAY = replace(WHO, birth_date=date(1998, 5, 18))
ASKED_IN_VAIN = {  # why nothing is sent: what was done before, for which number, who asks, where
    "unknown number": (_nothing, "9999999", WHO, WEB),
    "another dossier": (_nothing, OTHER_NUMBER, WHO, WEB),
    "another name": (_nothing, NUMBER, OTHER_NAME, WEB),
    "another birth date": (_nothing, NUMBER, OTHER_DAY, WEB),
    "no name at all": (_nothing, NUMBER, PersonData(), WEB),
    "the NIR is known": (learn_nir, NUMBER, WHO, WEB),
    "the dossier is closed": (_close_dossier, NUMBER, WHO, WEB),
    "before the bascule": (_before_the_bascule, NUMBER, WHO, WEB),
    "a kiosk, where it opens nothing": (_nothing, NUMBER, WHO, KIOSK),
    "asked just now": (_asked_just_now, NUMBER, WHO, WEB),
}


@pytest.mark.parametrize(
    ("before", "number", "who", "origin"), ASKED_IN_VAIN.values(), ids=ASKED_IN_VAIN
)
def test_nobody_can_tell_what_a_first_request_did(
    store: Store,
    before: Callable[[Store, UUID], None],
    number: str,
    who: PersonData,
    origin: Origin,
) -> None:
    """D04: the same statements as for one that is sent, and nothing changed."""
    add_account(store, OTHER_NUMBER, None, mobile=None)
    add_person(store, "0000003", surname="Camara", mobile=NEW_MOBILE)
    seen = watch(store.database)
    ask(store, "0000003", replace(WHO, surname="Camara"))
    as_sent = [*seen]
    before(store, add_person(store))
    accounts, letters = web_account_ids(store), len(messages(store))
    seen.clear()
    provisional.request(store, Key(CAISSE, number), who, origin)
    assert seen == as_sent
    assert (web_account_ids(store), len(messages(store))) == (accounts, letters)
    assert last_event(store) == "provisional-request-suppressed"


def test_an_incident_refuses_everybody_alike(store: Store) -> None:
    """D15: whether there is such a person or not."""
    add_person(store)
    incident.raise_incident(store, f"caisse:{CAISSE}")
    for number in (NUMBER, "9999999"):
        with pytest.raises(ClosedError):
            ask(store, number)
    assert messages(store) == []


# « Identifiant oublié »


def test_it_is_sent_again_to_its_owner(store: Store, clock: FakeClock) -> None:
    add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=15))
    provisional.remind(store, WHO, WEB)
    first, second = sent(store)
    assert first == second
    assert last_event(store) == "provisional-sent"


def test_names_are_compared_without_case_or_accents(store: Store, clock: FakeClock) -> None:
    add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=15))
    provisional.remind(store, replace(WHO, surname="DIÀLLO", given_names="awa"), WEB)
    assert len(sent(store)) == 2


IN_VAIN = {  # why nothing is sent: (what was done before, who asks, minutes since the last one)
    "unknown": (_nothing, OTHER_NAME, 15),
    "another birth date": (_nothing, OTHER_DAY, 15),
    "no name at all": (_nothing, PersonData(), 15),
    "the NIR is known": (learn_nir, WHO, 15),
    "the account has ended": (_end_account, WHO, 15),
    "the dossier is closed": (_close_dossier, WHO, 15),
    "a password alone": (_no_identifier, WHO, 15),
    "too soon": (_nothing, WHO, 14),
}


@pytest.mark.parametrize(("before", "who", "minutes"), IN_VAIN.values(), ids=IN_VAIN)
def test_nobody_can_tell_what_a_request_did(
    store: Store,
    clock: FakeClock,
    before: Callable[[Store, UUID], None],
    who: PersonData,
    minutes: int,
) -> None:
    """D04: the same statements as for one that is sent, and nothing changed."""
    person_id = add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=15))
    seen = watch(store.database)
    provisional.remind(store, WHO, WEB)
    as_sent = [*seen]
    assert len(messages(store)) == 2
    clock.advance(timedelta(minutes=minutes))
    before(store, person_id)
    seen.clear()
    provisional.remind(store, who, WEB)
    assert seen == as_sent
    assert len(messages(store)) == 2
    assert last_event(store) == "provisional-request-suppressed"


# fmt: off
LIMITS = {  # when it is asked for, in minutes since it was issued: how many messages there are
    "14 minutes later":      ([14],                                   1),
    "15 minutes later":      ([15],                                   2),
    "three a day":           ([15, 30, 45, 24 * 60 - 1],              3),
    "a fourth the day after": ([15, 30, 24 * 60],                     4),
    "five in 30 days":       ([24 * 60 * day for day in range(1, 30)], 5),
    "a sixth after 30 days": ([*(24 * 60 * day for day in range(1, 5)), 24 * 60 * 30], 6),
}
# fmt: on


@pytest.mark.parametrize(("minutes", "expected"), LIMITS.values(), ids=LIMITS)
def test_how_often_it_is_sent(
    store: Store, clock: FakeClock, minutes: Iterable[int], expected: int
) -> None:
    """D06."""
    start = clock.now
    add_person(store)
    ask(store)
    for minute in minutes:
        clock.now = start + timedelta(minutes=minute)
        provisional.remind(store, WHO, WEB)
    assert len(messages(store)) == expected


def test_a_letter_under_way_is_not_repeated(store: Store, clock: FakeClock) -> None:
    """D03: for 10 days."""
    start = clock.now
    add_person(store, mobile=None)
    ask(store)
    for days, expected in ((9.99, 1), (10, 2)):
        clock.now = start + timedelta(days=days)
        provisional.remind(store, WHO, WEB)
        assert len(messages(store)) == expected


def test_a_telephone_of_many_gets_three_a_day(store: Store, clock: FakeClock) -> None:
    """D06: per telephone number, whatever the dossiers."""
    people = [f"Name{letter}" for letter in "abcd"]
    for at, surname in enumerate(people):
        add_person(store, f"000000{at}", surname=surname)
        ask(store, f"000000{at}", replace(WHO, surname=surname))
        execute(store, lambda t: t.execute(update(Message).values(destination_index=None)))
    clock.advance(timedelta(hours=1))
    for surname in people:
        provisional.remind(store, replace(WHO, surname=surname), WEB)
    assert len(messages(store)) == len(people) + 3


def test_the_service_has_a_budget(store: Store, clock: FakeClock) -> None:
    """D06."""
    reset = store.rules.reset.model_copy(update={"service_hour": 1})
    store = replace(store, rules=store.rules.model_copy(update={"reset": reset}))
    add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=59))
    provisional.remind(store, WHO, WEB)
    assert len(messages(store)) == 1
    clock.advance(timedelta(minutes=1))
    provisional.remind(store, WHO, WEB)
    assert len(messages(store)) == 2


def test_asked_for_by_many_at_once_it_is_sent_once(store: Store, clock: FakeClock) -> None:
    add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=15))
    _at_once(lambda: provisional.remind(store, WHO, WEB))
    assert len(messages(store)) == 2


def test_asked_for_as_a_first_one_and_as_a_forgotten_one_at_once_it_is_sent_once(
    store: Store, clock: FakeClock
) -> None:
    """D06: both are counted together."""
    add_person(store)
    ask(store)
    clock.advance(timedelta(minutes=15))
    _at_once(lambda: ask(store), lambda: provisional.remind(store, WHO, WEB))
    assert len(messages(store)) == 2


# The NIR comes (R20)


def test_it_logs_in_until_the_nir_is_known(store: Store) -> None:
    person_id = add_person(store)
    ask(store)
    choose_password(store, person_id)
    (identifier,) = sent(store)
    assert isinstance(log_in(store, Identifier.PROVISIONAL, identifier), tuple)
    learn_nir(store, person_id)
    assert log_in(store, Identifier.PROVISIONAL, identifier) is Refusal.REFUSED


def test_nothing_carries_over_to_the_nir(store: Store) -> None:
    """R20: the NIR logs in after « mot de passe oublié », and the old account has ended."""
    person_id = add_person(store)
    ask(store)
    choose_password(store, person_id)
    (identifier,) = sent(store)
    learn_nir(store, person_id)
    assert log_in(store, Identifier.NIR, NIR) is Refusal.REFUSED
    choose_password(store, person_id)
    assert isinstance(log_in(store, Identifier.NIR, NIR), tuple)
    assert log_in(store, Identifier.PROVISIONAL, identifier) is Refusal.REFUSED
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(WebAccount.provisional_index.is_(None), WebAccount.ended_at.is_(None))
        ).all()
        active = transaction.scalars(select(Credential.state)).all()
    assert sorted(tuple(row) for row in rows) == [(False, False), (True, True)]
    assert sorted(active) == ["active", "ended"]


def _at_once(*actions: Callable[[], object]) -> None:
    """Do these in turn in threads that start together; what one of them raises is raised."""
    start = Barrier(PARALLEL)

    def one(thread: int) -> None:
        start.wait()
        actions[thread % len(actions)]()

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(PARALLEL)))
