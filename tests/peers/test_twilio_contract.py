"""Twilio's own contract and Twilio's own signer judge what we send and what we believe."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select

from shared.models import Message, MessageState
from shared.origin import Origin
from shared.outbox import Report, Result
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from sms.callbacks import FORM, Callbacks, TwilioCallbacks
from sms.dispatcher import Dispatcher
from sms.http import Backend, application, serving
from sms.inbound import Inbox
from sms.provider import Outgoing, ProviderStoppedError, Received
from sms.providers.twilio import (
    TwilioAccount,
    TwilioMessages,
    TwilioProvider,
    TwilioReceipts,
    TwilioSettings,
    open_twilio,
)
from sms.templates import Templates
from tests.gateway import FAST, LIFE, QUEUED_AT, until
from tests.peers.fake_twilio import (
    ACCOUNT_SID,
    TOKEN,
    FakeTwilio,
    Temper,
    cuts,
    error,
    fake_twilio,
    hangs,
    says,
)
from tests.peers.npm import contract, contract_with_errors, free_port, npm_signature, prism
from tests.store import CAISSE, NUMBER, OWNER, add_account, log_in

MOBILE = "+33612345678"
PUBLIC_URL = "https://sms.example.org"
ACCOUNT = TwilioAccount(ACCOUNT_SID, Secret(TOKEN))
MESSAGES = TwilioMessages(ACCOUNT, PUBLIC_URL)


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    """Prism in Twilio's place: it takes what the contract allows, and refuses all else."""
    with prism("mock", free_port(), str(contract())) as url:
        yield url


@pytest.fixture(scope="module")
def upstream() -> int:
    """The port of the fake behind the proxy."""
    return free_port()


