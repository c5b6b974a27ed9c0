"""The seal on the audit trail: a keyed hash of every row, chained in batches (D16).

Rows are sealed in the background, so that no login queues behind it. On PostgreSQL they become
visible in another order than that of their ids: a row is in the first batch that saw it. Whoever
has the database without the key ring can't alter, remove or slip in a sealed row unseen; who cuts
off the newest batches is found out by a head that was exported before.
"""

import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, cast

from sqlalchemy import Row, Select, delete, func, insert, select, update

from shared.models import AuditBatch, AuditEntry, AuditLink, VoidedEntry
from shared.progress import Progress, unheard
from shared.store import Store

BATCH = 1000  # rows: the turn to write that they take on SQLite is short
LONGEST_TRANSACTION = timedelta(minutes=15)  # a row may become visible so long after its time


class Kind(StrEnum):
    """What is wrong with the trail."""

    ALTERED = "altered"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True)
class Fault:
    """The first thing that is wrong: in which batch, which row if it is known, and when."""

    kind: Kind
    batch: int | None
    row: int | None
    at: datetime | None


@dataclass(frozen=True)
class Head:
    """What is exported, to be kept elsewhere: the newest batch."""

    batch: int
    mac: str
    rows: int


@dataclass(frozen=True)
class Verdict:
    """What a verification found; `unsealed` rows are newer than the last batch."""

    rows: int
    unsealed: int
    fault: Fault | None


def seal_new(store: Store) -> int:
    """Seal every row that is not sealed yet; give how many. One of several sealers does it."""
    total = 0
    while sealed := _seal_batch(store):
        total += sealed
    return total


def head(store: Store) -> Head | None:
    """Give the newest batch; None while there is none."""
    with store.database.read() as transaction:
        last = transaction.scalar(_newest_first().limit(1))
        return Head(last.id, last.mac.hex(), last.rows) if last else None


def verify(store: Store, exported: Head | None = None, report: Progress = unheard) -> Verdict:
    """Check every row from the last checkpoint on, and that an exported head still stands.

    Where a purge took away what was being read, the trail is read anew: it is shorter each time.
    """
    while True:
        batches = _trail(store)
        verdict = _verdict(store, batches, exported, report)
        if verdict.fault is None or _begin(batches) == _begin(_trail(store)):
            return verdict


def purge(store: Store, days: int) -> int:
    """Delete rows of whole days (UTC) older than `days`, by whole batches; give how many.

    The newest batch deleted stays as a signed checkpoint: verification goes on from it. A batch
    sealed by a wrong clock takes none before it along, and goes with those after it.
    """
    midnight = store.clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before = midnight - timedelta(days=days)
    first_kept = select(func.min(AuditBatch.id)).where(AuditBatch.sealed_at >= before)
    with store.database.read() as transaction:
        old = transaction.scalars(
            select(AuditBatch)
            .where(
                AuditBatch.checkpoint.is_(None),
                AuditBatch.sealed_at < before,
                AuditBatch.id < func.coalesce(first_kept.scalar_subquery(), AuditBatch.id + 1),
            )
            .order_by(AuditBatch.id)
        ).all()
    for batch in old:
        _purge_batch(store, batch)
    return sum(batch.rows for batch in old)


_ROW: tuple[Any, ...] = (
    AuditEntry.id,
    AuditEntry.at,
    AuditEntry.event,
    AuditEntry.channel,
    AuditEntry.account_id,
    AuditEntry.call_id,
    AuditEntry.person_id,
    AuditEntry.subject_id,
    AuditEntry.actor,
    AuditEntry.before_sealed.is_not(None),  # itself sealed to its row, and sealed anew (D13)
)


def _trail(store: Store) -> Sequence[AuditBatch]:
    with store.database.read() as transaction:
        return transaction.scalars(select(AuditBatch).order_by(AuditBatch.id)).all()


def _begin(batches: Sequence[AuditBatch]) -> tuple[int, bytes | None] | None:
    """Tell one checkpoint that a trail begins at from another; None of an empty trail."""
    return (batches[0].id, batches[0].checkpoint) if batches else None


