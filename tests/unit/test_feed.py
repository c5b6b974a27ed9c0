"""The change feed, both ways: neither side accepts what the other has ended (R04, R08)."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import feed, life_cycle, sessions
from shared.credentials import Refusal, set_secret
from shared.errors import SessionEndedError
from shared.hashing import read_foreign
from shared.life_cycle import Key
from shared.models import AuditEntry, Credential
from shared.origin import Origin
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_changes import ChangeResult, FutureChangeError, WebChange, apply
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    add_account,
    log_in,
    open_session,
    watch,
)

HOME = Key(CAISSE, NUMBER)
UNKNOWN = Key(CAISSE, "9999999")
CODE = "4826"
CHOSEN = "50718264"
HOUR = timedelta(hours=1)
CLIENT = "site-web"


def told(store: Store, after: int = 0) -> list[tuple[str, str, str | None]]:
    return [(entry.event, entry.kind, entry.why) for entry in feed.since(store, after)]


def ended(store: Store, *, of: Key = HOME) -> WebChange:
    return WebChange(UUID(int=1), of, store.clock(), None)


def created(store: Store, *, number: int = 2) -> WebChange:
    digest = hashlib.sha256(CHOSEN.encode()).hexdigest()
    return WebChange(UUID(int=number), HOME, store.clock(), read_foreign("sha256", digest))


# What happened here


def test_the_life_of_a_forgotten_password_is_told_in_order(store: Store, clock: FakeClock) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    clock.advance(HOUR)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    clock.advance(HOUR)
    open_session(store)
    assert told(store) == [
        ("issued", "password", "given"),
        ("issued", "code", "given"),
        ("issued", "password", "forgotten"),
        ("first-used", "password", None),
        ("ended", "code", "replaced"),
    ]


def test_after_more_than_there_will_ever_be_there_is_nothing(store: Store) -> None:
    """A client may name any number that the API takes."""
    add_account(store)
    assert feed.since(store, 10**15 - 1) == []


def test_an_entry_says_when_whose_and_which(store: Store, clock: FakeClock) -> None:
    add_account(store)
    clock.advance(HOUR)
    life_cycle.revoke(store, HOME, Origin(Channel.ADMIN), reissue=False)
    issued, over = feed.since(store, 0)
    assert (issued.at, over.at) == (clock.now - HOUR, clock.now)
    assert (over.caisse, over.number, over.why) == (CAISSE, NUMBER, "revoked")
    with store.database.read() as transaction:
        credential_id = transaction.scalars(select(Credential.id)).one()
    assert issued.credential_id == over.credential_id == credential_id
    assert NUMBER not in repr(over)


def test_nothing_is_told_twice(store: Store) -> None:
    add_account(store)
    for _ in range(3):
        open_session(store)
    assert told(store) == [("issued", "password", "given"), ("first-used", "password", None)]


def test_the_feed_goes_on_after_an_id(store: Store) -> None:
    add_account(store)
    open_session(store)
    first, second = feed.since(store, 0)
    assert feed.since(store, first.id) == [second]
    assert feed.since(store, second.id) == []
    assert feed.since(store, 0, limit=1) == [first]


def test_a_request_that_is_suppressed_runs_the_same_statements(store: Store) -> None:
    """D04."""
    add_account(store)
    seen = watch(store.database)
    origin = Origin(Channel.VOICE, OWNER)
    request_password(store, CAISSE, NUMBER, origin)
    issued = seen.copy()
    seen.clear()
    request_password(store, UNKNOWN.caisse, UNKNOWN.number, origin)
    assert seen == issued
    assert any("INSERT INTO change" in statement for statement in seen)


def test_whoever_reads_after_an_id_misses_nothing(store: Store) -> None:
    """Dossiers change at once while the feed is followed: ids are visible in their order."""
    callers = {f"000000{place}": f"+3319900000{place}" for place in range(6)}
    for number in callers:
        add_account(store, number, mobile=None)
    before = feed.since(store, 0)[-1].id
    followed = [before]
    with ThreadPoolExecutor(len(callers)) as pool:
        logins = [
            pool.submit(log_in, store, number=number, caller_id=caller)
            for number, caller in callers.items()
        ]
        while not all(login.done() for login in logins):
            followed += [entry.id for entry in feed.since(store, followed[-1])]
        assert all(isinstance(login.result(), Session) for login in logins)
    followed += [entry.id for entry in feed.since(store, followed[-1])]
    assert followed == [before, *(entry.id for entry in feed.since(store, before))]
    assert len(followed) == 1 + len(callers)


# What the web stack did


def test_what_was_ended_on_the_web_opens_nothing(store: Store, clock: FakeClock) -> None:
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    session = open_session(store)
    assert apply(store, ended(store), CLIENT) is ChangeResult.DONE
    assert log_in(store) is Refusal.REFUSED
    assert log_in(store, CODE) is Refusal.REFUSED
    with store.database.read() as transaction, pytest.raises(SessionEndedError):
        sessions.account_of(store, transaction, session)
    assert ("ended", "password", "web") in told(store)


@pytest.mark.parametrize("change", [ended, created], ids=["ended", "replaced"])
def test_a_call_that_is_verifying_it_is_refused(
    store: Store, clock: FakeClock, hasher: CountingHasher, change: Callable[[Store], WebChange]
) -> None:
    add_account(store)
    clock.advance(HOUR)
    hasher.meanwhile = lambda: apply(store, change(store), CLIENT)
    assert log_in(store) is Refusal.REFUSED


def test_a_password_created_on_the_web_opens_at_once_and_alone(
    store: Store, clock: FakeClock
) -> None:
    """R04: the one before, those on their way and the code are over."""
    add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    clock.advance(HOUR)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    clock.advance(HOUR)
    assert apply(store, created(store), CLIENT) is ChangeResult.DONE
    for secret in (PASSWORD, CODE):
        assert log_in(store, secret) is Refusal.REFUSED
    assert isinstance(log_in(store, CHOSEN), Session)
    with store.database.read() as transaction:
        active = transaction.scalars(select(Credential).where(Credential.state == "active")).one()
    assert active.origin == "web"
    assert active.expires_at == clock.now + timedelta(days=730)  # R07


def test_a_change_told_twice_is_done_once(store: Store, clock: FakeClock) -> None:
    add_account(store)
    clock.advance(HOUR)
    change = created(store)
    assert apply(store, change, CLIENT) is ChangeResult.DONE
    session = log_in(store, CHOSEN)
    assert isinstance(session, Session)
    assert apply(store, change, CLIENT) is ChangeResult.UNCHANGED
    end = ended(store)
    assert apply(store, end, CLIENT) is ChangeResult.DONE
    assert apply(store, end, CLIENT) is ChangeResult.UNCHANGED
    assert apply(store, change, CLIENT) is ChangeResult.UNCHANGED  # and does not come back
    assert log_in(store, CHOSEN) is Refusal.REFUSED


def test_a_change_that_comes_late_spares_what_is_newer(store: Store, clock: FakeClock) -> None:
    add_account(store)
    late_end, late_new = ended(store), created(store)
    clock.advance(HOUR)
    set_secret(store, CAISSE, NUMBER, Secret("11223344"))
    assert apply(store, late_new, CLIENT) is ChangeResult.UNCHANGED
    assert apply(store, late_end, CLIENT) is ChangeResult.UNCHANGED
    assert isinstance(log_in(store, "11223344"), Session)


def test_two_tell_the_same_at_once(store: Store, clock: FakeClock) -> None:
    add_account(store)
    clock.advance(HOUR)
    change = created(store)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: apply(store, change, CLIENT), range(4)))
    assert sorted(results) == sorted([ChangeResult.DONE, *[ChangeResult.UNCHANGED] * 3])


def test_an_unknown_dossier_is_told(store: Store) -> None:
    assert apply(store, ended(store, of=UNKNOWN), CLIENT) is ChangeResult.UNKNOWN_ACCOUNT


def test_a_change_of_the_future_is_refused(store: Store, clock: FakeClock) -> None:
    """Repeated, it would end what was issued meanwhile."""
    add_account(store)
    soon = replace(ended(store), at=clock.now + timedelta(minutes=1, microseconds=1))
    with pytest.raises(FutureChangeError):
        apply(store, soon, CLIENT)
    assert (
        apply(store, replace(soon, at=clock.now + timedelta(minutes=1)), CLIENT)
        is ChangeResult.DONE
    )


def test_who_told_it_is_audited(store: Store) -> None:
    account_id = add_account(store)
    apply(store, ended(store), CLIENT)
    with store.database.read() as transaction:
        entry = transaction.scalars(select(AuditEntry)).one()
    assert (entry.event, entry.account_id) == ("password-ended-on-web", account_id)
    assert entry.actor == f"{CLIENT}:{UUID(int=1)}"
