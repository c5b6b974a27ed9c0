"""The gateway's HTTP side: health, and status callbacks, honest and hostile."""

import asyncio
import gzip
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID, uuid4

import aiohttp
import pytest
from structlog.testing import capture_logs
from twilio.request_validator import RequestValidator
from yarl import URL

from shared import outbox
from shared.database import Database
from shared.errors import StoreDownError
from shared.models import MessageState
from shared.outbox import Report, Result
from shared.secret import Secret
from shared.store import Store
from sms.callbacks import FORM, Callbacks, TwilioCallbacks
from sms.http import LARGEST_BODY, Backend, application, serving
from sms.inbound import Inbox
from sms.providers.twilio import TwilioAccount, TwilioMessages, TwilioReceipts
from sms.templates import Templates
from tests.gateway import LONG, message, queue, until
from tests.peers.fake_twilio import ACCOUNT_SID, TOKEN
from tests.scraping import grown, scrape
from tests.store import FakeClock

PUBLIC_URL = "https://sms.example.org"
SID = "SM" + "a" * 32
ACCOUNT = TwilioAccount(ACCOUNT_SID, Secret(TOKEN))
Form = Sequence[tuple[str, str]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late, unless the test is about that."""
    monkeypatch.setattr("sms.callbacks.BODY_SECONDS", LONG)
    monkeypatch.setattr("sms.probe.PROBE_SECONDS", LONG)


class Gateway:
    """The HTTP side of a gateway, and Twilio on the other end of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        async with self._session.get(self.url + path) as answer:
            return answer.status, await answer.json()

    async def post(
        self,
        path: str,
        body: str | bytes | AsyncIterator[bytes],
        signature: str = "",
        content_type: str = FORM,
    ) -> int:
        headers = {"X-Twilio-Signature": signature, "Content-Type": content_type}
        async with self._session.post(self.url + path, data=body, headers=headers) as answer:
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                assert (await answer.json())["status"] == answer.status
            return answer.status

    async def call_back(self, attempt_id: object, form: Form, signature: str | None = None) -> int:
        """Post a status callback, signed as Twilio signs it unless told otherwise."""
        path = f"/twilio/status/{attempt_id}"
        signed = sign(path, form) if signature is None else signature
        return await self.post(path, urlencode(form), signed)


@asynccontextmanager
async def gateway(store: Store, *, works: bool = True) -> AsyncIterator[Gateway]:
    with ThreadPoolExecutor(2) as pool:
        app = application(Backend(store, pool, lambda: works, callbacks(store, pool)))
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
            yield Gateway(f"http://127.0.0.1:{port}", session)


def callbacks(store: Store, pool: Executor) -> Callbacks:
    """Give what takes Twilio's requests, by the texts as they ship."""
    receipts, messages = TwilioReceipts(ACCOUNT, PUBLIC_URL), TwilioMessages(ACCOUNT, PUBLIC_URL)
    inbox = Inbox(store, pool, Templates.load().numbers)
    return Callbacks(TwilioCallbacks(receipts, messages, inbox))


def sign(path: str, form: Form, url: str = PUBLIC_URL) -> str:
    signature: str = RequestValidator(TOKEN).compute_signature(url + path, dict(form))
    return signature


def callback(status: str, sid: str = SID, account: str = ACCOUNT_SID) -> Form:
    """Give what Twilio posts."""
    return [
        ("AccountSid", account),
        ("ApiVersion", "2010-04-01"),
        ("From", "Caf"),
        ("MessageSid", sid),
        ("MessageStatus", status),
        ("SmsSid", sid),
        ("SmsStatus", status),
        ("To", "+33612345678"),
    ]


def hand_over(store: Store, result: Result = Result.ACCEPTED) -> tuple[UUID, UUID]:
    """Queue a message and let Twilio take it; give the message's id and the attempt's."""
    message_id = queue(store)
    claim = outbox.claim(store, "twilio", Templates.load().render, 1)[0]
    outbox.finish(store, claim, Report(result, provider_id=SID), 0)
    return message_id, claim.attempt_id


STATUSES = [
    # what Twilio says, and where the message stands then
    ("queued", MessageState.ACCEPTED),
    ("sending", MessageState.ACCEPTED),
    ("sent", MessageState.ACCEPTED),
    ("delivered", MessageState.DELIVERED),
    ("undelivered", MessageState.UNDELIVERED),
    ("failed", MessageState.UNDELIVERED),
    ("canceled", MessageState.UNDELIVERED),
    ("a-status-of-tomorrow", MessageState.ACCEPTED),  # nothing changes
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "state"), STATUSES)
async def test_a_receipt_is_kept(store: Store, status: str, state: MessageState) -> None:
    message_id, attempt_id = hand_over(store)
    async with gateway(store) as twilio:
        assert await twilio.call_back(attempt_id, callback(status)) == 204
    assert message(store, message_id).state == state


