"""How often a login may fail (D05), counted across all channels.

An attempt is reserved, in a committed transaction, before anything is compared: a reservation is
a full count, whatever becomes of the call. A success gives its own reservation back; it clears
the account's bucket of that kind of caller and never the caller id's.

An attempt that is not allowed leaves the same rows, not counted, so that it costs the same as one
that is (D07) and neither a lock nor a channel's failures grow while it holds.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

import structlog
from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.sql.dml import ReturningInsert

from shared.clock import DAY
from shared.database import delete_oldest
from shared.models import ChannelHour, ThrottleHit
from shared.origin import WITHHELD, Origin
from shared.rules import Throttle
from shared.store import Store

USUAL_DAYS = 28  # « usual » is the mean of so many days before

log = structlog.get_logger(__name__)


class Bucket(StrEnum):
    """What failures are counted by."""

    ACCOUNT = "account"  # from unknown callers and clients
    ACCOUNT_KNOWN = "account-known"  # from a caller id on file
    ACCOUNT_ROW = "account-row"  # in a row, over any time
    CALLER = "caller"  # one caller id; withheld ones share one


class Allowed(Enum):
    """What an attempt may be compared with."""

    NOTHING = auto()
    NEWLY_ISSUED = auto()  # only a password that was never used
    EVERYTHING = auto()


@dataclass(frozen=True)
class Attempt:
    """One login attempt, to be reserved and then settled."""

    id: UUID
    account_key: bytes  # of (caisse, number), whether it exists or not
    caller_key: bytes
    known_caller: bool
    origin: Origin
    at: datetime
    by_code: bool = False  # the old 4-digit code: refused after fewer failures (D09)

    @classmethod
    def of(
        cls,
        store: Store,
        account_key: bytes,
        origin: Origin,
        *,
        known_caller: bool = False,
        by_code: bool = False,
    ) -> Self:
        """Make an attempt of this moment."""
        return cls(
            id=uuid4(),
            account_key=account_key,
            caller_key=store.keys.index("caller", origin.caller_id or WITHHELD),
            known_caller=known_caller,
            origin=origin,
            at=store.clock(),
            by_code=by_code,
        )

    @property
    def account_bucket(self) -> Bucket:
        """Give the account's bucket of this kind of caller."""
        return Bucket.ACCOUNT_KNOWN if self.known_caller else Bucket.ACCOUNT


def reserve(
    store: Store, transaction: Connection, attempt: Attempt, *, newly_issued: bool = False
) -> Allowed:
    """Count the attempt and say what it may be compared with, once this is committed.

    A newly issued password may be used by unknown callers whom the failures in a row shut out.
    """
    store.database.lock(transaction, attempt.account_key, attempt.caller_key)
    rules = store.rules.throttle
    failures = _failures(transaction, attempt)
    usual = _usual_failures(rules, transaction, attempt, failures)
    row_open = _row_open(rules, attempt, failures)
    others_open = all(
        [
            _account_open(rules, attempt, failures),
            _caller_open(rules, transaction, attempt, failures),
            _channel_open(rules, attempt, failures, usual),
        ]
    )
    allowed = others_open and (row_open or newly_issued)
    _hit(transaction, attempt, counted=allowed)
    before, alarmed = _count_in_channel(store, transaction, attempt, counted=allowed)
    if not alarmed and before >= max(rules.alarm_minimum, usual * rules.alarm_factor):
        _alarm(transaction, attempt, before, usual)
    if not allowed:
        return Allowed.NOTHING
    return Allowed.EVERYTHING if row_open else Allowed.NEWLY_ISSUED


def give_back(transaction: Connection, attempt: Attempt) -> None:
    """Settle an attempt that was no failure: its own reservation goes, and nothing else (D07)."""
    transaction.execute(_GIVE_BACK, {"attempt": attempt.id})
    _take_from_channel(transaction, attempt)


def clear(transaction: Connection, attempt: Attempt) -> None:
    """Settle a success: the account's bucket of this kind of caller and its row are empty again.

    The reservation is given back too; last of the transaction, as in `reserve`.
    """
    of_account = {"account_bucket": attempt.account_bucket, "account": attempt.account_key}
    transaction.execute(_CLEAR, {"attempt": attempt.id, **of_account})
    _take_from_channel(transaction, attempt)


def end_row(transaction: Transaction, account_key: bytes) -> None:
    """Forget the failures in a row: a newly issued password lets its owner in from anywhere."""
    transaction.execute(
        delete(ThrottleHit).where(
            ThrottleHit.key == account_key, ThrottleHit.bucket == Bucket.ACCOUNT_ROW
        )
    )


