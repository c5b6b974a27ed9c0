"""How often a login may fail (D05), counted across all channels.

An attempt is reserved, in a committed transaction, before anything is compared: a reservation is
a full count, whatever becomes of the call. A success gives its own reservation back; it clears
the account's bucket of that kind of caller and never the caller id's.

An attempt that is not allowed leaves the same rows, not counted, so that it costs the same as one
that is (D07) and neither a lock nor a channel's failures grow while it holds.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction

from shared.database import Database
from shared.models import ChannelHour, ThrottleHit
from shared.origin import Origin
from shared.rules import Throttle
from shared.store import Store

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
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

    @property
    def account_bucket(self) -> Bucket:
        """Give the account's bucket of this kind of caller."""
        return Bucket.ACCOUNT_KNOWN if self.known_caller else Bucket.ACCOUNT


def reserve(
    store: Store, transaction: Transaction, attempt: Attempt, *, newly_issued: bool = False
) -> Allowed:
    """Count the attempt and say what it may be compared with, once this is committed.

    A newly issued password may be used by unknown callers whom the failures in a row shut out.
    """
    store.database.lock(transaction, attempt.account_key, attempt.caller_key)
    rules = store.rules.throttle
    channel = _channel_failures(transaction, attempt)
    row_open = _row_open(rules, transaction, attempt)
    others_open = all(
        [  # every count is made, whatever the first ones say (D07)
            _account_open(rules, transaction, attempt),
            _caller_open(rules, transaction, attempt),
            _channel_open(rules, attempt, channel),
        ]
    )
    allowed = others_open and (row_open or newly_issued)
    for bucket, key, subject in (
        (attempt.account_bucket, attempt.account_key, attempt.caller_key),
        (Bucket.ACCOUNT_ROW, attempt.account_key, attempt.caller_key),
        (Bucket.CALLER, attempt.caller_key, attempt.account_key),
    ):
        transaction.add(
            ThrottleHit(
                attempt_id=attempt.id,
                bucket=bucket,
                key=key,
                subject=subject,
                counted=allowed,
                at=attempt.at,
            )
        )
    transaction.flush()
    before, alarmed = _count_in_channel(store.database, transaction, attempt, counted=allowed)
    if not alarmed and before >= max(rules.alarm_minimum, channel.usual * rules.alarm_factor):
        _alarm(transaction, attempt, before, channel.usual)
    if not allowed:
        return Allowed.NOTHING
    return Allowed.EVERYTHING if row_open else Allowed.NEWLY_ISSUED


def give_back(transaction: Transaction, attempt: Attempt) -> None:
    """Settle an attempt that was no failure: its own reservation goes, and nothing else (D07)."""
    transaction.execute(delete(ThrottleHit).where(ThrottleHit.attempt_id == attempt.id))
    transaction.execute(
        update(ChannelHour).where(_hour_of(attempt)).values(failures=ChannelHour.failures - 1)
    )


def clear(transaction: Transaction, attempt: Attempt) -> None:
    """Settle a success: the account's bucket of this kind of caller and its row are empty again."""
    give_back(transaction, attempt)
    transaction.execute(
        delete(ThrottleHit).where(
            ThrottleHit.key == attempt.account_key,
            ThrottleHit.bucket.in_([attempt.account_bucket, Bucket.ACCOUNT_ROW]),
        )
    )


def end_row(transaction: Transaction, account_key: bytes) -> None:
    """Forget the failures in a row: a newly issued password lets its owner in from anywhere."""
    transaction.execute(
        delete(ThrottleHit).where(
            ThrottleHit.key == account_key, ThrottleHit.bucket == Bucket.ACCOUNT_ROW
        )
    )


def purge(transaction: Transaction, now: datetime) -> None:
    """Forget what no rule looks at any more."""
    transaction.execute(
        delete(ThrottleHit).where(
            ThrottleHit.at < now - DAY,
            ~(ThrottleHit.counted & (ThrottleHit.bucket == Bucket.ACCOUNT_ROW)),
        )
    )
    transaction.execute(delete(ChannelHour).where(ChannelHour.hour < now - (USUAL_DAYS + 1) * DAY))


def _account_open(rules: Throttle, transaction: Transaction, attempt: Attempt) -> bool:
    limit = rules.account_failures_known if attempt.known_caller else rules.account_failures
    failures, _ = _failures(
        transaction, attempt.account_bucket, attempt.account_key, attempt.at - DAY
    )
    return failures < limit


