"""The outbox: messages on their way, each with an answer to « where is it? » (design idea 11).

A dispatcher claims messages with a lease; its attempt is a committed row before any provider is
asked, and a claim number fences off a dispatcher that comes back after its lease. Whoever lost
one may have sent it: such a message is uncertain, not queued again (D19).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

import structlog
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session as Transaction

from shared.errors import SealError
from shared.models import Message, MessageState, Route, SendAttempt
from shared.secret import Secret
from shared.store import Store

log = structlog.get_logger(__name__)

Render = Callable[[str, Mapping[str, str]], str]
"""Gives the text of a template filled with variables."""


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
    destination: str = field(repr=False)
    text: Secret
    failures: int


@dataclass(frozen=True)
class Report:
    """How an attempt ended; `code` is the provider's, `retry_after` in seconds if it said so."""

    result: Result
    code: str = ""
    provider_id: str | None = None
    retry_after: float | None = None


def seal(store: Store, message_id: UUID, column: str, text: str) -> bytes:
    """Seal a column of a message to its row."""
    return store.keys.seal(text.encode(), "message", str(message_id), column)


def claim(store: Store, provider: str, render: Render, limit: int) -> list[Claim]:
    """Take due messages, oldest first, and commit an attempt for each; on both databases."""
    now = store.clock()
    with store.database.write() as transaction:
        due = transaction.scalars(
            select(Message)
            .where(
                Message.route == Route.SMS,
                Message.state == MessageState.QUEUED,
                Message.next_at <= now,
                Message.expires_at > now,
            )
            .order_by(Message.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)  # SQLite's writers are alone anyway
        ).all()
        taken = [_take(store, transaction, message, provider, render) for message in due]
    return [claimed for claimed in taken if claimed is not None]


def finish(store: Store, claimed: Claim, report: Report, delay: float) -> bool:
    """Keep how an attempt ended; False if the lease was lost meanwhile. `delay` until a retry."""
    now = store.clock()
    with store.database.write() as transaction:
        transaction.execute(
            update(SendAttempt)
            .where(SendAttempt.id == claimed.attempt_id)
            .values(ended_at=now, result=report.result, code=report.code)
        )
        message = transaction.get_one(Message, claimed.message_id, with_for_update=True)
        if message.claims != claimed.number or message.state not in _OPEN_TO_REPORTS:
            return False
        _apply(store, message, report, now, delay)
        return True


def doubts(store: Store, limit: int) -> list[Claim]:
    """Give the uncertain messages, so that their provider can be asked what became of them."""
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Message)
            .where(Message.state == MessageState.UNCERTAIN)
            .order_by(Message.next_at)
            .limit(limit)
        ).all()
        return [_as_claim(store, transaction, message) for message in rows]


def receipt(store: Store, attempt_id: UUID, provider_id: str, state: MessageState) -> bool:
    """Keep what a provider says later of an attempt; False if there is no such attempt.

    Receipts repeat and overtake one another: the first final state stays.
    """
    now = store.clock()
    with store.database.write() as transaction:
        attempt = transaction.get(SendAttempt, attempt_id)
        if attempt is None:
            return False
        message = transaction.get_one(Message, attempt.message_id, with_for_update=True)
        # Bad news of an earlier attempt says nothing of the one that repeated it.
        tells = attempt.claim == message.claims or state is not MessageState.UNDELIVERED
        if tells and state != message.state and message.state in _OPEN_TO_RECEIPTS:
            message.provider_id = provider_id
            _close(message, state, now)
        return True


def recover(store: Store) -> None:
    """Move on what waits for time alone: lost leases, expiry, and the repeat of D19."""
    now = store.clock()
    repeat_at = now + timedelta(seconds=store.rules.outbox.uncertain_seconds)
    with store.database.write() as transaction:
        # Two of these at once could each wait for rows that the other has.
        store.database.lock(transaction, store.keys.index("lock", "outbox"))
        transaction.execute(
            update(Message)
            .where(Message.state == MessageState.SENDING, Message.next_at <= now)
            .values(state=MessageState.UNCERTAIN, next_at=repeat_at)
        )
        _end(
            transaction,
            now,
            MessageState.EXPIRED,
            Message.state == MessageState.QUEUED,
            Message.expires_at <= now,
        )
        _end(
            transaction,
            now,
            MessageState.LOST,
            Message.state == MessageState.UNCERTAIN,
            Message.next_at <= now,
            Message.repeated | (Message.expires_at <= now),
        )
        transaction.execute(
            update(Message)
            .where(Message.state == MessageState.UNCERTAIN, Message.next_at <= now)
            .values(state=MessageState.QUEUED, repeated=True)
        )


