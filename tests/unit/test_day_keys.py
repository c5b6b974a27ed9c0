"""Keys of the day: what a message said is gone from every copy with its key (D12, D16)."""

import json
import multiprocessing
import os
import re
import shutil
import signal
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared import outbox, rotation
from shared.day_keys import HEAD_BYTES, DayKeys
from shared.errors import SealError, StoreDownError
from shared.keyring import VERSION_BYTES
from shared.models import Message, MessageState
from shared.origin import Origin
from shared.outbox import Rendered, Report, Result
from shared.resets import request_password
from shared.retention import drop_day_keys
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.gateway import MOBILE, PASSWORD, VERSION, message, queue
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, FakeClock, add_account, execute, log_in

TODAY = date(2021, 11, 2)
DAY = timedelta(days=1)
BINDING = ("message", "1", "text")
COLUMNS = ("destination", "content", "text")

Sealed = dict[tuple[UUID, str], bytes]
"""What a copy of a database holds of messages: values by row and column."""


@pytest.fixture
def days(tmp_path: Path) -> DayKeys:
    return DayKeys(tmp_path / "day-keys")


def render(_template: str, variables: object) -> Rendered:
    return Rendered(json.dumps(variables), VERSION)


def accept(store: Store) -> None:
    """Have a provider take all that waits."""
    for claimed in outbox.claim(store, "file", render, 100):
        assert outbox.finish(store, claimed, Report(Result.ACCEPTED, provider_id="SM1"), 0)


# The proof: a copy made before, everything that there is after


def backup(store: Store, folder: Path) -> Sealed:
    """Copy the database as it is, its write-ahead log included; give what the copy holds."""
    if not store.database.sqlite:  # as pg_dump would: its rows
        with store.database.begin() as connection:
            return _held(connection)
    saved = folder / "backup"
    saved.mkdir()
    for path in folder.glob("store.db*"):
        shutil.copyfile(path, saved / path.name)
    assert (saved / "store.db-wal").stat().st_size > 0
    with closing(sa.create_engine(f"sqlite:///{saved / 'store.db'}").connect()) as connection:
        return _held(connection)


def _held(connection: sa.Connection) -> Sealed:
    rows = connection.execute(sa.select(Message.__table__)).mappings().all()
    return {
        (row["id"], column): row[f"{column}_sealed"]
        for row in rows
        for column in COLUMNS
        if row[f"{column}_sealed"] is not None
    }


def thief(home: Path, copy: Sealed) -> set[str]:
    """Try every key in any file of a home on every value of a copy; give what opens."""
    written = b"\n".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    keys = {b64decode(found) for found in re.findall(rb"[A-Za-z0-9+/]{43}=", written)}
    assert len(keys) >= 3  # those of the ring
    return {
        opened
        for key in keys
        for (row, column), sealed in copy.items()
        for opened in _tried(key, sealed, ("message", str(row), column))
    }


def _tried(key: bytes, sealed: bytes, binding: tuple[str, ...]) -> Iterator[str]:
    for length in (VERSION_BYTES, HEAD_BYTES):
        head, nonce, rest = sealed[:length], sealed[length : length + 12], sealed[length + 12 :]
        try:
            opened = AESGCM(key).decrypt(nonce, rest, head + json.dumps(binding).encode())
        except InvalidTag:
            continue
        yield opened.decode()


