"""The harness itself: real calls to a real Asterisk whose dialplan says what must be heard."""

import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ivr.asterisk import SOURCE, Asterisk, AsteriskSettings
from shared.secret import Secret
from tests.acceptance import tones, wire
from tests.acceptance.caller import (
    MOST_CALLS,
    Call,
    CallResult,
    HangUp,
    Pause,
    Step,
    Type,
    WaitForEnd,
    place_call,
    place_calls,
)
from tests.acceptance.machine import READY_SECONDS, ROOT, free_port

VOICE = [*"0123456789", "star", "hello", "menu", "bye", "silence-3000", "silence-20"]
ECHO = "&".join(f"svi/${{KEYS:{place}:1}}" for place in range(8))
DIALPLAN = f"""
; The voice server (@AGI_ADDRESS@) has no part in these calls.
[from-trunk]
exten => prompts,1,Answer()
 same => n,Set(CHANNEL(language)=fr)
 same => n,Playback(svi/hello&svi/menu&svi/menu&svi/silence-20&svi/bye)
 same => n,Hangup()
exten => keys,1,Answer()
 same => n,Set(CHANNEL(language)=fr)
 same => n,Read(KEYS,svi/hello&svi/menu&svi/silence-3000&svi/bye,8,,1,4)
 same => n,Playback({ECHO})
 same => n,Hangup()
exten => silent,1,Answer()
 same => n,Wait(10)
exten => endless,1,Answer()
 same => n,Set(CHANNEL(language)=fr)
 same => n(again),Playback(svi/0&svi/1&svi/2&svi/3&svi/4)
 same => n,Goto(again)
exten => name,1,Answer()
 same => n,Set(CHANNEL(language)=fr)
 same => n,Playback(svi/${{LEN(${{CALLERID(name)}})}})
 same => n,Hangup()
"""


@pytest.fixture(scope="module")
def sip_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An Asterisk with this file's dialplan and the test voice."""
    folder = tmp_path_factory.mktemp("asterisk")
    (folder / "prompts").mkdir()
    tones.write_voice(folder / "prompts", VOICE)
    settings = AsteriskSettings(
        sip_host="127.0.0.1",
        sip_port=free_port(socket.SOCK_DGRAM),
        agi_address="127.0.0.1:9",
        ami_port=free_port(socket.SOCK_STREAM),
        ami_secret=Secret("unused"),
        home=folder / "home",
        root=ROOT,
        prompts=folder / "prompts",
    )
    asterisk = Asterisk(settings, dialplan_in(folder / "source"))
    asterisk.start()
    asterisk.wait_ready(READY_SECONDS)
    yield settings.sip_port
    asterisk.stop()


def dialplan_in(folder: Path) -> Path:
    shutil.copytree(SOURCE, folder)
    (folder / "extensions.conf").write_text(DIALPLAN)
    with (folder / "modules.conf").open("a") as modules:
        modules.write("require = app_read.so\nrequire = func_callerid.so\n")
    return folder


def call(sip_port: int, line: str, *steps: Step, name: str | bytes = b"") -> CallResult:
    return place_call(steps, sip_port=sip_port, prompt_ids=VOICE, line=line, caller_name=name)


def call_with_keys(sip_port: int, typed: Sequence[str]) -> list[CallResult]:
    calls = [Call([Pause(1), Type(keys), WaitForEnd(15)], line="keys") for keys in typed]
    return place_calls(calls, sip_port=sip_port, prompt_ids=VOICE)


def test_the_prompts_heard_are_known_in_order(sip_port: int) -> None:
    result = call(sip_port, "prompts", WaitForEnd(5))
    assert result.ok
    assert result.heard == ["hello", "menu", "menu", "bye"]
    assert result.ended_by == "asterisk"


def test_a_prompt_has_the_time_when_it_was_heard(sip_port: int) -> None:
    result = call(sip_port, "keys", WaitForEnd(10))
    at = {heard.prompt: heard.at for heard in result.timeline}
    assert at["menu"] - at["hello"] == pytest.approx(0.1, abs=0.1)
    assert at["bye"] - at["menu"] == pytest.approx(3.1, abs=0.2)
    assert at["bye"] < result.seconds


def test_every_key_arrives(sip_port: int) -> None:
    typed = ["00000001", "98765432", "11112222"]
    results = call_with_keys(sip_port, typed)
    assert [result.keys for result in results] == typed
    assert [result.heard for result in results] == [["hello", "menu", *keys] for keys in typed]
    assert {result.ended_by for result in results} == {"asterisk"}


