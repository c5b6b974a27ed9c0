"""A dossier: read by the session's own, as the rights allow, and every access audited.

D11, D15, R26 to R33, R39.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast, get_origin
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from shared import dossier, sessions
from shared.dossier_data import (
    ALERTS,
    LETTERS,
    PAYMENTS,
    SECTIONS,
    Alert,
    Appointment,
    Certificate,
    Claim,
    Debt,
    Dossier,
    DossierSource,
    EntitledTo,
    Payment,
    Quotient,
    Request,
    Section,
    UnreadLetter,
    Withheld,
)
from shared.errors import NotAllowedError, NotYetError, SessionEndedError, UnavailableError
from shared.models import Account, AuditEntry, DossierSection, LoginSession, Person, Role
from shared.rights import Right, Standing
from shared.sessions import Session
from shared.store import Store
from tests.store import CAISSE, NUMBER, FakeClock, add_account, execute, open_session, pay, tell

T = TypeVar("T")

OTHER_NUMBER = "7654321"


def _read(section: Section[Any], store: Store, session: Session) -> object:
    return dossier.read(store, session, section)


FUNCTIONS = [
    function
    for name, function in inspect.getmembers(dossier, inspect.isfunction)
    if function.__module__ == dossier.__name__ and not name.startswith("_")
]
READERS: dict[str, Callable[[Store, Session], object]] = {
    **{event: partial(_read, section) for section, (_, event) in dossier.READING.items()},
    "read-disclosure": lambda store, session: dossier.disclosure(store, session, Role.ALLOCATAIRE),
}


def _add_person(store: Store, account_id: UUID, role: Role, *, delegated: bool = False) -> UUID:
    person_id = uuid4()
    since = store.clock() if delegated else None
    person = Person(id=person_id, account_id=account_id, role=role, delegated_at=since)
    execute(store, lambda transaction: transaction.add(person))
    return person_id


def _session_of(store: Store, person_id: UUID) -> Session:
    """Open a session of a person's own, as their login with a NIR does (R17, D11)."""
    session = open_session(store)
    of_session = LoginSession.token_hash == session.token_hash
    whose = update(LoginSession).where(of_session).values(person_id=person_id)
    execute(store, lambda transaction: transaction.execute(whose))
    return session


def _events(store: Store) -> list[tuple[str, UUID | None]]:
    with store.database.read() as transaction:
        entries = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    return [(entry.event, entry.account_id) for entry in entries if entry.event != "login"]


# Reading


def test_the_newest_payment_is_the_last_one(store: Store) -> None:
    account_id = add_account(store)
    pay(store, account_id, ("2021-09-05", 100), ("2021-11-05", 300), ("2021-10-05", 200))
    payment = dossier.last_payment(store, open_session(store))
    assert payment is not None
    assert (payment.paid_on, payment.cents) == (date(2021, 11, 5), 300)


def test_a_dossier_may_have_no_payment_yet(store: Store) -> None:
    add_account(store)
    assert dossier.last_payment(store, open_session(store)) is None


def test_a_payment_of_another_dossier_is_never_read(store: Store) -> None:
    add_account(store)
    other = add_account(store, OTHER_NUMBER)
    pay(store, other, ("2021-11-05", 300))
    assert dossier.last_payment(store, open_session(store)) is None


@pytest.mark.parametrize(("event", "reader"), READERS.items(), ids=READERS)
def test_every_reading_is_audited(
    store: Store, clock: FakeClock, event: str, reader: Callable[[Store, Session], object]
) -> None:
    account_id = add_account(store)
    for section in SECTIONS:
        tell(store, account_id, section, ())
    reader(store, open_session(store, call_id="call-1"))
    with store.database.read() as transaction:
        entry = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry is not None
    assert entry.event == event
    assert (entry.account_id, entry.call_id, entry.channel, entry.at) == (
        account_id,
        "call-1",
        "voice",
        clock.now,
    )


