"""What providers tell on the public listener: receipts, and what people write to our numbers.

Strangers reach it too: nothing is believed that is not signed, and nothing of a request is logged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from aiohttp import web

from shared import outbox
from shared.inbound import Word
from shared.models import MessageState
from shared.outbox import Kept
from shared.store import Store
from sms import metrics
from sms.inbound import Inbox
from sms.json_answers import parse
from sms.keeper import Keeper
from sms.providers.http_json import HttpReceipts
from sms.providers.twilio import (
    INBOUND_PATH,
    STATUS_PATH,
    TwilioMessages,
    TwilioProvider,
    TwilioReceipts,
)

MOST_FIELDS = 100
BODY_SECONDS = 5.0
FORM = "application/x-www-form-urlencoded"
NO_REPLY = '<?xml version="1.0" encoding="UTF-8"?><Response/>'  # TwiML: ours goes by the outbox

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TwilioCallbacks:
    """What reads Twilio's requests, and who deals with people's messages."""

    receipts: TwilioReceipts
    messages: TwilioMessages
    inbox: Inbox


@dataclass(frozen=True)
class Callbacks:
    """Who may tell us something: only those whose requests can be checked."""

    twilio: TwilioCallbacks | None = None
    operators: Sequence[HttpReceipts] = ()


def add(app: web.Application, callbacks: Callbacks, store: Store, pool: Executor) -> None:
    """Add the addresses that these providers call; the store is asked through the pool."""
    receipts: Keeper[_Receipt, bool] = Keeper(
        partial(_keep, store, pool), "receipt_lost", lambda receipt: receipt.name
    )
    app.cleanup_ctx.append(receipts.retrying)
    for operator in callbacks.operators:
        app.router.add_post(operator.path, _OperatorStatus(operator, receipts).answer)
    twilio = callbacks.twilio
    if twilio is not None:
        words: Keeper[Word, None] = Keeper(
            twilio.inbox.keep, "inbound_lost", lambda word: word.keyword
        )
        app.cleanup_ctx.append(words.retrying)
        status = _TwilioStatus(twilio.receipts, receipts)
        app.router.add_post(STATUS_PATH + "/{attempt_id}", status.answer)
        app.router.add_post(INBOUND_PATH, _TwilioInbound(twilio, words).answer)


@dataclass(frozen=True)
class _Receipt:
    """What a provider says of a message; without an attempt's id it names it in its own way."""

    provider: str
    attempt_id: UUID | None
    provider_id: str
    state: MessageState

    @property
    def name(self) -> str:
        """Say what our logs may name it by."""
        return str(self.attempt_id or self.provider_id)

    def keep(self, store: Store) -> Kept | None:
        """Keep it; None if there is no such attempt, or none so far."""
        if self.attempt_id is None:
            return outbox.part_receipt(store, self.provider, self.provider_id, self.state)
        return outbox.receipt(store, self.attempt_id, self.provider_id, self.state)


async def _keep(store: Store, pool: Executor, receipt: _Receipt) -> bool:
    """Keep a receipt, False if there is no such attempt; StoreDownError."""
    kept = await asyncio.get_running_loop().run_in_executor(pool, receipt.keep, store)
    if kept is None and receipt.attempt_id is not None:
        return False
    metrics.received(receipt.provider, receipt.state, kept.after if kept else None)
    event = "receipt_kept" if kept else "receipt_early"
    log.info(event, provider=receipt.provider, which=receipt.name, state=receipt.state)
    return True


class _TwilioStatus:
    """Takes Twilio's status callbacks. They repeat and overtake one another: 204 for each."""

    def __init__(self, receipts: TwilioReceipts, keeper: Keeper[_Receipt, bool]) -> None:
        self._receipts = receipts
        self._keeper = keeper

    async def answer(self, request: web.Request) -> web.Response:
        attempt_id = _uuid(request.match_info["attempt_id"])
        form = _fields(await _body(request, FORM))
        signature = request.headers.get("X-Twilio-Signature", "")
        try:
            receipt = self._receipts.read(str(attempt_id), form, signature)
        except ValueError:
            raise web.HTTPBadRequest from None
        if receipt is None:
            log.warning("receipt_refused", provider=TwilioProvider.name)
            raise web.HTTPForbidden
        if receipt.state is None:
            log.warning("receipt_status_unknown", provider=TwilioProvider.name)
        elif not await self._keeper.keep(
            _Receipt(TwilioProvider.name, attempt_id, receipt.provider_id, receipt.state)
        ):
            raise web.HTTPNotFound
        return web.Response(status=HTTPStatus.NO_CONTENT)


class _TwilioInbound:
    """Takes what people write to numbers of ours, as Twilio tells it; the reply goes by itself."""

    def __init__(self, twilio: TwilioCallbacks, keeper: Keeper[Word, None]) -> None:
        self._messages = twilio.messages
        self._inbox = twilio.inbox
        self._keeper = keeper

    async def answer(self, request: web.Request) -> web.Response:
        form = _fields(await _body(request, FORM))
        signature = request.headers.get("X-Twilio-Signature", "")
        try:
            received = self._messages.read(form, signature)
        except ValueError:
            raise web.HTTPBadRequest from None
        if received is None:
            log.warning("inbound_refused", provider=TwilioProvider.name)
            raise web.HTTPForbidden
        word = self._inbox.read(received)
        if word is not None:
            await self._keeper.keep(word)
        return web.Response(text=NO_REPLY, content_type="text/xml")


class _OperatorStatus:
    """Takes the receipts of an operator that a file describes: 200, since some want just that."""

    def __init__(self, receipts: HttpReceipts, keeper: Keeper[_Receipt, bool]) -> None:
        self._receipts = receipts
        self._keeper = keeper

    async def answer(self, request: web.Request) -> web.Response:
        provider = self._receipts.provider
        body = await _body(request, self._receipts.content_type)
        token = request.match_info.get("token", "")
        if not self._receipts.are_genuine(request.headers, token, body):
            log.warning("receipt_refused", provider=provider)
            raise web.HTTPForbidden
        try:
            is_form = self._receipts.content_type == FORM
            receipt = self._receipts.read(_once_each(_fields(body)) if is_form else parse(body))
        except ValueError:
            raise web.HTTPBadRequest from None
        if receipt.state is None:
            log.warning("receipt_status_unknown", provider=provider)
        elif not await self._keeper.keep(
            _Receipt(provider, receipt.attempt_id, receipt.provider_id, receipt.state)
        ):
            raise web.HTTPNotFound
        return web.Response(status=HTTPStatus.OK)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise web.HTTPNotFound from None


async def _body(request: web.Request, content_type: str) -> bytes:
    """Read a body that is of the type it has to be of."""
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _fields(body: bytes) -> Sequence[tuple[str, str]]:
    """Read the fields of a form, as they were sent."""
    try:
        return parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise web.HTTPBadRequest from None


def _once_each(form: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Give the fields by name; ValueError for one that is there twice."""
    fields = dict(form)
    if len(fields) < len(form):
        raise ValueError("a field is there twice")
    return fields