def test_keys_typed_in_several_steps_are_all_new(sip_port: int) -> None:
    steps: list[Step] = [Pause(1), Type("1"), Type("1"), Pause(1), Type("123"), Type("321")]
    result = call(sip_port, "keys", *steps, WaitForEnd(10))
    assert result.heard == ["hello", "menu", *"11123321"]


def test_each_caller_has_steps_of_its_own(sip_port: int) -> None:
    calls = [
        Call([Pause(2)], line="silent"),
        Call([Pause(1), Type("12"), Type("3"), Pause(1.5), Type("45"), Pause(1)], line="keys"),
        Call([Type("6"), Pause(1), HangUp()], line="silent"),
    ]
    results = place_calls(calls, sip_port=sip_port, prompt_ids=VOICE)
    assert [result.keys for result in results] == ["", "12345", "6"]
    lasted = [result.seconds for result in results]
    assert lasted == pytest.approx([call.seconds for call in calls], abs=0.5)


def test_star_and_hash_are_keys(sip_port: int) -> None:
    result = call(sip_port, "keys", Pause(1), Type("*1#"), Pause(1), HangUp())
    assert result.keys == "*1#"


def test_a_caller_hangs_up_in_the_middle_of_the_prompts(sip_port: int) -> None:
    result = call(sip_port, "endless", Pause(2), HangUp())
    assert result.ok
    assert result.ended_by == "caller"
    assert result.seconds == pytest.approx(2, abs=0.2)
    assert len(result.heard) >= 10
    assert "".join(result.heard) in "01234" * 5


def test_asterisk_hangs_up_in_the_middle_of_typing(sip_port: int) -> None:
    result = call(sip_port, "prompts", Pause(0.5), Type("123456789"), Pause(5), HangUp())
    assert result.ok
    assert result.ended_by == "asterisk"
    assert result.heard == ["hello", "menu", "menu", "bye"]


def test_a_caller_waits_no_longer_than_told(sip_port: int) -> None:
    result = call(sip_port, "silent", WaitForEnd(1))
    assert result.ok
    assert result.ended_by == "caller"
    assert result.heard == []


def test_a_call_that_is_refused_says_so(sip_port: int) -> None:
    result = call(sip_port, "nowhere", WaitForEnd(1))
    assert (result.status, result.ended_by, result.ok) == (404, "nobody", False)


def test_a_call_that_nobody_answers_says_so() -> None:
    result = call(free_port(socket.SOCK_DGRAM), "prompts", WaitForEnd(1))
    assert (result.status, result.ended_by, result.ok) == (0, "nobody", False)


@pytest.mark.parametrize(
    "name", [rb"\";${X}[", b"[len];];", b"</exec>", "é\N{BELL}x".encode(), b"%s%n%d"]
)
def test_a_caller_name_goes_out_as_it_is(sip_port: int, name: bytes) -> None:
    result = call(sip_port, "name", WaitForEnd(5), name=name)
    assert result.heard == [str(len(name))]


def test_fifty_callers_at_once_each_hear_their_own_keys(sip_port: int) -> None:
    typed = [f"{number * 1_999_993 % 100_000_000:08}" for number in range(1, 51)]
    results = call_with_keys(sip_port, typed)
    assert [result.keys for result in results] == typed
    assert [result.heard for result in results] == [["hello", "menu", *keys] for keys in typed]


def test_a_capture_that_cannot_start_says_why(tmp_path: Path) -> None:
    pcap = tmp_path / "calls.pcap"
    pcap.mkdir()
    with pytest.raises(wire.CaptureError, match="did not start"), wire.capture(pcap, 1, 2):
        pass


def test_no_process_is_left_behind(sip_port: int) -> None:
    before = children()
    call(sip_port, "silent", Pause(0.5))
    assert children() == before


def children() -> set[str]:
    time.sleep(0.1)
    return {
        pid
        for tasks in Path("/proc/self/task").glob("*/children")
        for pid in tasks.read_text().split()
    }


@pytest.mark.parametrize("keys", ["", "12a", "1,500", "1;2"])
def test_only_keys_of_a_telephone_can_be_typed(keys: str) -> None:
    with pytest.raises(ValueError, match="keys are one or more of"):
        Type(keys)


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [Call([Pause(1)])] * (MOST_CALLS + 1),
    ],
    ids=["none", "too many"],
)
def test_calls_that_do_not_fit_in_one_run_are_refused(calls: list[Call]) -> None:
    with pytest.raises(ValueError, match="one run makes 1 to"):
        place_calls(calls, sip_port=9, prompt_ids=VOICE)
