"""Operators that files describe, on loopback: what they are asked, and what is believed of them."""

import asyncio
import gzip
import json
import logging
import socket
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared.errors import SettingsError
from shared.models import MessageState
from shared.outbox import Report, Result
from shared.secret import Secret
from shared.store import Store
from sms import metrics
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers import http_json
from sms.providers.http_json import LARGEST_ANSWER, HttpJsonProvider, HttpOperator
from tests.gateway import LIFE, QUEUED_AT, dispatching, queue, skip, until
from tests.gateway import message as stored
from tests.operators import (
    EXAMPLE,
    FOLDER,
    PUBLIC_URL,
    SECRETS,
    TOKEN,
    Asked,
    FakeOperator,
    Temper,
    described,
    fake_operator,
    sending,
)
from tests.peers.fake_twilio import cuts, hangs, hangs_up, says
from tests.scraping import grown, scrape

MOBILE = "+33612345678"
TEXT = 'Caf: "votre" nouveau mot de passe est 8392 7415. é€'


def outgoing(text: str = TEXT, life: timedelta = LIFE) -> Outgoing:
    return Outgoing(uuid4(), MOBILE, Secret(text), "Caf", uuid4(), life, QUEUED_AT)


def answers(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Temper:
    return says_with(json.dumps(document), status, headers or {})


def says_with(text: str | bytes, status: int, headers: Mapping[str, str]) -> Temper:
    body = text.encode() if isinstance(text, str) else text

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def file_of(name: str) -> str:
    return (EXAMPLE if name == "example" else FOLDER / f"{name}.toml").read_text("utf-8")


@asynccontextmanager
async def both(
    folder: Path, temper: Temper, name: str = "example", **changes: str
) -> AsyncIterator[tuple[FakeOperator, HttpJsonProvider]]:
    """Run an operator, and a provider for it; `changes` are made in its file."""
    text = file_of(name)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    async with (
        fake_operator(temper) as fake,
        sending(described(text, fake.url, folder)) as provider,
    ):
        yield fake, provider


# What real operators are asked and answer, by their public documentation: the request's path and
# headers, its body (ATTEMPT: the attempt's id), the answer, its status, the message's id in it.
OPERATORS: Mapping[str, tuple[str, dict[str, str], Any, Any, int, str]] = {
    "octopush": (
        "/v1/public/sms-campaign/send",
        {"api-login": SECRETS["login"], "api-key": SECRETS["key"]},
        {
            "text": TEXT,
            "recipients": [{"phone_number": MOBILE}],
            "type": "sms_premium",
            "purpose": "alert",
            "sender": "Caf",
            "request_id": "ATTEMPT",
            "with_replies": False,
        },
        {"sms_ticket": "sms_5fec89fe97109", "number_of_contacts": 1, "total_cost": 0.1},
        201,
        "sms_5fec89fe97109",
    ),
    "link": (
        "/sms/send",
        {"Authorization": "basic caf:passw0rd"},
        {
            "source": "Caf",
            "destination": MOBILE,
            "userData": TEXT,
            "platformId": "COOL",
            "platformPartnerId": "12345",
            "refId": "ATTEMPT",
            "useDeliveryReport": True,
            "deliveryReportGates": ["BVldZyQt"],
            "ignoreResponse": False,
            "relativeValidityTime": 86_400_000,
        },
        {"messageId": "Dcshuhod0PMAAAFQ+/PbnR3x", "resultCode": 1005, "description": "Queued"},
        200,
        "Dcshuhod0PMAAAFQ+/PbnR3x",
    ),
    "sinch": (
        "/xms/v1/jd63jf88477ll123/batches",
        {"Authorization": "Bearer b3arer"},
        {
            "from": "Caf",
            "to": [MOBILE],
            "body": TEXT,
            "type": "mt_text",
            "client_reference": "ATTEMPT",
            "delivery_report": "per_recipient",
            "callback_url": f"{PUBLIC_URL}/receipts/sinch",
            "expire_at": "2021-11-03T09:30:00.000Z",
        },
        {"id": "01FC66621XXXXX119Z8PMV1QPQ", "canceled": False, "type": "mt_text"},
        201,
        "01FC66621XXXXX119Z8PMV1QPQ",
    ),
    "smsgo": (
        "/apiCall/send_sms",
        {"X-API-Key": SECRETS["key"]},
        {
            "msisdn": [MOBILE],
            "message": [TEXT],
            "sender": ["Caf"],
            "customer_campaign_id": ["caf-ATTEMPT"],
        },
        {"success": True, "data": {"ticket_sms": "TICKET-123", "sms_count": 1}},
        200,
        "TICKET-123",
    ),
    "smsmode": (
        "/sms/v1/messages",
        {"X-Api-Key": SECRETS["key"], "Accept": "application/json"},
        {
            "recipient": {"to": MOBILE[1:]},
            "body": {"text": TEXT},
            "from": "Caf",
            "refClient": "ATTEMPT",
            "callbackUrlStatus": f"{PUBLIC_URL}/receipts/smsmode/{TOKEN}",
        },
        {"messageId": "fdd33a5f", "status": {"value": "ENROUTE"}},
        201,
        "fdd33a5f",
    ),
}
BY_THEIR_OWN_NAME = {"octopush", "smsmode"}  # their receipts name no attempt of ours


@pytest.mark.parametrize("name", OPERATORS)
async def test_an_operator_is_asked_as_it_wants(tmp_path: Path, name: str) -> None:
    path, headers, body, answer, status, identifier = OPERATORS[name]
    message = outgoing()
    async with both(tmp_path, answers(answer, status), name) as (fake, provider):
        report = await provider.send(message)
    [asked] = fake.asked
    assert (provider.name, asked.method, asked.path) == (name, "POST", path)
    assert {header: readable(asked, header) for header in headers} == headers
    assert content(asked) == json.loads(
        json.dumps(body).replace("ATTEMPT", str(message.attempt_id))
    )
    parts = (identifier,) if name in BY_THEIR_OWN_NAME else ()
    assert report == Report(Result.ACCEPTED, provider_id=identifier, parts=parts)


def readable(asked: Asked, header: str) -> str:
    kind, _, value = asked.headers[header].partition(" ")
    return f"basic {b64decode(value).decode()}" if kind == "Basic" else asked.headers[header]


def content(asked: Asked) -> object:
    """Read a body as its type says: it must say so."""
    if asked.headers["Content-Type"] == "application/json":
        return json.loads(asked.body)
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return parse_qs(asked.body.decode(), strict_parsing=True)


LIVES = {
    "a day": (LIFE, [86_400, 1440, 86_400_000, "2021-11-03T09:30:00.000Z"]),
    "what is left of a code's ten minutes (R15)": (
        timedelta(minutes=9, seconds=59.8),
        [600, 10, 600_000, "2021-11-02T09:39:59.800Z"],
    ),
    "a minute that is not whole": (
        timedelta(seconds=119),
        [119, 1, 119_000, "2021-11-02T09:31:59.000Z"],
    ),
    "the least": (timedelta(seconds=1), [1, 1, 1000, "2021-11-02T09:30:01.000Z"]),
}


@pytest.mark.parametrize(("life", "told"), LIVES.values(), ids=LIVES)
async def test_an_operator_is_told_how_long_a_message_lives(
    tmp_path: Path, life: timedelta, told: list[object]
) -> None:
    line = 'validity = "{validity_minutes}"'
    every = (
        'validity = ["{validity_seconds}", "{validity_minutes}", "{validity_ms}", "{expires_at}"]'
    )
    async with both(tmp_path, answers({"id": "m1"}), **{line: every}) as (fake, provider):
        await provider.send(outgoing(life=life))
    said = content(fake.asked[0])
    assert isinstance(said, dict)
    assert said["validity"] == told


OF_OPERATORS: list[tuple[str, int, object, Result | None, str]] = [
    # operator, status, answer, what becomes of the message (None: all stop), its code
    ("octopush", 401, {"code": 101, "message": "for +33612345678"}, None, "401"),
    ("octopush", 422, {"errors": {}}, Result.REFUSED, "422"),
    ("link", 200, {"resultCode": 106201, "description": "…"}, None, "106201"),
    ("link", 200, {"resultCode": 1005}, Result.UNCERTAIN, "unreadable"),  # and no messageId
    ("link", 200, {"messageId": "a", "resultCode": 9}, Result.UNCERTAIN, "unreadable"),
    ("link", 204, {"resultCode": 1005}, Result.UNCERTAIN, "204"),  # no body comes with it
    ("sinch", 400, {"code": "syntax_constraint_violation"}, None, "syntax_constraint_violation"),
    ("sinch", 403, {"code": "illegal_number_type"}, Result.REFUSED, "illegal_number_type"),
    ("sinch", 429, {}, Result.RETRY, "429"),
    ("sinch", 500, {"code": "illegal_number_type"}, Result.UNCERTAIN, "500"),
    ("smsgo", 200, {"success": False, "message": "Crédits"}, Result.REFUSED, "false"),
    ("smsgo", 200, {"success": "perhaps"}, Result.UNCERTAIN, "unreadable"),
    ("smsmode", 400, {"status": 400, "detail": "+33612345678"}, Result.REFUSED, "400"),
    ("smsmode", 409, {}, Result.UNCERTAIN, "409"),
]


@pytest.mark.parametrize("case", OF_OPERATORS, ids=lambda case: f"{case[0]}-{case[1]}-{case[4]}")
async def test_an_operator_that_does_not_take_it(
    tmp_path: Path, case: tuple[str, int, object, Result | None, str]
) -> None:
    name, status, answer, result, code = case
    async with both(tmp_path, answers(answer, status), name) as (fake, provider):
        if result is None:
            with pytest.raises(ProviderStoppedError, match=f"^{name}: {code}$"):
                await provider.send(outgoing())
        else:
            assert await provider.send(outgoing()) == Report(result, code)
    assert len(fake.asked) == 1, "posted again by itself"


WAITS = [
    ("7", 7.0),
    ("99999999999999999999", 3600.0),  # nobody may silence us for ever
    ("Tue, 02 Nov 2021 09:32:00 GMT", 120.0),
    ("Tue, 02 Nov 2021 09:00:00 GMT", 0.0),
    ("Sat, 01 Nov 9999 00:00:00 GMT", 3600.0),
    ("Tue, 02 Nov 2021 09:32:00 -0000", None),  # a time of nowhere
    ("-5", None),
    ("soon", None),
    ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
]


@pytest.mark.parametrize(("header", "seconds"), WAITS)
async def test_an_operator_says_how_long_to_wait(
    tmp_path: Path, header: str, seconds: float | None
) -> None:
    async with both(tmp_path, answers({}, 429, {"Retry-After": header})) as (_, provider):
        assert await provider.send(outgoing()) == Report(Result.RETRY, "429", retry_after=seconds)


async def test_a_name_that_is_never_found_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Surely nothing was sent: the next provider may have it."""
    monkeypatch.setattr(http_json, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", hang)
    async with sending(described(file_of("example"), "http://localhost:9", tmp_path)) as provider:
        assert await provider.send(outgoing()) == Report(Result.RETRY, "unreachable")


async def hang(*_: object, **__: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def test_only_what_may_be_tried_again_waits(tmp_path: Path) -> None:
    async with both(tmp_path, answers({}, 400, {"Retry-After": "7"})) as (_, provider):
        assert await provider.send(outgoing()) == Report(Result.REFUSED, "400")


UNREADABLE = [
    pytest.param(says("", 200), id="empty"),
    pytest.param(says("<html>", 200), id="no-json"),
    pytest.param(says("[]", 200), id="no-object"),
    pytest.param(says("{}", 200), id="no-id"),
    pytest.param(says('{"id": {"id": "m1"}}', 200), id="id-of-another-type"),
    pytest.param(says('{"id": true}', 200), id="id-of-every-message"),
    pytest.param(says('{"id": "m\\u0000"}', 200), id="strange-id"),
    pytest.param(says(f'{{"id": "{"m" * 129}"}}', 200), id="long-id"),
    pytest.param(says("[" * 60_000, 200), id="deep"),
    pytest.param(says(f'{{"id": "m1", "x": "{"x" * LARGEST_ANSWER}"}}', 200), id="long"),
    pytest.param(
        says_with(gzip.compress(b'{"id": "m1"}'), 200, {"Content-Encoding": "gzip"}), id="packed"
    ),
]


@pytest.mark.parametrize("temper", UNREADABLE)
async def test_a_yes_that_can_t_be_read_leaves_the_outcome_unknown(
    tmp_path: Path, temper: Temper
) -> None:
    async with both(tmp_path, temper) as (_, provider):
        assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, "unreadable")
        assert await provider.look_up(outgoing()) is None


async def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 8192)

    async with both(tmp_path, endless) as (_, provider):
        assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, "unreadable")


@pytest.mark.parametrize("temper", [hangs_up, cuts])
async def test_an_answer_that_is_cut_off_leaves_the_outcome_unknown(
    tmp_path: Path, temper: Temper
) -> None:
    async with both(tmp_path, temper) as (fake, provider):
        assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, "cut")
        assert await provider.look_up(outgoing()) is None
    assert [asked.method for asked in fake.asked].count("POST") == 1, "posted again by itself"


async def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(tmp_path, hangs) as (fake, provider):
        for ask, expected in (
            (provider.send, Report(Result.UNCERTAIN, "timeout")),
            (provider.look_up, None),
        ):
            before = len(fake.asked)
            asking = asyncio.create_task(ask(outgoing()))
            await until(lambda: len(fake.asked) > before)  # noqa: B023
            skip(11, monkeypatch)  # more than the 10 s that a file may ask for
            assert await asking == expected
    assert [asked.method for asked in fake.asked].count("POST") == 1, "posted again by itself"


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = described(file_of("example"), f"http://127.0.0.1:{port}", tmp_path)
    async with sending(settings) as provider:
        assert await provider.send(outgoing()) == Report(Result.RETRY, "unreachable")
        assert await provider.look_up(outgoing()) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirection_is_not_followed(tmp_path: Path, status: int) -> None:
    """It would take the secrets and the text elsewhere."""
    async with both(tmp_path, answers({"id": "m1"})) as (elsewhere, _):
        to = {"Location": f"{elsewhere.url}/there"}
        async with both(tmp_path, answers({"id": "m1"}, status, to)) as (_, provider):
            assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, str(status))
            assert await provider.look_up(outgoing()) is None
    assert elsewhere.asked == []


HOSTILE = ['","to":"+33699999999"}', "{to} {receipt_url}", "a\r\nX-Injected: 1", "&msisdn=5", "é€"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["sinch", "smsgo"])
async def test_a_text_says_nothing_but_itself(tmp_path: Path, name: str, text: str) -> None:
    _, _, body, answer, status, _ = OPERATORS[name]
    hostile = Outgoing(uuid4(), MOBILE, Secret(text), text, uuid4(), LIFE, QUEUED_AT)
    async with both(tmp_path, answers(answer, status), name) as (fake, provider):
        await provider.send(hostile)
    said = content(fake.asked[0])
    assert isinstance(said, dict)
    field, sender = ("body", "from") if name == "sinch" else ("message", "sender")
    expected = text if name == "sinch" else [text]
    assert (said[field], said[sender]) == (expected, expected)
    assert said.keys() == body.keys()
    assert said["to" if name == "sinch" else "msisdn"] == [MOBILE]
    assert "X-Injected" not in fake.asked[0].headers


async def test_cookies_and_compression_are_not_for_us(tmp_path: Path) -> None:
    sets = {"Set-Cookie": "session=1; Path=/"}
    async with both(tmp_path, answers({"id": "m1"}, 200, sets)) as (fake, provider):
        await provider.send(outgoing())
        await provider.send(outgoing())
    assert [asked.headers.get("Cookie") for asked in fake.asked] == [None, None]
    assert {asked.headers["Accept-Encoding"] for asked in fake.asked} == {"identity"}


ATTEMPT = "ATTEMPT"  # in a look-up's answer: the attempt that is asked for
FOUND = [
    ({"reference": ATTEMPT, "id": "m1", "status": "SENT"}, Report(Result.ACCEPTED, "", "m1")),
    ({"reference": ATTEMPT, "id": "m1", "status": "REJECTED"}, Report(Result.REFUSED, "REJECTED")),
    ({"reference": ATTEMPT, "id": "m1", "status": "of tomorrow"}, None),
    ({"reference": ATTEMPT, "id": "m1"}, None),
    ({"reference": ATTEMPT, "status": "SENT"}, None),
    ({"reference": str(uuid4()), "id": "m1", "status": "SENT"}, None),  # of somebody else
    ({"id": "m1", "status": "SENT"}, None),
]


@pytest.mark.parametrize(("found", "report"), FOUND)
async def test_a_look_up_believes_what_names_the_attempt(
    tmp_path: Path, found: Mapping[str, str], report: Report | None
) -> None:
    message = outgoing()
    attempt = str(message.attempt_id)
    filled = {key: attempt if value == ATTEMPT else value for key, value in found.items()}
    async with both(tmp_path, answers({"messages": [filled]})) as (fake, provider):
        assert await provider.look_up(message) == report
    [asked] = fake.asked
    assert (asked.method, asked.path) == ("GET", f"/v1/messages?reference={attempt}")
    assert asked.headers["X-Api-Key"] == SECRETS["api_key"]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_a_look_up_that_is_refused_says_nothing_of_the_message(
    tmp_path: Path, status: int
) -> None:
    with capture_logs() as logs:
        async with both(tmp_path, answers({}, status)) as (_, provider):
            assert await provider.look_up(outgoing()) is None
    assert [(log["event"], log["status"]) for log in logs] == [("look_up_refused", status)]


async def test_without_a_look_up_nobody_is_asked(tmp_path: Path) -> None:
    async with both(tmp_path, answers({}), "octopush") as (fake, provider):
        assert await provider.look_up(outgoing()) is None
    assert fake.asked == []


async def test_a_send_whose_answer_was_lost_is_found_and_not_repeated(
    tmp_path: Path, store: Store
) -> None:
    """D19: look up first, by the reference that the file puts into each request."""
    taken: list[str] = []

    async def temper(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            taken.append((await request.json())["client_reference"])
            return await hangs_up(request)
        asked = request.query["client_reference"]
        found = [{"id": f"B{n}", "client_reference": asked} for n in range(taken.count(asked))]
        return web.json_response({"count": len(found), "page": 0, "batches": found})

    async with both(tmp_path, temper, "sinch") as (_, provider):
        message_id = queue(store)
        async with dispatching(store, provider):
            await until(lambda: stored(store, message_id).state == MessageState.ACCEPTED)
    assert len(taken) == 1
    assert stored(store, message_id).provider_id == "B0"


async def test_nothing_that_an_operator_writes_is_logged(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It may quote the number and the text back; only codes of the file are repeated (D13)."""
    caplog.set_level(logging.DEBUG)
    quoted = {"error": {"code": f"no {MOBILE}", "message": TEXT}, "reference": MOBILE}
    with capture_logs() as logs:
        async with both(tmp_path, answers(quoted, 400)) as (_, provider):
            message_id = queue(store)
            async with dispatching(store, provider):
                await until(lambda: stored(store, message_id).state == MessageState.REFUSED)
            said = repr(provider) + repr(outgoing())
    attempted = [log for log in logs if log["event"] == "message_attempted"]
    assert [log["code"] for log in attempted] == ["400"]
    kept = (
        repr(logs)
        + said
        + "".join(
            record.getMessage() for record in caplog.records if record.name != "aiohttp.access"
        )
    )
    for secret in (MOBILE.lstrip("+"), "8392 7415", SECRETS["api_key"]):
        assert secret not in kept


async def test_codes_that_the_file_names_are_labels_and_others_are_not(
    tmp_path: Path, store: Store
) -> None:
    before = await scrape(store)
    async with both(tmp_path, answers({"error": {"code": "blacklisted"}}, 400)) as (fake, provider):
        settings = described(file_of("example"), fake.url, tmp_path)
        metrics.know_codes(provider.name, settings.description.codes)
        metrics.sent(provider.name, await provider.send(outgoing()))
        fake.temper = answers({}, 418)
        metrics.sent(provider.name, await provider.send(outgoing()))
    metrics.sent("another", Report(Result.REFUSED, "blacklisted"))
    after = await scrape(store)
    refused = {"result": Result.REFUSED}
    expected = [
        ({"provider": "operateur", "code": "blacklisted", **refused}, 1),
        ({"provider": "operateur", "code": "other", "result": Result.UNCERTAIN}, 1),
        ({"provider": "another", "code": "other", **refused}, 1),
    ]
    for labels, times in expected:
        assert grown(before, after, "svi_sends_total", **labels) == times, labels


def placed(folder: Path, secrets: object, mode: int = 0o600, name: str = "octopush") -> Path:
    """Put an operator's file and its secrets into a folder."""
    path = folder / f"{name}.toml"
    path.write_text(file_of(name), encoding="utf-8")
    private = folder / f"{name}.json"
    private.write_text(secrets if isinstance(secrets, str) else json.dumps(secrets))
    private.chmod(mode)
    return path


GOOD = {name: SECRETS[name] for name in ("login", "key", "receipt_token")}


def test_secrets_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    settings = HttpOperator.load(placed(tmp_path, GOOD), PUBLIC_URL)
    assert {name: secret.reveal() for name, secret in settings.secrets.items()} == GOOD
    assert not any(secret in repr(settings) for secret in GOOD.values())


BAD_SECRETS = [
    pytest.param(GOOD, 0o640, "chmod 600", id="others-may-read"),
    pytest.param("{", 0o600, "il faut key, login, receipt_token", id="cut"),
    pytest.param([], 0o600, "il faut key, login", id="no-object"),
    pytest.param({"key": "a", "login": "b"}, 0o600, "il faut key, login", id="one-is-missing"),
    pytest.param(GOOD | {"key": 5}, 0o600, "il faut key, login", id="no-text"),
    pytest.param(GOOD | {"key": ""}, 0o600, "il faut key, login", id="empty"),
    pytest.param(GOOD | {"key": "k3y\r\nX-A: b"}, 0o600, "il faut key, login", id="two-lines"),
    pytest.param(GOOD | {"key": "clé3y"}, 0o600, "il faut key, login", id="no-ascii"),
    pytest.param(
        GOOD | {"receipt_token": "k3y"}, 0o600, "receipt_token: il faut 32", id="easily-guessed"
    ),
    pytest.param(
        GOOD | {"receipt_token": f"{TOKEN}/k3y"}, 0o600, "receipt_token: il faut 32", id="a-path"
    ),
]


@pytest.mark.parametrize(("secrets", "mode", "advice"), BAD_SECRETS)
def test_bad_secrets_are_told_in_one_line(
    tmp_path: Path, secrets: object, mode: int, advice: str
) -> None:
    path = placed(tmp_path, secrets, mode)
    with pytest.raises(SettingsError, match=advice) as raised:
        HttpOperator.load(path, PUBLIC_URL)
    told = str(raised.value)
    assert told.startswith(f"{tmp_path / 'octopush.json'}: ")
    assert "\n" not in told
    assert "k3y" not in told


def test_receipts_need_a_public_address(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SVI_PUBLIC_URL"):
        HttpOperator.load(placed(tmp_path, GOOD), "")
    without = placed(tmp_path, {"key": "k3y"}, name="smsgo")
    assert HttpOperator.load(without, "").description.receipts is None
