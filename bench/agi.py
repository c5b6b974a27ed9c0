"""AGI commands a second and memory with many calls open: our voice server and its peers."""

import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

import click

from bench.figures import LOAD_CORE, median_and_best, pin, unpin
from bench.servers import LINE

OURS = "ours"
SERVERS = {
    OURS: "bench.servers.ours",
    "panoramisk": "bench.servers.panoramisk",
    "panoramisk + uvloop": "bench.servers.panoramisk_uvloop",
    "pystrix": "bench.servers.pystrix",
}

CALLS = (50, 1_000, 4_000)
ROUNDS = 3
WARM_UP_SECONDS = 0.5
SECONDS = 2.0
SILENCE_SECONDS = 30.0  # then a server has failed

REPLY = b"200 result=1\n"
ENVIRONMENT = (
    "agi_network: yes\nagi_network_script: bench\nagi_request: agi://127.0.0.1/bench\n"
    "agi_channel: PJSIP/trunk-00000001\nagi_language: fr\nagi_type: PJSIP\n"
    "agi_uniqueid: 1636968600.1\nagi_version: 22.10.1\nagi_callerid: 0612345678\n"
    "agi_calleridname: unknown\nagi_callingpres: 0\nagi_callingani2: 0\nagi_callington: 0\n"
    f"agi_callingtns: 0\nagi_dnid: {LINE}\nagi_rdnis: unknown\nagi_context: svi\n"
    f"agi_extension: {LINE}\nagi_priority: 1\nagi_enhanced: 0.0\nagi_accountcode: \n"
    "agi_threadid: 140245676050112\n\n"
).encode()


@dataclass(frozen=True)
class Sample:
    """One run: commands a second; the server's CPU seconds for each; its growth in bytes.

    `load` is the share of its own core that the load generator took: near 1 it was the limit.
    """

    rate: float
    cpu: float
    grown: int
    load: float


class Asterisk:
    """Plays Asterisk for many calls: answers every command at once, from one thread."""

    def __init__(self, port: int, calls: int) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, socket.socket] = {}
        for _ in range(calls):
            call = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS)
            call.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call.sendall(ENVIRONMENT)
            self._calls[call.fileno()] = call
        for call in self._calls.values():  # every call is up before the first is answered
            call.recv(1, socket.MSG_PEEK)
            call.setblocking(False)
            self._epoll.register(call, select.EPOLLIN)

    def answer(self, seconds: float) -> int:
        """Answer commands for a time; give how many."""
        answered, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            for fd, _ in self._epoll.poll(SILENCE_SECONDS):
                call = self._calls[fd]
                commands = call.recv(4096).count(b"\n")
                if not commands:
                    raise RuntimeError("the server hung up, or sent half a command")
                call.send(REPLY * commands)
                answered += commands
        return answered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls.values():
            call.close()
        self._epoll.close()


def run() -> None:
    """Measure every server with every number of calls, in turn, and print the table."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # a call takes two in our server
    pin(LOAD_CORE)
    try:
        for calls in CALLS:
            samples: dict[str, list[Sample]] = defaultdict(list)
            for round_ in range(ROUNDS):
                for name in SERVERS:
                    click.echo(f"  {calls} calls, round {round_ + 1}/{ROUNDS}: {name}", err=True)
                    samples[name].append(_measure(name, calls))
            _print(calls, samples)
    finally:
        unpin()


def _measure(name: str, calls: int) -> Sample:
    with ExitStack() as stack:
        server, port = stack.enter_context(_server(name))
        before = _resident(server.pid)
        asterisk = stack.enter_context(Asterisk(port, calls))
        asterisk.answer(WARM_UP_SECONDS)
        began, busy, cpu = time.perf_counter(), time.process_time(), _cpu_seconds(server.pid)
        answered = asterisk.answer(SECONDS)
        took, busy = time.perf_counter() - began, time.process_time() - busy
        return Sample(
            rate=answered / took,
            cpu=(_cpu_seconds(server.pid) - cpu) / answered,
            grown=_resident(server.pid) - before,
            load=busy / took,
        )


@contextmanager
def _server(name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server in a process of its own; give it and its port."""
    command = [sys.executable, "-m", SERVERS[name]]
    with (
        tempfile.TemporaryDirectory() as home,  # of all it writes, since it is killed in the end
        subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": home},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server,
    ):
        try:
            printed = cast(IO[str], server.stdout).readline()
            yield server, int(printed)
        finally:
            server.kill()


def _resident(pid: int) -> int:
    """Give the bytes of memory that a process holds (proc(5), statm)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def _cpu_seconds(pid: int) -> float:
    """Give the CPU time a process has used (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _print(calls: int, samples: dict[str, list[Sample]]) -> None:
    rates = {name: [sample.rate for sample in of_name] for name, of_name in samples.items()}
    fastest = max(statistics.median(of) for name, of in rates.items() if name != OURS)
    click.echo(f"{calls:,} calls open, AGI commands on one core:")
    for name, of_name in samples.items():
        ratio = statistics.median(rates[name]) / fastest
        grown = statistics.median(sample.grown for sample in of_name) / 1e6
        cpu = statistics.median(sample.cpu for sample in of_name) * 1e6
        load = max(sample.load for sample in of_name)
        click.echo(
            f"  {name:<20} {median_and_best(rates[name]):<28} {ratio:5.2f} of the fastest peer"
            f"  {cpu:4.0f} µs CPU each  {grown:6.1f} MB  load generator {load:.0%} busy"
        )
