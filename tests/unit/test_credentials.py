"""Logging in: nobody can tell one refusal from another (D07), and what is stored is bound to its
place (D13).
"""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest
import structlog
from sqlalchemy import delete, func, select, update

from shared.credentials import Expired, Login, Refusal, lock_account, set_secret, verify
from shared.hashing import Hasher
from shared.keyring import KeyRing
from shared.models import (
    Account,
    AuditEntry,
    Base,
    Credential,
    CredentialState,
    LoginSession,
    ThrottleHit,
)
from shared.origin import Origin
from shared.rules import Argon2, Channel, CredentialKind
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.postgresql import PostgresqlServer
from tests.store import (
    CAISSE,
    CHEAP,
    NUMBER,
    OWNER,
    PASSWORD,
    STRANGER,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    log_in,
    open_session,
    watch,
    with_rules,
)

OTHER_NUMBER = "7654321"
UNKNOWN_NUMBER = "9999999"
NEW_PASSWORD = "50718264"
WRONG = "00000000"
CODE = "4826"
DEARER = Argon2(memory_kib=16, passes=1, lanes=1)


# What a login opens


def test_the_right_password_opens_a_session_of_its_account(store: Store) -> None:
    account_id = add_account(store)
    add_account(store, OTHER_NUMBER, NEW_PASSWORD)
    session = log_in(store)
    assert isinstance(session, Session)
    assert session.account_id == account_id
    assert session.origin == Origin(Channel.VOICE, STRANGER)


def test_a_number_is_of_its_caisse_only(store: Store) -> None:
    add_account(store)
    login = Login("2A", NUMBER, Secret(PASSWORD))
    assert verify(store, login, Origin(Channel.VOICE, STRANGER)) is Refusal.REFUSED


@pytest.mark.parametrize(
    "typed",
    [PASSWORD[:-1], PASSWORD + "0", PASSWORD[::-1], " " + PASSWORD, "", "0", WRONG],
    ids=["too short", "too long", "reversed", "with a space", "empty", "one digit", "wrong"],
)
def test_nothing_but_the_password_opens(store: Store, typed: str) -> None:
    add_account(store)
    assert log_in(store, typed) is Refusal.REFUSED


@pytest.mark.parametrize("channel", [Channel.WEB, Channel.APP, Channel.KIOSK])
def test_a_code_opens_on_the_telephone_only(store: Store, channel: Channel) -> None:
    """D09."""
    add_account(store, password=CODE)
    assert log_in(store, CODE, channel=channel) is Refusal.REFUSED
    assert isinstance(log_in(store, CODE), Session)


# D09, R04: the code, until a password has first been used


def test_a_code_opens_until_a_password_is_used_not_only_issued(
    store: Store, clock: FakeClock
) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    assert isinstance(log_in(store, CODE), Session)
    clock.advance(timedelta(hours=1))
    open_session(store)
    assert log_in(store, CODE) is Refusal.REFUSED
    with store.database.read() as transaction:
        ended = transaction.scalars(select(Credential).where(Credential.kind == "code")).one()
        used = transaction.scalars(select(Credential).where(Credential.kind == "password")).one()
    assert (ended.state, ended.ended_by, ended.ended_at) == ("ended", "replaced", clock.now)
    assert (used.state, used.first_used_at) == ("active", clock.now)


def test_the_first_use_stays_the_first(store: Store, clock: FakeClock) -> None:
    add_account(store)
    open_session(store)
    first = _credential(store).first_used_at
    clock.advance(timedelta(hours=1))
    open_session(store)
    assert _credential(store).first_used_at == first


def test_a_password_used_during_the_computation_shuts_the_code_out(
    store: Store, hasher: CountingHasher
) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))

    def use_the_password() -> None:
        hasher.meanwhile = lambda: None
        open_session(store)

    hasher.meanwhile = use_the_password
    assert log_in(store, CODE) is Refusal.REFUSED


