"""The whole service under real calls: a real Asterisk, our voice server, a voice of tones."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ivr.ami import AmiLink
from ivr.asterisk import Asterisk, AsteriskSettings
from ivr.script import Script
from ivr.server import VoiceServer
from shared import logs
from shared.clock import system_clock
from shared.database import Database
from shared.keyring import KeyRing
from shared.secret import Secret
from shared.store import Store
from tests.acceptance import tones
from tests.acceptance.caller import Call, CallResult, Step, place_calls
from tests.acceptance.machine import READY_SECONDS, ROOT, free_port
from tests.store import CountingHasher, cheap_rules
from tests.telephony import script_with_silence

AMI_SECRET = "open-sesame"


@dataclass
class AmiWitness:
    """Keeps every byte that Asterisk's manager sends to the user of the voice server."""

    port: int
    seen: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        login = f"Action: Login\r\nUsername: svi\r\nSecret: {AMI_SECRET}\r\nEvents: on\r\n\r\n"
        self._socket.sendall(login.encode())
        while b"Authentication accepted" not in self.seen:
            self.seen += self._socket.recv(4096)
        self._socket.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while received := self._socket.recv(4096):
            self.seen += received

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass
class Service:
    """The running service and how to call it."""

    home: Path
    store: Store
    hasher: CountingHasher
    script: Script
    voice: VoiceServer
    asterisk: Asterisk
    settings: AsteriskSettings
    witness: AmiWitness
    link: AmiLink

    def call(
        self, *steps: Step, caller: str = "0612345678", line: str = "3230", name: bytes = b""
    ) -> CallResult:
        """Place one call and give what was heard."""
        return self.calls([Call(steps, line, caller)], name)[0]

    def calls(self, calls: Sequence[Call], name: bytes = b"") -> list[CallResult]:
        """Place calls at once."""
        return place_calls(
            calls,
            sip_port=self.settings.sip_port,
            prompt_ids=sorted(self.script.catalogue.ids),
            caller_name=name,
        )


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all calls of the run."""
    with running_service(tmp_path_factory.mktemp("svi")) as service:
        yield service


@contextmanager
def running_service(home: Path, **changes: Any) -> Iterator[Service]:
    """Run a service with a home of its own; `changes` are to its store."""
    script = script_with_silence(1.5)
    prompts = home / "prompts"
    prompts.mkdir()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    tones.write_voice(prompts, [*sorted(script.catalogue.ids), *silences])
    logs.configure(home / "voice.log")
    database = Database(f"sqlite:///{home / 'svi.db'}")
    database.migrate()
    hasher = CountingHasher()
    keys = KeyRing.create(home / "keys.json")
    store = replace(Store(database, keys, cheap_rules(), hasher, system_clock), **changes)
    ami_port = free_port(socket.SOCK_STREAM)
    link = AmiLink("127.0.0.1", ami_port, "svi", Secret(AMI_SECRET))
    voice = VoiceServer(store, script, move=link.announce_incident)
    host, port = voice.address
    settings = AsteriskSettings(
        sip_host="127.0.0.1",
        sip_port=free_port(socket.SOCK_DGRAM),
        agi_address=f"{host}:{port}",
        ami_port=ami_port,
        ami_secret=Secret(AMI_SECRET),
        home=home / "asterisk",
        root=ROOT,
        prompts=prompts,
    )
    asterisk = Asterisk(settings)
    with ExitStack() as stack:
        stack.callback(store.close)
        voice.start()
        stack.callback(voice.stop, 0)
        asterisk.start()
        stack.callback(asterisk.stop)
        asterisk.wait_ready(READY_SECONDS)
        stack.enter_context(link)
        link.wait_up(READY_SECONDS)
        witness = AmiWitness(settings.ami_port)
        stack.callback(witness.close)
        yield Service(home, store, hasher, script, voice, asterisk, settings, witness, link)
