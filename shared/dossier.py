"""What is in a dossier.

Every function takes the session and nothing that names an account: there is no way to write the
reading of somebody else's file (R39). Reads are audited like changes (D15).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from shared import audit, sessions
from shared.models import Payment
from shared.sessions import Session
from shared.store import Store


def last_payment(store: Store, session: Session) -> Payment | None:
    """Give the newest payment (date, euro cents), or None if there is none yet (R32, R38)."""
    with _reading(store, session, "read-last-payment") as (transaction, account_id):
        return transaction.scalar(
            select(Payment)
            .where(Payment.account_id == account_id)
            .order_by(Payment.paid_on.desc())
            .limit(1)
        )


@contextmanager
def _reading(store: Store, session: Session, event: str) -> Iterator[tuple[Transaction, UUID]]:
    with store.database.write() as transaction:
        account_id = sessions.account_of(store, transaction, session)
        audit.note(transaction, event, store.clock(), session.origin, account_id)
        yield transaction, account_id
