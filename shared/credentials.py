"""Credentials: what opens a dossier, and the one place where a secret is compared.

`verify` treats an unknown number, a wrong password, a locked or closed account alike: the same
statements and one Argon2 computation (D07). The order of its three steps is the rule D05 itself:
reserve the attempt and commit, compare, settle. `compare_and_settle` holds every check of a
password to it: it wants an attempt that was reserved.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select, update

from shared import audit, feed, incident, sessions, throttles
from shared.errors import ClosedError, SealError
from shared.hashing import HashRefusedError
from shared.models import (
    Account,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    Person,
)
from shared.origin import WITHHELD, Origin
from shared.rules import Channel, CredentialKind, Identifier
from shared.secret import Secret
from shared.sessions import Proof, Scope, Session
from shared.store import Store
from shared.throttles import Allowed, Attempt

NOBODY = UUID(int=0)  # looked up for an unknown number, by the same statements (D07)

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why a login opened nothing; nobody can tell more from it (D07)."""

    REFUSED = "refused"
    CLOSED = "closed"  # by an incident (D15), told to everybody alike; no failure


@dataclass(frozen=True)
class Expired:
    """The secret was right, and is too old: its owner may be told so; no failure (D07)."""

    since: datetime


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


class Candidate(NamedTuple):
    """A credential that a secret may be compared with, in the order of `_CANDIDATE`'s columns."""

    id: UUID
    owner_id: UUID  # the dossier, or the person's account on the web
    kind: str
    state: str
    version: int
    hash_sealed: bytes


@dataclass(frozen=True)
class Found:
    """What is on file under a number; nothing is under one that does not exist."""

    account_id: UUID
    known_caller: bool  # the caller id is a telephone number of the dossier
    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class Reserved:
    """What the first step leaves for the second: the attempt, and what to compare, if anything."""

    attempt: Attempt
    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class Match:
    """The credential whose secret was given, and its hash as it was compared."""

    credential: Candidate
    hashed: str
    alone: bool  # no other credential shares its salt


class Proven(NamedTuple):
    """What a right secret is the secret of, in the order of `_COMPARED`'s columns."""

    account_id: UUID
    caisse: str
    kind: str
    state: str
    provisional: bool
    expires_at: datetime | None
    first_used_at: datetime | None


T = TypeVar("T")

Grant = Callable[[Connection, Proven], T]
"""Gives what a right secret opens, in the transaction that settles its attempt."""


def verify(store: Store, login: Login, origin: Origin) -> Session | Expired | Refusal:
    """Open a session if the secret is right and the attempt allowed (D05, D07, D10)."""

    def opened(transaction: Connection, proven: Proven) -> Session:
        kind = CredentialKind(proven.kind)
        to_be_changed = proven.provisional or kind is CredentialKind.CODE
        change_only = to_be_changed and origin.channel is not Channel.VOICE  # R05, R09
        proof = Proof(kind, proven.provisional, proven.expires_at)
        scope = Scope(proven.account_id, proven.caisse, change_only=change_only, proof=proof)
        return sessions.open_session(store, transaction, scope, origin)

    way_in = store.rules.may_log_in(login.kind, Identifier.NUMBER, origin.channel, store.clock())
    caisse = login.caisse
    return prove(store, login, origin, opened, open_now=way_in, named_caisse=caisse)


def prove(  # noqa: PLR0913 - what is asked, by whom, and two answers known to the caller only
    store: Store,
    login: Login,
    origin: Origin,
    grant: Grant[T],
    *,
    open_now: bool,
    named_caisse: str | None = None,
) -> T | Expired | Refusal:
    """Give what `grant` gives if the secret is right and the attempt allowed (D05, D07).

    `open_now` is the transition table's answer (D10). A caisse closed by an incident is told to
    everybody who named it, else to whoever has the secret: it would be news to others (D04, D15).
    """
    try:
        reserved = _reserve(store, login, origin, open_now=open_now, named_caisse=named_caisse)
        return compare_and_settle(
            store,
            reserved,
            login.secret,
            lambda match: _settle_matched(store, reserved.attempt, match, login.secret, grant),
        )
    except ClosedError:
        return Refusal.CLOSED


