"""kill -9 of gateways, database and providers: nothing is lost, nothing repeated but by D19."""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from shared.keyring import KeyRing
from shared.models import Message, MessageState
from shared.rules import load_rules
from shared.store import Store
from sms.templates import Templates
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.acceptance.killing import (
    Backend,
    Installation,
    Kind,
    all_ended,
    answer_for,
    installation,
    patiently,
    rules_with_short_waits,
)
from tests.acceptance.machine import wait_until
from tests.gateway import (
    ACCEPTED,
    FAST,
    MoodyProvider,
    answers,
    dispatching,
    queued_message,
    until,
)
from tests.postgresql import PostgresqlServer

FINAL_SECONDS = 300.0
MOST_SECONDS_TO_LIVE = 0.05
MOST_SECONDS_AWAY = 0.5


@dataclass(frozen=True)
class Campaign:
    """How often something is killed, with how many messages to send."""

    kills: int
    messages: int


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    return Campaign(200, 5000) if request.config.getoption("--soak") else Campaign(8, 160)


@pytest.fixture
def chance() -> random.Random:
    """Shown when a test fails; SOAK_SEED kills in the same order again."""
    seed = os.environ.get("SOAK_SEED") or str(random.randrange(1_000_000))  # noqa: S311
    print(f"SOAK_SEED={seed}")  # noqa: T201
    return random.Random(seed)  # noqa: S311


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_RULES", str(rules_with_short_waits(tmp_path)))
    return tmp_path


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    """One that no other test has anything on."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.mark.timeout(3600)
def test_four_gateways_on_postgresql(
    home: Path,
    server: PostgresqlServer,
    campaign: Campaign,
    chance: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SVI_DATABASE_URL", server.url(server.create()))
    prepare_home(Settings())
    with (
        open_store(Settings()) as store,
        installation(home, ["twilio", "smpp", "twilio", "smpp"]) as running,
    ):
        kinds: Sequence[Kind] = [running.gateways, running.providers, [Backend(server)], [server]]
        kill(store, running, kinds, campaign, chance)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let `make soak` have more ways than `make test` has the time for."""
    if "provider" in metafunc.fixturenames:
        soak = metafunc.config.getoption("--soak")
        metafunc.parametrize("provider", ["twilio", "smpp"] if soak else ["smpp"])


@pytest.mark.timeout(3600)
def test_one_gateway_on_sqlite(
    home: Path, campaign: Campaign, chance: random.Random, provider: str
) -> None:
    """Its database dies with it."""
    prepare_home(Settings())
    with open_store(Settings()) as store, installation(home, [provider]) as running:
        kill(store, running, [running.gateways, running.providers], campaign, chance)


def kill(
    store: Store,
    running: Installation,
    kinds: Sequence[Kind],
    campaign: Campaign,
    chance: random.Random,
) -> None:
    """Kill one of each kind in turn, at any moment while messages go out; all of them end."""
    said: dict[UUID, tuple[str, str]] = {}
    share, under_way = campaign.messages // campaign.kills, 0
    for rank in range(campaign.kills):
        before = running.written()
        patiently(lambda: said.update(queue_next(store, len(said), share)), FINAL_SECONDS)
        gone = before + chance.randrange(share // 2)  # then others are under way
        wait_until(lambda: at_work(running, gone), FINAL_SECONDS)  # noqa: B023
        victim = chance.choice(kinds[rank % len(kinds)])
        time.sleep(chance.uniform(0, MOST_SECONDS_TO_LIVE))
        under_way += sending(store)
        victim.kill()
        time.sleep(chance.uniform(0, MOST_SECONDS_AWAY))
        victim.start()
    running.supervise()
    wait_until(lambda: all_ended(store), FINAL_SECONDS)
    found = answer_for(store, running.taken(), said)
    print(found)  # noqa: T201
    assert found.messages == campaign.messages
    assert under_way > 0, "nothing was put to the test"


def sending(store: Store) -> int:
    count = select(func.count()).where(Message.state == MessageState.SENDING)
    with store.database.read() as transaction:
        return transaction.scalar(count) or 0


def at_work(running: Installation, before: int) -> bool:
    """Say whether messages go out again since the last kill."""
    running.supervise()
    return running.written() > before


def queue_next(store: Store, rank: int, count: int) -> dict[UUID, tuple[str, str]]:
    """Queue messages like no others, all at once; give what is to be said to whom."""
    render, queued = Templates.load().render, dict[UUID, tuple[str, str]]()
    with store.database.write() as transaction:
        for one in range(rank, rank + count):
            password, destination = f"{one:08}", f"+336{one:04}1111"
            waiting = queued_message(store, password, destination=destination)
            transaction.add(waiting)
            queued[waiting.id] = destination, render("password", {"password": password}).text
    return queued


async def test_a_database_that_is_killed_and_comes_back_loses_nothing(
    tmp_path: Path, server: PostgresqlServer
) -> None:
    """In the middle of sends: what was accepted meanwhile is kept, and not sent again."""
    KeyRing.create(tmp_path / "keys.json")
    url = server.url(server.create())
    with closing(Store.open(url, tmp_path / "keys.json", load_rules())) as store:
        store.database.migrate()
        texts = {text for _, text in queue_next(store, 0, 40).values()}
        provider = MoodyProvider(*[answers(ACCEPTED, 0.3)] * 40)
        async with dispatching(store, provider, replace(FAST, at_once=8)) as dispatcher:
            await until(lambda: len(provider.asked) == 16)
            await asyncio.to_thread(server.kill)
            await until(lambda: not dispatcher.working)
            await asyncio.to_thread(server.start)
            await until(lambda: len(provider.asked) >= 40, 20)
            await until(lambda: all_ended(store), 20)
    assert sorted(sent.text.reveal() for sent in provider.asked) == sorted(texts)
