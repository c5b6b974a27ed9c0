"""The HTTP API among strangers: too much, too slow, malformed, and nothing of it comes back."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.api import http
from shared.api.routes import LARGEST_BODY, Route
from shared.database import Database
from shared.errors import StoreDownError
from shared.store import Store
from tests.api import LOGIN, LONG, Api, new_key, running
from tests.store import PASSWORD

SECRET = "hidden83927415"  # stands in hostile requests, and must never come back
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # this is about HTTP

IDEMPOTENCY = ("Idempotency-Key", "0123456789abcdef")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No body is late, unless the test is about that."""
    monkeypatch.setattr(http, "BODY_SECONDS", LONG)


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    with running(store) as api:
        yield api


@contextmanager
def connected(api: Api) -> Iterator[socket.socket]:
    host, _, port = api.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=LONG) as connection:
        yield connection


def head(api: Api, *lines: str, method: str = "POST", path: str = "/v1/logins") -> bytes:
    """Give the head of a request that has all it needs but a body."""
    key = f"Authorization: Bearer {api.key.reveal()}"
    given = [f"{method} {path} HTTP/1.1", "Host: svi", key, ": ".join(IDEMPOTENCY)]
    return "\r\n".join([*given, "Content-Type: application/json", *lines, "", ""]).encode()


def received(connection: socket.socket) -> bytes:
    """Give what comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def exchange(api: Api, request: bytes) -> bytes:
    with connected(api) as connection:
        connection.sendall(request)
        return received(connection)


# Too much


@pytest.mark.parametrize("size", [LARGEST_BODY + 1, 10_000_000])
def test_a_large_body_is_refused(api: Api, size: int) -> None:
    with connected(api) as connection:
        connection.sendall(head(api, f"Content-Length: {size}"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_that_does_not_say_so_is_refused(api: Api) -> None:
    with connected(api) as connection:
        connection.sendall(head(api, "Transfer-Encoding: chunked"))
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        for _ in range(5):
            connection.sendall(chunk)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_the_largest_body_is_read(api: Api) -> None:
    body = json.dumps(LOGIN).ljust(LARGEST_BODY)
    assert api.ask("POST", "/v1/logins", body, headers=[IDEMPOTENCY]).problem == "login-refused"
    assert api.ask("POST", "/v1/logins", body + " ", headers=[IDEMPOTENCY]).status == 413


def test_without_a_key_no_body_is_read(api: Api) -> None:
    with connected(api) as connection:
        connection.sendall(b"POST /v1/logins HTTP/1.1\r\nHost: svi\r\nContent-Length: 100\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_long_head_is_refused(api: Api) -> None:
    answer = exchange(api, head(api, f"X-Long: {SECRET * 1000}", "Content-Length: 0"))
    assert answer.split()[1] == b"400"
    assert SECRET.encode() not in answer


@pytest.fixture
def body_awaited(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the server waits for the body of a request, which is counted by then."""
    awaited = threading.Event()
    read = http._body

    async def body(route: Route[Any], request: web.Request) -> bytes:
        awaited.set()
        return await read(route, request)

    monkeypatch.setattr(http, "_body", body)
    return awaited


def test_a_client_has_so_many_requests_at_a_time(
    store: Store, api: Api, monkeypatch: pytest.MonkeyPatch, body_awaited: threading.Event
) -> None:
    monkeypatch.setattr(http, "MOST_OF_A_CLIENT", 1)
    other = new_key(store, "bornes")
    with connected(api) as waiting:
        waiting.sendall(head(api, "Content-Length: 100"))  # its body never comes
        assert body_awaited.wait(LONG)
        refused = api.ask("GET", "/v1/session", session="A" * 43)
        assert (refused.problem, refused.headers["Retry-After"]) == ("too-many-requests", "1")
        assert api.ask("GET", "/v1/session", session="A" * 43, key=other).status == 401
    until(lambda: api.ask("GET", "/v1/session", session="A" * 43).status == 401)