@pytest.mark.asyncio
async def test_a_receipt_tells_what_became_of_an_uncertain_message(store: Store) -> None:
    message_id, attempt_id = hand_over(store, Result.UNCERTAIN)
    async with gateway(store) as twilio:
        await twilio.call_back(attempt_id, callback("sent"))
    settled = message(store, message_id)
    assert (settled.state, settled.provider_id) == (MessageState.ACCEPTED, SID)
    assert settled.text_sealed is None  # D16


@pytest.mark.asyncio
async def test_receipts_repeat_and_overtake_one_another(store: Store) -> None:
    message_id, attempt_id = hand_over(store)
    async with gateway(store) as twilio:
        for status in ("delivered", "sent", "delivered", "queued"):
            assert await twilio.call_back(attempt_id, callback(status)) == 204
    assert message(store, message_id).state == MessageState.DELIVERED


OTHER_SID = "SM" + "b" * 32

TAKEN_TWICE = [
    # one attempt, two messages at Twilio: what is said of which, and where ours stands in the end
    ([("sent", SID), ("delivered", OTHER_SID)], MessageState.DELIVERED, OTHER_SID),
    ([("delivered", SID), ("delivered", OTHER_SID)], MessageState.DELIVERED, SID),
    ([("delivered", OTHER_SID), ("undelivered", SID)], MessageState.DELIVERED, OTHER_SID),
    ([("undelivered", OTHER_SID), ("delivered", SID)], MessageState.UNDELIVERED, OTHER_SID),
    ([("failed", SID), ("sent", OTHER_SID)], MessageState.UNDELIVERED, SID),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("said", "state", "sid"), TAKEN_TWICE)
@pytest.mark.parametrize("answer", [Result.ACCEPTED, Result.UNCERTAIN])
async def test_the_first_final_state_of_a_message_taken_twice_stays(
    store: Store, answer: Result, said: Form, state: MessageState, sid: str
) -> None:
    message_id, attempt_id = hand_over(store, answer)
    async with gateway(store) as twilio:
        for status, of in said:
            assert await twilio.call_back(attempt_id, callback(status, of)) == 204
    settled = message(store, message_id)
    assert (settled.state, settled.provider_id) == (state, sid)


@pytest.mark.asyncio
async def test_a_delivery_is_timed_once_however_often_it_is_told(
    store: Store, clock: FakeClock
) -> None:
    before = await scrape(store)
    _, attempt_id = hand_over(store)
    async with gateway(store) as twilio:
        for status, seconds in (("sent", 1), ("delivered", 4), ("delivered", 60)):
            clock.advance(timedelta(seconds=seconds))
            await twilio.call_back(attempt_id, callback(status))
        _, blocked_id = hand_over(store)
        await twilio.call_back(blocked_id, callback("undelivered"))
    after = await scrape(store)
    counted = {"state": MessageState.DELIVERED, "provider": "twilio"}
    assert grown(before, after, "svi_receipts_total", **counted) == 2
    grew = [
        grown(before, after, f"svi_message_delivery_seconds_{part}", provider="twilio")
        for part in ("count", "sum")
    ]
    assert grew == [1, 5]


