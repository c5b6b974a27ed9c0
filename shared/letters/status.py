"""Where the letters are, and the alarm for those that did not leave in time (R25)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Select, func, select

from shared.models import LetterRun, Message, MessageState, Route
from shared.store import Store

CONFIRMED = 10  # runs shown that are over

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunView:
    """A run and how many letters it has."""

    run_id: UUID
    created_at: datetime
    prepared_at: datetime | None
    confirmed_at: datetime | None
    letters: int


@dataclass(frozen=True)
class Status:
    """Where the letters are; `without_address` wait for an address that may be trusted (D04)."""

    runs: list[RunView]
    queued: int
    without_address: int
    overdue: int  # neither confirmed nor expired after `letters.overdue_hours` (R25)


def status(store: Store) -> Status:
    """Describe the runs not confirmed and the last confirmed, and what waits."""
    counted = (
        select(LetterRun, func.count(Message.id))
        .outerjoin(Message, Message.run_id == LetterRun.id)
        .group_by(LetterRun.id)
        .order_by(LetterRun.confirmed_at.is_not(None), LetterRun.created_at.desc())
    )
    waiting = _count(Message.state == MessageState.QUEUED)
    with store.database.read() as transaction:
        rows = transaction.execute(counted).all()
        open_runs = sum(found.confirmed_at is None for found, _ in rows)
        return Status(
            runs=[
                RunView(one.id, one.created_at, one.prepared_at, one.confirmed_at, letters)
                for one, letters in rows[: open_runs + CONFIRMED]
            ],
            queued=transaction.scalars(waiting).one(),
            without_address=transaction.scalars(
                waiting.where(Message.next_at > store.clock())
            ).one(),
            overdue=transaction.scalars(_overdue(store)).one(),
        )


def overdue(store: Store) -> int:
    """Give how many letters are; StoreDownError."""
    with store.database.read() as transaction:
        return transaction.scalars(_overdue(store)).one()


def warn_of_late(store: Store) -> None:
    """Raise the alarm if letters are overdue."""
    letters = overdue(store)
    if letters:
        log.warning("letter_overdue", letters=letters, hours=store.rules.letters.overdue_hours)


def _count(*which: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).where(Message.route == Route.LETTER, *which)


def _overdue(store: Store) -> Select[int]:
    latest = store.clock() - timedelta(hours=store.rules.letters.overdue_hours)
    return _count(
        Message.state.in_([MessageState.QUEUED, MessageState.SENDING]),
        Message.created_at <= latest,
    )
