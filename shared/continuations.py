"""Steps on the web that end with a password: what carries them on from one to the next (R12, R18).

It is a session that opens no dossier: short, good for one purpose, and ended by its last step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from shared import sessions
from shared.errors import SessionEndedError
from shared.models import Account, Continuation, LoginSession, Person
from shared.origin import Origin
from shared.sessions import Scope, Session
from shared.store import Store


class Purpose(StrEnum):
    """What the steps are for."""

    BASCULE = "bascule"  # R18
    RECOVERY = "recovery"  # R12, R13


@dataclass(frozen=True)
class Steps:
    """A continuation at work: what it knows, and whose it is."""

    transaction: Transaction
    state: Continuation
    person: Person


def begin(
    store: Store, transaction: Transaction, purpose: Purpose, person_id: UUID, origin: Origin
) -> Session:
    """Open a continuation for a person whose secret was just verified."""
    person = transaction.get_one(Person, person_id)
    account = transaction.get_one(Account, person.account_id)
    scope = Scope(account.id, account.caisse, person_id, change_only=True)
    session = sessions.open_session(store, transaction.connection(), scope, origin)
    transaction.add(Continuation(token_hash=session.token_hash, purpose=purpose))
    return session


@contextmanager
def step(store: Store, session: Session, purpose: Purpose) -> Iterator[Steps]:
    """Do one step in a transaction of its own; SessionEndedError if it opens nothing any more."""
    with store.database.write() as transaction:
        yield take_up(store, transaction, session, purpose)


def take_up(store: Store, transaction: Transaction, session: Session, purpose: Purpose) -> Steps:
    """Hold off whoever else does a step with it; SessionEndedError if it opens nothing any more."""
    row = transaction.execute(
        select(Continuation, Person)
        .join(LoginSession, LoginSession.token_hash == Continuation.token_hash)
        .join(Person, Person.id == LoginSession.person_id)
        .where(Continuation.token_hash == session.token_hash, Continuation.purpose == purpose)
        .with_for_update(of=Continuation)
    ).one_or_none()
    if row is None:
        raise SessionEndedError("the session is over")
    sessions.account_of(store, transaction, session, changing=True)
    return Steps(transaction, *row)
