"""An SMSC of npm smpp for the tests (smsc.js): what it does and what it saw."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.gateway import until
from tests.peers.npm import HERE, needed_module

START_SECONDS = 30.0


@dataclass(frozen=True)
class Behaviour:
    """What an SMSC does; milliseconds where the name says so, statuses of SMPP's table."""

    port: int = 0
    receipt_ids: str = "same"
    receipt_ms: int = 5
    tlv: bool = False
    late_ms: int = 1000
    slow_ms: int = 0  # at most, before a message is taken, and again before the answer
    throttle_every: int = 0
    mute: bool = False
    refuse_binds: int = 0
    bind_status: int = 0x0D
    wrong_status: int = 0x0E
    on_bind: tuple[str, ...] = ()  # PDUs in hexadecimal
    written: tuple[Mapping[str, object], ...] = ()  # what people write: fields of deliver_sm
    key: str = ""
    cert: str = ""
    ledger: str = ""  # a file that keeps what was taken


@dataclass
class SmscProcess:
    """One that runs; `seen` is what it told, in its order."""

    port: int
    seen: list[dict[str, Any]] = field(default_factory=list)

    def all(self, event: str) -> list[dict[str, Any]]:
        """Give what it told of one kind."""
        return [one for one in self.seen if one["event"] == event]

    def texts(self) -> list[str]:
        """Give the texts that were submitted, as npm smpp decodes them."""
        return [one["text"] for one in self.all("submit")]

    async def told(self, event: str, times: int = 1) -> None:
        """Wait until it has told of something."""
        await until(lambda: len(self.all(event)) >= times, 30)


def command(behaviour: Behaviour) -> list[str]:
    """Give what runs one."""
    needed_module("smpp")
    return ["node", str(HERE / "smsc.js"), json.dumps(asdict(behaviour))]


@asynccontextmanager
async def smsc(behaviour: Behaviour | None = None) -> AsyncIterator[SmscProcess]:
    """Run one beside the block."""
    process = await asyncio.create_subprocess_exec(
        *command(behaviour or Behaviour()), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    listening = json.loads(await asyncio.wait_for(process.stdout.readline(), START_SECONDS))
    running = SmscProcess(listening["port"])
    reading = asyncio.create_task(_read(process.stdout, running.seen))
    try:
        yield running
    finally:
        process.kill()
        await process.wait()
        await reading


async def _read(lines: asyncio.StreamReader, seen: list[dict[str, Any]]) -> None:
    while line := await lines.readline():
        seen.append(json.loads(line))
