"""A password that ends while somebody verifies it: the change holds, in either order (R04, D03).

The one who verifies it is a caller, served by threads of the voice server; the test is the other.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from ivr.simulated import HANG_UP, SimulatedCall
from shared import dossier, life_cycle, password_change
from shared.credentials import Expired, Refusal, set_secret
from shared.errors import SessionEndedError
from shared.hashing import read_foreign
from shared.life_cycle import Key
from shared.models import LoginSession
from shared.origin import Origin
from shared.resets import request_password
from shared.rules import Argon2, Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_changes import ChangeResult, WebChange, apply
from tests.store import (
    CAISSE,
    CHEAP,
    NUMBER,
    OWNER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    log_in,
)
from tests.telephony import add_dossier, running, script_with_silence
from tests.web import sent

END_SECONDS = 30.0
HOME = Key(CAISSE, NUMBER)
CHOSEN = "50718264"
CLIENT = "site-web"
DEARER = Argon2(memory_kib=2 * CHEAP.memory_kib, passes=1, lanes=1)
ROUNDS = 10
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEFORE_THE_BASCULE = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)  # the number opens on the web (R17)


class PausingHasher(CountingHasher):
    """Stops the first login at one of its moments, until it is told to go on."""

    def __init__(self, moment: str, costs: Argon2 = CHEAP) -> None:
        super().__init__(costs)
        self._moment = moment
        self.reached, self.go_on = Event(), Event()

    def match(self, stored: Sequence[str], secret: Secret) -> str | None:
        self._pass("before the comparison")
        matched = super().match(stored, secret)
        self._pass("after the comparison")
        return matched

    def hash(self, secret: Secret) -> str:
        self._pass("before the rehash")
        hashed = super().hash(secret)
        self._pass("after the rehash")
        return hashed

    def _pass(self, moment: str) -> None:
        if moment == self._moment:
            self._moment = ""
            self.reached.set()
            assert self.go_on.wait(END_SECONDS)


def _ended(store: Store) -> WebChange:
    return WebChange(UUID(int=1), HOME, store.clock(), None)


def _created(store: Store) -> WebChange:
    digest = hashlib.sha256(CHOSEN.encode()).hexdigest()
    return WebChange(UUID(int=2), HOME, store.clock(), read_foreign("sha256", digest))


web_changes = pytest.mark.parametrize("change", [_ended, _created], ids=["ended", "replaced"])


@pytest.mark.parametrize("moment", ["before the comparison", "after the comparison"])
@web_changes
def test_the_web_stack_ends_a_password_while_a_call_is_verifying_it(
    store: Store, clock: FakeClock, moment: str, change: Callable[[Store], WebChange]
) -> None:
    add_dossier(store)
    clock.advance(HOUR)
    with _verifying(store, PausingHasher(moment)) as call:
        assert apply(store, change(store), CLIENT) is ChangeResult.DONE
    assert "identification-refusee" in call.heard
    assert "choix-dernier-paiement" not in call.heard
    assert _sessions(store) == 0


@web_changes
def test_the_web_stack_ends_a_password_that_a_call_has_just_verified(
    store: Store, clock: FakeClock, change: Callable[[Store], WebChange]
) -> None:
    """The other order: the caller is in, and out again before anything is read."""
    add_dossier(store)
    clock.advance(HOUR)
    with running(store, script_with_silence()) as server:
        groups = [CAISSE, NUMBER, PASSWORD]
        with SimulatedCall(server.address, groups=groups, patient=True) as call:
            call.wait_heard("choix-dernier-paiement", END_SECONDS)
            assert apply(store, change(store), CLIENT) is ChangeResult.DONE
            call.type("1")
            call.wait_heard("identification-terminee", END_SECONDS)
    assert "dernier-paiement" not in call.heard


@web_changes
def test_in_whatever_order_a_change_on_the_web_and_logins_come_nothing_is_read_after_it(
    store: Store, clock: FakeClock, change: Callable[[Store], WebChange]
) -> None:
    add_dossier(store)
    for caller in range(ROUNDS):
        set_secret(store, CAISSE, NUMBER, Secret(PASSWORD))
        clock.advance(HOUR)
        told = replace(change(store), id=uuid4())
        start = Barrier(2)

        def log_in_at_once(caller_id: str) -> Session | Expired | Refusal:
            start.wait(END_SECONDS)  # noqa: B023 - ended before the next round
            return log_in(store, caller_id=caller_id)

        with ThreadPoolExecutor(1) as pool:
            login = pool.submit(log_in_at_once, f"+3319900{caller:04}")
            start.wait(END_SECONDS)
            assert apply(store, told, CLIENT) is ChangeResult.DONE
            outcome = login.result(END_SECONDS)
        assert log_in(store, caller_id=OWNER) is Refusal.REFUSED
        if isinstance(outcome, Session):
            with pytest.raises(SessionEndedError):
                dossier.last_payment(store, outcome)
        clock.advance(DAY)  # and the failures of this round are forgotten


Change = Callable[[Store, Session], str]
"""Changes the dossier's password, in a session that its owner has on the web; gives the new one."""


