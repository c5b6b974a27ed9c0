"""An installation whose parts are killed, and what it has to answer for afterwards."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select

from shared.errors import StoreDownError
from shared.models import Message, MessageState, SendAttempt
from shared.outbox import Result
from shared.rules import DEFAULT_FILE
from shared.store import Store
from tests.acceptance.machine import wait_until
from tests.peers import fake_twilio, smsc
from tests.peers.npm import free_port
from tests.postgresql import PostgresqlServer

SVI = str(Path(sys.executable).with_name("svi"))
ACCOUNTS: Mapping[str, Mapping[str, str]] = {
    "twilio": {"account_sid": fake_twilio.ACCOUNT_SID, "auth_token": fake_twilio.TOKEN},
    "smpp": {"system_id": "caf", "password": "secret"},
}
SLOW_MS = 250  # at most, before a message is taken, and again before the answer
SHORT = {  # instead of D19's minutes
    "lease_seconds": 3,
    "uncertain_seconds": 1,
    "retry_seconds": 1,
    "retry_longest_seconds": 2,
}
TAKEN = {MessageState.ACCEPTED, MessageState.DELIVERED}
MOVING = {MessageState.QUEUED, MessageState.SENDING, MessageState.UNCERTAIN}


class Victim(Protocol):
    """What may be killed."""

    def kill(self) -> None:
        """Kill -9."""

    def start(self) -> None:
        """Start it again."""


Kind = Sequence[Victim]


class Program:
    """A process of its own, with a supervisor."""

    def __init__(self, command: Sequence[str], output: Path, **environment: str) -> None:
        self._command = command
        self._output = output
        self._environment = os.environ | environment
        self.start()

    def start(self) -> None:
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                # It ends with the tests, however these end.
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command],
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def supervise(self) -> None:
        """Start it again if it has ended: a gateway does where no database answers its start."""
        if self._process.poll() is not None:
            said = self._output.read_text("utf-8")
            assert "ready" not in said.splitlines(), "it ended by itself"
            self.start()


class Backend:
    """One process of a database server, whichever."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server

    def kill(self) -> None:
        self._server.kill_a_backend()

    def start(self) -> None:
        """The server itself does."""


@dataclass(frozen=True)
class Installation:
    """Gateways on one database, and the providers that they send by."""

    gateways: Sequence[Program]
    providers: Sequence[Program]
    ledgers: Sequence[Path]

    def supervise(self) -> None:
        """Have all of them running."""
        for program in (*self.gateways, *self.providers):
            program.supervise()

    def written(self) -> int:
        """Give how many messages the providers have noted that they took."""
        return sum(file.read_bytes().count(b"\n") for file in self.ledgers)

    def taken(self) -> Counter[tuple[str, str]]:
        """Count what the providers took, by destination and text."""
        lines = [line for file in self.ledgers for line in file.read_text("utf-8").splitlines()]
        return Counter((one["to"], one["body"]) for one in map(json.loads, lines))


@contextmanager
def installation(folder: Path, by: Sequence[str]) -> Iterator[Installation]:
    """Run one gateway for each name of a provider; `SVI_HOME` and the database are made already."""
    with ExitStack() as ends:

        def run(command: Sequence[str], name: str, **environment: str) -> Program:
            program = Program(command, folder / f"{name}.out", **environment)
            ends.callback(program.kill)
            return program

        ports = {name: free_port() for name in sorted(set(by))}
        ledgers = {name: folder / f"{name}.ledger" for name in ports}
        for ledger in ledgers.values():
            ledger.touch()
        providers = [run(_provider(name, ports[name], ledgers[name]), name) for name in ports]
        gateways = [
            run([SVI, "gateway"], f"gateway-{rank}", **_way(folder, name, ports[name]))
            for rank, name in enumerate(by)
        ]
        yield Installation(gateways, providers, list(ledgers.values()))


