"""Guessing in parallel: however many try at once, the limit is the limit (design idea 4)."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.credentials import Refusal
from shared.database import Database
from shared.keyring import KeyRing
from shared.models import ThrottleHit
from shared.rules import Argon2
from shared.sessions import Session
from shared.store import Store
from shared.throttles import Bucket
from tests.store import OWNER, PASSWORD, CountingHasher, FakeClock, add_account, cheap_rules, log_in

PROCESSES = 4
THREADS = 10
TRIES = 200
LIMIT = 5  # D05: failures a day, from unknown callers

# Dear enough that every thread is in the middle of a computation when others reserve.
COSTS = Argon2(memory_kib=1024, passes=1, lanes=1)


@dataclass(frozen=True)
class Place:
    """Where another process finds the store."""

    url: str
    keys: Path

    def open(self) -> Store:
        return Store(
            Database(self.url),
            KeyRing.load(self.keys),
            cheap_rules(),
            CountingHasher(COSTS),
            FakeClock(),
        )


@dataclass(frozen=True)
class Report:
    """What the tries of one process came to."""

    compared: int
    pretended: int
    opened: int


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    place = Place(url, keys)
    with closing(place.open()) as store:
        add_account(store)
    return place


def test_two_hundred_parallel_tries_get_five_comparisons(place: Place) -> None:
    """Wrong tries first, the right password among the later ones, all from different callers."""
    reports = _guess_in_parallel(place)

    assert sum(report.compared for report in reports) == LIMIT
    assert sum(report.pretended for report in reports) == TRIES - LIMIT
    assert sum(report.opened for report in reports) == 0
    with closing(place.open()) as store:
        assert _counted(store) == LIMIT
        assert log_in(store) is Refusal.REFUSED
        assert isinstance(log_in(store, caller_id=OWNER), Session)


def _counted(store: Store) -> int:
    with store.database.read() as transaction:
        return (
            transaction.scalar(
                select(func.count()).where(
                    ThrottleHit.bucket == Bucket.ACCOUNT, ThrottleHit.counted
                )
            )
            or 0
        )


def _guess_in_parallel(place: Place) -> list[Report]:
    """Try in several processes that start together; give what each of them did."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(PROCESSES)
    ends = [context.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [
        context.Process(target=_guess, args=(place, rank, start, sending))
        for rank, (_, sending) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    try:
        return [_received(receiving) for receiving, _ in ends]
    finally:
        for process in processes:
            process.join()


def _guess(place: Place, rank: int, start: Barrier, report: Connection) -> None:
    tries = range(rank, TRIES, PROCESSES)
    with closing(place.open()) as store, ThreadPoolExecutor(THREADS) as pool:
        start.wait()
        outcomes = list(pool.map(lambda number: _try(store, number), tries))
        assert isinstance(store.hasher, CountingHasher)
        report.send(
            Report(
                store.hasher.compared,
                store.hasher.pretended,
                sum(isinstance(outcome, Session) for outcome in outcomes),
            )
        )


def _try(store: Store, number: int) -> Session | Refusal:
    # Every tenth of the later half is right: by then the account is locked.
    right = number >= TRIES // 2 and number % 10 == 0
    typed = PASSWORD if right else f"{number:08}"
    return log_in(store, typed, caller_id=f"+3319900{number:04}")


def _received(receiving: Connection) -> Report:
    assert receiving.poll(60), "a process never reported"
    report: Report = receiving.recv()
    return report