def _by_the_web_stack(store: Store, _: Session) -> str:
    apply(store, _created(store), CLIENT)
    return CHOSEN


def _by_its_owner(store: Store, session: Session) -> str:
    assert password_change.change(store, session, Secret(CHOSEN)) is None
    return CHOSEN


def _by_a_separation(store: Store, _: Session) -> str:
    life_cycle.separate(store, HOME, Origin(Channel.ADMIN))
    return _sent_password(store)


def _forgotten(store: Store, _: Session) -> str:
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    return _sent_password(store)


def _sent_password(store: Store) -> str:
    return sent(store)[-1].content["password"]


@pytest.mark.parametrize(
    "moment", ["after the comparison", "before the rehash", "after the rehash"]
)
@pytest.mark.parametrize(
    ("change", "old_opens"),
    [
        pytest.param(_by_the_web_stack, False, id="on the web"),
        pytest.param(_by_its_owner, False, id="by its owner"),
        pytest.param(_by_a_separation, False, id="separation"),
        pytest.param(_forgotten, True, id="forgotten"),
    ],
)
def test_a_password_changed_during_a_rehash_survives(
    store: Store, clock: FakeClock, moment: str, change: Change, *, old_opens: bool
) -> None:
    """The hash that a call renews never lands on another password, nor brings the old one back."""
    clock.now = BEFORE_THE_BASCULE
    add_dossier(store)
    session = log_in(store, caller_id=OWNER, channel=Channel.WEB)
    assert isinstance(session, Session)
    clock.advance(MINUTE)
    with _verifying(store, PausingHasher(moment, DEARER)) as call:
        new = change(store, session)
    assert ("choix-dernier-paiement" in call.heard) is old_opens
    dearer = replace(store, hasher=CountingHasher(DEARER))
    for at_costs in (store, dearer):
        assert isinstance(log_in(at_costs, caller_id=OWNER), Session) is old_opens
    for at_costs in (store, dearer):
        assert isinstance(log_in(at_costs, new, caller_id=OWNER), Session)
    assert log_in(store, caller_id=OWNER) is Refusal.REFUSED


@contextmanager
def _verifying(store: Store, hasher: PausingHasher) -> Iterator[SimulatedCall]:
    """Do the block while a stranger's call, with the old password, is at the hasher's moment."""
    with running(replace(store, hasher=hasher), script_with_silence()) as server:
        groups = [CAISSE, NUMBER, PASSWORD, HANG_UP]
        with SimulatedCall(server.address, caller="0199010001", groups=groups) as call:
            assert hasher.reached.wait(END_SECONDS)
            try:
                yield call
            finally:
                hasher.go_on.set()
            call.wait_end(END_SECONDS)


def _sessions(store: Store) -> int:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(LoginSession)) or 0
