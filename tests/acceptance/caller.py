"""Real callers: SIPp places calls with RFC 4733 keys; what they heard is read from the wire.

SIPp keys are 100 ms long and 200 ms apart. Ports 22000 to 31999 of the loopback are the callers':
Asterisk's own RTP range must lie elsewhere.
"""

import socket
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.acceptance import tones, wire

SCENARIO = Path(__file__).with_name("sipp-call.xml")

_KEY_MS = 100
_LEAD_IN_SECONDS = 0.6  # play_dtmf begins with 0.4 s of another payload type
_PORTS = range(22_000, 32_000, 1_000)
_MEDIA_OFFSET, _PORTS_PER_CALL = 20, 4  # what SIPp's [auto_media_port] takes
MOST_CALLS = (_PORTS.step - _MEDIA_OFFSET) // _PORTS_PER_CALL


class SippError(Exception):
    """SIPp itself failed, or judged a call otherwise than the wire does."""


@dataclass(frozen=True)
class Type:
    """The caller types these keys; the next step begins when the last one is up."""

    keys: str

    def __post_init__(self) -> None:
        if not self.keys or set(self.keys) - set(wire.KEYS):
            raise ValueError(f"keys are one or more of {wire.KEYS}")

    @property
    def seconds(self) -> float:
        """How long SIPp takes for it."""
        return _LEAD_IN_SECONDS + 2 * _KEY_MS / 1_000 * len(self.keys)


@dataclass(frozen=True)
class Pause:
    """The caller listens."""

    seconds: float


@dataclass(frozen=True)
class WaitForEnd:
    """The caller listens until Asterisk hangs up, and hangs up after `seconds` if it does not."""

    seconds: float


@dataclass(frozen=True)
class HangUp:
    """The caller hangs up, as after any last step: only the reader needs it."""

    seconds: float = field(default=0.0, init=False)


Step = Type | Pause | WaitForEnd | HangUp


@dataclass(frozen=True)
class Call:
    """One caller's call; the calls of one run may differ in everything but the kinds of steps."""

    steps: Sequence[Step]
    line: str = "3230"
    caller: str = "0612345678"


@dataclass(frozen=True)
class CallResult:
    """A call as it passed on the wire; times are seconds since the answer.

    `status` is the final SIP answer to the INVITE, `keys` what really left the caller's telephone,
    `timeline` the prompts that came whole.
    """

    status: int
    ended_by: Literal["caller", "asterisk", "nobody"]
    seconds: float
    keys: str
    timeline: tuple[tones.Heard, ...]

    @property
    def ok(self) -> bool:
        """The call was answered, and one side hung up."""
        return self.status == 200 and self.ended_by != "nobody"

    @property
    def heard(self) -> list[str]:
        """The ids of the prompts heard, in order."""
        return [prompt.prompt for prompt in self.timeline]


def place_call(
    steps: Sequence[Step],
    *,
    sip_port: int,
    prompt_ids: Sequence[str],
    line: str = "3230",
    caller: str = "0612345678",
    caller_name: str | bytes = b"",
) -> CallResult:
    """Places one call; the parameters are those of `Call` and `place_calls`."""
    call = Call(steps, line, caller)
    [result] = place_calls(
        [call], sip_port=sip_port, prompt_ids=prompt_ids, caller_name=caller_name
    )
    return result


def place_calls(
    calls: Sequence[Call],
    *,
    sip_port: int,
    prompt_ids: Sequence[str],
    caller_name: str | bytes = b"",
    per_second: int = 25,
) -> list[CallResult]:
    """Places all calls at the same time, `per_second` of them starting each second.

    `prompt_ids` is what `tones.write_voice` was given; `caller_name` goes between the quotes of
    the From header as it is, so that it can be hostile. Returns the results in the order of calls.
    Raises ValueError for calls that do not fit in one run, SippError, and wire.CaptureError.
    """
    _check_alike(calls)
    with tempfile.TemporaryDirectory() as name, _reserved_ports() as ports:
        folder = Path(name)
        (folder / "scenario.xml").write_text(_scenario(calls))
        (folder / "calls.csv").write_text(_injection(calls))
        pcap = folder / "calls.pcap"
        with wire.capture(pcap, ports.start, ports.stop - 1):
            options = _options(calls, ports, caller_name, per_second)
            failed = _run_sipp(folder, sip_port, options, _duration(calls, per_second))
        results = _results(list(wire.read_pcap(pcap)), ports.start + 1, prompt_ids)
    if len(results) != len(calls) or (failed and all(result.ok for result in results)):
        raise SippError(f"{len(results)} of {len(calls)} calls on the wire; SIPp says: {failed}")
    return results


