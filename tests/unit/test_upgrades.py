"""Upgrades of databases with rows in every table, from every earlier schema."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import date
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from threading import Event
from typing import Any, NoReturn, cast

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shared import (
    agent_tasks,
    apikeys,
    audit_seal,
    bascule,
    campaigns,
    client_codes,
    client_messages,
    codes,
    credentials,
    dossier,
    feed,
    idempotency,
    incident,
    key_check,
    opt_outs,
    outbox,
    processing_delays,
    rotation,
    schema,
    sessions,
    web_accounts,
)
from shared import database as database_module
from shared.agent_tasks import Kind, Task
from shared.contacts import Contact
from shared.credentials import Login, Refusal
from shared.database import Database
from shared.errors import DrainedError, StoreDownError, StoreError
from shared.idempotency import Answer, Request
from shared.keyring import KeyRing
from shared.letters import status
from shared.models import Base, Credential, Message, MessageState, Person, Route
from shared.origin import Origin
from shared.outbox import Rendered
from shared.people import Address, PersonData, open_person
from shared.rules import Channel, Identifier, Rules
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder, WebLogin
from tests import api, earlier
from tests.earlier import Row, fill
from tests.store import STRANGER, CountingHasher, FakeClock

SECONDS = 60  # for another process or thread to get somewhere
CUT_EVERY = 17  # statements: an upgrade has hundreds

Dump = dict[str, list[str]]


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    """A database without tables."""
    with closing(Database(empty_url)) as database:
        yield database


@pytest.fixture
def store(database: Database, keys: KeyRing, rules: Rules, clock: FakeClock) -> Store:
    """A store on that database."""
    return Store(database, keys, rules, CountingHasher(), clock)


every_revision = pytest.mark.parametrize("revision", schema.revisions())


@every_revision
def test_every_row_is_still_there_in_the_tables_of_the_models(
    database: Database, keys: KeyRing, revision: str
) -> None:
    rows = fill(database, keys, revision)
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        for name, table in Base.metadata.tables.items():
            assert _contents(connection, table) == _expected(table, rows), name


def test_constraints_and_indexes_are_those_of_the_models(database: Database, keys: KeyRing) -> None:
    """Alembic does not compare checks, nor the conditions of indexes."""
    oldest, *_ = schema.revisions()
    fill(database, keys, oldest)
    database.migrate()
    with database.begin() as connection:
        upgraded = _shape(connection)
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        assert upgraded == _shape(connection)


@every_revision
def test_everything_means_what_it_meant(store: Store, tmp_path: Path, revision: str) -> None:
    rows = fill(store.database, store.keys, revision)
    store.database.migrate()
    rotated = rotation.rotate(store, tmp_path / "keys.json", wait=lambda _: None)
    sealed = [name for row in rows for name in row.values if name.endswith("_sealed")]
    assert (rotated.resealed, rotated.damaged) == (len(sealed), 0)
    for since, means in MEANINGS:
        if since <= revision:
            means(store)


def test_constraints_hold_after_an_upgrade(database: Database, keys: KeyRing) -> None:
    oldest, *_ = schema.revisions()
    fill(database, keys, oldest)
    database.migrate()
    for violation in VIOLATIONS:
        with pytest.raises(StoreError, match="contrainte"), database.begin() as connection:
            connection.execute(sa.text(violation))


def test_an_upgrade_cut_anywhere_leaves_the_old_schema_whole(
    database: Database, keys: KeyRing
) -> None:
    oldest, *_ = schema.revisions()
    fill(database, keys, oldest)
    before = _dump(database)
    for statements in count(1, CUT_EVERY):
        with _cut_after(database, statements) as was_cut:
            migrated = _migrated(database)
        if migrated:
            break
        assert was_cut.is_set()
        assert _dump(database) == before
    assert statements > 3 * CUT_EVERY
    assert database.schema().missing == ()


def test_an_upgrade_killed_in_the_middle_leaves_the_old_schema_whole(
    database: Database, empty_url: str, keys: KeyRing
) -> None:
    oldest, *_, last_but_one, _ = schema.revisions()
    fill(database, keys, oldest)
    before = _dump(database)
    database.close()  # its connections are not the child's
    receiving, sending = multiprocessing.get_context("fork").Pipe(duplex=False)
    upgrading = multiprocessing.get_context("fork").Process(
        target=_migrate_until, args=(empty_url, last_but_one, sending)
    )
    upgrading.start()
    assert receiving.poll(SECONDS)
    os.kill(cast(int, upgrading.pid), signal.SIGKILL)
    upgrading.join()
    assert _dump(database) == before
    database.migrate()
    assert database.schema().missing == ()


def test_of_two_upgrades_at_once_one_does_it_and_the_other_waits(
    database: Database, empty_url: str, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest, second, *_ = schema.revisions()
    fill(database, keys, oldest)
    if database.sqlite:
        monkeypatch.setattr(database_module, "WAIT_SECONDS", 1)
    options = "-c lock_timeout=1s -c statement_timeout=1s"
    monkeypatch.setattr(database_module, "POSTGRESQL_OPTIONS", options)
    half_way, go_on = Event(), Event()

    def upgrade(stop_at: str | None) -> list[str]:
        done: list[str] = []

        def report(revision: str) -> None:
            done.append(revision)
            if revision == stop_at:
                half_way.set()
                assert go_on.wait(SECONDS)

        with closing(Database(empty_url)) as own:
            own.migrate(report)
        return done

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(upgrade, second)
        assert half_way.wait(SECONDS)
        other = pool.submit(upgrade, None)
        try:
            assert not wait([other], timeout=2).done  # it would have given up by now
        finally:
            go_on.set()
        assert first.result(SECONDS) == [*schema.revisions()[1:]]
        assert other.result(SECONDS) == []


def test_an_upgrade_does_not_wait_for_a_service_that_runs(
    database: Database, empty_url: str, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL whoever came after it would wait, too; SQLite's readers are in no way."""
    oldest, *_ = schema.revisions()
    fill(database, keys, oldest)
    monkeypatch.setattr(database_module, "WAIT_SECONDS", 0.2)
    with closing(Database(empty_url)) as service, service.read() as reading:
        reading.execute(sa.text("SELECT count(*) FROM account")).all()
        assert _migrated(database) is database.sqlite
    assert _migrated(database)