@pytest.mark.parametrize("caller_id", [OWNER, STRANGER], ids=["owner", "stranger"])
def test_a_code_locks_at_three_failures_a_day(
    store: Store, clock: FakeClock, caller_id: str
) -> None:
    add_account(store, password=CODE)
    for _ in range(2):
        log_in(store, "0000", caller_id=caller_id)
    assert isinstance(log_in(store, CODE, caller_id=caller_id), Session)  # and forgives the two
    for _ in range(3):
        log_in(store, "0000", caller_id=caller_id)
    assert log_in(store, CODE, caller_id=caller_id) is Refusal.REFUSED
    clock.advance(timedelta(days=1) - timedelta(microseconds=1))
    assert log_in(store, CODE, caller_id=caller_id) is Refusal.REFUSED
    clock.advance(timedelta(microseconds=1))
    assert isinstance(log_in(store, CODE, caller_id=caller_id), Session)


def test_failures_with_password_and_code_add_up(store: Store) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    for typed in (WRONG, "0000", WRONG):
        log_in(store, typed)
    assert log_in(store, CODE) is Refusal.REFUSED
    assert isinstance(log_in(store), Session)  # the password has five, and this refusal is none


# D07: how refusals look alike


def _nothing(_store: Store) -> None:
    pass


def _lock(store: Store) -> None:
    for caller in range(5):
        log_in(store, WRONG, caller_id=f"+3319900000{caller}")


def _block_the_caller(store: Store) -> None:
    for number in ("1000001", "1000002", "1000003"):
        log_in(store, WRONG, number=number)


def _expire(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(expires_at=store.clock())))


def _lock_and_expire(store: Store) -> None:
    _lock(store)
    _expire(store)


def _end(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(state=CredentialState.ENDED)))


def _remove(store: Store) -> None:
    execute(store, lambda t: t.execute(delete(Credential)))


def _close(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


def _use_a_password_after_a_code(store: Store) -> None:
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    open_session(store)


def _lock_the_code(store: Store) -> None:
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    for caller in range(3):
        log_in(store, "0000", caller_id=f"+3319900000{caller}")


def _damage(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(hash_sealed=b"damaged")))


@dataclass(frozen=True)
class Attempt:
    before: Callable[[Store], None] = _nothing
    number: str = NUMBER
    typed: str = PASSWORD
    channel: Channel = Channel.VOICE


REFUSALS = {
    "wrong password": Attempt(typed=WRONG),
    "ended credential, right password": Attempt(_end),
    "ended credential, wrong password": Attempt(_end, typed=WRONG),
    "no credential yet": Attempt(_remove),
    "wrong and expired": Attempt(_expire, typed=WRONG),
    "locked, right password": Attempt(_lock),
    "locked, wrong password": Attempt(_lock, typed=WRONG),
    "locked and expired, right password": Attempt(_lock_and_expire),
    "caller id blocked, right password": Attempt(_block_the_caller),
    "caller id blocked, unknown number": Attempt(_block_the_caller, number=UNKNOWN_NUMBER),
    "a kind that the table has not": Attempt(typed=CODE, channel=Channel.WEB),
    "a kind that the account has not": Attempt(typed=CODE),
    "a kind that the account has not, unknown number": Attempt(typed=CODE, number=UNKNOWN_NUMBER),
    "a code, after the password was used": Attempt(_use_a_password_after_a_code, typed=CODE),
    "a locked code": Attempt(_lock_the_code, typed=CODE),
    "a closed dossier": Attempt(_close),
    "a channel that the table has not": Attempt(channel=Channel.WEB),
    "damaged credential": Attempt(_damage),
    "a number that is none": Attempt(number="12"),
    "no number": Attempt(number=""),
    "a very long password": Attempt(typed="1" * 10_000),
}


