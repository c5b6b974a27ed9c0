"""A real Asterisk with our files: its process, the rights of our manager user, the dialplan."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TextIO

import aiohttp
import pytest

from ivr.ami import AmiLink
from ivr.asterisk import SOURCE, Asterisk, AsteriskSettings, AsteriskStartError
from shared.secret import Secret
from svi.telephone.server import Telephone
from tests.acceptance.machine import READY_SECONDS, ROOT, free_port, wait_until

SECRET = "open-sesame"


def settings_in(home: Path, agi_port: int = 9) -> AsteriskSettings:
    return AsteriskSettings(
        sip_host="127.0.0.1",
        sip_port=free_port(socket.SOCK_DGRAM),
        agi_address=f"127.0.0.1:{agi_port}",
        ami_port=free_port(socket.SOCK_STREAM),
        ami_secret=Secret(SECRET),
        home=home,
        root=ROOT,
        prompts=home.parent / "prompts",
    )


# ------------------------------------------------------------------------------- the process


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Asterisk]:
    asterisk = Asterisk(settings_in(tmp_path / "home"))
    yield asterisk
    asterisk.stop()


def test_starts_without_complaint_and_stops_leaving_nothing(
    alone: Asterisk, tmp_path: Path
) -> None:
    for _ in range(2):  # the second time on what the first left behind
        alone.start()
        alone.wait_ready(READY_SECONDS)
        assert alone.alive()
        alone.stop()
        assert not alone.alive()
    messages = (tmp_path / "home/log/messages").read_text()
    assert "ERROR" not in messages
    assert "WARNING" not in messages
    assert list((tmp_path / "home/run").iterdir()) == []


def short_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("svi-asterisk-*"))


def test_a_home_too_long_for_a_socket_path_works(tmp_path: Path) -> None:
    before = short_folders()
    asterisk = Asterisk(settings_in(tmp_path / ("long" * 30) / "home"))
    try:
        for _ in range(2):
            asterisk.start()
            asterisk.wait_ready(READY_SECONDS)
            asterisk.stop()
    finally:
        asterisk.stop()
    assert short_folders() == before


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (socket.SOCK_DGRAM, r"^port UDP \d+ de 127\.0\.0\.1 est déjà pris : .* SVI_SIP_PORT$"),
        (socket.SOCK_STREAM, r"^port TCP \d+ de 127\.0\.0\.1 est déjà pris : relancez$"),
    ],
)
def test_a_port_in_use_is_named(tmp_path: Path, kind: socket.SocketKind, message: str) -> None:
    settings = settings_in(tmp_path / "home")
    port = settings.sip_port if kind == socket.SOCK_DGRAM else settings.ami_port
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port))
        with pytest.raises(AsteriskStartError, match=message):
            Asterisk(settings).start()


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    settings = AsteriskSettings(**{**vars(settings), "sip_host": "192.0.2.1"})
    with pytest.raises(AsteriskStartError, match=r"192\.0\.2\.1 : Cannot assign"):
        Asterisk(settings).start()


def test_files_that_asterisk_refuses_end_the_start_on_one_line(tmp_path: Path) -> None:
    source = shutil.copytree(SOURCE, tmp_path / "source")
    with (source / "modules.conf").open("a") as file:
        file.write("require = no_such_module.so\n")
    asterisk = Asterisk(settings_in(tmp_path / "home"), source)
    asterisk.start()
    with pytest.raises(
        AsteriskStartError, match=r"^Asterisk s'est arrêté en démarrant ; voir "
    ) as caught:
        asterisk.wait_ready(READY_SECONDS)
    assert "\n" not in str(caught.value)
    assert not asterisk.alive()


def test_an_asterisk_that_hangs_is_killed(alone: Asterisk) -> None:
    alone.start()
    alone.wait_ready(READY_SECONDS)
    assert alone._process
    pid = alone._process.pid
    os.kill(pid, signal.SIGSTOP)
    alone.stop(timeout=0.2)
    assert not Path(f"/proc/{pid}").exists()


STARTER = """
import sys, time
from pathlib import Path
from ivr.asterisk import Asterisk, AsteriskSettings
from shared.secret import Secret
sip, ami, home, root = sys.argv[1:]
asterisk = Asterisk(AsteriskSettings("127.0.0.1", int(sip), "127.0.0.1:9", int(ami), Secret("s"),
                                     Path(home), Path(root), Path(home)))