def test_a_row_that_refers_to_nothing_stops_an_upgrade_of_sqlite(
    tmp_path: Path, keys: KeyRing
) -> None:
    """References are looked at in the end: they can't be while tables are copied."""
    oldest, *_ = schema.revisions()
    with closing(Database(f"sqlite:///{tmp_path / 'store.db'}")) as database:
        fill(database, keys, oldest)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("UPDATE session SET account_id = '00'")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        with pytest.raises(StoreError, match="une ligne désigne une ligne absente"):
            database.migrate()
        assert database.schema().revision == oldest


# What rows mean, each looked at if it can be of the revision, in this order


def _session_opens(store: Store) -> None:
    origin = Origin(Channel.VOICE, call_id=earlier.CALL)
    session = Session(earlier.TOKEN, earlier.OURS, origin, 1, 3)
    assert dossier.caisse(store, session) == earlier.CAISSE


def _payment_can_be_read(store: Store) -> None:
    origin = Origin(Channel.VOICE, call_id=earlier.CALL)
    payment = dossier.last_payment(store, Session(earlier.TOKEN, earlier.OURS, origin, 1, 3))
    assert payment is not None
    assert (payment.paid_on, payment.cents) == (date(2021, 11, 2), earlier.CENTS)


def _delays_are_told(store: Store) -> None:
    (delay,) = processing_delays.of_caisse(store, earlier.CAISSE)
    assert (delay.category, delay.last) == ("rsa-aah", date(2021, 10, 8))


def _code_then_password_open(store: Store) -> None:
    assert _log_in(store, "16042738") is Refusal.REFUSED
    assert isinstance(_log_in(store, earlier.CODE), Session)
    assert isinstance(_log_in(store, earlier.PASSWORD), Session)
    assert _log_in(store, earlier.CODE) is Refusal.REFUSED  # the password is used (D09)


