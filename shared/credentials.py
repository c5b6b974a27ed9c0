"""Credentials: what opens a dossier, and the one function that checks it.

`verify` treats an unknown number, a wrong password, a locked or closed account alike: the same
statements and one Argon2 computation (D07). The order of its three steps is the rule D05 itself:
reserve the attempt and commit, compare, settle.
"""

from collections.abc import Sequence
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
from shared.throttles import Allowed, Attempt

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
    candidates: Sequence[Credential]


@dataclass(frozen=True)
class _Match:
    """The credential whose secret was given, and its hash as it was compared."""

    credential: Credential
    hashed: str
    alone: bool  # no other credential shares its salt


def verify(store: Store, login: Login, origin: Origin) -> Session | Refusal:
    """Open a session if the secret is right and the attempt allowed (D05, D07, D10)."""
    reserved = _reserve(store, login, origin)
    match = _compare(store, reserved.candidates, login.secret)
    if match is None:
        return _settle_refused(store, reserved.attempt)
    return _settle_matched(store, reserved.attempt, match, _rehash(store, match, login.secret))


def set_secret(
    store: Store, caisse: str, number: str, secret: Secret, expires_at: datetime | None = None
) -> bool:
    """Replace an account's password or code; False if there is no such account.

    Only what issues credentials calls this: nobody chooses a password on the telephone (R03).
    """
    hashed = store.hasher.hash(secret)
    now = store.clock()
    with store.database.write() as transaction:
        account = lock_account(transaction, caisse, number)
        if account is None:
            return False
        _end_others(transaction, account.id, Login(caisse, number, secret).kind, NOBODY, now)
        credential = Credential(
            id=uuid4(),
            account_id=account.id,
            kind=Login(caisse, number, secret).kind,
            state=CredentialState.ACTIVE,
            created_at=now,
            expires_at=expires_at,
        )
        credential.hash_sealed = seal_hash(store, credential, hashed)
        transaction.add(credential)
        throttles.end_row(transaction, throttle_key(store, caisse, number))
        return True


def lock_account(transaction: Transaction, caisse: str, number: str) -> Account | None:
    """Find an account and hold off whoever else changes its credentials."""
    return transaction.scalar(_account(caisse, number).with_for_update(key_share=True))


def throttle_key(store: Store, caisse: str, number: str) -> bytes:
    """Name an account for the throttles, whether it exists or not."""
    return store.keys.index("account", f"{caisse}/{number}")


def usable(account_id: UUID, kind: CredentialKind) -> Select[Credential]:
    """Select what opens an account: the active credential and those still pending (D03)."""
    return (
        select(Credential)
        .where(Credential.account_id == account_id, Credential.kind == kind, _USABLE)
        .order_by(Credential.created_at, Credential.id)
    )


def open_hashes(store: Store, credentials: Sequence[Credential]) -> dict[str, Credential]:
    """Give credentials by their PHC string; one whose seal is broken is logged and left out."""
    opened = {}
    for credential in credentials:
        try:
            phc = store.keys.open(credential.hash_sealed, *_binding(credential)).decode()
        except SealError as error:
            log.error("stored_credential_refused", credential=str(credential.id), why=str(error))
        else:
            opened[phc] = credential
    return opened


def seal_hash(store: Store, credential: Credential, hashed: str) -> bytes:
    """Seal a PHC string for this account, credential and kind only (D13)."""
    return store.keys.seal(hashed.encode(), *_binding(credential))


_USABLE: ColumnElement[bool] = Credential.state.in_(
    [CredentialState.ACTIVE, CredentialState.PENDING]
)


