"""kill -9 of dispatchers and of their database: nothing is lost, nothing repeated but by D19."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from shared.keyring import KeyRing
from shared.models import Message, MessageState, SendAttempt
from shared.rules import load_rules
from shared.store import Store
from sms.templates import Templates
from tests.gateway import ACCEPTED, FAST, MoodyProvider, answers, dispatching, queue, until
from tests.loopback import ProviderServer
from tests.postgresql import PostgresqlServer

FINAL_SECONDS = 60.0
MOST_SECONDS_TO_LIVE = 0.08  # after it was seen at work


@dataclass(frozen=True)
class Campaign:
    """How often dispatchers are killed, with how many messages to send."""

    kills: int
    messages: int


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    return Campaign(50, 500) if request.config.getoption("--soak") else Campaign(10, 100)


@pytest.fixture
def real_store(url: str, tmp_path: Path) -> Iterator[Store]:
    """A store on the machine's clock, as the dispatchers' own."""
    KeyRing.create(tmp_path / "keys.json")
    store = Store.open(url, tmp_path / "keys.json", load_rules())
    yield store
    store.close()


class Dispatchers:
    """Two at a time, in processes of their own."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._running = [self._start(), self._start()]

    def kill_the_older(self) -> None:
        """Kill the one that was surely at work, and start another."""
        self._end(self._running.pop(0))
        self._running.append(self._start())

    def end(self) -> None:
        """Kill them all."""
        for process in self._running:
            self._end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.poll() is None, "a dispatcher ended by itself"
        process.kill()
        process.wait()


@contextmanager
def dispatchers(url: str, keys: Path, port: int) -> Iterator[Dispatchers]:
    command = [sys.executable, "-m", "tests.loopback", url, str(keys), str(port)]
    running = Dispatchers(command)
    try:
        yield running
    finally:
        running.end()


@pytest.mark.timeout(600)
def test_killed_dispatchers_lose_and_repeat_nothing(
    real_store: Store, url: str, tmp_path: Path, campaign: Campaign
) -> None:
    texts: dict[UUID, str] = {}
    with (
        ProviderServer() as provider,
        dispatchers(url, tmp_path / "keys.json", provider.port) as running,
    ):
        for kill in range(campaign.kills):
            asked = provider.asked
            texts |= queue_some(real_store, campaign.messages // campaign.kills, kill)
            wait_until(lambda: provider.asked > asked)  # noqa: B023
            if kill % 2:  # the others die in mid-send
                time.sleep(random.uniform(0, MOST_SECONDS_TO_LIVE))  # noqa: S311
            running.kill_the_older()
        wait_until(lambda: not unfinished(real_store))
        accepted = provider.times_accepted()

    rows = messages(real_store)
    assert len(rows) == campaign.messages
    repeated = {texts[row.id] for row in rows if row.repeated}
    assert accepted.keys() == set(texts.values())
    assert {text for text, times in accepted.items() if times > 1} <= repeated
    assert max(accepted.values()) <= 2
    # Else nothing was put to the test.
    assert cut_off(real_store) > 0
    assert repeated


async def test_a_database_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    """In the middle of sends: what was accepted meanwhile is kept, and not sent again."""
    server = PostgresqlServer()
    try:
        url = server.url(server.create())
        KeyRing.create(tmp_path / "keys.json")
        store = Store.open(url, tmp_path / "keys.json", load_rules())
        store.database.migrate()
        texts = set(queue_some(store, 40, 0).values())
        provider = MoodyProvider(*[answers(ACCEPTED, 0.3)] * 40)
        async with dispatching(store, provider, replace(FAST, at_once=8)) as dispatcher:
            await until(lambda: len(provider.asked) == 16)
            await asyncio.to_thread(server.stop)
            await until(lambda: not dispatcher.working)
            await asyncio.to_thread(server.start)
            await until(lambda: len(provider.asked) >= 40, 20)
            await until(lambda: not unfinished(store), 20)
        store.close()
    finally:
        server.remove()
    assert sorted(sent.text.reveal() for sent in provider.asked) == sorted(texts)


def queue_some(store: Store, count: int, kill: int) -> dict[UUID, str]:
    """Queue messages of different texts; give the text of each."""
    render = Templates.load().render
    passwords = [f"{kill * count + rank:08}" for rank in range(count)]
    return {
        queue(store, password): render("password", {"password": password}).text
        for password in passwords
    }


def messages(store: Store) -> list[Message]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(Message)))


def unfinished(store: Store) -> int:
    """Count the messages that will still move."""
    moving = [MessageState.QUEUED, MessageState.SENDING, MessageState.UNCERTAIN]
    count = select(func.count()).select_from(Message).where(Message.state.in_(moving))
    with store.database.read() as transaction:
        return transaction.scalar(count) or 0


def cut_off(store: Store) -> int:
    """Count the attempts that a kill ended: nobody kept their report."""
    count = select(func.count()).select_from(SendAttempt).where(SendAttempt.ended_at.is_(None))
    with store.database.read() as transaction:
        return transaction.scalar(count) or 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FINAL_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