def _person_is_readable(store: Store) -> None:
    with store.database.read() as transaction:
        claire = open_person(store.keys, transaction.get_one(Person, earlier.CLAIRE))
    assert asdict(claire) == asdict(
        PersonData(
            surname="Lefèvre",
            given_names="Claire",
            birth_date=date(1995, 10, 7),
            nir=earlier.NIR,
            mobile=earlier.MOBILE,
            mobile_since=earlier.TODAY - 400 * earlier.DAY,
            landline=earlier.LANDLINE,
            email="claire@exemple.fr",
            address=Address("3 rue des Lilas", None, "92000", "Nanterre"),
            address_since=earlier.TODAY - 90 * earlier.DAY,
        )
    )


def _audit_is_whole(store: Store) -> None:
    assert audit_seal.verify(store).fault is None
    assert audit_seal.seal_new(store) > 0
    verdict = audit_seal.verify(store)
    assert (verdict.fault, verdict.unsealed) == (None, 0)


def _message_goes_out(store: Store) -> None:
    def render(_: str, content: Mapping[str, str]) -> Rendered:
        return Rendered(content["password"], earlier.VERSION)

    (claim,) = outbox.claim(store, "twilio", render, 5)
    assert claim.message_id == earlier.QUEUED
    assert (claim.destination, claim.text.reveal()) == (earlier.MOBILE, earlier.PENDING)


def _sent_password_replaces_the_other(store: Store) -> None:
    assert isinstance(_log_in(store, earlier.PENDING), Session)
    with store.database.read() as transaction:
        ended = transaction.get_one(Credential, earlier.RIGHT)
    assert (ended.state, ended.ended_by) == ("ended", "replaced")


def _people_get_in_on_the_web(store: Store) -> None:
    for holder, person_known_by in (
        (Identifier.NIR, earlier.NIR),
        (Identifier.PROVISIONAL, earlier.PROVISIONAL),
    ):
        login = WebLogin(Holder(holder, person_known_by), Secret(earlier.WEB_PASSWORD))
        opened = web_accounts.verify(store, login, _web())
        assert isinstance(opened, tuple)
        assert [session.account_id for session in opened] == [earlier.OURS]


def _closed_account_stays_closed(store: Store) -> None:
    with store.database.begin() as transaction:
        assert credentials.lock_account(transaction, "13", earlier.MOVED_NUMBER) is None


def _feed_goes_on(store: Store) -> None:
    first, second, *_ = feed.since(store, 0)
    assert (first.event, first.why) == ("issued", "given")
    assert (second.event, second.credential_id) == ("first-used", earlier.RIGHT)


def _code_is_good_once(store: Store) -> None:
    def redeem() -> bool | None:
        which = codes.by_id(earlier.CODE_ID)
        entry = codes.Entry(codes.Purpose.PHONE_LOGIN, which, Secret(earlier.ENTERED))
        return codes.redeem(store, entry, Origin(Channel.VOICE, STRANGER), lambda *_: True)

    assert (redeem(), redeem()) == (True, None)


def _code_asked_for_in_vain_stays_so(store: Store) -> None:
    which, right = codes.by_id(earlier.VAIN_CODE_ID), Secret(earlier.ENTERED)
    entry = codes.Entry(codes.Purpose.PHONE_LOGIN, which, right)
    assert codes.redeem(store, entry, Origin(Channel.VOICE, STRANGER), lambda *_: True) is None


def _clients_code_is_good(store: Store) -> None:
    entry = (earlier.PURPOSE, earlier.CLIENTS_CODE_ID, Secret(earlier.ENTERED))
    assert client_codes.verify(store, *entry, _web())


def _steps_come_to_their_end(store: Store) -> None:
    bascule.finish(store, Session(earlier.STEPS_TOKEN, earlier.OURS, _web(), 1, 3))
    login = WebLogin(Holder(Identifier.NIR, earlier.HUGO_NIR), Secret(earlier.CHOSEN))
    assert isinstance(web_accounts.verify(store, login, _web()), tuple)


def _letters_have_left(store: Store) -> None:
    (run,) = status.status(store).runs
    assert (run.run_id, run.letters) == (earlier.RUN, 1)