def _provider(name: str, port: int, ledger: Path) -> list[str]:
    if name == "smpp":
        return smsc.command(smsc.Behaviour(port=port, ledger=str(ledger), slow_ms=SLOW_MS))
    module = "tests.peers.lasting_twilio"
    return [sys.executable, "-m", module, str(port), str(ledger), str(SLOW_MS / 1000)]


def _way(folder: Path, name: str, port: int) -> dict[str, str]:
    """Give the settings of a gateway that sends by a provider."""
    account = folder / f"{name}.json"
    account.write_text(json.dumps(ACCOUNTS[name]))
    account.chmod(0o600)
    ports = {"SVI_GATEWAY_PORT": "0", "SVI_API_PORT": "0"}
    if name == "smpp":
        reach = {"SVI_SMPP_HOST": "127.0.0.1", "SVI_SMPP_PORT": str(port)}
        return ports | reach | {"SVI_SMPP_ACCOUNT": str(account)}
    reach = {"SVI_PUBLIC_URL": "https://sms.exemple.fr", "SVI_TWILIO_ACCOUNT": str(account)}
    return ports | reach | {"SVI_TWILIO_URL": f"http://127.0.0.1:{port}"}


def rules_with_short_waits(folder: Path) -> Path:
    """Write the rules with waits of D19 that a test can wait for."""
    text = DEFAULT_FILE.read_text("utf-8")
    for name, seconds in SHORT.items():
        text, found = re.subn(rf"(?m)^{name} = \d+", f"{name} = {seconds}", text)
        assert found == 1
    file = folder / "rules.toml"
    file.write_text(text, "utf-8")
    return file


@dataclass(frozen=True)
class Findings:
    """How often what was put to the test came about."""

    messages: int
    repeated: int
    taken_twice: int
    lost: int


def answer_for(
    store: Store, taken: Mapping[tuple[str, str], int], said: Mapping[UUID, tuple[str, str]]
) -> Findings:
    """Check every message against what the providers took; `said` is what was to be said to whom.

    D19 gives a message of unknown fate one more try. If that one is cut off too it ends as `lost`,
    for all to see: nothing else may be missing at the providers, and nothing else there twice.
    """
    assert taken.keys() <= set(said.values()), "something else was said than what was queued"
    unknown = _attempts(store, SendAttempt.ended_at.is_(None))
    unknown += _attempts(store, SendAttempt.result == Result.UNCERTAIN)
    # Known not to have gone when the message had been given up already.
    given_up = and_(Message.state == MessageState.LOST, SendAttempt.ended_at > Message.ended_at)
    unknown += _attempts(store, given_up)
    rows = _messages(store)
    assert {row.id for row in rows} == said.keys()
    for row in rows:
        times = taken.get(said[row.id], 0)
        assert row.state in (TAKEN if times else set()) | {MessageState.LOST}, (row.state, times)
        assert times <= 1 + row.repeated, (row.state, times)
        assert unknown[row.id] <= 2, row.state
        assert (row.state == MessageState.LOST) == (unknown[row.id] == 2), row.state
        assert row.text_sealed is row.destination_sealed is None
    return Findings(
        messages=len(rows),
        repeated=sum(row.repeated for row in rows),
        taken_twice=sum(times == 2 for times in taken.values()),
        lost=sum(row.state == MessageState.LOST for row in rows),
    )


def all_ended(store: Store) -> bool:
    """Say whether no message will move any more."""
    count = select(func.count()).select_from(Message).where(Message.state.in_(MOVING))
    with store.database.read() as transaction:
        return transaction.scalar(count) == 0


def patiently(action: Callable[[], object], seconds: float) -> None:
    """Do something as soon as the database lets us."""

    def done() -> bool:
        try:
            action()
        except StoreDownError:
            return False
        return True

    wait_until(done, seconds)


def _messages(store: Store) -> Sequence[Message]:
    with store.database.read() as transaction:
        return transaction.scalars(select(Message)).all()


def _attempts(store: Store, which: ColumnElement[bool]) -> Counter[UUID]:
    """Count attempts by their message."""
    with store.database.read() as transaction:
        of = select(SendAttempt.message_id).join(Message).where(which)
        return Counter(transaction.scalars(of))
