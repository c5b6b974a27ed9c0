"""The gateway's HTTP side: how it feels, what it counts, what Twilio says of messages it took.

The store is called through the pool, never from the loop. Nothing of a request is logged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from shared import outbox
from shared.errors import StoreDownError
from shared.inbound import Word
from shared.letters.status import overdue
from shared.models import MessageState
from shared.store import Store
from sms import census, metrics
from sms.inbound import Inbox
from sms.keeper import Keeper
from sms.probe import Probe
from sms.providers.twilio import INBOUND_PATH, STATUS_PATH, TwilioMessages, TwilioReceipts

LARGEST_BODY = 16 * 1024
MOST_FIELDS = 100
BODY_SECONDS = 5.0
HEADER_SECONDS = 75.0  # for a head to end; also idle connections: longer than a proxy keeps one
STOP_SECONDS = 3.0
FORM = "application/x-www-form-urlencoded"
NO_REPLY = '<?xml version="1.0" encoding="UTF-8"?><Response/>'  # TwiML: ours goes by the outbox

log = structlog.get_logger(__name__)

_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.disabled = True  # aiohttp would log what strangers send us

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class TwilioCallbacks:
    """What reads Twilio's requests, and who deals with people's messages."""

    receipts: TwilioReceipts
    messages: TwilioMessages
    inbox: Inbox


@dataclass(frozen=True)
class Backend:
    """What the handlers stand on; `dispatcher_works` says whether messages go out."""

    store: Store
    pool: Executor
    dispatcher_works: Callable[[], bool]
    twilio: TwilioCallbacks | None = None


def application(backend: Backend) -> web.Application:
    """Make the application; Twilio's callback is there only if its receipts can be checked."""
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_problems])
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _Readiness(backend).answer)
    if backend.twilio is not None:
        _add_twilio(app, backend, backend.twilio)
    return app


def _add_twilio(app: web.Application, backend: Backend, twilio: TwilioCallbacks) -> None:
    receipts: Keeper[_Receipt, bool] = Keeper(
        partial(_keep_receipt, backend), "receipt_lost", lambda one: str(one.attempt_id)
    )
    words: Keeper[Word, None] = Keeper(twilio.inbox.keep, "inbound_lost", lambda one: one.keyword)
    for keeper in (receipts, words):
        app.cleanup_ctx.append(keeper.retrying)
    status = _TwilioStatus(twilio.receipts, receipts)
    app.router.add_post(STATUS_PATH + "/{attempt_id}", status.answer)
    inbound = _TwilioInbound(twilio, words)
    app.router.add_post(INBOUND_PATH, inbound.answer)


def metrics_application(
    store: Store, pool: Executor, working: Mapping[str, Callable[[], bool]]
) -> web.Application:
    """Make the application that Prometheus asks; `working` has the dispatcher of each provider.

    It has a listener of its own: Twilio's callbacks come by the public one, and strangers with
    them; the API's asks the database for a key, and the database may be what is away.
    """
    probe = Probe(store, pool, census.take)

    async def scrape(_: web.Request) -> web.Response:
        counted = await probe.answer()
        page = metrics.page(counted, {provider: works() for provider, works in working.items()})
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application(middlewares=[_problems])
    app.router.add_get("/metrics", scrape)
    return app


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve in the running loop as long as the block runs; gives the port (0 asks for any)."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_silent,
        handle_signals=False,
        keepalive_timeout=HEADER_SECONDS,
        shutdown_timeout=STOP_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _alive(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


class _Readiness:
    """Says whether messages go out and receipts can be kept; and how many letters are late (R25).

    Those need a person, not another gateway: it is ready all the same.
    """

    def __init__(self, backend: Backend) -> None:
        self._dispatcher_works = backend.dispatcher_works
        self._late_letters = Probe(backend.store, backend.pool, overdue)

    async def answer(self, _: web.Request) -> web.Response:
        late = await self._late_letters.answer()
        parts = {"database": late is not None, "dispatcher": self._dispatcher_works()}
        status = HTTPStatus.OK if all(parts.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response(parts | {"letters_overdue": late}, status=status)


@dataclass(frozen=True)
class _Receipt:
    attempt_id: UUID
    provider_id: str
    state: MessageState


async def _keep_receipt(backend: Backend, receipt: _Receipt) -> bool:
    """Keep a receipt, False if there is no such attempt; StoreDownError."""
    kept = await asyncio.get_running_loop().run_in_executor(
        backend.pool,
        outbox.receipt,
        backend.store,
        receipt.attempt_id,
        receipt.provider_id,
        receipt.state,
    )
    if kept is None:
        return False
    metrics.received(kept.provider, receipt.state, kept.after)
    log.info("receipt_kept", attempt=str(receipt.attempt_id), state=receipt.state)
    return True


class _TwilioStatus:
    """Takes Twilio's status callbacks. They repeat and overtake one another: 204 for each."""

    def __init__(self, receipts: TwilioReceipts, keeper: Keeper[_Receipt, bool]) -> None:
        self._receipts = receipts
        self._keeper = keeper

    async def answer(self, request: web.Request) -> web.Response:
        attempt_id = _uuid(request.match_info["attempt_id"])
        form = await _form(request)
        signature = request.headers.get("X-Twilio-Signature", "")
        try:
            receipt = self._receipts.read(str(attempt_id), form, signature)
        except ValueError:
            raise web.HTTPBadRequest from None
        if receipt is None:
            log.warning("receipt_refused", attempt=str(attempt_id))
            raise web.HTTPForbidden
        if receipt.state is None:
            log.warning("receipt_status_unknown", attempt=str(attempt_id))
        elif not await self._keeper.keep(_Receipt(attempt_id, receipt.provider_id, receipt.state)):
            raise web.HTTPNotFound
        return web.Response(status=HTTPStatus.NO_CONTENT)


class _TwilioInbound:
    """Takes what people write to numbers of ours, as Twilio tells it; the reply goes by itself."""

    def __init__(self, twilio: TwilioCallbacks, keeper: Keeper[Word, None]) -> None:
        self._messages = twilio.messages
        self._inbox = twilio.inbox
        self._keeper = keeper

    async def answer(self, request: web.Request) -> web.Response:
        form = await _form(request)
        signature = request.headers.get("X-Twilio-Signature", "")
        try:
            received = self._messages.read(form, signature)
        except ValueError:
            raise web.HTTPBadRequest from None
        if received is None:
            log.warning("inbound_refused")
            raise web.HTTPForbidden
        word = self._inbox.read(received)
        if word is not None:
            await self._keeper.keep(word)
        return web.Response(text=NO_REPLY, content_type="text/xml")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise web.HTTPNotFound from None


async def _form(request: web.Request) -> Sequence[tuple[str, str]]:
    """Read the fields of a form, as they were sent."""
    if request.content_type != FORM:
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
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


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what goes wrong as a problem (RFC 9457) that repeats nothing of the request."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status))
    except StoreDownError:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE)
    except Exception:  # a fault of ours is a 500 that says nothing of anybody
        log.exception("request_failed")
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR)


def _problem(status: HTTPStatus) -> web.Response:
    return web.json_response(
        {"type": "about:blank", "title": status.phrase, "status": status.value},
        status=status,
        content_type="application/problem+json",
    )
