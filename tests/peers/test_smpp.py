"""The SMPP provider against an SMSC of npm smpp that fails in every way (peers.md, SMS peers)."""

import asyncio
import json
import logging
import re
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import select
from structlog.testing import capture_logs

from shared import inbound, opt_outs
from shared.contacts import Contact
from shared.errors import StoreDownError
from shared.inbound import Word
from shared.models import Message, MessageState, Route
from shared.origin import Origin
from shared.outbox import Report, Result
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from sms import gsm7
from sms.dispatcher import Dispatcher
from sms.inbound import Inbox
from sms.provider import Outgoing, ProviderStoppedError, Received
from sms.providers.smpp import ReceiptIds, SmppAccount, SmppProvider, SmppSettings, open_smpp
from sms.smpp import LinkPace
from sms.templates import Templates
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import FAST, IN_GROUPS, LIFE, PASSWORD, QUEUED_AT, dispatching, queue, until
from tests.gateway import message as stored
from tests.mail_server import AWAY
from tests.peers.npm import free_port
from tests.peers.smsc import Behaviour, SmscProcess, smsc
from tests.store import CAISSE, NUMBER, OWNER, FakeClock, add_account, log_in

SVI = str(Path(sys.executable).with_name("svi"))
MOBILE = "+33612345678"
TEXT = "Caf : votre mot de passe est 8392 7415. Ne le donnez à personne."
ACCOUNT = SmppAccount("caf", Secret("secret"))
PATIENT = LinkPace(connect=30, ready=30, answer=30, unbind=30, first=0.02, longest=0.1)
HURRIED = replace(PATIENT, answer=2)


def outgoing(
    text: str = TEXT, to: str = MOBILE, sender: str = "Caf", life: timedelta = LIFE
) -> Outgoing:
    return Outgoing(uuid4(), to, Secret(text), sender, uuid4(), life, QUEUED_AT)


async def unread(_: Received) -> None:
    raise AssertionError("nobody wrote to us")


def never_chance(_: int) -> int:
    return 0


class Receipts:
    """Keeps what it is told, and fails so many times before."""

    def __init__(self, failures: int = 0, error: type[Exception] = RuntimeError) -> None:
        self.told: list[tuple[str, MessageState]] = []
        self.failures = failures
        self._error = error

    async def keep(self, provider_id: str, state: MessageState) -> None:
        if self.failures:
            self.failures -= 1
            raise self._error("the store is away")
        self.told.append((provider_id, state))


def settings(port: int, pace: LinkPace = PATIENT) -> SmppSettings:
    return SmppSettings(ACCOUNT, "127.0.0.1", port, pace=pace)


@asynccontextmanager
async def both(
    behaviour: Behaviour | None = None,
    pace: LinkPace = PATIENT,
    receipts: Receipts | None = None,
    ids: ReceiptIds = ReceiptIds.SAME,
) -> AsyncIterator[tuple[SmscProcess, SmppProvider]]:
    keep = (receipts or Receipts()).keep
    async with smsc(behaviour) as center:
        ours = replace(settings(center.port, pace), receipt_ids=ids)
        async with open_smpp(ours, keep, unread, never_chance) as provider:
            yield center, provider


async def test_a_message_is_submitted_once_with_all_that_an_smsc_needs() -> None:
    async with both() as (center, provider):
        report = await provider.send(outgoing())
        await center.told("submit")
    assert report == Report(Result.ACCEPTED, provider_id="00000001", parts=("00000001",))
    [submitted] = center.all("submit")
    life = datetime.fromisoformat(submitted.pop("validity")) - datetime.now(UTC)
    assert timedelta(hours=23) < life < timedelta(hours=25)
    assert submitted == {
        "event": "submit",
        "to": MOBILE[1:],
        "numbering": [1, 1, 5, 0],  # international, E.164; alphanumeric
        "from": "Caf",
        "text": TEXT,
        "udh": None,
        "esm_class": 0,
        "data_coding": 0,
        "receipt": 1,
    }


async def test_an_smsc_forgets_a_code_when_its_life_ends() -> None:
    """R15: it reads the ten minutes as ten minutes, from when it got the SMS."""
    before = datetime.now(UTC) - timedelta(seconds=1)  # the SMSC may read whole seconds
    async with both() as (center, provider):
        await provider.send(outgoing(life=timedelta(minutes=10)))
        await center.told("submit")
    [submitted] = center.all("submit")
    until_then = datetime.fromisoformat(submitted["validity"]) - timedelta(minutes=10)
    assert before < until_then < datetime.now(UTC) + timedelta(seconds=1)


