"""The HTTP edge of the store: who may ask, how much, how fast; then the pool does it.

Nothing of a request is logged or repeated. What strangers send is refused before it is read: the
key is checked first, and a body is read for who has one only.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web

from shared import apikeys
from shared.api import problems
from shared.api.bodies import JSON, B, parse, parse_path, parse_query
from shared.api.operation import Incoming, perform, perform_all
from shared.api.problems import PROBLEM_JSON, Fault, Problem, ProblemError, body_of
from shared.api.routes import IDEMPOTENCY_KEY, Call, Route, decode_token
from shared.apikeys import Holder
from shared.campaigns import Texts
from shared.errors import StoreDownError
from shared.idempotency import Answer
from shared.listener import listening
from shared.resets import RequestLostError
from shared.store import Store
from shared.together import Together

BODY_SECONDS = 5.0
HEADER_SECONDS = 30.0  # for a request to begin and its header to end; also idle connections
MOST_AT_A_TIME = 64  # requests, of all clients
MOST_OF_A_CLIENT = 16

BEARER = re.compile(r"[Bb]earer +(\S+)")
ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Server": "svi",
    "X-Content-Type-Options": "nosniff",
}

Q = TypeVar("Q")
T = TypeVar("T")

log = structlog.get_logger(__name__)


def application(
    store: Store, pool: Executor, routes: Sequence[Route[Any]], texts: Texts
) -> web.Application:
    """Make the application that serves these routes."""
    app = web.Application()
    by_path: defaultdict[str, dict[str, Route[Any]]] = defaultdict(dict)
    for route in routes:
        by_path[route.path][route.method] = route
    edge = _Edge(store, pool, routes, texts)
    for path, methods in by_path.items():
        app.router.add_route("*", path, partial(edge.answer, methods), expect_handler=_expected)
    app.router.add_route("*", "/{path:.*}", partial(edge.answer, {}), expect_handler=_expected)
    return app


def serving(app: web.Application, host: str, port: int) -> AbstractAsyncContextManager[int]:
    """Serve in the running loop as long as the block runs; gives the port (0 asks for any)."""
    return listening(app, host, port, HEADER_SECONDS, lambda status: _problem(Problem(status)))


@dataclass
class _InFlight:
    """Counts the requests under way, of all and of each client."""

    total: int = 0
    of_client: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a request whose client is not known yet; ProblemError if there are too many."""
        if self.total >= MOST_AT_A_TIME:
            raise ProblemError(problems.DOWN)
        self.total += 1
        try:
            yield
        finally:
            self.total -= 1

    @contextmanager
    def one_of(self, client: str) -> Iterator[None]:
        """Count a client's request; ProblemError if it has too many."""
        if self.of_client[client] >= MOST_OF_A_CLIENT:
            raise ProblemError(problems.TOO_MANY)
        self.of_client[client] += 1
        try:
            yield
        finally:
            self.of_client[client] -= 1