def replace(transaction: Transaction, now: datetime, *which: ColumnElement[bool]) -> None:
    """Let newer messages take the place of these; one that is being sent gets no further try."""
    _end(
        transaction,
        now,
        MessageState.REPLACED,
        Message.state.in_([MessageState.QUEUED, MessageState.UNCERTAIN]),
        *which,
    )
    transaction.execute(
        update(Message).where(Message.state == MessageState.SENDING, *which).values(expires_at=now)
    )


_OPEN_TO_REPORTS = {MessageState.SENDING, MessageState.UNCERTAIN}
_OPEN_TO_RECEIPTS = {
    MessageState.SENDING,
    MessageState.UNCERTAIN,
    MessageState.QUEUED,
    MessageState.ACCEPTED,
    MessageState.LOST,
    MessageState.EXPIRED,
}


def _take(
    store: Store, transaction: Transaction, message: Message, provider: str, render: Render
) -> Claim | None:
    """Commit one attempt; None for a damaged message, which must not hold up the others."""
    now = store.clock()
    try:
        destination = _open(store, message, "destination")
        text = _text(store, message, render)
    except SealError as error:
        log.error("message_refused", message=str(message.id), why=str(error))
        _close(message, MessageState.REFUSED, now)
        return None
    message.state = MessageState.SENDING
    message.claims += 1
    message.next_at = now + timedelta(seconds=store.rules.outbox.lease_seconds)
    message.provider = provider
    attempt = SendAttempt(
        id=uuid4(),
        message_id=message.id,
        claim=message.claims,
        provider=provider,
        started_at=now,
    )
    transaction.add(attempt)
    return Claim(
        message_id=message.id,
        attempt_id=attempt.id,
        number=message.claims,
        destination=destination,
        text=Secret(text),
        failures=message.failures,
    )


def _text(store: Store, message: Message, render: Render) -> str:
    """Give the text, written once: every try says the same."""
    if message.text_sealed is not None:
        return _open(store, message, "text")
    text = render(message.template, json.loads(_open(store, message, "content")))
    message.text_sealed = seal(store, message.id, "text", text)
    message.content_sealed = None
    return text


def _as_claim(store: Store, transaction: Transaction, message: Message) -> Claim:
    """Give an uncertain message as its last claim was."""
    attempt_id = transaction.scalars(
        select(SendAttempt.id).where(
            SendAttempt.message_id == message.id, SendAttempt.claim == message.claims
        )
    ).one()
    return Claim(
        message_id=message.id,
        attempt_id=attempt_id,
        number=message.claims,
        destination=_open(store, message, "destination"),
        text=Secret(_open(store, message, "text")),
        failures=message.failures,
    )


def _apply(store: Store, message: Message, report: Report, now: datetime, delay: float) -> None:
    match report.result:
        case Result.ACCEPTED:
            message.provider_id = report.provider_id
            _close(message, MessageState.ACCEPTED, now)
        case Result.REFUSED:
            _close(message, MessageState.REFUSED, now)
        case Result.RETRY:
            message.state = MessageState.QUEUED
            message.failures += 1
            message.next_at = now + timedelta(seconds=delay)
        case Result.UNCERTAIN if message.state == MessageState.SENDING:
            message.state = MessageState.UNCERTAIN
            message.next_at = now + timedelta(seconds=store.rules.outbox.uncertain_seconds)


def _close(message: Message, state: MessageState, now: datetime) -> None:
    """End a message: what it said is destroyed (D12, D16)."""
    message.state = state
    message.ended_at = now
    message.content_sealed = message.text_sealed = message.destination_sealed = None


def _end(
    transaction: Transaction, now: datetime, state: MessageState, *which: ColumnElement[bool]
) -> None:
    transaction.execute(
        update(Message)
        .where(*which)
        .values(
            state=state,
            ended_at=now,
            content_sealed=None,
            text_sealed=None,
            destination_sealed=None,
        )
    )


def _open(store: Store, message: Message, column: str) -> str:
    sealed: bytes = getattr(message, f"{column}_sealed")
    return store.keys.open(sealed, "message", str(message.id), column).decode()
