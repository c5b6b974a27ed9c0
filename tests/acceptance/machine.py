"""What all acceptance tests ask of this machine: Asterisk's folder, free ports, patience."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ROOT = Path(os.environ.get("SVI_ASTERISK") or CACHE / "svi/asterisk-22")
READY_SECONDS = 20.0


def free_port(kind: socket.SocketKind) -> int:
    """Give a port of the loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to be true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
