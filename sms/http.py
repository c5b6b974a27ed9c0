"""The gateway's HTTP side: how it feels, what it counts; what providers tell it (sms/callbacks.py).

The store is called through the pool, never from the loop. Nothing of a request is logged.
"""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from shared.errors import StoreDownError
from shared.letters.status import overdue
from shared.listener import listening
from shared.store import Store
from sms import callbacks, census, metrics
from sms.callbacks import Callbacks
from sms.lane import Standing
from sms.probe import Probe

LARGEST_BODY = 16 * 1024
HEADER_SECONDS = 75.0  # for a head to end; also idle connections: longer than a proxy keeps one

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Backend:
    """What the handlers stand on; `dispatcher_works` says whether messages go out."""

    store: Store
    pool: Executor
    dispatcher_works: Callable[[], bool]
    callbacks: Callbacks = field(default_factory=Callbacks)


def application(backend: Backend) -> web.Application:
    """Make the public listener's application."""
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_problems])
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _Readiness(backend).answer)
    callbacks.add(app, backend.callbacks, backend.store, backend.pool)
    return app


def metrics_application(
    store: Store, pool: Executor, standings: Callable[[], Sequence[Standing]]
) -> web.Application:
    """Make the application that Prometheus asks.

    It has a listener of its own: Twilio's callbacks come by the public one, and strangers with
    them; the API's asks the database for a key, and the database may be what is away.
    """
    probe = Probe(store, pool, census.take)

    async def scrape(_: web.Request) -> web.Response:
        counted = await probe.answer()
        page = metrics.page(counted, standings())
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application(middlewares=[_problems])
    app.router.add_get("/metrics", scrape)
    return app


def serving(app: web.Application, host: str, port: int) -> AbstractAsyncContextManager[int]:
    """Serve in the running loop as long as the block runs; gives the port (0 asks for any)."""
    return listening(app, host, port, HEADER_SECONDS, _problem)


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
