"""An SMS provider on loopback for dispatchers that are killed, and such a dispatcher.

    python -m tests.loopback DATABASE_URL KEYS PORT

runs a dispatcher until it is killed. One connection is one question, « send » or « look up », as a
line of JSON; the answer is a line of one word.
"""

import asyncio
import json
import random
import socketserver
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from shared.models import Route
from shared.outbox import Report, Result
from shared.rules import load_rules
from shared.store import Store
from sms.dispatcher import Dispatcher, Pace
from sms.provider import Outgoing
from sms.templates import Templates
from tests.gateway import with_outbox

SLOWEST_SECONDS = 0.06
CUT_EVERY = 10  # one send in so many is cut before the message is taken, and one after
MUTE_EVERY = 20  # one of these in so many can't be looked up either: D19 repeats it
LEASE_SECONDS = 1.0
UNCERTAIN_SECONDS = 1.5


class ProviderServer(socketserver.ThreadingTCPServer):
    """Accepts messages, slowly and not always saying so; what it knows outlives its clients."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Question)
        self.asked = 0
        self.accepted: list[str] = []  # the text of each
        self._attempts: set[str] = set()
        self._refused: set[str] = set()
        self._mute: set[str] = set()
        self._knowing = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=[0.05]).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def times_accepted(self) -> Counter[str]:
        """How often each text was."""
        with self._knowing:
            return Counter(self.accepted)

    def send(self, attempt: str, text: str) -> str:
        """Take a message; nothing is answered where the connection is cut."""
        with self._knowing:
            self.asked += 1
            number = self.asked
        time.sleep(random.uniform(0, SLOWEST_SECONDS))  # noqa: S311
        if number % CUT_EVERY == 0:
            return ""
        with self._knowing:
            if attempt in self._refused:
                return "refused"
            self._attempts.add(attempt)
            self.accepted.append(text)
            if number % MUTE_EVERY == 1:
                self._mute.add(attempt)
        return "" if number % CUT_EVERY == 1 else "accepted"

    def look_up(self, attempt: str) -> str:
        """Tell whether it has a message; one that it has not it will not take any more."""
        with self._knowing:
            if attempt not in self._attempts:
                self._refused.add(attempt)
                return "refused"
            return "unknown" if attempt in self._mute else "accepted"


class _Question(socketserver.StreamRequestHandler):
    server: ProviderServer

    def handle(self) -> None:
        with suppress(ConnectionError):  # the one who asks was killed
            line = self.rfile.readline()
            if not line:
                return
            question: dict[str, Any] = json.loads(line)
            answer = getattr(self.server, question.pop("ask"))(**question)
            self.wfile.write(answer.encode())


class LoopbackProvider:
    """Asks a ProviderServer."""

    name = "loopback"
    route = Route.SMS

    def __init__(self, port: int) -> None:
        self._port = port

    async def send(self, message: Outgoing) -> Report:
        answer = await self._ask(
            ask="send", attempt=str(message.attempt_id), text=message.text.reveal()
        )
        results = {"accepted": Result.ACCEPTED, "refused": Result.RETRY, "": Result.UNCERTAIN}
        return Report(results[answer], answer or "cut")

    async def look_up(self, message: Outgoing) -> Report | None:
        answer = await self._ask(ask="look_up", attempt=str(message.attempt_id))
        reports = {"accepted": Report(Result.ACCEPTED), "refused": Report(Result.RETRY)}
        return reports.get(answer)

    async def _ask(self, **question: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(json.dumps(question).encode() + b"\n")
            return (await reader.read()).decode()
        finally:
            writer.close()


def short_delays(store: Store) -> Store:
    """Give the store with delays of D19 that a test can wait for."""
    return with_outbox(
        store,
        lease_seconds=LEASE_SECONDS,
        uncertain_seconds=UNCERTAIN_SECONDS,
        retry_seconds=0.1,
        retry_longest_seconds=0.5,
    )


async def _dispatch(store: Store, port: int) -> None:
    pace = Pace(at_once=4, poll=0.02, look_up=0.1)
    with ThreadPoolExecutor(4) as pool:
        provider = LoopbackProvider(port)
        dispatcher = Dispatcher(store, provider, Templates.load(), pool, pace)
        await dispatcher.run()


def main() -> None:
    """Dispatch until killed."""
    url, keys, port = sys.argv[1:]
    store = short_delays(Store.open(url, Path(keys), load_rules()))
    asyncio.run(_dispatch(store, int(port)))


if __name__ == "__main__":
    main()