def test_with_the_key_of_its_day_what_a_message_said_is_gone_from_every_copy(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    queue(store)
    queued = backup(store, tmp_path)
    secrets = {MOBILE, json.dumps({"password": PASSWORD})}
    assert thief(tmp_path, queued) == secrets  # while the message is under way
    accept(store)
    clock.advance(2 * DAY)
    drop_day_keys(store)
    queue(store, "27182818")  # the keys of other days do not help
    assert thief(tmp_path, queued) == set()
    for (row, column), sealed in queued.items():
        with pytest.raises(SealError, match="the key of its day is gone"):
            store.keys.days.open(sealed, "message", str(row), column)


def test_a_copy_made_while_it_is_sent_tells_nothing_either(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    """The text, as the first claim has written it down."""
    queue(store)
    [claimed] = outbox.claim(store, "file", render, 1)
    sending = backup(store, tmp_path)
    assert thief(tmp_path, sending) == {MOBILE, claimed.text.reveal()}
    assert outbox.finish(store, claimed, Report(Result.ACCEPTED), 0)
    clock.advance(2 * DAY)
    drop_day_keys(store)
    assert thief(tmp_path, sending) == set()


# When a key is dropped


def waits(store: Store, state: MessageState = MessageState.QUEUED) -> None:
    """Have a message that lives as long as a letter."""
    queued = queue(store)
    expires_at = store.clock() + store.rules.reset.letter_days * DAY
    change = sa.update(Message).where(Message.id == queued)
    execute(store, lambda t: t.execute(change.values(state=state, expires_at=expires_at)))


def went(store: Store) -> None:
    queue(store)
    accept(store)


LIVES: dict[str, tuple[Callable[[Store], object], timedelta, bool]] = {
    # what became of a message of today        how long ago             is its key still there?
    "none, today": (lambda _: None, timedelta(0), True),
    "none, the day after": (lambda _: None, DAY, True),
    "none, two days after": (lambda _: None, 2 * DAY, False),
    "none, the clock set back by a day": (lambda _: None, -DAY, True),
    "none, the clock set back by two": (lambda _: None, -2 * DAY, False),
    "none, the clock ten years ahead": (lambda _: None, 3650 * DAY, False),
    "it waits": (waits, 9 * DAY, True),
    "it waits, the clock set back": (waits, -9 * DAY, True),
    "it waits, its life is over": (waits, 10 * DAY, False),
    "it is being sent": (lambda store: waits(store, MessageState.SENDING), 9 * DAY, True),
    "nobody knows": (lambda store: waits(store, MessageState.UNCERTAIN), 9 * DAY, True),
    "the printer never confirmed it": (
        lambda store: waits(store, MessageState.SENDING),
        10 * DAY,
        False,
    ),
    "it went": (went, 2 * DAY, False),
    "it went, yesterday": (went, DAY, True),
}


@pytest.mark.parametrize(("happens", "later", "kept"), LIVES.values(), ids=LIVES)
def test_when_a_key_is_dropped(
    store: Store,
    clock: FakeClock,
    happens: Callable[[Store], object],
    later: timedelta,
    *,
    kept: bool,
) -> None:
    store.keys.days.key(TODAY)
    happens(store)
    clock.advance(later)
    drop_day_keys(store)
    assert store.keys.days.days() == ({TODAY} if kept else set())


@pytest.mark.parametrize("column", COLUMNS)
def test_one_column_holds_its_key(store: Store, clock: FakeClock, column: str) -> None:
    waits(store)
    others = {f"{name}_sealed": None for name in COLUMNS}
    sealed = store.keys.days.seal(TODAY, b"x", *BINDING)
    values = {**others, f"{column}_sealed": sealed}
    execute(store, lambda t: t.execute(sa.update(Message).values(values)))
    clock.advance(3 * DAY)
    drop_day_keys(store)
    assert store.keys.days.days() == {TODAY}


def test_what_is_under_no_day_holds_no_key_and_stops_nothing(
    store: Store, clock: FakeClock
) -> None:
    """A damaged value, and one of a version before there were keys of the day."""
    waits(store)
    old = {"content_sealed": b"\0\0damaged", "destination_sealed": store.keys.seal(b"x", "y")}
    execute(store, lambda t: t.execute(sa.update(Message).values(old)))
    clock.advance(3 * DAY)
    drop_day_keys(store)
    assert store.keys.days.days() == set()


def test_a_message_sealed_before_midnight_and_kept_after_it_goes_out(
    store: Store, clock: FakeClock
) -> None:
    clock.now = datetime(2021, 11, 2, 23, 59, 59, tzinfo=UTC)
    queued = queue(store)
    sealed = message(store, queued).content_sealed
    execute(store, lambda t: t.execute(sa.update(Message).values(content_sealed=None)))
    clock.advance(DAY)  # the day after begins and ends
    drop_day_keys(store)
    execute(store, lambda t: t.execute(sa.update(Message).values(content_sealed=sealed)))
    content = outbox.opened(store, message(store, queued), "content")
    assert json.loads(content) == {"password": PASSWORD}


def test_a_day_that_comes_again_has_another_key(store: Store, clock: FakeClock) -> None:
    """The clock was set back, beyond a day whose key is gone: that one does not come back."""
    sealed = store.keys.days.seal(TODAY, b"x", *BINDING)
    clock.advance(5 * DAY)
    drop_day_keys(store)
    clock.advance(-5 * DAY)
    queued = queue(store)
    with pytest.raises(SealError):
        store.keys.days.open(sealed, *BINDING)
    accept(store)
    assert message(store, queued).state == MessageState.ACCEPTED


# Loss


def test_without_the_key_of_their_day_messages_are_refused_and_nothing_else(
    store: Store, clock: FakeClock
) -> None:
    add_account(store)
    lost = queue(store)
    clock.advance(DAY - timedelta(hours=1))
    sound = queue(store)
    store.keys.days.drop(TODAY)
    with structlog.testing.capture_logs() as logs:
        accept(store)
    assert message(store, lost).state == MessageState.REFUSED
    assert message(store, sound).state == MessageState.ACCEPTED
    assert [(line["event"], line["why"]) for line in logs] == [
        ("message_refused", "the key of its day is gone")
    ]
    assert isinstance(log_in(store), Session)


@pytest.mark.parametrize("left", [b"", b"half a k", b"\xe4\xff"])
def test_a_damaged_key_is_like_a_lost_one_and_holds_nothing_up(
    store: Store, clock: FakeClock, left: bytes
) -> None:
    lost = queue(store)
    clock.advance(DAY - timedelta(hours=1))
    sound = queue(store)
    (store.keys.days.folder / TODAY.isoformat()).write_bytes(left)
    accept(store)
    assert message(store, lost).state == MessageState.REFUSED
    assert message(store, sound).state == MessageState.ACCEPTED


@pytest.mark.parametrize("left", [b"", b"half a k", b"\xe4\xff"])
def test_under_a_damaged_key_nothing_is_promised(days: DayKeys, left: bytes) -> None:
    days.key(TODAY)
    file = days.folder / TODAY.isoformat()
    file.write_bytes(left)
    with pytest.raises(StoreDownError, match=f"{file}: clé du jour abîmée"):
        days.seal(TODAY, b"plain", *BINDING)
    file.unlink()
    assert days.open(days.seal(TODAY, b"plain", *BINDING), *BINDING) == b"plain"


def test_a_name_that_leads_nowhere_is_a_damaged_key(days: DayKeys) -> None:
    days.folder.mkdir()
    (days.folder / TODAY.isoformat()).symlink_to("nowhere")
    with pytest.raises(StoreDownError, match="clé du jour abîmée"):
        days.key(TODAY)


def test_while_keys_can_not_be_read_messages_wait(store: Store) -> None:
    queued = queue(store)
    file = store.keys.days.folder / TODAY.isoformat()
    file.chmod(0o640)
    with pytest.raises(StoreDownError, match="chmod 600"):
        outbox.claim(store, "file", render, 1)
    assert message(store, queued).state == MessageState.QUEUED
    file.chmod(0o600)
    accept(store)
    assert message(store, queued).state == MessageState.ACCEPTED


def test_where_no_key_can_be_made_nothing_is_promised(store: Store) -> None:
    add_account(store)
    store.keys.days.folder.write_text("")  # full, read-only, or not what it should be
    with pytest.raises(StoreDownError, match="clés du jour inutilisables"):
        request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE))
    with store.database.read() as transaction:
        assert transaction.scalar(sa.select(sa.func.count()).select_from(Message)) == 0


