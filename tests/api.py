"""The HTTP API in a thread of its own, and what asks it things no honest client would."""

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from shared import apikeys
from shared.api.http import application, serving
from shared.api.table import ROUTES
from shared.apikeys import Holder, Scope
from shared.secret import Secret
from shared.store import Store
from sms.campaign_texts import CampaignTexts
from tests.store import CAISSE, NUMBER, PASSWORD

LONG = 60.0  # seconds of a wait that is not meant to pass
KEY_LIFE = timedelta(days=30)
LOGIN = {
    "caisse": CAISSE,
    "number": NUMBER,
    "channel": "web",
    "client": "203.0.113.7",
    "password": PASSWORD,
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def problem(self) -> str:
        """Give the last word of a problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        return str(self.json["type"]).rpartition(":")[2]


@dataclass(frozen=True)
class Api:
    """A running API, and one of its keys with every scope."""

    url: str
    key: Secret

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: Secret | None = None,
        idempotency: str | None = None,
        session: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Reply:
        """Ask with what is given; a body that is neither text nor bytes is sent as JSON."""
        sent = body if isinstance(body, str | bytes | None) else json.dumps(body)
        named = {
            "Authorization": f"Bearer {(key or self.key).reveal()}",
            "Idempotency-Key": idempotency,
            "X-Session": session,
            "Content-Type": None if body is None else "application/json",
        }
        replaced = {name for name, _ in headers}
        given = [(n, v) for n, v in named.items() if v is not None and n not in replaced]
        with closing(HTTPConnection(urlsplit(self.url).netloc, timeout=LONG)) as connection:
            connection.putrequest(method, path)
            for name, value in [*given, *headers]:
                connection.putheader(name, value)
            if sent is not None:
                connection.putheader("Content-Length", str(len(sent)))
            connection.endheaders(sent.encode() if isinstance(sent, str) else sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())


def holder(store: Store, key: str) -> Holder | None:
    """Say who holds a key."""
    [found] = apikeys.holders(store, [key])
    return found


def new_key(store: Store, client: str = "site-web", *scopes: Scope) -> Secret:
    return apikeys.add(store, client, scopes or [*Scope], KEY_LIFE)


@contextmanager
def running(store: Store) -> Iterator[Api]:
    """Serve the store as long as the block runs."""
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        with ThreadPoolExecutor(8) as pool:
            app = application(store, pool, ROUTES, CampaignTexts.load())
            async with serving(app, "127.0.0.1", 0) as port:
                started.set_result((port, asyncio.get_running_loop(), stop))
                await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()], name="api")
    thread.start()
    port, loop, stop = started.result(LONG)
    try:
        yield Api(f"http://127.0.0.1:{port}", new_key(store))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