def test_the_service_has_so_many_requests_at_a_time(
    api: Api, monkeypatch: pytest.MonkeyPatch, body_awaited: threading.Event
) -> None:
    monkeypatch.setattr(http, "MOST_AT_A_TIME", 1)
    with connected(api) as waiting:
        waiting.sendall(head(api, "Content-Length: 100"))
        assert body_awaited.wait(LONG)
        refused = api.ask("GET", "/v1/health")
        assert refused.status == 503
        assert "Retry-After" in refused.headers
    until(lambda: api.ask("GET", "/v1/health").status == 200)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Too slow


def test_a_body_that_never_ends_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    with connected(api) as connection:
        connection.sendall(head(api, "Content-Length: 100") + b"{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begun", [b"", b"POST /v1/log", b"GET /v1/health HTTP/1.1\r\nHost: s"])
def test_a_head_that_never_ends_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.2)
    with running(store) as api, connected(api) as connection:
        connection.sendall(begun)
        assert received(connection) == b""


def test_who_hangs_up_in_the_middle_leaves_no_trace(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (b"", b"{"):
        with connected(api) as connection:
            connection.sendall(head(api, "Content-Length: 100") + part)
            time.sleep(0.1)
    time.sleep(0.1)
    assert api.ask("GET", "/v1/health").status == 200
    assert "api_request_failed" not in capsys.readouterr().out


# Malformed


TYPES = {
    "none": [],
    "text": [("Content-Type", "text/plain")],
    "form": [("Content-Type", "application/x-www-form-urlencoded")],
    "nearly": [("Content-Type", "application/json5")],
    "another charset": [("Content-Type", "application/json; charset=utf-16")],
    "compressed": [("Content-Encoding", "gzip")],
}


@pytest.mark.parametrize("headers", TYPES.values(), ids=TYPES)
def test_a_body_of_another_kind_is_refused(api: Api, headers: list[tuple[str, str]]) -> None:
    if not headers:
        headers = [("Content-Type", "")]
    reply = api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY, *headers])
    assert (reply.status, reply.problem) == (415, "about:blank".rpartition(":")[2])


METHODS = {
    "/v1/logins": "POST",
    "/v1/session": "DELETE, GET",
    "/v1/session/payments/last": "GET",
    "/v1/password-requests": "POST",
    "/v1/session/password": "POST",
    "/v1/person-logins": "POST",
    "/v1/bascule": "POST",
    "/v1/bascule/account": "POST",
    "/v1/recovery": "POST",
    "/v1/identifier-requests": "POST",
    "/v1/messages": "POST",
    "/v1/messages/0": "GET",
    "/v1/messages/0/cancel": "POST",
    "/v1/opt-outs": "POST",
    "/v1/opt-outs/remove": "POST",
    "/v1/health": "GET",
}


@pytest.mark.parametrize(("path", "allowed"), METHODS.items())
def test_other_methods_are_told_which_there_are(api: Api, path: str, allowed: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        if method not in allowed.split(", "):
            reply = api.ask(method, path)
            assert (reply.status, reply.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "//v1/health",
        "/v1//health",
        "/v1/health/",
        "/v1/./health",
        "/v1/x/../health",
        "/v1/health%2f",
        "/v1%2fhealth",
        "/v1/health%00",
        "/v1/health;x",
        "/V1/health",
        "/v2/health",
        "/v1/../../etc/passwd",
        f"/v1/{SECRET}",
        "/v1/%ff",
    ],
)
def test_no_other_path_leads_anywhere(api: Api, path: str) -> None:
    answer = exchange(api, head(api, "Connection: close", method="GET", path=path))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert SECRET.encode() not in answer