def test_a_rotation_of_the_key_ring_leaves_messages_alone(store: Store, tmp_path: Path) -> None:
    queued = queue(store)
    before = message(store, queued)
    rotated = rotation.rotate(store, tmp_path / "keys.json", wait=lambda _: None)
    after = message(store, queued)
    assert (rotated.resealed, rotated.damaged) == (0, 0)
    assert (after.content_sealed, after.destination_sealed) == (
        before.content_sealed,
        before.destination_sealed,
    )
    accept(store)
    assert message(store, queued).state == MessageState.ACCEPTED


# What is sealed, and the files


def test_a_value_opens_only_where_and_when_it_was_sealed(days: DayKeys) -> None:
    sealed = days.seal(TODAY, b"x", *BINDING)
    days.key(TODAY + DAY)
    assert days.open(sealed, *BINDING) == b"x"
    for elsewhere in (("message", "2", "text"), ("message", "1", "content"), ("message", "1")):
        with pytest.raises(SealError):
            days.open(sealed, *elsewhere)
    another_day = sealed.replace(b"2021-11-02", b"2021-11-03")
    for altered in (another_day, sealed[:-1], sealed[:HEAD_BYTES], sealed[:5], b""):
        with pytest.raises(SealError):
            days.open(altered, *BINDING)


def test_its_files_are_their_owner_s_alone(days: DayKeys) -> None:
    days.key(TODAY)
    [file] = days.folder.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (days.folder, file)] == [0o700, 0o600]


def test_a_key_that_one_process_dropped_opens_nothing_in_another(tmp_path: Path) -> None:
    one, other = DayKeys(tmp_path / "day-keys"), DayKeys(tmp_path / "day-keys")
    sealed = one.seal(TODAY, b"x", *BINDING)
    assert other.open(sealed, *BINDING) == b"x"
    one.drop(TODAY)
    one.drop(TODAY)  # somebody else may have done so just now
    with pytest.raises(SealError):
        other.open(sealed, *BINDING)


def _seal_days(store: Store, _rank: int) -> list[bytes]:
    days = store.keys.days
    return [days.seal(TODAY + n * DAY, b"x", *BINDING) for n in range(50)]


def test_processes_that_meet_at_midnight_make_one_key(place: Place) -> None:
    sealed = [one for each in run_together(place, 4, _seal_days) for one in each]
    with closing(place.open()) as store:
        assert [store.keys.days.open(one, *BINDING) for one in sealed] == [b"x"] * 200
        assert len(list(store.keys.days.folder.iterdir())) == 50


def _killed_at(step: str, days: DayKeys) -> None:
    """Make a key, and be killed when it comes to that step."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, step, die)
    days.key(TODAY)


@pytest.mark.parametrize("step", ["fchmod", "fsync", "link", "unlink"])
def test_a_maker_that_is_killed_leaves_a_whole_key_or_none(days: DayKeys, step: str) -> None:
    days.folder.mkdir()
    process = multiprocessing.get_context("fork").Process(target=_killed_at, args=(step, days))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert days.days() == ({TODAY} if step == "unlink" else set())
    sealed = days.seal(TODAY, b"x", *BINDING)
    assert days.open(sealed, *BINDING) == b"x"
    days.drop(TODAY)
    assert list(days.folder.iterdir()) == []  # the part that was left held the key, too