def _task_is_not_done_again(store: Store) -> None:
    task = Task(earlier.TASK, Kind.PASSWORD, earlier.CAISSE, earlier.NUMBER, "perdu")
    assert agent_tasks.do(store, task, "nims") is agent_tasks.Answer.DONE
    with store.database.read() as transaction:
        query = sa.select(Credential.id).where(Credential.origin == "agent")
        assert transaction.scalar(query) is None


def _client_gets_in(store: Store) -> None:
    held = api.holder(store, f"{earlier.KEY_ID}.{earlier.API_SECRET}")
    assert held == apikeys.Holder(earlier.CLIENT, frozenset({"logins", "sessions"}))
    assert api.holder(store, f"{earlier.KEY_ID[::-1]}.{earlier.API_SECRET}") is None
    resumed = sessions.resume(store, earlier.CLIENT_TOKEN, earlier.CLIENT)
    assert resumed.account_id == earlier.OURS


def _request_is_not_done_again(store: Store) -> None:
    def act() -> NoReturn:
        raise AssertionError("it was answered before")

    request = Request(earlier.CLIENT, "key-1", "POST /v1/reset")
    assert idempotency.once(store, request, act) == Answer(202, b'{"ok": true}')


def _incident_is_over(store: Store) -> None:
    assert incident.standing(store) == []


def _receipt_finds_its_message(store: Store) -> None:
    assert outbox.part_receipt(store, "smpp", "1f", MessageState.DELIVERED)


def _client_follows_its_message(store: Store) -> None:
    followed = client_messages.find(store, earlier.CLIENT, earlier.CANCELLED)
    assert followed is not None
    assert followed.state == MessageState.CANCELLED
    assert client_messages.find(store, earlier.CLIENT, earlier.QUEUED) is None


def _provider_stays_out_of_service(store: Store) -> None:
    with pytest.raises(DrainedError):
        outbox.claim(store, "smpp", lambda _, content: Rendered(content["password"], ""), 5)


def _opt_out_still_stands(store: Store) -> None:
    with store.database.read() as transaction:
        found = opt_outs.find(store, transaction, Contact(Route.SMS, earlier.MOBILE))
        assert found is not None
        assert (found.source, found.at) == ("sms", earlier.NOW - earlier.HOUR)


def _messages_have_the_version_that_they_had(store: Store) -> None:
    """None, if they were sent before there were versions."""
    with store.database.read() as transaction:
        versions = {
            one: transaction.get_one(Message, one).template_version
            for one in (earlier.REFUSED, earlier.SENDING)
        }
    assert versions == {earlier.REFUSED: earlier.VERSION, earlier.SENDING: None}


def _campaign_goes_on(store: Store) -> None:
    campaign = campaigns.find(store, earlier.CLIENT, "rentree")
    assert campaign is not None
    assert campaigns.move(store, earlier.CLIENT, campaign.id, campaigns.Move.RESUME)
    assert campaigns.feed(store) == 1
    [claim] = outbox.claim(store, "smtp", lambda *_: Rendered("", ""), 1, route=Route.MAIL)
    assert (claim.text.reveal(), claim.subject) == ("Bonjour", "Du nouveau")


def _key_ring_is_the_right_one(store: Store) -> None:
    key_check.check(store)


MEANINGS: Sequence[tuple[str, Callable[[Store], None]]] = [
    ("0001", _session_opens),
    ("0018", _payment_can_be_read),
    ("0001", _code_then_password_open),
    ("0001", _person_is_readable),
    ("0001", _audit_is_whole),
    ("0002", _message_goes_out),
    ("0002", _sent_password_replaces_the_other),
    ("0004", _closed_account_stays_closed),
    ("0004", _feed_goes_on),
    ("0004", _people_get_in_on_the_web),
    ("0005", _code_is_good_once),
    ("0005", _code_asked_for_in_vain_stays_so),
    ("0005", _steps_come_to_their_end),
    ("0006", _letters_have_left),
    ("0006", _task_is_not_done_again),
    ("0007", _client_gets_in),
    ("0007", _request_is_not_done_again),
    ("0008", _incident_is_over),
    ("0009", _key_ring_is_the_right_one),
    ("0010", _receipt_finds_its_message),
    ("0012", _client_follows_its_message),
    ("0013", _provider_stays_out_of_service),
    ("0014", _opt_out_still_stands),
    ("0015", _campaign_goes_on),
    ("0016", _clients_code_is_good),
    ("0016", _messages_have_the_version_that_they_had),
    ("0018", _delays_are_told),
]

