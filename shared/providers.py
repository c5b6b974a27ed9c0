"""Providers as every gateway knows them: which are out of service, what they have.

A provider is drained to be taken away or mended: nothing new is given to it, what it has comes to
its end. That is asked in the transaction of each claim, so that after `drain` there is none more.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from shared import audit
from shared.errors import DrainedError
from shared.models import DrainedProvider, Message, MessageState
from shared.origin import ADMIN
from shared.store import Store

ROUNDS = timedelta(minutes=1)  # more than a gateway takes to look up, and to settle, in any case


def drain(store: Store, name: str) -> datetime:
    """Take a provider out of service; give since when it is."""
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    now = store.clock()
    row = insert(DrainedProvider).values(name=name, drained_at=now).on_conflict_do_nothing()
    with store.database.begin() as transaction:
        if not store.database.sqlite:  # whose writers are alone
            transaction.execute(_AFTER_ALL_CLAIMS)
        if transaction.execute(row.returning(DrainedProvider.name)).first() is not None:
            audit.note(transaction, "provider-drained", now, ADMIN, None, actor=name)
        return transaction.execute(_SINCE, {"name": name}).scalar_one()


def restore(store: Store, name: str) -> bool:
    """Put a provider back into service; False if it was."""
    with store.database.begin() as transaction:
        was_out = transaction.execute(_RESTORE, {"name": name}).rowcount == 1
        if was_out:
            audit.note(transaction, "provider-restored", store.clock(), ADMIN, None, actor=name)
    return was_out


def drained(store: Store) -> Mapping[str, datetime]:
    """Give the providers out of service, and since when."""
    with store.database.read() as transaction:
        return dict(transaction.execute(_DRAINED).all())


def check_in_service(transaction: Connection, name: str) -> None:
    """Raise DrainedError if a provider is out of service; holds `drain` off until the end."""
    if transaction.execute(_CHECK, {"name": name}).first() is not None:
        raise DrainedError(f"{name}: out of service")


def under_way(store: Store, name: str) -> int:
    """Count the messages that a provider has been given, and of which nobody knows yet."""
    with store.database.read() as transaction:
        return dict(transaction.execute(_UNDER_WAY).all()).get(name, 0)


def overdue(store: Store, name: str) -> int:
    """Count those of them whose time was up some rounds ago: no gateway settles them (D19)."""
    since = store.clock() - ROUNDS
    with store.database.read() as transaction:
        return dict(transaction.execute(_OVERDUE, {"since": since}).all()).get(name, 0)


# An EXCLUSIVE lock waits for the ROW SHARE of every claim under way, and for nobody's backup.
_AFTER_ALL_CLAIMS = text(f"LOCK TABLE {DrainedProvider.__tablename__} IN EXCLUSIVE MODE")
_OF_NAME = DrainedProvider.name == bindparam("name")
_CHECK = select(DrainedProvider.name).where(_OF_NAME).with_for_update(read=True)
_SINCE = select(DrainedProvider.drained_at).where(_OF_NAME)
_RESTORE = delete(DrainedProvider).where(_OF_NAME)
_DRAINED = select(DrainedProvider.name, DrainedProvider.drained_at)

# By the index of states: messages are kept for a year.
_UNDER_WAY = (
    select(Message.provider, func.count())
    .where(Message.state.in_([MessageState.SENDING, MessageState.UNCERTAIN]))
    .group_by(Message.provider)
)
_OVERDUE = _UNDER_WAY.where(Message.next_at < bindparam("since"))
