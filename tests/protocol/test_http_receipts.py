"""Receipts of operators that files describe: honest ones, and all others."""

import hashlib
import hmac
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared import outbox
from shared.errors import StoreDownError
from shared.models import MessageState
from shared.outbox import Report, Result
from shared.secret import Secret
from shared.store import Store
from sms import http_description
from sms.callbacks import FORM, Callbacks
from sms.http import LARGEST_BODY, Backend, application, serving
from sms.providers.http_json import HttpOperator, receipts_of
from sms.templates import Templates
from tests.gateway import IN_GROUPS, LONG, MOBILE, dispatching, message, queue, until
from tests.operators import (
    EXAMPLE,
    FOLDER,
    PUBLIC_URL,
    SECRETS,
    TOKEN,
    described,
    fake_operator,
    sending,
)
from tests.scraping import grown, scrape
from tests.store import FakeClock

JSON = "application/json"
Headers = Mapping[str, str]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late, unless the test is about that."""
    monkeypatch.setattr("sms.callbacks.BODY_SECONDS", LONG)


class Listener:
    """The gateway's public listener, and an operator on the other end of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def post(
        self,
        path: str,
        body: object,
        headers: Headers | None = None,
        content_type: str = JSON,
    ) -> int:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        sent = {"Content-Type": content_type, **(headers or {})}
        async with self._session.post(self.url + path, data=text, headers=sent) as answer:
            return answer.status


@asynccontextmanager
async def listening(store: Store, *operators: HttpOperator) -> AsyncIterator[Listener]:
    read = [receipts for one in operators if (receipts := receipts_of(one)) is not None]
    with ThreadPoolExecutor(2) as pool:
        app = application(Backend(store, pool, lambda: True, Callbacks(operators=read)))
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
            yield Listener(f"http://127.0.0.1:{port}", session)


def operator(folder: Path, text: str) -> HttpOperator:
    path = folder / "operator.toml"
    path.write_text(text, encoding="utf-8")
    description = http_description.load(path)
    secrets = {name: Secret(SECRETS[name]) for name in description.secret_names}
    return HttpOperator(description, secrets, PUBLIC_URL)


def named(folder: Path, name: str) -> HttpOperator:
    return operator(folder, (FOLDER / f"{name}.toml").read_text("utf-8"))


def hand_over(
    store: Store, provider: str, identifier: str, result: Result = Result.ACCEPTED
) -> tuple[UUID, UUID]:
    """Queue a message and let an operator take it; give the message's id and the attempt's."""
    message_id = queue(store)
    claim = outbox.claim(store, provider, Templates.load().render, 1)[0]
    parts = (identifier,) if result is Result.ACCEPTED else ()
    outbox.finish(store, claim, Report(result, "", identifier, parts), 0)
    return message_id, claim.attempt_id


def basic(user: str, password: str) -> Headers:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


SINCH = basic(SECRETS["receipt_user"], SECRETS["receipt_password"])


def sinch(attempt_id: object, status: str, batch: str = "B1") -> dict[str, object]:
    """Give what Sinch posts for one recipient."""
    return {
        "type": "recipient_delivery_report_sms",
        "batch_id": batch,
        "recipient": MOBILE,
        "code": 0,
        "status": status,
        "at": "2021-11-02T09:31:00.000Z",
        "client_reference": str(attempt_id),
    }


def link(attempt_id: object, code: object) -> dict[str, object]:
    """Give what LINK Mobility posts."""
    return {
        "refId": str(attempt_id),
        "id": "Dcshuhod0PMAAAFQ",
        "operator": "fr.orange",
        "resultCode": code,
        "segments": 1,
        "customParameters": {},
    }


BY_ATTEMPT = [
    ("sinch", "/receipts/sinch", SINCH, sinch, "Queued", MessageState.ACCEPTED),
    ("sinch", "/receipts/sinch", SINCH, sinch, "Delivered", MessageState.DELIVERED),
    ("sinch", "/receipts/sinch", SINCH, sinch, "Failed", MessageState.UNDELIVERED),
    ("sinch", "/receipts/sinch", SINCH, sinch, "of tomorrow", MessageState.ACCEPTED),
    ("link", f"/receipts/link/{TOKEN}", {}, link, 1001, MessageState.DELIVERED),
    ("link", f"/receipts/link/{TOKEN}", {}, link, 2106, MessageState.UNDELIVERED),
    ("link", f"/receipts/link/{TOKEN}", {}, link, 4, MessageState.ACCEPTED),  # says nothing
]


