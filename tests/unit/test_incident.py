"""The incident switch: what it closes, at once and for whom (D15)."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from shared import dossier, incident, sessions, web_accounts
from shared.credentials import Refusal
from shared.errors import ClosedError, SessionEndedError
from shared.models import AuditEntry, Incident, ThrottleHit
from shared.origin import Origin
from shared.rules import Channel
from shared.sessions import Scope, Session
from shared.store import Store
from tests.store import CAISSE, OWNER, CountingHasher, add_account, log_in, open_session, watch
from tests.web import add_dossier, make_web_account, web, web_login

UNKNOWN_NUMBER = "9999999"
WRONG = "16042738"
VOICE = incident.CHANNEL + Channel.VOICE
WEB = incident.CHANNEL + Channel.WEB
HERE = incident.CAISSE + CAISSE
ELSEWHERE = incident.CAISSE + "92"


def _readable(store: Store, session: Session) -> bool:
    try:
        dossier.last_payment(store, session)
    except SessionEndedError:
        return False
    return True


# What a telephone session and a login of the caisse 75 meet while this is closed.
CLOSING = [
    # scope            closed to them
    (incident.SERVICE, True),
    (VOICE, True),
    (HERE, True),
    (WEB, False),
    (ELSEWHERE, False),
]


@pytest.mark.parametrize(("scope", "closes"), CLOSING)
def test_raising_ends_sessions_and_refuses_logins_of_its_scope(
    store: Store, scope: str, *, closes: bool
) -> None:
    add_account(store)
    session = open_session(store)
    assert incident.raise_incident(store, scope)
    assert _readable(store, session) is not closes
    assert (log_in(store) is Refusal.CLOSED) is closes
    assert incident.closed(store, Channel.VOICE, CAISSE) is closes


@pytest.mark.parametrize("scope", [incident.SERVICE, VOICE, HERE])
def test_lifting_opens_for_new_logins_and_revives_no_session(store: Store, scope: str) -> None:
    add_account(store)
    before = open_session(store)
    incident.raise_incident(store, scope)
    assert incident.lift(store, scope)
    assert not _readable(store, before)
    assert _readable(store, open_session(store))
    incident.raise_incident(store, scope)
    assert log_in(store) is Refusal.CLOSED


def test_what_two_incidents_close_opens_when_both_are_lifted(store: Store) -> None:
    add_account(store)
    incident.raise_incident(store, incident.SERVICE)
    incident.raise_incident(store, VOICE)
    incident.lift(store, incident.SERVICE)
    assert log_in(store) is Refusal.CLOSED
    incident.lift(store, VOICE)
    assert isinstance(log_in(store), Session)


def test_raising_or_lifting_again_changes_nothing(store: Store) -> None:
    assert not incident.lift(store, VOICE)
    assert incident.raise_incident(store, VOICE)
    assert not incident.raise_incident(store, VOICE)
    assert [raised.scope for raised in incident.standing(store)] == [VOICE]
    assert incident.lift(store, VOICE)
    assert not incident.lift(store, VOICE)
    assert incident.standing(store) == []
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Incident)) == 1
        events = transaction.scalars(select(AuditEntry.event).order_by(AuditEntry.id)).all()
    assert events == ["incident-raised", "incident-lifted"]


def test_a_login_refused_by_an_incident_counts_as_nothing(store: Store) -> None:
    add_account(store)
    incident.raise_incident(store, VOICE)
    for _ in range(store.rules.throttle.account_failures + 1):
        assert log_in(store) is Refusal.CLOSED
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(ThrottleHit)) == 0
    incident.lift(store, VOICE)
    assert isinstance(log_in(store), Session)


def test_nobody_can_tell_a_password_or_a_number_from_what_is_closed(store: Store) -> None:
    add_account(store)
    incident.raise_incident(store, HERE)
    seen = watch(store.database)
    assert log_in(store) is Refusal.CLOSED
    statements = seen.copy()
    for number, typed in (("0123456", WRONG), (UNKNOWN_NUMBER, WRONG)):
        seen.clear()
        assert log_in(store, typed, number=number) is Refusal.CLOSED
        assert seen == statements


@pytest.mark.parametrize("scope", [incident.SERVICE, VOICE, HERE])
def test_raised_while_a_password_is_compared(
    store: Store, hasher: CountingHasher, scope: str
) -> None:
    """No session slips through, and the right password is no failure."""
    add_account(store)
    hasher.meanwhile = lambda: incident.raise_incident(store, scope)
    assert log_in(store) is Refusal.CLOSED
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(ThrottleHit)) == 0


def test_no_session_is_opened_where_it_is_closed(store: Store) -> None:
    """Whatever checked before: the epoch and the switch are read by one statement."""
    account_id = add_account(store)
    incident.raise_incident(store, HERE)
    with store.database.write() as transaction:
        scope = Scope(account_id, CAISSE)
        with pytest.raises(ClosedError):
            sessions.open_session(store, transaction.connection(), scope, Origin(Channel.VOICE))


@pytest.mark.parametrize("scope", [incident.SERVICE, WEB, HERE])
def test_a_person_s_account_on_the_web_is_closed_too(store: Store, scope: str) -> None:
    add_dossier(store)
    make_web_account(store)
    incident.raise_incident(store, scope)
    assert web_accounts.verify(store, web_login(), web()) is Refusal.CLOSED
    incident.lift(store, scope)
    assert isinstance(web_accounts.verify(store, web_login(), web()), tuple)


def test_a_closed_caisse_is_no_news_of_a_stranger_s_nir(store: Store) -> None:
    """Who gives a NIR and a wrong password learns nothing of where the dossier is (D04)."""
    add_dossier(store)
    make_web_account(store)
    incident.raise_incident(store, HERE)
    assert web_accounts.verify(store, web_login("Faux2021abcd"), web()) is Refusal.REFUSED


def test_a_raise_beside_many_logins_leaves_no_session(store: Store) -> None:
    add_account(store)
    with ThreadPoolExecutor(4) as pool:
        logins = [pool.submit(log_in, store, caller_id=OWNER) for _ in range(6)]
        raising = pool.submit(incident.raise_incident, store, VOICE)
        opened = [login.result() for login in logins]
        raising.result()
    assert log_in(store) is Refusal.CLOSED
    assert [one for one in opened if isinstance(one, Session) and _readable(store, one)] == []
