"""Sessions: the only key to a dossier (design idea 3).

`credentials.verify` alone opens one. A session object says whose it is, but nothing believes the
object: `account_of` looks its token up and compares what it finds, so that a forged or altered
one opens nothing, and one older than an incident (an epoch) opens nothing any more (D15).
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session as Transaction

from shared.errors import SessionEndedError
from shared.models import Account, Epoch, LoginSession
from shared.origin import Origin
from shared.store import Store

SERVICE = "service"  # the epoch of the whole service


@dataclass(frozen=True)
class Session:
    """An open session of one dossier; rights are read at each access, never kept here (D11)."""

    token: bytes = field(repr=False)
    account_id: UUID
    origin: Origin
    account_epoch: int
    service_epoch: int


def open_session(
    store: Store, transaction: Transaction, account: Account, origin: Origin, now: datetime
) -> Session:
    """Open a session of an account whose secret has just been verified; `credentials` only."""
    session = Session(
        token=secrets.token_bytes(32),
        account_id=account.id,
        origin=origin,
        account_epoch=account.epoch,
        service_epoch=transaction.scalars(select(Epoch.value).where(Epoch.scope == SERVICE)).one(),
    )
    transaction.add(
        LoginSession(
            token_hash=_hash(session.token),
            account_id=session.account_id,
            channel=origin.channel,
            call_id=origin.call_id,
            account_epoch=session.account_epoch,
            service_epoch=session.service_epoch,
            opened_at=now,
            expires_at=now + timedelta(minutes=store.rules.session.minutes),
        )
    )
    return session


def account_of(store: Store, transaction: Transaction, session: Session) -> UUID:
    """Give the id of the session's account; SessionEndedError if it opens nothing (any more)."""
    account_id = transaction.scalar(
        select(LoginSession.account_id)
        .join(Account, Account.id == LoginSession.account_id)
        .join(Epoch, Epoch.scope == SERVICE)
        .where(
            LoginSession.token_hash == _hash(session.token),
            LoginSession.account_id == session.account_id,
            LoginSession.ended_at.is_(None),
            LoginSession.expires_at > store.clock(),
            LoginSession.account_epoch == Account.epoch,
            LoginSession.service_epoch == Epoch.value,
        )
    )
    if account_id is None:
        raise SessionEndedError("the session is over")
    return account_id


def end_sessions_of_call(store: Store, call_id: str) -> None:
    """End what a call opened, whichever way the call ended."""
    with store.database.write() as transaction:
        transaction.execute(
            update(LoginSession)
            .where(LoginSession.call_id == call_id, LoginSession.ended_at.is_(None))
            .values(ended_at=store.clock())
        )


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
