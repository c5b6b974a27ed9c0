"""A new sealing key while the service goes on: no login is lost, no old key is left (D13)."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, func, select, update
from structlog.testing import capture_logs

from shared import credentials, idempotency, key_check, rotation
from shared.before import Change, note
from shared.credentials import NOBODY
from shared.day_keys import MARK
from shared.errors import SealError, SettingsError
from shared.files import write_whole
from shared.idempotency import Answer, Request
from shared.keyring import KeyRing, prefix
from shared.models import AuditEntry, Base, Credential, Person
from shared.origin import Origin
from shared.people import PersonData, open_person
from shared.resets import request_password
from shared.rules import Channel, CredentialKind
from shared.sessions import Session
from shared.store import Store
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, FakeClock, add_account, execute, log_in
from tests.web import (
    CLAIRE,
    add_dossier,
    add_person,
    make_web_account,
    web,
)

ACCOUNTS = 30
RENEWED = datetime(2021, 11, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


def _no_wait(_seconds: float) -> None:
    return


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the key ring."""
    return tmp_path / "keys.json"


@pytest.fixture
def live(store: Store, keys: KeyRing, path: Path) -> Store:
    """A store whose key ring follows its file, as a process's does."""
    return store


def _fill(store: Store) -> None:
    """Put something into every sealed column."""
    account_id = add_dossier(store)
    add_person(store, account_id, PersonData(surname="Petit", landline="+33141111111"))
    make_web_account(store)
    request_password(store, CAISSE, NUMBER, Origin(Channel.WEB))
    key_check.check(store)
    idempotency.once(store, Request("caf.fr", "k" * 16, "x"), lambda: Answer(200, b"{}"))
    with store.database.write() as transaction:
        person = transaction.scalars(select(Person).limit(1)).one()
        note(store, transaction, Change("contacts-changed", store.clock(), web(), person))


def _versions(store: Store) -> dict[str, set[bytes]]:
    """Give the versions that the values of every sealed column are under."""
    found = {}
    with store.database.read() as transaction:
        for table in Base.metadata.tables.values():
            for column in table.columns:
                if column.name.endswith("_sealed"):
                    start = func.substr(column, 1, 2, type_=LargeBinary)
                    values = transaction.scalars(select(start).where(column.is_not(None)))
                    found[f"{table.name}.{column.name}"] = set(values)
    return found


def test_every_sealed_column_is_in_the_table() -> None:
    columns = {
        (name, column.name)
        for name, table in Base.metadata.tables.items()
        for column in table.columns
        if column.name.endswith("_sealed")
    }
    assert {(one.model.__tablename__, one.column) for one in rotation.TABLE} == columns


def test_everything_is_under_the_new_key_and_the_old_one_is_gone(live: Store, path: Path) -> None:
    _fill(live)
    before = _versions(live)
    rotated = rotation.rotate(live, path, wait=_no_wait)
    assert (rotated.version, rotated.damaged) == (2, 0)
    after = _versions(live)
    assert after == {
        column: {MARK if column.startswith("message.") else prefix(2)} if found else set()
        for column, found in before.items()
    }
    assert list(KeyRing.load(path).sealing) == [2]
    assert not path.with_name("keys.json.before").exists()
    assert isinstance(log_in(live), Session)


def test_values_open_as_before(live: Store, path: Path) -> None:
    add_dossier(live)
    rotation.rotate(live, path, wait=_no_wait)
    with live.database.read() as transaction:
        assert open_person(live.keys, transaction.scalars(select(Person)).one()) == CLAIRE


def test_a_second_rotation(live: Store, path: Path) -> None:
    add_account(live)
    rotation.rotate(live, path, wait=_no_wait)
    assert rotation.rotate(live, path, wait=_no_wait).version == 3
    assert isinstance(log_in(live), Session)


