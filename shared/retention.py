"""What is kept, for how long and why (D16), and what forgets the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from shared import audit_seal, idempotency, throttles
from shared.models import CallRecord, LoginSession, Message, SendAttempt, VerificationCode
from shared.store import Store

YEAR_DAYS = 365
AUDIT_DAYS = YEAR_DAYS

DAY = timedelta(days=1)

Forget = Callable[[Transaction, datetime], None]


@dataclass(frozen=True)
class Kept:
    """How long one kind of thing is kept, and what it is kept for."""

    what: str
    days: int
    why: str
    forget: Forget | None  # None: by a way of its own


def _older(column: InstrumentedAttribute[datetime], days: int) -> Forget:
    """Delete the rows whose instant is so many days ago."""

    def forget(transaction: Transaction, now: datetime) -> None:
        transaction.execute(
            delete(column.class_).where(column < now - days * DAY),
            execution_options={"synchronize_session": False},
        )

    return forget


def _old_messages(transaction: Transaction, now: datetime) -> None:
    """Delete messages that ended a year ago, and the attempts to send them."""
    old = select(Message.id).where(Message.ended_at < now - YEAR_DAYS * DAY)
    for statement in (
        delete(SendAttempt).where(SendAttempt.message_id.in_(old)),
        delete(Message).where(Message.ended_at < now - YEAR_DAYS * DAY),
    ):
        transaction.execute(statement, execution_options={"synchronize_session": False})


TABLE = (
    # What audit_seal.py and outbox.py forget has no function here.
    Kept("audit", AUDIT_DAYS, "D15, D16: who changed and read what", None),
    Kept("texts of messages", 0, "D12, D16: until accepted or expired", None),
    Kept("call records", YEAR_DAYS, "D16: complaints", _older(CallRecord.started_at, YEAR_DAYS)),
    Kept("messages", YEAR_DAYS, "complaints: when and how, not what was said", _old_messages),
    Kept("sessions", 1, "to say that they are over", _older(LoginSession.expires_at, 1)),
    Kept("verification codes", 1, "R15: re-sends", _older(VerificationCode.created_at, 1)),
    Kept("throttle counts", 1, "D05; 29 days for what is usual in a channel", throttles.purge),
    Kept("idempotent requests", 1, "repeated, they get the same answer", idempotency.purge),
)


def tidy(store: Store) -> None:
    """Forget what is no longer to be kept.

    The audit's old days on SQLite only: on PostgreSQL a role of its own deletes them (D16).
    """
    now = store.clock()
    with store.database.write() as transaction:
        for kept in TABLE:
            if kept.forget is not None:
                kept.forget(transaction, now)
    if store.database.sqlite:
        audit_seal.purge(store, AUDIT_DAYS)
