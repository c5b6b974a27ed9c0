"""« Mot de passe oublié » on the telephone: a new password on its way to its owner (R10, R11).

Whatever is asked for, by whomever, the same statements run and one Argon2 hash is computed: an
unknown number, a dossier without mobile and one asked for too often can't be told apart (D04).
What must not happen is a statement that changes no row.

The password in force stays valid until the new one is first used, so nobody can lock anybody out
(D03). The new one and its message are one transaction.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, cast
from uuid import UUID, uuid4

import structlog
from sqlalchemy import (
    Boolean,
    Connection,
    Insert,
    Table,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session as Transaction

from shared import audit, contacts, feed, incident, lives, outbox, passwords
from shared.clock import DAY
from shared.credentials import (
    NOBODY,
    Candidate,
    find,
    lock_account,
    open_hashes,
    phone_index,
    seal_hash,
    throttle_key,
    usable,
)
from shared.database import unit_of_work
from shared.errors import StoreError
from shared.models import (
    Account,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    Message,
    MessageState,
    Person,
    Priority,
    Role,
    Route,
)
from shared.origin import Origin
from shared.passwords import KnownOf
from shared.people import PersonData, open_person
from shared.rules import CredentialKind
from shared.secret import Secret
from shared.store import Store

TRIES = 5  # to find the credentials unchanged since they were read

log = structlog.get_logger(__name__)


class Template(StrEnum):
    """Which message brings a password."""

    PASSWORD = "password"  # noqa: S105
    PASSWORD_OLD_MOBILE = "password-old-mobile"  # noqa: S105 - the number on file changed lately
    LETTER = "letter-password"  # a provisional one, by post (R09, R25)


Decide = Callable[[Transaction, Account | None, Route], bool]
"""Says whether a password is issued by that route, in the transaction that issues it."""


@dataclass(frozen=True)
class Terms:
    """Why a password is issued, and how."""

    reason: CredentialOrigin
    provisional: bool = False  # R09
    by_post: bool = False  # whatever mobile is on file (R25)
    decide: Decide | None = None  # None: D06 decides


class RequestLostError(StoreError):
    """The account's credentials kept changing while a password was issued."""


@dataclass(frozen=True)
class _Dossier:
    """What a request needs to know; empty for a number that does not exist."""

    account_id: UUID
    known_caller: bool
    known: KnownOf
    template: Template
    mobile: str | None = field(repr=False)
    like: str | None = field(repr=False)  # a stored hash, whose salt the new one shares
    usable: tuple[tuple[UUID, int], ...]  # credentials and versions it was read with

    @property
    def route(self) -> Route:
        return Route.SMS if self.mobile else Route.LETTER


def request_password(store: Store, caisse: str, number: str, origin: Origin) -> None:
    """Issue a new password and queue its message, if the dossier and D06 allow it.

    ClosedError while an incident closes the channel or that caisse (D15).
    """
    incident.refuse_closed(store, origin.channel, caisse)
    issue(store, caisse, number, origin, Terms(CredentialOrigin.FORGOTTEN))


def replace_after_incident(
    store: Store, caisse: str, number: str, revoked_at: datetime, origin: Origin
) -> None:
    """Issue a new password in the place of those revoked from then on, once (D15).

    Nobody asked for it, so D06 counts not.
    """

    def decide(transaction: Transaction, account: Account | None, _: Route) -> bool:
        return account is not None and not _replaced_since(transaction, account.id, revoked_at)

    issue(store, caisse, number, origin, Terms(CredentialOrigin.INCIDENT, decide=decide))


def _replaced_since(transaction: Transaction, account_id: UUID, instant: datetime) -> bool:
    """Say whether an incident's new password was issued, and not revoked by a later void."""
    issued = select(Credential.id).where(
        Credential.account_id == account_id,
        Credential.origin == CredentialOrigin.INCIDENT,
        Credential.created_at >= instant,
        Credential.ended_by.is_distinct_from(EndedBy.INCIDENT),
    )
    return transaction.scalars(issued.limit(1)).first() is not None


def issue(store: Store, caisse: str, number: str, origin: Origin, terms: Terms) -> None:
    """Issue a new password on these terms; what `terms.decide` raises changes nothing."""
    for _ in range(TRIES):
        dossier = _read(store, caisse, number, origin, terms)
        password = passwords.generate(dossier.known, store.chance)
        hashed = store.hasher.hash_like(password, dossier.like)
        if _issue(store, _Request(caisse, number, origin, dossier, password, hashed, terms)):
            return
    raise RequestLostError


@dataclass(frozen=True)
class _Request:
    caisse: str
    number: str = field(repr=False)
    origin: Origin
    dossier: _Dossier
    password: Secret
    hashed: str = field(repr=False)
    terms: Terms


