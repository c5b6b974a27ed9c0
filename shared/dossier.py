"""What is in a dossier, and who manages it.

Every function takes the session and nothing that names an account: there is no way to write the
reading of somebody else's file (R39). What the session's person may do is asked at each access
(R26 to R33). Reads are audited like changes (D15).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from shared import audit, before, dossier_data, rights, sessions
from shared.audit import Event
from shared.before import Change
from shared.dossier_data import PAYMENTS, Dossier, Payment, Section
from shared.dossier_store import Stored
from shared.errors import NotAllowedError, NotYetError
from shared.models import Account, Person, Role
from shared.origin import Origin
from shared.rights import Holder, Right, Standing
from shared.sessions import Session
from shared.store import Store

T = TypeVar("T")

# fmt: off
READING: Final[Mapping[Section[Any], tuple[Right, Event]]] = {
    dossier_data.PAYMENTS:     (Right.READ_PAYMENTS,     "read-payments"),
    dossier_data.RIGHTS:       (Right.READ_RIGHTS,       "read-rights"),
    dossier_data.QUOTIENT:     (Right.READ_QUOTIENT,     "read-quotient"),
    dossier_data.CLAIMS:       (Right.READ_CLAIMS,       "read-claims"),
    dossier_data.REQUESTS:     (Right.READ_REQUESTS,     "read-requests"),
    dossier_data.CERTIFICATES: (Right.READ_CERTIFICATES, "read-certificates"),
    dossier_data.DEBTS:        (Right.READ_DEBTS,        "read-debts"),
    dossier_data.APPOINTMENTS: (Right.READ_APPOINTMENTS, "read-appointments"),
    dossier_data.LETTERS:      (Right.READ_LETTERS,      "read-letters"),
    dossier_data.ALERTS:       (Right.READ_ALERTS,       "read-alerts"),
}
# fmt: on
"""What each section takes, and what the audit notes of it."""


@dataclass(frozen=True)
class Disclosure:
    """What an adviser sees before taking a call (D11)."""

    caller: Standing | None  # None: nobody of the household is what the caller answered
    conjoint: Standing | None  # tells the delegation, too; None: there is no conjoint
    told: frozenset[Right]  # what the caller may be told (R33)


def read(store: Store, session: Session, section: Section[T]) -> T:
    """Give a section of the session's dossier (R38).

    NotAllowedError; UnavailableError if its source can't tell it now. It is audited before it is
    read, and its source is asked outside the transaction: one that is slow holds nothing up.
    """
    right, event = READING[section]
    with _allowed(store, session, right) as access:
        access.note(event)
        account = access.transaction.get_one(Account, access.holder.account_id)
        dossier = Dossier(account.id, account.caisse, account.number)
    return (store.dossiers or Stored(store)).read(dossier, section)


def last_payment(store: Store, session: Session) -> Payment | None:
    """Give the newest payment, or None if there is none yet (R32); raises as `read` does."""
    payments = read(store, session, PAYMENTS)
    return payments[0] if payments else None


def caisse(store: Store, session: Session) -> str:
    """Give the code of the dossier's caisse, by which a person tells several apart (D11)."""
    with store.database.read() as transaction:
        account_id = sessions.account_of(store, transaction, session)
        return transaction.get_one(Account, account_id).caisse


def rights_of(store: Store, session: Session) -> frozenset[Right]:
    """Give what the session's person may do now, to offer it; each access asks again (D11)."""
    with store.database.read() as transaction:
        sessions.account_of(store, transaction, session)
        holder = rights.holder_of(transaction, session)
    return frozenset(right for right in Right if holder.may(right))


def disclosure(store: Store, session: Session, caller: Role) -> Disclosure:
    """Say what may be told to somebody who says that they are `caller` (R33, D11).

    The answer counts in a session of the dossier only: one of a person is that person's.
    """
    with _open(store, session) as access:
        access.note("read-disclosure")
        holder = access.holder
        conjoint = rights.conjoint_of(access.transaction, holder.account_id)
    standing = holder.standing
    if holder.person_id is None and caller is not Role.ALLOCATAIRE:
        standing = conjoint if caller in (Role.CONJOINT, Role.CONJOINT_ALLOCATAIRE) else None
    return Disclosure(standing, conjoint, rights.may_be_told(standing, holder.situation))


def give_delegation(store: Store, session: Session) -> bool:
    """Let the conjoint manage the dossier (R26, R27); False if that changes nothing."""
    return _delegate(store, session, given=True)


def withdraw_delegation(store: Store, session: Session) -> bool:
    """End the conjoint's delegation at once (R26); False if that changes nothing."""
    return _delegate(store, session, given=False)


def _delegate(store: Store, session: Session, *, given: bool) -> bool:
    with _allowed(store, session, Right.DELEGATE) as access:
        other = Person.delegated_at.is_(None) if given else Person.delegated_at.is_not(None)
        changed = access.transaction.scalars(
            select(Person)
            .where(
                Person.account_id == access.holder.account_id, Person.role == Role.CONJOINT, other
            )
            .with_for_update()
        ).all()
        event: Event = "delegation-given" if given else "delegation-withdrawn"
        for conjoint in changed:
            change = Change(event, access.at, access.origin, conjoint, by=access.holder.person_id)
            before.note(store, access.transaction, change)
            conjoint.delegated_at = access.at if given else None
        return bool(changed)


@dataclass(frozen=True)
class _Access:
    """A session's dossier, open in one transaction."""

    transaction: Transaction
    holder: Holder
    origin: Origin
    at: datetime

    def note(self, event: Event) -> None:
        """Tell the audit of it (D15)."""
        audit.note(
            self.transaction,
            event,
            self.at,
            self.origin,
            self.holder.account_id,
            person_id=self.holder.person_id,
        )


@contextmanager
def _open(store: Store, session: Session) -> Iterator[_Access]:
    with store.database.write() as transaction:
        sessions.account_of(store, transaction, session)
        holder = rights.holder_of(transaction, session)
        yield _Access(transaction, holder, session.origin, store.clock())


@contextmanager
def _allowed(store: Store, session: Session, right: Right) -> Iterator[_Access]:
    """Open the session's dossier for one thing; NotAllowedError, audited, if the table says no.

    NotYetError if it will say yes to that person, once the first claim has been dealt with (R32).
    """
    with _open(store, session) as access:
        if access.holder.may(right):
            yield access
            return
        access.note("access-refused")
        later = access.holder.may_later(right)
    raise (NotYetError if later else NotAllowedError)(f"not allowed: {right}")
