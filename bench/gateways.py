"""`svi gateway` as an installation runs it, on an empty database that waits for the disk."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import IO, cast
from uuid import uuid4

from bench.stores import mobile
from shared import apikeys
from shared.apikeys import Scope
from shared.secret import Secret
from sms.templates import Templates
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.peers.npm import free_port
from tests.postgresql import PostgresqlServer

SVI = str(Path(sys.executable).with_name("svi"))
TEMPLATE = "notice.message-a-lire"
TEXT = Templates.load().render(TEMPLATE, {}).text
KEY_LIFE = timedelta(days=1)
ACCOUNT = {"system_id": "caf", "password": "secret"}  # to the SMSC


@dataclass(frozen=True)
class Gateway:
    """One that runs: where its API is, and the keys of its clients."""

    port: int
    keys: tuple[Secret, ...]

    def requests(self, count: int) -> Iterator[bytes]:
        """Give so many requests for a message, each to another mobile, the clients in turn."""
        body = {"template": TEMPLATE, "variables": {}, "expires_in_minutes": 60}
        for number, key in zip(range(count), cycle(self.keys), strict=False):
            content = json.dumps(body | {"to": mobile(number)}).encode()
            head = (
                "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer {key.reveal()}\r\nIdempotency-Key: {uuid4().hex}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            yield head.encode() + content


@contextmanager
def databases() -> Iterator[Mapping[str, Callable[[], str]]]:
    """Give what makes an empty database of each kind; it gives the address, for SVI_DATABASE_URL.

    Each commit waits for the disk, as in production.
    """
    server = PostgresqlServer(durable=True)
    try:
        yield {"SQLite": str, "PostgreSQL": lambda: server.url(server.create())}
    finally:
        server.remove()


@contextmanager
def gateway(database_url: str, smsc_port: int, clients: int) -> Iterator[Gateway]:
    """Run a gateway with an SMSC at that port as long as the block runs; each client has a key."""
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        account = home / "smpp.json"
        account.write_text(json.dumps(ACCOUNT), encoding="utf-8")
        account.chmod(0o600)
        environment = {
            "SVI_HOME": folder,
            "SVI_DATABASE_URL": database_url,
            "SVI_GATEWAY_PORT": "0",
            "SVI_API_PORT": str(port),
            "SVI_SMPP_HOST": "127.0.0.1",
            "SVI_SMPP_PORT": str(smsc_port),
            "SVI_SMPP_ACCOUNT": str(account),
        }
        settings = Settings(home=home, database_url=database_url)
        prepare_home(settings)
        with open_store(settings) as store:
            keys = tuple(
                apikeys.add(store, f"bench-{n}", [Scope.MESSAGES], KEY_LIFE) for n in range(clients)
            )
        with subprocess.Popen(
            [SVI, "gateway"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                if cast(IO[str], process.stdout).readline() != "ready\n":
                    raise RuntimeError("the gateway did not start")
                yield Gateway(port, keys)
            finally:
                process.terminate()