def _verdict(
    store: Store, batches: Sequence[AuditBatch], exported: Head | None, report: Progress
) -> Verdict:
    rows = 0
    fault = _first_batch_fault(store, batches) or _head_fault(batches, exported)
    for done, (previous, batch) in enumerate(_chained(batches)):
        if fault is not None:
            break
        report(done, len(batches))
        rows += batch.rows
        fault = _batch_fault(store, previous, batch)
    unsealed, late = _unsealed(store, batches)
    report(len(batches), len(batches))
    return Verdict(rows, unsealed, fault or late)


def _newest_first() -> Select[AuditBatch]:
    return select(AuditBatch).order_by(AuditBatch.id.desc())


def _seal_batch(store: Store) -> int:
    """Hash outside the transaction that writes; give it up if another sealer came first."""
    with store.database.read() as transaction:
        last = transaction.scalar(_newest_first().limit(1))
        unsealed = _unsealed_rows(store, last).order_by(AuditEntry.id).limit(BATCH)
        rows = transaction.execute(unsealed).all()
    if not rows:
        return 0
    macs = [_row_mac(store, row) for row in rows]
    batch = AuditBatch(
        id=last.id + 1 if last else 1, rows=len(rows), sealed_at=store.clock(), checkpoint=None
    )
    batch.mac = _batch_mac(store, last.mac if last else b"", batch, macs)
    links = [
        {"audit_id": row.id, "batch_id": batch.id, "mac": mac}
        for row, mac in zip(rows, macs, strict=True)
    ]
    with store.database.write() as transaction:
        store.database.lock(transaction, store.keys.index("lock", "audit-seal"))
        newest = transaction.scalar(select(func.max(AuditBatch.id)))
        if newest != (last.id if last else None):
            return 0
        transaction.add(batch)
        transaction.flush()
        transaction.execute(insert(AuditLink), links)
    return len(rows)


def _unsealed_rows(store: Store, last: AuditBatch | None) -> Select[Any]:
    """Select rows without a link that may have become visible since the last batch."""
    unsealed = (
        select(*_ROW)
        .outerjoin(AuditLink, AuditLink.audit_id == AuditEntry.id)
        .where(AuditLink.audit_id.is_(None))
    )
    return unsealed.where(AuditEntry.at > _long_sealed(store, last)) if last else unsealed


def _long_sealed(store: Store, last: AuditBatch) -> datetime:
    """Give the instant up to which every row was visible at the last batch.

    Where the clock was set back since, what happens now is new all the same.
    """
    return min(last.sealed_at, store.clock()) - LONGEST_TRANSACTION


def _row_mac(store: Store, row: Row[Any]) -> bytes:
    values = [value if isinstance(value, int) else _text(value) for value in row]
    return store.keys.index("audit-row", json.dumps(values))


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _batch_mac(store: Store, previous: bytes, batch: AuditBatch, macs: Sequence[bytes]) -> bytes:
    text = [previous.hex(), batch.id, batch.rows, batch.sealed_at.isoformat()]
    return store.keys.index("audit-batch", json.dumps([*text, *(mac.hex() for mac in macs)]))


def _checkpoint(store: Store, batch: AuditBatch) -> bytes:
    """Sign a batch whose rows are deleted: nobody else can say that they were to be."""
    text = [batch.id, batch.rows, batch.sealed_at.isoformat(), batch.mac.hex()]
    return store.keys.index("audit-checkpoint", json.dumps(text))


def _chained(batches: Sequence[AuditBatch]) -> Iterator[tuple[AuditBatch | None, AuditBatch]]:
    """Give each batch to be checked with the one before it; a checkpoint is only the latter."""
    if batches and batches[0].checkpoint is None:
        yield None, batches[0]
    yield from pairwise(batches)


