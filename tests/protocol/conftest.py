"""How the callers of these tests type."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from ivr.agi import Agi
from ivr.dialogue import Dialogue
from ivr.script import Script
from ivr.simulated import SimulatedCall
from tests.telephony import script_with_silence

A_WHILE = 0.002  # seconds until one looks again
Silent = Callable[[Agi], bool]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    """Says whether a session has had all that its caller will type, and awaits another key."""
    calls: dict[str, SimulatedCall] = {}
    run = SimulatedCall._run

    def run_known(call: SimulatedCall, environment: str) -> None:
        calls[call.channel] = call
        run(call, environment)

    def is_silent(agi: Agi) -> bool:
        call = calls[agi.env["agi_channel"]]
        return call._listening or call._ending is not None

    monkeypatch.setattr(SimulatedCall, "_run", run_known)
    return is_silent


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Script:
    """The script as it ships; where a test is marked `silences`, one of them is an answer."""
    if request.node.get_closest_marker("silences"):
        request.getfixturevalue("_silences_at_once")
    return script_with_silence()


@pytest.fixture
def _silences_at_once(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller without another key is silent for as long as one waits, but it takes no time."""
    wait = Agi.wait_key

    def wait_key(agi: Agi, timeout: float, until: "Future[Any] | None" = None) -> bool:
        if until:
            return wait(agi, timeout, until)
        while not (agi.typed or silent(agi)):
            wait(agi, A_WHILE, Future())
        return bool(agi.typed)

    monkeypatch.setattr(Agi, "wait_key", wait_key)


@pytest.fixture
def unhurried(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend's work last until all that was typed has come, on any machine."""
    work = Dialogue.work

    def work_unhurried(dialogue: Dialogue, task: Callable[[], object]) -> object:
        def unhurried_task() -> object:
            done = task()
            while not silent(dialogue._agi):
                time.sleep(A_WHILE)
            return done

        return work(dialogue, unhurried_task)

    monkeypatch.setattr(Dialogue, "work", work_unhurried)
