"""What the SMPP provider reads: receipts of every make (SMPP 3.4, appendix B), its account."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shared.errors import SettingsError
from shared.models import MessageState
from shared.outbox import Result
from shared.secret import Secret
from sms.provider import Outgoing
from sms.providers.smpp import (
    MESSAGE_STATE,
    RECEIPTED_MESSAGE_ID,
    ReceiptIds,
    SmppAccount,
    SmppProvider,
    SmppReceipt,
    SmppSettings,
)
from sms.providers.smpp_inbound import MESSAGE_PAYLOAD
from sms.smpp import Answer, AnswerLostError, Delivery, Link, LinkPace, Smsc, Status, open_link
from tests.gateway import LONG, QUEUED_AT

DELIVERED, UNDELIVERED = MessageState.DELIVERED, MessageState.UNDELIVERED
DATES = "submit date:2110091200 done date:2110091201"


def receipt(
    text: str, options: dict[int, bytes] | None = None, ids: ReceiptIds = ReceiptIds.SAME
) -> SmppReceipt | None:
    return SmppReceipt.read(Delivery(0x04, text.encode(), options or {}), ids)


TEXTS = {
    "the standard's": (f"id:12 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 text:", DELIVERED),
    "capitals": (f"ID:12 SUB:001 DLVRD:001 {DATES} STAT:delivrd ERR:000 TEXT:", DELIVERED),
    "no text": (f"id:12 {DATES} stat:DELIVRD err:000", DELIVERED),
    "in another order": ("stat:DELIVRD err:000 id:12", DELIVERED),
    "a text that looks like one": ("id:12 stat:DELIVRD err:000 text:id:9 stat:UNDELIV", DELIVERED),
    "the first counts": ("id:12 stat:DELIVRD err:000 id:9 stat:UNDELIV", DELIVERED),
    "not delivered": ("id:12 stat:UNDELIV err:001", UNDELIVERED),
    "too late": ("id:12 stat:EXPIRED err:001", UNDELIVERED),
    "rejected": ("id:12 stat:REJECTD err:001", UNDELIVERED),
    "deleted": ("id:12 stat:DELETED err:001", UNDELIVERED),
    "on its way": ("id:12 stat:ENROUTE err:000", MessageState.ACCEPTED),
    "taken": ("id:12 stat:ACCEPTD err:000", MessageState.ACCEPTED),
    "not known": ("id:12 stat:UNKNOWN err:000", None),
    "never heard of": ("id:12 stat:SOLDOUT err:000", None),
    "no state": ("id:12 err:000", None),
}


@pytest.mark.parametrize(("text", "state"), TEXTS.values(), ids=TEXTS)
def test_a_receipt_as_text(text: str, state: MessageState | None) -> None:
    read = receipt(text)
    assert read is not None
    assert (read.provider_id, read.state) == ("12", state)


def test_the_networks_error_is_read() -> None:
    assert receipt("id:12 stat:UNDELIV err:04B text:") == SmppReceipt("12", UNDELIVERED, "04B")


STATES = [
    (1, MessageState.ACCEPTED),
    (2, DELIVERED),
    (3, UNDELIVERED),
    (4, UNDELIVERED),
    (5, UNDELIVERED),
    (6, MessageState.ACCEPTED),
    (7, None),
    (8, UNDELIVERED),
    (9, None),
]


@pytest.mark.parametrize(("number", "state"), STATES)
def test_a_receipt_as_parameters(number: int, state: MessageState | None) -> None:
    options = {RECEIPTED_MESSAGE_ID: b"ab-12\0", MESSAGE_STATE: bytes([number])}
    assert receipt("", options) == SmppReceipt("ab-12", state, "")


def test_an_identifier_without_its_end_is_read_whole() -> None:
    assert receipt("stat:DELIVRD", {RECEIPTED_MESSAGE_ID: b"12"}) == SmppReceipt(
        "12", DELIVERED, ""
    )


def test_a_receipt_in_the_payload() -> None:
    read = receipt("", {MESSAGE_PAYLOAD: b"id:12 stat:DELIVRD err:000"})
    assert read == SmppReceipt("12", DELIVERED, "000")


IDS = {
    "as it is": (ReceiptIds.SAME, "00Ab", {}, "00Ab"),
    "in decimal": (ReceiptIds.DECIMAL, "171", {}, "171"),
    "in hexadecimal": (ReceiptIds.HEXADECIMAL, "00Ab", {}, "171"),
    "not the number it should be": (ReceiptIds.DECIMAL, "x-1", {}, "x-1"),
    "as given, beside decimal": (ReceiptIds.DECIMAL, "9", {RECEIPTED_MESSAGE_ID: b"ab\0"}, "171"),
    "as given, beside hexadecimal": (
        ReceiptIds.HEXADECIMAL,
        "9",
        {RECEIPTED_MESSAGE_ID: b"0171\0"},
        "171",
    ),
}


@pytest.mark.parametrize(("ids", "told", "options", "read"), IDS.values(), ids=IDS)
def test_the_identifier_is_written_as_for_the_message(
    ids: ReceiptIds, told: str, options: dict[int, bytes], read: str
) -> None:
    """171 is ab: what the SMSC gives in the one, a receipt may say in the other."""
    found = receipt(f"id:{told} stat:DELIVRD", options, ids)
    assert found is not None
    assert found.provider_id == read


NAMELESS = ["", "stat:DELIVRD err:000", "id: stat:DELIVRD", "text:id:12", "\x00\xff", "id:"]


@pytest.mark.parametrize("text", NAMELESS)
def test_a_receipt_that_names_nothing(text: str) -> None:
    assert receipt(text) is None
    assert receipt(text, {RECEIPTED_MESSAGE_ID: b"\0", MESSAGE_STATE: b""}) is None


def test_no_delivery_shows_what_it_quotes() -> None:
    assert "8392" not in repr(Delivery(0x04, b"id:1 text:8392 7415", {MESSAGE_PAYLOAD: b"8392"}))


class Asked(Link):
    """Takes all that is submitted, and keeps it."""

    def __init__(self) -> None:
        self.fields: list[dict[str, Any]] = []

    async def submit(self, **fields: Any) -> Answer:
        self.fields.append(fields)
        return Answer(Status.ESME_ROK, "1")


class Late(Asked):
    """Takes the first SMS of a message, and has the answer to the second come late."""

    def __init__(self, late: Answer) -> None:
        super().__init__()
        self._late = late

    async def submit(self, **fields: Any) -> Answer:
        answer = await super().submit(**fields)
        if len(self.fields) < 2:
            return answer
        late = asyncio.get_running_loop().create_future()
        lost = AnswerLostError(late)
        late.set_result(self._late)
        raise lost


@pytest.mark.parametrize("status", [Status.ESME_RTHROTTLED, Status.ESME_RINVDSTADR])
async def test_a_late_no_to_the_rest_of_a_message_is_no_no_to_all_of_it(status: Status) -> None:
    """The SMSC has its beginning: sent again it would come twice."""
    account = SmppAccount("caf", Secret("secret"))
    provider = SmppProvider(SmppSettings(account, "smsc"), Late(Answer(status, "")))
    text = Secret("Bonjour " * 30)
    life = timedelta(hours=1)
    long = Outgoing(uuid4(), "+33612345678", text, "Caf", uuid4(), life, QUEUED_AT)
    assert (await provider.send(long)).result is Result.UNCERTAIN
    assert await provider.look_up(long) is None


LIVES = {
    "a password's": (timedelta(hours=24), "000001000000000R"),
    "what is left of a code's ten minutes (R15)": (
        timedelta(minutes=9, seconds=7.2),
        "000000000908000R",
    ),
    "until the evening (R24)": (timedelta(hours=13, minutes=30), "000000133000000R"),
    "the least": (timedelta(seconds=1), "000000000001000R"),
    "more than an SMSC keeps": (timedelta(days=31), "000030000000000R"),
}


@pytest.mark.parametrize(("life", "told"), LIVES.values(), ids=LIVES)
async def test_an_smsc_is_told_how_long_a_message_lives(life: timedelta, told: str) -> None:
    """YYMMDDhhmmss000R, from now on (SMPP 3.4, 7.1.1.2)."""
    link = Asked()
    provider = SmppProvider(SmppSettings(SmppAccount("caf", Secret("secret")), "smsc"), link)
    text = Secret("Bonjour")
    await provider.send(Outgoing(uuid4(), "+33612345678", text, "Caf", uuid4(), life, QUEUED_AT))
    assert [fields["validity_period"] for fields in link.fields] == [told]


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "smpp.json"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def as_json(system_id: object = "caf", password: object = "secret") -> str:  # noqa: S107
    return json.dumps({"system_id": system_id, "password": password})


@pytest.mark.parametrize(("system_id", "password"), [("caf", "secret"), ("c" * 15, "s" * 8)])
def test_the_account_comes_from_a_file(tmp_path: Path, system_id: str, password: str) -> None:
    account = SmppAccount.load(written(tmp_path, as_json(system_id, password)))
    assert (account.system_id, account.password.reveal()) == (system_id, password)
    assert "caf" not in repr(account)
    assert "secret" not in repr(account)


BAD_FILES = {
    "others may read": (as_json(), 0o640, "chmod 600"),
    "cut": (as_json()[:-1], 0o600, "recopiez ceux"),
    "no object": ("[]", 0o600, "recopiez ceux"),
    "no system id": (as_json(""), 0o600, "recopiez ceux"),
    "a system id that SMPP would cut": (as_json("c" * 16), 0o600, "recopiez ceux"),
    "a password that SMPP would cut": (as_json(password="secret789"), 0o600, "recopiez ceux"),
    "a password that is no text": (as_json(password=5), 0o600, "recopiez ceux"),
    "a NUL": (as_json(password="secr\0et"), 0o600, "recopiez ceux"),
    "accents": (as_json(password="secrét"), 0o600, "recopiez ceux"),
}


@pytest.mark.parametrize(("text", "mode", "advice"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_account_is_told_in_one_line(
    tmp_path: Path, text: str, mode: int, advice: str
) -> None:
    path = written(tmp_path, text, mode)
    with pytest.raises(SettingsError, match=advice) as raised:
        SmppAccount.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "secr" not in message


@asynccontextmanager
async def flooding(bound: asyncio.Semaphore) -> AsyncIterator[Smsc]:
    """Run an SMSC that binds us, brings receipts of hours at once, and answers nothing more."""
    body = b"\0\1\1" + b"336\0\1\1caf\0" + bytes(9) + b"\4STOP"
    delivery = struct.pack(">LLLL", 16 + len(body), 0x05, 0, 1) + body

    async def smsc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bind = await reader.readuntil(b"secret\0")
        writer.write(struct.pack(">LLLL", 17, 0x80000009, 0, *struct.unpack_from(">L", bind, 12)))
        writer.write(b"\0" + delivery * 1000)
        bound.release()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(smsc, "127.0.0.1") as server, asyncio.timeout(LONG):
        port = server.sockets[0].getsockname()[1]
        yield Smsc("127.0.0.1", port, "caf", Secret("secret"))


async def never(_: Delivery) -> Status:
    """Deal with a delivery for ever."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.asyncio
async def test_a_stop_does_not_wait_for_all_that_the_smsc_brought() -> None:
    """What was not answered comes again."""
    come = asyncio.Event()

    async def receive(delivery: Delivery) -> Status:
        come.set()
        return await never(delivery)

    pace = LinkPace(unbind=0.01)
    async with flooding(asyncio.Semaphore(0)) as smsc, open_link(smsc, receive, lambda _: 0, pace):
        await come.wait()


@pytest.mark.asyncio
async def test_nor_does_the_next_link_to_one_that_is_mute() -> None:
    bound = asyncio.Semaphore(0)
    pace = LinkPace(enquire=0.01, answer=1.0, first=0.01)
    async with flooding(bound) as smsc, open_link(smsc, never, lambda _: 0, pace):
        for _ in range(2):
            await bound.acquire()
