"""Logins a second, whole: reserved, compared, settled. Beside them, bare Argon2 verifications."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from threading import Barrier

import click
from argon2 import PasswordHasher

from bench.figures import median_and_best
from bench.stores import CAISSE, PASSWORD, number, origin, stores
from shared import credentials
from shared.credentials import Login
from shared.rules import load_rules
from shared.sessions import Session
from shared.store import Store

THREADS = (2, 32)
ACCOUNTS = 64
ROUNDS = 10  # short ones: each is compared with the bare one beside it
SECONDS = 1.0

BARE = "bare argon2-cffi"

Work = Callable[[int], object]
"""Logs in to the account of that index."""


@dataclass(frozen=True)
class Sample:
    """One run: logins a second, and this process's CPU seconds for each."""

    rate: float
    cpu: float


def run() -> None:
    """Measure each way with each number of threads, in turn, and print the table."""
    with stores(ACCOUNTS) as opened:
        ways = {BARE: _bare()} | {name: _logins(store) for name, store in opened.items()}
        for threads in THREADS:
            samples: dict[str, list[Sample]] = defaultdict(list)
            for round_ in range(ROUNDS):
                for name, work in ways.items():
                    click.echo(
                        f"  {threads} threads, round {round_ + 1}/{ROUNDS}: {name}", err=True
                    )
                    samples[name].append(_measure(work, threads))
            _print(threads, samples)


def _bare() -> Work:
    costs = load_rules().argon2
    hasher = PasswordHasher(
        time_cost=costs.passes, memory_cost=costs.memory_kib, parallelism=costs.lanes
    )
    hashed = hasher.hash(PASSWORD.reveal())
    return lambda _: hasher.verify(hashed, PASSWORD.reveal())


def _logins(store: Store) -> Work:
    def log_in(account: int) -> None:
        login = Login(CAISSE, number(account), PASSWORD)
        if not isinstance(credentials.verify(store, login, origin(account)), Session):
            raise RuntimeError("a right password was refused")

    return log_in


def _measure(work: Work, threads: int) -> Sample:
    """Work in so many threads, each on accounts of its own."""
    start = Barrier(threads + 1)

    def repeat(thread: int) -> int:
        start.wait()
        until = time.perf_counter() + SECONDS
        for done in count():
            if time.perf_counter() > until:
                return done
            work((thread + done * threads) % ACCOUNTS)
        raise AssertionError("count() never ends")

    with ThreadPoolExecutor(threads) as pool:
        counts = [pool.submit(repeat, thread) for thread in range(threads)]
        start.wait()
        began, cpu = time.perf_counter(), time.process_time()
        done = sum(each.result() for each in counts)
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
    return Sample(done / took, cpu / done)


def _print(threads: int, samples: dict[str, list[Sample]]) -> None:
    click.echo(f"{threads} threads, logins with the right password:")
    for name, of_name in samples.items():
        rates = [sample.rate for sample in of_name]
        cpu = statistics.median(sample.cpu for sample in of_name) * 1e3
        ratio = statistics.median(
            sample.rate / bare.rate for sample, bare in zip(of_name, samples[BARE], strict=True)
        )
        click.echo(
            f"  {name:<20} {median_and_best(rates):<28} {ratio:5.0%} of bare {cpu:5.1f} ms CPU each"
        )
