"""How messages fared: counted and timed from what the outbox keeps of them, never what they said.

Rows are read as a stream, found by their instant: a year of older ones costs nothing, and no single
statement of a long one runs into the database's limit of time.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from sqlalchemy import bindparam, func, select

from shared.models import Message, MessageState, SendAttempt
from shared.outbox import Result
from shared.store import Store

STREAMED = {"yield_per": 1000}  # rows that are in memory at a time


class Kind(NamedTuple):
    """Messages of one template, by one route."""

    route: str
    template: str


class Outcome(NamedTuple):
    """What a provider said of an attempt; no `result`: it is under way, or nobody knows."""

    provider: str
    result: str | None
    code: str | None


@dataclass(frozen=True)
class Spread:
    """Seconds that half of the messages needed at most, and that 95 in 100 did."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self | None:
        """Give the nearest ranks; None of nothing."""
        if not seconds:
            return None
        ranked = sorted(seconds)
        half, most = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.95))
        return cls(half, most)


@dataclass
class Fared:
    """How the messages of one kind fared; seconds are counted from the request."""

    states: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    to_acceptance: list[float] = field(default_factory=list)
    to_delivery: list[float] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Say how many there are."""
        return self.states.total()


@dataclass(frozen=True)
class Stats:
    """How all messages fared, and what came of each attempt."""

    kinds: Mapping[Kind, Fared]
    outcomes: Mapping[Outcome, int]


def since(store: Store, start: datetime) -> Stats:
    """Count the messages asked for from that instant on, and the attempts to send them."""
    kinds: defaultdict[Kind, Fared] = defaultdict(Fared)
    outcomes: Counter[Outcome] = Counter()
    with store.database.read() as transaction:
        asked = transaction.execute(MESSAGES, {"start": start}, execution_options=STREAMED)
        for route, template, state, asked_at, accepted_at, ended_at in asked:
            fared = kinds[Kind(route, template)]
            fared.states[state] += 1
            if accepted_at is not None:
                fared.to_acceptance.append((accepted_at - asked_at).total_seconds())
            if state == MessageState.DELIVERED and ended_at is not None:
                fared.to_delivery.append((ended_at - asked_at).total_seconds())
        tried = transaction.execute(ATTEMPTS, {"start": start}, execution_options=STREAMED)
        for route, template, provider, result, code in tried:
            kinds[Kind(route, template)].tries += 1
            outcomes[Outcome(provider, result, code)] += 1
    return Stats(kinds, outcomes)


_FROM_START = Message.created_at >= bindparam("start")
_ACCEPTED_AT = (
    select(func.min(SendAttempt.ended_at))
    .where(SendAttempt.message_id == Message.id, SendAttempt.result == Result.ACCEPTED)
    .scalar_subquery()
)
MESSAGES = select(
    Message.route,
    Message.template,
    Message.state,
    Message.created_at,
    _ACCEPTED_AT,
    Message.ended_at,
).where(_FROM_START)
ATTEMPTS = (
    select(
        Message.route,
        Message.template,
        SendAttempt.provider,
        SendAttempt.result,
        SendAttempt.code,
    )
    .join(SendAttempt, SendAttempt.message_id == Message.id)
    .where(_FROM_START)
)