@pytest.fixture(scope="module")
def proxy(upstream: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prism between us and the fake: it judges the requests and the answers."""
    path = contract_with_errors(tmp_path_factory.mktemp("contract"))
    with prism("proxy", free_port(), str(path), f"http://127.0.0.1:{upstream}") as url:
        yield url


def outgoing(text: str = "Caf: votre nouveau mot de passe est 8392 7415.") -> Outgoing:
    return Outgoing(uuid4(), MOBILE, Secret(text), "Caf", uuid4(), LIFE, QUEUED_AT)


@asynccontextmanager
async def sending_to(
    url: str, account: TwilioAccount = ACCOUNT, timeout: float = 5.0
) -> AsyncIterator[TwilioProvider]:
    settings = TwilioSettings(account, PUBLIC_URL, url, timeout)
    async with open_twilio(settings) as provider:
        yield provider


@pytest.mark.asyncio
async def test_what_we_send_is_what_the_contract_asks(mock: str) -> None:
    async with sending_to(mock) as provider:
        report = await provider.send(outgoing())
        assert report == Report(Result.ACCEPTED, provider_id="SM" + "a" * 32)
        assert await provider.look_up(outgoing()) is None  # understood, and not listed


@pytest.mark.asyncio
async def test_the_contract_really_judges(mock: str) -> None:
    no_account = TwilioAccount("AC1", Secret(TOKEN))
    async with sending_to(mock, no_account) as provider:
        assert await provider.send(outgoing()) == Report(Result.REFUSED, "422")
    no_token = TwilioAccount(ACCOUNT_SID, Secret(""))
    async with sending_to(mock, no_token) as provider:
        with pytest.raises(ProviderStoppedError, match="401"):
            await provider.send(outgoing())


@asynccontextmanager
async def judged(
    proxy: str, upstream: int, temper: Temper | None = None, timeout: float = 5.0
) -> AsyncIterator[tuple[FakeTwilio, TwilioProvider]]:
    async with fake_twilio(upstream) as fake, sending_to(proxy, timeout=timeout) as provider:
        fake.temper = temper
        yield fake, provider


@pytest.mark.asyncio
async def test_the_answers_of_our_fake_are_twilios(proxy: str, upstream: int) -> None:
    lost = outgoing()
    async with judged(proxy, upstream) as (fake, provider):
        report = await provider.send(lost)
        assert report == Report(Result.ACCEPTED, provider_id=fake.taken[0]["sid"])
        assert await provider.look_up(lost) == report


@pytest.mark.asyncio
async def test_the_contract_judges_answers_too(proxy: str, upstream: int) -> None:
    async with judged(proxy, upstream, says('{"sid": "SM1"}')) as (_, provider):
        assert await provider.send(outgoing()) == Report(Result.UNCERTAIN, "500")


ERRORS = [
    # status, code, what becomes of the message
    (400, 21211, Result.REFUSED),
    (403, 21408, Result.REFUSED),
    (400, 21606, Result.REFUSED),
    (400, 21610, Result.REFUSED),
    (400, 21612, Result.REFUSED),
    (400, 21614, Result.REFUSED),
    (429, 20429, Result.RETRY),
    (500, 20500, Result.UNCERTAIN),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "code", "result"), ERRORS)
async def test_errors_in_twilios_form(
    proxy: str, upstream: int, status: int, code: int, result: Result
) -> None:
    async with judged(proxy, upstream, error(status, code)) as (fake, provider):
        report = await provider.send(outgoing())
    assert (report.result, report.code) == (result, str(code))
    assert len(fake.asked) == 1


@pytest.mark.asyncio
async def test_a_wrong_token_stops_us(proxy: str, upstream: int) -> None:
    async with judged(proxy, upstream, error(401, 20003)) as (_, provider):
        with pytest.raises(ProviderStoppedError, match="20003"):
            await provider.send(outgoing())


@pytest.mark.asyncio
@pytest.mark.parametrize("temper", [hangs, cuts])
async def test_a_lost_answer_leaves_the_outcome_unknown(
    proxy: str, upstream: int, temper: Temper
) -> None:
    async with judged(proxy, upstream, temper, timeout=1.0) as (fake, provider):
        assert (await provider.send(outgoing())).result is Result.UNCERTAIN
    assert len(fake.asked) == 1


FORM_OF_TWILIO = {
    "AccountSid": ACCOUNT_SID,
    "ApiVersion": "2010-04-01",
    "From": "Caf",
    "MessageSid": "SM" + "a" * 32,
    "MessageStatus": "delivered",
    "SmsSid": "SM" + "a" * 32,
    "SmsStatus": "delivered",
    "To": MOBILE,
}


def test_twilios_own_package_signs_as_we_check() -> None:
    receipts = TwilioReceipts(ACCOUNT, PUBLIC_URL)
    attempt_id = str(uuid4())
    url = f"{PUBLIC_URL}/twilio/status/{attempt_id}"
    form = {**FORM_OF_TWILIO, "ErrorMessage": "é & = + %", "Empty": ""}
    signature = npm_signature(TOKEN, url, form)
    receipt = receipts.read(attempt_id, [*form.items()], signature)
    assert receipt is not None
    assert receipt.state is MessageState.DELIVERED
    altered = {
        "status": [*{**form, "MessageStatus": "failed"}.items()],
        "one field more": [*form.items(), ("More", "1")],
        "one field less": [*form.items()][:-1],
        "a field twice": [*form.items(), ("MessageStatus", "failed")],
    }
    for kind, fields in altered.items():
        assert receipts.read(attempt_id, fields, signature) is None, kind
    assert receipts.read(str(uuid4()), [*form.items()], signature) is None
    of_another = npm_signature("f" * 32, url, form)
    assert receipts.read(attempt_id, [*form.items()], of_another) is None


def test_twilios_own_package_signs_what_people_write() -> None:
    form = {
        "AccountSid": ACCOUNT_SID,
        "Body": "Stop, été & = + % 😀",
        "From": MOBILE,
        "FromCity": "",
        "MessageSid": "SM" + 32 * "b",
        "To": "36180",
    }
    url = f"{PUBLIC_URL}/twilio/inbound"
    signature = npm_signature(TOKEN, url, form)
    received = MESSAGES.read([*form.items()], signature)
    assert received == Received(
        "twilio", form["MessageSid"], form["To"], form["From"], form["Body"]
    )
    altered = {
        "another text": [*{**form, "Body": "Aide"}.items()],
        "another sender": [*{**form, "From": "+33698765432"}.items()],
        "one field more": [*form.items(), ("More", "1")],
        "one field less": [*form.items()][:-1],
        "a field twice": [*form.items(), ("Body", "Aide")],
    }
    for kind, fields in altered.items():
        assert MESSAGES.read(fields, signature) is None, kind
    of_another = npm_signature("f" * 32, url, form)
    assert MESSAGES.read([*form.items()], of_another) is None


@pytest.mark.asyncio
async def test_a_forgotten_password_goes_the_whole_way(
    store: Store, proxy: str, upstream: int
) -> None:
    """From the request on the telephone by Twilio's contract to its signed receipt (R10, R11)."""
    add_account(store)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    with ThreadPoolExecutor(4) as pool:
        async with judged(proxy, upstream) as (fake, provider):
            dispatcher = Dispatcher(store, [provider], Templates.load(), pool, FAST)
            running = asyncio.create_task(dispatcher.run())
            await until(lambda: only_message(store).state == MessageState.ACCEPTED)
            twilio = TwilioCallbacks(
                TwilioReceipts(ACCOUNT, PUBLIC_URL), MESSAGES, Inbox(store, pool, ())
            )
            app = application(Backend(store, pool, lambda: dispatcher.working, Callbacks(twilio)))
            assert await call_back(app, fake) == 204
            dispatcher.stop()
            await running
    assert only_message(store).state == MessageState.DELIVERED
    password = re.findall(r"\b(\d{4}) (\d{4})\b", fake.taken[0]["body"])
    assert isinstance(log_in(store, "".join(password[0])), Session)


async def call_back(app: web.Application, fake: FakeTwilio) -> int:
    """Tell the gateway, at the address that it gave, that its message was delivered."""
    callback, sid = fake.asked[0]["StatusCallback"], fake.taken[0]["sid"]
    form = {**FORM_OF_TWILIO, "MessageSid": sid, "SmsSid": sid}
    headers = {
        "Content-Type": FORM,
        "X-Twilio-Signature": npm_signature(TOKEN, callback, form),
    }
    async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        url = callback.replace(PUBLIC_URL, f"http://127.0.0.1:{port}")
        async with session.post(url, data=urlencode(form), headers=headers) as answer:
            return answer.status


def only_message(store: Store) -> Message:
    with store.database.read() as transaction:
        return transaction.scalars(select(Message)).one()
