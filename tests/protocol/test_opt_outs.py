"""Opting out of campaigns by the API and by `svi opt-outs` (R24)."""

import json
import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from shared import opt_outs
from shared.client import ApiError, StoreClient
from shared.contacts import Contact, read_contact
from shared.models import Message, MessageState, OptOut, Priority
from shared.store import Store
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.api import Api, running
from tests.gateway import MOBILE, message, queue

MAIL = "claire@exemple.fr"
CONTACTS = [MOBILE, MAIL]
PERSONAL = (MOBILE[3:], "12 34 56 78", MAIL, "claire")
numbers = count()


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    with running(store) as api:
        yield api


def found(store: Store, text: str) -> OptOut | None:
    contact = read_contact(text)
    assert contact is not None
    with store.database.read() as transaction:
        return opt_outs.find(store, transaction, contact)


@pytest.mark.parametrize("contact", CONTACTS)
def test_a_person_says_so_on_the_web_and_takes_it_back(
    api: Api, store: Store, contact: str
) -> None:
    client = StoreClient(api.url, api.key)
    for _ in range(2):  # told twice it is the same
        client.opt_out(contact)
        opted_out = found(store, contact)
        assert opted_out is not None
        assert opted_out.source == "api"
    for _ in range(2):
        client.opt_in(contact)
        assert found(store, contact) is None


def test_what_waits_is_taken_back(api: Api, store: Store) -> None:
    queued, contact = queue(store), read_contact(MOBILE)
    assert isinstance(contact, Contact)
    with store.database.write() as transaction:
        row = transaction.get_one(Message, queued)
        row.priority, row.destination_index = Priority.CAMPAIGN, contact.index(store.keys)
    StoreClient(api.url, api.key).opt_out("06 12 34 56 78")
    assert message(store, queued).state == MessageState.CANCELLED


WRONG: dict[str, object] = {
    "a foreign mobile": "+447400123456",
    "a landline": "0140295308",
    "a name": "claire",
    "a mail address with a space": "cl aire@exemple.fr",
    "two": f"{MAIL},{MAIL}",
    "nothing": "",
    "no text": 33612345678,
    "null": None,
    "a list": [MOBILE],
    "a NUL": MOBILE + "\x00",
    "a line more": MAIL + "\n",
}


@pytest.mark.parametrize("contact", WRONG.values(), ids=WRONG)
def test_what_is_no_contact_is_refused_and_not_repeated(
    api: Api, store: Store, contact: object
) -> None:
    for path in ("/v1/opt-outs", "/v1/opt-outs/remove"):
        key = f"{next(numbers):016}"
        refused = api.ask("POST", path, {"contact": contact}, idempotency=key)
        assert (refused.status, refused.problem) == (422, "invalid")
        assert [fault["field"] for fault in refused.json["errors"]] == ["contact"]
        assert not contact or str(contact).encode() not in refused.body
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(OptOut)) == 0


def test_answers_say_nothing_of_anybody(
    api: Api, store: Store, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    client = StoreClient(api.url, api.key)
    replies = []
    for contact in (MOBILE, MOBILE, "+33698765432"):
        client.opt_out(MAIL)
        key = f"{next(numbers):016}"
        replies.append(api.ask("POST", "/v1/opt-outs", {"contact": contact}, idempotency=key))
    assert {(reply.status, reply.body) for reply in replies} == {(204, b"")}
    with pytest.raises(ApiError) as raised:
        client.opt_out("0140295308")
    said = capsys.readouterr()
    shown = said.out + said.err + caplog.text + str(raised.value) + repr(raised.value)
    for personal in (*PERSONAL, "140295308"):
        assert personal not in shown


# The command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    prepare_home(Settings())
    with open_store(Settings()):
        return tmp_path


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["opt-outs", *arguments])


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("contact", ["06 12 34 56 78", "Claire@exemple.fr"])
def test_an_admin_does_it_for_a_person(contact: str) -> None:
    said = [
        svi(command, contact)
        for command in ("show", "add", "add", "show", "remove", "remove", "show")
    ]
    assert {one.exit_code for one in said} == {0}
    none, added, again, since, removed, nothing, none_left = (one.output.strip() for one in said)
    assert none == none_left == "ce contact ne refuse pas les campagnes"
    assert added == "plus de campagnes vers ce contact"
    assert again == "c'était déjà le cas"
    assert since.startswith("pas de campagnes depuis le 20")
    assert since.endswith("(command)")
    assert removed == "les campagnes viendront de nouveau à ce contact"
    assert nothing == "ce contact ne les refusait pas"


def test_the_contact_is_left_nowhere(home: Path) -> None:
    shown = "".join(svi(command, MOBILE).output for command in ("add", "show", "remove", "add"))
    wrong = svi("add", "0140295308")
    assert wrong.exit_code != 0
    assert "il faut un mobile français ou une adresse de courriel" in wrong.output
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"opt_out" in held  # the search does find things
    for personal in (*PERSONAL, "140295308"):
        assert personal not in shown + wrong.output + json.dumps(shown)
        assert personal.encode() not in held
