"""The Twilio provider against a server of ours that fails in every way (peers.md, SMS peers)."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from shared.errors import SettingsError
from shared.models import MessageState
from shared.outbox import Report, Result
from shared.secret import Secret
from shared.store import Store
from sms.dispatcher import Dispatcher
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers import twilio
from sms.providers.twilio import TwilioAccount, TwilioProvider, TwilioSettings, open_twilio
from sms.templates import Templates
from tests.gateway import FAST, LIFE, LONG, QUEUED_AT, queue, skip, until
from tests.gateway import message as stored
from tests.peers.fake_twilio import (
    ACCOUNT_SID,
    TOKEN,
    FakeTwilio,
    Temper,
    cuts,
    error,
    fake_twilio,
    hangs,
    hangs_up,
    says,
)
from tests.store import FakeClock

MOBILE = "+33612345678"
TEXT = "Caf: votre nouveau mot de passe est 8392 7415."
PUBLIC_URL = "https://sms.example.org"
ACCOUNT = TwilioAccount(ACCOUNT_SID, Secret(TOKEN))


def outgoing(text: str = TEXT, life: timedelta = LIFE) -> Outgoing:
    return Outgoing(uuid4(), MOBILE, Secret(text), "Caf", uuid4(), life, QUEUED_AT)


@asynccontextmanager
async def sending_to(url: str) -> AsyncIterator[TwilioProvider]:
    settings = TwilioSettings(ACCOUNT, PUBLIC_URL, url, timeout=LONG)
    async with open_twilio(settings) as provider:
        yield provider


@asynccontextmanager
async def both() -> AsyncIterator[tuple[FakeTwilio, TwilioProvider]]:
    async with fake_twilio() as fake, sending_to(fake.url) as provider:
        yield fake, provider


@pytest.mark.asyncio
async def test_a_message_is_posted_once_with_all_that_twilio_needs() -> None:
    message = outgoing()
    async with both() as (fake, provider):
        report = await provider.send(message)
    assert fake.asked == [
        {
            "To": MOBILE,
            "From": "Caf",
            "Body": TEXT,
            "StatusCallback": f"{PUBLIC_URL}/twilio/status/{message.attempt_id}",
            "ValidityPeriod": "36000",  # Twilio's longest: our 24 hours are more
        }
    ]
    assert report == Report(Result.ACCEPTED, provider_id=fake.taken[0]["sid"])


@pytest.mark.asyncio
async def test_a_number_that_replies_is_written_as_twilio_does() -> None:
    """D14: ours are as in templates.toml."""
    numbers = {"36180": "36180", "33757590000": "+33757590000", "262692345678": "+262692345678"}
    async with both() as (fake, provider):
        for number in numbers:
            await provider.send(replace(outgoing(), sender=number))
    assert [asked["From"] for asked in fake.asked] == [*numbers.values()]


LIVES = {
    "two hours": (timedelta(hours=2), "7200"),
    "what is left of a code's ten minutes (R15)": (timedelta(minutes=9, seconds=59.8), "600"),
    "the least": (timedelta(seconds=1), "1"),
    "the longest": (timedelta(hours=10), "36000"),
    "more": (timedelta(hours=10, seconds=0.5), "36000"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("life", "told"), LIVES.values(), ids=LIVES)
async def test_twilio_forgets_a_message_when_its_life_ends(life: timedelta, told: str) -> None:
    async with both() as (fake, provider):
        await provider.send(outgoing(life=life))
    assert fake.asked[0]["ValidityPeriod"] == told


@pytest.mark.asyncio
async def test_the_region_of_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_REGION", "ie1")
    monkeypatch.setenv("TWILIO_EDGE", "dublin")
    async with both() as (_, provider):
        assert (await provider.send(outgoing())).result is Result.ACCEPTED


TAKEN_BY_NOBODY = [
    # status, code, what becomes of the message
    (400, 21211, Result.REFUSED),  # not a telephone number
    (403, 21408, Result.REFUSED),  # region not permitted
    (400, 21606, Result.REFUSED),  # the sender can't reach it
    (400, 21610, Result.REFUSED),  # unsubscribed
    (400, 21612, Result.REFUSED),  # no route
    (400, 21614, Result.REFUSED),  # not a mobile
    (400, 29999, Result.REFUSED),  # a code that we don't know
    (429, 20429, Result.RETRY),  # too many requests
    (429, 63038, Result.RETRY),  # too many in a day
    (500, 20500, Result.UNCERTAIN),
    (503, 20503, Result.UNCERTAIN),
    (500, 21211, Result.UNCERTAIN),  # in a 5xx no code is to be believed
    (302, 21211, Result.UNCERTAIN),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "code", "result"), TAKEN_BY_NOBODY)
async def test_what_an_error_means(status: int, code: int, result: Result) -> None:
    async with both() as (fake, provider):
        fake.temper = error(status, code)
        assert await provider.send(outgoing()) == Report(
            result,
            str(code),
            retry_after=1.0 if status == 429 else None,
            elsewhere=code in {21408, 21606, 21612},  # the number may be reached by another
        )
    assert len(fake.asked) == 1, "posted again by itself"


OUR_FAULTS = [
    (401, 20003),  # wrong token
    (403, 20005),  # account suspended
    (403, 20403),  # may not send
    (404, 20404),  # no such account
    (400, 21609),  # our public address is wrong
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "code"), OUR_FAULTS)
async def test_a_fault_of_ours_stops_the_provider(status: int, code: int) -> None:
    async with both() as (fake, provider):
        fake.temper = error(status, code)
        with pytest.raises(ProviderStoppedError, match=str(code)) as raised:
            await provider.send(outgoing())
    assert MOBILE not in str(raised.value)


WAITS = [
    ("7", 7.0),
    ("99999999999999999999", 3600.0),  # nobody may silence us for ever
    ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0),
    ("-5", 1.0),
    ("٣", 1.0),  # a digit, but none of HTTP's
    (None, 1.0),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("header", "seconds"), WAITS)
async def test_twilio_says_how_long_to_wait(header: str | None, seconds: float | None) -> None:
    async with both() as (fake, provider):
        fake.temper = error(429, 20429, header)
        report = await provider.send(outgoing())
    assert report == Report(Result.RETRY, "20429", retry_after=seconds)


@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with sending_to(f"http://127.0.0.1:{port}") as provider:
        assert await provider.send(outgoing()) == Report(Result.RETRY, "unreachable")
        assert await provider.look_up(outgoing()) is None


@pytest.mark.asyncio
async def test_a_name_that_is_never_found_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surely nothing was sent: the next provider may have it."""

    async def hang(*_: object, **__: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(twilio, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", hang)
    async with sending_to("http://localhost:9") as provider:
        assert await provider.send(outgoing()) == Report(Result.RETRY, "unreachable")


CUT_OFF = [
    pytest.param(hangs_up, "cut", id="hangs-up"),
    pytest.param(cuts, "cut", id="cuts-the-answer"),
    pytest.param(says("<html>"), "201", id="no-json"),
    pytest.param(says("[]"), "201", id="no-object"),
    pytest.param(says("{}"), "unreadable", id="no-sid"),
    pytest.param(says('{"sid": 5}'), "unreadable", id="strange-sid"),
    pytest.param(says("", 204), "204", id="empty"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("temper", "code"), CUT_OFF)
async def test_an_answer_that_is_lost_leaves_the_outcome_unknown(temper: Temper, code: str) -> None:
    async with both() as (fake, provider):
        fake.temper = temper
        assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, code)
        assert await provider.look_up(outgoing()) is None
    assert len(fake.asked) == 1, "posted again by itself"


@pytest.mark.asyncio
async def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[str] = []

    async def never_answers(request: web.Request) -> web.StreamResponse:
        waiting.append(request.method)
        return await hangs(request)

    async with both() as (fake, provider):
        fake.temper = never_answers
        sending = asyncio.create_task(provider.send(outgoing()))
        await until(lambda: waiting == ["POST"])
        skip(2 * LONG, monkeypatch)
        assert await sending == Report(Result.UNCERTAIN, "timeout")
        looking_up = asyncio.create_task(provider.look_up(outgoing()))
        await until(lambda: waiting == ["POST", "GET"])
        skip(2 * LONG, monkeypatch)
        assert await looking_up is None
    assert len(fake.asked) == 1, "posted again by itself"


@pytest.mark.asyncio
async def test_the_same_of_another_day_is_not_what_was_lost() -> None:
    """A notice says the same each time: what was sent before it was queued is another message."""
    async with both() as (fake, provider):
        fake.now = QUEUED_AT - timedelta(days=3)
        assert (await provider.send(outgoing())).result is Result.ACCEPTED
        assert await provider.look_up(outgoing()) is None
        fake.now = QUEUED_AT
        await provider.send(lost := outgoing())
        assert await provider.look_up(lost) == Report(
            Result.ACCEPTED, provider_id=fake.taken[1]["sid"]
        )


@pytest.mark.asyncio
async def test_a_send_whose_answer_was_lost_is_found() -> None:
    message = outgoing()
    async with both() as (fake, provider):
        await provider.send(outgoing("Caf: votre nouveau mot de passe est 5820 1947."))
        fake.temper = fake.takes(1, hangs_up)
        assert await provider.send(message) == Report(Result.UNCERTAIN, "cut")
        await provider.send(outgoing("another"))
        expected = Report(Result.ACCEPTED, provider_id=fake.taken[1]["sid"])
        assert await provider.look_up(message) == expected


TAKEN_WITHOUT_AN_ANSWER = [
    pytest.param(1, hangs_up, id="hangs-up"),
    pytest.param(1, cuts, id="cuts-the-answer"),
    pytest.param(1, error(500, 20500), id="answers-500"),
    pytest.param(2, hangs_up, id="taken-twice"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("times", "then"), TAKEN_WITHOUT_AN_ANSWER)
async def test_a_send_whose_answer_was_lost_is_not_repeated(
    store: Store, clock: FakeClock, times: int, then: Temper
) -> None:
    """D19: look up first. One that Twilio took twice is matched to one of the two."""
    message_id = queue(store)
    async with both() as (fake, provider):
        fake.temper = fake.takes(times, then)
        with ThreadPoolExecutor(2) as pool:
            dispatcher = Dispatcher(store, [provider], Templates.load(), pool, FAST)
            running = asyncio.create_task(dispatcher.run())
            await until(lambda: stored(store, message_id).state == MessageState.ACCEPTED)
            clock.advance(timedelta(hours=1))
            await asyncio.sleep(0.05)
            dispatcher.stop()
            await running
    assert len(fake.taken) == times
    assert stored(store, message_id).provider_id in {one["sid"] for one in fake.taken}
    assert len(fake.asked) == 1


@pytest.mark.asyncio
async def test_a_look_up_that_may_not_ask_stops_the_provider() -> None:
    async with both() as (fake, provider):
        fake.temper = error(401, 20003)
        with pytest.raises(ProviderStoppedError, match="20003"):
            await provider.look_up(outgoing())
        fake.temper = error(500, 20500)
        assert await provider.look_up(outgoing()) is None


LISTS = [
    pytest.param("{}", id="no-messages"),
    pytest.param('{"messages": [], "next_page_uri": "https://elsewhere.example/"}', id="empty"),
    pytest.param('{"messages": [{"sid": null, "body": null}]}', id="redacted"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("text", LISTS)
async def test_a_list_without_the_message_says_nothing(text: str) -> None:
    async with both() as (fake, provider):
        fake.temper = says(text, 200)
        assert await provider.look_up(outgoing()) is None


@pytest.mark.asyncio
async def test_a_send_that_twilio_does_not_list_stays_unknown() -> None:
    async with both() as (_, provider):
        await provider.send(outgoing("another text to the same telephone"))
        assert await provider.look_up(outgoing()) is None


@pytest.mark.asyncio
async def test_nothing_is_logged_or_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with both() as (fake, provider):
        await provider.send(outgoing())
        await provider.look_up(outgoing())
        fake.temper = error(400, 21211)
        await provider.send(outgoing())
        http_client = provider._messages._version.domain.twilio.http_client
        kept = repr(vars(http_client))
    for secret in (MOBILE.lstrip("+"), "8392 7415", "8392+7415", TOKEN):
        assert secret not in kept
        assert secret not in "\n".join(
            record.getMessage() for record in caplog.records if record.name != "aiohttp.access"
        )
        assert secret not in repr(outgoing()) + repr(provider) + repr(ACCOUNT)


def _credentials(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "twilio.json"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


GOOD = json.dumps({"account_sid": ACCOUNT_SID, "auth_token": TOKEN})


def test_credentials_come_from_a_file(tmp_path: Path) -> None:
    account = TwilioAccount.load(_credentials(tmp_path, GOOD))
    assert (account.sid, account.token.reveal()) == (ACCOUNT_SID, TOKEN)


BAD_FILES = [
    pytest.param(GOOD, 0o640, "chmod 600", id="others-may-read"),
    pytest.param(GOOD[:-1], 0o600, "recopiez ceux", id="cut"),
    pytest.param("[]", 0o600, "recopiez ceux", id="no-object"),
    pytest.param(GOOD.replace("AC0", "SK0"), 0o600, "recopiez ceux", id="no-account"),
    pytest.param(GOOD.replace(TOKEN, ""), 0o600, "recopiez ceux", id="no-token"),
    pytest.param(GOOD.replace(f'"{TOKEN}"', "5"), 0o600, "recopiez ceux", id="token-no-text"),
]


@pytest.mark.parametrize(("text", "mode", "advice"), BAD_FILES)
def test_bad_credentials_are_told_in_one_line(
    tmp_path: Path, text: str, mode: int, advice: str
) -> None:
    path = _credentials(tmp_path, text, mode)
    with pytest.raises(SettingsError, match=advice) as raised:
        TwilioAccount.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert TOKEN not in message


def test_missing_credentials(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ne peut pas être lu"):
        TwilioAccount.load(tmp_path / "absent.json")
