"""pystrix's FastAGI server, a thread for each call."""

from typing import Any

import click
from pystrix.agi.core import SetVariable
from pystrix.agi.fastagi import FastAGIServer

from bench.figures import SERVER_CORE, pin
from bench.servers import BACKLOG, NAME, VALUE


class Server(FastAGIServer):  # type: ignore[misc]  # pystrix has no types
    """Listens as our own server does; pystrix would ask a program that may be missing."""

    @staticmethod
    def get_somaxconn() -> int:
        """Give the backlog."""
        return BACKLOG


def main() -> None:
    """Serve until killed."""
    server = Server(port=0)
    server.register_script_handler(None, _busy)
    click.echo(server.server_address[1])
    server.serve_forever()


def _busy(agi: Any, *_: object) -> None:
    while True:
        agi.execute(SetVariable(NAME, VALUE))


if __name__ == "__main__":
    pin(SERVER_CORE)
    main()
