"""« Mot de passe oublié » on real calls: the SMS, its password, and what nobody can tell."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.models import Message, MessageState
from sms.providers.file import FileProvider
from sms.templates import Templates
from svi.gateway import dispatching
from svi.settings import Settings
from tests.acceptance.caller import HangUp, Pause, Type
from tests.acceptance.conftest import Service, running_service
from tests.acceptance.machine import wait_until
from tests.store import CAISSE, PASSWORD, add_account, watch
from tests.telephony import add_dossier, records


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose messages these tests can count."""
    with running_service(tmp_path_factory.mktemp("forgotten")) as service:
        yield service


def forget(service: Service, number: str, caller: str, then: str = "") -> list[str]:
    """Call, say « oublié », confirm it, perhaps type a password; give what was heard."""
    before = len(records(service.store))
    result = service.call(
        *(Pause(0.5), Type(CAISSE + number), Pause(0.5), Type("#"), Pause(0.1), Type("1")),
        *((Pause(0.5), Type(then)) if then else ()),
        Pause(2),
        HangUp(),
        caller=caller,
    )
    wait_until(lambda: len(records(service.store)) == before + 1)
    return result.heard


def log_in(service: Service, number: str, password: str, caller: str) -> str:
    """Call with a password and give the record's outcome."""
    before = len(records(service.store))
    typed = Type(CAISSE + number + password)
    service.call(Pause(0.5), typed, Pause(2), HangUp(), caller=caller)
    wait_until(lambda: len(records(service.store)) == before + 1)
    return records(service.store)[-1].outcome


def messages(service: Service) -> list[Message]:
    with service.store.database.read() as transaction:
        return list(transaction.scalars(select(Message).order_by(Message.created_at)))


def received(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_the_sms_arrives_and_its_password_logs_in(service: Service) -> None:
    """R10, R11, D03, D12: the old password until the new one is used, from then not."""
    number, file = "3000001", service.home / "sms.jsonl"
    add_dossier(service.store, number)
    provider = FileProvider(file, lambda _: None, only_invented_people=True)
    with dispatching(service.store, provider, Templates.load(Settings().templates)):
        heard = forget(service, number, "0199000001", then=PASSWORD)
        assert "oubli-demande" in heard
        assert "choix-dernier-paiement" in heard  # the old password still opens the dossier
        assert records(service.store)[-1].outcome == "reset_requested"
        wait_until(lambda: messages(service)[-1].state == MessageState.ACCEPTED)
    [sms] = received(file)
    assert sms["to"] == "+33612345678"
    [groups] = re.findall(r"\b\d{4} \d{4}\b", sms["text"])  # D14
    password = groups.replace(" ", "")
    assert log_in(service, number, password, "0199000002") == "authenticated"
    assert log_in(service, number, PASSWORD, "0199000003") == "abandoned"
    assert log_in(service, number, password, "0199000004") == "authenticated"

    elsewhere = [
        path
        for path in service.home.rglob("*")
        if path.is_file() and path != file and path.suffix != ".wav"
    ]
    arguments = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            arguments.append(process.read_bytes())
    written = {path.name for path in elsewhere}
    assert {"svi.db", "svi.db-wal", "voice.log", "messages", "appels.csv"} <= written
    assert any(b"sterisk" in one for one in arguments)  # the search does find things
    contents: list[bytes] = [
        *(p.read_bytes() for p in elsewhere),
        *arguments,
        bytes(service.witness.seen),
    ]
    for content in contents:
        assert password.encode() not in content
        assert groups.encode() not in content


def test_nobody_can_tell_what_a_request_did(service: Service) -> None:
    """D04, D06: with mobile, unknown, without mobile, too often: same words and operations."""
    add_dossier(service.store, "3000002")
    add_account(service.store, "3000003", mobile=None)
    left, heard, operations = [], [], []
    for at, number in enumerate(("3000002", "3000009", "3000003", "3000002")):
        before = len(messages(service))
        statements = watch(service.store.database)
        heard.append(forget(service, number, f"019900001{at}"))
        operations.append(Counter(statements))
        left.append([message.route for message in messages(service)[before:]])
    words = [[p for p in prompts if not p.startswith("chiffre-")] for prompts in heard]
    assert words[0] == words[1] == words[2] == words[3]
    assert "oubli-demande" in words[0]
    assert operations[0] == operations[1] == operations[2] == operations[3]
    assert left == [["sms"], [], ["letter"], []]