@pytest.mark.asyncio
async def test_receipts_wait_for_a_database_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twilio does not ask again for long enough: we do, in the order in which they came."""
    monkeypatch.setattr("sms.keeper.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("sms.keeper.MOST_HELD", 2)
    message_id, attempt_id = hand_over(store)
    away, receipt = True, outbox.receipt

    def unless_away(*arguments: object) -> outbox.Kept | None:
        if away:
            raise StoreDownError("database: away")
        return receipt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "receipt", unless_away)
    with capture_logs() as logs:
        async with gateway(store) as twilio:
            for status in ("sent", "delivered", "failed"):
                assert await twilio.call_back(attempt_id, callback(status)) == 503
            await asyncio.sleep(0.05)
            assert message(store, message_id).state == MessageState.ACCEPTED
            away = False
            await until(lambda: len(logs) == 3)
    assert message(store, message_id).state == MessageState.DELIVERED
    assert [log["event"] for log in logs] == [
        "receipt_lost",
        "receipt_kept",
        "receipt_kept",
    ]  # two were all it could hold


@pytest.mark.asyncio
async def test_a_held_receipt_that_fails_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sms.keeper.RETRY_SECONDS", 0.01)
    message_id, attempt_id = hand_over(store)
    away, faults, receipt = True, [ValueError("a bug")], outbox.receipt

    def fails_at_first(*arguments: object) -> outbox.Kept | None:
        if away:
            raise StoreDownError("database: away")
        if faults:
            raise faults.pop()
        return receipt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "receipt", fails_at_first)
    async with gateway(store) as twilio:
        for status in ("failed", "delivered"):
            assert await twilio.call_back(attempt_id, callback(status)) == 503
        away = False
        await until(lambda: message(store, message_id).state == MessageState.DELIVERED)


@pytest.mark.asyncio
async def test_an_unknown_attempt_is_not_found(store: Store) -> None:
    async with gateway(store) as twilio:
        assert await twilio.call_back(uuid4(), callback("delivered")) == 404
        assert await twilio.call_back("1", callback("delivered")) == 404


@pytest.mark.asyncio
async def test_what_twilio_did_not_sign_is_refused(store: Store) -> None:
    message_id, attempt_id = hand_over(store)
    _, other_attempt = hand_over(store)
    path, form = f"/twilio/status/{attempt_id}", callback("failed")
    forged = {
        "none": "",
        "made up": "A" * 28,
        "no ASCII": "é" * 28,
        "of another text": sign(path, callback("delivered")),
        "of another attempt": sign(f"/twilio/status/{other_attempt}", form),
        "of another address": sign(path, form, "https://elsewhere.example.org"),
    }
    async with gateway(store) as twilio:
        for kind, signature in forged.items():
            assert await twilio.call_back(attempt_id, form, signature) == 403, kind
        twice = [("MessageStatus", "delivered"), *form]
        assert await twilio.call_back(attempt_id, twice, sign(path, form)) == 403
        of_others = callback("failed", account="AC" + "9" * 32)
        assert await twilio.call_back(attempt_id, of_others) == 403
    assert message(store, message_id).state == MessageState.ACCEPTED


@pytest.mark.asyncio
async def test_hostile_bodies_change_nothing(store: Store) -> None:
    message_id, attempt_id = hand_over(store)
    path, long = f"/twilio/status/{attempt_id}", b"a=" + b"x" * LARGEST_BODY
    async with gateway(store) as twilio:
        assert await twilio.post(path, long) == 413
        assert await twilio.post(path, b"a=%ff") == 400
        assert await twilio.post(path, b"\xff\xfe") == 400
        assert await twilio.post(path, "no form") == 400
        assert await twilio.post(path, "&".join(f"a{n}=1" for n in range(101))) == 400
        assert await twilio.post(path, "{}", content_type="application/json") == 415
        multipart = 'multipart/form-data; boundary="x"'
        assert await twilio.post(path, "--x--", content_type=multipart) == 415
        for lacking in (callback("failed", sid="SM1"), [("AccountSid", ACCOUNT_SID)]):
            assert await twilio.call_back(attempt_id, lacking) == 400
    assert message(store, message_id).state == MessageState.ACCEPTED


@pytest.mark.asyncio
async def test_a_body_that_never_ends_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sms.callbacks.BODY_SECONDS", 0.1)

    async def endless() -> AsyncIterator[bytes]:
        yield b"AccountSid="
        await asyncio.Event().wait()

    async with gateway(store) as twilio:
        assert await twilio.post(f"/twilio/status/{uuid4()}", endless()) == 408


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [b"", b"POST /twilio/sta", b"GET /healthz HTTP/1.1\r\nHost: s"])
async def test_a_head_that_never_ends_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr("sms.http.HEADER_SECONDS", 0.2)
    async with gateway(store) as twilio:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(twilio.url).port)
        writer.write(begun)
        async with asyncio.timeout(LONG):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.asyncio
async def test_nothing_of_what_is_no_http_is_repeated(store: Store) -> None:
    async with gateway(store) as twilio:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(twilio.url).port)
        writer.write(b"GARBAGE 33612345678\r\n\r\n")
        async with asyncio.timeout(LONG):
            answer = await reader.read()
        writer.close()
    assert b" 400 Bad Request\r\n" in answer
    assert b"application/problem+json" in answer
    assert b"33612345678" not in answer


@pytest.mark.asyncio
async def test_a_compressed_body_is_not_unpacked(store: Store) -> None:
    message_id, attempt_id = hand_over(store)
    path, form = f"/twilio/status/{attempt_id}", callback("failed")
    headers = {
        "X-Twilio-Signature": sign(path, form),
        "Content-Type": FORM,
        "Content-Encoding": "gzip",
    }
    body = gzip.compress(urlencode(form).encode())
    async with (
        gateway(store) as twilio,
        aiohttp.ClientSession() as session,
        session.post(twilio.url + path, data=body, headers=headers) as answer,
    ):
        assert answer.status == 400
    assert message(store, message_id).state == MessageState.ACCEPTED


@pytest.mark.asyncio
async def test_there_are_so_many_connections_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers who only connect take no file that the database and providers need."""
    monkeypatch.setattr("shared.listener.MOST_CONNECTIONS", 2)
    async with gateway(store) as twilio:
        port = URL(twilio.url).port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in held:  # it is served, so it is counted
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n")
        for reader, _ in held:
            assert await reader.readuntil(b"}")
        with pytest.raises(aiohttp.ClientConnectionError):
            await twilio.get("/healthz")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await twilio.get("/healthz"))[0] == 200


