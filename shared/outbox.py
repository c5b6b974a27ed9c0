"""The outbox: messages on their way, each with an answer to « where is it? » (design idea 11).

A dispatcher claims messages with a lease; its attempt is a committed row before any provider is
asked, and a claim number fences off a dispatcher that comes back after its lease. Whoever lost
one may have sent it: such a message is uncertain, not queued again (D19).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Update,
    and_,
    bindparam,
    case,
    insert,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session as Transaction

from shared import audit, day_keys, providers, receipts
from shared.database import unit_of_work
from shared.errors import SealError, StoreError
from shared.models import Message, MessageState, Priority, Route, SendAttempt
from shared.origin import ADMIN
from shared.secret import Secret
from shared.store import Store

log = structlog.get_logger(__name__)

CHANNEL = "svi_outbox"
"""Where PostgreSQL announces messages."""

AWAITED = {Priority.CODE, Priority.PASSWORD}
"""What somebody waits for, telephone in hand."""

LONGEST_DELAY = timedelta(hours=1)
"""Until a further try: what waits for longer was queued before the clock was set back."""


class Rendered(NamedTuple):
    """What a message says, and by which version of its template."""

    text: str
    version: str


Render = Callable[[str, Mapping[str, str]], Rendered]
"""Gives the text of a template filled with variables; TemplateError if it can't."""


class TemplateError(StoreError):
    """A message is of a template that there is none of, or does not have what fills it."""


class Result(StrEnum):
    """What came of one attempt."""

    ACCEPTED = "accepted"
    RETRY = "retry"  # surely not sent: refused for now, or the provider out of reach
    REFUSED = "refused"  # surely not sent, and never will be
    UNCERTAIN = "uncertain"  # sent or not, nobody knows


@dataclass(frozen=True)
class Claim:
    """A message that one dispatcher holds until its lease ends; repr hides to whom and what."""

    message_id: UUID
    attempt_id: UUID
    number: int
    template: str
    queued_at: datetime
    expires_at: datetime
    destination: str = field(repr=False)
    text: Secret
    failures: int
    sender: str | None  # if it is not the template's; so is the subject
    subject: str | None
    awaited: bool  # by somebody, now


@dataclass(frozen=True)
class Report:
    """How an attempt ended; `code` is the provider's, `retry_after` in seconds if it said so.

    `parts` are the identifiers that its receipts will name, where they name no attempt. With
    `message_alone` the provider works, and it is this message that it does not take for now.
    """

    result: Result
    code: str = ""
    provider_id: str | None = None
    parts: tuple[str, ...] = ()
    retry_after: float | None = None
    message_alone: bool = False
    elsewhere: bool = False  # a refusal of the provider's, not of the number: it was not sent


class Ending(NamedTuple):
    """How the attempt of a claim ended; `delay` in seconds until a retry."""

    claimed: Claim
    report: Report
    delay: float


@dataclass(frozen=True)
class Kept:
    """A receipt of an attempt; `after` is how long after that, None if it changed nothing."""

    provider: str
    after: timedelta | None


def seal(store: Store, message_id: UUID, column: str, text: str) -> bytes:
    """Seal a column of a message to its row, under the key of today (D12)."""
    today = store.clock().date()
    return store.keys.days.seal(today, text.encode(), *binding(message_id, column))


def binding(message_id: UUID, column: str) -> tuple[str, ...]:
    """A sealed column opens for its message only (D13)."""
    return ("message", str(message_id), column)


def announce(store: Store, transaction: Connection) -> None:
    """Wake the dispatchers when this transaction commits; on SQLite they look by themselves."""
    if not store.database.sqlite:
        transaction.execute(_NOTIFY)


def claim(  # noqa: PLR0913 - for whom, how, how many
    store: Store,
    provider: str,
    render: Render,
    limit: int,
    *,
    kept: int = 0,
    route: Route = Route.SMS,
) -> list[Claim]:
    """Take due messages of a route and commit an attempt for each; on both databases.

    The most urgent come first, of these the oldest; `kept` of the `limit` places are for those
    that somebody waits for. DrainedError if the provider is out of service.
    """
    now = store.clock()
    with store.database.begin() as transaction:
        providers.check_in_service(transaction, provider)
        rows = _due(transaction, now, limit, kept, route)
        ready = [_ready(store, transaction, _Held._make(row), render, now) for row in rows]
        taken = [one for one in ready if one is not None]
        if taken:
            _take(store, transaction, taken, provider, now)
    return [one.claim for one in taken]


