"""A new sealing key, and every sealed value under it, while logins go on (D13).

The new key is in the file before any row uses it; then rows are sealed anew in small batches, each
locked for that moment, so that no change made meanwhile is lost. The old key is dropped when
nothing is under it any more, nor can come under it (docs/decisions/0005). After a kill, run it
again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import structlog
from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Table,
    and_,
    func,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from shared import (
    audit,
    bascule,
    before,
    credentials,
    day_keys,
    dossier_store,
    idempotency,
    key_check,
    outbox,
    people,
    provisional,
)
from shared.errors import SealError, SettingsError
from shared.files import write_whole
from shared.keyring import VERSION_BYTES, KeyRing, changing, prefix
from shared.models import (
    AuditEntry,
    Base,
    Continuation,
    Credential,
    DossierSection,
    IdempotentRequest,
    KeyCheck,
    Message,
    Person,
    WebAccount,
)
from shared.origin import ADMIN
from shared.progress import Progress
from shared.rules import Retention
from shared.sealing import new_key
from shared.store import Store

BATCH = 200  # rows: the turn to write that they take on SQLite is short
GRACE_SECONDS = 15.0  # longer than from the sealing of a value to its commit

log = structlog.get_logger(__name__)

Key = tuple[Any, ...]
Binding = Callable[[Any], tuple[str, ...]]


@dataclass(frozen=True)
class Sealed:
    """A sealed column, and what binds a value to its row."""

    model: type[Base]
    column: str
    binding: Binding


def _column(
    model: type[Base], name: str, binding: Callable[[UUID, str], tuple[str, ...]]
) -> Sealed:
    """Give a column that is sealed to its row and its name."""
    return Sealed(model, f"{name}_sealed", lambda row: binding(row.id, name))


PERSON = ("nir", "identity", "mobile", "mobile_before", "landline", "email", "address",
          "address_before")  # fmt: skip
MESSAGE = ("destination", "content", "text")

TABLE = (
    *(_column(Person, name, people.binding) for name in PERSON),
    # Until the release after 0.1.0: messages queued before there were keys of the day.
    *(_column(Message, name, outbox.binding) for name in MESSAGE),
    Sealed(Credential, "hash_sealed", credentials.binding),
    Sealed(WebAccount, "provisional_sealed", provisional.binding),
    Sealed(Continuation, "hash_sealed", bascule.binding),
    Sealed(IdempotentRequest, "answer_sealed", idempotency.binding),
    Sealed(DossierSection, "content_sealed", dossier_store.binding),
    Sealed(AuditEntry, "before_sealed", before.binding),
    Sealed(KeyCheck, "ring_sealed", key_check.binding),
)


@dataclass(frozen=True)
class Rotated:
    """What a rotation did; damaged values open under no key, and stay as they are."""

    version: int
    resealed: int
    damaged: int


def add_key(ring: KeyRing, path: Path) -> int:
    """Put a new key into the file, known and not used yet; give its version.

    Where several machines have the file, it goes to all of them before `rotate`.
    """
    with changing(path):
        ring.refresh()
        if len(ring.sealing) > 1:
            raise SettingsError(f"{path}: un changement est en cours ; lancez : svi keys rotate")
        return _add(ring, path)


def _add(ring: KeyRing, path: Path) -> int:
    version = max(ring.sealing) + 1
    write_whole(_backup(path), path.read_text(encoding="utf-8"), mode=0o600)
    ring.sealing = {**ring.sealing, version: new_key()}
    ring.save(path)
    return version


def rotate(
    store: Store,
    path: Path,
    progress: Progress | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Rotated:
    """Bring every sealed value under a new key, and drop the old one; resumes what was cut off."""
    ring = store.keys
    with changing(path):
        ring.refresh()
        if len(ring.sealing) == 1:
            _add(ring, path)
        if ring.current != max(ring.sealing):
            ring.current = max(ring.sealing)
            ring.save(path)
        resealed, _ = _sweep(store, _counted(store, progress))
        wait(GRACE_SECONDS)
        _wait_for_transactions(store, wait)
        late, damaged = _sweep(store)
        while _left(store) > damaged:  # what somebody else held, or sealed late
            wait(1)
            more, damaged = _sweep(store)
            late += more
        with store.database.write() as transaction:  # before: after a kill the next run is noted
            key = f"key:{ring.current}"
            audit.note(transaction, "keys-rotated", store.clock(), ADMIN, None, actor=key)
        ring.sealing = {ring.current: ring.sealing[ring.current]}
        ring.save(path)
        _backup(path).unlink(missing_ok=True)
        return Rotated(ring.current, resealed + late, damaged)


def renew_pseudonyms(ring: KeyRing, path: Path, now: datetime) -> None:
    """Destroy the key of the pseudonyms of call records: older ones lead to nobody (D16)."""
    with changing(path):
        ring.refresh()
        ring.pseudonyms, ring.pseudonyms_since = new_key(), now
        ring.save(path)


def pseudonyms_overdue(ring: KeyRing, rules: Retention, now: datetime) -> bool:
    """Say whether the key of the pseudonyms is too old, or nobody knows how old it is (D16)."""
    since = ring.pseudonyms_since
    return since is None or now - since > timedelta(days=rules.pseudonym_key_days)


def warn_of_pseudonyms(store: Store) -> None:
    """Raise the alarm if their key is to be renewed.

    No service does it by itself: the key ring is read-only to it, and another machine's copy would
    go on with the key that was to be destroyed.
    """
    store.keys.refresh()
    if pseudonyms_overdue(store.keys, store.rules.retention, store.clock()):
        log.warning("pseudonym_key_overdue", days=store.rules.retention.pseudonym_key_days)


def note_pseudonyms(store: Store) -> None:
    """Audit that the pseudonyms have a new key, once: the services do, each hour.

    What renews it has the key ring alone, and destroys the old key even when the database is away.
    """
    store.keys.refresh()
    now, since = store.clock(), store.keys.pseudonyms_since
    if since is None or since > now:
        return
    with store.database.read() as transaction:
        if _noted(transaction, since):
            return
    with store.database.write() as transaction:
        store.database.lock(transaction, store.keys.index("lock", "pseudonyms"))
        if not _noted(transaction, since):  # by another process meanwhile
            actor = f"since:{since.isoformat()}"
            audit.note(transaction, "pseudonyms-renewed", now, ADMIN, None, actor=actor)


def _noted(transaction: Transaction, since: datetime) -> bool:
    renewed = (
        select(AuditEntry.id)
        .where(AuditEntry.at >= since, AuditEntry.event == "pseudonyms-renewed")
        .order_by(AuditEntry.at)  # a month of rows follows: it is among the first
        .limit(1)
    )
    return transaction.scalar(renewed) is not None


def _counted(store: Store, progress: Progress | None) -> Callable[[int], None]:
    """Give what is told the number of values sealed so far."""
    if progress is None:
        return _unheard
    steps = _left(store)
    return lambda done: progress(done, steps)


def _left(store: Store) -> int:
    """Count the values under an old key, whoever holds them."""
    with store.database.read() as transaction:
        return sum(
            transaction.scalar(
                select(func.count()).select_from(one.model).where(_under_old(store, one))
            )
            or 0
            for one in TABLE
        )


def _unheard(_done: int) -> None:
    return


def _backup(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def _sweep(store: Store, report: Callable[[int], None] = _unheard) -> tuple[int, int]:
    """Seal anew what is under an old key; give how many were, and how many open under none."""
    resealed = damaged = 0
    for sealed in TABLE:
        after = None
        while rows := _reseal_batch(store, sealed, after):
            resealed += sum(rows.values())
            damaged += len(rows) - sum(rows.values())
            after = list(rows)[-1]
            report(resealed + damaged)
    return resealed, damaged


def _reseal_batch(store: Store, sealed: Sealed, after: Key | None) -> dict[Key, bool]:
    """Take the next rows under an old key; give which of them could be opened.

    Rows that somebody else holds are left to the next sweep: waiting for one while holding others
    could stop both for good.
    """
    keys = _primary_key(sealed.model)
    with store.database.write() as transaction:
        rows = transaction.scalars(
            select(sealed.model)
            .where(
                _under_old(store, sealed),
                true() if after is None else tuple_(*keys) > tuple_(*after),
            )
            .order_by(*keys)
            .limit(BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return {
            tuple(getattr(row, key.key) for key in keys): _reseal(store, sealed, row)
            for row in rows
        }


def _under_old(store: Store, sealed: Sealed) -> ColumnElement[bool]:
    column = getattr(sealed.model, sealed.column)
    version = func.substr(column, 1, VERSION_BYTES, type_=LargeBinary)
    others = version.not_in([prefix(store.keys.current), day_keys.MARK])
    return and_(column.is_not(None), others)


def _reseal(store: Store, sealed: Sealed, row: Base) -> bool:
    """Seal a value under the current key; False if it opens under none."""
    try:
        plain = store.keys.open(getattr(row, sealed.column), *sealed.binding(row))
    except SealError as error:
        log.error("sealed_value_damaged", table=sealed.model.__tablename__, why=str(error))
        return False
    setattr(row, sealed.column, store.keys.seal(plain, *sealed.binding(row)))
    return True


def _primary_key(model: type[Base]) -> list[InstrumentedAttribute[Any]]:
    columns = cast(Table, model.__table__).primary_key.columns
    return [getattr(model, column.key) for column in columns]


def _wait_for_transactions(store: Store, wait: Callable[[float], None]) -> None:
    """Wait until no transaction is open that may have sealed something under the old key."""
    with store.database.write() as transaction:  # on SQLite: once every writer before has ended
        if store.database.sqlite:
            return
        now = transaction.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
    oldest = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    while True:
        with store.database.read() as transaction:
            if (transaction.scalar(oldest) or 0) > (now or 0):
                return
        wait(1)