def test_what_is_not_described_is_refused(api: Api) -> None:
    """A query, or a body where none is expected."""
    for path, body in (("/v1/health?x=1", None), ("/v1/health", "{}")):
        reply = api.ask("GET", path, body)
        assert (reply.status, reply.problem) == (400, "no-body-expected")
    with_query = api.ask("POST", f"/v1/logins?x={SECRET}", LOGIN, headers=[IDEMPOTENCY])
    assert (with_query.status, with_query.problem) == (400, "no-body-expected")
    assert SECRET.encode() not in with_query.body


NO_HTTP = {
    "garbage": f"GARBAGE {SECRET}\r\n\r\n",
    "NUL in the path": f"GET /v1/{SECRET}\0 HTTP/1.1\r\nHost: svi\r\n\r\n",
    "NUL in a header": f"GET /v1/health HTTP/1.1\r\nHost: svi\r\nX: {SECRET}\0\r\n\r\n",
    "a header of two lines": f"GET /v1/health HTTP/1.1\r\nHost: svi\r\nX: a\r\n {SECRET}\r\n\r\n",
    "two lengths": "POST /v1/logins HTTP/1.1\r\nHost: svi\r\nContent-Length: 1\r\n"
    f"Content-Length: 2\r\nX: {SECRET}\r\n\r\n",
    "length and chunks": "POST /v1/logins HTTP/1.1\r\nHost: svi\r\nContent-Length: 1\r\n"
    f"Transfer-Encoding: chunked\r\nX: {SECRET}\r\n\r\n0\r\n\r\n",
    "another method": f"HIDDEN /v1/health HTTP/1.1\r\nHost: svi\r\nX: {SECRET}\r\n\r\n",
    "another version": f"GET /v1/health HTTP/9.9\r\nX: {SECRET}\r\n\r\n",
    "what nobody expects": f"GET /v1/health HTTP/1.1\r\nHost: svi\r\nExpect: {SECRET}\r\n"
    "Connection: close\r\n\r\n",
}


@pytest.mark.parametrize("request_text", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_answered_with_a_problem(api: Api, request_text: str) -> None:
    answer = exchange(api, request_text.encode())
    assert answer.split()[1] in (b"400", b"417")
    assert b"Content-Type: application/problem+json" in answer
    assert SECRET.encode() not in answer


def test_broken_chunks_are_refused(api: Api) -> None:
    answer = exchange(api, head(api, "Transfer-Encoding: chunked") + b"zz\r\n" + SECRET.encode())
    assert answer.split()[1] == b"400"
    assert SECRET.encode() not in answer


def test_a_body_is_sent_when_it_is_asked_for(api: Api) -> None:
    body = json.dumps(LOGIN).encode()
    with connected(api) as connection:
        connection.sendall(head(api, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


# What goes wrong on our side


def test_a_fault_of_ours_says_nothing(
    store: Store, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr("shared.credentials.verify", fail)
    reply = api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY])
    assert reply.status == 500
    assert SECRET.encode() not in reply.body
    monkeypatch.undo()
    assert api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY]).status == 401


def test_a_request_that_met_a_closed_store_may_be_repeated(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreDownError

    monkeypatch.setattr("shared.credentials.verify", fail)
    down = api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY])
    assert (down.status, "Retry-After" in down.headers) == (503, True)
    monkeypatch.undo()
    assert api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY]).status == 401


def test_without_its_database_it_says_so(store: Store, api: Api, tmp_path: Path) -> None:
    engine = store.database.engine
    away = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    store.database.engine = away.engine
    try:
        for path in ("/v1/health", "/v1/session"):
            assert api.ask("GET", path, session="A" * 43).status == 503
    finally:
        store.database.engine = engine
        away.close()


def test_nothing_of_a_request_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    api.ask("POST", "/v1/logins", LOGIN, headers=[IDEMPOTENCY])
    exchange(api, f"GARBAGE {SECRET}\r\n\r\n".encode())
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "api_answered" in logged  # else this would show nothing
    key_id, secret = api.key.reveal().split(".")
    for part in (SECRET, PASSWORD, LOGIN["number"], LOGIN["client"], key_id, secret, "127.0.0.1"):
        assert part not in logged
