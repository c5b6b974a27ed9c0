"""Five hundred calls at once, many of which hang up: each reads its own dossier only (R39, D15)."""

import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, takewhile
from pathlib import Path
from threading import Barrier, Event, Semaphore
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from stdnum.fr.nir import calc_check_digits

from ivr import french
from ivr.server import VoiceServer
from ivr.simulated import HANG_UP, Faults, SimulatedCall
from shared import credentials, dossier, incident, sessions
from shared.credentials import Login
from shared.errors import SessionEndedError
from shared.models import (
    Account,
    AuditEntry,
    Base,
    CallRecord,
    Credential,
    CredentialOrigin,
    CredentialState,
    LoginSession,
    Person,
    Role,
    Situation,
)
from shared.origin import Origin
from shared.people import PersonData, seal_person
from shared.rules import Channel, CredentialKind
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import CAISSE, FakeClock, pay
from tests.telephony import rules_of_the_cut_over, running, script_with_silence

CALLERS = 500
CALLERS_BY_NIR = 150
HASTY = 0.5  # of them hang up at any command
COMMANDS = 40  # about as many as Asterisk gets in a call to its end
WAITING = 50  # callers in the menu when the incident is raised, of those who wait for it
AT_ONCE = 8  # calls that the store works for: on a slow machine too, none waits 5 s for a database
END_SECONDS = 500.0
AFTER_THE_CUT_OVER = datetime(2022, 4, 1, 9, 30, tzinfo=UTC)
CODE = "123456"
PAID, MENU, CLOSED = "dernier-paiement", "choix-dernier-paiement", "incident"

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Caller:
    """Somebody with a dossier, whose payment nobody else has."""

    rank: int
    account_id: UUID
    hangs_up_at: int | None  # the command of Asterisk's; None: listens to the end

    @property
    def number(self) -> str:
        return f"{self.rank:07}"

    @property
    def password(self) -> str:
        return f"{83_000_000 + 7_919 * self.rank}"

    @property
    def nir(self) -> str:
        return f"1850675{self.rank // 900 + 1:03}{self.rank % 900 + 1:03}"

    @property
    def cents(self) -> int:
        return 10_000 + 137 * self.rank

    @property
    def paid_on(self) -> date:
        return date(2020, 5, 2) + timedelta(days=self.rank)

    @property
    def payment(self) -> list[str]:
        """What is said of it."""
        return [*french.amount(self.cents), *french.date(self.paid_on)]

    def groups(self, *, by_nir: bool) -> list[str]:
        """What the caller types, question by question."""
        identified = ["1", self.nir + calc_check_digits(self.nir), CODE]
        return [CAISSE, *(identified if by_nir else [self.number, self.password]), "1", HANG_UP]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivr.server.POOL_SIZE", AT_ONCE)


@pytest.fixture
def callers(store: Store) -> list[Caller]:
    chance = random.Random(39)  # noqa: S311
    callers = [
        Caller(rank, uuid4(), chance.randrange(COMMANDS) if chance.random() < HASTY else None)
        for rank in range(CALLERS)
    ]
    with store.database.write() as transaction:
        transaction.add_all(_account(store, caller) for caller in callers)
        transaction.flush()
        for caller in callers:
            transaction.add_all(_rows(store, caller))
    for caller in callers:
        pay(store, caller.account_id, (caller.paid_on.isoformat(), caller.cents))
    return callers


def _account(store: Store, caller: Caller) -> Account:
    return Account(
        id=caller.account_id,
        caisse=CAISSE,
        number=caller.number,
        situation=Situation.AFFILIE,
        created_at=store.clock(),
    )


