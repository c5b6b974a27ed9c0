"""HTTP clients that wait for nothing but their answers: many connections, one thread."""

import select
import socket
import time
from collections.abc import Iterator
from typing import Self

SILENCE_SECONDS = 30.0  # then a server has failed


class Clients:
    """So many clients, each of which asks again as soon as it has its answer."""

    def __init__(self, port: int, count: int) -> None:
        self._epoll = select.epoll()
        self._idle: list[socket.socket] = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(client, select.EPOLLIN)
            self._idle.append(client)

    def ask(self, requests: Iterator[bytes]) -> int:
        """Ask until there is nothing more to ask; give how many were answered 202.

        RuntimeError at any other answer.
        """
        waiting: dict[int, tuple[socket.socket, bytes]] = {}
        accepted = 0
        while True:
            while self._idle and (request := next(requests, None)):
                client = self._idle.pop()
                client.sendall(request)
                waiting[client.fileno()] = client, b""
            if not waiting:
                return accepted
            for fd, _ in self._epoll.poll(SILENCE_SECONDS):
                client, answer = waiting[fd]
                answer += client.recv(4096)
                waiting[fd] = client, answer
                if _whole(answer):
                    accepted += 1
                    del waiting[fd]
                    self._idle.append(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._idle:
            client.close()
        self._epoll.close()


def until(requests: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """Give requests for a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield next(requests)


def _whole(answer: bytes) -> bool:
    """Say whether all of a 202 has come; RuntimeError if it is no 202."""
    if not answer.startswith(b"HTTP/1.1 202"[: len(answer)]) or not answer:
        raise RuntimeError(f"not accepted: {answer[:200]!r}")
    head, end, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return bool(end) and len(body) >= int(length)
