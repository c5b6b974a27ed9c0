"""Real calls with keys, from the first prompt to the record (a real Asterisk, SIP and RTP)."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from shared.models import LoginSession, ThrottleHit
from tests.acceptance.caller import Call, CallResult, HangUp, Pause, Step, Type, WaitForEnd
from tests.acceptance.conftest import Service
from tests.acceptance.machine import wait_until
from tests.store import CAISSE, PASSWORD, add_account, watch
from tests.telephony import (
    ANOTHER_WRONG,
    MENU,
    OTHER_WRONG,
    PAYMENT_HEARD,
    WRONG,
    add_dossier,
    records,
)

ASK_PASSWORD = ["mot-de-passe", "mot-de-passe-2", "mot-de-passe-3"]


@pytest.fixture(scope="module")
def numbers() -> Iterator[str]:
    """Give numéros d'allocataire that no other test uses."""
    return (f"{n:07}" for n in range(1_000_000, 2_000_000))


@pytest.fixture(scope="module")
def callers() -> Iterator[str]:
    """Give caller ids that no other test uses, in none of the dossiers."""
    return (f"01990{n:05}" for n in range(100_000))


def after_prompts(*answers: str) -> list[Step]:
    """Type each answer after listening for a while; the caller of a whole call.

    The longest prompts last 0.9 s; the first key leaves 0.4 s after its step begins.
    """
    return [step for answer in answers for step in (Pause(0.7), Type(answer))]