def forgive(transaction: Transaction, account_key: bytes) -> None:
    """Forget an account's failures from unknown callers: a code has told who its owner is."""
    transaction.execute(
        delete(ThrottleHit).where(
            ThrottleHit.key == account_key,
            ThrottleHit.bucket.in_([Bucket.ACCOUNT, Bucket.ACCOUNT_ROW]),
        )
    )


def purge(transaction: Transaction, now: datetime) -> bool:
    """Forget some of what no rule looks at any more; True if there may be more."""
    transaction.execute(delete(ChannelHour).where(ChannelHour.hour < now - (USUAL_DAYS + 1) * DAY))
    return delete_oldest(
        transaction,
        ThrottleHit.at,
        ThrottleHit.at < now - DAY,
        ~(ThrottleHit.counted & (ThrottleHit.bucket == Bucket.ACCOUNT_ROW)),
    )


# The statements of a login, built once: to build one takes longer than to run it.

_OF_ACCOUNT = and_(
    ThrottleHit.bucket == bindparam("account_bucket"), ThrottleHit.key == bindparam("account")
)
_OF_ACCOUNT_ROW = and_(
    ThrottleHit.bucket == Bucket.ACCOUNT_ROW, ThrottleHit.key == bindparam("account")
)
_OF_CALLER = and_(ThrottleHit.bucket == Bucket.CALLER, ThrottleHit.key == bindparam("caller"))
_OF_ATTEMPT = ThrottleHit.attempt_id == bindparam("attempt")
_IN_A_DAY = ThrottleHit.at > bindparam("day_ago")

_count = select(func.count()).where(ThrottleHit.counted)
_by_caller = (
    select(
        func.count().label("failures"),
        func.count(ThrottleHit.subject.distinct()).label("accounts"),
    )
    .where(ThrottleHit.counted, _OF_CALLER, _IN_A_DAY)
    .subquery()
)
_by_channel = (
    select(
        func.sum(ChannelHour.failures)
        .filter(ChannelHour.hour == bindparam("hour"))
        .label("this_hour"),
        func.sum(ChannelHour.failures).label("last_day"),
    )
    .where(ChannelHour.channel == bindparam("channel"), ChannelHour.hour > bindparam("day_ago"))
    .subquery()
)
_FAILURES = select(
    _count.where(_OF_ACCOUNT, _IN_A_DAY).scalar_subquery(),
    _count.where(_OF_ACCOUNT_ROW).scalar_subquery(),
    _by_caller,
    _by_channel,
).select_from(_by_caller.join(_by_channel, true()))

_USUAL = select(func.avg(ChannelHour.failures)).where(
    ChannelHour.channel == bindparam("channel"),
    ChannelHour.hour.in_(bindparam("same_hours", expanding=True)),
)
_ATTEMPTS = select(func.sum(ChannelHour.attempts)).where(
    ChannelHour.channel == bindparam("channel"), ChannelHour.hour >= bindparam("since")
)

_HIT = insert(ThrottleHit)
_GIVE_BACK = delete(ThrottleHit).where(_OF_ATTEMPT)
_CLEAR = delete(ThrottleHit).where(or_(_OF_ATTEMPT, _OF_ACCOUNT, _OF_ACCOUNT_ROW))

_HOUR = and_(
    ChannelHour.channel == bindparam("in_channel"), ChannelHour.hour == bindparam("in_hour")
)
_TAKE_BACK = update(ChannelHour).where(_HOUR).values(failures=ChannelHour.failures - 1)
_ALARM = update(ChannelHour).where(_HOUR).values(alarmed=True)


def _counting(row: sqlite.Insert | postgresql.Insert) -> ReturningInsert[int, bool]:
    return row.on_conflict_do_update(
        index_elements=["channel", "hour"],
        set_={
            "attempts": ChannelHour.attempts + row.excluded.attempts,
            "failures": ChannelHour.failures + row.excluded.failures,
        },
    ).returning(ChannelHour.failures, ChannelHour.alarmed)


_COUNT_SQLITE = _counting(sqlite.insert(ChannelHour))
_COUNT_POSTGRESQL = _counting(postgresql.insert(ChannelHour))


class _Failures(NamedTuple):
    """What counts against an attempt, in the order of the columns of `_FAILURES`."""

    account: int  # in a day, from this kind of caller
    row: int  # on the account, in a row
    caller: int  # in a day, from the caller id
    caller_accounts: int  # on so many accounts
    this_hour: int  # in the channel, like the following
    last_day: int


