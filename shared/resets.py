"""« Mot de passe oublié » on the telephone: a new password on its way to its owner (R10, R11).

Whatever is asked for, by whomever, the same statements run and one Argon2 hash is computed: an
unknown number, a dossier without mobile and one asked for too often can't be told apart (D04).
What must not happen is a statement that changes no row.

The password in force stays valid until the new one is first used, so nobody can lock anybody out
(D03). The new one and its message are one transaction.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Select, Table, func, insert, literal, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, outbox, passwords
from shared.credentials import (
    NOBODY,
    lock_account,
    on_file,
    open_hashes,
    seal_hash,
    throttle_key,
    usable,
)
from shared.errors import StoreError
from shared.identifiers import takes_sms
from shared.models import (
    Account,
    Base,
    Credential,
    CredentialState,
    Message,
    MessageState,
    Person,
    Role,
    Route,
)
from shared.origin import Origin
from shared.passwords import KnownOf
from shared.people import PersonData, open_person
from shared.rules import PARIS, Channel, CredentialKind
from shared.secret import Secret
from shared.store import Store

DAY = timedelta(days=1)
TRIES = 5  # to find the credentials unchanged since they were read

log = structlog.get_logger(__name__)


class Template(StrEnum):
    """Which message brings a password."""

    PASSWORD = "password"  # noqa: S105
    PASSWORD_OLD_MOBILE = "password-old-mobile"  # noqa: S105 - the number on file changed lately


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
    """Issue a new password and queue its message, if the dossier and D06 allow it."""
    for _ in range(TRIES):
        dossier = _read(store, caisse, number, origin)
        password = passwords.generate(dossier.known, store.chance)
        hashed = store.hasher.hash_like(password, dossier.like)
        if _issue(store, _Request(caisse, number, origin, dossier, password, hashed)):
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


def _read(store: Store, caisse: str, number: str, origin: Origin) -> _Dossier:
    with store.database.read() as transaction:
        account_id = transaction.scalar(
            select(Account.id).where(Account.caisse == caisse, Account.number == number)
        )
        account_id = account_id or NOBODY
        rows = transaction.scalars(select(Person).where(Person.account_id == account_id)).all()
        found = transaction.scalars(usable(account_id, CredentialKind.PASSWORD)).all()
        known_caller = on_file(store, transaction, account_id, origin.caller_id)
    people = [(row.role, open_person(store.keys, row)) for row in rows]
    mobile, template = _destination(store, people)
    return _Dossier(
        account_id=account_id,
        known_caller=known_caller,
        known=_known(number, [person for _, person in people]),
        template=template,
        mobile=mobile,
        like=next(iter(open_hashes(store, found)), None),
        usable=tuple((credential.id, credential.version) for credential in found),
    )


def _known(number: str, people: list[PersonData]) -> KnownOf:
    phones = [(one.mobile, one.landline, one.mobile_before) for one in people]
    return KnownOf(
        number=number,
        phones=tuple(phone for three in phones for phone in three if phone),
        births=tuple(person.birth_date for person in people if person.birth_date),
        nirs=tuple(person.nir for person in people if person.nir),
    )


def _destination(store: Store, people: list[tuple[str, PersonData]]) -> tuple[str | None, Template]:
    """Give the allocataire's mobile; the one before it if it is too new to be trusted (D04)."""
    owners = [person for role, person in people if role == Role.ALLOCATAIRE]
    if not owners:
        return None, Template.PASSWORD
    owner = owners[0]
    today = store.clock().astimezone(PARIS).date()
    trusted_from = today - timedelta(days=store.rules.reset.contact_days)
    changed_lately = owner.mobile_since is not None and owner.mobile_since > trusted_from
    mobile = owner.mobile_before if changed_lately else owner.mobile
    if mobile is None or not takes_sms(mobile):
        return None, Template.PASSWORD
    return mobile, Template.PASSWORD_OLD_MOBILE if changed_lately else Template.PASSWORD


def _issue(store: Store, request: _Request) -> bool:
    """Make the pending credential and its message; False if the credentials changed meanwhile."""
    dossier, now = request.dossier, store.clock()
    account_key = throttle_key(store, request.caisse, request.number)
    # Requests without a mobile must not wait for one another: that could be told (D04).
    phone_key = store.keys.index("phone", dossier.mobile) if dossier.mobile else account_key
    with store.database.write() as transaction:
        store.database.lock(transaction, account_key, phone_key)
        account = lock_account(transaction, request.caisse, request.number)
        if not _as_read(transaction, dossier, account):
            return False
        allowed = _allowed(store, transaction, dossier, phone_key, now)
        wanted = account is not None and allowed
        _replace_pending(transaction, dossier, now, wanted=wanted)
        _add(transaction, _credential(store, request, now), wanted=wanted)
        _add(transaction, _message(store, request, phone_key, now), wanted=wanted)
        event = "password-issued" if wanted else "password-request-suppressed"
        audit.note(transaction, event, now, request.origin, account.id if account else None)
    return True


