"""Messages by an operator's HTTP/JSON API, which a file describes (sms/http_description.py).

What the operator answers is believed as far as the file's tables go; all else leaves the outcome
unknown (D19). Nothing of an answer is kept or logged but codes that these tables have.
"""

import hmac
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

import aiohttp
import structlog

from shared.clock import Clock
from shared.errors import SettingsError
from shared.models import MessageState, Route
from shared.outbox import Report, Result
from shared.secret import Secret
from sms import http_description
from sms.http_description import OUR_FAULT, Basic, Description, Encoding, Format, Hmac, fill
from sms.json_answers import at, parse, text_at
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers.account import read_account

RECEIPTS_PATH = "/receipts"
CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 64 * 1024
LONGEST_RETRY_AFTER = 3600.0
CONTENT_TYPES: Mapping[Format, str] = {
    Format.JSON: "application/json",
    Format.FORM: "application/x-www-form-urlencoded",
}

_IDENTIFIER = re.compile(r"[!-~]{1,128}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")

Secrets = Mapping[str, Secret]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HttpOperator:
    """An operator, what it knows us by, and our address as it sees it, without a path."""

    description: Description
    secrets: Secrets
    public_url: str

    @classmethod
    def load(cls, path: Path, public_url: str) -> Self:
        """Read a description and the secrets that it names; SettingsError."""
        description = http_description.load(path)
        if description.receipts is not None and not public_url:
            name = description.name
            raise SettingsError(f"SVI_PUBLIC_URL : il faut l'adresse où {name} nous joint")
        secrets = _load_secrets(path.parent / description.secrets, description)
        return cls(description, secrets, public_url)