async def test_it_binds_as_a_transceiver_and_takes_leave() -> None:
    async with smsc() as center:
        async with open_smpp(
            settings(center.port), Receipts().keep, unread, never_chance
        ) as provider:
            await provider.send(outgoing())
            assert center.all("unbind") == []
        await center.told("closed")
    assert center.all("bind") == [
        {"event": "bind", "command": "bind_transceiver", "version": 0x34, "status": 0}
    ]
    events = [one["event"] for one in center.seen]
    assert [event for event in events if event in {"unbind", "closed"}] == ["unbind", "closed"]


SENDERS = {"a name": ("Caf", [5, 0]), "a short code": ("3230", [3, 0])} | {
    "a number": ("33612345678", [1, 1])
}


@pytest.mark.parametrize(("sender", "numbering"), SENDERS.values(), ids=SENDERS)
async def test_the_kind_of_sender_is_told(sender: str, numbering: list[int]) -> None:
    async with both() as (center, provider):
        await provider.send(outgoing(sender=sender))
        await center.told("submit")
    assert center.all("submit")[0]["numbering"][2:] == numbering


EVERY_LETTER = "".join(gsm7.SEPTETS)
TEXTS = {
    "accents": "Déjà créé, où ? Là, l'été, 5 € [ÄÖÑÜ]",
    "every letter": EVERY_LETTER,
    "the longest alone": "é" * 160,
    "two": "é" * 161,
    "an escape at the border": "a" * 152 + "€" * 9,
    "five": EVERY_LETTER * 5,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_the_smsc_reads_what_we_wrote(text: str) -> None:
    """Decoded by npm smpp; the parts of a message are joined as a telephone does."""
    async with both() as (center, provider):
        report = await provider.send(outgoing(text))
        parts = gsm7.segments(text)
        await center.told("submit", len(parts))
    names = tuple(f"{number:08x}" for number in range(1, len(parts) + 1))
    assert report == Report(Result.ACCEPTED, provider_id=names[-1], parts=names)
    assert center.texts() == parts
    submitted = center.all("submit")
    if len(parts) > 1:
        reference = submitted[0]["udh"][0][2]
        assert [one["udh"] for one in submitted] == [
            [[0, 3, reference, len(parts), number]] for number in range(1, len(parts) + 1)
        ]
        assert {one["esm_class"] for one in submitted} == {0x40}


async def test_what_is_not_gsm7_is_refused() -> None:
    async with both() as (center, provider):
        assert await provider.send(outgoing("Ça ira peut-être")) == Report(
            Result.REFUSED, "not-gsm7"
        )
        await provider.send(outgoing())
        await center.told("submit")
    assert center.texts() == [TEXT]


STATUSES = [
    # status, name, what becomes of the message, seconds until the next
    (0x08, "ESME_RSYSERR", Result.RETRY, None),
    (0x14, "ESME_RMSGQFUL", Result.RETRY, 1.0),
    (0x58, "ESME_RTHROTTLED", Result.RETRY, 1.0),
    (0x64, "ESME_RX_T_APPN", Result.RETRY, None),
    (0x01, "ESME_RINVMSGLEN", Result.REFUSED, None),
    (0x0A, "ESME_RINVSRCADR", Result.REFUSED, None),
    (0x45, "ESME_RSUBMITFAIL", Result.REFUSED, None),
    (0x65, "ESME_RX_P_APPN", Result.REFUSED, None),
    (0x66, "ESME_RX_R_APPN", Result.REFUSED, None),
    (999, "0x000003e7", Result.REFUSED, None),  # an operator's own
]


async def test_what_a_status_means() -> None:
    async with both() as (_, provider):
        for status, name, result, wait in STATUSES:
            report = await provider.send(outgoing(to=f"+3361240{status:03}"))
            elsewhere = result is Result.REFUSED  # another provider may take it, by its sender
            assert report == Report(result, name, retry_after=wait, elsewhere=elsewhere), name
        report = await provider.send(outgoing(to="+33612350000"))
        assert report == Report(Result.REFUSED, "ESME_RINVDSTADR")


async def test_an_account_that_is_closed_stops_us() -> None:
    async with both() as (_, provider):
        with pytest.raises(ProviderStoppedError, match="ESME_RINVPASWD"):
            await provider.send(outgoing(to="+3361240014"))


async def test_a_link_that_the_smsc_forgot_is_made_anew() -> None:
    async with both() as (center, provider):
        report = await provider.send(outgoing(to="+3361240004"))
        assert report == Report(Result.RETRY, "ESME_RINVBNDSTS")
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
        await center.told("bind", 2)


WRONG = {"password": (0x0E, "ESME_RINVPASWD"), "system id": (0x0F, "ESME_RINVSYSID")}


@pytest.mark.parametrize(("status", "name"), WRONG.values(), ids=WRONG)
async def test_wrong_credentials_stop_us_at_once(status: int, name: str) -> None:
    wrong = replace(ACCOUNT, password=Secret("guess"))
    async with smsc(Behaviour(wrong_status=status)) as center:
        ours = replace(settings(center.port), account=wrong)
        async with open_smpp(ours, Receipts().keep, unread, never_chance) as provider:
            for _ in range(2):
                with pytest.raises(ProviderStoppedError, match=name):
                    await provider.send(outgoing())
        assert len(center.all("bind")) == 1


async def test_a_bind_that_fails_for_now_is_tried_again() -> None:
    """Thus speaks an SMSC for which our last link is still open."""
    async with both(Behaviour(refuse_binds=7)) as (center, provider):
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
    assert [one["status"] for one in center.all("bind")] == [0x0D] * 7 + [0]


async def test_a_bind_that_always_fails_is_our_fault() -> None:
    async with both(Behaviour(refuse_binds=9)) as (center, provider):
        with pytest.raises(ProviderStoppedError, match="ESME_RBINDFAIL"):
            await provider.send(outgoing())
    assert len(center.all("bind")) == 8


async def test_throttling_slows_down_and_loses_nothing() -> None:
    texts = [f"{number}" for number in range(30)]
    waits = []
    async with both(Behaviour(throttle_every=3)) as (center, provider):
        for text in texts:
            while (report := await provider.send(outgoing(text))).result is Result.RETRY:
                waits.append(report.retry_after)
            assert report.result is Result.ACCEPTED
    assert len(waits) == 14
    assert set(waits) == {1.0}
    assert [text for text, times in Counter(center.texts()).items()] == texts


async def test_the_rest_of_a_message_is_insisted_on() -> None:
    """The SMSC has a part: a telephone could never join it to one submitted anew."""
    text = "é" * 161
    async with both(Behaviour(throttle_every=2)) as (center, provider):
        assert (await provider.send(outgoing(text))).result is Result.ACCEPTED
    first, second = gsm7.segments(text)
    assert center.texts() == [first, second, second]
    assert len({tuple(one["udh"][0][:4]) for one in center.all("submit")}) == 1


async def test_no_answer_leaves_the_outcome_unknown_and_the_others_alone() -> None:
    silent = outgoing(to="+33612349999")
    async with both(pace=HURRIED) as (center, provider):
        asked = asyncio.create_task(provider.send(silent))
        await center.told("submit")
        await sent(provider, Result.ACCEPTED)
        assert await asked == Report(Result.UNCERTAIN, "timeout")
        assert await provider.look_up(silent) is None
        assert len(center.all("bind")) == 1


async def test_a_late_answer_is_found_when_it_is_looked_up() -> None:
    late = outgoing(to="+33612348888")
    async with both(Behaviour(late_ms=4000), pace=HURRIED) as (_, provider):
        assert await provider.send(late) == Report(Result.UNCERTAIN, "timeout")
        assert await provider.look_up(late) is None
        reports: list[Report] = []

        async def look_up() -> None:
            while not (report := await provider.look_up(late)):
                await asyncio.sleep(0.02)
            reports.append(report)

        await asyncio.wait_for(look_up(), 30)
        assert reports == [Report(Result.ACCEPTED, provider_id="00000001", parts=("00000001",))]
        assert await provider.look_up(late) is None  # told once


async def test_a_part_answered_late_is_not_the_message() -> None:
    long = outgoing("é" * 161, to="+33612348888")
    async with both(Behaviour(late_ms=3000), pace=HURRIED) as (center, provider):
        assert await provider.send(long) == Report(Result.UNCERTAIN, "timeout")
        await center.told("receipt_answered")  # so the answer has come
        assert await provider.look_up(long) is None


async def test_a_link_cut_in_the_middle_leaves_the_outcome_unknown() -> None:
    async with both() as (center, provider):
        cut = outgoing(to="+33612347777")
        assert await provider.send(cut) == Report(Result.UNCERTAIN, "cut")
        assert await provider.look_up(cut) is None
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
    assert len(center.all("submit")) == 2


async def test_an_account_closed_in_the_middle_of_a_message_leaves_the_outcome_unknown() -> None:
    """The SMSC has its first SMS: it is not sent whole again but by D19's rule."""
    async with both() as (center, provider):
        long = outgoing("é" * 161, to="+33612345555")
        assert await provider.send(long) == Report(Result.UNCERTAIN, "provider-stopped")
        with pytest.raises(ProviderStoppedError):
            await provider.send(long)
    assert len(center.all("submit")) == 3


async def test_an_smsc_that_unbinds_is_bound_again() -> None:
    async with both() as (center, provider):
        assert (await provider.send(outgoing(to="+33612346666"))).result is Result.ACCEPTED
        await center.told("bind", 2)
        assert (await provider.send(outgoing())).result is Result.ACCEPTED


async def test_an_smsc_out_of_reach_gets_nothing_and_is_found_when_it_is_back() -> None:
    port = free_port()
    unreachable = Report(Result.RETRY, "unreachable")
    ours = settings(port, replace(PATIENT, ready=0.1))
    async with open_smpp(ours, Receipts().keep, unread, never_chance) as provider:
        assert await provider.send(outgoing()) == unreachable
        for _ in range(2):
            async with smsc(Behaviour(port=port)):
                await sent(provider, Result.ACCEPTED)
            assert await sent(provider, Result.RETRY) == unreachable


async def sent(provider: SmppProvider, result: Result) -> Report:
    """Send messages until one comes out so; give its report."""
    async with asyncio.timeout(30):
        while (report := await provider.send(outgoing())).result is not result:
            pass
    return report


async def test_no_more_than_the_window_is_open(store: Store) -> None:
    """A message of several SMS has one open at a time."""
    long = "é" * 161
    silent = "+33612349999"
    texts = [long, *"123456"]
    queued = [queue(store, text, destination=silent) for text in texts]
    async with smsc() as center:
        ours = replace(settings(center.port), window=3)
        async with open_smpp(ours, Receipts().keep, unread, never_chance) as provider:
            assert provider.window == 3
            async with dispatching(store, provider, replace(FAST, stop=0.05)):
                await center.told("submit", 3)
                await asyncio.sleep(0.2)
        assert len(center.all("submit")) == 3
    states = Counter(stored(store, one).state for one in queued)
    assert states == {MessageState.UNCERTAIN: 3, MessageState.QUEUED: 4}


async def test_a_mute_smsc_is_left_and_bound_again() -> None:
    pace = replace(PATIENT, enquire=0.05, answer=0.3)
    async with both(Behaviour(mute=True), pace=pace) as (center, _):
        await center.told("bind", 3)
    assert len(center.all("enquire")) >= 2


async def test_a_living_smsc_is_asked_and_kept() -> None:
    async with both(pace=replace(PATIENT, enquire=0.02)) as (center, _):
        await center.told("enquire", 10)
    assert len(center.all("bind")) == 1


IDS = {
    "the same": (Behaviour(), ReceiptIds.SAME, "0000000a"),
    "in decimal": (Behaviour(receipt_ids="decimal"), ReceiptIds.DECIMAL, "10"),
    "as a parameter": (Behaviour(tlv=True), ReceiptIds.SAME, "0000000a"),
    "as a parameter and in decimal": (Behaviour(tlv=True), ReceiptIds.DECIMAL, "10"),
}


@pytest.mark.parametrize(("behaviour", "ids", "tenth"), IDS.values(), ids=IDS)
async def test_receipts_name_what_was_accepted(
    behaviour: Behaviour, ids: ReceiptIds, tenth: str
) -> None:
    receipts = Receipts()
    async with both(behaviour, receipts=receipts, ids=ids) as (center, provider):
        accepted = [(await provider.send(outgoing())).provider_id for _ in range(10)]
        refused = (await provider.send(outgoing(to="+33612343333"))).provider_id
        await center.told("receipt_answered", 11)
    assert accepted[9] == tenth
    told = [(one, MessageState.DELIVERED) for one in accepted]
    assert sorted(receipts.told) == sorted([*told, (refused, MessageState.UNDELIVERED)])
    assert {one["status"] for one in center.all("receipt_answered")} == {0}


async def test_a_receipt_that_can_not_be_kept_is_to_be_brought_again() -> None:
    receipts = Receipts(failures=1)
    async with both(receipts=receipts) as (center, provider):
        await provider.send(outgoing())
        await center.told("receipt_answered")
        await provider.send(outgoing())
        await center.told("receipt_answered", 2)
    assert [one["status"] for one in center.all("receipt_answered")] == [0x64, 0]
    assert receipts.told == [("00000002", MessageState.DELIVERED)]


async def test_while_the_database_is_away_receipts_are_put_off_in_one_line() -> None:
    """An SMSC brings hundreds again and again."""
    receipts = Receipts(failures=3, error=StoreDownError)
    with capture_logs() as logs:
        async with both(receipts=receipts) as (center, provider):
            for number in range(1, 5):
                await provider.send(outgoing())
                await center.told("receipt_answered", number)
            receipts.failures = 1
            await provider.send(outgoing())
            await center.told("receipt_answered", 5)
    statuses = [one["status"] for one in center.all("receipt_answered")]
    assert statuses == [0x64, 0x64, 0x64, 0, 0x64]
    line = {"event": "smpp_deliveries_put_off", "log_level": "error", "why": "the store is away"}
    assert [one for one in logs if one["log_level"] == "error"] == [line, line]  # one each time


def pdu(command: int, body: bytes = b"", length: int | None = None, status: int = 0) -> str:
    size = 16 + len(body) if length is None else length
    head = b"".join(number.to_bytes(4) for number in (size, command, status, 77))
    return (head + body).hex()


INBOUND = b"\0\1\1+33612345678\0\1\1caf\0%c\0\0" + b"\0\0" + bytes(4) + b"\4STOP"
NAMELESS = b"\0\1\1" + b"336\0\1\1caf\0\4\0\0" + b"\0\0" + bytes(4) + b"\7nothing" + b"\0\x1e"
STRANGE = {
    "an unknown command": (pdu(0x0200), "nack", 0x03),
    "a command that nobody may send us": (pdu(0x04), "nack", 0x03),
    "a delivery cut short": (pdu(0x05, (INBOUND % 0)[:-1]), "nack", 0x02),
    "an acknowledgement of somebody's": (pdu(0x05, INBOUND % 0x08), "deliver_answered", 0x65),
    "a receipt that names nothing": (pdu(0x05, NAMELESS), "deliver_answered", 0),
}


@pytest.mark.parametrize(("raw", "event", "status"), STRANGE.values(), ids=STRANGE)
async def test_what_is_strange_is_answered_and_cuts_nothing(
    raw: str, event: str, status: int
) -> None:
    async with both(Behaviour(on_bind=(raw,))) as (center, provider):
        await center.told(event)
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
        assert center.all(event) == [{"event": event, "status": status}]
        assert len(center.all("bind")) == 1


WRITTEN: dict[str, tuple[dict[str, object], str]] = {
    "GSM-7": ({"short_message": "Stop à l'été €", "data_coding": 0}, "Stop à l'été €"),
    "ASCII": ({"short_message": "STOP", "data_coding": 1}, "STOP"),
    "Latin-1": ({"short_message": "Arrêt", "data_coding": 3}, "Arrêt"),
    "UCS-2": ({"short_message": "STOP ✋", "data_coding": 8}, "STOP ✋"),
    "in a parameter": ({"message_payload": "STOP"}, "STOP"),
    "the only part": ({"udh": "050003070101", "short_message": "STOP"}, "STOP"),
    "one part of two": ({"udh": "050003070201", "short_message": "STOP"}, "STOP"),
}


@pytest.mark.parametrize(("fields", "text"), WRITTEN.values(), ids=WRITTEN)
async def test_what_somebody_writes_is_read_as_the_smsc_wrote_it(
    fields: dict[str, object], text: str
) -> None:
    """Encoded by npm smpp."""
    told: list[Received] = []

    async def take(received: Received) -> None:
        told.append(received)

    said = {"source_addr": MOBILE[1:], "destination_addr": "36180", **fields}
    async with (
        smsc(Behaviour(written=(said,))) as center,
        open_smpp(settings(center.port), Receipts().keep, take, never_chance),
    ):
        await center.told("message_answered")
    assert told == [Received("smpp", None, "36180", MOBILE, text)]
    assert center.all("message_answered") == [{"event": "message_answered", "status": 0}]


async def test_a_stop_is_heard_though_the_database_was_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for now, the SMSC brings it again; brought twice, it is answered once."""
    take, failures = inbound.take, [StoreDownError("database: away")] * 2

    def at_last(store: Store, word: Word) -> bool:
        if failures:
            raise failures.pop()
        return take(store, word)

    monkeypatch.setattr(inbound, "take", at_last)
    said = {"source_addr": MOBILE[1:], "destination_addr": "36180", "short_message": "STOP"}
    with ThreadPoolExecutor(4) as pool:
        inbox = Inbox(store, pool, Templates.load().numbers)
        async with smsc(Behaviour(written=(said, said))) as center:
            ours = settings(center.port)
            async with open_smpp(ours, Receipts().keep, inbox.take, never_chance) as provider:
                await center.told("message_answered", 4)
                dispatcher = Dispatcher(store, [provider], Templates.load(), pool, FAST)
                running = asyncio.create_task(dispatcher.run())
                await until(lambda: only_message(store).state == MessageState.ACCEPTED, 30)
                dispatcher.stop()
                await running
    answers = Counter(one["status"] for one in center.all("message_answered"))
    assert answers == {0x64: 2, 0: 2}
    [reply] = center.all("submit")
    assert (reply["to"], reply["from"], reply["numbering"]) == (MOBILE[1:], "36180", [1, 1, 3, 0])
    assert reply["text"] == Templates.load().render("inbound.36180.stop", {}).text
    with store.database.read() as transaction:
        assert opt_outs.find(store, transaction, Contact(Route.SMS, MOBILE)) is not None


NO_SMPP = {"too short": pdu(0x15, length=15), "too long": pdu(0x15, length=1 << 31)}
UNASKED = {"an answer to nobody": pdu(0x80000004, b"1\0"), "a negative one": pdu(0x80000000)}


@pytest.mark.parametrize("raw", NO_SMPP.values(), ids=NO_SMPP)
async def test_what_is_no_smpp_ends_the_connection(raw: str) -> None:
    async with both(Behaviour(on_bind=(raw,))) as (center, _):
        await center.told("bind", 3)


@pytest.mark.parametrize("raw", UNASKED.values(), ids=UNASKED)
async def test_an_answer_that_nobody_asked_for_is_nothing(raw: str) -> None:
    async with both(Behaviour(on_bind=(raw,))) as (center, provider):
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
        assert len(center.all("bind")) == 1


async def test_every_message_of_many_is_submitted_once(request: pytest.FixtureRequest) -> None:
    """1,000 of them, as many at once as it takes; 10,000 in the long form."""
    count = 10_000 if request.config.getoption("--soak") else 1_000
    texts = [f"Message {number}" for number in range(count)]
    receipts = Receipts()
    async with both(None, replace(PATIENT, ready=100), receipts) as (center, provider):
        window = asyncio.Semaphore(provider.window)

        async def send(text: str) -> Report:
            async with window:
                return await provider.send(outgoing(text))

        reports = await asyncio.gather(*map(send, texts))
        await until(lambda: len(receipts.told) == count, 60)
    assert {report.result for report in reports} == {Result.ACCEPTED}
    assert Counter(center.texts()) == Counter(texts)
    assert {one for one, _ in receipts.told} == {report.provider_id for report in reports}


async def test_a_certificate_is_checked(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {cert}"
        " -subj /CN=smsc -addext subjectAltName=IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    trusting = ssl.create_default_context(cafile=cert)
    async with smsc(Behaviour(key=str(key), cert=str(cert))) as center:
        ours = replace(settings(center.port), tls=trusting)
        async with open_smpp(ours, Receipts().keep, unread, never_chance) as provider:
            assert (await provider.send(outgoing())).result is Result.ACCEPTED
        doubting = replace(
            settings(center.port, replace(PATIENT, ready=1)), tls=ssl.create_default_context()
        )
        async with open_smpp(doubting, Receipts().keep, unread, never_chance) as provider:
            assert (await provider.send(outgoing())).code == "unreachable"
        assert len(center.all("bind")) == 1


async def test_nothing_personal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The receipt quotes what it is of, as SMSCs do; and what somebody writes is personal."""
    caplog.set_level(logging.DEBUG)
    strange = tuple(raw for raw, _, _ in STRANGE.values())
    receipts = Receipts(failures=1)
    with structlog.testing.capture_logs() as events:
        said = {"source_addr": MOBILE[1:], "destination_addr": "36180", "short_message": "STOP"}
        behaviour = Behaviour(on_bind=strange, written=(said,))
        async with both(behaviour, HURRIED, receipts) as (center, provider):
            for end in ("5678", "0000", "9999", "7777", "3333"):
                await provider.send(outgoing("8392 7415 est votre code", to=f"+3361234{end}"))
            await center.told("bind", 2)
            await center.told("receipt_answered", 2)
            shown = repr(provider) + repr(outgoing()) + repr(ACCOUNT)
    assert {"smpp_bound", "smpp_link_lost", "smpp_delivery_failed", "smpp_receipt"} <= {
        event["event"] for event in events
    }
    everything = repr(events) + caplog.text + shown
    for personal in (MOBILE[1:7], "8392", "7415", "STOP", "secret", "'caf'"):
        assert personal not in everything


async def test_a_forgotten_password_goes_the_whole_way(store: Store, clock: FakeClock) -> None:
    """From the request on the telephone to an SMSC that is down at first (R10, R11)."""
    add_account(store)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))

    def accepted() -> bool:
        message = only_message(store)
        if message.state == MessageState.QUEUED:
            clock.now = max(clock.now, message.next_at)
        return message.state == MessageState.ACCEPTED

    port = free_port()
    ours = settings(port, replace(PATIENT, ready=0.1))
    with ThreadPoolExecutor(4) as pool:
        async with open_smpp(ours, Receipts().keep, unread, never_chance) as provider:
            dispatcher = Dispatcher(store, [provider], Templates.load(), pool, FAST)
            running = asyncio.create_task(dispatcher.run())
            await until(lambda: only_message(store).failures, 30)
            async with smsc(Behaviour(port=port)) as center:
                await until(accepted, 60)
                dispatcher.stop()
                await running
    [text] = center.texts()
    password = re.findall(r"\b(\d{4}) (\d{4})\b", text)
    assert isinstance(log_in(store, "".join(password[0])), Session)
    assert only_message(store).provider_id == "00000001"


