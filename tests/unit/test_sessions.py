"""Sessions: what no longer opens anything, and what never did (design idea 3, D11, D15)."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from shared import dossier, sessions
from shared.errors import SessionEndedError
from shared.models import Account, AuditEntry, Epoch, LoginSession
from shared.origin import Origin
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.store import OWNER, FakeClock, add_account, execute, open_session, pay, watch

OTHER_NUMBER = "7654321"


def _forged_token(_store: Store, session: Session) -> Session:
    return replace(session, token=bytes(32))


def _token_as_stored(store: Store, session: Session) -> Session:
    """What a thief of the database knows."""
    with store.database.read() as transaction:
        return replace(session, token=transaction.scalars(select(LoginSession.token_hash)).one())


def _other_account(store: Store, session: Session) -> Session:
    return replace(session, account_id=add_account(store, OTHER_NUMBER))


def _account_of_another_session(store: Store, session: Session) -> Session:
    add_account(store, OTHER_NUMBER)
    return replace(session, account_id=open_session(store, OTHER_NUMBER).account_id)


def _no_account(_store: Store, session: Session) -> Session:
    return replace(session, account_id=UUID(int=0))


def _made_by_hand(_store: Store, session: Session) -> Session:
    return Session(b"", session.account_id, session.origin, 0, 0)


def _ended(store: Store, session: Session) -> Session:
    sessions.end_sessions_of_call(store, "call-1")
    return session


def _expired(store: Store, session: Session) -> Session:
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=store.rules.session.minutes))
    return session


def _account_epoch_raised(store: Store, session: Session) -> Session:
    execute(store, lambda t: t.execute(update(Account).values(epoch=Account.epoch + 1)))
    return session


def _service_epoch_raised(store: Store, session: Session) -> Session:
    execute(store, lambda t: t.execute(update(Epoch).values(value=Epoch.value + 1)))
    return session


def _epochs_raised_and_forged(store: Store, session: Session) -> Session:
    """The epochs that count are the stored session's, not the object's."""
    _account_epoch_raised(store, session)
    _service_epoch_raised(store, session)
    return replace(session, account_epoch=1, service_epoch=1)


OVER: dict[str, Callable[[Store, Session], Session]] = {
    "forged token": _forged_token,
    "the token's hash for a token": _token_as_stored,
    "account id altered": _other_account,
    "account id of another open session": _account_of_another_session,
    "account id of nobody": _no_account,
    "made by hand": _made_by_hand,
    "ended": _ended,
    "expired": _expired,
    "account epoch raised": _account_epoch_raised,
    "service epoch raised": _service_epoch_raised,
    "epochs raised, and forged": _epochs_raised_and_forged,
}


@pytest.fixture
def session(store: Store) -> Session:
    """An open session of a dossier that has a payment."""
    account_id = add_account(store)
    pay(store, account_id, ("2021-11-02", 12_345))
    return open_session(store, call_id="call-1")


def test_an_open_session_reads_its_dossier(store: Store, session: Session) -> None:
    payment = dossier.last_payment(store, session)
    assert payment is not None
    assert payment.cents == 12_345


@pytest.mark.parametrize("spoil", OVER.values(), ids=OVER)
def test_what_is_over_or_forged_reads_nothing(
    store: Store, session: Session, spoil: Callable[[Store, Session], Session]
) -> None:
    spoilt = spoil(store, session)
    seen = watch(store.database)
    with pytest.raises(SessionEndedError) as raised:
        dossier.last_payment(store, spoilt)
    assert str(raised.value) == "the session is over"
    assert not any("dossier_section" in statement for statement in seen)
    with store.database.read() as transaction:
        assert "read-payments" not in transaction.scalars(select(AuditEntry.event)).all()


def test_a_session_of_a_closed_dossier_reads_nothing(store: Store, session: Session) -> None:
    """R08: one that was opened while the dossier was being closed is of its newest epoch."""
    closed = update(Account).values(closed_at=store.clock())
    execute(store, lambda transaction: transaction.execute(closed))
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, session)


def test_a_session_lives_as_long_as_the_rules_say(
    store: Store, session: Session, clock: FakeClock
) -> None:
    life = timedelta(minutes=store.rules.session.minutes)
    clock.advance(life - timedelta(microseconds=1))
    assert dossier.last_payment(store, session) is not None
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, session)


def test_a_session_opened_after_an_incident_reads_again(store: Store, session: Session) -> None:
    _account_epoch_raised(store, session)
    _service_epoch_raised(store, session)
    assert dossier.last_payment(store, open_session(store)) is not None


def test_ending_a_call_ends_its_sessions_only(
    store: Store, session: Session, clock: FakeClock
) -> None:
    add_account(store, OTHER_NUMBER)
    other = open_session(store, OTHER_NUMBER, call_id="call-2")
    sessions.end_sessions_of_call(store, "call-1")
    ended_at = clock.now
    clock.advance(timedelta(minutes=1))
    sessions.end_sessions_of_call(store, "call-1")
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, session)
    assert dossier.last_payment(store, other) is None
    with store.database.read() as transaction:
        ends = transaction.scalars(
            select(LoginSession.ended_at).where(LoginSession.call_id == "call-1")
        ).all()
    assert ends == [ended_at]


def test_an_account_epoch_ends_that_account_only(store: Store, session: Session) -> None:
    other_id = add_account(store, OTHER_NUMBER)
    other = open_session(store, OTHER_NUMBER)
    execute(
        store,
        lambda t: t.execute(update(Account).where(Account.id == other_id).values(epoch=1)),
    )
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, other)
    assert dossier.last_payment(store, session) is not None


def test_tokens_are_long_different_and_stored_as_hashes(store: Store, session: Session) -> None:
    other = open_session(store)
    assert len(session.token) == len(other.token) == 32
    assert session.token != other.token
    with store.database.read() as transaction:
        hashes = set(transaction.scalars(select(LoginSession.token_hash)))
    assert len(hashes) == 2
    assert not hashes & {session.token, other.token}


def test_a_session_is_frozen_and_shows_neither_token_nor_caller() -> None:
    session = Session(b"token", uuid4(), Origin(Channel.VOICE, OWNER), 0, 0)
    with pytest.raises(FrozenInstanceError):
        session.account_id = uuid4()  # type: ignore[misc]
    assert "token" not in repr(session)
    assert OWNER not in repr(session)
