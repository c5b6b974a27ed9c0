"""Real calls in progress when an incident is raised by the command: who is moved (D15)."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from shared import incident
from shared.database import Database
from shared.models import LoginSession
from svi.__main__ import cli
from svi.demo import DOSSIERS
from tests.acceptance.caller import Call, CallResult, Pause, Step, Type, WaitForEnd
from tests.acceptance.conftest import Service, running_service
from tests.acceptance.machine import free_port, wait_until
from tests.acceptance.up import Up, build_voice_of_tones
from tests.store import CAISSE, PASSWORD
from tests.telephony import PAYMENT_HEARD, add_dossier, records

ANNOUNCED = ["incident", "transfert-conseiller", "conseiller-attente"]
CALL_SECONDS = 20.0
OTHER_CAISSE = "92"
MANY = 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of their own: what is closed here is closed to every call."""
    with running_service(tmp_path_factory.mktemp("moved")) as service:
        yield service


def typing(*answers: str) -> list[Step]:
    """Type each answer after listening for a while."""
    return [step for answer in answers for step in (Pause(0.7), Type(answer))]


def svi(service: Service, *arguments: str) -> None:
    """Run `svi incident` in the service's home."""
    home = {"SVI_HOME": str(service.home)}
    done = CliRunner(env=home).invoke(cli, ["incident", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@contextmanager
def closed(service: Service, *scope: str) -> Iterator[None]:
    """Close a scope as an operator does, as long as the block runs."""
    svi(service, "raise", *scope)
    try:
        yield
    finally:
        svi(service, "lift", *scope)


def opened(service: Service) -> int:
    """Count the sessions ever opened."""
    return _opened(service.store.database)


def _opened(database: Database) -> int:
    with database.read() as transaction:
        return transaction.scalars(select(func.count()).select_from(LoginSession)).one()


def interrupted(
    service: Service, calls: Sequence[Call], ready: Callable[[], object], *scope: str
) -> list[CallResult]:
    """Place calls, close the scope when they are `ready`, and give what was heard to their end."""
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(service.calls, calls)
        wait_until(ready, CALL_SECONDS)
        with closed(service, *scope):
            return calling.result()


def in_the_menu(service: Service, numbers: Sequence[str], *then: Step) -> list[Call]:
    """Callers who log in, and then do this or only listen."""
    for number in numbers:
        add_dossier(service.store, number)
    listening = [*then, WaitForEnd(CALL_SECONDS)]
    return [
        Call([*typing(CAISSE, number, PASSWORD), *listening], caller=f"0199{n}")
        for n, number in enumerate(numbers, start=200_001)
    ]


@pytest.mark.parametrize(
    ("number", "scope"),
    [
        ("6000001", []),
        ("6000002", ["--channel", "voice"]),
        ("6000003", ["--caisse", CAISSE]),
    ],
    ids=["the service", "the telephone", "the caisse"],
)
def test_a_listening_caller_hears_it_and_reaches_an_adviser(
    service: Service, number: str, scope: list[str]
) -> None:
    """D15: without a key, and nothing of an apology; both records of the call say why it ended."""
    before, calls = opened(service), len(records(service.store))
    [result] = interrupted(
        service, in_the_menu(service, [number]), lambda: opened(service) > before, *scope
    )
    assert result.heard[-3:] == ANNOUNCED
    assert "excuse-technique" not in result.heard
    assert result.ended_by == "asterisk"
    wait_until(lambda: len(records(service.store)) == calls + 2)
    first, second = records(service.store)[-2:]
    assert [first.outcome, second.outcome] == ["closed", "closed"]
    assert [step for step, *_ in second.steps] == ["session_ended", "incident", "adviser"]
    assert [(one.line, one.caisse) for one in (first, second)] == [("3230", CAISSE)] * 2


def test_a_caller_of_another_caisse_is_left_alone(service: Service) -> None:
    """D15: and reads the dossier as if nothing was."""
    before = opened(service)
    calls = in_the_menu(service, ["6000011"], Pause(3), Type("1"), Pause(5), Type("*"))
    [result] = interrupted(
        service, calls, lambda: opened(service) > before, "--caisse", OTHER_CAISSE
    )
    at = result.heard.index("dernier-paiement")
    assert result.heard[at : at + len(PAYMENT_HEARD)] == PAYMENT_HEARD
    assert result.heard[-1] == "au-revoir"
    assert "incident" not in result.heard


def test_a_caller_who_said_nothing_yet_is_left_alone(service: Service) -> None:
    """D15: general information stays open; who then wants in is told at the door."""
    call = Call([Pause(4), Type(CAISSE), WaitForEnd(CALL_SECONDS)])
    [result] = interrupted(service, [call], lambda: service.voice.calls_in_progress == 1)
    assert result.heard[:3] == ["accueil", "departement", "rien-entendu"]
    assert result.heard[-3:] == ANNOUNCED
    wait_until(lambda: service.voice.calls_in_progress == 0)
    assert records(service.store)[-1].steps[0][0] == "welcome"


def test_twenty_callers_are_all_moved(service: Service) -> None:
    """D15: each hears why, at once."""
    before, calls = opened(service), len(records(service.store))
    numbers = [f"61000{n:02}" for n in range(MANY)]
    results = interrupted(
        service, in_the_menu(service, numbers), lambda: opened(service) == before + MANY
    )
    assert [result.heard[-3:] for result in results] == [ANNOUNCED] * MANY
    wait_until(lambda: len(records(service.store)) == calls + 2 * MANY)
    assert Counter(one.outcome for one in records(service.store)[calls:]) == {"closed": 2 * MANY}


def test_raised_again_it_moves_again(service: Service) -> None:
    """D15: whoever got in since it was lifted."""
    svi(service, "raise")
    svi(service, "lift")
    before = opened(service)
    [result] = interrupted(
        service, in_the_menu(service, ["6000021"]), lambda: opened(service) > before
    )
    assert result.heard[-3:] == ANNOUNCED


def test_without_the_manager_it_is_told_at_the_next_access(service: Service) -> None:
    """D15: the last test here, since the link stays closed."""
    service.link.close()
    before, calls = opened(service), len(records(service.store))
    [result] = interrupted(
        service,
        in_the_menu(service, ["6000031"], Pause(3.5), Type("1")),
        lambda: opened(service) > before,
    )
    assert result.heard[-3:] == ANNOUNCED
    assert "dernier-paiement" not in result.heard
    wait_until(lambda: len(records(service.store)) > calls)
    [record] = records(service.store)[calls:]
    assert (record.outcome, record.steps[-3][0]) == ("closed", "session_ended")
    assert incident.standing(service.store) == []


def test_svi_up_moves_its_calls(tmp_path: Path) -> None:
    """D15: as one uses it: whoever listens when the command closes the service."""
    home = tmp_path / "home"
    build_voice_of_tones(home)
    first = DOSSIERS[0]
    keys = Type(first.department + first.number + first.password)
    with Up(home, free_port(socket.SOCK_DGRAM)) as up:
        up.wait_ready(60)
        with ThreadPoolExecutor(1) as pool:
            calling = pool.submit(up.calls, Call([Pause(1), keys, WaitForEnd(2 * CALL_SECONDS)]))
            wait_until(up.live, CALL_SECONDS)
            database = Database(f"sqlite:///{home / 'svi.db'}")
            wait_until(lambda: _opened(database), CALL_SECONDS)
            database.close()
            up.svi("incident", "raise")
            [result] = calling.result()
        wait_until(lambda: len(up.records()) == 2, CALL_SECONDS)
        outcomes = [record["outcome"] for record in up.records()]
    assert result.heard[-3:] == ANNOUNCED
    assert outcomes == ["closed", "closed"]