@pytest.mark.parametrize("attempt", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_looks_like_that_of_an_unknown_number(
    store: Store, hasher: CountingHasher, attempt: Attempt
) -> None:
    """The same statements in the same order, and one Argon2 computation at the same place."""
    add_account(store)
    seen = watch(store.database)
    hasher.meanwhile = lambda: seen.append("ARGON2")
    assert log_in(store, number=UNKNOWN_NUMBER, caller_id="+33177000000") is Refusal.REFUSED
    unknown = seen.copy()
    attempt.before(store)
    seen.clear()
    hasher.compared = hasher.pretended = hasher.hashed = 0

    refusal = log_in(store, attempt.typed, number=attempt.number, channel=attempt.channel)

    assert refusal is Refusal.REFUSED
    assert seen == unknown
    assert seen.count("ARGON2") == 1
    assert hasher.compared + hasher.pretended + hasher.hashed == 1


def test_a_busy_channel_tells_nothing_of_an_account(store: Store) -> None:
    """What is usual is looked up then, whoever calls."""
    store = with_rules(store, alarm_minimum=1, breaker_minimum=1)
    add_account(store)
    for caller in range(2):  # the second raises the alarm
        log_in(store, WRONG, caller_id=f"+3319900000{caller}")
    seen = watch(store.database)
    assert log_in(store, number=UNKNOWN_NUMBER, caller_id=OWNER) is Refusal.REFUSED
    unknown = seen.copy()
    seen.clear()
    assert log_in(store, WRONG, caller_id=OWNER) is Refusal.REFUSED
    assert seen == unknown
    assert any("avg(channel_hour.failures)" in statement for statement in seen)


def test_a_login_takes_few_statements(store: Store) -> None:
    """They are what a login costs beside its computation (`make bench`)."""
    add_account(store)
    open_session(store)  # the first use of a password takes a few more
    seen = watch(store.database)
    assert isinstance(log_in(store), Session)
    assert seen.count("COMMIT") == 2
    assert len(seen) <= 14


def test_the_attempt_is_committed_before_it_is_computed(
    store: Store, hasher: CountingHasher
) -> None:
    add_account(store)
    seen = watch(store.database)
    hasher.meanwhile = lambda: seen.append("ARGON2")
    log_in(store)
    place = seen.index("ARGON2")
    assert seen[place - 1] == "COMMIT"
    assert any(statement.startswith("INSERT INTO throttle_hit") for statement in seen[:place])


def test_only_an_allowed_attempt_is_compared(store: Store, hasher: CountingHasher) -> None:
    add_account(store)
    log_in(store, WRONG)
    assert (hasher.compared, hasher.pretended) == (1, 0)
    _lock(store)
    hasher.compared = 0
    log_in(store)
    assert (hasher.compared, hasher.pretended) == (0, 2)  # the fifth of _lock was the first


def test_right_but_expired_says_so_and_is_no_failure(store: Store, clock: FakeClock) -> None:
    add_account(store, expires_at=clock.now + timedelta(days=60))
    clock.advance(timedelta(days=60) - timedelta(microseconds=1))
    assert isinstance(log_in(store), Session)
    log_in(store, WRONG)
    before = _count(store, ThrottleHit)
    clock.advance(timedelta(microseconds=1))
    for _ in range(6):
        assert log_in(store) == Expired(clock.now)
    assert _count(store, ThrottleHit) == before  # and the failure before it is not forgiven
    assert _count(store, LoginSession) == 1


def test_refusals_are_audited_without_an_account(store: Store) -> None:
    add_account(store)
    log_in(store, WRONG)
    log_in(store, number=UNKNOWN_NUMBER)
    with store.database.read() as transaction:
        rows = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [(row.event, row.channel, row.account_id) for row in rows] == [
        ("login-refused", "voice", None)
    ] * 2


def test_logins_are_audited_with_the_call(store: Store, clock: FakeClock) -> None:
    account_id = add_account(store)
    log_in(store, call_id="call-1")
    with store.database.read() as transaction:
        row = transaction.scalars(select(AuditEntry)).one()
    assert (row.event, row.account_id, row.call_id, row.at) == (
        "login",
        account_id,
        "call-1",
        clock.now,
    )


# D13: a stored hash is of use in its own place only


def _swap_accounts(store: Store) -> None:
    """Give this account the sealed hash of another one, whose password is known."""
    add_account(store, OTHER_NUMBER, NEW_PASSWORD)
    _copy_hash(store, of=NEW_PASSWORD)


def _swap_credentials(store: Store) -> None:
    """Bring an ended credential of the same account back."""
    set_secret(store, CAISSE, NUMBER, Secret(NEW_PASSWORD))
    set_secret(store, CAISSE, NUMBER, Secret(PASSWORD))
    _copy_hash(store, of=NEW_PASSWORD)


def _swap_kinds(store: Store) -> None:
    """Let an 8-digit hash pass for the code of the same account, row and all."""
    with store.database.write() as transaction:
        row = transaction.scalars(select(Credential)).one()
        plain = _stored_hash(store, row).encode()
        row.hash_sealed = store.keys.seal(plain, *_binding(row, CredentialKind.CODE))


def _swap_row_ids(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(id=UUID(int=1))))