def test_a_caller_gets_in_and_hears_the_last_payment(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """R02, R38, D17, D18: département, number, password, last payment, goodbye."""
    number = next(numbers)
    add_dossier(service.store, number)
    result = service.call(
        *after_prompts(CAISSE, number, PASSWORD, "1", "*"), WaitForEnd(10), caller=next(callers)
    )
    read_back = ["vous-avez-tape", *(f"chiffre-{digit}" for digit in number)]
    assert result.ok
    assert result.ended_by == "asterisk"
    assert result.heard[:3] == ["accueil", "departement", "numero"]
    assert _in_order(result.heard, [*read_back[:3]])
    assert _in_order(result.heard, [*MENU[:2], *PAYMENT_HEARD[:3], "au-revoir"])
    record = records(service.store)[-1]
    assert (record.line, record.caisse, record.outcome) == ("3230", CAISSE, "authenticated")
    assert [step[0] for step in record.steps] == [
        "welcome",
        "department",
        "way_in",
        "identify",
        "authenticate",
        "password_notice",
        "alerts",
        "main_menu",
        "last_payment",
        "main_menu",
        "goodbye",
    ]
    assert number not in str(record.number_pseudonym)


def test_the_payment_is_said_to_the_cent_and_the_year(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """D17: a caller who lets everything be said hears every word of the amount and the date."""
    number = next(numbers)
    add_dossier(service.store, number)
    result = service.call(
        Pause(1), Type(CAISSE + number + PASSWORD + "1"), Pause(3), HangUp(), caller=next(callers)
    )
    start = result.heard.index("dernier-paiement")
    assert result.heard[start : start + len(PAYMENT_HEARD)] == PAYMENT_HEARD


def test_every_refusal_is_alike(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """D05, D07: wrong three times, unknown number, locked and right: no difference."""
    known, locked, unknown = next(numbers), next(numbers), next(numbers)
    add_dossier(service.store, known)
    add_dossier(service.store, locked)
    _lock_out_strangers(service, locked, callers)
    heard, operations, hashes = [], [], []
    for number, passwords in (
        (known, [WRONG, OTHER_WRONG, ANOTHER_WRONG, PASSWORD]),
        (unknown, [PASSWORD, OTHER_WRONG, ANOTHER_WRONG, PASSWORD]),
        (locked, [PASSWORD, PASSWORD, PASSWORD, PASSWORD]),
    ):
        statements = watch(service.store.database)
        before = service.hasher.compared + service.hasher.pretended
        [result] = _log_in(service, number, passwords, [next(callers)])
        heard.append(result.heard)
        operations.append(Counter(statements))
        hashes.append(service.hasher.compared + service.hasher.pretended - before)
        assert records(service.store)[-1].outcome == "refused"
    words = [[p for p in prompts if not p.startswith("chiffre-")] for prompts in heard]
    assert words[0] == words[1] == words[2]
    assert words[0].count("identification-refusee") == 3
    assert words[0][-3:] == [
        "identification-impossible",
        "transfert-conseiller",
        "conseiller-attente",
    ]
    assert operations[0] == operations[1] == operations[2]
    assert hashes == [3, 3, 3]


def test_typing_without_a_pause_loses_no_key_in_100_calls(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """D18: département, number, password and choice in one go, over every prompt."""
    keys = [CAISSE + next(numbers) + PASSWORD + "1" for _ in range(100)]
    for typed in keys:
        add_dossier(service.store, typed[2:9])
    before = len(records(service.store))
    results = service.calls(
        [
            Call([Pause(0.3), Type(typed), Pause(3), HangUp()], caller=next(callers))
            for typed in keys
        ]
    )
    assert all(result.ok for result in results)
    assert [result.keys for result in results] == keys
    assert sum("dernier-paiement" in result.heard for result in results) == 100
    wait_until(lambda: len(records(service.store)) == before + 100)
    assert Counter(r.outcome for r in records(service.store)[before:]) == {"authenticated": 100}


STEPS = {
    "before any key": [],
    "within the département": ["7"],
    "after the département": [CAISSE],
    "within the number": [CAISSE, "012"],
    "after the number": [CAISSE, "0000001"],
    "within the password": [CAISSE, "0000001", "839"],
    "after a wrong password": [CAISSE, "0000001", WRONG],
    "at « mot de passe oublié »": [CAISSE, "0000001", "#"],
    "in the menu": [CAISSE, "{number}", PASSWORD],
    "while the payment is said": [CAISSE, "{number}", PASSWORD, "1"],
}


def test_a_hang_up_leaves_nothing_behind(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """No thread, no session, no transaction of a call outlives it, wherever it was."""
    before = len(records(service.store))
    alike = defaultdict(list)  # the calls of one run have the same kinds of steps
    for answers in STEPS.values():
        number = next(numbers)
        add_dossier(service.store, number)
        typed = after_prompts(*(answer.format(number=number) for answer in answers))
        call = Call([*typed, Pause(0.5), HangUp()], caller=next(callers))
        alike[len(answers)].append(call)
    with ThreadPoolExecutor(len(alike)) as pool:
        results = [result for run in pool.map(service.calls, alike.values()) for result in run]
    assert [result.ended_by for result in results] == ["caller"] * len(STEPS)
    _nothing_left(service)
    outcomes = [
        (record.outcome, "main_menu" in [step[0] for step in record.steps])
        for record in records(service.store)[before:]
    ]
    got_in = sum("{number}" in answers for answers in STEPS.values())
    assert Counter(outcomes) == {
        ("authenticated", True): got_in,
        ("abandoned", False): len(STEPS) - got_in,
    }


def test_a_hang_up_while_the_password_is_compared_stays_counted(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """D05: a reservation is a full count; a right password compared too late opens no session."""
    number, caller = next(numbers), next(callers)
    add_dossier(service.store, number)
    comparing, gone = threading.Event(), threading.Event()

    def wait_for_the_hang_up() -> None:
        comparing.set()
        gone.wait(20)

    hits = _hits(service)
    service.hasher.meanwhile = wait_for_the_hang_up
    try:
        service.call(Pause(0.5), Type(CAISSE + number + WRONG), Pause(0.2), HangUp(), caller=caller)
        assert comparing.wait(5)
        assert service.voice.calls_in_progress == 1
    finally:
        service.hasher.meanwhile = lambda: None
        gone.set()
    _nothing_left(service)
    assert _hits(service) == hits + 3


def test_the_owner_of_the_phone_on_file_gets_in_while_strangers_are_locked_out(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """D05: five failures from unknown callers leave the caller id on file its own five."""
    number = next(numbers)
    add_account(service.store, number, mobile="+33611111111")
    _lock_out_strangers(service, number, callers)
    stranger, owner = _log_in(service, number, [PASSWORD], [next(callers), "0611111111"])
    assert "choix-dernier-paiement" not in stranger.heard
    assert "choix-dernier-paiement" in owner.heard
    outcomes = [record.outcome for record in records(service.store)[-2:]]
    assert Counter(outcomes)["authenticated"] == 1


HOSTILE_NAMES = {
    "quotes": rb"\" onload=\"x",
    "shell": b"${SHELL(id)}",
    "function": b"${CURL(http://127.0.0.1/)}",
    "cut utf-8": "é".encode()[:1],
    "long": b"x" * 3_000,
}


def test_a_hostile_caller_name_changes_nothing(
    service: Service, numbers: Iterator[str], callers: Iterator[str]
) -> None:
    """Caller names are written by an attacker."""
    calls = []
    for _ in HOSTILE_NAMES:
        number = next(numbers)
        add_dossier(service.store, number)
        steps: list[Step] = [Type(CAISSE + number + PASSWORD + "1"), Pause(1), HangUp()]
        calls.append([Call(steps, caller=next(callers))])
    with ThreadPoolExecutor(len(calls)) as pool:
        results = pool.map(service.calls, calls, HOSTILE_NAMES.values())
    heard = {kind: result.heard for kind, [result] in zip(HOSTILE_NAMES, results, strict=True)}
    assert [kind for kind in heard if "dernier-paiement" not in heard[kind]] == []


def test_no_password_and_no_number_is_left_anywhere(service: Service) -> None:
    """D12, D13: after all the calls above, in no log, event, CDR, record or database file."""
    wait_until(lambda: service.voice.calls_in_progress == 0)
    typed = [PASSWORD, WRONG, OTHER_WRONG, ANOTHER_WRONG]
    written = {
        path: path.read_bytes()
        for path in service.home.rglob("*")
        if path.is_file() and path.suffix != ".wav"
    }
    names = {path.name for path in written}
    assert {"svi.db", "voice.log", "messages", "appels.csv"} <= names
    assert len(service.witness.seen) > 0
    for secret in typed:
        spaced = " ".join(secret).encode()
        for path, content in written.items():
            assert secret.encode() not in content, path
            assert spaced not in content, path
        assert secret.encode() not in service.witness.seen
    for path, content in written.items():
        if not path.name.startswith("svi.db"):  # D13: in clear in `account` only
            assert b"1000001" not in content, path
            assert b"+33611111111" not in content, path
            assert b"0611111111" not in content, path


def _log_in(
    service: Service, number: str, passwords: list[str], callers: list[str]
) -> list[CallResult]:
    """Have every caller try the passwords one after the other, all callers at the same time."""
    before = len(records(service.store))
    tries = [step for password in passwords for step in (Pause(0.4), Type(password))]
    steps = [*after_prompts(CAISSE, number), Pause(0.5), *tries, WaitForEnd(1.5)]
    results = service.calls([Call(steps, caller=caller) for caller in callers])
    wait_until(lambda: len(records(service.store)) == before + len(callers))
    return results


def _lock_out_strangers(service: Service, number: str, callers: Iterator[str]) -> None:
    """Fail from unknown callers, more often than five times (D05)."""
    wrong = [WRONG, OTHER_WRONG, ANOTHER_WRONG]
    _log_in(service, number, wrong, [next(callers), next(callers)])


def _nothing_left(service: Service) -> None:
    wait_until(lambda: service.voice.calls_in_progress == 0)
    pool = service.store.database.engine.pool
    assert pool.checkedout() == 0  # type: ignore[attr-defined]
    with service.store.database.read() as transaction:
        assert (
            transaction.scalar(
                select(func.count())
                .select_from(LoginSession)
                .where(LoginSession.ended_at.is_(None))
            )
            == 0
        )
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if "_serve" in name]


def _hits(service: Service) -> int:
    with service.store.database.read() as transaction:
        counted = select(func.count()).select_from(ThrottleHit).where(ThrottleHit.counted)
        return transaction.scalar(counted) or 0


def _in_order(heard: list[str], wanted: list[str]) -> bool:
    """Say whether the wanted prompts were heard in this order, others between them or not."""
    rest = iter(heard)
    return all(prompt in rest for prompt in wanted)