@pytest.mark.asyncio
async def test_nothing_of_a_request_is_logged(
    store: Store, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    _, attempt_id = hand_over(store)
    async with gateway(store) as twilio:
        await twilio.call_back(attempt_id, callback("delivered"))
        await twilio.call_back(attempt_id, callback("delivered"), "forged")
        _, writer = await asyncio.open_connection("127.0.0.1", int(twilio.url.rsplit(":", 1)[1]))
        writer.write(b"GARBAGE 33612345678\r\n\r\n")
        await writer.drain()
        writer.close()
        await asyncio.sleep(0.05)
    captured = capsys.readouterr()
    assert "receipt_kept" in captured.out + caplog.text  # else this would show nothing
    for part in ("33612345678", "127.0.0.1", "GARBAGE"):
        assert part not in captured.out + captured.err + caplog.text


@pytest.mark.asyncio
async def test_without_twilio_there_is_no_callback(store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        app = application(Backend(store, pool, lambda: True))
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/twilio/status/{uuid4()}"
            async with session.post(url) as answer:
                assert answer.status == 404


@pytest.mark.asyncio
async def test_ready_means_that_messages_go_out(store: Store) -> None:
    async with gateway(store) as working:
        assert await working.get("/healthz") == (200, {"status": "alive"})
        ready = {"database": True, "dispatcher": True, "letters_overdue": 0}
        assert await working.get("/readyz") == (200, ready)
    async with gateway(store, works=False) as halted:
        assert await halted.get("/healthz") == (200, {"status": "alive"})
        assert await halted.get("/readyz") == (503, ready | {"dispatcher": False})


@pytest.mark.asyncio
async def test_without_its_database_the_gateway_lives_but_is_not_ready(
    store: Store, tmp_path: Path
) -> None:
    away = replace(store, database=Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}"))
    async with gateway(away) as waiting:
        assert (await waiting.get("/healthz"))[0] == 200
        parts = {"database": False, "dispatcher": True, "letters_overdue": None}
        assert await waiting.get("/readyz") == (503, parts)
        assert await waiting.call_back(uuid4(), callback("delivered")) == 503
    away.close()


@pytest.mark.asyncio
async def test_a_stuck_database_does_not_hang_the_probe(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sms.probe.PROBE_SECONDS", 0.1)
    unstuck = threading.Event()
    asked: list[float] = []

    def stuck(_: Store) -> int:
        asked.append(time.monotonic())
        assert unstuck.wait(LONG)
        return 0

    monkeypatch.setattr("sms.http.overdue", stuck)
    async with gateway(store) as waiting:
        for _ in range(5):
            assert (await waiting.get("/readyz"))[0] == 503
        assert len(asked) == 1, "impatient probes filled the pool"
        monkeypatch.setattr("sms.probe.PROBE_SECONDS", LONG)
        unstuck.set()
        assert (await waiting.get("/readyz"))[0] == 200
