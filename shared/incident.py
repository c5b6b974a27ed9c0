"""The incident switch: the whole service, a channel or a caisse is closed at once (D15).

Raising one raises the epoch of its scope, which ends every session opened there before; while it is
not lifted nobody logs in there. A session remembers the sum of its scopes' epochs: epochs only
grow, so the sum is the same only if none of them grew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction

from shared import audit
from shared.errors import ClosedError
from shared.models import Account, Epoch, Incident
from shared.origin import ADMIN, Origin
from shared.rules import Channel
from shared.store import Store

SERVICE = "service"
CHANNEL = "channel:"
CAISSE = "caisse:"
CHANNELS = (Channel.VOICE, Channel.WEB, Channel.APP, Channel.KIOSK)  # those of callers and persons


@dataclass(frozen=True)
class Raised:
    """An incident that is not lifted."""

    scope: str
    since: datetime


def scopes(channel: Channel, caisse: str | None = None) -> tuple[str, ...]:
    """Name the scopes that a request falls into; without caisse, those of the channel."""
    return (SERVICE, CHANNEL + channel, *([CAISSE + caisse] if caisse else []))


def raise_incident(store: Store, scope: str, origin: Origin = ADMIN) -> bool:
    """Close a scope and end its sessions; False if it is closed already."""
    now = store.clock()
    with store.database.write() as transaction:
        _lock(store, transaction)
        if _closed(transaction, [scope]):
            return False
        transaction.add(Incident(id=uuid4(), scope=scope, raised_at=now))
        _raise_epoch(store, transaction, scope)
        audit.note(
            transaction, "incident-raised", now, origin, None, actor=audit.named(scope, origin)
        )
    return True


def lift(store: Store, scope: str, origin: Origin = ADMIN) -> bool:
    """Open a scope again: people log in anew. False if it was not closed."""
    now = store.clock()
    with store.database.write() as transaction:
        _lock(store, transaction)
        if not _closed(transaction, [scope]):
            return False
        raised = update(Incident).where(Incident.scope == scope, Incident.lifted_at.is_(None))
        transaction.execute(raised.values(lifted_at=now))
        audit.note(
            transaction, "incident-lifted", now, origin, None, actor=audit.named(scope, origin)
        )
    return True


def standing(store: Store) -> list[Raised]:
    """Give the incidents that are not lifted, the oldest first."""
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Incident).where(Incident.lifted_at.is_(None)).order_by(Incident.raised_at)
        )
        return [Raised(row.scope, row.raised_at) for row in rows]


def closed(store: Store, channel: Channel, caisse: str | None = None) -> bool:
    """Say whether nobody may log in there now."""
    with store.database.read() as transaction:
        return _closed(transaction, scopes(channel, caisse))


def refuse_closed(store: Store, channel: Channel, caisse: str | None = None) -> None:
    """Raise ClosedError if nobody may log in there now: asked before anything is looked up.

    Of the caisse only where the request itself names it: it would be news to others (D04).
    """
    with store.database.read() as transaction:
        check_open(transaction, channel, caisse)


def closed_to(transaction: Transaction, channel: Channel, account_id: UUID | None) -> bool:
    """Say whether that account may not log in there now; the same statement for none (D04)."""
    values = {"within": scopes(channel), "account": account_id}
    return bool(transaction.scalar(_CLOSED_TO, values))


# For the statements of a login, built once; `within` is what `scopes` gives.
EPOCHS = select(func.coalesce(func.sum(Epoch.value), 0)).where(
    Epoch.scope.in_(bindparam("within", expanding=True))
)
STANDING = exists().where(
    Incident.scope.in_(bindparam("within", expanding=True)), Incident.lifted_at.is_(None)
)
_CLOSED = select(STANDING)
_CLOSED_TO = select(
    exists().where(
        or_(
            Incident.scope.in_(bindparam("within", expanding=True)),
            Incident.scope
            == CAISSE
            + select(Account.caisse).where(Account.id == bindparam("account")).scalar_subquery(),
        ),
        Incident.lifted_at.is_(None),
    )
)


def check_open(
    transaction: Transaction | Connection, channel: Channel, caisse: str | None = None
) -> None:
    """Raise ClosedError if nobody may log in there now."""
    if _closed(transaction, scopes(channel, caisse)):
        raise ClosedError("closed by an incident")


def _closed(transaction: Transaction | Connection, within: Sequence[str]) -> bool:
    return bool(transaction.scalar(_CLOSED, {"within": within}))


def _raise_epoch(store: Store, transaction: Transaction, scope: str) -> None:
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    transaction.connection().execute(  # as in idempotency.py
        insert(Epoch)
        .values(scope=scope, value=1)
        .on_conflict_do_update(index_elements=[Epoch.scope], set_={"value": Epoch.value + 1})
    )


def _lock(store: Store, transaction: Transaction) -> None:
    store.database.lock(transaction, store.keys.index("lock", "incident"))
