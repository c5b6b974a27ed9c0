"""Kannel, Debian's SMS gateway, with its spool on disk: the gateway's peer.

Its spool is one file for each message, written and closed, but not waited for: a power cut loses
what the kernel had not written yet. In a folder marked as synchronous (`chattr +SD`) every file and
its name are on the disk before the client has its answer, as a commit of ours.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from bench.gateways import ACCOUNT, TEXT
from bench.stores import mobile
from sms.providers.smpp import SmppSettings
from tests.peers.npm import free_port

SENDER = "Caf"
SILENT = ["-v", "4"]  # it logs what makes it end, and nothing else
START_SECONDS = 30.0
STOP_SECONDS = 10.0
STEP_SECONDS = 0.1

CONFIGURATION = """
group = core
admin-port = {admin}
admin-password = bench
admin-interface = 127.0.0.1
smsbox-port = {between}
smsbox-interface = 127.0.0.1
store-type = spool
store-location = {spool}

group = smsc
smsc = smpp
host = 127.0.0.1
port = {smsc}
transceiver-mode = true
smsc-username = {system_id}
smsc-password = {password}
system-type = ""
max-pending-submits = {window}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1

group = sendsms-user
username = bench
password = bench
"""


@dataclass(frozen=True)
class Kannel:
    """One that runs: where it takes messages."""

    port: int

    def requests(self, count: int) -> Iterator[bytes]:
        """Give so many requests for the same messages that our gateway is asked for."""
        asked = f"/cgi-bin/sendsms?username=bench&password=bench&from={SENDER}&text={quote(TEXT)}"
        for number in range(count):
            to = quote(mobile(number))
            yield f"GET {asked}&to={to} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


@contextmanager
def kannel(smsc_port: int, *, synchronous: bool) -> Iterator[Kannel]:
    """Run Kannel with an SMSC at that port, and our link's window, as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        spool, file = Path(folder, "spool"), Path(folder, "kannel.conf")
        spool.mkdir()
        if synchronous:
            subprocess.run(["chattr", "+SD", spool], check=True)
        admin, between, sendsms = free_port(), free_port(), free_port()
        file.write_text(
            CONFIGURATION.format(
                admin=admin,
                between=between,
                sendsms=sendsms,
                spool=spool,
                smsc=smsc_port,
                window=SmppSettings.window,
                **ACCOUNT,
            ),
            encoding="utf-8",
        )
        with _box("bearerbox", file):
            _await(f"http://127.0.0.1:{admin}/status.txt?password=bench", "running")
            with _box("smsbox", file):
                _await(f"http://127.0.0.1:{admin}/status.txt?password=bench", "smsbox:")
                yield Kannel(sendsms)


@contextmanager
def _box(program: str, file: Path) -> Iterator[None]:
    """Run one of Kannel's programs."""
    with subprocess.Popen(
        [program, *SILENT, file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:  # it may wait for an SMSC that is gone
                process.kill()


def _await(status: str, said: str) -> None:
    """Wait until bearerbox's status says something."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), urlopen(status) as answer:  # noqa: S310 - it is http
            if said in answer.read().decode():
                return
        time.sleep(STEP_SECONDS)
    raise RuntimeError(f"Kannel did not start: {said}")
