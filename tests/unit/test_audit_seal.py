"""The seal on the audit: whatever is done to it behind our back is named (D16)."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, audit_seal
from shared.audit_seal import LONGEST_TRANSACTION, Fault, Head, Kind, Verdict
from shared.keyring import KeyRing
from shared.models import AuditBatch, AuditEntry, AuditLink
from shared.origin import Origin
from shared.retention import tidy
from shared.rules import Channel
from shared.store import Store
from svi import service
from tests.processes import Place, run_together
from tests.store import FakeClock, execute

VOICE = Origin(Channel.VOICE, call_id="call-1")
ROWS = 5
AUDIT_DAYS = 365  # D16


def _note(store: Store, count: int = 1, at: datetime | None = None) -> None:
    with store.database.write() as transaction:
        for _ in range(count):
            audit.note(transaction, "login", at or store.clock(), VOICE, uuid4())


def _ids(store: Store) -> list[int]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(AuditEntry.id).order_by(AuditEntry.id)))


@pytest.fixture
def sealed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with three batches of five rows."""
    monkeypatch.setattr(audit_seal, "BATCH", ROWS)
    _note(store, 3 * ROWS)
    assert audit_seal.seal_new(store) == 3 * ROWS
    return store


def test_an_untouched_trail_is_right(sealed: Store) -> None:
    _note(sealed, 2)
    verdict = audit_seal.verify(sealed, audit_seal.head(sealed))
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (3 * ROWS, 2, None)


def test_an_empty_trail_is_right(store: Store) -> None:
    assert audit_seal.head(store) is None
    assert audit_seal.seal_new(store) == 0
    assert audit_seal.verify(store) == audit_seal.Verdict(0, 0, None)


Tamper = Callable[[Transaction, int], object]


def _set(**values: object) -> Tamper:
    def tamper(transaction: Transaction, row: int) -> None:
        transaction.execute(update(AuditEntry).where(AuditEntry.id == row).values(**values))

    return tamper


def _delete_row(transaction: Transaction, row: int) -> None:
    transaction.execute(delete(AuditEntry).where(AuditEntry.id == row))


def _delete_link(transaction: Transaction, row: int) -> None:
    transaction.execute(delete(AuditLink).where(AuditLink.audit_id == row))


def _delete_both(transaction: Transaction, row: int) -> None:
    _delete_row(transaction, row)
    _delete_link(transaction, row)


def _copy_mac_of_next(transaction: Transaction, row: int) -> None:
    """Make the link of a row that of another, which is right for that other."""
    mac = transaction.get_one(AuditLink, row + 1).mac
    transaction.get_one(AuditLink, row).mac = mac


def _swap_rows(transaction: Transaction, row: int) -> None:
    for column in ("account_id", "event"):
        one, other = transaction.get_one(AuditEntry, row), transaction.get_one(AuditEntry, row + 1)
        mine, theirs = getattr(one, column), getattr(other, column)
        setattr(one, column, theirs)
        setattr(other, column, mine)


def _add_link(transaction: Transaction, row: int) -> None:
    entry = transaction.get_one(AuditEntry, row)
    added = AuditEntry(at=entry.at, event="login", channel="voice")
    transaction.add(added)
    transaction.flush()
    transaction.add(AuditLink(audit_id=added.id, batch_id=2, mac=bytes(32)))


def _delete_links(transaction: Transaction, row: int) -> None:
    batch = transaction.get_one(AuditLink, row).batch_id
    transaction.execute(delete(AuditLink).where(AuditLink.batch_id == batch))


def _delete_batch(transaction: Transaction) -> None:
    transaction.execute(delete(AuditLink).where(AuditLink.batch_id == 2))
    transaction.execute(delete(AuditBatch).where(AuditBatch.id == 2))


def _later(transaction: Transaction, row: int) -> None:
    entry = transaction.get_one(AuditEntry, row)
    entry.at += timedelta(microseconds=1)


