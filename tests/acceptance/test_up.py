"""`svi up` as one uses it: its own process, a real Asterisk, real calls; and what goes wrong."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from svi.demo import DOSSIERS
from tests.acceptance.caller import Call, HangUp, Pause, Type, WaitForEnd
from tests.acceptance.machine import free_port, wait_until
from tests.acceptance.up import SVI, Up, build_voice_of_tones

AGAIN_SECONDS = 8.0  # a start that finds everything made
FIRST = DOSSIERS[0]
LOG_IN = Type(FIRST.department + FIRST.number + FIRST.password)
DEPARTMENT = Type(FIRST.department)
A_CALL = Call([DEPARTMENT, Pause(0.5), HangUp()])
# Ten who wait for the end, and ten who may come to theirs before a stop does.
TWENTY_CALLS = [
    *[Call([WaitForEnd(30)])] * 5,
    *[Call([DEPARTMENT, WaitForEnd(30)])] * 5,
    *[Call([Pause(1 + n / 5), LOG_IN, Type("*"), WaitForEnd(30)]) for n in range(10)],
]


def control_c(process: subprocess.Popen[bytes]) -> None:
    """Do what a terminal does: every process of the group is interrupted."""
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Do what a supervisor does."""
    process.terminate()


@pytest.fixture(scope="module")
def voice_of_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prompts of every service here, made once."""
    return build_voice_of_tones(tmp_path_factory.mktemp("built"))


@pytest.fixture
def make_up(tmp_path: Path, voice_of_tones: Path) -> Iterator[Callable[..., Up]]:
    """Start services whose prompts are tones; whatever happens, they are ended."""
    with ExitStack() as stack:

        def make(name: str = "home", **fields: Any) -> Up:
            home = tmp_path / name
            shutil.copytree(voice_of_tones, home / "prompts", dirs_exist_ok=True)
            fields = {"sip_port": free_port(socket.SOCK_DGRAM)} | fields
            return stack.enter_context(Up(home, **fields))

        yield make


def test_from_nothing_to_a_call_and_again(tmp_path: Path) -> None:
    """The first start makes everything; the second one takes seconds and keeps it."""
    port = free_port(socket.SOCK_DGRAM)
    with Up(tmp_path / "new", port) as up:
        up.wait_ready(60)
        screen = up.out.read_text()
        assert f"sip:3230@127.0.0.1:{port}" in screen
        for dossier in DOSSIERS:
            assert f"{dossier.number}   {dossier.password}" in screen
        assert stat.S_IMODE((up.home / "keys.json").stat().st_mode) == 0o600
        keys = (up.home / "keys.json").read_bytes()
        [result] = up.calls(Call([Pause(1), LOG_IN, Pause(1), HangUp()]))
        assert result.ended_by == "caller"
        wait_until(lambda: [record["outcome"] for record in up.records()] == ["authenticated"])
        control_c(up.process)
        assert up.end() == (0, "")
    with Up(tmp_path / "new", port) as up:
        up.wait_ready(AGAIN_SECONDS)
        assert (up.home / "keys.json").read_bytes() == keys
        said = up.svi("call", "--keys", f"{FIRST.department} {FIRST.number} {FIRST.password} 1")
        assert "fin : authenticated" in said
        assert [record["outcome"] for record in up.records()] == ["authenticated"] * 2
        terminate(up.process)
        assert up.end() == (0, "")


def test_a_call_in_progress_is_listed_and_hung_up(make_up: Callable[..., Up]) -> None:
    up = make_up()
    up.wait_ready()
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(up.calls, Call([WaitForEnd(20)]))
        wait_until(up.live)
        up.svi("calls", "--hang-up", *up.live())
        [result] = calling.result()
    assert result.ended_by == "asterisk"
    assert "excuse-technique" not in result.heard
    wait_until(lambda: [record["outcome"] for record in up.records()] == ["abandoned"])


@pytest.mark.parametrize(
    ("command", "stop", "exit_code"),
    [
        ([SVI, "up"], control_c, 0),
        ([SVI, "up"], terminate, 0),
        # `make` ends by the signal itself, after what it started.
        (["make", "run"], control_c, -signal.SIGINT),
        (["make", "run"], terminate, -signal.SIGTERM),
    ],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C under make", "SIGTERM to make"],
)
def test_a_stop_apologises_to_callers_and_leaves_nothing(
    make_up: Callable[..., Up],
    command: list[str],
    stop: Callable[[subprocess.Popen[bytes]], None],
    exit_code: int,
) -> None:
    up = make_up(command=command)
    up.wait_ready()
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(up.calls, *TWENTY_CALLS)
        wait_until(lambda: len(up.live()) + len(up.records()) >= len(TWENTY_CALLS))
        time.sleep(1)  # Asterisk has the calls: let them reach the voice server
        stop(up.process)
        code, complaints = up.end()
        results = calling.result()
    assert code == exit_code
    assert "Traceback" not in complaints
    assert [result.ended_by for result in results] == ["asterisk"] * 20
    apologies = [result.heard[-1] == "excuse-technique" for result in results]
    goodbyes = ["au-revoir" in result.heard for result in results]
    assert [one or other for one, other in zip(apologies, goodbyes, strict=True)] == [True] * 20
    outcomes = Counter(record["outcome"] for record in up.records())
    assert outcomes["failed"] + outcomes["authenticated"] == outcomes.total() == 20
    # A stop at the very end of a call finds it done or not; then both are heard.
    assert 20 - sum(goodbyes) <= outcomes["failed"] <= sum(apologies)
    assert sum(apologies) >= 10  # those who would have waited


def test_a_stop_while_prompts_are_built_leaves_nothing(tmp_path: Path) -> None:
    with Up(tmp_path / "new", free_port(socket.SOCK_DGRAM)) as up:
        wait_until(lambda: len(list(up.home.glob("prompts/*.wav"))) > 5)
        control_c(up.process)
        assert up.end() == (0, "")
        assert "ready" not in up.out.read_text()


def test_a_stop_while_asterisk_boots_leaves_nothing(make_up: Callable[..., Up]) -> None:
    up = make_up()
    wait_until(up.asterisk)
    terminate(up.process)
    assert up.end() == (0, "")
    assert "ready" not in up.out.read_text()


def test_killed_it_takes_asterisk_along_and_starts_again(make_up: Callable[..., Up]) -> None:
    up = make_up()
    up.wait_ready()
    assert up.asterisk()
    up.process.kill()
    wait_until(lambda: up.processes() == set())
    again = make_up(sip_port=up.sip_port)
    again.wait_ready(AGAIN_SECONDS)
    [result] = again.calls(A_CALL)
    assert result.heard[-1] == "numero"


def test_asterisk_that_dies_ends_the_service(make_up: Callable[..., Up]) -> None:
    """A supervisor is to start it again."""
    up = make_up()
    up.wait_ready()
    os.kill(up.asterisk(), signal.SIGKILL)
    code, complaint = up.end()
    assert code == 1
    last_line = complaint.splitlines()[-1]
    assert last_line.startswith("Erreur : Asterisk s'est arrêté de lui-même ; voir ")
    assert "Traceback" not in complaint


def test_two_side_by_side_know_nothing_of_each_other(make_up: Callable[..., Up]) -> None:
    both = make_up("one"), make_up("two")
    for up in both:
        up.wait_ready()
    both[0].calls(A_CALL)
    wait_until(lambda: [len(up.records()) for up in both] == [1, 0])
    terminate(both[0].process)
    both[0].end()
    [result] = both[1].calls(A_CALL)
    assert result.heard[-1] == "numero"


def refused(up: Up) -> str:
    """Give the one line that tells why a start is refused."""
    code = up.process.wait(20)
    complaint = up.err.read_text()
    assert code == 1, complaint
    assert "ready" not in up.out.read_text()
    assert complaint.count("\n") == 1
    return complaint


def test_a_home_or_a_port_in_use_refuses_the_start(make_up: Callable[..., Up]) -> None:
    up = make_up("one")
    up.wait_ready()
    before = up.processes()
    out, err = up.out.read_text(), up.err.read_text()
    second = subprocess.run(
        [SVI, "up"],
        env=up.environment | {"SVI_SIP_PORT": str(free_port(socket.SOCK_DGRAM))},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert (
        second.stderr
        == f"Erreur : {up.home} : un autre svi up s'en sert ; donnez un autre SVI_HOME\n"
    )
    neighbour = make_up("two", sip_port=up.sip_port)
    assert f"port UDP {up.sip_port} de 127.0.0.1 est déjà pris" in refused(neighbour)
    assert neighbour.processes() == set()
    assert up.processes() == before
    assert (out, err) == (up.out.read_text(), up.err.read_text())


def broken_asterisk(folder: Path) -> dict[str, str]:
    """An Asterisk folder whose build was cut off."""
    root = folder / "broken"
    (root / "usr/lib/x86_64-linux-gnu/asterisk/modules").mkdir(parents=True)
    return {"SVI_ASTERISK": str(root)}


@pytest.mark.parametrize(
    ("cause", "complaint"),
    [
        (lambda folder: {"SVI_ASTERISK": str(folder / "none")}, "lancez tools/asterisk.sh"),
        (broken_asterisk, "lancez tools/asterisk.sh"),
        (lambda _: {"SVI_SIP_HOST": "192.0.2.1"}, "192.0.2.1 : Cannot assign requested address"),
    ],
    ids=["no Asterisk", "half an Asterisk", "not our address"],
)
def test_what_is_missing_is_said_on_one_line(
    make_up: Callable[..., Up],
    tmp_path: Path,
    cause: Callable[[Path], dict[str, str]],
    complaint: str,
) -> None:
    up = make_up(changes=tuple(cause(tmp_path).items()))
    assert complaint in refused(up)
    assert up.nothing_left()


def test_a_missing_speech_program_is_said_on_one_line(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with Up(tmp_path / "new", port, changes=(("PATH", str(tmp_path)),)) as up:
        assert "espeak-ng ne se lance pas" in refused(up)
        assert up.nothing_left()