def _as_read(transaction: Transaction, dossier: _Dossier, account: Account | None) -> bool:
    """Say whether the account and its credentials still are what the password was made for."""
    found = transaction.scalars(usable(dossier.account_id, CredentialKind.PASSWORD)).all()
    versions = tuple((credential.id, credential.version) for credential in found)
    return versions == dossier.usable and dossier.account_id == (account.id if account else NOBODY)


def _allowed(
    store: Store, transaction: Transaction, dossier: _Dossier, phone_key: bytes, now: datetime
) -> bool:
    """Count what was sent (D06); requests from a caller id on file have counts of their own.

    Every count is made, whatever the first ones say (D04).
    """
    rules = store.rules.reset
    issued = select(func.count()).select_from(Message).where(Message.template.in_([*Template]))
    sent = issued.where(Message.known_caller == literal(dossier.known_caller))
    of_account = sent.where(Message.account_id == dossier.account_id)
    letters = issued.where(
        Message.account_id == dossier.account_id,
        Message.route == Route.LETTER,
        literal(dossier.route is Route.LETTER),
    )

    def within(limit: int, span: timedelta, counted: Select[int]) -> bool:
        return (transaction.scalar(counted.where(Message.created_at > now - span)) or 0) < limit

    service_open = within(rules.service_hour, timedelta(hours=1), issued)
    if not service_open:
        log.warning("password_budget_spent", an_hour=rules.service_hour)
    return all(
        [
            within(1, timedelta(minutes=rules.account_minutes), of_account),
            within(rules.account_day, DAY, of_account),
            within(rules.account_month, 30 * DAY, of_account),
            within(rules.phone_day, DAY, sent.where(Message.destination_index == phone_key)),
            within(1, rules.letter_days * DAY, letters),
            service_open,
            store.rules.may_log_in(CredentialKind.PASSWORD, Channel.VOICE, now),  # D10
        ]
    )


def _replace_pending(
    transaction: Transaction, dossier: _Dossier, now: datetime, *, wanted: bool
) -> None:
    """Let a newer password take the place of one still pending by the same route (D03)."""
    transaction.execute(
        update(Credential)
        .where(
            Credential.account_id == dossier.account_id,
            Credential.kind == CredentialKind.PASSWORD,
            Credential.state == CredentialState.PENDING,
            Credential.route == dossier.route,
            literal(wanted),
        )
        .values(state=CredentialState.ENDED, ended_at=now)
    )
    outbox.replace(
        transaction,
        now,
        Message.account_id == dossier.account_id,
        Message.template.in_([*Template]),
        Message.route == dossier.route,
        literal(wanted),
    )


def _credential(store: Store, request: _Request, now: datetime) -> Credential:
    credential = Credential(
        id=uuid4(),
        account_id=request.dossier.account_id,
        kind=CredentialKind.PASSWORD,
        state=CredentialState.PENDING,
        version=1,
        route=request.dossier.route,
        created_at=now,
        expires_at=_expiry(store, now),
        ended_at=None,
    )
    credential.hash_sealed = seal_hash(store, credential, request.hashed)
    return credential


def _expiry(store: Store, now: datetime) -> datetime:
    """Say how long a password lives (D02): provisional, or final until the telephone's end."""
    rules = store.rules.password
    if now.astimezone(PARIS).date() < rules.final_from:
        return now + rules.provisional_days * DAY
    longest = now + rules.years * 365 * DAY
    cut_over = store.rules.cut_over(CredentialKind.PASSWORD, Channel.VOICE)
    return min(longest, cut_over) if cut_over else longest


def _message(store: Store, request: _Request, phone_key: bytes, now: datetime) -> Message:
    dossier = request.dossier
    message_id = uuid4()
    content = json.dumps({"password": request.password.reveal()}).encode()
    rules = store.rules.reset
    by_sms = dossier.route is Route.SMS
    life = timedelta(hours=rules.message_hours) if by_sms else rules.letter_days * DAY
    return Message(
        id=message_id,
        route=dossier.route,
        template=dossier.template,
        account_id=dossier.account_id,
        known_caller=dossier.known_caller,
        destination_sealed=outbox.seal(store, message_id, "destination", dossier.mobile or ""),
        destination_index=phone_key if by_sms else None,
        content_sealed=outbox.seal(store, message_id, "content", content.decode()),
        text_sealed=None,
        state=MessageState.QUEUED,
        created_at=now,
        expires_at=now + life,
        next_at=now,
        claims=0,
        failures=0,
        repeated=False,
    )


def _add(transaction: Transaction, row: Base, *, wanted: bool) -> None:
    """Insert a row if it is wanted; if not, the same statement inserts none (D04)."""
    table = cast(Table, row.__table__)
    columns = list(table.columns)
    values: list[Any] = [
        literal(getattr(row, column.key), column.type).label(column.key) for column in columns
    ]
    transaction.execute(insert(table).from_select(columns, select(*values).where(literal(wanted))))