def _check_alike(calls: Sequence[Call]) -> None:
    shapes = {tuple(type(step) for step in call.steps) for call in calls}
    if len(shapes) != 1 or len(calls) > MOST_CALLS:
        raise ValueError(f"one run makes 1 to {MOST_CALLS} calls with the same kinds of steps")


@contextmanager
def _reserved_ports() -> Iterator[range]:
    """A block of ports that no other run uses, held by a socket on the first one."""
    for first in _PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guard:
            try:
                guard.bind(("127.0.0.1", first))
            except OSError:
                continue  # another run's
            yield range(first, first + _PORTS.step)
            return
    raise SippError("no free block of ports")


def _options(
    calls: Sequence[Call], ports: range, caller_name: str | bytes, per_second: int
) -> list[str | bytes]:
    return [
        *("-i", "127.0.0.1", "-p", str(ports.start + 1)),
        *("-mi", "127.0.0.1", "-mp", str(ports.start + _MEDIA_OFFSET)),
        *("-m", str(len(calls)), "-l", str(len(calls)), "-r", str(per_second)),
        *("-key", "caller_name", caller_name),
    ]


def _run_sipp(folder: Path, sip_port: int, options: Sequence[str | bytes], duration: float) -> str:
    """Runs SIPp to its end; returns what it found wrong with calls, "" if nothing."""
    seconds = round(duration + 20)
    command = [
        *("setpriv", "--pdeathsig", "KILL", "sipp", f"127.0.0.1:{sip_port}", "-nostdin", *options),
        *("-sf", "scenario.xml", "-inf", "calls.csv", "-timeout", f"{seconds}s", "-timeout_error"),
        *("-max_retrans", "3", "-trace_err", "-error_file", "errors"),
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, timeout=seconds + 10, check=False
    )
    errors = folder / "errors"
    findings = errors.read_text(errors="replace") if errors.exists() else ""
    if done.returncode not in (0, 1):
        raise SippError(f"exit code {done.returncode}: {findings or done.stderr.decode()}")
    return findings or "no reason" if done.returncode else ""


def _scenario(calls: Sequence[Call]) -> str:
    lines = []
    injected = 2
    for alike in _columns(calls):
        if isinstance(alike[0], Type):
            keys = f"[field{injected}],{_KEY_MS}"
            lines.append(f'<nop><action><exec play_dtmf="{keys}"/></action></nop>')
            injected += 1
        lines.append(f'<pause milliseconds="{round(1_000 * _seconds(alike))}"/>')
    return SCENARIO.read_text().replace("<!-- STEPS -->", "\n".join(lines))


def _injection(calls: Sequence[Call]) -> str:
    """SIPp's table of what differs between calls: line, caller, then the keys of every `Type`."""
    rows = (
        (call.line, call.caller, *(step.keys for step in call.steps if isinstance(step, Type)))
        for call in calls
    )
    return "SEQUENTIAL\n" + "".join(";".join(row) + "\n" for row in rows)


def _columns(calls: Sequence[Call]) -> list[tuple[Step, ...]]:
    """The first step of every call, the second one, and so on."""
    return list(zip(*(call.steps for call in calls), strict=True))


def _seconds(alike: Sequence[Step]) -> float:
    """A scenario has one length for all calls: the longest."""
    return max(step.seconds for step in alike)


def _duration(calls: Sequence[Call], per_second: int) -> float:
    return sum(_seconds(alike) for alike in _columns(calls)) + len(calls) / per_second


def _results(
    datagrams: Sequence[wire.Datagram], sip_port: int, prompt_ids: Sequence[str]
) -> list[CallResult]:
    by_port: dict[int, list[wire.Datagram]] = defaultdict(list)
    for datagram in datagrams:
        for port in (datagram.source, datagram.destination):
            by_port[port].append(datagram)
    dialogs = wire.dialogs(by_port[sip_port], sip_port)
    return [
        _result(dialogs[number], by_port[dialogs[number].media_port], prompt_ids)
        for number in sorted(dialogs)
    ]


def _result(
    dialog: wire.Dialog, media: Sequence[wire.Datagram], prompt_ids: Sequence[str]
) -> CallResult:
    frames = wire.audio(media, dialog.media_port)
    timeline = (
        tones.Heard(heard.prompt, heard.at - dialog.answered_at)
        for heard in tones.decode(frames, prompt_ids)
    )
    return CallResult(
        status=dialog.status,
        ended_by=dialog.ended_by,
        seconds=max(0.0, dialog.ended_at - dialog.answered_at),
        keys=wire.keys(media, dialog.media_port),
        timeline=tuple(timeline),
    )
