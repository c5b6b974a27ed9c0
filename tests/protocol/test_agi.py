"""The AGI session, against a peer that says exactly what a test has it say."""

import fcntl
import os
import resource
import select
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr import agi as agi_module
from ivr.agi import (
    Agi,
    AGIAppError,
    AGIError,
    AGIHangup,
    AGIInvalidCommand,
    AGIResultHangup,
    AGIUsageError,
    Wakeup,
)
from ivr.simulated import parse_arguments

ENVIRONMENT = b"agi_network: yes\nagi_extension: 3230\nagi_callerid: 0612345678\n\n"
WAIT = "WAIT FOR DIGIT -1"
SOON = 0.001  # a time-out that is meant to pass
LONG = 10.0  # one that isn't

SECRET = "83914625"  # keyed, so never to be found in any text


class Peer:
    """Asterisk's end of a connection: says `first`, then what belongs to each command it reads."""

    def __init__(self, replies: Mapping[str, bytes]) -> None:
        self.connection, self._socket = socket.socketpair()
        self.commands: list[str] = []
        self._replies = replies
        self._socket.sendall(ENVIRONMENT)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._socket, self._socket.makefile("r") as lines:
            for line in lines:
                self.commands.append(line.rstrip("\n"))
                self._socket.sendall(self._replies[self.commands[-1]])

    def close(self) -> None:
        self.connection.close()
        self._thread.join()


@pytest.fixture
def asterisk() -> Iterator[socket.socket]:
    """Asterisk's end, whose other end is `server`'s."""
    with socket.socket() as other:
        yield other


def session(data: bytes, *, closed: bool = True) -> Agi:
    """A session in which Asterisk has said all of this already, and then closed the connection."""
    connection, peer = socket.socketpair()
    peer.sendall(ENVIRONMENT + data)
    if closed:
        peer.shutdown(socket.SHUT_WR)
    agi = Agi(connection, reply_seconds=0.05, play_seconds=0.05)
    OPEN.append(peer)
    OPEN.append(connection)
    return agi


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()
