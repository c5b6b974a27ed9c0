"""Calls in progress when an incident is raised: who is moved, what is heard and recorded (D15).

The simulated Asterisk ends the AGI session of a call that it moves as a hang-up does; the call
that comes back is a connection of its own. A real one: tests/acceptance/test_moved_calls.py.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from stdnum.fr.nir import calc_check_digits
from structlog.testing import capture_logs

from ivr import incidents
from ivr.ami import AsteriskDownError
from ivr.hub import Hub
from ivr.incidents import IncidentWatch
from ivr.script import Script
from ivr.server import VoiceServer
from ivr.simulated import Ending, SimulatedCall
from shared import incident
from shared.errors import StoreDownError
from shared.models import LoginSession
from shared.rules import Channel
from shared.store import Store
from tests.store import CAISSE, NUMBER, PASSWORD, FakeClock
from tests.telephony import (
    add_dossier,
    records,
    rules_of_the_cut_over,
    running,
)
from tests.unit.test_one_time import CUT_OVER
from tests.web import NIR
from tests.web import add_dossier as add_owner

END_SECONDS = 20.0
CODE = "123456"
KEYED = NIR + calc_check_digits(NIR)
OTHER_NUMBER = "7654321"
VOICE = incident.CHANNEL + Channel.VOICE
WEB = incident.CHANNEL + Channel.WEB
HERE = incident.CAISSE + CAISSE
ELSEWHERE = incident.CAISSE + "92"
ANNOUNCED = ["incident", "transfert-conseiller"]
STANDING = incident.standing  # before it is watched


@dataclass
class Switch:
    """Moves calls when it is told to; counts what is asked of it and of the incident switch."""

    calls: dict[str, SimulatedCall] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    looks: int = 0
    failing: str = ""
    gone: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    hold: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    def move(self, channel: str, caisse: str) -> bool:
        """Do what AmiLink.announce_incident does."""
        self._tell(lambda: self.asked.append((channel, caisse)))
        assert self.hold.wait(END_SECONDS)
        if self.failing:
            raise AsteriskDownError(self.failing)
        if not self.gone:
            self.calls[channel].hang_up()
        return not self.gone

    def look(self, store: Store) -> list[incident.Raised]:
        """Do what `incident.standing` does."""
        raised = STANDING(store)
        self._tell(lambda: setattr(self, "looks", self.looks + 1))
        return raised

    def wait_asked(self, times: int = 1) -> None:
        self._wait(lambda: len(self.asked) >= times)

    def wait_looks(self) -> None:
        """Wait for a look that began from now on, and for what came of it."""
        end = self.looks + 3
        self._wait(lambda: self.looks >= end)

    def _tell(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, END_SECONDS), "it did not happen in time"


@dataclass
class Service:
    """A voice server whose calls the switch can move."""

    store: Store
    voice: VoiceServer
    switch: Switch

    def call(self, *groups: str) -> SimulatedCall:
        call = SimulatedCall(self.voice.address, groups=groups, patient=True)
        self.switch.calls[call.channel] = call
        return call

    def come_back(self, call: SimulatedCall, caisse: str = CAISSE) -> SimulatedCall:
        """Have the dialplan connect again for a call that was moved."""
        assert call.wait_end(END_SECONDS) is Ending.CALLER
        return SimulatedCall(self.voice.address, moved=caisse, patient=True)

    def outcomes(self) -> list[str]:
        self.voice.stop(END_SECONDS)
        return [record.outcome for record in records(self.store)]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """The switch, asked about incidents twenty times a second."""
    switch = Switch()
    monkeypatch.setattr(incidents, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(incident, "standing", switch.look)
    return switch


def serving(store: Store, script: Script, switch: Switch) -> Iterator[Service]:
    server = VoiceServer(store, script, move=switch.move)
    server.start()
    try:
        yield Service(store, server, switch)
    finally:
        switch.hold.set()
        server.stop(0)


@pytest.fixture
def service(store: Store, script: Script, switch: Switch) -> Iterator[Service]:
    add_dossier(store)
    yield from serving(store, script, switch)


@pytest.fixture
def after(
    store: Store, script: Script, switch: Switch, tmp_path: Path, clock: FakeClock
) -> Iterator[Service]:
    """After the cut-over, where every code is the same; Claire has two dossiers of the caisse."""
    clock.now = CUT_OVER
    later = replace(store, rules=rules_of_the_cut_over(tmp_path), chance=lambda _: int(CODE))
    add_owner(later)
    add_owner(later, OTHER_NUMBER)
    yield from serving(later, script, switch)


# What the caller keyed, what is being heard, and whether an incident stops that.
BEFORE_THE_CUT_OVER = {
    "the département": ([], "departement", False),
    "the number": ([CAISSE], "numero", True),
    "the password": ([CAISSE, NUMBER], "mot-de-passe", True),
    "« mot de passe oublié »": ([CAISSE, NUMBER, "#"], "oubli-confirmer", True),
    "the menu": ([CAISSE, NUMBER, PASSWORD], "menu-touches", True),
    "the payment": ([CAISSE, NUMBER, PASSWORD, "1"], "dernier-paiement", True),
}
AFTER_THE_CUT_OVER = {
    "that the login has changed": ([CAISSE], "identification-changee", False),
    "the NIR": ([CAISSE, "1"], "nir", True),
    "the code": ([CAISSE, "1", KEYED], "code", True),
    "another code": ([CAISSE, "1", KEYED, "#"], "code-confirmer", True),
    "which dossier": ([CAISSE, "1", KEYED, CODE], "dossier-autre", True),
    "the menu of a person": ([CAISSE, "1", KEYED, CODE, "1"], "choix-dernier-paiement", True),
}


def check_moved(service: Service, groups: list[str], heard: str, *, moved: bool) -> None:
    with service.call(*groups) as call:
        call.wait_heard(heard, END_SECONDS)
        incident.raise_incident(service.store, incident.SERVICE)
        if moved:
            assert call.wait_end(END_SECONDS) is Ending.CALLER
        else:
            service.switch.wait_looks()
    assert service.switch.asked == ([(call.channel, CAISSE)] if moved else [])
    assert service.outcomes() == ["closed" if moved else "abandoned"]


@pytest.mark.parametrize(
    ("groups", "heard", "moved"), BEFORE_THE_CUT_OVER.values(), ids=BEFORE_THE_CUT_OVER.keys()
)
def test_who_is_moved_while_hearing(
    service: Service, groups: list[str], heard: str, *, moved: bool
) -> None:
    """D15: who is in a dossier or on the way in; nobody else."""
    check_moved(service, groups, heard, moved=moved)


@pytest.mark.parametrize(
    ("groups", "heard", "moved"), AFTER_THE_CUT_OVER.values(), ids=AFTER_THE_CUT_OVER.keys()
)
def test_who_is_moved_after_the_cut_over_while_hearing(
    after: Service, groups: list[str], heard: str, *, moved: bool
) -> None:
    check_moved(after, groups, heard, moved=moved)


@pytest.mark.parametrize(
    ("scope", "moved"),
    [(incident.SERVICE, True), (VOICE, True), (HERE, True), (WEB, False), (ELSEWHERE, False)],
)
def test_only_callers_of_the_scope_are_moved(service: Service, scope: str, *, moved: bool) -> None:
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, scope)
        if moved:
            service.switch.wait_asked()
        else:
            service.switch.wait_looks()
            call.type("1")
            call.wait_heard("dernier-paiement", END_SECONDS)
    assert service.outcomes() == ["closed" if moved else "authenticated"]


def test_who_was_moved_hears_why_and_reaches_the_adviser_of_the_caisse(
    service: Service, script: Script
) -> None:
    """D15: whichever process of the service the call comes back to."""
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, HERE)
        with running(service.store, script) as neighbour:
            elsewhere = replace(service, voice=neighbour)
            with elsewhere.come_back(call) as moved:
                assert moved.wait_end(END_SECONDS) is Ending.DIALPLAN
            neighbour.stop(END_SECONDS)
    assert moved.heard == ANNOUNCED
    assert moved.variables == {"SVI_NEXT": "adviser", "SVI_PLATFORM": f"caisse-{CAISSE}"}
    assert service.outcomes() == ["closed", "closed"]
    by_steps = {tuple(step for step, *_ in one.steps): one for one in records(service.store)}
    second = by_steps["session_ended", "incident", "adviser"]
    assert (second.line, second.caisse) == ("3230", CAISSE)
    with service.store.database.read() as transaction:
        still_open = select(func.count()).where(LoginSession.ended_at.is_(None))
        assert transaction.scalars(still_open).one() == 0


def test_lifted_meanwhile_the_caller_logs_in_anew(service: Service) -> None:
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, VOICE)
        call.wait_end(END_SECONDS)
        incident.lift(service.store, VOICE)
        with service.come_back(call) as moved:
            moved.wait_heard("numero", END_SECONDS)
    assert moved.heard == ["identification-terminee", "numero"]


def test_a_call_that_comes_back_is_not_moved_again(service: Service) -> None:
    incident.raise_incident(service.store, VOICE)
    with SimulatedCall(service.voice.address, moved=CAISSE, patient=True) as moved:
        service.switch.calls[moved.channel] = moved
        assert moved.wait_end(END_SECONDS) is Ending.DIALPLAN
    assert service.switch.asked == []


def test_a_caisse_that_there_is_not_comes_from_no_dialplan_of_ours(service: Service) -> None:
    incident.raise_incident(service.store, VOICE)
    with SimulatedCall(service.voice.address, moved="96", patient=True) as moved:
        moved.wait_end(END_SECONDS)
    assert moved.variables["SVI_PLATFORM"] == "caisse-inconnue"


def test_nobody_is_taken_away_from_an_adviser(service: Service) -> None:
    """A call that goes on by itself waits until Asterisk has said whether it moved it."""
    service.switch.hold.clear()
    service.switch.gone = True
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, incident.SERVICE)
        service.switch.wait_asked()
        call.type("0")
        call.wait_heard("transfert-conseiller", END_SECONDS)
        with pytest.raises(TimeoutError):
            call.wait_end(0.3)
        service.switch.hold.set()
        assert call.wait_end(END_SECONDS) is Ending.DIALPLAN
    assert len(service.switch.asked) == 1
    assert service.outcomes() == ["transferred"]


def test_who_hangs_up_at_that_moment_was_not_moved(service: Service) -> None:
    """The record says what happened."""
    service.switch.hold.clear()
    service.switch.gone = True
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, incident.SERVICE)
        service.switch.wait_asked()
        call.hang_up()
        service.switch.hold.set()
        call.wait_end(END_SECONDS)
    assert service.outcomes() == ["authenticated"]


def test_without_the_manager_it_is_told_at_the_next_access(service: Service) -> None:
    """D15: one line is logged, however often the manager is asked."""
    service.switch.failing = "the manager is away"
    with capture_logs() as logs, service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, incident.SERVICE)
        service.switch.wait_asked(3)
        call.type("1")
        assert call.wait_end(END_SECONDS) is Ending.DIALPLAN
    assert call.heard[-2:] == ANNOUNCED
    told = [entry["why"] for entry in logs if entry["event"] == "calls_not_moved"]
    assert told == ["the manager is away"]
    assert service.outcomes() == ["closed"]


def test_a_manager_that_comes_back_moves_them(service: Service) -> None:
    service.switch.failing = "the manager is away"
    with service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        incident.raise_incident(service.store, incident.SERVICE)
        service.switch.wait_asked(2)
        service.switch.failing = ""
        assert call.wait_end(END_SECONDS) is Ending.CALLER
    assert service.outcomes() == ["closed"]


def test_a_database_away_at_a_look_is_asked_at_the_next(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(["away", "away"])

    def look(store: Store) -> list[incident.Raised]:
        if why := next(failures, None):
            raise StoreDownError(why)
        return service.switch.look(store)

    with capture_logs() as logs, service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        monkeypatch.setattr(incident, "standing", look)
        incident.raise_incident(service.store, incident.SERVICE)
        assert call.wait_end(END_SECONDS) is Ending.CALLER
    assert next(failures, None) is None
    assert [one["why"] for one in logs if one["event"] == "calls_not_moved"] == ["away"]


@pytest.mark.parametrize("broken", ["the look", "the move"])
def test_a_fault_of_ours_ends_neither_the_watch_nor_a_call(
    service: Service, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    faults = [RuntimeError("a bug")] * 2

    def break_twice(act: Callable[..., object]) -> Callable[..., object]:
        def act_or_break(*arguments: object) -> object:
            if faults:
                raise faults.pop()
            return act(*arguments)

        return act_or_break

    with capture_logs() as logs, service.call(CAISSE, NUMBER, PASSWORD) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        if broken == "the look":
            monkeypatch.setattr(incident, "standing", break_twice(service.switch.look))
        else:
            monkeypatch.setattr(service.voice._watch, "_move", break_twice(service.switch.move))
        incident.raise_incident(service.store, incident.SERVICE)
        assert call.wait_end(END_SECONDS) is Ending.CALLER
    assert len([one for one in logs if one["log_level"] == "error"]) == 2
    assert service.outcomes() == ["closed"]


def test_without_calls_nothing_is_asked(store: Store, switch: Switch) -> None:
    class Ticks(threading.Event):
        """Three times a second has gone by, then it is over."""

        def __init__(self) -> None:
            super().__init__()
            self.left = 3

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == incidents.LOOK_SECONDS
            self.left -= 1
            return self.left < 0

    with closing(Hub()) as hub:
        watch = IncidentWatch(store, hub, {}, switch.move)
        watch._stopping = Ticks()
        watch._run()
    assert switch.looks == 0
