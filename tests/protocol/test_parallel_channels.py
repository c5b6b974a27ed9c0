"""Guessing by telephone and on the web at once: both channels share one limit (D05).

Real calls and real requests; those who guess have a server each, in a process of its own.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from threading import Semaphore
from urllib.parse import urlsplit

import pytest
from sqlalchemy import ColumnExpressionArgument, func, select

from ivr.simulated import HANG_UP, Ending, SimulatedCall
from shared.client import ApiError, Asker, StoreClient
from shared.credentials import Refusal
from shared.keyring import KeyRing
from shared.models import Base, LoginSession, ThrottleHit
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.throttles import Bucket
from tests import api, telephony
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, OWNER, CountingHasher, FakeClock, add_account, log_in
from tests.telephony import WRONG, script_with_silence

TRIES = 200
BY_VOICE, BY_WEB = 2, 2  # processes
OF_A_PROCESS = TRIES // (BY_VOICE + BY_WEB)
OF_A_CALL = 2  # passwords tried; a third would be the call's last (D05)
THREADS = 10
LIMIT = 5  # D05: failures a day, from unknown callers and clients
END_SECONDS = 150.0
BEFORE_THE_BASCULE = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)  # the number opens on the web (R17)


@dataclass(frozen=True)
class Report:
    """What the tries of one process came to."""

    refused: int  # as callers heard it, or as the web stack was answered
    compared: int
    pretended: int


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    place = Place(url, keys)
    with closing(place.open()) as store:
        add_account(store)
    return place


@pytest.mark.timeout(240)
def test_two_hundred_tries_half_by_voice_and_half_by_web_get_five_comparisons(place: Place) -> None:
    reports = run_together(place, BY_VOICE + BY_WEB, _guess)

    assert [report.refused for report in reports] == [OF_A_PROCESS] * len(reports)
    assert sum(report.compared for report in reports) == LIMIT
    assert sum(report.pretended for report in reports) == TRIES - LIMIT
    with closing(place.open()) as store:
        _before_the_bascule(store)
        assert _hits(store) == TRIES
        assert _hits(store, ThrottleHit.counted) == LIMIT
        assert _count(store, LoginSession) == 0
        assert log_in(store) is Refusal.REFUSED
        assert isinstance(log_in(store, caller_id=OWNER), Session)


def _guess(store: Store, rank: int) -> Report:
    _before_the_bascule(store)
    guess = _guess_by_voice if rank < BY_VOICE else _guess_by_web
    refused = guess(store, rank)
    assert isinstance(store.hasher, CountingHasher)
    return Report(refused, store.hasher.compared, store.hasher.pretended)


def _guess_by_voice(store: Store, rank: int) -> int:
    """Have strangers call and try; give how often they heard that it was refused."""

    def call(number: int) -> int:
        caller, wrong = f"01990{rank}{number:04}", f"{rank}{number:06}"
        groups = [CAISSE, NUMBER, *(f"{wrong}{n}" for n in range(OF_A_CALL)), HANG_UP]
        with SimulatedCall(server.address, caller=caller, groups=groups) as placed:
            assert placed.wait_end(END_SECONDS) is Ending.CALLER
        return placed.heard.count("identification-refusee")

    with (
        telephony.running(store, script_with_silence()) as server,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        return sum(pool.map(call, range(OF_A_PROCESS // OF_A_CALL)))


def _guess_by_web(store: Store, rank: int) -> int:
    """Try from as many addresses; give how often the answer was that it is refused."""
    with api.running(store) as served, ThreadPoolExecutor(THREADS) as pool:
        client = StoreClient(served.url, served.key)

        def ask(number: int) -> str:
            asker = Asker(CAISSE, NUMBER, f"192.0.{rank}.{number}")
            with pytest.raises(ApiError) as refused:
                client.log_in(asker, Secret(f"{rank}{number:07}"))
            return refused.value.kind

        return sum(kind.endswith(":login-refused") for kind in pool.map(ask, range(OF_A_PROCESS)))


Sender = Callable[[int], Callable[[], object]]
"""Sends a wrong password as the stranger of that number; gives how this one hangs up."""


@contextmanager
def _strangers_by_voice(store: Store) -> Iterator[Sender]:
    with telephony.running(store, script_with_silence()) as server:

        def send(number: int) -> Callable[[], object]:
            caller, groups = f"01990{number:05}", [CAISSE, NUMBER, WRONG]
            return SimulatedCall(server.address, caller=caller, groups=groups).hang_up

        yield send


@contextmanager
def _strangers_by_web(store: Store) -> Iterator[Sender]:
    with api.running(store) as served:

        def send(number: int) -> Callable[[], object]:
            asked = api.LOGIN | {"password": WRONG, "client": f"192.0.2.{number}"}
            headers = {
                "Authorization": f"Bearer {served.key.reveal()}",
                "Idempotency-Key": f"{number:016}",
                "Content-Type": "application/json",
            }
            connection = HTTPConnection(urlsplit(served.url).netloc, timeout=END_SECONDS)
            connection.request("POST", "/v1/logins", json.dumps(asked), headers)
            return connection.close

        yield send


@pytest.mark.parametrize(
    "strangers", [_strangers_by_voice, _strangers_by_web], ids=["voice", "web"]
)
def test_who_hangs_up_while_the_password_is_compared_is_counted(
    store: Store,
    hasher: CountingHasher,
    strangers: Callable[[Store], AbstractContextManager[Sender]],
) -> None:
    """Five of them are all that strangers have in a day."""
    _before_the_bascule(store)
    add_account(store)
    comparing, gone = Semaphore(0), Semaphore(0)

    def wait_for_the_hang_up() -> None:
        comparing.release()
        assert gone.acquire(timeout=END_SECONDS)

    hasher.meanwhile = wait_for_the_hang_up
    with strangers(store) as send:
        for number in range(LIMIT):
            hang_up = send(number)
            assert comparing.acquire(timeout=END_SECONDS)
            hang_up()
            gone.release()
    hasher.meanwhile = lambda: None
    assert (hasher.compared, hasher.pretended) == (LIMIT, 0)
    assert _hits(store, ThrottleHit.counted) == LIMIT
    assert log_in(store) is Refusal.REFUSED
    assert isinstance(log_in(store, caller_id=OWNER), Session)


def _before_the_bascule(store: Store) -> None:
    """Go back to the days when the number logged in on the web too."""
    assert isinstance(store.clock, FakeClock)
    store.clock.now = BEFORE_THE_BASCULE


def _hits(store: Store, *criteria: ColumnExpressionArgument[bool]) -> int:
    """Count the attempts of strangers on the account."""
    return _count(store, ThrottleHit, ThrottleHit.bucket == Bucket.ACCOUNT, *criteria)


def _count(store: Store, table: type[Base], *criteria: ColumnExpressionArgument[bool]) -> int:
    with store.database.read() as transaction:
        counted = select(func.count()).select_from(table).where(*criteria)
        return transaction.scalar(counted) or 0
