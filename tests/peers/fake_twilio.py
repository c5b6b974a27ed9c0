"""Twilio's Messages resource on loopback, that keeps what it takes and fails as it is told.

That its answers are Twilio's is not for us to say: Prism judges them by Twilio's own contract
(test_twilio_contract.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

ACCOUNT_SID = "AC" + "0" * 31 + "1"
TOKEN = "0123456789abcdef0123456789abcdef"
PATH = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"

Temper = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeTwilio:
    """What it was asked and what it has taken; `temper` answers in place of taking a message."""

    url: str = ""
    asked: list[Mapping[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    temper: Temper | None = None
    now: datetime | None = None  # None: as it is

    async def create(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        self.headers.append(dict(request.headers))
        if self.temper is not None:
            return await self.temper(request)
        return web.json_response(self.take(form), status=201)

    async def list_messages(self, request: web.Request) -> web.StreamResponse:
        if self.temper is not None:
            return await self.temper(request)
        found = self.listed(request.query["To"])
        size = int(request.query.get("PageSize", "50"))
        page = {"messages": found[:size], "page": 0, "page_size": size, "start": 0}
        return web.json_response(
            {**page, "next_page_uri": None, "uri": "https://api.twilio.com" + PATH}
        )

    def listed(self, to: str) -> list[dict[str, Any]]:
        """Give the messages to a telephone, newest first."""
        return [one for one in reversed(self.taken) if one["to"] == to]

    def takes(self, times: int, then: Temper) -> Temper:
        """Accept the next message, that many times over, and treat its sender otherwise."""

        async def answer(request: web.Request) -> web.StreamResponse:
            form = {name: str(value) for name, value in (await request.post()).items()}
            for _ in range(times):
                self.take(form)
            self.temper = None
            return await then(request)

        return answer

    def take(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Accept a message; give its resource."""
        sid, when = f"SM{uuid4().hex}", format_datetime(self.now or datetime.now(UTC))
        resource = {
            "account_sid": ACCOUNT_SID,
            "api_version": "2010-04-01",
            "body": form["Body"],
            "date_created": when,
            "date_sent": None,
            "date_updated": when,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form["From"],
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": "USD",
            "sid": sid,
            "status": "queued",
            "subresource_uris": {"media": PATH.replace(".json", f"/{sid}/Media.json")},
            "to": form["To"],
            "uri": PATH.replace(".json", f"/{sid}.json"),
        }
        self.taken.append(resource)
        return resource


@asynccontextmanager
async def fake_twilio(port: int = 0, fake: FakeTwilio | None = None) -> AsyncIterator[FakeTwilio]:
    """Run one beside the block."""
    fake = fake or FakeTwilio()
    app = web.Application()
    app.router.add_post(PATH, fake.create)
    app.router.add_get(PATH, fake.list_messages)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def error(status: int, code: int, retry_after: str | None = None) -> Temper:
    """Answer as Twilio does when it takes nothing."""
    body = {
        "code": code,
        "message": "The 'To' number +33612345678 is not valid.",
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": retry_after} if retry_after else None
        return web.json_response(body, status=status, headers=headers)

    return answer


def says(text: str, status: int = 201) -> Temper:
    """Answer with a text of whatever kind."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type="application/json")

    return answer


async def hangs(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cuts(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of the answer."""
    answer = web.StreamResponse(status=201, headers={"Content-Length": "800"})
    await answer.prepare(request)
    await answer.write(b'{"sid": "SM')
    assert request.transport is not None
    request.transport.abort()
    return answer