def test_a_session_tells_its_caisse(store: Store) -> None:
    add_account(store)
    session = open_session(store)
    assert dossier.caisse(store, session) == CAISSE
    sessions.end(store, session)
    with pytest.raises(SessionEndedError):
        dossier.caisse(store, session)


def test_these_are_all_readings() -> None:
    changes = {"give_delegation", "withdraw_delegation"}
    telling_apart = {"caisse"}  # of several dossiers of a person (D11)
    audited = {"read", "last_payment", "disclosure"}
    offering = {"rights_of"}  # reads nothing of the dossier
    names = {function.__name__ for function in FUNCTIONS}
    assert names == audited | offering | changes | telling_apart
    assert [*dossier.READING] == [*SECTIONS]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_no_function_can_be_told_whose_dossier_to_open(function: Callable[..., object]) -> None:
    """R39: there is no way to write the reading of somebody else's file."""
    parameters = inspect.signature(function).parameters
    kinds = [parameter.annotation for parameter in parameters.values()]
    assert kinds[:2] == [Store, Session]
    plain = (int, bool, date, Role, Section)  # how much, of when, what of it: but not of whom
    assert [kind for kind in kinds[2:] if (get_origin(kind) or kind) not in plain] == []
    assert not any(
        word in name for name in parameters for word in ("account", "number", "person", "nir", "id")
    )


# Sections (R38)

DAY = date(2021, 10, 5)
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "payments": (Payment.model_construct(
        paid_on=DAY, cents=1, payee="bailleur",
        withheld=(Withheld.model_construct(cents=2, reason="saisie"),),
    ),),
    "rights": (EntitledTo.model_construct(
        code="apl", since=DAY, ended_on=DAY, reason="ressources"
    ),),
    "quotient": (Quotient.model_construct(value=812, month="2021-10"),),
    "claims": (Claim.model_construct(category="rsa", received_on=DAY, state="recue"),),
    "requests": (Request.model_construct(document="rib", before=DAY),),
    "certificates": (Certificate.model_construct(kind="quotient", months=("2021-10",)),),
    "debts": (Debt.model_construct(code="rsa", left=12, monthly=3),),
    "appointments": (Appointment.model_construct(
        at=datetime.fromisoformat("2021-11-05T14:30+01:00"), place="accueil"
    ),),
    "letters": (UnreadLetter.model_construct(code="droits", sent_on=DAY),),
    "alerts": (Alert.model_construct(code="controle", before=None),),
}  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_a_section_is_read_as_it_was_told(store: Store, section: Section[Any]) -> None:
    tell(store, add_account(store), section, EXAMPLES[section.name])
    other = add_account(store, OTHER_NUMBER)
    tell(store, other, section, ())
    assert dossier.read(store, open_session(store), section) == EXAMPLES[section.name]
    assert dossier.read(store, open_session(store, OTHER_NUMBER), section) == ()


def _nothing(_store: Store, _account_id: UUID) -> None:
    return


def _too_old(store: Store, account_id: UUID) -> None:
    fresh = timedelta(days=store.rules.dossier.fresh_days)
    tell(store, account_id, ALERTS, (), store.clock() - fresh - timedelta(microseconds=1))


def _of_another_dossier(store: Store, account_id: UUID) -> None:
    """Somebody who can write to the database puts a row where it was not sealed for."""
    other = add_account(store, OTHER_NUMBER)
    tell(store, other, ALERTS, EXAMPLES["alerts"])
    moved = update(DossierSection).where(DossierSection.section == "alerts")
    execute(store, lambda t: t.execute(moved.values(account_id=account_id)))


def _of_another_section(store: Store, account_id: UUID) -> None:
    tell(store, account_id, LETTERS, ())
    moved = update(DossierSection).where(DossierSection.section == "letters")
    execute(store, lambda t: t.execute(moved.values(section="alerts")))


