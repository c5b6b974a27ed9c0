"""Our voice server and its peers with many calls open: commands a second, memory, latency.

Commands a second are those of a server that always has a reply waiting; the latency, from a reply
to the next command, is that of a server at a pace of real traffic and far above it.
"""

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
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Self, cast

import click

from bench.figures import LOAD_CORE, median_and_best, percentile, pin, unpin
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

PACES = (2_000, 8_000)  # replies a second; 4,000 calls with a command every 2 s make the first
PACED_CALLS = 4_000
PACED_SECONDS = 4.0
PACE_STEP_SECONDS = 0.001  # epoll's finest

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


@dataclass(frozen=True)
class Paced:
    """The seconds from each reply to the next command, of one run at a pace.

    `missed` replies were not given, since their call had sent no command when its turn came.
    """

    latencies: list[float]
    missed: int


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

    def await_commands(self) -> None:
        """Take the command that every call has sent, to answer it later."""
        for call in self._calls.values():
            call.recv(4096)

    def pace(self, rate: float, seconds: float) -> Paced:
        """Answer so many commands a second, each call in turn, and time the next command.

        Every call has a command that waits for its answer, before and after.
        """
        latencies: list[float] = []
        sent: dict[int, float] = {}  # when, to the calls whose next command is not here yet
        turns, offered, missed = cycle(self._calls), 0, 0
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            due = int(passed * rate)
            for fd in islice(turns, due - offered):
                if fd in sent:
                    missed += 1
                else:
                    sent[fd] = time.perf_counter()
                    self._calls[fd].send(REPLY)
            offered = due
            latencies += self._take_commands(sent, PACE_STEP_SECONDS)
        while sent:
            latencies += self._take_commands(sent, SILENCE_SECONDS)
        return Paced(latencies, missed)

    def _take_commands(self, sent: dict[int, float], seconds: float) -> list[float]:
        """Take the commands that come first; give the seconds each took."""
        took = []
        for fd, _ in self._epoll.poll(seconds):
            if not self._calls[fd].recv(4096):
                raise RuntimeError("the server hung up")
            took.append(time.perf_counter() - sent.pop(fd))
        return took

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls.values():
            call.close()
        self._epoll.close()


def run() -> None:
    """Measure every server with every number of calls, in turn, and print the table."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    pin(LOAD_CORE)
    try:
        for calls in CALLS:
            samples: dict[str, list[Sample]] = defaultdict(list)
            for round_ in range(ROUNDS):
                for name in SERVERS:
                    click.echo(f"  {calls} calls, round {round_ + 1}/{ROUNDS}: {name}", err=True)
                    samples[name].append(_measure(name, calls))
            _print(calls, samples)
        for pace in PACES:
            click.echo(f"{PACED_CALLS:,} calls open, {pace:,} replies a second, on one core:")
            for name in SERVERS:
                _measure_pace(name, pace)
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


def _measure_pace(name: str, pace: int) -> None:
    """Measure a server at a pace and print its line of the table."""
    with ExitStack() as stack:
        server, port = stack.enter_context(_server(name))
        asterisk = stack.enter_context(Asterisk(port, PACED_CALLS))
        asterisk.await_commands()
        began, cpu = time.perf_counter(), _cpu_seconds(server.pid)
        paced = asterisk.pace(pace, PACED_SECONDS)
        took, cpu = time.perf_counter() - began, _cpu_seconds(server.pid) - cpu
    answered = len(paced.latencies) / (len(paced.latencies) + paced.missed)
    click.echo(
        f"  {name:<20} {answered:6.1%} answered"
        f"  p50 {percentile(paced.latencies, 0.5) * 1e3:7.2f} ms"
        f"  p99 {percentile(paced.latencies, 0.99) * 1e3:7.2f} ms"
        f"  {cpu / took:4.0%} of the core"
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
