"""A crowd of real callers: as soon as one hangs up the next one calls, always so many at a time.

Their calls are not recorded, so that one machine can carry many of them for long.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.caller import Call, SippError, reserved_ports, sipp_options, write_scenario


@dataclass(frozen=True)
class Progress:
    """How far a crowd has come, in calls."""

    waiting: int
    in_progress: int
    done: int


class Crowd:
    """A crowd that is calling."""

    def __init__(self, sipp: subprocess.Popen[bytes], folder: Path, size: int) -> None:
        self._sipp = sipp
        self._folder = folder
        self._size = size

    def progress(self) -> Progress:
        """Tell how far it has come, as of the last second; SippError if calls failed."""
        counted = self._counted()
        done, failed = counted.get("SuccessfulCall(C)", 0), counted.get("FailedCall(C)", 0)
        if failed:
            raise SippError(f"{failed} calls failed: {self._errors()}")
        in_progress = counted.get("CurrentCall", 0)
        return Progress(self._size - in_progress - done, in_progress, done)

    def wait(self, seconds: float) -> None:
        """Wait until all have called; SippError if one could not, TimeoutExpired if it lasts."""
        if self._sipp.wait(seconds):
            raise SippError(f"exit code {self._sipp.returncode}: {self._errors()}")

    def _counted(self) -> dict[str, int]:
        """Give the columns of SIPp's last report; none before the first one."""
        file = self._folder / "counted.csv"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        if len(lines) < 2:
            return {}
        last = zip(lines[0].split(";"), lines[-1].split(";"), strict=False)
        return {name: int(value) for name, value in last if value.isdigit()}

    def _errors(self) -> str:
        errors = self._folder / "errors"
        return errors.read_text(errors="replace")[:2_000] if errors.exists() else "no reason"


@contextmanager
def calling(
    calls: Sequence[Call], *, sip_port: int, at_once: int, per_second: int
) -> Iterator[Crowd]:
    """Have a crowd make these calls in order; at the end of the block it falls silent."""
    with tempfile.TemporaryDirectory() as name, reserved_ports() as ports:
        folder = Path(name)
        write_scenario(folder, calls)
        _share_one_media_port(folder / "scenario.xml")
        command = [
            *("setpriv", "--pdeathsig", "KILL", "sipp", f"127.0.0.1:{sip_port}"),
            *sipp_options(ports, len(calls), at_once, per_second),
            *("-trace_stat", "-stf", "counted.csv", "-fd", "1"),
        ]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as sipp:
            try:
                yield Crowd(sipp, folder, len(calls))
            finally:
                sipp.kill()


def _share_one_media_port(scenario: Path) -> None:
    """Nobody listens to what callers hear: a port for each of thousands would be too many."""
    scenario.write_text(scenario.read_text().replace("[auto_media_port]", "[media_port]"))
