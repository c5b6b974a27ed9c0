"""Messages taken in a second, each safe on the disk before it is answered. Beside it, Kannel's."""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from uuid import uuid4

import click

from bench.clients import Clients, until
from bench.figures import median_and_best, ratio
from bench.gateways import TEMPLATE, databases, gateway
from bench.kannel import kannel
from bench.stores import mobile, stores
from shared import client_messages
from shared.client_messages import Order
from shared.store import Store

CLIENTS = 32
THREADS = 8
ROUNDS = 3
SECONDS = 5.0
ENOUGH = 1_000_000  # requests, whoever takes them
LIFE = timedelta(hours=1)

PEER, DURABLE = "Kannel", "Kannel, synchronous spool"


def run() -> None:
    """Measure every way in turn, so many rounds, and print the table."""
    rates: dict[str, list[float]] = defaultdict(list)
    with databases() as kinds, stores(0, durable=True) as opened, _away() as smsc:
        ways: dict[str, Callable[[], float]] = {
            PEER: partial(_kannel, smsc, synchronous=False),
            DURABLE: partial(_kannel, smsc, synchronous=True),
        }
        ways |= {f"HTTP, {name}": partial(_http, make, smsc) for name, make in kinds.items()}
        ways |= {f"function, {name}": partial(_function, store) for name, store in opened.items()}
        for round_ in range(ROUNDS):
            for name, measure in ways.items():
                click.echo(f"  intake, round {round_ + 1}/{ROUNDS}: {name}", err=True)
                rates[name].append(measure())
    click.echo(
        f"messages taken in, {CLIENTS} HTTP clients at once or {THREADS} threads;"
        " the SMSC is away; every commit of ours waits for the disk:"
    )
    for name, of_name in rates.items():
        click.echo(
            f"  {name:<26} {median_and_best(of_name):<26}"
            f" {ratio(of_name, rates[PEER]):5.2f} of Kannel,"
            f" {ratio(of_name, rates[DURABLE]):5.2f} of Kannel with a synchronous spool"
        )


def _kannel(smsc: int, *, synchronous: bool) -> float:
    with kannel(smsc, synchronous=synchronous) as peer:
        return _ask(peer.port, peer.requests(ENOUGH))


def _http(make: Callable[[], str], smsc: int) -> float:
    with gateway(make(), smsc, CLIENTS) as ours:
        return _ask(ours.port, ours.requests(ENOUGH))


def _ask(port: int, requests: Iterator[bytes]) -> float:
    """Give how many requests a second are answered."""
    with Clients(port, CLIENTS) as clients:
        clients.ask(until(requests, SECONDS / 5))  # warm-up
        began = time.monotonic()
        return clients.ask(until(requests, SECONDS)) / (time.monotonic() - began)


def _function(store: Store) -> float:
    """Give how many messages a second several threads put into the outbox."""
    numbers = count()
    began = time.monotonic()

    def send(_: int) -> int:
        for done in count():
            if time.monotonic() - began > SECONDS:
                return done
            order = Order(TEMPLATE, mobile(next(numbers)), {}, LIFE)
            client = f"bench-{threading.get_ident()}"
            message = client_messages.draft(store, client, order, uuid4())
            with store.database.begin() as transaction:
                client_messages.put(store, transaction, [message])
        raise AssertionError("count() never ends")

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(send, range(THREADS))) / (time.monotonic() - began)


@contextmanager
def _away() -> Iterator[int]:
    """Give the port of an SMSC that is never there."""
    with socket.socket() as kept:  # bound, not listening: who connects is refused
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]