def _rows(store: Store, caller: Caller) -> Iterator[Base]:
    """Give the person and the password of a caller's dossier."""
    person_id = uuid4()
    data = PersonData(nir=caller.nir, mobile=f"+3361{caller.number}")
    sealed = seal_person(store.keys, person_id, data)
    yield Person(id=person_id, account_id=caller.account_id, role=Role.ALLOCATAIRE, **sealed)
    password = Credential(
        id=uuid4(),
        account_id=caller.account_id,
        kind=CredentialKind.PASSWORD,
        state=CredentialState.ACTIVE,
        origin=CredentialOrigin.GIVEN,
        created_at=store.clock(),
    )
    hashed = store.hasher.hash(Secret(caller.password))
    password.hash_sealed = credentials.seal_hash(store, password, hashed)
    yield password


class Crowd:
    """The callers, each a call of its own: nobody goes on before all are there."""

    def __init__(
        self,
        voice: VoiceServer,
        callers: Sequence[Caller],
        *,
        by_nir: bool = False,
        in_menu: Callable[[Caller], None] = lambda _: None,
    ) -> None:
        self._voice = voice
        self._by_nir = by_nir
        self._in_menu = in_menu
        self._all_there = Barrier(len(callers))
        self._callers = callers
        self._calls = [self._call(caller) for caller in callers]

    def wait_end(self) -> dict[Caller, list[str]]:
        """Give what each caller has heard, once every call has ended."""
        for call in self._calls:
            call.wait_end(END_SECONDS)
        heard = (call.heard for call in self._calls)
        return dict(zip(self._callers, heard, strict=True))

    def _call(self, caller: Caller) -> SimulatedCall:
        placed: Future[SimulatedCall] = Future()
        commands = count()

        def watch(command: str) -> None:
            number = next(commands)
            if number == 0:
                self._all_there.wait(END_SECONDS)
            if MENU in command:
                self._in_menu(caller)
            if number == caller.hangs_up_at:
                placed.result().hang_up()

        call = SimulatedCall(
            self._voice.address,
            caller=f"0199{caller.rank:06}",
            groups=caller.groups(by_nir=self._by_nir),
            faults=Faults(reply=watch),
        )
        placed.set_result(call)
        return call


@pytest.mark.parametrize("by_nir", [False, True], ids=["by number", "by NIR"])
def test_each_of_500_callers_reads_their_own_dossier(
    store: Store, clock: FakeClock, callers: list[Caller], tmp_path: Path, *, by_nir: bool
) -> None:
    if by_nir:
        callers = callers[:CALLERS_BY_NIR]
        clock.now = AFTER_THE_CUT_OVER
        rules = rules_of_the_cut_over(tmp_path)
        store = replace(store, rules=rules, chance=lambda _: int(CODE))
    with running(store, script_with_silence()) as server:
        heard = Crowd(server, callers, by_nir=by_nir).wait_end()
        server.stop(END_SECONDS)
    for caller, prompts in heard.items():
        told = payments(prompts)
        assert told == [caller.payment] or (told == [] and caller.hangs_up_at is not None)
    read = reads(store)
    stayed = {caller.account_id for caller in callers if caller.hangs_up_at is None}
    assert {one.dossier for one in read} >= stayed
    assert len(read) < len(callers)  # some hung up before
    assert all(one.dossier == one.session for one in read)
    if not by_nir:
        keyed = pseudonyms(store, callers)
        assert all(one.pseudonym == keyed[one.dossier] for one in read)


