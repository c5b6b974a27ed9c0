"""Accounts of persons on the web (R17, R18): one for each, opened with a password of their own.

A login opens every open dossier of the person; which one is looked at is theirs to say (D11). An
identifier without account runs the same statements as a wrong password, and one Argon2 (D07).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, or_, select, union, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, contacts, credentials, incident, notices, sessions, throttles
from shared.credentials import NOBODY, Match, Refusal, Reserved
from shared.errors import ClosedError
from shared.keyring import KeyRing
from shared.models import (
    Account,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    LoginSession,
    Person,
    WebAccount,
)
from shared.notices import Notice, Template
from shared.origin import Origin
from shared.people import open_person
from shared.rules import CredentialKind, Identifier
from shared.secret import Secret
from shared.sessions import Scope, Session
from shared.store import Store
from shared.throttles import Allowed, Attempt

Sessions = tuple[Session, ...]
"""A person's sessions: one for each open dossier, the one affiliated last first."""


@dataclass(frozen=True)
class Holder:
    """Who a person says they are: a NIR of 13 characters (R18), or `P` + 8 digits (R20)."""

    identifier: Identifier
    value: str = field(repr=False)

    def index(self, keys: KeyRing) -> bytes:
        """Give the blind index that finds the person and the account."""
        return keys.index(self.identifier, self.value)

    def throttle_key(self, store: Store) -> bytes:
        """Name the holder for the throttles, whether there is such a one or not."""
        return self.handle(store.keys).throttle_key(store)

    def handle(self, keys: KeyRing) -> "Handle":
        """Give what the store knows the holder by."""
        return Handle(self.identifier, self.index(keys))


@dataclass(frozen=True)
class Handle:
    """What finds a person's account: the blind index of one kind of identifier."""

    identifier: Identifier
    index: bytes

    def throttle_key(self, store: Store) -> bytes:
        """Name the person for the throttles, whether there is such a one or not."""
        return credentials.throttle_key(store, self.identifier, self.index.hex())


@dataclass(frozen=True)
class WebLogin:
    """What a person gave to get in on the web."""

    holder: Holder
    secret: Secret


@dataclass(frozen=True)
class Membership:
    """A person as an open dossier has him or her."""

    person: Person
    account: Account


def verify(store: Store, login: WebLogin, origin: Origin) -> Sessions | Refusal:
    """Open the person's sessions if the password is right and the attempt allowed (D05, D07)."""
    try:
        reserved = reserve(store, login.holder.handle(store.keys), login.secret, origin)
        return credentials.compare_and_settle(
            store,
            reserved,
            login.secret,
            lambda match: _settle_matched(store, reserved.attempt, match, login),
        )
    except ClosedError:
        return Refusal.CLOSED


def reserve(store: Store, handle: Handle, secret: Secret, origin: Origin) -> Reserved:
    """Count the attempt, in a transaction of its own, and fetch what it may be compared with.

    Nothing if the secret has a length that no password has. ClosedError before anything is counted,
    if an incident closes the channel (D15).
    """
    rules, now = store.rules, store.clock()
    open_now = rules.may_log_in(CredentialKind.WEB, handle.identifier, origin.channel, now)
    possible = rules.web_password.accepted.allow(len(secret))  # R14
    with store.database.write() as transaction:
        incident.check_open(transaction, origin.channel)
        found = memberships(transaction, handle.index)
        account = open_account(transaction, handle.index)
        connection = transaction.connection()
        owner_id = account.id if account else NOBODY
        passwords = credentials.usable(connection, owner_id, CredentialKind.WEB)
        # Nobody is a known caller: a caller id on file is one on the telephone only.
        attempt = Attempt.of(store, handle.throttle_key(store), origin)
        allowed = throttles.reserve(store, connection, attempt)
    may_compare = open_now and possible and found and allowed is Allowed.EVERYTHING
    return Reserved(attempt, passwords if may_compare else [])


