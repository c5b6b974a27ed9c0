"""Receipts that name what a provider called the SMS, not our attempt: an SMSC's.

A long message goes in several SMS, each with an identifier and receipts of its own. A receipt may
overtake the commit that keeps the identifiers: its row then waits for them. An identifier that an
SMSC gives a second time means the newer SMS.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, case, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from shared.models import MessageState, SendAttempt, SentPart
from shared.store import Store

_FINAL = (MessageState.DELIVERED, MessageState.UNDELIVERED)


def expect(store: Store, transaction: Connection, attempt_id: UUID, ids: Sequence[str]) -> None:
    """Keep the identifiers that its provider gave the parts of an attempt's message."""
    if not ids:
        return
    provider = transaction.scalar(select(SendAttempt.provider).where(SendAttempt.id == attempt_id))
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    row = insert(SentPart).values(
        [
            {
                "provider": provider,
                "provider_id": one,
                "attempt_id": attempt_id,
                "state": None,
                "at": store.clock(),
            }
            for one in sorted(set(ids))  # one order for all, whom they'd wait for otherwise
        ]
    )
    of_this = or_(SentPart.attempt_id.is_(None), SentPart.attempt_id == attempt_id)
    transaction.execute(
        row.on_conflict_do_update(
            index_elements=[SentPart.provider, SentPart.provider_id],
            set_={
                "attempt_id": attempt_id,
                "state": case((of_this, SentPart.state)),
                "at": row.excluded.at,
            },
        )
    )


def keep(
    store: Store, transaction: Connection, provider: str, provider_id: str, state: MessageState
) -> UUID | None:
    """Keep a receipt; give the attempt, None while it is unknown. The first final state stays."""
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    return transaction.execute(
        insert(SentPart)
        .values(
            provider=provider,
            provider_id=provider_id,
            attempt_id=None,
            state=state,
            at=store.clock(),
        )
        .on_conflict_do_update(
            index_elements=[SentPart.provider, SentPart.provider_id],
            set_={"state": case((SentPart.state.in_(_FINAL), SentPart.state), else_=state)},
        )
        .returning(SentPart.attempt_id)
    ).scalar_one()


def fate(transaction: Connection, attempt_id: UUID) -> MessageState:
    """Say what became of the message as a whole: it is there once all of its parts are."""
    of_attempt = select(SentPart.state).where(SentPart.attempt_id == attempt_id)
    states = set(transaction.scalars(of_attempt))
    if MessageState.UNDELIVERED in states:
        return MessageState.UNDELIVERED
    return MessageState.DELIVERED if states == {MessageState.DELIVERED} else MessageState.ACCEPTED
