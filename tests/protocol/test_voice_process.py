"""`svi voice` as its own process: it moves calls through the manager that SVI_AMI names (D15)."""

import json
import socket
import subprocess
import wave
from pathlib import Path

import pytest
from click.testing import CliRunner

from ivr.script_files import load_script
from ivr.server import VoiceServer
from ivr.simulated import SimulatedCall
from svi.__main__ import cli
from tests.protocol.test_ami import SECRET, Manager, wait_until, well
from tests.protocol.test_commands import (
    ADD,
    CAISSE,
    NUMBER,
    PASSWORD,
    SECONDS,
    SVI,
    environment,
    output,
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def write_silent_prompts(folder: Path) -> None:
    """Write audio that nobody listens to: to speak it takes long."""
    script = load_script()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    folder.mkdir(exist_ok=True)
    for prompt in [*script.catalogue.ids, *silences]:
        with wave.open(str(folder / f"{prompt}.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", "NONE"))
            sound.writeframes(bytes(320))


def test_an_incident_raised_by_the_command_moves_a_call(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    output(home, *ADD, "--password-stdin", stdin=f"{PASSWORD}\n")
    write_silent_prompts(home / "prompts")
    variables = environment(home, {"SVI_AGI_PORT": port})
    with Manager(well) as manager:
        reach = {"host": "127.0.0.1", "port": manager.port, "user": "svi", "secret": SECRET}
        (home / "ami.json").write_text(json.dumps(reach), "utf-8")
        with subprocess.Popen([SVI, "voice"], stdout=subprocess.PIPE, env=variables) as voice:
            try:
                assert voice.stdout is not None
                assert voice.stdout.readline() == b"ready\n"
                groups = [CAISSE, NUMBER, PASSWORD]
                with SimulatedCall(("127.0.0.1", port), groups=groups, patient=True) as call:
                    call.wait_heard("menu-touches", SECONDS)
                    output(home, "incident", "raise", "--caisse", CAISSE)
                    seen = manager.peers[0].seen
                    wait_until(lambda: "Redirect" in [one["Action"] for one in seen], SECONDS)
            finally:
                voice.terminate()
    redirect = next(one for one in seen if one["Action"] == "Redirect")
    assert (redirect["Channel"], redirect["Context"]) == (call.channel, "incident")
    assert redirect["Exten"] == CAISSE


def test_a_voice_server_that_ends_by_itself_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever supervises it starts another, rather than leave callers without an answer."""
    home = tmp_path / "home"
    output(home, *ADD, "--password-stdin", stdin=f"{PASSWORD}\n")
    write_silent_prompts(home / "prompts")
    for name, value in environment(home, {"SVI_AGI_PORT": free_port()}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(VoiceServer, "_accept", lambda server: server._listener.close())
    ended = CliRunner().invoke(cli, ["voice"])
    *_, ready, why = ended.output.splitlines()
    assert (ended.exit_code, ready) == (1, "ready")
    assert why.startswith("Erreur : le serveur vocal s'est arrêté")