def _due(
    transaction: Connection, now: datetime, limit: int, kept: int, route: Route
) -> list[Row[Any]]:
    """Ask for each priority by itself: a campaign's rows that wait for their hour cost nothing."""
    rows: list[Row[Any]] = []
    for priority in Priority:
        room = (limit if priority in AWAITED else limit - kept) - len(rows)
        if room > 0:
            wanted = {"route": route, "now": now, "limit": room, "priority": priority}
            rows += transaction.execute(_DUE, wanted)
    return rows


def finish(store: Store, claimed: Claim, report: Report, delay: float) -> bool:
    """Keep how an attempt ended; False if the lease was lost meanwhile. `delay` until a retry."""
    [in_time] = finish_all(store, [Ending(claimed, report, delay)])
    return bool(in_time)


def finish_all(store: Store, endings: Sequence[Ending]) -> list[bool | None]:
    """Keep how attempts ended, all or none; False for a lease that was lost meanwhile.

    None for one of several whose message somebody holds: it is not kept. Only who has a single one
    waits for it, and so has no part in a deadlock.
    """
    now = store.clock()
    given = {ending.claimed.attempt_id: ending.report.parts for ending in endings}
    with store.database.begin() as transaction:
        told = receipts.expect(store, transaction, given)
        in_time = _lock(transaction, endings)
        kept = [one for one, fenced in zip(endings, in_time, strict=True) if fenced is not None]
        for statement, values in _outcomes(store, kept, now).items():
            transaction.execute(statement, values)
        for claimed, report in _news(endings, in_time, told):
            of_all = partial(receipts.fate, transaction, claimed.attempt_id)
            with unit_of_work(transaction) as work:
                name = report.parts[0] if report.parts else report.provider_id
                _follow(work, claimed.attempt_id, name, of_all, now)
    return in_time


def pass_on(store: Store, claimed: Claim, report: Report, provider: str) -> Claim | None:
    """End an attempt that surely sent nothing, and commit the next one, by another provider.

    None if the message is to get no further try by this claim: `finish` does the rest.
    DrainedError if that provider is out of service.
    """
    now = store.clock()
    following = replace(claimed, attempt_id=uuid4(), number=claimed.number + 1)
    values = {
        "message": claimed.message_id,
        "number": claimed.number,
        "now": now,
        "lease_end": now + timedelta(seconds=store.rules.outbox.lease_seconds),
        "by": provider,
    }
    with store.database.begin() as transaction:
        providers.check_in_service(transaction, provider)
        if transaction.execute(_PASSED_ON, values).rowcount == 0:
            return None
        transaction.execute(_END_ATTEMPT, _ended(claimed, report, now))
        transaction.execute(_ATTEMPT, _attempt(following, provider, now))
    return following


def doubts(store: Store, provider: str, limit: int) -> list[Claim]:
    """Give the uncertain messages of a provider, to ask it what became of them.

    Those nearest to their repeat come first.
    """
    with store.database.read() as transaction:
        rows = transaction.execute(_DOUBTS, {"by": provider, "limit": limit}).all()
    uncertain = [_doubt(store, _Held._make(row[:-1]), row.attempt_id) for row in rows]
    return [claimed for claimed in uncertain if claimed is not None]


def receipt(store: Store, attempt_id: UUID, provider_id: str, state: MessageState) -> Kept | None:
    """Keep what a provider says later of an attempt; None if there is no such attempt.

    Receipts repeat and overtake one another: the first final state stays.
    """
    now = store.clock()
    with store.database.write() as transaction:
        return _follow(transaction, attempt_id, provider_id, lambda: state, now)


def part_receipt(store: Store, provider: str, provider_id: str, state: MessageState) -> Kept | None:
    """Keep what a provider says of one SMS by its own name for it; None if it is unknown so far.

    An unknown one waits for the attempt that it tells of.
    """
    now = store.clock()
    with store.database.write() as transaction:
        connection = transaction.connection()
        attempt_id = receipts.keep(store, connection, provider, provider_id, state)
        if attempt_id is None:
            return None
        of_all = partial(receipts.fate, connection, attempt_id)
        return _follow(transaction, attempt_id, provider_id, of_all, now)