def test_sessions_that_are_forged_over_or_older_than_an_incident_read_nothing_beside_500_calls(
    store: Store, clock: FakeClock, callers: list[Caller]
) -> None:
    """The incident is raised in the middle; every second caller waits for it in the menu."""
    refused = sessions_of_no_use(store, clock, callers)
    live = log_in(store, callers[0])
    waiting, raised, over = Semaphore(0), Event(), Event()

    def wait_for_the_incident(caller: Caller) -> None:
        if waits(caller):
            waiting.release()
            raised.wait(END_SECONDS)

    with ExitStack() as stack:
        server = stack.enter_context(running(store, script_with_silence()))
        intruder = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(over.set)
        stack.callback(raised.set)
        tries = intruder.submit(try_to_read, store, refused, over)
        crowd = Crowd(server, callers, in_menu=wait_for_the_incident)
        for _ in range(WAITING):
            assert waiting.acquire(timeout=END_SECONDS)
        assert dossier.last_payment(store, live) is not None
        assert incident.raise_incident(store, incident.SERVICE)
        raised.set()
        with pytest.raises(SessionEndedError):
            dossier.last_payment(store, live)
        heard = crowd.wait_end()
        over.set()
        assert tries.result(END_SECONDS) > len(refused)
        server.stop(END_SECONDS)
    for caller, prompts in heard.items():
        told = payments(prompts)
        assert told == [] or (told == [caller.payment] and not waits(caller))
        if caller.hangs_up_at is None:
            assert told == [caller.payment] or CLOSED in prompts
    keyed = pseudonyms(store, callers)
    read = reads(store)
    in_calls = [one for one in read if one.call_id]
    assert all(one.dossier == one.session for one in in_calls)
    assert all(one.pseudonym == keyed[one.dossier] for one in in_calls)
    assert [one.dossier for one in read if not one.call_id] == [callers[0].account_id]  # `live`


def waits(caller: Caller) -> bool:
    return caller.rank % 2 == 1


def log_in(store: Store, caller: Caller) -> Session:
    login = Login(CAISSE, caller.number, Secret(caller.password))
    session = credentials.verify(store, login, Origin(Channel.VOICE, f"+33198{caller.number}"))
    assert isinstance(session, Session)
    return session


def sessions_of_no_use(store: Store, clock: FakeClock, callers: list[Caller]) -> list[Session]:
    """Give sessions that are too old, over, older than an incident, forged or altered."""
    before_an_incident = log_in(store, callers[-1])
    incident.raise_incident(store, incident.SERVICE)
    incident.lift(store, incident.SERVICE)
    long_ago = clock.now - timedelta(minutes=store.rules.session.minutes)
    expired = log_in(replace(store, clock=lambda: long_ago), callers[-2])
    ended = log_in(store, callers[-3])
    sessions.end(store, ended)
    good = log_in(store, callers[-4])
    return [
        expired,
        before_an_incident,
        ended,
        replace(good, token=secrets.token_bytes(32)),
        replace(good, account_id=callers[0].account_id),
        replace(before_an_incident, service_epoch=good.service_epoch),
    ]


def try_to_read(store: Store, refused: Sequence[Session], over: Event) -> int:
    """Try again and again until the calls are over; give how often it was tried."""
    tries = 0
    while not over.is_set():
        for session in refused:
            with pytest.raises(SessionEndedError):
                dossier.last_payment(store, session)
            tries += 1
    return tries


def payments(heard: Sequence[str]) -> list[list[str]]:
    """Give what was said of each payment that was heard: all until the menu comes again."""
    told = []
    for place, prompt in enumerate(heard):
        if prompt == PAID:
            rest = heard[place + 1 :]
            told.append(list(takewhile(lambda one: one != MENU, rest)))
    return told


class Read(NamedTuple):
    """A dossier that was read, by the audit; and what it was read with, by the other tables."""

    dossier: UUID
    call_id: str | None
    session: UUID  # the dossier that a session of the call was opened for
    pseudonym: str | None  # of the number keyed in the call


def reads(store: Store) -> list[Read]:
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(
                AuditEntry.account_id,
                AuditEntry.call_id,
                LoginSession.account_id,
                CallRecord.number_pseudonym,
            )
            .outerjoin(LoginSession, LoginSession.call_id == AuditEntry.call_id)
            .outerjoin(CallRecord, CallRecord.id == AuditEntry.call_id)
            .where(AuditEntry.event == "read-payments")
        )
        return [Read._make(row) for row in rows]


def pseudonyms(store: Store, callers: Sequence[Caller]) -> dict[UUID, str]:
    """Give by dossier what the records of its calls must name it by."""
    return {
        caller.account_id: store.keys.pseudonym(f"{CAISSE}/{caller.number}") for caller in callers
    }
