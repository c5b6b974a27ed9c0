"""What is kept, for how long and why (D16), and what forgets the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, exists, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from shared import audit_seal, idempotency, throttles
from shared.clock import DAY
from shared.models import (
    AgentTask,
    CallRecord,
    LetterRun,
    LoginSession,
    Message,
    SendAttempt,
    SentPart,
    VerificationCode,
)
from shared.rules import Retention
from shared.store import Store

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


def _old_messages(days: int) -> Forget:
    """Delete messages that ended so long ago, the attempts to send them, and runs left empty."""

    def forget(transaction: Transaction, now: datetime) -> None:
        before = now - days * DAY
        old = select(Message.id).where(Message.ended_at < before)
        tries = select(SendAttempt.id).where(SendAttempt.message_id.in_(old))
        unknown = and_(SentPart.attempt_id.is_(None), SentPart.at < before)
        of_run = exists().where(Message.run_id == LetterRun.id)
        for statement in (
            delete(SentPart).where(SentPart.attempt_id.in_(tries) | unknown),
            delete(SendAttempt).where(SendAttempt.message_id.in_(old)),
            delete(Message).where(Message.ended_at < before),
            delete(LetterRun).where(LetterRun.created_at < before, ~of_run),
        ):
            transaction.execute(statement, execution_options={"synchronize_session": False})

    return forget


def table(rules: Retention) -> tuple[Kept, ...]:
    """Say of everything that is not kept for good how long it is."""
    audit, calls, tasks = rules.audit_days, rules.call_days, rules.task_days
    messages = rules.message_days
    return (
        # What audit_seal.py and outbox.py forget has no function here.
        Kept("audit", audit, "D15, D16: who changed and read what", None),
        Kept("texts of messages", 0, "D12, D16: until accepted or expired", None),
        Kept("call records", calls, "D16: complaints", _older(CallRecord.started_at, calls)),
        Kept(
            "messages and letter runs",
            messages,
            "complaints: when and how, not what was said",
            _old_messages(messages),
        ),
        Kept("agents' requests", tasks, "R09: each is done once", _older(AgentTask.at, tasks)),
        Kept("sessions", 1, "to say that they are over", _older(LoginSession.expires_at, 1)),
        Kept("verification codes", 1, "R15: re-sends", _older(VerificationCode.created_at, 1)),
        Kept("throttle counts", 1, "D05; 29 days for what is usual in a channel", throttles.purge),
        Kept("idempotent requests", 1, "repeated, they get the same answer", idempotency.purge),
    )


def tidy(store: Store) -> None:
    """Forget what is no longer to be kept.

    The audit's old days on SQLite only: on PostgreSQL a role of its own deletes them (D16).
    """
    now, rules = store.clock(), store.rules.retention
    with store.database.write() as transaction:
        for kept in table(rules):
            if kept.forget is not None:
                kept.forget(transaction, now)
    if store.database.sqlite:
        audit_seal.purge(store, rules.audit_days)