def test_a_process_that_runs_learns_the_new_key_by_itself(live: Store, path: Path) -> None:
    add_account(live)
    other = KeyRing.load(path)
    rotation.rotate(live, path, wait=_no_wait)
    with live.database.read() as transaction:
        credential = transaction.scalars(select(Credential)).one()
        owner_id = credential.account_id or NOBODY
        found = credentials.usable(transaction.connection(), owner_id, CredentialKind.PASSWORD)
        (phc,) = credentials.open_hashes(live, found)
    binding = ("credential", str(credential.account_id), str(credential.id), "password")
    assert other.open(credential.hash_sealed, *binding).decode() == phc
    assert other.seal(b"x", "y").startswith(prefix(2))


def test_a_key_is_known_before_it_is_used(live: Store, path: Path) -> None:
    """So that its file can be copied to other machines first."""
    assert rotation.add_key(live.keys, path) == 2
    assert live.keys.seal(b"x", "y").startswith(prefix(1))
    with pytest.raises(SettingsError, match="un changement est en cours"):
        rotation.add_key(live.keys, path)
    add_account(live)
    assert rotation.rotate(live, path, wait=_no_wait).version == 2


def test_an_add_knows_of_the_one_before(keys: KeyRing, path: Path) -> None:
    """Else its key would take the place of one that was copied to other machines."""
    other = KeyRing.load(path)
    rotation.add_key(keys, path)
    with pytest.raises(SettingsError, match="un changement est en cours"):
        rotation.add_key(other, path)
    assert KeyRing.load(path).sealing == keys.sealing


# What changes the key ring; two at once would each lose what the other wrote.
CHANGES: list[Callable[[Store, Path], object]] = [
    lambda store, path: rotation.add_key(store.keys, path),
    lambda store, path: rotation.rotate(store, path, wait=_no_wait),
    lambda store, path: rotation.renew_pseudonyms(store.keys, path, RENEWED),
    lambda _, path: KeyRing.create(path),
]


@pytest.mark.parametrize("change", CHANGES, ids=["add", "rotate", "pseudonyms", "create"])
def test_one_command_at_a_time_changes_the_keys(
    live: Store, path: Path, change: Callable[[Store, Path], object]
) -> None:
    add_account(live)

    def meanwhile(_seconds: float) -> None:
        other = replace(live, keys=KeyRing.load(path))
        with pytest.raises(SettingsError, match="une autre commande"):
            change(other, path)

    before = KeyRing.load(path)
    assert rotation.rotate(live, path, wait=meanwhile).version == 2
    after = KeyRing.load(path)
    assert (list(after.sealing), after.pseudonyms) == ([2], before.pseudonyms)
    assert isinstance(log_in(live), Session)


def test_what_a_killed_change_left_is_deleted(live: Store, path: Path) -> None:
    """A key that is destroyed is nowhere any more, nor in what was to become the file."""
    left = path.with_name(".keys.json.x1y2z3")
    left.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    rotation.rotate(live, path, wait=_no_wait)
    assert [one.name for one in path.parent.glob(".*")] == []


def test_what_is_damaged_is_counted_and_holds_nothing_up(live: Store, path: Path) -> None:
    for number in range(3):
        add_account(live, f"{number:07}")
    with live.database.read() as transaction:
        damaged = transaction.scalars(select(Credential.id).order_by(Credential.id).limit(1)).one()
    spoilt = update(Credential).where(Credential.id == damaged)
    execute(live, lambda t: t.execute(spoilt.values(hash_sealed=prefix(1) + bytes(40))))
    rotated = rotation.rotate(live, path, wait=_no_wait)
    assert (rotated.damaged, rotated.resealed) == (1, 2 + 3 + 3)  # hashes, mobiles, payments