def compare_and_settle(
    store: Store, reserved: Reserved, secret: Secret, settle: Callable[[Match], T]
) -> T | Refusal:
    """Take the second and the third step; `settle` gives what a right secret opens (D05).

    Its ClosedError is raised again: the secret was right, so that it is no failure (D15).
    """
    match = compare(store, reserved.candidates, secret)
    if match is None:
        return _settle_refused(store, reserved.attempt)
    try:
        return settle(match)
    except ClosedError:
        _settle_closed(store, reserved.attempt, match.credential)
        raise


def set_secret(
    store: Store, caisse: str, number: str, secret: Secret, expires_at: datetime | None = None
) -> bool:
    """Replace an account's password or code; False if there is no such account.

    Only what issues credentials calls this: nobody chooses a password on the telephone (R03).
    """
    hashed = store.hasher.hash(secret)
    now = store.clock()
    with store.database.write() as transaction:
        connection = transaction.connection()
        account_id = lock_account(connection, caisse, number)
        if account_id is None:
            return False
        kind = Login(caisse, number, secret).kind
        _end_others(connection, account_id, [kind], NOBODY, now)
        credential = Credential(
            id=uuid4(),
            account_id=account_id,
            kind=kind,
            state=CredentialState.ACTIVE,
            origin=CredentialOrigin.GIVEN,
            created_at=now,
            expires_at=expires_at,
        )
        credential.hash_sealed = seal_hash(store, credential, hashed)
        transaction.add(credential)
        throttles.end_row(transaction, throttle_key(store, caisse, number))
        feed.tell(store, transaction, account_id)
        return True


def lock_account(transaction: Connection, caisse: str, number: str) -> UUID | None:
    """Find an account and hold off whoever else changes its credentials."""
    return transaction.scalar(_LOCKED_ACCOUNT, {"caisse": caisse, "number": number})


def throttle_key(store: Store, caisse: str, number: str) -> bytes:
    """Name an account for the throttles, whether it exists or not."""
    return store.keys.index("account", f"{caisse}/{number}")


def find(
    transaction: Connection, caisse: str, number: str, kind: CredentialKind, phone: bytes
) -> Found:
    """Look up an account, and whether the telephone of that index is one of the dossier's.

    One statement, whatever there is (D07).
    """
    values = {"caisse": caisse, "number": number, "kind": kind, "phone": phone}
    rows = transaction.execute(_FOUND, values).all()
    return Found(
        account_id=rows[0].account if rows else NOBODY,
        known_caller=bool(rows and rows[0].known_caller),
        candidates=[Candidate._make(row[2:]) for row in rows if row.id is not None],
    )


def usable(transaction: Connection, owner_id: UUID, kind: CredentialKind) -> list[Candidate]:
    """Give what opens an account: the active credential and those still pending (D03)."""
    rows = transaction.execute(_USABLE_OF, {"owner": owner_id, "kind": kind})
    return [Candidate(*row) for row in rows]


def phone_index(store: Store, caller_id: str | None) -> bytes:
    """Give the index under which a caller id would be on file; a withheld one never is."""
    return store.keys.index("phone", caller_id or WITHHELD)


