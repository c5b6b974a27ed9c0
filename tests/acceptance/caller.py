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

# SIPp reads a field of the table as text, and pauses for a number.
_LISTEN = """
<nop><action>
  <assignstr assign_to="text" value="[field{ms}]"/>
  <todouble assign_to="ms" variable="text"/>
</action></nop>
<pause variable="ms"/>"""
_TYPE = f"""
<nop next="over" test="none"><action>
  <assignstr assign_to="keys" value="[field{{keys}}]"/>
  <strcmp assign_to="difference" variable="keys" value=""/>
  <test assign_to="none" variable="difference" compare="equal" value="0"/>
</action></nop>
<nop><action><exec play_dtmf="[field{{keys}}],{_KEY_MS}"/></action></nop>"""
_OVER = """
<label id="over"/>"""


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
    """One caller's call."""

    steps: Sequence[Step]
    line: str = "3230"
    caller: str = "0612345678"

    @property
    def seconds(self) -> float:
        """How long it lasts, unless Asterisk hangs up."""
        return sum(step.seconds for step in self.steps)


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
    if not 1 <= len(calls) <= MOST_CALLS:
        raise ValueError(f"one run makes 1 to {MOST_CALLS} calls")
    with tempfile.TemporaryDirectory() as name, reserved_ports() as ports:
        folder = Path(name)
        write_scenario(folder, calls)
        pcap = folder / "calls.pcap"
        with wire.capture(pcap, ports.start, ports.stop - 1):
            longest = max(call.seconds for call in calls) + len(calls) / per_second
            options = sipp_options(ports, len(calls), len(calls), per_second, caller_name)
            failed = _run_sipp(folder, sip_port, options, longest)
        results = _results(list(wire.read_pcap(pcap)), ports.start + 1, prompt_ids)
    if len(results) != len(calls) or (failed and all(result.ok for result in results)):
        raise SippError(f"{len(results)} of {len(calls)} calls on the wire; SIPp says: {failed}")
    return results


@contextmanager
def reserved_ports() -> Iterator[range]:
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


def sipp_options(
    ports: range, count: int, at_once: int, per_second: int, caller_name: str | bytes = b""
) -> list[str | bytes]:
    """SIPp's options for so many calls; `write_scenario` wrote what it reads."""
    return [
        *("-nostdin", "-sf", "scenario.xml", "-inf", "calls.csv", "-max_retrans", "3"),
        *("-i", "127.0.0.1", "-p", str(ports.start + 1)),
        *("-mi", "127.0.0.1", "-mp", str(ports.start + _MEDIA_OFFSET)),
        *("-m", str(count), "-l", str(at_once), "-r", str(per_second)),
        *("-trace_err", "-error_file", "errors", "-key", "caller_name", caller_name),
    ]


def _run_sipp(folder: Path, sip_port: int, options: Sequence[str | bytes], duration: float) -> str:
    """Runs SIPp to its end; returns what it found wrong with calls, "" if nothing."""
    seconds = round(duration + 20)
    command = [
        *("setpriv", "--pdeathsig", "KILL", "sipp", f"127.0.0.1:{sip_port}", *options),
        *("-timeout", f"{seconds}s", "-timeout_error"),
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, timeout=seconds + 10, check=False
    )
    errors = folder / "errors"
    findings = errors.read_text(errors="replace") if errors.exists() else ""
    if done.returncode not in (0, 1):
        raise SippError(f"exit code {done.returncode}: {findings or done.stderr.decode()}")
    return findings or "no reason" if done.returncode else ""


def write_scenario(folder: Path, calls: Sequence[Call]) -> None:
    """Writes what SIPp needs: `scenario.xml`, the same for all calls, and `calls.csv`, their table.

    A row of the table has line, caller, seconds to listen, then keys and seconds for every turn.
    A caller who has no more keys hangs up.
    """
    rows = [[call.line, call.caller, *_turns(call.steps)] for call in calls]
    width = max(map(len, rows))
    table = (";".join(row + [""] * (width - len(row))) for row in rows)
    (folder / "calls.csv").write_text("\n".join(["SEQUENTIAL", *table, ""]))
    typing = (
        _TYPE.format(keys=field) + _LISTEN.format(ms=field + 1) for field in range(3, width, 2)
    )
    steps = _LISTEN.format(ms=2) + "".join(typing) + _OVER
    (folder / "scenario.xml").write_text(SCENARIO.read_text().replace("<!-- STEPS -->", steps))


def _turns(steps: Sequence[Step]) -> Iterator[str]:
    """Milliseconds to listen; then, for all that is typed, the keys and the time until the next."""
    seconds = 0.0
    for step in steps:
        if isinstance(step, Type):
            yield str(round(1_000 * seconds))
            yield step.keys
            seconds = 0.0
        seconds += step.seconds
    yield str(round(1_000 * seconds))


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