@pytest.mark.parametrize("case", BY_ATTEMPT, ids=lambda case: f"{case[0]}-{case[4]}")
async def test_a_receipt_that_names_our_attempt(
    store: Store,
    tmp_path: Path,
    case: tuple[str, str, Headers, object, object, MessageState],
) -> None:
    name, path, headers, said, status, state = case
    assert callable(said)
    message_id, attempt_id = hand_over(store, name, "m1")
    async with listening(store, named(tmp_path, name)) as listener:
        assert await listener.post(path, said(attempt_id, status), headers) == 200
        assert await listener.post(path, said(uuid4(), status), headers) in {200, 404}
    assert message(store, message_id).state == state


async def test_an_unknown_attempt_is_not_found(store: Store, tmp_path: Path) -> None:
    async with listening(store, named(tmp_path, "sinch")) as listener:
        assert await listener.post("/receipts/sinch", sinch(uuid4(), "Delivered"), SINCH) == 404


async def test_a_receipt_tells_what_became_of_an_uncertain_message(
    store: Store, tmp_path: Path
) -> None:
    message_id, attempt_id = hand_over(store, "sinch", "", Result.UNCERTAIN)
    async with listening(store, named(tmp_path, "sinch")) as listener:
        await listener.post("/receipts/sinch", sinch(attempt_id, "Dispatched"), SINCH)
    settled = message(store, message_id)
    assert (settled.state, settled.provider_id) == (MessageState.ACCEPTED, "B1")
    assert settled.text_sealed is None  # D16


def octopush(ticket: str, status: str) -> dict[str, object]:
    """Give what Octopush posts."""
    return {
        "channel": "sms",
        "message_id": ticket,
        "number": MOBILE,
        "status": status,
        "delivery_date": "2021-11-02 10:31:00",
        "meta_data": {},
    }


OCTOPUSH = f"/receipts/octopush/{TOKEN}"


async def test_a_receipt_that_names_the_message_as_the_operator_does(
    store: Store, tmp_path: Path, clock: FakeClock
) -> None:
    before = await scrape(store)
    message_id, _ = hand_over(store, "octopush", "sms_1")
    other_id, _ = hand_over(store, "octopush", "sms_2")
    clock.advance(timedelta(seconds=4))
    async with listening(store, named(tmp_path, "octopush")) as listener:
        for status in ("ACK", "DELIVERED", "DELIVERED", "NOT_DELIVERED", "ACK"):  # unordered
            assert await listener.post(OCTOPUSH, octopush("sms_1", status)) == 200
    after = await scrape(store)
    assert message(store, message_id).state == MessageState.DELIVERED
    assert message(store, other_id).state == MessageState.ACCEPTED
    told = {"provider": "octopush"}
    states = {MessageState.ACCEPTED: 2, MessageState.DELIVERED: 2, MessageState.UNDELIVERED: 1}
    for state, times in states.items():
        assert grown(before, after, "svi_receipts_total", state=state, **told) == times
    assert grown(before, after, "svi_message_delivery_seconds_sum", **told) == 4.0


