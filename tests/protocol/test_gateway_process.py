"""`svi gateway` as a supervisor runs it: a process of its own, probed, used and stopped."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from shared.models import MessageState
from shared.secret import Secret
from shared.store import Store
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import IN_GROUPS, LONG, MOBILE, PASSWORD, attempts, message, queue, until
from tests.peers.fake_twilio import fake_twilio

SVI = str(Path(sys.executable).with_name("svi"))
TOKEN = Secret("0123456789abcdef0123456789abcdef")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation whose Twilio is out of reach."""
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": f"AC{1:032}", "auth_token": TOKEN.reveal()}))
    account.chmod(0o600)
    changes = {
        "SVI_HOME": str(tmp_path),
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_API_PORT": str(free_port()),
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_TWILIO_ACCOUNT": str(account),
        "SVI_TWILIO_URL": f"http://127.0.0.1:{free_port()}",
    }
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return os.environ | changes


@pytest.fixture
def store(environment: dict[str, str]) -> Iterator[Store]:
    prepare_home(Settings())
    with open_store(Settings()) as store:
        yield store


@contextmanager
def gateway(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SVI, "gateway"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ready(environment: dict[str, str]) -> bool:
    try:
        url = f"http://127.0.0.1:{environment['SVI_GATEWAY_PORT']}/readyz"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


async def test_it_works_until_it_is_told_to_stop(environment: dict[str, str], store: Store) -> None:
    """A provider out of reach is no fault of ours: the message waits."""
    queued = queue(store)
    with gateway(environment) as process:
        await until(lambda: ready(environment))
        await until(lambda: message(store, queued).failures)
        process.terminate()
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out, err) == (0, "ready\n", "")
    assert message(store, queued).state == MessageState.QUEUED
    assert {attempt.code for attempt in attempts(store, queued)} == {"unreachable"}
    log = (Settings().logs / "gateway.log").read_text()
    assert "message_attempted" in log
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS, TOKEN.reveal()):
        assert personal not in log


async def test_metrics_are_on_a_port_of_their_own(
    environment: dict[str, str], store: Store
) -> None:
    port = str(free_port())
    with gateway(environment | {"SVI_METRICS_PORT": port}) as process:
        await until(lambda: ready(environment), 20)
        assert "svi_database_up 1.0" in metrics(port)
        assert 'svi_dispatcher_working{provider="twilio"} 1.0' in metrics(port)
        for public in ("SVI_GATEWAY_PORT", "SVI_API_PORT"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                metrics(environment[public])
        process.terminate()
        assert await ended(process) == ("ready\n", "")


def metrics(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_alone_it_makes_its_own_home(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "new"
    with gateway(environment | {"SVI_HOME": str(home)}) as process:
        await until(lambda: ready(environment))
        process.terminate()
        assert await ended(process) == ("ready\n", "")
    assert process.returncode == 0
    assert {"keys.json", "logs", "svi.db"} <= {path.name for path in home.iterdir()}


def test_a_port_in_use_refuses_the_start_on_one_line(
    environment: dict[str, str], store: Store
) -> None:
    with (
        socket.create_server(("127.0.0.1", int(environment["SVI_GATEWAY_PORT"]))),
        gateway(environment) as process,
    ):
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "address already in use" in err


async def test_what_went_out_is_left_nowhere(environment: dict[str, str], store: Store) -> None:
    """D12, D16: no file, log, argument or variable of the process holds it."""
    async with fake_twilio() as fake:
        reach = environment | {"SVI_TWILIO_URL": fake.url}
        with gateway(reach) as process:
            queued = queue(store)
            await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
            folder = Path("/proc", str(process.pid))
            around = [(folder / name).read_bytes() for name in ("cmdline", "environ")]
            process.terminate()
            around += [text.encode() for text in await ended(process)]
    [sent], [taken] = fake.asked, fake.taken
    assert IN_GROUPS in sent["Body"]
    secret_files = {Path(environment["SVI_TWILIO_ACCOUNT"]), Settings().keys}
    files = {path for path in Settings().home.rglob("*") if path.is_file()} - secret_files
    written = b"".join(path.read_bytes() for path in sorted(files))
    assert {"svi.db", "svi.db-wal", "gateway.log"} <= {path.name for path in files}
    assert taken["sid"].encode() in written  # the search does find things
    for personal in (PASSWORD, IN_GROUPS, MOBILE[3:], TOKEN.reveal()):
        assert personal.encode() not in b"".join([written, *around])


async def test_a_full_disk_loses_nothing_and_sends_nothing_twice(
    environment: dict[str, str], store: Store
) -> None:
    """It fills between Twilio's yes and our keeping it; the gateway goes on when there is room."""
    async with fake_twilio() as fake:
        with gateway(environment | {"SVI_TWILIO_URL": fake.url}) as process:

            async def take_and_fill_the_disk(request: web.Request) -> web.StreamResponse:
                fake.temper = None
                let_files_grow(process, 0)
                return web.json_response(fake.take(fake.asked[-1]), status=201)

            fake.temper = take_and_fill_the_disk
            await until(lambda: ready(environment))
            first = queue(store)
            await until(lambda: not ready(environment))
            second = queue(store)
            await asyncio.sleep(1)
            assert [message(store, one).state for one in (first, second)] == [
                MessageState.SENDING,
                MessageState.QUEUED,
            ]
            let_files_grow(process, resource.RLIM_INFINITY)
            for queued in (first, second):
                await until(lambda: message(store, queued).state == MessageState.ACCEPTED)  # noqa: B023
            await until(lambda: ready(environment))
            process.terminate()
            _, err = await ended(process)
    assert len(fake.asked) == 2
    warnings = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in warnings] == ["store_away", "store_back"]
    assert all(line in (Settings().logs / "gateway.log").read_text() for line in err.splitlines())


def let_files_grow(process: subprocess.Popen[str], most: int) -> None:
    """Let no file that a process writes grow beyond a size: as a full disk would."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


async def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process, while others in the loop go on; give what it printed."""
    return await asyncio.to_thread(process.communicate, timeout=LONG)
