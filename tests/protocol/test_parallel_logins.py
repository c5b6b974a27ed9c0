"""Guessing in parallel: however many try at once, the limit is the limit (design idea 4)."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.credentials import Expired, Refusal
from shared.keyring import KeyRing
from shared.models import ThrottleHit
from shared.sessions import Session
from shared.store import Store
from shared.throttles import Bucket
from tests.processes import Place, run_together
from tests.store import OWNER, PASSWORD, CountingHasher, add_account, log_in

PROCESSES = 4
THREADS = 10
TRIES = 200
LIMIT = 5  # D05: failures a day, from unknown callers


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
    reports = run_together(place, PROCESSES, _guess)

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


def _guess(store: Store, rank: int) -> Report:
    tries = range(rank, TRIES, PROCESSES)
    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(lambda number: _try(store, number), tries))
    assert isinstance(store.hasher, CountingHasher)
    return Report(
        store.hasher.compared,
        store.hasher.pretended,
        sum(isinstance(outcome, Session) for outcome in outcomes),
    )


def _try(store: Store, number: int) -> Session | Expired | Refusal:
    # Every tenth of the later half is right: by then the account is locked.
    right = number >= TRIES // 2 and number % 10 == 0
    typed = PASSWORD if right else f"{number:08}"
    return log_in(store, typed, caller_id=f"+3319900{number:04}")
