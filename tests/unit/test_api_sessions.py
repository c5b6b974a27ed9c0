"""Sessions found again by their token: whose, and until when (D11, D15, R09)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from shared import dossier, sessions
from shared.credentials import Login, verify
from shared.errors import SessionEndedError
from shared.models import Account, Credential, Epoch, LoginSession
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import CAISSE, NUMBER, PASSWORD, FakeClock, add_account, execute

CLIENT = "site-web"


@pytest.fixture
def session(store: Store, clock: FakeClock) -> Session:
    """A session of the web, in the days when the number logged in there (R17)."""
    clock.now -= timedelta(days=30)
    add_account(store)
    return log_in(store)


def log_in(store: Store) -> Session:
    origin = Origin.for_client(Channel.WEB, CLIENT, "203.0.113.7")
    session = verify(store, Login(CAISSE, NUMBER, Secret(PASSWORD)), origin)
    assert isinstance(session, Session)
    return session


def test_the_token_finds_the_session(store: Store, session: Session) -> None:
    found = sessions.resume(store, session.token, CLIENT)
    assert (found.account_id, found.origin.channel) == (session.account_id, Channel.WEB)
    assert dossier.last_payment(store, found) is None


def _nothing(_store: Store, session: Session) -> bytes:
    return session.token


def _no_token(_store: Store, _session: Session) -> bytes:
    return b""


def _token_as_stored(store: Store, _session: Session) -> bytes:
    with store.database.read() as transaction:
        return transaction.scalars(select(LoginSession.token_hash)).one()


def _ended(store: Store, session: Session) -> bytes:
    sessions.end(store, session)
    return session.token


def _expired(store: Store, session: Session) -> bytes:
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=store.rules.session.minutes))
    return session.token


def _account_epoch_raised(store: Store, session: Session) -> bytes:
    execute(store, lambda t: t.execute(update(Account).values(epoch=Account.epoch + 1)))
    return session.token


def _service_epoch_raised(store: Store, session: Session) -> bytes:
    execute(store, lambda t: t.execute(update(Epoch).values(value=Epoch.value + 1)))
    return session.token


NOT_FOUND: dict[str, tuple[Callable[[Store, Session], bytes], str]] = {
    "another client": (_nothing, "bornes"),
    "no client": (_nothing, ""),
    "no token": (_no_token, CLIENT),
    "the token's hash for a token": (_token_as_stored, CLIENT),
    "ended": (_ended, CLIENT),
    "expired": (_expired, CLIENT),
    "account epoch raised": (_account_epoch_raised, CLIENT),
    "service epoch raised": (_service_epoch_raised, CLIENT),
}


@pytest.mark.parametrize(("spoil", "client"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_what_is_over_or_of_others_is_not_found(
    store: Store, session: Session, spoil: Callable[[Store, Session], bytes], client: str
) -> None:
    token = spoil(store, session)
    with pytest.raises(SessionEndedError):
        sessions.resume(store, token, client)


def test_ending_a_session_ends_no_other(store: Store, session: Session) -> None:
    other = log_in(store)
    sessions.end(store, session)
    assert sessions.resume(store, other.token, CLIENT).account_id == session.account_id


def test_a_session_for_the_change_of_password_reads_nothing(store: Store, session: Session) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(provisional=True)))
    for found in (opened := log_in(store), sessions.resume(store, opened.token, CLIENT)):
        assert found.change_only
        with pytest.raises(SessionEndedError):
            dossier.last_payment(store, found)
        with store.database.read() as transaction:
            account_id = sessions.account_of(store, transaction, found, changing=True)
        assert account_id == session.account_id
