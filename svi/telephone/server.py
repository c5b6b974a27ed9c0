"""The telephone's HTTP server: a few files, who may be called and who one may be, and events.

It is for this machine's browsers. What another site has them ask is refused by its Host (an
address that was rebound to this machine) or its Origin; nothing here changes anything.
"""

import asyncio
import csv
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from aiohttp import web

from ivr.asterisk import LOOPBACK, Addition
from ivr.dialogue import Trace
from ivr.script import Line
from shared.secret import Secret
from sms.http import serving
from sms.provider import Outgoing
from svi import demo
from svi.telephone.pages import PAGE, Event, Pages, page_of

HERE = Path(__file__).parent
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/telephone.js": ("telephone.js", "text/javascript"),
    "/jssip.js": ("jssip.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "svi",
    "X-Content-Type-Options": "nosniff",
}
ALIVE_SECONDS = 10.0  # between signs of life, by which a page that left is noticed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Telephone:
    """The server in a thread of its own, as long as the block runs; any thread may tell it things.

    ClickException if the port is taken; 0 asks for any. `sip_port` is where Asterisk is to listen
    for what pages dial.
    """

    def __init__(self, port: int, sip_port: int, lines: Mapping[str, Line]) -> None:
        self._port = port
        self._sip_port = sip_port
        self._lines = lines
        self._secret = Secret(secrets.token_hex(16))
        self._run = secrets.token_hex(8)  # by which pages notice a restart
        self._pages = Pages()

    @property
    def asterisk_files(self) -> Addition:
        """Give what Asterisk needs to be called by pages, and by nobody else."""
        return Addition(
            HERE / "asterisk",
            {
                "TELEPHONE_PORT": str(self._sip_port),
                "TELEPHONE_SECRET": self._secret.reveal(),
            },
        )

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve pages; gives their address."""
        started: Future[int] = Future()
        thread = threading.Thread(target=self._serve, args=[started], name="telephone")
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{_port(started, self._port)}"
        finally:
            if started.exception() is None:
                self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    def trace(self, environment: Mapping[str, str]) -> Trace | None:
        """Give who is told what a call says, if a page calls."""
        page = page_of(environment)
        return _CallTrace(self, page) if page else None

    def tell(self, page: str, kind: str, text: str) -> None:
        """Tell a page something of its call."""
        self._loop.call_soon_threadsafe(self._pages.tell, page, kind, text)

    def show(self, message: Outgoing) -> None:
        """Show all pages an SMS."""
        data = {"to": message.destination, "from": message.sender, "text": message.text.reveal()}
        self._loop.call_soon_threadsafe(self._pages.tell_all, "sms", data)

    def _serve(self, started: "Future[int]") -> None:
        try:
            asyncio.run(self._serve_until_stopped(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve_until_stopped(self, started: "Future[int]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._application(), LOOPBACK, self._port) as port:
            started.set_result(port)
            await self._stopping.wait()
            self._pages.close()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_for_our_pages])
        app.on_response_prepare.append(self._add_headers)
        for path, (name, kind) in FILES.items():
            app.router.add_get(path, _file(HERE / name, kind))
        app.router.add_get("/demonstration.json", self._demonstration)
        app.router.add_get(f"/events/{{page:{PAGE}}}", self._events)
        return app

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS | {"Content-Security-Policy": self._policy})

    @property
    def _sip_address(self) -> str:
        return f"ws://{LOOPBACK}:{self._sip_port}"

    @property
    def _policy(self) -> str:
        """Allow the page its own files and Asterisk; nothing inline, nothing from elsewhere."""
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
            f" connect-src 'self' {self._sip_address}; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        )

    async def _demonstration(self, _: web.Request) -> web.Response:
        secret = self._secret.reveal()
        sip = {"server": f"{self._sip_address}/{secret}/ws", "password": secret}
        lines = [{"number": n, "caisse": line.caisse or ""} for n, line in self._lines.items()]
        return web.json_response({"sip": sip, "lines": lines, "dossiers": _dossiers()})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        seen = re.fullmatch("[0-9]{1,9}", request.headers.get("Last-Event-ID", ""))
        rank = int(seen[0]) if seen else 0
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        with self._pages.listening(request.match_info["page"], rank) as queue:
            await response.prepare(request)
            told: bytes | None = f"event: run\ndata: {self._run}\n\n".encode()
            while told is not None:
                await response.write(told)
                told = await _next(queue)
        return response


async def _next(queue: "asyncio.Queue[Event | None]") -> bytes | None:
    """Give what a page is told next, a sign of life if there is nothing, or None at the end."""
    try:
        event = await asyncio.wait_for(queue.get(), ALIVE_SECONDS)
    except TimeoutError:
        return b":\n\n"
    return None if event is None else event.encode()


class _CallTrace:
    """Tells a page about its call."""

    def __init__(self, telephone: Telephone, page: str) -> None:
        self._telephone = telephone
        self._page = page

    def said(self, text: str) -> None:
        self._telephone.tell(self._page, "said", text)

    def keyed(self, keys: str) -> None:
        # A field's digits hold no `*`: more than one of them is a secret.
        self._telephone.tell(self._page, "keyed", keys.replace("*", "•") if keys[1:] else keys)

    def ended(self, outcome: str) -> None:
        self._telephone.tell(self._page, "ended", outcome)


@web.middleware
async def _for_our_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site has a browser of this machine ask."""
    assert request.transport is not None  # noqa: S101  # it has just brought the request
    port = request.transport.get_extra_info("sockname")[1]
    if request.host not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
        raise web.HTTPMisdirectedRequest
    if request.headers.get("Origin", own := f"http://{request.host}") != own:
        raise web.HTTPForbidden
    return await handler(request)


def _file(path: Path, kind: str) -> Handler:
    body = path.read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return serve


def _port(started: "Future[int]", port: int) -> int:
    try:
        return started.result()
    except OSError as error:
        why = error.strerror or error
        raise click.ClickException(
            f"port TCP {port} de {LOOPBACK} : {why} ; donnez un autre SVI_TELEPHONE_PORT"
        ) from None


def _dossiers() -> list[dict[str, str]]:
    """Give who one may be: what to type, and the mobile that SMS go to."""
    with demo.CLAIMANTS.open(encoding="utf-8", newline="") as file:
        people = {
            (row["caisse"], row["numero"]): row
            for row in csv.DictReader(file, delimiter=";")
            if row["role"] == "allocataire"
        }
    return [
        {
            "department": dossier.department,
            "number": dossier.number,
            "password": dossier.password,
            "name": f"{person['prenoms']} {person['nom']}".title(),
            "mobile": person["mobile"],
        }
        for dossier in demo.DOSSIERS
        for person in [people[dossier.caisse, dossier.number]]
    ]
