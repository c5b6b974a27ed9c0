"""Accounts as those who run the service see them (D15)."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from shared import accounts, disclosure, incident, life_cycle, sessions
from shared.life_cycle import Key
from shared.origin import Origin
from shared.rules import Channel
from shared.store import Store
from tests.store import CAISSE, NUMBER, FakeClock, add_account, open_session

OTHER_NUMBER = "7654321"


def _shown(store: Store, number: str = NUMBER) -> int:
    view = accounts.show(store, CAISSE, number)
    assert view is not None
    return view.open_sessions


def _erase(store: Store) -> None:
    assert disclosure.erase(store, CAISSE, NUMBER)


def _close(scope: str) -> Callable[[Store], None]:
    def act(store: Store) -> None:
        assert incident.raise_incident(store, scope)
        assert incident.lift(store, scope)  # what was open before stays over

    return act


def _revoke(store: Store) -> None:
    life_cycle.revoke(store, Key(CAISSE, NUMBER), Origin(Channel.ADMIN), reissue=False)


def _hang_up(store: Store) -> None:
    sessions.end_sessions_of_call(store, "call-1")
    sessions.end_sessions_of_call(store, "call-2")


def _wait(store: Store) -> None:
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=store.rules.session.minutes))


# What becomes of two sessions of a dossier, and of one of another dossier of the same caisse.
ACTS: dict[str, tuple[Callable[[Store], None], int, int]] = {
    "nothing": (lambda _: None, 2, 1),
    "erasure": (_erase, 0, 1),
    "incident": (_close(incident.SERVICE), 0, 0),
    "incident of the channel": (_close(incident.CHANNEL + Channel.VOICE), 0, 0),
    "incident of another channel": (_close(incident.CHANNEL + Channel.WEB), 2, 1),
    "incident of the caisse": (_close(incident.CAISSE + CAISSE), 0, 0),
    "revocation": (_revoke, 0, 1),
    "end of the calls": (_hang_up, 0, 1),
    "time": (_wait, 0, 0),
}


@pytest.mark.parametrize(("act", "left", "left_of_other"), ACTS.values(), ids=ACTS)
def test_sessions_that_are_over_are_not_shown_as_open(
    store: Store, act: Callable[[Store], None], left: int, left_of_other: int
) -> None:
    for number in (NUMBER, OTHER_NUMBER):
        add_account(store, number)
    for call in ("call-1", "call-2"):
        open_session(store, call_id=call)
    open_session(store, OTHER_NUMBER, call_id="call-3")
    act(store)
    assert (_shown(store), _shown(store, OTHER_NUMBER)) == (left, left_of_other)
