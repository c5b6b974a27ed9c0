"""Runs of letters: from the outbox to the printer's folder, and out of our hands (R09, R25).

A run is claimed (committed), prepared (its folder appears whole), confirmed by whoever printed it;
only then are its texts destroyed. A run that was killed is prepared by the next one: what a letter
says and where it goes were written at its claim, and a folder that is there is never made again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Select, exists, not_, select
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import aliased

from shared import notices, outbox, resets
from shared.errors import SealError, StoreError
from shared.letters import pages, status, writing
from shared.letters.pages import Letter, PageError
from shared.letters.spool import Printer, Sheet, Spool
from shared.letters.writing import Words
from shared.models import LetterRun, Message, MessageState, Route
from shared.store import Store

MOST = 500  # letters in a run: they are claimed in one transaction

log = structlog.get_logger(__name__)


class RunError(StoreError):
    """The run is not one that this can be done to: why, in French."""


@dataclass(frozen=True)
class Office:
    """What letters are made with."""

    words: Words
    printer: Printer
    spool: Spool


def run(store: Store, office: Office) -> list[UUID]:
    """Prepare the runs that were interrupted, then a new one of the letters due; give their ids."""
    pages.check_font()
    outbox.recover(store)  # ends letters that waited too long
    with office.spool.alone():
        status.warn_of_late(store)
        _claim(store, office)
        with store.database.read() as transaction:
            unprepared = transaction.scalars(
                select(LetterRun.id)
                .where(LetterRun.prepared_at.is_(None))
                .order_by(LetterRun.created_at)
            ).all()
        for run_id in unprepared:
            _prepare(store, office, run_id)
    return list(unprepared)


def print_again(store: Store, office: Office, run_id: UUID) -> None:
    """Prepare a run anew whose folder was lost; RunError if it was confirmed."""
    pages.check_font()
    with office.spool.alone():
        with store.database.write() as transaction:
            _unconfirmed(transaction, run_id).prepared_at = None
        office.spool.remove(run_id)
        _prepare(store, office, run_id)


def confirm(store: Store, spool: Spool, run_id: UUID) -> int:
    """Destroy the texts of a run that was printed; give how many letters it had. RunError."""
    now = store.clock()
    with spool.alone(), store.database.write() as transaction:
        found = _unconfirmed(transaction, run_id)
        if found.prepared_at is None:
            raise RunError("ce tirage n'est pas prêt ; lancez : svi letters run")
        found.confirmed_at = now
        letters = _with_the_printer(transaction, run_id)
        outbox.end(
            transaction,
            now,
            MessageState.ACCEPTED,
            Message.run_id == run_id,
            Message.state == MessageState.SENDING,
        )
        spool.remove(run_id)  # first, so that a confirmation that was killed is done again
    return len(letters)


# Claiming


def _claim(store: Store, office: Office) -> None:
    """Put the letters due into a run and write down what each says; none due: no run."""
    now = store.clock()
    with store.database.write() as transaction:
        store.database.lock(transaction, store.keys.index("lock", "letters"))
        started = LetterRun(id=uuid4(), created_at=now)
        written = {
            message: text
            for message in transaction.scalars(_due(now)).all()
            if (text := writing.write(store, transaction, message, office.words)) is not None
        }
        if not written:
            return
        transaction.add(started)
        transaction.flush()
        for message, text in written.items():
            message.state = MessageState.SENDING
            message.run_id = started.id
            message.content_sealed = None
            message.text_sealed = outbox.seal(store, message.id, "text", text)


def _due(now: datetime) -> Select[Message]:
    """Select the letters due, the oldest first.

    A password stays behind until the letter with the number is confirmed: never both in one run,
    nor with the printer at the same time (R25).
    """
    identifier = aliased(Message)
    number_under_way = exists().where(
        identifier.account_id == Message.account_id,
        identifier.template == notices.Template.IDENTIFIER_LETTER,
        identifier.state.in_([MessageState.QUEUED, MessageState.SENDING]),
    )
    return (
        select(Message)
        .where(
            Message.route == Route.LETTER,
            Message.state == MessageState.QUEUED,
            Message.next_at <= now,
            Message.expires_at > now,
            not_(Message.template.in_([*resets.Template]) & number_under_way),
        )
        .order_by(Message.next_at)
        .limit(MOST)
        .with_for_update(skip_locked=True, of=Message)
    )


# Preparing


def _prepare(store: Store, office: Office, run_id: UUID) -> None:
    """Make the run's folder, unless it is there; a letter that is not in it is ended."""
    now = store.clock()
    published = office.spool.published(run_id)
    if published is None:
        with store.database.read() as transaction:
            letters = _with_the_printer(transaction, run_id)
        office.spool.publish(run_id, _sheets(store, office, letters))
        published = office.spool.published(run_id) or set()
    with store.database.write() as transaction:
        found = _unconfirmed(transaction, run_id)
        outbox.end(
            transaction,
            now,
            MessageState.REFUSED,
            Message.run_id == run_id,
            Message.state == MessageState.SENDING,
            Message.id.not_in(published),
        )
        found.prepared_at = now


def _sheets(store: Store, office: Office, letters: Sequence[Message]) -> Iterator[Sheet]:
    """Give each letter encrypted; not one revoked meanwhile or that can't be printed."""
    now = store.clock()
    for message in letters:
        if message.expires_at <= now:
            continue
        try:
            letter = Letter(**json.loads(outbox.opened(store, message, "text")))
            page = pages.render(letter, now)
        except (SealError, PageError) as error:
            log.error("letter_refused", message=str(message.id), why=str(error))
            continue
        yield Sheet(message.id, message.template, office.printer.encrypt(page))


def _with_the_printer(transaction: Transaction, run_id: UUID) -> Sequence[Message]:
    return transaction.scalars(
        select(Message)
        .where(Message.run_id == run_id, Message.state == MessageState.SENDING)
        .order_by(Message.created_at, Message.id)
    ).all()


def _unconfirmed(transaction: Transaction, run_id: UUID) -> LetterRun:
    found = transaction.get(LetterRun, run_id, with_for_update=True)
    if found is None:
        raise RunError("aucun tirage n'a cet identifiant")
    if found.confirmed_at is not None:
        raise RunError("ce tirage est déjà confirmé")
    return found