async def test_the_gateway_sends_by_an_smsc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D12, D16: as a process of its own, whose files and output hold nothing of it afterwards."""
    account = tmp_path / "smpp.json"
    account.write_text(json.dumps({"system_id": "caf", "password": "secret"}))
    account.chmod(0o600)
    async with smsc(Behaviour(receipt_ids="decimal")) as center:
        changes = {
            "SVI_HOME": str(tmp_path / "home"),
            "SVI_GATEWAY_PORT": "0",
            "SVI_API_PORT": "0",
            "SVI_SMPP_HOST": "127.0.0.1",
            "SVI_SMPP_PORT": str(center.port),
            "SVI_SMPP_ACCOUNT": str(account),
            "SVI_SMPP_RECEIPT_IDS": "decimal",
        } | AWAY
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        prepare_home(Settings())
        process = await asyncio.create_subprocess_exec(
            SVI, "gateway", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            with open_store(Settings()) as store:
                queued = queue(store)
                await until(lambda: stored(store, queued).state == MessageState.DELIVERED, 60)
            await center.told("receipt_answered")
            process.terminate()
            out, err = await asyncio.wait_for(process.communicate(), 30)
            await center.told("unbind")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (process.returncode, out, err) == (0, b"ready\n", b"")
    assert IN_GROUPS in center.texts()[0]
    files = {path for path in Settings().home.rglob("*") if path.is_file()} - {Settings().keys}
    written = b"".join(path.read_bytes() for path in sorted(files)) + out + err
    assert b'"provider_id": "1"' in written  # the search does find things
    for personal in (PASSWORD, IN_GROUPS, MOBILE[3:], "secret"):
        assert personal.encode() not in written


def only_message(store: Store) -> Message:
    with store.database.read() as transaction:
        return transaction.scalars(select(Message)).one()
