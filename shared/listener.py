"""How an HTTP listener takes connections: only so many, and what is no HTTP gets nothing back.

Whoever opens more takes nothing from the others: files, the database and providers need
descriptors too.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import cast

from aiohttp import web

LINGER_SECONDS = 1.0  # for the rest of a body that nobody wants
STOP_SECONDS = 3.0
MOST_CONNECTIONS = 500  # of a listener; a file each

Problem = Callable[[HTTPStatus], web.Response]

_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.disabled = True  # aiohttp would log what strangers send us


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, header_seconds: float, problem: Problem
) -> AsyncIterator[int]:
    """Serve in the running loop as long as the block runs; gives the port (0 asks for any).

    A head has to end within its seconds, and the next request to begin; `problem` answers what is
    no HTTP.
    """
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        connections = _connections(runner, header_seconds, problem)
        server = await asyncio.get_running_loop().create_server(connections, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _connections(
    runner: web.AppRunner, header_seconds: float, problem: Problem
) -> Callable[[], asyncio.Protocol]:
    server = cast(web.Server, runner.server)  # made by `setup`

    class Connection(web.RequestHandler):
        """A connection that answers what is no HTTP with a problem too."""

        __slots__ = ()

        def handle_error(
            self,
            request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
            status: int = 500,
            exc: BaseException | None = None,  # noqa: ARG002
            message: str | None = None,  # noqa: ARG002
        ) -> web.StreamResponse:
            """Answer in place of aiohttp, which would quote the request."""
            theirs = status < HTTPStatus.INTERNAL_SERVER_ERROR
            response = problem(
                HTTPStatus.BAD_REQUEST if theirs else HTTPStatus.INTERNAL_SERVER_ERROR
            )
            response.force_close()
            return response

    def connect() -> asyncio.Protocol:
        if len(server.connections) >= MOST_CONNECTIONS:
            return _Refused()
        return Connection(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=header_seconds,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=_silent,
            logger=_silent,
        )

    return connect


class _Refused(asyncio.Protocol):
    """One connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