def recover(store: Store, route: Route = Route.SMS) -> None:
    """Move on what waits for time alone: lost leases, expiry, and the repeat of D19.

    Messages of another route are not repeated: their own dispatcher looks them up before. Those of
    a campaign never are; what surely was not sent within the day's hours waits for the next (R24).
    """
    now = store.clock()
    lease_ends = now + timedelta(seconds=store.rules.outbox.lease_seconds)
    repeat_at = now + timedelta(seconds=store.rules.outbox.uncertain_seconds)
    ours = Message.route == route
    with store.database.write() as transaction:
        # Two of these at once could each wait for rows that the other has.
        store.database.lock(transaction, store.keys.index("lock", "outbox"))
        # Where the clock was set back nothing waits until it is as late again.
        for state, latest, which in (
            (MessageState.QUEUED, now, and_(Message.failures == 0, Message.route != Route.LETTER)),
            (MessageState.QUEUED, now + LONGEST_DELAY, Message.failures > 0),
            (MessageState.HELD, now, Message.failures == 0),
            (MessageState.HELD, now + LONGEST_DELAY, Message.failures > 0),
            (MessageState.SENDING, lease_ends, true()),
            (MessageState.UNCERTAIN, repeat_at, true()),
        ):
            too_late = _free(Message.state == state, Message.next_at > latest, which, _OURS)
            transaction.execute(update(Message).where(too_late).values(next_at=latest))
        transaction.execute(
            update(Message)
            .where(_free(Message.state == MessageState.SENDING, Message.next_at <= now, _OURS))
            .values(state=MessageState.UNCERTAIN, next_at=repeat_at)
        )
        over = and_(Message.state == MessageState.QUEUED, Message.expires_at <= now)
        transaction.execute(
            update(Message).where(_free(over, _HAS_HOURS)).values(state=MessageState.HELD)
        )
        expired = _ending(MessageState.EXPIRED, _free(over, ~_HAS_HOURS))
        transaction.execute(expired, {"now": now})
        lost = _ending(
            MessageState.LOST,
            _free(
                Message.state == MessageState.UNCERTAIN,
                Message.next_at <= now,
                ((Message.repeated | _REPEATED_NEVER) & ours) | (Message.expires_at <= now),
            ),
        )
        transaction.execute(lost, {"now": now})
        transaction.execute(
            update(Message)
            .where(_free(Message.state == MessageState.UNCERTAIN, Message.next_at <= now, ours))
            .values(state=MessageState.QUEUED, repeated=True)
        )