def memberships(transaction: Transaction, index: bytes) -> list[Membership]:
    """Find the person in every open dossier, the one affiliated last first.

    A provisional identifier finds nobody any more once the person has a NIR (R20).
    """
    people = union(
        select(Person.id).where(Person.nir_index == index),
        select(Person.id)
        .join(WebAccount, WebAccount.person_id == Person.id)
        .where(
            WebAccount.provisional_index == index,
            WebAccount.ended_at.is_(None),
            Person.nir_index.is_(None),
        ),
    )
    rows = transaction.execute(
        select(Person, Account)
        .join(Account, Account.id == Person.account_id)
        .where(Person.id.in_(people), Account.closed_at.is_(None))
        .order_by(Account.created_at.desc(), Account.id, Person.id)
    )
    by_account = {account.id: Membership(person, account) for person, account in rows}
    return list(by_account.values())


def open_account(transaction: Transaction, index: bytes) -> WebAccount | None:
    """Find a person's account by the blind index of NIR or provisional identifier."""
    return transaction.scalar(
        select(WebAccount).where(
            or_(WebAccount.nir_index == index, WebAccount.provisional_index == index),
            WebAccount.ended_at.is_(None),
        )
    )


def open_sessions(
    store: Store, transaction: Transaction, found: Sequence[Membership], origin: Origin
) -> Sessions:
    """Open a person's session in each dossier, once a secret of the person was verified (D11).

    ClosedError if an incident closes the channel, or the caisse of one of them (D15).
    """
    return tuple(
        sessions.open_session(
            store,
            transaction.connection(),
            Scope(one.account.id, one.account.caisse, one.person.id),
            origin,
        )
        for one in found
    )


def set_password(  # noqa: PLR0913 - whose, which, by whom, and what goes on
    store: Store,
    transaction: Transaction,
    person: Person,
    hashed: str,
    origin: Origin,
    *,
    kept: Session | None = None,
) -> None:
    """Make a hash the person's only web password, and the account if there is none (R12, R18).

    The person's sessions end, but for the one to be kept, and so do the failures counted against
    the account. Once there is a NIR, an account under a provisional identifier ends: nothing
    carries over (R20).
    """
    now = store.clock()
    lock(store, transaction, person)
    _end_provisional(transaction, person, now)
    known = account_of(transaction, person)
    account = known or _new_account(store, transaction, person, now)
    _end_passwords(transaction, WebAccount.id == account.id, now)
    credential = _new_password(store, account, hashed, now)
    transaction.add(credential)
    audit.note(
        transaction,
        "web-password-changed" if known else "web-account-created",
        now,
        origin,
        person.account_id,
        person_id=person.id,
        subject_id=credential.id,
    )
    end_sessions(transaction, person, now, kept)
    _forgive(store, transaction, account)


def lock(store: Store, transaction: Transaction, person: Person) -> None:
    """Hold off whoever else makes or changes this person's account."""
    store.database.lock(transaction, person.nir_index or person.id.bytes)


def account_of(transaction: Transaction, person: Person) -> WebAccount | None:
    """Find a person's account: under the NIR once there is one, in whichever dossier."""
    known_by = (
        WebAccount.nir_index == person.nir_index
        if person.nir_index
        else WebAccount.person_id == person.id
    )
    return transaction.scalar(select(WebAccount).where(known_by, WebAccount.ended_at.is_(None)))


def handle_of(transaction: Transaction, person: Person) -> Handle:
    """Say what a person logs in with: the NIR once there is one (R20)."""
    if person.nir_index is not None:
        return Handle(Identifier.NIR, person.nir_index)
    account = account_of(transaction, person)
    index = account.provisional_index if account else None
    return Handle(Identifier.PROVISIONAL, index or NOBODY.bytes)


