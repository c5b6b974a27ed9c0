"""`svi up` as one uses it: its own process, a real Asterisk, real calls; and what goes wrong."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from ivr.script_files import load_script
from svi.demo import DOSSIERS
from tests.acceptance import tones
from tests.acceptance.caller import (
    Call,
    CallResult,
    HangUp,
    Pause,
    Type,
    WaitForEnd,
    place_calls,
)
from tests.acceptance.machine import free_port, wait_until

SVI = str(Path(sys.executable).with_name("svi"))
REPOSITORY = Path(__file__).parents[2]
STOPPING_SECONDS = 10.0  # what `svi up` promises, calls in progress included
AGAIN_SECONDS = 8.0  # a start that finds everything made
FIRST = DOSSIERS[0]
LOG_IN = Type(FIRST.department + FIRST.number + FIRST.password)
DEPARTMENT = Type(FIRST.department)
A_CALL = Call([DEPARTMENT, Pause(0.5), HangUp()])


@dataclass
class Up:
    """One `svi up`, in a process group of its own as a terminal gives it."""

    home: Path
    sip_port: int
    command: Sequence[str] = (SVI, "up")
    changes: tuple[tuple[str, str], ...] = ()

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env=self.environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """The tests' own, with this installation's places."""
        places = {"SVI_HOME": str(self.home), "SVI_SIP_PORT": str(self.sip_port)}
        return os.environ | places | {"TMPDIR": str(self.temporary)} | dict(self.changes)

    @property
    def temporary(self) -> Path:
        """The folder for its temporary files."""
        return self.home.with_name(f"{self.home.name}.tmp")

    @property
    def out(self) -> Path:
        """What it prints."""
        return self.home.with_name(f"{self.home.name}.out")

    @property
    def err(self) -> Path:
        """What it complains of."""
        return self.home.with_name(f"{self.home.name}.err")

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Wait until calls can come."""
        wait_until(lambda: self.process.poll() is not None or self.is_ready(), seconds)
        assert self.is_ready(), self.err.read_text()

    def is_ready(self) -> bool:
        """Say whether it told that calls can come."""
        return self.out.read_text().endswith("ready\n")

    def processes(self) -> set[int]:
        """Everything that runs for this installation: it bears its SVI_HOME."""
        mark = f"SVI_HOME={self.home}".encode()
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
        return found

    def asterisk(self) -> int:
        """The process of Asterisk; 0 if there is none."""
        for pid in self.processes():
            with suppress(OSError):
                if b"asterisk\0-C" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def svi(self, *arguments: str) -> str:
        """Run another command on the same installation."""
        command = [SVI, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def records(self) -> list[dict[str, Any]]:
        """The call records, as another process sees them."""
        return [json.loads(line) for line in self.svi("calls", "--json").splitlines()]

    def live(self) -> list[str]:
        """The channels of the calls in progress, as another process sees them."""
        return re.findall(r"^PJSIP/trunk-\w+", self.svi("calls", "--live"), re.MULTILINE)

    def calls(self, *calls: Call) -> list[CallResult]:
        """Place real calls."""
        prompts = sorted(load_script().catalogue.ids)
        return place_calls(calls, sip_port=self.sip_port, prompt_ids=prompts)

    def end(self) -> tuple[int, str]:
        """Wait for the end; give the exit code and what was complained of."""
        code = self.process.wait(STOPPING_SECONDS)
        assert self.nothing_left()
        return code, self.err.read_text()

    def nothing_left(self) -> bool:
        """Say whether no process, mount, port or file tells of a service that runs."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", self.sip_port))
        assert self.processes() == set()
        assert str(self.home) not in Path("/proc/mounts").read_text()
        assert list(self.temporary.iterdir()) == []
        return not (self.home / "ami.json").exists()


def control_c(process: subprocess.Popen[bytes]) -> None:
    """Do what a terminal does: every process of the group is interrupted."""
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Do what a supervisor does."""
    process.terminate()


@pytest.fixture(scope="module")
def voice_of_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give prompts that `svi up` takes for those it made, with tones in them."""
    home = tmp_path_factory.mktemp("built")
    subprocess.run([SVI, "prompts", "build"], env=os.environ | {"SVI_HOME": str(home)}, check=True)
    script = load_script()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    tones.write_voice(home / "prompts", [*script.catalogue.ids, *silences])
    return home / "prompts"


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
    with ThreadPoolExecutor(2) as pool:
        typing = pool.submit(up.calls, Call([DEPARTMENT, WaitForEnd(20)]))
        silent = pool.submit(up.calls, *[Call([WaitForEnd(20)])] * 2)
        wait_until(lambda: len(up.live()) == 3)
        time.sleep(1)  # Asterisk has the calls: let them reach the voice server
        stop(up.process)
        code, complaints = up.end()
        results = [*typing.result(), *silent.result()]
    assert code == exit_code
    assert "Traceback" not in complaints
    assert [result.ended_by for result in results] == ["asterisk"] * 3
    assert [result.heard[0] for result in results] == ["accueil"] * 3
    assert [result.heard[-1] for result in results] == ["excuse-technique"] * 3
    assert [record["outcome"] for record in up.records()] == ["failed"] * 3


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
    assert last_line.startswith("Error: Asterisk s'est arrêté de lui-même ; voir ")
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
        == f"Error: {up.home} : un autre svi up s'en sert ; donnez un autre SVI_HOME\n"
    )
    neighbour = make_up("two", sip_port=up.sip_port)
    assert f"UDP port {up.sip_port} of 127.0.0.1 is in use" in refused(neighbour)
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
        (lambda folder: {"SVI_ASTERISK": str(folder / "none")}, "run tools/asterisk.sh"),
        (broken_asterisk, "run tools/asterisk.sh"),
        (lambda _: {"SVI_SIP_HOST": "192.0.2.1"}, "192.0.2.1: Cannot assign requested address"),
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
        assert "espeak-ng can't be run" in refused(up)
        assert up.nothing_left()