def _free(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Mean the messages that nobody else holds; the others are for the next round.

    Whoever waits for no row has no part in a deadlock: a reset locks in another order.
    """
    return Message.id.in_(select(Message.id).where(*which).with_for_update(skip_locked=True))


def hasten(store: Store) -> int:
    """Make every message due that waits after a failure; say how many that are."""
    now = store.clock()
    waiting = _free(
        Message.state == MessageState.QUEUED,
        Message.next_at > now,
        Message.expires_at > now,
        Message.failures > 0,
        _OURS,
    )
    with store.database.begin() as transaction:
        hastened = transaction.execute(update(Message).where(waiting).values(next_at=now)).rowcount
        announce(store, transaction)
        if hastened:
            audit.note(transaction, "messages-hastened", now, ADMIN, None, actor=str(hastened))
    return hastened


def end(
    transaction: Transaction, now: datetime, state: MessageState, *which: ColumnElement[bool]
) -> None:
    """End messages: what they said is destroyed (D12, D16)."""
    transaction.execute(_ending(state, *which), {"now": now})


def cancel(message: Message, now: datetime) -> None:
    """Take back a message, whose row is locked; one that may be gone gets no further try."""
    match message.state:
        case MessageState.QUEUED | MessageState.HELD:
            _close(message, MessageState.CANCELLED, now)
        case MessageState.SENDING | MessageState.UNCERTAIN:
            message.expires_at = min(message.expires_at, now)
            message.zone = None  # no hours to wait for


def opened(store: Store, message: Message, column: str) -> str:
    """Open a column that `seal` sealed; SealError if it was altered, or is empty."""
    return _open(store, message.id, column, getattr(message, f"{column}_sealed"))


class Replacement:
    """Lets newer messages take the place of those that `which` selects; built once, run often.

    One that is being sent gets no further try.
    """

    def __init__(self, *which: ColumnElement[bool]) -> None:
        self._end = _ending(
            MessageState.REPLACED,
            Message.state.in_([MessageState.HELD, MessageState.QUEUED, MessageState.UNCERTAIN]),
            *which,
        )
        self._cut_short = (
            update(Message)
            .where(Message.state == MessageState.SENDING, *which)
            .values(expires_at=bindparam("now"), zone=None)  # no hours to wait for
        )

    def run(
        self, transaction: Connection, now: datetime, values: Mapping[str, object] | None = None
    ) -> None:
        """Replace them; `values` are those of the parameters in `which`."""
        bound = {**(values or {}), "now": now}
        transaction.execute(self._end, bound)
        transaction.execute(self._cut_short, bound)


_ASKED = {MessageState.SENDING, MessageState.UNCERTAIN}
_OURS = Message.run_id.is_(None)  # letters with the printer have no lease
_REPEATED_NEVER = Message.priority == Priority.CAMPAIGN
_HAS_HOURS = Message.zone.is_not(None)  # of a campaign, and was not taken back
_OPEN_TO_RECEIPTS = {
    MessageState.HELD,
    MessageState.SENDING,
    MessageState.UNCERTAIN,
    MessageState.QUEUED,
    MessageState.ACCEPTED,
    MessageState.LOST,
    MessageState.EXPIRED,
    MessageState.CANCELLED,  # while a try before was uncertain
}


class _Held(NamedTuple):
    """What a dispatcher needs of a message, in the order of `_HELD`."""

    id: UUID
    template: str
    created_at: datetime
    expires_at: datetime
    destination_sealed: bytes | None
    content_sealed: bytes | None
    text_sealed: bytes | None
    template_version: str | None
    claims: int
    failures: int
    sender: str | None
    subject: str | None
    priority: int


class _Ready(NamedTuple):
    """A claim to be committed, and what is kept with its message: every try says the same."""

    claim: Claim
    text_sealed: bytes
    version: str | None  # None: its first claim was made before there were versions


def _ready(
    store: Store, transaction: Connection, held: _Held, render: Render, now: datetime
) -> _Ready | None:
    """Give the next claim of a message.

    None for a damaged message, which is refused: it must not hold up the others.
    """
    try:
        if held.text_sealed is not None:
            text, version = _open(store, held.id, "text", held.text_sealed), held.template_version
            sealed = held.text_sealed
        else:
            content = json.loads(_open(store, held.id, "content", held.content_sealed))
            text, version = render(held.template, content)
            sealed = seal(store, held.id, "text", text)
        return _Ready(_claim(store, held, uuid4(), held.claims + 1, text), sealed, version)
    except (SealError, TemplateError) as error:
        log.error("message_refused", message=str(held.id), why=str(error))
        transaction.execute(_REFUSE_DAMAGED, {"message": held.id, "now": now})
        return None


def _doubt(store: Store, held: _Held, attempt_id: UUID) -> Claim | None:
    """Give an uncertain message as its last claim was; None for a damaged one, as in `_ready`."""
    try:
        text = _open(store, held.id, "text", held.text_sealed)
        return _claim(store, held, attempt_id, held.claims, text)
    except SealError as error:
        log.error("message_unreadable", message=str(held.id), why=str(error))
        return None


def _take(
    store: Store,
    transaction: Connection,
    taken: list[_Ready],
    provider: str,
    now: datetime,
) -> None:
    """Commit an attempt for each claim, with the text that is sent."""
    lease_end = now + timedelta(seconds=store.rules.outbox.lease_seconds)
    transaction.execute(
        _LEASE,
        [
            {
                "message": claimed.message_id,
                "lease_end": lease_end,
                "by": provider,
                "said": sealed,
                "version": version,
            }
            for claimed, sealed, version in taken
        ],
    )
    transaction.execute(_ATTEMPT, [_attempt(claimed, provider, now) for claimed, *_ in taken])


def _attempt(claimed: Claim, provider: str, now: datetime) -> dict[str, object]:
    return {
        "id": claimed.attempt_id,
        "message_id": claimed.message_id,
        "claim": claimed.number,
        "provider": provider,
        "started_at": now,
    }


def _ended(claimed: Claim, report: Report, now: datetime) -> dict[str, object]:
    return {"attempt": claimed.attempt_id, "now": now, "how": report.result, "as": report.code}


def _claim(store: Store, held: _Held, attempt_id: UUID, number: int, text: str) -> Claim:
    return Claim(
        message_id=held.id,
        attempt_id=attempt_id,
        number=number,
        template=held.template,
        queued_at=held.created_at,
        expires_at=held.expires_at,
        destination=_open(store, held.id, "destination", held.destination_sealed),
        text=Secret(text),
        failures=held.failures,
        sender=held.sender,
        subject=held.subject,
        awaited=held.priority in AWAITED,
    )


def _lock(transaction: Connection, endings: Sequence[Ending]) -> list[bool | None]:
    """Say of each claim whether its lease holds; None for a message that somebody else has."""
    statement = _CLAIMED if len(endings) == 1 else _CLAIMED_FREE
    rows = transaction.execute(statement, {"messages": [one.claimed.message_id for one in endings]})
    held = {message: (claims, state) for message, claims, state in rows}
    return [
        held[one.message_id] in {(one.number, state) for state in _ASKED}
        if one.message_id in held
        else None
        for one, _, _ in endings
    ]


def _outcomes(
    store: Store, endings: Sequence[Ending], now: datetime
) -> Mapping[Update, list[dict[str, object]]]:
    """Give the statements that keep reports in attempts and messages, and their values."""
    outcomes: defaultdict[Update, list[dict[str, object]]] = defaultdict(list)
    for claimed, report, delay in endings:
        outcomes[_END_ATTEMPT].append(_ended(claimed, report, now))
        statement, values = _outcome(store, report, now, delay)
        fence = {"message": claimed.message_id, "number": claimed.number}
        outcomes[statement].append(values | fence)
    return outcomes


def _news(
    endings: Sequence[Ending], in_time: Sequence[bool | None], told: Container[UUID]
) -> Iterator[tuple[Claim, Report]]:
    """Give what is as good as a receipt: one that was there first, an acceptance told too late.

    After a lease others have gone on with the message, and may have given it up.
    """
    for (claimed, report, _), fenced in zip(endings, in_time, strict=True):
        late = fenced is False and report.result is Result.ACCEPTED
        if late or (fenced is not None and claimed.attempt_id in told):
            yield claimed, report


def _outcome(
    store: Store, report: Report, now: datetime, delay: float
) -> tuple[Update, dict[str, object]]:
    """Give the statement that keeps a report in its message, and its values."""
    match report.result:
        case Result.ACCEPTED:
            return _ACCEPTED, {"now": now, "as": report.provider_id}
        case Result.REFUSED:
            return _REFUSED, {"now": now}
        case Result.RETRY:
            return _RETRIED, {"retry_at": now + timedelta(seconds=delay)}
        case Result.UNCERTAIN:
            wait = timedelta(seconds=store.rules.outbox.uncertain_seconds)
            return _DOUBTED, {"doubt_until": now + wait}


def _follow(
    transaction: Transaction,
    attempt_id: UUID,
    provider_id: str | None,
    told: Callable[[], MessageState],
    now: datetime,
) -> Kept | None:
    """Bring a message to what is told of an attempt; it is asked once nobody else follows it."""
    attempt = transaction.get(SendAttempt, attempt_id)
    if attempt is None:
        return None
    message = transaction.get_one(Message, attempt.message_id, with_for_update=True)
    state = told()
    # Bad news of an earlier attempt says nothing of the one that repeated it.
    tells = attempt.claim == message.claims or state is not MessageState.UNDELIVERED
    if not (tells and state != message.state and message.state in _OPEN_TO_RECEIPTS):
        return Kept(attempt.provider, None)
    message.provider, message.provider_id = attempt.provider, provider_id
    _close(message, state, now)
    return Kept(attempt.provider, now - (attempt.ended_at or attempt.started_at))


def _close(message: Message, state: MessageState, now: datetime) -> None:
    """End a message: what it said is destroyed (D12, D16)."""
    message.state = state
    message.ended_at = now
    message.content_sealed = message.text_sealed = message.destination_sealed = None


def _ending(state: MessageState, *which: ColumnElement[bool]) -> Update:
    """Build what ends messages at the instant `now`: what they said is destroyed (D12, D16)."""
    return (
        update(Message)
        .where(*which)
        .values(
            state=state,
            ended_at=bindparam("now"),
            content_sealed=None,
            text_sealed=None,
            destination_sealed=None,
        )
    )


def _open(store: Store, message_id: UUID, column: str, sealed: bytes | None) -> str:
    if sealed is None:
        raise SealError("nothing is sealed in it")
    # Until the release after 0.1.0: a message queued before there were keys of the day is under the
    # key ring, and lives for 10 days at most.
    keys = store.keys.days if sealed.startswith(day_keys.MARK) else store.keys
    return keys.open(sealed, *binding(message_id, column)).decode()


# The statements of a dispatcher, built once: to build one takes longer than to run it.

_NOTIFY = text(f"NOTIFY {CHANNEL}")
_HELD = (
    Message.id,
    Message.template,
    Message.created_at,
    Message.expires_at,
    Message.destination_sealed,
    Message.content_sealed,
    Message.text_sealed,
    Message.template_version,
    Message.claims,
    Message.failures,
    Message.sender,
    Message.subject,
    Message.priority,
)
_DUE = (
    select(*_HELD)
    .where(
        Message.route == bindparam("route"),
        Message.state == MessageState.QUEUED,
        Message.priority == bindparam("priority"),
        Message.next_at <= bindparam("now"),
        Message.expires_at > bindparam("now"),
    )
    .order_by(Message.next_at)
    .limit(bindparam("limit", type_=Integer()))
    .with_for_update(skip_locked=True)  # SQLite's writers are alone anyway
)
_LEASE = (
    update(Message)
    .where(Message.id == bindparam("message"))
    .values(
        state=MessageState.SENDING,
        claims=Message.claims + 1,
        next_at=bindparam("lease_end"),
        provider=bindparam("by"),
        text_sealed=bindparam("said"),
        template_version=bindparam("version"),
        content_sealed=None,
    )
)
_ATTEMPT = insert(SendAttempt)
_REFUSE_DAMAGED = _ending(MessageState.REFUSED, Message.id == bindparam("message"))
_DOUBTS = (
    select(*_HELD, SendAttempt.id.label("attempt_id"))
    .join(
        SendAttempt,
        and_(SendAttempt.message_id == Message.id, SendAttempt.claim == Message.claims),
    )
    .where(Message.state == MessageState.UNCERTAIN, Message.provider == bindparam("by"))
    .order_by(Message.next_at)
    .limit(bindparam("limit", type_=Integer()))
)

_END_ATTEMPT = (
    update(SendAttempt)
    .where(SendAttempt.id == bindparam("attempt"))
    .values(ended_at=bindparam("now"), result=bindparam("how"), code=bindparam("as"))
)
_CLAIMED = (
    select(Message.id, Message.claims, Message.state)
    .where(Message.id.in_(bindparam("messages", expanding=True)))
    .with_for_update()
)
_CLAIMED_FREE = _CLAIMED.with_for_update(skip_locked=True)
_FENCE = and_(
    Message.id == bindparam("message"),
    Message.claims == bindparam("number"),
    or_(Message.state == MessageState.SENDING, Message.state == MessageState.UNCERTAIN),
)
_ACCEPTED = _ending(MessageState.ACCEPTED, _FENCE).values(provider_id=bindparam("as"))
_REFUSED = _ending(MessageState.REFUSED, _FENCE)
_RETRIED = (  # what feeds campaigns queues one again, unless it was paused or its hours are over
    update(Message)
    .where(_FENCE)
    .values(
        state=case((_HAS_HOURS, MessageState.HELD), else_=MessageState.QUEUED),
        failures=Message.failures + 1,
        next_at=bindparam("retry_at"),
    )
)
_PASSED_ON = (
    update(Message)
    .where(_FENCE, Message.expires_at > bindparam("now"))
    .values(
        state=MessageState.SENDING,
        claims=Message.claims + 1,
        next_at=bindparam("lease_end"),
        provider=bindparam("by"),
    )
)
_DOUBTED = (  # a doubt that lasts ends when it did
    update(Message)
    .where(_FENCE)
    .values(
        state=MessageState.UNCERTAIN,
        next_at=case(
            (Message.state == MessageState.SENDING, bindparam("doubt_until")),
            else_=Message.next_at,
        ),
    )
)
