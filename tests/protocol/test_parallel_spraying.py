"""One password tried on every dossier, by several processes at once (D05).

The alarm sounds, the breaker opens, nobody is locked out.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from shared.credentials import Refusal
from shared.keyring import KeyRing
from shared.models import ChannelHour
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from shared.throttles import USUAL_DAYS
from tests.processes import Place, run_together
from tests.store import CountingHasher, FakeClock, add_account, execute, log_in, with_rules

PROCESSES = 3
THREADS = 5
DOSSIERS = 99
SPRAYED = "11223344"
USUAL = 2  # failures in each hour of the days before
ALARM, BREAKER = 10, 60  # failures in an hour, and in a day, that they take at least
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Report:
    """What the tries of one process came to."""

    compared: int
    opened: int
    alarms: int


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    return Place(url, keys)


@pytest.fixture
def shop(place: Place) -> Iterator[Store]:
    """The store of this process, with dossiers and their usual failures."""
    with closing(place.open()) as store:
        for rank in range(DOSSIERS):
            add_account(store, number(rank), mobile=telephone(rank))
        _add_usual_failures(store)
        yield limited(store)


def test_spraying_trips_alarm_and_breaker_and_locks_nobody(place: Place, shop: Store) -> None:
    reports = run_together(place, PROCESSES, _spray)

    # Nobody waits for the others of the channel: who reserves as it opens may still be let through.
    compared = sum(report.compared for report in reports)
    assert BREAKER - USUAL <= compared < BREAKER + PROCESSES * THREADS
    assert sum(report.opened for report in reports) == 0
    assert sum(report.alarms for report in reports) == 1
    assert log_in(shop, number=number(0)) is Refusal.REFUSED  # a stranger, with the right password
    for rank in range(DOSSIERS):
        on_file = log_in(shop, number=number(rank), caller_id=telephone(rank))
        assert isinstance(on_file, Session)
    assert isinstance(shop.clock, FakeClock)
    shop.clock.advance(HOUR)
    for rank in range(DOSSIERS):
        stranger = log_in(shop, number=number(rank), caller_id=f"+3317700{rank:04}")
        assert isinstance(stranger, Session)


def number(rank: int) -> str:
    return f"00000{rank:02}"


def telephone(rank: int) -> str:
    return f"+336000000{rank:02}"


def limited(store: Store) -> Store:
    return with_rules(store, alarm_minimum=ALARM, breaker_minimum=BREAKER)


def _spray(store: Store, rank: int) -> Report:
    store = limited(store)

    def spray(dossier: int) -> object:
        return log_in(store, SPRAYED, number=number(dossier), caller_id=f"+3318800{dossier:04}")

    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(spray, range(rank, DOSSIERS, PROCESSES)))
    assert isinstance(store.hasher, CountingHasher)
    return Report(
        store.hasher.compared,
        sum(outcome is not Refusal.REFUSED for outcome in outcomes),
        sum(entry["event"] == "login_failures_alarm" for entry in logs),
    )


def _add_usual_failures(store: Store) -> None:
    """Give this hour and the next one a usual number of failures, on each of the days before."""
    this_hour = store.clock().replace(minute=0)
    hours = [
        ChannelHour(
            channel=Channel.VOICE,
            hour=hour - timedelta(days=day),
            attempts=100,
            failures=USUAL,
            alarmed=False,
        )
        for hour in (this_hour, this_hour + HOUR)
        for day in range(1, USUAL_DAYS + 1)
    ]
    execute(store, lambda transaction: transaction.add_all(hours))