def _row_open(rules: Throttle, transaction: Transaction, attempt: Attempt) -> bool:
    failures, _ = _failures(transaction, Bucket.ACCOUNT_ROW, attempt.account_key, None)
    return attempt.known_caller or failures < rules.account_failures_in_row


def _caller_open(rules: Throttle, transaction: Transaction, attempt: Attempt) -> bool:
    failures, accounts = _failures(transaction, Bucket.CALLER, attempt.caller_key, attempt.at - DAY)
    if attempt.origin.caller_id is None:
        usual = _daily_attempts(transaction, attempt) * rules.withheld_share
        return failures < max(usual, rules.withheld_minimum)
    factor = rules.partner_factor if attempt.origin.caller_id in rules.partners else 1
    return failures < rules.caller_failures * factor and accounts < rules.caller_accounts * factor


def _failures(
    transaction: Transaction, bucket: Bucket, key: bytes, since: datetime | None
) -> tuple[int, int]:
    """Count the failures in a bucket, and the different subjects they were on."""
    counted = select(func.count(), func.count(ThrottleHit.subject.distinct())).where(
        ThrottleHit.bucket == bucket, ThrottleHit.key == key, ThrottleHit.counted
    )
    if since is not None:
        counted = counted.where(ThrottleHit.at > since)
    failures, subjects = transaction.execute(counted).one()
    return failures, subjects


@dataclass(frozen=True)
class _ChannelFailures:
    """Failures of a channel: in this hour, in the last day, in a usual hour like this one."""

    this_hour: int
    last_day: int
    usual: float


def _channel_open(rules: Throttle, attempt: Attempt, failures: _ChannelFailures) -> bool:
    broken = (
        failures.last_day >= rules.breaker_minimum
        and failures.this_hour >= failures.usual * rules.breaker_factor
    )
    return attempt.known_caller or not broken


def _channel_failures(transaction: Transaction, attempt: Attempt) -> _ChannelFailures:
    now = _hour(attempt.at)
    same_hours = [now - days * DAY for days in range(1, USUAL_DAYS + 1)]
    rows = transaction.execute(
        select(ChannelHour.hour, ChannelHour.failures).where(
            ChannelHour.channel == attempt.origin.channel,
            (ChannelHour.hour > attempt.at - DAY) | ChannelHour.hour.in_(same_hours),
        )
    ).all()
    usual = [failures for at, failures in rows if at in same_hours]
    return _ChannelFailures(
        this_hour=sum(failures for at, failures in rows if at == now),
        last_day=sum(failures for at, failures in rows if at > attempt.at - DAY),
        usual=sum(usual) / max(len(usual), 1),
    )


def _daily_attempts(transaction: Transaction, attempt: Attempt) -> float:
    total = transaction.scalar(
        select(func.sum(ChannelHour.attempts)).where(
            ChannelHour.channel == attempt.origin.channel,
            ChannelHour.hour >= attempt.at - USUAL_DAYS * DAY,
        )
    )
    return float(total or 0) / USUAL_DAYS


def _count_in_channel(
    database: Database, transaction: Transaction, attempt: Attempt, *, counted: bool
) -> tuple[int, bool]:
    """Add an attempt to its hour; give the failures before it, and whether the alarm was raised.

    Last of the transaction: every login of the channel meets in this row.
    """
    insert = sqlite.insert if database.sqlite else postgresql.insert
    row = insert(ChannelHour).values(
        channel=attempt.origin.channel,
        hour=_hour(attempt.at),
        attempts=int(counted),
        failures=int(counted),
        alarmed=False,
    )
    failures, alarmed = transaction.execute(
        row.on_conflict_do_update(
            index_elements=["channel", "hour"],
            set_={
                "attempts": ChannelHour.attempts + row.excluded.attempts,
                "failures": ChannelHour.failures + row.excluded.failures,
            },
        ).returning(ChannelHour.failures, ChannelHour.alarmed)
    ).one()
    return failures - int(counted), alarmed


def _alarm(transaction: Transaction, attempt: Attempt, this_hour: int, usual: float) -> None:
    """Raise the alarm of this hour; the row is locked, so that nobody else does."""
    transaction.execute(update(ChannelHour).where(_hour_of(attempt)).values(alarmed=True))
    log.warning(
        "login_failures_alarm", channel=attempt.origin.channel, this_hour=this_hour, usual=usual
    )


def _hour_of(attempt: Attempt) -> ColumnElement[bool]:
    return and_(
        ChannelHour.channel == attempt.origin.channel, ChannelHour.hour == _hour(attempt.at)
    )


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
