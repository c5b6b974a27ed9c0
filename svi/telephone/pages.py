"""What open pages are told: their own calls, as they go, and the SMS of the demonstration.

A page is known by a token that it makes up. Its calls bear it as the caller's name, so that what
is said in them finds the page; nobody else can guess it.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

PAGE = "[0-9a-f]{32}"
MOST_MESSAGES = 50  # kept for pages that are opened later


@dataclass(frozen=True)
class Event:
    """A server-sent event; `rank` is an SMS's, so that a page that comes back sees each once."""

    kind: str
    data: Mapping[str, str]
    rank: int = 0

    def encode(self) -> bytes:
        """Write it as EventSource reads it."""
        head = f"id: {self.rank}\n" if self.rank else ""
        return f"{head}event: {self.kind}\ndata: {json.dumps(self.data)}\n\n".encode()


class Pages:
    """The open pages; used in one loop only."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Queue[Event | None]] = {}
        self._messages: list[Event] = []

    @contextmanager
    def listening(self, token: str, seen: int) -> Iterator["asyncio.Queue[Event | None]"]:
        """Give a page's events, first the SMS after the last one that it saw; None is the end."""
        if earlier := self._open.get(token):  # the page came back before it was missed
            earlier.put_nowait(None)
        queue = self._open[token] = asyncio.Queue[Event | None]()
        for message in self._messages:
            if message.rank > seen:
                queue.put_nowait(message)
        try:
            yield queue
        finally:
            if self._open.get(token) is queue:
                del self._open[token]

    def tell(self, token: str, kind: str, text: str) -> None:
        """Tell one page, if it is open."""
        if queue := self._open.get(token):
            queue.put_nowait(Event(kind, {"text": text}))

    def tell_all(self, kind: str, data: Mapping[str, str]) -> None:
        """Tell all pages, and those that will be opened."""
        rank = self._messages[-1].rank + 1 if self._messages else 1
        message = Event(kind, data, rank)
        self._messages = [*self._messages, message][-MOST_MESSAGES:]
        for queue in self._open.values():
            queue.put_nowait(message)

    def close(self) -> None:
        """End what pages listen to."""
        for queue in self._open.values():
            queue.put_nowait(None)


def page_of(environment: Mapping[str, str]) -> str:
    """Give the page that a call comes from by its AGI environment, "" if it is no page's."""
    name = environment.get("agi_calleridname", "")
    return name if re.fullmatch(PAGE, name) else ""