async def test_a_receipt_that_overtakes_the_answer_waits_for_it(
    store: Store, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with listening(store, named(tmp_path, "octopush")) as listener:
            assert await listener.post(OCTOPUSH, octopush("sms_1", "DELIVERED")) == 200
    assert [log["event"] for log in logs] == ["receipt_early"]
    message_id, _ = hand_over(store, "octopush", "sms_1")
    assert message(store, message_id).state == MessageState.DELIVERED


async def test_an_operator_s_receipts_are_of_its_own_messages(store: Store, tmp_path: Path) -> None:
    """Two operators may give the same name to two messages."""
    message_id, _ = hand_over(store, "smsmode", "sms_1")
    async with listening(store, named(tmp_path, "octopush")) as listener:
        assert await listener.post(OCTOPUSH, octopush("sms_1", "NOT_DELIVERED")) == 200
    assert message(store, message_id).state == MessageState.ACCEPTED


@pytest.mark.parametrize("path", ["", "/", f"/{TOKEN[:-1]}", f"/{TOKEN}0", f"/{TOKEN.upper()}"])
async def test_who_does_not_know_the_address_is_refused(
    store: Store, tmp_path: Path, path: str
) -> None:
    message_id, _ = hand_over(store, "octopush", "sms_1")
    async with listening(store, named(tmp_path, "octopush")) as listener:
        told = octopush("sms_1", "NOT_DELIVERED")
        assert await listener.post(f"/receipts/octopush{path}", told) in {403, 404}
    assert message(store, message_id).state == MessageState.ACCEPTED


FORGED = [
    {},
    basic(SECRETS["receipt_user"], "guessed"),
    basic("guessed", SECRETS["receipt_password"]),
    {"Authorization": f"Bearer {SECRETS['receipt_password']}"},
    {"Authorization": "Basic é"},
    {"Authorization": ""},
]


@pytest.mark.parametrize("headers", FORGED, ids=range(len(FORGED)))
async def test_who_has_not_the_password_is_refused(
    store: Store, tmp_path: Path, headers: Headers
) -> None:
    message_id, attempt_id = hand_over(store, "sinch", "B1")
    async with listening(store, named(tmp_path, "sinch")) as listener:
        told = sinch(attempt_id, "Failed")
        assert await listener.post("/receipts/sinch", told, headers) == 403
    assert message(store, message_id).state == MessageState.ACCEPTED


def signed(body: str, key: str = SECRETS["receipt_key"], how: str = "sha256") -> str:
    return hmac.new(key.encode(), body.encode(), how).hexdigest()


def example(attempt_id: object, status: str) -> str:
    return json.dumps({"id": "m1", "reference": str(attempt_id), "status": status})


async def test_who_has_not_the_key_is_refused(store: Store, tmp_path: Path) -> None:
    """D04: nobody but the operator tells what became of a message."""
    message_id, attempt_id = hand_over(store, "operateur", "m1")
    body, path = example(attempt_id, "FAILED"), "/receipts/operateur"
    forged = {
        "none": {},
        "empty": {"X-Signature": ""},
        "without its prefix": {"X-Signature": signed(body)},
        "made up": {"X-Signature": f"sha256={'a' * 64}"},
        "no ASCII": {"X-Signature": "sha256=é"},
        "with another key": {"X-Signature": f"sha256={signed(body, 'guessed')}"},
        "of another body": {"X-Signature": f"sha256={signed(example(attempt_id, 'SENT'))}"},
        "by another algorithm": {"X-Signature": f"sha256={signed(body, how='sha512')}"},
        "in another header": {"X-Hub-Signature": f"sha256={signed(body)}"},
    }
    with capture_logs() as logs:
        async with listening(store, operator(tmp_path, EXAMPLE.read_text("utf-8"))) as listener:
            for kind, headers in forged.items():
                assert await listener.post(path, body, headers) == 403, kind
            assert message(store, message_id).state == MessageState.ACCEPTED
            genuine = {"X-Signature": f"sha256={signed(body)}"}
            for _ in range(2):  # one that is told again changes nothing
                assert await listener.post(path, body, genuine) == 200
    assert message(store, message_id).state == MessageState.UNDELIVERED
    assert [log["event"] for log in logs][: len(forged)] == ["receipt_refused"] * len(forged)


async def test_a_signature_is_written_as_the_file_says(store: Store, tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8").replace(
        'secret = "receipt_key", prefix = "sha256="',
        'secret = "receipt_key", algorithm = "sha512", encoding = "base64"',
    )
    message_id, attempt_id = hand_over(store, "operateur", "m1")
    body = example(attempt_id, "DELIVERED")
    key = SECRETS["receipt_key"].encode()
    signature = b64encode(hmac.new(key, body.encode(), hashlib.sha512).digest()).decode()
    async with listening(store, operator(tmp_path, text)) as listener:
        headers = {"X-Signature": signature}
        assert await listener.post("/receipts/operateur", body, headers) == 200
    assert message(store, message_id).state == MessageState.DELIVERED


async def test_hostile_bodies_change_nothing(store: Store, tmp_path: Path) -> None:
    message_id, _ = hand_over(store, "octopush", "sms_1")
    told = octopush("sms_1", "NOT_DELIVERED")
    hostile: list[tuple[object, int]] = [
        ("", 400),
        ("no JSON", 400),
        ("[" * 12_000, 400),
        (b'{"message_id": "\xff"}', 400),
        ([told], 400),
        ({}, 400),
        (octopush("", "NOT_DELIVERED"), 400),
        (octopush("sms\u0000", "NOT_DELIVERED"), 400),
        (octopush("s" * 129, "NOT_DELIVERED"), 400),
        ({"message_id": ["sms_1"], "status": "NOT_DELIVERED"}, 400),
        ({"message_id": "sms_1", "status": {"NOT_DELIVERED": 1}}, 400),
        ({**told, "x": "x" * LARGEST_BODY}, 413),
    ]
    async with listening(store, named(tmp_path, "octopush")) as listener:
        for number, (body, status) in enumerate(hostile):
            assert await listener.post(OCTOPUSH, body) == status, number
        assert await listener.post(OCTOPUSH, told, content_type=FORM) == 415
        assert await listener.post(OCTOPUSH, told, content_type="text/plain") == 415
    assert message(store, message_id).state == MessageState.ACCEPTED


async def test_an_attempt_that_is_no_identifier_is_refused(store: Store, tmp_path: Path) -> None:
    async with listening(store, named(tmp_path, "sinch")) as listener:
        for attempt in ("", "1", "null", "x" * 36):
            told = sinch(attempt, "Failed")
            assert await listener.post("/receipts/sinch", told, SINCH) == 400


async def test_receipts_may_be_forms(store: Store, tmp_path: Path) -> None:
    text = (FOLDER / "link.toml").read_text("utf-8")
    text = text.replace("[receipts]\n", '[receipts]\nformat = "form"\n')
    path = f"/receipts/link/{TOKEN}"
    message_id, attempt_id = hand_over(store, "link", "m1")
    fields = [("refId", str(attempt_id)), ("id", "m1"), ("resultCode", "1001")]
    async with listening(store, operator(tmp_path, text)) as listener:
        twice = urlencode([*fields, ("resultCode", "1006")])
        assert await listener.post(path, twice, content_type=FORM) == 400
        assert await listener.post(path, "no form", content_type=FORM) == 400
        assert await listener.post(path, link(attempt_id, 1001)) == 415
        assert message(store, message_id).state == MessageState.ACCEPTED
        assert await listener.post(path, urlencode(fields), content_type=FORM) == 200
    assert message(store, message_id).state == MessageState.DELIVERED


async def test_a_receipt_waits_for_a_database_that_is_away(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator may never ask again."""
    monkeypatch.setattr("sms.keeper.RETRY_SECONDS", 0.01)
    message_id, _ = hand_over(store, "octopush", "sms_1")
    away, part_receipt = True, outbox.part_receipt

    def unless_away(*arguments: object) -> outbox.Kept | None:
        if away:
            raise StoreDownError("database: away")
        return part_receipt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "part_receipt", unless_away)
    async with listening(store, named(tmp_path, "octopush")) as listener:
        assert await listener.post(OCTOPUSH, octopush("sms_1", "DELIVERED")) == 503
        away = False
        await until(lambda: message(store, message_id).state == MessageState.DELIVERED)


async def test_two_operators_have_an_address_each_and_strangers_none(
    store: Store, tmp_path: Path
) -> None:
    message_id, attempt_id = hand_over(store, "link", "m1")
    (tmp_path / "b").mkdir()
    both = named(tmp_path, "octopush"), named(tmp_path / "b", "link")
    async with listening(store, *both) as listener:
        told = link(attempt_id, 1001)
        assert await listener.post(f"/receipts/smsgo/{TOKEN}", told) == 404
        assert await listener.post(f"/receipts/link/{TOKEN}", told) == 200
    assert message(store, message_id).state == MessageState.DELIVERED


async def test_nothing_of_a_receipt_is_logged(
    store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    _, attempt_id = hand_over(store, "sinch", "B1")
    async with listening(store, named(tmp_path, "sinch")) as listener:
        told = sinch(attempt_id, "Delivered")
        await listener.post("/receipts/sinch", told, SINCH)
        await listener.post("/receipts/sinch", told | {"status": MOBILE}, SINCH)
        await listener.post("/receipts/sinch", told)
    captured = capsys.readouterr()
    written = captured.out + captured.err + caplog.text
    for event in ("receipt_kept", "receipt_status_unknown", "receipt_refused"):
        assert event in written  # else this would show nothing
    for part in (MOBILE[1:], SECRETS["receipt_password"], "recipient"):
        assert part not in written


@pytest.mark.parametrize("name", ["octopush", "smsmode"])
async def test_a_message_goes_out_and_its_receipt_comes_back(
    store: Store, tmp_path: Path, name: str
) -> None:
    """All the way: the outbox, the dispatcher, the operator, and the address that it was told."""
    asked: list[dict[str, object]] = []

    async def temper(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        identifier = f"m{len(asked)}"
        taken = {"sms_ticket": identifier, "messageId": identifier}
        return web.json_response(taken, status=201)

    async with fake_operator(temper) as fake:
        settings = described((FOLDER / f"{name}.toml").read_text("utf-8"), fake.url, tmp_path)
        async with sending(settings) as provider, dispatching(store, provider):
            message_id = queue(store)
            await until(lambda: message(store, message_id).state == MessageState.ACCEPTED)
    [sent] = asked
    assert IN_GROUPS in json.dumps(sent)
    if name == "octopush":
        path, told = OCTOPUSH, octopush("m1", "DELIVERED")
    else:
        path = str(sent["callbackUrlStatus"]).removeprefix(PUBLIC_URL)
        told = {"messageId": "m1", "status": {"value": "DELIVERED"}}
    async with listening(store, settings) as listener:
        assert await listener.post(path, told) == 200
    delivered = message(store, message_id)
    assert (delivered.state, delivered.provider, delivered.provider_id) == (
        MessageState.DELIVERED,
        name,
        "m1",
    )