# What a thief does to the 2nd row of a batch, and what verification says of it.
TAMPERED: list[tuple[str, Tamper, Kind, bool]] = [
    # what                        how                             kind          the row is named
    ("another event", _set(event="login-refused"), Kind.ALTERED, True),
    ("another channel", _set(channel="web"), Kind.ALTERED, True),
    ("another account", _set(account_id=uuid4()), Kind.ALTERED, True),
    ("no account", _set(account_id=None), Kind.ALTERED, True),
    ("another call", _set(call_id="call-2"), Kind.ALTERED, True),
    ("an actor", _set(actor="caf.fr"), Kind.ALTERED, True),
    ("a person", _set(person_id=uuid4()), Kind.ALTERED, True),
    ("a subject", _set(subject_id=uuid4()), Kind.ALTERED, True),
    ("a before-image", _set(before_sealed=b"x"), Kind.ALTERED, True),
    ("a microsecond later", _later, Kind.ALTERED, True),
    ("swapped with the next", _swap_rows, Kind.ALTERED, True),
    ("the next row's mac", _copy_mac_of_next, Kind.ALTERED, True),
    ("row deleted", _delete_row, Kind.MISSING, True),
    ("link deleted", _delete_link, Kind.MISSING, False),
    ("row and link deleted", _delete_both, Kind.MISSING, False),
    ("batch's links deleted", _delete_links, Kind.MISSING, False),
]


@pytest.mark.parametrize("batch", [2, 3], ids=["in the middle", "the last"])
@pytest.mark.parametrize(
    ("tamper", "kind", "named"),
    [pytest.param(*case, id=name) for name, *case in TAMPERED],
)
def test_what_a_thief_does_is_named(
    sealed: Store, tamper: Tamper, kind: Kind, *, named: bool, batch: int
) -> None:
    """Sealing goes on after it, and hides nothing."""
    row = _ids(sealed)[(batch - 1) * ROWS + 1]
    execute(sealed, lambda transaction: tamper(transaction, row))
    for _ in range(2):
        fault = audit_seal.verify(sealed).fault
        assert fault is not None
        assert (fault.kind, fault.batch, fault.row) == (kind, batch, row if named else None)
        _note(sealed)
        audit_seal.seal_new(sealed)


def test_of_several_altered_rows_the_first_is_named(sealed: Store) -> None:
    rows = _ids(sealed)[-3:]
    execute(sealed, lambda t: [_set(event="login-refused")(t, row) for row in rows])
    fault = audit_seal.verify(sealed).fault
    assert fault is not None
    assert (fault.kind, fault.batch, fault.row) == (Kind.ALTERED, 3, rows[0])


def test_a_batch_cut_out_of_the_chain_is_named(sealed: Store) -> None:
    execute(sealed, _delete_batch)
    fault = audit_seal.verify(sealed).fault
    assert fault is not None
    assert (fault.kind, fault.batch, fault.row) == (Kind.MISSING, 2, None)


def test_what_is_not_sealed_yet_is_all_that_can_be_altered_unseen(
    sealed: Store, clock: FakeClock
) -> None:
    """docs/securite.md: nor can a row be slipped in for longer ago than the look-back."""
    exported = audit_seal.head(sealed)
    _note(sealed, 2, at=clock.now - LONGEST_TRANSACTION + timedelta(microseconds=1))
    execute(sealed, lambda transaction: _delete_row(transaction, _ids(sealed)[-1]))
    execute(sealed, lambda transaction: _set(event="voided")(transaction, _ids(sealed)[-1]))
    verdict = audit_seal.verify(sealed, exported)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (3 * ROWS, 1, None)


def test_a_row_slipped_into_a_batch_is_named(sealed: Store) -> None:
    execute(sealed, lambda transaction: _add_link(transaction, _ids(sealed)[0]))
    fault = audit_seal.verify(sealed).fault
    assert fault is not None
    assert (fault.kind, fault.batch, fault.row) == (Kind.ALTERED, 2, _ids(sealed)[-1])


