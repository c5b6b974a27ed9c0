"""After a day of every channel, no secret, NIR or contact stands in clear anywhere (D12, D13).

`svi voice` and `svi gateway` run as processes of their own, Asterisk and Twilio are simulated; then
every file of the installation and of its database is searched, in whatever way it may be written.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from math import ceil
from pathlib import Path

import pytest
from stdnum.fr.nir import calc_check_digits

from ivr.script_files import load_script
from ivr.simulated import HANG_UP, SimulatedCall
from shared.client import ApiError, Claim, StoreClient, Visitor
from shared.people import Address, PersonData
from shared.secret import Secret
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.acceptance import tones
from tests.acceptance.machine import free_port, wait_until
from tests.api import new_key
from tests.letters import PrintShop, print_shop
from tests.peers.fake_twilio import ACCOUNT_SID, TOKEN, FakeTwilio, fake_twilio
from tests.postgresql import PostgresqlServer
from tests.store import CAISSE
from tests.telephony import rules_of_the_cut_over
from tests.web import add_dossier

SVI = str(Path(sys.executable).with_name("svi"))
END_SECONDS = 60.0

NUMBER, LETTER_NUMBER = "4072319", "4072326"
PASSWORD, WRONG = "27182818", ("31415926", "16180339")
WEB_PASSWORD, NEW_WEB_PASSWORD, WRONG_WEB = "Tournesol1843q", "Capucine1844q", "Pervenche1845q"
NIR, OTHER_NIR = "2870359350117", "1790675112233"
OWNER = PersonData(
    surname="Quemeneur",
    given_names="Maëlle",
    birth_date=date(1987, 3, 4),
    nir=NIR,
    mobile="+33676543210",
    landline="+33298765401",
    email="maelle.quemeneur@exemple.fr",
)
BY_POST = PersonData(
    surname="Zwillinger",
    given_names="Basile",
    nir=OTHER_NIR,
    address=Address("17 venelle des Hortensias", None, "29200", "Brest"),
)
ON_FILE, STRANGER = "0676543210", "0144556677"
PERSONAL = (
    *(NIR, "2 87 03 59 350 117", OTHER_NIR, "1 79 06 75 112 233"),
    *("676543210", "0676543210", "298765401", "0298765401", "144556677", "0144556677"),
    *("maelle.quemeneur@exemple.fr", "Quemeneur", "Zwillinger", "venelle des Hortensias"),
)
CALLS = 6
HERE = Visitor("203.0.113.7")


@dataclass(repr=False)
class Installation:
    """The running processes, how to reach them, and every secret that went through them."""

    voice: tuple[str, int]
    voice_after: tuple[str, int]  # of a server for which the cut-over lies behind (D10)
    web: StoreClient
    twilio: FakeTwilio
    shop: PrintShop
    nims: Path  # where the agents' system drops its requests
    secrets: set[str] = field(
        default_factory=lambda: {PASSWORD, *WRONG, WEB_PASSWORD, NEW_WEB_PASSWORD, WRONG_WEB}
    )

    def call(self, *groups: str, caller: str = ON_FILE) -> list[str]:
        """Place a call to its end; give what was heard."""
        with SimulatedCall(self.voice, caller=caller, groups=[CAISSE, *groups, HANG_UP]) as call:
            call.wait_end(END_SECONDS)
        return call.heard

    def sms(self, rank: int) -> str:
        """Give the text of an SMS, once Twilio has it."""
        wait_until(lambda: len(self.twilio.asked) >= rank, END_SECONDS)
        text = self.twilio.asked[rank - 1]["Body"]
        self.secrets.add(text)
        return text

    def code(self, rank: int) -> str:
        """Give the code that an SMS brings; six bare digits may stand anywhere by chance."""
        [groups] = re.findall(r"\b\d{3} \d{3}\b", self.sms(rank))
        code = str(groups).replace(" ", "")
        self.secrets |= {str(groups), f'"{code}"'}
        return code

    def password(self, text: str) -> str:
        """Give the password that a message brings."""
        [groups] = re.findall(r"\b\d{4} \d{4}\b", text)
        password = str(groups).replace(" ", "")
        self.secrets.add(password)
        return password


def live_a_day(svi: Installation) -> None:
    """Go through every channel, with success and without."""
    assert "choix-dernier-paiement" in svi.call(NUMBER, WRONG[0], PASSWORD, "1")
    svi.call(NUMBER, "#", "1", caller=STRANGER)
    issued = svi.password(svi.sms(1))
    assert "choix-dernier-paiement" in svi.call(NUMBER, issued)

    _refused(lambda: svi.web.begin_bascule(HERE, NIR, Secret(WRONG[1])))
    steps = svi.web.begin_bascule(HERE, NIR, Secret(issued))
    svi.web.accept_terms(steps)
    svi.web.choose_password(steps, Secret(WEB_PASSWORD))
    code_id = svi.web.send_code(steps, "sms")
    svi.web.confirm_contact(steps, HERE.client, code_id, Secret(svi.code(2)))
    svi.web.make_account(steps)
    svi.sms(3)  # R23
    _refused(lambda: svi.web.log_in_person(HERE, NIR, Secret(WRONG_WEB)))
    assert svi.web.log_in_person(HERE, NIR, Secret(WEB_PASSWORD))
    code_id = svi.web.request_recovery(HERE, Claim(NIR, "Quemeneur", "sms"))
    steps = svi.web.verify_recovery(HERE, code_id, Secret(svi.code(4)))
    svi.web.recover_password(steps, Secret(NEW_WEB_PASSWORD))
    assert svi.web.log_in_person(HERE, NIR, Secret(NEW_WEB_PASSWORD))

    groups = [CAISSE, "1", NIR + calc_check_digits(NIR)]
    with SimulatedCall(svi.voice_after, caller=ON_FILE, groups=groups, patient=True) as call:
        call.type(svi.code(5))
        call.wait_heard("choix-dernier-paiement", END_SECONDS)

    svi.call(LETTER_NUMBER, "#", "1", caller=STRANGER)
    _command("letters", "run")
    [letter] = svi.shop.files()
    by_post = svi.password(svi.shop.read(letter))
    assert "choix-dernier-paiement" in svi.call(LETTER_NUMBER, by_post, caller=STRANGER)
    _ask_as_an_agent(svi.nims)
    svi.password(svi.sms(6))


def _refused(ask: Callable[[], object]) -> None:
    with pytest.raises(ApiError) as refused:
        ask()
    assert refused.value.kind.endswith(":login-refused")


def _ask_as_an_agent(folder: Path) -> None:
    folder.mkdir()
    task = folder / "nims-1.json"
    request = {"task": "nims-1", "kind": "password", "caisse": CAISSE, "number": NUMBER}
    task.write_text(json.dumps(request))
    os.utime(task, (0, 0))
    assert _command("tasks", "run", str(folder)) == "nims-1  done\n"


def _command(*words: str) -> str:
    return subprocess.run([SVI, *words], capture_output=True, text=True, check=True).stdout


# How a text may be written in a file


def as_written(*texts: str) -> dict[bytes, str]:
    """Give what to look for, however texts may be encoded or grouped, and how that is called."""
    return {needle: way for text in texts for way, needle in _ways(text)}


def found(ways: Mapping[bytes, str], content: bytes) -> list[str]:
    """Give in what ways any of the texts is written there, never the text."""
    return [way for needle, way in ways.items() if needle in content]


def _ways(text: str) -> Iterator[tuple[str, bytes]]:
    yield "plain", text.encode()
    yield "spaced", " ".join(text).encode()
    yield "in pairs", _grouped(text, 2, len(text) % 2)
    yield "in fours", _grouped(text, 4)
    yield "UTF-16", text.encode("utf-16-le")[:-1]  # of either byte order
    yield "hexadecimal", text.encode().hex().encode()
    for shift, place in enumerate(("first", "second", "third")):
        # Without the characters that the neighbours have a part in.
        encoded = b64encode(b"\0" * shift + text.encode())
        whole = (shift + len(text.encode())) * 8 // 6
        yield f"base64, {place}", encoded[ceil(shift * 8 / 6) : whole]


def _grouped(text: str, size: int, first: int = 0) -> bytes:
    groups = [text[:first], *(text[at : at + size] for at in range(first, len(text), size))]
    return " ".join(group for group in groups if group).encode()


@pytest.mark.parametrize(
    ("way", "content"),
    [
        ("plain", b"x27182818x"),
        ("spaced", b"2 7 1 8 2 8 1 8"),
        ("in pairs", b"27 18 28 18"),
        ("in fours", b"2718 2818"),
        ("UTF-16", "x27182818x".encode("utf-16-be")),
        ("UTF-16", "x27182818x".encode("utf-16-le")),
        ("hexadecimal", b"x27182818x".hex().encode()),
        ("base64, first", b64encode(b'27182818"}')),
        ("base64, second", b64encode(b'{"k1":"27182818"}')),
        ("base64, third", b64encode(b'{"key":"27182818"}')),
    ],
)
def test_the_search_finds_a_secret_however_it_is_written(way: str, content: bytes) -> None:
    assert found(as_written(PASSWORD), content) == [way]


# The installation


async def test_nothing_of_a_day_stands_in_clear_on_disk(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    home = tmp_path / "home"
    printer = print_shop(tmp_path)
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": ACCOUNT_SID, "auth_token": TOKEN}))
    account.chmod(0o600)
    after = tmp_path / "after"
    after.mkdir()
    rules_of_the_cut_over(after)
    ports = {
        name: free_port(socket.SOCK_STREAM)
        for name in ("SVI_AGI_PORT", "SVI_GATEWAY_PORT", "SVI_API_PORT")
    }
    port_after = free_port(socket.SOCK_STREAM)
    searched, began = [tmp_path], time.time()
    if not url.startswith("sqlite"):
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        searched.append(server.data)

    def live(twilio: FakeTwilio) -> None:
        settings = {
            "SVI_HOME": home,
            "SVI_DATABASE_URL": url,
            "SVI_PUBLIC_URL": "https://sms.exemple.fr",
            "SVI_TWILIO_ACCOUNT": account,
            "SVI_TWILIO_URL": twilio.url,
            "SVI_PRINTER": printer.certificate,
            **ports,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, str(value))
        key = _install(Settings())
        with ExitStack() as stack:
            stack.enter_context(_running(home, "voice"))
            changes = {"SVI_RULES": str(after / "rules.toml"), "SVI_AGI_PORT": str(port_after)}
            stack.enter_context(_running(home, "voice", **changes))
            stack.enter_context(_running(home, "gateway"))
            svi = Installation(
                voice=("127.0.0.1", ports["SVI_AGI_PORT"]),
                voice_after=("127.0.0.1", port_after),
                web=StoreClient(f"http://127.0.0.1:{ports['SVI_API_PORT']}", key),
                twilio=twilio,
                shop=PrintShop(home / "letters", printer.key, printer.certificate),
                nims=home / "nims",
            )
            live_a_day(svi)
            _assert_nothing_in_clear(svi.secrets, searched, began)  # with SQLite's WAL
        if len(searched) > 1:
            server.execute("CHECKPOINT")
        _assert_nothing_in_clear(svi.secrets, searched, began)

    async with fake_twilio() as twilio:
        await asyncio.to_thread(live, twilio)
    logs = b"".join(path.read_bytes() for path in (home / "logs").iterdir())
    assert logs.count(b"call_ended") >= CALLS
    assert found(as_written(NUMBER, LETTER_NUMBER), logs) == []


def _install(settings: Settings) -> Secret:
    """Make the home, with prompts and dossiers; give a key of the API."""
    prepare_home(settings)
    script = load_script()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    tones.write_voice(settings.prompts, [*script.catalogue.ids, *silences])
    with open_store(settings) as store:
        add_dossier(store, NUMBER, OWNER, PASSWORD)
        add_dossier(store, LETTER_NUMBER, BY_POST, None)
        return new_key(store)


@contextmanager
def _running(home: Path, command: str, **changes: str) -> Iterator[None]:
    """Run `svi voice` or `svi gateway` beside the block; what it prints stays in its home."""
    printed = home / f"{command}-{len(changes)}.out"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [SVI, command], env=os.environ | changes, stdout=out, stderr=subprocess.STDOUT
        )
    with process:
        try:
            wait_until(lambda: b"ready" in printed.read_bytes(), END_SECONDS)
            yield
        finally:
            process.terminate()


def _assert_nothing_in_clear(secrets: Iterable[str], folders: Sequence[Path], since: float) -> None:
    """Search every file that was written since then."""
    contents = {path: _read(path) for folder in folders for path in _written(folder, since)}
    ways = as_written(*secrets, *PERSONAL)
    in_clear = {path: found(ways, content) for path, content in contents.items()}
    assert {path: how for path, how in in_clear.items() if how} == {}
    # In `account` only (D13): the search does find things.
    assert any(LETTER_NUMBER.encode() in content for content in contents.values())


def _written(folder: Path, since: float) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # PostgreSQL does away with some by itself
            if path.is_file() and path.stat().st_mtime >= since:
                yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