class HttpJsonProvider:
    """Sends by an operator's API; made by `open_http_json`."""

    route = Route.SMS
    window = None

    def __init__(
        self, operator: HttpOperator, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self._file = operator.description
        self._session = session
        self._clock = clock
        self._receipt_url = _receipt_url(operator)
        self._auth = _auth_headers(operator)

    @property
    def name(self) -> str:
        """The operator's, as the file has it."""
        return self._file.name

    async def send(self, message: Outgoing) -> Report:
        """Hand a message over, once."""
        try:
            answer = await self._hand_over(message)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Report(Result.RETRY, "unreachable")
        except TimeoutError:
            return Report(Result.UNCERTAIN, "timeout")
        except aiohttp.ClientError:
            return Report(Result.UNCERTAIN, "cut")
        result, code = self._file.answer.judge(answer.status, answer.document)
        if result is OUR_FAULT:
            raise ProviderStoppedError(f"{self.name}: {code}")
        if result is Result.ACCEPTED:
            return self._accepted(answer.document)
        wait = self._wait(answer) if result is Result.RETRY else None
        return Report(result, code, retry_after=wait)

    async def look_up(self, message: Outgoing) -> Report | None:
        """Ask the operator for an attempt; None if it can't be asked, or does not know it."""
        asked = self._file.look_up
        if asked is None:
            return None
        attempt_id = str(message.attempt_id)
        try:
            answer = await self._ask("GET", fill(asked.url, {"attempt_id": attempt_id}))
        except (aiohttp.ClientError, TimeoutError):
            return None
        if answer.status != 200:
            log.warning("look_up_refused", provider=self.name, status=answer.status)
            return None
        fate = asked.judge(attempt_id, answer.document)
        if fate is None:
            return None
        result, code = fate
        if result is Result.ACCEPTED:
            identifier = _identifier(answer.document, asked.id)
            return self._taken(identifier) if identifier else None
        return Report(result, code)

    async def _hand_over(self, message: Outgoing) -> "_Answer":
        send = self._file.send
        filled = fill(send.body, self._values(message))
        named = {"attempt_id": str(message.attempt_id)}
        return await self._ask(
            "POST",
            fill(send.url, named),
            _written(filled, send.format),
            {**fill(send.headers, named), "Content-Type": CONTENT_TYPES[send.format]},
        )

    def _values(self, message: Outgoing) -> dict[str, str | int]:
        """Give what a message fills in (http_description.OF_MESSAGE)."""
        seconds = message.life_seconds
        expires_at = (self._clock() + message.life).isoformat(timespec="milliseconds")
        return {
            "to": message.destination,
            "to_digits": message.destination.removeprefix("+"),
            "text": message.text.reveal(),
            "sender": message.sender,
            "attempt_id": str(message.attempt_id),
            "receipt_url": self._receipt_url,
            "validity_seconds": seconds,
            "validity_minutes": max(seconds // 60, 1),
            "validity_ms": seconds * 1000,
            "expires_at": expires_at.replace("+00:00", "Z"),
        }

    async def _ask(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "_Answer":
        """Ask once; an answer that is too long or no JSON has no document."""
        async with self._session.request(
            method,
            url,
            data=body,
            headers={**(headers or {}), **self._auth},
            allow_redirects=False,
        ) as answer:
            text = await _read(answer.content)
        retry_after = answer.headers.get("Retry-After", "")
        return _Answer(answer.status, None if text is None else parse(text), retry_after)

    def _accepted(self, document: object) -> Report:
        pointer = self._file.answer.id
        if pointer is None:
            return Report(Result.ACCEPTED)
        identifier = _identifier(document, pointer)
        return self._taken(identifier) if identifier else Report(Result.UNCERTAIN, "unreadable")

    def _taken(self, identifier: str) -> Report:
        parts = (identifier,) if self._file.by_provider_id else ()
        return Report(Result.ACCEPTED, provider_id=identifier, parts=parts)

    def _wait(self, answer: "_Answer") -> float | None:
        """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); nobody silences us for ever."""
        said = answer.retry_after
        if said.isascii() and said.isdecimal():
            return min(float(said), LONGEST_RETRY_AFTER)
        try:
            seconds = (parsedate_to_datetime(said) - self._clock()).total_seconds()
        except (ValueError, TypeError, OverflowError):  # no date, or one without its zone
            return None
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


@asynccontextmanager
async def open_http_json(operator: HttpOperator, clock: Clock) -> AsyncIterator[HttpJsonProvider]:
    """Give a provider in the running loop and close its connections in the end."""
    seconds = operator.description.send.timeout_seconds
    async with aiohttp.ClientSession(
        # `connect` is for the name, too: while it is looked for, surely nothing was sent.
        timeout=aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS, seconds / 2)),
        # A kept connection that has just been closed would make a send uncertain for nothing.
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # a small answer must not become a large one
        headers={"Accept-Encoding": "identity"},
    ) as session:
        yield HttpJsonProvider(operator, session, clock)


@dataclass(frozen=True)
class HttpReceipt:
    """What an operator says later of a message; `state` is None for one the file does not have.

    Without `attempt_id` it names the message as the operator does.
    """

    provider_id: str
    attempt_id: UUID | None
    state: MessageState | None


class HttpReceipts:
    """Reads receipts that the operator alone can have sent; made by `receipts_of`."""

    def __init__(self, provider: str, file: http_description.Receipts, secrets: Secrets) -> None:
        self.provider = provider
        self.path = f"{RECEIPTS_PATH}/{provider}" + ("/{token}" if file.auth.token else "")
        self.content_type = CONTENT_TYPES[file.format]
        self._file = file
        self._secrets = secrets

    def are_genuine(self, headers: Mapping[str, str], token: str, body: bytes) -> bool:
        """Say whether a request has the mark that the file asks for, exactly that."""
        auth = self._file.auth
        if auth.token is not None:
            return _same(token, self._secrets[auth.token].reveal())
        if auth.hmac is not None:
            signature = _signature(auth.hmac, self._secrets, body)
            return _same(headers.get(auth.hmac.header, ""), signature)
        said = headers.get("Authorization", "")
        return auth.basic is not None and _same(said, _basic(auth.basic, self._secrets))

    def read(self, document: object) -> HttpReceipt:
        """Read a genuine one, of a form as names and values; ValueError if it is none."""
        provider_id = _identifier(document, self._file.provider_id)
        state = text_at(document, self._file.state)
        if provider_id is None or state is None:
            raise ValueError("not a receipt")
        attempt_id = None
        if self._file.attempt_id is not None:
            attempt_id = UUID(text_at(document, self._file.attempt_id) or "")
        return HttpReceipt(provider_id, attempt_id, self._file.states.get(state))


def receipts_of(operator: HttpOperator) -> HttpReceipts | None:
    """Give who reads the operator's receipts; None if it sends none."""
    file = operator.description
    if file.receipts is None:
        return None
    return HttpReceipts(file.name, file.receipts, operator.secrets)


@dataclass(frozen=True)
class _Answer:
    """What was answered; no document if it was no JSON."""

    status: int
    document: object
    retry_after: str


def _load_secrets(path: Path, file: Description) -> Secrets:
    """Read `{"name": "…"}`, with every name that the description has.

    SettingsError if the file is missing, damaged, readable by others, or a secret is none.
    """
    names = file.secret_names
    remedy = f"il faut {', '.join(names)} ; recopiez ceux de {file.name}"
    found = read_account(path, dict.fromkeys(names, _is_secret), remedy)
    texts = dict(zip(names, found, strict=True))
    token = file.receipts.auth.token if file.receipts else None
    if token is not None and not _TOKEN.fullmatch(texts[token]):
        raise SettingsError(f"{path}: {token}: il faut 32 lettres ou chiffres au moins, au hasard")
    return {name: Secret(text) for name, text in texts.items()}


def _is_secret(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


def _auth_headers(operator: HttpOperator) -> dict[str, str]:
    auth, secrets = operator.description.auth, operator.secrets
    if auth.bearer is not None:
        return {"Authorization": f"Bearer {secrets[auth.bearer].reveal()}"}
    if auth.basic is not None:
        return {"Authorization": _basic(auth.basic, secrets)}
    return {header: secrets[name].reveal() for header, name in (auth.headers or {}).items()}


def _basic(basic: Basic, secrets: Secrets) -> str:
    pair = f"{secrets[basic.user].reveal()}:{secrets[basic.password].reveal()}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _receipt_url(operator: HttpOperator) -> str:
    """Give where the operator posts receipts; "" if it sends none."""
    file = operator.description
    if file.receipts is None:
        return ""
    path = f"{operator.public_url.rstrip('/')}{RECEIPTS_PATH}/{file.name}"
    token = file.receipts.auth.token
    return path if token is None else f"{path}/{operator.secrets[token].reveal()}"


def _written(filled: Mapping[str, Any], form: Format) -> bytes:
    if form is Format.JSON:
        return json.dumps(filled, allow_nan=False).encode()
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in filled.items()
    }
    return urlencode(texts).encode()


async def _read(content: aiohttp.StreamReader) -> bytes | None:
    """Read an answer; None if it is too long."""
    body = b""
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            return None
    return body


def _identifier(document: object, pointer: str) -> str | None:
    """Give the operator's name for a message, if it is one that can be kept and shown."""
    if isinstance(at(document, pointer), bool):  # it would be that of every message
        return None
    identifier = text_at(document, pointer)
    return identifier if identifier and _IDENTIFIER.fullmatch(identifier) else None


def _signature(how: Hmac, secrets: Secrets, body: bytes) -> str:
    digest = hmac.digest(secrets[how.secret].reveal().encode(), body, how.algorithm)
    written = digest.hex() if how.encoding is Encoding.HEX else b64encode(digest).decode()
    return how.prefix + written


def _same(said: str, meant: str) -> bool:
    return hmac.compare_digest(said.encode("utf-8", "surrogateescape"), meant.encode())