def test_a_row_slipped_in_for_a_time_long_sealed_is_named(sealed: Store, clock: FakeClock) -> None:
    _note(sealed, at=clock.now - LONGEST_TRANSACTION)
    audit_seal.seal_new(sealed)
    late = _ids(sealed)[-1]
    expected = Fault(Kind.ADDED, None, late, clock.now - LONGEST_TRANSACTION)
    assert audit_seal.verify(sealed).fault == expected


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=3650)])
def test_what_comes_after_the_clock_is_set_back_is_sealed(
    store: Store, clock: FakeClock, ahead: timedelta
) -> None:
    """A batch from the future makes nothing that happens now a row slipped in."""
    clock.advance(ahead)
    _note(store)
    audit_seal.seal_new(store)
    clock.advance(-ahead)
    _note(store)
    assert audit_seal.verify(store) == Verdict(1, 1, None)
    assert audit_seal.seal_new(store) == 1
    clock.advance(timedelta(hours=3))
    _note(store)
    assert audit_seal.seal_new(store) == 1
    assert audit_seal.verify(store) == Verdict(3, 0, None)


def test_the_newest_batches_cut_off_are_found_by_a_head(sealed: Store) -> None:
    exported = audit_seal.head(sealed)
    from_here = _ids(sealed)[2 * ROWS]
    with sealed.database.write() as transaction:
        transaction.execute(delete(AuditEntry).where(AuditEntry.id >= from_here))
        transaction.execute(delete(AuditLink).where(AuditLink.audit_id >= from_here))
        transaction.execute(delete(AuditBatch).where(AuditBatch.id == 3))
    assert audit_seal.verify(sealed).fault is None
    fault = audit_seal.verify(sealed, exported).fault
    assert fault is not None
    assert (fault.kind, fault.batch) == (Kind.MISSING, 3)


def test_a_trail_of_other_making_does_not_have_the_head(sealed: Store) -> None:
    other = Head(batch=2, mac="00" * 32, rows=ROWS)
    fault = audit_seal.verify(sealed, other).fault
    assert fault is not None
    assert (fault.kind, fault.batch) == (Kind.ALTERED, 2)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_row_is_sealed_when_it_is_seen_whatever_its_id(store: Store) -> None:
    """PostgreSQL gives ids before it commits: a lower one may become visible later."""
    with store.database.write() as early:
        audit.note(early, "login", store.clock(), VOICE, uuid4())
        early.flush()
        _note(store, 2)
        assert audit_seal.seal_new(store) == 2
    assert audit_seal.seal_new(store) == 1
    assert audit_seal.verify(store).fault is None
    with store.database.read() as transaction:
        batches = transaction.scalars(select(AuditLink.batch_id).order_by(AuditLink.audit_id)).all()
    assert batches == [2, 1, 1]


def test_two_sealers_at_once_seal_each_row_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_seal, "BATCH", 20)
    _note(store, 400)
    with ThreadPoolExecutor(4) as pool:
        for sealing in [pool.submit(audit_seal.seal_new, store) for _ in range(4)]:
            sealing.result()
    audit_seal.seal_new(store)
    verdict = audit_seal.verify(store)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (400, 0, None)


def test_processes_that_seal_beside_those_that_write(
    url: str, keys: KeyRing, tmp_path: Path
) -> None:
    place = Place(url, tmp_path / "keys.json")
    run_together(place, 4, _write_or_seal)
    with closing(place.open()) as store:
        audit_seal.seal_new(store)
        verdict = audit_seal.verify(store)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (2 * 100, 0, None)


def _write_or_seal(store: Store, rank: int) -> int:
    for _ in range(100):
        if rank % 2:
            _note(store)
        else:
            audit_seal.seal_new(store)
    return rank


def test_a_sealer_that_is_killed_leaves_a_trail_that_is_right(
    url: str, keys: KeyRing, tmp_path: Path
) -> None:
    place = Place(url, tmp_path / "keys.json")
    with closing(place.open()) as store:
        _note(store, 3000)
        for _ in range(4):
            process = multiprocessing.get_context("fork").Process(
                target=_seal_slowly, args=(place,)
            )
            process.start()
            time.sleep(0.3)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            assert audit_seal.verify(store).fault is None
        audit_seal.seal_new(store)
        verdict = audit_seal.verify(store)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (3000, 0, None)