def _move_to_account(store: Store) -> None:
    thief = add_account(store, OTHER_NUMBER, None)
    with store.database.write() as transaction:
        victim = transaction.scalars(select(Account).where(Account.number == NUMBER)).one()
        victim.number = UNKNOWN_NUMBER
        transaction.flush()
        transaction.get_one(Account, thief).number = NUMBER
        transaction.execute(update(Credential).values(account_id=thief))


def _alter_a_byte(store: Store) -> None:
    with store.database.write() as transaction:
        row = transaction.scalars(select(Credential)).one()
        place = secrets.randbelow(len(row.hash_sealed))
        altered = bytearray(row.hash_sealed)
        altered[place] ^= 1
        row.hash_sealed = bytes(altered)


def _cut(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(hash_sealed=b"")))


TAMPERING = {
    "hash of another account": _swap_accounts,
    "hash of an earlier credential": _swap_credentials,
    "sealed for another kind": _swap_kinds,
    "another row id": _swap_row_ids,
    "moved to another account": _move_to_account,
    "altered byte": _alter_a_byte,
    "empty": _cut,
    "garbage": _damage,
}


@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING)
@pytest.mark.parametrize("typed", [PASSWORD, NEW_PASSWORD], ids=["its own", "the known one"])
def test_a_tampered_hash_opens_nothing_and_is_logged(
    store: Store, hasher: CountingHasher, tamper: Callable[[Store], None], typed: str
) -> None:
    add_account(store)
    tamper(store)
    with structlog.testing.capture_logs() as logs:
        assert log_in(store, typed) is Refusal.REFUSED
    assert (hasher.compared, hasher.pretended) == (0, 1)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("stored_credential_refused", "error")
    ]
    assert not any(
        value in str(logs) for value in (PASSWORD, NEW_PASSWORD, NUMBER, OTHER_NUMBER, "argon2")
    )


def test_keys_of_another_store_open_nothing(
    store: Store, hasher: CountingHasher, tmp_path: Path
) -> None:
    add_account(store)
    others = KeyRing.create(tmp_path / "others.json")
    with structlog.testing.capture_logs() as logs:
        assert log_in(replace(store, keys=others)) is Refusal.REFUSED
    assert (hasher.compared, hasher.pretended) == (0, 1)
    assert [entry["event"] for entry in logs] == ["stored_credential_refused"]


COSTLY = {
    "16 GiB": "$argon2id$v=19$m=16777216,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
    "a billion passes": "$argon2id$v=19$m=8,t=1000000000,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
    "argon2i": "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
    "a megabyte": "A" * 1_000_000,
    "not base64": "$argon2id$v=19$m=8,t=1,p=1$????$????",
    "empty": "",
}


