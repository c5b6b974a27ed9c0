"""What the database says of all messages: the part of the metrics that every gateway shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, bindparam, func, or_, select

from shared.clock import DAY
from shared.letters.status import overdue
from shared.models import Message, MessageState
from shared.store import Store


class Waiting(NamedTuple):
    """Messages of one kind that have not ended; `oldest_due` is when the first was asked for."""

    route: str
    template: str
    state: str
    messages: int
    oldest_due: datetime | None


@dataclass(frozen=True)
class Census:
    """The messages at one instant; `last_day` counts those asked for in it, by route and state."""

    at: datetime
    waiting: Sequence[Waiting]
    last_day: Mapping[tuple[str, str], int]
    letters_overdue: int


def take(store: Store) -> Census:
    """Count the messages; StoreDownError."""
    now = store.clock()
    with store.database.read() as transaction:
        waiting = transaction.execute(_WAITING, {"now": now}).all()
        last_day = transaction.execute(_LAST_DAY, {"since": now - DAY}).all()
    return Census(
        at=now,
        waiting=[Waiting._make(row) for row in waiting],
        last_day={(route, state): count for route, state, count in last_day},
        letters_overdue=overdue(store),
    )


# Both by an index: messages are kept for a year.

_DUE = and_(
    Message.state == MessageState.QUEUED,
    or_(Message.next_at <= bindparam("now"), Message.failures > 0),  # a retry was due before
)
_WAITING = (
    select(
        Message.route,
        Message.template,
        Message.state,
        func.count(),
        func.min(Message.created_at).filter(_DUE),
    )
    .where(Message.state.in_([MessageState.QUEUED, MessageState.SENDING, MessageState.UNCERTAIN]))
    .group_by(Message.route, Message.template, Message.state)
)
_LAST_DAY = (
    select(Message.route, Message.state, func.count())
    .where(Message.created_at > bindparam("since"))
    .group_by(Message.route, Message.state)
)
