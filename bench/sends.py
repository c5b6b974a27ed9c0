"""From the request of an HTTP client until an SMSC has accepted the SMS. Beside it, Kannel."""

import json
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import IO, Protocol, cast

import click

from bench.clients import Clients
from bench.figures import median_and_best, ratio
from bench.gateways import TEXT, databases, gateway
from bench.kannel import kannel
from sms.providers.smpp import SmppSettings

MESSAGES = 5_000
CLIENTS = 32
ROUNDS = 3
LOST_SECONDS = 600.0

PEER, DURABLE = "Kannel", "Kannel, synchronous spool"


class Taking(Protocol):
    """A gateway that takes messages by HTTP."""

    @property
    def port(self) -> int:
        """Where."""

    def requests(self, count: int) -> Iterator[bytes]:
        """Give so many requests for a message."""


Open = Callable[[int], AbstractContextManager[Taking]]
"""Runs a gateway with an SMSC at that port."""


def run() -> None:
    """Measure every gateway in turn, so many rounds, and print the table."""
    rates: dict[str, list[float]] = defaultdict(list)
    with databases() as kinds:
        ways: dict[str, Open] = {
            PEER: partial(kannel, synchronous=False),
            DURABLE: partial(kannel, synchronous=True),
        }
        ways |= {name: partial(_ours, make) for name, make in kinds.items()}
        for round_ in range(ROUNDS):
            for name, opened in ways.items():
                click.echo(f"  end to end, round {round_ + 1}/{ROUNDS}: {name}", err=True)
                rates[name].append(_measure(opened))
    click.echo(
        f"end to end, {MESSAGES:,} messages by {CLIENTS} HTTP clients, until the SMSC has all;"
        f" window {SmppSettings.window}; every commit of ours waits for the disk:"
    )
    for name, of_name in rates.items():
        click.echo(
            f"  {name:<26} {median_and_best(of_name):<26}"
            f" {ratio(of_name, rates[PEER]):5.2f} of Kannel,"
            f" {ratio(of_name, rates[DURABLE]):5.2f} of Kannel with a synchronous spool"
        )


def _ours(make: Callable[[], str], smsc_port: int) -> AbstractContextManager[Taking]:
    return gateway(make(), smsc_port, CLIENTS)


def _measure(opened: Open) -> float:
    """Give how many messages a second went all the way, none of them twice."""
    with _smsc() as (smsc_port, accepted), opened(smsc_port) as taking:
        requests = list(taking.requests(MESSAGES))
        with Clients(taking.port, CLIENTS) as clients:
            began = time.monotonic()
            clients.ask(iter(requests))
        if not select.select([accepted], [], [], LOST_SECONDS)[0]:
            raise RuntimeError("messages were lost on their way")
        told = json.loads(accepted.readline())
    if told["submissions"] != MESSAGES:
        raise RuntimeError(f"{told['submissions']} submissions of {MESSAGES} messages")
    return MESSAGES / float(told["at"] - began)


@contextmanager
def _smsc() -> Iterator[tuple[int, IO[str]]]:
    """Run an SMSC; give its port, and where it tells that it has all."""
    command = [sys.executable, "-m", "bench.servers.smsc", str(MESSAGES), TEXT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            out = cast(IO[str], process.stdout)
            yield int(out.readline()), out
        finally:
            process.kill()
