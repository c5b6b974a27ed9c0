"""Twilio on loopback that may be killed: what it takes is in a file before it answers.

    python -m tests.peers.lasting_twilio PORT LEDGER SLOW_SECONDS

It is slow before it takes a message and again before it says so, and never lists some of them.
"""

import asyncio
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.peers.fake_twilio import FakeTwilio, fake_twilio

UNLISTED = "0"  # at the end of an identifier: one of 16


class LastingTwilio(FakeTwilio):
    """Goes on with what was taken before it was killed."""

    def __init__(self, ledger: Path, slow_seconds: float) -> None:
        super().__init__()
        self._ledger = ledger
        self._slow_seconds = slow_seconds
        if ledger.exists():
            self.taken = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]

    async def create(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        await self._dawdle()
        answer = await super().create(request)
        await self._dawdle()
        return answer

    def take(self, form: Mapping[str, str]) -> dict[str, Any]:
        resource = super().take(form)
        with self._ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(resource) + "\n")
        return resource

    def listed(self, to: str) -> list[dict[str, Any]]:
        return [one for one in super().listed(to) if not one["sid"].endswith(UNLISTED)]

    async def _dawdle(self) -> None:
        await asyncio.sleep(random.uniform(0, self._slow_seconds))  # noqa: S311


async def _serve(port: int, ledger: Path, slow_seconds: float) -> None:
    async with fake_twilio(port, LastingTwilio(ledger, slow_seconds)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