def _of_a_code_that_is_gone(store: Store, account_id: UUID) -> None:
    tell(store, account_id, ALERTS, (Alert.model_construct(code="autrefois", before=None),))


UNAVAILABLE = (
    _nothing,
    _too_old,
    _of_another_dossier,
    _of_another_section,
    _of_a_code_that_is_gone,
)


@pytest.mark.parametrize("make", UNAVAILABLE, ids=lambda make: make.__name__.strip("_"))
def test_what_nobody_can_tell_is_not_available(
    store: Store, make: Callable[[Store, UUID], None]
) -> None:
    """It is no empty section: that would be said to be one."""
    account_id = add_account(store)
    session = open_session(store)
    make(store, account_id)
    with pytest.raises(UnavailableError):
        dossier.read(store, session, ALERTS)


def test_what_was_told_is_good_until_its_last_moment(store: Store) -> None:
    fresh = timedelta(days=store.rules.dossier.fresh_days)
    tell(store, add_account(store), ALERTS, EXAMPLES["alerts"], store.clock() - fresh)
    assert dossier.read(store, open_session(store), ALERTS) == EXAMPLES["alerts"]


class _Elsewhere(DossierSource):
    """A service of the caisses, which answers or does not."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Dossier, str]] = []

    def read(self, dossier: Dossier, section: Section[T]) -> T:
        self.asked.append((dossier, section.name))
        answer = self.answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return cast(T, answer)


def test_another_source_is_asked_for_the_session_s_dossier_alone(store: Store) -> None:
    """R39: and for nothing that the rights refuse; what was imported is not looked at."""
    account_id = add_account(store)
    conjoint = _add_person(store, account_id, Role.CONJOINT)
    source = _Elsewhere(EXAMPLES["payments"], UnavailableError())
    elsewhere = replace(store, dossiers=source)
    with pytest.raises(UnavailableError):
        dossier.read(elsewhere, open_session(store), PAYMENTS)
    assert dossier.read(elsewhere, open_session(store), PAYMENTS) == EXAMPLES["payments"]
    with pytest.raises(NotAllowedError):
        dossier.read(elsewhere, _session_of(store, conjoint), PAYMENTS)
    assert source.asked == [(Dossier(account_id, CAISSE, NUMBER), "payments")] * 2
    assert _events(store) == [
        ("read-payments", account_id),
        ("read-payments", account_id),
        ("access-refused", account_id),
    ]


def test_a_source_is_asked_outside_any_transaction(store: Store) -> None:
    """One that is slow keeps no writer waiting."""

    class Slow(_Elsewhere):
        def read(self, dossier: Dossier, section: Section[T]) -> T:
            add_account(store, OTHER_NUMBER)  # takes the turn to write
            return super().read(dossier, section)

    add_account(store)
    slow = replace(store, dossiers=Slow(()))
    assert dossier.read(slow, open_session(store), PAYMENTS) == ()


# Rights by section (R26 to R32): who reads what, of a dossier that is affiliated or not

# fmt: off
ALL = frozenset(section.name for section in SECTIONS)
OF_A_FIRST_CLAIM = frozenset({"payments", "rights", "claims", "requests"})
BY_SECTION = {
    # whose session, delegation: what an affiliated dossier tells, what a first claim tells
    "the dossier's own":          (None,                      False, ALL,         OF_A_FIRST_CLAIM),
    "the allocataire":            (Role.ALLOCATAIRE,          False, ALL,         OF_A_FIRST_CLAIM),
    "a conjoint with delegation": (Role.CONJOINT,             True,  ALL,         OF_A_FIRST_CLAIM),
    "a conjoint without":         (Role.CONJOINT,             False, frozenset(), frozenset()),
    "a conjoint allocataire":     (Role.CONJOINT_ALLOCATAIRE, False, ALL,         OF_A_FIRST_CLAIM),
    "a child over 15":            (Role.AUTRE,                False, frozenset(), frozenset()),
    "a guardian":                 (Role.TUTEUR,               False, ALL,         OF_A_FIRST_CLAIM),
}
# fmt: on


@pytest.mark.parametrize(
    ("role", "delegated", "affiliated", "first_claim"), BY_SECTION.values(), ids=BY_SECTION
)
def test_who_may_read_which_section(
    store: Store,
    role: Role | None,
    affiliated: frozenset[str],
    first_claim: frozenset[str],
    *,
    delegated: bool,
) -> None:
    account_id = add_account(store)
    for section in SECTIONS:
        tell(store, account_id, section, ())
    if role is None:
        session = open_session(store)
    else:
        session = _session_of(store, _add_person(store, account_id, role, delegated=delegated))
    assert _read_by(store, session) == (affiliated, frozenset())
    execute(store, lambda t: t.execute(update(Account).values(situation="primo-demandeur")))
    assert _read_by(store, session) == (first_claim, affiliated - first_claim)


def _read_by(store: Store, session: Session) -> tuple[frozenset[str], frozenset[str]]:
    """Give what a session reads, and what it will read once the first claim is dealt with."""
    read, later = set(), set()
    for section in SECTIONS:
        right, _ = dossier.READING[section]
        may = right in dossier.rights_of(store, session)
        try:
            dossier.read(store, session, section)
            read.add(section.name)
        except NotYetError:
            later.add(section.name)
        except NotAllowedError:
            pass
        assert may is (section.name in read)
    return frozenset(read), frozenset(later)


def test_what_may_be_read_is_not_audited(store: Store) -> None:
    """It tells nothing of the dossier."""
    add_account(store)
    assert dossier.rights_of(store, open_session(store))
    assert _events(store) == []


# Rights (R26 to R31)

# fmt: off
READING = {
    # whose session (None: the dossier's own, by number and password): may read payments
    "the dossier's own":            (None,                      False, True),   # D11
    "the allocataire":              (Role.ALLOCATAIRE,          False, True),   # R26
    "a conjoint with delegation":   (Role.CONJOINT,             True,  True),   # R27
    "a conjoint without":           (Role.CONJOINT,             False, False),  # R29
    "a conjoint allocataire":       (Role.CONJOINT_ALLOCATAIRE, False, True),   # R28
    "a child over 15":              (Role.AUTRE,                False, False),  # R30
    "delegation is the conjoint's": (Role.AUTRE,                True,  False),  # R27, R30
    "a guardian":                   (Role.TUTEUR,               False, True),   # R31
}
# fmt: on


@pytest.mark.parametrize(("role", "delegated", "expected"), READING.values(), ids=READING)
def test_who_may_read(store: Store, role: Role | None, *, delegated: bool, expected: bool) -> None:
    account_id = add_account(store)
    pay(store, account_id, ("2021-11-05", 300))
    if role is None:
        session = open_session(store)
    else:
        person_id = _add_person(store, account_id, role, delegated=delegated)
        session = _session_of(store, person_id)
    if expected:
        assert dossier.last_payment(store, session) is not None
        assert _events(store) == [("read-payments", account_id)]
    else:
        with pytest.raises(NotAllowedError):
            dossier.last_payment(store, session)
        assert _events(store) == [("access-refused", account_id)]


def test_a_person_of_another_dossier_may_nothing(store: Store) -> None:
    """R39: a session that names a person who is not of its dossier has no right."""
    add_account(store)
    stranger = _add_person(store, add_account(store, OTHER_NUMBER), Role.ALLOCATAIRE)
    with pytest.raises(NotAllowedError):
        dossier.last_payment(store, _session_of(store, stranger))


def test_a_first_claim_has_no_delegation_yet(store: Store) -> None:
    """R32: changes are closed; payments can be asked for and there are none."""
    account_id = add_account(store)
    _add_person(store, account_id, Role.CONJOINT)
    execute(store, lambda t: t.execute(update(Account).values(situation="primo-demandeur")))
    session = open_session(store)
    assert dossier.last_payment(store, session) is None
    with pytest.raises(NotAllowedError):
        dossier.give_delegation(store, session)


# The delegation (R26, R27)


def test_rights_are_told_as_they_are_now(store: Store) -> None:
    """D11: to offer what can be asked for; a session that is over has none."""
    account_id = add_account(store)
    conjoint = _add_person(store, account_id, Role.CONJOINT)
    theirs, owner = _session_of(store, conjoint), open_session(store)
    assert Right.READ_PAYMENTS in dossier.rights_of(store, owner)
    assert Right.READ_OTHERS_CONTACTS not in dossier.rights_of(store, owner)
    assert Right.READ_PAYMENTS not in dossier.rights_of(store, theirs)
    assert Right.READ_OWN_DATA in dossier.rights_of(store, theirs)
    dossier.give_delegation(store, owner)
    assert Right.READ_PAYMENTS in dossier.rights_of(store, theirs)
    sessions.end(store, theirs)
    with pytest.raises(SessionEndedError):
        dossier.rights_of(store, theirs)


def test_a_delegation_withdrawn_ends_what_it_allowed_at_once(store: Store) -> None:
    """D11: rights are read at each access, in sessions that are open already."""
    account_id = add_account(store)
    conjoint = _add_person(store, account_id, Role.CONJOINT)
    theirs, owner = _session_of(store, conjoint), open_session(store)
    with pytest.raises(NotAllowedError):
        dossier.last_payment(store, theirs)
    assert dossier.give_delegation(store, owner)
    dossier.last_payment(store, theirs)
    assert dossier.withdraw_delegation(store, owner)
    with pytest.raises(NotAllowedError):
        dossier.last_payment(store, theirs)
    assert _events(store) == [
        ("access-refused", account_id),
        ("delegation-given", account_id),
        ("read-payments", account_id),
        ("delegation-withdrawn", account_id),
        ("access-refused", account_id),
    ]


def test_the_audit_says_who_read_and_whose_delegation_it_is(store: Store) -> None:
    """D15: so that a change can be undone and a reader named."""
    account_id = add_account(store)
    owner = _add_person(store, account_id, Role.ALLOCATAIRE)
    conjoint = _add_person(store, account_id, Role.CONJOINT)
    session = _session_of(store, owner)
    dossier.give_delegation(store, session)
    dossier.last_payment(store, session)
    with store.database.read() as transaction:
        entries = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).all()
    assert [(entry.person_id, entry.subject_id) for entry in entries[:2]] == [
        (owner, None),
        (owner, conjoint),
    ]


def test_a_delegation_is_dated_once(store: Store, clock: FakeClock) -> None:
    account_id = add_account(store)
    conjoint = _add_person(store, account_id, Role.CONJOINT)
    given_at, session = clock.now, open_session(store)
    assert dossier.give_delegation(store, session)
    clock.now = given_at.replace(minute=45)
    assert not dossier.give_delegation(store, session)
    with store.database.read() as transaction:
        assert transaction.get_one(Person, conjoint).delegated_at == given_at


def test_there_may_be_nobody_to_delegate_to(store: Store) -> None:
    account_id = add_account(store)
    _add_person(store, account_id, Role.AUTRE)
    other_id = add_account(store, OTHER_NUMBER)
    stranger = _add_person(store, other_id, Role.CONJOINT)
    session = open_session(store)
    assert not dossier.give_delegation(store, session)
    assert not dossier.withdraw_delegation(store, session)
    assert _events(store) == []
    with store.database.read() as transaction:
        assert transaction.get_one(Person, stranger).delegated_at is None


@pytest.mark.parametrize(
    ("role", "delegated"),
    [
        (Role.CONJOINT, False),
        (Role.CONJOINT, True),
        (Role.CONJOINT_ALLOCATAIRE, False),
        (Role.AUTRE, False),
        (Role.TUTEUR, False),
    ],
)
def test_the_allocataire_alone_delegates(store: Store, role: Role, *, delegated: bool) -> None:
    """R26."""
    account_id = add_account(store)
    person_id = _add_person(store, account_id, role, delegated=delegated)
    session = _session_of(store, person_id)
    for change in (dossier.give_delegation, dossier.withdraw_delegation):
        with pytest.raises(NotAllowedError):
            change(store, session)
    with store.database.read() as transaction:
        assert (transaction.get_one(Person, person_id).delegated_at is not None) is delegated


# What an adviser may say (R33, D11)

CONJOINT, C_ALLOCATAIRE = Role.CONJOINT, Role.CONJOINT_ALLOCATAIRE
# fmt: off
DISCLOSURES = {
    # the household's other person, with delegation or not; « I am … »: who calls, may be told all
    "the allocataire calls":        (CONJOINT, False, Role.ALLOCATAIRE, Standing.ALLOCATAIRE, True),
    "a conjoint calls":             (CONJOINT, False, CONJOINT, Standing.CONJOINT, False),
    "a conjoint with delegation":   (CONJOINT, True,  CONJOINT, Standing.DELEGATE, True),
    "a conjoint allocataire": (C_ALLOCATAIRE, False, CONJOINT, Standing.CONJOINT_ALLOCATAIRE, True),
    "somebody else of the dossier": (CONJOINT, True,  Role.AUTRE, None, False),
    "a conjoint whom nobody knows": (Role.AUTRE, False, CONJOINT, None, False),
}
# fmt: on


@pytest.mark.parametrize(
    ("other", "delegated", "answer", "caller", "all_told"), DISCLOSURES.values(), ids=DISCLOSURES
)
def test_what_an_adviser_may_tell(
    store: Store,
    other: Role,
    answer: Role,
    caller: Standing | None,
    *,
    delegated: bool,
    all_told: bool,
) -> None:
    account_id = add_account(store)
    _add_person(store, account_id, other, delegated=delegated)
    shown = dossier.disclosure(store, open_session(store), answer)
    assert shown.caller == caller
    assert (Right.READ_PAYMENTS in shown.told) is all_told


def test_an_adviser_sees_the_delegation_whoever_calls(store: Store) -> None:
    account_id = add_account(store)
    session = open_session(store)
    assert dossier.disclosure(store, session, Role.ALLOCATAIRE).conjoint is None
    _add_person(store, account_id, Role.CONJOINT)
    assert dossier.disclosure(store, session, Role.ALLOCATAIRE).conjoint is Standing.CONJOINT
    dossier.give_delegation(store, session)
    assert dossier.disclosure(store, session, Role.ALLOCATAIRE).conjoint is Standing.DELEGATE


def test_of_two_conjoints_the_one_with_fewer_rights_counts(store: Store) -> None:
    account_id = add_account(store)
    _add_person(store, account_id, Role.CONJOINT, delegated=True)
    _add_person(store, account_id, Role.CONJOINT)
    shown = dossier.disclosure(store, open_session(store), Role.CONJOINT)
    assert shown.caller is Standing.CONJOINT


@pytest.mark.parametrize("answer", Role)
@pytest.mark.parametrize(
    ("role", "caller"),
    [(Role.ALLOCATAIRE, Standing.ALLOCATAIRE), (Role.CONJOINT, Standing.CONJOINT)],
)
def test_a_persons_own_session_needs_no_answer(
    store: Store, role: Role, caller: Standing, answer: Role
) -> None:
    """D11: opened with a NIR it is that person's, whatever they say."""
    account_id = add_account(store)
    session = _session_of(store, _add_person(store, account_id, role))
    assert dossier.disclosure(store, session, answer).caller is caller
