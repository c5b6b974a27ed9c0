"""`svi up` as its own process, and what other processes see of it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ivr.script_files import load_script
from tests.acceptance import tones
from tests.acceptance.caller import Call, CallResult, place_calls
from tests.acceptance.machine import wait_until

SVI = str(Path(sys.executable).with_name("svi"))
REPOSITORY = Path(__file__).parents[2]
STOPPING_SECONDS = 10.0  # what `svi up` promises, calls in progress included


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
        places |= {"SVI_TELEPHONE_PORT": "0", "TMPDIR": str(self.temporary)}
        return os.environ | places | dict(self.changes)

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
        """All call records, as another process sees them."""
        listed = self.svi("calls", "--json", "--last", "1000000")
        return [json.loads(line) for line in listed.splitlines()]

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


def build_voice_of_tones(home: Path) -> Path:
    """Make prompts that `svi up` takes for those it made, with tones in them; give their folder."""
    subprocess.run([SVI, "prompts", "build"], env=os.environ | {"SVI_HOME": str(home)}, check=True)
    script = load_script()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    tones.write_voice(home / "prompts", [*script.catalogue.ids, *silences])
    return home / "prompts"