def _settle_matched(
    store: Store, attempt: Attempt, match: Match, login: WebLogin
) -> Sessions | Refusal:
    """Open the sessions, unless the password was ended or replaced while it was compared."""
    rehashed = credentials.rehash(store, match, login.secret)
    now, compared = store.clock(), match.credential
    with store.database.write() as transaction:
        stored = transaction.get_one(Credential, compared.id, with_for_update=True)
        found = memberships(transaction, login.holder.index(store.keys))
        if stored.state == CredentialState.ENDED or not found:
            audit.note(transaction, "login-refused", now, attempt.origin, None)
            return Refusal.REFUSED
        connection = transaction.connection()
        if rehashed:
            credentials.renew(connection, compared, rehashed)
        for one in found:
            person_id = one.person.id
            audit.note(
                transaction, "login", now, attempt.origin, one.account.id, person_id=person_id
            )
        opened = open_sessions(store, transaction, found, attempt.origin)
        throttles.clear(connection, attempt)
        return opened


def _new_account(
    store: Store, transaction: Transaction, person: Person, now: datetime
) -> WebAccount:
    """Make the account of a person, who is told so (R23)."""
    account = WebAccount(
        id=uuid4(),
        nir_index=person.nir_index,
        person_id=None if person.nir_index else person.id,
        created_at=now,
    )
    transaction.add(account)
    transaction.flush()
    contact = next(contacts.all_trusted(store, open_person(store.keys, person)), None)
    if contact is not None:
        life = timedelta(hours=store.rules.reset.message_hours)
        told = Notice(Template.ACCOUNT_CREATED, person.account_id, contact, {}, now + life)
        notices.queue(store, transaction, told)
    return account


def _new_password(store: Store, account: WebAccount, hashed: str, now: datetime) -> Credential:
    credential = Credential(
        id=uuid4(),
        web_account_id=account.id,
        kind=CredentialKind.WEB,
        state=CredentialState.ACTIVE,
        origin=CredentialOrigin.OWNER,
        created_at=now,
    )
    credential.hash_sealed = credentials.seal_hash(store, credential, hashed)
    return credential


def _end_provisional(transaction: Transaction, person: Person, now: datetime) -> None:
    """End accounts that a person with a NIR still has under a provisional identifier (R20)."""
    if person.nir_index is None:
        return
    open_ones = and_(WebAccount.person_id.in_(_rows_of(person)), WebAccount.ended_at.is_(None))
    _end_passwords(transaction, open_ones, now)
    transaction.execute(update(WebAccount).where(open_ones).values(ended_at=now))


def _end_passwords(transaction: Transaction, which: ColumnElement[bool], now: datetime) -> None:
    """End the passwords of these accounts."""
    transaction.execute(
        update(Credential)
        .where(
            Credential.web_account_id.in_(select(WebAccount.id).where(which)),
            Credential.state == CredentialState.ACTIVE,
        )
        .values(state=CredentialState.ENDED, ended_at=now, ended_by=EndedBy.REPLACED)
    )


def end_sessions(
    transaction: Transaction, person: Person, now: datetime, kept: Session | None = None
) -> None:
    """End every session of a person but one, in whichever dossier."""
    ended = and_(LoginSession.person_id.in_(_rows_of(person)), LoginSession.ended_at.is_(None))
    if kept is not None:
        ended &= LoginSession.token_hash != kept.token_hash
    transaction.execute(update(LoginSession).where(ended).values(ended_at=now))


def _forgive(store: Store, transaction: Transaction, account: WebAccount) -> None:
    for identifier, index in (
        (Identifier.NIR, account.nir_index),
        (Identifier.PROVISIONAL, account.provisional_index),
    ):
        if index is not None:
            throttles.forgive(transaction, Handle(identifier, index).throttle_key(store))


def _rows_of(person: Person) -> Select[UUID]:
    """Select a person's id in every dossier: without a NIR there is one alone."""
    if person.nir_index is None:
        return select(Person.id).where(Person.id == person.id)
    return select(Person.id).where(Person.nir_index == person.nir_index)