class _Edge:
    """Checks a request and has the pool do it."""

    def __init__(
        self, store: Store, pool: Executor, routes: Sequence[Route[Any]], texts: Texts
    ) -> None:
        self._store = store
        self._pool = pool
        self._texts = texts
        self._in_flight = _InFlight()
        self._holders = self._together(partial(apikeys.holders, store))
        self._drafts = {
            route.path: self._together(partial(perform_all, route.draft))
            for route in routes
            if route.draft is not None
        }

    async def answer(
        self, methods: Mapping[str, Route[Any]], request: web.Request
    ) -> web.StreamResponse:
        """Answer one request to a path that has these methods."""
        try:
            with self._in_flight.one():
                return await self._perform(methods, request)
        except ProblemError as error:
            response = _problem(error.problem, error.faults)
            if error.problem is problems.METHOD_NOT_ALLOWED:
                response.headers["Allow"] = ", ".join(sorted(methods))
            return response
        except (StoreDownError, RequestLostError):
            return _problem(problems.DOWN)
        except Exception:  # a fault of ours is a 500 that says nothing of anybody
            log.exception("api_request_failed")
            return _problem(problems.FAULT)

    async def _perform(
        self, methods: Mapping[str, Route[Any]], request: web.Request
    ) -> web.StreamResponse:
        if not methods:
            raise ProblemError(problems.NOT_FOUND)
        route = methods.get(request.method)
        if route is None:
            raise ProblemError(problems.METHOD_NOT_ALLOWED)
        holder = await self._holder(route, request)
        with self._in_flight.one_of(holder.client):
            incoming = await self._incoming(route, holder, request)
            answer = await self._answer(route, incoming)
        asked = f"{route.method} {route.path}"
        log.info("api_answered", client=holder.client, asked=asked, status=answer.status)
        return _response(answer)

    async def _answer(self, route: Route[Any], incoming: Incoming) -> Answer:
        """Have a request done; where the route allows it beside others that come at once."""
        if route.draft is not None:
            answer = await self._drafts[route.path].ask(incoming)
            if answer is not None:
                return answer
        return await self._in_pool(partial(perform, route, incoming))

    async def _holder(self, route: Route[Any], request: web.Request) -> Holder:
        """Say whose key this is, if one is needed; ProblemError if it does not open the route."""
        if route.scope is None:
            return Holder("", frozenset())
        header = BEARER.fullmatch(_only(request, "Authorization"))
        key = header[1] if header else ""
        holder = await self._holders.ask(key)
        if holder is None:
            raise ProblemError(problems.KEY_REFUSED)
        if route.scope not in holder.scopes:
            raise ProblemError(problems.SCOPE_LACKING)
        return holder

    async def _incoming(self, route: Route[Any], holder: Holder, request: web.Request) -> Incoming:
        """Read the headers, then the body."""
        token = decode_token(_only(request, "X-Session")) if route.in_session else b""
        if token is None:
            raise ProblemError(problems.SESSION_OVER)
        key = _only(request, "Idempotency-Key") if route.changes else ""
        if route.changes and IDEMPOTENCY_KEY.fullmatch(key) is None:
            raise ProblemError(problems.IDEMPOTENCY_KEY_MISSING)
        if request.query_string and not route.in_query:
            raise ProblemError(problems.NO_BODY_EXPECTED)
        body = await _body(route, request)
        return Incoming(
            Call(self._store, self._texts, holder.client, holder.scopes, token),
            _parsed(route, request, body),
            key,
            "\x1f".join([request.method, request.path, token.hex(), body.decode()]),
        )

    def _together(self, work: Callable[[Sequence[Q]], Sequence[T]]) -> Together[Q, T]:
        """Have the pool do what comes at once in one go."""

        async def do(asked: Sequence[Q]) -> Sequence[T]:
            return await self._in_pool(partial(work, asked))

        return Together(do, MOST_AT_A_TIME)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _only(request: web.Request, header: str) -> str:
    """Give the header's value; empty if there is none, or several to choose from."""
    values = request.headers.getall(header, [])
    return values[0] if len(values) == 1 else ""


def _parsed(route: Route[B], request: web.Request, body: bytes) -> B:
    """Read what is asked for, wherever the route has it; ProblemError."""
    if route.in_query:
        return parse_query(route.request, list(request.query.items()))
    if route.in_path:
        return parse_path(route.request, request.match_info)
    return parse(route.request, body) if route.has_body else route.request()


async def _body(route: Route[Any], request: web.Request) -> bytes:
    """Read the body of a request, within the limits of its size, its kind and its time."""
    if not route.has_body:
        if request.can_read_body:
            raise ProblemError(problems.NO_BODY_EXPECTED)
        return b""
    if (
        request.content_type != JSON
        or (request.charset or "utf-8").lower() != "utf-8"
        or "Content-Encoding" in request.headers
    ):
        raise ProblemError(problems.WRONG_TYPE)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request, route.largest_body)
    except TimeoutError:
        raise ProblemError(problems.TOO_SLOW) from None
    except (web.RequestPayloadError, ConnectionError):
        raise ProblemError(problems.MALFORMED) from None


async def _read(request: web.Request, largest: int) -> bytes:
    body = bytearray()
    if (request.content_length or 0) > largest:
        raise ProblemError(problems.TOO_LARGE)
    while part := await request.content.readany():
        body += part
        if len(body) > largest:
            raise ProblemError(problems.TOO_LARGE)
    return bytes(body)


async def _expected(request: web.Request) -> web.StreamResponse | None:
    """Answer an Expect header: the body may come, or we don't know what is expected."""
    if request.headers["Expect"].lower() != "100-continue":
        return _problem(problems.EXPECTATION_FAILED)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # else aiohttp takes the answer for begun
    return None


def _problem(problem: Problem, faults: Sequence[Fault] = ()) -> web.Response:
    response = _response(Answer(problem.status, body_of(problem, faults)))
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def _response(answer: Answer) -> web.Response:
    failed = answer.status >= HTTPStatus.BAD_REQUEST
    response = web.Response(status=answer.status, body=answer.body or None, headers=ALWAYS)
    if answer.body:
        response.content_type = PROBLEM_JSON if failed else JSON
    if answer.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
