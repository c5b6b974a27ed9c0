"""Messages by Twilio, on its own package, whose traps are mended here.

The package's HTTP clients log accounts and texts, keep the last request, post again on a 5xx and
hide the answer's headers. Ours does none of that; it also sends requests to a base address of our
choice, whatever region the environment names.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from twilio.base.exceptions import TwilioException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from shared.models import MessageState, Route
from shared.outbox import Report, Result
from shared.secret import Secret
from sms.provider import LONGEST_SHORT_CODE, Outgoing, ProviderStoppedError, Received
from sms.providers.account import read_account

STATUS_PATH = "/twilio/status"
INBOUND_PATH = "/twilio/inbound"
CONNECT_SECONDS = 5.0
LONGEST_VALIDITY = 36_000  # seconds: Twilio's own limit of ValidityPeriod, from 1
LONGEST_RETRY_AFTER = 3600.0
CLOCKS_DIFFER = timedelta(minutes=1)
LOOKED_AT = 20  # messages to one telephone, newest first

_ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
_MESSAGE_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")

OUR_FAULT = None
"""Our account or settings are wrong: no message would be taken."""

BY_CODE: Mapping[int, Result | None] = {
    20003: OUR_FAULT,  # authentication failed
    20005: OUR_FAULT,  # account not active
    20429: Result.RETRY,  # too many requests
    21211: Result.REFUSED,  # not a telephone number
    21408: Result.REFUSED,  # region not permitted
    21606: Result.REFUSED,  # the sender can't reach this number
    21609: OUR_FAULT,  # the status callback's address is wrong
    21610: Result.REFUSED,  # the person unsubscribed
    21612: Result.REFUSED,  # no route to this number
    21614: Result.REFUSED,  # not a mobile
}
"""What an error code of Twilio's means for the message (twilio.com/docs/api/errors)."""

OF_THIS_WAY = {21408, 21606, 21612}
"""Refusals that are not the number's own: another provider may reach it, by its sender."""

TOO_MANY = 429
RETRY_SECONDS = 1.0  # where Twilio does not say

BY_STATUS: Mapping[int, Result | None] = {
    401: OUR_FAULT,
    403: OUR_FAULT,
    404: OUR_FAULT,  # no such account, or not Twilio's address
    429: Result.RETRY,
}
"""What a 4xx means whose code is not in the table; any other 4xx is a refusal."""

STATES: Mapping[str, MessageState] = {
    "accepted": MessageState.ACCEPTED,
    "scheduled": MessageState.ACCEPTED,
    "queued": MessageState.ACCEPTED,
    "sending": MessageState.ACCEPTED,
    "sent": MessageState.ACCEPTED,
    "delivered": MessageState.DELIVERED,
    "read": MessageState.DELIVERED,
    "undelivered": MessageState.UNDELIVERED,
    "failed": MessageState.UNDELIVERED,
    "canceled": MessageState.UNDELIVERED,
}
"""What a status of Twilio's means for the message (message_enum_status of its contract)."""


