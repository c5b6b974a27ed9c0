"""Credentials: what opens a dossier, and the one function that checks it.

`verify` treats an unknown number, a wrong password, a locked or closed account alike: the same
statements and one Argon2 computation (D07). The order of its three steps is the rule D05 itself:
reserve the attempt and commit, compare, settle.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

import structlog
from sqlalchemy import ColumnElement, Select, or_, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, sessions, throttles
from shared.errors import SealError
from shared.hashing import HashRefusedError
from shared.models import Account, Credential, CredentialState, Person
from shared.origin import Origin
from shared.rules import CredentialKind
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.throttles import Attempt

WITHHELD = "withheld"
NOBODY = UUID(int=0)  # looked up for an unknown number, by the same statements (D07)

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why a login opened nothing; a caller hears no difference but for EXPIRED (D07)."""

    REFUSED = "refused"
    EXPIRED = "expired"  # the right password, too old: may be told so, and is no failure


@dataclass(frozen=True)
class Login:
    """What a person gave to get in."""

    caisse: str
    number: str = field(repr=False)
    secret: Secret

    @property
    def kind(self) -> CredentialKind:
        """Tell the old 4-digit code from a password by its length (D09)."""
        return CredentialKind.CODE if len(self.secret) == 4 else CredentialKind.PASSWORD


@dataclass(frozen=True)
class _Reserved:
    """What the first step leaves for the second: the attempt, and what to compare, if anything."""

    attempt: Attempt
    stored: Credential | None


def verify(store: Store, login: Login, origin: Origin) -> Session | Refusal:
    """Open a session if the secret is right and the attempt allowed (D05, D07, D10)."""
    reserved = _reserve(store, login, origin)
    matched = _compare(store, reserved.stored, login.secret)
    if reserved.stored is None or matched is None:
        return _settle_refused(store, reserved.attempt)
    rehashed = _rehash(store, reserved.stored, matched, login.secret)
    return _settle_matched(store, reserved.attempt, reserved.stored, rehashed)


def set_secret(
    store: Store, caisse: str, number: str, secret: Secret, expires_at: datetime | None = None
) -> bool:
    """Replace an account's password or code; False if there is no such account.

    Only what issues credentials calls this: nobody chooses a password on the telephone (R03).
    """
    kind = Login(caisse, number, secret).kind
    hashed = store.hasher.hash(secret)
    now = store.clock()
    with store.database.write() as transaction:
        account = transaction.scalar(_account(caisse, number).with_for_update(key_share=True))
        if account is None:
            return False
        transaction.execute(
            update(Credential)
            .where(Credential.account_id == account.id, Credential.kind == kind, _ACTIVE)
            .values(state=CredentialState.ENDED, ended_at=now)
        )
        credential = Credential(
            id=uuid4(),
            account_id=account.id,
            kind=kind,
            state=CredentialState.ACTIVE,
            created_at=now,
            expires_at=expires_at,
        )
        credential.hash_sealed = _seal(store, credential, hashed)
        transaction.add(credential)
        throttles.end_row(transaction, _throttle_key(store, caisse, number))
        return True


_ACTIVE: ColumnElement[bool] = Credential.state == CredentialState.ACTIVE


def _reserve(store: Store, login: Login, origin: Origin) -> _Reserved:
    """Count the attempt, in a transaction of its own, and fetch what it may be compared with."""
    now = store.clock()
    open_now = store.rules.may_log_in(login.kind, origin.channel, now)
    with store.database.write() as transaction:
        account = transaction.scalar(_account(login.caisse, login.number))
        account_id = account.id if account else NOBODY
        attempt = Attempt(
            id=uuid4(),
            account_key=_throttle_key(store, login.caisse, login.number),
            caller_key=store.keys.index("caller", origin.caller_id or WITHHELD),
            known_caller=_on_file(store, transaction, account_id, origin.caller_id),
            origin=origin,
            at=now,
        )
        stored = transaction.scalar(_active(account_id, login.kind))
        allowed = throttles.reserve(store, transaction, attempt) and open_now
    return _Reserved(attempt, stored if allowed else None)


def _compare(store: Store, stored: Credential | None, secret: Secret) -> str | None:
    """Spend one Argon2 computation; give the stored hash if the secret is right."""
    if stored is not None:
        try:
            hashed = store.keys.open(stored.hash_sealed, *_binding(stored)).decode()
            return hashed if store.hasher.matches(hashed, secret) else None
        except (SealError, HashRefusedError) as error:
            log.error("stored_credential_refused", credential=str(stored.id), why=str(error))
    store.hasher.pretend(secret)
    return None


def _rehash(store: Store, stored: Credential, matched: str, secret: Secret) -> bytes | None:
    """Give a hash at today's costs, if the stored one was made at others."""
    if not store.hasher.outdated(matched):
        return None
    return _seal(store, stored, store.hasher.hash(secret))


def _settle_refused(store: Store, attempt: Attempt) -> Refusal:
    with store.database.write() as transaction:
        audit.note(transaction, "login-refused", store.clock(), attempt.origin, None)
    return Refusal.REFUSED


def _settle_matched(
    store: Store, attempt: Attempt, compared: Credential, rehashed: bytes | None
) -> Session | Refusal:
    """Open the session, unless the credential was ended or replaced while it was compared."""
    now = store.clock()
    with store.database.write() as transaction:
        account = transaction.get_one(
            Account, compared.account_id, with_for_update={"key_share": True}
        )
        stored = transaction.get_one(Credential, compared.id, with_for_update=True)
        if stored.state != CredentialState.ACTIVE:
            audit.note(transaction, "login-refused", now, attempt.origin, None)
            return Refusal.REFUSED
        if stored.expires_at is not None and stored.expires_at <= now:
            throttles.give_back(transaction, attempt)
            audit.note(transaction, "login-expired", now, attempt.origin, account.id)
            return Refusal.EXPIRED
        if rehashed is not None and stored.version == compared.version:
            stored.hash_sealed = rehashed
            stored.version += 1
        throttles.clear(transaction, attempt)
        audit.note(transaction, "login", now, attempt.origin, account.id)
        return sessions.open_session(store, transaction, account, attempt.origin, now)


def _on_file(
    store: Store, transaction: Transaction, account_id: UUID, caller_id: str | None
) -> bool:
    """Say whether the caller id is a telephone number of the dossier."""
    index = store.keys.index("phone", caller_id or WITHHELD)
    person = transaction.scalar(
        select(Person.id)
        .where(
            Person.account_id == account_id,
            or_(Person.mobile_index == index, Person.landline_index == index),
        )
        .limit(1)
    )
    return person is not None


def _throttle_key(store: Store, caisse: str, number: str) -> bytes:
    return store.keys.index("account", f"{caisse}/{number}")


def _account(caisse: str, number: str) -> Select[Account]:
    return select(Account).where(Account.caisse == caisse, Account.number == number)


def _active(account_id: UUID, kind: CredentialKind) -> Select[Credential]:
    return select(Credential).where(
        Credential.account_id == account_id, Credential.kind == kind, _ACTIVE
    )


def _seal(store: Store, credential: Credential, hashed: str) -> bytes:
    return store.keys.seal(hashed.encode(), *_binding(credential))


def _binding(credential: Credential) -> tuple[str, ...]:
    """A sealed hash opens for this account, credential and kind only (D13)."""
    return ("credential", str(credential.account_id), str(credential.id), credential.kind)
