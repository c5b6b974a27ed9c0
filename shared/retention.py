"""What is kept, for how long and why (D16), and what forgets the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

from sqlalchemy import LargeBinary, delete, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from shared import audit_seal, campaigns, database, idempotency, throttles
from shared.clock import DAY
from shared.database import delete_oldest, oldest
from shared.day_keys import HEAD_BYTES, day_of
from shared.models import (
    UNDER_WAY,
    AgentTask,
    CallRecord,
    Campaign,
    DossierSection,
    InboundMessage,
    LetterRun,
    LoginSession,
    Message,
    MessageState,
    SendAttempt,
    SentPart,
    VerificationCode,
)
from shared.rules import Retention
from shared.store import Store

Forget = Callable[[Transaction, datetime], bool]
"""Forgets a batch at most, the oldest first; True if there may be more."""


@dataclass(frozen=True)
class Kept:
    """How long one kind of thing is kept, and what it is kept for."""

    what: str
    days: int
    why: str
    forget: Forget | None  # None: by a way of its own


def _older(column: InstrumentedAttribute[datetime], days: int) -> Forget:
    """Delete the rows whose instant is so many days ago."""

    def forget(transaction: Transaction, now: datetime) -> bool:
        return delete_oldest(transaction, column, column < now - days * DAY)

    return forget


def _old_messages(days: int) -> Forget:
    """Delete messages that ended so long ago, their attempts, runs and campaigns left empty."""

    of_run = exists().where(Message.run_id == LetterRun.id)
    of_campaign = exists().where(Message.campaign_id == Campaign.id)

    def forget(transaction: Transaction, now: datetime) -> bool:
        before = now - days * DAY
        if _forget_messages(transaction, before):
            return True
        left = [
            delete_oldest(transaction, at, at < before, which)
            for at, which in (
                (SentPart.at, SentPart.attempt_id.is_(None)),
                (LetterRun.created_at, ~of_run),
                (Campaign.ended_at, ~of_campaign),
            )
        ]
        return any(left)

    return forget


def _forget_messages(transaction: Transaction, before: datetime) -> bool:
    """Delete messages with their attempts; True if there may be more."""
    ids = [key.id for key in oldest(transaction, Message.ended_at, Message.ended_at < before)]
    tries = select(SendAttempt.id).where(SendAttempt.message_id.in_(ids))
    for statement in (
        delete(SentPart).where(SentPart.attempt_id.in_(tries)),
        delete(SendAttempt).where(SendAttempt.message_id.in_(ids)),
        delete(Message).where(Message.id.in_(ids)),
    ):
        transaction.execute(statement, execution_options={"synchronize_session": False})
    return len(ids) == database.BATCH


def table(rules: Retention) -> tuple[Kept, ...]:
    """Say of everything that is not kept for good how long it is."""
    audit, calls, tasks = rules.audit_days, rules.call_days, rules.task_days
    messages = rules.message_days
    return (
        # What audit_seal.py and outbox.py forget has no function here; `drop_day_keys` below goes
        # on with the texts of messages, in copies of the database.
        Kept("audit", audit, "D15, D16: who changed and read what", None),
        Kept("texts of messages", 0, "D12, D16: until accepted or expired", None),
        Kept("call records", calls, "D16: complaints", _older(CallRecord.started_at, calls)),
        Kept(
            "messages and letter runs",
            messages,
            "complaints: when and how, not what was said",
            _old_messages(messages),
        ),
        Kept(
            "words sent to our numbers",
            messages,
            "D14: each is done once; complaints; not the opt-out itself",
            _older(InboundMessage.at, messages),
        ),
        Kept(
            "recipients of campaigns",
            rules.campaign_days,
            "R24, D12: until each has the message; for so long if it is never sent",
            partial(campaigns.cancel_old, rules.campaign_days),
        ),
        Kept("agents' requests", tasks, "R09: each is done once", _older(AgentTask.at, tasks)),
        Kept(
            "what was told of dossiers",
            rules.dossier_days,
            "R38: until newer data takes its place; so long if none does",
            _older(DossierSection.as_of, rules.dossier_days),
        ),
        Kept("sessions", 1, "to say that they are over", _older(LoginSession.expires_at, 1)),
        Kept("verification codes", 1, "R15: re-sends", _older(VerificationCode.created_at, 1)),
        Kept("throttle counts", 1, "D05; 29 days for what is usual in a channel", throttles.purge),
        Kept("idempotent requests", 1, "repeated, they get the same answer", idempotency.purge),
    )


def tidy(store: Store) -> bool:
    """Forget a batch of each thing that is no longer to be kept; True if there may be more.

    Each in a transaction of its own, so that a code never waits for a whole campaign to be
    forgotten. The audit's old days on SQLite only: on PostgreSQL a role of its own deletes them
    (D16).
    """
    now, rules = store.clock(), store.rules.retention
    more = [_forget(store, kept.forget, now) for kept in table(rules) if kept.forget is not None]
    if store.database.sqlite:
        audit_seal.purge(store, rules.audit_days)
    return any(more)


def _forget(store: Store, forget: Forget, now: datetime) -> bool:
    with store.database.write() as transaction:
        return forget(transaction, now)


def drop_day_keys(store: Store) -> None:
    """Destroy the keys of days of which no message is under way any more (D12, D16).

    Those of today and of its neighbours stay: what was sealed just now may not be committed yet,
    and the clock of another machine may be a little ahead.
    """
    today = store.clock().date()
    over = {day for day in store.keys.days.days() if abs(day - today) > DAY}
    if over:
        for day in over - _days_under_way(store):
            store.keys.days.drop(day)


def _days_under_way(store: Store) -> set[date]:
    """Give the days under whose keys something is that may still go out.

    What is past its life never does: not even a letter, of a run that the printer never confirmed.
    What a campaign holds may, on the next day; so may what it left queued in the evening.
    """
    held = Message.state == MessageState.HELD
    has_hours = Message.zone.is_not(None)
    under_way = (
        select(
            *(
                func.substr(column, 1, HEAD_BYTES, type_=LargeBinary)
                for column in (
                    Message.destination_sealed,
                    Message.content_sealed,
                    Message.text_sealed,
                )
            )
        )
        .where(
            Message.state.in_(UNDER_WAY), or_(held, has_hours, Message.expires_at > store.clock())
        )
        .distinct()
    )
    with store.database.read() as transaction:
        heads = {head for row in transaction.execute(under_way) for head in row}
    return {day for head in heads if head and (day := day_of(head))}