def _first_batch_fault(store: Store, batches: Sequence[AuditBatch]) -> Fault | None:
    """Say if the trail does not begin at its beginning, or at a checkpoint of ours."""
    if not batches:
        return None
    first = batches[0]
    if first.checkpoint is None:
        begins = first.id == 1
        return None if begins else Fault(Kind.MISSING, first.id - 1, None, first.sealed_at)
    if hmac.compare_digest(first.checkpoint, _checkpoint(store, first)):
        return None
    return Fault(Kind.ALTERED, first.id, None, first.sealed_at)


def _head_fault(batches: Sequence[AuditBatch], exported: Head | None) -> Fault | None:
    """Say if an exported head is not in the trail; one older than the checkpoint tells nothing."""
    if exported is None or (batches and exported.batch < batches[0].id):
        return None
    for batch in batches:
        if batch.id == exported.batch:
            same = batch.mac.hex() == exported.mac
            return None if same else Fault(Kind.ALTERED, batch.id, None, batch.sealed_at)
    return Fault(Kind.MISSING, exported.batch, None, batches[-1].sealed_at if batches else None)


def _batch_fault(store: Store, previous: AuditBatch | None, batch: AuditBatch) -> Fault | None:
    """Check a batch: its place in the chain, each of its rows, and that they are all there."""
    if previous is not None and batch.id != previous.id + 1:
        return Fault(Kind.MISSING, previous.id + 1, None, previous.sealed_at)
    with store.database.read() as transaction:
        found = transaction.execute(
            select(AuditLink.audit_id, AuditLink.mac, *_ROW)
            .outerjoin(AuditEntry, AuditEntry.id == AuditLink.audit_id)
            .where(AuditLink.batch_id == batch.id)
            .order_by(AuditLink.audit_id)
        ).all()
    for audit_id, mac, *row in found:
        if row[0] is None:
            return Fault(Kind.MISSING, batch.id, audit_id, batch.sealed_at)
        if not hmac.compare_digest(mac, _row_mac(store, cast(Row[Any], row))):
            return Fault(Kind.ALTERED, batch.id, audit_id, row[1])
    macs = [mac for _, mac, *_ in found]
    if hmac.compare_digest(
        batch.mac, _batch_mac(store, previous.mac if previous else b"", batch, macs)
    ):
        return None
    kinds = {True: Kind.MISSING, False: Kind.ADDED}
    kind = Kind.ALTERED if len(found) == batch.rows else kinds[len(found) < batch.rows]
    return Fault(kind, batch.id, None, batch.sealed_at)


def _unsealed(store: Store, batches: Sequence[AuditBatch]) -> tuple[int, Fault | None]:
    """Count the rows not sealed yet; one too old to be new was slipped in, or lost its link."""
    last = batches[-1] if batches else None
    without_link = (
        select(AuditEntry.id, AuditEntry.at)
        .outerjoin(AuditLink, AuditLink.audit_id == AuditEntry.id)
        .where(AuditLink.audit_id.is_(None))
        .order_by(AuditEntry.id)
    )
    with store.database.read() as transaction:
        rows = transaction.execute(without_link).all()
    oldest = _long_sealed(store, last) if last else None
    late = [row for row in rows if oldest is not None and row.at <= oldest]
    fault = Fault(Kind.ADDED, None, late[0].id, late[0].at) if late else None
    return len(rows) - len(late), fault


def _purge_batch(store: Store, batch: AuditBatch) -> None:
    sealed = select(AuditLink.audit_id).where(AuditLink.batch_id == batch.id)
    with store.database.write() as transaction:
        for model, column in ((AuditEntry, AuditEntry.id), (VoidedEntry, VoidedEntry.audit_id)):
            transaction.execute(
                delete(model).where(column.in_(sealed)), execution_options=_NOT_IN_MEMORY
            )
        transaction.execute(delete(AuditLink).where(AuditLink.batch_id == batch.id))
        transaction.execute(delete(AuditBatch).where(AuditBatch.id < batch.id))
        transaction.execute(
            update(AuditBatch)
            .where(AuditBatch.id == batch.id)
            .values(checkpoint=_checkpoint(store, batch))
        )


_NOT_IN_MEMORY = {"synchronize_session": False}