def test_a_value_sealed_late_under_the_old_key_is_found(live: Store, path: Path) -> None:
    """By a process that had not yet seen the file when the first sweep was over."""
    slow = KeyRing.load(path)
    slow.path = None  # it does not look

    def meanwhile(_seconds: float) -> None:
        slow_store = Store(live.database, slow, live.rules, live.hasher, live.clock)
        if not list(_versions(live)["credential.hash_sealed"]):
            add_account(slow_store)

    rotation.rotate(live, path, wait=meanwhile)
    assert isinstance(log_in(live), Session)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_what_is_held_through_every_sweep_is_waited_for(
    live: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the old key would be dropped while a value is still under it."""
    add_account(live)
    lock = select(Credential.id).with_for_update()
    holders = ExitStack()

    def hold() -> None:
        holders.close()
        holders.enter_context(live.database.begin()).execute(lock)

    def wait(seconds: float) -> None:
        if seconds != rotation.GRACE_SECONDS:
            holders.close()

    monkeypatch.setattr(rotation, "_wait_for_transactions", lambda *_: hold())
    hold()
    with holders:
        assert rotation.rotate(live, path, wait=wait).damaged == 0
    assert isinstance(log_in(live), Session)


def test_two_threads_that_learn_of_a_key_at_once_both_seal_under_it(
    keys: KeyRing, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the second would use a key that may be gone by now."""
    other, load = KeyRing.load(path), KeyRing.load
    sealed: list[bytes] = []

    def interrupted(path: Path) -> KeyRing:
        monkeypatch.setattr(KeyRing, "load", load)
        sealed.append(other.seal(b"x", "y"))
        return load(path)

    rotation.add_key(keys, path)
    keys.current = 2
    keys.save(path)
    monkeypatch.setattr(KeyRing, "load", interrupted)
    sealed.append(other.seal(b"x", "y"))
    assert [one.startswith(prefix(2)) for one in sealed] == [True, True]


def test_another_installation_s_key_ring_is_not_taken(keys: KeyRing, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    sealed = keys.seal(b"x", "y")
    path.unlink()
    KeyRing.create(path)
    assert keys.open(sealed, "y") == b"x"


def test_a_file_damaged_while_we_run_changes_nothing(keys: KeyRing, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{", encoding="utf-8")
    assert keys.open(keys.seal(b"x", "y"), "y") == b"x"


def test_a_dropped_key_opens_nothing(live: Store, path: Path) -> None:
    sealed = live.keys.seal(b"x", "y")
    rotation.rotate(live, path, wait=_no_wait)
    with pytest.raises(SealError):
        live.keys.open(sealed, "y")


def test_pseudonyms_of_before_lead_to_nobody(keys: KeyRing, path: Path) -> None:
    other = KeyRing.load(path)
    known = keys.pseudonym("92/0000354")
    rotation.renew_pseudonyms(keys, path, RENEWED)
    assert keys.pseudonym("92/0000354") == other.pseudonym("92/0000354") != known
    assert (other.pseudonyms_since, KeyRing.load(path).pseudonyms_since) == (RENEWED, RENEWED)
    assert KeyRing.load(path).sealing == other.sealing


def _audited(store: Store) -> list[tuple[str, str | None]]:
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(AuditEntry.event, AuditEntry.actor).order_by(AuditEntry.id)
        )
        return [(event, actor) for event, actor in rows]


def test_a_rotation_is_audited(live: Store, path: Path) -> None:
    rotation.rotate(live, path, wait=_no_wait)
    rotation.rotate(live, path, wait=_no_wait)
    assert _audited(live) == [("keys-rotated", "key:2"), ("keys-rotated", "key:3")]


def test_a_new_key_of_the_pseudonyms_is_audited_once(
    live: Store, path: Path, clock: FakeClock
) -> None:
    """D16: by the services, which learn of it from the file."""
    expected = []
    for _ in range(2):
        clock.advance(timedelta(days=30))
        rotation.renew_pseudonyms(KeyRing.load(path), path, clock.now)
        expected.append(("pseudonyms-renewed", f"since:{clock.now.isoformat()}"))
        for _ in range(3):
            rotation.note_pseudonyms(live)
            clock.advance(timedelta(hours=1))
    assert _audited(live) == expected


def _note_pseudonyms(store: Store, _rank: int) -> None:
    rotation.note_pseudonyms(store)


def test_of_several_services_one_audits_the_key(place: Place) -> None:
    with closing(place.open()) as store:
        rotation.renew_pseudonyms(store.keys, place.keys, store.clock())
        run_together(place, 4, _note_pseudonyms)
        assert [event for event, _ in _audited(store)] == ["pseudonyms-renewed"]


AGES = [
    # age of the key              alarm
    (timedelta(0), False),
    (timedelta(days=32), False),
    (timedelta(days=32) + MOMENT, True),
]


@pytest.mark.parametrize(("age", "alarm"), AGES)
def test_after_a_month_the_alarm_of_the_pseudonyms_sounds(
    store: Store, keys: KeyRing, path: Path, clock: FakeClock, age: timedelta, *, alarm: bool
) -> None:
    """D16: also when the ring was renewed by a command, beside the service."""
    rotation.renew_pseudonyms(KeyRing.load(path), path, clock.now)
    clock.advance(age)
    with capture_logs() as logs:
        rotation.warn_of_pseudonyms(store)
    assert [entry["event"] for entry in logs] == ["pseudonym_key_overdue"] * alarm


def test_a_key_of_unknown_age_is_overdue(path: Path, store: Store) -> None:
    """As in the rings of earlier versions."""
    ring = json.loads(path.read_text(encoding="utf-8"))
    del ring["pseudonyms_since"]
    write_whole(path, json.dumps(ring), mode=0o600)
    old = KeyRing.load(path)
    assert rotation.pseudonyms_overdue(old, store.rules.retention, store.clock())


def test_no_login_is_lost_while_two_processes_log_in(url: str, keys: KeyRing, path: Path) -> None:
    place = Place(url, path)
    with closing(place.open()) as store:
        for number in range(ACCOUNTS):
            add_account(store, f"{number:07}")
        context = multiprocessing.get_context("fork")
        done = context.Event()
        ends = [context.Pipe(duplex=False) for _ in range(2)]
        counts = [context.Value("i") for _ in ends]
        processes = [
            context.Process(target=_log_in_until, args=(place, done, sending, rank, counts[rank]))
            for rank, (_, sending) in enumerate(ends)
        ]
        for process in processes:
            process.start()
        assert all(receiving.recv() == "begun" for receiving, _ in ends)

        def wait_for_what_began_before(_seconds: float) -> None:
            began = [count.value for count in counts]
            while any(now.value < before + 2 for now, before in zip(counts, began, strict=True)):
                assert all(process.is_alive() for process in processes)
                time.sleep(0.01)

        rotation.rotate(store, path, wait=wait_for_what_began_before)
        done.set()
        results = [receiving.recv() for receiving, _ in ends]
        for process in processes:
            process.join()
        assert all(tried > 0 and tried == opened for tried, opened in results), results
        assert all(found <= {prefix(2)} for found in _versions(store).values())


def _log_in_until(
    place: Place, done: Event, report: Connection, rank: int, count: "Synchronized[int]"
) -> None:
    tried = opened = 0
    with closing(place.open()) as store:
        while not done.is_set():
            number = f"{(2 * tried + rank) % ACCOUNTS:07}"
            caller = f"+3319900{rank}{tried % 1000:03}"
            opened += isinstance(log_in(store, number=number, caller_id=caller), Session)
            tried += 1
            count.value = tried
            if tried == 1:
                report.send("begun")
    report.send((tried, opened))


def test_a_rotation_that_is_killed_is_ended_by_the_next(
    url: str, keys: KeyRing, path: Path
) -> None:
    place = Place(url, path)
    with closing(place.open()) as store:
        for number in range(ACCOUNTS):
            add_account(store, f"{number:07}")
        for delay in (0.02, 0.1, 0.3):
            process = multiprocessing.get_context("fork").Process(target=_rotate, args=(place,))
            process.start()
            time.sleep(delay)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            assert isinstance(log_in(store, number="0000003"), Session)
        rotation.rotate(store, path, wait=_no_wait)
        assert len(KeyRing.load(path).sealing) == 1
        newest = prefix(store.keys.current)
        assert all(found <= {newest} for found in _versions(store).values())
        for number in range(ACCOUNTS):
            caller = f"+3319900{number:04}"
            assert isinstance(log_in(store, number=f"{number:07}", caller_id=caller), Session)


def _rotate(place: Place) -> None:
    rotation.BATCH = 3
    with closing(place.open()) as store:
        rotation.rotate(store, place.keys, wait=_no_wait)