asterisk.start()
asterisk.wait_ready(20)
print(asterisk._process.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    ports = str(settings.sip_port), str(settings.ami_port)
    command = [sys.executable, "-c", STARTER, *ports, str(settings.home), str(ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    wait_until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    """A zombie that its new parent has not collected yet doesn't run."""
    with suppress(FileNotFoundError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


# ------------------------------------------------------------- a whole Asterisk, and a caller


@dataclass
class VoiceServer:
    """Answers each AGI call with `commands`, then waits for `hold` to be set, then closes."""

    commands: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    calls: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed: the test is over
            while True:
                connection, _ = self._listener.accept()
                with suppress(OSError), connection, connection.makefile("rw") as stream:
                    self._converse(stream)

    def _converse(self, stream: TextIO) -> None:
        environment = [line.rstrip("\n") for line in iter(stream.readline, "\n")]
        self.calls.append(dict(line.split(": ", 1) for line in environment))
        for command in self.commands:
            stream.write(f"{command}\n")
            stream.flush()
            stream.readline()
        self.hold.wait(20)


@dataclass
class Switch:
    """An Asterisk, its voice server, and a caller played by Asterisk's own console."""

    asterisk: Asterisk
    settings: AsteriskSettings
    server: VoiceServer

    def call(self, line: str, caller: str = "Wait 30") -> None:
        self.asterisk.cli(f"channel originate Local/{line}@from-trunk application {caller}")

    def channels(self) -> list[list[str]]:
        """Context, extension, application, data and so on of each channel in progress."""
        shown = self.asterisk.cli("core show channels concise").splitlines()
        return [line.split("!") for line in shown if line.count("!") > 8]

    def playing(self) -> str | None:
        """The prompt that the dialplan plays now, with the extension that it plays in."""
        for _, context, extension, _, _, application, data, *_ in self.channels():
            if application == "Playback":
                return f"{context}/{extension}: {data}"
        return None

    def records(self) -> list[str]:
        path = self.settings.home / "log/cdr-custom/appels.csv"
        return path.read_text().splitlines() if path.exists() else []


WITNESS = f"""
; Celui-ci voit tout : il montre qu'il y avait quelque chose à voir.
[witness]
secret = {SECRET}
read = all
write = all
"""


@pytest.fixture(scope="module")
def _switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    folder = tmp_path_factory.mktemp("switch")
    source = shutil.copytree(SOURCE, folder / "source")
    with (source / "manager.conf").open("a") as file:
        file.write(WITNESS)
    (folder / "prompts").mkdir()
    for prompt in ("excuse-technique", "conseiller-attente"):
        with wave.open(str(folder / f"prompts/{prompt}.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", "NONE"))
            sound.writeframes(bytes(2 * 8000 * 30))
    with VoiceServer() as server:
        settings = settings_in(folder / "home", server.port)
        asterisk = Asterisk(settings, source)
        asterisk.start()
        try:
            asterisk.wait_ready(READY_SECONDS)
            # Calls out of the console are not among the modules that we ship.
            assert "Loaded" in asterisk.cli("module load res_clioriginate.so")
            yield Switch(asterisk, settings, server)
        finally:
            asterisk.stop()


@pytest.fixture
def switch(_switch: Switch) -> Iterator[Switch]:
    _switch.server.commands = []
    _switch.server.calls = []
    _switch.server.hold = threading.Event()
    yield _switch
    _switch.server.hold.set()
    _switch.asterisk.cli("channel request hangup all")
    wait_until(lambda: not _switch.channels())


@pytest.fixture
def link(switch: Switch) -> Iterator[AmiLink]:
    with AmiLink("127.0.0.1", switch.settings.ami_port, "svi", Secret(SECRET)) as link:
        wait_until(lambda: link.up)
        yield link


# ------------------------------------------------------------------------------- the manager


class RawManager:
    """A manager session with nothing between the test and the socket."""

    def __init__(self, switch: Switch, user: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", switch.settings.ami_port), timeout=5)
        self.received = ""
        self.ask("Login", Username=user, Secret=SECRET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, action: str, **fields: str) -> str:
        """Give the response to an action, and keep all that came before it."""
        action_id = str(time.monotonic_ns())
        lines = {"Action": action, "ActionID": action_id, **fields}
        request = "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        self._socket.sendall(request.encode())
        pattern = re.compile(
            rf"Response: [^\r]+\r\nActionID: {action_id}\r\n.*?\r\n\r\n", re.DOTALL
        )
        while not (answer := pattern.search(self.received)):
            self.received += self._socket.recv(65536).decode()
        return answer[0]

    def events(self) -> set[str]:
        """The names of all events that came so far."""
        self.ask("Ping")
        return set(re.findall(r"^Event: (\w+)", self.received, re.MULTILINE))


FORBIDDEN = {
    "Command": {"Command": "core stop now"},
    "Originate": {"Channel": "Local/3230@from-trunk", "Application": "Wait", "Data": "1"},
    "Reload": {},
    "ModuleLoad": {"LoadType": "unload", "Module": "chan_pjsip.so"},
    "GetConfig": {"Filename": "manager.conf"},
    "UpdateConfig": {"SrcFilename": "manager.conf", "DstFilename": "manager.conf"},
    "CreateConfig": {"Filename": "x.conf"},
    "DialplanExtensionAdd": {"Context": "from-trunk", "Extension": "1", "Priority": "1"},
    "DBPut": {"Family": "a", "Key": "b", "Val": "c"},
    "UserEvent": {"UserEvent": "x"},
    "AGI": {"Channel": "x", "Command": "x"},
    "Filter": {"Operation": "Add", "Filter": "x"},
}


@pytest.mark.parametrize("action", FORBIDDEN)
def test_our_user_is_denied(switch: Switch, action: str) -> None:
    with RawManager(switch, "svi") as manager:
        assert "Message: Permission denied" in manager.ask(action, **FORBIDDEN[action])


def test_no_event_reaches_our_user_during_a_call_with_keys(switch: Switch) -> None:
    switch.server.commands = ["SET VARIABLE WITNESSED yes", "WAIT FOR DIGIT 5000"]
    with RawManager(switch, "svi") as ours, RawManager(switch, "witness") as witness:
        ours.ask("Events", EventMask="on")
        switch.asterisk.cli("module load app_senddtmf.so")
        switch.call("3230", "SendDTMF 12345678")
        seen = {"Newchannel", "Newexten", "VarSet", "AGIExecStart", "DTMFBegin", "DTMFEnd"}
        wait_until(lambda: witness.events() >= seen)
        assert ours.events() == set()


def test_the_link_lists_a_call_and_ends_it(switch: Switch, link: AmiLink) -> None:
    for name in ("channel", "uniqueid"):
        switch.call("3230")
        wait_until(lambda: len(link.calls()) == 1)
        (call,) = link.calls()
        assert call.channel.startswith("Local/3230@from-trunk-")
        assert call.seconds < 10
        assert link.hang_up(getattr(call, name)) is True
        wait_until(lambda: link.calls() == [])
        assert link.hang_up(getattr(call, name)) is False


def test_a_wrong_secret_is_said(switch: Switch) -> None:
    with AmiLink("127.0.0.1", switch.settings.ami_port, "svi", Secret("wrong")) as link:
        wait_until(lambda: "vérifiez le secret de svi" in link._down)
        assert not link.up


# ------------------------------------------------------------------------------- the dialplan


@pytest.mark.parametrize(
    ("commands", "heard"),
    [
        ([], "apology/s: svi/excuse-technique"),  # dead before it decided
        (
            ["SET VARIABLE SVI_PLATFORM caisse-92", "SET VARIABLE SVI_NEXT adviser"],
            "adviser/caisse-92: svi/conseiller-attente",
        ),
        (  # a platform may be a telephone number (R34)
            ["SET VARIABLE SVI_PLATFORM 0146300099", "SET VARIABLE SVI_NEXT adviser"],
            "adviser/0146300099: svi/conseiller-attente",
        ),
    ],
    ids=["the voice server dies", "an adviser", "an adviser's number"],
)
def test_what_the_caller_hears_after_the_voice_server(
    switch: Switch, commands: list[str], heard: str
) -> None:
    switch.server.commands = commands
    switch.server.hold.set()
    switch.call("3230")
    wait_until(lambda: switch.playing() == heard)


def test_the_call_ends_when_the_voice_server_says_so(switch: Switch) -> None:
    switch.server.commands = ["SET VARIABLE SVI_NEXT hangup"]
    switch.call("3230")
    wait_until(lambda: switch.server.calls)
    switch.server.hold.set()
    wait_until(lambda: not switch.channels())


def test_the_voice_server_is_told_the_line_and_the_call_is_french(switch: Switch) -> None:
    switch.call("+33969325252")
    wait_until(lambda: switch.server.calls)
    assert switch.server.calls[0]["agi_extension"] == "+33969325252"
    assert switch.server.calls[0]["agi_language"] == "fr"


@pytest.mark.parametrize(
    ("line", "digits"),
    [
        ("3230x", "3230"),
        ("3230;id", "3230"),
        ("32${EXTEN}", "32"),
        ('3230\\"', "3230"),  # escaped for the console
        ("3230)", "3230"),
        ("3230,1", "32301"),
    ],
)
def test_a_number_that_is_no_number_never_reaches_the_voice_server(
    switch: Switch, line: str, digits: str
) -> None:
    before = len(switch.records())
    switch.call(line)
    wait_until(lambda: any(f'"{digits}"' in record for record in switch.records()[before:]))
    assert [record for record in switch.records()[before:] if "NO ANSWER" not in record] == []
    assert switch.server.calls == []


INVITE = """\
INVITE sip:3230@127.0.0.1:{port} SIP/2.0
Via: SIP/2.0/{transport} {source};branch=z9hG4bK{branch};rport
From: "{name}" <sip:{user}@{source}>;tag=a
To: <sip:3230@127.0.0.1:{port}>
Call-ID: {branch}
CSeq: 1 INVITE
Contact: <sip:{user}@{source}>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: {length}

{body}"""

SDP = """\
v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 40000 RTP/AVP 8
"""


def invitation(port: int, source: str, user: str, name: str = "", transport: str = "UDP") -> str:
    """Write a call from an address, by whoever the caller says to be."""
    branch, body = str(time.monotonic_ns()), SDP.replace("\n", "\r\n")
    head = {"port": port, "source": source, "branch": branch, "user": user, "name": name}
    return INVITE.replace("\n", "\r\n").format(
        **head, transport=transport, length=len(body), body=body
    )


def invite(switch: Switch, source: str, name: str = "", user: str = "0612345678") -> str:
    """Give the status of the last answer to a call that comes from an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind((source, 0))
        caller.settimeout(5)
        own = f"{source}:{caller.getsockname()[1]}"
        text = invitation(switch.settings.sip_port, own, user, name)
        caller.sendto(text.encode(), ("127.0.0.1", switch.settings.sip_port))
        status = "SIP/2.0 100"
        while status.startswith("SIP/2.0 1"):
            status = caller.recv(65536).decode().split("\r\n")[0]
        return status


def test_only_the_trunk_may_call(switch: Switch) -> None:
    assert invite(switch, "127.0.0.2") == "SIP/2.0 401 Unauthorized"
    assert invite(switch, "127.0.0.1") == "SIP/2.0 200 OK"
    wait_until(lambda: len(switch.server.calls) == 1)


@pytest.mark.parametrize("user", ["telephone", "trunk"])
def test_who_says_to_be_an_endpoint_is_none(switch: Switch, user: str) -> None:
    assert invite(switch, "127.0.0.2", user=user) == "SIP/2.0 401 Unauthorized"


def test_there_is_no_web_server_and_no_telephone_without_svi_up(switch: Switch) -> None:
    assert "Server Disabled" in switch.asterisk.cli("http show status")
    assert "ws" not in switch.asterisk.cli("pjsip show transports").lower().split()
    assert "telephone" not in switch.asterisk.cli("pjsip show endpoints")


@pytest.mark.parametrize(
    "name", ["${SHELL(id)}", "$[1/0]", "a,b|c&d", "agi_extension: 3238", "é" * 60, "'; rm -rf /"]
)
def test_the_name_that_a_caller_gives_has_no_effect(switch: Switch, name: str) -> None:
    assert invite(switch, "127.0.0.1", name) == "SIP/2.0 200 OK"
    wait_until(lambda: switch.server.calls)
    environment = switch.server.calls[0]
    assert environment["agi_extension"] == "3230"
    assert name[:30] in environment["agi_calleridname"]


def test_a_call_record_says_when_how_long_and_which_line_only(switch: Switch) -> None:
    before = len(switch.records())
    switch.server.hold.set()
    switch.server.commands = ["SET VARIABLE SVI_NEXT hangup"]
    switch.call("3238")
    wait_until(lambda: len(switch.records()) > before)
    date, number = r'"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"', r"\d+"
    record = next(line for line in switch.records()[before:] if "3238" in line)
    assert re.fullmatch(rf'{date},{number},"ANSWERED","\d+\.\d+","3238"', record)


# ------------------------------------------------------------- the telephone of `svi up`'s page


@pytest.fixture(scope="module")
def with_telephone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Switch, Telephone]]:
    """An Asterisk that pages may call."""
    telephone = Telephone(0, free_port(socket.SOCK_STREAM), {})
    with VoiceServer() as server:
        home = tmp_path_factory.mktemp("telephone") / "home"
        settings = replace(settings_in(home, server.port), addition=telephone.asterisk_files)
        asterisk = Asterisk(settings)
        asterisk.start()
        try:
            asterisk.wait_ready(READY_SECONDS)
            yield Switch(asterisk, settings, server), telephone
        finally:
            asterisk.stop()


@pytest.mark.parametrize("user", ["0612345678", "trunk", "telephone"])
def test_a_telephone_lets_no_stranger_in(
    with_telephone: tuple[Switch, Telephone], user: str
) -> None:
    switch, _ = with_telephone
    assert invite(switch, "127.0.0.2", user=user) == "SIP/2.0 401 Unauthorized"
    assert switch.server.calls == []


def test_a_telephone_leaves_the_trunk_as_it_is(with_telephone: tuple[Switch, Telephone]) -> None:
    switch, _ = with_telephone
    assert invite(switch, "127.0.0.1", user="trunk") == "SIP/2.0 200 OK"
    wait_until(lambda: len(switch.server.calls) == 1)
    switch.server.calls.clear()


async def test_without_the_secret_no_site_reaches_asterisk(
    with_telephone: tuple[Switch, Telephone],
) -> None:
    """Any page of this machine's browsers may ask: neither the path nor the name is enough."""
    switch, telephone = with_telephone
    values = telephone.asterisk_files.values
    server, secret = f"http://127.0.0.1:{values['TELEPHONE_PORT']}", values["TELEPHONE_SECRET"]
    async with aiohttp.ClientSession() as session:
        for path in ("/ws", "/", "/httpstatus", f"/{secret[1:]}/ws"):
            async with session.get(server + path) as answer:
                assert answer.status == 404
        async with session.ws_connect(f"{server}/{secret}/ws", protocols=["sip"]) as link:
            text = invitation(switch.settings.sip_port, "x.invalid", "telephone", transport="WS")
            await link.send_str(text)
            status = (await link.receive_str(timeout=5)).split("\r\n")[0]
            assert status == "SIP/2.0 401 Unauthorized"
    assert switch.server.calls == []
