"""How the callers of these tests type."""

import pytest

from ivr.script import Script
from tests.telephony import script_with_silence

HURRIED = 2.0


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Script:
    """The script as it ships; where a test is marked `silences`, one of them is an answer."""
    if request.node.get_closest_marker("silences"):
        return script_with_silence(HURRIED)
    return script_with_silence()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a key typed during the backend's work arrive before the next prompt, on any machine."""
    monkeypatch.setattr("ivr.agi.SETTLE_SECONDS", 0.5)