def _reserve(store: Store, login: Login, origin: Origin) -> _Reserved:
    """Count the attempt, in a transaction of its own, and fetch what it may be compared with."""
    now = store.clock()
    open_now = store.rules.may_log_in(login.kind, origin.channel, now)
    with store.database.write() as transaction:
        account = transaction.scalar(_account(login.caisse, login.number))
        account_id = account.id if account else NOBODY
        attempt = Attempt(
            id=uuid4(),
            account_key=throttle_key(store, login.caisse, login.number),
            caller_key=store.keys.index("caller", origin.caller_id or WITHHELD),
            known_caller=on_file(store, transaction, account_id, origin.caller_id),
            origin=origin,
            at=now,
        )
        found = transaction.scalars(usable(account_id, login.kind)).all()
        issued = [one for one in found if one.state == CredentialState.PENDING]
        allowed = throttles.reserve(store, transaction, attempt, newly_issued=bool(issued))
    candidates = {Allowed.NOTHING: [], Allowed.NEWLY_ISSUED: issued, Allowed.EVERYTHING: found}
    return _Reserved(attempt, candidates[allowed] if open_now else [])


def _compare(store: Store, candidates: Sequence[Credential], secret: Secret) -> _Match | None:
    """Spend one Argon2 computation; give the credential that has the secret, if any."""
    hashes = open_hashes(store, candidates)
    try:
        if hashes:
            matched = store.hasher.match([*hashes], secret)
            if matched is None:
                return None
            return _Match(hashes[matched], matched, alone=len(hashes) == 1)
    except HashRefusedError as error:
        log.error("stored_credential_refused", credential=str(candidates[0].id), why=str(error))
    store.hasher.pretend(secret)
    return None


def _rehash(store: Store, match: _Match, secret: Secret) -> bytes | None:
    """Give a hash at today's costs, if the stored one was made at others.

    Not while others share its salt: one computation could no longer test them all.
    """
    if not match.alone or not store.hasher.outdated(match.hashed):
        return None
    return seal_hash(store, match.credential, store.hasher.hash(secret))


def _settle_refused(store: Store, attempt: Attempt) -> Refusal:
    with store.database.write() as transaction:
        audit.note(transaction, "login-refused", store.clock(), attempt.origin, None)
    return Refusal.REFUSED


def _settle_matched(
    store: Store, attempt: Attempt, match: _Match, rehashed: bytes | None
) -> Session | Refusal:
    """Open the session, unless the credential was ended or replaced while it was compared.

    The first use of a pending credential ends the others at once, on every channel (D03).
    """
    now, compared = store.clock(), match.credential
    with store.database.write() as transaction:
        account = transaction.get_one(
            Account, compared.account_id, with_for_update={"key_share": True}
        )
        stored = transaction.get_one(Credential, compared.id, with_for_update=True)
        if stored.state == CredentialState.ENDED:
            audit.note(transaction, "login-refused", now, attempt.origin, None)
            return Refusal.REFUSED
        if stored.expires_at is not None and stored.expires_at <= now:
            throttles.give_back(transaction, attempt)
            audit.note(transaction, "login-expired", now, attempt.origin, account.id)
            return Refusal.EXPIRED
        if stored.state == CredentialState.PENDING:
            _end_others(transaction, account.id, stored.kind, stored.id, now)
            stored.state = CredentialState.ACTIVE
            audit.note(transaction, "credential-first-used", now, attempt.origin, account.id)
        sharing = transaction.scalars(usable(account.id, CredentialKind(stored.kind))).all()
        if rehashed and stored.version == compared.version and len(sharing) == 1:
            stored.hash_sealed = rehashed
            stored.version += 1
        throttles.clear(transaction, attempt)
        audit.note(transaction, "login", now, attempt.origin, account.id)
        return sessions.open_session(store, transaction, account, attempt.origin, now)


def _end_others(
    transaction: Transaction, account_id: UUID, kind: str, kept: UUID, now: datetime
) -> None:
    """End every usable credential of this kind but one."""
    transaction.execute(
        update(Credential)
        .where(
            Credential.account_id == account_id,
            Credential.kind == kind,
            Credential.id != kept,
            _USABLE,
        )
        .values(state=CredentialState.ENDED, ended_at=now)
    )


def on_file(
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


def _account(caisse: str, number: str) -> Select[Account]:
    return select(Account).where(Account.caisse == caisse, Account.number == number)


def _binding(credential: Credential) -> tuple[str, ...]:
    """A sealed hash opens for this account, credential and kind only (D13)."""
    return ("credential", str(credential.account_id), str(credential.id), credential.kind)