def _account_open(rules: Throttle, attempt: Attempt, failures: _Failures) -> bool:
    limit = rules.account_failures_known if attempt.known_caller else rules.account_failures
    if attempt.by_code:
        limit = min(limit, rules.code_failures)
    return failures.account < limit


def _row_open(rules: Throttle, attempt: Attempt, failures: _Failures) -> bool:
    return attempt.known_caller or failures.row < rules.account_failures_in_row


def _caller_open(
    rules: Throttle, transaction: Connection, attempt: Attempt, failures: _Failures
) -> bool:
    if attempt.origin.caller_id is None:
        usual = _daily_attempts(transaction, attempt) * rules.withheld_share
        return failures.caller < max(usual, rules.withheld_minimum)
    factor = rules.partner_factor if attempt.origin.caller_id in rules.partners else 1
    return (
        failures.caller < rules.caller_failures * factor
        and failures.caller_accounts < rules.caller_accounts * factor
    )


def _channel_open(rules: Throttle, attempt: Attempt, failures: _Failures, usual: float) -> bool:
    broken = (
        failures.last_day >= rules.breaker_minimum
        and failures.this_hour >= usual * rules.breaker_factor
    )
    return attempt.known_caller or not broken


def _failures(transaction: Connection, attempt: Attempt) -> _Failures:
    """Make every count, whatever the first ones would say (D07)."""
    values = {
        "account_bucket": attempt.account_bucket,
        "account": attempt.account_key,
        "caller": attempt.caller_key,
        "day_ago": attempt.at - DAY,
        "channel": attempt.origin.channel,
        "hour": _hour(attempt.at),
    }
    counts = transaction.execute(_FAILURES, values).one()
    return _Failures(*[count or 0 for count in counts])


def _usual_failures(
    rules: Throttle, transaction: Connection, attempt: Attempt, failures: _Failures
) -> float:
    """Give the channel's mean of an hour like this one; infinite while no rule would look at it.

    Whether one does depends on the channel alone, so that it tells nothing of an account (D07).
    """
    if failures.last_day < min(rules.alarm_minimum, rules.breaker_minimum):
        return math.inf
    now = _hour(attempt.at)
    same_hours = [now - days * DAY for days in range(1, USUAL_DAYS + 1)]
    values = {"channel": attempt.origin.channel, "same_hours": same_hours}
    return float(transaction.scalar(_USUAL, values) or 0)


def _daily_attempts(transaction: Connection, attempt: Attempt) -> float:
    since = attempt.at - USUAL_DAYS * DAY
    values = {"channel": attempt.origin.channel, "since": since}
    return float(transaction.scalar(_ATTEMPTS, values) or 0) / USUAL_DAYS


def _hit(transaction: Connection, attempt: Attempt, *, counted: bool) -> None:
    """Leave a row in each bucket."""
    common = {"attempt_id": attempt.id, "counted": counted, "at": attempt.at}
    account = {"key": attempt.account_key, "subject": attempt.caller_key, **common}
    caller = {"key": attempt.caller_key, "subject": attempt.account_key, **common}
    transaction.execute(
        _HIT,
        [
            {"bucket": attempt.account_bucket, **account},
            {"bucket": Bucket.ACCOUNT_ROW, **account},
            {"bucket": Bucket.CALLER, **caller},
        ],
    )


def _count_in_channel(
    store: Store, transaction: Connection, attempt: Attempt, *, counted: bool
) -> tuple[int, bool]:
    """Add an attempt to its hour; give the failures before it, and whether the alarm was raised.

    Last of the transaction: every login of the channel meets in this row.
    """
    values = {
        "channel": attempt.origin.channel,
        "hour": _hour(attempt.at),
        "attempts": int(counted),
        "failures": int(counted),
        "alarmed": False,
    }
    statement = _COUNT_SQLITE if store.database.sqlite else _COUNT_POSTGRESQL
    failures, alarmed = transaction.execute(statement, values).one()
    return failures - int(counted), alarmed


def _take_from_channel(transaction: Connection, attempt: Attempt) -> None:
    transaction.execute(_TAKE_BACK, _hour_of(attempt))


def _alarm(transaction: Connection, attempt: Attempt, this_hour: int, usual: float) -> None:
    """Raise the alarm of this hour; the row is locked, so that nobody else does."""
    transaction.execute(_ALARM, _hour_of(attempt))
    log.warning(
        "login_failures_alarm", channel=attempt.origin.channel, this_hour=this_hour, usual=usual
    )


def _hour_of(attempt: Attempt) -> dict[str, Any]:
    return {"in_channel": attempt.origin.channel, "in_hour": _hour(attempt.at)}


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
