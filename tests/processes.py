"""Several processes on one store, that start together (design idea 4)."""

import multiprocessing
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeVar

from shared.database import Database
from shared.keyring import KeyRing
from shared.rules import Argon2
from shared.store import Store
from tests.store import CountingHasher, FakeClock, cheap_rules

T = TypeVar("T")

SECONDS = 180  # for all of them to report

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


def run_together(place: Place, count: int, work: Callable[[Store, int], T]) -> list[T]:
    """Do `work(store, rank)` in so many processes that start together; give what each reports."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count)
    ends = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_report, args=(place, rank, start, sending, work))
        for rank, (_, sending) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    try:
        return [_received(receiving) for receiving, _ in ends]
    finally:
        for process in processes:
            process.join()


def _report(
    place: Place, rank: int, start: Barrier, report: Connection, work: Callable[[Store, int], T]
) -> None:
    with closing(place.open()) as store:
        start.wait()
        report.send(work(store, rank))


def _received(receiving: Connection) -> Any:
    assert receiving.poll(SECONDS), "a process never reported"
    return receiving.recv()