@dataclass(frozen=True)
class TwilioAccount:
    """Who we are at Twilio; the token also signs what Twilio tells us."""

    sid: str = field(repr=False)
    token: Secret

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `{"account_sid": "AC…", "auth_token": "…"}`.

        SettingsError if the file is missing, damaged or readable by others.
        """
        sid, token = read_account(
            path,
            {"account_sid": _is_account_sid, "auth_token": _is_token},
            "il faut account_sid et auth_token ; recopiez ceux de la console de Twilio",
        )
        return cls(sid, Secret(token))


@dataclass(frozen=True)
class TwilioSettings:
    """How to reach Twilio, and how it reaches us.

    `public_url` is ours as Twilio sees it, without a path; `timeout` in seconds, of one request: it
    must end before the dispatcher's lease does.
    """

    account: TwilioAccount
    public_url: str
    url: str
    timeout: float = 12.0


class TwilioProvider:
    """Sends by Twilio's Messages resource; made by `open_twilio`."""

    name = "twilio"
    route = Route.SMS
    window = None

    def __init__(self, settings: TwilioSettings, session: aiohttp.ClientSession) -> None:
        self._callback = settings.public_url.rstrip("/") + STATUS_PATH
        account = settings.account
        self._messages = Client(
            account.sid, account.token.reveal(), http_client=_HttpClient(session, settings.url)
        ).messages

    async def send(self, message: Outgoing) -> Report:
        """Post a message, once; its receipts will come to an address that names the attempt.

        Twilio knows no idempotency key: that address is all that ties a send whose answer was
        lost to our attempt.
        """
        try:
            sent = await self._messages.create_async(
                to=message.destination,
                from_=_origin(message.sender),
                body=message.text.reveal(),
                status_callback=f"{self._callback}/{message.attempt_id}",
                validity_period=min(message.life_seconds, LONGEST_VALIDITY),
            )
        except _AnswerError as answer:
            return _judge(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Report(Result.RETRY, "unreachable")
        except TimeoutError:
            return Report(Result.UNCERTAIN, "timeout")
        except aiohttp.ClientError:
            return Report(Result.UNCERTAIN, "cut")
        if not _is_message_sid(sent.sid):
            return Report(Result.UNCERTAIN, "unreadable")
        return Report(Result.ACCEPTED, provider_id=sent.sid)

    async def look_up(self, message: Outgoing) -> Report | None:
        """Find a message by its destination and text, among those since it was queued.

        None if it is not there: it may still be on its way into Twilio's list.
        """
        try:
            page = await self._messages.page_async(to=message.destination, page_size=LOOKED_AT)
        except _AnswerError as answer:
            _judge(answer)  # stops the provider if the fault is ours
            return None
        except (TwilioException, aiohttp.ClientError, TimeoutError):
            return None
        for one in page:
            same = one.body == message.text.reveal() and _is_message_sid(one.sid)
            if same and _is_since(one.date_created, message.queued_at - CLOCKS_DIFFER):
                return Report(Result.ACCEPTED, provider_id=one.sid)
        return None


@asynccontextmanager
async def open_twilio(settings: TwilioSettings) -> AsyncIterator[TwilioProvider]:
    """Give a provider in the running loop and close its connections in the end."""
    # `connect` is for the name, too: while it is looked for, surely nothing was sent.
    timeout = aiohttp.ClientTimeout(
        total=settings.timeout, connect=min(CONNECT_SECONDS, settings.timeout / 2)
    )
    # A kept connection that Twilio has just closed would make a send uncertain for nothing.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield TwilioProvider(settings, session)


@dataclass(frozen=True)
class TwilioReceipt:
    """What Twilio says later of a message; `state` is None for a status we don't know."""

    provider_id: str
    state: MessageState | None


class _Callbacks:
    """Reads what Twilio alone can have signed."""

    def __init__(self, account: TwilioAccount, public_url: str) -> None:
        self._account_sid = account.sid
        self._validator = RequestValidator(account.token.reveal())
        self._base = public_url.rstrip("/")

    def _signed(
        self, path: str, form: Sequence[tuple[str, str]], signature: str
    ) -> Mapping[str, str] | None:
        """Give a form's fields; None if it is not signed for this path, or not for our account."""
        fields = dict(form)
        if len(fields) < len(form):  # the signature would hold for some of them only
            return None
        if not self._validator.validate(self._base + path, fields, signature):
            return None
        return fields if fields.get("AccountSid") == self._account_sid else None


class TwilioReceipts(_Callbacks):
    """Reads status callbacks."""

    def read(
        self, attempt_id: str, form: Sequence[tuple[str, str]], signature: str
    ) -> TwilioReceipt | None:
        """Give a receipt; None if it is not signed for this attempt, or not for our account.

        ValueError if it is signed but lacks what a status callback has.
        """
        fields = self._signed(f"{STATUS_PATH}/{attempt_id}", form, signature)
        if fields is None:
            return None
        sid, status = fields.get("MessageSid"), fields.get("MessageStatus")
        if not _is_message_sid(sid) or status is None:
            raise ValueError("not a status callback")
        return TwilioReceipt(str(sid), STATES.get(status))


class TwilioMessages(_Callbacks):
    """Reads what people write to numbers of ours."""

    def read(self, form: Sequence[tuple[str, str]], signature: str) -> Received | None:
        """Give a message; None if it is not signed, or not for our account.

        ValueError if it is signed but lacks what a message has.
        """
        fields = self._signed(INBOUND_PATH, form, signature)
        if fields is None:
            return None
        sid, text = fields.get("MessageSid"), fields.get("Body")
        called, sender = fields.get("To"), fields.get("From")
        if not _is_message_sid(sid) or text is None or called is None or sender is None:
            raise ValueError("not a message")
        return Received(TwilioProvider.name, sid, called, sender, text)


class _AnswerError(Exception):
    """An answer that is no success we can read; holds nothing that Twilio wrote in words."""

    def __init__(self, status: int, code: int | None, retry_after: float | None) -> None:
        super().__init__(f"status {status}, code {code}")
        self.status = status
        self.code = code
        self.retry_after = retry_after


def _judge(answer: _AnswerError) -> Report:
    """Tell what an answer means by the tables; ProviderStoppedError if the fault is ours."""
    code = str(answer.code or answer.status)
    if not 400 <= answer.status < 500:
        return Report(Result.UNCERTAIN, code)
    by_status = BY_STATUS.get(answer.status, Result.REFUSED)
    result = by_status if answer.code is None else BY_CODE.get(answer.code, by_status)
    if result is OUR_FAULT:
        raise ProviderStoppedError(f"Twilio: {code}")
    wait = answer.retry_after
    if wait is None and answer.status == TOO_MANY:
        wait = RETRY_SECONDS
    return Report(result, code, retry_after=wait, elsewhere=answer.code in OF_THIS_WAY)


class _HttpClient(AsyncHttpClient):  # type: ignore[misc] # an untyped package's
    """What Twilio's package sends its requests with."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.is_async = True
        self._session = session
        self._base = base.rstrip("/")

    async def request(  # noqa: PLR0913, PLR0917 - the signature is Twilio's
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the session's holds
        allow_redirects: bool = False,  # noqa: ARG002 - never
    ) -> Response:
        """Ask once; _AnswerError for anything but a success with a JSON object."""
        credentials = {"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {}
        path = urlsplit(uri).path
        query = f"?{urlencode(params)}" if params else ""
        async with self._session.request(
            method,
            f"{self._base}{path}{query}",
            data=urlencode(data).encode() if data else None,
            headers={**(headers or {}), **credentials},
            allow_redirects=False,
        ) as answer:
            text = await answer.text(errors="replace")
        body = _json_object(text)
        if answer.status >= 300 or body is None:
            raise _AnswerError(answer.status, _code(body), _retry_after(answer.headers))
        return Response(answer.status, text, answer.headers)


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _code(body: Mapping[str, object] | None) -> int | None:
    code = body.get("code") if body else None
    return code if isinstance(code, int) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds of Retry-After; Twilio sends no dates there."""
    value = headers.get("Retry-After", "")
    if not (value.isascii() and value.isdecimal()):
        return None
    return min(float(value), LONGEST_RETRY_AFTER)


def _origin(sender: str) -> str:
    """Write a sender as Twilio does: a number that is no short code has its +."""
    is_long = sender.isdecimal() and len(sender) > LONGEST_SHORT_CODE
    return f"+{sender}" if is_long else sender


def _is_account_sid(text: str) -> bool:
    return _ACCOUNT_SID.fullmatch(text) is not None


def _is_token(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _is_since(created: object, earliest: datetime) -> bool:
    """Say whether Twilio made a message since then; the same was perhaps sent some day before."""
    return isinstance(created, datetime) and created >= earliest


def _is_message_sid(sid: object) -> bool:
    return isinstance(sid, str) and _MESSAGE_SID.fullmatch(sid) is not None