@pytest.mark.parametrize("hashed", COSTLY.values(), ids=COSTLY)
def test_a_sealed_hash_that_is_not_ours_costs_no_more_than_a_wrong_password(
    store: Store, hasher: CountingHasher, hashed: str
) -> None:
    add_account(store)
    with store.database.write() as transaction:
        row = transaction.scalars(select(Credential)).one()
        row.hash_sealed = store.keys.seal(hashed.encode(), *_binding(row, row.kind))
    with structlog.testing.capture_logs() as logs:
        assert log_in(store) is Refusal.REFUSED
    assert (hasher.compared, hasher.pretended) == (0, 1)
    assert [entry["event"] for entry in logs] == ["stored_credential_refused"]


# Hashes follow the costs of the rules


def test_a_login_brings_an_old_hash_to_todays_costs(store: Store) -> None:
    add_account(store)
    dearer = replace(store, hasher=Hasher(DEARER))
    assert isinstance(log_in(dearer), Session)
    stored = _credential(store)
    assert _stored_hash(store, stored).startswith("$argon2id$v=19$m=16,t=1,p=1$")
    assert stored.version == 2
    assert isinstance(log_in(dearer), Session)
    assert _credential(store).hash_sealed == stored.hash_sealed


def test_a_refused_login_changes_no_hash(store: Store) -> None:
    add_account(store)
    before = _credential(store).hash_sealed
    log_in(replace(store, hasher=Hasher(DEARER)), WRONG)
    assert _credential(store).hash_sealed == before


def test_two_logins_at_once_replace_an_old_hash_once(store: Store) -> None:
    add_account(store)
    dearer = CountingHasher(DEARER)
    other = replace(store, hasher=Hasher(DEARER))
    dearer.meanwhile = lambda: log_in(other, caller_id=OWNER)
    assert isinstance(log_in(replace(store, hasher=dearer)), Session)
    assert dearer.hashed == 1  # made, and not used
    assert _credential(store).version == 2
    assert isinstance(log_in(store), Session)


def test_a_password_replaced_during_the_computation_opens_nothing(
    store: Store, hasher: CountingHasher
) -> None:
    add_account(store)

    def replace_it() -> None:
        hasher.meanwhile = lambda: None
        set_secret(store, CAISSE, NUMBER, Secret(NEW_PASSWORD))

    hasher.meanwhile = replace_it
    assert log_in(store) is Refusal.REFUSED
    assert _count(store, LoginSession) == 0
    assert isinstance(log_in(store, NEW_PASSWORD), Session)
    assert log_in(store) is Refusal.REFUSED


def test_a_login_that_waited_for_the_account_sees_what_changed(
    store: Store, hasher: CountingHasher
) -> None:
    add_account(store)
    locked = Event()

    def revoke() -> None:
        with store.database.begin() as transaction:
            lock_account(transaction, CAISSE, NUMBER)
            locked.set()
            time.sleep(0.2)  # the login comes to wait
            transaction.execute(update(Credential).values(state=CredentialState.ENDED))

    with ThreadPoolExecutor(1) as pool:

        def revoke_meanwhile() -> None:
            pool.submit(revoke)
            locked.wait()

        hasher.meanwhile = revoke_meanwhile
        assert log_in(store) is Refusal.REFUSED
    assert _count(store, LoginSession) == 0


def test_a_new_hash_never_lands_on_a_replaced_password(store: Store) -> None:
    add_account(store)
    dearer = CountingHasher(DEARER)
    dearer.meanwhile = lambda: set_secret(store, CAISSE, NUMBER, Secret(NEW_PASSWORD))
    assert log_in(replace(store, hasher=dearer)) is Refusal.REFUSED
    with store.database.read() as transaction:
        rows = transaction.scalars(select(Credential).order_by(Credential.state)).all()
    assert [(row.state, row.version) for row in rows] == [("active", 1), ("ended", 1)]
    assert isinstance(log_in(store, NEW_PASSWORD), Session)


# Setting a secret


