"""Receipts that name what a provider called the SMS, not our attempt: an SMSC's.

A long message goes in several SMS, each with an identifier and receipts of its own. A receipt may
overtake the commit that keeps the identifiers: its row then waits for them. An identifier that an
SMSC gives a second time means the newer SMS.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, bindparam, case, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from shared.models import MessageState, SendAttempt, SentPart
from shared.store import Store

_FINAL = (MessageState.DELIVERED, MessageState.UNDELIVERED)


def expect(store: Store, transaction: Connection, given: Mapping[UUID, Sequence[str]]) -> set[UUID]:
    """Keep the identifiers that providers gave the parts of attempts' messages.

    Gives the attempts of which receipts were there first.
    """
    attempts = [attempt_id for attempt_id, ids in given.items() if ids]
    if not attempts:
        return set()
    providers = dict(transaction.execute(_PROVIDERS, {"attempts": attempts}).all())
    rows = {
        (providers[attempt_id], one): {
            "provider": providers[attempt_id],
            "provider_id": one,
            "attempt_id": attempt_id,
            "state": None,
            "at": store.clock(),
        }
        for attempt_id in attempts
        for one in given[attempt_id]
    }
    expected = _EXPECT_SQLITE if store.database.sqlite else _EXPECT_POSTGRESQL
    # One order for all, whom they'd wait for otherwise.
    kept = transaction.execute(expected, [rows[key] for key in sorted(rows)])
    return {attempt_id for attempt_id, state in kept if attempt_id and state}


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


def _expecting(
    insert: postgresql.Insert | sqlite.Insert,
) -> ReturningInsert[UUID | None, str | None]:
    of_this = or_(SentPart.attempt_id.is_(None), SentPart.attempt_id == insert.excluded.attempt_id)
    return insert.on_conflict_do_update(
        index_elements=[SentPart.provider, SentPart.provider_id],
        set_={
            "attempt_id": insert.excluded.attempt_id,
            "state": case((of_this, SentPart.state)),
            "at": insert.excluded.at,
        },
    ).returning(SentPart.attempt_id, SentPart.state)


# Built once: to build one takes longer than to run it.
_PROVIDERS = select(SendAttempt.id, SendAttempt.provider).where(
    SendAttempt.id.in_(bindparam("attempts", expanding=True))
)
_EXPECT_SQLITE = _expecting(sqlite.insert(SentPart))
_EXPECT_POSTGRESQL = _expecting(postgresql.insert(SentPart))