def _read(store: Store, caisse: str, number: str, origin: Origin, terms: Terms) -> _Dossier:
    phone = phone_index(store, origin.caller_id)
    with store.database.read() as transaction:
        found = find(transaction.connection(), caisse, number, CredentialKind.PASSWORD, phone)
        rows = transaction.scalars(_PERSONS, {"account": found.account_id}).all()
    people = [(row.role, open_person(store.keys, row)) for row in rows]
    mobile, template = (None, Template.PASSWORD) if terms.by_post else _destination(store, people)
    return _Dossier(
        account_id=found.account_id,
        known_caller=found.known_caller,
        known=known_of(number, [person for _, person in people]),
        template=Template.LETTER if terms.provisional and mobile is None else template,
        mobile=mobile,
        like=next(iter(open_hashes(store, found.candidates)), None),
        usable=_versions(found.candidates),
    )


def _versions(candidates: Sequence[Candidate]) -> tuple[tuple[UUID, int], ...]:
    return tuple((candidate.id, candidate.version) for candidate in candidates)


def known_of(number: str, people: list[PersonData]) -> KnownOf:
    """Gather what must not be a dossier's password (R06)."""
    phones = [(one.mobile, one.landline, one.mobile_before) for one in people]
    return KnownOf(
        number=number,
        phones=tuple(phone for three in phones for phone in three if phone),
        births=tuple(person.birth_date for person in people if person.birth_date),
        nirs=tuple(person.nir for person in people if person.nir),
    )


def _destination(store: Store, people: list[tuple[str, PersonData]]) -> tuple[str | None, Template]:
    """Give the allocataire's mobile, if there is one that may be trusted (D04)."""
    owner = next((person for role, person in people if role == Role.ALLOCATAIRE), PersonData())
    contact = contacts.trusted(store, owner, Route.SMS)
    if contact is None:
        return None, Template.PASSWORD
    return contact.value, Template.PASSWORD_OLD_MOBILE if contact.former else Template.PASSWORD


def _issue(store: Store, request: _Request) -> bool:
    """Make the pending credential and its message; False if the credentials changed meanwhile."""
    dossier, now = request.dossier, store.clock()
    account_key = throttle_key(store, request.caisse, request.number)
    # Requests without a mobile must not wait for one another: that could be told (D04).
    phone_key = store.keys.index("phone", dossier.mobile) if dossier.mobile else account_key
    with store.database.begin() as transaction:
        store.database.lock(transaction, account_key, phone_key)
        account_id = lock_account(transaction, request.caisse, request.number)
        if not _as_read(transaction, dossier, account_id):
            return False
        allowed = _allowed(store, transaction, dossier, phone_key, now)
        if request.terms.decide is not None:
            allowed = _decided(request.terms.decide, transaction, account_id, dossier.route)
        wanted = account_id is not None and allowed
        _replace_pending(transaction, dossier, now, wanted=wanted)
        credential = _credential(store, request, now)
        _add(transaction, credential, wanted=wanted)
        _add(transaction, _message(store, request, phone_key, now), wanted=wanted)
        outbox.announce(store, transaction)
        feed.tell(store, transaction, dossier.account_id)
        event: audit.Event = "password-issued" if wanted else "password-request-suppressed"
        subject_id = credential.id if wanted else None
        audit.note(transaction, event, now, request.origin, account_id, subject_id=subject_id)
    return True


def _decided(decide: Decide, connection: Connection, account_id: UUID | None, route: Route) -> bool:
    with unit_of_work(connection) as transaction:
        account = transaction.get(Account, account_id) if account_id else None
        return decide(transaction, account, route)


def _as_read(transaction: Connection, dossier: _Dossier, account_id: UUID | None) -> bool:
    """Say whether the account and its credentials still are what the password was made for."""
    found = usable(transaction, dossier.account_id, CredentialKind.PASSWORD)
    return (_versions(found), account_id or NOBODY) == (dossier.usable, dossier.account_id)


class _Issued(NamedTuple):
    """What was issued before (D06), in the order of the columns of `_ISSUED`."""

    account_minutes: int  # by SMS to the account, like the two that follow
    account_day: int
    account_month: int
    phone_day: int
    letters: int  # under way to the account
    service_hour: int


def _allowed(
    store: Store, transaction: Connection, dossier: _Dossier, phone_key: bytes, now: datetime
) -> bool:
    """Count what was sent (D06); requests from a caller id on file have counts of their own.

    Every count is made, whatever the first ones would say (D04).
    """
    rules = store.rules.reset
    values = {
        "account": dossier.account_id,
        "known_caller": dossier.known_caller,
        "phone": phone_key,
        "minutes_ago": now - timedelta(minutes=rules.account_minutes),
        "hour_ago": now - timedelta(hours=1),
        "day_ago": now - DAY,
        "month_ago": now - 30 * DAY,
        "letters_since": now - rules.letter_days * DAY,
    }
    issued = _Issued._make(transaction.execute(_ISSUED, values).one())
    within_sms = [
        issued.account_minutes == 0,
        issued.account_day < rules.account_day,
        issued.account_month < rules.account_month,
        issued.phone_day < rules.phone_day,
    ]
    service_open = issued.service_hour < rules.service_hour
    if not service_open:
        log.warning("password_budget_spent", an_hour=rules.service_hour)
    return all(
        [
            issued.letters == 0 if dossier.route is Route.LETTER else all(within_sms),
            service_open,
            store.rules.may_log_in(*lives.PHONE_LOGIN, now),  # D10
        ]
    )