def test_a_new_password_ends_the_one_before(store: Store, clock: FakeClock) -> None:
    add_account(store)
    clock.advance(timedelta(days=3))
    assert set_secret(store, CAISSE, NUMBER, Secret(NEW_PASSWORD))
    assert log_in(store) is Refusal.REFUSED
    assert isinstance(log_in(store, NEW_PASSWORD), Session)
    with store.database.read() as transaction:
        ended = transaction.scalars(
            select(Credential).where(Credential.state == CredentialState.ENDED)
        ).one()
    assert ended.ended_at == clock.now


def test_a_code_and_a_password_live_side_by_side(store: Store) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    assert isinstance(log_in(store), Session)


def test_a_secret_needs_an_account(store: Store) -> None:
    assert set_secret(store, CAISSE, UNKNOWN_NUMBER, Secret(PASSWORD)) is False
    with store.database.read() as transaction:
        assert transaction.scalars(select(Credential)).all() == []


@pytest.mark.parametrize("contact", ["mobile", "landline"])
def test_both_telephones_on_file_make_a_known_caller(store: Store, contact: str) -> None:
    numbers: dict[str, str | None] = {"mobile": None, "landline": None, contact: OWNER}
    add_account(store, mobile=numbers["mobile"], landline=numbers["landline"])
    _lock(store)
    assert isinstance(log_in(store, caller_id=OWNER), Session)
    assert log_in(store, caller_id=STRANGER) is Refusal.REFUSED


def test_the_owner_of_another_dossier_is_a_stranger(store: Store) -> None:
    add_account(store, mobile=None)
    add_account(store, OTHER_NUMBER, mobile=OWNER)
    _lock(store)
    assert log_in(store, caller_id=OWNER) is Refusal.REFUSED


# What a stolen database holds


def test_no_secret_and_no_contact_is_on_disk(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    password, wrong, mobile, landline, caller_id = (
        "27182818",
        "31415926",
        "+33676543210",
        "+33143215678",
        "+33144556677",
    )
    add_account(store, password=password, mobile=mobile, landline=landline)
    assert isinstance(log_in(store, password, caller_id=mobile), Session)
    assert log_in(store, wrong, caller_id=caller_id) is Refusal.REFUSED
    assert log_in(store, wrong, number=UNKNOWN_NUMBER, caller_id=caller_id) is Refusal.REFUSED
    files = tmp_path.glob("store.db*")
    if not store.database.sqlite:
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        server.execute("CHECKPOINT")
        files = (path for path in server.data.rglob("*") if path.is_file())
    stored = b"\n".join(path.read_bytes() for path in files)
    assert NUMBER.encode() in stored  # in clear (D13): the search does find things
    assert b"argon2" not in stored
    for value in (password, wrong, mobile[3:], landline[3:], caller_id[3:]):
        assert value.encode() not in stored


def _copy_hash(store: Store, *, of: str) -> None:
    """Put the sealed hash of the credential with password `of` into this account's active one."""
    with store.database.write() as transaction:
        rows = transaction.scalars(
            select(Credential).join(Account).order_by(Account.number, Credential.state)
        ).all()
        target = next(row for row in rows if row.state == CredentialState.ACTIVE)
        source = next(row for row in rows if row is not target and _opens(store, row, of))
        target.hash_sealed = source.hash_sealed


def _opens(store: Store, row: Credential, password: str) -> bool:
    return Hasher(CHEAP).match([_stored_hash(store, row)], Secret(password)) is not None


def _stored_hash(store: Store, row: Credential) -> str:
    return store.keys.open(row.hash_sealed, *_binding(row, row.kind)).decode()


def _binding(row: Credential, kind: str) -> tuple[str, ...]:
    return ("credential", str(row.account_id), str(row.id), kind)


def _credential(store: Store) -> Credential:
    with store.database.read() as transaction:
        return transaction.scalars(select(Credential)).one()


def _count(store: Store, table: type[Base]) -> int:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(table)) or 0