def _seal_slowly(place: Place) -> None:
    audit_seal.BATCH = 20
    with closing(place.open()) as store:
        audit_seal.seal_new(store)


def _age(store: Store, clock: FakeClock) -> None:
    """Write and seal five rows on each of three days, the first of them old enough to go."""
    for day in range(3):
        if day:
            clock.advance(timedelta(days=1))
        _note(store, ROWS)
        audit_seal.seal_new(store)
    clock.advance(timedelta(days=AUDIT_DAYS - 1))


def test_whole_days_of_more_than_12_months_go_and_the_rest_is_still_proven(
    store: Store, clock: FakeClock
) -> None:
    _age(store, clock)
    exported = audit_seal.head(store)
    assert audit_seal.purge(store, AUDIT_DAYS) == ROWS
    assert len(_ids(store)) == 2 * ROWS
    verdict = audit_seal.verify(store, exported)
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (2 * ROWS, 0, None)
    assert audit_seal.purge(store, AUDIT_DAYS) == 0
    clock.advance(timedelta(days=1))
    assert audit_seal.purge(store, AUDIT_DAYS) == ROWS
    _note(store, ROWS)
    audit_seal.seal_new(store)
    assert audit_seal.verify(store, exported).fault is None


def test_a_batch_sealed_by_a_wrong_clock_goes_in_its_turn(store: Store, clock: FakeClock) -> None:
    """As by a machine that starts in 1970: it is not older than the one before it."""
    today = clock.now
    for now in (today, datetime(1970, 1, 1, tzinfo=UTC), today):
        clock.now = now
        _note(store)
        assert audit_seal.seal_new(store) == 1
    assert audit_seal.purge(store, AUDIT_DAYS) == 0
    assert audit_seal.verify(store) == Verdict(3, 0, None)
    clock.advance(timedelta(days=AUDIT_DAYS + 1))
    assert audit_seal.purge(store, AUDIT_DAYS) == 3
    assert audit_seal.verify(store) == Verdict(0, 0, None)


def test_a_thief_s_own_purge_is_named(store: Store, clock: FakeClock) -> None:
    """Nobody without the key ring can sign a checkpoint."""
    _age(store, clock)
    first = delete(AuditBatch).where(AuditBatch.id == 1)
    execute(store, lambda t: t.execute(delete(AuditLink).where(AuditLink.batch_id == 1)))
    execute(store, lambda t: t.execute(first))
    fault = audit_seal.verify(store).fault
    assert fault is not None
    assert (fault.kind, fault.batch) == (Kind.MISSING, 1)
    forged = update(AuditBatch).where(AuditBatch.id == 2).values(checkpoint=bytes(32))
    execute(store, lambda t: t.execute(forged))
    fault = audit_seal.verify(store).fault
    assert fault is not None
    assert (fault.kind, fault.batch) == (Kind.ALTERED, 2)


def test_a_purge_in_the_middle_of_a_verification_is_no_fault(
    store: Store, clock: FakeClock
) -> None:
    def purge(_done: int, _total: int) -> None:
        audit_seal.purge(store, AUDIT_DAYS)

    _age(store, clock)
    verdict = audit_seal.verify(store, report=purge)
    assert verdict == Verdict(2 * ROWS, 0, None)


def test_tidying_purges_where_there_is_no_role_for_it(store: Store, clock: FakeClock) -> None:
    _age(store, clock)
    tidy(store)
    with store.database.read() as transaction:
        left = transaction.scalar(select(func.count()).select_from(AuditEntry))
    assert left == (2 * ROWS if store.database.sqlite else 3 * ROWS)


def test_a_service_seals_in_the_background(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SEAL_SECONDS", 0.01)
    _note(store, ROWS)
    until = time.monotonic() + 60
    with service.housekeeping(store):
        while audit_seal.head(store) is None:
            assert time.monotonic() < until, "nothing was sealed"
            time.sleep(0.01)
    assert audit_seal.verify(store).rows == ROWS