def open_hashes(store: Store, candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """Give credentials by their PHC string; one whose seal is broken is logged and left out."""
    opened = {}
    for candidate in candidates:
        try:
            phc = store.keys.open(candidate.hash_sealed, *binding(candidate)).decode()
        except SealError as error:
            log.error("stored_credential_refused", credential=str(candidate.id), why=str(error))
        else:
            opened[phc] = candidate
    return opened


def seal_hash(store: Store, credential: Credential | Candidate, hashed: str) -> bytes:
    """Seal a PHC string for this account, credential and kind only (D13)."""
    return store.keys.seal(hashed.encode(), *binding(credential))


# The statements of a login, built once: to build one takes longer than to run it.

_USABLE = or_(
    Credential.state == CredentialState.ACTIVE, Credential.state == CredentialState.PENDING
)
_CANDIDATE = (
    Credential.id,
    func.coalesce(Credential.account_id, Credential.web_account_id),
    Credential.kind,
    Credential.state,
    Credential.version,
    Credential.hash_sealed,
)
_OLDEST_FIRST = (Credential.created_at, Credential.id)
_OF_NUMBER = and_(
    Account.caisse == bindparam("caisse"),
    Account.number == bindparam("number"),
    Account.closed_at.is_(None),  # R08: a closed dossier is as good as unknown
)
_ON_FILE = exists().where(
    Person.account_id == Account.id,
    or_(Person.mobile_index == bindparam("phone"), Person.landline_index == bindparam("phone")),
)
_FOUND = (
    select(Account.id.label("account"), _ON_FILE.label("known_caller"), *_CANDIDATE)
    .outerjoin(
        Credential,
        and_(Credential.account_id == Account.id, Credential.kind == bindparam("kind"), _USABLE),
    )
    .where(_OF_NUMBER)
    .order_by(*_OLDEST_FIRST)
)
_USABLE_OF = (
    select(*_CANDIDATE)
    .where(
        or_(
            Credential.account_id == bindparam("owner"),
            Credential.web_account_id == bindparam("owner"),
        ),
        Credential.kind == bindparam("kind"),
        _USABLE,
    )
    .order_by(*_OLDEST_FIRST)
)
_LOCKED_ACCOUNT = select(Account.id).where(_OF_NUMBER).with_for_update(key_share=True)
# Both rows are locked, so that what was waited for is seen in both.
_COMPARED = (
    select(
        Account.id,
        Account.caisse,
        Credential.kind,
        Credential.state,
        Credential.provisional,
        Credential.expires_at,
        Credential.first_used_at,
    )
    .join(Account, Account.id == Credential.account_id)
    .where(Credential.id == bindparam("credential"))
    .with_for_update(of=[Account, Credential], key_share=True)
)
_LOCKED = (
    select(Credential.id)
    .where(Credential.id == bindparam("credential"))
    .with_for_update(key_share=True)
)
_END_OTHERS = (
    update(Credential)
    .where(
        Credential.account_id == bindparam("account"),
        Credential.kind.in_(bindparam("kinds", expanding=True)),
        Credential.id != bindparam("kept"),
        _USABLE,
    )
    .values(state=CredentialState.ENDED, ended_at=bindparam("now"), ended_by=EndedBy.REPLACED)
)
_USED = (
    update(Credential)
    .where(Credential.id == bindparam("credential"))
    .values(state=CredentialState.ACTIVE, first_used_at=bindparam("now"))
)
_REHASH = (
    update(Credential)
    .where(Credential.id == bindparam("credential"), Credential.version == bindparam("compared"))
    .values(hash_sealed=bindparam("rehashed"), version=Credential.version + 1)
)


def _reserve(
    store: Store, login: Login, origin: Origin, *, open_now: bool, named_caisse: str | None
) -> Reserved:
    """Count the attempt, in a transaction of its own, and fetch what it may be compared with.

    ClosedError before anything is counted, if an incident closes the channel or that caisse.
    """
    phone = phone_index(store, origin.caller_id)
    with store.database.begin() as transaction:
        incident.check_open(transaction, origin.channel, named_caisse)
        found = find(transaction, login.caisse, login.number, login.kind, phone)
        attempt = Attempt.of(
            store,
            throttle_key(store, login.caisse, login.number),
            origin,
            known_caller=found.known_caller,
            by_code=login.kind is CredentialKind.CODE,
        )
        issued = [one for one in found.candidates if one.state == CredentialState.PENDING]
        allowed = throttles.reserve(store, transaction, attempt, newly_issued=bool(issued))
    candidates = {
        Allowed.NOTHING: [],
        Allowed.NEWLY_ISSUED: issued,
        Allowed.EVERYTHING: found.candidates,
    }
    return Reserved(attempt, candidates[allowed] if open_now else [])


def compare(store: Store, candidates: Sequence[Candidate], secret: Secret) -> Match | None:
    """Spend one Argon2 computation; give the credential that has the secret, if any."""
    hashes = open_hashes(store, candidates)
    try:
        if hashes:
            matched = store.hasher.match([*hashes], secret)
            if matched is None:
                return None
            return Match(hashes[matched], matched, alone=len(hashes) == 1)
    except HashRefusedError as error:
        log.error("stored_credential_refused", credential=str(candidates[0].id), why=str(error))
    store.hasher.pretend(secret)
    return None


def rehash(store: Store, match: Match, secret: Secret) -> bytes | None:
    """Give a hash at today's costs, if the stored one was made at others.

    Not while others share its salt: one computation could no longer test them all.
    """
    if not match.alone or not store.hasher.outdated(match.hashed):
        return None
    return seal_hash(store, match.credential, store.hasher.hash(secret))


def _settle_refused(store: Store, attempt: Attempt) -> Refusal:
    """Leave the reservation as a failure (D05)."""
    with store.database.begin() as transaction:
        audit.note(transaction, "login-refused", store.clock(), attempt.origin, None)
    return Refusal.REFUSED


def _settle_closed(store: Store, attempt: Attempt, compared: Candidate) -> None:
    """Give the reservation back: the secret was right, and an incident closed the door (D15).

    What a success locks first is locked here too: both then touch the same counts.
    """
    with store.database.begin() as transaction:
        transaction.execute(_COMPARED, {"credential": compared.id})  # a dossier's
        transaction.execute(_LOCKED, {"credential": compared.id})  # a person's
        throttles.give_back(transaction, attempt)


def _settle_matched(
    store: Store, attempt: Attempt, match: Match, secret: Secret, grant: Grant[T]
) -> T | Expired | Refusal:
    """Grant what the secret opens, unless the credential ended while it was compared.

    The first use of a pending credential ends the others at once, on every channel (D03). The
    throttles come last: every login of the channel meets there.
    """
    rehashed = rehash(store, match, secret)
    now, origin, account_id = store.clock(), attempt.origin, match.credential.owner_id
    with store.database.begin() as transaction:
        row = transaction.execute(_COMPARED, {"credential": match.credential.id}).one()
        stored = Proven(*row)
        if stored.state == CredentialState.ENDED:
            audit.note(transaction, "login-refused", now, origin, None)
            return Refusal.REFUSED
        if stored.expires_at is not None and stored.expires_at <= now:
            audit.note(transaction, "login-expired", now, origin, account_id)
            throttles.give_back(transaction, attempt)
            return Expired(stored.expires_at)
        if stored.state == CredentialState.PENDING:
            audit.note(transaction, "credential-first-used", now, origin, account_id)
        if stored.first_used_at is None:
            _use_first(store, transaction, match.credential, stored, now)
        if rehashed is not None:
            renew(transaction, match.credential, rehashed)
        audit.note(transaction, "login", now, origin, account_id)
        granted = grant(transaction, stored)
        throttles.clear(transaction, attempt)
        return granted


def renew(transaction: Connection, compared: Candidate, rehashed: bytes) -> None:
    """Keep a hash at today's costs, unless the stored one changed or now shares its salt."""
    if len(usable(transaction, compared.owner_id, CredentialKind(compared.kind))) == 1:
        values = {"credential": compared.id, "compared": compared.version, "rehashed": rehashed}
        transaction.execute(_REHASH, values)


def _use_first(
    store: Store, transaction: Connection, credential: Candidate, stored: Proven, now: datetime
) -> None:
    """Make a pending credential the active one (D03); a password's first use ends the code (D09).

    That of one which was active ends no other on its way: nobody is locked out by a login.
    """
    ended = {stored.kind} if stored.state == CredentialState.PENDING else set()
    if stored.kind == CredentialKind.PASSWORD:
        ended.add(CredentialKind.CODE)
    _end_others(transaction, stored.account_id, ended, credential.id, now)
    transaction.execute(_USED, {"credential": credential.id, "now": now})
    feed.tell(store, transaction, stored.account_id)


def _end_others(
    transaction: Connection,
    account_id: UUID,
    kinds: Collection[str],
    kept: UUID,
    now: datetime,
) -> None:
    """End every usable credential of these kinds but one."""
    values = {"account": account_id, "kinds": kinds, "kept": kept, "now": now}
    transaction.execute(_END_OTHERS, values)


def binding(credential: Credential | Candidate) -> tuple[str, ...]:
    """A sealed hash opens for this account, credential and kind only (D13)."""
    return ("credential", str(_owner_of(credential)), str(credential.id), credential.kind)


def _owner_of(credential: Credential | Candidate) -> UUID | None:
    if isinstance(credential, Candidate):
        return credential.owner_id
    return credential.account_id or credential.web_account_id