VIOLATIONS = [
    "UPDATE credential SET account_id = NULL",
    "UPDATE credential SET state = 'active', kind = 'password'",
    "UPDATE credential SET origin = NULL",
    "UPDATE account SET moved_to = '00000000000000000000000000000001'",
    "DELETE FROM account",
]


def _log_in(store: Store, secret: str) -> object:
    login = Login(earlier.CAISSE, earlier.NUMBER, Secret(secret))
    return credentials.verify(store, login, Origin(Channel.VOICE, STRANGER))


def _web() -> Origin:
    return Origin.for_client(Channel.WEB, earlier.CLIENT, "203.0.113.7")


# Databases as they are


def _contents(connection: sa.Connection, table: sa.Table) -> list[dict[str, Any]]:
    found = [row._asdict() for row in connection.execute(sa.select(table))]
    return _without_number(table, found)


def _expected(table: sa.Table, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Give the rows of a table with all its columns."""
    empty = dict.fromkeys(table.columns.keys())
    whole = [{**empty, **row.values} for row in rows if row.table == table.name]
    return _without_number(table, whole)


def _without_number(table: sa.Table, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what the database numbers by itself, and any order."""
    numbered = table.autoincrement_column
    for row in rows:
        if numbered is not None:
            del row[numbered.key]
    return sorted(rows, key=repr)


def _shape(connection: sa.Connection) -> dict[str, Any]:
    """Describe every table, but for the order of columns and the names of foreign keys."""
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    return {table: _shape_of(inspector, table) for table in tables}


def _shape_of(inspector: sa.Inspector, table: str) -> dict[str, Any]:
    return {
        "columns": {
            column["name"]: (str(column["type"]), column["nullable"])
            for column in inspector.get_columns(table)
        },
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "foreign keys": sorted(
            str((key["constrained_columns"], key["referred_table"], key.get("options")))
            for key in inspector.get_foreign_keys(table)
        ),
        "unique": sorted(
            unique["column_names"] for unique in inspector.get_unique_constraints(table)
        ),
        "checks": {
            check["name"]: check["sqltext"] for check in inspector.get_check_constraints(table)
        },
        "indexes": {
            index["name"]: (
                index["column_names"],
                bool(index["unique"]),
                [str(option) for name, option in index.get("dialect_options", {}).items()
                 if name.endswith("_where")],
            )
            for index in inspector.get_indexes(table)
        },
    }  # fmt: skip


def _dump(database: Database) -> tuple[dict[str, Any], Dump]:
    """Give the whole schema and every row."""
    with database.engine.connect() as connection:
        shape = _shape(connection)
        rows = {
            table: sorted(map(repr, connection.execute(sa.text(f"SELECT * FROM {table}"))))  # noqa: S608
            for table in [*shape, "alembic_version"]
        }
    return shape, rows


# Upgrades that do not come to their end


def _migrated(database: Database) -> bool:
    try:
        database.migrate()
    except StoreDownError:
        return False
    return True


@contextmanager
def _cut_after(database: Database, statements: int) -> Iterator[Event]:
    """Cut the connection at a statement from now on; tell by the event that it came to that."""
    left, was_cut = count(statements, -1), Event()

    def cut(*_: object) -> None:
        if next(left) == 0:
            was_cut.set()
            raise sa.exc.OperationalError("", {}, Exception())

    sa.event.listen(database.engine, "before_cursor_execute", cut)
    try:
        yield was_cut
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", cut)


def _migrate_until(url: str, revision: str, sending: Pipe) -> None:
    """Migrate, say when that revision is reached, and stay there."""

    def report(reached: str) -> None:
        if reached == revision:
            sending.send(reached)
            Event().wait()

    with closing(Database(url)) as database:
        database.migrate(report)
