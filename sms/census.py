"""What the database says of all messages: the part of the metrics that every gateway shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, bindparam, func, or_, select

from shared.clock import DAY
from shared.letters.status import overdue
from shared.models import Campaign, Message, MessageState, Route
from shared.store import Store

RECEIPT_AFTER = timedelta(hours=1)
"""By then nearly every SMS has its receipt; a telephone that is off has none for days."""


class Waiting(NamedTuple):
    """Messages of one kind that have not ended; `oldest_due` is when the first was asked for."""

    route: str
    template: str
    state: str
    messages: int
    oldest_due: datetime | None


@dataclass(frozen=True)
class Census:
    """The messages at one instant; `last_day` counts those asked for in it, by route and state.

    Without campaigns: among so many nobody would see that codes fail. `taken` counts SMS of that
    day that a provider took over an hour ago, by provider and whether it has said since what became
    of them.
    """

    at: datetime
    waiting: Sequence[Waiting]
    last_day: Mapping[tuple[str, str], int]
    taken: Mapping[tuple[str, bool], int]
    campaigns: Mapping[MessageState, int]  # messages of those that have not ended, by state
    letters_overdue: int


def take(store: Store) -> Census:
    """Count the messages; StoreDownError."""
    now = store.clock()
    with store.database.read() as transaction:
        waiting = transaction.execute(_WAITING, {"now": now}).all()
        last_day = transaction.execute(_LAST_DAY, {"since": now - DAY}).all()
        long_ago = {"since": now - DAY, "before": now - RECEIPT_AFTER}
        taken = transaction.execute(_TAKEN, long_ago).all()
        of_campaigns = transaction.execute(_OF_CAMPAIGNS).all()
    return Census(
        at=now,
        waiting=[Waiting._make(row) for row in waiting],
        last_day={(route, state): count for route, state, count in last_day},
        taken={(provider, told): count for provider, told, count in taken if provider},
        campaigns={MessageState(state): count for state, count in of_campaigns},
        letters_overdue=overdue(store),
    )


# All by an index: messages are kept for a year.

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
_OF_CAMPAIGNS = (
    select(Message.state, func.count())
    .where(Message.campaign_id.in_(select(Campaign.id).where(Campaign.ended_at.is_(None))))
    .group_by(Message.state)
)
_LAST_DAY = (
    select(Message.route, Message.state, func.count())
    .where(Message.created_at > bindparam("since"), Message.campaign_id.is_(None))
    .group_by(Message.route, Message.state)
)
_TOLD = Message.state.in_([MessageState.DELIVERED, MessageState.UNDELIVERED])
_TAKEN = (
    select(Message.provider, _TOLD, func.count())
    .where(
        Message.created_at > bindparam("since"),
        Message.created_at <= bindparam("before"),
        Message.campaign_id.is_(None),
        Message.route == Route.SMS,
        or_(
            _TOLD,
            and_(Message.state == MessageState.ACCEPTED, Message.ended_at <= bindparam("before")),
        ),
    )
    .group_by(Message.provider, _TOLD)
)
