"""A disk that is full: nothing is lost or sent twice, and all goes on by itself with more room.

A real one, of a few megabytes: a limit of a process's own (tests/protocol/test_gateway_process.py)
is told as another error.
"""

import asyncio
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web

from shared.errors import StoreDownError
from shared.models import MessageState
from shared.store import Store
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.acceptance.killing import SVI
from tests.gateway import attempts, message, queue, until
from tests.peers.fake_twilio import ACCOUNT_SID, TOKEN, FakeTwilio, fake_twilio
from tests.peers.npm import free_port

SECONDS = 60.0


class Disk:
    """A small one, that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filling = folder / "filling"

    def fill(self) -> None:
        with self._filling.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:  # then smaller pieces
                    continue

    def empty(self) -> None:
        self._filling.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "svi-test", folder], check=True)
    yield Disk(folder)
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def home(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On the small disk, with all that a gateway writes."""
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": ACCOUNT_SID, "auth_token": TOKEN}))
    account.chmod(0o600)
    changes = {
        "SVI_HOME": str(disk.folder),
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_API_PORT": "0",
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_TWILIO_ACCOUNT": str(account),
    }
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return disk.folder


@pytest.fixture
def only_logs_at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database and the keys have a disk of their own."""
    monkeypatch.setenv("SVI_DATABASE_URL", f"sqlite:///{tmp_path / 'svi.db'}")
    monkeypatch.setenv("SVI_KEYS", str(tmp_path / "keys.json"))


@pytest.fixture
async def twilio(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeTwilio]:
    async with fake_twilio() as fake:
        monkeypatch.setenv("SVI_TWILIO_URL", fake.url)
        yield fake


@asynccontextmanager
async def gateway() -> AsyncIterator[Store]:
    """Run one beside the block, which stops in order; gives its store."""
    prepare_home(Settings())
    process = await asyncio.create_subprocess_exec(SVI, "gateway", stderr=subprocess.DEVNULL)
    try:
        with open_store(Settings()) as store:
            await until(ready, SECONDS)
            yield store
            process.terminate()
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def ready() -> bool:
    url = f"http://127.0.0.1:{os.environ['SVI_GATEWAY_PORT']}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def queued_until_refused(store: Store) -> Iterator[UUID]:
    """Queue messages as long as the database has a little room of its own."""
    with suppress(StoreDownError):
        while True:
            yield queue(store)


async def accepted(store: Store, ids: list[UUID]) -> None:
    for one in ids:
        await until(lambda: message(store, one).state == MessageState.ACCEPTED, SECONDS)  # noqa: B023


def log() -> list[str]:
    """Give what was logged; every line is whole."""
    lines = (Settings().logs / "gateway.log").read_text("utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines]


@pytest.mark.usefixtures("home")
async def test_the_disk_of_everything(disk: Disk, twilio: FakeTwilio) -> None:
    """It fills while Twilio takes messages, so that nothing can be kept of its yes."""
    full = asyncio.Event()

    async def take_when_it_is_full(request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        await full.wait()
        return web.json_response(twilio.take(form), status=201)

    async with gateway() as store:
        twilio.temper = take_when_it_is_full
        ids = [queue(store) for _ in range(5)]
        await until(lambda: len(twilio.asked) == 5, SECONDS)
        disk.fill()
        ids += queued_until_refused(store)
        full.set()
        await until(lambda: not ready(), SECONDS)
        taken = len(twilio.asked)
        await asyncio.sleep(1)
        assert len(twilio.asked) == taken, "without a committed attempt nobody is asked"
        twilio.temper = None
        disk.empty()
        await accepted(store, ids)
        await until(ready, SECONDS)
        ids.append(queue(store))
        await accepted(store, ids)
        assert all(len(attempts(store, one)) == 1 for one in ids)
    assert len(twilio.taken) == len(ids)
    assert log().count("store_back") >= 1


@pytest.mark.usefixtures("only_logs_at_home")
async def test_the_disk_of_the_logs(disk: Disk, twilio: FakeTwilio) -> None:
    """What can't be logged leaves all the same."""
    async with gateway() as store:
        disk.fill()
        # More than a buffer holds.
        ids = [queue(store) for _ in range(100)]
        await accepted(store, ids)
        assert ready()
        disk.empty()
        ids.append(queue(store))
        await accepted(store, ids)
    assert len(twilio.taken) == len(ids)
    assert "message_attempted" in log()[-3:]


@pytest.mark.usefixtures("only_logs_at_home")
async def test_the_disk_of_the_demonstration(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages go into a file: each whole, and once."""
    monkeypatch.setenv("SVI_DEMO", "1")
    async with gateway() as store:
        ids = [queue(store)]
        await accepted(store, ids)
        disk.fill()
        # Its last page takes some more, and a part of one.
        ids += [queue(store) for _ in range(40)]
        await until(lambda: sum(message(store, one).failures > 0 for one in ids) > 10, SECONDS)
        disk.empty()
        await accepted(store, ids)
        tried = [attempt.code for one in ids for attempt in attempts(store, one)]
    lines = Settings().messages.read_text("utf-8").splitlines()
    assert len({json.loads(line)["attempt"] for line in lines}) == len(lines) == len(ids)
    assert set(tried) == {"ENOSPC", ""}
