"""panoramisk's FastAGI server, on asyncio's own loop."""

import asyncio

import click
from panoramisk.fast_agi import Application, Request

from bench.figures import SERVER_CORE, pin
from bench.servers import BACKLOG, NAME, VALUE


async def serve() -> None:
    """Serve until killed."""
    application = Application()
    application.add_route("bench", _busy)
    server = await asyncio.start_server(application.handler, "127.0.0.1", 0, backlog=BACKLOG)
    click.echo(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _busy(request: Request) -> None:
    while True:
        await request.send_command(f'SET VARIABLE "{NAME}" "{VALUE}"')


if __name__ == "__main__":
    pin(SERVER_CORE)
    asyncio.run(serve())