def _replace_pending(
    transaction: Connection, dossier: _Dossier, now: datetime, *, wanted: bool
) -> None:
    """Let a newer password take the place of one still pending by the same route (D03)."""
    which = {"account": dossier.account_id, "by_route": dossier.route, "wanted": wanted}
    transaction.execute(_END_PENDING, which | {"now": now})
    _REPLACE_MESSAGES.run(transaction, now, which)


def _credential(store: Store, request: _Request, now: datetime) -> Credential:
    reason = request.terms.reason
    term = lives.term(store.rules, reason, now, provisional=request.terms.provisional)
    credential = Credential(
        id=uuid4(),
        account_id=request.dossier.account_id,
        kind=CredentialKind.PASSWORD,
        state=CredentialState.PENDING,
        origin=reason,
        provisional=term.provisional,
        version=1,
        route=request.dossier.route,
        created_at=now,
        expires_at=term.expires_at,
        ended_at=None,
    )
    credential.hash_sealed = seal_hash(store, credential, request.hashed)
    return credential


def _message(store: Store, request: _Request, phone_key: bytes, now: datetime) -> Message:
    dossier = request.dossier
    message_id = uuid4()
    content = json.dumps({"password": request.password.reveal()})
    rules = store.rules.reset
    by_sms = dossier.route is Route.SMS
    life = timedelta(hours=rules.message_hours) if by_sms else rules.letter_days * DAY
    return Message(
        id=message_id,
        route=dossier.route,
        template=dossier.template,
        priority=Priority.PASSWORD,
        account_id=dossier.account_id,
        known_caller=dossier.known_caller,
        destination_sealed=outbox.seal(store, message_id, "destination", dossier.mobile or ""),
        destination_index=phone_key if by_sms else None,
        content_sealed=outbox.seal(store, message_id, "content", content),
        text_sealed=None,
        state=MessageState.QUEUED,
        created_at=now,
        expires_at=now + life,
        next_at=now,
        claims=0,
        failures=0,
        repeated=False,
    )


def _add(transaction: Connection, row: Credential | Message, *, wanted: bool) -> None:
    """Insert a row if it is wanted; if not, the same statement inserts none (D04)."""
    values = {column.key: getattr(row, column.key) for column in row.__table__.columns}
    transaction.execute(_ADD[type(row)], values | {"wanted": wanted})


# The statements of a request, built once: to build one takes longer than to run it.

_WANTED = bindparam("wanted", type_=Boolean())


def _insert_if_wanted(table: Table) -> Insert:
    values = [bindparam(column.key, type_=column.type) for column in table.columns]
    return insert(table).from_select([*table.columns], select(*values).where(_WANTED))


_ADD = {row: _insert_if_wanted(cast(Table, row.__table__)) for row in (Credential, Message)}
_PERSONS = select(Person).where(Person.account_id == bindparam("account"))

_A_PASSWORD = or_(*[Message.template == template for template in Template])
_TO_ACCOUNT = Message.account_id == bindparam("account")
_issued = select(func.count()).where(_A_PASSWORD)
_sent = _issued.where(Message.route == Route.SMS, Message.known_caller == bindparam("known_caller"))
_ISSUED = select(
    _sent.where(_TO_ACCOUNT, Message.created_at > bindparam("minutes_ago")).scalar_subquery(),
    _sent.where(_TO_ACCOUNT, Message.created_at > bindparam("day_ago")).scalar_subquery(),
    _sent.where(_TO_ACCOUNT, Message.created_at > bindparam("month_ago")).scalar_subquery(),
    _sent.where(
        Message.destination_index == bindparam("phone"), Message.created_at > bindparam("day_ago")
    ).scalar_subquery(),
    # One that was used, or revoked, is not under way any more (D03).
    select(func.count())
    .where(
        Credential.account_id == bindparam("account"),
        Credential.state == CredentialState.PENDING,
        Credential.route == Route.LETTER,
        Credential.created_at > bindparam("letters_since"),
    )
    .scalar_subquery(),
    _issued.where(Message.created_at > bindparam("hour_ago")).scalar_subquery(),
)

_END_PENDING = (
    update(Credential)
    .where(
        Credential.account_id == bindparam("account"),
        Credential.kind == CredentialKind.PASSWORD,
        Credential.state == CredentialState.PENDING,
        Credential.route == bindparam("by_route"),
        _WANTED,
    )
    .values(state=CredentialState.ENDED, ended_at=bindparam("now"), ended_by=EndedBy.REPLACED)
)
_REPLACE_MESSAGES = outbox.Replacement(
    _TO_ACCOUNT, _A_PASSWORD, Message.route == bindparam("by_route"), _WANTED
)
