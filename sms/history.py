"""What the database says of each provider: how it has done, whichever gateway it was at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from shared.models import SendAttempt
from shared.outbox import Result
from shared.store import Store

HOUR = timedelta(hours=1)


class Failure(NamedTuple):
    """An attempt that failed, and why, as the provider says it."""

    at: datetime
    code: str


@dataclass(frozen=True)
class History:
    """How a provider has done; `last_hour` counts its attempts, by what came of them."""

    last_hour: Mapping[Result, int]
    last_acceptance: datetime | None
    last_failure: Failure | None


def history(store: Store, name: str) -> History:
    """Say how a provider has done; refusals are the message's fault, not its own."""
    since = {"name": name, "since": store.clock() - HOUR}
    with store.database.read() as transaction:
        counts = dict(transaction.execute(_COUNTS, since).all())
        accepted, *failed = (
            transaction.execute(_LAST, {"name": name, "result": result}).first()
            for result in (Result.ACCEPTED, Result.RETRY, Result.UNCERTAIN)
        )
    return History(
        last_hour={result: counts.get(result, 0) for result in Result},
        last_acceptance=accepted[0] if accepted else None,
        last_failure=max((Failure._make(row) for row in failed if row), default=None),
    )


# Both by an index: attempts are kept for a year.

_COUNTS = (
    select(SendAttempt.result, func.count())
    .where(
        SendAttempt.provider == bindparam("name"),
        SendAttempt.result.in_(list(Result)),
        SendAttempt.ended_at > bindparam("since"),
    )
    .group_by(SendAttempt.result)
)
_LAST = (
    select(SendAttempt.ended_at, SendAttempt.code)
    .where(SendAttempt.provider == bindparam("name"), SendAttempt.result == bindparam("result"))
    .order_by(SendAttempt.ended_at.desc())
    .limit(1)
)
