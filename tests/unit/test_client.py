"""The client that the docs show: what it repeats, what it waits for, what it raises."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from shared.client import SECONDS, TRIES, ApiError, StoreClient
from shared.secret import Secret

UNDER_WAY = {
    "type": "tag:caf.fr,2021:svi:idempotency-in-progress",
    "title": "The request with this Idempotency-Key is being done",
    "status": 409,
}
TAKEN = {"id": "0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11"}


class Said(NamedTuple):
    """What a server says to one request."""

    status: int
    body: object = None  # text as it is, anything else as JSON; None: nothing
    retry_after: str | None = None

    @property
    def encoded(self) -> bytes:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return b"" if self.body is None else text.encode()


class Asking(NamedTuple):
    """A client, the keys of its requests that came, and its waits."""

    client: StoreClient
    keys: list[str]
    waits: list[float]

    def send(self) -> str:
        return self.client.send_message("notice.message-a-lire", "+33612345678", {}, 60)


@contextmanager
def saying(*script: Said) -> Iterator[Asking]:
    """Serve this, one answer a request, the last one again and again."""
    keys: list[str] = []
    waits: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = script[min(len(keys), len(script) - 1)]
            keys.append(self.headers["Idempotency-Key"])
            self.send_response(said.status)
            if said.retry_after is not None:
                self.send_header("Retry-After", said.retry_after)
            self.send_header("Content-Length", str(len(said.encoded)))
            self.end_headers()
            self.wfile.write(said.encoded)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            yield Asking(StoreClient(url, Secret("k.k"), waits.append), keys, waits)
        finally:
            server.shutdown()
            thread.join()


def test_it_waits_for_a_request_that_is_being_done() -> None:
    with saying(Said(409, UNDER_WAY, "2"), Said(409, UNDER_WAY, "3"), Said(202, TAKEN)) as asked:
        assert asked.send() == TAKEN["id"]
    assert asked.waits == [2.0, 3.0]
    assert len(asked.keys) == 3
    assert len(set(asked.keys)) == 1


def test_it_does_not_wait_for_ever() -> None:
    with (
        saying(Said(409, UNDER_WAY, "1")) as asked,
        pytest.raises(ApiError) as caught,
    ):
        asked.send()
    assert (caught.value.status, caught.value.kind) == (409, UNDER_WAY["type"])
    assert asked.waits == [1.0] * int(SECONDS)
    assert len(asked.keys) == len(asked.waits) + 1


@pytest.mark.parametrize("retry_after", [None, "0", "", "soon", "-1", "1.5"])
def test_it_waits_a_second_where_it_is_not_told(retry_after: str | None) -> None:
    with saying(Said(409, UNDER_WAY, retry_after), Said(202, TAKEN)) as asked:
        assert asked.send() == TAKEN["id"]
    assert asked.waits == [1.0]


def test_it_does_not_wait_longer_than_it_may() -> None:
    with saying(Said(409, UNDER_WAY, "3600")) as asked, pytest.raises(ApiError):
        asked.send()
    assert (len(asked.keys), asked.waits) == (1, [])


@pytest.mark.parametrize("status", [409, 429, 503])
def test_another_problem_is_told_at_once(status: int) -> None:
    problem = {"type": "about:blank", "title": "No", "status": status}
    with (
        saying(Said(status, problem, "1")) as asked,
        pytest.raises(ApiError) as caught,
    ):
        asked.send()
    assert (caught.value.status, caught.value.kind) == (status, "about:blank")
    assert (len(asked.keys), asked.waits) == (1, [])


NO_ANSWERS = {
    "a page": Said(502, "<html>Bad Gateway</html>"),
    "a page that looks like success": Said(200, "<html>Maintenance</html>"),
    "JSON of somebody else's": Said(502, {"message": "upstream"}),
    "no object": Said(200, [1]),
    "nothing": Said(503),
}


@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_a_proxy_says_is_no_answer(said: Said) -> None:
    """It is asked again, with the same key; the exception is one that the client names."""
    with saying(said, Said(202, TAKEN)) as asked:
        assert asked.send() == TAKEN["id"]
    assert len(set(asked.keys)) == 1
    with (
        saying(said) as asked,
        pytest.raises(HTTPException, match=str(said.status)),
    ):
        asked.send()
    assert (len(asked.keys), asked.waits) == (TRIES, [])
