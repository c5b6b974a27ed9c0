"""The change feed: what happened to the dossiers' passwords and codes, in order, for the web stack.

So that neither side accepts what the other has ended (R04, R08). It is written from the credentials
themselves: whoever changes one calls `tell` in the same transaction, and what was not told is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    Table,
    bindparam,
    case,
    exists,
    insert,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.orm import Session as Transaction

from shared.models import Account, Change, ChangeEvent, Credential
from shared.store import Store

MOST = 500  # entries read at a time
DOSSIER = "dossier"  # what was erased


@dataclass(frozen=True)
class Entry:
    """One thing that happened; repr hides to whose dossier."""

    id: int
    at: datetime
    event: ChangeEvent
    caisse: str
    number: str = field(repr=False)
    kind: str  # of the credential, or DOSSIER
    credential_id: UUID | None
    why: str | None  # what it was issued for, or ended by


def tell(store: Store, transaction: Transaction | Connection, *account_ids: UUID) -> None:
    """Write what happened to these accounts' credentials and was not told yet.

    After everything that locks a row of an account: all who tell wait for one another, so that
    whoever reads after an id misses nothing. The same statements run if there is nothing (D04).
    """
    if isinstance(transaction, Transaction):
        transaction.flush()
    store.database.lock(transaction, store.keys.index("lock", "feed"))
    transaction.execute(_TELL, {"accounts": account_ids})


def tell_erased(store: Store, transaction: Transaction, account_id: UUID, at: datetime) -> None:
    """Write, once, that a dossier's people were erased (D16), after the end of its credentials."""
    tell(store, transaction, account_id)
    erased = ChangeEvent.ERASED
    told = select(Change.id).where(Change.credential_id == account_id, Change.event == erased)
    if transaction.scalar(told) is None:
        transaction.add(
            Change(
                at=at, event=erased, account_id=account_id, credential_id=account_id, kind=DOSSIER
            )
        )


def since(store: Store, after: int, limit: int = MOST) -> Sequence[Entry]:
    """Give what happened after the entry of that id (0: from the beginning), the oldest first."""
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(
                Change.id,
                Change.at,
                Change.event,
                Account.caisse,
                Account.number,
                Change.kind,
                Credential.id,
                _WHY,
            )
            .join(Account, Account.id == Change.account_id)
            .outerjoin(Credential, Credential.id == Change.credential_id)
            .where(Change.id > literal(after, BigInteger))  # beyond what `id` holds, too
            .order_by(Change.id)
            .limit(limit)
        )
        return [
            Entry(row.id, row.at, ChangeEvent(row.event), *row[3:])  # the columns' own order
            for row in rows
        ]


def _happened(event: ChangeEvent, place: int, at: Any) -> Select[Any]:
    return select(
        at.label("at"),
        literal_column(f"'{event}'").label("event"),
        Credential.account_id,
        Credential.id.label("credential_id"),
        Credential.kind,
        literal_column(str(place), Integer).label("place"),
    ).where(Credential.account_id.in_(bindparam("accounts", expanding=True)), at.is_not(None))


_WHY = case(
    (Change.event == ChangeEvent.ISSUED, Credential.origin),
    (Change.event == ChangeEvent.ENDED, Credential.ended_by),
)
_ALL = union_all(
    _happened(ChangeEvent.ISSUED, 0, Credential.created_at),
    _happened(ChangeEvent.FIRST_USED, 1, Credential.first_used_at),
    _happened(ChangeEvent.ENDED, 2, Credential.ended_at),
).subquery()
_TELL = insert(cast(Table, Change.__table__)).from_select(
    ["at", "event", "account_id", "credential_id", "kind"],
    select(_ALL.c.at, _ALL.c.event, _ALL.c.account_id, _ALL.c.credential_id, _ALL.c.kind)
    .where(
        ~exists().where(Change.credential_id == _ALL.c.credential_id, Change.event == _ALL.c.event)
    )
    .order_by(_ALL.c.at, _ALL.c.place, _ALL.c.credential_id),
)
