"""Operators that files describe, played on loopback: they keep what they are asked.

What the files in `operator_files/` say of real ones is from their public documentation.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from shared.secret import Secret
from sms import http_description
from sms.providers.http_json import HttpJsonProvider, HttpOperator, open_http_json
from tests.store import FakeClock

FOLDER = Path(__file__).with_name("operator_files")
EXAMPLE = Path(__file__).parents[1] / "docs/operateur-http.toml"
PUBLIC_URL = "https://sms.example.org"
TOKEN = "t0ken-" * 6
SECRETS = {
    "login": "caf@example.org",
    "key": "k3y",
    "token": "b3arer",
    "api_key": "apik3y",
    "user": "caf",
    "password": "passw0rd",
    "receipt_token": TOKEN,
    "receipt_key": "s1gning",
    "receipt_user": "operator",
    "receipt_password": "r3ceipts",
}

Temper = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FakeOperator:
    """What it was asked; `temper` answers."""

    temper: Temper
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = Asked(request.method, request.path_qs, request.headers.copy(), body)
        self.asked.append(asked)
        return await self.temper(request)


@asynccontextmanager
async def fake_operator(temper: Temper) -> AsyncIterator[FakeOperator]:
    """Run one beside the block."""
    fake = FakeOperator(temper)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def described(text: str, url: str, folder: Path) -> HttpOperator:
    """Give an operator as a file describes it, but at another address."""
    path = folder / "operator.toml"
    path.write_text(re.sub(r'"https://[^/"]+', f'"{url}', text), encoding="utf-8")
    description = http_description.load(path)
    secrets = {name: Secret(SECRETS[name]) for name in description.secret_names}
    return HttpOperator(description, secrets, PUBLIC_URL)


@asynccontextmanager
async def sending(operator: HttpOperator) -> AsyncIterator[HttpJsonProvider]:
    """Open a provider beside the block."""
    async with open_http_json(operator, FakeClock()) as provider:
        yield provider
