"""What a service does by itself, now and then: tidy, seal, sound the alarms (D16, R25)."""

import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from click.testing import CliRunner
from sqlalchemy import func, select

from shared.errors import StoreDownError
from shared.letters.status import warn_of_late
from shared.models import AuditEntry, Message, Priority
from shared.store import Store
from svi import service
from svi.__main__ import cli
from tests.store import FakeClock, execute

SECONDS = 60.0  # for what happens by itself to have happened
HOUR = timedelta(hours=1)

Lines = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TIDY_SECONDS", 0.01)
    monkeypatch.setattr(service, "SEAL_SECONDS", 0.01)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextmanager
def _kept(store: Store) -> Iterator[Lines]:
    with structlog.testing.capture_logs() as lines, service.housekeeping(store):
        yield lines


def _events(lines: Lines) -> set[str]:
    return {line["event"] for line in lines}


def _letter(store: Store) -> None:
    now = store.clock()
    letter = Message(
        id=uuid4(),
        route="letter",
        template="letter-password",
        priority=Priority.PASSWORD,
        known_caller=False,
        state="queued",
        created_at=now,
        expires_at=now + 240 * HOUR,
        next_at=now,
    )
    execute(store, lambda t: t.add(letter))


def test_the_alarm_of_late_letters_sounds_by_itself(store: Store, clock: FakeClock) -> None:
    """R25: nobody has to run a command for it."""
    _letter(store)
    clock.advance(72 * HOUR)
    with _kept(store) as lines:
        _until(lambda: "letter_overdue" in _events(lines))
    assert next(line for line in lines if line["event"] == "letter_overdue")["letters"] == 1


def test_letters_in_time_sound_no_alarm(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Store] = []

    def counted(looking: Store) -> None:
        warn_of_late(looking)
        looked.append(looking)

    monkeypatch.setattr(service, "warn_of_late", counted)
    _letter(store)
    clock.advance(72 * HOUR - timedelta(microseconds=1))
    with _kept(store) as lines:
        _until(lambda: len(looked) > 2)
    assert "letter_overdue" not in _events(lines)


def test_the_alarm_of_an_old_pseudonym_key_sounds_by_itself(store: Store, clock: FakeClock) -> None:
    """D16: of a key that was made in the clock's past."""
    store.keys.pseudonyms_since = clock.now - timedelta(days=33)
    with _kept(store) as lines:
        _until(lambda: "pseudonym_key_overdue" in _events(lines))


def test_a_new_pseudonym_key_is_audited_by_itself(store: Store, clock: FakeClock) -> None:
    """D15, D16: the command that renews it has no database."""
    store.keys.pseudonyms_since = clock.now - HOUR

    def audited() -> int | None:
        renewed = select(func.count()).where(AuditEntry.event == "pseudonyms-renewed")
        with store.database.read() as transaction:
            return transaction.scalar(renewed)

    with _kept(store):
        _until(audited)


def test_keys_of_days_gone_by_are_destroyed_by_themselves(store: Store, clock: FakeClock) -> None:
    """D12, D16: a service that runs leaves no backup readable for long."""
    today = clock.now.date()
    store.keys.days.key(today)
    clock.advance(48 * HOUR)
    with _kept(store):
        _until(lambda: today not in store.keys.days.days())


def test_what_has_more_to_do_goes_on_after_a_pause(store: Store) -> None:
    """In which whoever waits gets its turn; after a fault it is left for the next time (D16)."""
    waits: list[float] = []
    answers = iter([True, True, StoreDownError("away"), True, False, None, 7])

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return len(waits) > 7

    def work(_: Store) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    service._repeat(work, store, 3600, Stop())
    soon = service.NEXT_SECONDS
    assert waits == [3600, soon, soon, 3600, soon, 3600, 3600, 3600]


@pytest.mark.parametrize(
    ("fault", "why"), [(StoreDownError("away"), "away"), (KeyError("ours"), None)]
)
def test_a_fault_is_told_once_until_it_works_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, why: str | None
) -> None:
    """And one of ours ends nothing: its text, which may hold anything, is not told."""
    done: list[bool] = []

    def seal(_: Store) -> None:
        done.append(len(done) in {2, 3, 4, 6})
        if done[-1]:
            raise fault

    monkeypatch.setattr(service, "seal_new", seal)
    with _kept(store) as lines:
        _until(lambda: len(done) > 8)
    told = [line for line in lines if line["event"] == "housekeeping_failed"]
    assert [(line["work"], line.get("why")) for line in told] == [("seal", why)] * 2


def test_a_gateway_alone_keeps_house(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API's rows of the audit are sealed though no voice server runs."""
    sealed: list[Store] = []

    def seal(store: Store) -> None:
        sealed.append(store)

    async def serve(*_: object) -> None:
        _until(lambda: sealed)

    for name, value in {
        "SVI_HOME": str(tmp_path / "home"),
        "SVI_DATABASE_URL": url,
        "SVI_KEYS": str(tmp_path / "keys.json"),
        "SVI_DEMO": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shared.logs.configure", lambda _: None)
    monkeypatch.setattr("svi.gateway._serve", serve)
    monkeypatch.setattr(service, "seal_new", seal)
    result = CliRunner().invoke(cli, ["gateway"])
    assert (result.exit_code, result.exception) == (0, None)
