"""Sessions: the only key to a dossier (design idea 3).

Only who has just verified a password or a code opens one (`credentials`, `web_accounts`,
`continuations`). A session object says whose it is, but nothing believes the object: `account_of`
looks its token up and compares what it finds, so that a forged or altered one opens nothing, and
one older than an incident (an epoch) opens nothing any more (D15).
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session as Transaction

from shared import incident
from shared.errors import ClosedError, SessionEndedError
from shared.models import Account, Epoch, LoginSession
from shared.origin import Origin
from shared.rules import Channel, CredentialKind
from shared.store import Store


@dataclass(frozen=True)
class Proof:
    """The dossier's secret that opened a session, for what its owner is to be told of it."""

    kind: CredentialKind  # R03: the old code is to be replaced by a password
    provisional: bool  # R09
    expires_at: datetime | None  # R07


@dataclass(frozen=True)
class Session:
    """An open session of one dossier; rights are read at each access, never kept here (D11)."""

    token: bytes = field(repr=False)
    account_id: UUID
    origin: Origin
    account_epoch: int
    service_epoch: int
    change_only: bool = False  # R09: opens the change of password and nothing else
    proof: Proof | None = None  # None: a person's session, or one found by its token

    @property
    def token_hash(self) -> bytes:
        """What the database knows it by."""
        return _hash(self.token)


@dataclass(frozen=True)
class Scope:
    """What a session is to open: for a person, or else for the allocataire (D11)."""

    account_id: UUID
    caisse: str
    person_id: UUID | None = None
    change_only: bool = False
    proof: Proof | None = None


# Built once, and one statement: a session opened beside the raise of an incident is refused, or
# keeps the epochs of before.
_GIVEN = (
    LoginSession.token_hash,
    LoginSession.person_id,
    LoginSession.change_only,
    LoginSession.channel,
    LoginSession.call_id,
    LoginSession.client,
    LoginSession.opened_at,
    LoginSession.expires_at,
)
_OPEN = (
    insert(LoginSession)
    .from_select(
        [
            *(column.key for column in _GIVEN),
            LoginSession.account_id.key,
            LoginSession.account_epoch.key,
            LoginSession.service_epoch.key,
        ],
        select(
            *(bindparam(column.key, type_=column.type) for column in _GIVEN),
            Account.id,
            Account.epoch,
            incident.EPOCHS.scalar_subquery(),
        ).where(Account.id == bindparam("account"), ~incident.STANDING),
    )
    .returning(LoginSession.account_epoch, LoginSession.service_epoch)
)


def open_session(store: Store, transaction: Connection, scope: Scope, origin: Origin) -> Session:
    """Open a session, once a secret of the account or of the person was verified.

    ClosedError while an incident closes the channel or the caisse (D15).
    """
    now = store.clock()
    rules = store.rules.session
    minutes = rules.steps_minutes if scope.change_only else rules.minutes
    token = secrets.token_bytes(32)
    values = {
        "token_hash": _hash(token),
        "account": scope.account_id,
        "person_id": scope.person_id,
        "change_only": scope.change_only,
        "channel": origin.channel,
        "call_id": origin.call_id,
        "client": origin.client,
        "opened_at": now,
        "expires_at": now + timedelta(minutes=minutes),
        "within": incident.scopes(origin.channel, scope.caisse),
    }
    epochs = transaction.execute(_OPEN, values).one_or_none()
    if epochs is None:
        raise ClosedError("closed by an incident")
    return Session(
        token=token,
        account_id=scope.account_id,
        origin=origin,
        account_epoch=epochs.account_epoch,
        service_epoch=epochs.service_epoch,
        change_only=scope.change_only,
        proof=scope.proof,
    )


def resume(store: Store, token: bytes, client: str) -> Session:
    """Find an open session by its token, for the client of the HTTP API that opened it.

    SessionEndedError if there is none: nothing else finds a session.
    """
    with store.database.read() as transaction:
        row = transaction.get(LoginSession, _hash(token))
        if row is None or row.client != client:
            raise SessionEndedError("the session is over")
        session = Session(
            token=token,
            account_id=row.account_id,
            origin=Origin(Channel(row.channel), client=client),
            account_epoch=row.account_epoch,
            service_epoch=row.service_epoch,
            change_only=row.change_only,
        )
        account_of(store, transaction, session, changing=True)
        return session


def account_of(
    store: Store, transaction: Transaction, session: Session, *, changing: bool = False
) -> UUID:
    """Give the id of the session's account; SessionEndedError if it opens nothing (any more).

    One that is for the change of password only (R09) gives it for that alone: `changing`.
    """
    account_id = transaction.scalar(
        select(LoginSession.account_id)
        .join(Account, Account.id == LoginSession.account_id)
        .where(
            LoginSession.token_hash == _hash(session.token),
            LoginSession.account_id == session.account_id,
            is_open(store.clock()),
            or_(LoginSession.change_only.is_(False), literal(changing)),
        )
    )
    if account_id is None:
        raise SessionEndedError("the session is over")
    return account_id


def is_open(now: datetime) -> ColumnElement[bool]:
    """Mean the sessions that are not over, by whatever ended them, joined with their accounts."""
    return and_(
        LoginSession.ended_at.is_(None),
        LoginSession.expires_at > now,
        Account.closed_at.is_(None),  # R08: even if it was closed beside the login
        LoginSession.account_epoch == Account.epoch,
        LoginSession.service_epoch == _EPOCH_NOW,
    )


def end(store: Store, session: Session) -> None:
    """End a session: its owner has logged out."""
    with store.database.write() as transaction:
        transaction.execute(
            update(LoginSession)
            .where(LoginSession.token_hash == _hash(session.token), LoginSession.ended_at.is_(None))
            .values(ended_at=store.clock())
        )


def end_sessions_of_call(store: Store, call_id: str) -> None:
    """End what a call opened, whichever way the call ended."""
    with store.database.write() as transaction:
        transaction.execute(
            update(LoginSession)
            .where(LoginSession.call_id == call_id, LoginSession.ended_at.is_(None))
            .values(ended_at=store.clock())
        )


_EPOCH_NOW = (  # the sum of what `incident.scopes` names for a session
    select(func.coalesce(func.sum(Epoch.value), 0))
    .where(
        or_(
            Epoch.scope == incident.SERVICE,
            Epoch.scope == literal(incident.CHANNEL) + LoginSession.channel,
            Epoch.scope == literal(incident.CAISSE) + Account.caisse,
        )
    )
    .correlate(LoginSession, Account)
    .scalar_subquery()
)


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
